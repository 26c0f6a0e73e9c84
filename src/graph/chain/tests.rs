use super::*;
use crate::error::ErrorKind;
use crate::graph::testing::{Random, Sketch, gemm};
use proptest::prelude::*;

/// An interval with the magnitude of the numbers that went into it.
#[derive(Clone, Copy)]
struct Interval {
    lo: f64,
    hi: f64,
    magnitude: f64,
}

/// Pays for the rounding of `intervals`: sums of fewer than 100 terms, relative to the sum of their magnitudes.
const ROUNDING: f64 = 1e-13;

/// Interval evaluation of a chain that believes nothing but its declared errors.
fn intervals(chain: &Chain, input: &[f64]) -> Vec<Interval> {
    let point = |&x: &f64| Interval { lo: x, hi: x, magnitude: x.abs() };
    let mut state: Vec<Interval> = input.iter().map(point).collect();
    for layer in &chain.layers {
        let rel = f64::from(layer.weight_rel);
        let row = |(i, row): (usize, ndarray::ArrayView1<'_, f32>)| {
            let bias = f64::from(layer.bias[i]);
            let error = f64::from(layer.bias_abs[i]);
            let mut out = Interval { lo: bias - error, hi: bias + error, magnitude: bias.abs() };
            for (&w, y) in row.iter().zip(&state) {
                let w = f64::from(w);
                let ends = [w - rel * w.abs(), w + rel * w.abs()];
                let products = ends.map(|w| [w * y.lo, w * y.hi]).concat();
                out.lo += products.iter().copied().fold(f64::INFINITY, f64::min);
                out.hi += products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                out.magnitude += w.abs() * y.magnitude;
            }
            out.lo -= ROUNDING * out.magnitude;
            out.hi += ROUNDING * out.magnitude;
            if layer.relu {
                (out.lo, out.hi) = (out.lo.max(0.0), out.hi.max(0.0));
            }
            out
        };
        state = layer.weight.outer_iter().enumerate().map(row).collect();
    }
    state
}

/// The largest distance by which the network's outputs lie outside the chain's intervals (0 if enclosed), and the
/// largest width of an interval, both relative to its magnitude.
fn miss(graph: &Graph, chain: &Chain, input: &[f64]) -> (f64, f64) {
    let output = graph.eval_f64_bounded(input).unwrap();
    let intervals = intervals(chain, input);
    assert_eq!(output.len(), intervals.len(), "output lengths");
    let mut worst = (0f64, 0f64);
    for (&(value, bound), Interval { lo, hi, magnitude }) in output.iter().zip(intervals) {
        let outside = (lo - (value + bound)).max(value - bound - hi);
        worst.0 = worst.0.max(outside / magnitude);
        worst.1 = worst.1.max((hi - lo) / magnitude);
    }
    worst
}

fn assert_encloses(graph: &Graph, chain: &Chain, random: &mut Random) {
    assert_eq!(chain.input_len(), graph.input_len());
    assert_eq!(chain.output_len(), graph.output_len());
    for _ in 0..4 {
        let input = random.numbers(graph.input_len());
        let (outside, width) = miss(graph, chain, &input);
        assert!(outside <= 0.0, "the network lies {outside:e} outside its chain");
        assert!(width < 1e-4, "intervals as wide as {width} say nothing");
    }
}

fn is_exact(chain: &Chain) -> bool {
    let exact = |l: &Affine| l.weight_rel == 0.0 && l.bias_abs.iter().all(|&e| e == 0.0);
    chain.layers.iter().all(exact)
}

