//! Which certificate each host shows.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::KeyPair;

use crate::snapshot::finding::Severity;
use crate::translate::Translation;
use crate::translate::tests::World;
use crate::translate::tests::ingress;
use crate::translate::tests::key;
use crate::translate::tests::service;

/// A Secret with a fresh certificate for these names.
fn secret(name: &str, names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::new(names).and_then(|params| params.self_signed(&pair)).expect("a certificate");
    secret_with(name, &certificate.pem(), &pair.serialize_pem())
}

fn secret_with(name: &str, chain: &str, private: &str) -> String {
    let key = key(name);
    format!(
        "\n---\nkind: Secret\nmetadata: {{name: {}, namespace: {}}}\ntype: kubernetes.io/tls\ndata: {{tls.crt: {}, tls.key: {}}}\n",
        key.name,
        key.namespace,
        BASE64_STANDARD.encode(chain),
        BASE64_STANDARD.encode(private)
    )
}

fn world(yaml: &str) -> World {
    World::new(&(service("a", 30001) + &service("other/a", 30002) + yaml))
}

/// Where the certificate for a name comes from, `self-signed` where none fits.
fn shown(translation: &Translation, name: &str) -> String {
    let certificates = &translation.certificates;
    certificates.find(name).unwrap_or(&certificates.default).source.clone()
}

fn reasons(translation: &Translation) -> Vec<&'static str> {
    translation.findings.iter().map(|finding| finding.reason).collect()
}

/// The entry that names a host decides, else the first whose certificate is good for it, else the default one.
#[test]
fn the_certificate_goes_by_name_then_by_what_it_covers() {
    let secrets = secret("foo", &["foo.com", "also.com"]) + &secret("bar", &["bar.com", "*.wild.com"]);
    for (lines, host, want, said) in [
        ("rule foo.com Prefix / a:80\ntls foo.com foo", "foo.com", "default/foo", vec![]),
        ("rule FOO.com Prefix / a:80\ntls Foo.COM foo", "foo.com", "default/foo", vec![]),
        ("rule also.com Prefix / a:80\ntls foo.com foo", "also.com", "default/foo", vec![]),
        ("rule bar.com Prefix / a:80\ntls foo.com foo\ntls - bar", "bar.com", "default/bar", vec![]),
        ("rule x.wild.com Prefix / a:80\ntls - foo\ntls - bar", "x.wild.com", "default/bar", vec![]),
        ("rule *.wild.com Prefix / a:80\ntls *.wild.com bar", "y.wild.com", "default/bar", vec![]),
        ("rule *.wild.com Prefix / a:80\ntls *.wild.com bar", "x.y.wild.com", "self-signed", vec![]),
        ("rule foo.com Prefix / a:80\ntls foo.com", "foo.com", "self-signed", vec![]),
        ("rule none.com Prefix / a:80\ntls foo.com foo", "none.com", "self-signed", vec![]),
        ("rule foo.com Prefix / a:80\ntls foo.com bar", "foo.com", "self-signed", vec!["CertificateNameMismatch"]),
        ("rule foo.com Prefix / a:80\ntls foo.com missing", "foo.com", "self-signed", vec!["SecretNotFound"]),
        // A name without rule of its own has its certificate too.
        ("rule - Prefix / a:80\ntls foo.com foo", "foo.com", "default/foo", vec![]),
    ] {
        let translation = world(&(secrets.clone() + &ingress("x", lines))).translate();
        assert_eq!(shown(&translation, host), want, "{lines}");
        assert_eq!(reasons(&translation), said, "{lines}");
        assert_eq!(translation.answer(host, "/"), if host == "x.y.wild.com" { "404" } else { "a" }, "{lines}");
    }
}

/// A host with TLS of its own shows its own certificate, though a wildcard of somebody else would cover it.
#[test]
fn a_wildcard_does_not_shadow_a_host() {
    let secrets = secret("other/wild", &["*.foo.com"]) + &secret("own", &["a.foo.com"]);
    for (tls, want) in [("tls a.foo.com own", "default/own"), ("tls a.foo.com", "self-signed"), ("", "other/wild")] {
        let own = ingress("own", &format!("rule a.foo.com Prefix / a:80\n{tls}"));
        let wild = ingress("other/wild", "rule *.foo.com Prefix / a:80\ntls *.foo.com wild");
        let translation = world(&(secrets.clone() + &own + &wild)).translate();
        assert_eq!(shown(&translation, "a.foo.com"), want, "{tls}");
        assert_eq!(shown(&translation, "b.foo.com"), "other/wild");
    }
}

