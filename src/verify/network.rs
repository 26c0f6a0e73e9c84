//! A network on the device: every map of every layer in both directions, and how its walks run.
//!
//! On the device, values of a spatial layer stand channels last, `(y * width + x) * channels + channel`, so that the channels of a
//! place are neighbours; [`Order`] translates from and to ONNX's order. A matrix of values of many boxes, candidates or rows
//! ("columns") is stored value by value: element (value, column) at `value * pitch + column`.

use super::logistic;
use super::walk::Walks;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Gpu;
use crate::graph::{Activation, Convolution, Edge, Extent, Layer, Layers, Map, Source, Sparse};
use crate::tensor::Tensor;

/// The order of an extent's values on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order(pub Extent);

impl Order {
    /// Where value `onnx` of the file's order stands on the device.
    pub fn place(self, onnx: usize) -> usize {
        let Extent { channels, height, width } = self.0;
        let (channel, at) = (onnx / (height * width), onnx % (height * width));
        at * channels + channel
    }

    /// Values of many vectors, `[vectors, len]`, in the device's order.
    pub fn to_device<T: Copy>(self, values: &[T]) -> Vec<T> {
        let mut out = values.to_vec();
        let n = self.0.len().max(1);
        if self.0.height * self.0.width > 1 && self.0.channels > 1 {
            for (to, from) in out.chunks_mut(n).zip(values.chunks(n)) {
                from.iter().enumerate().for_each(|(i, &value)| to[self.place(i)] = value);
            }
        }
        out
    }

    /// The inverse of [`Order::to_device`].
    pub fn to_onnx<T: Copy>(self, values: &[T]) -> Vec<T> {
        let mut out = values.to_vec();
        let n = self.0.len().max(1);
        if self.0.height * self.0.width > 1 && self.0.channels > 1 {
            for (to, from) in out.chunks_mut(n).zip(values.chunks(n)) {
                to.iter_mut().enumerate().for_each(|(i, value)| *value = from[self.place(i)]);
            }
        }
        out
    }
}

/// A linear map on the device.
#[derive(Debug)]
pub(super) enum DeviceMap {
    Dense {
        /// `[out, in]`: rows of a walk go through it.
        backward: Tensor,
        /// `[in, out]`.
        forward: Tensor,
    },
    Conv {
        /// `[taps, out channels, in channels]`.
        backward: Tensor,
        /// `[taps, in channels, out channels]`.
        forward: Tensor,
        shape: ConvShape,
    },
    Sparse {
        backward: DeviceSparse,
        forward: DeviceSparse,
    },
    Diagonal(Tensor),
}

/// The geometry of a convolution, each for rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConvShape {
    pub taps: [usize; 2],
    pub stride: [usize; 2],
    pub pad: [usize; 2],
    pub dilation: [usize; 2],
}

/// A sparse matrix by rows.
#[derive(Debug)]
pub(super) struct DeviceSparse {
    /// `[rows + 1]`.
    pub starts: Tensor<u32>,
    /// `[2 terms]`: column and bits of the weight.
    pub terms: Tensor<u32>,
    pub rows: usize,
}

/// Terms of one dispatch of a long sum, about: no compiler can reassociate across what is stored, so a term meets the roundings
/// of its own piece and one a piece behind it, not those of the whole sum. A constant, so that results never depend on the
/// batch, the budget or the device.
const CHUNK: usize = 128;

/// One map into a layer.
#[derive(Debug)]
pub(super) struct DeviceEdge {
    pub source: Source,
    pub map: DeviceMap,
    /// Terms of the longest sum, forward and backward.
    pub terms: [usize; 2],
}

impl DeviceEdge {
    /// How many dispatches one product takes, of [`DeviceEdge::piece`] channels (terms of a dense map) each; sparse sums are not cut.
    pub fn dispatches(&self, direction: usize) -> usize {
        self.channels(direction).div_ceil(self.piece(direction))
    }

    /// Terms of one dispatch, at most.
    pub fn chunk(&self, direction: usize) -> usize {
        self.piece(direction) * (self.terms[direction] / self.channels(direction))
    }

