//! Every operator against its formula, written out once more, on numbers that are exact; and bounds against points
//! inside them.

mod dense;
mod normal;

use super::{Scalar, Tensor};
use crate::graph::bounded::Bounded;
use crate::graph::testing::{PLAIN, Random, Sketch};
use crate::graph::{Op, ValueId, Window};

/// Multiples of 1/8 in -1..1: sums of a few products of them are exact.
fn eighths(n: usize, random: &mut Random) -> Vec<f64> {
    (0..n).map(|_| random.below(17) as f64 / 8.0 - 1.0).collect()
}

fn constant(sketch: &mut Sketch, shape: &[usize], random: &mut Random) -> (ValueId, Vec<f64>) {
    let data = eighths(shape.iter().product(), random);
    let narrow: Vec<f32> = data.iter().map(|&x| x as f32).collect();
    (sketch.constant(shape, &narrow), data)
}

/// A random window with its kernel.
fn window(random: &mut Random) -> (Window, [usize; 2]) {
    let mut pair = |from: usize, n: usize| [from + random.below(n), from + random.below(n)];
    let (kernel, dilations) = (pair(1, 3), pair(1, 2));
    let window = Window { strides: pair(1, 3), begin: pair(0, 3), end: pair(0, 3), dilations, ..PLAIN };
    (window, kernel)
}

/// The element that a tap of the window at `at` reads.
fn source(window: &Window, axis: usize, at: usize, tap: usize, len: usize) -> Option<usize> {
    let place = at * window.strides[axis] + tap * window.dilations[axis];
    place.checked_sub(window.begin[axis]).filter(|&place| place < len)
}

/// Row-major access to `[1, C, H, W]` or `[M, C, kH, kW]`.
fn at(shape: &[usize], index: [usize; 4]) -> usize {
    index.iter().zip(shape).fold(0, |flat, (i, dim)| flat * dim + i)
}

const X: [usize; 4] = [1, 4, 6, 5];

/// The convolution by its formula.
fn conv(window: &Window, x: &[f64], (w, shape): (&[f64], [usize; 4]), out: &[usize]) -> Vec<f64> {
    let per_group = out[1] / window.groups;
    let mut result = Vec::new();
    for place in 0..out.iter().product() {
        let (m, y, column) = (place / (out[2] * out[3]), place / out[3] % out[2], place % out[3]);
        let mut sum = 0.0;
        for c in 0..shape[1] {
            for i in 0..shape[2] {
                for j in 0..shape[3] {
                    let rows = source(window, 0, y, i, X[2]);
                    if let (Some(row), Some(column)) = (rows, source(window, 1, column, j, X[3])) {
                        let channel = m / per_group * shape[1] + c;
                        sum += w[at(&shape, [m, c, i, j])] * x[at(&X, [0, channel, row, column])];
                    }
                }
            }
        }
        result.push(sum);
    }
    result
}

