//! Random networks over small images: convolutions of all geometries, residual sums of paths with different strides, pools,
//! dense layers between images, and smooth activations.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use wavehull::graph::{Graph, Node, Op, Value, ValueId, Window};

use crate::common::Random;

/// Puts graphs together; values and nodes are named `v0`, `n1` and so on.
pub struct Sketch {
    pub graph: Graph,
}

/// What a random network may have in it.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    pub smooth: bool,
    pub pools: bool,
    pub dense: bool,
}

impl Sketch {
    pub fn new(input: &[usize]) -> Self {
        let value = Value { name: "x".into(), shape: input.to_vec(), constant: None };
        let graph =
            Graph { name: "sketch".into(), values: vec![value], nodes: vec![], input: ValueId(0), output: ValueId(0) };
        Self { graph }
    }

    pub fn shape(&self, id: ValueId) -> Vec<usize> {
        self.graph.value(id).shape.clone()
    }

    fn push(&mut self, shape: &[usize], data: Option<Vec<f32>>) -> ValueId {
        let constant = data.map(|data| Arc::new(ArrayD::from_shape_vec(IxDyn(shape), data).unwrap()));
        let name = format!("v{}", self.graph.values.len());
        self.graph.values.push(Value { name, shape: shape.to_vec(), constant });
        ValueId(self.graph.values.len() - 1)
    }

    /// Numbers of about `scale`.
    pub fn constant(&mut self, random: &mut Random, shape: &[usize], scale: f32) -> ValueId {
        let data = random.floats(shape.iter().product()).iter().map(|v| v * scale).collect();
        self.push(shape, Some(data))
    }

    /// Adds a node; its result becomes the graph's output.
    pub fn node(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let output = self.push(shape, None);
        let name = format!("n{}", self.graph.nodes.len());
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        self.graph.output = output;
        output
    }

    pub fn conv(
        &mut self,
        random: &mut Random,
        x: ValueId,
        channels: usize,
        kernel: [usize; 2],
        window: Window,
    ) -> ValueId {
        let shape = self.shape(x);
        let taps = kernel[0] * kernel[1] * shape[1];
        let w = self.constant(random, &[channels, shape[1], kernel[0], kernel[1]], 1.8 / (taps as f32).sqrt());
        let b = self.constant(random, &[channels], 0.4);
        let [h, w_out] = [0, 1].map(|axis| outputs(shape[2 + axis], kernel[axis], &window, axis));
        self.node(Op::Conv(window), &[x, w, b], &[1, channels, h, w_out])
    }

    pub fn activation(&mut self, op: Op, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        self.node(op, &[x], &shape)
    }

    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let shape = self.shape(a);
        self.node(Op::Add, &[a, b], &shape)
    }

    /// A dense layer from all values to `n`, as `[1, n]`.
    pub fn dense(&mut self, random: &mut Random, x: ValueId, n: usize) -> ValueId {
        let len: usize = self.shape(x).iter().product();
        let flat = self.node(Op::Reshape, &[x], &[1, len]);
        let w = self.constant(random, &[n, len], 1.8 / (len as f32).sqrt());
        let b = self.constant(random, &[n], 0.4);
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        self.node(gemm, &[flat, w, b], &[1, n])
    }
}

/// Places of a window along an axis.
fn outputs(length: usize, kernel: usize, window: &Window, axis: usize) -> usize {
    let reach = (kernel - 1) * window.dilations[axis] + 1;
    (length + window.begin[axis] + window.end[axis] - reach) / window.strides[axis] + 1
}

/// A window of any geometry that fits; with `to`, one with so many places, if a few tries find any.
fn window(random: &mut Random, size: [usize; 2], to: Option<[usize; 2]>) -> Option<([usize; 2], Window)> {
    'tries: for _ in 0..30 {
        let mut kernel = [1; 2];
        let mut window = Window { strides: [1; 2], begin: [0; 2], end: [0; 2], dilations: [1; 2], groups: 1 };
        for axis in 0..2 {
            kernel[axis] = [1, 2, 3, 3, 4, 5][random.below(6)];
            window.strides[axis] = 1 + random.below(3);
            window.dilations[axis] = 1 + random.below(2);
            let reach = (kernel[axis] - 1) * window.dilations[axis] + 1;
            window.begin[axis] = random.below(reach.min(4));
            window.end[axis] = random.below(reach.min(4));
            if let Some(to) = to {
                let covered = (to[axis] - 1) * window.strides[axis] + reach;
                let Some(end) = covered.checked_sub(size[axis] + window.begin[axis]) else { continue 'tries };
                window.end[axis] = end;
            }
            if size[axis] + window.begin[axis] + window.end[axis] < reach {
                continue 'tries;
            }
        }
        return Some((kernel, window));
    }
    None
}

