//! From the file's nodes to a [`Graph`]: operators, shapes, exact constant folding.

mod arithmetic;
mod input;
mod layout;
mod normal;
mod select;
mod window;

use super::attributes::Attributes;
use super::order::{self, value_name};
use super::prune::prune;
use super::tensor::{self, Constant, Integers};
use super::{fold, node_name};
use crate::error::{Error, Result};
use crate::graph::shape::{self, misfit};
use crate::graph::{Graph, Node, Op, Value, ValueId};
use rten_onnx::onnx::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use std::collections::{HashMap, HashSet};

const SUPPORTED: &str = "Add, AveragePool, BatchNormalization, Cast, Clip, Concat, Constant, Conv, ConvTranspose, \
                         Div, Dropout, Flatten, Gather, Gelu, Gemm, GlobalAveragePool, GlobalMaxPool, \
                         GroupNormalization, Identity, LayerNormalization, LeakyRelu, MatMul, MaxPool, Mul, Neg, \
                         Pad, ReduceMax, ReduceMean, Relu, Reshape, Shape, Sigmoid, Slice, Softmax, Split, Squeeze, \
                         Sub, Sum, Tanh, Transpose, Unsqueeze";

/// Builds the graph of the file's network; `name` is the network's, `opset` the version of the standard operators.
pub(super) fn graph(source: &GraphProto, name: String, opset: i64) -> Result<Graph> {
    let input = order::input(source)?;
    let output = value_name(order::output(source)?);
    let order = order::execution_order(source, value_name(input), output)?;
    let initializers = source.initializer.iter();
    let reads = order.iter().flat_map(|&at| &source.node[at].input).map(String::as_str);
    let mut builder = Builder {
        opset,
        initializers: initializers.map(|t| (t.name.as_deref().unwrap_or_default(), t)).collect(),
        read: reads.chain([output]).collect(),
        slots: HashMap::new(),
        values: Vec::new(),
        nodes: Vec::new(),
        folded: 0,
        selected: 0,
        leftovers: false,
    };
    let input_id = builder.input(input)?;
    for at in order {
        builder.node(&Site::new(&source.node[at], at))?;
    }
    let output = builder.float(output, "the network's output")?;
    let mut graph = Graph { name, values: builder.values, nodes: builder.nodes, input: input_id, output };
    if builder.leftovers {
        graph = prune(graph);
    }
    graph.check()?;
    Ok(graph)
}

/// A node of the file with what errors call it.
struct Site<'a> {
    node: &'a NodeProto,
    at: usize,
    name: String,
    op: &'a str,
}

impl<'a> Site<'a> {
    fn new(node: &'a NodeProto, at: usize) -> Self {
        let op = node.op_type.as_deref().unwrap_or_default();
        Self { node, at, name: node_name(node, at), op }
    }

    fn attributes(&self, known: &[&str]) -> Result<Attributes<'a>> {
        Attributes::new(self.node, self.at, known)
    }

    /// The name of an operand; empty and missing ones are `None`.
    fn operand(&self, i: usize) -> Option<&'a str> {
        self.node.input.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn required(&self, i: usize) -> Result<&'a str> {
        self.operand(i).ok_or_else(|| self.bad(&format!("operand {i} is missing")))
    }

    /// The name of its first output.
    fn output(&self) -> Result<&'a str> {
        let name = self.node.output.first().map(String::as_str);
        name.filter(|name| !name.is_empty()).ok_or_else(|| self.bad("it has no output"))
    }

    fn bad(&self, why: &str) -> Error {
        misfit(&self.name, self.op, why)
    }

    /// Something that is not supported; the caller adds what to do.
    fn unsupported(&self, why: &str) -> Error {
        Error::unsupported(format!("node '{}' ({}): {why}", self.name, self.op))
    }

    /// How errors call it as the reader of a tensor.
    fn reader(&self) -> String {
        format!("node '{}' ({})", self.name, self.op)
    }
}

/// What a name of the file stands for.
#[derive(Debug, Clone)]
enum Slot {
    Float(ValueId),
    Int(Integers),
    /// Whole numbers that only the running network knows: which rows to take from a table.
    Ids(ValueId),
}

struct Builder<'a> {
    opset: i64,
    initializers: HashMap<&'a str, &'a TensorProto>,
    /// All names that are read.
    read: HashSet<&'a str>,
    slots: HashMap<&'a str, Slot>,
    values: Vec<Value>,
    nodes: Vec<Node>,
    /// Elements of constants made by folding so far.
    folded: usize,
    /// Elements of results of `Select` so far.
    selected: usize,
    /// Whether masks or weights in another shape were left behind.
    leftovers: bool,
}

