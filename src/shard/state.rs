//! Everything one shard owns.

use std::cell::Cell;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use crate::filter::FilterState;
use crate::filter::PasswordCheck;
use crate::filter::ledger::Ledger;
use crate::net::ring::Ring;
use crate::net::tls;
use crate::net::tls::ClientTls;
use crate::net::tls::Crypto;
use crate::shard::Config;
use crate::shard::Parts;
use crate::shard::gate::Gate;
use crate::shard::lease::ClusterPool;
use crate::shard::loads::Handover;
use crate::shard::loads::Loads;
use crate::shard::password;
use crate::shard::world::World;
use crate::snapshot::channel::Mailbox;
use crate::snapshot::channel::Postbox;
use crate::snapshot::channel::Subscriber;
use crate::snapshot::cluster::ClusterId;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::ShardMetrics;
use crate::upstream::budget::RetryBudget;

/// Counts of the system clock are refreshed this often, in microseconds: clocks are set, timers never notice.
const CLOCK_REFRESH_US: u64 = 1_000_000;

/// Handshakes that begin in one turn: each costs as much as ten requests, and every request of the turn waits behind them.
const HANDSHAKES_PER_TURN: u32 = 1;

/// What a shard knows of the others.
pub(crate) struct Neighbours {
    /// Its own position among them.
    pub(crate) index: usize,
    pub(crate) loads: Arc<Loads>,
    pub(crate) postboxes: Vec<Postbox<Handover>>,
    pub(crate) mailbox: Mailbox<Handover>,
    pub(crate) draining: Arc<AtomicBool>,
    /// What clients owe under their limits; the clock it goes by counts from `epoch`.
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) epoch: Instant,
    pub(crate) passwords: password::Checker,
    /// The bound address of each listener.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// One core's side of Corelane.
pub(crate) struct Shard {
    pub(crate) ring: Rc<Ring>,
    pub(crate) config: Config,
    pub(crate) neighbours: Neighbours,
    pub(crate) subscriber: Rc<Subscriber>,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) filters: RefCell<FilterState>,
    /// When the ring's clock began, on the clock that all shards share.
    epoch_us: u64,
    pub(crate) passwords: password::Waiting,
    pub(crate) crypto: Crypto,
    pub(crate) client_tls: ClientTls,
    pub(crate) draining: Cell<bool>,
    pub(crate) connections: Cell<usize>,
    pub(crate) handshakes: Cell<usize>,
    pub(crate) handshake_gate: Gate,
    pub(crate) retry_budget: RefCell<RetryBudget>,
    /// The plain and the TLS port that clients are told in redirects and X-Forwarded-Port.
    pub(crate) http_port: u16,
    pub(crate) https_port: u16,
    pub(crate) access_log_on: bool,
    world: RefCell<Option<Rc<World>>>,
    access_log: RefCell<AccessLog>,
    clusters: RefCell<Vec<Option<Rc<ClusterPool>>>>,
    random: Cell<u64>,
    clock: Cell<WallClock>,
    date: RefCell<Date>,
}

/// The system clock as it was at one moment of the ring's clock.
#[derive(Clone, Copy)]
struct WallClock {
    at_us: u64,
    time: SystemTime,
}

/// The Date field, formatted once a second.
struct Date {
    second: u64,
    text: String,
}

impl Shard {
    pub(crate) fn new(ring: Rc<Ring>, config: Config, parts: Parts, neighbours: Neighbours) -> Self {
        let crypto = tls::crypto();
        let port_of = |tls: bool| {
            let position = config.listeners.iter().position(|listener| listener.tls == tls);
            position.map_or(if tls { 443 } else { 80 }, |position| neighbours.addresses[position].port())
        };
        let mut seed = [0; 8];
        // Without randomness from the kernel the seed is poor, and so is only the spread of load.
        let _poor = getrandom::fill(&mut seed);
        let now = wall_clock();
        let filters = FilterState::sharing(neighbours.ledger.clone());
        let epoch_us = ring.started().saturating_duration_since(neighbours.epoch).as_micros() as u64;
        Self {
            http_port: port_of(false),
            https_port: port_of(true),
            client_tls: tls::client_config(crypto.clone()),
            crypto,
            neighbours,
            subscriber: Rc::new(parts.subscriber),
            metrics: parts.metrics,
            filters: RefCell::new(filters),
            epoch_us,
            passwords: password::Waiting::new(parts.remote),
            draining: Cell::new(false),
            connections: Cell::new(0),
            handshakes: Cell::new(0),
            handshake_gate: Gate::new(HANDSHAKES_PER_TURN),
            retry_budget: RefCell::new(RetryBudget::default()),
            access_log_on: parts.access_log.is_on(),
            world: RefCell::new(None),
            access_log: RefCell::new(parts.access_log),
            clusters: RefCell::new(Vec::new()),
            random: Cell::new(u64::from_ne_bytes(seed) | 1),
            clock: Cell::new(WallClock { at_us: ring.now_us(), time: now }),
            date: RefCell::new(Date { second: 0, text: String::new() }),
            ring,
            config,
        }
    }

