//! Change or answer a request: redirects, restrictions, limits, and the fields that go up and down.
//!
//! A filter does no I/O and reads no clock: it is given [`Facts`] and says a [`Verdict`]. The order is ingress-nginx's: what
//! `return`s comes before access rules, these before limits, and the choice of a canary last. An ordinary rule passes through in
//! a few comparisons.

pub mod access;
pub mod auth;
pub mod canary;
pub mod cors;
pub mod headers;
pub mod rate_limit;
pub mod redirect;
pub mod rewrite;

use std::net::IpAddr;
use std::sync::Arc;

use crate::http::head::Framing;
use crate::http::head::RequestHead;
use crate::snapshot::cluster::ClusterId;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::Policy;
use crate::snapshot::rule::Rule;
use crate::snapshot::settings::Settings;

pub use auth::PasswordCheck;
pub use rate_limit::ConnectionSlot;

/// What filters may know about a request, all borrowed.
#[derive(Clone, Copy)]
pub struct Facts<'r, 'h, 'b> {
    pub head: &'r RequestHead<'h, 'b>,
    /// The peer, or whom a trusted PROXY header named.
    pub client: IpAddr,
    /// Whether X-Forwarded-* of this peer are believed.
    pub peer_trusted: bool,
    pub tls: bool,
    pub http_port: u16,
    pub https_port: u16,
    pub host: &'r Host,
    pub rule: &'r Rule,
    pub settings: &'r Settings,
    /// Milliseconds of a monotonic clock.
    pub now_ms: u64,
    pub random: u64,
}

impl Facts<'_, '_, '_> {
    /// Whether the client spoke https, to us or to a trusted balancer in front.
    pub fn is_https(&self) -> bool {
        if self.peer_trusted
            && let Some(scheme) = self.head.field("x-forwarded-proto")
        {
            return scheme.eq_ignore_ascii_case(b"https");
        }
        self.tls
    }

    /// The client's address for access rules and limits: of a trusted peer, what it says.
    pub fn client_address(&self) -> IpAddr {
        if !self.peer_trusted {
            return self.client;
        }
        let forwarded = self.head.field("x-forwarded-for");
        let first = forwarded.and_then(|value| value.split(|byte| *byte == b',').next());
        first.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok()).unwrap_or(self.client)
    }
}

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
    /// Given back with [`FilterState::release`] when the request has ended.
    pub connection_slot: Option<ConnectionSlot>,
}

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// One token for `corelane-reason`.
    pub reason: &'static str,
    pub fields: Vec<(&'static str, Vec<u8>)>,
}

impl Answer {
    /// A status with its reason.
    pub fn plain(status: u16, reason: &'static str) -> Self {
        Self { status, reason, fields: Vec::new() }
    }

    /// A redirect to `location`.
    pub fn redirect(status: u16, reason: &'static str, location: Vec<u8>) -> Self {
        Self { status, reason, fields: vec![("Location", location)] }
    }
}

