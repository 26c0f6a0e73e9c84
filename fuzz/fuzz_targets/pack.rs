//! `cargo +nightly fuzz run pack`; what is demanded of the reader stands in `src/pack.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wavehull_fuzz::pack(bytes));
