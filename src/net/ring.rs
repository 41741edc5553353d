//! The io_uring of a shard: it submits what tasks ask for, sleeps when none can run, and hands completions to slots.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;

use io_uring::IoUring;
use io_uring::cqueue;
use io_uring::opcode;
use io_uring::squeue;
use io_uring::types;

use crate::net::buffers::BufferPool;
use crate::net::limits;
use crate::net::listen;
use crate::net::remote::Remote;
use crate::net::slot::NEVER;
use crate::net::slot::Out;
use crate::net::slot::Slot;
use crate::net::slot::register;
use crate::net::wheel::Entry;
use crate::net::wheel::Wheel;

/// Unread chunks at which a socket turns to receiving on demand.
const UNREAD_CHUNKS_MAX: usize = 8;
/// Unread chunks up to which an on-demand socket receives ahead.
const PREFETCH_CHUNKS: usize = 2;
/// Most entries of one vectored send.
const IOVECS_MAX: usize = 64;
/// Spare output buffers kept, and the largest kept, in bytes.
const SPARE_BUFFERS_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 32 << 10;
/// The longest sleep; a lost wake-up would cost this much at most.
const SLEEP_MS_MAX: u64 = 1000;
/// How long a dropped socket may go on sending what was queued.
const FAREWELL_MS: u64 = 5000;

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 8192;
const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 64 << 10;
/// How often it is looked which buffers are not needed, in milliseconds.
const STOCK_LOOK_MS: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Operation {
    Receive = 1,
    /// A send that completes within the enter that submits it.
    SendNow,
    /// A send that waits in the kernel.
    SendWaiting,
    Connect,
    Accept,
    Bell,
    Cancel,
    Close,
}

/// A sum of what happened, for metrics and checks.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingStats {
    pub sleeps: u64,
    /// System calls into the ring.
    pub enters: u64,
    pub submissions: u64,
    pub completions: u64,
    /// Times a socket had to wait for a receive buffer.
    pub starved: u64,
    /// Tasks that have panicked.
    pub panics: u64,
    pub slots: usize,
    pub free_slots: usize,
    pub buffers_available: usize,
    pub buffers: usize,
    /// Microseconds awake and asleep since the ring was made.
    pub busy_us: u64,
    pub asleep_us: u64,
}

/// One shard's ring. Everything a socket does goes through it; it belongs to one thread.
pub struct Ring {
    pub(crate) inner: RefCell<Inner>,
    /// Polls of tasks since the driver last looked.
    polls: Cell<u64>,
    now_us: Cell<u64>,
    longest_turn_us: Cell<u64>,
    /// Times the driver has entered the ring.
    turns: Cell<u64>,
    started: Instant,
    stopped: Cell<bool>,
    /// A vital task has panicked.
    failed: Cell<bool>,
    remote: Remote,
}

pub(crate) struct Inner {
    ring: IoUring,
    pub(crate) pool: Rc<BufferPool>,
    #[expect(clippy::vec_box, reason = "the kernel holds addresses inside slots: they stay where they are when the list grows")]
    pub(crate) slots: Vec<Box<Slot>>,
    free: Vec<u32>,
    starved: Vec<u32>,
    dirty: Vec<u32>,
    sent: Vec<u32>,
    /// Sockets that have bytes left but no share of this turn.
    deferred: Vec<u32>,
    /// Entries that found the submission queue full.
    overflow: VecDeque<squeue::Entry>,
    /// Descriptors whose close has not reached the kernel yet.
    closing: Vec<RawFd>,
    completions: Vec<(u64, i32, u32)>,
    wheel: Wheel,
    due: Vec<Entry>,
    sleepers: Vec<Option<Waker>>,
    free_sleepers: Vec<u32>,
    spare: Vec<Vec<u8>>,
    listeners: Vec<Listener>,
    accepted: VecDeque<(usize, Result<RawFd, i32>)>,
    acceptor: Option<Waker>,
    bell_word: Box<u64>,
    rung: bool,
    bell_waker: Option<Waker>,
    now_ms: u64,
    stock_look_ms: u64,
    no_iowait: bool,
    stats: RingStats,
}

struct Listener {
    fd: RawFd,
    armed: bool,
    closing: bool,
}

/// The argument of a timed enter (`struct io_uring_getevents_arg`).
#[repr(C)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_bytes: u32,
    padding: u32,
    timespec: u64,
}

const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 8;
/// A thread asleep in the ring does not count as waiting for a disk (kernel 6.15 and newer).
const ENTER_NO_IOWAIT: u32 = 128;

