//! Axes, ticks and lines of a chart, as inline SVG.

use maud::Markup;
use maud::html;

/// Room around the drawing for what is written at the axes, in units of the picture.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;
/// What a tick's text needs.
const TICK_HEIGHT: f64 = 18.0;

/// One direction of a chart.
pub(super) struct Axis {
    pub(super) title: &'static str,
    logarithmic: bool,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From zero to a round number that holds all values.
    pub(super) fn linear(title: &'static str, values: impl Iterator<Item = f64>, write: fn(f64) -> String) -> Self {
        let most = values.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let step = round_up(most / 5.0);
        let count = (most / step).ceil();
        let ticks = (0..=count as u32).map(|tick| f64::from(tick) * step).map(|value| (value, write(value))).collect();
        Self { title, logarithmic: false, low: 0.0, high: step * count, ticks }
    }

    /// From zero to `most` exactly.
    pub(super) fn until(title: &'static str, most: f64, write: fn(f64) -> String) -> Self {
        let mut axis = Self::linear(title, std::iter::once(most), write);
        axis.ticks.retain(|(value, _)| *value <= most * 1.001);
        axis.high = most.max(f64::MIN_POSITIVE);
        axis
    }

    /// Powers of ten, and their double and fivefold where there is room, around all values.
    pub(super) fn logarithmic(title: &'static str, values: impl Iterator<Item = f64> + Clone, write: fn(f64) -> String) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(0.0, f64::max);
        let (low, high) = if least.is_finite() && least > 0.0 { (round_down(least), round_up(most.max(least * 2.0))) } else { (1.0, 10.0) };
        let steps: &[f64] = if high / low <= 300.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let values = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
        let inside = values.filter(|value| (low * 0.999..=high * 1.001).contains(value));
        Self { title, logarithmic: true, low, high, ticks: inside.map(|value| (value, write(value))).collect() }
    }

    /// Percentiles: each step to the right has a tenth of the requests beyond it. `beyond_max` is the largest 1/(1-p).
    pub(super) fn percentiles(beyond_max: f64) -> Self {
        let names = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
        let half = std::iter::once((2.0, "50 %".to_owned()));
        let ticks = names.iter().enumerate().map(|(place, name)| (10_f64.powi(place as i32), (*name).to_owned()));
        Self {
            title: "percentile, by 1/(1−p)",
            logarithmic: true,
            low: 1.0,
            high: beyond_max.max(10.0),
            ticks: ticks.chain(half).filter(|(value, _)| *value <= beyond_max.max(10.0)).collect(),
        }
    }

    /// Where a value lies, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A chart's area with its two axes.
pub(super) struct Plot {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

impl Plot {
    /// The whole picture, with `drawing` between the axes; `label` says what it shows to those who do not see it.
    pub(super) fn picture(&self, label: &str, drawing: &Markup) -> Markup {
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        html! {
            svg viewBox=(format!("0 0 {} {}", self.width, self.height)) role="img" aria-label=(label) {
                @for (value, text) in &self.x.ticks {
                    @let x = short(self.x_of(*value));
                    line class="grid" x1=(x) x2=(x) y1=(TOP) y2=(bottom) {}
                    text class="tick" x=(x) y=(bottom + 16.0) text-anchor="middle" { (text) }
                }
                @for (y, text) in self.heights() {
                    line class="grid" x1=(LEFT) x2=(right) y1=(short(y)) y2=(short(y)) {}
                    text class="tick" x=(LEFT - 7.0) y=(short(y + 4.0)) text-anchor="end" { (text) }
                }
                line class="axis" x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
                (drawing)
                text class="name" x=(right) y=(self.height - 6.0) text-anchor="end" { (self.x.title) }
                text class="name" x=(LEFT) y=(TOP - 11.0) { (self.y.title) }
            }
        }
    }

    /// Where the ticks of the upright axis lie, from below; those too near to the one before are left out.
    fn heights(&self) -> Vec<(f64, &str)> {
        let mut heights: Vec<(f64, &str)> = Vec::new();
        for (value, text) in &self.y.ticks {
            let y = self.y_of(*value);
            if heights.last().is_none_or(|(below, _)| below - y >= TICK_HEIGHT) {
                heights.push((y, text));
            }
        }
        heights
    }

    /// A line through the points, broken where one is missing.
    pub(super) fn line(&self, points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
        let mut path = String::new();
        let mut pen_is_down = false;
        for point in points {
            if let Some((x, y)) = point {
                path.push(if pen_is_down { 'L' } else { 'M' });
                path += &format!("{} {}", short(self.x_of(x)), short(self.y_of(y)));
            }
            pen_is_down = point.is_some();
        }
        path
    }

    /// A point with words that appear under the pointer.
    pub(super) fn dot(&self, class: &str, x: f64, y: f64, words: &str) -> Markup {
        html! {
            circle class=(class) cx=(short(self.x_of(x))) cy=(short(self.y_of(y))) r="3.2" { title { (words) } }
        }
    }

