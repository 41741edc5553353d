//! One directory of manifests: its files as they were last read, and what is wrong with them.
//!
//! Whatever goes wrong keeps what was last good: a document keeps its object, a file its objects, the directory its files.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use aws_lc_rs::digest;

use crate::control::config::StartError;
use crate::control::kinds;
use crate::control::manifest_file;
use crate::control::manifest_file::DocumentFault;
use crate::control::manifest_file::Format;
use crate::control::walk;
use crate::control::walk::Identity;
use crate::control::walk::Stamp;
use crate::control::walk::Walk;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::finding::Severity;
use crate::snapshot::overview::SourceState;
use crate::translate::resources::Resources;

/// Larger files are refused.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A directory that was asked for.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) files: BTreeMap<PathBuf, File>,
    /// Where the last walk has been: the directory itself and those below it.
    entered: BTreeMap<PathBuf, Identity>,
    /// Where files live that are reached through links.
    homes: BTreeMap<PathBuf, Identity>,
    /// What cannot be looked at now.
    pub(crate) troubles: Vec<Finding>,
    trouble: Option<String>,
    current_at: Instant,
    objects: usize,
}

/// A file as it was last read.
#[derive(Default)]
pub(crate) struct File {
    stamp: Option<Stamp>,
    digest: Vec<u8>,
    /// Good, or last good where a document is bad now.
    pub(crate) objects: Resources,
    pub(crate) findings: Vec<Finding>,
}

impl Directory {
    /// Reads everything in it.
    ///
    /// # Errors
    /// It does not exist or cannot be read: at start there is nothing last good to serve instead.
    pub(crate) fn open(path: &Path, now: Instant) -> Result<Self, StartError> {
        // Signs of change come with whole paths.
        let path = std::path::absolute(path).map_err(|error| start_error(path, &error))?;
        let found = walk::walk(&path).map_err(|error| start_error(&path, &error))?;
        let mut directory = Self {
            path,
            files: BTreeMap::new(),
            entered: BTreeMap::new(),
            homes: BTreeMap::new(),
            troubles: Vec::new(),
            trouble: None,
            current_at: now,
            objects: 0,
        };
        directory.take(found, &HashSet::new(), now);
        Ok(directory)
    }

    /// Where signs of change come from, and from the directory above: there one sees this one go, come back, or be another one
    /// behind the same link.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (PathBuf, Identity)> {
        let home = self.path.parent().and_then(|home| Some((home.to_owned(), walk::identity(home).ok()?)));
        self.entered.iter().chain(&self.homes).map(|(path, identity)| (path.clone(), *identity)).chain(home)
    }

    pub(crate) fn state(&self) -> SourceState {
        SourceState {
            name: format!("manifests {}", self.path.display()),
            trouble: self.trouble.clone(),
            current_at: Some(self.current_at),
            objects: self.objects,
        }
    }

    /// Looks at everything, and reads what has changed and what was `touched` whatever its stamp says; true if that made a difference.
    pub(crate) fn look_everywhere(&mut self, touched: &HashSet<PathBuf>, now: Instant) -> bool {
        match walk::walk(&self.path) {
            Ok(found) => self.take(found, touched, now),
            Err(error) => self.lose(&error),
        }
    }

    /// Looks at one path only; says whether that made a difference, or nothing where only a walk can tell.
    pub(crate) fn look_at(&mut self, path: &Path) -> Option<bool> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                if walk::is_hidden(path) || !walk::is_manifest(path) {
                    return Some(false);
                }
                let parent = path.parent()?;
                if !self.entered.contains_key(parent) || self.homes.contains_key(parent) {
                    return None;
                }
                let changed = self.read(path, Stamp::of(&metadata)).ok()?;
                self.count();
                Some(changed)
            }
            // Directories and links lead further.
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.entered.contains_key(path) => {
                let gone = self.files.remove(path).is_some();
                self.count();
                Some(gone)
            }
            Err(_) => None,
        }
    }

    fn take(&mut self, found: Walk, touched: &HashSet<PathBuf>, now: Instant) -> bool {
        let before = self.files.len();
        let lost = |path: &Path| found.troubles.keys().any(|trouble| path.starts_with(trouble));
        self.files.retain(|path, _| found.files.contains_key(path) || lost(path));
        let mut changed = self.files.len() != before;
        let mut troubles: BTreeSet<Finding> = found.troubles.iter().map(|(path, error)| trouble(path, error)).collect();
        for (path, stamp) in found.files {
            if self.files.get(&path).is_some_and(|file| file.stamp == Some(stamp)) && !touched.contains(&path) {
                continue;
            }
            match self.read(&path, stamp) {
                Ok(new) => changed |= new,
                // Gone since the walk: the next one will not find it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => drop(troubles.insert(trouble(&path, &error))),
            }
        }
        (self.entered, self.homes) = (found.directories, found.homes);
        self.count();
        let troubles = Vec::from_iter(troubles);
        changed |= self.troubles != troubles;
        self.trouble = troubles.first().map(|finding| format!("{}: {}", finding.object.name, finding.message));
        self.troubles = troubles;
        if self.trouble.is_none() {
            self.current_at = now;
        }
        changed
    }

    /// The directory itself cannot be read: everything stays as it was last good.
    fn lose(&mut self, error: &io::Error) -> bool {
        let troubles = vec![trouble(&self.path, error)];
        self.trouble = Some(troubles[0].message.clone());
        self.entered.clear();
        self.homes.clear();
        std::mem::replace(&mut self.troubles, troubles) != self.troubles
    }

    /// Reads one file; true if it says something else than before.
    fn read(&mut self, path: &Path, stamp: Stamp) -> io::Result<bool> {
        let bytes = read(path)?;
        let file = self.files.entry(path.to_owned()).or_default();
        file.stamp = Some(stamp);
        Ok(file.take(path, &bytes))
    }

    fn count(&mut self) {
        self.objects = self.files.values().map(|file| kinds::count(&file.objects)).sum();
    }
}

