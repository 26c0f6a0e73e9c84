//! The machine step by step, written for reading: what the device's counts are compared with, and what runs without a device.

use super::{BLOCK, Fold, Plan, Run, SIDE, Scnn, Sums, is_depthwise, is_zero, values};
use crate::error::Result;
use crate::pack::{Layer, Values};

/// A non-zero activation at (y, x) of the padded plane.
type Activation = (usize, usize);
/// A non-zero weight of filter k at tap (y, x), dilated.
type Weight = (usize, usize, usize);

/// Simulates a layer on one sample, block by block. Ten times slower than the device even where that is the processor itself.
///
/// # Errors
/// As [`super::run_async`], but for those of a device.
pub fn literal(array: Scnn, layer: &Layer, sample: usize) -> Result<Run> {
    let (weights, inputs) = values(layer, sample)?;
    let plan = Plan::new(array, layer)?;
    let non_zero = |values: &Values| (0..values.len()).filter(|&i| !is_zero(values, i)).count() as u64;
    let mut sums = Sums { weights: non_zero(weights), inputs: non_zero(inputs), ..Sums::default() };
    let simulation = Simulation { plan, layer, weights, inputs };
    let shape = &plan.shape;
    if plan.output.contains(&0) {
        return plan.finish(sums);
    }
    let (per_group, channels) = (shape.filters / shape.groups, shape.input[2] / shape.groups);
    for group in 0..shape.groups {
        for first in (0..per_group).step_by(plan.together) {
            let filters = group * per_group + first..group * per_group + (first + plan.together).min(per_group);
            for channel in 0..channels {
                simulation.channel(group * channels + channel, channel, filters.clone(), &mut sums);
            }
        }
    }
    plan.finish(sums)
}

struct Simulation<'a> {
    plan: Plan,
    layer: &'a Layer,
    weights: &'a Values,
    inputs: &'a Values,
}

impl Simulation<'_> {
    /// One input channel of one filter group, up to the barrier. `within` is the channel in its group of the convolution.
    fn channel(&self, channel: usize, within: usize, filters: std::ops::Range<usize>, sums: &mut Sums) {
        let mut slowest = 0;
        for row in 0..self.plan.array.rows {
            for column in 0..self.plan.array.columns {
                let mut cycles = 0;
                for phase_y in 0..self.plan.shape.stride[0] {
                    for phase_x in 0..self.plan.shape.stride[1] {
                        let phase = [phase_y, phase_x];
                        let activations = self.activations(channel, [row, column], phase);
                        let weights = self.taps(within, filters.clone(), phase);
                        cycles += self.blocks(&activations, &weights, sums);
                    }
                }
                sums.cycles += cycles;
                slowest = slowest.max(cycles);
            }
        }
        sums.slowest += slowest;
    }

    /// Non-zero activations of an element's tile, in one phase.
    fn activations(&self, channel: usize, element: [usize; 2], phase: [usize; 2]) -> Vec<Activation> {
        let [height, width] = self.plan.tile;
        let mut found = Vec::new();
        for y in element[0] * height..(element[0] + 1) * height {
            for x in element[1] * width..(element[1] + 1) * width {
                let stride = self.plan.shape.stride;
                if [y % stride[0], x % stride[1]] == phase && self.is_active(channel, y, x) {
                    found.push((y, x));
                }
            }
        }
        found
    }

    /// Whether the padded plane has a value there that is not zero.
    fn is_active(&self, channel: usize, y: usize, x: usize) -> bool {
        let [height, width, channels] = self.layer.shape.input;
        let index = match self.plan.fold {
            Fold::Dense => {
                let c = channel * SIDE * SIDE + y * SIDE + x;
                (y < SIDE && x < SIDE && c < channels).then_some(c)
            }
            Fold::Rows(columns) => {
                (x < columns && y * columns + x < height).then(|| (y * columns + x) * channels + channel)
            }
            Fold::None => {
                let [top, left, ..] = self.plan.shape.padding;
                let inside = (top..top + height).contains(&y) && (left..left + width).contains(&x);
                inside.then(|| ((y - top) * width + x - left) * channels + channel)
            }
        };
        index.is_some_and(|i| !is_zero(self.inputs, i))
    }

    /// Non-zero weights of some filters, in one phase.
    fn taps(&self, channel: usize, filters: std::ops::Range<usize>, phase: [usize; 2]) -> Vec<Weight> {
        let shape = &self.plan.shape;
        let mut found = Vec::new();
        for ky in 0..shape.filter[0] {
            for kx in 0..shape.filter[1] {
                let tap = [ky * shape.dilation[0], kx * shape.dilation[1]];
                if [tap[0] % shape.stride[0], tap[1] % shape.stride[1]] != phase {
                    continue;
                }
                for k in filters.clone() {
                    if self.weight(k, ky, kx, channel).is_some_and(|i| !is_zero(self.weights, i)) {
                        found.push((k, tap[0], tap[1]));
                    }
                }
            }
        }
        found
    }

    /// Where a weight stands.
    fn weight(&self, k: usize, ky: usize, kx: usize, channel: usize) -> Option<usize> {
        let shape = &self.layer.shape;
        if self.plan.fold == Fold::Dense {
            let c = channel * SIDE * SIDE + ky * SIDE + kx;
            return (c < shape.input[2]).then(|| k * shape.input[2] + c);
        }
        let tap = ky * shape.filter[1] + kx;
        if is_depthwise(shape, self.weights) {
            return Some(tap * shape.filters + k);
        }
        Some((k * shape.filter[0] * shape.filter[1] + tap) * (shape.input[2] / shape.groups) + channel)
    }

    /// Every block of activations meets every block of weights; the cycles that takes.
    fn blocks(&self, activations: &[Activation], weights: &[Weight], sums: &mut Sums) -> u64 {
        let mut cycles = 0;
        sums.input_reads += activations.len() as u64;
        for some in activations.chunks(BLOCK) {
            sums.weight_reads += weights.len() as u64;
            for others in weights.chunks(BLOCK) {
                let mut banks = [0_u64; 32];
                for &(y, x) in some {
                    for &(k, ky, kx) in others {
                        sums.multiplies += 1;
                        if let Some(bank) = self.bank([y, x], [ky, kx], k) {
                            banks[bank] += 1;
                        }
                    }
                }
                sums.steps += 1;
                sums.products += banks.iter().sum::<u64>();
                cycles += banks.iter().copied().max().unwrap_or(0).max(1);
            }
        }
        cycles
    }

    /// The accumulator bank of a product; none where it is no part of the result.
    fn bank(&self, at: [usize; 2], tap: [usize; 2], k: usize) -> Option<usize> {
        let [stride_y, stride_x] = self.plan.shape.stride;
        let (y, x) = (at[0].checked_sub(tap[0])? / stride_y, at[1].checked_sub(tap[1])? / stride_x);
        if y >= self.plan.output[0] || x >= self.plan.output[1] {
            return None;
        }
        let upper = ((k & 4) << 2) ^ ((y & 2) << 3) ^ ((x & 2) << 3);
        Some((upper + ((y & 1) << 3) + ((x & 1) << 2) + (k & 3)) % self.plan.array.banks as usize)
    }
}
