//! What is trained: a graph, and which of its constants are parameters.

use super::init::Init;
use crate::graph::{Graph, ValueId};

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
