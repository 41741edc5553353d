//! Builds the house in order, watches it, and takes it down: the only room that starts threads.
//!
//! Everything that can fail at the start fails here, with an exit code and one line that names the cure. [`run`] is the main job;
//! the other commands are small and end by themselves.

mod ask;
mod config;
mod demo;
mod failure;
mod house;
mod look;
mod placement;
mod thread;

use crate::telemetry::program_log;

pub use ask::explain_there;
pub use ask::status;
pub use config::Config;
pub use demo::demo;
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
    house::stand(config, Box::new(|_| {}))
}
