//! Interleaved rounds of one work on several proxies, so that whatever the host does meets all of them alike.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use serde::Deserialize;
use serde::Serialize;

use crate::beside;
use crate::beside::Company;
use crate::beside::Deeds;
use crate::change::Kind;
use crate::client::Target;
use crate::cpu;
use crate::driver::Driver;
use crate::driver::Round;
use crate::driver::Span;
use crate::effect;
use crate::effect_table;
use crate::floor;
use crate::host::Elsewhere;
use crate::host::Host;
use crate::hosts;
use crate::peers::Ground;
use crate::peers::Peer;
use crate::plan::Plan;
use crate::running::Place;
use crate::scenario::Load;
use crate::scenario::Scenario;
use crate::scenario::Side;
use crate::tally;

/// How long a proxy may take from its start to its first answer: with 10 000 hosts nginx reads its configuration for several seconds.
const SERVE_NS_MAX: u64 = 60_000_000_000;
const PROBE_NS: u64 = 200_000_000;
/// The rules by which a block is disturbed, fixed in advance.
const LATE_SHARE_MAX: f64 = 0.05;
const SENT_SHARE_MIN: f64 = 0.999;
const STOLEN_SHARE_MAX: f64 = 0.002;
const CONTENDED_SHARE_MAX: f64 = 0.01;
const STALL_SHARE_MAX: f64 = 0.01;

/// What to measure, where.
pub struct Settings {
    /// Subject first; a name given twice runs twice, as a control.
    pub peers: Vec<String>,
    /// Whether the relays of the floor run with them, in scenarios that have a floor.
    pub floor: bool,
    pub scenarios: Vec<Scenario>,
    pub rounds: u32,
    pub span: Span,
    pub seed: u64,
    pub templates: PathBuf,
    pub scratch: PathBuf,
    pub driver_cpu: usize,
    pub proxy_cpu: usize,
    /// Where proxies run.
    pub place: Place,
    /// Set from outside to end the run after the block that is under way.
    pub stop: Arc<AtomicBool>,
}

impl Settings {
    /// How many blocks a comparison has.
    pub fn blocks(&self) -> usize {
        let blocks = |scenario: &Scenario| scenario.loads.len() * scenario.sides().len() * cast(&self.peers_of(scenario), scenario).len();
        self.scenarios.iter().map(blocks).sum::<usize>() * self.rounds as usize
    }

    /// Who runs a scenario: the peers, and behind them the floor.
    fn peers_of(&self, scenario: &Scenario) -> Vec<String> {
        let has_floor = self.floor && floor::is_under(scenario);
        let floors = floor::PEERS.into_iter().filter(|name| has_floor && !self.peers.iter().any(|peer| peer == name));
        self.peers.iter().cloned().chain(floors.map(str::to_owned)).collect()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Everything a run has shown.
pub struct Results {
    pub date: String,
    pub commit: String,
    pub command: String,
    /// The driver's; that of everything else, too, if nothing was elsewhere.
    pub host: Host,
    pub elsewhere: Vec<Elsewhere>,
    pub measured: Measured,
}

/// Who was measured, and what came of it.
pub struct Measured {
    pub versions: Vec<Version>,
    pub series: Vec<Series>,
    /// Whether the run was ended before all was measured.
    pub partial: bool,
    /// Why, where nobody has ended it.
    pub failure: Option<String>,
}

impl Measured {
    /// # Errors
    /// What has ended it before its time, if something has.
    pub fn check(&self) -> io::Result<()> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(io::Error::other(failure.clone())))
    }
}

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub peer: String,
    pub version: String,
    /// What it cannot be changed more often than, in words; nothing where it has no such limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<String>,
}

impl Version {
    /// What a page says of it.
    pub(crate) fn told(&self) -> String {
        match &self.limits {
            Some(limits) => format!("{} ({limits})", self.version),
            None => self.version.clone(),
        }
    }
}

/// All blocks of one scenario under one load.
pub struct Series {
    pub scenario: Scenario,
    pub load: Load,
    pub span: Span,
    pub peers: Vec<String>,
    pub blocks: Vec<Block>,
}

