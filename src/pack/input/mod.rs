//! Where tensors come from: ONNX networks, float or quantised, and arrays in NPY, NPZ and safetensors files.
//!
//! **Layers** are Conv, Gemm and MatMul with constant weights; products of two computed values, transposed convolutions and stacks of
//! matrices are left out, with a note in the workload. Batch normalisation behind a convolution is folded into it. A layer's input is
//! the value that its node reads; its output is the value behind the activation function and the arithmetic with constants that
//! follow, since no accelerator writes what comes between. What another node rearranges (a Flatten before a dense layer) is stored
//! in the order in which that layer reads it.
//!
//! **Activations** are those of samples that are given, run on a device in `f32`, and stored as [`Storage`] says; the same samples
//! calibrate. Of a quantised ONNX file, weights are kept bit for bit, and the network runs in `f32`, rounded where the file
//! quantises: a value may lie a step beside what integer arithmetic gives.

mod activations;
mod arrays;
mod fold;
mod layers;
mod onnx;
pub(in crate::pack) mod safetensors;
mod samples;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::ArrayD;

use self::activations::Maps;
use self::layers::{Found, WeightForm};
use super::integer::Samples;
use super::layer::{Layer, Workload};
use super::machine::scalesim;
use super::quantise::{self, Affine, Storage};
use super::tflite;
use super::values::{Element, Granularity, Kind, Values};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::graph::{Graph, Op, Value};

pub use samples::{flatten, samples};

/// How a file becomes a [`Workload`].
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// How weights in floating point are stored.
    pub weights: Storage,
    /// How activations are stored, where the file does not say.
    pub activations: Storage,
    /// What a network is run on: a file that [`samples()`] reads. Without, there are no activations.
    pub inputs: Option<PathBuf>,
    /// How many samples of it are taken, from the first on.
    pub samples: usize,
}

impl Default for ReadOptions {
    /// Eight bits: weights with a scale an output channel, activations with one a tensor.
    fn default() -> Self {
        Self {
            weights: Storage::per_channel(Element::I8),
            activations: Storage::per_tensor(Element::U8),
            inputs: None,
            samples: 16,
        }
    }
}

/// What a file is, by its first bytes.
enum Format {
    Onnx,
    Npy,
    Npz,
    Safetensors,
    Tflite,
    Layers,
}

/// Blocking twin of [`read_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn read(gpu: &Gpu, path: &Path, options: &ReadOptions, control: &Control) -> Result<Workload> {
    pollster::block_on(read_async(gpu, path, options, control))
}

/// Reads a file of any format, which its first bytes tell. Only networks with inputs are run on the device.
///
/// # Errors
/// `Io`, `BadInput` and `Unsupported`, all naming the file and most of them the tensor or node; errors of the device.
pub async fn read_async(gpu: &Gpu, path: &Path, options: &ReadOptions, control: &Control) -> Result<Workload> {
    let mut workload = match format(path)? {
        Format::Onnx => onnx::read(gpu, path, options, control).await,
        Format::Npy => arrays::npy(path, options),
        Format::Npz => arrays::npz(path, options),
        Format::Safetensors => safetensors::read(path, options),
        Format::Tflite => integers(gpu, path, options, control).await,
        Format::Layers => scalesim::read_topology(path, None),
    }
    // Errors of the inputs have their own file.
    .map_err(|e| if e.place().is_some() { e } else { e.in_file(path) })?;
    workload.name = stem(path);
    Ok(workload)
}

/// The name of a file without folder and ending.
pub(in crate::pack) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

