//! Interval bounds, and linear forms that walk back through the steps of a network.

use super::rounding::{Rounding, sum, sum_abs, sum_least};
use super::steps::{Matrix, Network, Step};
use crate::error::{Error, Result};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Bounds of every element of a vector, in exact arithmetic. Infinite where nothing is known.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) lo: Vec<f64>,
    pub(super) hi: Vec<f64>,
    /// `max(|lo|, |hi|)`.
    pub(super) mag: Vec<f64>,
}

impl Span {
    pub(super) fn new(lo: Vec<f64>, hi: Vec<f64>) -> Self {
        // What overflowed is known no more; in a bound, NaN and the wrong infinity mean just that.
        let lo: Vec<f64> = lo.into_iter().map(|x| if x.is_finite() { x } else { f64::NEG_INFINITY }).collect();
        let hi: Vec<f64> = hi.into_iter().map(|x| if x.is_finite() { x } else { f64::INFINITY }).collect();
        let mag = lo.iter().zip(&hi).map(|(l, h)| l.abs().max(h.abs())).collect();
        Self { lo, hi, mag }
    }
}

/// The two lines that bound a neuron's ReLU `y` by its pre-activation `z`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lines {
    /// `y = z`.
    Same,
    /// `y = 0`.
    Zero,
    /// `below z <= y <= above z + offset`.
    Crossing { below: f64, above: f64, offset: f64 },
}

impl Lines {
    /// The lines for a pre-activation in `[l, h]` and a chosen lower slope in [0, 1].
    ///
    /// `relu(z) - above z` is convex, so its maximum over `[l, h]` is at an end: any slope is sound with
    /// `offset = max(-l above, h (1 - above))`, rounded up. `above` near `h / (h - l)` makes both equal. Rounding the
    /// slope to nearest and taking `-l above` alone would pass below the ReLU at `h`.
    pub(super) fn new(rounding: Rounding, l: f64, h: f64, below: f64) -> Self {
        if h <= 0.0 {
            Self::Zero
        } else if l >= 0.0 {
            Self::Same
        } else if l.is_finite() && h.is_finite() {
            let above = (h / (h - l)).clamp(0.0, 1.0);
            let at_l = rounding.up(-l * above);
            let at_h = rounding.up(h * rounding.up(1.0 - above));
            Self::Crossing { below, above, offset: at_l.max(at_h) }
        } else {
            Self::Crossing { below, above: 1.0, offset: f64::INFINITY }
        }
    }
}

/// What is known about a network over one box.
pub(super) struct Region<'a> {
    pub(super) network: &'a Network,
    pub(super) rounding: Rounding,
    /// Bounds before each step, as far as they have been derived.
    pub(super) spans: Vec<Span>,
    /// For each step done: `|W| mag` rounded up if it is dense, its lines if it is a ReLU.
    pub(super) done: Vec<Done>,
}

/// What the way forward through a step leaves for the ways back.
pub(super) enum Done {
    Dense(Vec<f64>),
    Relu(Vec<Lines>),
    Elementwise,
}

impl<'a> Region<'a> {
    pub(super) fn new(network: &'a Network, rounding: Rounding, input: Span) -> Self {
        Self { network, rounding, spans: vec![input], done: vec![] }
    }

    /// Interval bounds through the next step; `slopes` are those of the step if it is a ReLU, else empty.
    pub(super) fn forward(&mut self, slopes: &[f64]) -> Result<()> {
        let (Some(step), Some(span)) = (self.network.steps.get(self.done.len()), self.spans.last()) else {
            return Err(Error::internal("the proof checker has run past the last layer"));
        };
        if slopes.len() != if matches!(step, Step::Relu) { span.lo.len() } else { 0 } {
            return Err(Error::internal("the proof checker has slopes for another layer"));
        }
        let r = self.rounding;
        let (next, done) = match step {
            Step::Dense(matrix) => dense_forward(r, matrix, span),
            Step::Scale { by, divide } => (scale_forward(r, by, *divide, span), Done::Elementwise),
            Step::Shift(by) => {
                let lo = span.lo.iter().zip(by).map(|(l, b)| r.down(l + b)).collect();
                let hi = span.hi.iter().zip(by).map(|(h, b)| r.up(h + b)).collect();
                (Span::new(lo, hi), Done::Elementwise)
            }
            Step::Relu => {
                let lines = span.lo.iter().zip(&span.hi).zip(slopes).map(|((&l, &h), &s)| Lines::new(r, l, h, s));
                let positive = |bounds: &[f64]| bounds.iter().map(|x| x.max(0.0)).collect();
                (Span::new(positive(&span.lo), positive(&span.hi)), Done::Relu(lines.collect()))
            }
        };
        self.spans.push(next);
        self.done.push(done);
        Ok(())
    }

