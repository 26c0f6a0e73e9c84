//! Buffers, DRAM and the order in which a layer's tensors travel: traffic and stalls of a whole layer.
//!
//! Everything is counted in stored (compressed) bits, in whole numbers. A layer is cut in one of two ways, and within a way as finely as is best:
//!
//! * **Windows outside.** Each set of windows (rows of the result) is brought once, with its halo; all filters stream past it. They are
//!   read once if all of them stay, else once for each window set.
//! * **Filters outside.** Each set of filters is brought once; the map streams past it. It is read once if all of it stays, else
//!   once for each filter set; while it streams, only the rows that a filter reaches are held.
//!
//! Of all cuts that fit, the one with the least traffic is taken, of equal ones that with the fewest cycles ([`schedule`]). Where not even
//! one window or one filter fits, it streams through: each window meets each filter, which hold nothing.
//!
//! With *double buffering* the next set is brought while one is computed on, and needs its place; so a set may take half of a buffer, except
//! where there is only one. Without, nothing overlaps.
//!
//! A turn is an outer set. While turn t computes for `c_t` cycles, memory brings what streams past it and the set of turn t + 1, and takes
//! the results of turn t: `m_t` bits. Before the first turn, the first set and the first piece of what streams are brought
//! (first fill); after the last, the results of its last piece leave (last drain):
//!
//! `cycles = fill + sum of max(c_t, m_t / bandwidth) + drain`, each transfer rounded up to whole cycles; `stalls = cycles - compute`.
//!
//! Assumptions: compressed maps can be read from every row on, and weights from every filter on (their restart points and pointers
//! are part of the stored bits); stored bits are spread evenly over rows and over filters; partial sums never leave the chip;
//! a set of filters reads all channels, also of a convolution with groups; results leave as they are made, and take no room but where
//! maps stay.

mod cuts;
mod turns;

#[cfg(test)]
mod tests;

use super::Stored;
use crate::error::{Error, Result};
use crate::pack::Shape;
use cuts::Case;

/// An on-chip buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Buffer {
    /// Its size.
    pub bytes: u64,
    /// Bits of a row, which is what one access reads or writes.
    pub port: u32,
    /// Parts that are accessed by themselves: an access costs the energy of a memory of the size of one.
    pub banks: u64,
}

/// Who has which buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Buffers {
    /// All share one.
    Unified(Buffer),
    /// Weights have their own, maps share one.
    Split {
        /// Of the weights.
        weights: Buffer,
        /// Of both maps.
        maps: Buffer,
    },
    /// Each operand has its own.
    Apart {
        /// Of the weights.
        weights: Buffer,
        /// Of the map that is read.
        inputs: Buffer,
        /// Of the map that is written.
        outputs: Buffer,
    },
}

impl Buffers {
    /// The buffers of weights, inputs and outputs.
    pub fn each(&self) -> [Buffer; 3] {
        match *self {
            Self::Unified(buffer) => [buffer; 3],
            Self::Split { weights, maps } => [weights, maps, maps],
            Self::Apart { weights, inputs, outputs } => [weights, inputs, outputs],
        }
    }

    /// All of them together, in bytes.
    pub fn bytes(&self) -> u64 {
        match *self {
            Self::Unified(buffer) => buffer.bytes,
            Self::Split { weights, maps } => weights.bytes + maps.bytes,
            Self::Apart { weights, inputs, outputs } => weights.bytes + inputs.bytes + outputs.bytes,
        }
    }

    /// Buffers of so many bytes together, each with the share that it has here.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if one of them would have none.
    pub fn sized(&self, bytes: u64) -> Result<Self> {
        let all = u128::from(self.bytes().max(1));
        let part = |buffer: Buffer| {
            let own = u64::try_from(u128::from(buffer.bytes) * u128::from(bytes) / all).unwrap_or(u64::MAX);
            Buffer { bytes: own, ..buffer }
        };
        let sized = match *self {
            Self::Unified(buffer) => Self::Unified(part(buffer)),
            Self::Split { weights, maps } => Self::Split { weights: part(weights), maps: part(maps) },
            Self::Apart { weights, inputs, outputs } => {
                Self::Apart { weights: part(weights), inputs: part(inputs), outputs: part(outputs) }
            }
        };
        if bytes > 1 << 50 {
            return Err(Error::bad_input(format!("{bytes} bytes of on-chip memory")).with_help("give at most 2^50"));
        }
        if sized.each().iter().any(|buffer| buffer.bytes == 0) {
            let what = format!("{bytes} bytes of on-chip memory leave a buffer without any");
            return Err(Error::bad_input(what).with_help("give the machine more"));
        }
        Ok(sized)
    }

