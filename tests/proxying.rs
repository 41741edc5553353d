//! What goes up and what comes down: the fields of either side, content of any size with back-pressure, tunnels, and who the client is.

mod support;

use std::io::Write;
use std::time::Duration;

use support::Gate;
use support::client::Client;
use support::client::Ended;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::upstream::Request;
use support::upstream::Upstream;
use support::upstream::Visit;
use support::upstream::echo;

/// `app.test` at this upstream, with content of any size.
fn edge_to(upstream: &Upstream) -> Corelane {
    edge_with(upstream, &[], &[])
}

fn edge_with(upstream: &Upstream, annotations: &[(&str, &str)], settings: &[(&str, &str)]) -> Corelane {
    let unlimited = [("proxy-body-size", "0")];
    let given = |wanted: &str| annotations.iter().any(|(name, _)| *name == wanted);
    let annotations = unlimited.iter().filter(|(name, _)| !given(name)).chain(annotations);
    let ingress = annotations.fold(Ingress::new("app").host("app.test", "app"), |ingress, (name, value)| ingress.annotation(name, value));
    Corelane::start(&Manifests::new().service("app", &[upstream.address]).settings(settings).ingress(&ingress))
}

fn names(request: &Request) -> Vec<String> {
    request.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

/// The upstream learns from us who the client is and what it asked for; what the client claims about it is set aside.
#[test]
fn the_upstream_is_told_who_asks() {
    let upstream = Upstream::echo("app");
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    client.send(
        "GET /a/../b%41?q=%20 HTTP/1.1\r\nHost: App.Test:8080\r\nUser-Agent: test\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Scheme: https\r\nX-Scheme: https\r\n\
         X-Real-IP: 3.3.3.3\r\nX-Original-Forwarded-For: 4.4.4.4\r\nX_Real_IP: 5.5.5.5\r\nX-Request-ID: mine-1\r\nAccept: a\r\nAccept: b\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let request = upstream.only_request();
    assert_eq!((request.method.as_str(), request.target.as_str(), request.version.as_str()), ("GET", "/bA?q=%20", "HTTP/1.1"));
    let port = edge.http.port().to_string();
    for (name, value) in [
        ("Host", "App.Test:8080"),
        ("User-Agent", "test"),
        ("X-Request-ID", "mine-1"),
        ("X-Real-IP", "127.0.0.1"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "App.Test:8080"),
        ("X-Forwarded-Port", port.as_str()),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Scheme", "http"),
        ("X-Scheme", "http"),
    ] {
        assert_eq!(request.field(name), Some(value), "{name}");
    }
    assert!(request.field("x-original-forwarded-for").is_some_and(|value| value.starts_with("1.1.1.1")), "{request:?}");
    let names = names(&request);
    assert!(!names.iter().any(|name| name.contains('_') || name == "connection"), "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "accept").count(), 2, "a field that comes twice goes twice");
}

/// A request without an id gets one, and each its own.
#[test]
fn every_request_has_an_id() {
    let upstream = Upstream::echo("app");
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    for _ in 0..3 {
        client.get("app.test", "/");
    }
    let ids: Vec<String> = upstream.requests().iter().filter_map(|request| request.field("x-request-id").map(str::to_owned)).collect();
    assert!(ids.len() == 3 && ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())), "{ids:?}");
}

/// Fields of one hop end here, and those Connection names, but never what identity and framing rest on.
#[test]
fn fields_of_one_hop_end_here() {
    let upstream = Upstream::echo("app");
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, X-Drop, Authorization, X-Real-IP, Content-Length, Cookie\r\nX-Drop: 1\r\n\
         Authorization: Bearer t\r\nCookie: c=1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nProxy: http://evil\r\nExpect: 100-continue\r\nX_Under: 1\r\nX-Keep: 1\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!(client.response().status, 200);
    let request = upstream.only_request();
    let names = names(&request);
    for gone in [
        "connection",
        "x-drop",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "proxy",
        "expect",
        "x_under",
    ] {
        assert!(!names.iter().any(|name| name == gone), "{gone} in {names:?}");
    }
    assert_eq!(request.field("x-keep"), Some("1"));
    assert_eq!(request.field("authorization"), Some("Bearer t"));
    assert_eq!(request.field("cookie"), Some("c=1"));
    assert_eq!((request.field("content-length"), request.body.as_slice()), (Some("2"), &b"hi"[..]));
}

/// Trailers are read and dropped; nothing of them becomes a field.
#[test]
fn trailers_are_dropped() {
    let upstream = Upstream::echo("app");
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2;ext=1\r\nhi\r\n0\r\nX-Sum: 1\r\n\
         Authorization: evil\r\nX-Forwarded-For: 9.9.9.9\r\nHost: evil.test\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let request = upstream.only_request();
    assert_eq!((request.body.as_slice(), request.field("transfer-encoding")), (&b"hi"[..], Some("chunked")));
    assert_eq!((request.field("authorization"), request.field("x-sum")), (None, None));
    assert_eq!(request.field("host"), Some("app.test"));
    assert!(edge.get("app.test", "/").status == 200 && upstream.count() == 2);
}

/// A trusted balancer in front is believed where the operator says so.
#[test]
fn a_trusted_peer_speaks_for_its_client() {
    for (append, forwarded) in [("false", "198.51.100.7"), ("true", "198.51.100.7, 127.0.0.1")] {
        let upstream = Upstream::echo("app");
        let edge = edge_with(&upstream, &[], &[("use-forwarded-headers", "true"), ("compute-full-forwarded-for", append)]);
        let mut client = Client::connect(edge.http);
        client.send(
            "GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\n\
             X-Forwarded-Host: public.test\r\n\r\n",
        );
        assert_eq!(client.response().status, 200);
        let request = upstream.only_request();
        assert_eq!(request.field("x-forwarded-for"), Some(forwarded));
        assert_eq!((request.field("x-real-ip"), request.field("x-forwarded-proto")), (Some("198.51.100.7"), Some("https")));
        assert_eq!((request.field("x-forwarded-port"), request.field("host")), (Some("8443"), Some("public.test")));
    }
}

/// Answers come down as they are, less the fields of one hop; a missing Date is added.
#[test]
fn answers_come_down_as_they_are() {
    let upstream = Upstream::answering(|_| {
        b"HTTP/1.1 200 Fine\r\nServer: app/1\r\nContent-Type: text/x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
          Keep-Alive: timeout=5\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    });
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    for _ in 0..2 {
        let answer = client.get("app.test", "/");
        assert_eq!((answer.status, answer.reason.as_str(), answer.text().as_str()), (200, "Fine", "ok"));
        assert_eq!(
            (answer.field("server"), answer.field("content-type"), answer.field("x-empty")),
            (Some("app/1"), Some("text/x"), Some(""))
        );
        assert_eq!(answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).count(), 2);
        assert_eq!((answer.field("x-hop"), answer.field("keep-alive"), answer.field("content-length")), (None, None, Some("2")));
        assert!(answer.field("date").is_some_and(|date| httpdate::parse_http_date(date).is_ok()), "{answer:?}");
    }
    assert_eq!(upstream.connections(), 1, "the connection to the upstream is kept");
}

