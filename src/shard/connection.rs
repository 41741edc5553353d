//! The life of a downstream connection: PROXY header, TLS handshake, one request after the other, and a farewell.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::http::proxy_protocol;
use crate::net::limits;
use crate::net::socket::Socket;
use crate::net::stream::Filled;
use crate::net::stream::Stream;
use crate::net::tls::Agreement;
use crate::net::tls::ServerTls;
use crate::net::tls::Session;
use crate::shard::client::After;
use crate::shard::client::Connection;
use crate::shard::client::InState;
use crate::shard::request;
use crate::shard::state::Shard;
use crate::snapshot::rule;
use crate::snapshot::settings::Settings;
use crate::telemetry::metrics::ConnectionState;
use crate::telemetry::metrics::HandshakeSample;

/// How long a TLS handshake may take, in milliseconds.
const HANDSHAKE_MS_MAX: u64 = 10_000;
/// Handshakes that one shard does at the same time; a further connection is closed.
const HANDSHAKES_MAX: usize = 1024;
/// How long an answered client may go on sending what nobody reads (RFC 9112 section 9.6), in milliseconds.
const LINGER_MS_MAX: u64 = 30_000;
/// Its longest silence meanwhile.
const LINGER_IDLE_MS_MAX: u64 = 5000;
/// The port at which a balancer in front takes https.
const HTTPS_PORT: u16 = 443;

/// What counts a connection for as long as it lives.
struct Counted {
    shard: Rc<Shard>,
    listener: usize,
}

impl Counted {
    fn new(shard: &Rc<Shard>, listener: usize) -> Self {
        shard.connections.set(shard.connections.get() + 1);
        shard.metrics.connection(listener, ConnectionState::Active, 1);
        Self { shard: shard.clone(), listener }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let shard = &self.shard;
        shard.connections.set(shard.connections.get() - 1);
        shard.metrics.connection(self.listener, ConnectionState::Active, -1);
        shard.neighbours.loads.leave(shard.neighbours.index);
    }
}

/// Begins to serve an accepted socket, which is counted in the loads already.
pub(crate) fn start(shard: &Rc<Shard>, listener: usize, fd: RawFd) {
    let counted = Counted::new(shard, listener);
    let Some(peer) = limits::peer_address(fd) else {
        // Reset before it was looked at.
        limits::close_unseen(fd);
        return;
    };
    let mut connection = Connection {
        stream: Stream::plain(Socket::adopt(&shard.ring, fd)),
        client: peer,
        came_over_https: false,
        peer: peer.ip(),
        listener,
        agreement: None,
        requests: 0,
    };
    shard.ring.spawn(async move {
        if let Err(reason) = serve(&counted.shard, &mut connection).await {
            counted.shard.metrics.rejected(reason);
        }
    });
}

/// Serves one connection to its end. The error is the token of why it ended before its first request.
async fn serve(shard: &Rc<Shard>, connection: &mut Connection) -> Result<(), &'static str> {
    begin(shard, connection).await?;
    loop {
        match request::serve(shard, connection).await {
            After::KeepAlive => {}
            After::Close => {
                connection.stream.announce_end();
                return Ok(());
            }
            After::Linger => {
                linger(shard, &mut connection.stream).await;
                return Ok(());
            }
            After::Reset => {
                connection.stream.socket().reset_on_close();
                return Ok(());
            }
        }
    }
}

/// What comes before the first request: a PROXY header where one is expected, a handshake on a TLS listener.
async fn begin(shard: &Rc<Shard>, connection: &mut Connection) -> Result<(), &'static str> {
    let world = shard.world();
    let settings = &world.snapshot().settings;
    if settings.proxy_protocol
        && (settings.trusted.is_empty() || rule::contains(&settings.trusted, connection.peer))
        && let Some((client, destination)) = read_proxy_header(&mut connection.stream, settings).await.map_err(|_| "proxy_protocol")?
    {
        connection.client = client;
        connection.came_over_https = destination.port() == HTTPS_PORT;
    }
    if shard.config.listeners[connection.listener].tls {
        let Some(config) = world.tls.clone() else { return Err("tls_unavailable") };
        connection.agreement = Some(shake_hands(shard, &mut connection.stream, config, connection.listener).await?);
    }
    Ok(())
}

