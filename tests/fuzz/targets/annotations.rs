//! Feeds libfuzzer's bytes to `entry::annotations`.
#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::annotations(bytes));
