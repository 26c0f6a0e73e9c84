//! Gradients as a transformation of a graph: which nodes run forward, and which gradients of which operands follow, in order.
//!
//! Reverse accumulation (Linnainmaa, 1970) with the gradient for an input and the gradient for a parameter as separate tasks, so that a
//! whole training step is one list. The program says what depends on what and nothing of memory or kernels.

use super::{Graph, ValueId};

/// One task of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Run a node.
    Forward(usize),
    /// From the gradient of a node's result, its share of the gradient of one operand that other nodes compute (or the input).
    InputGradient {
        /// The node.
        node: usize,
        /// Which of its operands.
        operand: usize,
    },
    /// The same for an operand that is a parameter.
    ParameterGradient {
        /// The node.
        node: usize,
        /// Which of its operands.
        operand: usize,
    },
}

/// What a training step does with a graph. The gradient of a value with several consumers is the sum of their shares in the
/// order of the tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The tasks, in order: forward ones, then gradients from the last node to the first, those of a node's parameters before those of
    /// its inputs.
    pub tasks: Vec<Task>,
}

impl Program {
    /// The program for the gradients of some constants of a graph. Nodes that the output does not depend on are left out, and
    /// so are gradients that no wanted constant needs.
    pub fn new(graph: &Graph, wanted: &[ValueId]) -> Self {
        let mut used = vec![false; graph.values.len()];
        used[graph.output.0] = true;
        for node in graph.nodes.iter().rev() {
            if used[node.output.0] {
                node.inputs.iter().for_each(|input| used[input.0] = true);
            }
        }
        // What depends on a wanted constant has a gradient that is worth computing.
        let mut depends = vec![false; graph.values.len()];
        wanted.iter().for_each(|value| depends[value.0] = true);
        let mut tasks = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate().filter(|(_, node)| used[node.output.0]) {
            depends[node.output.0] = node.inputs.iter().any(|input| depends[input.0]);
            tasks.push(Task::Forward(index));
        }
        for (node, n) in graph.nodes.iter().enumerate().rev() {
            if !used[n.output.0] || !depends[n.output.0] {
                continue;
            }
            let operands = || n.inputs.iter().enumerate().filter(|(_, input)| depends[input.0]);
            let constant = |input: &ValueId| graph.value(*input).constant.is_some();
            let parameters = operands().filter(|(_, input)| constant(input));
            tasks.extend(parameters.map(|(operand, _)| Task::ParameterGradient { node, operand }));
            let inputs = operands().filter(|(_, input)| !constant(input));
            tasks.extend(inputs.map(|(operand, _)| Task::InputGradient { node, operand }));
        }
        Self { tasks }
    }
}

#[cfg(test)]
mod tests {
    use super::{Program, Task};
    use crate::graph::{Graph, Node, Op, Value, ValueId};
    use ndarray::ArrayD;
    use std::sync::Arc;

    /// y = relu(x w) + x v, and a node that nothing uses.
    fn residual() -> Graph {
        let value = |name: &str, constant: bool| Value {
            name: name.into(),
            shape: vec![1, 2],
            constant: constant.then(|| Arc::new(ArrayD::zeros(vec![2, 2]))),
        };
        let names = [
            ("x", false),
            ("w", true),
            ("v", true),
            ("a", false),
            ("r", false),
            ("b", false),
            ("y", false),
            ("z", false),
        ];
        let node = |op: Op, inputs: &[usize], output: usize| Node {
            name: op.name().into(),
            op,
            inputs: inputs.iter().map(|&i| ValueId(i)).collect(),
            output: ValueId(output),
        };
        Graph {
            name: "residual".into(),
            values: names.iter().map(|&(name, constant)| value(name, constant)).collect(),
            nodes: vec![
                node(Op::MatMul, &[0, 1], 3),
                node(Op::Relu, &[3], 4),
                node(Op::MatMul, &[0, 2], 5),
                node(Op::Tanh, &[5], 7),
                node(Op::Add, &[4, 5], 6),
            ],
            input: ValueId(0),
            output: ValueId(6),
        }
    }

    #[test]
    fn only_what_parameters_need_is_computed() {
        let program = Program::new(&residual(), &[ValueId(1)]);
        assert_eq!(
            program.tasks,
            [
                Task::Forward(0),
                Task::Forward(1),
                Task::Forward(2),
                Task::Forward(4),
                Task::InputGradient { node: 4, operand: 0 },
                Task::InputGradient { node: 1, operand: 0 },
                Task::ParameterGradient { node: 0, operand: 1 },
            ]
        );
        let both = Program::new(&residual(), &[ValueId(1), ValueId(2)]).tasks;
        assert!(both.contains(&Task::InputGradient { node: 4, operand: 1 }));
        assert!(both.contains(&Task::ParameterGradient { node: 2, operand: 1 }));
        assert!(!both.contains(&Task::Forward(3)), "nothing uses it");
    }
}
