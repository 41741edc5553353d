//! The relay on edge-triggered epoll: a system call for each receive and each send.

use std::convert::Infallible;
use std::io;
use std::ops::ControlFlow;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::event::epoll::CreateFlags;
use rustix::event::epoll::EventData;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use slab::Slab;

use crate::floor::BUFFER_BYTES;
use crate::floor::Door;
use crate::floor::Ends;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// The listener's name; ends are named by pair and side.
const LISTENER: u64 = u64::MAX;

pub(super) fn run(mut door: Door) -> io::Result<Infallible> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &door.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut pairs: Slab<Pair> = Slab::new();
    let mut scratch = vec![0; BUFFER_BYTES];
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (flags, data) = (event.flags, event.data);
            if data.u64() == LISTENER {
                while let Some(ends) = door.admit()? {
                    let entry = pairs.vacant_entry();
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                    for (side, end) in ends.iter().enumerate() {
                        epoll::add(&epoll, end, EventData::new_u64((entry.key() as u64) << 1 | side as u64), flags)?;
                    }
                    entry.insert(Pair { ends, unsent: [Vec::new(), Vec::new()], ended: false });
                }
                continue;
            }
            let (place, side) = ((data.u64() >> 1) as usize, (data.u64() & 1) as usize);
            // An event of the pair that was there before asks the new one for nothing it could not bear.
            let Some(pair) = pairs.get_mut(place) else { continue };
            if pair.advance(side, flags, &mut scratch).is_break() {
                pairs.remove(place);
            }
        }
    }
}

struct Pair {
    ends: Ends,
    /// What was received from each end and the other one has no room for; while there is any, the way rests.
    unsent: [Vec<u8>; 2],
    /// One end has ended.
    ended: bool,
}

impl Pair {
    /// Moves what can be moved after an event at one end; breaks off where the pair is done.
    fn advance(&mut self, side: usize, flags: EventFlags, scratch: &mut [u8]) -> ControlFlow<()> {
        let towards = 1 - side;
        if flags.contains(EventFlags::OUT) && !self.unsent[towards].is_empty() {
            let unsent = std::mem::take(&mut self.unsent[towards]);
            self.forward(towards, &unsent)?;
            // The event that told of what came meanwhile has passed.
            self.carry(towards, true, scratch)?;
        }
        let has_ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if has_ended || flags.contains(EventFlags::IN) {
            self.carry(side, has_ended, scratch)?;
        }
        if self.ended && self.unsent.iter().all(Vec::is_empty) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Receives from one end and sends to the other. A receive that does not fill the buffer was the last one: what comes later is
    /// another event. The end of a connection is not, so then it goes on `to_the_end`.
    fn carry(&mut self, way: usize, to_the_end: bool, scratch: &mut [u8]) -> ControlFlow<()> {
        while !self.ended && self.unsent[way].is_empty() {
            match rustix::net::recv(&self.ends[way], &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.ended = true,
                Ok((received, _)) => {
                    self.forward(way, &scratch[..received])?;
                    if received < scratch.len() && !to_the_end {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    /// Sends what the other end takes and keeps the rest.
    fn forward(&mut self, way: usize, mut bytes: &[u8]) -> ControlFlow<()> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.ends[1 - way], bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return ControlFlow::Break(()),
            }
        }
        self.unsent[way].extend_from_slice(bytes);
        ControlFlow::Continue(())
    }
}