impl Series {
    /// Whether its times are those of somebody who waits. A closed loop of several connections leaves out whoever would have come while
    /// all of them were busy; with one connection and one request at a time there is nobody else, and its times are round trips.
    pub fn has_latency(&self) -> bool {
        match self.load {
            Load::Open { .. } => true,
            Load::Saturate => self.scenario.connections == 1,
            Load::Start | Load::Apply { .. } => false,
        }
    }

    /// What was measured, in a line.
    pub fn title(&self) -> String {
        let alone = format!("{}, {}", self.scenario.name, self.load);
        let beside: Vec<String> = self.scenario.beside.iter().map(ToString::to_string).collect();
        if beside.is_empty() { alone } else { format!("{alone}, beside {}", beside.join(" and ")) }
    }

    /// Two series where something went on beside the load in half of the blocks: those that were alone, and those that were not.
    fn parted(self) -> Vec<Self> {
        if self.scenario.beside.is_empty() {
            return vec![self];
        }
        let (with, without) = self.blocks.into_iter().partition(|block| !block.round.beside.is_empty());
        let alone = Scenario { beside: Vec::new(), ..self.scenario.clone() };
        vec![
            Self { scenario: alone, blocks: without, peers: self.peers.clone(), ..self },
            Self { scenario: self.scenario, blocks: with, ..self },
        ]
    }

    /// CPU time of the proxy for a unit of work, in microseconds: for a MB where requests are streams, which are long and of
    /// different lengths, else for a request.
    pub fn cost_us(&self, block: &Block) -> Option<f64> {
        if self.scenario.has_streams() { block.cpu_us_per_mb() } else { block.cpu_us() }
    }
}

/// One peer in one round.
pub struct Block {
    pub number: u32,
    pub place: u32,
    pub peer: String,
    pub round: Round,
    /// Share of the time of both CPUs that the hypervisor took.
    pub stolen: f64,
    pub marks: Vec<Mark>,
}

/// Why a block is not counted where enough others are clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// A response that was not the right one.
    Errors,
    /// Fewer requests were sent than were due.
    Unsent,
    /// The driver itself was late.
    Late,
    /// The hypervisor took time away.
    Stolen,
    /// Something else ran on the proxy's CPU.
    Contended,
    /// The driver stood still: the window lasted longer than planned.
    Stalled,
    /// What went on beside the load failed.
    Beside,
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Errors => "errors",
            Self::Unsent => "unsent",
            Self::Late => "late",
            Self::Stolen => "stolen",
            Self::Contended => "contended",
            Self::Stalled => "stalled",
            Self::Beside => "beside",
        })
    }
}

impl Mark {
    /// In the order in which they are explained.
    pub const ALL: [Self; 7] = [Self::Errors, Self::Unsent, Self::Late, Self::Stolen, Self::Contended, Self::Stalled, Self::Beside];

    /// When a block gets it, for readers who did not write the rules.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Errors => "an answer was not the right one",
            Self::Unsent => "less than 99.9 % of the due requests were sent",
            Self::Late => "the driver's own lateness at p99.9 exceeds 5 % of the latency at p99.9",
            Self::Stolen => "the hypervisor took more than 0.2 % of the time of both CPUs",
            Self::Contended => "the proxy was ready to run but waited for its CPU more than 1 % of the time",
            Self::Stalled => "the window lasted more than 1 % longer than planned: the driver itself stood still",
            Self::Beside => "a connection or a change beside the load failed",
        }
    }

    /// Whether a block with this mark says nothing at all, however few clean ones there are.
    pub fn is_fatal(self) -> bool {
        matches!(self, Self::Errors | Self::Unsent | Self::Stalled | Self::Beside)
    }
}

/// Runs every scenario under each of its loads; `tell` hears a line per block. When it is stopped, or fails on the way, what there is
/// comes back.
///
/// # Errors
/// Where nothing was measured at all: of the kernel, of a proxy that does not start or serve, of a scenario that cannot be driven.
pub fn run(settings: &Settings, driver: &mut Driver, tell: &mut dyn FnMut(&str)) -> io::Result<Measured> {
    let mut measured = each_scenario(settings, driver, |driver, plan, mut peers, series| {
        let mut loads = plan.scenario.loads.iter().take_while(|_| !settings.is_stopped());
        loads.try_for_each(|load| measure(settings, driver, plan, *load, &mut peers, series, tell))
    })?;
    let blocks = measured.series.iter().map(|series| series.blocks.len()).sum::<usize>();
    measured.partial &= blocks < settings.blocks();
    Ok(measured)
}

