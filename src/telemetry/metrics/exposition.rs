//! The text a scrape gets: Prometheus' own format 0.0.4, or OpenMetrics 1.0.

use std::fmt::Display;
use std::fmt::Write as _;

use crate::telemetry::metrics::cells::BOUNDS;
use crate::telemetry::metrics::cells::Distribution;

/// The text formats a scrape can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    Prometheus,
    OpenMetrics,
}

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Always 1: only the labels tell something.
    Info,
}

/// Names and values of labels, in the order in which they are written.
pub(crate) type Labels<'l> = &'l [(&'l str, &'l str)];

/// A page of metrics while it is written.
pub(crate) struct Page {
    format: Exposition,
    text: String,
}

impl Page {
    pub(crate) fn new(format: Exposition) -> Self {
        Self { format, text: String::with_capacity(64 << 10) }
    }

    /// Begins a metric; its samples must follow before the next one begins. `help` is one line without backslashes and quotes.
    pub(crate) fn metric(&mut self, kind: Kind, name: &'static str, help: &'static str) -> Metric<'_> {
        // OpenMetrics describes a metric without the suffix that its samples have, and has a kind of its own for what never changes.
        let open = self.format == Exposition::OpenMetrics;
        let (kind, suffix) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram => ("histogram", ""),
            Kind::Info if open => ("info", "_info"),
            Kind::Info => ("gauge", ""),
        };
        let described = if open { name.strip_suffix(suffix).unwrap_or(name) } else { name };
        self.write(format_args!("# HELP {described} {help}\n# TYPE {described} {kind}\n"));
        Metric { page: self, name }
    }

    /// The whole page.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Exposition::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a String takes everything");
    }
}

/// One metric of a page.
pub(crate) struct Metric<'p> {
    page: &'p mut Page,
    name: &'static str,
}

impl Metric<'_> {
    /// One sample of a counter or a gauge.
    pub(crate) fn value(&mut self, labels: Labels<'_>, value: impl Display) {
        self.sample("", labels, None, format_args!("{value}"));
    }

    /// One histogram: buckets that contain the smaller ones, sum in seconds, count.
    pub(crate) fn distribution(&mut self, labels: Labels<'_>, distribution: &Distribution) {
        let bounds = BOUNDS.iter().map(|(_, label)| *label).chain(["+Inf"]);
        let mut below = 0;
        for (bound, count) in bounds.zip(distribution.buckets) {
            below += count;
            self.sample("_bucket", labels, Some(bound), format_args!("{below}"));
        }
        let (seconds, micros) = (distribution.sum_us / 1_000_000, distribution.sum_us % 1_000_000);
        self.sample("_sum", labels, None, format_args!("{seconds}.{micros:06}"));
        self.sample("_count", labels, None, format_args!("{below}"));
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: std::fmt::Arguments<'_>) {
        self.page.write(format_args!("{}{suffix}", self.name));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.page.write(format_args!("{separator}{name}=\""));
            push_escaped(&mut self.page.text, value);
            self.page.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.page.text.push('}');
        }
        self.page.write(format_args!(" {value}\n"));
    }
}

/// Both formats escape the same three characters in a label's value.
fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value can neither end its label nor its line.
    #[test]
    fn values_of_labels_are_escaped() {
        let mut page = Page::new(Exposition::Prometheus);
        page.metric(Kind::Gauge, "g", "A gauge.").value(&[("a", "q\"b\\n\nx"), ("b", "")], 1);
        assert_eq!(page.finish(), "# HELP g A gauge.\n# TYPE g gauge\ng{a=\"q\\\"b\\\\n\\nx\",b=\"\"} 1\n");
    }

    /// Only OpenMetrics describes a metric without its suffix and says where the page ends.
    #[test]
    fn the_formats_differ_in_suffixes_and_in_the_end() {
        for (format, want) in [
            (
                Exposition::Prometheus,
                "# HELP c_total C.\n# TYPE c_total counter\nc_total 7\n# HELP i_info I.\n# TYPE i_info gauge\ni_info{a=\"b\"} 1\n",
            ),
            (Exposition::OpenMetrics, "# HELP c C.\n# TYPE c counter\nc_total 7\n# HELP i I.\n# TYPE i info\ni_info{a=\"b\"} 1\n# EOF\n"),
        ] {
            let mut page = Page::new(format);
            page.metric(Kind::Counter, "c_total", "C.").value(&[], 7);
            page.metric(Kind::Info, "i_info", "I.").value(&[("a", "b")], 1);
            assert_eq!(page.finish(), want);
        }
    }

    /// Every bucket holds the smaller ones, the last one all.
    #[test]
    fn buckets_add_up() {
        let mut distribution = Distribution::default();
        distribution.buckets[0] = 2;
        distribution.buckets[3] = 1;
        distribution.buckets[19] = 4;
        distribution.sum_us = 61_000_007;
        let mut page = Page::new(Exposition::Prometheus);
        page.metric(Kind::Histogram, "h", "H.").distribution(&[("a", "b")], &distribution);
        let text = page.finish();
        for line in [
            "h_bucket{a=\"b\",le=\"5e-05\"} 2",
            "h_bucket{a=\"b\",le=\"0.00025\"} 2",
            "h_bucket{a=\"b\",le=\"0.0005\"} 3",
            "h_bucket{a=\"b\",le=\"60.0\"} 3",
            "h_bucket{a=\"b\",le=\"+Inf\"} 7",
            "h_sum{a=\"b\"} 61.000007",
            "h_count{a=\"b\"} 7",
        ] {
            assert!(text.lines().any(|got| got == line), "{line} in {text}");
        }
    }
}
