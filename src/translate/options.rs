//! What the operator chose for translation.

use crate::snapshot::finding::ObjectKey;

/// What the operator chose for the whole process.
#[derive(Clone, Debug)]
pub struct Options {
    pub backend_mode: BackendMode,
    /// Honoured in the legacy annotation `kubernetes.io/ingress.class`.
    pub ingress_class: String,
    /// `IngressClass.spec.controller` values that are served.
    pub controllers: Vec<String>,
    pub watch_ingress_without_class: bool,
    /// Without the slash; `corelane.dev` always works too.
    pub annotations_prefix: String,
    /// The ConfigMap with global settings.
    pub config_map: Option<ObjectKey>,
    pub default_certificate: Option<ObjectKey>,
    /// A manifests directory may name loopback addresses, an API server refuses them.
    pub allow_loopback: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend_mode: BackendMode::NodePort,
            ingress_class: "corelane".to_owned(),
            controllers: vec!["corelane.dev/ingress-controller".to_owned()],
            watch_ingress_without_class: false,
            annotations_prefix: "nginx.ingress.kubernetes.io".to_owned(),
            config_map: None,
            default_certificate: None,
            allow_loopback: false,
        }
    }
}

/// How a Service becomes addresses (nodeport.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendMode {
    NodePort,
    Endpoints,
    LbIp,
}
