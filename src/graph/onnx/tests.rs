mod networks;
mod operators;
mod round_trip;

use super::*;
use crate::graph::Op;
use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataLocation, DataType, Dimension, GraphProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};
use std::cell::RefCell;

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn attribute(name: &str) -> AttributeProto {
    AttributeProto { name: Some(name.into()), ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = Some(AttributeType::INTS);
    AttributeProto { ints: ints.to_vec(), r#type, ..attribute(name) }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), r#type: Some(AttributeType::INT), ..attribute(name) }
}

fn with(mut node: NodeProto, attributes: &[AttributeProto]) -> NodeProto {
    node.attribute.extend_from_slice(attributes);
    node
}

fn word(name: &str, word: &str) -> AttributeProto {
    AttributeProto { s: Some(word.into()), r#type: Some(AttributeType::STRING), ..attribute(name) }
}

fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::FLOAT),
        float_data: data.to_vec(),
        ..TensorProto::default()
    }
}

fn int64s(name: &str, data: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![data.len() as i64],
        data_type: Some(DataType::INT64),
        int64_data: data.to_vec(),
        ..TensorProto::default()
    }
}

/// A value of FLOAT; 0 stands for a dimension that is named `N`.
fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| match d {
        0 => Dimension { dim_value: None, dim_param: Some("N".into()) },
        d => Dimension { dim_value: Some(d), dim_param: None },
    };
    let tensor = TypeProtoTensor {
        elem_type: Some(DataType::FLOAT),
        shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { tensor_type: Some(tensor), sequence: None }) }
}

/// A network from `x` to `y`.
fn network(input: &[i64], nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        initializer,
        input: vec![value("x", input)],
        output: vec![value("y", &[])],
        value_info: vec![],
    }
}

fn bytes(graph: GraphProto) -> Vec<u8> {
    let opset = OperatorSetIdProto { domain: None, version: Some(9) };
    ModelProto { ir_version: Some(4), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() }
        .write_buf()
        .unwrap()
}

/// A small valid model with most kinds of fields.
fn sample() -> GraphProto {
    let nodes = vec![
        with(node("Flatten", &["x"], "f"), &[int("axis", 1)]),
        with(node("Gemm", &["f", "w", "b"], "g"), &[int("transB", 1)]),
        node("Relu", &["g"], "r"),
        with(node("Reshape", &["r"], "s"), &[ints("shape", &[0, -1])]),
        node("MatMul", &["s", "v"], "y"),
    ];
    let raw = [0.5f32, 1.5].iter().flat_map(|x| x.to_le_bytes()).collect();
    let v = TensorProto { raw_data: Some(RefCell::new(raw)), ..floats("v", &[2, 1], &[]) };
    let w = floats("w", &[2, 4], &[1.0, -2.0, 3.0, 0.5, 0.25, 1.0, -1.0, 2.0]);
    network(&[0, 2, 2], nodes, vec![w, floats("b", &[2], &[0.5, -0.5]), v])
}

fn evaluate(graph: GraphProto, input: &[f64]) -> Vec<f64> {
    parse(&bytes(graph)).unwrap().eval_f64(input).unwrap()
}

/// The kind and the text of the error with its help, which every refusal has.
fn refusal(graph: GraphProto) -> (ErrorKind, String) {
    let error = parse(&bytes(graph)).unwrap_err();
    let help = error.help().unwrap_or_else(|| panic!("no help: {error}"));
    (error.kind(), format!("{error}; help: {help}"))
}

