//! Writing a graph as ONNX: operator set 13, IR version 8, weights as raw little-endian bytes. What set 13 cannot say (a
//! mean over dilated windows, layer and group normalisation, Gelu) is written with the first set that can. `Select`
//! becomes a Reshape to one axis and a Gather, `Embedding` a Cast and a Gather, `CausalSoftmax` a sum with a mask and a
//! Softmax.

mod attributes;

use super::MASK;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ValueId};
use rten_onnx::onnx::{
    AttributeProto, DataType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};
use rten_onnx::protobuf::{EncodeMessage, MessageWriter, ProtobufError, ValueWriter, WriteValue};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// The bytes of an ONNX file with this network: operator set 13, IR version 8, or the first set that has all its
/// operators (17 for layer normalisation, 19 for means over dilated windows, 20 for Gelu, 21 for group normalisation).
///
/// Reading them back gives the same network, but for a Reshape before a Select of a tensor with several axes and for
/// the padding row of an embedding, which ONNX does not know. Names that are missing or not unique get a number appended.
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
    let versions = graph.nodes.iter().map(|node| since(&node.op)).fold((13, 8), |all, one| one.max(all));
    let name = if graph.name.is_empty() { "network" } else { &graph.name };
    let model = Named { name, graph: &graph_proto(graph), versions };
    let mut bytes = Vec::new();
    model
        .encode(ValueWriter::new(&mut bytes))
        .map_err(|e| Error::internal(format!("the network cannot be encoded: {e}")).with_source(e))?;
    Ok(bytes)
}

