//! Listening sockets: one per shard and address, in one SO_REUSEPORT group.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use crate::net::limits;
use crate::net::slot::write_address;

/// Connections the kernel completes ahead of accept.
pub const BACKLOG: i32 = 4096;

/// Binds and listens. Every shard calls it with the same address; `[::]` takes IPv4 as well.
///
/// # Errors
/// The kernel's: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`.
pub fn listen(address: SocketAddr) -> io::Result<RawFd> {
    let fd = limits::new_socket(&address)?;
    match prepare(fd, address) {
        Ok(()) => Ok(fd),
        Err(error) => {
            limits::close_unseen(fd);
            Err(error)
        }
    }
}

fn prepare(fd: RawFd, address: SocketAddr) -> io::Result<()> {
    limits::set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    limits::set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    if address.is_ipv6() {
        limits::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, i32::from(!address.ip().is_unspecified()))?;
    }
    limits::tune(fd);
    let mut slot = crate::net::slot::Slot::new(0, fd);
    let length = write_address(&mut slot.address, address);
    #[expect(unsafe_code, reason = "the ring owns descriptors as numbers")]
    // SAFETY: the address outlives the call and its length is passed along; listen takes no pointer.
    let result = unsafe {
        let place = std::ptr::from_ref(&slot.address).cast::<libc::sockaddr>();
        if libc::bind(fd, place, length) != 0 { -1 } else { libc::listen(fd, BACKLOG) }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From now on the kernel drops whoever knocks at a listening socket, without a word, and finishes the handshakes that have begun.
///
/// A listener that is closed at once resets connections which their clients take for established. Behind this filter none begins
/// any more: after a round trip everybody who got in can be accepted, and the close finds an empty queue.
///
/// # Errors
/// The kernel's, where it has no memory for the filter.
pub(crate) fn turn_away(fd: RawFd) -> io::Result<()> {
    /// Of the flags of a TCP header, at its byte 13.
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 13, 0, 0),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SYN | ACK, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, SYN, 0, 1),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, u32::MAX, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    #[expect(unsafe_code, reason = "std has no socket filters")]
    // SAFETY: the program and its steps outlive the call, which copies them; the size is passed along.
    let result = unsafe {
        let place = std::ptr::from_ref(&program).cast();
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, place, size_of::<libc::sock_fprog>() as u32)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether somebody outside this process listens on `address` already: a SO_REUSEPORT group would quietly share with it.
///
/// # Errors
/// The kernel's, `EADDRINUSE` above all.
pub fn probe_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let fd = limits::new_socket(&address)?;
    let mut slot = crate::net::slot::Slot::new(0, fd);
    let length = write_address(&mut slot.address, address);
    let result = limits::set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).and_then(|()| {
        if address.is_ipv6() {
            limits::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, i32::from(!address.ip().is_unspecified()))?;
        }
        #[expect(unsafe_code, reason = "the ring owns descriptors as numbers")]
        // SAFETY: the address outlives the call and its length is passed along.
        let bound = unsafe { libc::bind(fd, std::ptr::from_ref(&slot.address).cast(), length) };
        if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    });
    limits::close_unseen(fd);
    result
}
