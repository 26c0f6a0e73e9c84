//! Which maps operators become.

use super::*;
use crate::graph::testing::{PLAIN, Random, Sketch, gemm};
use crate::graph::{Op, ValueId, Window};

fn constant(sketch: &Sketch, id: ValueId) -> Vec<f32> {
    sketch.graph.value(id).constant.as_ref().unwrap().iter().copied().collect()
}

/// Lowers a sketch, checks the layers against it and returns them.
fn lowered(sketch: &Sketch, random: &mut Random) -> Layers {
    let layers = Layers::from_graph(&sketch.graph).unwrap();
    assert_encloses(&sketch.graph, &layers, random);
    let input = random.numbers(sketch.graph.input_len());
    let (have, want) = (layers.eval_f64(&input), sketch.graph.eval_f64(&input).unwrap());
    for (have, want) in have.iter().zip(want) {
        assert!((have - want).abs() <= 1e-5 * (1.0 + want.abs()), "{have} is not {want}");
    }
    layers
}

fn only(layer: &Layer) -> &Map {
    assert_eq!(layer.edges.len(), 1, "edges of '{}'", layer.name);
    &layer.edges[0].map
}

fn conv(layer: &Layer) -> &Convolution {
    let Map::Conv(conv) = only(layer) else { panic!("'{}' is no convolution", layer.name) };
    conv
}

const SAME: Window = Window { begin: [1; 2], end: [1; 2], ..PLAIN };

#[test]
fn a_residual_block_is_two_layers_with_the_files_numbers() {
    let mut random = Random::new(3);
    let mut sketch = Sketch::new(&[1, 2, 4, 4]);
    let input = sketch.graph.input;
    let [w1, w2, w3] = [0; 3].map(|_| sketch.random(&[2, 2, 3, 3], &mut random));
    let [b1, b2] = [0; 2].map(|_| sketch.random(&[2], &mut random));
    let stem = sketch.node(Op::Conv(SAME), &[input, w1, b1]);
    let stem = sketch.node(Op::Relu, &[stem]);
    let hidden = sketch.node(Op::Conv(SAME), &[stem, w2, b2]);
    let hidden = sketch.node(Op::Relu, &[hidden]);
    let branch = sketch.node(Op::Conv(SAME), &[hidden, w3]);
    let sum = sketch.node(Op::Add, &[branch, stem]);
    sketch.node(Op::Relu, &[sum]);
    let layers = lowered(&sketch, &mut random);
    assert!(is_exact(&layers));
    assert_eq!(activations(&layers), [Activation::Relu; 3]);
    let image = Extent { channels: 2, height: 4, width: 4 };
    assert!(layers.input == image && layers.layers.iter().all(|layer| layer.extent == image));
    assert_eq!(conv(&layers.layers[0]).weight.as_slice().unwrap(), constant(&sketch, w1));
    let bias: Vec<f32> = constant(&sketch, b1).into_iter().flat_map(|b| [b; 16]).collect();
    assert_eq!(layers.layers[0].bias, bias);
    let [Edge { source: a, map: Map::Conv(last), .. }, Edge { source: b, map: Map::Diagonal(ones), .. }] =
        &layers.layers[2].edges[..]
    else {
        panic!("{:?}", layers.layers[2].edges)
    };
    assert_eq!([*a, *b], [Source::Layer(1), Source::Layer(0)]);
    assert_eq!(last.weight.as_slice().unwrap(), constant(&sketch, w3));
    assert!(ones.iter().all(|&one| one == 1.0));
}

#[test]
fn a_linear_value_with_two_readers_is_one_layer() {
    let mut random = Random::new(4);
    let mut sketch = Sketch::new(&[1, 1, 4, 4]);
    let input = sketch.graph.input;
    let [w1, w2] = [0; 2].map(|_| sketch.random(&[1, 1, 3, 3], &mut random));
    let shared = sketch.node(Op::Conv(SAME), &[input, w1]);
    let hidden = sketch.node(Op::Relu, &[shared]);
    let branch = sketch.node(Op::Conv(SAME), &[hidden, w2]);
    sketch.node(Op::Add, &[branch, shared]);
    let layers = lowered(&sketch, &mut random);
    assert_eq!(activations(&layers), [Activation::None, Activation::Relu, Activation::None]);
    assert_eq!(
        layers.layers[2].edges.iter().map(|e| e.source).collect::<Vec<_>>(),
        [Source::Layer(1), Source::Layer(0)]
    );
}

