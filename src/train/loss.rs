//! Losses of every slot with their gradients, as means over the slot's rows.
//! Kernels: `loss_count`, `loss_classes`, `loss_elements`, `loss_sum`; `loss_certified`.
//!
//! A loss leaves four numbers a slot in `results` `[slots, 4]`: mean loss, what is correct, what counted, sum of losses.
//! Sums have a fixed order that depends on a slot's rows alone; a NaN stays in its slot. `results` may be a part of larger
//! memory ([`Tensor::at`]).

mod certified;

pub use certified::{Intervals, Right, certified};

use super::set::Targets;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{Coefficient, bindable, slot_extent, slot_grid, slot_stride, word};
use crate::tensor::{Element, Tensor};

const LOSS_COUNT: &str = include_str!("../../shaders/train/loss_count.wgsl");
const LOSS_CLASSES: &str = include_str!("../../shaders/train/loss_classes.wgsl");
const LOSS_ELEMENTS: &str = include_str!("../../shaders/train/loss_elements.wgsl");
const LOSS_SUM: &str = include_str!("../../shaders/train/loss_sum.wgsl");

/// A label that names no class: its row counts for nothing.
pub const IGNORED: u32 = u32::MAX;
/// Columns of results.
pub const RESULTS: usize = 4;
/// Rows of more classes are shared by a workgroup.
const NARROW: usize = 128;
/// Slots of at most so many logits (in narrow rows) are done by a workgroup each, in one dispatch.
const WHOLE: usize = 4096;
/// Elements that one invocation adds up in losses of elements.
const PIECE: usize = 64;
/// Counts in f32 are exact below.
const COUNTABLE: usize = 1 << 24;

