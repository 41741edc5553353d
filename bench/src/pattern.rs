//! What every body consists of: one long stretch of bytes over and over, so that a body of any length is made and checked
//! without being held.

use std::sync::LazyLock;

/// Length of the stretch. A prime just above 1 MiB: no buffer of a proxy begins at the same place of it twice, so that a piece
/// sent twice or left out does not fit.
const PERIOD: usize = 1_048_583;

static STRETCH: LazyLock<Vec<u8>> = LazyLock::new(|| (0..PERIOD).map(|at| b'a' + (at % 23 + at / 251) as u8 % 26).collect());

/// The bytes of a body from position `at` on that lie together, `most` of them at most; none only for `most` = 0.
pub fn from(at: u64, most: u64) -> &'static [u8] {
    let rest = &STRETCH[(at % PERIOD as u64) as usize..];
    &rest[..rest.len().min(usize::try_from(most).unwrap_or(usize::MAX))]
}

/// Whether a body has these bytes at position `at`.
pub fn holds(mut at: u64, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let expected = from(at, bytes.len() as u64);
        let (here, after) = bytes.split_at(expected.len());
        if here != expected {
            return false;
        }
        bytes = after;
        at += here.len() as u64;
    }
    true
}

/// The first bytes of a body.
pub fn beginning(length: usize) -> Vec<u8> {
    STRETCH.iter().copied().cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body made piece by piece is the one made at once, also where the stretch begins anew.
    #[test]
    fn a_body_is_the_same_in_any_pieces() {
        let length = 2 * PERIOD + 1000;
        let whole = beginning(length);
        let mut made = Vec::new();
        while made.len() < length {
            made.extend_from_slice(from(made.len() as u64, ((length - made.len()) as u64).min(70_001)));
        }
        assert!(made == whole);
        assert!(holds(0, &whole) && holds(PERIOD as u64 - 5, &whole[PERIOD - 5..PERIOD + 5]));
    }

    /// One wrong byte is found, and so is a piece of a power of two that was left out or sent twice.
    #[test]
    fn a_wrong_piece_is_found() {
        let whole = beginning(PERIOD + (128 << 10));
        let mut spoiled = whole.clone();
        spoiled[PERIOD + 3] ^= 1;
        assert!(!holds(0, &spoiled));
        for shift in (9..=16).map(|power| 1_usize << power) {
            assert!(!holds(0, &whole[shift..shift + 64]), "{shift} left out");
            assert!(!holds(shift as u64, &whole[..64]), "{shift} sent twice");
        }
    }
}
