//! The device's roofs: how fast it copies, computes, launches and talks to the host.

use super::measure::Timing;
use super::oracle::{Random, U, near, poisoned, poisoned_words, wrong};
use super::{Context, Done, Measured, SEED, Spec};
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{strided_grid, word};
use crate::tensor::Tensor;

const COPY: &str = include_str!("../../shaders/bench/copy.wgsl");
const FMA_RATE: &str = include_str!("../../shaders/bench/fma_rate.wgsl");
pub(super) const GROUP: &str = "device";

/// The roof of kernels that move memory.
pub(super) const COPY_ROOF: &str = "copy";
/// The roof of kernels that compute.
pub(super) const FMA_ROOF: &str = "fma_rate";

/// Vector chains tried; the fastest is the roof.
const CHAINS: [u32; 3] = [2, 4, 8];
/// Factor of an iteration: 1 - |a| is small enough that an early stop shows, large enough that errors stay bounded.
const FACTOR: f32 = -(1.0 - 1.0 / 1024.0);
const SUMMAND: f32 = 0.75;
const STEPS: u32 = 16;
/// Invocations of a workgroup of both kernels.
const LANES: u32 = 64;

params!(CopyParams { len: u32, threads: u32, pad0: u32, pad1: u32 });
params!(FmaRateParams { a: f32, b: f32, rounds: u32, pad: u32 });

fn copy_kernel(words: bool) -> Kernel {
    Kernel::new::<CopyParams>("copy", COPY, &[Access::Read, Access::Write]).flag("WORDS", words)
}

fn fma_kernel(chains: u32, salt: u32) -> Kernel {
    Kernel::new::<FmaRateParams>("fma_rate", FMA_RATE, &[Access::Write]).define("CHAINS", chains).define("SALT", salt)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let copies = [false, true].map(copy_kernel);
    copies.into_iter().chain(CHAINS.map(|chains| fma_kernel(chains, 0))).collect()
}

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let bytes = big(context);
    vec![
        Spec::new(GROUP, COPY_ROOF, None, move |context| copy(context, bytes)),
        Spec::new(GROUP, FMA_ROOF, None, fma_rate),
        Spec::new(GROUP, "dispatch", None, dispatch),
        Spec::new(GROUP, "round_trip", None, round_trip),
        Spec::new(GROUP, "upload", None, move |context| upload(context, bytes)),
        Spec::new(GROUP, "download", None, move |context| download(context, bytes)),
    ]
}

/// Bytes of one buffer that no cache holds, as far as the device allows: the last-level caches of processors and of the
/// largest GPUs are below 64 and 256 MiB; a multiple of 1 MiB.
pub(super) fn big(context: &Context<'_>) -> usize {
    let caps = context.gpu.caps();
    let wanted: u64 = match (context.quick(), caps.is_software()) {
        (true, _) => 4 << 20,
        (false, true) => 64 << 20,
        (false, false) => 256 << 20,
    };
    // Three such buffers must fit the budget.
    let most = caps.max_binding.min(caps.max_buffer).min(context.gpu.memory().budget / 4);
    usize::try_from((wanted.min(most) >> 20).max(1) << 20).unwrap_or(1 << 20)
}

/// Records a copy by a kernel, by 4 bytes or by 16.
pub(super) fn record_copy(
    recording: &mut Recording,
    caps: &Caps,
    words: bool,
    from: &Tensor<u32>,
    to: &Tensor<u32>,
) -> Result<()> {
    let len = if words { from.len() } else { from.len() / 4 };
    let (groups, threads) = strided_grid(len, caps.max_workgroups)?;
    let params = CopyParams { len: word(len)?, threads, ..Default::default() };
    let bindings = vec![from.binding(), to.binding()];
    recording.dispatch(&copy_kernel(words), bindings, &params, Grid::Direct([groups, 1, 1]), from.len() as f64)
}

