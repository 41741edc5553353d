//! Who serves which host and path: the oldest Ingress that asks, with its canary.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use crate::route::HostPattern;
use crate::snapshot::finding::Finding;
use crate::translate::about::About;
use crate::translate::about::quoted;
use crate::translate::backend::Backend;
use crate::translate::ingress::HostRule;
use crate::translate::ingress::PathRule;
use crate::translate::ingress::Reading;
use crate::translate::path;
use crate::translate::path::PathKind;

/// Everything that was asked for and granted.
#[derive(Debug, Default)]
pub(crate) struct Claims<'r> {
    pub(crate) hosts: BTreeMap<HostPattern, HostClaims<'r>>,
    /// What serves requests that nothing else matches.
    pub(crate) catch_all: Option<DefaultClaim<'r>>,
    /// Further names of hosts, each free of an Ingress of its own.
    pub(crate) aliases: BTreeMap<String, HostPattern>,
}

/// What was granted of one host.
#[derive(Debug)]
pub(crate) struct HostClaims<'r> {
    /// As the oldest Ingress writes it.
    pub(crate) written: Arc<str>,
    /// Every Ingress with a rule for it, the oldest first.
    pub(crate) readings: Vec<&'r Reading>,
    pub(crate) paths: Vec<Claim<'r>>,
    /// The oldest Ingress that has a default backend: it serves what no path matches.
    pub(crate) default: Option<DefaultClaim<'r>>,
    by_path: HashMap<(PathKind, &'r str), usize>,
}

/// A path and who has it.
#[derive(Debug)]
pub(crate) struct Claim<'r> {
    pub(crate) reading: &'r Reading,
    pub(crate) rule: &'r PathRule,
    pub(crate) canary: Option<CanaryClaim<'r>>,
}

/// A default backend and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DefaultClaim<'r> {
    pub(crate) reading: &'r Reading,
    pub(crate) backend: &'r Backend,
}

/// The backend of a canary Ingress for a path of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CanaryClaim<'r> {
    pub(crate) reading: &'r Reading,
    pub(crate) backend: &'r Backend,
    pub(crate) field: &'r str,
}

impl<'r> HostClaims<'r> {
    fn new(written: Arc<str>) -> Self {
        Self { written, readings: Vec::new(), paths: Vec::new(), default: None, by_path: HashMap::new() }
    }

    /// The Ingresses that may say what holds for the whole host: those in the namespace of the oldest.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &'r Reading> {
        let owner = self.owner();
        self.readings.iter().copied().filter(move |reading| Some(reading.key.namespace.as_str()) == owner)
    }

    /// The namespace of the oldest Ingress.
    pub(crate) fn owner(&self) -> Option<&'r str> {
        self.readings.first().map(|reading| reading.key.namespace.as_str())
    }

    /// The Ingress that turns every path of the host into an expression, whoever it belongs to, as in ingress-nginx.
    pub(crate) fn regex_by(&self) -> Option<&'r Reading> {
        self.paths.iter().find(|claim| claim.is_regex()).map(|claim| claim.reading)
    }
}

impl Claim<'_> {
    fn is_regex(&self) -> bool {
        let annotations = &self.reading.annotations;
        let rewrites = |target: &String| path::rewritten(self.rule.kind, &self.rule.path, target).is_some();
        annotations.use_regex || annotations.rewrite_target.as_ref().is_some_and(rewrites)
    }
}

/// Grants what `readings`, in their order, ask for; who comes too late is told who has it.
pub(crate) fn grant<'r>(readings: &'r [Reading], findings: &mut Vec<Finding>) -> Claims<'r> {
    let mut claims = Claims::default();
    for reading in readings.iter().filter(|reading| reading.annotations.canary.is_none()) {
        let mut about = About::new("Ingress", &reading.key, findings);
        for rule in &reading.rules {
            grant_host(&mut claims, reading, rule, &mut about);
        }
        if let Some(backend) = reading.default_backend.as_ref().filter(|_| reading.rules.is_empty()) {
            grant_catch_all(&mut claims, reading, backend, &mut about);
        }
    }
    for reading in readings.iter().filter(|reading| reading.annotations.canary.is_some()) {
        attach_canary(&mut claims, reading, &mut About::new("Ingress", &reading.key, findings));
    }
    claims.aliases = grant_aliases(&claims.hosts, findings);
    claims
}

