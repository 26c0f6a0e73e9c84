//! Gradients of every operator that can be trained against differences in f64.
#![cfg(feature = "train")]

mod common;

use std::sync::Arc;

use common::Random;
use ndarray::{Array2, ArrayD, IxDyn};
use wavehull::graph::{Executor, Graph, Node, Op, Value, ValueId};
use wavehull::train::{
    ArrayOptions, Attention, Builder, Conv1d, Conv2d, ConvTranspose2d, DeviceSet, Init, Labels, Loss, Member, Model,
    Optimiser, Parameter, Pool, TrainingArray,
};
use wavehull::{Control, Gpu};

const CLASSES: usize = 5;
const BATCH: usize = 6;
const WORDS: usize = 9;
/// Elements of each parameter that are looked at.
const ELEMENTS: usize = 8;

/// A network and a batch of samples.
struct Case {
    model: Model,
    loss: Loss,
    samples: Vec<Vec<f64>>,
    labels: Vec<u32>,
    values: Array2<f32>,
}

fn shape_of(graph: &Graph) -> Vec<usize> {
    graph.value(graph.input).shape[1..].to_vec()
}

impl Case {
    fn new(model: Model, loss: Loss) -> Self {
        let len = shape_of(&model.graph).iter().product();
        let mut random = Random::new(9);
        let words = model.graph.nodes.iter().any(|node| matches!(node.op, Op::Embedding { .. }));
        let mut one = |_| -> f64 { if words { random.below(WORDS) as f64 } else { f64::from(random.floats(1)[0]) } };
        let samples = (0..BATCH).map(|_| (0..len).map(&mut one).collect()).collect();
        let labels = (0..BATCH).map(|_| random.below(CLASSES) as u32).collect();
        let outputs = model.graph.output_len();
        let values = Array2::from_shape_fn((BATCH, outputs), |_| random.below(2) as f32);
        Self { model, loss, samples, labels, values }
    }

    fn array(&self, gpu: &Gpu) -> TrainingArray {
        let shape = [&[BATCH], &shape_of(&self.model.graph)[..]].concat();
        let inputs: Vec<f32> = self.samples.iter().flatten().map(|&v| v as f32).collect();
        let inputs = ArrayD::from_shape_vec(IxDyn(&shape), inputs).expect("inputs");
        let labels = match self.loss {
            Loss::CrossEntropy { .. } => Labels::Classes { labels: self.labels.clone(), classes: CLASSES },
            _ => Labels::Values(self.values.clone()),
        };
        let set = DeviceSet::new(gpu, &inputs, labels).expect("a set");
        let (loss, optimiser) = (self.loss, Optimiser::sgd());
        let options = ArrayOptions { slots: 2, batch: BATCH, loss, optimiser, ..ArrayOptions::default() };
        TrainingArray::new(gpu, &self.model, set, options)
            .unwrap_or_else(|error| panic!("{}: {error}", self.model.graph.name))
    }

    /// The mean loss of the batch in f64.
    fn loss(&self, graph: &Graph) -> f64 {
        let outputs = outputs(graph, &self.samples);
        let one = |(sample, y): (usize, &Vec<f64>)| {
            let targets = self.values.row(sample);
            let pairs = || y.iter().zip(targets).map(|(&y, &t)| (y, f64::from(t)));
            match self.loss {
                Loss::CrossEntropy { smoothing } => {
                    let top = y.iter().copied().fold(f64::MIN, f64::max);
                    let sum = top + y.iter().map(|v| (v - top).exp()).sum::<f64>().ln();
                    let (s, mean) = (f64::from(smoothing), y.iter().sum::<f64>() / y.len() as f64);
                    sum - (1.0 - s) * y[self.labels[sample] as usize] - s * mean
                }
                Loss::MeanSquare => pairs().map(|(y, t)| (y - t) * (y - t)).sum::<f64>() / y.len() as f64,
                _ => pairs().map(|(y, t)| y.max(0.0) - y * t + (-y.abs()).exp().ln_1p()).sum::<f64>() / y.len() as f64,
            }
        };
        outputs.iter().enumerate().map(one).sum::<f64>() / BATCH as f64
    }
}

