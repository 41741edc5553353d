//! The plan of the house: who may know whom, read from the text of `src/`; docs/ARCHITECTURE.md draws the same tables.
//!
//! It reads text, not syntax: a path made by a macro escapes it, and `crate::` inside a string is a false alarm, to be reworded.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every room, and the rooms it may import. `main` is the door, `src/main.rs`.
const PLAN: &[(&str, &[&str])] = &[
    ("main", &["config", "boot"]),
    // Only their `Config` types, which it fills.
    ("config", &["admin", "control", "demo", "explain", "shard", "snapshot", "telemetry", "translate", "http", "net"]),
    ("boot", &["admin", "control", "demo", "explain", "shard", "snapshot", "http", "net", "telemetry"]),
    ("admin", &["explain", "snapshot", "http", "telemetry"]),
    ("demo", &["snapshot", "telemetry"]),
    ("control", &["translate", "snapshot", "telemetry"]),
    ("explain", &["filter", "upstream", "snapshot", "route", "http"]),
    ("shard", &["filter", "upstream", "snapshot", "route", "http", "net", "telemetry"]),
    ("translate", &["snapshot", "route", "http"]),
    ("filter", &["snapshot", "http"]),
    ("upstream", &["snapshot", "http", "net"]),
    ("snapshot", &["route", "http"]),
    ("route", &["http"]),
    ("http", &[]),
    ("net", &[]),
    ("telemetry", &[]),
];

/// Every outside crate that has a door, and the rooms or files it may come in by.
const DOORS: &[(&str, &[&str])] = &[
    ("glommio", &["net"]),
    ("io-uring", &["net"]),
    ("libc", &["net"]),
    ("unsafe code", &["net"]),
    ("kube", &["control", "translate"]),
    ("k8s-openapi", &["control", "translate"]),
    ("tokio", &["control", "admin", "demo", "boot"]),
    ("hyper", &["control", "admin", "demo"]),
    ("hyper-util", &["control", "admin", "demo"]),
    ("http-body-util", &["control", "admin", "demo"]),
    ("rustls", &["net/tls", "snapshot/certificate"]),
    ("crossbeam-channel", &["snapshot/channel"]),
    ("httparse", &["http"]),
];

/// What no line of `src/` may say, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("FIXME", "mend it, or say in a comment what holds until then"),
    ("TODO", "do it, or leave it out"),
    ("dbg!(", "remove it"),
    ("println!(\"debug", "remove it"),
    ("use crate::{", "one path per line"),
    ("super::super::", "name the path from `crate`"),
];

/// Lines a function may have.
const FUNCTION_LINES_MAX: usize = 70;

/// A ratchet: functions that are longer, with their lines and the reason. It only goes down.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// A file of the house.
struct Source {
    /// Below `src/`, with `/` and without `.rs`: `shard/mod`.
    place: String,
    lines: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { place: path.trim_end_matches(".rs").to_owned(), lines: text.lines().map(str::to_owned).collect() }
    }

    /// The first component of the place.
    fn room(&self) -> &str {
        self.place.split('/').next().unwrap_or_default()
    }

    /// Whether it is the front of its room, where `super` would be another room.
    fn is_front(&self) -> bool {
        !self.place.contains('/') || self.place == format!("{}/mod", self.room())
    }

    /// The path of the module it is: `shard`, `http/h1/parse`.
    fn module(&self) -> &str {
        self.place.strip_suffix("/mod").unwrap_or(&self.place)
    }

    /// Lines of code with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().filter_map(|(index, line)| {
            let line = line.split(" // ").next().unwrap_or_default();
            (!line.trim_start().starts_with("//")).then_some((index + 1, line))
        })
    }

    fn fault(&self, line: usize, what: &str) -> String {
        format!("src/{}.rs:{line}: {what}", self.place)
    }
}

/// The whole of `src/`.
fn house() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    files_below(&src)
        .into_iter()
        .map(|path| {
            let below = path.strip_prefix(&format!("{}/", src.display())).expect("a file below src");
            Source::new(below, &fs::read_to_string(&path).expect("a readable file"))
        })
        .collect()
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        // The fuzz targets are built beside their source.
        if path.is_dir() && path.ends_with("target") {
            continue;
        } else if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path.display().to_string());
        }
    }
    files.sort();
    files
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What follows each `needle` of `line` that is not the tail of a longer word.
fn after<'l>(line: &'l str, needle: &str) -> Vec<&'l str> {
    line.match_indices(needle)
        .filter(|(at, _)| *at == 0 || !is_identifier(line.as_bytes()[at - 1]))
        .map(|(at, _)| &line[at + needle.len()..])
        .collect()
}

