//! What one socket may have of a turn, so that a fast stream beside small requests cannot make them wait for all it has.

/// Bytes after which a socket hands out no more before the next turn: four full buffers.
///
/// Whoever gets them parses, encrypts and queues them within the turn, and everybody else waits. A stream that is alone loses nothing:
/// the next turn follows at once, and a socket that receives on demand gets less than this in one anyway.
pub(crate) const TURN_BYTES_MAX: usize = 256 << 10;

/// How much of the current turn a socket has had.
#[derive(Debug, Default)]
pub(crate) struct Share {
    turn: u64,
    bytes: usize,
}

impl Share {
    /// Whether nothing more is to be had in this turn.
    #[inline]
    pub(crate) fn is_spent(&self, turn: u64) -> bool {
        self.turn == turn && self.bytes >= TURN_BYTES_MAX
    }

    /// Counts bytes that were handed out.
    #[inline]
    pub(crate) fn count(&mut self, turn: u64, bytes: usize) {
        if self.turn != turn {
            *self = Self { turn, bytes: 0 };
        }
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A share lasts for one turn, whether it was used up or not.
    #[test]
    fn every_turn_brings_a_whole_share() {
        let mut share = Share::default();
        assert!(!share.is_spent(0));
        for turn in [1, 2, 7] {
            assert!(!share.is_spent(turn));
            share.count(turn, TURN_BYTES_MAX - 1);
            assert!(!share.is_spent(turn));
            share.count(turn, 1);
            assert!(share.is_spent(turn));
        }
        share.count(8, TURN_BYTES_MAX - 1);
        share.count(9, 1);
        assert!(!share.is_spent(9), "what was left over or used before does not count");
    }
}
