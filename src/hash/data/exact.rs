//! Functions that are the same bit for bit on every host: made of additions, products, quotients and roots alone, which IEEE 754 rounds,
//! while a library's `exp` and `ln` may differ in the last bit. Arguments are those of a generator, not of the whole line.

/// Natural logarithm of a positive, normal number.
pub(super) fn ln(x: f64) -> f64 {
    // x = m 2^e with m in [1, 2), or in [0.7, 1.4) by one more step; ln m = 2 artanh((m - 1) / (m + 1)).
    let bits = x.to_bits();
    let mut e = f64::from(((bits >> 52) & 0x7ff) as u32) - 1023.0;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        e += 1.0;
    }
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let sum = (0..12).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    2.0 * s * sum + e * std::f64::consts::LN_2
}

/// e to the x, for x between -700 and 700.
pub(super) fn exp(x: f64) -> f64 {
    let k = (x * std::f64::consts::LOG2_E).round();
    let r = x - k * std::f64::consts::LN_2;
    let sum = (1..=13).rev().fold(1.0, |sum, n| 1.0 + sum * r / f64::from(n));
    sum * f64::from_bits(((k + 1023.0) as u64) << 52)
}

/// Where a normal number lies with a chance of `p` in (0, 1) below it: Acklam's rational approximations, to 1.2e-9 of the result.
pub(super) fn normal(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e+01,
        2.209460984245205e+02,
        -2.759285104469687e+02,
        1.38357751867269e+02,
        -3.066479806614716e+01,
        2.506628277459239e+00,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e+01,
        1.615858368580409e+02,
        -1.556989798598866e+02,
        6.680131188771972e+01,
        -1.328068155288572e+01,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-03,
        -3.223964580411365e-01,
        -2.400758277161838e+00,
        -2.549732539343734e+00,
        4.374664141464968e+00,
        2.938163982698783e+00,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00, 1.0];
    let horner = |of: &[f64], x: f64| of.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * ln(p)).sqrt();
        horner(&C, q) / horner(&D, q)
    };
    if p < 0.02425 {
        tail(p)
    } else if p > 1.0 - 0.02425 {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        q * horner(&A, q * q) / horner(&B, q * q)
    }
}

#[cfg(test)]
mod tests {
    use super::{exp, ln, normal};

    #[test]
    fn they_are_what_they_are_called() {
        for i in 1..4000 {
            let x = f64::from(i) * 0.173 - 300.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "exp {x}");
            let y = x.exp();
            assert!((ln(y) - x).abs() < 1e-13 * (1.0 + x.abs()), "ln {y}");
        }
        // Own answers, a last bit beside the nearest: another host must find these bits.
        assert_eq!((exp(1.0).to_bits(), ln(10.0).to_bits()), (EXP_1, LN_10));
    }

    const EXP_1: u64 = 0x4005_bf0a_8b14_576a;
    const LN_10: u64 = 0x4002_6bb1_bbb5_5515;

    #[test]
    fn quantiles_of_the_normal_distribution() {
        // Abramowitz and Stegun, table 26.5 and others.
        for (p, z) in
            [(0.5, 0.0), (0.841_344_746, 1.0), (0.975, 1.959_963_985), (0.99, 2.326_347_874), (1e-9, -5.997_807_015)]
        {
            assert!((normal(p) - z).abs() < 1e-7 * (1.0 + z.abs()), "{p}: {}", normal(p));
        }
    }
}
