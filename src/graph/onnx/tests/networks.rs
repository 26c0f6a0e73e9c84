//! Operators of networks that are trained: what they are written as, what they are read from, and refusals.

use super::*;
use crate::graph::testing::{Random, Sketch};
use crate::graph::{Graph, Op, ValueId};

/// Every operator that is written as several nodes or with a newer operator set.
pub(super) fn sketch() -> Sketch {
    let mut random = Random::new(3);
    let mut s = Sketch::new(&[1, 4]);
    let table = s.random(&[7, 6], &mut random);
    let x = s.node(Op::Embedding { padding: None }, &[ValueId(0), table]);
    let (scale, bias) = (s.random(&[6], &mut random), s.random(&[6], &mut random));
    let x = s.node(Op::LayerNormalization { axis: 2, epsilon: 1e-3 }, &[x, scale, bias]);
    let turned = s.node(Op::Transpose { perm: vec![0, 2, 1] }, &[x]);
    let scores = s.node(Op::MatMul, &[x, turned]);
    let weights = s.node(Op::CausalSoftmax, &[scores]);
    let weights = s.node(Op::CausalSoftmax, &[weights]);
    let weights = s.node(Op::Dropout { rate: 0.125 }, &[weights]);
    let x = s.node(Op::MatMul, &[weights, x]);
    let x = s.node(Op::Gelu, &[x]);
    let x = s.node(Op::LeakyRelu { alpha: 0.2 }, &[x]);
    let (scale, bias) = (s.random(&[4], &mut random), s.random(&[4], &mut random));
    s.node(Op::GroupNormalization { groups: 2, epsilon: 1e-4 }, &[x, scale, bias]);
    s
}

fn ops(graph: &Graph) -> Vec<Op> {
    graph.nodes.iter().map(|node| node.op.clone()).collect()
}

/// The version of the standard operators that a file states.
fn version(bytes: &[u8]) -> i64 {
    opset(&ModelProto::parse_buf(bytes).unwrap())
}

#[test]
fn networks_to_train_read_back_as_themselves() {
    let graph = sketch().graph;
    let bytes = write(&graph).unwrap();
    assert_eq!(version(&bytes), 21);
    let read = parse(&bytes).unwrap();
    assert_eq!(ops(&read), ops(&graph));
    let ids = [3.0, 0.0, 6.0, 3.0];
    assert_eq!(read.eval_f64_bounded(&ids).unwrap(), graph.eval_f64_bounded(&ids).unwrap());
    // One mask for both, which does not stay behind.
    assert_eq!(read.values.len(), graph.values.len());
    assert_eq!(write(&read).unwrap().len(), bytes.len());
}

#[test]
fn files_state_the_first_operator_set_that_has_their_operators() {
    let with = |op: Op, constants: usize| {
        let mut s = Sketch::new(&[1, 4]);
        let constants: Vec<ValueId> = (0..constants).map(|_| s.constant(&[4], &[0.5; 4])).collect();
        s.node(op, &[&[ValueId(0)], &constants[..]].concat());
        version(&write(&s.graph).unwrap())
    };
    assert_eq!(with(Op::Dropout { rate: 0.5 }, 0), 13);
    assert_eq!(with(Op::LeakyRelu { alpha: 0.5 }, 0), 13);
    assert_eq!(with(Op::LayerNormalization { axis: 1, epsilon: 1e-5 }, 2), 17);
    assert_eq!(with(Op::Gelu, 0), 20);
    assert_eq!(with(Op::GroupNormalization { groups: 2, epsilon: 1e-5 }, 2), 21);
}

/// Scores `[1, 2, 3, 3]`, a sum with this mask and a Softmax.
fn masked(dims: &[i64], mask: &[f32]) -> Graph {
    let nodes = vec![node("Add", &["m", "x"], "s"), with(node("Softmax", &["s"], "y"), &[int("axis", 3)])];
    parse(&bytes(network(&[1, 2, 3, 3], nodes, vec![floats("m", dims, mask)]))).unwrap()
}