#[test]
fn normalisation_folds_into_convolutions_on_both_sides() {
    let mut random = Random::new(5);
    let mut sketch = Sketch::new(&[1, 2, 4, 4]);
    let input = sketch.graph.input;
    let mean = sketch.random(&[2, 1, 1], &mut random);
    let std = sketch.constant(&[2, 1, 1], &[0.2, 0.3]);
    let x = sketch.node(Op::Sub, &[input, mean]);
    let x = sketch.node(Op::Div, &[x, std]);
    // Padding counts as 0 behind the normalisation, so the bias differs along the border.
    let w = sketch.random(&[3, 2, 3, 3], &mut random);
    let x = sketch.node(Op::Conv(SAME), &[x, w]);
    let parameters = [0; 3].map(|_| sketch.random(&[3], &mut random));
    let variance = sketch.constant(&[3], &[0.5, 1.0, 2.0]);
    let [scale, bias, mean] = parameters;
    let x = sketch.node(Op::BatchNormalization { epsilon: 1e-5 }, &[x, scale, bias, mean, variance]);
    sketch.node(Op::Relu, &[x]);
    let layers = lowered(&sketch, &mut random);
    let [layer] = &layers.layers[..] else { panic!("{} layers", layers.layers.len()) };
    assert!(conv(layer).pad == [1, 1] && layer.edges[0].rel > 0.0 && layer.edges[0].rel < 1e-7);
    assert_ne!(layer.bias[0], layer.bias[5], "a corner and the inside");
}

#[test]
fn what_differs_within_a_channel_stays_in_front_of_a_convolution() {
    let mut random = Random::new(6);
    let mut sketch = Sketch::new(&[1, 1, 3, 3]);
    let input = sketch.graph.input;
    let factors = sketch.random(&[3, 3], &mut random);
    let x = sketch.node(Op::Mul, &[input, factors]);
    let w = sketch.random(&[1, 1, 2, 2], &mut random);
    sketch.node(Op::Conv(PLAIN), &[x, w]);
    let layers = lowered(&sketch, &mut random);
    assert_eq!(activations(&layers), [Activation::None; 2]);
    assert!(matches!(only(&layers.layers[0]), Map::Diagonal(_)));
    conv(&layers.layers[1]);
}

#[test]
fn zeros_round_an_image_become_padding_of_the_convolution() {
    let mut random = Random::new(7);
    // Another number than 0 is a bias on top.
    for value in [0.0, 0.5] {
        let mut sketch = Sketch::new(&[1, 2, 4, 3]);
        let input = sketch.graph.input;
        let pads = vec![[0, 0], [0, 0], [1, 2], [2, 0]];
        let x = sketch.node(Op::Pad { pads, value }, &[input]);
        let w = sketch.random(&[1, 2, 3, 2], &mut random);
        sketch.node(Op::Conv(Window { strides: [2, 1], ..PLAIN }), &[x, w]);
        let layers = lowered(&sketch, &mut random);
        assert_eq!(layers.layers.len(), 1, "{value}");
        let conv = conv(&layers.layers[0]);
        assert_eq!((conv.pad, conv.stride), ([1, 2], [2, 1]));
        assert_eq!(conv.weight.as_slice().unwrap(), constant(&sketch, w));
    }
}

#[test]
fn a_cut_image_is_no_padded_one() {
    let mut random = Random::new(8);
    let mut sketch = Sketch::new(&[1, 1, 4, 4]);
    let input = sketch.graph.input;
    // A row of zeros above, the last row cut off: as high as before, but the row must not come back.
    let x = sketch.node(Op::Pad { pads: vec![[0, 0], [0, 0], [1, 0], [0, 0]], value: 0.0 }, &[input]);
    let x = sketch.select(x, &(0..16).collect::<Vec<_>>(), &[1, 1, 4, 4]);
    let w = sketch.random(&[1, 1, 3, 3], &mut random);
    sketch.node(Op::Conv(SAME), &[x, w]);
    let layers = lowered(&sketch, &mut random);
    assert_eq!(layers.layers.len(), 2);
}

