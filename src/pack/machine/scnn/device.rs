//! The steps on the device. Kernels: `scnn_steps`, `scnn_slowest`.

use super::lists::Lists;
use super::{Plan, Run, Scnn, Sums, values};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Control, Gpu, Grid, Kernel, ReadTicket, Recording, params};
use crate::ops::{bindable, strided_grid, word};
use crate::pack::Layer;
use crate::tensor::Tensor;

const SCNN_STEPS: &str = include_str!("../../../../shaders/pack/scnn_steps.wgsl");
const SCNN_SLOWEST: &str = include_str!("../../../../shaders/pack/scnn_slowest.wgsl");

params!(ScnnStepsParams {
    elements: u32,
    jobs: u32,
    jobs_y: u32,
    chunks: u32,
    phases: u32,
    limit: u32,
    bank_mask: u32,
    weight_slices: u32,
    weight_slice: u32,
    activation_slices: u32,
    activation_slice: u32,
    pad0: u32,
});

params!(ScnnSlowestParams { elements: u32, units: u32, threads: u32, pad0: u32 });

/// Iterations of all loops of an invocation, about; llvmpipe leaves loops after 65,535.
const ITERATIONS: u32 = 1 << 14;
/// Blocks of activations that an invocation looks at in a phase.
const ACTIVATION_SLICE: u32 = 1 << 12;

/// Words of lists and counts that are on the device at once.
const AT_ONCE: usize = 8 << 20;

/// Runs a layer on one sample.
///
/// # Errors
/// [`ErrorKind::BadInput`] for a layer without values, with values that do not fit it, and an impossible array;
/// [`ErrorKind::Unsupported`] for planes beyond 16383 places a side; [`ErrorKind::TooBig`] for more than 2^32 values, or where an element
/// could count beyond 2^32 cycles in one channel; those of [`Gpu::run_async`].
pub async fn run_async(gpu: &Gpu, array: Scnn, layer: &Layer, sample: usize, control: &Control) -> Result<Run> {
    let mut runs = runs_async(gpu, &[(array, layer, sample)], control).await?;
    runs.pop().ok_or_else(|| Error::internal("one run gave none"))
}

/// Blocking twin of [`run_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn run(gpu: &Gpu, array: Scnn, layer: &Layer, sample: usize, control: &Control) -> Result<Run> {
    pollster::block_on(run_async(gpu, array, layer, sample, control))
}

/// Runs layers, each on an array and a sample of its own, as one batch.
///
/// # Errors
/// As [`run_async`].
pub async fn runs_async(gpu: &Gpu, jobs: &[(Scnn, &Layer, usize)], control: &Control) -> Result<Vec<Run>> {
    let mut batch = Batch { gpu, control, recording: Recording::new(), tickets: Vec::new(), words: 0 };
    let mut sums = Vec::with_capacity(jobs.len());
    let mut plans = Vec::with_capacity(jobs.len());
    for (job, &(array, layer, sample)) in jobs.iter().enumerate() {
        control.cancel.check()?;
        control.report("simulating sparse layers", job as u64, jobs.len() as u64, "layers");
        let (weights, inputs) = values(layer, sample)?;
        let plan = Plan::new(array, layer)?;
        plans.push(plan);
        if plan.output.contains(&0) || inputs.is_empty() || weights.is_empty() {
            let count = |v: &crate::pack::Values| (0..v.len()).filter(|&i| !super::is_zero(v, i)).count() as u64;
            sums.push(Sums { weights: count(weights), inputs: count(inputs), ..Sums::default() });
            continue;
        }
        let lists = Lists::new(&plan, layer, weights, inputs)?;
        sums.push(lists.sums(&plan));
        for channels in pieces(&plan, &lists, &layer.name)? {
            batch.add(job, &plan, &lists, channels, &mut sums).await?;
        }
    }
    batch.finish(&mut sums).await?;
    control.report("simulating sparse layers", jobs.len() as u64, jobs.len() as u64, "layers");
    plans.iter().zip(sums).map(|(plan, sums)| plan.finish(sums)).collect()
}

