//! Gradients of every operator that can be trained against differences in f64.
#![cfg(feature = "train")]

mod certified;
#[path = "../common/mod.rs"]
mod common;
mod differences;

use std::sync::Arc;

use common::Random;
use differences::{CLASSES, Case, WORDS, check};
use ndarray::{ArrayD, IxDyn};
use wavehull::graph::{Node, Op, Value, ValueId};
use wavehull::train::{Attention, Builder, Conv1d, Conv2d, ConvTranspose2d, Init, Loss, Model, Parameter, Pool};

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
        // Some taps of a phase fit by their dilation alone.
        image("strided and dilated", Conv2d { stride: [2, 3], dilation: [3, 2], padding: [1, 1], ..conv(5, [2, 3]) }),
        // Windows reach over every border.
        image("depthwise", Conv2d { groups: 4, padding: [2, 1], stride: [2, 2], ..conv(4, [3, 3]) }),
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
        around("relu between two products", &[9], |net, x| {
            let x = net.relu(x);
            net.linear(x, 7)
        }),
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

/// Masks are those that the host draws, forward and backward.
#[test]
fn what_is_dropped_has_the_gradients_of_differences() {
    let cases = vec![
        around("dropout", &[9], |net, x| net.dropout(x, 0.4)),
        around("dropout of rows", &[3, 5], |net, x| {
            let x = net.tanh(x);
            let x = net.dropout(x, 0.3);
            let x = net.linear(x, 6);
            net.dropout(x, 0.5)
        }),
        around("dropout beside batch norm", &[9], |net, x| {
            let x = net.dropout(x, 0.2);
            let x = net.batch_norm(x);
            net.dropout(x, 0.3)
        }),
    ];
    check("what_is_dropped_has_the_gradients_of_differences", cases);
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
