//! The layers of a network in f64, checked for consistency once so that nothing behind can go wrong.
//!
//! The numbers of [`Layers`] are f32, which f64 holds exactly: nothing is rounded here. How far they are from the network's
//! real numbers (`rel`, `bias_abs`) is taken from the layers as well.

use super::maps::{Conv, Map, Matrix};
use crate::error::{Error, Result};
use crate::graph::{self, Activation, Convolution, Extent, Layers, Source, Sparse};

/// One linear contribution to a layer.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) source: Source,
    pub(super) map: Map,
    /// `|w_real - w| <= rel |w|`.
    pub(super) rel: f64,
}

/// `y = activation(z)`, `z = bias + sum of edges`.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) edges: Vec<Edge>,
    pub(super) bias: Vec<f64>,
    /// `|b_real - b| <= bias_abs`, elementwise.
    pub(super) bias_abs: Vec<f64>,
    pub(super) activation: Activation,
}

impl Layer {
    /// Number of values of z and of y; not 0.
    pub(super) fn width(&self) -> usize {
        self.bias.len()
    }
}

/// A network of at least one layer.
#[derive(Debug)]
pub(super) struct Network {
    /// Number of inputs; not 0.
    pub(super) inputs: usize,
    pub(super) layers: Vec<Layer>,
}

impl Network {
    /// Takes over layers.
    ///
    /// # Errors
    /// `Internal` if they contradict themselves, `BadInput` if a number is not finite; the message names the layer.
    pub(super) fn new(layers: &Layers) -> Result<Self> {
        if layers.input.is_empty() || layers.layers.is_empty() {
            return Err(Error::bad_input("the network has no inputs or no layers")
                .with_help("export the network with a fixed input shape"));
        }
        let take = |(index, layer)| take(layers, index, layer);
        let taken = layers.layers.iter().enumerate().map(take).collect::<Result<_>>()?;
        Ok(Self { inputs: layers.input.len(), layers: taken })
    }

    /// Number of outputs.
    pub(super) fn outputs(&self) -> usize {
        self.layers.last().map_or(0, Layer::width)
    }

    /// The layers that a proof says something about, in its order.
    pub(super) fn activated(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.activation != Activation::None)
    }
}

/// Layer `index` in f64.
fn take(layers: &Layers, index: usize, layer: &graph::Layer) -> Result<Layer> {
    let wrong = |what: &str| Error::internal(format!("layer {index} (`{}`) {what}", layer.name));
    let width = layer.extent.len();
    if width == 0 || layer.bias.len() != width || layer.bias_abs.len() != width || layer.edges.is_empty() {
        return Err(wrong("has no values, no edges, or biases of another size"));
    }
    let finite = layer.bias.iter().all(|b| b.is_finite());
    if !finite || !layer.bias_abs.iter().all(|b| b.is_finite() && *b >= 0.0) {
        return Err(not_finite(&layer.name));
    }
    let mut edges = Vec::with_capacity(layer.edges.len());
    for edge in &layer.edges {
        if matches!(edge.source, Source::Layer(from) if from >= index) {
            return Err(wrong("reads a layer that does not stand before it"));
        }
        if !(edge.rel.is_finite() && edge.rel >= 0.0) {
            return Err(wrong("has an edge whose error is not a number"));
        }
        let map = map(&edge.map, layers.extent(edge.source), layer.extent);
        let map = map.ok_or_else(|| wrong("has an edge that does not fit its source"))?;
        if !map.is_finite() {
            return Err(not_finite(&layer.name));
        }
        edges.push(Edge { source: edge.source, map, rel: f64::from(edge.rel) });
    }
    Ok(Layer { edges, bias: wide(&layer.bias), bias_abs: wide(&layer.bias_abs), activation: layer.activation })
}

fn not_finite(layer: &str) -> Error {
    Error::bad_input(format!("a weight or bias of `{layer}` is not finite"))
        .with_help("export the network again; a weight that is not finite has no meaning")
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

/// A map in f64, or nothing if it does not lead from one shape to the other.
fn map(map: &graph::Map, from: Extent, to: Extent) -> Option<Map> {
    match map {
        graph::Map::Dense(weight) => {
            let fits = weight.dim() == (to.len(), from.len()) && !from.is_empty();
            let data = weight.iter().map(|&w| f64::from(w)).collect();
            fits.then_some(Map::Dense(Matrix { cols: from.len(), data }))
        }
        graph::Map::Conv(given) => conv(given, from, to).map(Map::Conv),
        graph::Map::Sparse(given) => sparse(given, from.len(), to.len()),
        graph::Map::Diagonal(by) => (by.len() == from.len() && by.len() == to.len()).then(|| Map::Diagonal(wide(by))),
    }
}

fn conv(given: &Convolution, from: Extent, to: Extent) -> Option<Conv> {
    let (out, channels, height, width) = given.weight.dim();
    let steps = given.stride.iter().chain(&given.dilation).all(|&step| step > 0);
    let fits = out == to.channels && channels == from.channels && !given.weight.is_empty() && steps;
    let conv = Conv {
        weight: given.weight.iter().map(|&w| f64::from(w)).collect(),
        channels: [out, channels],
        kernel: [height, width],
        stride: given.stride,
        pad: given.pad,
        dilation: given.dilation,
        from: [from.height, from.width],
        to: [to.height, to.width],
    };
    (fits && conv.is_small()).then_some(conv)
}

fn sparse(given: &Sparse, from: usize, to: usize) -> Option<Map> {
    let terms = given.columns.len();
    let starts = &given.starts;
    let ascending = starts.len() == to + 1 && starts.windows(2).all(|pair| pair[0] <= pair[1]);
    let complete = starts.first() == Some(&0) && starts.last() == Some(&terms) && given.weights.len() == terms;
    if !ascending || !complete {
        return None;
    }
    let columns: Vec<usize> = given.columns.iter().map(|&c| usize::try_from(c)).collect::<Result<_, _>>().ok()?;
    // Terms of a column, of which a walk back adds as many.
    let mut counts = vec![0; from];
    for &column in &columns {
        *counts.get_mut(column)? += 1;
    }
    let most = counts.into_iter().max().unwrap_or(0);
    Some(Map::Sparse { starts: starts.clone(), columns, weights: wide(&given.weights), most })
}
