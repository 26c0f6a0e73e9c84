//! Fully connected ReLU networks as a list of dense layers: the form that bound propagation and attacks run on.
//!
//! A network may reach this form through arithmetic that `f32` cannot hold (a normalisation (x - mean) / std folded
//! into weights). The layers then say how far their numbers are from the network's real ones, so that a proof
//! about the layers can be made a proof about the network. In the common case (Gemm, or MatMul and Add) nothing
//! is folded, the numbers are the file's, and the distances are 0.

mod segment;
#[cfg(test)]
mod tests;

use self::segment::Segment;
use super::bounded::Bounded;
use super::layers::constants;
use super::reference::{self, Tensor};
use super::shape::{self, MAX_ELEMENTS};
use super::{Graph, Node, Op, ValueId};
use crate::error::{Error, Result};
use ndarray::{Array1, Array2, ArrayD, Ix2};
use std::borrow::Cow;

/// One affine layer `z = W y + b`, stored in `f32`, with bounds on how far the stored numbers are from the network's
/// real ones.
#[derive(Debug, Clone)]
pub struct Affine {
    /// W, `[out, in]`, in row-major order.
    pub weight: Array2<f32>,
    /// b, `[out]`.
    pub bias: Array1<f32>,
    /// `|W_real - W| <= weight_rel * |W|`, elementwise.
    pub weight_rel: f32,
    /// `|b_real - b| <= bias_abs`, elementwise, `[out]`. No element is subnormal.
    pub bias_abs: Array1<f32>,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// A network as a chain of affine layers, with or without a ReLU after each.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The layers, first to last; at least one.
    pub layers: Vec<Affine>,
}

impl Chain {
    /// Brings a graph into this form.
    ///
    /// Elementwise arithmetic with constants is folded into the dense layer before or after it, computed in `f64` with
    /// an error bound and rounded to `f32` once. Where that would underflow `f32`, the scaling becomes a diagonal
    /// layer of its own. Two dense layers without a ReLU between them stay two layers.
    ///
    /// # Errors
    /// `Unsupported`, naming the node, if the graph is not a chain of affine operators and ReLUs (two computed operands,
    /// a division by a computed value, a result of another size), or if a number leaves the range of `f32`;
    /// `TooBig` if a layer would have more than 2^28 weights; `BadInput` if the graph is malformed.
    pub fn from_graph(graph: &Graph) -> Result<Self> {
        graph.check()?;
        let path = path(graph)?;
        let mut builder = Builder {
            graph,
            constants: constants(graph)?,
            layers: Vec::new(),
            segment: Segment::identity(graph.input_len()),
        };
        for step in &path {
            builder.step(step)?;
        }
        let last = path.last().map_or("the network's output", |step| &step.node.name);
        builder.close(false, last)?;
        Ok(Self { layers: builder.layers })
    }

    /// Number of inputs.
    pub fn input_len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.weight.ncols())
    }

    /// Number of outputs.
    pub fn output_len(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.weight.nrows())
    }
}

/// A node on the way from the input to the output, with the position of its one operand that is not constant.
struct Step<'a> {
    node: &'a Node,
    at: usize,
}

impl Step<'_> {
    fn unsupported(&self, why: &str) -> Error {
        unsupported(&self.node.name, self.node.op.name(), why)
    }
}

fn unsupported(name: &str, op: &str, why: &str) -> Error {
    Error::unsupported(format!("node '{name}' ({op}) {why}")).with_help(
        "only chains of dense layers, ReLUs and elementwise arithmetic with constants can be verified so far",
    )
}

/// The nodes from the input to the output.
fn path(graph: &Graph) -> Result<Vec<Step<'_>>> {
    let mut computed = vec![false; graph.values.len()];
    computed[graph.input.0] = true;
    let mut producer = vec![None; graph.values.len()];
    for node in &graph.nodes {
        computed[node.output.0] = node.inputs.iter().any(|id| computed[id.0]);
        producer[node.output.0] = Some(node);
    }
    if !computed[graph.output.0] {
        return Err(Error::unsupported("the network's output does not depend on its input")
            .with_help("check that the right network was exported"));
    }
    let mut path = Vec::new();
    let mut value = graph.output;
    while let Some(node) = producer[value.0] {
        let operands = node.inputs.iter().enumerate();
        let found: Vec<usize> = operands.filter(|(_, id)| computed[id.0]).map(|(at, _)| at).collect();
        let [at] = found[..] else {
            let why = "combines two computed values (a residual or a product)";
            return Err(unsupported(&node.name, node.op.name(), why));
        };
        path.push(Step { node, at });
        value = node.inputs[at];
    }
    path.reverse();
    Ok(path)
}

struct Builder<'a> {
    graph: &'a Graph,
    constants: Vec<Option<Tensor<Bounded>>>,
    layers: Vec<Affine>,
    /// The affine map since the last layer.
    segment: Segment,
}