/// Nobody shows his certificate for a host of another namespace, be it taken by name or by wildcard.
#[test]
fn a_certificate_stays_in_its_namespace() {
    let secrets = secret("foo", &["foo.com"]) + &secret("other/foo", &["foo.com", "a.wild.com"]);
    let own = ingress("own", "created 2024-01-01T00:00:00Z\nrule foo.com Prefix / a:80\nrule *.wild.com Prefix / a:80\ntls foo.com foo");
    for tls in ["tls foo.com foo", "tls a.wild.com foo"] {
        let foreign = format!("created 2025-01-01T00:00:00Z\nrule foo.com Exact /x a:80\nrule mine.com Prefix / a:80\n{tls}");
        let translation = world(&(secrets.clone() + &own + &ingress("other/x", &foreign))).translate();
        assert_eq!((shown(&translation, "foo.com"), shown(&translation, "a.wild.com")), ("default/foo".into(), "self-signed".into()));
        let said = translation.said("TlsConflict");
        assert!(said.len() == 1 && said[0].severity == Severity::Error && said[0].message.contains("default"), "{said:?}");
    }
}

/// A Secret that breaks or vanishes leaves its last good certificate in service, the very same; a new good one takes over at once.
#[test]
fn the_last_good_certificate_serves() {
    let good = secret("foo", &["foo.com"]);
    let next = secret("foo", &["foo.com"]);
    let mut world = world(&(good.clone() + &ingress("x", "rule foo.com Prefix / a:80\ntls foo.com foo")));
    let first = world.translate();
    let pair = |translation: &Translation| translation.certificates.find("foo.com").cloned().expect("a certificate");

    let broken = secret_with("foo", "no certificate", "no key");
    for (change, said) in [(Some(broken.as_str()), "SecretNotPem"), (None, "SecretNotFound"), (Some(broken.as_str()), "SecretNotPem")] {
        match change {
            Some(yaml) => world.apply(yaml),
            None => world.resources.secrets.clear(),
        }
        let translation = world.translate();
        assert!(Arc::ptr_eq(&pair(&first), &pair(&translation)), "{said}");
        assert!(Arc::ptr_eq(&first.certificates, &translation.certificates), "{said}");
        assert_eq!(reasons(&translation), [said]);
        assert!(translation.findings[0].cure.contains("last good certificate"), "{}", translation.findings[0].cure);
    }
    world.apply(&next);
    let rotated = world.translate();
    assert_ne!(pair(&first).fingerprint, pair(&rotated).fingerprint);
    // The same text in a new object is no rotation.
    world.apply(&next);
    assert!(Arc::ptr_eq(&pair(&rotated), &pair(&world.translate())));
    assert_eq!(reasons(&rotated), [""; 0]);
}

/// A host may have a key of each kind, from two Secrets.
#[test]
fn two_secrets_make_a_pair_of_both_kinds() {
    let lines = "rule foo.com Prefix / a:80\ntls foo.com one\ntls foo.com two";
    let mut world = world(&(secret("one", &["foo.com"]) + &secret("two", &["foo.com"]) + &ingress("x", lines)));
    let translation = world.translate();
    // Both are ECDSA: the first stays alone.
    assert_eq!(shown(&translation, "foo.com"), "default/one");
    assert!(Arc::ptr_eq(&translation.certificates, &world.translate().certificates));
}

/// The operator's certificate is for every name without one; while its Secret is bad the last good one is, then the fallback.
#[test]
fn the_default_certificate_is_the_operators() {
    let mut world = world(&ingress("x", "rule foo.com Prefix / a:80\ntls foo.com"));
    world.options.default_certificate = Some(key("ops/default"));
    let missing = world.translate();
    assert_eq!((shown(&missing, "foo.com").as_str(), reasons(&missing)), ("self-signed", vec!["SecretNotFound"]));
    assert!(missing.references.secrets.contains(&key("ops/default")), "it is asked for before it exists");
    world.apply(&secret("ops/default", &["*.com"]));
    for host in ["foo.com", "unknown.org"] {
        assert_eq!(shown(&world.translate(), host), "ops/default");
    }
    world.apply(&secret_with("ops/default", "", ""));
    assert_eq!(shown(&world.translate(), "foo.com"), "ops/default");
}

/// Only Secrets that an Ingress of ours names are asked for, a bad or missing one too.
#[test]
fn only_named_secrets_are_asked_for() {
    let translation = world(
        &(secret("unnamed", &["foo.com"])
            + &ingress("x", "rule foo.com Prefix / a:80\ntls foo.com missing\nannotation auth-type basic\nannotation auth-secret users")
            + &ingress("y", "class other\nrule foo.com Prefix / a:80\ntls foo.com theirs")),
    )
    .translate();
    assert_eq!(translation.references.secrets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["default/missing", "default/users"]);
}
