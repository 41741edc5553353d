//! The client side of a round: connections, the queue of due requests, and what became of each.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use crate::connection::ClientTls;
use crate::connection::Connection;
use crate::connection::READ_BYTES;
use crate::connection::Scratch;
use crate::exchange::Exchanged;
use crate::exchange::Phase;
use crate::exchange::Slot;
use crate::exchange::Task;
use crate::hosts::Address;
use crate::hosts::Addresses;
use crate::mix::Kind;
use crate::mix::Mix;
use crate::poller::Event;
use crate::poller::Poller;
use crate::poller::Role;
use crate::poller::Token;
use crate::scenario::Request;
use crate::tally;
use crate::tally::Failure;
use crate::tally::Tally;
use crate::timeline::Recorder;
use crate::wire;
use crate::wire::Progress;
use crate::wire::Wanted;

/// Failed connection attempts after which a round is given up: the proxy is gone.
const CONNECT_FAILURES_MAX: u64 = 1000;
/// How often a second a paced reader reads, where its reads are not shorter than [`PACED_READ_BYTES_MIN`] then.
const PACED_READS_PER_S: u64 = 20;
const PACED_READ_BYTES_MIN: u64 = 512;
/// Room in the kernel for what a paced reader has not read: little, so that its slowness is felt by the proxy and not by its socket.
const PACED_RECEIVE_BUFFER: usize = 16 << 10;

/// Whom to ask, what, and over how many connections.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<ClientTls>,
    pub connections: u32,
    /// One connection per request.
    pub close: bool,
    pub host: Cow<'static, str>,
    pub path: &'static str,
    /// Whom each request asks, where it is not always the same.
    pub addresses: Option<Addresses>,
    /// What is asked for; the kinds a request is drawn from.
    pub requests: Vec<Request>,
    /// How fast each connection reads at most; as fast as it can, if not given.
    pub read_bytes_per_s: Option<u64>,
}

impl Target {
    /// What may be read at once.
    fn read_max(&self) -> usize {
        let paced = |bytes_per_s: u64| (bytes_per_s / PACED_READS_PER_S).clamp(PACED_READ_BYTES_MIN, READ_BYTES as u64) as usize;
        self.read_bytes_per_s.map_or(READ_BYTES, paced)
    }

    fn open(&self) -> io::Result<Connection> {
        Connection::open_with(self.address, self.tls.as_ref(), self.read_bytes_per_s.map(|_| PACED_RECEIVE_BUFFER))
    }
}

/// When requests go out.
pub enum Pace {
    /// As soon as a connection is free.
    Closed,
    /// At these times, in nanoseconds from the beginning, ascending.
    Open(Vec<u64>),
}

/// The span whose requests count, in nanoseconds of the run's clock.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub begin_ns: u64,
    pub from_ns: u64,
    pub until_ns: u64,
}

impl Window {
    fn holds(self, at_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&at_ns)
    }
}

/// All client connections of one round.
pub struct Client {
    target: Target,
    slots: Vec<Slot>,
    /// Slots that were free when they were put here; one may have lost its connection since.
    free: VecDeque<u32>,
    /// Intended times and kinds of requests that no connection was free for.
    waiting: VecDeque<(u64, Kind)>,
    /// Connections to go on with at a time, without an event: the time, the slot and its generation.
    postponed: BinaryHeap<Reverse<(u64, u32, u32)>>,
    pace: Pace,
    mix: Mix,
    next_due: usize,
    window: Option<Window>,
    recorder: Recorder,
    scratch: Scratch,
    connect_failures: u64,
    in_flight: u64,
    /// Whether the closed loop goes on.
    asking: bool,
    pub tally: Tally,
}

impl Client {
    /// Opens all connections, where the scenario keeps any. The seed decides which kind of request comes when.
    ///
    /// # Errors
    /// Of the first connection that cannot be begun.
    pub fn open(target: Target, pace: Pace, seed: u64, poller: &Poller) -> io::Result<Self> {
        let head = |slot: u32, request: &Request| {
            let wanted = Wanted { slot, body_bytes: request.body_bytes };
            wire::request(&target.host, target.path, wanted, request.upload_bytes, target.close)
        };
        let slots = (0..target.connections).map(|slot| Slot::new(target.requests.iter().map(|request| head(slot, request)).collect()));
        let mut client = Self {
            slots: slots.collect(),
            free: VecDeque::new(),
            waiting: VecDeque::new(),
            postponed: BinaryHeap::new(),
            pace,
            mix: Mix::new(&target.requests, seed),
            next_due: 0,
            window: None,
            recorder: Recorder::new(0, 0),
            scratch: Scratch::default(),
            connect_failures: 0,
            in_flight: 0,
            asking: false,
            tally: Tally::default(),
            target,
        };
        for slot in 0..client.target.connections {
            if client.target.close {
                client.free.push_back(slot);
            } else {
                client.connect(slot, poller)?;
            }
        }
        Ok(client)
    }

