//! A member of an array: what makes it different from its neighbours.

use super::certify::Certify;
use super::optimiser::{self, Optimiser};
use crate::error::Result;
use crate::schedule::Schedule;

/// A model's own hyper-parameters. Members of one array share shapes, batch size and kind of optimiser, nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Key of its random streams: initial parameters, order of samples, dropout, augmentation. Never its slot.
    pub seed: u64,
    /// The optimiser with its coefficients.
    pub optimiser: Optimiser,
    /// The base learning rate.
    pub learning_rate: f64,
    /// How the rate changes with the step.
    pub schedule: Schedule,
    /// Largest norm of its gradient, all parameters together; `None`: any.
    pub clip: Option<f64>,
    /// How its network is made certifiable; needed by [`super::Loss::Certified`], and by no other loss.
    pub certify: Option<Certify>,
    /// Steps after which it is done; `None`: when it is stopped.
    pub steps: Option<u64>,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            seed: 0,
            optimiser: Optimiser::adam(),
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            clip: None,
            certify: None,
            steps: None,
        }
    }
}

impl Member {
    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] naming the hyper-parameter.
    pub fn check(&self) -> Result<()> {
        self.optimiser.check()?;
        self.schedule.check()?;
        optimiser::check_rate(self.learning_rate)?;
        optimiser::check_clip(self.clip)?;
        self.certify.map_or(Ok(()), |certify| certify.check())
    }

    /// Its learning rate in the step that follows `step` finished ones.
    pub fn rate(&self, step: u64) -> f64 {
        self.schedule.rate(self.learning_rate, step)
    }
}

/// What a slot's member is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Trained by every step.
    Running,
    /// All its steps are done.
    Finished,
    /// Stopped by the caller.
    Stopped,
    /// Its loss stopped being a number.
    Diverged,
}

/// All that a member is: with it training goes on bit-identically, here or in another array of the same model, data and batch size.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its hyper-parameters.
    pub member: Member,
    /// What it was doing.
    pub state: State,
    /// Steps done.
    pub step: u64,
    /// Rows of the tables: parameters, the optimiser's states, running statistics.
    pub tables: Vec<Vec<f32>>,
}

/// What a step of a slot's member came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The slot.
    pub slot: usize,
    /// Steps that its member has done, this one included.
    pub step: u64,
    /// Mean loss over the batch, before the step.
    pub loss: f32,
    /// Share of rows whose largest output is the label, or whose outputs are on the right side (losses without classes: 0).
    pub correct: f32,
}

/// What an evaluation of a slot's member came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Mean loss over the set.
    pub loss: f64,
    /// Share of rows that are right.
    pub correct: f64,
    /// Share of rows that interval bounds certify ([`super::Loss::Certified`]): a figure of training in f32 without error terms, no
    /// proof.
    pub certified: Option<f64>,
    /// Rows that counted.
    pub rows: f64,
}

impl Score {
    /// The score on this set and another together.
    pub(super) fn and(self, other: Self) -> Self {
        let rows = self.rows + other.rows;
        let mean = |a: f64, b: f64| (a * self.rows + b * other.rows) / rows.max(1.0);
        let certified = match (self.certified, other.certified) {
            (Some(a), Some(b)) => Some(mean(a, b)),
            (a, b) => a.or(b),
        };
        Self { loss: mean(self.loss, other.loss), correct: mean(self.correct, other.correct), certified, rows }
    }
}
