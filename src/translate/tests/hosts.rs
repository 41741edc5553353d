//! What one Ingress asks for its host, its rules and its clusters.

use crate::route::PathPattern;
use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::ClusterId;
use crate::snapshot::cluster::Protocol;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::TlsRedirect;
use crate::translate::Translation;
use crate::translate::tests::World;
use crate::translate::tests::ingress;
use crate::translate::tests::service;
use crate::translate::tests::service_with;
use crate::translate::tests::slice;

/// A world with the Services `a` and `b`, and `idle`, which has no pods.
fn world(ingresses: &str) -> World {
    let idle = service_with("idle", "", "type: NodePort, ports: [{port: 80, nodePort: 30009}]") + &slice("idle", "", "");
    World::new(&(service("a", 30001) + &service("b", 30002) + &idle + ingresses))
}

fn reasons(translation: &Translation) -> Vec<&'static str> {
    translation.findings.iter().map(|finding| finding.reason).filter(|reason| *reason != "NoEndpoints").collect()
}

/// The patterns of a host.
fn patterns(translation: &Translation, host: &str) -> Vec<String> {
    let of_host = translation.routes.hosts().find(|(_, shared, _)| &*shared.name == host);
    let (_, _, paths) = of_host.expect("the host");
    let pattern = |(pattern, _): &(PathPattern, _)| match pattern {
        PathPattern::Exact(path) => format!("= {path}"),
        PathPattern::Prefix(path) => format!("/ {path}"),
        PathPattern::Start(path) => format!("^ {path}"),
        PathPattern::Regex(regex) => format!("~ {}", regex.written()),
    };
    paths.iter().map(pattern).collect()
}

/// `use-regex`, or a rewrite that has an effect, on one Ingress of a host turns every path of every Ingress there into an expression.
#[test]
fn one_expression_turns_the_whole_host() {
    let literal = ["/ /long", "= /a"].map(str::to_owned).to_vec();
    let turned = ["~ /long", "~ /x", "~ /a"].map(str::to_owned).to_vec();
    for (annotation, kind, path, turns) in [
        ("use-regex true", "Impl", "/x", true),
        ("use-regex false", "Impl", "/x", false),
        ("rewrite-target /y", "Impl", "/x", true),
        ("rewrite-target /x", "Impl", "/x", false),
        ("rewrite-target /x", "Exact", "/x", false),
        ("rewrite-target /x", "Prefix", "/x", true),
    ] {
        let translation = world(
            &(ingress("plain", "rule foo.com Exact /a a:80\nrule foo.com Prefix /long a:80\nrule bar.com Exact /a a:80")
                + &ingress("turning", &format!("annotation {annotation}\nrule foo.com {kind} {path} b:80"))),
        )
        .translate();
        let got = patterns(&translation, "foo.com");
        if turns {
            assert_eq!(got, turned, "{annotation} {kind}");
            assert_eq!(translation.answer("foo.com", "/A/and/more"), "a");
            let said = translation.said("PathIsExpression");
            assert!(said.len() == 2 && said[0].object.name == "plain" && said[0].message.contains("default/turning"), "{said:?}");
        } else {
            let others: Vec<_> = got.into_iter().filter(|pattern| !pattern.ends_with("/x")).collect();
            assert_eq!(others, literal, "{annotation} {kind}");
            assert_eq!(translation.answer("foo.com", "/A"), "404");
        }
        assert_eq!(patterns(&translation, "bar.com"), ["= /a"]);
    }
}

