//! Idle upstream connections: first in, first out, bounded in number, age and use; the slow ones go.
//!
//! Where an endpoint hides many pods, each connection is one of them: its own latency tells a slow pod from a quick one.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::settings::Settings;

/// A connection to a NodePort is one pod of kube-proxy's choice: after this many requests or this long it makes room for another.
const OPAQUE_REQUESTS_MAX: u32 = 1000;
const OPAQUE_AGE_MS_MAX: u64 = 60_000;
/// Fresh connections for the sake of coverage stop here.
const COVERAGE_MAX: u32 = 512;
/// A connection this many times as slow as its peers makes room for another pod, once it has been asked often enough to know.
const SLOW_FACTOR: f32 = 4.0;
const SLOW_REQUESTS_MIN: u32 = 8;
/// How much one answer moves a latency: of a connection, and of all of them.
const LATENCY_WEIGHT: f32 = 0.2;
const PEERS_WEIGHT: f32 = 0.02;

/// When a kept connection has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRules {
    pub requests_max: u32,
    pub age_ms_max: u64,
    pub idle_ms_max: u64,
    /// Idle connections of one cluster on one shard.
    pub idle_max: usize,
    /// Whether the quicker of two is taken, each connection being a pod of its own.
    pub prefers_quick: bool,
    /// Whether connections that are much slower than their peers are closed.
    pub closes_slow: bool,
}

/// What a connection has behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wear {
    pub born_ms: u64,
    pub requests: u32,
    /// Average time to the first byte of an answer, in microseconds.
    pub latency_us: f32,
}

impl Wear {
    /// Of a connection that was opened now.
    pub fn new(born_ms: u64) -> Self {
        Self { born_ms, ..Self::default() }
    }

    /// It has answered once more.
    pub fn answered(&mut self, latency_us: u64) {
        let sample = latency_us as f32;
        self.latency_us = if self.requests == 0 { sample } else { self.latency_us + (sample - self.latency_us) * LATENCY_WEIGHT };
        self.requests += 1;
    }
}

impl PoolRules {
    /// The rules for connections to this cluster.
    pub fn new(cluster: &Cluster, settings: &Settings) -> Self {
        let mut rules = Self {
            requests_max: settings.upstream_keepalive_requests,
            age_ms_max: settings.upstream_keepalive_time.as_millis() as u64,
            idle_ms_max: settings.upstream_keepalive_timeout.as_millis() as u64,
            idle_max: settings.upstream_idle_max as usize,
            prefers_quick: cluster.opaque_endpoints && cluster.balance == Balance::PeakEwma,
            closes_slow: cluster.opaque_endpoints && cluster.pods > 1,
        };
        if cluster.opaque_endpoints && cluster.pods > 1 {
            rules.requests_max = rules.requests_max.min(OPAQUE_REQUESTS_MAX);
            rules.age_ms_max = rules.age_ms_max.min(OPAQUE_AGE_MS_MAX);
        }
        rules
    }

    /// Whether a connection may serve once more.
    fn allow(&self, wear: &Wear, now_ms: u64) -> bool {
        // A quarter of jitter, fixed for each connection by its birth, so that those opened together do not all end together.
        let jitter = self.age_ms_max / 4 * (wear.born_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) / 256;
        wear.requests < self.requests_max && now_ms.saturating_sub(wear.born_ms) < self.age_ms_max - jitter
    }
}

/// A connection that waits.
#[derive(Debug)]
pub struct Idle<C> {
    pub connection: C,
    pub wear: Wear,
    since_ms: u64,
    address: SocketAddr,
}

/// The idle connections of one cluster on one shard.
#[derive(Debug)]
pub struct IdlePool<C> {
    idle: VecDeque<Idle<C>>,
    /// Average latency of all that was given back.
    peers_us: f32,
}

impl<C> Default for IdlePool<C> {
    fn default() -> Self {
        Self { idle: VecDeque::new(), peers_us: 0.0 }
    }
}

