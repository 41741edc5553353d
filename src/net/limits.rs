//! Resource limits, socket options and addresses: the small calls around the ring.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::net::slot::read_address;

/// What glommio asks of RLIMIT_MEMLOCK, in bytes.
pub const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// Silence after which a connection is probed, and how often, in seconds.
const KEEPALIVE_IDLE_S: i32 = 60;
const KEEPALIVE_INTERVAL_S: i32 = 15;
const KEEPALIVE_PROBES: i32 = 4;
/// How long sent bytes may stay without an acknowledgement, in milliseconds.
const USER_TIMEOUT_MS: i32 = 60_000;
/// The shortest stretch that a thread can ask to be scheduled for.
const SLICE_NS: u64 = 100_000;

/// Raises the soft limit of open files to the hard one; returns what holds now.
///
/// # Errors
/// The kernel's.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = rlimit(libc::RLIMIT_NOFILE)?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        #[expect(unsafe_code, reason = "std has no setrlimit")]
        // SAFETY: the struct outlives the call.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// The soft limit of locked memory in bytes, raised to the hard one where it is below what the rings need.
///
/// # Errors
/// The kernel's.
pub fn locked_memory() -> io::Result<u64> {
    let mut limit = rlimit(libc::RLIMIT_MEMLOCK)?;
    if limit.rlim_cur < MEMLOCK_BYTES_MIN && limit.rlim_max > limit.rlim_cur {
        limit.rlim_cur = limit.rlim_max;
        #[expect(unsafe_code, reason = "std has no setrlimit")]
        // SAFETY: the struct outlives the call.
        unsafe {
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit);
        }
    }
    Ok(rlimit(libc::RLIMIT_MEMLOCK)?.rlim_cur)
}

fn rlimit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "std has no getrlimit")]
    // SAFETY: the struct outlives the call.
    let result = unsafe { libc::getrlimit(resource, &mut limit) };
    if result == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}

/// The CPUs this process may run on.
pub fn allowed_cpus() -> Vec<usize> {
    #[expect(unsafe_code, reason = "std only counts them")]
    // SAFETY: the set is a plain bit field for which zeroes is a value; its size is passed along.
    let set = unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    };
    #[expect(unsafe_code, reason = "reading bits of the set")]
    // SAFETY: the index stays below CPU_SETSIZE.
    let allowed = (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) });
    allowed.collect()
}

/// Lets the calling thread run on these CPUs only; an empty or refused list changes nothing.
pub fn pin_current_thread(cpus: &[usize]) {
    if cpus.is_empty() {
        return;
    }
    #[expect(unsafe_code, reason = "std cannot pin")]
    // SAFETY: the set is a plain bit field; its size is passed along; CPU_SET ignores numbers out of range.
    unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Lets the calling thread run for shorter stretches, and so sooner after it wakes up, than threads without such a wish.
///
/// Linux 6.12 and later: whoever wakes up with a shorter slice than the one that runs takes its place. Elsewhere, and where it is
/// refused, nothing changes.
pub(crate) fn shorten_slice() {
    #[expect(unsafe_code, reason = "libc has the structure, but not the call")]
    // SAFETY: the struct outlives the call and tells its size.
    unsafe {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: 0,
            sched_flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
            // What the service manager gave is kept.
            sched_nice: libc::getpriority(libc::PRIO_PROCESS, 0),
            sched_priority: 0,
            sched_runtime: SLICE_NS,
            sched_deadline: 0,
            sched_period: 0,
        };
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32);
    }
}

/// What this host had none left of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Local ports towards one address.
    Ports,
    /// Descriptors, or memory for a socket.
    Sockets,
}

/// What this host lacked for a connection that failed; `None` where the failure is the other side's.
pub fn shortage(error: &io::Error) -> Option<Shortage> {
    match error.raw_os_error()? {
        libc::EADDRNOTAVAIL => Some(Shortage::Ports),
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => Some(Shortage::Sockets),
        _ => None,
    }
}

/// A new TCP socket for an address of this family.
pub(crate) fn new_socket(address: &SocketAddr) -> io::Result<RawFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    #[expect(unsafe_code, reason = "the ring owns descriptors as numbers")]
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Sets one integer option.
///
/// # Errors
/// The kernel's.
pub(crate) fn set_option(fd: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "std has none of these options")]
    // SAFETY: the value outlives the call and its size is passed along.
    let result = unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(&value).cast(), size_of::<i32>() as u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What every connection gets, on both sides: level, option and value.
const CONNECTION_OPTIONS: [(i32, i32, i32); 6] = [
    (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEPALIVE_PROBES),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
];

/// Prepares a socket that will connect, or a listening one: the kernel hands all of it on to the connections that it accepts. A
/// refused option leaves them as good as the kernel's default.
pub(crate) fn tune(fd: RawFd) {
    for (level, option, value) in CONNECTION_OPTIONS {
        let _refused = set_option(fd, level, option, value);
    }
}

pub(crate) fn set_non_blocking(fd: RawFd) {
    #[expect(unsafe_code, reason = "the ring owns descriptors as numbers")]
    // SAFETY: no pointer is passed.
    unsafe {
        libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
    }
}