#[track_caller]
fn assert_refused(graph: GraphProto, kind: ErrorKind, parts: &[&str]) {
    let (found, text) = refusal(graph);
    assert_eq!(found, kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

use ErrorKind::{BadInput, Unsupported};

#[test]
fn a_symbolic_batch_is_one_and_a_fixed_one_stays() {
    assert_eq!(evaluate(sample(), &[1.0, 2.0, 3.0, 4.0]), [0.5 * 8.5 + 1.5 * 6.75]);
    for (declared, shape) in [([0, 2], vec![1, 2]), ([-1, 2], vec![1, 2]), ([3, 2], vec![3, 2])] {
        let graph = network(&declared, vec![node("Relu", &["x"], "y")], vec![]);
        let graph = parse(&bytes(graph)).unwrap();
        assert_eq!(graph.value(graph.input).shape, shape);
    }
    let open = network(&[1, 0], vec![node("Relu", &["x"], "y")], vec![]);
    assert_refused(open, Unsupported, &["'x'", "dimension 1 (N)"]);
}

#[test]
fn initializers_among_the_inputs_are_no_inputs() {
    let mut graph = sample();
    graph.input.insert(0, value("w", &[2, 4]));
    graph.input.push(value("b", &[2]));
    let graph = parse(&bytes(graph)).unwrap();
    assert_eq!(graph.value(graph.input).name, "x");
}

#[test]
fn nodes_are_sorted_and_unneeded_ones_left_out() {
    let mut graph = sample();
    graph.node.reverse();
    graph.node.push(node("NoSuchOperator", &["r"], "unused"));
    let parsed = parse(&bytes(graph)).unwrap();
    let ops: Vec<&str> = parsed.nodes.iter().map(|n| n.op.name()).collect();
    assert_eq!(ops, ["Reshape", "Gemm", "Relu", "Reshape", "MatMul"]);
    assert_eq!(parsed.nodes[1].name, "Gemm_3");
    assert_eq!(parsed.eval_f64(&[1.0, 2.0, 3.0, 4.0]).unwrap(), [0.5 * 8.5 + 1.5 * 6.75]);
}

#[test]
fn shapes_come_from_attributes_or_operands() {
    let old = vec![
        with(node("Unsqueeze", &["x"], "a"), &[ints("axes", &[0, 3])]),
        with(node("Squeeze", &["a"], "b"), &[ints("axes", &[0])]),
        with(node("Reshape", &["b"], "y"), &[ints("shape", &[3, -1])]),
    ];
    let new = vec![
        node("Unsqueeze", &["x", "outer"], "a"),
        node("Squeeze", &["a", "first"], "b"),
        node("Identity", &["target"], "same"),
        node("Reshape", &["b", "same"], "y"),
    ];
    let lists = [("outer", &[0, -1][..]), ("first", &[0]), ("target", &[3, -1])];
    let lists = lists.map(|(name, list)| int64s(name, list)).to_vec();
    for graph in [network(&[2, 3], old, vec![]), network(&[2, 3], new, lists)] {
        let graph = parse(&bytes(graph)).unwrap();
        let shapes: Vec<&[usize]> = graph.nodes.iter().map(|n| graph.value(n.output).shape.as_slice()).collect();
        assert_eq!(shapes, [&[1, 2, 3, 1][..], &[2, 3, 1], &[3, 2]]);
    }
    let dynamic = network(&[1, 2], vec![node("Reshape", &["x", "x"], "y")], vec![]);
    assert_refused(dynamic, Unsupported, &["'Reshape_0'", "not a constant list of integers"]);
}

#[test]
fn old_broadcasting_aligns_at_its_axis() {
    let add = with(node("Add", &["x", "c"], "y"), &[int("broadcast", 1), int("axis", 1)]);
    let graph = network(&[1, 2, 2], vec![add], vec![floats("c", &[2], &[10.0, 20.0])]);
    assert_eq!(evaluate(graph, &[1.0, 2.0, 3.0, 4.0]), [11.0, 12.0, 23.0, 24.0]);
    let add = with(node("Add", &["x", "c"], "y"), &[int("broadcast", 1), int("axis", 3)]);
    let graph = network(&[1, 2, 2], vec![add], vec![floats("c", &[2], &[10.0, 20.0])]);
    assert_refused(graph, BadInput, &["[2]", "[1, 2, 2]", "axis 3"]);
}

#[test]
fn dropout_and_constants_are_read_in_all_forms() {
    let tensor = AttributeProto { t: Some(floats("", &[1], &[3.0])), ..attribute("value") };
    let scalar = AttributeProto { f: Some(0.5), ..attribute("value_float") };
    let list = AttributeProto { floats: vec![1.0, 2.0], ..attribute("value_floats") };
    let nodes = vec![
        with(node("Constant", &[], "three"), &[tensor]),
        with(node("Constant", &[], "half"), &[scalar]),
        with(node("Constant", &[], "list"), &[list]),
        with(node("Constant", &[], "no"), &[int("value_int", 0)]),
        node("Dropout", &["x", "half", "no"], "d"),
        node("Mul", &["three", "half"], "m"),
        node("Sub", &["m", "list"], "s"),
        node("Add", &["d", "s"], "y"),
    ];
    let graph = parse(&bytes(network(&[0, 2], nodes, vec![]))).unwrap();
    assert_eq!(graph.nodes.len(), 2, "exact constant arithmetic is folded");
    assert_eq!(graph.nodes[0].op, Op::Dropout { rate: 0.5 });
    assert_eq!(graph.eval_f64(&[1.0, 1.0]).unwrap(), [1.5, 0.5]);
    let training = vec![node("Dropout", &["x", "", "yes"], "y")];
    let graph = network(&[0, 2], training, vec![int64s("yes", &[1])]);
    assert_refused(graph, Unsupported, &["'Dropout_0'", "training mode", "model.eval()"]);
}

#[test]
fn inexact_constant_arithmetic_stays_in_the_graph() {
    let nodes = vec![node("Div", &["one", "three"], "third"), node("Add", &["x", "third"], "y")];
    let constants = vec![floats("one", &[1], &[1.0]), floats("three", &[1], &[3.0])];
    let graph = parse(&bytes(network(&[0, 1], nodes, constants))).unwrap();
    assert_eq!(graph.nodes.len(), 2);
    assert_eq!(graph.eval_f64(&[0.0]).unwrap(), [1.0 / 3.0]);
}

#[test]
fn doubles_are_read_if_f32_holds_them() {
    let double = |x: f64| TensorProto {
        data_type: Some(DataType::DOUBLE),
        double_data: vec![0.25, x],
        ..floats("c", &[1, 2], &[])
    };
    let graph = |c| network(&[0, 2], vec![node("Add", &["x", "c"], "y")], vec![c]);
    assert_eq!(evaluate(graph(double(-0.5)), &[0.0, 0.0]), [0.25, -0.5]);
    let parts = ["'c'", "1e-1", "[0, 1]", "exactly"];
    assert_refused(graph(double(0.1)), Unsupported, &parts);
}

#[test]
fn unknown_operators_and_attributes_name_the_node() {
    let einsum = NodeProto { name: Some("E_3".into()), ..node("Einsum", &["x"], "y") };
    let parts = ["node 'E_3' uses the operator Einsum", "supported operators are Add, AveragePool"];
    assert_refused(network(&[1, 2], vec![einsum], vec![]), Unsupported, &parts);
    let foreign = NodeProto { domain: Some("com.microsoft".into()), ..node("Gemm", &["x"], "y") };
    let parts = ["'Gemm_0'", "com.microsoft.Gemm"];
    assert_refused(network(&[1, 2], vec![foreign], vec![]), Unsupported, &parts);
    let odd = with(node("Relu", &["x"], "y"), &[int("slope", 1)]);
    let parts = ["'Relu_0'", "'slope'"];
    assert_refused(network(&[1, 2], vec![odd], vec![]), Unsupported, &parts);
    let mistyped = with(node("Flatten", &["x"], "y"), &[ints("axis", &[1])]);
    assert_refused(network(&[1, 2], vec![mistyped], vec![]), BadInput, &["'axis'", "type 7"]);
}

#[test]
fn names_must_form_a_feed_forward_graph() {
    let cyclic = vec![
        node("Relu", &["x"], "a"),
        node("Add", &["a", "d"], "b"),
        node("Relu", &["b"], "d"),
        node("Relu", &["d"], "y"),
    ];
    let (kind, text) = refusal(network(&[1, 2], cyclic, vec![]));
    assert_eq!(kind, BadInput);
    assert!(text.contains("cyclic: node 'Add_1'") || text.contains("cyclic: node 'Relu_2'"));
    let loose = network(&[1, 2], vec![node("Add", &["x", "w"], "y")], vec![]);
    assert_refused(loose, BadInput, &["'Add_0'", "'w'", "nothing produces"]);
    let twice = vec![node("Relu", &["x"], "y"), node("Relu", &["x"], "y")];
    let parts = ["'y'", "'Relu_0'", "'Relu_1'"];
    assert_refused(network(&[1, 2], twice, vec![]), BadInput, &parts);
    let over = network(&[1, 2], vec![node("Relu", &["x"], "x")], vec![]);
    assert_refused(over, BadInput, &["'x'", "writes over"]);
    let nowhere = network(&[1, 2], vec![node("Relu", &["x"], "z")], vec![]);
    assert_refused(nowhere, BadInput, &["nothing produces the output 'y'"]);
    let mut second = node("Dropout", &["x"], "d");
    second.output.push("mask".into());
    let nodes = vec![second, node("Relu", &["mask"], "y")];
    assert_refused(network(&[1, 2], nodes, vec![]), Unsupported, &["'mask'", "first output"]);
}

#[test]
fn one_input_and_one_output() {
    let relu = || vec![node("Relu", &["x"], "y")];
    let mut graph = network(&[1, 2], relu(), vec![]);
    graph.input.push(value("z", &[1]));
    assert_refused(graph, Unsupported, &["2 inputs", "\"x\", \"z\""]);
    let mut graph = network(&[1, 2], relu(), vec![]);
    graph.output.push(value("x", &[1]));
    assert_refused(graph, Unsupported, &["2 outputs", "\"y\", \"x\""]);
    let mut graph = network(&[1, 2], relu(), vec![]);
    graph.output.clear();
    assert_refused(graph, BadInput, &["no output"]);
}

#[test]
fn shapes_that_do_not_fit_are_both_named() {
    let graph = |op, dims: &[i64], data: &[f32]| {
        network(&[1, 3], vec![node(op, &["x", "w"], "y")], vec![floats("w", dims, data)])
    };
    let parts = ["'MatMul_0'", "[1, 3]", "[2, 2]"];
    assert_refused(graph("MatMul", &[2, 2], &[0.0; 4]), BadInput, &parts);
    assert_refused(graph("Add", &[2], &[0.0; 2]), BadInput, &["'Add_0'", "[1, 3]", "[2]"]);
    let reshape = with(node("Reshape", &["x"], "y"), &[ints("shape", &[2, 2])]);
    let parts = ["'Reshape_0'", "[1, 3]", "[2, 2]"];
    assert_refused(network(&[1, 3], vec![reshape], vec![]), BadInput, &parts);
}

#[test]
fn tensors_must_be_whole_and_finite() {
    let graph = |c| network(&[1, 3], vec![node("Add", &["x", "c"], "y")], vec![c]);
    let nan = floats("c", &[1, 3], &[0.0, f32::NAN, 0.0]);
    assert_refused(graph(nan), BadInput, &["'c'", "NaN at [0, 1]"]);
    let infinite = floats("c", &[1, 3], &[0.0, 0.0, f32::NEG_INFINITY]);
    assert_refused(graph(infinite), BadInput, &["'c'", "infinity at [0, 2]"]);
    let short = floats("c", &[1, 3], &[0.0, 0.0]);
    assert_refused(graph(short), BadInput, &["'c'", "[1, 3]", "2 numbers, not 3"]);
    let raw = Some(RefCell::new(vec![0; 11]));
    let ragged = TensorProto { raw_data: raw, ..floats("c", &[1, 3], &[]) };
    assert_refused(graph(ragged), BadInput, &["'c'", "11 bytes, not 12"]);
    let external = TensorProto { data_location: Some(DataLocation::EXTERNAL), ..floats("c", &[1, 3], &[]) };
    assert_refused(graph(external), Unsupported, &["'c'", "another file", "save_as_external_data"]);
    let half = TensorProto { data_type: Some(DataType::FLOAT16), ..floats("c", &[3], &[]) };
    assert_refused(graph(half), Unsupported, &["'c'", "FLOAT16"]);
    let integers = int64s("c", &[1, 2, 3]);
    assert_refused(graph(integers), Unsupported, &["'Add_0'", "'c'", "integers"]);
}

#[test]
fn huge_dimensions_are_errors_and_not_allocations() {
    let graph = |dims: &[i64]| network(&[1, 3], vec![node("Add", &["x", "c"], "y")], vec![floats("c", dims, &[0.0])]);
    for dims in [&[i64::MAX, i64::MAX][..], &[-1, 3], &[1 << 40]] {
        let error = parse(&bytes(graph(dims))).unwrap_err();
        assert!(error.to_string().contains("'c'"), "{error}");
    }
    let wide = network(&[1, i64::MAX], vec![node("Relu", &["x"], "y")], vec![]);
    assert!(parse(&bytes(wide)).unwrap_err().to_string().contains("'x'"));
}

#[test]
fn bytes_that_are_no_network_are_refused() {
    let whole = bytes(sample());
    for damaged in [&b"hello, this is no network"[..], b"", &whole[..whole.len() / 2], &[0x80; 40]] {
        let error = parse(damaged).unwrap_err();
        assert_eq!(error.kind(), BadInput);
        assert!(error.to_string().contains("ONNX file"), "{error}");
        assert!(error.help().is_some());
    }
}