impl<C> IdlePool<C> {
    /// The connection to `address` that has waited longest, so that all of them, and the pods behind them, take their turn; or the
    /// quicker of the two that have.
    pub fn take(&mut self, address: SocketAddr, now_ms: u64, rules: &PoolRules) -> Option<Idle<C>> {
        loop {
            let position = self.next(address, rules.prefers_quick)?;
            let idle = self.idle.remove(position)?;
            if now_ms.saturating_sub(idle.since_ms) < rules.idle_ms_max && rules.allow(&idle.wear, now_ms) {
                return Some(idle);
            }
        }
    }

    fn next(&self, address: SocketAddr, prefers_quick: bool) -> Option<usize> {
        let mut candidates = self.idle.iter().enumerate().filter(|(_, idle)| idle.address == address);
        let (first, oldest) = candidates.next()?;
        match candidates.next() {
            Some((second, younger)) if prefers_quick && younger.wear.latency_us < oldest.wear.latency_us => Some(second),
            _ => Some(first),
        }
    }

    /// Keeps a connection; returns one that has to be closed: itself where its time has come or it is much slower than its peers,
    /// the oldest where the pool is full.
    pub fn give_back(&mut self, address: SocketAddr, connection: C, wear: Wear, now_ms: u64, rules: &PoolRules) -> Option<C> {
        if self.peers_us == 0.0 {
            self.peers_us = wear.latency_us;
        }
        let slow = rules.closes_slow && wear.requests >= SLOW_REQUESTS_MIN && wear.latency_us > SLOW_FACTOR * self.peers_us;
        self.peers_us += (wear.latency_us - self.peers_us) * PEERS_WEIGHT;
        if slow || rules.idle_max == 0 || !rules.allow(&wear, now_ms) {
            return Some(connection);
        }
        self.idle.push_back(Idle { connection, wear, since_ms: now_ms, address });
        // A full pool closes its oldest: memory is bounded, traffic is not refused.
        if self.idle.len() > rules.idle_max { self.idle.pop_front().map(|oldest| oldest.connection) } else { None }
    }

    /// Drops what has waited or lived too long, and what `is_good` refuses.
    pub fn sweep(&mut self, rules: &PoolRules, now_ms: u64, is_good: impl Fn(&C) -> bool) {
        self.idle.retain(|idle| {
            now_ms.saturating_sub(idle.since_ms) < rules.idle_ms_max && rules.allow(&idle.wear, now_ms) && is_good(&idle.connection)
        });
    }

    /// Drops the connections to addresses that `is_wanted` refuses.
    pub fn retain(&mut self, is_wanted: impl Fn(SocketAddr) -> bool) {
        self.idle.retain(|idle| is_wanted(idle.address));
    }

    /// Connections that wait.
    pub fn len(&self) -> usize {
        self.idle.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }
}

/// Whether a request should open a connection although one is idle: each lands on a pod of kube-proxy's choice, and with fewer
/// than these it is likely that some pod gets nothing (nodeport.md section 5: the coupon collector's problem).
pub fn wants_fresh(open: u32, pods: u32, opaque: bool) -> bool {
    opaque && pods > 1 && open < connections_for_coverage(pods)
}

