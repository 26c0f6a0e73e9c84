//! `wavehull hash export`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wavehull::hash::export::{self, Format, OnnxInput, OnnxOptions};
use wavehull::hash::session;
use wavehull::{Error, Result, VERSION};

use crate::cli::device::{DeviceArgs, DeviceReport};
use crate::cli::progress::Bar;
use crate::cli::{Global, SCHEMA};

/// Arguments of `wavehull hash export`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("files").args(["onnx", "safetensors"]).multiple(true).required(true))]
#[command(after_help = "\
Takes the newest checkpoint, so a training need not be at its end. Weights are written as f32, those of bf16 networks too.

An ONNX file takes `ids` and `values` [N, M], the features of each sample (an unused place has any id and the value 0), and gives \
`logits` [N, labels]. docs/hash.md has the tensors of a safetensors file.

Examples:
  wavehull hash export runs/relations --onnx relations.onnx --top 5
  wavehull hash export runs/relations --safetensors relations.safetensors")]
pub struct Args {
    /// The folder of a training
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Write an ONNX file
    #[arg(long, value_name = "FILE")]
    pub onnx: Option<PathBuf>,
    /// Write a safetensors file
    #[arg(long, value_name = "FILE")]
    pub safetensors: Option<PathBuf>,
    /// ONNX: take `x` [N, features] in place of `ids` and `values`
    #[arg(long, requires = "onnx")]
    pub dense: bool,
    /// ONNX: give `top_logits` and `top_labels` [N, K], the best first, in place of `logits`
    #[arg(long, value_name = "K", requires = "onnx", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(serde::Serialize)]
struct Document {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    features: usize,
    labels: usize,
    hidden: usize,
    files: Vec<Written>,
}

#[derive(serde::Serialize)]
struct Written {
    format: &'static str,
    file: PathBuf,
    bytes: u64,
}

impl Args {
    /// The files that were asked for.
    fn files(&self) -> Vec<(&Path, &'static str, Format)> {
        let input = if self.dense { OnnxInput::Dense } else { OnnxInput::Sparse };
        let top = self.top.map(|k| usize::try_from(k).unwrap_or(usize::MAX));
        let onnx = self.onnx.iter().map(|path| (path.as_path(), "onnx", Format::Onnx(OnnxOptions { input, top })));
        let tensors = self.safetensors.iter().map(|path| (path.as_path(), "safetensors", Format::Safetensors));
        onnx.chain(tensors).collect()
    }
}

/// Writes a trained network for other programs.
///
/// # Errors
/// Bad files with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let (config, [features, labels]) = session::configuration(&args.folder)?;
    let gpu = args.device.open(global)?;
    let bar = Bar::phases(global);
    let control = bar.control();
    let network = session::open(&gpu, &args.folder, &control)?;
    let mut files = Vec::new();
    for (path, name, format) in args.files() {
        export::write(&network, path, format, &session::about(&config), &control)?;
        let bytes = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
        files.push(Written { format: name, file: path.to_owned(), bytes });
    }
    bar.finish();
    if args.json {
        let (device, hidden) = (gpu.caps().into(), network.hidden().elements);
        global.print_json(&Document { schema: SCHEMA, version: VERSION, device, features, labels, hidden, files })?;
        return Ok(ExitCode::SUCCESS);
    }
    for Written { file, bytes, .. } in files {
        global.print(format!("{}: {features} features, {labels} labels, {bytes} bytes", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}
