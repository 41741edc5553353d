//! Claims to rules: what happens to the requests of each path.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::route::HostPattern;
use crate::route::PathPattern;
use crate::route::Paths;
use crate::snapshot::cluster::ClusterId;
use crate::snapshot::finding::Finding;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::Canary;
use crate::snapshot::rule::FixedAnswer;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::Policy;
use crate::snapshot::rule::Rewrite;
use crate::snapshot::rule::Rule;
use crate::snapshot::rule::RuleId;
use crate::snapshot::rule::RuleSource;
use crate::snapshot::rule::TlsRedirect;
use crate::translate::about::About;
use crate::translate::about::quoted;
use crate::translate::annotations::ClusterSpec;
use crate::translate::backend::Backend;
use crate::translate::backend::Port;
use crate::translate::backend::Refusal;
use crate::translate::claims::CanaryClaim;
use crate::translate::claims::Claim;
use crate::translate::claims::Claims;
use crate::translate::claims::DefaultClaim;
use crate::translate::claims::HostClaims;
use crate::translate::cluster::Clusters;
use crate::translate::expression;
use crate::translate::expression::Expressions;
use crate::translate::ingress::Reading;
use crate::translate::memory::Hosts;
use crate::translate::path;
use crate::translate::path::PathKind;
use crate::translate::scope::Scope;

/// Hosts with their paths, and the rules they lead to.
#[derive(Debug, Default)]
pub(crate) struct Built {
    pub(crate) hosts: Hosts,
    pub(crate) rules: Vec<Rule>,
    pub(crate) default_rule: Option<RuleId>,
}

/// Makes the rules of everything that was granted.
pub(crate) fn build<'r>(
    scope: Scope<'r>,
    claims: &Claims<'r>,
    tls_hosts: &BTreeSet<HostPattern>,
    clusters: &mut Clusters<'r>,
    expressions: &mut Expressions,
    findings: &mut Vec<Finding>,
) -> Built {
    let mut builder = Builder { scope, clusters, expressions, findings, rules: Vec::new(), has_catch_all: claims.catch_all.is_some() };
    let mut hosts = Hosts::with_capacity(claims.hosts.len() + claims.aliases.len());
    for (pattern, host) in &claims.hosts {
        let (shared, paths) = builder.host(host, tls_hosts.contains(pattern));
        hosts.push((pattern.clone(), Arc::new(shared), paths));
    }
    let mut aliased = Hosts::with_capacity(claims.aliases.len());
    for (alias, pattern) in &claims.aliases {
        if let Ok(position) = hosts.binary_search_by(|(other, ..)| other.cmp(pattern)) {
            let (_, shared, paths) = &hosts[position];
            aliased.push((alias.clone(), shared.clone(), paths.clone()));
        }
    }
    hosts.append(&mut aliased);
    let default_rule = claims.catch_all.map(|claim| builder.catch_all(claim));
    Built { hosts, rules: builder.rules, default_rule }
}

struct Builder<'b, 'r> {
    scope: Scope<'r>,
    clusters: &'b mut Clusters<'r>,
    expressions: &'b mut Expressions,
    findings: &'b mut Vec<Finding>,
    rules: Vec<Rule>,
    has_catch_all: bool,
}

/// What the rules of one host have in common.
struct Common<'h> {
    host: &'h Arc<str>,
    tls: bool,
    denied: Option<FixedAnswer>,
}

/// What a rule does, and whether some endpoint can do it.
struct Outcome {
    action: Action,
    has_endpoints: bool,
}

