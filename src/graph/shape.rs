//! Shape inference with ONNX's rules, and the consistency check of a whole graph.
//!
//! The rules work on plain shapes and answer with a sentence that names both shapes; the caller adds the node.
//! No rule allocates by the size of a tensor, and all products of dimensions are checked.

mod normal;
pub(super) mod window;

use super::{Graph, Node, Op, Value, ValueId};
use crate::error::{Error, Result};

/// Largest number of elements of one tensor (1 GiB of `f32`).
pub(super) const MAX_ELEMENTS: usize = 1 << 28;

/// What a shape rule answers: the output's shape, or a sentence about what does not fit.
pub(crate) type Shape = Result<Vec<usize>, String>;

/// The number of elements of a shape, or a sentence if that is more than [`MAX_ELEMENTS`].
pub(crate) fn elements(shape: &[usize]) -> Result<usize, String> {
    shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&product| product <= MAX_ELEMENTS)
        .ok_or_else(|| format!("a tensor of shape {shape:?} has more than {MAX_ELEMENTS} elements"))
}

/// NumPy broadcasting of two shapes, aligned at their last dimensions.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Shape {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            (x, y) => Err(format!("shapes {a:?} and {b:?} do not broadcast: {x} meets {y}")),
        })
        .collect()
}

/// For each element of a tensor of shape `out` in row-major order, the index of the element of a tensor of shape
/// `from` that broadcasting puts there. `from` must broadcast to `out`.
pub(crate) fn broadcast_index(from: &[usize], out: &[usize]) -> Vec<usize> {
    let added = out.len() - from.len();
    let stride = |i: usize| i.checked_sub(added).filter(|&i| from[i] != 1).map_or(0, |i| stride(from, i));
    lattice(out.iter().enumerate().map(|(i, &dim)| (0..dim).map(|at| at * stride(i)).collect()))
}

/// Elements from one index along an axis to the next, in row-major order.
pub(super) fn stride(shape: &[usize], axis: usize) -> usize {
    shape[axis + 1..].iter().product()
}

/// All sums of one offset for each axis, in row-major order.
pub(super) fn lattice(axes: impl Iterator<Item = Vec<usize>>) -> Vec<usize> {
    axes.fold(vec![0], |index, offsets| {
        index.iter().flat_map(|&base| offsets.iter().map(move |offset| base + offset)).collect()
    })
}

/// For each element of a transposed tensor in row-major order, the index of the element of the tensor of shape `from`
/// that it is.
pub(super) fn transpose_index(from: &[usize], perm: &[usize]) -> Vec<usize> {
    lattice(perm.iter().map(|&axis| (0..from[axis]).map(|at| at * stride(from, axis)).collect()))
}

/// The two operands of a matrix product as stacks of matrices, and what becomes of them.
#[derive(Debug, PartialEq)]
pub(super) struct MatMulShape {
    /// Rows of the product.
    pub(super) m: usize,
    /// Length of each dot product.
    pub(super) k: usize,
    /// Columns of the product.
    pub(super) n: usize,
    /// Stack dimensions of the left operand.
    pub(super) batch_a: Vec<usize>,
    /// Stack dimensions of the right operand.
    pub(super) batch_b: Vec<usize>,
    /// Stack dimensions of the product: the two above, broadcast.
    pub(super) batch: Vec<usize>,
    /// The product's shape, without the dimensions that a vector operand was given for the purpose.
    pub(super) out: Vec<usize>,
}

