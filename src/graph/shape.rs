//! Shape inference with ONNX's rules, and the consistency check of a whole graph.
//!
//! The rules work on plain shapes and answer with a sentence that names both shapes; the caller adds the node.
//! No rule allocates by the size of a tensor, and all products of dimensions are checked.

use super::{Graph, Node, Op, Value, ValueId};
use crate::error::{Error, Result};

/// Largest number of elements of one tensor (1 GiB of `f32`).
pub(super) const MAX_ELEMENTS: usize = 1 << 28;

/// What a shape rule answers: the output's shape, or a sentence about what does not fit.
pub(super) type Shape = Result<Vec<usize>, String>;

/// The number of elements of a shape, or a sentence if that is more than [`MAX_ELEMENTS`].
pub(super) fn elements(shape: &[usize]) -> Result<usize, String> {
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
pub(super) fn broadcast_index(from: &[usize], out: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; out.len()];
    let mut step = 1;
    for (stride, &dim) in strides.iter_mut().rev().zip(from.iter().rev()) {
        *stride = if dim == 1 { 0 } else { step };
        step *= dim;
    }
    let mut index = vec![0];
    for (&dim, &stride) in out.iter().zip(&strides) {
        index = index.iter().flat_map(|&base| (0..dim).map(move |i| base + i * stride)).collect();
    }
    index
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
        Op::Conv(_) | Op::ConvTranspose { .. } => (2, 3),
        Op::Concat { .. } => (1, usize::MAX),
        _ => (1, 1),
    }
}

/// The shape that an operator makes of operands of these shapes; `declared` is the shape of the output value,
/// which decides for `Reshape`.
pub(super) fn infer(op: &Op, operands: &[&[usize]], declared: &[usize]) -> Shape {
    let (least, most) = arity(op);
    if operands.len() < least || operands.len() > most {
        return Err(format!("{} operands where {least} to {most} are expected", operands.len()));
    }
    let out = match op {
        Op::Gemm { trans_a, trans_b, .. } => {
            let c = operands.get(2).copied();
            gemm(operands[0], operands[1], c, *trans_a, *trans_b).map(|[m, _, n]| vec![m, n])?
        }
        Op::MatMul => matmul(operands[0], operands[1])?.out,
        Op::Add | Op::Sub | Op::Mul | Op::Div => broadcast(operands[0], operands[1])?,
        Op::Relu => operands[0].to_vec(),
        Op::Reshape => {
            if elements(operands[0])? != elements(declared)? {
                let from = operands[0];
                return Err(format!("shape {from:?} cannot become {declared:?}"));
            }
            declared.to_vec()
        }
        _ => return Err(format!("{} is not supported", op.name())),
    };
    elements(&out)?;
    Ok(out)
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
    fn sizes_cannot_overflow() {
        assert!(elements(&[usize::MAX, 2]).is_err());
        assert!(elements(&[MAX_ELEMENTS, 2]).is_err());
        assert!(infer(&Op::Add, &[&[1 << 20, 1], &[1, 1 << 20]], &[]).is_err());
    }
}
