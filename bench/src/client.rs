//! The client side of a round: connections, the queue of due requests, and what became of each.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use crate::connection::ClientTls;
use crate::connection::Connection;
use crate::connection::Scratch;
use crate::hosts::Address;
use crate::hosts::Addresses;
use crate::poller::Event;
use crate::poller::Poller;
use crate::poller::Role;
use crate::poller::Token;
use crate::tally;
use crate::tally::Failure;
use crate::tally::Tally;
use crate::timeline::Recorder;
use crate::wire;
use crate::wire::Progress;
use crate::wire::ResponseCheck;
use crate::wire::Wanted;

/// Failed connection attempts after which a round is given up: the proxy is gone.
const CONNECT_FAILURES_MAX: u64 = 1000;

/// Whom to ask, what, and over how many connections.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<ClientTls>,
    pub connections: u32,
    /// One connection per request.
    pub close: bool,
    pub host: &'static str,
    pub path: &'static str,
    /// Whom each request asks, where it is not always the same.
    pub addresses: Option<Addresses>,
    /// Length of the body that is asked for and must come back.
    pub body_bytes: u64,
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
    /// Intended times of requests that no connection was free for.
    waiting: VecDeque<u64>,
    pace: Pace,
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

/// One place for a connection.
struct Slot {
    phase: Phase,
    connection: Option<Connection>,
    generation: u32,
    request: Vec<u8>,
    check: ResponseCheck,
    task: Option<Task>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No connection; the next request opens one.
    Closed,
    /// TCP or TLS is being set up.
    Opening,
    /// Requests may go out.
    Ready,
    /// The answer was whole; the proxy closes.
    Leaving,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Task {
    intended_ns: u64,
    sent_ns: u64,
}

impl Client {
    /// Opens all connections, where the scenario keeps any.
    ///
    /// # Errors
    /// Of the first connection that cannot be begun.
    pub fn open(target: Target, pace: Pace, poller: &Poller) -> io::Result<Self> {
        let slots = (0..target.connections).map(|slot| Slot {
            phase: Phase::Closed,
            connection: None,
            generation: 0,
            request: wire::request(target.host, target.path, Wanted { slot, body_bytes: target.body_bytes }, 0, target.close),
            check: ResponseCheck::default(),
            task: None,
        });
        let mut client = Self {
            slots: slots.collect(),
            free: VecDeque::new(),
            waiting: VecDeque::new(),
            pace,
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
                self.assign(slot, now_ns, now_ns, poller)?;
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
            match self.take_free() {
                Some(slot) => self.assign(slot, intended_ns, now_ns, poller)?,
                None => self.waiting.push_back(intended_ns),
            }
        }
        Ok(self.next_due > first)
    }

    /// Whether every scheduled request has been answered or has failed.
    pub fn is_done(&self) -> bool {
        match &self.pace {
            Pace::Open(due) => self.next_due == due.len() && self.waiting.is_empty() && self.in_flight == 0,
            Pace::Closed => !self.asking && self.in_flight == 0,
        }
    }

    /// Lets the closed loop run out.
    pub fn stop_asking(&mut self) {
        self.asking = false;
    }

    /// Counts what is still out as lost and closes everything.
    pub fn end(mut self) -> Tally {
        let unanswered = self.in_flight + self.waiting.len() as u64;
        self.tally.errors.timeout += unanswered;
        for task in self.slots.iter().filter_map(|slot| slot.task) {
            self.recorder.error(task.intended_ns);
        }
        for intended_ns in &self.waiting {
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
        let mut outcome = Ok(Progress::More);
        let (check, body_bytes) = (&mut slot.check, self.target.body_bytes);
        let received = connection.flush().and_then(|()| {
            connection.receive(&mut self.scratch, event.ended, |bytes| {
                outcome = match outcome {
                    Ok(Progress::More) => check.feed(bytes, body_bytes),
                    Ok(Progress::Done { .. }) => Err(wire::Wrong::Surplus),
                    wrong => wrong,
                };
            })
        });
        let open = match (received, outcome) {
            (Ok(open), Ok(progress)) => {
                if let Progress::Done { last } = progress {
                    self.complete(place, last, now_ns, met_ns[place as usize]);
                }
                open
            }
            (_, Err(wrong)) => return self.fail(place, Failure::Response(wrong), now_ns, poller),
            (Err(_), _) => return self.fail(place, Failure::Broken, now_ns, poller),
        };
        let slot = &mut self.slots[place as usize];
        match (open, slot.phase) {
            (false, Phase::Leaving) if self.target.close => self.close(place, now_ns, poller),
            (false, _) if slot.task.is_some() => self.fail(place, Failure::Broken, now_ns, poller),
            // Closed between two requests or after the last one, as HTTP allows: a new one takes its place.
            (false, _) => self.connect(place, poller),
            (true, Phase::Ready) if matches!(outcome, Ok(Progress::Done { .. })) => self.release(place, now_ns, poller),
            (true, _) => Ok(()),
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
    fn assign(&mut self, place: u32, intended_ns: u64, now_ns: u64, poller: &Poller) -> io::Result<()> {
        self.in_flight += 1;
        if self.window.is_some_and(|window| window.holds(intended_ns)) {
            self.tally.sent += 1;
        }
        let slot = &mut self.slots[place as usize];
        slot.task = Some(Task { intended_ns, sent_ns: now_ns });
        if let Some(addresses) = &mut self.target.addresses {
            let Address { host, path } = addresses.draw();
            let wanted = Wanted { slot: place, body_bytes: self.target.body_bytes };
            slot.request = wire::request(host, path, wanted, 0, self.target.close);
        }
        if slot.phase == Phase::Ready { self.send(place, now_ns, poller) } else { self.connect(place, poller) }
    }

    fn send(&mut self, place: u32, now_ns: u64, poller: &Poller) -> io::Result<()> {
        let slot = &mut self.slots[place as usize];
        let (Some(connection), Some(task)) = (&mut slot.connection, &mut slot.task) else { return Ok(()) };
        if !self.target.close {
            task.sent_ns = now_ns;
        }
        match connection.send(&slot.request) {
            Ok(()) => Ok(()),
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
            tally::record(&mut self.tally.request_leg, met_ns.saturating_sub(task.sent_ns));
            tally::record(&mut self.tally.response_leg, now_ns.saturating_sub(met_ns));
        }
    }

    /// A slot may take a request: the oldest that waits, the next of the closed loop, or none yet.
    fn release(&mut self, place: u32, now_ns: u64, poller: &Poller) -> io::Result<()> {
        if let Some(intended_ns) = self.waiting.pop_front() {
            return self.assign(place, intended_ns, now_ns, poller);
        }
        if self.asking {
            return self.assign(place, now_ns, now_ns, poller);
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
        slot.check = ResponseCheck::default();
        slot.generation += 1;
        slot.phase = Phase::Opening;
        let connection = Connection::open(self.target.address, self.target.tls.as_ref())?;
        poller.add(&connection, Token { role: Role::Client, generation: slot.generation, slot: place })?;
        slot.connection = Some(connection);
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
