//! The load generator, the upstream and the comparison of Corelane with its peers.
//!
//! From below: `clock`, `poller`, `schedule`, `mix`, `hosts`, `pattern`, `wire`, `cpu` and `tickets` know one thing each; `upstream`
//! answers and `client` asks, one `exchange` after the other on each of its connections; `beside` is whatever goes on besides;
//! `timeline` keeps the seconds of a round, `driver` runs all in one thread for one; `peers` starts the proxies from each `template`
//! and `change` changes them while they serve, `effect` times both; `compare` interleaves rounds of each `plan` and `sweep` climbs;
//! `host` and `preflight` tell on what; `statistics`, `contrast`, `streams`, `table`, `report`, `hgrm`, `html` and `diff` say what came
//! out.
//!
//! A proxy is `running` here or elsewhere: an `agent` does on another host what the driver asks, and `apart` says which is where.
//!
//! `floor` stands apart: relays that are started like proxies, and that no proxy can be below.

pub mod agent;
pub mod apart;
pub mod beside;
pub mod change;
pub mod client;
pub mod clock;
pub mod compare;
pub mod connection;
pub mod contrast;
pub mod cpu;
pub mod diff;
pub mod driver;
mod effect;
mod effect_table;
mod exchange;
pub mod floor;
pub mod hgrm;
pub mod host;
pub mod hosts;
pub mod html;
pub mod mix;
pub mod pattern;
pub mod peers;
pub mod plan;
pub mod poller;
pub mod preflight;
pub mod progress;
pub mod report;
mod rounds;
pub mod running;
#[cfg(test)]
mod sample;
pub mod scenario;
pub mod schedule;
pub mod statistics;
pub mod streams;
pub mod sweep;
pub mod table;
pub mod tally;
pub mod template;
mod tickets;
pub mod timeline;
pub mod tls;
pub mod upstream;
pub mod wire;
