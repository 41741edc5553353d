//! What one round has counted: histograms, errors, and whether the driver kept its own schedule.

use std::io;

use hdrhistogram::Histogram;
use rustls::HandshakeKind;
use serde::Deserialize;
use serde::Serialize;

use crate::timeline::Timeline;
use crate::wire::Wrong;

/// Nanoseconds of one histogram unit.
pub const UNIT_NS: u64 = 100;
/// The longest time told apart, in units: one minute.
pub(crate) const VALUE_MAX: u64 = 60_000_000_000 / UNIT_NS;
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of times; all of a run are alike, so that they can be added.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, VALUE_MAX, SIGNIFICANT_DIGITS).expect("the bounds are constants in order")
}

/// The value at a quantile in microseconds.
pub fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    microseconds(histogram.value_at_quantile(quantile))
}

/// A histogram's value in microseconds.
pub(crate) fn microseconds(units: u64) -> f64 {
    units as f64 * UNIT_NS as f64 / 1000.0
}

/// A span in units of a histogram, one at least.
pub(crate) fn units(span_ns: u64) -> u64 {
    (span_ns / UNIT_NS).max(1)
}

/// Responses that were not the one expected, by what was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Another status than 200.
    pub status: u64,
    /// Right status, wrong head, length or body.
    pub content: u64,
    /// The connection ended or failed before the whole answer.
    pub broken: u64,
    /// No answer until the end of the round.
    pub timeout: u64,
    /// No connection to send on.
    pub connect: u64,
}

impl Errors {
    pub fn total(&self) -> u64 {
        self.status + self.content + self.broken + self.timeout + self.connect
    }

    pub(crate) fn count(&mut self, failure: &Failure) {
        match failure {
            Failure::Response(Wrong::Status(_)) => self.status += 1,
            Failure::Response(_) => self.content += 1,
            Failure::Broken => self.broken += 1,
            Failure::Connect(_) => self.connect += 1,
        }
    }
}

/// TLS handshakes by how they went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshakes {
    /// With certificate and signature.
    pub full: u64,
    /// With a ticket in their place.
    pub resumed: u64,
}

impl Handshakes {
    pub(crate) fn count(&mut self, kind: HandshakeKind) {
        match kind {
            HandshakeKind::Resumed => self.resumed += 1,
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => self.full += 1,
        }
    }

    /// The part that was resumed; `None` where there were none.
    pub fn resumed_share(self) -> Option<f64> {
        let all = self.full + self.resumed;
        (all > 0).then(|| self.resumed as f64 / all as f64)
    }
}

/// Why a request or a connection came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    Connect(io::Error),
    Broken,
    Response(Wrong),
}

/// The counts of one round's window.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Completion minus intended start: what a user waits.
    pub latency: Histogram<u64>,
    /// Completion minus actual send: what the proxy and the upstream took.
    pub service: Histogram<u64>,
    /// Actual dispatch minus intended start: what the driver itself was late.
    pub lateness: Histogram<u64>,
    /// From the client's send until the upstream has read the request.
    pub request_leg: Histogram<u64>,
    /// From there until the client has read the whole response.
    pub response_leg: Histogram<u64>,
    /// From the intended start until the first byte of the response, of open loads and of responses that are streams.
    pub first_byte: Histogram<u64>,
    /// Requests that were due in the window.
    pub planned: u64,
    /// Of these, requests handed to a connection.
    pub sent: u64,
    /// Good responses that arrived within the window, whenever they were due.
    pub completed: u64,
    /// Bytes of bodies that went either way within the window.
    pub body_bytes: u64,
    /// Responses that paced readers had begun and the end of the round has cut; they count as nothing else.
    pub unfinished: u64,
    pub errors: Errors,
    /// The latest status that was not 200.
    pub last_status: Option<u16>,
    /// Of a start: answers that were not the right ones although the proxy had said that it was ready.
    pub early: u64,
    /// TLS handshakes that ended within the window.
    pub handshakes: Handshakes,
    /// The same window second by second.
    pub timeline: Timeline,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: histogram(),
            service: histogram(),
            lateness: histogram(),
            request_leg: histogram(),
            response_leg: histogram(),
            first_byte: histogram(),
            planned: 0,
            sent: 0,
            completed: 0,
            body_bytes: 0,
            unfinished: 0,
            errors: Errors::default(),
            last_status: None,
            early: 0,
            handshakes: Handshakes::default(),
            timeline: Timeline::default(),
        }
    }
}

/// Adds a span of nanoseconds to a histogram; longer than a minute counts as a minute.
pub(crate) fn record(histogram: &mut Histogram<u64>, span_ns: u64) {
    histogram.saturating_record(units(span_ns));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recorded time is read back in microseconds to three digits.
    #[test]
    fn a_time_is_read_back_in_microseconds() {
        let mut times = histogram();
        for span_us in [1_u64, 86, 1014, 60_000_000] {
            times.clear();
            record(&mut times, span_us * 1000);
            let read = quantile_us(&times, 1.0);
            assert!((read / span_us as f64 - 1.0).abs() < 0.001, "{span_us} became {read}");
        }
    }

    /// Nothing that is recorded is lost, not even what lies outside the bounds.
    #[test]
    fn a_time_out_of_bounds_is_counted_at_the_bound() {
        let mut times = histogram();
        record(&mut times, 0);
        record(&mut times, u64::MAX);
        assert_eq!(times.len(), 2);
    }
}