/// Has `work` measure each scenario on proxies that have just been started for it, and put its series behind those there are. The
/// first failure is the end: what was measured before is not lost.
pub(crate) fn each_scenario(
    settings: &Settings,
    driver: &mut Driver,
    mut work: impl FnMut(&mut Driver, &Plan<'_>, Vec<Peer>, &mut Vec<Series>) -> io::Result<()>,
) -> io::Result<Measured> {
    settings.scenarios.iter().try_for_each(|scenario| check(settings, driver, scenario))?;
    let mut measured = Measured { versions: Vec::new(), series: Vec::new(), partial: false, failure: None };
    let mut scenarios = settings.scenarios.iter().take_while(|_| !settings.is_stopped());
    let done = scenarios.try_for_each(|scenario| {
        let plan = Plan::new(scenario)?;
        let peers = able(settings, &plan, start_all(settings, driver, &plan)?)?;
        for peer in &peers {
            let version = Version { peer: peer.label.clone(), version: peer.version.clone(), limits: peer.limits() };
            if !measured.versions.contains(&version) {
                measured.versions.push(version);
            }
        }
        work(driver, &plan, peers, &mut measured.series)
    });
    match done {
        Err(error) if measured.series.is_empty() => return Err(error),
        done => measured.failure = done.err().map(|error| error.to_string()),
    }
    measured.partial = settings.is_stopped() || measured.failure.is_some();
    Ok(measured)
}

/// Those of the peers that take the changes of a scenario.
fn able(settings: &Settings, plan: &Plan<'_>, mut peers: Vec<Peer>) -> io::Result<Vec<Peer>> {
    let scenario = plan.scenario;
    let beside = scenario.beside.iter().filter_map(|beside| Some(beside.change()?.0));
    let alone = scenario.loads.iter().filter_map(|load| load.change());
    let changes: Vec<Kind> = beside.chain(alone).collect();
    peers.retain(|peer| changes.iter().all(|kind| peer.takes(*kind)));
    if peers.is_empty() {
        let (name, all) = (&scenario.name, settings.peers.join(", "));
        return Err(io::Error::other(format!("{name}: none of {all} takes its changes: say how under [change] in a peer.toml")));
    }
    Ok(peers)
}

/// One proxy of a scenario.
struct Part<'a> {
    name: &'a str,
    label: String,
    /// Hosts it routes besides its usual ones.
    hosts: Vec<String>,
}

/// Who takes part. Where requests are spread over many hosts, the subject is there once more with one wildcard in their place: it is
/// asked the same in the same rounds, so that the ratio to it is what the number of routes costs.
fn cast<'a>(names: &'a [String], scenario: &Scenario) -> Vec<Part<'a>> {
    let hosts = scenario.routes.map(hosts::names).unwrap_or_default();
    let part = |(name, label): (&'a String, String)| Part { name, label, hosts: hosts.clone() };
    let mut parts: Vec<Part<'_>> = names.iter().zip(labels(names)).map(part).collect();
    if let Some(subject) = names.first().filter(|_| scenario.routes.is_some() && scenario.loads.iter().any(|load| load.is_of_requests())) {
        parts.push(Part { name: subject, label: format!("{subject}-wildcard"), hosts: vec![hosts::wildcard()] });
    }
    parts
}

/// Names of the instances: the second of a name is the control.
fn labels(names: &[String]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for name in names {
        let before = names[..labels.len()].iter().filter(|earlier| *earlier == name).count();
        labels.push(match before {
            0 => name.clone(),
            1 => format!("{name}-again"),
            more => format!("{name}-again-{more}"),
        });
    }
    labels
}

/// Whether a label is that of an instance which is there once more.
pub(crate) fn is_control(label: &str) -> bool {
    label.contains("-again")
}

