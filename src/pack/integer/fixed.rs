//! Fixed-point arithmetic as TFLite's reference kernels do it (`kernels/internal/common.cc`, `quantization_util.cc`, gemmlowp's
//! `fixedpoint.h`), value for value. Sums wrap at 32 bits where C leaves their overflow undefined.

/// A positive factor `value / 2^31 * 2^shift`, with value in 2^30..2^31, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Multiplier {
    pub(crate) value: i32,
    pub(crate) shift: i32,
}

impl Multiplier {
    /// The nearest to a number; `None` for what is negative, no number, or 2^30 and more.
    pub(crate) fn new(factor: f64) -> Option<Self> {
        if !factor.is_finite() || factor.is_sign_negative() {
            return None;
        }
        if factor == 0.0 {
            return Some(Self::default());
        }
        let (fraction, mut shift) = frexp(factor);
        let mut value = (fraction * f64::from(1_u32 << 31)).round() as i64;
        if value == 1 << 31 {
            (value, shift) = (value / 2, shift + 1);
        }
        if shift < -31 {
            return Some(Self::default());
        }
        (shift <= 30).then_some(Self { value: value as i32, shift })
    }

    /// For a sum of so many numbers: their mean, with the loss that the reference has.
    pub(crate) fn over(self, count: usize) -> Option<Self> {
        let count = i64::try_from(count).ok().filter(|&count| count > 0)?;
        let shift = (63 - count.leading_zeros() as i32).min(32).min(31 + self.shift);
        Some(Self { value: ((i64::from(self.value) << shift) / count) as i32, shift: self.shift - shift })
    }

    pub(crate) fn left(self) -> u32 {
        self.shift.max(0).unsigned_abs()
    }

    pub(crate) fn right(self) -> u32 {
        self.shift.min(0).unsigned_abs()
    }

    /// `MultiplyByQuantizedMultiplier` with double rounding.
    pub(crate) fn apply(self, x: i32) -> i32 {
        divide_by_power(doubling_high(x.wrapping_shl(self.left()), self.value), self.right())
    }
}

/// A fraction in 0.5..1 and an exponent: `factor = fraction * 2^exponent`, for a positive finite number.
fn frexp(factor: f64) -> (f64, i32) {
    let (scaled, offset) = if factor < f64::MIN_POSITIVE { (factor * 2_f64.powi(64), -64) } else { (factor, 0) };
    let bits = scaled.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1022;
    (f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52), exponent + offset)
}

/// `SaturatingRoundingDoublingHighMul`: the upper 32 bits of 2 a b, to nearest.
pub(crate) fn doubling_high(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    ((product + nudge) / (1_i64 << 31)) as i32
}

/// `RoundingDivideByPOT`: to nearest, halves away from zero; up to 31.
pub(crate) fn divide_by_power(x: i32, exponent: u32) -> i32 {
    let mask = ((1_i64 << exponent) - 1) as i32;
    let threshold = (mask >> 1) + i32::from(x < 0);
    (x >> exponent) + i32::from(x & mask > threshold)
}

