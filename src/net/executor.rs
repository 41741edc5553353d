//! Shards as threads: a pinned glommio executor each, and the driver that sleeps in the ring when nothing can run.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use glommio::ExecutorJoinHandle;
use glommio::LocalExecutorBuilder;
use glommio::Placement;

use crate::net::remote::Remote;
use crate::net::ring::Ring;

/// How often glommio's own reactor gets a turn; it has nothing to do.
const REACTOR_TURN: Duration = Duration::from_millis(100);
/// Memory of glommio's own I/O buffers, which nobody uses.
const REACTOR_MEMORY_BYTES: usize = 64 << 10;

/// A running shard thread.
pub struct Executor(ExecutorJoinHandle<io::Result<()>>);

/// Why a shard thread could not start.
#[derive(Debug)]
pub struct SpawnError {
    pub cpu: usize,
    pub reason: String,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard on CPU {}: {}", self.cpu, self.reason)
    }
}

impl std::error::Error for SpawnError {}

/// Starts a thread pinned to `cpu` that runs the task `first` makes, and whatever it spawns, until [`Ring::stop`].
///
/// # Errors
/// [`SpawnError`] where the thread, its CPU or glommio's rings are not to be had.
pub fn spawn<F, T>(cpu: usize, name: &str, remote: Remote, first: F) -> Result<Executor, SpawnError>
where
    F: FnOnce(Rc<Ring>) -> T + Send + 'static,
    T: Future<Output = ()> + 'static,
{
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .io_memory(REACTOR_MEMORY_BYTES)
        .preempt_timer(REACTOR_TURN)
        .spawn(move || async move {
            let ring = Ring::new(remote)?;
            let task = first(ring.clone());
            ring.spawn(task);
            Driver { ring, lapped: false }.await;
            Ok(())
        })
        .map(Executor)
        .map_err(|error| SpawnError { cpu, reason: error.to_string() })
}

impl Executor {
    /// Blocks until the shard has ended.
    ///
    /// # Errors
    /// What ended it, if not [`Ring::stop`].
    pub fn join(self) -> Result<(), String> {
        match self.0.join() {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The task that sleeps for all others: one per executor, always runnable, so that glommio itself never parks.
struct Driver {
    ring: Rc<Ring>,
    lapped: bool,
}

impl Driver {
    fn turn(&mut self) {
        if self.ring.take_polls() == 0 {
            // Nobody was polled between my last two turns. The queue is first in, first out and I was at its tail: nothing was
            // ahead of me, and nobody ran who could have queued behind me. So nothing is runnable.
            self.lapped = false;
            self.ring.enter(true);
        } else if self.lapped {
            self.lapped = false;
            self.ring.enter(false);
        } else {
            // Those who ran may have woken others behind me: one free lap, without a system call.
            self.lapped = true;
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.ring.is_stopped() {
            return Poll::Ready(());
        }
        self.turn();
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Starts a thread for work that must not hold up a shard; it ends when `work` does.
#[expect(clippy::disallowed_methods, reason = "net is the door to threads")]
pub fn background(name: &str, work: impl FnOnce() + Send + 'static) {
    // Without the thread its mailbox stays full, and whoever asks is told so.
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
        tracing::error!(name, %error, "cannot start a thread");
    }
}
