//! Tables of parameters of which a step touches a few rows, and lists of the rows that it touches.

mod parts;

pub use parts::{RowsPart, touched_after};

use std::ops::Range;

use crate::Control;
use crate::error::{Error, Result};
use crate::gpu::{Binding, Caps, Gpu, Recording};
use crate::ops::random::{Stream, normals, purpose};
use crate::ops::{windows, word};
use crate::tensor::Tensor;

/// How weights lie in memory. Optimisers compute in f32 either way, and their state is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Storage {
    /// Four bytes.
    #[default]
    F32,
    /// The upper half of an f32, two a word (the first in the low half), rounded stochastically at each step. Kernels read them with
    /// `lib/bf16`.
    Bf16,
}

/// Vectors of a row that an invocation has, of kernels whose vectors all need something more of their row: a software device loads it lane by lane, so
/// they share it; a GPU wants many invocations. No bit depends on it.
pub(super) fn vectors(caps: &Caps) -> usize {
    if caps.is_software() { SHARED } else { 1 }
}

/// [`vectors`] of software devices.
pub(super) const SHARED: usize = 3;

/// A table of parameters `[rows, columns]` with what an optimiser keeps of it.
///
/// All tables have rows of the same stride, a multiple of four elements. A table may be larger than a binding: kernels walk
/// [`Rows::windows`].
#[derive(Debug, Clone)]
pub struct Rows {
    /// `[rows, columns]`; in [`Storage::Bf16`] words `[rows, columns / 2]`.
    pub weights: Tensor,
    /// State of the optimiser, up to two tables `[rows, columns]`: Adam's m and v, Adagrad's sum of squares.
    pub state: Vec<Tensor>,
    /// `[rows, 4]`: the optimiser's steps that the row has seen (its *stamp*; steps count from 1), the step that last touched it with a
    /// gradient (0: none), how many did, and one word to spare.
    pub book: Tensor<u32>,
    /// How the weights lie in memory.
    pub storage: Storage,
    /// The table's number among those of its network, below 256: it keys random numbers.
    pub table: u32,
}

