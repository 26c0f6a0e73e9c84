//! Members of one shape on their way through the slots of one array.

use std::collections::BTreeMap;
use std::time::Duration;
use web_time::Instant;

use super::network::{fingerprint, member, model, options};
use super::work::{Work, left};
use super::{Data, Session, Standing, files};
use crate::error::{ErrorKind, Result};
use crate::gpu::Control;
use crate::train::config::{Config, Length};
use crate::train::events::{self, EventWriter, LogEvent, Reason};
use crate::train::hyper::Hyper;
use crate::train::model::Model;
use crate::train::search::Assignment;
use crate::train::{DeviceSet, Score, Snapshot, State, TrainingArray};

/// A crash takes about so much work with it, more where saving takes long.
const BETWEEN_CHECKPOINTS: Duration = Duration::from_secs(60);
/// Checkpoints take at most one second in so many.
const CHECKPOINT_SHARE: u32 = 20;
/// The clock is looked at about so often.
const GLANCE: Duration = Duration::from_secs(5);
/// Steps before the first glance.
const FIRST_GLANCE: u64 = 16;

/// What members of a group have in common: steps at which something happens, and who they are.
pub(super) struct Course {
    pub batch: usize,
    pub epoch: u64,
    /// Steps of a member that trains to its end.
    pub total: u64,
    pub fingerprint: String,
    /// Steps of what the configuration counts, epochs or steps.
    pub unit: u64,
    evaluate: u64,
    save: u64,
    values: bool,
}

impl Course {
    fn new(config: &Config, hyper: &Hyper, model: &Model, data: &Data, digest: u64) -> Self {
        let batch = hyper.count("batch").min(data.train.len());
        let epoch = (data.train.len() / batch.max(1)) as u64;
        let unit = if matches!(config.train.length, Length::Epochs(_)) { epoch } else { 1 };
        let total = match (&config.search, config.train.length) {
            (Some(search), _) => search.ladder.most * unit,
            (None, Length::Epochs(n) | Length::Steps(n)) => n * unit,
        };
        let (evaluate, save) = (config.train.evaluate_every * unit, config.train.checkpoint_every * unit);
        let fingerprint = fingerprint(config, model, digest);
        Self { batch, epoch, total, fingerprint, unit, evaluate, save, values: data.values }
    }
}

/// A member in a slot.
struct Seat {
    assignment: Assignment,
    /// Step at which it is told.
    until: u64,
    /// Sum and number of the losses since it was last noted.
    losses: (f64, u64),
    events: EventWriter,
}

/// A group on its way.
pub(super) struct Group<'s, 'a> {
    session: &'s mut Session<'a>,
    course: Course,
    array: TrainingArray,
    seats: Vec<Option<Seat>>,
    work: Work,
    valid: Option<DeviceSet>,
    test: Option<DeviceSet>,
    /// When everybody was last saved, and how long to wait until the next time.
    saved: (Instant, Duration),
    /// Steps between two glances at the clock.
    stretch: u64,
}

impl<'s, 'a> Group<'s, 'a> {
    pub fn new(session: &'s mut Session<'a>, hyper: &Hyper, work: Work, data: Data, members: usize) -> Result<Self> {
        let config = session.config;
        let model = model(&config.model, hyper, &data.shape, data.outputs)?;
        let course = Course::new(config, hyper, &model, &data, session.digest);
        let mut options = options(config, hyper, &course, data.values, members)?;
        if config.train.slots.is_none() {
            // As many as fit; if not even one does, the array says so.
            options.slots = TrainingArray::fitting(session.gpu, &model, &data.train, &options)?.max(1);
        }
        let array = TrainingArray::new(session.gpu, &model, data.train, options)?;
        let (device, slots) = (session.gpu.caps().name.clone(), array.slots());
        // All of them now: a damaged one should not be found after hours.
        let mut resumed = false;
        for assignment in work.waiting() {
            let file = files::checkpoint(config, assignment.trial);
            if file.is_file() {
                files::load(&file, member(config, assignment, &course)?, assignment, &course)?;
                resumed = true;
            }
        }
        let version = crate::VERSION;
        session.log.write(&LogEvent::Start { schema: 1, version, device: &device, members, slots, resumed })?;
        Ok(Self {
            session,
            course,
            array,
            seats: (0..slots).map(|_| None).collect(),
            work,
            valid: data.valid,
            test: data.test,
            saved: (Instant::now(), BETWEEN_CHECKPOINTS),
            stretch: FIRST_GLANCE,
        })
    }

