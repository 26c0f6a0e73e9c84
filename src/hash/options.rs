//! How a network is trained, and the settings of the papers.

use serde::Serialize;

use super::Storage;
use super::active::SampleChoice;
use super::layer::Loss;
use super::lsh::{Family, LshOptions, Policy};
use super::optimiser::{Mode as Update, Rule};
use crate::error::{Error, Result};
use crate::schedule::Schedule;

/// Which labels a step computes besides those of its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mode {
    /// All of them: the dense layer.
    Full,
    /// Drawn uniformly, shared by the batch (sampled softmax).
    Uniform,
    /// Drawn by `log((r + 2) / (r + 1))` of the label's rank by frequency, shared by the batch (log-uniform candidates).
    LogUniform,
    /// A set for each sample, looked up in hash tables with its hidden vector (SLIDE).
    Slide,
    /// What the hash tables return for the samples of the batch, shared by all of them, in a seeded order.
    HashUnion,
    /// What the hash tables return most often for the samples of the batch, shared by all of them.
    HashMost,
    /// Neighbours of the batch's labels in the hash tables, found when those were built: hard negatives, shared by the batch.
    Neighbours,
}

/// The words for modes, as configurations and tables write them.
pub const MODES: &[(&str, Mode)] = &[
    ("full", Mode::Full),
    ("uniform", Mode::Uniform),
    ("log-uniform", Mode::LogUniform),
    ("slide", Mode::Slide),
    ("hash-union", Mode::HashUnion),
    ("hash-most", Mode::HashMost),
    ("neighbours", Mode::Neighbours),
];

impl Mode {
    /// Whether it looks labels up in hash tables.
    pub fn hashes(self) -> bool {
        matches!(self, Self::Slide | Self::HashUnion | Self::HashMost | Self::Neighbours)
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

/// Counts of changed codes between rebuilds that need no reason: checkpoints stand at rebuilds, so there must be some.
pub(super) const COUNTS: u64 = 4;

/// When hash tables are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rebuild {
    /// After so many samples.
    Samples(u64),
    /// When more than this share of the labels' codes has changed, which is counted on the device after so many samples; at every fourth
    /// count in any case.
    Changed {
        /// The share, above 0 and at most 1.
        share: f64,
        /// Samples between counts.
        every: u64,
    },
}

impl Rebuild {
    /// Samples between looks at the tables.
    pub fn every(self) -> u64 {
        match self {
            Self::Samples(every) | Self::Changed { every, .. } => every,
        }
    }

    /// Samples after which tables are made anew at the latest.
    pub fn at_the_latest(self) -> u64 {
        match self {
            Self::Samples(every) => every,
            Self::Changed { every, .. } => every.saturating_mul(COUNTS),
        }
    }
}

/// How a network is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Elements of the hidden layer.
    pub hidden: usize,
    /// Samples of a step.
    pub batch: usize,
    /// Which labels a step computes.
    pub mode: Mode,
    /// Shared sets: labels of a step that are not the batch's own, at least.
    pub negatives: usize,
    /// Sets of a sample: labels of each, its own among them.
    pub active: usize,
    /// Sets of a sample: which of the labels that hash tables return are taken.
    pub choice: SampleChoice,
    /// Whether logits are corrected by the logarithm of the chance that a label is in the set (uniform and log-uniform alone).
    pub correction: bool,
    /// What is made small.
    pub loss: Loss,
    /// The optimiser.
    pub rule: Rule,
    /// Which rows a step changes, and what it owes to others.
    pub update: Update,
    /// How weights are stored.
    pub storage: Storage,
    /// The learning rate.
    pub learning_rate: f64,
    /// How it changes with steps.
    pub schedule: Schedule,
    /// Standard deviation of the first weights.
    pub deviation: f64,
    /// The hidden layer has a ReLU; without, it is a sum of embeddings.
    pub relu: bool,
    /// Hash functions and tables.
    pub lsh: LshOptions,
    /// When tables are made anew.
    pub rebuild: Rebuild,
    /// Samples after which hash functions are drawn anew; 0: never.
    pub renew: u64,
    /// Neighbours kept of each label.
    pub neighbours: usize,
    /// What all random numbers come from.
    pub seed: u64,
}

