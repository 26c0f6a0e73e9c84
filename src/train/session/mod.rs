//! A training as a configuration describes it: members, or the trials of a search, on their way through the slots of arrays, with
//! evaluations, a log and checkpoints.
//!
//! Members that cannot share an array, because their shapes differ, are trained one group after the other. A slot that becomes free
//! is filled again at once. Whatever ends a session, the next one goes on from the checkpoints, bit for bit.

mod files;
mod group;
mod network;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use web_time::Instant;

use serde::{Deserialize, Serialize};

use self::group::Group;
use self::work::{Search, Work};
use super::DeviceSet;
use super::config::{Config, Loaded, SearchConfig};
use super::data::{Dataset, Normaliser, Targets};
use super::events::{Log, LogEvent, Reason};
use super::hyper::{Hyper, KEYS, Setting};
use super::search::{Assignment, Goal, Searcher};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};

/// How a member did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its number.
    pub member: usize,
    /// Its seed.
    pub seed: u64,
    /// The hyper-parameters that were set.
    pub hyper: BTreeMap<String, String>,
    /// Steps that it has done.
    pub steps: u64,
    /// Mean loss of its last steps.
    pub train_loss: Option<f64>,
    /// Mean loss on the validation part.
    pub loss: Option<f64>,
    /// Share of the validation part that is right; `None` for values.
    pub correct: Option<f64>,
    /// Share of the validation part that interval bounds certify at `certify_at` (certified training; a figure of training, no proof).
    pub certified: Option<f64>,
    /// Mean loss on the test set, once it has finished.
    pub test_loss: Option<f64>,
    /// Share of the test set that is right.
    pub test_correct: Option<f64>,
    /// Share of the test set that interval bounds certify.
    pub test_certified: Option<f64>,
    /// Why it left its slot; [`Reason::Cancelled`] as long as it has not.
    pub state: Reason,
    /// Its checkpoint.
    pub checkpoint: Option<PathBuf>,
}

impl Standing {
    fn new(assignment: &Assignment, step: u64) -> Self {
        let hyper = assignment.hyper.iter().map(|(name, setting)| (name.to_owned(), words(setting))).collect();
        Self {
            member: assignment.trial,
            seed: assignment.seed,
            hyper,
            steps: step,
            train_loss: None,
            loss: None,
            correct: None,
            certified: None,
            test_loss: None,
            test_correct: None,
            test_certified: None,
            state: Reason::Cancelled,
            checkpoint: None,
        }
    }

    /// What members are compared by: the share that is certified, if that is what was trained for, otherwise what is right.
    pub fn share(&self) -> Option<f64> {
        self.certified.or(self.correct)
    }
}

/// What came of a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// All members that were ever in a slot, the best first.
    pub members: Vec<Standing>,
    /// Steps of all members together.
    pub steps: u64,
    /// Of the slots that the device computed steps for, the share that held a member.
    pub occupancy: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// A training on its way.
pub struct Session<'a> {
    gpu: &'a Gpu,
    config: &'a Config,
    log: Log,
    standings: BTreeMap<usize, Standing>,
    /// Tells data apart.
    digest: u64,
    steps: u64,
    slot_steps: u64,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("config", self.config).finish_non_exhaustive()
    }
}

/// The sets of a session, on the device.
#[derive(Debug)]
struct Data {
    /// What members are trained on.
    train: DeviceSet,
    /// What they are judged on.
    valid: Option<DeviceSet>,
    /// What those that finish are tried on in the end.
    test: Option<DeviceSet>,
    /// Shape of a sample, channels first.
    shape: Vec<usize>,
    /// Numbers that the network puts out (of a text: characters).
    outputs: usize,
    /// Whether targets are values instead of classes.
    values: bool,
}

impl Data {
    fn new(gpu: &Gpu, config: &Config, loaded: &Loaded) -> Result<Self> {
        let normaliser = Normaliser::fit(config.data.normalise, &loaded.train.inputs);
        let set = |set: &Dataset| DeviceSet::from_dataset(gpu, set, &normaliser);
        Ok(Self {
            train: set(&loaded.train)?,
            valid: loaded.validation.as_ref().map(set).transpose()?,
            test: loaded.test.as_ref().map(set).transpose()?,
            shape: input_shape(loaded),
            outputs: loaded.train.targets.outputs(),
            values: matches!(loaded.train.targets, Targets::Values(_)),
        })
    }
}

