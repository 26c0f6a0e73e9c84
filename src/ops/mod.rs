//! Operators: one file a kernel family, each of which records dispatches.
//!
//! Every operator has a leading batch axis; an operand whose stride along it is 0 is shared. No result depends on the
//! length of that axis, on the tile shape or on the device's clock.

pub mod columns;
pub mod conv;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod gather;
pub mod matmul;
pub mod norm;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod row_compact;
pub mod scan;
mod slots;
pub mod softmax;
pub mod sort;
pub mod transpose;
pub mod tune;
pub(crate) mod windows;

use crate::error::{Error, Result};
use crate::gpu::{Binding, Caps, Kernel};
use crate::tensor::{Element, Tensor};

/// One kernel of each permutation that this room ships, for validation, `doctor` and documentation.
pub fn catalogue() -> Vec<Kernel> {
    [
        columns::catalogue(),
        conv::catalogue(),
        dropout::catalogue(),
        elementwise::catalogue(),
        embedding::catalogue(),
        gather::catalogue(),
        matmul::catalogue(),
        norm::catalogue(),
        pool::catalogue(),
        random::catalogue(),
        reduce::catalogue(),
        row_compact::catalogue(),
        scan::catalogue(),
        softmax::catalogue(),
        sort::catalogue(),
        transpose::catalogue(),
    ]
    .concat()
}

/// A size as the `u32` that kernels use.
///
/// # Errors
/// [`crate::ErrorKind::TooBig`] beyond 2^32 - 1.
pub(crate) fn word(size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| {
        Error::new(crate::ErrorKind::TooBig, format!("a size of {size} elements is beyond what kernels address"))
            .with_help("use a smaller batch or network")
    })
}

/// Workgroups of 64 for a grid-stride loop over `len` elements, and the stride in elements.
pub(crate) fn strided_grid(len: usize, max_workgroups: u32) -> Result<(u32, u32)> {
    let groups = word(len.div_ceil(64))?.clamp(1, max_workgroups.min(16_384));
    Ok((groups, groups * 64))
}

/// Workgroups of 64 for loops over `len` things of every slot (x) and over the slots (y), and the strides of both loops.
pub(crate) fn slot_grid(len: usize, slots: usize, max_workgroups: u32) -> Result<([u32; 3], u32, u32)> {
    let (across, threads) = strided_grid(len, max_workgroups)?;
    let down = word(slots)?.min(max_workgroups);
    Ok(([if len == 0 { 0 } else { across }, down, 1], threads, down.max(1)))
}

/// Elements from one slot to the next of an operand whose first axis has the slots, or length 1 if they share it.
pub(crate) fn slot_stride<T: Element>(t: &Tensor<T>, slots: usize) -> Result<u32> {
    match (t.shape(), t.strides()) {
        // One slot alone has no next one; a shared operand of one slot neither.
        (&[1, ..], _) => Ok(0),
        (&[length, ..], &[stride, ..]) if length == slots => word(stride),
        _ => Err(Error::internal(format!("an operand of shape {:?} for {slots} slots", t.shape()))),
    }
}

/// Elements of one slot in memory, padding of its rows included, and the rows (of the last axis) in them.
pub(crate) fn slot_extent<T: Element>(t: &Tensor<T>) -> Result<(usize, usize)> {
    let rows: usize = t.shape().get(1..t.shape().len().max(2) - 1).map_or(1, |axes| axes.iter().product());
    if t.shape().len() < 2 || (rows > 1 && t.strides()[1] == 0) {
        return Err(Error::internal(format!("an operand of shape {:?} has no slots with rows", t.shape())));
    }
    Ok(if t.shape().len() == 2 { (t.columns(), 1) } else { (rows * t.row_stride(), rows) })
}

/// Refuses bindings that the adapter cannot bind.
pub(crate) fn bindable(caps: &Caps, bindings: &[Binding]) -> Result<()> {
    match bindings.iter().map(|b| b.size).max() {
        Some(largest) if largest > caps.max_binding => Err(windows::too_big(largest, caps.max_binding)),
        _ => Ok(()),
    }
}

/// A number of every slot: one for all, or two columns of a table `[slots, ..]` of its own.
#[derive(Debug, Clone, Copy)]
pub enum Coefficient<'a> {
    /// One for all slots.
    Fixed(f32),
    /// What the table holds for the slot, from this column on.
    Slots(&'a Tensor, usize),
}

impl Coefficient<'_> {
    /// Stride between slots and column in the table; zeros for a fixed one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if the table has no such slots or fewer than `width` columns from the first on.
    pub(crate) fn place(&self, slots: usize, width: usize) -> Result<(u32, u32)> {
        let Self::Slots(table, column) = *self else { return Ok((0, 0)) };
        if table.shape().len() != 2 || column + width > table.columns() {
            return Err(Error::internal(format!("columns from {column} on of a table of shape {:?}", table.shape())));
        }
        Ok((slot_stride(table, slots)?, word(column)?))
    }
}
