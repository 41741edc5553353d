//! Every metric there is: its name, its labels, and where its numbers come from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::metrics::cells::Distribution;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::cells::Histogram;
use crate::telemetry::metrics::cells::Labelled;
use crate::telemetry::metrics::exposition::Exposition;
use crate::telemetry::metrics::exposition::Kind;
use crate::telemetry::metrics::exposition::Metric;
use crate::telemetry::metrics::exposition::Page;
use crate::telemetry::metrics::shard::CODE_CLASSES;
use crate::telemetry::metrics::shard::ConnectionState;
use crate::telemetry::metrics::shard::Protocol;
use crate::telemetry::metrics::shard::RingCells;
use crate::telemetry::metrics::shard::SeriesCells;
use crate::telemetry::metrics::shard::ShardMetrics;

/// Endpoints shown one by one; the rest is shown as one.
const ENDPOINTS_MAX: usize = 10_000;

/// Who a request was served for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesLabels {
    pub namespace: Arc<str>,
    pub ingress: Arc<str>,
    pub service: Arc<str>,
}

impl SeriesLabels {
    /// The same word in all three places.
    pub(crate) fn all(word: &str) -> Self {
        let word: Arc<str> = word.into();
        Self { namespace: word.clone(), ingress: word.clone(), service: word }
    }
}

/// What active checks say of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// `namespace/service:port`.
    pub service: Arc<str>,
    pub endpoint: SocketAddr,
    pub healthy: bool,
}

/// All numbers at one moment.
pub(crate) struct View<'r> {
    pub(crate) shards: &'r [Arc<ShardMetrics>],
    pub(crate) listeners: &'r [String],
    /// By number of series.
    pub(crate) labels: &'r [SeriesLabels],
    pub(crate) propagation: &'r Histogram,
    /// Info, warning, error.
    pub(crate) findings: [i64; 3],
    /// `None` before the sources were current for the first time.
    pub(crate) config_age: Option<Duration>,
    pub(crate) upstreams: Vec<EndpointHealth>,
}

