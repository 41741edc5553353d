//! Which Service answers which host and path.

use crate::snapshot::finding::Severity;
use crate::snapshot::rule::TlsRedirect;
use crate::translate::tests::World;
use crate::translate::tests::ingress;
use crate::translate::tests::service;

/// A world with the Services `a`, `b` and `c`.
fn world(ingresses: &str) -> World {
    World::new(&(service("a", 30001) + &service("b", 30002) + &service("c", 30003) + ingresses))
}

/// Conformance checks 15 to 30 of path types, with all types of paths side by side.
#[test]
fn paths_match_by_their_type() {
    let translation = world(
        &(ingress("exact", "rule exact.com Exact /foo a:80")
            + &ingress("prefix", "rule prefix.com Prefix /foo a:80")
            + &ingress("longest", "rule longest.com Prefix /aaa/bbb a:80\nrule longest.com Prefix /aaa b:80")
            + &ingress("both", "rule both.com Prefix /foo a:80\nrule both.com Exact /foo b:80")
            + &ingress("slash", "rule slash.com Prefix /aaa/bbb/ a:80\nrule slash.com Exact /foo/ b:80")
            + &ingress("impl", "rule impl.com Impl /foo a:80")),
    )
    .translate();
    assert_eq!(translation.summary(), [""; 0]);
    for (host, path, want) in [
        ("exact.com", "/foo", "a"),
        ("exact.com", "/foo/", "404"),
        ("exact.com", "/FOO", "404"),
        ("exact.com", "/bar", "404"),
        ("prefix.com", "/foo", "a"),
        ("prefix.com", "/foo/", "a"),
        ("prefix.com", "/foo/bar", "a"),
        ("prefix.com", "/FOO", "404"),
        ("prefix.com", "/foobar", "404"),
        ("longest.com", "/aaa/bbb", "a"),
        ("longest.com", "/aaa/bbb/ccc", "a"),
        ("longest.com", "/aaa/ccc", "b"),
        ("longest.com", "/aaaccc", "404"),
        ("both.com", "/foo", "b"),
        ("both.com", "/foo/bar", "a"),
        ("slash.com", "/aaa/bbb", "a"),
        ("slash.com", "/aaa/bbb/", "a"),
        ("slash.com", "/foo", "404"),
        ("slash.com", "/foo/", "b"),
        // ImplementationSpecific is the plain string prefix of ingress-nginx.
        ("impl.com", "/foobar", "a"),
        ("impl.com", "/bar", "404"),
    ] {
        assert_eq!(translation.answer(host, path), want, "{host}{path}");
    }
}

/// Conformance checks 7 to 12: a host beats its wildcard, which covers one label; ports by name count like numbers.
#[test]
fn hosts_match_by_name_or_one_label_wild() {
    let translation = world(&ingress("a", "rule *.foo.com Prefix / a:80\nrule Foo.Bar.com Prefix / b:http")).translate();
    for (host, want) in [
        ("foo.bar.com", "b"),
        ("FOO.bar.com", "b"),
        ("subdomain.bar.com", "404"),
        ("bar.foo.com", "a"),
        ("baz.bar.foo.com", "404"),
        ("foo.com", "404"),
    ] {
        assert_eq!(translation.answer(host, "/"), want, "{host}");
    }
}

/// Conformance checks 1 to 6: an Ingress with nothing but a default backend serves every host and path, the oldest one wins.
#[test]
fn a_default_backend_alone_serves_everything() {
    let old = ingress("z-old", "created 2024-01-01T00:00:00Z\ndefault a:80");
    let new = ingress("new", "created 2025-01-01T00:00:00Z\ndefault b:80");
    let translation = world(&(new + &old)).translate();
    for (host, path) in [("my-host", "/"), ("some-host", "/resource"), ("", "/")] {
        assert_eq!(translation.answer(host, path), "a", "{host}{path}");
    }
    let said = translation.said("DefaultBackendConflict");
    assert!(said.len() == 1 && said[0].object.name == "new" && said[0].message.contains("default/z-old"), "{said:?}");
}

/// The default backend of an Ingress with rules serves what no path of its hosts matches, and no other host.
#[test]
fn a_default_backend_beside_rules_serves_their_hosts() {
    let translation = world(
        &(ingress("with-rules", "rule foo.com Exact /a a:80\ndefault b:80")
            + &ingress("root", "rule rooted.com Exact /a a:80\nrule rooted.com Prefix / c:80\ndefault b:80")
            + &ingress("bare", "rule bare.com\ndefault b:80")
            + &ingress("empty", "rule empty.com")),
    )
    .translate();
    for (host, path, want) in [
        ("foo.com", "/a", "a"),
        ("foo.com", "/other", "b"),
        ("rooted.com", "/other", "c"),
        ("bare.com", "/anything", "b"),
        ("empty.com", "/anything", "404"),
        ("unknown.com", "/a", "404"),
    ] {
        assert_eq!(translation.answer(host, path), want, "{host}{path}");
    }
}

/// An Ingress whose every rule is refused does not become the default of everything.
#[test]
fn refused_rules_make_no_catch_all() {
    let translation = world(&ingress("x", "rule foo.com:80 Prefix / a:80\ndefault b:80")).translate();
    assert_eq!(translation.answer("anything.com", "/"), "404");
}

/// A rule without host serves the hosts that nobody else has.
#[test]
fn a_rule_without_host_serves_unknown_hosts() {
    let translation = world(&(ingress("any", "rule - Prefix /x a:80") + &ingress("foo", "rule foo.com Prefix /y b:80"))).translate();
    for (host, path, want) in [("unknown.com", "/x", "a"), ("unknown.com", "/y", "404"), ("foo.com", "/y", "b"), ("foo.com", "/x", "404")] {
        assert_eq!(translation.answer(host, path), want, "{host}{path}");
    }
}

