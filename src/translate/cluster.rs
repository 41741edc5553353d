//! Services to clusters: the addresses behind one port in one backend mode (nodeport.md section 4), under a number that stays.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::ClusterId;
use crate::snapshot::cluster::Endpoint;
use crate::snapshot::cluster::Protocol;
use crate::snapshot::finding::Finding;
use crate::translate::about::About;
use crate::translate::about::quoted;
use crate::translate::address;
use crate::translate::annotations::ClusterSpec;
use crate::translate::backend::Backend;
use crate::translate::backend::Found;
use crate::translate::backend::Refusal;
use crate::translate::node::Nodes;
use crate::translate::options::BackendMode;
use crate::translate::pod::Pods;
use crate::translate::pod::Slices;
use crate::translate::scope::Scope;
use crate::translate::service;

/// What tells one cluster from another: who asks differently, gets pools of his own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Identity {
    namespace: String,
    service: String,
    port: i32,
    balance: Balance,
    protocol: Protocol,
    service_upstream: bool,
}

/// Numbers of clusters over the life of the process.
///
/// The number of a cluster that is gone may be given again, but only to one that speaks the same protocol: shards keep pools by
/// number and connections by address, and may not have seen the snapshot in between. A connection to the same address in the same
/// protocol is as good as one of its own.
#[derive(Debug, Default)]
pub(crate) struct ClusterNumbers {
    known: HashMap<Identity, u32>,
    free: BTreeMap<Protocol, Vec<u32>>,
    next: u32,
}

impl ClusterNumbers {
    fn number(&mut self, identity: &Identity) -> ClusterId {
        if let Some(number) = self.known.get(identity) {
            return ClusterId(*number);
        }
        let free = self.free.get_mut(&identity.protocol).and_then(Vec::pop);
        let number = free.unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.known.insert(identity.clone(), number);
        ClusterId(number)
    }

    /// Frees the numbers of all that are not in use any more.
    fn retain(&mut self, in_use: &HashMap<Identity, Built>) {
        let gone: Vec<_> = self.known.extract_if(|identity, _| !in_use.contains_key(identity)).collect();
        for (identity, number) in gone {
            self.free.entry(identity.protocol).or_default().push(number);
        }
        // Lowest last, where it is taken from: the table of clusters stays short.
        for free in self.free.values_mut() {
            free.sort_unstable_by(|a, b| b.cmp(a));
        }
    }
}

/// A cluster as the rules need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) id: ClusterId,
    pub(crate) has_endpoints: bool,
}

type Built = Result<Cluster, Refusal>;

/// The clusters of one translation, made when a rule asks for them.
pub(crate) struct Clusters<'r> {
    scope: Scope<'r>,
    nodes: Nodes,
    slices: Slices<'r>,
    numbers: &'r mut ClusterNumbers,
    built: HashMap<Identity, Built>,
}

impl<'r> Clusters<'r> {
    pub(crate) fn new(scope: Scope<'r>, numbers: &'r mut ClusterNumbers, findings: &mut Vec<Finding>) -> Self {
        let nodes = Nodes::new(scope.resources, scope.options, findings);
        Self { scope, nodes, slices: Slices::new(scope.resources), numbers, built: HashMap::new() }
    }

    /// The cluster of a backend.
    ///
    /// # Errors
    /// [`Refusal`]: no request can be served, and why. What is wrong with the Service itself goes to `findings`.
    pub(crate) fn resolve(
        &mut self,
        namespace: &str,
        backend: &Backend,
        spec: &ClusterSpec,
        findings: &mut Vec<Finding>,
    ) -> Result<Resolved, Refusal> {
        let found = backend.find(namespace, self.scope.resources)?;
        let identity = Identity {
            namespace: found.key.namespace.clone(),
            service: found.key.name.clone(),
            port: found.port.port,
            balance: spec.balance,
            protocol: spec.protocol.clone(),
            service_upstream: spec.service_upstream,
        };
        if !self.built.contains_key(&identity) {
            let built = self.build(found, spec, findings);
            self.built.insert(identity.clone(), built);
        }
        let cluster = self.built[&identity].as_ref().map_err(Clone::clone)?;
        let has_endpoints = !cluster.endpoints.is_empty();
        Ok(Resolved { id: self.numbers.number(&identity), has_endpoints })
    }

