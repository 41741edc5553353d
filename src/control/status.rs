//! Writes the published addresses into the status of every Ingress that is served.
//!
//! Every host of an edge writes the same: it compares first, writes only what differs, and owns one field by server-side apply, so
//! that a second host or a repeated write changes nothing. What was written stays when the process ends: other hosts still serve.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::Client;
use kube::ResourceExt;
use kube::api::Patch;
use kube::api::PatchParams;
use serde_json::json;

use crate::control::kinds::Objects;
use crate::control::trouble;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::finding::Severity;
use crate::snapshot::overview::IngressStatus;

/// Requests under way at once.
const WRITES_MAX: usize = 8;
const RETRY: Duration = Duration::from_secs(5);
/// Who owns the field.
const MANAGER: &str = "corelane";

/// An Ingress and the version of it that the write made.
type Outcome = (ObjectKey, kube::Result<Option<String>>);

/// What the status should say, and which writes are under way.
pub(crate) struct StatusWriter {
    client: Client,
    wanted: BTreeMap<ObjectKey, Vec<String>>,
    standing: BTreeMap<ObjectKey, Standing>,
    due: BTreeSet<ObjectKey>,
    writes: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

#[derive(Debug, PartialEq)]
enum Standing {
    Writing,
    /// Written; the watch has still to tell of it. Holds the version that was seen when the write was sent.
    Written {
        seen: Option<String>,
    },
    Failed {
        retry_at: Instant,
        finding: Finding,
    },
}

impl StatusWriter {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, wanted: BTreeMap::new(), standing: BTreeMap::new(), due: BTreeSet::new(), writes: FuturesUnordered::new() }
    }

    /// From now on these Ingresses are ours; the status of others is left as it is.
    pub(crate) fn want(&mut self, status: &[IngressStatus]) {
        // Without an address to publish there is nothing to say, and what somebody else said stands.
        self.wanted =
            status.iter().filter(|status| !status.addresses.is_empty()).map(|s| (s.object.clone(), s.addresses.clone())).collect();
        self.standing.retain(|key, standing| self.wanted.contains_key(key) || *standing == Standing::Writing);
    }

    /// Finds out which writes are needed.
    pub(crate) fn review(&mut self, ingresses: &Objects<Ingress>, now: Instant) {
        for (key, addresses) in &self.wanted {
            let Some(ingress) = ingresses.get(key) else { continue };
            if says(ingress, addresses) {
                self.standing.remove(key);
                continue;
            }
            let due = match self.standing.get(key) {
                None => true,
                Some(Standing::Writing) => false,
                Some(Standing::Written { seen }) => *seen != ingress.resource_version(),
                Some(Standing::Failed { retry_at, .. }) => *retry_at <= now,
            };
            if due {
                self.due.insert(key.clone());
            }
        }
    }

    /// Sends as many of them as may be under way at once.
    pub(crate) fn write(&mut self, ingresses: &Objects<Ingress>) {
        while self.writes.len() < WRITES_MAX
            && let Some(key) = self.due.pop_first()
        {
            let (Some(addresses), Some(ingress)) = (self.wanted.get(&key), ingresses.get(&key)) else { continue };
            self.standing.insert(key.clone(), Standing::Writing);
            self.writes.push(patch(&self.client, key, addresses, ingress.resource_version()));
        }
    }

    /// The next write that ended. Safe to drop while it waits.
    pub(crate) async fn written(&mut self) -> Outcome {
        match self.writes.next().await {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }

    /// Takes down how a write ended; true if the findings are others now.
    pub(crate) fn take(&mut self, (key, outcome): Outcome, now: Instant) -> bool {
        let before = self.findings().count();
        match outcome {
            Ok(seen) => {
                tracing::info!(ingress = %key, "status written");
                self.standing.insert(key, Standing::Written { seen });
            }
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => drop(self.standing.remove(&key)),
            Err(error) => {
                let finding = unwritten(&key, &error);
                self.standing.insert(key, Standing::Failed { retry_at: now + RETRY, finding });
            }
        }
        before != self.findings().count()
    }

    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.standing.values().filter_map(|standing| if let Standing::Failed { finding, .. } = standing { Some(finding) } else { None })
    }
}

fn patch(client: &Client, key: ObjectKey, addresses: &[String], seen: Option<String>) -> BoxFuture<'static, Outcome> {
    let api: Api<Ingress> = Api::namespaced(client.clone(), &key.namespace);
    let entry =
        |address: &String| if address.parse::<IpAddr>().is_ok() { json!({ "ip": address }) } else { json!({ "hostname": address }) };
    let status = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": key.name },
        "status": { "loadBalancer": { "ingress": addresses.iter().map(entry).collect::<Vec<_>>() } },
    });
    async move {
        let outcome = api.patch_status(&key.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&status)).await;
        (key, outcome.map(|_| seen))
    }
    .boxed()
}

/// Whether the status of `ingress` consists of these addresses.
fn says(ingress: &Ingress, addresses: &[String]) -> bool {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let said = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    said.len() == addresses.len()
        && said.iter().zip(addresses).all(|(said, address)| said.ip.as_ref().or(said.hostname.as_ref()) == Some(address))
}

fn unwritten(key: &ObjectKey, error: &kube::Error) -> Finding {
    Finding {
        severity: Severity::Warning,
        kind: "Ingress",
        object: key.clone(),
        field: "status.loadBalancer.ingress".to_owned(),
        reason: "StatusNotWritten",
        message: trouble::asking(error, "update and patch", "ingresses/status.networking.k8s.io", Some(&key.namespace)),
        cure: "The Ingress is served all the same; the write is tried again every 5 s.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Addresses are compared as a whole and in order; ports and nothing else may be missing.
    #[test]
    fn a_status_that_says_so_is_not_written() {
        for (status, addresses, said) in [
            (json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}), &["192.0.2.1"][..], true),
            (json!({"loadBalancer": {"ingress": [{"hostname": "edge.example"}]}}), &["edge.example"], true),
            (json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]}}), &["192.0.2.1"], false),
            (json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}), &["192.0.2.1"], false),
            (json!({"loadBalancer": {}}), &["192.0.2.1"], false),
            (json!({}), &["192.0.2.1"], false),
            (Value::Null, &["192.0.2.1"], false),
        ] {
            let ingress: Ingress = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap();
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            assert_eq!(says(&ingress, &addresses), said, "{status}");
        }
    }
}