/// `a::b::C(` as `["a", "b", "C"]`.
fn components(path: &str) -> Vec<&str> {
    let end = path.bytes().position(|byte| !is_identifier(byte) && byte != b':').unwrap_or(path.len());
    path[..end].split("::").filter(|part| !part.is_empty()).collect()
}

/// Every file's room is on the plan, and each import goes to a room the plan allows.
fn imports(house: &[Source]) -> Vec<String> {
    let plan: BTreeMap<_, _> = PLAN.iter().copied().collect();
    let mut faults = Vec::new();
    for source in house.iter().filter(|source| source.place != "lib") {
        let room = source.room();
        let Some(allowed) = plan.get(room) else {
            faults.push(source.fault(1, &format!("{room} is no room of the plan")));
            continue;
        };
        for (number, line) in source.code() {
            for path in after(line, "crate::").into_iter().chain(after(line, "corelane::")) {
                let to = components(path).first().copied().unwrap_or("several rooms at once");
                if to != room && !allowed.contains(&to) {
                    faults.push(source.fault(number, &format!("{room} takes from {to}")));
                }
            }
        }
    }
    faults
}

/// An outside crate comes in by its doors only.
fn doors(house: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in house {
        for (name, places) in DOORS {
            if places.iter().any(|place| source.module() == *place || source.place.starts_with(&format!("{place}/"))) {
                continue;
            }
            let word = name.replace(['-', ' '], "_");
            let needles = if *name == "unsafe code" {
                vec![word]
            } else {
                vec![format!("{word}::"), format!("use {word};"), format!("use {word} as"), format!("extern crate {word}")]
            };
            for (number, line) in source.code() {
                if needles.iter().any(|needle| !after(line, needle).is_empty()) {
                    faults.push(source.fault(number, &format!("{name} comes in by {} only", places.join(", "))));
                }
            }
        }
    }
    faults
}

/// The names that the front of a room shows to other rooms by `pub use`.
fn window(front: &Source) -> BTreeSet<String> {
    front
        .code()
        .filter_map(|(_, line)| line.strip_prefix("pub use ")?.strip_suffix(';'))
        .filter_map(|path| components(path).last().map(|name| (*name).to_owned()))
        .collect()
}

/// The files of one room that `source` names, with the line of the first mention. A `pub use` is a window, not an arrow.
fn arrows<'h>(source: &Source, modules: &BTreeMap<String, &'h Source>) -> BTreeMap<&'h str, usize> {
    let mut arrows = BTreeMap::new();
    for (number, line) in source.code() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        if line.starts_with("pub use ") {
            continue;
        }
        let of_crate = after(line, "crate::").into_iter().map(|path| components(path).join("/"));
        // In a `mod.rs`, its children go by their own names.
        let children = modules.keys().filter_map(|module| {
            let child = module.strip_prefix(&format!("{}/", source.module()))?;
            let named = source.place.ends_with("/mod") && !child.contains('/') && !after(line, &format!("{child}::")).is_empty();
            (named && !line.contains(&format!("::{child}::"))).then(|| module.clone())
        });
        for path in of_crate.chain(children).collect::<Vec<_>>() {
            let target = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path.as_str()]).rev().find_map(|part| modules.get(part));
            if let Some(target) = target.filter(|target| target.place != source.place) {
                arrows.entry(target.place.as_str()).or_insert(number);
            }
        }
    }
    arrows
}

/// No file of a room knows another that knows it, directly or around a corner; nobody inside looks through the room's window.
fn circles(house: &[Source]) -> Vec<String> {
    let modules: BTreeMap<String, &Source> = house.iter().map(|source| (source.module().to_owned(), source)).collect();
    let mut faults = Vec::new();
    let mut graph: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for source in house {
        let room = source.room();
        let of_room = modules.iter().filter(|(_, other)| other.room() == room).map(|(name, other)| (name.clone(), *other)).collect();
        graph.insert(&source.place, arrows(source, &of_room));
        let shown = modules.get(room).map(|front| window(front)).unwrap_or_default();
        for (number, line) in source.code() {
            for name in after(line, &format!("crate::{room}::")).into_iter().filter_map(|path| components(path).first().copied()) {
                // A function may bear the name of its file: then the path goes on behind it.
                if shown.contains(name) && !modules.contains_key(&format!("{room}/{name}")) {
                    faults.push(source.fault(number, &format!("{name} is taken through the window of {room}: name its file")));
                }
            }
        }
    }
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        walk(start, &graph, &mut Vec::new(), &mut done, &mut faults);
    }
    faults
}

