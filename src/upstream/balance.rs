//! Which endpoint gets the next request: smooth weighted round robin, or the better of two by latency and load.

use std::net::SocketAddr;

use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::Health;
use crate::upstream::health;
use crate::upstream::health::Standing;

/// How fast an old latency is forgotten: half of it in about this time, in microseconds.
const DECAY_US: f64 = 10_000_000.0;
/// What an endpoint nobody has measured is taken for, in microseconds.
const LATENCY_UNKNOWN_US: f64 = 1000.0;

/// What went wrong at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Refused, unreachable, or no answer to the connect in time.
    Connect,
    /// Connected and silent.
    Timeout,
    /// Closed, reset or answered nonsense.
    Broken,
    /// Answered a status that counts as a failure.
    Status,
}

/// What is known of the endpoints of one cluster on one shard.
#[derive(Debug, Default)]
pub struct ClusterState {
    endpoints: Vec<Endpoint>,
    /// Round robin's credit is spent against this.
    weight_total: i64,
}

#[derive(Clone, Debug)]
struct Endpoint {
    address: SocketAddr,
    weight: u32,
    credit: i64,
    in_flight: u32,
    latency_us: f64,
    measured_us: u64,
    standing: Standing,
}

impl ClusterState {
    /// Takes over the endpoints of `cluster`; those that stay keep what is known of them.
    pub fn reconcile(&mut self, cluster: &Cluster) {
        let old = std::mem::take(&mut self.endpoints);
        self.endpoints = cluster
            .endpoints
            .iter()
            .map(|endpoint| {
                let known = old.iter().find(|known| known.address == endpoint.address).cloned();
                let fresh = || Endpoint {
                    address: endpoint.address,
                    weight: 1,
                    credit: 0,
                    in_flight: 0,
                    latency_us: LATENCY_UNKNOWN_US,
                    measured_us: 0,
                    standing: Standing::default(),
                };
                Endpoint { weight: endpoint.weight.max(1), ..known.unwrap_or_else(fresh) }
            })
            .collect();
        self.weight_total = self.endpoints.iter().map(|endpoint| i64::from(endpoint.weight)).sum();
    }

    /// The position of the next endpoint in `cluster.endpoints`, which [`Self::reconcile`] has seen.
    ///
    /// Endpoints in `exclude` have failed this request already; those that checks or their own failures speak against are passed
    /// over as long as at least half of all are left, else health is ignored (fail open). `None` where nothing is left to try.
    pub fn pick(&mut self, cluster: &Cluster, health: &Health, now_us: u64, random: u64, exclude: &[u16]) -> Option<usize> {
        let count = self.endpoints.len();
        if count == 1 && exclude.is_empty() {
            return Some(0);
        }
        let unhealthy = |state: &Endpoint, index: usize| {
            state.standing.is_ejected(now_us) || cluster.endpoints.get(index).is_some_and(|endpoint| health.is_down(endpoint))
        };
        let down = self.endpoints.iter().enumerate().filter(|(index, state)| unhealthy(state, *index)).count();
        let panic = down * 2 > count;
        let usable =
            |state: &Endpoint, index: usize| !exclude.contains(&(index as u16)) && (down == 0 || panic || !unhealthy(state, index));
        match cluster.balance {
            Balance::RoundRobin => self.next_in_turn(usable).or_else(|| self.next_in_turn(|_, index| !exclude.contains(&(index as u16)))),
            Balance::PeakEwma => self.better_of_two(now_us, random, usable),
        }
    }

    /// Smooth weighted round robin: everybody earns its weight, the richest pays for all.
    fn next_in_turn(&mut self, usable: impl Fn(&Endpoint, usize) -> bool) -> Option<usize> {
        let mut best: Option<usize> = None;
        let mut total = 0;
        for index in 0..self.endpoints.len() {
            if !usable(&self.endpoints[index], index) {
                continue;
            }
            let state = &mut self.endpoints[index];
            state.credit += i64::from(state.weight);
            total += i64::from(state.weight);
            if best.is_none_or(|best| self.endpoints[index].credit > self.endpoints[best].credit) {
                best = Some(index);
            }
        }
        let best = best?;
        self.endpoints[best].credit -= total;
        Some(best)
    }

