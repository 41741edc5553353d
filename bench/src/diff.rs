//! Two runs held against each other: what a change has done to the subject, told apart from what the host has done to everyone.
//!
//! Hosts differ, and one host differs from hour to hour. So the subject is first held against a peer that both runs measured, in
//! the same rounds, and only then the two runs against each other; figures without that peer stand beside, for what they are.

use std::fmt::Write;

use fastrand::Rng;
use hdrhistogram::Histogram;

use crate::compare;
use crate::compare::Block;
use crate::compare::Results;
use crate::compare::Series;
use crate::effect_table;
use crate::floor;
use crate::rounds;
use crate::statistics;
use crate::statistics::Ratio;
use crate::statistics::Sums;

/// Whom a subject is held against, where nobody says and both runs have it.
const REFERENCE: &str = "nginx";

/// What to hold against what.
pub struct Question<'a> {
    pub before: &'a Results,
    pub after: &'a Results,
    /// A peer of both runs, neither the subject nor a floor; one is chosen, where none is named.
    pub reference: Option<&'a str>,
    /// The subject has got worse where the interval excludes 1 and the change is this large, in percent.
    pub fail_over_percent: f64,
}

/// What came out.
#[derive(Debug)]
pub struct Answer {
    /// As Markdown.
    pub page: String,
    /// What has got worse, in words.
    pub worse: Vec<String>,
}

/// One figure of one peer in both runs; changes are after over before.
struct Change {
    metric: &'static str,
    before: f64,
    after: f64,
    /// Of the ratio to the reference.
    relative: Option<Ratio>,
    absolute: Option<Ratio>,
}

/// Holds one run against another.
///
/// # Errors
/// In words: where the runs have nothing in common, or not the peer that was named.
pub fn answer(question: &Question<'_>) -> Result<Answer, String> {
    let Question { before, after, .. } = question;
    let subject = after.measured.versions.first().map(|version| version.peer.as_str()).ok_or("the second run measured nobody")?;
    if !before.measured.versions.iter().any(|version| version.peer == subject) {
        return Err(format!("{subject}, the subject of the second run, is not in the first one"));
    }
    let reference = reference(question, subject)?;
    let pairs: Vec<(&Series, &Series)> = after
        .measured
        .series
        .iter()
        .filter_map(|series| Some((before.measured.series.iter().find(|earlier| is_same_work(earlier, series))?, series)))
        .collect();
    if pairs.is_empty() {
        return Err("the runs have no scenario under the same load in common".to_owned());
    }
    let mut page = head(question, subject, reference);
    let mut worse = Vec::new();
    for (earlier, later) in pairs {
        let _infallible = write!(page, "\n## {}\n\n{}", later.title(), table_head(reference));
        for peer in later.peers.iter().filter(|peer| earlier.peers.contains(peer)) {
            for change in changes(earlier, later, peer, reference.filter(|reference| reference != peer)) {
                let is_worse = peer == subject && change.is_worse(question.fail_over_percent);
                let _infallible = writeln!(page, "{}", change.line(peer, reference.is_some(), is_worse));
                if is_worse {
                    worse.push(format!("{}: {}", later.title(), change.metric));
                }
            }
        }
    }
    page.push_str(&only_once(question));
    Ok(Answer { page, worse })
}

/// The same requests, whatever words describe them, under the same load.
fn is_same_work(one: &Series, other: &Series) -> bool {
    one.scenario.name == other.scenario.name && one.load == other.load && one.scenario.beside == other.scenario.beside
}

/// Whom the subject is held against: never itself or its control, which would hide whatever it has become, nor a relay, which is as
/// much ours to change.
fn reference<'a>(question: &Question<'a>, subject: &str) -> Result<Option<&'a str>, String> {
    let before = &question.before.measured.versions;
    let is_other = |peer: &&str| *peer != subject && !compare::is_control(peer) && !floor::is_floor(peer);
    let others = question.after.measured.versions.iter().map(|version| version.peer.as_str()).filter(is_other);
    let common: Vec<&str> = others.filter(|peer| before.iter().any(|one| one.peer == *peer)).collect();
    if let Some(named) = question.reference {
        return common.contains(&named).then_some(Some(named)).ok_or_else(|| {
            let able = if common.is_empty() { "nobody is".to_owned() } else { format!("{} can be", common.join(", ")) };
            format!("{named} is not in both runs, or is the subject, its control or a floor: no reference; {able}")
        });
    }
    let preferred = common.iter().find(|peer| **peer == REFERENCE);
    let other = common.iter().find(|peer| !peer.starts_with(subject));
    Ok(preferred.or(other).copied())
}

