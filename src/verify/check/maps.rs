//! Linear maps on rows of f64, forwards for intervals and transposed for linear forms, as plain loops.

use super::rounding::{sum_abs, sum_least};
use crate::error::{Error, Result};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// Rows of f64, one behind the other; `cols` is not 0.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub(super) cols: usize,
    pub(super) data: Vec<f64>,
}

impl Matrix {
    pub(super) fn zeros(rows: usize, cols: usize) -> Self {
        Self { cols, data: vec![0.0; rows * cols] }
    }

    pub(super) fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.data.chunks_exact(self.cols)
    }

    pub(super) fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, f64> {
        self.data.chunks_exact_mut(self.cols)
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.cols..(row + 1) * self.cols]
    }
}

/// A linear map W with exact weights.
#[derive(Debug)]
pub(super) enum Map {
    /// `[out, in]`.
    Dense(Matrix),
    Conv(Conv),
    /// Row j has the terms `starts[j]..starts[j + 1]`; no column has more than `most`.
    Sparse {
        starts: Vec<usize>,
        columns: Vec<usize>,
        weights: Vec<f64>,
        most: usize,
    },
    Diagonal(Vec<f64>),
}

/// A convolution; see [`crate::graph::Convolution`] for the formula. Nothing is 0 but padding.
#[derive(Debug)]
pub(super) struct Conv {
    /// `[out channels, in channels, kernel height, kernel width]`.
    pub(super) weight: Vec<f64>,
    /// Of the result, of the source.
    pub(super) channels: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) pad: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// Height and width of the source.
    pub(super) from: [usize; 2],
    /// Height and width of the result.
    pub(super) to: [usize; 2],
}

/// What a row `w` of W does with an interval: the ends of `w . x`, and `|w| . max(|lo|, |hi|)`; sums without error bounds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Image {
    pub(super) lo: f64,
    pub(super) hi: f64,
    pub(super) size: f64,
}

impl Image {
    fn add(&mut self, w: f64, lo: f64, hi: f64) {
        let (least, most) = if w >= 0.0 { (lo, hi) } else { (hi, lo) };
        self.lo += w * least;
        self.hi += w * most;
        self.size += w.abs() * lo.abs().max(hi.abs());
    }
}

impl Map {
    pub(super) fn is_finite(&self) -> bool {
        let weights = match self {
            Self::Dense(matrix) => &matrix.data,
            Self::Conv(conv) => &conv.weight,
            Self::Sparse { weights, .. } | Self::Diagonal(weights) => weights,
        };
        weights.iter().all(|w| w.is_finite())
    }

    /// The largest number of terms of a row of W.
    pub(super) fn fan_in(&self) -> usize {
        match self {
            Self::Dense(matrix) => matrix.cols,
            Self::Conv(conv) => conv.channels[1] * conv.kernel[0] * conv.kernel[1],
            Self::Sparse { starts, .. } => starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0),
            Self::Diagonal(_) => 1,
        }
    }

    /// At least the largest number of terms of a column of W.
    pub(super) fn fan_out(&self) -> usize {
        match self {
            Self::Dense(matrix) => matrix.data.len() / matrix.cols,
            Self::Conv(conv) => conv.channels[0] * conv.kernel[0] * conv.kernel[1],
            Self::Sparse { most, .. } => *most,
            Self::Diagonal(_) => 1,
        }
    }

    /// The image of an interval, one entry a row; each is a sum of at most [`Map::fan_in`] products in some order.
    pub(super) fn image(&self, lo: &[f64], hi: &[f64], mag: &[f64]) -> Vec<Image> {
        match self {
            Self::Dense(matrix) => {
                let image = |row: &[f64]| Image {
                    lo: sum_least(row, lo, hi),
                    hi: sum_least(row, hi, lo),
                    size: sum_abs(row, mag),
                };
                matrix.rows().map(image).collect()
            }
            Self::Conv(conv) => conv.image(lo, hi),
            Self::Sparse { starts, columns, weights, .. } => {
                let image = |pair: &[usize]| {
                    let mut image = Image::default();
                    let terms = pair[0]..pair[1];
                    columns[terms.clone()].iter().zip(&weights[terms]).for_each(|(&c, &w)| image.add(w, lo[c], hi[c]));
                    image
                };
                starts.windows(2).map(image).collect()
            }
            Self::Diagonal(by) => {
                let image = |((&w, &lo), &hi): ((&f64, &f64), &f64)| {
                    let mut image = Image::default();
                    image.add(w, lo, hi);
                    image
                };
                by.iter().zip(lo).zip(hi).map(image).collect()
            }
        }
    }

    /// Adds `A W` to `into`, row by row of A. Each element of `into` takes part in at most [`Map::fan_out`] additions more.
    pub(super) fn pull(&self, rows: &Matrix, into: &mut Matrix) -> Result<()> {
        if let Self::Dense(matrix) = self {
            return product(rows, matrix, into);
        }
        for (row, into) in rows.rows().zip(into.rows_mut()) {
            match self {
                Self::Dense(_) => {}
                Self::Conv(conv) => conv.pull(row, into),
                Self::Sparse { starts, columns, weights, .. } => {
                    for (&a, pair) in row.iter().zip(starts.windows(2)).filter(|(a, _)| **a != 0.0) {
                        let terms = pair[0]..pair[1];
                        columns[terms.clone()].iter().zip(&weights[terms]).for_each(|(&c, w)| into[c] += a * w);
                    }
                }
                Self::Diagonal(by) => row.iter().zip(by).zip(into).for_each(|((a, w), into)| *into += a * w),
            }
        }
        Ok(())
    }
}

