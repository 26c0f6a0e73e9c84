//! Active labels of a step, chosen on the device without waiting for the host.
//!
//! A [`SharedSet`] is one set for the whole batch, [`SampleSets`] has one for each sample. Both hold the labels first, then
//! candidates (from hash tables, neighbours of the labels, or [`Draws`] of a distribution), then labels at random, and have
//! exactly the size that was asked for. Ids come in ascending order, without doubles.
//!
//! What is random depends on seed and step alone: orders are one-to-one functions with keys of a step ([`Order`]), so that
//! what fills a set is distinct by construction, and low ids are worth as much as high ones. Counting is done by integers
//! whose sums do not depend on who comes first. [`twin`] has the same on the host, written to be read; both agree bit for bit.

mod draws;
mod samples;
mod shared;
mod shuffle;
pub mod twin;

pub use draws::{Distribution, Draws, Negatives, log_inclusion};
pub use samples::{SampleCandidates, SampleChoice, SampleSets};
pub use shared::{Candidates, Choice, SharedSet};
pub use shuffle::Order;

use super::{Batch, Touched};
use crate::error::{Error, Result};
use crate::gpu::Kernel;
use crate::tensor::Tensor;

/// No id: what a list of candidates holds where it has none.
pub const NONE: u32 = u32::MAX;

/// The active labels of a step, on the device.
#[derive(Debug, Clone)]
pub struct ActiveSet {
    /// `[size]`, or `[samples, size]` for sets of samples: ascending (in each row), distinct.
    pub ids: Tensor<u32>,
    /// The rows of the output table that they are. Of a shared set, row i has the one entry i.
    pub touched: Touched,
    /// Of sets of samples, `[samples * size]`: the pair (`sample * size + place`) that each entry of `touched` is.
    pub order: Option<Tensor<u32>>,
    /// `[4]`: how many active labels are labels of the batch, candidates, and fill, over all samples; and how many rows are touched.
    pub statistics: Tensor<u32>,
}

/// Labels of a batch on the device, and what the host knows about them.
#[derive(Debug, Clone, Copy)]
pub struct BatchLabels<'a> {
    /// `[samples + 1]`, or longer: [`Batch::label_offsets`].
    pub offsets: &'a Tensor<u32>,
    /// `[entries]`, or longer: [`Batch::labels`].
    pub ids: &'a Tensor<u32>,
    /// Number of samples.
    pub samples: usize,
    /// Number of labels of all samples.
    pub entries: usize,
    /// Number of different ones.
    pub distinct: usize,
    /// Labels of the sample that has most.
    pub longest: usize,
}

impl<'a> BatchLabels<'a> {
    /// Of a batch whose fields the tensors hold at their fronts.
    pub fn new(batch: &Batch, offsets: &'a Tensor<u32>, ids: &'a Tensor<u32>) -> Self {
        let (samples, entries) = (batch.samples, batch.labels.len());
        Self { offsets, ids, samples, entries, distinct: batch.distinct_labels(), longest: batch.most_labels() }
    }

    fn check(&self) -> Result<()> {
        if self.offsets.len() <= self.samples || self.ids.len() < self.entries {
            return Err(Error::internal(format!("{} labels in memory for {}", self.entries, self.ids.len())));
        }
        Ok(())
    }
}

/// Bits of ids below `n`.
fn bits_of(n: usize) -> u32 {
    usize::BITS - n.saturating_sub(1).leading_zeros()
}

/// Refuses numbers of labels that the orders do not reach.
fn check_labels(labels: usize, size: usize) -> Result<()> {
    if labels > 1 << 31 {
        let what = format!("active sets of {labels} labels, of which there may be 2^31");
        return Err(Error::new(crate::ErrorKind::TooBig, what).with_help("split the labels into several layers"));
    }
    if size == 0 || size > labels {
        return Err(Error::bad_input(format!("{size} active labels of {labels}"))
            .with_help("choose a number of active labels from 1 to the number of labels"));
    }
    Ok(())
}

/// A set cannot hold the labels of its batch.
fn too_few(size: usize, labels: usize) -> Error {
    Error::bad_input(format!("{size} active labels for a batch with {labels} different labels"))
        .with_help("have more active labels, or smaller batches")
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [shared::catalogue(), draws::catalogue(), samples::catalogue()].concat()
}