/// The first operator set from 13 on that has an operator as we write it, and its IR version.
fn since(op: &Op) -> (i64, i64) {
    match op {
        Op::LayerNormalization { .. } => (17, 8),
        Op::AveragePool { window, .. } if window.dilations != [1; 2] => (19, 9),
        Op::Gelu => (20, 9),
        Op::GroupNormalization { .. } => (21, 10),
        _ => (13, 8),
    }
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
    let mut file = File { taken: names.iter().cloned().collect(), ..File::default() };
    for (value, name) in graph.values.iter().zip(&names) {
        if let Some(constant) = &value.constant {
            let raw = constant.iter().flat_map(|x| x.to_le_bytes()).collect();
            file.proto.initializer.push(tensor(name, &value.shape, DataType::FLOAT, raw));
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
        Operands { graph, node, output: &names[node.output.0] }.add(&mut node_proto, &mut file);
        file.proto.node.push(node_proto);
    }
    let any_batch = takes_batches(graph);
    file.proto.input.push(value_info(graph, graph.input, &names[graph.input.0], any_batch));
    let mut output = names[graph.output.0].clone();
    if !graph.nodes.iter().any(|node| node.output == graph.output) {
        // An output that is the input or a constant needs a producer of its own.
        let copy = file.fresh(&format!("{output}_copy"));
        let source = std::mem::replace(&mut output, copy.clone());
        file.step("Identity", vec![source], copy, vec![]);
    }
    file.proto.output.push(value_info(graph, graph.output, &output, any_batch));
    file.proto
}

/// What is written so far.
#[derive(Default)]
struct File {
    proto: GraphProto,
    /// Names of tensors.
    taken: HashSet<String>,
    /// The mask of matrices of a size.
    masks: HashMap<usize, String>,
}

impl File {
    fn fresh(&mut self, name: &str) -> String {
        fresh(name, &mut self.taken)
    }

    /// Adds a node on the way to another.
    fn step(&mut self, op: &str, input: Vec<String>, output: String, attribute: Vec<AttributeProto>) {
        let op_type = Some(op.to_owned());
        self.proto.node.push(NodeProto { op_type, input, output: vec![output], attribute, ..NodeProto::default() });
    }

    /// Adds a number and returns its name.
    fn number(&mut self, name: &str, number: f32) -> String {
        let name = self.fresh(name);
        self.proto.initializer.push(tensor(&name, &[], DataType::FLOAT, number.to_le_bytes().to_vec()));
        name
    }

    /// The matrix that is added to the scores of a causal softmax: 0 up to the diagonal, -1e9 beyond.
    fn mask(&mut self, len: usize) -> String {
        if let Some(name) = self.masks.get(&len) {
            return name.clone();
        }
        let name = self.fresh(&format!("causal_mask_{len}"));
        let beyond = |i: usize| if i % len > i / len { MASK } else { 0.0 };
        let raw = (0..len * len).flat_map(|i| beyond(i).to_le_bytes()).collect();
        self.proto.initializer.push(tensor(&name, &[len, len], DataType::FLOAT, raw));
        self.masks.insert(len, name.clone());
        name
    }
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
    fn add(&self, to: &mut NodeProto, file: &mut File) {
        let shape = &self.graph.value(self.node.output).shape;
        match &self.node.op {
            Op::Reshape if is_flatten(self.graph, self.node) => to.op_type = Some("Flatten".to_owned()),
            Op::Reshape => {
                let target = self.integers("shape", &[shape.len()], shape, file);
                to.input.push(target);
            }
            Op::Pad { pads, value } => {
                let (before, after): (Vec<usize>, Vec<usize>) = pads.iter().map(|&[a, b]| (a, b)).unzip();
                let list = [before, after].concat();
                to.input.push(self.integers("pads", &[list.len()], &list, file));
                to.input.push(file.number(&format!("{}_value", self.output), *value));
            }
            Op::Dropout { rate } => to.input.push(file.number(&format!("{}_ratio", self.output), *rate)),
            Op::Select { indices } => {
                to.op_type = Some("Gather".to_owned());
                self.flatten(to, file);
                to.input.push(self.integers("indices", shape, indices, file));
            }
            Op::Embedding { .. } => {
                to.op_type = Some("Gather".to_owned());
                let ids = file.fresh(&format!("{}_ids", self.output));
                let numbers = to.input.remove(0);
                // TensorProto.DataType 7: INT64.
                file.step("Cast", vec![numbers], ids.clone(), vec![attributes::int("to", 7)]);
                to.input.push(ids);
            }
            Op::CausalSoftmax => {
                to.op_type = Some("Softmax".to_owned());
                to.attribute.push(attributes::int("axis", shape.len() - 1));
                let mask = file.mask(shape[shape.len() - 1]);
                let masked = file.fresh(&format!("{}_masked", self.output));
                let scores = std::mem::replace(&mut to.input[0], masked.clone());
                file.step("Add", vec![scores, mask], masked, vec![]);
            }
            _ => {}
        }
    }

    /// Puts a Reshape to one axis in front of the first operand, unless it has one axis.
    fn flatten(&self, to: &mut NodeProto, file: &mut File) {
        let shape = &self.graph.value(self.node.inputs[0]).shape;
        if shape.len() == 1 {
            return;
        }
        let len: usize = shape.iter().product();
        let target = self.integers("length", &[1], &[len], file);
        let flat = file.fresh(&format!("{}_flat", self.output));
        let source = std::mem::replace(&mut to.input[0], flat.clone());
        file.step("Reshape", vec![source, target], flat, vec![]);
    }

    /// Adds a tensor of integers and returns its name.
    fn integers(&self, suffix: &str, shape: &[usize], data: &[usize], file: &mut File) -> String {
        let name = file.fresh(&format!("{}_{suffix}", self.output));
        let raw = dims(data).iter().flat_map(|number| number.to_le_bytes()).collect();
        file.proto.initializer.push(tensor(&name, shape, DataType::INT64, raw));
        name
    }
}

/// Whether a Reshape makes one row of everything behind the batch axis.
fn is_flatten(graph: &Graph, node: &Node) -> bool {
    let (from, to) = (&graph.value(node.inputs[0]).shape, &graph.value(node.output).shape);
    matches!(to[..], [1, _]) && from.len() > 1 && from[0] == 1
}

/// Whether every node takes its first operand sample by sample along axis 0, so that the file can say batches of any size.
fn takes_batches(graph: &Graph) -> bool {
    let one = |id: ValueId| graph.value(id).shape.first() == Some(&1) && graph.value(id).constant.is_none();
    let by_sample = |node: &Node| match node.op {
        Op::Reshape => is_flatten(graph, node),
        Op::Gemm { trans_a, .. } => !trans_a,
        Op::Relu | Op::Sigmoid | Op::Tanh | Op::LeakyRelu { .. } | Op::Gelu | Op::Dropout { .. } => true,
        Op::Conv(_) | Op::ConvTranspose { .. } | Op::MaxPool { .. } | Op::AveragePool { .. } => true,
        Op::BatchNormalization { .. } => true,
        _ => false,
    };
    let others_are_constant = |node: &Node| node.inputs[1..].iter().all(|&id| graph.value(id).constant.is_some());
    one(graph.input)
        && graph.nodes.iter().all(|node| by_sample(node) && one(node.inputs[0]) && others_are_constant(node))
}

fn value_info(graph: &Graph, id: ValueId, name: &str, any_batch: bool) -> ValueInfoProto {
    let dim = |(axis, &size): (usize, &i64)| match axis {
        0 if any_batch => Dimension { dim_value: None, dim_param: Some("N".to_owned()) },
        _ => Dimension { dim_value: Some(size), dim_param: None },
    };
    let shape = TensorShapeProto { dim: dims(&graph.value(id).shape).iter().enumerate().map(dim).collect() };
    let tensor = TypeProtoTensor { elem_type: Some(DataType::FLOAT), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(tensor), sequence: None }),
    }
}
