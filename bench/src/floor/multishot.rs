//! The relay on io_uring with receives that stay in place: one system call for each wake-up, and no completion for a send.
//!
//! What has arrived for an end waits in its queue until the next enter, which submits one send for it that may not wait. If the
//! kernel says nothing by the end of that enter, all was sent, and the buffer is free again. If it says that there was no room, the
//! rest is submitted as a send that waits, and the other end is soon heard no more; what it says until then is copied where buffers
//! are scarce, for they are common to all.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::cqueue;
use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use slab::Slab;

use crate::floor::Door;
use crate::floor::Ends;
use crate::floor::Stage;
use crate::floor::buffers::Buffers;
use crate::floor::queue::Completion;
use crate::floor::queue::Queue;

/// Unsent chunks at which the other end is heard no more, and those at which it is heard again.
const UNSENT_CHUNKS_MAX: usize = 8;
const UNSENT_CHUNKS_LOW: usize = 4;

/// The listener's name; operations are named by pair, side and kind.
const LISTENER: u64 = u64::MAX;

/// What an operation does, as its name tells.
#[derive(Clone, Copy)]
enum Kind {
    Receive,
    /// A send that completes within the enter that submits it.
    SendNow,
    /// A send that waits for room.
    SendWaiting,
    Cancel,
}

/// One end of a pair.
#[derive(Clone, Copy)]
struct Place {
    pair: usize,
    side: usize,
}

impl Place {
    fn name(self, kind: Kind) -> u64 {
        (self.pair as u64) << 3 | (self.side as u64) << 2 | kind as u64
    }

    fn of(name: u64) -> (Self, Kind) {
        let kind = match name & 3 {
            0 => Kind::Receive,
            1 => Kind::SendNow,
            2 => Kind::SendWaiting,
            _ => Kind::Cancel,
        };
        (Self { pair: (name >> 3) as usize, side: (name >> 2 & 1) as usize }, kind)
    }

    fn other(self) -> Self {
        Self { pair: self.pair, side: 1 - self.side }
    }
}

struct Pair {
    ends: [End; 2],
    stage: Stage,
}

struct End {
    socket: TcpStream,
    receiving: Receiving,
    /// What the other end has sent to this one, oldest first.
    unsent: VecDeque<Chunk>,
    sending: Sending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Armed,
    /// Still armed; its cancellation is on the way.
    Stopping,
    Stopped,
    /// Stopped, for there was no buffer.
    Starved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Idle,
    /// Its send is built by the next enter.
    Due,
    /// Submitted by the current enter: done, unless it says otherwise.
    Now,
    /// Until there is room.
    Waiting,
}

/// Bytes that are to be sent.
enum Chunk {
    /// In a buffer of the pool, from a place of it on.
    Pooled { id: u16, from: u32, length: u32 },
    /// In memory of their own, from a place of it on.
    Copied { bytes: Vec<u8>, from: usize },
}

impl Chunk {
    fn unsent(&self, buffers: &Buffers) -> (*const u8, u32) {
        match self {
            Self::Pooled { id, from, length } => (buffers.address(*id).wrapping_add(*from as usize), length - from),
            Self::Copied { bytes, from } => (bytes[*from..].as_ptr(), (bytes.len() - from) as u32),
        }
    }

    /// So many more bytes of it were sent; whether that was the rest.
    fn advance(&mut self, sent: usize) -> bool {
        match self {
            Self::Pooled { from, length, .. } => {
                *from += sent as u32;
                from == length
            }
            Self::Copied { bytes, from } => {
                *from += sent;
                *from == bytes.len()
            }
        }
    }

    /// Leaves the pool.
    fn spare(&mut self, buffers: &mut Buffers) {
        if let Self::Pooled { id, from, length } = *self {
            *self = Self::Copied { bytes: buffers.copy(id, from as usize, (length - from) as usize), from: 0 };
            buffers.give_back(id);
        }
    }

    fn free(self, buffers: &mut Buffers) {
        if let Self::Pooled { id, .. } = self {
            buffers.give_back(id);
        }
    }
}

impl End {
    fn new(socket: TcpStream) -> Self {
        Self { socket, receiving: Receiving::Stopped, unsent: VecDeque::new(), sending: Sending::Idle }
    }

    fn fd(&self) -> Fd {
        Fd(self.socket.as_raw_fd())
    }

    /// Whether the kernel knows nothing of it.
    fn is_at_rest(&self) -> bool {
        matches!(self.receiving, Receiving::Stopped | Receiving::Starved) && self.sending == Sending::Idle
    }
}

