//! The house while it stands: built from the ground up, lived in until a signal, drained in the order that loses no request.

use std::io::Write;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use tokio::sync::oneshot;

use crate::admin;
use crate::admin::Windows;
use crate::boot::config::Config;
use crate::boot::failure::Failure;
use crate::boot::placement;
use crate::boot::placement::Cores;
use crate::boot::thread;
use crate::control;
use crate::control::Bell;
use crate::control::StartError;
use crate::control::Wiring;
use crate::net::Remote;
use crate::net::limits;
use crate::net::tls;
use crate::shard;
use crate::shard::Failed;
use crate::shard::Parts;
use crate::shard::Shards;
use crate::snapshot::channel;
use crate::snapshot::channel::Publisher;
use crate::snapshot::overview::Overview;
use crate::telemetry::access_log;
use crate::telemetry::board::Board;
use crate::telemetry::metrics::Registry;

/// A signal that comes this soon after another is the same one: timeout(1) and terminals send theirs to a process and to its group.
const SIGNAL_REPEAT: Duration = Duration::from_millis(500);

/// How long the other shards drain when one has failed: nobody accepts meanwhile, and where this host is the only one every second of it
/// is an outage.
const FAILED_DRAIN_MAX: Duration = Duration::from_secs(10);

/// Descriptors without which a start makes no sense: rings, listeners, logs, and some connections.
const OPEN_FILES_MIN: u64 = 256;

/// What the main thread waits for.
enum Event {
    /// Every shard serves the first full set of objects.
    Ready,
    /// SIGTERM or SIGINT.
    Stop,
    ControlEnded(Result<(), StartError>),
    /// A shard has ended by itself.
    ShardFailed(Failed),
    /// Every shard has ended.
    Drained,
}