pub(crate) fn reset_on_close(fd: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    #[expect(unsafe_code, reason = "std has no linger")]
    // SAFETY: the struct outlives the call and its size is passed along.
    unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, std::ptr::from_ref(&linger).cast(), size_of::<libc::linger>() as u32);
    }
}

/// Milliseconds since TCP last sent bytes that are not a probe; `None` where the kernel does not say.
pub(crate) fn since_last_sent_ms(fd: RawFd) -> Option<u64> {
    #[expect(unsafe_code, reason = "std does not ask TCP")]
    // SAFETY: a C struct of integers, for which all zeroes is a value; it is as large as its length says and outlives the call.
    let (result, info) = unsafe {
        let mut info = std::mem::zeroed::<libc::tcp_info>();
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        let place = std::ptr::from_mut(&mut info).cast();
        (libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, place, &mut length), info)
    };
    (result == 0).then_some(u64::from(info.tcpi_last_data_sent))
}

/// Who is at the other end of a connected socket; `None` where it is gone already.
pub fn peer_address(fd: RawFd) -> Option<SocketAddr> {
    named(fd, Name::Peer)
}

/// The address a socket is bound to.
pub fn local_address(fd: RawFd) -> Option<SocketAddr> {
    named(fd, Name::Local)
}

enum Name {
    Peer,
    Local,
}

fn named(fd: RawFd, name: Name) -> Option<SocketAddr> {
    #[expect(unsafe_code, reason = "the ring owns descriptors as numbers")]
    // SAFETY: the storage is as large as its length says and outlives the call.
    let (result, storage) = unsafe {
        let mut storage = std::mem::zeroed::<libc::sockaddr_storage>();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let place = std::ptr::from_mut(&mut storage).cast::<libc::sockaddr>();
        let result = match name {
            Name::Peer => libc::getpeername(fd, place, &mut length),
            Name::Local => libc::getsockname(fd, place, &mut length),
        };
        (result, storage)
    };
    if result == 0 { read_address(&storage) } else { None }
}

/// Closes a descriptor that no ring has ever seen.
pub fn close_unseen(fd: RawFd) {
    #[expect(unsafe_code, reason = "giving back a raw descriptor")]
    // SAFETY: the caller owns the descriptor and no ring entry names it.
    unsafe {
        libc::close(fd);
    }
}

/// Whether this process may make an io_uring at all.
///
/// # Errors
/// The kernel's: `EPERM` (seccomp or `kernel.io_uring_disabled`), `ENOSYS`, `ENOMEM`.
pub fn probe_io_uring() -> io::Result<()> {
    io_uring::IoUring::new(4).map(drop)
}

/// Blocks the calling thread; for the few places that wait without a ring.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::AsRawFd;
    use std::os::fd::FromRawFd;

    use super::*;
    use crate::net::listen;

    /// A thread that asks for short stretches has them, where the kernel knows of stretches at all, and keeps its niceness.
    #[test]
    fn a_slice_is_shortened_and_nothing_else() {
        let read = || {
            let mut attributes = std::mem::MaybeUninit::<libc::sched_attr>::zeroed();
            let size = size_of::<libc::sched_attr>() as u32;
            #[expect(unsafe_code, reason = "libc has the structure, but not the call")]
            // SAFETY: the kernel writes no more than the size; zeroes are a value.
            let attributes = unsafe {
                libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0_u32);
                attributes.assume_init()
            };
            (attributes.sched_policy, attributes.sched_nice, attributes.sched_runtime)
        };
        let (policy, nice, slice_ns) = read();
        shorten_slice();
        let wanted_ns = if slice_ns == 0 { 0 } else { SLICE_NS };
        assert_eq!(read(), (policy, nice, wanted_ns));
    }

    fn option_of(fd: RawFd, level: i32, option: i32) -> i32 {
        let mut value = -1;
        let mut length = size_of::<i32>() as libc::socklen_t;
        #[expect(unsafe_code, reason = "std has none of these options")]
        // SAFETY: the value is as large as its length says and outlives the call.
        let result = unsafe { libc::getsockopt(fd, level, option, std::ptr::from_mut(&mut value).cast(), &mut length) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        value
    }

    /// A connection has every option the moment it is accepted: none is set for each of them.
    #[test]
    fn connections_inherit_from_their_listener() {
        let fd = listen::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        #[expect(unsafe_code, reason = "the listener is a raw descriptor")]
        // SAFETY: nobody else owns the descriptor.
        let listener = unsafe { TcpListener::from_raw_fd(fd) };
        let _peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (accepted, _) = listener.accept().expect("it has connected");
        let plain = TcpListener::bind("127.0.0.1:0").expect("a free port");
        for (level, option, value) in CONNECTION_OPTIONS {
            assert_eq!(option_of(accepted.as_raw_fd(), level, option), value, "level {level}, option {option}");
            assert_ne!(option_of(plain.as_raw_fd(), level, option), value, "level {level}, option {option} is nothing to set");
        }
    }
}
