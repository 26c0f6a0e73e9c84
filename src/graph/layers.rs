//! Networks as layers: the form that bound propagation, attacks and the proof checker run on.
//!
//! A [`Layer`] is `y = activation(z)`, `z = b + sum over edges of M_e y_source(e)`: an affine map of any number of earlier
//! layers, then an elementwise function. A residual block is one layer with two edges, a max-pool a small tree of ReLUs
//! (`max(a, b) = b + relu(a - b)`), and Pad, Transpose, Concat and the like are sparse maps. Whoever can handle a map, its
//! transpose and three elementwise functions can handle every network that can be written this way.
//!
//! A network may reach this form through arithmetic that `f32` cannot hold (a normalisation folded into weights). The layers
//! then say how far their numbers are from the network's real ones (`rel`, `bias_abs`), so that a proof about the layers can
//! be made a proof about the network. Where nothing is folded, the numbers are the file's and the distances are 0.

mod eval;
mod linear;
mod lower;
mod maxpool;
mod moves;
mod products;
mod sparse;
mod store;
mod term;
#[cfg(test)]
mod tests;
mod weights;
mod windows;

use ndarray::{Array2, Array4};

/// The shape of a layer's values, `[channels, height, width]` in row-major order, which is ONNX's for one sample; values
/// without a spatial shape have height and width 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of channels.
    pub channels: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl Extent {
    /// A vector.
    pub fn flat(len: usize) -> Self {
        Self { channels: len, height: 1, width: 1 }
    }

    /// The shape of a value: `[1, C, H, W]` and `[1, C, L]` (which gets one row) are spatial, all others vectors.
    pub(crate) fn of(shape: &[usize]) -> Self {
        match *shape {
            [1, channels, height, width] => Self { channels, height, width },
            [1, channels, width] => Self { channels, height: 1, width },
            _ => Self::flat(shape.iter().product()),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where an edge starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The network's input.
    Input,
    /// The values y of an earlier layer.
    Layer(usize),
}

/// A linear map from a source's values to a layer's, both in the order of their [`Extent`]s.
#[derive(Debug, Clone)]
pub enum Map {
    /// `[out, in]`, row-major.
    Dense(Array2<f32>),
    /// A convolution.
    Conv(Convolution),
    /// Any other map with few terms.
    Sparse(Sparse),
    /// `z_j += d_j y_j`: a residual connection (all 1), a difference (-1), a normalisation.
    Diagonal(Vec<f32>),
}

/// A convolution without groups: `z[m, y, x] = sum over c, i, j of weight[m, c, i, j] source[c, y s_y + i d_y - p_y, x s_x + j d_x - p_x]`,
/// zero outside the source.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// `[out channels, in channels, kernel height, kernel width]`, row-major.
    pub weight: Array4<f32>,
    /// s: source rows and columns from one output to the next.
    pub stride: [usize; 2],
    /// p: zeros above the source's first row and left of its first column.
    pub pad: [usize; 2],
    /// d: source rows and columns from one tap to the next.
    pub dilation: [usize; 2],
}

/// Rows of (column, weight) pairs, compressed (CSR).
#[derive(Debug, Clone, Default)]
pub struct Sparse {
    /// Row j has the terms `starts[j]..starts[j + 1]`; one more entry than rows.
    pub starts: Vec<usize>,
    /// The source's value that a term reads; ascending and without repetition within a row.
    pub columns: Vec<u32>,
    /// What it is multiplied by.
    pub weights: Vec<f32>,
}

/// One linear contribution to a layer.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Whose values it reads.
    pub source: Source,
    /// What it does to them.
    pub map: Map,
    /// `|w_real - w| <= rel |w|` for every weight of the map.
    pub rel: f32,
}

/// The elementwise function of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// y = z.
    None,
    /// `max(z, 0)`.
    Relu,
    /// `1 / (1 + exp(-z))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

/// `y = activation(bias + sum of edges)`.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The name of the node in the source file that it ends with, for messages.
    pub name: String,
    /// The shape of z and y.
    pub extent: Extent,
    /// Its inputs; at least one, and several may read the same source (`x + conv(x)`).
    pub edges: Vec<Edge>,
    /// b, one number a value.
    pub bias: Vec<f32>,
    /// `|b_real - b| <= bias_abs`, one number a value, none of them subnormal.
    pub bias_abs: Vec<f32>,
    /// The elementwise function behind it.
    pub activation: Activation,
}

/// A network as layers, each behind the layers that it reads.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The shape of the input.
    pub input: Extent,
    /// The layers; the last one's y is the network's output, in its order.
    pub layers: Vec<Layer>,
}

impl Layers {
    /// Number of inputs.
    pub fn input_len(&self) -> usize {
        self.input.len()
    }

    /// Number of outputs.
    pub fn output_len(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.extent.len())
    }

    /// The shape of a source's values.
    pub fn extent(&self, source: Source) -> Extent {
        match source {
            Source::Input => self.input,
            Source::Layer(index) => self.layers[index].extent,
        }
    }
}
