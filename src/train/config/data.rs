//! `[data]`.

use std::path::{Path, PathBuf};

use super::{Key, setting};
use crate::error::{Error, Result};
use crate::files::tree::Section;
use crate::train::data::{self, Column, CsvOptions, Dataset, Normalisation, Validation, Vocabulary, synthetic};
use crate::train::hyper::Hyper;

/// Where samples come from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// Two IDX files.
    Idx(PathBuf, PathBuf),
    /// Two NPY files.
    Npy(PathBuf, PathBuf),
    /// Two arrays, by name, of an NPZ file.
    Npz(PathBuf, String, String),
    /// Comma-separated values.
    Csv(PathBuf, CsvOptions),
    /// Plain text for a language model.
    Text {
        /// The file.
        file: PathBuf,
    },
    /// Made by a formula, for measurements.
    Synthetic(Synthetic),
}

impl Source {
    /// The files of inputs and targets; nothing for what a formula makes.
    fn files(&self) -> Option<(&Path, &Path)> {
        match self {
            Self::Idx(inputs, targets) | Self::Npy(inputs, targets) => Some((inputs, targets)),
            Self::Npz(file, ..) | Self::Csv(file, _) | Self::Text { file } => Some((file, file)),
            Self::Synthetic(_) => None,
        }
    }

    /// Adds the file of the inputs to an error that names none.
    fn of_inputs(&self, error: Error) -> Error {
        match self.files() {
            Some((file, _)) if error.place().is_none() => error.in_file(file),
            _ => error,
        }
    }

    /// Adds the file of the targets to an error that names none.
    fn of_targets(&self, error: Error) -> Error {
        match self.files() {
            Some((_, file)) if error.place().is_none() => error.in_file(file),
            _ => error,
        }
    }
}

/// A set made by a formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synthetic {
    /// [`synthetic::blobs`] of this many features.
    Blobs(usize),
    /// [`synthetic::images`] of this side and this many channels.
    Images(usize, usize),
    /// [`synthetic::point_clouds`] of this many points.
    Points(usize),
}

/// What is done to samples on their way into a batch, drawn anew each time for each member. Noise is the hyper-parameter `noise`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Augment {
    /// Moved by up to this many pixels in each direction; 0 comes in.
    pub shift: usize,
    /// Mirrored left to right, every other time.
    pub flip: bool,
    /// Padded by this many pixels of 0 and cut back to size at random.
    pub crop: usize,
}

/// On what members are trained.
#[derive(Debug, Clone, PartialEq)]
pub struct DataConfig {
    /// Samples to train on.
    pub source: Source,
    /// Samples to test on at the end.
    pub test: Option<Source>,
    /// What part of the training samples is kept for validation.
    pub validation: Option<Validation>,
    /// Whether the validation part is drawn at random; otherwise it is the last samples.
    pub shuffle: bool,
    /// The seed of that draw, and of synthetic sets.
    pub seed: u64,
    /// How inputs are normalised.
    pub normalise: Normalisation,
    /// How many classes there are, if not as many as labels appear.
    pub classes: Option<usize>,
    /// Samples of a synthetic set.
    pub samples: usize,
    /// Whether images come with channels first.
    pub channels_first: bool,
    /// What is done to samples.
    pub augment: Augment,
}

/// What [`DataConfig::load`] read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// To train on.
    pub train: Dataset,
    /// To choose by.
    pub validation: Option<Dataset>,
    /// To test on.
    pub test: Option<Dataset>,
    /// The characters of a text.
    pub vocabulary: Option<Vocabulary>,
}

const COMMON: &[&str] = &["format", "validation", "shuffle", "seed", "normalise", "classes", "layout", "augment"];
const FORMATS: &[(&str, &[&str])] = &[
    ("idx", &["inputs", "targets", "test_inputs", "test_targets"]),
    ("npy", &["inputs", "targets", "test_inputs", "test_targets"]),
    ("npz", &["file", "inputs", "targets", "test_file"]),
    ("csv", &["file", "target", "header", "task", "separator", "test_file"]),
    ("text", &["file", "test_file"]),
    ("blobs", &["samples", "features"]),
    ("images", &["samples", "side", "channels"]),
    ("points", &["samples", "points"]),
];

