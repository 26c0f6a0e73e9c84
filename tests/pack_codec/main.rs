//! Codecs and their container: kernels against the twin on the host, round trips, random access, streams, damage.
#![cfg(feature = "pack")]

#[path = "../common/mod.rs"]
mod common;
mod container;
#[path = "../../fuzz/src/pack.rs"]
mod demands;
#[cfg(feature = "fixed-lane")]
mod fixed_lane;
mod hostile;
mod matmul;
mod shapes;
mod width;

use common::Random;
use wavehull::pack::{Element, Kind, Values};

/// The elements that have a width a group.
const INTEGERS: [Element; 4] = [Element::I4, Element::I8, Element::U8, Element::I16];
/// All of them.
const ELEMENTS: [Element; 6] = [Element::I4, Element::I8, Element::U8, Element::I16, Element::F16, Element::Bf16];
/// How values can be distributed ([`bytes`]).
const KINDS: usize = 8;

/// Bytes that a value takes in memory.
fn stride(element: Element) -> usize {
    element.bits().div_ceil(8) as usize
}

/// Values as bytes: all zero; all bits random; small and peaked; all the same; the ends of the range; zeros with rare outliers; every width in turn, by
/// groups; zeros and minus ones.
fn bytes(random: &mut Random, element: Element, len: usize, kind: usize) -> Vec<u8> {
    let bits = element.bits();
    let same = random.bits();
    let mut value = |i: usize| -> u64 {
        let word = random.bits() >> 7;
        match kind {
            0 => 0,
            1 => word,
            2 => {
                let magnitude = (word & 0xffff_ffff).trailing_ones() as u64 * 2 + (word >> 33 & 1);
                if word >> 40 & 1 == 1 { magnitude } else { magnitude.wrapping_neg() }
            }
            3 => same,
            4 => [1 << (bits - 1), (1 << (bits - 1)) - 1, u64::MAX, 0][word as usize % 4],
            5 => {
                if word.is_multiple_of(997) {
                    word >> 20
                } else {
                    0
                }
            }
            6 => {
                let width = (i / 32) as u32 % (bits + 1);
                let value = (word & ((1 << width) - 1)) as i64;
                // In two's complement of that width.
                if width > 0 && value >> (width - 1) & 1 == 1 { (value - (1 << width)) as u64 } else { value as u64 }
            }
            _ => {
                if word & 1 == 1 {
                    u64::MAX
                } else {
                    0
                }
            }
        }
    };
    let shift = 64 - bits;
    let signed = |value: u64| (((value << shift) as i64) >> shift).to_le_bytes();
    (0..len).flat_map(|i| signed(value(i))[..stride(element)].to_vec()).collect()
}

/// Words of such bytes.
fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|four| four.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))).collect()
}

/// A tensor of such bytes.
fn tensor(name: &str, element: Element, bytes: Vec<u8>) -> Values {
    if element.bits() == 16 {
        let halves: Vec<u16> = bytes.chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
        Values::from_halves(name, Kind::Activations, element, &[1, 1, halves.len()], halves).unwrap()
    } else {
        Values::from_bytes(name, Kind::Activations, element, &[1, 1, bytes.len()], bytes).unwrap()
    }
}

/// A length whose logarithm is uniform, up to 2^`most`, now and then 0.
fn length(random: &mut Random, most: f64) -> usize {
    if random.below(50) == 0 { 0 } else { (most * (random.unit() + 1.0) / 2.0).exp2() as usize }
}

/// Runs `check` on the trusted and on the checked device.
fn on_both(test: &str, check: impl Fn(&wavehull::Gpu)) {
    for checked in [false, true] {
        if let Some(gpu) = common::device(test, checked) {
            check(gpu);
        }
    }
}