/// HEAD, 204 and 304 have no content, and say of it what the upstream says.
#[test]
fn answers_without_content() {
    let upstream = Upstream::answering(|request| {
        match request.target.as_str() {
            "/none" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/same" => "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 77\r\n\r\n",
            "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
        }
        .as_bytes()
        .to_vec()
    });
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    let answer = client.get("app.test", "/none");
    assert_eq!((answer.status, answer.field("content-length"), answer.field("transfer-encoding")), (204, None, None));
    let answer = client.get("app.test", "/same");
    assert_eq!((answer.status, answer.field("etag"), answer.field("content-length")), (304, Some("\"1\""), Some("77")));
    let answer = client.get("app.test", "/empty");
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("0")));
    for (path, length) in [("/", Some("1234")), ("/chunked", None), ("/none", None)] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        assert_eq!(client.response_to_head().field("content-length"), length, "{path}");
    }
    // A local answer to HEAD says its length and keeps its content, too.
    client.send("HEAD / HTTP/1.1\r\nHost: nowhere.test\r\n\r\n");
    let answer = client.response_to_head();
    assert!(answer.status == 404 && answer.field("content-length").is_some_and(|length| length != "0"), "{answer:?}");
    assert_eq!(client.get("app.test", "/none").status, 204, "nothing was left on the connection");
    assert_eq!(upstream.connections(), 1);
}

