//! The results of a run as one HTML page that needs nothing else: charts for the shape, the same tables as the Markdown page.
//!
//! `plot` knows axes and lines, `charts` what is drawn of a series, `style` how each peer looks. No script, nothing loaded: a page
//! can be mailed, printed and read in ten years. All text goes through maud, which escapes it.

mod charts;
mod ladder;
mod plot;
mod style;

use maud::DOCTYPE;
use maud::Markup;
use maud::PreEscaped;
use maud::html;
use serde_json::Value;

use self::style::Style;
use crate::compare::Mark;
use crate::compare::Results;
use crate::compare::Series;
use crate::floor;
use crate::hgrm::slug;
use crate::host::Host;
use crate::statistics::Ratio;
use crate::streams;
use crate::sweep;
use crate::sweep::Ladder;
use crate::table;
use crate::table::Row;
use crate::table::Table;

/// A series with what is reckoned from it once and shown in several places.
struct Section<'a> {
    series: &'a Series,
    rows: Vec<Row>,
    table: Table,
    contrast: Option<Table>,
}

/// The whole page.
pub fn page(results: &Results) -> String {
    let versions = &results.measured.versions;
    let styles = style::styles(versions.iter().map(|version| version.peer.as_str()));
    let (ladders, others) = sweep::split(&results.measured);
    let section = |series| Section {
        series,
        rows: table::rows(series),
        table: Table::of(series),
        contrast: Table::of_contrast(&results.measured, series),
    };
    let sections: Vec<Section<'_>> = others.into_iter().map(section).collect();
    let subject = versions.first().map_or("", |version| &version.peer);
    let is_other = |style: &&Style| style.class != "control" && !floor::is_floor(&style.peer);
    let others: Vec<&str> = styles.iter().skip(1).filter(is_other).map(|style| style.peer.as_str()).collect();
    let title = if others.is_empty() { subject.to_owned() } else { format!("{subject} beside {}", others.join(", ")) };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) ", " (results.date) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                h1 { (title) }
                p class="soft" { (results.date) ", commit " (if results.commit.is_empty() { "unknown" } else { &results.commit }) }
                (facts(results))
                @if results.measured.partial { p class="disturbed" { b { "Partial" } ": " (table::PARTIAL) } }
                (overview(&sections, &styles, subject))
                @for ladder in &ladders { (climb(ladder, &styles)) }
                @for section in &sections { (series(section, &styles)) }
                (method(subject, results.measured.series.iter().any(table::has_floor)))
            }
        }
    };
    page.into_string()
}

/// Versions, command and hosts.
fn facts(results: &Results) -> Markup {
    html! {
        dl {
            @for version in results.measured.versions.iter().filter(|version| !version.peer.contains("-again")) {
                dt { (version.peer) } dd { (version.told()) }
            }
            dt { "command" } dd { code { (results.command) } }
        }
        (place("The host".to_owned(), &results.host))
        @for elsewhere in &results.elsewhere {
            (place(format!("The host of the {}, {}", elsewhere.what, elsewhere.address), &elsewhere.host))
        }
    }
}

/// One host, folded up: what it is, and what of it moves figures.
fn place(title: String, host: &Host) -> Markup {
    let mut noted = serde_json::to_value(host).unwrap_or_default();
    // They have a table of their own.
    if let Some(fields) = noted.as_object_mut() {
        fields.remove("findings");
    }
    let title = format!("{title}: {}, {} CPUs, Linux {}", host.processor, host.cpus, host.kernel);
    html! {
        details {
            summary { (title) }
            (fields(&noted))
            @if !host.findings.is_empty() {
                @let table = Table::of_host(title, host);
                p { (table.work) }
                div class="words" { (figures(&table)) }
            }
        }
    }
}

/// Whatever the bench has noted, by name, so that nothing it learns to note is left out here.
fn fields(value: &Value) -> Markup {
    html! {
        @match value {
            Value::Object(fields) => dl {
                @for (name, value) in fields { dt { (name.replace('_', " ")) } dd { (fields_inline(value)) } }
            },
            other => (fields_inline(other)),
        }
    }
}

fn fields_inline(value: &Value) -> Markup {
    html! {
        @match value {
            Value::Null => "–",
            Value::Bool(yes) => (if *yes { "yes" } else { "no" }),
            Value::String(text) => (if text.is_empty() { "–" } else { text }),
            Value::Array(values) if values.is_empty() => "none",
            Value::Array(values) => @for (place, value) in values.iter().enumerate() {
                @if place > 0 { "; " }
                (fields_inline(value))
            },
            Value::Object(_) => (fields(value)),
            Value::Number(number) => (number),
        }
    }
}

