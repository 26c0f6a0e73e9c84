//! The naive twin: the same network in plain loops on the processor, written for reading. It takes padding as what is left out, zero points as
//! what is subtracted, and f64 where the reference does; the device's kernels do none of that.

use super::fixed::{SUM_BITS, divide_by_power, doubling_high, reciprocal};
use super::{
    Activations, Binary, BinaryKind, Bounds, Constant, Network, Operand, Pool, PoolKind, Product, ProductKind, Rescale,
    Samples, Step, StepKind, Tensor, Window,
};
use crate::error::Result;

impl Network {
    /// The codes of every tensor, computed on the processor: slow, for tests and for machines without a device.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for input that is no whole number of samples or holds what is no number.
    pub fn run_reference(&self, samples: Samples<'_>) -> Result<Activations> {
        let input = self.codes(samples)?;
        let samples = input.len() / self.input().len();
        let mut codes = vec![Vec::new(); self.tensors.len()];
        for sample in input.chunks(self.input().len()) {
            let mut maps = vec![Vec::new(); self.tensors.len()];
            maps[self.input] = sample.to_vec();
            for step in &self.steps {
                maps[step.output] = self.step(step, &maps);
            }
            for (all, map) in codes.iter_mut().zip(maps) {
                all.extend(map);
            }
        }
        Ok(Activations { samples, codes })
    }

    fn step(&self, step: &Step, maps: &[Vec<i8>]) -> Vec<i8> {
        let to = &self.tensors[step.output];
        match &step.kind {
            StepKind::Product(p) => product(p, Map::new(&self.tensors[p.input], &maps[p.input]), to),
            StepKind::Binary(b) => binary(b, maps, to),
            StepKind::Pool(p) => pool(p, Map::new(&self.tensors[p.input], &maps[p.input]), to),
            StepKind::Table { input, codes } => {
                maps[*input].iter().map(|&q| codes[(i32::from(q) + 128) as usize]).collect()
            }
            StepKind::Softmax { input, exponentials } => {
                maps[*input].chunks(to.channels()).flat_map(|row| softmax(row, exponentials)).collect()
            }
            StepKind::Reshape { input } => maps[*input].clone(),
            StepKind::Join { parts, fill } => {
                let mut joined = vec![*fill; to.len()];
                for &(part, at) in parts {
                    place(Map::new(&self.tensors[part], &maps[part]), at, to.shape, &mut joined);
                }
                joined
            }
        }
    }
}

/// Codes `[height, width, channels]` of one sample.
#[derive(Clone, Copy)]
struct Map<'a> {
    tensor: &'a Tensor,
    codes: &'a [i8],
}

impl<'a> Map<'a> {
    fn new(tensor: &'a Tensor, codes: &'a [i8]) -> Self {
        Self { tensor, codes }
    }

    /// The code at a place, if that is inside.
    fn at(&self, y: i64, x: i64, c: usize) -> Option<i64> {
        let [height, width, channels] = self.tensor.shape;
        let (y, x) = (usize::try_from(y).ok()?, usize::try_from(x).ok()?);
        (y < height && x < width).then(|| self.codes[(y * width + x) * channels + c].into())
    }
}

/// Where tap (i, j) of a window reads for place (y, x).
fn tap(w: &Window, [y, x]: [usize; 2], [i, j]: [usize; 2]) -> (i64, i64) {
    let along = |k: usize, at: usize, tap: usize| (at * w.stride[k] + tap * w.dilation[k]) as i64 - w.padding[k] as i64;
    (along(0, y, i), along(1, x, j))
}

fn product(p: &Product, from: Map<'_>, to: &Tensor) -> Vec<i8> {
    let [height, width, filters] = to.shape;
    let places = (0..height).flat_map(|y| (0..width).map(move |x| [y, x]));
    let of_place = |at| (0..filters).map(move |filter| coded(p, to, filter, sum(p, from, at, filter)));
    places.flat_map(of_place).collect()
}

/// The sum of products of a filter at a place, bias included, modulo 2^32.
fn sum(p: &Product, from: Map<'_>, at: [usize; 2], filter: usize) -> i32 {
    let [height, width] = p.window.filter;
    let depth = p.shape.input[2] * p.shape.filter[0] * p.shape.filter[1] / p.shape.groups / (height * width);
    let first = filter / (p.shape.filters / p.shape.groups) * depth;
    let mut sum = p.bias.as_ref().map_or(0, |bias| i64::from(bias[filter]));
    for i in 0..height {
        for j in 0..width {
            let (y, x) = tap(&p.window, at, [i, j]);
            for d in 0..depth {
                let Some(code) = from.at(y, x, first + d) else { continue };
                let weight = match p.kind {
                    ProductKind::Conv => ((filter * height + i) * width + j) * depth + d,
                    ProductKind::Depthwise => (i * width + j) * p.shape.filters + filter,
                };
                sum += i64::from(p.weights[weight]) * (code - i64::from(from.tensor.zero_point));
            }
        }
    }
    sum as i32
}

