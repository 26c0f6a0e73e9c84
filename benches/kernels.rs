//! `cargo bench --bench kernels [-- PATTERN]`: roofs, matrix products, kernels that move memory.

mod support;

fn main() -> std::process::ExitCode {
    support::measure(&["host", "device", "matmul", "memory"])
}
