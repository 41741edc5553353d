//! The charts of a sweep: latency and cost over throughput, with each peer's knee.

use maud::Markup;
use maud::html;

use super::plot;
use super::plot::Axis;
use super::plot::Plot;
use super::style::Style;
use crate::sweep::Ladder;
use crate::sweep::Point;

const WIDTH: f64 = 540.0;
const HEIGHT: f64 = 300.0;

/// What a panel shows of a point.
type Value = fn(&Point) -> Option<f64>;

/// One panel for each percentile and one for the cost, all peers on each; a ring marks the knee.
pub(super) fn panels(ladder: &Ladder, styles: &[Style]) -> Markup {
    let latencies: [(&'static str, Value); 3] =
        [("p50", |point| point.p50_us), ("p99", |point| point.p99_us), ("p99.9", |point| point.p999_us)];
    html! {
        @for (name, value) in latencies {
            (panel(ladder, styles, value, &|values| Axis::logarithmic(name, values.into_iter(), plot::time)))
        }
        (panel(ladder, styles, |point| point.cpu_us, &|values| Axis::linear("CPU time per request", values.into_iter(), plot::time)))
    }
}

fn panel(ladder: &Ladder, styles: &[Style], value: Value, axis: &dyn Fn(Vec<f64>) -> Axis) -> Markup {
    let points = || ladder.curves.iter().flat_map(|curve| &curve.points);
    let x = Axis::linear("answers per second", points().map(|point| point.answered_per_s), plot::count);
    let plot = Plot { width: WIDTH, height: HEIGHT, x, y: axis(points().filter_map(value).collect()) };
    let drawing = html! {
        // The subject last, and so on top.
        @for style in styles.iter().rev() {
            @for curve in ladder.curves.iter().filter(|curve| curve.peer == style.peer) {
                path class={ "line " (style.class) }
                    d=(plot.line(curve.points.iter().map(|point| Some((point.answered_per_s, value(point)?))))) {}
                @for point in &curve.points {
                    @if let Some(y) = value(point) {
                        @let is_knee = curve.knee.is_some_and(|knee| knee.rate_per_s == point.offered_per_s);
                        @let words = format!(
                            "{}: {} at {} per second offered, {:.1} % answered in time{}",
                            curve.peer,
                            plot::time(y),
                            plot::count(point.offered_per_s),
                            point.achieved * 100.0,
                            if is_knee { "; the knee" } else { "" },
                        );
                        (plot.dot(style.class, point.answered_per_s, y, &words))
                        @if is_knee { (plot.ring(style.class, point.answered_per_s, y)) }
                    }
                }
            }
        }
    };
    plot.picture(&format!("{} over throughput", plot.y.title), &drawing)
}
