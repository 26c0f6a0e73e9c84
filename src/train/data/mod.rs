//! Data to train on: read from files into host arrays, checked, split and normalised.
//!
//! Formats are told by the function that is called; gzipped files of any of them are unpacked by content. Every reader checks what it
//! read: counts that differ, labels out of range, numbers that are none, ragged rows and empty files are errors that name the file,
//! the place and the next step.

mod csv;
mod idx;
mod normalise;
mod npy;
mod split;
pub mod synthetic;
mod text;

use ndarray::{Array2, ArrayD, Axis};

pub use self::csv::{Column, CsvOptions, read_csv};
pub use idx::read_idx;
pub use normalise::{Normalisation, Normaliser};
pub use npy::{read_npy, read_npz};
pub use split::Validation;
pub use text::{Vocabulary, read_text};

use crate::error::{Error, Result};

/// What goes into the network, samples along the first axis.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Inputs {
    /// Numbers.
    F32(ArrayD<f32>),
    /// Bytes, such as pixels: a quarter of the memory; [`Normaliser`] says what number a byte stands for.
    U8(ArrayD<u8>),
    /// Windows of text, `[samples, context]`, each token below [`Targets::Tokens`]'s `vocabulary`.
    Tokens(Array2<u32>),
}

/// What should come out, one entry (or row) a sample.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Targets {
    /// One class a sample.
    Classes {
        /// The class of each sample, below `classes`.
        labels: Vec<u32>,
        /// How many classes there are.
        classes: usize,
    },
    /// Numbers, `[samples, outputs]`.
    Values(Array2<f32>),
    /// The token that follows each token of the window, `[samples, context]`.
    Tokens {
        /// Next tokens.
        tokens: Array2<u32>,
        /// How many tokens there are.
        vocabulary: usize,
    },
}

/// Samples and what should come out for each. [`Dataset::new`] checks them.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// What goes in.
    pub inputs: Inputs,
    /// What should come out.
    pub targets: Targets,
    /// Names of the classes, where the file has names; empty otherwise.
    pub class_names: Vec<String>,
}

impl Inputs {
    /// Samples and the shape of one, `[samples, ..]`.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(a) => a.shape(),
            Self::U8(a) => a.shape(),
            Self::Tokens(a) => a.shape(),
        }
    }

    fn select(&self, samples: &[usize]) -> Self {
        match self {
            Self::F32(a) => Self::F32(a.select(Axis(0), samples)),
            Self::U8(a) => Self::U8(a.select(Axis(0), samples)),
            Self::Tokens(a) => Self::Tokens(a.select(Axis(0), samples)),
        }
    }

    /// The first sample that holds a number which is none, with its value.
    fn odd_number(&self) -> Option<(usize, f32)> {
        match self {
            Self::F32(a) => odd_number(a.iter(), a.len_of(Axis(0))),
            Self::U8(_) | Self::Tokens(_) => None,
        }
    }
}

/// The sample and value of the first number that is NaN or infinite, of numbers in row-major order.
fn odd_number<'a>(numbers: impl ExactSizeIterator<Item = &'a f32>, samples: usize) -> Option<(usize, f32)> {
    let each = (numbers.len() / samples.max(1)).max(1);
    numbers.enumerate().find(|(_, x)| !x.is_finite()).map(|(i, &x)| (i / each, x))
}

impl Targets {
    /// How many samples they are for.
    #[expect(clippy::len_without_is_empty, reason = "targets come with inputs; a data set is never empty")]
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Values(values) => values.nrows(),
            Self::Tokens { tokens, .. } => tokens.nrows(),
        }
    }

    /// How many numbers the network must put out for each sample (for each token of a text).
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes { classes, .. } => *classes,
            Self::Values(values) => values.ncols(),
            Self::Tokens { vocabulary, .. } => *vocabulary,
        }
    }

    fn select(&self, samples: &[usize]) -> Self {
        match self {
            Self::Classes { labels, classes } => {
                Self::Classes { labels: samples.iter().map(|&i| labels[i]).collect(), classes: *classes }
            }
            Self::Values(values) => Self::Values(values.select(Axis(0), samples)),
            Self::Tokens { tokens, vocabulary } => {
                Self::Tokens { tokens: tokens.select(Axis(0), samples), vocabulary: *vocabulary }
            }
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Classes { labels, classes } => {
                if let Some((sample, label)) = labels.iter().enumerate().find(|&(_, &l)| l as usize >= *classes) {
                    let last = classes.saturating_sub(1);
                    return Err(Error::bad_input(format!(
                        "the label of sample {sample} (from 0) is {label}, but {classes} classes have labels 0 to {last}"
                    ))
                    .with_help("correct the label, or say how many classes there are"));
                }
            }
            Self::Values(values) => {
                if let Some((sample, x)) = odd_number(values.iter(), values.nrows()) {
                    return Err(no_number("target", sample, x));
                }
            }
            Self::Tokens { tokens, vocabulary } => check_tokens(tokens, *vocabulary)?,
        }
        Ok(())
    }
}

