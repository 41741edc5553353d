//! A client's connection as requests see it, and what becomes of it after one.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::net::stream::Stream;
use crate::net::tls::Agreement;
use crate::shard::state::Shard;
use crate::telemetry::metrics::ConnectionState;

/// How long a client may refuse to take bytes, in milliseconds.
pub(crate) const WRITE_IDLE_MS_MAX: u64 = 60_000;

/// A client's connection, ready for requests.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    /// The client: the peer, or whom a trusted PROXY header names.
    pub(crate) client: SocketAddr,
    /// Whether a trusted PROXY header says that the client reached the port of https.
    pub(crate) came_over_https: bool,
    /// The other end of the socket.
    pub(crate) peer: IpAddr,
    pub(crate) listener: usize,
    pub(crate) agreement: Option<Agreement>,
    /// Requests begun on it.
    pub(crate) requests: u32,
}

/// A connection that is for now counted in another state than active.
pub(crate) struct InState {
    shard: Rc<Shard>,
    listener: usize,
    state: ConnectionState,
}

impl InState {
    pub(crate) fn new(shard: &Rc<Shard>, listener: usize, state: ConnectionState) -> Self {
        shard.metrics.connection(listener, ConnectionState::Active, -1);
        shard.metrics.connection(listener, state, 1);
        Self { shard: shard.clone(), listener, state }
    }
}

impl Drop for InState {
    fn drop(&mut self) {
        self.shard.metrics.connection(self.listener, self.state, -1);
        self.shard.metrics.connection(self.listener, ConnectionState::Active, 1);
    }
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    KeepAlive,
    Close,
    /// Answered with part of the request unread: the client gets time to read the answer.
    Linger,
    /// The client must not take what it got for complete.
    Reset,
}
