//! Storms: hundreds of connections that break off in the same phase, all at once, from either side, leave nothing behind.
//!
//! Whoever breaks off leaves a future that waits in that phase, and it is dropped or ended there: what it holds of the ring, of the
//! upstream and of the limits has to come back, to the last buffer.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use rustls::ClientConfig;

use support::Gate;
use support::PATIENCE;
use support::client::Client;
use support::edge::Corelane;
use support::edge::sum_of;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::tls::Authority;
use support::tls::client_hello;
use support::upstream::BlackHole;
use support::upstream::Upstream;
use support::upstream::Visit;

/// Connections of one storm.
const CROWD: usize = 200;
/// As many where the sockets on the way are full: each holds megabytes of the kernel's memory.
const FULL_CROWD: usize = 40;
/// More than there are phases.
const STORMS_MAX: usize = 32;

/// Where a storm breaks off.
struct Phase {
    name: &'static str,
    over: Over,
    /// What every client sends.
    says: Vec<u8>,
    /// What it has heard by then.
    hears: &'static [u8],
    /// A gauge that shows the phase, and how much one client is in it.
    gauge: (&'static str, &'static str, usize),
    breaks: Side,
    crowd: usize,
}

impl Phase {
    /// Everything on the way is full.
    fn full(self) -> Self {
        Self { crowd: FULL_CROWD, ..self }
    }
}

/// What the clients speak.
#[derive(Clone, Copy)]
enum Over {
    Http,
    /// With the handshake done.
    Https,
    /// Bytes of their own at the port of https.
    HttpsPort,
}

/// Who breaks off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Endpoint,
}

const ACTIVE: (&str, &str, usize) = ("corelane_connections", "state=\"active\"", 1);
const HANDSHAKE: (&str, &str, usize) = ("corelane_connections", "state=\"handshake\"", 1);
const TUNNEL: (&str, &str, usize) = ("corelane_connections", "state=\"tunnel\"", 1);
const IN_FLIGHT: (&str, &str, usize) = ("corelane_upstream_requests_in_flight", "", 1);
/// The client's and the endpoint's: a request on its way to an endpoint is counted nowhere else.
const BOTH_SOCKETS: (&str, &str, usize) = ("corelane_ring_sockets", "", 2);

/// Every phase in which a connection can break off, in the order of its life.
fn phases(hello: &[u8]) -> Vec<Phase> {
    use Over::*;
    use Side::*;
    let get = |host: &str, target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let post = |framing: &str| format!("POST /hold HTTP/1.1\r\nHost: app.test\r\n{framing}").into_bytes();
    let upgrade = b"GET /upgrade HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let flood = [post("Content-Length: 1000000000\r\n\r\n"), vec![b'x'; FLOOD_BYTES]].concat();
    let phase = |name, over, says, hears: &'static [u8], gauge, breaks| Phase { name, over, says, hears, gauge, breaks, crowd: CROWD };
    vec![
        phase("in the hello", HttpsPort, hello[..11].to_vec(), b"", HANDSHAKE, Client),
        phase("in the handshake", HttpsPort, hello.to_vec(), b"\x16\x03\x03", HANDSHAKE, Client),
        phase("in the head", Http, b"GET / HTTP/1.1\r\nHost: app".to_vec(), b"", ACTIVE, Client),
        phase("in the head over TLS", Https, b"GET / HTTP/1.1\r\nHost: app".to_vec(), b"", ACTIVE, Client),
        phase("in the connect to a black hole", Http, get("hole.test", "/"), b"", BOTH_SOCKETS, Client),
        phase("in the handshake with an endpoint", Http, get("tls.test", "/"), b"", BOTH_SOCKETS, Endpoint),
        phase("in the content of the request", Http, post("Content-Length: 100\r\n\r\nhello"), b"", IN_FLIGHT, Client),
        phase("in a chunk of the request", Http, post("Transfer-Encoding: chunked\r\n\r\n9\r\nhello"), b"", IN_FLIGHT, Client),
        phase("in the content of the request, at the endpoint", Http, post("Content-Length: 100\r\n\r\nhello"), b"", IN_FLIGHT, Endpoint),
        phase("in a blocked send to an endpoint", Http, flood, b"", IN_FLIGHT, Endpoint).full(),
        phase("before the answer", Http, get("app.test", "/hold"), b"", IN_FLIGHT, Client),
        phase("before the answer, at the endpoint", Http, get("app.test", "/hold"), b"", IN_FLIGHT, Endpoint),
        phase("in the head of the answer", Http, get("app.test", "/head"), b"", IN_FLIGHT, Client),
        phase("in the head of the answer, at the endpoint", Http, get("app.test", "/head"), b"", IN_FLIGHT, Endpoint),
        phase("in the answer", Http, get("app.test", "/content"), b"hello", IN_FLIGHT, Client),
        phase("in the answer, at the endpoint", Http, get("app.test", "/content"), b"hello", IN_FLIGHT, Endpoint),
        phase("in a chunk of the answer", Http, get("app.test", "/chunk"), b"hello", IN_FLIGHT, Client),
        phase("in a chunk of the answer, at the endpoint", Http, get("app.test", "/chunk"), b"hello", IN_FLIGHT, Endpoint),
        phase("in the answer over TLS", Https, get("app.test", "/content"), b"hello", IN_FLIGHT, Client),
        phase("in a blocked send", Http, get("app.test", "/flood"), b"HTTP/1.1 200", IN_FLIGHT, Client).full(),
        phase("in a blocked send over TLS", Https, get("app.test", "/flood"), b"HTTP/1.1 200", IN_FLIGHT, Client).full(),
        phase("in a tunnel", Http, upgrade.to_vec(), b"hello", TUNNEL, Client),
        phase("in a tunnel, at the endpoint", Http, upgrade.to_vec(), b"hello", TUNNEL, Endpoint),
        phase("in a tunnel over TLS", Https, upgrade.to_vec(), b"hello", TUNNEL, Client),
        phase("in a tunnel over TLS, at the endpoint", Https, upgrade.to_vec(), b"hello", TUNNEL, Endpoint),
    ]
}

