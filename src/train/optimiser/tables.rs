//! Passes over a whole array's tables: the step of an optimiser, and the norm of every slot's gradient.
//! Kernels: `optimise`, `gradient_squares`, `gradient_clip`.
//!
//! Tables are `[slots, P]` with the same P. Padding behind the rows of a field may hold anything: a step updates it along
//! with the rest (what it holds never reaches an element), and the norm leaves it out, for which it wants to know the fields
//! ([`NormPlan`]).

use std::ops::Range;

use super::{COEFFICIENTS, Formula};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::ops::{bindable, slot_grid, slot_stride, windows, word};
use crate::tensor::{Tensor, pitch};

const OPTIMISE: &str = include_str!("../../../shaders/train/optimise.wgsl");
const GRADIENT_SQUARES: &str = include_str!("../../../shaders/train/gradient_squares.wgsl");
const GRADIENT_CLIP: &str = include_str!("../../../shaders/train/gradient_clip.wgsl");
/// Most elements of a chunk of the norm. Part of the order of summation: not to be changed by what a device likes.
const CHUNK: usize = 4096;

params!(OptimiseParams {
    quads: u32,
    threads: u32,
    slots: u32,
    slot_step: u32,
    stride_w: u32,
    stride_g: u32,
    stride_s: u32,
    stride_t: u32,
    stride_c: u32,
    stride_f: u32,
    first: u32,
    pad: u32,
});
params!(GradientSquaresParams {
    count: u32,
    groups: u32,
    slots: u32,
    slot_step: u32,
    stride_table: u32,
    stride_partial: u32,
    pad0: u32,
    pad1: u32,
});
params!(GradientClipParams {
    count: u32,
    slots: u32,
    groups: u32,
    stride_partial: u32,
    stride_c: u32,
    stride_out: u32,
    pad0: u32,
    pad1: u32,
});

/// What a step of an optimiser reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct StepTables<'a> {
    /// Parameters `[slots, P]`.
    pub parameters: &'a Tensor,
    /// Gradients `[slots, P]`.
    pub gradients: &'a Tensor,
    /// State, up to two tables `[slots, P]`, as many as the neediest member wants ([`super::Optimiser::state_tables`]).
    pub state: &'a [Tensor],
    /// `[slots, 16]`, rows of [`super::Optimiser::coefficients`].
    pub coefficients: &'a Tensor,
    /// What [`record_norms`] wrote, `[slots, 4]`, if gradients are clipped.
    pub factors: Option<&'a Tensor>,
}

/// Records one step of an optimiser over all slots. A slot whose coefficients are zeros is not touched.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit and for more or fewer tables of state than the formula knows,
/// [`crate::ErrorKind::TooBig`] if no window along the slots fits a binding.
pub fn record_step(recording: &mut Recording, caps: &Caps, formula: Formula, tables: &StepTables<'_>) -> Result<()> {
    let Some(kernel) = optimise_kernel(formula, tables.state.len(), tables.factors.is_some()) else {
        return Err(Error::internal(format!("{} tables of state for {formula:?}", tables.state.len())));
    };
    let &[slots, width] = tables.parameters.shape() else { return Err(misfit(tables.parameters)) };
    let mut operands = vec![tables.parameters, tables.gradients, tables.coefficients];
    operands.extend(tables.state);
    operands.extend(tables.factors);
    for (i, operand) in operands.iter().enumerate() {
        let columns = match i {
            2 => COEFFICIENTS,
            i if i == 3 + tables.state.len() => 4,
            _ => width,
        };
        if operand.shape() != [slots, columns] {
            return Err(misfit(operand));
        }
    }
    // The tables are walked by windows; coefficients and factors are small and bound whole.
    let windowed: Vec<_> = [tables.parameters, tables.gradients].into_iter().chain(tables.state).collect();
    let strides: Vec<usize> = windowed.iter().map(|t| t.strides()[0]).collect();
    let whole: Vec<_> = windowed.iter().map(|t| t.binding()).collect();
    for range in windows::ranges(slots, &strides, &whole, caps.max_binding)? {
        let part = |i: usize| windows::binding(windowed[i], &range, strides[i], slots);
        let mut bindings = vec![part(0)?, part(1)?, tables.coefficients.binding()];
        for i in 2..windowed.len() {
            bindings.push(part(i)?);
        }
        bindings.extend(tables.factors.map(Tensor::binding));
        let (params, grid) = step_params(caps, tables, &range, width)?;
        let work = 10.0 * (range.len() * width) as f64;
        recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), work)?;
    }
    Ok(())
}

