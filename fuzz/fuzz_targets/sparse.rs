//! `cargo +nightly fuzz run sparse`; what is demanded of the readers stands in `src/sparse.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wavehull_fuzz::sparse(bytes));
