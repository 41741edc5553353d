//! A ladder of rates up to what each proxy can carry, and the knee where its tail begins to rise.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use crate::compare;
use crate::compare::Block;
use crate::compare::Mark;
use crate::compare::Measured;
use crate::compare::Series;
use crate::compare::Settings;
use crate::driver::Driver;
use crate::peers::Peer;
use crate::plan::Plan;
use crate::rounds;
use crate::scenario::Load;
use crate::schedule::Arrivals;
use crate::statistics;

/// Each rung of the ladder asks for so much more than the one before.
const STEP: f64 = 1.25;
/// Rungs after which a ladder ends in any case: a thousandfold of where it began, and then some.
const RUNGS_MAX: u32 = 40;
/// Open loads of one scenario from which on they are read as a ladder.
const RUNGS_MIN: usize = 4;
/// A proxy that answers a smaller share of what is due in time is beyond its limit.
const ACHIEVED_MIN: f64 = 0.99;
/// The load whose tail is the measure of the knee, as a share of the highest that was carried.
const EASY_SHARE: f64 = 0.3;
/// The knee is the last rate whose p99.9 is at most so many times that under easy load.
const KNEE_FACTOR: f64 = 3.0;
/// Requests beyond a percentile below which a point does not state it: fewer than a table asks for, since neighbours confirm a point.
const BEYOND_MIN: f64 = 10.0;

/// How the ladder is climbed.
#[derive(Clone, Copy, Debug)]
pub struct Climb {
    pub from_per_s: f64,
    pub arrivals: Arrivals,
    /// A proxy whose p99.9 is above this climbs no further.
    pub slo_us: Option<f64>,
    /// Times the span around each proxy's knee is halved.
    pub bisections: u32,
}

/// All rates of one scenario.
#[derive(Debug, Serialize)]
pub struct Ladder {
    pub scenario: String,
    pub work: String,
    pub curves: Vec<Curve>,
}

/// One peer's way up.
#[derive(Debug, Serialize)]
pub struct Curve {
    pub peer: String,
    /// In order of the rate.
    pub points: Vec<Point>,
    /// The highest rate that was carried, with all lower ones.
    pub carried_per_s: Option<f64>,
    pub knee: Option<Knee>,
}

/// One peer at one rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    pub offered_per_s: f64,
    pub answered_per_s: f64,
    /// Share of the due requests that were answered within the window.
    pub achieved: f64,
    pub cpu_us: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    pub driver_busy: f64,
    pub errors: u64,
}

/// Where the tail begins to rise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Knee {
    pub rate_per_s: f64,
    pub p999_us: f64,
    /// p99.9 under easy load.
    pub easy_us: f64,
    /// The next higher rate that was tried, if any.
    pub beyond_per_s: Option<f64>,
}

impl Point {
    fn is_carried(&self) -> bool {
        self.achieved >= ACHIEVED_MIN && self.errors == 0
    }
}

/// Climbs with every scenario; `tell` hears a line per block.
///
/// # Errors
/// As [`compare::run`].
pub fn run(settings: &Settings, climb: Climb, driver: &mut Driver, tell: &mut dyn FnMut(&str)) -> io::Result<Measured> {
    if let Some(scenario) = settings.scenarios.iter().find(|scenario| !scenario.beside.is_empty()) {
        return Err(io::Error::other(format!("{}: a sweep climbs alone; compare measures what goes on beside a load", scenario.name)));
    }
    compare::each_scenario(settings, driver, |driver, plan, peers, series| {
        let mut sweep = Sweep { settings, climb, plan, driver, peers, series: Vec::new() };
        let end = sweep.climb(tell);
        sweep.series.sort_by(|one, other| rate(one).total_cmp(&rate(other)));
        series.append(&mut sweep.series);
        end
    })
}

struct Sweep<'a> {
    settings: &'a Settings,
    climb: Climb,
    plan: &'a Plan<'a>,
    driver: &'a mut Driver,
    peers: Vec<Peer>,
    series: Vec<Series>,
}

