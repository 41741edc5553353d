//! What goes on beside a load, against the upstream itself, with no proxy between: it does what it promises, and nothing of it is lost.

use std::net::SocketAddr;

use corelane_bench::beside;
use corelane_bench::beside::Beside;
use corelane_bench::beside::Company;
use corelane_bench::beside::Deeds;
use corelane_bench::beside::Door;
use corelane_bench::client::Target;
use corelane_bench::driver::Driver;
use corelane_bench::driver::Round;
use corelane_bench::driver::Span;
use corelane_bench::peers::Ground;
use corelane_bench::peers::Peer;
use corelane_bench::running::Place;
use corelane_bench::scenario::Load;
use corelane_bench::scenario::Request;
use corelane_bench::schedule::Arrivals;
use corelane_bench::tls::Identity;

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
    let client = Identity::new().expect("a certificate can be made").client;
    let door = Door { http: target.address, https: target.address, tls: false, client, host: "app.bench.local", path: target.path };
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
    // A reader that was held up may catch up with the pace of 100 ms, and a piece is read whole.
    let most = 2 * (bytes_per_s * (WINDOW_NS + 100_000_000) / 1_000_000_000 + bytes_per_s / 20);
    assert!(paced.answered > 0 && paced.bytes <= most * round.window_ns / WINDOW_NS, "{paced:?} of {most}");
}

/// Slow readers all hold on to their bodies, and take no more than their pace from whoever sends.
#[test]
fn slow_readers_hold_on() {
    let (connections, bytes_per_s) = (20, 100_000);
    let round = round(&mut driver(), &[Beside::SlowReaders { connections, bytes: 50_000_000, bytes_per_s }]);
    let [readers] = round.beside.as_slice() else { panic!("{:?}", round.beside) };
    assert_eq!((readers.held, readers.failed, readers.answered), (connections, 0, 0), "{readers:?}");
    let most = u64::from(connections) * (bytes_per_s * (WINDOW_NS + 100_000_000) / 1_000_000_000 + bytes_per_s / 20);
    assert!(readers.bytes > 0 && readers.bytes <= most * round.window_ns / WINDOW_NS, "{readers:?} of {most}");
}

/// A proxy is changed at the rate that was asked for while the load goes on; the driver tells the upstream, the timeline everyone else.
#[test]
fn a_proxy_is_changed_under_load() {
    let mut driver = driver();
    let identity = Identity::new().expect("a certificate can be made");
    let scratch = std::env::temp_dir().join(format!("corelane-bench-beside-{}", std::process::id()));
    let templates = scratch.join("templates");
    let peer = |name: &str, change: &str| {
        let directory = templates.join(name);
        std::fs::create_dir_all(&directory).expect("there is a place for files");
        let description = format!("program = 'sleep'\narguments = ['60']\nversion = ['--version']\n[change]\n{change}");
        std::fs::write(directory.join("peer.toml"), description).expect("there is a place for files");
        std::fs::write(directory.join("members"), "{% for endpoint in endpoints %}{{endpoint.address}} {% endfor %}").expect("as well");
    };
    peer("able", "endpoints = { files = ['members'] }\nreload = { files = ['members'], at_most_per_s = 2.0 }");
    peer("unable", "endpoints = { files = ['members'], socket = { path = '/nowhere', say = 'change' } }");
    let addresses = driver.upstream().addresses().to_vec();
    let cpu = corelane_bench::cpu::allowed().expect("this thread runs somewhere")[0];
    let ground = Ground {
        templates: &templates,
        scratch: &scratch,
        identity: &identity,
        place: &Place::default(),
        upstream: &addresses[..2],
        addresses: &addresses,
        hosts: &[],
        proxy_cpu: cpu,
        driver_cpu: cpu,
    };
    let target = target(addresses[0]);
    let door = Door { http: addresses[0], https: addresses[0], tls: false, client: identity.client.clone(), host: "h", path: "/" };
    let mut changed = |name: &str, all: &[Beside]| {
        let mut peer = Peer::start(name, name, &ground).expect("anyone can sleep");
        driver.expect_members(peer.members());
        let round = beside::during(all, &mut peer, Company::new(all, &door), |company| {
            driver.accompany(company);
            let span = Span { warm_up_ns: 0, window_ns: 1_500_000_000 };
            driver.round(target.clone(), LOAD, span, SEED, None).expect("the upstream takes all connections")
        });
        (round, peer.members().collect::<Vec<_>>())
    };

    let all = [Beside::Endpoints { per_s: 20.0 }, Beside::Reload { per_s: 10.0 }];
    let (round, members) = changed("able", &all);
    let [endpoints, reloads] = round.beside.as_slice() else { panic!("{:?}", round.beside) };
    assert_eq!((endpoints.failed, reloads.failed, endpoints.changed), (0, 0, endpoints.steps), "{:?}", round.beside);
    assert!((1..=30).contains(&endpoints.steps) && (1..=3).contains(&reloads.steps), "{:?}", round.beside);
    assert!(!members.contains(&addresses[0]), "the load goes on to an endpoint that has left");
    assert!(round.strayed > 0, "and the upstream knows that it has");
    let events: Vec<&str> = round.tally.timeline.events.iter().map(|event| event.what.as_str()).collect();
    assert!(
        events.iter().any(|what| what.ends_with("changes of endpoints")) && events.iter().any(|what| what.contains("reload")),
        "{events:?}"
    );

    let (round, _) = changed("unable", &all[..1]);
    assert_eq!((round.beside[0].changed, round.beside[0].steps), (0, 0));
    assert!(round.beside[0].failed > 0 && round.beside[0].failure.as_ref().is_some_and(|failure| failure.contains("/nowhere")));
    std::fs::remove_dir_all(&scratch).expect("it was made above");
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
