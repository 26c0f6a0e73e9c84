//! A graph without what its output does not depend on.

use crate::graph::{Graph, ValueId};

/// Removes nodes and tensors that nothing needs. The input stays.
pub(super) fn prune(graph: Graph) -> Graph {
    let mut needed = vec![false; graph.values.len()];
    needed[graph.input.0] = true;
    needed[graph.output.0] = true;
    for node in graph.nodes.iter().rev() {
        if needed[node.output.0] {
            node.inputs.iter().for_each(|id| needed[id.0] = true);
        }
    }
    let mut places = Vec::with_capacity(needed.len());
    let mut values = Vec::new();
    for (value, &needed) in graph.values.into_iter().zip(&needed) {
        places.push(ValueId(values.len()));
        if needed {
            values.push(value);
        }
    }
    let nodes = graph.nodes.into_iter().filter(|node| needed[node.output.0]).map(|mut node| {
        node.inputs.iter_mut().for_each(|id| *id = places[id.0]);
        node.output = places[node.output.0];
        node
    });
    let nodes = nodes.collect();
    Graph { values, nodes, input: places[graph.input.0], output: places[graph.output.0], ..graph }
}