impl Conv {
    /// Whether no place that a tap can reach overflows an index, with room to spare.
    pub(super) fn is_small(&self) -> bool {
        (0..2).all(|axis| {
            let reach =
                self.to[axis].checked_mul(self.stride[axis]).zip(self.kernel[axis].checked_mul(self.dilation[axis]));
            let reach =
                reach.and_then(|(a, b)| a.checked_add(b)?.checked_add(self.pad[axis])?.checked_add(self.from[axis]));
            reach.is_some_and(|reach| reach <= usize::MAX / 4)
        })
    }

    /// The source's row (axis 0) or column (axis 1) that a tap of an output reads, if it is inside.
    fn place(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let place = (output * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.pad[axis])?;
        (place < self.from[axis]).then_some(place)
    }

    /// Those of some output columns whose tap j reads inside the source.
    fn inside(&self, j: usize, columns: &Range<usize>) -> Range<usize> {
        let (shift, pad, stride) = (j * self.dilation[1], self.pad[1], self.stride[1]);
        let start = pad.saturating_sub(shift).div_ceil(stride);
        let end = (self.from[1] + pad).saturating_sub(shift).div_ceil(stride);
        start.max(columns.start)..end.min(columns.end)
    }

    fn image(&self, lo: &[f64], hi: &[f64]) -> Vec<Image> {
        let [height, width] = self.to;
        let mut images = vec![Image::default(); self.channels[0] * height * width];
        for (line, images) in images.chunks_exact_mut(width).enumerate() {
            self.taps(line, &(0..width), |w, columns, start| {
                for (step, image) in images[columns].iter_mut().enumerate() {
                    let at = start + step * self.stride[1];
                    image.add(w, lo[at], hi[at]);
                }
            });
        }
        images
    }

    /// `into += row W`, leaving out what is 0.
    fn pull(&self, row: &[f64], into: &mut [f64]) {
        for (line, a) in row.chunks_exact(self.to[1]).enumerate() {
            let (first, last) = (a.iter().position(|&a| a != 0.0), a.iter().rposition(|&a| a != 0.0));
            let Some((first, last)) = first.zip(last) else {
                continue;
            };
            self.taps(line, &(first..last + 1), |w, columns, start| {
                let (a, into) = (&a[columns], &mut into[start..]);
                if self.stride[1] == 1 {
                    a.iter().zip(into).for_each(|(a, into)| *into += a * w);
                } else {
                    a.iter().zip(into.iter_mut().step_by(self.stride[1])).for_each(|(a, into)| *into += a * w);
                }
            });
        }
    }

    /// Calls `visit` for every weight that reaches some columns of a line of the result (line = channel * height + row): the
    /// weight, the columns that it reaches inside the source, and the source's element that the first of them reads.
    fn taps(&self, line: usize, columns: &Range<usize>, mut visit: impl FnMut(f64, Range<usize>, usize)) {
        let [height, width] = self.kernel;
        let (channel, y) = (line / self.to[0], line % self.to[0]);
        for source in 0..self.channels[1] {
            for i in 0..height {
                let Some(row) = self.place(0, y, i) else {
                    continue;
                };
                let weights = ((channel * self.channels[1] + source) * height + i) * width;
                for j in 0..width {
                    let reached = self.inside(j, columns);
                    if !reached.is_empty() {
                        let column = reached.start * self.stride[1] + j * self.dilation[1] - self.pad[1];
                        visit(self.weight[weights + j], reached, (source * self.from[0] + row) * self.from[1] + column);
                    }
                }
            }
        }
    }
}

/// `into += rows matrix`, without the columns of `rows` that are 0 everywhere (dead neurons).
fn product(rows: &Matrix, matrix: &Matrix, into: &mut Matrix) -> Result<()> {
    let mut live = vec![false; rows.cols];
    let mut nonzero = 0;
    for row in rows.rows() {
        for (live, a) in live.iter_mut().zip(row) {
            *live |= *a != 0.0;
            nonzero += usize::from(*a != 0.0);
        }
    }
    let live: Vec<usize> = (0..rows.cols).filter(|&j| live[j]).collect();
    let count = rows.data.len() / rows.cols;
    if 8 * nonzero < count * live.len() {
        // Unit rows, mostly: most of a dense product would be products with 0.
        for (row, into) in rows.rows().zip(into.rows_mut()) {
            for &j in live.iter().filter(|&&j| row[j] != 0.0) {
                into.iter_mut().zip(matrix.row(j)).for_each(|(into, w)| *into += row[j] * w);
            }
        }
        return Ok(());
    }
    let left: Vec<f64> = rows.rows().flat_map(|row| live.iter().map(|&j| row[j])).collect();
    let right: Vec<f64> = live.iter().flat_map(|&j| matrix.row(j)).copied().collect();
    let shaped =
        |e: ndarray::ShapeError| Error::internal("a matrix of the proof checker has the wrong size").with_source(e);
    let left = ArrayView2::from_shape((count, live.len()), &left).map_err(shaped)?;
    let right = ArrayView2::from_shape((live.len(), matrix.cols), &right).map_err(shaped)?;
    let mut out = ArrayViewMut2::from_shape((count, matrix.cols), &mut into.data).map_err(shaped)?;
    general_mat_mul(1.0, &left, &right, 1.0, &mut out);
    Ok(())
}