/// The fastest of three ways to copy: a kernel by 16 bytes, a kernel by 4, the driver's own command.
fn copy(context: &Context<'_>, bytes: usize) -> Result<Done> {
    let gpu = context.gpu;
    let words: Vec<u32> = (0..bytes as u32 / 4).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    let from = Tensor::from_slice(gpu, &[words.len()], &words)?;
    let mut ways = Vec::new();
    for way in ["kernel, 16 bytes", "kernel, 4 bytes", "the driver's command"] {
        let to = poisoned_words(gpu, &[words.len()])?;
        if way == "the driver's command" && from.buffer().raw().0 == to.buffer().raw().0 {
            // Small arrays share a page, and wgpu copies between pages only.
            continue;
        }
        let record = |recording: &mut Recording| match way {
            "the driver's command" => recording.copy(from.binding(), to.binding()),
            _ => record_copy(recording, gpu.caps(), way == "kernel, 4 bytes", &from, &to),
        };
        let check = || {
            let same = to.to_array(gpu)?.iter().eq(&words);
            if same { Ok(()) } else { Err(wrong(format!("a copy by {way} differs from the original"))) }
        };
        let first = context.meter.first(&record)?;
        check()?;
        let timing = match way {
            // A command is not a dispatch: the device's clock does not see it.
            "the driver's command" => time_command(context, &record)?,
            _ => context.meter.time(first, &record)?,
        };
        ways.push((way, timing));
    }
    ways.sort_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds));
    let rate = |timing: &Timing| 2e-9 * bytes as f64 / timing.seconds;
    let others: Vec<String> = ways[1..].iter().map(|(way, t)| format!("{way} {:.3} GB/s", rate(t))).collect();
    let note = format!("{}, {} MiB ({})", ways[0].0, bytes >> 20, others.join(", "));
    Measured::new(2.0 * bytes as f64, "B", ways[0].1).note(note).done()
}

/// Times a command on the wall's clock, repeated until submitting it does not count.
fn time_command(context: &Context<'_>, record: &dyn Fn(&mut Recording) -> Result<()>) -> Result<Timing> {
    const TIMES: usize = 64;
    let mut recording = Recording::new();
    for _ in 0..if context.quick() { 4 } else { TIMES } {
        record(&mut recording)?;
    }
    let timing = context.meter.time_calls(|| Ok(context.gpu.run(&recording, &context.meter.control)?.seconds))?;
    Ok(Timing { first: None, ..timing.per(recording.commands().len() as f64) })
}

/// The arguments of one launch of `fma_rate`.
struct Iteration {
    chains: u32,
    salt: u32,
    rounds: u32,
    groups: u32,
}

impl Iteration {
    fn record(&self, recording: &mut Recording, out: &Tensor) -> Result<()> {
        let params = FmaRateParams { a: FACTOR, b: SUMMAND, rounds: self.rounds, ..Default::default() };
        let grid = Grid::Direct([self.groups, 1, 1]);
        recording.dispatch(&fma_kernel(self.chains, self.salt), vec![out.binding()], &params, grid, self.work())
    }

    fn work(&self) -> f64 {
        let steps = f64::from(self.rounds) * f64::from(STEPS);
        2.0 * 4.0 * f64::from(self.chains) * steps * f64::from(self.groups) * f64::from(LANES)
    }

    /// Follows the iteration in f64 for some invocations. Each step errs by at most 2 u M, which the factor damps.
    fn check(&self, out: &[f32]) -> Result<()> {
        let (a, b) = (f64::from(FACTOR), f64::from(SUMMAND));
        let mut random = Random::new(SEED);
        for index in (0..64).map(|_| random.below(out.len())) {
            let (mut sum, mut tolerance) = (0.0, 0.0);
            for number in 0..4 * self.chains {
                let lane = (index % LANES as usize) as f64 / 64.0;
                let start = lane + f64::from(self.salt) * 2.0_f64.powi(-30) + f64::from(number) / 4.0;
                sum += (0..self.rounds * STEPS).fold(start, |x, _| a * x + b);
                tolerance += 2.0 * U * (start + 2.0 * b) / (1.0 - a.abs()) + U * start;
            }
            // The final sum has at most 4 CHAINS roundings of numbers below M.
            near(&format!("iterate {index}"), f64::from(out[index]), sum, tolerance * 1.01)?;
        }
        Ok(())
    }
}

/// The fastest number of chains, each long enough for the device's clock.
fn fma_rate(context: &Context<'_>) -> Result<Done> {
    let gpu = context.gpu;
    let groups = if gpu.caps().is_software() { 64 } else { 8192 };
    let rounds = if context.quick() { 64 } else { 256 };
    let mut best: Option<Measured> = None;
    for chains in CHAINS {
        let iteration = Iteration { chains, salt: 0, rounds, groups };
        let out = poisoned(gpu, &[(groups * LANES) as usize])?;
        let record = |recording: &mut Recording| iteration.record(recording, &out);
        let check = || iteration.check(&out.to_array(gpu)?.iter().copied().collect::<Vec<_>>());
        let measured = context.measure(iteration.work(), "FLOP", &record, check)?;
        let rate = |m: &Measured| m.work / m.timing.seconds;
        if best.as_ref().is_none_or(|b| rate(&measured) > rate(b)) {
            best = Some(measured.note(format!("{} chains an invocation", 4 * chains)));
        }
    }
    best.map_or_else(|| Ok(Done::Skipped("nothing to run".to_owned())), Measured::done)
}

