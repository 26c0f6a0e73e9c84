//! Normalisation with an affine part, forward and backward: over the samples of a batch ([`batch`]), over a row ([`layer`]),
//! over groups of channels of an image ([`group`]). Kernels: `moments`, `normalise`, `normalise_gradient`, `group_fold`,
//! `layer_norm`, `layer_norm_gradient`, and those of [`super::columns`].
//!
//! Scale and shift are the rows of one field `[slots, 2, n]`, so that their gradients are one field as well; so are running
//! mean and variance. Statistics are saved as (mean, 1 / sqrt(variance + eps)). The gradients of inputs and of affine parts
//! are recorded apart.

pub mod batch;
pub mod group;
pub mod layer;

use super::columns;
use super::slots::{self, Lanes, Rows, leading, vectors};
use super::{windows, word};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const MOMENTS: &str = include_str!("../../../shaders/ops/moments.wgsl");
const NORMALISE: &str = include_str!("../../../shaders/ops/normalise.wgsl");
const NORMALISE_GRADIENT: &str = include_str!("../../../shaders/ops/normalise_gradient.wgsl");

params!(MomentsParams {
    n: u32,
    chunks: u32,
    count: u32,
    step: u32,
    slot_parts: u32,
    slot_saved: u32,
    slot_running: u32,
    slot_streams: u32,
    inv_rows: f32,
    inv_tail: f32,
    eps: f32,
    momentum: f32,
    unbiased: f32,
    tail: u32,
    pad0: u32,
    pad1: u32,
});
params!(NormaliseParams {
    rows: u32,
    n: u32,
    count: u32,
    samples: u32,
    row_x: u32,
    sample_x: u32,
    slot_x: u32,
    row_y: u32,
    sample_y: u32,
    slot_y: u32,
    slot_k: u32,
    slot_affine: u32,
    shift: u32,
    row_step: u32,
    step: u32,
    eps: f32,
});
params!(NormaliseGradientParams {
    rows: u32,
    n: u32,
    count: u32,
    samples: u32,
    row_x: u32,
    sample_x: u32,
    slot_x: u32,
    row_g: u32,
    sample_g: u32,
    slot_g: u32,
    row_dx: u32,
    sample_dx: u32,
    slot_dx: u32,
    slot_k: u32,
    slot_sums: u32,
    slot_affine: u32,
    shift: u32,
    row_step: u32,
    step: u32,
    inv_rows: f32,
});

/// What the gradients of a normalisation start from.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    /// The input.
    pub x: &'a Tensor,
    /// The gradient with regard to the output.
    pub g: &'a Tensor,
    /// The statistics that the forward pass saved.
    pub saved: &'a Tensor,
    /// Scale and shift, `[slots, 2, n]`.
    pub affine: &'a Tensor,
}

/// Running statistics of batch norm.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// Mean and variance, `[slots, 2, n]`, updated in place.
    pub statistics: &'a Tensor,
    /// `[slots, 4]`, of which word 3 says whether a slot is live; others are left alone.
    pub streams: &'a Tensor<u32>,
    /// The share of the new value, as torch counts it.
    pub momentum: f32,
}

fn fits(what: &str, pairs: &[(&Tensor, &[usize])]) -> Result<()> {
    for (t, shape) in pairs {
        if t.shape() != *shape {
            return Err(Error::internal(format!("{what}: an array of shape {:?} in place of {shape:?}", t.shape())));
        }
    }
    Ok(())
}

/// `1 / n` as kernels get it.
fn inverse(n: usize) -> f32 {
    (1.0 / n as f64) as f32
}

/// Where the statistics of columns come from and go to.
#[derive(Debug, Clone, Copy)]
struct Moments<'a> {
    x: &'a Tensor,
    samples: bool,
    /// What column_chunks left, `[slots, (samples,) chunks + 1, 2, n]`.
    parts: &'a Tensor,
    /// `[slots, (samples,) 2, n]`
    saved: &'a Tensor,
    /// `Some(eps)`: (mean, inv_std) are saved, else (mean, variance).
    eps: Option<f32>,
    running: Option<Running<'a>>,
}

impl Moments<'_> {
    fn record(&self, recording: &mut Recording, caps: &Caps) -> Result<()> {
        let x = Rows::new(self.x, self.samples)?;
        let chunks = x.rows.div_ceil(columns::CHUNK);
        let tail = x.rows - (chunks - 1) * columns::CHUNK;
        let mut operands = vec![self.parts, self.saved];
        operands.extend(self.running.map(|r| r.statistics));
        let mut strides: Vec<usize> = operands.iter().map(|t| t.strides()[0]).collect();
        let mut whole: Vec<_> = operands.iter().map(|t| t.binding()).collect();
        if let Some(running) = self.running {
            strides.push(running.streams.strides()[0]);
            whole.push(running.streams.binding());
        }
        for range in windows::ranges(self.saved.shape()[0], &strides, &whole, caps.max_binding)? {
            let count = range.len() * x.samples;
            let [across, step] = slots::grid(caps, x.n.div_ceil(4), 4, count)?;
            let params = MomentsParams {
                n: word(x.n)?,
                chunks: word(chunks)?,
                count: word(count)?,
                step,
                slot_saved: leading(self.saved, self.samples)?,
                slot_parts: leading(self.parts, self.samples)?,
                slot_running: self.running.map_or(Ok(0), |r| vectors(r.statistics.strides()[0]))?,
                slot_streams: self.running.map_or(Ok(0), |r| word(r.streams.strides()[0]))?,
                tail: word(tail)?,
                inv_rows: inverse(x.rows),
                inv_tail: inverse(tail),
                eps: self.eps.unwrap_or(0.0),
                momentum: self.running.map_or(0.0, |r| r.momentum),
                unbiased: if x.rows == 1 { 1.0 } else { (x.rows as f64 / (x.rows - 1) as f64) as f32 },
                ..Default::default()
            };
            let mut bindings = slots::bindings(&operands, &range)?;
            if let Some(running) = self.running {
                bindings.push(running.streams.slots(&range)?);
            }
            let kernel = moments_kernel(self.eps.is_some(), self.running.is_some());
            let work = 8.0 * (count * chunks * x.n) as f64;
            recording.dispatch(&kernel, bindings, &params, Grid::Direct([across, step, 1]), work)?;
        }
        Ok(())
    }
}

