//! The thirty checks of the Ingress conformance suite, row by row as they are numbered there, with Services of type NodePort.

mod support;

use std::collections::BTreeSet;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use support::client::Client;
use support::client::Response;
use support::edge::Corelane;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::tls::Authority;
use support::upstream::Upstream;

/// Nodes answer for the Services, and plain HTTP stays plain, as the suite asks.
fn start(manifests: Manifests) -> Corelane {
    let manifests = manifests.settings(&[("ssl-redirect", "false")]);
    Corelane::with(&manifests, &["--backend-mode", "nodeport", "--publish-status-address", "192.0.2.1"])
}

fn request(edge: &Corelane, method: &str, host: &str, path: &str) -> Response {
    let mut client = Client::connect(edge.http);
    let content = if matches!(method, "POST" | "PUT" | "PATCH") { "Content-Length: 0\r\n" } else { "" };
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n{content}\r\n"));
    client.response()
}

/// Which Service answered, by the first line of its echo.
fn served_by(response: &Response) -> Option<String> {
    (response.status == 200).then(|| response.text().lines().next().unwrap_or_default().to_owned())
}

/// Rows 1 to 6: without rules everything goes to the default backend, whatever host, path and method.
#[test]
fn rows_1_to_6_default_backend() {
    let upstream = Upstream::echo("echo-service");
    let edge = start(
        Manifests::new()
            .node_port_service("echo-service", upstream.address.port(), 1)
            .ingress(&Ingress::new("only").default_backend("echo-service")),
    );
    let address = edge.http.to_string();
    for (row, method, host, path) in [
        (1, "GET", "my-host", "/"),
        (2, "GET", "my-host", "/sub-path"),
        (3, "POST", "some-host", "/"),
        (4, "PUT", address.as_str(), "/resource"),
        (5, "DELETE", "some-host", "/resource"),
        (6, "PATCH", "my-host", "/resource"),
    ] {
        upstream.forget();
        let response = request(&edge, method, host, path);
        assert_eq!(served_by(&response).as_deref(), Some("echo-service"), "row {row}: {response:?}");
        for field in ["Content-Length", "Content-Type", "Date", "Server"] {
            assert!(response.field(field).is_some(), "row {row}: no {field} in {response:?}");
        }
        let seen = upstream.only_request();
        assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.version.as_str()), (method, path, "HTTP/1.1"), "row {row}");
        assert_eq!(seen.field("user-agent"), Some("Go-http-client/1.1"), "row {row}");
        assert_eq!(seen.field("host"), Some(host), "row {row}");
    }
}

/// Rows 7 to 12: hosts exact and wildcard, TLS for one of them, a port by name.
#[test]
fn rows_7_to_12_host_rules() {
    let (wildcard, exact) = (Upstream::echo("wildcard-foo-com"), Upstream::echo("foo-bar-com"));
    let authority = Authority::new();
    let edge = start(
        Manifests::new()
            .node_port_service("wildcard-foo-com", wildcard.address.port(), 1)
            .node_port_service("foo-bar-com", exact.address.port(), 1)
            .tls_secret("conformance-tls", &authority.ecdsa(&["foo.bar.com"]))
            .ingress(
                &Ingress::new("host-rules")
                    .tls("foo.bar.com", "conformance-tls")
                    .path("*.foo.com", "Prefix", "/", "wildcard-foo-com")
                    .port_number(8080)
                    .host("foo.bar.com", "foo-bar-com"),
            ),
    );
    let mut secure = Client::connect_tls(edge.https, &authority.client(), "foo.bar.com");
    assert_eq!(served_by(&secure.get("foo.bar.com", "/")).as_deref(), Some("foo-bar-com"), "row 7");
    for (row, host, service) in [
        (8, "foo.bar.com", Some("foo-bar-com")),
        (9, "subdomain.bar.com", None),
        (10, "bar.foo.com", Some("wildcard-foo-com")),
        (11, "baz.bar.foo.com", None),
        (12, "foo.com", None),
    ] {
        let response = request(&edge, "GET", host, "/");
        assert_eq!(served_by(&response).as_deref(), service, "row {row}: {response:?}");
        if service.is_none() {
            assert_eq!(response.status, 404, "row {row}");
        }
    }
}

/// Row 13: an Ingress of another class gets no status, and is not served.
#[test]
fn row_13_ingress_class() {
    let upstream = Upstream::echo("echo-service");
    let edge = start(
        Manifests::new()
            .node_port_service("echo-service", upstream.address.port(), 1)
            .ingress(&Ingress::new("ours").host("ours.test", "echo-service"))
            .ingress(&Ingress::new("foreign").class("some-invalid-class-name").host("foreign.test", "echo-service")),
    );
    assert_eq!(request(&edge, "GET", "ours.test", "/").status, 200);
    assert_eq!(request(&edge, "GET", "foreign.test", "/").status, 404);
    let status: serde_json::Value = serde_json::from_slice(&edge.admin("/api/v1/status").body).expect("the status is JSON");
    let with_status = status["ingresses"].as_array().expect("a list of Ingresses");
    assert_eq!(with_status.len(), 1, "{status}");
    assert_eq!(with_status[0]["object"]["name"], "ours");
    assert_eq!(with_status[0]["addresses"][0], "192.0.2.1");
}

