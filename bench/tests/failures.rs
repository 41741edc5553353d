//! Proxies that fail in the middle of a comparison: what was measured of others, and before, is not lost, and the failure is said.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use corelane_bench::compare;
use corelane_bench::compare::Mark;
use corelane_bench::compare::Measured;
use corelane_bench::compare::Settings;
use corelane_bench::cpu;
use corelane_bench::driver::Driver;
use corelane_bench::driver::Span;
use corelane_bench::running::Place;
use corelane_bench::scenario::Load;
use corelane_bench::scenario::Scenario;

const ROUNDS: u32 = 3;

/// A place for peers that are relays, each of which can be started so many times.
struct Peers(PathBuf);

impl Peers {
    fn new(test: &str, peers: &[(&str, u32)]) -> Self {
        let scratch = std::env::temp_dir().join(format!("corelane-bench-failures-{test}-{}", std::process::id()));
        let relay = format!("{} relay epoll --listen {{{{http}}}}", env!("CARGO_BIN_EXE_corelane-bench"));
        let endpoints = "--endpoints {{endpoints|map(attribute='address')|join(',')}}";
        for (name, starts) in peers {
            let counted = format!("echo >>starts; [ $(wc -l <starts) -le {starts} ] && exec {relay} {endpoints}");
            let description = format!("program = 'sh'\narguments = ['-c', \"\"\"{counted}\"\"\"]\nversion = ['-c', 'echo 1']\n");
            fs::create_dir_all(scratch.join("peers").join(name)).expect("there is a place for scratch");
            fs::write(scratch.join("peers").join(name).join("peer.toml"), description).expect("the directory was just made");
        }
        Self(scratch)
    }

    /// Runs them all; what was told on the way stands behind what came out.
    fn compare(&self, peers: &[&str], scenarios: Vec<Scenario>) -> (io::Result<Measured>, Vec<String>) {
        let cpus = cpu::allowed().expect("the kernel tells");
        let settings = Settings {
            place: Place::default(),
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
            scenarios,
            floor: false,
            rounds: ROUNDS,
            span: Span { warm_up_ns: 0, window_ns: 100_000_000 },
            seed: 1,
            templates: self.0.join("peers"),
            scratch: self.0.clone(),
            driver_cpu: cpus[0],
            proxy_cpu: cpus[cpus.len() - 1],
            stop: Arc::default(),
        };
        let mut told = Vec::new();
        let mut driver = Driver::new().expect("the loopback has free ports");
        let measured = compare::run(&settings, &mut driver, &mut |line| told.push(line.to_owned()));
        (measured, told)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _left_to_the_system = fs::remove_dir_all(&self.0);
    }
}

fn scenario(name: &str, load: Load) -> Scenario {
    Scenario { loads: vec![load], ..Scenario::read(Path::new("load"), name).expect("it is one of ours") }
}

/// One peer that cannot be started again loses its own blocks, which say so, and no other's.
#[test]
fn a_peer_that_fails_takes_no_other_with_it() {
    let peers = Peers::new("one", &[("steady", u32::MAX), ("failing", 2)]);
    let (measured, told) = peers.compare(&["steady", "failing"], vec![scenario("apply-1", Load::Start)]);
    let measured = measured.expect("one of them starts each time");
    let blocks = &measured.series[0].blocks;
    assert_eq!((blocks.len(), measured.partial, &measured.failure), (2 * ROUNDS as usize, false, &None));
    for block in blocks {
        let has_failed = block.peer == "failing" && block.number > 0;
        assert_eq!((block.marks.contains(&Mark::Errors), block.round.tally.completed == 0), (has_failed, has_failed), "{}", block.number);
    }
    assert_eq!(told.len(), blocks.len());
    assert_eq!(told.iter().filter(|line| line.contains("has failed") && line.contains("failing")).count(), 2, "{told:?}");
}

/// Where nobody is left the load ends with the last error, and the rounds before are kept.
#[test]
fn a_round_without_an_answer_is_the_last() {
    let peers = Peers::new("all", &[("failing", 2)]);
    let (measured, told) = peers.compare(&["failing"], vec![scenario("apply-1", Load::Start)]);
    let measured = measured.expect("the first round is whole");
    assert!(measured.partial && measured.check().is_err_and(|error| error.to_string().contains("failing: it has ended")));
    assert_eq!((measured.series[0].blocks.len(), told.len()), (2, 2), "{told:?}");

    let peers = Peers::new("none", &[("failing", 1)]);
    let (measured, told) = peers.compare(&["failing"], vec![scenario("apply-1", Load::Start)]);
    assert!(measured.err().expect("nothing was measured").to_string().contains("failing: it has ended"), "{told:?}");
}

/// A scenario that cannot be measured costs none of those before it, and the reason is kept.
#[test]
fn a_scenario_that_fails_takes_no_earlier_one_with_it() {
    let peers = Peers::new("later", &[("steady", u32::MAX)]);
    let scenarios = vec![scenario("keepalive-1k", Load::Saturate), scenario("apply-1", Load::Apply { changes: 1 })];
    let (measured, told) = peers.compare(&["steady"], scenarios);
    let measured = measured.expect("the first scenario is whole");
    assert_eq!((measured.series.len(), measured.series[0].blocks.len(), told.len()), (1, ROUNDS as usize, ROUNDS as usize));
    let failure = measured.failure.expect("the second one cannot be measured");
    assert!(measured.partial && failure.contains("apply-1") && failure.contains("[change]"), "{failure}");
}
