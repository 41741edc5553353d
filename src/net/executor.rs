//! Shards as threads: a pinned glommio executor each, and the driver that sleeps in the ring when nothing can run.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::LocalExecutorBuilder;
use glommio::Placement;

use crate::net::limits;
use crate::net::remote::Remote;
use crate::net::ring::Ring;

/// How often glommio's own reactor gets a turn; it has nothing to do.
const REACTOR_TURN: Duration = Duration::from_millis(100);
/// Memory of glommio's own I/O buffers, which nobody uses.
const REACTOR_MEMORY_BYTES: usize = 64 << 10;

/// A running shard thread.
pub struct Executor(JoinHandle<()>);

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
/// What `first` makes beside the task is called where something else ends it. `ended` is called in any case, as the last thing on
/// that thread; its error is what ended it, if not [`Ring::stop`].
///
/// # Errors
/// [`SpawnError`] where the thread is not to be had; its CPU and its rings are looked for on it.
#[expect(clippy::disallowed_methods, reason = "net is the door to threads")]
pub fn spawn<F, T, L>(
    cpu: usize,
    name: &str,
    remote: Remote,
    first: F,
    ended: impl FnOnce(Result<(), String>) + Send + 'static,
) -> Result<Executor, SpawnError>
where
    F: FnOnce(Rc<Ring>) -> (T, L) + Send + 'static,
    T: Future<Output = ()> + 'static,
    L: FnOnce(),
{
    let live = move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(cpu, remote, first)));
        ended(result.unwrap_or_else(|panic| Err(said(&*panic))));
    };
    thread::Builder::new().name(name.to_owned()).spawn(live).map(Executor).map_err(|error| SpawnError { cpu, reason: error.to_string() })
}

fn run<F, T, L>(cpu: usize, remote: Remote, first: F) -> Result<(), String>
where
    F: FnOnce(Rc<Ring>) -> (T, L),
    T: Future<Output = ()> + 'static,
    L: FnOnce(),
{
    limits::shorten_slice();
    let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu)).io_memory(REACTOR_MEMORY_BYTES).preempt_timer(REACTOR_TURN);
    let executor = builder.make().map_err(|error| error.to_string())?;
    let ring = Ring::new(remote).map_err(|error| error.to_string())?;
    let mut last_will = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        executor.run(async {
            let (task, in_failure) = first(ring.clone());
            last_will = Some(in_failure);
            ring.spawn_vital(task);
            Driver { ring: ring.clone(), lapped: false }.await;
        });
    }));
    let result = match result {
        Ok(()) if !ring.has_failed() => Ok(()),
        Ok(()) => Err("a task that it cannot be without has panicked".to_owned()),
        Err(panic) => Err(said(&*panic)),
    };
    if result.is_err() {
        ring.hang_up();
        last_will.into_iter().for_each(|in_failure| in_failure());
    }
    result
}

/// The words of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", words.unwrap_or("without a word"))
}

impl Executor {
    /// Blocks until the thread is gone.
    pub fn join(self) {
        // Its panics are caught inside, and told to whoever wants to know how it ended.
        let _ended = self.0.join();
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
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(work) {
        tracing::error!(name, %error, "cannot start a thread");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::IntoRawFd;
    use std::sync::mpsc;
    use std::sync::mpsc::Sender;

    use super::*;
    use crate::net::socket::Socket;

    /// Runs a shard to its end: how it ended, and what it said meanwhile.
    fn run_to_end<T: Future<Output = ()> + 'static>(
        first: impl FnOnce(Rc<Ring>, Sender<String>) -> T + Send + 'static,
    ) -> (Result<(), String>, Vec<String>) {
        let (told, heard) = mpsc::channel();
        let (ended, end) = mpsc::channel();
        let first = move |ring: Rc<Ring>| {
            let in_failure = told.clone();
            (first(ring, told), move || in_failure.send("it has failed".to_owned()).expect("a listener"))
        };
        let cpu = limits::allowed_cpus()[0];
        let remote = Remote::new().expect("an eventfd");
        let executor = spawn(cpu, "test", remote, first, move |result| ended.send(result).expect("a listener")).expect("a thread");
        executor.join();
        (end.recv().expect("it has ended"), heard.try_iter().collect())
    }

    /// A panic in a task ends that task; it is counted, and everybody else goes on.
    #[test]
    fn a_panic_in_a_task_ends_it_alone() {
        let (ended, said) = run_to_end(|ring, tell| async move {
            ring.spawn(async { panic!("one bad request") });
            ring.sleep(1).await;
            tell.send(format!("{} panics", ring.stats().panics)).expect("a listener");
            ring.stop();
        });
        assert_eq!((ended, said), (Ok(()), vec!["1 panics".to_owned()]));
    }

    /// A panic that leaves a shard without one of its parts ends it: whoever is connected learns it at once, also where the
    /// connection was just being closed.
    #[test]
    fn a_panic_in_a_vital_task_ends_the_shard() {
        for closing in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
            peer.set_read_timeout(Some(Duration::from_secs(10))).expect("a patience");
            let (ours, _) = listener.accept().expect("it has connected");
            let fd = ours.into_raw_fd();
            let (ended, said) = run_to_end(move |ring, _| async move {
                let connection = Some(Socket::adopt(&ring, fd)).filter(|_| !closing);
                ring.spawn_vital(async { panic!("no more accepting") });
                ring.sleep(60_000).await;
                drop(connection);
            });
            assert_eq!((ended.is_err(), said), (true, vec!["it has failed".to_owned()]));
            assert_eq!(peer.read(&mut [0]).expect("an end in order"), 0, "closing: {closing}");
        }
    }

    /// A panic in the first step of all is told in its own words.
    #[test]
    fn a_panic_outside_every_task_is_told() {
        fn first(_: Rc<Ring>, _: Sender<String>) -> std::future::Ready<()> {
            panic!("no shard of {}", "ours")
        }
        assert_eq!(run_to_end(first), (Err("it panicked: no shard of ours".to_owned()), vec![]));
    }
}
