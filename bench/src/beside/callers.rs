//! Connections beside the measured ones that all behave alike: they ask, and then rest, ask again or leave.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::Beside;
use super::Deeds;
use super::Door;
use crate::connection::ClientTls;
use crate::connection::Connection;
use crate::connection::Received;
use crate::connection::Scratch;
use crate::poller::Event;
use crate::poller::Poller;
use crate::poller::Role;
use crate::poller::Token;
use crate::schedule;
use crate::schedule::Arrivals;
use crate::wire;
use crate::wire::Progress;
use crate::wire::ResponseCheck;
use crate::wire::Wanted;
use crate::wire::Wrong;

/// Body of an answer that only has to be there.
const SMALL_BYTES: u64 = 1024;
/// Bytes read in one piece of work: about as long as the answer to a request keeps the driver.
const PIECE_BYTES: usize = 64 << 10;
/// A paced reader takes so many pieces a second, or more where they would be larger than [`PIECE_BYTES`].
const PIECES_PER_S: u64 = 20;
/// A paced reader that was held up catches up with so much and no more.
const CATCH_UP_NS: u64 = 100_000_000;
/// Connections that may be opening at once, so that the proxy's backlog is never what is measured.
const OPENING_MAX: usize = 64;
/// What the kernel keeps for a slow reader until it reads, so that the proxy feels it.
const SLOW_BUFFER_BYTES: usize = 16 << 10;
/// Handshakes that may be unfinished; a proxy that has more of them is not keeping up, and the next one is a failure.
const UNFINISHED_MAX: u32 = 1024;
/// Due times are made from this seed: each round has the same.
const SEED: u64 = 1;
/// Failures after which a round is given up: the proxy is gone, or cannot hold so much.
const FAILURES_MAX: u64 = 1000;

/// How these connections behave.
#[derive(Clone, Copy, Debug)]
struct Habit {
    connections: u32,
    body_bytes: u64,
    then: Then,
    bytes_per_s: Option<u64>,
    /// Bytes the kernel may keep until they are read; as many as it likes, if not said.
    receive_buffer: Option<usize>,
    /// Connections that come one by one, so many a second; all of them come before the round, if not said.
    per_s: Option<f64>,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Rest,
    AskAgain,
    Leave,
}

impl Habit {
    fn of(beside: Beside) -> Self {
        let resting = |connections| Self {
            connections,
            body_bytes: SMALL_BYTES,
            then: Then::Rest,
            bytes_per_s: None,
            receive_buffer: None,
            per_s: None,
        };
        match beside {
            Beside::Idle { connections } => resting(connections),
            Beside::Stream { connections, bytes, bytes_per_s } => {
                Self { body_bytes: bytes, then: Then::AskAgain, bytes_per_s, ..resting(connections) }
            }
            Beside::Handshakes { per_s } => Self { then: Then::Leave, per_s: Some(per_s), ..resting(UNFINISHED_MAX) },
            Beside::SlowReaders { connections, bytes, bytes_per_s } => Self {
                body_bytes: bytes,
                then: Then::AskAgain,
                bytes_per_s: Some(bytes_per_s),
                receive_buffer: Some(SLOW_BUFFER_BYTES),
                ..resting(connections)
            },
            // A change opens no connection.
            Beside::Endpoints { .. } | Beside::Routes { .. } | Beside::Reload { .. } => resting(0),
        }
    }

    /// Bytes that are read at once.
    fn piece_bytes(self) -> usize {
        self.bytes_per_s.map_or(PIECE_BYTES, |bytes_per_s| (bytes_per_s / PIECES_PER_S).clamp(1, PIECE_BYTES as u64) as usize)
    }
}

/// All connections of one kind.
pub(super) struct Callers {
    habit: Habit,
    address: SocketAddr,
    tls: Option<ClientTls>,
    request: Vec<u8>,
    /// Set in the slots of all tokens, beside the place.
    mark: u32,
    /// Whether connections that come before the round may come.
    invited: bool,
    /// When the others come, in nanoseconds of the run's clock, the latest first.
    due_ns: Vec<u64>,
    lines: Vec<Option<Line>>,
    /// Places without a connection.
    free: Vec<u32>,
    /// Places whose connection may have something to read.
    ready: VecDeque<u32>,
    generation: u32,
    opening: usize,
    counts: Counts,
    /// The counts when the window began.
    before: Counts,
    failure: Option<String>,
    scratch: Scratch,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    opened: u64,
    answered: u64,
    bytes: u64,
    failed: u64,
}

