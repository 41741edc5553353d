//! Buffers that receives choose from when bytes have arrived, so that idle connections hold none.

use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::floor::BUFFER_BYTES;

/// A power of two, as the kernel asks.
const BUFFERS: u16 = 256;

/// One place of the ring of free buffers (`struct io_uring_buf`). In the first one, the last field is the tail of the ring.
#[derive(Default)]
#[repr(C)]
struct Place {
    address: AtomicU64,
    length: AtomicU32,
    id: AtomicU16,
    tail: AtomicU16,
}

/// Begins on a page, which on some systems is as long as this.
#[repr(C, align(65_536))]
struct Ring([Place; BUFFERS as usize]);

/// The buffers and the ring in which the kernel finds the free ones.
pub(super) struct Buffers {
    ring: Box<Ring>,
    memory: Vec<u8>,
    /// Where the memory begins, as a pointer through which it may be written: the kernel does.
    start: *mut u8,
    tail: u16,
    free: usize,
}

impl Buffers {
    pub(super) fn new() -> Self {
        let ring = Box::new(Ring(std::array::from_fn(|_| Place::default())));
        let mut memory = vec![0; usize::from(BUFFERS) * BUFFER_BYTES];
        let start = memory.as_mut_ptr();
        let mut buffers = Self { ring, memory, start, tail: 0, free: 0 };
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        buffers
    }

    pub(super) fn ring_address(&self) -> u64 {
        std::ptr::from_ref(&*self.ring) as u64
    }

    pub(super) fn count(&self) -> u16 {
        BUFFERS
    }

    /// Buffers that the kernel may choose, as far as is known.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Whether what may stay for long should rather not stay here.
    pub(super) fn is_low(&self) -> bool {
        self.free < usize::from(BUFFERS) / 4
    }

    /// What a buffer holds from a place on, elsewhere.
    pub(super) fn copy(&self, id: u16, from: usize, length: usize) -> Vec<u8> {
        let start = usize::from(id) * BUFFER_BYTES + from;
        self.memory[start..start + length].to_vec()
    }

    /// The kernel has said that it chose one.
    pub(super) fn take(&mut self) {
        self.free -= 1;
    }

    pub(super) fn give_back(&mut self, id: u16) {
        let place = &self.ring.0[usize::from(self.tail & (BUFFERS - 1))];
        place.address.store(self.address(id) as u64, Ordering::Relaxed);
        place.length.store(BUFFER_BYTES as u32, Ordering::Relaxed);
        place.id.store(id, Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
        // Last, for the kernel reads no place that the tail has not passed.
        self.ring.0[0].tail.store(self.tail, Ordering::Release);
        self.free += 1;
    }

    /// Where a buffer begins.
    pub(super) fn address(&self, id: u16) -> *const u8 {
        self.start.wrapping_add(usize::from(id) * BUFFER_BYTES)
    }
}
