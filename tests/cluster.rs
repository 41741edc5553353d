//! What is promised of a cluster as the source of objects: it serves as a directory does, and outlives whatever the API server does.

mod support;

use std::net::SocketAddr;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::support::Directory;
use crate::support::client::Client;
use crate::support::edge::Corelane;
use crate::support::eventually;
use crate::support::fake_api::FakeApi;
use crate::support::fake_api::Faults;
use crate::support::manifests::Ingress;
use crate::support::manifests::Manifests;
use crate::support::tls::Authority;
use crate::support::upstream::Upstream;

/// An upstream on an address that a cluster may name: loopback is refused there.
fn upstream(name: &'static str) -> Upstream {
    // Connecting a datagram socket sends nothing; it only chooses an address.
    let local = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let local = local.expect("this machine has an address besides loopback");
    Upstream::scripted_at(SocketAddr::new(local.ip(), 0), move |mut visit| {
        while let Some(request) = visit.request() {
            if visit.send(support::upstream::echo(name, &request)).is_err() {
                return;
            }
        }
    })
}

/// Corelane on this API server.
fn start(api: &FakeApi, arguments: &[&str]) -> Corelane {
    let directory = Directory::new();
    api.write_kubeconfig(&directory.path().join("kubeconfig"));
    Corelane::in_cluster(directory, arguments)
}

/// A cluster in which `web` serves the host `a.example`.
fn cluster(upstream: &Upstream) -> FakeApi {
    let api = FakeApi::start();
    api.apply_yaml(Manifests::new().service("web", &[upstream.address]).to_yaml());
    publish(&api, "a");
    api
}

/// Leads the host `<name>.example` to the Service `web`.
fn publish(api: &FakeApi, name: &str) {
    api.apply_yaml(&Ingress::new(name).host(&format!("{name}.example"), "web").to_yaml());
}

/// Waits until a host answers with this status.
fn wait_for(corelane: &Corelane, host: &str, status: u16) {
    corelane.wait_for(host, "/", |response| response.status == status);
}

/// How often a kind was listed.
fn lists(api: &FakeApi, plural: &str) -> usize {
    api.requests("list", plural).len()
}

/// The same objects give the same answers, whether they come from a directory or from an API server.
#[test]
fn a_cluster_serves_as_a_directory_does() {
    let (one, two) = (upstream("one"), upstream("two"));
    let authority = Authority::new();
    let certificate = authority.ecdsa(&["tls.example"]);
    let password =
        format!("user:{{SHA}}{}", STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, b"secret")));
    let manifests = Manifests::new()
        .service("one", &[one.address])
        .service("two", &[two.address])
        .tls_secret("pair", &certificate)
        .secret("users", "auth", &password)
        .settings(&[("hsts", "false"), ("global-allowed-response-headers", "X-Team")])
        .document("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fields}\ndata: {X-Team: blue}\n")
        .ingress(&Ingress::new("paths").path("a.example", "Prefix", "/one", "one").path("a.example", "Exact", "/two", "two"))
        .ingress(&Ingress::new("wildcard").host("*.example.org", "two"))
        .ingress(&Ingress::new("tls").host("tls.example", "one").tls("tls.example", "pair"))
        .ingress(&Ingress::new("auth").host("auth.example", "one").annotation("auth-type", "basic").annotation("auth-secret", "users"))
        .ingress(&Ingress::new("fields").host("fields.example", "one").annotation("custom-headers", "default/fields"))
        .ingress(&Ingress::new("broken").host("broken.example", "nobody"))
        .ingress(&Ingress::new("foreign").class("other").host("foreign.example", "one"));
    let api = FakeApi::start();
    api.apply_yaml(manifests.to_yaml());
    let (from_directory, from_cluster) = (Corelane::start(&manifests), start(&api, &[]));
    for (host, path, status) in [
        ("a.example", "/one/more", 200),
        ("a.example", "/two", 200),
        ("a.example", "/two/more", 404),
        ("x.example.org", "/", 200),
        ("example.org", "/", 404),
        ("tls.example", "/", 308),
        ("auth.example", "/", 401),
        ("fields.example", "/", 200),
        ("broken.example", "/", 503),
        ("foreign.example", "/", 404),
    ] {
        let (expected, response) = (from_directory.get(host, path), from_cluster.get(host, path));
        assert_eq!((response.status, &response.body), (expected.status, &expected.body), "{host}{path}");
        assert_eq!(response.status, status, "{host}{path}");
    }
    assert_eq!(from_cluster.get("fields.example", "/").field("x-team"), Some("blue"));
    for corelane in [&from_directory, &from_cluster] {
        let response = Client::connect_tls(corelane.https, &authority.client(), "tls.example").get("tls.example", "/");
        assert!(response.text().starts_with("one"), "{response:?}");
    }
}

