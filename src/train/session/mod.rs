//! A training as a configuration describes it: members (or the trials of a search) on their way through the slots of arrays, with evaluations, a log
//! and checkpoints.
//!
//! Members that cannot share an array, because their shapes differ, are trained one group after the other. A slot that becomes free
//! is filled again at once.

mod network;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use web_time::Instant;

use self::network::{fingerprint, member, model, options};
use super::certify::check_inputs;
use super::checkpoint::{self, torch_name};
use super::config::{self, Config, Length, Loaded};
use super::data::{Dataset, Normaliser, Targets};
use super::events::{EventWriter, Log, LogEvent, Reason};
use super::hyper::{Hyper, KEYS};
use super::search::{Assignment, Decision, Goal, Searcher};
use super::{DeviceSet, Member, Score, Snapshot, State, TrainingArray};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Control, Gpu};
use crate::graph::{Graph, onnx};

/// What a session needs besides its configuration, on the device.
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
        if config.train.loss == Some(config::Loss::Certified) {
            let sets = [Some(&loaded.train), loaded.validation.as_ref(), loaded.test.as_ref()];
            sets.into_iter().flatten().try_for_each(check_inputs)?;
        }
        let normaliser = Normaliser::fit(config.data.normalise, &loaded.train.inputs);
        let set = |set: &Dataset| DeviceSet::from_dataset(gpu, set, &normaliser);
        let shape = match *loaded.train.sample_shape() {
            [h, w, c] => vec![c, h, w],
            ref other => other.to_vec(),
        };
        Ok(Self {
            train: set(&loaded.train)?,
            valid: loaded.validation.as_ref().map(set).transpose()?,
            test: loaded.test.as_ref().map(set).transpose()?,
            shape,
            outputs: loaded.train.targets.outputs(),
            values: matches!(loaded.train.targets, Targets::Values(_)),
        })
    }
}

/// How a member did.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
    /// What became of it: finished, paused, stopped, diverged or cancelled.
    pub state: &'static str,
    /// Its checkpoint.
    pub checkpoint: Option<PathBuf>,
}

impl Standing {
    /// What members are compared by: the share that is certified, if that is what was trained for, otherwise what is right.
    pub fn share(&self) -> Option<f64> {
        self.certified.or(self.correct)
    }
}

/// What came of a session.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Outcome {
    /// All members that were ever in a slot, the best first.
    pub members: Vec<Standing>,
    /// Steps of all members together.
    pub steps: u64,
    /// Of the slots that training ran with, the share that held a member.
    pub occupancy: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
}

/// Steps between two signs of life.
const PART: u64 = 16;

/// Where assignments come from.
enum Work {
    Queue(VecDeque<Assignment>),
    Search(Box<dyn Searcher>),
}

impl Work {
    fn ask(&mut self, free: usize) -> Vec<Assignment> {
        match self {
            Self::Queue(queue) => {
                let count = free.min(queue.len());
                queue.drain(..count).collect()
            }
            Self::Search(search) => search.ask(free),
        }
    }

    fn tell(&mut self, trial: usize, score: f64) -> Result<Decision> {
        match self {
            Self::Queue(_) => Ok(Decision::Finish),
            Self::Search(search) => search.tell(trial, score),
        }
    }
}

/// A member in a slot.
struct Seat {
    assignment: Assignment,
    /// Step at which it is told.
    until: u64,
    losses: (f64, u64),
    events: Option<EventWriter>,
}

/// A training on its way.
pub struct Session<'a> {
    gpu: &'a Gpu,
    config: &'a Config,
    log: Log,
    standings: BTreeMap<usize, Standing>,
    /// Members that a search has paused.
    paused: BTreeMap<usize, Snapshot>,
    steps: u64,
    slot_steps: u64,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("config", self.config).finish_non_exhaustive()
    }
}

/// What one group of members needs.
struct Group {
    batch: usize,
    /// Steps of an epoch, or 1 if the configuration counts steps.
    unit: u64,
    epoch: u64,
    total: u64,
    evaluate: u64,
    save: u64,
    fingerprint: String,
}