/// One random elementwise operation with a constant, on either side.
fn elementwise(sketch: &mut Sketch, value: ValueId, random: &mut Random) -> ValueId {
    let shape = sketch.graph.value(value).shape.clone();
    // A scalar, the last dimension, or the whole shape.
    let kind = random.below(3);
    let from = [shape.len(), shape.len().saturating_sub(1), 0][kind];
    let shape = &shape[from..];
    let data: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            let x = random.unit() as f32;
            x + 0.4f32.copysign(x)
        })
        .collect();
    let constant = sketch.constant(shape, &data);
    match random.below(6) {
        0 => sketch.node(Op::Add, &[constant, value]),
        1 => sketch.node(Op::Sub, &[value, constant]),
        2 => sketch.node(Op::Sub, &[constant, value]),
        3 => sketch.node(Op::Mul, &[constant, value]),
        4 => sketch.node(Op::Mul, &[value, constant]),
        _ => sketch.node(Op::Div, &[value, constant]),
    }
}

/// One random dense operation on a value of any shape.
fn dense(sketch: &mut Sketch, value: ValueId, random: &mut Random) -> ValueId {
    let len = sketch.graph.value(value).shape.iter().product::<usize>();
    let n = 1 + random.below(5);
    let divisors: Vec<usize> = (1..=len).filter(|d| len % d == 0).collect();
    let m = divisors[random.below(divisors.len())];
    let k = len / m;
    match random.below(6) {
        0 => {
            let x = sketch.reshape(value, &[1, m, k]);
            let right = sketch.random(&[k, n], random);
            sketch.node(Op::MatMul, &[x, right])
        }
        1 => {
            let x = sketch.reshape(value, &[k, m]);
            let left = sketch.random(&[1, n, k], random);
            sketch.node(Op::MatMul, &[left, x])
        }
        2 => {
            let x = sketch.reshape(value, &[len]);
            let shape: &[usize] = if n == 1 { &[len] } else { &[len, n] };
            let right = sketch.random(shape, random);
            sketch.node(Op::MatMul, &[x, right])
        }
        kind => {
            let (trans_a, trans_b) = (random.below(2) == 1, random.below(2) == 1);
            let dims = |rows, columns, transposed: bool| {
                if transposed { [columns, rows] } else { [rows, columns] }
            };
            let alpha = [1.0, 0.7][random.below(2)];
            let op = Op::Gemm { alpha, beta: 1.3, trans_a, trans_b };
            let (x, constant, out) = if kind == 3 {
                (dims(k, m, trans_b), dims(n, k, trans_a), [n, m])
            } else {
                (dims(m, k, trans_a), dims(k, n, trans_b), [m, n])
            };
            let x = sketch.reshape(value, &x);
            let constant = sketch.random(&constant, random);
            let c = sketch.random(&out[1..], random);
            let operands = if kind == 3 { [constant, x, c] } else { [x, constant, c] };
            sketch.node(op, &operands)
        }
    }
}

fn random_chain(random: &mut Random) -> Graph {
    let mut sketch = Sketch::new(&[1, 2, 3]);
    let mut value = sketch.graph.input;
    for _ in 0..3 + random.below(6) {
        value = match random.below(4) {
            0 => sketch.node(Op::Relu, &[value]),
            1 => dense(&mut sketch, value, random),
            _ => elementwise(&mut sketch, value, random),
        };
    }
    dense(&mut sketch, value, random);
    sketch.graph
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]
    #[test]
    fn chains_enclose_their_networks(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let graph = random_chain(&mut random);
        let chain = Chain::from_graph(&graph).unwrap();
        assert_encloses(&graph, &chain, &mut random);
    }
}

/// (x - 0.1307) / 0.3081 and two layers, as in the networks of ERAN.
fn normalised(random: &mut Random) -> Graph {
    let mut sketch = Sketch::new(&[1, 1, 3, 3]);
    let input = sketch.graph.input;
    let mean = sketch.constant(&[1], &[0.1307]);
    let std = sketch.constant(&[1, 1, 1, 1], &[0.3081]);
    let shifted = sketch.node(Op::Sub, &[input, mean]);
    let scaled = sketch.node(Op::Div, &[shifted, std]);
    let flat = sketch.reshape(scaled, &[1, 9]);
    let (w1, b1) = (sketch.random(&[7, 9], random), sketch.random(&[7], random));
    let hidden = sketch.node(gemm(false, true), &[flat, w1, b1]);
    let hidden = sketch.node(Op::Relu, &[hidden]);
    let (w2, b2) = (sketch.random(&[2, 7], random), sketch.random(&[2], random));
    sketch.node(gemm(false, true), &[hidden, w2, b2]);
    sketch.graph
}

