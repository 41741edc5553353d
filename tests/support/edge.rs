//! A running Corelane: the real binary on free ports, ended with its owner.

use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddr;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;

use crate::support::Directory;
use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::client::Response;
use crate::support::eventually;
use crate::support::manifests::Manifests;
#[cfg(target_arch = "x86_64")]
use crate::support::trace;

/// One process with its manifests directory.
pub struct Corelane {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    pub directory: Directory,
    process: Child,
    log: Arc<Mutex<String>>,
    /// A panic is what the test is about.
    may_panic: bool,
}

impl Corelane {
    /// Serves `manifests` in `endpoints` mode with one shard.
    pub fn start(manifests: &Manifests) -> Self {
        Self::with(manifests, &[])
    }

    /// As [`Self::start`], with further arguments; they win over the ordinary ones.
    pub fn with(manifests: &Manifests, arguments: &[&str]) -> Self {
        let directory = Directory::new();
        directory.write("objects.yaml", manifests.to_yaml());
        Self::over(directory, arguments)
    }

    /// Serves a directory as it is.
    pub fn over(directory: Directory, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.arg("run").arg("--manifests").arg(directory.path());
        Self::launch(command, directory, arguments)
    }

    /// Serves the cluster to which the file `kubeconfig` of a directory leads.
    pub fn in_cluster(directory: Directory, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.arg("run").arg("--kubeconfig").arg(directory.path().join("kubeconfig"));
        Self::launch(command, directory, arguments)
    }

    fn launch(mut command: Command, directory: Directory, arguments: &[&str]) -> Self {
        let ordinary = [
            ("--http", "127.0.0.1:0"),
            ("--https", "127.0.0.1:0"),
            ("--admin", "127.0.0.1:0"),
            ("--shards", "1"),
            ("--backend-mode", "endpoints"),
            ("--configmap", "corelane/settings"),
            ("--access-log", "off"),
            ("--state-dir", ""),
            ("--pre-stop-delay", "0"),
            ("--drain-timeout", "10"),
        ];
        for (name, value) in ordinary {
            if !arguments.contains(&name) {
                command.args([name, value]);
            }
        }
        command.args(arguments);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("corelane starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = process.stderr.take().expect("stderr is piped");
        let (ready, ready_line) = mpsc::channel();
        let of_thread = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("ready shards=") {
                    let _nobody_waits = ready.send(line.clone());
                }
                let mut log = of_thread.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let Ok(line) = ready_line.recv_timeout(PATIENCE) else {
            let _gone = process.kill();
            let _gone = process.wait();
            panic!("corelane did not get ready:\n{}", log.lock().unwrap_or_else(PoisonError::into_inner));
        };
        let address = |name: &str| {
            let value = line.split(&[' ', '"'][..]).find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line:?}"))
        };
        Self { http: address("http"), https: address("https"), admin: address("admin"), directory, process, log, may_panic: false }
    }

    /// Replaces the objects.
    pub fn apply(&self, manifests: &Manifests) {
        self.directory.write("objects.yaml", manifests.to_yaml());
    }

    /// One request on a connection of its own.
    pub fn get(&self, host: &str, path: &str) -> Response {
        Client::connect(self.http).get(host, path)
    }

    /// Asks until the answer is as wanted.
    pub fn wait_for(&self, host: &str, path: &str, wanted: impl Fn(&Response) -> bool) -> Response {
        eventually(&format!("{host}{path} answers as wanted"), || Some(self.get(host, path)).filter(|response| wanted(response)))
    }

    /// A page of the admin endpoint.
    pub fn admin(&self, path: &str) -> Response {
        let mut client = Client::connect(self.admin);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"));
        client.response()
    }

    /// The sum of a metric over the series whose labels contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        sum_of(&self.metrics(), name, labels)
    }

    /// All metrics at one moment, for [`sum_of`].
    pub fn metrics(&self) -> String {
        self.admin("/metrics").text()
    }

    /// Waits until every shard has published what it has counted up to now; then as [`Self::metrics`].
    pub fn settled_metrics(&self) -> String {
        let looks = |page: &str| sum_of(page, "corelane_shard_loop_lag_seconds_count", "");
        // One look may be under way; the one behind it begins later than this call.
        let wanted = looks(&self.metrics()) + 2.0;
        eventually("the shard looks at its counters", || Some(self.metrics()).filter(|page| looks(page) >= wanted))
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process runs").count()
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        #[expect(unsafe_code, reason = "std sends no signals but SIGKILL")]
        // SAFETY: no pointer is passed; the process is our child and has not been waited for.
        unsafe {
            libc::kill(self.pid() as i32, signal);
        }
    }

    /// Stops every thread of the process: what is sent to it from now on waits, all of it, until [`Self::resume`].
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.pid());
        eventually("every thread has stopped", || {
            let threads = std::fs::read_dir(&tasks).expect("the process runs");
            let stopped = |thread: std::io::Result<std::fs::DirEntry>| {
                let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
                // Behind the name, which is in brackets and may hold anything.
                Some(stat.rsplit(')').next()?.trim_start().starts_with('T'))
            };
            threads.into_iter().all(|thread| stopped(thread).unwrap_or(true)).then_some(())
        });
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    /// From now on the process may have this many descriptors open.
    pub fn limit_descriptors(&self, most: u64) {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: 20_000 };
        #[expect(unsafe_code, reason = "std knows no limits")]
        // SAFETY: the struct outlives the call; the process is our child and has not been waited for.
        let result = unsafe { libc::prlimit(self.pid() as i32, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Breaks the ring of the shard whose thread has this name: its next system call fails as no kernel lets it fail.
    #[cfg(target_arch = "x86_64")]
    pub fn break_shard(&mut self, name: &str) {
        self.may_panic = true;
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the process runs");
        let thread = tasks.flatten().find(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
        let thread = thread.and_then(|task| task.file_name().to_str()?.parse().ok()).expect("a shard of this name");
        trace::fail_next(thread, libc::SYS_io_uring_enter, libc::EBADF);
    }

    /// How it ended; panics where it goes on.
    pub fn wait(&mut self) -> ExitStatus {
        let process = &mut self.process;
        eventually("corelane ends", || process.try_wait().expect("the child can be asked"))
    }

    /// As [`Self::wait`], and back in the very moment that it has ended; for one that is sure to.
    pub fn end(&mut self) -> ExitStatus {
        self.process.wait().expect("the child can be waited for")
    }
}

impl Drop for Corelane {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("corelane's log:\n{log}");
        } else {
            // Whatever a test was about: nothing from outside makes a task panic.
            assert!(self.may_panic || !log.contains("panicked"), "{log}");
        }
    }
}

/// The sum of a metric on a page over the series whose labels contain `labels`.
pub fn sum_of(page: &str, name: &str, labels: &str) -> f64 {
    let lines = page.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
