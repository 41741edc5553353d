//! The door to threads.

use std::thread::Builder;
use std::thread::JoinHandle;

use crate::boot::failure::Failure;

/// Starts a thread with a name that shows up in `ps -L`.
///
/// # Errors
/// The kernel has none to give.
#[expect(clippy::disallowed_methods, reason = "boot is the spawner of threads")]
pub(crate) fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Failure> {
    Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Failure::general(format!("cannot start the thread {name} ({error}): check the limits of threads and memory")))
}
