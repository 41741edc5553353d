//! A round second by second: what was answered, how long it took, what it cost, and what happened beside it.

use hdrhistogram::Histogram;
use serde::Deserialize;
use serde::Serialize;

use crate::tally;

/// Length of an interval.
pub const STEP_NS: u64 = 1_000_000_000;
/// A second holds few requests: two digits tell its percentiles to 1 %, in a histogram small enough to keep one per second.
const SIGNIFICANT_DIGITS: u8 = 2;

/// One value per second of the window in each column; the last second may be a shorter one.
///
/// Latency belongs to the second in which a request was due, so that a stall stands where it began; answers and errors to the
/// second in which they came, so that it also shows as a gap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// Good answers.
    pub requests: Vec<u64>,
    pub errors: Vec<u64>,
    /// Of bodies, either way.
    pub bytes: Vec<u64>,
    /// Nothing where no request of that second was answered.
    pub p50_us: Vec<Option<f64>>,
    pub p99_us: Vec<Option<f64>>,
    pub max_us: Vec<Option<f64>>,
    /// CPU time of the proxy; empty where nobody looked.
    pub cpu_us: Vec<u64>,
    /// What was done to the proxy meanwhile, in order of time.
    pub events: Vec<Event>,
}

/// A thing that was done while the load ran: a reload, a batch of changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds from the beginning of the window.
    pub at_s: f64,
    pub what: String,
}

impl Timeline {
    /// Notes what happened at a time of the window.
    pub fn note(&mut self, at_s: f64, what: impl Into<String>) {
        self.events.push(Event { at_s, what: what.into() });
        self.events.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
    }

    /// Fills in CPU time from readings at the borders of the seconds, the first at the beginning of the window.
    pub(crate) fn spend(&mut self, cpu_ns_at_borders: &[u64]) {
        self.cpu_us = cpu_ns_at_borders.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) / 1000).collect();
    }
}

/// Where seconds end within a window, the end of the window included.
pub(crate) fn borders(from_ns: u64, until_ns: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |second| (from_ns + second * STEP_NS).min(until_ns)).take((until_ns - from_ns).div_ceil(STEP_NS) as usize)
}

/// Counts while a round runs.
pub(crate) struct Recorder {
    from_ns: u64,
    until_ns: u64,
    seconds: Vec<Second>,
}

#[derive(Clone)]
struct Second {
    latency: Histogram<u32>,
    requests: u64,
    errors: u64,
    bytes: u64,
}

impl Recorder {
    /// For this window, in nanoseconds of the run's clock.
    pub(crate) fn new(from_ns: u64, until_ns: u64) -> Self {
        let latency = Histogram::new_with_bounds(1, tally::VALUE_MAX, SIGNIFICANT_DIGITS).expect("the bounds are constants in order");
        let second = Second { latency, requests: 0, errors: 0, bytes: 0 };
        Self { from_ns, until_ns, seconds: vec![second; borders(from_ns, until_ns).count()] }
    }

    /// A good answer came.
    pub(crate) fn answer(&mut self, at_ns: u64) {
        if let Some(second) = self.second(at_ns) {
            second.requests += 1;
        }
    }

    /// Bytes of bodies went either way.
    pub(crate) fn bytes(&mut self, at_ns: u64, bytes: u64) {
        if let Some(second) = self.second(at_ns) {
            second.bytes += bytes;
        }
    }

    /// A request of that time has waited so long.
    pub(crate) fn latency(&mut self, at_ns: u64, span_ns: u64) {
        if let Some(second) = self.second(at_ns) {
            second.latency.saturating_record(tally::units(span_ns));
        }
    }

    /// A request failed.
    pub(crate) fn error(&mut self, at_ns: u64) {
        if let Some(second) = self.second(at_ns) {
            second.errors += 1;
        }
    }

    /// What has been counted.
    pub(crate) fn timeline(&self) -> Timeline {
        let quantiles = |quantile: f64| {
            let of =
                |second: &Second| (!second.latency.is_empty()).then(|| tally::microseconds(second.latency.value_at_quantile(quantile)));
            self.seconds.iter().map(of).collect()
        };
        Timeline {
            requests: self.seconds.iter().map(|second| second.requests).collect(),
            errors: self.seconds.iter().map(|second| second.errors).collect(),
            bytes: self.seconds.iter().map(|second| second.bytes).collect(),
            p50_us: quantiles(0.5),
            p99_us: quantiles(0.99),
            max_us: quantiles(1.0),
            cpu_us: Vec::new(),
            events: Vec::new(),
        }
    }

    fn second(&mut self, at_ns: u64) -> Option<&mut Second> {
        if at_ns >= self.until_ns {
            return None;
        }
        self.seconds.get_mut((at_ns.checked_sub(self.from_ns)? / STEP_NS) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = STEP_NS;

    /// A stall stands in the second in which it began, and leaves a gap in the answers of the next.
    #[test]
    fn a_stall_stands_where_it_began() {
        let mut recorder = Recorder::new(S, 4 * S);
        recorder.answer(S + 5);
        recorder.latency(S + 1, 4_000);
        recorder.answer(3 * S + S / 2);
        recorder.latency(S + S / 2, 2 * S);
        let timeline = recorder.timeline();
        assert_eq!(timeline.requests, [1, 0, 1]);
        assert_eq!(timeline.p50_us, [Some(4.0), None, None]);
        let max_us = timeline.max_us[0].unwrap();
        assert!((max_us / 2e6 - 1.0).abs() < 0.01, "{max_us}");
    }

    /// What lies outside of the window is counted nowhere.
    #[test]
    fn nothing_is_counted_outside_of_the_window() {
        let mut recorder = Recorder::new(S, 2 * S + S / 2);
        for at_ns in [0, S - 1, 2 * S + S / 2, 3 * S, u64::MAX] {
            recorder.answer(at_ns);
            recorder.error(at_ns);
        }
        recorder.error(2 * S);
        let timeline = recorder.timeline();
        assert_eq!((timeline.requests, timeline.errors), (vec![0, 0], vec![0, 1]));
    }

    /// Seconds end each second, and with the window.
    #[test]
    fn the_last_second_ends_with_the_window() {
        let table = [(2 * S, vec![3 * S, 4 * S]), (S / 2, vec![2 * S + S / 2]), (S + 1, vec![3 * S, 3 * S + 1]), (0, vec![])];
        for (span_ns, ends_ns) in table {
            assert_eq!(borders(2 * S, 2 * S + span_ns).collect::<Vec<_>>(), ends_ns, "{span_ns}");
        }
    }

    /// Events are kept in order of time; CPU time is that between two readings.
    #[test]
    fn events_and_cost_are_filled_in() {
        let mut timeline = Timeline::default();
        timeline.note(2.5, "reload");
        timeline.note(0.5, "change");
        timeline.spend(&[1_000_000, 3_000_000, 3_500_000]);
        assert_eq!(timeline.events.iter().map(|event| event.what.as_str()).collect::<Vec<_>>(), ["change", "reload"]);
        assert_eq!(timeline.cpu_us, [2000, 500]);
    }
}