fn format(path: &Path) -> Result<Format> {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(16).read_to_end(&mut head)).map_err(|e| Error::io(path, e))?;
    let named = |ending: &str| path.to_string_lossy().to_lowercase().ends_with(ending);
    // A safetensors file starts with the length of its header, far below 2^32, and the header with a brace.
    let safetensors = head.len() > 8 && head[4..8] == [0; 4] && head[8] == b'{';
    match &head[..] {
        [] => Err(Error::bad_input("the file is empty").in_file(path)),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Ok(Format::Npy),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Ok(Format::Npz),
        _ if safetensors => Ok(Format::Safetensors),
        _ if head.get(4..8) == Some(b"TFL3") => Ok(Format::Tflite),
        _ if named(".onnx") || named(".onnx.gz") => Ok(Format::Onnx),
        _ if named(".csv") => Ok(Format::Layers),
        _ => Err(Error::unsupported("this is no kind of file that is read")
            .in_file(path)
            .with_help(
                "ONNX networks (named .onnx), full-integer TFLite networks, arrays in NPY, NPZ and safetensors files and SCALE-Sim's \
                 tables of layers (named .csv) are",
            )),
    }
}

/// A full-integer network with the maps of the samples that are given: numbers, or codes of its input.
async fn integers(gpu: &Gpu, path: &Path, options: &ReadOptions, control: &Control) -> Result<Workload> {
    let network = tflite::read(path)?;
    let Some(file) = &options.inputs else { return Ok(network.workload()) };
    let given = samples::given(file, options.samples)?;
    let wanted = &network.input().shape;
    let trimmed = |axes: &[usize]| axes.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
    // Flat rows are taken, and axes of one element may be missing; another order of axes is not.
    let fits = given.shape.len() <= 1 && given.shape.iter().product::<usize>() == network.input().len();
    if given.count == 0 || !fits && trimmed(&given.shape) != trimmed(wanted) {
        let what = format!("{} samples of shape {:?}, the network takes {wanted:?}", given.count, given.shape);
        return Err(Error::bad_input(what)
            .in_file(file)
            .with_help("give an array of shape [samples, height, width, channels]"));
    }
    let codes: Vec<i8> = given.numbers.iter().map(|&code| code as i8).collect();
    let samples = if given.codes { Samples::Codes(&codes) } else { Samples::Numbers(&given.numbers) };
    network.workload_async(gpu, samples, control).await.map_err(|e| e.in_file(file))
}

/// Blocking twin of [`workload_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn workload(
    gpu: &Gpu,
    graph: &Graph,
    samples: Option<&ArrayD<f32>>,
    weights: &Storage,
    activations: &Storage,
    control: &Control,
) -> Result<Workload> {
    pollster::block_on(workload_async(gpu, graph, samples, weights, activations, control))
}

/// The layers of a network in `f32`, with weights and the activations of samples `[n, ..]` stored as asked.
///
/// # Errors
/// `BadInput` for samples that do not fit, and numbers that cannot be stored; errors of the device.
pub async fn workload_async(
    gpu: &Gpu,
    graph: &Graph,
    samples: Option<&ArrayD<f32>>,
    weights: &Storage,
    activations: &Storage,
    control: &Control,
) -> Result<Workload> {
    graph.check()?;
    let (folded, count) = fold::batch_norms(graph);
    let (found, notes) = layers::of(&folded);
    let maps = maps(gpu, &folded, &found, None, samples, activations, control).await?;
    let mut workload = assemble(&folded, &found, None, maps.as_ref(), weights)?;
    workload.notes.splice(0..0, notes);
    if count > 0 {
        workload.notes.push(format!("{count} batch normalisations are folded into the convolutions before them"));
    }
    Ok(workload)
}

/// The same network with the weights of its layers as they come back from storage, so that one can see what that costs in accuracy.
/// Batch normalisation is folded first, as for a [`Workload`].
///
/// # Errors
/// As [`quantise::weights`].
pub fn fake_quantise(graph: &Graph, storage: &Storage) -> Result<Graph> {
    graph.check()?;
    let (mut graph, _) = fold::batch_norms(graph);
    for layer in layers::of(&graph).0 {
        let value = graph.value(layer.weight.value);
        let (name, dims) = (value.name.clone(), value.shape.clone());
        let data: Vec<f32> = value.constant.iter().flat_map(|data| data.iter().copied()).collect();
        let form = layer.weight.form;
        let (shape, order) = form.order(&dims);
        let arranged: Vec<f32> = order.iter().map(|&i| data[i]).collect();
        let back = quantise::weights(&name, shape, &arranged, form.filters(), storage)?.numbers();
        let mut changed = ArrayD::zeros(dims);
        if let Some(elements) = changed.as_slice_mut() {
            order.iter().zip(back).for_each(|(&i, x)| elements[i] = x);
        }
        let id = fold::push(&mut graph, name, changed);
        graph.nodes[layer.at].inputs[layer.weight.operand] = id;
    }
    graph.check()?;
    Ok(graph)
}