impl<'r> Builder<'_, 'r> {
    fn add(&mut self, rule: Rule) -> RuleId {
        self.rules.push(rule);
        RuleId((self.rules.len() - 1) as u32)
    }

    fn host(&mut self, host: &HostClaims<'r>, tls: bool) -> (Host, Paths<RuleId>) {
        let regex_by = host.regex_by();
        let common = Common { host: &host.written, tls, denied: host.denied() };
        let mut paths = Paths::with_capacity(host.paths.len());
        for claim in &host.paths {
            let pattern = match regex_by {
                Some(_) => self.expressions.path(&claim.rule.path).map(PathPattern::Regex),
                None => Ok(claim.rule.kind.pattern(claim.rule.path.clone())),
            };
            match pattern.and_then(|pattern| Ok((self.path(&common, claim, &pattern)?, pattern))) {
                Ok((rule, pattern)) => paths.push((pattern, self.add(rule))),
                Err(why) => self.refuse_expression(claim, &why),
            }
        }
        if let Some(by) = regex_by {
            self.say_turned(host, by);
        }
        let app_root = host.owners().find_map(|reading| Some((reading, reading.annotations.app_root.as_deref()?)));
        let default_rule = match (host.default(), app_root) {
            (Some(claim), _) => Some(self.default(&common, claim)),
            // The root redirects whether or not some path serves it: there must be a rule to ask.
            (None, Some((reading, _))) if !self.has_catch_all => Some(nothing(reading, common.host)),
            (None, _) => None,
        };
        let default_rule = default_rule.map(|rule| self.add(rule));
        let app_root = app_root.map(|(_, path)| Arc::from(path));
        (Host { name: host.written.clone(), tls, app_root, default_rule }, paths)
    }

    /// The rule of a path; an error where it is no expression, and should be one.
    fn path(&mut self, common: &Common<'_>, claim: &Claim<'r>, pattern: &PathPattern) -> Result<Rule, String> {
        let reading = claim.reading;
        let mut policy = self.policy(reading, common);
        policy.rewrite = self.rewrite(reading, claim.rule.kind, &claim.rule.path, Some(pattern))?;
        // ingress-nginx sends the prefix only where it rewrites.
        policy.forwarded_prefix = policy.forwarded_prefix.filter(|_| policy.rewrite.is_some());
        let field = format!("{}.backend", claim.rule.field);
        let outcome = self.outcome(reading, &claim.rule.backend, &field);
        if let Some(canary) = claim.canary.filter(|_| outcome.has_endpoints) {
            policy.canary = self.canary(reading, canary);
        }
        let path = format!("{} {}", claim.rule.kind.name(), claim.rule.path);
        Ok(Rule { source: source(reading, &claim.rule.backend, common.host, &path), action: outcome.action, policy })
    }

    /// What serves the paths of a host that nobody asked for.
    fn default(&mut self, common: &Common<'_>, claim: DefaultClaim<'r>) -> Rule {
        let mut policy = self.policy(claim.reading, common);
        // The path is the root, which always is an expression.
        policy.rewrite = self.rewrite(claim.reading, PathKind::Prefix, "/", None).unwrap_or_default();
        policy.forwarded_prefix = policy.forwarded_prefix.filter(|_| policy.rewrite.is_some());
        let outcome = self.outcome(claim.reading, claim.backend, "spec.defaultBackend");
        Rule { source: source(claim.reading, claim.backend, common.host, "default backend"), action: outcome.action, policy }
    }

    /// What serves everything else. As in ingress-nginx, redirects and rewrites of its Ingress do not count here.
    fn catch_all(&mut self, claim: DefaultClaim<'r>) -> RuleId {
        let mut policy = claim.reading.annotations.policy.clone();
        policy.redirect = None;
        policy.forwarded_prefix = None;
        let outcome = self.outcome(claim.reading, claim.backend, "spec.defaultBackend");
        let source = source(claim.reading, claim.backend, &Arc::from(""), "default backend");
        self.add(Rule { source, action: outcome.action, policy })
    }

    fn policy(&self, reading: &Reading, common: &Common<'_>) -> Policy {
        let annotations = &reading.annotations;
        let mut policy = annotations.policy.clone();
        // What guards the whole host and cannot be honoured refuses all of it, whoever a path belongs to.
        policy.denied = common.denied.clone().or(policy.denied);
        if annotations.force_ssl_redirect || (annotations.ssl_redirect && common.tls) {
            let status = self.scope.globals.redirect_status;
            policy.tls_redirect = TlsRedirect::On {
                status,
                keep_trailing_slash: annotations.preserve_trailing_slash,
                with_port: annotations.use_port_in_redirects,
            };
        }
        policy
    }

    fn rewrite(
        &mut self,
        reading: &Reading,
        kind: PathKind,
        path: &str,
        route: Option<&PathPattern>,
    ) -> Result<Option<Arc<Rewrite>>, String> {
        let Some(target) = &reading.annotations.rewrite_target else { return Ok(None) };
        let Some(text) = path::rewritten(kind, path, target) else { return Ok(None) };
        let pattern = match route {
            // The route has matched at the start of the path: the first match anywhere is that one, with the same captures.
            Some(PathPattern::Regex(route)) if route.written() == text => route.expression().clone(),
            _ => self.expressions.rewrite(&text)?,
        };
        Ok(Some(Arc::new(Rewrite { pattern, target: target.clone() })))
    }

    /// The cluster of a backend; where it has no endpoints, that of the `default-backend` annotation if this has some.
    fn outcome(&mut self, reading: &Reading, backend: &Backend, field: &str) -> Outcome {
        let spec = &reading.annotations.cluster;
        let main = self.clusters.resolve(&reading.key.namespace, backend, spec, self.findings);
        if let Err(refusal) = &main {
            self.refuse_backend(reading, field, refusal);
        }
        if let Ok(cluster) = main
            && cluster.has_endpoints
        {
            return Outcome { action: Action::Forward(cluster.id), has_endpoints: true };
        }
        if let Some(id) = self.default_backend(reading) {
            return Outcome { action: Action::Forward(id), has_endpoints: false };
        }
        let action = match main {
            Ok(cluster) => Action::Forward(cluster.id),
            Err(refusal) => Action::Answer(FixedAnswer { status: 503, reason: refusal.token }),
        };
        Outcome { action, has_endpoints: false }
    }

    fn default_backend(&mut self, reading: &Reading) -> Option<ClusterId> {
        let annotations = &reading.annotations;
        let backend = Backend::Service { name: annotations.default_backend.clone()?, port: Port::First };
        match self.clusters.resolve(&reading.key.namespace, &backend, &annotations.cluster, self.findings) {
            Ok(cluster) => cluster.has_endpoints.then_some(cluster.id),
            Err(refusal) => {
                let field = format!("metadata.annotations[{}/default-backend]", self.scope.options.annotations_prefix);
                About::new("Ingress", &reading.key, self.findings).warning(&field, refusal.reason, refusal.message, refusal.cure);
                None
            }
        }
    }

    /// The canary of a path whose main cluster can serve; `None` where the canary cannot, so that the main one serves all.
    fn canary(&mut self, main: &Reading, canary: CanaryClaim<'r>) -> Option<Arc<Canary>> {
        let asked = canary.reading.annotations.canary.as_ref()?;
        // A canary inherits what its main Ingress says, but for the choice among its own endpoints.
        let cluster = &canary.reading.annotations.cluster;
        let protocol = main.annotations.cluster.protocol.clone();
        let spec = ClusterSpec { balance: cluster.balance, protocol, service_upstream: cluster.service_upstream };
        match self.clusters.resolve(&canary.reading.key.namespace, canary.backend, &spec, self.findings) {
            Ok(cluster) if cluster.has_endpoints => Some(Arc::new(Canary {
                cluster: cluster.id,
                header: asked.header.clone(),
                header_value: asked.header_value.clone(),
                cookie: asked.cookie.clone(),
                weight: asked.weight,
                weight_total: asked.weight_total,
            })),
            Ok(_) => None,
            Err(refusal) => {
                self.refuse_backend(canary.reading, &format!("{}.backend", canary.field), &refusal);
                None
            }
        }
    }

    fn refuse_backend(&mut self, reading: &Reading, field: &str, refusal: &Refusal) {
        let field = format!("{field}{}", refusal.field);
        About::new("Ingress", &reading.key, self.findings).error(&field, refusal.reason, refusal.message.clone(), refusal.cure.clone());
    }

    fn refuse_expression(&mut self, claim: &Claim<'_>, why: &str) {
        let mut about = About::new("Ingress", &claim.reading.key, self.findings);
        expression::refuse(&claim.rule.path, why, &claim.rule.field, &mut about);
    }

    /// Tells the other Ingresses of a host that one has turned their paths into expressions.
    fn say_turned(&mut self, host: &HostClaims<'_>, by: &Reading) {
        for claim in &host.paths {
            let is_literal = claim.rule.kind != PathKind::ImplementationSpecific;
            if claim.reading.key != by.key && is_literal && !claim.reading.annotations.use_regex {
                let message = format!(
                    "Ingress {} has use-regex or rewrite-target on the same host: {} is matched as the beginning of the path, in any case",
                    by.key,
                    quoted(&claim.rule.path)
                );
                let cure = "Give expressions a host of their own, if these paths must match by their type.";
                let field = format!("{}.pathType", claim.rule.field);
                About::new("Ingress", &claim.reading.key, self.findings).warning(&field, "PathIsExpression", message, cure);
            }
        }
    }
}

/// What serves the paths of a host that nobody has: nothing.
fn nothing(reading: &Reading, host: &Arc<str>) -> Rule {
    let (namespace, ingress) = (reading.key.namespace.as_str().into(), reading.key.name.as_str().into());
    let source = RuleSource { namespace, ingress, service: "".into(), host: host.clone(), path: "no path".into() };
    Rule { source, action: Action::Answer(FixedAnswer { status: 404, reason: "no_route" }), policy: Policy::default() }
}

fn source(reading: &Reading, backend: &Backend, host: &Arc<str>, path: &str) -> RuleSource {
    RuleSource {
        namespace: reading.key.namespace.as_str().into(),
        ingress: reading.key.name.as_str().into(),
        service: backend.service_name().into(),
        host: host.clone(),
        path: path.into(),
    }
}