impl<'a> Builder<'a> {
    fn step(&mut self, step: &Step<'_>) -> Result<()> {
        match step.node.op {
            Op::Reshape => Ok(()),
            Op::Relu => self.close(true, &step.node.name),
            Op::Add | Op::Sub | Op::Mul | Op::Div => self.elementwise(step),
            Op::MatMul => self.matmul(step),
            Op::Gemm { alpha, beta, trans_a, trans_b } => {
                self.gemm(step, [trans_a, trans_b])?;
                self.gemm_scaling(step, alpha, beta)
            }
            _ => Err(step.unsupported("is not a part of a chain")),
        }
    }

    /// Ends the segment as a layer. A segment that does nothing leaves no layer, unless there is none yet.
    fn close(&mut self, relu: bool, node: &str) -> Result<()> {
        let segment = std::mem::replace(&mut self.segment, Segment::identity(0));
        self.segment = Segment::identity(segment.len());
        match self.layers.last_mut() {
            Some(last) if segment.is_trivial() => last.relu |= relu,
            _ => self.layers.push(segment.finish(relu, node)?),
        }
        Ok(())
    }

    /// The numbers of a constant operand.
    fn constant(&self, id: ValueId) -> Result<Cow<'_, Tensor<Bounded>>> {
        reference::operand(self.graph.value(id), &self.constants[id.0])
    }

    /// A constant operand broadcast to a shape, row-major.
    fn broadcast(&self, id: ValueId, shape: &[usize]) -> Result<Vec<Bounded>> {
        Ok(self.constant(id)?.broadcast_to(shape))
    }

    fn elementwise(&mut self, step: &Step<'_>) -> Result<()> {
        let shape = &self.graph.value(step.node.output).shape;
        let before = self.segment.len();
        if shape.iter().product::<usize>() != before {
            return Err(
                step.unsupported(&format!("broadcasts a computed value of {before} elements to shape {shape:?}"))
            );
        }
        let constant = self.broadcast(step.node.inputs[1 - step.at], shape)?;
        match (&step.node.op, step.at) {
            (Op::Add, _) => self.segment.shift(&constant),
            (Op::Sub, 0) => {
                let negative: Vec<Bounded> = constant.iter().map(|c| c.neg()).collect();
                self.segment.shift(&negative);
            }
            (Op::Sub, _) => {
                self.segment.negate();
                self.segment.shift(&constant);
            }
            (Op::Mul, _) => self.scale(step, &constant, Bounded::mul)?,
            (Op::Div, 0) => self.scale(step, &constant, Bounded::div)?,
            _ => return Err(step.unsupported("divides by a computed value")),
        }
        Ok(())
    }

    /// Multiplies or divides by constants; as a segment of its own if the dense layer's weights would underflow.
    fn scale(&mut self, step: &Step<'_>, factors: &[Bounded], op: fn(Bounded, Bounded) -> Bounded) -> Result<()> {
        let scaled = self.segment.scaled(factors, op);
        if scaled.folds() {
            self.segment = scaled;
            return Ok(());
        }
        self.close(false, &step.node.name)?;
        self.segment = self.segment.scaled(factors, op);
        Ok(())
    }

    /// Puts a dense layer behind the segment: into it if it is elementwise so far and the weights stay normal.
    fn dense(&mut self, step: &Step<'_>, matrix: Array2<f32>) -> Result<()> {
        if self.segment.is_dense() {
            self.close(false, &step.node.name)?;
        }
        if let Some(matrix) = self.segment.dense(matrix) {
            self.close(false, &step.node.name)?;
            // Behind an identity no weight changes, so this always folds.
            if self.segment.dense(matrix).is_some() {
                let name = &step.node.name;
                return Err(Error::internal(format!("node '{name}' does not fold")));
            }
        }
        Ok(())
    }

    /// A constant operand as a matrix whose numbers are exact.
    fn matrix(&self, step: &Step<'_>, id: ValueId) -> Result<Array2<f32>> {
        let array: Cow<'_, ArrayD<f32>> = match &self.graph.value(id).constant {
            Some(constant) => Cow::Borrowed(constant),
            None => Cow::Owned(self.exact(step, id)?),
        };
        // A vector is a row on the left and a column on the right, as in `shape::matmul`.
        let (rows, columns) = match array.shape() {
            [.., rows, columns] => (*rows, *columns),
            [len] if step.at == 1 => (1, *len),
            [len] => (*len, 1),
            [] => (1, 1),
        };
        if rows * columns != array.len() {
            return Err(step.unsupported("multiplies by a stack of several constant matrices"));
        }
        let matrix = array.to_shape((rows, columns)).map(|matrix| matrix.into_owned());
        matrix.map_err(|e| Error::internal(format!("node '{}': {e}", step.node.name)))
    }

    /// A constant that nodes compute, if it is exact in `f32`.
    fn exact(&self, step: &Step<'_>, id: ValueId) -> Result<ArrayD<f32>> {
        let constant = self.constant(id)?;
        let inexact = || step.unsupported("multiplies by a matrix that `f32` cannot hold exactly");
        let narrow = |x: &Bounded| {
            let narrow = x.value as f32;
            (x.error == 0.0 && f64::from(narrow) == x.value).then_some(narrow)
        };
        let data: Option<Vec<f32>> = constant.data.iter().map(narrow).collect();
        ArrayD::from_shape_vec(constant.shape.clone(), data.ok_or_else(inexact)?)
            .map_err(|e| Error::internal(e.to_string()))
    }

    fn matmul(&mut self, step: &Step<'_>) -> Result<()> {
        let shapes = [0, 1].map(|i| self.graph.value(step.node.inputs[i]).shape.as_slice());
        let product = shape::matmul(shapes[0], shapes[1]).map_err(|why| step.unsupported(&why))?;
        let constant = self.matrix(step, step.node.inputs[1 - step.at])?;
        let matrix = if step.at == 0 {
            let rows = self.segment.len() / product.k.max(1);
            behind(constant, rows, false)
        } else if product.batch_b.iter().product::<usize>() == 1 {
            in_front(constant, product.n, false)
        } else {
            return Err(step.unsupported("multiplies a stack of several computed matrices"));
        };
        self.dense(step, matrix.ok_or_else(|| too_big(step))?)
    }

    fn gemm(&mut self, step: &Step<'_>, [trans_a, trans_b]: [bool; 2]) -> Result<()> {
        if step.at == 2 {
            return Err(step.unsupported("adds a computed value to a product of constants"));
        }
        let constant = self.matrix(step, step.node.inputs[1 - step.at])?;
        let transpose = |m: Array2<f32>, yes| if yes { m.reversed_axes() } else { m };
        let (m, n) = match self.graph.value(step.node.output).shape[..] {
            [m, n] => (m, n),
            _ => return Err(step.unsupported("has a result that is not a matrix")),
        };
        let matrix = if step.at == 0 {
            behind(transpose(constant, trans_b), m, trans_a)
        } else {
            in_front(transpose(constant, trans_a), n, trans_b)
        };
        self.dense(step, matrix.ok_or_else(|| too_big(step))?)
    }

    /// Gemm's factors and its third operand, after the product.
    fn gemm_scaling(&mut self, step: &Step<'_>, alpha: f32, beta: f32) -> Result<()> {
        if alpha != 1.0 {
            let factors = vec![Bounded::exact(f64::from(alpha)); self.segment.len()];
            self.scale(step, &factors, Bounded::mul)?;
        }
        if let Some(&id) = step.node.inputs.get(2) {
            let mut shift = self.broadcast(id, &self.graph.value(step.node.output).shape)?;
            let beta = Bounded::exact(f64::from(beta));
            shift.iter_mut().for_each(|c| *c = c.mul(beta));
            self.segment.shift(&shift);
        }
        Ok(())
    }
}

