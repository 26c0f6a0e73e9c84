//! A quantised network as one of `f32`: constants become the numbers that they stand for, QuantizeLinear cuts and rounds to what codes can
//! say, DequantizeLinear becomes nothing, and operators on integers those on numbers.
//!
//! A number below 2^22 is rounded to a whole one, ties to even, by adding 1.5 * 2^23 and taking it away again. On a device those are two
//! dispatches with a stored value between them, which no compiler may merge; evaluated in real numbers they are nothing, so such a graph
//! stays in this room.

mod operators;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use rten_onnx::onnx::{AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, TensorProto};

use super::constants::{self, Both, Layout};
use super::tensor::{self, Constant, Data};
use crate::error::{Error, Result};
use crate::graph::onnx::node_name;
use crate::pack::quantise::Affine;
use crate::pack::values::{Element, Granularity};

/// A network of `f32` and what it was.
pub(super) struct Plain {
    pub(super) model: ModelProto,
    /// Constants that were not `f32`, under their names.
    pub(super) made: HashMap<String, Both>,
    /// How values are quantised, by name.
    pub(super) affines: HashMap<String, Affine>,
    /// Whether there are operators on integers, and not only weights in fp16.
    pub(super) quantised: bool,
}

/// Operators that change no value.
const MOVES: [&str; 6] = ["Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"];

/// The constant that is added and taken away.
const ROUNDING: &str = "wavehull/rounding";

/// Operators behind a quantised value that say how it was quantised.
const READERS: [&str; 3] = ["Cast", "Mul", "DequantizeLinear"];

/// Rewrites a network.
pub(super) fn plain(mut model: ModelProto) -> Result<Plain> {
    let Some(mut graph) = model.graph.take() else {
        return Err(Error::bad_input("not an ONNX file: there is no network in it"));
    };
    let mut rewriter = Rewriter::new(&mut graph);
    for (at, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        let name = node_name(&node, at);
        rewriter.node(node).map_err(|e| {
            let message = format!("node '{name}': {}", e.message());
            let told = Error::new(e.kind(), message);
            if let Some(help) = e.help() { told.with_help(help) } else { told }
        })?;
    }
    rewriter.halves()?;
    let plain = rewriter.finish(graph);
    Ok(Plain {
        model: ModelProto { graph: Some(plain.0), ..model },
        made: plain.1,
        affines: plain.2,
        quantised: plain.3,
    })
}

impl Plain {
    /// What stored constants hold, and the containers of all constants that are made of them.
    pub(super) fn kinds(&self) -> HashMap<String, (Element, Granularity)> {
        let stored = self.made.iter().filter(|(_, both)| both.dims.len() > 1);
        let mut kinds: HashMap<String, _> =
            stored.filter_map(|(name, both)| both.stored.as_ref().map(|s| (name.clone(), (s.1, s.2)))).collect();
        let nodes = self.model.graph.iter().flat_map(|graph| &graph.node);
        for node in nodes.filter(|node| MOVES.contains(&node.op_type.as_deref().unwrap_or_default())) {
            if let (Some(from), Some(to)) = (node.input.first(), node.output.first())
                && let Some(&kind) = kinds.get(from)
            {
                kinds.insert(to.clone(), kind);
            }
        }
        kinds
    }

    /// Puts stored values in the place of the numbers of weights.
    pub(super) fn show_codes(&mut self) {
        for tensor in self.model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
            let both = tensor.name.as_ref().and_then(|name| self.made.get(name)).filter(|both| both.dims.len() > 1);
            if let Some((codes, ..)) = both.and_then(|both| both.stored.as_ref()) {
                tensor.raw_data = Some(RefCell::new(codes.iter().flat_map(|c| c.to_le_bytes()).collect()));
            }
        }
    }
}

/// How a value is quantised: with the numbers of its smallest and largest code, and its bits.
#[derive(Debug, Clone, Copy)]
struct Rounding {
    affine: Affine,
    range: [f32; 2],
    bits: u32,
}

/// Operator, operands and result of a node.
type Reader = (String, Vec<String>, String);

