//! The life of the process: the ready line, readiness, signals, and an end that loses nobody.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// A running process that serves an empty directory.
struct Corelane {
    child: Child,
    /// What the ready line says, word by word.
    ready: Vec<(String, String)>,
    stderr: BufReader<ChildStderr>,
    directory: PathBuf,
}

impl Corelane {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("corelane-life-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .env_clear()
            // With a log: its writer must end with the shards.
            .args(["run", "--state-dir", "", "--access-log"])
            .arg(directory.join("access.log"))
            .arg("--manifests")
            .arg(&directory)
            .args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let line = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).expect("text") > 0, "it ended: {:?}", child.wait());
            if line.starts_with("ready ") {
                break line;
            }
        };
        let words = line.trim_end().split(' ').skip(1).map(|word| word.split_once('=').expect("name=value"));
        let ready = words.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { child, ready, stderr, directory }
    }

    fn said(&self, name: &str) -> &str {
        let word = self.ready.iter().find(|(known, _)| known == name);
        word.map(|(_, value)| value.as_str()).expect("a word of the ready line")
    }

    fn address(&self, name: &str) -> SocketAddr {
        self.said(name).parse().expect("an address")
    }

    fn signal(&self, name: &str) {
        self.signal_often(name, 1);
    }

    /// The same signal several times at once, as timeout(1) and terminals do.
    fn signal_often(&self, name: &str, times: usize) {
        let processes = std::iter::repeat_n(self.child.id().to_string(), times);
        assert!(Command::new("kill").arg(format!("-{name}")).args(processes).status().expect("kill").success());
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for a line of its log with these words.
    fn hears(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(self.stderr.read_line(&mut line).expect("text") > 0, "it ended without a word of {words:?}");
        }
    }

    /// The status of an answer at one of its addresses; none where nobody accepts.
    fn status(&self, listener: &str, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.address(listener)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    fn end(mut self) -> Option<i32> {
        self.child.wait().expect("an end").code()
    }
}

impl Drop for Corelane {
    fn drop(&mut self) {
        // After a failed assertion it still runs.
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
        let _gone_already = std::fs::remove_dir_all(&self.directory);
    }
}

/// The ready line has its words in their order, and names addresses that are really bound.
#[test]
fn the_ready_line_can_be_relied_on() {
    let corelane = Corelane::start("ready", &["--shards", "3", "--http", "127.0.0.1:0"]);
    let names: Vec<&str> = corelane.ready.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["shards", "http", "https", "admin", "routes", "upstreams"]);
    assert_eq!((corelane.said("shards"), corelane.said("routes"), corelane.said("upstreams")), ("3", "0", "0"));
    let http: Vec<SocketAddr> = corelane.said("http").split(',').map(|address| address.parse().expect("an address")).collect();
    assert_eq!(http.len(), 2, "two plain listeners");
    for address in http.into_iter().chain([corelane.address("https"), corelane.address("admin")]) {
        assert!(TcpStream::connect(address).is_ok(), "{address}");
    }
    assert_eq!(corelane.status("admin", "/readyz"), Some(200));
}

/// SIGTERM: readiness says no while new connections are served; then the process ends with 0.
#[test]
fn a_drain_says_no_before_it_closes_the_door() {
    for signal in ["TERM", "INT"] {
        let mut corelane = Corelane::start(signal, &["--pre-stop-delay", "1", "--log-level", "info"]);
        corelane.signal(signal);
        corelane.hears("readiness says no");
        assert_eq!(corelane.status("admin", "/readyz"), Some(503), "{signal}");
        assert_eq!(corelane.status("admin", "/livez"), Some(200), "{signal}");
        assert_eq!(corelane.status("http", "/"), Some(404), "{signal}: a new connection is served during the delay");
        corelane.hears("draining");
        assert_eq!(corelane.end(), Some(0), "{signal}");
    }
}

/// A second signal does not wait; one that comes together with the first is the first.
#[test]
fn a_second_signal_ends_at_once() {
    let mut corelane = Corelane::start("second", &["--pre-stop-delay", "600", "--log-level", "info"]);
    corelane.signal_often("TERM", 2);
    corelane.hears("readiness says no");
    // Long enough that it cannot be taken for an echo of the first.
    std::thread::sleep(Duration::from_millis(600));
    assert!(corelane.runs(), "an echo of the signal cut the drain short");
    corelane.signal("TERM");
    assert_eq!(corelane.end(), Some(1));
}

/// A closed terminal is no reason to stop, and there is nothing to reload.
#[test]
fn a_hangup_changes_nothing() {
    let corelane = Corelane::start("hangup", &["--pre-stop-delay", "0"]);
    corelane.signal("HUP");
    assert_eq!(corelane.status("http", "/"), Some(404));
    assert_eq!(corelane.status("admin", "/readyz"), Some(200));
    corelane.signal("TERM");
    assert_eq!(corelane.end(), Some(0));
}
