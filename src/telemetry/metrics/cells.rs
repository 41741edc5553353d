//! What counters are made of: atomics that one thread writes with a plain load and store, and any thread reads.

use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Called by the one thread that owns the cell: without another writer nothing is lost between load and store.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that grows and shrinks, or is replaced.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// Called by the one thread that owns the cell.
    #[inline]
    pub(crate) fn add(&self, delta: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(delta), Relaxed);
    }

    pub(crate) fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the buckets in microseconds, each with its label in seconds: 50 µs, what a good hop costs, to the 60 s
/// of the default timeouts. The labels are in the canonical form of OpenMetrics.
pub(crate) const BOUNDS: [(u64, &str); 19] = [
    (50, "5e-05"),
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
    (2_500_000, "2.5"),
    (5_000_000, "5.0"),
    (10_000_000, "10.0"),
    (30_000_000, "30.0"),
    (60_000_000, "60.0"),
];

/// One bucket for each bound, and one for what is above them all.
const BUCKETS: usize = BOUNDS.len() + 1;

/// Durations sorted into buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_us: Counter,
}

impl Histogram {
    #[inline]
    pub(crate) fn observe(&self, duration_us: u64) {
        let bucket = BOUNDS.partition_point(|(bound_us, _)| *bound_us < duration_us);
        self.buckets[bucket].add(1);
        self.sum_us.add(duration_us);
    }
}

/// The histograms of several shards, read at one moment and added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    pub(crate) buckets: [u64; BUCKETS],
    pub(crate) sum_us: u64,
}

impl Distribution {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl<'h> FromIterator<&'h Histogram> for Distribution {
    fn from_iter<I: IntoIterator<Item = &'h Histogram>>(histograms: I) -> Self {
        histograms.into_iter().fold(Self::default(), |mut sum, histogram| {
            for (total, bucket) in sum.buckets.iter_mut().zip(&histogram.buckets) {
                *total += bucket.get();
            }
            sum.sum_us += histogram.sum_us.get();
            sum
        })
    }
}

/// Labels one table can hold before the overflow.
const LABELS_MAX: usize = 64;

/// Counters by a label out of a small closed set that the code names and nobody lists. A label claims a slot when it is first
/// counted; when all are claimed, the rest is counted together.
#[derive(Debug)]
pub(crate) struct Labelled<L> {
    slots: [(OnceLock<L>, Counter); LABELS_MAX],
    overflow: Counter,
}

impl<L: Copy + PartialEq> Labelled<L> {
    pub(crate) fn add(&self, label: L) {
        for (owner, count) in &self.slots {
            if *owner.get_or_init(|| label) == label {
                return count.add(1);
            }
        }
        self.overflow.add(1);
    }

    /// Every label counted so far.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (L, u64)> {
        self.slots.iter().filter_map(|(owner, count)| Some((*owner.get()?, count.get())))
    }

    /// What was counted for labels that found no slot.
    pub(crate) fn overflow(&self) -> u64 {
        self.overflow.get()
    }
}

impl<L> Default for Labelled<L> {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| (OnceLock::new(), Counter::default())), overflow: Counter::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A duration lands in the first bucket whose bound it does not exceed.
    #[test]
    fn a_duration_lands_in_its_bucket() {
        for (duration_us, bucket) in
            [(0, 0), (50, 0), (51, 1), (1_000, 4), (1_001, 5), (59_999_999, 18), (60_000_000, 18), (60_000_001, 19), (u64::MAX, 19)]
        {
            let histogram = Histogram::default();
            histogram.observe(duration_us);
            let distribution: Distribution = [&histogram].into_iter().collect();
            assert_eq!(distribution.buckets.iter().position(|count| *count == 1), Some(bucket), "{duration_us}");
            assert_eq!((distribution.count(), distribution.sum_us), (1, duration_us));
        }
    }

    /// Bounds rise, and each label is its bound in seconds.
    #[test]
    fn labels_are_bounds_in_seconds() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (bound_us, label) in BOUNDS {
            assert_eq!(label.parse::<f64>().expect("a number"), bound_us as f64 / 1e6, "{label}");
        }
    }

    /// Labels beyond the last slot are counted together; those that have one keep it.
    #[test]
    fn labels_without_a_slot_are_counted_together() {
        let table = Labelled::default();
        for label in 0..LABELS_MAX + 3 {
            table.add(label);
        }
        table.add(0);
        assert_eq!(table.counts().count(), LABELS_MAX);
        assert_eq!(table.counts().next(), Some((0, 2)));
        assert_eq!(table.overflow(), 3);
    }
}
