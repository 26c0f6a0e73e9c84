//! Plain CROWN and interval bounds in f64 on the host, dense and slow: what bounds of the device are checked by.

use ndarray::{Array1, Array2, Axis};

use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Layers, Source};
use crate::verify::{Property, Row};

/// What the oracle says of the first query of a property.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Crown {
    /// The smallest lower bound of its rows: a bound up to f64's rounding.
    pub margin: f64,
    /// The share of the ReLUs whose bounds have both signs.
    pub unstable: f64,
}

/// The two lines of every neuron of a layer: `lower * z <= relu(z) <= upper * z + offset`.
struct Lines {
    lower: Array1<f64>,
    upper: Array1<f64>,
    offset: Array1<f64>,
}

impl Lines {
    /// The lines of CROWN (Zhang et al., NeurIPS 2018), the lower slope by area, from bounds before the ReLU.
    fn new(low: &Array1<f64>, high: &Array1<f64>, relu: bool) -> Self {
        let slope = |i: usize| match (low[i], high[i]) {
            _ if !relu => (1.0, 1.0, 0.0),
            (l, _) if l >= 0.0 => (1.0, 1.0, 0.0),
            (_, h) if h <= 0.0 => (0.0, 0.0, 0.0),
            (l, h) => (if h > -l { 1.0 } else { 0.0 }, h / (h - l), -l * h / (h - l)),
        };
        let all: Vec<(f64, f64, f64)> = (0..low.len()).map(slope).collect();
        let pick = |part: fn(&(f64, f64, f64)) -> f64| all.iter().map(part).collect();
        Self { lower: pick(|t| t.0), upper: pick(|t| t.1), offset: pick(|t| t.2) }
    }

    /// Lower bounds by y become lower bounds by z.
    fn relax(&self, coefficients: &mut Array2<f64>, constants: &mut Array1<f64>) {
        for (mut row, constant) in coefficients.axis_iter_mut(Axis(0)).zip(constants) {
            for (i, c) in row.iter_mut().enumerate() {
                if *c < 0.0 {
                    *constant += *c * self.offset[i];
                    *c *= self.upper[i];
                } else {
                    *c *= self.lower[i];
                }
            }
        }
    }
}

/// A layer with every map as a matrix.
struct Dense {
    /// The place of a source (0: the input, k + 1: layer k) and its matrix, `[out, in]`.
    edges: Vec<(usize, Array2<f64>)>,
    bias: Array1<f64>,
    relu: bool,
}

fn place(source: Source) -> usize {
    match source {
        Source::Input => 0,
        Source::Layer(index) => index + 1,
    }
}

fn dense(net: &Layers) -> Result<Vec<Dense>> {
    let matrices = net.layers.iter().map(|layer| {
        if matches!(layer.activation, Activation::Sigmoid | Activation::Tanh) {
            return Err(Error::internal("the oracle knows ReLUs only"));
        }
        let edges = layer.edges.iter().map(|edge| {
            let from = net.extent(edge.source);
            let mut matrix = Array2::zeros((layer.extent.len(), from.len()));
            edge.map.for_each_weight(from, layer.extent, |row, column, w| matrix[[row, column]] += f64::from(w));
            (place(edge.source), matrix)
        });
        let bias = layer.bias.iter().map(|&b| f64::from(b)).collect();
        Ok(Dense { edges: edges.collect(), bias, relu: layer.activation == Activation::Relu })
    });
    matrices.collect()
}

/// Coefficients on every layer's values y, the input's first; none where a bound does not reach.
type Pending = Vec<Option<Array2<f64>>>;

/// Adds rows' coefficients through one layer to those on its sources.
fn push(pending: &mut Pending, layer: &Dense, rows: &Array2<f64>) {
    for (source, matrix) in &layer.edges {
        let more = rows.dot(matrix);
        pending[*source] = Some(pending[*source].take().map_or(more.clone(), |before| before + &more));
    }
}

/// Lower bounds of rows that have coefficients on layers' values, over a box.
fn lower_bounds(
    layers: &[Dense],
    lines: &[Lines],
    mut pending: Pending,
    mut constant: Array1<f64>,
    (lo, hi): (&Array1<f64>, &Array1<f64>),
) -> Array1<f64> {
    for at in (1..pending.len()).rev() {
        let Some(mut rows) = pending[at].take() else { continue };
        lines[at - 1].relax(&mut rows, &mut constant);
        constant += &rows.dot(&layers[at - 1].bias);
        push(&mut pending, &layers[at - 1], &rows);
    }
    match pending[0].take() {
        Some(a) => constant + a.mapv(|c| c.max(0.0)).dot(lo) + a.mapv(|c| c.min(0.0)).dot(hi),
        None => constant,
    }
}

