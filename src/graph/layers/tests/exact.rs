//! Which numbers layers have, and how many layers there are.

use super::*;
use crate::graph::testing::{Random, Sketch, gemm};
use crate::graph::{Op, ValueId};

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
    let layers = Layers::from_graph(&graph).unwrap();
    let [first, second] = &layers.layers[..] else { panic!("{} layers", layers.layers.len()) };
    assert_eq!(activations(&layers), [Activation::Relu, Activation::None]);
    assert!(first.edges[0].rel > 2f32.powi(-26) && first.edges[0].rel < 2f32.powi(-24) * 1.001);
    assert!(first.bias_abs.iter().all(|&e| e > 0.0 && e < 1e-6));
    assert!(second.edges[0].rel == 0.0 && second.bias_abs.iter().all(|&e| e == 0.0));
    assert_encloses(&graph, &layers, &mut random);
    // Exact check: the products below have at most 48 bits, and their differences fewer.
    let file = graph.values.iter().find(|v| v.shape == [7, 9]).unwrap().constant.as_ref().unwrap();
    let std = f64::from(0.3081f32);
    for (&w, &real) in dense(first).iter().zip(file.iter()) {
        let distance = (f64::from(w) * std - f64::from(real)).abs();
        let allowed = f64::from(first.edges[0].rel) * (f64::from(w) * std).abs();
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
        let mut layers = Layers::from_graph(&graph).unwrap();
        let bias_abs = std::mem::replace(&mut layers.layers[0].bias_abs, vec![0.0; 7]);
        outside[0] += usize::from(miss(&graph, &layers, &[0.0; 9]).0 > 0.0);
        layers.layers[0].bias_abs = bias_abs;
        layers.layers[0].edges[0].rel = 0.0;
        // Far from the origin the weights' errors outweigh the bias's.
        let far: Vec<f64> = input.iter().map(|x| x * 1e4).collect();
        outside[1] += usize::from(miss(&graph, &layers, &far).0 > 0.0);
    }
    assert!(outside.iter().all(|&n| n >= 10), "seen {outside:?} times in 20");
}

fn assert_ones(layer: &Layer, len: usize) {
    match &layer.edges[..] {
        [Edge { map: Map::Diagonal(factors), .. }] => assert_eq!(*factors, vec![1.0; len]),
        edges => panic!("layer '{}' has the edges {edges:?}", layer.name),
    }
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
    let layers = Layers::from_graph(&sketch.graph).unwrap();
    assert!(is_exact(&layers));
    let constant = |id: ValueId| sketch.graph.value(id).constant.clone().unwrap();
    let [first, second] = &layers.layers[..] else { panic!("{} layers", layers.layers.len()) };
    assert_eq!(dense(first).t().into_dyn(), constant(w1).view());
    assert_eq!(first.bias, constant(b1).as_slice().unwrap());
    assert_eq!(dense(second).view().into_dyn(), constant(w2).view());
    assert!(second.bias.iter().all(|&b| b == 0.0));
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
    let layers = Layers::from_graph(&sketch.graph).unwrap();
    assert_eq!(activations(&layers), [Activation::Relu, Activation::None, Activation::Relu]);
    assert_ones(&layers.layers[0], 3);
    assert!(is_exact(&layers));
    assert_encloses(&sketch.graph, &layers, &mut random);
}

#[test]
fn a_network_that_only_reshapes_is_the_identity() {
    let mut sketch = Sketch::new(&[2, 2]);
    let input = sketch.graph.input;
    sketch.reshape(input, &[4]);
    let layers = Layers::from_graph(&sketch.graph).unwrap();
    assert_eq!(layers.layers.len(), 1);
    assert_ones(&layers.layers[0], 4);
    assert!(is_exact(&layers) && layers.layers[0].activation == Activation::None);
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
    let layers = Layers::from_graph(&sketch.graph).unwrap();
    assert!(is_exact(&layers));
    assert_eq!(dense(&layers.layers[0]), ndarray::arr2(&[[-0.2, -0.6], [0.0, 0.0]]));
    assert_eq!(layers.layers[0].bias, [0.5, 0.5]);
}

#[test]
fn constants_computed_without_rounding_to_f32_are_shifts_with_errors() {
    let mut random = Random::new(8);
    let mut sketch = Sketch::new(&[2]);
    let input = sketch.graph.input;
    let (a, b) = (sketch.constant(&[2], &[1.0, 2.0]), sketch.constant(&[1], &[3.0]));
    let third = sketch.node(Op::Div, &[a, b]);
    sketch.node(Op::Add, &[input, third]);
    let layers = Layers::from_graph(&sketch.graph).unwrap();
    assert_eq!(layers.layers[0].edges[0].rel, 0.0);
    assert!(layers.layers[0].bias_abs.iter().all(|&e| e > 0.0 && e < 1e-7));
    assert_encloses(&sketch.graph, &layers, &mut random);
    sketch.node(Op::MatMul, &[input, third]);
    let layers = Layers::from_graph(&sketch.graph).unwrap();
    assert!(layers.layers[0].edges[0].rel > 0.0 && layers.layers[0].edges[0].rel < 1e-7);
    assert_encloses(&sketch.graph, &layers, &mut random);
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
        let layers = Layers::from_graph(&sketch.graph).unwrap();
        assert_eq!(activations(&layers), [Activation::None, Activation::Relu]);
        assert!(layers.layers.iter().all(|l| l.edges[0].rel < 1e-7));
        assert_encloses(&sketch.graph, &layers, &mut random);
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
    let layers = Layers::from_graph(&sketch.graph).unwrap();
    assert_eq!(layers.layers[0].bias[0], 0.0);
    assert_eq!(layers.layers[0].bias_abs[0], f32::MIN_POSITIVE, "1e-60 is not 0");
}
