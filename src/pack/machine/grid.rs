//! A vector grid (Tensorcore-like): every cycle so many channels of so many windows meet those of so many filters.
//!
//! Source: DNNsim (`isakedo/DNNsim`, on-chip cycles of its dense machine). With `windows` places of the result and filters split over tiles,
//!
//! `cycles = groups ceil(windows / columns) ceil(filters of a group / (rows tiles)) kh kw ceil(channels of a group / lanes)`
//!
//! Taps that fall into padding take their cycle. What compression changes is memory: how many rows of a buffer are read ([`rows_of_run`]),
//! and how large a set of windows and filters fits (`memory`).

use super::Stored;
use crate::pack::Shape;

/// The grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Grid {
    /// Channels a cycle.
    pub lanes: usize,
    /// Windows (places of the result) a cycle.
    pub windows: usize,
    /// Filters a cycle of one tile.
    pub filters: usize,
    /// Tiles: each has filters of its own, all see the same windows.
    pub tiles: usize,
}

impl Grid {
    /// Multipliers of all tiles.
    pub fn multipliers(&self) -> u64 {
        [self.lanes, self.windows, self.filters, self.tiles].iter().map(|&n| n as u64).product()
    }

    /// Filters a cycle.
    pub fn filters_at_once(&self) -> usize {
        self.filters * self.tiles
    }
}

/// What a layer does on the grid, for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Run {
    /// Cycles.
    pub cycles: u64,
    /// How often a whole position of the map (all its channels, of one group) is read: for each window and tap inside of the map, once for
    /// each set of filters.
    pub position_reads: u64,
    /// How often a whole filter is read: once for each set of windows.
    pub filter_reads: u64,
    /// How often a place of the result is written.
    pub place_writes: u64,
}

/// The closed form.
pub fn run(shape: &Shape, grid: Grid) -> Run {
    let places = shape.places() as u64;
    let groups = shape.groups.max(1);
    let window_sets = places.div_ceil(grid.windows.max(1) as u64);
    let filter_sets = (shape.filters / groups).div_ceil(grid.filters_at_once().max(1)) as u64;
    let taps = (shape.filter[0] * shape.filter[1]) as u64;
    let channel_sets = (shape.input[2] / groups).div_ceil(grid.lanes.max(1)) as u64;
    let inside = [0, 1].map(|axis| shape.taps_inside(axis)).iter().product::<u64>();
    Run {
        cycles: groups as u64 * window_sets * filter_sets * taps * channel_sets,
        position_reads: groups as u64 * filter_sets * inside,
        filter_reads: window_sets * shape.filters as u64,
        place_writes: places,
    }
}

/// The same, cycle by cycle and read by read: slow, for tests.
pub fn literal(shape: &Shape, grid: Grid) -> Run {
    let mut run = Run::default();
    let [height, width, _] = shape.output();
    let places: Vec<[usize; 2]> = (0..height).flat_map(|y| (0..width).map(move |x| [y, x])).collect();
    let (per_group, channels) = (shape.filters / shape.groups, shape.input[2] / shape.groups);
    let filters: Vec<usize> = (0..per_group).collect();
    let lanes: Vec<usize> = (0..channels).collect();
    run.place_writes = places.len() as u64;
    for _group in 0..shape.groups {
        for windows in places.chunks(grid.windows) {
            run.filter_reads += per_group as u64;
            for _set in filters.chunks(grid.filters_at_once()) {
                for tap in (0..shape.filter[0]).flat_map(|y| (0..shape.filter[1]).map(move |x| [y, x])) {
                    let inside = |place: &&[usize; 2]| {
                        (0..2).all(|axis| {
                            let at = place[axis] * shape.stride[axis] + tap[axis] * shape.dilation[axis];
                            at >= shape.padding[axis] && at < shape.padding[axis] + shape.input[axis]
                        })
                    };
                    run.position_reads += windows.iter().filter(inside).count() as u64;
                    for _channels in lanes.chunks(grid.lanes) {
                        run.cycles += 1;
                    }
                }
            }
        }
    }
    run
}

/// Rows of `port` bits that a run of `bits` touches: one, and one more for each crossing. A run begins anywhere in a row,
/// so on average it crosses `(bits - 1) / port` times.
pub fn rows_of_run(bits: f64, port: u32) -> f64 {
    if bits <= 0.0 { 0.0 } else { 1.0 + (bits - 1.0).max(0.0) / f64::from(port) }
}

/// Rows that a layer reads from the weights' and the maps' buffers, and writes: from stored bits, taken to be spread evenly over positions of a
/// map (and groups of its channels) and over filters. Ports in bits.
pub fn row_accesses(shape: &Shape, run: &Run, stored: &Stored, ports: [u32; 3]) -> [f64; 3] {
    let positions = (shape.input[0] * shape.input[1] * shape.groups.max(1)) as f64;
    let each = |bits: u64, count: f64| if count > 0.0 { bits as f64 / count } else { 0.0 };
    [
        run.filter_reads as f64 * rows_of_run(each(stored.weights, shape.filters as f64), ports[0]),
        run.position_reads as f64 * rows_of_run(each(stored.inputs, positions), ports[1]),
        run.place_writes as f64 * rows_of_run(each(stored.outputs, run.place_writes as f64), ports[2]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TENSORCORE: Grid = Grid { lanes: 16, windows: 16, filters: 16, tiles: 1 };

    /// The case of docs/machines.md.
    #[test]
    fn a_layer_worked_by_hand() {
        let shape = Shape {
            input: [5, 5, 20],
            filter: [3, 3],
            filters: 24,
            stride: [1, 1],
            padding: [1; 4],
            dilation: [1, 1],
            groups: 1,
        };
        let run = run(&shape, TENSORCORE);
        assert_eq!(run, Run { cycles: 72, position_reads: 338, filter_reads: 48, place_writes: 25 });
        // Positions of 20 x 4 bits and rows of 128: 1 + 79/128 rows each.
        let stored = Stored { weights: 24 * 720, inputs: 25 * 80, outputs: 25 * 96 };
        let rows = row_accesses(&shape, &run, &stored, [128; 3]);
        assert_eq!(rows, [48.0 * (1.0 + 719.0 / 128.0), 338.0 * (1.0 + 79.0 / 128.0), 25.0 * (1.0 + 95.0 / 128.0)]);
        assert_eq!((rows_of_run(0.0, 128), rows_of_run(1.0, 128), rows_of_run(129.0, 128)), (0.0, 1.0, 2.0));
    }

    proptest! {
        #[test]
        fn the_closed_form_is_the_literal_simulation(
            input in prop::array::uniform2(1_usize..9),
            (groups, channels, filters) in (1_usize..4, 1_usize..20, 1_usize..20),
            filter in prop::array::uniform2(1_usize..4),
            stride in prop::array::uniform2(1_usize..3),
            dilation in prop::array::uniform2(1_usize..3),
            padding in prop::array::uniform4(0_usize..3),
            grid in prop::array::uniform4(1_usize..7),
        ) {
            let shape = Shape {
                input: [input[0], input[1], channels * groups],
                filter,
                filters: filters * groups,
                stride,
                padding,
                dilation,
                groups,
            };
            let grid = Grid { lanes: grid[0], windows: grid[1], filters: grid[2], tiles: grid[3] };
            prop_assert_eq!(run(&shape, grid), literal(&shape, grid));
        }
    }
}
