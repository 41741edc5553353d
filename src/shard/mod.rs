//! One core, one executor, no locks: the data side.
//!
//! A shard owns its listeners, its routes (an `Rc` of the current `world::World`), its upstream connections and its counters.
//! What reaches it from outside comes through mailboxes and the bell of its ring: snapshots, sockets that another shard accepted,
//! the order to drain. A request is told in [`request`], an exchange with an endpoint in [`exchange`].

pub mod answer;
pub mod client;
pub mod connection;
pub mod dial;
pub mod drain;
pub mod exchange;
pub mod gate;
pub mod launch;
pub mod lease;
pub mod listen;
pub mod loads;
pub mod password;
pub mod plan;
pub mod record;
pub mod relay;
pub mod request;
pub mod state;
pub mod tunnel;
pub mod update;
pub mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::http::head::HeadLimits;
use crate::net::Remote;
use crate::snapshot::channel::Subscriber;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::ShardMetrics;

pub use launch::Failed;
pub use launch::LaunchError;
pub use launch::Shards;
pub use launch::launch;

/// What all shards of a process share in settings; fixed for its life.
#[derive(Clone, Debug)]
pub struct Config {
    pub listeners: Vec<ListenerConfig>,
    /// One shard is pinned to each.
    pub cpus: Vec<usize>,
    pub limits: HeadLimits,
    /// How long requests in flight may go on after [`Shards::drain`].
    pub drain_timeout: Duration,
    /// Most connections of the whole process; over it a new one is closed at once.
    pub connections_max: usize,
}

/// Which CPUs get a shard; boot turns it into [`Config::cpus`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Every CPU this process may use but one, which is left to control and admin; all where there are fewer than three.
    #[default]
    Spare,
    /// This many shards.
    Count(usize),
    /// One shard on each of these CPUs.
    Cpus(Vec<usize>),
}

/// An address and port to accept on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// For logs and metrics: `http/0.0.0.0:80`.
    pub name: String,
    pub address: SocketAddr,
    pub tls: bool,
}

/// What one shard is given.
pub struct Parts {
    pub subscriber: Subscriber,
    pub remote: Remote,
    pub metrics: Arc<ShardMetrics>,
    pub access_log: AccessLog,
}
