//! The loss of certified training. Kernel: `loss_certified`.

use super::{COUNTABLE, Labels, LossOut, RESULTS, count, misfit, sum};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{Coefficient, bindable, slot_grid, slot_stride, word};
use crate::tensor::Tensor;

const LOSS_CERTIFIED: &str = include_str!("../../../shaders/train/loss_certified.wgsl");

params!(LossCertifiedParams {
    rows: u32,
    classes: u32,
    pitch: u32,
    threads: u32,
    slots: u32,
    slot_step: u32,
    stride_logits: u32,
    stride_radii: u32,
    stride_gradient: u32,
    stride_g_radii: u32,
    stride_targets: u32,
    stride_scratch: u32,
    plane: u32,
    stride_results: u32,
    stride_c: u32,
    column: u32,
    bounds: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Which rows the results count as correct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Those whose label has the largest logit.
    Logits,
    /// Those whose label has it for whatever the bounds allow.
    Bounds,
}

/// What a certified loss takes besides logits.
#[derive(Debug, Clone, Copy)]
pub struct Intervals<'a> {
    /// Radii of the logits' intervals, `[slots, rows, classes]`.
    pub radii: &'a Tensor,
    /// Where their gradient goes; it is there if that of the logits is.
    pub gradient: Option<&'a Tensor>,
    /// The slots' shares of the loss of the samples themselves.
    pub share: (&'a Tensor, usize),
    /// What counts as correct.
    pub right: Right,
}

/// Records `s CE(x, t) + (1 - s) CE(z, t)` as a mean over the rows of a slot whose label names a class, for `logits` `[slots, 2 rows,
/// classes]`, those of the samples before the centres, and labels `[slots or 1, rows]`; z are the worst logits that centres and radii
/// allow. The scratch of `out` is `[slots, 3, rows]`.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] from 2^24 rows a slot on and for arrays larger than a
/// binding.
pub fn certified(
    recording: &mut Recording,
    caps: &Caps,
    logits: &Tensor,
    intervals: &Intervals<'_>,
    targets: &Tensor<u32>,
    out: &LossOut<'_>,
) -> Result<()> {
    let (slots, rows, classes) = extent(logits, intervals, targets, out)?;
    let labels = Labels { columns: rows, pitch: targets.row_stride(), stride: slot_stride(targets, slots)? };
    if out.gradient.is_some() {
        count(recording, caps, targets, &labels, [slots, rows, classes], out.results)?;
    }
    let (grid, threads, slot_step) = slot_grid(rows, slots, caps.max_workgroups)?;
    let (table, column) = intervals.share;
    let (stride_c, column) = Coefficient::Slots(table, column).place(slots, 1)?;
    let stride = |t: Option<&Tensor>| t.map_or(Ok(0), |t| slot_stride(t, slots));
    let params = LossCertifiedParams {
        rows: word(rows)?,
        classes: word(classes)?,
        pitch: word(logits.row_stride())?,
        threads,
        slots: word(slots)?,
        slot_step,
        stride_logits: slot_stride(logits, slots)?,
        stride_radii: slot_stride(intervals.radii, slots)?,
        stride_gradient: stride(out.gradient)?,
        stride_g_radii: stride(intervals.gradient)?,
        stride_targets: labels.stride,
        stride_scratch: slot_stride(out.scratch, slots)?,
        plane: word(out.scratch.row_stride())?,
        stride_results: slot_stride(out.results, slots)?,
        stride_c,
        column,
        bounds: u32::from(intervals.right == Right::Bounds),
        ..Default::default()
    };
    let mut bindings = vec![logits.binding(), intervals.radii.binding(), targets.binding(), table.binding()];
    bindings.push(out.scratch.binding());
    if let (Some(gradient), Some(of_radii)) = (out.gradient, intervals.gradient) {
        bindings.extend([gradient.binding(), of_radii.binding(), out.results.binding()]);
    }
    bindable(caps, &bindings)?;
    let kernel = kernel(out.gradient.is_some());
    recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), 80.0 * logits.len() as f64)?;
    sum(recording, caps, rows, out)
}

/// Slots, rows and classes, where everything has the shape that it must have.
fn extent(
    logits: &Tensor,
    intervals: &Intervals<'_>,
    targets: &Tensor<u32>,
    out: &LossOut<'_>,
) -> Result<(usize, usize, usize)> {
    let &[slots, rows, classes] = intervals.radii.shape() else { return Err(misfit(logits, targets, out)) };
    let fits = logits.shape() == [slots, 2 * rows, classes]
        && slots * rows * classes > 0
        && out.gradient.is_none_or(|g| g.shape() == logits.shape())
        && intervals.gradient.is_none_or(|g| g.shape() == intervals.radii.shape())
        && out.gradient.is_some() == intervals.gradient.is_some()
        && out.scratch.shape() == [slots, 3, rows]
        && out.results.shape() == [slots, RESULTS]
        && targets.shape().len() == 2
        && targets.columns() == rows;
    if !fits {
        return Err(misfit(logits, targets, out));
    }
    if rows >= COUNTABLE {
        let what = format!("a loss over {rows} rows a slot, and counts are exact below 2^24");
        return Err(Error::new(ErrorKind::TooBig, what).with_help("use a smaller batch"));
    }
    Ok((slots, rows, classes))
}

fn kernel(gradient: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];
    if gradient {
        bindings.extend([Access::Write, Access::Write, Access::Read]);
    }
    Kernel::new::<LossCertifiedParams>("loss_certified", LOSS_CERTIFIED, &bindings).flag("GRADIENT", gradient)
}

pub(super) fn catalogue() -> [Kernel; 2] {
    [false, true].map(kernel)
}
