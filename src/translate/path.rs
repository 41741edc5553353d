//! Paths as objects write them, and what they match.

use crate::route::PathPattern;

/// Longer ones no request line could meet.
const BYTES_MAX: usize = 4096;

/// `pathType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PathKind {
    Exact,
    Prefix,
    ImplementationSpecific,
}

impl PathKind {
    /// `None` for a word that is no path type. An API server never lets an empty one through; manifests may.
    pub(crate) fn read(written: &str) -> Option<Self> {
        match written {
            "Exact" => Some(Self::Exact),
            "Prefix" => Some(Self::Prefix),
            "ImplementationSpecific" | "" => Some(Self::ImplementationSpecific),
            _ => None,
        }
    }

    /// What matches `path` where no Ingress has turned the host into expressions.
    pub(crate) fn pattern(self, path: String) -> PathPattern {
        match self {
            Self::Exact => PathPattern::Exact(path),
            Self::Prefix => PathPattern::Prefix(path),
            Self::ImplementationSpecific => PathPattern::Start(path),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exact => "Exact",
            Self::Prefix => "Prefix",
            Self::ImplementationSpecific => "ImplementationSpecific",
        }
    }
}

/// The path that stands for `written`: an absent one is `/` where the type is ours to interpret.
///
/// # Errors
/// Why no rule can be made of it. `strict` is ingress-nginx's `strict-validate-path-type`: what is no expression by its type must not
/// look like one.
pub(crate) fn check(kind: PathKind, written: Option<&str>, strict: bool) -> Result<String, &'static str> {
    let path = written.unwrap_or_default();
    let literal = kind != PathKind::ImplementationSpecific;
    if path.is_empty() && !literal {
        return Ok("/".to_owned());
    }
    if !path.starts_with('/') {
        return Err("a path begins with /");
    }
    if path.len() > BYTES_MAX {
        return Err("a path has at most 4096 bytes");
    }
    if literal && strict && !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte)) {
        return Err("Exact and Prefix paths hold letters, digits and . _ - / only");
    }
    let climbs = |segment: &str| segment == "." || segment == "..";
    if literal && (path.contains("//") || path.split('/').any(climbs)) {
        return Err("no request meets a path with //, /./ or /../, for paths are normalised first");
    }
    Ok(path.to_owned())
}

/// The expression that `rewrite-target` replaces, `None` where a target equal to the path has no effect.
///
/// ingress-nginx serves a Prefix `/a` at `/a/`: there a target `/a` is not the path, and rewrites what lies below it.
pub(crate) fn rewritten(kind: PathKind, path: &str, target: &str) -> Option<String> {
    if target != path {
        return Some(path.to_owned());
    }
    (kind == PathKind::Prefix && !path.ends_with('/')).then(|| format!("{path}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only what some request can meet is a path; strictness keeps expressions out of literal types.
    #[test]
    fn paths_are_what_requests_can_meet() {
        let long = format!("/{}", "a".repeat(BYTES_MAX));
        for (kind, written, strict, want) in [
            ("Exact", Some("/foo"), true, Some("/foo")),
            ("Prefix", Some("/aaa/bbb/"), true, Some("/aaa/bbb/")),
            ("Prefix", Some("/A.b_c-d9"), true, Some("/A.b_c-d9")),
            ("Prefix", Some("/a(.*)"), true, None),
            ("Prefix", Some("/a(.*)"), false, Some("/a(.*)")),
            ("Exact", Some("/a b"), true, None),
            ("Exact", Some(""), true, None),
            ("Prefix", None, true, None),
            ("Prefix", Some("foo"), true, None),
            ("Prefix", Some("/a//b"), true, None),
            ("Prefix", Some("/a/../b"), true, None),
            ("Exact", Some("/a/."), true, None),
            ("ImplementationSpecific", Some("/a(/|$)(.*)"), true, Some("/a(/|$)(.*)")),
            ("ImplementationSpecific", Some(""), true, Some("/")),
            ("ImplementationSpecific", None, true, Some("/")),
            ("", None, true, Some("/")),
            ("ImplementationSpecific", Some("x"), true, None),
            ("ImplementationSpecific", Some(long.as_str()), true, None),
        ] {
            let kind = PathKind::read(kind).expect("a type");
            assert_eq!(check(kind, written, strict).ok().as_deref(), want, "{kind:?} {written:?}");
        }
        assert_eq!(PathKind::read("prefix"), None);
    }

    /// A target equal to the path rewrites nothing, but below a Prefix without slash.
    #[test]
    fn a_target_equal_to_the_path_rewrites_nothing() {
        for (kind, path, target, want) in [
            (PathKind::Exact, "/a", "/a", None),
            (PathKind::ImplementationSpecific, "/a", "/a", None),
            (PathKind::Prefix, "/a", "/a", Some("/a/")),
            (PathKind::Prefix, "/a/", "/a/", None),
            (PathKind::Prefix, "/", "/", None),
            (PathKind::Prefix, "/a", "/", Some("/a")),
            (PathKind::ImplementationSpecific, "/a(.*)", "/$1", Some("/a(.*)")),
        ] {
            assert_eq!(rewritten(kind, path, target).as_deref(), want, "{kind:?} {path} {target}");
        }
    }
}
