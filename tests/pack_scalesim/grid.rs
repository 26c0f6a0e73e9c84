//! A systolic array taken literally: a grid of multipliers with registers, stepped cycle by cycle on real values. It knows no formula: what
//! it computes must be the convolution, and its clock and its accesses must be what the formulas say.

use super::{Array, Dataflow, Shape, run};
use proptest::prelude::*;
use wavehull::pack::machine::systolic::Run;

/// A matrix of values that memory holds; `None` is padding, or a lane without work: a zero that nobody reads.
type Matrix = Vec<Vec<Option<i64>>>;
/// A value on its way, with the number of the step that it belongs to.
type Register = Option<(usize, i64)>;

#[derive(Default)]
struct Grid {
    clock: u64,
    folds: u64,
    writes: u64,
    partial_reads: u64,
}

fn at(matrix: &Matrix, row: usize, column: usize, reads: &mut u64) -> i64 {
    let value = matrix.get(row).and_then(|row| row.get(column).copied().flatten());
    *reads += u64::from(value.is_some());
    value.unwrap_or(0)
}

impl Grid {
    /// Sums stay: `left[place][tap]` enters from the left, `top[filter][tap]` from above, each lane a cycle behind the one before.
    fn sums_stay(&mut self, left: &Matrix, top: &Matrix, array: Array, reads: [&mut u64; 2]) -> Vec<Vec<i64>> {
        let [left_reads, top_reads] = reads;
        let depth = left[0].len();
        let mut result = vec![vec![0; top.len()]; left.len()];
        for (first_row, first_column) in folds(left.len(), top.len(), array) {
            let mut right: Vec<Vec<Register>> = vec![vec![None; array.columns]; array.rows];
            let mut down = right.clone();
            let mut sums = vec![vec![(0, 0); array.columns]; array.rows];
            let mut finished = 0;
            for time in 0.. {
                for r in (0..array.rows).rev() {
                    for c in (0..array.columns).rev() {
                        let tap = |lane: usize| (lane..lane + depth).contains(&time).then(|| time - lane);
                        right[r][c] = match c {
                            0 => tap(r).map(|tap| (tap, at(left, first_row + r, tap, left_reads))),
                            _ => right[r][c - 1],
                        };
                        down[r][c] = match r {
                            0 => tap(c).map(|tap| (tap, at(top, first_column + c, tap, top_reads))),
                            _ => down[r - 1][c],
                        };
                        let (Some((tap, a)), Some((other, b))) = (right[r][c], down[r][c]) else { continue };
                        assert_eq!(tap, other, "operands meet in step");
                        sums[r][c].0 += a * b;
                        sums[r][c].1 += 1;
                        if sums[r][c].1 == depth {
                            finished += 1;
                            if let Some(cell) =
                                result.get_mut(first_row + r).and_then(|row| row.get_mut(first_column + c))
                            {
                                *cell = sums[r][c].0;
                                self.writes += 1;
                            }
                        }
                    }
                }
                self.clock += 1;
                if finished == array.rows * array.columns {
                    break;
                }
            }
            self.folds += 1;
        }
        result
    }

    /// `still[tap][column]` is loaded from above, a row a cycle; `left[step][tap]` enters from the left; sums go down.
    fn operand_stays(&mut self, left: &Matrix, still: &Matrix, array: Array, reads: [&mut u64; 2]) -> Vec<Vec<i64>> {
        let [left_reads, still_reads] = reads;
        let columns = still[0].len();
        let mut result = vec![vec![0; columns]; left.len()];
        for (first_tap, first_column) in folds(still.len(), columns, array) {
            let mut kept = vec![vec![0; array.columns]; array.rows];
            for time in 0..array.rows {
                kept.rotate_right(1);
                let tap = first_tap + array.rows - 1 - time;
                kept[0] = (0..array.columns).map(|c| at(still, tap, first_column + c, still_reads)).collect();
                self.clock += 1;
            }
            let mut right: Vec<Vec<Register>> = vec![vec![None; array.columns]; array.rows];
            let mut sums = right.clone();
            let mut left_over = left.len() * array.columns;
            for time in 0.. {
                // From the last multiplier to the first, so that each one sees what its neighbours held in the cycle before.
                for r in (0..array.rows).rev() {
                    for c in (0..array.columns).rev() {
                        right[r][c] = match c {
                            0 if (r..r + left.len()).contains(&time) => {
                                Some((time - r, at(left, time - r, first_tap + r, left_reads)))
                            }
                            0 => None,
                            _ => right[r][c - 1],
                        };
                        let above = if r == 0 { right[r][c].map(|(step, _)| (step, 0)) } else { sums[r - 1][c] };
                        sums[r][c] = match (right[r][c], above) {
                            (Some((step, value)), Some((other, sum))) => {
                                assert_eq!(step, other, "a sum meets its own operand");
                                Some((step, sum + value * kept[r][c]))
                            }
                            (None, None) => None,
                            _ => panic!("a sum without an operand"),
                        };
                    }
                }
                for (c, sum) in sums[array.rows - 1].iter().enumerate() {
                    let Some((step, sum)) = *sum else { continue };
                    left_over -= 1;
                    if let Some(cell) = result[step].get_mut(first_column + c) {
                        self.partial_reads += u64::from(first_tap > 0);
                        *cell += sum;
                        self.writes += 1;
                    }
                }
                self.clock += 1;
                if left_over == 0 {
                    break;
                }
            }
            self.folds += 1;
        }
        result
    }
}