    /// The best lower bound over the box of each row of a form over the newest span: by that span, by the span
    /// behind every ReLU on the way back, and by the input box. `-inf` where nothing is known.
    pub(super) fn lower_bounds(&self, mut form: Form) -> Result<Vec<f64>> {
        let last = self.spans.len() - 1;
        let mut best = vec![f64::NEG_INFINITY; form.constant.len()];
        form.evaluate(self.rounding, &self.spans[last], &mut best);
        for index in (0..last).rev() {
            let span = &self.spans[index];
            match (&self.network.steps[index], &self.done[index]) {
                (Step::Dense(matrix), Done::Dense(reach)) => form.through_dense(self.rounding, matrix, reach, span)?,
                (Step::Scale { by, divide }, _) => form.through_scale(self.rounding, by, *divide, span),
                (Step::Shift(by), _) => form.through_shift(self.rounding, by),
                (Step::Relu, Done::Relu(lines)) => {
                    form.evaluate(self.rounding, &self.spans[index + 1], &mut best);
                    form.through_relu(self.rounding, lines, span);
                }
                _ => {
                    return Err(Error::internal("a step of the proof checker left the wrong notes"));
                }
            }
        }
        form.evaluate(self.rounding, &self.spans[0], &mut best);
        Ok(best)
    }
}

/// `W x` with |error| <= gamma sum |w| mag for each end.
fn dense_forward(r: Rounding, matrix: &Matrix, span: &Span) -> (Span, Done) {
    let terms = matrix.cols;
    let (mut lo, mut hi, mut reach) = (vec![], vec![], vec![]);
    for row in matrix.data.chunks_exact(terms) {
        let size = r.at_most(sum_abs(row, &span.mag), terms);
        let error = r.over(r.gamma(terms + 2) * size + r.underflow(terms));
        lo.push(r.down(sum_least(row, &span.lo, &span.hi) - error));
        hi.push(r.up(sum_least(row, &span.hi, &span.lo) + error));
        reach.push(size);
    }
    (Span::new(lo, hi), Done::Dense(reach))
}

fn scale_forward(r: Rounding, by: &[f64], divide: bool, span: &Span) -> Span {
    let ends = by.iter().zip(span.lo.iter().zip(&span.hi)).map(|(&b, (&l, &h))| {
        let (x, y) = if divide { (l / b, h / b) } else { (l * b, h * b) };
        // A NaN of an unknown end times 0 must not be dropped by `min`.
        let known = x.is_finite() && y.is_finite();
        if known { (r.down(x.min(y)), r.up(x.max(y))) } else { (f64::NEG_INFINITY, f64::INFINITY) }
    });
    let (lo, hi) = ends.unzip();
    Span::new(lo, hi)
}

/// Linear forms, one a row: for every input in the box, the bounded quantity is at least
/// `rows x + constant - error`, where `x` is the vector that the form stands at.
pub(super) struct Form {
    pub(super) rows: Matrix,
    pub(super) constant: Vec<f64>,
    pub(super) error: Vec<f64>,
    /// The only column of each row that is not 0, if that is known.
    single: Option<Vec<usize>>,
}

impl Form {
    /// Forms with given coefficients, constants and errors.
    pub(super) fn new(rows: Matrix, constant: Vec<f64>, error: Vec<f64>) -> Self {
        Self { rows, constant, error, single: None }
    }

    /// `x_j` for every listed `j`, then `-x_j`.
    pub(super) fn plus_and_minus(listed: &[usize], cols: usize) -> Self {
        let mut rows = Matrix { cols, data: vec![0.0; 2 * listed.len() * cols] };
        let single: Vec<usize> = [listed, listed].concat();
        for (index, (row, &j)) in rows.data.chunks_exact_mut(cols).zip(&single).enumerate() {
            row[j] = if index < listed.len() { 1.0 } else { -1.0 };
        }
        let zeros = vec![0.0; single.len()];
        Self { rows, constant: zeros.clone(), error: zeros, single: Some(single) }
    }

    /// Row by row: coefficients, constant, error.
    fn parts(&mut self) -> impl Iterator<Item = (&mut [f64], &mut f64, &mut f64)> {
        let rows = self.rows.data.chunks_exact_mut(self.rows.cols);
        rows.zip(&mut self.constant).zip(&mut self.error).map(|((row, constant), error)| (row, constant, error))
    }

    /// Raises `best` to the lower bounds of the forms over a span.
    fn evaluate(&self, r: Rounding, span: &Span, best: &mut [f64]) {
        let terms = self.rows.cols;
        for (index, row) in self.rows.data.chunks_exact(terms).enumerate() {
            let (constant, error) = (self.constant[index], self.error[index]);
            let size = r.at_most(sum_abs(row, &span.mag), terms);
            let error = r.over(error + r.gamma(terms + 3) * (size + constant.abs()) + r.underflow(terms));
            let value = r.down(sum_least(row, &span.lo, &span.hi) + constant - error);
            // An overflow on the way shows in `error`: then nothing is known, whatever the sum says.
            if error.is_finite() && value.is_finite() && value > best[index] {
                best[index] = value;
            }
        }
    }