#[test]
fn normalisation_folds_into_the_first_layer() {
    let mut random = Random::new(5);
    let graph = normalised(&mut random);
    let chain = Chain::from_graph(&graph).unwrap();
    let [first, second] = &chain.layers[..] else { panic!("{} layers", chain.layers.len()) };
    assert!(first.relu && !second.relu);
    assert!(first.weight_rel > 2f32.powi(-26) && first.weight_rel < 2f32.powi(-24) * 1.001);
    assert!(first.bias_abs.iter().all(|&e| e > 0.0 && e < 1e-6));
    assert!(second.weight_rel == 0.0 && second.bias_abs.iter().all(|&e| e == 0.0));
    assert_encloses(&graph, &chain, &mut random);
    // Exact check: the products below have at most 48 bits, and their differences fewer.
    let file = graph.values.iter().find(|v| v.shape == [7, 9]).unwrap().constant.as_ref().unwrap();
    let std = f64::from(0.3081f32);
    for (&w, &real) in first.weight.iter().zip(file.iter()) {
        let distance = (f64::from(w) * std - f64::from(real)).abs();
        let allowed = f64::from(first.weight_rel) * (f64::from(w) * std).abs();
        assert!(distance <= allowed, "{w} is {distance:e} off, {allowed:e} declared");
    }
}

#[test]
fn without_the_declared_errors_the_network_lies_outside() {
    let mut random = Random::new(9);
    let mut outside = [0; 2];
    for _ in 0..20 {
        let graph = normalised(&mut random);
        let input = random.numbers(9);
        let mut chain = Chain::from_graph(&graph).unwrap();
        let bias_abs = std::mem::replace(&mut chain.layers[0].bias_abs, Array1::zeros(7));
        outside[0] += usize::from(miss(&graph, &chain, &[0.0; 9]).0 > 0.0);
        chain.layers[0].bias_abs = bias_abs;
        chain.layers[0].weight_rel = 0.0;
        // Far from the origin the weights' errors outweigh the bias's.
        let far: Vec<f64> = input.iter().map(|x| x * 1e4).collect();
        outside[1] += usize::from(miss(&graph, &chain, &far).0 > 0.0);
    }
    assert!(outside.iter().all(|&n| n >= 10), "seen {outside:?} times in 20");
}

#[test]
fn plain_networks_keep_the_numbers_of_the_file() {
    let mut random = Random::new(2);
    let mut sketch = Sketch::new(&[1, 1, 1, 5]);
    let input = sketch.graph.input;
    let zeros = sketch.constant(&[1, 1, 1, 5], &[0.0; 5]);
    let shifted = sketch.node(Op::Sub, &[input, zeros]);
    let flat = sketch.reshape(shifted, &[1, 5]);
    let (w1, b1) = (sketch.random(&[5, 4], &mut random), sketch.random(&[4], &mut random));
    let product = sketch.node(Op::MatMul, &[flat, w1]);
    let sum = sketch.node(Op::Add, &[b1, product]);
    let hidden = sketch.node(Op::Relu, &[sum]);
    let column = sketch.reshape(hidden, &[4, 1]);
    let w2 = sketch.random(&[3, 4], &mut random);
    sketch.node(Op::MatMul, &[w2, column]);
    let chain = Chain::from_graph(&sketch.graph).unwrap();
    assert!(is_exact(&chain));
    let constant = |id: ValueId| sketch.graph.value(id).constant.clone().unwrap();
    let [first, second] = &chain.layers[..] else { panic!("{} layers", chain.layers.len()) };
    assert_eq!(first.weight.t().into_dyn(), constant(w1).view());
    assert_eq!(first.bias.view().into_dyn(), constant(b1).view());
    assert_eq!(second.weight.view().into_dyn(), constant(w2).view());
    assert!(second.bias.iter().all(|&b| b == 0.0));
    assert!(chain.layers.iter().all(|l| l.weight.is_standard_layout()));
}

