//! Directories of manifests as a source of objects: read whole at start, then followed.
//!
//! Whatever goes wrong later keeps what was last good: a document keeps its object, a file its objects, a directory its files.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use aws_lc_rs::digest;
use tokio::time;

use crate::control::burst::Burst;
use crate::control::config::StartError;
use crate::control::follow::Follow;
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

/// How often everything is looked at whatever inotify says: its queue can run over, and network file systems send nothing.
const SWEEP: Duration = Duration::from_secs(2);
/// Larger files are refused.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The directories and what was read from them.
pub(crate) struct Manifests {
    roots: Vec<Root>,
    resources: Resources,
    findings: Vec<Finding>,
    follow: Option<Follow>,
    burst: Option<Burst>,
    next_sweep: time::Instant,
}

/// One directory that was asked for.
struct Root {
    path: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// What cannot be looked at now.
    troubles: Vec<Finding>,
    trouble: Option<String>,
    current_at: Instant,
}

/// One file as it was last read.
#[derive(Default)]
struct File {
    stamp: Option<Stamp>,
    digest: Vec<u8>,
    /// Good, or last good where a document is bad now.
    objects: Resources,
    findings: Vec<Finding>,
}

impl Manifests {
    /// Reads every directory once. Nothing is followed before [`Manifests::follow`].
    ///
    /// # Errors
    /// A directory does not exist or cannot be read: at start there is nothing last good to serve instead.
    pub(crate) fn load(directories: &[PathBuf], now: Instant) -> Result<Self, StartError> {
        let root =
            |path: &PathBuf| Root { path: path.clone(), files: BTreeMap::new(), troubles: Vec::new(), trouble: None, current_at: now };
        let mut manifests = Self {
            roots: directories.iter().map(root).collect(),
            resources: Resources::default(),
            findings: Vec::new(),
            follow: None,
            burst: None,
            next_sweep: time::Instant::from_std(now + SWEEP),
        };
        for root in &mut manifests.roots {
            let found = walk::walk(&root.path).map_err(|error| start_error(&root.path, &error))?;
            root.take(found, &HashSet::new(), now);
        }
        manifests.merge();
        Ok(manifests)
    }

    /// Begins to watch the directories. Without inotify they are still swept.
    pub(crate) fn follow(&mut self, now: Instant) {
        match Follow::new() {
            Ok(follow) => self.follow = Some(follow),
            Err(error) => {
                let every = SWEEP.as_secs();
                tracing::warn!(%error, "inotify is not available (see fs.inotify.max_user_instances): directories are read every {every} s");
            }
        }
        // What happened since the load is found now.
        self.reload(&HashSet::new(), now);
    }

