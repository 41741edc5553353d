//! A place for a connection of the client: a request goes out, its body piece by piece, and the answer is checked as it comes.

use std::io;

use crate::connection::Connection;
use crate::connection::READ_BYTES;
use crate::connection::Scratch;
use crate::mix::Kind;
use crate::pattern;
use crate::scenario::Request;
use crate::tally::Failure;
use crate::wire::Progress;
use crate::wire::ResponseCheck;
use crate::wire::Wrong;

/// Bytes sent on one connection before others have their turn.
const SEND_BYTES: u64 = READ_BYTES as u64;

/// One place for a connection.
pub(crate) struct Slot {
    pub(crate) phase: Phase,
    pub(crate) connection: Option<Connection>,
    pub(crate) generation: u32,
    /// A head for each kind of request.
    heads: Vec<Vec<u8>>,
    check: ResponseCheck,
    pub(crate) task: Option<Task>,
    /// The other side has ended: reading goes on until the end.
    ended: bool,
    /// Nothing is read before, in nanoseconds of the run's clock.
    pub(crate) resume_ns: u64,
    /// Whether it stands among those that go on without an event.
    pub(crate) postponed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
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
pub(crate) struct Task {
    pub(crate) intended_ns: u64,
    pub(crate) sent_ns: u64,
    pub(crate) kind: Kind,
    /// Bytes of its body that have gone out.
    uploaded: u64,
}

impl Task {
    pub(crate) fn new(intended_ns: u64, now_ns: u64, kind: Kind) -> Self {
        Self { intended_ns, sent_ns: now_ns, kind, uploaded: 0 }
    }
}

/// What one look at a connection has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchanged {
    pub(crate) progress: Progress,
    /// Whether the other side may send more.
    pub(crate) open: bool,
    /// Whether an answer has begun.
    pub(crate) begun: bool,
    /// Bytes of bodies, either way.
    pub(crate) body_bytes: u64,
    /// Bytes of the wire.
    pub(crate) read: usize,
    /// Whether there is more to do without a further event.
    pub(crate) unfinished: bool,
}

impl Slot {
    pub(crate) fn new(heads: Vec<Vec<u8>>) -> Self {
        Self {
            phase: Phase::Closed,
            connection: None,
            generation: 0,
            heads,
            check: ResponseCheck::default(),
            task: None,
            ended: false,
            resume_ns: 0,
            postponed: false,
        }
    }

    /// Puts a new connection in place of whatever was there.
    pub(crate) fn occupy(&mut self, connection: Connection) {
        self.check = ResponseCheck::default();
        self.phase = Phase::Opening;
        self.connection = Some(connection);
        self.ended = false;
        self.resume_ns = 0;
        self.postponed = false;
    }

    /// Gives the next request of this kind another head.
    pub(crate) fn address(&mut self, kind: Kind, head: Vec<u8>) {
        self.heads[kind as usize] = head;
    }

    /// Whether an answer is under way.
    pub(crate) fn has_begun(&self) -> bool {
        self.check.has_begun()
    }

    /// Sends the head of the request, and as much of its body as goes with it.
    ///
    /// # Errors
    /// Of the connection.
    pub(crate) fn send(&mut self, requests: &[Request]) -> io::Result<Uploaded> {
        let (Some(connection), Some(task)) = (&mut self.connection, &mut self.task) else { return Ok(Uploaded::default()) };
        let head = &self.heads[task.kind as usize];
        let length = requests[task.kind as usize].upload_bytes;
        if length == 0 {
            connection.send(head)?;
            return Ok(Uploaded::default());
        }
        let piece = pattern::from(0, length.min(SEND_BYTES));
        task.uploaded = connection.send_with(head, piece)? as u64;
        let whole = task.uploaded == length;
        // A TLS session takes less than a whole piece of a socket that is not full: only the next try tells.
        Ok(Uploaded { bytes: task.uploaded, whole, unfinished: !whole })
    }

    /// Goes on sending and reads `read_max` bytes of the wire at most.
    ///
    /// # Errors
    /// What is wrong with the answer, or that the connection is.
    pub(crate) fn exchange(
        &mut self,
        scratch: &mut Scratch,
        read_max: usize,
        ended: bool,
        requests: &[Request],
    ) -> Result<Exchanged, Failure> {
        let Some(connection) = &mut self.connection else { return Err(Failure::Broken) };
        self.ended |= ended;
        let request = self.task.map(|task| requests[task.kind as usize]);
        let (begun, seen) = (self.check.has_begun(), self.check.body_bytes);
        let mut outcome = Ok(Progress::More);
        let uploaded = connection.flush().and_then(|()| match (&mut self.task, request) {
            (Some(task), Some(request)) => upload(connection, task, request.upload_bytes),
            _ => Ok(Uploaded::default()),
        });
        let check = &mut self.check;
        let received = connection.receive(scratch, read_max, self.ended, |bytes| {
            outcome = match (outcome, request) {
                (Ok(Progress::More), Some(request)) => check.feed(bytes, request.body_bytes),
                (Ok(_), _) => Err(Wrong::Surplus),
                (wrong, _) => wrong,
            };
        });
        let progress = outcome.map_err(Failure::Response)?;
        let (Ok(uploaded), Ok(received)) = (uploaded, received) else { return Err(Failure::Broken) };
        let is_done = matches!(progress, Progress::Done { .. });
        if is_done && !uploaded.whole {
            return Err(Failure::Response(Wrong::Early));
        }
        Ok(Exchanged {
            progress,
            open: received.open,
            begun: !begun && (is_done || self.check.has_begun()),
            body_bytes: uploaded.bytes + self.check.body_bytes - seen,
            read: received.bytes,
            unfinished: uploaded.unfinished || received.unfinished,
        })
    }
}

/// What of a body has gone out.
pub(crate) struct Uploaded {
    pub(crate) bytes: u64,
    whole: bool,
    /// Whether the socket would take more.
    pub(crate) unfinished: bool,
}

impl Default for Uploaded {
    /// Of no body all is out.
    fn default() -> Self {
        Self { bytes: 0, whole: true, unfinished: false }
    }
}

/// Sends the next pieces of a body until the socket is full or the turn is over.
fn upload(connection: &mut Connection, task: &mut Task, length: u64) -> io::Result<Uploaded> {
    let before = task.uploaded;
    let end = length.min(before + SEND_BYTES);
    while task.uploaded < end {
        match connection.send_some(pattern::from(task.uploaded, end - task.uploaded))? {
            0 => break,
            sent => task.uploaded += sent as u64,
        }
    }
    Ok(Uploaded { bytes: task.uploaded - before, whole: task.uploaded == length, unfinished: task.uploaded == end && end < length })
}
