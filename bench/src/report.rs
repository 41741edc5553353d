//! The results of a run as data: every block, with all of its histograms, to be written and read again.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::Serializer;
use hdrhistogram::serialization::V2DeflateSerializer;
use serde::Deserialize;
use serde::Serialize;

use crate::beside::Deeds;
use crate::compare::Block;
use crate::compare::Mark;
use crate::compare::Measured;
use crate::compare::Results;
use crate::compare::Series;
use crate::compare::Version;
use crate::contrast;
use crate::contrast::Contrast;
use crate::cpu::Usage;
use crate::driver::Round;
use crate::driver::Span;
use crate::effect_table;
use crate::host::Elsewhere;
use crate::host::Host;
use crate::scenario::Load;
use crate::scenario::Scenario;
use crate::sweep;
use crate::sweep::Ladder;
use crate::table;
use crate::table::Row;
use crate::tally;
use crate::tally::Errors;
use crate::tally::Handshakes;
use crate::tally::Tally;
use crate::tally::UNIT_NS;
use crate::timeline::Timeline;

/// Changes when a reader of the old form would misread the new one; a field that is added is no such change.
const SCHEMA: u32 = 1;

/// The field that is read before all others.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

#[derive(Serialize, Deserialize)]
struct Document {
    schema: u32,
    histogram_unit_ns: u64,
    date: String,
    commit: String,
    command: String,
    host: Host,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    elsewhere: Vec<Elsewhere>,
    versions: Vec<Version>,
    /// Whether the run was ended before all was measured.
    #[serde(default)]
    partial: bool,
    /// Why, where nobody has ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// What series of many rates say together; reckoned anew when it is read.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    sweeps: Vec<Ladder>,
    series: Vec<SeriesDocument>,
}

#[derive(Serialize, Deserialize)]
struct SeriesDocument {
    scenario: Scenario,
    load: Load,
    warm_up_s: f64,
    window_s: f64,
    /// Of requests, for readers without our statistics; we reckon it anew from the blocks.
    #[serde(skip_deserializing)]
    summary: Vec<Row>,
    /// What goes on beside the load does to each peer; reckoned anew as well.
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    contrast: Vec<Contrast>,
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    effects: Vec<effect_table::Row>,
    blocks: Vec<BlockDocument>,
}

#[derive(Serialize, Deserialize)]
struct BlockDocument {
    round: u32,
    /// Place within the round: peers run in random order.
    place: u32,
    peer: String,
    marks: Vec<Mark>,
    window_ns: u64,
    planned: u64,
    sent: u64,
    completed: u64,
    /// Of bodies, either way.
    #[serde(default)]
    body_bytes: u64,
    /// Responses that paced readers had begun and the end of the round has cut.
    #[serde(default)]
    unfinished: u64,
    errors: Errors,
    #[serde(default)]
    early: u64,
    #[serde(default)]
    handshakes: Handshakes,
    cpu_ns: Option<u64>,
    run_queue_wait_ns: Option<u64>,
    memory_bytes: Option<u64>,
    #[serde(default)]
    peak_bytes: Option<u64>,
    driver_busy: f64,
    stolen: f64,
    upstream_opened: u64,
    /// What went on beside the load, in the order of the scenario; empty in a block that was alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    beside: Vec<Deeds>,
    #[serde(default)]
    strayed: u64,
    #[serde(default)]
    timeline: Timeline,
    latency: String,
    service: String,
    lateness: String,
    request_leg: String,
    response_leg: String,
    /// Of open loads with streams only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_byte: Option<String>,
}

/// All of a run as one JSON document; histograms in HdrHistogram's compressed V2 encoding, base64.
///
/// # Errors
/// None that a run can cause; the encoders have some.
pub fn json(results: &Results) -> io::Result<String> {
    let subject = results.measured.versions.first().map(|version| version.peer.as_str());
    let document = Document {
        schema: SCHEMA,
        histogram_unit_ns: UNIT_NS,
        date: results.date.clone(),
        commit: results.commit.clone(),
        command: results.command.clone(),
        host: results.host.clone(),
        elsewhere: results.elsewhere.clone(),
        versions: results.measured.versions.clone(),
        partial: results.measured.partial,
        failure: results.measured.failure.clone(),
        sweeps: sweep::split(&results.measured).0,
        series: results
            .measured
            .series
            .iter()
            .map(|series| series_document(&results.measured, series, subject))
            .collect::<io::Result<_>>()?,
    };
    serde_json::to_string(&document).map_err(io::Error::other)
}

/// Reads what [`json`] has written.
///
/// # Errors
/// Where the text is no such document, of another schema, or has histograms that cannot be added to ours.
pub fn read(text: &str) -> io::Result<Results> {
    let head: Head = serde_json::from_str(text)?;
    if head.schema != SCHEMA {
        return Err(io::Error::other(format!("schema {} instead of {SCHEMA}: read it with the bench that wrote it", head.schema)));
    }
    let document: Document = serde_json::from_str(text)?;
    if document.histogram_unit_ns != UNIT_NS {
        let unit = document.histogram_unit_ns;
        return Err(io::Error::other(format!("histogram_unit_ns = {unit} instead of {UNIT_NS}: read it with the bench that wrote it")));
    }
    Ok(Results {
        date: document.date,
        commit: document.commit,
        command: document.command,
        host: document.host,
        elsewhere: document.elsewhere,
        measured: Measured {
            series: document.series.into_iter().map(|series| series_of(series, &document.versions)).collect::<io::Result<_>>()?,
            versions: document.versions,
            partial: document.partial,
            failure: document.failure,
        },
    })
}

