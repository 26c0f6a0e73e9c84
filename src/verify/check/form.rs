//! Linear forms that walk back through the layers, and the best bounds found on the way.

use super::bounds::{Passed, Region, Span, Toll};
use super::lines::Lines;
use super::maps::Matrix;
use super::network::Layer;
use super::rounding::{Rounding, sum, sum_abs, sum_least};
use crate::error::{Error, Result};
use crate::graph::Source;

/// Linear forms over the values of several sources at once, one a row: for every input in the box, the bounded quantity is at
/// least the sum of `rows_s . y_s` over all sources s that are pending, plus `constant - error`.
pub(super) struct Form<'a> {
    region: &'a Region<'a>,
    /// The input's rows, then those of the layers.
    pub(super) pending: Vec<Option<Matrix>>,
    pub(super) constant: Vec<f64>,
    pub(super) error: Vec<f64>,
    /// The best lower bound of each row so far.
    best: Vec<f64>,
}

/// Where a source stands among those that are pending.
fn slot(source: Source) -> usize {
    match source {
        Source::Input => 0,
        Source::Layer(index) => index + 1,
    }
}

impl<'a> Form<'a> {
    /// Forms without coefficients.
    pub(super) fn new(region: &'a Region<'a>, constant: Vec<f64>, error: Vec<f64>) -> Self {
        let pending = (0..=region.layers.len()).map(|_| None).collect();
        let best = vec![f64::NEG_INFINITY; constant.len()];
        Self { region, pending, constant, error, best }
    }

    /// Sets the rows of a source.
    pub(super) fn put(&mut self, source: Source, rows: Matrix) {
        self.pending[slot(source)] = Some(rows);
    }

    /// Walks back from the layers before `end` to the input; the best lower bound of each row, `-inf` where nothing is known.
    ///
    /// A row is evaluated wherever it stands on one source alone: on y's own bounds, before the lines of that layer.
    pub(super) fn lower_bounds(mut self, end: usize) -> Result<Vec<f64>> {
        for index in (0..end).rev() {
            let source = Source::Layer(index);
            let Some(mut rows) = self.pending[slot(source)].take() else {
                continue;
            };
            let (Some(layer), Some(passed)) = (self.region.network.layers.get(index), self.region.layers.get(index))
            else {
                return Err(Error::internal("the proof checker walks back from a layer that it has not passed"));
            };
            if self.pending.iter().all(Option::is_none) {
                self.evaluate(&rows, &passed.y);
            }
            self.through_lines(passed, &mut rows);
            self.through_affine(layer, &passed.toll, &rows)?;
        }
        if let Some(rows) = self.pending[0].take() {
            self.evaluate(&rows, &self.region.input);
        }
        Ok(self.best)
    }

    /// Raises `best` to the lower bounds of rows that stand on one span alone.
    fn evaluate(&mut self, rows: &Matrix, span: &Span) {
        let (r, terms) = (self.region.rounding, rows.cols);
        for (index, row) in rows.rows().enumerate() {
            let (constant, error) = (self.constant[index], self.error[index]);
            let size = r.at_most(sum_abs(row, &span.mag), terms);
            let error = r.over(error + r.gamma(terms + 3) * (size + constant.abs()) + r.underflow(terms));
            let value = r.down(sum_least(row, &span.lo, &span.hi) + constant - error);
            // An overflow on the way shows in `error`: then nothing is known, whatever the sum says.
            if error.is_finite() && value.is_finite() && value > self.best[index] {
                self.best[index] = value;
            }
        }
    }

    /// From y to z: the line below for a positive coefficient, the line above for a negative one.
    pub(super) fn through_lines(&mut self, passed: &Passed, rows: &mut Matrix) {
        let (r, lines, z) = (self.region.rounding, &passed.lines, &passed.z);
        let between = lines.iter().filter(|line| matches!(line, Lines::Between { .. })).count();
        if lines.is_empty() {
            return;
        }
        let mass = z.mass(r);
        for (row, (constant, error)) in rows.rows_mut().zip(self.constant.iter_mut().zip(&mut self.error)) {
            let (size, offsets, offset_sizes) = apply(row, lines, &z.mag);
            let sum = r.at_most(offset_sizes, between) + constant.abs();
            let rounded = r.gamma(2) * r.at_most(size, between) + r.gamma(between + 2) * sum;
            *error = r.over(*error + rounded + r.underflow(1) * mass + r.underflow(between));
            *constant += offsets;
        }
    }

    /// From z to the values of the sources that it is made of. Where a source is pending already, its rows are added up.
    pub(super) fn through_affine(&mut self, layer: &Layer, toll: &Toll, rows: &Matrix) -> Result<()> {
        let (r, width) = (self.region.rounding, layer.width());
        for (row, (constant, error)) in rows.rows().zip(self.constant.iter_mut().zip(&mut self.error)) {
            let paid = r.at_most(sum_abs(row, &toll.each), width);
            *error = r.over(*error + paid + r.gamma(width + 2) * constant.abs() + toll.fixed);
            *constant += sum(row, &layer.bias, &layer.bias, |a, b, _| a * b);
        }
        for edge in &layer.edges {
            let span = self.region.span(edge.source);
            let mut into = match self.pending[slot(edge.source)].take() {
                Some(there) => {
                    self.merge(r, edge.map.fan_out(), &there, span);
                    there
                }
                None => Matrix::zeros(self.constant.len(), span.lo.len()),
            };
            edge.map.pull(rows, &mut into)?;
            self.put(edge.source, into);
        }
        Ok(())
    }

    /// What coefficients that are there lose when `terms` products are added to each.
    fn merge(&mut self, r: Rounding, terms: usize, there: &Matrix, span: &Span) {
        for (row, error) in there.rows().zip(&mut self.error) {
            let size = r.at_most(sum_abs(row, &span.mag), there.cols);
            *error = r.over(*error + r.gamma(terms + 1) * size);
        }
    }
}

/// Puts lines in place of values: the sum of `|a| mag` over new coefficients that were rounded, the sum of the offsets,
/// and the sum of their sizes.
fn apply(row: &mut [f64], lines: &[Lines], mag: &[f64]) -> (f64, f64, f64) {
    let (mut size, mut offsets, mut offset_sizes) = (0.0, 0.0, 0.0);
    for ((a, line), mag) in row.iter_mut().zip(lines).zip(mag) {
        match *line {
            Lines::Same => {}
            Lines::Zero => *a = 0.0,
            Lines::Between { below, above } => {
                let line = if *a >= 0.0 { below } else { above };
                if line.offset != 0.0 {
                    let offset = *a * line.offset;
                    offsets += offset;
                    offset_sizes += offset.abs();
                }
                *a *= line.slope;
                size += a.abs() * mag;
            }
        }
    }
    (size, offsets, offset_sizes)
}
