//! Readiness of all sockets of a run, by one edge-triggered epoll.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::event::epoll::CreateFlags;
use rustix::event::epoll::EventData;
use rustix::event::epoll::EventFlags;

/// Events taken from the kernel at once: few enough that a due arrival is never behind a long batch.
const EVENTS_MAX: usize = 64;

/// Whose socket an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A listening socket of the upstream.
    Listener,
    /// A connection the upstream has accepted.
    Upstream,
    /// A connection of the client.
    Client,
    /// A connection beside the measured ones.
    Beside,
}

/// Names one socket over its lifetime; `generation` tells it from earlier ones in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub role: Role,
    pub generation: u32,
    pub slot: u32,
}

/// Bits of a generation that fit beside role and slot; it may wrap, for stale events live only as long as one batch.
const GENERATION_MASK: u32 = (1 << 24) - 1;

impl Token {
    fn to_bits(self) -> u64 {
        ((self.role as u64) << 56) | (u64::from(self.generation & GENERATION_MASK) << 32) | u64::from(self.slot)
    }

    fn from_bits(bits: u64) -> Self {
        let role = match bits >> 56 {
            0 => Role::Listener,
            1 => Role::Upstream,
            2 => Role::Client,
            _ => Role::Beside,
        };
        Self { role, generation: (bits >> 32) as u32 & GENERATION_MASK, slot: bits as u32 }
    }

    /// Whether this token names the socket with this generation.
    pub fn is_of(self, generation: u32) -> bool {
        self.generation == generation & GENERATION_MASK
    }
}

/// What has happened at one socket.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub token: Token,
    /// The other side has closed or reset: reading must go on until the end.
    pub ended: bool,
}

/// One epoll set. Every socket is registered once for everything and never changed.
pub struct Poller {
    epoll: OwnedFd,
    raw: Vec<epoll::Event>,
}

impl Poller {
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, raw: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Watches a socket until it is closed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, socket: &impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token.to_bits()), flags)?)
    }

    /// Replaces `events` by what has happened; never waits, for the driver is busy with its schedule.
    ///
    /// # Errors
    /// The kernel's.
    pub fn poll(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        self.raw.clear();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.raw), Some(&at_once)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        events.extend(self.raw.iter().map(|raw| {
            let (flags, data) = (raw.flags, raw.data);
            Event { token: Token::from_bits(data.u64()), ended: flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token comes back from the kernel as it was given.
    #[test]
    fn a_token_survives_its_bits() {
        for role in [Role::Listener, Role::Upstream, Role::Client, Role::Beside] {
            for (generation, slot) in [(0, 0), (1, u32::MAX), (GENERATION_MASK, 7)] {
                let token = Token { role, generation, slot };
                assert_eq!(Token::from_bits(token.to_bits()), token);
            }
        }
    }

    /// A generation that has outgrown its bits still knows its own token.
    #[test]
    fn a_wrapped_generation_knows_its_token() {
        let generation = GENERATION_MASK + 5;
        let token = Token::from_bits(Token { role: Role::Client, generation, slot: 3 }.to_bits());
        assert!(token.is_of(generation));
        assert!(!token.is_of(generation + 1));
    }
}
