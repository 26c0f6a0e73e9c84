//! A data set on the device, and batches of it.

use ndarray::{Array2, ArrayD, ArrayViewD, Axis};

use super::batch::{self, Images, Pixels};
use super::data::{self, Dataset, Normaliser};
use super::loss::Loss;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Recording};
use crate::graph::Graph;
use crate::tensor::{Element, Tensor};

/// What a network shall say of each sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// A class of each sample.
    Classes {
        /// One a sample, below `classes`.
        labels: Vec<u32>,
        /// Number of classes.
        classes: usize,
    },
    /// A class of each position of each sample (language models).
    Tokens {
        /// `[samples, positions]`, below `classes`.
        labels: Array2<u32>,
        /// Number of classes.
        classes: usize,
    },
    /// Values, `[samples, outputs]`.
    Values(Array2<f32>),
}

/// How images are disturbed in training; other inputs are not. Random numbers come from each member's stream at its step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Augment {
    /// Largest shift in pixels, each way; what comes in from outside is 0 before scaling.
    pub shift: usize,
    /// Every second image is mirrored, left to right.
    pub flip: bool,
    /// Deviation of normal noise on every value.
    pub noise: f32,
}

impl Augment {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug)]
enum Inputs {
    /// `[samples, ..]` as the graph has them.
    Rows(Tensor),
    /// Pixels with their channels side by side.
    Floats(Tensor),
    /// The same, a byte a value.
    Bytes(Tensor<u32>),
}

#[derive(Debug)]
enum Answers {
    Classes(Tensor<u32>, usize),
    Tokens(Tensor<u32>, usize),
    Values(Tensor),
}

/// Answers of one batch.
#[derive(Debug, Clone)]
pub(super) enum Targets {
    /// `[slots or 1, batch]` or `[slots or 1, batch, positions]`.
    Classes(Tensor<u32>),
    /// `[slots or 1, batch, outputs]`.
    Values(Tensor),
}

impl Targets {
    /// The same for the first slots.
    pub fn front(&self, slots: usize) -> Self {
        fn rows<T: Element>(t: &Tensor<T>, slots: usize) -> Tensor<T> {
            t.view(&[&[slots], &t.shape()[1..]].concat()).unwrap_or_else(|| t.clone())
        }
        match self {
            Self::Classes(t) => Self::Classes(rows(t, slots)),
            Self::Values(t) => Self::Values(rows(t, slots)),
        }
    }
}

/// Samples and what is known of them, on a device.
#[derive(Debug)]
pub struct DeviceSet {
    inputs: Inputs,
    answers: Answers,
    /// Shape of a sample.
    shape: Vec<usize>,
    samples: usize,
    scale: [f32; 4],
    shift: [f32; 4],
}

impl DeviceSet {
    /// A set of floats, `[samples, ..]`; samples of three axes are images `[channels, rows, columns]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for numbers of labels that differ, labels out of range and values that are no numbers; memory errors.
    pub async fn new_async(gpu: &Gpu, inputs: &ArrayD<f32>, labels: Labels) -> Result<Self> {
        if let Some(at) = inputs.iter().position(|v| v.to_bits() & 0x7f80_0000 == 0x7f80_0000) {
            let sample = at / (inputs.len() / inputs.len_of(Axis(0)).max(1)).max(1);
            return Err(Error::bad_input(format!("sample {sample} holds a value that is no number"))
                .with_help("clean the data"));
        }
        let shape = sample_shape(inputs.shape())?;
        let samples = inputs.shape()[0];
        let inputs = if shape.len() == 3 {
            let rows: Vec<f32> = channels_last(&inputs.view()).collect();
            Inputs::Floats(Tensor::from_slice_async(gpu, &[samples, shape.iter().product()], &rows).await?)
        } else {
            let rows: Vec<f32> = inputs.iter().copied().collect();
            Inputs::Rows(Tensor::from_slice_async(gpu, &[&[samples], &shape[..]].concat(), &rows).await?)
        };
        let answers = Answers::new(gpu, labels, samples).await?;
        Ok(Self { inputs, answers, shape, samples, scale: [1.0; 4], shift: [0.0; 4] })
    }