/// Whether a scenario can be driven from here, before anything is.
fn check(settings: &Settings, driver: &Driver, scenario: &Scenario) -> io::Result<()> {
    let (wanted, name) = (scenario.endpoints, &scenario.name);
    if driver.addresses().len() < wanted as usize {
        return Err(io::Error::other(format!(
            "{name} wants {wanted} endpoints: give the upstream as many addresses with --upstream-address"
        )));
    }
    if matches!(settings.place, Place::There(_)) && scenario.changes_proxies() {
        return Err(io::Error::other(format!("{name} changes the proxies, which is done on this host only: leave out --proxy-agent")));
    }
    Ok(())
}

fn start_all(settings: &Settings, driver: &mut Driver, plan: &Plan<'_>) -> io::Result<Vec<Peer>> {
    let scenario = plan.scenario;
    let addresses = driver.addresses().to_vec();
    let scratch = settings.scratch.join(&scenario.name);
    let mut peers = Vec::new();
    let names = settings.peers_of(scenario);
    for Part { name, label, hosts } in cast(&names, scenario) {
        let ground = Ground {
            templates: &settings.templates,
            scratch: &scratch,
            identity: &plan.identity,
            place: &settings.place,
            upstream: &addresses[..scenario.endpoints as usize],
            addresses: &addresses,
            hosts: &hosts,
            proxy_cpu: settings.proxy_cpu,
            driver_cpu: settings.driver_cpu,
        };
        let mut peer = Peer::start(name, &label, &ground)?;
        let target = plan.target(peer.http, peer.https);
        await_service(driver, &mut peer, &target)?;
        peers.push(peer);
    }
    Ok(peers)
}

/// Asks until the first right answer.
fn await_service(driver: &mut Driver, peer: &mut Peer, target: &Target) -> io::Result<()> {
    for _ in 0..SERVE_NS_MAX / PROBE_NS {
        peer.watch()?;
        if driver.probe(target, PROBE_NS)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_nanos(PROBE_NS));
    }
    Err(io::Error::other(format!("{} does not serve; see {}", peer.label, peer.log())))
}

/// Runs all rounds of one load on these peers, each of which is [`start_all`]'s, and puts the series behind those there are. A peer
/// that fails has a block without an answer.
///
/// # Errors
/// Where all peers of a round have failed, that of the last one; the series is then there if anything was measured before.
pub(crate) fn measure(
    settings: &Settings,
    driver: &mut Driver,
    plan: &Plan<'_>,
    load: Load,
    peers: &mut [Peer],
    series: &mut Vec<Series>,
    tell: &mut dyn FnMut(&str),
) -> io::Result<()> {
    let scenario = plan.scenario;
    let mut random = Rng::with_seed(settings.seed);
    let mut blocks = Vec::new();
    let mut end = Ok(());
    for number in (0..settings.rounds).take_while(|_| !settings.is_stopped()) {
        let turns = turns(peers.len(), scenario, &mut random);
        let arrivals_seed = random.u64(..);
        let (first, mut failures) = (blocks.len(), Vec::new());
        for (place, (peer, side)) in turns.into_iter().enumerate().take_while(|_| !settings.is_stopped()) {
            let peer = &mut peers[peer];
            let (round, stolen, failure) = match play(settings, driver, plan, load, peer, side, arrivals_seed) {
                Ok((round, stolen)) => (round, stolen, None),
                Err(error) => {
                    driver.abandon();
                    (unanswered(scenario, side), 0.0, Some(error))
                }
            };
            // What happens to a proxy takes as long as it takes.
            let planned = if load.is_of_requests() { settings.span } else { Span { warm_up_ns: 0, window_ns: round.window_ns } };
            let marks = marks(&round, planned, stolen);
            let block = Block { number, place: place as u32, peer: peer.label.clone(), round, stolen, marks };
            let line = match &failure {
                Some(error) => format!("{:<16} has failed: {error}", block.peer),
                None if load.is_of_requests() => block.line(),
                None => effect_table::line(&block),
            };
            tell(&format!("{} {load}, round {}: {line}", scenario.name, number + 1));
            blocks.push(block);
            failures.extend(failure);
        }
        if failures.len() == blocks.len() - first
            && let Some(last) = failures.pop()
        {
            end = Err(last);
            break;
        }
    }
    if end.is_ok() || blocks.iter().any(|block| block.round.window_ns > 0) {
        let peers = peers.iter().map(|peer| peer.label.clone()).collect();
        series.extend(Series { scenario: scenario.clone(), load, span: settings.span, peers, blocks }.parted());
    }
    end
}

