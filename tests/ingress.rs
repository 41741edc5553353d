//! What owners of Ingresses see: annotations and answers on the real binary, where several rooms must agree.

mod support;

use std::net::TcpListener;

use support::Directory;
use support::client::Client;
use support::client::Response;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::upstream::Upstream;

/// One request with these field lines, each ended by CRLF.
fn ask(edge: &Corelane, method: &str, host: &str, path: &str, fields: &str) -> Response {
    let mut client = Client::connect(edge.http);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"));
    client.response()
}

/// An Ingress with one host that leads to `app`.
fn to_app(name: &str) -> Ingress {
    Ingress::new(name).host(&format!("{name}.test"), "app")
}

/// Every answer of our own comes in the form the client reads, whether a rule gave it or none was met.
#[test]
fn own_answers_match_accept() {
    let upstream = Upstream::echo("app");
    let edge = Corelane::start(
        &Manifests::new()
            .service("app", &[upstream.address])
            .ingress(&to_app("small").annotation("proxy-body-size", "1"))
            .ingress(&Ingress::new("broken").host("broken.test", "missing")),
    );
    for (accept, kind) in [
        ("application/json", "application/json"),
        ("text/html,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
    ] {
        for (method, host, status, reason) in [
            ("GET", "nobody.test", 404, "no_route"),
            ("GET", "broken.test", 503, "service_not_found"),
            ("POST", "small.test", 413, "body_too_large"),
            ("TRACE", "small.test", 405, "method_not_allowed"),
        ] {
            let length = if method == "POST" { "Content-Length: 2\r\n" } else { "" };
            let answer = ask(&edge, method, host, "/", &format!("Accept: {accept}\r\n{length}"));
            assert_eq!((answer.status, answer.field("corelane-reason")), (status, Some(reason)), "{answer:?}");
            assert_eq!(answer.field("content-type"), Some(kind), "{method} {host}: {answer:?}");
        }
    }
}

/// app-root acts on the root of its host though no path serves it, and on nothing else.
#[test]
fn the_root_redirects_without_a_path_of_its_own() {
    let upstream = Upstream::echo("app");
    let ingress = Ingress::new("root").annotation("app-root", "/app").path("root.test", "Prefix", "/app", "app");
    let edge = Corelane::start(&Manifests::new().service("app", &[upstream.address]).ingress(&ingress));
    for (path, status, location) in [("/", 302, Some("http://root.test/app")), ("/app", 200, None), ("/other", 404, None)] {
        let answer = edge.get("root.test", path);
        assert_eq!((answer.status, answer.field("location")), (status, location), "{path}");
    }
}

/// Guesses at a password are limited as any other request is, also where the hash is slow to check.
#[test]
fn guesses_at_passwords_are_limited() {
    let upstream = Upstream::echo("app");
    // bcrypt of `edge`, at the lowest cost.
    let slow = "demo:$2b$04$abcdefghijklmnopqrstuuAQPmRotgB/UZZl9bBx5DgFpVS.nJLJ.";
    for users in ["demo:{PLAIN}edge", slow] {
        let guarded = to_app("guarded").annotation("auth-type", "basic").annotation("auth-secret", "users");
        let limited = guarded.annotation("limit-rpm", "1").annotation("limit-burst-multiplier", "2");
        let edge = Corelane::start(&Manifests::new().service("app", &[upstream.address]).secret("users", "auth", users).ingress(&limited));
        let guess = |_| ask(&edge, "GET", "guarded.test", "/", "Authorization: Basic ZGVtbzp3cm9uZw==\r\n").status;
        assert_eq!((0..5).map(guess).collect::<Vec<_>>(), [401, 401, 401, 503, 503], "{users}");
    }
}

/// Whoever may read an answer across origins learns the same from a preflight and from the answer itself.
#[test]
fn cors_fields_come_with_every_answer() {
    let upstream = Upstream::echo("app");
    let shared = to_app("shared").annotation("enable-cors", "true").annotation("cors-max-age", "60");
    let edge = Corelane::start(&Manifests::new().service("app", &[upstream.address]).ingress(&shared));
    for (method, status) in [("OPTIONS", 204), ("GET", 200)] {
        let answer = ask(&edge, method, "shared.test", "/", "Origin: https://a.example\r\n");
        assert_eq!(answer.status, status);
        for (name, value) in [
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", "GET, PUT, POST, DELETE, PATCH, OPTIONS"),
            ("Access-Control-Max-Age", "60"),
        ] {
            assert_eq!(answer.field(name), Some(value), "{method} {name}");
        }
    }
}

/// Behind a balancer that ends TLS and speaks PROXY, its port 443 is https: no redirect sends the client round and round.
#[test]
fn the_https_port_of_a_balancer_is_https() {
    let upstream = Upstream::echo("app");
    let manifests = Manifests::new()
        .service("app", &[upstream.address])
        .settings(&[("use-proxy-protocol", "true")])
        .ingress(&to_app("forced").annotation("force-ssl-redirect", "true"));
    let edge = Corelane::start(&manifests);
    for (port, status, location) in [(443, 200, None), (80, 308, Some("https://forced.test/a"))] {
        let mut client = Client::connect(edge.http);
        client.send(format!("PROXY TCP4 203.0.113.7 10.0.0.1 12345 {port}\r\nGET /a HTTP/1.1\r\nHost: forced.test\r\n\r\n"));
        let answer = client.response();
        assert_eq!((answer.status, answer.field("location")), (status, location), "port {port}");
    }
    assert_eq!(upstream.only_request().field("x-forwarded-proto"), Some("https"));
}

/// An endpoint that never answers is tried once where it is the only one: nothing is counted that did not happen.
#[test]
fn a_try_is_counted_when_it_is_made() {
    // Connections wait in its queue, and nobody reads.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let manifests = Manifests::new()
        .service("app", &[silent.local_addr().expect("a bound address")])
        .ingress(&to_app("slow").annotation("proxy-read-timeout", "1"));
    let log = Directory::new();
    let file = log.path().join("access.log");
    let edge = Corelane::with(&manifests, &["--access-log", file.to_str().expect("a path in UTF-8")]);
    assert_eq!(edge.get("slow.test", "/").status, 504);
    let line = eventually("the request is logged", || {
        let text = std::fs::read_to_string(&file).ok()?;
        text.lines().next().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON"))
    });
    assert_eq!((&line["attempts"], &line["flags"]), (&1.into(), &serde_json::json!(["upstream_timeout"])));
    assert!(edge.metric("corelane_retries_total", "").abs() < 0.5);
}

/// With `--namespace` the objects of others are not there, in a directory as in a cluster.
#[test]
fn only_the_namespaces_asked_for_are_served() {
    let upstream = Upstream::echo("app");
    let mut manifests = Manifests::new();
    for namespace in ["one", "two", "three"] {
        let ingress = Ingress::new("app").namespace(namespace).host(&format!("{namespace}.test"), "app");
        manifests = manifests.service_in(namespace, "app", &[upstream.address]).ingress(&ingress);
    }
    let edge = Corelane::with(&manifests, &["--namespace", "one", "--namespace", "three"]);
    for (namespace, status) in [("one", 200), ("two", 404), ("three", 200)] {
        assert_eq!(edge.get(&format!("{namespace}.test"), "/").status, status, "{namespace}");
    }
}
