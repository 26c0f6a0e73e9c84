//! Depthwise convolutions of int8 codes with one filter a channel. Kernel: `integer_depthwise`.

use super::conv::{ProductParams, Stored, grid, params_of};
use super::device::Map;
use super::{Product, words};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording};
use crate::ops::bindable;
use crate::tensor::Tensor as Memory;

const INTEGER_DEPTHWISE: &str = include_str!("../../../shaders/pack/integer_depthwise.wgsl");

/// `[quads, taps]`.
pub(super) fn weights(p: &Product) -> Vec<u32> {
    let (quads, taps) = (words(p.shape.filters), p.shape.depth());
    let by_tap = super::packed(&p.weights, p.shape.filters);
    (0..quads).flat_map(|quad| (0..taps).map(move |tap| tap * quads + quad)).map(|i| by_tap[i]).collect()
}

pub(super) fn record(
    recording: &mut Recording,
    caps: &Caps,
    (p, stored): (&Product, &Stored),
    zeros: [i32; 2],
    [from, to]: [&Map; 2],
) -> Result<()> {
    let mut params = params_of(p, zeros, [from, to])?;
    let grid = grid(caps, to, 256)?;
    params.step = grid[0];
    let bindings = [&from.memory, &stored.weights, &stored.filters, &to.memory].map(Memory::binding).to_vec();
    bindable(caps, &bindings)?;
    let work = 2.0 * to.places() as f64 * p.weights.len() as f64;
    recording.dispatch(&kernel(), bindings, &params, Grid::Direct(grid), work)
}

fn kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    Kernel::new::<ProductParams>("integer_depthwise", INTEGER_DEPTHWISE, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel()]
}