/// Everything that runs.
struct House {
    shards: Shards,
    draining: Arc<AtomicBool>,
    pre_stop_delay: Duration,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Dropped to stop control and admin, in this order.
    stop_control: oneshot::Sender<()>,
    stop_admin: oneshot::Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

/// What is called when the house serves, after the ready line.
pub(crate) type Announce = Box<dyn FnOnce(&Bound) + Send>;

/// The addresses the house has really got.
pub(crate) struct Bound {
    /// Whether it is for TLS, and where.
    pub(crate) listeners: Vec<(bool, SocketAddr)>,
    pub(crate) admin: SocketAddr,
}

/// Builds the house and lives in it.
///
/// # Errors
/// What kept it from starting, or cut it short.
pub(crate) fn stand(config: Config, announce: Announce) -> Result<(), Failure> {
    tls::install_crypto();
    let open_files = limits::raise_open_files().map_err(|error| Failure::general(format!("cannot read RLIMIT_NOFILE: {error}")))?;
    if open_files < OPEN_FILES_MIN {
        return Err(Failure::permission(format!(
            "RLIMIT_NOFILE is {open_files}, {OPEN_FILES_MIN} are needed and a proxied request takes two: set LimitNOFILE=1048576 in the \
             systemd unit, or ulimit -Hn"
        )));
    }
    let cores = placement::place(&config.placement, &limits::allowed_cpus())?;
    tracing::info!(shards = ?cores.shards, housekeeping = ?cores.housekeeping, connections_max = connections_max(open_files), "starting");
    // Threads that are started from here inherit it; shards pin themselves.
    limits::pin_current_thread(&cores.housekeeping);
    build(config, cores, open_files, announce)?.live()
}

/// Builds the house in order: signals, admin, shards, then control, which lets it serve.
fn build(config: Config, cores: Cores, open_files: u64, announce: Announce) -> Result<House, Failure> {
    let (sender, events) = mpsc::channel();
    watch_signals(sender.clone())?;
    let admin = admin::bind(&config.admin).map_err(|error| Failure::of_io(&format!("admin {}", config.admin.address), &error))?;
    let admin_address = admin.address();
    let names: Vec<String> = config.listeners.iter().map(|listener| listener.name.clone()).collect();
    let registry = Arc::new(Registry::new(cores.shards.len(), &names));
    let board = Arc::new(Board::<Overview>::default());
    let bell = Bell::default();
    let (log_writer, logs) = access_log::open(&config.access_log, config.access_log_format, cores.shards.len())
        .map_err(|error| Failure::of_io(&format!("access log {}", config.access_log), &error))?;
    let mut threads = Vec::new();
    if let Some(writer) = log_writer {
        threads.push(thread::spawn("access-log", move || writer.run())?);
    }
    let (publishers, parts) = wire(&registry, &bell, logs)?;
    let shard_config = shard::Config {
        listeners: config.listeners,
        cpus: cores.shards,
        limits: Default::default(),
        drain_timeout: config.drain_timeout,
        connections_max: connections_max(open_files),
    };
    let listens: Vec<(bool, SocketAddr)> = shard_config.listeners.iter().map(|listener| (listener.tls, listener.address)).collect();
    let failed = sender.clone();
    let shards = shard::launch(shard_config, parts, move |shard| {
        // The receiver is gone only when the process ends.
        let _ending = failed.send(Event::ShardFailed(shard));
    })?;
    let draining = Arc::new(AtomicBool::new(false));
    let (stop_admin, admin_stops) = oneshot::channel();
    let windows = Windows {
        board: board.clone(),
        registry: registry.clone(),
        draining: draining.clone(),
        started: now(),
        listeners: shards.addresses().to_vec(),
    };
    threads.push(thread::spawn("admin", move || admin.run(windows, admin_stops))?);
    let (stop_control, stop) = oneshot::channel();
    let bound = Bound { listeners: bound(&listens, shards.addresses()), admin: admin_address };
    let ready = sender.clone();
    let on_ready = Box::new(move |overview: &Overview| {
        // A closed stderr keeps nobody from serving.
        let _closed = writeln!(std::io::stderr().lock(), "{}", ready_line(&bound, overview));
        announce(&bound);
        let _ending = ready.send(Event::Ready);
    });
    threads.push(start_control(config.control, Wiring { publishers, bell, registry, board, on_ready, stop }, sender.clone())?);
    Ok(House { shards, draining, pre_stop_delay: config.pre_stop_delay, events, sender, stop_control, stop_admin, threads })
}

impl House {
    /// Waits for a signal, then drains: readiness says no while new connections are still taken, then the shards finish what they
    /// have, then control, admin and the log end.
    ///
    /// # Errors
    /// Control could not start, a shard has failed, or a second signal cut the drain short.
    fn live(self) -> Result<(), Failure> {
        let mut failed: Vec<Failed> = self.until_stopped()?.into_iter().collect();
        self.draining.store(true, Ordering::SeqCst);
        tracing::info!(delay_s = self.pre_stop_delay.as_secs(), "stopping: readiness says no, connections are still accepted");
        // Without a shard there is nobody to wait for.
        while failed.len() < self.shards.count() {
            match self.events.recv_timeout(self.pre_stop_delay) {
                Ok(Event::Stop) => return Err(stopped_at_once()),
                // Shards need no control to drain. Each of these comes once: the delay begins anew a few times at most.
                Ok(Event::ControlEnded(_) | Event::Ready) => {}
                Ok(Event::ShardFailed(shard)) => failed.push(shard),
                Ok(Event::Drained) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        tracing::info!("draining: requests in flight are finished");
        self.shards.drain();
        let (shards, drained) = (self.shards, self.sender);
        thread::spawn("drain", move || {
            shards.wait();
            let _ending = drained.send(Event::Drained);
        })?;
        loop {
            let patience = if failed.is_empty() { Duration::MAX } else { FAILED_DRAIN_MAX };
            match self.events.recv_timeout(patience) {
                Ok(Event::Stop) => return Err(stopped_at_once()),
                Ok(Event::ControlEnded(_) | Event::Ready) => {}
                Ok(Event::ShardFailed(shard)) => failed.push(shard),
                Ok(Event::Drained) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return outcome(failed),
            }
        }
        drop(self.stop_control);
        drop(self.stop_admin);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread ended by a panic");
            }
        }
        tracing::info!("stopped");
        outcome(failed)
    }

