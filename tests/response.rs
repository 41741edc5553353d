//! An upstream may break every rule: the client gets a whole answer, a refusal or a visible truncation, never anything in between,
//! and the next request is never harmed.

mod support;

use std::time::Duration;

use support::client::Client;
use support::client::Ended;
use support::client::Response;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::upstream::Upstream;
use support::upstream::Visit;
use support::upstream::echo;

/// A good upstream for `good.test` and this one for `bad.test`.
struct Stage {
    edge: Corelane,
    bad: Upstream,
    _good: Upstream,
}

fn stage(bad: Upstream) -> Stage {
    stage_with(bad, &[])
}

fn stage_with(bad: Upstream, annotations: &[(&str, &str)]) -> Stage {
    let good = Upstream::echo("good");
    let ingress =
        annotations.iter().fold(Ingress::new("bad").host("bad.test", "bad"), |ingress, (name, value)| ingress.annotation(name, value));
    let manifests = Manifests::new()
        .service("good", &[good.address])
        .service("bad", &[bad.address])
        .ingress(&Ingress::new("good").host("good.test", "good"))
        .ingress(&ingress);
    Stage { edge: Corelane::start(&manifests), bad, _good: good }
}

impl Stage {
    /// One request of this method on a connection of its own.
    fn ask(&self, method: &str) -> Result<Response, Ended> {
        self.ask_for(method, "/asked")
    }

    fn ask_for(&self, method: &str, path: &str) -> Result<Response, Ended> {
        let mut client = Client::connect(self.edge.http);
        let content = if method == "POST" { "Content-Length: 5\r\n\r\nhello" } else { "\r\n" };
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: bad.test\r\n{content}"));
        client.try_response(method == "HEAD")
    }

    fn others_are_served(&self) {
        assert_eq!(self.edge.get("good.test", "/").status, 200);
    }
}

/// Answers every request of a connection with these bytes, then waits.
fn saying(bytes: impl AsRef<[u8]>) -> Upstream {
    let bytes = bytes.as_ref().to_vec();
    Upstream::answering(move |_| bytes.clone())
}

/// Answers with these bytes, then closes.
fn saying_then_closing(bytes: impl AsRef<[u8]>) -> Upstream {
    let bytes = bytes.as_ref().to_vec();
    Upstream::scripted(move |mut visit| {
        if visit.request().is_some() {
            let _gone = visit.send(&bytes);
        }
    })
}

/// Answers with these bytes, then resets.
fn saying_then_resetting(bytes: impl AsRef<[u8]>) -> Upstream {
    let bytes = bytes.as_ref().to_vec();
    Upstream::scripted(move |mut visit| {
        if visit.request().is_some() {
            let _gone = visit.send(&bytes);
            // The bytes are to be read before the reset destroys them.
            std::thread::sleep(Duration::from_millis(100));
            visit.reset();
        }
    })
}

