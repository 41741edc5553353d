//! Passive health: an endpoint that keeps failing is not chosen for a while.

/// Failures in a row that eject.
const FAILURES_MAX: u32 = 5;
/// The first ejection, in microseconds; the n-th in a row is n times as long.
const EJECTION_US: u64 = 30_000_000;
const EJECTION_US_MAX: u64 = 300_000_000;

/// What one endpoint's answers have earned it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    failures_in_row: u32,
    ejections: u32,
    ejected_until_us: u64,
}

impl Standing {
    /// It answered.
    pub fn succeeded(&mut self) {
        self.failures_in_row = 0;
        self.ejections = 0;
    }

    /// It failed; true where it has now failed often enough to be ejected, if there is room for it.
    pub fn failed(&mut self) -> bool {
        self.failures_in_row += 1;
        self.failures_in_row >= FAILURES_MAX
    }

    /// Ejects it from now on.
    pub fn eject(&mut self, now_us: u64) {
        self.ejections += 1;
        self.failures_in_row = 0;
        self.ejected_until_us = now_us + (EJECTION_US * u64::from(self.ejections)).min(EJECTION_US_MAX);
    }

    /// Whether its last word was a failure.
    pub fn is_suspect(&self, now_us: u64) -> bool {
        self.failures_in_row > 0 || self.is_ejected(now_us)
    }

    /// Whether it is not to be chosen now.
    pub fn is_ejected(&self, now_us: u64) -> bool {
        self.ejected_until_us > now_us
    }
}

/// How many of `endpoints` may be ejected at once: at least one, at most half, never the last.
pub fn ejected_max(endpoints: usize) -> usize {
    (endpoints / 10).max(1).min(endpoints / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five failures in a row eject, each time for longer; an answer forgives.
    #[test]
    fn failures_in_a_row_eject() {
        let mut standing = Standing::default();
        assert!((0..4).all(|_| !standing.failed()));
        standing.succeeded();
        assert!((0..4).all(|_| !standing.failed()));
        assert!(standing.failed());
        standing.eject(1000);
        assert!(standing.is_ejected(1000 + EJECTION_US - 1) && !standing.is_ejected(1000 + EJECTION_US));
        standing.eject(0);
        assert!(standing.is_ejected(2 * EJECTION_US - 1) && !standing.is_ejected(2 * EJECTION_US));
        for _ in 0..50 {
            standing.eject(0);
        }
        assert!(!standing.is_ejected(EJECTION_US_MAX));
    }

    /// One failure makes an endpoint suspect, an answer clears it.
    #[test]
    fn a_failure_makes_suspect() {
        let mut standing = Standing::default();
        assert!(!standing.is_suspect(0));
        standing.failed();
        assert!(standing.is_suspect(0));
        standing.succeeded();
        assert!(!standing.is_suspect(0));
        standing.eject(0);
        assert!(standing.is_suspect(0) && !standing.is_suspect(EJECTION_US));
    }

    /// One of two may go, never the only one, never more than half.
    #[test]
    fn the_last_endpoint_stays() {
        for (endpoints, most) in [(0, 0), (1, 0), (2, 1), (3, 1), (8, 1), (20, 2), (100, 10)] {
            assert_eq!(ejected_max(endpoints), most, "{endpoints}");
        }
    }
}
