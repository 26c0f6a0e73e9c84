//! A training from its configuration to the network: data, steps, looks at the test part, log, checkpoints, and going on after a stop.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::checkpoint::Store;
use super::config::{Config, DataConfig, Length, Source};
use super::data::generate::{Recipe, generate};
use super::data::text::{Corpus, SkipGram};
use super::data::{self, Cache, Names, ReadOptions, split};
use super::network::{Network, Precision};
use super::trainer::{Tally, Trainer};
use super::{Batch, SparseSet, export};
use crate::error::{Error, ErrorKind, Result};
use crate::files::replace;
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
    pub label_names: Option<Names>,
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

/// What a training is, beside its rows: `training.json` in its folder, and the front of every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The configuration's text.
    pub config: String,
    /// What paths in it are relative to.
    pub base: PathBuf,
    /// The seed, which a caller may have chosen instead of the configuration's.
    pub seed: u64,
    /// Samples, features and labels of the training part.
    pub data: [usize; 3],
    /// Tells sets of one size apart: a checksum of the training part.
    pub fingerprint: u32,
}

/// What a checkpoint holds besides the rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    training: Training,
    /// Seconds spent.
    seconds: f64,
}

/// Reads what a configuration is trained on.
///
/// # Errors
/// Those of the readers, with their places.
pub fn load(config: &DataConfig, seed: u64) -> Result<Loaded> {
    let mut loaded = match &config.source {
        Source::Files { train, test } => read_files(config, train, test.as_deref(), seed)?,
        Source::Text { file, options } => {
            let corpus = Corpus::read(file, &SkipGram { seed, ..*options })?;
            // Windows of neighbours overlap, so the test part is one end of the text.
            let last = corpus.len() - part_of(corpus.len(), config.test_share);
            let notes = vec![format!(
                "{} words, {} of them distinct; {} too rare, {} thinned out",
                corpus.read,
                corpus.words.len(),
                corpus.rare,
                corpus.thinned
            )];
            let (train, test) = (corpus.samples(0..last), corpus.samples(last..corpus.len()));
            Loaded { train, test, label_names: Some(corpus.words), notes }
        }
        Source::Generated { samples, features, labels } => {
            let recipe = Recipe { features: *features, labels: *labels, ..Recipe::amazon_670k(seed) };
            let train = generate(&recipe, 0..*samples, 0)?;
            let test = generate(&recipe, *samples..samples + part_of(*samples, config.test_share), 0)?;
            Loaded { train, test, label_names: None, notes: Vec::new() }
        }
    };
    if let Some(path) = &config.label_names {
        loaded.label_names = Some(Names::read(path, loaded.train.label_count)?);
    }
    Ok(loaded)
}

/// So large a share of this many; one at least, unless the share is 0.
fn part_of(count: usize, share: f64) -> usize {
    if share > 0.0 { ((count as f64 * share) as usize).clamp(1, count.max(1)) } else { 0 }
}

fn read_files(config: &DataConfig, train: &Path, test: Option<&Path>, seed: u64) -> Result<Loaded> {
    let cache = if config.cache { Cache::Beside } else { Cache::Off };
    let options = ReadOptions { cache, ..ReadOptions::default() };
    let mut notes = Vec::new();
    let mut read = |path: &Path| -> Result<SparseSet> {
        let (set, said) = data::read(path, &options)?;
        notes.extend(said.sentences().into_iter().map(|line| format!("{}: {line}", path.display())));
        Ok(set)
    };
    let whole = read(train)?;
    let (train, test) = match test {
        Some(path) => {
            let test = read(path)?;
            same_space(&whole, &test).map_err(|e| e.in_file(path).at(1, 1))?;
            (whole, test)
        }
        None => match part_of(whole.len(), config.test_share) {
            0 => {
                let none = split::select(&whole, &[])?;
                (whole, none)
            }
            some => split::split(&whole, some, seed).map_err(|e| e.in_file(train))?,
        },
    };
    Ok(Loaded { train, test, label_names: None, notes })
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
    Err(Error::bad_input(what).with_help("both parts of a set count the same features and labels"))
}

