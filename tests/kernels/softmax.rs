//! `softmax`: rows, log-sum-exp, both at once.

use wavehull::gpu::Recording;
use wavehull::ops::softmax;
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::on_both;

/// Value and tolerance of every element.
type Expected = Vec<(f64, f64)>;

/// Softmax and log-sum-exp of a row with their tolerances, after the header of softmax.wgsl.
fn oracle(row: &[f32]) -> (Expected, (f64, f64)) {
    let x: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
    let largest = x.iter().copied().fold(f64::MIN, f64::max);
    // Relative error of exp(x - largest): its own, and what the rounding of the difference does to it.
    let error = |x: f64| (3.0 + 3.0 * (x - largest).abs()) * U;
    let sum: f64 = x.iter().map(|x| (x - largest).exp()).sum();
    let moved: f64 = x.iter().map(|&x| (x - largest).exp() * error(x)).sum::<f64>() / sum;
    let of_sum = moved + (row.len().div_ceil(64) + 6) as f64 * U;
    let softmax = |&x: &f64| {
        let value = (x - largest).exp() / sum;
        (value, 1.01 * value * (error(x) + of_sum + 2.5 * U) + 2.0_f64.powi(-126))
    };
    let lse = largest + sum.ln();
    // WGSL's log is off by 2^-21 near 1 and by 3 ulp elsewhere.
    let log = 2.0_f64.powi(-21).max(3.0 * U * sum.ln().abs());
    (x.iter().map(softmax).collect(), (lse, 1.01 * (of_sum + log + U * lse.abs())))
}

fn numbers(rows: usize, n: usize) -> Vec<f32> {
    let mut random = Random::new((rows * 31 + n) as u64);
    // Large numbers, whose exponentials overflow, and small ones.
    (0..rows * n).map(|i| random.unit() as f32 * if (i / n).is_multiple_of(2) { 3.0 } else { 300.0 }).collect()
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Softmax,
    Log,
    Both,
}

fn record(gpu: &Gpu, xs: &[f32], [rows, n]: [usize; 2], wanted: Wanted) -> (Recording, Tensor, Tensor) {
    let x = common::tensor(gpu, &[rows, n], xs);
    let (out, lse) = (common::poisoned(gpu, &[rows, n]), common::poisoned(gpu, &[rows]));
    let (of_out, of_lse) = match wanted {
        Wanted::Softmax => (Some(&out), None),
        Wanted::Log => (None, Some(&lse)),
        Wanted::Both => (Some(&out), Some(&lse)),
    };
    let mut recording = Recording::new();
    softmax::record(&mut recording, gpu.caps(), &x, of_out, of_lse).unwrap();
    (recording, out, lse)
}

fn expected(xs: &[f32], n: usize) -> (Expected, Expected) {
    let (rows, logs): (Vec<_>, Vec<_>) = xs.chunks(n).map(oracle).unzip();
    (rows.concat(), logs)
}

#[test]
fn rows_agree_with_f64() {
    on_both("rows_agree_with_f64", |gpu| {
        for (rows, n) in [(1, 1), (3, 2), (70, 10), (4, 63), (2, 64), (3, 65), (2, 1000)] {
            let xs = numbers(rows, n);
            let (softmax, logs) = expected(&xs, n);
            for wanted in [Wanted::Softmax, Wanted::Log, Wanted::Both] {
                let (recording, out, lse) = record(gpu, &xs, [rows, n], wanted);
                let forms = [true, false].map(|rowwise| {
                    let recording = in_form(&recording, rowwise);
                    let mut bits = Vec::new();
                    if !matches!(wanted, Wanted::Log) {
                        let got = common::run(gpu, &recording, &out, false);
                        common::compare(&got, &softmax).unwrap_or_else(|why| panic!("{rows} x {n}, {wanted:?}: {why}"));
                        bits.extend(got.iter().map(|v: &f32| v.to_bits()));
                    }
                    if !matches!(wanted, Wanted::Softmax) {
                        let got = common::run(gpu, &recording, &lse, false);
                        common::compare(&got, &logs)
                            .unwrap_or_else(|why| panic!("log, {rows} x {n}, {wanted:?}: {why}"));
                        bits.extend(got.iter().map(|v: &f32| v.to_bits()));
                    }
                    bits
                });
                assert!(forms[0] == forms[1], "{rows} x {n}, {wanted:?}: the forms differ");
            }
        }
    });
}

