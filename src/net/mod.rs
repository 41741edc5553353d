//! Sockets, timers, threads: the only room that knows glommio, io_uring and libc.
//!
//! Each shard is a pinned glommio executor with one ordinary task, the `executor::Driver`, that sleeps in an own io_uring.
//! Every other task is spawned through [`ring::Ring::spawn`] or [`ring::Ring::spawn_vital`], which count polls, so that the driver
//! knows when nothing can run and may sleep. A future here owns nothing the kernel sees: dropping it only drops interest, and a slot
//! is used again only when the kernel has let go of it.
//!
//! Absent: glommio's sockets, timers, foreign wakers and files. On such an executor they would be up to a second late.

pub mod buffers;
pub mod executor;
pub mod limits;
pub mod listen;
pub mod remote;
pub mod ring;
mod share;
pub mod slot;
pub mod socket;
mod stock;
pub mod stream;
pub mod tls;
pub mod wheel;

pub use remote::Remote;
