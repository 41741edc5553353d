//! A shard that fails takes nothing down but its own connections, and the process does not pretend that nothing has happened.

#![cfg(target_arch = "x86_64")]

mod support;

use support::client::Client;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::upstream::Upstream;

fn manifests(upstream: &Upstream) -> Manifests {
    Manifests::new().service("app", &[upstream.address]).ingress(&Ingress::new("app").host("app.test", "app"))
}

/// One of two shards fails: its own connections end at once, the other's and all new ones are served until the process has said for
/// long enough that it is not ready; then it ends with 1, so that its supervisor starts it again.
#[test]
fn a_failed_shard_is_noticed_at_once() {
    let upstream = Upstream::echo("app");
    let mut edge = Corelane::with(&manifests(&upstream), &["--shards", "2", "--pre-stop-delay", "3"]);
    // Connections go to the shard with the fewest: one each.
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(edge.http)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("app.test", "/").status, 200));
    assert_eq!(edge.metric("corelane_shard_up", ""), 2.0);
    edge.break_shard("shard-1");
    eventually("it says that it is not ready", || (edge.admin("/readyz").status == 503).then_some(()));
    assert_eq!((edge.metric("corelane_shard_up", "shard=\"0\""), edge.metric("corelane_shard_up", "shard=\"1\"")), (1.0, 0.0));
    for number in 0..50 {
        assert_eq!(edge.get("app.test", "/").status, 200, "connection {number} after the failure");
    }
    let mut asked = clients.iter_mut().map(|client| {
        client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
        client.try_response(false).map(|response| response.status)
    });
    let answers = [asked.next().expect("a client"), asked.next().expect("a client")];
    assert!(answers.contains(&Ok(200)) && answers.iter().any(Result::is_err), "{answers:?}: one is served, one has been closed");
    assert_eq!(edge.wait().code(), Some(1));
    let log = edge.log();
    assert!(log.contains("corelane: shard 1 has failed: it panicked: io_uring_enter"), "{log}");
}

/// The last shard fails: there is nothing to wait for.
#[test]
fn without_a_shard_the_process_ends() {
    let upstream = Upstream::echo("app");
    let directory = support::Directory::new();
    let access_log = directory.path().join("access.log").display().to_string();
    let mut edge = Corelane::with(&manifests(&upstream), &["--pre-stop-delay", "600", "--access-log", &access_log]);
    let mut client = Client::connect(edge.http);
    assert_eq!(client.get("app.test", "/").status, 200);
    edge.break_shard("shard-0");
    assert_eq!(edge.wait().code(), Some(1));
    client.expect_end();
    let lines = std::fs::read_to_string(&access_log).expect("a log");
    assert_eq!(lines.lines().count(), 1, "what was served is in the log: {lines:?}");
}
