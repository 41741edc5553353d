//! Requests and connections per client: leaky buckets as nginx's limit_req and limit_conn with `nodelay`.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::filter::answer::Answer;
use crate::snapshot::rule;
use crate::snapshot::rule::RateLimit;

/// Clients one shard keeps count of; over it the ones that owe nothing go first.
const CLIENTS_MAX: usize = 65_536;
/// Counted in thousandths of a request.
const REQUEST: u64 = 1000;

/// A client of a limited rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    rule: Arc<str>,
    client: IpAddr,
}

/// What a client owes.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    second: Bucket,
    minute: Bucket,
    connections: u32,
    last_ms: u64,
}

/// How full a leaky bucket is, in thousandths of a request.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    excess: u64,
    last_ms: u64,
    used: bool,
}

/// A request that its limits let in, with its place among those in flight where `limit-connections` counts them; given back when
/// it has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Admission(Option<Key>);

/// Which limit a client is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Requests,
    Connections,
}

impl Over {
    /// What such a client is told.
    pub fn answer(self, limit: &RateLimit) -> Answer {
        let (status, reason) = match self {
            Self::Requests => (limit.request_status, "rate_limited"),
            Self::Connections => (limit.connection_status, "connection_limited"),
        };
        Answer { status, reason, fields: vec![("Retry-After", b"1".to_vec())] }
    }
}

/// The counts of one shard.
#[derive(Debug, Default)]
pub struct Limits {
    accounts: HashMap<Key, Account>,
}

impl Limits {
    /// Lets one more request of `client` in, if its limits allow it now.
    ///
    /// # Errors
    /// Which limit the client is over.
    pub fn admit(&mut self, limit: &RateLimit, client: IpAddr, now_ms: u64) -> Result<Admission, Over> {
        if rule::contains(&limit.exempt, client) {
            return Ok(Admission(None));
        }
        self.make_room(now_ms);
        let key = Key { rule: limit.key.clone(), client };
        let account = self.accounts.entry_ref(&key).or_default();
        account.last_ms = now_ms;
        // Every limit is asked before any is charged: a refused request costs its client nothing.
        let connected = limit.connections.is_none_or(|most| account.connections < most);
        let second = limit.requests_per_second.map(|rate| account.second.after(rate, 1000, limit.burst_multiplier, now_ms));
        let minute = limit.requests_per_minute.map(|rate| account.minute.after(rate, 60_000, limit.burst_multiplier, now_ms));
        if !connected {
            return Err(Over::Connections);
        }
        match (second, minute) {
            (Some(None), _) | (_, Some(None)) => return Err(Over::Requests),
            (second, minute) => {
                account.second = second.flatten().unwrap_or(account.second);
                account.minute = minute.flatten().unwrap_or(account.minute);
            }
        }
        if limit.connections.is_none() {
            return Ok(Admission(None));
        }
        account.connections += 1;
        Ok(Admission(Some(key)))
    }

    /// The request of this admission has ended.
    pub fn release(&mut self, admission: Admission) {
        if let Some(account) = admission.0.and_then(|key| self.accounts.get_mut(&key)) {
            account.connections = account.connections.saturating_sub(1);
        }
    }

    fn make_room(&mut self, now_ms: u64) {
        if self.accounts.len() < CLIENTS_MAX {
            return;
        }
        self.accounts.retain(|_, account| account.connections > 0 || now_ms.saturating_sub(account.last_ms) < 60_000);
        if self.accounts.len() >= CLIENTS_MAX {
            // A flood of addresses: memory is bounded, and the limits start anew for those without a request in flight.
            self.accounts.retain(|_, account| account.connections > 0);
        }
    }
}

impl Bucket {
    /// The bucket after one more request at `rate` per `period_ms`; `None` where it would overflow.
    fn after(&self, rate: u32, period_ms: u64, burst_multiplier: u32, now_ms: u64) -> Option<Self> {
        let burst = u64::from(rate) * u64::from(burst_multiplier) * REQUEST;
        if !self.used {
            return Some(Self { excess: 0, last_ms: now_ms, used: true });
        }
        let leaked = u64::from(rate) * REQUEST * now_ms.saturating_sub(self.last_ms) / period_ms;
        let excess = (self.excess + REQUEST).saturating_sub(leaked);
        (excess <= burst).then_some(Self { excess, last_ms: now_ms, used: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(second: Option<u32>, minute: Option<u32>, connections: Option<u32>, burst_multiplier: u32) -> RateLimit {
        RateLimit {
            key: "ns/ing".into(),
            requests_per_second: second,
            requests_per_minute: minute,
            connections,
            burst_multiplier,
            exempt: vec!["10.0.0.0/8".parse().expect("a range")],
            request_status: 503,
            connection_status: 429,
        }
    }

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn admitted(limits: &mut Limits, limit: &RateLimit, count: usize, now_ms: u64) -> usize {
        (0..count).filter(|_| limits.admit(limit, CLIENT, now_ms).is_ok()).count()
    }

    /// A burst of rate x multiplier passes beside the first request, then the rate, no matter how often it is asked.
    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (mut limits, limit) = (Limits::default(), limit(Some(2), None, None, 5));
        assert_eq!(admitted(&mut limits, &limit, 50, 0), 11);
        assert_eq!(admitted(&mut limits, &limit, 50, 1000), 2);
        assert_eq!(admitted(&mut limits, &limit, 50, 1500), 1);
        assert_eq!(admitted(&mut limits, &limit, 50, 60_000), 11);
    }

    /// A limit per minute leaks over the minute.
    #[test]
    fn a_minute_is_a_minute() {
        let (mut limits, limit) = (Limits::default(), limit(None, Some(6), None, 1));
        assert_eq!(admitted(&mut limits, &limit, 50, 0), 7);
        assert_eq!(admitted(&mut limits, &limit, 50, 10_000), 1);
        assert_eq!(admitted(&mut limits, &limit, 50, 30_000), 2);
    }

    /// Slots are counted while they are held, for each client by itself; who is exempt is not counted.
    #[test]
    fn slots_are_held_by_requests_in_flight() {
        let (mut limits, limit) = (Limits::default(), limit(None, None, Some(2), 5));
        let first = limits.admit(&limit, CLIENT, 0).expect("the first fits");
        let _second = limits.admit(&limit, CLIENT, 0).expect("the second fits");
        assert_eq!(limits.admit(&limit, CLIENT, 0), Err(Over::Connections));
        assert!(limits.admit(&limit, [192, 0, 2, 2].into(), 0).is_ok());
        assert_eq!(limits.admit(&limit, [10, 0, 0, 1].into(), 0), Ok(Admission(None)));
        limits.release(first);
        assert!(limits.admit(&limit, CLIENT, 0).is_ok());
    }

    /// Each limit has its own status, as `limit-req-status-code` and `limit-conn-status-code` are two keys.
    #[test]
    fn each_limit_has_its_own_status() {
        let limit = limit(Some(1), None, Some(1), 1);
        assert_eq!((Over::Requests.answer(&limit).status, Over::Connections.answer(&limit).status), (503, 429));
    }

    /// However many clients come, memory is bounded.
    #[test]
    fn a_flood_of_clients_is_bounded() {
        let (mut limits, limit) = (Limits::default(), limit(Some(1), None, None, 1));
        for number in 0..2 * CLIENTS_MAX as u32 {
            let _admitted = limits.admit(&limit, IpAddr::V4(number.into()), u64::from(number));
        }
        assert!(limits.accounts.len() <= CLIENTS_MAX);
    }
}
