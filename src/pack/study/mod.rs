//! Studies: every scheme on every tensor of a network, and what machines make of it.

mod remarks;
mod sweep;

#[cfg(not(target_arch = "wasm32"))]
pub use sweep::sweep;
pub use sweep::{Candidate, Point, Sweep, sweep_async};

use serde::Serialize;

use super::machine::energy::Sourced;
use super::machine::{Cost, Energy, Idle, Machine, PerOperand, Question, Stored, costs_async};
use super::{Element, Granularity, Meter, Scheme, Size, Values, Workload};
use crate::error::Result;
use crate::gpu::{Control, Gpu};

/// Every scheme on every tensor of a network, and what machines make of it.
#[derive(Debug, Clone, Serialize)]
pub struct Study {
    /// The network.
    pub network: String,
    /// Names of the schemes, in the order of every list of sizes.
    pub schemes: Vec<String>,
    /// Inputs that activations are of.
    pub samples: usize,
    /// Names of the layers, in the order of computing.
    pub layers: Vec<String>,
    /// Tensors in the order of layers: weights, the map that is read, the map that is written.
    pub tensors: Vec<Footprint>,
    /// What layers cost on each machine; empty where no machine was asked for.
    pub machines: Vec<MachineStudy>,
    /// What a designer should know before quoting any of it.
    pub remarks: Vec<String>,
}

/// What a tensor is to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Weights of a layer.
    Weights,
    /// The map that a layer reads.
    Input,
    /// The map that a layer writes: traffic, and no footprint of its own, as another layer reads it.
    Output,
    /// A tensor without a layer.
    Loose,
}

impl Role {
    /// In a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Input => "input",
            Self::Output => "output",
            Self::Loose => "loose",
        }
    }
}

/// One tensor under each scheme; a map's numbers are sums over all samples.
#[derive(Debug, Clone, Serialize)]
pub struct Footprint {
    /// The layer, by its place.
    pub layer: Option<usize>,
    /// Name of the layer or tensor.
    pub name: String,
    /// What it is to its layer.
    pub role: Role,
    /// The container.
    pub element: Element,
    /// How finely it was quantised.
    pub granularity: Granularity,
    /// Of one sample.
    pub shape: Vec<usize>,
    /// Number of values.
    pub values: u64,
    /// How many of them are zero.
    pub zeros: u64,
    /// Bits uncompressed.
    pub bits: u64,
    /// Under each scheme.
    pub sizes: Vec<Size>,
}

/// A network on a machine, under each scheme.
#[derive(Debug, Clone, Serialize)]
pub struct MachineStudy {
    /// The machine's name.
    pub machine: String,
    /// One entry a scheme that can be stored; the entropy is none.
    pub schemes: Vec<SchemeCost>,
    /// Where the energies come from.
    pub sources: Vec<Sourced>,
}

/// A network on a machine under one scheme, for one sample.
#[derive(Debug, Clone, Serialize)]
pub struct SchemeCost {
    /// The scheme.
    pub scheme: String,
    /// Of each layer.
    pub layers: Vec<Cost>,
    /// Of all layers, one after the other.
    pub total: Cost,
}

/// Sizes of a kind of tensors together.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Total {
    /// Number of values.
    pub values: u64,
    /// How many of them are zero.
    pub zeros: u64,
    /// Bits uncompressed.
    pub bits: u64,
    /// Under each scheme.
    pub sizes: Vec<Size>,
}

impl Total {
    /// What scheme `i` takes, of what uncompressed values take; 1 where there are none.
    pub fn share(&self, i: usize) -> f64 {
        if self.bits == 0 { 1.0 } else { self.sizes[i].total() as f64 / self.bits as f64 }
    }

    /// Share of zeros.
    pub fn zero_share(&self) -> f64 {
        self.zeros as f64 / self.values.max(1) as f64
    }
}

