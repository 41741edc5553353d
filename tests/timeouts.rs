//! Nobody waits for ever: not for a slow client, not for a silent upstream, not for a port where nobody listens.

mod support;

use std::net::SocketAddr;
use std::net::TcpListener;
use std::time::Duration;

use support::client::Client;
use support::client::Ended;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::tls::Authority;
use support::tls::client_hello;
use support::upstream::BlackHole;
use support::upstream::Upstream;

/// `app.test` at these endpoints. A connect may take long, so that no other deadline hides behind it.
fn edge_with(endpoints: &[SocketAddr], annotations: &[(&str, &str)], settings: &[(&str, &str)]) -> Corelane {
    let given = |wanted: &str| annotations.iter().any(|(name, _)| *name == wanted);
    let ordinary = [("proxy-connect-timeout", "60")];
    let annotations = ordinary.iter().filter(|(name, _)| !given(name)).chain(annotations);
    let ingress = annotations.fold(Ingress::new("app").host("app.test", "app"), |ingress, (name, value)| ingress.annotation(name, value));
    let other = Ingress::new("other").host("other.test", "other");
    let manifests = Manifests::new().service("app", endpoints).service("other", &[]).settings(settings).ingress(&ingress).ingress(&other);
    Corelane::start(&manifests)
}

/// An address where nobody listens.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Sends a byte now and then until the answer is there; panics where it never comes.
fn drip(client: &mut Client, byte: u8) {
    client.set_patience(Duration::from_millis(50));
    let start = support::now();
    while client.buffer.is_empty() {
        client.send([byte]);
        let _nothing_yet = client.fill();
        assert!(start.elapsed() < Duration::from_secs(15), "dripping moves the deadline");
    }
    client.set_patience(support::PATIENCE);
}

/// A head must be complete in time, and a byte now and then does not help.
#[test]
fn a_slow_head_is_answered_408() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&[upstream.address], &[], &[("client-header-timeout", "1")]);
    let mut silent = Client::connect(edge.http);
    silent.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Slow: ");
    let mut dripping = Client::connect(edge.http);
    dripping.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Slow: ");
    drip(&mut dripping, b'x');
    for client in [&mut silent, &mut dripping] {
        let answer = client.response();
        assert_eq!((answer.status, answer.closes(), answer.field("corelane-reason")), (408, true, Some("head_timeout")));
        client.expect_end();
    }
    assert_eq!(upstream.count(), 0);
}

/// The same on a connection that was kept: the long patience for the next request ends with its first byte.
#[test]
fn a_slow_head_on_a_kept_connection_is_answered_408() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&[upstream.address], &[], &[("client-header-timeout", "1"), ("keep-alive", "300")]);
    let mut client = Client::connect(edge.http);
    assert_eq!(client.get("app.test", "/").status, 200);
    client.send("G");
    assert_eq!(client.response().status, 408);
    client.expect_end();
}

/// A connection on which nothing is ever asked is closed without a word.
#[test]
fn a_connection_without_a_request_is_closed() {
    let edge = edge_with(&[], &[], &[("client-header-timeout", "1")]);
    let mut client = Client::connect(edge.http);
    assert_eq!(client.read_to_end(), Ok(vec![]));
}

/// A kept connection is closed when nothing is asked on it any more.
#[test]
fn an_idle_connection_is_closed() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&[upstream.address], &[], &[("keep-alive", "1")]);
    let mut client = Client::connect(edge.http);
    for _ in 0..3 {
        assert_eq!(client.get("app.test", "/").status, 200);
    }
    assert_eq!(client.read_to_end(), Ok(vec![]));
}

/// Content that stops coming ends the request, and the upstream does not take it for complete.
#[test]
fn slow_content_is_answered_408() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&[upstream.address], &[], &[("client-body-timeout", "1")]);
    for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let mut client = Client::connect(edge.http);
        client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\n{framing}"));
        let answer = client.response();
        assert_eq!((answer.status, answer.closes(), answer.field("corelane-reason")), (408, true, Some("body_timeout")));
        client.expect_end();
    }
    assert!(upstream.requests().iter().all(|request| !request.complete));
    upstream.wait_until_idle();
}

