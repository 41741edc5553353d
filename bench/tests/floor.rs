//! Each relay of the floor as a process, between a client and an upstream of this test: what it costs is only worth knowing of a
//! relay that carries every byte.

#![expect(clippy::disallowed_methods, reason = "a test owns its threads")]
#![expect(clippy::unwrap_used, reason = "a relay that cannot be reached is a failed test")]

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

const MODES: [&str; 3] = ["epoll", "ring", "multishot"];
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
const CONNECTIONS: usize = 40;
/// More than all socket buffers and the relay hold together.
static POURED: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(0, 16 << 20));

/// A relay; its drop ends it.
struct Relay {
    child: Child,
    address: SocketAddr,
}

impl Relay {
    /// Starts it, and returns once it listens.
    fn start(mode: &str, endpoints: &[SocketAddr]) -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        let mut relay = Command::new(env!("CARGO_BIN_EXE_corelane-bench"));
        relay.args(["relay", mode, "--listen", &address.to_string(), "--endpoints", &endpoints.join(",")]);
        let relay = Self { child: relay.spawn().unwrap(), address };
        until(mode, || TcpStream::connect(address).is_ok());
        relay
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The most memory it has had so far.
    fn peak_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_ascii_whitespace().next()?.parse::<usize>().ok());
        peak.unwrap() << 10
    }

    /// Its listener and both ends of each pair.
    fn sockets(&self) -> usize {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits for what is to come true by itself.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if holds() {
            return;
        }
        thread::sleep(LOOK);
    }
    panic!("{what}: in vain");
}

/// An upstream that does the same with each of its connections, for as long as the test lasts.
fn upstream(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    let mut copy = stream.try_clone().unwrap();
    let _gone = io::copy(&mut stream, &mut copy);
}

/// Sends all of [`POURED`] to whoever has said something, and ends.
fn pour(mut stream: TcpStream) {
    let mut word = [0; 1];
    if stream.read_exact(&mut word).is_ok() {
        let _gone = stream.write_all(&POURED);
    }
}

/// Bytes in which none looks like its neighbours, or like those of another seed.
fn bytes(seed: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed as u64).fill(&mut bytes);
    bytes
}

/// Sends these bytes over an echo, and takes them back at the same time.
fn echoed(stream: &TcpStream, sent: &[u8]) -> Vec<u8> {
    let mut back = vec![0; sent.len()];
    thread::scope(|scope| {
        let (mut writer, mut reader) = (stream, stream);
        scope.spawn(move || writer.write_all(sent).unwrap());
        reader.read_exact(&mut back).unwrap();
    });
    back
}

/// Whatever goes in at one end comes out at the other, both ways at once, again and again on each of many connections.
#[test]
fn every_byte_arrives() {
    for mode in MODES {
        let relay = Relay::start(mode, &[upstream(echo), upstream(echo)]);
        for (length, times) in [(1 << 10, 20), (300 << 10, 3)] {
            thread::scope(|scope| {
                for connection in 0..CONNECTIONS {
                    let stream = relay.connect();
                    scope.spawn(move || {
                        for round in 0..times {
                            let sent = bytes(connection * times + round, length);
                            assert!(echoed(&stream, &sent) == sent, "{mode}: {length} bytes");
                        }
                    });
                }
            });
        }
    }
}

/// Clients that do not read hold up nobody else, are not kept in memory, and have lost nothing when they read at last, to the end of
/// the connection.
#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    for mode in MODES {
        // In turn: every other connection is poured at.
        let relay = Relay::start(mode, &[upstream(echo), upstream(pour)]);
        let mut streams: Vec<TcpStream> = (0..16).map(|_| relay.connect()).collect();
        // The first one has seen whether the relay listens, at the echo.
        let sleepers: Vec<&TcpStream> = streams.iter().step_by(2).collect();
        for mut stream in sleepers {
            stream.write_all(b"!").unwrap();
        }
        for stream in streams.iter().skip(1).step_by(2) {
            let sent = bytes(7, 300 << 10);
            assert!(echoed(stream, &sent) == sent, "{mode}: an echo beside them");
        }
        let peak_bytes = relay.peak_bytes();
        assert!(peak_bytes < 4 * POURED.len(), "{mode}: {peak_bytes} bytes for eight times {}", POURED.len());
        for stream in streams.iter_mut().step_by(2) {
            let mut poured = Vec::new();
            stream.read_to_end(&mut poured).unwrap();
            assert!(poured == *POURED, "{mode}: {} of {} bytes", poured.len(), POURED.len());
        }
    }
}

/// A client that goes takes its upstream connection with it, whether it was idle or in the middle of something.
#[test]
fn a_gone_client_frees_its_pair() {
    for mode in MODES {
        for serve in [echo, pour] {
            let relay = Relay::start(mode, &[upstream(serve)]);
            until("the pair of the first look", || relay.sockets() == 1);
            for _ in 0..2 {
                let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| relay.connect()).collect();
                until(mode, || relay.sockets() == 1 + 2 * CONNECTIONS);
                for stream in streams.iter_mut().step_by(2) {
                    stream.write_all(b"!").unwrap();
                }
                drop(streams);
                until(mode, || relay.sockets() == 1);
            }
        }
    }
}

/// The three beside each other on real loads: all answers are right, and the table says which of them is the floor.
#[test]
fn a_host_has_a_floor() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_corelane-bench"));
    bench.args(["floor", "--directory", env!("CARGO_MANIFEST_DIR"), "--rounds", "2", "--seconds", "0.3", "--warm-up", "0.1"]);
    bench.args(["--rate", "saturate", "--rate", "200"]);
    let output = bench.output().unwrap();
    let (page, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    for mode in MODES {
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(&format!("| floor-{mode} |"))).collect();
        assert!(rows.len() == 2 && rows.iter().all(|row| row.contains("| 0 |")), "no errors under either load:\n{page}");
    }
    assert_eq!(page.matches("| floor |").count(), 2, "{page}");
}

/// A client whose upstream refuses is closed, and the next one is served as if nothing had been.
#[test]
fn a_refused_client_is_closed() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    for mode in MODES {
        // The first look took the echo.
        let relay = Relay::start(mode, &[upstream(echo), nobody]);
        let closed = relay.connect().read(&mut [0; 1]);
        assert!(matches!(closed, Ok(0)), "{mode}: {closed:?}");
        let sent = bytes(3, 1 << 10);
        assert!(echoed(&relay.connect(), &sent) == sent, "{mode}");
    }
}