/// Lower bounds of the rows of a property over its first query, by plain CROWN in f64: every neuron of every layer
/// back-substituted to the input.
///
/// # Errors
/// Those of [`Layers::from_graph`], and for networks with other functions than ReLU.
pub(super) fn crown(graph: &Graph, property: &Property) -> Result<Crown> {
    let net = Layers::from_graph(graph)?;
    let layers = dense(&net)?;
    let query = property.queries.first().ok_or_else(|| Error::internal("a property without a query"))?;
    let (lo, hi) = (Array1::from(query.input.lo.clone()), Array1::from(query.input.hi.clone()));
    let mut lines: Vec<Lines> = Vec::new();
    let (mut unstable, mut relus) = (0, 0);
    for layer in &layers {
        let bound = |sign: f64| {
            let mut pending: Pending = vec![None; lines.len() + 1];
            push(&mut pending, layer, &(Array2::eye(layer.bias.len()) * sign));
            lower_bounds(&layers, &lines, pending, &layer.bias * sign, (&lo, &hi))
        };
        let (low, high) = (bound(1.0), -bound(-1.0));
        if layer.relu {
            relus += low.len();
            unstable += low.iter().zip(&high).filter(|&(&l, &h)| l < 0.0 && h > 0.0).count();
        }
        lines.push(Lines::new(&low, &high, layer.relu));
    }
    let rows: Vec<&Row> = query.unsafe_if.iter().flatten().collect();
    let mut given = Array2::zeros((rows.len(), property.outputs));
    for (i, row) in rows.iter().enumerate() {
        for &(j, c) in &row.coefficients {
            given[[i, j]] = c;
        }
    }
    let mut pending: Pending = vec![None; layers.len() + 1];
    pending[layers.len()] = Some(given);
    let constants = rows.iter().map(|row| row.constant).collect();
    let bounds = lower_bounds(&layers, &lines, pending, constants, (&lo, &hi));
    let margin = bounds.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(Crown { margin, unstable: f64::from(unstable as u32) / f64::from((relus as u32).max(1)) })
}

/// The smallest lower bound of the rows of a property over its first query by interval bounds alone, in f64.
///
/// # Errors
/// Those of [`Layers::from_graph`], and for networks with other functions than ReLU.
pub(super) fn interval_margin(graph: &Graph, property: &Property) -> Result<f64> {
    let net = Layers::from_graph(graph)?;
    let query = property.queries.first().ok_or_else(|| Error::internal("a property without a query"))?;
    let mut values = vec![(query.input.lo.clone(), query.input.hi.clone())];
    for layer in &net.layers {
        let mut low: Vec<f64> = layer.bias.iter().map(|&b| f64::from(b)).collect();
        let mut high = low.clone();
        for edge in &layer.edges {
            let (below, above) = &values[place(edge.source)];
            edge.map.for_each_weight(net.extent(edge.source), layer.extent, |row, column, w| {
                let w = f64::from(w);
                let (l, h) = if w < 0.0 { (above[column], below[column]) } else { (below[column], above[column]) };
                low[row] += w * l;
                high[row] += w * h;
            });
        }
        match layer.activation {
            Activation::None => {}
            Activation::Relu => low.iter_mut().chain(&mut high).for_each(|v| *v = v.max(0.0)),
            Activation::Sigmoid | Activation::Tanh => return Err(Error::internal("the oracle knows ReLUs only")),
        }
        values.push((low, high));
    }
    let (low, high) = values.pop().unwrap_or_default();
    let bound = |row: &Row| {
        let terms = row.coefficients.iter().map(|&(j, c)| c * if c < 0.0 { high[j] } else { low[j] });
        row.constant + terms.sum::<f64>()
    };
    Ok(query.unsafe_if.iter().flatten().map(bound).fold(f64::INFINITY, f64::min))
}

#[cfg(test)]
mod tests {
    use super::super::networks::{points, random_network, robustness};
    use super::super::oracle::Random;
    use super::super::residual::Shape;
    use super::super::verify::margin_at;
    use super::*;

    fn holds_over_points(graph: &Graph, width: usize, seed: u64) {
        for (number, centre) in points(3, width, seed).iter().enumerate() {
            let property = robustness(graph, centre, 0.03).expect("a property");
            let margin = crown(graph, &property).expect("layers").margin;
            let intervals = interval_margin(graph, &property).expect("layers");
            assert!(intervals < margin, "intervals: {intervals}, rows: {margin}");
            let value = |x: &[f64]| margin_at(graph, &property, x).expect("its inputs");
            let mut random = Random::new(number as u64);
            for _ in 0..100 {
                let x: Vec<f64> =
                    centre.iter().map(|c| (c + 0.03 * (2.0 * random.unit() - 1.0)).clamp(0.0, 1.0)).collect();
                assert!(value(&x) >= margin - 1e-9, "a point of the box is below the bound");
            }
            let point = robustness(graph, centre, 0.0).expect("a property");
            let exact = [crown(graph, &point).map(|c| c.margin), interval_margin(graph, &point)];
            for margin in exact {
                let margin = margin.expect("layers");
                // Where two maps meet, their biases are added and rounded to f32 (1e-7 of values near 1).
                assert!((margin - value(centre)).abs() < 1e-6, "{margin} and {}", value(centre));
            }
        }
    }

    #[test]
    fn the_oracle_bounds_a_network_from_below_and_is_exact_on_a_point() {
        holds_over_points(&random_network(&[6, 12, 12, 4], 3), 6, 5);
    }

    #[test]
    fn the_oracle_adds_what_comes_by_two_paths() {
        holds_over_points(&Shape { side: 4, ..Shape::small() }.network(5), 48, 6);
    }
}
