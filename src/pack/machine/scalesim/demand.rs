//! Which addresses a cycle asks for.
//!
//! An address is a sum of two terms: of a lane of the array (a row or a column), and of a step in time. A map is laid out as large as filters
//! reach, which sizes rounded up may put behind its end; addresses behind it are *holes*, which nobody asks for.

use super::reads::Lookup;
use crate::pack::machine::systolic::{Array, Dataflow};

/// A layer in the original's terms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Height, width, channels.
    pub map: [usize; 3],
    pub filter: [usize; 2],
    pub filters: usize,
    pub stride: [usize; 2],
}

impl Geometry {
    /// Height and width of the result. Quirk: rounded up.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.map[axis] - self.filter[axis]).div_ceil(self.stride[axis]) + 1)
    }

    /// Places, filters, and values of a sum.
    pub fn product(&self) -> [u64; 3] {
        let [height, width] = self.output();
        let depth = [self.filter[0], self.filter[1], self.map[2]];
        let of = |factors: &[usize]| factors.iter().fold(1_u64, |n, &f| n.saturating_mul(f as u64));
        [of(&[height, width]), self.filters as u64, of(&depth)]
    }

    /// The map and what filters reach behind it.
    pub fn reach(&self) -> [usize; 3] {
        let output = self.output();
        let reach = |axis: usize| {
            ((output[axis] - 1).saturating_mul(self.stride[axis]).saturating_add(self.filter[axis])).max(self.map[axis])
        };
        [reach(0), reach(1), self.map[2]]
    }

    /// Values of the map under any window, if none reaches behind it.
    fn touched(&self) -> usize {
        let along = |axis: usize| {
            // Windows overlap, or there are gaps between them.
            (self.output()[axis] - 1) * self.stride[axis].min(self.filter[axis]) + self.filter[axis]
        };
        along(0) * along(1) * self.map[2]
    }
}

/// An operand: addresses are `lanes[i] + steps[j]`.
#[derive(Debug)]
pub(super) struct Operand {
    pub lanes: Vec<u32>,
    pub steps: Vec<u32>,
    /// Lanes of a fold.
    pub width: usize,
    /// Whether it moves through the array, every lane a cycle behind the one before.
    pub moves: bool,
    /// For each address, whether it lies behind the map; empty if none does.
    pub holes: Vec<bool>,
    /// Number of addresses.
    pub size: usize,
    /// Addresses that are asked for, if no lane ever asks for a hole.
    pub wanted: Option<usize>,
}

impl Operand {
    pub fn is_hole(&self, address: u32) -> bool {
        self.holes.get(address as usize).copied().unwrap_or(false)
    }
}

/// How a layer goes through the array.
#[derive(Debug)]
pub(super) struct Plan {
    dataflow: Dataflow,
    array: Array,
    pub inputs: Operand,
    pub filters: Operand,
    /// Rows, columns and steps that the layer wants.
    pub wants: [usize; 3],
    /// Cycles of a fold.
    pub cycles: usize,
}

impl Plan {
    pub fn new(geometry: &Geometry, array: Array, dataflow: Dataflow) -> Self {
        let [places, filters, depth] = geometry.product().map(|n| n as usize);
        let (place_terms, tap_terms) = map_terms(geometry);
        let sums: Vec<u32> = (0..depth as u32).collect();
        let filter_terms: Vec<u32> = (0..filters as u32).map(|filter| filter * depth as u32).collect();
        let holes = holes(geometry);
        let (map_size, filter_size) = (geometry.reach().iter().product(), depth * filters);
        let wanted = holes.is_empty().then(|| geometry.touched());
        let map = |lanes, steps, width, moves| Operand { lanes, steps, width, moves, holes, size: map_size, wanted };
        let weights = |lanes, steps, width, moves| {
            let (size, holes) = (filter_size, Vec::new());
            Operand { lanes, steps, width, moves, holes, size, wanted: Some(size) }
        };
        let Array { rows, columns } = array;
        let (inputs, filters_operand, wants) = match dataflow {
            Dataflow::Output => (
                map(place_terms, tap_terms, rows, true),
                weights(filter_terms, sums, columns, true),
                [places, filters, depth],
            ),
            Dataflow::Weight => (
                map(tap_terms, place_terms, rows, true),
                weights(filter_terms, sums, columns, false),
                [depth, filters, places],
            ),
            Dataflow::Input => (
                map(place_terms, tap_terms, columns, false),
                weights(sums, filter_terms, rows, true),
                [depth, places, filters],
            ),
        };
        let load = if dataflow == Dataflow::Output { 0 } else { rows };
        Self { dataflow, array, inputs, filters: filters_operand, wants, cycles: load + wants[2] + rows + columns - 2 }
    }

