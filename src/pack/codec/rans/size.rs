//! What coding comes to, to the bit, without keeping what is coded.

use super::chunk::{one, plane};
use super::device::{Plane, Streams, Workspace, record_count};
use super::{CHUNK, Layout, model, reference, split};
use crate::error::Result;
use crate::gpu::{Control, Gpu, Recording};
use crate::pack::{Element, Size, Values};
use crate::tensor::Tensor;

/// Size of all chunks of a tensor as [`reference::encode`] and the device write them. `values` are 16-bit words of streams and bytes stored as
/// they are; `tables` symbols and frequencies; `pointers` lengths of lanes; `metadata` states and words of a chunk; `padding` halves and bits of
/// words that nothing uses.
pub fn encoded_bits(values: &Values) -> Size {
    let mut sum = Size::default();
    for (words, layout) in chunks(values) {
        for coded in reference::coded(values.element(), &words, &layout) {
            add(&mut sum, &of(&layout, coded.symbols(), &coded.halves));
        }
        add(&mut sum, &stored(values.element(), &layout));
    }
    sum
}

/// [`encoded_bits`] by the device, which codes without writing.
///
/// # Errors
/// Those of [`Gpu::run_async`].
pub async fn encoded_bits_async(gpu: &Gpu, values: &Values, control: &Control) -> Result<Size> {
    let mut sum = Size::default();
    let element = values.element();
    for (words, layout) in chunks(values) {
        let tensor = one(&Tensor::from_slice_async(gpu, &[words.len()], &words).await?, words.len())?;
        let mut recording = Recording::new();
        let mut passes = vec![(plane(element), tensor)];
        if split(element).is_some_and(|way| way.codes_low) {
            // Low bytes apart, from the host, where they are anyway.
            let low = low_bytes(&words, &layout);
            passes.push((Plane::Bytes, one(&Tensor::from_slice_async(gpu, &[low.len()], &low).await?, low.len())?));
        }
        let mut reads = Vec::with_capacity(2);
        for (plane, tensor) in &passes {
            let workspace = Workspace::new_async(gpu, &layout, 1, false).await?;
            let streams = Streams::new_async(gpu, &layout, 1, *plane, Some(0)).await?;
            record_count(&mut recording, gpu.caps(), (*plane, &layout), tensor, &workspace, &streams)?;
            let tickets = [&streams.symbols, &workspace.halves].map(|tensor| tensor.record_read(&mut recording));
            reads.push((workspace, streams, tickets));
        }
        let mut output = gpu.run_async(&recording, control).await?;
        for (workspace, streams, [symbols, halves]) in reads {
            let symbols = streams.symbols.take(&mut output, symbols);
            let halves = workspace.halves.take(&mut output, halves);
            let symbols = symbols.iter().filter(|&&s| s >> 16 > 0).count();
            add(&mut sum, &of(&layout, symbols, &halves[..layout.lanes()]));
        }
        add(&mut sum, &stored(element, &layout));
    }
    Ok(sum)
}

/// The words of each chunk.
fn chunks(values: &Values) -> impl Iterator<Item = (Vec<u32>, Layout)> {
    let a_word = 32 / values.element().bits().max(8) as usize;
    let words = values.words();
    let layouts: Vec<Layout> = (0..values.len())
        .step_by(CHUNK)
        .filter_map(|first| Layout::new(CHUNK.min(values.len() - first)).ok())
        .collect();
    layouts.into_iter().enumerate().map(move |(i, layout)| {
        let first = i * CHUNK / a_word;
        (words[first..first + layout.len.div_ceil(a_word)].to_vec(), layout)
    })
}

/// Low bytes of values of 16 bits, four a word.
fn low_bytes(words: &[u32], layout: &Layout) -> Vec<u32> {
    let low = |word: Option<&u32>| word.map_or(0, |w| w & 0xff | w >> 8 & 0xff00);
    (0..layout.quads).map(|q| low(words.get(2 * q)) | low(words.get(2 * q + 1)) << 16).collect()
}

/// Size of a plane of so many symbols whose lanes have these lengths.
fn of(layout: &Layout, symbols: usize, halves: &[u32]) -> Size {
    let lanes = layout.lanes() as u64;
    let words: u64 = halves.iter().map(|&n| u64::from(n)).sum();
    let odd = halves.iter().filter(|&&n| n % 2 == 1).count() as u64;
    let table = u64::from(model::BITS) * symbols as u64;
    Size {
        values: 16 * words,
        metadata: 32 + 32 * lanes,
        padding: 16 * odd + 16 * (lanes % 2) + (table.next_multiple_of(32) - table),
        pointers: 16 * lanes,
        tables: 256 + table,
    }
}

/// Size of low bytes that are not coded.
fn stored(element: Element, layout: &Layout) -> Size {
    if split(element).is_none_or(|way| way.codes_low) {
        return Size::default();
    }
    let values = 8 * layout.len as u64;
    Size { values, padding: 32 * layout.quads as u64 - values, ..Size::default() }
}

fn add(sum: &mut Size, size: &Size) {
    sum.values += size.values;
    sum.metadata += size.metadata;
    sum.padding += size.padding;
    sum.pointers += size.pointers;
    sum.tables += size.tables;
}