fn walk<'h>(
    at: &'h str,
    graph: &BTreeMap<&'h str, BTreeMap<&'h str, usize>>,
    path: &mut Vec<&'h str>,
    done: &mut BTreeSet<&'h str>,
    faults: &mut Vec<String>,
) {
    if let Some(start) = path.iter().position(|place| *place == at) {
        let circle = &path[start..];
        let line = graph[circle[circle.len() - 1]][at];
        faults.push(format!("src/{}.rs:{line}: a circle: {} -> {at}", circle[circle.len() - 1], circle.join(" -> ")));
        return;
    }
    if !done.insert(at) {
        return;
    }
    path.push(at);
    for next in graph[at].keys() {
        walk(next, graph, path, done, faults);
    }
    path.pop();
}

/// The form of a line: nothing banned, `super` only as a test's glob, one imported path per line.
fn forms(house: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in house {
        for (index, line) in source.lines.iter().enumerate() {
            for (word, instead) in BANNED {
                if line.contains(word) {
                    faults.push(source.fault(index + 1, &format!("`{word}`: {instead}")));
                }
            }
        }
        for (number, line) in source.code() {
            let reaches_out = !after(line, "super::").is_empty() && line.trim() != "use super::*;";
            if reaches_out && (source.is_front() || !line.starts_with("    ")) {
                faults.push(source.fault(number, "`super::` hides where it leads: name the path from `crate`"));
            }
            if line.trim_start().trim_start_matches("pub ").starts_with("use crate::") && line.contains('{') {
                faults.push(source.fault(number, "one imported path per line"));
            }
        }
    }
    faults
}

/// Every file is a module of its parent: nothing lies about that the compiler never sees.
fn orphans(house: &[Source]) -> Vec<String> {
    let modules: BTreeMap<&str, &Source> = house.iter().map(|source| (source.module(), source)).collect();
    let mut faults = Vec::new();
    for source in house.iter().filter(|source| !["lib", "main"].contains(&source.module())) {
        let (parent, name) = source.module().rsplit_once('/').unwrap_or_else(|| ("lib", source.module()));
        let declared =
            modules.get(parent).is_some_and(|parent| parent.code().any(|(_, line)| line.trim_end().ends_with(&format!("mod {name};"))));
        if !declared {
            faults.push(source.fault(1, &format!("no `mod {name};` in {parent}")));
        }
    }
    faults
}

/// The name, first line and length of every function outside tests.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let mut functions = Vec::new();
    let mut open: Option<(String, usize, String)> = None;
    for (number, line) in source.code() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        if let Some((name, start, end)) = &open {
            if line == end {
                functions.push((name.clone(), *start, number - start + 1));
                open = None;
            }
            continue;
        }
        if let Some(rest) = after(line, "fn ").first()
            && let Some(name) = components(rest).first()
            && !line.trim_end().ends_with([';', '}'])
        {
            let indent = line.len() - line.trim_start().len();
            open = Some(((*name).to_owned(), number, format!("{}}}", " ".repeat(indent))));
        }
    }
    functions
}

/// Functions fit a screen, but for those on the ratchet, which never grow.
fn lengths(house: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut excused = BTreeSet::new();
    for source in house {
        for (name, start, lines) in functions(source) {
            let entry = LONG_FUNCTIONS.iter().find(|(place, function, ..)| *place == source.place && *function == name);
            let lines_max = entry.map_or(FUNCTION_LINES_MAX, |(_, _, lines, _)| *lines);
            if lines > lines_max {
                faults.push(source.fault(start, &format!("{name} has {lines} lines, {lines_max} are allowed")));
            }
            if entry.is_some() && lines > FUNCTION_LINES_MAX {
                excused.insert((source.place.clone(), name));
            }
        }
    }
    for (place, name, ..) in LONG_FUNCTIONS {
        if !excused.contains(&((*place).to_owned(), (*name).to_owned())) {
            faults.push(format!("src/{place}.rs: {name} needs its place on the ratchet no more: take it off"));
        }
    }
    faults
}

/// The first two columns of the table in `page` whose first header is `header`; the second as a set.
fn table(page: &str, header: &str) -> BTreeMap<String, BTreeSet<String>> {
    page.lines()
        .skip_while(|line| !line.starts_with(&format!("| {header} |")))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(|cell| cell.replace('`', "")).collect();
            let set = cells[2].split(',').map(str::trim).filter(|cell| !["", "nothing of ours"].contains(cell));
            (cells[1].trim().to_owned(), set.map(str::to_owned).collect())
        })
        .collect()
}

fn as_table(rows: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
    rows.iter().map(|(name, places)| ((*name).to_owned(), places.iter().map(|place| (*place).to_owned()).collect())).collect()
}

/// Imports go downwards, to the rooms that the plan names.
#[test]
fn a_room_takes_only_from_rooms_below_it() {
    none(&imports(&house()));
}

