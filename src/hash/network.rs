//! A network of two tables: asking it, exactly or through a short list, and measuring how good that is.

use web_time::Instant;

use super::layer::{self, DeviceBatch, Hidden, shared};
use super::options::Options;
use super::predict::{Exact, Ranking};
use super::quality::{Quality, Sums};
use super::shortlist::{Index, Room, Shortlist};
use super::{Batch, Rows, SparseSet, Storage, width};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu, Recording};
use crate::ops::word;
use crate::tensor::{ALIGNED, Tensor};

/// Samples that are asked at once, at most.
const TOGETHER: usize = 256;

/// A network on a device.
#[derive(Debug)]
pub struct Network {
    gpu: Gpu,
    hidden: Hidden,
    /// `[features + 1, width]`: a row a feature, the bias last.
    pub input: Rows,
    /// `[labels, width]`: a row a label, its bias behind the hidden elements.
    pub output: Rows,
}

/// Rows that are brought from bf16 to f32 at a time; a multiple of what bindings are aligned to.
const EXPANDED: usize = 1 << 14;

/// Memory for asking batches of one size.
struct Desk {
    /// Rows of all labels in f32.
    rows: Tensor,
    batch: DeviceBatch,
    h: Tensor,
    exact: Option<Exact>,
    sparse: Option<Room>,
}

