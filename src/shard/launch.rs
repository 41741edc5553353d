//! From configuration to running shards: everything that can fail fails here, before the first request.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::filter::ledger::Ledger;
use crate::net::Remote;
use crate::net::executor;
use crate::net::executor::Executor;
use crate::net::limits;
use crate::net::listen;
use crate::net::ring;
use crate::shard::Config;
use crate::shard::ListenerConfig;
use crate::shard::Parts;
use crate::shard::loads::Handover;
use crate::shard::loads::Loads;
use crate::shard::password;
use crate::shard::state::Neighbours;
use crate::shard::state::Shard;
use crate::shard::update;
use crate::snapshot::channel;
use crate::snapshot::channel::Postbox;

/// Sockets that may wait in one shard's mailbox.
const HANDOVERS_MAX: usize = 4096;

/// Why the shards could not start; the text names the cure.
#[derive(Debug)]
pub enum LaunchError {
    /// io_uring is not to be had.
    IoUring(io::Error),
    /// The limit of locked memory, in bytes, is below what the rings need.
    LockedMemory(u64),
    /// A listener's address is taken, foreign or privileged.
    Listen { listener: ListenerConfig, error: io::Error },
    /// A thread or its CPU is not to be had.
    Thread(executor::SpawnError),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUring(error) => write!(
                f,
                "io_uring is not available ({error}): allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile \
                 and set kernel.io_uring_disabled=0; Linux 5.19 or newer is needed"
            ),
            Self::LockedMemory(bytes) => write!(
                f,
                "RLIMIT_MEMLOCK is {bytes} bytes, {} are needed: set LimitMEMLOCK=infinity in the systemd unit, or ulimit -l 8192",
                limits::MEMLOCK_BYTES_MIN
            ),
            Self::Listen { listener, error } => {
                let cure = match error.raw_os_error() {
                    Some(code) if code == EADDRINUSE => "another process listens there: stop it or choose another port",
                    Some(code) if code == EACCES => "ports below 1024 need CAP_NET_BIND_SERVICE: grant it or choose another port",
                    Some(code) if code == EADDRNOTAVAIL => "this host has no such address: choose one of its own",
                    _ => "choose another address or port",
                };
                write!(f, "cannot listen on {} ({error}): {cure}", listener.name)
            }
            Self::Thread(error) => {
                write!(f, "cannot start a {error}: name CPUs of this host in --shards and check the limits of threads and memory")
            }
        }
    }
}

const EACCES: i32 = 13;
const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;

impl std::error::Error for LaunchError {}

/// Running shards.
pub struct Shards {
    addresses: Vec<(String, SocketAddr)>,
    executors: Vec<Executor>,
    remotes: Vec<Remote>,
    draining: Arc<AtomicBool>,
}

impl Shards {
    /// Every listener with the address it really has.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Begins the end: listeners close, answers say `Connection: close`, shards end when their connections have.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for remote in &self.remotes {
            remote.wake();
        }
    }

    /// How many there are, the ones that have ended included.
    pub fn count(&self) -> usize {
        self.executors.len()
    }

    /// Blocks until every shard has ended.
    pub fn wait(self) {
        self.executors.into_iter().for_each(Executor::join);
    }
}

/// A shard has ended that nobody has told to.
#[derive(Clone, Debug)]
pub struct Failed {
    pub shard: usize,
    pub reason: String,
}

/// Binds every listener and starts one shard for each of `parts`, pinned to the CPU of the same position.
///
/// `failed` is called, on the thread of the shard, when one ends without [`Shards::drain`]: its connections are closed, those to
/// come are the other shards'.
///
/// # Errors
/// [`LaunchError`]; nothing is left behind.
pub fn launch(config: Config, parts: Vec<Parts>, failed: impl Fn(Failed) + Clone + Send + 'static) -> Result<Shards, LaunchError> {
    limits::probe_io_uring().map_err(LaunchError::IoUring)?;
    let locked = limits::locked_memory().unwrap_or(u64::MAX);
    if locked < limits::MEMLOCK_BYTES_MIN {
        return Err(LaunchError::LockedMemory(locked));
    }
    let (addresses, mut sockets) = bind_all(&config.listeners, parts.len())?;
    let draining = Arc::new(AtomicBool::new(false));
    let loads = Arc::new(Loads::new(parts.len()));
    let ledger = Arc::new(Ledger::default());
    let epoch = ring::clock();
    let remotes: Vec<Remote> = parts.iter().map(|part| part.remote.clone()).collect();
    let (postboxes, mailboxes): (Vec<Postbox<Handover>>, Vec<_>) = remotes
        .iter()
        .map(|remote| {
            let remote = remote.clone();
            channel::mailbox(HANDOVERS_MAX, Arc::new(move || remote.wake()))
        })
        .unzip();
    let addresses_of_listeners = addresses.iter().map(|(_, address)| *address).collect::<Vec<_>>();
    let passwords = password::Checker::start();
    let mut executors = Vec::new();
    for (index, (part, mailbox)) in parts.into_iter().zip(mailboxes).enumerate() {
        let neighbours = Neighbours {
            index,
            loads: loads.clone(),
            postboxes: postboxes.clone(),
            mailbox,
            draining: draining.clone(),
            ledger: ledger.clone(),
            epoch,
            passwords: passwords.clone(),
            addresses: addresses_of_listeners.clone(),
        };
        let remote = part.remote.clone();
        let listeners: Vec<RawFd> = sockets.iter_mut().map(|of_listener| of_listener[index]).collect();
        let config = config.clone();
        let cpu = config.cpus[index % config.cpus.len()];
        let (metrics, loads, failed) = (part.metrics.clone(), loads.clone(), failed.clone());
        metrics.up(true);
        let first = move |ring| {
            let shard = Rc::new(Shard::new(ring, config, part, neighbours));
            let of_failure = shard.clone();
            // Tasks that are never polled again keep the shard alive, and the log waits for the end of each.
            (update::run(shard, listeners), move || of_failure.end_access_log())
        };
        let ended = move |result| {
            metrics.up(false);
            loads.retire(index);
            if let Err(reason) = result {
                tracing::error!(shard = index, reason, "a shard has failed");
                failed(Failed { shard: index, reason });
            }
        };
        let executor = executor::spawn(cpu, &format!("shard-{index}"), remote, first, ended);
        executors.push(executor.map_err(LaunchError::Thread)?);
    }
    Ok(Shards { addresses, executors, remotes, draining })
}

/// Every address with the sockets of its SO_REUSEPORT group, one per shard.
type Bound = (Vec<(String, SocketAddr)>, Vec<Vec<RawFd>>);

fn bind_all(listeners: &[ListenerConfig], shards: usize) -> Result<Bound, LaunchError> {
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<RawFd>> = Vec::new();
    for listener in listeners {
        let mut group = Vec::new();
        match bind_group(listener.address, shards, &mut group) {
            Ok(address) => {
                addresses.push((listener.name.clone(), address));
                sockets.push(group);
            }
            Err(error) => {
                sockets.push(group);
                sockets.into_iter().flatten().for_each(limits::close_unseen);
                return Err(LaunchError::Listen { listener: listener.clone(), error });
            }
        }
    }
    Ok((addresses, sockets))
}

fn bind_group(mut address: SocketAddr, shards: usize, group: &mut Vec<RawFd>) -> io::Result<SocketAddr> {
    listen::probe_free(address)?;
    for _ in 0..shards {
        let fd = listen::listen(address)?;
        group.push(fd);
        if address.port() == 0 {
            address.set_port(limits::local_address(fd).map_or(0, |bound| bound.port()));
        }
    }
    Ok(address)
}
