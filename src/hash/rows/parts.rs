//! Rows on their way to the host and back.

use std::ops::Range;

use super::Rows;
use crate::Control;
use crate::error::{Error, Result};
use crate::gpu::{Binding, Gpu, ReadTicket, Recording};
use crate::ops::{gather, word};
use crate::tensor::Tensor;

/// Some rows of a table on the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowsPart {
    /// The first row.
    pub first: usize,
    /// Weights, row by row.
    pub weights: Vec<f32>,
    /// Each table of state, row by row.
    pub state: Vec<Vec<f32>>,
    /// The rows' lines of the book: stamp, last touched, times touched, a word to spare.
    pub book: Vec<[u32; 4]>,
}

impl Rows {
    /// Brings some rows to the host.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for rows that there are not, and those of [`Gpu::run_async`].
    pub async fn read_async(&self, gpu: &Gpu, rows: Range<usize>) -> Result<RowsPart> {
        if rows.is_empty() || rows.end > self.len() {
            return Err(Error::internal(format!("rows {rows:?} of {}", self.len())));
        }
        let mut recording = Recording::new();
        let weights = recording.read(stretch(&self.weights, &rows));
        let state: Vec<_> = self.state.iter().map(|table| recording.read(stretch(table, &rows))).collect();
        let book = recording.read(stretch(&self.book, &rows));
        let mut output = gpu.run_async(&recording, &Control::default()).await?;
        let weights = self.unpacked(&output.take::<u32>(weights));
        let state = state.into_iter().map(|ticket| output.take(ticket)).collect();
        Ok(RowsPart { first: rows.start, weights, state, book: output.take(book) })
    }

