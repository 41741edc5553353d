//! Health, metrics and inspection over HTTP, on a thread of its own; reads only what others have posted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::snapshot::overview::Overview;
use crate::telemetry::board::Board;
use crate::telemetry::metrics::Registry;

/// What the admin endpoint is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
}

/// What it looks at.
#[derive(Clone)]
pub struct Windows {
    pub board: Arc<Board<Overview>>,
    pub registry: Arc<Registry>,
    pub draining: Arc<AtomicBool>,
    pub started: Instant,
    /// Every listener with its bound address (`http/0.0.0.0:80`).
    pub listeners: Vec<(String, SocketAddr)>,
}

/// Binds the listener; the thread that runs [`Admin::run`] is boot's to start.
///
/// # Errors
/// The kernel's: address in use, not allowed, not of this host.
pub fn bind(_config: &Config) -> std::io::Result<Admin> {
    todo!()
}

/// A bound admin endpoint.
pub struct Admin {}

impl Admin {
    /// The address it has really got.
    pub fn address(&self) -> SocketAddr {
        todo!()
    }

    /// Serves until `stop` resolves.
    pub fn run(self, _windows: Windows, _stop: tokio::sync::oneshot::Receiver<()>) {
        todo!()
    }
}