pub(super) fn run(mut door: Door) -> io::Result<Infallible> {
    let mut relay = Relay {
        queue: Queue::new()?,
        buffers: Buffers::new(),
        pairs: Slab::new(),
        due: Vec::new(),
        submitted: Vec::new(),
        starved: VecDeque::new(),
    };
    relay.queue.provide(&relay.buffers)?;
    let listener = Fd(door.listener.as_raw_fd());
    relay.queue.watch(listener, LISTENER)?;
    let mut completions: Vec<Completion> = Vec::new();
    loop {
        relay.feed_starved()?;
        let more_follows = relay.build_sends()?;
        relay.queue.enter(!more_follows, &mut completions)?;
        for completion in completions.drain(..) {
            if completion.name != LISTENER {
                relay.complete(&completion)?;
                continue;
            }
            if !cqueue::more(completion.flags) {
                relay.queue.watch(listener, LISTENER)?;
            }
            while let Some(ends) = door.admit()? {
                relay.begin(ends)?;
            }
        }
        relay.settle()?;
    }
}

struct Relay {
    /// First, so that the kernel lets go of the buffers before they are freed.
    queue: Queue,
    buffers: Buffers,
    pairs: Slab<Pair>,
    /// Ends with something to send.
    due: Vec<Place>,
    /// Ends whose send was submitted by the current enter.
    submitted: Vec<Place>,
    /// Ends that wait for a buffer to receive into.
    starved: VecDeque<Place>,
}

impl Relay {
    fn begin(&mut self, ends: Ends) -> io::Result<()> {
        let pair = self.pairs.insert(Pair { ends: ends.map(End::new), stage: Stage::Open });
        self.receive(Place { pair, side: 0 })?;
        self.receive(Place { pair, side: 1 })
    }

    fn end(&mut self, place: Place) -> &mut End {
        &mut self.pairs[place.pair].ends[place.side]
    }

    /// Hears an end from now on, whenever it says something.
    fn receive(&mut self, place: Place) -> io::Result<()> {
        let end = self.end(place);
        end.receiving = Receiving::Armed;
        let entry = opcode::RecvMulti::new(end.fd(), 0).build();
        self.queue.push(&entry.user_data(place.name(Kind::Receive)))
    }

    /// Lets as many ends receive again as there are buffers: all at once would find too few again.
    fn feed_starved(&mut self) -> io::Result<()> {
        for _ in 0..self.buffers.free().min(self.starved.len()) {
            let Some(place) = self.starved.pop_front() else { break };
            let is_waiting = |pair: &Pair| pair.stage == Stage::Open && pair.ends[place.side].receiving == Receiving::Starved;
            if self.pairs.get(place.pair).is_some_and(is_waiting) {
                self.receive(place)?;
            }
        }
        Ok(())
    }

    /// Builds one send for each end that has something to send. True where there is something to do after this enter that no
    /// completion will tell of.
    fn build_sends(&mut self) -> io::Result<bool> {
        let mut more_follows = false;
        while let Some(place) = self.due.pop() {
            let Some(pair) = self.pairs.get_mut(place.pair) else { continue };
            let is_heard = pair.ends[1 - place.side].receiving == Receiving::Armed;
            let end = &mut pair.ends[place.side];
            // It has failed since.
            let Some(chunk) = end.unsent.front().filter(|_| end.sending == Sending::Due) else { continue };
            more_follows |= end.unsent.len() > 1 || pair.stage != Stage::Open || !is_heard || !self.starved.is_empty();
            let (address, length) = chunk.unsent(&self.buffers);
            // WAITALL: without it a short send would be a success, and so be silent.
            let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits() | RecvFlags::WAITALL.bits();
            let entry = opcode::Send::new(end.fd(), address, length).flags(flags as i32).build();
            end.sending = Sending::Now;
            self.submitted.push(place);
            self.queue.push(&entry.user_data(place.name(Kind::SendNow)).flags(Flags::SKIP_SUCCESS))?;
        }
        Ok(more_follows)
    }

    fn complete(&mut self, completion: &Completion) -> io::Result<()> {
        let (place, kind) = Place::of(completion.name);
        match kind {
            Kind::Receive => self.received(place, completion),
            Kind::SendNow | Kind::SendWaiting => self.sent(place, completion.result),
            Kind::Cancel => {
                // It was just about to be delivered, and so was not found: the next chunk tries again.
                let end = self.pairs.get_mut(place.pair).map(|pair| &mut pair.ends[place.side]);
                if let Some(end) = end.filter(|end| end.receiving == Receiving::Stopping) {
                    end.receiving = Receiving::Armed;
                }
                Ok(())
            }
        }
    }