/// One connection.
struct Line {
    connection: Connection,
    generation: u32,
    stage: Stage,
    check: ResponseCheck,
    /// Whether it stands among those that are ready.
    queued: bool,
    /// Whether the other side has ended: reading goes on until there.
    ended: bool,
    /// A paced reader reads no earlier.
    not_before_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Asking,
    Resting,
    Leaving,
}

impl Callers {
    pub(super) fn new(beside: Beside, door: &Door, mark: u32) -> Self {
        let habit = Habit::of(beside);
        let secure = door.tls || matches!(beside, Beside::Handshakes { .. });
        let wanted = Wanted { slot: wire::NO_SLOT, body_bytes: habit.body_bytes };
        Self {
            habit,
            address: if secure { door.https } else { door.http },
            tls: secure.then(|| door.client.clone()),
            request: wire::request(door.host, door.path, wanted, 0, habit.then == Then::Leave),
            mark,
            invited: false,
            due_ns: Vec::new(),
            lines: (0..habit.connections).map(|_| None).collect(),
            free: (0..habit.connections).rev().collect(),
            ready: VecDeque::new(),
            generation: 0,
            opening: 0,
            counts: Counts::default(),
            before: Counts::default(),
            failure: None,
            scratch: Scratch::default(),
        }
    }

    pub(super) fn invite(&mut self) {
        self.invited = self.habit.per_s.is_none();
    }

    pub(super) fn begin(&mut self, now_ns: u64, until_ns: u64) {
        if let Some(per_s) = self.habit.per_s {
            let due_ns = schedule::due_times(Arrivals::Poisson, per_s, until_ns - now_ns, u64::from(self.mark) + SEED);
            self.due_ns = due_ns.into_iter().rev().map(|due_ns| now_ns + due_ns).collect();
        }
    }

    pub(super) fn is_there(&self) -> bool {
        let settled = match self.habit.then {
            Then::Rest => Stage::Resting,
            Then::AskAgain => Stage::Asking,
            Then::Leave => return true,
        };
        self.lines.iter().all(|line| line.as_ref().is_some_and(|line| line.stage == settled))
    }

    pub(super) fn enter(&mut self) {
        self.before = self.counts;
    }

    pub(super) fn leave(&self) -> Deeds {
        Deeds {
            held: self.lines.iter().flatten().filter(|line| line.stage != Stage::Opening).count() as u32,
            opened: self.counts.opened - self.before.opened,
            answered: self.counts.answered - self.before.answered,
            bytes: self.counts.bytes - self.before.bytes,
            failed: self.counts.failed,
            failure: self.failure.clone(),
            ..Deeds::default()
        }
    }

    pub(super) fn wake(&mut self, place: u32, event: Event) {
        let Some(line) = self.lines.get_mut(place as usize).and_then(Option::as_mut) else { return };
        if event.token.is_of(line.generation) {
            line.ended |= event.ended;
            if !std::mem::replace(&mut line.queued, true) {
                self.ready.push_back(place);
            }
        }
    }

    /// Opens one connection or reads one piece of one.
    pub(super) fn turn(&mut self, now_ns: u64, poller: &Poller) -> io::Result<bool> {
        if self.due_ns.pop_if(|due_ns| *due_ns <= now_ns).is_some() {
            match self.free.pop() {
                Some(place) => self.open(place, poller)?,
                None => self.count_failure(&io::Error::other("the earlier ones are unfinished"))?,
            }
            return Ok(true);
        }
        if self.invited
            && self.opening < OPENING_MAX
            && let Some(place) = self.free.pop()
        {
            self.open(place, poller)?;
            return Ok(true);
        }
        let Some(place) = self.ready.pop_front() else { return Ok(false) };
        let Some(line) = &mut self.lines[place as usize] else { return Ok(false) };
        if line.not_before_ns > now_ns {
            self.ready.push_back(place);
            return Ok(false);
        }
        line.queued = false;
        if let Err(error) = self.work(place, now_ns) {
            self.fail(place, &error)?;
        }
        Ok(true)
    }