    fn better_of_two(&self, now_us: u64, random: u64, usable: impl Fn(&Endpoint, usize) -> bool) -> Option<usize> {
        let count = self.endpoints.len();
        let from = |start: usize| (0..count).map(|step| (start + step) % count).find(|index| usable(&self.endpoints[*index], *index));
        let first = from(random as usize % count.max(1))?;
        let second = from((first + 1 + (random >> 32) as usize % count.saturating_sub(1).max(1)) % count)?;
        let cost = |index: usize| {
            let state = &self.endpoints[index];
            state.latency_at(now_us) * f64::from(state.in_flight + 1) / f64::from(state.weight)
        };
        Some(if cost(second) < cost(first) { second } else { first })
    }

    fn find(&mut self, address: SocketAddr) -> Option<&mut Endpoint> {
        self.endpoints.iter_mut().find(|endpoint| endpoint.address == address)
    }

    /// A request goes to this endpoint.
    pub fn started(&mut self, address: SocketAddr) {
        if let Some(state) = self.find(address) {
            state.in_flight += 1;
        }
    }

    /// It has begun to answer after `latency_us`.
    pub fn finished(&mut self, address: SocketAddr, latency_us: u64, now_us: u64) {
        if let Some(state) = self.find(address) {
            state.in_flight = state.in_flight.saturating_sub(1);
            state.measure(latency_us as f64, now_us);
            state.standing.succeeded();
        }
    }

    /// The request ended without telling anything about the endpoint.
    pub fn abandoned(&mut self, address: SocketAddr) {
        if let Some(state) = self.find(address) {
            state.in_flight = state.in_flight.saturating_sub(1);
        }
    }

    /// It failed; enough of it in a row, and it is ejected while others are left.
    pub fn failed(&mut self, address: SocketAddr, failure: Failure, now_us: u64) {
        let ejected = self.endpoints.iter().filter(|endpoint| endpoint.standing.is_ejected(now_us)).count();
        let room = ejected < health::ejected_max(self.endpoints.len());
        if let Some(state) = self.find(address)
            && failure != Failure::Status
            && state.standing.failed()
            && room
        {
            state.standing.eject(now_us);
        }
    }

    /// Whether the last word of the endpoint at this position was a failure.
    pub fn is_suspect(&self, index: usize, now_us: u64) -> bool {
        self.endpoints.get(index).is_some_and(|endpoint| endpoint.standing.is_suspect(now_us))
    }

    /// Requests in flight and whether it is ejected, by address; for people and tools.
    pub fn describe(&self, now_us: u64) -> impl Iterator<Item = (SocketAddr, u32, bool)> {
        self.endpoints.iter().map(move |endpoint| (endpoint.address, endpoint.in_flight, endpoint.standing.is_ejected(now_us)))
    }
}

impl Endpoint {
    /// Peak-EWMA: a worse latency counts at once, a better one by and by.
    fn measure(&mut self, latency_us: f64, now_us: u64) {
        let old = self.latency_at(now_us);
        let age = now_us.saturating_sub(self.measured_us) as f64;
        let keep = (-age / DECAY_US).exp();
        self.latency_us = if latency_us > old { latency_us } else { old * keep + latency_us * (1.0 - keep) };
        self.measured_us = now_us;
    }