impl Study {
    /// Sizes of all tensors of a role together.
    pub fn total(&self, role: Role) -> Total {
        let mut total = Total { sizes: vec![Size::default(); self.schemes.len()], ..Total::default() };
        for tensor in self.tensors.iter().filter(|tensor| tensor.role == role) {
            total.values += tensor.values;
            total.zeros += tensor.zeros;
            total.bits += tensor.bits;
            for (sum, size) in total.sizes.iter_mut().zip(&tensor.sizes) {
                *sum = sum.plus(size);
            }
        }
        total
    }
}

/// Measures a network under schemes, and what it costs on machines, which may be none.
///
/// # Errors
/// Errors of the device; [`crate::ErrorKind::BadInput`] where a machine needs values that the network has not.
pub async fn study_async(
    gpu: &Gpu,
    workload: &Workload,
    schemes: &[Scheme],
    machines: &[Machine],
    control: &Control,
) -> Result<Study> {
    let tensors = footprints(gpu, workload, schemes, control).await?;
    let samples = workload.layers.iter().map(|layer| layer.inputs.len()).max().unwrap_or(0);
    let mut study = Study {
        network: workload.name.clone(),
        schemes: schemes.iter().map(ToString::to_string).collect(),
        samples,
        layers: workload.layers.iter().map(|layer| layer.name.clone()).collect(),
        tensors,
        machines: vec![],
        remarks: vec![],
    };
    let kept: Vec<usize> = (0..schemes.len()).filter(|&i| schemes[i] != Scheme::Entropy).collect();
    let stored: Vec<Vec<Stored>> = kept.iter().map(|&scheme| study.stored(workload, scheme)).collect();
    let mut costs = costs(gpu, workload, machines, &stored, control).await?.into_iter();
    for machine in machines {
        let schemes = kept.iter().map(|&scheme| study.schemes[scheme].clone());
        let schemes = schemes.zip(costs.by_ref().take(kept.len()));
        let schemes = schemes.map(|(scheme, layers)| SchemeCost { scheme, total: sum(&layers), layers }).collect();
        study.machines.push(MachineStudy { machine: machine.name().to_owned(), schemes, sources: machine.sources() });
    }
    study.remarks = remarks::of(&study);
    study.remarks.extend(workload.notes.iter().cloned());
    Ok(study)
}

/// What layers cost on each machine under each scheme, machines outermost, as one batch.
async fn costs(
    gpu: &Gpu,
    workload: &Workload,
    machines: &[Machine],
    stored: &[Vec<Stored>],
    control: &Control,
) -> Result<Vec<Vec<Cost>>> {
    let mut questions = Vec::with_capacity(machines.len() * stored.len() * workload.layers.len());
    for machine in machines {
        for scheme in stored {
            let layers = workload.layers.iter().zip(scheme);
            questions.extend(layers.map(|(layer, &stored)| Question { machine, layer, stored }));
        }
    }
    let mut answers = costs_async(Some(gpu), &questions, control).await?.into_iter();
    let count = machines.len() * stored.len();
    Ok((0..count).map(|_| answers.by_ref().take(workload.layers.len()).collect()).collect())
}

/// Blocking twin of [`study_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn study(
    gpu: &Gpu,
    workload: &Workload,
    schemes: &[Scheme],
    machines: &[Machine],
    control: &Control,
) -> Result<Study> {
    pollster::block_on(study_async(gpu, workload, schemes, machines, control))
}

/// One tensor of one role, or one map of each sample.
struct Entry<'a> {
    layer: Option<usize>,
    name: &'a str,
    role: Role,
    maps: Vec<&'a Values>,
}

fn entries(workload: &Workload) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    for (place, layer) in workload.layers.iter().enumerate() {
        let maps =
            [(Role::Weights, layer.weights.as_slice()), (Role::Input, &layer.inputs), (Role::Output, &layer.outputs)];
        for (role, maps) in maps.into_iter().filter(|(_, maps)| !maps.is_empty()) {
            entries.push(Entry { layer: Some(place), name: &layer.name, role, maps: maps.iter().collect() });
        }
    }
    let loose = |values| Entry { layer: None, name: Values::name(values), role: Role::Loose, maps: vec![values] };
    entries.extend(workload.loose.iter().map(loose));
    entries
}

