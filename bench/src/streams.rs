//! What is told of requests that are streams, beside what is told of every request: bytes, the first byte, and the most memory.

use serde::Serialize;

use crate::compare::Block;
use crate::compare::Series;
use crate::rounds;
use crate::statistics;
use crate::statistics::Ratio;

/// One peer's streams under one load.
#[derive(Clone, Debug, Serialize)]
pub struct Streams {
    /// Bytes of bodies, either way, in millions.
    pub mb_per_s: Option<f64>,
    pub cpu_us_per_mb: Option<f64>,
    /// The most resident memory in the window.
    pub peak_mb: Option<f64>,
    /// From the intended start; of open loads only.
    pub first_byte_p50_us: Option<f64>,
    pub first_byte_p99_us: Option<f64>,
    pub first_byte_p99_ratio: Option<Ratio>,
}

impl Streams {
    /// What a peer's counted blocks say, and those of the rounds it shares with the subject; `None` where no request is a stream.
    pub(crate) fn of(series: &Series, blocks: &[&Block], pairs: &[(&Block, &Block)]) -> Option<Self> {
        if !series.scenario.has_streams() {
            return None;
        }
        let first_byte = rounds::pooled(blocks, |tally| &tally.first_byte);
        Some(Self {
            mb_per_s: rounds::middle(blocks, |block| Some(block.mb_per_s())),
            cpu_us_per_mb: rounds::middle(blocks, Block::cpu_us_per_mb),
            peak_mb: rounds::middle(blocks, Block::peak_mb),
            first_byte_p50_us: statistics::pooled_quantile_us(&first_byte, 0.5),
            first_byte_p99_us: statistics::pooled_quantile_us(&first_byte, 0.99),
            first_byte_p99_ratio: rounds::times_ratio(pairs, |tally| &tally.first_byte, 0.99),
        })
    }
}

/// Whether a series knows when answers began.
pub(crate) fn has_first_bytes(series: &Series) -> bool {
    series.blocks.iter().any(|block| !block.round.tally.first_byte.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::hgrm;
    use crate::html;
    use crate::report;
    use crate::sample;
    use crate::table;

    /// Streams are told by the MB, with their first byte and the most memory, on every page and also when a run is read again.
    #[test]
    fn streams_are_told_by_the_mb() {
        let read = report::read(&report::json(&sample::streams()).unwrap()).unwrap();
        for results in [sample::streams(), read] {
            for page in [table::page(&results), html::page(&results)] {
                for told in ["MB/s", "CPU µs per MB", "first byte p99 µs", "peak MB"] {
                    assert!(page.contains(told), "{told}");
                }
                assert!(!page.contains("CPU µs |") && !page.contains("CPU time per request"));
            }
            assert!(html::page(&results).contains("First byte over percentile"));
            let names: Vec<String> = results.measured.series.iter().flat_map(hgrm::files).map(|(name, _)| name).collect();
            assert!(names.iter().any(|name| name.ends_with("ours.first-byte.hgrm")), "{names:?}");
        }
    }

    /// A ratio of streams is that of CPU time per MB, whoever had answered more requests.
    #[test]
    fn a_ratio_of_streams_is_per_mb() {
        let mut results = sample::streams();
        let series = &mut results.measured.series[0];
        for block in series.blocks.iter_mut().filter(|block| block.peer == "theirs") {
            block.round.tally.completed *= 7;
        }
        let rows = table::rows(series);
        let per_mb = |place: usize| rows[place].streams.as_ref().and_then(|streams| streams.cpu_us_per_mb).unwrap();
        let ratio = rows[1].cpu_ratio.unwrap().ratio;
        assert!((ratio / (per_mb(0) / per_mb(1)) - 1.0).abs() < 0.001, "{ratio}");
    }

    /// Requests that are no streams are told as ever.
    #[test]
    fn small_requests_are_told_by_the_request() {
        let results = sample::results();
        assert!(results.measured.series.iter().flat_map(table::rows).all(|row| row.streams.is_none()));
        for page in [table::page(&results), html::page(&results)] {
            assert!(!page.contains("MB/s") && !page.contains("peak MB") && !page.contains("irst byte"));
        }
        let names: Vec<String> = results.measured.series.iter().flat_map(hgrm::files).map(|(name, _)| name).collect();
        assert!(!names.is_empty() && names.iter().all(|name| !name.contains("first-byte")));
    }
}