    fn build(&self, found: Found<'r>, asked: &ClusterSpec, findings: &mut Vec<Finding>) -> Built {
        let mut about = About::new("Service", found.key, findings);
        let mode = service::mode(found.service, self.scope.options.backend_mode, &mut about);
        let health_check = service::health_check(found.service, &mut about);
        let pods = self.slices.pods(found.key, found.port, &service::families(found.spec));
        let mode = if asked.service_upstream { Mode::ClusterIp } else { Mode::Of(mode) };
        let opaque_endpoints = mode != Mode::Of(BackendMode::Endpoints);
        if opaque_endpoints && found.spec.session_affinity.as_deref() == Some("ClientIP") {
            let message = "every request of this host comes from one address, so that ClientIP affinity sends all of them to one pod";
            let cure = "Set sessionAffinity to None, or corelane.dev/backend-mode to endpoints.";
            about.warning("spec.sessionAffinity", "SessionAffinityPinsPods", message, cure);
        }
        let addresses = match mode {
            Mode::ClusterIp => self.cluster_ip(&found)?,
            Mode::Of(BackendMode::NodePort) => self.node_ports(&found, &pods)?,
            Mode::Of(BackendMode::Endpoints) => self.pod_addresses(&pods, findings),
            Mode::Of(BackendMode::LbIp) => self.balancer_addresses(&found, findings),
        };
        if addresses.endpoints.is_empty() {
            say_why(&found, &pods, &addresses, findings);
        }
        let is_local = mode == Mode::Of(BackendMode::NodePort) && service::is_local(found.spec);
        let health_node_port = found.spec.health_check_node_port.filter(|_| is_local);
        Ok(Cluster {
            id: ClusterId(0),
            name: format!("{}/{}:{}", found.key.namespace, found.key.name, found.port.port).into(),
            namespace: found.key.namespace.as_str().into(),
            service: found.key.name.as_str().into(),
            endpoints: addresses.endpoints,
            refusal: addresses.refusal,
            pods: u32::try_from(pods.usable.len()).unwrap_or(u32::MAX),
            opaque_endpoints,
            balance: asked.balance,
            protocol: asked.protocol.clone(),
            health_check,
            health_node_port: health_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
        })
    }

