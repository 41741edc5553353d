//! Change or answer a request: redirects, restrictions, limits, and the fields that go up and down.
//!
//! A filter does no I/O and reads no clock: it is given [`Facts`] and says a [`Verdict`]. The order is ingress-nginx's: what
//! `return`s comes first, then limits, then access rules, so that guesses at passwords are limited too, and the choice of a canary
//! last. An ordinary rule passes through in a few comparisons.

pub mod access;
pub mod answer;
pub mod auth;
pub mod canary;
pub mod cors;
pub mod facts;
pub mod headers;
pub mod ledger;
pub mod rate_limit;
pub mod redirect;
pub mod response;
pub mod rewrite;
pub mod state;
pub mod verdict;

use crate::filter::access::Access;
use crate::snapshot::rule;
use crate::snapshot::rule::Action;

pub use answer::Answer;
pub use auth::PasswordCheck;
pub use facts::Facts;
pub use rate_limit::Admission;
pub use response::AnswerTo;
pub use response::BodyKind;
pub use response::ResponseFacts;
pub use response::ResponseTo;
pub use state::FilterState;
pub use verdict::Passage;
pub use verdict::Verdict;

/// Runs every filter of a request.
///
/// `admission` is what the limits said before a password was verified, and is left there for the next time: a request counts once.
/// Where it is still there when the request is answered, its owner gives it back.
pub fn on_request(facts: &Facts<'_, '_, '_>, state: &mut FilterState, admission: &mut Option<Admission>) -> Verdict {
    let policy = &facts.rule.policy;
    if !facts.settings.block.is_empty() && rule::contains(&facts.settings.block, facts.client_address()) {
        return Verdict::Answer(Answer::plain(403, "blocked"));
    }
    if let Some(answer) = redirect::early(facts) {
        return Verdict::Answer(answer);
    }
    if let Some(cors) = &policy.cors
        && cors::is_preflight(cors, facts.head)
    {
        return Verdict::Answer(cors::preflight());
    }
    if let Some(denied) = &policy.denied {
        return Verdict::Answer(Answer::plain(denied.status, denied.reason));
    }
    if let Some(answer) = redirect::to_tls(facts) {
        return Verdict::Answer(answer);
    }
    if let Some(limit) = &policy.rate_limit
        && admission.is_none()
    {
        match state.limits.admit(limit, facts.client_address(), facts.now_us) {
            Ok(admitted) => *admission = Some(admitted),
            Err(over) => return Verdict::Answer(over.answer(limit)),
        }
    }
    let mut drop_authorization = false;
    if policy.basic_auth.is_some() || !policy.allow.is_empty() || !policy.deny.is_empty() {
        match access::check(facts, state) {
            Access::Granted { authenticated } => drop_authorization = authenticated,
            Access::Refused(answer) => return Verdict::Answer(answer),
            Access::Verify(check) => return Verdict::VerifyPassword(check),
        }
    }
    let main = match &facts.rule.action {
        Action::Forward(cluster) => *cluster,
        Action::Answer(fixed) => return Verdict::Answer(Answer::plain(fixed.status, fixed.reason)),
    };
    let cluster = match &policy.canary {
        Some(rule) if canary::is_chosen(rule, facts.head, facts.random) => rule.cluster,
        _ => main,
    };
    let rewritten = policy.rewrite.as_ref().and_then(|rewrite| rewrite::apply(rewrite, &facts.head.path));
    Verdict::Continue(Passage { cluster, drop_authorization, rewritten, admission: admission.take() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::http::h1::parse;
    use crate::http::head::HeadLimits;
    use crate::http::head::field_storage;
    use crate::snapshot::cluster::ClusterId;
    use crate::snapshot::rule::BasicAuth;
    use crate::snapshot::rule::FixedAnswer;
    use crate::snapshot::rule::Host;
    use crate::snapshot::rule::Policy;
    use crate::snapshot::rule::RateLimit;
    use crate::snapshot::rule::Rule;
    use crate::snapshot::rule::RuleSource;
    use crate::snapshot::rule::TlsRedirect;
    use crate::snapshot::settings::Settings;
    use std::sync::Arc;

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
            came_over_https: false,
            http_port: 80,
            https_port: 443,
            host: &host,
            rule,
            settings: &settings,
            now_us: 1_000_000,
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
            |facts| match on_request(facts, &mut FilterState::default(), &mut None) {
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
        assert!(!passage.drop_authorization && passage.rewritten.is_none() && passage.admission.is_none());
    }

    /// Guesses at a password are limited as any other request is, and a request that waits for its check counts once.
    #[test]
    fn limits_come_before_passwords() {
        let users = [("u".to_owned(), format!("$2y$05${}", "a".repeat(53)))].into();
        let limit = RateLimit {
            key: "ns/ing".into(),
            requests_per_second: Some(1),
            requests_per_minute: None,
            connections: Some(1),
            burst_multiplier: 0,
            exempt: Vec::new(),
            request_status: 503,
            connection_status: 503,
        };
        let policy = Policy {
            basic_auth: Some(Arc::new(BasicAuth { realm: "r".to_owned(), users })),
            rate_limit: Some(limit.into()),
            ..Policy::default()
        };
        let wire = "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic dTpw\r\n\r\n";
        with_facts(
            wire,
            &rule(policy),
            |_| {},
            |facts| {
                let (mut state, mut admission) = (FilterState::default(), None);
                let Verdict::VerifyPassword(check) = on_request(facts, &mut state, &mut admission) else { panic!("no slow check") };
                assert!(matches!(on_request(facts, &mut state, &mut None), Verdict::Answer(answer) if answer.status == 503));
                state.remember_password(&check, false, facts.now_ms());
                assert!(matches!(on_request(facts, &mut state, &mut admission), Verdict::Answer(answer) if answer.status == 401));
                state.release(admission.expect("it was let in"));
            },
        );
    }

    /// A restriction that cannot be honoured refuses everything, also before the redirect to https.
    #[test]
    fn a_denied_rule_refuses_everything() {
        let denied = Some(FixedAnswer { status: 503, reason: "unsupported_restriction" });
        let policy = Policy {
            denied,
            tls_redirect: TlsRedirect::On { status: 308, keep_trailing_slash: false, with_port: false },
            ..Policy::default()
        };
        let answer = verdict("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", policy);
        assert_eq!(answer.err().map(|answer| answer.status), Some(503));
    }
}
