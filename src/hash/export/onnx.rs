//! ONNX files, written as Protocol Buffers by hand: the encoder of the reader's crate wants all weights in memory, twice.
//!
//! Source of field numbers: onnx.proto; of the encoding: protobuf.dev/programming-guides/encoding.

use std::path::Path;

use super::{Network, stream_async};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Control, Gpu};
use crate::hash::checkpoint::{Draft, Real};

const FLOAT: u64 = 1;
const INT64: u64 = 7;
/// Of the operators and of the file.
const VERSIONS: (u64, u64) = (13, 8);

/// What a file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnnxInput {
    /// `ids` `[N, M]` (int64) and `values` `[N, M]`: M features of each of N samples; an unused place has any id and the value 0.
    #[default]
    Sparse,
    /// `x` `[N, features]`.
    Dense,
}

/// What an ONNX file takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnnxOptions {
    /// What it takes.
    pub input: OnnxInput,
    /// With a number: it gives `top_logits` and `top_labels` (int64) `[N, k]`, the best first and the lower label among equals. Without:
    /// `logits` `[N, labels]`.
    pub top: Option<usize>,
}

/// A message of Protocol Buffers in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, mut n: u64) -> Self {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
        self
    }

    fn number(self, field: u64, n: u64) -> Self {
        self.varint(field << 3).varint(n)
    }

    /// The head of a field of this many bytes.
    fn head(self, field: u64, bytes: u64) -> Self {
        self.varint(field << 3 | 2).varint(bytes)
    }

    fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut message = self.head(field, bytes.len() as u64);
        message.0.extend_from_slice(bytes);
        message
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u64, inner: &Self) -> Self {
        self.bytes(field, &inner.0)
    }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, u64)]) -> Message {
    let message = inputs.iter().fold(Message::default(), |message, name| message.text(1, name));
    let message = outputs.iter().fold(message, |message, name| message.text(2, name));
    let message = message.text(3, outputs[0]).text(4, op);
    // AttributeProto.type 2: INT.
    let attribute = |&(name, i): &(&str, u64)| Message::default().text(1, name).number(3, i).number(20, 2);
    attributes.iter().fold(message, |message, one| message.message(5, &attribute(one)))
}