    /// Channels (terms of a dense map) of one dispatch: about [`CHUNK`] terms in all, since each reads and writes the whole result.
    pub fn piece(&self, direction: usize) -> usize {
        let channels = self.channels(direction);
        if !matches!(self.map, DeviceMap::Dense { .. } | DeviceMap::Conv { .. }) {
            return channels;
        }
        let pieces = ((self.terms[direction] + CHUNK / 2) / CHUNK).clamp(1, channels);
        channels.div_ceil(pieces)
    }

    /// What a sum is cut along: channels, of which every tap is taken, or terms.
    pub fn channels(&self, direction: usize) -> usize {
        match &self.map {
            DeviceMap::Conv { shape, .. } => self.terms[direction] / (shape.taps[0] * shape.taps[1]),
            _ => self.terms[direction],
        }
    }
}

/// Directions of an edge.
pub(super) const FORWARD: usize = 0;
pub(super) const BACKWARD: usize = 1;

/// One layer `y = f(b + sum of maps)`.
#[derive(Debug)]
pub(super) struct DeviceLayer {
    pub extent: Extent,
    pub edges: Vec<DeviceEdge>,
    /// `b`, `[n]`.
    pub bias: Tensor,
    /// `(b_j, bound on its error)`, `[2 n]`.
    pub bias_pair: Tensor,
    /// Bound on the relative error of every weight.
    pub weight_rel: f32,
    pub activation: Activation,
    /// Roundings that a term of z meets on the way in.
    pub depth_in: usize,
    /// Terms of a dispatch on the way back, at most.
    pub terms_back: usize,
    /// Dispatches that write to the sums they go to, at most.
    pub writes_back: usize,
    /// Other dispatches that add to what the rows of this layer's neurons start with.
    pub start_writes: usize,
}

impl DeviceLayer {
    pub fn len(&self) -> usize {
        self.extent.len()
    }

    /// Multiplications of one evaluation.
    pub fn work(&self) -> usize {
        self.len() * self.edges.iter().map(|edge| edge.terms[FORWARD]).sum::<usize>()
    }

    /// Whether rows keep the active neurons only: a dense ReLU layer, in which many are fixed at 0.
    pub fn is_compact(&self) -> bool {
        let dense = |edge: &DeviceEdge| matches!(edge.map, DeviceMap::Dense { .. });
        self.activation == Activation::Relu
            && self.extent.height * self.extent.width == 1
            && self.edges.len() == 1
            && self.edges.iter().all(dense)
    }

    pub fn is_smooth(&self) -> bool {
        matches!(self.activation, Activation::Sigmoid | Activation::Tanh)
    }

    /// Whether rows can tighten what intervals say: not for a layer with one edge, from the input (intervals are exact).
    pub fn is_refinable(&self) -> bool {
        let above_input = self.edges.len() > 1 || self.edges.iter().any(|edge| edge.source != Source::Input);
        self.activation != Activation::None && above_input
    }
}

/// The number by which kernels know an activation.
pub(super) fn code(activation: Activation) -> u32 {
    match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::Sigmoid => 2,
        Activation::Tanh => 3,
    }
}

/// A network on the device.
#[derive(Debug)]
pub(super) struct DeviceNet {
    pub input: Extent,
    pub layers: Vec<DeviceLayer>,
    /// Bounds of the logistic function; one word where no layer needs them.
    pub logistic: Tensor,
    pub walks: Walks,
    /// Roundings that a term of a row's constant meets at the input, then at each layer.
    pub constant_depth: Vec<usize>,
    /// Products in the sums of one layer, at most, and the largest magnitude of a weight, for what flushing may cost.
    pub terms: f64,
    pub largest: f64,
}

