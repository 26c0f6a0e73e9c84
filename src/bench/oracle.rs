//! What answers are checked against before anything is timed: numbers that repeat, and f64 oracles for sampled elements.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::Tensor;

/// The unit roundoff that WGSL promises: either neighbour.
pub(super) const U: f64 = 1.0 / (1_u64 << 23) as f64;
/// Bits that no kernel of ours writes: a NaN.
const POISON: u32 = 0x7fc0_dead;

/// SplitMix64: the numbers of every entry follow from its seed alone.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Below `n`, for n > 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Uniform in [-1, 1), with 24 random bits each.
    pub fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.bits() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0).collect()
    }
}

/// An array full of NaN, so that an element that no kernel wrote is a wrong one.
pub(super) fn poisoned(gpu: &Gpu, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(gpu, shape, &vec![f32::from_bits(POISON); shape.iter().product()])
}

/// [`poisoned`] for words.
pub(super) fn poisoned_words(gpu: &Gpu, shape: &[usize]) -> Result<Tensor<u32>> {
    Tensor::from_slice(gpu, shape, &vec![POISON; shape.iter().product()])
}

/// An error unless `value` is within `tolerance` of `expected`; a NaN never is.
pub(super) fn near(what: &str, value: f64, expected: f64, tolerance: f64) -> Result<()> {
    if (value - expected).abs() <= tolerance {
        return Ok(());
    }
    Err(wrong(format!("{what} is {value:e}, f64 says {expected:e} (tolerance {tolerance:.1e})")))
}

/// A check that failed.
pub(super) fn wrong(message: String) -> Error {
    Error::internal(format!("wrong answer: {message}"))
}

/// Bound on the error of a sum of `depth` roundings on any term, relative to the sum of magnitudes.
pub(super) fn gamma(depth: usize) -> f64 {
    depth as f64 * U / (1.0 - depth as f64 * U)
}

#[cfg(test)]
mod tests {
    use super::{Random, near};

    #[test]
    fn nan_is_never_near() {
        assert!(near("x", f64::NAN, 0.0, 1.0).is_err());
        assert!(near("x", 1.0, f64::NAN, 1.0).is_err());
        assert!(near("x", 1.0, 1.5, 0.5).is_ok());
        assert!(near("x", 1.0, 1.5, 0.49).is_err());
    }

    #[test]
    fn random_numbers_stay_in_range_and_repeat() {
        let values = Random::new(7).values(1000);
        assert_eq!(values, Random::new(7).values(1000));
        assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
        let mean = values.iter().sum::<f32>() / 1000.0;
        assert!(mean.abs() < 0.1, "mean {mean}");
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(3) < 3));
        let square = (0..4000).map(|_| random.normal().powi(2)).sum::<f64>() / 4000.0;
        assert!((square - 1.0).abs() < 0.1, "variance {square}");
    }
}
