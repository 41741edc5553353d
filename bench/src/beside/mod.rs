//! What goes on beside the measured load: other clients of the same proxy, and changes of the proxy itself.
//!
//! What clients do is done in the driver's thread, one bounded piece a turn and only after whatever request is due, so that the driver's
//! own lateness shows what it costs. A thread of its own on the driver's CPU would take that time in slices of the scheduler,
//! milliseconds long, which no histogram would tell from waiting for the proxy. `callers` are connections that behave in one way,
//! `changes` what is done to the proxy.

mod callers;
mod changes;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;

use serde::Deserialize;
use serde::Serialize;

use self::callers::Callers;
use self::changes::Heard;
use self::changes::Step;
pub use self::changes::during;
use crate::change::Kind;
use crate::connection::ClientTls;
use crate::poller::Event;
use crate::poller::Poller;

/// The most connections one thing may hold: each takes descriptors on both sides of the proxy.
const CONNECTIONS_MAX: u32 = 19_000;
/// The longest body: one request's target names it with ten digits.
const BYTES_MAX: u64 = 16 << 30;
/// The most of anything in a second: the driver has other things to do.
const PER_S_MAX: f64 = 100_000.0;
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
    /// So many new TLS connections a second at independent times, each with a full handshake and one request.
    Handshakes { per_s: f64 },
    /// Connections that ask for long bodies and take them slower than the proxy gets them.
    SlowReaders { connections: u32, bytes: u64, bytes_per_s: u64 },
    /// So many times a second one endpoint leaves the cluster and another one joins it.
    Endpoints { per_s: f64 },
    /// So many more hosts a second; of very many the oldest goes.
    Routes { per_s: f64 },
    /// So many times a second everything is read anew, with nothing changed.
    Reload { per_s: f64 },
}

fn one() -> u32 {
    1
}

impl fmt::Display for Beside {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Idle { connections } => write!(out, "{connections} idle connections"),
            Self::Stream { connections, bytes, bytes_per_s } => {
                write!(out, "{connections} × bodies of {} MB", bytes / 1_000_000)?;
                bytes_per_s.map_or(Ok(()), |bytes_per_s| write!(out, " at {} MB/s", bytes_per_s as f64 / 1e6))
            }
            Self::Handshakes { per_s } => write!(out, "{per_s} handshakes/s"),
            Self::Endpoints { per_s } => write!(out, "{per_s} changes of endpoints/s"),
            Self::Routes { per_s } => write!(out, "{per_s} changes of routes/s"),
            Self::Reload { per_s } => write!(out, "{per_s} reloads/s"),
            Self::SlowReaders { connections, bytes_per_s, .. } => {
                write!(out, "{connections} readers of {} kB/s", bytes_per_s as f64 / 1e3)
            }
        }
    }
}

impl Beside {
    /// The change of the proxy that it is, if it is one, and how often.
    pub fn change(self) -> Option<(Kind, f64)> {
        match self {
            Self::Endpoints { per_s } => Some((Kind::Endpoints, per_s)),
            Self::Routes { per_s } => Some((Kind::Routes, per_s)),
            Self::Reload { per_s } => Some((Kind::Reload, per_s)),
            Self::Idle { .. } | Self::Stream { .. } | Self::Handshakes { .. } | Self::SlowReaders { .. } => None,
        }
    }

    /// Whether it can be done, in words where not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (connections, bytes, bytes_per_s) = match *self {
            Self::Idle { connections } => (connections, 1, 1),
            Self::Stream { connections, bytes, bytes_per_s } => (connections, bytes, bytes_per_s.unwrap_or(1)),
            Self::SlowReaders { connections, bytes, bytes_per_s } => (connections, bytes, bytes_per_s),
            Self::Handshakes { per_s } | Self::Endpoints { per_s } | Self::Routes { per_s } | Self::Reload { per_s } => {
                let is_possible = per_s.is_finite() && per_s > 0.0 && per_s <= PER_S_MAX;
                return is_possible
                    .then_some(())
                    .ok_or_else(|| format!("beside: per_s = {per_s}: must be above 0 and {PER_S_MAX} at most"));
            }
        };
        if connections == 0 || connections > CONNECTIONS_MAX {
            return Err(format!("beside: connections = {connections}: must be 1 to {CONNECTIONS_MAX}"));
        }
        if bytes == 0 || bytes > BYTES_MAX {
            return Err(format!("beside: bytes = {bytes}: must be 1 to {BYTES_MAX}"));
        }
        if bytes_per_s == 0 {
            return Err("beside: bytes_per_s = 0: must be 1 or more".to_owned());
        }
        Ok(())
    }
}

