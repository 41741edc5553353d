//! Many hosts with three paths each, and which of them each request of a round asks for.

use std::sync::Arc;

use fastrand::Rng;

/// Below this name lie all hosts, one label deep, so that one wildcard covers them.
const DOMAIN: &str = "routes.bench.local";
/// What is asked for below each prefix the templates route: `/`, `/api/` and `/static/`.
const PATHS: [&str; 3] = ["/item", "/api/item", "/static/item"];
/// Requests after which the sequence begins anew: many more than there are routes that are often asked for.
const SEQUENCE: usize = 1 << 18;
/// The sequence is the same in every round and for every proxy.
const SEED: u64 = 1;

/// The names of so many hosts; all have the same length.
pub fn names(hosts: u32) -> Vec<String> {
    (0..hosts).map(|number| format!("host-{number:06}.{DOMAIN}")).collect()
}

/// One name that covers all of them.
pub fn wildcard() -> String {
    format!("*.{DOMAIN}")
}

/// A host and a path of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    pub host: &'a str,
    pub path: &'static str,
}

/// Whom a round asks, request by request.
#[derive(Clone, Debug)]
pub struct Addresses {
    names: Arc<[String]>,
    /// Numbers of routes: host by host, path by path.
    sequence: Arc<[u32]>,
    next: usize,
}

impl Addresses {
    /// Routes asked for by Zipf: the k-th most popular one is asked for in proportion to `k^-exponent`. Which is the k-th is drawn,
    /// so that popular routes lie anywhere among the others.
    pub fn zipf(hosts: u32, exponent: f64) -> Self {
        let mut random = Rng::with_seed(SEED);
        let mut routes: Vec<u32> = (0..hosts * PATHS.len() as u32).collect();
        random.shuffle(&mut routes);
        let mut total = 0.0;
        let up_to: Vec<f64> = (1..=routes.len()).map(|rank| (total += (rank as f64).powf(-exponent), total).1).collect();
        let draw = || {
            let at = random.f64() * total;
            // Below the total by construction, but for rounding.
            routes[up_to.partition_point(|up_to| *up_to <= at).min(routes.len() - 1)]
        };
        let sequence = std::iter::repeat_with(draw).take(SEQUENCE).collect();
        Self { names: names(hosts).into(), sequence, next: 0 }
    }

    /// The next request's.
    pub fn draw(&mut self) -> Address<'_> {
        let route = self.sequence[self.next] as usize;
        self.next = (self.next + 1) % self.sequence.len();
        Address { host: &self.names[route / PATHS.len()], path: PATHS[route % PATHS.len()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Popularity falls with the rank as Zipf says, and nearly every route is asked for.
    #[test]
    fn popularity_falls_with_the_rank() {
        let hosts = 100;
        let mut addresses = Addresses::zipf(hosts, 1.0);
        let mut asked: HashMap<(String, &str), f64> = HashMap::new();
        for _ in 0..SEQUENCE {
            let Address { host, path } = addresses.draw();
            *asked.entry((host.to_owned(), path)).or_default() += 1.0;
        }
        let mut counts: Vec<f64> = asked.into_values().collect();
        counts.sort_by(f64::total_cmp);
        counts.reverse();
        assert_eq!(counts.len(), hosts as usize * PATHS.len());
        for (rank, expected) in [(2, 2.0), (3, 3.0), (10, 10.0), (30, 30.0)] {
            let ratio = counts[0] / counts[rank - 1];
            assert!((ratio / expected - 1.0).abs() < 0.1, "first over rank {rank}: {ratio}");
        }
    }

    /// Without an exponent all are alike, and one host is enough.
    #[test]
    fn no_exponent_is_no_preference() {
        let mut addresses = Addresses::zipf(1, 0.0);
        let mut asked = [0_u32; PATHS.len()];
        for _ in 0..SEQUENCE {
            let path = addresses.draw().path;
            asked[PATHS.iter().position(|one| *one == path).unwrap()] += 1;
        }
        let even = SEQUENCE as f64 / PATHS.len() as f64;
        assert!(asked.iter().all(|count| (f64::from(*count) / even - 1.0).abs() < 0.02), "{asked:?}");
    }

    /// Two clients that begin anew ask in the same order.
    #[test]
    fn every_round_asks_in_the_same_order() {
        let addresses = Addresses::zipf(50, 1.0);
        let (mut one, mut other) = (addresses.clone(), Addresses::zipf(50, 1.0));
        assert!((0..1000).all(|_| one.draw() == other.draw()));
    }

    /// The wildcard covers every host with one label more, and all requests are equally long but for their paths.
    #[test]
    fn a_wildcard_covers_all_hosts() {
        let wildcard = wildcard();
        let names = names(1000);
        let domain = wildcard.strip_prefix('*').unwrap();
        for name in &names {
            let label = name.strip_suffix(domain).unwrap();
            assert!(!label.contains('.') && name.len() == names[0].len(), "{name}");
        }
    }
}
