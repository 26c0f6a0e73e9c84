//! Random networks.

use super::*;
use crate::graph::shape;
use crate::graph::testing::{Random, Sketch};
use crate::graph::{Op, ValueId, Window};
use proptest::prelude::*;

/// One random elementwise operation with a constant, on either side.
fn elementwise(sketch: &mut Sketch, value: ValueId, random: &mut Random) -> ValueId {
    let shape = sketch.graph.value(value).shape.clone();
    // A scalar, the last dimension, a channel or the whole shape.
    let shape = match (random.below(4), &shape[..]) {
        (0, _) => vec![],
        (1, &[.., last]) => vec![last],
        (2, &[1, channels, _, _]) => vec![channels, 1, 1],
        _ => shape,
    };
    let data: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            let x = random.unit() as f32;
            x + 0.4f32.copysign(x)
        })
        .collect();
    let constant = sketch.constant(&shape, &data);
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

/// Up to three: small numbers of rows and columns.
fn pair(random: &mut Random, from: usize) -> [usize; 2] {
    [from + random.below(3 - from), from + random.below(3 - from)]
}

fn window(random: &mut Random, groups: usize) -> Window {
    let [strides, dilations] = [pair(random, 1), pair(random, 1)];
    Window { strides, begin: pair(random, 0), end: pair(random, 0), dilations, groups }
}

/// A random operator with windows, or one that its operand's shape `[1, C, H, W]` allows.
fn windowed(sketch: &mut Sketch, value: ValueId, random: &mut Random) -> Option<ValueId> {
    let [_, channels, height, width] = sketch.graph.value(value).shape[..] else { return None };
    let divisors: Vec<usize> = (1..=channels).filter(|d| channels % d == 0).collect();
    let groups = if random.below(2) == 0 { 1 } else { divisors[random.below(divisors.len())] };
    let window = window(random, groups);
    let pool = Window { groups: 1, ..window };
    let kernel = [1 + random.below(3), 1 + random.below(3)];
    let out = groups * (1 + random.below(2));
    let (op, weight) = match random.below(7) {
        0 | 1 => (Op::Conv(window), vec![out, channels / groups, kernel[0], kernel[1]]),
        2 => (Op::Conv(Window { begin: [0; 2], end: [0; 2], groups: 1, ..window }), vec![out, channels, height, width]),
        3 => {
            let output_padding = pair(random, 0);
            (Op::ConvTranspose { window, output_padding }, vec![channels, out / groups, kernel[0], kernel[1]])
        }
        4 | 5 => (Op::MaxPool { kernel, window: pool }, vec![]),
        _ => (Op::AveragePool { kernel, window: pool, count_include_pad: random.below(2) == 0 }, vec![]),
    };
    let mut operands = vec![value];
    let mut shapes = vec![sketch.graph.value(value).shape.clone()];
    if !weight.is_empty() {
        let biased = random.below(2) == 0;
        shapes.push(weight);
        shapes.extend(biased.then_some(vec![out]));
    }
    let fits = shape::infer(&op, &shapes.iter().map(Vec::as_slice).collect::<Vec<_>>(), &[]);
    if fits.ok()?.iter().product::<usize>() > 400 {
        return None;
    }
    operands.extend(shapes[1..].iter().map(|shape| sketch.random(shape, random)));
    Some(sketch.node(op, &operands))
}

/// A random operator that moves values.
fn moved(sketch: &mut Sketch, value: ValueId, random: &mut Random) -> ValueId {
    let shape = sketch.graph.value(value).shape.clone();
    let len = shape.iter().product::<usize>();
    match random.below(4) {
        0 => {
            let pads = [0, 0].into_iter().chain([random.below(2), random.below(3)]).map(|n| [n, random.below(2) * n]);
            let pads = pads.take(shape.len()).collect::<Vec<_>>();
            let pads = if pads.len() == shape.len() { pads } else { vec![[1, 0]; shape.len()] };
            sketch.node(Op::Pad { pads, value: [0.0, -0.3][random.below(2)] }, &[value])
        }
        1 => {
            let mut perm: Vec<usize> = (0..shape.len()).collect();
            (0..shape.len()).for_each(|i| perm.swap(i, random.below(shape.len())));
            sketch.node(Op::Transpose { perm }, &[value])
        }
        2 => {
            let count = 4 * (1 + random.below(3));
            let indices: Vec<usize> = (0..count).map(|_| random.below(len)).collect();
            sketch.select(value, &indices, &[1, count / 4, 2, 2])
        }
        _ => {
            let height = (1..=len).rev().find(|d| len % d == 0 && d * d <= len).unwrap_or(1);
            sketch.reshape(value, &[1, 1, height, len / height])
        }
    }
}

