//! The output layer for active labels that all samples of a step share: a panel of rows, and matrix products.
//! Kernels: `panel_rows`, `row_tail`, and those of [`crate::ops::matmul`].

use super::{Hidden, gate, misfit, part, planes, row_window, stored};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::hash::Rows;
use crate::ops::matmul::Matmul;
use crate::ops::{bindable, strided_grid, word};
use crate::tensor::Tensor;

const PANEL_ROWS: &str = include_str!("../../../shaders/hash/panel_rows.wgsl");
const ROW_TAIL: &str = include_str!("../../../shaders/hash/row_tail.wgsl");
/// Columns of the tiles of products: what rows have beyond multiples of it costs a product a whole tile, and is summed by itself.
const TILE: usize = 16;

params!(PanelRowsParams {
    len: u32,
    threads: u32,
    width4: u32,
    first: u32,
    rows: u32,
    stride4: u32,
    pad0: u32,
    pad1: u32,
});

params!(RowTailParams {
    rows: u32,
    samples: u32,
    pitch4: u32,
    width4: u32,
    first4: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Records `panel[s, :] = weights[ids[s], :]` for `ids` `[S]`, in any order, and `panel` `[S, width]`. Where an id is no row of the table,
/// the panel stays what it is.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] for a panel larger than a binding.
pub fn panel(recording: &mut Recording, caps: &Caps, table: &Rows, ids: &Tensor<u32>, panel: &Tensor) -> Result<()> {
    let (&[count], &[rows, width]) = (ids.shape(), panel.shape()) else {
        return Err(misfit("panel", ids.shape(), panel.shape()));
    };
    let (bf16, stride4) = stored(table, width)?;
    if rows != count {
        return Err(misfit("panel", ids.shape(), panel.shape()));
    }
    let len = word(count * width / 4)?;
    let (groups, threads) = strided_grid(len as usize, caps.max_workgroups)?;
    for window in table.windows(caps)? {
        let params = PanelRowsParams {
            len,
            threads,
            width4: word(width / 4)?,
            first: word(window.start)?,
            rows: word(window.len())?,
            stride4,
            ..Default::default()
        };
        let bindings = vec![row_window(table, &window)?, ids.binding(), panel.binding()];
        bindable(caps, &bindings)?;
        recording.dispatch(
            &panel_kernel(bf16),
            bindings,
            &params,
            Grid::Direct([groups, 1, 1]),
            f64::from(len) * 4.0,
        )?;
    }
    Ok(())
}

/// Records the logits `z` `[B, S]` of hidden elements `h` `[B, width]` for the rows of a panel `[S, width]`, or of the whole output table.
///
/// # Errors
/// Those of [`Matmul::record`].
pub fn logits(recording: &mut Recording, caps: &Caps, h: &Tensor, panel: &Tensor, z: &Tensor) -> Result<()> {
    Matmul { trans_b: true, ..Matmul::default() }.record(recording, caps, h, panel, z)
}

/// Records the gradient `dh` `[B, width]` of the hidden elements from that of the logits, `dz` `[B, S]`, and the panel. `scratch` has
/// [`super::scratch`] elements.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, and those of [`Matmul::record_split`].
pub fn hidden_gradient(
    recording: &mut Recording,
    caps: &Caps,
    hidden: Hidden,
    h: &Tensor,
    [dz, panel]: [&Tensor; 2],
    scratch: &Tensor,
    dh: &Tensor,
) -> Result<()> {
    let (&[samples, active], Some(front)) = (dz.shape(), panel.front(hidden.elements)) else {
        return Err(misfit("gradient", dz.shape(), panel.shape()));
    };
    let planes = planes(scratch, samples, active, hidden.elements)?;
    Matmul::default().record_split(recording, caps, dz, &front, &planes, part(active))?;
    gate(recording, caps, &planes, hidden, h, dh)
}

/// Records the gradient `dw` `[S, width]` of the panel's rows: for each of them the sum over the samples, ascending, of `dz[b, s] * h[b, :]`.
///
/// # Errors
/// Those of [`Matmul::record`].
pub fn row_gradient(recording: &mut Recording, caps: &Caps, dz: &Tensor, h: &Tensor, dw: &Tensor) -> Result<()> {
    let product = Matmul { trans_a: true, ..Matmul::default() };
    let (&[samples, width], &[rows, columns]) = (h.shape(), dw.shape()) else {
        return Err(misfit("gradient", h.shape(), dw.shape()));
    };
    let even = width / TILE * TILE;
    let bindings = vec![dz.binding(), h.binding(), dw.binding()];
    let fits = columns == width && dz.shape() == [samples, rows] && bindings.iter().all(|b| b.size <= caps.max_binding);
    let (Some(of_h), Some(of_dw)) = (h.front(even), dw.front(even)) else {
        return Err(misfit("gradient", &[even], &[]));
    };
    let groups = word(rows.div_ceil(256))?;
    if !fits || even == 0 || even == width || groups > caps.max_workgroups {
        return product.record(recording, caps, dz, h, dw);
    }
    product.record(recording, caps, dz, &of_h, &of_dw)?;
    let params = RowTailParams {
        rows: word(rows)?,
        samples: word(samples)?,
        pitch4: word(dz.row_stride() / 4)?,
        width4: word(width / 4)?,
        first4: word(even / 4)?,
        ..Default::default()
    };
    let grid = Grid::Direct([groups, word((width - even) / 4)?, 1]);
    recording.dispatch(&tail_kernel(), bindings, &params, grid, 8.0 * (rows * samples * (width - even)) as f64)
}

fn tail_kernel() -> Kernel {
    Kernel::new::<RowTailParams>("row_tail", ROW_TAIL, &[Access::Read, Access::Read, Access::Write])
}

fn panel_kernel(bf16: bool) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<PanelRowsParams>("panel_rows", PANEL_ROWS, &bindings).flag("BF16", bf16)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![panel_kernel(false), panel_kernel(true), tail_kernel()]
}
