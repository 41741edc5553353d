//! Feeds libfuzzer's bytes to `entry::chunk_decoder`.
#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::chunk_decoder(bytes));
