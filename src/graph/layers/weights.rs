//! The weights of dense layers and convolutions while a layer is being put together.

use super::{Convolution, Extent, Map, store};
use crate::error::{Error, Result};
use crate::graph::Window;
use crate::graph::bounded::{Bounded, GROW};
use crate::graph::shape::window::taps;
use ndarray::{Array2, Array4};
use std::sync::Arc;

/// Weights `[rows, columns, taps]` with a factor for each row and each column: of a dense layer (one tap) or a
/// convolution (rows and columns are channels).
///
/// Factors are kept apart from the numbers and multiplied in once at the end, so that weights without factors keep the
/// numbers of the file.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    /// Row-major.
    data: Arc<Vec<f32>>,
    dims: [usize; 3],
    /// Bound on the relative error of `data`, for weights that the network computes.
    rel: f64,
    rows: Option<Vec<Bounded>>,
    columns: Option<Vec<Bounded>>,
}

impl Weights {
    /// Weights `[rows, columns, taps]` within `rel |w|` of the network's.
    pub(super) fn new(data: Vec<f32>, dims: [usize; 3], rel: f64) -> Self {
        Self { data: Arc::new(data), dims, rel, rows: None, columns: None }
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.dims[0]
    }

    /// Number of columns.
    pub(super) fn columns(&self) -> usize {
        self.dims[1]
    }

    /// The weights with each row multiplied (or divided) by a number.
    pub(super) fn scaled_rows(&self, by: &[Bounded], op: fn(Bounded, Bounded) -> Bounded) -> Self {
        let rows = match &self.rows {
            Some(rows) => rows.iter().zip(by).map(|(&x, &by)| op(x, by)).collect(),
            None => by.iter().map(|&by| op(Bounded::ONE, by)).collect(),
        };
        Self { rows: Some(rows), ..self.clone() }
    }

    /// The weights for a source whose columns are multiplied by factors first.
    pub(super) fn scaled_columns(&self, by: &[Bounded]) -> Self {
        let columns = match &self.columns {
            Some(columns) => columns.iter().zip(by).map(|(x, &by)| x.mul(by)).collect(),
            None => by.to_vec(),
        };
        Self { columns: Some(columns), ..self.clone() }
    }

    /// A dense layer's weights for a source that is `width` values long, of which column i of these reads `at[i]`, or
    /// nothing. No two columns may read the same value.
    pub(super) fn moved_columns(&self, width: usize, at: &[Option<usize>]) -> Self {
        let mut data = vec![0.0; self.rows() * width];
        if width > 0 {
            for (from, to) in self.data.chunks_exact(self.columns()).zip(data.chunks_exact_mut(width)) {
                for (&weight, at) in from.iter().zip(at) {
                    if let &Some(at) = at {
                        to[at] = weight;
                    }
                }
            }
        }
        let moved = |factors: &Vec<Bounded>| {
            let mut moved = vec![Bounded::ONE; width];
            for (&factor, at) in factors.iter().zip(at) {
                if let &Some(at) = at {
                    moved[at] = factor;
                }
            }
            moved
        };
        let columns = self.columns.as_ref().map(moved);
        Self { data: Arc::new(data), dims: [self.rows(), width, 1], rel: self.rel, rows: self.rows.clone(), columns }
    }

    /// A dense layer's rows in another order: row i of the result is row `from[i]`, or 0.
    pub(super) fn picked_rows(&self, from: &[Option<usize>]) -> Self {
        let width = self.columns();
        let mut data = Vec::with_capacity(from.len() * width);
        for &row in from {
            match row {
                Some(row) => data.extend_from_slice(&self.data[row * width..][..width]),
                None => data.resize(data.len() + width, 0.0),
            }
        }
        let pick = |rows: &Vec<Bounded>| from.iter().map(|&row| row.map_or(Bounded::ONE, |row| rows[row])).collect();
        let rows = self.rows.as_ref().map(pick);
        let columns = self.columns.clone();
        Self { data: Arc::new(data), dims: [from.len(), width, 1], rel: self.rel, rows, columns }
    }

    fn has_factors(&self) -> bool {
        self.rows.is_some() || self.columns.is_some()
    }

    /// The real weight at an index of `data`.
    pub(super) fn real(&self, at: usize) -> Bounded {
        let wide = f64::from(self.data[at]);
        let mut weight = Bounded { value: wide, error: self.rel * wide.abs() * GROW };
        let [_, columns, taps] = self.dims;
        if let Some(factors) = &self.columns {
            weight = weight.mul(factors[at / taps % columns]);
        }
        match &self.rows {
            Some(factors) => weight.mul(factors[at / taps / columns]),
            None => weight,
        }
    }

    /// Whether every weight can be stored with a small relative error.
    pub(super) fn folds(&self) -> bool {
        !self.has_factors() || (0..self.data.len()).all(|at| store::stored(self.real(at)).is_some())
    }

