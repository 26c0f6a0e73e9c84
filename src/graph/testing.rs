//! Graphs and numbers for the tests of this room.

use super::{Graph, Node, Op, Value, ValueId, Window, shape};
use ndarray::{ArrayD, IxDyn};
use std::sync::Arc;

/// A small generator of repeatable numbers (xorshift, Marsaglia 2003).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform in -1..1 with 53 random bits.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (2.0 / (1u64 << 53) as f64) - 1.0
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.bits() % n as u64).unwrap()
    }

    pub(super) fn numbers(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// Puts graphs together; shapes of results are inferred, values and nodes are named `v0`, `n1` and so on.
pub(super) struct Sketch {
    pub(super) graph: Graph,
}

impl Sketch {
    pub(super) fn new(input: &[usize]) -> Self {
        let value = Value { name: "x".into(), shape: input.to_vec(), constant: None };
        let graph =
            Graph { name: "sketch".into(), values: vec![value], nodes: vec![], input: ValueId(0), output: ValueId(0) };
        Self { graph }
    }

    fn push(&mut self, shape: Vec<usize>, constant: Option<Vec<f32>>) -> ValueId {
        let constant = constant.map(|data| Arc::new(ArrayD::from_shape_vec(IxDyn(&shape), data).unwrap()));
        let name = format!("v{}", self.graph.values.len());
        self.graph.values.push(Value { name, shape, constant });
        ValueId(self.graph.values.len() - 1)
    }

    pub(super) fn constant(&mut self, shape: &[usize], data: &[f32]) -> ValueId {
        self.push(shape.to_vec(), Some(data.to_vec()))
    }

    pub(super) fn random(&mut self, shape: &[usize], random: &mut Random) -> ValueId {
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| random.unit() as f32).collect();
        self.constant(shape, &data)
    }

    /// Adds a node; its result becomes the graph's output.
    pub(super) fn node(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&id| self.graph.value(id).shape.as_slice()).collect();
        let shape = shape::infer(&op, &shapes, &[]).unwrap();
        self.finish_node(op, inputs, shape)
    }

    pub(super) fn reshape(&mut self, input: ValueId, shape: &[usize]) -> ValueId {
        self.finish_node(Op::Reshape, &[input], shape.to_vec())
    }

    pub(super) fn select(&mut self, input: ValueId, indices: &[usize], shape: &[usize]) -> ValueId {
        self.finish_node(Op::Select { indices: Arc::new(indices.to_vec()) }, &[input], shape.to_vec())
    }

    fn finish_node(&mut self, op: Op, inputs: &[ValueId], shape: Vec<usize>) -> ValueId {
        let output = self.push(shape, None);
        let name = format!("n{}", self.graph.nodes.len());
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        self.graph.output = output;
        output
    }
}

/// Windows next to each other, without padding.
pub(super) const PLAIN: Window = Window { strides: [1; 2], begin: [0; 2], end: [0; 2], dilations: [1; 2], groups: 1 };

/// Gemm without scaling.
pub(super) fn gemm(trans_a: bool, trans_b: bool) -> Op {
    Op::Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b }
}