/// Who the client is and what it connected to; `None` where the header says that the peer speaks for itself.
async fn read_proxy_header(stream: &mut Stream, settings: &Settings) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    stream.socket().set_deadline(settings.proxy_protocol_timeout.as_millis() as u64);
    loop {
        match proxy_protocol::parse(stream.data()).map_err(|_| io::ErrorKind::InvalidData)? {
            Some(header) => {
                stream.consume(header.bytes);
                stream.socket().clear_deadline();
                return Ok(header.addresses);
            }
            None if stream.data().len() >= proxy_protocol::HEADER_BYTES_MAX => return Err(io::ErrorKind::InvalidData.into()),
            None => {}
        }
        if stream.fill().await? == Filled::End {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn shake_hands(shard: &Rc<Shard>, stream: &mut Stream, config: ServerTls, listener: usize) -> Result<Agreement, &'static str> {
    if shard.handshakes.get() >= HANDSHAKES_MAX {
        return Err("too_many_handshakes");
    }
    let started_us = shard.ring.now_us();
    let counted = HandshakeCount::new(shard, listener);
    stream.socket().set_deadline(HANDSHAKE_MS_MAX);
    let result = handshake(shard, stream, config).await;
    drop(counted);
    let outcome = match &result {
        Ok(()) => "ok",
        Err(error) if error.kind() == io::ErrorKind::TimedOut => "timeout",
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => "client_closed",
        Err(_) => "failed",
    };
    let agreement = stream.agreement().filter(|_| result.is_ok());
    shard.metrics.handshake(&HandshakeSample {
        result: outcome,
        version: agreement.as_ref().map_or("", |agreement| agreement.version),
        resumed: agreement.as_ref().is_some_and(|agreement| agreement.resumed),
        duration_us: shard.ring.now_us() - started_us,
    });
    stream.socket().clear_deadline();
    agreement.ok_or("tls_handshake_failed")
}

/// Waits for the client's first bytes, then for its turn: what follows is the dear part.
async fn handshake(shard: &Shard, stream: &mut Stream, config: ServerTls) -> io::Result<()> {
    if stream.data().is_empty() && stream.fill().await? == Filled::End {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    shard.handshake_gate.pass(|| shard.ring.turns()).await;
    stream.start_tls(Session::server(config).map_err(io::Error::other)?)?;
    stream.handshake().await
}

/// One more handshake of this shard, for as long as it lasts.
struct HandshakeCount {
    shard: Rc<Shard>,
    _state: InState,
}

impl HandshakeCount {
    fn new(shard: &Rc<Shard>, listener: usize) -> Self {
        shard.handshakes.set(shard.handshakes.get() + 1);
        Self { shard: shard.clone(), _state: InState::new(shard, listener, ConnectionState::Handshake) }
    }
}

impl Drop for HandshakeCount {
    fn drop(&mut self) {
        self.shard.handshakes.set(self.shard.handshakes.get() - 1);
    }
}

/// Reads and forgets what an answered client still sends: a close with unread bytes would be a reset, and a reset can destroy
/// the answer on its way (RFC 9112 section 9.6).
async fn linger(shard: &Shard, stream: &mut Stream) {
    stream.announce_end();
    stream.socket().set_deadline(LINGER_IDLE_MS_MAX);
    if stream.flushed().await.is_err() {
        return;
    }
    stream.socket().shutdown_write();
    let end_ms = shard.ring.now_ms() + LINGER_MS_MAX;
    while shard.ring.now_ms() < end_ms {
        let unread = stream.data().len();
        stream.consume(unread);
        stream.socket().set_deadline(LINGER_IDLE_MS_MAX.min(end_ms - shard.ring.now_ms()));
        match stream.fill().await {
            Ok(Filled::More) => {}
            Ok(Filled::End) | Err(_) => return,
        }
    }
}
