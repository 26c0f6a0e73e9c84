//! Compaction: the indices of flagged elements of each segment. Kernel: `row_compact`.

use super::word;
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const ROW_COMPACT: &str = include_str!("../../shaders/ops/row_compact.wgsl");

params!(RowCompactParams { n: u32, stride: u32, pad0: u32, pad1: u32 });

/// Records `list[s]` = the indices of non-zero `flags[s, :]`, ascending, and `count[s]` = how many, for each of the
/// segments: `flags` and `list` `[segments, n]`, `count` `[segments]`. Behind `count[s]` the list is undefined.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn record(
    recording: &mut Recording,
    caps: &Caps,
    flags: &Tensor<u32>,
    list: &Tensor<u32>,
    count: &Tensor<u32>,
) -> Result<()> {
    let &[segments, n] = flags.shape() else {
        return Err(Error::internal(format!("compaction of shape {:?}", flags.shape())));
    };
    if list.shape() != flags.shape() || count.shape() != [segments] || word(segments)? > caps.max_workgroups {
        return Err(Error::internal(format!("compaction of {:?} into {:?}", flags.shape(), list.shape())));
    }
    let params = RowCompactParams { n: word(n)?, stride: word(flags.row_stride())?, ..Default::default() };
    let bindings = vec![flags.binding(), list.binding(), count.binding()];
    let lanes = if caps.is_software() { 8 } else { 64 };
    recording.dispatch(&kernel(lanes), bindings, &params, Grid::Direct([word(segments)?, 1, 1]), flags.len() as f64)
}

/// With this many invocations a segment; the number never changes a result.
fn kernel(lanes: u32) -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Write];
    Kernel::new::<RowCompactParams>("row_compact", ROW_COMPACT, &bindings).define("LANES", lanes)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel(8), kernel(64)]
}
