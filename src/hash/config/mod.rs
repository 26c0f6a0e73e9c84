//! CONFIG.toml: what `wavehull hash train` is told. `docs/hash.md` has every key.
//!
//! A `preset` gives the settings of a paper to all keys that the file leaves out. Whatever is wrong is an error with line and column; paths are relative to
//! the folder of the file.

mod data;

use std::path::{Path, PathBuf};

pub use data::{DataConfig, Source};

use super::Storage;
use super::active::SampleChoice;
use super::layer::Loss;
use super::lsh::{Family, LshOptions, Policy};
use super::optimiser::{Mode as Update, Rule};
use super::options::{MODES, Mode, Options, PRESETS, Preset, Rebuild};
use crate::error::{Error, Result};
use crate::files::tree::{self, Section, Table, Value};
use crate::schedule::Schedule;

/// How long a network trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Times that it sees the training part.
    Epochs(u64),
    /// Batches that it sees.
    Steps(u64),
}

/// A whole configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What it is trained on.
    pub data: DataConfig,
    /// How.
    pub options: Options,
    /// How long.
    pub length: Length,
    /// Looks at the test part an epoch; 0: only at the end.
    pub looks: u64,
    /// Samples of the test part that a look before the end takes; all of them at the end.
    pub look_samples: usize,
    /// Looks also measure how many of the exact best labels hash tables of `options.lsh` find.
    pub recall: bool,
    /// Seconds between checkpoints, at least.
    pub checkpoint_seconds: f64,
    /// Where checkpoints, logs and the network go.
    pub folder: PathBuf,
    /// What paths in the text are relative to.
    pub base: PathBuf,
    /// The file's text, kept with checkpoints.
    pub text: String,
}

const SECTIONS: &[&str] = &["preset", "data", "model", "train", "active", "hash"];
const MODEL: &[&str] = &["hidden", "relu", "deviation", "weights"];
const TRAIN: &[&str] = &[
    "epochs",
    "steps",
    "batch",
    "loss",
    "optimiser",
    "beta1",
    "beta2",
    "epsilon",
    "rows",
    "learning_rate",
    "schedule",
    "warm_up",
    "seed",
    "looks",
    "look_samples",
    "recall",
    "checkpoint_seconds",
    "folder",
];
const ACTIVE: &[&str] = &["mode", "negatives", "size", "choice", "correction"];
const HASH: &[&str] = &["family", "codes", "tables", "bucket", "policy", "rebuild", "changed", "renew", "neighbours"];

const SOME: std::ops::RangeInclusive<u64> = 1..=u32::MAX as u64;
const ANY: std::ops::RangeInclusive<u64> = 0..=u32::MAX as u64;

/// A whole number that a range has kept below 2^32.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with the place for whatever is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(|e| e.in_file(path))
    }

    /// Reads a text; paths in it are relative to `folder`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let tree = tree::parse(text)?;
        let root = Section::new(text, "", &tree);
        root.only(SECTIONS)?;
        let empty = Table::default();
        let section = |key: &str, name, known: &[&str]| -> Result<Section<'_>> {
            let section = root.inner(key, name)?.unwrap_or(Section::new(text, name, &empty));
            section.only(known)?;
            Ok(section)
        };
        let Some(data) = root.inner("data", "[data]")? else {
            let what = root.fault(0, "there is no section [data]");
            return Err(what.with_help("begin with\n\n[data]\ntrain = \"train.txt\"\ntest = \"test.txt\""));
        };
        let data = DataConfig::parse(data, folder)?;
        let mut options = preset(&root)?.unwrap_or_default();
        let train = section("train", "[train]", TRAIN)?;
        read_model(section("model", "[model]", MODEL)?, &mut options)?;
        read_train(train, &mut options)?;
        read_active(section("active", "[active]", ACTIVE)?, &mut options)?;
        read_hash(section("hash", "[hash]", HASH)?, &mut options)?;
        options.check().map_err(|e| root.place(train.table.at, e))?;
        let length = match (train.whole("epochs", SOME)?, train.whole("steps", SOME)?) {
            (Some(_), Some(_)) => {
                return Err(train.fault(train.at("steps"), "'epochs' and 'steps' exclude one another"));
            }
            (None, Some(steps)) => Length::Steps(steps),
            (epochs, None) => Length::Epochs(epochs.unwrap_or(6)),
        };
        let seconds = train.number("checkpoint_seconds", "a number from 1 on", |s| s >= 1.0)?;
        let recall = recall(train, &options)?;
        Ok(Self {
            data,
            options,
            length,
            looks: train.whole("looks", ANY)?.unwrap_or(1),
            recall,
            look_samples: size(train.whole("look_samples", SOME)?.unwrap_or(10_000)),
            checkpoint_seconds: seconds.unwrap_or(60.0),
            folder: folder.join(train.text("folder")?.unwrap_or("runs/hash")),
            base: folder.to_owned(),
            text: text.to_owned(),
        })
    }

    /// Replaces the seed of all random numbers.
    pub fn set_seed(&mut self, seed: u64) {
        (self.options.seed, self.options.lsh.seed) = (seed, seed);
    }
}