/// A new device's first answer: compiles a kernel that no cache has seen, runs it, checks it.
pub(super) fn first_answer(gpu: &crate::Gpu, control: &crate::Control, salt: u32) -> Result<()> {
    let iteration = Iteration { chains: 2, salt, rounds: 64, groups: 1 };
    let out = Tensor::uninit(gpu, &[LANES as usize])?;
    let mut recording = Recording::new();
    iteration.record(&mut recording, &out)?;
    let ticket = out.record_read(&mut recording);
    let mut output = gpu.run(&recording, control)?;
    iteration.check(&out.take(&mut output, ticket))
}

/// A launch that does nothing, a thousand in one pass.
fn dispatch(context: &Context<'_>) -> Result<Done> {
    const LAUNCHES: usize = 1000;
    let gpu = context.gpu;
    let (from, to) = (Tensor::from_slice(gpu, &[4], &[1, 2, 3, 4])?, Tensor::from_slice(gpu, &[4], &[5, 6, 7, 8])?);
    let recording = nothing(&from, &to, LAUNCHES)?;
    let timing = context.meter.time_calls(|| Ok(gpu.run(&recording, &context.meter.control)?.seconds))?;
    untouched(gpu, &to)?;
    let timing = Timing { first: None, ..timing.per(LAUNCHES as f64) };
    Measured::new(1.0, "launches", timing).note("1000 empty ones in one pass").done()
}

/// One launch that does nothing, submitted and waited for.
fn round_trip(context: &Context<'_>) -> Result<Done> {
    let gpu = context.gpu;
    let (from, to) = (Tensor::from_slice(gpu, &[4], &[1, 2, 3, 4])?, Tensor::from_slice(gpu, &[4], &[5, 6, 7, 8])?);
    let recording = nothing(&from, &to, 1)?;
    let timing = context.meter.time_calls(|| Ok(gpu.run(&recording, &context.meter.control)?.seconds))?;
    untouched(gpu, &to)?;
    let timing = Timing { first: None, ..timing };
    Measured::new(1.0, "submissions", timing).note("one empty launch, submitted and waited for").done()
}

fn nothing(from: &Tensor<u32>, to: &Tensor<u32>, launches: usize) -> Result<Recording> {
    let mut recording = Recording::new();
    let params = CopyParams { len: 0, threads: LANES, ..Default::default() };
    for _ in 0..launches {
        let bindings = vec![from.binding(), to.binding()];
        recording.dispatch(&copy_kernel(true), bindings, &params, Grid::Direct([1, 1, 1]), 1.0)?;
    }
    Ok(recording)
}

fn untouched(gpu: &crate::Gpu, to: &Tensor<u32>) -> Result<()> {
    let same = to.to_array(gpu)?.iter().eq(&[5, 6, 7, 8]);
    if same { Ok(()) } else { Err(wrong("an empty launch wrote something".to_owned())) }
}

/// Host to device, through the queue, until an empty launch behind it is done.
fn upload(context: &Context<'_>, bytes: usize) -> Result<Done> {
    let gpu = context.gpu;
    let words: Vec<u32> = (0..bytes as u32 / 4).collect();
    let to = poisoned_words(gpu, &[words.len()])?;
    let (a, b) = (Tensor::from_slice(gpu, &[4], &[0; 4])?, Tensor::from_slice(gpu, &[4], &[0; 4])?);
    let behind = nothing(&a, &b, 1)?;
    let timing = context.meter.time_calls(|| {
        super::measure::clock(|| {
            to.write(gpu, &words)?;
            gpu.run(&behind, &context.meter.control).map(drop)
        })
    })?;
    if !to.to_array(gpu)?.iter().eq(&words) {
        return Err(wrong("what came back is not what was sent".to_owned()));
    }
    let timing = Timing { first: None, ..timing };
    Measured::new(bytes as f64, "B", timing).note(format!("{} MiB", bytes >> 20)).done()
}

/// Device to host, into an array of the caller's.
fn download(context: &Context<'_>, bytes: usize) -> Result<Done> {
    let gpu = context.gpu;
    let words: Vec<u32> = (0..bytes as u32 / 4).collect();
    let from = Tensor::from_slice(gpu, &[words.len()], &words)?;
    if !from.to_array(gpu)?.iter().eq(&words) {
        return Err(wrong("what came back is not what was sent".to_owned()));
    }
    let timing = context.meter.time_calls(|| super::measure::clock(|| from.to_array(gpu).map(drop)))?;
    let timing = Timing { first: None, ..timing };
    Measured::new(bytes as f64, "B", timing).note(format!("{} MiB", bytes >> 20)).done()
}