/// Where all of it finds the proxy, and what it asks for there.
#[derive(Clone)]
pub struct Door {
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// Whether connections that are not said to have TLS have it all the same, as those of the load.
    pub tls: bool,
    /// Makes full handshakes.
    pub client: ClientTls,
    pub host: &'static str,
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
    /// Changes made within the window, also those that were put together.
    #[serde(skip_serializing_if = "is_none")]
    pub changed: u64,
    /// Steps they were made in.
    #[serde(skip_serializing_if = "is_none")]
    pub steps: u64,
    /// What should not have failed and did, from the first connection on.
    pub failed: u64,
    /// The first failure, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What the proxy's memory grew by while the connections were opened; nothing where nobody looked.
    pub memory_bytes: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Everything that goes on beside one round.
#[derive(Default)]
pub struct Company {
    members: Vec<Member>,
    memory_bytes: Vec<Option<u64>>,
    /// Whose turn it is.
    next: usize,
    /// Where steps of changes are heard of.
    told: Option<Receiver<Step>>,
}

enum Member {
    Callers(Box<Callers>),
    Changes(Heard),
}

impl Member {
    fn callers(&mut self) -> Option<&mut Callers> {
        match self {
            Self::Callers(callers) => Some(callers),
            Self::Changes(_) => None,
        }
    }
}

impl Company {
    /// All of these, at that door; nothing is opened yet, and changes are only heard of: [`during`] makes them.
    pub fn new(all: &[Beside], door: &Door) -> Self {
        let member = |(beside, number): (&Beside, u32)| match beside.change() {
            Some((kind, _)) => Member::Changes(Heard::new(kind)),
            None => Member::Callers(Box::new(Callers::new(*beside, door, number << PLACE_BITS))),
        };
        Self { members: all.iter().zip(0..).map(member).collect(), ..Self::default() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the proxy is changed.
    pub(crate) fn changes(&self) -> bool {
        self.members.iter().any(|member| matches!(member, Member::Changes(_)))
    }

    /// Lets one of them open its connections; it is there once [`Self::is_there`] says so.
    pub(crate) fn invite(&mut self, member: usize) {
        if let Some(callers) = self.members[member].callers() {
            callers.invite();
        }
    }

    /// Whether the connections of that one are all open, and resting where they are to rest.
    pub(crate) fn is_there(&self, member: usize) -> bool {
        match &self.members[member] {
            Member::Callers(callers) => callers.is_there(),
            Member::Changes(_) => true,
        }
    }

    /// Notes what the proxy's memory grew by while the latest one came.
    pub(crate) fn weigh(&mut self, memory_bytes: Option<u64>) {
        self.memory_bytes.push(memory_bytes);
    }

    /// Hears of an event at a connection; what it brings is read in a later turn.
    pub(crate) fn wake(&mut self, event: Event) {
        let (member, place) = (event.token.slot >> PLACE_BITS, event.token.slot & ((1 << PLACE_BITS) - 1));
        if let Some(callers) = self.members.get_mut(member as usize).and_then(Member::callers) {
            callers.wake(place, event);
        }
    }

    /// Hears of one change of the proxy, if there was one: whom the cluster consists of since then.
    pub(crate) fn hear(&mut self, now_ns: u64) -> Option<Vec<SocketAddr>> {
        let step = self.told.as_ref()?.try_recv().ok()?;
        if let Some(Member::Changes(heard)) = self.members.get_mut(step.member) {
            heard.count(step.made, now_ns);
        }
        Some(step.members)
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
        self.members[self.next].callers().map_or(Ok(false), |callers| callers.turn(now_ns, poller))
    }

    /// The warm-up begins: whatever clients do at a rate they do from here.
    pub(crate) fn begin(&mut self, now_ns: u64, until_ns: u64) {
        self.members.iter_mut().filter_map(Member::callers).for_each(|callers| callers.begin(now_ns, until_ns));
    }

    /// The window begins: what is counted by window counts from here.
    pub(crate) fn enter(&mut self, now_ns: u64) {
        for member in &mut self.members {
            match member {
                Member::Callers(callers) => callers.enter(),
                Member::Changes(heard) => heard.enter(now_ns),
            }
        }
    }

    /// The window ends: what has been done.
    pub(crate) fn leave(&self) -> Vec<Deeds> {
        let weighed = self.memory_bytes.iter().copied().chain(std::iter::repeat(None));
        let deeds = |(member, memory_bytes): (&Member, Option<u64>)| match member {
            Member::Callers(callers) => Deeds { memory_bytes, ..callers.leave() },
            Member::Changes(heard) => heard.leave(),
        };
        self.members.iter().zip(weighed).map(deeds).collect()
    }

    /// When the proxy was changed, in seconds of the window, and how.
    pub(crate) fn moments(&self) -> Vec<(f64, String)> {
        let moments = |member: &Member| match member {
            Member::Callers(_) => Vec::new(),
            Member::Changes(heard) => heard.moments(),
        };
        self.members.iter().flat_map(moments).collect()
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
            ("kind = 'endpoints'\nper_s = 100", Beside::Endpoints { per_s: 100.0 }, "100 changes of endpoints/s"),
            ("kind = 'routes'\nper_s = 0.5", Beside::Routes { per_s: 0.5 }, "0.5 changes of routes/s"),
            ("kind = 'reload'\nper_s = 1", Beside::Reload { per_s: 1.0 }, "1 reloads/s"),
            ("kind = 'handshakes'\nper_s = 500", Beside::Handshakes { per_s: 500.0 }, "500 handshakes/s"),
            (
                "kind = 'slow_readers'\nconnections = 200\nbytes = 9\nbytes_per_s = 100_000",
                Beside::SlowReaders { connections: 200, bytes: 9, bytes_per_s: 100_000 },
                "200 readers of 100 kB/s",
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
            (Beside::Stream { connections: 1, bytes: 17 << 30, bytes_per_s: None }, "bytes = 18253611008"),
            (Beside::Stream { connections: 1, bytes: 1, bytes_per_s: Some(0) }, "bytes_per_s = 0"),
            (Beside::SlowReaders { connections: 1, bytes: 1, bytes_per_s: 0 }, "bytes_per_s = 0"),
            (Beside::Handshakes { per_s: 0.0 }, "per_s = 0"),
            (Beside::Handshakes { per_s: f64::NAN }, "per_s = NaN"),
            (Beside::Reload { per_s: -1.0 }, "per_s = -1"),
            (Beside::Handshakes { per_s: 1e9 }, "per_s = 1000000000"),
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
