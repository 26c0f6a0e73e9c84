//! Ring 1: every kernel against an oracle in f64, with bounds checks and without, in every variant.
//!
//! Tolerances are derived: u = 2^-23 is the unit roundoff of WGSL (either neighbour), and a sum whose terms pass through
//! at most D roundings is within D u (1 + small) of sum |terms|. Outputs and paddings start as poison.

mod columns;
#[path = "../common/mod.rs"]
mod common;
mod compact;
mod conv;
mod conv_gradient;
mod conv_slots;
mod elementwise;
mod embedding;
mod gather;
mod matmul;
mod members;
mod moves;
mod norm;
mod pool;
mod pool_gradient;
mod scan;
mod softmax;
mod sort;
mod tuning;
mod windows;

/// Runs `check` on the trusted and on the checked device.
fn on_both(test: &str, check: impl Fn(&wavehull::Gpu)) {
    for checked in [false, true] {
        if let Some(gpu) = common::device(test, checked) {
            check(gpu);
        }
    }
}
