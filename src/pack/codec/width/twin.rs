//! The twin on the host: the same words, bit by bit.

use std::ops::Range;

use super::layout;
use crate::error::{Error, Result};
use crate::pack::codec::layout::{Layout, Parts};
use crate::pack::values::Element;

/// The payload of `len` values.
pub fn encode(element: Element, words: &[u32], len: usize) -> Vec<u32> {
    let layout = layout(element, len);
    let widths = layout.widths_of(words);
    let blocks = widths.chunks(layout.groups_a_block());
    let mut begin = 0;
    let mut payload: Vec<u32> = blocks
        .map(|block| {
            let here = begin;
            begin += block.iter().sum::<usize>();
            here as u32
        })
        .collect();
    payload.extend(layout.pack(&widths));
    for (group, &width) in widths.iter().enumerate() {
        let at = payload.len();
        payload.resize(at + width, 0);
        for i in 0..layout.group {
            let value = layout.value(words, group * layout.group + i).cast_unsigned() & ones(width);
            put(&mut payload[at..], i * width, value);
        }
    }
    payload
}

/// The words of the `len` values of a payload.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with the word that is wrong.
pub fn decode(element: Element, payload: &[u32], len: usize) -> Result<Vec<u32>> {
    let layout = layout(element, len);
    let parts = parts(&layout, payload)?;
    let bits = 32 / layout.values_a_word();
    let mut words = vec![0; layout.words()];
    for (i, value) in (0..len).zip(values(&layout, parts, 0)) {
        words[i / layout.values_a_word()] |=
            (value.cast_unsigned() & ones(bits)) << (i % layout.values_a_word() * bits);
    }
    Ok(words)
}

/// Some of the `len` values of a payload, as numbers: looks at the blocks that hold them and no others.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with the word that is wrong, or for values that there are not.
pub fn decode_range(element: Element, payload: &[u32], len: usize, range: Range<usize>) -> Result<Vec<i32>> {
    let layout = layout(element, len);
    let parts = parts(&layout, payload)?;
    if range.start > range.end || range.end > len {
        return Err(Error::bad_input(format!("values {range:?} of {len}")));
    }
    let first = range.start / (layout.group * layout.groups_a_block());
    let skipped = range.start - first * layout.group * layout.groups_a_block();
    Ok(values(&layout, parts, first).skip(skipped).take(range.len()).collect())
}

/// The parts of a payload whose structure holds, down to the zeros behind the last value.
pub(super) fn parts<'a>(layout: &Layout, payload: &'a [u32]) -> Result<Parts<'a>> {
    let parts = layout.parts(payload, |sum| sum)?;
    let behind = layout.len % layout.group;
    if behind != 0 {
        let last = layout.groups() - 1;
        let width = layout.width(parts.widths, last);
        let group = &parts.data[parts.data.len() - width..];
        if (behind..layout.group).any(|i| get(group, i * width, width) != 0) {
            return Err(Error::bad_input(format!("group {last} goes on behind the last value")));
        }
    }
    Ok(parts)
}

/// Values from the first of a block on, with those behind the end.
fn values<'a>(layout: &'a Layout, parts: Parts<'a>, block: usize) -> impl Iterator<Item = i32> + 'a {
    let mut at = parts.index.get(block).map_or(0, |&begin| begin as usize);
    (block * layout.groups_a_block()..layout.groups()).flat_map(move |group| {
        let width = layout.width(parts.widths, group);
        let data = &parts.data[at..at + width];
        at += width;
        let shift = 32 - width as u32;
        (0..layout.group).map(move |i| match get(data, i * width, width) {
            _ if width == 0 => 0,
            value if layout.element.is_signed() => (value << shift).cast_signed() >> shift,
            value => value.cast_signed(),
        })
    })
}

fn ones(bits: usize) -> u32 {
    (1 << bits) - 1
}

/// Sets `value` from a bit on, which is clear so far; at most 16 bits.
fn put(words: &mut [u32], bit: usize, value: u32) {
    if value == 0 {
        return;
    }
    let both = u64::from(value) << (bit % 32);
    words[bit / 32] |= both as u32;
    if both >> 32 != 0 {
        words[bit / 32 + 1] |= (both >> 32) as u32;
    }
}

/// `width` bits from a bit on; at most 16.
fn get(words: &[u32], bit: usize, width: usize) -> u32 {
    let word = |at: usize| u64::from(words.get(at).copied().unwrap_or(0));
    ((word(bit / 32) | word(bit / 32 + 1) << 32) >> (bit % 32)) as u32 & ones(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_by_hand() {
        // 33 values: -2, 1, 0 and zeros; then 5.
        let mut words = vec![0_u32; 9];
        words[0] = 0x01fe;
        words[0] = 0x01 << 8 | 0xfe;
        words[8] = 5;
        let payload = encode(Element::I8, &words, 33);
        // Index; widths 2 and 4 (5 is 0101); two words, four words.
        assert_eq!(payload, [0, 0x42, 0b0110, 0, 5, 0, 0, 0]);
        assert_eq!(decode(Element::I8, &payload, 33).unwrap(), words);
        assert_eq!(decode_range(Element::I8, &payload, 33, 1..33).unwrap()[..2], [1, 0]);
        assert_eq!(decode_range(Element::I8, &payload, 33, 32..33).unwrap(), [5]);
        assert!(decode_range(Element::I8, &payload, 33, 32..34).is_err());
        // The same as unsigned bytes: 254 takes 8 bits, 5 takes 3.
        let unsigned = encode(Element::U8, &words, 33);
        assert_eq!((unsigned[1], unsigned.len()), (0x38, 2 + 8 + 3));
        assert_eq!(decode(Element::U8, &unsigned, 33).unwrap(), words);
    }

    #[test]
    fn values_behind_the_end_are_zeros() {
        let mut payload = encode(Element::I8, &[0x0102], 2);
        assert!(decode(Element::I8, &payload, 2).is_ok());
        payload[2] |= 1 << 20;
        assert!(decode(Element::I8, &payload, 2).unwrap_err().to_string().contains("group 0 goes on"));
    }

    #[test]
    fn zeros_take_nothing_but_their_widths() {
        assert_eq!(encode(Element::I16, &[0; 8192], 16384).len(), 4 + 128);
        assert_eq!(decode(Element::I16, &encode(Element::I16, &[0; 8192], 16384), 16384).unwrap(), [0; 8192]);
    }
}
