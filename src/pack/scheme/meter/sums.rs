//! What the device counts, added up over the parts of a tensor, and the sizes that follow. Whatever it answers, nothing here panics.

use super::super::reference::units;
use super::super::width::{least_dense_width, least_width, prefix_bits, table_bits, zero_width};
use super::super::{FixedLane, Restart, STREAM_POINTER, Scheme, Size, codes, lane_prefix, shape_prefix};
use super::parts::GroupPart;
use crate::pack::values::{Element, Values};

/// Something that the device can count about a tensor; several schemes may want the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Task {
    Histogram,
    Groups { restart: Restart, group: usize, least: u32 },
    Runs { run_bits: u32 },
    Planes,
    Scnn { group: usize, run_bits: u32, widths: bool },
}

impl Task {
    /// What a scheme wants to know.
    pub(super) fn of(scheme: &Scheme, element: Element) -> Option<Self> {
        Some(match *scheme {
            Scheme::Uncompressed | Scheme::Rans => return None,
            // Any groups will do; these are there in most reports.
            Scheme::OneWidth | Scheme::ZeroValue => {
                Self::Groups { restart: Restart::Row, group: 16, least: least_width(element, false) }
            }
            Scheme::ShapeShifter { group, zero_vector, .. } => {
                let least = if zero_vector { least_width(element, false) } else { least_dense_width(element) };
                Self::Groups { restart: Restart::Tensor, group, least }
            }
            Scheme::FixedLane(FixedLane { group, restart, zero_width, .. }) => {
                Self::Groups { restart, group, least: least_width(element, zero_width) }
            }
            Scheme::ZeroRuns { run_bits } => Self::Runs { run_bits },
            Scheme::BitPlanes => Self::Planes,
            Scheme::Scnn { group, run_bits, widths } => Self::Scnn { group, run_bits, widths },
            Scheme::Huffman | Scheme::Entropy => Self::Histogram,
        })
    }
}

/// Sums over groups (group_sums).
#[derive(Debug, Clone, Default)]
pub(super) struct GroupSums {
    rows: u64,
    widths: u64,
    stored: u64,
    same: u64,
    non_zero_bits: u64,
    non_zeros: u64,
    largest: u32,
    /// Bits of a lane since the last restart, where a segment is cut.
    open: u64,
    last: Option<u32>,
}

impl GroupSums {
    pub(super) fn add(&mut self, words: &[u32], part: &GroupPart, container: u32) {
        let word = |i: usize| u64::from(words[i]);
        if part.segment.is_some() {
            self.rows += word(0);
        } else {
            self.open += word(1);
            if part.ends {
                self.rows += std::mem::take(&mut self.open).div_ceil(u64::from(container));
            }
        }
        self.widths += word(1);
        self.stored += word(2);
        self.same += word(3) + u64::from(self.last == Some(words[8]));
        self.non_zero_bits += word(4);
        self.largest = self.largest.max(words[5]);
        self.non_zeros += word(6);
        self.last = Some(words[9]);
    }
}

/// Runs of a stream (run_carry).
#[derive(Debug, Clone, Default)]
pub(super) struct RunSums {
    non_zeros: u64,
    cuts: u64,
    /// At the end so far.
    zeros: u64,
}

impl RunSums {
    /// Adds the next part, of `len` values; a run z counts (z + add) >> run_bits.
    pub(super) fn add(&mut self, words: &[u32], len: usize, (run_bits, add): (u32, u32)) {
        let [non_zeros, cuts, end, start] = [0, 1, 2, 3].map(|i| u64::from(words[i]));
        let counted = |zeros: u64| (zeros + u64::from(add)) >> run_bits;
        if non_zeros == 0 {
            self.zeros += len as u64;
            return;
        }
        // The first run may have begun in an earlier part.
        self.cuts += cuts.saturating_sub(counted(start)) + counted(self.zeros + start);
        self.non_zeros += non_zeros;
        self.zeros = end;
    }

    fn counted(&self, (run_bits, add): (u32, u32)) -> u64 {
        self.cuts + ((self.zeros + u64::from(add)) >> run_bits)
    }
}

/// Sums over streams (scnn_groups, stream_sums).
#[derive(Debug, Clone, Default)]
pub(super) struct StreamSums {
    rows: u64,
    stored: u64,
    items: u64,
    groups: u64,
}

impl StreamSums {
    pub(super) fn add(&mut self, words: &[u32]) {
        let [rows, stored, items, groups] = [0, 1, 2, 3].map(|i| u64::from(words[i]));
        self.rows += rows;
        self.stored += stored;
        self.items += items;
        self.groups += groups;
    }
}

/// How runs are counted for EBPC: a code for up to 16 zeros.
pub(super) const PLANE_RUNS: (u32, u32) = (4, 15);

