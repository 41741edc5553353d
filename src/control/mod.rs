//! One thread on current-thread tokio: the Kubernetes side. It keeps the objects current, translates them, publishes snapshots,
//! and reports what became of them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::snapshot::channel::Publisher;
use crate::snapshot::channel::Wake;
use crate::snapshot::overview::Overview;
use crate::telemetry::board::Board;
use crate::telemetry::metrics::Registry;
use crate::translate::Options;

/// What the control thread is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    pub source: SourceConfig,
    pub options: Options,
    /// Addresses or host names written to the status of every Ingress that is served.
    pub publish_status_addresses: Vec<String>,
    /// Where ticket keys are kept between two starts; `None` keeps nothing on disk.
    pub state_dir: Option<PathBuf>,
}

/// Where objects come from.
#[derive(Clone, Debug)]
pub enum SourceConfig {
    /// `*.yaml`, `*.yml`, `*.json` below these directories, followed by inotify.
    Manifests(Vec<PathBuf>),
    Cluster(ClusterConfig),
}

/// Which cluster is watched, and how.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// `None`: `KUBECONFIG`, then in-cluster.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    /// Empty: all.
    pub namespaces: Vec<String>,
    pub secrets: SecretsMode,
}

/// How Secrets are read (control-plane.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretsMode {
    Watch,
    Get,
}

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

/// Why control could not start.
#[derive(Debug)]
pub struct StartError {
    /// What is wrong and how to cure it, in one line.
    pub message: String,
}

/// The control loop: wait for news, translate, publish, report. Blocks until `stop`.
///
/// # Errors
/// [`StartError`] where the source cannot even begin: a directory that does not exist, a kubeconfig that does not parse.
pub fn run(_config: Config, _wiring: Wiring) -> Result<(), StartError> {
    todo!()
}

/// Reads everything once, translates it and returns what would be served: for `check` and `explain`.
///
/// # Errors
/// As [`run`], and where a cluster does not answer in time.
pub fn load_once(_config: &Config) -> Result<Overview, StartError> {
    todo!()
}
