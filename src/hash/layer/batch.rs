//! A step's samples on the device.

use super::super::{Batch, Touched};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::tensor::Tensor;

/// A [`Batch`] on the device. Its arrays may be longer than what the batch holds: they grow when a larger one comes.
#[derive(Debug, Clone)]
pub struct DeviceBatch {
    /// Number of samples B.
    pub samples: usize,
    /// Number of entries E.
    pub entries: usize,
    /// Most entries of a sample.
    pub longest: usize,
    /// Number of labels of all samples together.
    pub label_entries: usize,
    /// `[B + 1]` or longer: [`Batch::offsets`].
    pub offsets: Tensor<u32>,
    /// `[E]` or longer: [`Batch::features`].
    pub features: Tensor<u32>,
    /// `[E]` or longer: [`Batch::values`].
    pub values: Tensor,
    /// [`Batch::touched`]; its capacity is the number of rows, so that kernels have no invocations without one.
    pub touched: Touched,
    /// Rows that the list has memory for.
    room: usize,
    /// `[2 E]` or longer: [`Batch::entries`], pairs of words.
    pub sorted: Tensor<u32>,
    /// `[B + 1]` or longer: [`Batch::label_offsets`].
    pub label_offsets: Tensor<u32>,
    /// The labels' list or longer: [`Batch::labels`].
    pub labels: Tensor<u32>,
}

/// How much a list gets that has become too short, so that it does not grow with every batch.
fn roomy(elements: usize) -> usize {
    (elements + elements / 4).max(1).next_multiple_of(64)
}

/// The words at the front of a list, which is replaced by a longer one if they do not fit.
async fn fill(gpu: &Gpu, list: &mut Tensor<u32>, words: &[u32]) -> Result<()> {
    if words.is_empty() {
        return Ok(());
    }
    if words.len() > list.len() {
        *list = Tensor::uninit_async(gpu, &[roomy(words.len())]).await?;
    }
    gpu.upload(list.buffer(), bytemuck::cast_slice(words))
}

impl DeviceBatch {
    /// Room for batches like this one, with its samples.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, batch: &Batch) -> Result<Self> {
        let (ends, room) = (roomy(batch.samples + 1), roomy(batch.features.len()));
        let mut made = Self {
            samples: 0,
            entries: 0,
            longest: 0,
            label_entries: 0,
            offsets: Tensor::uninit_async(gpu, &[ends]).await?,
            features: Tensor::uninit_async(gpu, &[room]).await?,
            values: Tensor::uninit_async(gpu, &[room]).await?,
            touched: Touched::uninit_async(gpu, room).await?,
            room,
            sorted: Tensor::uninit_async(gpu, &[2 * room]).await?,
            label_offsets: Tensor::uninit_async(gpu, &[ends]).await?,
            labels: Tensor::uninit_async(gpu, &[roomy(batch.labels.len())]).await?,
        };
        made.write_async(gpu, batch).await?;
        Ok(made)
    }

    /// Blocking twin of [`DeviceBatch::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, batch: &Batch) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, batch))
    }

    /// Replaces the samples, before everything that is run after this call. Recordings made before it must not run any more.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`] and [`Gpu::upload`].
    pub async fn write_async(&mut self, gpu: &Gpu, batch: &Batch) -> Result<()> {
        fill(gpu, &mut self.offsets, &batch.offsets).await?;
        fill(gpu, &mut self.features, &batch.features).await?;
        fill(gpu, &mut self.sorted, bytemuck::cast_slice(&batch.entries)).await?;
        fill(gpu, &mut self.label_offsets, &batch.label_offsets).await?;
        fill(gpu, &mut self.labels, &batch.labels).await?;
        let mut values = self.values.words();
        fill(gpu, &mut values, bytemuck::cast_slice(&batch.values)).await?;
        self.values = values.words();
        if batch.touched_rows() > self.room {
            self.room = roomy(batch.touched_rows());
            self.touched = Touched::uninit_async(gpu, self.room).await?;
        }
        self.touched.capacity = batch.touched_rows();
        self.touched.write(gpu, &batch.touched)?;
        self.samples = batch.samples;
        self.entries = batch.features.len();
        self.label_entries = batch.labels.len();
        self.longest = batch.offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0);
        Ok(())
    }

    /// Blocking twin of [`DeviceBatch::write_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn write(&mut self, gpu: &Gpu, batch: &Batch) -> Result<()> {
        pollster::block_on(self.write_async(gpu, batch))
    }
}
