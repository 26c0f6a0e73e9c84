//! Networks and properties to verify, and plain CROWN in f64 to check the answers by.

use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn};
use std::io::Read as _;

use super::oracle::Random;
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Layers, Node, Op, Source, Value, ValueId};
use crate::verify::{InputBox, Property, Query, Row};

const IMAGES: &[u8] = include_bytes!("../../data/mnist10k/test-images-idx3-ubyte.gz");
const ROBUST: &[u8] = include_bytes!("../../data/mnist-robust.onnx");
/// Bytes before the first picture of an IDX file.
const HEADER: usize = 16;

/// A fully connected ReLU network with weights of He et al. (ICCV 2015, equation 10) and small biases.
pub(super) fn random_network(widths: &[usize], seed: u64) -> Graph {
    let mut random = Random::new(seed);
    let input = Value { name: "x".into(), shape: vec![1, widths.first().copied().unwrap_or(0)], constant: None };
    let mut graph =
        Graph { name: "random".into(), values: vec![input], nodes: vec![], input: ValueId(0), output: ValueId(0) };
    for (layer, pair) in widths.windows(2).enumerate() {
        let (n_in, n_out) = (pair[0], pair[1]);
        let scale = (2.0 / n_in as f64).sqrt();
        let weight = (0..n_in * n_out).map(|_| (scale * random.normal()) as f32).collect();
        let bias = (0..n_out).map(|_| (0.1 * random.normal()) as f32).collect();
        let weight = constant(&mut graph, format!("w{layer}"), &[n_out, n_in], weight);
        let bias = constant(&mut graph, format!("b{layer}"), &[n_out], bias);
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        let last = graph.output;
        node(&mut graph, gemm, vec![last, weight, bias], n_out);
        if layer + 2 < widths.len() {
            let last = graph.output;
            node(&mut graph, Op::Relu, vec![last], n_out);
        }
    }
    graph
}

fn constant(graph: &mut Graph, name: String, shape: &[usize], data: Vec<f32>) -> ValueId {
    let data = ArrayD::from_shape_vec(IxDyn(shape), data).unwrap_or_default();
    graph.values.push(Value { name, shape: shape.to_vec(), constant: Some(Arc::new(data)) });
    ValueId(graph.values.len() - 1)
}

/// Adds a node whose result becomes the network's output.
fn node(graph: &mut Graph, op: Op, inputs: Vec<ValueId>, width: usize) {
    let name = format!("{}_{}", op.name(), graph.nodes.len());
    graph.values.push(Value { name: name.clone(), shape: vec![1, width], constant: None });
    let output = ValueId(graph.values.len() - 1);
    graph.nodes.push(Node { name, op, inputs, output });
    graph.output = output;
}

/// The shipped robust network.
///
/// # Errors
/// None, unless the build is broken.
pub(super) fn robust_network() -> Result<Graph> {
    crate::graph::onnx::parse(ROBUST)
}

/// The first shipped test digits, pixels in [0, 1].
pub(super) fn digits(count: usize) -> Result<Vec<Vec<f64>>> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(IMAGES)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::internal("the shipped digits are damaged").with_source(e))?;
    let pixels = bytes.get(HEADER..).unwrap_or_default();
    Ok(pixels.chunks_exact(784).take(count).map(|p| p.iter().map(|&v| f64::from(v) / 255.0).collect()).collect())
}

/// Random points of the unit cube.
pub(super) fn points(count: usize, width: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut random = Random::new(seed);
    (0..count).map(|_| (0..width).map(|_| random.unit()).collect()).collect()
}

/// Within `radius` of a point, cut to the unit cube, the network's largest output stays the largest.
pub(super) fn robustness(graph: &Graph, centre: &[f64], radius: f64) -> Result<Property> {
    let y = graph.eval_f64(centre)?;
    let class = (0..y.len()).max_by(|&a, &b| y[a].total_cmp(&y[b])).unwrap_or(0);
    let lo: Vec<f64> = centre.iter().map(|v| (v - radius).max(0.0)).collect();
    let hi: Vec<f64> = centre.iter().map(|v| (v + radius).min(1.0)).collect();
    let beats = |other: usize| {
        let mut coefficients = vec![(class, 1.0), (other, -1.0)];
        coefficients.sort_by_key(|&(output, _)| output);
        vec![Row { coefficients, constant: 0.0, slop: 0.0, coefficient_rel: 0.0, strict: false }]
    };
    let unsafe_if = (0..y.len()).filter(|&other| other != class).map(beats).collect();
    let input = InputBox { lo_out: lo.clone(), hi_out: hi.clone(), lo, hi };
    Ok(Property { inputs: centre.len(), outputs: y.len(), queries: vec![Query { input, unsafe_if }] })
}

/// The two lines of every neuron of a layer: `lower * z <= relu(z) <= upper * z + offset`.
struct Lines {
    lower: Array1<f64>,
    upper: Array1<f64>,
    offset: Array1<f64>,
}

impl Lines {
    /// The lines of CROWN (Zhang et al., NeurIPS 2018), the lower slope by area, from bounds before the ReLU.
    fn new(low: &Array1<f64>, high: &Array1<f64>, relu: bool) -> Self {
        let slope = |i: usize| match (low[i], high[i]) {
            _ if !relu => (1.0, 1.0, 0.0),
            (l, _) if l >= 0.0 => (1.0, 1.0, 0.0),
            (_, h) if h <= 0.0 => (0.0, 0.0, 0.0),
            (l, h) => (if h > -l { 1.0 } else { 0.0 }, h / (h - l), -l * h / (h - l)),
        };
        let all: Vec<(f64, f64, f64)> = (0..low.len()).map(slope).collect();
        let pick = |part: fn(&(f64, f64, f64)) -> f64| all.iter().map(part).collect();
        Self { lower: pick(|t| t.0), upper: pick(|t| t.1), offset: pick(|t| t.2) }
    }
}