/// What an answer depends on once the request's bytes are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseFacts {
    pub tls: bool,
    pub body: BodyKind,
    /// The Origin that may read the answer, where the rule has CORS and the request named one it allows.
    pub allowed_origin: Option<Vec<u8>>,
    pub cors: Option<Arc<crate::snapshot::rule::Cors>>,
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

    /// Of a request that met none, or could not be read.
    pub fn without_rule(tls: bool) -> Self {
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

/// What filters of one shard remember from request to request; every part is bounded.
#[derive(Debug, Default)]
pub struct FilterState {
    pub(crate) limits: rate_limit::Limits,
    pub(crate) passwords: auth::Remembered,
}

impl FilterState {
    /// The request that held this slot has ended.
    pub fn release(&mut self, slot: ConnectionSlot) {
        self.limits.release(slot);
    }

    /// What a check that ran elsewhere has found.
    pub fn remember_password(&mut self, check: &PasswordCheck, holds: bool, now_ms: u64) {
        self.passwords.remember(check, holds, now_ms);
    }
}

/// Runs every filter of a request.
pub fn on_request(facts: &Facts<'_, '_, '_>, state: &mut FilterState) -> Verdict {
    let policy = &facts.rule.policy;
    if !facts.settings.block.is_empty() && crate::snapshot::rule::contains(&facts.settings.block, facts.client_address()) {
        return Verdict::Answer(Answer::plain(403, "blocked"));
    }
    if let Some(answer) = redirect::early(facts) {
        return Verdict::Answer(answer);
    }
    if let Some(cors) = &policy.cors
        && facts.head.method == b"OPTIONS"
    {
        return Verdict::Answer(cors::preflight(cors));
    }
    if let Some(denied) = &policy.denied {
        return Verdict::Answer(Answer::plain(denied.status, denied.reason));
    }
    if let Some(answer) = redirect::to_tls(facts) {
        return Verdict::Answer(answer);
    }
    let mut drop_authorization = false;
    if policy.basic_auth.is_some() || !policy.allow.is_empty() || !policy.deny.is_empty() {
        match access::check(facts, state) {
            access::Access::Granted { authenticated } => drop_authorization = authenticated,
            access::Access::Refused(answer) => return Verdict::Answer(answer),
            access::Access::Verify(check) => return Verdict::VerifyPassword(check),
        }
    }
    let mut connection_slot = None;
    if let Some(limit) = &policy.rate_limit {
        match state.limits.admit(limit, facts.client_address(), facts.now_ms) {
            Ok(slot) => connection_slot = slot,
            Err(reason) => {
                let mut answer = Answer::plain(limit.status, reason);
                answer.fields.push(("Retry-After", b"1".to_vec()));
                return Verdict::Answer(answer);
            }
        }
    }
    let main = match &facts.rule.action {
        Action::Forward(cluster) => *cluster,
        Action::Answer(fixed) => {
            if let Some(slot) = connection_slot {
                state.release(slot);
            }
            return Verdict::Answer(Answer::plain(fixed.status, fixed.reason));
        }
    };
    let cluster = match &policy.canary {
        Some(rule) if canary::is_chosen(rule, facts.head, facts.random) => rule.cluster,
        _ => main,
    };
    let rewritten = policy.rewrite.as_ref().and_then(|rewrite| rewrite::apply(rewrite, &facts.head.path));
    Verdict::Continue(Passage { cluster, drop_authorization, rewritten, connection_slot })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::http::h1::parse;
    use crate::http::head::HeadLimits;
    use crate::http::head::field_storage;
    use crate::snapshot::rule::FixedAnswer;
    use crate::snapshot::rule::RuleSource;
    use crate::snapshot::rule::TlsRedirect;

    /// A rule to cluster 1 with this policy.
    pub(crate) fn rule(policy: Policy) -> Rule {
        let source =
            RuleSource { namespace: "ns".into(), ingress: "ing".into(), service: "svc".into(), host: "h".into(), path: "Prefix /".into() };
        Rule { source, action: Action::Forward(ClusterId(1)), policy }
    }

    /// What `look` sees of a request with this rule; `adjust` changes the facts before.
    pub(crate) fn with_facts<T>(
        wire: &str,
        rule: &Rule,
        adjust: impl FnOnce(&mut Facts<'_, '_, '_>),
        look: impl FnOnce(&Facts<'_, '_, '_>) -> T,
    ) -> T {
        let mut storage = field_storage();
        let parsed = parse::request(wire.as_bytes(), &mut storage, &HeadLimits::default());
        let Ok(Some(head)) = parsed else { panic!("{wire:?}: {parsed:?}") };
        let host = Host { name: "h".into(), tls: true, app_root: None, default_rule: None };
        let settings = Settings::default();
        let mut facts = Facts {
            head: &head,
            client: [192, 0, 2, 7].into(),
            peer_trusted: false,
            tls: false,
            http_port: 80,
            https_port: 443,
            host: &host,
            rule,
            settings: &settings,
            now_ms: 1000,
            random: 0,
        };
        adjust(&mut facts);
        look(&facts)
    }

    fn verdict(wire: &str, policy: Policy) -> Result<Passage, Answer> {
        let rule = rule(policy);
        with_facts(
            wire,
            &rule,
            |_| {},
            |facts| match on_request(facts, &mut FilterState::default()) {
                Verdict::Continue(passage) => Ok(passage),
                Verdict::Answer(answer) => Err(answer),
                Verdict::VerifyPassword(_) => panic!("no slow hash here"),
            },
        )
    }

    /// An ordinary request goes to its cluster untouched.
    #[test]
    fn an_ordinary_request_passes() {
        let passage = verdict("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", Policy::default());
        let Ok(passage) = passage else { panic!("{passage:?}") };
        assert_eq!(passage.cluster, ClusterId(1));
        assert!(!passage.drop_authorization && passage.rewritten.is_none() && passage.connection_slot.is_none());
    }

    /// A restriction that cannot be honoured refuses everything, also before the redirect to https.
    #[test]
    fn a_denied_rule_refuses_everything() {
        let denied = Some(FixedAnswer { status: 503, reason: "unsupported_restriction" });
        let policy = Policy { denied, tls_redirect: TlsRedirect::On { status: 308, keep_trailing_slash: false }, ..Policy::default() };
        let answer = verdict("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", policy);
        assert_eq!(answer.err().map(|answer| answer.status), Some(503));
    }
}
