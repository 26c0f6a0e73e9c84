//! Softmax and log-sum-exp of rows. Kernel: `softmax`.

use super::word;
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const SOFTMAX: &str = include_str!("../../shaders/ops/softmax.wgsl");

params!(SoftmaxParams { rows: u32, n: u32, ld_x: u32, ld_out: u32, groups: u32, pad0: u32, pad1: u32, pad2: u32 });

/// Records `out[r, j] = exp(x[r, j] - max) / sum exp(x[r, :] - max)` for `x` `[rows, n]` and, where they are asked for, `out` `[rows, n]` and
/// `log_sum_exp` `[rows]`.
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
    let groups = word(rows)?.min(caps.max_workgroups);
    let params = SoftmaxParams {
        rows: word(rows)?,
        n: word(n)?,
        ld_x: word(x.row_stride())?,
        ld_out: word(out.map_or(0, Tensor::row_stride))?,
        groups,
        ..Default::default()
    };
    let bindings = [Some(x), out, log_sum_exp].into_iter().flatten().map(Tensor::binding).collect();
    let kernel = kernel(out.is_some(), log_sum_exp.is_some());
    // An exponential counts for eight operations.
    recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, 1, 1]), 20.0 * x.len() as f64)
}

fn kernel(out: bool, log_sum_exp: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Write];
    if out && log_sum_exp {
        bindings.push(Access::Write);
    }
    Kernel::new::<SoftmaxParams>("softmax", SOFTMAX, &bindings).flag("LSE", log_sum_exp).flag("LOG_ONLY", !out)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel(true, false), kernel(true, true), kernel(false, true)]
}