fn check_tokens(tokens: &Array2<u32>, vocabulary: usize) -> Result<()> {
    match tokens.indexed_iter().find(|(_, t)| **t as usize >= vocabulary) {
        Some(((sample, at), token)) => Err(Error::bad_input(format!(
            "token {at} of sample {sample} (both from 0) is {token}, but the vocabulary has {vocabulary}"
        ))),
        None => Ok(()),
    }
}

fn no_number(what: &str, sample: usize, value: f32) -> Error {
    Error::bad_input(format!("the {what} of sample {sample} (from 0) holds {value}"))
        .with_help("remove the sample or fill in a number: one NaN would turn a whole member to NaN")
}

impl Dataset {
    /// Puts samples and targets together.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`]: no samples, empty samples, counts that differ, NaN or infinity, labels out of range.
    pub fn new(inputs: Inputs, targets: Targets) -> Result<Self> {
        let shape = inputs.shape();
        if shape.is_empty() || shape.contains(&0) || targets.outputs() == 0 {
            return Err(Error::bad_input(format!("there is nothing to train on: the inputs have shape {shape:?}"))
                .with_help("the first axis counts samples, and each sample needs at least one number and one output"));
        }
        if shape[0] != targets.len() {
            return Err(Error::bad_input(format!("{} samples, but {} targets", shape[0], targets.len()))
                .with_help("each sample needs one target: check that both files are of the same set"));
        }
        if let Some((sample, x)) = inputs.odd_number() {
            return Err(no_number("input", sample, x));
        }
        if let (Inputs::Tokens(tokens), Targets::Tokens { vocabulary, .. }) = (&inputs, &targets) {
            check_tokens(tokens, *vocabulary)?;
        }
        targets.check()?;
        Ok(Self { inputs, targets, class_names: vec![] })
    }

    /// How many samples there are; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// The shape of one sample.
    pub fn sample_shape(&self) -> &[usize] {
        &self.inputs.shape()[1..]
    }

    /// Some of the samples, in the order given (places from 0, below [`Dataset::len`]).
    #[must_use]
    pub fn select(&self, samples: &[usize]) -> Self {
        Self {
            inputs: self.inputs.select(samples),
            targets: self.targets.select(samples),
            class_names: self.class_names.clone(),
        }
    }

    /// Sets how many classes there are, for files in which not every class appears.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if a label is not below it, or the targets are no classes.
    pub fn with_classes(mut self, count: usize) -> Result<Self> {
        match &mut self.targets {
            Targets::Classes { classes, .. } => *classes = count,
            _ => {
                return Err(Error::bad_input("a number of classes was given, but the targets are no classes")
                    .with_help("leave `classes` out"));
            }
        }
        self.targets.check()?;
        Ok(self)
    }

    /// Images `[samples, channels, height, width]`, the order of torch and ONNX, as `[samples, height, width, channels]`, ours.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if samples have not three axes.
    pub fn channels_last(mut self) -> Result<Self> {
        if self.inputs.shape().len() != 4 {
            return Err(Error::bad_input(format!(
                "images with channels first have shape [samples, channels, height, width], but these inputs have {:?}",
                self.inputs.shape()
            ))
            .with_help("leave the layout out: it is for images alone"));
        }
        self.inputs = match self.inputs {
            Inputs::F32(a) => Inputs::F32(a.permuted_axes(vec![0, 2, 3, 1]).as_standard_layout().into_owned()),
            Inputs::U8(a) => Inputs::U8(a.permuted_axes(vec![0, 2, 3, 1]).as_standard_layout().into_owned()),
            tokens @ Inputs::Tokens(_) => tokens,
        };
        Ok(self)
    }
}

