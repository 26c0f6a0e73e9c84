//! Ring 1 of what a training step needs besides layers: random streams, dropout, losses, optimisers, batches; every kernel against an oracle
//! in f64 or of bits, with bounds checks and without.
//!
//! Tolerances are derived: u = 2^-23 is the unit roundoff of WGSL. Outputs and paddings start as poison, a NaN.
#![cfg(feature = "train")]

mod batches;
mod certified;
#[path = "../common/mod.rs"]
mod common;
mod losses;
mod optimisers;
mod streams;

use std::fmt::Debug;

/// Runs `check` on the trusted and on the checked device.
fn on_both(test: &str, check: impl Fn(&wavehull::Gpu)) {
    for checked in [false, true] {
        if let Some(gpu) = common::device(test, checked) {
            check(gpu);
        }
    }
}

/// What every slot ends with (words of `run`, one list a slot) must have the same bits alone, among others at any place, and between
/// neighbours that are `broken`.
fn assert_independent<S: Clone + Debug>(slots: &[S], broken: &S, run: impl Fn(&[S]) -> Vec<Vec<u32>>) {
    let together = run(slots);
    let mut reversed = slots.to_vec();
    reversed.reverse();
    let reversed = run(&reversed);
    for (b, slot) in slots.iter().enumerate() {
        let alone = run(std::slice::from_ref(slot));
        assert!(alone[0] == together[b], "slot {b} of {} differs from itself alone", slots.len());
        assert!(alone[0] == reversed[slots.len() - 1 - b], "slot {b} differs at another place");
        let beside = run(&[broken.clone(), slot.clone(), broken.clone()]);
        assert!(alone[0] == beside[1], "slot {b} differs between broken neighbours");
    }
    assert!(together.windows(2).all(|pair| pair[0] != pair[1]), "slots that are alike test nothing");
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// One list a slot.
fn per_slot(values: &[f32], slots: usize) -> Vec<Vec<u32>> {
    values.chunks(values.len() / slots).map(bits).collect()
}
