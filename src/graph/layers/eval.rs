//! Evaluation of layers on the CPU in `f64`, as their numbers are written.

use super::{Activation, Convolution, Extent, Layers, Map, Source};
use crate::graph::reference::Scalar;

impl Layers {
    /// Evaluates one sample in `f64`, declared errors aside; `input` and the result are flat. Written for plainness: it
    /// is what tests compare with.
    ///
    /// # Panics
    /// If `input` is not as long as the network's input, or the layers do not fit each other.
    pub fn eval_f64(&self, input: &[f64]) -> Vec<f64> {
        assert_eq!(input.len(), self.input_len(), "length of the input");
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let mut z: Vec<f64> = layer.bias.iter().map(|&b| f64::from(b)).collect();
            for edge in &layer.edges {
                let y = match edge.source {
                    Source::Input => input,
                    Source::Layer(index) => &values[index],
                };
                edge.map.add_to(&mut z, layer.extent, y, self.extent(edge.source));
            }
            values.push(z.into_iter().map(|z| layer.activation.apply(z)).collect());
        }
        values.pop().unwrap_or_default()
    }
}

impl Activation {
    /// The function's value.
    pub(crate) fn apply(self, z: f64) -> f64 {
        match self {
            Self::None => z,
            Self::Relu => Scalar::relu(z),
            Self::Sigmoid => Scalar::sigmoid(z),
            Self::Tanh => z.tanh(),
        }
    }
}

impl Map {
    /// `z += M y`, for a source of the extent `from` and a layer of the extent `to`.
    fn add_to(&self, z: &mut [f64], to: Extent, y: &[f64], from: Extent) {
        self.for_each_weight(from, to, |row, column, weight| z[row] += f64::from(weight) * y[column]);
    }

    /// Calls `visit(row, column, weight)` for every weight of the map's matrix that may differ from 0, rows ascending.
    pub(crate) fn for_each_weight(&self, from: Extent, to: Extent, mut visit: impl FnMut(usize, usize, f32)) {
        match self {
            Self::Dense(matrix) => {
                matrix.indexed_iter().for_each(|((row, column), &weight)| visit(row, column, weight));
            }
            Self::Conv(conv) => conv.for_each_weight(from, to, visit),
            Self::Sparse(sparse) => {
                for (row, ends) in sparse.starts.windows(2).enumerate() {
                    for term in ends[0]..ends[1] {
                        visit(row, sparse.columns[term] as usize, sparse.weights[term]);
                    }
                }
            }
            Self::Diagonal(factors) => {
                factors.iter().enumerate().for_each(|(at, &factor)| visit(at, at, factor));
            }
        }
    }
}

impl Convolution {
    fn for_each_weight(&self, from: Extent, to: Extent, mut visit: impl FnMut(usize, usize, f32)) {
        let (_, channels, height, width) = self.weight.dim();
        let inside = |axis: usize, at: usize, tap: usize, limit: usize| {
            let padded = at * self.stride[axis] + tap * self.dilation[axis];
            padded.checked_sub(self.pad[axis]).filter(|&at| at < limit)
        };
        for row in 0..to.len() {
            let [m, y, x] = [row / (to.height * to.width), row / to.width % to.height, row % to.width];
            for c in 0..channels {
                for i in 0..height {
                    let Some(source_y) = inside(0, y, i, from.height) else { continue };
                    for j in 0..width {
                        let Some(source_x) = inside(1, x, j, from.width) else { continue };
                        let column = (c * from.height + source_y) * from.width + source_x;
                        visit(row, column, self.weight[[m, c, i, j]]);
                    }
                }
            }
        }
    }
}