fn activate(sketch: &mut Sketch, random: &mut Random, x: ValueId, kinds: Kinds) -> ValueId {
    let op = match random.below(6) {
        0 if kinds.smooth => Op::Sigmoid,
        1 if kinds.smooth => Op::Tanh,
        2 => return x,
        _ => Op::Relu,
    };
    sketch.activation(op, x)
}

fn size(sketch: &Sketch, x: ValueId) -> [usize; 2] {
    let shape = sketch.shape(x);
    [shape[2], shape[3]]
}

/// `f(p(x) + q(x))` for two paths of one or two convolutions each, or q the identity.
fn residual(sketch: &mut Sketch, random: &mut Random, x: ValueId, kinds: Kinds) -> ValueId {
    let channels = if random.coin() { sketch.shape(x)[1] } else { 1 + random.below(5) };
    let Some((kernel, first)) = window(random, size(sketch, x), None) else { return x };
    let a = sketch.conv(random, x, channels, kernel, first);
    let a = activate(sketch, random, a, kinds);
    let target = if random.coin() && channels == sketch.shape(x)[1] { Some(size(sketch, x)) } else { None };
    let Some((kernel, second)) = window(random, size(sketch, a), target) else { return a };
    let a = sketch.conv(random, a, channels, kernel, second);
    if sketch.shape(a) == sketch.shape(x) {
        let sum = sketch.add(a, x);
        return sketch.activation(Op::Relu, sum);
    }
    let Some((kernel, other)) = window(random, size(sketch, x), Some(size(sketch, a))) else { return a };
    let b = sketch.conv(random, x, channels, kernel, other);
    let sum = sketch.add(a, b);
    activate(sketch, random, sum, kinds)
}

fn pool(sketch: &mut Sketch, random: &mut Random, x: ValueId) -> ValueId {
    let shape = sketch.shape(x);
    let kernel = [0, 1].map(|axis| (1 + random.below(3)).min(shape[2 + axis]));
    let strides = [1 + random.below(2), 1 + random.below(3)];
    let begin = [kernel[0] / 2, 0];
    let window = Window { strides, begin, end: [0; 2], dilations: [1; 2], groups: 1 };
    let [h, w] = [0, 1].map(|axis| outputs(shape[2 + axis], kernel[axis], &window, axis));
    let op = if random.coin() {
        Op::MaxPool { kernel, window }
    } else {
        Op::AveragePool { kernel, window, count_include_pad: random.coin() }
    };
    sketch.node(op, &[x], &[1, shape[1], h, w])
}

/// A dense layer back to an image, added to it or not: layers without a spatial shape meet those that have one.
fn through_dense(sketch: &mut Sketch, random: &mut Random, x: ValueId, kinds: Kinds) -> ValueId {
    let shape = sketch.shape(x);
    let len = shape.iter().product();
    let y = sketch.dense(random, x, len);
    let y = activate(sketch, random, y, kinds);
    if random.coin() {
        let flat = sketch.node(Op::Reshape, &[x], &[1, len]);
        let sum = sketch.add(y, flat);
        let sum = sketch.activation(Op::Relu, sum);
        return sketch.node(Op::Reshape, &[sum], &shape);
    }
    let y = sketch.node(Op::Reshape, &[y], &shape);
    if random.coin() {
        return y;
    }
    let sum = sketch.add(x, y);
    sketch.activation(Op::Relu, sum)
}

/// A network of one to four blocks over an image of at most nine by nine.
pub fn random_network(random: &mut Random, kinds: Kinds) -> Graph {
    let mut sketch = Sketch::new(&[1, 1 + random.below(3), 1 + random.below(9), 1 + random.below(9)]);
    let mut x = ValueId(0);
    for _ in 0..1 + random.below(4) {
        let len: usize = sketch.shape(x).iter().product();
        x = match random.below(8) {
            0 | 1 if kinds.pools && len <= 120 => pool(&mut sketch, random, x),
            2 if kinds.dense && len <= 60 => through_dense(&mut sketch, random, x, kinds),
            3..=5 if len <= 200 => residual(&mut sketch, random, x, kinds),
            _ if len > 300 => x,
            _ => {
                let Some((kernel, window)) = window(random, size(&sketch, x), None) else { continue };
                let channels = 1 + random.below(6);
                let z = sketch.conv(random, x, channels, kernel, window);
                activate(&mut sketch, random, z, kinds)
            }
        };
    }
    if random.coin() || sketch.shape(x).iter().product::<usize>() > 12 || sketch.graph.nodes.is_empty() {
        let outputs = 1 + random.below(3);
        sketch.dense(random, x, outputs);
    }
    sketch.graph
}
