//! Counters, gauges and histograms: one writer per shard, any reader.
//!
//! Every cell is an atomic with one writer, so that an increment is a plain load and store; the scrape reads all shards' cells
//! and adds them up. Labels come from objects, never from requests, and the number of series is bounded.

#![expect(clippy::disallowed_types, reason = "control posts and admin reads under a lock; a shard meets nothing but its own cells")]

mod cells;
mod exposition;
mod render;
mod shard;

pub use crate::telemetry::metrics::exposition::Exposition;
pub use crate::telemetry::metrics::render::EndpointHealth;
pub use crate::telemetry::metrics::render::SeriesLabels;
pub use crate::telemetry::metrics::shard::ConnectionState;
pub use crate::telemetry::metrics::shard::HandshakeSample;
pub use crate::telemetry::metrics::shard::Protocol;
pub use crate::telemetry::metrics::shard::RequestSample;
pub use crate::telemetry::metrics::shard::RingSample;
pub use crate::telemetry::metrics::shard::ShardMetrics;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::cells::Histogram;
use crate::telemetry::metrics::render::View;
use crate::telemetry::metrics::shard::OVERFLOW;
use crate::telemetry::metrics::shard::SERIES_MAX;

/// Every counter of the process.
#[derive(Debug)]
pub struct Registry {
    shards: Vec<Arc<ShardMetrics>>,
    listeners: Vec<String>,
    series: Mutex<SeriesBook>,
    propagation: Histogram,
    /// Info, warning, error.
    findings: [Gauge; 3],
    current_at: Mutex<Option<Instant>>,
    upstreams: Mutex<Vec<EndpointHealth>>,
}

/// Which number belongs to which labels.
#[derive(Debug)]
struct SeriesBook {
    numbers: HashMap<SeriesLabels, u32>,
    /// By number; the first two are reserved.
    labels: Vec<SeriesLabels>,
}

impl Default for SeriesBook {
    fn default() -> Self {
        let unmatched = SeriesLabels::all("");
        Self { numbers: HashMap::from([(unmatched.clone(), shard::UNMATCHED)]), labels: vec![unmatched, SeriesLabels::all("overflow")] }
    }
}

