//! Gradient steps of every operator, for inputs and for parameters apart.

use super::forward::{Other, Pairs, stacked};
use super::layout::Layout;
use super::{Lowering, Place};
use crate::error::{Error, Result};
use crate::graph::{Node, Op, Task, ValueId};
use crate::ops::elementwise::{self, Binary, Unary};
use crate::ops::matmul::Matmul;
use crate::ops::{columns, softmax};
use crate::tensor::ALIGNED;
use crate::train::table::{Field, norm_operands};

impl Lowering<'_> {
    pub(super) fn gradient(&mut self, task: Task) -> Result<()> {
        match task {
            Task::Forward(_) => Err(Error::internal("a forward task behind gradients")),
            Task::InputGradient { node, operand } => {
                let n = &self.graph.nodes[node];
                let g = self.gradients[n.output.0].ok_or_else(|| Error::internal("a gradient that nobody gave"))?;
                self.input_gradient(node, n, operand, g)
            }
            Task::ParameterGradient { node, operand } => {
                let n = &self.graph.nodes[node];
                let g = self.gradients[n.output.0].ok_or_else(|| Error::internal("a gradient that nobody gave"))?;
                let value = n.inputs[operand];
                let left = self.shares.get(&value).copied().unwrap_or(1) - 1;
                self.shares.insert(value, left);
                if left == 0 && !self.sums.contains_key(&value) {
                    return self.parameter_gradient(node, n, operand, g);
                }
                let first = self.steps.len();
                self.parameter_gradient(node, n, operand, g)?;
                let field = self.field(n, operand)?;
                self.add_share(value, &field, first, left == 0);
                Ok(())
            }
        }
    }

    /// Sends what the steps from `first` on write to a parameter's field elsewhere, and adds it to the shares before; the last sum is the
    /// field.
    fn add_share(&mut self, value: ValueId, field: &Field, first: usize, last: bool) {
        let table = field.words().next_multiple_of(ALIGNED);
        let share = self.place(&[table]);
        for step in &mut self.steps[first..] {
            step.writes.push(share);
            let record = std::mem::replace(&mut step.record, Box::new(|_, _| Ok(())));
            step.record = Box::new(move |recording, frame| {
                let share = Some(frame.whole(share)?);
                record(recording, &super::Frame { share, ..*frame })
            });
        }
        let Some(before) = self.sums.insert(value, share) else { return };
        let (words, first) = (field.words(), field.first);
        let sum = (!last).then(|| self.place(&[table]));
        self.sums.extend(sum.map(|sum| (value, sum)));
        let writes: Vec<Place> = sum.into_iter().collect();
        self.step(&[before, share], &writes, move |recording, frame| {
            let of = |table: &crate::Tensor, first: usize| {
                table.field(first, &[words]).ok_or_else(|| Error::internal("a share that is no field"))
            };
            let out = match sum {
                Some(sum) => of(frame.whole(sum)?, 0)?,
                None => of(&frame.tables.gradients, first)?,
            };
            let (x, y) = (of(frame.whole(before)?, 0)?, of(frame.whole(share)?, 0)?);
            elementwise::binary(recording, frame.caps, Binary::Add, &x, &y, &out)
        });
    }

    /// Adds a share to the gradient of a value; it comes in `layout`.
    pub(super) fn give(&mut self, value: ValueId, share: Place, layout: &Layout) -> Result<()> {
        let (_, home) = self.computed(value)?;
        let share = match *layout == home || layout.is_dense() && home.is_dense() {
            true => share,
            false => self.reordered(share, layout, &home, &|i| i),
        };
        let sum = match self.gradients[value.0] {
            None => share,
            Some(before) => {
                let out = self.samples(&home);
                let (rows, columns) = (self.batch * home.rows(), home.columns());
                self.step(&[before, share], &[out], move |recording, frame| {
                    let of = |place| frame.rows(place, rows, columns);
                    elementwise::binary(recording, frame.caps, Binary::Add, &of(before)?, &of(share)?, &of(out)?)
                });
                out
            }
        };
        self.gradients[value.0] = Some(sum);
        Ok(())
    }

    pub(super) fn input_gradient(&mut self, index: usize, node: &Node, operand: usize, g: Place) -> Result<()> {
        let value = node.inputs[operand];
        match &node.op {
            Op::Gemm { trans_b, .. } => self.product_input(node, *trans_b, g),
            Op::MatMul => self.matmul_input(index, node, operand, g),
            Op::Conv(window) => self.conv_input(node, *window, g),
            Op::ConvTranspose { window, .. } => self.transposed_input(node, *window, g),
            Op::Add | Op::Sub | Op::Mul | Op::Div => self.binary_input(node, operand, g),
            Op::Relu if self.gated[node.output.0] => {
                let (_, layout) = self.computed(node.output)?;
                self.give(value, g, &layout)
            }
            // y > 0 says as much as x > 0.
            Op::Relu => self.through_output(node, Binary::ReluGradient, g),
            Op::Sigmoid => self.through_output(node, Binary::SigmoidGradient, g),
            Op::Tanh => self.through_output(node, Binary::TanhGradient, g),
            Op::Gelu => self.through_input(node, Binary::GeluGradient, g),
            Op::LeakyRelu { alpha } => self.through_input(node, Binary::LeakyReluGradient(*alpha), g),
            Op::MaxPool { .. } | Op::AveragePool { .. } => self.pool_backward(index, node, g),
            Op::BatchNormalization { .. } => self.batch_norm_input(index, node, g),
            Op::LayerNormalization { .. } => self.layer_norm_input(index, node, g),
            Op::GroupNormalization { groups, .. } => self.group_norm_input(index, node, *groups, g),
            Op::Dropout { rate } => self.dropout_backward(index, node, *rate, g),
            Op::Softmax { .. } | Op::CausalSoftmax => {
                let (y, layout) = self.computed(node.output)?;
                let (rows, columns) = (self.batch * layout.rows(), layout.columns());
                let out = self.samples(&layout);
                self.step(&[y, g], &[out], move |recording, frame| {
                    let of = |place| frame.rows(place, rows, columns);
                    softmax::gradient(recording, frame.caps, &of(y)?, &of(g)?, &of(out)?)
                });
                self.give(value, out, &layout)
            }
            Op::Reshape | Op::Transpose { .. } | Op::Concat { .. } | Op::Select { .. } | Op::Pad { .. } => {
                self.move_backward(node, operand, g)
            }
            _ => Err(Self::refuse(node, "it has no gradient")),
        }
    }

    /// The gradient of an activation from its result.
    fn through_output(&mut self, node: &Node, op: Binary, g: Place) -> Result<()> {
        let (y, layout) = self.computed(node.output)?;
        self.combined(node.inputs[0], op, g, y, &layout)
    }

    /// The gradient of an activation from its input.
    fn through_input(&mut self, node: &Node, op: Binary, g: Place) -> Result<()> {
        let (x, layout) = self.computed(node.inputs[0])?;
        self.combined(node.inputs[0], op, g, x, &layout)
    }

    /// A gradient that is `op(g, y)` element by element.
    fn combined(&mut self, value: ValueId, op: Binary, g: Place, y: Place, layout: &Layout) -> Result<()> {
        let (rows, columns) = (self.batch * layout.rows(), layout.columns());
        let out = self.samples(layout);
        self.step(&[g, y], &[out], move |recording, frame| {
            let of = |place| frame.rows(place, rows, columns);
            elementwise::binary(recording, frame.caps, op, &of(g)?, &of(y)?, &of(out)?)
        });
        self.give(value, out, layout)
    }

    /// dx = g W^T.
    fn product_input(&mut self, node: &Node, trans_b: bool, g: Place) -> Result<()> {
        let weight = self.field(node, 1)?;
        let trans_b = trans_b != weight.turned;
        let to = Layout::plain(self.shape(node.inputs[0]));
        let from = Layout::plain(self.shape(node.output));
        let (rows, k, n) = (self.batch * to.rows(), to.columns(), from.columns());
        let out = self.samples(&to);
        let gate = self.gate(node.inputs[0], &to);
        let reads: Vec<Place> = [Some(g), gate].into_iter().flatten().collect();
        self.step(&reads, &[out], move |recording, frame| {
            let gate = gate.map(|place| frame.view(place, &[rows, k])).transpose()?;
            let product = Matmul { trans_b: !trans_b, gate: gate.as_ref(), ..Matmul::default() };
            let (g, out) = (frame.view(g, &[rows, n])?, frame.view(out, &[rows, k])?);
            product.record(recording, frame.caps, &g, &weight.of(&frame.tables.parameters)?, &out)
        });
        self.give(node.inputs[0], out, &to)
    }

    /// The outputs of a ReLU in this layout, if a value is one that nobody else uses: the product that computes its gradient goes through it as well.
    fn gate(&mut self, value: ValueId, layout: &Layout) -> Option<Place> {
        let relu = self.graph.nodes.iter().any(|n| n.output == value && matches!(n.op, Op::Relu));
        let (place, own) = self.computed(value).ok()?;
        let fits = relu && self.consumers[value.0] == 1 && own == *layout;
        self.gated[value.0] |= fits;
        fits.then_some(place)
    }

    /// Da = g B^T, db = A^T g.
    fn matmul_input(&mut self, index: usize, node: &Node, operand: usize, g: Place) -> Result<()> {
        let Some(&[a, b]) = self.saved.get(&index).map(Vec::as_slice) else {
            return self.product_input(node, false, g);
        };
        let layouts = [0, 1].map(|i| Layout::plain(self.shape(node.inputs[i])));
        let shape = Pairs::new(&layouts[0], &layouts[1]).ok_or_else(|| Error::internal("a pair of matrices"))?;
        let pairs = shape.stack * self.batch;
        let out = self.samples(&layouts[operand]);
        let other = if operand == 0 { b } else { a };
        self.step(&[g, other], &[out], move |recording, frame| {
            let stack = pairs * frame.slots;
            let of = |place, rows, columns| stacked(&frame.view(place, &[pairs, rows, columns])?, stack);
            let g = of(g, shape.m, shape.n)?;
            if operand == 0 {
                let product = Matmul { trans_b: true, ..Matmul::default() };
                return product.record(
                    recording,
                    frame.caps,
                    &g,
                    &of(other, shape.k, shape.n)?,
                    &of(out, shape.m, shape.k)?,
                );
            }
            let product = Matmul { trans_a: true, ..Matmul::default() };
            product.record(recording, frame.caps, &of(other, shape.m, shape.k)?, &g, &of(out, shape.k, shape.n)?)
        });
        self.give(node.inputs[operand], out, &layouts[operand])
    }

    fn binary_input(&mut self, node: &Node, operand: usize, g: Place) -> Result<()> {
        let value = node.inputs[operand];
        let (_, layout) = self.computed(node.output)?;
        let (_, other) = self.operands(node)?;
        let (rows, columns) = (self.batch * layout.rows(), layout.columns());
        let scaled = |lowering: &mut Self, number: f32| {
            let out = lowering.samples(&layout);
            lowering.step(&[g], &[out], move |recording, frame| {
                let of = |place| frame.rows(place, rows, columns);
                elementwise::unary(recording, frame.caps, Unary::Scale(number), &of(g)?, &of(out)?)
            });
            lowering.give(value, out, &layout)
        };
        match (&node.op, other) {
            (Op::Add, _) => self.give(value, g, &layout),
            (Op::Sub, _) if operand == 0 => self.give(value, g, &layout),
            (Op::Sub, _) => scaled(self, -1.0),
            (Op::Mul, Other::Place(_)) => {
                let (y, from) = self.computed(node.inputs[1 - operand])?;
                let y = if from == layout { y } else { self.plain(node.inputs[1 - operand])?.0 };
                self.combined(value, Binary::Mul, g, y, &layout)
            }
            (Op::Mul, Other::Number(number)) => scaled(self, number),
            (Op::Div, Other::Number(number)) => scaled(self, 1.0 / number),
            (Op::Mul | Op::Div, Other::Fixed(index)) if matches!(node.op, Op::Mul) || operand == 0 => {
                let op = if matches!(node.op, Op::Mul) { Binary::Mul } else { Binary::Div };
                let (out, batch, own) = (self.samples(&layout), self.batch, rows / self.batch);
                self.step(&[g], &[out], move |recording, frame| {
                    let of = |place| frame.view(place, &[batch, own, columns]);
                    let y = frame.numbers(index, [own, columns])?;
                    elementwise::binary(recording, frame.caps, op, &of(g)?, &y, &of(out)?)
                });
                self.give(value, out, &layout)
            }
            (Op::Mul, Other::Field(field, [own, columns])) => {
                let out = self.samples(&layout);
                self.step(&[g], &[out], move |recording, frame| {
                    let of = |place| frame.view(place, &[rows / own, own, columns]);
                    let y = field.shaped(&frame.tables.parameters, &[1, own, columns])?;
                    elementwise::binary(recording, frame.caps, Binary::Mul, &of(g)?, &y, &of(out)?)
                });
                self.give(value, out, &layout)
            }
            _ => Err(Self::refuse(node, "a quotient of computed or trained values has no gradient here")),
        }
    }

    pub(super) fn parameter_gradient(&mut self, index: usize, node: &Node, operand: usize, g: Place) -> Result<()> {
        if let Op::Conv(window) | Op::ConvTranspose { window, .. } = node.op {
            return self.conv_parameter(index, node, window, operand, g);
        }
        if norm_operands(&node.op) {
            // Scale and shift are one field; their gradient is computed with the scale's.
            return match (&node.op, operand) {
                (_, 2) => Ok(()),
                (Op::BatchNormalization { .. }, _) => self.batch_norm_parameter(index, node, g),
                (Op::LayerNormalization { .. }, _) => self.layer_norm_parameter(index, node, g),
                _ => self.group_norm_parameter(index, node, g),
            };
        }
        if let Op::Embedding { padding } = node.op {
            return self.embedding_parameter(index, node, padding, g);
        }
        let field = self.field(node, operand)?;
        match &node.op {
            Op::Gemm { .. } if operand == 2 => {
                let from = Layout::plain(self.shape(node.output));
                self.column_sums(g, self.batch * from.rows(), from.columns(), field);
                Ok(())
            }
            Op::Gemm { trans_b, .. } => self.product_weight(index, node, *trans_b, g, field),
            Op::MatMul if operand == 1 => self.product_weight(index, node, false, g, field),
            Op::Add | Op::Sub | Op::Mul => self.binary_parameter(node, operand, g),
            _ => Err(Self::refuse(node, "this operand has no gradient")),
        }
    }

    /// Sums over samples: a field of the gradient table.
    pub(super) fn column_sums(&mut self, x: Place, rows: usize, n: usize, field: Field) {
        let [_, chunks, _] = columns::scratch(&[1, rows, n]);
        let scratch = self.place(&[chunks, n]);
        self.step(&[x], &[scratch], move |recording, frame| {
            let (x, scratch) = (frame.view(x, &[rows, n])?, frame.view(scratch, &[chunks, n])?);
            let out = frame.gradient_as(&field, &[n])?;
            columns::sums(recording, frame.caps, &x, &scratch, &out)
        });
    }

    /// dW = x^T g, or its transpose.
    fn product_weight(&mut self, index: usize, node: &Node, trans_b: bool, g: Place, field: Field) -> Result<()> {
        let Some(&[x]) = self.saved.get(&index).map(Vec::as_slice) else {
            return Err(Error::internal("a product without its input"));
        };
        let trans_b = trans_b != field.turned;
        let from = Layout::plain(self.shape(node.output));
        let k = Layout::plain(self.shape(node.inputs[0])).columns();
        let (rows, n) = (self.batch * from.rows(), from.columns());
        self.step(&[x, g], &[], move |recording, frame| {
            let (x, g) = (frame.view(x, &[rows, k])?, frame.view(g, &[rows, n])?);
            let out = frame.gradient(&field)?;
            let product = Matmul { trans_a: true, ..Matmul::default() };
            let (a, b) = if trans_b { (&g, &x) } else { (&x, &g) };
            product.record(recording, frame.caps, a, b, &out)
        });
        Ok(())
    }

    fn binary_parameter(&mut self, node: &Node, operand: usize, g: Place) -> Result<()> {
        let (_, Other::Field(field, [own, columns])) = self.operands(node)? else {
            return Err(Error::internal("a trained operand without a field"));
        };
        let (x, layout) = self.beside_field(node, node.inputs[1 - operand], node.inputs[operand])?;
        let rows = self.batch * layout.rows();
        let words = own * if own > 1 { crate::tensor::pitch(columns) } else { columns };
        let mut share = g;
        match node.op {
            Op::Add => {}
            Op::Sub if operand == 0 => {}
            Op::Sub => {
                share = self.samples(&layout);
                let columns = layout.columns();
                self.step(&[g], &[share], move |recording, frame| {
                    let of = |place| frame.rows(place, rows, columns);
                    elementwise::unary(recording, frame.caps, Unary::Neg, &of(g)?, &of(share)?)
                });
            }
            _ => {
                share = self.samples(&layout);
                let columns = layout.columns();
                self.step(&[g, x], &[share], move |recording, frame| {
                    let of = |place| frame.rows(place, rows, columns);
                    elementwise::binary(recording, frame.caps, Binary::Mul, &of(g)?, &of(x)?, &of(share)?)
                });
            }
        }
        self.column_sums(share, rows / own, words, field);
        Ok(())
    }
}