/// `SaturatingRoundingMultiplyByPOT` with a positive exponent.
fn multiply_by_power(x: i32, exponent: u32) -> i32 {
    (i64::from(x) << exponent).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// Integer bits of a softmax's scaled differences, and of its sums.
const DIFFERENCE_BITS: i32 = 5;
pub(crate) const SUM_BITS: u32 = 12;

/// exp(-d s) for differences d = 0..256 of codes, as fractions of 31 bits, with s the input's scale times beta; 0 where the reference
/// leaves the term out. `None` for a scale that it cannot represent.
pub(crate) fn softmax_exponentials(scale: f32, beta: f32) -> Option<Box<[i32; 256]>> {
    let factor = f64::from(beta) * f64::from(scale) * f64::from(1_u32 << (31 - DIFFERENCE_BITS));
    if !factor.is_finite() || factor <= 1.0 {
        return None;
    }
    // From 2^30 on a difference of 1 is out of range already.
    let multiplier = Multiplier::new(factor).unwrap_or(Multiplier { value: 0, shift: 31 });
    let most = f64::from((1 << DIFFERENCE_BITS) - 1) * f64::from(1_u32 << (31 - DIFFERENCE_BITS));
    let least = -((most / 2_f64.powi(multiplier.shift)).floor() as i32);
    let mut table = Box::new([0; 256]);
    for (difference, entry) in (0_i32..).zip(table.iter_mut()) {
        if -difference >= least {
            let scaled = doubling_high((-difference).wrapping_shl(multiplier.left()), multiplier.value);
            *entry = exponential(scaled);
        }
    }
    Some(table)
}

/// `exp_on_negative_values` of a number with 5 integer bits; the result has none.
fn exponential(a: i32) -> i32 {
    const QUARTER: i32 = 1 << 24;
    if a == 0 {
        return i32::MAX;
    }
    let rest = (a & (QUARTER - 1)) - QUARTER;
    let mut result = exponential_of_quarter(multiply_by_power(rest, 5));
    let remainder = rest.wrapping_sub(a);
    // exp(-2^e) for e = -2..=4.
    let factors = [1_672_461_947, 1_302_514_674, 790_015_084, 290_630_308, 39_332_535, 720_401, 242];
    for (bit, factor) in (24..).zip(factors) {
        if remainder & 1 << bit != 0 {
            result = doubling_high(result, factor);
        }
    }
    result
}

/// exp of a number in -1/4..0, both without integer bits.
fn exponential_of_quarter(a: i32) -> i32 {
    const EXP_OF_EIGHTH: i32 = 1_895_147_668;
    const THIRD: i32 = 715_827_883;
    let x = a.wrapping_add(1 << 28);
    let x2 = doubling_high(x, x);
    let x3 = doubling_high(x2, x);
    let x4 = doubling_high(x2, x2);
    let tail = divide_by_power(x4, 2).wrapping_add(x3);
    let tail = divide_by_power(doubling_high(tail, THIRD).wrapping_add(x2), 1);
    EXP_OF_EIGHTH.wrapping_add(doubling_high(EXP_OF_EIGHTH, x.wrapping_add(tail)))
}

/// `GetReciprocal` of a positive sum with [`SUM_BITS`] integer bits: a fraction, and the bits above one.
pub(crate) fn reciprocal(sum: i32) -> (i32, i32) {
    const OF_48_17: i32 = 1_515_870_810;
    const OF_MINUS_32_17: i32 = -1_010_580_540;
    const ONE: i32 = 1 << 29;
    let zeros = sum.leading_zeros();
    let fraction = (sum as u32).wrapping_shl(zeros).wrapping_sub(1 << 31) as i32;
    // A rounded half of (fraction + 1), which is not negative.
    let half = ((i64::from(fraction) + i64::from(i32::MAX) + 1) / 2) as i32;
    let mut x = OF_48_17.wrapping_add(doubling_high(half, OF_MINUS_32_17));
    for _ in 0..3 {
        let missing = ONE.wrapping_sub(doubling_high(half, x));
        x = x.wrapping_add(multiply_by_power(doubling_high(x, missing), 2));
    }
    (multiply_by_power(x, 1), SUM_BITS as i32 - zeros as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_round_and_vanish_as_the_reference_does() {
        let of = |factor| Multiplier::new(factor).map(|m| (m.value, m.shift));
        assert_eq!(of(1.0), Some((1 << 30, 1)));
        assert_eq!(of(0.75), Some((3 << 29, 0)));
        assert_eq!(of(1.0 - 1e-12), Some((1 << 30, 1)));
        assert_eq!(of(2_f64.powi(-40)), Some((0, 0)));
        assert_eq!(of(f64::from_bits(1)), Some((0, 0)));
        assert_eq!(of(2_f64.powi(-32)), Some((1 << 30, -31)));
        assert_eq!((of(2_f64.powi(30)), of(-1.0), of(f64::NAN), of(f64::INFINITY)), (None, None, None, None));
    }

    #[test]
    fn halves_go_away_from_zero_twice() {
        let half = Multiplier::new(0.5).unwrap();
        assert_eq!([3, -3, 1, -1].map(|x| half.apply(x)), [2, -1, 1, 0]);
        // An eighth of 3: 1.5 becomes 2, and a quarter of that 1.
        let eighth = Multiplier::new(0.125).unwrap();
        assert_eq!([4, -4, 3, -3, 12, -12].map(|x| eighth.apply(x)), [1, -1, 1, 0, 2, -2]);
        assert_eq!(doubling_high(i32::MIN, i32::MIN), i32::MAX);
        assert_eq!((divide_by_power(i32::MIN, 31), divide_by_power(i32::MAX, 31), divide_by_power(5, 0)), (-1, 1, 5));
    }

    #[test]
    fn exponentials_and_reciprocals_are_close_to_the_real_ones() {
        let table = softmax_exponentials(0.1, 1.0).unwrap();
        for (d, &entry) in (0..).zip(table.iter()) {
            let real = (f64::from(d) * -f64::from(0.1_f32)).exp();
            assert!((f64::from(entry) / 2_f64.powi(31) - real).abs() < 1e-6, "{d}: {entry}");
        }
        for sum in [1 << 19, (1 << 19) + 1, 3 << 19, 123_456_789, i32::MAX] {
            let (fraction, above) = reciprocal(sum);
            let real = 2_f64.powi(19) / f64::from(sum);
            assert!((f64::from(fraction) / 2_f64.powi(31 + above) / real - 1.0).abs() < 1e-7, "{sum}");
        }
    }
}
