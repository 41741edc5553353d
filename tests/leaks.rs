//! What comes goes: after clients and upstreams that broke off in every possible place nothing of them is left.

mod support;

use std::time::Duration;

use support::client::Client;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::tls::Authority;
use support::upstream::Upstream;

const ROUNDS: usize = 300;

fn manifests(upstream: &Upstream) -> Manifests {
    Manifests::new().service("app", &[upstream.address]).ingress(
        &Ingress::new("app")
            .annotation("proxy-body-size", "0")
            .annotation("proxy-read-timeout", "1")
            .annotation("ssl-redirect", "false")
            .host("app.test", "app"),
    )
}

/// Waits until the process holds no more descriptors than before, and counts no connection.
fn nothing_is_left(edge: &Corelane, before: usize, what: &str) {
    eventually(&format!("{what}: descriptors are given back"), || (edge.descriptors() <= before).then_some(()));
    eventually(&format!("{what}: connections are counted out"), || (edge.metric("corelane_connections", "") == 0.0).then_some(()));
    let in_flight = edge.metric("corelane_upstream_requests_in_flight", "");
    assert!(in_flight == 0.0, "{what}: {in_flight} requests in flight");
}

/// Clients that break off, with a reset or with an end (who has only ended may still wait for its answer, as long as one can come): before, in and behind their head, in their content, while they wait, while they read.
#[test]
fn aborted_clients_leave_nothing() {
    let upstream = Upstream::scripted(|mut visit| {
        while let Some(request) = visit.request() {
            let length = if request.target == "/large" { 4 << 20 } else { 2 };
            if request.target == "/never" {
                visit.stay_silent();
                return;
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            if visit.send(head).and_then(|()| visit.send(vec![b'x'; length])).is_err() {
                return;
            }
        }
    });
    let edge = Corelane::start(&manifests(&upstream).settings(&[("upstream-keepalive-connections", "1")]));
    assert_eq!(edge.get("app.test", "/").status, 200);
    let before = edge.descriptors() + 1;
    for (what, wire) in [
        ("before the head", ""),
        ("in the head", "GET / HTTP/1.1\r\nHost: app"),
        ("behind the head", "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"),
        ("in the content", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100\r\n\r\nhello"),
        ("in a chunk", "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        ("while they wait", "GET /never HTTP/1.1\r\nHost: app.test\r\n\r\n"),
        ("while they read", "GET /large HTTP/1.1\r\nHost: app.test\r\n\r\n"),
        ("behind a refusal", "GET  / HTTP/1.1\r\n\r\n"),
    ] {
        for round in 0..ROUNDS {
            let mut client = Client::connect(edge.http);
            client.send(wire);
            if what == "while they read" {
                client.fill().expect("content comes");
            }
            if round % 2 == 0 {
                client.reset();
            }
        }
        nothing_is_left(&edge, before, what);
        assert_eq!(edge.get("app.test", "/").status, 200, "{what}");
    }
}

/// Upstreams that break off: at once, in their head, in their content, behind it.
#[test]
fn aborted_upstreams_leave_nothing() {
    let upstream = Upstream::scripted(|mut visit| {
        let Some(request) = visit.request() else { return };
        let _gone = match request.target.as_str() {
            "/at-once" => Ok(()),
            "/in-head" => visit.send("HTTP/1.1 200 OK\r\nContent-Le"),
            "/in-content" => visit.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"),
            "/in-chunk" => visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
            _ => visit.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        };
        if visit.number % 2 == 0 {
            visit.reset();
        }
    });
    let edge = Corelane::start(&manifests(&upstream));
    assert_eq!(edge.get("app.test", "/").status, 200);
    let before = edge.descriptors();
    for path in ["/at-once", "/in-head", "/in-content", "/in-chunk", "/whole"] {
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(edge.http)).collect();
        for round in 0..ROUNDS / 20 {
            for client in &mut clients {
                client.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
            }
            for client in &mut clients {
                match client.try_response(false) {
                    Ok(response) if path == "/whole" || response.status == 502 || response.status == 503 => {}
                    Err(_) if path.starts_with("/in-c") => {}
                    other => panic!("{path}, round {round}: {other:?}"),
                }
            }
            if path.starts_with("/in-c") {
                clients = (0..20).map(|_| Client::connect(edge.http)).collect();
            }
        }
        drop(clients);
        nothing_is_left(&edge, before, path);
    }
}

/// Handshakes that are never finished, and TLS connections that are cut.
#[test]
fn aborted_handshakes_leave_nothing() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(
        &manifests(&upstream)
            // On a busy machine requests overlap, and each connection they open would be kept.
            .settings(&[("upstream-keepalive-connections", "1")])
            .tls_secret("app", &authority.ecdsa(&["app.test"]))
            .ingress(&Ingress::new("tls").tls("app.test", "app").host("app.test", "app")),
    );
    let config = authority.client();
    Client::connect_tls(edge.https, &config, "app.test").get("app.test", "/");
    eventually("the first connection is gone", || (edge.metric("corelane_connections", "") == 0.0).then_some(()));
    let before = edge.descriptors();
    for round in 0..ROUNDS {
        let mut silent = Client::connect(edge.https);
        silent.send(&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..round % 12 % 11]);
        let mut cut = Client::connect_tls(edge.https, &config, "app.test");
        cut.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        if round % 2 == 0 {
            silent.reset();
            cut.reset();
        }
    }
    nothing_is_left(&edge, before, "handshakes");
    assert_eq!(Client::connect_tls(edge.https, &config, "app.test").get("app.test", "/").status, 200);
}

/// An idle connection, one of 1500, costs less than 4 KB, the pages that the heap does not fill included; tests/allocations.rs bounds
/// what it holds of the heap, to the byte.
#[test]
fn idle_connections_are_small() {
    const COUNT: u64 = 1500;
    let upstream = Upstream::echo("app");
    let edge = Corelane::start(&manifests(&upstream));
    let connect = || {
        let mut client = Client::connect(edge.http);
        assert_eq!(client.get("app.test", "/").status, 200);
        client
    };
    // Whatever grows only once has grown.
    let _warm: Vec<Client> = (0..100).map(|_| connect()).collect();
    let before = edge.resident_bytes();
    let _idle: Vec<Client> = (0..COUNT).map(|_| connect()).collect();
    let each = edge.resident_bytes().saturating_sub(before) / COUNT;
    assert!(each < 4 << 10, "{each} bytes for an idle connection");
}

/// Descriptors run out: those that are connected are served, no time is wasted, and all is well when there are some again.
#[test]
fn exhausted_descriptors_are_survived() {
    let upstream = Upstream::echo("app");
    let edge = Corelane::start(&manifests(&upstream));
    let mut kept = Client::connect(edge.http);
    assert_eq!(kept.get("app.test", "/").status, 200);
    edge.limit_descriptors(edge.descriptors() as u64 + 20);
    let crowd: Vec<_> = (0..100).filter_map(|_| std::net::TcpStream::connect_timeout(&edge.http, Duration::from_secs(1)).ok()).collect();
    for _ in 0..20 {
        assert_eq!(kept.get("app.test", "/").status, 200, "who is connected is served");
    }
    edge.limit_descriptors(4096);
    drop(crowd);
    eventually("new connections are served again", || {
        let mut client = Client::over(std::net::TcpStream::connect(edge.http).ok()?);
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        client.try_response(false).ok().filter(|response| response.status == 200)
    });
}
