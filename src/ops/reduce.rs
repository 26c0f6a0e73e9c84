//! Reductions over the last axis. Kernel: `reduce`.

use super::{windows, word};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::{ALIGNED, Tensor};

const REDUCE: &str = include_str!("../../shaders/ops/reduce.wgsl");

params!(ReduceParams { n: u32, stride: u32, rows: u32, pad: u32 });

/// What is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Sum.
    Sum,
    /// Sum of magnitudes.
    AbsSum,
    /// Largest.
    Max,
    /// Smallest.
    Min,
}

impl Reduction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sum, Self::AbsSum, Self::Max, Self::Min];

    /// `rowwise`: an invocation a row, all partial results in registers. The form never changes a result.
    fn kernel(self, rowwise: bool) -> Kernel {
        let kernel = Kernel::new::<ReduceParams>("reduce", REDUCE, &[Access::Read, Access::Write]);
        let kernel = kernel.flag("ROWWISE", rowwise);
        match self {
            Self::Sum => kernel,
            Self::AbsSum => kernel.flag("ABS_SUM", true),
            Self::Max => kernel.flag("MAX", true).flag("EXTREME", true),
            Self::Min => kernel.flag("MIN", true).flag("EXTREME", true),
        }
    }
}

/// The longest chain of roundings of a sum of `n` terms.
pub fn depth(n: usize) -> usize {
    n.div_ceil(64) + 6
}

/// Records `out[r] = reduction of x[r, :]` for `x` `[rows, n]` and `out` `[rows]`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, and for the largest or smallest of nothing;
/// [`crate::ErrorKind::TooBig`] if 64 rows are larger than a binding.
pub fn record(recording: &mut Recording, caps: &Caps, reduction: Reduction, x: &Tensor, out: &Tensor) -> Result<()> {
    let &[rows, n] = x.shape() else {
        return Err(Error::internal(format!("a reduction of shape {:?}", x.shape())));
    };
    let extreme = matches!(reduction, Reduction::Max | Reduction::Min);
    if out.shape() != [rows] || (extreme && n == 0) {
        return Err(Error::internal(format!("a reduction of shape {:?} into {:?}", x.shape(), out.shape())));
    }
    // Short rows leave most of 16 invocations idle, and on a software device a barrier costs more than scattered reads.
    let rowwise = n <= 64 || caps.is_software();
    let kernel = reduction.kernel(rowwise);
    let group = if rowwise { 64 } else { 4 };
    for whole in windows::ranges(rows, &[x.row_stride(), 1], &[x.binding(), out.binding()], caps.max_binding)? {
        let most = caps.max_workgroups as usize / ALIGNED * ALIGNED * group;
        for start in whole.clone().step_by(most) {
            let range = start..whole.end.min(start + most);
            let params = ReduceParams {
                n: word(n)?,
                stride: word(x.row_stride())?,
                rows: word(range.len())?,
                ..Default::default()
            };
            let bindings =
                vec![windows::binding(x, &range, x.row_stride(), rows)?, windows::binding(out, &range, 1, rows)?];
            let grid = Grid::Direct([word(range.len().div_ceil(group))?, 1, 1]);
            recording.dispatch(&kernel, bindings, &params, grid, (range.len() * n) as f64)?;
        }
    }
    Ok(())
}

pub(super) fn catalogue() -> Vec<Kernel> {
    Reduction::ALL.iter().flat_map(|op| [false, true].map(|rowwise| op.kernel(rowwise))).collect()
}