/// The weight, the bias and whether a ReLU follows, of each layer of a chain.
fn matrices(net: &Layers) -> Result<Vec<(Array2<f64>, Array1<f64>, bool)>> {
    let mut matrices = Vec::new();
    for (index, layer) in net.layers.iter().enumerate() {
        let below = index.checked_sub(1).map_or(Source::Input, Source::Layer);
        let ([edge], Activation::None | Activation::Relu) = (&layer.edges[..], layer.activation) else {
            return Err(Error::internal(format!("layer '{}' is no part of a chain of ReLU layers", layer.name)));
        };
        if edge.source != below {
            return Err(Error::internal(format!("layer '{}' reads {:?}", layer.name, edge.source)));
        }
        let (from, to) = (net.extent(edge.source), layer.extent);
        let mut weight = Array2::zeros((to.len(), from.len()));
        edge.map.for_each_weight(from, to, |row, column, w| weight[[row, column]] += f64::from(w));
        let bias = layer.bias.iter().map(|&b| f64::from(b)).collect();
        matrices.push((weight, bias, layer.activation == Activation::Relu));
    }
    Ok(matrices)
}

/// Lower bounds of the rows of a property over its first query, by plain CROWN in f64: every neuron of every layer
/// back-substituted to the input. A bound up to f64's rounding; the smallest of them is the margin.
///
/// # Errors
/// Those of [`Layers::from_graph`], and `Internal` for a network that is no chain of ReLU layers.
pub(super) fn crown_margin(graph: &Graph, property: &Property) -> Result<f64> {
    let layers = matrices(&Layers::from_graph(graph)?)?;
    let query = property.queries.first().ok_or_else(|| Error::internal("a property without a query"))?;
    let (lo, hi) = (Array1::from(query.input.lo.clone()), Array1::from(query.input.hi.clone()));
    let mut lines: Vec<Lines> = Vec::new();
    for (k, (weight, _, relu)) in layers.iter().enumerate() {
        let identity = Array2::eye(weight.nrows());
        let low = lower_bounds(&layers, &lines, k, identity.clone(), (&lo, &hi));
        let high = -lower_bounds(&layers, &lines, k, -identity, (&lo, &hi));
        lines.push(Lines::new(&low, &high, *relu));
    }
    let rows: Vec<&Row> = query.unsafe_if.iter().flatten().collect();
    let mut dense = Array2::zeros((rows.len(), property.outputs));
    for (i, row) in rows.iter().enumerate() {
        for &(j, c) in &row.coefficients {
            dense[[i, j]] = c;
        }
    }
    let bounds = lower_bounds(&layers, &lines, layers.len().saturating_sub(1), dense, (&lo, &hi));
    Ok(bounds.iter().zip(&rows).map(|(bound, row)| bound + row.constant).fold(f64::INFINITY, f64::min))
}

/// Lower bounds of `rows . z`, z the values of layer k before its ReLU.
fn lower_bounds(
    layers: &[(Array2<f64>, Array1<f64>, bool)],
    lines: &[Lines],
    k: usize,
    rows: Array2<f64>,
    (lo, hi): (&Array1<f64>, &Array1<f64>),
) -> Array1<f64> {
    let mut a = rows;
    let mut constant = Array1::zeros(a.nrows());
    for j in (0..=k).rev() {
        let (weight, bias, _) = &layers[j];
        constant += &a.dot(bias);
        a = a.dot(weight);
        let Some(line) = j.checked_sub(1).map(|below| &lines[below]) else { break };
        for (mut row, constant) in a.axis_iter_mut(Axis(0)).zip(&mut constant) {
            for (i, c) in row.iter_mut().enumerate() {
                if *c < 0.0 {
                    *constant += *c * line.offset[i];
                    *c *= line.upper[i];
                } else {
                    *c *= line.lower[i];
                }
            }
        }
    }
    constant + a.mapv(|c| c.max(0.0)).dot(lo) + a.mapv(|c| c.min(0.0)).dot(hi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_bounds_a_network_from_below_and_is_exact_on_a_point() {
        let graph = random_network(&[6, 12, 12, 4], 3);
        for (number, centre) in points(4, 6, 5).iter().enumerate() {
            let property = robustness(&graph, centre, 0.05).expect("a property");
            let margin = crown_margin(&graph, &property).expect("layers");
            let value = |x: &[f64]| super::super::verify::margin_at(&graph, &property, x).expect("six inputs");
            let mut random = Random::new(number as u64);
            for _ in 0..200 {
                let x: Vec<f64> =
                    centre.iter().map(|c| (c + 0.05 * (2.0 * random.unit() - 1.0)).clamp(0.0, 1.0)).collect();
                assert!(value(&x) >= margin - 1e-9, "a point of the box is below the bound");
            }
            let point = robustness(&graph, centre, 0.0).expect("a property");
            let margin = crown_margin(&graph, &point).expect("layers");
            assert!((margin - value(centre)).abs() < 1e-9, "{margin} and {}", value(centre));
        }
    }

    #[test]
    fn shipped_networks_and_digits_are_readable() {
        assert_eq!(robust_network().map(|g| (g.input_len(), g.output_len())).ok(), Some((784, 10)));
        let digits = digits(15).expect("shipped digits");
        assert_eq!((digits.len(), digits[14].len()), (15, 784));
        assert!(digits.iter().flatten().all(|p| (0.0..=1.0).contains(p)));
    }
}
