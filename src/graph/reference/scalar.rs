//! The numbers that a network can be evaluated on: plain `f64`, and `f64` with a rigorous error bound.

use crate::graph::bounded::Bounded;

/// What the operators need of a number.
pub(in crate::graph) trait Scalar: Copy {
    const ZERO: Self;
    fn exact(x: f64) -> Self;
    /// The number as computed.
    fn value(self) -> f64;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn relu(self) -> Self;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn sigmoid(self) -> Self;
    fn tanh(self) -> Self;
    /// `x`, or `alpha x` where x is negative.
    fn leaky(self, alpha: Self) -> Self;
    /// A real number, of which this is the nearest `f64`.
    fn nearest(x: f64) -> Self;
    /// The number, if it is known exactly.
    fn known(self) -> Option<f64>;
    /// Exactly zero, so that its products may be left out.
    fn is_zero(self) -> bool;
    fn is_finite(self) -> bool;
}

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    fn exact(x: f64) -> Self {
        x
    }
    fn value(self) -> f64 {
        self
    }
    fn add(self, other: Self) -> Self {
        self + other
    }
    fn sub(self, other: Self) -> Self {
        self - other
    }
    fn mul(self, other: Self) -> Self {
        self * other
    }
    fn div(self, other: Self) -> Self {
        self / other
    }
    fn max(self, other: Self) -> Self {
        if self < other { other } else { self }
    }
    fn relu(self) -> Self {
        // Not `max`, which would hide a NaN.
        if self < 0.0 { 0.0 } else { self }
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn sigmoid(self) -> Self {
        // From exp(-|x|), which cannot overflow.
        let small = (-self.abs()).exp();
        if self < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) }
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    fn leaky(self, alpha: Self) -> Self {
        if self < 0.0 { alpha * self } else { self }
    }
    fn nearest(x: f64) -> Self {
        x
    }
    fn known(self) -> Option<f64> {
        Some(self)
    }
    fn is_zero(self) -> bool {
        self == 0.0
    }
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
}

impl Scalar for Bounded {
    const ZERO: Self = Self::ZERO;
    fn exact(x: f64) -> Self {
        Self::exact(x)
    }
    fn value(self) -> f64 {
        self.value
    }
    fn add(self, other: Self) -> Self {
        Self::add(self, other)
    }
    fn sub(self, other: Self) -> Self {
        Self::sub(self, other)
    }
    fn mul(self, other: Self) -> Self {
        Self::mul(self, other)
    }
    fn div(self, other: Self) -> Self {
        Self::div(self, other)
    }
    fn max(self, other: Self) -> Self {
        Self::max(self, other)
    }
    fn relu(self) -> Self {
        Self::relu(self)
    }
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }
    fn exp(self) -> Self {
        Self::exp(self)
    }
    fn sigmoid(self) -> Self {
        Self::sigmoid(self)
    }
    fn tanh(self) -> Self {
        Self::tanh(self)
    }
    fn leaky(self, alpha: Self) -> Self {
        Self::leaky(self, alpha)
    }
    fn nearest(x: f64) -> Self {
        Self::nearest(x)
    }
    fn known(self) -> Option<f64> {
        (self.error == 0.0).then_some(self.value)
    }
    fn is_zero(self) -> bool {
        self.is_exact_zero()
    }
    fn is_finite(self) -> bool {
        Self::is_finite(self)
    }
}
