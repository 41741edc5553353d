//! What whole-proxy tests share: a running Corelane, upstreams that follow a script, clients that speak raw bytes.
//!
//! A test writes Kubernetes objects, starts the real binary on free ports, speaks to it over sockets and looks at what came out on
//! either side. Nothing sleeps: everything waits for something that can be seen, with a deadline that only a failure reaches.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests have threads, clocks and locks of their own")]

pub mod client;
pub mod edge;
pub mod fake_api;
pub mod heap;
pub mod load;
pub mod manifests;
pub mod tls;
#[cfg(target_arch = "x86_64")]
pub mod trace;
pub mod upstream;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

/// How long a test waits for what must happen: long enough for a machine that does ten other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is `Some`, for at most [`PATIENCE`].
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The time, for measuring how long something took.
pub fn now() -> Instant {
    Instant::now()
}

/// Runs `work` on a thread of its own.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(work)
}

/// Holds up whoever comes until it is opened, once and for all.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        let (is_open, opened) = &*self.0;
        *is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        opened.notify_all();
    }

    /// Returns when it is open.
    pub fn pass(&self) {
        let (is_open, opened) = &*self.0;
        let closed = is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let _open = opened.wait_while(closed, |is_open| !*is_open);
    }
}

/// A directory that is gone with its owner.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file as careful tools do: whole, then renamed into place.
    pub fn write(&self, name: &str, content: &str) {
        let hidden = self.0.join(format!(".{name}.new"));
        std::fs::write(&hidden, content).expect("a file can be written");
        std::fs::rename(&hidden, self.0.join(name)).expect("a file can be renamed");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Bytes as a reader of a failure wants to see them.
pub fn show(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(600)];
    let more = if shown.len() < bytes.len() { format!(" ... {} bytes", bytes.len()) } else { String::new() };
    format!("{}{more}", shown.escape_ascii())
}
