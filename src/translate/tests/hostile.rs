//! Objects that mean harm, or mean nothing: others are served as if they were not there.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;

use crate::snapshot::finding::ObjectKey;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::Policy;
use crate::snapshot::rule::RuleSource;
use crate::translate::Translation;
use crate::translate::tests::World;
use crate::translate::tests::ingress;
use crate::translate::tests::key;
use crate::translate::tests::service;

/// A small generator of repeatable noise (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[(self.next() % texts.len() as u64) as usize]
    }
}

const HOSTS: &[&str] = &[
    "",
    "*",
    "*.neighbour.com",
    "neighbour.com",
    "NEIGHBOUR.com",
    "a.com",
    "192.0.2.1",
    "a.com:80",
    "a;{}.com",
    "..",
    "-",
    "\u{0}",
    "*.*",
    "b\r\nX: y",
];
const PATHS: &[&str] = &[
    "",
    "/",
    "//",
    "/a",
    "/own",
    "/own/",
    "a",
    "/(((",
    "/a{1000}{1000}",
    "/[",
    "/..",
    "/%2e%2e/",
    "/a;}",
    "/$(id)",
    "/`id`",
    "/\r\nX: y",
    "/\u{0}",
    "/\u{fc}",
];
const TYPES: &[&str] = &["Exact", "Prefix", "ImplementationSpecific", "", "exact", "\u{0}"];
const NAMES: &[&str] = &["own", "missing", "", "../x", "own\r\n", "*"];
const VALUES: &[&str] =
    &["true", "false", "", "/$1", "/own", "x{}", ";", "9999999999999999999", "-1", "*", "default/missing", "$(id)", "\r\n", "(((", "\u{0}"];
const ANNOTATIONS: &[&str] = &[
    "rewrite-target",
    "use-regex",
    "app-root",
    "server-alias",
    "ssl-redirect",
    "force-ssl-redirect",
    "canary",
    "canary-weight",
    "auth-type",
    "auth-secret",
    "limit-rps",
    "whitelist-source-range",
    "proxy-body-size",
    "backend-protocol",
    "configuration-snippet",
    "enable-cors",
    "default-backend",
    "permanent-redirect",
    "custom-headers",
    "load-balance",
    "upstream-vhost",
    "service-upstream",
];

/// An Ingress of another namespace, younger than the neighbour's, in which anything may be wrong.
fn hostile(noise: &mut Noise) -> Arc<Ingress> {
    let mut backend = || match noise.next() % 4 {
        0 => serde_json::json!({}),
        1 => serde_json::json!({"resource": {"kind": noise.one_of(NAMES), "name": noise.one_of(NAMES)}}),
        2 => serde_json::json!({"service": {"name": noise.one_of(NAMES), "port": {"name": noise.one_of(NAMES)}}}),
        _ => serde_json::json!({"service": {"name": noise.one_of(NAMES), "port": {"number": noise.next() as i32}}}),
    };
    let (first, second, default) = (backend(), backend(), backend());
    let mut path = |backend: serde_json::Value| {
        let long = format!("/{}", "(a|b)*".repeat(1000));
        let path = if noise.next().is_multiple_of(64) { &long } else { noise.one_of(PATHS) };
        serde_json::json!({"path": path, "pathType": noise.one_of(TYPES), "backend": backend})
    };
    let mut paths = [path(first), path(second)];
    let mut annotations = serde_json::Map::new();
    for _ in 0..noise.next() % 4 {
        let name = format!("nginx.ingress.kubernetes.io/{}", noise.one_of(ANNOTATIONS));
        annotations.insert(name, noise.one_of(VALUES).into());
    }
    // Expressions on the neighbour's own host would turn its paths too, as they do in ingress-nginx: that is no matter of isolation.
    let host = noise.one_of(HOSTS);
    // A path of its own on that host is everybody's right as well: what is tried here is to take one that the neighbour has.
    if host.eq_ignore_ascii_case("neighbour.com") {
        annotations.clear();
        for (path, (kind, written)) in paths.iter_mut().zip([("Prefix", "/own"), ("ImplementationSpecific", "/impl")]) {
            path["path"] = written.into();
            path["pathType"] = kind.into();
        }
    }
    let mut rules = vec![serde_json::json!({"host": host, "http": {"paths": paths}})];
    if noise.next().is_multiple_of(4) {
        rules.push(serde_json::json!({"host": noise.one_of(HOSTS)}));
    }
    let mut spec = serde_json::json!({"ingressClassName": "corelane", "rules": rules});
    if noise.next().is_multiple_of(2) {
        let hosts = [noise.one_of(HOSTS), noise.one_of(HOSTS)];
        spec["tls"] = serde_json::json!([{"hosts": hosts, "secretName": noise.one_of(NAMES)}]);
    }
    if noise.next().is_multiple_of(8) {
        spec["defaultBackend"] = default;
    }
    let metadata = serde_json::json!({"creationTimestamp": "2025-01-01T00:00:00Z", "annotations": annotations});
    let ingress = serde_json::from_value(serde_json::json!({"metadata": metadata, "spec": spec}));
    Arc::new(ingress.expect("the form of an Ingress"))
}

/// What the neighbour's requests meet.
fn seen(translation: &Translation) -> Vec<Option<(RuleSource, Action, Policy)>> {
    let paths = ["/own", "/own/x", "/exact", "/impl-more"];
    let rule = |path: &&str| translation.rule("neighbour.com", path);
    paths.iter().map(|path| rule(path).map(|rule| (rule.source.clone(), rule.action.clone(), rule.policy.clone()))).collect()
}

/// Two thousand hostile Ingresses change nothing about the rules, the clusters and the certificate of a neighbour.
#[test]
fn hostile_objects_harm_nobody() {
    let lines = "created 2024-01-01T00:00:00Z\ntls neighbour.com\ndefault own:80\n\
                 rule neighbour.com Prefix /own own:80\nrule neighbour.com Exact /exact own:80\nrule neighbour.com Impl /impl own:80";
    let mut world = World::new(&(service("own", 30001) + &ingress("neighbour", lines)));
    let alone = world.translate();
    let want = seen(&alone);
    assert!(want.iter().all(Option::is_some));

    let mut noise = Noise(7);
    for number in 0..2000 {
        let key = ObjectKey { namespace: format!("hostile-{}", number % 20), name: format!("h-{number}") };
        world.resources.ingresses.insert(key, hostile(&mut noise));
    }
    let among = world.translate();
    assert_eq!(seen(&among), want);
    assert!(Arc::ptr_eq(alone.cluster_of("own"), among.cluster_of("own")));
    let certificate = |translation: &Translation| translation.certificates.find("neighbour.com").cloned().expect("a certificate");
    assert!(Arc::ptr_eq(&certificate(&alone), &certificate(&among)));
    assert!(among.findings.iter().all(|finding| finding.object != key("neighbour")), "{:?}", among.summary());
    assert!(among.findings.len() > 2000, "hostile objects are told what is wrong with them");
    assert!(among.findings.windows(2).all(|pair| pair[0] < pair[1]), "sorted, and each once");
    for finding in &among.findings {
        assert!(!finding.message.contains(['\r', '\n', '\0']), "{finding:?}");
    }
}
