//! Intervals as centre and radius on their way through a network, beside the numbers themselves (S. Gowal et al., "On the
//! Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", 2018).
//! Kernels: `interval_box`, `interval_relu`, `interval_sign`.
//!
//! Arrays are `[slots, words]`; those called `both` have twice the words: numbers, and behind them centres.

use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, slot_grid, slot_stride, word};
use crate::tensor::Tensor;

const INTERVAL_BOX: &str = include_str!("../../shaders/train/interval_box.wgsl");
const INTERVAL_RELU: &str = include_str!("../../shaders/train/interval_relu.wgsl");
const INTERVAL_SIGN: &str = include_str!("../../shaders/train/interval_sign.wgsl");

params!(IntervalParams {
    quads: u32,
    threads: u32,
    slots: u32,
    slot_step: u32,
    stride_x: u32,
    stride_r: u32,
    stride_out_x: u32,
    stride_out_r: u32,
    stride_g: u32,
    stride_gr: u32,
    stride_c: u32,
    column: u32,
});

/// Numbers with centres behind them, and radii.
#[derive(Debug, Clone, Copy)]
pub struct Bounded<'a> {
    /// `[slots, 2 words]`.
    pub both: &'a Tensor,
    /// `[slots, words]`.
    pub radii: &'a Tensor,
}

/// Records the box around inputs `[slots, words]`: as far as the slot's number in a column of `coefficients` `[slots, ..]`, cut to
/// 0..1.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn boxes(
    recording: &mut Recording,
    caps: &Caps,
    inputs: &Tensor,
    (coefficients, column): (&Tensor, usize),
    out: Bounded<'_>,
) -> Result<()> {
    let (mut params, grid) = frame(caps, out, &[])?;
    let slots = inputs.shape()[0];
    if inputs.shape() != out.radii.shape() || coefficients.shape().len() != 2 || column >= coefficients.columns() {
        return Err(misfit(&[inputs, coefficients, out.both, out.radii]));
    }
    params.stride_x = slot_stride(inputs, slots)? / 4;
    (params.stride_out_x, params.stride_out_r) =
        (slot_stride(out.both, slots)? / 4, slot_stride(out.radii, slots)? / 4);
    (params.stride_c, params.column) = (slot_stride(coefficients, slots)?, word(column)?);
    let operands = [inputs, coefficients, out.both, out.radii];
    dispatch(recording, caps, &box_kernel(), &operands, (&params, grid))
}

/// Records ReLU of all three.
///
/// # Errors
/// As [`boxes`].
pub fn relu(recording: &mut Recording, caps: &Caps, x: Bounded<'_>, out: Bounded<'_>) -> Result<()> {
    let (mut params, grid) = frame(caps, x, &[out])?;
    let slots = x.both.shape()[0];
    (params.stride_x, params.stride_r) = (slot_stride(x.both, slots)? / 4, slot_stride(x.radii, slots)? / 4);
    (params.stride_out_x, params.stride_out_r) =
        (slot_stride(out.both, slots)? / 4, slot_stride(out.radii, slots)? / 4);
    dispatch(recording, caps, &relu_kernel(false), &[x.both, x.radii, out.both, out.radii], (&params, grid))
}

/// Records the gradient through [`relu`] of `x`, from that above (`g`).
///
/// # Errors
/// As [`boxes`].
pub fn relu_gradient(
    recording: &mut Recording,
    caps: &Caps,
    x: Bounded<'_>,
    g: Bounded<'_>,
    out: Bounded<'_>,
) -> Result<()> {
    let (mut params, grid) = frame(caps, x, &[g, out])?;
    let slots = x.both.shape()[0];
    (params.stride_x, params.stride_r) = (slot_stride(x.both, slots)? / 4, slot_stride(x.radii, slots)? / 4);
    (params.stride_g, params.stride_gr) = (slot_stride(g.both, slots)? / 4, slot_stride(g.radii, slots)? / 4);
    (params.stride_out_x, params.stride_out_r) =
        (slot_stride(out.both, slots)? / 4, slot_stride(out.radii, slots)? / 4);
    let operands = [x.both, x.radii, out.both, out.radii, g.both, g.radii];
    dispatch(recording, caps, &relu_kernel(true), &operands, (&params, grid))
}

/// Records `gradients += sign(weights) shares`, all `[slots, words]`: `shares` are gradients for the weights' magnitudes.
///
/// # Errors
/// As [`boxes`].
pub fn sign(
    recording: &mut Recording,
    caps: &Caps,
    weights: &Tensor,
    shares: &Tensor,
    gradients: &Tensor,
) -> Result<()> {
    let &[slots, words] = weights.shape() else { return Err(misfit(&[weights])) };
    if shares.shape() != weights.shape() || gradients.shape() != weights.shape() {
        return Err(misfit(&[weights, shares, gradients]));
    }
    // Fields of tables are padded to whole vectors.
    let (grid, threads, slot_step) = slot_grid(words.div_ceil(4), slots, caps.max_workgroups)?;
    let params = IntervalParams {
        quads: word(words.div_ceil(4))?,
        threads,
        slots: word(slots)?,
        slot_step,
        stride_x: slot_stride(weights, slots)? / 4,
        stride_r: slot_stride(shares, slots)? / 4,
        stride_out_x: slot_stride(gradients, slots)? / 4,
        ..Default::default()
    };
    dispatch(recording, caps, &sign_kernel(), &[weights, shares, gradients], (&params, grid))
}

/// Grid and common numbers, where all arrays have the shape that they must have.
fn frame(caps: &Caps, first: Bounded<'_>, others: &[Bounded<'_>]) -> Result<(IntervalParams, [u32; 3])> {
    let &[slots, words] = first.radii.shape() else { return Err(misfit(&[first.both, first.radii])) };
    let fits = |b: &Bounded<'_>| b.radii.shape() == [slots, words] && b.both.shape() == [slots, 2 * words];
    if !words.is_multiple_of(4) || slots * words == 0 || !fits(&first) || !others.iter().all(fits) {
        return Err(misfit(&[first.both, first.radii]));
    }
    let (grid, threads, slot_step) = slot_grid(words / 4, slots, caps.max_workgroups)?;
    let params =
        IntervalParams { quads: word(words / 4)?, threads, slots: word(slots)?, slot_step, ..Default::default() };
    Ok((params, grid))
}

fn dispatch(
    recording: &mut Recording,
    caps: &Caps,
    kernel: &Kernel,
    operands: &[&Tensor],
    (params, grid): (&IntervalParams, [u32; 3]),
) -> Result<()> {
    let bindings: Vec<_> = operands.iter().map(|t| t.binding()).collect();
    bindable(caps, &bindings)?;
    recording.dispatch(kernel, bindings, params, Grid::Direct(grid), 8.0 * operands[0].len() as f64)
}

fn misfit(operands: &[&Tensor]) -> Error {
    let shapes: Vec<_> = operands.iter().map(|t| t.shape()).collect();
    Error::internal(format!("intervals of shapes {shapes:?}"))
}

fn box_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write, Access::Write];
    Kernel::new::<IntervalParams>("interval_box", INTERVAL_BOX, &bindings)
}

fn relu_kernel(gradient: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, Access::Write, Access::Write];
    bindings.extend([Access::Read; 2].into_iter().filter(|_| gradient));
    Kernel::new::<IntervalParams>("interval_relu", INTERVAL_RELU, &bindings).flag("GRADIENT", gradient)
}

fn sign_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<IntervalParams>("interval_sign", INTERVAL_SIGN, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![box_kernel(), relu_kernel(false), relu_kernel(true), sign_kernel()]
}
