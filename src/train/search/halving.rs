//! Searches to compare with: successive halving that waits for whole rungs, and random search.

use std::collections::VecDeque;

use super::{Assignment, Decision, Goal, Ladder, Searcher, Space, Trials};
use crate::error::Result;
use crate::train::hyper::Hyper;

/// Synchronous successive halving (Jamieson and Talwalkar, AISTATS 2016): all trials reach a rung, then the best `1 / eta` of them, at least one, go
/// on. Slots idle while the last trials of a rung run, and rungs get narrower.
#[derive(Debug, Clone)]
pub struct SuccessiveHalving {
    pub(super) trials: Trials,
    pub(super) eta: usize,
    /// Trials that wait for a slot, with the rungs that they go to.
    waiting: VecDeque<(usize, usize)>,
}

impl SuccessiveHalving {
    /// A search of `limit` trials, `base` with draws from `space` put over it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a ladder that is none.
    pub fn new(base: &Hyper, space: Space, seed: u64, limit: usize, goal: Goal, ladder: Ladder) -> Result<Self> {
        let trials = Trials::new(base, space, seed, limit, goal, ladder.rungs()?);
        Ok(Self { trials, eta: usize::try_from(ladder.eta).unwrap_or(usize::MAX), waiting: VecDeque::new() })
    }
}

impl Searcher for SuccessiveHalving {
    fn ask(&mut self, most: usize) -> Vec<Assignment> {
        let mut given = Vec::new();
        while given.len() < most {
            let next = match self.waiting.pop_front() {
                Some((trial, rung)) => Some(self.trials.assign(trial, rung)),
                None => self.trials.fresh(),
            };
            match next {
                Some(assignment) => given.push(assignment),
                None => break,
            }
        }
        given
    }

    fn tell(&mut self, trial: usize, score: f64) -> Result<Decision> {
        let rung = self.trials.note(trial, score)?;
        let last = rung == self.trials.top();
        let whole =
            self.trials.started == self.trials.limit && self.trials.running.is_empty() && self.waiting.is_empty();
        if whole && !last {
            let results = &self.trials.rungs[rung].results;
            let keep = (results.len() / self.eta).max(1);
            let best = results[..keep].iter().filter(|(score, _)| score.is_finite());
            self.waiting = best.map(|&(_, trial)| (trial, rung + 1)).collect();
        }
        Ok(match score.is_finite() {
            false => Decision::Stop,
            true if last => Decision::Finish,
            true => Decision::Pause,
        })
    }

    fn is_done(&self) -> bool {
        self.trials.running.is_empty() && self.waiting.is_empty() && self.trials.started == self.trials.limit
    }

    fn best(&self) -> Option<(usize, f64)> {
        self.trials.best()
    }
}

/// Random search (Bergstra and Bengio, JMLR 2012): every trial trains for the whole resource.
#[derive(Debug, Clone)]
pub struct RandomSearch(Trials);

impl RandomSearch {
    /// A search of `limit` trials of `resource` each, `base` with draws from `space` put over it.
    pub fn new(base: &Hyper, space: Space, seed: u64, limit: usize, goal: Goal, resource: u64) -> Self {
        Self(Trials::new(base, space, seed, limit, goal, vec![resource]))
    }
}

impl Searcher for RandomSearch {
    fn ask(&mut self, most: usize) -> Vec<Assignment> {
        (0..most).map_while(|_| self.0.fresh()).collect()
    }

    fn tell(&mut self, trial: usize, score: f64) -> Result<Decision> {
        self.0.note(trial, score)?;
        Ok(if score.is_finite() { Decision::Finish } else { Decision::Stop })
    }

    fn is_done(&self) -> bool {
        self.0.running.is_empty() && self.0.started == self.0.limit
    }

    fn best(&self) -> Option<(usize, f64)> {
        self.0.best()
    }
}
