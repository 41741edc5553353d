//! A cluster's edge on one machine: built-in manifests, echo upstreams behind them, and the lines to try.
//!
//! Only the scene is made here. What serves it is the very path that `corelane run --manifests` takes.

mod echo;
mod invitation;
mod stage;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use echo::Echoes;
pub use invitation::Addresses;
pub use invitation::Invitation;
pub use stage::Stage;

/// What the demo is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the manifests are written and kept; `None` writes them to a directory that goes when the demo ends.
    pub directory: Option<PathBuf>,
    pub http: Option<SocketAddr>,
    pub https: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
}