    /// A mark on the lower axis, with words that appear under the pointer.
    pub(super) fn foot(&self, class: &str, x: f64, words: &str) -> Markup {
        html! {
            circle class=(class) cx=(short(self.x_of(x))) cy=(self.height - BOTTOM) r="4" { title { (words) } }
        }
    }

    /// A circle around a point that means more than its neighbours.
    pub(super) fn ring(&self, class: &str, x: f64, y: f64) -> Markup {
        html! { circle class={ "ring " (class) } cx=(short(self.x_of(x))) cy=(short(self.y_of(y))) r="8" {} }
    }

    /// A moment of which the chart tells, from top to bottom.
    pub(super) fn moment(&self, x: f64, words: &str) -> Markup {
        let at = short(self.x_of(x));
        html! {
            line class="moment" x1=(at) x2=(at) y1=(TOP) y2=(self.height - BOTTOM) { title { (words) } }
            text class="moment" x=(at) y=(TOP + 11.0) dx="4" { (words) }
        }
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (self.width - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        self.height - BOTTOM - self.y.share(value) * (self.height - TOP - BOTTOM)
    }
}

/// A coordinate without digits that nobody sees.
pub(super) fn short(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A time with its unit.
pub(super) fn time(value_us: f64) -> String {
    let trimmed = |value: f64| format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned();
    match value_us {
        0.0 => "0".to_owned(),
        short if short < 1e3 => trimmed(short) + " µs",
        middle if middle < 1e6 => trimmed(middle / 1e3) + " ms",
        long => trimmed(long / 1e6) + " s",
    }
}

/// A count, in thousands and millions where it is large.
pub(super) fn count(value: f64) -> String {
    let (value, unit) = match value {
        few if few < 1e4 => (few, ""),
        many if many < 1e6 => (many / 1e3, " k"),
        more => (more / 1e6, " M"),
    };
    format!("{value:.1}").trim_end_matches(".0").to_owned() + unit
}

/// The next larger number of 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.map(|step| step * power).into_iter().find(|round| *round >= value * 0.999_999).unwrap_or(value)
}

/// The next smaller one.
fn round_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [5.0, 2.0, 1.0];
    steps.map(|step| step * power).into_iter().find(|round| *round <= value * 1.000_001).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An axis ends at round numbers, and all values lie between its ends.
    #[test]
    fn an_axis_is_round_and_holds_everything() {
        let table = [(0.0, 2.0), (3.0, 4.0), (9.99, 10.0), (74_000.0, 80_000.0)];
        for (most, _) in table {
            let axis = Axis::linear("", [0.0, most].into_iter(), count);
            assert!(axis.high >= most && axis.ticks.len() <= 7 && axis.ticks.len() >= 2, "{most}: {:?}", axis.ticks);
        }
        let axis = Axis::logarithmic("", [53.0, 4016.0].into_iter(), time);
        assert_eq!((axis.low, axis.high), (50.0, 5000.0));
        let names: Vec<&str> = axis.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["50 µs", "100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]);
    }

    /// Nothing that is drawn has a coordinate that is no number, not even without values.
    #[test]
    fn nothing_is_drawn_nowhere() {
        for values in [vec![], vec![0.0], vec![7.0, 7.0]] {
            let x = Axis::linear("", values.iter().copied(), count);
            let y = Axis::logarithmic("", values.iter().copied(), time);
            let plot = Plot { width: 300.0, height: 200.0, x, y };
            let line = plot.line(values.iter().map(|value| Some((*value, *value))));
            let picture = plot.picture("", &html! { (plot.dot("s0", 0.0, 0.0, "")) path d=(line) {} }).into_string();
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{values:?}: {picture}");
        }
    }

    /// A line is broken where a value is missing, not drawn through.
    #[test]
    fn a_gap_is_a_gap() {
        let axis = || Axis::linear("", [1.0].into_iter(), count);
        let plot = Plot { width: 176.0, height: 168.0, x: axis(), y: axis() };
        let path = plot.line([Some((0.0, 0.0)), Some((0.5, 1.0)), None, Some((1.0, 0.0))].into_iter());
        assert_eq!(path, "M62 126L112 26M162 126");
    }

    /// Times and counts are written as people say them.
    #[test]
    fn numbers_are_written_for_people() {
        let times = [(0.0, "0"), (0.5, "0.5 µs"), (68.0, "68 µs"), (1500.0, "1.5 ms"), (2e6, "2 s")];
        for (value_us, text) in times {
            assert_eq!(time(value_us), text);
        }
        for (value, text) in [(0.0, "0"), (4000.0, "4000"), (12_500.0, "12.5 k"), (2e6, "2 M")] {
            assert_eq!(count(value), text);
        }
    }
}
