//! The steps of a [`Network`](super::Network).

use std::sync::Arc;

use super::Multiplier;
use crate::pack::{Granularity, Shape};

/// One tensor computed from others.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) kind: StepKind,
    /// The tensor that is written.
    pub(crate) output: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum StepKind {
    Product(Box<Product>),
    Binary(Box<Binary>),
    Pool(Pool),
    /// A code for each code -128..=127.
    Table {
        input: usize,
        codes: Box<[i8; 256]>,
    },
    /// exp(-d s) for differences d of codes, see [`super::softmax_exponentials`].
    Softmax {
        input: usize,
        exponentials: Box<[i32; 256]>,
    },
    /// The same codes in the same order.
    Reshape {
        input: usize,
    },
    /// Tensors put into one that is `fill` elsewhere; each with the place of its first code.
    Join {
        parts: Vec<(usize, [usize; 3])>,
        fill: i8,
    },
}

/// Smallest and largest code that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) low: i32,
    pub(crate) high: i32,
}

impl Bounds {
    pub(crate) const ALL: Self = Self { low: -128, high: 127 };

    pub(crate) fn cut(self, code: i64) -> i8 {
        code.clamp(self.low.into(), self.high.into()) as i8
    }
}

/// A convolution or product with weights.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    pub(crate) kind: ProductKind,
    pub(crate) input: usize,
    /// As an accelerator sees it; its padding is what the kernels leave out.
    pub(crate) shape: Shape,
    /// The filter that runs over the input's map; equal to that of `shape` but for dense layers on a whole map.
    pub(crate) window: Window,
    /// `[filter, ky, kx, channel]`; depthwise `[ky, kx, filter]`.
    pub(crate) weights: Arc<[i8]>,
    pub(crate) weights_name: String,
    pub(crate) granularity: Granularity,
    /// One a filter.
    pub(crate) bias: Option<Arc<[i32]>>,
    pub(crate) rescale: Rescale,
    pub(crate) bounds: Bounds,
}

/// How weights lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProductKind {
    /// Every filter sees its group's channels.
    Conv,
    /// Filter f sees channel f / multiplier.
    Depthwise,
}

/// A window that slides over a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) filter: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Above and on the left.
    pub(crate) padding: [usize; 2],
}

/// From sums to codes.
#[derive(Debug, Clone)]
pub(crate) enum Rescale {
    /// Fixed point, one for each filter.
    Fixed(Vec<Multiplier>),
    /// f64, one for each filter or one for all.
    Real(Vec<f64>),
}

/// What two tensors are joined by, element by element.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub(crate) kind: BinaryKind,
    pub(crate) operands: [Operand; 2],
    pub(crate) zero_points: [i32; 2],
    /// Of the sum or product.
    pub(crate) rescale: Multiplier,
    pub(crate) bounds: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryKind {
    /// With a factor for each operand, after a shift to the left by 20.
    Add([Multiplier; 2]),
    Multiply,
}

/// A tensor that is computed, or stored numbers that all samples share; spread over the places if it has one.
#[derive(Debug, Clone)]
pub(crate) enum Operand {
    Tensor(usize),
    Constant(Constant),
}

#[derive(Debug, Clone)]
pub(crate) struct Constant {
    /// `[places, channels]`, with one place or all, and all channels.
    pub(crate) codes: Arc<[i8]>,
}

/// A window's summary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool {
    pub(crate) kind: PoolKind,
    pub(crate) input: usize,
    pub(crate) window: Window,
    pub(crate) bounds: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    /// To nearest, halves away from zero, of what lies inside the map.
    Average,
    /// The sum of code - zero point, rescaled: the mean of the whole map.
    Mean(Multiplier),
}