async fn footprints(gpu: &Gpu, workload: &Workload, schemes: &[Scheme], control: &Control) -> Result<Vec<Footprint>> {
    let entries = entries(workload);
    let all: Vec<&Values> = entries.iter().flat_map(|entry| entry.maps.iter().copied()).collect();
    let mut measured = Meter::new(gpu).measure_async(&all, schemes, control).await?.into_iter();
    let mut footprints = Vec::with_capacity(entries.len());
    for entry in entries {
        let first = entry.maps[0];
        let mut sizes = vec![Size::default(); schemes.len()];
        for map in measured.by_ref().take(entry.maps.len()) {
            sizes.iter_mut().zip(&map).for_each(|(sum, size)| *sum = sum.plus(size));
        }
        footprints.push(Footprint {
            layer: entry.layer,
            name: entry.name.to_owned(),
            role: entry.role,
            element: first.element(),
            granularity: first.granularity(),
            shape: first.shape().to_vec(),
            values: entry.maps.iter().map(|map| map.len() as u64).sum(),
            zeros: entry.maps.iter().map(|map| map.zeros()).sum(),
            bits: entry.maps.iter().map(|map| map.bits()).sum(),
            sizes,
        });
    }
    Ok(footprints)
}

impl Study {
    /// What the tensors of each layer take in memory under a scheme: maps by their mean over samples, rounded up. A tensor whose values are not known
    /// takes containers of 8 bits, or as many as the weights of its layer if those have more.
    fn stored(&self, workload: &Workload, scheme: usize) -> Vec<Stored> {
        let mut stored: Vec<Stored> = workload
            .layers
            .iter()
            .map(|layer| {
                let bits = layer.weights.as_ref().map_or(8, |weights| weights.element().bits().max(8));
                let plain = |values: usize| u64::from(bits) * values as u64;
                Stored {
                    weights: plain(layer.shape.weights()),
                    inputs: plain(layer.shape.input.iter().product()),
                    outputs: plain(layer.shape.output().iter().product()),
                }
            })
            .collect();
        for tensor in &self.tensors {
            let Some(layer) = tensor.layer else { continue };
            let bits = tensor.sizes[scheme].total();
            match tensor.role {
                Role::Weights => stored[layer].weights = bits,
                Role::Input => stored[layer].inputs = bits.div_ceil(workload.layers[layer].inputs.len() as u64),
                Role::Output => stored[layer].outputs = bits.div_ceil(workload.layers[layer].outputs.len() as u64),
                Role::Loose => {}
            }
        }
        stored
    }
}

/// Layers one after the other; the utilisation is the mean over their cycles.
fn sum(layers: &[Cost]) -> Cost {
    let plus = |a: PerOperand, b: PerOperand| PerOperand {
        weights: a.weights + b.weights,
        inputs: a.inputs + b.inputs,
        outputs: a.outputs + b.outputs,
    };
    let mut total = Cost::default();
    let mut busy = 0.0;
    for cost in layers {
        busy += cost.utilisation * cost.cycles() as f64;
        total.compute_cycles += cost.compute_cycles;
        total.stall_cycles += cost.stall_cycles;
        total.buffer_reads = plus(total.buffer_reads, cost.buffer_reads);
        total.buffer_writes = plus(total.buffer_writes, cost.buffer_writes);
        total.dram_reads = plus(total.dram_reads, cost.dram_reads);
        total.dram_writes = plus(total.dram_writes, cost.dram_writes);
        total.energy = Energy {
            arithmetic: total.energy.arithmetic + cost.energy.arithmetic,
            buffers: total.energy.buffers + cost.energy.buffers,
            dram: total.energy.dram + cost.energy.dram,
            codec: total.energy.codec + cost.energy.codec,
        };
        if let Some(idle) = cost.idle {
            let sum = total.idle.get_or_insert_with(Idle::default);
            sum.partial_blocks += idle.partial_blocks;
            sum.bank_conflicts += idle.bank_conflicts;
            sum.imbalance += idle.imbalance;
            sum.halos += idle.halos;
        }
    }
    total.utilisation = busy / total.cycles().max(1) as f64;
    total
}
