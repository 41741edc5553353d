//! The two places objects come from, seen as one.

use std::time::Instant;

use crate::control::config::Config;
use crate::control::config::SourceConfig;
use crate::control::config::StartError;
use crate::control::manifests::Manifests;
use crate::snapshot::finding::Finding;
use crate::snapshot::overview::SourceState;
use crate::translate::resources::Resources;

/// Keeps the objects current.
pub(crate) enum Source {
    Manifests(Box<Manifests>),
}

impl Source {
    /// Opens the source. A directory is read whole here; of a cluster only the way to it is found.
    ///
    /// # Errors
    /// The source cannot even begin.
    pub(crate) fn open(config: &Config, now: Instant) -> Result<Self, StartError> {
        match &config.source {
            SourceConfig::Manifests(directories) => Ok(Self::Manifests(Box::new(Manifests::load(directories, now)?))),
            SourceConfig::Cluster(_) => {
                Err(StartError { message: "clusters cannot be watched yet: give a directory with --manifests".to_owned() })
            }
        }
    }

    /// From now on changes are seen.
    pub(crate) fn follow(&mut self, now: Instant) {
        match self {
            Self::Manifests(manifests) => manifests.follow(now),
        }
    }

    /// Waits for the next change and says when it was first seen. Safe to drop while it waits.
    pub(crate) async fn changed(&mut self) -> Instant {
        match self {
            Self::Manifests(manifests) => manifests.changed().await,
        }
    }

    /// The objects as they were last good.
    pub(crate) fn resources(&self) -> &Resources {
        match self {
            Self::Manifests(manifests) => manifests.resources(),
        }
    }

    /// What is wrong with objects that could not be taken.
    pub(crate) fn findings(&self) -> &[Finding] {
        match self {
            Self::Manifests(manifests) => manifests.findings(),
        }
    }

    /// How each part of the source does.
    pub(crate) fn states(&self) -> Vec<SourceState> {
        match self {
            Self::Manifests(manifests) => manifests.states(),
        }
    }

    /// What is still missing of the first full set of objects.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Self::Manifests(_) => None,
        }
    }
}
