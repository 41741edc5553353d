//! Which manifest files there are below a directory, and by what one sees that they changed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// Deepest nesting below the directory that was given.
const DEPTH_MAX: usize = 32;

/// Changes when the file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    identity: Identity,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// Device and inode: another file under the same name has another one.
pub(crate) type Identity = (u64, u64);

/// What stands below one directory.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) files: BTreeMap<PathBuf, Stamp>,
    /// The directory itself and every one below it.
    pub(crate) directories: BTreeMap<PathBuf, Identity>,
    /// Where files live that are reached through links.
    pub(crate) homes: BTreeMap<PathBuf, Identity>,
    /// Directories and files that cannot be looked at, with the reason.
    pub(crate) troubles: BTreeMap<PathBuf, io::Error>,
}

/// Walks `root`. Names that begin with a dot are passed over: editors keep half-written files there, and a ConfigMap volume its
/// generations, to which the visible names are links. Links are followed.
///
/// # Errors
/// The root itself cannot be read.
pub(crate) fn walk(root: &Path) -> io::Result<Walk> {
    let mut walk = Walk::default();
    let mut ancestors = BTreeSet::new();
    enter(root, 0, &mut ancestors, &mut walk)?;
    Ok(walk)
}

fn enter(directory: &Path, depth: usize, ancestors: &mut BTreeSet<Identity>, walk: &mut Walk) -> io::Result<()> {
    let identity = identity(directory)?;
    // A link may lead back up.
    if depth > DEPTH_MAX || !ancestors.insert(identity) {
        return Ok(());
    }
    let entries = fs::read_dir(directory)?;
    walk.directories.insert(directory.to_owned(), identity);
    for entry in entries {
        let path = entry?.path();
        if is_hidden(&path) {
            continue;
        }
        if let Err(error) = look(&path, depth, ancestors, walk)
            && error.kind() != io::ErrorKind::NotFound
        {
            walk.troubles.insert(path, error);
        }
    }
    ancestors.remove(&identity);
    Ok(())
}

fn look(path: &Path, depth: usize, ancestors: &mut BTreeSet<Identity>, walk: &mut Walk) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return enter(path, depth + 1, ancestors, walk);
    }
    if metadata.is_file() && is_manifest(path) {
        walk.files.insert(path.to_owned(), Stamp::of(&metadata));
        if fs::symlink_metadata(path)?.is_symlink() {
            watch_target(path, walk)?;
        }
    }
    Ok(())
}

/// A file behind a link is edited where it lives.
fn watch_target(link: &Path, walk: &mut Walk) -> io::Result<()> {
    let target = fs::canonicalize(link)?;
    if let Some(home) = target.parent() {
        walk.homes.insert(home.to_owned(), identity(home)?);
    }
    Ok(())
}

/// Whether the name is passed over.
pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Which directory this is, whatever its name.
pub(crate) fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether the name says that a file holds objects.
pub(crate) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

impl Stamp {
    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            identity: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
