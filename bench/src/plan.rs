//! A scenario with what is made once for all of its proxies and rounds: a certificate, hosts, and the order they are asked in.

use std::io;
use std::net::SocketAddr;

use crate::beside::Door;
use crate::client::Target;
use crate::hosts;
use crate::hosts::Addresses;
use crate::scenario::Handshakes;
use crate::scenario::Scenario;
use crate::tls::Identity;

/// Host and path of every request; all peers route them to the cluster called a.
const HOST: &str = "app.bench.local";
const PATH: &str = "/api/item";

/// What all proxies of a scenario have in common.
pub struct Plan<'a> {
    pub scenario: &'a Scenario,
    pub identity: Identity,
    /// Hosts that proxies route besides their usual ones.
    pub hosts: Vec<String>,
    /// Whom requests ask, where it is not always the same.
    addresses: Option<Addresses>,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// Where no certificate can be made.
    pub fn new(scenario: &'a Scenario) -> io::Result<Self> {
        Ok(Self {
            scenario,
            identity: Identity::new()?,
            hosts: scenario.routes.map(hosts::names).unwrap_or_default(),
            addresses: scenario.routes.map(|hosts| Addresses::zipf(hosts, scenario.zipf.unwrap_or(0.0))),
        })
    }

    /// What the client asks of the proxy that listens there.
    pub fn target(&self, http: SocketAddr, https: SocketAddr) -> Target {
        let scenario = self.scenario;
        Target {
            address: if scenario.tls { https } else { http },
            tls: scenario.tls.then(|| match scenario.handshakes {
                Some(Handshakes::Resumed) => self.identity.client.resuming(scenario.connections),
                Some(Handshakes::Full) | None => self.identity.client.clone(),
            }),
            connections: scenario.connections,
            close: scenario.close,
            host: HOST.into(),
            path: PATH,
            addresses: self.addresses.clone(),
            requests: scenario.requests(),
            read_bytes_per_s: scenario.read_bytes_per_s,
        }
    }

    /// Where the company of a load finds the proxy that listens there.
    pub(crate) fn door(&self, http: SocketAddr, https: SocketAddr) -> Door {
        Door { http, https, tls: self.scenario.tls, client: self.identity.client.hasty(), host: HOST, path: PATH }
    }
}
