//! What a layer costs on a machine: cycles of the array, traffic and stalls of the memories, and what all of it takes in energy.

use std::collections::BTreeMap;

use super::memory::{self, Buffer, Memory, Schedule};
use super::scnn::{self, Scnn};
use super::{Cost, Energy, PerOperand, Stored, energy, grid, systolic};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::pack::{Element, Layer, Shape};

/// An accelerator. Its parts may be changed between calls, as a sweep does.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// For titles.
    pub name: String,
    /// What computes.
    pub array: Array,
    /// What holds and brings.
    pub memory: Memory,
    /// What that takes.
    pub energy: Energies,
}

/// Multipliers and how they are fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Array {
    /// Neighbours hand values on.
    Systolic(systolic::Array, systolic::Dataflow),
    /// Vectors of channels, for several windows and filters.
    Grid(grid::Grid),
    /// Only values that are not zero.
    Scnn(Scnn),
}

/// Where energies come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Energies {
    /// The figures.
    pub table: energy::Table,
    /// The node of the chip, in nm.
    pub node: u32,
    /// The kind of DRAM, a name of the table.
    pub dram: String,
    /// In place of the table's.
    pub overrides: Overrides,
}

/// Figures in place of those of a table, in pJ.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Overrides {
    /// Reading a bit of any buffer; writes follow.
    pub buffer_per_bit: Option<f64>,
    /// A bit to or from DRAM.
    pub dram_per_bit: Option<f64>,
    /// A product.
    pub multiply: Option<f64>,
    /// Adding it to a sum.
    pub add: Option<f64>,
    /// Decoding or encoding a value.
    pub codec_per_value: Option<f64>,
}

/// A layer whose tensors are stored so, on a machine.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The layer.
    pub layer: &'a Layer,
    /// What a scheme makes of its tensors.
    pub stored: Stored,
}

/// Bits of a partial sum of a systolic array.
const SUM_BITS: f64 = 32.0;
/// Bits of an accumulator of a machine of SCNN's kind, as published.
const ACCUMULATOR_BITS: u64 = 24;

/// What an array does on a layer, whatever its memories are.
#[derive(Debug, Clone, Copy)]
enum Work {
    Systolic(systolic::Run),
    Grid(grid::Run),
    Scnn(scnn::Run),
}

/// How often what is touched, on the chip.
#[derive(Debug, Clone, Copy, Default)]
struct Touched {
    reads: PerOperand,
    writes: PerOperand,
    /// Of `reads.outputs` and `writes.outputs`, bits in accumulators of their own.
    accumulators: f64,
    /// Weights and activations that leave a buffer, results that enter one.
    values: [f64; 3],
}

impl Machine {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its energies come from, node and kind of DRAM first.
    pub fn sources(&self) -> Vec<energy::Sourced> {
        let Energies { table, node, dram, .. } = &self.energy;
        let own = energy::Sourced { what: "this machine".into(), source: format!("{node} nm, {dram}") };
        std::iter::once(own).chain(table.sources().iter().cloned()).collect()
    }

    /// On-chip memory of all buffers together, in bytes.
    pub fn buffer_bytes(&self) -> u64 {
        self.memory.buffers.bytes()
    }

    /// The same machine with so many bytes of on-chip memory, shared out among its buffers as here.
    ///
    /// # Errors
    /// As [`memory::Buffers::sized`].
    pub fn with_buffer_bytes(&self, bytes: u64) -> Result<Self> {
        let memory = Memory { buffers: self.memory.buffers.sized(bytes)?, ..self.memory };
        Ok(Self { name: format!("{}, {} KiB", self.name, bytes >> 10), memory, ..self.clone() })
    }

    /// The same machine with a DRAM of so many bytes a cycle.
    ///
    /// # Errors
    /// As [`memory::Bandwidth::bytes_per_cycle`].
    pub fn with_dram_bytes(&self, bytes: f64) -> Result<Self> {
        let memory = Memory { bandwidth: memory::Bandwidth::bytes_per_cycle(bytes)?, ..self.memory };
        Ok(Self { name: format!("{}, {bytes} B/cycle", self.name), memory, ..self.clone() })
    }

    /// Multipliers of the array.
    pub fn multipliers(&self) -> u64 {
        match self.array {
            Array::Systolic(array, _) => array.rows as u64 * array.columns as u64,
            Array::Grid(grid) => grid.multipliers(),
            Array::Scnn(scnn) => scnn.multipliers(),
        }
    }

    /// Whether cycles depend on values: layers then need weights and inputs.
    pub fn needs_values(&self) -> bool {
        matches!(self.array, Array::Scnn(_))
    }

