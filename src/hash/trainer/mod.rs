//! Training a network step by step. The host writes a batch and a recording a step, and waits for none of them: what a step says of
//! itself (loss, faults, active labels) is looked at two steps later.

mod index;
mod way;

use std::collections::VecDeque;

use serde::Serialize;
use web_time::Instant;

use super::checkpoint::{LeftOut, Loaded, Store};
use super::layer::{self, DeviceBatch, loss};
use super::network::Network;
use super::optimiser::{Entries, Mode as Update, Optimiser, Which};
use super::options::{Mode, Options};
use super::quality::Precision;
use super::{Batch, SparseSet};
use crate::error::{Error, Result};
use crate::gpu::{Control, Flight, Gpu, ReadTicket, Recording};
use crate::tensor::Tensor;
use index::Index;
use way::Way;

/// Steps that the device may be behind the host.
const AHEAD: usize = 2;

/// What the steps since the last look were, in the mean.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Tally {
    /// Steps.
    pub steps: u64,
    /// Samples.
    pub samples: u64,
    /// Loss.
    pub loss: f64,
    /// Active labels of a set (of the batch, or of a sample).
    pub active: f64,
    /// Those of them that are labels of the set's samples.
    pub from_labels: f64,
    /// Those that came from hash tables.
    pub from_candidates: f64,
    /// Those that were drawn to fill the set.
    pub from_fill: f64,
    /// Rows of the output table that a step touches.
    pub touched: f64,
    /// Rebuilds of hash tables.
    pub rebuilds: u64,
    /// Rows whose keys they made anew: all, or those that steps have touched, where the others rest.
    pub rehashed: u64,
    /// Their share of the time of steps and rebuilds; filled in by who knows the time.
    pub rebuild_share: f64,
    /// Seconds of rebuilds.
    #[serde(skip)]
    pub rebuild_seconds: f64,
}

/// A step on its way.
struct Pending {
    flight: Flight,
    step: u64,
    samples: usize,
    /// Loss and faults, sets, and what the set's statistics count.
    mean: ReadTicket,
    faults: ReadTicket,
    statistics: Option<ReadTicket>,
    drift: Option<super::lsh::Drift>,
}

/// A network in training.
pub struct Trainer {
    gpu: Gpu,
    options: Options,
    network: Network,
    optimiser: Optimiser,
    way: Way,
    index: Option<Index>,
    batch: Option<DeviceBatch>,
    /// `[batch, width]`: hidden elements, and their gradients.
    h: Tensor,
    dh: Tensor,
    /// `[batch]`, `[64]` and `[64]`: losses, their mean, and what went wrong.
    losses: Tensor,
    mean: Tensor,
    faults: Tensor<u32>,
    step: u64,
    flying: VecDeque<Pending>,
    tally: Tally,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer").field("options", &self.options).field("step", &self.step).finish_non_exhaustive()
    }
}

