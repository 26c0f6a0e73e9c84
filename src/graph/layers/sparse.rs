//! Maps with few terms while a layer is being put together: rows of (column, weight) with error bounds.

use super::Sparse;
use super::store;
use crate::error::Result;
use crate::graph::bounded::Bounded;

/// Rows of (column, weight) pairs, as in [`Sparse`], over a source of `width` values.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    width: usize,
    starts: Vec<usize>,
    columns: Vec<u32>,
    weights: Vec<Bounded>,
}

impl Terms {
    /// A map without rows.
    pub(super) fn new(width: usize) -> Self {
        Self { width, starts: vec![0], columns: Vec::new(), weights: Vec::new() }
    }

    /// Row i reads the element `index[i]`, or nothing.
    pub(super) fn gather(width: usize, index: impl IntoIterator<Item = Option<usize>>) -> Self {
        let mut terms = Self::new(width);
        for column in index {
            terms.push(column.map(|column| (column, Bounded::ONE)));
        }
        terms
    }

    /// Adds a row; its columns ascend. Weights of exactly 0 are left out.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = (usize, Bounded)>) {
        for (column, weight) in row {
            if !weight.is_exact_zero() {
                // No tensor has more than 2^28 elements, see `shape::MAX_ELEMENTS`.
                self.columns.push(column as u32);
                self.weights.push(weight);
            }
        }
        self.starts.push(self.columns.len());
    }

    /// Adds a row whose terms may be in any order and repeat columns.
    fn push_unordered(&mut self, row: &mut Vec<(usize, Bounded)>) {
        row.sort_by_key(|&(column, _)| column);
        row.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.add(next.1);
            }
            same
        });
        self.push(row.drain(..));
    }

    /// Number of values that it reads from.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of terms.
    pub(super) fn count(&self) -> usize {
        self.columns.len()
    }

    /// The terms of a row.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = (usize, Bounded)> + '_ {
        let range = self.starts[row]..self.starts[row + 1];
        let columns = self.columns[range.clone()].iter().map(|&column| column as usize);
        columns.zip(self.weights[range].iter().copied())
    }

    /// All rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = (usize, Bounded)> + '_> + '_ {
        (0..self.len()).map(|row| self.row(row))
    }

    /// The column and weight of each row, if no row has more than one term.
    pub(super) fn selection(&self) -> Option<Vec<Option<(usize, Bounded)>>> {
        self.is_selection().then(|| self.rows().map(|mut row| row.next()).collect())
    }

    /// Whether no row has more than one term.
    pub(super) fn is_selection(&self) -> bool {
        self.starts.windows(2).all(|ends| ends[1] - ends[0] <= 1)
    }

    /// Whether row i is element i, for all elements.
    pub(super) fn is_identity(&self) -> bool {
        self.as_diagonal().is_some_and(|factors| factors.iter().all(|&factor| factor == Bounded::ONE))
    }

    /// The factors, if row i is a multiple of element i for all elements.
    pub(super) fn as_diagonal(&self) -> Option<Vec<Bounded>> {
        if self.len() != self.width || self.count() != self.width {
            return None;
        }
        let on_diagonal = self.starts.iter().enumerate().all(|(i, &start)| i == start)
            && self.columns.iter().enumerate().all(|(i, &column)| i == column as usize);
        on_diagonal.then(|| self.weights.clone())
    }

    /// This map behind another one: row i of the result is the sum of the other's rows that row i names.
    pub(super) fn behind(&self, first: &Self) -> Self {
        let mut out = Self::new(first.width);
        let mut terms = Vec::new();
        for row in self.rows() {
            for (middle, outer) in row {
                terms.extend(first.row(middle).map(|(column, inner)| (column, times(outer, inner))));
            }
            out.push_unordered(&mut terms);
        }
        out
    }

    /// Number of terms of `self.behind(first)`, where no columns coincide.
    pub(super) fn count_behind(&self, first: &Self) -> usize {
        self.columns.iter().map(|&middle| first.starts[middle as usize + 1] - first.starts[middle as usize]).sum()
    }

    /// The sum of two maps.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut out = Self::new(self.width);
        let mut terms = Vec::new();
        for (a, b) in self.rows().zip(other.rows()) {
            terms.extend(a.chain(b));
            out.push_unordered(&mut terms);
        }
        out
    }

    /// Each row with its weights multiplied (or divided) by a number.
    pub(super) fn scaled_rows(&self, by: &[Bounded], op: fn(Bounded, Bounded) -> Bounded) -> Self {
        let mut out = self.clone();
        for (ends, &by) in self.starts.windows(2).zip(by) {
            out.weights[ends[0]..ends[1]].iter_mut().for_each(|weight| *weight = op(*weight, by));
        }
        out
    }

    /// The map of a source whose elements are multiplied by factors first.
    pub(super) fn scaled_columns(&self, by: &[Bounded]) -> Self {
        let mut out = self.clone();
        for (weight, &column) in out.weights.iter_mut().zip(&self.columns) {
            *weight = times(*weight, by[column as usize]);
        }
        out
    }

    /// The map applied to a vector.
    pub(super) fn apply(&self, y: &[Bounded]) -> Vec<Bounded> {
        let dot = |sum: Bounded, (column, weight): (usize, Bounded)| {
            if y[column].is_exact_zero() { sum } else { sum.add(weight.mul(y[column])) }
        };
        self.rows().map(|row| row.fold(Bounded::ZERO, dot)).collect()
    }

    /// Whether every weight can be stored with a small relative error.
    pub(super) fn folds(&self) -> bool {
        self.weights.iter().all(|&weight| store::stored(weight).is_some())
    }

    /// The map in `f32`, and a bound on the relative errors of its weights.
    pub(super) fn finish(self, node: &str) -> Result<(Sparse, f64)> {
        let (weights, rel) = store::weights(self.weights.into_iter(), node)?;
        Ok((Sparse { starts: self.starts, columns: self.columns, weights }, rel))
    }
}

/// A product that spares the most common factor.
fn times(a: Bounded, b: Bounded) -> Bounded {
    if a == Bounded::ONE { b } else { a.mul(b) }
}
