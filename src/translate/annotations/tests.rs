//! Annotations as people write them, and what is made of each.

use super::*;
use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Protocol;
use crate::snapshot::finding::Severity;
use crate::snapshot::rule::CanaryValue;
use crate::translate::about::quoted;
use crate::translate::annotations::table::Entry;
use crate::translate::annotations::table::Support;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Secret;
use std::time::Duration;

const PREFIX: &str = "nginx.ingress.kubernetes.io";
/// What the objects of another namespace hold.
const FOREIGN: &str = "property-of-another";

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A Secret and a ConfigMap in `ns`, and others of the same names in `other`.
fn resources() -> Resources {
    let mut resources = Resources::default();
    for (namespace, user, team) in [("ns", "ann", "blue"), ("other", FOREIGN, FOREIGN)] {
        let data = [("auth".to_owned(), ByteString(format!("{user}:{{PLAIN}}x").into_bytes()))].into();
        resources.secrets.insert(key(namespace, "users"), Arc::new(Secret { data: Some(data), ..Secret::default() }));
        let data = [("X-Team".to_owned(), team.to_owned())].into();
        resources.config_maps.insert(key(namespace, "fields"), Arc::new(ConfigMap { data: Some(data), ..ConfigMap::default() }));
    }
    resources
}

/// What is made of annotations, each with its full name.
fn read_full(pairs: &[(&str, &str)], globals: &Globals) -> (Option<Annotations>, Vec<Finding>, References) {
    let mut ingress = Ingress::default();
    ingress.metadata.annotations = Some(pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect());
    let (options, resources) = (Options::default(), resources());
    let source = Source { key: &key("ns", "ing"), ingress: &ingress, resources: &resources, options: &options, globals };
    let (mut findings, mut references) = (Vec::new(), References::default());
    let annotations = read(source, &mut findings, &mut references);
    (annotations, findings, references)
}

fn read_with(pairs: &[(&str, &str)], globals: &Globals) -> (Option<Annotations>, Vec<Finding>) {
    let full: Vec<_> = pairs.iter().map(|(name, text)| (format!("{PREFIX}/{name}"), *text)).collect();
    let full: Vec<_> = full.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let (annotations, findings, _) = read_full(&full, globals);
    (annotations, findings)
}

/// Served, and nothing to say.
fn quiet(pairs: &[(&str, &str)]) -> Annotations {
    let (annotations, findings) = read_with(pairs, &Globals::default());
    assert_eq!(findings, [], "{pairs:?}");
    annotations.expect("it is served")
}

fn reasons(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.reason).collect()
}

fn denied(pairs: &[(&str, &str)]) -> Option<u16> {
    let (annotations, findings) = read_with(pairs, &Globals::default());
    let status = annotations.expect("it is served").policy.denied.map(|answer| answer.status);
    if status.is_some() {
        assert!(findings.iter().any(|finding| finding.severity == Severity::Error && !finding.cure.is_empty()), "{pairs:?}");
    }
    status
}

/// Without annotations an Ingress has the global policy and asks for nothing.
#[test]
fn nothing_written_asks_for_nothing() {
    let annotations = quiet(&[]);
    assert_eq!(annotations.policy, Policy::default());
    assert!(annotations.ssl_redirect && !annotations.force_ssl_redirect && !annotations.use_regex);
    assert_eq!(annotations.cluster, ClusterSpec::default());
    assert!(annotations.canary.is_none() && annotations.rewrite_target.is_none() && annotations.host_denied.is_none());
}

/// An empty value is an absent annotation, whatever its name.
#[test]
fn an_empty_value_is_absent() {
    let all: Vec<_> = Entry::all().map(|entry| (entry.name, "")).collect();
    assert_eq!(quiet(&all).policy, Policy::default());
}

/// Routing annotations arrive typed.
#[test]
fn routing_annotations_arrive() {
    let annotations = quiet(&[
        ("rewrite-target", "/a/$1"),
        ("use-regex", "true"),
        ("x-forwarded-prefix", "/a"),
        ("app-root", "/start"),
        ("server-alias", "B.example, c.example"),
        ("ssl-redirect", "false"),
        ("force-ssl-redirect", "1"),
        ("preserve-trailing-slash", "T"),
        ("default-backend", "fallback"),
        ("upstream-vhost", "internal.example:8080"),
    ]);
    assert_eq!(annotations.rewrite_target.as_deref(), Some("/a/$1"));
    assert_eq!(annotations.app_root.as_deref(), Some("/start"));
    assert_eq!(annotations.server_aliases, ["b.example", "c.example"]);
    assert_eq!(annotations.default_backend.as_deref(), Some("fallback"));
    assert!(annotations.use_regex && !annotations.ssl_redirect && annotations.force_ssl_redirect && annotations.preserve_trailing_slash);
    assert_eq!(annotations.policy.forwarded_prefix.as_deref(), Some("/a"));
    assert_eq!(annotations.policy.upstream_host.as_deref(), Some("internal.example:8080"));
    assert_eq!(quiet(&[("x-forwarded-prefix", "/a")]).policy.forwarded_prefix, None);
}