    /// What a layer costs, for one sample; where cycles depend on values, the mean of its samples. Without a device
    /// such a machine is simulated step by step, which is slow.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a layer without values on a machine that needs them, and for figures that the energy
    /// table does not have; [`crate::ErrorKind::Unsupported`] for a layer of absurd size; those of [`scnn::run_async`].
    pub async fn cost_async(
        &self,
        gpu: Option<&Gpu>,
        layer: &Layer,
        stored: &Stored,
        control: &Control,
    ) -> Result<Cost> {
        let mut costs = costs_async(gpu, &[Question { machine: self, layer, stored: *stored }], control).await?;
        costs.pop().ok_or_else(|| Error::internal("one question has no answer"))
    }

    /// Blocking twin of [`Machine::cost_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn cost(&self, gpu: Option<&Gpu>, layer: &Layer, stored: &Stored, control: &Control) -> Result<Cost> {
        pollster::block_on(self.cost_async(gpu, layer, stored, control))
    }

    /// Filters that are computed on together.
    fn filters_at_once(&self, shape: &Shape) -> usize {
        match self.array {
            Array::Systolic(array, systolic::Dataflow::Input) => array.rows.min(shape.filters),
            Array::Systolic(array, _) => array.columns,
            Array::Grid(grid) => grid.filters_at_once(),
            Array::Scnn(scnn) => scnn.filters_at_once(shape),
        }
    }

    fn answer(&self, layer: &Layer, stored: &Stored, work: &Work) -> Result<Cost> {
        let shape = &layer.shape;
        if work.cycles() > 1 << 60 {
            return Err(Error::unsupported(format!("layer '{}' takes more than 2^60 cycles", layer.name)));
        }
        let schedule = memory::schedule(&self.memory, shape, stored, work.cycles(), self.filters_at_once(shape));
        let touched = self.touched(shape, stored, work, &schedule);
        let traffic = &schedule.traffic;
        let dram_reads = PerOperand { weights: traffic.weights as f64, inputs: traffic.inputs as f64, outputs: 0.0 };
        let dram_writes = PerOperand { outputs: traffic.outputs as f64, ..PerOperand::default() };
        let (useful, idle) = match work {
            Work::Scnn(run) => (run.products, Some(run.idle)),
            _ => (shape.macs(), None),
        };
        let possible = self.multipliers() as f64 * schedule.cycles as f64;
        Ok(Cost {
            compute_cycles: work.cycles(),
            stall_cycles: schedule.cycles - work.cycles(),
            utilisation: if possible > 0.0 { useful as f64 / possible } else { 0.0 },
            buffer_reads: touched.reads,
            buffer_writes: touched.writes,
            dram_reads,
            dram_writes,
            energy: self.energy_of(layer, stored, work, &touched, dram_reads.total() + dram_writes.total())?,
            idle,
        })
    }

    /// Accesses of buffers: those of the array, and those of what comes from and goes to DRAM.
    fn touched(&self, shape: &Shape, stored: &Stored, work: &Work, schedule: &Schedule) -> Touched {
        let mut touched = match work {
            Work::Systolic(run) => systolic_touched(shape, stored, run),
            Work::Grid(run) => grid_touched(shape, stored, run, self.memory.buffers.each().map(|buffer| buffer.port)),
            Work::Scnn(run) => scnn_touched(shape, stored, run),
        };
        touched.writes.weights += schedule.traffic.weights as f64;
        touched.writes.inputs += schedule.traffic.inputs as f64;
        touched.reads.outputs += schedule.traffic.outputs as f64;
        touched
    }

    fn energy_of(&self, layer: &Layer, stored: &Stored, work: &Work, touched: &Touched, dram: f64) -> Result<Energy> {
        let Energies { table, node, dram: kind, overrides } = &self.energy;
        let element = element(layer);
        let (multiply, add) = match (overrides.multiply, overrides.add) {
            (Some(multiply), Some(add)) => (multiply, add),
            (multiply, add) => {
                let (own_multiply, own_add) = table.arithmetic(*node, element)?;
                (multiply.unwrap_or(own_multiply), add.unwrap_or(own_add))
            }
        };
        let (products, sums) = match work {
            Work::Scnn(run) => (run.multiplies, run.products),
            _ => (layer.shape.macs(), layer.shape.macs()),
        };
        let per_dram_bit = overrides.dram_per_bit.map_or_else(|| table.dram(kind), Ok)?;
        let codec = overrides.codec_per_value.unwrap_or(table.codec());
        Ok(Energy {
            arithmetic: products as f64 * multiply + sums as f64 * add,
            buffers: self.buffer_energy(touched)?,
            dram: dram * per_dram_bit,
            codec: codec * coded_values(layer, stored, touched),
        })
    }

    fn buffer_energy(&self, touched: &Touched) -> Result<f64> {
        let Energies { table, node, overrides, .. } = &self.energy;
        let per_bit = |buffer: Buffer| {
            let part = buffer.bytes / buffer.banks.max(1);
            overrides.buffer_per_bit.map_or_else(|| table.sram_read(*node, part, buffer.port), Ok)
        };
        let [weights, inputs, outputs] = self.memory.buffers.each();
        let (reads, writes, over) = (&touched.reads, &touched.writes, table.write_over_read());
        let own = touched.accumulators;
        let mut total = (reads.weights + over * writes.weights) * per_bit(weights)?
            + (reads.inputs + over * writes.inputs) * per_bit(inputs)?
            + (reads.outputs - own + over * (writes.outputs - own)) * per_bit(outputs)?;
        if let Array::Scnn(scnn) = self.array {
            let bytes = scnn.accumulators as u64 * ACCUMULATOR_BITS / 8;
            let bank = Buffer { bytes, port: ACCUMULATOR_BITS as u32, banks: scnn.banks.into() };
            total += own * (1.0 + over) * per_bit(bank)?;
        }
        Ok(total)
    }
}

