//! Active checks of endpoints and nodes, once for the whole host: what they find becomes part of the snapshot of every shard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time;

use crate::control::probe::Probe;
use crate::control::standing::Standing;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::Endpoint;
use crate::snapshot::cluster::Health;
use crate::snapshot::cluster::Protocol;

/// Checks under way at once.
const RUNNING_MAX: usize = 64;
/// How often a node is checked, and how long one connection to it may take.
const NODE_INTERVAL: Duration = Duration::from_secs(2);
const NODE_TIMEOUT: Duration = Duration::from_secs(1);
/// Services whose node ports one check of a node may try.
const NODE_PORTS_MAX: usize = 3;

/// What a check says something about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Endpoint(SocketAddr),
    Node(Arc<str>),
}

/// How a subject is checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Check {
    subject: Subject,
    probe: Probe,
    interval: Duration,
    timeout: Duration,
}

/// Every check, with what it has shown so far.
pub(crate) struct Checks {
    standings: BTreeMap<Arc<Check>, Standing>,
    running: FuturesUnordered<BoxFuture<'static, (Arc<Check>, bool)>>,
    slots: Arc<Semaphore>,
    random: u64,
}

impl Checks {
    /// `seed` spreads the checks over time.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            standings: BTreeMap::new(),
            running: FuturesUnordered::new(),
            slots: Arc::new(Semaphore::new(RUNNING_MAX)),
            random: seed | 1,
        }
    }

    /// From now on exactly what these clusters ask for is checked; a check that stays keeps what it has shown.
    pub(crate) fn plan(&mut self, clusters: &[Option<Arc<Cluster>>]) {
        let mut old = std::mem::take(&mut self.standings);
        for check in checks(clusters) {
            if let Some((check, standing)) = old.remove_entry(&check) {
                self.standings.insert(check, standing);
            } else if let std::collections::btree_map::Entry::Vacant(entry) = self.standings.entry(Arc::new(check)) {
                let check = entry.key().clone();
                entry.insert(Standing::default());
                // The first one soon, but not all at once.
                let delay = check.interval.mul_f64(self.fraction());
                self.run(check, delay);
            }
        }
    }

    /// Waits until something went down or came back. Safe to drop while it waits.
    pub(crate) async fn changed(&mut self) {
        loop {
            let Some((check, good)) = self.running.next().await else { std::future::pending().await };
            // Gone from the plan while it ran, and perhaps planned anew since: this round of it ends here.
            if !self.standings.get_key_value(&check).is_some_and(|(planned, _)| Arc::ptr_eq(planned, &check)) {
                continue;
            }
            let Some(standing) = self.standings.get_mut(&check) else { continue };
            let changed = standing.note(good);
            if changed {
                tell(&check, *standing);
            }
            let delay = check.interval.mul_f64(0.9 + 0.2 * self.fraction());
            self.run(check, delay);
            if changed {
                return;
            }
        }
    }

    /// What is down. Where one of two checks of the same endpoint fails, it is.
    pub(crate) fn health(&self) -> Health {
        let mut health = Health::default();
        for (check, _) in self.standings.iter().filter(|(_, standing)| standing.is_down()) {
            match &check.subject {
                Subject::Endpoint(address) => drop(health.endpoints.insert(*address)),
                Subject::Node(name) => drop(health.nodes.insert(name.clone())),
            }
        }
        health
    }

    fn run(&self, check: Arc<Check>, delay: Duration) {
        let slots = self.slots.clone();
        self.running.push(
            async move {
                time::sleep(delay).await;
                let _slot = slots.acquire().await;
                let good = check.probe.run(check.timeout).await;
                (check, good)
            }
            .boxed(),
        );
    }

    /// Between 0 and 1 (xorshift64).
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn tell(check: &Check, standing: Standing) {
    let subject = match &check.subject {
        Subject::Endpoint(address) => format!("endpoint {address}"),
        Subject::Node(name) => format!("node {name}"),
    };
    if standing.is_down() {
        tracing::warn!("{subject} fails its checks: it gets no new requests while there are others");
    } else {
        tracing::info!("{subject} passes its checks again");
    }
}

