//! Handshakes against a TLS server of one thread, with no proxy between: how each went must be counted as it was.
#![expect(clippy::disallowed_methods, reason = "the server is no part of what is tested, and waits")]

use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;

use corelane_bench::beside::Beside;
use corelane_bench::beside::Company;
use corelane_bench::beside::Door;
use corelane_bench::client::Target;
use corelane_bench::connection::ClientTls;
use corelane_bench::driver::Driver;
use corelane_bench::driver::Span;
use corelane_bench::pattern;
use corelane_bench::scenario::Load;
use corelane_bench::scenario::Request;
use corelane_bench::schedule;
use corelane_bench::schedule::Arrivals;
use corelane_bench::tally::Handshakes;
use corelane_bench::tally::Tally;
use corelane_bench::tls::Identity;
use corelane_bench::wire;
use corelane_bench::wire::Answer;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

const BODY_BYTES: u64 = 1024;
const CONNECTIONS: u32 = 4;
const WINDOW_NS: u64 = 300_000_000;

/// Answers each connection once and closes it, until the test process ends.
fn serve(identity: &Identity, tickets: usize) -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).expect("it was just made");
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("it was just made");
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("the provider has suites for it");
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).expect("they belong together");
    config.ticketer = aws_lc_rs::Ticketer::new().expect("there is randomness");
    config.send_tls13_tickets = tickets;
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(config.clone()).expect("the config is good");
            let mut stream = StreamOwned::new(session, stream);
            // A client that has gone, as at the end of a round, is not this server's trouble.
            let _gone = answer(&mut stream);
        }
    });
    address
}

/// Reads a request with its body, and answers where every byte of it was right.
fn answer(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 16 << 10];
    let whole = |request: &[u8]| Some((wire::head_length(request)?, wire::upload_bytes(request) as usize));
    while whole(&request).is_none_or(|(head, upload)| request.len() < head + upload) {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..length]);
    }
    let body = &request[wire::head_length(&request).unwrap_or(0)..];
    let body_bytes = wire::wanted(&request).map_or(0, |wanted| wanted.body_bytes);
    let answer = if pattern::holds(0, body) { Answer::new(body_bytes) } else { Answer::refusal() };
    stream.write_all(answer.piece(true, 0, u64::MAX))?;
    stream.flush()
}

fn round(tickets: usize, load: Load, client: impl Fn(&Identity) -> ClientTls) -> Tally {
    let tally = round_of(vec![Request::get(BODY_BYTES)], tickets, load, client);
    assert!(tally.completed > u64::from(CONNECTIONS), "{}", tally.completed);
    tally
}

fn round_of(requests: Vec<Request>, tickets: usize, load: Load, client: impl Fn(&Identity) -> ClientTls) -> Tally {
    let identity = Identity::new().expect("a certificate can be made");
    let mut driver = Driver::new().expect("the loopback has two free ports");
    let target = Target {
        address: serve(&identity, tickets),
        tls: Some(client(&identity)),
        connections: CONNECTIONS,
        close: true,
        host: "app.bench.local".into(),
        path: "/api/item",
        addresses: None,
        requests,
        read_bytes_per_s: None,
    };
    let span = Span { warm_up_ns: 0, window_ns: WINDOW_NS };
    let tally = driver.round(target, load, span, 7, None).expect("the server takes all connections").tally;
    assert_eq!(tally.errors.total(), 0, "{:?}", tally.errors);
    tally
}

const LOADS: [Load; 2] = [Load::Saturate, Load::Open { rate_per_s: 100.0, arrivals: Arrivals::Poisson }];

/// A client that offers no ticket shakes hands in full each time, whatever tickets it is given.
#[test]
fn a_full_handshake_stays_one() {
    for load in LOADS {
        let tally = round(2, load, |identity| identity.client.clone());
        assert!(tally.handshakes.full >= tally.completed, "{:?} of {}", tally.handshakes, tally.completed);
        assert_eq!(tally.handshakes.resumed, 0);
    }
}

/// One ticket with each handshake is enough for every connection of a round to be resumed.
#[test]
fn every_connection_of_a_round_is_resumed() {
    for (load, tickets) in LOADS.into_iter().flat_map(|load| [(load, 1), (load, 2)]) {
        let handshakes = round(tickets, load, |identity| identity.client.resuming(CONNECTIONS)).handshakes;
        assert_eq!(handshakes.full, 0, "{handshakes:?}");
        assert_eq!(handshakes.resumed_share(), Some(1.0));
    }
}

/// Where a server gives no tickets, the share says so.
#[test]
fn a_server_without_tickets_is_found_out() {
    let handshakes = round(0, LOADS[0], |identity| identity.client.resuming(CONNECTIONS)).handshakes;
    assert_eq!((handshakes.resumed, handshakes.resumed_share()), (0, Some(0.0)), "{handshakes:?}");
    assert_eq!(Handshakes::default().resumed_share(), None);
}

/// Handshakes beside a load are as many as were due, each with its answer, whatever the load itself does.
#[test]
fn handshakes_beside_a_load_are_counted() {
    let identity = Identity::new().expect("a certificate can be made");
    let mut driver = Driver::new().expect("the loopback has two free ports");
    let (host, path, http) = ("app.bench.local", "/api/item", driver.upstream().endpoints()[0]);
    let door = Door { http, https: serve(&identity, 2), tls: false, client: identity.client.hasty(), host, path };
    let per_s = 100.0;
    driver.accompany(Company::new(&[Beside::Handshakes { per_s }], &door));
    let target = Target {
        address: http,
        tls: None,
        connections: 1,
        close: false,
        host: host.into(),
        path,
        addresses: None,
        requests: vec![Request::get(BODY_BYTES)],
        read_bytes_per_s: None,
    };
    let load = Load::Open { rate_per_s: 100.0, arrivals: Arrivals::Uniform };
    let round = driver.round(target, load, Span { warm_up_ns: 0, window_ns: WINDOW_NS }, 7, None).expect("both serve");
    let [deeds] = round.beside.as_slice() else { panic!("{:?}", round.beside) };
    let due = schedule::due_times(Arrivals::Poisson, per_s, WINDOW_NS, 1).len() as u64;
    assert_eq!((round.tally.errors.total(), deeds.failed), (0, 0), "{deeds:?}");
    assert!(deeds.answered > 0 && deeds.opened <= due && due - deeds.answered <= u64::from(CONNECTIONS), "{deeds:?} of {due}");
}

/// Bodies longer than what a session holds go both ways over TLS, whole.
#[test]
fn long_bodies_go_both_ways() {
    for long in [Request::get(300_000), Request { upload_bytes: 300_000, ..Request::get(0) }] {
        let load = Load::Open { rate_per_s: 20.0, arrivals: Arrivals::Uniform };
        let tally = round_of(vec![long], 0, load, |identity| identity.client.clone());
        assert_eq!(tally.latency.len(), tally.planned);
    }
}
