//! Small networks built in code, properties over them, and random numbers.

use crate::graph::{Graph, Node, Op, Value, ValueId};
use crate::verify::property::{Conjunction, InputBox, Property, Query, Row};
use ndarray::{ArrayD, IxDyn};
use std::sync::Arc;

/// A graph under construction whose nodes form one sequence.
pub(super) struct Builder {
    pub(super) graph: Graph,
}

impl Builder {
    pub(super) fn new(shape: &[usize]) -> Self {
        let input = Value { name: "x".into(), shape: shape.to_vec(), constant: None };
        let graph =
            Graph { name: "test".into(), values: vec![input], nodes: vec![], input: ValueId(0), output: ValueId(0) };
        Self { graph }
    }

    pub(super) fn constant(&mut self, shape: &[usize], data: &[f32]) -> ValueId {
        let array = ArrayD::from_shape_vec(IxDyn(shape), data.to_vec()).expect("the test's shape fits its data");
        let name = format!("c{}", self.graph.values.len());
        self.graph.values.push(Value { name, shape: shape.to_vec(), constant: Some(Arc::new(array)) });
        ValueId(self.graph.values.len() - 1)
    }

    /// Appends a node with given operands, whose result is the output from now on.
    pub(super) fn node(&mut self, op: Op, inputs: Vec<ValueId>, shape: &[usize]) -> ValueId {
        let name = format!("{}_{}", op.name(), self.graph.nodes.len());
        self.graph.values.push(Value { name: name.clone(), shape: shape.to_vec(), constant: None });
        let output = ValueId(self.graph.values.len() - 1);
        self.graph.nodes.push(Node { name, op, inputs, output });
        self.graph.output = output;
        output
    }

    /// Appends a node on the value computed last, which keeps its shape.
    pub(super) fn then(&mut self, op: Op, shape: &[usize], constant: &[f32]) {
        let mut inputs = vec![self.graph.output];
        let kept = self.graph.value(self.graph.output).shape.clone();
        if !constant.is_empty() {
            inputs.push(self.constant(shape, constant));
        }
        self.node(op, inputs, &kept);
    }

    /// Appends `W x + b` as a Gemm with a transposed weight, as PyTorch writes it.
    pub(super) fn gemm(&mut self, rows: &[Vec<f32>], bias: &[f32]) {
        let weight = self.constant(&[rows.len(), rows[0].len()], &rows.concat());
        let bias = self.constant(&[bias.len()], bias);
        let op = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        self.node(op, vec![self.graph.output, weight, bias], &[1, rows.len()]);
    }
}

/// Affine layers with a ReLU between any two of them: weights by row, and biases.
#[derive(Debug, Clone)]
pub(super) struct Dense(pub(super) Vec<(Vec<Vec<f32>>, Vec<f32>)>);

impl Dense {
    /// Weights and biases are multiples of 1/8 of small integers, so that f64 evaluates the network exactly on
    /// inputs that are such multiples, too.
    pub(super) fn random(widths: &[usize], random: &mut Random) -> Self {
        let mut eighths = |limit: usize| (random.below(2 * limit + 1) as f32 - limit as f32) / 8.0;
        Self(
            widths
                .windows(2)
                .map(|pair| {
                    let rows = (0..pair[1]).map(|_| (0..pair[0]).map(|_| eighths(12)).collect()).collect();
                    (rows, (0..pair[1]).map(|_| eighths(8)).collect())
                })
                .collect(),
        )
    }

    pub(super) fn graph(&self) -> Graph {
        let mut builder = Builder::new(&[1, self.0[0].0[0].len()]);
        for (index, (rows, bias)) in self.0.iter().enumerate() {
            if index > 0 {
                builder.then(Op::Relu, &[], &[]);
            }
            builder.gemm(rows, bias);
        }
        builder.graph
    }

    /// The pre-activations of every layer, and the output last.
    pub(super) fn evaluate(&self, x: &[f64]) -> Vec<Vec<f64>> {
        let mut values: Vec<Vec<f64>> = vec![];
        for (rows, bias) in &self.0 {
            let input: Vec<f64> = values.last().map_or(x.to_vec(), |z| z.iter().map(|z| z.max(0.0)).collect());
            let dot = |row: &Vec<f32>| row.iter().zip(&input).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
            values.push(rows.iter().zip(bias).map(|(row, &b)| dot(row) + f64::from(b)).collect());
        }
        values
    }
}

/// A property with one query over an exact box.
pub(super) fn property(lo: &[f64], hi: &[f64], outputs: usize, unsafe_if: Vec<Conjunction>) -> Property {
    let input = InputBox { lo: lo.to_vec(), hi: hi.to_vec(), lo_out: lo.to_vec(), hi_out: hi.to_vec() };
    Property { inputs: lo.len(), outputs, queries: vec![Query { input, unsafe_if }] }
}

/// The row `coefficients . Y + constant`, exact.
pub(super) fn row(coefficients: &[f64], constant: f64, strict: bool) -> Row {
    let coefficients = coefficients.iter().copied().enumerate().filter(|c| c.1 != 0.0).collect();
    Row { coefficients, constant, slop: 0.0, coefficient_rel: 0.0, strict }
}

/// The value of a row at an output.
pub(super) fn row_value(row: &Row, output: &[f64]) -> f64 {
    row.coefficients.iter().map(|&(i, c)| c * output[i]).sum::<f64>() + row.constant
}

/// The points of a grid with `steps + 1` values an input, corners included.
pub(super) fn grid(lo: &[f64], hi: &[f64], steps: usize) -> Vec<Vec<f64>> {
    let mut points = vec![vec![]];
    for (l, h) in lo.iter().zip(hi) {
        let at = |i: usize| l + (h - l) * i as f64 / steps as f64;
        points = points.iter().flat_map(|p| (0..=steps).map(|i| [p.as_slice(), &[at(i)]].concat())).collect();
    }
    points
}

/// Marsaglia's xorshift64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    /// A number in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / 2f64.powi(53)
    }
}