/// What these clusters ask for: the checks of their policies, the health-check node ports of their Services, and their nodes.
fn checks(clusters: &[Option<Arc<Cluster>>]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut nodes: BTreeMap<Arc<str>, Vec<SocketAddr>> = BTreeMap::new();
    for cluster in clusters.iter().flatten() {
        if let Some(policy) = &cluster.health_check {
            let check = |endpoint: &Endpoint| Check {
                subject: Subject::Endpoint(endpoint.address),
                probe: match &policy.http_path {
                    Some(path) if cluster.protocol == Protocol::Http => Probe::Get(endpoint.address, path.clone()),
                    // Whether the port takes connections is known without speaking TLS to it.
                    _ => Probe::Connect(endpoint.address),
                },
                interval: policy.interval,
                timeout: policy.timeout,
            };
            checks.extend(cluster.endpoints.iter().map(check));
        }
        if !cluster.opaque_endpoints {
            continue;
        }
        for endpoint in &cluster.endpoints {
            let Some(node) = &endpoint.node else { continue };
            match cluster.health_node_port {
                Some(port) => checks.push(Check {
                    subject: Subject::Endpoint(endpoint.address),
                    probe: Probe::Get(SocketAddr::new(endpoint.address.ip(), port), "/".to_owned()),
                    interval: NODE_INTERVAL,
                    timeout: NODE_TIMEOUT,
                }),
                None if cluster.pods > 0 => nodes.entry(node.clone()).or_default().push(endpoint.address),
                None => {}
            }
        }
    }
    // The only node there is gets every request whatever a check says.
    if nodes.len() > 1 {
        checks.extend(nodes.into_iter().map(|(name, mut ports)| {
            ports.truncate(NODE_PORTS_MAX);
            Check { subject: Subject::Node(name), probe: Probe::Node(ports), interval: NODE_INTERVAL, timeout: NODE_TIMEOUT }
        }));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::cluster::Balance;
    use crate::snapshot::cluster::ClusterId;
    use crate::snapshot::cluster::HealthCheck;

    fn cluster(service: &str, endpoints: &[(&str, Option<&str>)]) -> Cluster {
        let endpoint =
            |(address, node): &(&str, Option<&str>)| Endpoint { address: address.parse().unwrap(), weight: 1, node: node.map(Arc::from) };
        Cluster {
            id: ClusterId(0),
            name: service.into(),
            namespace: "default".into(),
            service: service.into(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            refusal: None,
            pods: 2,
            opaque_endpoints: endpoints.iter().all(|(_, node)| node.is_some()),
            balance: Balance::default(),
            protocol: Protocol::Http,
            health_check: None,
            health_node_port: None,
        }
    }

    fn plan(clusters: Vec<Cluster>) -> Vec<(Subject, Probe)> {
        let clusters: Vec<_> = clusters.into_iter().map(|cluster| Some(Arc::new(cluster))).collect();
        checks(&clusters).into_iter().map(|check| (check.subject, check.probe)).collect()
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    /// A policy is run for every endpoint; without one, endpoints that are pods are not touched.
    #[test]
    fn endpoints_are_checked_where_a_policy_says_so() {
        let plain = cluster("web", &[("10.0.0.1:80", None)]);
        assert_eq!(plan(vec![plain.clone()]), []);
        let mut checked = plain;
        checked.health_check =
            Some(HealthCheck { http_path: Some("/up".to_owned()), interval: Duration::from_secs(5), timeout: Duration::from_secs(1) });
        let subject = || Subject::Endpoint(at("10.0.0.1:80"));
        assert_eq!(plan(vec![checked.clone()]), [(subject(), Probe::Get(at("10.0.0.1:80"), "/up".to_owned()))]);
        checked.protocol = Protocol::Https;
        assert_eq!(plan(vec![checked]), [(subject(), Probe::Connect(at("10.0.0.1:80")))]);
    }

    /// Nodes are checked at the ports of a few Services, unless there is only one node.
    #[test]
    fn nodes_are_checked_where_there_is_a_choice() {
        let one = cluster("a", &[("10.0.0.1:30001", Some("n1"))]);
        assert_eq!(plan(vec![one]), []);
        let two = |service: &str, port: u16| {
            cluster(service, &[(&format!("10.0.0.1:{port}"), Some("n1")), (&format!("10.0.0.2:{port}"), Some("n2"))])
        };
        let planned = plan((0..5).map(|index| two("s", 30000 + index)).collect());
        let ports = |ip: &str| (30000..30003).map(|port| at(&format!("{ip}:{port}"))).collect();
        assert_eq!(
            planned,
            [(Subject::Node("n1".into()), Probe::Node(ports("10.0.0.1"))), (Subject::Node("n2".into()), Probe::Node(ports("10.0.0.2")))]
        );
    }

    /// Under `externalTrafficPolicy: Local` each node is asked about the Service.
    #[test]
    fn a_local_service_is_asked_at_its_own_port() {
        let mut local = cluster("web", &[("10.0.0.1:30001", Some("n1"))]);
        local.health_node_port = Some(32000);
        let planned = plan(vec![local]);
        assert_eq!(planned, [(Subject::Endpoint(at("10.0.0.1:30001")), Probe::Get(at("10.0.0.1:32000"), "/".to_owned()))]);
    }

    /// A failing check shows in the health, one that is planned no more does not; a check that stays keeps what it has shown.
    #[test]
    fn health_is_what_planned_checks_show() {
        let clusters = |ports: &[u16]| -> Vec<Option<Arc<Cluster>>> {
            let cluster = |port: &u16| {
                let mut cluster = cluster("web", &[(&format!("10.0.0.1:{port}"), None)]);
                cluster.health_check =
                    Some(HealthCheck { http_path: None, interval: Duration::from_secs(5), timeout: Duration::from_secs(1) });
                Some(Arc::new(cluster))
            };
            ports.iter().map(cluster).collect()
        };
        let mut checks = Checks::new(7);
        checks.plan(&clusters(&[1, 2]));
        for standing in checks.standings.values_mut() {
            while !standing.note(false) {}
        }
        assert_eq!(checks.health().endpoints.len(), 2);
        checks.plan(&clusters(&[2, 3]));
        assert_eq!(checks.health().endpoints, [at("10.0.0.1:2")].into());
        assert_eq!(checks.running.len(), 3, "the one that is gone ends when it has run");
    }
}
