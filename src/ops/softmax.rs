//! Softmax and log-sum-exp of rows, and the gradient through it. Kernels: `softmax`, `softmax_gradient`.

use super::{windows, word};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const SOFTMAX: &str = include_str!("../../shaders/ops/softmax.wgsl");
const SOFTMAX_GRADIENT: &str = include_str!("../../shaders/ops/softmax_gradient.wgsl");

params!(SoftmaxParams { rows: u32, n: u32, ld_x: u32, ld_out: u32, groups: u32, pad0: u32, pad1: u32, pad2: u32 });
params!(SoftmaxGradientParams {
    rows: u32,
    n: u32,
    row_y: u32,
    row_g: u32,
    row_dx: u32,
    groups: u32,
    pad0: u32,
    pad1: u32,
});

/// Records `out[r, j] = exp(x[r, j] - max) / sum exp(x[r, :] - max)` for `x` `[rows, n]` and, where they are asked for,
/// `out` `[rows, n]` and `log_sum_exp` `[rows]`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, for rows without elements and if nothing is asked for.
pub fn record(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor,
    out: Option<&Tensor>,
    log_sum_exp: Option<&Tensor>,
) -> Result<()> {
    let misfit = || {
        Error::internal(format!(
            "a softmax of {:?} into {:?} and {:?}",
            x.shape(),
            out.map(Tensor::shape),
            log_sum_exp.map(Tensor::shape)
        ))
    };
    let &[rows, n] = x.shape() else { return Err(misfit()) };
    let fits = out.is_none_or(|t| t.shape() == x.shape()) && log_sum_exp.is_none_or(|t| t.shape() == [rows]);
    if !fits || n == 0 || (out.is_none() && log_sum_exp.is_none()) {
        return Err(misfit());
    }
    let kernel = kernel(out.is_some(), log_sum_exp.is_some(), false, caps.is_software());
    dispatch(recording, caps, &kernel, x, &[out, log_sum_exp])
}

/// Records softmax with a causal mask for `x` and `out` `[rows, n]` whose rows are square blocks of n: row r sees elements
/// `j <= r mod n` alone, the others of `out` become 0. Bit-identical to softmax of rows that hold large negative numbers
/// there.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit and for rows that are no whole blocks.
pub fn causal(recording: &mut Recording, caps: &Caps, x: &Tensor, out: &Tensor) -> Result<()> {
    match *x.shape() {
        [rows, n] if n > 0 && rows % n == 0 && out.shape() == x.shape() => {
            dispatch(recording, caps, &kernel(true, false, true, caps.is_software()), x, &[Some(out), None])
        }
        _ => Err(Error::internal(format!("a causal softmax of {:?} into {:?}", x.shape(), out.shape()))),
    }
}

/// Records `dx[r, j] = y[r, j] (g[r, j] - sum over i of g[r, i] y[r, i])`, the gradient `g` through a softmax whose output
/// was `y`; all are `[rows, n]`. Where `y` is 0, as behind a causal mask, `dx` is 0.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] if no rows fit a binding.
pub fn gradient(recording: &mut Recording, caps: &Caps, y: &Tensor, g: &Tensor, dx: &Tensor) -> Result<()> {
    let &[rows, n] = y.shape() else {
        return Err(Error::internal(format!("a gradient through a softmax of {:?}", y.shape())));
    };
    if g.shape() != y.shape() || dx.shape() != y.shape() || n == 0 {
        let what = format!("a gradient {:?} through a softmax of {:?} into {:?}", g.shape(), y.shape(), dx.shape());
        return Err(Error::internal(what));
    }
    let operands = [y, g, dx];
    let strides = operands.map(Tensor::row_stride);
    if strides.iter().any(|s| s % 4 != 0) && rows > 1 {
        return Err(Error::internal("rows of a softmax that do not start at whole vectors"));
    }
    for range in windows::ranges(rows, &strides, &operands.map(Tensor::binding), caps.max_binding)? {
        let rowwise = caps.is_software();
        let groups = word(range.len().div_ceil(if rowwise { 64 } else { 4 }))?.min(caps.max_workgroups);
        let params = SoftmaxGradientParams {
            rows: word(range.len())?,
            n: word(n)?,
            row_y: word(strides[0] / 4)?,
            row_g: word(strides[1] / 4)?,
            row_dx: word(strides[2] / 4)?,
            groups,
            ..Default::default()
        };
        let part = |(t, &stride): (&&Tensor, &usize)| windows::binding(t, &range, stride, rows);
        let bindings = operands.iter().zip(&strides).map(part).collect::<Result<Vec<_>>>()?;
        let work = 5.0 * (range.len() * n) as f64;
        recording.dispatch(&gradient_kernel(rowwise), bindings, &params, Grid::Direct([groups, 1, 1]), work)?;
    }
    Ok(())
}

fn dispatch(
    recording: &mut Recording,
    caps: &Caps,
    kernel: &Kernel,
    x: &Tensor,
    results: &[Option<&Tensor>; 2],
) -> Result<()> {
    let rows = x.shape()[0];
    let groups = word(rows.div_ceil(if caps.is_software() { 64 } else { 4 }))?.min(caps.max_workgroups);
    let params = SoftmaxParams {
        rows: word(rows)?,
        n: word(x.columns())?,
        ld_x: word(x.row_stride())?,
        ld_out: word(results[0].map_or(0, Tensor::row_stride))?,
        groups,
        ..Default::default()
    };
    let bindings = [Some(x), results[0], results[1]].into_iter().flatten().map(Tensor::binding).collect();
    // An exponential counts for eight operations.
    recording.dispatch(kernel, bindings, &params, Grid::Direct([groups, 1, 1]), 20.0 * x.len() as f64)
}

/// `rowwise`: an invocation a row, for where barriers cost more than scattered reads. The form never changes a result.
fn kernel(out: bool, log_sum_exp: bool, causal: bool, rowwise: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Write];
    if out && log_sum_exp {
        bindings.push(Access::Write);
    }
    let kernel = Kernel::new::<SoftmaxParams>("softmax", SOFTMAX, &bindings);
    kernel.flag("LSE", log_sum_exp).flag("LOG_ONLY", !out).flag("CAUSAL", causal).flag("ROWWISE", rowwise)
}

/// `rowwise`: an invocation a row. The form never changes a result.
fn gradient_kernel(rowwise: bool) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<SoftmaxGradientParams>("softmax_gradient", SOFTMAX_GRADIENT, &bindings).flag("ROWWISE", rowwise)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let forward = |rowwise| {
        let kinds = [(true, false, false), (true, true, false), (false, true, false), (true, false, true)];
        kinds.map(|(out, log_sum_exp, causal)| kernel(out, log_sum_exp, causal, rowwise))
    };
    [false, true]
        .into_iter()
        .flat_map(|rowwise| forward(rowwise).into_iter().chain([gradient_kernel(rowwise)]))
        .collect()
}
