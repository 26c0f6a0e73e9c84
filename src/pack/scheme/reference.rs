//! Sizes counted on the host, one value after the other: what the device is compared with.

mod streams;

use std::ops::Range;

use super::width::{Widths, least_dense_width, least_width, table_bits};
use super::{FixedLane, Restart, Scheme, Size, codes, lane_prefix, shape_prefix};
use crate::error::Result;
use crate::pack::codec::rans;
use crate::pack::values::{Kind, Values};

#[cfg(test)]
pub(super) use streams::{channel_major, stream_items};

/// Size of a tensor under a scheme.
///
/// # Errors
/// Those of [`Scheme::check`].
pub fn size(values: &Values, scheme: &Scheme) -> Result<Size> {
    scheme.check(values.element())?;
    if values.is_empty() {
        return Ok(Size::default());
    }
    let bits = u64::from(values.element().bits());
    let non_zeros = || (0..values.len()).filter(|&i| values.code(i) != 0).count() as u64;
    Ok(match *scheme {
        Scheme::Uncompressed => Size { values: values.bits(), ..Size::default() },
        Scheme::OneWidth => one_width(values),
        Scheme::ZeroValue => Size { values: non_zeros() * bits, metadata: values.len() as u64, ..Size::default() },
        Scheme::ZeroRuns { run_bits } => streams::zero_runs(values, run_bits),
        Scheme::ShapeShifter { group, prefix, zero_vector } => {
            shape_shifter(values, group, shape_prefix(values.element(), prefix), zero_vector)
        }
        Scheme::FixedLane(lanes) => fixed_lane(values, &lanes),
        Scheme::Scnn { group, run_bits, widths } => streams::scnn(values, group, run_bits, widths),
        Scheme::BitPlanes => streams::bit_planes(values),
        Scheme::Huffman => codes::huffman(&codes::histogram(values), values.element()),
        Scheme::Rans => at_most_plain(values, rans::encoded_bits(values)),
        Scheme::Entropy => Size { values: codes::entropy(&codes::histogram(values)), ..Size::default() },
    })
}

/// What a container stores: a tensor as it is where coding does not pay.
pub(super) fn at_most_plain(values: &Values, size: Size) -> Size {
    if size.total() < values.bits() { size } else { Size { values: values.bits(), ..Size::default() } }
}

fn one_width(values: &Values) -> Size {
    let widths = Widths::of(values);
    let width = (0..values.len()).map(|i| widths.width(values.code(i))).max().unwrap_or(0);
    Size {
        values: values.len() as u64 * u64::from(width),
        metadata: 8,
        tables: table_bits(values.element()),
        ..Size::default()
    }
}

/// The groups of a tensor whose units (positions, or rows) have `unit` values: no group crosses the end of a unit.
pub(super) fn groups(len: usize, unit: usize, group: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(unit).flat_map(move |start| {
        (start..start + unit).step_by(group).map(move |first| first..(first + group).min(start + unit))
    })
}

/// Values of a unit, which groups do not leave, and of a segment, at whose end memory rows are closed.
pub(super) fn units(values: &Values, restart: Restart) -> (usize, usize) {
    let row = values.len() / values.rows();
    match (restart, values.kind()) {
        (Restart::Row, _) => (row, row),
        (Restart::Position, Kind::Weights) => (values.channels(), row),
        (Restart::Position, Kind::Activations) => (values.channels(), values.channels()),
        (Restart::Tensor, _) => (values.channels(), values.len()),
    }
}

/// The width of the largest value; 0 if all are zero.
pub(super) fn group_width(values: &Values, widths: &Widths, group: Range<usize>) -> u32 {
    group.map(|i| widths.non_zero_width(values.code(i))).max().unwrap_or(0)
}

fn shape_shifter(values: &Values, group: usize, prefix: u64, zero_vector: bool) -> Size {
    let widths = Widths::of(values);
    let mut size = Size { tables: table_bits(values.element()), ..Size::default() };
    for members in groups(values.len(), values.channels(), group) {
        let width = group_width(values, &widths, members.clone());
        if zero_vector {
            let stored = members.filter(|&i| values.code(i) != 0).count() as u64;
            size.metadata += prefix + group as u64;
            size.values += u64::from(width) * stored;
        } else {
            let width = u64::from(width.max(least_dense_width(values.element())));
            size.metadata += prefix;
            size.values += width * members.len() as u64;
            size.padding += width * (group - members.len()) as u64;
        }
    }
    size
}

fn fixed_lane(values: &Values, lanes: &FixedLane) -> Size {
    let (widths, group) = (Widths::of(values), lanes.group as u64);
    let (element, container) = (values.element(), u64::from(values.element().bits()));
    let prefix = lane_prefix(element, lanes);
    let (unit, segment) = units(values, lanes.restart);
    let pointers = values.rows() as u64 * u64::from(lanes.pointer);
    let mut size = Size { pointers, tables: table_bits(element), ..Size::default() };
    let (mut memory, mut previous) = (0, None);
    for start in (0..values.len()).step_by(segment) {
        let mut lane_bits = 0;
        for members in groups(segment, unit, lanes.group) {
            let members = start + members.start..start + members.end;
            let stored = members.len() as u64;
            let width = group_width(values, &widths, members).max(least_width(element, lanes.zero_width));
            lane_bits += u64::from(width);
            size.values += u64::from(width) * stored;
            size.metadata += match lanes.same_as_previous {
                true if previous == Some(width) => 1,
                true => 1 + prefix,
                false => prefix,
            };
            previous = Some(width);
        }
        memory += lane_bits.div_ceil(container) * container * group;
    }
    size.padding = memory - size.values;
    size
}
