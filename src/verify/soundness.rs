//! How far computed bounds are from true ones: the constants that the kernels charge for rounding.
//!
//! The model is WGSL's own promise (docs/soundness.md): every f32 operation returns one of the two neighbours of the exact
//! result (unit roundoff u = 2^-23), sums may be taken in any order inside one dispatch, subnormals may be flushed.

/// What a bound accounts for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Soundness {
    /// Rounding of every operation, in either direction and any order that WGSL allows: a bound is a bound of the real network.
    #[default]
    Strict,
    /// Nothing: f32 results are taken as exact. A claim may be wrong by rounding; reports are stamped with it.
    TrustF32,
}

impl Soundness {
    /// The name in reports and proofs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::TrustF32 => "trust-f32",
        }
    }
}

/// Largest magnitude of bounds and coefficients that kernels accept (lib/float.wgsl, `is_huge`).
pub(super) const HUGE: f64 = (1_u64 << 40) as f64;

/// The unit roundoff of WGSL: either neighbour.
const UNIT: f64 = 1.0 / (1_u64 << 23) as f64;

/// Rounding constants for one network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounding {
    /// Unit roundoff, 0 when rounding is not charged.
    pub u: f32,
    /// What flushed subnormals may add to any one charged sum.
    pub tiny: f32,
}

impl Rounding {
    /// The constants for a network: flushing costs at most 2^-126 (1 + |other factor|) an operation. Coefficients and bounds
    /// are below 2^40, there are at most `terms` products in a layer, and weights are at most `largest`.
    pub fn new(soundness: Soundness, terms: f64, largest: f64) -> Self {
        if soundness == Soundness::TrustF32 {
            return Self { u: 0.0, tiny: 0.0 };
        }
        let tiny = 8.0 * terms * (1.0 + largest) * HUGE * 2.0_f64.powi(-126);
        Self { u: round_up(UNIT), tiny: round_up(tiny) }
    }

    /// gamma of a chain of `depth` roundings: D u / (1 - D u), rounded up.
    pub fn gamma(&self, depth: usize) -> f32 {
        let du = depth as f64 * f64::from(self.u);
        if du == 0.0 { 0.0 } else { round_up(du / (1.0 - du)) }
    }

    /// The factor that makes a computed sum of non-negative terms of this depth an upper bound.
    pub fn grow(&self, depth: usize) -> f32 {
        round_up(1.0 + 2.0 * depth as f64 * f64::from(self.u))
    }
}

/// The smallest f32 at or above a finite value.
pub(super) fn round_up(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) < value { nearest.next_up() } else { nearest }
}

/// The largest f32 at or below a finite value.
pub(super) fn round_down(value: f64) -> f32 {
    -round_up(-value)
}

#[cfg(test)]
mod tests {
    use super::{Rounding, round_down, round_up};

    #[test]
    fn rounding_goes_outward() {
        for value in [0.1, -0.1, 1.0, 1e-45, 3.3e38, 0.0, -7.25] {
            assert!(f64::from(round_up(value)) >= value, "{value} up");
            assert!(f64::from(round_down(value)) <= value, "{value} down");
        }
        assert_eq!((round_up(0.5), round_down(0.5)), (0.5, 0.5), "exact values stay");
    }

    #[test]
    fn gamma_is_at_least_its_formula() {
        let rounding = Rounding { u: 2.0_f32.powi(-23), tiny: 0.0 };
        for depth in [1_usize, 64, 784, 4608] {
            let exact = depth as f64 * 2.0_f64.powi(-23);
            assert!(f64::from(rounding.gamma(depth)) >= exact / (1.0 - exact), "depth {depth}");
        }
        assert_eq!(Rounding { u: 0.0, tiny: 0.0 }.gamma(100), 0.0, "trusted arithmetic costs nothing");
    }
}
