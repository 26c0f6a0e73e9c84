//! Products over gathered rows and terms, as bound propagation uses them. Kernels: those of [`Variant`] with `GATHER`.

use super::{CHUNK, MatmulParams, Variant, shape_error};
use crate::error::Result;
use crate::gpu::{Binding, Grid, Recording};
use crate::ops::word;
use crate::tensor::Tensor;

/// The operands of a product over gathered rows and terms, as bound propagation uses it.
#[derive(Debug, Clone)]
pub struct Gather<'a> {
    /// `[rows, 4]`: for every row of `c` its owner, its slot (not used here), the row of `a` and the number of parts
    /// that have terms.
    pub rows: &'a Tensor<u32>,
    /// `[owners, k]`: the rows of `b` that count, at the front.
    pub k_list: &'a Tensor<u32>,
    /// `[owners]`: how many count.
    pub k_count: &'a Tensor<u32>,
    /// `[1]`: number of rows, a multiple of the tile's rows.
    pub row_count: &'a Tensor<u32>,
    /// The grid: `(rows / tile rows, columns, chunks)`, written by the device.
    pub grid: Binding,
    /// Expected number of rows, for cutting submissions.
    pub expected: usize,
}

/// Records `planes[part][r, :] = sum over the part's k of a[source(r), k] b[k_list[owner(r)][k], :]` for all gathered
/// rows r; `planes` is `[chunks, rows, n]`, `a` `[rows, k]`, `b` `[k, n]`. The result is the sum of the planes.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn record_gathered(
    recording: &mut Recording,
    variant: Variant,
    a: &Tensor,
    b: &Tensor,
    planes: &Tensor,
    gather: Gather<'_>,
) -> Result<()> {
    let (&[k, n], &[chunks, capacity, width]) = (b.shape(), planes.shape()) else {
        return Err(shape_error("planes", planes));
    };
    if width < n || chunks < k.div_ceil(CHUNK) {
        return Err(shape_error("planes", planes));
    }
    let params = MatmulParams {
        m: word(capacity)?,
        n: word(n)?,
        k: word(k)?,
        chunk: word(CHUNK)?,
        lda: word(a.row_stride())?,
        ldb: word(b.row_stride())?,
        ldc: word(planes.row_stride())?,
        chunks: word(k.div_ceil(CHUNK))?,
        // Without a batch, the stride of `a` is free: it carries the stride of `k_list`.
        stride_a: word(gather.k_list.row_stride())?,
        stride_c: word(capacity * planes.row_stride())?,
        ..Default::default()
    };
    let bindings = vec![
        a.binding(),
        b.binding(),
        planes.binding(),
        gather.rows.binding(),
        gather.k_list.binding(),
        gather.k_count.binding(),
        gather.row_count.binding(),
    ];
    let work = 2.0 * gather.expected as f64 * n as f64 * k as f64;
    recording.dispatch(&variant.kernel(&["GATHER"]), bindings, &params, Grid::Indirect(gather.grid), work)
}
