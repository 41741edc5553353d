//! Pods behind a Service, as EndpointSlices list them.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::Endpoint;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::translate::about::About;
use crate::translate::about::quoted;
use crate::translate::address;
use crate::translate::node::Family;
use crate::translate::resources::Resources;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// EndpointSlices by the Service they belong to.
pub(crate) struct Slices<'r>(HashMap<(&'r str, &'r str), Vec<(&'r ObjectKey, &'r EndpointSlice)>>);

/// The pods that serve one port of a Service: the ready ones, or those that still serve while they end where no other is left.
#[derive(Debug, Default)]
pub(crate) struct Pods<'r> {
    pub(crate) usable: Vec<Pod<'r>>,
    /// Whether any EndpointSlice exists: without one, nobody has said that there are no pods.
    pub(crate) known: bool,
    /// Names of ports that the slices have, where none is the one asked for.
    pub(crate) other_ports: Option<String>,
}

/// One pod, or whatever else an endpoint stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod<'r> {
    slice: &'r ObjectKey,
    index: usize,
    endpoint: &'r Endpoint,
    port: u16,
}

impl<'r> Slices<'r> {
    pub(crate) fn new(resources: &'r Resources) -> Self {
        let mut by_service: HashMap<_, Vec<_>> = HashMap::new();
        for (key, slice) in &resources.endpoint_slices {
            let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
            if let Some(service) = service {
                by_service.entry((key.namespace.as_str(), service.as_str())).or_default().push((key, slice.as_ref()));
            }
        }
        Self(by_service)
    }

    /// The pods of `port`, in the first of `families` that has any: both families of a pod are the same pod.
    pub(crate) fn pods(&self, service: &ObjectKey, port: &ServicePort, families: &[Family]) -> Pods<'r> {
        let Some(slices) = self.0.get(&(service.namespace.as_str(), service.name.as_str())) else { return Pods::default() };
        let name = port.name.as_deref().unwrap_or_default();
        let mut pods = Pods { known: true, ..Pods::default() };
        let wanted = [(families, is_ready as fn(&Endpoint) -> bool), (families, is_ending as fn(&Endpoint) -> bool)];
        for (family, is_usable) in wanted.iter().flat_map(|(families, usable)| families.iter().map(move |family| (family, usable))) {
            let of_family = slices.iter().filter(|(_, slice)| Family::read(&slice.address_type) == Some(*family));
            pods.usable = of_family.flat_map(|(key, slice)| of_slice(key, slice, name, *is_usable)).collect();
            // A pod may stand in two slices while it moves from one to the other.
            let mut seen = BTreeSet::new();
            pods.usable.retain(|pod| seen.insert((pod.endpoint.addresses.first(), pod.port)));
            if !pods.usable.is_empty() {
                return pods;
            }
        }
        let ports = || slices.iter().flat_map(|(_, slice)| slice.ports.iter().flatten());
        if ports().next().is_some() && !ports().any(|port| port.name.as_deref().unwrap_or_default() == name) {
            let names: BTreeSet<_> = ports().map(|port| quoted(port.name.as_deref().unwrap_or_default())).collect();
            pods.other_ports = Some(names.into_iter().collect::<Vec<_>>().join(", "));
        }
        pods
    }
}

fn of_slice<'r>(
    key: &'r ObjectKey,
    slice: &'r EndpointSlice,
    port_name: &str,
    is_usable: fn(&Endpoint) -> bool,
) -> impl Iterator<Item = Pod<'r>> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let port = ports.iter().find(|port| {
        port.name.as_deref().unwrap_or_default() == port_name && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    });
    let port = port.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let usable = slice.endpoints.iter().enumerate().filter(move |(_, endpoint)| is_usable(endpoint));
    usable.filter_map(move |(index, endpoint)| port.map(|port| Pod { slice: key, index, endpoint, port }))
}

/// kube-proxy's word: what is unknown is ready.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn is_ending(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.is_some_and(|conditions| conditions.serving == Some(true) && conditions.terminating == Some(true))
}

impl Pod<'_> {
    /// The node it runs on.
    pub(crate) fn node(&self) -> Option<&str> {
        self.endpoint.node_name.as_deref()
    }

    /// Its addresses; those that must not be dialled become findings.
    pub(crate) fn addresses(&self, allow_loopback: bool, findings: &mut Vec<Finding>) -> Vec<SocketAddr> {
        let mut about = About::new("EndpointSlice", self.slice, findings);
        let mut addresses = Vec::with_capacity(self.endpoint.addresses.len());
        for (index, written) in self.endpoint.addresses.iter().enumerate() {
            match address::check(written, allow_loopback) {
                Ok(address) => addresses.push(SocketAddr::new(address, self.port)),
                Err(why) => {
                    let field = format!("endpoints[{}].addresses[{index}]", self.index);
                    let message = format!("{} {why}", quoted(written));
                    about.error(&field, "AddressRefused", message, "It is not dialled: give the address of a pod or a host.");
                }
            }
        }
        addresses
    }
}
