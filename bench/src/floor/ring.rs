//! The relay on io_uring, one operation after the other: a receive, and when it has completed the send of what came.

use std::convert::Infallible;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use io_uring::cqueue;
use io_uring::opcode;
use io_uring::types::Fd;
use rustix::net::SendFlags;
use slab::Slab;

use crate::floor::BUFFER_BYTES;
use crate::floor::Door;
use crate::floor::Ends;
use crate::floor::Stage;
use crate::floor::queue::Completion;
use crate::floor::queue::Queue;

/// The listener's name; operations are named by pair and way.
const LISTENER: u64 = u64::MAX;

pub(super) fn run(mut door: Door) -> io::Result<Infallible> {
    let mut relay = Relay { queue: Queue::new()?, pairs: Slab::new() };
    let listener = Fd(door.listener.as_raw_fd());
    relay.queue.watch(listener, LISTENER)?;
    let mut completions: Vec<Completion> = Vec::new();
    loop {
        relay.queue.enter(true, &mut completions)?;
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
    }
}

struct Relay {
    /// First, so that the kernel lets go of the buffers before they are freed.
    queue: Queue,
    pairs: Slab<Pair>,
}

struct Pair {
    ends: Ends,
    ways: [Way; 2],
    stage: Stage,
    in_flight: u8,
}

/// One way has one operation in flight: a send while there is something to send, else a receive.
struct Way {
    buffer: Box<[u8]>,
    filled: usize,
    sent: usize,
}

impl Way {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into(), filled: 0, sent: 0 }
    }

    fn is_sending(&self) -> bool {
        self.sent < self.filled
    }
}

impl Relay {
    fn begin(&mut self, ends: Ends) -> io::Result<()> {
        let place = self.pairs.insert(Pair { ends, ways: [Way::new(), Way::new()], stage: Stage::Open, in_flight: 0 });
        self.ask(place, 0)?;
        self.ask(place, 1)
    }

    /// Submits the next operation of a way.
    fn ask(&mut self, place: usize, way: usize) -> io::Result<()> {
        let pair = &mut self.pairs[place];
        let name = (place as u64) << 1 | way as u64;
        let Way { buffer, filled, sent } = &mut pair.ways[way];
        let entry = if sent < filled {
            let unsent = &buffer[*sent..*filled];
            let to = Fd(pair.ends[1 - way].as_raw_fd());
            opcode::Send::new(to, unsent.as_ptr(), unsent.len() as u32).flags(SendFlags::NOSIGNAL.bits() as i32).build()
        } else {
            opcode::Recv::new(Fd(pair.ends[way].as_raw_fd()), buffer.as_mut_ptr(), buffer.len() as u32).build()
        };
        pair.in_flight += 1;
        self.queue.push(&entry.user_data(name))
    }

    fn complete(&mut self, completion: &Completion) -> io::Result<()> {
        let (place, index) = ((completion.name >> 1) as usize, (completion.name & 1) as usize);
        let pair = &mut self.pairs[place];
        let way = &mut pair.ways[index];
        pair.in_flight -= 1;
        match (completion.result, way.is_sending()) {
            (1.., true) => way.sent += completion.result as usize,
            (1.., false) if pair.stage == Stage::Open => (way.filled, way.sent) = (completion.result as usize, 0),
            // The end, an error, or bytes that nobody will hear any more.
            _ => {
                (way.filled, way.sent) = (0, 0);
                if pair.stage == Stage::Open {
                    pair.stage = Stage::Ending;
                }
            }
        }
        if way.is_sending() || pair.stage == Stage::Open {
            return self.ask(place, index);
        }
        if pair.stage == Stage::Ending && !pair.ways.iter().any(Way::is_sending) {
            // Ends the receives as well; where the other side was quicker, there is nothing left to shut.
            for end in &pair.ends {
                let _gone = end.shutdown(Shutdown::Both);
            }
            pair.stage = Stage::Shut;
        }
        if pair.in_flight == 0 {
            self.pairs.remove(place);
        }
        Ok(())
    }
}