impl Default for Options {
    /// Sampled softmax with uniform negatives by catch-up Adam.
    fn default() -> Self {
        Self {
            hidden: 128,
            batch: 256,
            mode: Mode::Uniform,
            negatives: 1000,
            active: 1000,
            choice: SampleChoice::First,
            correction: false,
            loss: Loss::Softmax,
            rule: Rule::adam(),
            update: Update::CatchUp,
            storage: Storage::F32,
            learning_rate: 5e-4,
            schedule: Schedule::Constant,
            deviation: 0.01,
            relu: true,
            lsh: LshOptions::default(),
            rebuild: Rebuild::Samples(12_800),
            renew: 0,
            neighbours: 8,
            seed: 1,
        }
    }
}

/// A paper's settings.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name in configurations.
    pub name: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    family: Family,
    codes: usize,
    tables: usize,
    batch: usize,
    hidden: usize,
    active: usize,
    relu: bool,
    rebuild: u64,
    bucket: usize,
    policy: Policy,
}

const DWTA: Family = Family::Dwta;

/// The settings of the papers: SLIDE (MLSys 2020), its optimised version (MLSys 2021) and BOLT (CIKM 2023).
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "slide-amazon-670k",
        source: "SLIDE, MLSys 2020, paper",
        family: DWTA,
        codes: 8,
        tables: 50,
        batch: 256,
        hidden: 128,
        active: 3000,
        relu: true,
        rebuild: 6400,
        bucket: 128,
        policy: Policy::Fifo,
    },
    Preset {
        name: "slide-amazon-670k-code",
        source: "SLIDE, MLSys 2020, released code",
        family: DWTA,
        codes: 6,
        tables: 50,
        batch: 128,
        hidden: 128,
        active: 1000,
        relu: true,
        rebuild: 6400,
        bucket: 128,
        policy: Policy::Fifo,
    },
    Preset {
        name: "slide-2021-amazon-670k",
        source: "optimised SLIDE, MLSys 2021, released code",
        family: DWTA,
        codes: 5,
        tables: 256,
        batch: 1024,
        hidden: 128,
        active: 1000,
        relu: true,
        rebuild: 12_800,
        bucket: 128,
        policy: Policy::Fifo,
    },
    Preset {
        name: "slide-delicious-200k",
        source: "SLIDE, MLSys 2020, paper",
        family: Family::SimHash,
        codes: 9,
        tables: 50,
        batch: 128,
        hidden: 128,
        active: 1000,
        relu: true,
        rebuild: 6400,
        bucket: 128,
        policy: Policy::Fifo,
    },
    Preset {
        name: "slide-2021-wiki-325k",
        source: "optimised SLIDE, MLSys 2021, with buckets of 64 where it has 128",
        family: DWTA,
        codes: 5,
        tables: 350,
        batch: 256,
        hidden: 128,
        active: 1000,
        relu: true,
        rebuild: 6400,
        bucket: 64,
        policy: Policy::Fifo,
    },
    Preset {
        name: "slide-2021-text8",
        source: "optimised SLIDE, MLSys 2021",
        family: Family::SimHash,
        codes: 9,
        tables: 50,
        batch: 512,
        hidden: 200,
        active: 1000,
        relu: false,
        rebuild: 6400,
        bucket: 128,
        policy: Policy::Fifo,
    },
    Preset {
        name: "bolt-amazon-670k",
        source: "BOLT, CIKM 2023, its code",
        family: DWTA,
        codes: 5,
        tables: 128,
        batch: 256,
        hidden: 256,
        active: 3350,
        relu: true,
        rebuild: 6400,
        bucket: 128,
        policy: Policy::Reservoir,
    },
];

