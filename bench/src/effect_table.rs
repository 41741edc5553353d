//! What may be said of starts and of added routes: how long until they had taken effect, and what they cost.

use serde::Serialize;

use crate::compare::Block;
use crate::compare::Series;
use crate::rounds;
use crate::scenario::Load;
use crate::statistics::Ratio;
use crate::table;
use crate::table::Table;
use crate::tally;

/// One peer's starts, or its changes. Ratios are subject over peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) peer: String,
    /// Times until the effect was whole: the middle of all, and the longest.
    pub(crate) whole_ms: Option<f64>,
    pub(crate) slowest_ms: Option<f64>,
    pub(crate) whole_ratio: Option<Ratio>,
    /// How exactly these times are known: the longest that nobody had asked between the last wrong answer and the first right one.
    pub(crate) exact_to_ms: Option<f64>,
    /// Of starts, the time until the first right answer; of changes, the longest that another host waited for its answer.
    pub(crate) other_ms: Option<f64>,
    /// CPU time of one start or change.
    pub(crate) cpu_ms: Option<f64>,
    pub(crate) cpu_ratio: Option<Ratio>,
    /// The most memory.
    pub(crate) memory_mb: Option<f64>,
    /// Answers that were not right although the proxy had said that it was ready.
    pub(crate) early: u64,
    pub(crate) errors: u64,
    pub(crate) clean: usize,
    pub(crate) used: usize,
    pub(crate) blocks: usize,
}

/// The rows of one table, subject first; none where requests were the work.
pub(crate) fn rows(series: &Series) -> Vec<Row> {
    if series.load.is_of_requests() {
        return Vec::new();
    }
    let subject = series.peers.first().map(|peer| rounds::blocks_of(series, peer)).unwrap_or_default();
    let row = |peer: &String| {
        let all = || series.blocks.iter().filter(|block| block.peer == *peer);
        let blocks = rounds::blocks_of(series, peer);
        let whole = rounds::pooled(&blocks, |tally| &tally.latency);
        let exact = rounds::pooled(&blocks, |tally| &tally.lateness);
        let other = rounds::pooled(&blocks, |tally| &tally.service);
        let ms = |histogram: &hdrhistogram::Histogram<u64>, quantile| {
            (!histogram.is_empty()).then(|| tally::quantile_us(histogram, quantile) / 1000.0)
        };
        let pairs = if series.peers.first() == Some(peer) { Vec::new() } else { rounds::paired(&subject, &blocks) };
        Row {
            peer: peer.clone(),
            whole_ms: ms(&whole, 0.5),
            slowest_ms: ms(&whole, 1.0),
            whole_ratio: rounds::ratio_of(&pairs, middle_us),
            exact_to_ms: ms(&exact, 1.0),
            other_ms: ms(&other, if series.load == Load::Start { 0.5 } else { 1.0 }),
            cpu_ms: rounds::middle(&blocks, Block::cpu_us).map(|cpu_us| cpu_us / 1000.0),
            cpu_ratio: rounds::ratio_of(&pairs, Block::cpu_us),
            memory_mb: blocks.iter().filter_map(|block| block.memory_mb()).reduce(f64::max),
            early: all().map(|block| block.round.tally.early).sum(),
            errors: all().map(|block| block.round.tally.errors.total()).sum(),
            clean: all().filter(|block| block.marks.is_empty()).count(),
            used: blocks.len(),
            blocks: all().count(),
        }
    };
    series.peers.iter().map(row).collect()
}

/// The middle of one block's times.
pub(crate) fn middle_us(block: &Block) -> Option<f64> {
    let times = &block.round.tally.latency;
    (!times.is_empty()).then(|| tally::quantile_us(times, 0.5))
}

impl Table {
    /// Starts, or added routes; nothing where requests were the work.
    pub(crate) fn of_effects(series: &Series) -> Option<Self> {
        let (how, whole, other) = match series.load {
            Load::Start => (
                "The files are in the page cache. Whole is a start when hosts from all over the set are answered right, each asked for on \
                 a connection of its own. Too early are wrong answers after the proxy has said on its page that it is ready, or, where it \
                 has none, after its first answer"
                    .to_owned(),
                "whole ms",
                "first answer ms",
            ),
            Load::Apply { changes } => (
                format!(
                    "{changes} changes a block, one after the other; effective is one when the added host is answered right, asked for on \
                     a connection of its own each time, no sooner than 0.5 ms after the last. Others wait: the longest time that a host \
                     which was there all along has waited meanwhile. CPU time is without that of the questions"
                ),
                "effective ms",
                "others wait ms",
            ),
            Load::Saturate | Load::Open { .. } => return None,
        };
        let rows = rows(series);
        Some(Self {
            title: format!("{}, {}", series.scenario.name, series.load),
            work: format!("{}. {} blocks a peer. {how}.", series.scenario.work, rows.first().map_or(0, |row| row.blocks)),
            disturbed: rows.iter().any(|row| row.used > row.clean),
            header: vec!["", whole, "ratio", "slowest", "exact to ms", other, "CPU ms", "ratio", "peak MB", "too early", "errors", "clean"],
            rows: rows.iter().map(cells).collect(),
        })
    }
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.peer.clone(),
        table::number(row.whole_ms, 1),
        table::ratio(row.whole_ratio),
        table::number(row.slowest_ms, 1),
        table::number(row.exact_to_ms, 1),
        table::number(row.other_ms, 1),
        table::number(row.cpu_ms, 1),
        table::ratio(row.cpu_ratio),
        table::number(row.memory_mb, 0),
        row.early.to_string(),
        row.errors.to_string(),
        format!("{}/{}", row.clean, row.blocks),
    ]
}

