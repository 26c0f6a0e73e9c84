//! Batch norm over `[slots, rows.., n]`: mean and variance of every column over all rows of a slot, samples and pixels
//! alike.

use super::super::columns::{self, Chunks, Terms};
use super::{Backward, Moments, Normalise, Running, fits};
use crate::error::Result;
use crate::gpu::{Caps, Recording};
use crate::tensor::Tensor;

/// Shape of the scratch that statistics and gradients over an array `[slots, rows.., n]` need: `[slots, chunks + 1, 2, n]`.
pub fn scratch(shape: &[usize]) -> [usize; 4] {
    let [slots, chunks, n] = columns::scratch(shape);
    [slots, chunks + 1, 2, n]
}

/// What normalises in a forward pass.
#[derive(Debug, Clone, Copy)]
pub enum Statistics<'a> {
    /// (mean, inv_std), as [`statistics`] saved them.
    Saved(&'a Tensor),
    /// Running (mean, variance), and what is added to the variance.
    Running(&'a Tensor, f32),
}

fn per_column(x: &Tensor) -> [usize; 3] {
    let [slots, _, n] = columns::scratch(x.shape());
    [slots, 2, n]
}

/// Records the statistics of `x` `[slots, rows.., n]` into `saved` `[slots, 2, n]`: mean and `1 / sqrt(variance + eps)` with
/// the biased variance. With `running`, running statistics of live slots become `(1 - momentum) running + momentum new`,
/// with the unbiased variance (of a single row: 0).
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] if a slot is larger than a
/// binding.
pub fn statistics(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor,
    eps: f32,
    running: Option<Running<'_>>,
    parts: &Tensor,
    saved: &Tensor,
) -> Result<()> {
    fits("batch norm", &[(parts, &scratch(x.shape())), (saved, &per_column(x))])?;
    if let Some(running) = running {
        fits("batch norm", &[(running.statistics, &per_column(x))])?;
        if running.streams.shape() != [x.shape()[0], 4] {
            return Err(crate::Error::internal(format!("batch norm: streams of shape {:?}", running.streams.shape())));
        }
    }
    columns::chunks(recording, caps, &Chunks::of(Terms::Moments, x), parts)?;
    Moments { x, samples: false, parts, saved, eps: Some(eps), running }.record(recording, caps)
}

/// Records `y = (x - mean) inv_std scale + shift` for `x` and `y` `[slots, rows.., n]` and `affine` `[slots, 2, n]` (scale,
/// shift).
///
/// # Errors
/// As [`statistics`].
pub fn apply(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor,
    statistics: Statistics<'_>,
    affine: &Tensor,
    y: &Tensor,
) -> Result<()> {
    let (statistics, eps) = match statistics {
        Statistics::Saved(saved) => (saved, None),
        Statistics::Running(running, eps) => (running, Some(eps)),
    };
    fits("batch norm", &[(statistics, &per_column(x)), (affine, &per_column(x)), (y, x.shape())])?;
    Normalise { x, samples: false, statistics, eps, affine, y }.record(recording, caps)
}

/// Records `sums` `[slots, 2, n]`: the sums over rows of g h and of g, where `h = (x - mean) inv_std`. They are the gradient
/// of the affine part, and what [`input_gradient`] starts from. `of.affine` is not read.
///
/// # Errors
/// As [`statistics`].
pub fn sums(recording: &mut Recording, caps: &Caps, of: &Backward<'_>, parts: &Tensor, sums: &Tensor) -> Result<()> {
    let own = per_column(of.x);
    fits("batch norm", &[(of.g, of.x.shape()), (of.saved, &own), (parts, &scratch(of.x.shape())), (sums, &own)])?;
    let chunks = Chunks { y: Some(of.g), k: Some(of.saved), ..Chunks::of(Terms::ByColumn, of.x) };
    columns::reduce(recording, caps, &chunks, parts, sums)
}

/// Records `dx = inv_std scale (g - (sum g) / R - h (sum g h) / R)` over R rows, from what [`sums`] left.
///
/// # Errors
/// As [`statistics`].
pub fn input_gradient(
    recording: &mut Recording,
    caps: &Caps,
    of: &Backward<'_>,
    sums: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    let own = per_column(of.x);
    let shape = of.x.shape();
    fits("batch norm", &[(of.g, shape), (of.saved, &own), (of.affine, &own), (sums, &own), (dx, shape)])?;
    super::input_gradient(recording, caps, of, false, sums, dx)
}
