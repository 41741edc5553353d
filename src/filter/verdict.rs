//! What filters decide about a request.

use crate::filter::answer::Answer;
use crate::filter::auth::PasswordCheck;
use crate::filter::rate_limit::Admission;
use crate::snapshot::cluster::ClusterId;

/// What a filter decides.
#[derive(Debug)]
pub enum Verdict {
    Continue(Passage),
    Answer(Answer),
    /// The hash is too slow for a data core: it is checked elsewhere, and the request comes again.
    VerifyPassword(PasswordCheck),
}

/// A request that goes on to an endpoint.
#[derive(Debug)]
pub struct Passage {
    pub cluster: ClusterId,
    /// Credentials that were for us are not for the upstream.
    pub drop_authorization: bool,
    /// The path the upstream sees, where it is not the one that was asked for.
    pub rewritten: Option<Vec<u8>>,
    /// Given back with [`FilterState::release`](crate::filter::FilterState::release) when the request has ended.
    pub admission: Option<Admission>,
}