/// Where a training's rows are kept, in its folder.
pub const STATE: &str = "state";
/// The log, in its folder.
pub const LOG: &str = "log.jsonl";
/// The network for other programs, in its folder.
pub const MODEL: &str = "model.safetensors";
/// What the training is, in its folder.
pub const TRAINING: &str = "training.json";

/// The configuration of the training in a folder, and how many features and labels its network has.
///
/// # Errors
/// [`ErrorKind::Io`] and [`ErrorKind::BadInput`] for a folder without a training.
pub fn configuration(folder: &Path) -> Result<(Config, [usize; 2])> {
    let path = folder.join(TRAINING);
    let help = "give the folder that `wavehull hash train` wrote: `folder` in its configuration";
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e).with_help(help))?;
    let training: Training = serde_json::from_slice(&bytes).map_err(|e| {
        Error::bad_input("this describes no training")
            .in_file(&path)
            .at(e.line(), e.column())
            .with_help(help)
            .with_source(e)
    })?;
    let mut config = Config::parse(&training.config, &training.base).map_err(|e| e.in_file(&path))?;
    folder.clone_into(&mut config.folder);
    config.set_seed(training.seed);
    let [_, features, labels] = training.data;
    Ok((config, [features, labels]))
}

/// The network of the newest checkpoint in a folder, its rows up to date.
///
/// # Errors
/// As [`configuration`]; [`ErrorKind::BadInput`] for a folder without a checkpoint; those of the device.
pub fn open(gpu: &Gpu, folder: &Path, control: &Control) -> Result<Network> {
    let (config, [features, labels]) = configuration(folder)?;
    pollster::block_on(async {
        let mut trainer = Trainer::sized_async(gpu, features, labels, config.options).await?;
        let mut store = Store::open(&folder.join(STATE))?;
        let Some(_) = trainer.load_async(&mut store, control).await? else {
            return Err(Error::bad_input("the folder holds no checkpoint yet")
                .in_file(&folder.join(STATE))
                .with_help("let `wavehull hash train` run for a minute, or to its end"));
        };
        Ok(trainer.into_network())
    })
}

/// Trains as a configuration says, going on from the checkpoints in its folder.
#[derive(Debug)]
pub struct Session<'a> {
    config: &'a Config,
    loaded: &'a Loaded,
    training: Training,
    trainer: Trainer,
    store: Store,
    /// Seconds in steps, and of these before the last look.
    spent: f64,
    looked: f64,
    saved: Instant,
    looks: Vec<Look>,
}

