//! A training from its configuration to the network: data, steps, looks at the test part, log, checkpoints, and going on after a stop.

mod data;
mod folder;
mod training;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use web_time::Instant;

use super::checkpoint::Store;
use super::config::{Config, Length};
use super::export::{self, Format};
use super::network::Network;
use super::quality::{Precision, Quality};
use super::trainer::{Tally, Trainer};
use super::{Batch, Shortlist};
use crate::error::{Error, ErrorKind, Result};
use crate::files::replace;
use crate::gpu::{CancelToken, Control, Gpu};
use crate::ops::random::{Stream, purpose};

pub use data::{Loaded, label_names, load, load_test};
pub use folder::{LOCK, LOG, MODEL, STATE, TRAINING};
use folder::{Lock, cut_log, log};
use training::{Meta, describe, going_on, state_of};
pub use training::{Training, configuration};

/// Between checkpoints a training spends at least so many times what the last one took.
const REST: f64 = 10.0;

/// A line of the log, and what a look tells the caller.
#[derive(Debug, Clone, Serialize)]
pub struct Look {
    /// Steps done.
    pub step: u64,
    /// Epochs done, in part.
    pub epoch: f64,
    /// Seconds spent in steps and rebuilds since the training began, over all its sessions.
    pub seconds: f64,
    /// Samples a second since the last look, rebuilds included.
    pub samples_per_second: f64,
    /// What the steps since the last look were.
    #[serde(flatten)]
    pub tally: Tally,
    /// How good the network is on the test part, if there is one.
    #[serde(flatten)]
    pub precision: Option<Precision>,
    /// Mean share of the exact best label that hash tables of the configuration's settings find, if that was asked for.
    pub recall_1: Option<f64>,
    /// The same of the exact best ten.
    pub recall_10: Option<f64>,
}

/// What a training came to.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Steps done.
    pub steps: u64,
    /// Seconds spent in steps and rebuilds.
    pub seconds: f64,
    /// All looks of this session.
    pub looks: Vec<Look>,
    /// Whether it was stopped before its end; the same configuration goes on.
    pub stopped: bool,
}

/// The network of the newest checkpoint in a folder, its rows up to date.
///
/// # Errors
/// As [`configuration`]; [`ErrorKind::BadInput`] for a folder without a checkpoint; those of the device.
pub fn open(gpu: &Gpu, folder: &Path, control: &Control) -> Result<Network> {
    let (config, [features, labels]) = configuration(folder)?;
    pollster::block_on(async {
        let mut trainer = Trainer::unset_async(gpu, features, labels, config.options).await?;
        let mut store = Store::open(&folder.join(STATE))?;
        let Some(_) = trainer.load_async(&mut store, control).await? else {
            return Err(Error::bad_input("the folder holds no checkpoint yet")
                .in_file(&folder.join(STATE))
                .with_help("let `wavehull hash train` run for a minute, or to its end"));
        };
        Ok(trainer.into_network())
    })
}

/// What metadata of files for other programs say of a network.
pub fn about(config: &Config) -> BTreeMap<String, String> {
    BTreeMap::from([("config".to_owned(), config.text.clone())])
}

/// Trains as a configuration says, going on from the checkpoints in its folder.
#[derive(Debug)]
pub struct Session<'a> {
    config: &'a Config,
    loaded: &'a Loaded,
    training: Training,
    trainer: Trainer,
    store: Store,
    /// No other program trains into the folder.
    _lock: Lock,
    /// Checkpoints that were removed since the training goes on before them.
    forgotten: usize,
    /// Seconds in steps, and of these before the last look.
    spent: f64,
    looked: f64,
    /// The last checkpoint: when, how long it took, and its step.
    saved: Instant,
    save_seconds: f64,
    saved_step: Option<u64>,
    /// The step of the last line of the log.
    logged: Option<u64>,
    looks: Vec<Look>,
}

impl<'a> Session<'a> {
    /// Makes the network, or takes it from the newest of the folder's checkpoints.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a folder of another training, or one that another program trains into; those of the device and of files.
    pub fn new(gpu: &'a Gpu, config: &'a Config, loaded: &'a Loaded, control: &Control) -> Result<Self> {
        Self::begin(gpu, config, loaded, None, control)
    }

    /// Takes the network from the folder's checkpoint of an earlier step. Later checkpoints and lines of the log are removed, once it has been
    /// read and found to be of this training.
    ///
    /// # Errors
    /// As [`Session::new`]; [`ErrorKind::BadInput`] for a step without a checkpoint, naming those that there are.
    pub fn going_back(
        gpu: &'a Gpu,
        config: &'a Config,
        loaded: &'a Loaded,
        step: u64,
        control: &Control,
    ) -> Result<Self> {
        Self::begin(gpu, config, loaded, Some(step), control)
    }