impl File {
    /// Takes in new content; true if it is other than before.
    fn take(&mut self, path: &Path, bytes: &[u8]) -> bool {
        let digest = digest::digest(&digest::SHA256, bytes).as_ref().to_vec();
        if std::mem::replace(&mut self.digest, digest) == self.digest {
            return false;
        }
        let format = if path.extension().is_some_and(|extension| extension == "json") { Format::Json } else { Format::Yaml };
        let parsed = manifest_file::parse(bytes, format);
        let last_good = std::mem::replace(&mut self.objects, parsed.objects);
        for fault in &parsed.faults {
            match &fault.object {
                Some((kind, key)) => kinds::adopt_one(&mut self.objects, &last_good, kind, key),
                // It may be any of them.
                None => drop(kinds::adopt(&mut self.objects, &last_good)),
            }
        }
        self.findings = parsed.faults.into_iter().map(|fault| invalid(path, fault)).collect();
        true
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

fn invalid(path: &Path, fault: DocumentFault) -> Finding {
    let place = format!("document {}, line {}", fault.document, fault.line);
    let object = fault.object.map(|(kind, key)| format!("{kind} {key}: ")).unwrap_or_default();
    Finding {
        severity: Severity::Error,
        kind: "Manifest",
        object: ObjectKey { namespace: String::new(), name: path.display().to_string() },
        field: if fault.field.is_empty() { place } else { format!("{place}: {}", fault.field) },
        reason: "ManifestInvalid",
        message: format!("{object}{}", fault.message),
        cure: fault.cure,
    }
}

fn trouble(path: &Path, error: &io::Error) -> Finding {
    Finding {
        severity: Severity::Error,
        kind: "Manifest",
        object: ObjectKey { namespace: String::new(), name: path.display().to_string() },
        field: String::new(),
        reason: "ManifestUnreadable",
        message: format!("it cannot be read ({error}); what it last held is served"),
        cure: "Bring it back, or give this user the right to read it.".to_owned(),
    }
}

fn start_error(path: &Path, error: &io::Error) -> StartError {
    let path = path.display();
    let message = match error.kind() {
        io::ErrorKind::NotFound => format!("manifests directory {path} does not exist: create it, or correct --manifests"),
        io::ErrorKind::NotADirectory => format!("{path} is not a directory: give --manifests the directory that holds the files"),
        _ => format!("manifests directory {path} cannot be read: {error}; give this user the right to read and enter it"),
    };
    StartError { message }
}