impl Sweep<'_> {
    fn climb(&mut self, tell: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.ascend(tell)?;
        let mut bisections = (0..self.climb.bisections).take_while(|_| !self.settings.is_stopped());
        bisections.try_for_each(|_| self.bisect(tell))
    }

    /// Up the ladder; a peer that does not carry a rate is not asked for more.
    fn ascend(&mut self, tell: &mut dyn FnMut(&str)) -> io::Result<()> {
        let mut climbing: Vec<String> = self.peers.iter().map(|peer| peer.label.clone()).collect();
        for rung in 0..RUNGS_MAX {
            let rate_per_s = (self.climb.from_per_s * STEP.powi(rung as i32)).round();
            self.measure(rate_per_s, &climbing, tell)?;
            let Some(last) = self.series.last() else { return Ok(()) };
            climbing.retain(|peer| {
                let point = point(last, rate_per_s, peer);
                let is_within = |slo_us: f64| point.p999_us.is_none_or(|p999_us| p999_us <= slo_us);
                point.is_carried() && self.climb.slo_us.is_none_or(is_within)
            });
            if climbing.is_empty() || self.settings.is_stopped() {
                break;
            }
        }
        Ok(())
    }

    /// Tries the middle between each peer's knee and what lies beyond it; peers with the same middle run beside each other.
    fn bisect(&mut self, tell: &mut dyn FnMut(&str)) -> io::Result<()> {
        let mut middles: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let labels: Vec<String> = self.peers.iter().map(|peer| peer.label.clone()).collect();
        for label in labels {
            let curve = curve(self.series.iter(), &label);
            if let Some(Knee { rate_per_s, beyond_per_s: Some(beyond_per_s), .. }) = curve.knee {
                let middle = (rate_per_s * beyond_per_s).sqrt().round();
                if middle > rate_per_s && middle < beyond_per_s {
                    middles.entry(middle as u64).or_default().push(label);
                }
            }
        }
        for (rate_per_s, labels) in middles {
            self.measure(rate_per_s as f64, &labels, tell)?;
        }
        Ok(())
    }

    fn measure(&mut self, rate_per_s: f64, labels: &[String], tell: &mut dyn FnMut(&str)) -> io::Result<()> {
        // Whoever takes part stands in front, otherwise in the order of old.
        let order = &self.settings.peers;
        self.peers.sort_by_key(|peer| (!labels.contains(&peer.label), order.iter().position(|name| peer.label.starts_with(name.as_str()))));
        let load = Load::Open { rate_per_s, arrivals: self.climb.arrivals };
        let peers = &mut self.peers[..labels.len()];
        compare::measure(self.settings, self.driver, self.plan, load, peers, &mut self.series, tell)
    }
}

/// Scenarios with so many open loads that they are a ladder, and all other series.
pub fn split(measured: &Measured) -> (Vec<Ladder>, Vec<&Series>) {
    let is_rung = |series: &&Series| {
        rate(series) > 0.0 && series.scenario.beside.is_empty() && open_loads(measured, &series.scenario.name).count() >= RUNGS_MIN
    };
    let (rungs, others): (Vec<&Series>, Vec<&Series>) = measured.series.iter().partition(is_rung);
    let mut ladders: Vec<Ladder> = Vec::new();
    for series in rungs {
        let name = &series.scenario.name;
        if !ladders.iter().any(|ladder| ladder.scenario == *name) {
            let all = measured.versions.iter().map(|version| curve(open_loads(measured, name), &version.peer));
            let curves = all.filter(|curve| !curve.points.is_empty());
            ladders.push(Ladder { scenario: name.clone(), work: series.scenario.work.clone(), curves: curves.collect() });
        }
    }
    (ladders, others)
}

fn open_loads<'a>(measured: &'a Measured, name: &'a str) -> impl Iterator<Item = &'a Series> {
    measured.series.iter().filter(move |series| series.scenario.name == name && series.scenario.beside.is_empty() && rate(series) > 0.0)
}

/// Requests per second of an open load; none in a closed loop.
fn rate(series: &Series) -> f64 {
    match series.load {
        Load::Open { rate_per_s, .. } => rate_per_s,
        _ => 0.0,
    }
}