/// Whether looks measure the recall of hash tables, which there must be.
fn recall(section: Section<'_>, options: &Options) -> Result<bool> {
    let wanted = section.flag("recall")?.unwrap_or(false);
    if wanted && !options.mode.hashes() {
        let what = format!("'recall' means nothing to the mode '{}', which looks nothing up", options.mode.name());
        return Err(section.fault(section.at("recall"), what).with_help("choose a mode that hashes in [active]"));
    }
    Ok(wanted)
}

/// The settings of the preset that the file names.
fn preset(root: &Section<'_>) -> Result<Option<Options>> {
    let words: Vec<(&str, &Preset)> = PRESETS.iter().map(|preset| (preset.name, preset)).collect();
    Ok(root.word("preset", &words)?.map(Preset::options))
}

fn read_model(section: Section<'_>, options: &mut Options) -> Result<()> {
    if let Some(hidden) = section.whole("hidden", 1..=4096)? {
        options.hidden = size(hidden);
    }
    options.relu = section.flag("relu")?.unwrap_or(options.relu);
    let deviation = section.number("deviation", "a number from 0 on", |x| x >= 0.0)?;
    options.deviation = deviation.unwrap_or(options.deviation);
    let storage = section.word("weights", &[("f32", Storage::F32), ("bf16", Storage::Bf16)])?;
    options.storage = storage.unwrap_or(options.storage);
    Ok(())
}

fn read_train(section: Section<'_>, options: &mut Options) -> Result<()> {
    if let Some(batch) = section.whole("batch", 1..=65_535)? {
        options.batch = size(batch);
    }
    let loss = section.word("loss", &[("softmax", Loss::Softmax), ("bce", Loss::Bce)])?;
    options.loss = loss.unwrap_or(options.loss);
    let rows = [("dense", Update::Dense), ("lazy", Update::Lazy), ("catch-up", Update::CatchUp)];
    options.update = section.word("rows", &rows)?.unwrap_or(options.update);
    options.rule = rule(section, options.rule)?;
    let rate = section.number("learning_rate", "a number above 0", |x| x > 0.0)?;
    options.learning_rate = rate.unwrap_or(options.learning_rate);
    options.schedule = schedule(section)?;
    options.seed = section.whole("seed", 0..=i64::MAX as u64)?.unwrap_or(options.seed);
    Ok(())
}

fn rule(section: Section<'_>, default: Rule) -> Result<Rule> {
    let rules = [("adam", Rule::adam()), ("adagrad", Rule::adagrad()), ("sgd", Rule::Sgd)];
    let share = |key: &str| section.number(key, "a number from 0 on and below 1", |x| (0.0..1.0).contains(&x));
    let (one, two) = (share("beta1")?, share("beta2")?);
    let small = section.number("epsilon", "a number above 0", |x| x > 0.0)?;
    let foreign = |keys: &[&str]| match keys.iter().find(|key| section.item(key).is_some()) {
        Some(key) => Err(section.fault(section.at(key), format!("'{key}' means nothing to this optimiser"))),
        None => Ok(()),
    };
    Ok(match section.word("optimiser", &rules)?.unwrap_or(default) {
        Rule::Adam { beta1, beta2, epsilon } => {
            Rule::Adam { beta1: one.unwrap_or(beta1), beta2: two.unwrap_or(beta2), epsilon: small.unwrap_or(epsilon) }
        }
        Rule::Adagrad { epsilon } => {
            foreign(&["beta1", "beta2"])?;
            Rule::Adagrad { epsilon: small.unwrap_or(epsilon) }
        }
        Rule::Sgd => {
            foreign(&["beta1", "beta2", "epsilon"])?;
            Rule::Sgd
        }
    })
}