fn series_document(measured: &Measured, series: &Series, subject: Option<&str>) -> io::Result<SeriesDocument> {
    // Without its subject, as high on a ladder, a series has nothing to be a ratio of; and starts and changes are told as effects alone.
    let has_summary = series.load.is_of_requests() && series.peers.first().map(String::as_str) == subject;
    Ok(SeriesDocument {
        scenario: series.scenario.clone(),
        load: series.load,
        warm_up_s: series.span.warm_up_ns as f64 / 1e9,
        window_s: series.span.window_ns as f64 / 1e9,
        summary: if has_summary { table::rows(series) } else { Vec::new() },
        contrast: contrast::of(measured, series),
        effects: effect_table::rows(series),
        blocks: series.blocks.iter().map(block_document).collect::<io::Result<_>>()?,
    })
}

fn series_of(document: SeriesDocument, versions: &[Version]) -> io::Result<Series> {
    Ok(Series {
        scenario: document.scenario,
        load: document.load,
        span: Span { warm_up_ns: (document.warm_up_s * 1e9) as u64, window_ns: (document.window_s * 1e9) as u64 },
        // Those that ran, the subject first: the order of the versions is that of the peers.
        peers: versions
            .iter()
            .map(|version| &version.peer)
            .filter(|peer| document.blocks.iter().any(|block| block.peer == **peer))
            .cloned()
            .collect(),
        blocks: document.blocks.into_iter().map(block_of).collect::<io::Result<_>>()?,
    })
}

fn block_document(block: &Block) -> io::Result<BlockDocument> {
    let (tally, usage) = (&block.round.tally, block.round.usage);
    Ok(BlockDocument {
        round: block.number,
        place: block.place,
        peer: block.peer.clone(),
        marks: block.marks.clone(),
        window_ns: block.round.window_ns,
        planned: tally.planned,
        sent: tally.sent,
        completed: tally.completed,
        body_bytes: tally.body_bytes,
        unfinished: tally.unfinished,
        errors: tally.errors,
        early: tally.early,
        handshakes: tally.handshakes,
        cpu_ns: usage.map(|usage| usage.cpu_ns),
        run_queue_wait_ns: usage.map(|usage| usage.wait_ns),
        memory_bytes: usage.map(|usage| usage.memory_bytes),
        peak_bytes: usage.map(|usage| usage.peak_bytes),
        driver_busy: block.round.driver_busy,
        stolen: block.stolen,
        upstream_opened: block.round.upstream_opened,
        strayed: block.round.strayed,
        beside: block.round.beside.clone(),
        timeline: tally.timeline.clone(),
        latency: encode(&tally.latency)?,
        service: encode(&tally.service)?,
        lateness: encode(&tally.lateness)?,
        request_leg: encode(&tally.request_leg)?,
        response_leg: encode(&tally.response_leg)?,
        first_byte: (!tally.first_byte.is_empty()).then(|| encode(&tally.first_byte)).transpose()?,
    })
}

fn block_of(document: BlockDocument) -> io::Result<Block> {
    let usage = document.cpu_ns.map(|cpu_ns| Usage {
        cpu_ns,
        wait_ns: document.run_queue_wait_ns.unwrap_or(0),
        memory_bytes: document.memory_bytes.unwrap_or(0),
        peak_bytes: document.peak_bytes.unwrap_or(0),
    });
    let tally = Tally {
        latency: decode(&document.latency)?,
        service: decode(&document.service)?,
        lateness: decode(&document.lateness)?,
        request_leg: decode(&document.request_leg)?,
        response_leg: decode(&document.response_leg)?,
        first_byte: document.first_byte.as_deref().map_or_else(|| Ok(tally::histogram()), decode)?,
        planned: document.planned,
        sent: document.sent,
        completed: document.completed,
        body_bytes: document.body_bytes,
        unfinished: document.unfinished,
        errors: document.errors,
        last_status: None,
        early: document.early,
        handshakes: document.handshakes,
        timeline: document.timeline,
    };
    Ok(Block {
        number: document.round,
        place: document.place,
        peer: document.peer,
        round: Round {
            tally,
            usage,
            window_ns: document.window_ns,
            driver_busy: document.driver_busy,
            upstream_opened: document.upstream_opened,
            strayed: document.strayed,
            beside: document.beside,
        },
        stolen: document.stolen,
        marks: document.marks,
    })
}

fn encode(histogram: &Histogram<u64>) -> io::Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(io::Error::other)?;
    Ok(STANDARD.encode(bytes))
}

