//! Tables of parameters of which a step touches a few rows, and lists of the rows that it touches.

use std::ops::Range;

use crate::error::Result;
use crate::gpu::{Caps, Gpu, Kernel};
use crate::ops::windows;
use crate::tensor::Tensor;

/// A table of parameters `[rows, columns]` with what an optimiser keeps of it.
///
/// All tables have rows of the same stride, a multiple of four elements. A table may be larger than a binding: kernels walk
/// [`Rows::windows`].
#[derive(Debug, Clone)]
pub struct Rows {
    /// `[rows, columns]`.
    pub weights: Tensor,
    /// State of the optimiser, up to two tables `[rows, columns]`: Adam's m and v, Adagrad's sum of squares.
    pub state: Vec<Tensor>,
    /// `[rows, 4]`: the optimiser's steps that the row has seen (its *stamp*; steps count from 1), the step that last touched it with a
    /// gradient (0: none), how many did, and one word to spare.
    pub book: Tensor<u32>,
}

impl Rows {
    /// Tables with undefined contents; `columns` is a multiple of four.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    pub async fn uninit_async(gpu: &Gpu, rows: usize, columns: usize, states: usize) -> Result<Self> {
        let mut state = Vec::new();
        for _ in 0..states {
            state.push(Tensor::uninit_async(gpu, &[rows, columns]).await?);
        }
        let weights = Tensor::uninit_async(gpu, &[rows, columns]).await?;
        Ok(Self { weights, state, book: Tensor::uninit_async(gpu, &[rows, 4]).await? })
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
        self.weights.columns()
    }

    /// Ranges of rows of which every table's share fits a binding: one, where bindings are large enough.
    ///
    /// # Errors
    /// [`crate::ErrorKind::TooBig`] if not even a few rows do.
    pub fn windows(&self, caps: &Caps) -> Result<Vec<Range<usize>>> {
        let strides = [self.columns(), 4];
        windows::ranges(self.len(), &strides, &[self.weights.binding(), self.book.binding()], caps.max_binding)
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

    /// Writes a list made on the host, as [`super::Batch::touched`] is, before everything that is run after this call.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if it is longer than the capacity.
    pub fn write(&self, gpu: &Gpu, list: &[[u32; 2]]) -> Result<()> {
        if list.len() > self.capacity + 2 {
            return Err(crate::Error::internal(format!("{} touched rows for {}", list.len(), self.capacity)));
        }
        gpu.upload(self.list.buffer(), bytemuck::cast_slice(list))
    }
}

pub(super) fn catalogue() -> Vec<Kernel> {
    Vec::new()
}
