//! Interval bounds of the layers over a box, on the way forward.

use super::form::Form;
use super::lines::{Lines, image};
use super::maps::Matrix;
use super::network::{Layer, Network};
use super::rounding::Rounding;
use crate::error::{Error, Result};
use crate::graph::{Activation, Source};

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

    /// Intersects the bounds of an element with others.
    pub(super) fn narrow(&mut self, element: usize, lo: f64, hi: f64) {
        let (l, h) = (self.lo[element].max(lo), self.hi[element].min(hi));
        (self.lo[element], self.hi[element], self.mag[element]) = (l, h, l.abs().max(h.abs()));
    }

    /// At least the sum of the magnitudes.
    pub(super) fn mass(&self, r: Rounding) -> f64 {
        r.at_most(self.mag.iter().sum(), self.mag.len())
    }
}

/// What a linear form pays on its way through the affine part of a layer.
#[derive(Debug)]
pub(super) struct Toll {
    /// For each unit of a coefficient on z.
    pub(super) each: Vec<f64>,
    /// Whatever the coefficients: products that underflow.
    pub(super) fixed: f64,
}

/// What is known about a layer.
#[derive(Debug)]
pub(super) struct Passed {
    /// Bounds of z, before the activation.
    pub(super) z: Span,
    /// Bounds of y, behind it.
    pub(super) y: Span,
    pub(super) toll: Toll,
    /// The lines of every neuron; none without an activation.
    pub(super) lines: Vec<Lines>,
}

/// The slopes of the lines of a layer's neurons, as a proof chooses them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slopes<'a> {
    /// Of the lines below; empty for a layer without an activation.
    pub(super) below: &'a [f64],
    /// Of the lines above; empty but for sigmoids.
    pub(super) above: &'a [f64],
}

/// What is known about a network over one box.
#[derive(Debug)]
pub(super) struct Region<'a> {
    pub(super) network: &'a Network,
    pub(super) rounding: Rounding,
    pub(super) input: Span,
    /// The layers done so far.
    pub(super) layers: Vec<Passed>,
}

impl<'a> Region<'a> {
    pub(super) fn new(network: &'a Network, rounding: Rounding, input: Span) -> Self {
        Self { network, rounding, input, layers: vec![] }
    }

    /// Bounds of a source's values; the source has been passed.
    pub(super) fn span(&self, source: Source) -> &Span {
        match source {
            Source::Input => &self.input,
            Source::Layer(index) => &self.layers[index].y,
        }
    }

    /// Interval bounds of the next layer's z, and what forms will pay there.
    pub(super) fn affine(&self) -> Result<(Span, Toll)> {
        let Some(layer) = self.network.layers.get(self.layers.len()) else {
            return Err(Error::internal("the proof checker has run past the last layer"));
        };
        Ok(self.forward(layer))
    }

    fn forward(&self, layer: &Layer) -> (Span, Toll) {
        let (r, width) = (self.rounding, layer.width());
        let terms = layer.edges.iter().map(|edge| edge.map.fan_in()).sum::<usize>();
        let (mut lo, mut hi) = (layer.bias.clone(), layer.bias.clone());
        // The bias enters a form's constant in a sum over all neurons of the layer.
        let cost = |(b, abs): (&f64, &f64)| (b.abs(), r.over(abs + r.gamma(width + 2) * b.abs()), *abs);
        let (mut sizes, mut each, mut off) = (Vec::new(), Vec::new(), Vec::new());
        for (size, cost, abs) in layer.bias.iter().zip(&layer.bias_abs).map(cost) {
            sizes.push(size);
            each.push(cost);
            off.push(abs);
        }
        let mut fixed = r.underflow(width);
        for edge in &layer.edges {
            let span = self.span(edge.source);
            let (fan_in, fan_out) = (edge.map.fan_in(), edge.map.fan_out());
            for (j, image) in edge.map.image(&span.lo, &span.hi, &span.mag).into_iter().enumerate() {
                let reach = r.at_most(image.size, fan_in);
                lo[j] += image.lo;
                hi[j] += image.hi;
                sizes[j] = r.over(sizes[j] + reach);
                off[j] = r.over(off[j] + edge.rel * reach);
                each[j] = r.over(each[j] + (edge.rel + r.gamma(fan_out + 2)) * reach);
            }
            fixed = r.over(fixed + r.underflow(fan_out) * span.mass(r));
        }
        let sums = r.gamma(terms + layer.edges.len() + 3);
        for ((lo, hi), (size, off)) in lo.iter_mut().zip(&mut hi).zip(sizes.iter().zip(&off)) {
            let error = r.over(off + sums * size + r.underflow(terms));
            *lo = r.down(*lo - error);
            *hi = r.up(*hi + error);
        }
        (Span::new(lo, hi), Toll { each, fixed })
    }