    /// Folds down the rows run fastest.
    pub fn folds(&self) -> impl Iterator<Item = Fold<'_>> {
        let (down, across) = (self.wants[0].div_ceil(self.array.rows), self.wants[1].div_ceil(self.array.columns));
        (0..across).flat_map(move |column| (0..down).map(move |row| self.fold(row, column)))
    }

    fn fold(&self, row: usize, column: usize) -> Fold<'_> {
        let Array { rows, columns } = self.array;
        let used = [rows.min(self.wants[0] - row * rows), columns.min(self.wants[1] - column * columns)];
        let prefix = if self.dataflow == Dataflow::Output { 0 } else { rows };
        let moving = |operand, along| Stream::moving(operand, along, prefix);
        let loading = |operand, along| Stream::loading(operand, along, row, rows);
        let (inputs, filters) = match self.dataflow {
            Dataflow::Output => (moving(&self.inputs, row), moving(&self.filters, column)),
            Dataflow::Weight => (moving(&self.inputs, row), loading(&self.filters, column)),
            Dataflow::Input => (loading(&self.inputs, column), moving(&self.filters, row)),
        };
        // Results of a column leave one after the other, each column a cycle behind the one before. Output stationary: those of the used
        // rows from the bottom up, behind the time that the unused rows below them would have taken.
        let (lag, results) = match self.dataflow {
            Dataflow::Output => (self.wants[2] - 1 + rows - used[0], used[0]),
            Dataflow::Weight | Dataflow::Input => (2 * rows - 1, self.wants[2]),
        };
        Fold { inputs, filters, used, lag, results }
    }

    /// Writes of a fold. Quirk: output stationary counts the rows and columns of the array besides.
    pub fn writes_of(&self, used: [usize; 2]) -> u64 {
        let [rows, columns] = used.map(|n| n as u64);
        match self.dataflow {
            Dataflow::Output => rows * columns + (self.array.rows + self.array.columns) as u64,
            Dataflow::Weight | Dataflow::Input => self.wants[2] as u64 * columns,
        }
    }

    /// Cycles over which the utilisation of a fold is taken. Quirk: operands that load first count the columns once more.
    pub fn cycles_of_utilisation(&self) -> usize {
        match self.dataflow {
            Dataflow::Output => self.cycles,
            Dataflow::Weight | Dataflow::Input => self.cycles + self.array.columns - 1,
        }
    }
}

/// One pass through the array.
#[derive(Debug)]
pub(super) struct Fold<'a> {
    pub inputs: Stream<'a>,
    pub filters: Stream<'a>,
    /// Rows and columns with work.
    pub used: [usize; 2],
    lag: usize,
    results: usize,
}

impl Fold<'_> {
    /// Results written in a cycle of the fold: columns `c` with `lag <= step - c < lag + results`.
    pub fn writes(&self, step: usize) -> u64 {
        let end = (step + 1).saturating_sub(self.lag).min(self.used[1]);
        let first = (step + 1).saturating_sub(self.lag + self.results);
        end.saturating_sub(first) as u64
    }
}

/// What an operand is asked for during a fold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream<'a> {
    lanes: &'a [u32],
    steps: &'a [u32],
    timing: Timing,
}

