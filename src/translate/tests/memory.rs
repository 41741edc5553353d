//! What one translation leaves to the next.

use std::sync::Arc;

use crate::snapshot::certificate::TicketKeys;
use crate::snapshot::cluster::Cluster;
use crate::translate::Translation;
use crate::translate::tests::World;
use crate::translate::tests::ingress;
use crate::translate::tests::key;
use crate::translate::tests::node;
use crate::translate::tests::service;
use crate::translate::tests::service_with;

fn ids(translation: &Translation) -> Vec<(u32, String)> {
    let cluster = |cluster: &Arc<Cluster>| (cluster.id.0, cluster.name.to_string());
    translation.clusters.iter().flatten().map(cluster).collect()
}

/// The same objects give the very same parts; a change replaces only the part it touches.
#[test]
fn unchanged_parts_are_the_very_same() {
    let mut world = World::new(&(service("a", 30001) + &service("b", 30002)));
    world.apply(&ingress("x", "rule foo.com Prefix /a a:80\nrule foo.com Prefix /b b:80\ntls foo.com"));
    let first = world.translate();
    let same = |a: &Translation, b: &Translation| {
        [
            ("routes", Arc::ptr_eq(&a.routes, &b.routes)),
            ("rules", Arc::ptr_eq(&a.rules, &b.rules)),
            ("clusters", Arc::ptr_eq(&a.clusters, &b.clusters)),
            ("certificates", Arc::ptr_eq(&a.certificates, &b.certificates)),
            ("settings", Arc::ptr_eq(&a.settings, &b.settings)),
        ]
        .into_iter()
        .filter_map(|(part, same)| (!same).then_some(part))
        .collect::<Vec<_>>()
    };
    let second = world.translate();
    assert_eq!(same(&first, &second), [""; 0]);

    // A node more: clusters change, and nothing that leads to them.
    world.apply(&node("node-2", "192.0.2.2", "status: {conditions: [{type: Ready, status: 'True'}]}"));
    let third = world.translate();
    assert_eq!(same(&second, &third), ["clusters"]);

    // A Service changes: the cluster of the other one stays as it is.
    world.apply(&service("a", 30009));
    let fourth = world.translate();
    assert_eq!(same(&third, &fourth), ["clusters"]);
    assert!(Arc::ptr_eq(third.cluster_of("b"), fourth.cluster_of("b")));
    assert!(!Arc::ptr_eq(third.cluster_of("a"), fourth.cluster_of("a")));

    // Fresh keys for tickets reach the certificates, and only them.
    world.memory.rotate_tickets(Arc::new(TicketKeys::from_secrets([2; 32], None)));
    assert_eq!(same(&fourth, &world.translate()), ["certificates"]);
}

/// A cluster keeps its number while others come and go; the number of one that is gone is given again.
#[test]
fn clusters_keep_their_numbers() {
    let mut world = World::new(&(service("a", 30001) + &service("b", 30002) + &service("c", 30003)));
    world.apply(&ingress("x", "rule foo.com Prefix /a a:80\nrule foo.com Prefix /b b:80"));
    assert_eq!(ids(&world.translate()), [(0, "default/a:80".to_owned()), (1, "default/b:80".to_owned())]);
    world.apply(&ingress("x", "rule foo.com Prefix /b b:80"));
    let without_a = world.translate();
    assert_eq!(ids(&without_a), [(1, "default/b:80".to_owned())]);
    assert_eq!(without_a.answer("foo.com", "/b"), "b");
    world.apply(&ingress("x", "rule foo.com Prefix /c c:80\nrule foo.com Prefix /a a:80\nrule foo.com Prefix /b b:80"));
    let again = world.translate();
    let want = [(0, "default/c:80".to_owned()), (1, "default/b:80".to_owned()), (2, "default/a:80".to_owned())];
    assert_eq!(ids(&again), want);
    for path in ["a", "b", "c"] {
        assert_eq!(again.answer("foo.com", &format!("/{path}")), path);
    }
}

