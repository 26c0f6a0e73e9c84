//! What a step computes, in `f64` on the host, written for reading: the oracle of tests, and the definition of the layers.
//!
//! ```
//! use wavehull::hash::layer::{Hidden, Loss, reference::{Problem, Sets}};
//! use wavehull::hash::{Batch, SparseSet, set::Lists};
//!
//! // One sample with feature 0 = 2 and label 1, of one feature and two labels; one hidden element.
//! let lists = |id| Lists { offsets: vec![0, 1], ids: vec![id] };
//! let set = SparseSet { feature_count: 1, label_count: 2, features: lists(0), values: vec![2.0], labels: lists(1) };
//! let batch = Batch::new(&set, &[0])?;
//! let input = [0.5, 0.0, 0.0, 0.0, /* the bias: */ 1.0, 0.0, 0.0, 0.0];
//! let output = [1.0, 0.0, 0.0, 0.0, /* label 1: */ 1.0, 0.0, 0.0, 0.0];
//! let hidden = Hidden { elements: 1, relu: true };
//! let problem = Problem { batch: &batch, hidden, input: &input, output: &output, sets: Sets::All(2), loss: Loss::Softmax, correction: None };
//! let step = problem.step();
//! assert_eq!(step.h, [2.0, 1.0, 0.0, 0.0]);
//! assert_eq!(step.d_logits, [0.5, -0.5]);
//! assert_eq!(step.mean, 2_f64.ln());
//! # Ok::<(), wavehull::Error>(())
//! ```

use std::collections::BTreeMap;

use super::super::Batch;
use super::{Hidden, Loss};

