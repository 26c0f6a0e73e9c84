//! Nodes that only move values.

use super::linear::Linear;
use super::lower::Lowering;
use super::sparse::Terms;
use super::term::Term;
use crate::error::Result;

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
}
