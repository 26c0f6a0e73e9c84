// Smooth functions of four values without overflow on any finite argument. WGSL's exp has an error of 3 + 2 |x| ulp, its division 2.5 ulp.

// 1 / (1 + exp(-x)); exp is taken of numbers that are not positive.
fn sigmoid_of(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return select(e, vec4<f32>(1.0), x >= vec4<f32>(0.0)) / (1.0 + e);
}

// tanh(x). Near 0 its series to x^9 (what is left out is below 1e-8 of the value), since 1 - exp(-2 |x|) cancels there; WGSL's own
// tanh may be off by 1e-5.
fn tanh_of(x: vec4<f32>) -> vec4<f32> {
    let q = x * x;
    let c4 = vec4<f32>(62.0 / 2835.0);
    let c3 = vec4<f32>(-17.0 / 315.0);
    let c2 = vec4<f32>(2.0 / 15.0);
    let c1 = vec4<f32>(-1.0 / 3.0);
    let series = x * fma(q, fma(q, fma(q, fma(q, c4, c3), c2), c1), vec4<f32>(1.0));
    let e = exp(-2.0 * abs(x));
    let far = select(vec4<f32>(1.0), vec4<f32>(-1.0), x < vec4<f32>(0.0)) * ((1.0 - e) / (1.0 + e));
    return select(far, series, abs(x) < vec4<f32>(0.25));
}