params!(LossCountParams {
    rows: u32,
    classes: u32,
    columns: u32,
    pitch: u32,
    slots: u32,
    groups: u32,
    stride_targets: u32,
    stride_results: u32,
});
params!(LossClassesParams {
    rows: u32,
    classes: u32,
    pitch: u32,
    row_step: u32,
    slots: u32,
    slot_step: u32,
    stride_logits: u32,
    stride_gradient: u32,
    stride_targets: u32,
    columns: u32,
    target_pitch: u32,
    stride_scratch: u32,
    plane: u32,
    stride_results: u32,
    stride_table: u32,
    column: u32,
    smoothing: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(LossElementsParams {
    pieces: u32,
    of_row: u32,
    columns: u32,
    pitch: u32,
    threads: u32,
    slots: u32,
    slot_step: u32,
    stride_x: u32,
    stride_targets: u32,
    stride_gradient: u32,
    stride_scratch: u32,
    plane: u32,
    elements: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(LossSumParams {
    rows: u32,
    plane: u32,
    slots: u32,
    groups: u32,
    stride_scratch: u32,
    stride_results: u32,
    pad0: u32,
    pad1: u32,
});

/// What is minimised: a mean over the samples of a batch, and over the positions of a sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Softmax cross-entropy of the output's last axis.
    CrossEntropy {
        /// The share of a target that is spread over all classes, from 0 to below 1.
        smoothing: f32,
    },
    /// The squared difference from values.
    MeanSquare,
    /// Binary cross-entropy of logits against probabilities.
    BinaryLogits,
    /// Cross-entropy of a sample and of the worst case in a box around it, which is each member's own ([`super::Certify`]).
    Certified,
}

impl Default for Loss {
    fn default() -> Self {
        Self::CrossEntropy { smoothing: 0.0 }
    }
}

impl Loss {
    /// Shape of the scratch for outputs of this shape.
    pub(super) fn scratch(self, output: &[usize]) -> [usize; 3] {
        match (self, output) {
            (Self::CrossEntropy { .. }, _) => scratch_of_classes(output),
            // Rows of samples and of centres come in pairs.
            (Self::Certified, &[slots, rows, _]) => [slots, 3, rows / 2],
            _ => scratch_of_elements(output),
        }
    }

    /// Records the loss of outputs `[slots, batch, (positions,) columns]`.
    pub(super) fn record(
        self,
        recording: &mut Recording,
        caps: &Caps,
        output: &Tensor,
        targets: &Targets,
        out: &LossOut<'_>,
    ) -> Result<()> {
        let element = match self {
            Self::CrossEntropy { .. } | Self::Certified => None,
            Self::MeanSquare => Some(ElementLoss::MeanSquare),
            Self::BinaryLogits => Some(ElementLoss::BinaryLogits),
        };
        match (self, element, targets) {
            (Self::CrossEntropy { smoothing }, _, Targets::Classes(labels)) => {
                cross_entropy(recording, caps, Coefficient::Fixed(smoothing), output, labels, out)
            }
            (_, Some(loss), Targets::Values(values)) => elements(recording, caps, loss, output, values, out),
            _ => Err(Error::internal("targets of another loss")),
        }
    }
}

/// A loss of elements against targets of the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementLoss {
    /// The squared difference.
    MeanSquare,
    /// Binary cross-entropy of logits against probabilities.
    BinaryLogits,
}

/// Where a loss puts what it finds; see [`scratch_of_classes`] and [`scratch_of_elements`].
#[derive(Debug, Clone, Copy)]
pub struct LossOut<'a> {
    /// Gradient of a slot's mean loss, of the input's shape; without it the loss is only evaluated.
    pub gradient: Option<&'a Tensor>,
    /// Losses of rows on their way into the sums; small batches do without and leave it as it is.
    pub scratch: &'a Tensor,
    /// `[slots, 4]`: mean loss, correct, counted, sum of losses.
    pub results: &'a Tensor,
}

/// Shape of the scratch of [`cross_entropy`] for logits of this shape: of every row loss, whether it is correct, whether it
/// counts.
pub fn scratch_of_classes(logits: &[usize]) -> [usize; 3] {
    let rows = logits.get(1..logits.len().max(2) - 1).map_or(1, |axes| axes.iter().product());
    [logits.first().copied().unwrap_or(1), 3, rows]
}

/// Shape of the scratch of [`elements`] for inputs of this shape, the same three of pieces of rows.
pub fn scratch_of_elements(x: &[usize]) -> [usize; 3] {
    let [slots, planes, rows] = scratch_of_classes(x);
    [slots, planes, rows * x.last().map_or(1, |n| n.div_ceil(PIECE))]
}

/// Records softmax cross-entropy with label smoothing, as a mean over the rows of a slot whose label names a class, for
/// `logits`
/// `[slots, .., classes]` and labels `[slots or 1, ..]`.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::BadInput`] for a smoothing outside `[0, 1)`,
/// [`ErrorKind::TooBig`] from 2^24 rows a slot on and for arrays larger than a binding.
pub fn cross_entropy(
    recording: &mut Recording,
    caps: &Caps,
    smoothing: Coefficient<'_>,
    logits: &Tensor,
    targets: &Tensor<u32>,
    out: &LossOut<'_>,
) -> Result<()> {
    let (slots, classes, rows) = check(logits, targets, out, scratch_of_classes(logits.shape()))?;
    let middle = &logits.shape()[1..logits.shape().len() - 1];
    if classes == 0 || targets.shape()[1..] != *middle || targets.is_empty() {
        return Err(misfit(logits, targets, out));
    }
    if let Coefficient::Fixed(s) = smoothing
        && !(0.0..1.0).contains(&s)
    {
        return Err(Error::new(ErrorKind::BadInput, format!("a label smoothing of {s}"))
            .with_help("give a share from 0 (none) to below 1"));
    }
    let labels =
        Labels { columns: targets.columns(), pitch: targets.row_stride(), stride: slot_stride(targets, slots)? };
    let form = Form::of(rows, classes);
    if form == Form::Whole {
        return classes_of_rows(recording, caps, smoothing, logits, targets, &labels, out, form);
    }
    if out.gradient.is_some() {
        count(recording, caps, targets, &labels, [slots, rows, classes], out.results)?;
    }
    classes_of_rows(recording, caps, smoothing, logits, targets, &labels, out, form)?;
    sum(recording, caps, rows, out)
}

/// Records a loss of elements as a mean over all elements of a slot, for `x` `[slots, .., columns]` and targets `[slots or
/// 1, .., columns]`.
///
/// # Errors
/// As [`cross_entropy`].
pub fn elements(
    recording: &mut Recording,
    caps: &Caps,
    loss: ElementLoss,
    x: &Tensor,
    targets: &Tensor,
    out: &LossOut<'_>,
) -> Result<()> {
    let [_, _, pieces] = scratch_of_elements(x.shape());
    let (slots, columns, rows) = check(x, targets, out, scratch_of_elements(x.shape()))?;
    if targets.shape()[1..] != x.shape()[1..] || targets.is_empty() || rows * columns >= COUNTABLE {
        return Err(misfit(x, targets, out));
    }
    let (grid, threads, slot_step) = slot_grid(pieces, slots, caps.max_workgroups)?;
    let params = LossElementsParams {
        pieces: word(pieces)?,
        of_row: word(columns.div_ceil(PIECE))?,
        columns: word(columns)?,
        pitch: word(x.row_stride())?,
        threads,
        slots: word(slots)?,
        slot_step,
        stride_x: slot_stride(x, slots)?,
        stride_targets: slot_stride(targets, slots)?,
        stride_gradient: out.gradient.map_or(Ok(0), |g| slot_stride(g, slots))?,
        stride_scratch: slot_stride(out.scratch, slots)?,
        plane: word(out.scratch.row_stride())?,
        elements: (rows * columns) as f32,
        ..Default::default()
    };
    let mut bindings = vec![x.binding(), targets.binding(), out.scratch.binding()];
    bindings.extend(out.gradient.map(Tensor::binding));
    bindable(caps, &bindings)?;
    let kernel = elements_kernel(loss, out.gradient.is_some());
    recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), 20.0 * x.len() as f64)?;
    sum(recording, caps, pieces, out)
}

