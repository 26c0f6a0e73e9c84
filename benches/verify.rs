//! `cargo bench --bench verify [-- PATTERN]`: start-up, bound propagation and attacks on whole networks.

mod support;

fn main() -> std::process::ExitCode {
    support::measure(&["startup", "verify"])
}