    /// `A (W x)`: the product's error is at most `gamma |A| |W| |x| <= gamma |A| . reach`.
    fn through_dense(&mut self, r: Rounding, matrix: &Matrix, reach: &[f64], span: &Span) -> Result<()> {
        let terms = self.rows.cols;
        let mass = r.at_most(span.mag.iter().sum(), span.mag.len());
        for (row, _, error) in self.parts() {
            let size = r.at_most(sum_abs(row, reach), terms);
            *error = r.over(*error + r.gamma(terms + 2) * size + r.underflow(terms) * mass);
        }
        self.rows = match self.single.take() {
            Some(single) => scaled_rows(&self.rows, &single, matrix),
            None => product(&self.rows, matrix)?,
        };
        Ok(())
    }

    /// `A (x c)` or `A (x / c)`: every new coefficient is rounded once.
    pub(super) fn through_scale(&mut self, r: Rounding, by: &[f64], divide: bool, span: &Span) {
        let terms = by.len();
        let mass = r.at_most(span.mag.iter().sum(), terms);
        for (row, _, error) in self.parts() {
            for (a, b) in row.iter_mut().zip(by) {
                *a = if divide { *a / b } else { *a * b };
            }
            let size = r.at_most(sum_abs(row, &span.mag), terms);
            *error = r.over(*error + r.gamma(2) * size + r.underflow(1) * mass);
        }
    }

    /// `A (x + c)`: `A . c` joins the constant.
    pub(super) fn through_shift(&mut self, r: Rounding, by: &[f64]) {
        let terms = by.len();
        for (row, constant, error) in self.parts() {
            let size = r.at_most(sum(row, by, by, |a, b, _| (a * b).abs()), terms) + constant.abs();
            *error = r.over(*error + r.gamma(terms + 2) * size + r.underflow(terms));
            *constant += sum(row, by, by, |a, b, _| a * b);
        }
    }

    /// The line below for a positive coefficient, the line above for a negative one.
    pub(super) fn through_relu(&mut self, r: Rounding, lines: &[Lines], span: &Span) {
        self.single = None;
        let crossing = lines.iter().filter(|line| matches!(line, Lines::Crossing { .. })).count();
        let mass = r.at_most(span.mag.iter().sum(), span.mag.len());
        for (row, constant, error) in self.parts() {
            // Of the new coefficients times |x|, and of the offsets taken into the constant (none is positive).
            let (mut size, mut offsets) = (0.0, 0.0);
            for ((a, line), mag) in row.iter_mut().zip(lines).zip(&span.mag) {
                match *line {
                    Lines::Same => {}
                    Lines::Zero => *a = 0.0,
                    Lines::Crossing { below, above, offset } => {
                        if *a >= 0.0 {
                            *a *= below;
                        } else {
                            offsets += *a * offset;
                            *a *= above;
                        }
                        size += a.abs() * mag;
                    }
                }
            }
            let sum = r.at_most(-offsets, crossing) + constant.abs();
            let rounded = r.gamma(2) * r.at_most(size, crossing) + r.gamma(crossing + 2) * sum;
            *error = r.over(*error + rounded + r.underflow(1) * mass + r.underflow(crossing));
            *constant += offsets;
        }
    }
}

/// One row of `matrix` for each row of `rows`, which has one coefficient that is not 0.
fn scaled_rows(rows: &Matrix, single: &[usize], matrix: &Matrix) -> Matrix {
    let mut data = Vec::with_capacity(single.len() * matrix.cols);
    for (row, &j) in rows.data.chunks_exact(rows.cols).zip(single) {
        data.extend(matrix.row(j).iter().map(|w| row[j] * w));
    }
    Matrix { cols: matrix.cols, data }
}

/// `rows` times `matrix`, without the columns of `rows` that are 0 everywhere (dead neurons).
fn product(rows: &Matrix, matrix: &Matrix) -> Result<Matrix> {
    let mut live = vec![false; rows.cols];
    for row in rows.data.chunks_exact(rows.cols) {
        for (live, a) in live.iter_mut().zip(row) {
            *live |= *a != 0.0;
        }
    }
    let live: Vec<usize> = (0..rows.cols).filter(|&j| live[j]).collect();
    let left: Vec<f64> = rows.data.chunks_exact(rows.cols).flat_map(|row| live.iter().map(|&j| row[j])).collect();
    let right: Vec<f64> = live.iter().flat_map(|&j| matrix.row(j)).copied().collect();
    let mut data = vec![0.0; rows.rows() * matrix.cols];
    let shaped =
        |e: ndarray::ShapeError| Error::internal("a matrix of the proof checker has the wrong size").with_source(e);
    let left = ArrayView2::from_shape((rows.rows(), live.len()), &left).map_err(shaped)?;
    let right = ArrayView2::from_shape((live.len(), matrix.cols), &right).map_err(shaped)?;
    let mut out = ArrayViewMut2::from_shape((rows.rows(), matrix.cols), &mut data).map_err(shaped)?;
    general_mat_mul(1.0, &left, &right, 0.0, &mut out);
    Ok(Matrix { cols: matrix.cols, data })
}
