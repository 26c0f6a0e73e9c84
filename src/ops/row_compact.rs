//! Compaction: the indices of flagged elements of each segment, and the row table that follows from their counts.
//! Kernels: `row_compact`, `segment_offsets`.

use super::word;
use crate::error::{Error, Result};
use crate::gpu::{Access, Binding, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const ROW_COMPACT: &str = include_str!("../../shaders/ops/row_compact.wgsl");
const SEGMENT_OFFSETS: &str = include_str!("../../shaders/ops/segment_offsets.wgsl");

params!(RowCompactParams { n: u32, stride: u32, pad0: u32, pad1: u32 });
params!(SegmentOffsetsParams {
    segments: u32,
    sides: u32,
    tile: u32,
    columns: u32,
    rows_a: u32,
    rows_c: u32,
    chunks: u32,
    capacity: u32,
});

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
    let kernel = compact_kernel(if caps.is_software() { 8 } else { 64 });
    recording.dispatch(&kernel, bindings, &params, Grid::Direct([word(segments)?, 1, 1]), flags.len() as f64)
}

/// How counted elements become rows, and the grids of the three kinds of dispatch over them.
#[derive(Debug, Clone, Copy)]
pub struct RowPlan {
    /// Rows of one element (lower and upper bound: 2).
    pub sides: u32,
    /// Each segment's rows are padded to a multiple of this.
    pub tile: u32,
    /// Workgroups along the columns of the matrix product.
    pub columns: u32,
    /// Split-K chunks of the matrix product.
    pub chunks: u32,
    /// Rows of a workgroup of the first kind.
    pub rows_a: u32,
    /// Rows of a workgroup of the third kind.
    pub rows_c: u32,
    /// Most rows, a multiple of the tile; what is beyond is cut off.
    pub capacity: u32,
}

/// Records the exclusive sum of padded row counts into `offset` `[segments]`, the total into `row_count` `[1]`, and three
/// grids into `arguments` (see [`crate::Gpu::allocate_arguments_async`]) at words 0, 4 and 8.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn offsets(
    recording: &mut Recording,
    plan: RowPlan,
    count: &Tensor<u32>,
    offset: &Tensor<u32>,
    row_count: &Tensor<u32>,
    arguments: &Binding,
) -> Result<()> {
    if offset.shape() != count.shape() || count.shape().len() != 1 || row_count.shape() != [1] {
        return Err(Error::internal(format!("offsets of {:?} into {:?}", count.shape(), offset.shape())));
    }
    let params = SegmentOffsetsParams {
        segments: word(count.len())?,
        sides: plan.sides,
        tile: plan.tile,
        columns: plan.columns,
        rows_a: plan.rows_a,
        rows_c: plan.rows_c,
        chunks: plan.chunks,
        capacity: plan.capacity,
        ..Default::default()
    };
    let bindings = vec![count.binding(), offset.binding(), row_count.binding(), arguments.clone()];
    recording.dispatch(&offsets_kernel(), bindings, &params, Grid::Direct([1, 1, 1]), count.len() as f64)
}

/// With this many invocations a segment; the number never changes a result.
fn compact_kernel(lanes: u32) -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Write];
    Kernel::new::<RowCompactParams>("row_compact", ROW_COMPACT, &bindings).define("LANES", lanes)
}

fn offsets_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Write, Access::Write];
    Kernel::new::<SegmentOffsetsParams>("segment_offsets", SEGMENT_OFFSETS, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![compact_kernel(8), compact_kernel(64), offsets_kernel()]
}