/// What a quantised file stores, beside the graph of the `f32` numbers that it stands for.
#[derive(Debug)]
struct Codes {
    /// Stored values of constants, by name.
    constants: HashMap<String, Arc<ArrayD<f32>>>,
    /// The containers of constants, by name.
    kinds: HashMap<String, (Element, Granularity)>,
    /// How values are quantised, by name.
    affines: HashMap<String, Affine>,
}

/// The maps of samples, if there are any.
async fn maps(
    gpu: &Gpu,
    graph: &Graph,
    found: &[Found],
    codes: Option<&Codes>,
    samples: Option<&ArrayD<f32>>,
    storage: &Storage,
    control: &Control,
) -> Result<Option<Maps>> {
    let Some(samples) = samples else { return Ok(None) };
    let fixed = |name: &str| codes.and_then(|codes| codes.affines.get(name).copied());
    let samples = flatten(samples)?;
    Maps::new(gpu, graph, found, &samples.view(), storage, &fixed, control).await.map(Some)
}

/// A workload of layers that were found.
fn assemble(
    graph: &Graph,
    found: &[Found],
    codes: Option<&Codes>,
    maps: Option<&Maps>,
    storage: &Storage,
) -> Result<Workload> {
    let mut workload = Workload { name: graph.name.clone(), ..Workload::default() };
    for layer in found {
        let weights = constant(graph.value(layer.weight.value), codes, layer.weight.form, storage)?;
        let (inputs, outputs) = maps.map_or((vec![], vec![]), |maps| (maps.get(layer.input), maps.get(layer.output)));
        let name = graph.nodes[layer.at].name.clone();
        workload.layers.push(Layer { name, shape: layer.shape, weights: Some(weights), inputs, outputs });
    }
    let tables = graph.nodes.iter().filter(|node| matches!(node.op, Op::Embedding { .. }));
    for table in tables.map(|node| node.inputs[1]) {
        workload.loose.push(constant(graph.value(table), codes, WeightForm::Rows, storage)?);
    }
    if workload.layers.is_empty() {
        workload.notes.push("there is no layer with constant weights in this network".to_owned());
    }
    Ok(workload)
}

/// A constant of a network as weights.
fn constant(value: &Value, codes: Option<&Codes>, form: WeightForm, storage: &Storage) -> Result<Values> {
    let elements = |data: &ArrayD<f32>| data.iter().copied().collect::<Vec<f32>>();
    let numbers = value.constant.as_deref().map_or_else(Vec::new, elements);
    let stored = codes.and_then(|codes| {
        let stored = codes.constants.get(&value.name).filter(|stored| stored.shape() == value.shape)?;
        Some((*codes.kinds.get(&value.name)?, elements(stored)))
    });
    weight(&value.name, &value.shape, &numbers, stored, form, storage)
}

/// A constant as weights: its stored values where it has some, else quantised.
fn weight(
    name: &str,
    dims: &[usize],
    data: &[f32],
    stored: Option<((Element, Granularity), Vec<f32>)>,
    form: WeightForm,
    storage: &Storage,
) -> Result<Values> {
    let (shape, order) = form.order(dims);
    match stored {
        Some(((element, granularity), codes)) => {
            let codes = order.iter().map(|&i| codes[i] as i32);
            let values = quantise::stored(name, Kind::Weights, element, &shape, codes)?;
            Ok(values.quantised(granularity))
        }
        None => {
            let arranged: Vec<f32> = order.iter().map(|&i| data[i]).collect();
            Ok(quantise::weights(name, shape, &arranged, form.filters(), storage)?.values)
        }
    }
}
