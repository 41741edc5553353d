//! How long until a start, or an added route, has taken effect: asked for again and again, on a connection of its own each time.
//!
//! In place of waiting times the histograms of such a round hold, as [`Tally`] has them: `latency` the time until the effect is
//! whole, `lateness` how long nobody had asked before, and `service` the time until the first right answer of a start, or what others
//! waited for their answers while a change was under way.

use std::io;
use std::ops::Range;

use fastrand::Rng;

use crate::change::Change;
use crate::change::Kind;
use crate::client::Target;
use crate::cpu::Usage;
use crate::driver::Asked;
use crate::driver::Driver;
use crate::driver::Round;
use crate::peers::Peer;
use crate::tally;
use crate::tally::Tally;

/// Least time between two questions for the same host.
const STEP_NS: u64 = 500_000;
/// An answer that takes longer is none.
const PATIENCE_NS: u64 = 1_000_000_000;
/// How long a proxy may take to start, and to take a change in.
const START_NS_MAX: u64 = 120_000_000_000;
const CHANGE_NS_MAX: u64 = 30_000_000_000;
/// A change comes so long after the one before has taken effect, drawn anew each time: it meets no beat of the proxy's.
const PAUSE_NS: Range<u64> = 50_000_000..150_000_000;
/// How long what is left of the last change may take: old workers end, what was replaced is freed.
const AFTERMATH_NS: u64 = 500_000_000;
/// Pairs of questions that tell what such a pair costs.
const PRICED: u32 = 200;
/// Hosts a start is asked for: as many as this, from all over the set.
const SAMPLE: usize = 16;
/// A host that nobody routes, whose name is as long as those that are added.
const NOBODY: &str = "nobody-000000.bench.local";

/// Starts a proxy anew and asks until hosts from all over the set are answered right.
///
/// Its files are in the page cache, as those of a container that is restarted are.
///
/// # Errors
/// The kernel's; where the proxy ends or is not whole in time.
pub(crate) fn start(driver: &mut Driver, peer: &mut Peer, target: Target, hosts: &[String]) -> io::Result<Round> {
    peer.stop()?;
    let known = Target { addresses: None, ..target };
    let mut tally = Tally::default();
    let mut questions: Vec<Target> = sample(hosts).map(|host| Target { host: host.clone().into(), ..known.clone() }).collect();
    questions.insert(0, known);
    let begin_ns = driver.now_ns();
    peer.start_again()?;
    let mut ready = false;
    for (place, target) in questions.iter().enumerate() {
        let mut before_ns = driver.now_ns();
        loop {
            let asked_ns = driver.now_ns();
            let outcome = driver.ask(target, PATIENCE_NS)?;
            let now_ns = driver.now_ns();
            if outcome == Asked::Right {
                if place == 0 {
                    tally::record(&mut tally.service, now_ns - begin_ns);
                }
                if place + 1 == questions.len() {
                    tally::record(&mut tally.latency, now_ns - begin_ns);
                    tally::record(&mut tally.lateness, asked_ns - before_ns);
                }
                break;
            }
            if outcome != Asked::Nothing {
                // Whoever has no page for it is let in once he answers.
                tally.early += u64::from(ready);
                ready = ready || peer.says_ready().unwrap_or(true);
            }
            before_ns = now_ns;
            peer.check_running()?;
            if asked_ns - begin_ns > START_NS_MAX {
                return Err(io::Error::other(format!("{} does not answer for {}; see {}", peer.label, target.host, peer.log())));
            }
            driver.idle_until(asked_ns + STEP_NS);
        }
    }
    tally.completed = 1;
    let window_ns = driver.now_ns() - begin_ns;
    let usage = peer.processes()?.usage()?;
    Ok(round(tally, Usage { wait_ns: 0, ..usage }, window_ns))
}

