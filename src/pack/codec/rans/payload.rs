//! The coded bytes of a chunk as words: written, and read with everything checked that can be checked without decoding.
//!
//! | words | what |
//! | --- | --- |
//! | 1 | words of all this, itself counted |
//! | 8 | a bit for each symbol that occurs |
//! | 12 bits each | frequency less 1 of those, zeros up to a whole word |
//! | 1 a lane | states that decoding starts with |
//! | 1/2 a lane | numbers of 16-bit words of each lane, zeros up to a whole word |
//! | the rest | units: two 16-bit words each, the first put out in the low half, at the places of [`Layout::records`] |

use super::layout::Layout;
use super::model;
use crate::error::{Error, Result};

/// The lowest state, and the one before the first symbol is coded.
pub(super) const LOWEST: u32 = 1 << 16;

/// What is wrong at a word of a chunk.
pub(crate) fn damaged(word: usize, what: &str) -> Error {
    Error::bad_input(format!("word {word} of the chunk: it {what}"))
        .with_help("the bytes were damaged or cut off after they were written: take them from their source again")
}

/// The parts of the coded bytes of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coded {
    pub frequencies: [u32; 256],
    /// A state for each lane.
    pub states: Vec<u32>,
    /// 16-bit words of each lane.
    pub halves: Vec<u32>,
    pub units: Vec<u32>,
}

impl Coded {
    /// Words in front of the states.
    fn head(&self) -> usize {
        1 + model::words(self.symbols())
    }

    /// Symbols that occur.
    pub fn symbols(&self) -> usize {
        self.frequencies.iter().filter(|&&f| f > 0).count()
    }

    /// The word of a lane's state.
    pub fn word_of(&self, lane: usize) -> usize {
        self.head() + lane
    }

    /// Appends it all.
    pub fn write(&self, out: &mut Vec<u32>) {
        let lanes = self.states.len();
        out.push((self.head() + lanes + lanes.div_ceil(2) + self.units.len()) as u32);
        model::write(&self.frequencies, out);
        out.extend_from_slice(&self.states);
        out.extend(self.halves.chunks(2).map(|two| two[0] | two.get(1).map_or(0, |&n| n << 16)));
        out.extend_from_slice(&self.units);
    }

    /// Reads it from word `at` of a chunk on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] with the word, unless every length, frequency, state and place is one that [`Coded::write`] can have
    /// written for this layout.
    pub fn read(chunk: &[u32], at: usize, layout: &Layout) -> Result<Self> {
        let length = chunk.get(at).copied().ok_or_else(|| damaged(at, "is missing"))? as usize;
        let end = at.checked_add(length).filter(|&end| end <= chunk.len());
        let payload = &chunk[..end.ok_or_else(|| damaged(at, "says that more words follow than there are"))?];
        let (frequencies, states_at) = model::read(payload, at + 1)?;
        let lanes = layout.lanes();
        let halves_at = states_at + lanes;
        let units_at = halves_at + lanes.div_ceil(2);
        if payload.len() < units_at {
            return Err(damaged(payload.len(), "ends inside the states and lengths of lanes"));
        }
        let states = payload[states_at..halves_at].to_vec();
        if let Some(lane) = states.iter().position(|&state| state < LOWEST) {
            return Err(damaged(states_at + lane, "is no state that coding ends with"));
        }
        let mut halves: Vec<u32> = payload[halves_at..units_at].iter().flat_map(|w| [w & 0xffff, w >> 16]).collect();
        if halves.drain(lanes..).any(|n| n != 0) {
            return Err(damaged(units_at - 1, "has bits behind the last length"));
        }
        if let Some(lane) = (0..lanes).find(|&lane| halves[lane] as usize > 4 * layout.quads_of(lane).len()) {
            return Err(damaged(halves_at + lane / 2, "has the length of a lane with more words than values"));
        }
        let units = payload[units_at..].to_vec();
        let (records, total) = layout.records(&halves);
        if total != units.len() {
            let what = format!("begins {} words of streams, lanes have {total}", units.len());
            return Err(damaged(units_at, &what));
        }
        for record in records.iter().filter(|record| record[0] % 2 == 1) {
            let place = layout.place(record, record[0] / 2);
            if units[place] >> 16 != 0 {
                return Err(damaged(units_at + place, "has bits behind the last word of a lane"));
            }
        }
        Ok(Self { frequencies, states, halves, units })
    }
}