/// Lengths of axes: numbers, or names of what a caller may choose.
enum Axis {
    Any(&'static str),
    Of(usize),
}

fn value(name: &str, element: u64, axes: &[Axis]) -> Message {
    let axis = |axis: &Axis| match axis {
        Axis::Any(name) => Message::default().text(2, name),
        Axis::Of(n) => Message::default().number(1, *n as u64),
    };
    let shape = axes.iter().fold(Message::default(), |shape, one| shape.message(1, &axis(one)));
    let tensor = Message::default().number(1, element).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// A tensor up to its data, which are the bytes that follow.
fn tensor_head(name: &str, element: u64, shape: &[usize], bytes: u64) -> Message {
    let message = shape.iter().fold(Message::default(), |message, &n| message.number(1, n as u64));
    message.number(2, element).text(8, name).head(9, bytes)
}

fn integers(name: &str, numbers: &[i64]) -> Message {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut message = tensor_head(name, INT64, &[numbers.len()], bytes.len() as u64);
    message.0.extend(bytes);
    message
}

/// Adds a message to a field of a graph.
fn add(graph: &mut Message, field: u64, inner: &Message) {
    *graph = std::mem::take(graph).message(field, inner);
}

impl OnnxOptions {
    /// The graph but for its weights.
    fn graph(&self, network: &Network<'_>) -> Message {
        let mut graph = Message::default().text(2, "wavehull-hash");
        let sums = if network.relu { "before" } else { "hidden" };
        self.add_input(&mut graph, network, sums);
        if network.relu {
            add(&mut graph, 1, &node("Relu", &[sums], &["hidden"], &[]));
        }
        let operands = ["hidden", "output.weight", "output.bias"];
        add(&mut graph, 1, &node("Gemm", &operands, &["logits"], &[("transB", 1)]));
        self.add_output(&mut graph, network);
        graph
    }

    /// What it takes, up to the hidden elements before their ReLU, which are called `sums`.
    fn add_input(&self, graph: &mut Message, network: &Network<'_>, sums: &str) {
        match self.input {
            OnnxInput::Sparse => {
                for node in [
                    node("Gather", &["input.weight", "ids"], &["rows"], &[("axis", 0)]),
                    node("Unsqueeze", &["values", "last_axis"], &["weights"], &[]),
                    node("Mul", &["rows", "weights"], &["products"], &[]),
                    node("ReduceSum", &["products", "features_axis"], &["sums"], &[("keepdims", 0)]),
                    node("Add", &["sums", "input.bias"], &[sums], &[]),
                ] {
                    add(graph, 1, &node);
                }
                add(graph, 5, &integers("last_axis", &[2]));
                add(graph, 5, &integers("features_axis", &[1]));
                for (name, element) in [("ids", INT64), ("values", FLOAT)] {
                    add(graph, 11, &value(name, element, &[Axis::Any("N"), Axis::Any("M")]));
                }
            }
            OnnxInput::Dense => {
                add(graph, 1, &node("Gemm", &["x", "input.weight", "input.bias"], &[sums], &[]));
                add(graph, 11, &value("x", FLOAT, &[Axis::Any("N"), Axis::Of(network.features())]));
            }
        }
    }

    /// What it gives of the logits.
    fn add_output(&self, graph: &mut Message, network: &Network<'_>) {
        let Some(k) = self.top else {
            return add(graph, 12, &value("logits", FLOAT, &[Axis::Any("N"), Axis::Of(network.labels())]));
        };
        let best = ["top_logits", "top_labels"];
        let attributes = [("axis", 1), ("largest", 1), ("sorted", 1)];
        add(graph, 1, &node("TopK", &["logits", "k"], &best, &attributes));
        add(graph, 5, &integers("k", &[i64::try_from(k).unwrap_or(i64::MAX)]));
        for (name, element) in best.into_iter().zip([FLOAT, INT64]) {
            add(graph, 12, &value(name, element, &[Axis::Any("N"), Axis::Of(k)]));
        }
    }
}

/// The four weights' fields of a graph, up to the data of each, and the bytes of that.
fn heads(network: &Network<'_>) -> [(Vec<u8>, u64); 4] {
    let (features, labels, hidden) = (network.features(), network.labels(), network.hidden);
    let head = |name: &str, shape: &[usize]| {
        let bytes = 4 * shape.iter().product::<usize>() as u64;
        let head = tensor_head(name, FLOAT, shape, bytes);
        let mut field = Message::default().head(5, head.0.len() as u64 + bytes);
        field.0.extend(head.0);
        (field.0, bytes)
    };
    [
        head("input.weight", &[features, hidden]),
        head("input.bias", &[hidden]),
        head("output.weight", &[labels, hidden]),
        head("output.bias", &[labels]),
    ]
}

/// Writes an ONNX file (operator set 13). The file appears under its name when all of it is on the disk.
///
/// # Errors
/// [`ErrorKind::TooBig`] beyond the 2 GiB of such a file; [`ErrorKind::BadInput`] for more best labels than there are labels;
/// [`ErrorKind::Io`]; those of [`Gpu::run_async`].
pub async fn onnx_async(
    gpu: &Gpu,
    network: &Network<'_>,
    path: &Path,
    options: OnnxOptions,
    control: &Control,
) -> Result<()> {
    network.check()?;
    let (features, labels, hidden) = (network.features(), network.labels(), network.hidden);
    if let Some(k) = options.top.filter(|&k| k == 0 || k > labels) {
        let what = format!("the best {k} of {labels} labels");
        return Err(Error::bad_input(what).with_help("ask for fewer, at least one"));
    }
    let (heads, graph) = (heads(network), options.graph(network));
    let length = graph.0.len() as u64 + heads.iter().map(|(head, bytes)| head.len() as u64 + bytes).sum::<u64>();
    if length > (2 << 30) - 4096 {
        let what = format!(
            "{features} features and {labels} labels with {hidden} hidden elements are beyond the 2 GiB of an ONNX file"
        );
        return Err(Error::new(ErrorKind::TooBig, what).in_file(path).with_help("write safetensors"));
    }
    let opset = Message::default().text(1, "").number(2, VERSIONS.0);
    let model = Message::default().number(1, VERSIONS.1).text(2, "wavehull").text(3, crate::VERSION).message(8, &opset);
    let mut draft = Draft::beside(&Real, path)?;
    draft.write(&model.head(7, length).0)?;
    draft.write(&graph.0)?;
    for (i, table) in [(network.input, 1), (network.output, 0)].into_iter().enumerate() {
        let [(weight, _), (bias, _)] = [&heads[2 * i], &heads[2 * i + 1]];
        draft.write(weight)?;
        let (behind, last) = stream_async(gpu, (table.0, hidden, table.1), &mut draft, control).await?;
        draft.write(bias)?;
        // The input's bias is a row, the output's a column.
        draft.write_words(if i == 0 { &last } else { &behind })?;
    }
    draft.keep().map(drop)
}

/// Blocking twin of [`onnx_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn onnx(gpu: &Gpu, network: &Network<'_>, path: &Path, options: OnnxOptions, control: &Control) -> Result<()> {
    pollster::block_on(onnx_async(gpu, network, path, options, control))
}
