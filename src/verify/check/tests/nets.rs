//! Small networks built in code, properties over them, and random numbers.

use crate::graph::{
    Activation, Convolution, Edge, Extent, Graph, Layer, Layers, Map, Node, Op, Source, Sparse, Value, ValueId,
};
use crate::verify::property::{Conjunction, InputBox, Property, Query, Row};
use ndarray::{Array1, Array2, Array4, ArrayD, IxDyn};
use std::sync::Arc;

/// Layers under construction; what is added reads the layer added last unless it says otherwise.
#[derive(Debug, Clone)]
pub(super) struct Net(pub(super) Layers);

impl Net {
    pub(super) fn new(input: Extent) -> Self {
        Self(Layers { input, layers: vec![] })
    }

    pub(super) fn flat(inputs: usize) -> Self {
        Self::new(Extent::flat(inputs))
    }

    /// The layer added last, or the input.
    pub(super) fn last(&self) -> Source {
        self.0.layers.len().checked_sub(1).map_or(Source::Input, Source::Layer)
    }

    pub(super) fn layer(
        &mut self,
        extent: Extent,
        edges: Vec<(Source, Map)>,
        bias: &[f32],
        activation: Activation,
    ) -> Source {
        let edges = edges.into_iter().map(|(source, map)| Edge { source, map, rel: 0.0 }).collect();
        let (bias, bias_abs) = (bias.to_vec(), vec![0.0; bias.len()]);
        let name = format!("layer_{}", self.0.layers.len());
        self.0.layers.push(Layer { name, extent, edges, bias, bias_abs, activation });
        self.last()
    }

    pub(super) fn dense(&mut self, rows: &[Vec<f32>], bias: &[f32], activation: Activation) -> Source {
        let weight = Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).expect("rows of one length");
        self.layer(Extent::flat(rows.len()), vec![(self.last(), Map::Dense(weight))], bias, activation)
    }

    /// `y = activation(by x + bias)`, elementwise.
    pub(super) fn diagonal(&mut self, by: &[f32], bias: &[f32], activation: Activation) -> Source {
        let from = self.last();
        self.layer(self.0.extent(from), vec![(from, Map::Diagonal(by.to_vec()))], bias, activation)
    }

    /// z and y of every layer, by the formulas of the layers, without care for rounding.
    pub(super) fn evaluate(&self, x: &[f64]) -> Vec<[Vec<f64>; 2]> {
        let mut values: Vec<[Vec<f64>; 2]> = vec![];
        for layer in &self.0.layers {
            let mut z: Vec<f64> = layer.bias.iter().map(|&b| f64::from(b)).collect();
            for edge in &layer.edges {
                let y = match edge.source {
                    Source::Input => x,
                    Source::Layer(index) => &values[index][1],
                };
                let matrix = matrix(&edge.map, self.0.extent(edge.source), layer.extent);
                z.iter_mut()
                    .zip(matrix.rows())
                    .for_each(|(z, row)| *z += row.iter().zip(y).map(|(w, y)| w * y).sum::<f64>());
            }
            let y = z.iter().map(|&z| match layer.activation {
                Activation::None => z,
                Activation::Relu => z.max(0.0),
                Activation::Sigmoid => 1.0 / (1.0 + (-z).exp()),
                Activation::Tanh => z.tanh(),
            });
            values.push([z.clone(), y.collect()]);
        }
        values
    }

    /// The same network with every map as a matrix.
    pub(super) fn unfolded(&self) -> Self {
        let mut net = self.clone();
        for layer in &mut net.0.layers {
            for edge in &mut layer.edges {
                edge.map = Map::Dense(matrix(&edge.map, self.0.extent(edge.source), layer.extent).mapv(|w| w as f32));
            }
        }
        net
    }
}

