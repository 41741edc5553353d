//! Connections beside the measured ones that all behave alike: they ask, and then rest or ask again.

use std::collections::VecDeque;
use std::io;

use super::Beside;
use super::Deeds;
use super::Door;
use crate::connection::Connection;
use crate::connection::Received;
use crate::connection::Scratch;
use crate::poller::Event;
use crate::poller::Poller;
use crate::poller::Role;
use crate::poller::Token;
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
const PIECES_PER_S: u64 = 100;
/// A paced reader that was held up catches up with so much and no more.
const CATCH_UP_NS: u64 = 50_000_000;
/// Connections that may be opening at once, so that the proxy's backlog is never what is measured.
const OPENING_MAX: usize = 64;
/// Failures after which a round is given up: the proxy is gone, or cannot hold so much.
const FAILURES_MAX: u64 = 1000;

/// How these connections behave.
#[derive(Clone, Copy, Debug)]
struct Habit {
    connections: u32,
    body_bytes: u64,
    then: Then,
    bytes_per_s: Option<u64>,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Rest,
    AskAgain,
}

impl Habit {
    fn of(beside: Beside) -> Self {
        match beside {
            Beside::Idle { connections } => Self { connections, body_bytes: SMALL_BYTES, then: Then::Rest, bytes_per_s: None },
            Beside::Stream { connections, bytes, bytes_per_s } => {
                Self { connections, body_bytes: bytes, then: Then::AskAgain, bytes_per_s }
            }
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
    door: Door,
    request: Vec<u8>,
    /// Set in the slots of all tokens, beside the place.
    mark: u32,
    invited: bool,
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
}

impl Callers {
    pub(super) fn new(beside: Beside, door: &Door, mark: u32) -> Self {
        let habit = Habit::of(beside);
        let wanted = Wanted { slot: wire::NO_SLOT, body_bytes: habit.body_bytes };
        Self {
            habit,
            request: wire::request(&door.host, door.path, wanted, 0, false),
            door: door.clone(),
            mark,
            invited: false,
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
        self.invited = true;
    }

    pub(super) fn is_there(&self) -> bool {
        let settled = match self.habit.then {
            Then::Rest => Stage::Resting,
            Then::AskAgain => Stage::Asking,
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
            memory_bytes: None,
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
        let connection = Connection::open(self.door.address, self.door.tls.as_ref())?;
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
        let (read_bytes, progress) = line.read(piece_bytes, self.habit.body_bytes, &mut self.scratch)?;
        self.counts.bytes += read_bytes;
        if let Some(bytes_per_s) = self.habit.bytes_per_s {
            let from_ns = line.not_before_ns.max(now_ns.saturating_sub(CATCH_UP_NS));
            line.not_before_ns = from_ns + read_bytes * 1_000_000_000 / bytes_per_s;
        }
        // A read that does not fill its piece has emptied the socket, and the next byte is a new event.
        if (read_bytes >= piece_bytes as u64 || line.ended) && !std::mem::replace(&mut line.queued, true) {
            self.ready.push_back(place);
        }
        match progress {
            Progress::More => return Ok(()),
            Progress::Done { last: true } => return Err(io::Error::other("the proxy closes a connection that was to be kept")),
            Progress::Done { last: false } => self.counts.answered += 1,
        }
        match self.habit.then {
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
        self.counts.failed += 1;
        let first = self.failure.get_or_insert_with(|| error.to_string());
        if self.counts.failed > FAILURES_MAX {
            return Err(io::Error::new(error.kind(), format!("{}: too many connections beside the load fail: {first}", self.door.address)));
        }
        Ok(())
    }
}

impl Line {
    /// Reads one piece: how many bytes of the wire it had, and how far the answer is.
    fn read(&mut self, piece_bytes: usize, body_bytes: u64, scratch: &mut Scratch) -> io::Result<(u64, Progress)> {
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
            Received::Bytes(read_bytes) => Ok((read_bytes as u64, progress)),
            Received::Nothing => Ok((0, progress)),
            Received::End => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the proxy has closed a connection that was to be kept")),
        }
    }
}