/// More than the sockets on the way to an endpoint that does not read can hold.
const FLOOD_BYTES: usize = 16 << 20;

/// What Corelane holds.
#[derive(Debug, PartialEq)]
struct Held {
    connections: f64,
    in_flight: f64,
    sockets: f64,
    buffers: f64,
    descriptors: usize,
}

impl Held {
    fn by(edge: &Corelane) -> Self {
        let page = edge.settled_metrics();
        Self {
            connections: sum_of(&page, "corelane_connections", ""),
            in_flight: sum_of(&page, "corelane_upstream_requests_in_flight", ""),
            sockets: sum_of(&page, "corelane_ring_sockets", ""),
            buffers: sum_of(&page, "corelane_ring_buffers_lent", ""),
            descriptors: edge.descriptors(),
        }
    }
}

/// What the endpoints of each storm wait for: to break off, or to go when it is over.
struct Stage {
    gates: [Gate; STORMS_MAX],
    storm: AtomicUsize,
}

impl Default for Stage {
    fn default() -> Self {
        Self { gates: std::array::from_fn(|_| Gate::default()), storm: AtomicUsize::new(0) }
    }
}

impl Stage {
    /// That of the storm that is on.
    fn gate(&self) -> &Gate {
        &self.gates[self.storm.load(Ordering::SeqCst)]
    }

    /// Opens the gate, if it is not open, and begins the next storm.
    fn end(&self) {
        self.gates[self.storm.fetch_add(1, Ordering::SeqCst)].open();
    }
}

/// In whatever phase a crowd breaks off: afterwards every socket, buffer, descriptor and place is back, and the next crowd is served.
#[test]
fn a_storm_in_any_phase_leaves_nothing() {
    let stage = Arc::new(Stage::default());
    let of_upstream = stage.clone();
    let upstream = Upstream::scripted(move |visit| endpoint(visit, of_upstream.gate()));
    let of_silent = stage.clone();
    let silent = Upstream::scripted(move |mut visit| {
        visit.read_some();
        of_silent.gate().pass();
        visit.reset();
    });
    let hole = BlackHole::new();
    let authority = Authority::new();
    let edge = Corelane::start(&manifests(upstream.address, silent.address, hole.address, &authority));
    let config = authority.client();
    assert_eq!(edge.get("app.test", "/").status, 200);
    // The connection that asked for the counters may still be open when descriptors are counted: the fewest are all there are.
    let resting = (0..5).map(|_| Held::by(&edge)).filter(|held| held.sockets == 0.0).min_by_key(|held| held.descriptors);
    let resting = resting.expect("it rests");
    for phase in phases(&client_hello(&config, "app.test")) {
        let mut crowd = gather(&edge, &phase, &config);
        if phase.breaks == Side::Endpoint {
            stage.gate().open();
            // What is left is the clients' own: they have been told, and nobody has closed their side.
            let left = (phase.crowd * (phase.gauge.2 - 1)) as f64;
            let noticed = |page: &str| sum_of(page, phase.gauge.0, phase.gauge.1) <= left;
            eventually(&format!("{}: it is noticed", phase.name), || noticed(&edge.settled_metrics()).then_some(()));
        }
        crowd.drain(..).for_each(Client::reset);
        let begun = support::now();
        let mut held = Held::by(&edge);
        while held != resting && begun.elapsed() < PATIENCE {
            held = Held::by(&edge);
        }
        assert_eq!(held, resting, "after a storm {}", phase.name);
        assert_eq!(edge.get("app.test", "/").status, 200, "after a storm {}", phase.name);
        stage.end();
    }
}