    /// M y of a dense layer, with zeros of y left out (most have no shift).
    pub(super) fn apply(&self, y: &[Bounded]) -> Vec<Bounded> {
        let terms: Vec<(usize, Bounded)> = y.iter().copied().enumerate().filter(|(_, y)| !y.is_exact_zero()).collect();
        let dot = |row: usize| {
            let weight = |column: usize| self.real(row * self.columns() + column);
            terms.iter().fold(Bounded::ZERO, |sum, &(j, y)| sum.add(weight(j).mul(y)))
        };
        (0..self.rows()).map(dot).collect()
    }

    /// The numbers in `f32`, and a bound on their relative errors.
    fn numbers(self, node: &str) -> Result<(Vec<f32>, f64)> {
        if self.has_factors() {
            return store::weights((0..self.data.len()).map(|at| self.real(at)), node);
        }
        Ok((Arc::try_unwrap(self.data).unwrap_or_else(|shared| shared.to_vec()), self.rel))
    }

    /// The map of a dense layer, and a bound on the relative errors of its weights.
    pub(super) fn finish(self, node: &str) -> Result<(Map, f64)> {
        let dims = (self.rows(), self.columns());
        let (numbers, rel) = self.numbers(node)?;
        Ok((Map::Dense(Array2::from_shape_vec(dims, numbers).map_err(|e| misfit(node, &e))?), rel))
    }

    /// The map of a convolution, and a bound on the relative errors of its weights.
    pub(super) fn finish_conv(self, geometry: &Geometry, node: &str) -> Result<(Map, f64)> {
        let dims = (self.rows(), self.columns(), geometry.kernel[0], geometry.kernel[1]);
        let (numbers, rel) = self.numbers(node)?;
        let weight = Array4::from_shape_vec(dims, numbers).map_err(|e| misfit(node, &e))?;
        let Window { strides: stride, begin: pad, dilations: dilation, .. } = geometry.window;
        Ok((Map::Conv(Convolution { weight, stride, pad, dilation }), rel))
    }
}

fn misfit(node: &str, error: &ndarray::ShapeError) -> Error {
    Error::internal(format!("weights up to node '{node}': {error}"))
}

/// Which values the windows of a convolution or a pool read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// The shape of the source.
    pub(super) input: Extent,
    /// The shape of the result.
    pub(super) output: Extent,
    /// Height and width of the window.
    pub(super) kernel: [usize; 2],
    /// Where windows lie; where they end is the output's business.
    pub(super) window: Window,
}

impl Geometry {
    /// The taps along an axis of window `at` that lie in the source: (index of the tap, row or column of the source).
    fn along(&self, axis: usize, at: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (window, len) = (self.window, [self.input.height, self.input.width][axis]);
        let first = at * window.strides[axis];
        taps(&window, axis, at, self.kernel[axis], len)
            .map(move |tap| (tap, first + tap * window.dilations[axis] - window.begin[axis]))
    }

    /// The taps of the window at a row and column of the output that lie in the source: (index of the tap, offset in a
    /// channel of the source), both ascending.
    pub(super) fn taps(&self, [y, x]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.along(0, y).flat_map(move |(i, row)| {
            let columns = self.along(1, x);
            columns.map(move |(j, column)| (i * self.kernel[1] + j, row * self.input.width + column))
        })
    }

    /// Rows and columns of the output, row-major.
    pub(super) fn positions(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let width = self.output.width;
        (0..self.output.height).flat_map(move |y| (0..width).map(move |x| [y, x]))
    }

    /// The offsets in a channel of the source that each window reads, in the order of the output.
    pub(super) fn windows(&self) -> impl Iterator<Item = Vec<usize>> + '_ {
        self.positions().map(|at| self.taps(at).map(|(_, offset)| offset).collect())
    }

    /// Number of taps of a window.
    pub(super) fn area(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// A convolution of a vector.
    pub(super) fn convolve(&self, weights: &Weights, y: &[Bounded]) -> Vec<Bounded> {
        if y.iter().all(|y| y.is_exact_zero()) {
            return vec![Bounded::ZERO; self.output.len()];
        }
        let plane = self.input.height * self.input.width;
        let mut out = Vec::with_capacity(self.output.len());
        for row in 0..weights.rows() {
            for at in self.positions() {
                let mut sum = Bounded::ZERO;
                for (channel, y) in y.chunks_exact(plane).enumerate() {
                    let first = (row * weights.columns() + channel) * self.area();
                    for (tap, offset) in self.taps(at).filter(|&(_, offset)| !y[offset].is_exact_zero()) {
                        sum = sum.add(weights.real(first + tap).mul(y[offset]));
                    }
                }
                out.push(sum);
            }
        }
        out
    }
}
