//! Objects to snapshot: pure. No await, no clock, no client; the same objects in the same order of age give the same answer.
//!
//! One bad object never harms another: every object is translated by itself, and what is wrong with it becomes a [`Finding`].
//! Kubernetes words stop at the door of this room.

mod about;
mod address;
pub mod annotations;
mod backend;
mod certificates;
mod claims;
mod class;
mod cluster;
pub mod config_map;
mod expression;
mod host;
mod ingress;
mod memory;
mod node;
mod options;
mod path;
mod pod;
mod references;
pub mod resources;
mod rules;
mod scope;
pub mod secret;
mod service;
mod value;

#[cfg(test)]
mod tests;

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
use crate::translate::cluster::Clusters;
use crate::translate::resources::Resources;
use crate::translate::scope::Scope;

pub use crate::translate::memory::Memory;
pub use crate::translate::options::BackendMode;
pub use crate::translate::options::Options;
pub use crate::translate::references::References;

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
    /// Secrets and ConfigMaps that some object names: the only ones whose content is kept.
    pub references: References,
}

/// Translates everything. Parts that are as they were in the translation before are the very same, so that nothing is rebuilt for them.
pub fn translate(resources: &Resources, options: &Options, memory: &mut Memory) -> Translation {
    let mut findings = Vec::new();
    let mut references = References::default();
    let config_map = options.config_map.as_ref().and_then(|key| resources.config_maps.get(key));
    let globals = config_map::read(options.config_map.as_ref(), config_map.map(Arc::as_ref), &mut findings);
    let scope = Scope { resources, options, globals: &globals };

    memory.expressions.turn();
    let readings = ingress::read_all(scope, &mut memory.good_versions, &mut memory.expressions, &mut findings, &mut references);
    let claims = claims::grant(&readings, options, &mut findings);
    let default_certificate = (options.default_certificate.as_ref(), &memory.fallback);
    references.secrets.extend(options.default_certificate.clone());
    let certificates::Choice { certificates, tls_hosts } =
        certificates::choose(&readings, &claims, resources, default_certificate, &memory.tickets, &mut memory.pairs, &mut findings);
    let mut clusters = Clusters::new(scope, &mut memory.numbers, &mut findings);
    let built = rules::build(scope, &claims, &tls_hosts, &mut clusters, &mut memory.expressions, &mut findings);
    memory.clusters = clusters.finish(&memory.clusters);

    findings.sort_unstable();
    findings.dedup();
    Translation {
        routes: memory.routes(built.hosts),
        rules: memory.rules(built.rules),
        default_rule: built.default_rule,
        clusters: memory.clusters.clone(),
        certificates: memory.certificates(certificates),
        settings: memory.settings(globals.settings.clone()),
        findings,
        served_ingresses: readings.iter().map(|reading| reading.key.clone()).collect(),
        references,
    }
}
