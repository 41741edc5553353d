//! What the filters do to a request, in the order of `filter::on_request`, each in one sentence.

use std::fmt::Write;

use crate::explain::answer::Step;
use crate::explain::answer::counted;
use crate::filter::Answer;
use crate::filter::Facts;
use crate::filter::FilterState;
use crate::filter::access;
use crate::filter::access::Access;
use crate::filter::canary;
use crate::filter::cors;
use crate::filter::redirect;
use crate::filter::rewrite;
use crate::http::head::Framing;
use crate::snapshot::Snapshot;
use crate::snapshot::rule;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::Canary;
use crate::snapshot::rule::RateLimit;
use crate::snapshot::rule::TlsRedirect;

/// Every step up to the one that answers, if one does.
pub(super) fn of(facts: &Facts<'_, '_, '_>, snapshot: &Snapshot) -> Vec<Step> {
    let mut steps = Vec::new();
    let stages: [&dyn Fn() -> Option<Step>; 11] = [
        &|| bounded(facts),
        &|| blocked(facts),
        &|| redirected(facts),
        &|| preflight(facts),
        &|| denied(facts),
        &|| to_tls(facts),
        &|| limited(facts),
        &|| admitted(facts),
        &|| fixed(facts),
        &|| canaried(facts, snapshot),
        &|| rewritten(facts),
    ];
    for stage in stages {
        let Some(step) = stage() else { continue };
        let ends = step.ends;
        steps.push(step);
        if ends {
            return steps;
        }
    }
    steps.extend(timeouts_and_fields(facts));
    steps
}

fn ends(filter: &'static str, says: String) -> Step {
    Step { filter, says, ends: true }
}

fn passes(filter: &'static str, says: String) -> Step {
    Step { filter, says, ends: false }
}

fn blocked(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let block = &facts.settings.block;
    if block.is_empty() {
        return None;
    }
    let client = facts.client_address();
    Some(match rule::contains(block, client) {
        true => ends("block-cidrs", format!("{client} is blocked on every host: 403")),
        false => passes("block-cidrs", format!("{client} is not in {}", counted(block.len(), "blocked range"))),
    })
}

fn redirected(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let answer = redirect::early(facts)?;
    let filter = if answer.reason == "app_root" { "app-root" } else { "redirect" };
    Some(ends(filter, format!("{} to {}", answer.status, location(&answer))))
}

fn preflight(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let cors = facts.rule.policy.cors.as_ref()?;
    cors::is_preflight(cors, facts.head)
        .then(|| ends("enable-cors", "OPTIONS of an allowed origin is a preflight and never goes upstream: 204".to_owned()))
}

fn denied(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let denied = facts.rule.policy.denied.as_ref()?;
    Some(ends("restriction", format!("one that cannot be honoured ({}): {} for everybody", denied.reason, denied.status)))
}

fn to_tls(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let TlsRedirect::On { status, .. } = facts.rule.policy.tls_redirect else { return None };
    Some(match redirect::to_tls(facts) {
        Some(answer) => ends("ssl-redirect", format!("{status} to {}", location(&answer))),
        None if facts.is_https() => passes("ssl-redirect", "came over https already".to_owned()),
        None => passes("ssl-redirect", "this path is exempt".to_owned()),
    })
}

fn admitted(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let policy = &facts.rule.policy;
    let lists = !policy.allow.is_empty() || !policy.deny.is_empty();
    let filter = match (lists, policy.basic_auth.is_some()) {
        (false, false) => return None,
        (true, false) => "whitelist-source-range, denylist-source-range",
        (false, true) => "auth-type: basic",
        (true, true) => "source ranges and auth-type: basic",
    };
    let client = facts.client_address();
    let users = policy.basic_auth.as_ref().map_or(0, |login| login.users.len());
    let mut on = String::new();
    if lists {
        let (allowed, denied) = (policy.allow.len(), counted(policy.deny.len(), "denied range"));
        let _infallible = write!(on, "{client} against {allowed} allowed and {denied}");
    }
    if users > 0 {
        let joint = if on.is_empty() { "" } else { ", " };
        let satisfy = if lists && policy.satisfy_any { ", one of both is enough" } else { "" };
        let _infallible = write!(on, "{joint}credentials against {}{satisfy}", counted(users, "user"));
    }
    Some(match access::check(facts, &mut FilterState::default()) {
        Access::Granted { authenticated: true } => passes(filter, format!("{on}: admitted, Authorization stays here")),
        Access::Granted { authenticated: false } => passes(filter, format!("{on}: admitted")),
        Access::Refused(answer) => ends(filter, format!("{on}: {}", answer.status)),
        Access::Verify(check) if !check.is_long() => match check.run() {
            true => passes(filter, format!("{on}: admitted, Authorization stays here")),
            false => ends(filter, format!("{on}: 401")),
        },
        Access::Verify(_) => passes(filter, format!("{on}: admitted if the password is right; its hash is slow and not checked here")),
    })
}

