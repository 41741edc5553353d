//! Which host of the table a request belongs to: its own name, then its wildcard, then the host for all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The longest host name of DNS in text form (RFC 1035 section 3.1); whatever is longer has no name.
const NAME_BYTES_MAX: usize = 253;

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

/// Names to positions. The hash is seeded anew for every index: nobody can write host names that collide.
type Names = HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>;

/// From a host to the position of its entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostIndex {
    names: Names,
    wildcards: Names,
    any: Option<u32>,
}

impl HostIndex {
    /// Enters `position` for the hosts of `pattern`; false where there is one already, which stays.
    pub(crate) fn insert(&mut self, pattern: &HostPattern, position: usize) -> bool {
        let position = u32::try_from(position).expect("a cluster holds fewer than four thousand million hosts");
        let (names, name) = match pattern {
            HostPattern::Exact(name) => (&mut self.names, name),
            HostPattern::Wildcard(name) => (&mut self.wildcards, name),
            HostPattern::Any => {
                let free = self.any.is_none();
                self.any.get_or_insert(position);
                return free;
            }
        };
        match names.entry(name.as_bytes().into()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(position);
                true
            }
        }
    }

    /// The position for `host`, which comes in any case.
    pub(crate) fn find(&self, host: &[u8]) -> Option<usize> {
        let mut lower = [0; NAME_BYTES_MAX];
        let position = match lower.get_mut(..host.len()) {
            Some(lower) => {
                lower.copy_from_slice(host);
                lower.make_ascii_lowercase();
                self.find_named(lower)
            }
            None => None,
        };
        position.or(self.any).map(|position| position as usize)
    }

    fn find_named(&self, host: &[u8]) -> Option<u32> {
        self.names.get(host).or_else(|| self.wildcards.get(parent(host)?)).copied()
    }
}

/// What is left of a name without its first label; `None` where that label is empty or all there is.
fn parent(host: &[u8]) -> Option<&[u8]> {
    let dot = host.iter().position(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    Some(&host[dot + 1..])
}
