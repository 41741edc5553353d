//! Upstream connections: borrowed from the pool of a cluster or opened, and given back unless spoiled.

use std::cell::Cell;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::http::fault::UpstreamFault;
use crate::net::socket::Socket;
use crate::net::stream::Stream;
use crate::net::tls::Session;
use crate::shard::state::Shard;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::Health;
use crate::snapshot::cluster::Protocol;
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

    /// The position of the endpoint for a request; `exclude` lists positions that failed it already.
    pub(crate) fn pick(&self, cluster: &Cluster, health: &Health, now_us: u64, random: u64, exclude: &[u16]) -> Option<usize> {
        self.balance.borrow_mut().pick(cluster, health, now_us, random, exclude)
    }

    /// Whether the last word of the endpoint at this position was a failure.
    pub(crate) fn is_suspect(&self, endpoint: usize, now_us: u64) -> bool {
        self.balance.borrow().is_suspect(endpoint, now_us)
    }

    /// A connect, a request or an answer went wrong at this endpoint.
    pub(crate) fn failed(&self, address: SocketAddr, failure: Failure, now_us: u64) {
        self.balance.borrow_mut().failed(address, failure, now_us);
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
    pub(crate) address: SocketAddr,
    /// Whether it has served before: its endpoint may have closed it in this very moment.
    pub(crate) reused: bool,
    pub(crate) connect_us: Option<u64>,
    request: InFlight,
    open: Open,
    wear: Wear,
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

/// Borrows a connection to this endpoint of the cluster, or opens one within `connect_timeout`.
///
/// `fresh_only`: a kept connection has failed this request already.
///
/// # Errors
/// `ConnectFailed`, `TlsFailed`: no byte of the request was sent.
pub(crate) async fn lease(
    shard: &Rc<Shard>,
    pool: &Rc<ClusterPool>,
    cluster: &Arc<Cluster>,
    settings: &Settings,
    endpoint: usize,
    connect_timeout: Duration,
    fresh_only: bool,
) -> Result<Lease, UpstreamFault> {
    let address = cluster.endpoints[endpoint].address;
    let now_ms = shard.ring.now_ms();
    let started_us = shard.ring.now_us();
    if !fresh_only
        && !pool::wants_fresh(pool.open.get(), cluster.pods, cluster.opaque_endpoints)
        && let Some(lease) = borrow(shard, pool, cluster, settings, address)
    {
        return Ok(lease);
    }
    let open = Open::count(&pool.open);
    let request = InFlight::start(pool, address, started_us);
    let connecting = Socket::connect(&shard.ring, address, connect_timeout.as_millis() as u64);
    let socket = connecting.await.map_err(|error| {
        tracing::debug!(%address, %error, "connecting to an endpoint failed");
        UpstreamFault::ConnectFailed
    })?;
    shard.metrics.upstream_connection_opened();
    let mut stream = Stream::plain(socket);
    if cluster.protocol == Protocol::Https {
        let session = Session::client(shard.client_tls.clone(), address.ip()).map_err(|_| UpstreamFault::TlsFailed)?;
        stream.socket().set_deadline(connect_timeout.as_millis() as u64);
        stream.start_tls(session).map_err(|_| UpstreamFault::TlsFailed)?;
        stream.handshake().await.map_err(|_| UpstreamFault::TlsFailed)?;
        stream.socket().clear_deadline();
    }
    let connect_us = Some(shard.ring.now_us() - started_us);
    Ok(Lease { stream, address, reused: false, connect_us, request, open, wear: Wear::new(now_ms) })
}

/// An idle connection to `address` that is as it was left.
fn borrow(shard: &Shard, pool: &Rc<ClusterPool>, cluster: &Cluster, settings: &Settings, address: SocketAddr) -> Option<Lease> {
    let rules = PoolRules::new(cluster, settings);
    let now_ms = shard.ring.now_ms();
    loop {
        let idle = pool.idle.borrow_mut().take(address, now_ms, &rules)?;
        let Kept { stream, open } = idle.connection;
        if stream.is_quiet() {
            let request = InFlight::start(pool, address, shard.ring.now_us());
            return Some(Lease { stream, address, reused: true, connect_us: None, request, open, wear: idle.wear });
        }
    }
}

impl Lease {
    /// The endpoint has begun to answer: what the balance learns from.
    pub(crate) fn answered(&mut self, now_us: u64) {
        if !std::mem::replace(&mut self.request.ended, true) {
            let latency_us = now_us.saturating_sub(self.request.started_us);
            self.wear.answered(latency_us);
            self.request.pool.balance.borrow_mut().finished(self.address, latency_us, now_us);
        }
    }

    /// The endpoint failed this request.
    pub(crate) fn failed(&mut self, failure: Failure, now_us: u64) {
        if !std::mem::replace(&mut self.request.ended, true) {
            let mut balance = self.request.pool.balance.borrow_mut();
            balance.abandoned(self.address);
            balance.failed(self.address, failure, now_us);
        }
    }

    /// Puts the connection back for the next request; closed instead where its time has come or it is not as it should be.
    pub(crate) fn give_back(self, cluster: &Cluster, settings: &Settings, now_ms: u64) {
        if !self.stream.is_quiet() {
            return;
        }
        self.stream.socket().park();
        let rules = PoolRules::new(cluster, settings);
        let kept = Kept { stream: self.stream, open: self.open };
        let mut idle = self.request.pool.idle.borrow_mut();
        let _closed = idle.give_back(self.address, kept, self.wear, now_ms, &rules);
    }

    /// The bare connection, for a tunnel that will not come back.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }
}
