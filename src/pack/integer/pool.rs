//! Pools of int8 codes. Kernel: `integer_pool`.

use super::device::Map;
use super::{Multiplier, Pool, PoolKind};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, strided_grid, word};

const INTEGER_POOL: &str = include_str!("../../../shaders/pack/integer_pool.wgsl");

params!(PoolParams {
    words: u32,
    threads: u32,
    out_h: u32,
    out_w: u32,
    in_h: u32,
    in_w: u32,
    quads: u32,
    pad0: u32,
    filter_h: u32,
    filter_w: u32,
    stride_y: u32,
    stride_x: u32,
    pad_y: u32,
    pad_x: u32,
    in_zero: i32,
    zero: i32,
    low: i32,
    high: i32,
    multiplier: u32,
    left: u32,
    right: u32,
    pad1: u32,
    pad2: u32,
    pad3: u32,
});

/// Records a pool; zero points of both maps.
pub(super) fn record(
    recording: &mut Recording,
    caps: &Caps,
    p: &Pool,
    zeros: [i32; 2],
    [from, to]: [&Map; 2],
) -> Result<()> {
    let (groups, threads) = strided_grid(to.words(), caps.max_workgroups)?;
    let multiplier = if let PoolKind::Mean(multiplier) = p.kind { multiplier } else { Multiplier::default() };
    let [filter_h, filter_w] = p.window.filter;
    let params = PoolParams {
        words: word(to.words())?,
        threads,
        out_h: word(to.shape[0])?,
        out_w: word(to.shape[1])?,
        in_h: word(from.shape[0])?,
        in_w: word(from.shape[1])?,
        quads: word(to.quads())?,
        filter_h: word(filter_h)?,
        filter_w: word(filter_w)?,
        stride_y: word(p.window.stride[0])?,
        stride_x: word(p.window.stride[1])?,
        pad_y: word(p.window.padding[0])?,
        pad_x: word(p.window.padding[1])?,
        in_zero: zeros[0],
        zero: zeros[1],
        low: p.bounds.low,
        high: p.bounds.high,
        multiplier: multiplier.value.cast_unsigned(),
        left: multiplier.left(),
        right: multiplier.right(),
        ..Default::default()
    };
    let bindings = vec![from.memory.binding(), to.memory.binding()];
    bindable(caps, &bindings)?;
    let work = 8.0 * to.words() as f64 * (filter_h * filter_w) as f64;
    recording.dispatch(&kernel(p.kind), bindings, &params, Grid::Direct([groups, 1, 1]), work)
}

fn kernel(kind: PoolKind) -> Kernel {
    Kernel::new::<PoolParams>("integer_pool", INTEGER_POOL, &[Access::Read, Access::Write])
        .flag("MAX", kind == PoolKind::Max)
        .flag("MEAN", matches!(kind, PoolKind::Mean(_)))
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [PoolKind::Max, PoolKind::Average, PoolKind::Mean(Multiplier::default())].map(kernel).to_vec()
}