fn curve<'a>(series: impl Iterator<Item = &'a Series>, peer: &str) -> Curve {
    let mut points: Vec<Point> = series
        .filter(|series| series.blocks.iter().any(|block| block.peer == peer))
        .map(|series| point(series, rate(series), peer))
        .collect();
    points.sort_by(|one, other| one.offered_per_s.total_cmp(&other.offered_per_s));
    let carried_per_s = points.iter().take_while(|point| point.is_carried()).last().map(|point| point.offered_per_s);
    let knee = carried_per_s.and_then(|carried_per_s| knee(&points, carried_per_s));
    Curve { peer: peer.to_owned(), points, carried_per_s, knee }
}

/// What a peer's blocks say together; an error in any of them counts.
fn point(series: &Series, offered_per_s: f64, peer: &str) -> Point {
    let all: Vec<&Block> = series.blocks.iter().filter(|block| block.peer == peer).collect();
    let blocks = trusted(&all);
    let sum = |count: fn(&Block) -> u64| blocks.iter().map(|block| count(block)).sum::<u64>();
    let pooled = rounds::pooled(&blocks, |tally| &tally.latency);
    let quantile = |quantile| statistics::quantile_us_if(&pooled, quantile, BEYOND_MIN);
    let (completed, planned) = (sum(|block| block.round.tally.completed), sum(|block| block.round.tally.planned));
    Point {
        offered_per_s,
        answered_per_s: completed as f64 * 1e9 / sum(|block| block.round.window_ns).max(1) as f64,
        achieved: completed as f64 / planned.max(1) as f64,
        cpu_us: rounds::middle(&blocks, Block::cpu_us),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        driver_busy: blocks.iter().map(|block| block.round.driver_busy).sum::<f64>() / blocks.len().max(1) as f64,
        errors: all.iter().map(|block| block.round.tally.errors.total()).sum(),
    }
}

/// The clean blocks where at least half are clean; else those in which the driver did not stand still; else all.
fn trusted<'a>(all: &[&'a Block]) -> Vec<&'a Block> {
    let clean: Vec<&Block> = all.iter().copied().filter(|block| block.marks.is_empty()).collect();
    let steady: Vec<&Block> = all.iter().copied().filter(|block| !block.marks.contains(&Mark::Stalled)).collect();
    match (clean.len() * 2 >= all.len(), steady.is_empty()) {
        (true, _) => clean,
        (false, false) => steady,
        (false, true) => all.to_vec(),
    }
}

