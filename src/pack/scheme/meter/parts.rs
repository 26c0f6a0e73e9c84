//! Parts of tensors that fit the device at once.

use std::ops::Range;

use super::super::Restart;
use super::super::reference::units;
use crate::pack::values::{Kind, Values};

/// Values of a chunk of a stream, about.
const CHUNK: usize = 64;
/// No group of lanes is wider.
const WIDEST: usize = 256;

/// What is uploaded: a range of values, or some channels of a range of positions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct View {
    /// Of values; of positions if `channels` are given.
    range: (usize, usize),
    channels: Option<(usize, usize)>,
}

impl View {
    fn flat(range: Range<usize>) -> Self {
        Self { range: (range.start, range.end), channels: None }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        (self.range.1 - self.range.0) * self.channels.map_or(1, |(first, end)| end - first)
    }

    /// The bytes that the device gets.
    pub(super) fn bytes(&self, values: &Values) -> Vec<u8> {
        let (first, end) = self.range;
        let width = if values.halves().is_some() { 2 } else { 1 };
        let all: &[u8] = values.bytes().unwrap_or_else(|| bytemuck::cast_slice(values.halves().unwrap_or_default()));
        let Some((from, to)) = self.channels else { return all[first * width..end * width].to_vec() };
        let position = values.channels() * width;
        let rows = all[first * position..end * position].chunks_exact(position);
        rows.flat_map(|row| &row[from * width..to * width]).copied().collect()
    }
}

/// Whole segments, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupPart {
    pub(super) view: View,
    /// Values of a unit in this part.
    pub(super) unit: usize,
    /// Values of a segment, if the part is whole segments.
    pub(super) segment: Option<usize>,
    /// Whether a segment ends with the part.
    pub(super) ends: bool,
}

/// Parts of at most `most` values; a group is never cut.
pub(super) fn group_parts(values: &Values, restart: Restart, most: usize) -> Vec<GroupPart> {
    let (unit, segment) = units(values, restart);
    let len = values.len();
    let most = most.max(WIDEST);
    let cut = |range: Range<usize>, step: usize| {
        let end = range.end;
        range.step_by(step).map(move |start| start..(start + step).min(end))
    };
    if segment <= most {
        let whole = cut(0..len, most / segment * segment);
        let part = |range| GroupPart { view: View::flat(range), unit, segment: Some(segment), ends: true };
        return whole.map(part).collect();
    }
    let step = if unit <= most { most / unit * unit } else { most / WIDEST * WIDEST };
    // A unit that does not fit is cut between groups, and its pieces are units.
    let stretches = if unit <= most { cut(0..len, segment) } else { cut(0..len, unit) };
    let pieces = stretches.flat_map(|stretch| cut(stretch, step));
    let part = |range: Range<usize>| GroupPart {
        unit: unit.min(range.len()),
        segment: None,
        ends: range.end.is_multiple_of(segment),
        view: View::flat(range),
    };
    pieces.map(part).collect()
}

/// A stretch of streams: channel-major order of some filters and channels, one stream or one a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunPart {
    pub(super) view: View,
    pub(super) filters: usize,
    pub(super) positions: usize,
    pub(super) channels: usize,
    /// A stream a channel.
    pub(super) by_channel: bool,
}

impl RunPart {
    /// Chunks inside a channel; 0 where chunks go across channels.
    pub(super) fn per_channel(&self) -> usize {
        if self.by_channel || self.positions >= CHUNK { self.positions.div_ceil(CHUNK) } else { 0 }
    }

    /// Values of a chunk.
    pub(super) fn chunk(&self) -> usize {
        if self.per_channel() == 0 { CHUNK } else { self.positions.div_ceil(self.per_channel()) }
    }

    pub(super) fn chunks(&self) -> usize {
        match self.per_channel() {
            0 => (self.filters * self.positions * self.channels).div_ceil(CHUNK),
            each => self.filters * self.channels * each,
        }
    }

    pub(super) fn streams(&self) -> usize {
        if self.by_channel { self.channels } else { 1 }
    }
}

