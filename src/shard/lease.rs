//! Upstream connections of a cluster: borrowed, counted, and given back unless spoiled.

use std::cell::Cell;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::http::fault::UpstreamFault;
use crate::net::stream::Stream;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::Health;
use crate::snapshot::settings::Settings;
use crate::upstream::balance::ClusterState;
use crate::upstream::balance::Failure;
use crate::upstream::pool;
use crate::upstream::pool::IdlePool;
use crate::upstream::pool::PoolRules;
use crate::upstream::pool::Wear;

/// Upstream connections of one shard to one cluster.
#[derive(Default)]
pub(crate) struct ClusterPool {
    balance: RefCell<ClusterState>,
    idle: RefCell<IdlePool<Kept>>,
    open: Rc<Cell<u32>>,
    known: RefCell<Option<Arc<Cluster>>>,
}

/// A connection with its place in the count of open ones.
struct Kept {
    stream: Stream,
    open: Open,
}

/// One open connection; its drop is one less.
struct Open(Rc<Cell<u32>>);

impl Open {
    fn count(open: &Rc<Cell<u32>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl ClusterPool {
    /// Takes over what a new snapshot says about the cluster; free where nothing has changed.
    pub(crate) fn reconcile(&self, cluster: &Arc<Cluster>) {
        let mut known = self.known.borrow_mut();
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, cluster)) {
            return;
        }
        self.balance.borrow_mut().reconcile(cluster);
        self.idle.borrow_mut().retain(|address| cluster.endpoints.iter().any(|endpoint| endpoint.address == address));
        *known = Some(cluster.clone());
    }

    /// Whether `address`, an endpoint of `cluster` when a request began, is one of the cluster as it is known now.
    fn still_has(&self, cluster: &Arc<Cluster>, address: SocketAddr) -> bool {
        self.known
            .borrow()
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, cluster) || known.endpoints.iter().any(|endpoint| endpoint.address == address))
    }

    /// The position of the endpoint for a request; `exclude` lists positions that failed it already.
    pub(crate) fn pick(&self, cluster: &Cluster, health: &Health, now_us: u64, random: u64, exclude: &[u16]) -> Option<usize> {
        self.balance.borrow_mut().pick(cluster, health, now_us, random, exclude)
    }

    /// Whether the last word of the endpoint at this position was a failure.
    pub(crate) fn is_suspect(&self, endpoint: usize, now_us: u64) -> bool {
        self.balance.borrow().is_suspect(endpoint, now_us)
    }

    /// No connection to this endpoint came about. What this host lacked is not held against it.
    pub(crate) fn connect_failed(&self, address: SocketAddr, fault: UpstreamFault, now_us: u64) {
        if fault.blames_endpoint() {
            self.balance.borrow_mut().failed(address, Failure::Connect, now_us);
        }
    }

    /// An idle connection to `address` that is as it was left; none where the pool wants a fresh one.
    pub(crate) fn borrow(self: &Rc<Self>, cluster: &Cluster, settings: &Settings, address: SocketAddr, now_us: u64) -> Option<Lease> {
        if pool::wants_fresh(self.open.get(), cluster.pods, cluster.opaque_endpoints) {
            return None;
        }
        let rules = PoolRules::new(cluster, settings);
        loop {
            let idle = self.idle.borrow_mut().take(address, now_us / 1000, &rules)?;
            let Kept { stream, open } = idle.connection;
            if stream.is_quiet() {
                let request = InFlight::start(self, address, now_us);
                return Some(Lease { stream, reused: true, connect_us: None, request, open, wear: idle.wear });
            }
        }
    }

    /// Counts a connection that is about to be opened, and the request that waits for it.
    pub(crate) fn open(self: &Rc<Self>, address: SocketAddr, now_us: u64) -> Opening {
        Opening { open: Open::count(&self.open), request: InFlight::start(self, address, now_us) }
    }

    /// Closes what has been idle or alive for too long, and what its endpoint has closed.
    pub(crate) fn sweep(&self, cluster: &Arc<Cluster>, settings: &Settings, now_ms: u64) {
        self.reconcile(cluster);
        let rules = PoolRules::new(cluster, settings);
        self.idle.borrow_mut().sweep(&rules, now_ms, |kept| kept.stream.is_quiet());
    }
}

/// An upstream connection in the hands of one request. Dropped without [`Self::give_back`] it is closed.
pub(crate) struct Lease {
    pub(crate) stream: Stream,
    /// Whether it has served before: its endpoint may have closed it in this very moment.
    pub(crate) reused: bool,
    pub(crate) connect_us: Option<u64>,
    request: InFlight,
    open: Open,
    wear: Wear,
}

/// A connection on its way. Dropped, it was never there.
pub(crate) struct Opening {
    open: Open,
    request: InFlight,
}

impl Opening {
    /// It stands.
    pub(crate) fn lease(self, stream: Stream, now_us: u64) -> Lease {
        let Self { open, request } = self;
        let connect_us = Some(now_us - request.started_us);
        Lease { stream, reused: false, connect_us, wear: Wear::new(request.started_us / 1000), request, open }
    }
}

/// One request at one endpoint, as the balance counts it; dropped without an outcome it is abandoned.
struct InFlight {
    pool: Rc<ClusterPool>,
    address: SocketAddr,
    started_us: u64,
    ended: bool,
}

impl InFlight {
    fn start(pool: &Rc<ClusterPool>, address: SocketAddr, now_us: u64) -> Self {
        pool.balance.borrow_mut().started(address);
        Self { pool: pool.clone(), address, started_us: now_us, ended: false }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.ended {
            self.pool.balance.borrow_mut().abandoned(self.address);
        }
    }
}

impl Lease {
    /// The endpoint has begun to answer: what the balance learns from.
    pub(crate) fn answered(&mut self, now_us: u64) {
        if !std::mem::replace(&mut self.request.ended, true) {
            let latency_us = now_us.saturating_sub(self.request.started_us);
            self.wear.answered(latency_us);
            self.request.pool.balance.borrow_mut().finished(self.request.address, latency_us, now_us);
        }
    }

    /// The endpoint failed this request.
    pub(crate) fn failed(&mut self, failure: Failure, now_us: u64) {
        if !std::mem::replace(&mut self.request.ended, true) {
            let mut balance = self.request.pool.balance.borrow_mut();
            balance.abandoned(self.request.address);
            balance.failed(self.request.address, failure, now_us);
        }
    }

    /// Puts the connection back for the next request; closed instead where its time has come or it is not as it should be.
    pub(crate) fn give_back(self, cluster: &Arc<Cluster>, settings: &Settings, now_ms: u64) {
        if !self.stream.is_quiet() || !self.request.pool.still_has(cluster, self.request.address) {
            return;
        }
        self.stream.socket().park();
        let rules = PoolRules::new(cluster, settings);
        let kept = Kept { stream: self.stream, open: self.open };
        let mut idle = self.request.pool.idle.borrow_mut();
        let _closed = idle.give_back(self.request.address, kept, self.wear, now_ms, &rules);
    }

    /// The bare connection, for a tunnel that will not come back.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }
}