impl DeviceNet {
    pub async fn new(gpu: &Gpu, net: &Layers) -> Result<Self> {
        let mut layers = Vec::with_capacity(net.layers.len());
        let (mut terms, mut largest) = (1.0_f64, 0.0_f64);
        for (index, layer) in net.layers.iter().enumerate() {
            check_magnitudes(index, layer)?;
            check_geometry(index, layer)?;
            let mut edges = Vec::new();
            for edge in &layer.edges {
                largest = weights(&edge.map).fold(largest, |m, w| m.max(f64::from(w.abs())));
                edges.push(DeviceEdge::new(gpu, edge, net.extent(edge.source), layer.extent).await?);
            }
            let sums: usize = edges.iter().map(|e| e.terms[FORWARD].max(e.terms[BACKWARD])).sum();
            terms = terms.max(layer.extent.len() as f64 * sums as f64);
            layers.push(DeviceLayer::new(gpu, layer, edges).await?);
        }
        count_writes(&mut layers);
        for (index, layer) in layers.iter().enumerate() {
            check_depth(index, layer)?;
        }
        let smooth = layers.iter().any(DeviceLayer::is_smooth);
        let table = if smooth { logistic::table() } else { vec![0.0] };
        let logistic = Tensor::from_slice_async(gpu, &[table.len()], &table).await?;
        let walks = Walks::new(gpu, net.input, &layers).await?;
        let constant_depth = walks.constant_depths(layers.len());
        Ok(Self { input: net.input, layers, logistic, walks, constant_depth, terms, largest })
    }

    pub fn n_in(&self) -> usize {
        self.input.len()
    }

    pub fn n_out(&self) -> usize {
        self.layers.last().map_or(0, DeviceLayer::len)
    }

    pub fn extent(&self, source: Source) -> Extent {
        match source {
            Source::Input => self.input,
            Source::Layer(index) => self.layers[index].extent,
        }
    }

    /// Multiplications of one evaluation of the network.
    pub fn work(&self) -> usize {
        self.layers.iter().map(DeviceLayer::work).sum()
    }

    /// Values of the widest layer, the input included.
    pub fn widest(&self) -> usize {
        self.layers.iter().map(DeviceLayer::len).max().unwrap_or(1).max(self.n_in())
    }
}

/// Fills in `writes_back` and `start_writes`: whatever a walk does, no more is added to the coefficients on a source than the
/// products of all edges that read it.
fn count_writes(layers: &mut [DeviceLayer]) {
    let writes = |source: Source, layers: &[DeviceLayer]| -> (usize, usize) {
        let edges = layers.iter().flat_map(|layer| &layer.edges).filter(|edge| edge.source == source);
        edges.fold((0, 0), |(edges, all), edge| (edges + 1, all + edge.dispatches(BACKWARD)))
    };
    for index in 0..layers.len() {
        let sources: Vec<_> = layers[index].edges.iter().map(|edge| writes(edge.source, layers)).collect();
        layers[index].writes_back = sources.iter().map(|&(_, all)| all).max().unwrap_or(1);
        let shared = sources.iter().filter(|&&(edges, _)| edges > 1).map(|&(_, all)| all);
        layers[index].start_writes = shared.max().unwrap_or(0);
    }
}

impl DeviceLayer {
    async fn new(gpu: &Gpu, layer: &Layer, edges: Vec<DeviceEdge>) -> Result<Self> {
        let order = Order(layer.extent);
        let bias = order.to_device(&layer.bias);
        let errors = order.to_device(&layer.bias_abs);
        let pairs: Vec<f32> = bias.iter().zip(&errors).flat_map(|(&b, &e)| [b, e]).collect();
        let n = layer.extent.len();
        let depth = edges.iter().map(|e| e.chunk(FORWARD)).max().unwrap_or(0);
        Ok(Self {
            extent: layer.extent,
            bias: Tensor::from_slice_async(gpu, &[n], &bias).await?,
            bias_pair: Tensor::from_slice_async(gpu, &[2 * n], &pairs).await?,
            weight_rel: layer.edges.iter().fold(0.0, |rel, edge| edge.rel.max(rel)),
            activation: layer.activation,
            depth_in: depth + edges.iter().map(|e| e.dispatches(FORWARD)).sum::<usize>(),
            terms_back: edges.iter().map(|e| e.chunk(BACKWARD)).max().unwrap_or(1),
            writes_back: 1,
            start_writes: 0,
            edges,
        })
    }
}

