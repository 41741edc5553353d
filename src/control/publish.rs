//! Hands snapshots to every shard, remembers which version each one serves, and frees what they give back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::snapshot::Snapshot;
use crate::snapshot::channel::Publisher;
use crate::snapshot::channel::Served;

/// All shards, seen from control.
pub(crate) struct Shards {
    publishers: Vec<Publisher>,
    gone: Vec<bool>,
    ledger: Ledger,
}

impl Shards {
    pub(crate) fn new(publishers: Vec<Publisher>) -> Self {
        let count = publishers.len();
        Self { publishers, gone: vec![false; count], ledger: Ledger::new(count) }
    }

    /// Hands `snapshot` to every shard. `since` is when the oldest change it brings was first seen.
    pub(crate) fn publish(&mut self, snapshot: &Arc<Snapshot>, since: Instant) {
        self.ledger.published(snapshot.version, since);
        for (index, publisher) in self.publishers.iter().enumerate() {
            if !publisher.publish(snapshot) && !std::mem::replace(&mut self.gone[index], true) {
                tracing::error!(shard = index, "the shard is gone and takes no more snapshots; the others are served");
            }
        }
    }

    /// Hears what the shards have to say; returns how long each change took that is effective everywhere now.
    pub(crate) fn hear(&mut self) -> Vec<Duration> {
        let mut delays = Vec::new();
        for (index, publisher) in self.publishers.iter().enumerate() {
            while let Some(served) = publisher.try_served() {
                match served {
                    Served::Since { version, at } => delays.extend(self.ledger.served(index, version, at)),
                    // Here and not on a data core: freeing a large snapshot takes milliseconds.
                    Served::Retired(snapshot) => drop(snapshot),
                }
            }
        }
        delays
    }

    /// The version that each shard serves; 0 before its first.
    pub(crate) fn served(&self) -> &[u64] {
        &self.ledger.served
    }

    /// Whether every shard serves something.
    pub(crate) fn all_serve(&self) -> bool {
        self.ledger.served.iter().all(|version| *version > 0)
    }
}

/// Which shard serves what, and which changes are on their way.
#[derive(Debug)]
struct Ledger {
    served: Vec<u64>,
    /// Versions that some shard does not serve yet, with the moment of their oldest change; a later version serves them too.
    pending: VecDeque<(u64, Instant)>,
    newest_at: Option<Instant>,
}

impl Ledger {
    /// Versions remembered at once; a shard that hangs for longer than so many changes costs the oldest their measurement.
    const PENDING_MAX: usize = 1024;

    fn new(shards: usize) -> Self {
        Self { served: vec![0; shards], pending: VecDeque::new(), newest_at: None }
    }

    fn published(&mut self, version: u64, since: Instant) {
        if self.pending.len() == Self::PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((version, since));
    }

    fn served(&mut self, shard: usize, version: u64, at: Instant) -> Vec<Duration> {
        self.served[shard] = version;
        // The last shard decides, whatever the order in which their words are heard.
        let last = *self.newest_at.insert(self.newest_at.map_or(at, |newest| newest.max(at)));
        let everywhere = self.served.iter().copied().min().unwrap_or(0);
        let mut delays = Vec::new();
        while let Some((_, since)) = self.pending.pop_front_if(|(version, _)| *version <= everywhere) {
            delays.push(last.saturating_duration_since(since));
        }
        delays
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test may begin at any moment")]

    use super::*;

    /// A change counts as effective when the last shard serves it, and at the moment that shard says.
    #[test]
    fn the_last_shard_ends_a_propagation() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ledger = Ledger::new(2);
        ledger.published(1, at(0));
        assert!(ledger.served(0, 1, at(9)).is_empty());
        assert_eq!(ledger.served(1, 1, at(4)), [Duration::from_millis(9)]);
        assert_eq!(ledger.served, [1, 1]);
    }

    /// A version that a shard skips is effective with the one that replaced it.
    #[test]
    fn a_skipped_version_counts_with_its_successor() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ledger = Ledger::new(2);
        ledger.published(1, at(0));
        ledger.published(2, at(10));
        assert!(ledger.served(0, 1, at(12)).is_empty());
        assert_eq!(ledger.served(1, 2, at(13)), [Duration::from_millis(13)]);
        assert_eq!(ledger.served(0, 2, at(15)), [Duration::from_millis(5)]);
    }

    /// A shard that never answers costs no more than a bounded number of entries.
    #[test]
    fn a_silent_shard_is_bounded() {
        let start = Instant::now();
        let mut ledger = Ledger::new(1);
        for version in 1..=5000 {
            ledger.published(version, start);
        }
        assert_eq!(ledger.pending.len(), Ledger::PENDING_MAX);
        assert_eq!(ledger.served(0, 5000, start).len(), Ledger::PENDING_MAX);
    }
}