/// Who expects 100 gets it before its content is asked for; who is refused gets the refusal instead.
#[test]
fn expectations_are_met() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&upstream, &[("proxy-body-size", "10")], &[]);
    let mut client = Client::connect(edge.http);
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    let answer = client.response();
    assert_eq!((answer.status, answer.interim), (200, vec![]));
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.interim), (413, vec![]));
    assert_eq!(upstream.only_request().body, b"hello");
}

/// Content over proxy-body-size is refused by its length before it is read, and by its amount where it has none.
#[test]
fn content_over_the_limit_is_refused() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&upstream, &[("proxy-body-size", "100")], &[]);
    for (framing, status) in [
        ("Content-Length: 100\r\n\r\n".to_owned() + &"x".repeat(100), 200),
        ("Content-Length: 101\r\n\r\n".to_owned(), 413),
        ("Content-Length: 18446744073709551615\r\n\r\n".to_owned(), 413),
        (format!("Transfer-Encoding: chunked\r\n\r\n64\r\n{}\r\n0\r\n\r\n", "x".repeat(100)), 200),
        (format!("Transfer-Encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n", "x".repeat(101)), 413),
        (format!("Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(101)), 413),
    ] {
        let mut client = Client::connect(edge.http);
        client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\n{framing}"));
        let answer = client.response();
        assert_eq!((answer.status, answer.closes()), (status, status == 413), "{framing}");
    }
    assert_eq!(upstream.requests().iter().filter(|request| request.complete).count(), 2);
}

/// A request that is refused gives back what it was counted for.
#[test]
fn refused_requests_hold_no_place() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&upstream, &[("proxy-body-size", "10"), ("limit-connections", "1")], &[]);
    for _ in 0..3 {
        let mut client = Client::connect(edge.http);
        client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 50\r\n\r\n");
        assert_eq!(client.response().status, 413);
        let mut client = Client::connect(edge.http);
        client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(20)));
        assert_eq!(client.response().status, 413);
    }
    assert_eq!(edge.get("app.test", "/").status, 200);
}