impl DeviceEdge {
    async fn new(gpu: &Gpu, edge: &Edge, source: Extent, target: Extent) -> Result<Self> {
        let (from, to) = (Order(source), Order(target));
        let (map, terms) = match &edge.map {
            Map::Dense(weight) => {
                let (rows, columns) = weight.dim();
                let mut backward = vec![0.0; rows * columns];
                let mut forward = backward.clone();
                for ((i, j), &w) in weight.indexed_iter() {
                    let (i, j) = (to.place(i), from.place(j));
                    backward[i * columns + j] = w;
                    forward[j * rows + i] = w;
                }
                let backward = Tensor::from_slice_async(gpu, &[rows, columns], &backward).await?;
                let forward = Tensor::from_slice_async(gpu, &[columns, rows], &forward).await?;
                (DeviceMap::Dense { backward, forward }, [columns, rows])
            }
            Map::Conv(conv) => conv_map(gpu, conv).await?,
            Map::Sparse(sparse) => {
                let mut all: Vec<(u32, u32, f32)> = Vec::with_capacity(sparse.columns.len());
                for row in 0..target.len() {
                    for t in sparse.starts[row]..sparse.starts[row + 1] {
                        let column = from.place(sparse.columns[t] as usize) as u32;
                        all.push((to.place(row) as u32, column, sparse.weights[t]));
                    }
                }
                sparse_map(gpu, [source, target], all).await?
            }
            // A vector and an image hold the same values in two orders.
            Map::Diagonal(weights) if from != to => {
                let term = |(j, &w): (usize, &f32)| (to.place(j) as u32, from.place(j) as u32, w);
                sparse_map(gpu, [source, target], weights.iter().enumerate().map(term).collect()).await?
            }
            Map::Diagonal(weights) => {
                let weights = to.to_device(weights);
                (DeviceMap::Diagonal(Tensor::from_slice_async(gpu, &[weights.len()], &weights).await?), [1, 1])
            }
        };
        Ok(Self { source: edge.source, map, terms })
    }
}

/// A map of (row, column, weight) in the device's order.
async fn sparse_map(
    gpu: &Gpu,
    [source, target]: [Extent; 2],
    mut all: Vec<(u32, u32, f32)>,
) -> Result<(DeviceMap, [usize; 2])> {
    let (forward, longest) = DeviceSparse::new(gpu, target.len(), &mut all).await?;
    all.iter_mut().for_each(|term| (term.0, term.1) = (term.1, term.0));
    let (backward, longest_back) = DeviceSparse::new(gpu, source.len(), &mut all).await?;
    Ok((DeviceMap::Sparse { backward, forward }, [longest, longest_back]))
}

async fn conv_map(gpu: &Gpu, conv: &Convolution) -> Result<(DeviceMap, [usize; 2])> {
    let (out, input, height, width) = conv.weight.dim();
    let taps = height * width;
    let mut backward = vec![0.0; taps * out * input];
    let mut forward = backward.clone();
    for ((o, i, y, x), &w) in conv.weight.indexed_iter() {
        let tap = y * width + x;
        backward[(tap * out + o) * input + i] = w;
        forward[(tap * input + i) * out + o] = w;
    }
    let backward = Tensor::from_slice_async(gpu, &[taps * out, input], &backward).await?;
    let forward = Tensor::from_slice_async(gpu, &[taps * input, out], &forward).await?;
    let shape = ConvShape { taps: [height, width], stride: conv.stride, pad: conv.pad, dilation: conv.dilation };
    Ok((DeviceMap::Conv { backward, forward, shape }, [taps * input, taps * out]))
}

