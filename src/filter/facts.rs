//! What filters are told about a request.

use std::net::IpAddr;

use crate::http::head::RequestHead;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::Rule;
use crate::snapshot::settings::Settings;

/// What filters may know about a request, all borrowed.
#[derive(Clone, Copy)]
pub struct Facts<'r, 'h, 'b> {
    pub head: &'r RequestHead<'h, 'b>,
    /// The peer, or whom a trusted PROXY header named.
    pub client: IpAddr,
    /// Whether X-Forwarded-* of this peer are believed.
    pub peer_trusted: bool,
    pub tls: bool,
    pub http_port: u16,
    pub https_port: u16,
    pub host: &'r Host,
    pub rule: &'r Rule,
    pub settings: &'r Settings,
    /// Milliseconds of a monotonic clock.
    pub now_ms: u64,
    pub random: u64,
}

impl Facts<'_, '_, '_> {
    /// Whether the client spoke https, to us or to a trusted balancer in front.
    pub fn is_https(&self) -> bool {
        if self.peer_trusted
            && let Some(scheme) = self.head.field("x-forwarded-proto")
        {
            return scheme.eq_ignore_ascii_case(b"https");
        }
        self.tls
    }

    /// The client's address for access rules and limits: of a trusted peer, what it says.
    pub fn client_address(&self) -> IpAddr {
        if !self.peer_trusted {
            return self.client;
        }
        let forwarded = self.head.field("x-forwarded-for");
        let first = forwarded.and_then(|value| value.split(|byte| *byte == b',').next());
        first.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok()).unwrap_or(self.client)
    }
}