/// Labels as they stand in files, made classes `0..=largest`.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] for negative labels and for such beyond a million: those are values.
fn classes_of(labels: impl IntoIterator<Item = i64>) -> Result<Targets> {
    const MOST: u32 = 1_000_000;
    let labels = labels.into_iter().enumerate().map(|(sample, label)| {
        u32::try_from(label).ok().filter(|&l| l < MOST).ok_or_else(|| {
            Error::bad_input(format!("the label of sample {sample} (from 0) is {label}")).with_help(format!(
                "labels count from 0 and end below {MOST}; numbers to predict are `values`, not classes"
            ))
        })
    });
    let labels: Vec<u32> = labels.collect::<Result<_>>()?;
    let classes = labels.iter().max().map_or(0, |&l| l as usize + 1);
    Ok(Targets::Classes { labels, classes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, IxDyn, array};

    fn rows(n: usize) -> Inputs {
        Inputs::F32(ArrayD::from_shape_fn(IxDyn(&[n, 2]), |i| (i[0] * 2 + i[1]) as f32))
    }

    fn labels(list: &[u32], classes: usize) -> Targets {
        Targets::Classes { labels: list.to_vec(), classes }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let said = |inputs, targets| Dataset::new(inputs, targets).expect_err("must be refused").to_string();
        assert_eq!(said(rows(3), labels(&[0, 1], 2)), "3 samples, but 2 targets");
        let out = said(rows(2), labels(&[0, 2], 2));
        assert_eq!(out, "the label of sample 1 (from 0) is 2, but 2 classes have labels 0 to 1");
        assert!(said(rows(0), labels(&[], 2)).contains("nothing to train on"));
        let holed = Inputs::F32(array![[0.0, 1.0], [f32::NAN, 2.0]].into_dyn());
        assert_eq!(said(holed, labels(&[0, 1], 2)), "the input of sample 1 (from 0) holds NaN");
        let far = Targets::Values(array![[0.0], [f32::INFINITY]]);
        assert_eq!(said(rows(2), far), "the target of sample 1 (from 0) holds inf");
        let tokens = Targets::Tokens { tokens: array![[1, 2]], vocabulary: 3 };
        assert!(said(Inputs::Tokens(array![[1, 3]]), tokens).contains("the vocabulary has 3"));
    }

    #[test]
    fn parts_keep_samples_and_targets_together() {
        let set = Dataset::new(rows(4), labels(&[3, 2, 1, 0], 4)).expect("a set");
        let part = set.select(&[2, 0]);
        assert_eq!(part.inputs, Inputs::F32(array![[4.0, 5.0], [0.0, 1.0]].into_dyn()));
        assert_eq!(part.targets, labels(&[1, 3], 4));
        assert!(set.clone().with_classes(3).is_err());
        assert_eq!(set.with_classes(9).expect("more classes than appear").targets.outputs(), 9);
    }

    #[test]
    fn channels_move_to_the_end() {
        let images = ArrayD::from_shape_fn(IxDyn(&[2, 3, 4, 5]), |i| (i[0] * 60 + i[1] * 20 + i[2] * 5 + i[3]) as u8);
        let set = Dataset::new(Inputs::U8(images.clone()), labels(&[0, 1], 2)).expect("a set");
        let Inputs::U8(moved) = set.channels_last().expect("images").inputs else { panic!("bytes stay bytes") };
        assert_eq!(moved.shape(), [2, 4, 5, 3]);
        assert_eq!(moved[[1, 2, 3, 0]], images[[1, 0, 2, 3]]);
        assert!(moved.is_standard_layout());
        assert!(Dataset::new(rows(2), labels(&[0, 1], 2)).expect("a set").channels_last().is_err());
    }

    #[test]
    fn labels_of_files_count_from_zero() {
        assert_eq!(classes_of([2, 0]).expect("labels"), labels(&[2, 0], 3));
        assert_eq!(classes_of([0, -1]).expect_err("negative").message(), "the label of sample 1 (from 0) is -1");
        assert!(classes_of([5_000_000_000]).is_err());
    }
}