/// Brings a crowd into a phase, and waits until everything is in it and nothing moves any more.
fn gather(edge: &Corelane, phase: &Phase, config: &Arc<ClientConfig>) -> Vec<Client> {
    let mut crowd: Vec<Client> = (0..phase.crowd)
        .map(|_| match phase.over {
            Over::Http => Client::connect(edge.http),
            Over::HttpsPort => Client::connect(edge.https),
            Over::Https => Client::connect_tls(edge.https, config, "app.test"),
        })
        .collect();
    for client in &mut crowd {
        if phase.says.len() < FLOOD_BYTES {
            client.send(&phase.says);
        } else {
            send_what_fits(client, &phase.says);
        }
    }
    for client in crowd.iter_mut().filter(|_| !phase.hears.is_empty()) {
        client.read_until(phase.hears);
    }
    let (metric, labels, each) = phase.gauge;
    let mut completions = f64::NAN;
    eventually(&format!("{}: all are in it", phase.name), || {
        let page = edge.settled_metrics();
        let before = std::mem::replace(&mut completions, sum_of(&page, "corelane_ring_completions_total", ""));
        let all = sum_of(&page, metric, labels) == (phase.crowd * each) as f64;
        (all && completions == before).then_some(())
    });
    crowd
}

/// Sends until the socket takes no more.
fn send_what_fits(client: &Client, bytes: &[u8]) {
    client.socket().set_nonblocking(true).expect("a mode can be set");
    let mut sent = 0;
    while let Some(count) = client.write_some(&bytes[sent..]) {
        sent += count;
    }
}

fn manifests(app: SocketAddr, silent: SocketAddr, hole: SocketAddr, authority: &Authority) -> Manifests {
    Manifests::new()
        // Without kept connections a resting Corelane has no socket at all.
        .settings(&[("upstream-keepalive-connections", "0")])
        .tls_secret("app", &authority.ecdsa(&["app.test"]))
        .service("app", &[app])
        .service("silent", &[silent])
        .service("hole", &[hole])
        .ingress(
            &Ingress::new("app")
                .annotation("ssl-redirect", "false")
                .annotation("proxy-body-size", "0")
                // A place that is not given back is missing in the next storm.
                .annotation("limit-connections", &CROWD.to_string())
                .tls("app.test", "app")
                .host("app.test", "app"),
        )
        .ingress(
            &Ingress::new("silent")
                .annotation("backend-protocol", "HTTPS")
                .annotation("proxy-connect-timeout", "60")
                .host("tls.test", "silent"),
        )
        .ingress(&Ingress::new("hole").annotation("proxy-connect-timeout", "3").host("hole.test", "hole"))
}

/// Does what the target of the first request says; whatever it begins it breaks off when the gate opens.
fn endpoint(mut visit: Visit, gate: &Gate) {
    let Some(index) = visit.head() else { return };
    let target = visit.heard(index).target;
    let begun = match target.as_str() {
        "/" => return drop(visit.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
        "/hold" => Ok(()),
        "/head" => visit.send("HTTP/1.1 200 OK\r\nContent-Le"),
        "/content" => visit.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"),
        "/chunk" => visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello"),
        "/upgrade" => visit.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"),
        "/flood" => {
            let block = vec![b'x'; 64 << 10];
            let mut result = visit.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while result.is_ok() {
                result = visit.send(&block);
            }
            return;
        }
        other => panic!("no script for {other}"),
    };
    assert!(begun.is_ok(), "{target}: {begun:?}");
    gate.pass();
    visit.reset();
}
