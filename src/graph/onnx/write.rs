//! Writing a graph as ONNX: operator set 13, IR version 8, weights as raw little-endian bytes.

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ValueId};
use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};
use rten_onnx::protobuf::{EncodeMessage, MessageWriter, ProtobufError, ValueWriter, WriteValue};
use std::cell::RefCell;
use std::collections::HashSet;

/// The bytes of an ONNX file (operator set 13, IR version 8) with this network.
///
/// Reading them back gives the same network. Names that are missing or not unique get a number appended.
///
/// # Errors
/// `BadInput` if the graph is malformed (see [`Graph::check`]); `TooBig` above the 2 GiB of a Protocol Buffers file.
pub fn write(graph: &Graph) -> Result<Vec<u8>> {
    graph.check()?;
    let weights: usize = graph.values.iter().filter_map(|v| Some(v.constant.as_ref()?.len())).sum();
    if weights > (2 << 30) / 4 - (1 << 20) {
        return Err(Error::new(
            crate::error::ErrorKind::TooBig,
            format!("{weights} weights do not fit the 2 GiB of an ONNX file"),
        ));
    }
    let model = Named { name: if graph.name.is_empty() { "network" } else { &graph.name }, graph: &graph_proto(graph) };
    let mut bytes = Vec::new();
    model
        .encode(ValueWriter::new(&mut bytes))
        .map_err(|e| Error::internal(format!("the network cannot be encoded: {e}")).with_source(e))?;
    Ok(bytes)
}

/// A model whose graph has a name, which `GraphProto` leaves out and ONNX demands.
struct Named<'a> {
    name: &'a str,
    graph: &'a GraphProto,
}

struct NamedGraph<'a>(&'a Named<'a>);

impl EncodeMessage for NamedGraph<'_> {
    fn encode_fields<W: WriteValue>(&self, fields: &mut MessageWriter<W>) -> Result<(), ProtobufError> {
        fields.write_string(2, self.0.name)?;
        self.0.graph.encode_fields(fields)
    }
}

impl EncodeMessage for Named<'_> {
    fn encode_fields<W: WriteValue>(&self, fields: &mut MessageWriter<W>) -> Result<(), ProtobufError> {
        let around = ModelProto {
            ir_version: Some(8),
            producer_name: Some("wavehull".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(13) }],
            ..ModelProto::default()
        };
        around.encode_fields(fields)?;
        fields.write_message(7, &NamedGraph(self))
    }
}

fn graph_proto(graph: &Graph) -> GraphProto {
    let names = unique(graph.values.iter().map(|v| v.name.as_str()), "tensor");
    let node_names = unique(graph.nodes.iter().map(|n| n.name.as_str()), "node");
    let mut taken: HashSet<String> = names.iter().cloned().collect();
    let mut proto = GraphProto::default();
    for (value, name) in graph.values.iter().zip(&names) {
        if let Some(constant) = &value.constant {
            let raw = constant.iter().flat_map(|x| x.to_le_bytes()).collect();
            proto.initializer.push(tensor(name, &value.shape, DataType::FLOAT, raw));
        }
    }
    for (node, name) in graph.nodes.iter().zip(node_names) {
        let mut node_proto = NodeProto {
            name: Some(name),
            op_type: Some(node.op.name().to_owned()),
            input: node.inputs.iter().map(|id| names[id.0].clone()).collect(),
            output: vec![names[node.output.0].clone()],
            attribute: attributes(&node.op),
            domain: None,
        };
        if node.op == Op::Reshape {
            let target = fresh(&format!("{}_shape", names[node.output.0]), &mut taken);
            proto.initializer.push(shape_tensor(graph, node, &target));
            node_proto.input.push(target);
        }
        proto.node.push(node_proto);
    }
    proto.input.push(value_info(graph, graph.input, &names[graph.input.0]));
    let mut output = names[graph.output.0].clone();
    if !graph.nodes.iter().any(|node| node.output == graph.output) {
        // An output that is the input or a constant needs a producer of its own.
        let copy = fresh(&format!("{output}_copy"), &mut taken);
        proto.node.push(NodeProto {
            op_type: Some("Identity".to_owned()),
            input: vec![std::mem::replace(&mut output, copy.clone())],
            output: vec![copy],
            ..NodeProto::default()
        });
    }
    proto.output.push(value_info(graph, graph.output, &output));
    proto
}

/// The names, with empty and repeated ones replaced.
fn unique<'a>(names: impl Iterator<Item = &'a str>, kind: &str) -> Vec<String> {
    let mut taken = HashSet::new();
    names.map(|name| fresh(if name.is_empty() { kind } else { name }, &mut taken)).collect()
}

/// The name, or the name with the first number that makes it new.
fn fresh(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut count = 1usize;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}_{count}");
        count += 1;
    }
    candidate
}

fn attributes(op: &Op) -> Vec<AttributeProto> {
    let Op::Gemm { alpha, beta, trans_a, trans_b } = *op else {
        return Vec::new();
    };
    let named = |name: &str| AttributeProto { name: Some(name.to_owned()), ..Default::default() };
    let float = |name, x| AttributeProto { f: Some(x), r#type: Some(AttributeType::FLOAT), ..named(name) };
    let flag = |name, x| AttributeProto { i: Some(i64::from(x)), r#type: Some(AttributeType::INT), ..named(name) };
    vec![float("alpha", alpha), float("beta", beta), flag("transA", trans_a), flag("transB", trans_b)]
}

fn dims(shape: &[usize]) -> Vec<i64> {
    // Checked graphs have dimensions far below this limit.
    shape.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect()
}

fn tensor(name: &str, shape: &[usize], kind: DataType, raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims(shape),
        data_type: Some(kind),
        raw_data: Some(RefCell::new(raw)),
        ..TensorProto::default()
    }
}

fn shape_tensor(graph: &Graph, node: &Node, name: &str) -> TensorProto {
    let shape = &graph.value(node.output).shape;
    let raw = dims(shape).iter().flat_map(|dim| dim.to_le_bytes()).collect();
    tensor(name, &[shape.len()], DataType::INT64, raw)
}

fn value_info(graph: &Graph, id: ValueId, name: &str) -> ValueInfoProto {
    let dim = |&size: &i64| Dimension { dim_value: Some(size), dim_param: None };
    let shape = TensorShapeProto { dim: dims(&graph.value(id).shape).iter().map(dim).collect() };
    let tensor = TypeProtoTensor { elem_type: Some(DataType::FLOAT), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(tensor), sequence: None }),
    }
}
