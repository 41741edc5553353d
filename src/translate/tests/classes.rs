//! Which Ingresses are ours.

use crate::snapshot::finding::Severity;
use crate::translate::tests::World;
use crate::translate::tests::ingress;
use crate::translate::tests::ingress_class;
use crate::translate::tests::node;
use crate::translate::tests::service;

const LEGACY: &str = "annotation kubernetes.io/ingress.class";

fn is_served(world: &mut World) -> bool {
    let translation = world.translate();
    let worst = translation.findings.iter().map(|finding| finding.severity).max();
    assert!(worst.is_none_or(|worst| worst == Severity::Info), "{:?}", translation.summary());
    let served = translation.answer("foo.com", "/") == "a";
    assert_eq!(translation.served_ingresses.len(), usize::from(served));
    served
}

/// In a cluster the class decides: by IngressClass and controller, or by the legacy annotation; no class is no.
#[test]
fn a_cluster_serves_its_class_only() {
    for (lines, want) in [
        ("class corelane", true),
        ("class second", true),
        ("class nginx", false),
        ("class missing", false),
        ("class -", false),
        (&format!("class -\n{LEGACY} corelane"), true),
        (&format!("class -\n{LEGACY} second"), true),
        (&format!("class -\n{LEGACY} nginx"), false),
        // The annotation is asked first, and an empty one is none.
        (&format!("class corelane\n{LEGACY} nginx"), false),
        (&format!("class corelane\n{LEGACY} "), true),
    ] {
        let mut world = World::new(&(service("a", 30001) + &ingress_class("second", "corelane.dev/ingress-controller")));
        world.apply(&ingress_class("nginx", "k8s.io/ingress-nginx"));
        world.apply(&ingress("x", &format!("{lines}\nrule foo.com Prefix / a:80")));
        assert_eq!(is_served(&mut world), want, "{lines}");
    }
}

/// The operator may take over the classes of another controller, and Ingresses without class.
#[test]
fn operators_choose_what_is_theirs() {
    let mut world = World::new(&(service("a", 30001) + &ingress_class("nginx", "k8s.io/ingress-nginx")));
    world.apply(&ingress("x", "class nginx\nrule foo.com Prefix / a:80"));
    assert!(!is_served(&mut world));
    world.options.controllers.push("k8s.io/ingress-nginx".to_owned());
    assert!(is_served(&mut world));
    world.apply(&ingress("x", "class -\nrule foo.com Prefix / a:80"));
    assert!(!is_served(&mut world));
    world.options.watch_ingress_without_class = true;
    assert!(is_served(&mut world));
}

/// A directory without IngressClass serves the class by its name; one with a default class of ours serves what has no class.
#[test]
fn manifests_need_no_api_server_for_their_class() {
    let default = ingress_class("edge", "corelane.dev/ingress-controller")
        .replace("name: edge", "name: edge, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}");
    let foreign = default.replace("corelane.dev/ingress-controller", "example.com/other");
    let node_1 = node("node-1", "127.0.0.1", "");
    for (classes, lines, want) in [
        ("", "class corelane", true),
        ("", "class other", false),
        ("", "class -", false),
        (default.as_str(), "class -", true),
        (foreign.as_str(), "class -", false),
        (default.as_str(), "class edge", true),
        (foreign.as_str(), "class edge", false),
    ] {
        let ingress = ingress("x", &format!("{lines}\nrule foo.com Prefix / a:80"));
        let mut manifests = World::of_manifests(&(node_1.clone() + &service("a", 30001) + classes + &ingress));
        assert_eq!(is_served(&mut manifests), want, "{lines} {classes}");
        // An API server has filled in the class where it was meant: without it there is none.
        let mut cluster = World::new(&(service("a", 30001) + classes + &ingress));
        assert!(lines != "class -" || !is_served(&mut cluster), "{lines} {classes}");
    }
}
