//! The desk where objects become snapshots: translate, publish what changed, say what was found.

use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use crate::control::config::Config;
use crate::control::config::StartError;
use crate::control::keys;
use crate::control::keys::TicketStore;
use crate::control::publish::Shards;
use crate::control::source::Source;
use crate::snapshot::Snapshot;
use crate::snapshot::channel::Publisher;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::Health;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::Severity;
use crate::snapshot::overview::IngressStatus;
use crate::snapshot::overview::Overview;
use crate::snapshot::rule::Rule;
use crate::telemetry::board::Board;
use crate::telemetry::metrics::EndpointHealth;
use crate::telemetry::metrics::Registry;
use crate::telemetry::metrics::SeriesLabels;
use crate::translate;
use crate::translate::Memory;
use crate::translate::Translation;

/// Called once, when every shard serves the first full set of objects.
type OnReady = Box<dyn FnOnce(&Overview) + Send>;

/// What control knows beside the objects.
pub(crate) struct Desk {
    config: Config,
    memory: Memory,
    tickets: TicketStore,
    shards: Shards,
    health: Arc<Health>,
    snapshot: Option<Arc<Snapshot>>,
    registry: Arc<Registry>,
    board: Arc<Board<Overview>>,
    on_ready: Option<OnReady>,
    ready: bool,
    /// What the log was last told.
    not_ready: Option<String>,
    findings: Arc<[Finding]>,
    ingress_status: Arc<[IngressStatus]>,
}

impl Desk {
    /// # Errors
    /// The fallback certificate cannot be made.
    pub(crate) fn new(
        config: Config,
        publishers: Vec<Publisher>,
        registry: Arc<Registry>,
        board: Arc<Board<Overview>>,
        on_ready: OnReady,
        wall_clock_s: u64,
    ) -> Result<Self, StartError> {
        let fallback = keys::fallback_pair()
            .map_err(|error| StartError { message: format!("the self-signed fallback certificate cannot be made: {error}") })?;
        let tickets = TicketStore::open(config.state_dir.as_deref(), wall_clock_s);
        Ok(Self {
            memory: Memory::new(Arc::new(fallback), Arc::new(tickets.keys())),
            config,
            tickets,
            shards: Shards::new(publishers),
            health: Arc::default(),
            snapshot: None,
            registry,
            board,
            on_ready: Some(on_ready),
            ready: false,
            not_ready: None,
            findings: Arc::from([]),
            ingress_status: Arc::from([]),
        })
    }

    /// Translates the objects and publishes what came of it. `since` is when the oldest change was first seen.
    pub(crate) fn turn(&mut self, source: &mut Source, since: Instant, now: Instant) {
        if source.unlisted().is_some() {
            return self.report(source, now);
        }
        // One bad object is contained where it is translated; this is the net below: what was last good is served on.
        let translated =
            panic::catch_unwind(AssertUnwindSafe(|| translate::translate(source.resources(), &self.config.options, &mut self.memory)));
        let Ok(translation) = translated else {
            tracing::error!("translation failed: this is a fault in Corelane; the last good snapshot stays in service");
            return self.report(source, now);
        };
        self.say(source, &translation);
        source.learn(&translation, &self.ingress_status);
        if source.missing().is_none() && !self.serves(&translation) {
            let snapshot = self.snapshot(translation, now);
            self.publish(snapshot, since);
        }
        self.report(source, now);
    }

    /// Publishes what active checks found; nothing else changes.
    pub(crate) fn take_health(&mut self, health: Health, source: &Source, now: Instant) {
        self.health = Arc::new(health);
        let Some(old) = &self.snapshot else { return };
        let snapshot = Snapshot {
            version: old.version + 1,
            changed_at: now,
            routes: old.routes.clone(),
            rules: old.rules.clone(),
            series: old.series.clone(),
            default_rule: old.default_rule,
            clusters: old.clusters.clone(),
            health: self.health.clone(),
            certificates: old.certificates.clone(),
            settings: old.settings.clone(),
        };
        self.publish(snapshot, now);
        self.report(source, now);
    }

    /// The clusters that are served.
    pub(crate) fn clusters(&self) -> Option<&Arc<[Option<Arc<Cluster>>]>> {
        self.snapshot.as_ref().map(|snapshot| &snapshot.clusters)
    }

    fn publish(&mut self, snapshot: Snapshot, since: Instant) {
        self.registry.upstreams(upstreams(&snapshot));
        let snapshot = Arc::new(snapshot);
        self.snapshot = Some(snapshot.clone());
        self.shards.publish(&snapshot, since);
    }

    /// Hears what the shards serve now.
    pub(crate) fn hear(&mut self, source: &Source, now: Instant) {
        for delay in self.shards.hear() {
            self.registry.propagated(delay);
        }
        self.report(source, now);
    }