/// A temporary redirect wins over a permanent one, and a code out of range is the default.
#[test]
fn redirects_take_their_codes() {
    let redirect = |pairs: &[(&str, &str)]| quiet(pairs).policy.redirect.map(|redirect| (redirect.status, redirect.location.to_string()));
    let (to, code) = ("permanent-redirect", "permanent-redirect-code");
    assert_eq!(redirect(&[(to, "https://a/")]), Some((301, "https://a/".to_owned())));
    assert_eq!(redirect(&[(to, "https://a/"), (code, "308")]), Some((308, "https://a/".to_owned())));
    assert_eq!(redirect(&[(to, "https://a/"), (code, "309")]), Some((301, "https://a/".to_owned())));
    assert_eq!(redirect(&[(to, "https://a/"), (code, "-99999999")]), Some((301, "https://a/".to_owned())));
    assert_eq!(redirect(&[(to, "https://a/"), ("temporal-redirect", "https://b/")]), Some((302, "https://b/".to_owned())));
    assert_eq!(redirect(&[(code, "308")]), None);
}

/// Annotations about the way upstream arrive typed, over the global defaults.
#[test]
fn upstream_annotations_arrive() {
    let annotations = quiet(&[
        ("load-balance", "ewma"),
        ("backend-protocol", "https"),
        ("service-upstream", "true"),
        ("proxy-connect-timeout", "1"),
        ("proxy-read-timeout", "600"),
        ("proxy-next-upstream", "error http_502 non_idempotent"),
        ("proxy-next-upstream-tries", "0"),
        ("proxy-next-upstream-timeout", "9"),
        ("proxy-body-size", "8m"),
        ("enable-access-log", "false"),
    ]);
    let want = ClusterSpec { balance: Balance::PeakEwma, protocol: Protocol::Https, service_upstream: true };
    assert_eq!(annotations.cluster, want);
    let Policy { timeouts, retry, body_bytes_max, access_log, .. } = annotations.policy;
    assert_eq!([timeouts.connect, timeouts.read, timeouts.send], [1, 600, 60].map(Duration::from_secs));
    assert!(retry.on_error && !retry.on_timeout && retry.non_idempotent && retry.tries == u32::MAX);
    assert_eq!((retry.timeout, retry.on_status), (Duration::from_secs(9), 0b10));
    assert_eq!((body_bytes_max, access_log), (Some(8 << 20), false));
    assert_eq!(quiet(&[("proxy-body-size", "0")]).policy.body_bytes_max, None);
}

/// Address lists, authentication and limits arrive typed.
#[test]
fn access_annotations_arrive() {
    let pairs = [
        ("allowlist-source-range", "10.0.0.0/8,192.0.2.1"),
        ("whitelist-source-range", "198.51.100.0/24"),
        ("denylist-source-range", "10.1.0.0/16"),
        ("satisfy", "any"),
        ("auth-type", "basic"),
        ("auth-secret", "users"),
        ("auth-realm", "Staff only"),
        ("limit-rps", "5"),
        ("limit-connections", "2"),
        ("limit-whitelist", "10.0.0.0/8"),
    ];
    let policy = quiet(&pairs).policy;
    assert_eq!((policy.allow.len(), policy.deny.len(), policy.satisfy_any), (2, 1, true));
    let login = policy.basic_auth.expect("a login");
    assert_eq!((login.realm.as_str(), login.users.len()), ("Staff only", 1));
    let limit = policy.rate_limit.expect("a limit");
    assert_eq!((limit.requests_per_second, limit.requests_per_minute, limit.connections), (Some(5), None, Some(2)));
    assert_eq!((&*limit.key, limit.burst_multiplier, limit.exempt.len()), ("ns/ing", 5, 1));
    assert_eq!((limit.request_status, limit.connection_status), (503, 503));
}

/// The Secret of a login is named, even where it is missing, so that its coming is noticed.
#[test]
fn the_secret_of_a_login_is_named() {
    for secret in ["users", "ns/users", "missing"] {
        let name = format!("{PREFIX}/auth-secret");
        let kind = format!("{PREFIX}/auth-type");
        let (_, _, references) = read_full(&[(&kind, "basic"), (&name, secret)], &Globals::default());
        assert_eq!(references.secrets, [key("ns", secret.trim_start_matches("ns/"))].into());
    }
}