/// What kube-proxy does for a NodePort: each connection goes to a pod of its choice.
fn node_port(pods: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let dice = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    support::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let roll = dice.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            dice.store(roll, Ordering::Relaxed);
            let Ok(pod) = TcpStream::connect(pods[(roll >> 33) as usize % pods.len()]) else { return };
            for (from, to) in [(client.try_clone(), pod.try_clone()), (pod.try_clone(), client.try_clone())] {
                let (Ok(from), Ok(to)) = (from, to) else { return };
                support::spawn(move || carry(from, to));
            }
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _gone = to.shutdown(Shutdown::Write);
}

/// The pods that answer a hundred requests, sent as the suite's client does: one after the other on one connection.
fn pods_of_100_requests(edge: &Corelane, host: &str) -> BTreeSet<String> {
    let mut client = Client::connect(edge.http);
    (0..100)
        .map(|index| {
            let response = client.get(host, "/");
            served_by(&response).unwrap_or_else(|| panic!("row 14, request {index}: {response:?}"))
        })
        .collect()
}

/// Row 14: ten pods share a hundred requests, behind a NodePort and without one.
#[test]
fn row_14_load_balancing() {
    let pods: Vec<Upstream> = (0..10).map(|pod| Upstream::echo(&format!("pod-{pod}"))).collect();
    let addresses: Vec<SocketAddr> = pods.iter().map(|pod| pod.address).collect();
    let node_port = node_port(addresses.clone());
    let edge = start(
        Manifests::new()
            .node_port_service("echo-service", node_port.port(), 10)
            .ingress(&Ingress::new("balanced").host("balanced.test", "echo-service")),
    );
    assert_eq!(pods_of_100_requests(&edge, "balanced.test").len(), 10, "behind a NodePort");
    let edge = Corelane::start(
        &Manifests::new().service("echo-service", &addresses).ingress(&Ingress::new("balanced").host("balanced.test", "echo-service")),
    );
    assert_eq!(pods_of_100_requests(&edge, "balanced.test").len(), 10, "in endpoints mode");
}

/// Rows 15 to 30: path types, their precedence, and slashes.
#[test]
fn rows_15_to_30_path_rules() {
    let names = ["exact-foo", "prefix-foo", "aaa-bbb", "aaa", "slash-bbb", "exact-slash", "mixed-exact", "mixed-prefix"];
    let upstreams: Vec<Upstream> = names.iter().map(|name| Upstream::echo(name)).collect();
    let manifests = names
        .iter()
        .zip(&upstreams)
        .fold(Manifests::new(), |manifests, (name, upstream)| manifests.node_port_service(name, upstream.address.port(), 1));
    let edge = start(
        manifests.ingress(
            &Ingress::new("path-rules")
                .path("exact-path-rules", "Exact", "/foo", "exact-foo")
                .path("prefix-path-rules", "Prefix", "/foo", "prefix-foo")
                .path("prefix-path-rules", "Prefix", "/aaa/bbb", "aaa-bbb")
                .path("prefix-path-rules", "Prefix", "/aaa", "aaa")
                .path("mixed-path-rules", "Prefix", "/foo", "mixed-prefix")
                .path("mixed-path-rules", "Exact", "/foo", "mixed-exact")
                .path("trailing-slash-path-rules", "Prefix", "/aaa/bbb/", "slash-bbb")
                .path("trailing-slash-path-rules", "Exact", "/foo/", "exact-slash"),
        ),
    );
    for (row, host, path, service) in [
        (15, "exact-path-rules", "/foo", Some("exact-foo")),
        (16, "exact-path-rules", "/foo/", None),
        (17, "exact-path-rules", "/FOO", None),
        (18, "exact-path-rules", "/bar", None),
        (19, "prefix-path-rules", "/foo", Some("prefix-foo")),
        (20, "prefix-path-rules", "/foo/", Some("prefix-foo")),
        (21, "prefix-path-rules", "/FOO", None),
        (22, "prefix-path-rules", "/aaa/bbb", Some("aaa-bbb")),
        (23, "prefix-path-rules", "/aaa/bbb/ccc", Some("aaa-bbb")),
        (24, "prefix-path-rules", "/aaa/ccc", Some("aaa")),
        (25, "prefix-path-rules", "/aaaccc", None),
        (26, "prefix-path-rules", "/foo/", Some("prefix-foo")),
        (27, "mixed-path-rules", "/foo", Some("mixed-exact")),
        (28, "trailing-slash-path-rules", "/aaa/bbb", Some("slash-bbb")),
        (29, "trailing-slash-path-rules", "/aaa/bbb/", Some("slash-bbb")),
        (30, "trailing-slash-path-rules", "/foo", None),
    ] {
        let response = request(&edge, "GET", host, path);
        assert_eq!(served_by(&response).as_deref(), service, "row {row}: {response:?}");
        if service.is_none() {
            assert_eq!(response.status, 404, "row {row}");
        }
    }
}
