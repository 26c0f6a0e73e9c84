//! Functions of one int8 code, as tables. Kernel: `integer_table`.

use super::device::Map;
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, strided_grid, word};
use crate::tensor::Tensor as Memory;

const INTEGER_TABLE: &str = include_str!("../../../shaders/pack/integer_table.wgsl");

params!(TableParams { words: u32, threads: u32, pad0: u32, pad1: u32 });

/// Records a table of 256 codes, 4 a word, on every code.
pub(super) fn record(recording: &mut Recording, caps: &Caps, codes: &Memory<u32>, from: &Map, to: &Map) -> Result<()> {
    let (groups, threads) = strided_grid(to.words(), caps.max_workgroups)?;
    let params = TableParams { words: word(to.words())?, threads, ..Default::default() };
    let bindings = [&from.memory, codes, &to.memory].map(Memory::binding).to_vec();
    bindable(caps, &bindings)?;
    recording.dispatch(&kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), 16.0 * to.words() as f64)
}

fn kernel() -> Kernel {
    Kernel::new::<TableParams>("integer_table", INTEGER_TABLE, &[Access::Read, Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel()]
}