/// A histogram with the bounds of ours, so that it may be added to others.
fn decode(text: &str) -> io::Result<Histogram<u64>> {
    let bytes = STANDARD.decode(text).map_err(io::Error::other)?;
    let read: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| {
        io::Error::other(format!("a histogram is not as HdrHistogram V2 encodes it: {error}; the file was changed or cut short"))
    })?;
    let mut histogram = tally::histogram();
    histogram.add(&read).map_err(|error| io::Error::other(format!("a histogram has other bounds than ours: {error}")))?;
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A histogram in a report can be read again, count by count.
    #[test]
    fn a_histogram_survives_the_report() {
        let mut times = tally::histogram();
        for span_us in [3, 90, 90, 5000] {
            tally::record(&mut times, span_us * 1000);
        }
        assert_eq!(decode(&encode(&times).unwrap()).unwrap(), times);
    }

    /// What is no histogram is refused with words, not with a panic.
    #[test]
    fn a_broken_histogram_is_refused() {
        let whole = encode(&tally::histogram()).unwrap();
        for text in ["", "%", "AAAA", &whole[..whole.len() / 2]] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    /// A run that is written, read and written again is the same text: nothing is lost on the way.
    #[test]
    fn a_run_survives_the_report() {
        let written = json(&crate::sample::results()).unwrap();
        let again = json(&read(&written).unwrap()).unwrap();
        assert_eq!(written, again);
    }

    /// What was found of the host is on every page that is made of the file: the good in a line, the rest with its cure.
    #[test]
    fn findings_survive_the_report() {
        let results = crate::sample::results();
        let again = read(&json(&results).unwrap()).unwrap();
        assert_eq!(again.host.findings, results.host.findings);
        let markdown = table::page(&again);
        assert!(markdown.contains("\n## The host\n") && markdown.contains("Good: governor.\n"), "{markdown}");
        assert!(markdown.contains("| load average | 7 <of> 8 | matters | stop what runs |\n"), "{markdown}");
        let html = crate::html::page(&again);
        assert!(
            html.contains("Good: governor.") && html.contains("<td>7 &lt;of&gt; 8</td><td>matters</td><td>stop what runs</td>"),
            "{html}"
        );
    }

    /// Hosts that ran a part of it are on every page that is made of the file, with what was found of them.
    #[test]
    fn other_hosts_survive_the_report() {
        let mut results = crate::sample::results();
        let host = Host { processor: "Another processor".to_owned(), findings: results.host.findings.clone(), ..Host::default() };
        results.elsewhere.push(Elsewhere { what: "proxies".to_owned(), address: "192.0.2.7".to_owned(), host });
        let again = read(&json(&results).unwrap()).unwrap();
        assert_eq!(again.elsewhere, results.elsewhere);
        for page in [table::page(&again), crate::html::page(&again)] {
            for said in ["Another processor", "192.0.2.7", "The host of the proxies"] {
                assert!(page.contains(said), "{said} is not in {page}");
            }
        }
    }

    /// A run that was interrupted says so on every page, also when it is read again.
    #[test]
    fn a_partial_run_says_so() {
        let mut results = crate::sample::results();
        let pages = |results: &Results| [table::page(results), crate::html::page(results)];
        assert!(pages(&results).iter().all(|page| !page.contains(table::PARTIAL)));
        results.measured.partial = true;
        results.measured.failure = Some("gone".to_owned());
        let again = read(&json(&results).unwrap()).unwrap();
        assert_eq!(again.measured.failure, results.measured.failure);
        assert!(pages(&again).iter().all(|page| page.contains(table::PARTIAL)));
    }

    /// A series is summed up as what it is: requests by their rate, starts and changes by their effects.
    #[test]
    fn a_series_is_summed_up_once() {
        for (load, has_summary) in [(Load::Saturate, true), (Load::Start, false), (Load::Apply { changes: 3 }, false)] {
            let mut results = crate::sample::results();
            results.measured.series.truncate(1);
            results.measured.series[0].load = load;
            let written = json(&results).unwrap();
            assert_eq!((written.contains("\"summary\":[{"), written.contains("\"effects\":[{")), (has_summary, !has_summary), "{load}");
        }
    }

    /// What a peer cannot be changed more often than is on every page, also when it is read again.
    #[test]
    fn limits_survive_the_report() {
        let mut results = crate::sample::results();
        results.measured.versions[1].limits = Some("reload at most 1/s".to_owned());
        let again = read(&json(&results).unwrap()).unwrap();
        for page in [table::page(&again), crate::html::page(&again)] {
            assert!(page.contains("theirs 1.0 (reload at most 1/s)"), "{page}");
        }
    }

    /// A document of another schema is refused before anything else in it is read.
    #[test]
    fn another_schema_is_refused() {
        let error = read(r#"{"schema": 999, "new": true}"#).err().unwrap().to_string();
        assert!(error.contains("schema 999"), "{error}");
        let other_unit = json(&crate::sample::results()).unwrap().replacen("\"histogram_unit_ns\":100", "\"histogram_unit_ns\":7", 1);
        assert!(read(&other_unit).is_err());
    }
}
