//! Small networks whose true outputs are known: weights in f32, the real numbers they stand for in f64, and the exact
//! minimum of a linear form of the outputs over a box in one or two dimensions.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use wavehull::graph::{Graph, Node, Op, Value, ValueId};
use wavehull::verify::{InputBox, Property, Query, Row};

use crate::common::Random;

/// `alpha W y + beta b`, with a ReLU behind it or not; the products are exact in f64.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `[out, in]`.
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub alpha: f32,
    pub beta: f32,
    pub relu: bool,
}

#[derive(Debug, Clone)]
pub struct Net {
    pub inputs: usize,
    pub layers: Vec<Layer>,
}

impl Layer {
    pub fn new(weight: &[f32], bias: &[f32], relu: bool) -> Self {
        Self { weight: weight.to_vec(), bias: bias.to_vec(), alpha: 1.0, beta: 1.0, relu }
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    pub fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }
}

/// A weight of one of many magnitudes: ordinary, zero, tiny, a power of two.
fn weight(random: &mut Random) -> f32 {
    match random.below(10) {
        0 => 0.0,
        1 => (random.unit() * 1e-6) as f32,
        2 => (random.unit() * 100.0) as f32,
        3 => (random.unit() as f32).signum() * f32::powi(0.5, random.below(24) as i32),
        4 => f32::from_bits(random.below(1 << 23) as u32),
        _ => random.unit() as f32,
    }
}

impl Net {
    pub fn new(inputs: usize, layers: Vec<Layer>) -> Self {
        Self { inputs, layers }
    }

    /// One or two inputs, one to three hidden layers of two to six ReLUs, one or two outputs.
    pub fn random(random: &mut Random) -> Self {
        let inputs = 1 + random.below(2);
        let hidden = 1 + random.below(3);
        let mut widths: Vec<usize> = (0..hidden).map(|_| 2 + random.below(5)).collect();
        widths.push(1 + random.below(2));
        Self::of_widths(random, inputs, &widths)
    }