/// CORS has ingress-nginx's defaults, and an invalid origin never becomes everybody.
#[test]
fn cors_has_its_defaults() {
    let cors = quiet(&[("enable-cors", "true")]).policy.cors.expect("CORS");
    assert_eq!((cors.origins.as_slice(), cors.credentials, cors.max_age_s), (&["*".to_owned()][..], true, 1_728_000));
    assert_eq!(quiet(&[("cors-allow-origin", "https://a.example")]).policy.cors, None);
    let origins = |list: &str| {
        let (annotations, findings) = read_with(&[("enable-cors", "true"), ("cors-allow-origin", list)], &Globals::default());
        (annotations.expect("served").policy.cors.expect("CORS").origins.join(" "), findings.len())
    };
    assert_eq!(
        origins("https://a.example, http://*.b.example:8080,null"),
        ("https://a.example http://*.b.example:8080 null".to_owned(), 0)
    );
    assert_eq!(origins("https://a.example,*"), ("*".to_owned(), 0));
    assert_eq!(origins("https://a.example;x"), (String::new(), 1));
    assert_eq!(origins("a.example, https://b.example"), ("https://b.example".to_owned(), 1));
}

/// A canary says its conditions, and inherits everything else.
#[test]
fn a_canary_says_its_conditions() {
    let annotations = quiet(&[
        ("canary", "true"),
        ("canary-by-header", "X-Canary"),
        ("canary-by-header-value", "v2"),
        ("canary-by-header-pattern", "^v"),
        ("canary-by-cookie", "canary"),
        ("canary-weight", "30"),
        ("canary-weight-total", "50"),
        ("auth-url", "http://auth/"),
        ("no-such-thing", "x"),
    ]);
    assert_eq!(annotations.policy.denied, None);
    let canary = annotations.canary.expect("a canary");
    assert_eq!((canary.header.as_deref(), canary.cookie.as_deref()), (Some("x-canary"), Some("canary")));
    assert_eq!(canary.header_value, Some(CanaryValue::Is("v2".to_owned())));
    assert_eq!((canary.weight, canary.weight_total), (30, 100));
    let (broken, findings) =
        read_with(&[("canary", "true"), ("canary-by-header", "x"), ("canary-by-header-pattern", "(a")], &Globals::default());
    assert_eq!(broken.expect("served").canary.expect("a canary").header_value, Some(CanaryValue::Never));
    assert_eq!(reasons(&findings), ["InvalidAnnotation"]);
    let (main, findings) = read_with(&[("canary-weight", "30")], &Globals::default());
    assert!(main.expect("served").canary.is_none());
    assert_eq!(reasons(&findings), ["AnnotationWithoutEffect"]);
}

/// Fields of a ConfigMap go out where the operator allows them; one that is not allowed refuses everybody.
#[test]
fn custom_headers_must_be_allowed() {
    let allowing = Globals { allowed_response_headers: vec!["x-team".to_owned()], ..Globals::default() };
    let (annotations, findings) = read_with(&[("custom-headers", "ns/fields")], &allowing);
    assert_eq!(findings, []);
    assert_eq!(*annotations.expect("served").policy.response_fields, [(Arc::from("X-Team"), Arc::from("blue"))]);
    for map in ["fields", "ns/missing", "other/fields"] {
        assert_eq!(denied(&[("custom-headers", map)]), Some(503), "{map}");
    }
}