/// Operands of normalise: `statistics` are (mean, inv_std) or, with an eps, (mean, variance).
#[derive(Debug, Clone, Copy)]
struct Normalise<'a> {
    x: &'a Tensor,
    samples: bool,
    statistics: &'a Tensor,
    eps: Option<f32>,
    affine: &'a Tensor,
    y: &'a Tensor,
}

impl Normalise<'_> {
    fn record(&self, recording: &mut Recording, caps: &Caps) -> Result<()> {
        let (x, y) = (Rows::new(self.x, self.samples)?, Rows::new(self.y, self.samples)?);
        let operands = [self.x, self.statistics, self.affine, self.y];
        for range in slots::ranges(caps, &operands)? {
            let count = range.len() * x.samples;
            let lanes = Lanes::new(caps, x.n, x.rows, 4, count)?;
            let params = NormaliseParams {
                rows: word(x.rows)?,
                n: word(x.n)?,
                count: word(count)?,
                samples: word(x.samples)?,
                row_x: x.row,
                sample_x: x.sample,
                slot_x: x.slot,
                row_y: y.row,
                sample_y: y.sample,
                slot_y: y.slot,
                slot_k: leading(self.statistics, self.samples)?,
                slot_affine: vectors(self.affine.strides()[0])?,
                shift: lanes.shift,
                row_step: lanes.row_step,
                step: lanes.step,
                eps: self.eps.unwrap_or(0.0),
                ..Default::default()
            };
            let work = 4.0 * (count * x.rows * x.n) as f64;
            let bindings = slots::bindings(&operands, &range)?;
            recording.dispatch(&normalise_kernel(self.eps.is_some()), bindings, &params, lanes.grid, work)?;
        }
        Ok(())
    }
}

/// Records the gradient with regard to x from the sums of columns or, GROUPED, from what group_fold made of them.
fn input_gradient(
    recording: &mut Recording,
    caps: &Caps,
    of: &Backward<'_>,
    grouped: bool,
    sums: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    let (x, g, to) = (Rows::new(of.x, grouped)?, Rows::new(of.g, grouped)?, Rows::new(dx, grouped)?);
    let operands = [of.x, of.g, of.saved, of.affine, sums, dx];
    for range in slots::ranges(caps, &operands)? {
        let count = range.len() * x.samples;
        let lanes = Lanes::new(caps, x.n, x.rows, 4, count)?;
        let params = NormaliseGradientParams {
            rows: word(x.rows)?,
            n: word(x.n)?,
            count: word(count)?,
            samples: word(x.samples)?,
            row_x: x.row,
            sample_x: x.sample,
            slot_x: x.slot,
            row_g: g.row,
            sample_g: g.sample,
            slot_g: g.slot,
            row_dx: to.row,
            sample_dx: to.sample,
            slot_dx: to.slot,
            slot_k: leading(of.saved, grouped)?,
            slot_sums: leading(sums, grouped)?,
            slot_affine: vectors(of.affine.strides()[0])?,
            shift: lanes.shift,
            row_step: lanes.row_step,
            step: lanes.step,
            inv_rows: inverse(x.rows),
            ..Default::default()
        };
        let work = 8.0 * (count * x.rows * x.n) as f64;
        let bindings = slots::bindings(&operands, &range)?;
        recording.dispatch(&gradient_kernel(grouped), bindings, &params, lanes.grid, work)?;
    }
    Ok(())
}

fn moments_kernel(inverse: bool, running: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Write];
    if running {
        bindings.extend([Access::Write, Access::Read]);
    }
    Kernel::new::<MomentsParams>("moments", MOMENTS, &bindings)
        .define("CHUNK", columns::CHUNK)
        .flag("INVERSE", inverse)
        .flag("RUNNING", running)
}

fn normalise_kernel(running: bool) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    Kernel::new::<NormaliseParams>("normalise", NORMALISE, &bindings).flag("RUNNING", running)
}

fn gradient_kernel(grouped: bool) -> Kernel {
    let mut bindings = vec![Access::Read; 5];
    bindings.push(Access::Write);
    let kernel = Kernel::new::<NormaliseGradientParams>("normalise_gradient", NORMALISE_GRADIENT, &bindings);
    kernel.flag("GROUPED", grouped)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let moments = [moments_kernel(true, true), moments_kernel(true, false), moments_kernel(false, false)];
    let own = [false, true].into_iter().flat_map(|flag| [normalise_kernel(flag), gradient_kernel(flag)]);
    moments.into_iter().chain(own).chain(layer::catalogue()).chain(group::catalogue()).collect()
}