impl DataConfig {
    pub(super) fn parse(section: Section<'_>, folder: &Path, base: &mut Hyper) -> Result<Self> {
        let words: Vec<(&str, usize)> = FORMATS.iter().enumerate().map(|(i, (name, _))| (*name, i)).collect();
        let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
        let format = section.word("format", &words)?.ok_or_else(|| section.missing("format", &names.join(", ")))?;
        let (format, own) = FORMATS[format];
        section.only(&[COMMON, own].concat())?;
        let source = source(&section, format, folder, "")?.ok_or_else(|| {
            section.fault(section.table.at, format!("format \"{format}\" needs {}", own[..2].join(" and ")))
        })?;
        let layouts = [("nhwc", false), ("nchw", true)];
        let kinds =
            [("none", Normalisation::None), ("unit", Normalisation::Unit), ("standard", Normalisation::Standard)];
        Ok(Self {
            test: source_of_test(&section, format, folder)?,
            validation: validation(&section)?,
            shuffle: section.flag("shuffle")?.unwrap_or(format != "text"),
            seed: section.whole("seed", 0..=i64::MAX as u64)?.unwrap_or(0),
            normalise: section.word("normalise", &kinds)?.unwrap_or_default(),
            classes: size(&section, "classes")?,
            samples: size(&section, "samples")?.unwrap_or(1000),
            channels_first: section.word("layout", &layouts)?.unwrap_or(false),
            augment: augment(&section, base)?,
            source,
        })
    }

    /// Reads everything and splits it; `context` is the length of a window of text.
    ///
    /// # Errors
    /// Those of the readers in [`crate::train::data`].
    pub fn load(&self, context: usize) -> Result<Loaded> {
        let (whole, vocabulary) = self.read(&self.source, context, None)?;
        let test =
            self.test.as_ref().map(|s| self.read(s, context, vocabulary.as_ref())).transpose()?.map(|(set, _)| set);
        if let (Some(source), Some(test)) = (&self.test, &test) {
            check_test(source, test, &whole)?;
        }
        let (train, validation) = match self.validation {
            Some(v) => whole.split(v, self.shuffle.then_some(self.seed)).map(|(t, v)| (t, Some(v)))?,
            None => (whole, None),
        };
        Ok(Loaded { train, validation, test, vocabulary })
    }

    fn read(
        &self,
        source: &Source,
        context: usize,
        known: Option<&Vocabulary>,
    ) -> Result<(Dataset, Option<Vocabulary>)> {
        let (samples, seed, classes) = (self.samples, self.seed, self.classes.unwrap_or(4));
        let set = match source {
            Source::Idx(inputs, targets) => data::read_idx(inputs, targets)?,
            Source::Npy(inputs, targets) => data::read_npy(inputs, targets)?,
            Source::Npz(file, inputs, targets) => data::read_npz(file, inputs, targets)?,
            Source::Csv(file, options) => data::read_csv(file, options)?,
            Source::Text { file } => {
                return data::read_text(file, context, known).map(|(set, vocabulary)| (set, Some(vocabulary)));
            }
            Source::Synthetic(Synthetic::Blobs(features)) => synthetic::blobs(samples, *features, classes, 5.0, seed)?,
            Source::Synthetic(Synthetic::Images(side, channels)) => {
                synthetic::images(samples, *side, *channels, classes, seed)?
            }
            Source::Synthetic(Synthetic::Points(points)) => synthetic::point_clouds(samples, *points, classes, seed)?,
        };
        let set = match self.classes {
            Some(classes) => set.with_classes(classes).map_err(|e| source.of_targets(e))?,
            None => set,
        };
        let set = if self.channels_first { set.channels_last().map_err(|e| source.of_inputs(e))? } else { set };
        Ok((set, None))
    }
}

/// Whether a network that was trained on a set can be tried on another.
fn check_test(source: &Source, test: &Dataset, whole: &Dataset) -> Result<()> {
    let (found, wanted) = (test.sample_shape(), whole.sample_shape());
    if found != wanted {
        let what = format!("samples to test on have shape {found:?}, but those to train on have {wanted:?}");
        return Err(source.of_inputs(Error::bad_input(what).with_help("check that both files are of the same set")));
    }
    let (found, wanted) = (test.targets.outputs(), whole.targets.outputs());
    if found > wanted {
        let what =
            format!("samples to test on have {found} classes or values each, but those to train on have {wanted}");
        let help = "check that both files are of the same set; `classes` sets how many classes there are";
        return Err(source.of_targets(Error::bad_input(what).with_help(help)));
    }
    Ok(())
}