    /// Blocking twin of [`DeviceSet::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, inputs: &ArrayD<f32>, labels: Labels) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, inputs, labels))
    }

    /// A set of images of bytes, `[samples, channels, rows, columns]`, each of which the device turns into `(byte / 255 - mean) / deviation` with the
    /// mean and the deviation of its channel.
    ///
    /// # Errors
    /// Those of [`DeviceSet::new_async`]; [`crate::ErrorKind::BadInput`] for deviations that are not positive and more than four channels.
    pub async fn from_bytes_async(
        gpu: &Gpu,
        inputs: &ArrayD<u8>,
        normal: &[(f32, f32)],
        labels: Labels,
    ) -> Result<Self> {
        let shape = sample_shape(inputs.shape())?;
        let (samples, len) = (inputs.shape()[0], shape.iter().product::<usize>());
        let wrong = shape.len() != 3 || shape[0] > 4 || normal.len() != shape[0];
        if wrong
            || normal.iter().any(|&(mean, deviation)| !(deviation > 0.0 && deviation.is_finite() && mean.is_finite()))
        {
            let what = format!("images of shape {shape:?} with means and deviations {normal:?}");
            return Err(Error::bad_input(what)
                .with_help("give [channels, rows, columns] with up to 4 channels, and a positive deviation for each"));
        }
        let rows: Vec<u8> = channels_last(&inputs.view()).collect();
        let words = batch::pack_bytes(&rows, len);
        let pixels = Tensor::from_slice_async(gpu, &[samples, len.div_ceil(4)], &words).await?;
        let (mut scale, mut shift) = ([1.0; 4], [0.0; 4]);
        for (channel, &(mean, deviation)) in normal.iter().enumerate() {
            (scale[channel], shift[channel]) = (1.0 / (255.0 * deviation), -mean / deviation);
        }
        let answers = Answers::new(gpu, labels, samples).await?;
        Ok(Self { inputs: Inputs::Bytes(pixels), answers, shape, samples, scale, shift })
    }

    /// Blocking twin of [`DeviceSet::from_bytes_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_bytes(gpu: &Gpu, inputs: &ArrayD<u8>, normal: &[(f32, f32)], labels: Labels) -> Result<Self> {
        pollster::block_on(Self::from_bytes_async(gpu, inputs, normal, labels))
    }

    /// A set as readers give it: images with their channels last, normalised on the device if they are bytes.
    ///
    /// # Errors
    /// Those of [`DeviceSet::new_async`].
    pub async fn from_dataset_async(gpu: &Gpu, set: &Dataset, normaliser: &Normaliser) -> Result<Self> {
        let (samples, own) = (set.len(), set.sample_shape());
        let shape = match *own {
            [h, w, c] => vec![c, h, w],
            _ => own.to_vec(),
        };
        let len: usize = own.iter().product();
        let labels = match &set.targets {
            data::Targets::Classes { labels, classes } => Labels::Classes { labels: labels.clone(), classes: *classes },
            data::Targets::Values(values) => Labels::Values(values.clone()),
            data::Targets::Tokens { tokens, vocabulary } => {
                Labels::Tokens { labels: tokens.clone(), classes: *vocabulary }
            }
        };
        let (mut scale, mut shift) = ([1.0; 4], [0.0; 4]);
        let inputs = match &set.inputs {
            data::Inputs::U8(bytes) if own.len() == 3 && own[2] <= 4 => {
                let rows: Vec<u8> = bytes.iter().copied().collect();
                for (channel, (&factor, &by)) in normaliser.scale.iter().zip(&normaliser.shift).enumerate() {
                    (scale[channel], shift[channel]) = (factor, by);
                }
                let words = batch::pack_bytes(&rows, len);
                Inputs::Bytes(Tensor::from_slice_async(gpu, &[samples, len.div_ceil(4)], &words).await?)
            }
            data::Inputs::Tokens(tokens) => {
                let rows: Vec<f32> = tokens.iter().map(|&token| token as f32).collect();
                Inputs::Rows(Tensor::from_slice_async(gpu, &[&[samples], own].concat(), &rows).await?)
            }
            numbers => {
                let rows: Vec<f32> = normaliser.apply(numbers)?.iter().copied().collect();
                match own.len() {
                    3 => Inputs::Floats(Tensor::from_slice_async(gpu, &[samples, len], &rows).await?),
                    _ => Inputs::Rows(Tensor::from_slice_async(gpu, &[&[samples], own].concat(), &rows).await?),
                }
            }
        };
        let answers = Answers::new(gpu, labels, samples).await?;
        Ok(Self { inputs, answers, shape, samples, scale, shift })
    }

    /// Blocking twin of [`DeviceSet::from_dataset_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_dataset(gpu: &Gpu, set: &Dataset, normaliser: &Normaliser) -> Result<Self> {
        pollster::block_on(Self::from_dataset_async(gpu, set, normaliser))
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        let inputs = match &self.inputs {
            Inputs::Rows(t) | Inputs::Floats(t) => t.buffer().size(),
            Inputs::Bytes(t) => t.buffer().size(),
        };
        let answers = match &self.answers {
            Answers::Classes(t, _) | Answers::Tokens(t, _) => t.buffer().size(),
            Answers::Values(t) => t.buffer().size(),
        };
        inputs + answers
    }

    /// Whether positions of samples have labels of their own.
    pub(super) fn has_tokens(&self) -> bool {
        matches!(self.answers, Answers::Tokens(..))
    }

    /// Whether samples that are none may fill a batch up: as labels they count for nothing, as values and positions they would.
    pub(super) fn can_be_ragged(&self) -> bool {
        matches!(self.answers, Answers::Classes(..))
    }

    /// The shape in which a loss compares outputs of `[batch * positions, columns]` with these answers.
    pub(super) fn output_shape(&self, slots: usize, batch: usize, [rows, columns]: [usize; 2]) -> Vec<usize> {
        if self.has_tokens() { vec![slots, batch, rows / batch, columns] } else { vec![slots, rows, columns] }
    }

    /// Refuses what does not fit a network and a loss.
    pub(super) fn check(&self, graph: &Graph, loss: Loss) -> Result<()> {
        let (input, output) = (&graph.value(graph.input).shape, &graph.value(graph.output).shape);
        let wanted = if input.len() > 1 { &input[1..] } else { input };
        if wanted != self.shape.as_slice() {
            return Err(Error::bad_input(format!("samples of shape {:?}, the network takes {wanted:?}", self.shape))
                .with_help("reshape the samples or change the network's input"));
        }
        let outputs = output.last().copied().unwrap_or(1);
        let positions: usize = output.iter().rev().skip(1).product();
        let fits = match (&self.answers, loss) {
            (Answers::Classes(_, classes), Loss::CrossEntropy { .. } | Loss::Certified) => {
                *classes <= outputs && positions == 1
            }
            (Answers::Tokens(t, classes), Loss::CrossEntropy { .. }) => *classes <= outputs && positions == t.columns(),
            (Answers::Values(t), Loss::MeanSquare | Loss::BinaryLogits) => t.columns() == outputs && positions == 1,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let what = match &self.answers {
            Answers::Classes(_, classes) => format!("labels of {classes} classes"),
            Answers::Tokens(t, classes) => format!("labels of {classes} classes at {} positions", t.columns()),
            Answers::Values(t) => format!("{} values a sample", t.columns()),
        };
        Err(Error::bad_input(format!("{what} do not fit an output of shape {output:?} and the loss {loss:?}"))
            .with_help(
                "cross-entropy and certified training take classes, the other losses values; the last axis of the output has the classes",
            ))
    }

    /// Memory for the answers of batches.
    pub(super) async fn targets_of_batch(&self, gpu: &Gpu, slots: usize, batch: usize) -> Result<Targets> {
        Ok(match &self.answers {
            Answers::Classes(..) => Targets::Classes(Tensor::uninit_async(gpu, &[slots, batch]).await?),
            Answers::Tokens(t, _) => Targets::Classes(Tensor::uninit_async(gpu, &[slots, batch, t.columns()]).await?),
            Answers::Values(t) => Targets::Values(Tensor::uninit_async(gpu, &[slots, batch, t.columns()]).await?),
        })
    }

    /// Records a batch: samples `ids` `[slots or 1, batch]` into `inputs`, their answers into `targets`.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        augment: &Augment,
        (ids, streams): (&Tensor<u32>, &Tensor<u32>),
        inputs: &Tensor,
        targets: &Targets,
    ) -> Result<()> {
        let pixels = match &self.inputs {
            Inputs::Rows(table) => {
                batch::rows(recording, caps, table, ids, inputs)?;
                None
            }
            Inputs::Floats(t) => Some(Pixels::Floats(t)),
            Inputs::Bytes(t) => Some(Pixels::Bytes(t)),
        };
        if let Some(pixels) = pixels {
            let size = [self.shape[1], self.shape[2], self.shape[0]];
            let set = Images { pixels, size, scale: self.scale, shift: self.shift };
            let Augment { shift: padding, flip, noise } = *augment;
            let augment = (!augment.is_none()).then_some(batch::Augment { streams, padding, flip, noise });
            batch::images(recording, caps, &set, ids, augment.as_ref(), inputs)?;
        }
        match (&self.answers, targets) {
            (Answers::Classes(t, _), Targets::Classes(out)) => batch::labels(recording, caps, t, ids, out),
            (Answers::Tokens(t, _), Targets::Classes(out)) => batch::rows(recording, caps, t, ids, out),
            (Answers::Values(t), Targets::Values(out)) => batch::rows(recording, caps, t, ids, out),
            _ => Err(Error::internal("targets of another set")),
        }
    }
}

