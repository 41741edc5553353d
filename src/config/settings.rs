//! Every setting with its help; one struct for flags, variables and file.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::text::many;
use crate::config::text::one;
use crate::config::value::Address;
use crate::config::value::DnsName;
use crate::config::value::LogTo;
use crate::config::value::Object;
use crate::config::value::Published;
use crate::config::value::Seconds;
use crate::config::value::Shards;
use crate::config::value::Word;
use crate::control::SecretsMode;
use crate::telemetry::access_log::Format;
use crate::telemetry::program_log::Level;
use crate::translate::BackendMode;

/// What was set, and nothing else: defaults come later.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Serve the Kubernetes objects found in *.yaml, *.yml and *.json below DIR, and follow changes; no cluster is needed.
    /// Repeatable. Default: none, a cluster is watched
    #[arg(long, value_name = "DIR", env = "CORELANE_MANIFESTS", value_delimiter = ',', help_heading = "Objects")]
    #[serde(deserialize_with = "many")]
    pub(super) manifests: Vec<PathBuf>,
    /// Serve the objects of the cluster this file names. Default: KUBECONFIG, then the cluster around this pod
    #[arg(long, value_name = "FILE", env = "CORELANE_KUBECONFIG", help_heading = "Objects")]
    #[serde(deserialize_with = "one")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its current one
    #[arg(long, value_name = "NAME", env = "CORELANE_CONTEXT", help_heading = "Objects")]
    #[serde(deserialize_with = "one")]
    pub(super) context: Option<String>,
    /// Watch only this namespace. Repeatable. Default: all
    #[arg(long, value_name = "NS", env = "CORELANE_NAMESPACE", value_delimiter = ',', help_heading = "Objects")]
    #[serde(deserialize_with = "many")]
    pub(super) namespace: Vec<String>,
    /// How Secrets are read: `watch` needs list and watch on all of them, `get` only get on those that are named.
    /// Default: watch. One of: watch, get
    #[arg(long, value_name = "MODE", env = "CORELANE_SECRETS", help_heading = "Objects")]
    #[serde(deserialize_with = "one")]
    pub(super) secrets: Option<Word<SecretsMode>>,

    /// How a Service becomes addresses; it overrides this with the annotation corelane.dev/backend-mode.
    /// Default: nodeport. One of: nodeport, endpoints, lb-ip
    #[arg(long, value_name = "MODE", env = "CORELANE_BACKEND_MODE", help_heading = "Translation")]
    #[serde(deserialize_with = "one")]
    pub(super) backend_mode: Option<Word<BackendMode>>,
    /// Class name honoured in the annotation kubernetes.io/ingress.class. Default: corelane
    #[arg(long, value_name = "NAME", env = "CORELANE_INGRESS_CLASS", help_heading = "Translation")]
    #[serde(deserialize_with = "one")]
    pub(super) ingress_class: Option<String>,
    /// IngressClass .spec.controller that is served; add k8s.io/ingress-nginx to take over. Repeatable, in place of the default.
    /// Default: corelane.dev/ingress-controller
    #[arg(long, value_name = "NAME", env = "CORELANE_CONTROLLER", value_delimiter = ',', help_heading = "Translation")]
    #[serde(deserialize_with = "many")]
    pub(super) controller: Vec<String>,
    /// GatewayClass .spec.controllerName that is served; no Gateway is served yet. Default: corelane.dev/gateway-controller
    #[arg(long, value_name = "NAME", env = "CORELANE_GATEWAY_CONTROLLER", help_heading = "Translation")]
    #[serde(deserialize_with = "one")]
    pub(super) gateway_controller: Option<String>,
    /// Serve Ingresses that name no class. Default: false. One of: true, false
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(env = "CORELANE_WATCH_INGRESS_WITHOUT_CLASS", help_heading = "Translation")]
    #[serde(deserialize_with = "one")]
    pub(super) watch_ingress_without_class: Option<bool>,
    /// Prefix under which annotations are read; corelane.dev always works too. Default: nginx.ingress.kubernetes.io
    #[arg(long, value_name = "PREFIX", env = "CORELANE_ANNOTATIONS_PREFIX", help_heading = "Translation")]
    #[serde(deserialize_with = "one")]
    pub(super) annotations_prefix: Option<DnsName>,
    /// ConfigMap with global settings under ingress-nginx's keys. Default: none
    #[arg(long, value_name = "NS/NAME", env = "CORELANE_CONFIGMAP", help_heading = "Translation")]
    #[serde(deserialize_with = "one")]
    pub(super) configmap: Option<Object>,
    /// Secret with the certificate for names that no other covers. Default: self-signed, made at start
    #[arg(long, value_name = "NS/NAME", env = "CORELANE_DEFAULT_SSL_CERTIFICATE", help_heading = "Translation")]
    #[serde(deserialize_with = "one")]
    pub(super) default_ssl_certificate: Option<Object>,
    /// Address or host name written to the status of what is served. Repeatable. Default: none, no status is written
    #[arg(long, value_name = "IP-or-HOST", env = "CORELANE_PUBLISH_STATUS_ADDRESS", value_delimiter = ',', help_heading = "Translation")]
    #[serde(deserialize_with = "many")]
    pub(super) publish_status_address: Vec<Published>,

    /// Plain listener; port 0 takes a free one. Repeatable. Default: `[::]:80`
    #[arg(long, value_name = "ADDR:PORT", env = "CORELANE_HTTP", value_delimiter = ',', help_heading = "Serving")]
    #[serde(deserialize_with = "many")]
    pub(super) http: Vec<Address>,
    /// TLS listener; port 0 takes a free one. Repeatable. Default: `[::]:443`
    #[arg(long, value_name = "ADDR:PORT", env = "CORELANE_HTTPS", value_delimiter = ',', help_heading = "Serving")]
    #[serde(deserialize_with = "many")]
    pub(super) https: Vec<Address>,
    /// Health, metrics and inspection. Default: 127.0.0.1:9900
    #[arg(long, value_name = "ADDR:PORT", env = "CORELANE_ADMIN", help_heading = "Serving")]
    #[serde(deserialize_with = "one")]
    pub(super) admin: Option<Address>,
    /// Number of shards, or the CPUs they are pinned to (`0,2-5`; `3,` is CPU 3 alone).
    /// Default: all allowed CPUs but one; all, if fewer than 3. Number from 1 to 1024
    #[arg(long, value_name = "N|LIST", env = "CORELANE_SHARDS", help_heading = "Serving")]
    #[serde(deserialize_with = "one")]
    pub(super) shards: Option<Shards>,
    /// After SIGTERM, how long requests in flight may go on. Default: 300. Seconds, from 0 to 86400
    #[arg(long, value_name = "S", env = "CORELANE_DRAIN_TIMEOUT", help_heading = "Serving")]
    #[serde(deserialize_with = "one")]
    pub(super) drain_timeout: Option<Seconds>,
    /// After SIGTERM, how long new connections are still accepted while readiness says no. Default: 5. Seconds, from 0 to 86400
    #[arg(long, value_name = "S", env = "CORELANE_PRE_STOP_DELAY", help_heading = "Serving")]
    #[serde(deserialize_with = "one")]
    pub(super) pre_stop_delay: Option<Seconds>,
    /// Last good state, ticket keys; empty keeps nothing on disk. Default: /var/lib/corelane
    #[arg(long, value_name = "DIR", env = "CORELANE_STATE_DIR", help_heading = "Serving")]
    #[serde(deserialize_with = "one")]
    pub(super) state_dir: Option<String>,

    /// Where a line for each request goes. Default: stdout. stdout, off, or a path
    #[arg(long, value_name = "stdout|PATH|off", env = "CORELANE_ACCESS_LOG", help_heading = "Logs")]
    #[serde(deserialize_with = "one")]
    pub(super) access_log: Option<LogTo>,
    /// What such a line looks like. Default: json. One of: json, text
    #[arg(long, value_name = "FORMAT", env = "CORELANE_ACCESS_LOG_FORMAT", help_heading = "Logs")]
    #[serde(deserialize_with = "one")]
    pub(super) access_log_format: Option<Word<Format>>,
    /// How much the program says about itself, on stderr. Default: info. One of: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", env = "CORELANE_LOG_LEVEL", help_heading = "Logs")]
    #[serde(deserialize_with = "one")]
    pub(super) log_level: Option<Word<Level>>,
    /// What it looks like. Default: text on a terminal, else json. One of: json, text
    #[arg(long, value_name = "FORMAT", env = "CORELANE_LOG_FORMAT", help_heading = "Logs")]
    #[serde(deserialize_with = "one")]
    pub(super) log_format: Option<Word<Format>>,
}

