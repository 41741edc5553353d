//! Feeds libfuzzer's bytes to `entry::proxy_header`.
#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::proxy_header(bytes));