impl Rows {
    /// Tables with undefined contents; `columns` is a multiple of four.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    pub async fn uninit_async(gpu: &Gpu, rows: usize, columns: usize, states: usize) -> Result<Self> {
        Self::stored_async(gpu, rows, columns, states, Storage::F32, 0).await
    }

    /// Blocking twin of [`Rows::uninit_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn uninit(gpu: &Gpu, rows: usize, columns: usize, states: usize) -> Result<Self> {
        pollster::block_on(Self::uninit_async(gpu, rows, columns, states))
    }

    /// Tables with undefined contents, with weights in this form; `table` is the number among those of a network.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`]; [`crate::ErrorKind::Internal`] for columns that are no multiple of four, or 2^24 vectors of them.
    pub async fn stored_async(
        gpu: &Gpu,
        rows: usize,
        columns: usize,
        states: usize,
        storage: Storage,
        table: u32,
    ) -> Result<Self> {
        if !columns.is_multiple_of(4) || columns / 4 >= 1 << 24 || table >= 256 {
            return Err(Error::internal(format!("table {table} of {columns} columns")));
        }
        let mut state = Vec::new();
        for _ in 0..states {
            state.push(Tensor::uninit_async(gpu, &[rows, columns]).await?);
        }
        let words = if storage == Storage::Bf16 { columns / 2 } else { columns };
        let weights = Tensor::uninit_async(gpu, &[rows, words]).await?;
        Ok(Self { weights, state, book: Tensor::uninit_async(gpu, &[rows, 4]).await?, storage, table })
    }

    /// Blocking twin of [`Rows::stored_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn stored(gpu: &Gpu, rows: usize, columns: usize, states: usize, storage: Storage, table: u32) -> Result<Self> {
        pollster::block_on(Self::stored_async(gpu, rows, columns, states, storage, table))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.weights.shape()[0]
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of a row.
    pub fn columns(&self) -> usize {
        self.weights.columns() * self.halves()
    }

    /// Weights in a word.
    fn halves(&self) -> usize {
        if self.storage == Storage::Bf16 { 2 } else { 1 }
    }

    /// Vectors of four elements in a row.
    pub(crate) fn quads(&self) -> usize {
        self.columns() / 4
    }

    /// Vectors of four weights from a row to the next, in memory.
    pub(crate) fn weight_vectors(&self) -> usize {
        self.weights.row_stride() * self.halves() / 4
    }

    /// Ranges of rows of which every table's share fits a binding: one, where bindings are large enough.
    ///
    /// # Errors
    /// [`crate::ErrorKind::TooBig`] if not even a few rows do.
    pub fn windows(&self, caps: &Caps) -> Result<Vec<Range<usize>>> {
        let strides = [self.columns(), self.weights.row_stride(), 4];
        let largest = self.state.first().unwrap_or(&self.weights).binding();
        windows::ranges(self.len(), &strides, &[largest, self.weights.binding(), self.book.binding()], caps.max_binding)
    }

    /// A window's share of the weights, the tables of state and the book.
    pub(crate) fn bindings(&self, window: &Range<usize>) -> Result<Vec<Binding>> {
        let mut bindings = vec![self.weights.slots(window)?];
        for state in &self.state {
            bindings.push(state.slots(window)?);
        }
        bindings.push(self.book.slots(window)?);
        Ok(bindings)
    }

    /// Starts the table: the first `drawn` columns normal with this standard deviation, keyed by seed, table and row, the others zeros; state
    /// and book zeros.
    ///
    /// # Errors
    /// Those of [`Gpu::run_async`].
    pub async fn start_async(&self, gpu: &Gpu, seed: u64, deviation: f64, drawn: usize) -> Result<()> {
        let mut recording = Recording::new();
        for table in &self.state {
            recording.clear(table.binding());
        }
        recording.clear(self.book.binding());
        recording.clear(self.weights.binding());
        gpu.run_async(&recording, &Control::default()).await?;
        let (stream, columns) = (Stream::new(seed), self.columns());
        let together = ((1 << 20) / columns.max(1)).max(1);
        for first in (0..self.len()).step_by(together) {
            let rows = first..self.len().min(first + together);
            let mut weights = vec![0.0; rows.len() * columns];
            for (row, into) in rows.zip(weights.chunks_exact_mut(columns.max(1))) {
                for (quad, four) in (0..).zip(into[..drawn.min(columns)].chunks_mut(4)) {
                    let counter = [self.table << 24 | quad, word(row)?, 0, purpose::ROW_INITIAL];
                    let values = normals(stream.block(counter)).map(|v| (v * deviation) as f32);
                    four.copy_from_slice(&values[..four.len()]);
                }
            }
            self.write_weights(gpu, first, &weights)?;
        }
        Ok(())
    }

    /// Blocking twin of [`Rows::start_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn start(&self, gpu: &Gpu, seed: u64, deviation: f64, drawn: usize) -> Result<()> {
        pollster::block_on(self.start_async(gpu, seed, deviation, drawn))
    }

    pub(super) fn write_weights(&self, gpu: &Gpu, first: usize, weights: &[f32]) -> Result<()> {
        let place = 4 * (first * self.weights.row_stride()) as u64;
        if self.storage == Storage::F32 {
            return gpu.upload_at(self.weights.buffer(), place, bytemuck::cast_slice(weights));
        }
        let stride = self.weights.row_stride();
        let mut words = vec![0_u32; weights.len() / self.columns() * stride];
        for (to, from) in words.chunks_exact_mut(stride).zip(weights.chunks_exact(self.columns())) {
            for (word, two) in to.iter_mut().zip(from.chunks_exact(2)) {
                let [low, high] = [two[0], two[1]].map(|v| u32::from(half::bf16::from_f32(v).to_bits()));
                *word = low | high << 16;
            }
        }
        gpu.upload_at(self.weights.buffer(), place, bytemuck::cast_slice(&words))
    }

    /// Weights from rows of words in memory.
    pub(super) fn unpacked(&self, words: &[u32]) -> Vec<f32> {
        if self.storage == Storage::F32 {
            return words.iter().map(|&bits| f32::from_bits(bits)).collect();
        }
        let rows = words.chunks_exact(self.weights.row_stride()).map(|row| &row[..self.weights.columns()]);
        let halves = |&word: &u32| [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)];
        rows.flatten().flat_map(halves).collect()
    }
}

/// Rows of a table that a step touches, in ascending order, and where the entries of each start among those of all rows.
///
/// `list` is `[capacity + 2, 2]`: first the number n of rows and the number of entries; then, for each row, its number and
/// its first entry; then `u32::MAX` and the number of entries. What lies behind is undefined.
#[derive(Debug, Clone)]
pub struct Touched {
    /// The list, on the device: pairs of words.
    pub list: Tensor<u32>,
    /// The most rows that it can hold.
    pub capacity: usize,
}

impl Touched {
    /// A list with undefined contents.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    pub async fn uninit_async(gpu: &Gpu, capacity: usize) -> Result<Self> {
        Ok(Self { list: Tensor::uninit_async(gpu, &[2 * (capacity + 2)]).await?, capacity })
    }

    /// Blocking twin of [`Touched::uninit_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn uninit(gpu: &Gpu, capacity: usize) -> Result<Self> {
        pollster::block_on(Self::uninit_async(gpu, capacity))
    }

    /// Writes a list of rows that have no entries, before everything that is run after this call.
    ///
    /// # Errors
    /// Those of [`Touched::write`].
    pub fn write_ids(&self, gpu: &Gpu, ids: &[u32]) -> Result<()> {
        let rows = ids.iter().map(|&id| [id, 0]);
        let list: Vec<[u32; 2]> = [[word(ids.len())?, 0]].into_iter().chain(rows).chain([[u32::MAX, 0]]).collect();
        self.write(gpu, &list)
    }

    /// Writes a list made on the host, as [`super::Batch::touched`] is, before everything that is run after this call.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if it is longer than the capacity.
    pub fn write(&self, gpu: &Gpu, list: &[[u32; 2]]) -> Result<()> {
        if list.len() > self.capacity + 2 {
            return Err(Error::internal(format!("{} touched rows for {}", list.len(), self.capacity)));
        }
        gpu.upload(self.list.buffer(), bytemuck::cast_slice(list))
    }
}