impl Work {
    fn cycles(&self) -> u64 {
        match self {
            Self::Systolic(run) => run.cycles,
            Self::Grid(run) => run.cycles,
            Self::Scnn(run) => run.cycles,
        }
    }
}

/// Stored bits that so many reads of values move, of a tensor of `values`.
fn moved(stored: u64, reads: u64, values: u64) -> f64 {
    if values == 0 { 0.0 } else { stored as f64 * (reads as f64 / values as f64) }
}

fn inputs_of(shape: &Shape) -> u64 {
    shape.input.iter().map(|&n| n as u64).product()
}

fn results_of(shape: &Shape) -> u64 {
    shape.places() as u64 * shape.filters as u64
}

fn systolic_touched(shape: &Shape, stored: &Stored, run: &systolic::Run) -> Touched {
    let results = results_of(shape);
    let reads = PerOperand {
        weights: moved(stored.weights, run.reads[0], shape.weights() as u64),
        inputs: moved(stored.inputs, run.reads[1], inputs_of(shape)),
        outputs: run.partial_reads as f64 * SUM_BITS,
    };
    let partial = run.writes.saturating_sub(results) as f64 * SUM_BITS;
    let writes = PerOperand { outputs: stored.outputs as f64 + partial, ..PerOperand::default() };
    Touched { reads, writes, accumulators: 0.0, values: [run.reads[0] as f64, run.reads[1] as f64, results as f64] }
}

fn grid_touched(shape: &Shape, stored: &Stored, run: &grid::Run, ports: [u32; 3]) -> Touched {
    let rows = grid::row_accesses(shape, run, stored, ports);
    let bits = |operand: usize| rows[operand] * f64::from(ports[operand]);
    let channels = shape.input[2] / shape.groups.max(1);
    Touched {
        reads: PerOperand { weights: bits(0), inputs: bits(1), outputs: 0.0 },
        writes: PerOperand { outputs: bits(2), ..PerOperand::default() },
        accumulators: 0.0,
        values: [
            run.filter_reads as f64 * shape.depth() as f64,
            run.position_reads as f64 * channels as f64,
            results_of(shape) as f64,
        ],
    }
}

fn scnn_touched(shape: &Shape, stored: &Stored, run: &scnn::Run) -> Touched {
    let accumulators = run.products as f64 * ACCUMULATOR_BITS as f64;
    Touched {
        reads: PerOperand {
            weights: moved(stored.weights, run.weight_reads, run.weights),
            inputs: moved(stored.inputs, run.input_reads, run.inputs),
            outputs: accumulators,
        },
        writes: PerOperand { outputs: accumulators + stored.outputs as f64, ..PerOperand::default() },
        accumulators,
        values: [run.weight_reads as f64, run.input_reads as f64, results_of(shape) as f64],
    }
}

/// Values that pass a codec: those of tensors whose stored size is not that of their containers. A tensor that is not known is not coded.
fn coded_values(layer: &Layer, stored: &Stored, touched: &Touched) -> f64 {
    let shape = &layer.shape;
    let counts = [shape.weights() as u64, inputs_of(shape), results_of(shape)];
    let known = [layer.weights.as_ref(), layer.inputs.first(), layer.outputs.first()];
    let sizes = [stored.weights, stored.inputs, stored.outputs];
    let coded =
        |i: &usize| known[*i].is_some_and(|values| sizes[*i] != counts[*i] * u64::from(values.element().bits()));
    // From 0: a sum of no floats is -0.
    (0..3).filter(coded).fold(0.0, |sum, i| sum + touched.values[i])
}