/// The path of each rule is the expression that its rewrite replaces; the prefix is told only where something is rewritten.
#[test]
fn rewrites_replace_the_path_of_their_rule() {
    let lines = "annotation rewrite-target /$2\nannotation x-forwarded-prefix /app\n\
                 rule foo.com Impl /app(/|$)(.*) a:80\nrule foo.com Prefix /old a:80\ndefault b:80";
    let translation = world(&ingress("x", lines)).translate();
    assert_eq!(reasons(&translation), [""; 0]);
    for (path, want) in [("/app/new", "^(?:/app(/|$)(.*))"), ("/old/x", "^(?:/old)"), ("/elsewhere", "/")] {
        let policy = &translation.rule("foo.com", path).expect("a rule").policy;
        let rewrite = policy.rewrite.as_ref().expect("a rewrite");
        assert_eq!((rewrite.pattern.as_str(), rewrite.target.as_str()), (want, "/$2"), "{path}");
        assert_eq!(policy.forwarded_prefix.as_deref(), Some("/app"), "{path}");
    }
    let same =
        world(&ingress("x", "annotation rewrite-target /a\nannotation x-forwarded-prefix /p\nrule foo.com Exact /a a:80")).translate();
    let policy = &same.rule("foo.com", "/a").expect("a rule").policy;
    assert!(policy.rewrite.is_none() && policy.forwarded_prefix.is_none(), "{policy:?}");
}

/// A path that is no expression, or too large a one, is refused alone.
#[test]
fn a_bad_expression_is_refused_alone() {
    for bad in ["/a(b", "/[z-a]", "/(((((a{100}){100}){100}){100}){100})"] {
        let lines = format!("annotation use-regex true\nrule foo.com Impl {bad} a:80\nrule foo.com Impl /good a:80");
        let translation = world(&(ingress("x", &lines) + &ingress("y", "rule foo.com Exact /other b:80"))).translate();
        assert_eq!((translation.answer("foo.com", "/good"), translation.answer("foo.com", "/other")), ("a".to_owned(), "b".to_owned()));
        let said = translation.said("InvalidExpression");
        assert!(said.len() == 1 && said[0].field == "spec.rules[0].http.paths[0].path", "{bad}: {said:?}");
    }
}

/// A canary takes its share of the requests of the same host, path and type; only the first counts, and only beside a main rule.
#[test]
fn a_canary_joins_the_rule_of_its_path() {
    let canary = |name: &str, rule: &str| ingress(name, &format!("annotation canary true\nannotation canary-weight 20\n{rule}"));
    let main = ingress("main", "rule foo.com Prefix /a a:80\nrule foo.com Prefix /b a:80");
    for (canaries, joined, said) in [
        (canary("c", "rule foo.com Prefix /a b:80"), Some("b"), vec![]),
        (canary("c", "rule foo.com Exact /a b:80"), None, vec!["CanaryWithoutMain"]),
        (canary("c", "rule bar.com Prefix /a b:80"), None, vec!["CanaryWithoutMain"]),
        (canary("c", "default b:80"), None, vec!["CanaryWithoutMain"]),
        (canary("c", "rule foo.com Prefix /a idle:80"), None, vec![]),
        (canary("c", "rule foo.com Prefix /a missing:80"), None, vec!["ServiceNotFound"]),
        (canary("z", "rule foo.com Prefix /a b:80") + &canary("c", "rule foo.com Prefix /a a:80"), Some("b"), vec!["CanaryConflict"]),
        (canary("other/c", "rule foo.com Prefix /a a:80"), None, vec!["CanaryOfOtherNamespace"]),
    ] {
        let translation = world(&(main.clone() + &canaries)).translate();
        let policy = &translation.rule("foo.com", "/a").expect("a rule").policy;
        let of_cluster = |id: ClusterId| translation.clusters[id.0 as usize].as_ref().expect("a cluster").service.to_string();
        let got = policy.canary.as_ref().map(|canary| (of_cluster(canary.cluster), canary.weight));
        assert_eq!(got, joined.map(|service| (service.to_owned(), 20)), "{canaries}");
        assert_eq!(reasons(&translation), said, "{canaries}");
        assert_eq!(translation.answer("foo.com", "/a"), "a", "{canaries}");
        assert_eq!(translation.answer("bar.com", "/a"), "404", "a canary alone serves nothing");
        assert!(translation.rule("foo.com", "/b").expect("a rule").policy.canary.is_none());
    }
}

