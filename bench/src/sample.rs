//! A small run that nobody measured, for tests of what is made of results.

use crate::beside::Beside;
use crate::beside::Deeds;
use crate::compare::Block;
use crate::compare::Mark;
use crate::compare::Measured;
use crate::compare::Results;
use crate::compare::Series;
use crate::compare::Version;
use crate::cpu::Usage;
use crate::driver::Round;
use crate::driver::Span;
use crate::host::Host;
use crate::preflight::Finding;
use crate::preflight::Verdict;
use crate::scenario::Load;
use crate::scenario::Request;
use crate::scenario::Scenario;
use crate::schedule::Arrivals;
use crate::tally;
use crate::tally::Tally;
use crate::timeline::Timeline;

/// Rounds of each load, and seconds of each block.
const ROUNDS: u32 = 4;
const SECONDS: u64 = 3;
/// Answers in each block.
pub(crate) const ANSWERS: u64 = 30_000;

/// Two scenarios, saturated and open, `ours` against `theirs` and `<odd> & "peer"`; one block has an event, one a mark and a second with errors.
pub(crate) fn results() -> Results {
    let peers = ["ours", "theirs", "<odd> & \"peer\""].map(str::to_owned);
    let loads = [Load::Saturate, Load::Open { rate_per_s: ANSWERS as f64 / SECONDS as f64, arrivals: Arrivals::Poisson }];
    let series = ["small-1k", "large-64k"].into_iter().flat_map(|name| loads.map(|load| series(name, load, &peers)));
    Results {
        date: "2026-01-02 03:04 UTC".to_owned(),
        commit: "0123456789".to_owned(),
        command: "corelane-bench compare".to_owned(),
        host: Host { processor: "A processor".to_owned(), cpus: 2, memory_gb: 4, findings: findings(), ..Host::default() },
        elsewhere: Vec::new(),
        measured: Measured {
            versions: peers.iter().map(|peer| Version { peer: peer.clone(), version: format!("{peer} 1.0"), limits: None }).collect(),
            series: series.collect(),
            partial: false,
            failure: None,
        },
    }
}

fn findings() -> Vec<Finding> {
    let finding = |name: &str, value: &str, verdict, cure: &str| Finding {
        name: name.to_owned(),
        value: value.to_owned(),
        verdict,
        cure: cure.to_owned(),
    };
    vec![
        finding("governor", "performance", Verdict::Good, ""),
        finding("load average", "7 <of> 8", Verdict::Matters, "stop what runs"),
        finding("steal", "not told", Verdict::Unknown, "ask"),
    ]
}

/// The scenario `small-1k` at five rates.
pub(crate) fn ladder() -> Results {
    let mut results = results();
    let peers: Vec<String> = results.measured.versions.iter().map(|version| version.peer.clone()).collect();
    let rates = (1..=5).map(|rung| Load::Open { rate_per_s: f64::from(rung) * 1000.0, arrivals: Arrivals::Poisson });
    results.measured.series = rates.map(|load| series("small-1k", load, &peers)).collect();
    results
}

/// The scenario `small-1k` under its open load, alone and beside 9 idle connections, which make everything half as slow again.
pub(crate) fn accompanied() -> Results {
    let mut results = results();
    results.measured.series.truncate(2);
    results.measured.series.remove(0);
    let alone = &mut results.measured.series[0];
    alone.blocks.iter_mut().for_each(|block| block.marks.clear());
    let blocks = alone.blocks.iter().map(|alone| {
        let mut with = block(&alone.peer, alone.number, alone.place, 150 + 75 * u64::from(alone.place));
        let deeds = Deeds { held: 9, bytes: 6_000_000, memory_bytes: Some(9 * 2048), ..Deeds::default() };
        with.round.beside.push(deeds);
        with
    });
    let beside = Series {
        scenario: Scenario { beside: vec![Beside::Idle { connections: 9 }], ..alone.scenario.clone() },
        load: alone.load,
        span: alone.span,
        peers: alone.peers.clone(),
        blocks: blocks.collect(),
    };
    results.measured.series.push(beside);
    results
}

/// The scenario `stream-1m` under an open load: half of the requests are long answers, half of them uploads.
pub(crate) fn streams() -> Results {
    let mut results = results();
    results.measured.series.truncate(2);
    results.measured.series.remove(0);
    let series = &mut results.measured.series[0];
    let half = |body_bytes, upload_bytes| Request { share: 0.5, body_bytes, upload_bytes };
    let requests = vec![half(1_000_000, 0), half(0, 1_000_000)];
    series.scenario = Scenario { name: "stream-1m".to_owned(), body_bytes: None, requests, ..series.scenario.clone() };
    for tally in series.blocks.iter_mut().map(|block| &mut block.round.tally) {
        tally.body_bytes = tally.completed * 1_000_000;
        tally.first_byte = tally.latency.clone();
    }
    results
}

/// Some work under one load, as a file would describe it.
pub(crate) fn scenario(name: &str, load: Load) -> Scenario {
    let text = "work = \"some work\"\nconnections = 2\nbody_bytes = 1024\nloads = [{ mode = \"saturate\" }]";
    Scenario { name: name.to_owned(), loads: vec![load], ..Scenario::parse(text).expect("this is a scenario") }
}

fn series(name: &str, load: Load, peers: &[String]) -> Series {
    let scenario = scenario(name, load);
    let mut blocks = Vec::new();
    for number in 0..ROUNDS {
        for (place, peer) in peers.iter().enumerate() {
            blocks.push(block(peer, number, place as u32, 100 + 50 * place as u64));
        }
    }
    blocks[0].round.note(1.5, "reload <1>");
    blocks[1].marks = vec![Mark::Late];
    blocks[1].round.tally.timeline.errors[1] = 7;
    let span = Span { warm_up_ns: 0, window_ns: SECONDS * 1_000_000_000 };
    Series { scenario, load, span, peers: peers.to_vec(), blocks }
}

/// A block whose times lie between `base_us` and twice that, and which costs a fifth of them.
fn block(peer: &str, number: u32, place: u32, base_us: u64) -> Block {
    let mut tally = Tally { planned: ANSWERS, sent: ANSWERS, completed: ANSWERS, ..Tally::default() };
    for answer in 0..ANSWERS {
        let span_us = base_us + base_us * answer / ANSWERS + u64::from(number);
        tally::record(&mut tally.latency, span_us * 1000);
        tally::record(&mut tally.service, span_us * 1000);
    }
    let seconds = SECONDS as usize;
    tally.timeline = Timeline {
        requests: vec![ANSWERS / SECONDS; seconds],
        errors: vec![0; seconds],
        bytes: vec![ANSWERS / SECONDS * 1024; seconds],
        p50_us: vec![Some(base_us as f64 * 1.5); seconds],
        p99_us: vec![Some(base_us as f64 * 2.0); seconds],
        max_us: vec![None; seconds],
        cpu_us: vec![base_us / 5 * ANSWERS / SECONDS; seconds],
        events: Vec::new(),
    };
    let usage = Usage { cpu_ns: base_us / 5 * 1000 * ANSWERS, wait_ns: 0, memory_bytes: 5 << 20, peak_bytes: 6 << 20 };
    let window_ns = SECONDS * 1_000_000_000;
    let round = Round { tally, usage: Some(usage), window_ns, driver_busy: 0.5, upstream_opened: 3, ..Round::default() };
    Block { number, place, peer: peer.to_owned(), round, stolen: 0.0, marks: Vec::new() }
}
