//! `cargo +nightly fuzz run onnx`; what is demanded of the reader stands in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wavehull_fuzz::onnx(bytes));