/// The one stream of all values in channel-major order, in parts of at most `most` values; none if a single channel has more.
pub(super) fn order_parts(values: &Values, most: usize) -> Option<Vec<RunPart>> {
    let (len, channels) = (values.len(), values.channels());
    let filters = if values.kind() == Kind::Weights { values.rows() } else { 1 };
    let positions = len / (filters * channels);
    let filter = positions * channels;
    let part =
        |view: View, filters, positions, channels| RunPart { view, filters, positions, channels, by_channel: false };
    if positions == 1 || channels == 1 {
        // Channel-major order is the order in memory.
        let range = |start: usize| start..(start + most).min(len);
        return Some((0..len).step_by(most).map(|s| part(View::flat(range(s)), 1, range(s).len(), 1)).collect());
    }
    if filter <= most {
        let step = most / filter;
        let range = |first: usize| first..(first + step).min(filters);
        let flat = |first| View::flat(range(first).start * filter..range(first).end * filter);
        return Some((0..filters).step_by(step).map(|f| part(flat(f), range(f).len(), positions, channels)).collect());
    }
    let step = most / positions;
    let blocks = |filter: usize| {
        (0..channels).step_by(step.max(1)).map(move |first| {
            let end = (first + step).min(channels);
            let range = (filter * positions, (filter + 1) * positions);
            part(View { range, channels: Some((first, end)) }, 1, positions, end - first)
        })
    };
    (step > 0).then(|| (0..filters).flat_map(blocks).collect())
}

/// A stream for each channel, with what it needs in memory beside its values; none if a single one does not fit into `bytes`.
pub(super) fn stream_parts(values: &Values, bytes: usize) -> Option<Vec<RunPart>> {
    let (positions, channels) = (values.positions(), values.channels());
    let width = if values.halves().is_some() { 2 } else { 1 };
    // A chunk has six words beside it, a stream has five.
    let stream = positions * width + 24 * positions.div_ceil(CHUNK) + 20;
    let step = bytes / stream;
    let part = |first: usize| {
        let end = (first + step).min(channels);
        let view = if (first, end) == (0, channels) {
            View::flat(0..values.len())
        } else {
            View { range: (0, positions), channels: Some((first, end)) }
        };
        RunPart { view, filters: 1, positions, channels: end - first, by_channel: true }
    };
    (step > 0).then(|| (0..channels).step_by(step).map(part).collect())
}

/// Any parts, for what does not care.
pub(super) fn flat_parts(values: &Values, most: usize) -> Vec<View> {
    (0..values.len()).step_by(most).map(|start| View::flat(start..(start + most).min(values.len()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::values::Element;

    fn tensor(kind: Kind, shape: &[usize]) -> Values {
        let bytes = (0..shape.iter().product()).map(|i: usize| i.to_le_bytes()[0]).collect();
        Values::from_bytes("t", kind, Element::U8, shape, bytes).unwrap()
    }

    #[test]
    fn parts_cover_a_tensor_once() {
        for shape in [&[3, 5, 7, 11][..], &[1, 1, 1, 2000], &[40, 1, 1, 3], &[2, 30, 600], &[900, 1, 1]] {
            let kind = if shape.len() == 4 { Kind::Weights } else { Kind::Activations };
            let values = tensor(kind, shape);
            for restart in [Restart::Position, Restart::Row, Restart::Tensor] {
                for most in [256, 700, 1 << 20] {
                    let parts = group_parts(&values, restart, most);
                    let mut at = 0;
                    for part in &parts {
                        assert_eq!(part.view.range.0, at);
                        assert!(part.view.len() <= most && part.view.len().is_multiple_of(part.unit));
                        at = part.view.range.1;
                    }
                    assert_eq!(at, values.len());
                    assert!(parts.last().unwrap().ends);
                }
            }
            for parts in [order_parts(&values, 700), stream_parts(&values, 3000)].into_iter().flatten() {
                let covered: usize = parts.iter().map(|part| part.view.len()).sum();
                assert_eq!(covered, values.len());
                assert!(parts.iter().all(|p| p.filters * p.positions * p.channels == p.view.len()));
            }
        }
    }

    #[test]
    fn a_view_of_channels_takes_them_from_every_position() {
        let values = tensor(Kind::Activations, &[1, 3, 5]);
        let view = View { range: (1, 3), channels: Some((2, 4)) };
        assert_eq!((view.len(), view.bytes(&values)), (4, vec![7, 8, 12, 13]));
    }
}
