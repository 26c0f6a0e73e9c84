//! `cargo bench --bench pack [-- PATTERN]`: codecs in device memory beside the copy, and products that decode their matrix on the way.

mod support;

fn main() -> std::process::ExitCode {
    support::measure(&["pack"])
}
