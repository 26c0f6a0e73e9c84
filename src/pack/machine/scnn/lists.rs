//! Non-zero values in blocks, as kernels read them: linear work, done on the host; what is quadratic is left to the device.

use super::{BLOCK, Fold, Plan, SIDE, Sums, is_depthwise, is_zero};
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{Layer, Values};

/// Fills up a block of activations.
const NO_ACTIVATION: u32 = 0x7fff_7fff;
/// Fills up a block of weights.
const NO_WEIGHT: u32 = 0x8000;

/// Values of buckets, each in whole blocks, bucket behind bucket.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Four words a block.
    pub words: Vec<u32>,
    /// The first block of each bucket, and the end of the last.
    pub at: Vec<u32>,
    /// Values of each bucket.
    pub counts: Vec<u32>,
}

impl Blocks {
    fn new(name: &str, counts: Vec<u32>, filler: u32) -> Result<Self> {
        let mut at = Vec::with_capacity(counts.len() + 1);
        let mut end = 0_u32;
        at.push(0);
        for &count in &counts {
            // A word's place is four times its block's.
            let blocks = count.div_ceil(BLOCK as u32);
            end = end
                .checked_add(blocks)
                .filter(|&end| end < 1 << 30)
                .ok_or_else(|| Error::new(ErrorKind::TooBig, format!("'{name}' has more than 2^32 non-zero values")))?;
            at.push(end);
        }
        Ok(Self { words: vec![filler; end as usize * BLOCK], at, counts })
    }

    fn put(&mut self, filled: &mut [u32], bucket: usize, word: u32) {
        self.words[self.at[bucket] as usize * BLOCK + filled[bucket] as usize] = word;
        filled[bucket] += 1;
    }

    fn blocks(&self, bucket: usize) -> u64 {
        u64::from(self.at[bucket + 1] - self.at[bucket])
    }
}

/// All of a layer's non-zero values.
#[derive(Debug)]
pub(super) struct Lists {
    /// Buckets `[channel, phase, element]`.
    pub activations: Blocks,
    /// Buckets `[channel, filter group, phase]`.
    pub weights: Blocks,
}

impl Lists {
    pub fn new(plan: &Plan, layer: &Layer, weights: &Values, inputs: &Values) -> Result<Self> {
        Ok(Self { activations: activations(plan, layer, inputs)?, weights: taps(plan, layer, weights)? })
    }

    /// What needs no step by step: steps, reads, multiplications.
    pub fn sums(&self, plan: &Plan) -> Sums {
        let total = |blocks: &Blocks| blocks.counts.iter().map(|&n| u64::from(n)).sum();
        let mut sums = Sums { weights: total(&self.weights), inputs: total(&self.activations), ..Sums::default() };
        let (elements, phases, chunks) = (plan.array.elements(), plan.phases(), plan.chunks());
        for (bucket, counts) in self.activations.counts.chunks(elements).enumerate() {
            let (channel, phase) = (bucket / phases, bucket % phases);
            let blocks: u64 = (0..elements).map(|e| self.activations.blocks(bucket * elements + e)).sum();
            let values: u64 = counts.iter().map(|&n| u64::from(n)).sum();
            sums.input_reads += values * chunks as u64;
            for chunk in 0..chunks {
                let weights = (channel * chunks + chunk) * phases + phase;
                sums.steps += blocks * self.weights.blocks(weights);
                sums.weight_reads += blocks * u64::from(self.weights.counts[weights]);
                sums.multiplies += values * u64::from(self.weights.counts[weights]);
            }
        }
        sums
    }
}

fn activations(plan: &Plan, layer: &Layer, inputs: &Values) -> Result<Blocks> {
    let (elements, phases, stride) = (plan.array.elements(), plan.phases(), plan.shape.stride);
    let [_, width, channels] = layer.shape.input;
    // Channel, row and column of value i in the padded, folded map.
    let place = |i: usize| match plan.fold {
        Fold::Dense => (i / (SIDE * SIDE), i % (SIDE * SIDE) / SIDE, i % SIDE),
        Fold::Rows(columns) => (i % channels, i / channels / columns, i / channels % columns),
        Fold::None => {
            let at = i / channels;
            (i % channels, at / width + plan.shape.padding[0], at % width + plan.shape.padding[1])
        }
    };
    let bucket = |i: usize| {
        let (channel, y, x) = place(i);
        let phase = y % stride[0] * stride[1] + x % stride[1];
        let element = y / plan.tile[0] * plan.array.columns + x / plan.tile[1];
        let word = ((y / stride[0]) << 16) | (x / stride[1]);
        ((channel * phases + phase) * elements + element, word as u32)
    };
    fill(inputs, plan.shape.input[2] * phases * elements, NO_ACTIVATION, 0..inputs.len(), bucket)
}

fn taps(plan: &Plan, layer: &Layer, weights: &Values) -> Result<Blocks> {
    let (shape, folded) = (&layer.shape, &plan.shape);
    let (phases, chunks, stride) = (plan.phases(), plan.chunks(), folded.stride);
    let depth = shape.input[2] / shape.groups;
    let per_group = shape.filters / shape.groups;
    let depthwise = is_depthwise(shape, weights);
    let places = shape.filter[0] * shape.filter[1];
    // Buckets hold values in the order (ky, kx, filter); of (filter, ky, kx, channel) that takes taps first, or, in a folded layer, inputs.
    let ordered = (0..weights.len()).map(|n| match (plan.fold, depthwise) {
        (Fold::Dense, _) => n % shape.filters * depth + n / shape.filters,
        (_, true) => n,
        _ => {
            let (tap, k, c) = (n / (shape.filters * depth), n / depth % shape.filters, n % depth);
            (k * places + tap) * depth + c
        }
    });
    let bucket = |i: usize| {
        let (k, channel, tap) = match (plan.fold, depthwise) {
            (Fold::Dense, _) => {
                let c = i % depth;
                (i / depth, c / (SIDE * SIDE), [c % (SIDE * SIDE) / SIDE, c % SIDE])
            }
            (_, true) => {
                (i % shape.filters, 0, [i / shape.filters / shape.filter[1], i / shape.filters % shape.filter[1]])
            }
            _ => {
                let tap = i / depth % places;
                (i / depth / places, i % depth, [tap / shape.filter[1], tap % shape.filter[1]])
            }
        };
        let (y, x) = (tap[0] * folded.dilation[0], tap[1] * folded.dilation[1]);
        let phase = y % stride[0] * stride[1] + x % stride[1];
        let absolute = k / per_group * (folded.input[2] / folded.groups) + channel;
        let unit = absolute * chunks + k % per_group / plan.together;
        let word = ((k & 7) << 28) | ((y / stride[0]) << 16) | (x / stride[1]);
        (unit * phases + phase, word as u32)
    };
    fill(weights, folded.input[2] * chunks * phases, NO_WEIGHT, ordered, bucket)
}

/// Counts, then fills, in the given order.
fn fill(
    values: &Values,
    buckets: usize,
    filler: u32,
    order: impl Iterator<Item = usize>,
    bucket: impl Fn(usize) -> (usize, u32),
) -> Result<Blocks> {
    let mut counts = vec![0; buckets];
    for i in (0..values.len()).filter(|&i| !is_zero(values, i)) {
        counts[bucket(i).0] += 1;
    }
    let mut blocks = Blocks::new(values.name(), counts, filler)?;
    let mut filled = vec![0; buckets];
    for i in order.filter(|&i| !is_zero(values, i)) {
        let (bucket, word) = bucket(i);
        blocks.put(&mut filled, bucket, word);
    }
    Ok(blocks)
}