/// Heads that break a rule become 502, no byte of them reaches the client, and their connection is not used again.
#[test]
fn malformed_answers_become_502() {
    let long = "x".repeat(100 << 10);
    let fields = "X-Many: 1\r\n".repeat(150);
    let cases = [
        ("no HTTP", "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned()),
        ("noise", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
        ("HTTP/2", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("no status", "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("status 99", "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("status 600", "HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde".to_owned()),
        ("two equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc".to_owned()),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc".to_owned()),
        ("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc".to_owned()),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc".to_owned()),
        ("an endless length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc".to_owned()),
        ("an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc".to_owned()),
        ("chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("chunked not last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n".to_owned()),
        ("HTTP/1.0 with chunks", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("a bare line feed", "HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("line feeds only", "HTTP/1.1 200 OK\nContent-Length: 0\n\n".to_owned()),
        ("a bare carriage return", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a NUL", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a field without colon", "HTTP/1.1 200 OK\r\nNonsense\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("100 KiB in one field", format!("HTTP/1.1 200 OK\r\nX: {long}\r\nContent-Length: 0\r\n\r\n")),
        ("150 fields", format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n")),
        ("a switch nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned()),
    ];
    let bytes: Vec<String> = cases.iter().map(|(_, bytes)| bytes.clone()).collect();
    let stage = stage(Upstream::answering(move |request| {
        let case: usize = request.target[1..].parse().expect("the number of a case");
        bytes[case].clone().into_bytes()
    }));
    for (index, (name, _)) in cases.iter().enumerate() {
        let connections = stage.bad.connections();
        for method in ["GET", "POST"] {
            let answer = stage.ask_for(method, &format!("/{index}")).unwrap_or_else(|ended| panic!("{name}: {method}: {ended:?}"));
            assert_eq!(answer.status, 502, "{name}: {method}: {answer:?}");
            assert_eq!(answer.field("corelane-reason"), Some("upstream_malformed_response"), "{name}");
            assert!(answer.field("x").is_none() && answer.field("set-cookie").is_none(), "{name}: {answer:?}");
        }
        stage.bad.wait_until_idle();
        assert_eq!(stage.bad.connections() - connections, 2, "{name}: each request had a connection of its own");
        stage.others_are_served();
    }
}

/// Length and coding in one answer: the coding rules, the length is not shown, the connection is not used again.
#[test]
fn a_coding_beats_a_length_in_answers() {
    let stage = stage(saying("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
    for _ in 0..3 {
        let answer = stage.ask("GET").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str(), answer.field("content-length")), (200, "hello", None));
    }
    stage.bad.wait_until_idle();
    assert_eq!(stage.bad.connections(), 3);
}

/// Whitespace in front of a colon is removed, as RFC 9112 section 5.1 asks of answers.
#[test]
fn blanks_before_a_colon_are_removed() {
    let stage = stage(saying("HTTP/1.1 200 OK\r\nX-Odd : 1\r\nContent-Length: 2\r\n\r\nok"));
    let answer = stage.ask("GET").expect("an answer");
    assert_eq!((answer.status, answer.field("x-odd"), answer.text().as_str()), (200, Some("1"), "ok"));
}

/// An answer that breaks off is seen to break off, whatever ended it and however it was framed.
#[test]
fn truncation_is_seen() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello";
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let half_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello";
    let bad_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXYZ\r\n";
    for (name, upstream) in [
        ("length, FIN", saying_then_closing(length)),
        ("length, RST", saying_then_resetting(length)),
        ("chunks, FIN", saying_then_closing(chunk)),
        ("chunks, RST", saying_then_resetting(chunk)),
        ("half a chunk, FIN", saying_then_closing(half_chunk)),
        ("half a chunk, RST", saying_then_resetting(half_chunk)),
        ("no more chunks", saying(bad_chunk)),
        ("close-delimited, RST", saying_then_resetting("HTTP/1.1 200 OK\r\n\r\nhello")),
    ] {
        let stage = stage(upstream);
        match stage.ask("GET") {
            Err(Ended::Truncated { status: 200, body }) => {
                assert!(body.starts_with(b"hello") || body.windows(5).any(|part| part == b"hello"), "{name}: {body:?}");
                assert!(!body.ends_with(b"0\r\n\r\n"), "{name}: {body:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
        stage.others_are_served();
        stage.bad.wait_until_idle();
    }
}

/// An answer without a length that ends with the connection is whole: the client gets it with an end of its own.
#[test]
fn an_answer_delimited_by_the_close_is_whole() {
    let stage = stage(saying_then_closing("HTTP/1.1 200 OK\r\n\r\nhello"));
    let mut client = Client::connect(stage.edge.http);
    for _ in 0..2 {
        let answer = client.get("bad.test", "/");
        assert_eq!((answer.status, answer.text().as_str(), answer.field("transfer-encoding")), (200, "hello", Some("chunked")));
    }
    client.send("GET / HTTP/1.0\r\nHost: bad.test\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.text().as_str(), answer.field("transfer-encoding"), answer.closes()), ("hello", None, true));
    client.expect_end();
}

/// A client of HTTP/1.0 can tell a close-delimited answer that broke off only by a reset.
#[test]
fn truncation_is_seen_by_http10() {
    let stage = stage(saying_then_resetting("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"));
    let mut client = Client::connect(stage.edge.http);
    client.send("GET / HTTP/1.0\r\nHost: bad.test\r\n\r\n");
    let got = client.try_response(false);
    assert!(matches!(got, Err(Ended::Truncated { .. } | Ended::Reset)), "{got:?}");
}

/// Bytes behind an answer, at once or later, never become the answer to somebody else.
#[test]
fn bytes_behind_an_answer_are_discarded() {
    for late in [false, true] {
        let stage = stage(Upstream::scripted(move |mut visit| {
            while let Some(request) = visit.request() {
                let own = request.target.clone();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{own}", own.len());
                let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
                let sent = if late {
                    visit.send(&answer).and_then(|()| {
                        std::thread::sleep(Duration::from_millis(2));
                        visit.send(poison)
                    })
                } else {
                    visit.send(answer + poison)
                };
                if sent.is_err() {
                    return;
                }
            }
        }));
        let mut client = Client::connect(stage.edge.http);
        for index in 0..if late { 10 } else { 100 } {
            let path = format!("/own/{index}");
            assert_eq!(client.get("bad.test", &path).text(), path, "late: {late}");
            if late {
                // The poison has arrived before the next request: only then can it be told from an answer.
                eventually("the poisoned connection is closed", || (stage.bad.open() == 0).then_some(()));
            }
        }
    }
}

/// Answers that have no content keep none of what an upstream sends behind them.
#[test]
fn answers_without_content_have_none() {
    for (method, status_line) in [("GET", "204 No Content"), ("GET", "304 Not Modified"), ("HEAD", "200 OK")] {
        let stage = stage(saying(format!("HTTP/1.1 {status_line}\r\nContent-Length: 6\r\n\r\npoison")));
        let mut client = Client::connect(stage.edge.http);
        for _ in 0..3 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: bad.test\r\n\r\n"));
            let answer = client.try_response(method == "HEAD").expect("an answer");
            assert_eq!(answer.status.to_string(), status_line[..3]);
            assert_eq!(answer.body, b"");
            if answer.status == 204 {
                assert_eq!(answer.field("content-length"), None, "RFC 9110 section 8.6");
            }
        }
        assert_eq!(client.get("good.test", "/").status, 200, "{status_line}");
        assert_eq!(client.buffer, b"");
        assert_eq!(stage.bad.connections(), 3, "{status_line}: a connection with leftovers is not used again");
    }
}

/// A reset before the head: an idempotent request is tried at another endpoint, another one is not.
#[test]
fn only_idempotent_requests_are_tried_again() {
    let broken = Upstream::scripted(|mut visit| {
        visit.request();
        visit.reset();
    });
    let good = Upstream::echo("good");
    let manifests =
        Manifests::new().service("both", &[broken.address, good.address]).ingress(&Ingress::new("both").host("both.test", "both"));
    let edge = Corelane::start(&manifests);
    let mut lost = 0;
    for index in 0..4 {
        assert_eq!(edge.get("both.test", "/").status, 200, "GET {index}");
        // Twice, so that it is the broken endpoint's turn once.
        for _ in 0..2 {
            let mut client = Client::connect(edge.http);
            client.send("POST / HTTP/1.1\r\nHost: both.test\r\nContent-Length: 2\r\n\r\nhi");
            lost += usize::from(client.response().status == 502);
        }
    }
    let posts_at = |upstream: &Upstream| upstream.requests().iter().filter(|request| request.method == "POST").count();
    assert_eq!((posts_at(&broken), posts_at(&broken) + posts_at(&good)), (lost, 8), "a POST runs once");
    assert!(lost > 0, "the broken endpoint is asked in turn");
}

/// With a single endpoint the client hears what it did: 502 where it broke.
#[test]
fn the_last_failure_is_the_answer() {
    let stage = stage(Upstream::scripted(|mut visit| {
        visit.request();
        visit.reset();
    }));
    for method in ["GET", "POST", "HEAD"] {
        let answer = stage.ask(method).expect("an answer");
        assert_eq!((answer.status, answer.field("corelane-reason")), (502, Some("upstream_closed")), "{method}");
    }
    stage.others_are_served();
}

/// Interim answers are forwarded to HTTP/1.1, kept from HTTP/1.0, and bounded.
#[test]
fn interim_answers_are_bounded() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let stage = stage(Upstream::answering(move |request| {
        let count: usize = request.target[1..].parse().expect("a number");
        format!("{}{answer}", early.repeat(count)).into_bytes()
    }));
    let mut client = Client::connect(stage.edge.http);
    let got = client.get("bad.test", "/3");
    assert_eq!((got.status, got.interim), (200, vec![103; 3]));
    let got = client.get("bad.test", "/16");
    assert_eq!((got.status, got.interim), (200, vec![103; 16]));
    assert_eq!(client.get("bad.test", "/17").status, 502);
    let mut client = Client::connect(stage.edge.http);
    client.send("GET /3 HTTP/1.0\r\nHost: bad.test\r\n\r\n");
    let got = client.response();
    assert_eq!((got.status, got.interim), (200, vec![]));
}

/// A final answer while the client still sends: the client gets it, and its connection ends without a reset.
#[test]
fn an_early_answer_reaches_the_client() {
    let stage = stage_with(
        Upstream::scripted(|mut visit| {
            if visit.head().is_some() {
                let _gone = visit.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig!");
            }
        }),
        &[("proxy-body-size", "0")],
    );
    for round in 0..20 {
        let mut client = Client::connect(stage.edge.http);
        client.send(format!("POST / HTTP/1.1\r\nHost: bad.test\r\nContent-Length: {}\r\n\r\n", 64 << 20));
        let mut sender = client.socket().try_clone().expect("a handle");
        let uploading = support::spawn(move || {
            let piece = vec![b'x'; 64 << 10];
            for _ in 0..200 {
                if std::io::Write::write_all(&mut sender, &piece).is_err() {
                    return;
                }
            }
        });
        let answer = client.try_response(false).unwrap_or_else(|ended| panic!("round {round}: {ended:?}"));
        assert_eq!((answer.status, answer.text().as_str(), answer.closes()), (413, "big!", true));
        assert!(client.read_to_end().is_ok(), "round {round}: the close is no reset");
        client.finish_sending();
        uploading.join().expect("the sender ends");
    }
    stage.others_are_served();
}

/// Content that drips is passed on as it comes, not collected.
#[test]
fn a_dripping_answer_drips_on() {
    let stage = stage(Upstream::scripted(|mut visit| {
        while visit.request().is_some() {
            let mut say = |bytes: &str| visit.send(bytes).is_ok();
            let mut open = say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(10));
                open = open && say("x");
            }
            if !open {
                return;
            }
        }
    }));
    let mut client = Client::connect(stage.edge.http);
    client.send("GET / HTTP/1.1\r\nHost: bad.test\r\n\r\n");
    client.read_until(b"\r\n\r\n");
    let mut reads = 0;
    let mut got = client.buffer.len();
    client.buffer.clear();
    while got < 10 {
        client.fill().expect("more content");
        got += std::mem::take(&mut client.buffer).len();
        reads += 1;
    }
    assert_eq!(got, 10);
    assert!(reads >= 5, "{reads} reads for ten single bytes");
}

/// A response head that arrives byte by byte is the same head.
#[test]
fn a_dripping_head_is_a_head() {
    let drip = |visit: &mut Visit, bytes: &[u8]| bytes.iter().all(|byte| visit.send([*byte]).is_ok());
    let stage = stage(Upstream::scripted(move |mut visit| {
        while let Some(request) = visit.request() {
            if !drip(&mut visit, &echo("drip", &request)) {
                return;
            }
        }
    }));
    let mut client = Client::connect(stage.edge.http);
    for _ in 0..5 {
        assert_eq!(client.get("bad.test", "/a").text(), "drip\nGET /a\n0\n");
    }
    assert_eq!(stage.bad.connections(), 1, "nothing is wrong with its connection");
}

/// A status that asks for another endpoint is tried there; where there is none, it is the answer.
#[test]
fn statuses_are_tried_again_where_asked() {
    let unwell = || Upstream::answering(|_| b"HTTP/1.1 503 Unwell\r\nContent-Length: 6\r\n\r\nunwell".to_vec());
    let (first, second, good) = (unwell(), unwell(), Upstream::echo("good"));
    let retried =
        |name: &str| Ingress::new(name).annotation("proxy-next-upstream", "error timeout http_503").host(&format!("{name}.test"), name);
    let manifests = Manifests::new()
        .service("mixed", &[first.address, good.address])
        .service("unwell", &[first.address, second.address])
        .ingress(&retried("mixed"))
        .ingress(&retried("unwell"));
    let edge = Corelane::start(&manifests);
    for _ in 0..4 {
        assert_eq!(edge.get("mixed.test", "/").text(), "good\nGET /\n0\n");
    }
    let answer = edge.get("unwell.test", "/");
    assert_eq!((answer.status, answer.text().as_str()), (503, "unwell"));
}
