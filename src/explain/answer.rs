//! The explanation: what programs read, and how it is told to people.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::snapshot::finding::Finding;
use crate::snapshot::rule::RuleSource;

/// Why a request goes where it goes.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub request: Request,
    /// The version of the snapshot that was asked.
    pub snapshot_version: u64,
    /// Which host takes the request, and why.
    pub host: HostChoice,
    /// Every path of that host, in the order in which they are tried.
    pub candidates: Vec<Candidate>,
    /// The rule that serves it; none where nobody does.
    pub rule: Option<RuleChoice>,
    /// What is done to it, in order; the last one may answer it.
    pub steps: Vec<Step>,
    pub outcome: Outcome,
    /// What there is to know about the object the rule comes from.
    pub findings: Vec<Finding>,
}

/// The request as it was understood.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    pub method: String,
    pub scheme: &'static str,
    pub host: String,
    /// Normalised: what is matched and what the upstream sees.
    pub path: String,
    pub query: Option<String>,
    pub client: std::net::IpAddr,
}

/// The host of the route table that takes the request.
#[derive(Clone, Debug, Serialize)]
pub struct HostChoice {
    /// As in the object; none where no host takes it.
    pub pattern: Option<String>,
    pub why: String,
}

/// One path of the host.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// `Prefix /api`.
    pub path: String,
    pub object: String,
    pub service: String,
    pub matches: bool,
    pub wins: bool,
    pub why: String,
}

/// The rule that serves the request.
#[derive(Clone, Debug, Serialize)]
pub struct RuleChoice {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub host: String,
    pub path: String,
    pub service: String,
    pub why: String,
}

impl RuleChoice {
    pub(super) fn new(source: &RuleSource, why: String) -> Self {
        Self {
            kind: "Ingress",
            namespace: source.namespace.to_string(),
            name: source.ingress.to_string(),
            host: source.host.to_string(),
            path: source.path.to_string(),
            service: source.service.to_string(),
            why,
        }
    }
}

/// One thing that is done to the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The filter, by the name of what configures it.
    pub filter: &'static str,
    pub says: String,
    /// Whether it answers the request.
    pub ends: bool,
}

/// What becomes of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Corelane answers by itself.
    Answer {
        status: u16,
        /// As in `corelane-reason`.
        reason: String,
        /// Fields of the answer that matter: `Location: ...`.
        fields: Vec<String>,
    },
    /// It goes to an endpoint.
    Forward {
        /// `namespace/service:port`.
        cluster: String,
        balance: &'static str,
        endpoints: Vec<EndpointState>,
        /// The endpoint that a shard without history would choose first.
        chosen: SocketAddr,
        /// What the upstream sees, line by line.
        upstream_head: Vec<String>,
    },
}

/// One endpoint of the chosen cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointState {
    pub address: SocketAddr,
    pub weight: u32,
    pub node: Option<String>,
    /// Whether active checks let it be used.
    pub healthy: bool,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = &self.request;
        let query = request.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
        writeln!(f, "Request   {} {}://{}{}{query} from {}", request.method, request.scheme, request.host, request.path, request.client)?;
        match &self.host.pattern {
            Some(pattern) => writeln!(f, "Host      {pattern}: {}", self.host.why)?,
            None => writeln!(f, "Host      none: {}", self.host.why)?,
        }
        if !self.candidates.is_empty() {
            writeln!(f, "Rules     in the order in which they are tried")?;
        }
        for candidate in &self.candidates {
            let mark = if candidate.wins { '>' } else { ' ' };
            writeln!(f, "  {mark} {}  ({}) -> {}: {}", candidate.path, candidate.object, target(&candidate.service), candidate.why)?;
        }
        match &self.rule {
            Some(rule) => {
                let host = if rule.host.is_empty() { "every host" } else { &rule.host };
                writeln!(f, "Winner    {} {}/{}, {host}, {}: {}", rule.kind, rule.namespace, rule.name, rule.path, rule.why)?;
            }
            None => writeln!(f, "Winner    none")?,
        }
        if !self.steps.is_empty() {
            writeln!(f, "Filters   in the order in which they act")?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {}. {}: {}", index + 1, step.filter, step.says)?;
        }
        write!(f, "{}", self.outcome)?;
        if !self.findings.is_empty() {
            writeln!(f, "Findings  about this object")?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, reason, fields } => {
                writeln!(f, "Outcome   Corelane answers {status} ({reason})")?;
                fields.iter().try_for_each(|field| writeln!(f, "  {field}"))
            }
            Self::Forward { cluster, balance, endpoints, chosen, upstream_head } => {
                let count = counted(endpoints.len(), "endpoint");
                writeln!(f, "Outcome   forwarded to {cluster}, {balance} over {count}")?;
                for endpoint in endpoints {
                    let mark = if endpoint.address == *chosen { '>' } else { ' ' };
                    let health = if endpoint.healthy { "healthy" } else { "down, says its check" };
                    let node = endpoint.node.as_deref().map(|node| format!(" on {node}")).unwrap_or_default();
                    writeln!(f, "  {mark} {}{node}, weight {}: {health}", endpoint.address, endpoint.weight)?;
                }
                writeln!(f, "Upstream  sees")?;
                upstream_head.iter().try_for_each(|line| writeln!(f, "  {line}"))
            }
        }
    }
}

/// `1 user`, `2 users`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn target(service: &str) -> &str {
    if service.is_empty() { "no Service" } else { service }
}
