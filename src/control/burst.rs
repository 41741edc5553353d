//! When to read after the first sign of a change: at once, but not in the middle of it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// An editor's steps and the files of one `kubectl`-like copy follow each other faster than this.
const PAUSE: Duration = Duration::from_millis(5);
/// However long it goes on, what is there by then is read.
const CAP: Duration = Duration::from_millis(50);

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Bytes were written or cut off: the writer is not done until it closes.
    Written,
    /// Its writer closed it.
    Closed,
    /// It came, went, or was renamed.
    Moved,
}

/// Signs that belong together.
#[derive(Debug)]
pub(crate) struct Burst {
    first: Instant,
    last: Instant,
    unfinished: HashSet<PathBuf>,
    touched: HashSet<PathBuf>,
}

impl Burst {
    pub(crate) fn new(now: Instant) -> Self {
        Self { first: now, last: now, unfinished: HashSet::new(), touched: HashSet::new() }
    }

    pub(crate) fn sign(&mut self, now: Instant, path: PathBuf, sign: Sign) {
        self.last = now;
        match sign {
            Sign::Written => self.unfinished.insert(path.clone()),
            Sign::Closed | Sign::Moved => self.unfinished.remove(&path),
        };
        self.touched.insert(path);
    }

    /// When the change began.
    pub(crate) fn began(&self) -> Instant {
        self.first
    }

    /// When to read. A file that is cut short but not closed would read as one with fewer objects: its writer gets the longer time.
    pub(crate) fn due(&self) -> Instant {
        let cap = self.first + CAP;
        if self.unfinished.is_empty() { cap.min(self.last + PAUSE) } else { cap }
    }

    /// Every path that gave a sign.
    pub(crate) fn touched(&self) -> &HashSet<PathBuf> {
        &self.touched
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test may begin at any moment")]

    use super::*;

    /// Reading waits for a short pause, for the writer to close, and never longer than the cap.
    #[test]
    fn a_burst_is_read_when_it_pauses() {
        use Sign::Closed;
        use Sign::Moved;
        use Sign::Written;
        for (name, signs, due_ms) in [
            ("renamed over", &[(0, "a", Moved)][..], 5),
            ("written and closed", &[(0, "a", Written), (1, "a", Written), (2, "a", Closed)], 7),
            ("cut off, not closed", &[(0, "a", Written)], 50),
            ("one of two closed", &[(0, "a", Written), (1, "b", Written), (2, "b", Closed)], 50),
            ("removed while open", &[(0, "a", Written), (3, "a", Moved)], 8),
            ("on and on", &[(0, "a", Moved), (30, "b", Moved), (48, "c", Moved)], 50),
        ] {
            let start = Instant::now();
            let mut burst = Burst::new(start);
            for (at, path, sign) in signs {
                burst.sign(start + Duration::from_millis(*at), PathBuf::from(path), *sign);
            }
            assert_eq!(burst.due() - start, Duration::from_millis(due_ms), "{name}");
        }
    }
}
