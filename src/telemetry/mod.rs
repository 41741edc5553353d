//! Counters and the access log: written by one shard each without a lock, merged when somebody looks.

pub mod access_log;
pub mod board;
pub mod metrics;
pub mod program_log;
