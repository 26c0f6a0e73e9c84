//! `cargo bench --bench kernels [-- PATTERN]`: roofs, matrix products, kernels that move memory, convolutions and the other families.

mod support;

fn main() -> std::process::ExitCode {
    support::measure(&["host", "device", "matmul", "memory", "kernels"])
}
