//! Driver, proxies and upstream in three processes, as on three hosts: what comes out is whole, and whoever should not have an agent
//! is told so.
#![expect(clippy::unwrap_used, reason = "whatever fails here fails the test")]

mod processes;

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;

use corelane_bench::report;
use corelane_bench::tls::Identity;
use processes::Bench;
use processes::Scratch;
use serde_json::json;

/// Longer than any line an agent reads.
const LONG_BYTES: usize = 5_000_000;

/// Connects to an agent, says this, and returns the first line of its answer with the connection.
fn say(agent: &str, words: &[u8]) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(agent).unwrap();
    // A refusal may come, and close, before all of a long line is written.
    let _refused_already = stream.write_all(words);
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    (line, stream)
}

fn hello(role: &str, token: &str) -> String {
    format!("{{\"version\":1,\"role\":\"{role}\",\"token\":\"{token}\"}}\n")
}

/// A comparison over three processes is one like any other: right answers, CPU time and memory of the proxies, connections counted by
/// the upstream, each host with what was found of it; only the times of the two legs are not there.
#[test]
fn a_comparison_over_three_hosts_comes_out() {
    let scratch = Scratch::new("three");
    let (proxies, upstream) = (Bench::agent(&scratch, "proxy"), Bench::agent(&scratch, "upstream"));
    let peers = if processes::is_installed("nginx") { "floor-epoll,nginx" } else { "floor-epoll" };
    let mut driver = Bench::start(
        &scratch,
        &format!(
            "compare keepalive-1k close-1k --no-floor --peers {peers} --rounds 2 --seconds 0.3 --warm-up 0.1 --rate 300 --proxy-agent {} \
             --proxy-address 127.0.0.3 --upstream-agent {} --upstream-address 127.0.0.4,127.0.0.5",
            proxies.address, upstream.address
        ),
    );
    let (status, said) = driver.wait();
    assert!(status.success(), "{said}");
    let results = report::read(&scratch.results()).unwrap();
    assert!(!results.measured.partial);
    assert_eq!(results.elsewhere.iter().map(|elsewhere| elsewhere.what.as_str()).collect::<Vec<_>>(), ["upstream", "proxies"]);
    assert!(results.elsewhere.iter().all(|elsewhere| !elsewhere.host.findings.is_empty()));
    let blocks: Vec<_> = results.measured.series.iter().flat_map(|series| &series.blocks).collect();
    assert_eq!(blocks.len(), 2 * 2 * peers.split(',').count());
    for block in &blocks {
        let (round, tally) = (&block.round, &block.round.tally);
        assert!(tally.completed > 0 && tally.errors.total() == 0, "{}: {:?}", block.peer, tally.errors);
        let usage = round.usage.expect("the agent has looked");
        assert!(usage.cpu_ns > 0 && usage.memory_bytes > 0, "{}: {usage:?}", block.peer);
        assert_eq!((tally.request_leg.len(), tally.response_leg.len()), (0, 0), "two clocks cannot be compared");
    }
    // A relay of the floor opens a connection to the upstream for each one it accepts: none in a round that keeps them, many in another.
    for series in &results.measured.series {
        let mut relays = series.blocks.iter().filter(|block| block.peer == "floor-epoll");
        assert!(relays.all(|block| (block.round.upstream_opened > 0) == series.scenario.close), "{}", series.scenario.name);
    }
    drop(driver);
    let end = proxies.stop() + &upstream.stop();
    assert_eq!(end.matches("a run of 127.0.0.1").count(), 2, "{end}");
}

/// Proxies alone may be elsewhere: the upstream is then the driver's, on addresses the other host can reach, and the legs are there.
#[test]
fn proxies_alone_may_be_elsewhere() {
    let scratch = Scratch::new("two");
    let proxies = Bench::agent(&scratch, "proxy");
    let comparison = format!(
        "compare keepalive-1k --no-floor --peers floor-epoll --rounds 1 --seconds 0.3 --warm-up 0.1 --rate 300 --proxy-agent {}",
        proxies.address
    );
    let (status, said) = Bench::start(&scratch, &comparison).wait();
    assert!(!status.success() && said.contains("--upstream-address"), "{said}");
    let (status, said) = Bench::start(&scratch, &format!("{comparison} --upstream-address 127.0.0.6,127.0.0.7")).wait();
    assert!(status.success(), "{said}");
    let results = report::read(&scratch.results()).unwrap();
    let tally = &results.measured.series[0].blocks[0].round.tally;
    assert!(tally.errors.total() == 0 && !tally.request_leg.is_empty() && !tally.response_leg.is_empty());
}

