//! The endpoints behind the proxy: they answer every request with the same bytes and stamp when they did.

use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::ops::ControlFlow;

use crate::clock::Clock;
use crate::poller::Event;
use crate::poller::Poller;
use crate::poller::Role;
use crate::poller::Token;
use crate::wire;
use crate::wire::Answer;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 65_535;
/// Endpoints of a cluster: two addresses of the loopback, one port.
const ENDPOINTS: usize = 2;
/// Ports tried until one is free on every address.
const BIND_ATTEMPTS: usize = 64;
/// Bytes read at once; requests are a few hundred.
const READ_BYTES: usize = 16 << 10;
/// A request head longer than this is no request of ours.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// All endpoints, with the connections the proxies keep to them.
pub struct Upstream {
    listeners: Vec<TcpListener>,
    endpoints: Vec<SocketAddr>,
    answer: Answer,
    connections: Vec<Option<Accepted>>,
    free: Vec<u32>,
    generation: u32,
    scratch: Vec<u8>,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Requests answered so far.
    pub answered: u64,
    /// When the latest request of each client connection was read, in nanoseconds of the run's clock, by slot.
    pub met_ns: Vec<u64>,
}

/// A connection from a proxy.
struct Accepted {
    stream: TcpStream,
    generation: u32,
    /// A request head that has not ended yet.
    head: Vec<u8>,
    /// Answers owed, of which the first is written up to `written`.
    owed: u32,
    written: usize,
    close: bool,
}

impl Upstream {
    /// Listens on free ports of the loopback.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(poller: &Poller) -> io::Result<Self> {
        let listeners = bind_all()?;
        let mut endpoints = Vec::new();
        for (slot, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            rustix::net::listen(listener, BACKLOG)?;
            endpoints.push(listener.local_addr()?);
            poller.add(listener, Token { role: Role::Listener, generation: 0, slot: slot as u32 })?;
        }
        Ok(Self {
            listeners,
            endpoints,
            answer: Answer::new(0),
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            scratch: vec![0; READ_BYTES],
            accepted: 0,
            answered: 0,
            met_ns: Vec::new(),
        })
    }

    /// Where the endpoints listen.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.endpoints
    }

    /// What every request is answered with from now on.
    pub fn answer_with(&mut self, answer: Answer) {
        self.answer = answer;
    }

    /// Takes the connections that wait at a listener.
    ///
    /// # Errors
    /// The kernel's: without descriptors no measurement is honest.
    pub fn accept(&mut self, listener: u32, poller: &Poller) -> io::Result<()> {
        loop {
            let stream = match self.listeners[listener as usize].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() as u32 - 1
            });
            self.generation += 1;
            poller.add(&stream, Token { role: Role::Upstream, generation: self.generation, slot })?;
            let accepted = Accepted { stream, generation: self.generation, head: Vec::new(), owed: 0, written: 0, close: false };
            self.connections[slot as usize] = Some(accepted);
            self.accepted += 1;
        }
    }

    /// Reads requests and writes answers on one connection.
    pub fn serve(&mut self, event: Event, clock: &Clock) {
        let slot = event.token.slot as usize;
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else { return };
        if !event.token.is_of(connection.generation) {
            return;
        }
        let mut ended = false;
        loop {
            match connection.stream.read(&mut self.scratch) {
                Ok(0) => ended = true,
                Ok(arrived) => {
                    let (met, now_ns) = (&mut self.met_ns, clock.now_ns());
                    let requests = connection.take_requests(&self.scratch[..arrived], |client| {
                        if let Some(met_ns) = met.get_mut(client as usize) {
                            *met_ns = now_ns;
                        }
                    });
                    ended |= requests.is_break();
                    if arrived == self.scratch.len() || event.ended {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => ended |= error.kind() != ErrorKind::WouldBlock,
            }
            break;
        }
        let owed = connection.owed;
        ended |= connection.write_answers(&self.answer).is_break();
        self.answered += u64::from(owed - connection.owed);
        if ended {
            self.connections[slot] = None;
            self.free.push(slot as u32);
        }
    }
}

impl Accepted {
    /// Counts the requests in what was read and tells whose they are; breaks off where it is no request.
    fn take_requests(&mut self, mut bytes: &[u8], mut each: impl FnMut(u32)) -> ControlFlow<()> {
        while !bytes.is_empty() {
            let before = self.head.len();
            // Nearly every read is one whole head, which is not copied.
            let head = if before == 0 {
                bytes
            } else {
                self.head.extend_from_slice(bytes);
                &self.head
            };
            let Some(length) = wire::head_length(head) else {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                return if self.head.len() > HEAD_BYTES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            };
            let head = &head[..length];
            if let Some(slot) = wire::slot_of(head) {
                each(slot);
            }
            self.close |= wire::asks_to_close(head);
            self.owed += 1;
            bytes = &bytes[length - before..];
            self.head.clear();
        }
        ControlFlow::Continue(())
    }

    /// Writes what is owed until the socket is full; breaks off at the end of the connection.
    fn write_answers(&mut self, answer: &Answer) -> ControlFlow<()> {
        let bytes = answer.bytes(self.close);
        while self.owed > 0 {
            match self.stream.write(&bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return ControlFlow::Continue(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return ControlFlow::Break(()),
            }
            if self.written == bytes.len() {
                self.written = 0;
                self.owed -= 1;
            }
        }
        if self.close { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// One listener on 127.0.0.1, 127.0.0.2 and so on, all with the same port, as the addresses of one EndpointSlice have.
fn bind_all() -> io::Result<Vec<TcpListener>> {
    let address = |endpoint: usize, port| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, endpoint as u8 + 1)), port);
    let mut last = None;
    for _ in 0..BIND_ATTEMPTS {
        let first = TcpListener::bind(address(0, 0))?;
        let port = first.local_addr()?.port();
        match (1..ENDPOINTS).map(|endpoint| TcpListener::bind(address(endpoint, port))).collect::<io::Result<Vec<_>>>() {
            Ok(others) => return Ok(std::iter::once(first).chain(others).collect()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| ErrorKind::AddrInUse.into()))
}