impl Ring {
    /// Makes the ring on the thread that will use it.
    ///
    /// # Errors
    /// The kernel's: `EPERM` or `ENOSYS` where io_uring is forbidden, `ENOMEM` where memlock is too low.
    pub fn new(remote: Remote) -> io::Result<Rc<Self>> {
        let ring = build()?;
        let pool = Rc::new(BufferPool::new(BUFFERS, BUFFER_BYTES)?);
        #[expect(unsafe_code, reason = "the kernel is told where the buffers are")]
        // SAFETY: the entries stay mapped as long as the pool lives, and `Inner` holds it as long as the ring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(pool.entries_address(), pool.count(), 0, 0)?;
        }
        let mut inner = Inner {
            ring,
            pool,
            slots: Vec::new(),
            free: Vec::new(),
            starved: Vec::new(),
            dirty: Vec::new(),
            sent: Vec::new(),
            deferred: Vec::new(),
            overflow: VecDeque::new(),
            closing: Vec::new(),
            completions: Vec::with_capacity(COMPLETIONS as usize),
            wheel: Wheel::default(),
            due: Vec::new(),
            sleepers: Vec::new(),
            free_sleepers: Vec::new(),
            spare: Vec::new(),
            listeners: Vec::new(),
            accepted: VecDeque::new(),
            acceptor: None,
            bell_word: Box::new(0),
            rung: false,
            bell_waker: None,
            now_ms: 0,
            stock_look_ms: 0,
            no_iowait: true,
            stats: RingStats::default(),
        };
        inner.arm_bell(remote.fd());
        Ok(Rc::new(Self {
            inner: RefCell::new(inner),
            polls: Cell::new(0),
            now_us: Cell::new(0),
            longest_turn_us: Cell::new(0),
            turns: Cell::new(0),
            started: clock(),
            stopped: Cell::new(false),
            failed: Cell::new(false),
            remote,
        }))
    }

    /// Microseconds since the ring was made, as read when the shard last woke.
    #[inline]
    pub fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    /// Milliseconds since the ring was made, as read when the shard last woke.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_us.get() / 1000
    }

    /// The number of the current turn: everything that runs between two looks at the sockets has the same.
    #[inline]
    pub fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// The instant that [`Self::now_us`] counts from.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends the driver, and with it the executor, after the current turn.
    pub fn stop(&self) {
        self.stopped.set(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Ends every connection and every listener, for a shard that is past serving: their peers learn it now, and whoever comes is
    /// another shard's.
    pub(crate) fn hang_up(&self) {
        let inner = self.inner.borrow();
        inner.listeners.iter().for_each(|listener| shutdown(listener.fd, libc::SHUT_RDWR));
        inner.slots.iter().for_each(|slot| shutdown(slot.fd, libc::SHUT_RDWR));
        inner.closing.iter().for_each(|fd| shutdown(*fd, libc::SHUT_RDWR));
    }

    /// A cleared buffer for output, with capacity from earlier use.
    #[inline]
    pub fn spare(&self) -> Vec<u8> {
        self.inner.borrow_mut().spare.pop().unwrap_or_else(|| Vec::with_capacity(4096))
    }

    /// Gives a buffer back for later output.
    #[inline]
    pub fn recycle(&self, buffer: Vec<u8>) {
        self.inner.borrow_mut().recycle(buffer);
    }

    /// Runs `future` as a task of this shard. A panic in it ends it alone, is logged and counted.
    pub fn spawn(self: &Rc<Self>, future: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(Counted { ring: self.clone(), vital: false, future }).detach();
    }

    /// As [`Self::spawn`], for a task without which the shard would go on as a ruin: a panic in it ends the shard.
    pub fn spawn_vital(self: &Rc<Self>, future: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(Counted { ring: self.clone(), vital: true, future }).detach();
    }

    /// Resolves after `milliseconds`, at most 64 ms late.
    pub fn sleep(self: &Rc<Self>, milliseconds: u64) -> Sleep {
        Sleep { ring: self.clone(), at_ms: self.now_ms() + milliseconds, sleeper: None }
    }

    /// Resolves when another thread has rung since the last call; everything queued before the ring can be seen then.
    pub async fn rung(&self) {
        std::future::poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            if std::mem::take(&mut inner.rung) {
                return Poll::Ready(());
            }
            register(&mut inner.bell_waker, context);
            Poll::Pending
        })
        .await;
    }

    /// Starts accepting on a listening socket, which the ring owns from now on; returns its number.
    pub fn listen(&self, fd: RawFd) -> usize {
        let mut inner = self.inner.borrow_mut();
        inner.listeners.push(Listener { fd, armed: false, closing: false });
        let index = inner.listeners.len() - 1;
        inner.arm_accept(index);
        index
    }

    /// The next connection and its listener's number.
    ///
    /// After an error (`EMFILE`, ...) that listener rests until [`Self::resume_accepting`].
    pub async fn accept(&self) -> (usize, Result<RawFd, io::Error>) {
        std::future::poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            if let Some((listener, result)) = inner.accepted.pop_front() {
                return Poll::Ready((listener, result.map_err(io::Error::from_raw_os_error)));
            }
            register(&mut inner.acceptor, context);
            Poll::Pending
        })
        .await
    }

    /// Accepts again on every listener that rests.
    pub fn resume_accepting(&self) {
        let mut inner = self.inner.borrow_mut();
        for index in 0..inner.listeners.len() {
            inner.arm_accept(index);
        }
    }

    /// Lets no connection begin any more; those that have begun still come out of [`Self::accept`].
    pub fn turn_away(&self) {
        for listener in &self.inner.borrow().listeners {
            // Without the filter the close may reset who comes in this very moment: the drain goes on all the same.
            let _unfiltered = listen::turn_away(listener.fd);
        }
    }

    /// Closes every listener; connections that the kernel has completed by now are still handed out by [`Self::accept`].
    pub fn stop_accepting(&self) {
        let mut inner = self.inner.borrow_mut();
        for index in 0..inner.listeners.len() {
            inner.close_listener(index);
        }
    }

    /// Expires sockets that have been idle for at least `idle_ms`; returns how many are idle still.
    pub fn expire_idle(&self, idle_ms: u64) -> usize {
        let now_ms = self.now_ms();
        let mut inner = self.inner.borrow_mut();
        let mut left = 0;
        for slot in &mut inner.slots {
            if !slot.live || slot.idle_since_ms == NEVER {
                continue;
            }
            if now_ms.saturating_sub(slot.idle_since_ms) >= idle_ms {
                slot.timed_out = true;
                slot.wake_reader();
            } else {
                left += 1;
            }
        }
        left
    }

    /// Whether a dropped socket still has bytes to send.
    pub fn has_unsent(&self) -> bool {
        self.inner.borrow().slots.iter().any(|slot| !slot.live && !slot.queue.is_empty())
    }

    /// What happened so far.
    pub fn stats(&self) -> RingStats {
        let inner = self.inner.borrow();
        RingStats {
            slots: inner.slots.len(),
            free_slots: inner.free.len(),
            buffers_available: inner.pool.available(),
            buffers: usize::from(inner.pool.count()),
            // Counted from the clock: a ring that never sleeps is busy too.
            busy_us: self.now_us().saturating_sub(inner.stats.asleep_us),
            ..inner.stats
        }
    }

    /// The longest turn since this was asked last: what the last task of that turn has waited for the others.
    pub fn take_longest_turn_us(&self) -> u64 {
        self.longest_turn_us.take()
    }

    fn end_turn(&self, now_us: u64) {
        let turn_us = now_us - self.now_us.get();
        if turn_us > self.longest_turn_us.get() {
            self.longest_turn_us.set(turn_us);
        }
    }

    pub(crate) fn take_polls(&self) -> u64 {
        self.polls.take()
    }

    /// Submits everything and, if `block`, sleeps until a completion or the next deadline.
    pub(crate) fn enter(&self, block: bool) {
        self.turns.set(self.turns.get() + 1);
        let mut inner = self.inner.borrow_mut();
        inner.pool.offer();
        inner.feed_starved();
        let more_follows = inner.build_sends();
        let mut completions = std::mem::take(&mut inner.completions);
        while !inner.overflow.is_empty() {
            inner.submit(0, None);
            inner.collect(&mut completions);
            inner.push_overflow();
        }
        // Somebody waits for what was collected already, or for what is submitted only behind these sends.
        let block = block && completions.is_empty() && !more_follows && inner.deferred.is_empty();
        if block {
            let due_ms = inner.wheel.next_due_ms().map_or(SLEEP_MS_MAX, |due_ms| due_ms.saturating_sub(inner.now_ms).min(SLEEP_MS_MAX));
            inner.tidy_buffers();
            let before_us = self.elapsed_us();
            self.end_turn(before_us);
            inner.submit(1, Some(due_ms));
            self.now_us.set(self.elapsed_us());
            inner.stats.sleeps += 1;
            inner.stats.asleep_us += self.now_us.get() - before_us;
        } else {
            inner.submit(0, None);
            let now_us = self.elapsed_us();
            self.end_turn(now_us);
            self.now_us.set(now_us);
        }
        inner.now_ms = self.now_ms();
        inner.collect(&mut completions);
        // What `sent` lists must have been consumed by the kernel before it is settled: EAGAIN and EBUSY leave entries behind, and
        // EBUSY until there is room for completions again.
        while !inner.ring.submission().is_empty() {
            inner.submit(0, None);
            inner.collect(&mut completions);
        }
        inner.stats.completions += completions.len() as u64;
        for (user_data, result, flags) in completions.drain(..) {
            inner.complete(user_data, result, flags, &self.remote);
        }
        inner.completions = completions;
        inner.settle();
        inner.wake_deferred();
        inner.expire();
    }

    fn elapsed_us(&self) -> u64 {
        clock().saturating_duration_since(self.started).as_micros() as u64
    }
}

