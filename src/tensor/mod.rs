//! Typed arrays on the device: a shape, strides, and a range of memory.
//!
//! The last axis is contiguous and, from two axes on, rows start at multiples of four elements, so that kernels may
//! read four at a time; the up to three elements behind a row are padding with undefined contents. An axis of stride
//! 0 is shared: every index along it means the same elements (the batch axis of a shared operand). An array may be a field of a
//! table ([`Tensor::field`]): what one row of the table holds at a fixed place, with the table's rows as its first axis.

use std::marker::PhantomData;

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Binding, Buffer, Gpu, Output, ReadTicket, Recording};

/// An element type that kernels know, four bytes wide.
pub trait Element: bytemuck::Pod + Default + Send + Sync + 'static {
    /// Its WGSL name.
    const WGSL: &'static str;
}

impl Element for f32 {
    const WGSL: &'static str = "f32";
}

impl Element for u32 {
    const WGSL: &'static str = "u32";
}

/// An array on the device; cheap to clone (clones share the memory).
#[derive(Debug, Clone)]
pub struct Tensor<T: Element = f32> {
    buffer: Buffer,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Elements of the memory before the first.
    offset: usize,
    element: PhantomData<T>,
}

/// Elements from one place where a binding may start to the next (256 bytes).
pub const ALIGNED: usize = 64;

/// Elements from one row to the next for rows of `columns` elements.
pub fn pitch(columns: usize) -> usize {
    columns.next_multiple_of(4)
}

impl<T: Element> Tensor<T> {
    /// An array with undefined contents.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`] if it can never fit this adapter or budget, [`ErrorKind::OutOfMemory`] if not now.
    pub async fn uninit_async(gpu: &Gpu, shape: &[usize]) -> Result<Self> {
        let strides = strides(shape);
        let elements = match (shape.first(), strides.first()) {
            (Some(&rows), Some(&stride)) => rows.checked_mul(stride),
            _ => Some(1),
        };
        let bytes = elements.and_then(|n| n.checked_mul(4)).ok_or_else(|| {
            Error::new(ErrorKind::TooBig, format!("an array of shape {shape:?} has more bytes than can be counted"))
        })?;
        let buffer = gpu.allocate_async(bytes as u64).await?;
        Ok(Self { buffer, shape: shape.to_vec(), strides, offset: 0, element: PhantomData })
    }

