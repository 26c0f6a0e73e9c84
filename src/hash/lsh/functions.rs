//! Hash functions as the host makes them: everything in them is a pure function of seed, generation and sizes.

use super::options::{Family, LshOptions};
use crate::error::Result;
use crate::ops::random::{Stream, below, purpose};

/// Elements of a bin of DWTA.
pub const BIN: usize = 8;
/// Bins that an empty one asks before its code is 0.
pub const PROBES: u32 = 32;

/// The hash functions of all tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Functions {
    /// What they were made for.
    pub options: LshOptions,
    /// Elements of a row that they look at: the first ones.
    pub hidden: usize,
    /// How often functions were made anew.
    pub generation: u32,
    /// One list of elements for each code, code `k` of table `t` at `t * codes + k`.
    ///
    /// DWTA: the [`BIN`] elements of a bin, in the order of places. SimHash: the elements that a projection adds, or
    /// subtracts, if the lowest bit is set: twice the element's number and that bit.
    pub codes: Vec<Vec<u16>>,
    /// Odd factor and summand of the universal hash by which an empty bin finds others.
    pub universal: [u32; 2],
}

impl Functions {
    /// Makes functions.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for sizes that cannot be had.
    pub fn new(options: &LshOptions, hidden: usize, generation: u32) -> Result<Self> {
        options.check_hidden(hidden)?;
        let count = options.codes * options.tables;
        let stream = Stream::new(options.seed);
        let codes = match options.family {
            Family::Dwta => bins(&stream, count, hidden, generation),
            Family::SimHash => (0..).take(count).map(|code| projection(&stream, code, hidden, generation)).collect(),
        };
        let [a, b, ..] = stream.block([u32::MAX, 0, generation, purpose::HASH]);
        Ok(Self { options: options.clone(), hidden, generation, codes, universal: [a | 1, b] })
    }

    /// The bin that an empty one asks at its `probe`-th attempt, counted from 1: multiply and shift (Dietzfelbinger and others,
    /// 1997), with the high word of a product as the shift, so that it always names a bin.
    pub fn other(&self, bin: u32, probe: u32) -> usize {
        let [a, b] = self.universal;
        below(a.wrapping_mul((bin << 6) + probe).wrapping_add(b), self.codes.len())
    }

    /// Vectors of four words of one code on the device.
    pub(super) fn quads(&self) -> usize {
        self.codes.first().map_or(0, |code| code.len().div_ceil(8))
    }

    /// As kernels read them: two elements a word, lists filled up with the zero behind a row's elements.
    pub(super) fn packed(&self) -> Vec<u32> {
        let zero = u32::try_from(2 * self.hidden).unwrap_or(0);
        let mut words = Vec::with_capacity(self.codes.len() * self.quads() * 4);
        for code in &self.codes {
            let at = |i: usize| code.get(i).map_or(zero, |&entry| u32::from(entry));
            words.extend((0..self.quads() * 4).map(|word| at(2 * word) | at(2 * word + 1) << 16));
        }
        words
    }
}

/// A random order of the elements of a row.
fn permutation(stream: &Stream, hidden: usize, number: u32, generation: u32) -> Vec<u16> {
    let mut order: Vec<u16> = (0..u16::MAX).take(hidden).collect();
    for i in (1..hidden).rev() {
        order.swap(i, below(stream.word(i, number, generation, purpose::HASH), i + 1));
    }
    order
}

/// Permutations laid end to end and cut into bins; a bin may reach from one into the next.
fn bins(stream: &Stream, count: usize, hidden: usize, generation: u32) -> Vec<Vec<u16>> {
    let mut places: Vec<u16> = Vec::with_capacity(count * BIN + hidden);
    let mut number = 0;
    while places.len() < count * BIN {
        places.extend(permutation(stream, hidden, number, generation));
        number += 1;
    }
    places.chunks_exact(BIN).take(count).map(<[u16]>::to_vec).collect()
}

/// A third of the elements, with signs.
fn projection(stream: &Stream, code: u32, hidden: usize, generation: u32) -> Vec<u16> {
    let mut order = permutation(stream, hidden, code, generation);
    order.truncate(hidden.div_ceil(3));
    for (i, entry) in order.iter_mut().enumerate() {
        // Signs come from words behind those of the permutation.
        let negative = stream.word(hidden + i, code, generation, purpose::HASH) >> 31 == 1;
        *entry = 2 * *entry + u16::from(negative);
    }
    order
}