impl Answers {
    async fn new(gpu: &Gpu, labels: Labels, samples: usize) -> Result<Self> {
        let count = match &labels {
            Labels::Classes { labels, .. } => labels.len(),
            Labels::Tokens { labels, .. } => labels.nrows(),
            Labels::Values(values) => values.nrows(),
        };
        if count != samples {
            return Err(Error::bad_input(format!("{samples} samples and answers to {count}"))
                .with_help("give one answer a sample"));
        }
        match labels {
            Labels::Classes { labels, classes } => {
                below(labels.iter(), classes, 1)?;
                Ok(Self::Classes(Tensor::from_slice_async(gpu, &[samples], &labels).await?, classes))
            }
            Labels::Tokens { labels, classes } => {
                below(labels.iter(), classes, labels.ncols())?;
                Ok(Self::Tokens(upload(gpu, &labels).await?, classes))
            }
            Labels::Values(values) => Ok(Self::Values(upload(gpu, &values).await?)),
        }
    }
}

async fn upload<T: Element>(gpu: &Gpu, table: &Array2<T>) -> Result<Tensor<T>> {
    let elements: Vec<T> = table.iter().copied().collect();
    Tensor::from_slice_async(gpu, table.shape(), &elements).await
}

fn below<'a>(mut labels: impl Iterator<Item = &'a u32>, classes: usize, positions: usize) -> Result<()> {
    match labels.position(|&label| label as usize >= classes) {
        None => Ok(()),
        Some(at) => {
            Err(Error::bad_input(format!("the label of sample {} is not below {classes}", at / positions.max(1)))
                .with_help("labels count from 0"))
        }
    }
}

fn sample_shape(shape: &[usize]) -> Result<Vec<usize>> {
    match shape {
        [samples, rest @ ..] if *samples > 0 && !rest.is_empty() && rest.iter().all(|&length| length > 0) => {
            Ok(rest.to_vec())
        }
        _ => Err(Error::bad_input(format!("a set of shape {shape:?}"))
            .with_help("give [samples, ..] with one sample or more")),
    }
}

/// Elements of `[samples, channels, rows, columns]` with the channels of a pixel side by side.
fn channels_last<'a, T: Copy>(images: &'a ArrayViewD<'a, T>) -> impl Iterator<Item = T> + 'a {
    images.outer_iter().flat_map(|image| {
        let [c, h, w] = [0, 1, 2].map(|axis| image.len_of(Axis(axis)));
        (0..h * w * c)
            .map(move |i| (i / c / w, i / c % w, i % c))
            .map(move |(y, x, c)| image[[c, y, x]])
            .collect::<Vec<_>>()
    })
}
