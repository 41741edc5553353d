//! An allocator that counts what one thread asks of it, and remembers where that came from.

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use mimalloc::MiMalloc;

/// The allocator of the program, counting; what C libraries allocate by themselves it does not see.
pub struct Counting(pub MiMalloc);

/// The thread that is counted; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
/// Of the next allocations this many are remembered.
static TRACES_LEFT: AtomicU64 = AtomicU64::new(0);
static TRACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(0) };
    /// What remembering allocates is not counted.
    static REMEMBERING: Cell<bool> = const { Cell::new(false) };
}

/// Counts for this thread from now on, and for no other.
pub fn watch(thread: i32) {
    WATCHED.store(thread, Ordering::SeqCst);
}

/// Allocations of the watched thread so far; one that grows in place is one more.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::SeqCst)
}

/// Bytes that the watched thread has asked for and not freed, since it is watched.
pub fn live_bytes() -> i64 {
    LIVE_BYTES.load(Ordering::SeqCst)
}

/// Where the first allocations during `work` come from: the functions below each, innermost first.
pub fn origins(count: u64, work: impl FnOnce()) -> String {
    TRACES_LEFT.store(count, Ordering::SeqCst);
    work();
    TRACES_LEFT.store(0, Ordering::SeqCst);
    let traces = std::mem::take(&mut *TRACES.lock().unwrap_or_else(PoisonError::into_inner));
    let functions = |trace: &Backtrace| {
        let text = trace.to_string();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("at "));
        // The first are the allocator's own, the last the executor's.
        lines.skip(3).take(14).map(|line| format!("\n  {}", line.trim())).collect::<String>()
    };
    traces.iter().map(|trace| format!("\nallocated by{}", functions(trace))).collect()
}

impl Counting {
    fn is_counted(&self) -> bool {
        if REMEMBERING.get() {
            return false;
        }
        if THREAD.get() == 0 {
            #[expect(unsafe_code, reason = "std does not tell the number of a thread")]
            // SAFETY: no pointer is passed.
            THREAD.set(unsafe { libc::gettid() });
        }
        THREAD.get() == WATCHED.load(Ordering::Relaxed)
    }

    fn allocated(&self, bytes: usize) {
        if !self.is_counted() {
            return;
        }
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(bytes as i64, Ordering::Relaxed);
        if TRACES_LEFT.load(Ordering::Relaxed) > 0 {
            TRACES_LEFT.fetch_sub(1, Ordering::Relaxed);
            REMEMBERING.set(true);
            TRACES.lock().unwrap_or_else(PoisonError::into_inner).push(Backtrace::force_capture());
            REMEMBERING.set(false);
        }
    }

    fn freed(&self, bytes: usize) {
        if self.is_counted() {
            LIVE_BYTES.fetch_sub(bytes as i64, Ordering::Relaxed);
        }
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe to be")]
// SAFETY: everything is mimalloc's; counting touches no memory of an allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocated(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        self.freed(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.allocated(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.freed(layout.size());
        self.allocated(size);
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.realloc(place, layout, size) }
    }
}
