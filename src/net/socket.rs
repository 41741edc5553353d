//! A TCP socket on the ring: received chunks come out, queued bytes go in, a deadline watches.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use crate::net::buffers::Chunk;
use crate::net::limits;
use crate::net::ring::Ring;
use crate::net::ring::shutdown;
use crate::net::slot::NEVER;
use crate::net::slot::Out;
use crate::net::slot::register;

/// A connected socket. Dropping it sends what is queued, for at most 5 s, and closes.
pub struct Socket {
    ring: Rc<Ring>,
    index: u32,
}

impl Socket {
    /// Takes over a connected descriptor, tuned as its listener was, and begins to receive.
    pub fn adopt(ring: &Rc<Ring>, fd: RawFd) -> Self {
        let mut inner = ring.inner.borrow_mut();
        let index = inner.new_slot(fd);
        inner.arm_receive(index);
        Self { ring: ring.clone(), index }
    }

    /// Connects to `address` within `timeout_ms`, from `source` where one is given.
    ///
    /// # Errors
    /// The kernel's; `TimedOut` where no answer came in time.
    pub async fn connect(ring: &Rc<Ring>, address: SocketAddr, timeout_ms: u64) -> io::Result<Self> {
        let fd = limits::new_socket(&address)?;
        limits::tune(fd);
        let socket = {
            let mut inner = ring.inner.borrow_mut();
            let index = inner.new_slot(fd);
            inner.slot(index).set_address(address);
            inner.start_connect(index);
            Self { ring: ring.clone(), index }
        };
        socket.set_deadline(timeout_ms);
        let result = std::future::poll_fn(|context| {
            let mut inner = socket.ring.inner.borrow_mut();
            let slot = inner.slot(socket.index);
            if let Some(result) = slot.connected {
                return Poll::Ready(result);
            }
            register(&mut slot.reader, context);
            Poll::Pending
        })
        .await;
        socket.clear_deadline();
        match -result {
            0 => {
                socket.ring.inner.borrow_mut().arm_receive(socket.index);
                Ok(socket)
            }
            libc::ECANCELED => Err(io::ErrorKind::TimedOut.into()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// The ring it lives on.
    pub fn ring(&self) -> &Rc<Ring> {
        &self.ring
    }

    /// From now on, `milliseconds` until reads and writes answer `TimedOut`; moving it costs one store. While a send waits, bytes that
    /// leave move it by themselves.
    pub fn set_deadline(&self, milliseconds: u64) {
        let at_ms = self.ring.now_ms().saturating_add(milliseconds);
        self.ring.inner.borrow_mut().set_deadline(self.index, at_ms);
    }

    /// No deadline any more.
    pub fn clear_deadline(&self) {
        self.ring.inner.borrow_mut().set_deadline(self.index, NEVER);
    }

    /// Says whether the owner waits with nothing to do, so that a drain may end it. What piled up before is no matter any more.
    pub fn set_idle(&self, idle: bool) {
        let since = if idle { self.ring.now_ms() } else { NEVER };
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        slot.idle_since_ms = since;
        slot.bulk &= !idle;
    }

    /// Whether a kept connection is as it was left: open, nothing received, nothing failed.
    pub fn is_quiet(&self) -> bool {
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        !slot.eof && slot.read_error == 0 && slot.write_error == 0 && slot.received.is_empty() && !slot.timed_out
    }

    /// Whether the peer has reset the connection or a write has failed.
    pub fn is_broken(&self) -> bool {
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        slot.read_error != 0 || slot.write_error != 0
    }

    /// Forgets who waits and for how long, for a connection that goes to rest.
    pub fn park(&self) {
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        slot.reader = None;
        slot.writer = None;
        slot.deadline_ms = NEVER;
        slot.timed_out = false;
        slot.bulk = false;
    }

    /// The next received bytes; `None` at the end of the stream. Beyond its share of a turn it has none before the next.
    ///
    /// # Errors
    /// The kernel's; `TimedOut` after the deadline. Received bytes come out before either.
    pub fn poll_receive(&self, context: &Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        let turn = self.ring.turns();
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        if slot.share.is_spent(turn) && !slot.received.is_empty() {
            register(&mut slot.reader, context);
            inner.wake_next_turn(self.index);
            return Poll::Pending;
        }
        if let Some(chunk) = slot.received.pop_front() {
            slot.share.count(turn, chunk.len());
            if !slot.armed && slot.read_error == 0 && slot.received.len() < 2 {
                inner.arm_receive(self.index);
            }
            return Poll::Ready(Ok(Some(chunk)));
        }
        if slot.timed_out {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if slot.read_error != 0 {
            return Poll::Ready(Err(io::Error::from_raw_os_error(slot.read_error)));
        }
        if slot.eof {
            return Poll::Ready(Ok(None));
        }
        if slot.write_error != 0 {
            return Poll::Ready(Err(io::Error::from_raw_os_error(slot.write_error)));
        }
        register(&mut slot.reader, context);
        if !slot.armed {
            inner.arm_receive(self.index);
        }
        Poll::Pending
    }

    /// Ready when [`Self::queue`] may be called: nothing waits in the kernel.
    ///
    /// # Errors
    /// Of an earlier write; `TimedOut` after the deadline.
    pub fn poll_writable(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        if slot.write_error != 0 {
            return Poll::Ready(Err(io::Error::from_raw_os_error(slot.write_error)));
        }
        if !slot.blocked {
            return Poll::Ready(Ok(()));
        }
        if slot.timed_out {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        register(&mut slot.writer, context);
        Poll::Pending
    }

    /// Ready when everything queued has left.
    ///
    /// # Errors
    /// Of the writes; `TimedOut` after the deadline.
    pub fn poll_flushed(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        if slot.write_error != 0 {
            return Poll::Ready(Err(io::Error::from_raw_os_error(slot.write_error)));
        }
        if slot.queue.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if slot.timed_out {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        register(&mut slot.writer, context);
        // A send that succeeds inside the enter wakes nobody: ask again in the next turn.
        if !slot.blocked {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Queues bytes for the next enter. Allowed at any time; bounded only by whoever asks [`Self::poll_writable`] first.
    pub fn queue(&self, out: Out) {
        if out.as_slice().is_empty() {
            return;
        }
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        if slot.write_error != 0 {
            return;
        }
        slot.queue.push_back(out);
        inner.mark_dirty(self.index);
    }

    /// Sends FIN; call it when everything is flushed.
    pub fn shutdown_write(&self) {
        shutdown(self.ring.inner.borrow_mut().slot(self.index).fd, libc::SHUT_WR);
    }

    /// Makes the close a reset: the peer must not take what it got for complete.
    pub fn reset_on_close(&self) {
        let mut inner = self.ring.inner.borrow_mut();
        let slot = inner.slot(self.index);
        limits::reset_on_close(slot.fd);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.ring.inner.borrow_mut().abandon(self.index);
    }
}
