//! Targets: normalised once, so that routing, access rules and the upstream see the same bytes.

use std::borrow::Cow;

/// A path that climbs above the root or hides bytes from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath;

/// Normalises an absolute path: unreserved escapes decoded, `.` and `..` resolved, `//` merged; `%2f`, `%5c`, `%00` stay as they are.
///
/// Idempotent: `normalise(normalise(x)) == normalise(x)`. Borrows where nothing changes, which is nearly always.
///
/// # Errors
/// [`BadPath`] for `..` above the root, a broken escape, or an encoded NUL.
pub fn normalise(_path: &[u8]) -> Result<Cow<'_, [u8]>, BadPath> {
    todo!()
}
