//! The results of a run as a page of Markdown tables: wins and losses alike.

use std::fmt::Write;

use serde::Serialize;

use crate::compare::Block;
use crate::compare::Measured;
use crate::compare::Results;
use crate::compare::Series;
use crate::compare::Version;
use crate::contrast;
use crate::contrast::Contrast;
use crate::floor;
use crate::host::Host;
use crate::preflight;
use crate::rounds;
use crate::statistics;
use crate::statistics::Claim;
use crate::statistics::Ratio;
use crate::streams;
use crate::streams::Streams;
use crate::sweep;
use crate::sweep::Curve;
use crate::sweep::Ladder;
use crate::sweep::Point;

/// Driver and upstream busier than this are the limit themselves.
const DRIVER_BOUND: f64 = 0.97;

/// One peer under one load. Ratios are subject over peer: below 1 the subject costs less or waits less. Only `floor_ratio` is that of
/// the peer itself: its CPU time over that of the lowest relay.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub peer: String,
    pub blocks: usize,
    pub clean: usize,
    pub used: usize,
    pub requests_per_s: Option<f64>,
    /// For each request; the ratio is of that, or of streams that for each MB.
    pub cpu_us: Option<f64>,
    pub cpu_ratio: Option<Ratio>,
    /// `None` for the lowest relay, which is the floor.
    pub floor_ratio: Option<Ratio>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    pub p50_ratio: Option<Ratio>,
    pub p99_ratio: Option<Ratio>,
    pub p999_ratio: Option<Ratio>,
    pub memory_mb: Option<f64>,
    pub upstream_opened_per_1000: Option<f64>,
    pub driver_busy: Option<f64>,
    /// Of the TLS handshakes, those with a ticket; `None` where there were none.
    pub resumed: Option<f64>,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<Streams>,
}

/// The relay that costs least, by its median.
fn lowest_floor(series: &Series) -> Option<&str> {
    let cost = |peer: &String| rounds::middle(&rounds::blocks_of(series, peer), |block| series.cost_us(block));
    let floors = series.peers.iter().filter(|peer| floor::is_floor(peer)).filter_map(|peer| Some((peer, cost(peer)?)));
    floors.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(peer, _)| peer.as_str())
}

/// Whether there is something to be a multiple of.
pub(crate) fn has_floor(series: &Series) -> bool {
    series.peers.iter().any(|peer| floor::is_floor(peer))
}

/// The rows of one table, subject first.
pub fn rows(series: &Series) -> Vec<Row> {
    let subject = series.peers.first().map(|peer| rounds::blocks_of(series, peer)).unwrap_or_default();
    let lowest = lowest_floor(series);
    let floor = lowest.map(|peer| rounds::blocks_of(series, peer)).unwrap_or_default();
    let cost_ratio = |pairs: &[(&Block, &Block)]| rounds::ratio_of(pairs, |block| series.cost_us(block));
    let row = |peer: &String| {
        let all: Vec<&Block> = series.blocks.iter().filter(|block| block.peer == *peer).collect();
        let blocks = rounds::blocks_of(series, peer);
        let of = |value: fn(&Block) -> Option<f64>| rounds::middle(&blocks, value);
        let latency = rounds::pooled(&blocks, |tally| &tally.latency);
        let is_subject = series.peers.first() == Some(peer);
        let pairs: Vec<(&Block, &Block)> = if is_subject { Vec::new() } else { rounds::paired(&subject, &blocks) };
        let waits = series.has_latency();
        let quantile = |quantile| if waits { statistics::pooled_quantile_us(&latency, quantile) } else { None };
        let ratio = |quantile| if waits { rounds::times_ratio(&pairs, |tally| &tally.latency, quantile) } else { None };
        Row {
            peer: peer.clone(),
            blocks: all.len(),
            clean: all.iter().filter(|block| block.marks.is_empty()).count(),
            used: blocks.len(),
            requests_per_s: of(|block| Some(block.requests_per_s())),
            cpu_us: of(Block::cpu_us),
            cpu_ratio: cost_ratio(&pairs),
            floor_ratio: if lowest == Some(peer) { None } else { cost_ratio(&rounds::paired(&blocks, &floor)) },
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            p50_ratio: ratio(0.5),
            p99_ratio: ratio(0.99),
            p999_ratio: ratio(0.999),
            memory_mb: of(Block::memory_mb),
            upstream_opened_per_1000: of(|block| {
                Some(block.round.upstream_opened as f64 * 1000.0 / block.round.tally.completed.max(1) as f64)
            }),
            driver_busy: of(|block| Some(block.round.driver_busy)),
            resumed: of(|block| block.round.tally.handshakes.resumed_share()),
            errors: all.iter().map(|block| block.round.tally.errors.total()).sum(),
            streams: Streams::of(series, &blocks, &pairs),
        }
    };
    series.peers.iter().map(row).collect()
}

