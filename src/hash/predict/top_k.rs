//! A running ranking of labels on the device. Kernel: `top_k`.

use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Output, ReadTicket, Recording, params};
use crate::ops::gather::NOTHING;
use crate::ops::{bindable, word};
use crate::tensor::{Tensor, pitch};

const TOP_K: &str = include_str!("../../../shaders/hash/top_k.wgsl");

/// The most labels that a ranking holds.
pub const MAX_K: usize = 128;
/// Columns up to which a software device looks at few of them before it sorts for the first time.
const SHORT: usize = 2048;
/// Columns of a dispatch on a software device, of short rows and of long ones: see the kernel's header.
const SOFTWARE_COLUMNS: [usize; 2] = [2048, 4096];

params!(TopKParams { k: u32, n: u32, first: u32, start: u32, ld: u32, ld_list: u32, ld_best: u32, pad0: u32 });

/// Which labels the columns of logits are.
#[derive(Debug, Clone, Copy)]
pub enum Ids<'a> {
    /// Consecutive ones from this on, the same for every sample.
    Consecutive(usize),
    /// `[samples, columns]`: those of each sample, `u32::MAX` for none; each once.
    Listed(&'a Tensor<u32>),
    /// The same, and `[samples]`: how many columns of each sample there are; what is behind them may be undefined.
    Counted(&'a Tensor<u32>, &'a Tensor<u32>),
}

/// The `k` best labels of each sample so far.
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    /// `[samples, 2 k]`: keys and labels.
    best: Tensor<u32>,
    /// `[samples, 4]`: how many logits were not finite, and the complement of the first such label.
    faults: Tensor<u32>,
}

/// The best labels of samples, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// The most labels of a sample.
    pub k: usize,
    /// `[samples, k]`: labels, the best first; `u32::MAX` where a sample has fewer.
    pub labels: Vec<u32>,
    /// `[samples, k]`: their logits (-0 is 0).
    pub logits: Vec<f32>,
}

impl Ranking {
    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.labels.len() / self.k.max(1)
    }

    /// The labels of a sample, the best first.
    pub fn row(&self, sample: usize) -> &[u32] {
        let row = &self.labels[sample * self.k..][..self.k];
        &row[..row.iter().position(|&label| label == NOTHING).unwrap_or(self.k)]
    }

    /// The logits of [`Ranking::row`].
    pub fn row_logits(&self, sample: usize) -> &[f32] {
        &self.logits[sample * self.k..][..self.row(sample).len()]
    }
}

