//! Builds the house in order, watches it, and takes it down: the only room that starts threads.
//!
//! Everything that can fail at the start fails here, with an exit code and one line that names the cure. [`run`] is the main job;
//! the other commands are small and end by themselves.

mod failure;
mod house;
mod look;
mod placement;
mod thread;

use std::time::Duration;

use crate::admin;
use crate::control;
use crate::net::limits;
use crate::net::tls;
use crate::shard::ListenerConfig;
use crate::shard::Placement;
use crate::telemetry::access_log;
use crate::telemetry::program_log;

pub use failure::Failure;
pub use look::check;
pub use look::explain;
pub use look::version;

/// Everything the house is built from.
#[derive(Debug)]
pub struct Config {
    pub listeners: Vec<ListenerConfig>,
    pub placement: Placement,
    pub drain_timeout: Duration,
    pub pre_stop_delay: Duration,
    pub admin: admin::Config,
    pub control: control::Config,
    pub access_log: access_log::Destination,
    pub access_log_format: access_log::Format,
    pub log: program_log::Config,
}

/// Serves until SIGTERM or SIGINT has been answered by a drain.
///
/// # Errors
/// What kept it from starting, or cut it short.
pub fn run(config: Config) -> Result<(), Failure> {
    program_log::start(&config.log);
    tls::install_crypto();
    let open_files = limits::raise_open_files().map_err(|error| Failure::general(format!("cannot read RLIMIT_NOFILE: {error}")))?;
    let cores = placement::place(&config.placement, &limits::allowed_cpus())?;
    // Threads that are started from here inherit it; shards pin themselves.
    limits::pin_current_thread(&cores.housekeeping);
    house::build(config, cores, open_files)?.live()
}
