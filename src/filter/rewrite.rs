//! `rewrite-target`: the path the upstream sees.

use crate::http::path;
use crate::snapshot::rule::Rewrite;

/// The rewritten path; `None` where the expression does not match, so that the path stays as it is.
///
/// Captures come from a path that was normalised; the result is normalised again, so that no capture can climb out of it.
pub fn apply(rewrite: &Rewrite, from: &[u8]) -> Option<Vec<u8>> {
    let captures = rewrite.pattern.captures(from)?;
    let mut target = Vec::with_capacity(rewrite.target.len() + from.len());
    let mut rest = rewrite.target.as_bytes();
    while let Some(mark) = rest.iter().position(|byte| *byte == b'$') {
        target.extend_from_slice(&rest[..mark]);
        rest = &rest[mark + 1..];
        match rest.split_first() {
            Some((digit @ b'0'..=b'9', after)) => {
                let capture = captures.get(usize::from(digit - b'0'));
                target.extend_from_slice(capture.map_or(b"", |capture| capture.as_bytes()));
                rest = after;
            }
            _ => target.push(b'$'),
        }
    }
    target.extend_from_slice(rest);
    if !target.starts_with(b"/") {
        target.insert(0, b'/');
    }
    path::normalise(&target).ok().map(|path| path.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captures land where the target names them, and cannot climb out.
    #[test]
    fn captures_land_in_the_target() {
        for (pattern, target, from, want) in [
            ("/something(/|$)(.*)", "/$2", "/something/new", Some("/new")),
            ("/something(/|$)(.*)", "/$2", "/something", Some("/")),
            ("/app", "/", "/app", Some("/")),
            ("/app/(.*)", "/x/$1/y", "/app/a/b", Some("/x/a/b/y")),
            ("/app", "/$5", "/app", Some("/")),
            ("/app", "/x", "/other", None),
        ] {
            let pattern = regex::bytes::Regex::new(&format!("(?i){pattern}")).expect("a pattern");
            let rewrite = Rewrite { pattern, target: target.to_owned() };
            let got = apply(&rewrite, from.as_bytes()).map(|path| String::from_utf8(path).expect("text"));
            assert_eq!(got.as_deref(), want, "{rewrite:?} {from}");
        }
    }
}
