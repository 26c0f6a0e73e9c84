//! From the file's nodes to a [`Graph`]: operators, shapes, exact constant folding.

use super::attributes::Attributes;
use super::order::{self, value_name};
use super::tensor::{self, Constant};
use super::{fold, node_name, reshape};
use crate::error::{Error, Result};
use crate::graph::shape::{self, elements, misfit};
use crate::graph::{Graph, Node, Op, Value, ValueId};
use rten_onnx::onnx::{DataType, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use std::collections::HashMap;

const SUPPORTED: &str = "Gemm, MatMul, Add, Sub, Mul, Div, Relu, Flatten, Reshape, Squeeze, Unsqueeze, \
                         Constant, Dropout, Identity";

/// Builds the graph of the file's network; `name` is the network's.
pub(super) fn graph(source: &GraphProto, name: String) -> Result<Graph> {
    let input = order::input(source)?;
    let output = value_name(order::output(source)?);
    let order = order::execution_order(source, value_name(input), output)?;
    let initializers = source.initializer.iter();
    let mut builder = Builder {
        initializers: initializers.map(|t| (t.name.as_deref().unwrap_or_default(), t)).collect(),
        slots: HashMap::new(),
        values: Vec::new(),
        nodes: Vec::new(),
        folded: 0,
    };
    let input_id = builder.input(input)?;
    for at in order {
        builder.node(&Site::new(&source.node[at], at))?;
    }
    let output = builder.float(output, "the network's output")?;
    let graph = Graph { name, values: builder.values, nodes: builder.nodes, input: input_id, output };
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

    fn output(&self) -> Result<&'a str> {
        let name = self.node.output.first().map(String::as_str);
        name.filter(|name| !name.is_empty()).ok_or_else(|| self.bad("it has no output"))
    }

    fn bad(&self, why: &str) -> Error {
        misfit(&self.name, self.op, why)
    }

    fn unsupported(&self, why: &str) -> Error {
        Error::unsupported(format!("node '{}' ({}): {why}", self.name, self.op))
    }
}

/// What a name of the file stands for.
#[derive(Debug, Clone)]
enum Slot {
    Float(ValueId),
    Int(Vec<i64>),
}

struct Builder<'a> {
    initializers: HashMap<&'a str, &'a TensorProto>,
    slots: HashMap<&'a str, Slot>,
    values: Vec<Value>,
    nodes: Vec<Node>,
    /// Elements of constants made by folding so far.
    folded: usize,
}

