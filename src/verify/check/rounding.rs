//! How far f64 arithmetic may be from exact arithmetic, and sums whose error is known.
//!
//! Every operation is `fl(a op b) = (a op b)(1 + d) + t` with |d| <= u = 2^-53 and, for a product or a fused
//! multiply-add, |t| <= 2^-1074 (underflow). A sum of K products, in any order and with or without fusing, is then
//! wrong by at most `gamma_K * sum |a_i b_i| + 2K * 2^-1074` with `gamma_K = K u / (1 - K u)` (N. Higham, *Accuracy
//! and Stability of Numerical Algorithms*, 2nd ed., section 3.1). K counts roundings on the longest path, so terms
//! that are added later count as well.

use crate::error::{Error, Result};
use std::hint::black_box;

/// The unit roundoff, the largest error of an underflow, and that of the platform's exponential function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounding {
    unit: f64,
    tiny: f64,
    exp: f64,
}

impl Rounding {
    /// IEEE 754 binary64, rounding to nearest, with an exponential function that errs by at most 8 ulp of its result (2^-49,
    /// relative). Of the mathematical libraries in use (glibc, musl, Apple's, Microsoft's) none is known to err by more than 1.
    pub(super) const IEEE: Self = Self { unit: f64::EPSILON / 2.0, tiny: f64::from_bits(1), exp: 8.0 * f64::EPSILON };

    /// Pretends that f64 is exact, for tests that show what the error terms are for.
    #[cfg(test)]
    pub(super) const IGNORED: Self = Self { unit: 0.0, tiny: 0.0, exp: 0.0 };

    /// [`Self::IEEE`], if the processor is set to it. Some libraries leave a thread in a mode that rounds otherwise or
    /// takes subnormal numbers for 0.
    pub(super) fn of_this_processor() -> Result<Self> {
        let (one, half_ulp) = (black_box(1.0), black_box(f64::EPSILON / 2.0));
        let nearest = one + half_ulp == 1.0 && one + 1.5 * half_ulp == 1.0 + f64::EPSILON;
        let subnormal = black_box(f64::MIN_POSITIVE) * black_box(0.5) > 0.0 && black_box(f64::from_bits(1)) * 2.0 > 0.0;
        if nearest && subnormal {
            return Ok(Self::IEEE);
        }
        Err(Error::internal("this thread's f64 arithmetic does not round to nearest, or flushes subnormal numbers")
            .with_help("check the proof in a process of its own, without other libraries"))
    }

    /// `gamma_K`, rounded up.
    pub(super) fn gamma(self, terms: usize) -> f64 {
        let ku = terms as f64 * self.unit;
        // Exact up to here; the subtraction and the division err by a relative u each, the product by another.
        ku / (1.0 - ku) * (1.0 + 8.0 * self.unit)
    }

    /// Bound on what underflow adds to a sum of `terms` products.
    pub(super) fn underflow(self, terms: usize) -> f64 {
        2.0 * terms as f64 * self.tiny
    }

    /// An upper bound of a sum of `terms` products of non-negative numbers, from its computed value.
    ///
    /// `exact (1 - gamma) - underflow <= computed`, and `1 / (1 - gamma) <= 1 + 2 gamma` for `gamma <= 1/2`; four
    /// more roundings are counted for this expression.
    pub(super) fn at_most(self, computed: f64, terms: usize) -> f64 {
        self.up((computed + self.underflow(terms)) * (1.0 + 2.0 * self.gamma(terms + 4)))
    }

    /// An upper bound of an expression of fewer than eight operations on non-negative numbers.
    pub(super) fn over(self, computed: f64) -> f64 {
        self.up(computed * (1.0 + 16.0 * self.unit))
    }

    /// A lower bound of an expression of fewer than eight operations on non-negative numbers, none of them cancelling.
    pub(super) fn below(self, computed: f64) -> f64 {
        self.down(computed * (1.0 - 16.0 * self.unit))
    }

    /// An enclosure of the logistic function `1 / (1 + exp(-x))` at a number.
    ///
    /// For x <= 0 it is computed as `e / (1 + e)`, else as `1 / (1 + e)`, with `e = exp(-|x|)`: a relative error d of e becomes
    /// one of at most d of the quotient, and two more roundings follow. An e that underflows is wrong by far less than 1e-300.
    pub(super) fn logistic(self, x: f64) -> [f64; 2] {
        let e = (-x.abs()).exp();
        let value = if x <= 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) };
        let error = self.over(value * (self.exp + 4.0 * self.unit)) + if self.exp > 0.0 { 1e-300 } else { 0.0 };
        [self.down(value - error).max(0.0), self.up(value + error).min(1.0)]
    }

    /// Whether this thread's arithmetic is what is counted on: modes of rounding are set for each thread.
    pub(super) fn holds_here(self) -> Result<()> {
        if self.unit > 0.0 { Self::of_this_processor().map(|_| ()) } else { Ok(()) }
    }

    /// A number at least as large as what was rounded to `x` by one operation. Infinities and NaN stay.
    pub(super) fn up(self, x: f64) -> f64 {
        if self.unit > 0.0 && x.is_finite() { x.next_up() } else { x }
    }

    /// A number at most as large as what was rounded to `x` by one operation. Infinities and NaN stay.
    pub(super) fn down(self, x: f64) -> f64 {
        if self.unit > 0.0 && x.is_finite() { x.next_down() } else { x }
    }
}

/// `sum f(a_i, b_i, c_i)` in eight accumulators, so that it runs in vector registers.
pub(super) fn sum(a: &[f64], b: &[f64], c: &[f64], f: impl Fn(f64, f64, f64) -> f64) -> f64 {
    debug_assert!(a.len() == b.len() && b.len() == c.len(), "operands of a sum have one length");
    let ((a, a_rest), (b, b_rest), (c, c_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>(), c.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for lane in 0..8 {
            sums[lane] += f(a[lane], b[lane], c[lane]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).zip(c_rest).map(|((&a, &b), &c)| f(a, b, c)).sum();
    sums.iter().sum::<f64>() + rest
}

/// `sum |a_i| b_i`.
pub(super) fn sum_abs(a: &[f64], b: &[f64]) -> f64 {
    sum(a, b, b, |a, b, _| a.abs() * b)
}

/// The smallest value of `sum a_i x_i` for `x_i` in `[l_i, h_i]`; with `l` and `h` exchanged, the largest.
pub(super) fn sum_least(a: &[f64], l: &[f64], h: &[f64]) -> f64 {
    sum(a, l, h, |a, l, h| a * if a >= 0.0 { l } else { h })
}
