//! Requests and connections per client: leaky buckets as nginx's limit_req and limit_conn with `nodelay`.

use std::net::IpAddr;
use std::sync::Arc;

use crate::filter::answer::Answer;
use crate::filter::ledger::Kind;
use crate::filter::ledger::Ledger;
use crate::filter::ledger::Place;
use crate::snapshot::rule;
use crate::snapshot::rule::RateLimit;

const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;

/// A request that its limits let in, with its place among those in flight where `limit-connections` counts them; given back when
/// it has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Admission(Option<Place>);

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

/// The limits of a host, as one shard holds them.
#[derive(Debug, Default)]
pub struct Limits {
    ledger: Arc<Ledger>,
}

impl Limits {
    /// Limits that are kept in a ledger with other shards.
    pub fn sharing(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    /// Lets one more request of `client` in, if its limits allow it now; a refused request costs its client nothing.
    ///
    /// `now_us` is read from a clock that all shards of the ledger share.
    ///
    /// # Errors
    /// Which limit the client is over.
    pub fn admit(&self, limit: &RateLimit, client: IpAddr, now_us: u64) -> Result<Admission, Over> {
        if rule::contains(&limit.exempt, client) {
            return Ok(Admission(None));
        }
        let now_ns = now_us * 1000;
        let place = match limit.connections {
            Some(most) => self.ledger.enter(&limit.key, client, most).map_err(|()| Over::Connections)?,
            None => None,
        };
        let rates = [(Kind::Second, limit.requests_per_second, SECOND_NS), (Kind::Minute, limit.requests_per_minute, MINUTE_NS)];
        for (position, (kind, rate, period_ns)) in rates.iter().enumerate() {
            let Some(rate) = rate.filter(|rate| *rate > 0) else { continue };
            let burst = u64::from(rate) * u64::from(limit.burst_multiplier);
            if self.ledger.charge(*kind, &limit.key, client, period_ns / u64::from(rate), burst, now_ns) {
                continue;
            }
            for (kind, rate, period_ns) in &rates[..position] {
                if let Some(rate) = rate.filter(|rate| *rate > 0) {
                    self.ledger.refund(*kind, &limit.key, client, period_ns / u64::from(rate), now_ns);
                }
            }
            self.release(Admission(place));
            return Err(Over::Requests);
        }
        Ok(Admission(place))
    }

    /// The request of this admission has ended.
    pub fn release(&self, admission: Admission) {
        if let Some(place) = admission.0 {
            self.ledger.leave(&place);
        }
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

    fn admitted(limits: &Limits, limit: &RateLimit, count: usize, now_ms: u64) -> usize {
        (0..count).filter(|_| limits.admit(limit, CLIENT, (now_ms + 1) * 1000).is_ok()).count()
    }

    /// A burst of rate x multiplier passes beside the first request, then the rate, no matter how often it is asked.
    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (limits, limit) = (Limits::default(), limit(Some(2), None, None, 5));
        assert_eq!(admitted(&limits, &limit, 50, 0), 11);
        assert_eq!(admitted(&limits, &limit, 50, 1000), 2);
        assert_eq!(admitted(&limits, &limit, 50, 1500), 1);
        assert_eq!(admitted(&limits, &limit, 50, 60_000), 11);
    }

    /// A limit per minute leaks over the minute.
    #[test]
    fn a_minute_is_a_minute() {
        let (limits, limit) = (Limits::default(), limit(None, Some(6), None, 1));
        assert_eq!(admitted(&limits, &limit, 50, 0), 7);
        assert_eq!(admitted(&limits, &limit, 50, 10_000), 1);
        assert_eq!(admitted(&limits, &limit, 50, 30_000), 2);
    }

    /// Slots are counted while they are held, for each client by itself; who is exempt is not counted.
    #[test]
    fn slots_are_held_by_requests_in_flight() {
        let (limits, limit) = (Limits::default(), limit(None, None, Some(2), 5));
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

    /// A client over one of two limits owes nothing under the other for the requests that were refused.
    #[test]
    fn a_refused_request_costs_nothing() {
        let (limits, limit) = (Limits::default(), limit(Some(100), Some(1), None, 1));
        assert_eq!(admitted(&limits, &limit, 1000, 0), 2);
        let other = RateLimit { requests_per_minute: None, ..limit };
        assert_eq!(admitted(&limits, &other, 1000, 0), 99);
    }
}