/// The whole page.
pub fn page(results: &Results) -> String {
    let mut page = String::new();
    let subject = results.measured.versions.first().map_or("", |version| &version.peer);
    let _infallible = write!(
        page,
        "# {date}, {commit}\n\n{host}\n\nVersions: {versions}.\n\n`{command}`\n\n{reading}\n",
        date = results.date,
        commit = if results.commit.is_empty() { "no commit" } else { &results.commit },
        host = hosts(results),
        versions = versions(results),
        command = results.command,
        reading = reading(subject),
    );
    if results.measured.series.iter().any(has_floor) {
        let _infallible = writeln!(page, "{FLOOR}");
    }
    if results.measured.partial {
        let _infallible = write!(page, "\n**Partial**: {PARTIAL}\n");
    }
    let (ladders, others) = sweep::split(&results.measured);
    for ladder in &ladders {
        page.push_str(&markdown(&Table::of_knees(ladder)));
        page.push_str(&markdown(&Table::of_ladder(ladder)));
    }
    for series in others {
        page.push_str(&table(series));
        if let Some(contrast) = Table::of_contrast(&results.measured, series) {
            page.push_str(&markdown(&contrast));
        }
    }
    let elsewhere = results.elsewhere.iter().map(|elsewhere| (format!("The host of the {}", elsewhere.what), &elsewhere.host));
    for (title, host) in std::iter::once(("The host".to_owned(), &results.host)).chain(elsewhere) {
        if !host.findings.is_empty() {
            page.push_str(&markdown(&Table::of_host(title, host)));
        }
    }
    page
}

/// What the peers say of themselves, and how often they can be changed; a control says the same twice.
fn versions(results: &Results) -> String {
    let mut versions: Vec<String> = results.measured.versions.iter().map(Version::told).collect();
    versions.dedup();
    versions.join("; ")
}

/// The driver's host, and those of whatever was elsewhere.
fn hosts(results: &Results) -> String {
    let mut text = host_line(&results.host);
    for elsewhere in &results.elsewhere {
        let _infallible = write!(text, "\n\nThe {} on another host, {}: {}", elsewhere.what, elsewhere.address, host_line(&elsewhere.host));
    }
    text
}

fn host_line(host: &Host) -> String {
    format!(
        "{}, {} CPUs{}, {} GB; {}, Linux {}, clock {}, mitigations on: {}; niceness {}; load average {} before{}.",
        host.processor,
        host.cpus,
        if host.hypervisor { " of a virtual machine" } else { "" },
        host.memory_gb,
        host.system,
        host.kernel,
        host.clock_source,
        if host.mitigations.is_empty() { "none".to_owned() } else { host.mitigations.join(", ") },
        host.niceness,
        host.load_before,
        // An agent looks only when a run begins.
        if host.load_after.is_empty() { String::new() } else { format!(", {} after", host.load_after) },
    )
}

pub(crate) fn reading(subject: &str) -> String {
    format!(
        "Proxy on one CPU with one worker; driver and endpoints in one thread on another, unless the hosts above are several. CPU time is \
         that of all threads of all \
         processes of a proxy, median over blocks; on the loopback a sender pays for half of the receiver's TCP work, so figures compare \
         proxies with each other, not with a network card. Latency runs from the intended start (open loop); a closed loop of one \
         connection has round trips instead, one of several has no latency. Percentiles are those of the pooled histograms, stated where \
         at least 100 requests lie beyond. Ratios are {subject} over the peer, with 95 % intervals by resampling whole rounds: below 1 \
         {subject} costs or waits less; **bold** where the interval excludes 1 and the effect is 3 % or more. Memory is proportional \
         (PSS), its peak resident (RSS). Requests that carry more than 64 KB either way cost what a million bytes of bodies cost. Where \
         the driver is {:.0} % busy or more, requests/s is what the driver can do.\n",
        DRIVER_BOUND * 100.0
    )
}