fn head(question: &Question<'_>, subject: &str, reference: Option<&str>) -> String {
    let Question { before, after, fail_over_percent, .. } = question;
    let of =
        |results: &Results| format!("{} ({}, {}, Linux {})", results.commit, results.date, results.host.processor, results.host.kernel);
    let mut head = format!("# {subject}: {} against {}\n\n", of(after), of(before));
    match reference {
        Some(reference) => {
            let _infallible = write!(
                head,
                "Runs were made at different times, perhaps on different hosts. A change **to {reference}** is that of {subject}'s ratio to \
                 {reference} in the same rounds, and so leaves out what the host did to both; the absolute change beside it does not."
            );
            if version(before, reference) != version(after, reference) {
                let _infallible = write!(
                    head,
                    " {reference} itself is another one: {} before, {} after.",
                    version(before, reference).unwrap_or("unknown"),
                    version(after, reference).unwrap_or("unknown")
                );
            }
        }
        None => head.push_str("The runs have no peer in common: changes are absolute, and those of the host are among them."),
    }
    let _infallible = writeln!(
        head,
        " Intervals are of 95 %, by resampling the rounds of each run. **Worse** is a change of {fail_over_percent} % or more whose interval \
         excludes none; it is looked for in the first column of changes that has a figure."
    );
    head
}

fn version<'a>(results: &'a Results, peer: &str) -> Option<&'a str> {
    results.measured.versions.iter().find(|version| version.peer == peer).map(|version| version.version.as_str())
}

fn table_head(reference: Option<&str>) -> String {
    match reference {
        Some(reference) => format!("| | | before | after | change to {reference} | change | |\n|---|---|---|---|---|---|---|\n"),
        None => "| | | before | after | change | |\n|---|---|---|---|---|---|\n".to_owned(),
    }
}

impl Change {
    fn is_worse(&self, percent: f64) -> bool {
        self.relative.or(self.absolute).is_some_and(|change| change.low > 1.0 && change.ratio >= 1.0 + percent / 100.0)
    }

    fn line(&self, peer: &str, with_relative: bool, is_worse: bool) -> String {
        let percent = |factor: f64| (factor - 1.0) * 100.0;
        let told = |change: Option<Ratio>| {
            change.map_or_else(String::new, |change| {
                format!("{:+.1} % ({:+.1} to {:+.1})", percent(change.ratio), percent(change.low), percent(change.high))
            })
        };
        let mut cells = vec![peer.to_owned(), self.metric.to_owned(), format!("{:.1}", self.before), format!("{:.1}", self.after)];
        if with_relative {
            cells.push(told(self.relative));
        }
        cells.push(told(self.absolute));
        cells.push(if is_worse { "**worse**".to_owned() } else { String::new() });
        format!("| {} |", cells.join(" | "))
    }
}

/// Every figure of a peer that both runs can tell.
fn changes(before: &Series, after: &Series, peer: &str, reference: Option<&str>) -> Vec<Change> {
    let (earlier, later) = (Rounds::of(before, peer, reference), Rounds::of(after, peer, reference));
    let mut costs: Vec<(&str, Value)> = vec![(if after.scenario.has_streams() { "CPU µs per MB" } else { "CPU µs" }, Series::cost_us)];
    if !after.load.is_of_requests() {
        costs.push(("µs until the effect", |_, block| effect_table::middle_us(block)));
    }
    let mut changes: Vec<Change> = costs.into_iter().filter_map(|(metric, value)| cost_change(metric, value, &earlier, &later)).collect();
    if after.has_latency() {
        let quantiles = [("p50 µs", 0.5), ("p99 µs", 0.99), ("p99.9 µs", 0.999)];
        changes.extend(quantiles.into_iter().filter_map(|(metric, quantile)| quantile_change(metric, quantile, &earlier, &later)));
    }
    changes
}

