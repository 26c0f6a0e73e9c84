//! Every operator on a device against the f64 reference, in layouts of every kind.

use super::*;
use crate::graph::testing::{PLAIN, Random, Sketch, gemm};
use crate::graph::{Op, ValueId, Window};
use crate::{ErrorKind, Options};

/// A device, or a named skip; a missing one is a failure where `WAVEHULL_REQUIRE_GPU` is 1.
fn device(test: &str, checked: bool) -> Option<Gpu> {
    match Gpu::open(&Options { checked, ..Options::default() }) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            let required = std::env::var_os("WAVEHULL_REQUIRE_GPU").is_some_and(|v| v == "1");
            assert!(!required && error.kind() == ErrorKind::NoAdapter, "{test}: {error}");
            eprintln!("skipped: {test}: no adapter");
            None
        }
    }
}

fn samples(count: usize, length: usize) -> Array2<f32> {
    let mut random = Random::new((count * length) as u64);
    Array2::from_shape_simple_fn((count, length), || random.unit() as f32)
}

/// Bound on the distance from the reference, relative to the largest output (at least 1). The sums here have fewer than 220
/// terms below 1, most of them far fewer, and go through at most four operators: 1e-5 is 84 roundings of 2^-23, and an
/// element that is another's is off by 1e-2 and more.
const TOLERANCE: f64 = 1e-5;

/// The largest distance from the reference, relative to the largest output (at least 1).
fn distance(graph: &Graph, inputs: &Array2<f32>, outputs: &Array2<f32>) -> f64 {
    let mut worst: f64 = 0.0;
    for (x, y) in inputs.rows().into_iter().zip(outputs.rows()) {
        let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let exact = graph.eval_f64(&x).expect("the reference runs");
        assert_eq!(exact.len(), y.len());
        let scale = exact.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        for (&got, want) in y.iter().zip(exact) {
            let off = (f64::from(got) - want).abs() / scale;
            worst = if off.is_nan() { f64::INFINITY } else { worst.max(off) };
        }
    }
    worst
}