/// The shapes of `MatMul` (NumPy's `matmul`: a vector on the left is a row, on the right a column).
pub(super) fn matmul(a: &[usize], b: &[usize]) -> Result<MatMulShape, String> {
    let (batch_a, m, k) = match a {
        [] => return Err(format!("a scalar (shape {a:?}) has no matrix product")),
        [k] => (&[][..], 1, *k),
        [batch @ .., m, k] => (batch, *m, *k),
    };
    let (batch_b, k_b, n) = match b {
        [] => return Err(format!("a scalar (shape {b:?}) has no matrix product")),
        [k] => (&[][..], *k, 1),
        [batch @ .., k, n] => (batch, *k, *n),
    };
    if k != k_b {
        return Err(format!("shapes {a:?} and {b:?} do not multiply: {k} columns meet {k_b} rows"));
    }
    let batch =
        broadcast(batch_a, batch_b).map_err(|_| format!("the stacks of matrices {a:?} and {b:?} do not broadcast"))?;
    let mut out = batch.clone();
    out.extend((a.len() > 1).then_some(m));
    out.extend((b.len() > 1).then_some(n));
    Ok(MatMulShape { m, k, n, batch_a: batch_a.to_vec(), batch_b: batch_b.to_vec(), batch, out })
}

/// `[m, k, n]` of a `Gemm`; `c` is the shape of the third operand.
pub(super) fn gemm(
    a: &[usize],
    b: &[usize],
    c: Option<&[usize]>,
    trans_a: bool,
    trans_b: bool,
) -> Result<[usize; 3], String> {
    let (&[a0, a1], &[b0, b1]) = (a, b) else {
        return Err(format!("operands of shapes {a:?} and {b:?}, where both must be matrices"));
    };
    let (m, k) = if trans_a { (a1, a0) } else { (a0, a1) };
    let (k_b, n) = if trans_b { (b1, b0) } else { (b0, b1) };
    if k != k_b {
        return Err(format!(
            "shapes {a:?}{} and {b:?}{} do not multiply: {k} columns meet {k_b} rows",
            if trans_a { " (transposed)" } else { "" },
            if trans_b { " (transposed)" } else { "" },
        ));
    }
    match c {
        Some(c) if broadcast(c, &[m, n]).as_deref() != Ok(&[m, n]) => {
            Err(format!("a third operand of shape {c:?} does not broadcast to the product's shape {:?}", [m, n]))
        }
        _ => Ok([m, k, n]),
    }
}

/// The smallest and largest number of operands of an operator.
fn arity(op: &Op) -> (usize, usize) {
    match op {
        Op::Gemm { .. } => (2, 3),
        Op::MatMul | Op::Add | Op::Sub | Op::Mul | Op::Div => (2, 2),
        Op::BatchNormalization { .. } => (5, 5),
        Op::LayerNormalization { .. } | Op::GroupNormalization { .. } => (3, 3),
        Op::Embedding { .. } => (2, 2),
        Op::Conv(_) | Op::ConvTranspose { .. } => (2, 3),
        Op::Concat { .. } => (1, usize::MAX),
        _ => (1, 1),
    }
}

