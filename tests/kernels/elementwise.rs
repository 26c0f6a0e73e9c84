//! `elementwise`: every operator, broadcasting over one to four axes, in place.

use wavehull::gpu::Recording;
use wavehull::ops::elementwise::{self, Binary, Unary};
use wavehull::{Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::on_both;

/// Shapes of the result and of the two operands.
const SHAPES: [[&[usize]; 3]; 10] = [
    [&[1], &[1], &[1]],
    [&[67], &[67], &[1]],
    [&[3, 5], &[3, 5], &[5]],
    [&[5, 66], &[5, 1], &[1, 66]],
    [&[2, 3, 5], &[3, 1], &[2, 3, 5]],
    [&[4, 1, 7], &[7], &[4, 1, 1]],
    [&[2, 3, 5, 7], &[2, 1, 5, 1], &[3, 1, 7]],
    [&[3, 2, 2, 33], &[3, 2, 2, 33], &[3, 2, 2, 33]],
    // Without gaps.
    [&[131], &[131], &[131]],
    [&[2, 3, 5, 8], &[2, 3, 5, 8], &[2, 3, 5, 8]],
];

/// Exact value and tolerance: u for one operation, 2.5 u for a division (WGSL, 15.7.4), nothing for the others.
fn binary_oracle(op: Binary, x: f32, y: f32) -> (f64, f64) {
    let (x, y) = (f64::from(x), f64::from(y));
    match op {
        Binary::Add => (x + y, U * (x + y).abs()),
        Binary::Sub => (x - y, U * (x - y).abs()),
        Binary::Mul => (x * y, U * (x * y).abs()),
        Binary::Div => (x / y, 2.5 * U * (x / y).abs()),
        Binary::ReluGradient => (if y > 0.0 { x } else { 0.0 }, 0.0),
        // Two roundings of the slope, one of the product.
        Binary::SigmoidGradient => (x * y * (1.0 - y), 3.1 * U * (x * y * (1.0 - y)).abs()),
        Binary::TanhGradient => (x * (1.0 - y * y), 4.1 * U * (x * (1.0 - y * y)).abs()),
        Binary::LeakyReluGradient(alpha) => {
            let value = if y > 0.0 { x } else { f64::from(alpha) * x };
            (value, U * value.abs())
        }
        Binary::GeluGradient => times(x, slope(y, gelu_argument(y))),
        Binary::SiluGradient => times(x, slope(y, (y, 1.0, 0.0))),
        Binary::SoftplusGradient => times(x, unary_oracle(Unary::Sigmoid, y as f32)),
    }
}

fn times(x: f64, (value, tolerance): (f64, f64)) -> (f64, f64) {
    (x * value, x.abs() * (tolerance + 1.01 * U * value.abs()))
}

/// 2 sqrt(2 / pi) (x + 0.044715 x^3), its slope, and its error: three roundings and that of two constants.
fn gelu_argument(x: f64) -> (f64, f64, f64) {
    let c = (8.0 / std::f64::consts::PI).sqrt();
    let value = c * (x + 0.044_715 * x.powi(3));
    (value, c * (1.0 + 3.0 * 0.044_715 * x * x), 5.0 * U * value.abs())
}

/// 1 / (1 + exp(-v)) and its slope with their tolerances, for v off by dv.
fn logistic(v: f64, dv: f64) -> [(f64, f64); 2] {
    // 0 or 1 long before.
    let v = v.clamp(-1e4, 1e4);
    let (value, tolerance) = unary_oracle(Unary::Sigmoid, v as f32);
    // The oracle takes an f32.
    let tolerance = tolerance + U * v.abs() * value;
    let exact = 1.0 / (1.0 + (-v).exp());
    let e = (-v.abs()).exp();
    let slope = e / (1.0 + e).powi(2);
    [(exact, tolerance + slope * dv), (slope, 1.01 * slope * ((3.0 + 2.0 * v.abs() + 6.0) * U + dv))]
}

/// The slope of x s(v), s the logistic function, for v with its slope and error.
fn slope(x: f64, (v, dv, error): (f64, f64, f64)) -> (f64, f64) {
    let [(s, of_s), (d, of_d)] = logistic(v, error);
    let bent = x * d * dv;
    let tolerance = of_s + (x * dv).abs() * of_d + 8.0 * U * bent.abs() + 2.0 * U * (s + bent).abs();
    (s + bent, tolerance)
}

/// Exact value and tolerance. WGSL's exp is off by up to 3 + 2 |argument| ulp (15.7.4), an ulp being at most u times the value.
fn unary_oracle(op: Unary, x: f32) -> (f64, f64) {
    let x = f64::from(x);
    match op {
        Unary::Relu => (x.max(0.0), 0.0),
        Unary::Neg => (-x, 0.0),
        Unary::Abs => (x.abs(), 0.0),
        Unary::Exp => (x.exp(), (3.0 + 2.0 * x.abs()) * U * x.exp()),
        Unary::Sigmoid => {
            // e / (1 + e) moves by e / (1 + e)^2 times the relative error of e; one rounding of 1 + e, 2.5 ulp of the division.
            let e = (-x.abs()).exp();
            let value = 1.0 / (1.0 + (-x).exp());
            (value, 1.01 * U * (e / (1.0 + e).powi(2) * (3.0 + 2.0 * x.abs()) + 3.5 * value))
        }
        Unary::Tanh if x.abs() < 0.25 => {
            // The series: what is left out is below 1e-8 of the value; the roundings of its factor, all but the last of numbers below 1/30.
            (x.tanh(), (1e-8 + 4.0 * U) * x.tanh().abs())
        }
        Unary::Tanh => {
            // (1 - e) / (1 + e) moves by 2 / (1 + e)^2 times the error of e; a rounding of 1 - e and 1 + e each, 2.5 ulp of the division.
            let e = (-2.0 * x.abs()).exp();
            let moved = 2.0 * e / (1.0 + e).powi(2) * (3.0 + 4.0 * x.abs());
            (x.tanh(), 1.01 * U * (moved + 4.5 * x.tanh().abs()))
        }
        Unary::LeakyRelu(alpha) => {
            let value = if x > 0.0 { x } else { f64::from(alpha) * x };
            (value, if x > 0.0 { 0.0 } else { U * value.abs() })
        }
        Unary::Scale(s) => (f64::from(s) * x, U * (f64::from(s) * x).abs()),
        Unary::Silu => times(x, logistic(x, 0.0)[0]),
        Unary::Gelu => {
            let (v, _, error) = gelu_argument(x);
            times(x, logistic(v, error)[0])
        }
        Unary::Softplus => {
            // log(1 + e) moves by e / (1 + e) times the relative error of e; eight roundings of the series, one of the sum.
            let e = (-x.abs()).exp();
            let value = x.max(0.0) + e.ln_1p();
            (value, 1.01 * U * (e / (1.0 + e) * (3.0 + 2.0 * x.abs()) + 9.0 * e.ln_1p() + value))
        }
    }
}

/// For every element of `out`, in order, the index of the element of a broadcast operand, by NumPy's rule.
fn spread(out: &[usize], operand: &[usize]) -> Vec<usize> {
    let mut indices = vec![0];
    let skip = out.len() - operand.len();
    for (axis, &length) in out.iter().enumerate() {
        let own = axis.checked_sub(skip).map_or(1, |a| operand[a]);
        let step = |base: usize, i: usize| base * own + if own == 1 { 0 } else { i };
        indices = indices.iter().flat_map(|&base| (0..length).map(move |i| step(base, i))).collect();
    }
    indices
}

struct Fixture {
    x: Vec<f32>,
    y: Vec<f32>,
    recording: Recording,
    out: Tensor,
}

fn fixture(gpu: &Gpu, op: Binary, [out, x, y]: [&[usize]; 3]) -> Fixture {
    let mut random = Random::new(out.iter().sum::<usize>() as u64);
    let numbers = |random: &mut Random, shape: &[usize]| random.floats(shape.iter().product());
    let (xs, ys) = (numbers(&mut random, x), numbers(&mut random, y));
    let (a, b, c) = (common::tensor(gpu, x, &xs), common::tensor(gpu, y, &ys), common::poisoned(gpu, out));
    let mut recording = Recording::new();
    elementwise::binary(&mut recording, gpu.caps(), op, &a, &b, &c).unwrap();
    Fixture { x: xs, y: ys, recording, out: c }
}

fn oracle(op: Binary, f: &Fixture, [out, x, y]: [&[usize]; 3]) -> Vec<(f64, f64)> {
    let places = spread(out, x).into_iter().zip(spread(out, y));
    places.map(|(i, j)| binary_oracle(op, f.x[i], f.y[j])).collect()
}

#[test]
fn binary_operators_broadcast_over_four_axes() {
    on_both("binary_operators_broadcast_over_four_axes", |gpu| {
        for op in Binary::ALL {
            for shapes in SHAPES {
                let f = fixture(gpu, op, shapes);
                let got = common::run(gpu, &f.recording, &f.out, false);
                common::compare(&got, &oracle(op, &f, shapes)).unwrap_or_else(|why| panic!("{op:?} {shapes:?}: {why}"));
            }
        }
    });
}

#[test]
fn unary_operators_keep_their_precision_and_work_in_place() {
    on_both("unary_operators_keep_their_precision_and_work_in_place", |gpu| {
        for op in Unary::ALL {
            for [out, x, _] in SHAPES {
                let xs = Random::new(3).floats(x.iter().product());
                let (a, c) = (common::tensor(gpu, x, &xs), common::poisoned(gpu, out));
                let mut recording = Recording::new();
                elementwise::unary(&mut recording, gpu.caps(), op, &a, &c).unwrap();
                let own: Vec<(f64, f64)> = xs.iter().map(|&x| unary_oracle(op, x)).collect();
                let broadcast: Vec<(f64, f64)> = spread(out, x).into_iter().map(|i| own[i]).collect();
                common::compare(&common::run(gpu, &recording, &c, false), &broadcast).unwrap();
                let mut recording = Recording::new();
                elementwise::unary_in_place(&mut recording, gpu.caps(), op, &a).unwrap();
                common::compare(&common::run(gpu, &recording, &a, false), &own)
                    .unwrap_or_else(|why| panic!("{op:?} {x:?} in place: {why}"));
            }
        }
    });
}

#[test]
fn smooth_functions_hold_over_their_whole_range() {
    on_both("smooth_functions_hold_over_their_whole_range", |gpu| {
        // Small, around the seam of tanh at 1/4, large enough that a careless exp would overflow.
        let sizes = [0.0, 1e-30, 1e-4, 0.2, 0.249_999, 0.25, 0.250_001, 1.0, 9.5, 30.0, 80.0, 500.0, 3e38];
        let xs: Vec<f32> = sizes.iter().flat_map(|&x| [x, -x]).collect();
        for op in [Unary::Sigmoid, Unary::Tanh, Unary::Gelu, Unary::Silu, Unary::Softplus] {
            let (x, out) = (common::tensor(gpu, &[xs.len()], &xs), common::poisoned(gpu, &[xs.len()]));
            let mut recording = Recording::new();
            elementwise::unary(&mut recording, gpu.caps(), op, &x, &out).unwrap();
            // Results below 2^-126 may be flushed to zero.
            let expected: Vec<(f64, f64)> =
                xs.iter().map(|&x| unary_oracle(op, x)).map(|(v, t)| (v, t + 2.0_f64.powi(-126))).collect();
            common::compare(&common::run(gpu, &recording, &out, false), &expected)
                .unwrap_or_else(|why| panic!("{op:?}: {why}"));
        }
    });
}

#[test]
fn gradients_of_smooth_functions_hold_over_their_whole_range() {
    on_both("gradients_of_smooth_functions_hold_over_their_whole_range", |gpu| {
        let sizes = [0.0, 1e-30, 1e-4, 0.249_999, 0.5, 1.0, 3.0, 5.0, 9.5, 30.0, 80.0, 500.0, 3e38];
        let ys: Vec<f32> = sizes.iter().flat_map(|&y| [y, -y]).collect();
        let n = ys.len();
        for op in [Binary::GeluGradient, Binary::SiluGradient, Binary::SoftplusGradient] {
            let (g, y) = (common::tensor(gpu, &[n], &vec![0.75; n]), common::tensor(gpu, &[n], &ys));
            let out = common::poisoned(gpu, &[n]);
            let mut recording = Recording::new();
            elementwise::binary(&mut recording, gpu.caps(), op, &g, &y, &out).unwrap();
            let expected: Vec<(f64, f64)> = ys
                .iter()
                .map(|&y| binary_oracle(op, 0.75, y.clamp(-600.0, 600.0)))
                .map(|(v, t)| (v, t + 1e-37))
                .collect();
            common::compare(&common::run(gpu, &recording, &out, false), &expected)
                .unwrap_or_else(|why| panic!("{op:?}: {why}"));
        }
    });
}

#[test]
fn gradients_of_activations_are_gradients() {
    let input = [Unary::Gelu, Unary::Silu, Unary::Softplus, Unary::LeakyRelu(0.01)];
    let gradient =
        [Binary::GeluGradient, Binary::SiluGradient, Binary::SoftplusGradient, Binary::LeakyReluGradient(0.01)];
    for x in [-3.5_f32, -1.25, -0.5, 0.0625, 0.75, 2.5] {
        let step = 1.0 / 1024.0;
        // By differences of higher order, since oracles take f32: 1/1024 is exact in all of these.
        let at = |op: Unary, k: f32| unary_oracle(op, x + k * step).0;
        let along =
            |op: Unary| (8.0 * (at(op, 1.0) - at(op, -1.0)) - (at(op, 2.0) - at(op, -2.0))) / (12.0 * f64::from(step));
        for (f, g) in input.into_iter().zip(gradient) {
            let (value, _) = binary_oracle(g, 1.0, x);
            assert!((value - along(f)).abs() < 1e-9, "{g:?} at {x}: {value}, by differences {}", along(f));
        }
        for (f, g) in [(Unary::Sigmoid, Binary::SigmoidGradient), (Unary::Tanh, Binary::TanhGradient)] {
            let y = unary_oracle(f, x).0 as f32;
            let (value, _) = binary_oracle(g, 1.0, y);
            assert!((value - along(f)).abs() < 1e-6, "{g:?} at {x}: {value}, by differences {}", along(f));
        }
    }
}

#[test]
fn broken_activations_are_noticed() {
    let Some(gpu) = common::device("broken_activations_are_noticed", false) else { return };
    let xs: Vec<f32> = (-40..40).map(|i| i as f32 / 8.0 + 0.01).collect();
    let (x, y) = (common::tensor(gpu, &[80], &vec![0.75; 80]), common::tensor(gpu, &[80], &xs));
    for op in &Binary::ALL[5..] {
        let out = common::poisoned(gpu, &[80]);
        let mut recording = Recording::new();
        elementwise::binary(&mut recording, gpu.caps(), *op, &x, &y, &out).unwrap();
        let expected: Vec<(f64, f64)> = xs.iter().map(|&y| binary_oracle(*op, 0.75, y)).collect();
        common::compare(&common::run(gpu, &recording, &out, false), &expected)
            .unwrap_or_else(|why| panic!("{op:?}: {why}"));
        let broken = broken(&recording, "elementwise", "= ${EXPR};", "= (${EXPR}) * 1.00001;");
        let raw = common::run_raw(gpu, &broken, &out);
        let got: Vec<f32> = raw[..80].iter().map(|&bits| f32::from_bits(bits)).collect();
        assert!(common::compare(&got, &expected).is_err(), "a wrong {op:?} went unseen");
    }
}

#[test]
fn a_grid_stride_loop_covers_more_elements_than_invocations() {
    let Some(gpu) = common::device("a_grid_stride_loop_covers_more_elements_than_invocations", false) else { return };
    // More vectors along a row, and more rows, than one pass of the grid covers.
    for shape in [&[16_384 * 256 + 77][..], &[16_384 * 16 + 5, 15]] {
        let xs: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
        let x = common::tensor(gpu, shape, &xs);
        let mut recording = Recording::new();
        elementwise::unary_in_place(&mut recording, gpu.caps(), Unary::Neg, &x).unwrap();
        let got = common::run(gpu, &recording, &x, false);
        assert!(got.iter().zip(&xs).all(|(&g, &x)| g == -x), "an element was left out or visited twice");
    }
}

#[test]
fn a_shared_operand_is_broadcast_along_its_batch() {
    let Some(gpu) = common::device("a_shared_operand_is_broadcast_along_its_batch", false) else { return };
    let xs = Random::new(4).floats(15);
    let x = common::tensor(gpu, &[3, 5], &xs).shared(4);
    let out = common::poisoned(gpu, &[4, 3, 5]);
    let mut recording = Recording::new();
    elementwise::binary(&mut recording, gpu.caps(), Binary::Add, &x, &x, &out).unwrap();
    let got = common::run(gpu, &recording, &out, false);
    assert!(got.iter().enumerate().all(|(i, &g)| g == 2.0 * xs[i % 15]), "{got:?}");
}

#[test]
fn broken_elementwise_kernels_are_noticed() {
    let Some(gpu) = common::device("broken_elementwise_kernels_are_noticed", false) else { return };
    let shapes: [&[usize]; 3] = [&[2, 3, 5, 7], &[2, 1, 5, 1], &[3, 1, 7]];
    for (from, to) in [
        ("= ${EXPR};", "= (${EXPR}) * 1.000001;"),
        ("at.z * p.stride_x.z", "at.y * p.stride_x.z"),
        ("r1 % p.shape.y", "r1 % p.shape.x"),
        ("row < p.rows", "row + 1u < p.rows"),
        ("q < quads", "q + 1u < quads"),
        ("select(out[to], value,", "select(value, out[to],"),
        ("vec4<f32>(v.x), v, stride != 0u", "v, vec4<f32>(v.x), stride != 0u"),
    ] {
        for op in [Binary::Sub, Binary::Div] {
            let f = fixture(gpu, op, shapes);
            let raw = common::run_raw(gpu, &broken(&f.recording, "elementwise", from, to), &f.out);
            let got: Vec<f32> = common::places(&f.out).into_iter().map(|i| f32::from_bits(raw[i])).collect();
            assert!(common::compare(&got, &oracle(op, &f, shapes)).is_err(), "'{to}' went unseen in {op:?}");
        }
    }
}

#[test]
fn operands_that_do_not_broadcast_are_refused() {
    let Some(gpu) = common::device("operands_that_do_not_broadcast_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let add = |x: &[usize], y: &[usize], out: &[usize]| {
        elementwise::binary(&mut Recording::new(), gpu.caps(), Binary::Add, &t(x), &t(y), &t(out))
    };
    assert!(add(&[2, 3], &[3], &[2, 3]).is_ok(), "this one fits");
    for (x, y, out) in
        [(&[2, 3][..], &[2][..], &[2, 3][..]), (&[4], &[4], &[1]), (&[2, 2], &[2, 2], &[2]), (&[1; 5], &[1], &[1; 5])]
    {
        assert_eq!(add(x, y, out).unwrap_err().kind(), wavehull::ErrorKind::Internal, "{x:?} {y:?} {out:?}");
    }
    let x = t(&[8]);
    let alias = elementwise::unary(&mut Recording::new(), gpu.caps(), Unary::Neg, &x, &x);
    assert!(alias.is_err(), "in place has a kernel of its own");
}
