//! Sweeps: storages, schemes and machines crossed, in one batch, and which of them nothing else beats.

use serde::Serialize;

use super::{Role, Study, study_async};
use crate::error::Result;
use crate::gpu::{Control, Gpu};
use crate::pack::machine::Machine;
use crate::pack::{Scheme, Workload};

/// A network in one storage.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// How its values are stored, for tables: `i8 per channel`.
    pub storage: String,
    /// Its layers and values.
    pub workload: Workload,
}

/// Everything that was crossed.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// The network.
    pub network: String,
    /// Every combination: storages outermost, then machines, then schemes.
    pub points: Vec<Point>,
}

/// One combination.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The storage.
    pub storage: String,
    /// The scheme.
    pub scheme: String,
    /// The machine; none where only footprints were asked for.
    pub machine: Option<String>,
    /// Weights (or tensors without a layer, where there are no weights) under the scheme, as a share of the same uncompressed.
    pub weights: Option<f64>,
    /// Activations under the scheme, as a share of the same uncompressed; none without inputs.
    pub activations: Option<f64>,
    /// Bits of weights under the scheme.
    pub weight_bits: u64,
    /// On-chip memory of the machine, in bytes.
    pub buffer_bytes: Option<u64>,
    /// Bits to and from DRAM for one sample.
    pub dram_bits: Option<f64>,
    /// Cycles for one sample.
    pub cycles: Option<u64>,
    /// Energy for one sample, in pJ.
    pub energy: Option<f64>,
    /// No other point of the same storage is at least as good in on-chip memory, cycles and energy, and better in one.
    pub front: bool,
}

/// Crosses candidates with schemes and machines.
///
/// # Errors
/// As [`study_async`].
pub async fn sweep_async(
    gpu: &Gpu,
    candidates: &[Candidate],
    schemes: &[Scheme],
    machines: &[Machine],
    control: &Control,
) -> Result<Sweep> {
    let mut points = Vec::new();
    for (done, candidate) in candidates.iter().enumerate() {
        control.report(&candidate.storage, done as u64, candidates.len() as u64, "storages");
        let study = study_async(gpu, &candidate.workload, schemes, machines, control).await?;
        points.extend(of(&candidate.storage, &study, machines));
    }
    let network = candidates.first().map(|candidate| candidate.workload.name.clone()).unwrap_or_default();
    Ok(Sweep { network, points })
}

/// Blocking twin of [`sweep_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn sweep(
    gpu: &Gpu,
    candidates: &[Candidate],
    schemes: &[Scheme],
    machines: &[Machine],
    control: &Control,
) -> Result<Sweep> {
    pollster::block_on(sweep_async(gpu, candidates, schemes, machines, control))
}

fn of(storage: &str, study: &Study, machines: &[Machine]) -> Vec<Point> {
    // Tensors without a layer count as weights where there are no others: embeddings, arrays of a file.
    let weights = [Role::Weights, Role::Loose].map(|role| study.total(role)).into_iter().find(|total| total.bits > 0);
    let weights = weights.unwrap_or_else(|| study.total(Role::Weights));
    let inputs = study.total(Role::Input);
    let plain = |scheme: usize| Point {
        storage: storage.to_owned(),
        scheme: study.schemes[scheme].clone(),
        machine: None,
        weights: (weights.bits > 0).then(|| weights.share(scheme)),
        activations: (inputs.bits > 0).then(|| inputs.share(scheme)),
        weight_bits: weights.sizes[scheme].total(),
        buffer_bytes: None,
        dram_bits: None,
        cycles: None,
        energy: None,
        front: false,
    };
    if machines.is_empty() {
        return (0..study.schemes.len()).map(plain).collect();
    }
    let mut points = Vec::new();
    for (machine, costs) in machines.iter().zip(&study.machines) {
        for cost in &costs.schemes {
            let Some(scheme) = study.schemes.iter().position(|name| *name == cost.scheme) else { continue };
            points.push(Point {
                machine: Some(costs.machine.clone()),
                buffer_bytes: Some(machine.buffer_bytes()),
                dram_bits: Some(cost.total.dram_reads.total() + cost.total.dram_writes.total()),
                cycles: Some(cost.total.cycles()),
                energy: Some(cost.total.energy.total()),
                ..plain(scheme)
            });
        }
    }
    mark_front(&mut points);
    points
}

/// Marks the points that no other one dominates. Points without cycles have nothing to compare.
fn mark_front(points: &mut [Point]) {
    let goals = |point: &Point| Some((point.buffer_bytes?, point.cycles?, point.energy?));
    let all: Vec<_> = points.iter().map(goals).collect();
    for (point, own) in points.iter_mut().zip(&all) {
        let Some(own) = own else { continue };
        let beaten = |other: &(u64, u64, f64)| other.0 <= own.0 && other.1 <= own.1 && other.2 <= own.2 && other != own;
        point.front = !all.iter().flatten().any(beaten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(buffer: u64, cycles: u64, energy: f64) -> Point {
        Point {
            storage: String::new(),
            scheme: String::new(),
            machine: None,
            weights: Some(1.0),
            activations: None,
            weight_bits: 0,
            buffer_bytes: Some(buffer),
            dram_bits: None,
            cycles: Some(cycles),
            energy: Some(energy),
            front: false,
        }
    }

    #[test]
    fn the_front_is_what_nothing_beats() {
        let mut points =
            vec![point(1, 10, 5.0), point(1, 10, 5.0), point(1, 11, 5.0), point(1, 9, 6.0), point(2, 9, 6.5)];
        points.push(Point { cycles: None, ..point(0, 0, 0.0) });
        mark_front(&mut points);
        let front: Vec<bool> = points.iter().map(|point| point.front).collect();
        assert_eq!(front, [true, true, false, true, false, false]);
    }
}
