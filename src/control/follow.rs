//! Signs of change in directories, from inotify.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use notify::EventKind;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use notify::event::AccessKind;
use notify::event::AccessMode;
use notify::event::ModifyKind;
use tokio::sync::mpsc;

use crate::control::burst::Sign;
use crate::control::walk::Identity;

/// More signs than this at once tell nothing new: one of them is enough to look everywhere.
const SIGNS_MAX: usize = 4096;

/// The directories that are followed.
pub(crate) struct Follow {
    watcher: RecommendedWatcher,
    signs: mpsc::Receiver<(PathBuf, Sign)>,
    watched: BTreeMap<PathBuf, Identity>,
}

impl Follow {
    /// Follows nothing yet.
    ///
    /// # Errors
    /// The kernel gives no inotify instance.
    pub(crate) fn new() -> notify::Result<Self> {
        let (sender, signs) = mpsc::channel(SIGNS_MAX);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let Some(sign) = sign(event.kind) else { return };
            let mut paths = event.paths;
            if paths.is_empty() {
                // The kernel's queue ran over: everything is to be looked at.
                paths.push(PathBuf::new());
            }
            for path in paths {
                // Full: a burst is being collected already.
                drop(sender.try_send((path, sign)));
            }
        })?;
        Ok(Self { watcher, signs, watched: BTreeMap::new() })
    }

    /// Follows exactly these directories; says whether some of them are new, so that news before now may have been missed.
    ///
    /// # Errors
    /// The first directory that the kernel does not let us watch; the others are followed.
    pub(crate) fn set(&mut self, directories: &BTreeMap<PathBuf, Identity>) -> notify::Result<bool> {
        for (path, identity) in std::mem::take(&mut self.watched) {
            if directories.get(&path) == Some(&identity) {
                self.watched.insert(path, identity);
            } else {
                // Gone already, if the directory is gone.
                drop(self.watcher.unwatch(&path));
            }
        }
        let mut new = false;
        let mut outcome = Ok(());
        for (path, identity) in directories {
            if self.watched.contains_key(path) {
                continue;
            }
            match self.watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), *identity);
                    new = true;
                }
                Err(error) if outcome.is_ok() => outcome = Err(error),
                Err(_) => {}
            }
        }
        outcome.map(|()| new)
    }

    /// The next sign. Safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> (PathBuf, Sign) {
        match self.signs.recv().await {
            Some(sign) => sign,
            // The watcher lives in `self`, and with it the sender.
            None => std::future::pending().await,
        }
    }

    /// Whether `directory` is followed.
    pub(crate) fn follows(&self, directory: &Path) -> bool {
        self.watched.contains_key(directory)
    }
}

fn sign(kind: EventKind) -> Option<Sign> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Sign::Closed),
        // That includes our own reading.
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Data(_)) => Some(Sign::Written),
        _ => Some(Sign::Moved),
    }
}
