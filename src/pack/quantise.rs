//! From numbers of `f32` to stored values, and back.
//!
//! **Whole numbers** are those of ONNX's QuantizeLinear, in `f32`: `clamp(round(x / scale) + zero point)`, ties to even.
//! Weights are symmetric: zero point 0, codes -7 to 7, -127 to 127 or -32767 to 32767, `scale = max |w| / 7` (127, 32767), rounded once
//! to `f32`. Activations of 8 bits are affine over a range that has 0 in it: `scale = (high - low) / 255`,
//! `zero point = clamp(round(-128 - low / scale))`, codes -128 to 127; those of 16 bits are symmetric, as in TFLite's 16x8 networks.
//! Where a scale would be 0 (zeros alone, or nothing else that `f32` tells from 0), it is 0 and so is every value.
//!
//! **What is stored** of activations is `(code - zero point) modulo 256`, a bijection that makes the number 0 a stored 0: unsigned if the
//! zero point is the smallest code (a map behind a ReLU), else two's complement. Hence `int8` and `uint8` store the same.
//!
//! **fp16 and bf16** round to nearest, ties to even; a number that becomes infinite is an error.

use half::{bf16, f16};

use super::values::{Element, Granularity, Kind, Values};
use crate::error::{Error, Result};

mod calibrate;
mod storage;
#[cfg(test)]
mod tests;

pub use calibrate::{Calibration, Calibrator};
pub use storage::Storage;

/// Which axis of weights `[filter, ky, kx, channel]` an output channel is an element of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// The first.
    First,
    /// The last: depthwise weights are one filter of all channels.
    Last,
}

/// Stored values, and what it takes to have numbers back.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised {
    /// What is stored.
    pub values: Values,
    /// A scale for each part: the tensor, each output channel, or each group in the order of values. Empty for fp16 and bf16.
    pub scales: Vec<f32>,
    /// The code of the number 0, from -128 to 127; 0 but for activations of 8 bits.
    pub zero_point: i32,
    parts: Parts,
}

/// How an activation map becomes whole numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// The number that a step of codes stands for.
    pub scale: f32,
    /// The code of the number 0.
    pub zero_point: i32,
}

/// The part of a tensor that a value belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Parts {
    One,
    /// So many consecutive values each.
    Runs(usize),
    /// Value i belongs to part i modulo so many.
    Columns(usize),
    /// Runs of `size` within rows of `row` values.
    Groups {
        row: usize,
        size: usize,
    },
}

impl Parts {
    fn of(self, i: usize) -> usize {
        match self {
            Self::One => 0,
            Self::Runs(length) => i / length,
            Self::Columns(columns) => i % columns,
            Self::Groups { row, size } => i / row * row.div_ceil(size) + i % row / size,
        }
    }
}

impl Affine {
    /// Of a range of numbers, for values of 8 or 16 bits.
    pub fn new(element: Element, low: f32, high: f32) -> Self {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        if element == Element::I16 {
            return Self { scale: (high.max(-low) / 32767.0) as f32, zero_point: 0 };
        }
        let scale = ((high - low) / 255.0) as f32;
        if scale == 0.0 {
            return Self { scale, zero_point: -128 };
        }
        let zero = (-128.0 - low / f64::from(scale)).round_ties_even();
        Self { scale, zero_point: zero.clamp(-128.0, 127.0) as i32 }
    }

    /// The code of a number, within a range of codes.
    fn code(self, x: f32, [least, most]: [i32; 2]) -> i32 {
        let steps = if self.scale == 0.0 { 0 } else { (x / self.scale).round_ties_even() as i32 };
        steps.saturating_add(self.zero_point).clamp(least, most)
    }
}

/// Quantises weights `[filter, ky, kx, channel]`.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`], naming the tensor: NaN and infinity with their place, a length that contradicts the shape, numbers
/// that fp16 or bf16 cannot hold, and unsigned storage.
pub fn weights(
    name: &str,
    shape: [usize; 4],
    numbers: &[f32],
    filters: Filters,
    storage: &Storage,
) -> Result<Quantised> {
    check(name, &shape, numbers)?;
    if storage.element.is_float() {
        return floats(name, Kind::Weights, &shape, numbers, storage.element);
    }
    let limit = match storage.element {
        Element::I4 => 7,
        Element::I16 => 32767,
        Element::I8 => 127,
        other => {
            return Err(Error::bad_input(format!("weights '{name}' cannot be stored as {}", other.name()))
                .with_help("weights are symmetric round 0: use i4, i8 or i16"));
        }
    };
    let row = shape[1..].iter().product::<usize>().max(1);
    let parts = match (storage.granularity, filters) {
        (Granularity::Group(0), _) => return Err(Error::bad_input("a group of 0 values")),
        (Granularity::Tensor | Granularity::Unknown, _) => Parts::One,
        (Granularity::Channel, Filters::First) => Parts::Runs(row),
        (Granularity::Channel, Filters::Last) => Parts::Columns(shape[3].max(1)),
        (Granularity::Group(size), _) => Parts::Groups { row, size },
    };
    let scales = scales(numbers, parts, limit);
    let codes = numbers.iter().enumerate().map(|(i, &x)| {
        let affine = Affine { scale: scales[parts.of(i)], zero_point: 0 };
        affine.code(x, [-limit, limit])
    });
    let granularity = match storage.granularity {
        Granularity::Unknown => Granularity::Tensor,
        known => known,
    };
    let values = stored(name, Kind::Weights, storage.element, &shape, codes)?.quantised(granularity);
    Ok(Quantised { values, scales, zero_point: 0, parts })
}

