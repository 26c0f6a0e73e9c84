//! Decimals: exact as far as 38 digits go, and after that `f64` with a bound on the error.

/// Relative error of one rounding to nearest `f64` (normal range).
const HALF_ULP: f64 = f64::EPSILON / 2.0;
/// The smallest positive `f64`: bounds the absolute error of one rounding below the normal range.
const TINY: f64 = f64::from_bits(1);
/// Literals with a larger power of ten than this are not kept as decimals: they are 0 or too large anyway.
const MAX_EXPONENT: i64 = 1_000_000;

/// The real number `digits * 10^exponent`. No trailing zeros; zero has exponent 0.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Decimal {
    digits: i128,
    exponent: i32,
}

/// A real number: `value` is within `error` of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number {
    /// Nearest `f64` while the number is known as a decimal, else some `f64` near it. May be infinite or NaN after
    /// arithmetic that overflowed; whoever uses it in a property must look.
    pub(super) value: f64,
    /// Bound on `|real - value|`; 0 exactly if `value` is known to be the real number.
    pub(super) error: f64,
    exact: Option<Decimal>,
}

impl Decimal {
    fn new(mut digits: i128, mut exponent: i32) -> Option<Self> {
        if digits == 0 {
            return Some(Self { digits, exponent: 0 });
        }
        while digits % 10 == 0 {
            digits /= 10;
            exponent = exponent.checked_add(1)?;
        }
        Some(Self { digits, exponent })
    }

    /// The digits of a literal that [`Number::parse`] has already found well formed.
    fn parse(text: &str) -> Option<Self> {
        let (mantissa, power) = match text.find(['e', 'E']) {
            Some(e) => (&text[..e], text[e + 1..].parse::<i64>().ok()?),
            None => (text, 0),
        };
        let mut digits: i128 = 0;
        let (mut after_point, mut seen_point, mut zeros) = (0_i64, false, 0_u32);
        for byte in mantissa.bytes() {
            match byte {
                b'.' => seen_point = true,
                b'0'..=b'9' => {
                    after_point += i64::from(seen_point);
                    // Zeros wait: at the end they belong into the exponent, not into the digits.
                    if byte == b'0' {
                        zeros += u32::from(digits != 0);
                        continue;
                    }
                    let scale = 10_i128.checked_pow(zeros.checked_add(1)?)?;
                    digits = digits.checked_mul(scale)?.checked_add(i128::from(byte - b'0'))?;
                    zeros = 0;
                }
                _ => {}
            }
        }
        let exponent = power.checked_sub(after_point)?.checked_add(i64::from(zeros))?;
        if digits != 0 && exponent.abs() > MAX_EXPONENT {
            return None;
        }
        let sign = if mantissa.starts_with('-') { -1 } else { 1 };
        Self::new(sign * digits, if digits == 0 { 0 } else { i32::try_from(exponent).ok()? })
    }

    fn plus(self, other: Self) -> Option<Self> {
        if self.digits == 0 || other.digits == 0 {
            return Some(if self.digits == 0 { other } else { self });
        }
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let shift = u32::try_from(i64::from(high.exponent) - i64::from(low.exponent)).ok()?;
        let scaled = high.digits.checked_mul(10_i128.checked_pow(shift)?)?;
        Self::new(scaled.checked_add(low.digits)?, low.exponent)
    }

    fn times(self, other: Self) -> Option<Self> {
        Self::new(self.digits.checked_mul(other.digits)?, self.exponent.checked_add(other.exponent)?)
    }

    /// Nearest `f64` (the standard library's reading of decimals rounds correctly), infinite if out of range.
    fn nearest(self) -> f64 {
        format!("{}e{}", self.digits, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// True if an `f64` has exactly this value: the digits, freed of the fives of a negative power
    /// of ten (which must divide them) or with those of a positive power, must have an odd part below 2^53. With at most 127 bits of digits the binary
    /// exponent stays far inside the normal range.
    fn is_f64(self) -> bool {
        let mut magnitude = self.digits.unsigned_abs();
        if magnitude == 0 {
            return true;
        }
        let fives = self.exponent.unsigned_abs();
        if self.exponent < 0 {
            for _ in 0..fives {
                if !magnitude.is_multiple_of(5) {
                    return false;
                }
                magnitude /= 5;
            }
        } else {
            magnitude >>= magnitude.trailing_zeros();
            match 5_u128.checked_pow(fives).and_then(|p| magnitude.checked_mul(p)) {
                Some(product) => magnitude = product,
                None => return false,
            }
        }
        magnitude >> magnitude.trailing_zeros() < 1 << 53
    }
}

impl Number {
    pub(super) const ZERO: Self = Self { value: 0.0, error: 0.0, exact: Some(Decimal { digits: 0, exponent: 0 }) };
    pub(super) const ONE: Self = Self { value: 1.0, error: 0.0, exact: Some(Decimal { digits: 1, exponent: 0 }) };

    /// Reads a literal such as `-1.5e-3`, `.5` or `1.`; `None` if the text is not one. The value is infinite if it is
    /// beyond `f64`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !is_literal(text) {
            return None;
        }
        let value: f64 = text.parse().ok()?;
        let exact = Decimal::parse(text);
        // Adding 0 turns -0 into 0: one bound, one bit pattern.
        Some(Self { value: value + 0.0, error: rounding(value, exact), exact })
    }

