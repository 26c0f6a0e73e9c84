//! A training from its configuration to the network: data, steps, looks at the test part, log, checkpoints, and going on after a stop.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::checkpoint::Store;
use super::config::{Config, DataConfig, Length, Source};
use super::data;
use super::predict::Precision;
use super::trainer::{Tally, Trainer};
use super::{Batch, SparseSet, export};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Control, Gpu};
use crate::ops::random::{Stream, purpose};

/// What a network is trained on, and looked at with.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it is trained on.
    pub train: SparseSet,
    /// What it is looked at with; may be empty.
    pub test: SparseSet,
    /// Names of the labels, if they are known.
    pub label_names: Vec<String>,
    /// What was noticed while reading.
    pub notes: Vec<String>,
}

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

/// What a checkpoint holds besides the rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Meta {
    /// The configuration's text.
    pub config: String,
    /// Tells data apart: samples, features and labels.
    pub data: [usize; 3],
    /// Steps done.
    pub step: u64,
    /// Seconds spent.
    pub seconds: f64,
}

/// Reads what a configuration is trained on.
///
/// # Errors
/// Those of the readers, with their places.
pub fn load(config: &DataConfig, seed: u64) -> Result<Loaded> {
    let options = data::ReadOptions { cache: config.cache, ..data::ReadOptions::default() };
    let mut notes = Vec::new();
    let mut label_names = Vec::new();
    let (train, test) = match &config.source {
        Source::Files { train, test } => {
            let mut read = |path: &Path| -> Result<SparseSet> {
                let (set, said) = data::read(path, &options)?;
                notes.extend(said.lines());
                Ok(set)
            };
            let whole = read(train)?;
            match test {
                Some(path) => {
                    let test = read(path)?;
                    same_space(&whole, &test).map_err(|e| e.in_file(path))?;
                    (whole, test)
                }
                None => data::split(&whole, config.test_share, seed),
            }
        }
        Source::Text { file, window, least, subsample } => {
            let recipe = data::text::SkipGram { window: *window, least: *least, subsample: *subsample, seed };
            let (set, words) = data::text::skip_gram(file, &recipe)?;
            label_names = words;
            data::split(&set, config.test_share, seed)
        }
        Source::Generated { samples, features, labels } => {
            let recipe = data::generate::Recipe::amazon(*samples + samples / 10, *features, *labels, seed);
            let set = data::generate::generate(&recipe)?;
            data::split(&set, 1.0 / 11.0, seed)
        }
    };
    if let Some(path) = &config.label_names {
        label_names = data::names(path, train.label_count)?;
    }
    Ok(Loaded { train, test, label_names, notes })
}

/// Refuses a test part of another shape.
fn same_space(train: &SparseSet, test: &SparseSet) -> Result<()> {
    if (train.feature_count, train.label_count) == (test.feature_count, test.label_count) {
        return Ok(());
    }
    let what = format!(
        "{} features and {} labels, but the training part has {} and {}",
        test.feature_count, test.label_count, train.feature_count, train.label_count
    );
    Err(Error::bad_input(what).at(1, 1).with_help("both parts of a set count the same features and labels"))
}

/// Where a training's rows are kept, in its folder.
pub const STATE: &str = "state";
/// The log, in its folder.
pub const LOG: &str = "log.jsonl";
/// The network for other programs, in its folder.
pub const MODEL: &str = "model.safetensors";

/// Trains as a configuration says, going on from the checkpoints in its folder.
#[derive(Debug)]
pub struct Session<'a> {
    gpu: &'a Gpu,
    config: &'a Config,
    loaded: &'a Loaded,
    trainer: Trainer,
    store: Store,
    /// Seconds in steps before `since`.
    spent: f64,
    saved: Instant,
    looks: Vec<Look>,
}