impl<'a> Builder<'a> {
    fn input(&mut self, info: &'a ValueInfoProto) -> Result<ValueId> {
        let name = value_name(info);
        let shape = input_shape(info)?;
        let id = self.push(Value { name: name.to_owned(), shape, constant: None });
        self.slots.insert(name, Slot::Float(id));
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
        }
    }

    /// The numbers that operand `i` of a node stands for.
    fn operand(&mut self, site: &Site<'a>, i: usize) -> Result<ValueId> {
        self.float(site.required(i)?, &format!("node '{}' ({})", site.name, site.op))
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
        match self.slot(name, &format!("node '{}' ({})", site.name, site.op))? {
            Slot::Int(list) => Ok(Some(list)),
            Slot::Float(_) => Err(site
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
            "MatMul" => {
                site.attributes(&[])?;
                let operands = vec![self.operand(site, 0)?, self.operand(site, 1)?];
                self.emit(site, Op::MatMul, operands, vec![])
            }
            "Add" => self.elementwise(site, Op::Add),
            "Sub" => self.elementwise(site, Op::Sub),
            "Mul" => self.elementwise(site, Op::Mul),
            "Div" => self.elementwise(site, Op::Div),
            "Relu" => {
                site.attributes(&[])?;
                let operands = vec![self.operand(site, 0)?];
                self.emit(site, Op::Relu, operands, vec![])
            }
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(site),
            "Constant" => self.constant_node(site),
            "Dropout" => self.dropout(site),
            "Identity" => {
                site.attributes(&[])?;
                self.alias(site)
            }
            op => Err(unknown(site, op)),
        }
    }

    fn gemm(&mut self, site: &Site<'a>) -> Result<()> {
        // `broadcast` (before operator set 7) only allows what is the rule today.
        let a = site.attributes(&["alpha", "beta", "transA", "transB", "broadcast"])?;
        let op = Op::Gemm {
            alpha: a.float("alpha", 1.0)?,
            beta: a.float("beta", 1.0)?,
            trans_a: a.flag("transA")?,
            trans_b: a.flag("transB")?,
        };
        let mut operands = vec![self.operand(site, 0)?, self.operand(site, 1)?];
        if site.operand(2).is_some() {
            operands.push(self.operand(site, 2)?);
        }
        self.emit(site, op, operands, vec![])
    }

    fn elementwise(&mut self, site: &Site<'a>, op: Op) -> Result<()> {
        let attributes = site.attributes(&["axis", "broadcast"])?;
        let (a, mut b) = (self.operand(site, 0)?, self.operand(site, 1)?);
        if attributes.flag("broadcast")? && attributes.get("axis").is_some() {
            let axis = attributes.int("axis", 0)?;
            b = self.align(site, a, b, axis)?;
        }
        self.emit(site, op, vec![a, b], vec![])
    }

    /// Broadcasting before operator set 7: the second operand's dimensions start at `axis` of the first. Returns the
    /// second operand with as many dimensions of 1 behind as NumPy's rule needs.
    fn align(&mut self, site: &Site<'a>, a: ValueId, b: ValueId, axis: i64) -> Result<ValueId> {
        let (shape_a, shape_b) = (self.shape(a), self.shape(b));
        let behind = usize::try_from(axis)
            .ok()
            .and_then(|axis| shape_a.len().checked_sub(axis)?.checked_sub(shape_b.len()))
            .ok_or_else(|| site.bad(&format!("shape {shape_b:?} does not fit {shape_a:?} from axis {axis}")))?;
        let mut shape = shape_b.to_vec();
        shape.resize(shape_b.len() + behind, 1);
        let node = Node { name: format!("{}_axis", site.name), op: Op::Reshape, inputs: vec![b], output: ValueId(0) };
        Ok(self.add(node, format!("{}_axis", self.values[b.0].name), shape))
    }

    fn reshape(&mut self, site: &Site<'a>) -> Result<()> {
        let x = self.operand(site, 0)?;
        let known: &[&str] = match site.op {
            "Flatten" => &["axis"],
            "Reshape" => &["shape", "allowzero"],
            _ => &["axes"],
        };
        let attributes = site.attributes(known)?;
        let shape = if site.op == "Flatten" {
            reshape::flatten(self.shape(x), attributes.int("axis", 1)?)
        } else {
            let name = known[0];
            let list = self.integers(site, attributes.ints(name)?, 1, name)?;
            match (site.op, list) {
                ("Squeeze", list) => reshape::squeeze(self.shape(x), list.as_deref()),
                ("Unsqueeze", Some(axes)) => reshape::unsqueeze(self.shape(x), &axes),
                ("Reshape", Some(spec)) => reshape::reshape(self.shape(x), &spec, attributes.flag("allowzero")?),
                _ => Err(format!("it has no {name}")),
            }
        };
        let shape = shape.map_err(|why| site.bad(&why))?;
        self.emit(site, Op::Reshape, vec![x], shape)
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
            Some(("value_int", _)) => Constant::Int(vec![attributes.int("value_int", 0)?]),
            Some((_, a)) => Constant::Int(a.ints.clone()),
            None => return Err(site.bad("it has no value")),
        };
        let slot = self.constant(name, constant);
        self.slots.insert(name, slot);
        Ok(())
    }

    fn dropout(&mut self, site: &Site<'a>) -> Result<()> {
        site.attributes(&["ratio", "is_test", "seed"])?;
        match self.integers(site, None, 2, "training_mode")?.as_deref() {
            None | Some([0]) => self.alias(site),
            Some(_) => Err(site
                .unsupported("it is set to training mode, in which its result is random")
                .with_help("export the network in inference mode (`model.eval()`)")),
        }
    }

    /// Lets the node's output stand for its first operand.
    fn alias(&mut self, site: &Site<'a>) -> Result<()> {
        let reader = format!("node '{}' ({})", site.name, site.op);
        let slot = self.slot(site.required(0)?, &reader)?;
        self.slots.insert(site.output()?, slot);
        Ok(())
    }

    /// Adds a node of the file, or its value where that is constant and exact. `declared` is the output's shape where
    /// the operands do not decide it.
    fn emit(&mut self, site: &Site<'a>, op: Op, inputs: Vec<ValueId>, declared: Vec<usize>) -> Result<()> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shape = shape::infer(&op, &shapes, &declared).map_err(|why| site.bad(&why))?;
        let name = site.output()?;
        let node = Node { name: site.name.clone(), op, inputs, output: ValueId(0) };
        let id = self.add(node, name.to_owned(), shape);
        self.slots.insert(name, Slot::Float(id));
        Ok(())
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

/// The shape of the network's input for one sample.
fn input_shape(info: &ValueInfoProto) -> Result<Vec<usize>> {
    let name = value_name(info);
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let kind = tensor.and_then(|t| t.elem_type);
    if !matches!(kind, Some(DataType::FLOAT | DataType::DOUBLE)) {
        let kind = kind.map_or("no element type".to_owned(), |kind| format!("type {kind}"));
        return Err(Error::unsupported(format!("the input '{name}' has {kind}"))
            .with_help("inputs must be FLOAT or DOUBLE tensors"));
    }
    let Some(declared) = tensor.and_then(|t| t.shape.as_ref()) else {
        return Err(Error::bad_input(format!("the input '{name}' declares no shape"))
            .with_help("export the network with a fixed input shape"));
    };
    let mut shape = Vec::with_capacity(declared.dim.len());
    for (i, dim) in declared.dim.iter().enumerate() {
        let fixed = dim.dim_value.filter(|&d| d > 0).and_then(|d| usize::try_from(d).ok());
        match fixed {
            Some(fixed) => shape.push(fixed),
            // The batch.
            None if i == 0 => shape.push(1),
            None => {
                let symbol = dim.dim_param.as_deref().unwrap_or("no size");
                return Err(Error::unsupported(format!(
                    "the input '{name}' has no fixed size in dimension {i} ({symbol})"
                ))
                .with_help("only the first dimension, the batch, may be open"));
            }
        }
    }
    elements(&shape).map_err(|why| Error::bad_input(format!("the input '{name}': {why}")))?;
    Ok(shape)
}