    /// Bytes of one end, or its end.
    fn received(&mut self, place: Place, completion: &Completion) -> io::Result<()> {
        let is_open = self.pairs[place.pair].stage == Stage::Open;
        if !cqueue::more(completion.flags) {
            self.end(place).receiving = Receiving::Stopped;
        }
        if let Some(id) = cqueue::buffer_select(completion.flags) {
            self.buffers.take();
            if is_open && completion.result > 0 {
                let mut chunk = Chunk::Pooled { id, from: 0, length: completion.result as u32 };
                let to = &mut self.pairs[place.pair].ends[1 - place.side];
                if to.sending == Sending::Waiting && self.buffers.is_low() {
                    chunk.spare(&mut self.buffers);
                }
                to.unsent.push_back(chunk);
                self.send_soon(place.other());
            } else {
                self.buffers.give_back(id);
            }
        }
        match completion.result {
            1.. => {}
            error if -error == Errno::CANCELED.raw_os_error() => {}
            error if -error == Errno::NOBUFS.raw_os_error() => {
                self.end(place).receiving = Receiving::Starved;
                self.starved.push_back(place);
            }
            _ if is_open => self.pairs[place.pair].stage = Stage::Ending,
            _ => {}
        }
        let is_full = self.end(place.other()).unsent.len() >= UNSENT_CHUNKS_MAX;
        let end = self.end(place);
        if is_full && end.receiving == Receiving::Armed {
            end.receiving = Receiving::Stopping;
            let entry = opcode::AsyncCancel::new(place.name(Kind::Receive)).build();
            return self.queue.push(&entry.user_data(place.name(Kind::Cancel)).flags(Flags::SKIP_SUCCESS));
        }
        self.go_on(place)
    }

    /// A send that may not wait had no room for all, or one that may has found some.
    fn sent(&mut self, place: Place, result: i32) -> io::Result<()> {
        if result < 0 && -result != Errno::AGAIN.raw_os_error() {
            return self.fail(place);
        }
        let end = &mut self.pairs[place.pair].ends[place.side];
        let fd = end.fd();
        if end.unsent.front_mut().is_some_and(|chunk| chunk.advance(result.max(0) as usize)) {
            return self.release(place);
        }
        if self.buffers.is_low() {
            end.unsent.iter_mut().for_each(|chunk| chunk.spare(&mut self.buffers));
        }
        let Some((address, length)) = end.unsent.front().map(|chunk| chunk.unsent(&self.buffers)) else { return Ok(()) };
        end.sending = Sending::Waiting;
        let entry = opcode::Send::new(fd, address, length).flags(SendFlags::NOSIGNAL.bits() as i32).build();
        self.queue.push(&entry.user_data(place.name(Kind::SendWaiting)))
    }

    /// After an enter: what was submitted and not heard of has been sent.
    fn settle(&mut self) -> io::Result<()> {
        for index in 0..self.submitted.len() {
            let place = self.submitted[index];
            let is_silent = |pair: &Pair| pair.ends[place.side].sending == Sending::Now;
            if self.pairs.get(place.pair).is_some_and(is_silent) {
                self.release(place)?;
            }
        }
        self.submitted.clear();
        Ok(())
    }

    /// The oldest chunk for an end has been sent.
    fn release(&mut self, place: Place) -> io::Result<()> {
        let end = self.end(place);
        end.sending = Sending::Idle;
        if let Some(chunk) = end.unsent.pop_front() {
            chunk.free(&mut self.buffers);
        }
        self.send_soon(place);
        self.go_on(place.other())
    }

    /// An end takes nothing any more.
    fn fail(&mut self, place: Place) -> io::Result<()> {
        let end = self.end(place);
        end.sending = Sending::Idle;
        for chunk in std::mem::take(&mut end.unsent) {
            chunk.free(&mut self.buffers);
        }
        if self.pairs[place.pair].stage == Stage::Open {
            self.pairs[place.pair].stage = Stage::Ending;
        }
        self.go_on(place)
    }

    fn send_soon(&mut self, place: Place) {
        let end = self.end(place);
        if end.sending == Sending::Idle && !end.unsent.is_empty() {
            end.sending = Sending::Due;
            self.due.push(place);
        }
    }

    /// Hears an end again that was stopped, once there is room; closes a pair whose last bytes are sent.
    fn go_on(&mut self, place: Place) -> io::Result<()> {
        let pair = &mut self.pairs[place.pair];
        let unsent = pair.ends[1 - place.side].unsent.len();
        if pair.stage == Stage::Open {
            let is_stopped = pair.ends[place.side].receiving == Receiving::Stopped;
            return if is_stopped && unsent <= UNSENT_CHUNKS_LOW { self.receive(place) } else { Ok(()) };
        }
        if pair.stage == Stage::Ending && pair.ends.iter().all(|end| end.unsent.is_empty()) {
            // Ends the receives as well; where the other side was quicker, there is nothing left to shut.
            for end in &pair.ends {
                let _gone = end.socket.shutdown(Shutdown::Both);
            }
            pair.stage = Stage::Shut;
        }
        if pair.stage == Stage::Shut && pair.ends.iter().all(End::is_at_rest) {
            self.pairs.remove(place.pair);
        }
        Ok(())
    }
}