/// Content that comes, but more slowly than 240 bytes a second behind a grace of 5 s, ends the request though no gap is long; somewhat
/// faster it may take as long as it takes.
#[test]
fn content_that_drips_is_answered_408() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&[upstream.address], &[], &[]);
    let mut slow = Client::connect(edge.http);
    let mut steady = Client::connect(edge.http);
    for client in [&mut slow, &mut steady] {
        client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\n");
        client.set_patience(Duration::from_millis(50));
    }
    let begun = support::now();
    let mut sent = 0;
    while slow.buffer.is_empty() {
        slow.send("x");
        let _nothing_yet = slow.fill();
        // Twice as much as has to come by now.
        let due = (begun.elapsed().as_secs_f64() * 480.0) as usize;
        steady.send(vec![b'x'; due.saturating_sub(sent)]);
        sent = sent.max(due);
        assert!(begun.elapsed() < support::PATIENCE, "a drip is borne");
    }
    let answer = slow.response();
    assert_eq!((answer.status, answer.closes(), answer.field("corelane-reason")), (408, true, Some("body_timeout")));
    steady.set_patience(support::PATIENCE);
    steady.send(vec![b'x'; 1_000_000 - sent]);
    assert_eq!(steady.response().status, 200);
}

/// A TLS handshake has 10 s: whoever says nothing, stops in the middle or drips is closed, and counted.
#[test]
fn a_slow_handshake_is_closed() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let manifests = Manifests::new()
        .service("app", &[upstream.address])
        .tls_secret("app", &authority.ecdsa(&["app.test"]))
        .ingress(&Ingress::new("app").tls("app.test", "app").host("app.test", "app"));
    let edge = Corelane::start(&manifests);
    let hello = client_hello(&authority.client(), "app.test");
    let mut waiting: Vec<Client> = [&hello[..0], &hello[..11], &hello[..]]
        .into_iter()
        .map(|part| {
            let mut client = Client::connect(edge.https);
            client.send(part);
            client
        })
        .collect();
    let mut dripping = Client::connect(edge.https);
    dripping.set_patience(Duration::from_millis(200));
    let begun = support::now();
    let mut bytes = hello.iter();
    while matches!(dripping.fill(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock) {
        dripping.send([*bytes.next().expect("more bytes than it is borne for")]);
    }
    assert!(begun.elapsed() < support::PATIENCE / 2, "dripping moves the deadline");
    for client in &mut waiting {
        let _the_servers_flight = client.read_to_end();
    }
    assert_eq!(edge.metric("corelane_tls_handshakes_total", "result=\"timeout\""), 4.0);
    assert_eq!(Client::connect_tls(edge.https, &authority.client(), "app.test").get("app.test", "/").status, 200);
}

/// A client that takes nothing for a minute is cut, and its upstream with it; one that takes a little now and then is not.
#[test]
#[ignore = "takes more than a minute: the limit is not a setting"]
fn a_reader_that_stops_is_cut() {
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_some() {
            let _gone = visit.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while visit.send([b'x'; 64 << 10]).is_ok() {}
        }
    });
    let edge = edge_with(&[upstream.address], &[], &[]);
    let mut readers: Vec<Client> = (0..2).map(|_| Client::connect(edge.http)).collect();
    for client in &mut readers {
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        client.read_until(b"\r\n\r\n");
    }
    let [mut stopped, mut slow] = <[Client; 2]>::try_from(readers).unwrap_or_else(|_| panic!("two readers"));
    let begun = support::now();
    while upstream.open() == 2 {
        // What the kernels hold between the two is some megabytes: half a megabyte at a time is sure to open the window.
        for _ in 0..32 {
            slow.buffer.clear();
            assert!(slow.fill().expect("it is served") > 0);
        }
        std::thread::sleep(Duration::from_secs(1));
        assert!(begun.elapsed() < 3 * support::PATIENCE, "a reader that has stopped is borne");
    }
    assert!(begun.elapsed() >= Duration::from_secs(55), "cut after {:?}", begun.elapsed());
    assert!(matches!(stopped.read_to_end(), Err(Ended::Reset)) || stopped.buffer.len() < 1_000_000_000, "it was cut");
    assert!(slow.fill().expect("it is served still") > 0);
    assert_eq!(upstream.open(), 1);
}

