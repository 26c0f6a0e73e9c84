//! Random tensors through every layout.

use proptest::prelude::*;

use super::super::reference::size;
use super::{decode, encode};
use crate::pack::scheme::{FixedLane, Restart, Scheme};
use crate::pack::values::{Element, Kind, Values};

const ELEMENTS: [Element; 6] = [Element::I4, Element::I8, Element::U8, Element::I16, Element::F16, Element::Bf16];

/// A tensor whose values are as large as `magnitude` bits say, so many of 8 of them zero.
fn tensor(element: Element, kind: Kind, shape: &[usize], words: &[u32], magnitude: u32, zeros: u32) -> Values {
    let pattern = |i: usize| {
        let word = words[i % words.len()].wrapping_mul(2 * (i / words.len()) as u32 + 1);
        let code = if element.is_float() {
            // Exponents near each other, now and then anything.
            let near = (0x3000 + (word >> 8 & 0xfff) + (word >> 3 & 0x8000)) as u16;
            if magnitude > 14 { (word >> 8) as u16 } else { near }
        } else {
            let low = (word >> 8) as u16 & (u16::MAX >> (16 - magnitude.min(element.bits())));
            let sign = element.is_signed() && word & 8 != 0;
            if sign { !low } else { low }
        };
        if word & 7 < zeros { 0 } else { code }
    };
    let codes = (0..shape.iter().product()).map(pattern);
    if element.bits() > 8 {
        return Values::from_halves("t", kind, element, shape, codes.collect()).unwrap();
    }
    let bytes = codes.map(|code| {
        let byte = code.to_le_bytes()[0];
        if element == Element::I4 { ((byte << 4).cast_signed() >> 4).cast_unsigned() } else { byte }
    });
    Values::from_bytes("t", kind, element, shape, bytes.collect()).unwrap()
}

fn schemes(group: usize, flags: [bool; 2], pointer: u32, run_bits: u32) -> Vec<Scheme> {
    let [zero_width, same_as_previous] = flags;
    let lanes = FixedLane { group, prefix: 0, zero_width, same_as_previous, restart: Restart::Row, pointer };
    let mut all = vec![
        Scheme::ZeroValue,
        Scheme::ZeroRuns { run_bits },
        Scheme::ShapeShifter { group, prefix: 0, zero_vector: true },
        Scheme::ShapeShifter { group, prefix: 5, zero_vector: false },
        Scheme::Scnn { group: group / 4, run_bits, widths: false },
        Scheme::Scnn { group: group / 4, run_bits, widths: true },
        Scheme::Huffman,
    ];
    all.extend(
        [Restart::Position, Restart::Row, Restart::Tensor]
            .map(|restart| Scheme::FixedLane(FixedLane { restart, ..lanes })),
    );
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_layout_has_the_length_that_is_counted_and_comes_back(
        at in 0..6_usize,
        weights: bool,
        axes in (1..4_usize, 1..4_usize, 1..3_usize, 1..40_usize),
        words in prop::collection::vec(any::<u32>(), 1..97),
        (magnitude, zeros) in (1..17_u32, 0..9_u32),
        (group, run_bits) in (2..9_u32, 1..6_u32),
        flags: [bool; 2],
        pointer in 32..41_u32,
    ) {
        let (a, b, c, d) = axes;
        let (kind, shape) = if weights { (Kind::Weights, vec![a, b, c, d]) } else { (Kind::Activations, vec![a, b * c, d]) };
        let values = tensor(ELEMENTS[at], kind, &shape, &words, magnitude, zeros);
        let blank = tensor(ELEMENTS[at], kind, &shape, &[0], 1, 8);
        let codes: Vec<u16> = (0..values.len()).map(|i| values.code(i)).collect();
        for scheme in schemes(1 << group, flags, pointer, run_bits) {
            let bits = encode(&values, &scheme);
            prop_assert_eq!(bits.len() as u64, size(&values, &scheme).unwrap().total(), "{}", scheme);
            prop_assert_eq!(decode(&blank, &scheme, &bits), codes.clone(), "{}", scheme);
        }
    }
}