impl Network {
    /// A network with random weights: normal with the options' deviation, biases 0.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for options that cannot be had, and those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, features: usize, labels: usize, options: &Options) -> Result<Self> {
        let network = Self::uninit_async(gpu, features, labels, options, options.rule.states()).await?;
        let hidden = options.hidden;
        network.input.start_async(gpu, options.seed, options.deviation, hidden).await?;
        network.output.start_async(gpu, options.seed, options.deviation, hidden).await?;
        Ok(network)
    }

    /// A network with undefined contents.
    pub(super) async fn uninit_async(
        gpu: &Gpu,
        features: usize,
        labels: usize,
        options: &Options,
        states: usize,
    ) -> Result<Self> {
        if features == 0 || labels == 0 {
            return Err(Error::bad_input(format!("a network of {features} features and {labels} labels"))
                .with_help("a set needs at least one feature and one label"));
        }
        let columns = width(options.hidden);
        let rows = async |rows: usize, table: u32| {
            Rows::stored_async(gpu, rows, columns, states, options.storage, table).await
        };
        let (input, output) = (rows(features + 1, 0).await?, rows(labels, 1).await?);
        let hidden = Hidden { elements: options.hidden, relu: options.relu };
        Ok(Self { gpu: gpu.clone(), hidden, input, output })
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The hidden layer.
    pub fn hidden(&self) -> Hidden {
        self.hidden
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.input.len() - 1
    }

    /// Number of labels.
    pub fn labels(&self) -> usize {
        self.output.len()
    }

    /// The best `k` labels with their logits of every sample of a set, all or those of a short list. Rows must be up to date.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for samples with features that the network does not have; those of the device.
    pub async fn predict_async(
        &self,
        set: &SparseSet,
        k: usize,
        shortlist: Option<&Shortlist>,
        control: &Control,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        let index = match shortlist {
            Some(shortlist) => Some(Index::new_async(self, shortlist, TOGETHER, control).await?),
            None => None,
        };
        let chosen: Vec<u32> = (0..word(set.len())?).collect();
        let mut best = Vec::with_capacity(set.len());
        let mut desk = None;
        for some in chosen.chunks(self.together(index.as_ref())?) {
            let (ranking, _) = self.rank_async(&mut desk, set, some, k, index.as_ref(), control).await?;
            let row = |i| ranking.row(i).iter().copied().zip(ranking.row_logits(i).iter().copied()).collect();
            best.extend((0..some.len()).map(row));
            control.report("asking", best.len() as u64, set.len() as u64, "samples");
        }
        Ok(best)
    }

    /// Blocking twin of [`Network::predict_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn predict(
        &self,
        set: &SparseSet,
        k: usize,
        shortlist: Option<&Shortlist>,
        control: &Control,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        pollster::block_on(self.predict_async(set, k, shortlist, control))
    }

    /// Precision of the exact ranking for samples `chosen` of a set, and of short lists beside it. Rows must be up to date.
    ///
    /// # Errors
    /// As [`Network::predict_async`].
    pub async fn quality_async(
        &self,
        set: &SparseSet,
        chosen: &[u32],
        shortlist: Option<&Shortlist>,
        control: &Control,
    ) -> Result<Quality> {
        let built = Instant::now();
        let index = match shortlist {
            Some(shortlist) => Some(Index::new_async(self, shortlist, TOGETHER, control).await?),
            None => None,
        };
        let build_seconds = built.elapsed().as_secs_f64();
        let (mut sums, mut desk) = (Sums::new(self.labels()), None);
        let deep = sums.deep();
        let together = self.together(index.as_ref())?;
        if let (Some(_), Some(some)) = (&index, chosen.chunks(together).next()) {
            // Neither way pays for memory and kernels that both need.
            for index in [None, index.as_ref()] {
                self.rank_async(&mut desk, set, some, deep, index, control).await?;
            }
        }
        for some in chosen.chunks(together) {
            let start = Instant::now();
            let (best, _) = self.rank_async(&mut desk, set, some, deep, None, control).await?;
            sums.add_exact(set, some, &best, start.elapsed())?;
            if index.is_some() {
                let start = Instant::now();
                let (found, scored) = self.rank_async(&mut desk, set, some, deep, index.as_ref(), control).await?;
                sums.add_sparse(set, some, (&best, &found), scored, start.elapsed())?;
            }
            control.report("asking", sums.samples() as u64, chosen.len() as u64, "samples");
        }
        Ok(sums.quality(index.map(|_| build_seconds)))
    }

    /// Blocking twin of [`Network::quality_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn quality(
        &self,
        set: &SparseSet,
        chosen: &[u32],
        shortlist: Option<&Shortlist>,
        control: &Control,
    ) -> Result<Quality> {
        pollster::block_on(self.quality_async(set, chosen, shortlist, control))
    }

    /// Samples that are asked at once.
    fn together(&self, index: Option<&Index>) -> Result<usize> {
        index.map_or(Ok(TOGETHER), |index| index.together(self.gpu.caps(), TOGETHER))
    }

    /// The ranking of some samples, and how many labels were scored.
    async fn rank_async(
        &self,
        desk: &mut Option<Desk>,
        set: &SparseSet,
        chosen: &[u32],
        k: usize,
        index: Option<&Index>,
        control: &Control,
    ) -> Result<(Ranking, u64)> {
        if set.feature_count > self.features() {
            let what = format!("samples of {} features for a network of {}", set.feature_count, self.features());
            return Err(Error::bad_input(what).with_help("give samples of the set that the network was trained on"));
        }
        // The bias is the row behind the network's features, however many the set counts.
        let batch = Batch::with_bias(set, chosen, self.features())?;
        let desk = self.desk_async(desk, &batch, k, index).await?;
        let caps = self.gpu.caps();
        let mut recording = Recording::new();
        layer::forward(&mut recording, caps, &desk.batch, &self.input, self.hidden, &desk.h)?;
        let (top, scored) = match (index, &desk.sparse, &desk.exact) {
            (Some(index), Some(room), _) => {
                index.record(&mut recording, caps, &desk.h, &desk.rows, room)?;
                (room.top(), Some(room.scored()))
            }
            (None, _, Some(exact)) => {
                exact.record(&mut recording, caps, &desk.h, &desk.rows)?;
                (&exact.top, None)
            }
            _ => return Err(Error::internal("a desk without what it ranks with")),
        };
        let tickets = top.record_read(&mut recording);
        let asked = index.and(desk.sparse.as_ref()).and_then(Room::asked);
        let asked = asked.map(|asked| (asked, asked.record_read(&mut recording)));
        let count = scored.map(|scored| scored.record_read(&mut recording));
        let mut output = self.gpu.run_async(&recording, control).await?;
        let words = |thing| move |row: usize, id| format!("the logit of {thing} {id} for sample {}", chosen[row]);
        if let Some((asked, tickets)) = asked {
            asked.take_of(&mut output, tickets, words("cluster"))?;
        }
        let ranking = top.take_of(&mut output, tickets, words("label"))?;
        let scored = match (scored, count) {
            (Some(scored), Some(ticket)) => scored.take(&mut output, ticket).iter().map(|&n| u64::from(n)).sum(),
            _ => (chosen.len() * self.labels()) as u64,
        };
        Ok((ranking, scored))
    }

    /// Memory for a batch of this size.
    async fn desk_async<'a>(
        &self,
        desk: &'a mut Option<Desk>,
        batch: &Batch,
        k: usize,
        index: Option<&Index>,
    ) -> Result<&'a mut Desk> {
        let gpu = &self.gpu;
        if desk.as_ref().is_none_or(|desk| desk.batch.samples != batch.samples) {
            let h = Tensor::uninit_async(gpu, &[batch.samples, self.hidden.width()]).await?;
            let rows = match desk.take() {
                Some(desk) => desk.rows,
                None => self.label_rows_async().await?,
            };
            let batch = DeviceBatch::new_async(gpu, batch).await?;
            *desk = Some(Desk { rows, batch, h, exact: None, sparse: None });
        }
        let Some(desk) = desk else { return Err(Error::internal("no desk")) };
        desk.batch.write_async(gpu, batch).await?;
        match index {
            Some(index) if desk.sparse.is_none() => {
                desk.sparse = Some(index.room_async(gpu, batch.samples, k).await?);
            }
            None if desk.exact.is_none() => {
                let columns = self.hidden.width();
                desk.exact = Some(Exact::new_async(gpu, batch.samples, self.labels(), columns, k).await?);
            }
            _ => {}
        }
        Ok(desk)
    }

    /// The rows of all labels in f32: the table itself, or a copy of one in bf16.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`] and [`Gpu::run_async`].
    pub async fn label_rows_async(&self) -> Result<Tensor> {
        self.in_f32_async(&self.output).await
    }

    /// The rows of all features and of the bias, likewise.
    ///
    /// # Errors
    /// As [`Network::label_rows_async`].
    pub async fn feature_rows_async(&self) -> Result<Tensor> {
        self.in_f32_async(&self.input).await
    }

    async fn in_f32_async(&self, rows: &Rows) -> Result<Tensor> {
        if rows.storage == Storage::F32 {
            return Ok(rows.weights.clone());
        }
        let columns = rows.columns();
        // Not at the front of its memory: a part that begins there would bind all of it.
        let memory = Tensor::uninit_async(&self.gpu, &[ALIGNED + rows.len() * columns]).await?;
        let misplaced = || Error::internal("rows without their place");
        let whole = memory.at(ALIGNED, &[rows.len(), columns]).ok_or_else(misplaced)?;
        let mut recording = Recording::new();
        for first in (0..rows.len()).step_by(EXPANDED) {
            let range = first..rows.len().min(first + EXPANDED);
            let ids: Vec<u32> = range.clone().map(word).collect::<Result<_>>()?;
            let ids = Tensor::from_slice_async(&self.gpu, &[ids.len()], &ids).await?;
            let part = whole.at(first * columns, &[range.len(), columns]);
            let part = part.ok_or_else(misplaced)?;
            shared::panel(&mut recording, self.gpu.caps(), rows, &ids, &part)?;
        }
        self.gpu.run_async(&recording, &Control::default()).await?;
        Ok(whole)
    }

    /// The tables by the names that checkpoints know.
    pub fn tables(&self) -> [(&'static str, &Rows); 2] {
        [("input", &self.input), ("output", &self.output)]
    }
}