    /// Waits until objects or findings have changed; says when the change was first seen. Safe to drop while it waits.
    pub(crate) async fn changed(&mut self) -> Instant {
        loop {
            let due = self.burst.as_ref().map_or(self.next_sweep, |burst| time::Instant::from_std(burst.due()).min(self.next_sweep));
            tokio::select! {
                (path, sign) = next_sign(&mut self.follow) => {
                    if self.concerns(&path) {
                        let now = time::Instant::now().into_std();
                        self.burst.get_or_insert_with(|| Burst::new(now)).sign(now, path, sign);
                    }
                }
                () = time::sleep_until(due) => {
                    let now = time::Instant::now().into_std();
                    let burst = self.burst.take();
                    let touched = burst.as_ref().map(|burst| burst.touched().clone()).unwrap_or_default();
                    if self.reload(&touched, now) {
                        return burst.map_or(now, |burst| burst.began());
                    }
                }
            }
        }
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub(crate) fn states(&self) -> Vec<SourceState> {
        let state = |root: &Root| SourceState {
            name: format!("manifests {}", root.path.display()),
            trouble: root.trouble.clone(),
            current_at: Some(root.current_at),
            objects: root.files.values().map(|file| kinds::count(&file.objects)).sum(),
        };
        self.roots.iter().map(state).collect()
    }

    /// Whether something that happened to `path` can change what is read. The directory above a root tells only of the root.
    fn concerns(&self, path: &Path) -> bool {
        path.as_os_str().is_empty()
            || self.roots.iter().any(|root| path.starts_with(&root.path))
            || path.parent().is_some_and(|home| self.roots.iter().all(|root| root.path.parent() != Some(home)) && self.follows(home))
    }

    fn follows(&self, directory: &Path) -> bool {
        self.follow.as_ref().is_some_and(|follow| follow.follows(directory))
    }

    /// Looks at everything and reads what has changed, and what was `touched` whatever its stamp says; true if that made a difference.
    fn reload(&mut self, touched: &HashSet<PathBuf>, now: Instant) -> bool {
        self.next_sweep = time::Instant::from_std(now + SWEEP);
        let mut changed = false;
        // A directory is watched from the moment it is found; what was put into it before that is found by looking again.
        for _ in 0..8 {
            let mut directories = BTreeMap::new();
            for root in &mut self.roots {
                let found = walk::walk(&root.path);
                add_home(&root.path, &mut directories);
                match found {
                    Ok(mut found) => {
                        directories.append(&mut found.directories);
                        changed |= root.take(found, touched, now);
                    }
                    Err(error) => changed |= root.lose(&error),
                }
            }
            match self.follow.as_mut().map(|follow| follow.set(&directories)) {
                Some(Ok(true)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "a directory cannot be watched (see fs.inotify.max_user_watches): it is read every {} s", SWEEP.as_secs());
                    break;
                }
                Some(Ok(false)) | None => break,
            }
        }
        if changed {
            self.merge();
        }
        changed
    }

    /// All objects of all files; of two with the same name the first one counts, in the order of the directories and then of names.
    fn merge(&mut self) {
        self.resources = Resources::default();
        self.findings.clear();
        for root in &self.roots {
            self.findings.extend(root.troubles.iter().cloned());
            for (path, file) in &root.files {
                self.findings.extend(file.findings.iter().cloned());
                for (kind, key) in kinds::adopt(&mut self.resources, &file.objects) {
                    self.findings.push(Finding {
                        severity: Severity::Error,
                        kind,
                        object: key,
                        field: "metadata.name".to_owned(),
                        reason: "ManifestDuplicate",
                        message: format!("another file already holds this object; what {} says is not served", path.display()),
                        cure: "Keep the object in one file only.".to_owned(),
                    });
                }
            }
        }
    }
}

async fn next_sign(follow: &mut Option<Follow>) -> (PathBuf, crate::control::burst::Sign) {
    match follow {
        Some(follow) => follow.next().await,
        None => std::future::pending().await,
    }
}

