//! The rooms of Corelane in floor order; docs/ARCHITECTURE.md draws them and `tests/house.rs` keeps them apart.

// Floor 1: codecs, the ring, the counters. They know nothing of ours.
pub mod http;
pub mod net;
pub mod telemetry;
// Floor 2 and 3: which rule a request meets, and the immutable world both wings share.
pub mod route;
pub mod snapshot;
// Floor 4: objects to snapshot, and the steps of a request.
pub mod filter;
pub mod translate;
pub mod upstream;
// Floor 5: the two wings, and what would happen if.
pub mod control;
pub mod explain;
pub mod shard;
// Floor 6: windows into a running process, and the demo it can serve.
pub mod admin;
pub mod demo;
// Floor 7: settings in, threads out.
pub mod boot;
pub mod config;
