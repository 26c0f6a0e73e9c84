//! `[train]`.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files::tree::Section;
use crate::train::hyper::Hyper;

/// How long a member trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Times that it sees the training part.
    Epochs(u64),
    /// Batches that it sees.
    Steps(u64),
}

/// What changes parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Optimiser {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam.
    #[default]
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
    /// RMSprop.
    RmsProp,
}

impl Optimiser {
    /// Its name as the file writes it.
    pub fn name(self) -> &'static str {
        OPTIMISERS.iter().find(|(_, optimiser)| *optimiser == self).map_or("", |(name, _)| name)
    }
}

const OPTIMISERS: &[(&str, Optimiser)] =
    &[("sgd", Optimiser::Sgd), ("adam", Optimiser::Adam), ("adamw", Optimiser::AdamW), ("rmsprop", Optimiser::RmsProp)];

/// How the learning rate changes; a warm-up comes before each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Schedule {
    /// Not.
    #[default]
    Constant,
    /// Times `gamma` each time this many steps or epochs (whichever `[train]` counts) have passed.
    Step {
        /// How many.
        every: u64,
    },
    /// To 0 along half a period of a cosine.
    Cosine,
    /// Up and down again in one cycle (L. Smith, 2018).
    OneCycle,
}

/// What is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Cross-entropy of classes or tokens.
    CrossEntropy,
    /// Mean squared error.
    Mse,
    /// Binary cross-entropy with logits.
    Bce,
    /// Cross-entropy of the worst case in a box around each sample (interval bound propagation).
    Certified,
}

/// How members are trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainConfig {
    /// How long.
    pub length: Length,
    /// What changes parameters.
    pub optimiser: Optimiser,
    /// Whether momentum looks ahead.
    pub nesterov: bool,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// What is made small; if not said, by the targets: cross-entropy for classes and text, squared error for values.
    pub loss: Option<Loss>,
    /// The seed of the first member, or of the search.
    pub seed: u64,
    /// Slots of an array; if not said, as many as there are members and as fit.
    pub slots: Option<usize>,
    /// Steps or epochs between looks at the validation part; 0: only at the end.
    pub evaluate_every: u64,
    /// Steps or epochs between checkpoints; 0: only when stopped and at the end.
    pub checkpoint_every: u64,
    /// Where checkpoints, logs and event files go.
    pub folder: PathBuf,
}

/// The keys of `[train]` that are no hyper-parameters.
pub(super) const KNOWN: &[&str] = &[
    "epochs",
    "steps",
    "optimiser",
    "nesterov",
    "schedule",
    "every",
    "loss",
    "seed",
    "slots",
    "evaluate_every",
    "checkpoint_every",
    "folder",
];

const ANY: std::ops::RangeInclusive<u64> = 0..=MOST;
const SOME: std::ops::RangeInclusive<u64> = 1..=MOST;
/// Most steps or epochs: random streams count steps in 32 bits.
pub(super) const MOST: u64 = 1 << 31;

impl TrainConfig {
    /// Reads all keys but the hyper-parameters, whose meaning depends on these.
    pub(super) fn parse(section: Section<'_>, folder: &Path, _: &mut Hyper) -> Result<Self> {
        let length = match (section.whole("epochs", SOME)?, section.whole("steps", SOME)?) {
            (Some(_), Some(_)) => {
                let at = section.at("epochs").max(section.at("steps"));
                return Err(section.fault(at, "[train] has both 'epochs' and 'steps'").with_help("keep one of them"));
            }
            (_, Some(steps)) => Length::Steps(steps),
            (epochs, None) => Length::Epochs(epochs.unwrap_or(10)),
        };
        let optimiser = section.word("optimiser", OPTIMISERS)?.unwrap_or_default();
        let nesterov = section.flag("nesterov")?.unwrap_or(false);
        if nesterov && optimiser != Optimiser::Sgd {
            return Err(section.fault(section.at("nesterov"), "'nesterov' is for the optimiser 'sgd' alone"));
        }
        let losses = [
            ("cross_entropy", Loss::CrossEntropy),
            ("mse", Loss::Mse),
            ("bce", Loss::Bce),
            ("certified", Loss::Certified),
        ];
        let many = section.whole("slots", 1..=65_536)?.and_then(|s| usize::try_from(s).ok());
        Ok(Self {
            length,
            optimiser,
            nesterov,
            schedule: schedule(&section)?,
            loss: section.word("loss", &losses)?,
            seed: section.whole("seed", 0..=i64::MAX as u64)?.unwrap_or(0),
            slots: many,
            evaluate_every: section.whole("evaluate_every", ANY)?.unwrap_or(match length {
                Length::Epochs(_) => 1,
                Length::Steps(_) => 0,
            }),
            checkpoint_every: section.whole("checkpoint_every", ANY)?.unwrap_or(0),
            folder: folder.join(section.text("folder")?.unwrap_or("runs")),
        })
    }
}

fn schedule(section: &Section<'_>) -> Result<Schedule> {
    let words = [
        ("constant", Schedule::Constant),
        ("step", Schedule::Step { every: 0 }),
        ("cosine", Schedule::Cosine),
        ("one_cycle", Schedule::OneCycle),
    ];
    let every = section.whole("every", SOME)?;
    match (section.word("schedule", &words)?.unwrap_or_default(), every) {
        (Schedule::Step { .. }, Some(every)) => Ok(Schedule::Step { every }),
        (Schedule::Step { .. }, None) => {
            Err(section.fault(section.at("schedule"), "schedule = \"step\" needs 'every'").with_help("every = 10"))
        }
        (_, Some(_)) => Err(section.fault(section.at("every"), "'every' is for schedule = \"step\" alone")),
        (other, None) => Ok(other),
    }
}