impl Settings {
    /// What is set here, and where nothing is, what is set in `base`.
    pub(super) fn over(self, base: Self) -> Self {
        Self {
            manifests: either(self.manifests, base.manifests),
            kubeconfig: self.kubeconfig.or(base.kubeconfig),
            context: self.context.or(base.context),
            namespace: either(self.namespace, base.namespace),
            secrets: self.secrets.or(base.secrets),
            backend_mode: self.backend_mode.or(base.backend_mode),
            ingress_class: self.ingress_class.or(base.ingress_class),
            controller: either(self.controller, base.controller),
            gateway_controller: self.gateway_controller.or(base.gateway_controller),
            watch_ingress_without_class: self.watch_ingress_without_class.or(base.watch_ingress_without_class),
            annotations_prefix: self.annotations_prefix.or(base.annotations_prefix),
            configmap: self.configmap.or(base.configmap),
            default_ssl_certificate: self.default_ssl_certificate.or(base.default_ssl_certificate),
            publish_status_address: either(self.publish_status_address, base.publish_status_address),
            http: either(self.http, base.http),
            https: either(self.https, base.https),
            admin: self.admin.or(base.admin),
            shards: self.shards.or(base.shards),
            drain_timeout: self.drain_timeout.or(base.drain_timeout),
            pre_stop_delay: self.pre_stop_delay.or(base.pre_stop_delay),
            state_dir: self.state_dir.or(base.state_dir),
            access_log: self.access_log.or(base.access_log),
            access_log_format: self.access_log_format.or(base.access_log_format),
            log_level: self.log_level.or(base.log_level),
            log_format: self.log_format.or(base.log_format),
        }
    }
}

/// The list that says something, the own one first.
fn either<T>(own: Vec<T>, other: Vec<T>) -> Vec<T> {
    if own.is_empty() { other } else { own }
}