/// Whatever restricts access and cannot be honoured, today or as written, refuses everybody.
#[test]
fn what_restricts_fails_closed() {
    let basic = ("auth-type", "basic");
    for pairs in [
        &[("auth-url", "http://auth/")][..],
        &[("auth-url", "http://auth/\nevil")],
        &[("auth-type", "digest"), ("auth-secret", "users")],
        &[("auth-type", "kerberos"), ("auth-secret", "users")],
        &[basic],
        &[basic, ("auth-secret", "missing")],
        &[basic, ("auth-secret", "other/users")],
        &[basic, ("auth-secret", "../users")],
        &[basic, ("auth-secret", "users"), ("auth-secret-type", "auth-magic")],
        &[("allowlist-source-range", "10.0.0.0/8;")],
        &[("whitelist-source-range", "everybody")],
        &[("denylist-source-range", "10.0.0.0/99")],
        &[("ssl-passthrough", "true")],
        &[("enable-modsecurity", "true")],
        &[("backend-protocol", "GRPC")],
        &[("proxy-ssl-secret", "ns/ca"), ("proxy-ssl-verify", "on")],
        &[("configuration-snippet", "deny 10.0.0.1; allow all;")],
        &[("server-snippet", "location /admin { return 403; }")],
        &[("auth-snippet", "proxy_set_header A b;")],
        &[("configuration-snippet", "more_set_headers 'A: b'; access_by_lua_block { x }")],
        &[("modsecurity-snippet", "SecRuleEngine On")],
        &[("configuration-snippet", "add_header A it's; deny all;")],
        &[("configuration-snippet", "add_header A 'b\\'; deny all;")],
        &[("configuration-snippet", "add_header A b#c; deny all;")],
        &[("configuration-snippet", "# only a comment\ndeny all;")],
        &[("configuration-snippet", "add_header A \"b\nc\";\n if ($a) { add_header B c; }")],
    ] {
        assert_eq!(denied(pairs), Some(503), "{pairs:?}");
    }
    let (guarded, _) = read_with(&[("auth-tls-secret", "ns/ca")], &Globals::default());
    let guarded = guarded.expect("served");
    assert_eq!([guarded.host_denied, guarded.policy.denied].map(|answer| answer.map(|answer| answer.status)), [Some(403), Some(403)]);
}

/// A snippet that only sets fields or tunes nginx is left out, and said.
#[test]
fn a_harmless_snippet_is_left_out() {
    for text in [
        "more_set_headers \"X-A: b; c\";\nproxy_read_timeout 5;",
        "# comment; deny all\n  add_header A '{b}';",
        "gzip on; # it's",
        "add_header A 'b\\'; deny all;';",
    ] {
        let (annotations, findings) = read_with(&[("configuration-snippet", text)], &Globals::default());
        assert_eq!(annotations.expect("served").policy, Policy::default(), "{text}");
        assert_eq!(reasons(&findings), ["SnippetRefused"], "{text}");
    }
}

/// Some invalid values leave the whole Ingress unserved.
#[test]
fn some_invalid_values_leave_the_ingress_unserved() {
    for (name, text) in [
        ("permanent-redirect", "https://a/$x"),
        ("temporal-redirect-code", "moved"),
        ("limit-rps", "5/s"),
        ("limit-rpm", "-1"),
        ("limit-connections", "1e3"),
        ("server-alias", "a;b"),
        ("default-backend", "Not-A-Name"),
        ("load-balance", "ip_hash"),
        ("upstream-vhost", "a\"b"),
        ("auth-realm", "\"quoted\""),
    ] {
        let extra = [(name, text), ("auth-type", "basic"), ("auth-secret", "users"), ("temporal-redirect", "https://a/")];
        let pairs = if name == "permanent-redirect" { &extra[..1] } else { &extra[..] };
        let (annotations, findings) = read_with(pairs, &Globals::default());
        assert!(annotations.is_none(), "{name}");
        assert_eq!(
            findings.last().map(|finding| (finding.severity, finding.reason)),
            Some((Severity::Error, "InvalidAnnotation")),
            "{name}"
        );
    }
}

/// The operator's level of risk is kept.
#[test]
fn the_level_of_risk_is_kept() {
    let careful = Globals { risk_max: value::Risk::Medium, ..Globals::default() };
    let (annotations, findings) = read_with(&[("server-alias", "b.example")], &careful);
    assert!(annotations.is_none());
    assert_eq!(reasons(&findings), ["RiskyAnnotation"]);
    assert!(read_with(&[("rewrite-target", "/")], &careful).0.is_some());
}

/// Authentication that is asked of every Ingress refuses those that do not opt out.
#[test]
fn global_authentication_can_be_opted_out_of() {
    let guarded = Globals { global_auth: Some(FixedAnswer { status: 503, reason: "denied_by_config" }), ..Globals::default() };
    let status = |pairs: &[(&str, &str)]| read_with(pairs, &guarded).0.expect("served").policy.denied.map(|answer| answer.status);
    assert_eq!(status(&[]), Some(503));
    assert_eq!(status(&[("enable-global-auth", "false")]), None);
    assert_eq!(status(&[("enable-global-auth", "no")]), Some(503));
}

/// An own allow list replaces the global one, also where that is broken.
#[test]
fn an_own_list_replaces_the_global_one() {
    let mut globals = Globals::default();
    globals.policy.denied = Some(FixedAnswer { status: 503, reason: "denied_by_config" });
    let policy = |pairs: &[(&str, &str)]| read_with(pairs, &globals).0.expect("served").policy;
    assert!(policy(&[]).denied.is_some());
    assert!(policy(&[("allowlist-source-range", "10.0.0.0/8")]).denied.is_none());
}