/// An upstream that says nothing is 504, whatever the method; the others are served meanwhile.
#[test]
fn a_silent_upstream_is_504() {
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_some() {
            visit.stay_silent();
        }
    });
    let edge = edge_with(&[upstream.address], &[("proxy-read-timeout", "1")], &[]);
    let mut waiting: Vec<Client> =
        ["GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi"]
            .into_iter()
            .map(|wire| {
                let mut client = Client::connect(edge.http);
                client.send(wire);
                client
            })
            .collect();
    for _ in 0..10 {
        assert_eq!(edge.get("other.test", "/").status, 503);
    }
    for client in &mut waiting {
        let answer = client.response();
        assert_eq!((answer.status, answer.field("corelane-reason"), answer.closes()), (504, Some("upstream_timeout"), false));
        // The request was read to its end: the connection is as good as before.
        assert_eq!(client.get("other.test", "/").status, 503);
    }
    assert_eq!(upstream.count(), 2, "with one endpoint there is nobody else to ask");
    upstream.wait_until_idle();
}

/// A silent endpoint costs an idempotent request time, not its answer.
#[test]
fn a_silent_endpoint_is_passed_over() {
    let silent = Upstream::scripted(|mut visit| {
        if visit.request().is_some() {
            visit.stay_silent();
        }
    });
    let good = Upstream::echo("good");
    let edge = edge_with(&[silent.address, good.address], &[("proxy-read-timeout", "1")], &[]);
    for _ in 0..2 {
        assert_eq!(edge.get("app.test", "/").status, 200);
    }
    assert_eq!((silent.count(), good.count()), (1, 2));
}

/// An upstream that stops in the middle of its answer truncates it.
#[test]
fn a_stalled_answer_is_truncated() {
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_some() {
            let _gone = visit.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
            visit.stay_silent();
        }
    });
    let edge = edge_with(&[upstream.address], &[("proxy-read-timeout", "1")], &[]);
    let mut client = Client::connect(edge.http);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.try_response(false), Err(Ended::Truncated { status: 200, body: b"hello".to_vec() }));
    upstream.wait_until_idle();
}

/// One closed port among three loses nothing, not even what must not run twice: no byte of it was sent.
#[test]
fn a_refused_connect_is_tried_elsewhere() {
    let (one, two) = (Upstream::echo("one"), Upstream::echo("two"));
    let edge = edge_with(&[one.address, closed_port(), two.address], &[], &[]);
    let mut client = Client::connect(edge.http);
    for index in 0..30 {
        let content = if index % 2 == 0 {
            "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
        } else {
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi"
        };
        client.send(content);
        assert_eq!(client.response().status, 200, "request {index}");
    }
    assert_eq!(one.count() + two.count(), 30);
    assert!(edge.metric("corelane_retries_total", "") >= 1.0);
}

/// Nobody listens anywhere: 503 at once, kept connections, and service as soon as a port opens.
#[test]
fn all_refused_is_503_until_a_port_opens() {
    let address = closed_port();
    let edge = edge_with(&[address, closed_port()], &[], &[]);
    let mut client = Client::connect(edge.http);
    for _ in 0..20 {
        let answer = client.get("app.test", "/");
        assert_eq!((answer.status, answer.field("corelane-reason")), (503, Some("upstream_connect_failed")));
    }
    let back = Upstream::scripted_at(address, |mut visit| {
        while let Some(request) = visit.request() {
            let _gone = visit.send(support::upstream::echo("back", &request));
        }
    });
    eventually("the endpoint is used again", || (client.get("app.test", "/").status == 200).then_some(()));
    assert!(back.count() > 0);
}

/// A Service without endpoints is 503 at once.
#[test]
fn no_endpoints_is_503() {
    let edge = edge_with(&[], &[], &[]);
    let answer = edge.get("app.test", "/");
    assert_eq!((answer.status, answer.closes()), (503, false));
    assert!(answer.field("corelane-reason").is_some_and(|reason| reason.contains("endpoints")), "{answer:?}");
}

/// A connect that nobody answers ends after its timeout with 503.
#[test]
fn an_unanswered_connect_is_503() {
    let hole = BlackHole::new();
    let edge = edge_with(&[hole.address], &[("proxy-connect-timeout", "1")], &[]);
    let answer = edge.get("app.test", "/");
    assert_eq!((answer.status, answer.field("corelane-reason")), (503, Some("upstream_connect_failed")));
}

/// Where a PROXY header is due it must come soon.
#[test]
fn a_late_proxy_header_ends_the_connection() {
    let settings = [("use-proxy-protocol", "true"), ("proxy-protocol-header-timeout", "1")];
    let edge = edge_with(&[], &[], &settings);
    for part in ["", "PROXY TCP4 1.2.3.4"] {
        let mut client = Client::connect(edge.http);
        client.send(part);
        client.expect_end();
    }
}
