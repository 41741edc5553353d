//! What the admin endpoint looks at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::snapshot::overview::Overview;
use crate::telemetry::board::Board;
use crate::telemetry::metrics::Registry;

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
