//! Nanoseconds for one route look-up: `cargo run --release -p corelane-bench --example route`.

use std::hint::black_box;
use std::time::Instant;

use corelane::route::HostPattern;
use corelane::route::Lookup;
use corelane::route::PathPattern;
use corelane::route::PathRegex;
use corelane::route::RouteTable;

const HOSTS: usize = 10_000;
const LOOKUPS: usize = 1 << 16;
const ROUNDS: usize = 21;

type Table = RouteTable<usize, usize>;

fn main() {
    let many_hosts = many_hosts();
    let requests =
        requests(|random| (host_name(random % HOSTS), ["/api/v1/users/17", "/healthz", "/index.html"][random / HOSTS % 3].to_owned()));
    report("10 000 hosts x 3 paths, 1 % of them expressions", &many_hosts, &requests);
    let paths = (0..5_000).map(|path| (PathPattern::Prefix(path_name(path)), path)).collect();
    let many_paths = RouteTable::build(vec![(HostPattern::Any, 0, paths)]);
    let requests = self::requests(|random| ("example.com".to_owned(), format!("{}/items/17", path_name(random % 5_000))));
    report("1 host x 5 000 paths", &many_paths, &requests);
}

fn host_name(host: usize) -> String {
    format!("service-{host}.team-{}.example.com", host % 97)
}

fn path_name(path: usize) -> String {
    format!("/team-{}/service-{path}", path % 70)
}

fn many_hosts() -> Table {
    let expression = |written: &str| PathPattern::Regex(PathRegex::new(written).expect("an expression"));
    let hosts = (0..HOSTS).map(|host| {
        let paths = if host % 100 == 0 {
            [expression("/"), expression("/api(/|$)(.*)"), expression("/healthz")]
        } else {
            [PathPattern::Prefix("/".to_owned()), PathPattern::Prefix("/api/v1".to_owned()), PathPattern::Exact("/healthz".to_owned())]
        };
        (HostPattern::Exact(host_name(host)), host, paths.into_iter().map(|path| (path, host)).collect())
    });
    RouteTable::build(hosts.collect())
}

/// Requests in an order that no cache foresees, the same in every run.
fn requests(mut make: impl FnMut(usize) -> (String, String)) -> Vec<(String, String)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize
    };
    (0..LOOKUPS).map(|_| make(next())).collect()
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn report(what: &str, table: &Table, requests: &[(String, String)]) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for (host, path) in requests {
                let found = table.find(black_box(host.as_bytes()), black_box(path.as_bytes()));
                assert!(matches!(black_box(found), Lookup::Rule { .. }));
            }
            start.elapsed().as_nanos() as f64 / requests.len() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{what}: {:.0} ns a look-up (best round {:.0}, worst {:.0})", rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]);
}
