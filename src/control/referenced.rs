//! Objects that are read only because others refer to them: Secrets and ConfigMaps. Each is asked for by name, none is listed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use futures::FutureExt;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::Client;
use kube::core::DeserializeGuard;

use crate::control::kinds;
use crate::control::kinds::Kind;
use crate::control::trouble;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::finding::Severity;

/// Requests under way at once.
const ASKED_MAX: usize = 16;
/// How often an object is read again.
const REFRESH: Duration = Duration::from_secs(60);
/// How soon after something changed an object that was missing is looked for again: it is often made together with its referrer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(5);
/// So many failures in a row, and the first snapshot no longer waits for the object.
const FAILURES_MAX: u32 = 3;

/// The answer to a request: `None` where there is no such object.
type Answer<K> = (ObjectKey, kube::Result<Option<DeserializeGuard<K>>>);

/// Which objects of one kind are referred to, and how far we are with reading them.
pub(crate) struct Referenced<K> {
    client: Client,
    wanted: BTreeMap<ObjectKey, Standing>,
    asked: FuturesUnordered<BoxFuture<'static, Answer<K>>>,
}

struct Standing {
    /// Whether it is known to be there or not.
    settled: bool,
    present: bool,
    /// A watch tells of it: it need not be asked for.
    watched: bool,
    asking: bool,
    failures: u32,
    next: Instant,
    finding: Option<Finding>,
}

/// What became of a request.
pub(crate) enum Read<K> {
    Found(ObjectKey, Box<DeserializeGuard<K>>),
    Absent(ObjectKey),
    /// What was last good stays. True where the findings are others now.
    Failed(bool),
}

impl<K: Kind> Referenced<K> {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, wanted: BTreeMap::new(), asked: FuturesUnordered::new() }
    }

    /// From now on these are wanted; returns those that no longer are.
    pub(crate) fn want(&mut self, keys: &BTreeSet<ObjectKey>, now: Instant) -> Vec<ObjectKey> {
        for standing in self.wanted.values_mut().filter(|standing| standing.settled && !standing.present) {
            standing.next = standing.next.min(now + LOOK_AGAIN);
        }
        for key in keys {
            self.wanted.entry(key.clone()).or_insert_with(|| Standing {
                settled: false,
                present: false,
                watched: false,
                asking: false,
                failures: 0,
                next: now,
                finding: None,
            });
        }
        let gone: Vec<ObjectKey> = self.wanted.keys().filter(|key| !keys.contains(*key)).cloned().collect();
        for key in &gone {
            self.wanted.remove(key);
        }
        gone
    }

    pub(crate) fn wants(&self, key: &ObjectKey) -> bool {
        self.wanted.contains_key(key)
    }

    /// Whether a watch tells of it.
    pub(crate) fn is_watched(&self, key: &ObjectKey) -> bool {
        self.wanted.get(key).is_some_and(|standing| standing.watched)
    }

    /// A watch told of this object.
    pub(crate) fn watched(&mut self, key: &ObjectKey, present: bool, now: Instant) {
        if let Some(standing) = self.wanted.get_mut(key) {
            // One that a watch saw going may come back as another type, which the watch would not tell.
            *standing =
                Standing { settled: true, present, watched: present, asking: standing.asking, failures: 0, next: now, finding: None };
        }
    }

    /// How many are not known yet.
    pub(crate) fn unsettled(&self) -> usize {
        self.wanted.values().filter(|standing| !standing.settled).count()
    }

    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.wanted.values().filter_map(|standing| standing.finding.as_ref())
    }

    /// Sends the requests that are due.
    pub(crate) fn ask(&mut self, now: Instant) {
        // In batches: looking through all of them for every answer would take its time where there are many.
        if self.asked.len() > ASKED_MAX / 2 {
            return;
        }
        for (key, standing) in &mut self.wanted {
            if self.asked.len() >= ASKED_MAX {
                return;
            }
            if standing.asking || standing.watched || standing.next > now {
                continue;
            }
            standing.asking = true;
            let (api, key) = (K::api(&self.client, Some(&key.namespace)), key.clone());
            self.asked.push(async move { (key.clone(), api.get_opt(&key.name).await) }.boxed());
        }
    }

    /// The next answer. Safe to drop while it waits.
    pub(crate) async fn answer(&mut self) -> Answer<K> {
        match self.asked.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// Takes an answer in.
    pub(crate) fn take(&mut self, (key, answer): Answer<K>, now: Instant) -> Read<K> {
        let Some(standing) = self.wanted.get_mut(&key) else { return Read::Failed(false) };
        standing.asking = false;
        if standing.watched {
            // The watch was faster, and is newer.
            return Read::Failed(false);
        }
        match answer {
            Ok(object) => {
                standing.settled = true;
                standing.present = object.is_some();
                standing.failures = 0;
                standing.next = now + spread(&key);
                standing.finding = None;
                object.map_or_else(|| Read::Absent(key.clone()), |object| Read::Found(key.clone(), Box::new(object)))
            }
            Err(error) => {
                standing.failures += 1;
                standing.settled |= standing.failures >= FAILURES_MAX;
                standing.next = now + RETRY;
                let finding = unreadable::<K>(&key, &error);
                let new = standing.finding.as_ref() != Some(&finding);
                standing.finding = Some(finding);
                Read::Failed(new)
            }
        }
    }
}

/// Refreshes are spread over time, by name, so that they do not come in waves.
fn spread(key: &ObjectKey) -> Duration {
    let sum: u64 = key.namespace.bytes().chain(key.name.bytes()).map(u64::from).sum();
    REFRESH - Duration::from_millis(sum * 37 % 6000)
}

fn unreadable<K: Kind>(key: &ObjectKey, error: &kube::Error) -> Finding {
    Finding {
        severity: Severity::Error,
        kind: K::KIND,
        object: key.clone(),
        field: String::new(),
        reason: "ReferenceUnreadable",
        message: trouble::asking(error, "get", &kinds::plural::<K>(), Some(&key.namespace)),
        cure: "What was last good of it is used; it is tried again every 5 s.".to_owned(),
    }
}
