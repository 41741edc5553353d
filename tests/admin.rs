//! The admin endpoint over a real socket: read-only, bounded, and patient with nobody.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use corelane::admin;
use corelane::admin::Windows;
use corelane::snapshot::overview::Overview;
use corelane::telemetry::board::Board;
use corelane::telemetry::metrics::Registry;

/// A running endpoint that ends with the test.
struct Endpoint {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Endpoint {
    #[expect(clippy::disallowed_methods, reason = "a test owns its threads and its clock")]
    fn start() -> Self {
        let admin = admin::bind(&admin::Config { address: ([127, 0, 0, 1], 0).into() }).expect("a free port");
        let address = admin.address();
        let (stop, stops) = tokio::sync::oneshot::channel();
        let windows = Windows {
            board: Arc::new(Board::<Overview>::default()),
            registry: Arc::new(Registry::new(1, &[])),
            draining: Arc::default(),
            started: Instant::now(),
            listeners: Vec::new(),
        };
        let thread = std::thread::spawn(move || admin.run(windows, stops));
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the endpoint accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    /// Everything that comes back for `request`.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text until the end");
        answer
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the endpoint ends by itself");
        }
    }
}

/// GET and HEAD are answered, everything else is refused with what is allowed.
#[test]
fn only_reading_is_allowed() {
    let endpoint = Endpoint::start();
    let get = endpoint.ask("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(get.starts_with("HTTP/1.1 200 OK\r\n") && get.ends_with("\r\n\r\nok\n"), "{get}");
    let head = endpoint.ask("HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = endpoint.ask(&format!("{method} /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD\r\n"), "{method}: {answer}");
    }
}

/// Pages name their type and keep browsers from guessing, running or storing anything.
#[test]
fn pages_say_what_they_are() {
    let endpoint = Endpoint::start();
    for (path, status, content_type) in [
        ("/", 200, "text/html; charset=utf-8"),
        ("/readyz", 503, "text/plain; charset=utf-8"),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/v1/status", 200, "application/json"),
        ("/nope", 404, "application/json"),
    ] {
        let answer = endpoint.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        for field in [&*format!("content-type: {content_type}"), "x-content-type-options: nosniff", "cache-control: no-store"] {
            assert!(answer.contains(&format!("{field}\r\n")), "{path}: {field}: {answer}");
        }
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{path}");
    }
}

/// More silent clients than it serves at a time keep nobody out for longer than a head may take.
#[test]
fn silent_clients_are_sent_away() {
    let endpoint = Endpoint::start();
    let silent: Vec<TcpStream> = (0..100).map(|_| endpoint.connect()).collect();
    let answer = endpoint.ask("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(silent);
}

/// A head that is too large is refused, and the next client is served.
#[test]
fn a_large_head_is_refused() {
    let endpoint = Endpoint::start();
    let large = endpoint.ask(&format!("GET /livez HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000)));
    assert!(large.starts_with("HTTP/1.1 431 "), "{large}");
    assert!(endpoint.ask("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 200 "));
}