/// What one block of a series tells.
type Value = fn(&Series, &Block) -> Option<f64>;

/// The counted blocks of a peer, and those of the rounds in which the reference counts too.
struct Rounds<'a> {
    alone: Vec<&'a Block>,
    paired: Vec<(&'a Block, &'a Block)>,
    series: &'a Series,
}

impl<'a> Rounds<'a> {
    fn of(series: &'a Series, peer: &str, reference: Option<&str>) -> Self {
        let alone = rounds::blocks_of(series, peer);
        let paired = reference.map(|reference| rounds::paired(&alone, &rounds::blocks_of(series, reference))).unwrap_or_default();
        Self { alone, paired, series }
    }

    fn values(&self, value: Value) -> Vec<f64> {
        self.alone.iter().filter_map(|block| value(self.series, block)).collect()
    }

    fn logarithms(&self, value: Value) -> Vec<f64> {
        self.values(value).into_iter().map(f64::ln).collect()
    }

    /// Logarithms of the ratios to the reference's.
    fn relative_logarithms(&self, value: Value) -> Vec<f64> {
        let ratio = |ours, theirs| Some((value(self.series, ours)? / value(self.series, theirs)?).ln());
        self.paired.iter().filter_map(|(ours, theirs)| ratio(ours, theirs)).collect()
    }

    fn latencies(&self) -> Vec<&'a Histogram<u64>> {
        self.alone.iter().map(|block| &block.round.tally.latency).collect()
    }
}

fn cost_change(metric: &'static str, value: Value, before: &Rounds<'_>, after: &Rounds<'_>) -> Option<Change> {
    Some(Change {
        metric,
        before: statistics::median(&before.values(value))?,
        after: statistics::median(&after.values(value))?,
        relative: mean_change(&before.relative_logarithms(value), &after.relative_logarithms(value)),
        absolute: mean_change(&before.logarithms(value), &after.logarithms(value)),
    })
}

/// The ratio of geometric means, from logarithms; each side is resampled by itself, for no round of one belongs to one of the other.
fn mean_change(before: &[f64], after: &[f64]) -> Option<Ratio> {
    let mean = |logs: &[f64], picks: &[usize]| picks.iter().map(|pick| logs[*pick]).sum::<f64>() / picks.len() as f64;
    let ratio = |earlier: &[usize], later: &[usize]| (mean(after, later) - mean(before, earlier)).exp();
    resampled(before.len(), after.len(), statistics::RESAMPLES, ratio)
}

fn quantile_change(metric: &'static str, quantile: f64, before: &Rounds<'_>, after: &Rounds<'_>) -> Option<Change> {
    let stated = |rounds: &Rounds<'_>| statistics::pooled_quantile_us(&rounds::pooled(&rounds.alone, |tally| &tally.latency), quantile);
    let change = |before: (&Sums, usize), after: (&Sums, usize)| {
        let ratio =
            |earlier: &[usize], later: &[usize]| after.0.quantile(later, quantile) as f64 / before.0.quantile(earlier, quantile) as f64;
        resampled(before.1, after.1, statistics::QUANTILE_RESAMPLES, ratio)
    };
    let relative = || {
        let sides = |rounds: &Rounds<'_>| {
            let (ours, theirs): (Vec<_>, Vec<_>) =
                rounds.paired.iter().map(|(ours, theirs)| (&ours.round.tally.latency, &theirs.round.tally.latency)).unzip();
            (Sums::of(&ours), Sums::of(&theirs), ours.len())
        };
        let (earlier, later) = (sides(before), sides(after));
        let of =
            |side: &(Sums, Sums, usize), picks: &[usize]| side.0.quantile(picks, quantile) as f64 / side.1.quantile(picks, quantile) as f64;
        resampled(earlier.2, later.2, statistics::QUANTILE_RESAMPLES, |before, after| of(&later, after) / of(&earlier, before))
    };
    let (earlier, later) = (before.latencies(), after.latencies());
    Some(Change {
        metric,
        before: stated(before)?,
        after: stated(after)?,
        relative: relative(),
        absolute: change((&Sums::of(&earlier), earlier.len()), (&Sums::of(&later), later.len())),
    })
}

