//! A training as a configuration describes it: members (or the trials of a search) on their way through the slots of arrays, with evaluations, a log
//! and checkpoints.
//!
//! Members that cannot share an array, because their shapes differ, are trained one group after the other. A slot that becomes free
//! is filled again at once.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use web_time::Instant;

use super::checkpoint::{self, torch_name};
use super::config::{self, Config, Length, Loaded, ModelConfig};
use super::data::{Dataset, Normaliser, Targets};
use super::events::{EventWriter, Log, LogEvent, Reason};
use super::hyper::{Hyper, KEYS};
use super::search::{Assignment, Decision, Searcher};
use super::{
    ArrayOptions, Augment, Builder, DeviceSet, Loss, Member, Model, Optimiser, Schedule, Score, Snapshot, State,
    TrainingArray, models,
};
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
    /// Mean loss on the test set, once it has finished.
    pub test_loss: Option<f64>,
    /// Share of the test set that is right.
    pub test_correct: Option<f64>,
    /// What became of it: finished, paused, stopped, diverged or cancelled.
    pub state: &'static str,
    /// Its checkpoint.
    pub checkpoint: Option<PathBuf>,
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
        let config = self.config;
        let mut stopped = false;
        match config.searcher()? {
            Some(search) => {
                stopped = self.group(
                    &config.base,
                    Work::Search(search),
                    Data::new(self.gpu, config, loaded)?,
                    usize::MAX,
                    control,
                )?
            }
            None => {
                for members in array_groups(config) {
                    let assignment = |&place: &usize| {
                        let member = &config.members[place];
                        Assignment { trial: place, seed: member.seed, hyper: member.hyper.clone(), from: 0, until: 0 }
                    };
                    let queue: VecDeque<Assignment> = members.iter().map(assignment).collect();
                    let (hyper, count) = (config.members[members[0]].hyper.clone(), queue.len());
                    stopped =
                        self.group(&hyper, Work::Queue(queue), Data::new(self.gpu, config, loaded)?, count, control)?;
                    if stopped {
                        break;
                    }
                }
            }
        }
        let mut members: Vec<Standing> = self.standings.into_values().collect();
        let merit = |s: &Standing| (s.correct.map_or(0.0, |c| -c), s.loss.or(s.train_loss).unwrap_or(f64::INFINITY));
        members.sort_by(|a, b| merit(a).partial_cmp(&merit(b)).unwrap_or(std::cmp::Ordering::Equal));
        let seconds = start.elapsed().as_secs_f64();
        let best = members.first();
        let score = best.and_then(|s| s.correct.or(s.loss));
        self.log.write(&LogEvent::End { seconds, best: best.map(|s| s.member), score, stopped })?;
        let occupancy = self.steps as f64 / self.slot_steps.max(1) as f64;
        Ok(Outcome { members, steps: self.steps, occupancy, seconds, stopped })
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
        let start = LogEvent::Start {
            schema: 1,
            version: crate::VERSION,
            device: &device,
            members: members.min(1 << 20),
            slots: array.slots(),
            resumed: false,
        };
        self.log.write(&start)?;
        let mut seats: Vec<Option<Seat>> = (0..array.slots()).map(|_| None).collect();
        loop {
            self.refill(&mut array, &mut seats, &mut work, &group)?;
            let Some(next) = next_stop(&array, &seats, &group) else { return Ok(false) };
            if let Err(error) = self.advance(&mut array, &mut seats, next, control) {
                if error.kind() != ErrorKind::Cancelled {
                    return Err(error);
                }
                self.leave(&array, &mut seats, &group)?;
                return Ok(true);
            }
            self.judge(&mut array, &mut seats, &mut work, (&group, [valid.as_ref(), test.as_ref()], values), control)?;
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
            } else if file.is_file() {
                let saved = checkpoint::Snapshot::load(&file)?;
                array.restore(slot, &loaded(&file, saved, member, group)?)?;
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
                test_loss: None,
                test_correct: None,
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
            let mut done = 0;
            let result = array.run(part, &quiet, &mut |progress| {
                done += 1;
                if let Some(seat) = &mut seats[progress.slot] {
                    seat.losses = (seat.losses.0 + f64::from(progress.loss), seat.losses.1 + 1);
                }
            });
            self.steps += done;
            self.slot_steps += part * seats.len() as u64;
            result?;
            left -= part;
            let ages =
                seats.iter().enumerate().filter_map(|(slot, seat)| Some((array.state(slot)?.1, seat.as_ref()?.until)));
            if let Some((step, until)) = ages.min_by_key(|(step, until)| until - step) {
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
            let standing = self.standings.get(&trial);
            let score =
                standing.and_then(|s| s.correct.map(|c| 1.0 - c).or(s.loss).or(s.train_loss)).unwrap_or(f64::NAN);
            let score = if state == State::Diverged { f64::NAN } else { self.goal(score) };
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
        }
        Ok(())
    }

    /// Searches may look for high scores: ours are errors or losses, so low.
    fn goal(&self, score: f64) -> f64 {
        match self.config.search.as_ref().map(|search| search.goal) {
            Some(super::search::Goal::Maximise) => 1.0 - score,
            _ => score,
        }
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
        let mut numbers: BTreeMap<&str, f64> = BTreeMap::new();
        numbers.extend(train.map(|loss| ("train_loss", loss)));
        numbers.extend(score.map(|s| ("loss", s.loss)));
        numbers.extend(score.filter(|_| !values).map(|s| ("correct", s.correct)));
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
            checkpoint::replace(&file, &onnx::write(&array.export(slot)?)?)?;
            let graph = array.export(slot)?;
            let parameters = named(&graph, array);
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
fn named(graph: &Graph, _: &TrainingArray) -> BTreeMap<String, ndarray::ArrayD<f32>> {
    let constants = graph.values.iter().filter_map(|v| Some((torch_name(&v.name), (**v.constant.as_ref()?).clone())));
    constants.collect()
}

/// A member as its checkpoint has it.
fn loaded(file: &Path, saved: checkpoint::Snapshot, member: Member, group: &Group) -> Result<Snapshot> {
    if saved.state.fingerprint != group.fingerprint || saved.state.seed != member.seed {
        let what = "a checkpoint of another model, optimiser or seed";
        return Err(Error::bad_input(what)
            .in_file(file)
            .with_help("train into another folder, or remove the checkpoint"));
    }
    let step = saved.state.step;
    let state = if step >= group.total { State::Finished } else { State::Running };
    let tables = saved.tables.into_values().map(|table| table.iter().copied().collect()).collect();
    Ok(Snapshot { member, state, step, tables })
}

/// Members that can share an array: of one shape, and alike in what an array has once.
fn array_groups(config: &Config) -> Vec<Vec<usize>> {
    let alike = ["noise", "label_smoothing", "dropout"];
    let mut groups: Vec<(Vec<u64>, Vec<usize>)> = Vec::new();
    for (class, members) in config.shape_classes().into_iter().enumerate() {
        for place in members {
            let hyper = &config.members[place].hyper;
            let mut key = vec![class as u64];
            key.extend(alike.map(|name| hyper.number(name).to_bits()));
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

/// The network of a configuration, for samples of this shape.
fn model(config: &ModelConfig, hyper: &Hyper, shape: &[usize], outputs: usize) -> Result<Model> {
    let wrong = |what: &str| {
        Error::bad_input(format!("samples of shape {shape:?} in [data], but this model takes {what}"))
            .with_help("choose another kind of model, or reshape the samples")
    };
    match config {
        ModelConfig::Mlp { activation } => {
            let mut net = Builder::new("mlp", shape);
            let mut x = net.input();
            if shape.len() > 1 {
                x = net.flatten(x);
            }
            for width in hyper.widths("hidden") {
                x = net.linear(x, width);
                x = match activation {
                    config::Activation::Relu => net.relu(x),
                    config::Activation::Tanh => net.tanh(x),
                    config::Activation::Sigmoid => net.sigmoid(x),
                    config::Activation::Gelu => net.gelu(x),
                };
                let rate = hyper.number("dropout");
                if rate > 0.0 {
                    x = net.dropout(x, rate as f32);
                }
            }
            let y = net.linear(x, outputs);
            net.finish(y)
        }
        ModelConfig::Lenet if shape == [1, 28, 28] => models::lenet(outputs),
        ModelConfig::Lenet => Err(wrong("images of one channel and 28 x 28 pixels")),
        ModelConfig::Resnet18 if shape == [3, 32, 32] => models::resnet18(outputs, hyper.count("width")),
        ModelConfig::Resnet18 => Err(wrong("images of three channels and 32 x 32 pixels")),
        ModelConfig::Pointnet => match *shape {
            [3, points] => models::pointnet(points, outputs, false),
            _ => Err(wrong("clouds [3, points]")),
        },
        ModelConfig::Transformer => {
            let [context, width] = ["context", "width"].map(|name| hyper.count(name));
            models::transformer(outputs, context, width, hyper.count("heads"), hyper.count("layers"))
        }
        ModelConfig::Onnx { file } => Model::from_graph(onnx::read(file)?.0).map_err(|e| e.in_file(file)),
    }
}

fn options(config: &Config, hyper: &Hyper, group: &Group, values: bool, members: usize) -> Result<ArrayOptions> {
    let loss = match (config.train.loss, values) {
        (Some(config::Loss::Mse), _) | (None, true) => Loss::MeanSquare,
        (Some(config::Loss::Bce), _) => Loss::BinaryLogits,
        _ => Loss::CrossEntropy { smoothing: hyper.number("label_smoothing") as f32 },
    };
    let asked = config.train.slots.unwrap_or(if members == usize::MAX { 16 } else { members });
    let shift = config.data.augment.shift.max(config.data.augment.crop);
    let augment = Augment { shift, flip: config.data.augment.flip, noise: hyper.number("noise") as f32 };
    // With momentum if any member has some: zeros serve the others.
    let momentum =
        config.members.iter().map(|m| &m.hyper).chain([hyper]).map(|h| h.number("momentum")).fold(0.0, f64::max);
    let searched = config.search.is_some();
    let optimiser = optimiser(config, &hyper.clone().with("momentum", if searched { 0.9 } else { momentum })?);
    Ok(ArrayOptions {
        slots: asked.min(members).max(1),
        batch: group.batch,
        loss,
        optimiser,
        clip: searched || config.members.iter().any(|m| m.hyper.number("clip") > 0.0),
        augment,
        ..ArrayOptions::default()
    })
}

fn optimiser(config: &Config, hyper: &Hyper) -> Optimiser {
    let [momentum, beta1, beta2, eps] = ["momentum", "beta1", "beta2", "epsilon"].map(|name| hyper.number(name));
    let weight_decay = hyper.number("weight_decay");
    match config.train.optimiser {
        config::Optimiser::Sgd => {
            let nesterov = config.train.nesterov && momentum > 0.0;
            Optimiser::Sgd { momentum, dampening: 0.0, nesterov, weight_decay }
        }
        config::Optimiser::AdamW => Optimiser::AdamW { beta1, beta2, eps, weight_decay },
        config::Optimiser::RmsProp => Optimiser::RmsProp { alpha: hyper.number("decay"), eps, momentum, weight_decay },
        _ => Optimiser::Adam { beta1, beta2, eps, weight_decay },
    }
}

/// A member that trains for `total` steps at most.
fn member(config: &Config, assignment: &Assignment, total: u64) -> Result<Member> {
    let hyper = &assignment.hyper;
    let warm = (hyper.number("warmup") * total as f64).round() as u64;
    let rest = total.saturating_sub(warm).max(1);
    let schedule = match config.train.schedule {
        config::Schedule::Step { every } => Schedule::Step { every, factor: hyper.number("gamma") },
        config::Schedule::Cosine => Schedule::Cosine { steps: rest, least: 0.0 },
        config::Schedule::OneCycle => Schedule::OneCycle { steps: rest },
        _ => Schedule::Constant,
    };
    let schedule = if warm > 0 { Schedule::WarmUp { steps: warm, then: Box::new(schedule) } } else { schedule };
    let clip = Some(hyper.number("clip")).filter(|&clip| clip > 0.0);
    let member = Member {
        seed: assignment.seed,
        optimiser: optimiser(config, hyper),
        learning_rate: hyper.number("learning_rate"),
        schedule,
        clip,
        steps: None,
    };
    member.check()?;
    Ok(member)
}

/// Tells models and optimisers apart whose members cannot be exchanged.
fn fingerprint(model: &Model, optimiser: config::Optimiser) -> String {
    let nodes: Vec<String> =
        model.graph.nodes.iter().map(|n| format!("{}{:?}", n.op.name(), model.graph.value(n.output).shape)).collect();
    // FNV-1a, 64 bits: it only has to tell apart what a user mixes up.
    let hash = nodes
        .concat()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{} {} parameters {hash:016x} {}", model.graph.name, model.parameter_count(), optimiser.name())
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
