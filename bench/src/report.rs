//! The results of a run as data: every block, with all of its histograms.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Serializer;
use hdrhistogram::serialization::V2DeflateSerializer;
use serde::Serialize;

use crate::compare::Block;
use crate::compare::Results;
use crate::compare::Series;
use crate::compare::Version;
use crate::host::Host;
use crate::scenario::Load;
use crate::scenario::Scenario;
use crate::table;
use crate::table::Row;
use crate::tally::Errors;
use crate::tally::UNIT_NS;

/// Changes when a reader of the old form would misread the new one.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    histogram_unit_ns: u64,
    date: &'a str,
    commit: &'a str,
    command: &'a str,
    host: &'a Host,
    versions: &'a [Version],
    series: Vec<SeriesDocument<'a>>,
}

#[derive(Serialize)]
struct SeriesDocument<'a> {
    scenario: &'a Scenario,
    load: Load,
    warm_up_s: f64,
    window_s: f64,
    summary: Vec<Row>,
    blocks: Vec<BlockDocument<'a>>,
}

#[derive(Serialize)]
struct BlockDocument<'a> {
    round: u32,
    /// Place within the round: peers run in random order.
    place: u32,
    peer: &'a str,
    marks: Vec<String>,
    window_ns: u64,
    planned: u64,
    sent: u64,
    completed: u64,
    errors: Errors,
    cpu_ns: Option<u64>,
    run_queue_wait_ns: Option<u64>,
    memory_bytes: Option<u64>,
    driver_busy: f64,
    stolen: f64,
    upstream_opened: u64,
    latency: String,
    service: String,
    lateness: String,
    request_leg: String,
    response_leg: String,
}

/// All of a run as one JSON document; histograms in HdrHistogram's compressed V2 encoding, base64.
///
/// # Errors
/// None that a run can cause; the encoders have some.
pub fn json(results: &Results) -> io::Result<String> {
    let series = results.measured.series.iter().map(series_document).collect::<io::Result<Vec<_>>>()?;
    let document = Document {
        schema: SCHEMA,
        histogram_unit_ns: UNIT_NS,
        date: &results.date,
        commit: &results.commit,
        command: &results.command,
        host: &results.host,
        versions: &results.measured.versions,
        series,
    };
    serde_json::to_string(&document).map_err(io::Error::other)
}

fn series_document(series: &Series) -> io::Result<SeriesDocument<'_>> {
    Ok(SeriesDocument {
        scenario: &series.scenario,
        load: series.load,
        warm_up_s: series.span.warm_up_ns as f64 / 1e9,
        window_s: series.span.window_ns as f64 / 1e9,
        summary: table::rows(series),
        blocks: series.blocks.iter().map(block_document).collect::<io::Result<Vec<_>>>()?,
    })
}

fn block_document(block: &Block) -> io::Result<BlockDocument<'_>> {
    let (tally, usage) = (&block.round.tally, block.round.usage);
    Ok(BlockDocument {
        round: block.number,
        place: block.place,
        peer: &block.peer,
        marks: block.marks.iter().map(ToString::to_string).collect(),
        window_ns: block.round.window_ns,
        planned: tally.planned,
        sent: tally.sent,
        completed: tally.completed,
        errors: tally.errors,
        cpu_ns: usage.map(|usage| usage.cpu_ns),
        run_queue_wait_ns: usage.map(|usage| usage.wait_ns),
        memory_bytes: usage.map(|usage| usage.memory_bytes),
        driver_busy: block.round.driver_busy,
        stolen: block.stolen,
        upstream_opened: block.round.upstream_opened,
        latency: encode(&tally.latency)?,
        service: encode(&tally.service)?,
        lateness: encode(&tally.lateness)?,
        request_leg: encode(&tally.request_leg)?,
        response_leg: encode(&tally.response_leg)?,
    })
}

fn encode(histogram: &Histogram<u64>) -> io::Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(io::Error::other)?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally;
    use hdrhistogram::serialization::Deserializer;

    /// A histogram in a report can be read again, count by count.
    #[test]
    fn a_histogram_survives_the_report() {
        let mut times = tally::histogram();
        for span_us in [3, 90, 90, 5000] {
            tally::record(&mut times, span_us * 1000);
        }
        let bytes = STANDARD.decode(encode(&times).unwrap()).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!(read, times);
    }
}
