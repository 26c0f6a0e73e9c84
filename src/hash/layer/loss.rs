//! The loss over the active labels and its gradient. Kernels: `active_loss`, `loss_mean`.

use std::ops::Range;

use super::{Active, DeviceBatch, misfit};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Binding, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, windows, word};
use crate::tensor::Tensor;

const ACTIVE_LOSS: &str = include_str!("../../../shaders/hash/active_loss.wgsl");
const LOSS_MEAN: &str = include_str!("../../../shaders/hash/loss_mean.wgsl");
/// Bits of a word of faults: a logit that is NaN or infinite; a label of a sample that is not among its active labels.
const BROKEN: u32 = 1;
const MISSING: u32 = 2;

params!(ActiveLossParams {
    places: u32,
    quads: u32,
    sample: u32,
    ids_pitch: u32,
    scale: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(LossMeanParams { samples: u32, place: u32, scale: f32, pad: u32 });

/// What a network is trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Cross-entropy of the softmax over the active labels, each of a sample's n labels being wanted with 1 / n. A sample without labels
    /// has no loss.
    Softmax,
    /// Binary cross-entropy of every active label by itself, summed.
    Bce,
}

/// The loss of a step.
#[derive(Debug, Clone, Copy)]
pub struct LossStep<'a> {
    /// Which.
    pub loss: Loss,
    /// `[N]`, by label: what is taken from its logit before the softmax (the logarithm of how often it is expected in a set).
    pub correction: Option<&'a Tensor>,
    /// The labels that the logits belong to.
    pub active: Active<'a>,
    /// The samples' labels.
    pub batch: &'a DeviceBatch,
    /// `[B, A]`, which becomes the gradient of the mean over the batch.
    pub logits: &'a Tensor,
    /// `[B]`: the loss of each sample.
    pub losses: &'a Tensor,
    /// One word or more: what is wrong is added to the first, and never taken away ([`check`]).
    pub faults: &'a Tensor<u32>,
}

impl LossStep<'_> {
    /// Records losses and gradients.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for more samples than a grid holds.
    pub fn record(&self, recording: &mut Recording, caps: &Caps) -> Result<()> {
        let (logits, samples) = (self.logits, self.batch.samples);
        let active = logits.columns();
        let ids = self.ids()?;
        let mut strides = vec![logits.row_stride()];
        let mut whole = vec![logits.binding()];
        if let Some((ids, stride)) = ids {
            strides.push(stride);
            whole.push(ids.binding());
        }
        let kernel = loss_kernel(self.loss, lanes(active), ids.is_some(), self.correction.is_some());
        for range in windows::ranges(samples, &strides, &whole, caps.max_binding)? {
            if range.len() > caps.max_workgroups as usize {
                let what = format!("{samples} samples are more than {} workgroups", caps.max_workgroups);
                return Err(Error::new(ErrorKind::TooBig, what).with_help("use a smaller batch"));
            }
            let params = ActiveLossParams {
                places: word(active)?,
                quads: word(logits.row_stride() / 4)?,
                sample: word(range.start)?,
                ids_pitch: word(ids.map_or(0, |(_, stride)| stride))?,
                scale: 1.0 / samples as f32,
                ..Default::default()
            };
            let bindings = self.bindings(&range, ids)?;
            bindable(caps, &bindings)?;
            let work = 60.0 * (range.len() * active) as f64;
            recording.dispatch(&kernel, bindings, &params, Grid::Direct([word(range.len())?, 1, 1]), work)?;
        }
        Ok(())
    }

    /// The list of active labels, if there is one, and words from a sample's to the next one's; refuses shapes that do not fit.
    fn ids(&self) -> Result<Option<(&Tensor<u32>, usize)>> {
        let (logits, samples) = (self.logits, self.batch.samples);
        let &[rows, active] = logits.shape() else { return Err(misfit("loss", logits.shape(), &[samples])) };
        let corrected = self.correction.is_none_or(|_| self.loss == Loss::Softmax);
        if rows != samples || active == 0 || self.losses.shape() != [samples] || self.faults.is_empty() || !corrected {
            return Err(misfit("loss", logits.shape(), self.losses.shape()));
        }
        match self.active {
            Active::All => Ok(None),
            Active::Shared(ids) if ids.shape() == [active] => Ok(Some((ids, 0))),
            Active::Own(ids) if ids.shape() == [rows, active] => Ok(Some((ids, ids.row_stride()))),
            Active::Shared(ids) | Active::Own(ids) => Err(misfit("loss", ids.shape(), logits.shape())),
        }
    }

    /// What is bound for a range of samples.
    fn bindings(&self, range: &Range<usize>, ids: Option<(&Tensor<u32>, usize)>) -> Result<Vec<Binding>> {
        let (logits, samples) = (self.logits, self.batch.samples);
        let mut bindings = vec![windows::binding(logits, range, logits.row_stride(), samples)?];
        bindings.extend([&self.batch.label_offsets, &self.batch.labels].map(Tensor::binding));
        bindings.extend([self.losses.binding(), self.faults.binding()]);
        if let Some((ids, stride)) = ids {
            bindings.push(windows::binding(ids, range, stride, samples)?);
        }
        bindings.extend(self.correction.map(Tensor::binding));
        Ok(bindings)
    }
}

