//! Sums over the rows of every column, slot by slot: gradients of biases and of affine parts. Kernels: `column_chunks`,
//! `column_sums`.
//!
//! Rows are taken in chunks of [`CHUNK`], whatever the device and the number of slots; what the chunks give is brought
//! together in an order that depends on their number alone.

use super::slots::{self, Lanes, Rows, leading, vectors};
use super::word;
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::{Tensor, pitch};

const COLUMN_CHUNKS: &str = include_str!("../../shaders/ops/column_chunks.wgsl");
const COLUMN_SUMS: &str = include_str!("../../shaders/ops/column_sums.wgsl");

/// Rows of a chunk.
pub const CHUNK: usize = 64;

params!(ColumnChunksParams {
    rows: u32,
    n: u32,
    chunks: u32,
    count: u32,
    row_x: u32,
    sample_x: u32,
    slot_x: u32,
    row_y: u32,
    sample_y: u32,
    slot_y: u32,
    slot_k: u32,
    slot_out: u32,
    samples: u32,
    shift: u32,
    chunk_step: u32,
    step: u32,
});
params!(ColumnSumsParams {
    width4: u32,
    chunks: u32,
    slots: u32,
    step: u32,
    slot_x: u32,
    slot_out: u32,
    pad0: u32,
    pad1: u32,
});

/// Shape of the scratch that sums over the rows of an array `[slots, rows.., n]` need: `[slots, chunks, n]`.
pub fn scratch(shape: &[usize]) -> [usize; 3] {
    let (slots, n) = (shape.first().copied().unwrap_or(0), shape.last().copied().unwrap_or(0));
    let rows: usize = shape.get(1..shape.len().saturating_sub(1)).unwrap_or_default().iter().product();
    [slots, rows.div_ceil(CHUNK), n]
}

/// Records `out[b, j] = sum over the rows of x[b, .., j]` for `x` `[slots, rows.., n]` and `out` `[slots, n]`, which may be
/// a field of a table. `scratch` has the shape that [`scratch`] says. Padding behind a row of `out` becomes 0.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] if a slot is larger than a
/// binding.
pub fn sums(recording: &mut Recording, caps: &Caps, x: &Tensor, scratch: &Tensor, out: &Tensor) -> Result<()> {
    check(x, x, scratch, out)?;
    reduce(recording, caps, &Chunks::of(Terms::Plain, x), scratch, out)
}

/// Records `out[b, j] = sum over the rows of x[b, .., j] y[b, .., j]`, for `x` and `y` of one shape, otherwise as [`sums`].
///
/// # Errors
/// As [`sums`].
pub fn products(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor,
    y: &Tensor,
    scratch: &Tensor,
    out: &Tensor,
) -> Result<()> {
    check(x, y, scratch, out)?;
    reduce(recording, caps, &Chunks { y: Some(y), ..Chunks::of(Terms::Product, x) }, scratch, out)
}

fn check(x: &Tensor, y: &Tensor, given: &Tensor, out: &Tensor) -> Result<()> {
    let [slots, _, n] = scratch(x.shape());
    if x.shape() != y.shape() || given.shape() != scratch(x.shape()) || out.shape() != [slots, n] {
        let shapes = [x.shape(), y.shape(), given.shape(), out.shape()];
        return Err(Error::internal(format!("column sums of arrays of shapes {shapes:?}")));
    }
    Ok(())
}

/// What is summed, after the header of column_chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    Plain,
    Product,
    Moments,
    ByColumn,
    ByRow,
}

impl Terms {
    const ALL: [Self; 5] = [Self::Plain, Self::Product, Self::Moments, Self::ByColumn, Self::ByRow];

    fn kernel(self) -> Kernel {
        let operands = match self {
            Self::Plain | Self::Moments => 1,
            Self::Product => 2,
            Self::ByColumn | Self::ByRow => 3,
        };
        let mut bindings = vec![Access::Read; operands];
        bindings.push(Access::Write);
        let normal = matches!(self, Self::ByColumn | Self::ByRow);
        Kernel::new::<ColumnChunksParams>("column_chunks", COLUMN_CHUNKS, &bindings)
            .define("CHUNK", CHUNK)
            .flag("TWO", operands > 1)
            .flag("NORMAL", normal)
            .flag("PAIR", normal || self == Self::Moments)
            .flag("MOMENTS", self == Self::Moments)
            .flag("BY_COLUMN", self == Self::ByColumn)
            .flag("BY_ROW", self == Self::ByRow)
    }
}

