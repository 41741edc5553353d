//! An io_uring that always takes one entry more: where it is full, it is submitted on the way.

use std::io;

use io_uring::IoUring;
use io_uring::opcode;
use io_uring::squeue;
use io_uring::types;
use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::floor::buffers::Buffers;

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;

/// What became of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// As the operation was named when it was pushed.
    pub(super) name: u64,
    /// A count, or an error number below zero.
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// Belongs to one thread.
pub(super) struct Queue {
    ring: IoUring,
}

impl Queue {
    /// Completions are delivered when the relay asks for them and never in between, which is the cheapest and needs Linux 6.1.
    pub(super) fn new() -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_submit_all().setup_cqsize(COMPLETIONS).setup_coop_taskrun().setup_single_issuer().setup_defer_taskrun();
        let ring = builder.build(SUBMISSIONS);
        let needs = "it takes Linux 6.1 or newer, and nothing that forbids it";
        Ok(Self { ring: ring.map_err(|error| io::Error::new(error.kind(), format!("io_uring: {error}; {needs}")))? })
    }

    /// Lets receives choose from these buffers, as group 0.
    pub(super) fn provide(&self, buffers: &Buffers) -> io::Result<()> {
        #[expect(unsafe_code, reason = "the kernel is told where the buffers are")]
        // SAFETY: a relay owns both the queue and the buffers, and drops the queue first.
        unsafe {
            self.ring.submitter().register_buf_ring_with_flags(buffers.ring_address(), buffers.count(), 0, 0)
        }
    }

    /// Adds an operation, to be submitted by the next enter at the latest.
    pub(super) fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            #[expect(unsafe_code, reason = "the kernel will use the addresses in the entry")]
            // SAFETY: every address lies in a buffer that its pair or the pool keeps until the operation has completed.
            let pushed = unsafe { self.ring.submission().push(entry) };
            match pushed {
                Ok(()) => return Ok(()),
                Err(_full) => self.submit(0)?,
            }
        }
    }

    /// Hears of clients that wait at a listener, again and again, under this name.
    pub(super) fn watch(&mut self, listener: types::Fd, name: u64) -> io::Result<()> {
        self.push(&opcode::PollAdd::new(listener, u32::from(PollFlags::IN.bits())).multi(true).build().user_data(name))
    }

    /// Submits everything, waits for a completion if `wait`, and adds all there are to `completions`.
    ///
    /// What was pushed has been taken by the kernel when this returns.
    pub(super) fn enter(&mut self, wait: bool, completions: &mut Vec<Completion>) -> io::Result<()> {
        self.submit(usize::from(wait))?;
        loop {
            let taken =
                self.ring.completion().map(|entry| Completion { name: entry.user_data(), result: entry.result(), flags: entry.flags() });
            completions.extend(taken);
            if self.ring.submission().is_empty() {
                return Ok(());
            }
            self.submit(0)?;
        }
    }

    fn submit(&self, want: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(want) {
            Ok(_) => Ok(()),
            // A signal, or completions that must be taken first: whoever asks does so and comes again.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INTR | Errno::AGAIN | Errno::BUSY)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
