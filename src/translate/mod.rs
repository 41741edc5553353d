//! Objects to snapshot: pure. No await, no clock, no client; the same objects in the same order of age give the same answer.
//!
//! One bad object never harms another: every object is translated by itself, and what is wrong with it becomes a [`Finding`].
//! Kubernetes words stop at the door of this room.

pub mod annotations;
pub mod config_map;
mod options;
pub mod resources;
pub mod secret;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::route::RouteTable;
use crate::snapshot::certificate::Certificates;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::Rule;
use crate::snapshot::rule::RuleId;
use crate::snapshot::settings::Settings;

pub use crate::translate::options::BackendMode;
pub use crate::translate::options::Options;

/// What one translation made of the objects.
#[derive(Debug)]
pub struct Translation {
    pub routes: Arc<RouteTable<Arc<Host>, RuleId>>,
    pub rules: Arc<[Rule]>,
    pub default_rule: Option<RuleId>,
    pub clusters: Arc<[Option<Arc<Cluster>>]>,
    pub certificates: Arc<Certificates>,
    pub settings: Arc<Settings>,
    /// Sorted, without repetitions.
    pub findings: Vec<Finding>,
    /// Ingresses that are ours and accepted: they carry the published addresses in their status.
    pub served_ingresses: BTreeSet<ObjectKey>,
    /// Secrets that some object names: the only ones whose content is kept.
    pub referenced_secrets: BTreeSet<ObjectKey>,
}

/// What one translation leaves to the next: stable cluster numbers, last good versions, keys.
#[derive(Debug)]
pub struct Memory {
    // The room that fills it says what is in it.
    pub(crate) fallback: Arc<crate::snapshot::certificate::Pair>,
    pub(crate) tickets: Arc<crate::snapshot::certificate::TicketKeys>,
}

impl Memory {
    /// `fallback` is served where no certificate fits; `tickets` seal session tickets.
    pub fn new(fallback: Arc<crate::snapshot::certificate::Pair>, tickets: Arc<crate::snapshot::certificate::TicketKeys>) -> Self {
        Self { fallback, tickets }
    }
}

/// Translates everything.
pub fn translate(_resources: &resources::Resources, _options: &Options, memory: &mut Memory) -> Translation {
    todo!("{:?}", memory.fallback)
}