#[test]
fn convolutions_follow_the_formula_and_transposed_ones_are_their_transposes() {
    let mut random = Random::new(17);
    let mut compared = 0;
    for round in 0..200 {
        let (mut window, kernel) = window(&mut random);
        window.groups = [1, 2, 4][round % 3];
        let shape = [8, 4 / window.groups, kernel[0], kernel[1]];
        let x = eighths(X.iter().product(), &mut random);
        let mut sketch = Sketch::new(&X);
        let input = sketch.graph.input;
        let (w, weight) = constant(&mut sketch, &shape, &mut random);
        let (b, bias) = constant(&mut sketch, &[8], &mut random);
        if crate::graph::shape::infer(&Op::Conv(window), &[&X, &shape], &[]).is_err() {
            continue;
        }
        let y = sketch.node(Op::Conv(window), &[input, w, b]);
        let out = sketch.graph.value(y).shape.clone();
        let product = conv(&window, &x, (&weight, shape), &out);
        let size = out[2] * out[3];
        let biased: Vec<f64> = product.iter().enumerate().map(|(i, sum)| sum + bias[i / size]).collect();
        assert_eq!(sketch.graph.eval_f64(&x).unwrap(), biased, "{window:?} {kernel:?}");
        let exact: Vec<(f64, f64)> = biased.iter().map(|&y| (y + 0.0, 0.0)).collect();
        assert_eq!(sketch.graph.eval_f64_bounded(&x).unwrap(), exact, "{window:?} {kernel:?}");

        // <W x, y> = <x, W' y>; output padding restores the rows that no window reached.
        let mut sketch = Sketch::new(&out);
        let (w, input) = (sketch.constant(&shape, &weight.iter().map(|&w| w as f32).collect::<Vec<_>>()), input);
        let span = |axis: usize| window.dilations[axis] * (kernel[axis] - 1) + 1;
        let grown = |axis: usize| (out[2 + axis] - 1) * window.strides[axis] + span(axis);
        let rest = |axis: usize| X[2 + axis] + window.begin[axis] + window.end[axis] - grown(axis);
        let op = Op::ConvTranspose { window, output_padding: [rest(0), rest(1)] };
        let back = sketch.node(op, &[input, w]);
        assert_eq!(sketch.graph.value(back).shape, X);
        let y = eighths(product.len(), &mut random);
        let back = sketch.graph.eval_f64(&y).unwrap();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert_eq!(dot(&product, &y), dot(&x, &back), "{window:?} {kernel:?}");
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn pools_follow_the_formula() {
    let mut random = Random::new(23);
    let mut compared = 0;
    for round in 0..200 {
        let (window, kernel) = window(&mut random);
        let x: Vec<f64> = eighths(X.iter().product(), &mut random);
        let count_include_pad = round % 2 == 0;
        let max = Op::MaxPool { kernel, window };
        let Ok(out) = crate::graph::shape::infer(&max, &[&X], &[]) else {
            continue;
        };
        let run = |op| {
            let mut sketch = Sketch::new(&X);
            let input = sketch.graph.input;
            sketch.node(op, &[input]);
            sketch.graph.eval_f64_bounded(&x).unwrap()
        };
        let (largest, mean) = (run(max), run(Op::AveragePool { kernel, window, count_include_pad }));
        for place in 0..out.iter().product() {
            let (c, y, column) = (place / (out[2] * out[3]), place / out[3] % out[2], place % out[3]);
            let taps = (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j)));
            let inside = |(i, j)| {
                let row = source(&window, 0, y, i, X[2])?;
                Some(x[at(&X, [0, c, row, source(&window, 1, column, j, X[3])?])])
            };
            let inside: Vec<f64> = taps.filter_map(inside).collect();
            assert_eq!(largest[place], (inside.iter().copied().fold(f64::MIN, f64::max), 0.0), "{window:?}");
            let count = if count_include_pad { kernel[0] * kernel[1] } else { inside.len() };
            let expected = inside.iter().sum::<f64>() / count as f64;
            assert_eq!(mean[place].0, expected, "{window:?} {kernel:?} {count_include_pad}");
            assert!(mean[place].1 <= 1e-16);
        }
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn layout_operators_move_elements() {
    let x: Vec<f64> = (0..12).map(f64::from).collect();
    let run = |build: &dyn Fn(&mut Sketch, ValueId) -> ValueId| {
        let mut sketch = Sketch::new(&[2, 3, 2]);
        let input = sketch.graph.input;
        build(&mut sketch, input);
        sketch.graph.eval_f64(&x).unwrap()
    };
    let turned = run(&|s, x| s.node(Op::Transpose { perm: vec![1, 2, 0] }, &[x]));
    assert_eq!(turned, [0.0, 6.0, 1.0, 7.0, 2.0, 8.0, 3.0, 9.0, 4.0, 10.0, 5.0, 11.0]);
    let padded = run(&|s, x| s.node(Op::Pad { pads: vec![[0, 0], [1, 0], [0, 1]], value: -1.0 }, &[x]));
    let rows = [[-1.0, -1.0, -1.0], [0.0, 1.0, -1.0], [2.0, 3.0, -1.0], [4.0, 5.0, -1.0]];
    assert_eq!(padded[..12], rows.concat());
    let joined = run(&|s, x| {
        let y = s.node(Op::Relu, &[x]);
        let tail = s.select(y, &[11, 0], &[2, 1, 1]);
        let tail = s.node(Op::Concat { axis: 2 }, &[tail, tail]);
        s.node(Op::Concat { axis: 1 }, &[x, tail])
    });
    assert_eq!(joined, [0., 1., 2., 3., 4., 5., 11., 11., 6., 7., 8., 9., 10., 11., 0., 0.]);
    let picked = run(&|s, x| s.select(x, &[5, 5, 0], &[3]));
    assert_eq!(picked, [5.0, 5.0, 0.0]);
}

#[test]
fn smooth_operators_have_their_values() {
    let mut sketch = Sketch::new(&[1, 2, 2]);
    let input = sketch.graph.input;
    sketch.node(Op::Softmax { axis: 1 }, &[input]);
    let third = 2f64.ln();
    let output = sketch.graph.eval_f64(&[1000.0, -3.0, 1000.0 + third, -3.0]).unwrap();
    for (y, expected) in output.iter().zip([1.0 / 3.0, 0.5, 2.0 / 3.0, 0.5]) {
        // 1000 + ln 2 is rounded to 1e-13.
        assert!((y - expected).abs() < 1e-13, "{y} or {expected}");
    }
    let mut sketch = Sketch::new(&[1, 2, 2]);
    let input = sketch.graph.input;
    let parameters = [[3.0, 1.0], [0.5, 0.0], [1.0, 2.0], [3.5, 15.5]].map(|p| sketch.constant(&[2], &p));
    let operands: Vec<ValueId> = std::iter::once(input).chain(parameters).collect();
    sketch.node(Op::BatchNormalization { epsilon: 0.5 }, &operands);
    let output = sketch.graph.eval_f64_bounded(&[1.0, 3.0, 2.0, 10.0]).unwrap();
    assert_eq!(output, [(0.5, 0.0), (3.5, 0.0), (0.0, 0.0), (2.0, 0.0)]);
}

/// A function on numbers with bounds, and the same on plain ones.
type Twins = (&'static str, fn(Bounded) -> Bounded, fn(f64) -> f64);

#[test]
fn bounds_of_uncertain_numbers_enclose_their_members() {
    let mut random = Random::new(29);
    let operators: [Twins; 4] = [
        ("sigmoid", Bounded::sigmoid, Scalar::sigmoid),
        ("tanh", Bounded::tanh, f64::tanh),
        ("exp", Bounded::exp, f64::exp),
        ("sqrt", Bounded::sqrt, f64::sqrt),
    ];
    for (name, bounded, plain) in operators {
        let mut close = 0;
        for _ in 0..2000 {
            let (value, error) = (4.0 * random.unit(), random.unit().abs().powi(4));
            let value = if name == "sqrt" { value.abs() + 1.0 } else { value };
            let result = bounded(Bounded { value, error });
            assert_eq!(result.value, plain(value), "{name}");
            for member in [value - error, value + error, value + error * random.unit()] {
                let distance = (plain(member) - result.value).abs();
                assert!(distance <= result.error + 1e-15, "{name}({member}) is off by {distance}, {result:?}");
                close += usize::from(distance > result.error / 2.0);
            }
        }
        assert!(close > 50, "{name}: only {close} of 6000 come near their bounds");
    }
}

#[test]
fn bounds_of_softmax_enclose_its_members() {
    let mut random = Random::new(31);
    for _ in 0..500 {
        let values = random.numbers(4);
        let errors: Vec<f64> = random.numbers(4).iter().map(|e| e.abs() * 0.2).collect();
        let bounded = values.iter().zip(&errors).map(|(&value, &error)| Bounded { value, error });
        let bounded = super::normal::softmax(&Tensor { shape: vec![4], data: bounded.collect() }, 0);
        let member = values.iter().zip(&errors).map(|(v, e)| if random.below(2) == 0 { v - e } else { v + e });
        let member = super::normal::softmax(&Tensor { shape: vec![4], data: member.collect() }, 0);
        let plain = super::normal::softmax(&Tensor { shape: vec![4], data: values }, 0);
        for ((bounded, member), plain) in bounded.iter().zip(member).zip(plain) {
            assert_eq!(bounded.value, plain);
            assert!((member - plain).abs() <= bounded.error + 1e-15);
        }
    }
}