fn size(section: &Section<'_>, key: &str) -> Result<Option<usize>> {
    Ok(section.whole(key, 1..=1 << 30)?.and_then(|n| usize::try_from(n).ok()))
}

fn source_of_test(section: &Section<'_>, format: &str, folder: &Path) -> Result<Option<Source>> {
    match format {
        "blobs" | "images" | "points" => Ok(None),
        _ => source(section, format, folder, "test_"),
    }
}

/// The source that keys with a prefix name, or nothing if the first of them is not there.
fn source(section: &Section<'_>, format: &str, folder: &Path, prefix: &str) -> Result<Option<Source>> {
    let file = |key: &str| Ok::<_, Error>(section.text(&format!("{prefix}{key}"))?.map(|f| folder.join(f)));
    let one = |key: &str, default: usize| Ok::<_, Error>(size(section, key)?.unwrap_or(default));
    Ok(match format {
        "idx" | "npy" => match (file("inputs")?, file("targets")?) {
            (Some(inputs), Some(targets)) if format == "idx" => Some(Source::Idx(inputs, targets)),
            (Some(inputs), Some(targets)) => Some(Source::Npy(inputs, targets)),
            (None, None) => None,
            _ => {
                let message = format!("'{prefix}inputs' and '{prefix}targets' come together");
                return Err(section.fault(section.table.at, message));
            }
        },
        "npz" => {
            let name = |key: &str, default: &str| Ok::<_, Error>(section.text(key)?.unwrap_or(default).to_owned());
            let (inputs, targets) = (name("inputs", "x")?, name("targets", "y")?);
            file("file")?.map(|f| Source::Npz(f, inputs, targets))
        }
        "csv" => {
            let options = csv_options(section)?;
            file("file")?.map(|f| Source::Csv(f, options))
        }
        "text" => file("file")?.map(|file| Source::Text { file }),
        "blobs" => Some(Source::Synthetic(Synthetic::Blobs(one("features", 16)?))),
        "images" => Some(Source::Synthetic(Synthetic::Images(one("side", 32)?, one("channels", 3)?))),
        _ => Some(Source::Synthetic(Synthetic::Points(one("points", 256)?))),
    })
}

fn csv_options(section: &Section<'_>) -> Result<CsvOptions> {
    let target = match section.text("target")? {
        Some("first") => Column::First,
        None | Some("last") => Column::Last,
        Some(name) => Column::Named(name.to_owned()),
    };
    let separators = [(",", b','), (";", b';'), ("\t", b'\t'), (" ", b' ')];
    Ok(CsvOptions {
        target,
        header: section.flag("header")?,
        values: section.word("task", &[("classes", false), ("values", true)])?.unwrap_or(false),
        separator: section.word("separator", &separators)?,
        classes: size(section, "classes")?,
    })
}

/// A whole number is a count, any other a share.
fn validation(section: &Section<'_>) -> Result<Option<Validation>> {
    let wants = "a share below 1, such as 0.1, or a whole number of samples";
    let number = section.number("validation", wants, |x| x >= 0.0 && (x < 1.0 || x.fract() == 0.0))?;
    Ok(number.filter(|&x| x > 0.0).map(|x| if x < 1.0 { Validation::Share(x) } else { Validation::Count(x as usize) }))
}

fn augment(section: &Section<'_>, base: &mut Hyper) -> Result<Augment> {
    let Some(inner) = section.inner("augment", "[data] augment")? else { return Ok(Augment::default()) };
    inner.only(&["shift", "flip", "crop", "noise"])?;
    if let (Some(item), Some(key)) = (inner.item("noise"), Key::find("noise")) {
        base.set("noise", setting(&inner, key, item)?)?;
    }
    let pixels = |key: &str| Ok::<_, Error>(inner.whole(key, 0..=1024)?.map_or(0, |n| n as usize));
    Ok(Augment { shift: pixels("shift")?, flip: inner.flag("flip")?.unwrap_or(false), crop: pixels("crop")? })
}
