//! What goes on beside the load does to it: each proxy with it over the same proxy without it, in the same rounds.

use serde::Serialize;

use crate::beside::Beside;
use crate::beside::Deeds;
use crate::compare::Block;
use crate::compare::Measured;
use crate::compare::Series;
use crate::rounds;
use crate::statistics;
use crate::statistics::Ratio;

/// One figure of one proxy, without and with what goes on beside; the ratio is with over without, and counts only rounds that have both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    pub without: Option<f64>,
    pub with: Option<f64>,
    pub ratio: Option<Ratio>,
}

/// What it does to one proxy.
#[derive(Clone, Debug, Serialize)]
pub struct Contrast {
    pub peer: String,
    pub p50_us: Change,
    pub p99_us: Change,
    pub p999_us: Change,
    /// Per answer of the measured load: with company, that of the company's answers is in it.
    pub cpu_us: Change,
    pub memory_mb: Change,
    /// Of the measured load, in all blocks.
    pub errors_without: u64,
    pub errors_with: u64,
    /// In the order of the scenario.
    pub beside: Vec<Part>,
}

/// What one thing beside the load has done, over all counted blocks of a proxy, or over all where none counts.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// What it was, in words.
    pub what: String,
    /// Connections open at the end of the window, the fewest of all blocks.
    pub held: u32,
    pub opened_per_s: f64,
    pub answered_per_s: f64,
    pub bytes_per_s: f64,
    /// Changes, and steps they were made in.
    pub changed_per_s: f64,
    pub steps_per_s: f64,
    /// CPU time that each answer takes the proxy: what it spends more than without, median over rounds. Nothing where several things went
    /// on, for nobody can tell whose it is.
    pub cpu_us_each: Option<f64>,
    /// In all blocks, also those that do not count.
    pub failed: u64,
    pub failure: Option<String>,
    /// What the proxy's memory grew by for each connection held, the most of all blocks: later ones find what earlier ones have left.
    pub memory_bytes_each: Option<f64>,
}

/// Each proxy's contrast; nothing where the series has nothing beside it, or the run holds no series without.
pub fn of(measured: &Measured, series: &Series) -> Vec<Contrast> {
    let is_sibling =
        |other: &&Series| other.scenario.beside.is_empty() && other.scenario.name == series.scenario.name && other.load == series.load;
    match measured.series.iter().find(is_sibling) {
        Some(without) if !series.scenario.beside.is_empty() => series.peers.iter().map(|peer| contrast(peer, without, series)).collect(),
        _ => Vec::new(),
    }
}

fn contrast(peer: &str, without: &Series, with: &Series) -> Contrast {
    let (alone, beside) = (rounds::blocks_of(without, peer), rounds::blocks_of(with, peer));
    let pairs = rounds::paired(&beside, &alone);
    let waits = with.has_latency();
    let latency = |quantile: f64| {
        if !waits {
            return Change::default();
        }
        let stated = |blocks: &[&Block]| statistics::pooled_quantile_us(&rounds::pooled(blocks, |tally| &tally.latency), quantile);
        let ratio = rounds::times_ratio(&pairs, |tally| &tally.latency, quantile);
        Change { without: stated(&alone), with: stated(&beside), ratio }
    };
    let plain = |value: fn(&Block) -> Option<f64>| Change {
        without: rounds::middle(&alone, value),
        with: rounds::middle(&beside, value),
        ratio: rounds::ratio_of(&pairs, value),
    };
    let errors =
        |series: &Series| series.blocks.iter().filter(|block| block.peer == peer).map(|block| block.round.tally.errors.total()).sum();
    let all: Vec<&Block> = with.blocks.iter().filter(|block| block.peer == peer).collect();
    let parts = with.scenario.beside.iter().enumerate().map(|(place, what)| part(*what, place, &beside, &all));
    let cpu_us_each = if with.scenario.beside.len() == 1 { cpu_us_each(&pairs) } else { None };
    Contrast {
        peer: peer.to_owned(),
        p50_us: latency(0.5),
        p99_us: latency(0.99),
        p999_us: latency(0.999),
        cpu_us: plain(Block::cpu_us),
        memory_mb: plain(Block::memory_mb),
        errors_without: errors(without),
        errors_with: errors(with),
        beside: parts.map(|part| Part { cpu_us_each, ..part }).collect(),
    }
}

fn part(what: Beside, place: usize, counted: &[&Block], all: &[&Block]) -> Part {
    let counted = if counted.is_empty() { all } else { counted };
    let deeds = |block: &&Block| block.round.beside.get(place).cloned();
    let every = || all.iter().filter_map(deeds);
    let seconds = counted.iter().map(|block| block.round.window_ns as f64 / 1e9).sum::<f64>();
    let per_s = |count: fn(&Deeds) -> u64| {
        let sum = counted.iter().filter_map(deeds).map(|deeds| count(&deeds)).sum::<u64>();
        if seconds > 0.0 { sum as f64 / seconds } else { 0.0 }
    };
    let each = |deeds: Deeds| (deeds.held > 0).then_some(deeds.memory_bytes? as f64 / f64::from(deeds.held));
    Part {
        what: what.to_string(),
        held: every().map(|deeds| deeds.held).min().unwrap_or(0),
        opened_per_s: per_s(|deeds| deeds.opened),
        answered_per_s: per_s(|deeds| deeds.answered),
        bytes_per_s: per_s(|deeds| deeds.bytes),
        changed_per_s: per_s(|deeds| deeds.changed),
        steps_per_s: per_s(|deeds| deeds.steps),
        cpu_us_each: None,
        failed: every().map(|deeds| deeds.failed).sum(),
        failure: every().find_map(|deeds| deeds.failure),
        memory_bytes_each: every().filter_map(each).max_by(f64::total_cmp),
    }
}