/// Records `means[place] =` the mean of `losses` `[B]`, a step's loss, in a list of steps.
///
/// # Errors
/// [`ErrorKind::Internal`] if the list has no such place.
pub fn mean(recording: &mut Recording, losses: &Tensor, means: &Tensor, place: usize) -> Result<()> {
    let &[samples] = losses.shape() else { return Err(misfit("mean", losses.shape(), means.shape())) };
    if means.shape().len() != 1 || place >= means.len() || samples == 0 {
        return Err(misfit("mean", losses.shape(), means.shape()));
    }
    let params = LossMeanParams {
        samples: word(samples)?,
        place: word(place)?,
        scale: 1.0 / samples as f32,
        ..Default::default()
    };
    let bindings = vec![losses.binding(), means.binding()];
    recording.dispatch(&mean_kernel(), bindings, &params, Grid::Direct([1, 1, 1]), samples as f64)
}

/// What the word of faults says, once the host has it.
///
/// # Errors
/// [`ErrorKind::BadInput`] where training has left the numbers, [`ErrorKind::Internal`] if a label was not among the active ones.
pub fn check(faults: u32) -> Result<()> {
    if faults & MISSING != 0 {
        return Err(Error::internal("a label of a sample is not among its active labels"));
    }
    if faults & BROKEN != 0 {
        return Err(Error::bad_input("training diverged: a logit is NaN or infinite")
            .with_help("go on from the last checkpoint with a lower learning rate, and see whether values of features are very large"));
    }
    Ok(())
}

/// Invocations of a workgroup. Part of the order of summation: it depends on the number of active labels alone.
fn lanes(active: usize) -> u32 {
    if active <= 4096 { 64 } else { 256 }
}

fn loss_kernel(loss: Loss, lanes: u32, ids: bool, corrected: bool) -> Kernel {
    let mut bindings = vec![Access::Write, Access::Read, Access::Read, Access::Write, Access::Write];
    bindings.resize(5 + usize::from(ids), Access::Read);
    let place = bindings.len();
    let span = if lanes == 64 { 8 } else { 16 };
    if corrected {
        bindings.push(Access::Read);
    }
    let kernel = Kernel::new::<ActiveLossParams>("active_loss", ACTIVE_LOSS, &bindings)
        .define("LANES", lanes)
        .define("SPAN", span)
        .flag("SOFTMAX", loss == Loss::Softmax)
        .flag("IDS", ids);
    if corrected { kernel.define("CORRECTED", place) } else { kernel }
}

fn mean_kernel() -> Kernel {
    Kernel::new::<LossMeanParams>("loss_mean", LOSS_MEAN, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let mut all = vec![mean_kernel()];
    for lanes in [64, 256] {
        for ids in [false, true] {
            all.push(loss_kernel(Loss::Bce, lanes, ids, false));
            all.extend([false, true].map(|corrected| loss_kernel(Loss::Softmax, lanes, ids, corrected)));
        }
    }
    all
}