/// A main rule without endpoints answers 503, whatever its canary could do.
#[test]
fn a_canary_does_not_stand_in_for_its_main_rule() {
    let canary = ingress("c", "annotation canary true\nannotation canary-weight 100\nrule foo.com Prefix / a:80");
    let translation = world(&(ingress("main", "rule foo.com Prefix / idle:80") + &canary)).translate();
    let rule = translation.rule("foo.com", "/").expect("a rule");
    assert!(rule.policy.canary.is_none() && translation.answer("foo.com", "/") == "idle");
    assert!(translation.cluster_of("idle").endpoints.is_empty());
}

/// The `default-backend` serves where the rule's own Service has no endpoints or does not exist, if it has some itself.
#[test]
fn the_default_backend_serves_where_endpoints_are_missing() {
    for (backend, fallback, want) in [
        ("a:80", "b", "a"),
        ("idle:80", "b", "b"),
        ("missing:80", "b", "b"),
        ("idle:80", "idle", "idle"),
        ("idle:80", "missing", "idle"),
        ("missing:80", "missing", "503 service_not_found"),
    ] {
        let translation =
            world(&ingress("x", &format!("annotation default-backend {fallback}\nrule foo.com Prefix / {backend}"))).translate();
        assert_eq!(translation.answer("foo.com", "/"), want, "{backend} {fallback}");
        assert_eq!(&*translation.rule("foo.com", "/").expect("a rule").source.service, &backend[..backend.len() - 3]);
    }
}

/// An alias is a host like its own, unless an Ingress has that host, or another alias was first.
#[test]
fn aliases_are_hosts_like_their_own() {
    let translation = world(
        &(ingress("z", "annotation server-alias www.foo.com,real.com\nrule foo.com Prefix / a:80\ntls foo.com")
            + &ingress("real", "rule real.com Prefix / b:80")
            + &ingress("a", "annotation server-alias www.foo.com,two.com\nrule goo.com Prefix / b:80")),
    )
    .translate();
    for (host, want) in [("foo.com", "a"), ("www.foo.com", "a"), ("real.com", "b"), ("two.com", "b"), ("goo.com", "b")] {
        assert_eq!(translation.answer(host, "/"), want, "{host}");
    }
    let redirects = |host: &str| translation.rule(host, "/").expect("a rule").policy.tls_redirect != TlsRedirect::Off;
    assert!(redirects("www.foo.com") && !redirects("two.com"));
    assert_eq!(reasons(&translation), ["AliasConflict", "AliasConflict"], "{:?}", translation.summary());
}

/// Settings of the whole host come from its oldest namespace: nobody else can move its root, catch what it leaves open, or deny it.
#[test]
fn a_host_belongs_to_its_oldest_namespace() {
    let own = ingress("own", "created 2024-01-01T00:00:00Z\nrule foo.com Prefix /a a:80");
    let foreign =
        "created 2025-01-01T00:00:00Z\nannotation app-root /evil\ndefault evil:80\nrule foo.com Prefix /evil evil:80\ntls foo.com";
    let both = own.clone() + &service("evil/evil", 30007) + &ingress("evil/x", foreign);
    let translation = world(&both).translate();
    assert_eq!((translation.answer("foo.com", "/evil").as_str(), translation.answer("foo.com", "/b").as_str()), ("evil", "404"));
    let host = |translation: &Translation| translation.routes.hosts().map(|(_, host, _)| (host.app_root.clone(), host.tls)).next();
    assert_eq!(host(&translation), Some((None, false)));
    assert_eq!(translation.rule("foo.com", "/a").map(|rule| rule.policy.tls_redirect), Some(TlsRedirect::Off));
    assert_eq!(reasons(&translation), ["TlsConflict"]);

    let later =
        ingress("later", "created 2025-02-01T00:00:00Z\nannotation app-root /home\nrule foo.com Prefix /c a:80\ntls foo.com\ndefault b:80");
    let translation = world(&(own + &later)).translate();
    assert_eq!(host(&translation), Some((Some("/home".into()), true)));
    assert_eq!(translation.answer("foo.com", "/b"), "b");
}