#[test]
fn a_convolution_with_one_window_is_dense() {
    let mut random = Random::new(9);
    let mut sketch = Sketch::new(&[1, 2, 3, 2]);
    let input = sketch.graph.input;
    let w = sketch.random(&[4, 2, 3, 2], &mut random);
    sketch.node(Op::Conv(PLAIN), &[input, w]);
    let layers = lowered(&sketch, &mut random);
    assert_eq!(dense(&layers.layers[0]).as_slice().unwrap(), constant(&sketch, w));
}

#[test]
fn a_transposed_image_in_front_of_a_dense_layer_moves_its_columns() {
    let mut random = Random::new(10);
    let mut sketch = Sketch::new(&[1, 2, 3, 2]);
    let input = sketch.graph.input;
    let x = sketch.node(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[input]);
    let x = sketch.reshape(x, &[1, 12]);
    let w = sketch.random(&[3, 12], &mut random);
    sketch.node(gemm(false, true), &[x, w]);
    let layers = lowered(&sketch, &mut random);
    assert!(layers.layers.len() == 1 && is_exact(&layers));
    let weights = constant(&sketch, w);
    // Element (c, y, x) of the input is element (y, x, c) of what the layer reads.
    let expected = |j: usize, at: usize| weights[j * 12 + at % 6 * 2 + at / 6];
    assert!(dense(&layers.layers[0]).indexed_iter().all(|((j, at), &w)| w == expected(j, at)));
}

#[test]
fn max_pools_are_trees_of_relus_and_exact() {
    let mut random = Random::new(11);
    let mut sketch = Sketch::new(&[1, 2, 5, 5]);
    let input = sketch.graph.input;
    let window = Window { strides: [2; 2], begin: [1; 2], end: [1; 2], ..PLAIN };
    let x = sketch.node(Op::MaxPool { kernel: [3, 3], window }, &[input]);
    sketch.node(Op::Relu, &[x]);
    let layers = lowered(&sketch, &mut random);
    assert!(is_exact(&layers));
    // Windows of up to 9 elements: four levels, and the ReLU behind the pool.
    assert_eq!(activations(&layers), [Activation::Relu; 5]);
    assert_eq!(layers.layers[4].edges.len(), 5);
    // Corners have 4 elements, edges 6, the centre 9: 3, 5 and 8 pairs.
    let pairs: usize = layers.layers[..4].iter().map(|layer| layer.extent.len()).sum();
    assert_eq!(pairs, 2 * (4 * 3 + 4 * 5 + 8));
    let point: Vec<f64> = (0..50).map(|i| f64::from(i * 37 % 50) / 8.0 - 3.0).collect();
    assert_eq!(layers.eval_f64(&point), sketch.graph.eval_f64(&point).unwrap());
}

#[test]
fn pools_of_single_elements_cost_no_layer() {
    let mut random = Random::new(12);
    let mut sketch = Sketch::new(&[1, 1, 4, 4]);
    let input = sketch.graph.input;
    let window = Window { strides: [2; 2], ..PLAIN };
    let x = sketch.node(Op::MaxPool { kernel: [1, 1], window }, &[input]);
    let x = sketch.node(Op::AveragePool { kernel: [1, 1], window: PLAIN, count_include_pad: false }, &[x]);
    sketch.node(Op::Relu, &[x]);
    let layers = lowered(&sketch, &mut random);
    assert!(layers.layers.len() == 1 && is_exact(&layers));
}

#[test]
fn two_extents_of_one_value_are_kept_apart() {
    let mut random = Random::new(13);
    let mut sketch = Sketch::new(&[1, 2, 4, 2]);
    let input = sketch.graph.input;
    let w1 = sketch.random(&[1, 2, 2, 2], &mut random);
    let a = sketch.node(Op::Conv(PLAIN), &[input, w1]);
    let other = sketch.reshape(input, &[1, 1, 4, 4]);
    let w2 = sketch.random(&[1, 1, 2, 2], &mut random);
    let b = sketch.node(Op::Conv(PLAIN), &[other, w2]);
    let [a, b] = [(a, 3), (b, 9)].map(|(id, len)| sketch.reshape(id, &[1, len]));
    sketch.node(Op::Concat { axis: 1 }, &[a, b]);
    let layers = lowered(&sketch, &mut random);
    let copies = layers.layers.iter().filter(|layer| matches!(layer.edges[0].map, Map::Diagonal(_)));
    assert_eq!(copies.count(), 1);
}