    fn begin(
        gpu: &'a Gpu,
        config: &'a Config,
        loaded: &'a Loaded,
        from: Option<u64>,
        control: &Control,
    ) -> Result<Self> {
        let training = describe(config, loaded)?;
        // Before the device's memory is asked for. A folder that is not there is made when nothing but the device can fail any more.
        let lock = Lock::try_existing(&config.folder)?;
        let number = from.map(|step| state_of(&config.folder, step)).transpose()?;
        let mut trainer = Trainer::new(gpu, &loaded.train, config.options.clone())?;
        let lock = lock.map_or_else(|| Lock::take(&config.folder), Ok)?;
        let mut store = Store::open(&config.folder.join(STATE))?;
        let meta = match number {
            Some(number) => Some(pollster::block_on(trainer.load_state_async(&mut store, number, control))?),
            None => pollster::block_on(trainer.load_async(&mut store, control))?,
        };
        let spent = match &meta {
            Some(meta) => going_on(config, &training, meta)?,
            None => 0.0,
        };
        let forgotten = number.map_or(Ok(0), |number| store.forget_after(number))?;
        let logged = cut_log(&config.folder, trainer.step())?;
        let text = serde_json::to_vec_pretty(&training).map_err(|e| Error::internal("a description").with_source(e))?;
        replace(&config.folder.join(TRAINING), &text)?;
        let saved_step = meta.map(|_| trainer.step());
        Ok(Self {
            config,
            loaded,
            training,
            trainer,
            store,
            _lock: lock,
            forgotten,
            spent,
            looked: spent,
            saved: Instant::now(),
            save_seconds: 0.0,
            saved_step,
            logged,
            looks: Vec::new(),
        })
    }

    /// Checkpoints that were removed since the training goes on before them.
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Steps done before this session.
    pub fn step(&self) -> u64 {
        self.trainer.step()
    }

    /// Trains to the end, or until it is told to stop; `heard` hears every look.
    ///
    /// # Errors
    /// Those of the device and of files, and training that came to no numbers.
    pub fn run(mut self, control: &Control, heard: &mut dyn FnMut(&Look)) -> Result<Outcome> {
        let per_epoch = self.loaded.train.len().div_ceil(self.config.options.batch) as u64;
        let last = match self.config.length {
            Length::Epochs(epochs) => epochs * per_epoch,
            Length::Steps(steps) => steps,
        };
        // So many an epoch, one of them at its end.
        let looks = self.config.looks;
        let passed = |step: u64| u128::from(step) * u128::from(looks) / u128::from(per_epoch);
        let at_look = |step: u64| step > 0 && step < last && passed(step) > passed(step - 1);
        let mut order = Vec::new();
        let mut part = Instant::now();
        if at_look(self.trainer.step()) && self.logged != Some(self.trainer.step()) {
            // The program was stopped while it looked.
            self.look(&mut part, per_epoch, Some(self.config.look_samples), control, heard)?;
        }
        let stopped = loop {
            let step = self.trainer.step();
            if step >= last {
                break false;
            }
            if control.cancel.is_cancelled() && self.trainer.at_rest() {
                break true;
            }
            let (epoch, at) = (step / per_epoch, step % per_epoch);
            if order.is_empty() || at == 0 {
                order = self.order(epoch)?;
            }
            let from = usize::try_from(at).unwrap_or(usize::MAX) * self.config.options.batch;
            let to = order.len().min(from + self.config.options.batch);
            let batch = Batch::new(&self.loaded.train, &order[from..to])?;
            pollster::block_on(self.trainer.step_async(&batch))?;
            control.report("training", step + 1, last, "steps");
            if at_look(step + 1) {
                // Between rebuilds a training that hashes cannot stop; so there its looks are whole, whatever it is told.
                let whole = Control { cancel: CancelToken::default(), ..control.clone() };
                let control = if self.trainer.at_rest() { control } else { &whole };
                self.look(&mut part, per_epoch, Some(self.config.look_samples), control, heard)?;
            }
            let since = self.saved.elapsed().as_secs_f64();
            if due(since, self.config.checkpoint_seconds, self.save_seconds) && self.trainer.at_rest() {
                self.pause(&mut part)?;
                self.save(control)?;
                part = Instant::now();
            }
        };
        self.end(&mut part, per_epoch, stopped, control, heard)
    }

    fn end(
        mut self,
        part: &mut Instant,
        per_epoch: u64,
        stopped: bool,
        control: &Control,
        heard: &mut dyn FnMut(&Look),
    ) -> Result<Outcome> {
        self.pause(part)?;
        self.save(control)?;
        let stopped = stopped || !self.look(part, per_epoch, None, control, heard)?;
        if !stopped {
            self.export(control)?;
        }
        let Self { trainer, spent, looks, .. } = self;
        Ok(Outcome { steps: trainer.step(), seconds: spent, looks, stopped })
    }

