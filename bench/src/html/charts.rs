//! The charts of one series: percentile curves, ratios with their intervals, and the seconds of the window.

use maud::Markup;
use maud::html;

use super::METRICS;
use super::Metric;
use super::plot;
use super::plot::Axis;
use super::plot::Plot;
use super::style::Style;
use crate::compare::Block;
use crate::compare::Series;
use crate::rounds;
use crate::rounds::Times;
use crate::statistics;
use crate::statistics::Claim;
use crate::statistics::Ratio;
use crate::table::Row;
use crate::tally;
use crate::timeline::Timeline;

const WIDTH: f64 = 540.0;
const PANEL_WIDTH: f64 = 380.0;
/// Points of a curve for each tenfold of 1/(1-p).
const POINTS_PER_DECADE: f64 = 24.0;
/// A curve is drawn as far as this many requests lie beyond, and boldly as far as a table would state it.
const BEYOND_MIN: f64 = 10.0;
/// Ratios farther from 1 are drawn at the edge.
const RATIO_MAX: f64 = 8.0;
/// A last second shorter than this share of one is not drawn: its rates would be guesses.
const SECOND_SHARE_MIN: f64 = 0.5;
/// What is drawn over the seconds.
const PANELS: [&str; 3] = ["p99 of each second", "answers per second", "CPU time per request"];
const STREAM_PANELS: [&str; 3] = ["p99 of each second", "MB per second", "CPU time per MB"];

/// One peer's percentiles: 1/(1-p) and latency, ascending.
struct Curve<'a> {
    style: &'a Style,
    points: Vec<(f64, f64)>,
    /// As far as a table would state them.
    bold_until: f64,
}

impl<'a> Curve<'a> {
    fn of(series: &Series, style: &'a Style, times: Times) -> Self {
        let pooled = rounds::pooled(&rounds::blocks_of(series, &style.peer), times);
        let events = pooled.len() as f64;
        let steps = ((events / BEYOND_MIN).max(1.0).log10() * POINTS_PER_DECADE) as u32;
        let beyond = (0..=steps).map(|step| 10_f64.powf(f64::from(step) / POINTS_PER_DECADE));
        let points = beyond.map(|beyond| (beyond, tally::quantile_us(&pooled, 1.0 - 1.0 / beyond))).collect();
        Self { style, points, bold_until: events / statistics::EVENTS_BEYOND_MIN }
    }

    /// The latency at the point that is nearest to a percentile, if the curve goes as far.
    fn at(&self, beyond: f64) -> Option<f64> {
        let nearest = self.points.iter().rev().find(|(at, _)| *at <= beyond * 1.01)?;
        (nearest.0 >= beyond * 0.9).then_some(nearest.1)
    }
}

/// Times over percentile, all peers on one plot.
pub(super) fn percentiles(series: &Series, styles: &[Style], times: Times) -> Markup {
    let present = styles.iter().filter(|style| series.peers.contains(&style.peer));
    let curves: Vec<Curve<'_>> = present.map(|style| Curve::of(series, style, times)).collect();
    let points = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let beyond_max = points().map(|(beyond, _)| beyond).fold(1.0, f64::max);
    let y = Axis::logarithmic("latency", points().map(|(_, value)| value), plot::time);
    let plot = Plot { width: WIDTH, height: 340.0, x: Axis::percentiles(beyond_max), y };
    let line = |curve: &Curve<'_>, until: f64| plot.line(curve.points.iter().filter(|(at, _)| *at <= until).copied().map(Some));
    let drawing = html! {
        // The subject last, and so on top.
        @for curve in curves.iter().rev() {
            path class={ "line faint " (curve.style.class) } d=(line(curve, f64::INFINITY)) {}
            path class={ "line " (curve.style.class) } d=(line(curve, curve.bold_until)) { title { (curve.style.peer) } }
            @for (name, beyond) in [("p50", 2.0), ("p90", 10.0), ("p99", 100.0), ("p99.9", 1e3), ("p99.99", 1e4)] {
                @if let Some(value) = curve.at(beyond).filter(|_| beyond <= curve.bold_until * 1.001) {
                    (plot.dot(curve.style.class, beyond, value, &format!("{}: {name} {}", curve.style.peer, plot::time(value))))
                }
            }
        }
    };
    plot.picture(&format!("Latency over percentile under {}", series.load), &drawing)
}

/// A ratio of one peer, as the forest plot lists it.
type Entry<'a> = (&'a str, Ratio);

