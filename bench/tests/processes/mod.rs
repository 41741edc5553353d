//! The bench as its user starts it: a process with arguments, a directory of its own, and signals.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::fs;
use std::fs::Permissions;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::ChildStdout;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;

/// A bench directory with the scenarios and peers of this one, and results of its own; gone when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let scratch = Self(std::env::temp_dir().join(format!("corelane-bench-test-{}-{name}", std::process::id())));
        fs::create_dir_all(&scratch.0).unwrap();
        for part in ["load", "peers"] {
            symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join(part), scratch.0.join(part)).unwrap();
        }
        let token = scratch.0.join("token");
        fs::write(&token, format!("{name}-0123456789abcdef\n")).unwrap();
        fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
        scratch
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.0.join("token")).unwrap().trim().to_owned()
    }

    /// The text of the one results file.
    pub(crate) fn results(&self) -> String {
        let results = fs::read_dir(self.0.join("results")).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<PathBuf> = results.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        fs::read_to_string(&files[0]).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left_to_the_system = fs::remove_dir_all(&self.0);
    }
}

/// A running bench; killed when it is dropped, should it still run.
pub(crate) struct Bench {
    child: Child,
    out: BufReader<ChildStdout>,
    progress: BufReader<ChildStderr>,
    /// Where an agent listens.
    pub(crate) address: String,
}

impl Bench {
    pub(crate) fn start(scratch: &Scratch, arguments: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-bench"));
        command
            .args(arguments.split_ascii_whitespace())
            .arg("--directory")
            .arg(&scratch.0)
            .arg("--token-file")
            .arg(scratch.0.join("token"));
        let path = std::env::var_os("PATH").unwrap_or_default().into_string().unwrap();
        command.env("PATH", format!("{path}:/usr/sbin")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let progress = BufReader::new(child.stderr.take().unwrap());
        Self { child, out, progress, address: String::new() }
    }

    /// An agent on a free port of the loopback.
    pub(crate) fn agent(scratch: &Scratch, role: &str) -> Self {
        let mut agent = Self::start(scratch, &format!("agent --listen 127.0.0.1:0 --role {role}"));
        let mut line = String::new();
        agent.out.read_line(&mut line).unwrap();
        let address = line.strip_prefix(&format!("{role} agent on ")).and_then(|rest| rest.split_once(','));
        agent.address = address.unwrap_or_else(|| panic!("{line}: {}", agent.errors())).0.to_owned();
        agent
    }

    /// Waits for the next line of progress.
    pub(crate) fn progress(&mut self) -> String {
        let mut line = String::new();
        self.progress.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// How it ended by itself, and what it said on the way.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let errors = self.errors();
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), errors + &said)
    }

    /// Asks it to end, and returns what it said; it must end well.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let (status, said) = self.wait();
        assert!(status.success(), "{said}");
        said
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.progress.read_to_string(&mut errors).unwrap();
        errors
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Asked first: an agent or a driver that is killed leaves its proxies behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
        }
        let _ended = self.child.wait();
    }
}

/// Whether a program is found where a proxy's would be.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).any(|directory| directory.join(program).exists())
}
