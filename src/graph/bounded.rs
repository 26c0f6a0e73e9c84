//! `f64` numbers that carry a rigorous bound on their own error: running error analysis.
//!
//! Source: N. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, section 3.3. The rounding
//! error of a sum is found exactly by Knuth's two-sum (Handbook of Floating-Point Arithmetic, section 4.3.2), that of
//! a product or a quotient by a fused multiply-add (ibid., section 4.4), so a computation without rounding has
//! the bound 0.
//!
//! Why the bounds hold: each is a sum of a few non-negative terms, evaluated to nearest in `f64`. At most 8
//! roundings lose at most the factor (1 - u)^8, u = 2^-53, which `GROW` = 1 + 16 u gives back (its own rounding
//! included); products that underflow lose at most 2^-1074 each, which `FLOOR` gives back. Overflow shows as a value or
//! bound that is not finite, which every user of this module refuses.

/// Unit roundoff of `f64` to nearest.
const U: f64 = f64::EPSILON / 2.0;
/// Pays for the roundings inside one bound.
pub(super) const GROW: f64 = 1.0 + 16.0 * U;
/// Pays for underflow inside one bound; far above the few times 2^-1074 that it can lose.
const FLOOR: f64 = 1e-290;
/// Where |x| is at least this, the exact error of the operation that made x is a representable number.
const NORMAL: f64 = 1e-275;
/// How far the real number may be from what the platform's `exp` and `tanh` compute, relative to the latter: 4 units in
/// the last place, each at most 2 u of the real number, so 8 u / (1 - 8 u) of the computed one. The libraries in use claim
/// 1 to 2 units; a test below measures.
const LIBRARY: f64 = 9.0 * U;

/// A real number known to be within `error` of `value`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounded {
    /// The number as computed.
    pub(super) value: f64,
    /// Bound on its distance from the real number; 0 if it is exact.
    pub(super) error: f64,
}

impl Bounded {
    pub(super) const ZERO: Self = Self::exact(0.0);
    pub(super) const ONE: Self = Self::exact(1.0);

    /// A number that is what it is.
    pub(super) const fn exact(value: f64) -> Self {
        Self { value, error: 0.0 }
    }

    /// A real number that `value` is the nearest `f64` of.
    pub(super) const fn nearest(value: f64) -> Self {
        Self { value, error: value.abs() * U * GROW }
    }

    fn new(value: f64, inexact: bool, error: f64) -> Self {
        let error = if inexact { error * GROW + FLOOR } else { 0.0 };
        Self { value, error }
    }

    pub(super) fn is_exact_zero(self) -> bool {
        self == Self::ZERO
    }

    pub(super) fn is_finite(self) -> bool {
        self.value.is_finite() && self.error.is_finite()
    }

    pub(super) fn add(self, other: Self) -> Self {
        let (a, b) = (self.value, other.value);
        let sum = a + b;
        let part = sum - a;
        let rounding = ((a - (sum - part)) + (b - part)).abs();
        let error = self.error + other.error + rounding;
        // A NaN (from overflow) must not read as "exact".
        Self::new(sum, error != 0.0, error)
    }

    pub(super) fn neg(self) -> Self {
        Self { value: -self.value, error: self.error }
    }

    pub(super) fn sub(self, other: Self) -> Self {
        self.add(other.neg())
    }

    pub(super) fn mul(self, other: Self) -> Self {
        if self.is_exact_zero() && other.is_finite() || other.is_exact_zero() && self.is_finite() {
            return Self::ZERO;
        }
        let (a, b) = (self.value, other.value);
        let product = a * b;
        let rounding = if a == 0.0 || b == 0.0 {
            0.0
        } else if product.abs() < NORMAL {
            // At most u NORMAL < FLOOR, or half the smallest subnormal number.
            FLOOR
        } else {
            a.mul_add(b, -product).abs()
        };
        if self.error == 0.0 && other.error == 0.0 && rounding == 0.0 {
            return Self::exact(product);
        }
        let carried = a.abs() * other.error + b.abs() * self.error + self.error * other.error;
        Self::new(product, true, carried + rounding)
    }

    /// The quotient; not finite if the divisor may be 0.
    pub(super) fn div(self, other: Self) -> Self {
        let (a, b) = (self.value, other.value);
        let quotient = a / b;
        let rounding = if a == 0.0 {
            0.0
        } else if a.abs() < NORMAL || quotient.abs() < NORMAL {
            2.0 * U * quotient.abs() + FLOOR
        } else {
            (quotient.mul_add(-b, a) / b).abs()
        };
        if self.error == 0.0 && other.error == 0.0 && rounding == 0.0 {
            return Self::exact(quotient);
        }
        // |A/B - a/b| = |(A - a) b - a (B - b)| / |B b| <= (error_a + |a/b| error_b) / |B|.
        let smallest = b.abs() - other.error;
        if smallest <= 0.0 {
            return Self { value: quotient, error: f64::INFINITY };
        }
        if self.is_exact_zero() && quotient == 0.0 {
            return Self::ZERO;
        }
        let carried = (self.error + (quotient.abs() + rounding) * other.error) / smallest;
        Self::new(quotient, true, carried + rounding)
    }