impl<'a> Builder<'a> {
    fn input(&mut self, info: &'a ValueInfoProto) -> Result<ValueId> {
        let name = value_name(info);
        let (shape, whole) = input::shape(info)?;
        let id = self.push(Value { name: name.to_owned(), shape, constant: None });
        self.slots.insert(name, if whole { Slot::Ids(id) } else { Slot::Float(id) });
        Ok(id)
    }

    fn push(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() - 1)
    }

    fn constant(&mut self, name: &str, constant: Constant) -> Slot {
        match constant {
            Constant::Int(data) => Slot::Int(data),
            Constant::Float(data) => Slot::Float(self.push(Value {
                name: name.to_owned(),
                shape: data.shape().to_vec(),
                constant: Some(data),
            })),
        }
    }

    /// What a name stands for; initializers are decoded when the first node asks for them.
    fn slot(&mut self, name: &'a str, reader: &str) -> Result<Slot> {
        if let Some(slot) = self.slots.get(name) {
            return Ok(slot.clone());
        }
        let Some(tensor) = self.initializers.get(name) else {
            return Err(Error::unsupported(format!(
                "{reader} reads tensor '{name}', which is not the first output of a node"
            ))
            .with_help("only the first output of each node is supported"));
        };
        let constant = tensor::decode(tensor, name)?;
        let slot = self.constant(name, constant);
        self.slots.insert(name, slot.clone());
        Ok(slot)
    }

    /// A tensor of numbers.
    fn float(&mut self, name: &'a str, reader: &str) -> Result<ValueId> {
        match self.slot(name, reader)? {
            Slot::Float(id) => Ok(id),
            Slot::Int(_) => Err(Error::unsupported(format!(
                "{reader} reads the integers of tensor '{name}' where numbers are expected"
            ))
            .with_help("arithmetic on integer tensors is not supported; export with constant shapes")),
            Slot::Ids(_) => Err(Error::unsupported(format!(
                "{reader} reads the whole numbers of tensor '{name}', which only a Gather from a constant table can use"
            ))
            .with_help("export the network with FLOAT tensors, or with embeddings as Gather nodes")),
        }
    }

    /// The numbers that operand `i` of a node stands for.
    fn operand(&mut self, site: &Site<'a>, i: usize) -> Result<ValueId> {
        self.float(site.required(i)?, &site.reader())
    }

    /// A tensor of numbers that must be known before the network runs.
    fn fixed(&mut self, site: &Site<'a>, i: usize, what: &str) -> Result<ValueId> {
        let id = self.operand(site, i)?;
        if self.values[id.0].constant.is_some() {
            return Ok(id);
        }
        let name = &self.values[id.0].name;
        Err(site
            .unsupported(&format!("its {what} '{name}' is not a constant that `f32` holds exactly"))
            .with_help("export the network with its weights as initializers, for example after onnx-simplifier"))
    }

    /// One number that must be known before the network runs.
    fn number(&mut self, site: &Site<'a>, i: usize, what: &str) -> Result<f32> {
        let id = self.fixed(site, i, what)?;
        let value = &self.values[id.0];
        match value.constant.as_deref().and_then(|data| Some((data.len(), *data.first()?))) {
            Some((1, number)) => Ok(number),
            _ => Err(site.bad(&format!("its {what} '{}' has shape {:?}, not one number", value.name, value.shape))),
        }
    }

    /// A list of integers, from an attribute or (in newer operator sets) from a constant operand.
    fn integers(
        &mut self,
        site: &Site<'a>,
        attribute: Option<&[i64]>,
        i: usize,
        what: &str,
    ) -> Result<Option<Vec<i64>>> {
        if let Some(list) = attribute {
            return Ok(Some(list.to_vec()));
        }
        let Some(name) = site.operand(i) else {
            return Ok(None);
        };
        match self.slot(name, &site.reader())? {
            Slot::Int(list) => Ok(Some(list.data)),
            Slot::Float(_) | Slot::Ids(_) => Err(site
                .unsupported(&format!("its {what} '{name}' is not a constant list of integers"))
                .with_help("export with constant shapes, for example after onnx-simplifier")),
        }
    }

    fn shape(&self, id: ValueId) -> &[usize] {
        &self.values[id.0].shape
    }

    fn node(&mut self, site: &Site<'a>) -> Result<()> {
        let domain = site.node.domain.as_deref().unwrap_or_default();
        if !matches!(domain, "" | "ai.onnx") {
            return Err(unknown(site, &format!("{domain}.{}", site.op)));
        }
        match site.op {
            "Gemm" => self.gemm(site),
            "MatMul" => self.matmul(site),
            "Add" => self.elementwise(site, Op::Add),
            "Sub" => self.elementwise(site, Op::Sub),
            "Mul" => self.elementwise(site, Op::Mul),
            "Div" => self.elementwise(site, Op::Div),
            "Sum" => self.sum(site),
            "Neg" => self.negate(site),
            "Relu" => self.unary(site, Op::Relu),
            "Sigmoid" => self.unary(site, Op::Sigmoid),
            "Tanh" => self.unary(site, Op::Tanh),
            "LeakyRelu" => self.leaky_relu(site),
            "Gelu" => self.gelu(site),
            "Clip" => self.clip(site),
            "Softmax" => self.softmax(site),
            "BatchNormalization" => self.batch_normalization(site),
            "LayerNormalization" => self.layer_normalization(site),
            "GroupNormalization" => self.group_normalization(site),
            "Conv" | "ConvTranspose" => self.conv(site),
            "MaxPool" | "AveragePool" => self.pool(site),
            "GlobalMaxPool" | "GlobalAveragePool" => self.global_pool(site),
            "ReduceMax" | "ReduceMean" => self.reduce(site),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(site),
            "Pad" => self.pad(site),
            "Transpose" => self.transpose(site),
            "Concat" => self.concat(site),
            "Slice" => self.slice(site),
            "Gather" => self.gather(site),
            "Split" => self.split(site),
            "Shape" => self.shape_of(site),
            "Cast" => self.cast(site),
            "Constant" => self.constant_node(site),
            "Dropout" => self.dropout(site),
            "Identity" => {
                site.attributes(&[])?;
                self.alias(site)
            }
            op => Err(unknown(site, op)),
        }
    }

    fn constant_node(&mut self, site: &Site<'a>) -> Result<()> {
        let known = ["value", "value_float", "value_floats", "value_int", "value_ints"];
        let attributes = site.attributes(&known)?;
        let name = site.output()?;
        let found = known.iter().find_map(|known| Some((*known, attributes.get(known)?)));
        let constant = match found {
            Some(("value", attribute)) => match &attribute.t {
                Some(tensor) => tensor::decode(tensor, name)?,
                None => return Err(site.bad("its value holds no tensor")),
            },
            Some(("value_float", _)) => tensor::float(name, &[], vec![attributes.float("value_float", 0.0)?])?,
            Some(("value_floats", a)) => tensor::float(name, &[a.floats.len()], a.floats.clone())?,
            Some(("value_int", _)) => Constant::Int(Integers::scalar(attributes.int("value_int", 0)?)),
            Some((_, a)) => Constant::Int(Integers::list(a.ints.clone())),
            None => return Err(site.bad("it has no value")),
        };
        let slot = self.constant(name, constant);
        self.slots.insert(name, slot);
        Ok(())
    }

    /// Lets the node's output stand for its first operand.
    fn alias(&mut self, site: &Site<'a>) -> Result<()> {
        let slot = self.slot(site.required(0)?, &site.reader())?;
        self.slots.insert(site.output()?, slot);
        Ok(())
    }

    /// Adds a node of the file, or its value where that is constant and exact. `declared` is the output's shape where
    /// the operands do not decide it.
    fn emit(&mut self, site: &Site<'a>, op: Op, inputs: Vec<ValueId>, declared: Vec<usize>) -> Result<()> {
        let name = site.output()?;
        let id = self.infer(site, [&site.name, name], op, inputs, declared)?;
        self.slots.insert(name, Slot::Float(id));
        Ok(())
    }

    /// Adds a node on the way to the node of the file; `suffix` tells it from that.
    fn step(
        &mut self,
        site: &Site<'a>,
        suffix: &str,
        op: Op,
        inputs: Vec<ValueId>,
        declared: Vec<usize>,
    ) -> Result<ValueId> {
        let names = [&site.name, site.output()?].map(|name| format!("{name}_{suffix}"));
        self.infer(site, names.each_ref().map(String::as_str), op, inputs, declared)
    }

    /// Adds a node with its name and its result's.
    fn infer(
        &mut self,
        site: &Site<'a>,
        [node, value]: [&str; 2],
        op: Op,
        inputs: Vec<ValueId>,
        declared: Vec<usize>,
    ) -> Result<ValueId> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shape = shape::infer(&op, &shapes, &declared).map_err(|why| site.bad(&why))?;
        let node = Node { name: node.to_owned(), op, inputs, output: ValueId(0) };
        Ok(self.add(node, value.to_owned(), shape))
    }

    /// Adds a node with its output value, or only the value if it can be folded.
    fn add(&mut self, mut node: Node, name: String, shape: Vec<usize>) -> ValueId {
        let constant = fold::fold(&node, &self.values, &shape, &mut self.folded);
        let fixed = constant.is_some();
        node.output = self.push(Value { name, shape, constant });
        let id = node.output;
        if !fixed {
            self.nodes.push(node);
        }
        id
    }
}

fn unknown(site: &Site<'_>, op: &str) -> Error {
    Error::unsupported(format!("node '{}' uses the operator {op}, which is not supported", site.name))
        .with_help(format!("supported operators are {SUPPORTED}"))
}