/// While the newest version of an Ingress is bad its last good one serves; the next good one takes over, a deletion ends it.
#[test]
fn the_last_good_version_of_an_ingress_serves() {
    let mut world = World::new(&(service("a", 30001) + &service("b", 30002)));
    for (lines, a, b, said) in [
        ("rule foo.com Prefix /a a:80", "a", "404", vec![]),
        ("rule foo.com Prefix /a(x) a:80\nrule foo.com Prefix /b b:80", "a", "404", vec!["LastGoodVersionServed", "InvalidPath"]),
        ("rule foo.com Prefix /b b:80\nrule 192.0.2.1 Prefix / b:80", "a", "404", vec!["LastGoodVersionServed", "InvalidHost"]),
        (
            "annotation use-regex true\nrule foo.com ImplementationSpecific /b[0-9+ b:80\nrule foo.com ImplementationSpecific /b b:80",
            "a",
            "404",
            vec!["LastGoodVersionServed", "InvalidExpression"],
        ),
        ("annotation limit-rps many\nrule foo.com Prefix /b b:80", "a", "404", vec!["LastGoodVersionServed", "InvalidAnnotation"]),
        // A missing Service is not the fault of this object: it is served as written.
        ("rule foo.com Prefix /a missing:80\nrule foo.com Prefix /b b:80", "503 service_not_found", "b", vec!["ServiceNotFound"]),
        ("rule foo.com Prefix /b b:80", "404", "b", vec![]),
    ] {
        world.apply(&ingress("x", lines));
        let translation = world.translate();
        assert_eq!((translation.answer("foo.com", "/a"), translation.answer("foo.com", "/b")), (a.to_owned(), b.to_owned()), "{lines}");
        let reasons: Vec<_> = translation.findings.iter().map(|finding| finding.reason).collect();
        assert_eq!(reasons, said, "{lines}");
        assert_eq!(translation.served_ingresses.iter().collect::<Vec<_>>(), [&key("x")]);
    }
    world.resources.ingresses.clear();
    assert_eq!(world.translate().answer("foo.com", "/b"), "404");
    // What is gone is forgotten: a bad version that comes later stands alone.
    world.apply(&ingress("x", "rule foo.com Prefix /a a:80\nrule foo.com Prefix /b(x) b:80"));
    let translation = world.translate();
    assert_eq!((translation.answer("foo.com", "/a"), translation.answer("foo.com", "/b")), ("a".to_owned(), "404".to_owned()));
}

/// An Ingress that leaves our class is not served any more, however good it was.
#[test]
fn a_last_good_version_does_not_outlive_its_class() {
    let mut world = World::new(&service("a", 30001));
    world.apply(&ingress("x", "rule foo.com Prefix /a a:80"));
    assert_eq!(world.translate().answer("foo.com", "/a"), "a");
    world.apply(&ingress("x", "class other\nrule foo.com Prefix /a(x) a:80"));
    assert_eq!(world.translate().answer("foo.com", "/a"), "404");
}

/// Services of one name in two namespaces, and two ports of one Service, are clusters of their own.
#[test]
fn clusters_are_told_apart() {
    let mut world = World::new(&(service("a", 30001) + &service("other/a", 30002)));
    let ports = "type: NodePort, ports: [{port: 80, name: http, nodePort: 30003}, {port: 81, name: more, nodePort: 30004}]";
    world.apply(&service_with("two", "", ports));
    world.apply(&ingress("x", "rule foo.com Prefix /a a:80\nrule foo.com Prefix /two two:80\nrule foo.com Prefix /more two:more"));
    world.apply(&ingress("y", "rule bar.com Prefix /a a:http"));
    world.apply(&ingress("other/x", "rule other.com Prefix /a a:80"));
    let mut names: Vec<_> = ids(&world.translate()).into_iter().map(|(_, name)| name).collect();
    names.sort();
    assert_eq!(names, ["default/a:80", "default/two:80", "default/two:81", "other/a:80"]);
}