    fn latency_at(&self, _now_us: u64) -> f64 {
        self.latency_us.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::cluster::ClusterId;
    use crate::snapshot::cluster::Protocol;

    pub(super) fn cluster(weights: &[u32], balance: Balance) -> Cluster {
        let endpoint = |(index, weight): (usize, &u32)| crate::snapshot::cluster::Endpoint {
            address: SocketAddr::from(([10, 0, 0, index as u8 + 1], 80)),
            weight: *weight,
            node: None,
        };
        Cluster {
            id: ClusterId(0),
            name: "ns/svc:80".into(),
            namespace: "ns".into(),
            service: "svc".into(),
            endpoints: weights.iter().enumerate().map(endpoint).collect(),
            refusal: None,
            pods: weights.len() as u32,
            opaque_endpoints: false,
            balance,
            protocol: Protocol::Http,
            health_check: None,
            health_node_port: None,
        }
    }

    fn state(cluster: &Cluster) -> ClusterState {
        let mut state = ClusterState::default();
        state.reconcile(cluster);
        state
    }

    /// Everybody gets its share, and nobody twice in a row more than its weight asks.
    #[test]
    fn round_robin_is_fair_and_smooth() {
        let equal = cluster(&[1, 1, 1], Balance::RoundRobin);
        let mut even = state(&equal);
        let order: Vec<_> = (0..6).map(|_| even.pick(&equal, &Health::default(), 0, 0, &[])).collect();
        assert_eq!(order, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2)]);
        let weighted = cluster(&[5, 1, 1], Balance::RoundRobin);
        let mut uneven = state(&weighted);
        let order: Vec<_> = (0..7).filter_map(|_| uneven.pick(&weighted, &Health::default(), 0, 0, &[])).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    /// An endpoint that failed this request is not tried again; when all have, there is none.
    #[test]
    fn excluded_endpoints_are_not_tried_again() {
        for balance in [Balance::RoundRobin, Balance::PeakEwma] {
            let cluster = cluster(&[1, 1], balance);
            let mut state = state(&cluster);
            for random in 0..20 {
                assert_eq!(state.pick(&cluster, &Health::default(), 0, random, &[0]), Some(1));
                assert_eq!(state.pick(&cluster, &Health::default(), 0, random, &[0, 1]), None);
            }
        }
        let single = cluster(&[1], Balance::RoundRobin);
        assert_eq!(state(&single).pick(&single, &Health::default(), 0, 0, &[0]), None);
        let nobody = cluster(&[], Balance::PeakEwma);
        assert_eq!(state(&nobody).pick(&nobody, &Health::default(), 0, 0, &[]), None);
    }

    /// Who keeps failing is passed over, but only as long as most are well: then health is ignored.
    #[test]
    fn ejection_fails_open() {
        let cluster = cluster(&[1, 1, 1, 1], Balance::RoundRobin);
        let mut state = state(&cluster);
        let bad = cluster.endpoints[0].address;
        for _ in 0..5 {
            state.failed(bad, Failure::Connect, 0);
        }
        let picked: Vec<_> = (0..6).filter_map(|_| state.pick(&cluster, &Health::default(), 1, 0, &[])).collect();
        assert!(!picked.contains(&0), "{picked:?}");
        for endpoint in &cluster.endpoints[1..] {
            for _ in 0..5 {
                state.failed(endpoint.address, Failure::Connect, 0);
            }
        }
        let ejected = state.describe(1).filter(|(.., ejected)| *ejected).count();
        assert_eq!(ejected, 1, "one of four may be ejected");
        let down = Health { endpoints: cluster.endpoints[1..].iter().map(|endpoint| endpoint.address).collect(), ..Health::default() };
        let picked: Vec<_> = (0..8).filter_map(|_| state.pick(&cluster, &down, 1, 0, &[])).collect();
        assert_eq!(picked.len(), 8, "all down: everybody is tried");
    }

    /// The faster endpoint gets more, the slower one is not forgotten while it is compared.
    #[test]
    fn the_better_of_two_is_chosen() {
        let cluster = cluster(&[1, 1], Balance::PeakEwma);
        let mut state = state(&cluster);
        state.finished(cluster.endpoints[0].address, 50_000, 1);
        state.finished(cluster.endpoints[1].address, 500, 1);
        assert!((0..50).all(|random| state.pick(&cluster, &Health::default(), 2, random, &[]) == Some(1)));
    }

    /// A change of endpoints keeps what is known of those that stay.
    #[test]
    fn endpoints_that_stay_are_remembered() {
        let mut cluster = cluster(&[1, 1], Balance::RoundRobin);
        let mut state = state(&cluster);
        let stays = cluster.endpoints[1].address;
        state.started(stays);
        cluster.endpoints.remove(0);
        state.reconcile(&cluster);
        assert_eq!(state.describe(0).collect::<Vec<_>>(), [(stays, 1, false)]);
    }
}
