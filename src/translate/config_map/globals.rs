//! What the whole process takes from a ConfigMap.

use crate::snapshot::cluster::Balance;
use crate::snapshot::rule::FixedAnswer;
use crate::snapshot::rule::Policy;
use crate::snapshot::settings::Settings;
use crate::translate::value::Risk;

/// What a ConfigMap says: settings of the data wing, and defaults that annotations start from.
#[derive(Clone, Debug)]
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
    pub force_ssl_redirect: bool,
    pub preserve_trailing_slash: bool,
    pub use_port_in_redirects: bool,
    pub balance: Balance,
    pub service_upstream: bool,
    /// `annotations-risk-level`: an Ingress with a riskier annotation is not served.
    pub risk_max: Risk,
    /// `global-auth-url`, which cannot be honoured yet: every Ingress that does not opt out is refused with this.
    pub global_auth: Option<FixedAnswer>,
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            policy: Policy::default(),
            ssl_redirect: true,
            redirect_status: 308,
            limit_req_status: 503,
            limit_conn_status: 503,
            strict_validate_path_type: true,
            allow_cross_namespace: false,
            allowed_response_headers: Vec::new(),
            force_ssl_redirect: false,
            preserve_trailing_slash: false,
            use_port_in_redirects: false,
            balance: Balance::RoundRobin,
            service_upstream: false,
            risk_max: Risk::High,
            global_auth: None,
        }
    }
}
