//! Quantised constants: from codes, scales and zero points to the numbers that they stand for and to the values that are stored.

use super::tensor::{Constant, Data};
use crate::error::{Error, Result};
use crate::pack::values::{Element, Granularity};

/// A constant, as numbers and as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Both {
    pub(super) dims: Vec<usize>,
    pub(super) numbers: Vec<f32>,
    /// Codes less their zero point, modulo the container; bit patterns of fp16 and bf16. None for what is stored in `f32`.
    pub(super) stored: Option<(Vec<f32>, Element, Granularity)>,
}

/// How codes lie beside their scales.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// The axis along which scales differ.
    pub(super) axis: i64,
    /// Codes of a block that shares a scale along the axis; 0 if each index has its own.
    pub(super) block: usize,
}

impl Both {
    /// Of a constant in floating point.
    pub(super) fn plain(constant: &Constant) -> Option<Self> {
        let numbers = constant.numbers()?;
        let stored = match &constant.data {
            Data::Halves(element, bits) => {
                Some((bits.iter().map(|&b| f32::from(b)).collect(), *element, Granularity::Unknown))
            }
            _ => None,
        };
        Some(Self { dims: constant.dims.clone(), numbers, stored })
    }

    /// `(code - zero point) * scale`, computed in `f32` as ONNX's DequantizeLinear is.
    pub(super) fn dequantised(
        name: &str,
        codes: &Constant,
        scales: &[f32],
        zeros: Option<&Constant>,
        layout: Layout,
    ) -> Result<Self> {
        let bad = |why: String| Error::bad_input(format!("quantised tensor '{name}': {why}"));
        let Data::Whole { bits, signed, values } = &codes.data else {
            return Err(bad("its codes are no whole numbers".to_owned()));
        };
        let of = Parts::new(&codes.dims, scales.len(), layout).ok_or_else(|| {
            bad(format!("{} scales do not fit shape {:?} along axis {}", scales.len(), codes.dims, layout.axis))
        })?;
        let zeros = match zeros.map(|zeros| &zeros.data) {
            None => vec![0],
            Some(Data::Whole { values, .. }) if [1, scales.len()].contains(&values.len()) => values.clone(),
            Some(_) => return Err(bad("its zero points do not fit its scales".to_owned())),
        };
        let zero = |i: usize| if zeros.len() == 1 { zeros[0] } else { zeros[of.part(i)] };
        let steps: Vec<i32> = values.iter().enumerate().map(|(i, code)| code.wrapping_sub(zero(i))).collect();
        let numbers = steps.iter().enumerate().map(|(i, &step)| step as f32 * scales[of.part(i)]).collect();
        let least = if *signed { -(1_i64 << (bits - 1)) } else { 0 };
        let element = match bits {
            4 => Some(Element::I4),
            8 if zeros.iter().all(|&zero| i64::from(zero) == least) => Some(Element::U8),
            8 => Some(Element::I8),
            16 => Some(Element::I16),
            _ => None,
        };
        let granularity = match (scales.len(), layout.block) {
            (1, _) => Granularity::Tensor,
            (_, 0) => Granularity::Channel,
            (_, block) => Granularity::Group(block),
        };
        let wrapped = |element: Element| {
            let shift = 32 - element.bits();
            let value = |&step: &i32| match element {
                Element::U8 => (step & 0xff) as f32,
                _ => ((step << shift) >> shift) as f32,
            };
            (steps.iter().map(value).collect(), element, granularity)
        };
        Ok(Self { dims: codes.dims.clone(), numbers, stored: element.map(wrapped) })
    }
}

/// The codes of numbers, as ONNX's QuantizeLinear makes them: `clamp(round(x / scale) + zero point)`, ties to even.
pub(super) fn rounded(
    name: &str,
    dims: &[usize],
    numbers: &[f32],
    scales: &[f32],
    zeros: Option<&Constant>,
    layout: Layout,
) -> Result<Constant> {
    let (bits, signed, zeros) = match zeros.map(|zeros| &zeros.data) {
        Some(Data::Whole { bits, signed, values }) if *bits <= 16 => (*bits, *signed, values.clone()),
        _ => (8, false, vec![0]),
    };
    let parts = Parts::new(dims, scales.len(), layout).filter(|_| [1, scales.len()].contains(&zeros.len()));
    let Some(of) = parts else {
        return Err(Error::bad_input(format!("{} scales do not fit tensor '{name}' of shape {dims:?}", scales.len())));
    };
    let half = 1_i32 << (bits - 1);
    let [least, most] = if signed { [-half, half - 1] } else { [0, 2 * half - 1] };
    let code = |(i, &x): (usize, &f32)| {
        let part = of.part(i);
        let zero = zeros[if zeros.len() == 1 { 0 } else { part }];
        let steps = (x / scales[part]).round_ties_even() as i32;
        steps.saturating_add(zero).clamp(least, most)
    };
    let values = numbers.iter().enumerate().map(code).collect();
    Ok(Constant { dims: dims.to_vec(), data: Data::Whole { bits, signed, values } })
}

/// Which scale a code has.
struct Parts {
    /// Codes behind one index of the axis, indices of the axis, codes of a block, blocks of the axis.
    inner: usize,
    length: usize,
    block: usize,
    blocks: usize,
    one: bool,
}

impl Parts {
    fn new(dims: &[usize], scales: usize, layout: Layout) -> Option<Self> {
        if scales == 1 {
            return Some(Self { inner: 1, length: 1, block: 1, blocks: 1, one: true });
        }
        let rank = i64::try_from(dims.len()).ok()?;
        let axis = usize::try_from(if layout.axis < 0 { layout.axis + rank } else { layout.axis }).ok()?;
        let length = *dims.get(axis)?;
        let inner = dims[axis + 1..].iter().product();
        let (block, outer) = match layout.block {
            0 => (1, 1),
            block => (block, dims[..axis].iter().product()),
        };
        let blocks = length.div_ceil(block);
        let wanted = if layout.block == 0 { length } else { outer * blocks * inner };
        let blocks = if layout.block == 0 { 0 } else { blocks };
        (wanted == scales && length > 0 && inner > 0).then_some(Self { inner, length, block, blocks, one: false })
    }

    fn part(&self, i: usize) -> usize {
        if self.one {
            return 0;
        }
        let at = i / self.inner % self.length;
        if self.blocks == 0 {
            return at;
        }
        let outer = i / self.inner / self.length;
        (outer * self.blocks + at / self.block) * self.inner + i % self.inner
    }
}
