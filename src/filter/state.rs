//! What filters of one shard remember from request to request.

use std::sync::Arc;

use crate::filter::auth::PasswordCheck;
use crate::filter::auth::Remembered;
use crate::filter::ledger::Ledger;
use crate::filter::rate_limit::Admission;
use crate::filter::rate_limit::Limits;

/// Counts and results, each with its bound.
#[derive(Debug, Default)]
pub struct FilterState {
    pub(crate) limits: Limits,
    pub(crate) passwords: Remembered,
}

impl FilterState {
    /// The state of a shard that keeps its limits together with others.
    pub fn sharing(ledger: Arc<Ledger>) -> Self {
        Self { limits: Limits::sharing(ledger), ..Self::default() }
    }

    /// The request that was let in has ended.
    pub fn release(&self, admission: Admission) {
        self.limits.release(admission);
    }

    /// What a check that ran elsewhere has found.
    pub fn remember_password(&mut self, check: &PasswordCheck, holds: bool, now_ms: u64) {
        self.passwords.remember(check, holds, now_ms);
    }
}