/// What a task found.
#[derive(Debug, Clone)]
pub(super) enum Found {
    Histogram(Vec<u64>),
    Groups(GroupSums),
    Runs(RunSums),
    Planes(RunSums, u64),
    Streams(StreamSums),
}

impl Found {
    /// Nothing yet.
    pub(super) fn new(task: Task, element: Element) -> Self {
        match task {
            Task::Histogram => Self::Histogram(vec![0; 1 << element.bits()]),
            Task::Groups { .. } => Self::Groups(GroupSums::default()),
            Task::Runs { .. } => Self::Runs(RunSums::default()),
            Task::Planes => Self::Planes(RunSums::default(), 0),
            Task::Scnn { .. } => Self::Streams(StreamSums::default()),
        }
    }
}

/// The size of a tensor under a scheme, from what its task found; none if that is another's.
pub(super) fn size(values: &Values, scheme: &Scheme, found: &Found) -> Option<Size> {
    let (element, bits) = (values.element(), u64::from(values.element().bits()));
    Some(match (*scheme, found) {
        (Scheme::OneWidth, Found::Groups(sums)) => Size {
            values: values.len() as u64 * u64::from(sums.largest.max(zero_width(element))),
            metadata: 8,
            tables: table_bits(element),
            ..Size::default()
        },
        (Scheme::ZeroValue, Found::Groups(sums)) => {
            Size { values: sums.non_zeros * bits, metadata: values.len() as u64, ..Size::default() }
        }
        (Scheme::ZeroRuns { run_bits }, Found::Runs(sums)) => {
            let stored = sums.non_zeros + sums.counted((run_bits, 0));
            Size { values: stored * bits, metadata: stored * u64::from(run_bits), ..Size::default() }
        }
        (Scheme::BitPlanes, Found::Planes(runs, planes)) => {
            Size { values: *planes, metadata: runs.non_zeros + 5 * runs.counted(PLANE_RUNS), ..Size::default() }
        }
        (Scheme::ShapeShifter { group, prefix, zero_vector }, Found::Groups(sums)) => {
            let prefix = shape_prefix(element, prefix);
            shape_shifter(values, sums, group, (prefix, zero_vector))
        }
        (Scheme::FixedLane(lanes), Found::Groups(sums)) => fixed_lane(values, sums, &lanes),
        (Scheme::Scnn { group, run_bits, widths }, Found::Streams(sums)) => {
            scnn(values, sums, group as u64, (run_bits, widths))
        }
        (Scheme::Huffman, Found::Histogram(counts)) => codes::huffman(counts, element),
        (Scheme::Entropy, Found::Histogram(counts)) => Size { values: codes::entropy(counts), ..Size::default() },
        _ => return None,
    })
}

/// Groups of a tensor.
fn groups(values: &Values, restart: Restart, group: usize) -> u64 {
    let (unit, _) = units(values, restart);
    (values.len() / unit * unit.div_ceil(group)) as u64
}

fn shape_shifter(values: &Values, sums: &GroupSums, group: usize, (prefix, zero_vector): (u64, bool)) -> Size {
    let (groups, tables) = (groups(values, Restart::Tensor, group), table_bits(values.element()));
    let group = group as u64;
    if zero_vector {
        return Size { values: sums.non_zero_bits, metadata: groups * (prefix + group), tables, ..Size::default() };
    }
    let padding = (sums.widths * group).saturating_sub(sums.stored);
    Size { values: sums.stored, metadata: groups * prefix, padding, tables, ..Size::default() }
}

fn fixed_lane(values: &Values, sums: &GroupSums, lanes: &FixedLane) -> Size {
    let element = values.element();
    let (groups, prefix) = (groups(values, lanes.restart, lanes.group), lane_prefix(element, lanes));
    let memory = sums.rows * u64::from(element.bits()) * lanes.group as u64;
    Size {
        values: sums.stored,
        metadata: if lanes.same_as_previous {
            groups + groups.saturating_sub(sums.same) * prefix
        } else {
            groups * prefix
        },
        padding: memory.saturating_sub(sums.stored),
        pointers: values.rows() as u64 * u64::from(lanes.pointer),
        tables: table_bits(element),
    }
}

fn scnn(values: &Values, sums: &StreamSums, group: u64, (run_bits, widths): (u32, bool)) -> Size {
    let (element, container) = (values.element(), u64::from(values.element().bits()));
    let (rows, stored, prefix) = match widths {
        true => (sums.rows, sums.stored, u64::from(prefix_bits(element, false))),
        false => (sums.groups, sums.items * container, 0),
    };
    Size {
        values: stored,
        metadata: sums.items * u64::from(run_bits) + sums.groups * prefix,
        padding: (rows * container * group).saturating_sub(stored),
        pointers: values.channels() as u64 * STREAM_POINTER,
        tables: if widths { table_bits(element) } else { 0 },
    }
}
