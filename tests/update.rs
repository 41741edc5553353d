//! A change of objects takes effect at once, on every shard, and costs nobody a request or a connection.

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use support::Directory;
use support::Gate;
use support::client::Client;
use support::edge::Corelane;
use support::eventually;
use support::load::Load;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::tls::Authority;
use support::upstream::Upstream;

/// What a whole edge looks like: three namespaces, twenty Ingresses of every path type, three certificates.
fn estate(upstream: &Upstream, authority: &Authority) -> Manifests {
    let mut manifests = Manifests::new();
    for namespace in ["red", "green", "blue"] {
        manifests = manifests.document(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n")).service_in(
            namespace,
            "app",
            &[upstream.address],
        );
    }
    for index in 0..20 {
        let namespace = ["red", "green", "blue"][index % 3];
        let host = format!("site-{index}.{namespace}.test");
        let ingress = Ingress::new(&format!("site-{index}")).namespace(namespace).annotation("ssl-redirect", "false");
        manifests = manifests.ingress(&ingress.path(&host, "Exact", "/exact", "app").path(&host, "Prefix", "/prefix", "app").path(
            &host,
            "ImplementationSpecific",
            "/start",
            "app",
        ));
    }
    for name in ["one", "two", "three"] {
        let host = format!("{name}.tls.test");
        manifests = manifests
            .tls_secret(name, &authority.ecdsa(&[&host]))
            .service(&format!("{name}-app"), &[upstream.address])
            .ingress(&Ingress::new(name).tls(&host, name).host(&host, &format!("{name}-app")));
    }
    manifests
}

/// A directory of many objects serves all of them: every host, every path type, every certificate.
#[test]
fn a_whole_estate_is_served() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::with(&estate(&upstream, &authority), &["--shards", "2"]);
    for index in 0..20 {
        let host = format!("site-{index}.{}.test", ["red", "green", "blue"][index % 3]);
        for (path, status) in [
            ("/exact", 200),
            ("/exact/", 404),
            ("/prefix", 200),
            ("/prefix/a", 200),
            ("/prefixed", 404),
            ("/start", 200),
            ("/started", 200),
            ("/", 404),
        ] {
            assert_eq!(edge.get(&host, path).status, status, "{host}{path}");
        }
    }
    for name in ["one", "two", "three"] {
        let host = format!("{name}.tls.test");
        let mut client = Client::connect_tls(edge.https, &authority.client(), &host);
        assert_eq!(client.get(&host, "/").status, 200, "{host}");
    }
}

/// Under load, objects come and go: each change is seen, and no request is lost.
#[test]
fn changes_under_load_lose_no_request() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let estate = estate(&upstream, &authority);
    let edge = Corelane::with(&estate, &["--shards", "2"]);
    let load = Load::start(edge.http, "site-0.red.test", "/prefix", 4);
    load.wait_for_more(50);
    let mut delays = Vec::new();
    for change in 0..10 {
        let host = format!("new-{change}.test");
        let changed = estate.clone().ingress(&Ingress::new("new").host(&host, "one-app"));
        let start = support::now();
        edge.apply(&changed);
        // On both shards: four connections in a row land on both.
        eventually("the change is served", || (0..4).all(|_| edge.get(&host, "/").status == 200).then_some(()));
        delays.push(start.elapsed());
        if change > 0 {
            assert_eq!(edge.get(&format!("new-{}.test", change - 1), "/").status, 404, "what is gone is gone");
        }
        load.wait_for_more(20);
    }
    let lost = load.finish();
    assert_eq!(lost, Vec::<String>::new());
    delays.sort();
    println!("a change was served after {:?} (median), {:?} (longest)", delays[delays.len() / 2], delays[delays.len() - 1]);
}

/// Endpoints that go are asked no more, those that come are, and requests in flight at the old ones are finished.
#[test]
fn endpoints_come_and_go() {
    let gate = Gate::default();
    let of_upstream = gate.clone();
    let old = Upstream::scripted(move |mut visit| {
        while let Some(request) = visit.request() {
            if request.target == "/slow" {
                of_upstream.pass();
            }
            if visit.send(support::upstream::echo("old", &request)).is_err() {
                return;
            }
        }
    });
    let new = Upstream::echo("new");
    let at =
        |upstream: &Upstream| Manifests::new().service("app", &[upstream.address]).ingress(&Ingress::new("app").host("app.test", "app"));
    let edge = Corelane::start(&at(&old));
    let mut slow = Client::connect(edge.http);
    slow.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n");
    eventually("the slow request is on its way", || (old.count() == 1).then_some(()));
    edge.apply(&at(&new));
    edge.wait_for("app.test", "/", |response| response.text().starts_with("new\n"));
    let asked = old.count();
    for _ in 0..10 {
        assert!(edge.get("app.test", "/").text().starts_with("new\n"));
    }
    assert_eq!(old.count(), asked, "the old endpoint is asked no more");
    gate.open();
    assert!(slow.response().text().starts_with("old\n"), "what it had begun it finished");
    old.wait_until_idle();
}

