//! What goes on beside a load, against the upstream itself, with no proxy between: it does what it promises, and nothing of it is lost.

use std::net::SocketAddr;

use corelane_bench::beside::Beside;
use corelane_bench::beside::Company;
use corelane_bench::beside::Deeds;
use corelane_bench::beside::Door;
use corelane_bench::client::Target;
use corelane_bench::driver::Driver;
use corelane_bench::driver::Round;
use corelane_bench::driver::Span;
use corelane_bench::scenario::Load;
use corelane_bench::scenario::Request;
use corelane_bench::schedule::Arrivals;

const WINDOW_NS: u64 = 300_000_000;
const LOAD: Load = Load::Open { rate_per_s: 500.0, arrivals: Arrivals::Uniform };
const SEED: u64 = 11;

fn target(address: SocketAddr) -> Target {
    Target {
        address,
        tls: None,
        connections: 2,
        close: false,
        host: "app.bench.local".into(),
        path: "/api/item",
        addresses: None,
        requests: vec![Request::get(1024)],
        read_bytes_per_s: None,
    }
}

/// A round of a load against the upstream, with these beside it.
fn round(driver: &mut Driver, beside: &[Beside]) -> Round {
    let target = target(driver.upstream().endpoints()[0]);
    let door = Door { address: target.address, tls: None, host: target.host.clone(), path: target.path };
    driver.accompany(Company::new(beside, &door));
    let span = Span { warm_up_ns: 0, window_ns: WINDOW_NS };
    let round = driver.round(target, LOAD, span, SEED, None).expect("the upstream takes all connections");
    let tally = &round.tally;
    assert_eq!(tally.errors.total(), 0, "{:?}", tally.errors);
    assert_eq!((tally.sent, tally.latency.len()), (tally.planned, tally.planned), "the load itself misses nothing");
    round
}

fn driver() -> Driver {
    Driver::new().expect("the loopback has two free ports")
}

/// Idle connections are all open before the window, have been answered once, and rest.
#[test]
fn idle_connections_are_held() {
    let mut driver = driver();
    let round = round(&mut driver, &[Beside::Idle { connections: 300 }]);
    assert_eq!(round.beside, [Deeds { held: 300, ..Deeds::default() }]);
    assert_eq!(driver.upstream().answered, 300 + round.tally.planned);
}

/// A stream moves whole, right bodies, and a paced one no more than its pace.
#[test]
fn a_stream_moves_bytes() {
    let mut driver = driver();
    let bytes_per_s = 3_000_000;
    let all = [
        Beside::Stream { connections: 1, bytes: 3_000_000, bytes_per_s: None },
        Beside::Stream { connections: 2, bytes: 100_000, bytes_per_s: Some(bytes_per_s) },
    ];
    let round = round(&mut driver, &all);
    let [fast, paced] = round.beside.as_slice() else { panic!("{:?}", round.beside) };
    assert_eq!((fast.held, fast.failed, paced.held, paced.failed), (1, 0, 2, 0), "{:?}", round.beside);
    assert!(fast.answered > 0 && fast.bytes >= (fast.answered - 1) * 3_000_000, "{fast:?}");
    // A reader that was held up may catch up with the pace of 50 ms, and a piece is read whole.
    let most = 2 * (bytes_per_s * (WINDOW_NS + 50_000_000) / 1_000_000_000 + bytes_per_s / 100);
    assert!(paced.answered > 0 && paced.bytes <= most * round.window_ns / WINDOW_NS, "{paced:?} of {most}");
}

/// What goes on beside one round is over with it.
#[test]
fn a_round_has_its_own_company() {
    let mut driver = driver();
    let with = round(&mut driver, &[Beside::Idle { connections: 10 }]);
    assert_eq!(with.beside.len(), 1);
    let alone = round(&mut driver, &[]);
    assert_eq!(alone.beside, []);
}
