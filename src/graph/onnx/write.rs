//! Writing a graph as ONNX: operator set 13, IR version 8, weights as raw little-endian bytes. What set 13 cannot say (a
//! mean over dilated windows) is written with set 19, IR version 9. `Select` becomes a Reshape to one axis and a Gather.

mod attributes;

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ValueId};
use rten_onnx::onnx::{
    DataType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, TypeProtoTensor, ValueInfoProto,
};
use rten_onnx::protobuf::{EncodeMessage, MessageWriter, ProtobufError, ValueWriter, WriteValue};
use std::cell::RefCell;
use std::collections::HashSet;

/// The bytes of an ONNX file (operator set 13, IR version 8; 19 and 9 for means over dilated windows) with this network.
///
/// Reading them back gives the same network, but for a Reshape before a Select of a tensor with several axes. Names that are missing or not unique get a number appended.
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
    let dilated = |node: &Node| matches!(&node.op, Op::AveragePool { window, .. } if window.dilations != [1; 2]);
    let versions = if graph.nodes.iter().any(dilated) { (19, 9) } else { (13, 8) };
    let name = if graph.name.is_empty() { "network" } else { &graph.name };
    let model = Named { name, graph: &graph_proto(graph), versions };
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
    /// Of the operator set and of the IR.
    versions: (i64, i64),
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
            ir_version: Some(self.versions.1),
            producer_name: Some("wavehull".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(self.versions.0) }],
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
            attribute: attributes::of(&node.op),
            domain: None,
        };
        let operands = Operands { graph, node, output: &names[node.output.0] };
        operands.add(&mut node_proto, &mut proto, &mut taken);
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

/// Operands that are attributes of an [`Op`] and tensors in ONNX.
struct Operands<'a> {
    graph: &'a Graph,
    node: &'a Node,
    output: &'a str,
}

impl Operands<'_> {
    fn add(&self, to: &mut NodeProto, proto: &mut GraphProto, taken: &mut HashSet<String>) {
        let shape = &self.graph.value(self.node.output).shape;
        match &self.node.op {
            Op::Reshape => {
                let target = self.integers("shape", &[shape.len()], shape, proto, taken);
                to.input.push(target);
            }
            Op::Pad { pads, value } => {
                let (before, after): (Vec<usize>, Vec<usize>) = pads.iter().map(|&[a, b]| (a, b)).unzip();
                let list = [before, after].concat();
                to.input.push(self.integers("pads", &[list.len()], &list, proto, taken));
                let name = fresh(&format!("{}_value", self.output), taken);
                proto.initializer.push(tensor(&name, &[], DataType::FLOAT, value.to_le_bytes().to_vec()));
                to.input.push(name);
            }
            Op::Select { indices } => {
                to.op_type = Some("Gather".to_owned());
                self.flatten(to, proto, taken);
                to.input.push(self.integers("indices", shape, indices, proto, taken));
            }
            _ => {}
        }
    }

    /// Puts a Reshape to one axis in front of the first operand, unless it has one axis.
    fn flatten(&self, to: &mut NodeProto, proto: &mut GraphProto, taken: &mut HashSet<String>) {
        let shape = &self.graph.value(self.node.inputs[0]).shape;
        if shape.len() == 1 {
            return;
        }
        let len: usize = shape.iter().product();
        let target = self.integers("length", &[1], &[len], proto, taken);
        let flat = fresh(&format!("{}_flat", self.output), taken);
        proto.node.push(NodeProto {
            op_type: Some("Reshape".to_owned()),
            input: vec![std::mem::replace(&mut to.input[0], flat.clone()), target],
            output: vec![flat],
            ..NodeProto::default()
        });
    }

    /// Adds a tensor of integers and returns its name.
    fn integers(
        &self,
        suffix: &str,
        shape: &[usize],
        data: &[usize],
        proto: &mut GraphProto,
        taken: &mut HashSet<String>,
    ) -> String {
        let name = fresh(&format!("{}_{suffix}", self.output), taken);
        let raw = dims(data).iter().flat_map(|number| number.to_le_bytes()).collect();
        proto.initializer.push(tensor(&name, shape, DataType::INT64, raw));
        name
    }
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