/// A ratio of a row, by its name.
type Metric = (&'static str, fn(&Row) -> Option<Ratio>);

/// What the subject is held against its peers in.
const METRICS: [Metric; 4] =
    [("CPU", |row| row.cpu_ratio), ("p50", |row| row.p50_ratio), ("p99", |row| row.p99_ratio), ("p99.9", |row| row.p999_ratio)];

/// All series in one table: which ratios are claimed, and which way.
fn overview(sections: &[Section<'_>], styles: &[Style], subject: &str) -> Markup {
    let peers: Vec<&Style> = styles.iter().skip(1).filter(|style| !floor::is_floor(&style.peer)).collect();
    let floors: Vec<Option<Ratio>> = sections.iter().map(|section| section.rows.first().and_then(|row| row.floor_ratio)).collect();
    let has_floor = floors.iter().any(Option::is_some);
    let is_known = |metric: &&Metric| sections.iter().flat_map(|section| &section.rows).any(|row| metric.1(row).is_some());
    let metrics: Vec<&Metric> = METRICS.iter().filter(is_known).collect();
    // A rule before the first column of each peer.
    let border = |place: usize| if place == 0 { "first" } else { "" };
    html! {
        @if !sections.is_empty() && !peers.is_empty() && !metrics.is_empty() {
            h2 { "All at once" }
            p {
                "Ratios " (subject) " over the peer: below 1, " (subject) " costs or waits less. "
                b class="lower" { "Less" } " and " b class="higher" { "more" }
                " where the 95 % interval excludes 1 and the effect is 3 % or more; grey where nothing can be claimed."
                @if has_floor { " Beside them its CPU time as a multiple of the floor's." }
            }
            div class="scroll" {
                table {
                    thead {
                        tr {
                            th {}
                            @if has_floor { th class="peer first" { "floor" } }
                            @for peer in &peers {
                                th class="peer first" colspan=(metrics.len()) { (peer.peer) @if peer.class == "control" { " (control)" } }
                            }
                        }
                        tr {
                            th {}
                            @if has_floor { th class="first" { "CPU" } }
                            @for _ in &peers { @for (place, (name, _)) in metrics.iter().enumerate() { th class=(border(place)) { (name) } } }
                        }
                    }
                    tbody {
                        @for (section, floor) in sections.iter().zip(&floors) {
                            tr {
                                td { a href={ "#" (anchor(section.series)) } { (section.table.title) } }
                                @if has_floor { (multiple_cell(*floor)) }
                                @for peer in &peers {
                                    @let row = section.rows.iter().find(|row| row.peer == peer.peer);
                                    @for (place, (_, ratio)) in metrics.iter().enumerate() {
                                        (ratio_cell(row.and_then(ratio), border(place)))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn ratio_cell(ratio: Option<Ratio>, border: &str) -> Markup {
    html! {
        @match ratio {
            Some(ratio) => td class={ (charts::claim(ratio)) " " (border) } title=(format!("{:.2}–{:.2}", ratio.low, ratio.high)) {
                (format!("{:.2}", ratio.ratio))
            },
            None => td class={ "level " (border) } { "–" },
        }
    }
}

/// A multiple of the floor claims nothing.
fn multiple_cell(ratio: Option<Ratio>) -> Markup {
    html! {
        @match ratio {
            Some(ratio) => td class="first" title=(format!("{:.2}–{:.2}", ratio.low, ratio.high)) { (format!("× {:.2}", ratio.ratio)) },
            None => td class="level first" { "–" },
        }
    }
}

fn anchor(series: &Series) -> String {
    slug(&series.title())
}

/// One ladder of rates: the knees, latency over throughput, every rate.
fn climb(ladder: &Ladder, styles: &[Style]) -> Markup {
    let (knees, rates) = (Table::of_knees(ladder), Table::of_ladder(ladder));
    html! {
        h2 id=(slug(&ladder.scenario)) { (ladder.scenario) ", up to the limit" }
        p { (knees.work) }
        (figures(&knees))
        (legend(styles.iter().filter(|style| ladder.curves.iter().any(|curve| curve.peer == style.peer))))
        div class="charts" {
            figure class="wide" {
                figcaption { b { "Latency and cost over throughput" } ": a point for each rate, a ring around the knee" }
                div class="panels two" { (ladder::panels(ladder, styles)) }
            }
        }
        details {
            summary { "Every rate" }
            p { (rates.work) }
            (figures(&rates))
        }
    }
}

/// One series: charts, table, marks.
fn series(section: &Section<'_>, styles: &[Style]) -> Markup {
    let Section { series, rows, table, contrast } = section;
    let waits = series.has_latency();
    html! {
        h2 id=(anchor(series)) { (table.title) }
        p { (table.work) }
        @if table.disturbed { p class="disturbed" { b { "Disturbed" } ": " (table::DISTURBED) } }
        (legend(styles.iter().filter(|style| series.peers.contains(&style.peer))))
        div class="charts" {
            @if waits {
                figure {
                    figcaption { b { "Latency over percentile" } ", from the intended start, or of round trips; faint where fewer than 100 requests lie beyond" }
                    (charts::percentiles(series, styles, |tally| &tally.latency))
                }
            }
            @if streams::has_first_bytes(series) {
                figure {
                    figcaption { b { "First byte over percentile" } ", from the intended start, of responses that are streams" }
                    (charts::percentiles(series, styles, |tally| &tally.first_byte))
                }
            }
            @if rows.iter().any(|row| row.cpu_ratio.is_some() && !floor::is_floor(&row.peer)) {
                figure {
                    figcaption { b { "Ratios to each peer" } ", 95 % intervals by resampling whole rounds" }
                    (charts::forest(&rows.iter().filter(|row| !floor::is_floor(&row.peer)).collect::<Vec<_>>()))
                }
            }
            @if let Some(seconds) = charts::seconds(series, styles) {
                figure class="wide" {
                    figcaption { b { "Second by second" } ": each block thin, the median over blocks bold; a dot below is a second with errors" }
                    div class="panels" { (seconds) }
                }
            }
        }
        (figures(table))
        (marks(series))
        @if let Some(contrast) = contrast {
            h3 { "With over without" }
            p { (contrast.work) }
            (figures(contrast))
        }
    }
}

fn legend<'a>(styles: impl Iterator<Item = &'a Style>) -> Markup {
    html! {
        ul class="legend" {
            @for style in styles {
                li {
                    svg viewBox="0 0 30 10" aria-hidden="true" { path class={ "line " (style.class) } d="M0 5H30" {} }
                    (style.peer)
                }
            }
        }
    }
}

/// The table of the Markdown page, cell by cell.
fn figures(table: &Table) -> Markup {
    html! {
        div class="scroll" {
            table {
                thead { tr { @for name in &table.header { th { (name) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for cell in row {
                                @match cell.strip_prefix("**").and_then(|cell| cell.strip_suffix("**")) {
                                    Some(bold) => td { b { (bold) } },
                                    None => td { (cell) },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How many blocks of each peer were marked, and why.
fn marks(series: &Series) -> Markup {
    let of = |peer: &str| {
        let all: Vec<String> =
            series.blocks.iter().filter(|block| block.peer == peer).flat_map(|block| block.marks.iter().map(ToString::to_string)).collect();
        let mut kinds = all.clone();
        kinds.sort();
        kinds.dedup();
        let told: Vec<String> = kinds.iter().map(|kind| format!("{} {kind}", all.iter().filter(|mark| *mark == kind).count())).collect();
        told.join(", ")
    };
    let marked: Vec<(&String, String)> = series.peers.iter().map(|peer| (peer, of(peer))).filter(|(_, told)| !told.is_empty()).collect();
    html! {
        @if !marked.is_empty() {
            p class="soft" {
                "Marked blocks: "
                @for (place, (peer, told)) in marked.iter().enumerate() { @if place > 0 { "; " } (peer) ": " (told) }
                "."
            }
        }
    }
}

/// How it was measured and what may be read from it.
fn method(subject: &str, has_floor: bool) -> Markup {
    html! {
        h2 id="method" { "How to read this" }
        p { (table::reading(subject).replace("**bold**", "bold")) }
        @if has_floor { p { (table::FLOOR) } }
        p {
            "In each round every proxy runs once, in random order, under the same schedule of due times; a peer called “again” is the subject a "
            "second time, and what it differs by is what this host cannot resolve. Saturated series are closed loops: they say what a "
            "request costs, and nothing about latency but where one connection goes round and round. A second of the charts holds the latency of the requests that were due in it, and the "
            "answers that came in it."
        }
        p { "Blocks are marked by rules fixed in advance; every block, marked or not, is in the JSON file." }
        dl { @for mark in Mark::ALL { dt { (mark.to_string()) } dd { (mark.rule()) } } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// The page without its document type and its empty elements, which XML has no form for.
    fn as_xml(page: &str) -> String {
        let rest = page.strip_prefix("<!DOCTYPE html>").expect("a page begins with its type");
        let pieces: Vec<&str> = rest.split("<meta").collect();
        let (first, others) = pieces.split_first().expect("a split has a first piece");
        others.iter().fold((*first).to_owned(), |page, piece| page + piece.split_once('>').map_or("", |(_, after)| after))
    }

    /// Every element is closed where it was opened, every attribute is quoted, and no identity is given twice.
    #[test]
    fn a_page_is_well_formed() {
        let xml = as_xml(&page(&sample::results()));
        let document = roxmltree::Document::parse(&xml).unwrap_or_else(|fault| panic!("{fault}"));
        let mut identities: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
        let links: Vec<&str> = document.descendants().filter_map(|node| node.attribute("href")).collect();
        assert!(!links.is_empty() && links.iter().all(|link| identities.contains(&&link[1..])), "{links:?} in {identities:?}");
        let count = identities.len();
        identities.sort_unstable();
        identities.dedup();
        assert_eq!(identities.len(), count);
    }

    /// Every peer, scenario and load has its row and its line, and the charts of an open load are all there.
    #[test]
    fn everything_measured_is_shown() {
        let results = sample::results();
        let page = page(&results);
        let document = as_xml(&page);
        let document = roxmltree::Document::parse(&document).unwrap();
        let texts: Vec<&str> = document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect();
        for series in &results.measured.series {
            let title = series.title();
            assert!(texts.contains(&title.as_str()), "{title}");
        }
        for version in &results.measured.versions {
            let cells = document.descendants().filter(|node| node.has_tag_name("td") && node.text() == Some(&version.peer)).count();
            assert_eq!(cells, results.measured.series.len(), "{}", version.peer);
        }
        let captions = |start: &str| texts.iter().filter(|text| text.starts_with(start)).count();
        assert_eq!((captions("Latency over percentile"), captions("Ratios to each peer"), captions("Second by second")), (2, 4, 4));
        assert!(texts.contains(&"reload <1>"));
        // Once in each of the two panels of a closed loop, and the three of an open one.
        let errors = texts.iter().filter(|text| **text == "theirs: 7 errors in this second, over all blocks").count();
        assert_eq!(errors, 2 * (2 + 3));
    }

    /// A name is text, whatever it is made of; a page refers to nothing outside of itself and runs nothing.
    #[test]
    fn a_page_is_self_contained() {
        let page = page(&sample::results());
        assert!(page.contains("&lt;odd&gt; &amp;") && !page.contains("<odd>"));
        for outside in ["http://", "https://", "<script", "<link", "<img", "@import", "url(", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!page.contains("NaN"));
    }

    /// A sweep is one section with all of its peers, rates and knees, in place of a section for each rate.
    #[test]
    fn a_sweep_is_shown_as_one() {
        let mut results = sample::ladder();
        // They have a table too.
        results.host.findings.clear();
        let xml = as_xml(&page(&results));
        let document = roxmltree::Document::parse(&xml).unwrap();
        let headings: Vec<&str> = document.descendants().filter(|node| node.has_tag_name("h2")).filter_map(|node| node.text()).collect();
        assert_eq!(headings, ["small-1k, up to the limit", "How to read this"]);
        let peers = results.measured.versions.len();
        let count =
            |class: &str| document.descendants().filter(|node| node.attribute("class").is_some_and(|it| it.contains(class))).count();
        // A ring around the knee of each peer, in each of the four panels.
        assert_eq!(count("ring "), 4 * peers);
        let rows = document.descendants().filter(|node| node.has_tag_name("tr")).count();
        assert_eq!(rows, (1 + peers) + (1 + peers * results.measured.series.len()));
    }

    /// The floor is what the subject is a multiple of, and in no chart or heading a peer to be held against.
    #[test]
    fn a_floor_is_no_competitor() {
        let mut results = sample::results();
        let names = results.measured.versions.iter_mut().map(|version| &mut version.peer);
        let names = names.chain(results.measured.series.iter_mut().flat_map(|series| {
            let blocks = series.blocks.iter_mut().map(|block| &mut block.peer);
            series.peers.iter_mut().chain(blocks)
        }));
        for name in names.filter(|name| name.starts_with('<')) {
            "floor-ring".clone_into(name);
        }
        let xml = as_xml(&page(&results));
        let document = roxmltree::Document::parse(&xml).unwrap();
        let texts: Vec<&str> = document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect();
        assert!(texts.contains(&"ours beside theirs"), "the title");
        assert_eq!(texts.iter().filter(|text| **text == "× 0.50").count(), results.measured.series.len(), "ours costs 20 µs, the floor 40");
        let ratios = texts.iter().filter(|text| text.contains("against floor-ring")).count();
        assert_eq!((ratios, texts.contains(&table::FLOOR)), (0, true));
        assert!(!page(&sample::results()).contains("× "));
    }

    /// A run without rounds, without peers beside the subject or without seconds has a page too.
    #[test]
    fn a_run_without_much_has_a_page() {
        let mut results = sample::results();
        results.measured.versions.truncate(1);
        for series in &mut results.measured.series {
            series.peers.truncate(1);
            series.blocks.retain(|block| block.peer == series.peers[0]);
            series.span.window_ns = 300_000_000;
        }
        results.measured.series[0].blocks.clear();
        assert!(roxmltree::Document::parse(&as_xml(&page(&results))).is_ok());
        results.measured.series.clear();
        results.measured.versions.clear();
        assert!(roxmltree::Document::parse(&as_xml(&page(&results))).is_ok());
    }
}