#[test]
fn only_a_triangle_of_very_negative_numbers_is_a_causal_mask() {
    let triangle = |low: f32| [0.0, low, low, 0.0, 0.0, low, 0.0, 0.0, 0.0];
    for low in [-1e9, f32::MIN] {
        assert_eq!(ops(&masked(&[3, 3], &triangle(low))), [Op::CausalSoftmax]);
        assert_eq!(masked(&[1, 1, 3, 3], &triangle(low)).values.len(), 2);
    }
    let softmax = Op::Softmax { axis: 3 };
    assert_eq!(ops(&masked(&[3, 3], &triangle(-1e4))), [Op::Add, softmax.clone()]);
    let mut bias = triangle(-1e9);
    bias[3] = 0.5;
    assert_eq!(ops(&masked(&[3, 3], &bias)), [Op::Add, softmax.clone()]);
    let mut shorter = triangle(-1e9);
    shorter[2] = 0.0;
    assert_eq!(ops(&masked(&[3, 3], &shorter)), [Op::Add, softmax]);
    // A sum that something else reads as well stays.
    let nodes = vec![
        node("Add", &["x", "m"], "s"),
        with(node("Softmax", &["s"], "p"), &[int("axis", 1)]),
        node("Mul", &["p", "s"], "y"),
    ];
    let graph = network(&[3, 3], nodes, vec![floats("m", &[3, 3], &triangle(-1e9))]);
    assert_eq!(ops(&parse(&bytes(graph)).unwrap()), [Op::Add, Op::CausalSoftmax, Op::Mul]);
}

/// A network whose input is of integers.
fn of_integers(dims: &[i64], nodes: Vec<NodeProto>) -> GraphProto {
    let mut graph = network(dims, nodes, vec![floats("w", &[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]);
    let tensor = graph.input[0].r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut());
    tensor.unwrap().elem_type = Some(DataType::INT64);
    graph
}

#[test]
fn integers_name_rows_of_tables_and_nothing_else() {
    let gathered = evaluate(of_integers(&[0, 2], vec![node("Gather", &["w", "x"], "y")]), &[2.0, 0.0]);
    assert_eq!(gathered, [4.0, 5.0, 0.0, 1.0]);
    let nodes = vec![
        with(node("Reshape", &["x"], "r"), &[ints("shape", &[4])]),
        with(node("Cast", &["r"], "c"), &[int("to", 7)]),
        node("Gather", &["w", "c"], "y"),
    ];
    let graph = parse(&bytes(of_integers(&[2, 2], nodes))).unwrap();
    assert_eq!(ops(&graph), [Op::Reshape, Op::Embedding { padding: None }]);
    assert_eq!(graph.value(graph.output).shape, [4, 2]);
    let sum = of_integers(&[0, 2], vec![node("Add", &["x", "w"], "y")]);
    assert_refused(sum, Unsupported, &["'Add_0'", "whole numbers of tensor 'x'", "Gather"]);
    let back = of_integers(&[0, 2], vec![with(node("Cast", &["x"], "y"), &[int("to", 1)])]);
    assert_refused(back, Unsupported, &["'Cast_0'", "element type 1"]);
    let nested = vec![node("Gather", &["x", "x"], "y")];
    assert_refused(of_integers(&[0, 2], nested), Unsupported, &["'Gather_0'", "'x'"]);
    let column = vec![with(node("Gather", &["w", "x"], "y"), &[int("axis", 1)])];
    assert_refused(of_integers(&[0, 2], column), Unsupported, &["'Gather_0'", "rows of a constant table"]);
}

#[test]
fn attributes_and_parameters_that_do_not_fit_are_refused() {
    let one = |op: &str, attributes: &[AttributeProto], operands: &[&str]| {
        let node = with(node(op, &[&["x"], operands].concat(), "y"), attributes);
        network(&[1, 4], vec![node], vec![floats("s", &[4], &[1.0; 4]), floats("t", &[3], &[1.0; 3])])
    };
    assert_refused(one("Gelu", &[], &[]), Unsupported, &["'Gelu_0'", "approximate", "tanh"]);
    let groups = one("GroupNormalization", &[int("num_groups", 2)], &["s", "s"]);
    assert_refused(groups, Unsupported, &["'GroupNormalization_0'", "operator set 21"]);
    let long = one("LayerNormalization", &[], &["t", "t"]);
    assert_refused(long, BadInput, &["'LayerNormalization_0'", "[3]", "needs [4]"]);
    let zero = AttributeProto { f: Some(0.0), ..attribute("epsilon") };
    assert_refused(one("LayerNormalization", &[zero], &["s"]), BadInput, &["'epsilon' is 0"]);
    assert_refused(one("LayerNormalization", &[], &["x", "s"]), Unsupported, &["its scale 'x'"]);
    let plain = parse(&bytes(one("LayerNormalization", &[], &["s"]))).unwrap();
    assert_eq!(ops(&plain), [Op::LayerNormalization { axis: 1, epsilon: 1e-5 }]);
    let sum: f64 = plain.eval_f64(&[1.0, 2.0, 3.0, 6.0]).unwrap().iter().sum();
    assert!(sum.abs() < 1e-14, "a bias of 0: {sum}");
    let leaky = parse(&bytes(one("LeakyRelu", &[], &[]))).unwrap();
    assert_eq!(ops(&leaky), [Op::LeakyRelu { alpha: 0.01 }]);
}

#[test]
fn weights_of_sequences_keep_their_names() {
    let conv =
        network(&[0, 1, 3], vec![node("Conv", &["x", "w"], "y")], vec![floats("w", &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0])]);
    let graph = parse(&bytes(conv)).unwrap();
    let constants: Vec<_> = graph.values.iter().filter(|value| value.constant.is_some()).collect();
    assert_eq!(constants.len(), 1);
    assert_eq!((constants[0].name.as_str(), &constants[0].shape[..]), ("w", &[2, 1, 1, 2][..]));
    assert_eq!(graph.eval_f64(&[1.0, 0.0, 2.0]).unwrap(), [1.0, 4.0, 3.0, 8.0]);
}