/// Parameters and grid of a step over these slots.
fn step_params(
    caps: &Caps,
    tables: &StepTables<'_>,
    slots: &Range<usize>,
    width: usize,
) -> Result<(OptimiseParams, [u32; 3])> {
    let quads = width.div_ceil(4);
    let (grid, threads, slot_step) = slot_grid(quads, slots.len(), caps.max_workgroups)?;
    let of = |t: Option<&Tensor>| t.map_or(Ok(0), |t| word(t.strides()[0] / 4));
    let params = OptimiseParams {
        quads: word(quads)?,
        threads,
        slots: word(slots.len())?,
        slot_step,
        stride_w: of(Some(tables.parameters))?,
        stride_g: of(Some(tables.gradients))?,
        stride_s: of(tables.state.first())?,
        stride_t: of(tables.state.get(1))?,
        stride_c: of(Some(tables.coefficients))?,
        stride_f: of(tables.factors)?,
        first: word(slots.start)?,
        ..Default::default()
    };
    Ok((params, grid))
}

fn misfit(t: &Tensor) -> Error {
    Error::internal(format!("a table of shape {:?} in a step of an optimiser", t.shape()))
}

/// A parameter in a table: where it starts in a slot's row, and its rows as [`Tensor`] lays them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// First element.
    pub first: usize,
    /// Rows.
    pub rows: usize,
    /// Elements of a row that count; the next row starts at the next multiple of four.
    pub columns: usize,
}

impl Field {
    /// The field that [`Tensor::field`] makes of the same numbers.
    pub fn new(first: usize, shape: &[usize]) -> Self {
        let columns = shape.last().copied().unwrap_or(1);
        Self { first, rows: shape[..shape.len().saturating_sub(1)].iter().product(), columns }
    }

    /// Pieces of at most [`CHUNK`] elements: whole rows, or parts of a long one. Their bounds depend on the field alone.
    fn chunks(&self, into: &mut Vec<[usize; 4]>) {
        let pitch = pitch(self.columns);
        // Rows without padding are one long row.
        let (rows, columns) =
            if pitch == self.columns { (1, self.rows * self.columns) } else { (self.rows, self.columns) };
        if columns > CHUNK || rows == 1 {
            for row in 0..rows {
                for at in (0..columns).step_by(CHUNK) {
                    into.push([self.first + row * pitch + at, 1, CHUNK.min(columns - at), 0]);
                }
            }
        } else {
            let together = CHUNK / pitch;
            for row in (0..rows).step_by(together.max(1)) {
                into.push([self.first + row * pitch, together.min(rows - row), columns, pitch]);
            }
        }
    }
}

/// The pieces in which norms of gradients are added up, on the device.
#[derive(Debug, Clone)]
pub struct NormPlan {
    chunks: Tensor<u32>,
    /// One behind the last element that belongs to a field.
    end: usize,
}

impl NormPlan {
    /// For a table with these fields.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for fields without elements or not at multiples of four, [`crate::ErrorKind::TooBig`]
    /// beyond 2^32 elements, and those of [`Tensor::from_slice_async`].
    pub async fn new_async(gpu: &Gpu, fields: &[Field]) -> Result<Self> {
        let mut chunks = Vec::new();
        for field in fields {
            if field.rows * field.columns == 0 || !field.first.is_multiple_of(4) {
                return Err(Error::internal(format!("a norm over {field:?}")));
            }
            field.chunks(&mut chunks);
        }
        let words = chunks.iter().flatten().map(|&n| word(n)).collect::<Result<Vec<u32>>>()?;
        let end = fields.iter().map(|f| f.first + (f.rows - 1) * pitch(f.columns) + f.columns).max().unwrap_or(0);
        Ok(Self { chunks: Tensor::from_slice_async(gpu, &[chunks.len().max(1), 4], pad(&words)).await?, end })
    }

    /// Blocking twin of [`NormPlan::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, fields: &[Field]) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, fields))
    }

    /// Shape of the scratch of [`record_norms`].
    pub fn scratch(&self, slots: usize) -> [usize; 2] {
        [slots, self.chunks.shape()[0]]
    }
}

/// A list that a buffer can hold: nothing becomes one chunk without rows.
fn pad(words: &[u32]) -> &[u32] {
    if words.is_empty() { &[0; 4] } else { words }
}