    /// Returns at the first signal, or when a shard has failed: what is left of the house is drained, and its supervisor builds it
    /// anew. Control may fail before it has served anything; later, what is served stays as it is.
    fn until_stopped(&self) -> Result<Option<Failed>, Failure> {
        let mut ready = false;
        loop {
            match self.events.recv() {
                Ok(Event::Ready) => ready = true,
                Ok(Event::ControlEnded(Err(error))) if ready => {
                    tracing::error!(%error, "objects are not followed any more: what is served stays as it is until a restart");
                }
                Ok(Event::ControlEnded(Err(error))) => return Err(error.into()),
                Ok(Event::ControlEnded(Ok(()))) => {}
                Ok(Event::ShardFailed(shard)) => return Ok(Some(shard)),
                Ok(Event::Stop | Event::Drained) | Err(_) => return Ok(None),
            }
        }
    }
}

/// How it ends where these shards have failed: with the first of them.
fn outcome(failed: Vec<Failed>) -> Result<(), Failure> {
    failed.into_iter().next().map_or(Ok(()), |shard| Err(shard.into()))
}

fn stopped_at_once() -> Failure {
    Failure::general("stopped at once by a second signal: requests in flight were cut".to_owned())
}

/// SIGTERM and SIGINT become events. SIGHUP is taken and ignored: changes need no signal, and a closed terminal is no reason to
/// stop serving. SIGPIPE is ignored by the runtime already.
fn watch_signals(events: Sender<Event>) -> Result<(), Failure> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| Failure::general(format!("cannot watch signals: {error}")))?;
    thread::spawn("signals", move || {
        let mut told: Option<Instant> = None;
        for signal in signals.forever() {
            let now = now();
            if signal == SIGHUP || told.is_some_and(|told| now.duration_since(told) < SIGNAL_REPEAT) {
                continue;
            }
            told = Some(now);
            if events.send(Event::Stop).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

/// Starts the control thread, whose end is an event however it comes.
fn start_control(config: control::Config, wiring: Wiring, events: Sender<Event>) -> Result<JoinHandle<()>, Failure> {
    thread::spawn("control", move || {
        let ended = catch_unwind(AssertUnwindSafe(|| control::run(config, wiring)));
        let panicked = |_| Err(StartError { message: "the control thread has ended by a panic, told above".to_owned() });
        // The receiver is gone only when the process ends.
        let _ending = events.send(Event::ControlEnded(ended.unwrap_or_else(panicked)));
    })
}

/// The lanes between control and the shards, and what each shard is given.
fn wire(registry: &Registry, bell: &Bell, logs: Vec<access_log::AccessLog>) -> Result<(Vec<Publisher>, Vec<Parts>), Failure> {
    let mut publishers = Vec::new();
    let mut parts = Vec::new();
    for (index, access_log) in logs.into_iter().enumerate() {
        let remote = Remote::new().map_err(|error| Failure::general(format!("cannot make the bell of a shard: {error}")))?;
        let ring = remote.clone();
        let (publisher, subscriber) = channel::lane(Box::new(move || ring.wake()), bell.waker());
        publishers.push(publisher);
        parts.push(Parts { subscriber, remote, metrics: registry.shard(index).clone(), access_log });
    }
    Ok((publishers, parts))
}

/// A proxied request holds two descriptors; the rest is for listeners, logs, the cluster's API and errors.
fn connections_max(open_files: u64) -> usize {
    usize::try_from(open_files.saturating_mul(45) / 100).unwrap_or(usize::MAX).max(1)
}

/// Each listener's kind with the address it has really got.
fn bound(configured: &[(bool, SocketAddr)], addresses: &[(String, SocketAddr)]) -> Vec<(bool, SocketAddr)> {
    configured.iter().zip(addresses).map(|((tls, _), (_, address))| (*tls, *address)).collect()
}

/// What is said on stderr, once, when every listener is bound and the first full set of objects is served.
fn ready_line(bound: &Bound, overview: &Overview) -> String {
    let list = |tls: bool| {
        let of_kind = bound.listeners.iter().filter(|listener| listener.0 == tls);
        of_kind.map(|(_, address)| address.to_string()).collect::<Vec<_>>().join(",")
    };
    let (routes, upstreams) = overview.snapshot.as_ref().map_or((0, 0), |snapshot| {
        let routes = snapshot.routes.hosts().map(|(_, _, paths)| paths.len()).sum();
        (routes, snapshot.clusters.iter().flatten().count())
    });
    let (shards, http, https, admin) = (overview.served.len(), list(false), list(true), bound.admin);
    format!("ready shards={shards} http={http} https={https} admin={admin} routes={routes} upstreams={upstreams}")
}

#[expect(clippy::disallowed_methods, reason = "when the process began, for its age")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ready line is what scripts wait for: its words, their order, and real addresses.
    #[test]
    fn the_ready_line_keeps_its_words() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let bound = Bound {
            listeners: vec![(false, address("127.0.0.1:81")), (true, address("[::]:443")), (false, address("[::]:80"))],
            admin: address("127.0.0.1:9900"),
        };
        let overview = Overview { served: vec![1, 1], ..Overview::default() };
        assert_eq!(
            ready_line(&bound, &overview),
            "ready shards=2 http=127.0.0.1:81,[::]:80 https=[::]:443 admin=127.0.0.1:9900 routes=0 upstreams=0"
        );
    }

    /// A proxied request needs two descriptors, and some are left for everything else.
    #[test]
    fn connections_leave_descriptors_to_others() {
        for (open_files, want) in [(0, 1), (1024, 460), (20_000, 9000)] {
            assert_eq!(connections_max(open_files), want, "{open_files}");
        }
        assert!(connections_max(u64::MAX) > 1 << 40, "no limit is no limit");
    }
}
