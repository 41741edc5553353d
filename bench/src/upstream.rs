//! The endpoints behind the proxy: they answer every request with as many bytes as it asks for and stamp when they read it.

use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;

use crate::clock::Clock;
use crate::pattern;
use crate::poller::Event;
use crate::poller::Poller;
use crate::poller::Role;
use crate::poller::Token;
use crate::wire;
use crate::wire::Answer;
use crate::wire::Wanted;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 65_535;
/// Addresses of the loopback with one port: the members of a cluster, and those they may be changed for.
const ADDRESSES: u8 = 250;
/// How long after it has left a cluster an endpoint may still get requests.
const LEAVE_NS_MAX: u64 = 1_000_000_000;
/// Ports tried until one is free on every address.
const BIND_ATTEMPTS: usize = 64;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes read, and bytes written, on one connection before others have their turn: a 64 KB answer with its head.
const TURN_BYTES: u64 = 68 << 10;
/// Lengths of bodies one run may ask for.
const ANSWERS_MAX: usize = 64;
/// Where the answer to a body that was not the right one stands among the answers.
const REFUSAL: u32 = 0;
/// A request head longer than this is no request of ours.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// All endpoints, with the connections the proxies keep to them.
pub struct Upstream {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    /// When each address ceased to be a member, in nanoseconds of the run's clock; nothing for members, and where nobody says.
    left_ns: Vec<Option<u64>>,
    /// The refusal, and an answer for each length that was asked for so far: a handful.
    answers: Vec<Answer>,
    connections: Vec<Option<Accepted>>,
    free: Vec<u32>,
    /// Connections that could have gone on but had used up their turn.
    unfinished: VecDeque<Token>,
    generation: u32,
    scratch: Vec<u8>,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Requests answered so far.
    pub answered: u64,
    /// Of these, requests at an endpoint that had left more than a second before.
    pub strayed: u64,
    /// When the latest request of each client connection was read, in nanoseconds of the run's clock, by slot.
    pub met_ns: Vec<u64>,
}

/// A connection from a proxy.
struct Accepted {
    stream: TcpStream,
    listener: u32,
    generation: u32,
    /// A request head that has not ended yet.
    head: Vec<u8>,
    upload: Option<Upload>,
    /// Answers owed, of which the first is written up to `written`.
    owed: VecDeque<u32>,
    written: u64,
    close: bool,
    /// The proxy has ended its side: reading goes on until the end.
    ended: bool,
    /// Whether it stands among the unfinished.
    queued: bool,
}

/// A request body on its way in.
struct Upload {
    seen: u64,
    bytes: u64,
    good: bool,
    answer: u32,
}

/// How a connection was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// The next event says when there is more to do.
    Waiting,
    /// There is more to do, in the next turn.
    Unfinished,
    Ended,
}

impl Upstream {
    /// Listens on one free port of many addresses of the loopback.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(poller: &Poller) -> io::Result<Self> {
        let addresses: Vec<IpAddr> = (1..=ADDRESSES).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).collect();
        Self::bind_on(poller, &addresses)
    }

    /// Listens on one free port of these addresses; on none, where the endpoints are elsewhere.
    ///
    /// # Errors
    /// With the address, where it is not this host's.
    pub fn bind_on(poller: &Poller, addresses: &[IpAddr]) -> io::Result<Self> {
        let listeners = bind_all(addresses)?;
        let mut addresses = Vec::new();
        for (slot, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            rustix::net::listen(listener, BACKLOG)?;
            addresses.push(listener.local_addr()?);
            poller.add(listener, Token { role: Role::Listener, generation: 0, slot: slot as u32 })?;
        }
        Ok(Self {
            listeners,
            left_ns: vec![None; addresses.len()],
            addresses,
            answers: vec![Answer::refusal()],
            connections: Vec::new(),
            free: Vec::new(),
            unfinished: VecDeque::new(),
            generation: 0,
            scratch: vec![0; READ_BYTES],
            accepted: 0,
            answered: 0,
            strayed: 0,
            met_ns: Vec::new(),
        })
    }

    /// The members of a cluster where nothing else is said.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.addresses[..self.addresses.len().min(2)]
    }

    /// Where endpoints may be; a cluster begins with the first of them.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The cluster that is asked has these members from now on: the others are to get no requests a second later.
    pub fn expect_members(&mut self, members: impl Iterator<Item = SocketAddr> + Clone, now_ns: u64) {
        for (address, left_ns) in self.addresses.iter().zip(&mut self.left_ns) {
            let is_member = members.clone().any(|member| member == *address);
            *left_ns = if is_member { None } else { Some(left_ns.unwrap_or(now_ns)) };
        }
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
            self.connections[slot as usize] = Some(Accepted::new(stream, listener, self.generation));
            self.accepted += 1;
        }
    }

    /// Reads requests and writes answers on one connection.
    pub fn serve(&mut self, event: Event, clock: &Clock) {
        if let Some(connection) = self.connection(event.token) {
            connection.ended |= event.ended;
            self.work(event.token, clock);
        }
    }

    /// Goes on with one connection that had used up its turn; false if there is none.
    pub fn resume(&mut self, clock: &Clock) -> bool {
        let Some(token) = self.unfinished.pop_front() else { return false };
        if let Some(connection) = self.connection(token) {
            connection.queued = false;
            self.work(token, clock);
        }
        true
    }

    fn connection(&mut self, token: Token) -> Option<&mut Accepted> {
        self.connections.get_mut(token.slot as usize)?.as_mut().filter(|connection| token.is_of(connection.generation))
    }

    fn work(&mut self, token: Token, clock: &Clock) {
        let slot = token.slot as usize;
        let Some(connection) = &mut self.connections[slot] else { return };
        let (answers, met) = (&mut self.answers, &mut self.met_ns);
        let left_ns = self.left_ns[connection.listener as usize];
        let read = connection.read(&mut self.scratch, |wanted| {
            let now_ns = clock.now_ns();
            self.strayed += u64::from(left_ns.is_some_and(|left_ns| now_ns - left_ns > LEAVE_NS_MAX));
            if let Some(met_ns) = met.get_mut(wanted.slot as usize) {
                *met_ns = now_ns;
            }
            answer_to(answers, wanted.body_bytes)
        });
        let written = connection.write(&self.answers, &mut self.answered);
        match (read, written) {
            (Left::Ended, _) | (_, Left::Ended) => {
                self.connections[slot] = None;
                self.free.push(slot as u32);
            }
            (Left::Waiting, Left::Waiting) => {}
            _ if connection.queued => {}
            _ => {
                connection.queued = true;
                self.unfinished.push_back(token);
            }
        }
    }
}

