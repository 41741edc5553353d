//! Backends of an Ingress: which port of which Service they mean.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::api::networking::v1::IngressBackend;

use crate::snapshot::finding::ObjectKey;
use crate::translate::about::quoted;
use crate::translate::resources::Resources;

/// A backend as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Service { name: String, port: Port },
    Resource { kind: String, name: String },
    Missing,
}

/// A port as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Name(String),
    Number(i32),
    /// The first of the Service, as the `default-backend` annotation means it.
    First,
    Missing,
}

/// Why a backend cannot be served: the rule stands and answers 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The `corelane-reason` of its answers.
    pub(crate) token: &'static str,
    pub(crate) reason: &'static str,
    /// Below the field of the backend: `.service.name`.
    pub(crate) field: &'static str,
    pub(crate) message: String,
    pub(crate) cure: String,
}

impl Backend {
    pub(crate) fn read(written: &IngressBackend) -> Self {
        if let Some(service) = &written.service {
            let port = service.port.as_ref();
            let name = port.and_then(|port| port.name.clone()).filter(|name| !name.is_empty());
            let number = port.and_then(|port| port.number).filter(|number| *number != 0);
            let port = name.map(Port::Name).or_else(|| number.map(Port::Number)).unwrap_or(Port::Missing);
            return Self::Service { name: service.name.clone(), port };
        }
        match &written.resource {
            Some(resource) => Self::Resource { kind: resource.kind.clone(), name: resource.name.clone() },
            None => Self::Missing,
        }
    }

    /// The name of the Service, empty where the backend is none.
    pub(crate) fn service_name(&self) -> &str {
        match self {
            Self::Service { name, .. } => name,
            _ => "",
        }
    }

    /// The Service in `namespace` and the port that it means.
    ///
    /// # Errors
    /// [`Refusal`] where there is none.
    pub(crate) fn find<'r>(&self, namespace: &str, resources: &'r Resources) -> Result<Found<'r>, Refusal> {
        let (name, port) = match self {
            Self::Service { name, port } => (name, port),
            Self::Resource { kind, name } => return Err(resource(kind, name)),
            Self::Missing => return Err(missing()),
        };
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.clone() };
        let Some((key, service)) = resources.services.get_key_value(&key) else { return Err(service_not_found(&key)) };
        let spec = service.spec.as_ref().ok_or_else(|| port_not_found(key, port, &[]))?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return Err(external_name(key));
        }
        let ports = spec.ports.as_deref().unwrap_or_default();
        let is_meant = |candidate: &&ServicePort| {
            is_tcp(candidate)
                && match port {
                    Port::Name(name) => candidate.name.as_ref() == Some(name),
                    Port::Number(number) => candidate.port == *number,
                    Port::First => true,
                    Port::Missing => false,
                }
        };
        let port = ports.iter().find(is_meant).ok_or_else(|| port_not_found(key, port, ports))?;
        Ok(Found { key, service, spec, port })
    }
}

/// A Service and one of its ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'r> {
    pub(crate) key: &'r ObjectKey,
    pub(crate) service: &'r Service,
    pub(crate) spec: &'r ServiceSpec,
    pub(crate) port: &'r ServicePort,
}

fn resource(kind: &str, name: &str) -> Refusal {
    Refusal {
        token: "resource_backend_unsupported",
        reason: "ResourceBackendUnsupported",
        field: ".resource",
        message: format!("the backend is the {kind} {}, and only Services are served", quoted(name)),
        cure: "Name a Service instead; requests are answered 503 meanwhile.".to_owned(),
    }
}

fn missing() -> Refusal {
    Refusal {
        token: "backend_missing",
        reason: "BackendMissing",
        field: "",
        message: "the backend names neither a Service nor a resource".to_owned(),
        cure: "Name a Service and its port; requests are answered 503 meanwhile.".to_owned(),
    }
}

fn service_not_found(key: &ObjectKey) -> Refusal {
    Refusal {
        token: "service_not_found",
        reason: "ServiceNotFound",
        field: ".service.name",
        message: format!("there is no Service {key}"),
        cure: "Create it or name one of this namespace; requests are answered 503 meanwhile.".to_owned(),
    }
}

fn external_name(key: &ObjectKey) -> Refusal {
    Refusal {
        token: "external_name_refused",
        reason: "ExternalNameRefused",
        field: ".service.name",
        message: format!("Service {key} is of type ExternalName, which may point anywhere"),
        cure: "Use a Service with a selector, or one without and EndpointSlices of its own; requests are answered 503 meanwhile."
            .to_owned(),
    }
}

fn port_not_found(key: &ObjectKey, port: &Port, ports: &[ServicePort]) -> Refusal {
    let (what, field) = match port {
        Port::Name(name) => (format!("TCP port named {}", quoted(name)), ".service.port.name"),
        Port::Number(number) => (format!("TCP port {number}"), ".service.port.number"),
        Port::First => ("TCP port".to_owned(), ".service.port"),
        Port::Missing => {
            return Refusal {
                token: "service_port_not_found",
                reason: "ServicePortMissing",
                field: ".service.port",
                message: format!("no port of Service {key} is named"),
                cure: "Give port.number or port.name; requests are answered 503 meanwhile.".to_owned(),
            };
        }
    };
    let offered: Vec<_> = ports.iter().filter(|port| is_tcp(port)).take(10).map(describe).collect();
    let cure = match offered.is_empty() {
        true => "Give it one; requests are answered 503 meanwhile.".to_owned(),
        false => format!("Use a port that it has ({}); requests are answered 503 meanwhile.", offered.join(", ")),
    };
    Refusal { token: "service_port_not_found", reason: "ServicePortNotFound", field, message: format!("Service {key} has no {what}"), cure }
}

fn is_tcp(port: &ServicePort) -> bool {
    port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
}

fn describe(port: &ServicePort) -> String {
    match port.name.as_deref() {
        Some(name) if !name.is_empty() => format!("{} {name}", port.port),
        _ => port.port.to_string(),
    }
}
