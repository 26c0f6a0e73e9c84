//! Transposed copies. Kernel: `transpose`.

use super::{windows, word};
use crate::error::{Error, Result};
use crate::gpu::{Access, Binding, Caps, Grid, Kernel, Recording, params};
use crate::tensor::{ALIGNED, Element, Tensor};

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

/// Records `out[.., j, i] = x[.., i, j]` for two or three axes, in one dispatch.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn record<T: Element>(recording: &mut Recording, x: &Tensor<T>, out: &Tensor<T>) -> Result<()> {
    let (batch, m, n) = shape(x, out)?;
    let whole = Window { batch, m, n, ld_x: x.row_stride(), ld_out: out.row_stride() };
    whole.dispatch(recording, [x.binding(), out.binding()], (batch_stride(x), batch_stride(out)))
}

/// Records the same in windows where `x` or `out` is larger than what the device binds at once.
///
/// # Errors
/// As [`record`]; [`crate::ErrorKind::TooBig`] if 64 rows are larger than a binding.
pub fn record_windows<T: Element>(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor<T>,
    out: &Tensor<T>,
) -> Result<()> {
    let bytes = x.binding().size.max(out.binding().size);
    if bytes <= caps.max_binding {
        return record(recording, x, out);
    }
    let (batch, m, n) = shape(x, out)?;
    let (ld_x, ld_out) = (x.row_stride(), out.row_stride());
    let most = usize::try_from(caps.max_binding / 4).unwrap_or(usize::MAX);
    // A window of x is a range of its rows from an aligned column on, and so is one of out.
    let (rows, columns) = (most / ld_x.max(1) / ALIGNED * ALIGNED, most / ld_out.max(1) / ALIGNED * ALIGNED);
    let aligned = batch == 1 || (batch_stride(x).is_multiple_of(ALIGNED) && batch_stride(out).is_multiple_of(ALIGNED));
    if rows == 0 || columns == 0 || !aligned {
        return Err(windows::too_big(bytes, caps.max_binding));
    }
    for z in 0..batch {
        for i in (0..m).step_by(rows) {
            for j in (0..n).step_by(columns) {
                let window = Window { batch: 1, m: rows.min(m - i), n: columns.min(n - j), ld_x, ld_out };
                let from = x.part(z * batch_stride(x) + i * ld_x + j, (window.m - 1) * ld_x + window.n)?;
                let to = out.part(z * batch_stride(out) + j * ld_out + i, (window.n - 1) * ld_out + window.m)?;
                window.dispatch(recording, [from, to], (0, 0))?;
            }
        }
    }
    Ok(())
}

/// Batch, rows and columns of `x`.
fn shape<T: Element>(x: &Tensor<T>, out: &Tensor<T>) -> Result<(usize, usize, usize)> {
    match (x.shape(), out.shape()) {
        (&[m, n], &[on, om]) if (om, on) == (m, n) => Ok((1, m, n)),
        (&[batch, m, n], &[ob, on, om]) if (ob, om, on) == (batch, m, n) => Ok((batch, m, n)),
        (from, to) => Err(Error::internal(format!("a transpose of shape {from:?} into {to:?}"))),
    }
}

fn batch_stride<T: Element>(t: &Tensor<T>) -> usize {
    if t.shape().len() == 3 && t.shape()[0] > 1 { t.strides()[0] } else { 0 }
}

/// What one dispatch moves.
struct Window {
    batch: usize,
    m: usize,
    n: usize,
    ld_x: usize,
    ld_out: usize,
}

impl Window {
    fn dispatch(&self, recording: &mut Recording, bindings: [Binding; 2], strides: (usize, usize)) -> Result<()> {
        let params = TransposeParams {
            m: word(self.m)?,
            n: word(self.n)?,
            ld_x: word(self.ld_x)?,
            ld_out: word(self.ld_out)?,
            stride_x: word(strides.0)?,
            stride_out: word(strides.1)?,
            ..Default::default()
        };
        let grid = [params.n.div_ceil(32), params.m.div_ceil(32), word(self.batch)?];
        let work = (self.batch * self.m * self.n) as f64;
        recording.dispatch(&kernel(), bindings.to_vec(), &params, Grid::Direct(grid), work)
    }
}

fn kernel() -> Kernel {
    Kernel::new::<TransposeParams>("transpose", TRANSPOSE, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel()]
}