/// What a layer computes on: the wider of its weights' and its map's containers, bytes where nothing is known.
fn element(layer: &Layer) -> Element {
    let of = layer.weights.iter().chain(layer.inputs.first()).map(|values| values.element());
    of.reduce(|a, b| if b.bits() > a.bits() { b } else { a }).unwrap_or(Element::I8)
}

/// Refuses layers whose numbers would not fit: everything that is counted later stays below 2^63.
fn check(layer: &Layer, stored: &Stored) -> Result<()> {
    let shape = &layer.shape;
    let sizes = [&shape.input[..], &shape.filter, &shape.stride, &shape.dilation, &shape.padding, &[shape.filters]];
    let large = sizes.iter().flat_map(|sizes| sizes.iter()).any(|&n| n > 1 << 30);
    let too_large = || {
        Error::unsupported(format!("layer '{}' is too large: {shape:?}", layer.name))
            .with_help("a layer has at most 2^22 places, filters and taps")
    };
    if large {
        return Err(too_large());
    }
    let product = |factors: &[usize]| factors.iter().map(|&n| n as f64).product::<f64>();
    let [height, width, _] = shape.output();
    let (places, taps) = (product(&[height, width]), product(&shape.filter));
    let most = f64::from(1 << 22);
    let macs = places * taps * product(&[shape.filters, shape.input[2]]);
    let bits = [stored.weights as f64 * places.max(1.0), stored.inputs as f64 * taps * shape.filters as f64];
    let counted = [macs, bits[0], bits[1], stored.outputs as f64, product(&shape.input) * taps];
    if places > most || taps > most || shape.filters as f64 > most || counted.iter().any(|&n| n > 1e17) {
        return Err(too_large());
    }
    Ok(())
}

/// Answers to many questions as one batch: whatever depends on values is simulated once for a layer and an array, however many schemes and
/// memories ask for it.
///
/// # Errors
/// As [`Machine::cost_async`].
pub async fn costs_async(gpu: Option<&Gpu>, questions: &[Question<'_>], control: &Control) -> Result<Vec<Cost>> {
    for q in questions {
        check(q.layer, &q.stored)?;
    }
    let sparse = sparse_runs(gpu, questions, control).await?;
    let work = |q: &Question<'_>| match q.machine.array {
        Array::Systolic(array, dataflow) => Ok(Work::Systolic(systolic::run(&q.layer.shape, array, dataflow))),
        Array::Grid(grid) => Ok(Work::Grid(grid::run(&q.layer.shape, grid))),
        Array::Scnn(scnn) => sparse
            .get(&key(scnn, q.layer))
            .map(|run| Work::Scnn(*run))
            .ok_or_else(|| Error::internal("a layer was not simulated")),
    };
    questions.iter().map(|q| q.machine.answer(q.layer, &q.stored, &work(q)?)).collect()
}

/// Blocking twin of [`costs_async`].
///
/// # Errors
/// As [`costs_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn costs(gpu: Option<&Gpu>, questions: &[Question<'_>], control: &Control) -> Result<Vec<Cost>> {
    pollster::block_on(costs_async(gpu, questions, control))
}

/// An array, and a layer by its place in memory.
type Key = ([usize; 3], u32, usize);

fn key(scnn: Scnn, layer: &Layer) -> Key {
    ([scnn.rows, scnn.columns, scnn.accumulators], scnn.banks, std::ptr::from_ref(layer) as usize)
}

/// Each layer once on each array of SCNN's kind: the mean of its samples.
async fn sparse_runs(
    gpu: Option<&Gpu>,
    questions: &[Question<'_>],
    control: &Control,
) -> Result<BTreeMap<Key, scnn::Run>> {
    let mut wanted: BTreeMap<Key, (usize, usize)> = BTreeMap::new();
    let mut jobs = Vec::new();
    for q in questions {
        let Array::Scnn(scnn) = q.machine.array else { continue };
        wanted.entry(key(scnn, q.layer)).or_insert_with(|| {
            let samples = q.layer.inputs.len().max(1);
            jobs.extend((0..samples).map(|sample| (scnn, q.layer, sample)));
            (jobs.len() - samples, samples)
        });
    }
    let runs = match gpu {
        Some(gpu) if !jobs.is_empty() => scnn::runs_async(gpu, &jobs, control).await?,
        _ => {
            let mut runs = Vec::with_capacity(jobs.len());
            for &(scnn, layer, sample) in &jobs {
                control.cancel.check()?;
                runs.push(scnn::literal(scnn, layer, sample)?);
            }
            runs
        }
    };
    Ok(wanted.into_iter().map(|(key, (first, n))| (key, scnn::Run::mean(&runs[first..first + n]))).collect())
}