/// What a page says of one series, whatever the page is made of. Cells are text; `**` around one makes it bold.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) work: String,
    pub(crate) disturbed: bool,
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn of(series: &Series) -> Self {
        if let Some(effects) = Self::of_effects(series) {
            return effects;
        }
        let rows = rows(series);
        let waits = series.has_latency();
        let has_streams = series.scenario.has_streams();
        let mut header = vec!["", "requests/s"];
        header.extend(if has_streams { &["MB/s", "CPU µs per MB", "ratio"][..] } else { &["CPU µs", "ratio"] });
        if has_floor(series) {
            header.push("× floor");
        }
        if waits {
            header.extend(["p50 µs", "ratio", "p99 µs", "ratio", "p99.9 µs", "ratio"]);
        }
        if series.scenario.handshakes.is_some() {
            header.push("resumed");
        }
        if streams::has_first_bytes(series) {
            header.extend(["first byte p50 µs", "first byte p99 µs", "ratio"]);
        }
        header.extend(if has_streams { &["MB", "peak MB"][..] } else { &["MB"] });
        header.extend(["opened per 1000", "driver busy", "errors", "clean"]);
        Self {
            title: series.title(),
            work: format!(
                "{}. {} blocks a peer of {} s, after {} s of warm-up.",
                series.scenario.work,
                rows.first().map_or(0, |row| row.blocks),
                series.span.window_ns as f64 / 1e9,
                series.span.warm_up_ns as f64 / 1e9
            ),
            // Of the subject and its like: relays are judged apart.
            disturbed: rows.iter().any(|row| row.used > row.clean && floor::is_floor(&row.peer) == floor::is_floor(&rows[0].peer)),
            header,
            rows: rows.iter().map(|row| cells(row, series)).collect(),
        }
    }
}

impl Table {
    /// How far each peer of a ladder came.
    pub(crate) fn of_knees(ladder: &Ladder) -> Self {
        let row = |curve: &Curve| {
            let knee = curve.knee;
            vec![
                curve.peer.clone(),
                number(curve.carried_per_s, 0),
                number(knee.map(|knee| knee.rate_per_s), 0),
                number(knee.map(|knee| knee.p999_us), 0),
                number(knee.map(|knee| knee.easy_us), 0),
            ]
        };
        Self {
            title: format!("{}, knees", ladder.scenario),
            work: "Carried is the highest rate of which 99 % were answered in time, without an error, at it and all lower ones. The knee is the \
                   last rate whose p99.9 is at most three times that at 30 % of what is carried."
                .to_owned(),
            disturbed: false,
            header: vec!["", "carried/s", "knee/s", "p99.9 µs there", "p99.9 µs at 30 %"],
            rows: ladder.curves.iter().map(row).collect(),
        }
    }

    /// What goes on beside a series does to each peer, if anything does.
    pub(crate) fn of_contrast(measured: &Measured, series: &Series) -> Option<Self> {
        let contrasts = contrast::of(measured, series);
        if contrasts.is_empty() {
            return None;
        }
        let mut header = vec![""];
        for name in ["p50 µs", "p99 µs", "p99.9 µs", "CPU µs", "MB"] {
            header.extend([name, "with", "ratio"]);
        }
        header.extend(["errors", "with", "beside"]);
        let row = |contrast: &Contrast| {
            let mut cells = vec![contrast.peer.clone()];
            let changes =
                [(contrast.p50_us, 0), (contrast.p99_us, 0), (contrast.p999_us, 0), (contrast.cpu_us, 1), (contrast.memory_mb, 0)];
            for (change, decimals) in changes {
                cells.extend([number(change.without, decimals), number(change.with, decimals), ratio(change.ratio)]);
            }
            cells.extend([contrast.errors_without.to_string(), contrast.errors_with.to_string()]);
            let parts = contrast.beside.iter().zip(&series.scenario.beside);
            cells.push(parts.map(|(part, beside)| part.words(*beside)).collect::<Vec<_>>().join("; "));
            cells
        };
        Some(Self {
            title: format!("{}, with over without", series.title()),
            work: "Each peer against itself in the same rounds, without and with what goes on beside, in random order under the same \
                   arrivals: a ratio above 1 is what it costs the measured requests. CPU time is that of all the proxy does, over the \
                   measured requests alone."
                .to_owned(),
            disturbed: false,
            header,
            rows: contrasts.iter().map(row).collect(),
        })
    }

