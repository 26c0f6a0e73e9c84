//! Networks for other programs: safetensors and ONNX, streamed from the device, so that tables of gigabytes are never on the host as a whole.
//!
//! The bias feature, the bias column and the zeros behind it, which tables carry inside, become arrays of their own:
//!
//! | tensor | shape | from |
//! | --- | --- | --- |
//! | `input.weight` | `[features, hidden]` | all but the last row of the input table |
//! | `input.bias` | `[hidden]` | its last row |
//! | `output.weight` | `[labels, hidden]` | the first columns of the output table |
//! | `output.bias` | `[labels]` | the column behind them |
//!
//! so `logits = output.weight relu(input.weight^T x + input.bias) + output.bias`, without the `relu` in networks that have none (the metadata of a
//! safetensors file says it: `relu`). With catch-up optimisers the tables must be brought up to date before.

mod onnx;

use std::collections::BTreeMap;
use std::path::Path;

use super::checkpoint::{Draft, Real, pieces, read_async};
use super::layer::Hidden;
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::hash::width;
use crate::tensor::Tensor;

#[cfg(not(target_arch = "wasm32"))]
pub use onnx::onnx;
pub use onnx::{OnnxInput, OnnxOptions, onnx_async};

/// The weights of a network on the device.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// `[features + 1, width(hidden)]`.
    pub input: &'a Tensor,
    /// `[labels, width(hidden)]`.
    pub output: &'a Tensor,
    /// Hidden elements.
    pub hidden: usize,
    /// Whether the hidden layer has a ReLU.
    pub relu: bool,
}

/// A kind of file for other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The tensors alone.
    Safetensors,
    /// A network that runs.
    Onnx(OnnxOptions),
}

/// Writes a network whose rows are up to date; weights in bf16 become f32. `metadata` is for safetensors.
///
/// # Errors
/// Those of [`safetensors_async`] and [`onnx_async`].
pub async fn write_async(
    network: &super::Network,
    path: &Path,
    format: Format,
    metadata: &BTreeMap<String, String>,
    control: &Control,
) -> Result<()> {
    let (input, output) = (network.feature_rows_async().await?, network.label_rows_async().await?);
    let Hidden { elements, relu } = network.hidden();
    let weights = Network { input: &input, output: &output, hidden: elements, relu };
    match format {
        Format::Safetensors => safetensors_async(network.gpu(), &weights, path, metadata, control).await,
        Format::Onnx(options) => onnx_async(network.gpu(), &weights, path, options, control).await,
    }
}

/// Blocking twin of [`write_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn write(
    network: &super::Network,
    path: &Path,
    format: Format,
    metadata: &BTreeMap<String, String>,
    control: &Control,
) -> Result<()> {
    pollster::block_on(write_async(network, path, format, metadata, control))
}

impl Network<'_> {
    fn features(&self) -> usize {
        self.input.shape()[0] - 1
    }

    fn labels(&self) -> usize {
        self.output.shape()[0]
    }

    fn check(&self) -> Result<()> {
        let width = width(self.hidden);
        let fits = |table: &Tensor| matches!(table.shape(), &[rows, columns] if rows > 0 && columns == width);
        if self.hidden > 0 && fits(self.input) && fits(self.output) {
            return Ok(());
        }
        let (input, output) = (self.input.shape(), self.output.shape());
        Err(Error::internal(format!("tables {input:?} and {output:?} of {} hidden elements", self.hidden)))
    }
}

/// Writes the first `hidden` columns of all rows but the last `but` of a table, and returns what stands in column `hidden` of those rows and the
/// rows that were left out.
async fn stream_async(
    gpu: &Gpu,
    (table, hidden, but): (&Tensor, usize, usize),
    draft: &mut Draft<'_>,
    control: &Control,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let (rows, columns) = (table.shape()[0], table.columns());
    let words = [table.words::<u32>()];
    let (mut behind, mut last) = (Vec::new(), Vec::new());
    for range in pieces(rows, columns) {
        control.cancel.check()?;
        control.report("exporting", range.start as u64, rows as u64, "rows");
        let piece = read_async(gpu, &words, &range, control).await?;
        let written = range.len().min((rows - but).saturating_sub(range.start));
        let (piece, rest) = piece[0].split_at(written * columns);
        let mut out = Vec::with_capacity(written * hidden);
        for row in piece.chunks_exact(columns) {
            out.extend_from_slice(&row[..hidden]);
            behind.push(row[hidden]);
        }
        draft.write_words(&out)?;
        rest.chunks_exact(columns).for_each(|row| last.extend_from_slice(&row[..hidden]));
    }
    Ok((behind, last))
}

/// Writes a safetensors file with these entries of metadata. The file appears under its name when all of it is on the disk.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; those of [`Gpu::run_async`].
pub async fn safetensors_async(
    gpu: &Gpu,
    network: &Network<'_>,
    path: &Path,
    metadata: &BTreeMap<String, String>,
    control: &Control,
) -> Result<()> {
    network.check()?;
    let (features, labels, hidden) = (network.features(), network.labels(), network.hidden);
    let tensors = [
        ("input.weight", vec![features, hidden]),
        ("input.bias", vec![hidden]),
        ("output.weight", vec![labels, hidden]),
        ("output.bias", vec![labels]),
    ];
    let mut draft = Draft::beside(&Real, path)?;
    let header = header(&tensors, network.relu, metadata)?;
    draft.write(&(header.len() as u64).to_le_bytes())?;
    draft.write(header.as_bytes())?;
    let (_, bias) = stream_async(gpu, (network.input, hidden, 1), &mut draft, control).await?;
    draft.write_words(&bias)?;
    let (bias, _) = stream_async(gpu, (network.output, hidden, 0), &mut draft, control).await?;
    draft.write_words(&bias)?;
    draft.keep().map(drop)
}

/// Blocking twin of [`safetensors_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn safetensors(
    gpu: &Gpu,
    network: &Network<'_>,
    path: &Path,
    metadata: &BTreeMap<String, String>,
    control: &Control,
) -> Result<()> {
    pollster::block_on(safetensors_async(gpu, network, path, metadata, control))
}

/// The header of a safetensors file of f32 tensors that follow each other, padded with spaces to a multiple of eight bytes.
fn header(tensors: &[(&str, Vec<usize>)], relu: bool, metadata: &BTreeMap<String, String>) -> Result<String> {
    let mut entries = serde_json::Map::new();
    // transformers and others ask for this entry.
    let mut all = BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("relu".to_owned(), relu.to_string())]);
    all.extend(metadata.clone());
    let json = |e: serde_json::Error| Error::internal(e.to_string());
    entries.insert("__metadata__".to_owned(), serde_json::to_value(&all).map_err(json)?);
    let mut at = 0;
    for (name, shape) in tensors {
        let end = at + 4 * shape.iter().product::<usize>();
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
        entries.insert((*name).to_owned(), entry);
        at = end;
    }
    let mut text = serde_json::to_string(&entries).map_err(json)?;
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    Ok(text)
}
