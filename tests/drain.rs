//! SIGTERM ends the process and no request: what was asked is answered, what is idle is told, readiness says no first.

mod support;

use std::time::Duration;

use support::Gate;
use support::client::Client;
use support::edge::Corelane;
use support::eventually;
use support::load::Load;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::upstream::Upstream;
use support::upstream::echo;

fn manifests(upstream: &Upstream) -> Manifests {
    Manifests::new().service("app", &[upstream.address]).ingress(&Ingress::new("app").host("app.test", "app"))
}

/// Under load nothing is lost: connections are told to close, then nobody listens, and the exit is 0.
#[test]
fn a_drain_under_load_loses_nothing() {
    let upstream = Upstream::answering(|request| {
        std::thread::sleep(Duration::from_millis(2));
        echo("app", request)
    });
    for round in 0..2 {
        let mut edge = Corelane::with(&manifests(&upstream), &["--shards", "2", "--pre-stop-delay", "1"]);
        let load = Load::start(edge.http, "app.test", "/", 8);
        load.wait_for_more(100);
        edge.signal(libc::SIGTERM);
        let status = edge.wait();
        let lost = load.join();
        assert_eq!(lost, Vec::<String>::new(), "round {round}");
        assert_eq!(status.code(), Some(0), "round {round}: {}", edge.log());
    }
}

/// A request that takes its time is answered, and says that its connection closes.
#[test]
fn a_slow_request_is_finished() {
    let gate = Gate::default();
    let of_upstream = gate.clone();
    let upstream = Upstream::scripted(move |mut visit| {
        while let Some(request) = visit.request() {
            of_upstream.pass();
            let _gone = visit.send(echo("slow", &request));
        }
    });
    let mut edge = Corelane::start(&manifests(&upstream));
    let mut client = Client::connect(edge.http);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    eventually("the request is on its way", || (upstream.count() == 1).then_some(()));
    edge.signal(libc::SIGTERM);
    eventually("nobody listens", || std::net::TcpStream::connect(edge.http).is_err().then_some(()));
    gate.open();
    let answer = client.response();
    assert_eq!((answer.status, answer.closes()), (200, true));
    client.expect_end();
    assert_eq!(edge.wait().code(), Some(0));
}

/// Idle connections are closed in order, and do not hold up the end.
#[test]
fn idle_connections_are_closed() {
    let upstream = Upstream::echo("app");
    let mut edge = Corelane::start(&manifests(&upstream));
    let mut idle: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(edge.http);
            assert_eq!(client.get("app.test", "/").status, 200);
            client
        })
        .collect();
    idle.push(Client::connect(edge.http));
    edge.signal(libc::SIGTERM);
    for client in &mut idle {
        assert_eq!(client.read_to_end(), Ok(vec![]));
    }
    assert_eq!(edge.wait().code(), Some(0));
}

/// Readiness says no while connections are still accepted: whoever routes to this host has time to stop.
#[test]
fn readiness_ends_before_service_does() {
    let upstream = Upstream::echo("app");
    let mut edge = Corelane::with(&manifests(&upstream), &["--pre-stop-delay", "2"]);
    assert_eq!((edge.admin("/readyz").status, edge.admin("/livez").status), (200, 200));
    edge.signal(libc::SIGTERM);
    eventually("readiness says no", || (edge.admin("/readyz").status == 503).then_some(()));
    assert_eq!(edge.admin("/livez").status, 200);
    assert_eq!(edge.get("app.test", "/").status, 200, "new connections are served meanwhile");
    assert_eq!(edge.wait().code(), Some(0));
}

/// Where nobody is left, the deadline cuts nobody and says nothing.
#[test]
fn an_empty_shard_ends_in_silence() {
    let upstream = Upstream::echo("app");
    let mut edge = Corelane::with(&manifests(&upstream), &["--drain-timeout", "1"]);
    edge.signal(libc::SIGTERM);
    assert_eq!(edge.wait().code(), Some(0));
    assert!(!edge.log().contains("are cut"), "{}", edge.log());
}

/// Whoever starts it anew finds its addresses free, however little time it had: listeners are closed before the end, not after it.
#[test]
fn addresses_are_free_at_the_end() {
    let upstream = Upstream::echo("app");
    let mut edge = Corelane::with(&manifests(&upstream), &["--drain-timeout", "1"]);
    edge.signal(libc::SIGTERM);
    assert_eq!(edge.end().code(), Some(0));
    for address in [edge.http, edge.https] {
        let free = std::net::TcpListener::bind(address).map(|_| ());
        assert!(free.is_ok(), "{address}: {free:?}");
    }
}

/// Who does not end is cut at the deadline.
#[test]
fn the_deadline_ends_what_does_not_end() {
    let upstream = Upstream::scripted(|mut visit| {
        visit.request();
        visit.stay_silent();
    });
    let mut edge = Corelane::with(&manifests(&upstream), &["--drain-timeout", "1"]);
    let mut client = Client::connect(edge.http);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    eventually("the request is on its way", || (upstream.count() == 1).then_some(()));
    edge.signal(libc::SIGTERM);
    edge.wait();
    client.expect_end();
}
