//! A product as one dispatch, or as a walk over windows where an operand is larger than a binding.
//!
//! Windows are ranges of the batch if a range fits; else, batch by batch, ranges of rows, columns and terms. Ranges of
//! terms are walked in ascending order, each going on from the sums that the last one stored: the same chain of roundings,
//! so the same bits, as one dispatch.

use std::ops::Range;

use super::{BIAS, Matmul, MatmulParams, RELU, Shape, Variant, batch_stride};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Grid, Recording};
use crate::ops::word;
use crate::tensor::{ALIGNED, Tensor};

/// A product whose shapes fit.
pub(super) struct Product<'a> {
    pub matmul: &'a Matmul<'a>,
    pub variant: Variant,
    /// `a`, `b` and `c`, or the planes of a split-K product.
    pub operands: [&'a Tensor; 3],
    pub shape: &'a Shape,
    pub chunk: usize,
    pub chunks: usize,
}

/// A part of a product.
#[derive(Clone)]
struct Window {
    batch: Range<usize>,
    m: Range<usize>,
    n: Range<usize>,
    k: Range<usize>,
    /// The split-K part that `k` lies in, if parts are walked one by one.
    part: Option<usize>,
}

/// Consecutive ranges of at most `step` that make up `whole`.
fn ranges(whole: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = whole.end;
    whole.step_by(step.max(1)).map(move |start| start..end.min(start + step.max(1)))
}

/// The smallest number of steps of all these lengths, in elements, after which each is at an aligned place again.
fn unit(strides: &[usize]) -> usize {
    let fits = |unit: &usize| strides.iter().all(|stride| (stride * unit).is_multiple_of(ALIGNED));
    [1, 2, 4, 8, 16, 32].into_iter().find(fits).unwrap_or(ALIGNED)
}