#[test]
fn layers_end_at_relus_and_between_dense_layers() {
    let mut random = Random::new(4);
    let mut sketch = Sketch::new(&[3]);
    let input = sketch.graph.input;
    let once = sketch.node(Op::Relu, &[input]);
    let twice = sketch.node(Op::Relu, &[once]);
    let w = sketch.random(&[3, 3], &mut random);
    let a = sketch.node(Op::MatMul, &[twice, w]);
    let b = sketch.node(Op::MatMul, &[a, w]);
    sketch.node(Op::Relu, &[b]);
    let chain = Chain::from_graph(&sketch.graph).unwrap();
    let relus: Vec<bool> = chain.layers.iter().map(|l| l.relu).collect();
    assert_eq!(relus, [true, false, true]);
    assert_eq!(chain.layers[0].weight, Array2::<f32>::eye(3));
    assert!(is_exact(&chain));
    assert_encloses(&sketch.graph, &chain, &mut random);
}

#[test]
fn a_network_that_only_reshapes_is_the_identity() {
    let mut sketch = Sketch::new(&[2, 2]);
    let input = sketch.graph.input;
    sketch.reshape(input, &[4]);
    let chain = Chain::from_graph(&sketch.graph).unwrap();
    assert_eq!(chain.layers.len(), 1);
    assert_eq!(chain.layers[0].weight, Array2::<f32>::eye(4));
    assert!(!chain.layers[0].relu && is_exact(&chain));
}

#[test]
fn exact_scalings_stay_exact() {
    let mut sketch = Sketch::new(&[2]);
    let input = sketch.graph.input;
    let half = sketch.constant(&[], &[0.5]);
    let four = sketch.constant(&[2], &[4.0, 0.0]);
    let scaled = sketch.node(Op::Mul, &[input, half]);
    let w = sketch.constant(&[2, 2], &[0.1, 0.2, 0.3, 0.7]);
    let product = sketch.node(Op::MatMul, &[scaled, w]);
    let rows = sketch.node(Op::Mul, &[four, product]);
    sketch.node(Op::Sub, &[half, rows]);
    let chain = Chain::from_graph(&sketch.graph).unwrap();
    assert!(is_exact(&chain));
    assert_eq!(chain.layers[0].weight, ndarray::arr2(&[[-0.2, -0.6], [0.0, 0.0]]));
    assert_eq!(chain.layers[0].bias, ndarray::arr1(&[0.5, 0.5]));
}

#[test]
fn constants_computed_without_rounding_to_f32_are_shifts_with_errors() {
    let mut random = Random::new(8);
    let mut sketch = Sketch::new(&[2]);
    let input = sketch.graph.input;
    let (a, b) = (sketch.constant(&[2], &[1.0, 2.0]), sketch.constant(&[1], &[3.0]));
    let third = sketch.node(Op::Div, &[a, b]);
    sketch.node(Op::Add, &[input, third]);
    let chain = Chain::from_graph(&sketch.graph).unwrap();
    assert_eq!(chain.layers[0].weight_rel, 0.0);
    assert!(chain.layers[0].bias_abs.iter().all(|&e| e > 0.0 && e < 1e-7));
    assert_encloses(&sketch.graph, &chain, &mut random);
    sketch.node(Op::MatMul, &[input, third]);
    let refused = Chain::from_graph(&sketch.graph).unwrap_err().to_string();
    assert!(refused.contains("cannot hold exactly"), "{refused}");
}

