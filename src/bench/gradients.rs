//! The kernels of a training step that are no products: gradients of weights, normalisations, an optimiser's step.

use super::oracle::{Random, gamma, near, poisoned, poisoned_words, wrong};
use super::roofs::{COPY_ROOF, FMA_ROOF, big};
use super::{Context, Done, SEED, Spec};
use crate::error::Result;
use crate::gpu::Recording;
use crate::ops::conv::{Conv, gradient_depth};
use crate::ops::norm::{Backward, batch, layer};
use crate::ops::pool::Pool;
use crate::tensor::Tensor;
use crate::train::Optimiser;
use crate::train::optimiser::tables::{StepTables, record_step};

const GROUP: &str = "gradients";
/// Elements compared with f64.
const SAMPLES: usize = 32;
/// Rows and columns of images.
const SIDE: usize = 32;
/// Channels of what is normalised.
const CHANNELS: usize = 64;
const EPSILON: f32 = 1e-5;

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let batch = if context.quick() { 1 } else { 8 };
    let rows = big(context) / (4 * CHANNELS);
    let weights = |name: &str, [read, written]: [usize; 2]| {
        Spec::new(GROUP, name, Some(FMA_ROOF), move |context| weight_gradient(context, batch, [read, written]))
    };
    let memory = |name: &str, run: fn(&Context<'_>, usize) -> Result<Done>, size: usize| {
        Spec::new(GROUP, name, Some(COPY_ROOF), move |context| run(context, size))
    };
    vec![
        weights("conv_weight_gradient_64_to_64", [64, 64]),
        weights("conv_weight_gradient_3_to_32", [3, 32]),
        memory("batch_norm", batch_norm, rows),
        memory("batch_norm_gradient", batch_norm_gradient, rows),
        memory("layer_norm", layer_norm, rows),
        memory("max_pool_gradient", pool_gradient, (big(context) / (4 * SIDE * SIDE * CHANNELS)).max(1)),
        memory("adam_step", adam_step, big(context) / 8),
    ]
}

/// The weight's gradient of a 3x3 convolution that keeps the image's size.
fn weight_gradient(context: &Context<'_>, batch: usize, [read, written]: [usize; 2]) -> Result<Done> {
    let (gpu, caps) = (context.gpu, context.gpu.caps());
    let mut random = Random::new(SEED);
    let (host_x, host_g) = (random.values(batch * SIDE * SIDE * read), random.values(batch * SIDE * SIDE * written));
    let x = Tensor::from_slice(gpu, &[batch, SIDE, SIDE, read], &host_x)?;
    let g = Tensor::from_slice(gpu, &[batch, SIDE, SIDE, written], &host_g)?;
    let dw = poisoned(gpu, &[3, 3, read, written])?;
    let conv = Conv { pad: [1; 2], ..Conv::default() };
    let planes = conv.gradient_planes(x.shape(), g.shape(), dw.shape());
    let planes = planes.map(|shape| Tensor::uninit(gpu, &shape)).transpose()?;
    let record = |r: &mut Recording| conv.weight_gradient(r, caps, [&x, &g], planes.as_ref(), &dw);
    let check = || {
        let found = dw.to_array(gpu)?;
        let bound = gamma(gradient_depth(batch * SIDE * SIDE));
        for _ in 0..SAMPLES {
            let (i, j, c, m) = (random.below(3), random.below(3), random.below(read), random.below(written));
            let (mut sum, mut size) = (0.0, 0.0);
            for at in 0..batch * SIDE * SIDE {
                let (y, from) = (at / SIDE % SIDE + i, at % SIDE + j);
                if (1..=SIDE).contains(&y) && (1..=SIDE).contains(&from) {
                    let pixel = at / (SIDE * SIDE) * SIDE * SIDE + (y - 1) * SIDE + from - 1;
                    let term = f64::from(host_x[pixel * read + c]) * f64::from(host_g[at * written + m]);
                    (sum, size) = (sum + term, size + term.abs());
                }
            }
            near(&format!("element ({i}, {j}, {c}, {m})"), f64::from(found[[i, j, c, m]]), sum, bound * size)?;
        }
        Ok(())
    };
    // Of the nine taps, those at a border have a row or column less.
    let taps = (3 * SIDE - 2) * (3 * SIDE - 2);
    let work = 2.0 * (batch * taps * read * written) as f64;
    context.measure(work, "FLOP", &record, check)?.note(format!("{batch} x {SIDE}x{SIDE}, 3x3")).done()
}