impl Registry {
    /// A registry for this many shards and these listeners (`http/0.0.0.0:80`), both fixed for the life of the process.
    pub fn new(shards: usize, listeners: &[String]) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::new(ShardMetrics::new(listeners.len()))).collect(),
            listeners: listeners.to_vec(),
            series: Mutex::default(),
            propagation: Histogram::default(),
            findings: Default::default(),
            current_at: Mutex::default(),
            upstreams: Mutex::default(),
        }
    }

    /// The counters of one shard.
    pub fn shard(&self, index: usize) -> &Arc<ShardMetrics> {
        &self.shards[index]
    }

    /// The number of the series with these labels; called by control only, before it publishes a snapshot that names the number.
    ///
    /// Numbers are never given back: over the limit every new one is the overflow series, until the process starts again.
    pub fn intern(&self, labels: &SeriesLabels) -> u32 {
        let mut book = lock(&self.series);
        if let Some(number) = book.numbers.get(labels) {
            return *number;
        }
        if book.labels.len() >= SERIES_MAX {
            return OVERFLOW;
        }
        let number = book.labels.len() as u32;
        for shard in &self.shards {
            shard.make_room(number);
        }
        book.numbers.insert(labels.clone(), number);
        book.labels.push(labels.clone());
        number
    }

    /// A change became effective on every shard this long after its object event; called by control only.
    pub fn propagated(&self, delay: Duration) {
        self.propagation.observe(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many findings of each severity there are now.
    pub fn findings(&self, info: usize, warning: usize, error: usize) {
        for (gauge, count) in self.findings.iter().zip([info, warning, error]) {
            gauge.set(count as i64);
        }
    }

    /// Every source was current at this moment: the age of the configuration counts from here.
    pub fn config_current(&self, at: Instant) {
        *lock(&self.current_at) = Some(at);
    }

    /// The endpoints of every cluster with what active checks say of them; replaces what was said before.
    pub fn upstreams(&self, endpoints: Vec<EndpointHealth>) {
        *lock(&self.upstreams) = endpoints;
    }

    /// Everything as Prometheus text, or as OpenMetrics.
    #[expect(clippy::disallowed_methods, reason = "a scrape asks how old the configuration is now")]
    pub fn render(&self, format: Exposition) -> String {
        self.render_at(format, Instant::now())
    }

    fn render_at(&self, format: Exposition, now: Instant) -> String {
        let labels = lock(&self.series).labels.clone();
        let upstreams = lock(&self.upstreams).clone();
        let config_age = lock(&self.current_at).map(|at| now.saturating_duration_since(at));
        let view = View {
            shards: &self.shards,
            listeners: &self.listeners,
            labels: &labels,
            propagation: &self.propagation,
            findings: self.findings.each_ref().map(Gauge::get),
            config_age,
            upstreams,
        };
        view.render(format)
    }
}

/// A panic elsewhere leaves nothing half-written here: each lock guards one replacement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use super::*;

    fn labels(namespace: &str, ingress: &str, service: &str) -> SeriesLabels {
        SeriesLabels { namespace: namespace.into(), ingress: ingress.into(), service: service.into() }
    }

    fn sample(series: u32, status: u16, duration_us: u64, upstream_us: Option<u64>) -> RequestSample {
        RequestSample { series, status, protocol: Protocol::Http1, duration_us, upstream_us }
    }

    /// Reads a page as a scraper does: names with labels to values. Every sample must stand below the metric it belongs to.
    fn parse(page: &str) -> BTreeMap<String, f64> {
        let mut samples = BTreeMap::new();
        let mut described = BTreeSet::new();
        let mut metric = String::new();
        for line in page.lines().filter(|line| *line != "# EOF") {
            if let Some(description) = line.strip_prefix("# HELP ") {
                metric = description.split(' ').next().expect("a name").to_owned();
                assert!(described.insert(metric.clone()), "{metric} is described twice");
                assert!(description.len() > metric.len() + 1, "{metric} has no help");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                assert!(kind.starts_with(&format!("{metric} ")), "{line} below {metric}");
            } else {
                let (name, value) = line.rsplit_once(' ').expect("a name and a value");
                let suffix = name.split('{').next().and_then(|name| name.strip_prefix(&metric)).expect("a sample of this metric");
                assert!(["", "_total", "_info", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                assert!(samples.insert(name.to_owned(), value.parse().expect("a number")).is_none(), "{name} is given twice");
            }
        }
        samples
    }

    fn scrape(registry: &Registry) -> BTreeMap<String, f64> {
        parse(&registry.render(Exposition::Prometheus))
    }

    /// One number of the page is the sum of what every shard counted.
    #[test]
    fn shards_are_added_up() {
        let registry = Registry::new(3, &["http/0.0.0.0:80".to_owned()]);
        let series = registry.intern(&labels("shop", "web", "cart"));
        for (index, status) in [(0, 200), (1, 204), (2, 503), (2, 200)] {
            registry.shard(index).request(&sample(series, status, 3_000, Some(2_000)));
            registry.shard(index).rejected("rate_limited");
            registry.shard(index).access_log_dropped(5);
        }
        registry.shard(1).request(&sample(0, 0, 10, None));
        registry.shard(1).upstream_in_flight(2);
        registry.shard(2).upstream_in_flight(-1);
        let samples = scrape(&registry);
        let of = "namespace=\"shop\",ingress=\"web\",service=\"cart\"";
        for (name, want) in [
            (format!("corelane_requests_total{{{of},code_class=\"2xx\",protocol=\"http/1.1\"}}"), 3.0),
            (format!("corelane_requests_total{{{of},code_class=\"5xx\",protocol=\"http/1.1\"}}"), 1.0),
            (format!("corelane_requests_total{{{of},code_class=\"4xx\",protocol=\"http/1.1\"}}"), 0.0),
            (r#"corelane_requests_total{namespace="",ingress="",service="",code_class="none",protocol="http/1.1"}"#.to_owned(), 1.0),
            (format!("corelane_request_duration_seconds_count{{{of},protocol=\"http/1.1\"}}"), 4.0),
            (format!("corelane_request_duration_seconds_sum{{{of},protocol=\"http/1.1\"}}"), 0.012),
            (format!("corelane_upstream_duration_seconds_bucket{{{of},le=\"0.0025\"}}"), 4.0),
            (format!("corelane_added_latency_seconds_bucket{{{of},le=\"0.0005\"}}"), 0.0),
            (format!("corelane_added_latency_seconds_bucket{{{of},le=\"0.001\"}}"), 4.0),
            ("corelane_rejected_requests_total{reason=\"rate_limited\"}".to_owned(), 4.0),
            ("corelane_access_log_dropped_total".to_owned(), 20.0),
            ("corelane_upstream_requests_in_flight".to_owned(), 1.0),
        ] {
            assert_eq!(samples.get(&name), Some(&want), "{name} in {samples:#?}");
        }
        // No upstream was asked for the unmatched request, and nobody spoke HTTP/2.
        assert!(!samples.keys().any(|name| name.starts_with("corelane_added_latency_seconds_count{namespace=\"\"")));
        assert!(!samples.keys().any(|name| name.contains("http/2")));
    }

    /// Both formats can be read as a whole, and every metric of the user's surface is there.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "some moment to count from")]
    fn every_metric_is_on_both_pages() {
        let registry = Registry::new(2, &["http/0.0.0.0:80".to_owned(), "https/[::]:443".to_owned()]);
        let shard = registry.shard(1);
        shard.request(&sample(registry.intern(&labels("a", "b", "c")), 200, 10, Some(5)));
        shard.rejected("no_route");
        shard.retried("connect_failed");
        shard.connection(1, ConnectionState::Tunnel, 1);
        shard.handshake(&HandshakeSample { result: "ok", version: "TLSv1.3", resumed: true, duration_us: 800 });
        shard.upstream_connection_opened();
        shard.snapshot_version(7);
        shard.loop_turn(10, 90);
        shard.loop_lag(120);
        shard.ring(&RingSample { enters: 11, submissions: 12, completions: 13, starved: 14, panics: 17, sockets: 15, buffers_lent: 16 });
        shard.up(true);
        registry.propagated(Duration::from_millis(12));
        registry.findings(1, 2, 3);
        registry.upstreams(vec![EndpointHealth { service: "a/c:80".into(), endpoint: ([10, 0, 0, 1], 80).into(), healthy: true }]);
        let start = Instant::now();
        registry.config_current(start);
        for format in [Exposition::Prometheus, Exposition::OpenMetrics] {
            let page = registry.render_at(format, start + Duration::from_millis(2500));
            let samples = parse(&page);
            assert_eq!(page.ends_with("# EOF\n"), format == Exposition::OpenMetrics);
            for name in [
                r#"corelane_requests_total{namespace="a",ingress="b",service="c",code_class="2xx",protocol="http/1.1"} 1"#,
                r#"corelane_request_duration_seconds_count{namespace="a",ingress="b",service="c",protocol="http/1.1"} 1"#,
                r#"corelane_upstream_duration_seconds_count{namespace="a",ingress="b",service="c"} 1"#,
                r#"corelane_added_latency_seconds_count{namespace="a",ingress="b",service="c"} 1"#,
                r#"corelane_connections{shard="1",listener="https/[::]:443",state="tunnel"} 1"#,
                r#"corelane_connections{shard="0",listener="http/0.0.0.0:80",state="active"} 0"#,
                r#"corelane_tls_handshakes_total{result="ok",version="TLSv1.3",resumed="true"} 1"#,
                "corelane_tls_handshake_duration_seconds_count 1",
                "corelane_upstream_connections_opened_total 1",
                "corelane_upstream_requests_in_flight 0",
                r#"corelane_upstream_healthy{service="a/c:80",endpoint="10.0.0.1:80"} 1"#,
                r#"corelane_retries_total{reason="connect_failed"} 1"#,
                r#"corelane_rejected_requests_total{reason="no_route"} 1"#,
                r#"corelane_snapshot_version{shard="0"} 0"#,
                r#"corelane_snapshot_version{shard="1"} 7"#,
                "corelane_config_propagation_seconds_count 1",
                r#"corelane_config_findings{severity="error"} 3"#,
                "corelane_config_age_seconds 2.5",
                "corelane_shard_loop_lag_seconds_count 1",
                r#"corelane_shard_busy_ratio{shard="1"} 0.001562"#,
                r#"corelane_ring_enters_total{shard="0"} 0"#,
                r#"corelane_ring_enters_total{shard="1"} 11"#,
                r#"corelane_ring_submissions_total{shard="1"} 12"#,
                r#"corelane_ring_completions_total{shard="1"} 13"#,
                r#"corelane_ring_starved_total{shard="1"} 14"#,
                r#"corelane_task_panics_total{shard="1"} 17"#,
                r#"corelane_shard_up{shard="0"} 0"#,
                r#"corelane_shard_up{shard="1"} 1"#,
                r#"corelane_ring_sockets{shard="1"} 15"#,
                r#"corelane_ring_buffers_lent{shard="1"} 16"#,
                "corelane_access_log_dropped_total 0",
                concat!("corelane_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            ] {
                let (name, value) = name.rsplit_once(' ').expect("a name and a value");
                assert_eq!(samples.get(name), Some(&value.parse().expect("a number")), "{name} in {page}");
            }
        }
    }

    /// The page that explains the metrics has a row for each of them, and none for others.
    #[test]
    fn every_metric_is_explained() {
        let page = Registry::new(1, &[]).render(Exposition::Prometheus);
        let rendered: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let rows = include_str!("../../../docs/metrics.md").lines().filter_map(|line| line.strip_prefix("| `corelane_"));
        let explained: BTreeSet<String> = rows.filter_map(|row| Some(format!("corelane_{}", row.split_once('`')?.0))).collect();
        assert_eq!(explained.iter().map(String::as_str).collect::<BTreeSet<_>>(), rendered);
    }

    /// The same labels have one number; over the limit everything new is counted as overflow.
    #[test]
    fn series_are_bounded() {
        let registry = Registry::new(1, &[]);
        let first = registry.intern(&labels("a", "b", "c"));
        assert_eq!(registry.intern(&labels("a", "b", "c")), first);
        assert_eq!(registry.intern(&labels("", "", "")), shard::UNMATCHED);
        let numbers: BTreeSet<u32> = (0..SERIES_MAX + 10).map(|number| registry.intern(&labels("many", &number.to_string(), ""))).collect();
        assert_eq!(numbers.iter().next_back(), Some(&(SERIES_MAX as u32 - 1)));
        assert!(numbers.contains(&OVERFLOW));
        assert_eq!(registry.intern(&labels("a", "b", "c")), first);
        for series in numbers {
            registry.shard(0).request(&sample(series, 200, 1, None));
        }
        // A number that was never given out is counted too, not lost.
        registry.shard(0).request(&sample(u32::MAX, 200, 1, None));
        let name =
            r#"corelane_requests_total{namespace="overflow",ingress="overflow",service="overflow",code_class="2xx",protocol="http/1.1"}"#;
        assert_eq!(scrape(&registry).get(name), Some(&2.0));
    }

    /// A series interned while shards run is counted by all of them.
    #[test]
    fn a_series_can_be_added_later() {
        let registry = Registry::new(2, &[]);
        let shard = registry.shard(1).clone();
        for number in 0..300 {
            let series = registry.intern(&labels("late", &number.to_string(), ""));
            shard.request(&sample(series, 404, 1, None));
        }
        let found = scrape(&registry).into_iter().filter(|(name, value)| name.contains("late") && name.contains("4xx") && *value == 1.0);
        assert_eq!(found.count(), 300);
    }

    /// An endpoint that several clusters share is shown once, and is healthy only if all of them say so.
    #[test]
    fn an_endpoint_is_shown_once() {
        let health = |port: u16, healthy| EndpointHealth { service: "a/b:80".into(), endpoint: ([127, 0, 0, 1], port).into(), healthy };
        let registry = Registry::new(1, &[]);
        registry.upstreams(vec![health(1, true), health(1, false), health(2, true)]);
        let samples = scrape(&registry);
        assert_eq!(samples.get(r#"corelane_upstream_healthy{service="a/b:80",endpoint="127.0.0.1:1"}"#), Some(&0.0));
        assert_eq!(samples.get(r#"corelane_upstream_healthy{service="a/b:80",endpoint="127.0.0.1:2"}"#), Some(&1.0));
        registry.upstreams(Vec::new());
        assert!(!scrape(&registry).keys().any(|name| name.starts_with("corelane_upstream_healthy")));
    }
}