/// Row and column of the first value of each fold.
fn folds(rows: usize, columns: usize, array: Array) -> Vec<(usize, usize)> {
    let down = (0..rows).step_by(array.rows);
    (0..columns).step_by(array.columns).flat_map(|c| down.clone().map(move |r| (r, c))).collect()
}

fn transposed(matrix: &Matrix) -> Matrix {
    (0..matrix[0].len()).map(|c| matrix.iter().map(|row| row[c]).collect()).collect()
}

/// Small numbers out of a seed and a place.
fn noise(seed: u64, place: usize) -> i64 {
    let mixed = (seed ^ place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as i64 - 128
}

/// Windows of a group as rows `[place][tap]`.
fn windows(shape: &Shape, group: usize, seed: u64) -> Matrix {
    let [height, width, _] = shape.output();
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    places.map(|(y, x)| taps(shape).map(|tap| value(shape, group, [y, x], tap, seed)).collect()).collect()
}

fn taps(shape: &Shape) -> impl Iterator<Item = [usize; 3]> {
    let [down, right] = shape.filter;
    let channels = shape.input[2] / shape.groups;
    (0..down).flat_map(move |y| (0..right).flat_map(move |x| (0..channels).map(move |c| [y, x, c])))
}

/// The value of the map under a tap.
fn value(shape: &Shape, group: usize, place: [usize; 2], tap: [usize; 3], seed: u64) -> Option<i64> {
    let [y, x] = [0, 1].map(|axis| {
        let padded = place[axis] * shape.stride[axis] + tap[axis] * shape.dilation[axis];
        padded.checked_sub(shape.padding[axis]).filter(|&at| at < shape.input[axis])
    });
    let channel = group * (shape.input[2] / shape.groups) + tap[2];
    Some(noise(seed, (y? * shape.input[1] + x?) * shape.input[2] + channel))
}

fn weight(shape: &Shape, filter: usize, tap: usize, seed: u64) -> i64 {
    noise(!seed, filter * shape.depth() + tap)
}

/// The whole layer on the grid: results of each group `[place][filter]`, and the counts.
fn literal(shape: &Shape, array: Array, dataflow: Dataflow, seed: u64) -> (Vec<Vec<Vec<i64>>>, Run) {
    let mut grid = Grid::default();
    let [mut weights, mut inputs] = [0, 0];
    let filters = shape.filters / shape.groups;
    let mut results = Vec::new();
    for group in 0..shape.groups {
        let windows = windows(shape, group, seed);
        let rows: Matrix = (0..filters)
            .map(|f| (0..shape.depth()).map(|tap| Some(weight(shape, group * filters + f, tap, seed))).collect())
            .collect();
        results.push(match dataflow {
            Dataflow::Output => grid.sums_stay(&windows, &rows, array, [&mut inputs, &mut weights]),
            Dataflow::Weight => grid.operand_stays(&windows, &transposed(&rows), array, [&mut inputs, &mut weights]),
            Dataflow::Input => {
                let result = grid.operand_stays(&rows, &transposed(&windows), array, [&mut weights, &mut inputs]);
                (0..windows.len()).map(|place| result.iter().map(|row| row[place]).collect()).collect()
            }
        });
    }
    let multipliers = (array.rows * array.columns) as f64;
    let run = Run {
        cycles: grid.clock,
        reads: [weights, inputs],
        writes: grid.writes,
        partial_reads: grid.partial_reads,
        utilisation: shape.macs() as f64 / (multipliers * grid.clock as f64),
        folds: grid.folds,
    };
    (results, run)
}

/// A result by the definition of a convolution.
fn convolved(shape: &Shape, group: usize, place: usize, filter: usize, seed: u64) -> i64 {
    let width = shape.output()[1];
    let at = [place / width, place % width];
    let filter = group * (shape.filters / shape.groups) + filter;
    taps(shape)
        .enumerate()
        .map(|(i, tap)| value(shape, group, at, tap, seed).unwrap_or(0) * weight(shape, filter, i, seed))
        .sum()
}

fn shapes() -> impl Strategy<Value = Shape> {
    let sizes = ([1_usize..8, 1_usize..8], [1_usize..4, 1_usize..4], 1_usize..4, 1_usize..6, 1_usize..4);
    let steps = ([1_usize..4, 1_usize..4], [0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3], [1_usize..3, 1_usize..3]);
    (sizes, steps)
        .prop_map(|((map, filter, channels, filters, groups), (stride, padding, dilation))| Shape {
            input: [map[0], map[1], channels * groups],
            filter,
            filters: filters * groups,
            stride,
            padding,
            dilation,
            groups,
        })
        .prop_filter("a result", |shape| shape.places() > 0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn formulas_count_what_a_grid_of_registers_does(
        shape in shapes(), rows in 1_usize..8, columns in 1_usize..8, which in 0_usize..3, seed: u64
    ) {
        let (array, dataflow) = (Array { rows, columns }, Dataflow::ALL[which]);
        let (results, counted) = literal(&shape, array, dataflow, seed);
        let formulas = run(&shape, array, dataflow);
        prop_assert_eq!(Run { utilisation: 0.0, ..counted }, Run { utilisation: 0.0, ..formulas });
        prop_assert!((counted.utilisation - formulas.utilisation).abs() < 1e-12);
        for (group, result) in results.iter().enumerate() {
            for (place, row) in result.iter().enumerate() {
                for (filter, &sum) in row.iter().enumerate() {
                    prop_assert_eq!(sum, convolved(&shape, group, place, filter, seed));
                }
            }
        }
    }
}