    /// The samples of an epoch in their order.
    fn order(&self, epoch: u64) -> Result<Vec<u32>> {
        let epoch = u32::try_from(epoch).map_err(|_| Error::internal("more than 2^32 epochs"))?;
        Ok(Stream::new(self.config.options.seed).permutation(self.loaded.train.len(), epoch, purpose::SHUFFLE))
    }

    /// Waits for the device and counts the time. What the steps were is kept for the next look.
    fn pause(&mut self, part: &mut Instant) -> Result<()> {
        pollster::block_on(self.trainer.wait_async())?;
        self.spent += part.elapsed().as_secs_f64();
        *part = Instant::now();
        Ok(())
    }

    /// Looks at the test part; `false` if it was told to stop meanwhile.
    fn look(
        &mut self,
        part: &mut Instant,
        per_epoch: u64,
        samples: Option<usize>,
        control: &Control,
        heard: &mut dyn FnMut(&Look),
    ) -> Result<bool> {
        // Rows that owe steps owe them to the training: the clock is on while they catch up.
        pollster::block_on(self.trainer.read_async())?;
        self.pause(part)?;
        let mut tally = pollster::block_on(self.trainer.settle_async())?;
        let seconds = self.spent - std::mem::replace(&mut self.looked, self.spent);
        if tally.steps == 0 {
            // Of a training that went on from here: there is no mean of nothing.
            tally.loss = f64::NAN;
        }
        tally.rebuild_share = if seconds > 0.0 { tally.rebuild_seconds / seconds } else { 0.0 };
        let quality = match self.measure(samples, control) {
            // The steps are done; only this look is lost.
            Err(e) if e.kind() == ErrorKind::Cancelled => return Ok(false),
            other => other?,
        };
        let sparse = quality.as_ref().and_then(|quality| quality.sparse.as_ref());
        let look = Look {
            step: self.trainer.step(),
            epoch: self.trainer.step() as f64 / per_epoch as f64,
            seconds: self.spent,
            samples_per_second: if seconds > 0.0 { tally.samples as f64 / seconds } else { 0.0 },
            tally,
            recall_1: sparse.map(|sparse| sparse.recall_1),
            recall_10: sparse.map(|sparse| sparse.recall_10),
            precision: quality.map(|quality| quality.exact),
        };
        // A training that was at its end already has this line.
        if self.logged != Some(look.step) {
            log(&self.config.folder, &look)?;
            self.logged = Some(look.step);
        }
        heard(&look);
        self.looks.push(look);
        *part = Instant::now();
        Ok(true)
    }

    /// How good the network is on the first so many samples of the test part in a fixed random order, if there is a test part.
    fn measure(&mut self, samples: Option<usize>, control: &Control) -> Result<Option<Quality>> {
        let (config, test) = (self.config, &self.loaded.test);
        if test.is_empty() {
            return Ok(None);
        }
        let mut chosen: Vec<u32> = Stream::new(config.options.seed).permutation(test.len(), 0, purpose::SPLIT);
        chosen.truncate(samples.unwrap_or(test.len()));
        pollster::block_on(async {
            let tables = config.recall.then(|| Shortlist::Tables(config.options.lsh.clone()));
            self.trainer.network().quality_async(test, &chosen, tables.as_ref(), control).await.map(Some)
        })
    }

    fn export(&mut self, control: &Control) -> Result<()> {
        pollster::block_on(async {
            self.trainer.read_async().await?;
            let path = self.config.folder.join(MODEL);
            export::write_async(self.trainer.network(), &path, Format::Safetensors, &about(self.config), control).await
        })
    }

    /// Saves the rows. What was asked to stop still saves what it has.
    fn save(&mut self, control: &Control) -> Result<()> {
        if self.saved_step == Some(self.trainer.step()) {
            return Ok(());
        }
        let begun = Instant::now();
        let control = &Control { progress: control.progress.clone(), ..Control::default() };
        let meta = Meta { training: self.training.clone(), seconds: self.spent };
        let meta =
            serde_json::to_vec(&meta).map_err(|e| Error::internal("a checkpoint's description").with_source(e))?;
        pollster::block_on(self.trainer.save_async(&mut self.store, &meta, control))?;
        self.saved = Instant::now();
        (self.save_seconds, self.saved_step) = (begun.elapsed().as_secs_f64(), Some(self.trainer.step()));
        Ok(())
    }
}

/// Whether it is time for a checkpoint, so many seconds after one that took `last`: however large the network is, it is trained more than saved.
fn due(since: f64, every: f64, last: f64) -> bool {
    since >= every.max(REST * last)
}

#[cfg(test)]
mod tests {
    use super::due;

    #[test]
    fn large_networks_are_saved_less_often_than_their_file_says() {
        assert!(due(60.0, 60.0, 0.0) && !due(59.0, 60.0, 0.0));
        assert!(due(60.0, 60.0, 6.0) && !due(60.0, 60.0, 6.5) && due(65.0, 60.0, 6.5));
    }
}
