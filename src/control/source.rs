//! The two places objects come from, seen as one.

use std::time::Instant;

use crate::control::cluster::Cluster;
use crate::control::config::Config;
use crate::control::config::SourceConfig;
use crate::control::config::StartError;
use crate::control::manifests::Manifests;
use crate::snapshot::finding::Finding;
use crate::snapshot::overview::IngressStatus;
use crate::snapshot::overview::SourceState;
use crate::translate::Translation;
use crate::translate::resources::Resources;

/// Keeps the objects current.
pub(crate) enum Source {
    Manifests(Box<Manifests>),
    Cluster(Box<Cluster>),
}

impl Source {
    /// Opens the source. Directories are read whole here; of a cluster only the way to it is found.
    ///
    /// # Errors
    /// The source cannot even begin.
    pub(crate) async fn open(config: &Config, now: Instant) -> Result<Self, StartError> {
        match &config.source {
            SourceConfig::Manifests { directories, namespaces } => {
                Ok(Self::Manifests(Box::new(Manifests::load(directories, namespaces, now)?)))
            }
            SourceConfig::Cluster(cluster) => Ok(Self::Cluster(Box::new(Cluster::open(cluster, &config.options).await?))),
        }
    }

    /// From now on changes are seen.
    pub(crate) fn follow(&mut self, now: Instant) {
        match self {
            Self::Manifests(manifests) => manifests.follow(now),
            // It is watched since it was opened.
            Self::Cluster(_) => {}
        }
    }

    /// Waits for the next change and says when it was first seen. Safe to drop while it waits.
    pub(crate) async fn changed(&mut self) -> Instant {
        match self {
            Self::Manifests(manifests) => manifests.changed().await,
            Self::Cluster(cluster) => cluster.changed().await,
        }
    }

    /// The objects as they were last good.
    pub(crate) fn resources(&self) -> &Resources {
        match self {
            Self::Manifests(manifests) => manifests.resources(),
            Self::Cluster(cluster) => cluster.resources(),
        }
    }

    /// What is wrong with objects that could not be taken.
    pub(crate) fn findings(&self) -> &[Finding] {
        match self {
            Self::Manifests(manifests) => manifests.findings(),
            Self::Cluster(cluster) => cluster.findings(),
        }
    }

    /// How each part of the source does.
    pub(crate) fn states(&self, now: Instant) -> Vec<SourceState> {
        match self {
            Self::Manifests(manifests) => manifests.states(),
            Self::Cluster(cluster) => cluster.states(now),
        }
    }

    /// What is still missing before objects can be translated: a part of them would be served as if it were all.
    pub(crate) fn unlisted(&self) -> Option<String> {
        match self {
            Self::Manifests(_) => None,
            Self::Cluster(cluster) => cluster.unlisted(),
        }
    }

    /// What is still missing before the first snapshot: beside the above, objects that translation was found to refer to.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Self::Manifests(_) => None,
            Self::Cluster(cluster) => cluster.missing(),
        }
    }

    /// Says what translation made of the objects: a cluster keeps only Secrets that are referred to, and is told the status.
    pub(crate) fn learn(&mut self, translation: &Translation, status: &[IngressStatus]) {
        match self {
            Self::Manifests(_) => {}
            Self::Cluster(cluster) => cluster.learn(translation, status),
        }
    }
}
