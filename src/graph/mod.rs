//! Networks as data: operators, shapes and constants, with no device and no file format in them.
//!
//! A [`Graph`] describes what happens to **one sample**: the leading batch dimension that most files declare is
//! 1 here, and every evaluator adds its own batch axis in front. Nodes stand in an order in which each one's
//! inputs come before it.

mod bounded;
mod chain;
mod device;
#[cfg(feature = "onnx")]
pub mod onnx;
mod reference;
mod shape;
#[cfg(test)]
mod testing;

pub use chain::{Affine, Chain};
pub use device::Executor;

use ndarray::ArrayD;
use std::sync::Arc;

/// Index of a [`Value`] in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// A tensor of the network: an input, a constant or the output of a node.
#[derive(Debug, Clone)]
pub struct Value {
    /// The name in the source file.
    pub name: String,
    /// The shape for one sample (batch dimension 1 where the file declares one).
    pub shape: Vec<usize>,
    /// The data, where the value is known before the network runs.
    pub constant: Option<Arc<ArrayD<f32>>>,
}

/// An operator. Semantics are ONNX's.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `alpha * op(A) op(B) + beta * C`; C is optional.
    Gemm {
        /// Factor of the product.
        alpha: f32,
        /// Factor of the third operand.
        beta: f32,
        /// Transpose the first operand.
        trans_a: bool,
        /// Transpose the second operand.
        trans_b: bool,
    },
    /// Matrix product with NumPy broadcasting.
    MatMul,
    /// Elementwise sum with broadcasting.
    Add,
    /// Elementwise difference with broadcasting.
    Sub,
    /// Elementwise product with broadcasting.
    Mul,
    /// Elementwise quotient with broadcasting.
    Div,
    /// `max(x, 0)`.
    Relu,
    /// The same elements in another shape: Flatten, Reshape, Squeeze, Unsqueeze. The shape is the output's.
    Reshape,
}

impl Op {
    /// The operator's ONNX name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gemm { .. } => "Gemm",
            Self::MatMul => "MatMul",
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Relu => "Relu",
            Self::Reshape => "Reshape",
        }
    }
}

/// One application of an operator.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name in the source file, or a made-up one such as `Gemm_3`.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Its operands.
    pub inputs: Vec<ValueId>,
    /// Its result.
    pub output: ValueId,
}

/// A network.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The name in the source file.
    pub name: String,
    /// All tensors.
    pub values: Vec<Value>,
    /// All operators, in execution order.
    pub nodes: Vec<Node>,
    /// The one input.
    pub input: ValueId,
    /// The one output.
    pub output: ValueId,
}

impl Graph {
    /// A value by its id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Number of elements of the input for one sample.
    pub fn input_len(&self) -> usize {
        self.value(self.input).shape.iter().product()
    }

    /// Number of elements of the output for one sample.
    pub fn output_len(&self) -> usize {
        self.value(self.output).shape.iter().product()
    }
}
