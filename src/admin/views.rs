//! What is shown of the state of Corelane: plain values, the same for JSON and for the dashboard. No key, no password, no field value.

use std::net::SocketAddr;

use serde::Serialize;

use crate::snapshot::Snapshot;
use crate::snapshot::certificate::Pair;
use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::Protocol;
use crate::snapshot::finding::Finding;
use crate::snapshot::overview::IngressStatus;
use crate::snapshot::overview::Overview;
use crate::snapshot::rule::Action;
use crate::snapshot::rule::Policy;
use crate::snapshot::rule::RuleId;
use crate::snapshot::rule::TlsRedirect;

/// How Corelane is.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) ready: bool,
    /// Why not.
    pub(super) reason: Option<String>,
    pub(super) uptime_s: u64,
    pub(super) snapshot_version: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) listeners: Vec<Listener>,
    pub(super) sources: Vec<Source>,
    /// What the status of each Ingress says, written to the cluster or only shown here.
    pub(super) ingresses: Vec<IngressStatus>,
    /// The worst first.
    pub(super) findings: Vec<Finding>,
}

/// One shard and the version it serves.
#[derive(Debug, Serialize)]
pub(super) struct Shard {
    pub(super) shard: usize,
    pub(super) snapshot_version: u64,
    pub(super) current: bool,
}

/// One listener.
#[derive(Debug, Serialize)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

/// Where objects come from.
#[derive(Debug, Serialize)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) objects: usize,
    pub(super) trouble: Option<String>,
    /// How long ago it was last known to be complete and current.
    pub(super) current_s_ago: Option<u64>,
}

/// The size and the certificates of a snapshot.
#[derive(Debug, Serialize)]
pub(super) struct Contents {
    pub(super) version: u64,
    pub(super) changed_s_ago: u64,
    pub(super) hosts: usize,
    pub(super) routes: usize,
    pub(super) rules: usize,
    pub(super) upstreams: usize,
    pub(super) endpoints: usize,
    pub(super) certificates: Vec<Certificate>,
}

/// One name with its certificate; the key stays where it is.
#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    /// `*` for the one that serves every other name.
    pub(super) name: String,
    /// `namespace/secret`, or `self-signed`.
    pub(super) source: String,
    /// RFC 3339.
    pub(super) not_after: String,
    pub(super) sha256: String,
}

/// One path of one host.
#[derive(Debug, Serialize)]
pub(super) struct Route {
    /// `*` for every host.
    pub(super) host: String,
    pub(super) path: String,
    pub(super) namespace: String,
    pub(super) ingress: String,
    /// `namespace/service:port`, or the answer that is given instead.
    pub(super) to: String,
    /// The filters that act on it, by the names of what configures them.
    pub(super) filters: Vec<&'static str>,
}

/// One cluster.
#[derive(Debug, Serialize)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) protocol: &'static str,
    pub(super) balance: &'static str,
    pub(super) pods: u32,
    /// Why there is no endpoint.
    pub(super) refusal: Option<&'static str>,
    pub(super) healthy: usize,
    pub(super) endpoints: Vec<Endpoint>,
}

/// One endpoint with what active checks say of it.
#[derive(Debug, Serialize)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) node: Option<String>,
    pub(super) weight: u32,
    pub(super) healthy: bool,
}

/// The shards of `overview`.
pub(super) fn shards(overview: &Overview) -> Vec<Shard> {
    let newest = overview.snapshot.as_ref().map_or(0, |snapshot| snapshot.version);
    let shard = |(shard, version): (usize, &u64)| Shard { shard, snapshot_version: *version, current: *version == newest };
    overview.served.iter().enumerate().map(shard).collect()
}

/// The findings, errors before warnings before the rest.
pub(super) fn findings(overview: &Overview) -> Vec<Finding> {
    let mut findings = overview.findings.to_vec();
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    findings
}

/// Every path of every host, in the order in which they are tried.
pub(super) fn routes(snapshot: &Snapshot) -> Vec<Route> {
    let mut routes = Vec::new();
    for (_, host, paths) in snapshot.routes.hosts() {
        let name = if host.name.is_empty() { "*" } else { &host.name };
        routes.extend(paths.iter().map(|(_, id)| route(snapshot, name, *id)));
        routes.extend(host.default_rule.map(|id| route(snapshot, name, id)));
    }
    routes.extend(snapshot.default_rule.map(|id| route(snapshot, "*", id)));
    routes
}

