// Smooth functions of four values without overflow on any finite argument. WGSL's exp has an error of 3 + 2 |x| ulp, its
// division 2.5 ulp.

// 1 / (1 + exp(-x)); exp is taken of numbers that are not positive.
fn sigmoid_of(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return select(e, vec4<f32>(1.0), x >= vec4<f32>(0.0)) / (1.0 + e);
}

// tanh(x). Near 0 its series to x^9 (what is left out is below 1e-8 of the value), since 1 - exp(-2 |x|) cancels there;
// WGSL's own tanh may be off by 1e-5.
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

// The slope of sigmoid_of at x: e / (1 + e)^2, without the cancellation of s (1 - s).
fn sigmoid_slope(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return e / ((1.0 + e) * (1.0 + e));
}

// x sigmoid(x) and its slope.
fn silu_of(x: vec4<f32>) -> vec4<f32> {
    return x * sigmoid_of(x);
}

fn silu_slope(x: vec4<f32>) -> vec4<f32> {
    return fma(x, sigmoid_slope(x), sigmoid_of(x));
}

// x (1 + tanh(v)) / 2 = x sigmoid(2 v) with v = sqrt(2 / pi) (x + 0.044715 x^3) (Hendrycks, Gimpel, 2016), and its slope.
// Beyond |x| = 100 the sigmoid is 0 or 1: its argument stops there, so that nothing overflows.
const GELU_1 = 1.5957691216057308;
const GELU_3 = 0.0713548162726009;

fn gelu_of(x: vec4<f32>) -> vec4<f32> {
    let c = clamp(x, vec4<f32>(-100.0), vec4<f32>(100.0));
    return x * sigmoid_of(c * fma(c * c, vec4<f32>(GELU_3), vec4<f32>(GELU_1)));
}

fn gelu_slope(x: vec4<f32>) -> vec4<f32> {
    let c = clamp(x, vec4<f32>(-100.0), vec4<f32>(100.0));
    let q = c * c;
    let v = c * fma(q, vec4<f32>(GELU_3), vec4<f32>(GELU_1));
    return fma(c * sigmoid_slope(v), fma(q, vec4<f32>(3.0 * GELU_3), vec4<f32>(GELU_1)), sigmoid_of(v));
}

// log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|); log(1 + e) = 2 artanh(z), z = e / (2 + e) <= 1/3, by its series
// to z^13 (what is left out is below 2e-8 of the value): WGSL's log is off by 2^-21 near 1.
fn softplus_of(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    let z = e / (2.0 + e);
    let q = z * z;
    var series = vec4<f32>(1.0 / 13.0);
    series = fma(series, q, vec4<f32>(1.0 / 11.0));
    series = fma(series, q, vec4<f32>(1.0 / 9.0));
    series = fma(series, q, vec4<f32>(1.0 / 7.0));
    series = fma(series, q, vec4<f32>(1.0 / 5.0));
    series = fma(series, q, vec4<f32>(1.0 / 3.0));
    series = fma(series, q, vec4<f32>(1.0));
    return fma(2.0 * z, series, max(x, vec4<f32>(0.0)));
}