#[test]
fn reductions_are_pools_over_all_that_is_reduced() {
    let x: Vec<f64> = (0..24).map(|i| f64::from((i * 7) % 24)).collect();
    let at = |i: usize, j: usize, k: usize| x[i * 12 + j * 4 + k];
    let run = |op: &str, attributes: &[AttributeProto]| {
        let graph = parse(&bytes(network(&[2, 3, 4], vec![with(node(op, &["x"], "y"), attributes)], vec![]))).unwrap();
        (graph.value(graph.output).shape.clone(), graph.eval_f64(&x).unwrap())
    };
    let largest: Vec<f64> = (0..6).map(|row| (0..4).map(|k| at(row / 3, row % 3, k)).fold(0.0, f64::max)).collect();
    assert_eq!(run("ReduceMax", &[ints("axes", &[-1])]), (vec![2, 3, 1], largest));
    let mean = |i: usize| (0..12).map(|jk| at(i, jk / 4, jk % 4)).sum::<f64>() / 12.0;
    let flat = [ints("axes", &[1, 2]), int("keepdims", 0)];
    assert_eq!(run("ReduceMean", &flat), (vec![2], vec![mean(0), mean(1)]));
    let columns: Vec<f64> = (0..8).map(|ik| (0..3).map(|j| at(ik / 4, j, ik % 4)).fold(0.0, f64::max)).collect();
    assert_eq!(run("ReduceMax", &[ints("axes", &[1])]), (vec![2, 1, 4], columns));
    assert_eq!(run("ReduceMax", &[int("keepdims", 0)]), (vec![], vec![23.0]));
    let outside = with(node("ReduceMax", &["x"], "y"), &[ints("axes", &[3])]);
    assert_refused(network(&[2, 3, 4], vec![outside], vec![]), BadInput, &["'ReduceMax_0'", "axis 3"]);
}