/// What a network makes of a batch in training: batch normalisations see the batch's own mean and variance.
fn outputs(graph: &Graph, samples: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let at = graph.nodes.iter().position(|node| matches!(node.op, Op::BatchNormalization { .. }));
    let Some(at) = at else {
        return samples.iter().map(|x| graph.eval_f64(x).expect("an evaluation")).collect();
    };
    let node = &graph.nodes[at];
    let Op::BatchNormalization { epsilon } = node.op else { unreachable!() };
    let before = Graph { nodes: graph.nodes[..at].to_vec(), output: node.inputs[0], ..graph.clone() };
    let mut x: Vec<Vec<f64>> = samples.iter().map(|x| before.eval_f64(x).expect("an evaluation")).collect();
    let channels = graph.value(node.inputs[0]).shape[1];
    let each = x[0].len() / channels;
    let number = |operand: usize, c: usize| {
        let constant = graph.value(node.inputs[operand]).constant.clone().expect("a constant");
        f64::from(constant.as_slice().expect("dense")[c])
    };
    for c in 0..channels {
        let of = |x: &Vec<f64>| x[c * each..][..each].to_vec();
        let all: Vec<f64> = x.iter().flat_map(of).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / all.len() as f64;
        let factor = number(1, c) / (variance + f64::from(epsilon)).sqrt();
        let shift = number(2, c);
        x.iter_mut().flat_map(|x| &mut x[c * each..][..each]).for_each(|v| *v = (*v - mean) * factor + shift);
    }
    let behind = Graph { nodes: graph.nodes[at + 1..].to_vec(), input: node.output, ..graph.clone() };
    outputs(&behind, &x)
}

/// What one step takes away from each parameter, at a rate of 1 without momentum: its gradient. With the graph before.
fn gradients(gpu: &Gpu, case: &Case) -> (Graph, Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let mut array = case.array(gpu);
    let member = Member { seed: 3, optimiser: Optimiser::sgd(), learning_rate: 1.0, ..Member::default() };
    array.start(1, member).expect("a member");
    let before = array.export(1).expect("a graph");
    array.run(1, &Control::default(), &mut |_| {}).expect("a step");
    let after = array.export(1).expect("a graph");
    let of = |graph: &Graph, p: &Parameter| -> Vec<f64> {
        graph.value(p.value).constant.iter().flat_map(|c| c.iter().map(|&v| f64::from(v))).collect()
    };
    let weights: Vec<Vec<f64>> = case.model.parameters.iter().map(|p| of(&before, p)).collect();
    let found = case.model.parameters.iter().zip(&weights);
    let found = found.map(|(p, w0)| w0.iter().zip(of(&after, p)).map(|(a, b)| a - b).collect()).collect();
    (before, weights, found)
}

/// The first gradient that is not that of the differences, and the largest that was seen.
fn differs(case: &Case, before: &Graph, weights: &[Vec<f64>], found: &[Vec<f64>]) -> (Option<String>, f64) {
    let mut random = Random::new(17);
    let mut largest: f64 = 0.0;
    for (index, parameter) in case.model.parameters.iter().enumerate() {
        for _ in 0..ELEMENTS.min(weights[index].len()) {
            let at = random.below(weights[index].len());
            // So small that hardly ever a kink lies between; what f32 makes of it is what is divided by.
            let moved = |by: f32| {
                let mut changed = before.clone();
                let mut constant = (**changed.value(parameter.value).constant.as_ref().expect("a constant")).clone();
                let element = &mut constant.as_slice_mut().expect("dense")[at];
                *element += by;
                let real = f64::from(*element);
                changed.values[parameter.value.0].constant = Some(Arc::new(constant));
                (real, case.loss(&changed))
            };
            let h = 2.0_f32.powi(-14);
            let ((x1, y1), (x0, y0)) = (moved(h), moved(-h));
            let (wanted, found) = ((y1 - y0) / (x1 - x0), found[index][at]);
            // h^2 times a third derivative of order 100; roundings of the weight, and of sums of hundreds of terms.
            let allowed = 100.0 * f64::from(h).powi(2) + 4e-7 * weights[index][at].abs() + 2e-5 * wanted.abs() + 2e-6;
            largest = largest.max(wanted.abs() / allowed);
            if (found - wanted).abs() > allowed || found.is_nan() {
                let name = case.model.name(parameter);
                return (Some(format!("{name}[{at}]: {found:e}, f64 says {wanted:e}")), largest);
            }
        }
    }
    (None, largest)
}