struct Rewriter {
    /// Constants of the file.
    tensors: HashMap<String, TensorProto>,
    /// Float weights that the network itself quantises.
    codes: HashMap<String, Constant>,
    made: HashMap<String, Both>,
    /// Other names of values.
    alias: HashMap<String, String>,
    affines: HashMap<String, Affine>,
    /// Scales of quantised values, for operators that give integers.
    scales: HashMap<String, f32>,
    /// Nodes of [`READERS`] that read a value.
    readers: HashMap<String, Vec<Reader>>,
    nodes: Vec<NodeProto>,
    quantised: bool,
}

impl Rewriter {
    fn new(graph: &mut GraphProto) -> Self {
        let mut tensors: HashMap<String, TensorProto> = HashMap::new();
        for tensor in std::mem::take(&mut graph.initializer) {
            tensors.insert(tensor.name.clone().unwrap_or_default(), tensor);
        }
        let mut readers: HashMap<String, Vec<_>> = HashMap::new();
        for node in graph.node.iter().filter(|node| READERS.contains(&node.op_type.as_deref().unwrap_or_default())) {
            for name in &node.input {
                let op = node.op_type.clone().unwrap_or_default();
                let reader = (op, node.input.clone(), node.output.first().cloned().unwrap_or_default());
                readers.entry(name.clone()).or_default().push(reader);
            }
        }
        Self {
            tensors,
            codes: HashMap::new(),
            made: HashMap::new(),
            alias: HashMap::new(),
            affines: HashMap::new(),
            scales: HashMap::new(),
            readers,
            nodes: Vec::new(),
            quantised: false,
        }
    }

