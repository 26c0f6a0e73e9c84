//! Reductions over the last axis. Kernel: `reduce`.

use super::word;
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

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

    fn kernel(self) -> Kernel {
        let kernel = Kernel::new::<ReduceParams>("reduce", REDUCE, &[Access::Read, Access::Write]);
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
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, and for the largest or smallest of nothing.
pub fn record(recording: &mut Recording, caps: &Caps, reduction: Reduction, x: &Tensor, out: &Tensor) -> Result<()> {
    let &[rows, n] = x.shape() else {
        return Err(Error::internal(format!("a reduction of shape {:?}", x.shape())));
    };
    let extreme = matches!(reduction, Reduction::Max | Reduction::Min);
    if out.shape() != [rows] || (extreme && n == 0) {
        return Err(Error::internal(format!("a reduction of shape {:?} into {:?}", x.shape(), out.shape())));
    }
    let params = ReduceParams { n: word(n)?, stride: word(x.row_stride())?, rows: word(rows)?, ..Default::default() };
    if params.rows > caps.max_workgroups {
        return Err(Error::internal(format!("a reduction of {rows} rows in one dispatch")));
    }
    let bindings = vec![x.binding(), out.binding()];
    recording.dispatch(&reduction.kernel(), bindings, &params, Grid::Direct([params.rows, 1, 1]), x.len() as f64)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    Reduction::ALL.map(Reduction::kernel).to_vec()
}
