//! Counters, gauges and histograms: one writer per shard, any reader.
//!
//! Every cell is an atomic with one writer, so that an increment is a plain load and store; the scrape reads all shards' cells
//! and adds them up. Labels come from objects, never from requests, and the number of series is bounded.

use std::sync::Arc;
use std::time::Duration;

/// Who a request was served for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesLabels {
    pub namespace: Arc<str>,
    pub ingress: Arc<str>,
    pub service: Arc<str>,
}

/// What was spoken to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct RequestSample {
    /// From [`Registry::intern`]; 0 is the series of requests that no rule matched.
    pub series: u32,
    pub status: u16,
    pub protocol: Protocol,
    pub duration_us: u64,
    /// Time between the first byte to the upstream and its last byte; `None` where no upstream was asked.
    pub upstream_us: Option<u64>,
}

/// What a downstream connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    Active,
    Idle,
    Handshake,
    Tunnel,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeSample {
    pub result: &'static str,
    pub version: &'static str,
    pub resumed: bool,
    pub duration_us: u64,
}

/// What active checks say of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// `namespace/service:port`.
    pub service: Arc<str>,
    pub endpoint: std::net::SocketAddr,
    pub healthy: bool,
}

/// The text formats a scrape can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    Prometheus,
    OpenMetrics,
}

/// Every counter of the process.
#[derive(Debug)]
pub struct Registry {
    shards: Vec<Arc<ShardMetrics>>,
}

impl Registry {
    /// A registry for this many shards and these listeners (`http/0.0.0.0:80`), both fixed for the life of the process.
    pub fn new(shards: usize, _listeners: &[String]) -> Self {
        Self { shards: (0..shards).map(|_| Arc::new(ShardMetrics {})).collect() }
    }

    /// The counters of one shard.
    pub fn shard(&self, index: usize) -> &Arc<ShardMetrics> {
        &self.shards[index]
    }

    /// The number of the series with these labels; called by control only. Over the limit every new one is the overflow series.
    pub fn intern(&self, _labels: &SeriesLabels) -> u32 {
        0
    }

    /// A change became effective on every shard this long after its object event.
    pub fn propagated(&self, _delay: Duration) {}

    /// How many findings of each severity there are now.
    pub fn findings(&self, _info: usize, _warning: usize, _error: usize) {}

    /// Every source was current at this moment: the age of the configuration counts from here.
    pub fn config_current(&self, _at: std::time::Instant) {}

    /// The endpoints of every cluster with what active checks say of them; replaces what was said before.
    pub fn upstreams(&self, _endpoints: Vec<EndpointHealth>) {}

    /// Everything as Prometheus text, or as OpenMetrics.
    pub fn render(&self, _format: Exposition) -> String {
        String::new()
    }
}

/// The counters of one shard; only that shard writes them.
#[derive(Debug)]
pub struct ShardMetrics {}

impl ShardMetrics {
    /// A request ended.
    pub fn request(&self, _sample: &RequestSample) {}

    /// Corelane answered or closed by itself, for this reason.
    pub fn rejected(&self, _reason: &'static str) {}

    /// A request was tried on another endpoint, for this reason.
    pub fn retried(&self, _reason: &'static str) {}

    /// A downstream connection entered (+1) or left (-1) a state.
    pub fn connection(&self, _listener: usize, _state: ConnectionState, _delta: i64) {}

    /// A TLS handshake ended.
    pub fn handshake(&self, _sample: &HandshakeSample) {}

    /// A connection to an endpoint was opened.
    pub fn upstream_connection_opened(&self) {}

    /// A request was sent to (+1) or answered by (-1) an endpoint.
    pub fn upstream_in_flight(&self, _delta: i64) {}

    /// The shard serves this snapshot now.
    pub fn snapshot_version(&self, _version: u64) {}

    /// One turn of the loop took this long between two sleeps.
    pub fn loop_turn(&self, _busy_us: u64, _slept_us: u64) {}

    /// Lines of the access log had to be dropped.
    pub fn access_log_dropped(&self, _lines: u64) {}
}
