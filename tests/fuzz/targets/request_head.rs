//! Feeds libfuzzer's bytes to `entry::request_head`.
#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::request_head(bytes));
