//! Which rule a request meets: a pure table from host and path to a rule.
//!
//! The table is generic: `H` is what a host carries, `R` what a path carries. It never reads a clock, and [`RouteTable::find`]
//! allocates nothing. The precedence is that of Ingress v1: the host decides first, and for good; within the host the longest path
//! wins, at equal length Exact before Prefix before string prefix.

mod host;
mod path;

pub use crate::route::host::HostPattern;
pub use crate::route::path::PathPattern;
pub use crate::route::path::PathRegex;
pub use crate::route::path::Paths;

use crate::route::host::HostIndex;
use crate::route::path::PathTable;

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
#[derive(Clone, Debug)]
pub struct RouteTable<H, R> {
    index: HostIndex,
    hosts: Vec<HostEntry<H, R>>,
}

#[derive(Clone, Debug)]
struct HostEntry<H, R> {
    pattern: HostPattern,
    host: H,
    paths: PathTable<R>,
}

impl<H, R> RouteTable<H, R> {
    /// Builds the table. Of a path given twice within a host, and of a host given twice, the first is kept and the later one ignored
    /// whole: the caller sorts by age and gathers the paths of a host.
    pub fn build(hosts: Vec<(HostPattern, H, Paths<R>)>) -> Self {
        let mut table = Self::default();
        for (pattern, host, paths) in hosts {
            if table.index.insert(&pattern, table.hosts.len()) {
                table.hosts.push(HostEntry { pattern, host, paths: PathTable::build(paths) });
            }
        }
        table
    }

    /// The rule for a request. `host` without port and trailing dot, in any case; `path` normalised, without query.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Lookup<'_, H, R> {
        let Some(entry) = self.index.find(host).map(|position| &self.hosts[position]) else { return Lookup::NoHost };
        match entry.paths.find(path) {
            Some(rule) => Lookup::Rule { host: &entry.host, rule },
            None => Lookup::NoPath { host: &entry.host },
        }
    }

    /// Every host in the order given, with its paths in order of precedence, for people and tools.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostPattern, &H, &[(PathPattern, R)])> {
        self.hosts.iter().map(|entry| (&entry.pattern, &entry.host, entry.paths.in_order()))
    }
}

impl<H, R> Default for RouteTable<H, R> {
    /// The table in which nobody finds anything.
    fn default() -> Self {
        Self { index: HostIndex::default(), hosts: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table = RouteTable<&'static str, &'static str>;

    fn prefix(path: &str) -> PathPattern {
        PathPattern::Prefix(path.to_owned())
    }

    fn exact(path: &str) -> PathPattern {
        PathPattern::Exact(path.to_owned())
    }

    /// The rule a request meets, `-` for a host without a path for it, nothing for no host.
    fn found(table: &Table, host: &str, path: &str) -> String {
        match table.find(host.as_bytes(), path.as_bytes()) {
            Lookup::Rule { host, rule } => format!("{host} {rule}"),
            Lookup::NoPath { host } => format!("{host} -"),
            Lookup::NoHost => String::new(),
        }
    }

    fn every_kind_of_host() -> Table {
        RouteTable::build(vec![
            (HostPattern::Any, "any", vec![(prefix("/any"), "any")]),
            (HostPattern::Wildcard("foo.com".to_owned()), "wildcard", vec![(prefix("/"), "all")]),
            (HostPattern::Exact("foo.bar.com".to_owned()), "exact", vec![(prefix("/a"), "a")]),
            (HostPattern::Exact("known.foo.com".to_owned()), "known", vec![(prefix("/a"), "a")]),
        ])
    }

    /// A name beats its wildcard, a wildcard beats every host, and what the chosen host does not serve nobody serves.
    #[test]
    fn the_host_decides_first_and_for_good() {
        let table = every_kind_of_host();
        for (host, path, want) in [
            ("foo.bar.com", "/a", "exact a"),
            ("known.foo.com", "/a", "known a"),
            ("other.foo.com", "/a", "wildcard all"),
            ("elsewhere.org", "/any", "any any"),
            // Known hosts without the path: neither the wildcard nor the host for all is asked.
            ("known.foo.com", "/b", "known -"),
            ("foo.bar.com", "/any", "exact -"),
            ("elsewhere.org", "/", "any -"),
        ] {
            assert_eq!(found(&table, host, path), want, "{host}{path}");
        }
    }

    /// Conformance checks 9 to 12: a wildcard covers exactly one label.
    #[test]
    fn a_wildcard_covers_exactly_one_label() {
        let table: Table = RouteTable::build(vec![
            (HostPattern::Wildcard("foo.com".to_owned()), "wildcard", vec![(prefix("/"), "all")]),
            (HostPattern::Exact("foo.bar.com".to_owned()), "exact", vec![(prefix("/"), "all")]),
        ]);
        for (host, want) in [
            ("subdomain.bar.com", ""),
            ("bar.foo.com", "wildcard all"),
            ("baz.bar.foo.com", ""),
            ("foo.com", ""),
            // The good turning bad.
            ("foo.bar.com", "exact all"),
            ("BAR.Foo.Com", "wildcard all"),
            ("bar.foo.com.", ""),
            (".foo.com", ""),
            ("barfoo.com", ""),
            ("bar.foo.co", ""),
            ("", ""),
        ] {
            assert_eq!(found(&table, host, "/x"), want, "{host}");
        }
    }

    /// A host is found in any case, and one that is too long to be a name is nobody's but the host's for all.
    #[test]
    fn hosts_are_compared_in_any_case_and_any_length() {
        let table = every_kind_of_host();
        assert_eq!(found(&table, "FOO.bar.COM", "/a"), "exact a");
        let too_long = format!("{}.foo.com", "a".repeat(300));
        assert_eq!(found(&table, &too_long, "/any"), "any any");
        assert_eq!(found(&table, &"A".repeat(9000), "/any"), "any any");
    }

    /// A host or a path that is given twice is served as the first one says.
    #[test]
    fn the_first_of_two_is_kept() {
        let table: Table = RouteTable::build(vec![
            (HostPattern::Any, "first", vec![(prefix("/a"), "older"), (prefix("/a"), "younger"), (exact("/a"), "other kind")]),
            (HostPattern::Any, "second", vec![(prefix("/b"), "b")]),
        ]);
        assert_eq!(found(&table, "x", "/a"), "first other kind");
        assert_eq!(found(&table, "x", "/a/b"), "first older");
        assert_eq!(found(&table, "x", "/b"), "first -");
        assert_eq!(table.hosts().count(), 1);
    }

    /// A table without hosts, and a host without paths, find nothing and say which of both.
    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(found(&Table::default(), "x", "/"), "");
        let table: Table = RouteTable::build(vec![(HostPattern::Exact("x".to_owned()), "empty", Vec::new())]);
        assert_eq!(found(&table, "x", "/"), "empty -");
        assert_eq!(found(&table, "y", "/"), "");
    }

    /// People see the paths in the order in which they are tried.
    #[test]
    fn hosts_lists_paths_in_order_of_precedence() {
        let given = vec![(prefix("/"), "1"), (exact("/a"), "2"), (prefix("/a"), "3"), (prefix("/a/long"), "4")];
        let table: Table = RouteTable::build(vec![(HostPattern::Any, "any", given)]);
        let (_, _, paths) = table.hosts().next().expect("one host");
        assert_eq!(paths.iter().map(|(_, rule)| *rule).collect::<Vec<_>>(), ["4", "2", "3", "1"]);
    }
}