/// The last rate, from easy load upwards without a gap, whose tail is not much longer than under easy load.
fn knee(points: &[Point], carried_per_s: f64) -> Option<Knee> {
    let distance = |point: &Point| (point.offered_per_s / (EASY_SHARE * carried_per_s)).ln().abs();
    let easy = points.iter().filter(|point| point.p999_us.is_some()).min_by(|one, other| distance(one).total_cmp(&distance(other)))?;
    let easy_us = easy.p999_us?;
    // A point without a percentile says nothing for or against its rate, unless it is beyond the limit.
    let tells = |point: &&Point| point.p999_us.is_some() || !point.is_carried();
    let upwards = || points.iter().filter(|point| point.offered_per_s >= easy.offered_per_s).filter(tells);
    let is_short = |point: &&Point| point.is_carried() && point.p999_us.is_some_and(|p999_us| p999_us <= KNEE_FACTOR * easy_us);
    let last = upwards().take_while(is_short).last()?;
    let beyond_per_s = upwards().find(|point| point.offered_per_s > last.offered_per_s).map(|point| point.offered_per_s);
    Some(Knee { rate_per_s: last.offered_per_s, p999_us: last.p999_us?, easy_us, beyond_per_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn point(offered_per_s: f64, p999_us: f64, achieved: f64) -> Point {
        Point {
            offered_per_s,
            answered_per_s: offered_per_s * achieved,
            achieved,
            cpu_us: None,
            p50_us: None,
            p99_us: None,
            p999_us: Some(p999_us),
            driver_busy: 0.5,
            errors: 0,
        }
    }

    /// The knee is the last rate with a short tail, whatever comes after the first long one, and never beyond what is carried.
    #[test]
    fn a_knee_is_where_the_tail_begins_to_rise() {
        let table = [
            // Too long at 600, and a lucky 700 does not count.
            (
                vec![(200.0, 90.0), (300.0, 100.0), (500.0, 300.0), (600.0, 301.0), (700.0, 100.0), (1000.0, 900.0)],
                Some((500.0, Some(600.0))),
            ),
            (vec![(300.0, 100.0), (1000.0, 120.0)], Some((1000.0, None))),
            // Below easy load nothing is measured by.
            (vec![(10.0, 9000.0), (300.0, 100.0), (1000.0, 301.0)], Some((300.0, Some(1000.0)))),
            (vec![], None),
        ];
        for (points, wanted) in table {
            let points: Vec<Point> = points.into_iter().map(|(rate, p999_us)| point(rate, p999_us, 1.0)).collect();
            let found = knee(&points, 1000.0).map(|knee| (knee.rate_per_s, knee.beyond_per_s));
            assert_eq!(found, wanted, "{points:?}");
        }
        let silent = [point(300.0, 100.0, 1.0), Point { p999_us: None, ..point(600.0, 0.0, 1.0) }, point(1000.0, 110.0, 1.0)];
        assert_eq!(knee(&silent, 1000.0).map(|knee| knee.rate_per_s), Some(1000.0));
        let beyond_the_limit = [point(300.0, 100.0, 1.0), point(1000.0, 110.0, 1.0), point(1250.0, 120.0, 0.98)];
        assert_eq!(knee(&beyond_the_limit, 1000.0).map(|knee| (knee.rate_per_s, knee.beyond_per_s)), Some((1000.0, Some(1250.0))));
    }

    /// Many open loads of a scenario are one ladder with a curve for each peer; few of them stay what they are.
    #[test]
    fn many_rates_are_a_ladder() {
        let (ladders, others) = (sample::results().measured, sample::ladder().measured);
        let (none, all) = split(&ladders);
        assert_eq!((none.len(), all.len()), (0, ladders.series.len()));
        let (ladders, rest) = split(&others);
        assert_eq!((ladders.len(), rest.len()), (1, 0));
        let curves = &ladders[0].curves;
        assert_eq!(curves.iter().map(|curve| curve.peer.as_str()).collect::<Vec<_>>(), ["ours", "theirs", "<odd> & \"peer\""]);
        for curve in curves {
            assert_eq!(curve.points.len(), others.series.len());
            assert!(curve.points.is_sorted_by(|one, other| one.offered_per_s < other.offered_per_s));
            assert!(curve.carried_per_s.is_some() && curve.knee.is_some());
        }
    }

    /// A disturbed block is left out beside clean ones, and counts where there is nothing else; its errors always count.
    #[test]
    fn a_disturbed_block_is_left_out_of_a_point() {
        let mut results = sample::ladder();
        let series = &mut results.measured.series[0];
        let clean = super::point(series, 1000.0, "ours");
        let disturb = |block: &mut Block| {
            block.marks = vec![Mark::Late];
            block.round.tally.latency.saturating_record_n(50_000_000, 1000);
        };
        disturb(&mut series.blocks[0]);
        assert_eq!(super::point(series, 1000.0, "ours"), clean);
        series.blocks[0].round.tally.errors.status = 1;
        assert_eq!(super::point(series, 1000.0, "ours").errors, 1);
        series.blocks.iter_mut().skip(1).filter(|block| block.peer == "ours").for_each(disturb);
        assert_ne!(super::point(series, 1000.0, "ours").p999_us, clean.p999_us);
    }

    /// Errors are a limit, even where enough was answered.
    #[test]
    fn a_rate_with_errors_is_not_carried() {
        let wrong = Point { errors: 1, ..point(10.0, 1.0, 1.0) };
        assert!(!wrong.is_carried() && point(10.0, 1.0, 0.995).is_carried() && !point(10.0, 1.0, 0.98).is_carried());
    }
}
