//! A snapshot small enough to be read at a glance, for the tests of whoever looks at snapshots.

use std::sync::Arc;
use std::time::Instant;

use crate::route::HostPattern;
use crate::route::PathPattern;
use crate::route::RouteTable;
use crate::snapshot::Snapshot;
use crate::snapshot::certificate::Certificates;
use crate::snapshot::certificate::Pair;
use crate::snapshot::certificate::TicketKeys;
use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::ClusterId;
use crate::snapshot::cluster::Endpoint;
use crate::snapshot::cluster::Health;
use crate::snapshot::cluster::Protocol;
use crate::snapshot::overview::Overview;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::Policy;
use crate::snapshot::rule::Rule;
use crate::snapshot::rule::RuleId;
use crate::snapshot::rule::RuleSource;

/// A cluster with this many endpoints on port `80 + id`.
fn cluster(id: u32, service: &str, endpoints: u8) -> Option<Arc<Cluster>> {
    let endpoint =
        |last: u8| Endpoint { address: ([10, 0, 0, last], 80 + id as u16).into(), weight: 1, node: Some(format!("node-{last}").into()) };
    Some(Arc::new(Cluster {
        id: ClusterId(id),
        name: format!("shop/{service}:80").into(),
        namespace: "shop".into(),
        service: service.into(),
        endpoints: (1..=endpoints).map(endpoint).collect(),
        refusal: None,
        pods: u32::from(endpoints),
        opaque_endpoints: true,
        balance: Balance::RoundRobin,
        protocol: Protocol::Http,
        health_check: None,
        health_node_port: None,
    }))
}

/// `shop.example` with `/`, `/api` and exactly `/api`, and `*.example` with `/empty`, whose Service has no endpoint; every rule
/// has this policy.
pub(crate) fn overview(policy: &Policy) -> Overview {
    let paths = [("Prefix /", "web", 0), ("Prefix /api", "api", 1), ("Exact /api", "exact", 0), ("Prefix /empty", "empty", 2)];
    let rule = |(path, service, cluster): (&str, &str, u32)| Rule {
        source: RuleSource {
            namespace: "shop".into(),
            ingress: "edge".into(),
            service: service.into(),
            host: "shop.example".into(),
            path: path.into(),
        },
        action: Action::Forward(ClusterId(cluster)),
        policy: policy.clone(),
    };
    let host = |name: &str| Arc::new(Host { name: name.into(), tls: true, app_root: None, default_rule: None });
    let routes = RouteTable::build(vec![
        (
            HostPattern::Exact("shop.example".to_owned()),
            host("shop.example"),
            vec![
                (PathPattern::Prefix("/".to_owned()), RuleId(0)),
                (PathPattern::Prefix("/api".to_owned()), RuleId(1)),
                (PathPattern::Exact("/api".to_owned()), RuleId(2)),
            ],
        ),
        (HostPattern::Wildcard("example".to_owned()), host("*.example"), vec![(PathPattern::Prefix("/empty".to_owned()), RuleId(3))]),
    ]);
    let down = Health { nodes: [Arc::from("node-1")].into(), ..Health::default() };
    let snapshot = Snapshot {
        version: 7,
        changed_at: now(),
        routes: Arc::new(routes),
        rules: paths.into_iter().map(rule).collect(),
        series: Arc::from([0; 4]),
        default_rule: None,
        clusters: Arc::from([cluster(0, "web", 2), cluster(1, "api", 3), cluster(2, "empty", 0)]),
        health: Arc::new(down),
        certificates: Arc::new(Certificates {
            exact: [("shop.example".to_owned(), Arc::new(Pair { source: "shop/tls".to_owned(), ..Pair::default() }))].into(),
            wildcard: Default::default(),
            default: Arc::new(Pair { source: "self-signed".to_owned(), ..Pair::default() }),
            tickets: Arc::new(TicketKeys::from_secrets([1; 32], None)),
        }),
        settings: Default::default(),
    };
    Overview { snapshot: Some(Arc::new(snapshot)), served: vec![7, 6], ..Overview::default() }
}

#[expect(clippy::disallowed_methods, reason = "a snapshot says when it changed; no test looks at it")]
fn now() -> Instant {
    Instant::now()
}
