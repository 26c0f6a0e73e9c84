//! Networks with very many labels: a step of every mode on the same samples, and asking what was trained.
//!
//! The rate is in samples a second, batches made on the host included. Beside it stands what memory allows: a step must read and write, once, the
//! weights and the optimiser's state of every row that it touches (of all rows, if it is dense), read its samples, and, with hash tables, its share of a
//! rebuild: the labels' rows, and a key and an id a table and label. `share` is that over the copy's rate; what a step moves besides (panels, logits,
//! candidates) could be left out by somebody, so it is not in it.
//!
//! Every training is compared, bit for bit after some steps, with a twin: catching up with the dense optimiser, the others with themselves. Its first loss must be
//! that of as many equal logits as the set has labels, and its last one lower.

mod ask;
mod kernels;

use std::cell::OnceCell;
use std::rc::Rc;

use web_time::Instant;

use super::measure::{Meter, Profiled, Timing};
use super::oracle::{near, wrong};
use super::report::KernelTime;
use super::roofs::{COPY_ROOF, FMA_ROOF};
use super::{Context, Done, Measured, SEED, Spec};
use crate::error::{ErrorKind, Result};
use crate::gpu::{Control, Gpu};
use crate::hash::data::generate::{Recipe, generate};
use crate::hash::lsh::LshOptions;
use crate::hash::optimiser::Mode as Update;
use crate::hash::options::{MODES, Mode, Options, Rebuild};
use crate::hash::quality::Quality;
use crate::hash::trainer::Tally;
use crate::hash::{Batch, Rows, SparseSet, Storage, Trainer, width};

pub(super) const GROUP: &str = "hash";
/// Batches of a set; longer trainings see them again.
const BATCHES: usize = 60;
/// Steps after which the twin is compared.
const CHECKED: usize = 3;
/// Seconds of a block of steps, about; blocks that are timed, and the seconds after which three will do.
const BLOCK: f64 = 0.3;
const BLOCKS: usize = 5;
const LONG: f64 = 3.0;
/// Most steps of a block.
const MOST: usize = 256;
/// Labels above which a processor trains not every way of the optimiser.
const MEDIUM: usize = 50_000;
/// Labels above which a device is opened with more memory than programs take without being asked, and how much that is on software and other devices.
const LARGE: usize = 200_000;
const MEMORY: [u64; 2] = [3 << 30, 16 << 30];
/// How far the first loss may be from the logarithm of the set's size: first logits are small, and not zero.
const FIRST_LOSS: f64 = 0.25;

/// A network, its samples, and the size of batches.
#[derive(Debug)]
struct Size {
    labels: usize,
    features: usize,
    hidden: usize,
    batch: usize,
    quick: bool,
    set: OnceCell<SparseSet>,
    gpu: OnceCell<Gpu>,
    asked: OnceCell<[Vec<Quality>; 2]>,
}

/// What a training does with the samples.
#[derive(Debug, Clone, Copy)]
struct Case {
    mode: Mode,
    update: Update,
    storage: Storage,
}

/// Sizes: labels, features, hidden elements and samples of a batch.
fn sizes(quick: bool, software: bool) -> Vec<Size> {
    let mut sizes = vec![[25_918, 43_322, 128, 256], [100_000, 135_909, 128, 256], [670_091, 135_909, 128, 256]];
    if !software {
        sizes.push([670_091, 135_909, 128, 1024]);
    }
    if quick {
        sizes = vec![[1200, 300, 32, 32]];
    }
    let size = |[labels, features, hidden, batch]: [usize; 4]| Size {
        labels,
        features,
        hidden,
        batch,
        quick,
        set: OnceCell::new(),
        gpu: OnceCell::new(),
        asked: OnceCell::new(),
    };
    sizes.into_iter().map(size).collect()
}

