//! The counters of one shard: written by that shard alone, without lock and without allocation.

use std::sync::OnceLock;

use crate::telemetry::metrics::cells::Counter;
use crate::telemetry::metrics::cells::Gauge;
use crate::telemetry::metrics::cells::Histogram;
use crate::telemetry::metrics::cells::Labelled;

/// Series of requests there can be, the two reserved ones included.
pub(crate) const SERIES_MAX: usize = 10_000;

/// The series of requests that no rule matched.
pub(crate) const UNMATCHED: u32 = 0;

/// The series that counts for all that came after the last free number.
pub(crate) const OVERFLOW: u32 = 1;

/// Series whose cells are allocated together.
const CHUNK_SERIES: usize = 64;

/// What was spoken to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/1.0 with it.
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    /// The value of the label `protocol`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "http/2",
        }
    }
}

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct RequestSample {
    /// From [`Registry::intern`](crate::telemetry::metrics::Registry::intern); 0 is the series of requests that no rule matched.
    pub series: u32,
    /// What the client saw; 0 where it was gone before it could see one.
    pub status: u16,
    pub protocol: Protocol,
    pub duration_us: u64,
    /// Time between the first byte to the upstream and its last byte; `None` where no upstream was asked.
    pub upstream_us: Option<u64>,
}

/// What a downstream connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    Active,
    Idle,
    Handshake,
    Tunnel,
}

impl ConnectionState {
    pub(crate) const ALL: [Self; 4] = [Self::Active, Self::Idle, Self::Handshake, Self::Tunnel];

    /// The value of the label `state`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Handshake => "handshake",
            Self::Tunnel => "tunnel",
        }
    }
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeSample {
    /// `ok`, or why it failed.
    pub result: &'static str,
    pub version: &'static str,
    pub resumed: bool,
    pub duration_us: u64,
}

/// What a shard's ring has done since it was made, and what it holds now.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingSample {
    /// System calls into the ring.
    pub enters: u64,
    pub submissions: u64,
    pub completions: u64,
    /// Times a socket had to wait for a receive buffer.
    pub starved: u64,
    /// Tasks that have panicked.
    pub panics: u64,
    /// Sockets that the kernel or a task still knows.
    pub sockets: usize,
    /// Receive buffers whose bytes somebody still reads or sends.
    pub buffers_lent: usize,
}

/// The newest [`RingSample`], cell by cell.
#[derive(Debug, Default)]
pub(crate) struct RingCells {
    pub(crate) enters: Gauge,
    pub(crate) submissions: Gauge,
    pub(crate) completions: Gauge,
    pub(crate) starved: Gauge,
    pub(crate) panics: Gauge,
    pub(crate) sockets: Gauge,
    pub(crate) buffers_lent: Gauge,
}

/// Values of the label `code_class`; the first stands for a client that was gone before it could be told a status.
pub(crate) const CODE_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The cells of one series: 768 bytes.
#[derive(Debug, Default)]
pub(crate) struct SeriesCells {
    /// By [`Protocol`] and by position in [`CODE_CLASSES`].
    pub(crate) requests: [[Counter; CODE_CLASSES.len()]; 2],
    /// By [`Protocol`].
    pub(crate) duration: [Histogram; 2],
    pub(crate) upstream: Histogram,
    pub(crate) added: Histogram,
}

/// Cells by number of series. Control makes room for a number before it publishes it, so a shard finds its cells there.
#[derive(Debug)]
struct SeriesTable([OnceLock<Box<[SeriesCells]>>; SERIES_MAX.div_ceil(CHUNK_SERIES)]);

impl Default for SeriesTable {
    fn default() -> Self {
        let table = Self([const { OnceLock::new() }; SERIES_MAX.div_ceil(CHUNK_SERIES)]);
        table.make_room(UNMATCHED);
        table
    }
}

impl SeriesTable {
    fn make_room(&self, series: u32) {
        if let Some(chunk) = self.0.get(series as usize / CHUNK_SERIES) {
            chunk.get_or_init(|| (0..CHUNK_SERIES).map(|_| SeriesCells::default()).collect());
        }
    }

    #[inline]
    fn get(&self, series: u32) -> Option<&SeriesCells> {
        self.0.get(series as usize / CHUNK_SERIES)?.get()?.get(series as usize % CHUNK_SERIES)
    }
}

/// Connections of one listener, by [`ConnectionState`]. They change with every request, so they keep to lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ListenerCells(pub(crate) [Gauge; ConnectionState::ALL.len()]);

/// The counters of one shard; only that shard writes them.
// Two cores that count must not share a cache line, nor the pair of lines that is fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardMetrics {
    series: SeriesTable,
    /// By listener.
    pub(crate) connections: Box<[ListenerCells]>,
    pub(crate) rejected: Labelled<&'static str>,
    pub(crate) retried: Labelled<&'static str>,
    /// By result, version and whether the session was resumed.
    pub(crate) handshakes: Labelled<(&'static str, &'static str, bool)>,
    pub(crate) handshake_duration: Histogram,
    pub(crate) upstream_connections_opened: Counter,
    pub(crate) upstream_in_flight: Gauge,
    pub(crate) up: Gauge,
    pub(crate) snapshot_version: Gauge,
    pub(crate) loop_lag: Histogram,
    pub(crate) ring: RingCells,
    busy_us: Counter,
    asleep_us: Counter,
    /// Parts of a million, over about the last [`BUSY_LOOKS`] looks.
    pub(crate) busy_ppm: Gauge,
    pub(crate) access_log_dropped: Counter,
}

/// Looks at the loop that the busy ratio remembers: at ten a second, about six seconds.
const BUSY_LOOKS: i64 = 64;

