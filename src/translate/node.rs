//! Nodes as the way to NodePorts: which of them may be dialled, and where.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::snapshot::cluster::Endpoint;
use crate::snapshot::finding::Finding;
use crate::translate::about::About;
use crate::translate::address;
use crate::translate::options::Options;
use crate::translate::resources::Resources;

const EXCLUSION_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const AUTOSCALER_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// An address family, in the words of `spec.ipFamilies` and `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn read(written: &str) -> Option<Self> {
        match written {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// How much the control plane trusts a node; the best trust that any node has is what counts. `spec.unschedulable` says nothing:
/// cordoning every node must not cut all traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Ready,
    Unknown,
    NotReady,
}

/// A node that may be dialled.
#[derive(Debug)]
struct Candidate {
    name: Arc<str>,
    /// The first InternalIP of each family: kube-proxy on nftables answers on no other address.
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    tier: Tier,
}

/// Every node that may be dialled (nodeport.md section 4, steps 4 and 5).
#[derive(Debug)]
pub(crate) struct Nodes(Vec<Candidate>);

impl Nodes {
    pub(crate) fn new(resources: &Resources, options: &Options, findings: &mut Vec<Finding>) -> Self {
        let mut candidates = Vec::new();
        for (key, node) in resources.nodes.iter().filter(|(_, node)| may_be_dialled(node)) {
            let mut about = About::new("Node", key, findings);
            let (v4, v6) = internal_addresses(node, options, &mut about);
            if v4.is_none() && v6.is_none() {
                let cure = "Give status.addresses an InternalIP: no NodePort is reached through this node.";
                about.warning("status.addresses", "NoInternalAddress", "the node has no usable InternalIP", cure);
                continue;
            }
            candidates.push(Candidate { name: key.name.as_str().into(), v4, v6, tier: tier(node) });
        }
        Self(candidates)
    }

    /// `port` on the nodes that `weight` wants, on each in the first of `families` that it has an address of. Only nodes of the best
    /// tier among them: those less trusted serve where no other can.
    pub(crate) fn endpoints(&self, port: u16, families: &[Family], weight: impl Fn(&str) -> Option<u32>) -> Vec<Endpoint> {
        let reachable = self.0.iter().filter_map(|node| {
            let address = families.iter().find_map(|family| match family {
                Family::V4 => node.v4,
                Family::V6 => node.v6,
            })?;
            let weight = weight(&node.name)?;
            Some((node.tier, Endpoint { address: SocketAddr::new(address, port), weight, node: Some(node.name.clone()) }))
        });
        let reachable: Vec<_> = reachable.collect();
        let best = reachable.iter().map(|(tier, _)| *tier).min();
        reachable.into_iter().filter(|(tier, _)| Some(*tier) == best).map(|(_, endpoint)| endpoint).collect()
    }
}

/// Not being deleted, not excluded by label, not about to be removed by the autoscaler.
fn may_be_dialled(node: &Node) -> bool {
    let label = node.metadata.labels.as_ref().and_then(|labels| labels.get(EXCLUSION_LABEL));
    // The service controller reads the label as a bool, and as true where it is none.
    let excluded = label.is_some_and(|value| !matches!(value.as_str(), "0" | "f" | "F" | "false" | "False" | "FALSE"));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let leaving = taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == AUTOSCALER_TAINT));
    node.metadata.deletion_timestamp.is_none() && !excluded && !leaving
}

fn internal_addresses(node: &Node, options: &Options, about: &mut About<'_>) -> (Option<IpAddr>, Option<IpAddr>) {
    let (mut v4, mut v6) = (None, None);
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    for (index, written) in addresses.iter().enumerate().filter(|(_, written)| written.type_ == "InternalIP") {
        match address::check(&written.address, options.allow_loopback) {
            Ok(address) => {
                let place = if Family::of(address) == Family::V4 { &mut v4 } else { &mut v6 };
                place.get_or_insert(address);
            }
            Err(why) => {
                let message = format!("{} {why}", crate::translate::about::quoted(&written.address));
                about.warning(&format!("status.addresses[{index}].address"), "AddressRefused", message, "It is not dialled.");
            }
        }
    }
    (v4, v6)
}

fn tier(node: &Node) -> Tier {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let status_of = |name: &str| conditions.iter().find(|condition| condition.type_ == name).map(|condition| condition.status.as_str());
    if status_of("NetworkUnavailable") == Some("True") {
        return Tier::NotReady;
    }
    match status_of("Ready") {
        Some("True") => Tier::Ready,
        Some("False") => Tier::NotReady,
        _ => Tier::Unknown,
    }
}