/// All modes, and the ways of the optimiser in the first sampled one. Larger sizes have fewer of them on a processor, which takes minutes for all.
fn cases(labels: usize, software: bool) -> Vec<Case> {
    let case = |mode, update, storage| Case { mode, update, storage };
    let mut cases: Vec<Case> = MODES.iter().map(|&(_, mode)| case(mode, Update::CatchUp, Storage::F32)).collect();
    cases.push(case(Mode::Uniform, Update::Lazy, Storage::F32));
    cases.push(case(Mode::Uniform, Update::Lazy, Storage::Bf16));
    cases.push(case(Mode::Uniform, Update::Dense, Storage::F32));
    if software && labels > LARGE {
        cases.retain(|case| case.mode == Mode::Uniform && case.update == Update::CatchUp);
    } else if software && labels > MEDIUM {
        cases.retain(|case| case.storage == Storage::F32 && case.update != Update::Dense);
    }
    cases
}

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let (quick, software) = (context.quick(), context.gpu.caps().is_software());
    let mut specs = Vec::new();
    for (number, size) in sizes(quick, software).into_iter().map(Rc::new).enumerate() {
        let shape = format!("{}x{}", size.labels, size.batch);
        for case in cases(size.labels, software) {
            let own = size.clone();
            let run = move |context: &Context<'_>| fits(step(context, &own, case));
            specs.push(Spec::new(GROUP, format!("step_{}_{shape}", case.name()), Some(COPY_ROOF), run));
        }
        if number == 0 {
            for (what, roof, way) in
                [("exact", Some(FMA_ROOF), None), ("tables", None, Some(0)), ("clusters", None, Some(1))]
            {
                let own = size.clone();
                let run = move |context: &Context<'_>| fits(ask::ask(context, &own, way));
                specs.push(Spec::new(GROUP, format!("ask_{what}_{}", size.labels), roof, run));
            }
        }
    }
    specs.extend(kernels::specs(context));
    specs
}

/// What a device has no room for is left out, and says so.
fn fits(done: Result<Done>) -> Result<Done> {
    match done {
        Err(e) if matches!(e.kind(), ErrorKind::TooBig | ErrorKind::OutOfMemory) => {
            Ok(Done::Skipped(format!("this device has no room for it: {}", e.message())))
        }
        done => done,
    }
}

impl Size {
    fn set(&self) -> Result<&SparseSet> {
        if self.set.get().is_none() {
            let _ = self.set.set(generate(&self.recipe(), 0..BATCHES * self.batch, 0)?);
        }
        self.set.get().ok_or_else(|| crate::Error::internal("a set that was just made"))
    }

    /// Amazon-670K's statistics with other counts.
    fn recipe(&self) -> Recipe {
        let mut recipe = Recipe { features: self.features, ..Recipe::with_labels(self.labels, SEED) };
        if self.quick {
            (recipe.median_non_zeros, recipe.most_non_zeros) = (12.0, 40);
        }
        recipe
    }

    fn gpu(&self, context: &Context<'_>) -> Result<Gpu> {
        if self.labels <= LARGE {
            return Ok(context.gpu.clone());
        }
        if self.gpu.get().is_none() {
            let mut open = context.plan.open.clone();
            let enough = MEMORY[usize::from(!context.gpu.caps().is_software())];
            open.memory_budget = Some(open.memory_budget.unwrap_or(enough));
            let _ = self.gpu.set(Gpu::open(&open)?);
        }
        self.gpu.get().cloned().ok_or_else(|| crate::Error::internal("a device that was just opened"))
    }

    /// Samples between rebuilds: SLIDE's are the paper's, the others the default.
    fn rebuild(&self, mode: Mode) -> u64 {
        match (self.quick, mode) {
            (true, _) => 2 * self.batch as u64,
            (false, Mode::Slide) => 6400,
            (false, _) => 12_800,
        }
    }

    fn options(&self, case: Case) -> Options {
        let some = if self.quick { 64 } else { 1000 };
        Options {
            hidden: self.hidden,
            batch: self.batch,
            mode: case.mode,
            negatives: some,
            active: some,
            update: case.update,
            storage: case.storage,
            lsh: LshOptions { seed: SEED, ..LshOptions::default() },
            rebuild: Rebuild::Samples(self.rebuild(case.mode)),
            seed: SEED,
            ..Options::default()
        }
    }
}

impl Case {
    /// `uniform`, `hash_most`, `uniform_lazy_bf16`: what is not the default is named.
    fn name(self) -> String {
        let mut name = self.mode.name().replace('-', "_");
        name += match self.update {
            Update::CatchUp => "",
            Update::Lazy => "_lazy",
            Update::Dense => "_dense",
        };
        name + if self.storage == Storage::Bf16 { "_bf16" } else { "" }
    }

    /// What must come to the same bits.
    fn twin(self) -> Self {
        let update = match self.update {
            Update::CatchUp => Update::Dense,
            Update::Dense => Update::CatchUp,
            Update::Lazy => Update::Lazy,
        };
        Self { update, ..self }
    }
}

/// A trainer and the samples that it goes through, in their order, again and again.
struct Training<'a> {
    trainer: Trainer,
    set: &'a SparseSet,
    batch: usize,
    next: usize,
    control: &'a Control,
    /// Rows of the input table that the steps touched, and entries of their samples.
    rows: u64,
    entries: u64,
}

