//! Hosts and rules: what happens to a request once routing has decided.
//!
//! All of it is typed data, read by `filter` and `shard`; no annotation text survives translation.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::snapshot::cluster::ClusterId;

/// The position of a rule in `Snapshot::rules`. Valid within one snapshot only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// What all paths of a host share.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// As written in the object (`*.example.com`, empty for every host).
    pub name: Arc<str>,
    /// Whether a certificate is configured for this host (any `tls` entry that names it, the default certificate included).
    pub tls: bool,
    /// `app-root`: where a request for `/` is sent with 302.
    pub app_root: Option<Arc<str>>,
    /// The rule that serves paths which no rule of this host matches, instead of the snapshot's default.
    pub default_rule: Option<RuleId>,
}

/// One path of one host, with all that is done to its requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub source: RuleSource,
    pub action: Action,
    pub policy: Policy,
}

/// Where a rule comes from; labels of metrics and fields of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleSource {
    pub namespace: Arc<str>,
    pub ingress: Arc<str>,
    /// The Service, empty where there is none.
    pub service: Arc<str>,
    /// The host as written.
    pub host: Arc<str>,
    /// The path as written, with its type in front for humans: `Prefix /api`.
    pub path: Arc<str>,
}

/// What ends a request that no filter answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Forwarded to a cluster.
    Forward(ClusterId),
    /// Answered by Corelane: the rule exists but cannot be served as written.
    Answer(FixedAnswer),
}

/// An answer that needs nothing but the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedAnswer {
    pub status: u16,
    /// One token for the `corelane-reason` field and the metrics: `service_not_found`, `denied_by_annotation`, ...
    pub reason: &'static str,
}

/// Everything annotations and global settings ask of a rule, in the order in which `filter` applies it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// A restriction that could not be honoured: every request is refused with this answer (fail closed).
    pub denied: Option<FixedAnswer>,
    /// `permanent-redirect` / `temporal-redirect`: the whole path redirects.
    pub redirect: Option<Redirect>,
    pub cors: Option<Arc<Cors>>,
    pub tls_redirect: TlsRedirect,
    /// Deny wins over allow; empty lists restrict nothing.
    pub allow: Arc<[IpNet]>,
    pub deny: Arc<[IpNet]>,
    pub basic_auth: Option<Arc<BasicAuth>>,
    /// `satisfy: any`: one of address lists and authentication is enough.
    pub satisfy_any: bool,
    pub rate_limit: Option<Arc<RateLimit>>,
    /// Largest request body in bytes; `None` is unlimited.
    pub body_bytes_max: Option<u64>,
    pub canary: Option<Arc<Canary>>,
    pub rewrite: Option<Arc<Rewrite>>,
    /// `upstream-vhost`: the Host field the upstream sees.
    pub upstream_host: Option<Arc<str>>,
    /// `custom-headers` and the like: set on responses.
    pub response_fields: Arc<[ResponseField]>,
    /// `x-forwarded-prefix`.
    pub forwarded_prefix: Option<Arc<str>>,
    pub timeouts: Timeouts,
    pub retry: Retry,
    pub access_log: bool,
}

impl Default for Policy {
    /// ingress-nginx's defaults for an Ingress without annotations, but for `tls_redirect`, which needs the host.
    fn default() -> Self {
        Self {
            denied: None,
            redirect: None,
            cors: None,
            tls_redirect: TlsRedirect::Off,
            allow: Arc::from([]),
            deny: Arc::from([]),
            basic_auth: None,
            satisfy_any: false,
            rate_limit: None,
            body_bytes_max: Some(1 << 20),
            canary: None,
            rewrite: None,
            upstream_host: None,
            response_fields: Arc::from([]),
            forwarded_prefix: None,
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            access_log: true,
        }
    }
}

/// Name and value of a field.
pub type ResponseField = (Arc<str>, Arc<str>);

/// A redirect of a whole path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 300 to 308.
    pub status: u16,
    /// Sent verbatim as `Location`.
    pub location: Arc<str>,
}