impl TopK {
    /// A ranking of `k` labels for each sample, with undefined contents.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] unless `k` is one of 1 to [`MAX_K`]; those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, samples: usize, k: usize) -> Result<Self> {
        if !(1..=MAX_K).contains(&k) {
            return Err(Error::bad_input(format!("the best {k} labels of a sample"))
                .with_help(format!("ask for 1 to {MAX_K} labels")));
        }
        let best = Tensor::uninit_async(gpu, &[samples, 2 * k]).await?;
        Ok(Self { k, best, faults: Tensor::uninit_async(gpu, &[samples, 4]).await? })
    }

    /// Records that nothing has been ranked yet.
    pub fn clear(&self, recording: &mut Recording) {
        recording.clear(self.best.binding());
        recording.clear(self.faults.binding());
    }

    /// Records that these logits `[samples, columns]` are ranked among those of before.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] for operands larger than a binding.
    pub fn record(&self, recording: &mut Recording, caps: &Caps, logits: &Tensor, ids: Ids<'_>) -> Result<()> {
        let samples = self.best.shape()[0];
        let &[rows, columns] = logits.shape() else {
            return Err(Error::internal(format!("a ranking of logits of shape {:?}", logits.shape())));
        };
        let (first, list, counts) = match ids {
            Ids::Consecutive(first) => (first, None, None),
            Ids::Listed(list) => (0, Some(list), None),
            Ids::Counted(list, counts) => (0, Some(list), Some(counts)),
        };
        let unlike = list.is_some_and(|list| list.shape() != logits.shape())
            || counts.is_some_and(|counts| counts.shape() != [samples]);
        if rows != samples || unlike {
            return Err(Error::internal(format!("a ranking of {samples} samples of logits {:?}", logits.shape())));
        }
        let mut bindings = vec![logits.binding(), self.best.binding(), self.faults.binding()];
        bindings.extend(list.map(Tensor::binding));
        bindings.extend(counts.map(Tensor::binding));
        bindable(caps, &bindings)?;
        word(first + columns)?;
        let short = columns <= SHORT || counts.is_some();
        let kernel = kernel(caps.is_software(), short, bindings.len() - 3);
        let step = if caps.is_software() { SOFTWARE_COLUMNS[usize::from(!short)] } else { columns.max(1) };
        for start in (0..columns).step_by(step) {
            let params = TopKParams {
                k: word(self.k)?,
                n: word(step.min(columns - start))?,
                first: word(first + start)?,
                start: word(start)?,
                ld: word(logits.row_stride())?,
                ld_list: word(list.map_or(0, Tensor::row_stride))?,
                ld_best: word(self.best.row_stride())?,
                ..Default::default()
            };
            self.dispatch(recording, caps, &kernel, &bindings, params)?;
        }
        Ok(())
    }

    /// One dispatch, or several where a grid cannot have as many workgroups as there are samples.
    fn dispatch(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        kernel: &Kernel,
        bindings: &[crate::gpu::Binding],
        params: TopKParams,
    ) -> Result<()> {
        let samples = word(self.best.shape()[0])?;
        if samples > caps.max_workgroups {
            return Err(Error::new(crate::ErrorKind::TooBig, format!("a ranking for {samples} samples at once"))
                .with_help(format!("rank at most {} samples at a time", caps.max_workgroups)));
        }
        let work = f64::from(samples) * f64::from(params.n) * 4.0;
        recording.dispatch(kernel, bindings.to_vec(), &params, Grid::Direct([samples, 1, 1]), work)
    }

    /// `[samples, 2 k]`: a key, 0 for an empty place, and a label for each place, the best first.
    pub(in crate::hash) fn words_of_best(&self) -> &Tensor<u32> {
        &self.best
    }

    /// Records a read of the ranking, for [`TopK::take`].
    pub fn record_read(&self, recording: &mut Recording) -> [ReadTicket; 2] {
        [self.best.record_read(recording), self.faults.record_read(recording)]
    }

    /// The ranking that was read.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if a logit was infinite or NaN, naming sample and label.
    pub fn take(&self, output: &mut Output, tickets: [ReadTicket; 2]) -> Result<Ranking> {
        self.take_of(output, tickets, |sample, label| format!("the logit of label {label} for sample {sample}"))
    }

    /// The same, with words for what is not finite: a row of the ranking and what is ranked.
    pub(in crate::hash) fn take_of(
        &self,
        output: &mut Output,
        [best, faults]: [ReadTicket; 2],
        words: impl Fn(usize, u32) -> String,
    ) -> Result<Ranking> {
        let faults: Vec<u32> = self.faults.take(output, faults);
        if let Some((sample, row)) = faults.chunks_exact(4).enumerate().find(|(_, row)| row[0] > 0) {
            let what = format!("{} is not finite ({} like it)", words(sample, !row[1]), row[0]);
            return Err(Error::bad_input(what).with_help(
                "the weights or the sample's values have overflowed: go back to an earlier checkpoint, or train with a lower rate",
            ));
        }
        let best: Vec<u32> = self.best.take(output, best);
        let pairs = best.chunks_exact(2).map(|pair| match pair[0] {
            0 => (NOTHING, 0.0),
            key => (pair[1], number(key)),
        });
        let (labels, logits) = pairs.unzip();
        Ok(Ranking { k: self.k, labels, logits })
    }

    /// Words of memory on the device for `samples` samples.
    pub fn words(samples: usize, k: usize) -> usize {
        samples * (pitch(2 * k) + 4)
    }
}

/// The number that a key stands for.
fn number(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key ^ 0x8000_0000 } else { !key })
}

/// The kernel for short rows or long ones, with so many of the lists that say which labels there are.
fn kernel(software: bool, short: bool, lists: usize) -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Write, Access::Read, Access::Read];
    let (lanes, vectors) = match (software, short) {
        (false, _) => (128, 1),
        (true, false) => (8, 4),
        (true, true) => (8, 1),
    };
    Kernel::new::<TopKParams>("top_k", TOP_K, &bindings[..3 + lists])
        .define("LANES", lanes)
        .define("VECTORS", vectors)
        .flag("LISTED", lists > 0)
        .flag("COUNTED", lists > 1)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let devices = [(false, false), (true, false), (true, true)];
    devices.into_iter().flat_map(|(software, short)| [0, 1, 2].map(|lists| kernel(software, short, lists))).collect()
}