/// A block of starts or changes in a line, for whoever watches.
pub(crate) fn line(block: &Block) -> String {
    let tally = &block.round.tally;
    let ms = |quantile| tally::quantile_us(&tally.latency, quantile) / 1000.0;
    format!(
        "{:<16} {} in {:.1} ms, slowest {:.1}, {:.1} CPU ms, {:.0} MB, too early {}, errors {} {}",
        block.peer,
        tally.completed,
        ms(0.5),
        ms(1.0),
        block.cpu_us().unwrap_or(0.0) / 1000.0,
        block.memory_mb().unwrap_or(0.0),
        tally.early,
        tally.errors.total(),
        block.marks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Results;
    use crate::cpu::Usage;
    use crate::report;
    use crate::sample;
    use crate::tally::Tally;

    /// Two rounds of ours and theirs: ours takes 10 ms and 1 ms of CPU a change, theirs four times that and too early once.
    fn results(load: Load) -> Results {
        let mut results = sample::results();
        results.measured.series.truncate(1);
        let series = &mut results.measured.series[0];
        series.load = load;
        series.blocks.retain(|block| block.peer != "<odd> & \"peer\"");
        series.peers.truncate(2);
        for block in &mut series.blocks {
            let times = if block.peer == "ours" { 1 } else { 4 };
            let tally = &mut block.round.tally;
            *tally = Tally { completed: 2, early: times - 1, ..Tally::default() };
            for ms in [10, 12] {
                tally::record(&mut tally.latency, ms * times * 1_000_000);
                tally::record(&mut tally.lateness, 500_000);
            }
            block.marks.clear();
            block.round.usage = Some(Usage { cpu_ns: 2_000_000 * times, wait_ns: 0, memory_bytes: 1 << 20, peak_bytes: 0 });
        }
        results
    }

    /// Times and costs are told a change, ratios are ours over theirs, and what was read back from a file says the same.
    #[test]
    fn effects_are_told_a_change() {
        let results = results(Load::Apply { changes: 2 });
        let again = report::read(&report::json(&results).unwrap()).unwrap();
        for results in [results, again] {
            let rows = rows(&results.measured.series[0]);
            let [ours, theirs] = rows.as_slice() else { panic!("{rows:?}") };
            for (row, times) in [(ours, 1.0), (theirs, 4.0)] {
                assert!((row.whole_ms.unwrap() / (10.0 * times) - 1.0).abs() < 0.01, "{row:?}");
                assert!((row.slowest_ms.unwrap() / (12.0 * times) - 1.0).abs() < 0.01, "{row:?}");
                assert_eq!((row.cpu_ms, row.memory_mb), (Some(times), Some(1.0)));
            }
            assert_eq!((ours.early, theirs.early), (0, 12));
            assert!(ours.whole_ratio.is_none());
            let (whole, cpu) = (theirs.whole_ratio.unwrap(), theirs.cpu_ratio.unwrap());
            assert!((whole.ratio - 0.25).abs() < 0.001 && (cpu.ratio - 0.25).abs() < 0.001, "{whole:?} {cpu:?}");
        }
    }

    /// Starts and changes have a table of their own, with as many cells as headings; requests have none of it.
    #[test]
    fn only_effects_have_the_table() {
        for (load, whole) in [(Load::Start, "whole ms"), (Load::Apply { changes: 2 }, "effective ms")] {
            let table = Table::of(&results(load).measured.series[0]);
            assert_eq!(table.header[1], whole);
            assert!(table.rows.iter().all(|row| row.len() == table.header.len()));
        }
        let requests = results(Load::Saturate);
        assert!(Table::of_effects(&requests.measured.series[0]).is_none() && rows(&requests.measured.series[0]).is_empty());
    }
}