/// Operands of column_chunks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks<'a> {
    pub(super) terms: Terms,
    /// Whether the second axis are samples, summed apart.
    pub(super) samples: bool,
    pub(super) x: &'a Tensor,
    pub(super) y: Option<&'a Tensor>,
    pub(super) k: Option<&'a Tensor>,
}

impl<'a> Chunks<'a> {
    pub(super) fn of(terms: Terms, x: &'a Tensor) -> Self {
        Self { terms, samples: false, x, y: None, k: None }
    }
}

/// Records the sums of chunks and brings them together in `out`; a single chunk goes there at once.
pub(super) fn reduce(
    recording: &mut Recording,
    caps: &Caps,
    what: &Chunks<'_>,
    scratch: &Tensor,
    out: &Tensor,
) -> Result<()> {
    let count = Rows::new(what.x, what.samples)?.rows.div_ceil(CHUNK);
    if count == 1 {
        return chunks(recording, caps, what, out);
    }
    chunks(recording, caps, what, scratch)?;
    add_up(recording, caps, scratch, (what.samples, count), out)
}

/// Records the sums of every chunk: `out` is `[slots, (samples,) chunks, (2,) n]`, or has no axis of chunks where there is
/// one.
pub(super) fn chunks(recording: &mut Recording, caps: &Caps, what: &Chunks<'_>, out: &Tensor) -> Result<()> {
    let x = Rows::new(what.x, what.samples)?;
    let y = Rows::new(what.y.unwrap_or(what.x), what.samples)?;
    let slot_k = what.k.map_or(Ok(0), |k| leading(k, what.samples))?;
    let slot_out = leading(out, what.samples)?;
    let chunks = x.rows.div_ceil(CHUNK);
    let operands: Vec<&Tensor> = [Some(what.x), what.y, what.k, Some(out)].into_iter().flatten().collect();
    for range in slots::ranges(caps, &operands)? {
        let count = range.len() * x.samples;
        let lanes = Lanes::new(caps, x.n, chunks, 1, count)?;
        let params = ColumnChunksParams {
            rows: word(x.rows)?,
            n: word(x.n)?,
            chunks: word(chunks)?,
            count: word(count)?,
            row_x: x.row,
            sample_x: x.sample,
            slot_x: x.slot,
            row_y: y.row,
            sample_y: y.sample,
            slot_y: y.slot,
            slot_k,
            slot_out,
            samples: word(x.samples)?,
            shift: lanes.shift,
            chunk_step: lanes.row_step,
            step: lanes.step,
            ..Default::default()
        };
        let work = 4.0 * (count * x.rows * x.n) as f64;
        recording.dispatch(&what.terms.kernel(), slots::bindings(&operands, &range)?, &params, lanes.grid, work)?;
    }
    Ok(())
}

/// Records `out[s, ..] = sum of parts[s, chunk, ..]` over that many chunks, where s counts slots or, with samples, slots and
/// samples.
pub(super) fn add_up(
    recording: &mut Recording,
    caps: &Caps,
    parts: &Tensor,
    (samples, chunks): (bool, usize),
    out: &Tensor,
) -> Result<()> {
    let lead = if samples { 2 } else { 1 };
    let (slot_x, slot_out) = (leading(parts, samples)?, leading(out, samples)?);
    // Elements of what a chunk left, with padding.
    let width = parts.strides().get(lead).copied().unwrap_or(0);
    let inner = &out.shape()[lead..];
    let own = inner.iter().rev().skip(1).product::<usize>() * pitch(out.columns());
    if parts.shape().len() != out.shape().len() + 1
        || parts.shape()[lead + 1..] != *inner
        || own != width
        || chunks > parts.shape()[lead]
    {
        let what = format!("sums over the chunks of {:?} in {:?}", parts.shape(), out.shape());
        return Err(Error::internal(what));
    }
    let width4 = vectors(width)?;
    for range in slots::ranges(caps, &[parts, out])? {
        let count = range.len() * if samples { parts.shape()[1] } else { 1 };
        let [across, step] = slots::grid(caps, width4 as usize, 4, count)?;
        let params = ColumnSumsParams {
            width4,
            chunks: word(chunks)?,
            slots: word(count)?,
            step,
            slot_x,
            slot_out,
            ..Default::default()
        };
        let bindings = slots::bindings(&[parts, out], &range)?;
        let work = (count * chunks * width) as f64;
        recording.dispatch(&sums_kernel(), bindings, &params, Grid::Direct([across, step, 1]), work)?;
    }
    Ok(())
}

fn sums_kernel() -> Kernel {
    Kernel::new::<ColumnSumsParams>("column_sums", COLUMN_SUMS, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    Terms::ALL.iter().map(|terms| terms.kernel()).chain([sums_kernel()]).collect()
}