fn too_big(step: &Step<'_>) -> Error {
    Error::new(
        crate::error::ErrorKind::TooBig,
        format!(
            "node '{}' ({}): as a dense layer it has more than {MAX_ELEMENTS} weights",
            step.node.name,
            step.node.op.name()
        ),
    )
}

/// The matrix of X -> X B on flat vectors: X has `m` rows and may be stored transposed, B is `[k, n]`. `None` if it has
/// too many elements.
fn behind(b: Array2<f32>, m: usize, trans_x: bool) -> Option<Array2<f32>> {
    if m == 1 {
        // The one case of practice: B transposed, in row-major order.
        return Some(b.reversed_axes().as_standard_layout().into_owned());
    }
    let (k, n) = b.dim();
    let mut matrix = zeros(m.checked_mul(n)?, m.checked_mul(k)?)?;
    for i in 0..m {
        for ((l, j), &weight) in b.indexed_iter() {
            let x = if trans_x { l * m + i } else { i * k + l };
            matrix[[i * n + j, x]] = weight;
        }
    }
    Some(matrix)
}

/// The matrix of X -> A X on flat vectors: A is `[m, k]`, X has `n` columns and may be stored transposed.
fn in_front(a: Array2<f32>, n: usize, trans_x: bool) -> Option<Array2<f32>> {
    if n == 1 {
        return Some(a.as_standard_layout().into_owned());
    }
    let (m, k) = a.dim();
    let mut matrix = zeros(m.checked_mul(n)?, k.checked_mul(n)?)?;
    for j in 0..n {
        for ((i, l), &weight) in a.indexed_iter() {
            let x = if trans_x { j * k + l } else { l * n + j };
            matrix[[i * n + j, x]] = weight;
        }
    }
    Some(matrix)
}

fn zeros(rows: usize, columns: usize) -> Option<Array2<f32>> {
    shape::elements(&[rows, columns]).ok()?;
    Some(Array2::zeros(Ix2(rows, columns)))
}
