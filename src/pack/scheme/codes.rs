//! Codes of single values: canonical Huffman lengths, and the entropy. Both work on a histogram.
//!
//! The table of a Huffman code holds a number a code of the container: 4 bits each up to 8 bits (1,024 bits for 8-bit values, 64 for 4-bit
//! ones), 5 bits each for 16 bits (327,680 bits: 40 KiB, which small tensors do not earn back). 0 says that a code never occurs; another
//! number is its length less that of the shortest one, plus 1. The shortest length itself need not be stored: lengths of a complete code
//! satisfy Kraft's equation, which has one solution for it. So 4 bits hold lengths that span 15 values, as 2 to 16; a code whose lengths
//! would span more is limited to 15 bits (31 with 5-bit numbers).

use super::Size;
use crate::pack::values::{Element, Values};

/// Bits of a number in the table.
pub(super) fn table_number(element: Element) -> u32 {
    if element.bits() > 8 { 5 } else { 4 }
}

/// How often each code of the container occurs; 4-bit values by their low bits.
pub(super) fn histogram(values: &Values) -> Vec<u64> {
    let mask = u16::MAX >> (16 - values.element().bits());
    let mut counts = vec![0; 1 << values.element().bits()];
    for i in 0..values.len() {
        counts[usize::from(values.code(i) & mask)] += 1;
    }
    counts
}

/// Shannon's bound in whole bits: the sum of -log2 p.
pub(super) fn entropy(counts: &[u64]) -> u64 {
    let all = counts.iter().sum::<u64>() as f64;
    let bits: f64 = counts.iter().filter(|&&n| n > 0).map(|&n| n as f64 * (all / n as f64).log2()).sum();
    bits.round_ties_even() as u64
}

/// Size under a Huffman code.
pub(super) fn huffman(counts: &[u64], element: Element) -> Size {
    let lengths = lengths(counts, table_number(element));
    let values = counts.iter().zip(&lengths).map(|(&n, &length)| n * u64::from(length)).sum();
    let tables = u64::from(table_number(element)) * counts.len() as u64;
    Size { values, tables, ..Size::default() }
}

/// Code lengths of least total, such that table numbers of `number` bits hold them; 0 where a code does not occur. A single code has one
/// bit.
pub(super) fn lengths(counts: &[u64], number: u32) -> Vec<u32> {
    let mut symbols: Vec<usize> = (0..counts.len()).filter(|&i| counts[i] > 0).collect();
    symbols.sort_by_key(|&i| (counts[i], i));
    let weights: Vec<u64> = symbols.iter().map(|&i| counts[i]).collect();
    let most = (1 << number) - 1;
    let free = free_lengths(&weights);
    let span = free.iter().max().copied().unwrap_or(0) - free.iter().min().copied().unwrap_or(0);
    let sorted = if span < most { free } else { limited_lengths(&weights, most as usize) };
    let mut lengths = vec![0; counts.len()];
    for (&symbol, length) in symbols.iter().zip(sorted) {
        lengths[symbol] = length;
    }
    lengths
}

/// Huffman's lengths of ascending weights, by two queues (van Leeuwen 1976).
fn free_lengths(weights: &[u64]) -> Vec<u32> {
    let n = weights.len();
    if n < 2 {
        return vec![1; n];
    }
    let mut weight = weights.to_vec();
    let mut parent = vec![0; 2 * n - 1];
    let (mut leaf, mut inner) = (0, n);
    while weight.len() < 2 * n - 1 {
        let mut lightest = || {
            let take_leaf = leaf < n && (inner >= weight.len() || weight[leaf] <= weight[inner]);
            let next = if take_leaf { &mut leaf } else { &mut inner };
            *next += 1;
            *next - 1
        };
        let (a, b) = (lightest(), lightest());
        parent[a] = weight.len();
        parent[b] = weight.len();
        weight.push(weight[a] + weight[b]);
    }
    let mut depth = vec![0; 2 * n - 1];
    for node in (0..2 * n - 2).rev() {
        depth[node] = depth[parent[node]] + 1;
    }
    depth.truncate(n);
    depth
}

/// The best lengths up to `most`, by merging packages (Larmore and Hirschberg 1990). Weights ascend.
fn limited_lengths(weights: &[u64], most: usize) -> Vec<u32> {
    /// A weight, and the two packages of the level below it, or a symbol.
    type Package = (u64, Option<usize>);
    let mut levels: Vec<Vec<Package>> = vec![weights.iter().map(|&w| (w, None)).collect()];
    for level in 1..most {
        let below = &levels[level - 1];
        let pairs = (0..below.len() / 2).map(|i| (below[2 * i].0 + below[2 * i + 1].0, Some(i)));
        let mut merged: Vec<Package> = weights.iter().map(|&w| (w, None)).chain(pairs).collect();
        merged.sort_by_key(|&(weight, pair)| (weight, pair.is_some()));
        levels.push(merged);
    }
    let mut lengths = vec![0; weights.len()];
    // The lightest packages of a level: symbols among them get a bit each, pairs stand for two packages below.
    let mut wanted = 2 * weights.len() - 2;
    for level in levels.iter().rev() {
        let chosen = &level[..wanted];
        let symbols = chosen.iter().filter(|(_, pair)| pair.is_none()).count();
        lengths[..symbols].iter_mut().for_each(|length| *length += 1);
        wanted = 2 * (wanted - symbols);
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(counts: &[u64], lengths: &[u32]) -> u64 {
        counts.iter().zip(lengths).map(|(n, &length)| n * u64::from(length)).sum()
    }

    fn kraft(lengths: &[u32]) -> f64 {
        lengths.iter().filter(|&&l| l > 0).map(|&l| 0.5_f64.powi(i32::try_from(l).unwrap())).sum()
    }

    #[test]
    fn lengths_are_huffmans() {
        assert_eq!(lengths(&[5, 1, 1, 2, 0], 4), [1, 3, 3, 2, 0]);
        assert_eq!(lengths(&[0, 9, 0], 4), [0, 1, 0]);
        assert_eq!(lengths(&[0, 0], 4), [0, 0]);
        assert_eq!(entropy(&[8, 8, 0, 16]), 48);
        assert_eq!(entropy(&[7, 0]), 0);
    }

    #[test]
    fn lengths_that_span_too_much_are_limited() {
        // Fibonacci's numbers make the deepest trees.
        let mut counts = vec![1_u64, 1];
        while counts.len() < 24 {
            counts.push(counts[counts.len() - 1] + counts[counts.len() - 2]);
        }
        assert_eq!(free_lengths(&counts).into_iter().max(), Some(23));
        let limited = lengths(&counts, 4);
        assert_eq!(limited.iter().max(), Some(&15));
        assert!((kraft(&limited) - 1.0).abs() < 1e-12);
        let free = free_lengths(&counts);
        assert!(cost(&counts, &limited) > cost(&counts, &free));
        assert!(cost(&counts, &limited) < cost(&counts, &free) * 101 / 100);
        // Where nothing has to be limited, packages find what queues find.
        let packages = limited_lengths(&counts, 23);
        assert_eq!(cost(&counts, &packages), cost(&counts, &free));
        assert_eq!(lengths(&counts, 5), free);
    }
}
