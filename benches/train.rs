//! `cargo bench --bench train [-- PATTERN]`: the kernels of a training step, and whole steps of arrays.

mod support;

fn main() -> std::process::ExitCode {
    support::measure(&["gradients", "train"])
}
