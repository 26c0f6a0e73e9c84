//! ONNX files in and out.
//!
//! Reading takes files of all operator sets and IR versions, plain or gzipped, with the operators of feed-forward and
//! convolutional networks and of transformers (the error for another one lists them). Windows are 1-D or 2-D, weights
//! constant; Dropout and BatchNormalization are those of inference. Some operators become others that are the same
//! function of real numbers: Flatten, Squeeze and the like become [`Reshape`](super::Op::Reshape); Slice, Gather and
//! Split become [`Select`](super::Op::Select), or an [`Embedding`](super::Op::Embedding) where the indices are
//! computed; a sum with a triangle of -1e9 or less and a Softmax become a [`CausalSoftmax`](super::Op::CausalSoftmax);
//! a 1-D window becomes a 2-D one of height 1; ReduceMax and ReduceMean become pools;
//! Clip becomes ReLUs, Neg a product, Sum sums. Arithmetic on shapes
//! (Shape, Gather, Concat, ...) is done while reading.
//!
//! What a network means is never changed silently: weights are the file's numbers, constant arithmetic is
//! folded only where it is exact in `f32`, and whatever is not understood is an error that names the node.
//!
//! An input of integers is one of whole numbers, of which nothing but rows of tables can be asked.
//! A first input dimension that is symbolic, absent, 0 or -1 is the batch and becomes 1; a fixed one is kept.
//!
//! Written to be safe on any bytes: a structural check (`wire`) runs before the reader proper.

mod attributes;
mod build;
mod fold;
mod order;
mod prune;
mod reshape;
mod tensor;
#[cfg(test)]
mod tests;
mod wire;
mod write;

pub use write::write;

use super::Graph;
use crate::error::{Error, ErrorKind, Result};
use flate2::read::MultiGzDecoder;
use rten_onnx::onnx::{ModelProto, NodeProto};
use std::io::Read;
use std::path::Path;

/// What is added to scores that a causal softmax must not see. Whatever is added to it, its exponential is 0 beside
/// that of a score that counts.
const MASK: f32 = -1e9;

/// Largest unpacked size of a gzipped file: Protocol Buffers messages end at 2 GiB anyway.
const MAX_UNPACKED: u64 = 2 << 30;

/// Reads a network from an ONNX file, plain or gzipped (told apart by content), and returns it with the unpacked bytes
/// of the file (for hashing).
///
/// # Errors
/// `Io` if the file cannot be read, `TooBig` if it unpacks to more than 2 GiB, else as [`parse`]; all name the file.
pub fn read(path: &Path) -> Result<(Graph, Vec<u8>)> {
    let bytes = bytes(path)?;
    let graph = parse(&bytes).map_err(|e| e.in_file(path))?;
    Ok((graph, bytes))
}

/// The bytes of an ONNX file, unpacked.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    unpack(bytes).map_err(|e| e.in_file(path))
}

/// Reads a network from the bytes of an ONNX file (not gzipped).
///
/// # Errors
/// `BadInput` if the bytes are not a well-formed network, `Unsupported` if it uses something that is not
/// supported yet; both name the node or tensor and say what to do.
pub fn parse(bytes: &[u8]) -> Result<Graph> {
    let (model, name) = model(bytes)?;
    graph(&model, name)
}

/// What a file says, and the name of its network, before any of it is understood: for readers of more than networks of `f32`.
pub(crate) fn model(bytes: &[u8]) -> Result<(ModelProto, String)> {
    let outline = wire::check(bytes)?;
    let model = ModelProto::parse_buf(bytes).map_err(|e| {
        Error::bad_input(format!("not an ONNX file: {e}"))
            .with_help("the file may be damaged; export or download it again")
            .with_source(e)
    })?;
    Ok((model, outline.name))
}

/// The network of a file.
pub(crate) fn graph(model: &ModelProto, name: String) -> Result<Graph> {
    match &model.graph {
        Some(graph) => build::graph(graph, name, opset(model)),
        None => Err(Error::bad_input("not an ONNX file: there is no network in it")),
    }
}

/// The version of the standard operators; the oldest files do not state it.
fn opset(model: &ModelProto) -> i64 {
    let standard = |domain: Option<&str>| matches!(domain.unwrap_or_default(), "" | "ai.onnx");
    let mut imports = model.opset_import.iter();
    imports.find(|import| standard(import.domain.as_deref())).and_then(|import| import.version).unwrap_or(1)
}

fn unpack(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(&bytes[..]).take(MAX_UNPACKED + 1).read_to_end(&mut unpacked).map_err(|e| {
        Error::bad_input(format!("the gzip data is damaged: {e}")).with_help("download the file again").with_source(e)
    })?;
    if unpacked.len() as u64 > MAX_UNPACKED {
        return Err(Error::new(ErrorKind::TooBig, "the file unpacks to more than 2 GiB"));
    }
    Ok(unpacked)
}

/// What errors call a node: its name, or its operator and its index in the file.
pub(crate) fn node_name(node: &NodeProto, at: usize) -> String {
    match node.name.as_deref() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("{}_{at}", node.op_type.as_deref().unwrap_or("node")),
    }
}
