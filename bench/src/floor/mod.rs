//! The floor: relays that do what no proxy on kernel sockets can leave out, and nothing else.
//!
//! Each client connection gets an upstream connection of its own, the endpoints taken in turn; what one end sends goes to the other
//! unread. A request with its answer is four socket operations: receive, send, receive, send. Which way of asking the kernel for
//! them is the cheapest depends on host and load, so there are three: `epoll` with a system call for each operation, `ring` with
//! io_uring and one operation after the other, `multishot` with receives that stay in place and sends that are built as late as
//! possible. The floor is the lowest of them.

mod buffers;
mod epoll;
mod multishot;
mod queue;
mod ring;

use std::convert::Infallible;
use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::time::Duration;

use clap::ValueEnum;

use crate::scenario::Scenario;

/// Its directories of `peers/`.
pub const PEERS: [&str; 3] = ["floor-epoll", "floor-ring", "floor-multishot"];
/// What their names have in common.
const PREFIX: &str = "floor-";

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 65_535;
/// How long an endpoint may take to accept.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes moved at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Whether this peer is a relay, and so nobody's competitor.
pub fn is_floor(peer: &str) -> bool {
    peer.starts_with(PREFIX)
}

/// Whether a relay does what a proxy does under this scenario, but for the thinking.
///
/// With TLS the proxy has the handshakes and the cipher beside; where each request has a client connection of its own, the relay has an
/// upstream connection of its own too; what goes on beside the load may be either of them, or a change that a relay knows nothing of;
/// and where readers take their time, waiting is measured and not work.
pub fn is_under(scenario: &Scenario) -> bool {
    let plain = !scenario.tls && !scenario.close && scenario.beside.is_empty() && scenario.read_bytes_per_s.is_none();
    plain && scenario.loads.iter().all(|load| load.is_of_requests())
}

/// How a relay asks the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Readiness by edge-triggered epoll, a system call for each receive and send.
    Epoll,
    /// io_uring, where every receive and every send is submitted and completed.
    Ring,
    /// io_uring, where receives stay in place and take buffers from a common pool, and a send that succeeds is not heard of.
    Multishot,
}

/// Relays between whoever connects to `listen` and the endpoints, until the process is ended.
///
/// # Errors
/// Of the listener; of a kernel that lacks what the mode asks for; where there are no descriptors left.
pub fn relay(mode: Mode, listen: SocketAddr, endpoints: Vec<SocketAddr>) -> io::Result<Infallible> {
    let door = Door::open(listen, endpoints)?;
    match mode {
        Mode::Epoll => epoll::run(door),
        Mode::Ring => ring::run(door),
        Mode::Multishot => multishot::run(door),
    }
}

/// Client and upstream of one pair. Way `n` leads from end `n` to the other one.
type Ends = [TcpStream; 2];

/// What becomes of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Both ends are heard.
    Open,
    /// An end has ended or failed: what was received from either is still sent, and no more received.
    Ending,
    /// Both ends are shut down; the kernel has yet to let go of what it was asked for.
    Shut,
}

/// Where clients come in and find their upstream.
struct Door {
    listener: TcpListener,
    endpoints: Vec<SocketAddr>,
    next: usize,
}

impl Door {
    fn open(listen: SocketAddr, endpoints: Vec<SocketAddr>) -> io::Result<Self> {
        if endpoints.is_empty() {
            return Err(io::Error::other("a relay without endpoints leads nowhere: name one"));
        }
        let listener = TcpListener::bind(listen).map_err(|error| io::Error::new(error.kind(), format!("{listen}: {error}")))?;
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Self { listener, endpoints, next: 0 })
    }

    /// The next client that waits, with its upstream; a client whose endpoint is not to be had is closed.
    ///
    /// Both sockets are blocking, for to io_uring `O_NONBLOCK` says that it must not wait either.
    fn admit(&mut self) -> io::Result<Option<Ends>> {
        loop {
            match self.listener.accept() {
                Ok((client, _)) => {
                    if let Ok(ends) = self.pair(client) {
                        return Ok(Some(ends));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // Without descriptors no measurement is honest.
                Err(error) => return Err(error),
            }
        }
    }

    fn pair(&mut self, client: TcpStream) -> io::Result<Ends> {
        let endpoint = self.endpoints[self.next];
        self.next = (self.next + 1) % self.endpoints.len();
        let upstream = TcpStream::connect_timeout(&endpoint, CONNECT_TIME_MAX)?;
        client.set_nodelay(true)?;
        upstream.set_nodelay(true)?;
        Ok([client, upstream])
    }
}