/// A file that is broken for a while keeps what it said last, and is reported; mended, it counts again.
#[test]
fn a_broken_file_keeps_its_last_good_content() {
    let upstream = Upstream::echo("app");
    let at = |host: &str| Manifests::new().service("app", &[upstream.address]).ingress(&Ingress::new("app").host(host, "app"));
    let edge = Corelane::start(&at("first.test"));
    assert_eq!(edge.get("first.test", "/").status, 200);
    edge.directory.write("objects.yaml", "kind: [Ingress\n  broken: {");
    eventually("the file is reported", || edge.admin("/api/v1/status").text().contains("objects.yaml").then_some(()));
    assert_eq!(edge.get("first.test", "/").status, 200, "the last good content is served");
    edge.apply(&at("second.test"));
    edge.wait_for("second.test", "/", |response| response.status == 200);
    assert_eq!(edge.get("first.test", "/").status, 404);
}

/// One bad Ingress is its own trouble: the others of its file are served.
#[test]
fn a_bad_object_harms_no_other() {
    let upstream = Upstream::echo("app");
    let edge = Corelane::start(
        &Manifests::new()
            .service("app", &[upstream.address])
            .ingress(&Ingress::new("good").host("good.test", "app"))
            .ingress(&Ingress::new("no-service").host("no-service.test", "missing"))
            .ingress(&Ingress::new("bad-host").host("not a host", "app"))
            .ingress(&Ingress::new("bad-path").path("bad-path.test", "Prefix", "no-slash", "app"))
            .ingress(&Ingress::new("bad-regex").annotation("use-regex", "true").path(
                "bad-regex.test",
                "ImplementationSpecific",
                "/(a",
                "app",
            ))
            .ingress(&Ingress::new("bad-list").annotation("whitelist-source-range", "not/a/cidr").host("bad-list.test", "app"))
            .ingress(&Ingress::new("also-good").host("also-good.test", "app")),
    );
    assert_eq!(edge.get("good.test", "/").status, 200);
    assert_eq!(edge.get("also-good.test", "/").status, 200);
    assert_eq!(edge.get("no-service.test", "/").status, 503, "a route without a Service exists and says so");
    assert_eq!(edge.get("bad-list.test", "/").status, 503, "a restriction that cannot be read refuses everybody");
    assert_ne!(edge.get("bad-regex.test", "/x").status, 200);
}

/// A file that goes takes its objects along; a new one brings its own.
#[test]
fn files_come_and_go() {
    let upstream = Upstream::echo("app");
    let edge =
        Corelane::start(&Manifests::new().service("app", &[upstream.address]).ingress(&Ingress::new("kept").host("kept.test", "app")));
    edge.directory.write("more.yaml", &Ingress::new("more").host("more.test", "app").to_yaml());
    edge.wait_for("more.test", "/", |response| response.status == 200);
    fs::remove_file(edge.directory.path().join("more.yaml")).expect("a file can be removed");
    edge.wait_for("more.test", "/", |response| response.status == 404);
    assert_eq!(edge.get("kept.test", "/").status, 200);
}

/// The way a mounted ConfigMap changes: a link to a directory is turned to another one.
#[test]
fn a_turned_link_is_followed() {
    let upstream = Upstream::echo("app");
    let directory = Directory::new();
    let root = directory.path().to_owned();
    let fill = |version: &str, host: &str| {
        let place = root.join(version);
        fs::create_dir(&place).expect("a directory can be made");
        let manifests = Manifests::new().service("app", &[upstream.address]).ingress(&Ingress::new("app").host(host, "app"));
        fs::write(place.join("objects.yaml"), manifests.to_yaml()).expect("a file can be written");
        let link = root.join("..data.new");
        symlink(version, &link).expect("a link can be made");
        fs::rename(&link, root.join("..data")).expect("a link can be turned");
    };
    fill("..2026_01", "first.test");
    symlink("..data/objects.yaml", root.join("objects.yaml")).expect("a link can be made");
    let edge = Corelane::over(directory, &[]);
    assert_eq!(edge.get("first.test", "/").status, 200);
    fill("..2026_02", "second.test");
    fs::remove_dir_all(root.join("..2026_01")).expect("a directory can be removed");
    edge.wait_for("second.test", "/", |response| response.status == 200);
    assert_eq!(edge.get("first.test", "/").status, 404);
}

/// A tunnel outlives the route it came by.
#[test]
fn a_tunnel_outlives_changes() {
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_none() {
            return;
        }
        let _gone = visit.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        loop {
            let bytes = visit.read_some();
            if bytes.is_empty() || visit.send(&bytes).is_err() {
                return;
            }
        }
    });
    let at = |host: &str| Manifests::new().service("app", &[upstream.address]).ingress(&Ingress::new("app").host(host, "app"));
    let edge = Corelane::start(&at("first.test"));
    let mut client = Client::connect(edge.http);
    client.send("GET / HTTP/1.1\r\nHost: first.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response().status, 101);
    for change in 0..3 {
        let host = format!("change-{change}.test");
        let manifests = if change == 1 { Manifests::new().ingress(&Ingress::new("app").host(&host, "gone")) } else { at(&host) };
        edge.apply(&manifests);
        edge.wait_for(&host, "/", |response| response.status != 404);
        client.send("still here");
        assert_eq!(client.read_exactly(10), b"still here");
    }
}
