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
