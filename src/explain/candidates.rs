//! Which host and which path take a request, and why the others do not.

use std::sync::Arc;

use crate::explain::answer::Candidate;
use crate::explain::answer::HostChoice;
use crate::http::head::RequestHead;
use crate::route::HostPattern;
use crate::route::Lookup;
use crate::route::PathPattern;
use crate::snapshot::Snapshot;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::RuleId;

/// What routing says.
pub(super) struct Routed<'s> {
    pub(super) host: Option<&'s Arc<Host>>,
    pub(super) choice: HostChoice,
    pub(super) candidates: Vec<Candidate>,
    /// The rule that serves it, with the reason.
    pub(super) rule: Option<(RuleId, String)>,
}

/// Routes the request as a shard does, and looks at everything beside the way.
pub(super) fn route<'s>(snapshot: &'s Snapshot, head: &RequestHead<'_, '_>) -> Routed<'s> {
    let name = String::from_utf8_lossy(head.host).to_lowercase();
    let (host, won) = match snapshot.routes.find(head.host, &head.path) {
        Lookup::Rule { host, rule } => (Some(host), Some(*rule)),
        Lookup::NoPath { host } => (Some(host), None),
        Lookup::NoHost => (None, None),
    };
    let entry = host.and_then(|host| snapshot.routes.hosts().find(|(_, other, _)| std::ptr::eq(*other, host)));
    let Some((pattern, host, paths)) = entry else {
        let why = format!("no rule names `{name}`, no wildcard covers it, and there is no rule for every host");
        return Routed {
            host: None,
            choice: HostChoice { pattern: None, why },
            candidates: Vec::new(),
            rule: default_rule(snapshot, None),
        };
    };
    let candidates: Vec<Candidate> = paths.iter().map(|(path, id)| candidate(snapshot, path, *id, won, &head.path)).collect();
    let rule = match won {
        Some(id) => Some((id, why_it_wins(&candidates))),
        None => default_rule(snapshot, Some(host)),
    };
    Routed { host: Some(host), choice: host_choice(pattern, &name), candidates, rule }
}

fn host_choice(pattern: &HostPattern, name: &str) -> HostChoice {
    let (pattern, why) = match pattern {
        HostPattern::Exact(own) => (own.clone(), "the name itself; it beats wildcards and rules for every host".to_owned()),
        HostPattern::Wildcard(parent) => {
            (format!("*.{parent}"), format!("covers `{name}` with its one label, and no rule names that host itself"))
        }
        HostPattern::Any => ("*".to_owned(), format!("the rules for every host: none names `{name}`, no wildcard covers it")),
    };
    HostChoice { pattern: Some(pattern), why }
}

fn candidate(snapshot: &Snapshot, pattern: &PathPattern, id: RuleId, won: Option<RuleId>, path: &[u8]) -> Candidate {
    let source = &snapshot.rule(id).source;
    let matches = pattern.is_match(path);
    let wins = won == Some(id) && matches;
    let why = match (matches, wins) {
        (true, true) => format!("takes {}", meaning(pattern)),
        (true, false) => {
            "takes this path too, but comes later: the longer path wins, at equal length Exact before Prefix before the rest".to_owned()
        }
        (false, _) => format!("takes only {}", meaning(pattern)),
    };
    Candidate {
        path: source.path.to_string(),
        object: format!("Ingress {}/{}", source.namespace, source.ingress),
        service: source.service.to_string(),
        matches,
        wins,
        why,
    }
}

/// Which paths a pattern stands for.
fn meaning(pattern: &PathPattern) -> String {
    let written = pattern.written();
    match pattern {
        PathPattern::Exact(_) => format!("the path `{written}`, its case and its slash included"),
        PathPattern::Prefix(path) if path == "/" => "every path".to_owned(),
        PathPattern::Prefix(_) => format!("paths that begin with the elements of `{written}`"),
        PathPattern::Start(_) => format!("paths that begin with the characters `{written}`"),
        PathPattern::Regex(_) => format!("paths that begin with the expression `{written}`, in any case"),
    }
}

fn why_it_wins(candidates: &[Candidate]) -> String {
    match candidates.iter().filter(|candidate| candidate.matches).count() {
        1 => "the only path of this host that matches".to_owned(),
        count => format!("the first in order of {count} that match"),
    }
}

/// Whether a rule stands for the paths that nobody serves.
fn is_nothing(snapshot: &Snapshot, id: RuleId) -> bool {
    matches!(&snapshot.rule(id).action, Action::Answer(fixed) if fixed.status == 404)
}

/// Who serves what no path takes.
fn default_rule(snapshot: &Snapshot, host: Option<&Host>) -> Option<(RuleId, String)> {
    if let Some(id) = host.and_then(|host| host.default_rule) {
        let rest = if is_nothing(snapshot, id) { "nothing serves the rest of it" } else { "the host has a default backend" };
        return Some((id, format!("no path of this host matches; {rest}")));
    }
    let id = snapshot.default_rule?;
    let missed = if host.is_some() { "no path of this host matches, and other hosts are not asked" } else { "no host takes it" };
    Some((id, format!("{missed}; the default backend serves what nobody else does")))
}