    /// `max(x, 0)`.
    pub(super) fn relu(self) -> Self {
        if self.value > 0.0 || self.value.is_nan() {
            return self;
        }
        // Rounding is monotone, so the computed sum is negative only if the real one is.
        let surely_negative = self.value + self.error < 0.0;
        Self { value: 0.0, error: if surely_negative { 0.0 } else { self.error } }
    }

    /// `x`, or `alpha x` where x is negative, for an exact alpha.
    pub(super) fn leaky(self, alpha: Self) -> Self {
        let here = if self.value < 0.0 { Self::exact(self.value).mul(alpha) } else { Self::exact(self.value) };
        // No slope between the number and the real one is above the larger of both sides'.
        let slope = if self.value + self.error < 0.0 {
            alpha.value.abs()
        } else if self.value - self.error >= 0.0 {
            1.0
        } else {
            alpha.value.abs().max(1.0)
        };
        let error = here.error + slope * self.error;
        Self::new(here.value, error != 0.0, error)
    }

    /// The larger one. Either neighbour may be it as long as they overlap.
    pub(super) fn max(self, other: Self) -> Self {
        let (small, large) = if self.value < other.value { (self, other) } else { (other, self) };
        // Rounding is monotone, so what compares as apart is apart.
        let apart = small.value + small.error < large.value - large.error;
        Self { value: large.value, error: if apart { large.error } else { large.error.max(small.error) } }
    }

    /// The square root; the bound is not finite if the number may be negative, or is too small for an exact residue.
    pub(super) fn sqrt(self) -> Self {
        if self.is_exact_zero() {
            return self;
        }
        let root = self.value.sqrt();
        if self.value < NORMAL || self.error >= self.value {
            return Self { value: root, error: f64::INFINITY };
        }
        // |sqrt A - sqrt a| <= |A - a| / sqrt a; the root as computed, r, is |a - r^2| / (sqrt a + r) from sqrt a.
        let residue = root.mul_add(root, -self.value).abs();
        let error = (self.error + 0.5 * residue) / root;
        // The residue is exact; the factor pays for r in place of sqrt a.
        Self::new(root, error != 0.0, error * (1.0 + 4.0 * U))
    }

    /// `exp(x)`.
    pub(super) fn exp(self) -> Self {
        let value = self.value.exp();
        // exp(x + d) / exp(x) - 1 for |d| <= e: at most e + e^2 for e <= 1, else at most exp(e).
        let spread = if self.error <= 1.0 {
            self.error + self.error * self.error
        } else {
            self.error.exp() * (1.0 + 2.0 * LIBRARY)
        };
        // The real exp of the value itself is within value LIBRARY of `value`, so at most value (1 + LIBRARY).
        Self::new(value, true, value * (LIBRARY + spread * (1.0 + LIBRARY)))
    }

    /// `1 / (1 + exp(-x))`, from `exp(-|x|)`, which cannot overflow.
    pub(super) fn sigmoid(self) -> Self {
        let small = Self::exact(-self.value.abs()).exp();
        let above = if self.value < 0.0 { small } else { Self::ONE };
        let here = above.div(Self::ONE.add(small));
        // The slope here is y (1 - y), at most 1/4; the second derivative is at most 1 / (6 sqrt 3) < 0.1.
        let slope = here.mul(Self::ONE.sub(here));
        let slope = (slope.value + slope.error + 0.1 * self.error).min(0.25);
        Self::new(here.value, true, here.error + slope * self.error)
    }