#[test]
fn rows_of_a_result_may_lie_further_apart_than_those_of_the_operand() {
    on_both("rows_of_a_result_may_lie_further_apart_than_those_of_the_operand", |gpu| {
        for [rows, n] in [[5, 7], [70, 66]] {
            let xs = numbers(rows, n);
            let (x, table) = (common::tensor(gpu, &[rows, n], &xs), common::poisoned(gpu, &[rows, 192]));
            let out = table.field(64, &[n]).expect("a field");
            let mut recording = Recording::new();
            softmax::record(&mut recording, gpu.caps(), &x, Some(&out), None).unwrap();
            for rowwise in [true, false] {
                let got = common::run(gpu, &in_form(&recording, rowwise), &out, false);
                common::compare(&got, &expected(&xs, n).0).unwrap_or_else(|why| panic!("{rows} x {n}: {why}"));
            }
        }
    });
}

/// The same recording with rows in one form of lib/rows.
fn in_form(recording: &Recording, rowwise: bool) -> Recording {
    common::changed(recording, |kernel, _| {
        kernel.defines.retain(|(key, _)| *key != "ROWWISE");
        *kernel = kernel.clone().flag("ROWWISE", rowwise);
    })
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    let Some(gpu) = common::device("a_row_has_the_same_bits_alone_and_in_a_batch", false) else { return };
    let xs = numbers(5, 130);
    let bits = |rows: std::ops::Range<usize>| {
        let part = &xs[rows.start * 130..rows.end * 130];
        let (recording, out, _) = record(gpu, part, [rows.len(), 130], Wanted::Softmax);
        common::run(gpu, &recording, &out, false).iter().map(|v: &f32| v.to_bits()).collect::<Vec<_>>()
    };
    let all = bits(0..5);
    for row in 0..5 {
        assert!(bits(row..row + 1) == all[row * 130..(row + 1) * 130], "row {row}");
    }
}

#[test]
fn more_rows_than_workgroups_are_covered() {
    let Some(gpu) = common::device("more_rows_than_workgroups_are_covered", false) else { return };
    let each = if gpu.caps().is_software() { 64 } else { 4 };
    let rows = gpu.caps().max_workgroups as usize * each + 3;
    let xs: Vec<f32> = (0..rows).map(|i| (i % 977) as f32).collect();
    let (recording, _, lse) = record(gpu, &xs, [rows, 1], Wanted::Log);
    let got: Vec<f32> = common::run(gpu, &recording, &lse, false);
    assert!(got.iter().zip(&xs).all(|(g, x)| (g - x).abs() <= 1e-3), "a row of one element is its own log-sum-exp");
}

#[test]
fn broken_softmax_is_noticed() {
    let Some(gpu) = common::device("broken_softmax_is_noticed", false) else { return };
    for (from, to) in [
        ("/ sum", "/ (sum * 1.0001)"),
        ("x[row.base + q] - row.largest,", "x[row.base + q],"),
        ("m = max(m, select(", "m = min(m, select("),
        ("q += SHARE", "q += SHARE + 1u"),
        ("row.largest + log(sum)", "log(sum)"),
    ] {
        let xs = numbers(3, 130);
        let (recording, out, lse) = record(gpu, &xs, [3, 130], Wanted::Both);
        let recording = broken(&recording, "softmax", from, to);
        let (softmax, logs) = expected(&xs, 130);
        let read = |tensor: &Tensor| -> Vec<f32> {
            let raw = common::run_raw(gpu, &recording, tensor);
            common::places(tensor).into_iter().map(|i| f32::from_bits(raw[i])).collect()
        };
        let seen = common::compare(&read(&out), &softmax).is_err() || common::compare(&read(&lse), &logs).is_err();
        assert!(seen, "'{to}' went unseen");
    }
}

