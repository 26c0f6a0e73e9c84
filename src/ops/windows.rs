//! Windows along one axis, for operators whose operands are larger than a binding.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Binding;
use crate::tensor::{ALIGNED, Element, Tensor};

/// Ranges of an axis of this length such that every operand's share of a range fits a binding and starts at an aligned
/// place; the whole axis if all operands fit as they are. `strides` has each operand's elements from one index to
/// the next, 0 if all indices share it, and `whole` what would be bound of it.
///
/// # Errors
/// [`ErrorKind::TooBig`] if no range fits.
pub(crate) fn ranges(
    length: usize,
    strides: &[usize],
    whole: &[Binding],
    max_binding: u64,
) -> Result<Vec<Range<usize>>> {
    let step =
        if whole.iter().all(|b| b.size <= max_binding) { length.max(1) } else { step(strides, whole, max_binding)? };
    Ok((0..length).step_by(step).map(|start| start..length.min(start + step)).collect())
}

/// The longest range of an axis that fits, as [`ranges`] says.
pub(crate) fn step(strides: &[usize], whole: &[Binding], max_binding: u64) -> Result<usize> {
    let most = usize::try_from(max_binding / 4).unwrap_or(usize::MAX);
    let shared_fits = strides.iter().zip(whole).all(|(&s, b)| s > 0 || b.size <= max_binding);
    let unit = (0..7).map(|power| 1 << power).find(|unit| strides.iter().all(|s| (s * unit).is_multiple_of(ALIGNED)));
    let unit = unit.unwrap_or(ALIGNED);
    let step = strides.iter().filter(|&&s| s > 0).map(|s| most / s).min().unwrap_or(0) / unit * unit;
    if step == 0 || !shared_fits {
        let bytes = whole.iter().map(|b| b.size).max().unwrap_or(0);
        return Err(too_big(bytes, max_binding));
    }
    Ok(step)
}

/// An operand's share of a range of an axis of this length.
pub(crate) fn binding<T: Element>(
    t: &Tensor<T>,
    range: &Range<usize>,
    stride: usize,
    length: usize,
) -> Result<Binding> {
    if stride == 0 || range.len() == length {
        return Ok(t.binding());
    }
    t.part(range.start * stride, range.len() * stride)
}

pub(crate) fn too_big(bytes: u64, max_binding: u64) -> Error {
    let what =
        format!("an array of {bytes} bytes has no windows of at most {max_binding} bytes, which this adapter binds");
    Error::new(ErrorKind::TooBig, what)
        .with_help("use a smaller batch or network, or an adapter with larger bindings (`wavehull devices`)")
}
