//! `reduce` and `transpose`.

use wavehull::gpu::{Command, Grid, Kernel, Params, Recording};
use wavehull::ops::reduce::{self, Reduction};
use wavehull::ops::transpose;
use wavehull::{Gpu, Tensor};

use crate::common::{self, Random, U, Words, broken};
use crate::on_both;

fn reduce_oracle(op: Reduction, row: &[f32]) -> (f64, f64) {
    let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    let size: f64 = row.iter().map(|x| x.abs()).sum();
    // A lane adds ceil(n / 64) terms, a tree of 6 levels the lanes (header of reduce.wgsl).
    let tolerance = 1.001 * (row.len().div_ceil(64) + 6) as f64 * U * size;
    match op {
        Reduction::Sum => (row.iter().sum(), tolerance),
        Reduction::AbsSum => (size, tolerance),
        Reduction::Max => (row.iter().copied().fold(f64::MIN, f64::max), 0.0),
        Reduction::Min => (row.iter().copied().fold(f64::MAX, f64::min), 0.0),
    }
}

fn reduction(gpu: &Gpu, op: Reduction, rows: usize, n: usize) -> (Recording, Tensor, Vec<(f64, f64)>) {
    let xs = Random::new((rows * 1000 + n) as u64).floats(rows * n);
    let (x, out) = (common::tensor(gpu, &[rows, n], &xs), common::poisoned(gpu, &[rows]));
    let mut recording = Recording::new();
    reduce::record(&mut recording, gpu.caps(), op, &x, &out).unwrap();
    let oracle = (0..rows).map(|r| reduce_oracle(op, &xs[r * n..(r + 1) * n])).collect();
    (recording, out, oracle)
}

/// The sums in the order that the header states, in f32 with rounding to nearest, as this software device does it.
fn in_order(op: Reduction, rows: usize, n: usize) -> Vec<f32> {
    let xs = Random::new((rows * 1000 + n) as u64).floats(rows * n);
    let sum = |row: &[f32]| {
        let mut partial = [0.0_f32; 64];
        for (j, &x) in row.iter().enumerate() {
            partial[j % 64] += if op == Reduction::AbsSum { x.abs() } else { x };
        }
        for half in [32, 16, 8, 4, 2, 1] {
            for t in 0..half {
                partial[t] += partial[t + half];
            }
        }
        partial[0]
    };
    (0..rows).map(|r| sum(&xs[r * n..(r + 1) * n])).collect()
}

/// The same reductions with all partial results in registers, or shared by 16 invocations.
fn in_form(recording: &Recording, rowwise: bool) -> Recording {
    let mut changed = Recording::new();
    for command in recording.commands() {
        let Command::Dispatch(d) = command else { panic!("only dispatches") };
        let mut kernel = Kernel { params: Words::LAYOUT, ..d.kernel.clone() };
        kernel.defines.retain(|(key, _)| *key != "ROWWISE");
        kernel = kernel.flag("ROWWISE", rowwise);
        let mut params = [0; 64];
        bytemuck::cast_slice_mut::<u32, u8>(&mut params)[..d.params.len()].copy_from_slice(&d.params);
        // Word 6 is the number of rows.
        let grid = Grid::Direct([params[6].div_ceil(if rowwise { 64 } else { 4 }), 1, 1]);
        changed.dispatch(&kernel, d.bindings.clone(), &Words(params), grid, d.work).unwrap();
    }
    changed
}

#[test]
fn reductions_agree_with_f64() {
    on_both("reductions_agree_with_f64", |gpu| {
        for op in Reduction::ALL {
            for (rows, n) in [(1, 1), (3, 2), (70, 63), (2, 64), (5, 65), (3, 130), (2, 1000), (9, 201)] {
                let (recording, out, oracle) = reduction(gpu, op, rows, n);
                let forms = [false, true].map(|rowwise| {
                    let got = common::run(gpu, &in_form(&recording, rowwise), &out, false);
                    common::compare(&got, &oracle).unwrap_or_else(|why| panic!("{op:?} of {rows} x {n}: {why}"));
                    got.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
                });
                assert!(forms[0] == forms[1], "{op:?} of {rows} x {n}: two forms, different bits");
                if matches!(op, Reduction::Sum | Reduction::AbsSum) && gpu.caps().is_software() {
                    let bits: Vec<u32> = in_order(op, rows, n).iter().map(|v| v.to_bits()).collect();
                    assert!(forms[0] == bits, "{op:?} of {rows} x {n}: not the order that the header states");
                }
            }
        }
    });
}

#[test]
fn a_row_reduces_to_the_same_bits_alone_and_among_others() {
    let Some(gpu) = common::device("a_row_reduces_to_the_same_bits_alone_and_among_others", false) else { return };
    let xs = Random::new(9).floats(5 * 333);
    let sum = |rows: std::ops::Range<usize>| {
        let x = common::tensor(gpu, &[rows.len(), 333], &xs[rows.start * 333..rows.end * 333]);
        let out = common::poisoned(gpu, &[rows.len()]);
        let mut recording = Recording::new();
        reduce::record(&mut recording, gpu.caps(), Reduction::Sum, &x, &out).unwrap();
        common::run(gpu, &recording, &out, false).iter().map(|v: &f32| v.to_bits()).collect::<Vec<_>>()
    };
    let all = sum(0..5);
    for row in 0..5 {
        assert_eq!(sum(row..row + 1), all[row..=row], "row {row}");
    }
}