/// The shape that an operator makes of operands of these shapes; `declared` is the shape of the output value,
/// which decides for `Reshape`.
pub(crate) fn infer(op: &Op, operands: &[&[usize]], declared: &[usize]) -> Shape {
    let (least, most) = arity(op);
    if operands.len() < least || operands.len() > most {
        let most = if most == usize::MAX { "any number".to_owned() } else { most.to_string() };
        return Err(format!("{} operands where {least} to {most} are expected", operands.len()));
    }
    let out = match op {
        Op::Gemm { trans_a, trans_b, .. } => {
            let c = operands.get(2).copied();
            gemm(operands[0], operands[1], c, *trans_a, *trans_b).map(|[m, _, n]| vec![m, n])?
        }
        Op::MatMul => matmul(operands[0], operands[1])?.out,
        Op::Add | Op::Sub | Op::Mul | Op::Div => broadcast(operands[0], operands[1])?,
        Op::Relu | Op::Sigmoid | Op::Tanh | Op::LeakyRelu { .. } | Op::Gelu => operands[0].to_vec(),
        Op::Softmax { axis } => {
            check_axis(*axis, operands[0])?;
            operands[0].to_vec()
        }
        Op::CausalSoftmax => normal::causal_softmax(operands[0])?,
        Op::Conv(window) => window::conv(window, operands)?,
        Op::ConvTranspose { window, output_padding } => window::conv_transpose(window, *output_padding, operands)?,
        Op::MaxPool { kernel, window } | Op::AveragePool { kernel, window, .. } => {
            window::pool(window, *kernel, operands[0])?
        }
        Op::BatchNormalization { .. } => normal::batch_normalization(operands)?,
        Op::LayerNormalization { axis, .. } => normal::layer_normalization(operands, *axis)?,
        Op::GroupNormalization { groups, .. } => normal::group_normalization(operands, *groups)?,
        Op::Embedding { padding } => normal::embedding(operands, *padding)?,
        Op::Dropout { rate } if (0.0..1.0).contains(rate) => operands[0].to_vec(),
        Op::Dropout { rate } => return Err(format!("a rate of {rate}, which is not in 0..1")),
        Op::Pad { pads, .. } => pad(operands[0], pads)?,
        Op::Transpose { perm } => transpose(operands[0], perm)?,
        Op::Concat { axis } => concat(operands, *axis)?,
        Op::Select { indices } => select(operands[0], indices, declared)?,
        Op::Reshape => {
            if elements(operands[0])? != elements(declared)? {
                let from = operands[0];
                return Err(format!("shape {from:?} cannot become {declared:?}"));
            }
            declared.to_vec()
        }
    };
    elements(&out)?;
    Ok(out)
}

fn check_axis(axis: usize, shape: &[usize]) -> Result<(), String> {
    if axis < shape.len() {
        return Ok(());
    }
    Err(format!("axis {axis} is outside a tensor of shape {shape:?}"))
}

/// Elements that a padded tensor may have whatever its input has; a damaged file must not fill the memory.
const MAX_PADDED: usize = 1 << 24;

fn pad(from: &[usize], pads: &[[usize; 2]]) -> Shape {
    if pads.len() != from.len() {
        return Err(format!("{} pairs of padding for a tensor of shape {from:?}", pads.len()));
    }
    let grow = |(&dim, &[before, after]): (&usize, &[usize; 2])| dim.checked_add(before)?.checked_add(after);
    let shape: Option<Vec<usize>> = from.iter().zip(pads).map(grow).collect();
    let shape = shape.ok_or_else(|| format!("padding {pads:?} is impossible"))?;
    if elements(&shape)? > MAX_PADDED.max(elements(from)?.saturating_mul(4)) {
        return Err(format!("a tensor of shape {from:?} would be padded to {shape:?}"));
    }
    Ok(shape)
}

fn transpose(from: &[usize], perm: &[usize]) -> Shape {
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..from.len()) {
        return Err(format!("{perm:?} is no order of the axes of shape {from:?}"));
    }
    Ok(perm.iter().map(|&axis| from[axis]).collect())
}

fn concat(operands: &[&[usize]], axis: usize) -> Shape {
    let mut shape = operands[0].to_vec();
    check_axis(axis, &shape)?;
    for other in &operands[1..] {
        let alike =
            other.len() == shape.len() && other.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == axis || a == b);
        let sum = if alike { shape[axis].checked_add(other[axis]) } else { None };
        shape[axis] = sum.ok_or_else(|| {
            let first = operands[0];
            format!("shapes {first:?} and {other:?} do not fit behind each other along axis {axis}")
        })?;
    }
    Ok(shape)
}

fn select(from: &[usize], indices: &[usize], declared: &[usize]) -> Shape {
    let len = elements(from)?;
    if let Some(index) = indices.iter().find(|&&index| index >= len) {
        return Err(format!("element {index} of a tensor of shape {from:?}"));
    }
    if indices.is_empty() || elements(declared)? != indices.len() {
        return Err(format!("{} elements where shape {declared:?} is declared", indices.len()));
    }
    Ok(declared.to_vec())
}

