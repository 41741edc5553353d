//! Targets: normalised once, so that routing, access rules and the upstream see the same bytes.

use std::borrow::Cow;

/// A path that climbs above the root or hides bytes from the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath;

/// Normalises an absolute path: unreserved escapes decoded, `.` and `..` resolved, `//` merged; every other escape stays as it is.
///
/// Idempotent: `normalise(normalise(x)) == normalise(x)`. Borrows where nothing changes, which is nearly always.
///
/// # Errors
/// [`BadPath`] for `..` above the root, a broken escape, or an encoded NUL.
pub fn normalise(path: &[u8]) -> Result<Cow<'_, [u8]>, BadPath> {
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path)?;
    let mut normal = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            // An empty last segment is the trailing slash; an empty one before it is half of a double slash.
            b"" | b"." => {
                if last {
                    normal.push(b'/');
                }
            }
            b".." => {
                let parent = normal.iter().rposition(|byte| *byte == b'/').ok_or(BadPath)?;
                normal.truncate(parent);
                if last {
                    normal.push(b'/');
                }
            }
            segment => {
                normal.push(b'/');
                normal.extend_from_slice(segment);
            }
        }
    }
    Ok(Cow::Owned(normal))
}

/// Whether there is nothing to do: one pass, no escape, no dot segment, no double slash.
fn is_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    for byte in path {
        if *byte == b'%' || (previous == b'/' && (*byte == b'/' || *byte == b'.')) {
            return false;
        }
        previous = *byte;
    }
    true
}

fn decode_unreserved(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or(BadPath)?;
        let value = hex(digits[0]).zip(hex(digits[1])).map(|(high, low)| high << 4 | low).ok_or(BadPath)?;
        rest = after;
        match value {
            0 => return Err(BadPath),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => decoded.push(value),
            _ => {
                decoded.push(b'%');
                decoded.extend(digits.iter().map(u8::to_ascii_uppercase));
            }
        }
    }
    Ok(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every spelling of a path comes out as one, or is refused; nothing that separates segments is decoded.
    #[test]
    fn spellings_come_out_as_one() {
        for (given, normal) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/b/", Some("/a/b/")),
            ("//a///b//", Some("/a/b/")),
            ("/a/./b", Some("/a/b")),
            ("/a/.", Some("/a/")),
            ("/a/..", Some("/")),
            ("/a/../b", Some("/b")),
            ("/a/b/../../c", Some("/c")),
            ("/a//../b", Some("/b")),
            ("/%61dmin", Some("/admin")),
            ("/%2e%2E/a", None),
            ("/a/%2e%2e/b", Some("/b")),
            ("/..", None),
            ("/../a", None),
            ("/a/../../b", None),
            ("/a%2fb", Some("/a%2Fb")),
            ("/a%5cb", Some("/a%5Cb")),
            ("/a%00b", None),
            ("/a%", None),
            ("/a%2", None),
            ("/a%zz", None),
            ("/a;b/..;/c", Some("/a;b/..;/c")),
            ("/...", Some("/...")),
            ("/.hidden", Some("/.hidden")),
            ("/a%20b", Some("/a%20b")),
            ("/a%252e%252e/b", Some("/a%252e%252e/b")),
        ] {
            let got = normalise(given.as_bytes()).ok().map(|path| String::from_utf8(path.into_owned()).expect("text"));
            assert_eq!(got.as_deref(), normal, "{given}");
        }
    }

    /// Normalising twice changes nothing, whatever the pieces.
    #[test]
    fn normalising_twice_changes_nothing() {
        let pieces = ["/", "//", "/.", "/..", "/a", "%2e", "%2F", "%25", "%41", ".", "b;c", "%5c"];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    for d in pieces {
                        let path = format!("/x{a}{b}{c}{d}");
                        let Ok(once) = normalise(path.as_bytes()) else { continue };
                        assert!(once.starts_with(b"/"), "{path}");
                        assert_eq!(normalise(&once).as_deref(), Ok(&*once), "{path}");
                    }
                }
            }
        }
    }

    /// An ordinary path is not copied.
    #[test]
    fn an_ordinary_path_is_borrowed() {
        assert!(matches!(normalise(b"/api/v1/users.json"), Ok(Cow::Borrowed(_))));
    }
}