impl<'a> Training<'a> {
    fn new(gpu: &Gpu, set: &'a SparseSet, options: Options, control: &'a Control) -> Result<Self> {
        let batch = options.batch;
        Ok(Self { trainer: Trainer::new(gpu, set, options)?, set, batch, next: 0, control, rows: 0, entries: 0 })
    }

    fn batch(&mut self) -> Result<Batch> {
        let len = self.set.len();
        let id = |i: usize| crate::ops::word((self.next + i) % len);
        let chosen = (0..self.batch).map(id).collect::<Result<Vec<u32>>>()?;
        self.next = (self.next + self.batch) % len;
        let batch = Batch::new(self.set, &chosen)?;
        self.rows += batch.touched_rows() as u64;
        self.entries += batch.features.len() as u64;
        Ok(batch)
    }

    fn run(&mut self, steps: usize) -> Result<()> {
        for _ in 0..steps {
            self.control.cancel.check()?;
            let batch = self.batch()?;
            pollster::block_on(self.trainer.step_async(&batch))?;
        }
        Ok(())
    }

    /// Some steps, waited for: their seconds, and what they were.
    fn block(&mut self, steps: usize) -> Result<(f64, Tally)> {
        let start = Instant::now();
        self.run(steps)?;
        pollster::block_on(self.trainer.wait_async())?;
        let seconds = start.elapsed().as_secs_f64();
        Ok((seconds, pollster::block_on(self.trainer.settle_async())?))
    }

    /// A checksum of both tables with their state, all rows up to date.
    fn digest(&mut self) -> Result<u32> {
        const TOGETHER: usize = 1 << 16;
        pollster::block_on(self.trainer.wait_async())?;
        pollster::block_on(self.trainer.read_async())?;
        let network = self.trainer.network();
        let mut hasher = crc32fast::Hasher::new();
        let mut table = |rows: &Rows| -> Result<()> {
            for first in (0..rows.len()).step_by(TOGETHER) {
                let part = rows.read(network.gpu(), first..rows.len().min(first + TOGETHER))?;
                hasher.update(bytemuck::cast_slice(&part.weights));
                part.state.iter().for_each(|state| hasher.update(bytemuck::cast_slice(state)));
            }
            Ok(())
        };
        table(&network.input)?;
        table(&network.output)?;
        Ok(hasher.finalize())
    }

    /// The device's time in some steps, kernel by kernel, where it has a clock.
    fn kernels(&mut self, gpu: &Gpu, steps: usize) -> Result<Vec<KernelTime>> {
        if !gpu.caps().timestamps {
            return Ok(vec![]);
        }
        let mut dispatches = Vec::new();
        for _ in 0..steps {
            self.control.cancel.check()?;
            let batch = self.batch()?;
            dispatches.extend(pollster::block_on(self.trainer.profile_async(&batch))?);
        }
        let (_, mut kernels) = Meter::once(gpu, Profiled { seconds: 0.0, dispatches });
        kernels.iter_mut().for_each(|kernel| kernel.seconds /= steps as f64);
        Ok(kernels)
    }
}

/// Steps that were timed.
#[derive(Debug, Default)]
struct Timed {
    /// Seconds of a step of each block, without rebuilds.
    walls: Vec<f64>,
    steps: f64,
    rebuilds: f64,
    /// Of all rebuilds.
    rebuild_seconds: f64,
    /// Sums over the steps.
    active: f64,
    from_labels: f64,
    from_candidates: f64,
    touched: f64,
    /// Of the last block.
    loss: f64,
}

impl Timed {
    fn add(&mut self, seconds: f64, tally: &Tally) {
        let steps = tally.steps as f64;
        self.walls.push((seconds - tally.rebuild_seconds) / steps.max(1.0));
        self.steps += steps;
        self.rebuilds += tally.rebuilds as f64;
        self.rebuild_seconds += tally.rebuild_seconds;
        self.active += steps * tally.active;
        self.from_labels += steps * tally.from_labels;
        self.from_candidates += steps * tally.from_candidates;
        self.touched += steps * tally.touched;
        self.loss = tally.loss;
    }

