//! `cargo +nightly fuzz run tflite`; what is demanded of the reader stands in `src/pack.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    wavehull_fuzz::tflite(bytes);
});