/// Schedules count steps; `cosine` needs to know how many there are.
fn schedule(section: Section<'_>) -> Result<Schedule> {
    let warm_up = section.whole("warm_up", ANY)?.unwrap_or(0);
    let Some(item) = section.item("schedule") else { return Ok(warmed(warm_up, Schedule::Constant)) };
    let then = match &item.value {
        Value::Text(word) if word == "constant" => Schedule::Constant,
        Value::Table(table) => {
            let inner = section.within("schedule", table);
            inner.only(&["cosine"])?;
            match inner.whole("cosine", SOME)? {
                Some(steps) => Schedule::Cosine { steps, least: 0.0 },
                None => return Err(inner.missing("cosine", "the steps of the descent")),
            }
        }
        _ => {
            let what = section.fault(item.at, "'schedule' in [train] is no schedule");
            return Err(what.with_help("it can be \"constant\", or { cosine = STEPS }"));
        }
    };
    Ok(warmed(warm_up, then))
}

fn warmed(steps: u64, then: Schedule) -> Schedule {
    if steps == 0 { then } else { Schedule::WarmUp { steps, then: Box::new(then) } }
}

fn read_active(section: Section<'_>, options: &mut Options) -> Result<()> {
    options.mode = section.word("mode", MODES)?.unwrap_or(options.mode);
    let slide = options.mode == Mode::Slide;
    for (key, foreign) in [("size", !slide), ("choice", !slide), ("negatives", slide)] {
        if section.item(key).is_some() && (foreign || options.mode == Mode::Full) {
            let what = format!("'{key}' means nothing to the mode '{}'", options.mode.name());
            let help = "the mode 'slide' has 'size' and 'choice' of each sample's set; sets shared by the batch have 'negatives'";
            return Err(section.fault(section.at(key), what).with_help(help));
        }
    }
    if let Some(active) = section.whole("size", SOME)? {
        options.active = size(active);
    }
    if let Some(negatives) = section.whole("negatives", ANY)? {
        options.negatives = size(negatives);
    }
    options.choice = choice(section)?.unwrap_or(options.choice);
    options.correction = section.flag("correction")?.unwrap_or(options.correction);
    Ok(())
}

/// Which of the labels that hash tables return for a sample are taken.
fn choice(section: Section<'_>) -> Result<Option<SampleChoice>> {
    let Some(item) = section.item("choice") else { return Ok(None) };
    Ok(Some(match &item.value {
        Value::Text(word) if word == "first" => SampleChoice::First,
        Value::Text(word) if word == "most" => SampleChoice::Most,
        Value::Table(table) => {
            let inner = section.within("choice", table);
            inner.only(&["at_least"])?;
            match inner.whole("at_least", 1..=1024)? {
                Some(times) => SampleChoice::AtLeast(u32::try_from(times).unwrap_or(u32::MAX)),
                None => return Err(inner.missing("at_least", "how many hash tables must return a label")),
            }
        }
        _ => {
            let what = section.fault(item.at, "'choice' in [active] is no choice");
            return Err(what.with_help("it can be \"first\", \"most\", or { at_least = TABLES }"));
        }
    }))
}

fn read_hash(section: Section<'_>, options: &mut Options) -> Result<()> {
    if let Some((key, at, _)) = section.table.entries.first().filter(|_| !options.mode.hashes()) {
        let what =
            format!("'{key}' in [hash] means nothing to the mode '{}', which looks nothing up", options.mode.name());
        return Err(section.fault(*at, what).with_help("leave [hash] out, or choose a mode that hashes in [active]"));
    }
    let LshOptions { family, codes, tables, bucket, policy, .. } = options.lsh;
    let families = [("dwta", Family::Dwta), ("simhash", Family::SimHash)];
    let policies = [("fifo", Policy::Fifo), ("reservoir", Policy::Reservoir), ("window", Policy::Window)];
    let whole = |key: &str, range, otherwise: usize| -> Result<usize> {
        Ok(section.whole(key, range)?.map_or(otherwise, size))
    };
    options.lsh = LshOptions {
        family: section.word("family", &families)?.unwrap_or(family),
        codes: whole("codes", 1..=16, codes)?,
        tables: whole("tables", 1..=1024, tables)?,
        bucket: whole("bucket", 4..=256, bucket)?,
        policy: section.word("policy", &policies)?.unwrap_or(policy),
        seed: options.seed,
    };
    let every = section.whole("rebuild", SOME)?.unwrap_or(options.rebuild.every());
    let share = section.number("changed", "a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0)?;
    options.rebuild = match share {
        Some(share) => Rebuild::Changed { share, every },
        None => Rebuild::Samples(every),
    };
    options.renew = section.whole("renew", ANY)?.unwrap_or(options.renew);
    options.neighbours = whole("neighbours", 1..=256, options.neighbours)?;
    Ok(())
}

#[cfg(test)]
mod tests;
