//! Convolutions of int8 codes in groups of channels. Kernel: `integer_grouped`.

use super::conv::{Stored, grid, params_of};
use super::device::Map;
use super::{Product, ProductKind};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, word};
use crate::tensor::Tensor as Memory;

const INTEGER_GROUPED: &str = include_str!("../../../shaders/pack/integer_grouped.wgsl");

params!(GroupedParams {
    places: u32,
    step: u32,
    out_h: u32,
    out_w: u32,
    in_h: u32,
    in_w: u32,
    in_words: u32,
    quads: u32,
    filter_h: u32,
    filter_w: u32,
    stride_y: u32,
    stride_x: u32,
    pad_y: u32,
    pad_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    in_zero: i32,
    zero: i32,
    low: i32,
    high: i32,
    filters: u32,
    each: u32,
    depth: u32,
    pad0: u32,
});

/// `[filter, ky, kx, channel]`, without gaps.
pub(super) fn weights(p: &Product) -> Vec<u32> {
    let filters = p.shape.filters;
    match p.kind {
        ProductKind::Conv => super::packed(&p.weights, 4),
        ProductKind::Depthwise => {
            let taps = p.shape.depth();
            let by_filter: Vec<i8> =
                (0..filters).flat_map(|f| (0..taps).map(move |t| t * filters + f)).map(|i| p.weights[i]).collect();
            super::packed(&by_filter, 4)
        }
    }
}

pub(super) fn record(
    recording: &mut Recording,
    caps: &Caps,
    (p, stored): (&Product, &Stored),
    zeros: [i32; 2],
    [from, to]: [&Map; 2],
) -> Result<()> {
    let of = params_of(p, zeros, [from, to])?;
    let grid = grid(caps, to, 64)?;
    let params = GroupedParams {
        grid: of.grid,
        places: of.places,
        step: grid[0],
        out_h: of.out_h,
        out_w: of.out_w,
        in_h: of.in_h,
        in_w: of.in_w,
        in_words: of.in_words,
        quads: of.quads,
        filter_h: of.filter_h,
        filter_w: of.filter_w,
        stride_y: of.stride_y,
        stride_x: of.stride_x,
        pad_y: of.pad_y,
        pad_x: of.pad_x,
        dilation_y: of.dilation_y,
        dilation_x: of.dilation_x,
        in_zero: zeros[0],
        zero: of.zero,
        low: of.low,
        high: of.high,
        filters: of.filters,
        each: word(p.shape.filters / p.shape.groups)?,
        depth: word(p.shape.input[2] / p.shape.groups)?,
        pad0: 0,
    };
    let bindings = [&from.memory, &stored.weights, &stored.filters, &to.memory].map(Memory::binding).to_vec();
    bindable(caps, &bindings)?;
    let work = 20.0 * to.places() as f64 * p.weights.len() as f64;
    recording.dispatch(&kernel(), bindings, &params, Grid::Direct(grid), work)
}

fn kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    Kernel::new::<GroupedParams>("integer_grouped", INTEGER_GROUPED, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel()]
}
