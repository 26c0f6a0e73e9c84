//! Words, bytes and 4-bit values: what lies how in memory, in streams and in files.

use crate::pack::values::Element;

/// Words of little-endian bytes, zeros behind the end.
pub(super) fn to_words(bytes: &[u8]) -> Vec<u32> {
    let word = |four: &[u8]| four.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
    bytes.chunks(4).map(word).collect()
}

/// The first `len` bytes of words.
pub(super) fn of_words(words: &[u32], len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// Bytes that a value takes in memory and in streams: 4-bit values take one.
pub(super) const fn stride(element: Element) -> usize {
    element.bits().div_ceil(8) as usize
}

/// Words of 8 4-bit values each, of words of 4 bytes each.
pub(super) fn to_nibbles(words: &[u32]) -> Vec<u32> {
    let half = |word: u32| (0..4).fold(0, |half, i| half | (word >> (8 * i) & 15) << (4 * i));
    words.chunks(2).map(|two| half(two[0]) | two.get(1).map_or(0, |&high| half(high) << 16)).collect()
}

/// The opposite, sign-extended: `words` words.
pub(super) fn of_nibbles(nibbles: &[u32], words: usize) -> Vec<u32> {
    let extended = |nibble: u32| (nibble ^ 8).wrapping_sub(8) & 255;
    let spread = |half: u32| (0..4).fold(0, |word, i| word | extended(half >> (4 * i) & 15) << (8 * i));
    let mut spread: Vec<u32> = nibbles.iter().flat_map(|&n| [spread(n & 0xffff), spread(n >> 16)]).collect();
    spread.truncate(words);
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_keep_their_signs() {
        let bytes: Vec<u8> = (-8..8_i8).chain([3]).map(i8::cast_unsigned).collect();
        let words = to_words(&bytes);
        let nibbles = to_nibbles(&words);
        assert_eq!(nibbles, [0xfedc_ba98, 0x7654_3210, 3]);
        assert_eq!(of_words(&of_nibbles(&nibbles, words.len()), bytes.len()), bytes);
    }
}