    /// Nodes and the port that kube-proxy holds open on each.
    fn node_ports(&self, found: &Found<'_>, pods: &Pods<'_>) -> Result<Addresses, Refusal> {
        let port = found.port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let has_type = matches!(found.spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
        let Some(port) = port.filter(|_| has_type) else { return Err(not_node_port(found)) };
        let families = service::families(found.spec);
        let endpoints = if service::is_local(found.spec) {
            // A connection to any other node is dropped in silence: only nodes with a pod, each by the number of its pods.
            let mut weights: HashMap<&str, u32> = HashMap::new();
            for node in pods.usable.iter().filter_map(|pod| pod.node()) {
                *weights.entry(node).or_default() += 1;
            }
            self.nodes.endpoints(port, &families, |node| weights.get(node).copied())
        } else if pods.known && pods.usable.is_empty() {
            return Ok(Addresses::default());
        } else {
            self.nodes.endpoints(port, &families, |_| Some(1))
        };
        let nowhere_to_run = service::is_local(found.spec) && pods.usable.is_empty();
        let refusal = (endpoints.is_empty() && !nowhere_to_run).then_some("no_nodes");
        Ok(Addresses { endpoints, refusal })
    }

    fn pod_addresses(&self, pods: &Pods<'_>, findings: &mut Vec<Finding>) -> Addresses {
        let mut addresses: Vec<SocketAddr> = Vec::with_capacity(pods.usable.len());
        for pod in &pods.usable {
            addresses.extend(pod.addresses(self.scope.options.allow_loopback, findings));
        }
        Addresses::of(addresses, None)
    }

    fn cluster_ip(&self, found: &Found<'_>) -> Result<Addresses, Refusal> {
        let port = u16::try_from(found.port.port).ok().filter(|port| *port != 0);
        let address = service::cluster_ip(found.spec).and_then(|ip| address::check(ip, self.scope.options.allow_loopback).ok());
        match address.zip(port) {
            Some((address, port)) => Ok(Addresses::of(vec![SocketAddr::new(address, port)], None)),
            None => Err(Refusal {
                token: "service_without_cluster_ip",
                reason: "ServiceWithoutClusterIP",
                field: ".service.name",
                message: format!("service-upstream asks for the ClusterIP of Service {}, which has none that may be dialled", found.key),
                cure: "Give it a ClusterIP or remove the annotation; requests are answered 503 meanwhile.".to_owned(),
            }),
        }
    }

    fn balancer_addresses(&self, found: &Found<'_>, findings: &mut Vec<Finding>) -> Addresses {
        let status = found.service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let entries = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
        let Some(port) = u16::try_from(found.port.port).ok().filter(|port| *port != 0) else { return Addresses::default() };
        let mut about = About::new("Service", found.key, findings);
        let mut addresses = Vec::new();
        for (index, written) in entries.iter().enumerate().filter_map(|(index, entry)| Some((index, entry.ip.as_deref()?))) {
            match address::check(written, self.scope.options.allow_loopback) {
                Ok(address) => addresses.push(SocketAddr::new(address, port)),
                Err(why) => {
                    let field = format!("status.loadBalancer.ingress[{index}].ip");
                    about.error(&field, "AddressRefused", format!("{} {why}", quoted(written)), "It is not dialled.");
                }
            }
        }
        Addresses::of(addresses, Some("no_load_balancer_address"))
    }

    /// Every cluster that a rule asked for, by number; those that are as before are the very ones of `previous`.
    pub(crate) fn finish(self, previous: &Arc<[Option<Arc<Cluster>>]>) -> Arc<[Option<Arc<Cluster>>]> {
        let Self { numbers, mut built, .. } = self;
        built.retain(|identity, built| built.is_ok() && numbers.known.contains_key(identity));
        numbers.retain(&built);
        let mut clusters: Vec<Option<Arc<Cluster>>> = vec![None; numbers.known.values().max().map_or(0, |max| *max as usize + 1)];
        for (identity, cluster) in built {
            let (Some(number), Ok(cluster)) = (numbers.known.get(&identity), cluster) else { continue };
            let cluster = Cluster { id: ClusterId(*number), ..cluster };
            let before = previous.get(*number as usize).and_then(Option::as_ref).filter(|before| ***before == cluster);
            clusters[*number as usize] = Some(before.cloned().unwrap_or_else(|| Arc::new(cluster)));
        }
        let same = |(old, new): (&Option<Arc<Cluster>>, &Option<Arc<Cluster>>)| match (old, new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let unchanged = previous.len() == clusters.len() && previous.iter().zip(&clusters).all(same);
        if unchanged { previous.clone() } else { clusters.into() }
    }
}

/// A backend mode, or the one that `service-upstream` asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Of(BackendMode),
    ClusterIp,
}

/// Where new requests may go, and the reason where they may go nowhere.
#[derive(Debug, Default)]
struct Addresses {
    endpoints: Vec<Endpoint>,
    refusal: Option<&'static str>,
}

impl Addresses {
    fn of(mut addresses: Vec<SocketAddr>, otherwise: Option<&'static str>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        let refusal = otherwise.filter(|_| addresses.is_empty());
        let endpoint = |address| Endpoint { address, weight: 1, node: None };
        Self { endpoints: addresses.into_iter().map(endpoint).collect(), refusal }
    }
}

fn not_node_port(found: &Found<'_>) -> Refusal {
    let kind = found.spec.type_.as_deref().unwrap_or("ClusterIP");
    let kind = if service::cluster_ip(found.spec).is_none() && kind == "ClusterIP" { "headless" } else { kind };
    Refusal {
        token: "service_not_node_port",
        reason: "ServiceNotNodePort",
        field: ".service.name",
        message: format!("port {} of Service {} ({kind}) has no NodePort", found.port.port, found.key),
        cure: "Set the Service's type to NodePort, or its annotation corelane.dev/backend-mode to endpoints where pods can be reached; \
               requests are answered 503 meanwhile."
            .to_owned(),
    }
}

/// Says why a Service that may be served has nowhere to go.
fn say_why(found: &Found<'_>, pods: &Pods<'_>, addresses: &Addresses, findings: &mut Vec<Finding>) {
    let mut about = About::new("Service", found.key, findings);
    let port = found.port.port;
    if let Some(names) = &pods.other_ports {
        let message = format!("no EndpointSlice has the port {}", quoted(found.port.name.as_deref().unwrap_or_default()));
        let cure =
            format!("Name the port in the EndpointSlices as the Service does; they have {names}. Requests are answered 503 meanwhile.");
        about.warning("spec.ports", "EndpointPortNotFound", message, cure);
        return;
    }
    let (reason, message, cure) = match addresses.refusal {
        Some("no_load_balancer_address") => (
            "NoLoadBalancerAddress",
            "status.loadBalancer.ingress has no IP address".to_owned(),
            "Wait for the load balancer, or use another corelane.dev/backend-mode; requests are answered 503 meanwhile.",
        ),
        Some("no_nodes") => (
            "NoNodes",
            format!("no node that may be dialled leads to port {port}"),
            "See that a Node has an InternalIP and is not excluded from load balancers; requests are answered 503 meanwhile.",
        ),
        _ => (
            "NoEndpoints",
            format!("no pod is ready for port {port}"),
            "Start pods that the selector finds, and see that they become ready; requests are answered 503 meanwhile.",
        ),
    };
    about.warning("spec.ports", reason, message, cure);
}
