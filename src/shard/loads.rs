//! How many connections each shard holds, and the socket that one gives to another.

use std::os::fd::RawFd;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Counted at a shard that has ended, on top of its connections: it is never the one with the fewest.
const RETIRED: usize = 1 << 40;

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

    /// A connection counted at `from` is served by `to`.
    pub(crate) fn moved(&self, from: usize, to: usize) {
        self.0[from].0.fetch_sub(1, Ordering::Relaxed);
        self.0[to].0.fetch_add(1, Ordering::Relaxed);
    }

    /// The shard has ended: nothing is given to it any more.
    pub(crate) fn retire(&self, index: usize) {
        self.0[index].0.fetch_add(RETIRED, Ordering::Relaxed);
    }

    /// The connections of all shards that have not ended.
    pub(crate) fn total(&self) -> usize {
        self.0.iter().map(|load| load.0.load(Ordering::Relaxed)).filter(|connections| *connections < RETIRED / 2).sum()
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

    /// A shard that has ended gets nothing, however empty it is, and what it held is not counted any more.
    #[test]
    fn a_shard_that_has_ended_gets_nothing() {
        let loads = Loads::new(2);
        loads.place(0);
        loads.place(0);
        loads.retire(1);
        assert_eq!((loads.place(0), loads.place(0), loads.total()), (0, 0, 3));
        // Its connections end later than itself.
        loads.leave(1);
        assert_eq!((loads.place(0), loads.total()), (0, 4));
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