/// The error for a node whose operands do not fit.
pub(super) fn misfit(name: &str, op: &str, why: &str) -> Error {
    Error::bad_input(format!("node '{name}' ({op}): {why}"))
        .with_help("check the shapes of the tensors named above; the file may be damaged or exported wrongly")
}

impl Graph {
    /// Checks that the graph is well formed: every id exists, every operand is known before it is used, every
    /// output is written once, constants have the declared shape and finite elements, and all shapes agree with
    /// the operators.
    ///
    /// Graphs from [`onnx`](super::onnx) pass. The evaluators call this first, so that a graph put together by
    /// hand leads to an error and not to a panic.
    ///
    /// # Errors
    /// [`BadInput`](crate::error::ErrorKind::BadInput) with the node or tensor and what is wrong with it.
    pub fn check(&self) -> Result<()> {
        let mut known = vec![false; self.values.len()];
        for (value, known) in self.values.iter().zip(&mut known) {
            *known = check_value(value)?;
        }
        match known.get_mut(self.input.0) {
            Some(known) if !*known => *known = true,
            Some(_) => return Err(Error::bad_input("the input is a constant")),
            None => return Err(Error::bad_input("the input is not a value of the graph")),
        }
        for node in &self.nodes {
            self.check_node(node, &known)?;
            known[node.output.0] = true;
        }
        if known.get(self.output.0) == Some(&true) {
            return Ok(());
        }
        Err(Error::bad_input("nothing produces the output of the graph"))
    }

    fn check_node(&self, node: &Node, known: &[bool]) -> Result<()> {
        let at = |id: ValueId| {
            self.values
                .get(id.0)
                .ok_or_else(|| misfit(&node.name, node.op.name(), &format!("there is no value {}", id.0)))
        };
        let mut operands = Vec::with_capacity(node.inputs.len());
        for &id in &node.inputs {
            let operand = at(id)?;
            if !known[id.0] {
                let why = format!("operand '{}' is not known yet", operand.name);
                return Err(misfit(&node.name, node.op.name(), &why));
            }
            operands.push(operand.shape.as_slice());
        }
        let output = at(node.output)?;
        if known[node.output.0] {
            let why = format!("its output '{}' is known already", output.name);
            return Err(misfit(&node.name, node.op.name(), &why));
        }
        let shape =
            infer(&node.op, &operands, &output.shape).map_err(|why| misfit(&node.name, node.op.name(), &why))?;
        if shape == output.shape {
            return Ok(());
        }
        let why = format!("makes shape {shape:?}, but '{}' has {:?}", output.name, output.shape);
        Err(misfit(&node.name, node.op.name(), &why))
    }
}

