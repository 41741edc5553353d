//! Who serves which host and path: the oldest Ingress that asks, with its canary.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use crate::route::HostPattern;
use crate::snapshot::finding::Finding;
use crate::snapshot::rule::FixedAnswer;
use crate::translate::about::About;
use crate::translate::about::quoted;
use crate::translate::backend::Backend;
use crate::translate::host;
use crate::translate::ingress::HostRule;
use crate::translate::ingress::PathRule;
use crate::translate::ingress::Reading;
use crate::translate::options::Options;
use crate::translate::path::PathKind;

/// Everything that was asked for and granted.
#[derive(Debug, Default)]
pub(crate) struct Claims<'r> {
    pub(crate) hosts: BTreeMap<HostPattern, HostClaims<'r>>,
    /// What serves requests that nothing else matches.
    pub(crate) catch_all: Option<DefaultClaim<'r>>,
    /// Further names of hosts, each free of an Ingress of its own.
    pub(crate) aliases: BTreeMap<HostPattern, HostPattern>,
}

/// What was granted of one host.
#[derive(Debug)]
pub(crate) struct HostClaims<'r> {
    /// As the oldest Ingress writes it.
    pub(crate) written: Arc<str>,
    /// Every Ingress with a rule for it, the oldest first.
    pub(crate) readings: Vec<&'r Reading>,
    pub(crate) paths: Vec<Claim<'r>>,
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
        Self { written, readings: Vec::new(), paths: Vec::new(), by_path: HashMap::new() }
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

    /// What every request to the host is refused with, where an owner asks for what cannot be honoured for the whole of it.
    pub(crate) fn denied(&self) -> Option<FixedAnswer> {
        self.owners().find_map(|reading| reading.annotations.host_denied.clone())
    }

    /// What serves the paths that nobody asked for: the default backend of the oldest owner that has one.
    pub(crate) fn default(&self) -> Option<DefaultClaim<'r>> {
        self.owners().find_map(|reading| reading.default_backend.as_ref().map(|backend| DefaultClaim { reading, backend }))
    }

    /// The Ingress that turns every path of the host into an expression, whoever it belongs to, as in ingress-nginx.
    pub(crate) fn regex_by(&self) -> Option<&'r Reading> {
        self.paths.iter().find(|claim| claim.is_regex()).map(|claim| claim.reading)
    }
}

impl Claim<'_> {
    fn is_regex(&self) -> bool {
        self.reading.annotations.makes_expression(self.rule.kind, &self.rule.path)
    }
}

/// Grants what `readings`, in their order, ask for; who comes too late is told who has it.
pub(crate) fn grant<'r>(readings: &'r [Reading], options: &Options, findings: &mut Vec<Finding>) -> Claims<'r> {
    let mut claims = Claims::default();
    for reading in readings.iter().filter(|reading| reading.annotations.canary.is_none()) {
        let mut about = About::new("Ingress", &reading.key, findings);
        for rule in &reading.rules {
            grant_host(&mut claims, reading, rule, &mut about);
        }
        if let Some(backend) = reading.default_backend.as_ref().filter(|_| reading.is_catch_all) {
            grant_catch_all(&mut claims, reading, backend, &mut about);
        }
    }
    for reading in readings.iter().filter(|reading| reading.annotations.canary.is_some()) {
        attach_canary(&mut claims, reading, &mut About::new("Ingress", &reading.key, findings));
    }
    claims.aliases = grant_aliases(&claims.hosts, options, findings);
    claims
}

fn grant_host<'r>(claims: &mut Claims<'r>, reading: &'r Reading, rule: &'r HostRule, about: &mut About<'_>) {
    let host = claims.hosts.entry(rule.host.clone()).or_insert_with(|| HostClaims::new(rule.written.clone()));
    if host.readings.last().is_none_or(|last| !std::ptr::eq(*last, reading)) {
        host.readings.push(reading);
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

/// Only the first canary of a path counts, and only where another Ingress of its namespace serves the path: nobody takes a share of
/// the requests of somebody else.
fn attach_canary<'r>(claims: &mut Claims<'r>, reading: &'r Reading, about: &mut About<'_>) {
    const CURE: &str = "Give both Ingresses the same namespace, host, path and pathType; the canary gets no requests meanwhile.";
    if reading.is_catch_all {
        about.warning("spec.rules", "CanaryWithoutMain", "a canary without rules is the canary of nothing", CURE);
    }
    for (host_rule, rule) in reading.rules.iter().flat_map(|rule| rule.paths.iter().map(move |path| (rule, path))) {
        let main = claims.hosts.get_mut(&host_rule.host).and_then(|host| {
            let position = *host.by_path.get(&(rule.kind, rule.path.as_str()))?;
            host.paths.get_mut(position)
        });
        match main {
            Some(main) if main.reading.key.namespace != reading.key.namespace => {
                let message = format!("Ingress {} of another namespace serves this path", main.reading.key);
                about.error(&rule.field, "CanaryOfOtherNamespace", message, CURE);
            }
            Some(Claim { canary: Some(first), .. }) => {
                let message = format!("Ingress {} already is the canary of this path", first.reading.key);
                about.warning(&rule.field, "CanaryConflict", message, "Remove one of the two: only the first gets requests.");
            }
            Some(main) => main.canary = Some(CanaryClaim { reading, backend: &rule.backend, field: &rule.field }),
            None => {
                let message = format!("no other Ingress serves {} {} of this host", rule.kind.name(), quoted(&rule.path));
                about.warning(&rule.field, "CanaryWithoutMain", message, CURE);
            }
        }
    }
}

/// The first Ingress of a host that has aliases names them all; a host with rules of its own is nobody's alias.
fn grant_aliases(
    hosts: &BTreeMap<HostPattern, HostClaims<'_>>,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> BTreeMap<HostPattern, HostPattern> {
    let mut aliases: BTreeMap<HostPattern, HostPattern> = BTreeMap::new();
    let field = format!("metadata.annotations[{}/server-alias]", options.annotations_prefix);
    for (pattern, host) in hosts.iter().filter(|(pattern, _)| **pattern != HostPattern::Any) {
        let Some(reading) = host.owners().find(|reading| !reading.annotations.server_aliases.is_empty()) else { continue };
        let mut about = About::new("Ingress", &reading.key, findings);
        for written in &reading.annotations.server_aliases {
            let Ok(alias) = host::pattern(written) else { continue };
            let is_host = hosts.contains_key(&alias);
            let is_alias = aliases.get(&alias).is_some_and(|other| other != pattern);
            if is_host || is_alias {
                let what = if is_host { "a host of its own" } else { "an alias of another host" };
                let message = format!("{} is {what} already", quoted(written));
                about.warning(&field, "AliasConflict", message, "Remove the alias: it is ignored.");
            } else {
                aliases.insert(alias, pattern.clone());
            }
        }
    }
    aliases
}