/// The largest magnitude of each part over a number of steps.
fn scales(numbers: &[f32], parts: Parts, steps: i32) -> Vec<f32> {
    let count = numbers.len().checked_sub(1).map_or(1, |last| match parts {
        Parts::Columns(columns) => columns.min(last + 1),
        _ => parts.of(last) + 1,
    });
    let mut largest = vec![0.0_f32; count];
    for (i, &x) in numbers.iter().enumerate() {
        let part = &mut largest[parts.of(i)];
        *part = part.max(x.abs());
    }
    largest.into_iter().map(|m| (f64::from(m) / f64::from(steps)) as f32).collect()
}

/// Quantises a map `[y, x, channel]`: as `affine` says, or to fp16 or bf16.
///
/// # Errors
/// As [`weights`]; signed values of 4 bits are refused.
pub fn activations(
    name: &str,
    shape: [usize; 3],
    numbers: &[f32],
    element: Element,
    affine: Affine,
) -> Result<Quantised> {
    check(name, &shape, numbers)?;
    if element.is_float() {
        return floats(name, Kind::Activations, &shape, numbers, element);
    }
    let (values, zero_point) = match element {
        Element::I16 => {
            let codes = numbers.iter().map(|&x| affine.code(x, [-32767, 32767]));
            (stored(name, Kind::Activations, element, &shape, codes)?, 0)
        }
        Element::I8 | Element::U8 => {
            let unsigned = affine.zero_point == -128;
            let element = if unsigned { Element::U8 } else { Element::I8 };
            let codes = numbers.iter().map(|&x| affine.code(x, [-128, 127]) - affine.zero_point);
            (stored(name, Kind::Activations, element, &shape, codes)?, affine.zero_point)
        }
        other => {
            return Err(Error::bad_input(format!("activations '{name}' cannot be stored as {}", other.name()))
                .with_help("use u8, i8, i16, f16 or bf16"));
        }
    };
    let values = values.quantised(Granularity::Tensor);
    Ok(Quantised { values, scales: vec![affine.scale], zero_point, parts: Parts::One })
}

impl Quantised {
    /// The numbers that the values stand for, in `f32`.
    pub fn numbers(&self) -> Vec<f32> {
        let number = |i: usize| {
            let code = self.values.code(i);
            match self.values.element() {
                Element::F16 => f16::from_bits(code).to_f32(),
                Element::Bf16 => bf16::from_bits(code).to_f32(),
                _ => self.steps(i) as f32 * self.scales[self.parts.of(i)],
            }
        };
        (0..self.values.len()).map(number).collect()
    }

    /// The code of a value, less the zero point: what is stored, before it was taken modulo 256.
    fn steps(&self, i: usize) -> i32 {
        let stored = self.values.integer(i);
        match stored + self.zero_point {
            _ if self.zero_point == 0 => stored,
            code if code > 127 => stored - 256,
            code if code < -128 => stored + 256,
            _ => stored,
        }
    }
}

/// Codes in their container, modulo its range.
pub(super) fn stored(
    name: &str,
    kind: Kind,
    element: Element,
    shape: &[usize],
    codes: impl Iterator<Item = i32>,
) -> Result<Values> {
    match element.bits() {
        4 => {
            let bytes = codes.map(|c| ((c << 28) >> 28).to_le_bytes()[0]).collect();
            Values::from_bytes(name, kind, element, shape, bytes)
        }
        8 => Values::from_bytes(name, kind, element, shape, codes.map(|c| c.to_le_bytes()[0]).collect()),
        _ => {
            let half = |c: i32| u16::from_le_bytes([c.to_le_bytes()[0], c.to_le_bytes()[1]]);
            Values::from_halves(name, kind, element, shape, codes.map(half).collect())
        }
    }
}

/// Refuses numbers that are none, and a length that contradicts the shape.
fn check(name: &str, shape: &[usize], numbers: &[f32]) -> Result<()> {
    if shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n)) != Some(numbers.len()) {
        let len = numbers.len();
        return Err(Error::bad_input(format!("tensor '{name}' of shape {shape:?} has {len} numbers")));
    }
    let Some(at) = numbers.iter().position(|x| !x.is_finite()) else { return Ok(()) };
    let what = if numbers[at].is_nan() { "NaN" } else { "an infinity" };
    Err(Error::bad_input(format!("tensor '{name}' holds {what} at value {at} of shape {shape:?}"))
        .with_help("there is no code for it: check the checkpoint, or the samples that were given"))
}

fn floats(name: &str, kind: Kind, shape: &[usize], numbers: &[f32], element: Element) -> Result<Quantised> {
    let half = |x: f32| match element {
        Element::F16 => (f16::from_f32(x).to_bits(), f16::from_f32(x).is_finite()),
        _ => (bf16::from_f32(x).to_bits(), bf16::from_f32(x).is_finite()),
    };
    if let Some(at) = numbers.iter().position(|&x| !half(x).1) {
        let (x, element) = (numbers[at], element.name());
        return Err(Error::bad_input(format!(
            "tensor '{name}' holds {x:e} at value {at}, which {element} has no room for"
        ))
        .with_help(if element == "f16" {
            "use bf16, which reaches as far as f32"
        } else {
            "scale the network"
        }));
    }
    let halves = numbers.iter().map(|&x| half(x).0).collect();
    let values = Values::from_halves(name, kind, element, shape, halves)?;
    Ok(Quantised { values, scales: vec![], zero_point: 0, parts: Parts::One })
}
