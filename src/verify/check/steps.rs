//! A graph as a sequence of steps on one flat vector, each with exact f64 constants.
//!
//! Constants of a network are f32, and so is the product of two of them in f64: nothing is rounded here. A product
//! with a constant matrix, a bias and a normalisation stay separate steps, so that no folding error has to be
//! argued about.

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ValueId};
use ndarray::{Array2, ArrayD, IxDyn};

/// The largest matrix, in elements, that a constant product may unfold to.
const MATRIX_LIMIT: usize = 1 << 28;

/// One step `x -> y`.
#[derive(Debug)]
pub(super) enum Step {
    /// `y = W x`.
    Dense(Matrix),
    /// `y_i = x_i * c_i`, or `y_i = x_i / c_i`.
    Scale { by: Vec<f64>, divide: bool },
    /// `y_i = x_i + c_i`.
    Shift(Vec<f64>),
    /// `y_i = max(x_i, 0)`.
    Relu,
}

/// Rows of f64, one behind the other; `cols` is not 0.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) cols: usize,
    pub(super) data: Vec<f64>,
}

impl Matrix {
    pub(super) fn rows(&self) -> usize {
        self.data.len() / self.cols
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.cols..(row + 1) * self.cols]
    }
}

/// A network that is a sequence of steps.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) steps: Vec<Step>,
    /// The number of elements before each step, and after the last.
    pub(super) widths: Vec<usize>,
}

impl Network {
    /// Reads the nodes of a graph.
    pub(super) fn new(graph: &Graph) -> Result<Self> {
        let input = graph.value(graph.input);
        let mut builder =
            Builder { graph, current: graph.input, shape: input.shape.clone(), steps: vec![], widths: vec![] };
        if count(&builder.shape) == 0 {
            return Err(Error::bad_input(format!("the network's input `{}` is empty", input.name))
                .with_help("export the network with a fixed input shape"));
        }
        for node in &graph.nodes {
            builder.node(node)?;
        }
        if builder.current != graph.output {
            let name = &graph.value(graph.output).name;
            return Err(Error::unsupported(format!("the output `{name}` is not the result of the last node"))
                .with_help("proofs are checked for networks that are one sequence of layers"));
        }
        let Builder { steps, mut widths, shape, .. } = builder;
        widths.push(count(&shape));
        Ok(Self { steps, widths })
    }