#[test]
fn the_sum_of_nothing_is_zero_and_its_largest_is_refused() {
    let Some(gpu) = common::device("the_sum_of_nothing_is_zero_and_its_largest_is_refused", false) else { return };
    let (recording, out, _) = reduction(gpu, Reduction::Sum, 3, 0);
    assert_eq!(common::run(gpu, &recording, &out, false), [0.0; 3]);
    let (x, out) = (Tensor::uninit(gpu, &[3, 0]).unwrap(), Tensor::uninit(gpu, &[3]).unwrap());
    let largest = reduce::record(&mut Recording::new(), gpu.caps(), Reduction::Max, &x, &out);
    assert_eq!(largest.unwrap_err().kind(), wavehull::ErrorKind::Internal);
}

#[test]
fn broken_reductions_are_noticed() {
    let Some(gpu) = common::device("broken_reductions_are_noticed", false) else { return };
    for (op, from, to) in [
        (Reduction::Sum, "#unroll level 0 4", "#unroll level 0 3"),
        (Reduction::Sum, "combine(s_1, s_3)", "s_1"),
        (Reduction::AbsSum, "q += 16u", "q += 17u"),
        (Reduction::Max, "return max(s, v);", "return v;"),
        (Reduction::Min, "return min(s, v);", "return s;"),
        (Reduction::Sum, "row * p.stride", "row * p.n"),
        (Reduction::Sum, "vec4<u32>(p.n);", "vec4<u32>(p.n - 1u);"),
        (Reduction::AbsSum, "combine(two, two.yyyy)", "combine(two, two.xxxx)"),
    ] {
        // A line of the other form goes unseen.
        let red = [false, true].into_iter().any(|rowwise| {
            let (recording, out, oracle) = reduction(gpu, op, 3, 134);
            let recording = in_form(&recording, rowwise);
            let raw = common::run_raw(gpu, &broken(&recording, "reduce", from, to), &out);
            let got: Vec<f32> = raw[..3].iter().map(|&word| f32::from_bits(word)).collect();
            common::compare(&got, &oracle).is_err()
        });
        assert!(red, "'{to}' went unseen in {op:?}");
    }
}

fn transposition(gpu: &Gpu, [batch, m, n]: [usize; 3]) -> (Recording, Tensor<u32>, Vec<u32>) {
    let mut random = Random::new((m * n) as u64);
    let xs: Vec<u32> = (0..batch * m * n).map(|_| (random.bits() >> 20) as u32).collect();
    let (x, out) = (common::tensor(gpu, &[batch, m, n], &xs), common::poisoned(gpu, &[batch, n, m]));
    let mut recording = Recording::new();
    transpose::record(&mut recording, &x, &out).unwrap();
    let at = |i: usize| (i / (m * n) * m + i % m) * n + i % (m * n) / m;
    (recording, out, (0..batch * m * n).map(|i| xs[at(i)]).collect())
}

#[test]
fn transposed_words_keep_their_bits() {
    on_both("transposed_words_keep_their_bits", |gpu| {
        for shape in [[1, 1, 1], [1, 3, 33], [2, 32, 32], [3, 65, 34], [2, 5, 130]] {
            let (recording, out, expected) = transposition(gpu, shape);
            assert!(common::run(gpu, &recording, &out, false) == expected, "{shape:?}");
        }
        let xs: Vec<f32> = Random::new(1).floats(12);
        let (x, out) = (common::tensor(gpu, &[3, 4], &xs), common::poisoned(gpu, &[4, 3]));
        let mut recording = Recording::new();
        transpose::record(&mut recording, &x, &out).unwrap();
        let got: Vec<f32> = common::run(gpu, &recording, &out, false);
        assert_eq!(got, (0..12).map(|i| xs[i % 3 * 4 + i / 3]).collect::<Vec<_>>());
    });
}

#[test]
fn broken_transposes_are_noticed() {
    let Some(gpu) = common::device("broken_transposes_are_noticed", false) else { return };
    for (from, to) in [
        ("at.z * p.stride_x", "0u"),
        ("min(i0 + ${i}u, p.m - 1u)", "min(i0 + ${i}u, p.m - 2u)"),
        ("select(out[to], turned, inside)", "out[to]"),
    ] {
        let (recording, out, expected) = transposition(gpu, [3, 65, 34]);
        let raw = common::run_raw(gpu, &broken(&recording, "transpose", from, to), &out);
        let got: Vec<u32> = common::places(&out).into_iter().map(|i| raw[i]).collect();
        assert!(got != expected, "'{to}' went unseen");
    }
}