/// What is changed while it is measured is not measured elsewhere, and that is said before anything is measured, whatever stands first.
#[test]
fn proxies_elsewhere_are_not_changed() {
    let scratch = Scratch::new("changes");
    let proxies = Bench::agent(&scratch, "proxy");
    let comparison = format!(
        "compare keepalive-1k reload --no-floor --peers floor-epoll --rounds 1 --seconds 0.1 --warm-up 0 --rate 100 \
         --upstream-address 127.0.0.8,127.0.0.9 --proxy-agent {}",
        proxies.address
    );
    let (status, said) = Bench::start(&scratch, &comparison).wait();
    assert!(!status.success() && said.contains("reload changes the proxies") && !said.contains("[1/"), "{said}");
}

/// A wrong token, another role, a line without end and a line without sense are refused in words, and none of them harms the next.
#[test]
fn strangers_are_refused() {
    let scratch = Scratch::new("strangers");
    let agent = Bench::agent(&scratch, "upstream");
    let token = scratch.token();
    let table = [
        (hello("upstream", "0123456789abcdef"), "the token is not this agent's"),
        (hello("upstream", &token[1..]), "the token is not this agent's"),
        (hello("proxy", &token), "this agent is the upstream, not the proxy"),
        (hello("upstream", &token).replace(":1,", ":0,"), "the driver speaks version 0"),
        ("x".repeat(LONG_BYTES), "a line longer than 4096 bytes"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "a line that is not understood"),
    ];
    for (words, refusal) in table {
        let (line, mut stream) = say(&agent.address, words.as_bytes());
        assert!(line.contains("\"refused\"") && line.contains(refusal), "{line}");
        let mut rest = String::new();
        assert!(stream.read_to_string(&mut rest).is_err() || rest.is_empty(), "{rest}");
    }
    let (line, _stream) = say(&agent.address, hello("upstream", &token).as_bytes());
    assert!(line.contains("\"welcome\""), "{line}");
}

/// While one run has an agent a second one is refused, and then it is free again; within a run a bad line is the last.
#[test]
fn one_run_at_a_time() {
    let scratch = Scratch::new("busy");
    let agent = Bench::agent(&scratch, "proxy");
    let hello = hello("proxy", &scratch.token());
    let (line, mut first) = say(&agent.address, hello.as_bytes());
    assert!(line.contains("\"welcome\""), "{line}");
    let (line, _) = say(&agent.address, hello.as_bytes());
    assert!(line.contains("another run is under way"), "{line}");
    // What it cannot do it says, and goes on.
    let mut answers = BufReader::new(first.try_clone().unwrap());
    let mut ask = |words: &[u8]| {
        let _refused_already = first.write_all(words);
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        line
    };
    let identity = Identity::new().unwrap();
    let start = |peer: &str, certificate_pem: &str| {
        let start = json!({
            "ask": "start",
            "peer": peer,
            "label": "x",
            "address": "127.0.0.1",
            "endpoints": ["127.0.0.1:1"],
            "hosts": [],
            "certificate_pem": certificate_pem,
            "key_pem": identity.key_pem,
        });
        start.to_string() + "\n"
    };
    for (words, refusal) in [
        (start("../../etc", &identity.certificate_pem), "is no name of a proxy"),
        (start("no-such-peer", &identity.certificate_pem), "no-such-peer"),
        (start("floor-epoll", "none"), "certificate_pem"),
        ("{\"ask\":\"count\"}\n".to_owned(), "a proxy agent is no upstream"),
        ("{\"ask\":\"check\",\"label\":\"x\"}\n".to_owned(), "x does not run"),
    ] {
        let line = ask(words.as_bytes());
        assert!(line.contains("\"refused\"") && line.contains(refusal), "{line}");
    }
    assert!(ask(&[b'x'; LONG_BYTES]).contains("a line longer than 4194304 bytes"));
    drop((first, answers));
    // The end of a run is noticed when the next one comes.
    let welcomed = (0..5000).any(|_| say(&agent.address, hello.as_bytes()).0.contains("\"welcome\""));
    assert!(welcomed);
}