    fn open(&mut self, place: u32, poller: &Poller) -> io::Result<()> {
        self.generation += 1;
        let connection = Connection::open_with(self.address, self.tls.as_ref(), self.habit.receive_buffer)?;
        poller.add(&connection, Token { role: Role::Beside, generation: self.generation, slot: self.mark | place })?;
        self.opening += 1;
        self.lines[place as usize] = Some(Line {
            connection,
            generation: self.generation,
            stage: Stage::Opening,
            check: ResponseCheck::default(),
            queued: false,
            ended: false,
            not_before_ns: 0,
        });
        Ok(())
    }

    /// Takes one connection a step further: to its request, or over one piece of an answer.
    fn work(&mut self, place: u32, now_ns: u64) -> io::Result<()> {
        let Some(line) = &mut self.lines[place as usize] else { return Ok(()) };
        if line.stage == Stage::Opening {
            if line.connection.advance(&mut self.scratch)? {
                line.connection.send(&self.request)?;
                line.stage = Stage::Asking;
                self.opening -= 1;
                self.counts.opened += 1;
            }
            return Ok(());
        }
        line.connection.flush()?;
        let piece_bytes = self.habit.piece_bytes();
        let Some((read_bytes, progress)) = line.read(piece_bytes, self.habit.body_bytes, &mut self.scratch)? else {
            self.lines[place as usize] = None;
            self.free.push(place);
            return Ok(());
        };
        self.counts.bytes += read_bytes;
        if let Some(bytes_per_s) = self.habit.bytes_per_s {
            let from_ns = line.not_before_ns.max(now_ns.saturating_sub(CATCH_UP_NS));
            line.not_before_ns = from_ns + read_bytes * 1_000_000_000 / bytes_per_s;
        }
        // A read that does not fill its piece has emptied the socket, and the next byte is a new event.
        let is_full = read_bytes >= piece_bytes as u64;
        if (is_full || line.ended) && !std::mem::replace(&mut line.queued, true) {
            self.ready.push_back(place);
        }
        let Progress::Done { last } = progress else { return Ok(()) };
        self.counts.answered += 1;
        match self.habit.then {
            Then::Leave => line.stage = Stage::Leaving,
            Then::Rest | Then::AskAgain if last => return Err(io::Error::other("the proxy closes a connection that was to be kept")),
            Then::Rest => line.stage = Stage::Resting,
            Then::AskAgain => line.connection.send(&self.request)?,
        }
        Ok(())
    }

    /// Counts a failure; another connection takes the place of that one.
    fn fail(&mut self, place: u32, error: &io::Error) -> io::Result<()> {
        let line = self.lines[place as usize].take();
        self.opening -= usize::from(line.is_some_and(|line| line.stage == Stage::Opening));
        self.free.push(place);
        self.count_failure(error)
    }

    fn count_failure(&mut self, error: &io::Error) -> io::Result<()> {
        self.counts.failed += 1;
        let first = self.failure.get_or_insert_with(|| error.to_string());
        if self.counts.failed > FAILURES_MAX {
            return Err(io::Error::new(error.kind(), format!("{}: too many connections beside the load fail: {first}", self.address)));
        }
        Ok(())
    }
}

impl Line {
    /// Reads one piece: how many bytes of the wire it had, and how far the answer is; nothing once the connection is over as it should be.
    fn read(&mut self, piece_bytes: usize, body_bytes: u64, scratch: &mut Scratch) -> io::Result<Option<(u64, Progress)>> {
        let (check, is_due) = (&mut self.check, self.stage == Stage::Asking);
        let mut outcome = Ok(Progress::More);
        let received = self.connection.receive_some(scratch, piece_bytes, |bytes| {
            outcome = match outcome {
                Ok(Progress::More) if is_due => check.feed(bytes, body_bytes),
                Ok(_) => Err(Wrong::Surplus),
                wrong => wrong,
            };
        })?;
        let progress = outcome.map_err(|wrong| io::Error::other(format!("not the right answer: {wrong:?}")))?;
        match received {
            Received::Bytes(read_bytes) => Ok(Some((read_bytes as u64, progress))),
            Received::Nothing => Ok(Some((0, progress))),
            Received::End if self.stage == Stage::Leaving => Ok(None),
            Received::End => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the proxy has closed a connection before its time")),
        }
    }
}
