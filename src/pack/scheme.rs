//! How values lie in a compressed memory, and what that costs.

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
        /// Values of a group: consecutive channels of a position.
        group: usize,
        /// Bits of a prefix.
        prefix: u32,
        /// Leave out zeros.
        zero_vector: bool,
    },
    /// Fixed-lane width coding (Boveda, MLSys 2021).
    FixedLane(FixedLane),
    /// Streams of a channel with zeros dropped, a count each, in groups of lanes (SCNN, ISCA 2017).
    Scnn {
        /// Values of a group.
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
    /// The order-0 entropy: no scheme, a bound for all that know nothing of neighbours. No table is counted.
    Entropy,
}

/// Fixed-lane width coding: value i of a group stands in lane i, a memory row has as many lanes as a group, each as wide as a
/// container, and a group of width w takes the next w bits of every lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedLane {
    /// Lanes, and consecutive channels of a group: 4 to 256.
    pub group: usize,
    /// Bits of a width; with `zero_width` one more than the widths alone would need.
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
    /// Never.
    Tensor,
}

/// Bits that a tensor takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Size {
    /// Bits of values.
    pub values: u64,
    /// Widths, zero vectors, counts.
    pub metadata: u64,
    /// Bits that nothing uses.
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
