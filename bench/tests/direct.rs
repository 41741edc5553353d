//! The driver against its own upstream, with no proxy between: what is counted must be exact.

use corelane_bench::client::Target;
use corelane_bench::driver::Driver;
use corelane_bench::driver::Round;
use corelane_bench::driver::Span;
use corelane_bench::scenario::Load;
use corelane_bench::schedule;
use corelane_bench::schedule::Arrivals;
use corelane_bench::wire::Answer;

const WINDOW_NS: u64 = 200_000_000;
const SEED: u64 = 11;

fn round(body_bytes: usize, expected_bytes: usize, connections: u32, close: bool, load: Load) -> Round {
    let mut driver = Driver::new().expect("the loopback has two free ports");
    driver.answer_with(Answer::new(body_bytes));
    let target = Target {
        address: driver.upstream().endpoints()[0],
        tls: None,
        connections,
        close,
        host: "app.bench.local",
        path: "/api/item",
        body: Answer::new(expected_bytes).body().to_vec(),
    };
    driver.round(target, load, Span { warm_up_ns: 0, window_ns: WINDOW_NS }, SEED, None).expect("the upstream takes all connections")
}

/// In an open loop every request of the schedule is sent and answered, whatever the body and the connections.
#[test]
fn every_request_of_the_schedule_is_answered() {
    let rate_per_s = 500.0;
    for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
        let planned = schedule::due_times(arrivals, rate_per_s, WINDOW_NS, SEED).len() as u64;
        for (body_bytes, connections, close) in [(0, 1, false), (1024, 4, false), (1 << 20, 2, false), (1024, 3, true)] {
            let tally = round(body_bytes, body_bytes, connections, close, Load::Open { rate_per_s, arrivals }).tally;
            assert_eq!(tally.errors.total(), 0, "{:?}", tally.errors);
            assert_eq!((tally.planned, tally.sent, tally.latency.len()), (planned, planned, planned));
            assert_eq!((tally.service.len(), tally.request_leg.len(), tally.response_leg.len()), (planned, planned, planned));
        }
    }
}

/// A request is never faster from its intended start than from its actual send.
#[test]
fn waiting_for_a_connection_is_part_of_the_latency() {
    // One connection and a body that takes long: requests queue.
    let load = Load::Open { rate_per_s: 2000.0, arrivals: Arrivals::Poisson };
    let tally = round(1 << 20, 1 << 20, 1, false, load).tally;
    assert_eq!(tally.errors.total(), 0, "{:?}", tally.errors);
    assert!(tally.latency.max() >= tally.service.max());
    assert!(tally.latency.mean() > tally.service.mean());
}

/// The seconds of a round add up to the round, in an open loop as in a closed one.
#[test]
fn the_seconds_add_up_to_the_round() {
    for load in [Load::Saturate, Load::Open { rate_per_s: 2000.0, arrivals: Arrivals::Poisson }] {
        let tally = round(1024, 1024, 4, false, load).tally;
        let timeline = &tally.timeline;
        assert_eq!((timeline.requests.iter().sum::<u64>(), timeline.errors.iter().sum::<u64>()), (tally.completed, 0));
        assert_eq!((timeline.requests.len(), timeline.p50_us.len(), timeline.cpu_us.len()), (1, 1, 0));
        assert!(timeline.p50_us[0] <= timeline.p99_us[0] && timeline.p99_us[0] <= timeline.max_us[0], "{timeline:?}");
    }
}

/// A closed loop goes round and round on every kind of connection.
#[test]
fn a_closed_loop_keeps_going() {
    for close in [false, true] {
        let tally = round(1024, 1024, 8, close, Load::Saturate).tally;
        assert_eq!(tally.errors.total(), 0, "{:?}", tally.errors);
        assert!(tally.completed > 8, "each connection has asked more than once");
        assert_eq!(tally.completed, tally.latency.len());
    }
}

/// An answer of the wrong length is an error each time, and no latency.
#[test]
fn a_wrong_answer_is_an_error() {
    let load = Load::Open { rate_per_s: 200.0, arrivals: Arrivals::Uniform };
    let tally = round(1024, 1000, 2, false, load).tally;
    assert_eq!(tally.errors.content, tally.planned);
    assert_eq!((tally.completed, tally.latency.len()), (0, 0));
}