/// Objects that come, change and go are followed, and lists that come in pages are read to their end.
#[test]
fn changes_are_followed() {
    let web = upstream("web");
    let api = cluster(&web);
    api.faults(|faults| faults.page = Some(2));
    for name in ["b", "c", "d", "e", "f"] {
        publish(&api, name);
    }
    let corelane = start(&api, &[]);
    for name in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(corelane.get(&format!("{name}.example"), "/").status, 200, "{name}");
    }
    publish(&api, "new");
    wait_for(&corelane, "new.example", 200);
    api.apply_yaml(&Ingress::new("new").host("changed.example", "web").to_yaml());
    wait_for(&corelane, "changed.example", 200);
    assert_eq!(corelane.get("new.example", "/").status, 404);
    api.delete("ingresses", "default", "new");
    wait_for(&corelane, "changed.example", 404);
}

/// A server that ends its watches or forgets its history costs no request, and no more lists than the lost history calls for.
#[test]
fn lost_history_is_made_up_for() {
    let web = upstream("web");
    let api = cluster(&web);
    let corelane = start(&api, &[]);
    let mut client = Client::connect(corelane.http);
    let before = lists(&api, "ingresses");
    for _ in 0..3 {
        let watches = api.requests("watch", "ingresses").len();
        api.close_watches();
        eventually("the watch is taken up again", || (api.requests("watch", "ingresses").len() > watches).then_some(()));
        assert_eq!(client.get("a.example", "/").status, 200);
    }
    assert_eq!(lists(&api, "ingresses"), before, "a watch that ends is resumed, not begun anew");

    // The list comes 10 s after the one before it at the earliest.
    api.compact();
    publish(&api, "after");
    wait_for(&corelane, "after.example", 200);
    assert_eq!(client.get("a.example", "/").status, 200);
    assert_eq!(lists(&api, "ingresses"), before + 1, "one list makes up for lost history");
}

/// A server that refuses, is gone, or keeps silent costs no request, and what happened meanwhile is caught up with.
#[test]
fn traffic_goes_on_without_the_api_server() {
    type Fault = fn(&mut Faults);
    let faults: [(&str, Fault); 5] = [
        ("unauthorised", |faults| faults.refuse = Some(401)),
        ("busy", |faults| faults.refuse = Some(429)),
        ("broken", |faults| faults.refuse = Some(500)),
        ("offline", |faults| faults.offline = true),
        ("stalled", |faults| faults.stalled = true),
    ];
    // Each on its own: the longer a server fails, the longer it is left alone.
    let work = |(name, fault): (&'static str, Fault)| {
        let web = upstream("web");
        let api = cluster(&web);
        let corelane = start(&api, &[]);
        let mut client = Client::connect(corelane.http);
        api.faults(fault);
        api.close_watches();
        publish(&api, "meanwhile");
        assert_eq!(client.get("a.example", "/").status, 200, "{name}");
        if name != "offline" && name != "stalled" {
            eventually("the refusal is met", || api.requests("watch", "ingresses").last().filter(|seen| seen.status >= 400).map(drop));
        }
        assert_eq!(client.get("a.example", "/").status, 200, "{name}");
        assert_eq!(corelane.get("meanwhile.example", "/").status, 404, "{name}");
        api.faults(|faults| *faults = Faults::default());
        wait_for(&corelane, "meanwhile.example", 200);
        assert_eq!(client.get("a.example", "/").status, 200, "{name}");
    };
    std::thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || work(fault));
        }
    });
}

/// A list from which most objects have vanished is not believed before it is repeated.
#[test]
fn an_empty_list_does_not_wipe_the_routes() {
    let web = upstream("web");
    let api = cluster(&web);
    for number in 0..12 {
        publish(&api, &format!("n{number}"));
    }
    let corelane = start(&api, &[]);
    let before = lists(&api, "ingresses");
    api.faults(|faults| faults.empty = ["ingresses".to_owned()].into());
    api.compact();
    eventually("the empty list is met", || (lists(&api, "ingresses") > before).then_some(()));
    api.faults(|faults| faults.empty.clear());
    eventually("it says so", || corelane.admin("/api/v1/status").text().contains("only 0 of 13 objects").then_some(()));
    assert_eq!(corelane.get("n7.example", "/").status, 200);
    eventually("a second list clears it up", || (!corelane.admin("/api/v1/status").text().contains("only 0 of 13 objects")).then_some(()));
    assert_eq!(corelane.get("n7.example", "/").status, 200);
}

/// An object that does not decode harms no other one, keeps its own last good version, and is reported.
#[test]
fn one_bad_object_harms_nobody() {
    let web = upstream("web");
    let api = cluster(&web);
    let bad = |name: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": "default"},
            "spec": {"ingressClassName": "corelane", "rules": "none"}})
    };
    api.apply(bad("born-bad"));
    publish(&api, "b");
    let corelane = start(&api, &[]);
    assert_eq!(corelane.get("a.example", "/").status, 200);
    api.apply(bad("b"));
    publish(&api, "c");
    wait_for(&corelane, "c.example", 200);
    assert_eq!(corelane.get("b.example", "/").status, 200);
    let report = corelane.admin("/api/v1/status").text();
    assert!(report.contains("ObjectInvalid") && report.contains("born-bad"), "{report}");
    publish(&api, "b");
    api.delete("ingresses", "default", "born-bad");
    eventually("the report is empty again", || (!corelane.admin("/api/v1/status").text().contains("ObjectInvalid")).then_some(()));
}

