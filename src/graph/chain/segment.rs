//! The affine map between two ReLUs while it is being put together.

use super::Affine;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::bounded::Bounded;
use crate::graph::layers::store::{biases, out_of_range, round_up, stored};
use ndarray::{Array1, Array2};

/// Widest elementwise map that becomes a (diagonal) dense layer.
const MAX_DIAGONAL: usize = 1 << 14;

/// `y -> rows * (M (columns * y)) + bias`, elementwise products, with M = 1 if there is no dense layer in it yet.
///
/// Factors are kept apart from the matrix and multiplied in once at the end, so that a segment without factors keeps
/// the numbers of the file.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    matrix: Option<Array2<f32>>,
    /// Only beside a matrix.
    columns: Option<Vec<Bounded>>,
    rows: Option<Vec<Bounded>>,
    bias: Vec<Bounded>,
}

impl Segment {
    pub(super) fn identity(len: usize) -> Self {
        Self { matrix: None, columns: None, rows: None, bias: vec![Bounded::ZERO; len] }
    }

    /// Number of outputs.
    pub(super) fn len(&self) -> usize {
        self.bias.len()
    }

    pub(super) fn is_dense(&self) -> bool {
        self.matrix.is_some()
    }

    /// Does nothing at all.
    pub(super) fn is_trivial(&self) -> bool {
        self.matrix.is_none() && self.rows.is_none() && self.bias.iter().all(|b| b.is_exact_zero())
    }

    /// Adds a constant to each output.
    pub(super) fn shift(&mut self, by: &[Bounded]) {
        for (bias, &by) in self.bias.iter_mut().zip(by) {
            *bias = bias.add(by);
        }
    }

    /// Changes the sign of each output; exact.
    pub(super) fn negate(&mut self) {
        let len = self.len();
        let rows = self.rows.get_or_insert_with(|| vec![Bounded::ONE; len]);
        for x in rows.iter_mut().chain(&mut self.bias) {
            *x = x.neg();
        }
    }

    /// The segment with each output multiplied or divided by a constant.
    pub(super) fn scaled(&self, by: &[Bounded], op: fn(Bounded, Bounded) -> Bounded) -> Self {
        let apply = |x: &[Bounded]| x.iter().zip(by).map(|(&x, &by)| op(x, by)).collect();
        let rows = match &self.rows {
            Some(rows) => apply(rows),
            None => apply(&vec![Bounded::ONE; self.len()]),
        };
        Self { rows: Some(rows), bias: apply(&self.bias), ..self.clone() }
    }

    /// Whether every weight can be stored with a small relative error. True for elementwise segments: only their
    /// end decides what their factors become.
    pub(super) fn folds(&self) -> bool {
        let Some(matrix) = &self.matrix else {
            return true;
        };
        if self.rows.is_none() && self.columns.is_none() {
            return true;
        }
        matrix.indexed_iter().all(|((i, j), &w)| stored(self.weight(i, j, w)).is_some())
    }

    /// Puts a matrix behind the segment, which must not hold one yet. Gives the matrix back, and leaves the segment
    /// as it was, if a weight would underflow.
    pub(super) fn dense(&mut self, matrix: Array2<f32>) -> Option<Array2<f32>> {
        let dense =
            Self { bias: product(&matrix, &self.bias), matrix: Some(matrix), columns: self.rows.take(), rows: None };
        if dense.folds() {
            *self = dense;
            return None;
        }
        self.rows = dense.columns;
        dense.matrix
    }

    /// The real weight at row i and column j, where the matrix has `weight`.
    fn weight(&self, i: usize, j: usize, weight: f32) -> Bounded {
        let mut weight = Bounded::exact(f64::from(weight));
        if let Some(columns) = &self.columns {
            weight = weight.mul(columns[j]);
        }
        match &self.rows {
            Some(rows) => weight.mul(rows[i]),
            None => weight,
        }
    }

    /// The segment as a layer; `node` is what errors call it.
    pub(super) fn finish(self, relu: bool, node: &str) -> Result<Affine> {
        let mut rel = 0f64;
        let mut store = |weight: Bounded| {
            let (narrow, error) = stored(weight).ok_or_else(|| out_of_range(node, weight))?;
            rel = rel.max(error);
            Ok(narrow)
        };
        let weight = match &self.matrix {
            Some(matrix) if self.rows.is_none() && self.columns.is_none() => matrix.clone(),
            Some(matrix) => {
                let mut weight = Array2::zeros(matrix.dim());
                for ((at, &w), out) in matrix.indexed_iter().zip(&mut weight) {
                    *out = store(self.weight(at.0, at.1, w))?;
                }
                weight
            }
            None => {
                let len = self.len();
                if len > MAX_DIAGONAL {
                    return Err(too_wide(node, len));
                }
                let mut weight = Array2::zeros((len, len));
                for (i, out) in weight.diag_mut().iter_mut().enumerate() {
                    *out = store(self.weight(i, i, 1.0))?;
                }
                weight
            }
        };
        let (bias, bias_abs) = biases(&self.bias, node)?;
        let (bias, bias_abs) = (Array1::from(bias), Array1::from(bias_abs));
        Ok(Affine { weight, bias, weight_rel: round_up(rel), bias_abs, relu })
    }
}

/// M y, with zeros of y left out (most segments have no shift).
fn product(matrix: &Array2<f32>, y: &[Bounded]) -> Vec<Bounded> {
    let terms: Vec<(usize, Bounded)> = y.iter().copied().enumerate().filter(|(_, y)| !y.is_exact_zero()).collect();
    let row = |row: ndarray::ArrayView1<'_, f32>| {
        let weight = |j: usize| Bounded::exact(f64::from(row[j]));
        terms.iter().fold(Bounded::ZERO, |sum, &(j, y)| sum.add(weight(j).mul(y)))
    };
    matrix.outer_iter().map(row).collect()
}

fn too_wide(node: &str, len: usize) -> Error {
    Error::new(
        ErrorKind::TooBig,
        format!("elementwise arithmetic on {len} values up to node '{node}' would need a dense layer"),
    )
    .with_help(format!("at most {MAX_DIAGONAL} values can stand in front of a ReLU without weights"))
}
