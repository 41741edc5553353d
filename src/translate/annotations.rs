//! Annotations of one Ingress as typed values; no text of an annotation ever becomes configuration text.

use k8s_openapi::api::networking::v1::Ingress;

use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Protocol;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::rule::CanaryValue;
use crate::snapshot::rule::Policy;
use crate::translate::config_map::Globals;
use crate::translate::options::Options;
use crate::translate::resources::Resources;

/// What the annotations of one Ingress ask for.
#[derive(Clone, Debug)]
pub struct Annotations {
    /// What holds for each of its rules alike. Set by others, because they need the host, the path or a cluster: `tls_redirect`,
    /// `canary`, `rewrite`.
    pub policy: Policy,
    /// `rewrite-target`, valid as a target; the pattern is the path of each rule.
    pub rewrite_target: Option<String>,
    /// `use-regex`.
    pub use_regex: bool,
    /// `ssl-redirect`: http goes to https where the host has a certificate.
    pub ssl_redirect: bool,
    /// `force-ssl-redirect`: even where it has none.
    pub force_ssl_redirect: bool,
    pub preserve_trailing_slash: bool,
    /// `app-root`, a path.
    pub app_root: Option<String>,
    /// `server-alias`: further exact host names, lower case.
    pub server_aliases: Vec<String>,
    /// `default-backend`: a Service of the same namespace that serves where the rule's own has no endpoints.
    pub default_backend: Option<String>,
    /// `canary: "true"`: this Ingress is the canary of another.
    pub canary: Option<CanarySpec>,
    pub cluster: ClusterSpec,
}

/// What annotations ask of the clusters of an Ingress; two Ingresses that ask differently get clusters of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSpec {
    pub balance: Balance,
    pub protocol: Protocol,
    /// `service-upstream`: the ClusterIP is the only endpoint.
    pub service_upstream: bool,
}

/// Which requests go to the canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanarySpec {
    pub header: Option<String>,
    pub header_value: Option<CanaryValue>,
    pub cookie: Option<String>,
    pub weight: u32,
    pub weight_total: u32,
}

/// What annotations are read from.
#[derive(Clone, Copy)]
pub struct Source<'r> {
    pub key: &'r ObjectKey,
    pub ingress: &'r Ingress,
    pub resources: &'r Resources,
    pub options: &'r Options,
    pub globals: &'r Globals,
}

/// Reads the annotations of one Ingress; `None` where a value makes the whole Ingress unservable (annotations.md section 2,
/// outcome b). What is said about them goes to `findings`, the Secrets they name to `secrets`.
pub fn read(source: Source<'_>, _findings: &mut Vec<Finding>, _secrets: &mut Vec<ObjectKey>) -> Option<Annotations> {
    Some(Annotations {
        policy: source.globals.policy.clone(),
        rewrite_target: None,
        use_regex: false,
        ssl_redirect: source.globals.ssl_redirect,
        force_ssl_redirect: false,
        preserve_trailing_slash: false,
        app_root: None,
        server_aliases: Vec::new(),
        default_backend: None,
        canary: None,
        cluster: ClusterSpec::default(),
    })
}
