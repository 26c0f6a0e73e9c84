//! Which constants of a file are parameters.

use super::*;
use crate::graph::{Op, Value, onnx};
use crate::train::{Builder, Conv2d};
use ndarray::{ArrayD, IxDyn};
use std::sync::Arc;

fn constant(graph: &mut Graph, name: &str, shape: &[usize], number: f32) -> ValueId {
    let constant = Some(Arc::new(ArrayD::from_elem(IxDyn(shape), number)));
    graph.values.push(Value { name: name.to_owned(), shape: shape.to_vec(), constant });
    ValueId(graph.values.len() - 1)
}

fn node(graph: &mut Graph, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
    graph.values.push(Value { name: format!("v{}", graph.values.len()), shape: shape.to_vec(), constant: None });
    let output = ValueId(graph.values.len() - 1);
    graph.nodes.push(Node { name: format!("n{}", output.0), op, inputs: inputs.to_vec(), output });
    graph.output = output;
    output
}

#[test]
fn weights_are_parameters_and_preparation_masks_and_numbers_are_not() {
    let input = Value { name: "x".into(), shape: vec![1, 4], constant: None };
    let mut g =
        Graph { name: "file".into(), values: vec![input], nodes: vec![], input: ValueId(0), output: ValueId(0) };
    let (mean, factor) = (constant(&mut g, "mean", &[4], 0.5), constant(&mut g, "factor", &[4], 2.0));
    let (w, b) = (constant(&mut g, "w", &[4, 3], 0.25), constant(&mut g, "b", &[3], 1.0));
    let (half, mask) = (constant(&mut g, "half", &[1], 0.5), constant(&mut g, "mask", &[3], -1e9));
    let (gain, shift) = (constant(&mut g, "gain", &[3], 1.5), constant(&mut g, "shift", &[3], 0.5));
    let x = node(&mut g, Op::Add, &[ValueId(0), mean], &[1, 4]);
    let x = node(&mut g, Op::Mul, &[x, factor], &[1, 4]);
    let x = node(&mut g, Op::MatMul, &[x, w], &[1, 3]);
    let x = node(&mut g, Op::Add, &[b, x], &[1, 3]);
    let x = node(&mut g, Op::Mul, &[x, half], &[1, 3]);
    let x = node(&mut g, Op::Add, &[x, mask], &[1, 3]);
    let x = node(&mut g, Op::Mul, &[x, gain], &[1, 3]);
    let x = node(&mut g, Op::Sub, &[x, shift], &[1, 3]);
    node(&mut g, Op::Add, &[x, mask], &[1, 3]);
    let model = Model::from_graph(g).expect("it has weights");
    let names: Vec<&str> = model.parameters.iter().map(|p| model.name(p)).collect();
    assert_eq!(names, ["w", "b", "gain"]);
    assert!(model.parameters.iter().all(|p| p.init == Init::Given));
    assert_eq!(model.parameter_count(), 12 + 3 + 3);
}

#[test]
fn vectors_that_a_file_writes_once_are_trained_apart_and_matrices_together() {
    let input = Value { name: "x".into(), shape: vec![1, 4], constant: None };
    let mut g =
        Graph { name: "file".into(), values: vec![input], nodes: vec![], input: ValueId(0), output: ValueId(0) };
    let (w, zero, one) =
        (constant(&mut g, "w", &[4, 4], 0.25), constant(&mut g, "zero", &[4], 0.0), constant(&mut g, "one", &[4], 1.0));
    constant(&mut g, "zero_1", &[4], 3.0);
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let x = node(&mut g, gemm.clone(), &[ValueId(0), w, zero], &[1, 4]);
    let x = node(&mut g, Op::BatchNormalization { epsilon: 1e-5 }, &[x, one, zero, zero, one], &[1, 4]);
    node(&mut g, gemm, &[x, w, zero], &[1, 4]);
    let model = Model::from_graph(g.clone()).expect("it has weights");
    let names: Vec<&str> = model.parameters.iter().map(|p| model.name(p)).collect();
    assert_eq!(names, ["w", "zero", "one", "zero_2", "zero_4"]);
    let statistics: Vec<&str> =
        model.graph.nodes[1].inputs[3..].iter().map(|id| model.graph.value(*id).name.as_str()).collect();
    assert_eq!(statistics, ["zero_3", "one_1"]);
    let point = [0.5, -1.0, 2.0, 0.25];
    assert_eq!(model.graph.eval_f64(&point).expect("it runs"), g.eval_f64(&point).expect("it runs"));
}

#[test]
fn a_network_without_weights_is_refused() {
    let input = Value { name: "x".into(), shape: vec![1, 4], constant: None };
    let mut g =
        Graph { name: "file".into(), values: vec![input], nodes: vec![], input: ValueId(0), output: ValueId(0) };
    node(&mut g, Op::Relu, &[ValueId(0)], &[1, 4]);
    let error = Model::from_graph(g).expect_err("nothing to train");
    assert!(error.to_string().contains("'file'") && error.help().is_some(), "{error}");
}

#[test]
fn a_built_network_has_the_same_parameters_when_it_is_read_back() {
    let mut net = Builder::new("net", &[5]);
    let x = net.input();
    let x = net.embedding(x, 7, 6);
    let x = net.positions(x);
    let x = net.layer_norm(x);
    let x = net.reshape(x, &[2, 3, 5]);
    let x = net.conv2d(x, Conv2d { channels: 4, kernel: [1; 2], ..Conv2d::default() });
    let x = net.batch_norm(x);
    let x = net.group_norm(x, 2);
    let x = net.dropout(x, 0.25);
    let x = net.scale(x, 3.0);
    let x = net.linear(x, 3);
    let model = net.finish(x).expect("it fits");
    let bytes = onnx::write(&model.graph).expect("it is written");
    let read = Model::from_graph(onnx::parse(&bytes).expect("it is read")).expect("it has weights");
    let names = |model: &Model| model.parameters.iter().map(|p| model.name(p).to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&read), names(&model));
    assert_eq!(read.parameter_count(), model.parameter_count());
}