/// The order of one round: every peer, and each side of it, at random.
fn turns(peers: usize, scenario: &Scenario, random: &mut Rng) -> Vec<(usize, Side)> {
    let mut order: Vec<usize> = (0..peers).collect();
    random.shuffle(&mut order);
    let mut turns = Vec::new();
    for peer in order {
        let mut sides = scenario.sides().to_vec();
        random.shuffle(&mut sides);
        turns.extend(sides.into_iter().map(|side| (peer, side)));
    }
    turns
}

/// One peer's part of a round, and the share of the time of both CPUs that hypervisors took meanwhile.
fn play(
    settings: &Settings,
    driver: &mut Driver,
    plan: &Plan<'_>,
    load: Load,
    peer: &mut Peer,
    side: Side,
    seed: u64,
) -> io::Result<(Round, f64)> {
    let target = plan.target(peer.http, peer.https);
    driver.expect_members(peer.members());
    let before = stolen(settings, peer)?;
    let round = match load {
        Load::Start => effect::start(driver, peer, target, &plan.hosts)?,
        Load::Apply { changes } => effect::apply(driver, peer, target, changes, seed)?,
        Load::Saturate | Load::Open { .. } => {
            let mut watch = peer.watch()?;
            match side {
                Side::Without => driver.round(target, load, settings.span, seed, Some(&mut watch))?,
                Side::With => {
                    let beside = &plan.scenario.beside;
                    let company = Company::new(beside, &plan.door(peer.http, peer.https));
                    beside::during(beside, peer, company, |company| {
                        driver.accompany(company);
                        driver.round(target, load, settings.span, seed, Some(&mut watch))
                    })?
                }
            }
        }
    };
    let after = stolen(settings, peer)?;
    Ok((round, (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64))
}

/// What there is of a round that has failed: nothing, on its side.
fn unanswered(scenario: &Scenario, side: Side) -> Round {
    let beside = match side {
        Side::Without => Vec::new(),
        Side::With => vec![Deeds::default(); scenario.beside.len()],
    };
    Round { beside, ..Round::default() }
}

/// What hypervisors took of the time of the driver's CPU and the proxy's, and all of that time, in ticks.
fn stolen(settings: &Settings, peer: &Peer) -> io::Result<(u64, u64)> {
    let (driver, proxy) = (cpu::stolen(&[settings.driver_cpu])?, peer.running.stolen()?);
    Ok((driver.0 + proxy.0, driver.1 + proxy.1))
}

fn marks(round: &Round, span: Span, stolen: f64) -> Vec<Mark> {
    let tally = &round.tally;
    let late = tally::quantile_us(&tally.lateness, 0.999) > LATE_SHARE_MAX * tally::quantile_us(&tally.latency, 0.999);
    let wait_ns = round.usage.map_or(0, |usage| usage.wait_ns);
    let rules = [
        (tally.errors.total() > 0 || (tally.completed == 0 && tally.unfinished == 0), Mark::Errors),
        ((tally.sent as f64) < SENT_SHARE_MIN * tally.planned as f64, Mark::Unsent),
        (tally.planned > 0 && late, Mark::Late),
        (stolen > STOLEN_SHARE_MAX, Mark::Stolen),
        (wait_ns as f64 > CONTENDED_SHARE_MAX * round.window_ns as f64, Mark::Contended),
        (round.window_ns as f64 > (1.0 + STALL_SHARE_MAX) * span.window_ns as f64, Mark::Stalled),
        (round.beside.iter().any(|deeds| deeds.failed > 0), Mark::Beside),
    ];
    rules.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect()
}

impl Block {
    /// Whether it says nothing at all.
    pub fn is_void(&self) -> bool {
        self.marks.iter().any(|mark| mark.is_fatal())
    }

    pub fn requests_per_s(&self) -> f64 {
        self.round.tally.completed as f64 * 1e9 / self.round.window_ns.max(1) as f64
    }

    /// CPU time of the proxy per answered request, in microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        let usage = self.round.usage?;
        (self.round.tally.completed > 0).then(|| usage.cpu_ns as f64 / 1000.0 / self.round.tally.completed as f64)
    }

    /// Memory of the proxy at the end of the window.
    pub fn memory_mb(&self) -> Option<f64> {
        self.round.usage.map(|usage| usage.memory_bytes as f64 / f64::from(1 << 20))
    }

    /// The most memory of the proxy within the window.
    pub fn peak_mb(&self) -> Option<f64> {
        self.round.usage.map(|usage| usage.peak_bytes as f64 / f64::from(1 << 20))
    }

    /// Bytes of bodies, either way, in millions per second.
    pub fn mb_per_s(&self) -> f64 {
        self.round.tally.body_bytes as f64 * 1e3 / self.round.window_ns.max(1) as f64
    }

    /// CPU time of the proxy per million bytes of bodies, in microseconds.
    pub fn cpu_us_per_mb(&self) -> Option<f64> {
        let (usage, bytes) = (self.round.usage?, self.round.tally.body_bytes);
        (bytes > 0).then(|| usage.cpu_ns as f64 * 1e3 / bytes as f64)
    }

    /// The block in a line, for whoever watches.
    pub fn line(&self) -> String {
        let tally = &self.round.tally;
        let quantile = |quantile| tally::quantile_us(&tally.latency, quantile);
        format!(
            "{:<16} {:>8.0}/s {:>5.0} MB/s {:>6.2} CPU us, p50 {:>6.0} p99 {:>6.0} us, lateness p99.9 {:>4.0} us, driver {:>3.0} % busy, errors {} {}",
            self.peer,
            self.requests_per_s(),
            self.mb_per_s(),
            self.cpu_us().unwrap_or(0.0),
            quantile(0.5),
            quantile(0.99),
            tally::quantile_us(&tally.lateness, 0.999),
            self.round.driver_busy * 100.0,
            tally.errors.total(),
            self.marks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        )
    }
}