/// Content of many megabytes goes both ways unchanged, whatever its framing.
#[test]
fn large_content_goes_both_ways() {
    const LENGTH: usize = 12 << 20;
    let pattern = |length: usize| (0..length).map(|index| (index * 7 + index / 251) as u8).collect::<Vec<u8>>();
    let upstream = Upstream::scripted(move |mut visit| {
        while let Some(request) = visit.request() {
            let body = pattern(LENGTH);
            let sent = if request.target == "/chunked" {
                let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for chunk in body.chunks(100_000) {
                    write!(bytes, "{:x}\r\n", chunk.len()).expect("a vector takes everything");
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
                visit.send(bytes)
            } else {
                visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n")).and_then(|()| visit.send(body))
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let edge = edge_to(&upstream);
    let body = pattern(LENGTH);
    let mut chunked = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(77_777) {
        write!(chunked, "{:X};x\r\n", chunk.len()).expect("a vector takes everything");
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let mut counted = format!("Content-Length: {LENGTH}\r\n\r\n").into_bytes();
    counted.extend_from_slice(&body);
    let mut client = Client::connect(edge.http);
    for (path, content) in [("/counted", &counted), ("/chunked", &chunked)] {
        client.send(format!("POST {path} HTTP/1.1\r\nHost: app.test\r\n"));
        client.send(content);
        let answer = client.response();
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == body, "{path}: {} bytes came back, other ones", answer.body.len());
    }
    for request in upstream.requests() {
        assert_eq!(request.body_length, LENGTH, "{}", request.target);
        assert!(request.body == body[..request.body.len()], "{}: other bytes went up", request.target);
    }
}

/// A client that reads slowly holds the upstream back; Corelane keeps no more of the content than a few buffers.
#[test]
fn a_slow_reader_holds_the_upstream_back() {
    const LENGTH: u64 = 256 << 20;
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_none() {
            return;
        }
        let piece = vec![b'x'; 64 << 10];
        let mut open = visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n")).is_ok();
        for _ in 0..LENGTH / piece.len() as u64 {
            open = open && visit.send(&piece).is_ok();
        }
    });
    let edge = edge_to(&upstream);
    let before = edge.resident_bytes();
    let mut clients: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = Client::connect(edge.http);
            client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
            client.read_until(b"\r\n\r\n");
            client
        })
        .collect();
    let mut peak = 0;
    for _ in 0..100 {
        for client in &mut clients {
            client.fill().expect("content comes");
            client.buffer.clear();
        }
        std::thread::sleep(Duration::from_millis(5));
        peak = peak.max(edge.resident_bytes().saturating_sub(before));
    }
    assert!(peak < 40 << 20, "{peak} bytes for four slow readers");
    drop(clients);
    upstream.wait_until_idle();
}

/// An upstream that reads slowly holds the client back.
#[test]
fn a_slow_upstream_holds_the_client_back() {
    let gate = Gate::default();
    let of_upstream = gate.clone();
    let upstream = Upstream::scripted(move |mut visit| {
        let Some(index) = visit.head() else { return };
        of_upstream.pass();
        visit.body(index);
        let _gone = visit.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let edge = edge_to(&upstream);
    let before = edge.resident_bytes();
    const LENGTH: usize = 128 << 20;
    let mut client = Client::connect(edge.http);
    client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {LENGTH}\r\n\r\n"));
    client.socket().set_nonblocking(true).expect("a socket can be told not to block");
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0;
    let mut stuck = 0;
    // Until nothing has moved for half a second.
    while stuck < 50 {
        match client.write_some(&piece[..piece.len().min(LENGTH - sent)]) {
            Some(count) => {
                sent += count;
                stuck = 0;
            }
            None => {
                stuck += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert!(sent < LENGTH, "the client was never held back");
    }
    let grown = edge.resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes for one slow upstream");
    gate.open();
    client.socket().set_nonblocking(false).expect("a socket can be told to block");
    while sent < LENGTH {
        let count = piece.len().min(LENGTH - sent);
        client.send(&piece[..count]);
        sent += count;
    }
    assert_eq!(client.response().status, 200);
    assert_eq!(upstream.only_request().body_length, LENGTH);
}

fn websocket(visit: &mut Visit) {
    let _gone = visit.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: chat\r\n\r\n",
    );
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// An upgrade reaches the upstream whole, the switch reaches the client, and bytes pass both ways untouched from then on.
#[test]
fn a_websocket_is_a_tunnel() {
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_none() {
            return;
        }
        websocket(&mut visit);
        loop {
            let bytes = visit.read_some();
            if bytes.is_empty() || visit.send(&bytes).is_err() {
                return;
            }
        }
    });
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    client.send(UPGRADE);
    let answer = client.response();
    assert_eq!((answer.status, answer.field("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    assert_eq!((answer.field("upgrade"), answer.field("sec-websocket-protocol")), (Some("websocket"), Some("chat")));
    assert!(answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")), "{answer:?}");
    let request = upstream.only_request();
    assert_eq!((request.field("upgrade"), request.field("sec-websocket-version")), (Some("websocket"), Some("13")));
    assert_eq!(request.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    for size in [1, 125, 70_000, 1 << 20] {
        let frame: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let mut sender = client.socket().try_clone().expect("a handle");
        let copy = frame.clone();
        let sending = support::spawn(move || sender.write_all(&copy).is_ok());
        assert!(client.read_exactly(size) == frame, "{size} bytes come back as they were");
        assert!(sending.join().expect("the sender ends"));
    }
    // The client's end is passed on; the upstream's answer to it still comes.
    client.send("last words");
    client.finish_sending();
    assert_eq!(client.read_to_end(), Ok(b"last words".to_vec()));
    upstream.wait_until_idle();
}

/// A tunnel counts under `limit-connections` for as long as it lives, not only until the switch.
#[test]
fn a_tunnel_holds_its_place() {
    let upstream = Upstream::scripted(|mut visit| {
        while let Some(request) = visit.request() {
            if request.target == "/ws" {
                websocket(&mut visit);
                while !visit.read_some().is_empty() {}
                return;
            }
            let _gone = visit.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let edge = edge_with(&upstream, &[("limit-connections", "1")], &[]);
    let mut tunnel = Client::connect(edge.http);
    tunnel.send(UPGRADE);
    assert_eq!(tunnel.response().status, 101);
    assert_eq!(edge.get("app.test", "/").status, 503);
    drop(tunnel);
    eventually("the place is free again", || (edge.get("app.test", "/").status == 200).then_some(()));
}

/// Bytes that follow the switch in the same packet, on either side, belong to the tunnel.
#[test]
fn a_tunnel_begins_behind_the_heads() {
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_none() {
            return;
        }
        let _gone = visit.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst frame");
        let mut heard = Vec::new();
        while heard.len() < 11 {
            heard.extend(visit.read_some());
        }
        let _gone = visit.send(&heard);
    });
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    client.send(format!("{UPGRADE}eager frame"));
    assert_eq!(client.response().status, 101);
    assert_eq!(client.read_to_end(), Ok(b"first frameeager frame".to_vec()));
}

/// A client that ends while much is still on its way in both directions gets all of it: neither side waits for the other.
#[test]
fn a_half_closed_tunnel_does_not_lock_up() {
    const LENGTH: usize = 24 << 20;
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_none() {
            return;
        }
        websocket(&mut visit);
        loop {
            let bytes = visit.read_some();
            if bytes.is_empty() || visit.send(&bytes).is_err() {
                return;
            }
        }
    });
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    client.send(UPGRADE);
    assert_eq!(client.response().status, 101);
    let mut sender = client.socket().try_clone().expect("a handle");
    let sending = support::spawn(move || {
        let sent = sender.write_all(&vec![b'w'; LENGTH]);
        let _closed = sender.shutdown(std::net::Shutdown::Write);
        sent.is_ok()
    });
    // Only when the client has sent all that the way holds does it begin to read.
    std::thread::sleep(Duration::from_millis(300));
    let echoed = client.read_to_end().expect("the tunnel ends in order");
    assert_eq!(echoed.len(), LENGTH);
    assert!(sending.join().expect("the sender ends"));
}

/// A tunnel that either side breaks is gone on both, and leaves nothing behind.
#[test]
fn a_broken_tunnel_is_gone_on_both_sides() {
    let upstream = Upstream::scripted(|mut visit| {
        let Some(request) = visit.request() else { return };
        websocket(&mut visit);
        if request.target == "/upstream-resets" {
            visit.reset();
        } else {
            visit.stay_silent();
        }
    });
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    client.send(UPGRADE.replace("/ws", "/upstream-resets"));
    assert_eq!(client.response().status, 101);
    assert!(matches!(client.try_response(false), Err(Ended::Closed | Ended::Reset)));
    let mut client = Client::connect(edge.http);
    client.send(UPGRADE);
    assert_eq!(client.response().status, 101);
    client.reset();
    upstream.wait_until_idle();
}

/// A tunnel in which nothing moves ends, also where the reason is a side that takes nothing.
#[test]
fn a_silent_tunnel_ends() {
    let upstream = Upstream::scripted(|mut visit| {
        let Some(request) = visit.request() else { return };
        websocket(&mut visit);
        if request.target == "/floods" {
            let piece = vec![b'x'; 64 << 10];
            while visit.send(&piece).is_ok() {}
        } else {
            visit.stay_silent();
        }
    });
    let edge = edge_with(&upstream, &[("proxy-read-timeout", "1"), ("proxy-send-timeout", "1")], &[]);
    for path in ["/silent", "/floods"] {
        let mut client = Client::connect(edge.http);
        client.send(UPGRADE.replace("/ws", path));
        assert_eq!(client.response().status, 101);
        upstream.wait_until_idle();
    }
}

/// Clients of HTTP/1.0 get answers they understand.
#[test]
fn http10_clients_are_served() {
    let upstream = Upstream::answering(|request| match request.target.as_str() {
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
        _ => echo("app", request),
    });
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    client.send("GET /a HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.status, answer.field("connection")), (200, Some("keep-alive")));
    client.send("GET /chunked HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.text().as_str(), answer.field("transfer-encoding"), answer.closes()), ("hello", None, true));
    client.expect_end();
    let mut client = Client::connect(edge.http);
    client.send("GET /b HTTP/1.0\r\nHost: app.test\r\n\r\n");
    assert!(client.response().closes());
    client.expect_end();
    assert!(upstream.requests().iter().all(|request| request.version == "HTTP/1.1"), "the upstream is spoken to in HTTP/1.1");
}

/// Connections to the upstream are used again, within their limits, and one that the upstream closed costs nobody a request.
#[test]
fn upstream_connections_are_kept() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&upstream, &[], &[("upstream-keepalive-requests", "10")]);
    let mut client = Client::connect(edge.http);
    for _ in 0..50 {
        assert_eq!(client.get("app.test", "/").status, 200);
    }
    assert_eq!(upstream.connections(), 5, "ten requests on each");
    // Closes after every answer, without saying so.
    let rude = Upstream::scripted(|mut visit| {
        if let Some(request) = visit.request() {
            let _gone = visit.send(echo("rude", &request));
        }
    });
    let edge = edge_to(&rude);
    let mut client = Client::connect(edge.http);
    for index in 0..100 {
        assert_eq!(client.get("app.test", "/").status, 200, "request {index}");
    }
    assert_eq!(rude.count(), 100, "each request was sent once");
}

/// Many clients at once are all served, each with the answer to its own question.
#[test]
fn many_clients_at_once_get_their_own_answers() {
    let upstream = Upstream::echo("app");
    let edge = edge_to(&upstream);
    let mut clients: Vec<Client> = (0..1000).map(|_| Client::connect(edge.http)).collect();
    for round in 0..3 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /{round}/{index} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.response().text(), format!("app\nGET /{round}/{index}\n0\n"));
        }
    }
    assert_eq!(upstream.count(), 3000);
}

/// A close follows its answer at once: who reads to the end of the connection does not wait for a tick of any clock.
#[test]
fn the_end_follows_the_answer_at_once() {
    let upstream = Upstream::echo("app");
    let edge = edge_to(&upstream);
    let start = support::now();
    // A tick of 64 ms in each would exceed all patience.
    for host in ["app.test", "nowhere.test"] {
        for index in 0..400 {
            let mut client = Client::connect(edge.http);
            client.send(format!("GET /{index} HTTP/1.0\r\nHost: {host}\r\n\r\n"));
            client.read_to_end().expect("an answer and an end");
            assert!(start.elapsed() < support::PATIENCE, "{host}: {index} ends took too long");
        }
    }
}

/// An upstream without keep-alive is asked on a new connection each time.
#[test]
fn an_upstream_that_closes_is_asked_anew() {
    let upstream = Upstream::answering(|_| b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let edge = edge_to(&upstream);
    let mut client = Client::connect(edge.http);
    for _ in 0..5 {
        let answer = client.get("app.test", "/");
        assert_eq!((answer.status, answer.closes()), (200, false), "its close is not the client's");
    }
    assert_eq!(upstream.connections(), 5);
    upstream.wait_until_idle();
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A trusted balancer's PROXY header names the client; connections without one are not served.
#[test]
fn the_proxy_header_names_the_client() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&upstream, &[], &[("use-proxy-protocol", "true"), ("proxy-protocol-header-timeout", "1")]);
    let mut v2 = V2.to_vec();
    v2.extend_from_slice(&[0x21, 0x11, 0, 15, 203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0, 80, 4, 0, 0]);
    let mut v2_six = V2.to_vec();
    v2_six.extend_from_slice(&[0x21, 0x21, 0, 36]);
    v2_six.extend_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    v2_six.extend_from_slice(&[0; 16]);
    v2_six.extend_from_slice(&[0x30, 0x39, 0, 80]);
    let mut v2_local = V2.to_vec();
    v2_local.extend_from_slice(&[0x20, 0, 0, 0]);
    for (header, address) in [
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 12345 80\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2, "203.0.113.9"),
        (v2_six, "2001:db8::1"),
        (v2_local, "127.0.0.1"),
    ] {
        for in_pieces in [false, true] {
            upstream.forget();
            let mut client = Client::connect(edge.http);
            let mut bytes = header.clone();
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
            for piece in bytes.chunks(if in_pieces { 3 } else { bytes.len() }) {
                client.send(piece);
            }
            assert_eq!(client.response().status, 200, "{address}");
            assert_eq!(upstream.only_request().field("x-real-ip"), Some(address));
            assert_eq!(client.get("app.test", "/").status, 200, "{address}: the header comes once");
        }
    }
    upstream.forget();
    for refused in [
        &b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"[..],
        b"PROXY TCP4 203.0.113.7\r\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"PROXY TCP4 999.0.113.7 10.0.0.1 12345 80\r\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 12345 80\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 12345",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        let mut client = Client::connect(edge.http);
        client.send(refused);
        client.expect_end();
    }
    assert_eq!(upstream.count(), 0);
}

/// A PROXY header from a peer that is not trusted is no header but a bad request.
#[test]
fn an_untrusted_proxy_header_is_a_bad_request() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&upstream, &[], &[("use-proxy-protocol", "true"), ("proxy-real-ip-cidr", "192.0.2.0/24")]);
    assert_eq!(edge.get("app.test", "/").status, 200, "others speak without one");
    let mut client = Client::connect(edge.http);
    client.send("PROXY TCP4 203.0.113.7 10.0.0.1 12345 80\r\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response().status, 400);
    assert_eq!(upstream.only_request().field("x-real-ip"), Some("127.0.0.1"));
}

/// The Host that a rule asks for is the one the upstream sees.
#[test]
fn the_host_can_be_changed() {
    let upstream = Upstream::echo("app");
    let edge = edge_with(&upstream, &[("upstream-vhost", "inner.test")], &[]);
    assert_eq!(edge.get("app.test", "/").status, 200);
    let request = upstream.only_request();
    assert_eq!((request.field("host"), request.field("x-forwarded-host")), (Some("inner.test"), Some("app.test")));
}

/// A client that goes away in the middle of anything takes its upstream connection along.
#[test]
fn an_abandoned_request_is_abandoned_upstream() {
    let upstream = Upstream::scripted(|mut visit| {
        if visit.head().is_some() {
            visit.stay_silent();
        }
    });
    let edge = edge_to(&upstream);
    for wire in ["GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000\r\n\r\nhello"] {
        let heard = upstream.count();
        let mut client = Client::connect(edge.http);
        client.send(wire);
        eventually("the upstream hears of it", || (upstream.count() > heard).then_some(()));
        client.reset();
        upstream.wait_until_idle();
    }
}
