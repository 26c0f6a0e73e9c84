//! Kernels that mostly move memory, at sizes beyond the caches, against the device's own copy bandwidth.

use super::oracle::{Random, U, gamma, near, poisoned, poisoned_words, wrong};
use super::roofs::{COPY_ROOF, big};
use super::{Context, Done, SEED, Spec};
use crate::error::Result;
use crate::gpu::Recording;
use crate::ops::elementwise::{self, Binary, Unary};
use crate::ops::reduce::{self, Reduction};
use crate::ops::{row_compact, transpose};
use crate::tensor::Tensor;

const GROUP: &str = "memory";
const COLUMNS: usize = 4096;
/// Elements or rows compared with f64.
const SAMPLES: usize = 256;

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let rows = (big(context) / 4 / COLUMNS).max(1);
    let spec = |name: &str, run: fn(&Context<'_>, usize) -> Result<Done>| {
        Spec::new(GROUP, name, Some(COPY_ROOF), move |context| run(context, rows))
    };
    vec![
        spec("elementwise_add", add),
        spec("elementwise_add_row", add_row),
        spec("elementwise_relu_in_place", relu_in_place),
        spec("reduce_sum", |context, rows| sum(context, rows, COLUMNS)),
        spec("reduce_sum_short_rows", |context, rows| sum(context, (rows * COLUMNS / 16).min(65_535), 16)),
        spec("transpose", |context, rows| transposed(context, rows, COLUMNS)),
        spec("transpose_odd", |context, rows| transposed(context, rows - 1, COLUMNS + 1)),
        spec("row_compact_few", |context, rows| compact(context, rows, 0.05)),
        spec("row_compact_most", |context, rows| compact(context, rows, 0.95)),
    ]
}

fn size(rows: usize, columns: usize) -> String {
    format!("{rows} x {columns}")
}

/// z = x + y, all of one shape.
fn add(context: &Context<'_>, rows: usize) -> Result<Done> {
    binary(context, rows, rows, 3.0)
}

/// z = x + a row: one operand comes from the cache, but every element computes its place.
fn add_row(context: &Context<'_>, rows: usize) -> Result<Done> {
    binary(context, rows, 1, 2.0)
}

fn binary(context: &Context<'_>, rows: usize, rows_y: usize, streams: f64) -> Result<Done> {
    let gpu = context.gpu;
    let mut random = Random::new(SEED);
    let (host_x, host_y) = (random.values(rows * COLUMNS), random.values(rows_y * COLUMNS));
    let x = Tensor::from_slice(gpu, &[rows, COLUMNS], &host_x)?;
    let y = Tensor::from_slice(gpu, &[rows_y, COLUMNS], &host_y)?;
    let out = poisoned(gpu, &[rows, COLUMNS])?;
    let record = |recording: &mut Recording| elementwise::binary(recording, gpu.caps(), Binary::Add, &x, &y, &out);
    let check = || {
        let out = out.to_array(gpu)?;
        for _ in 0..SAMPLES {
            let (i, j) = (random.below(rows), random.below(COLUMNS));
            let expected = f64::from(host_x[i * COLUMNS + j]) + f64::from(host_y[(i % rows_y) * COLUMNS + j]);
            near(&format!("element ({i}, {j})"), f64::from(out[[i, j]]), expected, U * expected.abs())?;
        }
        Ok(())
    };
    let bytes = streams * (rows * COLUMNS * 4) as f64;
    context.measure(bytes, "B", &record, check)?.note(size(rows, COLUMNS)).done()
}

fn relu_in_place(context: &Context<'_>, rows: usize) -> Result<Done> {
    let gpu = context.gpu;
    let mut random = Random::new(SEED);
    let host = random.values(rows * COLUMNS);
    let x = Tensor::from_slice(gpu, &[rows, COLUMNS], &host)?;
    let record = |recording: &mut Recording| elementwise::unary_in_place(recording, gpu.caps(), Unary::Relu, &x);
    let check = || {
        let out = x.to_array(gpu)?;
        let bad = out.iter().zip(&host).position(|(o, h)| !(*o == h.max(0.0)));
        bad.map_or(Ok(()), |at| Err(wrong(format!("element {at} is not max(x, 0)"))))
    };
    let bytes = 2.0 * (rows * COLUMNS * 4) as f64;
    context.measure(bytes, "B", &record, check)?.note(size(rows, COLUMNS)).done()
}

