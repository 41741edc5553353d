//! Starts and added routes, with a relay in place of a proxy: it routes every host at once, so that all there is to see is what was done.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use corelane_bench::compare;
use corelane_bench::compare::Measured;
use corelane_bench::compare::Settings;
use corelane_bench::cpu;
use corelane_bench::driver::Driver;
use corelane_bench::driver::Span;
use corelane_bench::running::Place;
use corelane_bench::scenario::Load;
use corelane_bench::scenario::Scenario;

const ROUNDS: u32 = 2;
const CHANGES: u32 = 3;

/// Two rounds of one load on a peer whose description ends with these lines.
fn run(test: &str, lines: &str, load: Load) -> (io::Result<Measured>, PathBuf) {
    let scratch = std::env::temp_dir().join(format!("corelane-bench-{test}-{}", std::process::id()));
    let peer = scratch.join("peers/relay");
    fs::create_dir_all(&peer).expect("there is a place for scratch");
    let program = env!("CARGO_BIN_EXE_corelane-bench");
    let arguments = r#"["relay", "epoll", "--listen", "{{http}}", "--endpoints", "{{endpoints|map(attribute='address')|join(',')}}"]"#;
    let description = format!("program = '{program}'\narguments = {arguments}\nversion = ['--version']\n{lines}\n");
    fs::write(peer.join("peer.toml"), description).expect("the directory was just made");
    fs::write(peer.join("hosts"), "{{added|join('\n')}}").expect("the directory was just made");
    let mut scenario = Scenario::read(Path::new("load"), "apply-1").expect("it is one of ours");
    scenario.routes = Some(50);
    scenario.loads = vec![load];
    let cpus = cpu::allowed().expect("the kernel tells");
    let settings = Settings {
        place: Place::default(),
        peers: vec!["relay".to_owned()],
        scenarios: vec![scenario],
        floor: false,
        rounds: ROUNDS,
        span: Span { warm_up_ns: 0, window_ns: 1 },
        seed: 1,
        templates: scratch.join("peers"),
        scratch: scratch.clone(),
        driver_cpu: cpus[0],
        proxy_cpu: cpus[cpus.len() - 1],
        stop: Arc::new(AtomicBool::new(false)),
    };
    let mut driver = Driver::new().expect("the loopback has free ports");
    (compare::run(&settings, &mut driver, &mut |_| {}), scratch)
}

/// Every block is a start of its own, with the time until it was whole and what it cost.
#[test]
fn every_block_is_a_start() {
    let (measured, scratch) = run("start", "", Load::Start);
    let measured = measured.expect("a relay starts");
    let series = &measured.series[0];
    assert_eq!((measured.series.len(), series.blocks.len()), (1, ROUNDS as usize), "no second subject with a wildcard");
    for block in &series.blocks {
        let tally = &block.round.tally;
        assert_eq!((tally.completed, tally.latency.len(), tally.service.len()), (1, 1, 1));
        assert_eq!((tally.errors.total(), tally.early), (0, 0));
        assert!(tally.latency.max() >= tally.service.max(), "whole after the first answer");
        assert!(block.cpu_us() > Some(0.0) && block.memory_mb() > Some(0.0));
    }
    fs::remove_dir_all(scratch).expect("it is ours");
}

/// Every change is made, asked for and counted, and no question about another host fails.
#[test]
fn every_route_is_added_and_asked_for() {
    let (measured, scratch) = run("apply", "change.routes.files = ['hosts']", Load::Apply { changes: CHANGES });
    for block in &measured.expect("a relay takes everything").series[0].blocks {
        let tally = &block.round.tally;
        assert_eq!((tally.completed, tally.latency.len(), tally.lateness.len()), (3, 3, 3));
        assert_eq!((tally.errors.total(), tally.early), (0, 0));
    }
    let added = fs::read_to_string(scratch.join("apply-1/relay/hosts")).expect("it was rendered");
    let expected: Vec<String> = (1..=ROUNDS * CHANGES).map(|number| format!("added-{number:06}.bench.local")).collect();
    assert_eq!(added.lines().collect::<Vec<_>>(), expected);
    fs::remove_dir_all(scratch).expect("it is ours");
}

/// A proxy that takes no routes cannot be measured by them, and the fault says whose description lacks what.
#[test]
fn a_proxy_without_a_way_is_a_fault() {
    let (measured, scratch) = run("none", "", Load::Apply { changes: CHANGES });
    let fault = measured.err().expect("there is no way").to_string();
    assert!(fault.contains("relay") && fault.contains("[change]"), "{fault}");
    fs::remove_dir_all(scratch).expect("it is ours");
}