/// Connections at random that reach all of `pods` with a probability of 99 %.
fn connections_for_coverage(pods: u32) -> u32 {
    // (1 - 1/n)^c * n <= 0.01 bounds the chance that some pod is missed.
    let n = f64::from(pods);
    let c = (0.01 / n).ln() / (1.0 - 1.0 / n).ln();
    (c.ceil() as u32).clamp(1, COVERAGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: PoolRules =
        PoolRules { requests_max: 10, age_ms_max: 100_000, idle_ms_max: 1000, idle_max: 2, prefers_quick: false, closes_slow: false };
    const USED: Wear = Wear { born_ms: 0, requests: 1, latency_us: 100.0 };

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    /// A pool at its limit drops the oldest, never the one just given back.
    #[test]
    fn a_full_pool_drops_its_oldest() {
        let mut pool = IdlePool::default();
        for (name, closed) in [("a", None), ("b", None), ("c", Some("a"))] {
            assert_eq!(pool.give_back(address(1), name, USED, 0, &RULES), closed);
        }
        assert_eq!(pool.take(address(1), 0, &RULES).map(|idle| idle.connection), Some("b"));
    }

    /// Connections take turns, each to its own address.
    #[test]
    fn connections_take_turns() {
        let mut pool = IdlePool::default();
        let rules = PoolRules { idle_max: 9, ..RULES };
        for (last, name) in [(1, "a"), (2, "b"), (1, "c")] {
            pool.give_back(address(last), name, USED, 0, &rules);
        }
        assert_eq!(pool.take(address(1), 0, &rules).map(|idle| idle.connection), Some("a"));
        assert_eq!(pool.take(address(1), 0, &rules).map(|idle| idle.connection), Some("c"));
        assert!(pool.take(address(1), 0, &rules).is_none());
        assert_eq!(pool.len(), 1);
        pool.retain(|wanted| wanted != address(2));
        assert!(pool.is_empty());
    }

    /// What has waited, lived or served too long is not handed out.
    #[test]
    fn worn_connections_are_not_handed_out() {
        let mut pool = IdlePool::default();
        pool.give_back(address(1), "idle", USED, 0, &RULES);
        assert!(pool.take(address(1), 1000, &RULES).is_none());
        assert_eq!(pool.give_back(address(1), "used", Wear { requests: 10, ..USED }, 0, &RULES), Some("used"));
        assert_eq!(pool.give_back(address(1), "old", USED, 100_000, &RULES), Some("old"));
        pool.give_back(address(1), "broken", USED, 0, &RULES);
        pool.sweep(&RULES, 0, |connection| *connection != "broken");
        assert!(pool.is_empty());
    }

    /// Behind a NodePort the quicker of two connections serves; a much slower one makes room for another pod.
    #[test]
    fn quick_connections_serve_and_slow_ones_go() {
        let rules = PoolRules { idle_max: 9, requests_max: 100, prefers_quick: true, closes_slow: true, ..RULES };
        let worn = |latency_us| Wear { born_ms: 0, requests: SLOW_REQUESTS_MIN, latency_us };
        let mut pool = IdlePool::default();
        assert_eq!(pool.give_back(address(1), "slower", worn(300.0), 0, &rules), None);
        assert_eq!(pool.give_back(address(1), "quick", worn(100.0), 0, &rules), None);
        assert_eq!(pool.take(address(1), 0, &rules).map(|idle| idle.connection), Some("quick"));
        assert_eq!(pool.give_back(address(1), "slow", worn(5000.0), 0, &rules), Some("slow"));
        let unknown = Wear { requests: 1, ..worn(5000.0) };
        assert_eq!(pool.give_back(address(1), "one slow answer", unknown, 0, &rules), None);
        let alone = PoolRules { closes_slow: false, ..rules };
        assert_eq!(pool.give_back(address(1), "the only pod", worn(5000.0), 0, &alone), None);
    }

    /// A latency follows the answers of its connection.
    #[test]
    fn wear_follows_the_answers() {
        let mut wear = Wear::new(7);
        for (sample, want) in [(100, 100.0), (100, 100.0), (200, 120.0)] {
            wear.answered(sample);
            assert_eq!(wear.latency_us, want);
        }
        assert_eq!((wear.born_ms, wear.requests), (7, 3));
    }

    /// The number of connections that reach every pod is that of the coupon collector, and bounded.
    #[test]
    fn coverage_needs_many_connections() {
        for (pods, at_least) in [(2, 8), (3, 15), (5, 28), (10, 66), (20, 149), (50, 422)] {
            let connections = connections_for_coverage(pods);
            assert!(connections >= at_least && connections <= at_least + at_least / 10 + 1, "{pods}: {connections}");
        }
        assert_eq!(connections_for_coverage(10_000), COVERAGE_MAX);
        assert!(!wants_fresh(0, 1, true) && !wants_fresh(0, 10, false) && wants_fresh(65, 10, true) && !wants_fresh(70, 10, true));
    }
}