    /// Whether every connection may carry a request.
    pub fn is_open(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Starts the schedule, or the closed loop.
    ///
    /// # Errors
    /// Where the proxy is gone.
    pub fn begin(&mut self, window: Window, now_ns: u64, poller: &Poller) -> io::Result<()> {
        self.window = Some(window);
        self.recorder = Recorder::new(window.from_ns, window.until_ns);
        if let Pace::Open(due) = &self.pace {
            let planned = due.iter().filter(|due_ns| window.holds(window.begin_ns + **due_ns)).count();
            self.tally.planned = planned as u64;
            return Ok(());
        }
        self.asking = true;
        for _ in 0..self.free.len() {
            if let Some(slot) = self.free.pop_front() {
                let kind = self.mix.draw();
                self.assign(slot, (now_ns, kind), now_ns, poller)?;
            }
        }
        Ok(())
    }

    /// Hands every request that is due to a free connection, or to the queue; true if there was one.
    ///
    /// # Errors
    /// Where the proxy is gone.
    pub fn dispatch(&mut self, now_ns: u64, poller: &Poller) -> io::Result<bool> {
        let Some(window) = self.window else { return Ok(false) };
        let first = self.next_due;
        while let Pace::Open(due) = &self.pace
            && let Some(due_ns) = due.get(self.next_due)
            && window.begin_ns + due_ns <= now_ns
        {
            let intended_ns = window.begin_ns + due_ns;
            self.next_due += 1;
            if window.holds(intended_ns) {
                tally::record(&mut self.tally.lateness, now_ns - intended_ns);
            }
            let due = (intended_ns, self.mix.draw());
            match self.take_free() {
                Some(slot) => self.assign(slot, due, now_ns, poller)?,
                None => self.waiting.push_back(due),
            }
        }
        Ok(self.next_due > first)
    }

    /// Whether every request has been answered or has failed, and none is to come. Nobody waits for what a paced reader is reading.
    pub fn is_done(&self) -> bool {
        let is_over = match &self.pace {
            Pace::Open(due) => self.next_due == due.len() && self.waiting.is_empty(),
            Pace::Closed => !self.asking,
        };
        is_over && self.in_flight == self.cut()
    }

    /// Answers on their way that are cut at the end, which is the readers' doing and nobody's fault: those that have begun and are paced.
    fn cut(&self) -> u64 {
        let is_cut = |slot: &&Slot| slot.task.is_some() && slot.has_begun();
        if self.target.read_bytes_per_s.is_some() { self.slots.iter().filter(is_cut).count() as u64 } else { 0 }
    }

    /// Lets the closed loop run out.
    pub fn stop_asking(&mut self) {
        self.asking = false;
    }

    /// Counts what is still out as lost and closes everything.
    pub fn end(mut self) -> Tally {
        let paced = self.target.read_bytes_per_s.is_some();
        self.tally.unfinished = self.cut();
        self.tally.errors.timeout += self.in_flight + self.waiting.len() as u64 - self.tally.unfinished;
        for task in self.slots.iter().filter(|slot| !(paced && slot.has_begun())).filter_map(|slot| slot.task) {
            self.recorder.error(task.intended_ns);
        }
        for (intended_ns, _) in &self.waiting {
            self.recorder.error(*intended_ns);
        }
        self.tally.timeline = self.recorder.timeline();
        self.tally
    }

    /// Carries one connection on.
    ///
    /// # Errors
    /// Where the proxy is gone.
    pub fn advance(&mut self, event: Event, now_ns: u64, met_ns: &[u64], poller: &Poller) -> io::Result<()> {
        let place = event.token.slot;
        let Some(slot) = self.slots.get_mut(place as usize) else { return Ok(()) };
        let Some(connection) = slot.connection.as_mut().filter(|_| event.token.is_of(slot.generation)) else { return Ok(()) };
        if slot.phase == Phase::Opening {
            return match connection.advance(&mut self.scratch) {
                Ok(false) => Ok(()),
                Ok(true) => {
                    slot.phase = Phase::Ready;
                    if let Some(kind) = connection.handshake().filter(|_| self.window.is_some_and(|window| window.holds(now_ns))) {
                        self.tally.handshakes.count(kind);
                    }
                    match slot.task {
                        Some(_) => self.send(place, now_ns, poller),
                        None => self.release(place, now_ns, poller),
                    }
                }
                Err(error) => self.fail(place, Failure::Connect(error), now_ns, poller),
            };
        }
        if now_ns < slot.resume_ns {
            let resume_ns = slot.resume_ns;
            self.postpone(place, resume_ns);
            return Ok(());
        }
        let exchanged = match slot.exchange(&mut self.scratch, self.target.read_max(), event.ended, &self.target.requests) {
            Ok(exchanged) => exchanged,
            Err(failure) => return self.fail(place, failure, now_ns, poller),
        };
        self.count(place, exchanged, now_ns);
        self.pace_on(place, exchanged, now_ns);
        let done = if let Progress::Done { last } = exchanged.progress {
            self.complete(place, last, now_ns, met_ns[place as usize]);
            true
        } else {
            false
        };
        let slot = &mut self.slots[place as usize];
        match (exchanged.open, slot.phase) {
            (false, Phase::Leaving) if self.target.close => self.close(place, now_ns, poller),
            (false, _) if slot.task.is_some() => self.fail(place, Failure::Broken, now_ns, poller),
            // Closed between two requests or after the last one, as HTTP allows: a new one takes its place.
            (false, _) => self.connect(place, poller),
            (true, Phase::Ready) if done => self.release(place, now_ns, poller),
            (true, _) => Ok(()),
        }
    }

    /// How many connections are to go on without an event, now or later.
    pub fn postponed(&self) -> usize {
        self.postponed.len()
    }

    /// The next connection whose time has come, as if something had happened there.
    pub fn resumed(&mut self, now_ns: u64) -> Option<Event> {
        let Reverse((at_ns, place, generation)) = *self.postponed.peek()?;
        if at_ns > now_ns {
            return None;
        }
        self.postponed.pop();
        let slot = &mut self.slots[place as usize];
        // What an earlier connection of this slot has left says nothing of the present one.
        slot.postponed &= slot.generation != generation;
        Some(Event { token: Token { role: Role::Client, generation, slot: place }, ended: false })
    }

    fn postpone(&mut self, place: u32, at_ns: u64) {
        let slot = &mut self.slots[place as usize];
        if !slot.postponed {
            slot.postponed = true;
            self.postponed.push(Reverse((at_ns, place, slot.generation)));
        }
    }

    /// Decides when a connection goes on without an event: a paced reader once it may read again, others after their neighbours.
    fn pace_on(&mut self, place: u32, exchanged: Exchanged, now_ns: u64) {
        if let Some(bytes_per_s) = self.target.read_bytes_per_s.filter(|_| exchanged.read > 0) {
            let resume_ns = now_ns + exchanged.read as u64 * 1_000_000_000 / bytes_per_s;
            self.slots[place as usize].resume_ns = resume_ns;
            self.postpone(place, resume_ns);
        } else if exchanged.unfinished {
            self.postpone(place, now_ns);
        }
    }

    /// Counts what goes on while a request is under way.
    fn count(&mut self, place: u32, exchanged: Exchanged, now_ns: u64) {
        self.carried(exchanged.body_bytes, now_ns);
        let Some(window) = self.window else { return };
        let Some(task) = self.slots[place as usize].task.filter(|_| exchanged.begun) else { return };
        let is_long = self.target.requests[task.kind as usize].has_long_answer();
        if is_long && matches!(self.pace, Pace::Open(_)) && window.holds(task.intended_ns) {
            tally::record(&mut self.tally.first_byte, now_ns - task.intended_ns);
        }
    }

    /// Counts bytes of bodies.
    fn carried(&mut self, bytes: u64, now_ns: u64) {
        if bytes > 0 && self.window.is_some_and(|window| window.holds(now_ns)) {
            self.tally.body_bytes += bytes;
            self.recorder.bytes(now_ns, bytes);
        }
    }

    /// A free slot whose connection is still there.
    fn take_free(&mut self) -> Option<u32> {
        let usable = if self.target.close { Phase::Closed } else { Phase::Ready };
        loop {
            let place = self.free.pop_front()?;
            let slot = &self.slots[place as usize];
            if slot.phase == usable && slot.task.is_none() {
                return Some(place);
            }
        }
    }

    /// Gives a request to a free slot.
    fn assign(&mut self, place: u32, (intended_ns, kind): (u64, Kind), now_ns: u64, poller: &Poller) -> io::Result<()> {
        self.in_flight += 1;
        if self.window.is_some_and(|window| window.holds(intended_ns)) {
            self.tally.sent += 1;
        }
        let slot = &mut self.slots[place as usize];
        slot.task = Some(Task::new(intended_ns, now_ns, kind));
        if let Some(addresses) = &mut self.target.addresses {
            let (Address { host, path }, request) = (addresses.draw(), &self.target.requests[kind as usize]);
            let wanted = Wanted { slot: place, body_bytes: request.body_bytes };
            slot.address(kind, wire::request(host, path, wanted, request.upload_bytes, self.target.close));
        }
        if slot.phase == Phase::Ready { self.send(place, now_ns, poller) } else { self.connect(place, poller) }
    }

    fn send(&mut self, place: u32, now_ns: u64, poller: &Poller) -> io::Result<()> {
        let slot = &mut self.slots[place as usize];
        if let Some(task) = slot.task.as_mut().filter(|_| !self.target.close) {
            task.sent_ns = now_ns;
        }
        match slot.send(&self.target.requests) {
            Ok(uploaded) => {
                self.carried(uploaded.bytes, now_ns);
                if uploaded.unfinished {
                    self.postpone(place, now_ns);
                }
                Ok(())
            }
            Err(_) => self.fail(place, Failure::Broken, now_ns, poller),
        }
    }

    /// A whole, good response is there; after the `last` one the proxy closes.
    fn complete(&mut self, place: u32, last: bool, now_ns: u64, met_ns: u64) {
        let slot = &mut self.slots[place as usize];
        let Some(task) = slot.task.take() else { return };
        if self.target.close || last {
            slot.phase = Phase::Leaving;
        }
        self.in_flight -= 1;
        let Some(window) = self.window else { return };
        let completed_inside = window.holds(now_ns);
        self.tally.completed += u64::from(completed_inside);
        self.recorder.answer(now_ns);
        let counted_at_ns = match self.pace {
            Pace::Open(_) => task.intended_ns,
            Pace::Closed => now_ns,
        };
        if window.holds(counted_at_ns) {
            self.recorder.latency(counted_at_ns, now_ns - task.intended_ns);
            tally::record(&mut self.tally.latency, now_ns - task.intended_ns);
            tally::record(&mut self.tally.service, now_ns - task.sent_ns);
            // Only an upstream of this process stamps requests: another host has another clock.
            if met_ns > 0 {
                tally::record(&mut self.tally.request_leg, met_ns.saturating_sub(task.sent_ns));
                tally::record(&mut self.tally.response_leg, now_ns.saturating_sub(met_ns));
            }
        }
    }

    /// A slot may take a request: the oldest that waits, the next of the closed loop, or none yet.
    fn release(&mut self, place: u32, now_ns: u64, poller: &Poller) -> io::Result<()> {
        if let Some(due) = self.waiting.pop_front() {
            return self.assign(place, due, now_ns, poller);
        }
        if self.asking {
            let kind = self.mix.draw();
            return self.assign(place, (now_ns, kind), now_ns, poller);
        }
        self.free.push_back(place);
        Ok(())
    }

    /// Drops the connection of a slot that opens one per request.
    fn close(&mut self, place: u32, now_ns: u64, poller: &Poller) -> io::Result<()> {
        let slot = &mut self.slots[place as usize];
        slot.connection = None;
        slot.phase = Phase::Closed;
        self.release(place, now_ns, poller)
    }

    /// Opens a connection in this slot, in place of whatever was there.
    fn connect(&mut self, place: u32, poller: &Poller) -> io::Result<()> {
        let slot = &mut self.slots[place as usize];
        slot.generation += 1;
        let connection = self.target.open()?;
        poller.add(&connection, Token { role: Role::Client, generation: slot.generation, slot: place })?;
        slot.occupy(connection);
        Ok(())
    }

    /// Counts a failure and starts the slot anew.
    fn fail(&mut self, place: u32, failure: Failure, now_ns: u64, poller: &Poller) -> io::Result<()> {
        let slot = &mut self.slots[place as usize];
        slot.connection = None;
        slot.phase = Phase::Closed;
        if slot.task.take().is_some() {
            self.in_flight -= 1;
        }
        self.tally.errors.count(&failure);
        if let Failure::Response(wire::Wrong::Status(status)) = failure {
            self.tally.last_status = Some(status);
        }
        self.recorder.error(now_ns);
        if let Failure::Connect(error) = failure {
            self.connect_failures += 1;
            if self.connect_failures > CONNECT_FAILURES_MAX {
                return Err(io::Error::new(error.kind(), format!("{} cannot be reached: {error}", self.target.address)));
            }
        }
        if self.target.close { self.release(place, now_ns, poller) } else { self.connect(place, poller) }
    }
}
