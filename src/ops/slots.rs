//! Arrays whose first axis are slots, as the kernels of training see them, and grids over columns, rows and slots.

use std::ops::Range;

use super::{windows, word};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Grid};
use crate::tensor::{Element, Tensor};

/// An array `[slots, (samples,) rows.., n]`; what lies between samples and n is one axis of rows. Strides in vectors of
/// four.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) samples: usize,
    pub(super) rows: usize,
    pub(super) n: usize,
    /// From one slot, sample and row to the next.
    pub(super) slot: u32,
    pub(super) sample: u32,
    pub(super) row: u32,
}

impl Rows {
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for arrays with fewer axes, without elements, or whose rows do not lie evenly.
    pub(super) fn new(t: &Tensor, with_samples: bool) -> Result<Self> {
        let first = if with_samples { 2 } else { 1 };
        let (shape, strides, axes) = (t.shape(), t.strides(), t.shape().len());
        let even = |axis: usize| strides[axis] == strides[axis + 1] * shape[axis + 1];
        if axes < first + 2 || t.is_empty() || !(first..axes - 2).all(even) {
            return Err(Error::internal(format!("an array of shape {shape:?} has no slots of rows")));
        }
        Ok(Self {
            samples: if with_samples { shape[1] } else { 1 },
            rows: shape[first..axes - 1].iter().product(),
            n: shape[axes - 1],
            slot: vectors(strides[0])?,
            sample: if with_samples { vectors(strides[1])? } else { 0 },
            row: vectors(strides[axes - 2])?,
        })
    }
}

/// A stride in vectors of four.
pub(super) fn vectors(stride: usize) -> Result<u32> {
    if !stride.is_multiple_of(4) {
        return Err(Error::internal(format!("a stride of {stride} elements is no number of whole vectors")));
    }
    word(stride / 4)
}

/// The stride in vectors from one place of the leading axes to the next: those of slots alone, or of slots and samples taken
/// together.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] if samples do not follow each other from slot to slot.
pub(super) fn leading(t: &Tensor, with_samples: bool) -> Result<u32> {
    if !with_samples {
        return vectors(t.strides()[0]);
    }
    let together = t.shape().len() > 1 && (t.shape()[0] == 1 || t.strides()[0] == t.strides()[1] * t.shape()[1]);
    if !together {
        return Err(Error::internal(format!("samples of an array of shape {:?} do not follow each other", t.shape())));
    }
    vectors(t.strides()[1])
}

/// Ranges of slots such that every operand's share of a range fits a binding.
pub(super) fn ranges(caps: &Caps, operands: &[&Tensor]) -> Result<Vec<Range<usize>>> {
    let slots = operands.first().map_or(0, |t| t.shape()[0]);
    let strides: Vec<usize> = operands.iter().map(|t| t.strides()[0]).collect();
    let bindings: Vec<_> = operands.iter().map(|t| t.binding()).collect();
    windows::ranges(slots, &strides, &bindings, caps.max_binding)
}

/// What a range of slots binds of every operand.
pub(super) fn bindings<T: Element>(operands: &[&Tensor<T>], range: &Range<usize>) -> Result<Vec<crate::gpu::Binding>> {
    operands.iter().map(|t| t.slots(range)).collect()
}

/// A grid of invocations over the vectors of a row, over rows (or chunks of them) and over slots.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    /// Invocations side by side along a row, as a power of two.
    pub(super) shift: u32,
    /// Rows from one turn of an invocation to its next.
    pub(super) row_step: u32,
    /// Slots likewise.
    pub(super) step: u32,
    pub(super) grid: Grid,
}

impl Lanes {
    /// `turns`: how many rows an invocation takes where there are enough.
    pub(super) fn new(caps: &Caps, n: usize, rows: usize, turns: usize, slots: usize) -> Result<Self> {
        let quads = word(n.div_ceil(4))?;
        let across = quads.next_power_of_two().min(64);
        let down = 64 / across;
        let groups = word(rows.div_ceil(turns))?.div_ceil(down).min(caps.max_workgroups);
        let step = word(slots)?.min(caps.max_workgroups);
        Ok(Self {
            shift: across.trailing_zeros(),
            row_step: groups * down,
            step,
            grid: Grid::Direct([quads.div_ceil(across), groups, step]),
        })
    }
}

/// Workgroups for `items` shared out `each` at a time, and for slots.
pub(super) fn grid(caps: &Caps, items: usize, each: usize, slots: usize) -> Result<[u32; 2]> {
    Ok([word(items.div_ceil(each))?.min(caps.max_workgroups), word(slots)?.min(caps.max_workgroups)])
}
