//! `scan_sums`, `scan_blocks` and `scan_apply`.

use wavehull::gpu::Recording;
use wavehull::ops::scan::{self, Workspace};
use wavehull::tensor::Element;
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::on_both;

/// Lengths on both sides of a lane's piece, a block of 1024 and 256 blocks.
const SIZES: [[usize; 2]; 8] = [[1, 1], [3, 16], [2, 17], [2, 1023], [3, 1024], [2, 1025], [2, 5003], [1, 263_001]];

fn record<T: Element>(gpu: &Gpu, [rows, n]: [usize; 2], xs: &[T]) -> (Recording, Tensor<T>, Tensor<T>) {
    let (x, out) = (common::tensor(gpu, &[rows, n], xs), common::poisoned(gpu, &[rows, n]));
    let workspace = Workspace::new(gpu, rows, n).unwrap();
    let mut recording = Recording::new();
    scan::exclusive(&mut recording, gpu.caps(), &x, &workspace, &out).unwrap();
    (recording, out, workspace.total)
}

fn words(count: usize) -> Vec<u32> {
    let mut random = Random::new(count as u64);
    (0..count).map(|_| (random.bits() >> 20) as u32).collect()
}

/// Exclusive sums and totals of words, wrapping.
fn word_oracle(xs: &[u32], n: usize) -> (Vec<u32>, Vec<u32>) {
    let mut totals = Vec::new();
    let mut sums = Vec::new();
    for row in xs.chunks(n) {
        let mut sum = 0_u32;
        for &x in row {
            sums.push(sum);
            sum = sum.wrapping_add(x);
        }
        totals.push(sum);
    }
    (sums, totals)
}

#[test]
fn sums_of_words_are_exact() {
    on_both("sums_of_words_are_exact", |gpu| {
        for [rows, n] in SIZES {
            let xs = words(rows * n);
            let (sums, totals) = word_oracle(&xs, n);
            let (recording, out, total) = record(gpu, [rows, n], &xs);
            assert!(common::run(gpu, &recording, &out, false) == sums, "{rows} x {n}");
            assert_eq!(common::run_raw(gpu, &recording, &total)[..rows], totals, "{rows} x {n}");
        }
    });
}

#[test]
fn sums_of_floats_agree_with_f64() {
    on_both("sums_of_floats_agree_with_f64", |gpu| {
        for [rows, n] in SIZES {
            let xs = Random::new(n as u64).floats(rows * n);
            let mut oracle = Vec::new();
            for row in xs.chunks(n) {
                let (mut sum, mut size) = (0.0, 0.0);
                for &x in row {
                    oracle.push((sum, 1.001 * scan::depth(n) as f64 * U * size));
                    sum += f64::from(x);
                    size += f64::from(x).abs();
                }
            }
            let (recording, out, _) = record(gpu, [rows, n], &xs);
            let got = common::run(gpu, &recording, &out, false);
            common::compare(&got, &oracle).unwrap_or_else(|why| panic!("{rows} x {n}: {why}"));
        }
    });
}

#[test]
fn a_row_scans_to_the_same_bits_alone_and_among_others() {
    let Some(gpu) = common::device("a_row_scans_to_the_same_bits_alone_and_among_others", false) else { return };
    let n = 3001;
    let xs = Random::new(1).floats(4 * n);
    let bits = |part: &[f32]| {
        let (recording, out, _) = record(gpu, [part.len() / n, n], part);
        common::run(gpu, &recording, &out, false).iter().map(|v: &f32| v.to_bits()).collect::<Vec<_>>()
    };
    let all = bits(&xs);
    for (row, part) in xs.chunks(n).enumerate() {
        assert!(bits(part) == all[row * n..(row + 1) * n], "row {row}");
    }
}

#[test]
fn broken_scans_are_noticed() {
    let Some(gpu) = common::device("broken_scans_are_noticed", false) else { return };
    for (name, from, to) in [
        ("scan_sums", "#unroll level 0 6", "#unroll level 0 5"),
        ("scan_sums", "first + 16u", "first + 15u"),
        ("scan_blocks", "t < lane.x", "t <= lane.x"),
        ("scan_blocks", "before += own;", ""),
        ("scan_apply", "lane.x >= (1u << ${level}u)", "lane.x > (1u << ${level}u)"),
        ("scan_apply", "before += partial[lane.x - 1u]", "before += partial[lane.x]"),
    ] {
        let xs = words(2 * 300_000);
        let (recording, out, _) = record(gpu, [2, 300_000], &xs);
        let raw = common::run_raw(gpu, &broken(&recording, name, from, to), &out);
        let got: Vec<u32> = common::places(&out).into_iter().map(|i| raw[i]).collect();
        assert!(got != word_oracle(&xs, 300_000).0, "'{to}' in {name} went unseen");
    }
}

#[test]
fn scans_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("scans_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::<u32>::uninit(gpu, shape).unwrap();
    let workspace = Workspace::new(gpu, 2, 2000).unwrap();
    let try_it = |x: &[usize], out: &[usize]| {
        scan::exclusive(&mut Recording::new(), gpu.caps(), &t(x), &workspace, &t(out)).map_err(|e| e.kind())
    };
    assert_eq!(try_it(&[2, 2000], &[2, 2000]), Ok(()));
    assert_eq!(try_it(&[2, 2000], &[2, 1999]), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[2, 3000], &[2, 3000]), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[2000], &[2000]), Err(ErrorKind::Internal));
}
