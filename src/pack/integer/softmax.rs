//! Softmax of int8 codes. Kernel: `integer_softmax`.

use super::device::Map;
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, strided_grid, word};
use crate::tensor::Tensor as Memory;

const INTEGER_SOFTMAX: &str = include_str!("../../../shaders/pack/integer_softmax.wgsl");

params!(SoftmaxParams { rows: u32, threads: u32, quads: u32, channels: u32 });

/// Records a softmax over the channels of each place; exponentials of the 256 differences of codes.
pub(super) fn record(
    recording: &mut Recording,
    caps: &Caps,
    exponentials: &Memory<u32>,
    from: &Map,
    to: &Map,
) -> Result<()> {
    let (groups, threads) = strided_grid(to.places(), caps.max_workgroups)?;
    let params = SoftmaxParams {
        rows: word(to.places())?,
        threads,
        quads: word(to.quads())?,
        channels: word(to.shape[2])?,
        ..Default::default()
    };
    let bindings = [&from.memory, exponentials, &to.memory].map(Memory::binding).to_vec();
    bindable(caps, &bindings)?;
    let work = 100.0 * to.words() as f64;
    recording.dispatch(&kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), work)
}

fn kernel() -> Kernel {
    Kernel::new::<SoftmaxParams>("integer_softmax", INTEGER_SOFTMAX, &[Access::Read, Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel()]
}
