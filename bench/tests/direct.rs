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
use corelane_bench::scenario::Request;
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
        host: "app.bench.local".into(),
        path: "/api/item",
        addresses: None,
        requests: vec![Request::get(1024)],
        read_bytes_per_s: None,
    }
}

fn round(body_bytes: u64, connections: u32, close: bool, load: Load) -> Round {
    round_of(load, |target| Target { connections, close, requests: vec![Request::get(body_bytes)], ..target })
}

/// A round against the upstream itself.
fn round_of(load: Load, change: impl Fn(Target) -> Target) -> Round {
    let mut driver = Driver::new().expect("the loopback has two free ports");
    let target = change(target(driver.upstream().endpoints()[0]));
    driver.round(target, load, SPAN, SEED, None).expect("the upstream takes all connections")
}

fn uniform(rate_per_s: f64) -> Load {
    Load::Open { rate_per_s, arrivals: Arrivals::Uniform }
}

/// A kind of request that is half of all.
fn half(body_bytes: u64, upload_bytes: u64) -> Request {
    Request { share: 0.5, body_bytes, upload_bytes }
}

/// What of a connection a relay spoils: the last byte of each piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoiled {
    Nothing,
    Requests,
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
            std::thread::spawn(move || carry(from_client, to_endpoint, spoiled == Spoiled::Requests));
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
fn relayed(spoiled: Spoiled, request: Request) -> Tally {
    round_of(uniform(200.0), |target| Target { address: relay(target.address, spoiled), requests: vec![request], ..target }).tally
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

/// A wrong byte is an error each time, and no latency, whichever way it went; without it the same way is good.
#[test]
fn a_wrong_byte_is_an_error() {
    let post = Request { upload_bytes: 1000, ..Request::get(10) };
    for request in [Request::get(1024), post] {
        let good = relayed(Spoiled::Nothing, request);
        assert_eq!((good.errors.total(), good.latency.len()), (0, good.planned));
    }
    let bad = relayed(Spoiled::Responses, Request::get(1024));
    assert_eq!((bad.errors.content, bad.completed, bad.latency.len()), (bad.planned, 0, 0));
    let bad = relayed(Spoiled::Requests, post);
    assert_eq!((bad.errors.status, bad.completed, bad.latency.len()), (bad.planned, 0, 0));
}

/// Requests of several kinds, with bodies either way, are all answered, and no byte of a body is counted twice.
#[test]
fn a_mix_of_requests_is_answered() {
    for [first, second] in [[half(1024, 0), half(16, 32 << 10)], [half(300 << 10, 0), half(0, 700 << 10)]] {
        for connections in [1, 5] {
            let requests = vec![first, second];
            let tally = round_of(uniform(300.0), |target| Target { connections, requests: requests.clone(), ..target }).tally;
            assert_eq!((tally.errors.total(), tally.latency.len()), (0, tally.planned), "{:?}", tally.errors);
            // Some of the last answers may come after the window.
            let most = tally.planned * [first, second].map(|request| request.body_bytes + request.upload_bytes).iter().max().unwrap_or(&0);
            assert!((1..=most).contains(&tally.body_bytes), "{} of {most}", tally.body_bytes);
            assert_eq!(tally.timeline.bytes.iter().sum::<u64>(), tally.body_bytes);
        }
    }
}

/// An answer that comes before the body of its request has gone out is no answer to it.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test owns its threads")]
fn an_early_answer_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        // All connections stay open, and what they bring is not read.
        let answered = |mut stream: TcpStream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").map(|()| stream);
        listener.incoming().map(|stream| stream.and_then(answered)).take_while(Result::is_ok).collect::<Vec<_>>()
    });
    let huge = Request { upload_bytes: 1 << 30, ..Request::get(0) };
    let tally = round_of(Load::Saturate, |target| Target { address, connections: 1, requests: vec![huge], ..target }).tally;
    assert_eq!((tally.completed, tally.errors.total()), (0, tally.errors.content));
    assert!(tally.errors.content > 0);
}

/// The first byte of a long answer has a time of its own, which is no later than the last; that of a short one has none, however long
/// its request was.
#[test]
fn a_long_answer_has_a_first_byte() {
    let tally = round(1 << 20, 2, false, uniform(100.0)).tally;
    assert_eq!((tally.errors.total(), tally.first_byte.len()), (0, tally.planned));
    assert!(tally.first_byte.max() <= tally.latency.max() && tally.first_byte.mean() < tally.latency.mean());
    for upload_bytes in [0, 1 << 20] {
        let short = Request { upload_bytes, ..Request::get(1024) };
        let tally = round_of(uniform(100.0), |target| Target { requests: vec![short], ..target }).tally;
        assert_eq!((tally.errors.total(), tally.latency.len(), tally.first_byte.len()), (0, tally.planned, 0));
    }
}

/// A paced reader reads no faster than it may, and what it has begun when the round ends is neither an answer nor an error.
#[test]
fn a_paced_reader_takes_its_time() {
    let (bytes_per_s, connections) = (1_000_000, 2);
    let slow = |target| Target { connections, read_bytes_per_s: Some(bytes_per_s), requests: vec![Request::get(100 << 20)], ..target };
    let tally = round_of(Load::Saturate, slow).tally;
    assert_eq!((tally.errors.total(), tally.completed, tally.unfinished), (0, 0, u64::from(connections)), "{:?}", tally.errors);
    // One read may come at once, before the first rest.
    let most = u64::from(connections) * (bytes_per_s * WINDOW_NS / 1_000_000_000 + bytes_per_s / 20);
    assert!((1..=most).contains(&tally.body_bytes), "{} of {most}", tally.body_bytes);
    let short = |target| Target { read_bytes_per_s: Some(bytes_per_s), ..target };
    let tally = round_of(uniform(100.0), short).tally;
    assert_eq!((tally.errors.total(), tally.latency.len(), tally.unfinished), (0, tally.planned, 0));
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