/// Adds one route after the other and asks for each until it is answered right, and in between for one that has long been there.
///
/// Memory is the most there was when a change had taken effect, or, of a single process, at any time.
/// CPU time is that of the changes: what as many questions cost before is taken off.
///
/// # Errors
/// The kernel's; where the proxy takes no routes, has ended, or refuses.
pub(crate) fn apply(driver: &mut Driver, peer: &mut Peer, target: Target, changes: u32, seed: u64) -> io::Result<Round> {
    let known = Target { addresses: None, ..target };
    let mut random = Rng::with_seed(seed);
    let mut tally = Tally::default();
    let pair_ns = price(driver, peer, &known)?;
    let begin_ns = driver.now_ns();
    let spent_ns = peer.processes()?.spent_ns()?;
    peer.processes()?.forget_peaks();
    let mut memory_bytes = 0;
    let mut pairs = 0;
    let apart_ns = peer.at_most_per_s(Kind::Routes).map_or(0, |most| (1e9 / most) as u64);
    let mut next_ns = begin_ns;
    for _ in 0..changes {
        driver.idle_until(next_ns.max(driver.now_ns() + random.u64(PAUSE_NS)));
        let staged = peer.stage(Change::Routes(1))?;
        let added = Target { host: peer.latest_host().unwrap_or(NOBODY).to_owned().into(), ..known.clone() };
        let changed_ns = driver.now_ns();
        peer.publish(&staged)?;
        next_ns = changed_ns + apart_ns;
        pairs += until_right(driver, &added, &known, changed_ns, &mut tally)?;
        memory_bytes = peer.processes()?.usage()?.memory_bytes.max(memory_bytes);
    }
    driver.idle_until(driver.now_ns() + AFTERMATH_NS);
    let window_ns = driver.now_ns() - begin_ns;
    let processes = peer.processes()?;
    let cpu_ns = (processes.spent_ns()? - spent_ns).saturating_sub(pairs * pair_ns);
    let peak_bytes = processes.usage()?.peak_bytes;
    if processes.pids().len() == 1 {
        memory_bytes = memory_bytes.max(peak_bytes);
    }
    let usage = Usage { cpu_ns, wait_ns: 0, memory_bytes, peak_bytes };
    Ok(round(tally, usage, window_ns))
}

/// Asks in turn for an added host, until it is there, and for one that always was; how often.
fn until_right(driver: &mut Driver, added: &Target, known: &Target, changed_ns: u64, tally: &mut Tally) -> io::Result<u64> {
    let mut before_ns = changed_ns;
    for pair in 1.. {
        let asked_ns = driver.now_ns();
        let outcome = driver.ask(added, PATIENCE_NS)?;
        let now_ns = driver.now_ns();
        match outcome {
            Asked::Right => {
                tally.completed += 1;
                tally::record(&mut tally.latency, now_ns - changed_ns);
                tally::record(&mut tally.lateness, asked_ns - before_ns);
                return Ok(pair);
            }
            Asked::NotFound => {}
            Asked::Wrong => tally.errors.status += 1,
            Asked::Nothing => tally.errors.broken += 1,
        }
        match driver.ask(known, PATIENCE_NS)? {
            Asked::Right => tally::record(&mut tally.service, driver.now_ns() - now_ns),
            Asked::NotFound | Asked::Wrong => tally.errors.status += 1,
            Asked::Nothing => tally.errors.broken += 1,
        }
        if now_ns - changed_ns > CHANGE_NS_MAX {
            tally.errors.timeout += 1;
            return Ok(pair);
        }
        before_ns = now_ns;
        driver.idle_until(asked_ns + STEP_NS);
    }
    Ok(0)
}

/// CPU time of the proxy for one question that is answered and one that is not.
fn price(driver: &mut Driver, peer: &mut Peer, known: &Target) -> io::Result<u64> {
    let nobody = Target { host: NOBODY.into(), ..known.clone() };
    let before_ns = peer.processes()?.spent_ns()?;
    for _ in 0..PRICED {
        let asked_ns = driver.now_ns();
        driver.ask(&nobody, PATIENCE_NS)?;
        driver.ask(known, PATIENCE_NS)?;
        driver.idle_until(asked_ns + STEP_NS);
    }
    Ok((peer.processes()?.spent_ns()? - before_ns) / u64::from(PRICED))
}

/// Names from all over a list, its first and last among them.
fn sample(hosts: &[String]) -> impl Iterator<Item = &String> {
    let picked = hosts.len().min(SAMPLE);
    (0..picked).map(move |place| &hosts[place * (hosts.len() - 1) / (picked - 1).max(1)])
}

fn round(tally: Tally, usage: Usage, window_ns: u64) -> Round {
    Round { tally, usage: Some(usage), window_ns, ..Round::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample is from all over the set: its first and last are there, none twice, and a small set is taken whole.
    #[test]
    fn a_sample_is_from_all_over() {
        for (hosts, picked) in [(0, 0), (1, 1), (2, 2), (SAMPLE, SAMPLE), (SAMPLE + 1, SAMPLE), (10_000, SAMPLE)] {
            let hosts: Vec<String> = (0..hosts).map(|host| host.to_string()).collect();
            let mut picks: Vec<&String> = sample(&hosts).collect();
            assert_eq!(picks.len(), picked, "{}", hosts.len());
            assert_eq!((picks.first(), picks.last()), (hosts.first().as_ref(), hosts.last().as_ref()));
            picks.dedup();
            assert_eq!(picks.len(), picked, "{}", hosts.len());
        }
    }
}