impl ShardMetrics {
    pub(crate) fn new(listeners: usize) -> Self {
        Self { connections: (0..listeners).map(|_| ListenerCells::default()).collect(), ..Self::default() }
    }

    /// Makes room for a series; called by control before the shard hears of the number.
    pub(crate) fn make_room(&self, series: u32) {
        self.series.make_room(series);
    }

    /// The cells of a series, if there is room for them.
    pub(crate) fn series(&self, series: u32) -> Option<&SeriesCells> {
        self.series.get(series)
    }

    /// A request ended.
    pub fn request(&self, sample: &RequestSample) {
        let Some(cells) = self.series.get(sample.series).or_else(|| self.series.get(OVERFLOW)) else { return };
        let protocol = sample.protocol as usize;
        let class = usize::from(sample.status / 100);
        cells.requests[protocol][if class < CODE_CLASSES.len() { class } else { 0 }].add(1);
        cells.duration[protocol].observe(sample.duration_us);
        if let Some(upstream_us) = sample.upstream_us {
            cells.upstream.observe(upstream_us);
            cells.added.observe(sample.duration_us.saturating_sub(upstream_us));
        }
    }

    /// Corelane answered or closed by itself, for this reason.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.add(reason);
    }

    /// A request was tried on another endpoint, for this reason.
    pub fn retried(&self, reason: &'static str) {
        self.retried.add(reason);
    }

    /// A downstream connection entered (+1) or left (-1) a state.
    pub fn connection(&self, listener: usize, state: ConnectionState, delta: i64) {
        if let Some(cells) = self.connections.get(listener) {
            cells.0[state as usize].add(delta);
        }
    }

    /// A TLS handshake ended. The duration counts where it succeeded: that of a failed one is the client's patience.
    pub fn handshake(&self, sample: &HandshakeSample) {
        self.handshakes.add((sample.result, sample.version, sample.resumed));
        if sample.result == "ok" {
            self.handshake_duration.observe(sample.duration_us);
        }
    }

    /// A connection to an endpoint was opened.
    pub fn upstream_connection_opened(&self) {
        self.upstream_connections_opened.add(1);
    }

    /// A request was sent to (+1) or answered by (-1) an endpoint.
    pub fn upstream_in_flight(&self, delta: i64) {
        self.upstream_in_flight.add(delta);
    }

    /// The shard has begun, or has ended.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// The shard serves this snapshot now.
    pub fn snapshot_version(&self, version: u64) {
        self.snapshot_version.set(version as i64);
    }

    /// The time the loop has been awake and asleep since it began; to be told about ten times a second.
    pub fn loop_turn(&self, busy_us: u64, slept_us: u64) {
        let busy = busy_us.saturating_sub(self.busy_us.get());
        let asleep = slept_us.saturating_sub(self.asleep_us.get());
        self.busy_us.add(busy);
        self.asleep_us.add(asleep);
        let Some(now_ppm) = (busy * 1_000_000).checked_div(busy + asleep) else { return };
        self.busy_ppm.add((now_ppm as i64 - self.busy_ppm.get()) / BUSY_LOOKS);
    }

    /// What the ring has done so far; to be told about ten times a second.
    pub fn ring(&self, sample: &RingSample) {
        let cells = &self.ring;
        cells.enters.set(sample.enters as i64);
        cells.submissions.set(sample.submissions as i64);
        cells.completions.set(sample.completions as i64);
        cells.starved.set(sample.starved as i64);
        cells.panics.set(sample.panics as i64);
        cells.sockets.set(sample.sockets as i64);
        cells.buffers_lent.set(sample.buffers_lent as i64);
    }

    /// The longest turn of the loop since the last look, about ten times a second: what a request waited while others were served.
    pub fn loop_lag(&self, lag_us: u64) {
        self.loop_lag.observe(lag_us);
    }

    /// Lines of the access log had to be dropped.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.add(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The busy ratio follows the loop within seconds, a loop that never sleeps included, and a clock that stands changes nothing.
    #[test]
    fn the_busy_ratio_follows_the_loop() {
        let metrics = ShardMetrics::new(0);
        let (mut busy_us, mut asleep_us) = (0, 0);
        for (share_of_100, want_ppm) in [(100, 990_000..=1_000_000), (30, 290_000..=310_000), (0, 0..=10_000)] {
            for _ in 0..6 * BUSY_LOOKS {
                busy_us += share_of_100 * 1000;
                asleep_us += (100 - share_of_100) * 1000;
                metrics.loop_turn(busy_us, asleep_us);
            }
            assert!(want_ppm.contains(&metrics.busy_ppm.get()), "{} after {share_of_100} %", metrics.busy_ppm.get());
        }
        let before = metrics.busy_ppm.get();
        metrics.loop_turn(busy_us, asleep_us);
        assert_eq!(metrics.busy_ppm.get(), before);
    }

    /// A status of no class, and a listener that does not exist, do no harm.
    #[test]
    fn strange_numbers_do_no_harm() {
        let metrics = ShardMetrics::new(1);
        for status in [0, 99, 600, 999, u16::MAX] {
            metrics.request(&RequestSample {
                series: 0,
                status,
                protocol: Protocol::Http2,
                duration_us: u64::MAX,
                upstream_us: Some(u64::MAX),
            });
        }
        let cells = metrics.series(UNMATCHED).expect("always there");
        assert_eq!(cells.requests[Protocol::Http2 as usize][0].get(), 5);
        metrics.connection(7, ConnectionState::Idle, 1);
        metrics.connection(0, ConnectionState::Idle, 1);
        assert_eq!(metrics.connections[0].0[ConnectionState::Idle as usize].get(), 1);
    }
}