impl DeviceSparse {
    /// From (row, column, weight) in any order; also the length of the longest row.
    async fn new(gpu: &Gpu, rows: usize, all: &mut [(u32, u32, f32)]) -> Result<(Self, usize)> {
        all.sort_unstable_by_key(|&(row, column, _)| (row, column));
        let mut starts = vec![0_u32; rows + 1];
        all.iter().for_each(|&(row, _, _)| starts[row as usize + 1] += 1);
        let longest = starts.iter().copied().max().unwrap_or(0) as usize;
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        // A map without terms still needs memory to bind.
        let mut terms: Vec<u32> = all.iter().flat_map(|&(_, column, weight)| [column, weight.to_bits()]).collect();
        terms.resize(terms.len().max(2), 0);
        let starts = Tensor::from_slice_async(gpu, &[rows + 1], &starts).await?;
        let terms = Tensor::from_slice_async(gpu, &[terms.len()], &terms).await?;
        Ok((Self { starts, terms, rows }, longest.max(1)))
    }
}

fn weights(map: &Map) -> Box<dyn Iterator<Item = f32> + '_> {
    match map {
        Map::Dense(weight) => Box::new(weight.iter().copied()),
        Map::Conv(conv) => Box::new(conv.weight.iter().copied()),
        Map::Sparse(Sparse { weights, .. }) | Map::Diagonal(weights) => Box::new(weights.iter().copied()),
    }
}

/// Refuses layers with large numbers. Kernels refuse coefficients from 2^40 on; weights stay far below, so that one product cannot overflow either.
fn check_magnitudes(index: usize, layer: &Layer) -> Result<()> {
    const MOST: f32 = 1_048_576.0;
    let mut all = layer.edges.iter().flat_map(|edge| weights(&edge.map)).chain(layer.bias.iter().copied());
    if let Some(value) = all.find(|v| v.is_nan() || v.abs() >= MOST) {
        let name = &layer.name;
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("layer {index} ('{name}') has a weight or bias of {value}"),
        )
        .with_help("weights and biases must be below 2^20 in magnitude; rescale the network"));
    }
    Ok(())
}

/// Kernels reckon places in 32-bit integers, with room for a factor of 2^16: strides, paddings and reaches of a convolution stay below 2^15.
fn check_geometry(index: usize, layer: &Layer) -> Result<()> {
    const MOST: usize = 1 << 15;
    for edge in &layer.edges {
        let Map::Conv(conv) = &edge.map else { continue };
        let (_, _, height, width) = conv.weight.dim();
        let reach = |taps: usize, axis: usize| taps.saturating_mul(conv.dilation[axis]);
        let (rows, columns) = (layer.extent.height, layer.extent.width);
        let ends = [rows.saturating_mul(conv.stride[0]), columns.saturating_mul(conv.stride[1])];
        let sizes = [conv.stride, conv.pad, [reach(height, 0), reach(width, 1)]].concat();
        let name = &layer.name;
        if let Some(size) = sizes.iter().find(|&&size| size >= MOST) {
            let what = format!("layer {index} ('{name}') is a convolution with a stride, padding or reach of {size}");
            return Err(Error::new(ErrorKind::Unsupported, what).with_help("these must be below 32,768"));
        }
        if rows.saturating_mul(columns) > 65_535 || ends.iter().any(|&end| end >= 1 << 30) {
            let what = format!("layer {index} ('{name}') is a convolution over {rows} x {columns} places");
            return Err(
                Error::new(ErrorKind::TooBig, what).with_help("images of at most 65,535 pixels can be verified")
            );
        }
    }
    Ok(())
}

/// The cost of a sum is linear in its depth D as long as D u stays far below 1 (relax_neurons.wgsl).
fn check_depth(index: usize, layer: &DeviceLayer) -> Result<()> {
    let deepest = layer.depth_in.max(layer.terms_back + layer.writes_back);
    if deepest >= 1 << 15 {
        let what = format!("a sum into or out of layer {index} has {deepest} terms that cannot be cut");
        return Err(
            Error::new(ErrorKind::Unsupported, what).with_help("sums of sparse maps must have fewer than 32,768 terms")
        );
    }
    Ok(())
}

/// Rows of a walk are padded to a multiple of this for every box, and all columns to a multiple of it: what one invocation relaxes.
pub(super) const TILE: usize = 16;

/// Columns of a matrix that holds this many.
pub(super) fn column_pitch(columns: usize) -> usize {
    columns.next_multiple_of(TILE)
}