/// The plan itself has no way up: a room may import only rooms that stand below it in the table.
#[test]
fn the_plan_goes_downwards() {
    for (index, (room, allowed)) in PLAN.iter().enumerate() {
        for name in *allowed {
            assert!(PLAN[index + 1..].iter().any(|(below, _)| below == name), "{room} may import {name}, which stands above it");
        }
    }
}

/// An outside crate is known in its rooms and nowhere else.
#[test]
fn outside_crates_come_in_by_their_doors() {
    none(&doors(&house()));
}

/// Files of one room do not know each other in a circle.
#[test]
fn no_room_is_a_knot() {
    none(&circles(&house()));
}

/// Lines keep the house's form.
#[test]
fn lines_are_in_form() {
    none(&forms(&house()));
}

/// Every file belongs to the tree of modules.
#[test]
fn no_file_lies_about_unused() {
    none(&orphans(&house()));
}

/// Functions fit a screen.
#[test]
fn functions_fit_a_screen() {
    none(&lengths(&house()));
}

/// Every file begins by saying what it is.
#[test]
fn every_file_opens_with_a_sentence() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    for path in ["src", "tests", "bench/src"].iter().flat_map(|folder| files_below(&root.join(folder))) {
        let text = fs::read_to_string(&path).expect("a readable file");
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ")
            || !first.trim_end().ends_with(['.', ':', ',', ';']) && !text.lines().nth(1).unwrap_or_default().starts_with("//! ")
        {
            faults.push(format!("{path}:1: opens with `{first}`, not with a sentence after `//! `"));
        }
    }
    none(&faults);
}

/// docs/ARCHITECTURE.md draws the tables that are checked here, and no others.
#[test]
fn the_drawing_shows_the_house() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    assert_eq!(table(&page, "room"), as_table(PLAN));
    assert_eq!(table(&page, "crate"), as_table(DOORS));
}

/// Every outside crate has its reason in docs/decisions/0003, and what has none is not in Cargo.toml.
#[test]
fn every_dependency_has_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml");
    let page = fs::read_to_string(root.join("docs/decisions/0003-dependencies.md")).expect("docs/decisions/0003-dependencies.md");
    let wanted: Vec<_> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split([' ', '.', '=']).next().filter(|name| !name.is_empty() && !name.starts_with('#')))
        .collect();
    let given: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(given, wanted);
}

/// A link in a page leads to a file that is there.
#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> = ["docs", "docs/decisions", "tuning", "deploy/seccomp", "bench"].map(|folder| root.join(folder)).to_vec();
    pages.push(root.to_path_buf());
    let mut faults = Vec::new();
    for folder in pages {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a readable page");
            for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                    faults.push(format!("{}: {link} is not there", path.display()));
                }
            }
        }
    }
    none(&faults);
}

/// Each check sees the fault it is there for: a house with one of each gets them all named, and a sound line none.
#[test]
fn every_kind_of_fault_is_seen() {
    let house = [
        Source::new("lib.rs", "pub mod http;\npub mod route;"),
        Source::new("attic.rs", "//! A room nobody planned."),
        Source::new("route/mod.rs", "pub mod host;\npub use host::Host;\nuse crate::snapshot::Rule;\nhost::find();\nuse super::http;"),
        Source::new("route/host.rs", "use crate::route::Host;\nuse crate::route::table;\nuse tokio::net;\nuse crate::http::{a, b};"),
        Source::new("http/mod.rs", "// crate::shard in a comment, tokio::net too\nlet my_tokio::net = 1;"),
        Source::new("http/lost.rs", &format!("fn long() {{\n{}}}\n// FIXME\n", "    a();\n".repeat(70))),
    ];
    let expected: &[(&[String], &[&str])] = &[
        (&imports(&house), &["src/attic.rs:1: attic is no room of the plan", "src/route/mod.rs:3: route takes from snapshot"]),
        (&doors(&house), &["src/route/host.rs:3: tokio comes in by control, admin, demo, boot only"]),
        (
            &circles(&house),
            &[
                "src/route/host.rs:1: Host is taken through the window of route: name its file",
                "src/route/mod.rs:4: a circle: route/host -> route/mod -> route/host",
            ],
        ),
        (
            &forms(&house),
            &[
                "src/route/mod.rs:5: `super::` hides where it leads: name the path from `crate`",
                "src/route/host.rs:4: one imported path per line",
                "src/http/lost.rs:73: `FIXME`: mend it, or say in a comment what holds until then",
            ],
        ),
        (&orphans(&house), &["src/attic.rs:1: no `mod attic;` in lib", "src/http/lost.rs:1: no `mod lost;` in http"]),
        (&lengths(&house)[..1], &["src/http/lost.rs:1: long has 72 lines, 70 are allowed"]),
    ];
    for (faults, wanted) in expected {
        assert_eq!(faults, wanted);
    }
}