/// The directory above a root: there one sees it go, come back, or be another one behind the same link.
fn add_home(root: &Path, directories: &mut BTreeMap<PathBuf, Identity>) {
    use std::os::unix::fs::MetadataExt;
    if let Some(home) = root.parent().filter(|home| !home.as_os_str().is_empty())
        && let Ok(metadata) = fs::metadata(home)
    {
        directories.insert(home.to_owned(), (metadata.dev(), metadata.ino()));
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

impl Root {
    /// Takes in what the walk found; true if that made a difference.
    fn take(&mut self, found: Walk, touched: &HashSet<PathBuf>, now: Instant) -> bool {
        let before = self.files.len();
        let lost = |path: &Path| found.troubles.keys().any(|trouble| path.starts_with(trouble));
        self.files.retain(|path, _| found.files.contains_key(path) || lost(path));
        let mut changed = self.files.len() != before;
        let mut troubles: BTreeSet<Finding> = found.troubles.iter().map(|(path, error)| trouble(path, error)).collect();
        for (path, stamp) in found.files {
            let file = self.files.entry(path.clone()).or_default();
            if file.stamp == Some(stamp) && !touched.contains(&path) {
                continue;
            }
            match read(&path) {
                Ok(bytes) => {
                    changed |= file.take(&path, &bytes);
                    file.stamp = Some(stamp);
                }
                // Gone since the walk: the next one will not find it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    file.stamp = None;
                    troubles.insert(trouble(&path, &error));
                }
            }
        }
        let troubles = Vec::from_iter(troubles);
        changed |= self.troubles != troubles;
        self.trouble = troubles.first().map(|finding| format!("{}: {}", finding.object.name, finding.message));
        self.troubles = troubles;
        if self.trouble.is_none() {
            self.current_at = now;
        }
        changed
    }

    /// The root itself cannot be read: everything stays as it was last good.
    fn lose(&mut self, error: &io::Error) -> bool {
        let troubles = vec![trouble(&self.path, error)];
        self.trouble = Some(troubles[0].message.clone());
        std::mem::replace(&mut self.troubles, troubles) != self.troubles
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

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test may begin at any moment")]

    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory of its own for one test, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("corelane-{}-{name}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn service(name: &str) -> String {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n")
    }

    fn load(scratch: &Scratch) -> Manifests {
        Manifests::load(std::slice::from_ref(&scratch.0), Instant::now()).unwrap()
    }

    fn names(manifests: &Manifests) -> Vec<&str> {
        manifests.resources.services.keys().map(|key| key.name.as_str()).collect()
    }

    fn reload(manifests: &mut Manifests) -> bool {
        manifests.reload(&HashSet::new(), Instant::now())
    }

    /// Files are found at any depth by their ending; hidden ones and others are not read.
    #[test]
    fn manifests_are_found_by_name() {
        let scratch = Scratch::new("names");
        for (file, name) in [("a.yaml", "a"), ("x/b.yml", "b"), ("x/y/c.yaml", "c"), ("d.txt", "d"), (".e.yaml", "e"), (".git/f.yaml", "f")]
        {
            scratch.write(file, &service(name));
        }
        scratch.write("g.json", r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"g"},"spec":{}}"#);
        symlink(&scratch.0, scratch.0.join("x/up")).unwrap();
        assert_eq!(names(&load(&scratch)), ["a", "b", "c", "g"]);
    }

    /// A document that breaks keeps its object, one that cannot be told keeps the whole file; both say so and both heal.
    #[test]
    fn a_broken_document_keeps_its_last_good_object() {
        let scratch = Scratch::new("last-good");
        scratch.write("a.yaml", &(service("a") + &service("b")));
        scratch.write("c.yaml", &service("c"));
        let mut manifests = load(&scratch);
        assert!(!reload(&mut manifests), "nothing changed");

        scratch.write("a.yaml", &(service("a").replace("80", "high") + &service("d")));
        assert!(reload(&mut manifests));
        assert_eq!(names(&manifests), ["a", "c", "d"], "b is gone, a is kept");
        let [finding] = manifests.findings() else { panic!("{:?}", manifests.findings()) };
        assert!(
            finding.object.name.ends_with("a.yaml") && finding.field.starts_with("document 1, line 1: spec.ports[0].port"),
            "{finding}"
        );

        scratch.write("a.yaml", "{{{");
        assert!(reload(&mut manifests));
        assert_eq!(names(&manifests), ["a", "c", "d"]);
        scratch.write("a.yaml", &service("e"));
        assert!(reload(&mut manifests));
        assert_eq!((names(&manifests), manifests.findings().len()), (vec!["c", "e"], 0));
        fs::remove_file(scratch.0.join("c.yaml")).unwrap();
        assert!(reload(&mut manifests));
        assert_eq!(names(&manifests), ["e"]);
    }

    /// Of two files with the same object the first in order is served, and the second gets a finding.
    #[test]
    fn the_first_of_two_files_wins() {
        let scratch = Scratch::new("twice");
        scratch.write("b.yaml", &service("same"));
        scratch.write("a.yaml", &service("same").replace("80", "81"));
        let manifests = load(&scratch);
        let port = manifests.resources.services.values().next().unwrap().spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port;
        assert_eq!((port, manifests.findings()[0].reason), (81, "ManifestDuplicate"));
        assert!(manifests.findings()[0].message.contains("b.yaml"));
    }

    /// A directory that vanishes keeps what it held and says so; it is an error only at start.
    #[test]
    fn a_vanished_directory_keeps_everything() {
        let scratch = Scratch::new("vanish");
        scratch.write("in/a.yaml", &service("a"));
        let root = scratch.0.join("in");
        let mut manifests = Manifests::load(std::slice::from_ref(&root), Instant::now()).unwrap();
        fs::rename(&root, scratch.0.join("out")).unwrap();
        assert!(reload(&mut manifests));
        assert!(!reload(&mut manifests), "said once");
        assert_eq!((names(&manifests), manifests.findings()[0].reason), (vec!["a"], "ManifestUnreadable"));
        assert!(manifests.states()[0].trouble.is_some());
        scratch.write("in/b.yaml", &service("b"));
        assert!(reload(&mut manifests));
        assert_eq!((names(&manifests), manifests.findings().len()), (vec!["b"], 0));

        let missing = scratch.0.join("missing");
        let Err(error) = Manifests::load(std::slice::from_ref(&missing), Instant::now()) else { panic!("a missing directory loads") };
        assert!(error.message.contains("does not exist: create it"), "{error}");
    }

    /// The swap of a ConfigMap volume's `..data` link is one change, seen by inotify.
    #[tokio::test]
    async fn a_config_map_volume_is_followed() {
        let scratch = Scratch::new("volume");
        scratch.write("..1/a.yaml", &service("a"));
        symlink("..1", scratch.0.join("..data")).unwrap();
        symlink("..data/a.yaml", scratch.0.join("a.yaml")).unwrap();
        let mut manifests = load(&scratch);
        manifests.follow(Instant::now());
        assert_eq!(names(&manifests), ["a"]);

        scratch.write("..2/a.yaml", &service("b"));
        symlink("..2", scratch.0.join("..data_tmp")).unwrap();
        fs::rename(scratch.0.join("..data_tmp"), scratch.0.join("..data")).unwrap();
        manifests.next_sweep += Duration::from_secs(3600);
        manifests.changed().await;
        assert_eq!(names(&manifests), ["b"]);
    }

    /// What it is called, what is done, and which objects there are then.
    type Step<'t> = (&'static str, &'t dyn Fn(), &'static [&'static str]);

    /// A file written in place, renamed over, or put into a new directory is read without a sweep.
    #[tokio::test]
    async fn every_way_to_edit_is_followed() {
        let scratch = Scratch::new("edits");
        scratch.write("in/a.yaml", &service("a"));
        let root = scratch.0.join("in");
        let mut manifests = Manifests::load(std::slice::from_ref(&root), Instant::now()).unwrap();
        manifests.follow(Instant::now());
        let steps: [Step<'_>; 5] = [
            ("written in place", &|| scratch.write("in/a.yaml", &service("b")), &["b"]),
            (
                "renamed over",
                &|| {
                    scratch.write("in/.a.swp", &service("c"));
                    fs::rename(root.join(".a.swp"), root.join("a.yaml")).unwrap();
                },
                &["c"],
            ),
            ("a new directory", &|| scratch.write("in/x/y/d.yaml", &service("d")), &["c", "d"]),
            ("a file in it", &|| scratch.write("in/x/y/e.yaml", &service("e")), &["c", "d", "e"]),
            (
                "another directory under the same name",
                &|| {
                    scratch.write("next/f.yaml", &service("f"));
                    fs::rename(&root, scratch.0.join("old")).unwrap();
                    fs::rename(scratch.0.join("next"), &root).unwrap();
                },
                &["f"],
            ),
        ];
        for (step, act, expected) in steps {
            act();
            // One edit may show in two steps, never in a third.
            for _ in 0..3 {
                manifests.next_sweep += Duration::from_secs(3600);
                if names(&manifests) == expected {
                    break;
                }
                manifests.changed().await;
            }
            assert_eq!(names(&manifests), expected, "{step}");
        }
    }
}