/// The place of the answer with a body of this length; `None` where too many lengths have been asked for.
fn answer_to(answers: &mut Vec<Answer>, body_bytes: u64) -> Option<u32> {
    let good = &answers[REFUSAL as usize + 1..];
    if let Some(place) = good.iter().position(|answer| answer.body_bytes() == body_bytes) {
        return Some(REFUSAL + 1 + place as u32);
    }
    if answers.len() == ANSWERS_MAX {
        return None;
    }
    answers.push(Answer::new(body_bytes));
    Some(answers.len() as u32 - 1)
}

impl Accepted {
    fn new(stream: TcpStream, listener: u32, generation: u32) -> Self {
        Self {
            stream,
            listener,
            generation,
            head: Vec::new(),
            upload: None,
            owed: VecDeque::new(),
            written: 0,
            close: false,
            ended: false,
            queued: false,
        }
    }

    /// Reads what has arrived; `answer` tells what a request is owed.
    fn read(&mut self, scratch: &mut [u8], mut answer: impl FnMut(Wanted) -> Option<u32>) -> Left {
        let mut read = 0;
        while read < TURN_BYTES {
            match self.stream.read(scratch) {
                Ok(0) => return Left::Ended,
                Ok(arrived) => {
                    if self.take(&scratch[..arrived], &mut answer).is_none() {
                        return Left::Ended;
                    }
                    read += arrived as u64;
                    if arrived < scratch.len() && !self.ended {
                        return Left::Waiting;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Left::Waiting,
                Err(_) => return Left::Ended,
            }
        }
        Left::Unfinished
    }

    /// Takes requests, with their bodies, from what was read; `None` where it is no request.
    fn take(&mut self, mut bytes: &[u8], answer: &mut impl FnMut(Wanted) -> Option<u32>) -> Option<()> {
        while !bytes.is_empty() {
            if let Some(upload) = &mut self.upload {
                let here = upload.take(bytes);
                bytes = &bytes[here..];
                if upload.seen == upload.bytes {
                    self.owed.push_back(if upload.good { upload.answer } else { REFUSAL });
                    self.upload = None;
                }
                continue;
            }
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
                return (self.head.len() <= HEAD_BYTES_MAX).then_some(());
            };
            let head = &head[..length];
            let owed = answer(wire::wanted(head).unwrap_or(Wanted { slot: wire::NO_SLOT, body_bytes: 0 }))?;
            self.close |= wire::asks_to_close(head);
            match wire::upload_bytes(head) {
                0 => self.owed.push_back(owed),
                bytes => self.upload = Some(Upload { seen: 0, bytes, good: true, answer: owed }),
            }
            bytes = &bytes[length - before..];
            self.head.clear();
        }
        Some(())
    }

    /// Writes what is owed until the socket is full or the turn is over.
    fn write(&mut self, answers: &[Answer], answered: &mut u64) -> Left {
        let mut left = TURN_BYTES;
        while let Some(answer) = self.owed.front().map(|place| &answers[*place as usize]) {
            match self.stream.write(answer.piece(self.close, self.written, left)) {
                Ok(written) => {
                    self.written += written as u64;
                    left -= written as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Left::Waiting,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Left::Ended,
            }
            if self.written == answer.length(self.close) {
                self.written = 0;
                self.owed.pop_front();
                *answered += 1;
            } else if left == 0 {
                return Left::Unfinished;
            }
        }
        // A body that is still on its way is owed an answer, too.
        if self.close && self.upload.is_none() { Left::Ended } else { Left::Waiting }
    }
}

impl Upload {
    /// Looks at the next bytes of the connection; returns how many of them are of this body.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let here = bytes.len().min(usize::try_from(self.bytes - self.seen).unwrap_or(usize::MAX));
        self.good &= pattern::holds(self.seen, &bytes[..here]);
        self.seen += here as u64;
        here
    }
}

/// A listener on each of these, all with the same port, as the addresses of one EndpointSlice have.
fn bind_all(addresses: &[IpAddr]) -> io::Result<Vec<TcpListener>> {
    let bind = |address: IpAddr, port: u16| {
        TcpListener::bind((address, port)).map_err(|error| io::Error::new(error.kind(), format!("listening on {address}: {error}")))
    };
    let Some((first, others)) = addresses.split_first() else { return Ok(Vec::new()) };
    let mut last = None;
    for _ in 0..BIND_ATTEMPTS {
        let first = bind(*first, 0)?;
        let port = first.local_addr()?.port();
        match others.iter().map(|address| bind(*address, port)).collect::<io::Result<Vec<_>>>() {
            Ok(others) => return Ok(std::iter::once(first).chain(others).collect()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| ErrorKind::AddrInUse.into()))
}
