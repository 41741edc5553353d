//! How many retries may run at once towards endpoints that have just failed themselves.
//!
//! One dead endpoint among healthy ones costs nobody a request: its requests go on to the others without limit. Where the others
//! fail as well, retries would multiply the load on what is left: then they are bounded (faults of all endpoints at once).

/// Retries that are always allowed at the same time.
const RETRIES_MIN: u32 = 3;
/// One retry for this many requests in flight.
const REQUESTS_PER_RETRY: u32 = 5;

/// Requests and retries in flight on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryBudget {
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// A request has begun.
    pub fn begin(&mut self) {
        self.requests += 1;
    }

    /// A request has ended, with the `retries` it was granted.
    pub fn end(&mut self, retries: u32) {
        self.requests = self.requests.saturating_sub(1);
        self.retries = self.retries.saturating_sub(retries);
    }

    /// Grants a retry at an endpoint that is `suspect`, if there is room; counts it until [`Self::end`].
    pub fn grant(&mut self, suspect: bool) -> bool {
        if !suspect {
            return true;
        }
        if self.retries >= RETRIES_MIN.max(self.requests / REQUESTS_PER_RETRY) {
            return false;
        }
        self.retries += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Retries at good endpoints are free; at failing ones a fifth of the requests may be tried again, and three always.
    #[test]
    fn retries_at_failing_endpoints_are_bounded() {
        for (requests, granted) in [(1, 3), (10, 3), (20, 4), (100, 20)] {
            let mut budget = RetryBudget::default();
            (0..requests).for_each(|_| budget.begin());
            assert_eq!((0..requests.max(10)).filter(|_| budget.grant(true)).count(), granted, "{requests}");
            assert!(budget.grant(false));
        }
    }

    /// A request that ends gives back what it was granted, and no more.
    #[test]
    fn an_ended_request_gives_its_retries_back() {
        let mut budget = RetryBudget::default();
        budget.begin();
        let granted = (0..9).filter(|_| budget.grant(true)).count() as u32;
        budget.end(granted);
        assert_eq!(budget, RetryBudget::default());
        budget.end(5);
        assert_eq!(budget, RetryBudget::default());
    }
}
