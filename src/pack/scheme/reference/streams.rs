//! Schemes that look along a stream of values: zero runs, SCNN's streams, bit planes.

use super::super::width::{Widths, least_width, prefix_bits, table_bits};
use super::super::{PLANE_BLOCK, STREAM_POINTER, Size};
use crate::pack::values::{Kind, Values};

/// Places of values in channel-major order: each channel of a map, or of a filter, as a whole.
pub(in super::super) fn channel_major(values: &Values) -> Vec<usize> {
    let filters = if values.kind() == Kind::Weights { values.rows() } else { 1 };
    let channels = values.channels();
    let positions = values.len() / (filters * channels);
    let mut order = Vec::with_capacity(values.len());
    for filter in 0..filters {
        for channel in 0..channels {
            order.extend((0..positions).map(|position| (filter * positions + position) * channels + channel));
        }
    }
    order
}

/// The lengths of all runs of zeros, that at the end as well.
fn runs_of_zero(values: &Values, order: &[usize]) -> Vec<u64> {
    order.split(|&i| values.code(i) != 0).map(|run| run.len() as u64).filter(|&run| run > 0).collect()
}

/// A run of 2^b zeros or more is cut by stored zeros, each of which stands for 2^b of them.
pub(super) fn zero_runs(values: &Values, run_bits: u32) -> Size {
    let order = channel_major(values);
    let non_zeros = order.iter().filter(|&&i| values.code(i) != 0).count() as u64;
    let cuts: u64 = runs_of_zero(values, &order).iter().map(|run| run >> run_bits).sum();
    let stored = non_zeros + cuts;
    Size {
        values: stored * u64::from(values.element().bits()),
        metadata: stored * u64::from(run_bits),
        ..Size::default()
    }
}

/// What is stored of a stream: the place of a value (none for a zero that only carries a count), and the zeros before it.
pub(in super::super) type Item = (Option<usize>, usize);

/// Non-zero values of channel `channel` over all positions, with the zeros before each; nothing for zeros at the end.
pub(in super::super) fn stream_items(values: &Values, channel: usize, run_bits: u32) -> Vec<Item> {
    let longest = 1 << run_bits;
    let (mut items, mut zeros) = (Vec::new(), 0);
    for place in (channel..values.len()).step_by(values.channels()) {
        if values.code(place) == 0 {
            zeros += 1;
            continue;
        }
        while zeros >= longest {
            items.push((None, longest - 1));
            zeros -= longest;
        }
        items.push((Some(place), zeros));
        zeros = 0;
    }
    items
}

pub(super) fn scnn(values: &Values, group: usize, run_bits: u32, with_widths: bool) -> Size {
    let (widths, element) = (Widths::of(values), values.element());
    let (container, lanes) = (u64::from(element.bits()), group as u64);
    let mut size = Size::default();
    if with_widths {
        size.tables = table_bits(element);
    }
    for channel in 0..values.channels() {
        size.pointers += STREAM_POINTER;
        let items = stream_items(values, channel, run_bits);
        size.metadata += items.len() as u64 * u64::from(run_bits);
        let mut lane_bits = 0;
        for members in items.chunks(group) {
            let largest = members.iter().map(|(place, _)| place.map_or(0, |i| widths.non_zero_width(values.code(i))));
            let width = largest.max().unwrap_or(0).max(least_width(element, false));
            let width = if with_widths { u64::from(width) } else { container };
            size.metadata += if with_widths { u64::from(prefix_bits(element, false)) } else { 0 };
            size.values += width * members.len() as u64;
            size.padding += width * (lanes - members.len() as u64);
            lane_bits += width;
        }
        size.padding += (lane_bits.next_multiple_of(container) - lane_bits) * lanes;
    }
    size
}

/// EBPC (Cavigelli et al., 2019): a bit a non-zero value and 5 for up to 16 zeros; the non-zero values in blocks of 8 as a base
/// and the bit planes of their differences, each plane combined with the one above by exclusive or.
pub(super) fn bit_planes(values: &Values) -> Size {
    let order = channel_major(values);
    let runs = runs_of_zero(values, &order).iter().map(|run| run.div_ceil(16)).sum::<u64>();
    let stored: Vec<i32> = order.iter().filter(|&&i| values.code(i) != 0).map(|&i| values.integer(i)).collect();
    let container = values.element().bits();
    let blocks = stored.chunks(PLANE_BLOCK).map(|block| {
        let mut full = block.to_vec();
        full.resize(PLANE_BLOCK, 0);
        u64::from(block_bits(&full, container))
    });
    Size { values: blocks.sum(), metadata: stored.len() as u64 + 5 * runs, ..Size::default() }
}

/// Bits of a block: its first value, and the planes from the highest down.
fn block_bits(block: &[i32], container: u32) -> u32 {
    // Runs of 2 to B + 1 planes of zeros, which log2(B) bits tell apart behind a code of 3 bits.
    let run_code = |run: u32| match run {
        0 => 0,
        1 => 2,
        _ => 3 + container.ilog2(),
    };
    let differences: Vec<i32> = block.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let plane = |p: u32| -> Vec<bool> { differences.iter().map(|d| d >> p & 1 == 1).collect() };
    let (mut bits, mut run) = (container, 0);
    let mut above = vec![false; differences.len()];
    for p in (0..=container).rev() {
        let own = plane(p);
        let changed: Vec<bool> = own.iter().zip(&above).map(|(a, b)| a != b).collect();
        if changed.iter().any(|&bit| bit) {
            let short = changed.iter().all(|&bit| bit) || own.iter().all(|&bit| !bit);
            // A single one, or two neighbours, have a code of 5 bits and a place of 3; any other plane has a bit and itself: 8 both.
            bits += run_code(run) + if short { 5 } else { 8 };
            run = 0;
        } else {
            run += 1;
        }
        above = own;
    }
    bits + run_code(run)
}
