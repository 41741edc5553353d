//! What an answer depends on, the forwarded one and our own.

use std::sync::Arc;

use crate::filter::cors;
use crate::filter::facts::Facts;
use crate::http::head::Framing;
use crate::http::head::RequestHead;
use crate::snapshot::rule::Cors;
use crate::snapshot::rule::Policy;
use crate::snapshot::settings::Settings;

/// What an answer depends on once the request's bytes are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseFacts {
    pub tls: bool,
    pub body: BodyKind,
    /// The Origin that may read the answer, where the rule has CORS and the request named one it allows.
    pub allowed_origin: Option<Vec<u8>>,
    pub cors: Option<Arc<Cors>>,
}

/// In which form a client wants to read an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    #[default]
    Text,
    Html,
    Json,
}

impl ResponseFacts {
    /// Of a request that met a rule.
    pub fn new(facts: &Facts<'_, '_, '_>) -> Self {
        let cors = facts.rule.policy.cors.clone();
        let allowed_origin = cors.as_ref().and_then(|cors| cors::allowed_origin(cors, facts.head));
        // Only answers of our own ask for the body's form: it is looked up where the policy can answer at all.
        Self { tls: facts.tls, body: BodyKind::wanted(facts.head), allowed_origin, cors }
    }

    /// Of a request that met none.
    pub fn without_rule(head: &RequestHead<'_, '_>, tls: bool) -> Self {
        Self { body: BodyKind::wanted(head), ..Self::unread(tls) }
    }

    /// Of a request that could not be read.
    pub fn unread(tls: bool) -> Self {
        Self { tls, ..Self::default() }
    }
}

impl BodyKind {
    fn wanted(head: &RequestHead<'_, '_>) -> Self {
        let Some(accept) = head.field("accept") else { return Self::Text };
        let contains = |word: &[u8]| accept.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        if contains(b"text/html") {
            Self::Html
        } else if contains(b"application/json") || contains(b"+json") {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// Everything that shapes the head of a forwarded answer.
pub struct ResponseTo<'r> {
    pub facts: &'r ResponseFacts,
    pub policy: &'r Policy,
    pub settings: &'r Settings,
    pub framing: Framing,
    pub keep_alive: bool,
    pub http10: bool,
    /// The answer to an upgrade that was accepted.
    pub upgrade: bool,
}

/// Everything that shapes an answer of our own.
pub struct AnswerTo<'r> {
    pub facts: &'r ResponseFacts,
    pub settings: &'r Settings,
    pub keep_alive: bool,
    pub http10: bool,
    pub head_only: bool,
}