    /// Hyperbolic tangent.
    pub(super) fn tanh(self) -> Self {
        if self.is_exact_zero() {
            return self;
        }
        let value = self.value.tanh();
        let here = Self::new(value, true, value.abs() * LIBRARY);
        // The slope here is 1 - y^2, at most 1; the second derivative is at most 4 / (3 sqrt 3) < 0.8.
        let slope = Self::ONE.sub(here.mul(here));
        let slope = (slope.value + slope.error + 0.8 * self.error).min(1.0);
        Self::new(value, true, here.error + slope * self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(value: f64) -> Bounded {
        Bounded::exact(value)
    }

    #[test]
    fn operations_without_rounding_stay_exact() {
        assert_eq!(exact(1.5).add(exact(2.25)), exact(3.75));
        assert_eq!(exact(0.1).mul(exact(-4.0)), exact(-0.4));
        assert_eq!(exact(0.3).div(exact(2.0)), exact(0.15));
        assert_eq!(exact(0.3).sub(Bounded::ZERO), exact(0.3));
        assert_eq!(Bounded::ZERO.div(exact(0.3)), Bounded::ZERO);
        let third = exact(1.0).div(exact(3.0));
        assert_eq!([Bounded::ZERO.mul(third), third.mul(Bounded::ZERO), Bounded::ZERO.div(third)], [Bounded::ZERO; 3]);
        assert!(!Bounded::ZERO.mul(exact(f64::INFINITY)).is_finite());
    }

    #[test]
    fn rounding_shows_and_is_about_half_an_ulp() {
        for x in [exact(0.1).add(exact(0.7)), exact(0.1).mul(exact(0.7)), exact(0.1).div(exact(0.7))] {
            assert!(x.error > 0.0 && x.error <= U * x.value * 1.01, "{x:?}");
        }
        assert!(exact(1e-200).mul(exact(1e-200)).error > 0.0);
        assert!(exact(1e-300).div(exact(3.0)).error > 0.0);
    }

    #[test]
    fn overflow_and_division_by_zero_are_not_finite() {
        assert!(!exact(1e300).mul(exact(1e300)).is_finite());
        assert!(!exact(f64::MAX).add(exact(f64::MAX)).is_finite());
        assert!(!exact(1.0).div(exact(0.0)).is_finite());
        assert!(!Bounded::ZERO.div(exact(0.0)).is_finite());
        let around_zero = Bounded { value: 0.1, error: 0.2 };
        assert!(!exact(1.0).div(around_zero).is_finite());
    }

    #[test]
    fn relu_keeps_what_may_be_positive() {
        assert_eq!(Bounded { value: -1.0, error: 0.5 }.relu(), Bounded::ZERO);
        assert_eq!(Bounded { value: -1.0, error: 1.5 }.relu().error, 1.5);
        let up = Bounded { value: 1.0, error: 0.5 };
        assert_eq!(up.relu(), up);
    }

    /// A ratio of small integers: its cross products are exact in `i128`, so claims about it can be checked exactly.
    fn ratio() -> impl Strategy<Value = (i64, i64)> {
        (-1_000_000i64..1_000_000, 1i64..1_000_000)
    }

    /// Whether `x` encloses `p / q`, decided with integers scaled by 2^60.
    fn encloses(x: Bounded, p: i128, q: i128) -> bool {
        let scale = |v: f64| (v * 2f64.powi(60)) as i128;
        // |value - p/q| <= error  <=>  |value q - p| <= error q; a unit of 2^-60 pays for the conversion.
        let distance = (scale(x.value) * q - p * (1i128 << 60)).abs();
        distance <= (scale(x.error) + 2) * q
    }

    /// ln 2 in units of 2^-100 (its decimals are 0.69314718055994530941723212145817656807...).
    const LN_2: i128 = 0xb17217f7d1cf79abc9e3b3980;
    /// 1 in units of 2^-60, which the exact exponential below has.
    const UNIT: i128 = 1 << 60;

    /// (m, n) with exp(x) = m 2^(n - 60), m within 64 of right: reduction by ln 2, then Taylor's series, in integers.
    fn exact_exp(x: f64) -> (i128, i32) {
        // |x| < 2^10, so x 2^100 fits; bits below 2^-100 are far below the result's last.
        let fixed = (x * 2f64.powi(100)) as i128;
        let n = (fixed + LN_2 / 2).div_euclid(LN_2);
        let rest = (fixed - n * LN_2) >> 40;
        let series = (1..24).rev().fold(UNIT, |sum, k| UNIT + ((rest * sum) >> 60) / k);
        (series, i32::try_from(n).unwrap())
    }

    /// 1 / (1 + exp(-x)) in units of 2^-60 for |x| < 40.
    fn exact_sigmoid(x: f64) -> i128 {
        let (m, n) = exact_exp(-x);
        let e = if n >= 0 { m << n } else { m >> -n };
        (1 << 120) / (UNIT + e)
    }

    /// tanh(x) / x in units of 2^-60 for |x| <= 1, from the series of sinh and cosh.
    fn exact_tanh_ratio(x: f64) -> i128 {
        let square = (x * 2f64.powi(60)) as i128;
        let square = (square * square) >> 60;
        let series = |odd: i128| {
            (1..12).rev().fold(UNIT, |sum, k| UNIT + ((square * sum) >> 60) / ((2 * k + odd) * (2 * k + odd - 1)))
        };
        (series(1) << 60) / series(0)
    }

    /// Points all over -1..1, near 0, too.
    fn spread(i: u32) -> f64 {
        let x = f64::from(i.wrapping_mul(2_654_435_769)) / f64::from(u32::MAX);
        let scaled = x * 2f64.powi(-(i32::try_from(i % 12).unwrap()));
        if i.is_multiple_of(2) { scaled } else { -scaled }
    }

    #[test]
    fn the_oracle_of_exponentials_knows_their_decimals() {
        // e = 2.71828182845904523536028747135266249775724709...
        let (m, n) = exact_exp(1.0);
        assert_eq!(n, 1);
        assert!((2 * m * 1_000_000_000_000_000 / UNIT - 2_718_281_828_459_045).abs() <= 1);
        // tanh 1 = 0.76159415595576488811945828260479359041276859725793...
        let ratio = exact_tanh_ratio(1.0) * 1_000_000_000_000_000 / UNIT;
        assert!((ratio - 761_594_155_955_764).abs() <= 1);
    }

    /// The claim that `LIBRARY` makes of this platform, at 40,000 points each, and a little more: the exact numbers are in
    /// 0.7..1.5, where 9 u is at least 800 units of 2^-60; 512 of them plus the oracle's own error are allowed here.
    #[test]
    fn the_platforms_exp_and_tanh_are_as_accurate_as_claimed() {
        for i in 0..40_000 {
            let x = 700.0 * spread(i);
            let (exact, n) = exact_exp(x);
            let computed = (x.exp() * 2f64.powi(-n) * UNIT as f64) as i128;
            assert!((computed - exact).abs() <= 512 + 64, "exp({x:e})");
            let x = spread(i);
            if x != 0.0 {
                let computed = (x.tanh() / x * UNIT as f64) as i128;
                // The division by x adds half a unit in the last place.
                assert!((computed - exact_tanh_ratio(x)).abs() <= 512 + 128 + 64, "tanh({x:e})");
            }
            // 1 - tanh x = 2 / (1 + exp 2x), all of whose digits count for small bounds on it.
            let x = 1.0 + 18.0 * spread(i).abs();
            let (computed, exact) = ((x.tanh() * UNIT as f64) as i128, 2 * exact_sigmoid(2.0 * x) - UNIT);
            assert!((computed - exact).abs() <= 512 + 128, "tanh({x:e})");
        }
    }

    #[test]
    fn bounds_of_smooth_functions_hold_and_are_tight() {
        let fixed = |x: f64| (x * UNIT as f64) as i128;
        for i in 0..40_000 {
            let x = 39.0 * spread(i);
            let y = exact(x).sigmoid();
            assert!((fixed(y.value) - exact_sigmoid(x)).abs() <= fixed(y.error) + 64, "sigmoid({x:e})");
            assert!(y.error <= 16.0 * U * y.value, "sigmoid({x:e}) with {:e}", y.error);
            let root = exact(x.abs()).sqrt();
            let distance = (fixed(root.value).pow(2) >> 60) - fixed(x.abs());
            assert!(distance.abs() <= 2 * fixed(root.value * root.error) + 64, "sqrt({x:e})");
            assert!(root.error <= 1.01 * U * root.value || x == 0.0);
        }
        assert_eq!(exact(6.25).sqrt(), exact(2.5));
        assert!(!exact(-1.0).sqrt().is_finite() && !Bounded { value: 1.0, error: 1.0 }.sqrt().is_finite());
        assert_eq!(exact(-800.0).sigmoid().value, 0.0);
        assert!(exact(-800.0).exp().error > 0.0 && exact(800.0).sigmoid().error < 1e-15);
        assert_eq!(exact(0.0).tanh(), exact(0.0));
    }

    #[test]
    fn the_maximum_keeps_the_error_of_all_that_may_be_it() {
        let near = |value, error| Bounded { value, error };
        assert_eq!(near(1.0, 0.1).max(near(2.0, 0.2)), near(2.0, 0.2));
        assert_eq!(near(1.0, 0.9).max(near(2.0, 0.2)), near(2.0, 0.9));
        assert_eq!(near(2.0, 0.2).max(near(1.0, 0.8)), near(2.0, 0.8));
    }

    proptest! {
        #[test]
        fn sums_and_products_of_ratios_are_enclosed(a in ratio(), b in ratio()) {
            let x = exact(a.0 as f64).div(exact(a.1 as f64));
            let y = exact(b.0 as f64).div(exact(b.1 as f64));
            let (ap, aq) = (i128::from(a.0), i128::from(a.1));
            let (bp, bq) = (i128::from(b.0), i128::from(b.1));
            // Values stay below 2^20 here, so that the scaled products fit.
            prop_assume!(x.value.abs() < 1000.0 && y.value.abs() < 1000.0);
            prop_assert!(encloses(x, ap, aq));
            prop_assert!(encloses(x.add(y), ap * bq + bp * aq, aq * bq));
            prop_assert!(encloses(x.sub(y), ap * bq - bp * aq, aq * bq));
            prop_assert!(encloses(x.mul(y), ap * bp, aq * bq));
        }
    }
}
