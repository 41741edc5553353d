//! What the house is built from.

use std::time::Duration;

use crate::admin;
use crate::control;
use crate::shard::ListenerConfig;
use crate::shard::Placement;
use crate::telemetry::access_log;
use crate::telemetry::program_log;

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