impl View<'_> {
    pub(crate) fn render(self, format: Exposition) -> String {
        let mut page = Page::new(format);
        self.requests(&mut page);
        self.durations(&mut page);
        self.refusals(&mut page);
        self.connections(&mut page);
        self.handshakes(&mut page);
        self.upstream(&mut page);
        self.configuration(&mut page);
        self.shards(&mut page);
        self.rings(&mut page);
        self.process(&mut page);
        page.finish()
    }

    fn requests(&self, page: &mut Page) {
        let mut metric = page.metric(Kind::Counter, "corelane_requests_total", "Requests that ended, by status class.");
        for (number, labels) in self.labels.iter().enumerate() {
            for protocol in Protocol::ALL {
                let counts = self.requests_of(number, protocol);
                // A series without requests is left out: most rules never see HTTP/2 or a tunnel.
                if counts.iter().all(|count| *count == 0) {
                    continue;
                }
                for (class, count) in CODE_CLASSES.iter().zip(counts) {
                    metric.value(&with(labels, &[("code_class", class), ("protocol", protocol.label())]), count);
                }
            }
        }
    }

    fn requests_of(&self, series: usize, protocol: Protocol) -> [u64; CODE_CLASSES.len()] {
        let mut sums = [0; CODE_CLASSES.len()];
        for cells in self.cells_of(series) {
            for (sum, count) in sums.iter_mut().zip(&cells.requests[protocol as usize]) {
                *sum += count.get();
            }
        }
        sums
    }

    fn durations(&self, page: &mut Page) {
        let mut metric = page.metric(
            Kind::Histogram,
            "corelane_request_duration_seconds",
            "From the first byte of the request to the last byte of the response.",
        );
        for (number, labels) in self.labels.iter().enumerate() {
            for protocol in Protocol::ALL {
                let sum = self.cells_of(number).map(|cells| &cells.duration[protocol as usize]).collect();
                distribution(&mut metric, labels, &[("protocol", protocol.label())], &sum);
            }
        }
        let mut metric = page.metric(
            Kind::Histogram,
            "corelane_upstream_duration_seconds",
            "From the first byte to the upstream to the last byte from it, the last try of a request.",
        );
        for (number, labels) in self.labels.iter().enumerate() {
            distribution(&mut metric, labels, &[], &self.cells_of(number).map(|cells| &cells.upstream).collect());
        }
        let mut metric = page.metric(
            Kind::Histogram,
            "corelane_added_latency_seconds",
            "Time of forwarded requests spent in Corelane itself: request duration less upstream duration.",
        );
        for (number, labels) in self.labels.iter().enumerate() {
            distribution(&mut metric, labels, &[], &self.cells_of(number).map(|cells| &cells.added).collect());
        }
    }

    fn cells_of(&self, series: usize) -> impl Iterator<Item = &SeriesCells> {
        self.shards.iter().filter_map(move |shard| shard.series(series as u32))
    }

    fn refusals(&self, page: &mut Page) {
        let metric = page.metric(
            Kind::Counter,
            "corelane_rejected_requests_total",
            "Requests and connections that Corelane answered or closed by itself, by reason.",
        );
        self.by_reason(metric, |shard| &shard.rejected);
        let metric = page.metric(Kind::Counter, "corelane_retries_total", "Tries on another endpoint after a failed one, by reason.");
        self.by_reason(metric, |shard| &shard.retried);
    }

    fn by_reason(&self, mut metric: Metric<'_>, table: impl Fn(&ShardMetrics) -> &Labelled<&'static str>) {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for shard in self.shards {
            let table = table(shard);
            for (reason, count) in table.counts().chain([("overflow", table.overflow())]) {
                *sums.entry(reason).or_default() += count;
            }
        }
        for (reason, count) in sums.into_iter().filter(|(_, count)| *count > 0) {
            metric.value(&[("reason", reason)], count);
        }
    }

    fn connections(&self, page: &mut Page) {
        let mut metric = page.metric(Kind::Gauge, "corelane_connections", "Downstream connections, by what they are doing.");
        for (index, shard) in self.shards.iter().enumerate() {
            let index = index.to_string();
            for (listener, cells) in self.listeners.iter().zip(&shard.connections) {
                for (state, count) in ConnectionState::ALL.iter().zip(&cells.0) {
                    metric.value(&[("shard", &index), ("listener", listener), ("state", state.label())], count.get());
                }
            }
        }
    }

    fn handshakes(&self, page: &mut Page) {
        let mut sums: BTreeMap<(&str, &str, bool), u64> = BTreeMap::new();
        for table in self.shards.iter().map(|shard| &shard.handshakes) {
            for (labels, count) in table.counts().chain([(("overflow", "", false), table.overflow())]) {
                *sums.entry(labels).or_default() += count;
            }
        }
        let mut metric = page.metric(Kind::Counter, "corelane_tls_handshakes_total", "TLS handshakes with clients, by how they ended.");
        for ((result, version, resumed), count) in sums.into_iter().filter(|(_, count)| *count > 0) {
            let resumed = if resumed { "true" } else { "false" };
            metric.value(&[("result", result), ("version", version), ("resumed", resumed)], count);
        }
        page.metric(Kind::Histogram, "corelane_tls_handshake_duration_seconds", "Duration of TLS handshakes that succeeded.")
            .distribution(&[], &self.shards.iter().map(|shard| &shard.handshake_duration).collect());
    }

    fn upstream(&self, page: &mut Page) {
        let opened: u64 = self.shards.iter().map(|shard| shard.upstream_connections_opened.get()).sum();
        page.metric(Kind::Counter, "corelane_upstream_connections_opened_total", "Connections opened to endpoints.").value(&[], opened);
        let in_flight: i64 = self.shards.iter().map(|shard| shard.upstream_in_flight.get()).sum();
        page.metric(Kind::Gauge, "corelane_upstream_requests_in_flight", "Requests sent to endpoints and not yet answered whole.")
            .value(&[], in_flight);
        let mut healthy: BTreeMap<(&str, SocketAddr), bool> = BTreeMap::new();
        for health in &self.upstreams {
            // Two clusters of one Service may be checked in different ways: one bad word is enough to look.
            *healthy.entry((&health.service, health.endpoint)).or_insert(true) &= health.healthy;
        }
        let mut metric =
            page.metric(Kind::Gauge, "corelane_upstream_healthy", "Whether active checks find an endpoint healthy (1) or not (0).");
        for ((service, endpoint), healthy) in healthy.iter().take(ENDPOINTS_MAX) {
            metric.value(&[("service", service), ("endpoint", &endpoint.to_string())], u8::from(*healthy));
        }
        if healthy.len() > ENDPOINTS_MAX {
            let rest = healthy.values().skip(ENDPOINTS_MAX).all(|healthy| *healthy);
            metric.value(&[("service", "overflow"), ("endpoint", "overflow")], u8::from(rest));
        }
    }

    fn configuration(&self, page: &mut Page) {
        page.metric(
            Kind::Histogram,
            "corelane_config_propagation_seconds",
            "From the event of an object to the moment when every shard served its change.",
        )
        .distribution(&[], &[self.propagation].into_iter().collect());
        let mut metric = page.metric(Kind::Gauge, "corelane_config_findings", "Findings about objects, by severity.");
        for (severity, count) in ["info", "warning", "error"].into_iter().zip(self.findings) {
            metric.value(&[("severity", severity)], count);
        }
        let mut metric = page.metric(Kind::Gauge, "corelane_config_age_seconds", "Time since every source of objects was last current.");
        if let Some(age) = self.config_age {
            metric.value(&[], format_args!("{}.{:03}", age.as_secs(), age.subsec_millis()));
        }
    }

    fn shards(&self, page: &mut Page) {
        let mut metric = page.metric(Kind::Gauge, "corelane_shard_up", "1 while a shard runs, 0 when it has ended.");
        for (index, shard) in self.shards.iter().enumerate() {
            metric.value(&[("shard", &index.to_string())], shard.up.get());
        }
        let mut metric = page.metric(Kind::Gauge, "corelane_snapshot_version", "The snapshot that a shard serves; 0 before its first.");
        for (index, shard) in self.shards.iter().enumerate() {
            metric.value(&[("shard", &index.to_string())], shard.snapshot_version.get());
        }
        page.metric(
            Kind::Histogram,
            "corelane_shard_loop_lag_seconds",
            "The longest turn of the loop of a shard in each tenth of a second.",
        )
        .distribution(&[], &self.shards.iter().map(|shard| &shard.loop_lag).collect());
        let mut metric = page.metric(Kind::Gauge, "corelane_shard_busy_ratio", "Share of the last seconds in which a shard was awake.");
        for (index, shard) in self.shards.iter().enumerate() {
            metric.value(&[("shard", &index.to_string())], shard.busy_ppm.get() as f64 / 1e6);
        }
    }

    fn rings(&self, page: &mut Page) {
        self.of_rings(page, Kind::Counter, "corelane_ring_enters_total", "System calls into the io_uring of a shard.", |ring| &ring.enters);
        let help = "Operations that a shard has asked its io_uring for.";
        self.of_rings(page, Kind::Counter, "corelane_ring_submissions_total", help, |ring| &ring.submissions);
        let help = "Completions that a shard has got from its io_uring.";
        self.of_rings(page, Kind::Counter, "corelane_ring_completions_total", help, |ring| &ring.completions);
        let help = "Times a socket of a shard had to wait for a receive buffer.";
        self.of_rings(page, Kind::Counter, "corelane_ring_starved_total", help, |ring| &ring.starved);
        let help = "Tasks of a shard that ended by a panic, each with its connection.";
        self.of_rings(page, Kind::Counter, "corelane_task_panics_total", help, |ring| &ring.panics);
        self.of_rings(page, Kind::Gauge, "corelane_ring_sockets", "Sockets of clients and endpoints on a shard.", |ring| &ring.sockets);
        let help = "Receive buffers of a shard that hold bytes not yet read or sent.";
        self.of_rings(page, Kind::Gauge, "corelane_ring_buffers_lent", help, |ring| &ring.buffers_lent);
    }

    fn of_rings(&self, page: &mut Page, kind: Kind, name: &'static str, help: &'static str, cell: impl Fn(&RingCells) -> &Gauge) {
        let mut metric = page.metric(kind, name, help);
        for (index, shard) in self.shards.iter().enumerate() {
            metric.value(&[("shard", &index.to_string())], cell(&shard.ring).get());
        }
    }

    fn process(&self, page: &mut Page) {
        let dropped: u64 = self.shards.iter().map(|shard| shard.access_log_dropped.get()).sum();
        page.metric(Kind::Counter, "corelane_access_log_dropped_total", "Lines of the access log that were lost.").value(&[], dropped);
        page.metric(Kind::Info, "corelane_build_info", "Always 1; the labels say what is running.")
            .value(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    }
}

/// Writes a histogram of a series, unless nothing was counted in it.
fn distribution(metric: &mut Metric<'_>, labels: &SeriesLabels, more: &[(&str, &str)], sum: &Distribution) {
    if sum.count() > 0 {
        metric.distribution(&with(labels, more), sum);
    }
}

/// The labels of a series with `more` after them.
fn with<'l>(labels: &'l SeriesLabels, more: &[(&'l str, &'l str)]) -> Vec<(&'l str, &'l str)> {
    let own = [("namespace", &*labels.namespace), ("ingress", &*labels.ingress), ("service", &*labels.service)];
    own.into_iter().chain(more.iter().copied()).collect()
}
