//! Clusters: named sets of endpoints with one policy.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A number that stays with a cluster for the life of the process, so that a shard finds its pools again after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// One Service port as seen through one backend mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    pub id: ClusterId,
    /// `namespace/service:port`, for humans and logs.
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub service: Arc<str>,
    /// Where new requests may go. Empty: every request is answered 503 with `refusal`, or `no_endpoints`.
    pub endpoints: Vec<Endpoint>,
    /// Why there is no endpoint, as a `corelane-reason` token.
    pub refusal: Option<&'static str>,
    /// Ready pods behind the endpoints; sizes the pool for coverage where one endpoint (a NodePort) hides many.
    pub pods: u32,
    /// Whether each connection lands on a pod of kube-proxy's choice (`nodeport`, `lb-ip`).
    pub opaque_endpoints: bool,
    pub balance: Balance,
    pub protocol: Protocol,
    pub health_check: Option<HealthCheck>,
    /// `healthCheckNodePort` of the Service: a GET there answers 200 on every node that has a ready endpoint of its own, and kube-proxy
    /// drops what reaches any other node.
    pub health_node_port: Option<u16>,
}

/// One address and port a cluster may dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// Share of new requests relative to its peers; at least 1.
    pub weight: u32,
    /// The node it lives on.
    pub node: Option<Arc<str>>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Balance {
    #[default]
    RoundRobin,
    /// Power of two choices over peak-EWMA latency times requests in flight (`load-balance: ewma`).
    PeakEwma,
}

/// What is spoken to the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    #[default]
    Http,
    /// TLS towards the endpoint, unverified unless a policy says otherwise, as ingress-nginx does.
    Https,
}

/// An active check of every endpoint of a cluster, run once per host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `None` connects only (TCP).
    pub http_path: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
}

/// What active checks found; absence means healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Endpoints whose own check fails.
    pub endpoints: HashSet<SocketAddr>,
    /// Nodes whose check fails.
    pub nodes: HashSet<Arc<str>>,
}

impl Health {
    /// Whether active checks say that `endpoint` should not be used.
    pub fn is_down(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.contains(&endpoint.address) || endpoint.node.as_ref().is_some_and(|node| self.nodes.contains(node))
    }
}
