//! ONNX networks: in `f32`, in fp16 and bf16, and quantised (QDQ, QLinear and Integer operators).
//!
//! Of a quantised file, weights are stored values bit for bit: `(code - zero point)` modulo the container, unsigned (`u8`) where the zero
//! point is the smallest code; 4 bits are always two's complement. Activations are those of the network of the `f32` numbers that
//! weights stand for, cut and rounded where a QuantizeLinear (or the result of a QLinear operator) is, and stored with the file's scales
//! and zero points: sums are of `f32`, so a value may lie a step beside what integer arithmetic gives. What DynamicQuantizeLinear
//! rounds is not rounded here, and is calibrated on the samples.
//!
//! Networks with operators that are not read give their weights alone, laid out as the nodes that read them say.

mod constants;
mod rewrite;
mod tensor;
mod weights;

use std::collections::HashMap;
use std::path::Path;

use ndarray::ArrayD;

use self::rewrite::Plain;
use super::{Codes, ReadOptions, activations, assemble, flatten, layers, maps, samples, workload_async};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Control, Gpu};
use crate::graph::{Graph, Value, onnx};
use crate::pack::layer::Workload;

pub(super) async fn read(gpu: &Gpu, path: &Path, options: &ReadOptions, control: &Control) -> Result<Workload> {
    let (model, name) = onnx::model(&onnx::bytes(path)?)?;
    let mut plain = rewrite::plain(model)?;
    let graph = match onnx::graph(&plain.model, name.clone()) {
        Ok(graph) => graph,
        Err(why) if why.kind() == ErrorKind::Unsupported && options.inputs.is_none() => {
            let note = format!("weights alone, the network is not read: {}", why.message());
            let loose = weights::alone(&plain, options)?;
            return Ok(Workload { name, loose, notes: vec![note], ..Workload::default() });
        }
        Err(why) if why.kind() == ErrorKind::Unsupported => {
            let help =
                "leave the inputs out to have the weights alone, or give activations as an NPZ file of arrays a/NAME";
            return Err(match why.help() {
                Some(more) => {
                    let help = format!("{help}; {more}");
                    why.with_help(help)
                }
                None => why.with_help(help),
            });
        }
        Err(why) => return Err(why),
    };
    let samples = options.inputs.as_deref().map(|inputs| fitting(inputs, options.samples, &graph)).transpose()?;
    let ReadOptions { weights, activations, .. } = options;
    if plain.made.is_empty() && !plain.quantised {
        return workload_async(gpu, &graph, samples.as_ref(), weights, activations, control).await;
    }
    let codes = codes(&mut plain, name)?;
    let (found, notes) = layers::of(&graph);
    let maps = maps(gpu, &graph, &found, Some(&codes), samples.as_ref(), activations, control).await?;
    let mut workload = assemble(&graph, &found, Some(&codes), maps.as_ref(), weights)?;
    workload.notes.splice(0..0, notes);
    if plain.quantised {
        let note = "weights are stored as the file has them; activations are computed in f32 and rounded where the file quantises";
        workload.notes.push(note.to_owned());
    }
    Ok(workload)
}

/// The samples of a file, which must fit the network.
fn fitting(inputs: &Path, most: usize, graph: &Graph) -> Result<ArrayD<f32>> {
    let samples = samples(inputs, most)?;
    let rows = flatten(&samples)?;
    activations::check(graph, &rows.view()).map_err(|e| e.in_file(inputs))?;
    // Flat rows are taken, and axes of one element may be missing; another order of axes is not.
    let trimmed = |axes: &[usize]| axes.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
    let (given, wanted) = (&samples.shape()[1..], &graph.value(graph.input).shape);
    if given.len() > 1 && trimmed(given) != trimmed(wanted) {
        return Err(Error::bad_input(format!("samples of shape {given:?} for a network that takes {wanted:?}"))
            .in_file(inputs)
            .with_help("give the axes in the network's order, or each sample as one row"));
    }
    Ok(samples)
}

/// What constants hold in a file, found by reading it again with stored values in the place of numbers.
fn codes(plain: &mut Plain, name: String) -> Result<Codes> {
    let kinds = plain.kinds();
    plain.show_codes();
    let graph = onnx::graph(&plain.model, name)?;
    let stored = |value: &Value| Some((value.name.clone(), value.constant.clone()?));
    let constants: HashMap<_, _> =
        graph.values.iter().filter(|value| kinds.contains_key(&value.name)).filter_map(stored).collect();
    Ok(Codes { constants, kinds, affines: std::mem::take(&mut plain.affines) })
}