/// A map as a matrix, element by element from its definition.
fn matrix(map: &Map, from: Extent, to: Extent) -> Array2<f64> {
    match map {
        Map::Dense(weight) => weight.mapv(f64::from),
        Map::Diagonal(by) => Array2::from_diag(&by.iter().map(|&w| f64::from(w)).collect::<Array1<f64>>()),
        Map::Sparse(sparse) => {
            let mut matrix = Array2::zeros((to.len(), from.len()));
            for (j, pair) in sparse.starts.windows(2).enumerate() {
                for term in pair[0]..pair[1] {
                    matrix[[j, sparse.columns[term] as usize]] += f64::from(sparse.weights[term]);
                }
            }
            matrix
        }
        Map::Conv(conv) => Array2::from_shape_fn((to.len(), from.len()), |(j, k)| {
            let split = |at: usize, extent: Extent| {
                [at / extent.width / extent.height, at / extent.width % extent.height, at % extent.width]
            };
            let ([m, y, x], [c, row, column]) = (split(j, to), split(k, from));
            let (_, _, height, width) = conv.weight.dim();
            let meets = |axis: usize, output: usize, tap: usize, place: usize| {
                output * conv.stride[axis] + tap * conv.dilation[axis] == place + conv.pad[axis]
            };
            let taps = (0..height * width).map(|tap| (tap / width, tap % width));
            let met = taps.filter(|&(i, j)| meets(0, y, i, row) && meets(1, x, j, column));
            met.map(|(i, j)| f64::from(conv.weight[[m, c, i, j]])).sum()
        }),
    }
}

/// A convolution with random weights, multiples of 1/8, whose result has the extent.
pub(super) fn conv(random: &mut Random, from: Extent, channels: usize) -> (Map, Extent) {
    let kernel = [1 + random.below(from.height.min(3)), 1 + random.below(from.width.min(3))];
    let mut two = |most: usize| [random.below(most), random.below(most)];
    let (stride, pad, dilation) = (two(2).map(|s| s + 1), two(2), two(2).map(|d| d + 1));
    let size = |axis: usize, len: usize| (len + pad[axis] * 2).saturating_sub(1) / stride[axis] + 1;
    // Some windows hang over the edge further than the padding says: they read zeros there.
    let extent = Extent { channels, height: size(0, from.height), width: size(1, from.width) };
    let shape = (channels, from.channels, kernel[0], kernel[1]);
    let weight = Array4::from_shape_simple_fn(shape, || (random.below(17) as f32 - 8.0) / 8.0);
    (Map::Conv(Convolution { weight, stride, pad, dilation }), extent)
}

/// A sparse map from (column, weight) pairs for each row.
pub(super) fn sparse(rows: &[Vec<(u32, f32)>]) -> Map {
    let mut map = Sparse { starts: vec![0], columns: vec![], weights: vec![] };
    for row in rows {
        map.columns.extend(row.iter().map(|term| term.0));
        map.weights.extend(row.iter().map(|term| term.1));
        map.starts.push(map.columns.len());
    }
    Map::Sparse(map)
}

/// Affine layers with a ReLU between any two of them: weights by row, and biases.
#[derive(Debug, Clone)]
pub(super) struct Dense(pub(super) Vec<(Vec<Vec<f32>>, Vec<f32>)>);

impl Dense {
    /// Weights and biases are multiples of 1/8 of small integers, so that f64 evaluates the network exactly on
    /// inputs that are such multiples, too.
    pub(super) fn random(widths: &[usize], random: &mut Random) -> Self {
        let mut eighths = |limit: usize| (random.below(2 * limit + 1) as f32 - limit as f32) / 8.0;
        Self(
            widths
                .windows(2)
                .map(|pair| {
                    let rows = (0..pair[1]).map(|_| (0..pair[0]).map(|_| eighths(12)).collect()).collect();
                    (rows, (0..pair[1]).map(|_| eighths(8)).collect())
                })
                .collect(),
        )
    }

    /// As layers.
    pub(super) fn layers(&self) -> Layers {
        let mut net = Net::flat(self.0[0].0[0].len());
        for (index, (rows, bias)) in self.0.iter().enumerate() {
            let last = index + 1 == self.0.len();
            net.dense(rows, bias, if last { Activation::None } else { Activation::Relu });
        }
        net.0
    }