    /// Passes the next layer, with bounds of its z and chosen slopes.
    pub(super) fn pass(&mut self, (z, toll): (Span, Toll), slopes: Slopes<'_>) -> Result<()> {
        let Some(layer) = self.network.layers.get(self.layers.len()) else {
            return Err(Error::internal("the proof checker has run past the last layer"));
        };
        let (width, r) = (layer.width(), self.rounding);
        let wanted = match layer.activation {
            Activation::None => [0, 0],
            Activation::Relu => [width, 0],
            Activation::Sigmoid | Activation::Tanh => [width, width],
        };
        if [slopes.below.len(), slopes.above.len()] != wanted || z.lo.len() != width {
            return Err(Error::internal("the proof checker has slopes for another layer"));
        }
        let ends = z.lo.iter().copied().zip(z.hi.iter().copied());
        let pairs = slopes.below.iter().copied().zip(slopes.above.iter().copied());
        let lines = match layer.activation {
            Activation::None => vec![],
            Activation::Relu => ends.zip(slopes.below).map(|((l, h), &s)| Lines::relu(r, l, h, s)).collect(),
            Activation::Sigmoid => ends.zip(pairs).map(|(z, s)| Lines::sigmoid(r, z.into(), s.into())).collect(),
            Activation::Tanh => ends.zip(pairs).map(|(z, s)| Lines::tanh(r, z.into(), s.into())).collect(),
        };
        let y = image(r, layer.activation, &z);
        self.layers.push(Passed { z, y, toll, lines });
        Ok(())
    }

    /// The best lower bounds over the box of `z_j` of the next layer for each listed j, then of `-z_j`, by the walk back.
    pub(super) fn neurons(&self, toll: &Toll, listed: &[usize]) -> Result<Vec<f64>> {
        let index = self.layers.len();
        let Some(layer) = self.network.layers.get(index) else {
            return Err(Error::internal("the proof checker has run past the last layer"));
        };
        let mut rows = Matrix::zeros(2 * listed.len(), layer.width());
        let signs = [1.0, -1.0].into_iter().flat_map(|sign| listed.iter().map(move |&j| (j, sign)));
        for (row, (j, sign)) in rows.rows_mut().zip(signs) {
            row[j] = sign;
        }
        let mut form = Form::new(self, vec![0.0; 2 * listed.len()], vec![0.0; 2 * listed.len()]);
        form.through_affine(layer, toll, &rows)?;
        form.lower_bounds(index)
    }

    /// The best lower bounds over the box of rows over the output, plus constants, less errors.
    pub(super) fn outputs(&self, rows: Matrix, constant: Vec<f64>, error: Vec<f64>) -> Result<Vec<f64>> {
        let last = self.layers.len().checked_sub(1);
        let Some(last) = last.filter(|last| last + 1 == self.network.layers.len()) else {
            return Err(Error::internal("the proof checker has not reached the last layer"));
        };
        let mut form = Form::new(self, constant, error);
        form.put(Source::Layer(last), rows);
        form.lower_bounds(last + 1)
    }
}
