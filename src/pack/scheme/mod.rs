//! How values lie in a compressed memory, and what that costs to the bit.
//!
//! [`reference::size`] counts on the host, written for reading; [`Meter`] counts many tensors under many schemes on the device. Both give the
//! same numbers, and the layouts are real: tests write each to bits, find the length that is counted, and read the values back.
//! Order of values: a group is consecutive channels of one position (or of the run of values that a whole row is); counts of zeros and bit
//! planes run over channel-major order, within each filter for weights; SCNN's streams are channels over all positions and filters.
//! A tensor without values takes no bits, under any scheme.

mod codes;
#[cfg(test)]
mod layout;
mod meter;
pub mod reference;
mod text;
mod width;

pub use meter::Meter;
pub(in crate::pack) use meter::catalogue;

use super::values::Element;
use crate::error::{Error, Result};

/// Bits of a pointer to the stream of a channel (SCNN).
const STREAM_POINTER: u64 = 16;
/// Values of a block of bit planes (EBPC).
const PLANE_BLOCK: usize = 8;

/// A way to store a tensor.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Containers as they are.
    Uncompressed,
    /// One width for the whole tensor, in 8 bits beside it (Proteus).
    OneWidth,
    /// A bit a value, and the non-zero values (zero-value compression, cDMA).
    ZeroValue,
    /// Non-zero values, each with a count of so many bits of the zeros before it.
    ZeroRuns {
        /// Bits of a count.
        run_bits: u32,
    },
    /// A prefix with the width of a group, a bit a value if zeros are left out, and the values (ShapeShifter, MICRO 2019).
    ShapeShifter {
        /// Values of a group: consecutive channels of a position; a power of two from 4 to 256.
        group: usize,
        /// Bits of a prefix; 0: as many as widths from 0 to the container's need. One less suffices where no width is 0, and
        /// where zeros are left out, since a group of zeros has no values whose width would matter.
        prefix: u32,
        /// Leave out zeros.
        zero_vector: bool,
    },
    /// Fixed-lane width coding (Boveda, MLSys 2021).
    FixedLane(FixedLane),
    /// Streams of a channel with zeros dropped, a count each, in groups of lanes (SCNN, ISCA 2017).
    Scnn {
        /// Values of a group; a power of two up to 256.
        group: usize,
        /// Bits of a count.
        run_bits: u32,
        /// A width a group on top.
        widths: bool,
    },
    /// Zero runs, and bit planes of what is left (EBPC).
    BitPlanes,
    /// Canonical Huffman codes of the values, with a table.
    Huffman,
    /// Interleaved rANS, as [`crate::pack::codec::rans`] writes it, with its tables, states and lengths; of floats the exponents alone. A tensor that would
    /// grow stays as it is.
    Rans,
    /// The order-0 entropy: no scheme, a bound for all that know nothing of neighbours. No table is counted.
    Entropy,
}

/// Fixed-lane width coding: value i of a group stands in lane i, a memory row has as many lanes as a group, each as wide as a
/// container, and a group of width w takes the next w bits of every lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedLane {
    /// Lanes, and consecutive channels of a group: a power of two from 4 to 256.
    pub group: usize,
    /// Bits of a width; 0: as many as the widths of the element need, with `zero_width` or without (3 or 4 for 8 bits).
    pub prefix: u32,
    /// A group of zeros takes no bits.
    pub zero_width: bool,
    /// A bit says that a width is that of the group before, whose prefix is left out.
    pub same_as_previous: bool,
    /// Where a memory row is closed.
    pub restart: Restart,
    /// Bits of a pointer, of which each filter and each row of a map has one.
    pub pointer: u32,
}

/// Where lanes start again in a row of their own: the places that can be read without what is before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Restart {
    /// At each position of a map, and each filter.
    Position,
    /// At each row of a map, which is taken as one run of values, and each filter.
    Row,
    /// Never; groups are of positions, and pointers lead into the middle of a memory row.
    Tensor,
}

impl Default for FixedLane {
    /// Groups of 16, rows taken as one run, a pointer of 32 bits each.
    fn default() -> Self {
        Self { group: 16, prefix: 0, zero_width: false, same_as_previous: false, restart: Restart::Row, pointer: 32 }
    }
}

