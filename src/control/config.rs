//! What the control thread is told at start, and why it may refuse.

use std::fmt;
use std::path::PathBuf;

use crate::translate::Options;

/// Settings of the control thread; fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct Config {
    pub source: SourceConfig,
    pub options: Options,
    /// Addresses or host names written to the status of every Ingress that is served.
    pub publish_status_addresses: Vec<String>,
    /// Where ticket keys are kept between two starts; `None` keeps nothing on disk.
    pub state_dir: Option<PathBuf>,
}

impl Config {
    /// Serves these directories, with every other setting at its default, and keeps nothing on disk.
    pub fn of_manifests(directories: Vec<PathBuf>) -> Self {
        Self {
            source: SourceConfig::Manifests { directories, namespaces: Vec::new() },
            options: Options { allow_loopback: true, ..Options::default() },
            publish_status_addresses: Vec::new(),
            state_dir: None,
        }
    }
}

/// Where objects come from.
#[derive(Clone, Debug)]
pub enum SourceConfig {
    /// `*.yaml`, `*.yml`, `*.json` below these directories, followed by inotify.
    Manifests {
        directories: Vec<PathBuf>,
        /// Empty: all.
        namespaces: Vec<String>,
    },
    Cluster(ClusterConfig),
}

/// Which cluster is watched, and how.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// `None`: `KUBECONFIG`, then in-cluster.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    /// Empty: all.
    pub namespaces: Vec<String>,
    pub secrets: SecretsMode,
}

/// How Secrets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretsMode {
    Watch,
    Get,
}

/// Why control could not start.
#[derive(Debug)]
pub struct StartError {
    /// What is wrong and how to cure it, in one line.
    pub message: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}
