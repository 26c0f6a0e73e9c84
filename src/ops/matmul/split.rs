//! The end of a split-K product. Kernel: `split_sum`.

use super::{BIAS, RELU, matrix, shape_error};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{strided_grid, word};
use crate::tensor::Tensor;

const SPLIT_SUM: &str = include_str!("../../../shaders/ops/split_sum.wgsl");

params!(SplitSumParams {
    n: u32,
    ld: u32,
    plane: u32,
    chunks: u32,
    len: u32,
    threads: u32,
    stride_bias: u32,
    flags: u32,
    m: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Records `c = act(sum of planes + bias)`, the end of a split-K product: `planes` `[batch, chunks, m, n]`, `c` `[batch, m, n]`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn split_sum(
    recording: &mut Recording,
    caps: &Caps,
    planes: &Tensor,
    bias: Option<&Tensor>,
    relu: bool,
    c: &Tensor,
) -> Result<()> {
    let (&[batch, chunks, m, n], Some(target)) = (planes.shape(), matrix(c)) else {
        return Err(shape_error("planes", planes));
    };
    if target != (batch, m, n) || bias.is_some_and(|t| t.shape() != [n] && t.shape() != [batch, n]) {
        return Err(shape_error("c", c));
    }
    let (groups, threads) = strided_grid(batch * m * n, caps.max_workgroups)?;
    let params = SplitSumParams {
        n: word(n)?,
        ld: word(planes.row_stride())?,
        plane: word(m * planes.row_stride())?,
        chunks: word(chunks)?,
        len: word(batch * m * n)?,
        threads,
        stride_bias: bias.filter(|t| t.shape().len() > 1).map_or(Ok(0), |t| word(t.row_stride()))?,
        flags: if bias.is_some() { BIAS } else { 0 } | if relu { RELU } else { 0 },
        m: word(m)?,
        ..Default::default()
    };
    let bindings = vec![planes.binding(), bias.unwrap_or(planes).binding(), c.binding()];
    let work = (batch * chunks * m * n) as f64;
    recording.dispatch(&kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), work)
}

pub(super) fn kernel() -> Kernel {
    Kernel::new::<SplitSumParams>("split_sum", SPLIT_SUM, &[Access::Read, Access::Read, Access::Write])
}