    /// Trains everybody; whether it was stopped.
    pub fn run(mut self, control: &Control) -> Result<bool> {
        loop {
            self.refill()?;
            let Some(steps) = self.steps_to_next_stop() else { return Ok(false) };
            if let Err(error) = self.advance(steps, control).and_then(|()| self.judge(control)) {
                // Whatever it is, members that can still be read are saved.
                let left = if error.kind() == ErrorKind::DeviceLost { Ok(()) } else { self.leave() };
                return if error.kind() == ErrorKind::Cancelled { left.map(|()| true) } else { Err(error) };
            }
        }
    }

    /// Puts members into free slots: as their checkpoint has them, if there is one.
    fn refill(&mut self) -> Result<()> {
        let free: Vec<usize> = (0..self.seats.len()).filter(|&slot| self.seats[slot].is_none()).collect();
        let config = self.session.config;
        for (assignment, slot) in self.work.ask(free.len())?.into_iter().zip(free) {
            let member = member(config, &assignment, &self.course)?;
            let file = files::checkpoint(config, assignment.trial);
            if file.is_file() {
                let snapshot = files::load(&file, member, &assignment, &self.course)?;
                self.array.restore(slot, &snapshot).map_err(|e| e.in_file(&file))?;
            } else {
                self.array.start(slot, member)?;
            }
            let (_, step) = self.state(slot);
            let Assignment { trial, seed, ref hyper, until, .. } = assignment;
            self.session.log.write(&LogEvent::Member { member: trial, seed, step, hyper })?;
            let standing = self.session.standings.entry(trial).or_insert_with(|| Standing::new(&assignment, step));
            standing.state = Reason::Cancelled;
            let until = if until == 0 { self.course.total } else { until * self.course.unit };
            let events = EventWriter::create(&files::folder(config, trial))?;
            self.seats[slot] = Some(Seat { assignment, until, losses: (0.0, 0), events });
        }
        self.move_up()
    }

    /// When there is nobody to fill slots with, members in the last ones move to the first ones, so that what is empty costs nothing.
    fn move_up(&mut self) -> Result<()> {
        loop {
            let free = self.seats.iter().position(Option::is_none);
            let last = self.seats.iter().rposition(Option::is_some);
            let (Some(free), Some(last)) = (free, last) else { return Ok(()) };
            if free > last {
                return Ok(());
            }
            self.array.copy(last, free, None)?;
            self.array.clear(last)?;
            self.seats.swap(last, free);
        }
    }

    /// Steps until something happens to somebody; `None` if nobody is there.
    fn steps_to_next_stop(&self) -> Option<u64> {
        let to_next = |step: u64, every: u64| if every == 0 { u64::MAX } else { every - step % every };
        let of = |(slot, seat): (usize, &Option<Seat>)| {
            let (_, step) = self.state(slot);
            let left = seat.as_ref()?.until.saturating_sub(step);
            Some(left.min(to_next(step, self.course.evaluate)).min(to_next(step, self.course.save)))
        };
        self.seats.iter().enumerate().filter_map(of).min()
    }

    /// Runs some steps of everybody, and saves them when it is time.
    fn advance(&mut self, steps: u64, control: &Control) -> Result<()> {
        let mut left = steps;
        while left > 0 {
            let (part, start) = (left.min(self.stretch), Instant::now());
            self.train(part, control)?;
            left -= part;
            if part == self.stretch {
                let short = start.elapsed() < GLANCE;
                self.stretch = if short { part * 2 } else { (part / 2).max(FIRST_GLANCE) };
            }
            let (last, pause) = self.saved;
            if last.elapsed() >= pause {
                self.save_all()?;
            }
        }
        Ok(())
    }

