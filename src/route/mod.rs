//! Which rule a request meets: a pure table from host and path to a rule.
//!
//! The table is generic: `H` is what a host carries, `R` what a path carries. It never reads a clock, never allocates on
//! [`RouteTable::find`], and its precedence is that of Ingress v1 (longest path first, Exact before Prefix before string prefix).

/// Which hosts a set of paths answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// One host name in lower case, without port and without trailing dot.
    Exact(String),
    /// `*.example.com`, stored as `example.com`; covers exactly one more label.
    Wildcard(String),
    /// Every host that nothing above names.
    Any,
}

/// Which paths of a host a rule answers for.
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

/// A path as an expression: anchored at the start, case-insensitive, linear in time, bounded in size.
#[derive(Clone, Debug)]
pub struct PathRegex {
    written: String,
    expression: regex::Regex,
}

impl PathRegex {
    /// # Errors
    /// Why `written` is no expression, or too large a one.
    pub fn new(written: &str) -> Result<Self, String> {
        let expression = regex::RegexBuilder::new(&format!("^(?:{written})"))
            .case_insensitive(true)
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

    /// Whether `path` begins with it.
    pub fn is_match(&self, path: &str) -> bool {
        self.expression.is_match(path)
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
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PathRegex {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.written.cmp(&other.written)
    }
}

/// Where a request ended up in the table.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'t, H, R> {
    /// A host and one of its paths.
    Rule { host: &'t H, rule: &'t R },
    /// The host is known, none of its paths matched: there is no fall-through to other hosts.
    NoPath { host: &'t H },
    /// No host matched.
    NoHost,
}

/// Hosts and their paths, ready for look-up.
#[derive(Clone, Debug, Default)]
pub struct RouteTable<H, R> {
    todo: Vec<(HostPattern, H, Vec<(PathPattern, R)>)>,
}

impl<H, R> RouteTable<H, R> {
    /// Builds the table. A host or path given twice keeps its first rule: the caller sorts by age.
    pub fn build(hosts: Vec<(HostPattern, H, Vec<(PathPattern, R)>)>) -> Self {
        Self { todo: hosts }
    }

    /// The rule for a request. `host` without port and trailing dot, in any case; `path` normalised, without query.
    pub fn find(&self, _host: &[u8], _path: &[u8]) -> Lookup<'_, H, R> {
        todo!("{}", self.todo.len())
    }

    /// Every host with its paths in order of precedence, for people and tools.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostPattern, &H, &[(PathPattern, R)])> {
        self.todo.iter().map(|(pattern, host, paths)| (pattern, host, paths.as_slice()))
    }
}
