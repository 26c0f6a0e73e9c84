//! A systolic array: multipliers in rows and columns, operands that move one place a cycle.
//!
//! A layer is a product of M places by N filters over sums of K values. It is cut into folds that fit the array; a fold runs through before
//! the next one starts, and takes the whole array's fill and drain even where it uses a part of it:
//!
//! | dataflow | rows, columns, steps | cycles of a fold |
//! | --- | --- | --- |
//! | output stationary | M, N, K | steps + rows + columns - 2 |
//! | weight stationary | K, N, M | rows to load, then steps + rows + columns - 2 |
//! | input stationary | K, M, N | rows to load, then steps + rows + columns - 2 |
//!
//! (rows and columns of the array.) These are the folds of SCALE-Sim 3 (Raj et al., ISPASS 2025; Samajdar et al., ISPASS 2020) without the
//! quirks that [`super::scalesim`] repeats: sizes of outputs count padding and are cut, not rounded up; every group of a convolution is a
//! product of its own; a run of n cycles has n cycles, not the index of the last one; sums that wait in memory for a further fold are
//! read again.

use crate::pack::Shape;

/// Which operand stays in the array during a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Dataflow {
    /// Sums stay, weights and inputs move.
    Output,
    /// Weights stay, inputs and sums move (TPU).
    Weight,
    /// Inputs stay, weights and sums move.
    Input,
}

impl Dataflow {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Output, Self::Weight, Self::Input];

    /// As SCALE-Sim writes it: `os`, `ws`, `is`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Output => "os",
            Self::Weight => "ws",
            Self::Input => "is",
        }
    }

    /// The dataflow of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dataflow| dataflow.name() == name)
    }
}

/// The multipliers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Array {
    /// From top to bottom.
    pub rows: usize,
    /// From left to right.
    pub columns: usize,
}

/// What a layer costs on the array alone: memory always answers in time. Counts are of values, for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Run {
    /// From the first value that enters to the last result that leaves.
    pub cycles: u64,
    /// Weights and inputs read from on-chip memory; zeros of the padding are not read.
    pub reads: [u64; 2],
    /// Results written to on-chip memory, unfinished sums included.
    pub writes: u64,
    /// Unfinished sums read again.
    pub partial_reads: u64,
    /// Products (those with padding counted) over multipliers times cycles.
    pub utilisation: f64,
    /// Passes through the array.
    pub folds: u64,
}

/// Runs a layer through an array. Counts beyond 64 bits stay at the largest number; a layer without outputs costs nothing.
pub fn run(shape: &Shape, array: Array, dataflow: Dataflow) -> Run {
    let groups = shape.groups.max(1) as u64;
    let (rows, columns) = (array.rows.max(1) as u64, array.columns.max(1) as u64);
    let [height, width, filters] = shape.output().map(|n| n as u64);
    let (places, filters) = (product(&[height, width]), filters / groups);
    let channels = shape.input[2] as u64 / groups;
    let depth = product(&[shape.filter[0] as u64, shape.filter[1] as u64, channels]);
    if places == 0 || filters == 0 || depth == 0 {
        return Run::default();
    }
    let (down, across, steps) = match dataflow {
        Dataflow::Output => (places, filters, depth),
        Dataflow::Weight => (depth, filters, places),
        Dataflow::Input => (depth, places, filters),
    };
    let (down, across) = (down.div_ceil(rows), across.div_ceil(columns));
    let load = if dataflow == Dataflow::Output { 0 } else { rows };
    let fold = steps.saturating_add(rows + columns - 2).saturating_add(load);
    let weights = product(&[groups, filters, depth]);
    let inputs = product(&[groups, shape.taps_inside(0), shape.taps_inside(1), channels]);
    let outputs = product(&[groups, places, filters]);
    let (weights, inputs, sums) = match dataflow {
        Dataflow::Output => (weights.saturating_mul(down), inputs.saturating_mul(across), 1),
        Dataflow::Weight => (weights, inputs.saturating_mul(across), down),
        Dataflow::Input => (weights.saturating_mul(across), inputs, down),
    };
    let folds = product(&[groups, down, across]);
    let cycles = folds.saturating_mul(fold);
    let products = groups as f64 * places as f64 * filters as f64 * depth as f64;
    Run {
        cycles,
        reads: [weights, inputs],
        writes: outputs.saturating_mul(sums),
        partial_reads: outputs.saturating_mul(sums - 1),
        utilisation: products / (rows as f64 * columns as f64 * cycles as f64),
        folds,
    }
}

/// Saturates.
fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONV: Shape = Shape {
        input: [14, 14, 16],
        filter: [3, 3],
        filters: 24,
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
    };

    #[test]
    fn a_worked_case() {
        // 144 places, 24 filters, sums of 144: 9 by 2 folds of 144 + 30 cycles (output stationary).
        let array = Array { rows: 16, columns: 16 };
        let output = run(&CONV, array, Dataflow::Output);
        assert_eq!((output.folds, output.cycles), (18, 18 * 174));
        assert_eq!((output.reads, output.writes), ([24 * 144 * 9, 144 * 144 * 2], 144 * 24));
        let weight = run(&CONV, array, Dataflow::Weight);
        assert_eq!((weight.folds, weight.cycles), (18, 18 * 190));
        assert_eq!((weight.reads, weight.writes), ([24 * 144, 144 * 144 * 2], 144 * 24 * 9));
        assert_eq!(weight.partial_reads, 144 * 24 * 8);
        let input = run(&CONV, array, Dataflow::Input);
        assert_eq!((input.folds, input.cycles), (81, 81 * 70));
        assert_eq!((input.reads, input.writes), ([24 * 144 * 9, 144 * 144], 144 * 24 * 9));
        assert!((output.utilisation - 144.0 * 24.0 * 144.0 / (256.0 * 18.0 * 174.0)).abs() < 1e-12);
    }

    #[test]
    fn padding_is_computed_but_not_read() {
        let array = Array { rows: 8, columns: 8 };
        let padded = Shape { input: [3, 3, 1], filters: 8, padding: [1; 4], ..CONV };
        let run = run(&padded, array, Dataflow::Weight);
        // 9 places of 9 taps; the corners see 4 values, the edges 6, the middle 9.
        assert_eq!(run.reads, [72, (4 * 4 + 4 * 6 + 9)]);
        assert_eq!(run.writes, 9 * 8 * 2);
    }

    #[test]
    fn groups_are_products_of_their_own() {
        let array = Array { rows: 16, columns: 16 };
        let depthwise = Shape { filters: 16, groups: 16, padding: [1; 4], ..CONV };
        let one = Shape { input: [14, 14, 1], filters: 1, groups: 1, ..depthwise };
        for dataflow in Dataflow::ALL {
            let (all, one) = (run(&depthwise, array, dataflow), run(&one, array, dataflow));
            assert_eq!((all.cycles, all.folds, all.writes), (one.cycles * 16, one.folds * 16, one.writes * 16));
            assert_eq!(all.reads, one.reads.map(|reads| reads * 16));
            assert!((all.utilisation - one.utilisation).abs() < 1e-12);
        }
    }

    #[test]
    fn absurd_shapes_neither_panic_nor_divide_by_zero() {
        let array = Array { rows: 0, columns: usize::MAX >> 8 };
        let huge = Shape::dense(usize::MAX >> 8, usize::MAX >> 8, usize::MAX >> 8);
        for dataflow in Dataflow::ALL {
            assert_eq!(run(&Shape { filter: [15, 1], ..CONV }, array, dataflow), Run::default());
            assert!(run(&huge, array, dataflow).cycles > 1 << 54);
        }
    }
}
