//! The paths of one host: their order of precedence, and a search that does not walk through all of them.

use std::cmp::Ordering;
use std::ops::Range;

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

/// Which paths of a host a rule answers for. Compared byte by byte with the normalised path of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathPattern {
    /// The whole path, case-sensitive (`Exact`).
    Exact(String),
    /// Element by element, case-sensitive (`Prefix`).
    Prefix(String),
    /// Plain string prefix (`ImplementationSpecific`, as ingress-nginx serves it).
    Start(String),
    /// An expression that the path must begin with, in any case (`use-regex`).
    Regex(PathRegex),
}

impl PathPattern {
    /// The path as it stands in the object.
    pub fn written(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) | Self::Start(path) => path,
            Self::Regex(expression) => expression.written(),
        }
    }

    /// Whether `path` is one of those meant, whatever else the host has.
    pub fn is_match(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(whole) => path == whole.as_bytes(),
            Self::Prefix(_) => path.strip_prefix(self.stem()).is_some_and(|rest| is_whole_element(self.stem(), rest)),
            Self::Start(start) => path.starts_with(start.as_bytes()),
            Self::Regex(expression) => expression.is_match(path),
        }
    }

    /// What every matching path begins with; the trailing slash of a Prefix is not part of it. Empty for an expression.
    fn stem(&self) -> &[u8] {
        match self {
            Self::Exact(path) | Self::Start(path) => path.as_bytes(),
            Self::Prefix(path) => path.strip_suffix('/').unwrap_or(path).as_bytes(),
            Self::Regex(_) => b"",
        }
    }

    /// Which of two patterns is tried first: the longer as written, then Exact, Prefix, Start, Regex, then the lexically later.
    ///
    /// An Exact path counts its end as one more byte. It can meet only one longer pattern on the same request: for `/foo`, Exact `/foo`
    /// and Prefix `/foo/`. The one that names the request whole wins, as in ingress-nginx.
    fn precedence(&self, other: &Self) -> Ordering {
        let rank = |pattern: &Self| match pattern {
            Self::Exact(path) => (path.len() + 1, 3),
            Self::Prefix(path) => (path.len(), 2),
            Self::Start(path) => (path.len(), 1),
            Self::Regex(expression) => (expression.written().len(), 0),
        };
        rank(other).cmp(&rank(self)).then_with(|| other.written().cmp(self.written()))
    }
}

/// Whether a stem that has `rest` after it ends where an element of the path ends. The stem of `/` does before everything.
fn is_whole_element(stem: &[u8], rest: &[u8]) -> bool {
    stem.is_empty() || matches!(rest.first(), None | Some(b'/'))
}

/// A path as an expression: anchored at the start, linear in time, bounded in size.
///
/// It sees bytes, and case is that of ASCII, as in nginx; classes of Unicode would also cost four times as much to compile.
#[derive(Clone, Debug)]
pub struct PathRegex {
    written: String,
    expression: Regex,
}

impl PathRegex {
    /// # Errors
    /// Why `written` is no expression, or too large a one.
    pub fn new(written: &str) -> Result<Self, String> {
        let expression = RegexBuilder::new(&format!("^(?:{written})"))
            .case_insensitive(true)
            .unicode(false)
            .size_limit(1 << 20)
            .nest_limit(50)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { written: written.to_owned(), expression })
    }

    /// The expression as it stands in the object.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether `path` begins with it. The first matches of a thread may allocate the engine's scratch space.
    pub fn is_match(&self, path: &[u8]) -> bool {
        self.expression.is_match(path)
    }

    /// The expression itself, for whoever needs what its groups have captured.
    pub fn expression(&self) -> &Regex {
        &self.expression
    }
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for PathRegex {}

impl std::hash::Hash for PathRegex {
    fn hash<S: std::hash::Hasher>(&self, state: &mut S) {
        self.written.hash(state);
    }
}