    /// Whether so many bits of weights, inputs and outputs fit at once.
    fn hold(&self, [weights, inputs, outputs]: [u128; 3]) -> bool {
        let fit = |buffer: &Buffer, bits: u128| bits <= u128::from(buffer.bytes) * 8;
        match self {
            Self::Unified(all) => fit(all, weights + inputs + outputs),
            Self::Split { weights: own, maps } => fit(own, weights) && fit(maps, inputs + outputs),
            Self::Apart { weights: w, inputs: i, outputs: o } => fit(w, weights) && fit(i, inputs) && fit(o, outputs),
        }
    }
}

/// DRAM bandwidth: bits in a thousand cycles, a whole number, so that cycles are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Bandwidth(u64);

impl Bandwidth {
    /// From bytes a cycle, rounded to 1/8000.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for what is not from 0.001 to 10^9.
    pub fn bytes_per_cycle(bytes: f64) -> Result<Self> {
        if !(0.001..=1e9).contains(&bytes) {
            return Err(Error::bad_input(format!("a bandwidth of {bytes} bytes a cycle"))
                .with_help("give a number from 0.001 to 1000000000"));
        }
        Ok(Self((bytes * 8000.0).round() as u64))
    }

    /// Cycles that so many bits take.
    pub fn cycles(self, bits: u64) -> u64 {
        match bits.checked_mul(1000) {
            Some(bits) => bits.div_ceil(self.0),
            None => u64::try_from((u128::from(bits) * 1000).div_ceil(self.0.into())).unwrap_or(u64::MAX),
        }
    }
}

/// The memories of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Memory {
    /// On the chip.
    pub buffers: Buffers,
    /// To and from DRAM.
    pub bandwidth: Bandwidth,
    /// Bring the next set while one is computed on.
    pub double_buffered: bool,
    /// A map that is read and a map that is written, if both fit with what streams past, never leave the chip.
    pub keep_maps: bool,
}

/// Which operand's sets are brought once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Order {
    /// Of the map.
    WindowsOutside,
    /// Of the weights.
    FiltersOutside,
}

/// How a layer is cut, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Schedule {
    /// What is outside.
    pub order: Order,
    /// Turns.
    pub sets: u64,
    /// Bits over the DRAM interface. What is below the tensors' own size stays on the chip.
    pub traffic: Stored,
    /// Cycles, computing included.
    pub cycles: u64,
    /// Cycles before the first turn.
    pub fill: u64,
    /// Cycles after the last turn.
    pub drain: u64,
}

/// The cut of a layer with the least traffic, and of these the fastest. `compute` are the cycles that it takes with memory without
/// limit; `at_once` filters are computed on together, which is the piece in which filters stream.
pub fn schedule(memory: &Memory, shape: &Shape, stored: &Stored, compute: u64, at_once: usize) -> Schedule {
    let case = Case { memory, shape, stored, compute, at_once: at_once.clamp(1, shape.filters.max(1)) };
    if shape.places() == 0 || shape.filters == 0 {
        let traffic = Stored::default();
        return Schedule { order: Order::WindowsOutside, sets: 0, traffic, cycles: compute, fill: 0, drain: 0 };
    }
    let mut best: Option<(u64, Schedule)> = None;
    case.cuts(|candidate| {
        let bits = candidate.traffic.weights + candidate.traffic.inputs + candidate.traffic.outputs;
        if best.is_none_or(|(least, old)| (bits, candidate.cycles) < (least, old.cycles)) {
            best = Some((bits, candidate));
        }
    });
    // There is always a cut: the finest, which streams.
    best.map_or_else(|| case.streaming(), |(_, schedule)| schedule)
}
