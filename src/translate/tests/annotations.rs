//! What annotations of one Ingress do to others of its host, and where they end up.

use crate::translate::Translation;
use crate::translate::tests::World;
use crate::translate::tests::ingress;
use crate::translate::tests::service;

fn world(ingresses: &[String]) -> Translation {
    World::new(&(service("shop/web", 30080) + &service("shop/next", 30081) + &service("other/web", 30082) + &ingresses.concat()))
        .translate()
}

fn denied(translation: &Translation, host: &str, path: &str) -> Option<u16> {
    translation.rule(host, path).expect("a rule").policy.denied.as_ref().map(|answer| answer.status)
}

/// A guard of the whole host that cannot be honoured refuses every path of the host, and no other host.
#[test]
fn a_guard_of_the_host_refuses_all_of_it() {
    let translation = world(&[
        ingress("shop/a", "created 2025-01-01T00:00:00Z\nannotation auth-tls-secret shop/ca\nrule a.example Prefix /secret web:80"),
        ingress("shop/b", "created 2025-01-02T00:00:00Z\nrule a.example Prefix /open web:80"),
        ingress("shop/c", "rule c.example Prefix / web:80"),
    ]);
    assert_eq!(denied(&translation, "a.example", "/secret"), Some(403));
    assert_eq!(denied(&translation, "a.example", "/open"), Some(403));
    assert_eq!(denied(&translation, "c.example", "/"), None);
}

/// Nobody shuts a host of another namespace by a guard of his own.
#[test]
fn a_guard_does_not_shut_a_host_of_another_namespace() {
    let translation = world(&[
        ingress("shop/a", "created 2025-01-01T00:00:00Z\nrule a.example Prefix / web:80"),
        ingress(
            "other/b",
            "created 2025-01-02T00:00:00Z\nannotation auth-tls-secret other/ca\nrule a.example Prefix /theirs web:80\nrule b.example Prefix / web:80",
        ),
    ]);
    assert_eq!(denied(&translation, "a.example", "/"), None);
    assert_eq!(denied(&translation, "a.example", "/theirs"), Some(403));
    assert_eq!(denied(&translation, "b.example", "/"), Some(403));
}

/// A restriction that cannot be honoured refuses the paths of its own Ingress alone.
#[test]
fn a_restriction_refuses_its_own_paths() {
    let translation = world(&[
        ingress("shop/a", "annotation auth-url http://auth/\nrule a.example Prefix /secret web:80"),
        ingress("shop/b", "rule a.example Prefix / web:80"),
    ]);
    assert_eq!(denied(&translation, "a.example", "/secret"), Some(503));
    assert_eq!(denied(&translation, "a.example", "/"), None);
    assert_eq!(translation.said("UnsupportedRestriction").len(), 1);
}

/// A canary takes its share of the main rule and inherits everything else.
#[test]
fn a_canary_inherits() {
    let translation = world(&[
        ingress("shop/main", "annotation proxy-body-size 5m\nrule a.example Prefix / web:80"),
        ingress(
            "shop/next",
            "annotation canary true\nannotation canary-weight 20\nannotation proxy-body-size 1k\nannotation auth-url http://auth/\n\
             rule a.example Prefix / next:80",
        ),
    ]);
    assert_eq!(translation.summary(), [""; 0]);
    let rule = translation.rule("a.example", "/").expect("a rule");
    assert_eq!((rule.policy.body_bytes_max, rule.policy.denied.as_ref()), (Some(5 << 20), None));
    let canary = rule.policy.canary.as_ref().expect("a canary");
    assert_eq!((canary.cluster, canary.weight), (translation.cluster_of("next").id, 20));
}

/// An Ingress with a value that forbids to serve it leaves its paths to nobody, and the rest of the world as it is.
#[test]
fn an_unservable_ingress_is_not_there() {
    let translation = world(&[
        ingress("shop/a", "annotation limit-rps many\nrule a.example Prefix / web:80"),
        ingress("shop/b", "rule b.example Prefix / web:80"),
    ]);
    assert_eq!(translation.answer("a.example", "/"), "404");
    assert_eq!(translation.answer("b.example", "/"), "web");
    assert_eq!(
        translation.summary(),
        ["Error Ingress shop/a metadata.annotations[nginx.ingress.kubernetes.io/limit-rps] InvalidAnnotation"]
    );
}