/// Checks one value; true if it is a constant.
fn check_value(value: &Value) -> Result<bool> {
    let bad = |why: String| Error::bad_input(format!("tensor '{}': {why}", value.name));
    elements(&value.shape).map_err(bad)?;
    let Some(constant) = &value.constant else {
        return Ok(false);
    };
    if constant.shape() != value.shape {
        let (data, shape) = (constant.shape(), &value.shape);
        return Err(bad(format!("data of shape {data:?} where {shape:?} is declared")));
    }
    match constant.iter().position(|x| !x.is_finite()) {
        Some(i) => Err(bad(format!("element {i} is NaN or infinite"))),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_aligns_the_last_dimensions() {
        assert_eq!(broadcast(&[4, 1], &[3]), Ok(vec![4, 3]));
        assert_eq!(broadcast(&[], &[2, 3]), Ok(vec![2, 3]));
        assert_eq!(broadcast(&[1, 5], &[7, 1]), Ok(vec![7, 5]));
        let refused = broadcast(&[2, 3], &[2]).unwrap_err();
        assert!(refused.contains("[2, 3]") && refused.contains("[2]"), "{refused}");
    }

    #[test]
    fn broadcast_index_repeats_rows_and_columns() {
        assert_eq!(broadcast_index(&[3], &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(broadcast_index(&[2, 1], &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(broadcast_index(&[], &[2, 1]), [0, 0]);
        assert_eq!(broadcast_index(&[], &[]), [0]);
    }

    #[test]
    fn matmul_promotes_vectors_and_broadcasts_stacks() {
        assert_eq!(matmul(&[5], &[5, 2]).unwrap().out, [2]);
        assert_eq!(matmul(&[2, 5], &[5]).unwrap().out, [2]);
        assert_eq!(matmul(&[5], &[5]).unwrap().out, [0; 0]);
        assert_eq!(matmul(&[7, 1, 2, 5], &[3, 5, 4]).unwrap().out, [7, 3, 2, 4]);
        assert!(matmul(&[2, 5], &[4, 5]).is_err());
        assert!(matmul(&[], &[1]).is_err());
    }

    #[test]
    fn gemm_checks_all_three_operands() {
        assert_eq!(gemm(&[1, 4], &[3, 4], Some(&[3]), false, true), Ok([1, 4, 3]));
        assert_eq!(gemm(&[4, 1], &[4, 3], None, true, false), Ok([1, 4, 3]));
        assert!(gemm(&[1, 4], &[3, 4], None, false, false).is_err());
        assert!(gemm(&[1, 4], &[4, 3], Some(&[2, 3]), false, false).is_err());
        assert!(gemm(&[4], &[4, 3], None, false, false).is_err());
    }

    #[test]
    fn transposing_twice_is_nothing() {
        assert_eq!(transpose(&[2, 3, 5], &[2, 0, 1]), Ok(vec![5, 2, 3]));
        assert_eq!(transpose_index(&[2, 3], &[1, 0]), [0, 3, 1, 4, 2, 5]);
        let (there, back) = (transpose_index(&[2, 3, 5], &[2, 0, 1]), transpose_index(&[5, 2, 3], &[1, 2, 0]));
        assert!((0..30).all(|i| there[back[i]] == i));
        for bad in [&[0, 1][..], &[0, 1, 1], &[0, 1, 3], &[0, 1, 2, 3]] {
            assert!(transpose(&[2, 3, 5], bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn layout_operators_check_their_operands() {
        assert_eq!(concat(&[&[1, 2, 3], &[1, 4, 3]], 1), Ok(vec![1, 6, 3]));
        assert!(concat(&[&[1, 2, 3], &[1, 4, 3]], 2).unwrap_err().contains("[1, 4, 3]"));
        assert!(concat(&[&[1, 2], &[1, 2, 1]], 0).is_err() && concat(&[&[1, 2]], 2).is_err());
        assert_eq!(pad(&[1, 3], &[[0, 0], [2, 1]]), Ok(vec![1, 6]));
        assert!(pad(&[1, 3], &[[0, 0]]).is_err());
        assert!(pad(&[1, 3], &[[0, 0], [usize::MAX, 1]]).unwrap_err().contains("impossible"));
        assert!(pad(&[1, 3], &[[0, 0], [0, 1 << 25]]).unwrap_err().contains("would be padded"));
        assert_eq!(select(&[2, 2], &[3, 0, 0], &[3, 1]), Ok(vec![3, 1]));
        assert!(select(&[2, 2], &[4], &[1]).unwrap_err().contains("element 4"));
        assert!(select(&[2, 2], &[1, 1], &[3]).is_err() && select(&[2, 2], &[], &[0]).is_err());
        assert!(infer(&Op::Softmax { axis: 2 }, &[&[1, 3]], &[]).is_err());
    }

    #[test]
    fn sizes_cannot_overflow() {
        assert!(elements(&[usize::MAX, 2]).is_err());
        assert!(elements(&[MAX_ELEMENTS, 2]).is_err());
        assert!(infer(&Op::Add, &[&[1 << 20, 1], &[1, 1 << 20]], &[]).is_err());
    }
}
