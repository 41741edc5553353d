//! What goes on beside the measured load: other clients of the same proxy.
//!
//! All of it is done in the driver's thread, one bounded piece a turn and only after whatever request is due, so that the driver's
//! own lateness shows what it costs. A thread of its own on the driver's CPU would take that time in slices of the scheduler,
//! milliseconds long, which no histogram would tell from waiting for the proxy. `callers` are connections that behave in one way.

mod callers;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use serde::Deserialize;
use serde::Serialize;

use self::callers::Callers;
use crate::connection::ClientTls;
use crate::poller::Event;
use crate::poller::Poller;

/// The most connections one thing may hold: each takes descriptors on both sides of the proxy.
const CONNECTIONS_MAX: u32 = 19_000;
/// Bits of a token's slot that name a connection; those above name the one it belongs to.
const PLACE_BITS: u32 = 24;

/// One thing that goes on beside the load, as a scenario's `[[beside]]` says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Beside {
    /// Connections that have asked once before the round and rest from then on; with TLS where the scenario's have it.
    Idle { connections: u32 },
    /// Clients that pull one long body after the other, each at a pace of its own or as fast as the proxy gives and the driver takes.
    Stream {
        #[serde(default = "one")]
        connections: u32,
        bytes: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes_per_s: Option<u64>,
    },
}

fn one() -> u32 {
    1
}

impl fmt::Display for Beside {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle { connections } => write!(out, "{connections} idle connections"),
            Self::Stream { connections, bytes, bytes_per_s } => {
                write!(out, "{connections} × bodies of {} MB", bytes / 1_000_000)?;
                bytes_per_s.map_or(Ok(()), |bytes_per_s| write!(out, " at {} MB/s", bytes_per_s as f64 / 1e6))
            }
        }
    }
}

impl Beside {
    /// Whether it can be done, in words where not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (Self::Idle { connections } | Self::Stream { connections, .. }) = *self;
        if connections == 0 || connections > CONNECTIONS_MAX {
            return Err(format!("beside: connections = {connections}: must be 1 to {CONNECTIONS_MAX}"));
        }
        match *self {
            Self::Stream { bytes: 0, .. } => Err("beside: bytes = 0: must be 1 or more".to_owned()),
            Self::Stream { bytes_per_s: Some(0), .. } => Err("beside: bytes_per_s = 0: must be 1 or more, or left out".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Where all of it finds the proxy, and what it asks for there.
#[derive(Clone)]
pub struct Door {
    pub address: SocketAddr,
    pub tls: Option<ClientTls>,
    pub host: Cow<'static, str>,
    pub path: &'static str,
}

/// What one of them has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deeds {
    /// Connections open at the end of the window.
    pub held: u32,
    /// Connections opened within the window.
    pub opened: u64,
    /// Right answers within the window.
    pub answered: u64,
    /// Bytes of answers read within the window, heads and all.
    pub bytes: u64,
    /// What should not have failed and did, from the first connection on.
    pub failed: u64,
    /// The first failure, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What the proxy's memory grew by while the connections were opened; nothing where nobody looked.
    pub memory_bytes: Option<u64>,
}

/// Everything that goes on beside one round.
#[derive(Default)]
pub struct Company {
    members: Vec<Callers>,
    memory_bytes: Vec<Option<u64>>,
    /// Whose turn it is.
    next: usize,
}

impl Company {
    /// All of these, at that door; nothing is opened yet.
    pub fn new(all: &[Beside], door: &Door) -> Self {
        let members = all.iter().zip(0_u32..).map(|(beside, number)| Callers::new(*beside, door, number << PLACE_BITS));
        Self { members: members.collect(), memory_bytes: Vec::new(), next: 0 }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Lets one of them open its connections; it is there once [`Self::is_there`] says so.
    pub(crate) fn invite(&mut self, member: usize) {
        self.members[member].invite();
    }

    /// Whether the connections of that one are all open, and resting where they are to rest.
    pub(crate) fn is_there(&self, member: usize) -> bool {
        self.members[member].is_there()
    }

    /// Notes what the proxy's memory grew by while the latest one came.
    pub(crate) fn weigh(&mut self, memory_bytes: Option<u64>) {
        self.memory_bytes.push(memory_bytes);
    }

    /// Hears of an event at a connection; what it brings is read in a later turn.
    pub(crate) fn wake(&mut self, event: Event) {
        let (member, place) = (event.token.slot >> PLACE_BITS, event.token.slot & ((1 << PLACE_BITS) - 1));
        if let Some(member) = self.members.get_mut(member as usize) {
            member.wake(place, event);
        }
    }

    /// Does one bounded piece of work; false if there is none.
    ///
    /// # Errors
    /// The kernel's; where the proxy is gone.
    pub(crate) fn turn(&mut self, now_ns: u64, poller: &Poller) -> io::Result<bool> {
        if self.members.is_empty() {
            return Ok(false);
        }
        self.next = (self.next + 1) % self.members.len();
        self.members[self.next].turn(now_ns, poller)
    }

    /// The window begins: what is counted by window counts from here.
    pub(crate) fn enter(&mut self) {
        self.members.iter_mut().for_each(Callers::enter);
    }

    /// The window ends: what has been done.
    pub(crate) fn leave(&self) -> Vec<Deeds> {
        let weighed = self.memory_bytes.iter().copied().chain(std::iter::repeat(None));
        self.members.iter().zip(weighed).map(|(member, memory_bytes)| Deeds { memory_bytes, ..member.leave() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        beside: Vec<Beside>,
    }

    /// What goes on beside is read as written, and said in words.
    #[test]
    fn it_is_read_as_written() {
        let table = [
            ("kind = 'idle'\nconnections = 9000", Beside::Idle { connections: 9000 }, "9000 idle connections"),
            (
                "kind = 'stream'\nbytes = 2_000_000_000",
                Beside::Stream { connections: 1, bytes: 2_000_000_000, bytes_per_s: None },
                "1 × bodies of 2000 MB",
            ),
            (
                "kind = 'stream'\nconnections = 2\nbytes = 5_000_000\nbytes_per_s = 1_500_000",
                Beside::Stream { connections: 2, bytes: 5_000_000, bytes_per_s: Some(1_500_000) },
                "2 × bodies of 5 MB at 1.5 MB/s",
            ),
        ];
        for (text, beside, words) in table {
            let file: File = toml::from_str(&format!("[[beside]]\n{text}")).unwrap();
            assert_eq!(file.beside, [beside]);
            assert_eq!((beside.check(), beside.to_string().as_str()), (Ok(()), words));
        }
    }

    /// What cannot be done is refused, and the message names the field.
    #[test]
    fn what_cannot_be_done_is_refused() {
        let table = [
            (Beside::Idle { connections: 0 }, "connections = 0"),
            (Beside::Idle { connections: 20_000 }, "connections = 20000"),
            (Beside::Stream { connections: 0, bytes: 1, bytes_per_s: None }, "connections = 0"),
            (Beside::Stream { connections: 1, bytes: 0, bytes_per_s: None }, "bytes = 0"),
            (Beside::Stream { connections: 1, bytes: 1, bytes_per_s: Some(0) }, "bytes_per_s = 0"),
        ];
        for (beside, named) in table {
            let fault = beside.check().unwrap_err();
            assert!(fault.contains(named), "{fault}");
        }
        for text in ["kind = 'nap'", "kind = 'idle'", "kind = 'idle'\nconnections = 1\nbytes = 1"] {
            assert!(toml::from_str::<File>(&format!("[[beside]]\n{text}")).is_err(), "{text}");
        }
    }
}