    fn node(&mut self, mut node: NodeProto) -> Result<()> {
        let op = node.op_type.clone().unwrap_or_default();
        let operand = |i: usize| node.input.get(i).cloned().unwrap_or_default();
        let output = node.output.first().cloned().unwrap_or_default();
        match op.as_str() {
            "Constant" => {
                if let Some(tensor) = node.attribute.iter_mut().find_map(|a| a.t.take()) {
                    self.tensors.insert(output.clone(), TensorProto { name: Some(output), ..tensor });
                    return Ok(());
                }
            }
            "QuantizeLinear" => return self.quantize(node),
            "DequantizeLinear" => return self.dequantize(node),
            "DynamicQuantizeLinear" => {
                self.quantised = true;
                self.scales.insert(output.clone(), 1.0);
                if let Some(scale) = node.output.get(1) {
                    let one = Both { dims: vec![], numbers: vec![1.0], stored: None };
                    self.made.insert(scale.clone(), one);
                }
                self.alias.insert(output, operand(0));
                return Ok(());
            }
            "QLinearConv" => return self.linear(node, "Conv", [3, 6], 0, Some(8)),
            "QLinearMatMul" => return self.linear(node, "MatMul", [3, 6], -1, None),
            "QLinearAdd" => return self.sum(node),
            "ConvInteger" => return self.integer(node, "Conv", 0),
            "MatMulInteger" => return self.integer(node, "MatMul", -1),
            "Gather" => self.table(&mut node)?,
            // Values of the same codes.
            moves if MOVES.contains(&moves) || moves == "MaxPool" => {
                if let Some(&scale) = self.scales.get(&operand(0)) {
                    self.scales.insert(output.clone(), scale);
                }
                if let Some(&affine) = self.affines.get(self.resolved(&operand(0))) {
                    self.affines.insert(output, affine);
                }
            }
            // Arithmetic here is that of f32 whatever the file says.
            "Cast" if node.attribute.iter().any(|a| matches!(a.i, Some(10 | 16))) => {
                self.alias.insert(output, operand(0));
                return Ok(());
            }
            _ => {}
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The name of the value that a name stands for.
    fn resolved<'a>(&'a self, name: &'a str) -> &'a str {
        resolved(&self.alias, name)
    }

    /// A constant, if the name is one of a type that is decoded.
    fn constant(&self, name: &str) -> Result<Option<Constant>> {
        if let Some(codes) = self.codes.get(name) {
            return Ok(Some(codes.clone()));
        }
        self.tensors.get(name).map_or(Ok(None), tensor::decode)
    }

    /// The numbers of a scale.
    fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        let numbers = self.constant(name)?.and_then(|constant| constant.numbers()).filter(|n| !n.is_empty());
        numbers.ok_or_else(|| {
            Error::unsupported(format!("its scale '{name}' is not a constant"))
                .with_help("quantise the network statically, so that scales are constants of the file")
        })
    }

    fn whole(&self, name: &str) -> Result<Option<Constant>> {
        Ok(self.constant(name)?.filter(|constant| matches!(constant.data, Data::Whole { .. })))
    }

    /// Keeps a constant under the name that it has in the file, if that is free, and gives its name.
    fn make(&mut self, name: &str, node: &str, both: Both) -> String {
        let name = if self.made.contains_key(name) { format!("{name}_{node}") } else { name.to_owned() };
        self.quantised |= both.stored.is_some();
        self.made.insert(name.clone(), both);
        name
    }

    /// How a value with one scale and one zero point of 8 or 16 bits is quantised.
    fn affine(&self, scale: &str, zero: &str) -> Result<Option<Rounding>> {
        let Some(scale) = self.constant(scale)?.and_then(|scale| scale.numbers()) else { return Ok(None) };
        let zero = self.whole(zero)?;
        let (bits, signed, zero) = match zero.map(|zero| zero.data) {
            None => (8, false, 0),
            Some(Data::Whole { bits, signed, values }) if values.len() == 1 => (bits, signed, values[0]),
            Some(_) => return Ok(None),
        };
        let &[scale] = scale.as_slice() else { return Ok(None) };
        if bits != 8 && bits != 16 {
            return Ok(None);
        }
        let half = 1_i32 << (bits - 1);
        let signed_zero = if signed { zero } else { zero - half };
        let range = [-half, half - 1].map(|code| (code - signed_zero) as f32 * scale);
        Ok(Some(Rounding { affine: Affine { scale, zero_point: signed_zero }, range, bits }))
    }

    fn quantize(&mut self, node: NodeProto) -> Result<()> {
        self.quantised = true;
        let [x, scale] = [0, 1].map(|i| node.input.get(i).cloned().unwrap_or_default());
        let zero = node.input.get(2).cloned().unwrap_or_default();
        let output = node.output.first().cloned().unwrap_or_default();
        if let Some(weights) = self.constant(&x)?.filter(|weights| weights.dims.len() > 1)
            && let Some(numbers) = weights.numbers()
        {
            let (scales, zeros) = (self.numbers(&scale)?, self.whole(&zero)?);
            let codes = constants::rounded(&x, &weights.dims, &numbers, &scales, zeros.as_ref(), layout(&node))?;
            self.codes.insert(output, codes);
            return Ok(());
        }
        match self.affine(&scale, &zero)? {
            Some(rounding) => {
                self.scales.insert(output.clone(), rounding.affine.scale);
                self.round(x, output, rounding);
            }
            // Several scales, or other widths: the network is not read, but its weights are.
            None => self.nodes.push(node),
        }
        Ok(())
    }

    /// A value cut and rounded to what its codes can say. Cutting comes first: exporters leave a ReLU out where it does that work.
    fn round(&mut self, from: String, to: String, rounding: Rounding) {
        let Rounding { affine, range: [low, high], bits } = rounding;
        if bits == 8 {
            self.affines.insert(to.clone(), affine);
        }
        let limit = |name: &str, f: f32| AttributeProto {
            name: Some(name.to_owned()),
            f: Some(f),
            r#type: Some(AttributeType::FLOAT),
            ..AttributeProto::default()
        };
        let node = |op: &str, input: Vec<String>, output: &str| NodeProto {
            op_type: Some(op.to_owned()),
            name: Some(format!("{output}_{op}")),
            input,
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        let [cut, steps, raised, whole, scale] =
            ["cut", "steps", "raised", "whole", "step"].map(|part| format!("{to}_{part}"));
        let attribute = vec![limit("min", low), limit("max", high)];
        self.nodes.push(NodeProto { attribute, ..node("Clip", vec![from], &cut) });
        if affine.scale > 0.0 {
            let number = |x: f32| Both { dims: vec![], numbers: vec![x], stored: None };
            self.made.insert(scale.clone(), number(affine.scale));
            self.made.insert(ROUNDING.to_owned(), number(1.5 * 2.0_f32.powi(23)));
            self.nodes.push(node("Div", vec![cut, scale.clone()], &steps));
            self.nodes.push(node("Add", vec![steps, ROUNDING.to_owned()], &raised));
            self.nodes.push(node("Sub", vec![raised, ROUNDING.to_owned()], &whole));
            self.nodes.push(node("Mul", vec![whole, scale], &to));
        } else {
            self.nodes.push(node("Identity", vec![cut], &to));
        }
    }

    fn dequantize(&mut self, node: NodeProto) -> Result<()> {
        let [x, scale] = [0, 1].map(|i| node.input.get(i).cloned().unwrap_or_default());
        let zero = node.input.get(2).cloned().unwrap_or_default();
        let output = node.output.first().cloned().unwrap_or_default();
        self.quantised = true;
        let to = match self.whole(&x)? {
            None => x,
            Some(codes) => {
                let zeros = self.whole(&zero)?;
                let both = Both::dequantised(&x, &codes, &self.numbers(&scale)?, zeros.as_ref(), layout(&node))?;
                self.make(&x, &output, both)
            }
        };
        self.alias.insert(output, to);
        Ok(())
    }

    /// Constants in fp16 and bf16 become `f32`.
    fn halves(&mut self) -> Result<()> {
        for (name, tensor) in &self.tensors {
            let half = matches!(tensor.data_type, Some(DataType::FLOAT16 | DataType::BFLOAT16));
            if half && let Some(both) = tensor::decode(tensor)?.as_ref().and_then(Both::plain) {
                self.made.insert(name.clone(), both);
            }
        }
        Ok(())
    }

    /// The network with other names resolved, and what it was.
    fn finish(mut self, mut graph: GraphProto) -> (GraphProto, HashMap<String, Both>, HashMap<String, Affine>, bool) {
        let alias = std::mem::take(&mut self.alias);
        let resolve = |name: &mut String| *name = resolved(&alias, name).to_owned();
        for node in &mut self.nodes {
            node.input.iter_mut().for_each(resolve);
        }
        graph.output.iter_mut().filter_map(|info| info.name.as_mut()).for_each(resolve);
        graph.node = self.nodes;
        for tensor in graph.input.iter_mut().filter_map(|info| info.r#type.as_mut()?.tensor_type.as_mut()) {
            if matches!(tensor.elem_type, Some(DataType::FLOAT16 | DataType::BFLOAT16)) {
                tensor.elem_type = Some(DataType::FLOAT);
            }
        }
        let mut kept: Vec<(String, TensorProto)> =
            self.tensors.into_iter().filter(|(name, _)| !self.made.contains_key(name)).collect();
        kept.extend(self.made.iter().map(|(name, both)| (name.clone(), float(name, both))));
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        graph.initializer = kept.into_iter().map(|(_, tensor)| tensor).collect();
        (graph, self.made, self.affines, self.quantised)
    }
}

/// Follows other names to the last one; a cycle, which only a damaged file has, ends somewhere in it.
fn resolved<'a>(alias: &'a HashMap<String, String>, mut name: &'a str) -> &'a str {
    let mut seen = HashSet::new();
    while let Some(to) = alias.get(name).filter(|to| seen.insert(to.as_str())) {
        name = to;
    }
    name
}

/// How a node that quantises says its scales lie.
fn layout(node: &NodeProto) -> Layout {
    let number = |name: &str| node.attribute.iter().find(|a| a.name.as_deref() == Some(name))?.i;
    let block = usize::try_from(number("block_size").unwrap_or(0)).unwrap_or(0);
    Layout { axis: number("axis").unwrap_or(1), block }
}

/// The numbers of a constant as one of `f32`.
fn float(name: &str, both: &Both) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: both.dims.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect(),
        data_type: Some(DataType::FLOAT),
        raw_data: Some(RefCell::new(both.numbers.iter().flat_map(|x| x.to_le_bytes()).collect())),
        ..TensorProto::default()
    }
}