#[derive(Debug, Clone, Copy)]
enum Timing {
    /// Lane `i` asks for step `j` in cycle `prefix + i + j`.
    Moves { prefix: usize },
    /// All lanes ask for one step a cycle, the last of so many rows first.
    Loads { rows: usize },
}

impl<'a> Stream<'a> {
    fn moving(operand: &'a Operand, along: usize, prefix: usize) -> Self {
        Self {
            lanes: part(&operand.lanes, along, operand.width),
            steps: &operand.steps,
            timing: Timing::Moves { prefix },
        }
    }

    fn loading(operand: &'a Operand, along: usize, down: usize, rows: usize) -> Self {
        let (lanes, steps) = (part(&operand.lanes, along, operand.width), part(&operand.steps, down, rows));
        Self { lanes, steps, timing: Timing::Loads { rows } }
    }

    /// Values asked for, holes included: so the original counts.
    pub fn reads(&self) -> u64 {
        (self.lanes.len() * self.steps.len()) as u64
    }

    /// Whether a cycle of the fold asks for anything, holes included.
    fn asks(&self, step: usize) -> bool {
        match self.timing {
            Timing::Moves { prefix } => (prefix..prefix + self.lanes.len() + self.steps.len() - 1).contains(&step),
            Timing::Loads { rows } => rows.checked_sub(step + 1).is_some_and(|row| row < self.steps.len()),
        }
    }

    /// Asks a buffer for what a cycle of the fold wants; how much later than a hit that was served, and whether anything was wanted.
    pub fn serve<L: Lookup>(&self, step: usize, cycle: i64, buffer: &mut L) -> (i64, bool) {
        if buffer.is_settled() {
            return (0, self.asks(step));
        }
        match self.timing {
            Timing::Moves { prefix } => {
                let Some(newest) = step.checked_sub(prefix) else { return (0, false) };
                let first = (newest + 1).saturating_sub(self.steps.len());
                let end = self.lanes.len().min(newest + 1);
                if first >= end {
                    return (0, false);
                }
                let steps = self.steps[newest + 1 - end..=newest - first].iter().rev();
                buffer.serve(cycle, self.lanes[first..end].iter().zip(steps).map(|(&lane, &step)| lane + step))
            }
            Timing::Loads { rows } => {
                let Some(&row) = rows.checked_sub(step + 1).and_then(|row| self.steps.get(row)) else {
                    return (0, false);
                };
                buffer.serve(cycle, self.lanes.iter().map(|&lane| lane + row))
            }
        }
    }
}

/// The part of a list that a fold takes.
fn part(terms: &[u32], fold: usize, width: usize) -> &[u32] {
    &terms[fold * width..((fold + 1) * width).min(terms.len())]
}

/// Addresses of the first value of every window, and of the values of a window against its first.
fn map_terms(geometry: &Geometry) -> (Vec<u32>, Vec<u32>) {
    let [height, width] = geometry.output();
    let [_, pitch, channels] = geometry.reach();
    let at = |y: usize, x: usize| ((y * pitch + x) * channels) as u32;
    let places =
        (0..height).flat_map(|y| (0..width).map(move |x| at(y * geometry.stride[0], x * geometry.stride[1]))).collect();
    let taps = (0..geometry.filter[0])
        .flat_map(|y| {
            (0..geometry.filter[1]).flat_map(move |x| (0..channels as u32).map(move |channel| at(y, x) + channel))
        })
        .collect();
    (places, taps)
}

fn holes(geometry: &Geometry) -> Vec<bool> {
    let [height, width, channels] = geometry.reach();
    if [height, width] == [geometry.map[0], geometry.map[1]] {
        return Vec::new();
    }
    (0..height)
        .flat_map(|y| (0..width).map(move |x| y >= geometry.map[0] || x >= geometry.map[1]))
        .flat_map(|hole| std::iter::repeat_n(hole, channels))
        .collect()
}
