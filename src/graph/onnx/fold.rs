//! Constant folding, only where the result is exact in `f32`.
//!
//! A folded constant stands for the real number that the nodes compute. Where `f32` cannot hold that number the nodes
//! stay, and every evaluator sees the rounding that it does itself.

use crate::graph::bounded::Bounded;
use crate::graph::reference::{Tensor, apply};
use crate::graph::shape::elements;
use crate::graph::{Node, Op, Value};
use ndarray::{ArrayD, IxDyn};
use std::borrow::Cow;
use std::sync::Arc;

/// Most elements that folding may make in one network: broadcasting a few small tensors must not fill the memory.
const MAX_FOLDED: usize = 1 << 26;

/// The value of a node whose operands are all constant, if `f32` holds it exactly and it is cheap to find. `shape` is
/// the result's, `folded` counts the elements made so far.
pub(super) fn fold(node: &Node, values: &[Value], shape: &[usize], folded: &mut usize) -> Option<Arc<ArrayD<f32>>> {
    if matches!(node.op, Op::MatMul | Op::Gemm { .. } | Op::Conv(_) | Op::ConvTranspose { .. }) {
        return None;
    }
    let operands: Option<Vec<&ArrayD<f32>>> = node.inputs.iter().map(|id| values[id.0].constant.as_deref()).collect();
    let operands = operands?;
    let total = folded.checked_add(elements(shape).ok()?)?;
    if total > MAX_FOLDED {
        return None;
    }
    let data = match (&node.op, &operands[..]) {
        (Op::Reshape, [x]) => x.iter().copied().collect(),
        _ => arithmetic(node, &operands, shape)?,
    };
    *folded = total;
    ArrayD::from_shape_vec(IxDyn(shape), data).ok().map(Arc::new)
}

fn arithmetic(node: &Node, operands: &[&ArrayD<f32>], shape: &[usize]) -> Option<Vec<f32>> {
    let operands: Vec<_> = operands.iter().map(|x| Cow::Owned(Tensor::<Bounded>::constant(x))).collect();
    let result = apply(node, &operands, shape).ok()?;
    result.data.into_iter().map(exact).collect()
}

/// The number as `f32`, if that is exact.
fn exact(x: Bounded) -> Option<f32> {
    let narrow = x.value as f32;
    (x.error == 0.0 && f64::from(narrow) == x.value).then_some(narrow)
}