impl<'a> Session<'a> {
    /// Opens the log in the configuration's folder.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn new(gpu: &'a Gpu, config: &'a Config) -> Result<Self> {
        let log = Log::open(&config.train.folder.join("log.jsonl"))?;
        let (standings, paused) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { gpu, config, log, standings, paused, steps: 0, slot_steps: 0 })
    }

    /// Trains everybody. A cancelled control ends it after a block of steps, with checkpoints from which the next call goes on.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] or [`ErrorKind::Unsupported`] for models and data that do not fit, memory and device errors, [`ErrorKind::Io`].
    pub fn run(mut self, loaded: &Loaded, control: &Control) -> Result<Outcome> {
        let start = Instant::now();
        let stopped = match self.config.searcher()? {
            Some(search) => self.search(search, loaded, control)?,
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

    /// Trains the trials of a search, in one array.
    fn search(&mut self, search: Box<dyn Searcher>, loaded: &Loaded, control: &Control) -> Result<bool> {
        let config = self.config;
        let Some(settings) = &config.search else { return Err(Error::internal("a search without settings")) };
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
            return Err(Error::unsupported(format!(
                "'{name}' in [search.space]: trials share an array, which has one"
            ))
            .with_help(format!("set '{name}' for all trials, or train a list of them as [members]")));
        }
        let data = Data::new(self.gpu, config, loaded)?;
        self.group(&config.base, Work::Search(search), data, settings.trials, control)
    }

    /// Trains all members, one group after the other.
    fn members(&mut self, loaded: &Loaded, control: &Control) -> Result<bool> {
        let config = self.config;
        for places in array_groups(config) {
            let assignment = |&place: &usize| {
                let member = &config.members[place];
                Assignment { trial: place, seed: member.seed, hyper: member.hyper.clone(), from: 0, until: 0 }
            };
            let queue: VecDeque<Assignment> = places.iter().map(assignment).collect();
            let (hyper, count) = (config.members[places[0]].hyper.clone(), queue.len());
            let data = Data::new(self.gpu, config, loaded)?;
            if self.group(&hyper, Work::Queue(queue), data, count, control)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Trains members of one shape; whether it was stopped.
    fn group(&mut self, hyper: &Hyper, mut work: Work, data: Data, members: usize, control: &Control) -> Result<bool> {
        let config = self.config;
        let Data { train, valid, test, shape, outputs, values } = data;
        let model = model(&config.model, hyper, &shape, outputs)?;
        let batch = hyper.count("batch").min(train.len());
        let epoch = (train.len() / batch.max(1)) as u64;
        let unit = if matches!(config.train.length, Length::Epochs(_)) { epoch } else { 1 };
        let total = match (&config.search, config.train.length) {
            (Some(search), _) => search.ladder.most * unit,
            (None, Length::Epochs(n) | Length::Steps(n)) => n * unit,
        };
        let (evaluate, save) = (config.train.evaluate_every * unit, config.train.checkpoint_every * unit);
        let fingerprint = fingerprint(&model, config.train.optimiser);
        let group = Group { batch, unit, epoch, total, evaluate, save, fingerprint };
        let options = options(config, hyper, &group, values, members)?;
        let mut array = TrainingArray::new(self.gpu, &model, train, options)?;
        let device = self.gpu.caps().name.clone();
        let (version, slots) = (crate::VERSION, array.slots());
        let resumed = self.check_checkpoints(&work, &group)?;
        self.log.write(&LogEvent::Start { schema: 1, version, device: &device, members, slots, resumed })?;
        let mut seats: Vec<Option<Seat>> = (0..array.slots()).map(|_| None).collect();
        loop {
            self.refill(&mut array, &mut seats, &mut work, &group)?;
            let Some(next) = next_stop(&array, &seats, &group) else { return Ok(false) };
            let sets = (&group, [valid.as_ref(), test.as_ref()], values);
            let round = match self.advance(&mut array, &mut seats, next, control) {
                Ok(()) => self.judge(&mut array, &mut seats, &mut work, sets, control),
                failed => failed,
            };
            match round {
                Err(error) if error.kind() == ErrorKind::Cancelled => {
                    self.leave(&array, &mut seats, &group)?;
                    return Ok(true);
                }
                other => other?,
            }
        }
    }

    /// Whether checkpoints will be gone on from. A search begins anew, so it refuses a folder that holds any: they would be lost.
    fn check_checkpoints(&self, work: &Work, group: &Group) -> Result<bool> {
        let file = |member: usize| self.folder(member).join("checkpoint.safetensors");
        match work {
            // All of them now: a damaged one should not be found after hours.
            Work::Queue(queue) => {
                let found: Vec<_> = queue.iter().filter(|a| file(a.trial).is_file()).collect();
                for assignment in &found {
                    let (file, member) = (file(assignment.trial), member(self.config, assignment, group.total)?);
                    loaded(&file, checkpoint::Snapshot::load(&file)?, member, assignment, group)?;
                }
                Ok(!found.is_empty())
            }
            Work::Search(_) => {
                let trials = self.config.search.as_ref().map_or(0, |search| search.trials);
                match (0..trials).map(file).find(|file| file.is_file()) {
                    None => Ok(false),
                    Some(found) => Err(Error::bad_input("a checkpoint of an earlier training; a search begins anew")
                        .in_file(&found)
                        .with_help("search into another folder, or remove this one")),
                }
            }
        }
    }

    /// Puts members into free slots.
    fn refill(
        &mut self,
        array: &mut TrainingArray,
        seats: &mut [Option<Seat>],
        work: &mut Work,
        group: &Group,
    ) -> Result<()> {
        let free: Vec<usize> = (0..seats.len()).filter(|&slot| seats[slot].is_none()).collect();
        for (assignment, slot) in work.ask(free.len()).into_iter().zip(free) {
            let until = if assignment.until == 0 { group.total } else { assignment.until * group.unit };
            let member = member(self.config, &assignment, group.total)?;
            let folder = self.folder(assignment.trial);
            let file = folder.join("checkpoint.safetensors");
            if let Some(snapshot) = self.paused.remove(&assignment.trial) {
                array.restore(slot, &Snapshot { state: State::Running, ..snapshot })?;
            } else if file.is_file() && self.config.search.is_none() {
                let saved = checkpoint::Snapshot::load(&file)?;
                let snapshot = loaded(&file, saved, member, &assignment, group)?;
                array.restore(slot, &snapshot).map_err(|e| e.in_file(&file))?;
            } else {
                array.start(slot, member)?;
            }
            let step = array.state(slot).map_or(0, |(_, step)| step);
            let Assignment { trial, seed, ref hyper, .. } = assignment;
            self.log.write(&LogEvent::Member { member: trial, seed, step, hyper })?;
            let shown = hyper.iter().map(|(name, setting)| (name.to_owned(), words(setting))).collect();
            self.standings.entry(trial).or_insert_with(|| Standing {
                member: trial,
                seed,
                hyper: shown,
                steps: step,
                train_loss: None,
                loss: None,
                correct: None,
                certified: None,
                test_loss: None,
                test_correct: None,
                test_certified: None,
                state: "running",
                checkpoint: None,
            });
            let events = Some(EventWriter::create(&folder)?);
            seats[slot] = Some(Seat { assignment, until, losses: (0.0, 0), events });
        }
        Ok(())
    }

    /// Runs some steps of everybody, and says now and then how far they are.
    fn advance(
        &mut self,
        array: &mut TrainingArray,
        seats: &mut [Option<Seat>],
        steps: u64,
        control: &Control,
    ) -> Result<()> {
        let quiet = Control { cancel: control.cancel.clone(), progress: None };
        let mut left = steps;
        while left > 0 {
            let part = left.min(PART);
            let mut done = vec![0_u64; seats.len()];
            let result = array.run(part, &quiet, &mut |progress| {
                done[progress.slot] += 1;
                if let Some(seat) = &mut seats[progress.slot] {
                    seat.losses = (seat.losses.0 + f64::from(progress.loss), seat.losses.1 + 1);
                }
            });
            // What was cancelled or ended early counts as far as it came.
            self.steps += done.iter().sum::<u64>();
            self.slot_steps += done.iter().max().unwrap_or(&0) * seats.len() as u64;
            result?;
            left -= part;
            let ages =
                seats.iter().enumerate().filter_map(|(slot, seat)| Some((array.state(slot)?.1, seat.as_ref()?.until)));
            if let Some((step, until)) = ages.min_by_key(|(step, until)| until.saturating_sub(*step)) {
                control.report(&format!("training {} members", array.running().count()), step, until, "steps");
            }
        }
        Ok(())
    }

    /// Looks at who has reached a step at which something happens.
    fn judge(
        &mut self,
        array: &mut TrainingArray,
        seats: &mut [Option<Seat>],
        work: &mut Work,
        (group, [valid, test], values): (&Group, [Option<&DeviceSet>; 2], bool),
        control: &Control,
    ) -> Result<()> {
        let at = |slot: usize| array.state(slot).unwrap_or((State::Stopped, 0));
        let due = |slot: usize, every: u64| every > 0 && at(slot).1.is_multiple_of(every);
        let ends = |slot: usize, seat: &Seat| at(slot).1 >= seat.until || at(slot).0 == State::Diverged;
        let taken = |slot: &usize| seats[*slot].is_some();
        let ending: Vec<usize> =
            (0..seats.len()).filter(|&slot| seats[slot].as_ref().is_some_and(|seat| ends(slot, seat))).collect();
        let looked: Vec<usize> =
            (0..seats.len()).filter(taken).filter(|&s| due(s, group.evaluate) || ending.contains(&s)).collect();
        let saved: Vec<usize> =
            (0..seats.len()).filter(taken).filter(|&s| due(s, group.save) && !ending.contains(&s)).collect();
        if !looked.is_empty() {
            let scores = valid.map(|valid| array.evaluate(valid, control)).transpose()?;
            for &slot in &looked {
                let score = scores.as_ref().map(|scores| scores[slot]);
                if let Some(seat) = &mut seats[slot] {
                    self.note(seat, at(slot), score, (values, group))?;
                }
            }
        }
        let finishes = |slot: &usize| seats[*slot].as_ref().is_some_and(|seat| seat.until >= group.total);
        if let Some(test) = test.filter(|_| ending.iter().any(&finishes)) {
            let scores = array.evaluate(test, control)?;
            for slot in ending.iter().filter(|slot| finishes(slot)) {
                let member = seats[*slot].as_ref().map(|seat| seat.assignment.trial);
                if let Some(standing) = member.and_then(|member| self.standings.get_mut(&member)) {
                    standing.test_loss = Some(scores[*slot].loss);
                    standing.test_correct = (!values).then_some(scores[*slot].correct);
                    standing.test_certified = scores[*slot].certified;
                }
            }
        }
        for slot in saved {
            if let Some(seat) = &seats[slot] {
                self.save(array, slot, seat, group)?;
            }
        }
        for slot in ending {
            let Some(mut seat) = seats[slot].take() else { continue };
            let (state, _) = array.state(slot).unwrap_or((State::Stopped, 0));
            let trial = seat.assignment.trial;
            let score = if state == State::Diverged { f64::NAN } else { self.score(trial) };
            let reason = match work.tell(trial, score)? {
                _ if state == State::Diverged => Reason::Diverged,
                Decision::Continue { until } => {
                    seat.until = until * group.unit;
                    seats[slot] = Some(seat);
                    continue;
                }
                Decision::Pause => {
                    self.paused.insert(trial, array.snapshot(slot)?);
                    Reason::Paused
                }
                Decision::Stop => Reason::Stopped,
                _ => Reason::Finished,
            };
            self.farewell(array, slot, &seat, reason, group)?;
            // Nobody trains it any further, even if no other member takes its slot.
            array.stop(slot)?;
        }
        Ok(())
    }

    /// What a search is told of a trial.
    fn score(&self, trial: usize) -> f64 {
        let standing = self.standings.get(&trial);
        let found = match self.config.search.as_ref().map(|search| search.goal) {
            Some(Goal::Maximise) => standing.and_then(Standing::share),
            _ => standing.and_then(|s| s.loss),
        };
        found.unwrap_or(f64::NAN)
    }

    /// Writes down how a member does.
    fn note(
        &mut self,
        seat: &mut Seat,
        (_, step): (State, u64),
        score: Option<Score>,
        (values, group): (bool, &Group),
    ) -> Result<()> {
        let (sum, count) = std::mem::take(&mut seat.losses);
        let train = (count > 0).then(|| sum / count as f64);
        let member = seat.assignment.trial;
        let Some(standing) = self.standings.get_mut(&member) else { return Ok(()) };
        standing.steps = step;
        standing.train_loss = train.or(standing.train_loss);
        standing.loss = score.map(|s| s.loss).or(standing.loss);
        standing.correct = score.filter(|_| !values).map(|s| s.correct).or(standing.correct);
        standing.certified = score.and_then(|s| s.certified).or(standing.certified);
        let mut numbers: BTreeMap<&str, f64> = BTreeMap::new();
        numbers.extend(train.map(|loss| ("train_loss", loss)));
        numbers.extend(score.map(|s| ("loss", s.loss)));
        numbers.extend(score.filter(|_| !values).map(|s| ("correct", s.correct)));
        numbers.extend(score.and_then(|s| s.certified).map(|share| ("certified", share)));
        let epoch = step as f64 / group.epoch.max(1) as f64;
        if let Some(events) = &mut seat.events {
            for (name, value) in &numbers {
                events.scalar(super::events::now(), step, name, *value as f32)?;
            }
            events.flush()?;
        }
        self.log.write(&LogEvent::Scalars { member, step, epoch, values: &numbers })
    }

    /// A member leaves its slot: its checkpoint and its network stay.
    fn farewell(
        &mut self,
        array: &TrainingArray,
        slot: usize,
        seat: &Seat,
        reason: Reason,
        group: &Group,
    ) -> Result<()> {
        let member = seat.assignment.trial;
        if !matches!(reason, Reason::Stopped | Reason::Diverged) {
            self.save(array, slot, seat, group)?;
        }
        if reason == Reason::Finished {
            let file = self.folder(member).join("model.onnx");
            let graph = array.export(slot)?;
            checkpoint::replace(&file, &onnx::write(&graph)?)?;
            let parameters = named(&graph);
            checkpoint::export_parameters(&self.folder(member).join("model.safetensors"), &parameters)?;
        }
        let step = array.state(slot).map_or(0, |(_, step)| step);
        if let Some(standing) = self.standings.get_mut(&member) {
            standing.steps = step;
            standing.state = match reason {
                Reason::Finished => "finished",
                Reason::Paused => "paused",
                Reason::Stopped => "stopped",
                Reason::Diverged => "diverged",
                Reason::Cancelled => "cancelled",
            };
        }
        self.log.write(&LogEvent::Left { member, step, reason })
    }

    /// Everybody leaves, to come back in another call.
    fn leave(&mut self, array: &TrainingArray, seats: &mut [Option<Seat>], group: &Group) -> Result<()> {
        for (slot, seat) in seats.iter_mut().enumerate() {
            if let Some(seat) = seat.take() {
                self.farewell(array, slot, &seat, Reason::Cancelled, group)?;
            }
        }
        Ok(())
    }

    fn save(&mut self, array: &TrainingArray, slot: usize, seat: &Seat, group: &Group) -> Result<()> {
        let member = seat.assignment.trial;
        let file = self.folder(member).join("checkpoint.safetensors");
        let Snapshot { step, tables, .. } = array.snapshot(slot)?;
        let name = |index: usize| format!("table.{index}");
        let arrays =
            tables.into_iter().enumerate().map(|(i, table)| (name(i), ndarray::Array1::from(table).into_dyn()));
        let state = checkpoint::State {
            fingerprint: group.fingerprint.clone(),
            member: member as u64,
            step,
            epoch: step / group.epoch.max(1),
            cursor: step % group.epoch.max(1) * group.batch as u64,
            seed: seat.assignment.seed,
            hyper: seat.assignment.hyper.clone(),
            notes: BTreeMap::new(),
        };
        checkpoint::Snapshot { state, tables: arrays.collect() }.save(&file)?;
        if let Some(standing) = self.standings.get_mut(&member) {
            standing.checkpoint = Some(file.clone());
        }
        self.log.write(&LogEvent::Checkpoint { member, step, file: &file })
    }

    fn folder(&self, member: usize) -> PathBuf {
        self.config.train.folder.join(format!("member-{member:04}"))
    }
}

/// Parameters and statistics of a network by the names that torch gives them.
fn named(graph: &Graph) -> BTreeMap<String, ndarray::ArrayD<f32>> {
    let constants = graph.values.iter().filter_map(|v| Some((torch_name(&v.name), (**v.constant.as_ref()?).clone())));
    constants.collect()
}

/// A member as its checkpoint has it.
fn loaded(
    file: &Path,
    saved: checkpoint::Snapshot,
    member: Member,
    assignment: &Assignment,
    group: &Group,
) -> Result<Snapshot> {
    let known = &saved.state;
    if known.fingerprint != group.fingerprint || known.seed != member.seed || known.hyper != assignment.hyper {
        let what = "a checkpoint of another model, optimiser, seed or other hyper-parameters";
        return Err(Error::bad_input(what)
            .in_file(file)
            .with_help("train into another folder, or remove the checkpoint"));
    }
    let step = saved.state.step;
    let state = if step >= group.total { State::Finished } else { State::Running };
    let tables = saved.tables.into_values().map(|table| table.iter().copied().collect()).collect();
    Ok(Snapshot { member, state, step, tables })
}

/// Hyper-parameters of which an array has one, besides shapes.
const COMMON: [&str; 3] = ["noise", "label_smoothing", "dropout"];

/// The best first: by the metric of a search, otherwise by what is right (or certified) and then by loss; those that diverged last.
fn ranked(standings: BTreeMap<usize, Standing>, config: &Config) -> Vec<Standing> {
    let by_loss = config.search.as_ref().is_some_and(|search| search.goal == Goal::Minimise);
    let number = |x: Option<f64>| x.filter(|x| x.is_finite()).unwrap_or(f64::INFINITY);
    let merit = |s: &Standing| {
        let errors = if by_loss { 0.0 } else { number(s.share().map(|c| -c)) };
        // A search has trained its good trials furthest, and loss falls with age.
        let age = if config.search.is_some() { -(s.steps as f64) } else { 0.0 };
        [f64::from(u8::from(s.state == "diverged")), age, errors, number(s.loss.or(s.train_loss))]
    };
    let order = |a: &Standing, b: &Standing| {
        let pairs = merit(a).into_iter().zip(merit(b));
        pairs.map(|(a, b)| a.total_cmp(&b)).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    let mut members: Vec<Standing> = standings.into_values().collect();
    members.sort_by(order);
    members
}

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

/// Steps until something happens to somebody; `None` if nobody is there.
fn next_stop(array: &TrainingArray, seats: &[Option<Seat>], group: &Group) -> Option<u64> {
    let to_next = |step: u64, every: u64| if every == 0 { u64::MAX } else { every - step % every };
    let of = |(slot, seat): (usize, &Option<Seat>)| {
        let step = array.state(slot)?.1;
        let left = seat.as_ref()?.until.saturating_sub(step);
        Some(left.min(to_next(step, group.evaluate)).min(to_next(step, group.save)))
    };
    seats.iter().enumerate().filter_map(of).min()
}

fn words(setting: &super::hyper::Setting) -> String {
    match setting {
        super::hyper::Setting::Number(number) => format!("{number}"),
        super::hyper::Setting::Widths(list) => format!("{list:?}"),
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
