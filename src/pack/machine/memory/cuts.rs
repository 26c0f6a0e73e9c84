//! All cuts of a layer that fit the buffers.

use super::turns::{Cut, Set, share};
use super::{Memory, Order, Schedule};
use crate::pack::Shape;
use crate::pack::machine::Stored;

/// A layer on a memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub memory: &'a Memory,
    pub shape: &'a Shape,
    pub stored: &'a Stored,
    pub compute: u64,
    pub at_once: usize,
}

/// More sets than this only where fewer do not fit.
const FINE: usize = 256;

/// The numbers `ceil(n / s)` for s from 1 to n, each once, largest first.
fn parts(n: usize) -> impl Iterator<Item = usize> {
    let mut next = Some(n.max(1));
    std::iter::from_fn(move || {
        let part = next?;
        // The least s with ceil(n / s) < part.
        next = (part > 1).then(|| n.div_ceil(n.div_ceil(part - 1)));
        Some(part)
    })
}

impl Case<'_> {
    /// Tells of every cut that is worth a look.
    pub fn cuts(&self, mut tell: impl FnMut(Schedule)) {
        self.windows_outside(&mut tell);
        self.filters_outside(&mut tell);
    }

    /// Sets that are held at once, of so many.
    fn held(&self, sets: usize) -> u128 {
        if self.memory.double_buffered { sets.min(2) as u128 } else { 1 }
    }

    fn fits(&self, weights: u128, inputs: u128, outputs: u128) -> bool {
        self.memory.buffers.hold([weights, inputs, outputs])
    }

    /// With all weights staying and with weights streaming: all cuts into rows that fit; where there is none, rows are cut as well. Finer
    /// cuts of rows only cost more, so the first that fits is the best; the finest holds nothing, and always goes.
    fn windows_outside(&self, tell: &mut impl FnMut(Schedule)) {
        let [height, width, _] = self.shape.output();
        for stays in [true, false] {
            let mut found = false;
            for rows in parts(height) {
                // Finer cuts have no less traffic, and hardly start earlier.
                if found && height / rows > FINE {
                    break;
                }
                found |= self.with_windows(&self.row_sets(rows), stays, tell);
            }
            let mut columns = parts(width).skip(1);
            if !found && !columns.any(|columns| self.with_windows(&self.column_sets(columns), stays, tell)) && !stays {
                tell(self.streaming());
            }
        }
    }

    /// The finest cut.
    pub fn streaming(&self) -> Schedule {
        self.window_cut(&self.column_sets(1), false).schedule(self)
    }

    fn window_cut<'s>(&self, sets: &'s [Set], stays: bool) -> Cut<'s> {
        let filters = self.shape.filters;
        Cut {
            order: Order::WindowsOutside,
            sets,
            inner: self.stored.weights,
            pieces: filters.div_ceil(self.at_once) as u64,
            first: share(self.stored.weights, (0, self.at_once as u64), filters as u64),
            stays,
            kept: false,
        }
    }

    /// Tells of the cut with these sets of windows if it fits, and says whether.
    fn with_windows(&self, sets: &[Set], stays: bool, tell: &mut impl FnMut(Schedule)) -> bool {
        let largest = u128::from(sets.iter().map(|set| set.bits).max().unwrap_or(0)) * self.held(sets.len());
        let mut cut = self.window_cut(sets, stays);
        let whole = u128::from(self.stored.weights);
        // The largest piece: shares differ by a bit at most.
        let piece = u128::from(cut.first + u64::from(cut.pieces > 1)).min(whole);
        let room = if stays { whole } else { piece * self.held(cut.pieces.min(2) as usize) };
        if !self.fits(room, largest, 0) {
            return false;
        }
        cut.kept = self.memory.keep_maps && sets.len() == 1 && self.fits(room, largest, self.stored.outputs.into());
        tell(cut.schedule(self));
        true
    }

    fn filters_outside(&self, tell: &mut impl FnMut(Schedule)) {
        let [height, ..] = self.shape.input;
        let (map, outputs) = (u128::from(self.stored.inputs), u128::from(self.stored.outputs));
        let reach = (self.shape.dilation[0] * self.shape.filter[0].saturating_sub(1) + 1).min(height);
        let ahead = if self.memory.double_buffered { self.shape.stride[0] } else { 0 };
        // Rows that are held while the map streams; a row's bits differ by one at most.
        let rows = (reach + ahead).min(height);
        let passing = (self.rows_bits(0, rows) as u128 + u128::from(rows < height)).min(map);
        let pieces = self.shape.output()[0] as u64;
        let mut map_stays = false;
        for together in parts(self.shape.filters) {
            if map_stays && self.shape.filters / together > FINE {
                break;
            }
            let sets = self.filter_sets(together);
            let largest = u128::from(sets.iter().map(|set| set.bits).max().unwrap_or(0)) * self.held(sets.len());
            let mut cut = Cut {
                order: Order::FiltersOutside,
                sets: &sets,
                inner: self.stored.inputs,
                pieces,
                first: self.rows_bits(0, reach),
                stays: false,
                kept: false,
            };
            for (room, stays) in [(map, true), (passing, false)] {
                if self.fits(largest, room, 0) {
                    map_stays |= stays;
                    cut.stays = stays;
                    cut.kept = self.memory.keep_maps && stays && self.fits(largest, room, outputs);
                    tell(cut.schedule(self));
                }
            }
        }
    }

    fn filter_sets(&self, together: usize) -> Vec<Set> {
        let filters = self.shape.filters;
        (0..filters)
            .step_by(together)
            .map(|first| {
                let units = (first as u64, (first + together).min(filters) as u64);
                Set { bits: share(self.stored.weights, units, filters as u64), units }
            })
            .collect()
    }

    /// Bits of some rows of the map.
    fn rows_bits(&self, first: usize, end: usize) -> u64 {
        share(self.stored.inputs, (first as u64, end as u64), self.shape.input[0] as u64)
    }

    /// The stretches of the map, along an axis, that stretches of `length` results see. Stretches in a row leave nothing out: what no result sees is
    /// read with its neighbour.
    fn stretches(&self, axis: usize, length: usize) -> Vec<((usize, usize), (usize, usize))> {
        let (shape, results) = (self.shape, self.shape.output()[axis]);
        let (stride, padding, map) = (shape.stride[axis], shape.padding[axis], shape.input[axis]);
        let reach = shape.dilation[axis] * shape.filter[axis].saturating_sub(1) + 1;
        let start = |first: usize| if first == 0 { 0 } else { (first * stride).saturating_sub(padding).min(map) };
        (0..results)
            .step_by(length)
            .map(|first| {
                let end = (first + length).min(results);
                let seen = ((end - 1) * stride + reach).saturating_sub(padding).min(map);
                let to = if end == results { map } else { seen.max(start(end)) };
                ((first, end), (start(first), to))
            })
            .collect()
    }

    fn row_sets(&self, rows: usize) -> Vec<Set> {
        let width = self.shape.output()[1] as u64;
        let set = |(results, map): ((usize, usize), (usize, usize))| Set {
            bits: self.rows_bits(map.0, map.1),
            units: (results.0 as u64 * width, results.1 as u64 * width),
        };
        self.stretches(0, rows).into_iter().map(set).collect()
    }

    /// One row of windows each, and of it so many columns; bits rounded up.
    fn column_sets(&self, columns: usize) -> Vec<Set> {
        let [height, width, _] = self.shape.input;
        let across = self.shape.output()[1];
        let (down, right) = (self.stretches(0, 1), self.stretches(1, columns));
        let mut sets = Vec::with_capacity(down.len() * right.len());
        for &((row, _), (y, y_end)) in &down {
            for &((first, end), (x, x_end)) in &right {
                let places = ((y_end - y) * (x_end - x)) as u128;
                let bits = (u128::from(self.stored.inputs) * places).div_ceil((height * width).max(1) as u128) as u64;
                sets.push(Set { bits, units: ((row * across + first) as u64, (row * across + end) as u64) });
            }
        }
        sets
    }
}