/// What the proxy spends more, per answer beside the load.
fn cpu_us_each(pairs: &[(&Block, &Block)]) -> Option<f64> {
    let busy = |block: &Block| Some(block.round.usage?.cpu_ns as f64 / block.round.window_ns as f64);
    let each = |(with, without): &(&Block, &Block)| {
        let answered_per_ns = with.round.beside.first()?.answered as f64 / with.round.window_ns as f64;
        (answered_per_ns > 0.0).then_some((busy(with)? - busy(without)?) / answered_per_ns / 1000.0)
    };
    statistics::median(&pairs.iter().filter_map(each).collect::<Vec<_>>())
}

impl Part {
    /// What a table says of it.
    pub(crate) fn words(&self, of: Beside) -> String {
        let mut words = match of {
            Beside::Idle { .. } => {
                let each = self.memory_bytes_each.map_or(String::new(), |bytes| format!(", {:.1} KiB each", bytes / 1024.0));
                format!("{} held{each}", self.held)
            }
            Beside::Handshakes { .. } => {
                let each = self.cpu_us_each.map_or(String::new(), |cpu_us| format!(", {cpu_us:.0} µs CPU each"));
                format!("{:.0}/s{each}", self.answered_per_s)
            }
            Beside::Endpoints { .. } | Beside::Routes { .. } => {
                format!("{:.0} changes/s in {:.1} steps/s", self.changed_per_s, self.steps_per_s)
            }
            Beside::Reload { .. } => format!("{:.1} reloads/s", self.steps_per_s),
            Beside::SlowReaders { .. } => format!("{} held, {:.1} MB/s", self.held, self.bytes_per_s / 1e6),
            Beside::Stream { .. } => format!("{:.0} MB/s", self.bytes_per_s / 1e6),
        };
        if self.failed > 0 {
            words += &format!(", {} failed ({})", self.failed, self.failure.as_deref().unwrap_or("unknown"));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html;
    use crate::report;
    use crate::sample;
    use crate::table;

    /// What makes every request half as slow again has a ratio of 1.5, for each proxy against itself.
    #[test]
    fn a_proxy_is_its_own_measure() {
        let measured = sample::accompanied().measured;
        let contrasts = of(&measured, &measured.series[1]);
        assert_eq!(
            contrasts.iter().map(|contrast| &contrast.peer).collect::<Vec<_>>(),
            measured.series[1].peers.iter().collect::<Vec<_>>()
        );
        for contrast in &contrasts {
            for change in [contrast.p50_us, contrast.p99_us, contrast.cpu_us] {
                let ratio = change.ratio.unwrap();
                assert!((ratio.ratio - 1.5).abs() < 0.03 && ratio.low > 1.4 && ratio.high < 1.6, "{contrast:?}");
                assert!((change.with.unwrap() / change.without.unwrap() - 1.5).abs() < 0.03, "{contrast:?}");
            }
            assert_eq!(contrast.memory_mb.ratio.map(|ratio| ratio.ratio), Some(1.0));
            let part = &contrast.beside[0];
            assert_eq!((part.held, part.memory_bytes_each, part.bytes_per_s), (9, Some(2048.0), 2e6));
        }
    }

    /// Only rounds that have both blocks count for a ratio, so that one that was disturbed is not held against another one.
    #[test]
    fn a_round_without_its_other_half_does_not_count() {
        let mut measured = sample::accompanied().measured;
        let peer = measured.series[0].peers[0].clone();
        let lost = measured.series[0].blocks.iter_mut().find(|block| block.peer == peer).unwrap();
        lost.marks.push(crate::compare::Mark::Late);
        lost.round.tally.latency.clear();
        let contrast = &of(&measured, &measured.series[1])[0];
        assert!((contrast.p99_us.ratio.unwrap().ratio - 1.5).abs() < 0.03, "{contrast:?}");
    }

    /// A series that was alone has no contrast, and neither has one whose other half is missing.
    #[test]
    fn nothing_is_held_against_nothing() {
        let mut measured = sample::accompanied().measured;
        assert!(of(&measured, &measured.series[0]).is_empty());
        measured.series.remove(0);
        assert!(of(&measured, &measured.series[0]).is_empty());
    }

    /// A contrast stands in the tables, the page and the data, and is there again when these are read.
    #[test]
    fn a_contrast_survives_the_report() {
        let written = report::json(&sample::accompanied()).unwrap();
        let read = report::read(&written).unwrap();
        assert_eq!(report::json(&read).unwrap(), written);
        assert!(written.contains("\"contrast\":[{\"peer\":\"ours\""));
        for page in [table::page(&read), html::page(&read)] {
            assert!(page.contains("beside 9 idle connections") && page.contains("9 held, 2.0 KiB each"), "{page}");
        }
    }

    /// A failure beside the load is told with the first reason.
    #[test]
    fn a_failure_is_told() {
        let mut measured = sample::accompanied().measured;
        let deeds = &mut measured.series[1].blocks[0].round.beside[0];
        (deeds.failed, deeds.failure) = (3, Some("it was closed".to_owned()));
        measured.series[1].blocks[0].round.tally.errors.broken = 2;
        let contrast = &of(&measured, &measured.series[1])[0];
        assert_eq!((contrast.errors_without, contrast.errors_with), (0, 2));
        let words = contrast.beside[0].words(measured.series[1].scenario.beside[0]);
        assert!(words.ends_with("3 failed (it was closed)"), "{words}");
    }
}