/// Now.
#[expect(clippy::disallowed_methods, reason = "net is the door to the clock")]
pub fn clock() -> Instant {
    Instant::now()
}

/// The best ring this kernel gives: 6.1 and newer, 6.0, then 5.19.
fn build() -> io::Result<IoUring> {
    let mut all = IoUring::builder();
    all.setup_submit_all().setup_cqsize(COMPLETIONS).setup_coop_taskrun().setup_single_issuer().setup_defer_taskrun();
    let mut single = IoUring::builder();
    single.setup_submit_all().setup_cqsize(COMPLETIONS).setup_coop_taskrun().setup_single_issuer();
    let mut oldest = IoUring::builder();
    oldest.setup_submit_all().setup_cqsize(COMPLETIONS).setup_coop_taskrun();
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for (name, builder) in [("6.1", all), ("6.0", single), ("5.19", oldest)] {
        match builder.build(SUBMISSIONS) {
            Ok(ring) => {
                tracing::debug!(features_of_kernel = name, "io_uring is set up");
                return Ok(ring);
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn user_data(operation: Operation, generation: u32, index: u32) -> u64 {
    (operation as u64) << 56 | u64::from(generation & 0xff_ffff) << 32 | u64::from(index)
}

impl Inner {
    fn push(&mut self, entry: squeue::Entry) {
        self.stats.submissions += 1;
        if !self.overflow.is_empty() {
            self.overflow.push_back(entry);
            return;
        }
        #[expect(unsafe_code, reason = "the kernel will use the addresses in the entry")]
        // SAFETY: every address in an entry belongs to a slot, the pool or the bell, which live until the completion.
        let full = unsafe { self.ring.submission().push(&entry) }.is_err();
        if full {
            self.overflow.push_back(entry);
        }
    }

    fn push_overflow(&mut self) {
        while let Some(entry) = self.overflow.front() {
            #[expect(unsafe_code, reason = "the kernel will use the addresses in the entry")]
            // SAFETY: as in `push`.
            let full = unsafe { self.ring.submission().push(entry) }.is_err();
            if full {
                return;
            }
            self.overflow.pop_front();
        }
    }

    /// Takes every completion out of the queue; what they mean is looked at later.
    fn collect(&mut self, completions: &mut Vec<(u64, i32, u32)>) {
        completions.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())));
    }

    /// One system call: submit, and wait for `want` completions at most `timeout_ms`.
    fn submit(&mut self, want: u32, timeout_ms: Option<u64>) {
        self.stats.enters += 1;
        let timespec = timeout_ms.map(|ms| types::Timespec::from(Duration::from_millis(ms)));
        let argument = WaitArgument {
            signal_mask: 0,
            signal_mask_bytes: 0,
            padding: 0,
            timespec: timespec.as_ref().map_or(0, |timespec| std::ptr::from_ref(timespec) as u64),
        };
        let queued = {
            let mut queue = self.ring.submission();
            queue.sync();
            queue.len() as u32
        };
        let mut flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        if self.no_iowait {
            flags |= ENTER_NO_IOWAIT;
        }
        #[expect(unsafe_code, reason = "the enter of the ring itself")]
        // SAFETY: `argument` and the timespec it points at outlive the call; entries are covered by `push`.
        let result = unsafe { self.ring.submitter().enter(queued, want, flags, Some(&argument)) };
        let error = match result {
            Ok(submitted) => {
                if submitted == queued as usize {
                    self.closing.clear();
                }
                return;
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            // Nothing came in time, a signal came, or the kernel asks to reap completions first: the caller does all of that.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
            Some(libc::EINVAL) if self.no_iowait => {
                self.no_iowait = false;
                self.submit(want, timeout_ms);
            }
            _ => panic!("io_uring_enter: {error}"),
        }
    }

    // --- slots

    pub(crate) fn new_slot(&mut self, fd: RawFd) -> u32 {
        let index = if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            **slot = Slot::new(slot.generation.wrapping_add(1) & 0xff_ffff, fd);
            index
        } else {
            self.slots.push(Box::new(Slot::new(0, fd)));
            self.slots.len() as u32 - 1
        };
        self.pool.expect(self.sockets());
        index
    }

    /// Slots in use.
    fn sockets(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    pub(crate) fn slot(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// Closes a slot without owner once its output is gone, and frees it once the kernel has let go.
    pub(crate) fn reap(&mut self, index: u32) {
        let slot = self.slot(index);
        if slot.live || slot.blocked || slot.dirty || (!slot.queue.is_empty() && slot.write_error == 0) {
            return;
        }
        if slot.fd >= 0 {
            // Through the queue, in order: an entry that names this number may not have been submitted yet, and close(2) would
            // give the number to somebody else at once.
            let fd = std::mem::replace(&mut slot.fd, -1);
            if slot.armed {
                self.cancel(index, Operation::Receive);
            }
            let entry = opcode::Close::new(types::Fd(fd)).build().user_data(user_data(Operation::Close, 0, 0));
            self.push(entry.flags(squeue::Flags::SKIP_SUCCESS));
            self.closing.push(fd);
        }
        let slot = self.slot(index);
        if slot.in_flight == 0 && !slot.starved {
            slot.queue.clear();
            slot.received.clear();
            slot.reader = None;
            slot.writer = None;
            // Live without an owner: it cannot be reaped a second time while it waits in `free`.
            slot.live = true;
            slot.idle_since_ms = NEVER;
            slot.deadline_ms = NEVER;
            self.free.push(index);
        }
    }

    /// The owner is gone: what is queued may still leave, for a while.
    pub(crate) fn abandon(&mut self, index: u32) {
        let now_ms = self.now_ms;
        let slot = self.slot(index);
        slot.live = false;
        slot.received.clear();
        slot.reader = None;
        slot.writer = None;
        slot.connected = None;
        slot.idle_since_ms = NEVER;
        if slot.connecting {
            self.cancel(index, Operation::Connect);
        }
        let slot = self.slot(index);
        if !slot.queue.is_empty() {
            // A peer that takes nothing has had its time; one that was silent may still hear why it is left.
            if slot.timed_out && slot.blocked {
                shutdown(slot.fd, libc::SHUT_RDWR);
            } else {
                self.set_deadline(index, now_ms + FAREWELL_MS);
            }
        }
        self.reap(index);
    }

    pub(crate) fn set_deadline(&mut self, index: u32, at_ms: u64) {
        let now_ms = self.now_ms;
        let slot = self.slot(index);
        slot.deadline_ms = at_ms;
        slot.patience_ms = at_ms.saturating_sub(now_ms);
        slot.timed_out = false;
        // A later deadline finds itself when the wheel asks; an earlier one must be asked about earlier.
        if at_ms < slot.asked_at_ms {
            self.ask_at(index, at_ms);
        }
    }

    fn ask_at(&mut self, index: u32, at_ms: u64) {
        let generation = self.slot(index).generation;
        self.slot(index).asked_at_ms = self.wheel.add(Entry::Socket { index, generation }, at_ms);
    }

    fn expire(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.now_ms, &mut due);
        for entry in due.drain(..) {
            match entry {
                Entry::Sleeper(sleeper) => {
                    if let Some(waker) = self.sleepers[sleeper as usize].take() {
                        waker.wake();
                    }
                }
                Entry::Socket { index, generation } => self.expire_socket(index, generation),
            }
        }
        self.due = due;
    }

    fn expire_socket(&mut self, index: u32, generation: u32) {
        let now_ms = self.now_ms;
        let slot = self.slot(index);
        // Of the life before, or left over from before the deadline moved closer: another entry is to come.
        if slot.generation != generation || slot.asked_at_ms > now_ms {
            return;
        }
        slot.asked_at_ms = NEVER;
        if slot.deadline_ms == NEVER {
            return;
        }
        if slot.deadline_ms > now_ms {
            let at_ms = slot.deadline_ms;
            self.ask_at(index, at_ms);
            return;
        }
        if let Some(left_ms) = patience_left_ms(slot) {
            slot.deadline_ms = now_ms + left_ms;
            self.ask_at(index, now_ms + left_ms);
            return;
        }
        slot.deadline_ms = NEVER;
        slot.timed_out = true;
        if !slot.live {
            shutdown(slot.fd, libc::SHUT_RDWR);
        } else if slot.connecting {
            self.cancel(index, Operation::Connect);
        }
        let slot = self.slot(index);
        slot.wake_reader();
        slot.wake_writer();
    }

    // --- receiving

    pub(crate) fn arm_receive(&mut self, index: u32) {
        let bytes = self.pool.size() as u32;
        let slot = self.slot(index);
        if slot.armed || slot.fd < 0 || slot.eof || slot.starved {
            return;
        }
        slot.armed = true;
        slot.in_flight += 1;
        let fd = types::Fd(slot.fd);
        let entry = if slot.bulk {
            opcode::Recv::new(fd, std::ptr::null_mut(), bytes).buf_group(0).build().flags(squeue::Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(fd, 0).build()
        };
        let data = user_data(Operation::Receive, slot.generation, index);
        self.push(entry.user_data(data));
    }

    fn complete_receive(&mut self, index: u32, result: i32, flags: u32) {
        let low = self.pool.available() < usize::from(self.pool.count()) / 4;
        let chunk = cqueue::buffer_select(flags).map(|id| self.pool.take(id, result.max(0) as usize));
        let more = cqueue::more(flags);
        let slot = self.slot(index);
        if !more {
            slot.armed = false;
            slot.cancelling = false;
            slot.in_flight -= 1;
        }
        if !slot.live {
            drop(chunk);
            self.reap(index);
            return;
        }
        let mut starved = false;
        match (result, chunk) {
            (1.., Some(chunk)) => slot.received.push_back(if low { chunk.into_heap() } else { chunk }),
            (0, _) => slot.eof = true,
            (error, _) if -error == libc::ENOBUFS => {
                starved = true;
                slot.bulk = true;
            }
            (error, _) if -error == libc::ECANCELED => {}
            (error, _) => slot.read_error = -error,
        }
        slot.wake_reader();
        let unread = slot.received.len();
        if starved {
            slot.starved = true;
            self.stats.starved += 1;
            self.pool.ran_out();
            self.starved.push(index);
        } else if !more && result > 0 && unread < if slot.bulk { PREFETCH_CHUNKS } else { UNREAD_CHUNKS_MAX } {
            self.arm_receive(index);
        } else if more && unread >= UNREAD_CHUNKS_MAX && !slot.cancelling {
            slot.cancelling = true;
            slot.bulk = true;
            self.cancel(index, Operation::Receive);
        }
    }

    /// Lets as many starved sockets receive again as there are buffers: all at once would starve them all again.
    fn feed_starved(&mut self) {
        if self.starved.is_empty() || self.pool.available() < usize::from(self.pool.count()) / 8 {
            return;
        }
        let count = self.pool.available().min(self.starved.len());
        for index in self.starved.drain(..count).collect::<Vec<_>>() {
            let slot = self.slot(index);
            slot.starved = false;
            if slot.live { self.arm_receive(index) } else { self.reap(index) }
        }
    }

    /// Before a sleep, when nobody waits.
    fn tidy_buffers(&mut self) {
        self.pool.clean_one();
        if self.now_ms >= self.stock_look_ms {
            self.stock_look_ms = self.now_ms + STOCK_LOOK_MS;
            self.pool.look(self.sockets());
        }
    }

    /// Its reader gets on when the next turn has begun.
    pub(crate) fn wake_next_turn(&mut self, index: u32) {
        self.deferred.push(index);
    }

    fn wake_deferred(&mut self) {
        let mut deferred = std::mem::take(&mut self.deferred);
        for index in deferred.drain(..) {
            // Whoever has the slot by now: one look too many does no harm.
            self.slot(index).wake_reader();
        }
        self.deferred = deferred;
    }

    fn cancel(&mut self, index: u32, operation: Operation) {
        let generation = self.slot(index).generation;
        let target = user_data(operation, generation, index);
        let entry = opcode::AsyncCancel::new(target).build().user_data(user_data(Operation::Cancel, generation, index));
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS));
    }

    // --- sending

    /// Lists the socket for the next enter, where its send is built: everything written in one turn leaves together.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, index: u32) {
        let slot = self.slot(index);
        if !slot.dirty && !slot.blocked {
            slot.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Builds the sends of this enter. True where something is to follow them at once, for a send that succeeds wakes nobody: the
    /// close behind the last words of a dropped socket, and what did not fit into one send.
    fn build_sends(&mut self) -> bool {
        let mut more_follows = false;
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let slot = self.slot(index);
            slot.dirty = false;
            if slot.blocked || slot.queue.is_empty() || slot.fd < 0 {
                if slot.fd >= 0 {
                    self.reap(index);
                }
                continue;
            }
            more_follows |= !slot.live || slot.queue.len() > IOVECS_MAX;
            slot.send_result = i32::MAX;
            slot.in_flight += 1;
            slot.blocked = true;
            let data = user_data(Operation::SendNow, slot.generation, index);
            // DONTWAIT: it completes inside the enter; only an error or a short send posts a completion.
            let entry = send_entry(slot, libc::MSG_DONTWAIT).user_data(data).flags(squeue::Flags::SKIP_SUCCESS);
            self.push(entry);
            self.sent.push(index);
        }
        self.dirty = dirty;
        more_follows
    }

    /// After the enter: what was sent is recycled, what was not waits in the kernel.
    fn settle(&mut self) {
        let mut sent = std::mem::take(&mut self.sent);
        for index in sent.drain(..) {
            let slot = self.slot(index);
            slot.in_flight -= 1;
            slot.blocked = false;
            match slot.send_result {
                i32::MAX => {
                    let whole = slot.queue.len() <= IOVECS_MAX;
                    let bytes = if whole { usize::MAX } else { slot.iovecs.iter().map(|part| part.iov_len).sum() };
                    self.consume(index, bytes);
                    if !whole {
                        self.mark_dirty(index);
                    }
                }
                error if error < 0 && -error != libc::EAGAIN => self.fail_writing(index, -error),
                short => {
                    self.consume(index, short.max(0) as usize);
                    self.send_waiting(index);
                }
            }
            if !self.slot(index).live {
                self.reap(index);
            }
        }
        self.sent = sent;
    }

    fn send_waiting(&mut self, index: u32) {
        let slot = self.slot(index);
        if slot.queue.is_empty() || slot.fd < 0 {
            return;
        }
        slot.blocked = true;
        slot.in_flight += 1;
        let data = user_data(Operation::SendWaiting, slot.generation, index);
        let entry = send_entry(slot, 0).user_data(data);
        self.push(entry);
    }

    fn complete_waiting(&mut self, index: u32, result: i32) {
        let slot = self.slot(index);
        slot.blocked = false;
        slot.in_flight -= 1;
        if result < 0 {
            self.fail_writing(index, -result);
        } else {
            self.consume(index, result as usize);
            if !self.slot(index).queue.is_empty() {
                self.send_waiting(index);
            }
        }
        let slot = self.slot(index);
        if !slot.blocked {
            slot.wake_writer();
        }
        if !slot.live {
            self.reap(index);
        }
    }

    fn fail_writing(&mut self, index: u32, error: i32) {
        let slot = self.slot(index);
        slot.write_error = error;
        slot.queue.clear();
        slot.offset = 0;
        slot.wake_reader();
        slot.wake_writer();
    }

    /// Removes sent bytes from the front of the queue; `usize::MAX` removes everything.
    fn consume(&mut self, index: u32, mut bytes: usize) {
        loop {
            let slot = self.slot(index);
            let Some(front) = slot.queue.front() else { return };
            let length = front.as_slice().len() - slot.offset;
            if bytes < length {
                slot.offset += bytes;
                return;
            }
            bytes = if bytes == usize::MAX { bytes } else { bytes - length };
            slot.offset = 0;
            if let Some(Out::Vec(buffer)) = slot.queue.pop_front() {
                self.recycle(buffer);
            }
        }
    }

    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    // --- connecting and accepting

    pub(crate) fn start_connect(&mut self, index: u32) {
        let slot = self.slot(index);
        slot.connecting = true;
        slot.in_flight += 1;
        let address = std::ptr::from_ref(&slot.address).cast::<libc::sockaddr>();
        let data = user_data(Operation::Connect, slot.generation, index);
        let entry = opcode::Connect::new(types::Fd(slot.fd), address, slot.address_length).build().user_data(data);
        self.push(entry);
    }

    fn arm_accept(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        if listener.armed || listener.closing {
            return;
        }
        listener.armed = true;
        let data = user_data(Operation::Accept, 0, index as u32);
        let entry = opcode::AcceptMulti::new(types::Fd(listener.fd)).flags(libc::SOCK_CLOEXEC).build().user_data(data);
        self.push(entry);
    }

    fn complete_accept(&mut self, index: usize, result: i32, flags: u32) {
        let listener = &mut self.listeners[index];
        if !cqueue::more(flags) {
            listener.armed = false;
        }
        if result >= 0 {
            self.accepted.push_back((index, Ok(result)));
            self.arm_accept(index);
        } else if !listener.closing {
            self.accepted.push_back((index, Err(-result)));
        }
        if self.listeners[index].closing && !self.listeners[index].armed {
            self.finish_listener(index);
        }
        if let Some(waker) = &self.acceptor {
            waker.wake_by_ref();
        }
    }

    fn close_listener(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        if listener.closing {
            return;
        }
        listener.closing = true;
        if listener.armed {
            let target = user_data(Operation::Accept, 0, index as u32);
            let entry = opcode::AsyncCancel::new(target).build().user_data(user_data(Operation::Close, 0, 0));
            self.push(entry.flags(squeue::Flags::SKIP_SUCCESS));
        } else {
            self.finish_listener(index);
        }
    }

    /// Takes what the accept queue still holds, then closes: a connection the kernel has completed is served.
    fn finish_listener(&mut self, index: usize) {
        let fd = std::mem::replace(&mut self.listeners[index].fd, -1);
        if fd < 0 {
            return;
        }
        // Only now: on a non-blocking socket the armed accept would answer EAGAIN instead of waiting.
        limits::set_non_blocking(fd);
        while let Some(accepted) = accept_now(fd) {
            self.accepted.push_back((index, Ok(accepted)));
        }
        let entry = opcode::Close::new(types::Fd(fd)).build().user_data(user_data(Operation::Close, 0, 0));
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn arm_bell(&mut self, fd: RawFd) {
        let word = std::ptr::from_mut(&mut *self.bell_word).cast::<u8>();
        let entry = opcode::Read::new(types::Fd(fd), word, 8).build().user_data(user_data(Operation::Bell, 0, 0));
        self.push(entry);
    }

    // --- completions

    fn complete(&mut self, data: u64, result: i32, flags: u32, remote: &Remote) {
        const RECEIVE: u8 = Operation::Receive as u8;
        const SEND_NOW: u8 = Operation::SendNow as u8;
        const SEND_WAITING: u8 = Operation::SendWaiting as u8;
        const CONNECT: u8 = Operation::Connect as u8;
        const ACCEPT: u8 = Operation::Accept as u8;
        const BELL: u8 = Operation::Bell as u8;
        const CANCEL: u8 = Operation::Cancel as u8;
        let index = data as u32;
        match (data >> 56) as u8 {
            RECEIVE => self.complete_receive(index, result, flags),
            SEND_NOW => self.slot(index).send_result = result,
            SEND_WAITING => self.complete_waiting(index, result),
            CONNECT => {
                let slot = self.slot(index);
                slot.in_flight -= 1;
                slot.connecting = false;
                slot.connected = Some(result);
                slot.wake_reader();
                if !slot.live {
                    self.reap(index);
                }
            }
            ACCEPT => self.complete_accept(index as usize, result, flags),
            BELL => {
                remote.heard();
                self.rung = true;
                self.arm_bell(remote.fd());
                if let Some(waker) = &self.bell_waker {
                    waker.wake_by_ref();
                }
            }
            CANCEL => {
                // ENOENT: the receive was between poll and retry. It is asked again, or its buffers would pile up.
                let generation = (data >> 32) as u32 & 0xff_ffff;
                let slot = self.slot(index);
                if result < 0 && slot.generation == generation && slot.armed && (slot.cancelling || slot.fd < 0) {
                    self.cancel(index, Operation::Receive);
                }
            }
            // A close that failed: the number is gone all the same.
            _ => {}
        }
    }
}

fn send_entry(slot: &mut Slot, flags: i32) -> squeue::Entry {
    let flags = flags | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
    let fd = types::Fd(slot.fd);
    if slot.queue.len() == 1 {
        let bytes = &slot.queue[0].as_slice()[slot.offset..];
        return opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32).flags(flags).build();
    }
    slot.iovecs.clear();
    let mut offset = slot.offset;
    for out in slot.queue.iter().take(IOVECS_MAX) {
        let bytes = &out.as_slice()[offset..];
        offset = 0;
        slot.iovecs.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
    }
    slot.message.msg_iov = slot.iovecs.as_mut_ptr();
    slot.message.msg_iovlen = slot.iovecs.len();
    opcode::SendMsg::new(fd, &slot.message).flags(flags as u32).build()
}

/// What is left of the patience with a peer that takes bytes slowly; `None` where none has left for so long, or none waits to leave.
///
/// A waiting send says nothing before its last byte, however many have left meanwhile: the kernel is asked, but only when the
/// deadline has come. The deadline of a socket without an owner is moved by nothing.
fn patience_left_ms(slot: &Slot) -> Option<u64> {
    if !slot.blocked || !slot.live {
        return None;
    }
    slot.patience_ms.checked_sub(limits::since_last_sent_ms(slot.fd)?).filter(|left_ms| *left_ms > 0)
}

pub(crate) fn shutdown(fd: RawFd, how: i32) {
    if fd >= 0 {
        #[expect(unsafe_code, reason = "std's shutdown wants to own the socket")]
        // SAFETY: no pointer is passed; the slot owns the descriptor until its close is queued, and then holds -1.
        unsafe {
            libc::shutdown(fd, how);
        }
    }
}

fn accept_now(listener: RawFd) -> Option<RawFd> {
    #[expect(unsafe_code, reason = "one non-blocking accept")]
    // SAFETY: null addresses are allowed; the listener is non-blocking and owned by the ring.
    let fd = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
    (fd >= 0).then_some(fd)
}

/// Resolves after a while; see [`Ring::sleep`].
pub struct Sleep {
    ring: Rc<Ring>,
    at_ms: u64,
    sleeper: Option<u32>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let ring = self.ring.clone();
        if ring.now_ms() >= self.at_ms {
            return Poll::Ready(());
        }
        let mut inner = ring.inner.borrow_mut();
        let sleeper = self.sleeper.unwrap_or_else(|| {
            inner.free_sleepers.pop().unwrap_or_else(|| {
                inner.sleepers.push(None);
                inner.sleepers.len() as u32 - 1
            })
        });
        self.sleeper = Some(sleeper);
        // An entry that comes out early (a far deadline) wakes the task, which asks again here.
        if inner.sleepers[sleeper as usize].is_none() {
            inner.wheel.add(Entry::Sleeper(sleeper), self.at_ms);
        }
        inner.sleepers[sleeper as usize] = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(sleeper) = self.sleeper {
            let mut inner = self.ring.inner.borrow_mut();
            // A dropped sleeper may still have an entry in the wheel: it finds no waker, or wakes its successor once too often.
            inner.sleepers[sleeper as usize] = None;
            inner.free_sleepers.push(sleeper);
        }
    }
}

pin_project_lite::pin_project! {
    /// A task whose polls are counted, so that the driver knows when nobody ran.
    struct Counted<F> {
        ring: Rc<Ring>,
        vital: bool,
        #[pin]
        future: F,
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    #[inline]
    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.ring.polls.set(this.ring.polls.get() + 1);
        let future = this.future;
        // One bad request must not end a shard: the task is dropped, its sockets close, everything else goes on.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.poll(context))) {
            Ok(poll) => poll,
            Err(_) => {
                this.ring.inner.borrow_mut().stats.panics += 1;
                if *this.vital {
                    this.ring.failed.set(true);
                    this.ring.stop();
                } else {
                    tracing::error!("a task panicked and was ended; its connection is closed");
                }
                Poll::Ready(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