/// The status of our Ingresses carries the published addresses, is written once, and stays; others are not touched.
#[test]
fn status_is_written_to_ours_only() {
    let web = upstream("web");
    let api = cluster(&web);
    api.apply_yaml(&Ingress::new("foreign").class("other").host("foreign.example", "web").to_yaml());
    let arguments = ["--publish-status-address", "192.0.2.10", "--publish-status-address", "edge.example"];
    let corelane = start(&api, &arguments);
    let status = |name: &str| api.get("ingresses", "default", name).map_or(Value::Null, |ingress| ingress["status"].clone());
    let ours = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}, {"hostname": "edge.example"}]}});
    eventually("the status is written", || (status("a") == ours).then_some(()));
    publish(&api, "b");
    eventually("a new one gets its status", || (status("b") == ours).then_some(()));
    wait_for(&corelane, "b.example", 200);
    // What comes after the writes shows that they were seen and not repeated.
    publish(&api, "c");
    eventually("and so does the next", || (status("c") == ours).then_some(()));
    assert_eq!(api.requests("patch", "ingresses").len(), 3);
    assert_eq!(status("foreign"), Value::Null);
    drop(corelane);
    let again = start(&api, &arguments);
    assert_eq!(again.get("a.example", "/").status, 200);
    assert_eq!((status("a"), api.requests("patch", "ingresses").len()), (ours, 3));
}

/// With `--secrets get` no Secret is listed or watched, and TLS is served all the same.
#[test]
fn secrets_can_be_read_one_by_one() {
    let web = upstream("web");
    let api = cluster(&web);
    let authority = Authority::new();
    api.faults(|faults| faults.forbidden = ["namespaces".to_owned()].into());
    api.apply_yaml(Manifests::empty().tls_secret("pair", &authority.ecdsa(&["tls.example"])).to_yaml());
    api.apply_yaml(&Ingress::new("tls").host("tls.example", "web").tls("tls.example", "pair").to_yaml());
    let corelane = start(&api, &["--secrets", "get"]);
    let response = Client::connect_tls(corelane.https, &authority.client(), "tls.example").get("tls.example", "/");
    assert!(response.text().starts_with("web"), "{response:?}");
    assert_eq!((lists(&api, "secrets"), api.requests("watch", "secrets").len()), (0, 0));
    assert!(api.requests("get", "secrets").iter().all(|seen| seen.path.ends_with("/default/secrets/pair")));
}

/// A certificate that is rotated is served from then on, and one that is deleted is served on.
#[test]
fn certificates_are_followed() {
    let web = upstream("web");
    let api = cluster(&web);
    let authority = Authority::new();
    let put = |certificate| api.apply_yaml(Manifests::empty().tls_secret("pair", certificate).to_yaml());
    let (first, second) = (authority.ecdsa(&["tls.example"]), authority.ecdsa(&["tls.example"]));
    put(&first);
    api.apply_yaml(&Ingress::new("tls").host("tls.example", "web").tls("tls.example", "pair").to_yaml());
    let corelane = start(&api, &[]);
    let shown = || {
        let client = Client::connect_tls(corelane.https, &authority.client(), "tls.example");
        client.session().peer_certificates().and_then(|chain| chain.first().cloned())
    };
    assert_eq!(shown(), Some(first.der.clone()));
    put(&second);
    eventually("the new certificate is shown", || (shown().as_ref() == Some(&second.der)).then_some(()));
    api.delete("secrets", "default", "pair");
    publish(&api, "later");
    wait_for(&corelane, "later.example", 200);
    assert_eq!(shown(), Some(second.der.clone()));
}

/// With `--namespace` nothing is asked for in other namespaces.
#[test]
fn only_named_namespaces_are_watched() {
    let web = upstream("web");
    let api = cluster(&web);
    api.apply_yaml(Manifests::empty().service_in("other", "web", &[web.address]).to_yaml());
    api.apply_yaml(&Ingress::new("x").namespace("other").host("x.example", "web").to_yaml());
    let corelane = start(&api, &["--namespace", "default"]);
    assert_eq!((corelane.get("a.example", "/").status, corelane.get("x.example", "/").status), (200, 404));
    assert!(api.requests("list", "ingresses").iter().all(|seen| seen.path.contains("/namespaces/default/")));
}

/// What may not be read is named with the right that is missing, and is never taken for an empty set.
#[test]
fn a_missing_right_is_named() {
    let web = upstream("web");
    let api = cluster(&web);
    api.faults(|faults| faults.forbidden = ["endpointslices".to_owned()].into());
    let directory = Directory::new();
    let kubeconfig = directory.path().join("kubeconfig");
    api.write_kubeconfig(&kubeconfig);
    let check =
        Command::new(env!("CARGO_BIN_EXE_corelane")).arg("check").arg("--kubeconfig").arg(&kubeconfig).output().expect("corelane runs");
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(!check.status.success() && said.contains("grant get, list and watch on endpointslices.discovery.k8s.io"), "{said}");
}
