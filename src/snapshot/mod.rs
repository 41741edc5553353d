//! The immutable world: everything a shard needs to know to serve, made by the control wing and read by the data wing.
//!
//! Nothing here can change after it was published: there is no interior mutability in this room. Each part is its own `Arc`,
//! so that a change of endpoints does not rebuild routes. One request sees one snapshot from first byte to log line.

pub mod certificate;
pub mod channel;
pub mod cluster;
pub mod finding;
pub mod overview;
pub mod rule;
pub mod settings;

use std::sync::Arc;
use std::time::Instant;

use crate::route::RouteTable;
use crate::snapshot::certificate::Certificates;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::ClusterId;
use crate::snapshot::cluster::Health;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::Rule;
use crate::snapshot::rule::RuleId;
use crate::snapshot::settings::Settings;

/// One complete configuration of the data wing.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with every publication of this process; 0 is the empty snapshot before the first.
    pub version: u64,
    /// When the newest object event that this snapshot contains reached this process.
    pub changed_at: Instant,
    /// Host and path to rule.
    pub routes: Arc<RouteTable<Arc<Host>, RuleId>>,
    /// Every rule, by [`RuleId`].
    pub rules: Arc<[Rule]>,
    /// The metric series of each rule, parallel to `rules`; numbers given by the registry of the control thread.
    pub series: Arc<[u32]>,
    /// What serves requests that no rule matches; `None` answers 404.
    pub default_rule: Option<RuleId>,
    /// Every cluster, by [`ClusterId`]; ids are stable over snapshots, a hole is a cluster that is gone.
    pub clusters: Arc<[Option<Arc<Cluster>>]>,
    /// What active health checks found.
    pub health: Arc<Health>,
    /// Server certificates and ticket keys.
    pub certificates: Arc<Certificates>,
    /// Global settings.
    pub settings: Arc<Settings>,
}

impl Snapshot {
    /// The rule with this number.
    pub fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[id.0 as usize]
    }

    /// The cluster with this number, if it still exists.
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id.0 as usize).and_then(Option::as_ref)
    }
}
