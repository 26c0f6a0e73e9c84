//! Searches by ask and tell: a caller with free slots asks for trials, trains each to the resource it was given, and tells its score.
//!
//! A searcher is plain data: it starts nothing and waits for nothing. What a trial's hyper-parameters are depends on the search's seed and
//! the trial's number alone, never on the order in which results come in. The resource is whatever the caller counts: epochs or steps.

mod asha;
mod halving;
mod space;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Debug;

pub use asha::{Asha, Early};
pub use halving::{RandomSearch, SuccessiveHalving};
pub use space::{Domain, Space};

use super::hyper::Hyper;
use crate::error::{Error, Result};

/// Train this trial up to here.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The trial's number, from 0.
    pub trial: usize,
    /// Its seed, the same each time.
    pub seed: u64,
    /// Its hyper-parameters, the same each time.
    pub hyper: Hyper,
    /// 0: it starts; otherwise it goes on from the snapshot that was taken when it paused, at this resource.
    pub from: u64,
    /// The resource at which it is to be told.
    pub until: u64,
}

/// What becomes of a trial that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It keeps its slot and trains on to this resource.
    Continue {
        /// The resource at which it is to be told next.
        until: u64,
    },
    /// Its slot is free; keep a snapshot, it may be asked for again.
    Pause,
    /// Its slot is free and it will not come back.
    Stop,
    /// It has trained for the whole resource; its slot is free.
    Finish,
}

/// Which scores are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Goal {
    /// Low ones, such as losses.
    #[default]
    Minimise,
    /// High ones, such as accuracies.
    Maximise,
}

/// How long trials may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// The resource of the first rung.
    pub least: u64,
    /// The resource of the last.
    pub most: u64,
    /// Each rung has `eta` times the resource of the one before and keeps one trial of `eta`.
    pub eta: u64,
}

impl Ladder {
    /// The resources of the rungs: `least`, `least eta`, .. as long as they are below `most`, and `most`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] unless `1 <= least <= most` and `eta >= 2`.
    pub fn rungs(&self) -> Result<Vec<u64>> {
        if self.least == 0 || self.least > self.most || self.eta < 2 {
            return Err(Error::bad_input(format!(
                "rungs from {} to {} by factors of {}: the first must be at least 1 and at most the last, the factor at least 2",
                self.least, self.most, self.eta
            )));
        }
        let below = std::iter::successors(Some(self.least), |r| r.checked_mul(self.eta)).take_while(|&r| r < self.most);
        Ok(below.chain([self.most]).collect())
    }
}

/// A search.
pub trait Searcher: Debug + Send {
    /// Up to `most` assignments, one a free slot. Fewer, or none, mean that nothing else can start now: ask again after the next
    /// [`Searcher::tell`].
    fn ask(&mut self, most: usize) -> Vec<Assignment>;

    /// The score of a trial that has reached the resource it was assigned. A score that is no number stands for a trial that has
    /// failed: it is stopped and counts as worse than all others.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a trial that was not asked for or was told already.
    fn tell(&mut self, trial: usize, score: f64) -> Result<Decision>;

    /// Whether nothing is running and nothing will be asked for any more.
    fn is_done(&self) -> bool;

    /// The best trial of those that got furthest, with its score.
    fn best(&self) -> Option<(usize, f64)>;
}

/// The trials of a search: who they are and which of them are on their way.
#[derive(Debug, Clone)]
struct Trials {
    base: Hyper,
    space: Space,
    seed: u64,
    /// How many there will be at most.
    limit: usize,
    started: usize,
    /// The rung that each running trial is on its way to.
    running: BTreeMap<usize, usize>,
    goal: Goal,
    rungs: Vec<Rung>,
}

/// Trials that have reached a resource.
#[derive(Debug, Clone, Default)]
struct Rung {
    resource: u64,
    /// Scores with trials, the best first; equal ones in the order of their numbers.
    results: Vec<(f64, usize)>,
    /// Trials that went on from here.
    promoted: Vec<usize>,
}

impl Trials {
    fn new(base: &Hyper, space: Space, seed: u64, limit: usize, goal: Goal, resources: Vec<u64>) -> Self {
        let rungs = resources.into_iter().map(|resource| Rung { resource, ..Rung::default() }).collect();
        Self { base: base.clone(), space, seed, limit, started: 0, running: BTreeMap::new(), goal, rungs }
    }

    fn top(&self) -> usize {
        self.rungs.len() - 1
    }

    /// Sends a trial to a rung.
    fn assign(&mut self, trial: usize, rung: usize) -> Assignment {
        self.running.insert(trial, rung);
        if rung > 0 {
            self.rungs[rung - 1].promoted.push(trial);
        }
        Assignment {
            trial,
            seed: self.seed.wrapping_add(trial as u64),
            hyper: self.base.clone().over(&self.space.sample(self.seed, trial as u64)),
            from: if rung > 0 { self.rungs[rung - 1].resource } else { 0 },
            until: self.rungs[rung].resource,
        }
    }

    /// The next trial that has not been seen before, sent to the first rung.
    fn fresh(&mut self) -> Option<Assignment> {
        (self.started < self.limit).then(|| {
            self.started += 1;
            self.assign(self.started - 1, 0)
        })
    }

    /// Notes a result and gives the rung that it is of.
    fn note(&mut self, trial: usize, score: f64) -> Result<usize> {
        let rung = self.running.remove(&trial).ok_or_else(|| {
            Error::bad_input(format!("trial {trial} is not running: it was never asked for, or told already"))
        })?;
        let goal = self.goal;
        let results = &mut self.rungs[rung].results;
        let place =
            results.partition_point(|&(other, number)| goal.order(other, score).then(number.cmp(&trial)).is_lt());
        results.insert(place, (score, trial));
        Ok(rung)
    }

    fn best(&self) -> Option<(usize, f64)> {
        let rung = self.rungs.iter().rev().find(|rung| rung.results.iter().any(|(score, _)| score.is_finite()))?;
        rung.results.first().map(|&(score, trial)| (trial, score))
    }
}

impl Goal {
    /// The better first; what is no number last.
    fn order(self, a: f64, b: f64) -> Ordering {
        match (a.is_finite(), b.is_finite()) {
            (true, true) if self == Self::Minimise => a.total_cmp(&b),
            (true, true) => b.total_cmp(&a),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => Ordering::Equal,
        }
    }
}

#[cfg(test)]
mod tests;