    fn train(&mut self, steps: u64, control: &Control) -> Result<()> {
        let quiet = Control { cancel: control.cancel.clone(), progress: None };
        let mut done = vec![0_u64; self.seats.len()];
        let (members, computed) = (self.array.running().count(), self.array.computed() as u64);
        let what = format!("training {members} members");
        let seats = &mut self.seats;
        let result = self.array.run(steps, &quiet, &mut |progress| {
            done[progress.slot] += 1;
            if let Some(seat) = &mut seats[progress.slot] {
                seat.losses = (seat.losses.0 + f64::from(progress.loss), seat.losses.1 + 1);
                if done[..progress.slot].iter().all(|&steps| steps < done[progress.slot]) {
                    control.report(&what, progress.step, seat.until, "steps");
                }
            }
        });
        // What was cancelled or ended early counts as far as it came.
        self.session.steps += done.iter().sum::<u64>();
        self.session.slot_steps += done.iter().max().unwrap_or(&0) * computed;
        result
    }

    /// Looks at who has reached a step at which something happens.
    fn judge(&mut self, control: &Control) -> Result<()> {
        let due = |group: &Self, slot: usize, every: u64| every > 0 && group.state(slot).1.is_multiple_of(every);
        let taken: Vec<usize> = (0..self.seats.len()).filter(|&slot| self.seats[slot].is_some()).collect();
        let (mut ending, others): (Vec<usize>, Vec<usize>) = taken.into_iter().partition(|&slot| self.ends(slot));
        // A search that goes on may find its trials in other slots, and decides the same.
        ending.sort_by_key(|&slot| self.seats[slot].as_ref().map(|seat| seat.assignment.trial));
        let mut looked: Vec<usize> = others.iter().copied().filter(|&s| due(self, s, self.course.evaluate)).collect();
        looked.extend(&ending);
        self.evaluate(&looked, control)?;
        self.try_out(&ending, control)?;
        for slot in others {
            if due(self, slot, self.course.save) {
                self.save(slot)?;
            }
        }
        ending.into_iter().try_for_each(|slot| self.tell(slot))
    }

    /// Whether the member in a slot has come as far as it was to.
    fn ends(&self, slot: usize) -> bool {
        let (state, step) = self.state(slot);
        state == State::Diverged || self.seats[slot].as_ref().is_some_and(|seat| step >= seat.until)
    }

