//! What a Service asks for by itself: annotations of our own, and the fields that say which addresses it has.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::core::v1::ServiceSpec;

use crate::snapshot::cluster::HealthCheck;
use crate::translate::about::About;
use crate::translate::about::quoted;
use crate::translate::node::Family;
use crate::translate::options::BackendMode;

const MODE: &str = "corelane.dev/backend-mode";
const CHECK: &str = "corelane.dev/health-check";
const CHECK_INTERVAL: &str = "corelane.dev/health-check-interval";
const CHECK_TIMEOUT: &str = "corelane.dev/health-check-timeout";

const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

fn annotation<'s>(service: &'s Service, name: &str) -> Option<&'s str> {
    service.metadata.annotations.as_ref()?.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn field(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// How the Service becomes addresses: its own word, else the operator's.
pub(crate) fn mode(service: &Service, default: BackendMode, about: &mut About<'_>) -> BackendMode {
    match annotation(service, MODE) {
        None => default,
        Some("nodeport") => BackendMode::NodePort,
        Some("endpoints") => BackendMode::Endpoints,
        Some("lb-ip") => BackendMode::LbIp,
        Some(other) => {
            let message = format!("{} is no backend mode", quoted(other));
            about.warning(&field(MODE), "InvalidAnnotation", message, "Use nodeport, endpoints or lb-ip; the global mode holds meanwhile.");
            default
        }
    }
}

/// The active check of the Service's endpoints: `tcp`, or the path of an HTTP request.
pub(crate) fn health_check(service: &Service, about: &mut About<'_>) -> Option<HealthCheck> {
    let http_path = match annotation(service, CHECK)? {
        "tcp" => None,
        path if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) => Some(path.to_owned()),
        other => {
            let message = format!("{} is neither tcp nor a path", quoted(other));
            about.warning(
                &field(CHECK),
                "InvalidAnnotation",
                message,
                "Use tcp, or a path such as /healthz; nothing is checked meanwhile.",
            );
            return None;
        }
    };
    let interval = seconds(service, CHECK_INTERVAL, INTERVAL_DEFAULT, about);
    let timeout = seconds(service, CHECK_TIMEOUT, TIMEOUT_DEFAULT, about);
    Some(HealthCheck { http_path, interval, timeout: timeout.min(interval) })
}

fn seconds(service: &Service, name: &str, default: Duration, about: &mut About<'_>) -> Duration {
    let Some(written) = annotation(service, name) else { return default };
    match written.parse::<u64>() {
        Ok(seconds @ 1..=3600) => Duration::from_secs(seconds),
        _ => {
            let cure = format!("Use whole seconds from 1 to 3600; {} hold meanwhile.", default.as_secs());
            about.warning(&field(name), "InvalidAnnotation", format!("{} is no number of seconds", quoted(written)), cure);
            default
        }
    }
}

/// The families in which the Service is reachable, the preferred one first.
pub(crate) fn families(spec: &ServiceSpec) -> Vec<Family> {
    let named: Vec<_> = spec.ip_families.iter().flatten().filter_map(|family| Family::read(family)).collect();
    if named.is_empty() { vec![Family::V4, Family::V6] } else { named }
}

/// Whether kube-proxy on a node hands connections to pods of that node only.
pub(crate) fn is_local(spec: &ServiceSpec) -> bool {
    spec.external_traffic_policy.as_deref() == Some("Local")
}

/// The address inside the cluster, `None` for a headless Service.
pub(crate) fn cluster_ip(spec: &ServiceSpec) -> Option<&str> {
    spec.cluster_ip.as_deref().filter(|address| !address.is_empty() && *address != "None")
}