/// What is not honoured is named, with what to do.
#[test]
fn what_is_not_honoured_is_named() {
    for (name, text, reason, cure) in [
        ("mirror-target", "https://m/", "UnsupportedAnnotation", "Remove"),
        ("affinity", "cookie", "UnsupportedAnnotation", "Remove"),
        ("custom-http-errors", "404", "UnsupportedAnnotation", "Remove"),
        ("rewrite-taget", "/", "UnknownAnnotation", "rewrite-target"),
        ("server-alias", "~^www\\d+$", "UnsupportedAnnotation", "names"),
        ("server-alias", "*.b.example", "UnsupportedAnnotation", "names"),
        ("secure-backends", "true", "RemovedAnnotation", "backend-protocol"),
        ("global-rate-limit-window", "1m", "RemovedAnnotation", "limit-rps"),
        ("x", "1", "UnknownAnnotation", "Remove"),
    ] {
        let (annotations, findings) = read_with(&[(name, text)], &Globals::default());
        assert_eq!(annotations.expect("served").policy, Policy::default(), "{name}");
        assert_eq!(findings.iter().map(|finding| (finding.severity, finding.reason)).collect::<Vec<_>>(), [(Severity::Warning, reason)]);
        assert!(findings[0].cure.contains(cure) && findings[0].field.contains(name), "{:?}", findings[0]);
    }
    quiet(&[("from-to-www-redirect", "false"), ("proxy-buffering", "on"), ("proxy-http-version", "1.1"), ("enable-modsecurity", "false")]);
}

/// Corelane's own prefix always works, and wins; a foreign prefix is somebody else's.
#[test]
fn the_own_prefix_wins() {
    let nginx = format!("{PREFIX}/proxy-body-size");
    let pairs = [(nginx.as_str(), "1k"), ("corelane.dev/proxy-body-size", "2k"), ("example.com/proxy-body-size", "3k")];
    let (annotations, findings, _) = read_full(&pairs, &Globals::default());
    assert_eq!((annotations.expect("served").policy.body_bytes_max, findings.len()), (Some(2048), 0));
}

/// Whatever stands in an annotation: nothing panics, and the outcome is the default, a typed value, a refusal, or nothing served,
/// with a finding that is one short line.
#[test]
fn hostile_values_do_nothing_unseen() {
    let huge = "x".repeat(1 << 20);
    let hostile = [
        "\"",
        "'",
        "a\nb",
        "\r\n",
        "$(id)",
        "${x}",
        "{",
        "}",
        ";",
        "a;b",
        "`id`",
        "\0",
        "\u{1b}[31m",
        "#",
        "../../etc/passwd",
        "other/users",
        "other/fields",
        "http://169.254.169.254/",
        "99999999999999999999",
        "-99999999999999999999",
        "0",
        "-1",
        "%0d%0a",
        "(a{1000}){1000}",
        "[",
        "ü",
        "\u{202e}",
        "*",
        "~^.*$",
        "lua_code_cache off;",
        "https://a/\nlocation /x {",
        &huge,
    ];
    let contexts = [None, Some(("auth-type", "basic")), Some(("enable-cors", "true")), Some(("canary", "true"))];
    for (entry, text) in Entry::all().flat_map(|entry| hostile.map(|text| (entry, text))) {
        for context in contexts {
            let pairs: Vec<_> = context.into_iter().chain([(entry.name, text)]).collect();
            look_at(entry, text, &pairs, context.is_none());
        }
    }
}

fn look_at(entry: &Entry, text: &str, pairs: &[(&str, &str)], alone: bool) {
    let globals = Globals { allowed_response_headers: vec!["x-team".to_owned()], ..Globals::default() };
    let (annotations, findings) = read_with(pairs, &globals);
    let place = format!("{}: {}", entry.name, quoted(text));
    for finding in &findings {
        let line = finding.to_string();
        assert!(line.len() < 1000 && !line.contains(['\n', '\r', '\0', '\u{1b}', '\u{202e}']), "{place}: {line}");
    }
    let Some(annotations) = annotations else {
        assert!(findings.iter().any(|finding| finding.severity == Severity::Error), "{place}");
        return;
    };
    assert!(!format!("{annotations:?}").contains(FOREIGN), "{place}");
    let restricts = matches!(entry.support, Support::Restriction) && value::boolean(text) != Some(false);
    assert!(!restricts || !alone || annotations.policy.denied.is_some() || !findings.is_empty(), "{place}");
    if alone && findings.is_empty() {
        // Unseen is only what is well-formed.
        assert!(entry.kind.accepts(text.trim_matches(' ')), "{place}");
    }
}
