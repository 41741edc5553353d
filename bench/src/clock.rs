//! The one clock of a run: nanoseconds since the driver began.

use std::time::Instant;

/// Counts from its own beginning, so that all stamps of a run are plain numbers on one axis.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "the driver's door to time")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Nanoseconds since [`Self::start`].
    pub fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}