    /// Of steps that have been warmed up; if tables are made anew on the way, at least one rebuild is among them.
    fn of(training: &mut Training<'_>, hashes: bool, quick: bool) -> Result<Self> {
        let (one, _) = training.block(1)?;
        let steps = if quick { 1 } else { ((BLOCK / one.max(1e-6)).ceil() as usize).clamp(1, MOST) };
        (training.rows, training.entries) = (0, 0);
        let (mut timed, start) = (Self::default(), Instant::now());
        loop {
            let (seconds, tally) = training.block(steps)?;
            timed.add(seconds, &tally);
            let enough = timed.walls.len() >= BLOCKS || timed.walls.len() >= 3 && start.elapsed().as_secs_f64() > LONG;
            if enough && (!hashes || timed.rebuilds > 0.0) {
                return Ok(timed);
            }
        }
    }

    /// Seconds of a rebuild, shared among the steps until the next.
    fn rebuild_share(&self, period: f64) -> f64 {
        if self.rebuilds > 0.0 { self.rebuild_seconds / self.rebuilds / period } else { 0.0 }
    }
}

/// Steps of a training, by the wall's clock: what the host does for a step is part of it.
fn step(context: &Context<'_>, size: &Size, case: Case) -> Result<Done> {
    let (gpu, set, control) = (size.gpu(context)?, size.set()?, &context.meter.control);
    let options = size.options(case);
    let wanted = {
        let mut twin = Training::new(&gpu, set, size.options(case.twin()), control)?;
        twin.run(CHECKED)?;
        twin.digest()?
    };
    let mut training = Training::new(&gpu, set, options.clone(), control)?;
    let (_, begun) = training.block(1)?;
    near("the first loss", begun.loss, begun.active.ln(), FIRST_LOSS)?;
    training.run(CHECKED - 1)?;
    if training.digest()? != wanted {
        return Err(wrong(format!("after {CHECKED} steps it is not what {:?} rows come to", case.twin().update)));
    }
    pollster::block_on(training.trainer.settle_async())?;
    let timed = Timed::of(&mut training, case.mode.hashes(), size.quick)?;
    // A loss that is no number has not fallen.
    let fell = timed.loss < begun.loss;
    if !fell {
        return Err(wrong(format!("the loss went from {:.4} to {:.4}", begun.loss, timed.loss)));
    }
    let period = (options.rebuild.every() / size.batch as u64).max(1) as f64;
    let rebuild = timed.rebuild_share(period);
    let walls: Vec<f64> = timed.walls.iter().map(|wall| wall + rebuild).collect();
    let timing = Timing::of(&walls, None, None);
    let bytes = bytes(size, &options, &training, &timed, period);
    let note = note(size, &timed, &begun, [bytes, timing.seconds, rebuild]);
    let mut measured = Measured::new(size.batch as f64, "samples", timing).bound(bytes).note(note);
    let short = !size.quick && measured.timing.seconds < BLOCK;
    measured.kernels = training.kernels(&gpu, if short { 3 } else { 1 })?;
    measured.done()
}

/// What a step moves at least.
fn bytes(size: &Size, options: &Options, training: &Training<'_>, timed: &Timed, period: f64) -> f64 {
    let columns = width(size.hidden) as f64;
    let weight = if options.storage == Storage::Bf16 { 2.0 } else { 4.0 };
    let rows = match options.update {
        Update::Dense => (size.features + 1 + size.labels) as f64,
        _ => (training.rows as f64 + timed.touched) / timed.steps,
    };
    let touched = rows * columns * 2.0 * (weight + 4.0 * options.rule.states() as f64);
    // An id and a value of every entry, in the order of samples and in that of features.
    let samples = 16.0 * training.entries as f64 / timed.steps;
    let labels = size.labels as f64;
    let tables = match options.mode.hashes() {
        true => labels * (4.0 * columns + 8.0 * options.lsh.tables as f64) / period,
        false => 0.0,
    };
    touched + samples + tables
}

fn note(size: &Size, timed: &Timed, begun: &Tally, [bytes, seconds, rebuild]: [f64; 3]) -> String {
    let a_step = |sum: f64| sum / timed.steps;
    let mut note = format!(
        "{:.1} MB a step at least, {:.2} GB/s; {:.0} of {} labels active",
        bytes * 1e-6,
        bytes * 1e-9 / seconds,
        a_step(timed.active),
        size.labels
    );
    if timed.from_labels < timed.active {
        note += &format!(", {:.0} the samples' own", a_step(timed.from_labels));
    }
    if timed.rebuilds > 0.0 {
        let found = 100.0 * timed.from_candidates / timed.active;
        note += &format!(", {found:.0} % from tables; rebuilds {:.0} % of the time", 100.0 * rebuild / seconds);
    }
    note += &format!(", rows at most {:.0} steps behind", timed.steps);
    note + &format!("; loss {:.2} to {:.2}", begun.loss, timed.loss)
}
