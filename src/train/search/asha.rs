//! ASHA: asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2).

use super::{Assignment, Decision, Goal, Ladder, Searcher, Space, Trials};
use crate::error::Result;
use crate::train::hyper::Hyper;

/// What happens to a trial that is not among the best of its rung when it gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Early {
    /// It pauses and goes on once enough others turn out worse: the paper's algorithm. Needs snapshots.
    #[default]
    Pause,
    /// It stops for good: no snapshots, but a good trial that comes late may be stopped by a lucky start of others.
    Stop,
}

/// Asynchronous successive halving: no slot ever waits for a rung to fill. A slot that is free gets the best trial that may be promoted,
/// looking from the highest rung down, and a new trial if there is none.
#[derive(Debug, Clone)]
pub struct Asha {
    pub(super) trials: Trials,
    pub(super) eta: usize,
    early: Early,
}

impl Asha {
    /// A search of `limit` trials, `base` with draws from `space` put over it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a ladder that is none.
    pub fn new(
        base: &Hyper,
        space: Space,
        seed: u64,
        limit: usize,
        goal: Goal,
        ladder: Ladder,
        early: Early,
    ) -> Result<Self> {
        let trials = Trials::new(base, space, seed, limit, goal, ladder.rungs()?);
        Ok(Self { trials, eta: usize::try_from(ladder.eta).unwrap_or(usize::MAX), early })
    }

    /// The trial that the next free slot should promote, and the rung that it has reached.
    fn promotable(&self) -> Option<(usize, usize)> {
        if self.early == Early::Stop {
            return None;
        }
        let top = self.trials.top();
        let ready = |k: usize, share: usize| {
            let rung = &self.trials.rungs[k];
            let best = &rung.results[..share];
            let ready = best.iter().find(|(score, trial)| score.is_finite() && !rung.promoted.contains(trial));
            ready.map(|&(_, trial)| (trial, k))
        };
        let promoted = (0..top).rev().find_map(|k| ready(k, self.trials.rungs[k].results.len() / self.eta));
        // Fewer trials than `eta` to the number of rungs: in the end the best of all goes on alone, so that one is trained to its end.
        let ended = self.trials.running.is_empty() && self.trials.started == self.trials.limit;
        let nobody = || self.trials.rungs[top].results.is_empty();
        let furthest = || (0..top).rev().find(|&k| !self.trials.rungs[k].results.is_empty());
        let rescued = || furthest().and_then(|k| ready(k, self.trials.rungs[k].results.len()));
        promoted.or_else(|| (ended && nobody()).then(rescued).flatten())
    }

    fn after(&mut self, trial: usize, rung: usize) -> Decision {
        let goes_on = match self.early {
            // Its own slot is the free one: if the next promotion is its own, nothing need be moved.
            Early::Pause => self.promotable() == Some((trial, rung)),
            Early::Stop => {
                let results = &self.trials.rungs[rung].results;
                let keep = (results.len() / self.eta).max(1);
                results[..keep].iter().any(|&(_, other)| other == trial)
            }
        };
        match (goes_on, self.early) {
            (true, _) => Decision::Continue { until: self.trials.assign(trial, rung + 1).until },
            (false, Early::Pause) => Decision::Pause,
            (false, Early::Stop) => Decision::Stop,
        }
    }
}

impl Searcher for Asha {
    fn ask(&mut self, most: usize) -> Vec<Assignment> {
        let mut given = Vec::new();
        while given.len() < most {
            let next = match self.promotable() {
                Some((trial, rung)) => Some(self.trials.assign(trial, rung + 1)),
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
        Ok(match score.is_finite() {
            false => Decision::Stop,
            true if rung == self.trials.top() => Decision::Finish,
            true => self.after(trial, rung),
        })
    }

    fn is_done(&self) -> bool {
        self.trials.running.is_empty() && self.trials.started == self.trials.limit && self.promotable().is_none()
    }

    fn best(&self) -> Option<(usize, f64)> {
        self.trials.best()
    }
}
