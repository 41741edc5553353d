//! Every input that a fuzzer found worth keeping is tried again, by an ordinary compiler.

#[path = "fuzz/entry.rs"]
mod entry;

use std::fs;
use std::path::Path;

/// Panics where a promise is broken.
type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("annotations", entry::annotations),
    ("chunk_decoder", entry::chunk_decoder),
    ("manifests", entry::manifests),
    ("proxy_header", entry::proxy_header),
    ("request_head", entry::request_head),
];

/// Every promise holds for every input of every corpus, and no target is without one.
#[test]
fn every_promise_holds_for_every_input() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for (name, target) in TARGETS {
        let corpus = fuzz.join("corpus").join(name);
        let mut inputs: Vec<_> = fs::read_dir(&corpus).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
        inputs.sort_unstable();
        assert!(inputs.len() >= 5, "{name} has {} inputs", inputs.len());
        for input in inputs {
            println!("{}", input.display());
            target(&fs::read(&input).expect("an input"));
        }
    }
}

/// A target that this test forgets would have no corpus to keep.
#[test]
fn every_target_is_replayed() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/targets");
    let mut names: Vec<_> = fs::read_dir(targets)
        .expect("targets")
        .map(|entry| entry.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    assert_eq!(names, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
