//! Residual networks with random weights, of the shapes that verifiers are compared on.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::oracle::Random;
use crate::graph::{Graph, Node, Op, Value, ValueId, Window};

/// How large weights are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// Normal with the variance of He et al. (ICCV 2015, equation 10) times the square of this.
    He(f64),
    /// Magnitudes of the weights into a neuron add up to this, those of a block's shortcut included, so that intervals widen by no
    /// more a layer. An identity shortcut takes 1 of it.
    Sum(f64),
}

/// A residual network: a convolution, stages of blocks of two convolutions with a shortcut each, dense layers behind them.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Rows and columns of the input's three channels.
    pub side: usize,
    /// Channels and stride of the first convolution.
    pub first: (usize, usize),
    /// Channels and first stride of each block; a shortcut is a 1x1 convolution where these change something, else the identity.
    pub blocks: Vec<(usize, usize)>,
    /// Mean over all places before the dense layers, as ResNets have it.
    pub pool: bool,
    /// Widths of the dense layers.
    pub dense: Vec<usize>,
    pub scale: Scale,
}

impl Shape {
    /// resnet_2b of VNN-COMP 2021: 6,244 ReLUs.
    pub fn resnet_2b() -> Self {
        let blocks = vec![(16, 2), (16, 1)];
        Self { side: 32, first: (8, 2), blocks, pool: false, dense: vec![100, 10], scale: Scale::He(1.0) }
    }

    /// resnet_4b of VNN-COMP 2021: 14,436 ReLUs.
    pub fn resnet_4b() -> Self {
        let blocks = vec![(32, 2), (32, 1), (32, 2), (32, 1)];
        Self { first: (16, 2), blocks, ..Self::resnet_2b() }
    }

    /// A network of that kind that even a test has time for.
    pub fn small() -> Self {
        Self { side: 8, first: (4, 1), blocks: vec![(8, 2), (8, 1)], dense: vec![20, 5], ..Self::resnet_2b() }
    }

    /// ResNet-34 (He et al., CVPR 2016) with the first convolution that CIFAR-10 gets, batch normalisation folded: 966,656 ReLUs.
    /// With weights of ordinary size, intervals would overflow on the way through 33 layers.
    pub fn resnet_34() -> Self {
        let stages = [(64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3)];
        let stage = |(channels, stride, count): (usize, usize, usize)| {
            (0..count).map(move |block| (channels, if block == 0 { stride } else { 1 }))
        };
        let blocks = stages.into_iter().flat_map(stage).collect();
        Self { side: 32, first: (64, 1), blocks, pool: true, dense: vec![10], scale: Scale::Sum(1.1) }
    }

    /// The network with weights drawn by a seed. The first bias takes away what a grey image gives, so that z is small there.
    pub fn network(&self, seed: u64) -> Graph {
        let mut sketch = Sketch::new(&[1, 3, self.side, self.side], Random::new(seed));
        let whole = Part { scale: self.scale, share: 1.0, inputs: 1 };
        let mut x = sketch.conv(sketch.graph.input, (self.first.0, 3, self.first.1), whole, true);
        x = sketch.relu(x);
        for &(channels, stride) in &self.blocks {
            x = self.block(&mut sketch, x, (channels, stride));
        }
        if self.pool {
            x = sketch.mean(x);
        }
        x = sketch.flatten(x);
        for (index, &width) in self.dense.iter().enumerate() {
            x = sketch.dense(x, width, whole);
            if index + 1 < self.dense.len() {
                x = sketch.relu(x);
            }
        }
        Graph { output: x, ..sketch.graph }
    }

    /// relu(conv(relu(conv(x))) + shortcut(x)).
    fn block(&self, sketch: &mut Sketch, x: ValueId, (channels, stride): (usize, usize)) -> ValueId {
        let identity = stride == 1 && sketch.shape(x)[1] == channels;
        let whole = Part { scale: self.scale, share: 1.0, inputs: 1 };
        let half = match self.scale {
            Scale::Sum(sum) if identity => Part { share: (sum - 1.0) / sum, ..whole },
            _ => Part { share: 0.5, inputs: 2, ..whole },
        };
        let first = sketch.conv(x, (channels, 3, stride), whole, false);
        let first = sketch.relu(first);
        let second = sketch.conv(first, (channels, 3, 1), half, false);
        let shortcut = if identity { x } else { sketch.conv(x, (channels, 1, stride), half, false) };
        let shape = sketch.shape(second).to_vec();
        let sum = sketch.node(Op::Add, vec![second, shortcut], &shape);
        sketch.relu(sum)
    }
}

/// The weights of one of the maps that meet in a layer.
#[derive(Debug, Clone, Copy)]
struct Part {
    scale: Scale,
    /// Of the layer's sum of magnitudes.
    share: f64,
    /// Maps with weights that meet in the layer: each has its part of the variance.
    inputs: usize,
}

