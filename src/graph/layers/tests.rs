//! Tests of the lowering: intervals that believe only the declared errors enclose the network.

mod exact;
#[cfg(feature = "onnx")]
mod files;
mod maps;
mod random;
mod refusals;

use super::*;
use crate::graph::Graph;
use crate::graph::testing::Random;

/// An interval with the magnitude of the numbers that went into it.
#[derive(Clone, Copy, Default)]
struct Interval {
    lo: f64,
    hi: f64,
    magnitude: f64,
}

/// Pays for the rounding of `intervals`: sums of fewer than 200 terms in every layer, relative to the sum of their
/// magnitudes, and the few ulps of exp and tanh.
const ROUNDING: f64 = 1e-13;

/// Interval evaluation of layers that believes nothing but their declared errors.
fn intervals(layers: &Layers, input: &[f64]) -> Vec<Interval> {
    let input: Vec<Interval> = input.iter().map(|&x| Interval { lo: x, hi: x, magnitude: x.abs() }).collect();
    let mut values: Vec<Vec<Interval>> = Vec::new();
    for layer in &layers.layers {
        let start = |(&b, &error): (&f32, &f32)| {
            let (b, error) = (f64::from(b), f64::from(error));
            Interval { lo: b - error, hi: b + error, magnitude: b.abs() }
        };
        let mut z: Vec<Interval> = layer.bias.iter().zip(&layer.bias_abs).map(start).collect();
        for edge in &layer.edges {
            let y = match edge.source {
                Source::Input => &input,
                Source::Layer(index) => &values[index],
            };
            let rel = f64::from(edge.rel);
            edge.map.for_each_weight(layers.extent(edge.source), layer.extent, |row, column, weight| {
                let (w, y) = (f64::from(weight), y[column]);
                let products = [w - rel * w.abs(), w + rel * w.abs()].map(|w| [w * y.lo, w * y.hi]).concat();
                z[row].lo += products.iter().copied().fold(f64::INFINITY, f64::min);
                z[row].hi += products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                z[row].magnitude += w.abs() * y.magnitude;
            });
        }
        values.push(z.into_iter().map(|z| activated(layer.activation, z)).collect());
    }
    values.pop().unwrap()
}

/// An interval behind an activation; all of them are monotone with slopes of at most 1.
fn activated(activation: Activation, z: Interval) -> Interval {
    let slack = ROUNDING * z.magnitude;
    let magnitude = match activation {
        Activation::None | Activation::Relu => z.magnitude,
        // Values of at most 1, whose own rounding is relative to that.
        Activation::Sigmoid | Activation::Tanh => z.magnitude.max(1.0),
    };
    Interval { lo: activation.apply(z.lo - slack), hi: activation.apply(z.hi + slack), magnitude }
}

/// The largest distance by which the network's outputs lie outside the layers' intervals (0 if enclosed), and the
/// largest width of an interval, both relative to its magnitude.
fn miss(graph: &Graph, layers: &Layers, input: &[f64]) -> (f64, f64) {
    let output = graph.eval_f64_bounded(input).unwrap();
    let intervals = intervals(layers, input);
    assert_eq!(output.len(), intervals.len(), "output lengths");
    let mut worst = (0f64, 0f64);
    for (&(value, bound), Interval { lo, hi, magnitude }) in output.iter().zip(intervals) {
        // Numbers are of the order of 1; a sum that cancels to 0 has only its errors left.
        let magnitude = magnitude.max(1.0);
        let outside = (lo - (value + bound)).max(value - bound - hi);
        worst.0 = worst.0.max(outside / magnitude);
        worst.1 = worst.1.max((hi - lo) / magnitude);
    }
    worst
}

fn assert_encloses(graph: &Graph, layers: &Layers, random: &mut Random) {
    assert_well_formed(layers);
    assert_eq!(layers.input_len(), graph.input_len());
    assert_eq!(layers.output_len(), graph.output_len());
    for _ in 0..4 {
        let input = random.numbers(graph.input_len());
        let (outside, width) = miss(graph, layers, &input);
        assert!(outside <= 0.0, "the network lies {outside:e} outside its layers");
        assert!(width < 1e-4, "intervals as wide as {width} say nothing");
    }
}

/// Everything that the types promise.
fn assert_well_formed(layers: &Layers) {
    for (index, layer) in layers.layers.iter().enumerate() {
        let (name, len) = (&layer.name, layer.extent.len());
        assert!(!layer.edges.is_empty(), "{name} has no edges");
        assert_eq!([layer.bias.len(), layer.bias_abs.len()], [len; 2], "{name}");
        assert!(layer.bias_abs.iter().all(|e| *e == 0.0 || e.is_normal() && *e > 0.0), "{name}");
        for edge in &layer.edges {
            assert!(edge.source < Source::Layer(index), "{name} reads {:?}", edge.source);
            assert!(edge.rel == 0.0 || edge.rel.is_normal() && edge.rel > 0.0, "{name}");
            assert_fits(&edge.map, layers.extent(edge.source), layer.extent, name);
        }
    }
}

fn assert_fits(map: &Map, from: Extent, to: Extent, name: &str) {
    match map {
        Map::Dense(matrix) => {
            assert_eq!(matrix.dim(), (to.len(), from.len()), "{name}");
            assert!(matrix.is_standard_layout(), "{name}");
        }
        Map::Conv(conv) => {
            assert_eq!(conv.weight.shape()[..2], [to.channels, from.channels], "{name}");
            assert!(conv.weight.is_standard_layout(), "{name}");
        }
        Map::Sparse(sparse) => {
            assert_eq!(sparse.starts.len(), to.len() + 1, "{name}");
            assert_eq!(sparse.starts.last(), Some(&sparse.columns.len()), "{name}");
            assert_eq!(sparse.columns.len(), sparse.weights.len(), "{name}");
            for ends in sparse.starts.windows(2) {
                let row = &sparse.columns[ends[0]..ends[1]];
                assert!(row.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {row:?}");
                assert!(row.iter().all(|&column| (column as usize) < from.len()), "{name}: {row:?}");
            }
        }
        Map::Diagonal(factors) => assert_eq!([factors.len(), from.len()], [to.len(); 2], "{name}"),
    }
}

fn is_exact(layers: &Layers) -> bool {
    let exact = |l: &Layer| l.edges.iter().all(|e| e.rel == 0.0) && l.bias_abs.iter().all(|&e| e == 0.0);
    layers.layers.iter().all(exact)
}

fn activations(layers: &Layers) -> Vec<Activation> {
    layers.layers.iter().map(|layer| layer.activation).collect()
}

/// The matrix of a layer's only edge.
fn dense(layer: &Layer) -> &Array2<f32> {
    match &layer.edges[..] {
        [Edge { map: Map::Dense(matrix), .. }] => matrix,
        edges => panic!("layer '{}' has the edges {edges:?}", layer.name),
    }
}