#[test]
fn weights_that_would_underflow_leave_the_scaling_apart() {
    let mut random = Random::new(6);
    for before in [true, false] {
        let mut sketch = Sketch::new(&[2]);
        let input = sketch.graph.input;
        let std = sketch.constant(&[2], &[3.1, 7.3]);
        // Subnormal numbers of f32, as weight decay leaves them.
        let w = sketch.constant(&[2, 2], &[1e-40, 0.5, 3e-45, -0.25]);
        let b = sketch.constant(&[2], &[1.0, -0.5]);
        let x = if before { sketch.node(Op::Div, &[input, std]) } else { input };
        let product = sketch.node(Op::MatMul, &[x, w]);
        let y = if before { product } else { sketch.node(Op::Div, &[product, std]) };
        let sum = sketch.node(Op::Add, &[y, b]);
        sketch.node(Op::Relu, &[sum]);
        let chain = Chain::from_graph(&sketch.graph).unwrap();
        let relus: Vec<bool> = chain.layers.iter().map(|l| l.relu).collect();
        assert_eq!(relus, [false, true]);
        assert!(chain.layers.iter().all(|l| l.weight_rel < 1e-7));
        assert_encloses(&sketch.graph, &chain, &mut random);
    }
}

#[test]
fn biases_that_underflow_are_paid_for() {
    let mut sketch = Sketch::new(&[1]);
    let input = sketch.graph.input;
    let tiny = sketch.constant(&[1], &[1e-30]);
    let shifted = sketch.node(Op::Add, &[input, tiny]);
    let w = sketch.constant(&[1, 1], &[1e-30]);
    sketch.node(Op::MatMul, &[shifted, w]);
    let chain = Chain::from_graph(&sketch.graph).unwrap();
    assert_eq!(chain.layers[0].bias[0], 0.0);
    assert_eq!(chain.layers[0].bias_abs[0], f32::MIN_POSITIVE, "1e-60 is not 0");
}

fn refusal(sketch: &Sketch) -> String {
    let error = Chain::from_graph(&sketch.graph).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.help().is_some(), "{error}");
    error.to_string()
}

#[test]
fn what_is_no_chain_is_refused_by_name() {
    let mut random = Random::new(7);
    let mut residual = Sketch::new(&[2]);
    let input = residual.graph.input;
    let hidden = residual.node(Op::Relu, &[input]);
    residual.node(Op::Add, &[hidden, input]);
    assert!(refusal(&residual).contains("'n1' (Add) combines two computed values"));

    let mut inverse = Sketch::new(&[2]);
    let one = inverse.constant(&[1], &[1.0]);
    inverse.node(Op::Div, &[one, input]);
    assert!(refusal(&inverse).contains("'n0' (Div) divides by a computed value"));

    let mut wider = Sketch::new(&[2, 1]);
    let row = wider.random(&[1, 3], &mut random);
    wider.node(Op::Add, &[input, row]);
    assert!(refusal(&wider).contains("2 elements to shape [2, 3]"));

    let mut stack = Sketch::new(&[2]);
    let matrices = stack.random(&[3, 2, 2], &mut random);
    stack.node(Op::MatMul, &[matrices, input]);
    assert!(refusal(&stack).contains("several constant matrices"));

    let mut constant = Sketch::new(&[2]);
    let a = constant.random(&[2], &mut random);
    constant.node(Op::Relu, &[a]);
    assert!(refusal(&constant).contains("does not depend on its input"));

    let mut huge = Sketch::new(&[2]);
    let factor = huge.constant(&[1], &[1e30]);
    let once = huge.node(Op::Mul, &[input, factor]);
    huge.node(Op::Mul, &[once, factor]);
    assert!(refusal(&huge).contains("leaves the range of f32"));
}

#[test]
fn sizes_that_cannot_be_dense_are_refused() {
    let mut wide = Sketch::new(&[1 << 15]);
    let input = wide.graph.input;
    wide.node(Op::Relu, &[input]);
    let error = Chain::from_graph(&wide.graph).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
    let mut rows = Sketch::new(&[1 << 14, 2]);
    let w = rows.constant(&[2, 2], &[1.0; 4]);
    rows.node(Op::MatMul, &[input, w]);
    assert_eq!(Chain::from_graph(&rows.graph).unwrap_err().kind(), ErrorKind::TooBig);
}