/// Ratios of the subject to each peer, with their intervals; left of 1 the subject costs or waits less.
pub(super) fn forest(rows: &[&Row]) -> Markup {
    let entries = |(name, ratio): Metric| -> (&str, Vec<Entry<'_>>) {
        (name, rows.iter().filter_map(|row| Some((row.peer.as_str(), ratio(row)?))).collect())
    };
    let groups: Vec<(&str, Vec<Entry<'_>>)> = METRICS.map(entries).into_iter().filter(|(_, entries)| !entries.is_empty()).collect();
    let farthest = |ratio: Ratio| ratio.high.max(1.0 / ratio.low).max(1.25);
    let reach =
        groups.iter().flat_map(|(_, entries)| entries).map(|(_, ratio)| farthest(*ratio)).fold(1.25, f64::max).min(RATIO_MAX) * 1.05;
    let (left, right, row_height) = (150.0, WIDTH - 130.0, 21.0);
    let x_of = |ratio: f64| plot::short(left + (0.5 + 0.5 * (ratio.ln() / reach.ln()).clamp(-1.0, 1.0)) * (right - left));
    let lines: usize = groups.iter().map(|(_, entries)| entries.len() + 1).sum();
    let bottom = row_height * lines as f64 + 8.0;
    let mut y = 0.0;
    let mut next_line = || {
        y += row_height;
        y
    };
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 42.0)) role="img" aria-label="Ratios to each peer with 95 % intervals" {
            @for (value, x) in ratio_ticks(reach, &x_of) {
                line class={ @if value == 1.0 { "axis" } @else { "grid" } } x1=(x) x2=(x) y1="6" y2=(bottom) {}
                text class="tick" x=(x) y=(bottom + 16.0) text-anchor="middle" { (value) }
            }
            @for (name, entries) in &groups {
                text class="group" x="2" y=(next_line()) { (name) }
                @for (peer, ratio) in entries {
                    @let y = next_line();
                    @let words = format!("{:.2} ({:.2}–{:.2})", ratio.ratio, ratio.low, ratio.high);
                    g class=(claim(*ratio)) {
                        title { (name) " against " (peer) ": " (words) }
                        text class="peer" x=(left - 10.0) y=(y) text-anchor="end" { (peer) }
                        line class="interval" x1=(x_of(ratio.low)) x2=(x_of(ratio.high)) y1=(y - 4.5) y2=(y - 4.5) {}
                        rect class="mean" x=(x_of(ratio.ratio) - 4.0) y=(y - 8.5) width="8" height="8" {}
                        text class="value" x=(WIDTH - 2.0) y=(y) text-anchor="end" { (words) }
                    }
                }
            }
            text class="name" x=(left) y=(bottom + 34.0) { "← costs or waits less" }
            text class="name" x=(right) y=(bottom + 34.0) text-anchor="end" { "more →" }
        }
    }
}

/// What colour a ratio is given.
pub(super) fn claim(ratio: Ratio) -> &'static str {
    match ratio.claim() {
        Claim::Lower => "lower",
        Claim::Higher => "higher",
        Claim::Level => "level",
    }
}

/// Round ratios within reach, none too near to its neighbour to be read.
fn ratio_ticks(reach: f64, x_of: &dyn Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let candidates = [1.0, 0.5, 2.0, 0.25, 4.0, 0.125, 8.0, 0.8, 1.25, 0.67, 1.5, 0.9, 1.1, 0.33, 3.0];
    let mut ticks: Vec<(f64, f64)> = Vec::new();
    for value in candidates.into_iter().filter(|value| *value <= reach && *value >= 1.0 / reach) {
        let x = x_of(value);
        if ticks.iter().all(|(_, taken)| (taken - x).abs() >= 32.0) {
            ticks.push((value, x));
        }
    }
    ticks
}

