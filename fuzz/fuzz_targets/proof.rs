//! `cargo +nightly fuzz run proof`; what is demanded of the reader stands in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wavehull_fuzz::proof(bytes));