impl Scheme {
    /// What a report shows if nobody says otherwise, the plain container first and the bound last.
    pub fn standard() -> Vec<Self> {
        let lanes = FixedLane::default();
        let shifted = |zero_vector| Self::ShapeShifter { group: 16, prefix: 0, zero_vector };
        vec![
            Self::Uncompressed,
            Self::OneWidth,
            Self::ZeroValue,
            Self::ZeroRuns { run_bits: 4 },
            Self::BitPlanes,
            shifted(true),
            shifted(false),
            Self::FixedLane(FixedLane { restart: Restart::Position, ..lanes }),
            Self::FixedLane(lanes),
            Self::FixedLane(FixedLane { group: 8, ..lanes }),
            Self::FixedLane(FixedLane { zero_width: true, ..lanes }),
            Self::FixedLane(FixedLane { same_as_previous: true, ..lanes }),
            Self::Scnn { group: 4, run_bits: 4, widths: false },
            Self::Scnn { group: 4, run_bits: 4, widths: true },
            Self::Huffman,
            Self::Rans,
            Self::Entropy,
        ]
    }

    /// Whether the options make sense for tensors of this element.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] that names the option and its range.
    pub fn check(&self, element: Element) -> Result<()> {
        let refuse = |what: String| Err(Error::bad_input(format!("scheme '{self}': {what}")));
        let prefix = |given: u32, least: u32| given == 0 || (least..=16).contains(&given);
        match *self {
            Self::ZeroRuns { run_bits } if !(1..=16).contains(&run_bits) => {
                refuse(format!("a count of zeros has 1 to 16 bits, not {run_bits}"))
            }
            Self::ShapeShifter { group, .. } | Self::FixedLane(FixedLane { group, .. })
                if !group.is_power_of_two() || !(4..=256).contains(&group) =>
            {
                refuse(format!("a group has 4, 8, 16, 32, 64, 128 or 256 values, not {group}"))
            }
            Self::ShapeShifter { prefix: given, .. } if !prefix(given, width::prefix_bits(element, false)) => {
                let least = width::prefix_bits(element, false);
                refuse(format!("the widths of {} need a prefix of {least} to 16 bits, not {given}", element.name()))
            }
            Self::FixedLane(lanes) if !prefix(lanes.prefix, width::prefix_bits(element, lanes.zero_width)) => {
                let (least, given) = (width::prefix_bits(element, lanes.zero_width), lanes.prefix);
                refuse(format!("the widths of {} need a prefix of {least} to 16 bits, not {given}", element.name()))
            }
            Self::FixedLane(lanes) if lanes.pointer > 64 => {
                refuse(format!("a pointer has at most 64 bits, not {}", lanes.pointer))
            }
            Self::Scnn { group, .. } if !group.is_power_of_two() || group > 256 => {
                refuse(format!("a group has 1, 2, 4 .. 256 values, not {group}"))
            }
            Self::Scnn { run_bits, .. } if !(1..=8).contains(&run_bits) => {
                refuse(format!("a count of zeros has 1 to 8 bits, not {run_bits}"))
            }
            _ => Ok(()),
        }
    }
}

/// The prefix of a ShapeShifter group.
fn shape_prefix(element: Element, given: u32) -> u64 {
    u64::from(if given == 0 { width::prefix_bits(element, true) } else { given })
}

/// The prefix of a group in lanes.
fn lane_prefix(element: Element, lanes: &FixedLane) -> u64 {
    u64::from(if lanes.prefix == 0 { width::prefix_bits(element, lanes.zero_width) } else { lanes.prefix })
}

/// Bits that a tensor takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Size {
    /// Bits of values.
    pub values: u64,
    /// Widths, zero vectors, counts.
    pub metadata: u64,
    /// Bits that nothing uses: lanes without a value, ends of memory rows.
    pub padding: u64,
    /// Where rows, filters or streams begin.
    pub pointers: u64,
    /// Tables of codes.
    pub tables: u64,
}

impl Size {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.values + self.metadata + self.padding + self.pointers + self.tables
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            values: self.values + other.values,
            metadata: self.metadata + other.metadata,
            padding: self.padding + other.padding,
            pointers: self.pointers + other.pointers,
            tables: self.tables + other.tables,
        }
    }
}