impl<'a> Session<'a> {
    /// Makes the network, or takes it from the folder's checkpoints.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a folder of another training; those of the device and of files.
    pub fn new(gpu: &'a Gpu, config: &'a Config, loaded: &'a Loaded, control: &Control) -> Result<Self> {
        let mut trainer = pollster::block_on(Trainer::new_async(gpu, &loaded.train, config.options.clone()))?;
        let mut store = Store::open(&config.folder.join(STATE))?;
        let mut spent = 0.0;
        if let Some(meta) = pollster::block_on(trainer.load_async(&mut store, control))? {
            let meta: Meta = serde_json::from_slice(&meta)
                .map_err(|e| foreign(config, "its description cannot be read").with_source(e))?;
            if meta.data != shape(&loaded.train) {
                return Err(foreign(config, "it was trained on other data"));
            }
            if meta.config != config.text {
                return Err(foreign(config, "its configuration was another one"));
            }
            trainer.resume(meta.step);
            spent = meta.seconds;
        }
        Ok(Self { gpu, config, loaded, trainer, store, spent, saved: Instant::now(), looks: Vec::new() })
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
        let looks = (per_epoch / self.config.looks.max(1)).max(1);
        let mut order = Vec::new();
        let mut part = Instant::now();
        let stopped = loop {
            let step = self.trainer.step();
            if step >= last {
                break false;
            }
            if control.cancel.is_cancelled() {
                break true;
            }
            let (epoch, at) = (step / per_epoch, step % per_epoch);
            if order.is_empty() || at == 0 {
                order = self.order(epoch)?;
            }
            let from = usize::try_from(at).unwrap_or(usize::MAX) * self.config.options.batch;
            let to = order.len().min(from + self.config.options.batch);
            let batch = Batch::new(&self.loaded.train, &order[from..to])?;
            pollster::block_on(self.trainer.step_async(&batch, control))?;
            control.report("training", step + 1, last, "steps");
            let done = step + 1;
            if self.config.looks > 0 && done.is_multiple_of(looks) && done < last {
                self.look(&mut part, per_epoch, Some(self.config.look_samples), control, heard)?;
            } else if self.saved.elapsed().as_secs_f64() >= self.config.checkpoint_seconds {
                self.settle(&mut part)?;
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
        // What was asked to stop still saves what it has.
        let quiet = Control::default();
        let control = if stopped { &quiet } else { control };
        if !stopped {
            self.look(part, per_epoch, None, control, heard)?;
        }
        self.settle(part)?;
        self.save(control)?;
        if !stopped {
            let path = self.config.folder.join(MODEL);
            pollster::block_on(self.trainer.read_async(control))?;
            export::safetensors(self.gpu, &path, self.trainer.tables(), control)?;
        }
        let Self { trainer, spent, looks, .. } = self;
        Ok(Outcome { steps: trainer.step(), seconds: spent, looks, stopped })
    }

    /// The samples of an epoch in their order.
    fn order(&self, epoch: u64) -> Result<Vec<u32>> {
        let epoch = u32::try_from(epoch).map_err(|_| Error::internal("more than 2^32 epochs"))?;
        Ok(Stream::new(self.config.options.seed).permutation(self.loaded.train.len(), epoch, purpose::SHUFFLE))
    }

    /// Waits for the device and counts the time.
    fn settle(&mut self, part: &mut Instant) -> Result<(Tally, f64)> {
        let tally = pollster::block_on(self.trainer.settle_async())?;
        let seconds = part.elapsed().as_secs_f64();
        self.spent += seconds;
        *part = Instant::now();
        Ok((tally, seconds))
    }

    fn look(
        &mut self,
        part: &mut Instant,
        per_epoch: u64,
        samples: Option<usize>,
        control: &Control,
        heard: &mut dyn FnMut(&Look),
    ) -> Result<()> {
        let before = self.looks.last().map_or(0.0, |look| look.seconds);
        let (tally, _) = self.settle(part)?;
        let seconds = self.spent - before;
        let test = &self.loaded.test;
        let precision = if test.is_empty() {
            None
        } else {
            let some = samples.map_or(test.len(), |n| n.min(test.len()));
            let chosen: Vec<u32> = Stream::new(self.config.options.seed).permutation(test.len(), 0, purpose::SPLIT);
            match pollster::block_on(self.trainer.evaluate_async(test, &chosen[..some], control)) {
                // The steps are done; only this look is lost.
                Err(e) if e.kind() == ErrorKind::Cancelled => return Ok(()),
                other => Some(other?),
            }
        };
        let look = Look {
            step: self.trainer.step(),
            epoch: self.trainer.step() as f64 / per_epoch as f64,
            seconds: self.spent,
            samples_per_second: if seconds > 0.0 { tally.samples as f64 / seconds } else { 0.0 },
            tally,
            precision,
        };
        self.log(&look)?;
        heard(&look);
        self.looks.push(look);
        *part = Instant::now();
        Ok(())
    }

    fn log(&self, look: &Look) -> Result<()> {
        let path = self.config.folder.join(LOG);
        let line = serde_json::to_string(look).map_err(|e| Error::internal("a line of the log").with_source(e))?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(|e| Error::io(&path, e))
    }

    fn save(&mut self, control: &Control) -> Result<()> {
        let meta = Meta {
            config: self.config.text.clone(),
            data: shape(&self.loaded.train),
            step: self.trainer.step(),
            seconds: self.spent,
        };
        let meta = serde_json::to_vec(&meta).map_err(|e| Error::internal("a checkpoint's description").with_source(e))?;
        pollster::block_on(self.trainer.save_async(&mut self.store, &meta, control))?;
        self.saved = Instant::now();
        Ok(())
    }
}

fn shape(set: &SparseSet) -> [usize; 3] {
    [set.len(), set.feature_count, set.label_count]
}

fn foreign(config: &Config, why: &str) -> Error {
    let what = format!("the folder holds another training: {why}");
    Error::bad_input(what)
        .in_file(&config.folder)
        .with_help("choose another `folder` in [train] (or `--folder`), or remove this one")
}