/// Ranges of channels whose lists and counts are on the device together.
fn pieces(plan: &Plan, lists: &Lists, name: &str) -> Result<Vec<std::ops::Range<usize>>> {
    let (elements, phases, chunks) = (plan.array.elements(), plan.phases(), plan.chunks());
    let mut ranges = Vec::new();
    let (mut first, mut words) = (0, 0);
    for channel in 0..plan.shape.input[2] {
        check_counts(plan, lists, channel, name)?;
        let of = |at: &[u32], per: usize| (at[(channel + 1) * per] - at[channel * per]) as usize * super::BLOCK + per;
        let own = of(&lists.activations.at, phases * elements)
            + of(&lists.weights.at, chunks * phases)
            + chunks * (2 * elements + 4);
        if words > 0 && words + own > AT_ONCE {
            ranges.push(first..channel);
            (first, words) = (channel, 0);
        }
        words += own;
    }
    ranges.push(first..plan.shape.input[2]);
    Ok(ranges)
}

/// Refuses what kernels could not count: all elements' cycles of one channel of one filter group stay below 2^32.
fn check_counts(plan: &Plan, lists: &Lists, channel: usize, name: &str) -> Result<()> {
    let (elements, phases, chunks) = (plan.array.elements(), plan.phases(), plan.chunks());
    for chunk in 0..chunks {
        let steps = |phase: usize| {
            let first = (channel * phases + phase) * elements;
            let blocks = u64::from(lists.activations.at[first + elements] - lists.activations.at[first]);
            let unit = (channel * chunks + chunk) * phases + phase;
            blocks * u64::from(lists.weights.at[unit + 1] - lists.weights.at[unit])
        };
        if (0..phases).map(steps).sum::<u64>() >= 1 << 28 {
            let what = format!("layer '{name}': channel {channel} takes more than 2^28 steps");
            return Err(Error::new(ErrorKind::TooBig, what).with_help("simulate an array with fewer accumulators"));
        }
    }
    Ok(())
}

/// What is recorded and not yet run.
struct Batch<'a> {
    gpu: &'a Gpu,
    control: &'a Control,
    recording: Recording,
    /// Jobs, and the totals of their units.
    tickets: Vec<(usize, Tensor<u32>, ReadTicket)>,
    words: usize,
}

impl Batch<'_> {
    async fn add(
        &mut self,
        job: usize,
        plan: &Plan,
        lists: &Lists,
        channels: std::ops::Range<usize>,
        sums: &mut [Sums],
    ) -> Result<()> {
        let (elements, phases, chunks) = (plan.array.elements(), plan.phases(), plan.chunks());
        let units = channels.len() * chunks;
        let part = |blocks: &super::lists::Blocks, per: usize| {
            let at = &blocks.at[channels.start * per..=channels.end * per];
            let (first, end) = (at[0], at[at.len() - 1]);
            let mut words = blocks.words[first as usize * super::BLOCK..end as usize * super::BLOCK].to_vec();
            // A binding is never empty.
            words.resize(words.len().max(super::BLOCK), 0);
            (words, at.iter().map(|&block| block - first).collect::<Vec<u32>>())
        };
        let (activations, activation_at) = part(&lists.activations, phases * elements);
        let (weights, weight_at) = part(&lists.weights, chunks * phases);
        let work = steps(&activation_at, &weight_at, (elements, phases, chunks)) * 400.0;
        let slices = Slices::new(&activation_at, &weight_at, phases);
        let words = activations.len() + activation_at.len() + weights.len() + weight_at.len() + 2 * units * elements;
        if self.words > 0 && self.words + words > AT_ONCE {
            self.finish(sums).await?;
        }
        self.words += words;
        let gpu = self.gpu;
        let upload = |words: Vec<u32>| async move { Tensor::from_slice_async(gpu, &[words.len()], &words).await };
        let counts = Tensor::<u32>::uninit_async(gpu, &[units * elements * 2]).await?;
        let totals = Tensor::<u32>::uninit_async(gpu, &[units, 4]).await?;
        let operands = [
            upload(activations).await?,
            upload(activation_at).await?,
            upload(weights).await?,
            upload(weight_at).await?,
        ];
        record_steps(&mut self.recording, gpu, plan, &operands, (&counts, units), (slices, work))?;
        record_slowest(&mut self.recording, gpu, (&counts, &totals), elements, units)?;
        let ticket = totals.record_read(&mut self.recording);
        self.tickets.push((job, totals, ticket));
        Ok(())
    }

    /// Runs what is recorded and adds up what it counted.
    async fn finish(&mut self, sums: &mut [Sums]) -> Result<()> {
        if self.tickets.is_empty() {
            return Ok(());
        }
        let recording = std::mem::take(&mut self.recording);
        let mut output = self.gpu.run_async(&recording, self.control).await?;
        for (job, totals, ticket) in self.tickets.drain(..) {
            let sums = &mut sums[job];
            for unit in totals.take(&mut output, ticket).chunks_exact(4) {
                sums.slowest += u64::from(unit[0]);
                sums.cycles += u64::from(unit[1]);
                sums.products += u64::from(unit[2]);
            }
        }
        self.words = 0;
        Ok(())
    }
}