impl Preset {
    /// The preset of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Its settings: a set for each sample, lazy rows as the papers (not their code) have them, Adam at 1e-4.
    pub fn options(&self) -> Options {
        let lsh = LshOptions {
            family: self.family,
            codes: self.codes,
            tables: self.tables,
            bucket: self.bucket,
            policy: self.policy,
            ..LshOptions::default()
        };
        Options {
            hidden: self.hidden,
            batch: self.batch,
            mode: Mode::Slide,
            active: self.active,
            learning_rate: 1e-4,
            relu: self.relu,
            update: Update::Lazy,
            lsh,
            rebuild: Rebuild::Samples(self.rebuild),
            renew: 128_000,
            ..Options::default()
        }
    }
}

impl Options {
    /// Refuses what cannot be trained.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] with a next step.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String, help: &str| Err(Error::bad_input(what).with_help(help));
        if self.hidden == 0 || self.hidden > 4096 {
            return refuse(
                format!("a hidden layer of {}", self.hidden),
                "give 1 to 4096 elements; the papers have 128",
            );
        }
        if self.batch == 0 || self.batch > 65_535 {
            return refuse(format!("batches of {} samples", self.batch), "give 1 to 65,535 samples");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return refuse(format!("a learning rate of {}", self.learning_rate), "give a number above 0, such as 5e-4");
        }
        if !(self.deviation.is_finite() && self.deviation >= 0.0) {
            return refuse(format!("first weights with deviation {}", self.deviation), "give a number from 0 on");
        }
        if self.correction && !matches!(self.mode, Mode::Uniform | Mode::LogUniform) {
            let what = format!("a correction of the mode '{}', whose chances nobody knows", self.mode.name());
            return refuse(what, "correct uniform or log-uniform sets, or leave it out");
        }
        if self.correction && self.loss == Loss::Bce {
            return refuse("a correction of binary cross-entropy".into(), "correct softmax, or leave it out");
        }
        if matches!(self.rebuild, Rebuild::Changed { every, .. } if every < 3 * self.batch as u64) {
            let what =
                format!("changes that are counted every {} samples in batches of {}", self.rebuild.every(), self.batch);
            return refuse(what, "count after three batches or more: a count is known two steps later");
        }
        if self.mode == Mode::Slide && self.lsh.tables * self.lsh.bucket > 32_768 {
            let what = format!("{} tables that give {} labels each", self.lsh.tables, self.lsh.bucket);
            return refuse(what, "a sample has up to 32,768 candidates: take fewer tables or smaller buckets");
        }
        if let SampleChoice::AtLeast(times) = self.choice
            && times as usize > self.lsh.tables
        {
            let what = format!("labels that {times} of {} hash tables return", self.lsh.tables);
            return refuse(what, "`at_least` can be as many as there are tables");
        }
        if self.rebuild.every() == 0 {
            return refuse("hash tables that are made anew after 0 samples".into(), "give 1 or more, such as 12,800");
        }
        if self.update != Update::Lazy && self.storage != Storage::F32 && self.rule.moves_alone() {
            let what = "weights in bf16 whose rows owe nothing to steps that they miss".to_owned();
            return refuse(what, "use rows = \"lazy\" with bf16 weights, or f32 weights");
        }
        if self.storage != Storage::F32 && (self.mode.hashes() || self.mode == Mode::Full) {
            let what = format!("weights in bf16 in the mode '{}'", self.mode.name());
            return refuse(what, "bf16 goes with uniform and log-uniform sets; the others read f32 weights");
        }
        self.rule.check()?;
        self.schedule.check()?;
        if self.mode.hashes() { self.lsh.check_hidden(self.hidden) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, Options, PRESETS, Preset};

    #[test]
    fn presets_and_the_default_can_be_trained() {
        Options::default().check().expect("the default");
        for preset in PRESETS {
            let options = Preset::find(preset.name).expect(preset.name).options();
            options.check().unwrap_or_else(|e| panic!("{}: {e}", preset.name));
        }
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        let said = |options: Options| options.check().expect_err("refused").to_string();
        assert!(said(Options { hidden: 0, ..Options::default() }).contains("hidden layer of 0"));
        assert!(said(Options { learning_rate: f64::NAN, ..Options::default() }).contains("NaN"));
        let corrected = Options { mode: Mode::Slide, correction: true, ..Options::default() };
        assert!(said(corrected).contains("'slide'"));
    }
}