    fn of(exact: Decimal) -> Self {
        let value = exact.nearest();
        Self { value, error: rounding(value, Some(exact)), exact: Some(exact) }
    }

    pub(super) fn negated(self) -> Self {
        let exact = self.exact.and_then(|d| Some(Decimal { digits: d.digits.checked_neg()?, ..d }));
        Self { value: 0.0 - self.value, exact, ..self }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        // Most sums of a file are with 0, which must cost neither precision nor time.
        if self.is_zero() || other.is_zero() {
            return if self.is_zero() { other } else { self };
        }
        if let Some(sum) = self.exact.zip(other.exact).and_then(|(a, b)| a.plus(b)) {
            return Self::of(sum);
        }
        let sum = self.value + other.value;
        // |sum| * 2^-53 bounds the rounding of a sum, which never underflows inexactly.
        let error = up(up(self.error + other.error) + up(sum.abs() * HALF_ULP));
        Self { value: sum, error, exact: None }
    }

    pub(super) fn times(self, other: Self) -> Self {
        for (one, rest) in [(self, other), (other, self)] {
            if one == Self::ONE {
                return rest;
            }
            if one == Self::ONE.negated() {
                return rest.negated();
            }
        }
        if let Some(product) = self.exact.zip(other.exact).and_then(|(a, b)| a.times(b)) {
            return Self::of(product);
        }
        let product = self.value * other.value;
        let cross = up(self.value.abs() * other.error) + up(other.value.abs() * self.error);
        let both = up(up(cross) + up(self.error * other.error));
        Self { value: product, error: up(both + up(product.abs() * HALF_ULP)), exact: None }
    }

    /// The number without its decimal, as if that had become too long.
    #[cfg(test)]
    pub(super) fn forgotten(self) -> Self {
        Self { exact: None, ..self }
    }

    /// True if the number is known to be 0.
    pub(super) fn is_zero(self) -> bool {
        self.value == 0.0 && self.error == 0.0
    }

    pub(super) fn is_finite(self) -> bool {
        self.value.is_finite() && self.error.is_finite()
    }

    /// An `f64` that is at most the real number: the value if exact, one step down if it was rounded once.
    pub(super) fn below(self) -> f64 {
        -self.negated().above()
    }

    /// An `f64` that is at least the real number: the value if exact, one step up if it was rounded once.
    pub(super) fn above(self) -> f64 {
        if self.error == 0.0 {
            self.value
        } else if self.error <= once(self.value) {
            // One rounding to nearest is at most half the gap to the next f64 on either side.
            self.value.next_up()
        } else {
            (self.value + self.error).next_up()
        }
    }

    /// A bound on the error relative to `|value|`; 0 if exact, infinite if the sign is not certain.
    pub(super) fn relative_error(self) -> f64 {
        let size = self.value.abs();
        if self.error == 0.0 {
            0.0
        } else if self.error >= size {
            f64::INFINITY
        } else if self.error == size * HALF_ULP && size >= f64::MIN_POSITIVE / HALF_ULP {
            HALF_ULP
        } else {
            (self.error / size).next_up()
        }
    }
}

/// The next `f64` above a computed, non-negative bound: makes up for its rounding, and for underflow to 0.
fn up(bound: f64) -> f64 {
    bound.next_up()
}

/// Bound on the error of one rounding to nearest that gave `value`.
fn once(value: f64) -> f64 {
    (value.abs() * HALF_ULP).max(TINY)
}

/// Bound on the error of reading a literal, whose digits may be too many to be kept.
fn rounding(value: f64, exact: Option<Decimal>) -> f64 {
    if exact.is_some_and(Decimal::is_f64) { 0.0 } else { once(value) }
}

/// `[+-] digits [. digits] [e [+-] digits]`, with at least one digit before the `e`.
fn is_literal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, power) = match text.find(['e', 'E']) {
        Some(e) => (&text[..e], Some(&text[e + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let power_fits = power.is_none_or(|p| {
        let p = p.strip_prefix(['-', '+']).unwrap_or(p);
        !p.is_empty() && digits(p)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && power_fits
}