impl<'a> Session<'a> {
    /// Makes the network, or takes it from the folder's checkpoints.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a folder of another training; those of the device and of files.
    pub fn new(gpu: &'a Gpu, config: &'a Config, loaded: &'a Loaded, control: &Control) -> Result<Self> {
        let training = Training {
            config: config.text.clone(),
            // A file beside the caller has no folder in its path.
            base: std::path::absolute(Path::new(".").join(&config.base)).map_err(|e| Error::io(&config.base, e))?,
            seed: config.options.seed,
            data: [loaded.train.len(), loaded.train.feature_count, loaded.train.label_count],
            fingerprint: fingerprint(&loaded.train),
        };
        let mut trainer = Trainer::new(gpu, &loaded.train, config.options.clone())?;
        let mut store = Store::open(&config.folder.join(STATE))?;
        let mut spent = 0.0;
        if let Some(meta) = pollster::block_on(trainer.load_async(&mut store, control))? {
            let meta: Meta = serde_json::from_slice(&meta)
                .map_err(|e| foreign(config, "its description cannot be read").with_source(e))?;
            let same = |other: &Training| (other.data, other.fingerprint) == (training.data, training.fingerprint);
            if !same(&meta.training) {
                return Err(foreign(config, "it was trained on other data"));
            }
            // How long it trains, and when it looks and saves, may change.
            let mut then = Config::parse(&meta.training.config, &meta.training.base)?;
            then.set_seed(meta.training.seed);
            if then.options != config.options {
                return Err(foreign(config, "its model, optimiser or active sets were others"));
            }
            spent = meta.seconds;
        }
        let text = serde_json::to_vec_pretty(&training).map_err(|e| Error::internal("a description").with_source(e))?;
        replace(&config.folder.join(TRAINING), &text)?;
        let saved = Instant::now();
        Ok(Self { config, loaded, training, trainer, store, spent, looked: spent, saved, looks: Vec::new() })
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
            let done = step + 1;
            if self.config.looks > 0 && done.is_multiple_of(looks) && done < last {
                self.look(&mut part, per_epoch, Some(self.config.look_samples), control, heard)?;
            }
            if self.saved.elapsed().as_secs_f64() >= self.config.checkpoint_seconds && self.trainer.at_rest() {
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
        self.pause(part)?;
        let mut tally = pollster::block_on(self.trainer.settle_async())?;
        let seconds = self.spent - std::mem::replace(&mut self.looked, self.spent);
        tally.rebuild_share = if seconds > 0.0 { tally.rebuild_seconds / seconds } else { 0.0 };
        let test = &self.loaded.test;
        let precision = if test.is_empty() {
            None
        } else {
            let some = samples.map_or(test.len(), |n| n.min(test.len()));
            let chosen: Vec<u32> = Stream::new(self.config.options.seed).permutation(test.len(), 0, purpose::SPLIT);
            match pollster::block_on(self.trainer.evaluate_async(test, &chosen[..some], control)) {
                // The steps are done; only this look is lost.
                Err(e) if e.kind() == ErrorKind::Cancelled => return Ok(false),
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
        Ok(true)
    }

    fn export(&mut self, control: &Control) -> Result<()> {
        pollster::block_on(self.trainer.read_async())?;
        let network = self.trainer.network();
        let rows = async { Ok::<_, Error>((network.feature_rows_async().await?, network.label_rows_async().await?)) };
        let (input, output) = pollster::block_on(rows)?;
        let weights = export::Network { input: &input, output: &output, hidden: network.hidden().elements };
        let about = BTreeMap::from([("config".to_owned(), self.config.text.clone())]);
        export::safetensors(network.gpu(), &weights, &self.config.folder.join(MODEL), &about, control)
    }

    fn log(&self, look: &Look) -> Result<()> {
        let path = self.config.folder.join(LOG);
        let line = serde_json::to_string(look).map_err(|e| Error::internal("a line of the log").with_source(e))?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(|e| Error::io(&path, e))
    }

    /// Saves the rows. What was asked to stop still saves what it has.
    fn save(&mut self, control: &Control) -> Result<()> {
        let control = &Control { progress: control.progress.clone(), ..Control::default() };
        let meta = Meta { training: self.training.clone(), seconds: self.spent };
        let meta =
            serde_json::to_vec(&meta).map_err(|e| Error::internal("a checkpoint's description").with_source(e))?;
        pollster::block_on(self.trainer.save_async(&mut self.store, &meta, control))?;
        self.saved = Instant::now();
        Ok(())
    }
}

/// CRC-32 of a set's ids and values.
fn fingerprint(set: &SparseSet) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytemuck::cast_slice(&set.features.ids));
    hasher.update(bytemuck::cast_slice(&set.values));
    hasher.update(bytemuck::cast_slice(&set.labels.ids));
    hasher.finalize()
}

fn foreign(config: &Config, why: &str) -> Error {
    let what = format!("the folder holds another training: {why}");
    Error::bad_input(what)
        .in_file(&config.folder)
        .with_help("choose another `folder` in [train] (or `--folder`), or remove this one")
}