#[test]
fn softmax_of_nothing_is_refused() {
    let Some(gpu) = common::device("softmax_of_nothing_is_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let try_it = |x: &[usize], out: Option<&Tensor>| {
        softmax::record(&mut Recording::new(), gpu.caps(), &t(x), out, None).map_err(|e| e.kind())
    };
    assert_eq!(try_it(&[2, 3], Some(&t(&[2, 3]))), Ok(()));
    assert_eq!(try_it(&[2, 3], Some(&t(&[3, 3]))), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[2, 3], None), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[2, 0], Some(&t(&[2, 0]))), Err(ErrorKind::Internal));
}

#[test]
fn a_causal_mask_has_the_bits_of_large_negative_numbers() {
    on_both("a_causal_mask_has_the_bits_of_large_negative_numbers", |gpu| {
        for n in [1, 5, 64, 67, 130] {
            let xs = numbers(2 * n, n);
            let x = common::tensor(gpu, &[2 * n, n], &xs);
            let out = common::poisoned(gpu, &[2 * n, n]);
            let mut causal = Recording::new();
            softmax::causal(&mut causal, gpu.caps(), &x, &out).unwrap();
            let got: Vec<f32> = common::run(gpu, &causal, &out, false);
            let masked_out = out;
            let masked: Vec<f32> =
                xs.iter().enumerate().map(|(i, &x)| if i % n <= i / n % n { x } else { -1e9 }).collect();
            let (recording, out, _) = record(gpu, &masked, [2 * n, n], Wanted::Softmax);
            let expected: Vec<f32> = common::run(gpu, &recording, &out, false);
            assert!(got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{n}");
            let other: Vec<f32> = common::run(gpu, &in_form(&causal, false), &masked_out, false);
            assert!(got.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()), "{n}: the forms differ");
            assert!(
                got.iter().enumerate().all(|(i, v)| i % n <= i / n % n || v.to_bits() == 0),
                "{n}: behind the mask"
            );
        }
    });
}

/// The gradient through rows of softmax with its tolerance: the sum of products has depth ceil(n / 64) + 7, then a difference and a product.
fn gradient_oracle(y: &[f32], g: &[f32], n: usize) -> Expected {
    let row = |(y, g): (&[f32], &[f32])| -> Expected {
        let terms = || y.iter().zip(g).map(|(&y, &g)| f64::from(y) * f64::from(g));
        let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
        let error = (n.div_ceil(64) + 7) as f64 * U * size;
        let of = |(&y, &g): (&f32, &f32)| {
            let (y, d) = (f64::from(y), f64::from(g) - sum);
            // Numbers below 2^-126 may be flushed to zero.
            (y * d, 1.01 * y.abs() * (error + 2.0 * U * d.abs()) + 2.0_f64.powi(-126) * (1.0 + d.abs()))
        };
        y.iter().zip(g).map(of).collect()
    };
    y.chunks(n).zip(g.chunks(n)).flat_map(row).collect()
}

fn record_gradient(gpu: &Gpu, y: &[f32], g: &[f32], [rows, n]: [usize; 2]) -> (Recording, Tensor) {
    let (y, g) = (common::tensor(gpu, &[rows, n], y), common::tensor(gpu, &[rows, n], g));
    let dx = common::poisoned(gpu, &[rows, n]);
    let mut recording = Recording::new();
    softmax::gradient(&mut recording, gpu.caps(), &y, &g, &dx).unwrap();
    (recording, dx)
}