impl<'a> Session<'a> {
    /// Opens the log in the configuration's folder.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn new(gpu: &'a Gpu, config: &'a Config) -> Result<Self> {
        let log = Log::open(&config.train.folder.join("log.jsonl"))?;
        Ok(Self { gpu, config, log, standings: BTreeMap::new(), digest: 0, steps: 0, slot_steps: 0 })
    }

    /// Trains everybody. A cancelled control ends it after a block of steps, with checkpoints from which the next session goes on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] or [`crate::ErrorKind::Unsupported`] for models and data that do not fit, memory and device errors,
    /// [`crate::ErrorKind::Io`]. Whatever it is, members that can still be read are saved first, and of others the
    /// checkpoints are about a minute old.
    pub fn run(mut self, loaded: &Loaded, control: &Control) -> Result<Outcome> {
        let start = Instant::now();
        self.digest = network::digest(self.config, loaded);
        let stopped = match self.config.searcher()? {
            Some(searcher) => self.search(searcher, loaded, control)?,
            None => self.members(loaded, control)?,
        };
        let members = ranked(self.standings, self.config);
        let seconds = start.elapsed().as_secs_f64();
        let best = members.first();
        let score = best.and_then(|s| s.share().or(s.loss));
        self.log.write(&LogEvent::End { seconds, best: best.map(|s| s.member), score, stopped })?;
        let occupancy = self.steps as f64 / self.slot_steps.max(1) as f64;
        Ok(Outcome { members, steps: self.steps, occupancy, seconds, stopped })
    }

    /// Trains the trials of a search, in one array; whether it was stopped.
    fn search(&mut self, searcher: Box<dyn Searcher>, loaded: &Loaded, control: &Control) -> Result<bool> {
        let config = self.config;
        let Some(settings) = &config.search else { return Err(Error::internal("a search without settings")) };
        check_search(settings, loaded)?;
        let (search, told) = Search::open(searcher, settings, config, self.digest)?;
        self.standings.extend(told.into_iter().map(|standing| (standing.member, standing)));
        let data = Data::new(self.gpu, config, loaded)?;
        Group::new(self, &config.base, Work::Search(search), data, settings.trials)?.run(control)
    }

    /// Trains all members, one group after the other; whether it was stopped.
    fn members(&mut self, loaded: &Loaded, control: &Control) -> Result<bool> {
        let config = self.config;
        for places in array_groups(config) {
            let assignment = |&place: &usize| {
                let member = &config.members[place];
                Assignment { trial: place, seed: member.seed, hyper: member.hyper.clone(), from: 0, until: 0 }
            };
            let work = Work::Queue(places.iter().map(assignment).collect());
            let (hyper, data) = (&config.members[places[0]].hyper, Data::new(self.gpu, config, loaded)?);
            if Group::new(self, hyper, work, data, places.len())?.run(control)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the networks, the data and the search of a configuration fit together: all that can be known without a device.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] or [`crate::ErrorKind::Unsupported`] for what does not.
pub fn check(config: &Config, loaded: &Loaded) -> Result<()> {
    let (shape, outputs) = (input_shape(loaded), loaded.train.targets.outputs());
    let fits = |hyper: &Hyper| network::model(&config.model, hyper, &shape, outputs).map(drop);
    match &config.search {
        Some(settings) => check_search(settings, loaded).and_then(|()| fits(&config.base)),
        None => array_groups(config).iter().try_for_each(|places| fits(&config.members[places[0]].hyper)),
    }
}

/// Whether a search can judge its trials, and trials can share an array.
fn check_search(settings: &SearchConfig, loaded: &Loaded) -> Result<()> {
    if loaded.validation.is_none() {
        return Err(Error::bad_input("a search compares trials on a validation part, and [data] keeps none")
            .with_help("validation = 0.1 in [data]"));
    }
    if settings.goal == Goal::Maximise && matches!(loaded.train.targets, Targets::Values(_)) {
        return Err(Error::bad_input("metric = \"accuracy\" is for classes, but the targets are values")
            .with_help("metric = \"loss\""));
    }
    let common = |name: &str| COMMON.contains(&name) || KEYS.iter().any(|key| key.name == name && key.shape);
    if let Some(name) = settings.space.names().find(|name| common(name)) {
        return Err(Error::unsupported(format!("'{name}' in [search.space]: trials share an array, which has one"))
            .with_help(format!("set '{name}' for all trials, or train a list of them as [members]")));
    }
    Ok(())
}

/// Shape of a sample, channels first.
fn input_shape(loaded: &Loaded) -> Vec<usize> {
    match *loaded.train.sample_shape() {
        [h, w, c] => vec![c, h, w],
        ref other => other.to_vec(),
    }
}

/// Hyper-parameters of which an array has one, besides shapes.
const COMMON: [&str; 3] = ["noise", "label_smoothing", "dropout"];

/// Members that can share an array: of one shape, and alike in what an array has once.
fn array_groups(config: &Config) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Vec<u64>, Vec<usize>)> = Vec::new();
    for (class, members) in config.shape_classes().into_iter().enumerate() {
        for place in members {
            let hyper = &config.members[place].hyper;
            let mut key = vec![class as u64];
            key.extend(COMMON.map(|name| hyper.number(name).to_bits()));
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, places)) => places.push(place),
                None => groups.push((key, vec![place])),
            }
        }
    }
    groups.into_iter().map(|(_, places)| places).collect()
}

/// The best first: of a search those that were trained furthest, then by its metric; otherwise by what is right (or certified) and then by loss. Those that
/// diverged come last.
fn ranked(standings: BTreeMap<usize, Standing>, config: &Config) -> Vec<Standing> {
    let by_loss = config.search.as_ref().is_some_and(|search| search.goal == Goal::Minimise);
    let number = |x: Option<f64>| x.filter(|x| x.is_finite()).unwrap_or(f64::INFINITY);
    let merit = |s: &Standing| {
        let errors = if by_loss { 0.0 } else { number(s.share().map(|c| -c)) };
        // A search has trained its good trials furthest, and loss falls with age.
        let age = if config.search.is_some() { -(s.steps as f64) } else { 0.0 };
        [f64::from(u8::from(s.state == Reason::Diverged)), age, errors, number(s.loss.or(s.train_loss))]
    };
    let order = |a: &Standing, b: &Standing| {
        let pairs = merit(a).into_iter().zip(merit(b));
        pairs.map(|(a, b)| a.total_cmp(&b)).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    let mut members: Vec<Standing> = standings.into_values().collect();
    members.sort_by(order);
    members
}

fn words(setting: &Setting) -> String {
    match setting {
        Setting::Number(number) => format!("{number}"),
        Setting::Widths(list) => format!("{list:?}"),
    }
}

/// Hyper-parameters in which members differ, for tables.
pub fn differing(standings: &[Standing]) -> Vec<&'static str> {
    let differs = |name: &&'static str| {
        let mut values = standings.iter().map(|s| s.hyper.get(*name));
        let first = values.next().flatten();
        values.any(|value| value != first)
    };
    KEYS.iter().map(|key| key.name).filter(differs).collect()
}