    /// Judges members on the validation part.
    fn evaluate(&mut self, slots: &[usize], control: &Control) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let scores = self.valid.as_ref().map(|valid| self.scores(valid, control)).transpose()?;
        slots.iter().try_for_each(|&slot| {
            // What a member did after it had diverged is nothing to judge it by.
            let judged = scores.as_ref().filter(|_| self.state(slot).0 != State::Diverged);
            self.note(slot, judged.map(|scores| scores[slot]))
        })
    }

    fn scores(&self, set: &DeviceSet, control: &Control) -> Result<Vec<Score>> {
        let members = self.seats.iter().flatten().count() as u64;
        control.report("evaluating", members, members, "members");
        self.array.evaluate(set, &Control { cancel: control.cancel.clone(), progress: None })
    }

    /// Tries those that have finished on the test set.
    fn try_out(&mut self, ending: &[usize], control: &Control) -> Result<()> {
        let finished = |slot: &&usize| {
            self.state(**slot).0 != State::Diverged
                && self.seats[**slot].as_ref().is_some_and(|seat| seat.until >= self.course.total)
        };
        let finished: Vec<usize> = ending.iter().filter(finished).copied().collect();
        let (Some(test), false) = (&self.test, finished.is_empty()) else { return Ok(()) };
        let scores = self.scores(test, control)?;
        for slot in finished {
            let classes = !self.course.values;
            if let Some(standing) = self.standing(slot) {
                standing.test_loss = Some(scores[slot].loss);
                standing.test_correct = classes.then_some(scores[slot].correct);
                standing.test_certified = scores[slot].certified;
            }
        }
        Ok(())
    }

    /// Writes down how a member does.
    fn note(&mut self, slot: usize, score: Option<Score>) -> Result<()> {
        let (state, step) = self.state(slot);
        let (values, epoch) = (self.course.values, step as f64 / self.course.epoch.max(1) as f64);
        let Some(seat) = &mut self.seats[slot] else { return Ok(()) };
        let (sum, count) = std::mem::take(&mut seat.losses);
        let train = (count > 0).then(|| sum / count as f64);
        let correct = score.filter(|_| !values).map(|s| s.correct);
        let mut numbers: BTreeMap<&str, f64> = BTreeMap::new();
        numbers.extend(train.map(|loss| ("train_loss", loss)));
        numbers.extend(score.map(|s| ("loss", s.loss)));
        numbers.extend(correct.map(|correct| ("correct", correct)));
        numbers.extend(score.and_then(|s| s.certified).map(|share| ("certified", share)));
        for (name, value) in &numbers {
            seat.events.scalar(events::now(), step, name, *value as f32);
        }
        seat.events.flush()?;
        let member = seat.assignment.trial;
        if let Some(standing) = self.standing(slot) {
            standing.steps = step;
            standing.train_loss = train.or(standing.train_loss);
            standing.loss = score.map(|s| s.loss).or(standing.loss);
            standing.correct = correct.or(standing.correct);
            standing.certified = score.and_then(|s| s.certified).or(standing.certified);
            if state == State::Diverged {
                standing.state = Reason::Diverged;
            }
        }
        self.session.log.write(&LogEvent::Scalars { member, step, epoch, values: &numbers })
    }

    /// A member has come as far as it was to: it goes on, or leaves its slot.
    fn tell(&mut self, slot: usize) -> Result<()> {
        let Some(standing) = self.standing(slot).map(|standing| standing.clone()) else { return Ok(()) };
        match left(self.work.tell(&standing)?, &standing) {
            Err(until) => {
                let unit = self.course.unit;
                if let Some(seat) = &mut self.seats[slot] {
                    seat.until = until * unit;
                }
                Ok(())
            }
            Ok(reason) => {
                self.farewell(slot, reason)?;
                self.seats[slot] = None;
                self.array.clear(slot)
            }
        }
    }

    /// A member leaves its slot: its checkpoint and its network stay.
    fn farewell(&mut self, slot: usize, reason: Reason) -> Result<()> {
        if !matches!(reason, Reason::Stopped | Reason::Diverged) {
            self.save(slot)?;
        }
        let (_, step) = self.state(slot);
        let Some(standing) = self.standing(slot) else { return Ok(()) };
        (standing.steps, standing.state) = (step, reason);
        let member = standing.member;
        if reason == Reason::Finished {
            files::export(&files::folder(self.session.config, member), &self.array.export(slot)?)?;
        }
        self.session.log.write(&LogEvent::Left { member, step, reason })
    }

    /// Everybody leaves, to come back in another session.
    fn leave(&mut self) -> Result<()> {
        let mut all = Ok(());
        for slot in 0..self.seats.len() {
            if self.seats[slot].is_some() {
                let diverged = self.state(slot).0 == State::Diverged;
                all = all.and(self.farewell(slot, if diverged { Reason::Diverged } else { Reason::Cancelled }));
            }
        }
        all
    }

    fn save_all(&mut self) -> Result<()> {
        let (start, mut all) = (Instant::now(), Ok(()));
        for slot in 0..self.seats.len() {
            if self.seats[slot].is_some() && self.state(slot).0 == State::Running {
                all = all.and(self.save(slot));
            }
        }
        self.saved = (Instant::now(), BETWEEN_CHECKPOINTS.max(start.elapsed() * CHECKPOINT_SHARE));
        all
    }

    fn save(&mut self, slot: usize) -> Result<()> {
        let Some(seat) = &self.seats[slot] else { return Ok(()) };
        let (config, member) = (self.session.config, seat.assignment.trial);
        let file = files::checkpoint(config, member);
        let snapshot: Snapshot = self.array.snapshot(slot)?;
        let step = snapshot.step;
        files::save(&file, snapshot, &seat.assignment, &self.course)?;
        if let Some(standing) = self.standing(slot) {
            standing.checkpoint = Some(file.clone());
        }
        self.session.log.write(&LogEvent::Checkpoint { member, step, file: &file })
    }

    /// State and age of the member in a slot.
    fn state(&self, slot: usize) -> (State, u64) {
        self.array.state(slot).unwrap_or((State::Stopped, 0))
    }

    fn standing(&mut self, slot: usize) -> Option<&mut Standing> {
        let member = self.seats[slot].as_ref()?.assignment.trial;
        self.session.standings.get_mut(&member)
    }
}
