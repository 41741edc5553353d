//! One thread on current-thread tokio: the Kubernetes side. It keeps the objects current, translates them, publishes snapshots,
//! and reports what became of them.
//!
//! An isolated change is published at once; changes that follow each other closely share a snapshot. Whatever goes wrong with the
//! source, the last good snapshot is served.

mod burst;
mod checks;
mod cluster;
pub mod config;
mod connect;
mod desk;
mod directory;
mod feed;
mod follow;
mod keys;
mod kinds;
mod manifest_file;
mod manifests;
mod probe;
mod publish;
mod referenced;
mod source;
mod standing;
mod status;
mod trouble;
mod walk;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::control::checks::Checks;
use crate::control::desk::Desk;
use crate::control::source::Source;
use crate::snapshot::channel::Publisher;
use crate::snapshot::channel::Wake;
use crate::snapshot::overview::Overview;
use crate::telemetry::board::Board;
use crate::telemetry::metrics::Registry;
use crate::translate::resources::Resources;

pub use crate::control::config::ClusterConfig;
pub use crate::control::config::Config;
pub use crate::control::config::SecretsMode;
pub use crate::control::config::SourceConfig;
pub use crate::control::config::StartError;

/// Least distance between two publications: what comes closer shares one.
const GAP_MIN: Duration = Duration::from_millis(10);
/// How often the age of the configuration is told.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long [`load_once`] waits for a cluster.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Rings the control thread from any other thread.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<tokio::sync::Notify>);

impl Bell {
    /// The function a shard is given to ring with.
    pub fn waker(&self) -> Wake {
        let notify = self.0.clone();
        Box::new(move || notify.notify_one())
    }
}

/// The ends that the control thread holds.
pub struct Wiring {
    pub publishers: Vec<Publisher>,
    pub bell: Bell,
    pub registry: Arc<Registry>,
    pub board: Arc<Board<Overview>>,
    /// Called once, when every shard serves the first full set of objects.
    pub on_ready: Box<dyn FnOnce(&Overview) + Send>,
    /// Resolves when the process ends: the loop returns.
    pub stop: tokio::sync::oneshot::Receiver<()>,
}

/// The control loop: wait for news, translate, publish, report. Blocks until `stop`.
///
/// # Errors
/// [`StartError`] where the source cannot even begin: a directory that does not exist, a kubeconfig that does not parse.
pub fn run(config: Config, wiring: Wiring) -> Result<(), StartError> {
    runtime()?.block_on(follow(config, wiring))
}

async fn follow(config: Config, wiring: Wiring) -> Result<(), StartError> {
    let Wiring { publishers, bell, registry, board, on_ready, mut stop } = wiring;
    let mut source = Source::open(&config, now()).await?;
    source.follow(now());
    let mut desk = Desk::new(config, publishers, registry, board, on_ready, wall_clock_s())?;
    let mut checks = Checks::new(u64::from_ne_bytes(random()));
    let mut planned = None;
    // The moment of the oldest change that no snapshot contains yet.
    let mut waiting = Some(now());
    let mut earliest = tokio::time::Instant::now();
    let mut heartbeat = tokio::time::interval_at(earliest + HEARTBEAT, HEARTBEAT);
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => return Ok(()),
            () = bell.0.notified() => desk.hear(&source, now()),
            () = tokio::time::sleep_until(earliest), if waiting.is_some() => {
                if let Some(since) = waiting.take() {
                    desk.turn(&mut source, since, now());
                    if let Some(clusters) = desk.clusters().filter(|clusters| planned.as_ref().is_none_or(|old| !Arc::ptr_eq(old, clusters))) {
                        checks.plan(clusters);
                        planned = Some(clusters.clone());
                    }
                    earliest = tokio::time::Instant::now() + GAP_MIN;
                }
            }
            () = checks.changed() => desk.take_health(checks.health(), &source, now()),
            since = source.changed() => waiting = waiting.or(Some(since)),
            _ = heartbeat.tick() => {
                if desk.heartbeat(&source, now(), wall_clock_s()) {
                    waiting = waiting.or_else(|| Some(now()));
                }
            }
        }
    }
}

/// The objects of one YAML text as a directory of manifests would read it, and how many of its documents were refused.
pub fn parse_manifest(bytes: &[u8]) -> (Resources, usize) {
    let parsed = manifest_file::parse(bytes, manifest_file::Format::Yaml);
    (parsed.objects, parsed.faults.len())
}

/// Reads everything once, translates it and returns what would be served: for `check` and `explain`.
///
/// # Errors
/// As [`run`], and where a cluster does not answer in time.
pub fn load_once(config: &Config) -> Result<Overview, StartError> {
    runtime()?.block_on(async {
        let mut source = Source::open(config, now()).await?;
        let registry = Arc::new(Registry::new(0, &[]));
        let board = Arc::new(Board::default());
        // Nothing is kept on disk by a command that only looks.
        let config = Config { state_dir: None, ..config.clone() };
        let mut desk = Desk::new(config, Vec::new(), registry, board.clone(), Box::new(|_| {}), wall_clock_s())?;
        let deadline = tokio::time::Instant::now() + LOAD_TIMEOUT;
        loop {
            desk.turn(&mut source, now(), now());
            let Some(missing) = source.missing() else { return Ok(Overview::clone(&board.latest())) };
            if tokio::time::timeout_at(deadline, source.changed()).await.is_err() {
                let message = format!("the cluster did not answer within {} s: {missing}", LOAD_TIMEOUT.as_secs());
                return Err(StartError { message });
            }
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    // Two blocking threads: name resolution and credential plug-ins of a kubeconfig.
    let builder = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
    builder.map_err(|error| StartError {
        message: format!("the control thread cannot start: {error}; look at the limits on open files and threads"),
    })
}

fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    // Without it checks are merely less spread.
    let _spread = getrandom::fill(&mut bytes);
    bytes
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[expect(clippy::disallowed_methods, reason = "the age of ticket keys on disk is told in wall-clock time")]
fn wall_clock_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
