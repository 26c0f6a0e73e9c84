// Smooth functions without overflow on any finite argument. WGSL's exp has an error of 3 + 2 |x| ulp, its division 2.5 ulp.

// 1 / (1 + exp(-x)); exp is taken of numbers that are not positive.
fn sigmoid_of(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

// tanh(x). Near 0 its series to x^9 (what is left out is below 1e-8 of the value), since 1 - exp(-2 |x|) cancels there; WGSL's own
// tanh may be off by 1e-5.
fn tanh_of(x: f32) -> f32 {
    let q = x * x;
    let series = x * fma(q, fma(q, fma(q, fma(q, 62.0 / 2835.0, -17.0 / 315.0), 2.0 / 15.0), -1.0 / 3.0), 1.0);
    let e = exp(-2.0 * abs(x));
    let far = select(1.0, -1.0, x < 0.0) * ((1.0 - e) / (1.0 + e));
    return select(far, series, abs(x) < 0.25);
}
