//! Numbers as unevaluated sums of two f64, good to about 2^-104 (T. J. Dekker, 1971): what f64 is compared with.

/// `self.0 + self.1`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Double(pub(super) f64, pub(super) f64);

impl Double {
    fn sum(a: f64, b: f64) -> Self {
        let s = a + b;
        let t = s - a;
        Self(s, (a - (s - t)) + (b - t))
    }

    pub(super) fn plus(self, b: f64) -> Self {
        let s = Self::sum(self.0, b);
        Self::sum(s.0, s.1 + self.1)
    }

    pub(super) fn times(self, b: f64) -> Self {
        let p = self.0 * b;
        Self::sum(p, self.0.mul_add(b, -p) + self.1 * b)
    }

    fn squared(self) -> Self {
        let p = self.0 * self.0;
        Self::sum(p, self.0.mul_add(self.0, -p) + 2.0 * self.0 * self.1)
    }

    /// `1 / self`, by one step of Newton's iteration.
    fn inverse(self) -> Self {
        let q = 1.0 / self.0;
        let rest = self.times(-q).plus(1.0);
        Self::sum(q, (rest.0 + rest.1) * q)
    }

    pub(super) fn relu(self) -> Self {
        if self.0 > 0.0 { self } else { Self(0.0, 0.0) }
    }

    /// `self - other` to nearest.
    pub(super) fn minus(self, other: Self) -> f64 {
        let s = Self::sum(self.0, -other.0);
        s.0 + (s.1 + (self.1 - other.1))
    }

    /// `exp(x)` for |x| <= 700: Taylor's series of `exp(x / 2^20)`, squared twenty times.
    fn exp(x: f64) -> Self {
        let small = x * 2f64.powi(-20);
        let mut sum = Self(1.0, 0.0);
        // Horner's scheme; the next term would be below 2^-130.
        for n in (1..=12).rev() {
            let scaled = sum.times(small);
            let quotient = scaled.0 / f64::from(n);
            let rest = (-quotient).mul_add(f64::from(n), scaled.0) + scaled.1;
            sum = Self::sum(quotient, rest / f64::from(n)).plus(1.0);
        }
        (0..20).fold(sum, |power, _| power.squared())
    }

    /// `1 / (1 + exp(-x))` for |x| <= 700, with a relative error below 2^-75.
    pub(super) fn logistic(x: f64) -> Self {
        Self::exp(-x).plus(1.0).inverse()
    }
}

#[test]
fn known_values_are_met() {
    // e = 2.718281828459045235360287471352662498 (OEIS A001113), as f64 and the rest.
    let e = Double::exp(1.0);
    let known = Double(std::f64::consts::E, 1.445_646_891_729_250_2e-16);
    assert!(e.minus(known).abs() < 1e-24, "{:e}", e.minus(known));
    let one = Double::exp(-3.5).plus(0.0);
    let product = Double::exp(3.5).times(one.0).0 + Double::exp(3.5).0 * one.1;
    assert!((product - 1.0).abs() < 1e-15);
    // S(x) + S(-x) = 1.
    for x in [1e-9, 0.3, 2.0, 31.0] {
        let s = Double::logistic(-x);
        assert!(Double::logistic(x).plus(s.0).plus(s.1).plus(-1.0).0.abs() < 1e-22, "{x}");
    }
}