/// Joins a value with an earlier one, or with itself, or with a constant.
fn joined(sketch: &mut Sketch, values: &[ValueId], value: ValueId, random: &mut Random) -> ValueId {
    let other = values[random.below(values.len())];
    let shapes = [value, other].map(|id| sketch.graph.value(id).shape.clone());
    let operands = if random.below(2) == 0 { [value, other] } else { [other, value] };
    let op = [Op::Add, Op::Sub, Op::Concat { axis: random.below(2) }][random.below(3)].clone();
    let shapes = if operands[0] == value { [&shapes[0], &shapes[1]] } else { [&shapes[1], &shapes[0]] };
    match shape::infer(&op, &shapes.map(Vec::as_slice), &[]) {
        Ok(out) if out.iter().product::<usize>() <= 400 => sketch.node(op, &operands),
        _ => {
            let shape = sketch.graph.value(value).shape.clone();
            let constant = sketch.random(&shape, random);
            match shape.len().checked_sub(1) {
                Some(axis) => sketch.node(Op::Concat { axis }, &[constant, value, value]),
                None => sketch.node(Op::Sub, &[constant, value]),
            }
        }
    }
}

fn normalisation(sketch: &mut Sketch, value: ValueId, random: &mut Random) -> Option<ValueId> {
    let [1, channels, ..] = sketch.graph.value(value).shape[..] else { return None };
    let [scale, bias, mean] = [0; 3].map(|_| sketch.random(&[channels], random));
    let variance: Vec<f32> = (0..channels).map(|_| 0.3 + random.unit().abs() as f32).collect();
    let variance = sketch.constant(&[channels], &variance);
    Some(sketch.node(Op::BatchNormalization { epsilon: 1e-5 }, &[value, scale, bias, mean, variance]))
}

/// A network of any shape: each node reads one of the latest values, some read two.
fn random_graph(random: &mut Random) -> Graph {
    let mut sketch = Sketch::new(&[[1, 2, 5, 4], [1, 4, 3, 3]][random.below(2)]);
    let mut values = vec![sketch.graph.input];
    for _ in 0..4 + random.below(8) {
        let value = values[values.len().saturating_sub(1 + random.below(2) * random.below(2))];
        let activation = [Op::Relu, Op::Relu, Op::Sigmoid, Op::Tanh][random.below(4)].clone();
        let next = match random.below(9) {
            0..3 => windowed(&mut sketch, value, random),
            3 => normalisation(&mut sketch, value, random),
            4 => Some(moved(&mut sketch, value, random)),
            5 => Some(joined(&mut sketch, &values, value, random)),
            6 => Some(elementwise(&mut sketch, value, random)),
            7 if random.below(4) == 0 => Some(dense(&mut sketch, value, random)),
            _ => Some(sketch.node(activation, &[value])),
        };
        let small = |id: &ValueId| sketch.graph.value(*id).shape.iter().product::<usize>() <= 400;
        values.extend(next.filter(small));
    }
    // Two of the values, so that some of what is behind them is shared.
    let pick = [values[values.len() - 1], values[values.len() - 1 - random.below(values.len().min(3))]];
    let [a, b] = pick.map(|id| {
        let len = sketch.graph.value(id).shape.iter().product();
        sketch.reshape(id, &[len])
    });
    sketch.node(Op::Concat { axis: 0 }, &[a, b]);
    sketch.graph
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]
    #[test]
    fn layers_enclose_their_networks(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let graph = random_graph(&mut random);
        let layers = Layers::from_graph(&graph).unwrap();
        assert_encloses(&graph, &layers, &mut random);
    }

    #[test]
    fn chains_enclose_their_networks(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let graph = random_chain(&mut random);
        let layers = Layers::from_graph(&graph).unwrap();
        assert_encloses(&graph, &layers, &mut random);
    }
}
