//! Global settings: what flags and the ConfigMap say about every request.

use std::time::Duration;

use ipnet::IpNet;

/// Settings that no single rule owns. Defaults are those of ingress-nginx unless a field says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Trust X-Forwarded-* of clients in `trusted` (`use-forwarded-headers`).
    pub use_forwarded_headers: bool,
    /// Append to X-Forwarded-For instead of replacing it (`compute-full-forwarded-for`).
    pub append_forwarded_for: bool,
    /// Expect a PROXY protocol header from peers in `trusted` (`use-proxy-protocol`).
    pub proxy_protocol: bool,
    /// How long the PROXY header may take.
    pub proxy_protocol_timeout: Duration,
    /// `proxy-real-ip-cidr`: who may speak for clients.
    pub trusted: Vec<IpNet>,
    pub generate_request_id: bool,
    pub hsts: Option<Hsts>,
    /// Idle time of a kept-alive client connection (`keep-alive`).
    pub keep_alive: Duration,
    /// Requests on one client connection (`keep-alive-requests`).
    pub keep_alive_requests: u32,
    /// The head must be complete within this time, absolute (10 s, shorter than ingress-nginx on purpose).
    pub head_timeout: Duration,
    /// Largest gap between two reads of a request body (`client-body-timeout`).
    pub body_timeout: Duration,
    pub upstream_keepalive_requests: u32,
    pub upstream_keepalive_time: Duration,
    pub upstream_keepalive_timeout: Duration,
    /// Idle upstream connections kept by one shard for one cluster.
    pub upstream_idle_max: u32,
    pub tls12: bool,
    /// Path prefixes that are never redirected to https.
    pub no_tls_redirect: Vec<String>,
    /// Path prefixes exempt from authentication.
    pub no_auth: Vec<String>,
    /// Refused with 403 on every host (`block-cidrs`).
    pub block: Vec<IpNet>,
    /// Response fields removed from every answer of an upstream (`hide-headers`), lower case.
    pub hide_fields: Vec<String>,
}

/// Strict-Transport-Security, sent on every https response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hsts {
    pub max_age_s: u64,
    pub include_subdomains: bool,
    pub preload: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            use_forwarded_headers: false,
            append_forwarded_for: false,
            proxy_protocol: false,
            proxy_protocol_timeout: Duration::from_secs(3),
            trusted: Vec::new(),
            generate_request_id: true,
            hsts: Some(Hsts { max_age_s: 31_536_000, include_subdomains: true, preload: false }),
            keep_alive: Duration::from_secs(75),
            keep_alive_requests: 1000,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            upstream_keepalive_requests: 10_000,
            upstream_keepalive_time: Duration::from_secs(3600),
            upstream_keepalive_timeout: Duration::from_secs(60),
            upstream_idle_max: 320,
            tls12: true,
            no_tls_redirect: vec!["/.well-known/acme-challenge".to_owned()],
            no_auth: vec!["/.well-known/acme-challenge".to_owned()],
            block: Vec::new(),
            hide_fields: Vec::new(),
        }
    }
}
