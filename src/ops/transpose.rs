//! Transposed copies. Kernel: `transpose`.

use super::word;
use crate::error::{Error, Result};
use crate::gpu::{Access, Grid, Kernel, Recording, params};
use crate::tensor::{Element, Tensor};

const TRANSPOSE: &str = include_str!("../../shaders/ops/transpose.wgsl");

params!(TransposeParams {
    m: u32,
    n: u32,
    ld_x: u32,
    ld_out: u32,
    stride_x: u32,
    stride_out: u32,
    pad0: u32,
    pad1: u32,
});

/// Records `out[.., j, i] = x[.., i, j]` for two or three axes.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn record<T: Element>(recording: &mut Recording, x: &Tensor<T>, out: &Tensor<T>) -> Result<()> {
    let (batch, m, n) = match (x.shape(), out.shape()) {
        (&[m, n], &[on, om]) if (om, on) == (m, n) => (1, m, n),
        (&[batch, m, n], &[ob, on, om]) if (ob, om, on) == (batch, m, n) => (batch, m, n),
        (from, to) => return Err(Error::internal(format!("a transpose of shape {from:?} into {to:?}"))),
    };
    let params = TransposeParams {
        m: word(m)?,
        n: word(n)?,
        ld_x: word(x.row_stride())?,
        ld_out: word(out.row_stride())?,
        stride_x: if batch > 1 { word(x.strides()[0])? } else { 0 },
        stride_out: if batch > 1 { word(out.strides()[0])? } else { 0 },
        ..Default::default()
    };
    let grid = [params.n.div_ceil(32), params.m.div_ceil(32), word(batch)?];
    recording.dispatch(&kernel(), vec![x.binding(), out.binding()], &params, Grid::Direct(grid), x.len() as f64)
}

fn kernel() -> Kernel {
    Kernel::new::<TransposeParams>("transpose", TRANSPOSE, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel()]
}