/// The active labels of samples.
#[derive(Debug, Clone, Copy)]
pub enum Sets<'a> {
    /// All of so many.
    All(usize),
    /// The same for all samples.
    Shared(&'a [u32]),
    /// So many for each sample, sample by sample.
    Own(&'a [u32], usize),
}

impl Sets<'_> {
    /// Labels of a sample.
    pub fn len(&self) -> usize {
        match *self {
            Self::All(count) | Self::Own(_, count) => count,
            Self::Shared(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label at a place of a sample's set.
    pub fn id(&self, sample: usize, place: usize) -> usize {
        match *self {
            Self::All(_) => place,
            Self::Shared(ids) => ids[place] as usize,
            Self::Own(ids, count) => ids[sample * count + place] as usize,
        }
    }
}

/// A step: samples, weights, active labels and loss.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// The samples.
    pub batch: &'a Batch,
    /// The hidden layer.
    pub hidden: Hidden,
    /// `[features + 1, width]`, the bias last.
    pub input: &'a [f64],
    /// `[labels, width]`.
    pub output: &'a [f64],
    /// The active labels.
    pub sets: Sets<'a>,
    /// What is minimised.
    pub loss: Loss,
    /// By label: what is taken from its logit before the softmax.
    pub correction: Option<&'a [f64]>,
}

/// What a step computes. Gradients are those of `mean`.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// `[B, width]`: hidden elements, 1, zeros.
    pub h: Vec<f64>,
    /// `[B, A]`.
    pub logits: Vec<f64>,
    /// `[B]`.
    pub losses: Vec<f64>,
    /// The mean of the losses.
    pub mean: f64,
    /// `[B, A]`.
    pub d_logits: Vec<f64>,
    /// `[B, width]`, 0 from column `hidden` on.
    pub d_hidden: Vec<f64>,
    /// Of the rows of the input table that the samples touch.
    pub d_input: BTreeMap<u32, Vec<f64>>,
    /// Of the active rows of the output table.
    pub d_output: BTreeMap<u32, Vec<f64>>,
}

impl Problem<'_> {
    /// The whole step.
    pub fn step(&self) -> Step {
        let h = self.forward();
        let logits = self.logits(&h);
        let (losses, d_logits) = self.losses(&logits);
        let d_hidden = self.hidden_gradient(&h, &d_logits);
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        let (d_input, d_output) = (self.input_gradient(&d_hidden), self.output_gradient(&h, &d_logits));
        Step { h, logits, losses, mean, d_logits, d_hidden, d_input, d_output }
    }

    /// Hidden elements, with the 1 of the bias and zeros behind them.
    pub fn forward(&self) -> Vec<f64> {
        let (width, hidden) = (self.hidden.width(), self.hidden.elements);
        let mut h = vec![0.0; self.batch.samples * width];
        for (sample, out) in h.chunks_mut(width).enumerate() {
            for entry in self.batch.offsets[sample] as usize..self.batch.offsets[sample + 1] as usize {
                let value = f64::from(self.batch.values[entry]);
                let row = self.batch.features[entry] as usize * width;
                add(&mut out[..hidden], value, &self.input[row..]);
            }
            if self.hidden.relu {
                out.iter_mut().for_each(|x| *x = x.max(0.0));
            }
            out[hidden] = 1.0;
        }
        h
    }

    /// Logits of the active labels.
    pub fn logits(&self, h: &[f64]) -> Vec<f64> {
        let (width, active) = (self.hidden.width(), self.sets.len());
        let mut logits = Vec::with_capacity(self.batch.samples * active);
        for (sample, h) in h.chunks(width).enumerate() {
            for place in 0..active {
                let row = &self.output[self.sets.id(sample, place) * width..][..width];
                logits.push(h.iter().zip(row).map(|(x, w)| x * w).sum());
            }
        }
        logits
    }

    /// The labels of a sample.
    pub fn labels(&self, sample: usize) -> &[u32] {
        let [start, end] = [0, 1].map(|i| self.batch.label_offsets[sample + i] as usize);
        &self.batch.labels[start..end]
    }

    /// The loss of each sample, and the gradient of their mean in the logits.
    pub fn losses(&self, logits: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (samples, active) = (self.batch.samples, self.sets.len());
        let (mut losses, mut gradient) = (Vec::new(), Vec::new());
        for (sample, z) in logits.chunks(active).enumerate() {
            let labels = self.labels(sample);
            let is_label: Vec<bool> =
                (0..active).map(|place| labels.iter().any(|&l| l as usize == self.sets.id(sample, place))).collect();
            let (loss, of_z) = match self.loss {
                Loss::Softmax => {
                    let correction = |place| self.correction.map_or(0.0, |of| of[self.sets.id(sample, place)]);
                    let z: Vec<f64> = z.iter().enumerate().map(|(place, z)| z - correction(place)).collect();
                    softmax(&z, &is_label, labels.len())
                }
                Loss::Bce => bce(z, &is_label),
            };
            losses.push(loss);
            gradient.extend(of_z.iter().map(|g| g / samples as f64));
        }
        (losses, gradient)
    }

    /// The gradient in the sums that the hidden elements are made of.
    pub fn hidden_gradient(&self, h: &[f64], d_logits: &[f64]) -> Vec<f64> {
        let (width, active) = (self.hidden.width(), self.sets.len());
        let mut gradient = vec![0.0; h.len()];
        for (sample, out) in gradient.chunks_mut(width).enumerate() {
            for column in 0..self.hidden.elements {
                let terms = (0..active).map(|place| {
                    d_logits[sample * active + place] * self.output[self.sets.id(sample, place) * width + column]
                });
                let open = !self.hidden.relu || h[sample * width + column] > 0.0;
                out[column] = if open { terms.sum() } else { 0.0 };
            }
        }
        gradient
    }

    /// The gradient of the rows of the input table that the samples touch.
    pub fn input_gradient(&self, d_hidden: &[f64]) -> BTreeMap<u32, Vec<f64>> {
        let width = self.hidden.width();
        let mut gradient = BTreeMap::new();
        for sample in 0..self.batch.samples {
            for entry in self.batch.offsets[sample] as usize..self.batch.offsets[sample + 1] as usize {
                let value = f64::from(self.batch.values[entry]);
                let of_sample = &d_hidden[sample * width..][..width];
                add(gradient.entry(self.batch.features[entry]).or_insert_with(|| vec![0.0; width]), value, of_sample);
            }
        }
        gradient
    }

    /// The gradient of the active rows of the output table.
    pub fn output_gradient(&self, h: &[f64], d_logits: &[f64]) -> BTreeMap<u32, Vec<f64>> {
        let (width, active) = (self.hidden.width(), self.sets.len());
        let mut gradient = BTreeMap::new();
        for (sample, h) in h.chunks(width).enumerate() {
            for place in 0..active {
                let id = u32::try_from(self.sets.id(sample, place)).unwrap_or(u32::MAX);
                let row = gradient.entry(id).or_insert_with(|| vec![0.0; width]);
                add(row, d_logits[sample * active + place], h);
            }
        }
        gradient
    }
}

