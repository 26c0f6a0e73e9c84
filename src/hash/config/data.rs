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

impl DataConfig {
    pub(super) fn parse(section: Section<'_>, folder: &Path) -> Result<Self> {
        section.only(KNOWN)?;
        let formats = [("xmc", Format::Files), ("text", Format::Text), ("generated", Format::Generated)];
        let format = section.word("format", &formats)?.unwrap_or(Format::Files);
        let own: &[&str] = match format {
            Format::Files => &["train", "test", "cache"],
            Format::Text => &["file", "window", "min_count", "subsample"],
            Format::Generated => &["samples", "features", "labels"],
        };
        let common = ["format", "test_share", "label_names"];
        for (key, at, _) in &section.table.entries {
            if !common.contains(&key.as_str()) && !own.contains(&key.as_str()) {
                let name = formats.iter().find(|(_, f)| *f == format).map_or("", |(name, _)| name);
                let what = format!("'{key}' in [data] means nothing to format = \"{name}\"");
                return Err(section.fault(*at, what).with_help(format!("it has {}", own.join(", "))));
            }
        }
        let path = |key: &str| Ok::<_, crate::Error>(section.text(key)?.map(|name| folder.join(name)));
        let whole = |key: &str, range, otherwise: u64| -> Result<usize> {
            Ok(size(section.whole(key, range)?.unwrap_or(otherwise)))
        };
        let source = match format {
            Format::Files => Source::Files {
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
                Source::Text { file, options }
            }
            Format::Generated => Source::Generated {
                samples: whole("samples", SOME, 490_449)?,
                features: whole("features", SOME, 135_909)?,
                labels: whole("labels", SOME, 670_091)?,
            },
        };
        let share = section.number("test_share", "a number from 0 on and below 1", |x| (0.0..1.0).contains(&x))?;
        Ok(Self {
            source,
            cache: section.flag("cache")?.unwrap_or(true),
            test_share: share.unwrap_or(0.1),
            label_names: path("label_names")?,
        })
    }
}
