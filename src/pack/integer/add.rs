//! Sums and products of tensors of int8 codes. Kernel: `integer_add`.

use super::device::Map;
use super::{Binary, BinaryKind, Multiplier};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, strided_grid, word};

const INTEGER_ADD: &str = include_str!("../../../shaders/pack/integer_add.wgsl");

params!(AddParams {
    words: u32,
    threads: u32,
    places: u32,
    quads: u32,
    sample_a: u32,
    place_a: u32,
    sample_b: u32,
    place_b: u32,
    zero_a: i32,
    zero_b: i32,
    zero: i32,
    low: i32,
    high: i32,
    multiplier_a: u32,
    left_a: u32,
    right_a: u32,
    multiplier_b: u32,
    left_b: u32,
    right_b: u32,
    multiplier: u32,
    left: u32,
    right: u32,
    pad0: u32,
    pad1: u32,
});

/// Records a sum or product; an operand of one sample or one place is that of all.
pub(super) fn record(
    recording: &mut Recording,
    caps: &Caps,
    b: &Binary,
    zero: i32,
    operands: [&Map; 2],
    to: &Map,
) -> Result<()> {
    let [first, second] = match b.kind {
        BinaryKind::Add(multipliers) => multipliers,
        BinaryKind::Multiply => [Multiplier::default(); 2],
    };
    let (groups, threads) = strided_grid(to.words(), caps.max_workgroups)?;
    let steps = operands.map(|map| {
        let places = map.places() / map.samples;
        let sample = if map.samples == 1 { 0 } else { places * map.quads() };
        (word(sample), word(if places == 1 { 0 } else { map.quads() }))
    });
    let [(sample_a, place_a), (sample_b, place_b)] = steps;
    let params = AddParams {
        words: word(to.words())?,
        threads,
        places: word(to.places() / to.samples)?,
        quads: word(to.quads())?,
        sample_a: sample_a?,
        place_a: place_a?,
        sample_b: sample_b?,
        place_b: place_b?,
        zero_a: b.zero_points[0],
        zero_b: b.zero_points[1],
        zero,
        low: b.bounds.low,
        high: b.bounds.high,
        multiplier_a: first.value.cast_unsigned(),
        left_a: first.left(),
        right_a: first.right(),
        multiplier_b: second.value.cast_unsigned(),
        left_b: second.left(),
        right_b: second.right(),
        multiplier: b.rescale.value.cast_unsigned(),
        left: b.rescale.left(),
        right: b.rescale.right(),
        ..Default::default()
    };
    let bindings = [operands[0], operands[1], to].map(|map| map.memory.binding()).to_vec();
    bindable(caps, &bindings)?;
    let kernel = kernel(b.kind == BinaryKind::Multiply);
    recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, 1, 1]), 64.0 * to.words() as f64)
}

fn kernel(multiply: bool) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<AddParams>("integer_add", INTEGER_ADD, &bindings).flag("MULTIPLY", multiply)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [false, true].map(kernel).to_vec()
}
