//! Percentile distributions as text, in the form in which HdrHistogram's own tools print and plot them.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::compare::Series;
use crate::rounds;
use crate::rounds::Times;
use crate::streams;
use crate::tally;

/// Lines for each halving of the distance to 100 %.
const TICKS_PER_HALF: u32 = 5;

/// One file per peer, name and text, of the blocks that the table counts, and a second one where answers have a first byte of their own.
///
/// A closed loop of several connections has none: its times say nothing about waiting.
pub fn files(series: &Series) -> Vec<(String, String)> {
    if !series.has_latency() {
        return Vec::new();
    }
    let mut kinds: Vec<(&str, Times)> = vec![(".hgrm", |tally| &tally.latency)];
    if streams::has_first_bytes(series) {
        kinds.push((".first-byte.hgrm", |tally| &tally.first_byte));
    }
    let name = |peer: &str| [&series.scenario.name, &under(series), peer].map(slug).join(".");
    let of = |peer: &String| {
        kinds.iter().map(|(ending, times)| (name(peer) + ending, text(&rounds::pooled(&rounds::blocks_of(series, peer), *times)))).collect()
    };
    series.peers.iter().flat_map(|peer| -> Vec<(String, String)> { of(peer) }).collect()
}

/// The load, and what goes on beside it.
fn under(series: &Series) -> String {
    let beside = series.scenario.beside.iter().map(|beside| format!(" beside {beside}"));
    beside.fold(series.load.to_string(), |under, beside| under + &beside)
}

/// Value in microseconds, percentile, count up to it, and 1/(1-percentile), which is the axis of a percentile plot.
fn text(histogram: &Histogram<u64>) -> String {
    let mut out = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        count += step.count_since_last_iteration();
        let (value_us, quantile) = (tally::microseconds(step.value_iterated_to()), step.quantile_iterated_to());
        let _infallible = write!(out, "{value_us:>12.3} {quantile:>14.12} {count:>10}");
        // Nothing lies beyond the last one.
        let _infallible = if quantile < 1.0 { writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(out) };
    }
    let _infallible = writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n#[Max     = {:>12.3}, Total count    = {:>12}]",
        histogram.mean() * tally::UNIT_NS as f64 / 1000.0,
        histogram.stdev() * tally::UNIT_NS as f64 / 1000.0,
        tally::microseconds(histogram.max()),
        histogram.len(),
    );
    out
}

/// A name for files and anchors: letters, digits and dots stay, whatever stands between becomes a hyphen.
pub(crate) fn slug(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line has its four columns in microseconds, the last one three, and the counts end at the total.
    #[test]
    fn a_distribution_is_told_line_by_line() {
        let mut times = tally::histogram();
        for span_us in 1..=1000 {
            tally::record(&mut times, span_us * 1000);
        }
        let text = text(&times);
        let lines: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_ascii_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        let half = lines.iter().find(|line| line[1] == 0.5).unwrap();
        assert!((half[0] / 500.0 - 1.0).abs() < 0.002 && half[2] == 500.0 && half[3] == 2.0, "{half:?}");
        let (last, others) = lines.split_last().unwrap();
        assert!((last[0] / 1000.0 - 1.0).abs() < 0.002 && last[1..] == [1.0, 1000.0], "{last:?}");
        assert!(others.iter().all(|line| line.len() == 4));
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }

    /// A file's name holds nothing that a shell or a path would take for more than a letter.
    #[test]
    fn a_file_name_is_plain() {
        let table = [("4000/s Poisson", "4000-s-poisson"), ("../../a b", "..-..-a-b"), ("2.5/s", "2.5-s"), ("<x>&", "x")];
        for (name, plain) in table {
            assert_eq!(slug(name), plain);
        }
    }
}
