//! `cargo +nightly fuzz run vnnlib`; what is demanded of the reader stands in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wavehull_fuzz::vnnlib(bytes));
