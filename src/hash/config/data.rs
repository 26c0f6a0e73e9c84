//! `[data]`.

use std::path::{Path, PathBuf};

use super::{SOME, size};
use crate::error::Result;
use crate::files::tree::Section;
use crate::hash::data::text::SkipGram;

/// Where samples come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Files in the format of the Extreme Classification Repository.
    Files {
        /// What is trained on.
        train: PathBuf,
        /// What is looked at, if anything.
        test: Option<PathBuf>,
    },
    /// Words and their neighbours in a plain text (skip-gram).
    Text {
        /// The text, plain or gzipped.
        file: PathBuf,
        /// How it becomes samples; the seed is the training's.
        options: SkipGram,
    },
    /// Drawn with the statistics of Amazon-670K: for speed, not for accuracy.
    Generated {
        /// Training samples; a tenth as many are drawn to look at.
        samples: usize,
        /// Features.
        features: usize,
        /// Labels.
        labels: usize,
    },
}

/// What is trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct DataConfig {
    /// Where samples come from.
    pub source: Source,
    /// Parsed text files are kept beside them in a form that is read at once.
    pub cache: bool,
    /// Share of the samples that are kept apart to be looked at, where no test file is given.
    pub test_share: f64,
    /// Names of the labels, one a line.
    pub label_names: Option<PathBuf>,
}

const KNOWN: &[&str] = &[
    "format",
    "train",
    "test",
    "cache",
    "test_share",
    "label_names",
    "file",
    "window",
    "min_count",
    "subsample",
    "samples",
    "features",
    "labels",
];

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Files,
    Text,
    Generated,
}

const FORMATS: &[(&str, Format)] = &[("xmc", Format::Files), ("text", Format::Text), ("generated", Format::Generated)];
/// Keys of every format.
const COMMON: &[&str] = &["format", "test_share", "label_names"];

impl Format {
    /// Keys that it has and others have not.
    fn own(self) -> &'static [&'static str] {
        match self {
            Self::Files => &["train", "test", "cache"],
            Self::Text => &["file", "window", "min_count", "subsample"],
            Self::Generated => &["samples", "features", "labels"],
        }
    }

    /// Refuses keys of another format.
    fn only_own(self, section: Section<'_>) -> Result<()> {
        let foreign = |key: &str| !COMMON.contains(&key) && !self.own().contains(&key);
        let Some((key, at, _)) = section.table.entries.iter().find(|(key, _, _)| foreign(key)) else { return Ok(()) };
        let name = FORMATS.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name);
        let what = format!("'{key}' in [data] means nothing to format = \"{name}\"");
        Err(section.fault(*at, what).with_help(format!("it has {}", self.own().join(", "))))
    }
}

impl DataConfig {
    pub(super) fn parse(section: Section<'_>, folder: &Path) -> Result<Self> {
        section.only(KNOWN)?;
        let source = Source::parse(section, folder)?;
        let share = section.number("test_share", "a number from 0 on and below 1", |x| (0.0..1.0).contains(&x))?;
        Ok(Self {
            source,
            cache: section.flag("cache")?.unwrap_or(true),
            test_share: share.unwrap_or(0.1),
            label_names: section.text("label_names")?.map(|name| folder.join(name)),
        })
    }
}

impl Source {
    fn parse(section: Section<'_>, folder: &Path) -> Result<Self> {
        let format = section.word("format", FORMATS)?.unwrap_or(Format::Files);
        format.only_own(section)?;
        let path = |key: &str| Ok::<_, crate::Error>(section.text(key)?.map(|name| folder.join(name)));
        let whole = |key: &str, range, otherwise: u64| -> Result<usize> {
            Ok(size(section.whole(key, range)?.unwrap_or(otherwise)))
        };
        Ok(match format {
            Format::Files => Self::Files {
                train: path("train")?.ok_or_else(|| section.missing("train", "the file to train on"))?,
                test: path("test")?,
            },
            Format::Text => {
                let thinned = section.number("subsample", "a number from 0 to 1", |x| (0.0..=1.0).contains(&x))?;
                let options = SkipGram {
                    window: whole("window", 1..=100, 5)?,
                    min_count: section.whole("min_count", SOME)?.unwrap_or(2),
                    subsample: Some(thinned.unwrap_or(1e-3)).filter(|&t| t > 0.0),
                    seed: 0,
                };
                let file = path("file")?.ok_or_else(|| section.missing("file", "a plain text"))?;
                Self::Text { file, options }
            }
            Format::Generated => Self::Generated {
                samples: whole("samples", SOME, 490_449)?,
                features: whole("features", SOME, 135_909)?,
                labels: whole("labels", SOME, 670_091)?,
            },
        })
    }
}