    /// Blocking twin of [`Rows::read_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read(&self, gpu: &Gpu, rows: Range<usize>) -> Result<RowsPart> {
        pollster::block_on(self.read_async(gpu, rows))
    }

    /// Writes some rows, before everything that is run after this call. Weights in bf16 are rounded to the nearest.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for what does not fit.
    pub fn write(&self, gpu: &Gpu, part: &RowsPart) -> Result<()> {
        let (count, columns) = (part.book.len(), self.columns());
        self.check_part(part, count)?;
        if part.first + count > self.len() {
            return Err(Error::internal(format!("{count} rows from {} on of {}", part.first, self.len())));
        }
        self.write_weights(gpu, part.first, &part.weights)?;
        for (table, values) in self.state.iter().zip(&part.state) {
            gpu.upload_at(table.buffer(), 4 * (part.first * columns) as u64, bytemuck::cast_slice(values))?;
        }
        gpu.upload_at(self.book.buffer(), 16 * part.first as u64, bytemuck::cast_slice(&part.book))
    }

    /// Brings listed rows to the host; ids are ascending and distinct. The part's `first` is 0. A panel of all of them is made on the
    /// device first, so ask for some tens of thousands at a time.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for ids that are not ascending rows, and those of [`Gpu::run_async`].
    pub async fn read_listed_async(&self, gpu: &Gpu, ids: &[u32]) -> Result<RowsPart> {
        self.check_list(ids)?;
        let mut recording = Recording::new();
        let mut tickets: Vec<Vec<(usize, ReadTicket)>> = vec![Vec::new(); self.state.len() + 2];
        for window in self.windows(gpu.caps())? {
            let own = share(ids, &window);
            if own.is_empty() {
                continue;
            }
            let local = own.iter().map(|&id| word(id as usize - window.start)).collect::<Result<Vec<u32>>>()?;
            let local = Tensor::from_slice_async(gpu, &[own.len()], &local).await?;
            let floats = [&self.weights].into_iter().chain(&self.state);
            let words: Vec<Tensor<u32>> = floats.map(Tensor::words).chain([self.book.clone()]).collect();
            for (table, tickets) in words.iter().zip(&mut tickets) {
                let (stride, columns) = (table.row_stride(), table.columns());
                let panel = Tensor::uninit_async(gpu, &[own.len(), columns]).await?;
                gather::window(&mut recording, gpu.caps(), table, window.clone(), &local, &panel)?;
                tickets.push((own.len() * stride, panel.record_read(&mut recording)));
            }
        }
        let mut output = gpu.run_async(&recording, &Control::default()).await?;
        let mut words = tickets.into_iter().map(|tickets| -> Vec<u32> {
            let take = |(count, ticket): (usize, ReadTicket)| {
                let mut words: Vec<u32> = output.take(ticket);
                words.truncate(count);
                words
            };
            tickets.into_iter().flat_map(take).collect()
        });
        let weights = self.unpacked(&words.next().unwrap_or_default());
        let floats = |words: Vec<u32>| words.into_iter().map(f32::from_bits).collect();
        let state = words.by_ref().take(self.state.len()).map(floats).collect();
        let book = bytemuck::pod_collect_to_vec(&words.next().unwrap_or_default());
        Ok(RowsPart { first: 0, weights, state, book })
    }

    /// Blocking twin of [`Rows::read_listed_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_listed(&self, gpu: &Gpu, ids: &[u32]) -> Result<RowsPart> {
        pollster::block_on(self.read_listed_async(gpu, ids))
    }

    /// Writes what [`Rows::read_listed_async`] brought, runs of neighbours at once, before everything that is run after this call.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for what does not fit.
    pub fn write_listed(&self, gpu: &Gpu, ids: &[u32], part: &RowsPart) -> Result<()> {
        self.check_list(ids)?;
        let columns = self.columns();
        self.check_part(part, ids.len())?;
        let mut at = 0;
        for run in ids.chunk_by(|a, b| a + 1 == *b) {
            let (rows, own) = (at..at + run.len(), at * columns..(at + run.len()) * columns);
            let part = RowsPart {
                first: run[0] as usize,
                weights: part.weights[own.clone()].to_vec(),
                state: part.state.iter().map(|s| s[own.clone()].to_vec()).collect(),
                book: part.book[rows].to_vec(),
            };
            self.write(gpu, &part)?;
            at += run.len();
        }
        Ok(())
    }

    fn check_list(&self, ids: &[u32]) -> Result<()> {
        let inside = ids.last().is_none_or(|&last| (last as usize) < self.len());
        if inside && ids.windows(2).all(|two| two[0] < two[1]) {
            return Ok(());
        }
        Err(Error::internal(format!("{} ids that are not ascending rows of {}", ids.len(), self.len())))
    }

    fn check_part(&self, part: &RowsPart, count: usize) -> Result<()> {
        let elements = count * self.columns();
        let fits = part.weights.len() == elements && part.state.iter().all(|s| s.len() == elements);
        if fits && part.book.len() == count && part.state.len() == self.state.len() {
            return Ok(());
        }
        Err(Error::internal(format!("a part of {} rows for {count} of {:?}", part.book.len(), self.weights.shape())))
    }

    /// The whole book: a line a row, of stamp, last touched, times touched and a word to spare.
    ///
    /// # Errors
    /// Those of [`Gpu::run_async`].
    pub async fn book_async(&self, gpu: &Gpu) -> Result<Vec<[u32; 4]>> {
        let mut recording = Recording::new();
        let ticket = recording.read(stretch(&self.book, &(0..self.len())));
        Ok(gpu.run_async(&recording, &Control::default()).await?.take(ticket))
    }

    /// Blocking twin of [`Rows::book_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn book(&self, gpu: &Gpu) -> Result<Vec<[u32; 4]>> {
        pollster::block_on(self.book_async(gpu))
    }
}

/// The part of ascending ids that lies in a window.
fn share<'a>(ids: &'a [u32], window: &Range<usize>) -> &'a [u32] {
    let place = |row: usize| ids.partition_point(|&id| (id as usize) < row);
    &ids[place(window.start)..place(window.end)]
}

/// Memory of some rows.
fn stretch<T: crate::tensor::Element>(table: &Tensor<T>, rows: &Range<usize>) -> Binding {
    let row = 4 * table.row_stride() as u64;
    Binding { buffer: table.buffer().clone(), offset: rows.start as u64 * row, size: rows.len() as u64 * row }
}

/// Rows that were touched after this step, ascending, of a table's [`Rows::book`].
pub fn touched_after(book: &[[u32; 4]], step: u32) -> Vec<u32> {
    (0..).zip(book).filter(|(_, line)| line[1] > step).map(|(row, _)| row).collect()
}
