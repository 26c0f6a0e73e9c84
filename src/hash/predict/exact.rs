//! The exact ranking of all labels.

use super::top_k::{Ids, Ranking, TopK};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Control, Gpu, Recording};
use crate::ops::matmul::Matmul;
use crate::tensor::{ALIGNED, Tensor};

/// Labels of a chunk at most: on a software device, and on others.
const CHUNK: [usize; 2] = [4096, 32_768];
/// Logits that are stored at most, of all samples together.
const LOGITS: usize = 8 << 20;

/// Memory for exact rankings of batches of one size.
#[derive(Debug, Clone)]
pub struct Exact {
    /// The ranking.
    pub top: TopK,
    /// `[samples, chunk]`.
    logits: Tensor,
    chunk: usize,
}

impl Exact {
    /// For the best `k` of `labels` labels of each sample, with rows of `columns` elements.
    ///
    /// # Errors
    /// Those of [`TopK::new_async`].
    pub async fn new_async(gpu: &Gpu, samples: usize, labels: usize, columns: usize, k: usize) -> Result<Self> {
        let top = TopK::new_async(gpu, samples, k).await?;
        let chunk = chunk(gpu.caps(), samples, labels, columns);
        Ok(Self { top, logits: Tensor::uninit_async(gpu, &[samples, chunk]).await?, chunk })
    }

    /// Labels that are scored at a time.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Records the ranking of all labels for `hidden` `[samples, columns]` by the rows of `weights` `[labels, columns]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] for operands larger than a binding.
    pub fn record(&self, recording: &mut Recording, caps: &Caps, hidden: &Tensor, weights: &Tensor) -> Result<()> {
        let (&[samples, columns], &[labels, width]) = (hidden.shape(), weights.shape()) else {
            return Err(misfit(hidden, weights));
        };
        if columns != width || !width.is_multiple_of(4) || self.logits.shape()[0] != samples {
            return Err(misfit(hidden, weights));
        }
        self.top.clear(recording);
        for first in (0..labels).step_by(self.chunk) {
            let count = self.chunk.min(labels - first);
            let (Some(rows), Some(logits)) =
                (weights.at(first * width, &[count, width]), self.logits.view(&[samples, count]))
            else {
                return Err(misfit(hidden, weights));
            };
            Matmul { trans_b: true, ..Matmul::default() }.record(recording, caps, hidden, &rows, &logits)?;
            self.top.record(recording, caps, &logits, Ids::Consecutive(first))?;
        }
        Ok(())
    }
}

/// Labels of a chunk: a multiple of [`ALIGNED`], so that every chunk of rows may be bound where it lies.
fn chunk(caps: &Caps, samples: usize, labels: usize, columns: usize) -> usize {
    let bound = usize::try_from(caps.max_binding / 4).unwrap_or(usize::MAX);
    let most = CHUNK[usize::from(!caps.is_software())].min(bound / columns.max(1));
    let most = most.min(bound.min(LOGITS) / samples.max(1)) / ALIGNED * ALIGNED;
    most.min(labels.next_multiple_of(ALIGNED)).max(ALIGNED)
}

pub(super) fn misfit(hidden: &Tensor, weights: &Tensor) -> Error {
    Error::internal(format!("a ranking of {:?} by rows {:?}", hidden.shape(), weights.shape()))
}

/// The best `k` labels of each sample: `hidden` `[samples, columns]`, `weights` `[labels, columns]`.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] for another `k` than 1 to [`super::MAX_K`], or for a logit that is not finite; those of
/// [`Exact::record`] and [`Gpu::run_async`].
pub async fn exact_async(gpu: &Gpu, hidden: &Tensor, weights: &Tensor, k: usize, control: &Control) -> Result<Ranking> {
    let (&[samples, columns], Some(&labels)) = (hidden.shape(), weights.shape().first()) else {
        return Err(misfit(hidden, weights));
    };
    let exact = Exact::new_async(gpu, samples, labels, columns, k).await?;
    let mut recording = Recording::new();
    exact.record(&mut recording, gpu.caps(), hidden, weights)?;
    let tickets = exact.top.record_read(&mut recording);
    exact.top.take(&mut gpu.run_async(&recording, control).await?, tickets)
}

/// Blocking twin of [`exact_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn exact(gpu: &Gpu, hidden: &Tensor, weights: &Tensor, k: usize, control: &Control) -> Result<Ranking> {
    pollster::block_on(exact_async(gpu, hidden, weights, k, control))
}