/// Runs a batch of three, compares it with the reference, one sample with itself alone, and sees that a wrong element would be seen.
fn check(gpu: &Gpu, name: &str, sketch: &Sketch) {
    let graph = &sketch.graph;
    let executor = Executor::new(gpu, graph).unwrap_or_else(|e| panic!("{name}: {e}"));
    let inputs = samples(3, graph.input_len());
    let outputs = executor.run(&inputs.view(), &Control::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let off = distance(graph, &inputs, &outputs);
    assert!(off <= TOLERANCE, "{name}: off by {off:e}");
    let alone = executor.run(&inputs.slice(ndarray::s![1..2, ..]), &Control::default()).expect(name);
    let bits = |row: ndarray::ArrayView1<'_, f32>| row.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(alone.row(0)), bits(outputs.row(1)), "{name}: alone and in a batch, bit for bit");
    let mut broken = outputs;
    let last = broken.ncols() - 1;
    broken[[2, last]] += 1e-2 * broken.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
    assert!(distance(graph, &inputs, &broken) > TOLERANCE, "{name}: a wrong element went unseen");
}

fn on_both(test: &str, cases: &[(&str, Sketch)]) {
    for checked in [false, true] {
        let Some(gpu) = device(test, checked) else { return };
        for (name, sketch) in cases {
            check(&gpu, name, sketch);
        }
    }
}

fn case(
    name: &'static str,
    input: &[usize],
    build: impl FnOnce(&mut Sketch, &mut Random, ValueId),
) -> (&'static str, Sketch) {
    let mut sketch = Sketch::new(input);
    build(&mut sketch, &mut Random::new(name.len() as u64), ValueId(0));
    (name, sketch)
}

fn conv(s: &mut Sketch, r: &mut Random, x: ValueId, weight: [usize; 4], window: Window) -> ValueId {
    let (w, b) = (s.random(&weight, r), s.random(&[weight[0]], r));
    s.node(Op::Conv(window), &[x, w, b])
}

const SAME: Window = Window { begin: [1; 2], end: [1; 2], ..PLAIN };

#[test]
fn convolutions_and_pools() {
    let odd = Window { strides: [2, 1], begin: [1, 0], end: [0, 2], dilations: [1, 2], groups: 1 };
    let cases = [
        case("conv and relu", &[1, 3, 7, 6], |s, r, x| {
            let y = conv(s, r, x, [5, 3, 3, 3], SAME);
            s.node(Op::Relu, &[y]);
        }),
        case("conv, asymmetric", &[1, 5, 9, 8], |s, r, x| {
            conv(s, r, x, [6, 5, 3, 2], odd);
        }),
        case("conv without a bias to one pixel", &[1, 2, 3, 3], |s, r, x| {
            let w = s.random(&[4, 2, 3, 3], r);
            s.node(Op::Conv(Window { strides: [usize::MAX / 4; 2], ..PLAIN }), &[x, w]);
        }),
        case("grouped and depthwise", &[1, 8, 5, 5], |s, r, x| {
            let y = conv(s, r, x, [12, 4, 3, 3], Window { groups: 2, ..SAME });
            let z = conv(s, r, y, [12, 1, 3, 3], Window { groups: 12, strides: [2; 2], ..SAME });
            conv(s, r, z, [6, 4, 1, 1], Window { groups: 3, ..PLAIN });
        }),
        case("transposed", &[1, 3, 4, 5], |s, r, x| {
            let (w, b) = (s.random(&[3, 2, 3, 3], r), s.random(&[2], r));
            let window = Window { strides: [2, 3], begin: [1, 0], end: [0, 1], dilations: [1, 2], groups: 1 };
            s.node(Op::ConvTranspose { window, output_padding: [1, 1] }, &[x, w, b]);
        }),
        case("transposed in groups", &[1, 4, 3, 3], |s, r, x| {
            let w = s.random(&[4, 3, 2, 2], r);
            let window = Window { strides: [2; 2], groups: 2, ..PLAIN };
            s.node(Op::ConvTranspose { window, output_padding: [0, 0] }, &[x, w]);
        }),
        case("pools", &[1, 5, 9, 9], |s, r, x| {
            let y = conv(s, r, x, [5, 5, 1, 1], PLAIN);
            let y = s.node(Op::MaxPool { kernel: [3, 2], window: Window { strides: [2, 1], ..SAME } }, &[y]);
            let inside = Op::AveragePool { kernel: [2, 3], window: SAME, count_include_pad: false };
            let y = s.node(inside, &[y]);
            s.node(Op::AveragePool { kernel: [2, 2], window: SAME, count_include_pad: true }, &[y]);
        }),
    ];
    on_both("convolutions_and_pools", &cases);
}

#[test]
fn residual_blocks_and_layouts_that_meet() {
    let statistics = |s: &mut Sketch, r: &mut Random, n: usize| {
        let [scale, bias, mean] = [0; 3].map(|_| s.random(&[n], r));
        let positive: Vec<f32> = (0..n).map(|_| 0.5 + r.unit().abs() as f32).collect();
        [scale, bias, mean, s.constant(&[n], &positive)]
    };
    let cases = [
        case("residual", &[1, 3, 6, 6], |s, r, x| {
            let a = conv(s, r, x, [6, 3, 3, 3], SAME);
            let [scale, bias, mean, variance] = statistics(s, r, 6);
            let a = s.node(Op::BatchNormalization { epsilon: 1e-3 }, &[a, scale, bias, mean, variance]);
            let a = s.node(Op::Relu, &[a]);
            let b = conv(s, r, a, [6, 6, 3, 3], SAME);
            let sum = s.node(Op::Add, &[b, a]);
            let sum = s.node(Op::Relu, &[sum]);
            let flat = s.reshape(sum, &[1, 216]);
            let (w, c) = (s.random(&[4, 216], r), s.random(&[4], r));
            s.node(gemm(false, true), &[flat, w, c]);
        }),
        case("a value read before and after its relu", &[1, 2, 4, 4], |s, r, x| {
            let a = conv(s, r, x, [3, 2, 3, 3], SAME);
            let b = s.node(Op::Relu, &[a]);
            s.node(Op::Sub, &[b, a]);
        }),
        case("an image and a flat value", &[1, 3, 4, 4], |s, r, x| {
            let a = conv(s, r, x, [3, 3, 1, 1], PLAIN);
            let sum = s.node(Op::Add, &[x, a]);
            let c = s.random(&[3, 1, 1], r);
            let scaled = s.node(Op::Mul, &[sum, c]);
            let full = s.random(&[1, 3, 4, 4], r);
            let moved = s.node(Op::Sub, &[full, scaled]);
            s.node(Op::Concat { axis: 1 }, &[moved, x, a]);
        }),
        case("channels last in the file", &[1, 5, 4, 3], |s, r, x| {
            let x = s.node(Op::Transpose { perm: vec![0, 3, 1, 2] }, &[x]);
            let x = s.node(Op::Pad { pads: vec![[0, 0], [0, 0], [2, 1], [0, 3]], value: -0.5 }, &[x]);
            let y = conv(s, r, x, [5, 3, 2, 2], PLAIN);
            let y = s.node(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[y]);
            s.node(Op::Pad { pads: vec![[0, 0], [0, 0], [0, 0], [1, 0]], value: 2.0 }, &[y]);
        }),
        case("select and concat", &[1, 2, 3, 5], |s, r, x| {
            let a = s.select(x, &[29, 0, 7, 7, 3, 11], &[1, 2, 3]);
            let b = s.select(x, &[1, 2, 3, 4], &[1, 2, 2]);
            let c = s.random(&[1, 2, 1], r);
            s.node(Op::Concat { axis: 2 }, &[a, c, b]);
        }),
        case("normalised rows", &[1, 5], |s, r, x| {
            let [scale, bias, mean, variance] = statistics(s, r, 5);
            s.node(Op::BatchNormalization { epsilon: 0.1 }, &[x, scale, bias, mean, variance]);
        }),
    ];
    on_both("residual_blocks_and_layouts_that_meet", &cases);
}

#[test]
fn smooth_functions_and_softmax() {
    let cases = [
        case("sigmoid", &[1, 70], |s, _, x| {
            let c = s.constant(&[], &[30.0]);
            let y = s.node(Op::Mul, &[x, c]);
            s.node(Op::Sigmoid, &[y]);
        }),
        case("tanh", &[1, 70], |s, _, x| {
            s.node(Op::Tanh, &[x]);
        }),
        case("softmax of rows", &[3, 67], |s, _, x| {
            s.node(Op::Softmax { axis: 1 }, &[x]);
        }),
        case("softmax of channels", &[1, 5, 3, 3], |s, r, x| {
            let y = conv(s, r, x, [5, 5, 1, 1], PLAIN);
            let y = s.node(Op::Softmax { axis: 1 }, &[y]);
            conv(s, r, y, [2, 5, 1, 1], PLAIN);
        }),
        case("softmax of images' rows", &[1, 2, 3, 6], |s, r, x| {
            let y = conv(s, r, x, [3, 2, 1, 1], PLAIN);
            s.node(Op::Softmax { axis: 3 }, &[y]);
        }),
    ];
    on_both("smooth_functions_and_softmax", &cases);
}

#[test]
fn operators_of_several_steps() {
    let cases = [
        case("leaky relu", &[1, 70], |s, _, x| {
            s.node(Op::LeakyRelu { alpha: 0.2 }, &[x]);
        }),
        case("gelu", &[1, 70], |s, _, x| {
            let c = s.constant(&[], &[6.0]);
            let y = s.node(Op::Mul, &[x, c]);
            s.node(Op::Gelu, &[y]);
        }),
        case("gelu and leaky relu of images", &[1, 3, 4, 5], |s, r, x| {
            let y = conv(s, r, x, [5, 3, 1, 1], PLAIN);
            let y = s.node(Op::Gelu, &[y]);
            let y = s.node(Op::LeakyRelu { alpha: -0.5 }, &[y]);
            conv(s, r, y, [2, 5, 1, 1], PLAIN);
        }),
        case("causal softmax", &[2, 7, 7], |s, _, x| {
            s.node(Op::CausalSoftmax, &[x]);
        }),
        case("causal softmax of whole vectors", &[1, 8, 8], |s, _, x| {
            let c = s.constant(&[], &[9.0]);
            let y = s.node(Op::Mul, &[x, c]);
            s.node(Op::CausalSoftmax, &[y]);
        }),
        case("dropout, and a relu behind it", &[1, 3, 4, 4], |s, r, x| {
            let y = conv(s, r, x, [5, 3, 1, 1], PLAIN);
            let y = s.node(Op::Dropout { rate: 0.5 }, &[y]);
            let y = s.node(Op::Relu, &[y]);
            s.node(Op::Dropout { rate: 0.5 }, &[y]);
        }),
        case("a value read under two names", &[1, 6], |s, r, x| {
            let w = s.random(&[6, 4], r);
            let y = s.node(Op::MatMul, &[x, w]);
            let same = s.reshape(y, &[4, 1]);
            let positive = s.node(Op::Relu, &[same]);
            let positive = s.reshape(positive, &[1, 4]);
            s.node(Op::Sub, &[y, positive]);
        }),
    ];
    on_both("operators_of_several_steps", &cases);
}

#[test]
fn products_of_every_kind() {
    let scaled = |trans_a, trans_b| Op::Gemm { alpha: 0.5, beta: -2.0, trans_a, trans_b };
    let cases = [
        case("rows of a value", &[3, 5], |s, r, x| {
            let w = s.random(&[5, 6], r);
            let y = s.node(Op::MatMul, &[x, w]);
            let y = s.node(Op::Relu, &[y]);
            let c = s.random(&[6], r);
            s.node(Op::Add, &[y, c]);
        }),
        case("a constant on the left", &[5, 3], |s, r, x| {
            let w = s.random(&[4, 5], r);
            s.node(Op::MatMul, &[w, x]);
        }),
        case("a value times its transpose", &[3, 5], |s, _, x| {
            let t = s.node(Op::Transpose { perm: vec![1, 0] }, &[x]);
            s.node(Op::MatMul, &[x, t]);
        }),
        case("stacks that broadcast", &[2, 1, 3, 5], |s, r, x| {
            let w = s.random(&[4, 5, 2], r);
            let y = s.node(Op::MatMul, &[x, w]);
            let v = s.random(&[2], r);
            s.node(Op::MatMul, &[y, v]);
        }),
        case("a stack of constants on the left", &[1, 5, 3], |s, r, x| {
            let w = s.random(&[2, 4, 5], r);
            s.node(Op::MatMul, &[w, x]);
        }),
        case("vectors", &[5], |s, r, x| {
            let w = s.random(&[5, 3], r);
            s.node(Op::MatMul, &[x, w]);
        }),
        case("gemm, weight transposed", &[1, 5], |s, r, x| {
            let (w, c) = (s.random(&[3, 5], r), s.random(&[1, 3], r));
            s.node(scaled(false, true), &[x, w, c]);
        }),
        case("gemm, value transposed, full third", &[5, 2], |s, r, x| {
            let (w, c) = (s.random(&[5, 3], r), s.random(&[2, 3], r));
            s.node(scaled(true, false), &[x, w, c]);
        }),
        case("gemm, column third", &[2, 5], |s, r, x| {
            let (w, c) = (s.random(&[5, 3], r), s.random(&[2, 1], r));
            s.node(scaled(false, false), &[x, w, c]);
        }),
        case("gemm, constant on the left", &[5, 3], |s, r, x| {
            let w = s.random(&[4, 5], r);
            s.node(scaled(false, false), &[w, x]);
        }),
        case("gemm of computed values", &[3, 3], |s, _, x| {
            let y = s.node(Op::Relu, &[x]);
            s.node(scaled(true, false), &[y, x, y]);
        }),
        case("gemm of computed values without a third", &[3, 3], |s, _, x| {
            s.node(scaled(false, true), &[x, x]);
        }),
    ];
    on_both("products_of_every_kind", &cases);
}

#[test]
fn elementwise_operators_broadcast() {
    let cases = [
        case("rows and columns", &[3, 4], |s, r, x| {
            let row = s.select(x, &[0, 1, 2, 3], &[1, 4]);
            let column = s.select(x, &[0, 4, 8], &[3, 1]);
            let y = s.node(Op::Mul, &[row, column]);
            let z = s.node(Op::Sub, &[y, x]);
            let c = s.random(&[2, 1, 1], r);
            s.node(Op::Add, &[c, z]);
        }),
        case("division both ways", &[1, 6], |s, _, x| {
            let two = s.constant(&[], &[2.0]);
            let shifted = s.node(Op::Add, &[x, two]);
            let y = s.node(Op::Div, &[two, shifted]);
            let z = s.node(Op::Div, &[x, shifted]);
            s.node(Op::Div, &[z, y]);
        }),
    ];
    on_both("elementwise_operators_broadcast", &cases);
}

#[test]
fn memory_of_dead_values_is_used_again() {
    let Some(gpu) = device("memory_of_dead_values_is_used_again", false) else { return };
    let mut sketch = Sketch::new(&[1, 4096]);
    let mut last = ValueId(0);
    for _ in 0..30 {
        last = sketch.node(Op::Tanh, &[last]);
    }
    let executor = Executor::new(&gpu, &sketch.graph).expect("it plans");
    let inputs = samples(16, 4096);
    gpu.reset_peak();
    let before = gpu.memory().live;
    let outputs = executor.run(&inputs.view(), &Control::default()).expect("it runs");
    assert!(distance(&sketch.graph, &inputs, &outputs) < TOLERANCE);
    let grown = gpu.memory().peak - before;
    assert!(grown <= 3 * 16 * 4096 * 4, "{grown} bytes for a chain that needs two values at a time");
}

#[test]
fn a_computed_weight_is_refused_by_name() {
    let Some(gpu) = device("a_computed_weight_is_refused_by_name", false) else { return };
    let mut sketch = Sketch::new(&[1, 1, 3, 3]);
    let w = sketch.node(Op::Relu, &[ValueId(0)]);
    sketch.node(Op::Conv(PLAIN), &[ValueId(0), w]);
    let error = Executor::new(&gpu, &sketch.graph).expect_err("a computed weight");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("n1") && error.help().is_some(), "{error}");
}

