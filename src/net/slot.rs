//! The slot of a socket: everything of it that the kernel may touch, and what it has said so far.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::task::Context;
use std::task::Waker;

use crate::net::buffers::Chunk;
use crate::net::share::Share;

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// Bytes on their way out.
#[derive(Debug)]
pub enum Out {
    /// Recycled into the shard's spare buffers when sent.
    Vec(Vec<u8>),
    /// A range of a received chunk, sent without a copy.
    Chunk(Chunk, std::ops::Range<usize>),
    Static(&'static [u8]),
}

impl Out {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Vec(bytes) => bytes,
            Self::Chunk(chunk, range) => &chunk[range.clone()],
            Self::Static(bytes) => bytes,
        }
    }
}

/// State of one socket. Boxed, so that the addresses given to the kernel stay where they are.
pub(crate) struct Slot {
    pub(crate) generation: u32,
    /// -1 once the close is queued.
    pub(crate) fd: RawFd,
    /// Whether a `Socket` still refers to it.
    pub(crate) live: bool,
    /// Operations the kernel has not completed.
    pub(crate) in_flight: u32,

    pub(crate) received: VecDeque<Chunk>,
    /// What of the current turn it has handed out.
    pub(crate) share: Share,
    pub(crate) eof: bool,
    pub(crate) read_error: i32,
    /// A receive is armed.
    pub(crate) armed: bool,
    /// Receives one buffer at a time, on demand: a large body whose other side is slower.
    pub(crate) bulk: bool,
    /// Waits for buffers to come back to the pool.
    pub(crate) starved: bool,
    pub(crate) cancelling: bool,
    pub(crate) reader: Option<Waker>,

    pub(crate) queue: VecDeque<Out>,
    /// Bytes of the first entry of `queue` that are sent already.
    pub(crate) offset: usize,
    /// Is listed for the next enter.
    pub(crate) dirty: bool,
    /// A send is with the kernel: `queue` must not change at its front.
    pub(crate) blocked: bool,
    /// Completion of the send of this enter; `i32::MAX` as long as none came, which means success.
    pub(crate) send_result: i32,
    pub(crate) write_error: i32,
    pub(crate) writer: Option<Waker>,
    pub(crate) iovecs: Vec<libc::iovec>,
    pub(crate) message: libc::msghdr,

    pub(crate) deadline_ms: u64,
    /// How long before the deadline it was set.
    pub(crate) patience_ms: u64,
    /// When the wheel asks next about this slot; `NEVER` where it does not.
    pub(crate) asked_at_ms: u64,
    pub(crate) timed_out: bool,
    /// When the owner began to wait with nothing to do; `NEVER` while it is busy.
    pub(crate) idle_since_ms: u64,

    pub(crate) address: libc::sockaddr_storage,
    pub(crate) address_length: libc::socklen_t,
    pub(crate) connecting: bool,
    pub(crate) connected: Option<i32>,
}

impl Slot {
    pub(crate) fn new(generation: u32, fd: RawFd) -> Self {
        #[expect(unsafe_code, reason = "C structs for the kernel start as zeroes")]
        // SAFETY: both are plain C structs of integers and raw pointers, for which all zeroes is a value.
        let (message, address) = unsafe { (std::mem::zeroed::<libc::msghdr>(), std::mem::zeroed::<libc::sockaddr_storage>()) };
        Self {
            generation,
            fd,
            live: true,
            in_flight: 0,
            received: VecDeque::new(),
            share: Share::default(),
            eof: false,
            read_error: 0,
            armed: false,
            bulk: false,
            starved: false,
            cancelling: false,
            reader: None,
            queue: VecDeque::new(),
            offset: 0,
            dirty: false,
            blocked: false,
            send_result: i32::MAX,
            write_error: 0,
            writer: None,
            iovecs: Vec::new(),
            message,
            deadline_ms: NEVER,
            patience_ms: NEVER,
            asked_at_ms: NEVER,
            timed_out: false,
            idle_since_ms: NEVER,
            address,
            address_length: 0,
            connecting: false,
            connected: None,
        }
    }

    pub(crate) fn wake_reader(&self) {
        if let Some(waker) = &self.reader {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn wake_writer(&self) {
        if let Some(waker) = &self.writer {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn set_address(&mut self, address: SocketAddr) {
        self.address_length = write_address(&mut self.address, address);
    }
}

/// Remembers who is to be woken, without a clone where it is the same task as before.
#[inline]
pub(crate) fn register(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => *place = Some(context.waker().clone()),
    }
}

/// Writes `address` in the kernel's form; returns its length.
pub(crate) fn write_address(place: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            let form = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            store(place, form)
        }
        SocketAddr::V6(v6) => {
            let form = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            store(place, form)
        }
    }
}

fn store<T: Copy>(place: &mut libc::sockaddr_storage, form: T) -> libc::socklen_t {
    const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>() && align_of::<T>() <= align_of::<libc::sockaddr_storage>()) }
    #[expect(unsafe_code, reason = "one C struct of a family of them is stored in their common room")]
    // SAFETY: the constant assertion above: it fits and is aligned.
    unsafe {
        std::ptr::from_mut(place).cast::<T>().write(form);
    }
    size_of::<T>() as libc::socklen_t
}

/// Reads an address in the kernel's form; `None` for families other than IPv4 and IPv6. IPv4 in IPv6 becomes IPv4.
pub(crate) fn read_address(place: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(place.ss_family) {
        libc::AF_INET => {
            #[expect(unsafe_code, reason = "the family says which C struct it is")]
            // SAFETY: the family is AF_INET, so the room holds a sockaddr_in.
            let form = unsafe { &*std::ptr::from_ref(place).cast::<libc::sockaddr_in>() };
            Some(SocketAddr::from((form.sin_addr.s_addr.to_ne_bytes(), u16::from_be(form.sin_port))))
        }
        libc::AF_INET6 => {
            #[expect(unsafe_code, reason = "the family says which C struct it is")]
            // SAFETY: the family is AF_INET6, so the room holds a sockaddr_in6.
            let form = unsafe { &*std::ptr::from_ref(place).cast::<libc::sockaddr_in6>() };
            let address = std::net::Ipv6Addr::from(form.sin6_addr.s6_addr);
            Some(SocketAddr::new(address.to_canonical(), u16::from_be(form.sin6_port)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address survives the way into the kernel's form and back; IPv4 in IPv6 comes back as IPv4.
    #[test]
    fn addresses_survive_the_kernel_form() {
        for (given, back) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[::ffff:10.1.2.3]:9", "10.1.2.3:9"),
            ("0.0.0.0:0", "0.0.0.0:0"),
        ] {
            let mut slot = Slot::new(0, -1);
            slot.set_address(given.parse().expect("an address"));
            assert_eq!(read_address(&slot.address), Some(back.parse().expect("an address")), "{given}");
        }
    }
}