/// What the seconds of the window were like: every counted block thin, the median over blocks bold.
///
/// Nothing where the window is shorter than two seconds.
pub(super) fn seconds(series: &Series, styles: &[Style]) -> Option<Markup> {
    let window_s = series.span.window_ns as f64 / 1e9;
    let drawn = (window_s - SECOND_SHARE_MIN).ceil().max(0.0) as usize;
    let known = series.blocks.iter().any(|block| !block.round.tally.timeline.requests.is_empty());
    if drawn < 2 || !known {
        return None;
    }
    // The last second is as long as what is left of the window.
    let length_s = move |second: usize| (window_s - second as f64).min(1.0);
    let p99 = |of: &Timeline, second: usize| of.p99_us.get(second).copied().flatten();
    // Streams are told by the MB: few of them end within a second.
    let has_streams = series.scenario.has_streams();
    let done = move |of: &Timeline, second: usize| {
        Some(if has_streams { *of.bytes.get(second)? as f64 / 1e6 } else { *of.requests.get(second)? as f64 })
    };
    let rate = move |of: &Timeline, second: usize| Some(done(of, second)? / length_s(second));
    let cost = move |of: &Timeline, second: usize| {
        let (cpu_us, done) = (*of.cpu_us.get(second)?, done(of, second)?);
        (done > 0.0).then(|| cpu_us as f64 / done)
    };
    let panels = if has_streams { STREAM_PANELS } else { PANELS };
    let seconds = Seconds { series, styles, drawn, window_s };
    Some(html! {
        @if series.has_latency() {
            (seconds.panel(panels[0], &|values| Axis::logarithmic(panels[0], values.into_iter(), plot::time), &p99))
        }
        (seconds.panel(panels[1], &|values| Axis::linear(panels[1], values.into_iter(), plot::count), &rate))
        (seconds.panel(panels[2], &|values| Axis::linear(panels[2], values.into_iter(), plot::time), &cost))
    })
}

/// What the panels of a window share.
struct Seconds<'a> {
    series: &'a Series,
    styles: &'a [Style],
    drawn: usize,
    window_s: f64,
}

impl Seconds<'_> {
    fn panel(&self, title: &'static str, axis: &dyn Fn(Vec<f64>) -> Axis, value: &dyn Fn(&Timeline, usize) -> Option<f64>) -> Markup {
        let counts = rounds::counted(self.series);
        let blocks: Vec<&Block> = self.series.blocks.iter().filter(|block| counts(block)).collect();
        let column = |block: &Block| (0..self.drawn).map(|second| value(&block.round.tally.timeline, second)).collect::<Vec<_>>();
        let all: Vec<f64> = blocks.iter().flat_map(|block| column(block)).flatten().collect();
        let x = Axis::until("seconds", self.window_s, |value| format!("{value}"));
        let plot = Plot { width: PANEL_WIDTH, height: 210.0, x, y: axis(all) };
        let line =
            |column: &[Option<f64>]| plot.line(column.iter().enumerate().map(|(second, value)| Some((second as f64 + 0.5, (*value)?))));
        let drawing = html! {
            @for style in self.styles.iter().rev() {
                @let columns: Vec<_> = blocks.iter().filter(|block| block.peer == style.peer).map(|block| column(block)).collect();
                @for column in &columns {
                    path class={ "line block " (style.class) } d=(line(column)) {}
                }
                @let middle = |second: usize| statistics::median(&columns.iter().filter_map(|column| column[second]).collect::<Vec<_>>());
                path class={ "line " (style.class) } d=(line(&(0..self.drawn).map(middle).collect::<Vec<_>>())) { title { (style.peer) } }
            }
            @for (second, words) in self.errors() { (plot.foot("error", second as f64 + 0.5, &words)) }
            @for (at_s, what) in self.moments() { (plot.moment(at_s, &what)) }
        };
        plot.picture(title, &drawing)
    }

    /// Seconds with errors, of all blocks: those with errors are not counted, and so have no line.
    fn errors(&self) -> Vec<(usize, String)> {
        let of = |block: &Block, second: usize| block.round.tally.timeline.errors.get(second).copied().unwrap_or(0);
        let told = |peer: &str, second: usize| {
            let errors = self.series.blocks.iter().filter(|block| block.peer == peer).map(|block| of(block, second)).sum::<u64>();
            (errors > 0).then(|| (second, format!("{peer}: {errors} errors in this second, over all blocks")))
        };
        self.series.peers.iter().flat_map(|peer| (0..self.drawn).filter_map(move |second| told(peer, second))).collect()
    }

    /// What was done, once each: rounds repeat it at about the same time.
    fn moments(&self) -> Vec<(f64, String)> {
        let mut moments: Vec<(f64, String)> = Vec::new();
        for event in self.series.blocks.iter().flat_map(|block| &block.round.tally.timeline.events) {
            let is_known = moments.iter().any(|(at_s, what)| *what == event.what && (at_s - event.at_s).abs() < 0.5);
            if !is_known {
                moments.push((event.at_s, event.what.clone()));
            }
        }
        moments
    }
}
