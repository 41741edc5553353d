//! The bench on another host: an agent runs the proxies or the upstream there, and says what they have used and answered.
//!
//! `words` are what driver and agent say to each other, `channel` carries them as lines of JSON, `token` says who may; `serve` takes
//! one run at a time and hands it to `proxies` or to `endpoints`; `far` is the driver's end. No clock is shared: an agent counts, and
//! the driver says between which moments.

mod channel;
mod endpoints;
pub mod far;
mod proxies;
pub mod serve;
pub mod token;
mod words;

pub use words::Role;