impl Part {
    /// `rows` rows of `terms` weights.
    fn weights(self, random: &mut Random, rows: usize, terms: usize) -> Vec<f32> {
        let mut all = Vec::with_capacity(rows * terms);
        for _ in 0..rows {
            let row: Vec<f64> = (0..terms).map(|_| random.normal()).collect();
            let factor = match self.scale {
                Scale::He(gain) => gain * (2.0 / (terms * self.inputs) as f64).sqrt(),
                // A little less, for the rounding to f32.
                Scale::Sum(sum) => sum * self.share * (1.0 - 1e-6) / row.iter().map(|w| w.abs()).sum::<f64>().max(1e-9),
            };
            all.extend(row.iter().map(|w| (w * factor) as f32));
        }
        all
    }

    /// Size of a bias, relative to what inputs of size 1 give.
    fn bias(self) -> f64 {
        if matches!(self.scale, Scale::He(_)) { 0.05 } else { 0.005 }
    }
}

/// A graph on its way.
struct Sketch {
    graph: Graph,
    random: Random,
}

impl Sketch {
    fn new(input: &[usize], random: Random) -> Self {
        let values = vec![Value { name: "x".into(), shape: input.to_vec(), constant: None }];
        let graph = Graph { name: "residual".into(), values, nodes: vec![], input: ValueId(0), output: ValueId(0) };
        Self { graph, random }
    }

    fn shape(&self, value: ValueId) -> &[usize] {
        &self.graph.values[value.0].shape
    }

    fn push(&mut self, name: String, shape: &[usize], constant: Option<Vec<f32>>) -> ValueId {
        let constant = constant.map(|data| Arc::new(ArrayD::from_shape_vec(IxDyn(shape), data).unwrap_or_default()));
        self.graph.values.push(Value { name, shape: shape.to_vec(), constant });
        ValueId(self.graph.values.len() - 1)
    }

    fn constant(&mut self, shape: &[usize], data: Vec<f32>) -> ValueId {
        let name = format!("c{}", self.graph.values.len());
        self.push(name, shape, Some(data))
    }

    fn node(&mut self, op: Op, inputs: Vec<ValueId>, shape: &[usize]) -> ValueId {
        let name = format!("{}_{}", op.name(), self.graph.nodes.len());
        let output = self.push(name.clone(), shape, None);
        self.graph.nodes.push(Node { name, op, inputs, output });
        output
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape(x).to_vec();
        self.node(Op::Relu, vec![x], &shape)
    }

    /// A square convolution that keeps the size but for its stride. `grey`: the bias takes away what an input of 0.5 gives.
    fn conv(
        &mut self,
        x: ValueId,
        (channels, kernel, stride): (usize, usize, usize),
        part: Part,
        grey: bool,
    ) -> ValueId {
        let (inputs, side) = (self.shape(x)[1], self.shape(x)[2]);
        let terms = inputs * kernel * kernel;
        let weights = part.weights(&mut self.random, channels, terms);
        let middle = |row: &[f32]| if grey { 0.5 * row.iter().map(|&w| f64::from(w)).sum::<f64>() } else { 0.0 };
        let bias: Vec<f32> =
            weights.chunks(terms).map(|row| (part.bias() * self.random.normal() - middle(row)) as f32).collect();
        let weight = self.constant(&[channels, inputs, kernel, kernel], weights);
        let bias = self.constant(&[channels], bias);
        let window =
            Window { strides: [stride; 2], begin: [kernel / 2; 2], end: [kernel / 2; 2], dilations: [1; 2], groups: 1 };
        let out = side.div_ceil(stride);
        self.node(Op::Conv(window), vec![x, weight, bias], &[1, channels, out, out])
    }

    /// The mean over all places.
    fn mean(&mut self, x: ValueId) -> ValueId {
        let (channels, side) = (self.shape(x)[1], self.shape(x)[2]);
        let window = Window { strides: [side; 2], begin: [0; 2], end: [0; 2], dilations: [1; 2], groups: 1 };
        let op = Op::AveragePool { kernel: [side; 2], window, count_include_pad: false };
        self.node(op, vec![x], &[1, channels, 1, 1])
    }

    fn flatten(&mut self, x: ValueId) -> ValueId {
        let width = self.shape(x).iter().product();
        self.node(Op::Reshape, vec![x], &[1, width])
    }

    fn dense(&mut self, x: ValueId, width: usize, part: Part) -> ValueId {
        let terms = self.shape(x)[1];
        let weights = part.weights(&mut self.random, width, terms);
        let bias = (0..width).map(|_| (part.bias() * self.random.normal()) as f32).collect();
        let weight = self.constant(&[width, terms], weights);
        let bias = self.constant(&[width], bias);
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        self.node(gemm, vec![x, weight, bias], &[1, width])
    }
}
