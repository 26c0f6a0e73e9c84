//! The ranking of candidates alone. Kernels: `candidate_marks`, `candidate_logits`.

use super::exact::misfit;
use super::top_k::{Ids, Ranking, TopK};
use crate::error::Result;
use crate::gpu::{Access, Caps, Control, Gpu, Grid, Kernel, Recording, params};
use crate::ops::{bindable, strided_grid, windows, word};
use crate::tensor::{Tensor, pitch};

const CANDIDATE_MARKS: &str = include_str!("../../../shaders/hash/candidate_marks.wgsl");
const CANDIDATE_LOGITS: &str = include_str!("../../../shaders/hash/candidate_logits.wgsl");

params!(MarksParams {
    len: u32,
    threads: u32,
    candidates: u32,
    ld: u32,
    ld_seen: u32,
    labels: u32,
    pad0: u32,
    pad1: u32,
});
params!(LogitsParams {
    len: u32,
    threads: u32,
    candidates: u32,
    ld: u32,
    first: u32,
    rows: u32,
    width4: u32,
    pad0: u32,
});

/// Memory for rankings of candidates, for batches of one size.
#[derive(Debug, Clone)]
pub struct Sparse {
    /// The ranking.
    pub top: TopK,
    /// `[samples]`: how many labels were scored, each counted once.
    pub scored: Tensor<u32>,
    labels: usize,
    /// `[samples, ceil(labels / 32)]`: a bit a label.
    seen: Tensor<u32>,
    /// `[samples, candidates]`: every candidate once.
    kept: Tensor<u32>,
    /// `[samples, candidates]`.
    logits: Tensor,
}

impl Sparse {
    /// For the best `k` of `candidates` ids of each sample, which are below `labels`.
    ///
    /// # Errors
    /// Those of [`TopK::new_async`].
    pub async fn new_async(gpu: &Gpu, samples: usize, candidates: usize, labels: usize, k: usize) -> Result<Self> {
        Ok(Self {
            top: TopK::new_async(gpu, samples, k).await?,
            scored: Tensor::uninit_async(gpu, &[samples]).await?,
            labels,
            seen: Tensor::uninit_async(gpu, &[samples, labels.div_ceil(32)]).await?,
            kept: Tensor::uninit_async(gpu, &[samples, candidates]).await?,
            logits: Tensor::uninit_async(gpu, &[samples, candidates]).await?,
        })
    }

    /// Words that a sample takes of the largest binding.
    pub(in crate::hash) fn widest(candidates: usize, labels: usize) -> usize {
        pitch(candidates).max(pitch(labels.div_ceil(32)))
    }

    /// Records the ranking of `candidates` `[samples, candidates]` for `hidden` `[samples, columns]` by the rows of `weights` `[labels, columns]`.
    /// Candidates may repeat; ids that are no label are left out.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] for operands larger than a binding.
    pub fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        hidden: &Tensor,
        weights: &Tensor,
        candidates: &Tensor<u32>,
    ) -> Result<()> {
        let (&[samples, columns], &[labels, width]) = (hidden.shape(), weights.shape()) else {
            return Err(misfit(hidden, weights));
        };
        let fits = columns == width && width.is_multiple_of(4) && labels == self.labels;
        if !fits || candidates.shape() != self.kept.shape() || self.kept.shape()[0] != samples {
            return Err(misfit(hidden, weights));
        }
        self.mark(recording, caps, candidates)?;
        for range in windows::ranges(labels, &[width], &[weights.binding()], caps.max_binding)? {
            let (threads, grid) = self.grid(caps)?;
            let params = LogitsParams {
                len: word(self.kept.len())?,
                threads,
                candidates: word(self.kept.columns())?,
                ld: word(self.kept.row_stride())?,
                first: word(range.start)?,
                rows: word(range.len())?,
                width4: word(width / 4)?,
                ..Default::default()
            };
            let rows = windows::binding(weights, &range, width, labels)?;
            let bindings = vec![hidden.binding(), rows, self.kept.binding(), self.logits.binding()];
            bindable(caps, &bindings)?;
            let work = 2.0 * (self.kept.len() * width) as f64;
            recording.dispatch(&logits_kernel(), bindings, &params, grid, work)?;
        }
        self.top.clear(recording);
        self.top.record(recording, caps, &self.logits, Ids::Listed(&self.kept))
    }

    /// Records what leaves every candidate once.
    fn mark(&self, recording: &mut Recording, caps: &Caps, candidates: &Tensor<u32>) -> Result<()> {
        recording.clear(self.seen.binding());
        recording.clear(self.scored.binding());
        let (threads, grid) = self.grid(caps)?;
        let params = MarksParams {
            len: word(self.kept.len())?,
            threads,
            candidates: word(self.kept.columns())?,
            ld: word(self.kept.row_stride())?,
            ld_seen: word(self.seen.row_stride())?,
            labels: word(self.labels)?,
            ..Default::default()
        };
        let bindings = vec![candidates.binding(), self.seen.binding(), self.kept.binding(), self.scored.binding()];
        bindable(caps, &bindings)?;
        recording.dispatch(&marks_kernel(), bindings, &params, grid, 4.0 * self.kept.len() as f64)
    }

    fn grid(&self, caps: &Caps) -> Result<(u32, Grid)> {
        let (groups, threads) = strided_grid(self.kept.len(), caps.max_workgroups)?;
        Ok((threads, Grid::Direct([groups, 1, 1])))
    }
}

/// The best `k` of the candidates `[samples, candidates]` of each sample, and how many labels were scored for each.
///
/// # Errors
/// As [`super::exact_async`].
pub async fn sparse_async(
    gpu: &Gpu,
    hidden: &Tensor,
    weights: &Tensor,
    candidates: &Tensor<u32>,
    k: usize,
    control: &Control,
) -> Result<(Ranking, Vec<u32>)> {
    let (&[samples, count], Some(&labels)) = (candidates.shape(), weights.shape().first()) else {
        return Err(misfit(hidden, weights));
    };
    let sparse = Sparse::new_async(gpu, samples, count, labels, k).await?;
    let mut recording = Recording::new();
    sparse.record(&mut recording, gpu.caps(), hidden, weights, candidates)?;
    let tickets = sparse.top.record_read(&mut recording);
    let scored = sparse.scored.record_read(&mut recording);
    let mut output = gpu.run_async(&recording, control).await?;
    Ok((sparse.top.take(&mut output, tickets)?, sparse.scored.take(&mut output, scored)))
}

/// Blocking twin of [`sparse_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn sparse(
    gpu: &Gpu,
    hidden: &Tensor,
    weights: &Tensor,
    candidates: &Tensor<u32>,
    k: usize,
    control: &Control,
) -> Result<(Ranking, Vec<u32>)> {
    pollster::block_on(sparse_async(gpu, hidden, weights, candidates, k, control))
}

fn marks_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Write, Access::Write];
    Kernel::new::<MarksParams>("candidate_marks", CANDIDATE_MARKS, &bindings)
}

fn logits_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    Kernel::new::<LogitsParams>("candidate_logits", CANDIDATE_LOGITS, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![marks_kernel(), logits_kernel()]
}