/// Who does what in `loss_classes`. Part of the order of summation: chosen by the shape of a slot alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An invocation has a row.
    Narrow,
    /// A workgroup has a row.
    Wide,
    /// A workgroup has all rows of a slot.
    Whole,
}

impl Form {
    fn of(rows: usize, classes: usize) -> Self {
        if classes > NARROW {
            Self::Wide
        } else if rows * classes > WHOLE {
            Self::Narrow
        } else {
            Self::Whole
        }
    }
}

/// How labels lie in memory.
struct Labels {
    columns: usize,
    pitch: usize,
    stride: u32,
}

/// Slots, length of the last axis and rows of a slot, where everything has the shape it must have.
fn check<T: Element>(
    x: &Tensor,
    targets: &Tensor<T>,
    out: &LossOut<'_>,
    scratch: [usize; 3],
) -> Result<(usize, usize, usize)> {
    let (_, rows) = slot_extent(x)?;
    let slots = x.shape()[0];
    let fits = out.gradient.is_none_or(|g| g.shape() == x.shape())
        && out.scratch.shape() == scratch
        && out.results.shape() == [slots, RESULTS]
        && targets.shape().len() >= 2
        && !x.is_empty();
    if !fits {
        return Err(misfit(x, targets, out));
    }
    if rows >= COUNTABLE {
        return Err(Error::new(
            ErrorKind::TooBig,
            format!("a loss over {rows} rows a slot, and counts are exact below 2^24"),
        )
        .with_help("use a smaller batch"));
    }
    Ok((slots, x.columns(), rows))
}

fn misfit<T: Element>(x: &Tensor, targets: &Tensor<T>, out: &LossOut<'_>) -> Error {
    Error::internal(format!(
        "a loss of {:?} against {:?} into {:?}, {:?} and {:?}",
        x.shape(),
        targets.shape(),
        out.gradient.map(Tensor::shape),
        out.scratch.shape(),
        out.results.shape()
    ))
}

/// Counts the rows that a mean divides by.
fn count(
    recording: &mut Recording,
    caps: &Caps,
    targets: &Tensor<u32>,
    labels: &Labels,
    [slots, rows, classes]: [usize; 3],
    results: &Tensor,
) -> Result<()> {
    let groups = word(slots)?.min(caps.max_workgroups);
    let params = LossCountParams {
        rows: word(rows)?,
        classes: word(classes)?,
        columns: word(labels.columns)?,
        pitch: word(labels.pitch)?,
        slots: word(slots)?,
        groups,
        stride_targets: labels.stride,
        stride_results: slot_stride(results, slots)?,
        ..Default::default()
    };
    let bindings = vec![targets.binding(), results.binding()];
    recording.dispatch(&count_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), (slots * rows) as f64)
}

