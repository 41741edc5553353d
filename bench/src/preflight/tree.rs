//! `/proc` and `/sys` below a directory, which is `/` but in tests.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Where the files of a host are.
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// # Errors
    /// Where nothing below `root` can be read as `/proc`.
    pub(super) fn below(root: &Path) -> io::Result<Self> {
        let proc = root.join("proc");
        fs::read_dir(&proc).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}; is it mounted?", proc.display())))?;
        Ok(Self { root: root.to_owned() })
    }

    /// A file's text without the white space around it; `None` where the host has no such file or does not let us read it.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// What lies in a directory, in the order of numbers and then of names; empty where there is none.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(directory) = fs::read_dir(self.root.join(path)) else { return Vec::new() };
        let mut names: Vec<String> = directory.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_by_key(|name| (name.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse::<u64>().ok(), name.clone()));
        names
    }

    /// Directories of CPUs, as `sys/devices/system/cpu/cpu0`.
    pub(super) fn cpus(&self) -> Vec<String> {
        let directory = "sys/devices/system/cpu";
        let is_cpu = |name: &String| name.strip_prefix("cpu").is_some_and(|number| number.parse::<usize>().is_ok());
        self.names(directory).iter().filter(|name| is_cpu(name)).map(|name| format!("{directory}/{name}")).collect()
    }
}

/// What is chosen of the words of a file such as `always [madvise] never`.
pub(super) fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A host of these files, below a directory of its own that is gone when it is dropped.
    pub(crate) struct Host(PathBuf);

    pub(crate) fn host(name: &str, files: &[(&str, &str)]) -> Host {
        let host = Host(std::env::temp_dir().join(format!("corelane-preflight-{}-{name}", std::process::id())));
        fs::create_dir_all(&host.0).unwrap();
        for (path, text) in files {
            host.write(path, text);
        }
        host
    }

    impl Host {
        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        pub(crate) fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Its files, `/proc` among them even where none of them lies there.
        pub(crate) fn tree(&self) -> Tree {
            fs::create_dir_all(self.0.join("proc")).unwrap();
            Tree::below(&self.0).unwrap()
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _left_to_the_system = fs::remove_dir_all(&self.0);
        }
    }

    /// CPUs come in the order of their numbers, and nothing else that begins like one.
    #[test]
    fn cpus_come_in_order() {
        let files = ["cpu10/x", "cpu2/x", "cpufreq/x", "cpuidle/x", "cpu0/x"].map(|path| format!("sys/devices/system/cpu/{path}"));
        let host = host("order", &files.each_ref().map(|path| (path.as_str(), "")));
        assert_eq!(host.tree().cpus(), ["cpu0", "cpu2", "cpu10"].map(|cpu| format!("sys/devices/system/cpu/{cpu}")));
    }

    /// The word in brackets is the one that holds.
    #[test]
    fn the_word_in_brackets_is_chosen() {
        let table = [("always [madvise] never", Some("madvise")), ("[never]", Some("never")), ("madvise", None), ("[", None), ("", None)];
        for (text, word) in table {
            assert_eq!(chosen(text), word, "{text}");
        }
    }
}
