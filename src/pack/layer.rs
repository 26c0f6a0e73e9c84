//! Networks as an accelerator sees them: a list of convolutions and products.

use super::values::Values;

/// What a layer computes: a convolution of `input` `[height, width, channels]`; a dense layer is one of a single place and
/// a filter of 1x1, a product of M rows one of M places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Shape {
    /// Height, width and channels, without padding.
    pub input: [usize; 3],
    /// Height and width of a filter.
    pub filter: [usize; 2],
    /// Output channels, over all groups.
    pub filters: usize,
    /// Down and to the right.
    pub stride: [usize; 2],
    /// Zeros above, on the left, below, on the right.
    pub padding: [usize; 4],
    /// Distance of neighbouring taps of a filter.
    pub dilation: [usize; 2],
    /// Parts of the channels that do not see each other; as many as channels in a depthwise convolution.
    pub groups: usize,
}

impl Shape {
    /// A product of `rows` rows of `inputs` values with a matrix `[outputs, inputs]`.
    pub const fn dense(rows: usize, inputs: usize, outputs: usize) -> Self {
        Self {
            input: [rows, 1, inputs],
            filter: [1, 1],
            filters: outputs,
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
        }
    }

    /// Height, width and channels of the result; 0 where the filter does not fit.
    pub fn output(&self) -> [usize; 3] {
        let along = |axis: usize| {
            let padded = self.input[axis] + self.padding[axis] + self.padding[axis + 2];
            let reach = self.dilation[axis] * self.filter[axis].saturating_sub(1) + 1;
            if padded < reach { 0 } else { (padded - reach) / self.stride[axis].max(1) + 1 }
        };
        [along(0), along(1), self.filters]
    }

    /// Values of one filter: what a sum of products runs over.
    pub fn depth(&self) -> usize {
        self.filter[0] * self.filter[1] * self.input[2] / self.groups.max(1)
    }

    /// Places of the result.
    pub fn places(&self) -> usize {
        let [height, width, _] = self.output();
        height * width
    }

    /// Products that the layer adds up, those with padding counted.
    pub fn macs(&self) -> u64 {
        self.places() as u64 * self.filters as u64 * self.depth() as u64
    }

    /// Pairs of a place of the result and a tap of the filter, along one axis, that meet a value of the map and not its padding.
    pub(super) fn taps_inside(&self, axis: usize) -> u64 {
        let (size, before) = (self.input[axis], self.padding[axis]);
        let (stride, dilation) = (self.stride[axis].max(1), self.dilation[axis].max(1));
        let results = self.output()[axis];
        let of_tap = |tap: usize| {
            // Results i with before <= i stride + tap dilation < before + size.
            let at = tap * dilation;
            let first = before.saturating_sub(at).div_ceil(stride);
            let end = (before + size).saturating_sub(at).div_ceil(stride).min(results);
            end.saturating_sub(first) as u64
        };
        (0..self.filter[axis]).map(of_tap).sum()
    }

    /// Values of all filters.
    pub fn weights(&self) -> usize {
        self.filters * self.depth()
    }
}

/// One layer, and what it reads and writes where that is known.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The name in the file.
    pub name: String,
    /// What it computes.
    pub shape: Shape,
    /// Its weights, `[filter, ky, kx, channel]`; none in a table of layers.
    pub weights: Option<Values>,
    /// The map that it reads, for each sample.
    pub inputs: Vec<Values>,
    /// The map that it writes, for each sample.
    pub outputs: Vec<Values>,
}

/// A network, with real values where a file or inputs have given them.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// Where it comes from, for titles.
    pub name: String,
    /// In the order of computing.
    pub layers: Vec<Layer>,
    /// Tensors that belong to no layer: embeddings, arrays of an NPZ file.
    pub loose: Vec<Values>,
    /// What was left out or taken in another way than one might think, a sentence each: reports show them.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_count_padding_stride_and_dilation() {
        let conv = Shape {
            input: [224, 224, 3],
            filter: [7, 7],
            filters: 64,
            stride: [2, 2],
            padding: [3, 3, 3, 3],
            dilation: [1, 1],
            groups: 1,
        };
        assert_eq!((conv.output(), conv.depth(), conv.macs()), ([112, 112, 64], 147, 118_013_952));
        assert_eq!(Shape { dilation: [2, 2], padding: [0; 4], stride: [1, 1], ..conv }.output(), [212, 212, 64]);
        assert_eq!(Shape { input: [3, 9, 3], padding: [0; 4], ..conv }.output(), [0, 2, 64]);
        let depthwise = Shape { input: [8, 8, 16], filter: [3, 3], filters: 16, groups: 16, padding: [1; 4], ..conv };
        assert_eq!((depthwise.depth(), depthwise.weights()), (9, 144));
        assert_eq!(Shape::dense(5, 256, 10).macs(), 12_800);
    }
}
