//! The output layer for active labels that all samples of a step share: a panel of rows, and matrix products.
//! Kernels: `panel_rows`, and those of [`crate::ops::matmul`].

use super::{Hidden, gate, misfit, part, planes, row_window};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::hash::Rows;
use crate::ops::matmul::Matmul;
use crate::ops::{bindable, strided_grid, word};
use crate::tensor::Tensor;

const PANEL_ROWS: &str = include_str!("../../../shaders/hash/panel_rows.wgsl");

params!(PanelRowsParams {
    len: u32,
    threads: u32,
    width4: u32,
    first: u32,
    rows: u32,
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
    let width = table.columns();
    let &[count] = ids.shape() else { return Err(misfit("panel", ids.shape(), panel.shape())) };
    if panel.shape() != [count, width] {
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
            ..Default::default()
        };
        let bindings = vec![row_window(table, &window)?, ids.binding(), panel.binding()];
        bindable(caps, &bindings)?;
        recording.dispatch(&panel_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), f64::from(len) * 4.0)?;
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
    Matmul { trans_a: true, ..Matmul::default() }.record(recording, caps, dz, h, dw)
}

fn panel_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<PanelRowsParams>("panel_rows", PANEL_ROWS, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![panel_kernel()]
}
