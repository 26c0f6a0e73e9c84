//! Layer norm over the last axis of `[slots, rows.., n]`.

use super::super::columns::{self, Chunks, Terms};
use super::super::slots::{self, Rows, vectors};
use super::super::word;
use super::{Backward, fits, inverse};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const LAYER_NORM: &str = include_str!("../../../shaders/ops/layer_norm.wgsl");
const LAYER_NORM_GRADIENT: &str = include_str!("../../../shaders/ops/layer_norm_gradient.wgsl");

params!(LayerNormParams {
    rows: u32,
    n: u32,
    slots: u32,
    row_step: u32,
    step: u32,
    row_x: u32,
    slot_x: u32,
    row_y: u32,
    slot_y: u32,
    slot_affine: u32,
    slot_saved: u32,
    pad0: u32,
    inv_n: f32,
    eps: f32,
    pad1: u32,
    pad2: u32,
});
params!(LayerNormGradientParams {
    rows: u32,
    n: u32,
    slots: u32,
    row_step: u32,
    step: u32,
    row_x: u32,
    slot_x: u32,
    row_g: u32,
    slot_g: u32,
    row_dx: u32,
    slot_dx: u32,
    slot_affine: u32,
    slot_saved: u32,
    inv_n: f32,
    pad0: u32,
    pad1: u32,
});

/// Shape of the statistics that are saved of `[slots, rows.., n]`: `[slots, rows.., 2]`, mean and
/// `1 / sqrt(variance + eps)`.
pub fn saved(shape: &[usize]) -> Vec<usize> {
    let mut saved = shape.to_vec();
    if let Some(last) = saved.last_mut() {
        *last = 2;
    }
    saved
}

/// Shape of the scratch of [`affine_gradient`].
pub fn scratch(shape: &[usize]) -> [usize; 4] {
    super::batch::scratch(shape)
}

fn affine_shape(x: &Tensor) -> [usize; 3] {
    [x.shape().first().copied().unwrap_or(0), 2, x.columns()]
}

/// Rows that a workgroup takes at a time: an invocation a row where barriers cost more than scattered reads.
fn rows_each(caps: &Caps) -> usize {
    if caps.is_software() { 64 } else { 4 }
}

/// Records `y = (x - mean) inv_std scale + shift` over each row of `x` and `y` `[slots, rows.., n]`, with `affine`
/// `[slots, 2, n]` (scale, shift); `statistics` gets what [`saved`] says.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] if a slot is larger than a
/// binding.
pub fn forward(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor,
    affine: &Tensor,
    eps: f32,
    statistics: &Tensor,
    y: &Tensor,
) -> Result<()> {
    let own = saved(x.shape());
    fits("layer norm", &[(affine, &affine_shape(x)), (statistics, &own), (y, x.shape())])?;
    let (from, to) = (Rows::new(x, false)?, Rows::new(y, false)?);
    let operands = [x, affine, statistics, y];
    for range in slots::ranges(caps, &operands)? {
        let [groups, step] = slots::grid(caps, from.rows, rows_each(caps), range.len())?;
        let params = LayerNormParams {
            rows: word(from.rows)?,
            n: word(from.n)?,
            slots: word(range.len())?,
            row_step: groups,
            step,
            row_x: from.row,
            slot_x: from.slot,
            row_y: to.row,
            slot_y: to.slot,
            slot_affine: vectors(affine.strides()[0])?,
            slot_saved: vectors(statistics.strides()[0])?,
            inv_n: inverse(from.n),
            eps,
            ..Default::default()
        };
        let work = 10.0 * (range.len() * from.rows * from.n) as f64;
        let bindings = slots::bindings(&operands, &range)?;
        let kernel = forward_kernel(caps.is_software());
        recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, step, 1]), work)?;
    }
    Ok(())
}

/// Records the gradient with regard to `x`, [`forward`] taken backwards.
///
/// # Errors
/// As [`forward`].
pub fn input_gradient(recording: &mut Recording, caps: &Caps, of: &Backward<'_>, dx: &Tensor) -> Result<()> {
    let (shape, own) = (of.x.shape(), saved(of.x.shape()));
    fits("layer norm", &[(of.g, shape), (of.saved, &own), (of.affine, &affine_shape(of.x)), (dx, shape)])?;
    let (x, g, to) = (Rows::new(of.x, false)?, Rows::new(of.g, false)?, Rows::new(dx, false)?);
    let operands = [of.x, of.g, of.affine, of.saved, dx];
    for range in slots::ranges(caps, &operands)? {
        let [groups, step] = slots::grid(caps, x.rows, rows_each(caps), range.len())?;
        let params = LayerNormGradientParams {
            rows: word(x.rows)?,
            n: word(x.n)?,
            slots: word(range.len())?,
            row_step: groups,
            step,
            row_x: x.row,
            slot_x: x.slot,
            row_g: g.row,
            slot_g: g.slot,
            row_dx: to.row,
            slot_dx: to.slot,
            slot_affine: vectors(of.affine.strides()[0])?,
            slot_saved: vectors(of.saved.strides()[0])?,
            inv_n: inverse(x.n),
            ..Default::default()
        };
        let work = 16.0 * (range.len() * x.rows * x.n) as f64;
        let bindings = slots::bindings(&operands, &range)?;
        let kernel = gradient_kernel(caps.is_software());
        recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, step, 1]), work)?;
    }
    Ok(())
}

/// Records the gradient of the affine part, `d_affine` `[slots, 2, n]`: the sums over rows of g h and of g. `of.affine` is
/// not read; `parts` is scratch of the shape that [`scratch`] says.
///
/// # Errors
/// As [`forward`].
pub fn affine_gradient(
    recording: &mut Recording,
    caps: &Caps,
    of: &Backward<'_>,
    parts: &Tensor,
    d_affine: &Tensor,
) -> Result<()> {
    let shape = of.x.shape();
    let own = saved(shape);
    fits("layer norm", &[(of.g, shape), (of.saved, &own), (parts, &scratch(shape)), (d_affine, &affine_shape(of.x))])?;
    let chunks = Chunks { y: Some(of.g), k: Some(of.saved), ..Chunks::of(Terms::ByRow, of.x) };
    columns::reduce(recording, caps, &chunks, parts, d_affine)
}

fn forward_kernel(rowwise: bool) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write, Access::Write];
    Kernel::new::<LayerNormParams>("layer_norm", LAYER_NORM, &bindings).flag("ROWWISE", rowwise)
}

fn gradient_kernel(rowwise: bool) -> Kernel {
    let mut bindings = vec![Access::Read; 4];
    bindings.push(Access::Write);
    Kernel::new::<LayerNormGradientParams>("layer_norm_gradient", LAYER_NORM_GRADIENT, &bindings)
        .flag("ROWWISE", rowwise)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [false, true].into_iter().flat_map(|rowwise| [forward_kernel(rowwise), gradient_kernel(rowwise)]).collect()
}
