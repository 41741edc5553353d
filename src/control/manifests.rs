//! Directories of manifests as a source of objects: read whole at start, then followed.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use tokio::time;

use crate::control::burst::Burst;
use crate::control::burst::Sign;
use crate::control::config::StartError;
use crate::control::directory::Directory;
use crate::control::follow::Follow;
use crate::control::kinds;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::finding::Severity;
use crate::snapshot::overview::SourceState;
use crate::translate::resources::Resources;

/// How often everything is looked at whatever inotify says: its queue can run over, and network file systems send nothing.
const SWEEP: Duration = Duration::from_secs(2);

/// The directories and what was read from them.
pub(crate) struct Manifests {
    directories: Vec<Directory>,
    /// Whose objects are served; empty: everybody's.
    namespaces: Vec<String>,
    resources: Resources,
    findings: Vec<Finding>,
    follow: Option<Follow>,
    burst: Option<Burst>,
    next_sweep: time::Instant,
}

impl Manifests {
    /// Reads every directory once. Nothing is followed before [`Manifests::follow`].
    ///
    /// # Errors
    /// A directory does not exist or cannot be read: at start there is nothing last good to serve instead.
    pub(crate) fn load(directories: &[PathBuf], namespaces: &[String], now: Instant) -> Result<Self, StartError> {
        let mut manifests = Self {
            directories: directories.iter().map(|path| Directory::open(path, now)).collect::<Result<_, _>>()?,
            namespaces: namespaces.to_vec(),
            resources: Resources::default(),
            findings: Vec::new(),
            follow: None,
            burst: None,
            next_sweep: time::Instant::from_std(now + SWEEP),
        };
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
        self.look_everywhere(&HashSet::new(), now, false);
    }

    /// Waits until objects or findings have changed; says when the change was first seen. Safe to drop while it waits.
    pub(crate) async fn changed(&mut self) -> Instant {
        loop {
            // A sweep does not read what is in the middle of being written.
            let due = self.burst.as_ref().map_or(self.next_sweep, |burst| time::Instant::from_std(burst.due()));
            tokio::select! {
                (path, sign) = next_sign(&mut self.follow) => {
                    if self.concerns(&path) {
                        let now = time::Instant::now().into_std();
                        self.burst.get_or_insert_with(|| Burst::new(now)).sign(now, path, sign);
                    }
                }
                () = time::sleep_until(due) => {
                    let now = time::Instant::now().into_std();
                    match self.burst.take() {
                        Some(burst) => if self.look(burst.touched(), now) { return burst.began() },
                        None => if self.look_everywhere(&HashSet::new(), now, false) { return now },
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
        self.directories.iter().map(Directory::state).collect()
    }

    /// Whether something that happened to `path` can change what is read. The directory above one of ours tells only of that.
    fn concerns(&self, path: &Path) -> bool {
        let is_above = |home: &Path| self.directories.iter().any(|directory| directory.path.parent() == Some(home));
        path.as_os_str().is_empty()
            || self.directories.iter().any(|directory| path.starts_with(&directory.path))
            || path.parent().is_some_and(|home| !is_above(home) && self.follows(home))
    }

    fn follows(&self, directory: &Path) -> bool {
        self.follow.as_ref().is_some_and(|follow| follow.follows(directory))
    }

    /// Looks at the paths that gave a sign, and everywhere if those do not tell it all; true if that made a difference.
    fn look(&mut self, touched: &HashSet<PathBuf>, now: Instant) -> bool {
        let (mut changed, mut told) = (false, true);
        for path in touched {
            let mut ours = self.directories.iter_mut().filter(|directory| path.starts_with(&directory.path)).peekable();
            told &= ours.peek().is_some();
            for directory in ours {
                match directory.look_at(path) {
                    Some(new) => changed |= new,
                    None => told = false,
                }
            }
        }
        if !told {
            return self.look_everywhere(touched, now, changed);
        }
        if changed {
            self.merge();
        }
        changed
    }

    /// Looks at everything, and reads what has changed or was `touched`; true if that made a difference, or one was made before.
    fn look_everywhere(&mut self, touched: &HashSet<PathBuf>, now: Instant, mut changed: bool) -> bool {
        self.next_sweep = time::Instant::from_std(now + SWEEP);
        // A directory is watched from the moment it is found; what was put into it before that is found by looking again.
        for _ in 0..8 {
            for directory in &mut self.directories {
                changed |= directory.look_everywhere(touched, now);
            }
            let sources = self.directories.iter().flat_map(Directory::sources).collect();
            match self.follow.as_mut().map(|follow| follow.set(&sources)) {
                Some(Ok(true)) => {}
                Some(Err(error)) => {
                    let every = SWEEP.as_secs();
                    tracing::warn!(%error, "a directory cannot be watched (see fs.inotify.max_user_watches): it is read every {every} s");
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
        for directory in &self.directories {
            self.findings.extend(directory.troubles.iter().cloned());
            for (path, file) in &directory.files {
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
        if !self.namespaces.is_empty() {
            // What these do not name of Secrets and ConfigMaps is looked at by nobody, but for what the settings name.
            let is_ours = |key: &ObjectKey| self.namespaces.contains(&key.namespace);
            self.resources.ingresses.retain(|key, _| is_ours(key));
            self.resources.services.retain(|key, _| is_ours(key));
            self.resources.endpoint_slices.retain(|key, _| is_ours(key));
        }
    }
}

async fn next_sign(follow: &mut Option<Follow>) -> (PathBuf, Sign) {
    match follow {
        Some(follow) => follow.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test may begin at any moment")]

    use super::*;
    use std::fs;
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
        Manifests::load(std::slice::from_ref(&scratch.0), &[], Instant::now()).unwrap()
    }

    fn names(manifests: &Manifests) -> Vec<&str> {
        manifests.resources.services.keys().map(|key| key.name.as_str()).collect()
    }

    fn reload(manifests: &mut Manifests) -> bool {
        manifests.look_everywhere(&HashSet::new(), Instant::now(), false)
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
        let mut manifests = Manifests::load(std::slice::from_ref(&root), &[], Instant::now()).unwrap();
        fs::rename(&root, scratch.0.join("out")).unwrap();
        assert!(reload(&mut manifests));
        assert!(!reload(&mut manifests), "said once");
        assert_eq!((names(&manifests), manifests.findings()[0].reason), (vec!["a"], "ManifestUnreadable"));
        assert!(manifests.states()[0].trouble.is_some());
        scratch.write("in/b.yaml", &service("b"));
        assert!(reload(&mut manifests));
        assert_eq!((names(&manifests), manifests.findings().len()), (vec!["b"], 0));

        let missing = scratch.0.join("missing");
        let Err(error) = Manifests::load(std::slice::from_ref(&missing), &[], Instant::now()) else { panic!("a missing directory loads") };
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
        let mut manifests = Manifests::load(std::slice::from_ref(&root), &[], Instant::now()).unwrap();
        manifests.follow(Instant::now());
        let steps: [Step<'_>; 8] = [
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
            ("removed", &|| fs::remove_file(root.join("x/y/e.yaml")).unwrap(), &["c", "d"]),
            (
                "linked",
                &|| {
                    scratch.write("elsewhere/l.yaml", &service("l"));
                    symlink(scratch.0.join("elsewhere/l.yaml"), root.join("l.yaml")).unwrap();
                },
                &["c", "d", "l"],
            ),
            ("written behind the link", &|| scratch.write("elsewhere/l.yaml", &service("m")), &["c", "d", "m"]),
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