/// Sums of rows; short ones leave most of a workgroup idle.
fn sum(context: &Context<'_>, rows: usize, columns: usize) -> Result<Done> {
    let gpu = context.gpu;
    let mut random = Random::new(SEED);
    let host = random.values(rows * columns);
    let x = Tensor::from_slice(gpu, &[rows, columns], &host)?;
    let out = poisoned(gpu, &[rows])?;
    let record = |recording: &mut Recording| reduce::record(recording, gpu.caps(), Reduction::Sum, &x, &out);
    let check = || {
        let out = out.to_array(gpu)?;
        for _ in 0..SAMPLES {
            let row = random.below(rows);
            let terms = || host[row * columns..(row + 1) * columns].iter().map(|&v| f64::from(v));
            let magnitude: f64 = terms().map(f64::abs).sum();
            let tolerance = gamma(reduce::depth(columns)) * magnitude;
            near(&format!("row {row}"), f64::from(out[[row]]), terms().sum(), tolerance)?;
        }
        Ok(())
    };
    let bytes = (rows * columns * 4 + rows * 4) as f64;
    context.measure(bytes, "B", &record, check)?.note(size(rows, columns)).done()
}

fn transposed(context: &Context<'_>, rows: usize, columns: usize) -> Result<Done> {
    let gpu = context.gpu;
    let words: Vec<u32> = (0..(rows * columns) as u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    let x = Tensor::from_slice(gpu, &[rows, columns], &words)?;
    let out = poisoned_words(gpu, &[columns, rows])?;
    let record = |recording: &mut Recording| transpose::record(recording, &x, &out);
    let check = || {
        let out = out.to_array(gpu)?;
        let bad = out.indexed_iter().find(|(at, word)| **word != words[at[1] * columns + at[0]]);
        bad.map_or(Ok(()), |(at, _)| Err(wrong(format!("element ({}, {}) is another's", at[0], at[1]))))
    };
    let bytes = 2.0 * (rows * columns * 4) as f64;
    context.measure(bytes, "B", &record, check)?.note(size(rows, columns)).done()
}

/// Indices of flagged elements, a share of each row flagged.
fn compact(context: &Context<'_>, rows: usize, share: f64) -> Result<Done> {
    let gpu = context.gpu;
    let mut random = Random::new(SEED);
    let host: Vec<u32> = (0..rows * COLUMNS).map(|_| u32::from(random.unit() < share)).collect();
    let flags = Tensor::from_slice(gpu, &[rows, COLUMNS], &host)?;
    let list = poisoned_words(gpu, &[rows, COLUMNS])?;
    let count = poisoned_words(gpu, &[rows])?;
    let record = |recording: &mut Recording| row_compact::record(recording, gpu.caps(), &flags, &list, &count);
    let check = || {
        let (list, count) = (list.to_array(gpu)?, count.to_array(gpu)?);
        for (row, flags) in host.chunks(COLUMNS).enumerate() {
            let expected: Vec<u32> = (0..COLUMNS as u32).filter(|&j| flags[j as usize] != 0).collect();
            let found = (0..expected.len()).map(|i| list[[row, i]]);
            if count[[row]] as usize != expected.len() || !found.eq(expected.iter().copied()) {
                return Err(wrong(format!("the list of row {row} is not that of its flags")));
            }
        }
        Ok(())
    };
    let listed = host.iter().filter(|&&flag| flag != 0).count();
    let bytes = 4.0 * (rows * COLUMNS + listed + rows) as f64;
    let note = format!("{}, {:.0} % flagged", size(rows, COLUMNS), share * 100.0);
    context.measure(bytes, "B", &record, check)?.note(note).done()
}
