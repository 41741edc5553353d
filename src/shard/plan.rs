//! What is left of a request when the bytes of its head are gone: enough to forward it, or to answer it.

use crate::filter;
use crate::filter::ResponseFacts;
use crate::http::head::Framing;
use crate::http::head::Version;
use crate::snapshot::cluster::ClusterId;
use crate::snapshot::rule::RuleId;

/// A request that goes to an endpoint: everything that outlives the bytes it was read from.
pub(crate) struct Plan {
    /// The head for the upstream, complete.
    pub(crate) head: Vec<u8>,
    /// Bytes of the client's head.
    pub(crate) head_bytes: usize,
    pub(crate) framing: Framing,
    pub(crate) rule: RuleId,
    pub(crate) cluster: ClusterId,
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) is_head: bool,
    pub(crate) idempotent: bool,
    pub(crate) expects_continue: bool,
    pub(crate) upgrades: bool,
    pub(crate) facts: ResponseFacts,
    pub(crate) admission: Option<filter::Admission>,
}

/// What an answer of our own must know about the request.
pub(crate) struct Asker {
    pub(crate) head_bytes: usize,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) is_head: bool,
    pub(crate) version: Version,
    pub(crate) facts: ResponseFacts,
}
