//! How the values of a chunk are dealt to lanes, which code and decode beside each other.

use crate::error::{Error, ErrorKind, Result};
use crate::pack::Element;

/// Most values of a chunk.
pub const CHUNK: usize = 1 << 22;
/// Most rows of a block: a lane codes four values a row, so its state, its length and half a word lost cost about 0.02 bits a value.
const ROWS: usize = 512;
/// Fewest rows that pay for another lane.
const FEWEST: usize = 128;

/// The lanes of a chunk; a function of its length alone. Four neighbouring values are a quad. A block has `width` lanes and `rows` rows
/// (the last block perhaps fewer), and lane t of it has quads t, t + width, ... of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Values.
    pub len: usize,
    /// Fours of values, the last perhaps with fewer.
    pub quads: usize,
    /// Lanes of a block, a power of two.
    pub width: usize,
    /// Quads of a lane.
    pub rows: usize,
    /// Blocks, at most 64.
    pub blocks: usize,
}

impl Layout {
    /// Of a chunk of so many values.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`] for more than [`CHUNK`].
    pub fn new(len: usize) -> Result<Self> {
        if len > CHUNK {
            let what = format!("a chunk of {len} values, a codec takes at most {CHUNK} at once");
            return Err(Error::new(ErrorKind::TooBig, what).with_help("cut the tensor into chunks"));
        }
        let quads = len.div_ceil(4);
        let width = 1 << (quads / FEWEST).clamp(1, 32).ilog2();
        let all = quads.div_ceil(width);
        let blocks = all.div_ceil(ROWS);
        Ok(Self { len, quads, width, rows: all.div_ceil(blocks.max(1)), blocks })
    }

    /// Lanes of all blocks.
    pub fn lanes(&self) -> usize {
        self.blocks * self.width
    }

    /// Units of 32 bits that a lane may fill at most: a symbol adds at most log2(4096 * 17 / 16) < 13 bits to a state, for it is coded from
    /// a state of at least 16 frequencies.
    pub fn cap(&self) -> usize {
        (self.rows * 13).div_ceil(8) + 2
    }

    /// Quads of a lane, in the order of decoding.
    pub fn quads_of(&self, lane: usize) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + use<> {
        let (block, t) = (lane / self.width, lane % self.width);
        let first = block * self.rows * self.width + t;
        let end = self.quads.min((block + 1) * self.rows * self.width);
        (first..end.max(first)).step_by(self.width)
    }

    /// Words of the values themselves.
    pub fn words(&self, element: Element) -> usize {
        self.len.div_ceil(if element.bits() == 16 { 2 } else { 4 })
    }

    /// The bytes of the last quad that are values.
    pub fn mask(&self) -> u32 {
        u32::MAX >> (8 * (4 * self.quads - self.len))
    }

    /// For each lane of so many 16-bit words: where its units are (see the kernel `rans_offsets`). Behind it, units of all.
    pub fn records(&self, halves: &[u32]) -> (Vec<[u32; 4]>, usize) {
        let mut records = Vec::with_capacity(halves.len());
        let mut offset = 0_u32;
        let units = |n: u32| n.div_ceil(2);
        for block in halves.chunks(self.width) {
            let fewest = block.iter().copied().map(units).min().unwrap_or(0);
            let mut rest = offset + block.len() as u32 * fewest;
            for (t, &n) in (0..).zip(block) {
                records.push([n, fewest, offset + t, rest.wrapping_sub(fewest)]);
                rest += units(n) - fewest;
            }
            offset = rest;
        }
        (records, offset as usize)
    }

    /// Where unit `u` of a lane is in the stream.
    pub fn place(&self, record: &[u32; 4], u: u32) -> usize {
        let [_, fewest, front, rest] = *record;
        (if u < fewest { front + u * self.width as u32 } else { rest.wrapping_add(u) }) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quad_has_one_lane_and_every_unit_one_place() {
        let lens =
            (0..70).chain([2047, 2048, 2049, 4095, 16383, 16384, 65537, 262_144, 262_145, 1 << 20, CHUNK - 1, CHUNK]);
        for len in lens {
            let layout = Layout::new(len).unwrap();
            assert!(layout.blocks <= 64 && layout.width <= 32 && layout.rows <= ROWS, "{layout:?}");
            let mut seen = vec![false; layout.quads];
            for quad in (0..layout.lanes()).flat_map(|lane| layout.quads_of(lane)) {
                assert!(!std::mem::replace(&mut seen[quad], true), "{len}: quad {quad} twice");
            }
            assert!(seen.iter().all(|&s| s), "{layout:?}");
            let halves: Vec<u32> =
                (0..layout.lanes() as u32).map(|lane| lane.wrapping_mul(2_654_435_761) >> 27).collect();
            let (records, total) = layout.records(&halves);
            let mut filled = vec![false; total];
            for record in &records {
                for u in 0..record[0].div_ceil(2) {
                    assert!(!std::mem::replace(&mut filled[layout.place(record, u)], true));
                }
            }
            assert!(filled.iter().all(|&f| f));
        }
        assert_eq!(Layout::new(CHUNK + 1).unwrap_err().kind(), ErrorKind::TooBig);
        assert_eq!(Layout::new(7).unwrap().mask(), 0x00ff_ffff);
    }
}