/// Every value of a network, whatever layout it is in on the device, and whatever it would have been fused with.
#[test]
fn tapped_values_are_those_of_the_reference() {
    let test = "tapped_values_are_those_of_the_reference";
    let mut random = Random::new(5);
    let mut sketch = Sketch::new(&[1, 3, 6, 5]);
    let weight = sketch.random(&[5, 3, 3, 3], &mut random);
    let bias = sketch.random(&[5], &mut random);
    let conv = sketch.node(Op::Conv(Window { begin: [1; 2], end: [1; 2], ..PLAIN }), &[ValueId(0), weight, bias]);
    let relu = sketch.node(Op::Relu, &[conv]);
    let pool = sketch.node(Op::MaxPool { kernel: [2; 2], window: Window { strides: [2; 2], ..PLAIN } }, &[relu]);
    let flat = sketch.reshape(pool, &[1, 30]);
    let matrix = sketch.random(&[7, 30], &mut random);
    let dense = sketch.node(gemm(false, true), &[flat, matrix]);
    let end = sketch.node(Op::Relu, &[dense]);
    // One of them twice, and in an order that is not that of computing.
    let taps = [end, conv, ValueId(0), pool, relu, weight, dense, flat, conv];
    let inputs = samples(3, 90);
    for checked in [false, true] {
        let Some(gpu) = device(test, checked) else { return };
        let executor = Executor::tapped(&gpu, &sketch.graph, &taps).expect("a plan");
        let values = executor.run_tapped(&inputs.view(), &Control::default()).expect("a run");
        assert_eq!(values.len(), taps.len());
        for (&id, values) in taps.iter().zip(&values) {
            let graph = Graph { output: id, ..sketch.graph.clone() };
            let off = distance(&graph, &inputs, values);
            assert!(off <= TOLERANCE, "value {}: off by {off:e}", id.0);
        }
        let plain = Executor::new(&gpu, &sketch.graph).expect("a plan");
        assert_eq!(plain.run(&inputs.view(), &Control::default()).expect("a run"), values[0]);
        assert_eq!(executor.run(&inputs.view(), &Control::default()).expect("a run"), values[0]);
    }
}
