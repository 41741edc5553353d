//! A run that is ended early, by real signals to real processes: no proxy is left behind, and what was measured is written.
#![expect(clippy::unwrap_used, reason = "whatever fails here fails the test")]

mod processes;

use std::path::Path;

use corelane_bench::cpu::Processes;
use corelane_bench::report;
use processes::Bench;
use processes::Scratch;
use rustix::process::Signal;

/// Hours, if nobody ends it.
const LONG: &str = "compare keepalive-1k --no-floor --peers floor-epoll,floor-epoll --rounds 9999 --seconds 0.3 --warm-up 0.1 --rate 300";

/// What a process has started, itself left out.
fn children(of: u32) -> Vec<u32> {
    let family = Processes::of(of).unwrap();
    family.pids().iter().copied().filter(|pid| *pid != of).collect()
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// SIGTERM and SIGINT end a run with its block: it succeeds, its proxies are gone, and its results say that they are partial.
#[test]
fn a_run_that_is_ended_leaves_results_and_no_proxies() {
    for (name, signal) in [("term", Signal::TERM), ("int", Signal::INT)] {
        let scratch = Scratch::new(name);
        let mut run = Bench::start(&scratch, LONG);
        let first = run.progress();
        assert!(first.contains("[1/"), "{first}");
        let proxies = children(run.pid());
        assert_eq!(proxies.len(), 2, "{proxies:?}");
        run.signal(signal);
        let (status, said) = run.wait();
        assert!(status.success(), "{said}");
        let left: Vec<u32> = proxies.into_iter().filter(|pid| is_there(*pid)).collect();
        assert!(left.is_empty(), "{left:?} still run");
        let results = report::read(&scratch.results()).unwrap();
        assert!(results.measured.partial && !results.measured.series[0].blocks.is_empty());
    }
}

/// An agent that is ended takes its proxies with it, and its driver says whom it has lost.
#[test]
fn an_agent_that_is_ended_leaves_no_proxies() {
    let scratch = Scratch::new("agent-term");
    let agent = Bench::agent(&scratch, "proxy");
    let mut run = Bench::start(&scratch, &format!("{LONG} --proxy-agent {} --upstream-address 127.0.0.1,127.0.0.2", agent.address));
    run.progress();
    let proxies = children(agent.pid());
    assert_eq!(proxies.len(), 2, "{proxies:?}");
    let address = agent.address.clone();
    agent.stop();
    assert!(proxies.iter().all(|pid| !is_there(*pid)));
    let (status, said) = run.wait();
    assert!(!status.success() && said.contains(&format!("proxy agent {address}")), "{said}");
}

/// A driver that is killed leaves no proxies on another host: its agent ends them when the connection does.
#[test]
fn a_killed_driver_leaves_no_proxies_at_its_agent() {
    let scratch = Scratch::new("driver-kill");
    let agent = Bench::agent(&scratch, "proxy");
    let mut run = Bench::start(&scratch, &format!("{LONG} --proxy-agent {} --upstream-address 127.0.0.1,127.0.0.2", agent.address));
    run.progress();
    let proxies = children(agent.pid());
    assert_eq!(proxies.len(), 2, "{proxies:?}");
    run.signal(Signal::KILL);
    run.wait();
    agent.stop();
    assert!(proxies.iter().all(|pid| !is_there(*pid)));
}