/// Outputs of a softmax, and gradients with regard to them.
fn outputs(rows: usize, n: usize) -> (Vec<f32>, Vec<f32>) {
    let y = expected(&numbers(rows, n), n).0.iter().map(|v| v.0 as f32).collect();
    (y, Random::new(n as u64).floats(rows * n))
}

#[test]
fn gradients_through_softmax_agree_with_f64_in_both_forms() {
    on_both("gradients_through_softmax_agree_with_f64_in_both_forms", |gpu| {
        for (rows, n) in [(1, 1), (3, 2), (70, 10), (4, 63), (2, 64), (3, 65), (2, 1000)] {
            let (y, g) = outputs(rows, n);
            let (recording, dx) = record_gradient(gpu, &y, &g, [rows, n]);
            let forms = [true, false].map(|rowwise| {
                let recording = in_form(&recording, rowwise);
                let got: Vec<f32> = common::run(gpu, &recording, &dx, true);
                common::compare(&got, &gradient_oracle(&y, &g, n)).unwrap_or_else(|why| panic!("{rows} x {n}: {why}"));
                got.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            });
            assert!(forms[0] == forms[1], "{rows} x {n}: the forms differ");
        }
    });
}

#[test]
fn a_row_of_a_gradient_has_the_same_bits_beside_nan() {
    let Some(gpu) = common::device("a_row_of_a_gradient_has_the_same_bits_beside_nan", false) else { return };
    let n = 67;
    let (y, g) = outputs(1, n);
    let nan = vec![f32::NAN; n];
    let bits = |y: &[f32], g: &[f32], rows: usize, row: usize| {
        let (recording, dx) = record_gradient(gpu, y, g, [rows, n]);
        let got: Vec<f32> = common::run(gpu, &recording, &dx, true);
        got[row * n..(row + 1) * n].iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    let beside = |own: &[f32]| [&nan[..], own, &nan].concat();
    assert!(bits(&y, &g, 1, 0) == bits(&beside(&y), &beside(&g), 3, 1));
}

#[test]
fn the_oracle_of_the_gradient_is_a_gradient() {
    let x: Vec<f64> = [0.3, -1.0, 0.7, 0.1].to_vec();
    let g = [0.5_f32, -0.25, 1.0, 0.125];
    let softmax = |x: &[f64]| {
        let sum: f64 = x.iter().map(|v| v.exp()).sum();
        x.iter().map(|v| v.exp() / sum).collect::<Vec<_>>()
    };
    let weighed = |x: &[f64]| softmax(x).iter().zip(&g).map(|(y, &g)| y * f64::from(g)).sum();
    let y: Vec<f32> = softmax(&x).iter().map(|&v| v as f32).collect();
    let values: Vec<f64> = gradient_oracle(&y, &g, 4).iter().map(|v| v.0).collect();
    crate::members::is_gradient("dx", &values, &crate::members::differences(&x, &weighed));
}

#[test]
fn a_broken_gradient_through_softmax_is_noticed() {
    let Some(gpu) = common::device("a_broken_gradient_through_softmax_is_noticed", false) else { return };
    let (y, g) = outputs(70, 67);
    let (recording, dx) = record_gradient(gpu, &y, &g, [70, 67]);
    for (from, to) in [
        ("- sum)", "- sum * 1.001)"),
        ("y[row.of_y + q] * g[row.of_g + q];", "g[row.of_g + q];"),
        ("r * p.row_g", "r * p.row_g + 1u"),
    ] {
        let raw = common::run_raw(gpu, &broken(&recording, "softmax_gradient", from, to), &dx);
        let got: Vec<f32> = common::places(&dx).into_iter().map(|i| f32::from_bits(raw[i])).collect();
        assert!(common::compare(&got, &gradient_oracle(&y, &g, 67)).is_err(), "'{to}' went unseen");
    }
}
