//! What a training is: its description in its folder and in its checkpoints, and whether another one is the same.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::data::Loaded;
use super::folder::{STATE, TRAINING};
use crate::error::{Error, Result};
use crate::hash::SparseSet;
use crate::hash::checkpoint::Store;
use crate::hash::config::Config;

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

/// The configuration of the training in a folder, and how many features and labels its network has.
///
/// # Errors
/// [`crate::ErrorKind::Io`] and [`crate::ErrorKind::BadInput`] for a folder without a training.
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

/// What a checkpoint holds besides the rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    pub training: Training,
    /// Seconds spent.
    pub seconds: f64,
}

/// What a training is called in its folder.
pub(super) fn describe(config: &Config, loaded: &Loaded) -> Result<Training> {
    Ok(Training {
        config: config.text.clone(),
        // A file beside the caller has no folder in its path.
        base: std::path::absolute(Path::new(".").join(&config.base)).map_err(|e| Error::io(&config.base, e))?,
        seed: config.options.seed,
        data: [loaded.train.len(), loaded.train.feature_count, loaded.train.label_count],
        fingerprint: fingerprint(&loaded.train),
    })
}

/// The seconds that a checkpoint's training took; an error unless a training that is so described can go on from it.
pub(super) fn going_on(config: &Config, training: &Training, meta: &[u8]) -> Result<f64> {
    let meta: Meta =
        serde_json::from_slice(meta).map_err(|e| foreign(config, "its description cannot be read").with_source(e))?;
    if (meta.training.data, meta.training.fingerprint) != (training.data, training.fingerprint) {
        return Err(foreign(config, "it was trained on other data"));
    }
    // How long it trains, and when it looks and saves, may change.
    let mut then = Config::parse(&meta.training.config, &meta.training.base)?;
    then.set_seed(meta.training.seed);
    if then.options != config.options {
        return Err(foreign(config, "its model, optimiser or active sets were others"));
    }
    Ok(meta.seconds)
}

/// The number of the newest checkpoint of a step.
pub(super) fn state_of(folder: &Path, step: u64) -> Result<u64> {
    let folder = folder.join(STATE);
    let states = if folder.is_dir() { Store::open(&folder)?.states()?.states } else { Vec::new() };
    if let Some(state) = states.iter().find(|state| u64::from(state.step) == step) {
        return Ok(state.number);
    }
    let mut steps: Vec<String> = states.iter().rev().map(|state| state.step.to_string()).collect();
    steps.dedup();
    let help = match steps.as_slice() {
        [] => "there are none at all: leave `--from` out to begin".to_owned(),
        steps => format!("there are those of the steps {}; without `--from` the last one is taken", steps.join(", ")),
    };
    Err(Error::bad_input(format!("there is no checkpoint of step {step}")).in_file(&folder).with_help(help))
}

/// CRC-32 of a set's ids and values.
fn fingerprint(set: &SparseSet) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytemuck::cast_slice(&set.values));
    for lists in [&set.features, &set.labels] {
        lists.offsets.iter().for_each(|&offset| hasher.update(&(offset as u64).to_le_bytes()));
        hasher.update(bytemuck::cast_slice(&lists.ids));
    }
    hasher.finalize()
}

fn foreign(config: &Config, why: &str) -> Error {
    let what = format!("the folder holds another training: {why}");
    Error::bad_input(what)
        .in_file(&config.folder)
        .with_help("choose another `folder` in [train] (or `--folder`), or remove this one")
}