/// A ratio of two runs with its interval, each run resampled by whole rounds; nothing with fewer than two rounds in either.
fn resampled(before: usize, after: usize, resamples: usize, ratio: impl Fn(&[usize], &[usize]) -> f64) -> Option<Ratio> {
    if before < 2 || after < 2 {
        return None;
    }
    let mut random = Rng::with_seed(statistics::SEED);
    let mut picks = |rounds: usize| (0..rounds).map(|_| random.usize(..rounds)).collect::<Vec<_>>();
    let drawn: Vec<f64> = (0..resamples).map(|_| ratio(&picks(before), &picks(after))).collect();
    let whole = ratio(&(0..before).collect::<Vec<_>>(), &(0..after).collect::<Vec<_>>());
    let (low, high) = statistics::interval(drawn);
    whole.is_finite().then_some(Ratio { ratio: whole, low, high })
}

/// What only one of the runs has measured.
fn only_once(question: &Question<'_>) -> String {
    let names = |of: &Results, other: &Results| -> Vec<String> {
        let is_missing = |series: &&Series| !other.measured.series.iter().any(|there| is_same_work(there, series));
        of.measured.series.iter().filter(is_missing).map(Series::title).collect()
    };
    let mut told = String::new();
    let sides = [("before", question.before, question.after), ("after", question.after, question.before)];
    for (side, of, other) in sides {
        let names = names(of, other);
        if !names.is_empty() {
            let _infallible = write!(told, "\nMeasured {side} only: {}.\n", names.join("; "));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use crate::scenario::Load;
    use crate::tally;

    fn ask<'a>(before: &'a Results, after: &'a Results) -> Question<'a> {
        Question { before, after, reference: Some("theirs"), fail_over_percent: 5.0 }
    }

    /// Multiplies CPU time of these peers by a factor.
    fn costing(mut results: Results, peers: &[&str], factor: f64) -> Results {
        for block in results.measured.series.iter_mut().flat_map(|series| &mut series.blocks) {
            if let Some(usage) = block.round.usage.as_mut().filter(|_| peers.contains(&block.peer.as_str())) {
                usage.cpu_ns = (usage.cpu_ns as f64 * factor) as u64;
            }
        }
        results
    }

    /// A run against itself has changed nothing.
    #[test]
    fn a_run_is_as_good_as_itself() {
        let (before, after) = (sample::results(), sample::results());
        let answer = answer(&ask(&before, &after)).unwrap();
        assert_eq!(answer.worse, Vec::<String>::new());
        assert!(answer.page.contains("| ours | CPU µs | 20.0 | 20.0 | +0.0 % (+0.0 to +0.0) |"), "{}", answer.page);
    }

    /// A subject that costs more beside an unchanged peer is worse, from the percentage on that was asked for.
    #[test]
    fn a_dearer_subject_is_worse() {
        let before = sample::results();
        for (factor, is_worse) in [(1.10, true), (1.04, false), (0.5, false)] {
            let after = costing(sample::results(), &["ours"], factor);
            let answer = answer(&ask(&before, &after)).unwrap();
            assert_eq!(!answer.worse.is_empty(), is_worse, "{factor}: {:?}", answer.worse);
            assert_eq!(answer.page.contains("**worse** |"), is_worse);
        }
    }

    /// On a slower host everyone costs more, and nobody is blamed; without a peer in common the same change is taken at its word.
    #[test]
    fn a_slower_host_is_no_regression() {
        let before = sample::results();
        let mut after = costing(sample::results(), &["ours", "theirs"], 1.5);
        assert_eq!(answer(&ask(&before, &after)).unwrap().worse, Vec::<String>::new());
        after.measured.versions.truncate(1);
        let alone = answer(&Question { reference: None, ..ask(&before, &after) }).unwrap();
        assert_eq!(alone.worse.len(), after.measured.series.len(), "{:?}", alone.worse);
        assert!(alone.page.contains("no peer in common"));
    }

    /// Nobody is held against himself, his control or a relay, whether named or chosen: what has got dearer is found all the same.
    #[test]
    fn a_reference_is_a_competitor() {
        for (first, second) in [("nginx", "theirs"), ("nginx", "nginx-again"), ("corelane", "floor-ring")] {
            let named = |factor: f64| {
                let mut results = costing(sample::results(), &["ours"], factor);
                results.measured.versions.truncate(2);
                let versions = results.measured.versions.iter_mut().map(|version| &mut version.peer);
                let peers = results
                    .measured
                    .series
                    .iter_mut()
                    .flat_map(|series| series.peers.iter_mut().chain(series.blocks.iter_mut().map(|block| &mut block.peer)));
                for peer in versions.chain(peers) {
                    match peer.as_str() {
                        "ours" => first.clone_into(peer),
                        "theirs" => second.clone_into(peer),
                        _ => {}
                    }
                }
                results
            };
            let (before, after) = (named(1.0), named(1.1));
            let chosen = Question { reference: None, ..ask(&before, &after) };
            assert!(!answer(&chosen).unwrap().worse.is_empty(), "{first} beside {second}");
            let itself = Question { reference: Some(first), ..ask(&before, &after) };
            assert!(answer(&itself).unwrap_err().contains("the subject"), "{first}");
            if second != "theirs" {
                let named = Question { reference: Some(second), ..ask(&before, &after) };
                assert!(answer(&named).unwrap_err().contains("or is the subject, its control or a floor"), "{second}");
                assert!(answer(&chosen).unwrap().page.contains("no peer in common"), "{second}");
            }
        }
    }

    /// A longer tail is worse although nothing costs more.
    #[test]
    fn a_longer_tail_is_worse() {
        let before = sample::results();
        let mut after = sample::results();
        for block in after.measured.series.iter_mut().flat_map(|series| &mut series.blocks).filter(|block| block.peer == "ours") {
            let late = sample::ANSWERS / 50;
            block.round.tally.latency.saturating_record_n(50_000, late);
        }
        let worse = answer(&ask(&before, &after)).unwrap().worse;
        assert!(worse.iter().any(|worse| worse.ends_with("p99 µs")), "{worse:?}");
        assert!(!worse.iter().any(|worse| worse.ends_with("p50 µs") || worse.contains("saturated")), "{worse:?}");
    }

    /// A start, or a change, that takes longer is worse although it costs the same.
    #[test]
    fn a_later_effect_is_worse() {
        for load in [Load::Start, Load::Apply { changes: 1 }] {
            let run = |ours_ms: u64| {
                let mut results = sample::results();
                results.measured.series.truncate(1);
                results.measured.series[0].load = load;
                for block in &mut results.measured.series[0].blocks {
                    block.round.tally.latency.clear();
                    tally::record(&mut block.round.tally.latency, if block.peer == "ours" { ours_ms } else { 9 } * 1_000_000);
                }
                results
            };
            for (ours_ms, wanted) in [(10, vec![]), (12, vec![format!("small-1k, {load}: µs until the effect")]), (8, vec![])] {
                assert_eq!(answer(&ask(&run(10), &run(ours_ms))).unwrap().worse, wanted, "{load}: {ours_ms} ms");
            }
        }
    }

    /// Runs that cannot be compared say why.
    #[test]
    fn what_cannot_be_compared_is_told() {
        let (before, mut after) = (sample::results(), sample::results());
        let unknown = Question { reference: Some("nobody"), ..ask(&before, &after) };
        assert!(answer(&unknown).unwrap_err().contains("nobody is not in both runs"));
        let itself = Question { reference: Some("ours"), ..ask(&before, &after) };
        let refused = answer(&itself).unwrap_err();
        assert!(refused.contains("ours is not in both runs, or is the subject") && refused.contains("theirs, <odd>"), "{refused}");
        after.measured.series.remove(0);
        assert!(answer(&ask(&before, &after)).unwrap().page.contains("Measured before only: small-1k, saturated."));
        after.measured.series.clear();
        assert!(answer(&ask(&before, &after)).unwrap_err().contains("no scenario"));
    }
}
