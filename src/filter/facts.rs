//! What filters are told about a request.

use std::net::IpAddr;
use std::net::SocketAddr;

use crate::http::head::RequestHead;
use crate::snapshot::rule;
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
    /// Whether a trusted PROXY header says that a balancer in front took the connection at the port of https.
    pub came_over_https: bool,
    pub http_port: u16,
    pub https_port: u16,
    pub host: &'r Host,
    pub rule: &'r Rule,
    pub settings: &'r Settings,
    /// Microseconds of a monotonic clock that all shards share.
    pub now_us: u64,
    pub random: u64,
}

impl Facts<'_, '_, '_> {
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    /// Whether the client spoke https, to us or to a trusted balancer in front.
    pub fn is_https(&self) -> bool {
        if self.came_over_https {
            return true;
        }
        if self.peer_trusted
            && let Some(scheme) = self.head.field("x-forwarded-proto")
        {
            return scheme.eq_ignore_ascii_case(b"https");
        }
        self.tls
    }

    /// The client's address for access rules and limits: of a trusted peer, what it says.
    ///
    /// Read from the right, for every hop adds its peer there: what stands left of the first address that is not trusted may be
    /// anything a client made up. Where everybody is trusted, that is the leftmost address.
    pub fn client_address(&self) -> IpAddr {
        let mut client = self.client;
        if !self.peer_trusted {
            return client;
        }
        let trusted = &self.settings.trusted;
        for said in self.head.fields("x-forwarded-for").rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
            let Some(address) = address(said) else { break };
            client = address;
            if !trusted.is_empty() && !rule::contains(trusted, client) {
                break;
            }
        }
        client
    }

    /// The host and port the client asked for: of a trusted peer, what it says.
    pub fn best_authority(&self) -> &[u8] {
        let forwarded = self.peer_trusted.then(|| self.head.field("x-forwarded-host")).flatten();
        let first = forwarded.and_then(|value| value.split(|byte| *byte == b',').next()).map(<[u8]>::trim_ascii);
        first.filter(|host| !host.is_empty()).unwrap_or(self.head.authority)
    }
}

/// An address as balancers write it, some with a port.
fn address(said: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(said).ok()?.trim();
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|both| both.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::rule;
    use crate::filter::tests::with_facts;
    use crate::snapshot::rule::Policy;

    /// Only what trusted hops added counts: an address that a client put in front of them is not believed.
    #[test]
    fn forwarded_addresses_are_read_from_the_right() {
        let (nobody, hops) = (vec![], vec!["192.0.2.0/24", "10.0.0.0/8"]);
        for (trusted, fields, want) in [
            (&nobody, vec!["203.0.113.9"], "203.0.113.9"),
            (&nobody, vec!["203.0.113.9, 198.51.100.1"], "203.0.113.9"),
            (&nobody, vec!["203.0.113.9", "198.51.100.1"], "203.0.113.9"),
            (&nobody, vec![], "192.0.2.7"),
            (&hops, vec!["203.0.113.9"], "203.0.113.9"),
            (&hops, vec!["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
            (&hops, vec!["127.0.0.1", "203.0.113.9, 10.0.0.1"], "203.0.113.9"),
            (&hops, vec!["10.0.0.2,10.0.0.1"], "10.0.0.2"),
            (&hops, vec!["203.0.113.9, nonsense, 10.0.0.1"], "10.0.0.1"),
            (&hops, vec!["203.0.113.9:4711"], "203.0.113.9"),
            (&hops, vec!["[2001:db8::1]:4711"], "2001:db8::1"),
        ] {
            let lines: String = fields.iter().map(|value| format!("X-Forwarded-For: {value}\r\n")).collect();
            let wire = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
            let settings =
                Settings { trusted: trusted.iter().map(|range| range.parse().expect("a range")).collect(), ..Settings::default() };
            let got = with_facts(
                &wire,
                &rule(Policy::default()),
                |facts| facts.peer_trusted = true,
                |facts| Facts { settings: &settings, ..*facts }.client_address(),
            );
            assert_eq!(got.to_string(), want, "{trusted:?} {fields:?}");
        }
    }
}