    /// Regular chores; true if a new snapshot is due.
    pub(crate) fn heartbeat(&mut self, source: &Source, now: Instant, wall_clock_s: u64) -> bool {
        self.report(source, now);
        let not_ready = self.board.latest().not_ready.clone();
        if not_ready != self.not_ready {
            if let Some(reason) = &not_ready {
                tracing::info!("not ready: {reason}");
            }
            self.not_ready = not_ready;
        }
        if !self.tickets.rotates_in(wall_clock_s).is_zero() {
            return false;
        }
        self.tickets.rotate(wall_clock_s);
        self.memory.tickets = Arc::new(self.tickets.keys());
        true
    }

    /// Whether what is published says the same already. Translation hands out the same part again where nothing in it changed.
    fn serves(&self, translation: &Translation) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| {
            Arc::ptr_eq(&snapshot.routes, &translation.routes)
                && Arc::ptr_eq(&snapshot.rules, &translation.rules)
                && Arc::ptr_eq(&snapshot.clusters, &translation.clusters)
                && Arc::ptr_eq(&snapshot.certificates, &translation.certificates)
                && Arc::ptr_eq(&snapshot.settings, &translation.settings)
                && snapshot.default_rule == translation.default_rule
        })
    }

    fn snapshot(&self, translation: Translation, changed_at: Instant) -> Snapshot {
        let series = match &self.snapshot {
            Some(old) if Arc::ptr_eq(&old.rules, &translation.rules) => old.series.clone(),
            _ => translation.rules.iter().map(|rule| self.registry.intern(&labels(rule))).collect(),
        };
        Snapshot {
            version: self.snapshot.as_ref().map_or(0, |old| old.version) + 1,
            changed_at,
            routes: translation.routes,
            rules: translation.rules,
            series,
            default_rule: translation.default_rule,
            clusters: translation.clusters,
            health: self.health.clone(),
            certificates: translation.certificates,
            settings: translation.settings,
        }
    }

    /// Takes down what was found, and tells the log what is new in it.
    fn say(&mut self, source: &Source, translation: &Translation) {
        let mut findings = source.findings().to_vec();
        findings.extend(translation.findings.iter().cloned());
        findings.sort();
        findings.dedup();
        if *findings != *self.findings {
            for finding in findings.iter().filter(|finding| self.findings.binary_search(finding).is_err()) {
                match finding.severity {
                    Severity::Info => tracing::info!("{finding}"),
                    Severity::Warning => tracing::warn!("{finding}"),
                    Severity::Error => tracing::error!("{finding}"),
                }
            }
            let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
            self.registry.findings(count(Severity::Info), count(Severity::Warning), count(Severity::Error));
            self.findings = findings.into();
        }
        let addresses = &self.config.publish_status_addresses;
        let served = translation.served_ingresses.iter();
        self.ingress_status = served.map(|object| IngressStatus { object: object.clone(), addresses: addresses.clone() }).collect();
    }

    /// Posts the state of affairs.
    fn report(&mut self, source: &Source, now: Instant) {
        let sources = source.states(now);
        // The age of the configuration is that of its stalest part.
        if let Some(Some(at)) = sources.iter().map(|state| state.current_at).min() {
            self.registry.config_current(at);
        }
        let becomes_ready = !self.ready && self.snapshot.is_some() && self.shards.all_serve();
        self.ready |= becomes_ready;
        let not_ready =
            (!self.ready).then(|| source.missing().unwrap_or_else(|| "not every shard serves the first snapshot yet".to_owned()));
        let overview = Arc::new(Overview {
            snapshot: self.snapshot.clone(),
            served: self.shards.served().to_vec(),
            not_ready,
            findings: self.findings.clone(),
            ingress_status: self.ingress_status.clone(),
            sources,
        });
        self.board.post(overview.clone());
        if becomes_ready && let Some(on_ready) = self.on_ready.take() {
            on_ready(&overview);
        }
    }
}

/// Every endpoint, and what active checks say of it.
fn upstreams(snapshot: &Snapshot) -> Vec<EndpointHealth> {
    let clusters = snapshot.clusters.iter().flatten();
    let endpoints = clusters.flat_map(|cluster| cluster.endpoints.iter().map(move |endpoint| (cluster, endpoint)));
    endpoints
        .map(|(cluster, endpoint)| EndpointHealth {
            service: cluster.name.clone(),
            endpoint: endpoint.address,
            healthy: !snapshot.health.is_down(endpoint),
        })
        .collect()
}

fn labels(rule: &Rule) -> SeriesLabels {
    let source = &rule.source;
    SeriesLabels { namespace: source.namespace.clone(), ingress: source.ingress.clone(), service: source.service.clone() }
}