/// The code of a filter's sum.
fn coded(p: &Product, to: &Tensor, filter: usize, sum: i32) -> i8 {
    match &p.rescale {
        Rescale::Fixed(multipliers) => {
            p.bounds.cut(i64::from(multipliers[filter].apply(sum).wrapping_add(to.zero_point)))
        }
        Rescale::Real(_) => real_code(p, to, filter, sum),
    }
}

/// The same where the reference rounds in f64.
pub(super) fn real_code(p: &Product, to: &Tensor, filter: usize, sum: i32) -> i8 {
    let Rescale::Real(scales) = &p.rescale else { return 0 };
    let scale = scales[filter.min(scales.len() - 1)];
    let rounded = (f64::from(sum) * scale).round() as i32;
    p.bounds.cut(i64::from(rounded) + i64::from(to.zero_point))
}

fn binary(b: &Binary, maps: &[Vec<i8>], to: &Tensor) -> Vec<i8> {
    let operands = b.operands.each_ref().map(|operand| match operand {
        Operand::Tensor(tensor) => maps[*tensor].as_slice(),
        Operand::Constant(Constant { codes }) => &codes[..],
    });
    let code = |i: usize| {
        // An operand of one place is that of all places.
        let [x, y] = [0, 1].map(|k| i32::from(operands[k][i % operands[k].len()]) - b.zero_points[k]);
        let sum = match b.kind {
            BinaryKind::Add(multipliers) => multipliers[0].apply(x << 20).wrapping_add(multipliers[1].apply(y << 20)),
            BinaryKind::Multiply => x * y,
        };
        b.bounds.cut(i64::from(b.rescale.apply(sum).wrapping_add(to.zero_point)))
    };
    (0..to.len()).map(code).collect()
}

fn pool(p: &Pool, from: Map<'_>, to: &Tensor) -> Vec<i8> {
    let [height, width, channels] = to.shape;
    let mut codes = Vec::with_capacity(to.len());
    for at in (0..height).flat_map(|y| (0..width).map(move |x| [y, x])) {
        let taps = || (0..p.window.filter[0]).flat_map(|i| (0..p.window.filter[1]).map(move |j| [i, j]));
        for c in 0..channels {
            let seen: Vec<i64> = taps().map(|t| tap(&p.window, at, t)).filter_map(|(y, x)| from.at(y, x, c)).collect();
            codes.push(p.bounds.cut(pooled(p.kind, &seen, from.tensor, to)));
        }
    }
    codes
}

fn pooled(kind: PoolKind, seen: &[i64], from: &Tensor, to: &Tensor) -> i64 {
    let (sum, count) = (seen.iter().sum::<i64>(), seen.len() as i64);
    match kind {
        PoolKind::Max => seen.iter().copied().max().unwrap_or(-128),
        PoolKind::Average if sum > 0 => (sum + count / 2) / count,
        PoolKind::Average => (sum - count / 2) / count.max(1),
        PoolKind::Mean(multiplier) => {
            let centred = (sum - count * i64::from(from.zero_point)) as i32;
            i64::from(multiplier.apply(centred).wrapping_add(to.zero_point))
        }
    }
}

/// Codes with scale 1/256 and zero point -128.
fn softmax(row: &[i8], exponentials: &[i32; 256]) -> Vec<i8> {
    let most = row.iter().copied().max().unwrap_or(0);
    let exponential = |code: i8| exponentials[(i32::from(most) - i32::from(code)) as usize];
    let sum = row.iter().fold(0_i32, |sum, &code| sum.wrapping_add(divide_by_power(exponential(code), SUM_BITS)));
    let (fraction, above) = reciprocal(sum);
    let exponent = (above + 23).unsigned_abs();
    let code = |&code: &i8| {
        // Beyond 31 a share is less than a half; the reference stops there.
        let share =
            if exponent > 31 { 0 } else { divide_by_power(doubling_high(fraction, exponential(code)), exponent) };
        Bounds::ALL.cut(i64::from(share) - 128)
    };
    row.iter().map(code).collect()
}

fn place(from: Map<'_>, at: [usize; 3], shape: [usize; 3], joined: &mut [i8]) {
    let [height, width, channels] = from.tensor.shape;
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let source = (y * width + x) * channels;
        let target = ((y + at[0]) * shape[1] + x + at[1]) * shape[2] + at[2];
        joined[target..target + channels].copy_from_slice(&from.codes[source..source + channels]);
    }
}