    /// As a graph of Gemm nodes with transposed weights, as PyTorch writes it, and ReLUs.
    pub(super) fn graph(&self) -> Graph {
        let value = |name: &str, shape: Vec<usize>, data: Option<Vec<f32>>| {
            let constant =
                data.map(|d| Arc::new(ArrayD::from_shape_vec(IxDyn(&shape), d).expect("data of that shape")));
            Value { name: name.into(), shape, constant }
        };
        let mut values = vec![value("x", vec![1, self.0[0].0[0].len()], None)];
        let (mut nodes, mut current): (Vec<Node>, usize) = (vec![], 0);
        for (index, (rows, bias)) in self.0.iter().enumerate() {
            let (from, shape) = (values.len(), vec![1, rows.len()]);
            values.push(value("w", vec![rows.len(), rows[0].len()], Some(rows.concat())));
            values.push(value("b", vec![rows.len()], Some(bias.clone())));
            values.push(value("z", shape.clone(), None));
            let inputs = vec![ValueId(current), ValueId(from), ValueId(from + 1)];
            let op = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
            nodes.push(Node { name: format!("gemm_{index}"), op, inputs, output: ValueId(from + 2) });
            current = from + 2;
            if index + 1 < self.0.len() {
                values.push(value("y", shape, None));
                let (inputs, output) = (vec![ValueId(current)], ValueId(from + 3));
                nodes.push(Node { name: format!("relu_{index}"), op: Op::Relu, inputs, output });
                current = from + 3;
            }
        }
        Graph { name: "test".into(), values, nodes, input: ValueId(0), output: ValueId(current) }
    }

    /// The pre-activations of every layer, and the output last.
    pub(super) fn evaluate(&self, x: &[f64]) -> Vec<Vec<f64>> {
        let mut values: Vec<Vec<f64>> = vec![];
        for (rows, bias) in &self.0 {
            let input: Vec<f64> = values.last().map_or(x.to_vec(), |z| z.iter().map(|z| z.max(0.0)).collect());
            let dot = |row: &Vec<f32>| row.iter().zip(&input).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
            values.push(rows.iter().zip(bias).map(|(row, &b)| dot(row) + f64::from(b)).collect());
        }
        values
    }
}

/// A property with one query over an exact box.
pub(super) fn property(lo: &[f64], hi: &[f64], outputs: usize, unsafe_if: Vec<Conjunction>) -> Property {
    let input = InputBox { lo: lo.to_vec(), hi: hi.to_vec(), lo_out: lo.to_vec(), hi_out: hi.to_vec() };
    Property { inputs: lo.len(), outputs, queries: vec![Query { input, unsafe_if }] }
}

/// The row `coefficients . Y + constant`, exact.
pub(super) fn row(coefficients: &[f64], constant: f64, strict: bool) -> Row {
    let coefficients = coefficients.iter().copied().enumerate().filter(|c| c.1 != 0.0).collect();
    Row { coefficients, constant, slop: 0.0, coefficient_rel: 0.0, strict }
}

/// The value of a row at an output.
pub(super) fn row_value(row: &Row, output: &[f64]) -> f64 {
    row.coefficients.iter().map(|&(i, c)| c * output[i]).sum::<f64>() + row.constant
}

/// The points of a grid with `steps + 1` values an input, corners included.
pub(super) fn grid(lo: &[f64], hi: &[f64], steps: usize) -> Vec<Vec<f64>> {
    let mut points = vec![vec![]];
    for (l, h) in lo.iter().zip(hi) {
        let at = |i: usize| l + (h - l) * i as f64 / steps as f64;
        points = points.iter().flat_map(|p| (0..=steps).map(|i| [p.as_slice(), &[at(i)]].concat())).collect();
    }
    points
}

/// Marsaglia's xorshift64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    /// A number in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / 2f64.powi(53)
    }
}
