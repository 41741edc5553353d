//! Load is shared: connections by the shards, requests by the endpoints, and who fails gets less of it.

mod support;

use std::net::TcpListener;

use support::client::Client;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::upstream::Upstream;

fn manifests(endpoints: &[std::net::SocketAddr]) -> Manifests {
    Manifests::new().service("app", endpoints).ingress(&Ingress::new("app").host("app.test", "app"))
}

/// However the kernel hashes them, no shard serves more than a quarter above its share of 64 connections.
#[test]
fn connections_are_shared_by_the_shards() {
    let upstream = Upstream::echo("app");
    for shards in 2..=4 {
        let edge = Corelane::with(&manifests(&[upstream.address]), &["--shards", &shards.to_string()]);
        let _clients: Vec<Client> = (0..64)
            .map(|_| {
                let mut client = Client::connect(edge.http);
                assert_eq!(client.get("app.test", "/").status, 200);
                client
            })
            .collect();
        let counts: Vec<f64> = (0..shards)
            .map(|shard| {
                let labels = format!("shard=\"{shard}\"");
                edge.metric("corelane_connections", &labels)
            })
            .collect();
        assert!((counts.iter().sum::<f64>() - 64.0).abs() < 0.5, "{counts:?}");
        let mean = 64.0 / f64::from(shards);
        assert!(counts.iter().all(|count| *count <= mean * 1.25), "{shards} shards: {counts:?}");
    }
}

/// Requests take turns at the endpoints.
#[test]
fn requests_take_turns() {
    let upstreams: Vec<Upstream> = (0..5).map(|index| Upstream::echo(&index.to_string())).collect();
    let edge = Corelane::start(&manifests(&upstreams.iter().map(|upstream| upstream.address).collect::<Vec<_>>()));
    let mut client = Client::connect(edge.http);
    for _ in 0..100 {
        assert_eq!(client.get("app.test", "/").status, 200);
    }
    let counts: Vec<usize> = upstreams.iter().map(Upstream::count).collect();
    assert_eq!(counts, [20; 5]);
}

/// An endpoint that keeps failing is asked no more after a few failures, and nobody loses a request over it.
#[test]
fn a_dead_endpoint_is_ejected() {
    let good: Vec<Upstream> = (0..3).map(|index| Upstream::echo(&index.to_string())).collect();
    let broken = Upstream::scripted(|mut visit| {
        visit.request();
        visit.reset();
    });
    let mut endpoints: Vec<_> = good.iter().map(|upstream| upstream.address).collect();
    endpoints.push(broken.address);
    let edge = Corelane::start(&manifests(&endpoints));
    let mut client = Client::connect(edge.http);
    for index in 0..200 {
        assert_eq!(client.get("app.test", "/").status, 200, "request {index}");
    }
    assert_eq!(broken.count(), 5, "five failures in a row eject");
    assert_eq!(good.iter().map(Upstream::count).sum::<usize>(), 200);
}

/// When most endpoints fail, health is ignored: all are asked, so that whoever recovers is found.
#[test]
fn the_last_endpoints_are_never_ejected() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = port.local_addr().expect("a bound address");
    drop(port);
    let edge = Corelane::start(&manifests(&[address]));
    let mut client = Client::connect(edge.http);
    for _ in 0..20 {
        assert_eq!(client.get("app.test", "/").status, 503);
    }
    let _back = Upstream::scripted_at(address, |mut visit| {
        while let Some(request) = visit.request() {
            let _gone = visit.send(support::upstream::echo("back", &request));
        }
    });
    eventually("the endpoint is asked", || (client.get("app.test", "/").status == 200).then_some(()));
}

/// A limit holds for the host, whichever shards a client's connections land on.
#[test]
fn a_limit_holds_over_all_shards() {
    let upstream = Upstream::echo("app");
    let limited = Ingress::new("app").host("app.test", "app").annotation("limit-rpm", "1").annotation("limit-burst-multiplier", "5");
    let edge = Corelane::with(&Manifests::new().service("app", &[upstream.address]).ingress(&limited), &["--shards", "4"]);
    // Held open, so that they are spread over the shards.
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(edge.http)).collect();
    let admitted = clients.iter_mut().map(|client| client.get("app.test", "/").status).filter(|status| *status == 200).count();
    assert_eq!((admitted, upstream.count()), (6, 6), "one, and a burst of five");
}