/// http to https.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRedirect {
    Off,
    /// Requests that came without TLS are redirected with this status; a trailing slash is stripped unless kept.
    On {
        status: u16,
        keep_trailing_slash: bool,
        /// Whether the port that serves TLS is named.
        with_port: bool,
    },
}

/// `enable-cors` and its companions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Allowed origins; `*` stands for every one, `https://*.example.com` for one more label.
    pub origins: Vec<String>,
    pub methods: String,
    pub headers: String,
    pub expose_headers: Option<String>,
    pub credentials: bool,
    pub max_age_s: u64,
}

/// Basic authentication against a fixed list of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    pub realm: String,
    /// User to password hash, as in htpasswd: `$apr1$`, `$2y$`, `{SHA}`, `{SSHA}`, `{PLAIN}`.
    pub users: std::collections::BTreeMap<String, String>,
}

impl BasicAuth {
    /// Whether a password hash has a form that can be checked; translation refuses others.
    pub fn is_supported(hash: &str) -> bool {
        ["{SHA}", "{SSHA}", "{PLAIN}", "$apr1$", "$1$", "$2a$", "$2b$", "$2y$"].iter().any(|form| hash.starts_with(form))
    }
}

/// `limit-rps`, `limit-rpm`, `limit-connections` for each client address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Names the bucket set, so that a new snapshot keeps the counts: `namespace/ingress`, for all its paths share one count.
    pub key: Arc<str>,
    pub requests_per_second: Option<u32>,
    pub requests_per_minute: Option<u32>,
    pub connections: Option<u32>,
    /// `limit-burst-multiplier`: burst = rate x this.
    pub burst_multiplier: u32,
    /// Clients that are not limited.
    pub exempt: Vec<IpNet>,
    /// Of a refused request; 503 by default, as ingress-nginx.
    pub request_status: u16,
    /// Of a refused connection.
    pub connection_status: u16,
}

/// `canary*`: which requests go to another cluster. Header beats cookie beats weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    pub cluster: ClusterId,
    /// Lower-case field name.
    pub header: Option<String>,
    pub header_value: Option<CanaryValue>,
    pub cookie: Option<String>,
    pub weight: u32,
    pub weight_total: u32,
}

/// What the canary header must say.
#[derive(Clone, Debug)]
pub enum CanaryValue {
    Is(String),
    Matches(regex::Regex),
    /// The expression is broken: whoever sends the header stays with the main cluster.
    Never,
}

impl PartialEq for CanaryValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(a), Self::Is(b)) => a == b,
            (Self::Matches(a), Self::Matches(b)) => a.as_str() == b.as_str(),
            (Self::Never, Self::Never) => true,
            _ => false,
        }
    }
}

impl Eq for CanaryValue {}

/// `rewrite-target`: the path the upstream sees.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The Ingress path as a case-insensitive expression: that of the route, or one that may match anywhere.
    pub pattern: regex::bytes::Regex,
    /// Target with `$1`..`$9`.
    pub target: String,
}

impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        self.pattern.as_str() == other.pattern.as_str() && self.target == other.target
    }
}

/// Limits on time towards the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// Largest gap between two reads from the upstream.
    pub read: Duration,
    /// Largest gap between two writes to the upstream.
    pub send: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), read: Duration::from_secs(60), send: Duration::from_secs(60) }
    }
}

/// `proxy-next-upstream*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// All tries, the first included.
    pub tries: u32,
    /// Total time for all tries; zero is no limit.
    pub timeout: Duration,
    pub on_error: bool,
    pub on_timeout: bool,
    pub non_idempotent: bool,
    /// Upstream statuses that count as a failed try: a bit for each of 500, 502, 503, 504, 403, 404, 429 in this order.
    pub on_status: u8,
}

impl Retry {
    /// The statuses `on_status` has a bit for, lowest bit first.
    pub const STATUSES: [u16; 7] = [500, 502, 503, 504, 403, 404, 429];
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 3, timeout: Duration::ZERO, on_error: true, on_timeout: true, non_idempotent: false, on_status: 0 }
    }
}

/// Whether `address` is in one of `ranges`.
pub fn contains(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}