fn limited(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let limit = facts.rule.policy.rate_limit.as_ref()?;
    let client = facts.client_address();
    if rule::contains(&limit.exempt, client) {
        return Some(passes("limit-*", format!("{client} is exempt")));
    }
    Some(passes("limit-*", format!("{client} may make {}; over it {}", allowance(limit), limit.request_status)))
}

fn allowance(limit: &RateLimit) -> String {
    let burst = limit.burst_multiplier;
    let per = |rate: Option<u32>, unit: &str| {
        rate.map(|rate| format!("{} a {unit} with a burst of {}", counted(rate as usize, "request"), rate.saturating_mul(burst)))
    };
    let connections = limit.connections.map(|most| format!("{} at a time", counted(most as usize, "request")));
    let all: Vec<String> =
        [per(limit.requests_per_second, "second"), per(limit.requests_per_minute, "minute"), connections].into_iter().flatten().collect();
    all.join(", ")
}

fn fixed(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    match &facts.rule.action {
        Action::Forward(_) => None,
        Action::Answer(fixed) if fixed.status == 404 => {
            Some(ends("backend", format!("there is none for this path ({}): 404", fixed.reason)))
        }
        Action::Answer(fixed) => Some(ends("backend", format!("cannot be served as written ({}): {}", fixed.reason, fixed.status))),
    }
}

fn canaried(facts: &Facts<'_, '_, '_>, snapshot: &Snapshot) -> Option<Step> {
    let rule = facts.rule.policy.canary.as_ref()?;
    let name = snapshot.cluster(rule.cluster).map_or("a cluster that is gone", |cluster| &*cluster.name);
    let says = match forced(rule, facts) {
        Some(true) => format!("the request asks for the canary: {name}"),
        Some(false) => format!("the request does not go to {name}"),
        None => format!("{} of {} such requests go to {name}; shown is where the others go", rule.weight, rule.weight_total),
    };
    Some(passes("canary", says))
}

/// Whether the request goes to the canary whatever chance says; `None` where chance decides.
fn forced(rule: &Canary, facts: &Facts<'_, '_, '_>) -> Option<bool> {
    let least = canary::is_chosen(rule, facts.head, 0);
    let most = canary::is_chosen(rule, facts.head, u64::from(rule.weight_total.max(1)) - 1);
    (least == most).then_some(least)
}

fn rewritten(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let rule = facts.rule.policy.rewrite.as_ref()?;
    let before = String::from_utf8_lossy(&facts.head.path);
    Some(passes(
        "rewrite-target",
        match rewrite::apply(rule, &facts.head.path) {
            Some(after) => format!("{before} becomes {}", String::from_utf8_lossy(&after)),
            None => format!("{before} stays: `{}` does not match it", rule.pattern),
        },
    ))
}

/// The bound of the content, which is looked at before any filter.
fn bounded(facts: &Facts<'_, '_, '_>) -> Option<Step> {
    let most = facts.rule.policy.body_bytes_max?;
    let ends = matches!(facts.head.framing, Framing::Length(length) if length > most);
    Some(Step { filter: "proxy-body-size", says: format!("content over {most} bytes is refused with 413"), ends })
}

/// What acts on the way to the upstream and on the answer.
fn timeouts_and_fields(facts: &Facts<'_, '_, '_>) -> Vec<Step> {
    let policy = &facts.rule.policy;
    let mut steps = Vec::new();
    if let Some(cors) = &policy.cors {
        steps.push(passes("enable-cors", format!("the answer may be read from {}", cors.origins.join(", "))));
    }
    if !policy.response_fields.is_empty() {
        let names: Vec<&str> = policy.response_fields.iter().map(|(name, _)| &**name).collect();
        steps.push(passes("custom-headers", format!("the answer gets {}", names.join(", "))));
    }
    let (timeouts, retry) = (&policy.timeouts, &policy.retry);
    let says = format!(
        "connect {} s, read {} s, send {} s; up to {} tries",
        timeouts.connect.as_secs_f32(),
        timeouts.read.as_secs_f32(),
        timeouts.send.as_secs_f32(),
        retry.tries
    );
    steps.push(passes("proxy-*-timeout, proxy-next-upstream", says));
    steps
}

fn location(answer: &Answer) -> String {
    let value = answer.fields.iter().find(|(name, _)| *name == "Location");
    value.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}