    /// Blocking twin of [`Tensor::uninit_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn uninit(gpu: &Gpu, shape: &[usize]) -> Result<Self> {
        pollster::block_on(Self::uninit_async(gpu, shape))
    }

    /// An array with these elements in row-major order.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if there are not as many as the shape says; the errors of [`Tensor::uninit_async`].
    pub async fn from_slice_async(gpu: &Gpu, shape: &[usize], elements: &[T]) -> Result<Self> {
        let tensor = Self::uninit_async(gpu, shape).await?;
        tensor.write(gpu, elements)?;
        Ok(tensor)
    }

    /// Blocking twin of [`Tensor::from_slice_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_slice(gpu: &Gpu, shape: &[usize], elements: &[T]) -> Result<Self> {
        pollster::block_on(Self::from_slice_async(gpu, shape, elements))
    }

    /// A copy of an `ndarray` array.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_array<D: ndarray::Dimension>(gpu: &Gpu, array: &ndarray::ArrayView<'_, T, D>) -> Result<Self> {
        let elements: Vec<T> = array.iter().copied().collect();
        Self::from_slice(gpu, array.shape(), &elements)
    }

    /// Overwrites all elements, before everything that is run after this call.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if there are not as many as the shape says, or for a part of other memory.
    pub fn write(&self, gpu: &Gpu, elements: &[T]) -> Result<()> {
        if elements.len() != self.len() || self.offset != 0 || self.strides != strides(&self.shape) {
            return Err(Error::internal(format!("{} elements for an array of shape {:?}", elements.len(), self.shape)));
        }
        let columns = self.columns();
        if self.row_stride() == columns || elements.is_empty() {
            return gpu.upload(&self.buffer, bytemuck::cast_slice(elements));
        }
        let mut padded = vec![T::default(); elements.len() / columns * self.row_stride()];
        for (to, from) in padded.chunks_exact_mut(self.row_stride()).zip(elements.chunks_exact(columns)) {
            to[..columns].copy_from_slice(from);
        }
        gpu.upload(&self.buffer, bytemuck::cast_slice(&padded))
    }

    /// Brings the array to the host.
    ///
    /// # Errors
    /// Those of [`Gpu::run_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_array(&self, gpu: &Gpu) -> Result<ndarray::ArrayD<T>> {
        let mut recording = Recording::new();
        let ticket = self.record_read(&mut recording);
        let mut output = gpu.run(&recording, &crate::Control::default())?;
        let elements = self.take(&mut output, ticket);
        ndarray::ArrayD::from_shape_vec(self.shape.clone(), elements).map_err(|e| Error::internal(e.to_string()))
    }

    /// Records a read of the whole array; [`Tensor::take`] gives its elements.
    pub fn record_read(&self, recording: &mut Recording) -> ReadTicket {
        recording.read(self.binding())
    }

    /// The elements of a recorded read in row-major order, without padding.
    pub fn take(&self, output: &mut Output, ticket: ReadTicket) -> Vec<T> {
        let mut raw: Vec<T> = output.take(ticket);
        let columns = self.columns();
        if self.row_stride() != columns {
            raw = raw.chunks(self.row_stride()).flat_map(|row| row[..columns.min(row.len())].to_vec()).collect();
        }
        raw.truncate(self.len());
        raw
    }

    /// The same array with another leading axis of length `batch` and stride 0: one operand shared by a batch.
    #[must_use]
    pub fn shared(&self, batch: usize) -> Self {
        let mut shared = self.clone();
        shared.shape.insert(0, batch);
        shared.strides.insert(0, 0);
        shared
    }

    /// The front of the same memory as an array of another shape, if it fits.
    pub fn view(&self, shape: &[usize]) -> Option<Self> {
        self.at(0, shape)
    }

    /// The same memory from element `first` on as an array of this shape, if it fits. Kernels want `first` to be a multiple of [`ALIGNED`].
    pub fn at(&self, first: usize, shape: &[usize]) -> Option<Self> {
        let strides = strides(shape);
        let elements = shape.first().zip(strides.first()).map_or(1, |(&n, &stride)| n * stride);
        let offset = self.offset + first;
        ((offset + elements) as u64 * 4 <= self.buffer.size()).then(|| Self {
            buffer: self.buffer.clone(),
            shape: shape.to_vec(),
            strides,
            offset,
            element: PhantomData,
        })
    }

    /// Of a table `[rows, width]`: the array `[rows, shape..]` whose part of every row starts at element `first` of that row, if it fits
    /// and rows and `first` are multiples of [`ALIGNED`]. Its first stride is the table's, so kernels take it as any batch.
    pub fn field(&self, first: usize, shape: &[usize]) -> Option<Self> {
        let &[rows, _] = self.shape.as_slice() else { return None };
        let width = self.strides[0];
        let inner = strides(&[&[1], shape].concat());
        let fits = first + inner[0] <= width && first.is_multiple_of(ALIGNED) && width.is_multiple_of(ALIGNED);
        fits.then(|| Self {
            buffer: self.buffer.clone(),
            shape: [&[rows], shape].concat(),
            strides: [&[width], &inner[1..]].concat(),
            offset: self.offset + first,
            element: PhantomData,
        })
    }

    /// The first columns of every row, if there are as many: rows stay where they are.
    pub(crate) fn front(&self, columns: usize) -> Option<Self> {
        let (axes, fits) = (self.shape.len(), columns <= self.columns());
        (axes >= 2 && fits).then(|| {
            let mut front = self.clone();
            front.shape[axes - 1] = columns;
            front
        })
    }

    /// The same memory seen at index 0 of one axis.
    pub(crate) fn without_axis(mut self, axis: usize) -> Self {
        self.shape.remove(axis);
        self.strides.remove(axis);
        self
    }

    /// The axes' lengths.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements from one index to the next along each axis.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the last axis.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Elements from one row to the next.
    pub fn row_stride(&self) -> usize {
        match self.shape.len() {
            0 | 1 => self.columns(),
            axes => self.strides[axes - 2],
        }
    }

    /// The memory, with its padding, to bind to a kernel.
    pub fn binding(&self) -> Binding {
        if self.offset == 0 && self.strides == strides(&self.shape) {
            return Binding::whole(&self.buffer);
        }
        // A part of other memory: up to its own last element, so that neighbours may be written meanwhile.
        let inner = self.shape.get(1).map_or(1, |&length| length * self.strides[1]);
        let extent = self.shape.first().map_or(1, |&rows| rows.saturating_sub(1) * self.strides[0] + inner);
        let offset = self.offset as u64 * 4;
        let size = (extent.max(1) as u64 * 4).next_multiple_of(16).min(self.buffer.size() - offset);
        Binding { buffer: self.buffer.clone(), offset, size }
    }

    /// A window of the memory: `elements` (with padding) from `first` on, an aligned place; whole vectors of four are bound.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if it does not start at a multiple of [`ALIGNED`] or leaves the memory.
    pub fn part(&self, first: usize, elements: usize) -> Result<Binding> {
        let (offset, size) = ((self.offset + first) as u64 * 4, (elements.max(1) as u64 * 4).next_multiple_of(16));
        if !first.is_multiple_of(ALIGNED) || offset + size > self.buffer.size() {
            let what = format!("a window of {elements} elements from {first} on in an array of shape {:?}", self.shape);
            return Err(Error::internal(what));
        }
        Ok(Binding { buffer: self.buffer.clone(), offset, size })
    }

    /// What a range of the first axis binds, up to its own last element: the whole array's binding if the range is the whole axis or all share
    /// their elements.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if it does not start at a multiple of [`ALIGNED`].
    pub(crate) fn slots(&self, range: &std::ops::Range<usize>) -> Result<Binding> {
        let (Some(&rows), Some(&stride)) = (self.shape.first(), self.strides.first()) else {
            return Ok(self.binding());
        };
        if stride == 0 || range.len() == rows {
            return Ok(self.binding());
        }
        let inner = self.shape.get(1).map_or(1, |&length| length * self.strides[1]);
        let first = range.start * stride;
        let offset = (self.offset + first) as u64 * 4;
        if !first.is_multiple_of(ALIGNED) || range.end > rows {
            let what = format!("indices {range:?} along the first axis of an array of shape {:?}", self.shape);
            return Err(Error::internal(what));
        }
        let extent = range.len().saturating_sub(1) * stride + inner;
        let size = (extent.max(1) as u64 * 4).next_multiple_of(16).min(self.buffer.size() - offset);
        Ok(Binding { buffer: self.buffer.clone(), offset, size })
    }

    /// The same memory with its words taken for another type.
    pub fn words<U: Element>(&self) -> Tensor<U> {
        let (buffer, shape, strides) = (self.buffer.clone(), self.shape.clone(), self.strides.clone());
        Tensor { buffer, shape, strides, offset: self.offset, element: PhantomData }
    }

    /// The memory.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        let below = if axis + 2 == shape.len() { pitch(shape[axis + 1]) } else { shape[axis + 1] * strides[axis + 1] };
        strides[axis] = below.max(1);
    }
    strides
}