/// app-root acts on the root of a host whether or not some path serves it: there is always a rule to ask.
#[test]
fn the_root_redirects_without_a_path_of_its_own() {
    let with = |more: &str| world(&ingress("x", &format!("annotation app-root /app\nrule foo.com Prefix /app a:80{more}"))).translate();
    for (more, want) in [("", "404 no_route"), ("\ndefault b:80", "b")] {
        let translation = with(more);
        let host = translation.routes.hosts().map(|(_, host, _)| host.clone()).next().expect("a host");
        assert_eq!((host.app_root.as_deref(), translation.answer("foo.com", "/").as_str()), (Some("/app"), want), "{more}");
        assert!(host.default_rule.is_some(), "{more}");
    }
    let plain = world(&ingress("x", "rule foo.com Prefix /app a:80")).translate();
    assert!(plain.routes.hosts().all(|(_, host, _)| host.default_rule.is_none()));
}

/// The redirect to https follows its annotations: forced without a certificate, off with one, the slash kept on demand.
#[test]
fn annotations_choose_the_redirect_to_https() {
    let on = |keep_trailing_slash, with_port| TlsRedirect::On { status: 308, keep_trailing_slash, with_port };
    for (lines, want) in [
        ("annotation force-ssl-redirect true", on(false, false)),
        ("annotation ssl-redirect false\ntls foo.com", TlsRedirect::Off),
        ("annotation preserve-trailing-slash true\ntls foo.com", on(true, false)),
        ("annotation use-port-in-redirects true\ntls foo.com", on(false, true)),
        ("annotation ssl-redirect true", TlsRedirect::Off),
    ] {
        let translation = world(&ingress("x", &format!("{lines}\nrule foo.com Prefix / a:80"))).translate();
        assert_eq!(translation.rule("foo.com", "/").map(|rule| rule.policy.tls_redirect), Some(want), "{lines}");
    }
}

/// Who asks for another balance, protocol or the ClusterIP gets a cluster of his own.
#[test]
fn clusters_are_as_their_ingress_asks() {
    let lines = |annotation: &str, path: &str| format!("{annotation}\nrule foo.com Prefix {path} a:80");
    let translation = world(
        &(ingress("plain", &lines("", "/plain"))
            + &ingress("ewma", &lines("annotation load-balance ewma", "/ewma"))
            + &ingress("https", &lines("annotation backend-protocol HTTPS", "/https"))
            + &ingress("inside", &lines("annotation service-upstream true", "/inside"))),
    )
    .translate();
    for (path, balance, protocol, address) in [
        ("/plain", Balance::RoundRobin, Protocol::Http, "192.0.2.1:30001"),
        ("/ewma", Balance::PeakEwma, Protocol::Http, "192.0.2.1:30001"),
        ("/https", Balance::RoundRobin, Protocol::Https, "192.0.2.1:30001"),
        ("/inside", Balance::RoundRobin, Protocol::Http, "10.96.0.1:80"),
    ] {
        let Some(Action::Forward(id)) = translation.rule("foo.com", path).map(|rule| rule.action.clone()) else { panic!("{path}") };
        let cluster = translation.clusters[id.0 as usize].as_ref().expect("a cluster");
        assert_eq!((cluster.balance, &cluster.protocol), (balance, &protocol), "{path}");
        assert_eq!(cluster.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>(), [address], "{path}");
    }
}

/// The catch-all of every host is neither redirected nor rewritten, as in ingress-nginx.
#[test]
fn the_catch_all_is_served_as_it_is() {
    let lines =
        "annotation rewrite-target /x\nannotation force-ssl-redirect true\nannotation permanent-redirect https://foo.com\ndefault a:80";
    let translation = world(&ingress("x", lines)).translate();
    let policy = &translation.rule("anything", "/").expect("a rule").policy;
    assert!(policy.rewrite.is_none() && policy.redirect.is_none() && policy.tls_redirect == TlsRedirect::Off, "{policy:?}");
}
