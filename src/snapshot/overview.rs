//! What control lets others look at: the newest snapshot, who serves it, and everything that was found.

use std::sync::Arc;
use std::time::Instant;

use crate::snapshot::Snapshot;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;

/// The state of the control wing at one moment; replaced whole, never changed.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// The newest snapshot, once there is one.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The version that each shard serves; 0 before its first.
    pub served: Vec<u64>,
    /// Why Corelane is not ready yet; `None` once every shard serves the first full set of objects.
    pub not_ready: Option<String>,
    /// Sorted, without repetitions.
    pub findings: Arc<[Finding]>,
    /// The status of every Ingress that is served, written to the cluster or only shown.
    pub ingress_status: Arc<[IngressStatus]>,
    pub sources: Vec<SourceState>,
}

/// What the status of one Ingress says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct IngressStatus {
    pub object: ObjectKey,
    /// Addresses or host names under which it is served.
    pub addresses: Vec<String>,
}

/// Where objects come from, and how that goes.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// `manifests /etc/corelane/demo`, `ingresses.networking.k8s.io`, ...
    pub name: String,
    /// What is wrong at the moment; the last good objects are served meanwhile.
    pub trouble: Option<String>,
    /// When it was last known to be complete and current.
    pub current_at: Option<Instant>,
    pub objects: usize,
}
