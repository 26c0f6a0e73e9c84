//! Networks and properties to verify.

use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use ndarray::{ArrayD, IxDyn};
use std::io::Read as _;

use super::oracle::Random;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, Value, ValueId};
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
    Ok(stays_largest(class, y.len(), centre, radius))
}

/// Within `radius` of a point, cut to the unit cube, one of the outputs is larger than all others.
pub(super) fn stays_largest(class: usize, outputs: usize, centre: &[f64], radius: f64) -> Property {
    let lo: Vec<f64> = centre.iter().map(|v| (v - radius).max(0.0)).collect();
    let hi: Vec<f64> = centre.iter().map(|v| (v + radius).min(1.0)).collect();
    let beats = |other: usize| {
        let mut coefficients = vec![(class, 1.0), (other, -1.0)];
        coefficients.sort_by_key(|&(output, _)| output);
        vec![Row { coefficients, constant: 0.0, slop: 0.0, coefficient_rel: 0.0, strict: false }]
    };
    let unsafe_if = (0..outputs).filter(|&other| other != class).map(beats).collect();
    let input = InputBox { lo_out: lo.clone(), hi_out: hi.clone(), lo, hi };
    Property { inputs: centre.len(), outputs, queries: vec![Query { input, unsafe_if }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_networks_and_digits_are_readable() {
        assert_eq!(robust_network().map(|g| (g.input_len(), g.output_len())).ok(), Some((784, 10)));
        let digits = digits(15).expect("shipped digits");
        assert_eq!((digits.len(), digits[14].len()), (15, 784));
        assert!(digits.iter().flatten().all(|p| (0.0..=1.0).contains(p)));
    }
}
