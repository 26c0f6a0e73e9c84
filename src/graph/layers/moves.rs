//! Nodes that only move values.

use super::linear::Linear;
use super::lower::{Lowering, check_terms};
use super::sparse::Terms;
use super::term::Term;
use crate::error::{Error, Result};
use crate::graph::bounded::Bounded;
use crate::graph::shape::{lattice, stride, transpose_index};
use crate::graph::{Node, ValueId};

impl Lowering<'_> {
    /// A value whose element i is element `index[i]` of `term`, or 0.
    pub(super) fn gathered(
        &mut self,
        term: Term,
        index: impl IntoIterator<Item = Option<usize>>,
        node: &str,
    ) -> Result<Term> {
        let terms = Terms::gather(term.len(), index);
        if terms.is_identity() {
            return Ok(term);
        }
        self.followed(term, &Linear::Sparse(terms), node)
    }

    pub(super) fn select(&mut self, node: &Node, indices: &[usize]) -> Result<Term> {
        check_terms(node, &[indices.len()])?;
        let term = self.take(node.inputs[0])?;
        self.gathered(term, indices.iter().copied().map(Some), &node.name)
    }

    pub(super) fn transpose(&mut self, node: &Node, perm: &[usize]) -> Result<Term> {
        let shape = &self.graph.value(node.inputs[0]).shape;
        check_terms(node, shape)?;
        let term = self.take(node.inputs[0])?;
        self.gathered(term, transpose_index(shape, perm).into_iter().map(Some), &node.name)
    }

    pub(super) fn pad(&mut self, node: &Node, pads: &[[usize; 2]], value: f32) -> Result<Term> {
        let (from, to) = (&self.graph.value(node.inputs[0]).shape, &self.graph.value(node.output).shape);
        check_terms(node, from)?;
        let first: Vec<usize> = pads.iter().map(|pad| pad[0]).collect();
        let frame = placed(from, to, &first);
        let outside = frame.iter().map(|at| if at.is_some() { 0.0 } else { f64::from(value) });
        let shift: Vec<Bounded> = outside.map(Bounded::exact).collect();
        let term = self.take(node.inputs[0])?;
        let mut term = self.gathered(term, frame, &node.name)?;
        term.shift(&shift);
        Ok(term)
    }

    pub(super) fn concat(&mut self, node: &Node, axis: usize) -> Result<Term> {
        let to = &self.graph.value(node.output).shape;
        check_terms(node, to)?;
        let mut first = vec![0; to.len()];
        let mut sum: Option<Term> = None;
        let mut shift = vec![Bounded::ZERO; to.iter().product()];
        for &id in &node.inputs {
            let from = &self.graph.value(id).shape;
            let frame = placed(from, to, &first);
            first[axis] += from[axis];
            if self.computed[id.0] {
                let part = self.part(id, frame, &node.name)?;
                sum = Some(match sum {
                    Some(sum) => self.added(sum, part, &node.name)?,
                    None => part,
                });
            } else {
                let constant = &self.constant(id)?.data;
                for (shift, at) in shift.iter_mut().zip(frame) {
                    *shift = at.map_or(*shift, |at| constant[at]);
                }
            }
        }
        let mut term = sum.ok_or_else(|| Error::internal(format!("node '{}' joins constants", node.name)))?;
        term.shift(&shift);
        Ok(term)
    }

    /// A value in its place among others.
    fn part(&mut self, id: ValueId, frame: Vec<Option<usize>>, node: &str) -> Result<Term> {
        let term = self.take(id)?;
        self.gathered(term, frame, node)
    }
}

/// For each element of a tensor of shape `to`, the element of a tensor of shape `from` that lies there if its first one
/// lies at `first`.
fn placed(from: &[usize], to: &[usize], first: &[usize]) -> Vec<Option<usize>> {
    let mut frame = vec![None; to.iter().product()];
    let axes = from.iter().zip(first).enumerate();
    let places = lattice(axes.map(|(i, (&dim, &first))| (0..dim).map(|at| (first + at) * stride(to, i)).collect()));
    for (element, place) in places.into_iter().enumerate() {
        frame[place] = Some(element);
    }
    frame
}