/// Reads scenarios by name, or all of a directory in the order of their names.
///
/// # Errors
/// With the file that is missing or wrong.
pub fn scenarios(directory: &Path, names: &[String]) -> io::Result<Vec<Scenario>> {
    let mut names = names.to_vec();
    if names.is_empty() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
            }
        }
        names.sort();
    }
    names.iter().map(|name| Scenario::read(directory, name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Usage;
    use crate::tally::Tally;

    fn round() -> Round {
        let mut tally = Tally { planned: 1000, sent: 1000, completed: 1000, ..Tally::default() };
        for _ in 0..1000 {
            tally::record(&mut tally.latency, 1_000_000);
            tally::record(&mut tally.lateness, 10_000);
        }
        let usage = Usage { cpu_ns: 20_000_000, wait_ns: 0, memory_bytes: 0, peak_bytes: 0 };
        Round { tally, usage: Some(usage), window_ns: 1_000_000_000, driver_busy: 0.5, ..Round::default() }
    }

    fn scenario(line: &str) -> Scenario {
        let text = format!("name = 'x'\nwork = 'w'\nconnections = 1\nbody_bytes = 1\nloads = [{{ mode = 'saturate' }}]\n{line}");
        toml::from_str(&text).unwrap()
    }

    /// The floor runs behind the peers, once, and only where a relay does a proxy's work.
    #[test]
    fn a_floor_runs_where_there_is_one() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let mut settings = Settings {
            place: Place::default(),
            peers: names(&["ours", "floor-ring", "ours"]),
            floor: true,
            scenarios: ["", "tls = true", "close = true", "read_bytes_per_s = 1000", "[[beside]]\nkind = 'idle'\nconnections = 1"]
                .map(scenario)
                .to_vec(),
            rounds: 2,
            span: SPAN,
            seed: 1,
            templates: PathBuf::new(),
            scratch: PathBuf::new(),
            driver_cpu: 0,
            proxy_cpu: 0,
            stop: Arc::default(),
        };
        let with_floor = names(&["ours", "floor-ring", "ours", "floor-epoll", "floor-multishot"]);
        assert_eq!(settings.peers_of(&settings.scenarios[0]), with_floor);
        assert!(settings.scenarios[1..].iter().all(|scenario| settings.peers_of(scenario) == settings.peers));
        // What goes on beside the load makes two sides.
        assert_eq!(settings.blocks(), 2 * (5 + 3 + 3 + 3 + 2 * 3));
        settings.floor = false;
        assert_eq!(settings.blocks(), 2 * (3 + 3 + 3 + 3 + 2 * 3));
    }

    const SPAN: Span = Span { warm_up_ns: 0, window_ns: 1_000_000_000 };

    /// A round in which all went well has no mark.
    #[test]
    fn a_good_round_has_no_mark() {
        assert_eq!(marks(&round(), SPAN, 0.001), []);
    }

    /// Each way to be disturbed leaves its own mark.
    #[test]
    fn a_disturbed_round_is_marked() {
        let mut errors = round();
        errors.tally.errors.status = 1;
        assert_eq!(marks(&errors, SPAN, 0.0), [Mark::Errors]);
        let mut unsent = round();
        unsent.tally.sent = 998;
        assert_eq!(marks(&unsent, SPAN, 0.0), [Mark::Unsent]);
        let mut late = round();
        tally::record(&mut late.tally.lateness, 60_000);
        tally::record(&mut late.tally.lateness, 60_000);
        assert_eq!(marks(&late, SPAN, 0.0), [Mark::Late]);
        assert_eq!(marks(&round(), SPAN, 0.003), [Mark::Stolen]);
        let mut contended = round();
        contended.usage = Some(Usage { wait_ns: 11_000_000, ..Usage::default() });
        assert_eq!(marks(&contended, SPAN, 0.0), [Mark::Contended]);
        let mut stalled = round();
        stalled.window_ns += 20_000_000;
        assert_eq!(marks(&stalled, SPAN, 0.0), [Mark::Stalled]);
    }

    /// A failure beside the load marks the block, for what was to go on beside it did not.
    #[test]
    fn a_failure_beside_the_load_is_marked() {
        let mut round = round();
        round.beside.push(Deeds { failed: 1, ..Deeds::default() });
        assert_eq!(marks(&round, SPAN, 0.0), [Mark::Beside]);
    }

    /// A series is told apart from the one that was alone by what went on beside it, and each block is in one of the two.
    #[test]
    fn a_series_has_two_sides() {
        let results = crate::sample::accompanied();
        let mut series = results.measured.series;
        let titles: Vec<String> = series.iter().map(Series::title).collect();
        let mut both = series.pop().unwrap();
        both.blocks.append(&mut series.pop().unwrap().blocks);
        let parts = both.parted();
        assert_eq!(parts.iter().map(Series::title).collect::<Vec<_>>(), titles);
        for (part, with) in parts.iter().zip([false, true]) {
            assert!(part.blocks.iter().all(|block| block.round.beside.is_empty() != with));
            assert_eq!(part.blocks.len(), parts[0].blocks.len());
        }
    }

    /// A peer named twice is its own control.
    #[test]
    fn a_second_instance_has_its_own_label() {
        let names = ["corelane", "nginx", "corelane", "corelane"].map(str::to_owned);
        assert_eq!(labels(&names), ["corelane", "nginx", "corelane-again", "corelane-again-2"]);
    }

    /// Where a scenario has routes, the subject takes part once more, with one wildcard in place of all hosts.
    #[test]
    fn many_routes_are_held_against_one() {
        let mut scenario = crate::sample::results().measured.series.remove(0).scenario;
        let names = ["corelane", "nginx"].map(str::to_owned);
        let told = |scenario: &Scenario| -> Vec<(String, usize)> {
            cast(&names, scenario).into_iter().map(|part| (part.label, part.hosts.len())).collect()
        };
        assert_eq!(told(&scenario), [("corelane".to_owned(), 0), ("nginx".to_owned(), 0)]);
        scenario.routes = Some(500);
        assert_eq!(told(&scenario), [("corelane".to_owned(), 500), ("nginx".to_owned(), 500), ("corelane-wildcard".to_owned(), 1)]);
    }

    /// CPU time is divided by the answers of the same window.
    #[test]
    fn cpu_time_is_told_per_answer() {
        let block = Block { number: 0, place: 0, peer: "nginx".to_owned(), round: round(), stolen: 0.0, marks: Vec::new() };
        assert_eq!(block.cpu_us(), Some(20.0));
        assert!((block.requests_per_s() - 1000.0).abs() < 1e-9);
    }
}