/// The older Ingress keeps a path, the later one is told who has it, and keeps the rest.
#[test]
fn the_oldest_claim_of_a_path_wins() {
    let old = "created 2024-01-01T00:00:00Z\nrule foo.com Prefix /a a:80";
    let new = "created 2025-01-01T00:00:00Z\nrule foo.com Prefix /a b:80\nrule foo.com Prefix /b b:80\nrule foo.com Exact /a c:80";
    let translation =
        world(&(ingress("other/new", new) + &service("other/b", 30004) + &service("other/c", 30005) + &ingress("old", old))).translate();
    assert_eq!(translation.answer("foo.com", "/a/x"), "a");
    assert_eq!(translation.answer("foo.com", "/b"), "b");
    assert_eq!(translation.answer("foo.com", "/a"), "c", "another type is another path");
    let said = translation.said("PathConflict");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((said[0].object.to_string().as_str(), said[0].severity), ("other/new", Severity::Error));
    assert_eq!(said[0].field, "spec.rules[0].http.paths[0]");
    assert!(said[0].message.contains("default/old"), "{}", said[0].message);
}

/// Of the same age the last by `namespace/name` wins, as in ingress-nginx; manifests without time are all of the same age, the oldest.
#[test]
fn ties_of_age_go_to_the_last_name() {
    let at = |time: &str, service: &str| format!("{time}\nrule foo.com Prefix / {service}:80");
    let same = "created 2024-01-01T00:00:00Z";
    for (a, b, want) in [
        (at(same, "a"), at(same, "b"), "b"),
        (at("", "a"), at("", "b"), "b"),
        (at("", "a"), at(same, "b"), "a"),
        (at(same, "a"), at("", "b"), "b"),
    ] {
        let translation = world(&(ingress("a", &a) + &ingress("b", &b))).translate();
        assert_eq!(translation.answer("foo.com", "/"), want, "{a:?} {b:?}");
        assert_eq!(translation.said("PathConflict").len(), 1);
    }
}

/// A bad host or path is refused with one message, and everything beside it is served.
#[test]
fn a_bad_rule_is_refused_alone() {
    for (rule, reason, field) in [
        ("rule 192.0.2.7 Prefix / a:80", "InvalidHost", "spec.rules[1].host"),
        ("rule foo.com:80 Prefix / a:80", "InvalidHost", "spec.rules[1].host"),
        ("rule * Prefix / a:80", "InvalidHost", "spec.rules[1].host"),
        ("rule a.*.com Prefix / a:80", "InvalidHost", "spec.rules[1].host"),
        ("rule b.com Prefix /a(.*) a:80", "InvalidPath", "spec.rules[1].http.paths[0].path"),
        ("rule b.com Exact a a:80", "InvalidPath", "spec.rules[1].http.paths[0].path"),
        ("rule b.com exact /a a:80", "InvalidPathType", "spec.rules[1].http.paths[0].pathType"),
    ] {
        let translation = world(&ingress("x", &format!("rule ok.com Prefix / a:80\n{rule}\nrule ok.com Prefix /b b:80"))).translate();
        assert_eq!(translation.summary(), [format!("Error Ingress default/x {field} {reason}")], "{rule}");
        assert_eq!((translation.answer("ok.com", "/"), translation.answer("ok.com", "/b")), ("a".to_owned(), "b".to_owned()), "{rule}");
    }
}

/// Manifests may leave the type of a path out: it is served as ImplementationSpecific, and said.
#[test]
fn a_path_without_type_is_a_string_prefix() {
    let mut world = world(
        "\n---\nkind: Ingress\nmetadata: {name: x}\nspec: {ingressClassName: corelane, rules: [{host: foo.com, http: {paths: [\
         {path: /a, backend: {service: {name: a, port: {number: 80}}}}]}}]}\n",
    );
    let translation = world.translate();
    assert_eq!(translation.answer("foo.com", "/abc"), "a");
    assert_eq!(translation.summary(), ["Warning Ingress default/x spec.rules[0].http.paths[0].pathType PathTypeMissing"]);
}

/// Where TLS is configured for a host its rules redirect to https with the global status; nowhere else.
#[test]
fn hosts_with_tls_redirect_to_https() {
    let translation = world(
        &(ingress("with", "rule tls.com Prefix / a:80\nrule same.com Prefix / a:80\ntls tls.com")
            + &ingress("without", "rule plain.com Prefix / a:80")
            + &ingress("any", "rule - Prefix / a:80\ntls tls.com")),
    )
    .translate();
    // Any entry gives all hosts of its Ingress a certificate, the default one if there is no better; every host is nobody's host.
    let on = TlsRedirect::On { status: 308, keep_trailing_slash: false, with_port: false };
    for (host, want) in [("tls.com", on), ("same.com", on), ("plain.com", TlsRedirect::Off), ("unknown.com", TlsRedirect::Off)] {
        assert_eq!(translation.rule(host, "/").map(|rule| rule.policy.tls_redirect), Some(want), "{host}");
    }
}

/// Every rule says where it comes from, in the words of its object.
#[test]
fn rules_name_their_source() {
    let translation = world(&ingress("x", "rule Foo.com Prefix /a a:80\ndefault b:80")).translate();
    let source = |path| translation.rule("foo.com", path).map(|rule| rule.source.clone()).expect("a rule");
    let (a, default) = (source("/a"), source("/other"));
    assert_eq!([&*a.namespace, &*a.ingress, &*a.service, &*a.host, &*a.path], ["default", "x", "a", "Foo.com", "Prefix /a"]);
    assert_eq!([&*default.service, &*default.path], ["b", "default backend"]);
}