    pub fn of_widths(random: &mut Random, inputs: usize, widths: &[usize]) -> Self {
        let mut layers = Vec::new();
        let mut before = inputs;
        for (index, &width) in widths.iter().enumerate() {
            let scaled = random.below(4) == 0;
            let factor = |random: &mut Random| if scaled { 0.3 + random.unit() as f32 * 0.1 } else { 1.0 };
            layers.push(Layer {
                weight: (0..width * before).map(|_| weight(random)).collect(),
                bias: (0..width).map(|_| weight(random)).collect(),
                alpha: factor(random),
                beta: factor(random),
                relu: index + 1 < widths.len(),
            });
            before = width;
        }
        Self { inputs, layers }
    }

    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(self.inputs, Layer::outputs)
    }

    pub fn graph(&self) -> Graph {
        let input = Value { name: "x".into(), shape: vec![1, self.inputs], constant: None };
        let mut graph =
            Graph { name: "net".into(), values: vec![input], nodes: Vec::new(), input: ValueId(0), output: ValueId(0) };
        let push = |graph: &mut Graph, shape: &[usize], data: Option<&[f32]>| {
            let array = data.map(|d| Arc::new(ArrayD::from_shape_vec(IxDyn(shape), d.to_vec()).unwrap()));
            let name = format!("v{}", graph.values.len());
            graph.values.push(Value { name, shape: shape.to_vec(), constant: array });
            ValueId(graph.values.len() - 1)
        };
        let node = |graph: &mut Graph, op: Op, inputs: Vec<ValueId>, output: ValueId| {
            graph.nodes.push(Node { name: format!("n{}", graph.nodes.len()), op, inputs, output });
            graph.output = output;
        };
        for layer in &self.layers {
            let (n_out, n_in) = (layer.outputs(), layer.inputs());
            let w = push(&mut graph, &[n_out, n_in], Some(&layer.weight));
            let b = push(&mut graph, &[n_out], Some(&layer.bias));
            let z = push(&mut graph, &[1, n_out], None);
            let gemm = Op::Gemm { alpha: layer.alpha, beta: layer.beta, trans_a: false, trans_b: true };
            let before = graph.output;
            node(&mut graph, gemm, vec![before, w, b], z);
            if layer.relu {
                let y = push(&mut graph, &[1, n_out], None);
                node(&mut graph, Op::Relu, vec![z], y);
            }
        }
        graph
    }

    /// Values before the ReLU of layer `index` at `x`, each with a bound on the error of this evaluation.
    fn at(&self, x: &[f64], index: usize) -> Vec<(f64, f64)> {
        let mut y: Vec<(f64, f64)> = x.iter().map(|&v| (v, 0.0)).collect();
        for (number, layer) in self.layers[..=index].iter().enumerate() {
            let (alpha, beta) = (f64::from(layer.alpha), f64::from(layer.beta));
            let n_in = layer.inputs();
            let z = (0..layer.outputs()).map(|i| {
                let bias = beta * f64::from(layer.bias[i]);
                let (mut sum, mut size, mut error) = (bias, bias.abs(), 0.0);
                for (&w, &(value, e)) in layer.weight[i * n_in..(i + 1) * n_in].iter().zip(&y) {
                    let w = alpha * f64::from(w);
                    sum += w * value;
                    size += (w * value).abs();
                    error += w.abs() * e;
                }
                // Any order: n + 1 roundings at most on a term, each 2^-53.
                (sum, error * (1.0 + 1e-9) + (n_in + 2) as f64 * f64::EPSILON * size)
            });
            let last = number == index;
            y = z.map(|(v, e)| if layer.relu && !last { (v.max(0.0), e) } else { (v, e) }).collect();
        }
        y
    }

    /// An upper bound on the real value of a form at `x`, wrong by no more than f64.
    pub fn form_at(&self, x: &[f64], form: &Form) -> f64 {
        let mut value = (form.constant, form.constant.abs());
        let mut error = 0.0;
        for (&c, &(y, e)) in form.coefficients.iter().zip(&self.at(x, self.layers.len() - 1)) {
            value = (value.0 + c * y, value.1 + (c * y).abs());
            error += c.abs() * e;
        }
        value.0 + error * (1.0 + 1e-9) + 16.0 * f64::EPSILON * value.1
    }

    /// The least value of a form over a box in one or two dimensions, from above and exact up to f64: the regions on which
    /// the network is affine are cut out one ReLU after another, and the least value is at one of their corners.
    pub fn minimum(&self, lower: &[f64], upper: &[f64], form: &Form) -> f64 {
        let corners = match (lower, upper) {
            (&[l], &[h]) => vec![vec![l], vec![h]],
            (&[l0, l1], &[h0, h1]) => vec![vec![l0, l1], vec![h0, l1], vec![h0, h1], vec![l0, h1]],
            _ => panic!("{} inputs", lower.len()),
        };
        let mut regions = vec![corners];
        for (index, layer) in self.layers.iter().enumerate().filter(|(_, l)| l.relu) {
            for neuron in 0..layer.outputs() {
                regions = regions.into_iter().flat_map(|r| self.cut(r, index, neuron)).collect();
            }
        }
        regions.iter().flatten().map(|x| self.form_at(x, form)).fold(f64::INFINITY, f64::min)
    }

    /// A convex region, cut where a neuron changes sign.
    fn cut(&self, region: Vec<Vec<f64>>, index: usize, neuron: usize) -> Vec<Vec<Vec<f64>>> {
        let z: Vec<f64> = region.iter().map(|x| self.at(x, index)[neuron].0).collect();
        if !(z.iter().any(|&v| v > 0.0) && z.iter().any(|&v| v < 0.0)) {
            return vec![region];
        }
        let mut parts = vec![Vec::new(), Vec::new()];
        for i in 0..region.len() {
            let next = (i + 1) % region.len();
            for (part, sign) in parts.iter_mut().zip([1.0, -1.0]) {
                if sign * z[i] >= 0.0 {
                    part.push(region[i].clone());
                }
                if z[i] * z[next] < 0.0 {
                    let t = z[i] / (z[i] - z[next]);
                    part.push(region[i].iter().zip(&region[next]).map(|(a, b)| a + t * (b - a)).collect());
                }
            }
        }
        parts
    }
}

/// `coefficients . outputs + constant`, to be bounded from below.
#[derive(Debug, Clone)]
pub struct Form {
    pub coefficients: Vec<f64>,
    pub constant: f64,
}

impl Form {
    pub fn random(random: &mut Random, outputs: usize) -> Self {
        let exact = random.coin();
        let number = |random: &mut Random| {
            let value = 2.0 * random.unit();
            if exact { f64::from(value as f32) } else { value }
        };
        let coefficients = (0..outputs).map(|_| number(random)).collect();
        Self { coefficients, constant: number(random) }
    }

    /// The property that this form is positive on a box.
    pub fn property(&self, lower: &[f64], upper: &[f64]) -> Property {
        let coefficients = self.coefficients.iter().copied().enumerate().collect();
        let row = Row { coefficients, constant: self.constant, slop: 0.0, coefficient_rel: 0.0, strict: false };
        let input = InputBox { lo: lower.to_vec(), hi: upper.to_vec(), lo_out: lower.to_vec(), hi_out: upper.to_vec() };
        let queries = vec![Query { input, unsafe_if: vec![vec![row]] }];
        Property { inputs: lower.len(), outputs: self.coefficients.len(), queries }
    }
}

/// A box around a random point: wide, narrow or a single point.
pub fn random_box(random: &mut Random, n: usize) -> (Vec<f64>, Vec<f64>) {
    let radius = [0.0, 1e-6, 0.05, 1.0, 10.0][random.below(5)];
    let centre: Vec<f64> = (0..n).map(|_| 2.0 * random.unit()).collect();
    let width: Vec<f64> = (0..n).map(|_| radius * random.unit().abs()).collect();
    let side = |sign: f64| centre.iter().zip(&width).map(|(c, w)| c + sign * w).collect();
    (side(-1.0), side(1.0))
}