/// An exported member runs on the device as its reference does; the first output that is off.
fn runs(gpu: &Gpu, case: &Case, graph: &Graph) -> Option<String> {
    let name = &graph.name;
    let len = graph.input_len();
    let samples = Array2::from_shape_fn((BATCH, len), |(i, j)| case.samples[i][j] as f32);
    let executor = Executor::new(gpu, graph).expect(name);
    let found = executor.run(&samples.view(), &Control::default()).expect(name);
    for (x, found) in case.samples.iter().zip(found.rows()) {
        let wanted = graph.eval_f64(x).expect(name);
        let scale = wanted.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        for (&found, wanted) in found.iter().zip(wanted) {
            let off = (f64::from(found) - wanted).abs();
            // Sums of some hundred terms, at most.
            if off > 2e-5 * scale || off.is_nan() {
                return Some(format!("{found}, f64 says {wanted}"));
            }
        }
    }
    None
}

fn check(test: &str, cases: Vec<Case>) {
    let Some(gpu) = common::device(test, true) else { return };
    let wrong: Vec<String> = cases.iter().filter_map(|case| what_is_wrong(gpu, case)).collect();
    assert!(wrong.is_empty(), "{} of {} networks:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn what_is_wrong(gpu: &Gpu, case: &Case) -> Option<String> {
    let name = &case.model.graph.name;
    let (before, weights, found) = gradients(gpu, case);
    if let Some(wrong) = runs(gpu, case, &before) {
        return Some(format!("{name}: on the device: {wrong}"));
    }
    let (wrong, largest) = differs(case, &before, &weights, &found);
    if let Some(wrong) = wrong {
        return Some(format!("{name}: {wrong}"));
    }
    assert!(largest > 100.0, "{name}: gradients of up to {largest} tolerances show nothing");
    // Each parameter's gradient, off by one percent, is seen.
    for index in 0..found.len() {
        let mut doctored = found.clone();
        doctored[index].iter_mut().for_each(|g| *g = *g * 1.01 + 1e-4);
        let seen = differs(case, &before, &weights, &doctored).0;
        assert!(seen.is_some(), "{name}: a wrong gradient {index} must be seen");
    }
    None
}

/// A network out of one layer (or a few) between others that are trained as well, so that both its gradients count.
fn around(name: &str, input: &[usize], layer: impl FnOnce(&mut Builder, ValueId) -> ValueId) -> Case {
    let mut net = Builder::new(name, input);
    let mut x = net.input();
    if input.len() == 3 {
        x = net.conv2d(x, Conv2d { channels: 4, kernel: [1, 1], ..Conv2d::default() });
    } else {
        x = net.linear(x, input[input.len() - 1]);
    }
    let x = layer(&mut net, x);
    let x = net.flatten(x);
    let x = net.linear(x, CLASSES);
    Case::new(net.finish(x).expect(name), Loss::default())
}

#[test]
fn convolutions_have_the_gradients_of_differences() {
    let conv = |channels, kernel| Conv2d { channels, kernel, ..Conv2d::default() };
    let image = |name, conv: Conv2d| around(name, &[3, 6, 7], |net, x| net.conv2d(x, conv));
    let mut cases = vec![
        image("padded", Conv2d { padding: [1, 2], ..conv(3, [3, 3]) }),
        image("strided", Conv2d { stride: [2, 3], padding: [1, 0], ..conv(5, [3, 2]) }),
        image("dilated", Conv2d { dilation: [2, 3], padding: [2, 1], bias: false, ..conv(6, [2, 3]) }),
        image("depthwise", Conv2d { groups: 4, padding: [1, 1], stride: [2, 1], ..conv(4, [3, 3]) }),
    ];
    let up = ConvTranspose2d { channels: 3, stride: [2, 1], padding: [1, 2], ..ConvTranspose2d::default() };
    cases.push(around("transposed", &[3, 4, 5], |net, x| net.conv_transpose2d(x, up)));
    let up = ConvTranspose2d { kernel: [2, 3], stride: [3, 2], output_padding: [2, 1], bias: false, ..up };
    cases.push(around("transposed with more rows", &[3, 3, 4], |net, x| net.conv_transpose2d(x, up)));
    cases.push(around("grouped", &[3, 6, 7], |net, x| {
        let x = net.conv2d(x, conv(8, [2, 2]));
        net.conv2d(x, Conv2d { groups: 2, padding: [1, 1], ..conv(8, [3, 3]) })
    }));
    cases.push(around("of sequences", &[3, 9], |net, x| {
        let x = net.conv1d(x, Conv1d { channels: 6, stride: 2, padding: 1, ..Conv1d::default() });
        net.conv1d(x, Conv1d { channels: 5, kernel: 2, dilation: 2, ..Conv1d::default() })
    }));
    check("convolutions_have_the_gradients_of_differences", cases);
}

#[test]
fn normalisations_have_the_gradients_of_differences() {
    let mut cases = vec![
        around("batch norm of images", &[3, 4, 3], |net, x| net.batch_norm(x)),
        around("batch norm of vectors", &[9], |net, x| net.batch_norm(x)),
        around("batch norm of sequences", &[3, 6], |net, x| net.batch_norm(x)),
        around("layer norm", &[3, 9], |net, x| net.layer_norm(x)),
        around("group norm of images", &[3, 4, 3], |net, x| net.group_norm(x, 2)),
        around("group norm of sequences", &[6, 5], |net, x| net.group_norm(x, 3)),
        around("instance norm", &[3, 4, 3], |net, x| net.group_norm(x, 4)),
    ];
    // Two in a row, and something smooth between.
    cases.push(around("several", &[3, 5, 4], |net, x| {
        let x = net.batch_norm(x);
        let x = net.conv2d(x, Conv2d { channels: 5, kernel: [2, 2], ..Conv2d::default() });
        let x = net.batch_norm(x);
        net.tanh(x)
    }));
    cases.push(around("batch norm between convolutions of sequences", &[3, 6], |net, x| {
        let x = net.conv1d(x, Conv1d { channels: 5, padding: 1, ..Conv1d::default() });
        let x = net.batch_norm(x);
        let x = net.positions(x);
        net.conv1d(x, Conv1d { channels: 4, ..Conv1d::default() })
    }));
    for (columns, length) in [(6, 4), (5, 3)] {
        let mut case = around("layer norm of several axes", &[columns, length], |net, x| net.layer_norm(x));
        let node = case.model.graph.nodes.iter_mut().find(|n| matches!(n.op, Op::LayerNormalization { .. }));
        let node = node.expect("a layer norm");
        node.op = Op::LayerNormalization { axis: 1, epsilon: 1e-5 };
        let operands = [node.inputs[1], node.inputs[2]];
        for (operand, start) in operands.into_iter().zip([1.0, 0.0]) {
            let value = &mut case.model.graph.values[operand.0];
            value.shape = vec![columns, length];
            value.constant = Some(Arc::new(ArrayD::from_elem(IxDyn(&value.shape), start)));
        }
        cases.push(case);
    }
    check("normalisations_have_the_gradients_of_differences", cases);
}

#[test]
fn activations_and_pools_have_the_gradients_of_differences() {
    let pool = Pool { kernel: [3, 2], stride: [2, 1], padding: [1, 1] };
    let cases = vec![
        around("relu behind a product", &[9], |net, x| net.relu(x)),
        around("relu behind a convolution, in front of another", &[3, 5, 4], |net, x| {
            let x = net.relu(x);
            net.conv2d(x, Conv2d { channels: 3, ..Conv2d::default() })
        }),
        around("relu of a sum", &[9], |net, x| {
            let y = net.tanh(x);
            let x = net.add(x, y);
            let x = net.relu(x);
            let y = net.linear(x, 7);
            let z = net.linear(x, 7);
            let z = net.relu(z);
            net.add(y, z)
        }),
        around("leaky relu", &[9], |net, x| net.leaky_relu(x, 0.2)),
        around("sigmoid", &[9], |net, x| net.sigmoid(x)),
        around("tanh", &[9], |net, x| net.tanh(x)),
        around("gelu", &[9], |net, x| net.gelu(x)),
        around("softmax", &[3, 5], |net, x| net.softmax(x)),
        around("max pool", &[3, 6, 5], |net, x| net.max_pool_with(x, pool)),
        around("max pool of sequences", &[3, 7], |net, x| net.max_pool(x, 2)),
        around("average pool", &[3, 6, 5], |net, x| net.average_pool_with(x, pool)),
        around("adaptive pool", &[3, 6, 4], |net, x| net.adaptive_average_pool(x, [3, 2])),
        around("global pools", &[3, 4, 5], |net, x| {
            let y = net.global_max_pool(x);
            let x = net.global_average_pool(x);
            net.concat(&[x, y], 0)
        }),
    ];
    check("activations_and_pools_have_the_gradients_of_differences", cases);
}

#[test]
fn attention_and_tables_have_the_gradients_of_differences() {
    let attention = |causal, heads| Attention { heads, causal, dropout: 0.0 };
    let mut cases = vec![
        around("attention", &[4, 6], |net, x| net.multi_head_attention(x, attention(false, 3))),
        around("causal attention", &[5, 8], |net, x| net.multi_head_attention(x, attention(true, 2))),
        around("positions", &[4, 6], |net, x| net.positions(x)),
    ];
    let mut net = Builder::new("embedding", &[7]);
    let x = net.input();
    let x = net.embedding(x, WORDS, 5);
    let x = net.tanh(x);
    let x = net.flatten(x);
    let x = net.linear(x, CLASSES);
    cases.push(Case::new(net.finish(x).expect("a model"), Loss::CrossEntropy { smoothing: 0.2 }));
    check("attention_and_tables_have_the_gradients_of_differences", cases);
}

#[test]
fn what_joins_and_moves_has_the_gradients_of_differences() {
    let cases = vec![
        around("sum", &[3, 4, 5], |net, x| {
            let y = net.conv2d(x, Conv2d { channels: 4, padding: [1, 1], ..Conv2d::default() });
            net.add(x, y)
        }),
        around("product", &[9], |net, x| {
            let y = net.sigmoid(x);
            net.mul(x, y)
        }),
        around("square", &[9], |net, x| net.mul(x, x)),
        around("image beside a moved one", &[3, 4, 4], |net, x| {
            let y = net.transpose(x, &[0, 2, 1]);
            net.mul(x, y)
        }),
        around("scale", &[9], |net, x| net.scale(x, -1.7)),
        around("concat of channels", &[3, 4, 5], |net, x| {
            let y = net.tanh(x);
            net.concat(&[x, y, x], 0)
        }),
        around("concat of rows", &[3, 5], |net, x| {
            let y = net.linear(x, 2);
            net.concat(&[x, y], 1)
        }),
        around("reshape and transpose", &[3, 4, 5], |net, x| {
            let x = net.transpose(x, &[2, 0, 1]);
            let x = net.reshape(x, &[10, 8]);
            let x = net.linear(x, 3);
            net.transpose(x, &[1, 0])
        }),
        around("product of matrices", &[4, 6], |net, x| {
            let y = net.transpose(x, &[1, 0]);
            let y = net.tanh(y);
            net.matmul(x, y)
        }),
    ];
    check("what_joins_and_moves_has_the_gradients_of_differences", cases);
}

/// Losses of values, behind a plain network.
#[test]
fn losses_have_the_gradients_of_differences() {
    let case = |loss| {
        let case = around("loss", &[9], |net, x| net.tanh(x));
        Case::new(case.model, loss)
    };
    let cases = [Loss::MeanSquare, Loss::BinaryLogits, Loss::CrossEntropy { smoothing: 0.3 }].map(case);
    check("losses_have_the_gradients_of_differences", cases.into());
}

/// Puts a node of one computed operand and constants behind a network's output, or in front of its last layer.
fn appended(case: &mut Case, op: Op, shape: &[usize], constants: &[(&[usize], bool)], swapped: bool) {
    let Model { graph, parameters } = &mut case.model;
    let mut inputs = vec![graph.output];
    let mut random = Random::new(4);
    for &(shape, trained) in constants {
        let elements = random.floats(shape.iter().product()).into_iter().map(|v| v + 1.5).collect();
        let constant = ArrayD::from_shape_vec(IxDyn(shape), elements).expect("a constant");
        graph.values.push(Value {
            name: format!("c{}", graph.values.len()),
            shape: shape.to_vec(),
            constant: Some(Arc::new(constant)),
        });
        let value = ValueId(graph.values.len() - 1);
        inputs.push(value);
        if trained {
            parameters.push(Parameter { value, init: Init::Given });
        }
    }
    if swapped {
        inputs.reverse();
    }
    graph.values.push(Value { name: format!("v{}", graph.values.len()), shape: shape.to_vec(), constant: None });
    let output = ValueId(graph.values.len() - 1);
    graph.nodes.push(Node { name: format!("{}{}", op.name(), output.0), op, inputs, output });
    graph.output = output;
}

/// What the builder has no layer for, but files may hold.
#[test]
fn constants_and_shared_parameters_have_the_gradients_of_differences() {
    let image = |name: &str| {
        let mut net = Builder::new(name, &[3, 4, 2]);
        let x = net.input();
        let x = net.conv2d(x, Conv2d { channels: 5, kernel: [4, 2], ..Conv2d::default() });
        Case::new(net.finish(x).expect(name), Loss::default())
    };
    let mut cases = Vec::new();
    for (op, swapped) in
        [(Op::Add, false), (Op::Sub, false), (Op::Sub, true), (Op::Mul, false), (Op::Mul, true), (Op::Div, false)]
    {
        for shape in [&[1, 5, 1, 1][..], &[1, 1, 1, 1], &[]] {
            for trained in [false, true] {
                // Of trained ones, a number for each channel, and no quotients.
                if trained && (shape.len() != 4 || shape[1] == 1 || op == Op::Div) {
                    continue;
                }
                let mut case = image(&format!("{op:?} {shape:?} {swapped} {trained}"));
                appended(&mut case, op.clone(), &[1, 5, 1, 1], &[(shape, trained)], swapped);
                appended(&mut case, Op::Tanh, &[1, 5, 1, 1], &[], false);
                appended(&mut case, Op::Reshape, &[1, 5], &[], false);
                cases.push(Case::new(case.model, Loss::default()));
            }
        }
    }
    let mut case = image("pad and select");
    appended(&mut case, Op::Pad { pads: vec![[0, 0], [1, 1], [0, 0], [2, 0]], value: 0.5 }, &[1, 7, 1, 3], &[], false);
    appended(&mut case, Op::Tanh, &[1, 7, 1, 3], &[], false);
    let indices = Arc::new(vec![2, 5, 8, 11, 17, 14]);
    appended(&mut case, Op::Select { indices }, &[1, 6], &[], false);
    cases.push(Case::new(case.model, Loss::default()));
    cases.push(tied(2));
    cases.push(tied(3));
    let mut net = Builder::new("a table that is the last layer too", &[4]);
    let x = net.input();
    let x = net.embedding(x, WORDS, 6);
    let x = net.tanh(x);
    let x = net.reshape(x, &[1, 24]);
    let x = net.linear(x, 6);
    let x = net.flatten(x);
    let x = net.linear_without_bias(x, WORDS);
    let mut model = net.finish(x).expect("a model");
    tie(&mut model, "embedding1.weight", "fc2.weight");
    cases.push(Case::new(model, Loss::default()));
    check("constants_and_shared_parameters_have_the_gradients_of_differences", cases);
}

/// Layers of one weight.
fn tied(layers: usize) -> Case {
    let mut net = Builder::new("shared weights", &[7]);
    let mut x = net.input();
    for _ in 0..layers {
        x = net.linear(x, 7);
        x = net.tanh(x);
    }
    let mut model = net.finish(x).expect("a model");
    for layer in 2..=layers {
        tie(&mut model, "fc1.weight", &format!("fc{layer}.weight"));
        tie(&mut model, "fc1.bias", &format!("fc{layer}.bias"));
    }
    Case::new(model, Loss::default())
}

/// Makes one parameter another.
fn tie(model: &mut Model, first: &str, second: &str) {
    let find = |name: &str| model.parameters.iter().position(|p| model.name(p) == name).expect("a parameter");
    let (first, at) = (model.parameters[find(first)].value, find(second));
    let second = model.parameters.remove(at).value;
    model.graph.nodes.iter_mut().flat_map(|n| &mut n.inputs).filter(|v| **v == second).for_each(|v| *v = first);
}