    /// Every peer at every rate.
    pub(crate) fn of_ladder(ladder: &Ladder) -> Self {
        let row = |curve: &Curve, point: &Point| {
            vec![
                curve.peer.clone(),
                number(Some(point.offered_per_s), 0),
                number(Some(point.answered_per_s), 0),
                number(point.cpu_us, 1),
                number(point.p50_us, 0),
                number(point.p99_us, 0),
                number(point.p999_us, 0),
                number(Some(point.driver_busy * 100.0), 0) + " %",
                point.errors.to_string(),
            ]
        };
        Self {
            title: format!("{}, rates", ladder.scenario),
            work: format!("{}. Percentiles are stated where at least 10 requests lie beyond.", ladder.work),
            disturbed: false,
            header: vec!["", "offered/s", "answered/s", "CPU µs", "p50 µs", "p99 µs", "p99.9 µs", "driver busy", "errors"],
            rows: ladder.curves.iter().flat_map(|curve| curve.points.iter().map(move |point| row(curve, point))).collect(),
        }
    }

    /// What the preflight had to say.
    pub(crate) fn of_host(title: String, host: &Host) -> Self {
        let findings = &host.findings;
        let good = preflight::unremarkable(findings);
        Self {
            title,
            work: format!("What of it moves figures, or is not told. Good: {}.", if good.is_empty() { "nothing" } else { &good }),
            disturbed: false,
            header: vec!["", "now", "", "what to do"],
            rows: preflight::remarkable(findings)
                .iter()
                .map(|finding| vec![finding.name.clone(), finding.value.clone(), finding.verdict.to_string(), finding.cure.clone()])
                .collect(),
        }
    }
}

/// What the floor is, on a page that has one.
pub(crate) const FLOOR: &str = "The floor is a relay between fixed pairs of connections that reads nothing of what it moves: two receives and two sends a request, by \
     epoll, by io_uring step by step, and by io_uring with multishot receives. × floor is a peer's CPU time over that of the relay with \
     the lowest median, in the same rounds.";

/// What is said of a run that was ended early.
pub(crate) const PARTIAL: &str =
    "the run was interrupted; what was not reached by then is missing, and the last series may have fewer rounds.";

/// What a disturbed series is called, and why.
pub(crate) const DISTURBED: &str = "too few blocks were clean (last column), so all without errors are counted.";

fn cells(row: &Row, series: &Series) -> Vec<String> {
    // Never bold against the floor: above it is where everybody is.
    let ratio = |of: Option<Ratio>| if floor::is_floor(&row.peer) { of.map(told).unwrap_or_default() } else { ratio(of) };
    let mut cells = vec![row.peer.clone(), throughput(row)];
    match &row.streams {
        Some(streams) => cells.extend([number(streams.mb_per_s, 0), number(streams.cpu_us_per_mb, 0)]),
        None => cells.push(number(row.cpu_us, 1)),
    }
    cells.push(ratio(row.cpu_ratio));
    if has_floor(series) {
        let is_lowest = lowest_floor(series) == Some(&row.peer);
        cells.push(if is_lowest { "floor".to_owned() } else { row.floor_ratio.map(told).unwrap_or_default() });
    }
    if series.has_latency() {
        for (value, of) in [(row.p50_us, row.p50_ratio), (row.p99_us, row.p99_ratio), (row.p999_us, row.p999_ratio)] {
            cells.extend([number(value, 0), ratio(of)]);
        }
    }
    if series.scenario.handshakes.is_some() {
        cells.push(number(row.resumed.map(|resumed| resumed * 100.0), 1) + " %");
    }
    if let Some(streams) = row.streams.as_ref().filter(|_| streams::has_first_bytes(series)) {
        cells.extend([number(streams.first_byte_p50_us, 0), number(streams.first_byte_p99_us, 0), ratio(streams.first_byte_p99_ratio)]);
    }
    cells.push(number(row.memory_mb, 0));
    cells.extend(row.streams.as_ref().map(|streams| number(streams.peak_mb, 0)));
    cells.extend([
        number(row.upstream_opened_per_1000, 1),
        number(row.driver_busy.map(|busy| busy * 100.0), 0) + " %",
        row.errors.to_string(),
        format!("{}/{}", row.clean, row.blocks),
    ]);
    cells
}

