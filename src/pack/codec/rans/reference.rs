//! The naive twin: the same bytes, one symbol after the other, without a device.

use super::layout::Layout;
use super::payload::{Coded, LOWEST, damaged};
use super::{Split, model, split};
use crate::error::Result;
use crate::pack::Element;

/// Codes a chunk of `len` values in words of [`crate::pack::Values::words`].
///
/// # Errors
/// [`crate::ErrorKind::TooBig`] for more values than a chunk has, [`crate::ErrorKind::Internal`] for fewer words than values.
pub fn encode(element: Element, words: &[u32], len: usize) -> Result<Vec<u32>> {
    let layout = Layout::new(len)?;
    super::enough(words.len(), &layout, element)?;
    let mut out = Vec::new();
    if len == 0 {
        return Ok(out);
    }
    let Some(way) = split(element) else {
        code(words, &layout).write(&mut out);
        return Ok(out);
    };
    let (high, low) = halved(words, &layout, way.rotate);
    code(&high, &layout).write(&mut out);
    if way.codes_low {
        code(&low, &layout).write(&mut out);
    } else {
        out.extend(low);
    }
    Ok(out)
}

/// The words of a chunk's values.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with the word of the chunk that cannot be right.
pub fn decode(element: Element, payload: &[u32], len: usize) -> Result<Vec<u32>> {
    let layout = Layout::new(len)?;
    let Some(parts) = super::parts(element, payload, &layout)? else { return Ok(vec![]) };
    let high = decoded(&parts.coded, 0, &layout)?;
    let Some(way) = split(element) else { return Ok(high) };
    let low = match &parts.low {
        Some((at, coded)) => decoded(coded, *at, &layout)?,
        None => parts.raw.to_vec(),
    };
    let mut words: Vec<u32> = high.iter().zip(&low).flat_map(|(&h, &l)| joined(h, l, way.rotate)).collect();
    words.truncate(layout.words(element));
    Ok(words)
}

/// The parts of a chunk's coded bytes, for the exact size.
pub(super) fn coded(element: Element, words: &[u32], layout: &Layout) -> Vec<Coded> {
    match split(element) {
        None => vec![code(words, layout)],
        Some(Split { rotate, codes_low }) => {
            let (high, low) = halved(words, layout, rotate);
            let low = codes_low.then(|| code(&low, layout));
            [code(&high, layout)].into_iter().chain(low).collect()
        }
    }
}

/// High and low bytes of values of 16 bits, four a word; zeros behind the end.
fn halved(words: &[u32], layout: &Layout, rotate: bool) -> (Vec<u32>, Vec<u32>) {
    let value = |i: usize| {
        let value = if i < layout.len { (words[i / 2] >> (16 * (i % 2))) as u16 } else { 0 };
        if rotate { value.rotate_left(1) } else { value }
    };
    let four =
        |quad: usize, byte: usize| u32::from_le_bytes(std::array::from_fn(|k| value(4 * quad + k).to_le_bytes()[byte]));
    ((0..layout.quads).map(|q| four(q, 1)).collect(), (0..layout.quads).map(|q| four(q, 0)).collect())
}

fn joined(high: u32, low: u32, rotate: bool) -> [u32; 2] {
    let (high, low) = (high.to_le_bytes(), low.to_le_bytes());
    let value = |k: usize| {
        let value = u16::from_le_bytes([low[k], high[k]]);
        u32::from(if rotate { value.rotate_right(1) } else { value })
    };
    [value(0) | value(1) << 16, value(2) | value(3) << 16]
}

/// Codes bytes, four a word.
fn code(fours: &[u32], layout: &Layout) -> Coded {
    let byte = |i: usize| (fours[i / 4] >> (8 * (i % 4))) as usize & 255;
    let mut counts = [0; 256];
    (0..layout.len).for_each(|i| counts[byte(i)] += 1);
    let frequencies = model::frequencies(&counts);
    let symbols = model::symbols(&frequencies);
    let mut coded = Coded { frequencies, states: vec![], halves: vec![], units: vec![] };
    let mut lanes = Vec::with_capacity(layout.lanes());
    for lane in 0..layout.lanes() {
        let (mut x, mut put_out) = (LOWEST, Vec::new());
        for i in layout.quads_of(lane).rev().flat_map(|quad| (4 * quad..4 * quad + 4).rev()) {
            let symbol = symbols[byte(if i < layout.len { i } else { 0 })];
            let (start, f) = (symbol & 0xffff, symbol >> 16);
            if x >> 20 >= f {
                put_out.push(x & 0xffff);
                x >>= 16;
            }
            x = ((x / f) << model::BITS) + x % f + start;
        }
        coded.states.push(x);
        coded.halves.push(put_out.len() as u32);
        lanes.push(put_out);
    }
    let (records, total) = layout.records(&coded.halves);
    coded.units = vec![0; total];
    for (put_out, record) in lanes.iter().zip(&records) {
        for (u, two) in (0..).zip(put_out.chunks(2)) {
            coded.units[layout.place(record, u)] = two[0] | two.get(1).map_or(0, |second| second << 16);
        }
    }
    coded
}

/// Bytes, four a word, of what stands at word `at` of a chunk.
fn decoded(coded: &Coded, at: usize, layout: &Layout) -> Result<Vec<u32>> {
    let symbols = model::symbols(&coded.frequencies);
    let mut of_slot = Vec::with_capacity(model::SUM as usize);
    for (symbol, &frequency) in (0..).zip(&coded.frequencies) {
        of_slot.extend(std::iter::repeat_n(symbol, frequency as usize));
    }
    let (records, _) = layout.records(&coded.halves);
    let mut out = vec![0; layout.quads];
    for (lane, record) in records.iter().enumerate() {
        let (mut x, mut left) = (coded.states[lane], record[0]);
        let wrong =
            || damaged(at + coded.word_of(lane), &format!("starts lane {lane}, which does not decode to its end"));
        for quad in layout.quads_of(lane) {
            for k in 0..4 {
                let slot = x % model::SUM;
                let symbol: u32 = of_slot[slot as usize];
                let entry = symbols[symbol as usize];
                out[quad] |= symbol << (8 * k);
                x = (entry >> 16) * (x >> model::BITS) + slot - (entry & 0xffff);
                if x < LOWEST {
                    left = left.checked_sub(1).ok_or_else(wrong)?;
                    let unit = coded.units[layout.place(record, left / 2)];
                    x = x << 16 | (unit >> (16 * (left % 2)) & 0xffff);
                }
            }
        }
        if x != LOWEST || left != 0 {
            return Err(wrong());
        }
    }
    out[layout.quads - 1] &= layout.mask();
    Ok(out)
}
