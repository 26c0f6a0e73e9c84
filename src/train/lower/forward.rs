//! Forward steps of every operator.

use super::layout::Layout;
use super::{Home, Lowering, Place};
use crate::error::{Error, Result};
use crate::graph::shape::broadcast_index;
use crate::graph::{Node, Op, ValueId};
use crate::ops::elementwise::{self, Binary, Unary};
use crate::ops::matmul::Matmul;
use crate::ops::softmax;
use crate::train::table::Field;

/// The other operand of an elementwise operator of two.
pub(super) enum Other {
    /// Computed, of the same shape and layout.
    Place(Place),
    /// A parameter that repeats along the leading axes: `[rows, columns]` of its own.
    Field(Field, [usize; 2]),
    /// The same number everywhere.
    Number(f32),
    /// Numbers that are not trained, in the layout of the computed operand; an index holds their bits.
    Fixed(usize),
}

impl Lowering<'_> {
    pub(super) fn forward(&mut self, index: usize) -> Result<()> {
        let node = &self.graph.nodes[index];
        match &node.op {
            Op::Gemm { .. } => self.gemm(index, node),
            Op::MatMul => self.matmul(index, node),
            Op::Conv(window) => self.conv_forward(index, node, *window),
            Op::Add | Op::Sub | Op::Mul | Op::Div => self.binary(node),
            Op::Relu if self.fused[index] => {
                self.homes[node.output.0] = self.homes[node.inputs[0].0].clone();
                Ok(())
            }
            Op::Relu => self.unary(node, Unary::Relu),
            Op::Sigmoid => self.unary(node, Unary::Sigmoid),
            Op::Tanh => self.unary(node, Unary::Tanh),
            Op::Gelu => self.unary(node, Unary::Gelu),
            Op::LeakyRelu { alpha } => self.unary(node, Unary::LeakyRelu(*alpha)),
            Op::Softmax { axis } => self.softmax(node, *axis, false),
            Op::CausalSoftmax => self.softmax(node, self.shape(node.output).len() - 1, true),
            Op::Reshape | Op::Transpose { .. } | Op::Concat { .. } | Op::Select { .. } | Op::Pad { .. } => {
                self.move_forward(node)
            }
            Op::MaxPool { .. } | Op::AveragePool { .. } => self.pool_forward(index, node),
            Op::BatchNormalization { epsilon } => self.batch_norm(index, node, *epsilon),
            Op::LayerNormalization { axis, epsilon } => self.layer_norm(index, node, (*axis, *epsilon)),
            Op::GroupNormalization { groups, epsilon } => self.group_norm(index, node, (*groups, *epsilon)),
            Op::Dropout { rate } => self.dropout_forward(index, node, *rate),
            Op::Embedding { .. } => self.embedding_forward(index, node),
            Op::ConvTranspose { window, .. } => self.transposed_forward(index, node, *window),
        }
    }

    /// Whether the one consumer of a node's result is a ReLU, which the node then does itself.
    pub(super) fn fuse_relu(&mut self, index: usize) -> bool {
        let output = self.graph.nodes[index].output;
        if self.consumers[output.0] != 1 {
            return false;
        }
        let next = self.graph.nodes.iter().position(|n| n.inputs.first() == Some(&output));
        let Some(next) = next.filter(|&next| matches!(self.graph.nodes[next].op, Op::Relu)) else { return false };
        self.fused[next] = true;
        true
    }

    /// The field of a trained operand.
    pub(super) fn field(&self, node: &Node, operand: usize) -> Result<Field> {
        match self.homes.get(node.inputs[operand].0) {
            Some(Some(Home::Field(field))) => Ok(field.clone()),
            _ => Err(Self::refuse(node, &format!("operand {operand} must be a trained constant"))),
        }
    }

    fn gemm(&mut self, index: usize, node: &Node) -> Result<()> {
        let Op::Gemm { alpha, beta, trans_a, trans_b } = node.op else { return Err(Error::internal("no Gemm")) };
        if alpha != 1.0 || (beta != 1.0 && node.inputs.len() > 2) || trans_a {
            return Err(Self::refuse(node, "only alpha = beta = 1 without transposed input can be trained"));
        }
        let bias = if node.inputs.len() > 2 { Some(self.field(node, 2)?) } else { None };
        self.product(index, node, trans_b, bias)
    }

    /// A product of rows with a trained matrix.
    fn product(&mut self, index: usize, node: &Node, trans_b: bool, bias: Option<Field>) -> Result<()> {
        let weight = self.field(node, 1)?;
        let trans_b = trans_b != weight.turned;
        let (x, layout) = self.plain(node.inputs[0])?;
        let (rows, k) = (self.batch * layout.rows(), layout.columns());
        let out_layout = Layout::plain(self.shape(node.output));
        let n = out_layout.columns();
        let out = self.define(node.output, out_layout);
        let relu = self.fuse_relu(index);
        self.saved.insert(index, vec![x]);
        self.step(&[x], &[out], move |recording, frame| {
            let bias = bias.as_ref().map(|field| field.of(&frame.tables.parameters)).transpose()?;
            let product = Matmul { trans_b, bias: bias.as_ref(), relu, ..Matmul::default() };
            let (x, out) = (frame.view(x, &[rows, k])?, frame.view(out, &[rows, n])?);
            product.record(recording, frame.caps, &x, &weight.of(&frame.tables.parameters)?, &out)
        });
        Ok(())
    }

    fn matmul(&mut self, index: usize, node: &Node) -> Result<()> {
        if matches!(self.homes[node.inputs[1].0], Some(Home::Field(_))) {
            return self.product(index, node, false, None);
        }
        let [(a, la), (b, lb)] = [self.plain(node.inputs[0])?, self.plain(node.inputs[1])?];
        let out_layout = Layout::plain(self.shape(node.output));
        let shape = Pairs::new(&la, &lb).ok_or_else(|| Self::refuse(node, "stacks of unlike matrices"))?;
        let pairs = shape.stack * self.batch;
        let out = self.define(node.output, out_layout);
        self.saved.insert(index, vec![a, b]);
        self.step(&[a, b], &[out], move |recording, frame| {
            let stack = pairs * frame.slots;
            let of = |place, rows, columns| stacked(&frame.view(place, &[pairs, rows, columns])?, stack);
            let (a, b) = (of(a, shape.m, shape.k)?, of(b, shape.k, shape.n)?);
            Matmul::default().record(recording, frame.caps, &a, &b, &of(out, shape.m, shape.n)?)
        });
        Ok(())
    }

    fn unary(&mut self, node: &Node, op: Unary) -> Result<()> {
        let (x, layout) = self.computed(node.inputs[0])?;
        let (rows, columns) = (self.batch * layout.rows(), layout.columns());
        let out = self.define(node.output, layout);
        self.step(&[x], &[out], move |recording, frame| {
            let (x, out) = (frame.rows(x, rows, columns)?, frame.rows(out, rows, columns)?);
            elementwise::unary(recording, frame.caps, op, &x, &out)
        });
        Ok(())
    }

    /// The two operands of an elementwise node: which is computed, and what the other is.
    pub(super) fn operands(&mut self, node: &Node) -> Result<(usize, Other)> {
        let is_computed = |lowering: &Self, operand: usize| lowering.computed(node.inputs[operand]).is_ok();
        let first = usize::from(!is_computed(self, 0));
        let (value, other) = (node.inputs[first], node.inputs[1 - first]);
        if is_computed(self, 1 - first) {
            if self.shape(value) != self.shape(other) {
                return Err(Self::refuse(node, "computed operands of unlike shapes"));
            }
            return Ok((first, Other::Place(self.computed(other)?.0)));
        }
        if first == 1 && matches!(node.op, Op::Div) {
            return Err(Self::refuse(node, "a constant divided by a computed value"));
        }
        if let Some(Home::Field(field)) = &self.homes[other.0] {
            return self.repeated(node, value, other, field.clone()).map(|other| (first, other));
        }
        let Some(constant) = &self.graph.value(other).constant else {
            return Err(Error::internal("an operand that is neither computed nor constant"));
        };
        let number = constant.first().copied().filter(|first| constant.iter().all(|v| v == first));
        match (&node.op, number) {
            (Op::Mul | Op::Div, Some(number)) => Ok((first, Other::Number(number))),
            _ if self.shape(value) != self.shape(node.output) => {
                Err(Self::refuse(node, "a fixed operand that is larger than the computed one"))
            }
            _ => {
                let elements: Vec<f32> = constant.iter().copied().collect();
                let source = broadcast_index(self.shape(other), self.shape(value));
                let (_, layout) = self.computed(value)?;
                let mut words = vec![0; layout.words()];
                source.iter().enumerate().for_each(|(i, &from)| words[layout.place(i)] = elements[from].to_bits());
                self.indices.push(words);
                Ok((first, Other::Fixed(self.indices.len() - 1)))
            }
        }
    }

    /// The computed operand beside a parameter: with its channels last where the parameter is one of channels.
    pub(super) fn beside_field(&mut self, node: &Node, value: ValueId, other: ValueId) -> Result<(Place, Layout)> {
        if !self.is_of_channels(value, other) {
            return self.plain(value);
        }
        if self.shape(value).len() == 3 {
            return self.sequence(value);
        }
        let (place, dims) = self.image(value, node)?;
        Ok((place, Layout { dims: dims.to_vec(), image: true }))
    }

    /// Whether a constant has a number for each channel (axis 1) of an image or a sequence.
    fn is_of_channels(&self, value: ValueId, other: ValueId) -> bool {
        let (rank, shape) = (self.shape(value).len(), self.shape(other));
        rank > 2 && (0..shape.len()).all(|axis| shape[axis] == 1 || axis + rank == shape.len() + 1)
    }

    /// A parameter that repeats along the leading axes of a value.
    fn repeated(&self, node: &Node, value: ValueId, other: ValueId, field: Field) -> Result<Other> {
        let mut own: Vec<usize> = self.shape(other).iter().copied().skip_while(|&length| length == 1).collect();
        let mut fits = Layout::plain(self.shape(value)).dims.ends_with(&own);
        if self.is_of_channels(value, other) {
            // A channel's parameter [1, C, 1, 1] is the last axis of an image in memory.
            (own, fits) = (vec![self.shape(value)[1]], true);
        }
        let columns = own.last().copied().unwrap_or(1);
        let rows = own.iter().rev().skip(1).product();
        if !fits || field.columns() != columns || field.rows() != rows {
            return Err(Self::refuse(node, "a trained operand that does not repeat along leading axes"));
        }
        Ok(Other::Field(field, [rows, columns]))
    }

    fn binary(&mut self, node: &Node) -> Result<()> {
        let (first, other) = self.operands(node)?;
        let (mut x, mut layout) = self.computed(node.inputs[first])?;
        let op = match node.op {
            Op::Add => Binary::Add,
            Op::Sub => Binary::Sub,
            Op::Mul => Binary::Mul,
            _ => Binary::Div,
        };
        let mut second = None;
        if let Other::Field(..) = other {
            (x, layout) = self.beside_field(node, node.inputs[first], node.inputs[1 - first])?;
        }
        if let Other::Place(place) = other {
            let (_, other_layout) = self.computed(node.inputs[1 - first])?;
            second = Some(place);
            if other_layout != layout {
                (x, layout) = self.plain(node.inputs[first])?;
                second = Some(self.plain(node.inputs[1 - first])?.0);
            }
        }
        let (rows, columns) = (self.batch * layout.rows(), layout.columns());
        let out = self.define(node.output, layout);
        match (other, second) {
            (Other::Place(_), Some(y)) => self.step(&[x, y], &[out], move |recording, frame| {
                let of = |place| frame.rows(place, rows, columns);
                elementwise::binary(recording, frame.caps, op, &of(x)?, &of(y)?, &of(out)?)
            }),
            (Other::Field(field, [own, columns]), _) => self.step(&[x], &[out], move |recording, frame| {
                let of = |place| frame.view(place, &[rows / own, own, columns]);
                let (x, y) = (of(x)?, field.shaped(&frame.tables.parameters, &[1, own, columns])?);
                let (x, y) = if first == 0 { (x, y) } else { (y, x) };
                elementwise::binary(recording, frame.caps, op, &x, &y, &of(out)?)
            }),
            (Other::Fixed(index), _) => {
                let (batch, own) = (self.batch, rows / self.batch);
                self.step(&[x], &[out], move |recording, frame| {
                    let of = |place| frame.view(place, &[batch, own, columns]);
                    let (x, y) = (of(x)?, frame.numbers(index, [own, columns])?);
                    let (x, y) = if first == 0 { (x, y) } else { (y, x) };
                    elementwise::binary(recording, frame.caps, op, &x, &y, &of(out)?)
                });
            }
            (Other::Number(number), _) => {
                let factor = if matches!(op, Binary::Mul) { number } else { 1.0 / number };
                self.step(&[x], &[out], move |recording, frame| {
                    let of = |place| frame.rows(place, rows, columns);
                    elementwise::unary(recording, frame.caps, Unary::Scale(factor), &of(x)?, &of(out)?)
                });
            }
            (Other::Place(_), None) => return Err(Error::internal("a second operand without a place")),
        }
        Ok(())
    }

    fn softmax(&mut self, node: &Node, axis: usize, causal: bool) -> Result<()> {
        let shape = self.shape(node.output);
        if axis + 1 != shape.len() {
            return Err(Self::refuse(node, "only the last axis can be trained"));
        }
        let (x, layout) = self.plain(node.inputs[0])?;
        let (rows, columns) = (self.batch * layout.rows(), layout.columns());
        let out = self.define(node.output, layout);
        self.step(&[x], &[out], move |recording, frame| {
            let (x, out) = (frame.rows(x, rows, columns)?, frame.rows(out, rows, columns)?);
            if causal {
                return softmax::causal(recording, frame.caps, &x, &out);
            }
            softmax::record(recording, frame.caps, &x, Some(&out), None)
        });
        Ok(())
    }
}

/// Stacks of matrices that are multiplied pair by pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs {
    pub stack: usize,
    pub m: usize,
    pub k: usize,
    pub n: usize,
}

impl Pairs {
    pub fn new(a: &Layout, b: &Layout) -> Option<Self> {
        let [a_front @ .., m, k] = a.dims.as_slice() else { return None };
        let [b_front @ .., rows, n] = b.dims.as_slice() else { return None };
        (a_front == b_front && rows == k).then(|| Self { stack: a_front.iter().product(), m: *m, k: *k, n: *n })
    }
}

/// `[slots, pairs, rows, columns]` as `[slots * pairs, rows, columns]`.
pub(super) fn stacked(t: &crate::Tensor, stack: usize) -> Result<crate::Tensor> {
    let shape = t.shape();
    let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
    t.view(&[stack, rows, columns]).ok_or_else(|| Error::internal("a stack leaves its place"))
}
