//! `rewrite-target`: the path the upstream sees.

use crate::http::path;
use crate::snapshot::rule::Rewrite;

/// The rewritten path; `None` where the expression does not match, so that the path stays as it is.
///
/// Captures come from a path that was normalised; the result is normalised again, so that no capture can climb out of it.
pub fn apply(rewrite: &Rewrite, from: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(from).ok()?;
    let captures = rewrite.pattern.captures(text)?;
    let mut target = String::with_capacity(rewrite.target.len() + text.len());
    let mut rest = rewrite.target.as_str();
    while let Some(mark) = rest.find('$') {
        target.push_str(&rest[..mark]);
        rest = &rest[mark + 1..];
        match rest.chars().next().and_then(|digit| digit.to_digit(10)) {
            Some(number) => {
                target.push_str(captures.get(number as usize).map_or("", |capture| capture.as_str()));
                rest = &rest[1..];
            }
            None => target.push('$'),
        }
    }
    target.push_str(rest);
    if !target.starts_with('/') {
        target.insert(0, '/');
    }
    path::normalise(target.as_bytes()).ok().map(|path| path.into_owned())
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
            let rewrite = Rewrite { pattern: regex::Regex::new(&format!("(?i){pattern}")).expect("a pattern"), target: target.to_owned() };
            let got = apply(&rewrite, from.as_bytes()).map(|path| String::from_utf8(path).expect("text"));
            assert_eq!(got.as_deref(), want, "{pattern} {target} {from}");
        }
    }
}
