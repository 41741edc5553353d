//! What one translation leaves to the next.

use std::collections::HashMap;
use std::sync::Arc;

use crate::route::HostPattern;
use crate::route::Paths;
use crate::route::RouteTable;
use crate::snapshot::certificate::Certificates;
use crate::snapshot::certificate::Pair;
use crate::snapshot::certificate::TicketKeys;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::Rule;
use crate::snapshot::rule::RuleId;
use crate::snapshot::settings::Settings;
use crate::translate::certificates::KnownPairs;
use crate::translate::cluster::ClusterNumbers;
use crate::translate::expression::Expressions;
use crate::translate::ingress::GoodVersions;

/// Hosts and their paths as the table of routes is built from them.
pub(crate) type Hosts = Vec<(HostPattern, Arc<Host>, Paths<RuleId>)>;

/// What one translation leaves to the next: numbers of clusters, last good versions, keys, and every part of the snapshot, so that
/// one that has not changed is handed out again as the very same.
#[derive(Debug)]
pub struct Memory {
    pub(crate) fallback: Arc<Pair>,
    pub(crate) tickets: Arc<TicketKeys>,
    pub(crate) numbers: ClusterNumbers,
    pub(crate) good_versions: GoodVersions,
    pub(crate) pairs: KnownPairs,
    pub(crate) expressions: Expressions,
    pub(crate) hosts: Hosts,
    pub(crate) routes: Arc<RouteTable<Arc<Host>, RuleId>>,
    pub(crate) rules: Arc<[Rule]>,
    pub(crate) clusters: Arc<[Option<Arc<Cluster>>]>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) settings: Arc<Settings>,
}

impl Memory {
    /// `fallback` is served where no certificate fits; `tickets` seal session tickets.
    pub fn new(fallback: Arc<Pair>, tickets: Arc<TicketKeys>) -> Self {
        let certificates =
            Certificates { exact: HashMap::new(), wildcard: HashMap::new(), default: fallback.clone(), tickets: tickets.clone() };
        Self {
            fallback,
            tickets,
            numbers: ClusterNumbers::default(),
            good_versions: GoodVersions::default(),
            pairs: KnownPairs::default(),
            expressions: Expressions::default(),
            hosts: Vec::new(),
            routes: Arc::default(),
            rules: Arc::from([]),
            clusters: Arc::from([]),
            certificates: Arc::new(certificates),
            settings: Arc::default(),
        }
    }

    /// The keys that seal session tickets from the next translation on.
    pub fn rotate_tickets(&mut self, tickets: Arc<TicketKeys>) {
        self.tickets = tickets;
    }

    /// The table of `hosts`, built only where something has changed.
    pub(crate) fn routes(&mut self, hosts: Hosts) -> Arc<RouteTable<Arc<Host>, RuleId>> {
        if self.hosts != hosts {
            self.routes = Arc::new(RouteTable::build(hosts.clone()));
            self.hosts = hosts;
        }
        self.routes.clone()
    }

    pub(crate) fn rules(&mut self, rules: Vec<Rule>) -> Arc<[Rule]> {
        if *self.rules != *rules {
            self.rules = rules.into();
        }
        self.rules.clone()
    }

    pub(crate) fn certificates(&mut self, certificates: Certificates) -> Arc<Certificates> {
        if !is_same(&self.certificates, &certificates) {
            self.certificates = Arc::new(certificates);
        }
        self.certificates.clone()
    }

    pub(crate) fn settings(&mut self, settings: Settings) -> Arc<Settings> {
        if *self.settings != settings {
            self.settings = Arc::new(settings);
        }
        self.settings.clone()
    }
}

/// Whether both serve the very same keys under the same names.
fn is_same(a: &Certificates, b: &Certificates) -> bool {
    // A pair of two Secrets is put together anew each time, out of the same keys.
    let same_pair = |a: &Arc<Pair>, b: &Arc<Pair>| Arc::ptr_eq(a, b) || a.is_same(b);
    let same_names = |a: &HashMap<String, Arc<Pair>>, b: &HashMap<String, Arc<Pair>>| {
        a.len() == b.len() && a.iter().all(|(name, pair)| b.get(name).is_some_and(|other| same_pair(pair, other)))
    };
    Arc::ptr_eq(&a.tickets, &b.tickets)
        && same_pair(&a.default, &b.default)
        && same_names(&a.exact, &b.exact)
        && same_names(&a.wildcard, &b.wildcard)
}