    pub(crate) fn has_world(&self) -> bool {
        self.world.borrow().is_some()
    }

    pub(crate) fn current_world(&self) -> Option<Rc<World>> {
        self.world.borrow().clone()
    }

    /// The world in service.
    #[inline]
    pub(crate) fn world(&self) -> Rc<World> {
        self.world.borrow().clone().expect("a shard listens only once it has a world")
    }

    pub(crate) fn enter_world(&self, world: Rc<World>) {
        // The old one is dropped after the borrow: its drop talks to control.
        let _old = self.world.replace(Some(world));
    }

    /// The pool of a cluster; made when it is first asked for.
    pub(crate) fn cluster_pool(&self, id: ClusterId) -> Rc<ClusterPool> {
        let index = id.0 as usize;
        let mut clusters = self.clusters.borrow_mut();
        if index >= clusters.len() {
            clusters.resize(index + 1, None);
        }
        clusters[index].get_or_insert_with(|| Rc::new(ClusterPool::default())).clone()
    }

    /// Closes pooled connections whose time has come, and forgets clusters that are gone.
    pub(crate) fn sweep_pools(&self) {
        let Some(world) = self.current_world() else { return };
        let now_ms = self.ring.now_ms();
        let mut clusters = self.clusters.borrow_mut();
        for (index, place) in clusters.iter_mut().enumerate() {
            let Some(pool) = place else { continue };
            match world.snapshot().cluster(ClusterId(index as u32)) {
                Some(cluster) => pool.sweep(cluster, &world.snapshot().settings, now_ms),
                None => *place = None,
            }
        }
    }

    /// Has a slow check run elsewhere, for the filters to remember; false where too many wait already.
    pub(crate) async fn verify_password(&self, check: PasswordCheck) -> bool {
        let Some(answer) = self.passwords.run(&self.neighbours.passwords, check).await else { return false };
        self.filters.borrow_mut().remember_password(&answer.check, answer.holds, self.host_us() / 1000);
        true
    }

    /// The next pseudo-random number (xorshift64*): for choices, never for secrets.
    #[inline]
    pub(crate) fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Microseconds of the clock that all shards share.
    #[inline]
    pub(crate) fn host_us(&self) -> u64 {
        self.epoch_us + self.ring.now_us()
    }

    /// The time of day at a moment of the ring's clock.
    pub(crate) fn time_at(&self, at_us: u64) -> SystemTime {
        let now_us = self.ring.now_us();
        let mut clock = self.clock.get();
        if now_us.saturating_sub(clock.at_us) > CLOCK_REFRESH_US {
            clock = WallClock { at_us: now_us, time: wall_clock() };
            self.clock.set(clock);
        }
        if at_us >= clock.at_us {
            clock.time + Duration::from_micros(at_us - clock.at_us)
        } else {
            clock.time - Duration::from_micros(clock.at_us - at_us)
        }
    }

    /// Calls `use_date` with the value of a Date field (RFC 9110 section 5.6.7).
    pub(crate) fn with_date<T>(&self, use_date: impl FnOnce(&[u8]) -> T) -> T {
        let mut date = self.date.borrow_mut();
        let second = self.ring.now_us() / 1_000_000;
        if date.text.is_empty() || date.second != second {
            date.second = second;
            date.text = httpdate::fmt_http_date(self.time_at(self.ring.now_us()));
        }
        use_date(date.text.as_bytes())
    }

    pub(crate) fn access_log(&self) -> std::cell::RefMut<'_, AccessLog> {
        self.access_log.borrow_mut()
    }

    /// Hands over the last lines and lets go of the log: its writer ends when every shard has.
    pub(crate) fn end_access_log(&self) {
        self.flush_access_log();
        self.access_log.replace(AccessLog::off());
    }

    pub(crate) fn flush_access_log(&self) {
        let dropped = self.access_log.borrow_mut().flush();
        if dropped > 0 {
            self.metrics.access_log_dropped(dropped);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the shard's one look at the system clock, at most once a second")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
