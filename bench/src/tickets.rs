//! The session tickets of one round: each that a proxy gives is offered once, by the next connection.
#![expect(clippy::disallowed_types, reason = "rustls shares a store between threads; the driver is one, and never waits")]

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;

use rustls::NamedGroup;
use rustls::client::ClientSessionStore;
use rustls::client::Tls12ClientSessionValue;
use rustls::client::Tls13ClientSessionValue;
use rustls::pki_types::ServerName;

/// Tickets kept for each client connection; proxies give one or two with each handshake.
const PER_CONNECTION_MAX: usize = 2;

/// Tickets of TLS 1.3 for the one name a round asks for, shared by all of its connections.
///
/// A connection takes one and brings one or two, so that there are as many as connections once each slot has had one. A new round has
/// none: those of another proxy are of no use.
#[derive(Debug)]
pub(crate) struct Tickets {
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
    kept_max: usize,
}

impl Tickets {
    /// None yet, with room for those of so many connections.
    pub(crate) fn new(connections: u32) -> Self {
        Self { kept: Mutex::default(), kept_max: connections as usize * PER_CONNECTION_MAX }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Tls13ClientSessionValue>> {
        self.kept.lock().expect("the driver is one thread, and it does not go on after a panic")
    }
}

impl ClientSessionStore for Tickets {
    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        // Full: the oldest would expire first.
        if kept.len() == self.kept_max {
            kept.pop_front();
        }
        kept.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept().pop_back()
    }

    // One group is offered, and no TLS 1.2: there is nothing else to remember.

    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}
