//! How far a long run is, and when it may end.

use std::time::Duration;

/// Counts blocks; the time left is reckoned from those that are done.
pub struct Progress {
    /// Blocks of the whole run, where that is known beforehand.
    blocks: Option<u32>,
    done: u32,
}

impl Progress {
    pub fn new(blocks: Option<u32>) -> Self {
        Self { blocks, done: 0 }
    }

    /// One more block is done, so long after the beginning; what to write before its line.
    pub fn step(&mut self, elapsed: Duration) -> String {
        self.done += 1;
        match self.blocks {
            Some(blocks) => {
                let left = elapsed * blocks.saturating_sub(self.done) / self.done;
                format!("[{}/{blocks}, {} left]", self.done, words(left))
            }
            None => format!("[{}, {} so far]", self.done, words(elapsed)),
        }
    }
}

/// A duration as one would say it: two units at most.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time left is that of the blocks so far, block by block, and nothing at the end.
    #[test]
    fn the_time_left_follows_the_blocks_so_far() {
        let mut progress = Progress::new(Some(4));
        assert_eq!(progress.step(Duration::from_secs(10)), "[1/4, 30 s left]");
        assert_eq!(progress.step(Duration::from_secs(4000)), "[2/4, 1 h 6 min left]");
        progress.step(Duration::from_secs(4010));
        assert_eq!(progress.step(Duration::from_secs(4020)), "[4/4, 0 s left]");
        // More blocks than were thought of are no reason to fail.
        assert_eq!(progress.step(Duration::from_secs(4030)), "[5/4, 0 s left]");
    }

    /// Where the end is not known, what has passed is told.
    #[test]
    fn without_an_end_the_past_is_told() {
        assert_eq!(Progress::new(None).step(Duration::from_secs(61)), "[1, 1 min 1 s so far]");
    }
}
