//! The bell of a shard: any thread rings it, the shard's ring hears it.

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Wakes one shard from another thread; rings that come before the shard has looked are one.
#[derive(Clone, Debug)]
pub struct Remote(Arc<Bell>);

#[derive(Debug)]
struct Bell {
    eventfd: File,
    rung: AtomicBool,
}

impl Remote {
    /// A bell that no shard listens to yet: what is rung before is heard then.
    ///
    /// # Errors
    /// The kernel's, where file descriptors are exhausted.
    pub fn new() -> io::Result<Self> {
        #[expect(unsafe_code, reason = "std has no eventfd")]
        // SAFETY: no pointer is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        #[expect(unsafe_code, reason = "taking ownership of a raw descriptor")]
        // SAFETY: the descriptor was just made and nobody else has it.
        let eventfd = unsafe { File::from_raw_fd(fd) };
        Ok(Self(Arc::new(Bell { eventfd, rung: AtomicBool::new(false) })))
    }

    /// Wakes the shard; call it after the message was queued.
    pub fn wake(&self) {
        if !self.0.rung.swap(true, Ordering::SeqCst) {
            // Eight bytes into a counter that is read at once: it can only fail if the shard is gone.
            let _gone = (&self.0.eventfd).write(&1u64.to_ne_bytes());
        }
    }

    /// Before draining: rings that come from now on wake the shard again.
    pub(crate) fn heard(&self) {
        self.0.rung.store(false, Ordering::SeqCst);
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.eventfd.as_raw_fd()
    }
}
