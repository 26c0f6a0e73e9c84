//! `cargo bench --bench hash [-- PATTERN]`: training steps of networks with very many labels in every mode, their kernels, and asking what was trained.

mod support;

fn main() -> std::process::ExitCode {
    support::measure(&["hash"])
}