impl Product<'_> {
    pub fn record(&self, recording: &mut Recording, max_binding: u64) -> Result<()> {
        let Shape { batch, m, n, k } = *self.shape;
        let whole = Window { batch: 0..batch, m: 0..m, n: 0..n, k: 0..k, part: None };
        if self.bound().iter().all(|t| t.binding().size <= max_binding) {
            return self.dispatch(recording, &whole, true);
        }
        let most = usize::try_from(max_binding / 4).unwrap_or(usize::MAX);
        let (strides, unit) = (self.strides(), unit(&self.strides()));
        let shared_fit = self.shared().iter().all(|t| t.binding().size <= max_binding);
        let step = strides.iter().map(|&s| most / s).min().unwrap_or(0) / unit * unit;
        if batch > 1 && step > 0 && shared_fit {
            return ranges(0..batch, step)
                .try_for_each(|batch| self.dispatch(recording, &Window { batch, ..whole.clone() }, true));
        }
        if batch > 1 && unit > 1 || self.matmul.gate.is_some() {
            return Err(self.too_big(max_binding));
        }
        (0..batch).try_for_each(|z| self.walk(recording, &Window { batch: z..z + 1, ..whole.clone() }, most))
    }

    /// One element of the batch in windows of rows, columns and terms: an operand's window is a range of its stored rows.
    fn walk(&self, recording: &mut Recording, whole: &Window, most: usize) -> Result<()> {
        let Matmul { trans_a, trans_b, .. } = *self.matmul;
        let [a, b, c] = self.operands.map(Tensor::row_stride);
        // Elements from one row (column, term) to the next decide where a range may start, lengths of rows how long it is.
        let along = |turned: bool, row: usize| if turned { (1, usize::MAX) } else { (row, most / row.max(1)) };
        let step = |one: (usize, usize), other: (usize, usize)| {
            let unit = unit(&[one.0, other.0]);
            one.1.min(other.1) / unit * unit
        };
        let of_m = step(along(trans_a, a), (c, most / c.max(1)));
        let of_n = step(along(!trans_b, b), (1, usize::MAX));
        let of_k = step(along(!trans_a, a), along(trans_b, b));
        let parts_start =
            self.chunks == 1 || (self.chunk.is_multiple_of(ALIGNED) && (self.shape.m * c).is_multiple_of(ALIGNED));
        if of_m == 0 || of_n == 0 || of_k == 0 || !parts_start {
            return Err(self.too_big(most as u64 * 4));
        }
        for part in 0..self.chunks {
            let first = part * self.chunk;
            let terms = first..self.shape.k.min(first + self.chunk);
            // A product without terms has one window without terms: its bias.
            let steps: Vec<_> = if terms.is_empty() {
                vec![terms.clone()]
            } else {
                ranges(terms.clone(), of_k.min(self.chunk)).collect()
            };
            for m in ranges(whole.m.clone(), of_m.min(self.shape.m)) {
                for n in ranges(whole.n.clone(), of_n.min(self.shape.n)) {
                    for k in steps.iter().cloned() {
                        let last = k.end == terms.end;
                        let (batch, m, n) = (whole.batch.clone(), m.clone(), n.clone());
                        self.dispatch(recording, &Window { batch, m, n, k, part: Some(part) }, last)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Records one window; `last` if its terms are the last ones of its outputs.
    fn dispatch(&self, recording: &mut Recording, window: &Window, last: bool) -> Result<()> {
        let [a, b, c] = self.operands;
        let Matmul { bias, gate, relu, .. } = *self.matmul;
        let Window { batch, m, n, k, part } = window;
        let (chunk, chunks) = if part.is_some() { (k.len().max(1), 1) } else { (self.chunk, self.chunks) };
        let goes_on = part.is_some_and(|part| k.start > part * self.chunk);
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let stride_bias = bias.filter(|t| t.shape().len() > 1).map_or(0, Tensor::row_stride);
        let lanes = self.variant.lanes(m.len(), n.len());
        let params = MatmulParams {
            m: word(m.len())?,
            n: word(n.len())?,
            k: word(k.len())?,
            chunk: word(chunk)?,
            lda: word(a.row_stride())?,
            ldb: word(b.row_stride())?,
            ldc: word(c.row_stride())?,
            chunks: word(chunks)?,
            stride_a: word(batch_stride(a))?,
            stride_b: word(batch_stride(b))?,
            // A range of rows of one element of the batch has no next one.
            stride_c: word(if m.len() == self.shape.m { self.stride_c() / self.chunks } else { 0 })?,
            stride_bias: word(gate.map_or(stride_bias, batch_stride))?,
            lanes,
            ld_gate: word(gate.map_or(0, Tensor::row_stride))?,
            flags: flag(bias.is_some() && last, BIAS) | flag(relu && last, RELU),
            ..Default::default()
        };
        let (rows, columns) = self.variant.tile(m.len(), n.len());
        let grid = [params.m.div_ceil(rows), params.n.div_ceil(columns), word(batch.len() * chunks)?];
        let work = 2.0 * batch.len() as f64 * m.len() as f64 * n.len() as f64 * k.len() as f64;
        let mut flags = self.matmul.flags();
        flags.extend(goes_on.then_some("ACCUMULATE"));
        let kernel = self.variant.kernel(&flags);
        recording.dispatch(&kernel, self.bindings(window)?, &params, Grid::Direct(grid), work)
    }

    fn bindings(&self, window: &Window) -> Result<Vec<crate::gpu::Binding>> {
        let Window { batch, m, n, k, part } = window;
        let Shape { batch: all, m: rows, .. } = *self.shape;
        if part.is_none() && batch.len() == all {
            return Ok(self.bound().iter().map(|t| t.binding()).collect());
        }
        let [a, b, c] = self.operands;
        let Matmul { trans_a, trans_b, bias, gate, .. } = *self.matmul;
        let turned = |swap: bool, row: &Range<usize>, column: &Range<usize>| {
            if swap { (column.clone(), row.clone()) } else { (row.clone(), column.clone()) }
        };
        // One element of the batch is a block of its rows; a range of the batch is whole.
        let block = |t: &Tensor, stride: usize, (row, column): (Range<usize>, Range<usize>)| {
            let start = batch.start * stride + row.start * t.row_stride() + column.start;
            let inside = if row.is_empty() { 0 } else { (row.len() - 1) * t.row_stride() + column.len() };
            t.part(start, (batch.len() - 1) * stride + inside)
        };
        let of_c = match part {
            Some(part) => part * rows + m.start..part * rows + m.end,
            None => 0..self.chunks * rows,
        };
        let mut bindings = vec![
            block(a, batch_stride(a), turned(trans_a, m, k))?,
            block(b, batch_stride(b), turned(trans_b, k, n))?,
            block(c, self.stride_c(), (of_c, n.clone()))?,
        ];
        // Without a bias the slot is bound to `a`, which the kernel then does not read there.
        bindings.push(match bias {
            None if gate.is_some() => block(gate.unwrap_or(a), gate.map_or(0, batch_stride), (m.clone(), n.clone()))?,
            None => bindings[0].clone(),
            Some(t) if t.shape().len() > 1 => block(t, t.row_stride(), (0..1, n.clone()))?,
            Some(t) => t.part(n.start, n.len())?,
        });
        Ok(bindings)
    }

    /// What is bound if all of it is.
    fn bound(&self) -> [&Tensor; 4] {
        let [a, b, c] = self.operands;
        [a, b, c, self.matmul.bias.or(self.matmul.gate).unwrap_or(a)]
    }

    /// Elements from one element of the batch to the next, of the operands that have one each.
    fn strides(&self) -> Vec<usize> {
        let [a, b, _] = self.operands;
        let bias = self.matmul.bias.filter(|t| t.shape().len() > 1).map_or(0, Tensor::row_stride);
        let gate = self.matmul.gate.map_or(0, batch_stride);
        [batch_stride(a), batch_stride(b), self.stride_c(), bias, gate]
            .into_iter()
            .filter(|&stride| stride > 0)
            .collect()
    }

    /// Elements from one element of the batch to the next of the result, which may be a field of a table; its planes lie behind each other.
    fn stride_c(&self) -> usize {
        let c = self.operands[2];
        if c.shape().len() == 3 { batch_stride(c) } else { self.chunks * self.shape.m * c.row_stride() }
    }

    /// Operands that all elements of the batch share.
    fn shared(&self) -> Vec<&Tensor> {
        let bias = self.matmul.bias.filter(|t| t.shape().len() == 1);
        self.operands[..2].iter().copied().filter(|t| batch_stride(t) == 0).chain(bias).collect()
    }

    fn too_big(&self, max_binding: u64) -> Error {
        let Shape { batch, m, n, k } = *self.shape;
        let what = format!(
            "a product of {batch} x [{m}, {k}] and [{k}, {n}] has rows that no window of {max_binding} bytes holds"
        );
        Error::new(ErrorKind::TooBig, what)
            .with_help("use a smaller batch or network, or an adapter with larger bindings (`wavehull devices`)")
    }
}