    /// The widths of the ReLU layers.
    pub(super) fn relu_widths(&self) -> Vec<usize> {
        let relus = self.steps.iter().zip(&self.widths).filter(|(step, _)| matches!(step, Step::Relu));
        relus.map(|(_, &width)| width).collect()
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    current: ValueId,
    shape: Vec<usize>,
    steps: Vec<Step>,
    widths: Vec<usize>,
}

impl Builder<'_> {
    fn node(&mut self, node: &Node) -> Result<()> {
        if node.inputs.iter().all(|&id| self.graph.value(id).constant.is_some()) {
            return self.folded(node);
        }
        let output = self.graph.value(node.output);
        match &node.op {
            Op::Relu => {
                self.operand(node, 0)?;
                self.push(Step::Relu);
            }
            Op::Reshape => {
                self.operand(node, 0)?;
                if count(&output.shape) != count(&self.shape) {
                    return Err(inconsistent(node, &self.shape, &output.shape));
                }
                self.shape.clone_from(&output.shape);
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div => self.elementwise(node)?,
            Op::MatMul => self.product(node, 1.0, false, false)?,
            Op::Gemm { alpha, beta, trans_a, trans_b } => {
                self.product(node, f64::from(*alpha), *trans_a, *trans_b)?;
                if let Some(&bias) = node.inputs.get(2) {
                    let bias = self.constant(node, bias)?;
                    let by = self.spread(node, &bias)?.iter().map(|c| c * f64::from(*beta)).collect();
                    self.push(Step::Shift(by));
                }
            }
            // Op is non-exhaustive: an operator of tomorrow must not slip through.
            #[allow(unreachable_patterns, reason = "the list of operators will grow")]
            other => {
                return Err(Error::unsupported(format!(
                    "node `{}`: {} cannot be re-checked yet",
                    node.name,
                    other.name()
                ))
                .with_help("proofs are checked for networks of Gemm, MatMul, Add, Sub, Mul, Div, Reshape and Relu"));
            }
        }
        if count(&output.shape) != count(&self.shape) {
            return Err(inconsistent(node, &self.shape, &output.shape));
        }
        self.current = node.output;
        Ok(())
    }

    fn push(&mut self, step: Step) {
        let inputs = match &step {
            Step::Dense(matrix) => matrix.cols,
            _ => count(&self.shape),
        };
        self.widths.push(inputs);
        self.steps.push(step);
    }

    /// A node of constants is taken from the reader only if it moves them unchanged.
    fn folded(&self, node: &Node) -> Result<()> {
        let data = |id: ValueId| self.graph.value(id).constant.as_deref();
        if let (Op::Reshape, Some(&from)) = (&node.op, node.inputs.first())
            && let (Some(from), Some(to)) = (data(from), data(node.output))
            && from.len() == to.len()
            && from.iter().zip(to).all(|(a, b)| a.to_bits() == b.to_bits())
        {
            return Ok(());
        }
        Err(Error::unsupported(format!("node `{}`: {} of constants cannot be re-checked", node.name, node.op.name()))
            .with_help("export the network with constant folding"))
    }

    /// Demands that an operand is the value computed so far.
    fn operand(&self, node: &Node, index: usize) -> Result<()> {
        if node.inputs.get(index) == Some(&self.current) {
            return Ok(());
        }
        Err(Error::unsupported(format!("node `{}` does not take the result of the node before it", node.name))
            .with_help("proofs are checked for networks that are one sequence of layers"))
    }

    /// The data of an operand that must be constant, finite and not empty.
    fn constant(&self, node: &Node, id: ValueId) -> Result<ArrayD<f64>> {
        let value = self.graph.value(id);
        let Some(data) = value.constant.as_deref() else {
            return Err(Error::unsupported(format!("node `{}` combines two computed values", node.name))
                .with_help("proofs are checked for networks that are one sequence of layers"));
        };
        if data.is_empty() || data.iter().any(|x| !x.is_finite()) {
            return Err(Error::bad_input(format!("the constant `{}` is empty or not finite", value.name))
                .with_help("export the network again; a weight that is not finite has no meaning"));
        }
        Ok(data.mapv(f64::from))
    }

    /// A constant broadcast to the current shape, in row-major order.
    fn spread(&self, node: &Node, constant: &ArrayD<f64>) -> Result<Vec<f64>> {
        match constant.broadcast(IxDyn(&self.shape)) {
            Some(view) => Ok(view.iter().copied().collect()),
            None => Err(inconsistent(node, &self.shape, constant.shape())),
        }
    }

    /// `x op c` or `c op x`.
    fn elementwise(&mut self, node: &Node) -> Result<()> {
        let &[left, right] = node.inputs.as_slice() else {
            return Err(operands(node));
        };
        let reversed = right == self.current;
        self.operand(node, usize::from(reversed))?;
        let constant = self.constant(node, if reversed { left } else { right })?;
        // The constant may have more dimensions than the value, all of them 1.
        let missing = constant.ndim().saturating_sub(self.shape.len());
        self.shape.splice(0..0, vec![1; missing]);
        let by = self.spread(node, &constant)?;
        match (&node.op, reversed) {
            (Op::Add, _) => self.push(Step::Shift(by)),
            (Op::Sub, false) => self.push(Step::Shift(by.iter().map(|c| -c).collect())),
            (Op::Sub, true) => {
                self.push(Step::Scale { by: vec![-1.0; by.len()], divide: false });
                self.push(Step::Shift(by));
            }
            (Op::Mul, _) => self.push(Step::Scale { by, divide: false }),
            (Op::Div, false) if by.iter().all(|&c| c != 0.0) => self.push(Step::Scale { by, divide: true }),
            _ => {
                return Err(Error::unsupported(format!("node `{}` divides by zero or by a computed value", node.name))
                    .with_help("proofs are checked for divisions by constants other than 0"));
            }
        }
        Ok(())
    }

    /// `alpha * op(A) op(B)` of the current value and a constant matrix, as one matrix on the flat vector.
    fn product(&mut self, node: &Node, alpha: f64, trans_a: bool, trans_b: bool) -> Result<()> {
        let (Some(&left), Some(&right)) = (node.inputs.first(), node.inputs.get(1)) else {
            return Err(operands(node));
        };
        let computed_left = left == self.current;
        self.operand(node, usize::from(!computed_left))?;
        let constant = self.constant(node, if computed_left { right } else { left })?;
        let constant_shape = constant.shape().to_vec();
        let mismatch = || inconsistent(node, &self.shape, &constant_shape);
        let (trans, trans_constant) = if computed_left { (trans_a, trans_b) } else { (trans_b, trans_a) };
        let plane = plane(constant, computed_left).ok_or_else(mismatch)?;
        let plane = if trans_constant { plane.reversed_axes() } else { plane };
        let stored = stored(&self.shape, computed_left).ok_or_else(mismatch)?;
        let (rows, cols) = if trans { (stored.1, stored.0) } else { stored };
        let (height, width, inner, other) = if computed_left {
            (rows, plane.ncols(), cols, plane.nrows())
        } else {
            (plane.nrows(), cols, rows, plane.ncols())
        };
        let gemm_rank = matches!(node.op, Op::MatMul) || (self.shape.len() == 2 && constant_shape.len() == 2);
        if inner != other || !gemm_rank {
            return Err(mismatch());
        }
        let len = rows * cols;
        let size = height.checked_mul(width).and_then(|n| n.checked_mul(len)).filter(|&n| n <= MATRIX_LIMIT);
        let mut matrix = Matrix { cols: len, data: vec![0.0; size.ok_or_else(|| too_large(node))?] };
        let place = |i: usize, j: usize| {
            if trans { j * stored.1 + i } else { i * stored.1 + j }
        };
        for (output, row) in matrix.data.chunks_exact_mut(len).enumerate() {
            let (i, j) = (output / width, output % width);
            for p in 0..inner {
                let (at, factor) =
                    if computed_left { (place(i, p), plane[[p, j]]) } else { (place(p, j), plane[[i, p]]) };
                row[at] = alpha * factor;
            }
        }
        self.push(Step::Dense(matrix));
        self.shape = product_shape(&self.shape, &constant_shape, computed_left, (height, width));
        Ok(())
    }
}

/// A constant operand of a product as one matrix; a vector is a column on the right and a row on the left.
fn plane(constant: ArrayD<f64>, on_the_right: bool) -> Option<Array2<f64>> {
    let shape = constant.shape();
    let dims = match *shape {
        [] => return None,
        [n] => {
            if on_the_right {
                (n, 1)
            } else {
                (1, n)
            }
        }
        [.., rows, cols] => (rows, cols),
    };
    // More than two dimensions are many matrices, unless the others are 1.
    if dims.0 * dims.1 != constant.len() {
        return None;
    }
    constant.into_shape_with_order(dims).ok()
}

/// Rows and columns of the computed operand of a product. On the left, all leading dimensions are rows.
fn stored(shape: &[usize], on_the_left: bool) -> Option<(usize, usize)> {
    match *shape {
        [] => None,
        [ref lead @ .., cols] if on_the_left => Some((count(lead), cols)),
        [rows] => Some((rows, 1)),
        [ref lead @ .., rows, cols] => (count(lead) == 1).then_some((rows, cols)),
    }
}

/// The shape of a product. A vector operand loses its dimension, as in NumPy.
fn product_shape(computed: &[usize], constant: &[usize], computed_left: bool, size: (usize, usize)) -> Vec<usize> {
    let (left, right) = if computed_left { (computed, constant) } else { (constant, computed) };
    let lead = match computed {
        [lead @ .., _, _] if computed_left => lead,
        _ => &[],
    };
    let mut shape = lead.to_vec();
    if left.len() > 1 {
        shape.push(size.0 / count(lead));
    }
    if right.len() > 1 {
        shape.push(size.1);
    }
    let rank = computed.len().max(constant.len());
    let missing = if rank > 2 { rank.saturating_sub(shape.len()) } else { 0 };
    shape.splice(0..0, vec![1; missing]);
    shape
}

/// The number of elements of a shape.
fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn inconsistent(node: &Node, one: &[usize], other: &[usize]) -> Error {
    Error::unsupported(format!(
        "node `{}`: {} of shapes {one:?} and {other:?} cannot be re-checked",
        node.name,
        node.op.name()
    ))
    .with_help(
        "proofs are checked for products of one sample with constant matrices, and for constants that broadcast to it",
    )
}

fn operands(node: &Node) -> Error {
    Error::bad_input(format!("node `{}`: {} needs two operands", node.name, node.op.name()))
        .with_help("the network's file is damaged; export it again")
}

fn too_large(node: &Node) -> Error {
    Error::unsupported(format!("node `{}`: its matrix would have more than {MATRIX_LIMIT} elements", node.name))
        .with_help("proofs are checked for smaller networks only")
}
