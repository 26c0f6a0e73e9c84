//! Group norm over channels-last images `[slots, samples, pixels.., n]`: mean and variance over the pixels and the channels
//! of a group, sample by sample. Statistics are kept a channel, so that all channels of a group have the same ones and the
//! kernels of batch norm apply.

use super::super::columns::{self, Chunks, Terms};
use super::super::slots::{self, leading};
use super::super::word;
use super::{Backward, Moments, Normalise, fits, inverse};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::{Tensor, pitch};

const GROUP_FOLD: &str = include_str!("../../../shaders/ops/group_fold.wgsl");

params!(GroupFoldParams {
    n: u32,
    size: u32,
    count: u32,
    samples: u32,
    pitch: u32,
    slot_x: u32,
    slot_out: u32,
    slot_affine: u32,
    inverse: f32,
    eps: f32,
    step: u32,
    pad0: u32,
});

/// Shape of the scratch that statistics and gradients over `[slots, samples, pixels.., n]` need:
/// `[slots, samples, chunks + 1, 2, n]`.
pub fn scratch(shape: &[usize]) -> [usize; 5] {
    let [samples, chunks, n] = columns::scratch(shape.get(1..).unwrap_or_default());
    [shape.first().copied().unwrap_or(0), samples, chunks + 1, 2, n]
}

fn per_channel(x: &Tensor) -> [usize; 4] {
    let [slots, samples, _, two, n] = scratch(x.shape());
    [slots, samples, two, n]
}

/// Records the statistics of `x` `[slots, samples, pixels.., n]` with `groups` groups of channels into `saved`
/// `[slots, samples, 2, n]`: mean and `1 / sqrt(variance + eps)` of each channel's group. `channels` is scratch of the shape
/// of `saved`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit and for channels that are no whole groups,
/// [`crate::ErrorKind::TooBig`] if a slot is larger than a binding.
pub fn statistics(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor,
    (groups, eps): (usize, f32),
    parts: &Tensor,
    channels: &Tensor,
    saved: &Tensor,
) -> Result<()> {
    let own = per_channel(x);
    fits("group norm", &[(parts, &scratch(x.shape())), (channels, &own), (saved, &own)])?;
    columns::chunks(recording, caps, &Chunks { samples: true, ..Chunks::of(Terms::Moments, x) }, parts)?;
    Moments { x, samples: true, parts, saved: channels, eps: None, running: None }.record(recording, caps)?;
    let size = group_size(own[3], groups)?;
    fold(recording, caps, &Fold { x: channels, affine: None, size, elements: size, eps }, saved)
}

/// Records `y = (x - mean) inv_std scale + shift` for `x` and `y` `[slots, samples, pixels.., n]` and `affine`
/// `[slots, 2, n]` (scale, shift).
///
/// # Errors
/// As [`statistics`].
pub fn apply(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor,
    saved: &Tensor,
    affine: &Tensor,
    y: &Tensor,
) -> Result<()> {
    let own = per_channel(x);
    fits("group norm", &[(saved, &own), (affine, &[own[0], 2, own[3]]), (y, x.shape())])?;
    Normalise { x, samples: true, statistics: saved, eps: None, affine, y }.record(recording, caps)
}

/// Records `sums` `[slots, samples, 2, n]`: the sums over pixels of g h and of g, where `h = (x - mean) inv_std`; both
/// gradients start from them. `of.affine` is not read.
///
/// # Errors
/// As [`statistics`].
pub fn sums(recording: &mut Recording, caps: &Caps, of: &Backward<'_>, parts: &Tensor, sums: &Tensor) -> Result<()> {
    let own = per_channel(of.x);
    fits("group norm", &[(of.g, of.x.shape()), (of.saved, &own), (parts, &scratch(of.x.shape())), (sums, &own)])?;
    let chunks = Chunks { y: Some(of.g), k: Some(of.saved), samples: true, ..Chunks::of(Terms::ByColumn, of.x) };
    columns::reduce(recording, caps, &chunks, parts, sums)
}

/// Records the gradient of the affine part, `[slots, 2, n]`: `sums` added up over the samples.
///
/// # Errors
/// As [`statistics`].
pub fn affine_gradient(recording: &mut Recording, caps: &Caps, sums: &Tensor, d_affine: &Tensor) -> Result<()> {
    let samples = sums.shape().get(1).copied().unwrap_or(0);
    columns::add_up(recording, caps, sums, (false, samples), d_affine)
}

/// Records the gradient with regard to `x` from what [`sums`] left, `dx = inv_std (scale g - k0 - h k1)` with k0 and k1 the
/// averages of scale g and scale g h over the group. `folded` is scratch of the shape of `sums`.
///
/// # Errors
/// As [`statistics`].
pub fn input_gradient(
    recording: &mut Recording,
    caps: &Caps,
    of: &Backward<'_>,
    groups: usize,
    sums: &Tensor,
    folded: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    let own = per_channel(of.x);
    let shape = of.x.shape();
    fits("group norm", &[(of.g, shape), (of.saved, &own), (of.affine, &[own[0], 2, own[3]]), (dx, shape)])?;
    fits("group norm", &[(sums, &own), (folded, &own)])?;
    let size = group_size(own[3], groups)?;
    let elements = shape[2..shape.len() - 1].iter().product::<usize>() * size;
    fold(recording, caps, &Fold { x: sums, affine: Some(of.affine), size, elements, eps: 0.0 }, folded)?;
    super::input_gradient(recording, caps, of, true, folded, dx)
}

fn group_size(n: usize, groups: usize) -> Result<usize> {
    if groups == 0 || !n.is_multiple_of(groups) {
        return Err(Error::internal(format!("{n} channels in {groups} groups")));
    }
    Ok(n / groups)
}

/// What group_fold takes.
struct Fold<'a> {
    /// `[slots, samples, 2, n]`
    x: &'a Tensor,
    /// For the gradient: `[slots, 2, n]`.
    affine: Option<&'a Tensor>,
    /// Channels of a group.
    size: usize,
    /// What sums are divided by.
    elements: usize,
    eps: f32,
}

fn fold(recording: &mut Recording, caps: &Caps, of: &Fold<'_>, out: &Tensor) -> Result<()> {
    let (samples, n) = (of.x.shape()[1], of.x.columns());
    let operands: Vec<&Tensor> = [Some(of.x), of.affine, Some(out)].into_iter().flatten().collect();
    for range in slots::ranges(caps, &operands)? {
        let count = range.len() * samples;
        let [across, step] = slots::grid(caps, n, 64, count)?;
        let params = GroupFoldParams {
            n: word(n)?,
            size: word(of.size)?,
            count: word(count)?,
            samples: word(samples)?,
            pitch: word(pitch(n))?,
            slot_x: leading(of.x, true)? * 4,
            slot_out: leading(out, true)? * 4,
            slot_affine: of.affine.map_or(Ok(0), |t| word(t.strides()[0]))?,
            inverse: inverse(of.elements),
            eps: of.eps,
            step,
            ..Default::default()
        };
        let work = 2.0 * (count * n * of.size) as f64;
        let bindings = slots::bindings(&operands, &range)?;
        recording.dispatch(&kernel(of.affine.is_some()), bindings, &params, Grid::Direct([across, step, 1]), work)?;
    }
    Ok(())
}

fn kernel(gradient: bool) -> Kernel {
    let mut bindings = vec![Access::Read; if gradient { 2 } else { 1 }];
    bindings.push(Access::Write);
    Kernel::new::<GroupFoldParams>("group_fold", GROUP_FOLD, &bindings).flag("GRADIENT", gradient)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel(false), kernel(true)]
}
