//! Receive buffers that the kernel picks from: one pool per shard, lent out as [`Chunk`]s and given back on drop.

use std::cell::Cell;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use io_uring::types::BufRingEntry;

use crate::net::stock::Stock;

/// The provided-buffer ring of one shard and the memory behind it, touched lazily.
pub struct BufferPool {
    memory: Mapping,
    entries: Mapping,
    tail: Cell<u16>,
    count: u16,
    size: usize,
    stock: RefCell<Stock>,
}

impl BufferPool {
    /// `count` (a power of two) buffers of `size` bytes.
    ///
    /// # Errors
    /// The kernel's, where it has no memory to map.
    pub(crate) fn new(count: u16, size: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "a buffer ring has a power of two of entries");
        let memory = Mapping::new(usize::from(count) * size)?;
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        Ok(Self { memory, entries, tail: Cell::new(0), count, size, stock: RefCell::new(Stock::new(count)) })
    }

    /// Address of the ring of entries, for registration.
    pub(crate) fn entries_address(&self) -> u64 {
        self.entries.start.as_ptr() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Bytes in one buffer.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Buffers that are lent to nobody.
    pub(crate) fn available(&self) -> usize {
        self.stock.borrow().available()
    }

    /// There are so many sockets now that may receive.
    pub(crate) fn expect(&self, sockets: usize) {
        self.stock.borrow_mut().expect(sockets);
    }

    /// The kernel found no buffer.
    pub(crate) fn ran_out(&self) {
        self.stock.borrow_mut().ran_out();
    }

    /// Ends a turn: the kernel may pick from as many buffers as it will need in the next one.
    pub(crate) fn offer(&self) {
        let mut stock = self.stock.borrow_mut();
        stock.end_turn();
        while let Some(id) = stock.offer() {
            self.hand_over(id);
        }
    }

    /// From time to time: what was needed until now counts no more.
    pub(crate) fn look(&self, sockets: usize) {
        self.stock.borrow_mut().look(sockets);
    }

    /// Gives memory back that was touched and has not been needed since the last look: that of one buffer, so that nobody waits.
    pub(crate) fn clean_one(&self) {
        if let Some(id) = self.stock.borrow_mut().clean() {
            self.memory.forget(usize::from(id) * self.size, self.size);
        }
    }

    /// Takes the buffer that the kernel filled with `length` bytes.
    pub(crate) fn take(self: &Rc<Self>, id: u16, length: usize) -> Chunk {
        debug_assert!(id < self.count && length <= self.size, "the kernel names buffers it was given");
        self.stock.borrow_mut().take();
        Chunk(Kind::Pooled { pool: self.clone(), id, length: length as u32 })
    }

    fn give_back(&self, id: u16) {
        self.stock.borrow_mut().give_back(id);
    }

    fn hand_over(&self, id: u16) {
        let tail = self.tail.get();
        let slot = usize::from(tail & (self.count - 1));
        #[expect(unsafe_code, reason = "the ring of entries is shared with the kernel")]
        // SAFETY: `slot` < count entries, the mapping holds that many, and only this thread writes entries. The kernel reads an
        // entry only after the tail has passed it, which the release store below publishes last.
        unsafe {
            let entry = &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(slot);
            entry.set_addr(self.memory.start.as_ptr().add(usize::from(id) * self.size) as u64);
            entry.set_len(self.size as u32);
            entry.set_bid(id);
            let shared_tail = BufRingEntry::tail(self.entries.start.as_ptr().cast::<BufRingEntry>()).cast::<AtomicU16>();
            (*shared_tail).store(tail.wrapping_add(1), Ordering::Release);
        }
        self.tail.set(tail.wrapping_add(1));
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferPool {{ {} of {} available }}", self.available(), self.count)
    }
}

/// Bytes that were received: a lent buffer, or a copy where the pool ran low.
#[derive(Debug)]
pub struct Chunk(Kind);

#[derive(Debug)]
enum Kind {
    Pooled { pool: Rc<BufferPool>, id: u16, length: u32 },
    Heap(Vec<u8>),
}

impl Chunk {
    /// Bytes that never were in a pool.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(Kind::Heap(bytes))
    }

    /// The same bytes outside the pool, so that the buffer can receive again.
    #[must_use]
    pub(crate) fn into_heap(self) -> Self {
        match &self.0 {
            Kind::Pooled { .. } => Self(Kind::Heap(self.to_vec())),
            Kind::Heap(_) => self,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kind::Pooled { pool, id, length } => {
                #[expect(unsafe_code, reason = "the buffer lies in a mapping shared with the kernel")]
                // SAFETY: the kernel filled `length` <= size bytes of buffer `id` and does not touch it again before it is given
                // back, which only the drop of this value does.
                unsafe {
                    std::slice::from_raw_parts(pool.memory.start.as_ptr().add(usize::from(*id) * pool.size), *length as usize)
                }
            }
            Kind::Heap(bytes) => bytes,
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Kind::Pooled { pool, id, .. } = &self.0 {
            pool.give_back(*id);
        }
    }
}

/// Anonymous private memory.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

impl Mapping {
    fn new(length: usize) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "page-aligned memory that is touched lazily")]
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS | libc::MAP_PRIVATE, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: NonNull::new(start.cast()).expect("mmap does not return null"), length })
    }

    /// Lets go of the pages from `offset` on: they are zeroes when they are touched again.
    fn forget(&self, offset: usize, length: usize) {
        assert!(offset + length <= self.length, "within the mapping");
        #[expect(unsafe_code, reason = "std knows no pages")]
        // SAFETY: the range lies within the mapping, and nobody has a reference into it: its buffer is on the shelf, lent to nobody.
        unsafe {
            libc::madvise(self.start.as_ptr().add(offset).cast(), length, libc::MADV_DONTNEED);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "unmapping what was mapped")]
        // SAFETY: start and length are those of the mapping. The pool lives in an Rc that the ring and every chunk hold, and the
        // ring is closed before it lets go of the pool.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.length);
        }
    }
}
