//! Integer inference, value for value that of TFLite's reference kernels (`OpResolverType.BUILTIN_REF` of ai-edge-litert 2.3).
//!
//! A [`Network`] holds steps on tensors of int8 codes: real = scale (code - zero point). [`Network::run_async`] computes the codes of every
//! tensor on the device, for a batch of samples; [`Network::run_reference`] is its twin in plain loops on the processor.
//! Both put real activation maps into a [`Workload`](super::Workload).
//!
//! Rounding, as found by comparing with that package: convolutions, depthwise ones, additions and products of tensors round twice (gemmlowp: a
//! saturating doubling high product, then a division by a power of two, both to nearest and halves away from zero); dense layers round once, in
//! f64: `round(acc * scale)`. Sums wrap at 32 bits, which C leaves undefined.

mod activations;
mod add;
mod conv;
mod copy;
mod depthwise;
mod device;
mod fixed;
mod grouped;
mod pool;
mod reference;
mod softmax;
mod step;
mod table;
#[cfg(test)]
mod tests;
mod thresholds;
mod workload;

pub use activations::Activations;
pub(crate) use fixed::{Multiplier, softmax_exponentials};
pub(crate) use step::{
    Binary, BinaryKind, Bounds, Constant, Operand, Pool, PoolKind, Product, ProductKind, Rescale, Step, StepKind,
    Window,
};

use crate::error::{Error, Result};
use crate::gpu::Kernel;

/// A tensor of int8 codes, of one sample: real = scale (code - zero point).
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The name in the file.
    pub name: String,
    /// Height, width and channels.
    pub shape: [usize; 3],
    /// The step from one code to the next.
    pub scale: f32,
    /// The code of 0.
    pub zero_point: i32,
}

impl Tensor {
    /// Codes of one sample.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places that have all channels.
    pub(crate) fn positions(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    pub(crate) fn channels(&self) -> usize {
        self.shape[2]
    }
}

/// A full-integer network: steps in the order of computing, each of which writes one tensor. Made by [`super::tflite`].
#[derive(Debug, Clone)]
pub struct Network {
    pub(crate) name: String,
    pub(crate) tensors: Vec<Tensor>,
    /// The tensor's number in the file, for each of ours.
    pub(crate) numbers: Vec<usize>,
    pub(crate) steps: Vec<Step>,
    pub(crate) input: usize,
    pub(crate) outputs: Vec<usize>,
}

/// What a batch of samples is given as.
#[derive(Debug, Clone, Copy)]
pub enum Samples<'a> {
    /// Codes of the input tensor, sample after sample, channels innermost.
    Codes(&'a [i8]),
    /// Real numbers in the same order: [`Network::quantise`] makes codes of them.
    Numbers(&'a [f32]),
}

impl Network {
    /// Where it comes from, for titles.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every tensor that a run computes, the input among them; a run's activations are numbered alike.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The number in the file of tensor `i` of [`Network::tensors`].
    pub fn number_in_file(&self, i: usize) -> Option<usize> {
        self.numbers.get(i).copied()
    }

    /// The tensor that is given.
    pub fn input(&self) -> &Tensor {
        &self.tensors[self.input]
    }

    /// Which tensors are results.
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// Steps of computing.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Products that a sample adds up.
    pub fn macs(&self) -> u64 {
        self.products().fold(0, |sum, (product, _)| sum.saturating_add(product.shape.macs()))
    }

    /// Codes of the input for real numbers: round(x / scale) + zero point, halves to even, cut to -128..=127. That is what
    /// `numpy.round(x / scale) + zero_point` gives in f64; TFLite's own QUANTIZE rounds halves away from zero.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for what is no number.
    pub fn quantise(&self, numbers: &[f32]) -> Result<Vec<i8>> {
        let Tensor { scale, zero_point, name, .. } = self.input();
        let code = |(i, &x): (usize, &f32)| {
            if x.is_nan() {
                return Err(Error::bad_input(format!("value {i} for input '{name}' is not a number")));
            }
            let code = (f64::from(x) / f64::from(*scale)).round_ties_even() + f64::from(*zero_point);
            Ok(code.clamp(-128.0, 127.0) as i8)
        };
        numbers.iter().enumerate().map(code).collect()
    }

    /// Codes of whole samples.
    pub(crate) fn codes(&self, samples: Samples<'_>) -> Result<Vec<i8>> {
        let codes = match samples {
            Samples::Codes(codes) => codes.to_vec(),
            Samples::Numbers(numbers) => self.quantise(numbers)?,
        };
        let Tensor { name, shape, .. } = self.input();
        if !codes.len().is_multiple_of(self.input().len()) {
            let what = format!("{} values for input '{name}' of shape {shape:?}", codes.len());
            return Err(Error::bad_input(what).with_help(format!("give a multiple of {} values", self.input().len())));
        }
        Ok(codes)
    }
}

/// Words of 4 codes that a place of so many channels takes on a device.
pub(crate) fn words(channels: usize) -> usize {
    channels.div_ceil(4)
}

/// Codes as words, the first in the low bits, each place from a word's start on; zeros behind the channels.
pub(crate) fn packed(codes: &[i8], channels: usize) -> Vec<u32> {
    let word = |four: &[i8]| four.iter().rev().fold(0, |word, &code| word << 8 | u32::from(code.cast_unsigned()));
    codes.chunks(channels.max(1)).flat_map(|place| place.chunks(4).map(word)).collect()
}

/// The codes in such words.
pub(crate) fn unpacked(packed: &[u32], channels: usize) -> Vec<i8> {
    let place = |place: &[u32]| -> Vec<i8> {
        place.iter().flat_map(|word| word.to_le_bytes()).take(channels).map(u8::cast_signed).collect()
    };
    packed.chunks(words(channels).max(1)).flat_map(place).collect()
}

/// One kernel of each permutation.
pub(super) fn catalogue() -> Vec<Kernel> {
    [
        add::catalogue(),
        conv::catalogue(),
        copy::catalogue(),
        depthwise::catalogue(),
        grouped::catalogue(),
        pool::catalogue(),
        softmax::catalogue(),
        table::catalogue(),
    ]
    .concat()
}
