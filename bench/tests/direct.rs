//! The driver against its own upstream, with no proxy between: what is counted must be exact.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::time::Duration;

use corelane_bench::client::Target;
use corelane_bench::driver::Driver;
use corelane_bench::driver::Round;
use corelane_bench::driver::Span;
use corelane_bench::pattern;
use corelane_bench::scenario::Load;
use corelane_bench::schedule;
use corelane_bench::schedule::Arrivals;
use corelane_bench::tally::Tally;
use corelane_bench::wire;
use corelane_bench::wire::Wanted;

const WINDOW_NS: u64 = 200_000_000;
const SPAN: Span = Span { warm_up_ns: 0, window_ns: WINDOW_NS };
const SEED: u64 = 11;

/// Requests of one kind to whoever listens there.
fn target(address: SocketAddr) -> Target {
    Target {
        address,
        tls: None,
        connections: 2,
        close: false,
        host: "app.bench.local",
        path: "/api/item",
        addresses: None,
        body_bytes: 1024,
    }
}

fn round(body_bytes: u64, connections: u32, close: bool, load: Load) -> Round {
    let mut driver = Driver::new().expect("the loopback has two free ports");
    let target = Target { connections, close, body_bytes, ..target(driver.upstream().endpoints()[0]) };
    driver.round(target, load, SPAN, SEED, None).expect("the upstream takes all connections")
}

/// What of a connection a relay spoils: the last byte of each piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoiled {
    Nothing,
    Responses,
}

/// A proxy that knows nothing of HTTP and may spoil what it carries.
#[expect(clippy::disallowed_methods, reason = "a test owns its threads")]
fn relay(upstream: SocketAddr, spoiled: Spoiled) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(io::Result::ok) {
            let endpoint = TcpStream::connect(upstream).expect("the upstream listens");
            let (Ok(from_client), Ok(to_endpoint)) = (client.try_clone(), endpoint.try_clone()) else { return };
            std::thread::spawn(move || carry(from_client, to_endpoint, false));
            std::thread::spawn(move || carry(endpoint, client, spoiled == Spoiled::Responses));
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, spoils: bool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if spoils {
            bytes[length - 1] ^= 1;
        }
        if to.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
    let _gone = to.shutdown(Shutdown::Write);
}

/// A round through a relay.
fn relayed(spoiled: Spoiled, rate_per_s: f64) -> Tally {
    let mut driver = Driver::new().expect("the loopback has two free ports");
    let target = target(relay(driver.upstream().endpoints()[0], spoiled));
    let load = Load::Open { rate_per_s, arrivals: Arrivals::Uniform };
    driver.round(target, load, SPAN, SEED, None).expect("the relay takes all connections").tally
}

/// In an open loop every request of the schedule is sent and answered, whatever the body and the connections.
#[test]
fn every_request_of_the_schedule_is_answered() {
    let rate_per_s = 500.0;
    for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
        let planned = schedule::due_times(arrivals, rate_per_s, WINDOW_NS, SEED).len() as u64;
        for (body_bytes, connections, close) in [(0, 1, false), (1024, 4, false), (1 << 20, 2, false), (3 << 20, 2, false), (1024, 3, true)]
        {
            let tally = round(body_bytes, connections, close, Load::Open { rate_per_s, arrivals }).tally;
            assert_eq!(tally.errors.total(), 0, "{:?}", tally.errors);
            assert_eq!((tally.planned, tally.sent, tally.latency.len()), (planned, planned, planned));
            assert_eq!((tally.service.len(), tally.request_leg.len(), tally.response_leg.len()), (planned, planned, planned));
        }
    }
}

/// A request is never faster from its intended start than from its actual send.
#[test]
fn waiting_for_a_connection_is_part_of_the_latency() {
    // One connection and a body that takes long: requests queue.
    let load = Load::Open { rate_per_s: 2000.0, arrivals: Arrivals::Poisson };
    let tally = round(1 << 20, 1, false, load).tally;
    assert_eq!(tally.errors.total(), 0, "{:?}", tally.errors);
    assert!(tally.latency.max() >= tally.service.max());
    assert!(tally.latency.mean() > tally.service.mean());
}

/// The seconds of a round add up to the round, in an open loop as in a closed one.
#[test]
fn the_seconds_add_up_to_the_round() {
    for load in [Load::Saturate, Load::Open { rate_per_s: 2000.0, arrivals: Arrivals::Poisson }] {
        let tally = round(1024, 4, false, load).tally;
        let timeline = &tally.timeline;
        assert_eq!((timeline.requests.iter().sum::<u64>(), timeline.errors.iter().sum::<u64>()), (tally.completed, 0));
        assert_eq!((timeline.requests.len(), timeline.p50_us.len(), timeline.cpu_us.len()), (1, 1, 0));
        assert!(timeline.p50_us[0] <= timeline.p99_us[0] && timeline.p99_us[0] <= timeline.max_us[0], "{timeline:?}");
    }
}

/// A closed loop goes round and round on every kind of connection.
#[test]
fn a_closed_loop_keeps_going() {
    for close in [false, true] {
        let tally = round(1024, 8, close, Load::Saturate).tally;
        assert_eq!(tally.errors.total(), 0, "{:?}", tally.errors);
        assert!(tally.completed > 8, "each connection has asked more than once");
        assert_eq!(tally.completed, tally.latency.len());
    }
}

/// A wrong byte in an answer is an error each time, and no latency; without it the same way is good.
#[test]
fn a_wrong_byte_is_an_error() {
    let good = relayed(Spoiled::Nothing, 200.0);
    assert_eq!((good.errors.total(), good.latency.len()), (0, good.planned));
    let bad = relayed(Spoiled::Responses, 200.0);
    assert_eq!(bad.errors.content, bad.planned);
    assert_eq!((bad.completed, bad.latency.len()), (0, 0));
}

/// Sends these bodies one after the other on one connection; the status of each answer.
fn upload(endpoint: SocketAddr, bodies: &[Vec<u8>]) -> io::Result<Vec<String>> {
    let mut stream = TcpStream::connect(endpoint)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut statuses = Vec::new();
    for body in bodies {
        let wanted = Wanted { slot: wire::NO_SLOT, body_bytes: 0 };
        stream.write_all(&wire::request("app.bench.local", "/api/item", wanted, body.len() as u64, false))?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        while wire::head_length(&answer).is_none() {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.extend(byte);
        }
        statuses.push(String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned());
    }
    Ok(statuses)
}

/// The upstream looks at every byte of a request body and refuses a wrong one, at whatever place; its connection lives on.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test owns its threads")]
fn the_upstream_refuses_a_wrong_body() {
    let spoil = |length: usize, at: usize| {
        let mut body = pattern::beginning(length);
        body[at] ^= 1;
        body
    };
    let long = 300 << 10;
    let bodies = [pattern::beginning(10), spoil(10, 0), pattern::beginning(long), spoil(long, long - 1), pattern::beginning(1)];
    let mut driver = Driver::new().expect("the loopback has two free ports");
    let endpoint = driver.upstream().endpoints()[0];
    let asking = std::thread::spawn(move || upload(endpoint, &bodies));
    while !asking.is_finished() {
        driver.round(target(endpoint), Load::Saturate, SPAN, SEED, None).expect("the upstream takes all connections");
    }
    let statuses = asking.join().expect("the asker ends").expect("every request is answered");
    assert_eq!(statuses, ["200", "422", "200", "422", "200"]);
}
