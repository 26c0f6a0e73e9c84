//! Batch normalisation behind a convolution, folded into its weights, as every accelerator's compiler does.

use std::sync::Arc;

use ndarray::{Array1, ArrayD, Axis};

use crate::graph::{Graph, Node, Op, Value, ValueId};

/// The same network with every BatchNormalization that is the only reader of a convolution's result folded into that convolution: weight and
/// bias of channel m times `scale / sqrt(variance + epsilon)`, computed in f64 and rounded once. The second is how many were folded.
pub(super) fn batch_norms(graph: &Graph) -> (Graph, usize) {
    let mut folded = graph.clone();
    let mut count = 0;
    for at in 0..graph.nodes.len() {
        let Some(conv) = source(&folded, at) else { continue };
        let Some(changed) = fold(&mut folded, conv, at) else { continue };
        folded.nodes[conv] = changed;
        // Nothing reads it any more: it goes below, so that places of nodes stay what they are.
        folded.nodes[at].inputs.clear();
        count += 1;
    }
    folded.nodes.retain(|node| !node.inputs.is_empty());
    (folded, count)
}

/// The convolution whose result node `at` normalises, if nothing else reads that.
fn source(graph: &Graph, at: usize) -> Option<usize> {
    let node = &graph.nodes[at];
    if !matches!(node.op, Op::BatchNormalization { .. }) {
        return None;
    }
    let x = *node.inputs.first()?;
    let readers = graph.nodes.iter().flat_map(|node| &node.inputs).filter(|&&id| id == x).count();
    let conv = graph.nodes[..at].iter().position(|node| node.output == x)?;
    let is_conv = matches!(graph.nodes[conv].op, Op::Conv(_));
    (is_conv && readers == 1 && graph.output != x).then_some(conv)
}

/// The convolution with the normalisation in it, and its new constants in the graph.
fn fold(graph: &mut Graph, conv: usize, norm: usize) -> Option<Node> {
    let &Op::BatchNormalization { epsilon } = &graph.nodes[norm].op else { return None };
    let constant = |id: ValueId| graph.value(id).constant.clone();
    let [scale, bias, mean, variance] = <[_; 4]>::try_from(
        graph.nodes[norm].inputs.get(1..)?.iter().map(|&id| constant(id)).collect::<Option<Vec<_>>>()?,
    )
    .ok()?;
    let node = &graph.nodes[conv];
    let weight = constant(*node.inputs.get(1)?)?;
    let before = match node.inputs.get(2) {
        Some(&id) => Some(constant(id)?),
        None => None,
    };
    let numbers = |data: &ArrayD<f32>| data.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let [scale, bias, mean, variance] = [scale, bias, mean, variance].map(|data| numbers(&data));
    let before = before.map_or_else(|| vec![0.0; scale.len()], |data| numbers(&data));
    let spread = variance.iter().map(|v| (v + f64::from(epsilon)).sqrt());
    let factors: Vec<f64> = scale.iter().zip(spread).map(|(s, spread)| s / spread).collect();
    let mut weights = ArrayD::clone(&weight);
    for (mut filter, &factor) in weights.axis_iter_mut(Axis(0)).zip(&factors) {
        filter.mapv_inplace(|w| (f64::from(w) * factor) as f32);
    }
    let centred = before.iter().zip(&mean).zip(&factors).map(|((b, mean), factor)| (b - mean) * factor);
    let biases: Array1<f32> = centred.zip(&bias).map(|(x, bias)| (x + bias) as f32).collect();
    // A weight may be read by several convolutions: each normalised one gets its own, under the old name.
    let [weight_name, bias_name] = [node.inputs[1], graph.nodes[norm].inputs[2]].map(|id| graph.value(id).name.clone());
    let mut folded = Node { output: graph.nodes[norm].output, ..node.clone() };
    let weight = push(graph, weight_name, weights);
    let bias = push(graph, bias_name, biases.into_dyn());
    folded.inputs = vec![folded.inputs[0], weight, bias];
    Some(folded)
}

pub(super) fn push(graph: &mut Graph, name: String, data: ArrayD<f32>) -> ValueId {
    graph.values.push(Value { name, shape: data.shape().to_vec(), constant: Some(Arc::new(data)) });
    ValueId(graph.values.len() - 1)
}