/// Cross-entropy with 1 / n for each of n labels, and its gradient.
fn softmax(z: &[f64], is_label: &[bool], n: usize) -> (f64, Vec<f64>) {
    if n == 0 {
        return (0.0, vec![0.0; z.len()]);
    }
    let top = z.iter().copied().fold(z[0], f64::max);
    let sum: f64 = z.iter().map(|z| (z - top).exp()).sum();
    let wanted = |label: bool| if label { 1.0 / n as f64 } else { 0.0 };
    let loss = sum.ln() - z.iter().zip(is_label).map(|(z, &label)| wanted(label) * (z - top)).sum::<f64>();
    (loss, z.iter().zip(is_label).map(|(z, &label)| (z - top).exp() / sum - wanted(label)).collect())
}

/// Binary cross-entropy of every label by itself, and its gradient.
fn bce(z: &[f64], is_label: &[bool]) -> (f64, Vec<f64>) {
    let of = |(&z, &label): (&f64, &bool)| {
        let t = if label { -z } else { z };
        let sigmoid = if t > 0.0 { 1.0 / (1.0 + (-t).exp()) } else { t.exp() / (1.0 + t.exp()) };
        (t.max(0.0) + (-t.abs()).exp().ln_1p(), if label { -sigmoid } else { sigmoid })
    };
    let (losses, gradient): (Vec<f64>, Vec<f64>) = z.iter().zip(is_label).map(of).unzip();
    (losses.iter().sum(), gradient)
}

/// `row += factor * x`
fn add(row: &mut [f64], factor: f64, x: &[f64]) {
    for (to, x) in row.iter_mut().zip(x) {
        *to += factor * x;
    }
}

#[cfg(test)]
mod tests {
    use super::{Problem, Sets};
    use crate::hash::layer::{Hidden, Loss};
    use crate::hash::set::{Lists, SparseSet};
    use crate::hash::{Batch, width};

    /// Repeatable numbers in -1..1.
    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 * (2.0 / (1_u64 << 53) as f64) - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn gradients_are_the_slopes_of_the_mean_loss() {
        let set = SparseSet {
            feature_count: 5,
            label_count: 6,
            features: Lists { offsets: vec![0, 2, 2, 5], ids: vec![0, 3, 1, 3, 4] },
            values: vec![0.5, -1.5, 1.0, 0.25, 2.0],
            labels: Lists { offsets: vec![0, 2, 3, 3], ids: vec![1, 4, 0] },
        };
        let batch = Batch::new(&set, &[0, 1, 2]).unwrap();
        let own = [0, 1, 4, 0, 2, 5, 1, 3, 4];
        let correction = numbers(6, 3);
        let mut cases = 0;
        for relu in [false, true] {
            let hidden = Hidden { elements: 3, relu };
            let (input, output) = (numbers(6 * width(3), 1), numbers(6 * width(3), 2));
            for sets in [Sets::All(6), Sets::Shared(&[0, 1, 3, 4]), Sets::Own(&own, 3)] {
                for (loss, corrected) in [(Loss::Softmax, false), (Loss::Softmax, true), (Loss::Bce, false)] {
                    let correction = corrected.then_some(&correction[..]);
                    let problem =
                        Problem { batch: &batch, hidden, input: &input, output: &output, sets, loss, correction };
                    check(&problem);
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 18);
    }

    /// Central differences of every weight: their error is of the order of the step squared, and u / step from rounding.
    fn check(problem: &Problem<'_>) {
        let step = problem.step();
        let width = problem.hidden.width();
        let slope = |input: bool, at: usize| {
            let mean = |by: f64| {
                let (mut of_input, mut of_output) = (problem.input.to_vec(), problem.output.to_vec());
                (if input { &mut of_input } else { &mut of_output })[at] += by;
                Problem { input: &of_input, output: &of_output, ..*problem }.step().mean
            };
            (mean(1e-5) - mean(-1e-5)) / 2e-5
        };
        for (input, count, of) in
            [(true, problem.input.len(), &step.d_input), (false, problem.output.len(), &step.d_output)]
        {
            for at in 0..count {
                let (row, column) = (u32::try_from(at / width).unwrap(), at % width);
                let gradient = of.get(&row).map_or(0.0, |row| row[column]);
                let found = slope(input, at);
                assert!((gradient - found).abs() < 1e-8, "{problem:?}: {at} ({input}): {gradient}, not {found}");
            }
        }
        for (sample, z) in step.d_logits.chunks(problem.sets.len()).enumerate() {
            if problem.loss == Loss::Softmax {
                assert!(z.iter().sum::<f64>().abs() < 1e-15, "sample {sample}");
            }
        }
    }
}
