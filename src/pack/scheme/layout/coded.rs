//! Canonical Huffman codes: the table that `codes` describes, and the codes themselves.

use super::super::codes::{histogram, lengths, table_number};
use super::{Reader, Writer, container, raw};
use crate::pack::values::Values;

/// The code of each symbol, in the order of lengths and then of symbols.
fn canonical(lengths: &[u32]) -> Vec<(u32, usize, u64)> {
    let mut symbols: Vec<(u32, usize)> = lengths
        .iter()
        .enumerate()
        .filter(|&(_, &length)| length > 0)
        .map(|(symbol, &length)| (length, symbol))
        .collect();
    symbols.sort_unstable();
    let (mut next, mut before) = (0_u64, 0);
    symbols
        .into_iter()
        .map(|(length, symbol)| {
            next <<= length - before;
            before = length;
            next += 1;
            (length, symbol, next - 1)
        })
        .collect()
}

pub(super) fn encode(values: &Values) -> Vec<bool> {
    let number = table_number(values.element());
    let lengths = lengths(&histogram(values), number);
    let shortest = lengths.iter().copied().filter(|&length| length > 0).min().unwrap();
    let mut out = Writer::default();
    lengths
        .iter()
        .for_each(|&length| out.push(u64::from((length + 1).saturating_sub(shortest) * u32::from(length > 0)), number));
    let mut codes = vec![(0, 0); lengths.len()];
    canonical(&lengths).into_iter().for_each(|(length, symbol, code)| codes[symbol] = (length, code));
    for i in 0..values.len() {
        let (length, code) = codes[usize::try_from(container(values.element(), values.code(i))).unwrap()];
        // The highest bit first.
        out.0.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    }
    out.0
}

pub(super) fn decode(values: &Values, bits: &mut Reader<'_>) -> Vec<u16> {
    let number = table_number(values.element());
    let stored: Vec<u32> =
        (0..1_usize << values.element().bits()).map(|_| u32::try_from(bits.take(number)).unwrap()).collect();
    // Kraft: 2^(shortest - 1) = sum of 2^-number; one code alone has a bit.
    let sum: f64 = stored.iter().filter(|&&n| n > 0).map(|&n| 0.5_f64.powi(i32::try_from(n).unwrap())).sum();
    let single = stored.iter().filter(|&&n| n > 0).count() == 1;
    let shortest = if single { 1 } else { (sum.log2().round() as i32 + 1).cast_unsigned() };
    let lengths: Vec<u32> = stored.iter().map(|&n| if n == 0 { 0 } else { n + shortest - 1 }).collect();
    let codes = canonical(&lengths);
    (0..values.len())
        .map(|_| {
            let (mut length, mut code) = (0, 0);
            let symbol = loop {
                (length, code) = (length + 1, code << 1 | bits.take(1));
                if let Ok(found) = codes.binary_search_by_key(&(length, code), |&(length, _, code)| (length, code)) {
                    break codes[found].1;
                }
            };
            let mut whole = Writer::default();
            whole.push(symbol as u64, values.element().bits());
            raw(&mut Reader { bits: &whole.0, at: 0 }, values.element())
        })
        .collect()
}
