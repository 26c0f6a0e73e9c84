//! Normalisations by a sample's own mean and variance, and tables of rows.

use super::layout::{self, Form, Layout};
use super::plan::{Operand, Planner, Slot, Work};
use crate::error::{Error, Result};
use crate::graph::{Node, ValueId};
use crate::ops::norm::group;
use crate::tensor::pitch;

impl Planner<'_> {
    /// Scale and shift as one constant `[1, 2, n]`.
    fn affine(&mut self, node: &Node, n: usize) -> Result<usize> {
        let mut elements = Vec::with_capacity(2 * n);
        for &id in &node.inputs[1..] {
            elements.extend(self.needs_constant(node, id)?.iter().copied());
        }
        if elements.len() != 2 * n {
            return Err(Error::internal(format!("node '{}' has another number of scales and shifts", node.name)));
        }
        Ok(self.constant(vec![1, 2, n], elements))
    }

    /// Each row of the axes from `axis` on.
    pub(super) fn layer_norm(&mut self, node: &Node, axis: usize, epsilon: f32) -> Result<()> {
        let (x, shape) = (node.inputs[0], self.shape(node.output));
        let n: usize = shape[axis..].iter().product();
        let rows = shape[..axis].iter().product();
        let affine = self.affine(node, n)?;
        let from = self.require(x, Layout::Rows(n))?;
        let saved = self.temporary(rows * pitch(2));
        let to = self.slot(node.output, Layout::Rows(n));
        self.step(Work::LayerNorm { x: from, affine, epsilon, size: [rows, n], saved }, to);
        Ok(())
    }

    /// Channels last, whatever axes are behind them.
    pub(super) fn group_norm(&mut self, node: &Node, groups: usize, epsilon: f32) -> Result<()> {
        let (x, own) = (node.inputs[0], self.shape(node.output));
        let (n, rows) = (own[1], own[2..].iter().product());
        let affine = self.affine(node, n)?;
        let size = [rows, n];
        let [_, _, chunks, _, _] = group::scratch(&[1, 1, rows, n]);
        let row = 2 * pitch(n);
        let scratch = [self.temporary(chunks * row), self.temporary(row), self.temporary(row)];
        let work = |x: Slot| Work::GroupNorm { x, affine, groups, epsilon, size, scratch };
        if own.len() == 4 {
            let from = self.require(x, Layout::Image)?;
            let to = self.slot(node.output, Layout::Image);
            self.step(work(from), to);
            return Ok(());
        }
        let shape = [1, n, 1, rows];
        let form = Form { shape: &shape, layout: Layout::Image.canonical(&shape) };
        let from = self.moved(x, form, Some, Some(0.0))?;
        let normalised = self.temporary(form.layout.words(&shape));
        self.step(work(from), normalised);
        let to = Form { shape: own, layout: Layout::Flat };
        let list = layout::index(form, to, Some)?;
        let index = self.index(list);
        let slot = self.slot(node.output, Layout::Flat);
        self.step(Work::Reorder { x: Operand::Slot(normalised), index, fill: Some(0.0) }, slot);
        Ok(())
    }

    /// Rows of a constant table.
    pub(super) fn embedding(&mut self, node: &Node, [ids, table]: [ValueId; 2]) -> Result<()> {
        let constant = self.needs_constant(node, table)?;
        let (v, n) = (constant.shape()[0], constant.shape()[1]);
        let elements = constant.iter().copied().collect();
        let table = self.constant(vec![1, v, n], elements);
        let positions = self.shape(ids).iter().product();
        let ids = self.require(ids, Layout::Flat)?;
        let to = self.slot(node.output, Layout::Rows(n));
        self.step(Work::Embedding { ids, table, size: [positions, n] }, to);
        Ok(())
    }
}
