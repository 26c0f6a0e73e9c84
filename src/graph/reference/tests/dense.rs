//! Dense networks against an exact oracle, and malformed graphs.

use crate::graph::testing::{Random, Sketch, gemm};
use crate::graph::{Graph, Op};

/// Fraction bits of the exact oracle: inputs have 52, each of two layers of weights adds 23.
const BITS: i32 = 98;

/// An `f64` as an integer times 2^-98; cut off below that, which is far below every rounding here.
fn fixed(x: f64) -> i128 {
    let bits = x.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap();
    let mantissa = i128::from(bits & ((1 << 52) - 1) | u64::from(exponent > 0) << 52);
    let shift = exponent.max(1) - 1075 + BITS;
    let magnitude = if shift >= 0 { mantissa << shift } else { mantissa >> (-shift).min(127) };
    if x < 0.0 { -magnitude } else { magnitude }
}

/// A ReLU network 6 -> 9 -> 4 with weights that are multiples of 2^-23, and those multiples.
fn network(random: &mut Random) -> (Graph, [Vec<i128>; 2]) {
    let mut sketch = Sketch::new(&[1, 6]);
    let weights =
        [54, 36].map(|n| (0..n).map(|_| i128::from(random.bits() % (1 << 24)) - (1 << 23)).collect::<Vec<_>>());
    let [first, second] =
        weights.each_ref().map(|w| w.iter().map(|&w| w as f32 / (1 << 23) as f32).collect::<Vec<_>>());
    let (input, first) = (sketch.graph.input, sketch.constant(&[9, 6], &first));
    let hidden = sketch.node(gemm(false, true), &[input, first]);
    let hidden = sketch.node(Op::Relu, &[hidden]);
    let second = sketch.constant(&[9, 4], &second);
    sketch.node(Op::MatMul, &[hidden, second]);
    (sketch.graph, weights)
}

/// The exact result, times 2^98.
fn exact([first, second]: &[Vec<i128>; 2], input: &[i128]) -> Vec<i128> {
    let dot = |j: usize| (0..6).map(|l| first[j * 6 + l] * input[l]).sum::<i128>().max(0);
    let hidden: Vec<i128> = (0..9).map(dot).collect();
    (0..4).map(|i| (0..9).map(|j| second[j * 4 + i] * hidden[j]).sum()).collect()
}

#[test]
fn bounds_enclose_the_exact_result_and_are_tight() {
    let mut random = Random::new(3);
    let mut tight = 0;
    for _ in 0..200 {
        let (graph, weights) = network(&mut random);
        let input: Vec<i128> = (0..6).map(|_| i128::from(random.bits() >> 11) - (1 << 52)).collect();
        let point: Vec<f64> = input.iter().map(|&x| x as f64 / (1u64 << 52) as f64).collect();
        let plain = graph.eval_f64(&point).unwrap();
        let bounded = graph.eval_f64_bounded(&point).unwrap();
        for ((&(value, bound), plain), exact) in bounded.iter().zip(plain).zip(exact(&weights, &input)) {
            assert_eq!(value, plain);
            let distance = (fixed(value) - exact).abs();
            assert!(distance <= fixed(bound) + 1, "{value} +- {bound} misses by {distance}");
            assert!(bound < 1e-14, "a bound of {bound} says nothing");
            tight += usize::from(distance > fixed(bound / 8.0));
        }
    }
    // A bound that forgot its terms would be exceeded; one that was far too large would never come close.
    assert!(tight > 100, "only {tight} of 800 errors come near their bounds");
}

#[test]
fn a_network_without_rounding_has_the_bound_zero() {
    let mut sketch = Sketch::new(&[2]);
    let input = sketch.graph.input;
    let weight = sketch.constant(&[2, 2], &[0.5, -3.0, 2.0, 0.25]);
    let product = sketch.node(Op::MatMul, &[input, weight]);
    sketch.node(Op::Relu, &[product]);
    let output = sketch.graph.eval_f64_bounded(&[1.5, -2.0]).unwrap();
    assert_eq!(output, [(0.0, 0.0), (0.0, 0.0)]);
    let output = sketch.graph.eval_f64_bounded(&[2.0, 1.0]).unwrap();
    assert_eq!(output, [(3.0, 0.0), (0.0, 0.0)]);
}

#[test]
fn stacks_of_matrices_broadcast() {
    let mut sketch = Sketch::new(&[2, 1, 1, 2]);
    let input = sketch.graph.input;
    let right = sketch.constant(&[2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]);
    sketch.node(Op::MatMul, &[input, right]);
    let output = sketch.graph.eval_f64(&[1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(output, [21.0, 2100.0, 43.0, 4300.0]);
}

#[test]
fn bad_inputs_and_overflow_are_errors() {
    let mut sketch = Sketch::new(&[2]);
    let input = sketch.graph.input;
    let zero = sketch.constant(&[1], &[0.0]);
    sketch.node(Op::Div, &[input, zero]);
    let message = |point: &[f64]| sketch.graph.eval_f64(point).unwrap_err().to_string();
    assert!(message(&[1.0]).contains("1 numbers where the network takes 2"));
    assert!(message(&[1.0, f64::NAN]).contains("input 1"));
    assert!(message(&[1.0, 2.0]).contains("'n0' (Div): element 0"));
    assert!(sketch.graph.eval_f64_bounded(&[1.0, 2.0]).is_err());
}

#[test]
fn malformed_graphs_are_errors() {
    let mut random = Random::new(1);
    let (graph, _) = network(&mut random);
    let point = [0.0; 6];
    let mut disordered = graph.clone();
    disordered.nodes.swap(0, 1);
    assert!(disordered.eval_f64(&point).unwrap_err().to_string().contains("not known yet"));
    let mut dangling = graph.clone();
    dangling.nodes[1].inputs[0].0 = 99;
    assert!(dangling.eval_f64(&point).unwrap_err().to_string().contains("no value 99"));
    let mut misshapen = graph.clone();
    misshapen.values[2].shape = vec![9, 1];
    assert!(misshapen.eval_f64(&point).unwrap_err().to_string().contains("[9, 1]"));
    let mut short = graph.clone();
    short.nodes[0].inputs.pop();
    assert!(short.eval_f64(&point).unwrap_err().to_string().contains("1 operands"));
    let mut headless = graph;
    headless.output.0 = 99;
    assert!(headless.eval_f64(&point).is_err());
}