/// Records the norms of the gradients of all slots, and by what factor each is to be multiplied so that it stays below the
/// limit among its coefficients: `factors` `[slots, 4]` gets (factor, norm, 0, 0). Without a limit the factor is exactly 1.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] for tables larger than a binding.
pub fn record_norms(
    recording: &mut Recording,
    caps: &Caps,
    plan: &NormPlan,
    gradients: &Tensor,
    coefficients: &Tensor,
    scratch: &Tensor,
    factors: &Tensor,
) -> Result<()> {
    let &[slots, width] = gradients.shape() else { return Err(misfit(gradients)) };
    let count = plan.chunks.shape()[0];
    if plan.end > width
        || coefficients.shape() != [slots, COEFFICIENTS]
        || scratch.shape() != [slots, count]
        || factors.shape() != [slots, 4]
    {
        return Err(Error::internal(format!("norms of {:?} into {:?}", gradients.shape(), factors.shape())));
    }
    let most = caps.max_workgroups;
    let (groups, slot_step) = (word(count)?.min(most), word(slots)?.min(most));
    let params = GradientSquaresParams {
        count: word(count)?,
        groups,
        slots: word(slots)?,
        slot_step,
        stride_table: slot_stride(gradients, slots)? / 4,
        stride_partial: slot_stride(scratch, slots)?,
        ..Default::default()
    };
    let bindings = vec![gradients.binding(), plan.chunks.binding(), scratch.binding()];
    bindable(caps, &bindings)?;
    let work = 2.0 * gradients.len() as f64;
    recording.dispatch(&squares_kernel(), bindings, &params, Grid::Direct([groups, slot_step, 1]), work)?;
    let params = GradientClipParams {
        count: word(count)?,
        slots: word(slots)?,
        groups: slot_step,
        stride_partial: slot_stride(scratch, slots)?,
        stride_c: slot_stride(coefficients, slots)?,
        stride_out: slot_stride(factors, slots)?,
        ..Default::default()
    };
    let bindings = vec![scratch.binding(), coefficients.binding(), factors.binding()];
    recording.dispatch(&clip_kernel(), bindings, &params, Grid::Direct([slot_step, 1, 1]), scratch.len() as f64)
}

/// The kernel of a formula with so many tables of state, if there is one.
fn optimise_kernel(formula: Formula, tables: usize, clip: bool) -> Option<Kernel> {
    let flag = match (formula, tables) {
        (Formula::Sgd, 0 | 1) => "SGD",
        (Formula::Adam, 2) => "ADAM",
        (Formula::RmsProp, 1 | 2) => "RMS",
        _ => return None,
    };
    let mut bindings = vec![Access::Write, Access::Read, Access::Read];
    bindings.resize(3 + tables, Access::Write);
    let place = bindings.len();
    if clip {
        bindings.push(Access::Read);
    }
    let kernel = Kernel::new::<OptimiseParams>("optimise", OPTIMISE, &bindings)
        .flag(flag, true)
        .flag("ONE", tables >= 1)
        .flag("TWO", tables >= 2);
    Some(if clip { kernel.define("CLIP", place) } else { kernel })
}

fn squares_kernel() -> Kernel {
    Kernel::new::<GradientSquaresParams>(
        "gradient_squares",
        GRADIENT_SQUARES,
        &[Access::Read, Access::Read, Access::Write],
    )
}

fn clip_kernel() -> Kernel {
    Kernel::new::<GradientClipParams>("gradient_clip", GRADIENT_CLIP, &[Access::Read, Access::Read, Access::Write])
}

pub(in crate::train) fn catalogue() -> Vec<Kernel> {
    let formulas = [Formula::Sgd, Formula::Adam, Formula::RmsProp];
    let all =
        formulas.into_iter().flat_map(|f| (0..3).flat_map(move |n| [false, true].map(|c| optimise_kernel(f, n, c))));
    all.flatten().chain([squares_kernel(), clip_kernel()]).collect()
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Field};

    #[test]
    fn chunks_hold_every_element_once_and_no_padding() {
        for shape in
            [&[1][..], &[3], &[4097], &[9000], &[5, 3], &[3000, 5], &[70, 64], &[2, 9001], &[3, 3, 7, 6], &[4, 8192]]
        {
            let field = Field::new(128, shape);
            let pitch = super::pitch(field.columns);
            let mut expected: Vec<usize> =
                (0..field.rows).flat_map(|r| (0..field.columns).map(move |c| 128 + r * pitch + c)).collect();
            let mut chunks = Vec::new();
            field.chunks(&mut chunks);
            let mut held: Vec<usize> = Vec::new();
            for &[first, rows, columns, step] in &chunks {
                assert!(rows * columns <= CHUNK && first % 4 == 0 && step % 4 == 0, "{shape:?}");
                held.extend((0..rows).flat_map(|r| (0..columns).map(move |c| first + r * step + c)));
            }
            held.sort_unstable();
            expected.sort_unstable();
            assert_eq!(held, expected, "{shape:?}");
        }
    }
}