fn route(snapshot: &Snapshot, host: &str, id: RuleId) -> Route {
    let rule = snapshot.rule(id);
    Route {
        host: host.to_owned(),
        path: if rule.source.path.is_empty() { "default backend".to_owned() } else { rule.source.path.to_string() },
        namespace: rule.source.namespace.to_string(),
        ingress: rule.source.ingress.to_string(),
        to: match &rule.action {
            Action::Forward(id) => snapshot.cluster(*id).map_or_else(|| "nothing".to_owned(), |cluster| cluster.name.to_string()),
            Action::Answer(answer) => format!("{} {}", answer.status, answer.reason),
        },
        filters: filters(&rule.policy),
    }
}

fn filters(policy: &Policy) -> Vec<&'static str> {
    let all = [
        (policy.denied.is_some(), "denied"),
        (policy.redirect.is_some(), "redirect"),
        (policy.tls_redirect != TlsRedirect::Off, "ssl-redirect"),
        (!policy.allow.is_empty() || !policy.deny.is_empty(), "source-range"),
        (policy.basic_auth.is_some(), "basic-auth"),
        (policy.rate_limit.is_some(), "rate-limit"),
        (policy.cors.is_some(), "cors"),
        (policy.canary.is_some(), "canary"),
        (policy.rewrite.is_some(), "rewrite"),
    ];
    all.into_iter().filter(|(acts, _)| *acts).map(|(_, name)| name).collect()
}

/// Every cluster, by name.
pub(super) fn upstreams(snapshot: &Snapshot) -> Vec<Upstream> {
    let mut upstreams: Vec<Upstream> = snapshot.clusters.iter().flatten().map(|cluster| upstream(snapshot, cluster)).collect();
    upstreams.sort_by(|a, b| a.name.cmp(&b.name));
    upstreams
}

fn upstream(snapshot: &Snapshot, cluster: &Cluster) -> Upstream {
    let endpoint = |endpoint: &crate::snapshot::cluster::Endpoint| Endpoint {
        address: endpoint.address,
        node: endpoint.node.as_ref().map(ToString::to_string),
        weight: endpoint.weight,
        healthy: !snapshot.health.is_down(endpoint),
    };
    let endpoints: Vec<Endpoint> = cluster.endpoints.iter().map(endpoint).collect();
    Upstream {
        name: cluster.name.to_string(),
        protocol: match cluster.protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
        },
        balance: match cluster.balance {
            Balance::RoundRobin => "round_robin",
            Balance::PeakEwma => "peak_ewma",
        },
        pods: cluster.pods,
        refusal: cluster.refusal,
        healthy: endpoints.iter().filter(|endpoint| endpoint.healthy).count(),
        endpoints,
    }
}

/// How large a snapshot is, and which certificates it has; ages are the caller's, who has a clock.
pub(super) fn contents(snapshot: &Snapshot, changed_s_ago: u64) -> Contents {
    Contents {
        version: snapshot.version,
        changed_s_ago,
        hosts: snapshot.routes.hosts().count(),
        routes: snapshot.routes.hosts().map(|(_, _, paths)| paths.len()).sum(),
        rules: snapshot.rules.len(),
        upstreams: snapshot.clusters.iter().flatten().count(),
        endpoints: snapshot.clusters.iter().flatten().map(|cluster| cluster.endpoints.len()).sum(),
        certificates: certificates(snapshot),
    }
}

fn certificates(snapshot: &Snapshot) -> Vec<Certificate> {
    let known = &snapshot.certificates;
    let exact = known.exact.iter().map(|(name, pair)| certificate(name.clone(), pair));
    let wildcard = known.wildcard.iter().map(|(name, pair)| certificate(format!("*.{name}"), pair));
    let mut certificates: Vec<Certificate> = exact.chain(wildcard).collect();
    certificates.sort_by(|a, b| a.name.cmp(&b.name));
    certificates.push(certificate("*".to_owned(), &known.default));
    certificates
}

fn certificate(name: String, pair: &Pair) -> Certificate {
    Certificate {
        name,
        source: pair.source.clone(),
        not_after: jiff::Timestamp::from_second(pair.not_after).map_or_else(|_| "never".to_owned(), |end| end.to_string()),
        sha256: pair.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