/// Steps of all elements in a piece.
fn steps(activation_at: &[u32], weight_at: &[u32], (elements, phases, chunks): (usize, usize, usize)) -> f64 {
    let unit = |n: usize| {
        let (phase, channel) = (n % phases, n / phases / chunks);
        let first = (channel * phases + phase) * elements;
        f64::from(activation_at[first + elements] - activation_at[first]) * f64::from(weight_at[n + 1] - weight_at[n])
    };
    (0..weight_at.len() - 1).map(unit).sum()
}

/// How a piece is cut so that no invocation loops for long.
#[derive(Debug, Clone, Copy)]
struct Slices {
    /// Blocks of weights of a slice.
    weight_slice: u32,
    weight_slices: u32,
    activation_slices: u32,
}

impl Slices {
    fn new(activation_at: &[u32], weight_at: &[u32], phases: usize) -> Self {
        let most = |at: &[u32], per: usize| {
            (per..at.len()).step_by(per).map(|end| at[end] - at[end - per]).max().unwrap_or(0).max(1)
        };
        let (activations, weights) = (most(activation_at, 1), most(weight_at, phases));
        let weight_slice = (ITERATIONS / (activations.min(ACTIVATION_SLICE) + 2)).max(1);
        Self {
            weight_slice,
            weight_slices: weights.div_ceil(weight_slice),
            activation_slices: activations.div_ceil(ACTIVATION_SLICE),
        }
    }
}

/// Records the counts of every element of every unit.
fn record_steps(
    recording: &mut Recording,
    gpu: &Gpu,
    plan: &Plan,
    operands: &[Tensor<u32>; 4],
    (counts, units): (&Tensor<u32>, usize),
    (slices, work): (Slices, f64),
) -> Result<()> {
    let elements = plan.array.elements();
    let jobs = word(units * slices.weight_slices as usize * slices.activation_slices as usize)?;
    let down = jobs.min(gpu.caps().max_workgroups);
    let params = ScnnStepsParams {
        elements: word(elements)?,
        jobs,
        jobs_y: down,
        chunks: word(plan.chunks())?,
        phases: word(plan.phases())?,
        limit: word(((plan.output[0] - 1) << 16) | (plan.output[1] - 1))?,
        bank_mask: plan.array.banks - 1,
        weight_slices: slices.weight_slices,
        weight_slice: slices.weight_slice,
        activation_slices: slices.activation_slices,
        activation_slice: ACTIVATION_SLICE,
        ..Default::default()
    };
    let bindings: Vec<_> = operands.iter().chain([counts]).map(Tensor::binding).collect();
    bindable(gpu.caps(), &bindings)?;
    recording.clear(counts.binding());
    let grid = Grid::Direct([word(elements.div_ceil(64))?, down, jobs.div_ceil(down)]);
    recording.dispatch(&steps_kernel(), bindings, &params, grid, work)
}

/// Records the slowest element and the sums of every unit.
fn record_slowest(
    recording: &mut Recording,
    gpu: &Gpu,
    (counts, totals): (&Tensor<u32>, &Tensor<u32>),
    elements: usize,
    units: usize,
) -> Result<()> {
    let (groups, threads) = strided_grid(units, gpu.caps().max_workgroups)?;
    let params = ScnnSlowestParams { elements: word(elements)?, units: word(units)?, threads, ..Default::default() };
    let bindings = vec![counts.binding(), totals.binding()];
    recording.dispatch(&slowest_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), counts.len() as f64)
}

fn steps_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];
    Kernel::new::<ScnnStepsParams>("scnn_steps", SCNN_STEPS, &bindings)
}

fn slowest_kernel() -> Kernel {
    Kernel::new::<ScnnSlowestParams>("scnn_slowest", SCNN_SLOWEST, &[Access::Read, Access::Write])
}

pub(in crate::pack::machine) fn catalogue() -> Vec<Kernel> {
    vec![steps_kernel(), slowest_kernel()]
}