/// Losses of rows and the gradient.
#[expect(clippy::too_many_arguments, reason = "the middle of one function, taken out")]
fn classes_of_rows(
    recording: &mut Recording,
    caps: &Caps,
    smoothing: Coefficient<'_>,
    logits: &Tensor,
    targets: &Tensor<u32>,
    labels: &Labels,
    out: &LossOut<'_>,
    form: Form,
) -> Result<()> {
    let ([slots, _, rows], classes) = (scratch_of_classes(logits.shape()), logits.columns());
    let (mut grid, threads, slot_step) = slot_grid(rows, slots, caps.max_workgroups)?;
    match form {
        Form::Narrow => {}
        Form::Wide => grid[0] = word(rows)?.min(caps.max_workgroups),
        Form::Whole => grid[0] = 1,
    }
    let (stride_table, column) = smoothing.place(slots, 1)?;
    let params = LossClassesParams {
        rows: word(rows)?,
        classes: word(classes)?,
        pitch: word(logits.row_stride())?,
        row_step: match form {
            Form::Narrow => threads,
            Form::Wide => grid[0],
            Form::Whole => 64,
        },
        slots: word(slots)?,
        slot_step,
        stride_logits: slot_stride(logits, slots)?,
        stride_gradient: out.gradient.map_or(Ok(0), |g| slot_stride(g, slots))?,
        stride_targets: labels.stride,
        columns: word(labels.columns)?,
        target_pitch: word(labels.pitch)?,
        stride_scratch: slot_stride(out.scratch, slots)?,
        plane: word(out.scratch.row_stride())?,
        stride_results: slot_stride(out.results, slots)?,
        stride_table,
        column,
        smoothing: if let Coefficient::Fixed(s) = smoothing { s } else { 0.0 },
        ..Default::default()
    };
    let whole = form == Form::Whole;
    let sums = if whole { out.results } else { out.scratch };
    let mut bindings = vec![logits.binding(), targets.binding(), sums.binding()];
    if let Some(gradient) = out.gradient {
        bindings.push(gradient.binding());
        bindings.extend((!whole).then(|| out.results.binding()));
    }
    let table = if let Coefficient::Slots(table, _) = smoothing { Some(table) } else { None };
    bindings.extend(table.map(Tensor::binding));
    bindable(caps, &bindings)?;
    let kernel = classes_kernel(form, out.gradient.is_some(), table.is_some());
    recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), 40.0 * logits.len() as f64)
}

/// Adds up what rows left in the scratch.
fn sum(recording: &mut Recording, caps: &Caps, rows: usize, out: &LossOut<'_>) -> Result<()> {
    let slots = out.results.shape()[0];
    let groups = word(slots)?.min(caps.max_workgroups);
    let params = LossSumParams {
        rows: word(rows)?,
        plane: word(out.scratch.row_stride())?,
        slots: word(slots)?,
        groups,
        stride_scratch: slot_stride(out.scratch, slots)?,
        stride_results: slot_stride(out.results, slots)?,
        ..Default::default()
    };
    let bindings = vec![out.scratch.binding(), out.results.binding()];
    recording.dispatch(&sum_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), out.scratch.len() as f64)
}

fn count_kernel() -> Kernel {
    Kernel::new::<LossCountParams>("loss_count", LOSS_COUNT, &[Access::Read, Access::Write])
}

fn sum_kernel() -> Kernel {
    Kernel::new::<LossSumParams>("loss_sum", LOSS_SUM, &[Access::Read, Access::Write])
}

fn classes_kernel(form: Form, gradient: bool, table: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, Access::Write];
    if gradient {
        bindings.push(Access::Write);
        bindings.extend((form != Form::Whole).then_some(Access::Read));
    }
    let place = bindings.len();
    if table {
        bindings.push(Access::Read);
    }
    let kernel = Kernel::new::<LossClassesParams>("loss_classes", LOSS_CLASSES, &bindings)
        .flag("WIDE", form == Form::Wide)
        .flag("WHOLE", form == Form::Whole)
        .flag("TREE", form != Form::Narrow)
        .flag("GRADIENT", gradient);
    if table { kernel.define("SMOOTHING", place) } else { kernel }
}

fn elements_kernel(loss: ElementLoss, gradient: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, Access::Write];
    if gradient {
        bindings.push(Access::Write);
    }
    Kernel::new::<LossElementsParams>("loss_elements", LOSS_ELEMENTS, &bindings)
        .flag("LOGITS", loss == ElementLoss::BinaryLogits)
        .flag("GRADIENT", gradient)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let flags = (0..4).map(|bits| [bits & 1 != 0, bits & 2 != 0]);
    let forms = [Form::Narrow, Form::Wide, Form::Whole];
    let classes = flags.flat_map(|[gradient, table]| forms.map(|form| classes_kernel(form, gradient, table)));
    let losses = [ElementLoss::MeanSquare, ElementLoss::BinaryLogits];
    let elements = losses.into_iter().flat_map(|loss| [false, true].map(|gradient| elements_kernel(loss, gradient)));
    classes.chain(elements).chain(certified::catalogue()).chain([count_kernel(), sum_kernel()]).collect()
}