fn grant_host<'r>(claims: &mut Claims<'r>, reading: &'r Reading, rule: &'r HostRule, about: &mut About<'_>) {
    let host = claims.hosts.entry(rule.host.clone()).or_insert_with(|| HostClaims::new(rule.written.clone()));
    if host.readings.last().is_none_or(|last| !std::ptr::eq(*last, reading)) {
        host.readings.push(reading);
    }
    if host.default.is_none() {
        host.default = reading.default_backend.as_ref().map(|backend| DefaultClaim { reading, backend });
    }
    for rule in &rule.paths {
        let next = host.paths.len();
        let position = *host.by_path.entry((rule.kind, rule.path.as_str())).or_insert(next);
        if position == next {
            host.paths.push(Claim { reading, rule, canary: None });
            continue;
        }
        let winner = &host.paths[position].reading.key;
        let who = if *winner == reading.key { "this Ingress itself".to_owned() } else { format!("Ingress {winner}") };
        let message = format!(
            "{} {} of host {} is already served by {who}",
            rule.kind.name(),
            quoted(&rule.path),
            if host.written.is_empty() { "*" } else { &host.written },
        );
        about.error(&rule.field, "PathConflict", message, "Remove one of the two: the older one is served.");
    }
}

fn grant_catch_all<'r>(claims: &mut Claims<'r>, reading: &'r Reading, backend: &'r Backend, about: &mut About<'_>) {
    match &claims.catch_all {
        None => claims.catch_all = Some(DefaultClaim { reading, backend }),
        Some(winner) => {
            let message = format!("Ingress {} already is the default of every host", winner.reading.key);
            let cure = "Give this Ingress rules, or remove one of the two: the older one is served.";
            about.error("spec.defaultBackend", "DefaultBackendConflict", message, cure);
        }
    }
}

/// Only the first canary of a path counts, and only where somebody else serves the path.
fn attach_canary<'r>(claims: &mut Claims<'r>, reading: &'r Reading, about: &mut About<'_>) {
    for host_rule in &reading.rules {
        for rule in &host_rule.paths {
            let host = claims.hosts.get_mut(&host_rule.host);
            let main = host.and_then(|host| {
                let position = *host.by_path.get(&(rule.kind, rule.path.as_str()))?;
                host.paths.get_mut(position)
            });
            match main {
                None => {
                    let message = format!("no other Ingress serves {} {} of this host", rule.kind.name(), quoted(&rule.path));
                    let cure = "Give both Ingresses the same host, path and pathType; the canary gets no requests meanwhile.";
                    about.warning(&rule.field, "CanaryWithoutMain", message, cure);
                }
                Some(Claim { canary: Some(first), .. }) => {
                    let message = format!("Ingress {} already is the canary of this path", first.reading.key);
                    about.warning(&rule.field, "CanaryConflict", message, "Remove one of the two: only the first gets requests.");
                }
                Some(main) => main.canary = Some(CanaryClaim { reading, backend: &rule.backend, field: &rule.field }),
            }
        }
    }
}

/// The first Ingress of a host that has aliases names them all; a host with rules of its own is nobody's alias.
fn grant_aliases(hosts: &BTreeMap<HostPattern, HostClaims<'_>>, findings: &mut Vec<Finding>) -> BTreeMap<String, HostPattern> {
    let mut aliases: BTreeMap<String, HostPattern> = BTreeMap::new();
    for (pattern, host) in hosts.iter().filter(|(pattern, _)| **pattern != HostPattern::Any) {
        let Some(reading) = host.owners().find(|reading| !reading.annotations.server_aliases.is_empty()) else { continue };
        let mut about = About::new("Ingress", &reading.key, findings);
        for alias in &reading.annotations.server_aliases {
            let taken = hosts.contains_key(&HostPattern::Exact(alias.clone()));
            let by_alias = aliases.get(alias).is_some_and(|other| other != pattern);
            if taken || by_alias {
                let message =
                    format!("the alias {} is already served as {}", quoted(alias), if taken { "a host" } else { "another alias" });
                let field = "metadata.annotations[server-alias]";
                about.warning(field, "AliasConflict", message, "Remove the alias: it is ignored.");
            } else {
                aliases.insert(alias.clone(), pattern.clone());
            }
        }
    }
    aliases
}
