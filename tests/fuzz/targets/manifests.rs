//! Feeds libfuzzer's bytes to `entry::manifests`.
#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::manifests(bytes));
