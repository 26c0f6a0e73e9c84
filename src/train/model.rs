//! What is trained: a graph, and which of its constants are parameters.

use super::init::Init;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ValueId};
use std::collections::HashSet;

/// A network to train.
#[derive(Debug, Clone)]
pub struct Model {
    /// What happens to one sample; the constants of parameters hold their shapes, and values for [`Init::Given`].
    pub graph: Graph,
    /// What the optimiser changes, in order; each is a constant of the graph.
    pub parameters: Vec<Parameter>,
}

/// A constant that the optimiser changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// The constant.
    pub value: ValueId,
    /// How it starts.
    pub init: Init,
}

/// Numbers that a mask adds are at or below this, which no weight is.
const MASK: f32 = -1e4;

impl Model {
    /// Finds the parameters of a network from a file; each starts as the file has it.
    ///
    /// Parameters are the constants among
    /// * the operands of Gemm and MatMul,
    /// * weights and biases of convolutions, scales and biases of normalisations, tables of embeddings,
    /// * the operands of Add and Mul, if they have more than one element, are no masks (no element at or below -1e4),
    ///   and the other operand depends on another parameter: what stands in front of the first trained layer prepares
    ///   the input.
    ///
    /// Means and variances of batch normalisations are statistics, and operands of Sub and Div are never trained.
    ///
    /// Exporters write equal tensors once. A vector that several operands share becomes one for each (biases of an untrained
    /// network are often all 0); a matrix that several nodes share is shared in training, too.
    ///
    /// Torch's exporter merges batch normalisations into convolutions unless it is told
    /// `training=torch.onnx.TrainingMode.PRESERVE`.
    ///
    /// # Errors
    /// `BadInput` if the graph is malformed or has nothing to train.
    pub fn from_graph(mut graph: Graph) -> Result<Self> {
        graph.check()?;
        unshare(&mut graph);
        let mut parameters: Vec<Parameter> = Vec::new();
        // Whether a value depends on a parameter.
        let mut trained = vec![false; graph.values.len()];
        for node in &graph.nodes {
            for value in candidates(&graph, node, &trained) {
                if parameters.iter().all(|known| known.value != value) {
                    parameters.push(Parameter { value, init: Init::Given });
                    trained[value.0] = true;
                }
            }
            trained[node.output.0] = node.inputs.iter().any(|id| trained[id.0]);
        }
        if parameters.is_empty() {
            return Err(Error::bad_input(format!("network '{}' has nothing to train", graph.name))
                .with_help("weights must be constants of the file, in layers such as Gemm and Conv"));
        }
        Ok(Self { graph, parameters })
    }

    /// The name of a parameter.
    pub fn name(&self, parameter: &Parameter) -> &str {
        &self.graph.value(parameter.value).name
    }

    /// Numbers that are trained.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|p| self.graph.value(p.value).shape.iter().product::<usize>()).sum()
    }
}

/// Gives every operand that is a constant vector a value of its own.
fn unshare(graph: &mut Graph) {
    let mut names: HashSet<String> = graph.values.iter().map(|value| value.name.clone()).collect();
    let mut seen = vec![false; graph.values.len()];
    for id in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        let value = &graph.values[id.0];
        if value.constant.is_none() || value.shape.len() > 1 || !std::mem::replace(&mut seen[id.0], true) {
            continue;
        }
        let mut copy = value.clone();
        let mut number = 1usize;
        while !names.insert(copy.name.clone()) {
            copy.name = format!("{}_{number}", value.name);
            number += 1;
        }
        *id = ValueId(graph.values.len());
        graph.values.push(copy);
    }
}

/// The operands of a node that are parameters.
fn candidates(graph: &Graph, node: &Node, trained: &[bool]) -> Vec<ValueId> {
    let constant = |id: ValueId| graph.value(id).constant.as_deref();
    let operands: &[ValueId] = match &node.op {
        Op::Gemm { .. } | Op::MatMul => &node.inputs,
        Op::Conv(_) | Op::ConvTranspose { .. } => &node.inputs[1..],
        Op::BatchNormalization { .. } | Op::LayerNormalization { .. } | Op::GroupNormalization { .. } => {
            &node.inputs[1..3]
        }
        Op::Embedding { .. } => &node.inputs[1..],
        Op::Add | Op::Mul if node.inputs.iter().any(|&id| constant(id).is_none() && trained[id.0]) => {
            let trains = |&id: &ValueId| constant(id).is_some_and(|x| x.len() > 1 && x.iter().all(|&x| x > MASK));
            return node.inputs.iter().copied().filter(trains).collect();
        }
        _ => &[],
    };
    operands.iter().copied().filter(|&id| constant(id).is_some()).collect()
}

#[cfg(test)]
mod tests;