impl PartialOrd for PathRegex {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PathRegex {
    fn cmp(&self, other: &Self) -> Ordering {
        self.written.cmp(&other.written)
    }
}

/// The paths of one host with what each carries.
pub type Paths<R> = Vec<(PathPattern, R)>;

/// Stands for no position; comes after every real one.
const NONE: u32 = u32::MAX;

/// The paths of a host in order of precedence: the first that matches wins, wherever it is found first.
///
/// Every plain pattern asks for a path that begins with its stem, so the stems are sorted and each knows the longest other stem it
/// begins with. One binary search and a walk along these parents meets every stem of a request and hardly any other: thousands
/// of paths on one host cost a dozen comparisons.
#[derive(Clone, Debug)]
pub(crate) struct PathTable<R> {
    paths: Paths<R>,
    /// Sorted by text.
    stems: Box<[Stem]>,
    /// The texts of all stems, one after the other: what one search compares lies close together.
    texts: Box<[u8]>,
    /// Positions of the expressions in `paths`, ascending. Expressions are tried one by one.
    expressions: Box<[u32]>,
}

/// A text that some patterns begin with, and the positions of the best of them.
#[derive(Clone, Debug)]
struct Stem {
    text: Range<u32>,
    /// The longest other stem that this one begins with.
    parent: u32,
    exact: u32,
    prefix: u32,
    start: u32,
}

impl<R> PathTable<R> {
    /// Sorts `paths` by precedence; of equal patterns the first is kept.
    pub(crate) fn build(mut paths: Paths<R>) -> Self {
        // Both are stable: of two equal patterns the one given first comes first, and stays.
        paths.sort_by(|(one, _), (other, _)| one.precedence(other));
        paths.dedup_by(|(later, _), (first, _)| later == first);
        let is_expression = |position: &u32| matches!(paths[*position as usize].0, PathPattern::Regex(_));
        let (expressions, plain): (Vec<u32>, Vec<u32>) = (0..paths.len() as u32).partition(is_expression);
        let (stems, texts) = build_stems(&paths, plain);
        Self { paths, stems, texts, expressions: expressions.into() }
    }

    /// What the first matching path carries.
    pub(crate) fn find(&self, path: &[u8]) -> Option<&R> {
        let plain = self.find_plain(path);
        let mut before = self.expressions.iter().copied().take_while(|position| *position < plain);
        let expression = before.find(|position| self.paths[*position as usize].0.is_match(path));
        self.paths.get(expression.unwrap_or(plain) as usize).map(|(_, rule)| rule)
    }

    /// The position of the first plain pattern that matches.
    fn find_plain(&self, path: &[u8]) -> u32 {
        // Whatever sorts between a stem of `path` and `path` itself begins with that stem, so the walk from here meets them all.
        let after = self.stems.partition_point(|stem| stem.text(&self.texts) <= path);
        let mut next = after.wrapping_sub(1);
        let mut best = NONE;
        while let Some(stem) = self.stems.get(next) {
            let text = stem.text(&self.texts);
            if let Some(rest) = path.strip_prefix(text) {
                best = best.min(stem.best(text, rest));
            }
            next = stem.parent as usize;
        }
        best
    }

    /// Every path in order of precedence.
    pub(crate) fn in_order(&self) -> &[(PathPattern, R)] {
        &self.paths
    }
}

impl Stem {
    fn text<'t>(&self, texts: &'t [u8]) -> &'t [u8] {
        &texts[self.text.start as usize..self.text.end as usize]
    }

    /// The position of the first of these patterns that matches a path of `text` and `rest`.
    fn best(&self, text: &[u8], rest: &[u8]) -> u32 {
        let exact = if rest.is_empty() { self.exact } else { NONE };
        let prefix = if is_whole_element(text, rest) { self.prefix } else { NONE };
        exact.min(prefix).min(self.start)
    }
}

fn build_stems<R>(paths: &[(PathPattern, R)], mut plain: Vec<u32>) -> (Box<[Stem]>, Box<[u8]>) {
    let pattern_at = |position: u32| &paths[position as usize].0;
    plain.sort_by_key(|position| (pattern_at(*position).stem(), *position));
    let mut stems: Vec<Stem> = Vec::with_capacity(plain.len());
    let mut texts: Vec<u8> = Vec::new();
    for position in plain {
        let text = pattern_at(position).stem();
        if stems.last().is_none_or(|last| last.text(&texts) != text) {
            let parent = longest_prefix(&stems, &texts, text);
            let start = texts.len() as u32;
            texts.extend_from_slice(text);
            stems.push(Stem { text: start..texts.len() as u32, parent, exact: NONE, prefix: NONE, start: NONE });
        }
        let stem = stems.last_mut().expect("the stem of this pattern was found or made above");
        let place = match pattern_at(position) {
            PathPattern::Exact(_) => &mut stem.exact,
            PathPattern::Prefix(_) => &mut stem.prefix,
            PathPattern::Start(_) | PathPattern::Regex(_) => &mut stem.start,
        };
        // Prefix `/foo/` and Prefix `/foo` match the same requests: the longer one comes first and is the only one ever found.
        *place = position.min(*place);
    }
    (stems.into(), texts.into())
}