/// Rows of one slot, normalised by column: statistics and application.
fn batch_norm(context: &Context<'_>, rows: usize) -> Result<Done> {
    let Normalised { x, g: y, affine, host, .. } = Normalised::new(context, rows)?;
    let (gpu, caps) = (context.gpu, context.gpu.caps());
    let parts = Tensor::uninit(gpu, &batch::scratch(x.shape()))?;
    let saved = Tensor::uninit(gpu, &[1, 2, CHANNELS])?;
    let record = |r: &mut Recording| {
        batch::statistics(r, caps, &x, EPSILON, None, &parts, &saved)?;
        batch::apply(r, caps, &x, batch::Statistics::Saved(&saved), &affine, &y)
    };
    let check = || {
        let found = y.to_array(gpu)?;
        let mut random = Random::new(SEED + 1);
        for _ in 0..SAMPLES {
            let (row, column) = (random.below(rows), random.below(CHANNELS));
            let of = |row: usize| f64::from(host[row * CHANNELS + column]);
            let expected = normal((0..rows).map(of), of(row));
            near(&format!("element ({row}, {column})"), f64::from(found[[0, row, column]]), expected, tolerance(rows))?;
        }
        Ok(())
    };
    // Both passes read x, one writes y.
    context.measure(12.0 * (rows * CHANNELS) as f64, "B", &record, check)?.note(format!("{rows} x {CHANNELS}")).done()
}

/// The gradients of [`batch_norm`]: sums over rows, and the input's gradient.
fn batch_norm_gradient(context: &Context<'_>, rows: usize) -> Result<Done> {
    let Normalised { x, g, affine, host, host_g } = Normalised::new(context, rows)?;
    let (gpu, caps) = (context.gpu, context.gpu.caps());
    let parts = Tensor::uninit(gpu, &batch::scratch(x.shape()))?;
    let [saved, sums] = [Tensor::uninit(gpu, &[1, 2, CHANNELS])?, Tensor::uninit(gpu, &[1, 2, CHANNELS])?];
    let dx = poisoned(gpu, &[1, rows, CHANNELS])?;
    let mut statistics = Recording::new();
    batch::statistics(&mut statistics, caps, &x, EPSILON, None, &parts, &saved)?;
    gpu.run(&statistics, &context.meter.control)?;
    let of = Backward { x: &x, g: &g, saved: &saved, affine: &affine };
    let record = |r: &mut Recording| {
        batch::sums(r, caps, &of, &parts, &sums)?;
        batch::input_gradient(r, caps, &of, &sums, &dx)
    };
    let check = || {
        let found = dx.to_array(gpu)?;
        let mut random = Random::new(SEED + 1);
        let n = rows as f64;
        for _ in 0..SAMPLES {
            let (row, column) = (random.below(rows), random.below(CHANNELS));
            let at = |list: &[f32], row: usize| f64::from(list[row * CHANNELS + column]);
            let (mean, inverse) = moments((0..rows).map(|row| at(&host, row)));
            let h = |row: usize| (at(&host, row) - mean) * inverse;
            let (sum_g, sum_gh) =
                (0..rows).fold((0.0, 0.0), |(a, b), row| (a + at(&host_g, row), b + at(&host_g, row) * h(row)));
            let expected = inverse * (at(&host_g, row) - sum_g / n - h(row) * sum_gh / n);
            near(&format!("element ({row}, {column})"), f64::from(found[[0, row, column]]), expected, tolerance(rows))?;
        }
        Ok(())
    };
    // Both passes read x and g, one writes dx.
    context.measure(20.0 * (rows * CHANNELS) as f64, "B", &record, check)?.note(format!("{rows} x {CHANNELS}")).done()
}

/// Rows normalised one by one.
fn layer_norm(context: &Context<'_>, rows: usize) -> Result<Done> {
    let Normalised { x, g: y, affine, host, .. } = Normalised::new(context, rows)?;
    let (gpu, caps) = (context.gpu, context.gpu.caps());
    let saved = Tensor::uninit(gpu, &layer::saved(x.shape()))?;
    let record = |r: &mut Recording| layer::forward(r, caps, &x, &affine, EPSILON, &saved, &y);
    let check = || {
        let found = y.to_array(gpu)?;
        let mut random = Random::new(SEED + 1);
        for _ in 0..SAMPLES {
            let (row, column) = (random.below(rows), random.below(CHANNELS));
            let own = &host[row * CHANNELS..(row + 1) * CHANNELS];
            let expected = normal(own.iter().map(|&v| f64::from(v)), f64::from(own[column]));
            let what = format!("element ({row}, {column})");
            near(&what, f64::from(found[[0, row, column]]), expected, tolerance(CHANNELS))?;
        }
        Ok(())
    };
    context.measure(8.0 * (rows * CHANNELS) as f64, "B", &record, check)?.note(format!("{rows} x {CHANNELS}")).done()
}

/// What normalisations read: one slot of rows with scale 1 and shift 0.
struct Normalised {
    x: Tensor,
    /// As large as `x`, and written over where a result is wanted.
    g: Tensor,
    affine: Tensor,
    host: Vec<f32>,
    host_g: Vec<f32>,
}

