//! Pick an endpoint, keep its connections: the arithmetic of balancing, ejection and pooling.
//!
//! Nothing here opens a socket or reads a clock: `shard` does, and passes time and randomness in.

pub mod balance;
pub mod budget;
pub mod health;
pub mod pool;