/// The last stem so far, or the nearest of its parents, that `text` begins with.
fn longest_prefix(stems: &[Stem], texts: &[u8], text: &[u8]) -> u32 {
    let mut next = stems.len().wrapping_sub(1);
    while let Some(stem) = stems.get(next) {
        if text.starts_with(stem.text(texts)) {
            return next as u32;
        }
        next = stem.parent as usize;
    }
    NONE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern as people write it in these tables: `= /p` Exact, `/p` Prefix, `^ /p` Start, `~ /p` Regex.
    fn pattern(text: &str) -> PathPattern {
        match text.split_once(' ') {
            Some(("=", path)) => PathPattern::Exact(path.to_owned()),
            Some(("^", path)) => PathPattern::Start(path.to_owned()),
            Some(("~", path)) => PathPattern::Regex(PathRegex::new(path).expect("an expression")),
            _ => PathPattern::Prefix(text.to_owned()),
        }
    }

    fn table<'t>(patterns: &[&'t str]) -> PathTable<&'t str> {
        PathTable::build(patterns.iter().map(|text| (pattern(text), *text)).collect())
    }

    /// Patterns, and requests with the pattern that serves each.
    type Case = (&'static [&'static str], &'static [(&'static str, Option<&'static str>)]);

    fn assert_table(cases: &[Case]) {
        for (patterns, requests) in cases {
            let table = table(patterns);
            for (path, want) in *requests {
                assert_eq!(table.find(path.as_bytes()).copied(), *want, "{path} of {patterns:?}");
            }
        }
    }

    /// Conformance checks 15 to 30: Exact and Prefix of Ingress v1.
    #[test]
    fn exact_and_prefix_match_as_ingress_says() {
        assert_table(&[
            (&["= /foo"], &[("/foo", Some("= /foo")), ("/foo/", None), ("/FOO", None), ("/bar", None)]),
            (&["/foo"], &[("/foo", Some("/foo")), ("/foo/", Some("/foo")), ("/FOO", None)]),
            (
                &["/aaa/bbb", "/aaa"],
                &[("/aaa/bbb", Some("/aaa/bbb")), ("/aaa/bbb/ccc", Some("/aaa/bbb")), ("/aaa/ccc", Some("/aaa")), ("/aaaccc", None)],
            ),
            (&["/foo", "= /foo"], &[("/foo", Some("= /foo")), ("/foo/", Some("/foo")), ("/foo/bar", Some("/foo"))]),
            (&["/aaa/bbb/"], &[("/aaa/bbb", Some("/aaa/bbb/")), ("/aaa/bbb/", Some("/aaa/bbb/")), ("/aaa/bbbc", None)]),
            (&["= /foo/"], &[("/foo", None), ("/foo/", Some("= /foo/"))]),
        ]);
    }

    /// The longer of two with and without slash serves both, whichever was given first.
    #[test]
    fn the_longer_of_two_with_and_without_slash_wins() {
        for patterns in [["/foo", "/foo/"], ["/foo/", "/foo"]] {
            let table = table(&patterns);
            for path in ["/foo", "/foo/", "/foo/bar"] {
                assert_eq!(table.find(path.as_bytes()), Some(&"/foo/"), "{path} of {patterns:?}");
            }
        }
    }

    /// Longest first; at equal length Exact, Prefix, Start.
    #[test]
    fn the_longest_path_wins_and_kinds_break_ties() {
        assert_table(&[
            (&["/"], &[("/", Some("/")), ("/x", Some("/")), ("", Some("/")), ("*", Some("/"))]),
            (&["= /"], &[("/", Some("= /")), ("/x", None), ("", None)]),
            (&["^ /foo"], &[("/foo", Some("^ /foo")), ("/foobar", Some("^ /foo")), ("/fo", None), ("/Foo", None)]),
            (&["^ /foo", "/foo"], &[("/foo", Some("/foo")), ("/foo/x", Some("/foo")), ("/foox", Some("^ /foo"))]),
            (&["^ /foo/", "/foo/"], &[("/foo/x", Some("/foo/")), ("/foo", Some("/foo/"))]),
            (&["^ /foo/", "/foo"], &[("/foo/x", Some("^ /foo/")), ("/foo", Some("/foo"))]),
            (&["^ /foo", "= /foo"], &[("/foo", Some("= /foo")), ("/foo/", Some("^ /foo"))]),
            (&["^ /foo/b", "/foo"], &[("/foo/bar", Some("^ /foo/b")), ("/foo/car", Some("/foo"))]),
            // The path that names the request whole beats the one that covers it by its slash.
            (&["/foo/", "= /foo"], &[("/foo", Some("= /foo")), ("/foo/", Some("/foo/"))]),
            // Neighbours in the alphabet that are no prefixes, on the way to one that is.
            (
                &["/a", "/a-b", "/a.b", "/ab", "/a/b/c"],
                &[("/a/b", Some("/a")), ("/a-c", None), ("/a/b/c/d", Some("/a/b/c")), ("/ab/", Some("/ab"))],
            ),
        ]);
    }

    /// Expressions are tried longest first, equal ones from the lexically last, in any case, anchored at the start only.
    #[test]
    fn expressions_are_tried_longest_first() {
        assert_table(&[
            (&["~ /foo"], &[("/foo", Some("~ /foo")), ("/FOObar", Some("~ /foo")), ("/x/foo", None)]),
            (&["~ /a", "~ /a/.*"], &[("/a/b", Some("~ /a/.*")), ("/a", Some("~ /a")), ("/ab", Some("~ /a"))]),
            (&["~ /[a-z]{3}", "~ /foo"], &[("/foo", Some("~ /[a-z]{3}"))]),
            (&["~ /a.", "~ /.b"], &[("/ab", Some("~ /a."))]),
            (&["~ /x|/y"], &[("/y", Some("~ /x|/y")), ("/z/y", None)]),
            (&["~ /app(/|$)(.*)"], &[("/app", Some("~ /app(/|$)(.*)")), ("/app/x", Some("~ /app(/|$)(.*)")), ("/apple", None)]),
            // Both kinds on one host keep one order: the longer first, a plain one first among equals.
            (&["~ /foo.*", "/foo"], &[("/foo/x", Some("~ /foo.*"))]),
            (&["~ /fo.", "/foo"], &[("/foo", Some("/foo")), ("/fox", Some("~ /fo."))]),
            (&["~ /f", "/foo"], &[("/foo", Some("/foo")), ("/f", Some("~ /f"))]),
        ]);
    }

    /// What is no expression, or one that would take too much, is refused with a reason.
    #[test]
    fn bad_expressions_are_refused() {
        for written in ["/foo(", "/[", "*/foo", "/(a{1000}){1000}", "/(?=ahead)", &"(".repeat(1000)] {
            let reason = PathRegex::new(written).expect_err(written);
            assert!(!reason.is_empty(), "{written}");
        }
        assert_eq!(PathRegex::new("/foo(/|$)(.*)").expect("an expression").written(), "/foo(/|$)(.*)");
    }

    /// An expression sees bytes, text or not, and no other case than that of ASCII, as in nginx.
    #[test]
    fn expressions_see_bytes() {
        let table = table(&["/foo", "~ /foo/.*", "~ /K"]);
        assert_eq!(table.find(b"/foo/\xff"), Some(&"~ /foo/.*"));
        assert_eq!(table.find(b"/k"), Some(&"~ /K"));
        assert_eq!(table.find("/\u{212a}".as_bytes()), None, "the Kelvin sign is no k");
    }

    /// The search finds what trying every pattern in order finds, whatever the patterns.
    #[test]
    fn the_search_agrees_with_trying_one_by_one() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let mut path = |elements_max: u64| -> String {
            let mut path = String::from("/");
            for _ in 0..below(elements_max) {
                let length = 1 + below(3) as usize;
                path.extend(["a", "b", "/", "-", "a/"].into_iter().cycle().skip(below(5) as usize).take(length));
            }
            path
        };
        for round in 0..300 {
            let texts: Vec<String> = (0..round % 40).map(|number| format!("{}{}", ["= ", "", "^ ", "~ "][number % 4], path(4))).collect();
            let patterns: Vec<&str> = texts.iter().map(String::as_str).collect();
            let table = table(&patterns);
            for _ in 0..40 {
                let path = path(5);
                let one_by_one = table.in_order().iter().find(|(pattern, _)| pattern.is_match(path.as_bytes()));
                assert_eq!(table.find(path.as_bytes()), one_by_one.map(|(_, rule)| rule), "{path} of {patterns:?}");
            }
        }
    }

    /// A host with thousands of paths finds the right one of them.
    #[test]
    fn thousands_of_paths_on_one_host_are_told_apart() {
        let texts: Vec<String> = (0..5000).map(|number| format!("/team-{}/service-{number}", number % 70)).collect();
        let table = PathTable::build(texts.iter().map(|text| (PathPattern::Prefix(text.clone()), text.as_str())).collect());
        for text in &texts {
            assert_eq!(table.find(format!("{text}/x").as_bytes()), Some(&text.as_str()));
            assert_eq!(table.find(format!("{text}0x").as_bytes()), None);
        }
    }
}