impl Normalised {
    fn new(context: &Context<'_>, rows: usize) -> Result<Self> {
        let mut random = Random::new(SEED);
        let (host, host_g) = (random.values(rows * CHANNELS), random.values(rows * CHANNELS));
        let affine: Vec<f32> = (0..2 * CHANNELS).map(|i| if i < CHANNELS { 1.0 } else { 0.0 }).collect();
        Ok(Self {
            x: Tensor::from_slice(context.gpu, &[1, rows, CHANNELS], &host)?,
            g: Tensor::from_slice(context.gpu, &[1, rows, CHANNELS], &host_g)?,
            affine: Tensor::from_slice(context.gpu, &[1, 2, CHANNELS], &affine)?,
            host,
            host_g,
        })
    }
}

/// Mean and `1 / sqrt(variance + EPSILON)`.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    (mean, 1.0 / (variance + f64::from(EPSILON)).sqrt())
}

fn normal(values: impl Iterator<Item = f64> + Clone, value: f64) -> f64 {
    let (mean, inverse) = moments(values);
    (value - mean) * inverse
}

/// Numbers below 1 in magnitude have deviations near 0.58, so no intermediate result is above 4; sums over `n` of them are formed in chunks,
/// whose depth is far below `n`.
fn tolerance(n: usize) -> f64 {
    4.0 * gamma(64 + n.min(4096) / 16)
}

/// The gradient of a pool of windows that do not overlap.
fn pool_gradient(context: &Context<'_>, batch: usize) -> Result<Done> {
    let (gpu, caps) = (context.gpu, context.gpu.caps());
    let (whole, half) = ([batch, SIDE, SIDE, CHANNELS], [batch, SIDE / 2, SIDE / 2, CHANNELS]);
    let mut random = Random::new(SEED);
    let x = Tensor::from_slice(gpu, &whole, &random.values(whole.iter().product()))?;
    let host_g = random.values(half.iter().product());
    let g = Tensor::from_slice(gpu, &half, &host_g)?;
    let (out, winners, dx) = (poisoned(gpu, &half)?, poisoned_words(gpu, &half)?, poisoned(gpu, &whole)?);
    let pool = Pool { kernel: [2; 2], stride: [2; 2], pad: [0; 2], dilation: [1; 2] };
    let mut forward = Recording::new();
    pool.max_with_winners(&mut forward, caps, &x, &out, &winners)?;
    gpu.run(&forward, &context.meter.control)?;
    let record = |r: &mut Recording| pool.winners_gradient(r, caps, &winners, &g, &dx);
    let check = || {
        let (dx, winners) = (dx.to_array(gpu)?, winners.to_array(gpu)?);
        for ((at, &winner), &g) in winners.indexed_iter().zip(&host_g) {
            for tap in 0..4 {
                let found = dx[[at[0], 2 * at[1] + tap / 2, 2 * at[2] + tap % 2, at[3]]];
                if found != if tap == winner as usize { g } else { 0.0 } {
                    return Err(wrong(format!("tap {tap} of window {at:?} has {found}")));
                }
            }
        }
        Ok(())
    };
    let bytes = 4.0 * (x.len() + 2 * g.len()) as f64;
    context.measure(bytes, "B", &record, check)?.note(format!("{batch} x {SIDE}x{SIDE} x {CHANNELS}")).done()
}

/// One step of Adam over a table of parameters.
fn adam_step(context: &Context<'_>, parameters: usize) -> Result<Done> {
    const RATE: f64 = 1e-3;
    let (gpu, caps, optimiser) = (context.gpu, context.gpu.caps(), Optimiser::adam());
    let mut random = Random::new(SEED);
    let (host_w, host_g) = (random.values(parameters), random.values(parameters));
    let table = |values: &[f32]| Tensor::from_slice(gpu, &[1, parameters], values);
    let (w, g, zeros) = (table(&host_w)?, table(&host_g)?, vec![0.0; parameters]);
    let state = [table(&zeros)?, table(&zeros)?];
    let coefficients = Tensor::from_slice(gpu, &[1, 16], &optimiser.coefficients(0, RATE, None))?;
    let tables =
        StepTables { parameters: &w, gradients: &g, state: &state, coefficients: &coefficients, factors: None };
    let record = |r: &mut Recording| record_step(r, caps, optimiser.formula(), &tables);
    let check = || {
        let found = w.to_array(gpu)?;
        for _ in 0..SAMPLES {
            let at = random.below(parameters);
            // The first step's corrected moments are g and g^2.
            let (w, g) = (f64::from(host_w[at]), f64::from(host_g[at]));
            let expected = w - RATE * g / (g.abs() + 1e-8);
            near(&format!("parameter {at}"), f64::from(found[[0, at]]), expected, gamma(2) + RATE * gamma(16))?;
        }
        Ok(())
    };
    // Parameters and two moments are read and written, gradients read.
    context.measure(28.0 * parameters as f64, "B", &record, check)?.note(format!("{parameters} parameters")).done()
}
