//! The peers as they are installed here, changed while they are asked: what `peers/*/peer.toml` says about changes must be true.

use std::path::Path;
use std::time::Duration;

use corelane_bench::change::Change;
use corelane_bench::change::Kind;
use corelane_bench::client::Target;
use corelane_bench::clock::Clock;
use corelane_bench::driver::Driver;
use corelane_bench::peers::Ground;
use corelane_bench::peers::Peer;
use corelane_bench::plan::Plan;
use corelane_bench::running::Place;
use corelane_bench::scenario::Scenario;

/// An answer that takes longer is none.
const PATIENCE_NS: u64 = 500_000_000;
/// How long a start or a change may take.
const EFFECT_NS_MAX: u64 = 15_000_000_000;
/// How long a changed proxy is asked.
const ASK_NS: u64 = 2_000_000_000;

/// Endpoints, routes and a reload change under every peer without a wrong answer, and no endpoint that has left is asked for long.
#[test]
#[ignore = "needs all proxies on PATH, and corelane beside the test"]
fn every_peer_takes_its_changes() {
    for name in ["corelane", "nginx", "haproxy", "envoy"] {
        let mut driver = Driver::new().unwrap();
        let scenario = Scenario::read(Path::new("load"), "keepalive-1k").unwrap();
        let plan = Plan::new(&scenario).unwrap();
        let addresses = driver.upstream().addresses().to_vec();
        let scratch = std::env::temp_dir().join(format!("corelane-bench-changes-{}", std::process::id()));
        let ground = Ground {
            templates: Path::new("peers"),
            scratch: &scratch,
            identity: &plan.identity,
            place: &Place::default(),
            upstream: &addresses[..2],
            hosts: &[],
            addresses: &addresses,
            proxy_cpu: 1,
            driver_cpu: 0,
        };
        let mut peer = Peer::start(name, name, &ground).unwrap();
        let known = plan.target(peer.http, peer.https);
        await_answer(&mut driver, &known);
        for change in [Change::Endpoints(1), Change::Endpoints(3), Change::Routes(2), Change::Reload, Change::Endpoints(1)] {
            peer.apply(change).unwrap();
            driver.expect_members(peer.members());
            assert_eq!(failures(&mut driver, &known), 0, "{name} {change:?}");
            assert_eq!(driver.upstream().strayed, 0, "{name} {change:?}");
            if change.kind() == Kind::Routes {
                let host = peer.latest_host().unwrap().to_owned();
                await_answer(&mut driver, &Target { host: host.into(), ..known.clone() });
            }
        }
        drop(peer);
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}

fn await_answer(driver: &mut Driver, target: &Target) {
    let clock = Clock::start();
    while !driver.probe(target, PATIENCE_NS).expect("the kernel gives sockets") {
        assert!(clock.now_ns() < EFFECT_NS_MAX, "{} does not answer", target.host);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks for a while; how many answers were not right.
fn failures(driver: &mut Driver, target: &Target) -> usize {
    let clock = Clock::start();
    let mut failures = 0;
    while clock.now_ns() < ASK_NS {
        failures += usize::from(!driver.probe(target, PATIENCE_NS).expect("the kernel gives sockets"));
        std::thread::sleep(Duration::from_millis(1));
    }
    failures
}
