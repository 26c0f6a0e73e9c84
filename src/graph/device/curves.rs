//! Functions that are several steps: a masked softmax, and activations without a kernel of their own.

use ndarray::{ArrayD, IxDyn};

use super::layout::{Form, Layout};
use super::plan::{Operand, Planner, Work};
use crate::error::Result;
use crate::graph::ValueId;
use crate::ops::elementwise::{Binary, Unary};

/// What is added to scores that do not count; far below all others, and finite.
const MASK: f32 = -1e9;

impl Planner<'_> {
    /// Softmax of rows to which -1e9 was added where they must not look: the exponential of that is 0.
    pub(super) fn causal_softmax(&mut self, x: ValueId, out: ValueId) -> Result<()> {
        let shape = self.shape(x).to_vec();
        let n = shape[shape.len() - 1];
        let rows = shape.iter().product::<usize>() / n.max(1);
        let mask = ArrayD::from_shape_fn(IxDyn(&[n, n]), |at| if at[1] > at[0] { MASK } else { 0.0 });
        let form = Form { shape: &shape, layout: Layout::Rows(n).canonical(&shape) };
        let mask = Operand::Constant(self.placed(&mask, form, 1.0));
        let from = self.require(x, form.layout)?;
        let masked = self.temporary(form.layout.words(&shape));
        self.step(Work::Binary { op: Binary::Add, x: Operand::Slot(from), y: mask }, masked);
        let to = self.slot(out, form.layout);
        self.step(Work::Softmax { x: masked, rows, n }, to);
        Ok(())
    }

    /// `relu(x) + alpha (x - relu(x))`, in which one of the terms is 0.
    pub(super) fn leaky_relu(&mut self, alpha: f32, x: ValueId, out: ValueId) -> Result<()> {
        let layout = self.layout_of(x);
        let x = Operand::Slot(self.require(x, layout)?);
        let words = layout.words(self.shape(out));
        let positive = self.temporary(words);
        self.step(Work::Unary { op: Unary::Relu, x }, positive);
        let negative = self.combined(Binary::Sub, x, Operand::Slot(positive), words);
        let negative = Operand::Slot(self.scaled(negative, alpha, words));
        let to = self.slot(out, layout);
        self.step(Work::Binary { op: Binary::Add, x: Operand::Slot(positive), y: negative }, to);
        Ok(())
    }

    /// `x / 2 (1 + tanh(sqrt(2 / pi) x (1 + 0.044715 x x)))`.
    pub(super) fn gelu(&mut self, x: ValueId, out: ValueId) -> Result<()> {
        let layout = self.layout_of(x);
        let x = Operand::Slot(self.require(x, layout)?);
        let words = layout.words(self.shape(out));
        let one = Operand::Constant(self.constant(vec![1], vec![1.0]));
        let square = self.combined(Binary::Mul, x, x, words);
        let square = Operand::Slot(self.scaled(square, 0.044_715, words));
        let inner = self.combined(Binary::Add, square, one, words);
        let scaled = Operand::Slot(self.scaled(x, 0.797_884_6, words));
        let inner = self.combined(Binary::Mul, inner, scaled, words);
        let tanh = self.temporary(words);
        self.step(Work::Unary { op: Unary::Tanh, x: inner }, tanh);
        let above = self.combined(Binary::Add, Operand::Slot(tanh), one, words);
        let half = Operand::Slot(self.scaled(x, 0.5, words));
        let to = self.slot(out, layout);
        self.step(Work::Binary { op: Binary::Mul, x: above, y: half }, to);
        Ok(())
    }

    /// A new slot with an elementwise result.
    fn combined(&mut self, op: Binary, x: Operand, y: Operand, words: usize) -> Operand {
        let out = self.temporary(words);
        self.step(Work::Binary { op, x, y }, out);
        Operand::Slot(out)
    }
}
