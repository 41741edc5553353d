//! Builds the house in order, watches it, and takes it down: the only room that starts threads.
//!
//! Everything that can fail at the start fails here, with an exit code and one line that names the cure. [`run`] is the main job;
//! the other commands are small and end by themselves.

mod ask;
mod config;
mod failure;
mod house;
mod look;
mod placement;
mod thread;

use crate::net::limits;
use crate::net::tls;
use crate::telemetry::program_log;

pub use ask::explain_there;
pub use ask::status;
pub use config::Config;
pub use failure::Failure;
pub use look::check;
pub use look::explain;
pub use look::version;

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
