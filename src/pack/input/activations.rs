//! Activation maps of real samples: the network runs on a device twice, once for the ranges of its values and once to store them.

use std::collections::HashMap;

use ndarray::{ArrayView2, s};

use super::layers::{Found, Map};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::graph::{Executor, Graph, ValueId};
use crate::pack::quantise::{self, Affine, Calibrator, Storage};
use crate::pack::values::Values;

/// Bytes of device memory that the maps of a batch may take, and again as many for their way to the host.
const BATCH_BYTES: usize = 64 << 20;

/// The maps that layers read and write, for each sample.
pub(super) struct Maps {
    of: HashMap<Map, Vec<Values>>,
}

impl Maps {
    /// Runs the network on samples `[n, input]` and stores what layers read and write. `fixed` is how a file says that a value is
    /// quantised; others are spread over the range that they have on these samples.
    pub(super) async fn new(
        gpu: &Gpu,
        graph: &Graph,
        layers: &[Found],
        samples: &ArrayView2<'_, f32>,
        storage: &Storage,
        fixed: &dyn Fn(&str) -> Option<Affine>,
        control: &Control,
    ) -> Result<Self> {
        check(graph, samples)?;
        let mut maps: Vec<(Map, String)> = Vec::new();
        for layer in layers {
            let name = &graph.nodes[layer.at].name;
            for (map, what) in [(layer.input, "input"), (layer.output, "output")] {
                if maps.iter().all(|(other, _)| *other != map) {
                    maps.push((map, format!("{name}.{what}")));
                }
            }
        }
        let taps: Vec<ValueId> = maps.iter().map(|(map, _)| map.value).collect();
        let runner = Runner { executor: Executor::tapped_async(gpu, graph, &taps).await?, batch: batch(graph, &taps) };
        let given = |id: ValueId| fixed(&graph.value(id).name);
        let mut affines: Vec<Option<Affine>> = taps.iter().map(|&id| given(id)).collect();
        if affines.contains(&None) && !storage.element.is_float() {
            let numbers = |id: &ValueId| samples.nrows() * graph.value(*id).shape.iter().product::<usize>();
            let mut calibrators: Vec<Calibrator> =
                taps.iter().map(|id| Calibrator::new(storage.calibration, numbers(id))).collect();
            let see = |which: usize, _: usize, elements: &[f32]| {
                finite(&maps[which].1, elements)?;
                calibrators[which].see(elements);
                Ok(())
            };
            runner.run(samples, "calibrating", control, see).await?;
            for (affine, calibrator) in affines.iter_mut().zip(&calibrators) {
                let [low, high] = calibrator.range();
                affine.get_or_insert_with(|| Affine::new(storage.element, low, high));
            }
        }
        let mut of: HashMap<Map, Vec<Values>> = HashMap::new();
        let store = |which: usize, _: usize, elements: &[f32]| {
            let (map, name) = &maps[which];
            let affine = affines[which].unwrap_or(Affine { scale: 0.0, zero_point: 0 });
            // A file's own scales are those of 8 bits.
            let element = if given(map.value).is_some() { crate::pack::Element::I8 } else { storage.element };
            let arranged = map.form.arrange(elements);
            let stored = quantise::activations(name, map.form.shape(), &arranged, element, affine)?;
            of.entry(*map).or_default().push(stored.values);
            Ok(())
        };
        runner.run(samples, "storing activations", control, store).await?;
        Ok(Self { of })
    }

    /// The maps of a value, one a sample, in the form in which a layer sees it.
    pub(super) fn get(&self, map: Map) -> Vec<Values> {
        self.of.get(&map).cloned().unwrap_or_default()
    }
}

struct Runner {
    executor: Executor,
    batch: usize,
}

impl Runner {
    /// Runs all samples and shows each kept value of each: which value, which sample, elements.
    async fn run(
        &self,
        samples: &ArrayView2<'_, f32>,
        phase: &str,
        control: &Control,
        mut show: impl FnMut(usize, usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let count = samples.nrows();
        for from in (0..count).step_by(self.batch) {
            control.report(phase, from as u64, count as u64, "samples");
            let to = count.min(from + self.batch);
            let values = self.executor.run_tapped_async(&samples.slice(s![from..to, ..]), control).await?;
            for (which, rows) in values.iter().enumerate() {
                for (row, sample) in rows.rows().into_iter().zip(from..to) {
                    show(which, sample, row.as_slice().ok_or_else(|| Error::internal("rows have gaps"))?)?;
                }
            }
        }
        control.report(phase, count as u64, count as u64, "samples");
        Ok(())
    }
}

/// Samples that run at once: as many as [`BATCH_BYTES`] have room for.
fn batch(graph: &Graph, taps: &[ValueId]) -> usize {
    let elements: usize = taps.iter().map(|&id| graph.value(id).shape.iter().product::<usize>()).sum();
    (BATCH_BYTES / 4 / elements.max(1)).clamp(1, 256)
}

/// Refuses samples that the network does not take.
pub(super) fn check(graph: &Graph, samples: &ArrayView2<'_, f32>) -> Result<()> {
    let (count, length) = samples.dim();
    let shape = &graph.value(graph.input).shape;
    if count == 0 || length != graph.input_len() {
        return Err(Error::bad_input(format!(
            "{count} samples of {length} numbers for a network that takes {shape:?}"
        ))
        .with_help("the first axis counts samples; the others are those of the network's input, in its order"));
    }
    match samples.indexed_iter().find(|(_, x)| !x.is_finite()) {
        Some(((sample, at), x)) => {
            Err(Error::bad_input(format!("number {at} of sample {sample} (both from 0) is {x}"))
                .with_help("remove the sample or fill in a number"))
        }
        None => Ok(()),
    }
}

fn finite(name: &str, elements: &[f32]) -> Result<()> {
    if elements.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(Error::bad_input(format!("'{name}' is not finite on these samples"))
        .with_help("the network overflows: check how samples must be scaled"))
}