impl Trainer {
    /// A network with random weights for the features and labels of a set; the set's labels also say how frequent each is.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for options or sets that cannot be trained, and those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, set: &SparseSet, options: Options) -> Result<Self> {
        if set.is_empty() {
            return Err(Error::bad_input("a training part without samples").with_help("give at least one sample"));
        }
        let latest = options.rebuild.at_the_latest();
        if options.mode.hashes() && latest > set.len() as u64 {
            let what = format!("hash tables that are made anew after {latest} samples of {}", set.len());
            return Err(
                Error::bad_input(what).with_help("make them anew once an epoch at least: checkpoints stand there")
            );
        }
        let mut trainer = Self::sized_async(gpu, set.feature_count, set.label_count, options).await?;
        trainer.way = Way::new_async(gpu, set, &trainer.options).await?;
        if trainer.options.mode.hashes() {
            trainer.index = Some(Index::new_async(gpu, &trainer.network, &trainer.options).await?);
        }
        Ok(trainer)
    }

    /// A network for so many features and labels, trained with all labels, whatever the options' mode: nothing is known of a set.
    ///
    /// # Errors
    /// As [`Trainer::new_async`].
    pub async fn sized_async(gpu: &Gpu, features: usize, labels: usize, options: Options) -> Result<Self> {
        options.check()?;
        let network = Network::new_async(gpu, features, labels, &options).await?;
        Self::of_async(gpu, network, options).await
    }

    /// The same with undefined rows, for who loads them.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) async fn unset_async(gpu: &Gpu, features: usize, labels: usize, options: Options) -> Result<Self> {
        options.check()?;
        let network = Network::uninit_async(gpu, features, labels, &options, options.rule.states()).await?;
        Self::of_async(gpu, network, options).await
    }

    async fn of_async(gpu: &Gpu, network: Network, options: Options) -> Result<Self> {
        // Every row catches up after every step: that is the dense optimiser, bit for bit.
        let mode = if options.update == Update::Dense { Update::CatchUp } else { options.update };
        let optimiser = Optimiser::new_async(gpu, options.rule, mode, options.seed).await?;
        let (rows, columns) = (options.batch, network.hidden().width());
        Ok(Self {
            way: Way::all(),
            index: None,
            batch: None,
            h: Tensor::uninit_async(gpu, &[rows, columns]).await?,
            dh: Tensor::uninit_async(gpu, &[rows, columns]).await?,
            losses: Tensor::uninit_async(gpu, &[rows]).await?,
            mean: Tensor::uninit_async(gpu, &[64]).await?,
            faults: Tensor::from_slice_async(gpu, &[64], &[0; 64]).await?,
            gpu: gpu.clone(),
            options,
            network,
            optimiser,
            step: 0,
            flying: VecDeque::new(),
            tally: Tally::default(),
        })
    }

    /// Blocking twin of [`Trainer::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, set: &SparseSet, options: Options) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, set, options))
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The network, as it is; rows may owe steps that [`Trainer::read_async`] brings in.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Whether the next step begins with new hash tables (always, where there are none): then all that it depends on is the network and the
    /// number of the step, and a checkpoint needs to keep nothing else.
    pub fn at_rest(&self) -> bool {
        self.index.as_ref().is_none_or(|index| index.due(self.step))
    }

    /// Submits one step. What it says is known after the next [`Trainer::settle_async`] at the latest.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a batch that does not fit and for training that has left the numbers (of an earlier step, too);
    /// those of [`Gpu::submit_async`].
    pub async fn step_async(&mut self, batch: &Batch) -> Result<()> {
        while self.flying.len() >= AHEAD {
            self.land_async().await?;
        }
        let mut recording = self.next_async(batch).await?;
        let drift = self.record_drift(&mut recording)?;
        let mean = self.mean.record_read(&mut recording);
        let faults = self.faults.record_read(&mut recording);
        let statistics = self.way.record_statistics(&mut recording);
        // A step is never left half done, so nothing cancels it.
        let flight = self.gpu.submit_async(&recording, &Control::default()).await?;
        let (step, samples) = (self.step, batch.samples);
        self.flying.push_back(Pending { flight, step, samples, mean, faults, statistics, drift });
        self.step += 1;
        Ok(())
    }

    /// Records how far the labels' codes have drifted, at the steps that look at it: of rows that owe nothing, whatever was read before.
    fn record_drift(&self, recording: &mut Recording) -> Result<Option<super::lsh::Drift>> {
        let Some(index) = self.index.as_ref().filter(|index| index.measures(self.step)) else { return Ok(None) };
        let (caps, output) = (self.gpu.caps(), &self.network.output);
        self.optimiser.record_catch_up(recording, caps, output, Which::All, self.optimiser.step())?;
        index.record_drift(recording, caps, &output.weights).map(Some)
    }

    /// Does one step, and says how long each kernel of it took on the device, in the order of their dispatches: for measurements.
    ///
    /// # Errors
    /// Those of [`Trainer::step_async`] and [`Gpu::profile_async`].
    pub async fn profile_async(&mut self, batch: &Batch) -> Result<Vec<(&'static str, f64)>> {
        self.wait_async().await?;
        let recording = self.next_async(batch).await?;
        let output = self.gpu.profile_async(&recording, &Control::default()).await?;
        self.step += 1;
        Ok(output.kernel_times)
    }

    /// The recording of the next step, whose batch is on its way to the device.
    async fn next_async(&mut self, batch: &Batch) -> Result<Recording> {
        if batch.samples == 0 || batch.samples > self.options.batch {
            let what = format!("a batch of {} samples for steps of {}", batch.samples, self.options.batch);
            return Err(Error::bad_input(what).with_help("give 1 sample or more, up to the options' batch"));
        }
        self.rebuild_async().await?;
        if self.optimiser.sweep_due() {
            self.read_async().await?;
        }
        match &mut self.batch {
            Some(held) => held.write_async(&self.gpu, batch).await?,
            None => self.batch = Some(DeviceBatch::new_async(&self.gpu, batch).await?),
        }
        self.way.prepare_async(&self.gpu, batch, &self.options, &self.network).await?;
        if let Some(index) = self.index.as_ref().filter(|_| self.options.mode != Mode::Neighbours) {
            self.way.candidates_async(&self.gpu, self.options.batch, index.candidates()).await?;
        }
        let rate = self.options.schedule.rate(self.options.learning_rate, self.step);
        let number = self.optimiser.begin(&self.gpu, rate)?;
        let mut recording = Recording::new();
        self.record(&mut recording, number)?;
        Ok(recording)
    }

    /// Everything that a step does on the device.
    fn record(&mut self, recording: &mut Recording, number: u32) -> Result<()> {
        let caps = self.gpu.caps().clone();
        let Some(batch) = &self.batch else { return Err(Error::internal("a step without a batch")) };
        let misfit = || Error::internal("a batch that is larger than its room");
        let shape = [batch.samples, self.network.hidden().width()];
        let (h, dh) = (self.h.view(&shape).ok_or_else(misfit)?, self.dh.view(&shape).ok_or_else(misfit)?);
        let losses = self.losses.view(&[batch.samples]).ok_or_else(misfit)?;
        let Network { input, output, .. } = &self.network;
        let listed = Which::Touched(&batch.touched);
        self.optimiser.record_catch_up_to_update(recording, &caps, input, listed, number - 1)?;
        layer::forward(recording, &caps, batch, input, self.network.hidden(), &h)?;
        let step = way::Step {
            caps: &caps,
            options: &self.options,
            network: &self.network,
            optimiser: &self.optimiser,
            index: self.index.as_ref(),
            batch,
            h: &h,
            dh: &dh,
            losses: &losses,
            faults: &self.faults,
            number,
        };
        self.way.record(recording, &step)?;
        loss::mean(recording, &losses, &self.mean, 0)?;
        let entries = Entries::Samples { entries: &batch.sorted, sources: &dh };
        self.optimiser.record_update(recording, &caps, input, listed, &entries)?;
        if self.options.update == Update::Dense {
            self.optimiser.record_sweep(recording, &caps, &[input, output], number)?;
        }
        Ok(())
    }

    /// Waits for the oldest step that is on its way, and counts it.
    async fn land_async(&mut self) -> Result<()> {
        let Some(pending) = self.flying.pop_front() else { return Ok(()) };
        let mut output = pending.flight.finish_async().await?;
        let faults: Vec<u32> = output.take(pending.faults);
        loss::check(faults[0]).map_err(|e| {
            let what = format!("step {}: {}", pending.step + 1, e.message());
            let help = "lower `learning_rate`, or go back to an earlier checkpoint".to_owned();
            Error::new(e.kind(), what).with_help(e.help().map_or(help, str::to_owned))
        })?;
        let mean: Vec<f32> = output.take(pending.mean);
        let tally = &mut self.tally;
        tally.steps += 1;
        tally.samples += pending.samples as u64;
        tally.loss += f64::from(mean[0]);
        let counted = match pending.statistics {
            Some(ticket) => {
                let own = self.options.mode == Mode::Slide;
                way::counted(&output.take::<u32>(ticket), if own { pending.samples } else { 1 })
            }
            None => [self.network.labels() as f64, 0.0, 0.0, self.network.labels() as f64],
        };
        let [labels, candidates, fill, touched] = counted;
        tally.active += labels + candidates + fill;
        tally.from_labels += labels;
        tally.from_candidates += candidates;
        tally.from_fill += fill;
        tally.touched += touched;
        if let (Some(drift), Some(index)) = (pending.drift, &mut self.index) {
            let counters: Vec<u32> = output.take(drift.ticket);
            index.drifted(pending.step, drift.share(&counters));
        }
        Ok(())
    }

    /// Makes hash tables anew, if it is time.
    async fn rebuild_async(&mut self) -> Result<()> {
        if !self.index.as_ref().is_some_and(|index| index.due(self.step)) {
            return Ok(());
        }
        self.wait_async().await?;
        let start = Instant::now();
        let mut recording = Recording::new();
        let caps = self.gpu.caps().clone();
        let through = self.optimiser.step();
        let output = &self.network.output;
        self.optimiser.record_catch_up(&mut recording, &caps, output, Which::All, through)?;
        if let Some(index) = &mut self.index {
            let hashed = index.record_build_async(&mut recording, &self.gpu, output, self.step).await?;
            self.tally.rehashed += hashed as u64;
        }
        self.gpu.run_async(&recording, &Control::default()).await?;
        if let Some(index) = &mut self.index {
            index.built(through);
        }
        self.tally.rebuilds += 1;
        self.tally.rebuild_seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Brings all rows up to date, so that they may be read.
    ///
    /// # Errors
    /// Those of [`Gpu::run_async`].
    pub async fn read_async(&mut self) -> Result<()> {
        let mut recording = Recording::new();
        let caps = self.gpu.caps().clone();
        let through = self.optimiser.step();
        let Network { input, output, .. } = &self.network;
        self.optimiser.record_sweep(&mut recording, &caps, &[input, output], through)?;
        // What the optimiser takes for done is done: nothing cancels it.
        self.gpu.run_async(&recording, &Control::default()).await?;
        Ok(())
    }

    /// Waits for all steps that are on their way.
    ///
    /// # Errors
    /// Those of [`Trainer::step_async`], of the steps that were on their way.
    pub async fn wait_async(&mut self) -> Result<()> {
        while !self.flying.is_empty() {
            self.land_async().await?;
        }
        Ok(())
    }

    /// Waits for all steps, and says what they were since it was last asked.
    ///
    /// # Errors
    /// Those of [`Trainer::step_async`], of the steps that were on their way.
    pub async fn settle_async(&mut self) -> Result<Tally> {
        self.wait_async().await?;
        let mut tally = std::mem::take(&mut self.tally);
        let steps = tally.steps.max(1) as f64;
        for sum in [
            &mut tally.loss,
            &mut tally.active,
            &mut tally.from_labels,
            &mut tally.from_candidates,
            &mut tally.from_fill,
            &mut tally.touched,
        ] {
            *sum /= steps;
        }
        Ok(tally)
    }

    /// Precision of the exact ranking for samples `chosen` of a set.
    ///
    /// # Errors
    /// Those of [`Network::quality_async`].
    pub async fn evaluate_async(&mut self, set: &SparseSet, chosen: &[u32], control: &Control) -> Result<Precision> {
        self.wait_async().await?;
        self.read_async().await?;
        Ok(self.network.quality_async(set, chosen, None, control).await?.exact)
    }

    /// Saves the rows; `meta` is whatever the caller wants back. To go on with the same bits, save when the trainer is [`Trainer::at_rest`].
    ///
    /// # Errors
    /// Those of [`Store::save_async`], and of the steps that were on their way.
    pub async fn save_async(&mut self, store: &mut Store, meta: &[u8], control: &Control) -> Result<()> {
        self.wait_async().await?;
        store.save_async(&self.gpu, &self.network.tables(), self.optimiser.step(), meta, control).await?;
        Ok(())
    }

    /// Takes the newest whole state of a store, brings its rows up to date, and gives back the caller's bytes; `None` without a state.
    ///
    /// # Errors
    /// Those of [`Store::load_async`].
    pub async fn load_async(&mut self, store: &mut Store, control: &Control) -> Result<Option<Vec<u8>>> {
        self.wait_async().await?;
        let Some(loaded) = store.load_async(&self.gpu, &self.network.tables(), control).await? else { return Ok(None) };
        self.go_on_async(loaded).await.map(Some)
    }

    /// Takes one state of a store, likewise; later ones stay where they are.
    ///
    /// # Errors
    /// Those of [`Store::load_state_async`].
    pub async fn load_state_async(&mut self, store: &mut Store, number: u64, control: &Control) -> Result<Vec<u8>> {
        self.wait_async().await?;
        let loaded = store.load_state_async(&self.gpu, &self.network.tables(), number, control).await?;
        self.go_on_async(loaded).await
    }

    /// Goes on from rows that were loaded, and brings them up to date.
    async fn go_on_async(&mut self, loaded: Loaded) -> Result<Vec<u8>> {
        for LeftOut { name, why } in &loaded.left_out {
            log::warn!("{name} was passed over: {why}");
        }
        let options = &self.options;
        let rate = |number: u32| Ok(options.schedule.rate(options.learning_rate, u64::from(number) - 1));
        let Network { input, output, .. } = &self.network;
        self.optimiser.restore_async(&self.gpu, &[input, output], loaded.oldest_stamp, loaded.step, rate).await?;
        self.read_async().await?;
        self.step = u64::from(loaded.step);
        if let Some(index) = &mut self.index {
            // Tables are not saved; they stood at a rebuild when the rows were.
            index.demand(self.step);
        }
        Ok(loaded.meta)
    }

    /// The network alone.
    pub fn into_network(self) -> Network {
        self.network
    }
}