fn table(series: &Series) -> String {
    markdown(&Table::of(series))
}

fn markdown(table: &Table) -> String {
    let mut out = format!("\n## {}\n\n{}", table.title, table.work);
    if table.disturbed {
        let _infallible = write!(out, " **Disturbed**: {DISTURBED}");
    }
    let _infallible = write!(out, "\n\n|{} |\n|{}\n", table.header.join(" | "), "---|".repeat(table.header.len()));
    for row in &table.rows {
        let _infallible = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

fn throughput(row: &Row) -> String {
    let bound = row.driver_busy.is_some_and(|busy| busy >= DRIVER_BOUND);
    // Of requests that take a second each, tenths count.
    let decimals = if row.requests_per_s.is_some_and(|per_s| per_s < 10.0) { 2 } else { 0 };
    format!("{}{}", if bound { "≥ " } else { "" }, number(row.requests_per_s, decimals))
}

pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

pub(crate) fn ratio(ratio: Option<Ratio>) -> String {
    let Some(ratio) = ratio else { return String::new() };
    let text = told(ratio);
    if ratio.claim() == Claim::Level { text } else { format!("**{text}**") }
}

fn told(ratio: Ratio) -> String {
    format!("{:.2} ({:.2}–{:.2})", ratio.ratio, ratio.low, ratio.high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Mark;
    use crate::cpu::Usage;
    use crate::driver::Round;
    use crate::driver::Span;
    use crate::sample;
    use crate::scenario;
    use crate::scenario::Load;
    use crate::tally::Handshakes;
    use crate::tally::Tally;

    fn block(peer: &str, number: u32, cpu_us: u64, marks: Vec<Mark>) -> Block {
        let tally = Tally { completed: 1000, ..Tally::default() };
        let usage = Usage { cpu_ns: cpu_us * 1_000_000, wait_ns: 0, memory_bytes: 5 << 20, peak_bytes: 6 << 20 };
        let round = Round {
            tally,
            usage: Some(usage),
            window_ns: 1_000_000_000,
            driver_busy: 0.5,
            upstream_opened: 0,
            strayed: 0,
            beside: Vec::new(),
        };
        Block { number, place: 0, peer: peer.to_owned(), round, stolen: 0.0, marks }
    }

    fn series(blocks: Vec<Block>) -> Series {
        let scenario = sample::scenario("small", Load::Saturate);
        let span = Span { warm_up_ns: 0, window_ns: 1_000_000_000 };
        Series { scenario, load: Load::Saturate, span, peers: vec!["ours".to_owned(), "theirs".to_owned()], blocks }
    }

    /// Where connections are resumed, the table says how many were; where they are kept, it does not ask.
    #[test]
    fn a_resumed_share_is_told() {
        let mut resumed = block("ours", 0, 10, vec![]);
        resumed.round.tally.handshakes = Handshakes { full: 1, resumed: 3 };
        let mut series = series(vec![resumed, block("theirs", 0, 10, vec![])]);
        assert!(!table(&series).contains("resumed"));
        series.scenario.handshakes = Some(scenario::Handshakes::Resumed);
        let text = table(&series);
        assert!(text.contains("| resumed |") && text.contains("| 75.0 % |") && text.contains("| – % |"), "{text}");
    }

    /// The floor is the relay that costs least; everybody else's cost is a multiple of it, round by round.
    #[test]
    fn a_cost_is_a_multiple_of_the_lowest_relay() {
        let round = |number: u32| {
            let host = u64::from(number) + 1;
            let costs = [("ours", 24), ("theirs", 30), ("floor-ring", 21), ("floor-multishot", 20)];
            costs.map(|(peer, cpu_us)| block(peer, number, cpu_us * host, vec![]))
        };
        let mut series = series((0..4).flat_map(round).collect());
        assert!(!table(&series).contains("× floor"));
        series.peers.extend(["floor-ring", "floor-multishot"].map(str::to_owned));
        let multiples: Vec<Option<f64>> = rows(&series).iter().map(|row| row.floor_ratio.map(|ratio| ratio.ratio)).collect();
        for (multiple, wanted) in multiples.into_iter().zip([Some(1.2), Some(1.5), Some(1.05), None]) {
            assert_eq!(multiple.map(|multiple| (multiple * 1e6).round()), wanted.map(|wanted| wanted * 1e6));
        }
        let text = table(&series);
        assert!(text.contains("| × floor |") && text.contains("| 1.20 (1.20–1.20) |") && text.contains("| floor |"), "{text}");
        assert_eq!(text.matches("**").count(), 2, "bold only against theirs: {text}");
    }

    /// Whether relays were disturbed is their own affair: the proxies' clean blocks count all the same, and theirs do not.
    #[test]
    fn a_floor_is_judged_apart() {
        let mut series = series(vec![]);
        series.peers.push("floor-ring".to_owned());
        for number in 0..4 {
            let late = || if number == 3 { vec![Mark::Late] } else { vec![] };
            series.blocks.extend([block("ours", number, 10, late()), block("theirs", number, 20, vec![])]);
            series.blocks.push(block("floor-ring", number, 5, vec![Mark::Late]));
        }
        assert_eq!(rows(&series).iter().map(|row| row.used).collect::<Vec<_>>(), [3, 4, 4]);
        assert!(!table(&series).contains("**Disturbed**"));
    }

    /// A loss stands in the table as a win does.
    #[test]
    fn a_loss_is_shown() {
        let blocks = (0..4).flat_map(|number| [block("ours", number, 30, vec![]), block("theirs", number, 20, vec![])]).collect();
        let text = table(&series(blocks));
        assert!(text.contains("**1.50 (1.50–1.50)**"), "{text}");
    }

    /// A closed loop tells times only where nobody else could have come meanwhile: over one connection.
    #[test]
    fn a_closed_loop_of_one_has_round_trips() {
        let mut series = series(vec![block("ours", 0, 30, vec![])]);
        for (connections, waits) in [(1, true), (2, false)] {
            series.scenario.connections = connections;
            assert_eq!(Table::of(&series).header.contains(&"p50 µs"), waits, "{connections}");
        }
    }

    /// Disturbed blocks are left out while at least half of every peer's are clean.
    #[test]
    fn a_disturbed_block_is_left_out() {
        let mut blocks: Vec<Block> =
            (0..4).flat_map(|number| [block("ours", number, 10, vec![]), block("theirs", number, 20, vec![])]).collect();
        blocks.push(block("ours", 4, 90, vec![Mark::Late]));
        blocks.push(block("theirs", 4, 20, vec![]));
        let rows = rows(&series(blocks));
        assert_eq!((rows[0].blocks, rows[0].clean, rows[0].used), (5, 4, 4));
        assert_eq!(rows[1].cpu_ratio.map(|ratio| ratio.high), Some(0.5));
    }

    /// A proxy that fails in every round has no figures, and the others are held to their clean blocks all the same.
    #[test]
    fn a_proxy_that_fails_does_not_spoil_the_others() {
        let mut blocks: Vec<Block> =
            (0..4).flat_map(|number| [block("ours", number, 10, vec![]), block("theirs", number, 20, vec![Mark::Errors])]).collect();
        blocks[0].marks.push(Mark::Late);
        let series = series(blocks);
        let rows = rows(&series);
        assert_eq!(rows.iter().map(|row| (row.clean, row.used)).collect::<Vec<_>>(), [(3, 3), (0, 0)]);
        assert!(!table(&series).contains("**Disturbed**"));
    }

    /// On a noisy host all blocks count but those with errors, and the page says that it was disturbed.
    #[test]
    fn a_noisy_host_is_told() {
        let mut blocks = Vec::new();
        for number in 0..4 {
            blocks.push(block("ours", number, 10, vec![Mark::Contended]));
            blocks.push(block("theirs", number, 20, vec![]));
        }
        blocks.push(block("ours", 4, 90, vec![Mark::Errors]));
        let series = series(blocks);
        assert_eq!(rows(&series)[0].used, 4);
        assert!(table(&series).contains("**Disturbed**"));
    }
}
