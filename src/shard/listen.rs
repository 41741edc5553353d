//! Accepting, and sharing what was accepted: SO_REUSEPORT spreads by hash, this evens it out.

use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::net::limits;
use crate::shard::connection;
use crate::shard::state::Shard;

/// How long accepting rests after an error such as too many open files, in milliseconds.
const REST_MS: u64 = 50;

/// An accepted socket on its way to the shard that will serve it.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) listener: usize,
    pub(crate) fd: RawFd,
}

/// Open connections per shard. Touched when a connection comes or goes, never by a request.
#[derive(Debug)]
pub(crate) struct Loads(Vec<Load>);

/// A counter on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

impl Loads {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Load::default()).collect())
    }

    /// Chooses the shard with the fewest connections, `own` if it is one of them, and counts the connection there.
    pub(crate) fn place(&self, own: usize) -> usize {
        let mut best = own;
        let mut fewest = self.0[own].0.load(Ordering::Relaxed);
        for (index, load) in self.0.iter().enumerate() {
            let connections = load.0.load(Ordering::Relaxed);
            if connections < fewest {
                best = index;
                fewest = connections;
            }
        }
        self.0[best].0.fetch_add(1, Ordering::Relaxed);
        best
    }

    pub(crate) fn leave(&self, index: usize) {
        self.0[index].0.fetch_sub(1, Ordering::Relaxed);
    }

    fn moved(&self, from: usize, to: usize) {
        self.0[from].0.fetch_sub(1, Ordering::Relaxed);
        self.0[to].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> usize {
        self.0.iter().map(|load| load.0.load(Ordering::Relaxed)).sum()
    }
}

/// Accepts until the end of the shard.
pub(crate) async fn run(shard: Rc<Shard>) {
    loop {
        match shard.ring.accept().await {
            (listener, Ok(fd)) => admit(&shard, listener, fd),
            (listener, Err(error)) => {
                shard.metrics.rejected("accept_failed");
                tracing::warn!(listener = shard.config.listeners[listener].name, %error, "accepting rests for a moment");
                shard.ring.sleep(REST_MS).await;
                shard.ring.resume_accepting();
            }
        }
    }
}

/// Serves an accepted socket here, or gives it to the shard with the fewest connections.
fn admit(shard: &Rc<Shard>, listener: usize, fd: RawFd) {
    if shard.neighbours.loads.total() >= shard.config.connections_max {
        shard.metrics.rejected("too_many_connections");
        limits::close_unseen(fd);
        return;
    }
    let own = shard.neighbours.index;
    let chosen = shard.neighbours.loads.place(own);
    if chosen != own {
        match shard.neighbours.postboxes[chosen].send(Handover { listener, fd }) {
            Ok(()) => return,
            // Its mailbox is full or it has ended: better here than not at all.
            Err(_) => shard.neighbours.loads.moved(chosen, own),
        }
    }
    connection::start(shard, listener, fd);
}

/// Serves what other shards have accepted for this one.
pub(crate) fn take_handovers(shard: &Rc<Shard>) {
    while let Some(Handover { listener, fd }) = shard.neighbours.mailbox.try_take() {
        connection::start(shard, listener, fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the kernel hashes connections, no shard gets more than its share.
    #[test]
    fn connections_are_spread_evenly() {
        for shards in [1, 2, 3, 8, 32] {
            let loads = Loads::new(shards);
            for _ in 0..64 {
                loads.place(0);
            }
            let counts: Vec<usize> = loads.0.iter().map(|load| load.0.load(Ordering::Relaxed)).collect();
            let mean = 64.0 / shards as f64;
            assert!(counts.iter().all(|count| *count as f64 <= (mean * 1.25).ceil()), "{shards} shards: {counts:?}");
        }
    }

    /// A shard that is as empty as the emptiest keeps what it accepted.
    #[test]
    fn a_tie_stays_at_home() {
        let loads = Loads::new(4);
        assert_eq!(loads.place(2), 2);
        assert_ne!(loads.place(2), 2);
        loads.leave(2);
        assert_eq!(loads.place(2), 2);
    }
}
