//! Batch norm.

use wavehull::gpu::Recording;
use wavehull::ops::columns::CHUNK;
use wavehull::ops::norm::batch::{self, Statistics};
use wavehull::ops::norm::{Backward, Running};
use wavehull::{ErrorKind, Gpu, Tensor};

use super::{Stat, Sum, affine, arrays, members, through};
use crate::common::{self, U};
use crate::members::{self as harness, Expected, Member, Mutation};

const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

/// Rows and columns: below, at and across a chunk, more chunks than strands, columns across a vector and a workgroup; one row.
const SIZES: [(&[usize], usize); 6] =
    [(&[3], 5), (&[CHUNK], 4), (&[13, 5], 7), (&[1], 6), (&[2, 5, 7], 260), (&[17 * CHUNK + 3], 3)];

fn run(gpu: &Gpu, members: &[Member], middle: &[usize], n: usize, mutation: Mutation) -> Vec<Member> {
    let slots = members.len();
    let shape = [middle, &[n]].concat();
    let (x, g) = (harness::stacked(gpu, members, 0, &shape), harness::stacked(gpu, members, 1, &shape));
    let (affine, running) = (harness::field(gpu, members, 2, &[2, n]), harness::field(gpu, members, 3, &[2, n]));
    let live: Vec<u32> = members.iter().flat_map(|m| [7, 7, 7, u32::from(m[4][0] > 0.0)]).collect();
    let streams = common::tensor(gpu, &[slots, 4], &live);
    let parts = common::poisoned(gpu, &batch::scratch(x.shape()));
    let saved = common::poisoned(gpu, &[slots, 2, n]);
    let [y, evaluated, dx] = [0; 3].map(|_| common::poisoned(gpu, x.shape()));
    let d_affine = harness::poisoned_field(gpu, slots, &[2, n]);
    let mut recording = Recording::new();
    let (r, caps) = (&mut recording, gpu.caps());
    batch::apply(r, caps, &x, Statistics::Running(&running, EPS), &affine, &evaluated).unwrap();
    let update = Running { statistics: &running, streams: &streams, momentum: MOMENTUM };
    batch::statistics(r, caps, &x, EPS, Some(update), &parts, &saved).unwrap();
    batch::apply(r, caps, &x, Statistics::Saved(&saved), &affine, &y).unwrap();
    let of = Backward { x: &x, g: &g, saved: &saved, affine: &affine };
    batch::sums(r, caps, &of, &parts, &d_affine).unwrap();
    batch::input_gradient(r, caps, &of, &d_affine, &dx).unwrap();
    harness::results(gpu, &recording, &[&saved, &y, &running, &evaluated, &d_affine, &dx], mutation)
}

fn depth(rows: usize) -> f64 {
    (CHUNK.min(rows) + rows.div_ceil(CHUNK).div_ceil(16) + 20) as f64
}

fn oracle(member: &Member, n: usize) -> Vec<Expected> {
    let [x, g, weights, running] = arrays(member);
    let rows = x.len() / n;
    let (eps, momentum, live) = (f64::from(EPS), f64::from(MOMENTUM), member[4][0] > 0.0);
    let mut results: Vec<Expected> = vec![vec![(0.0, 0.0); 2 * n], vec![(0.0, 0.0); x.len()]];
    results.extend([results[0].clone(), results[1].clone(), results[0].clone(), results[1].clone()]);
    let unbiased = if rows > 1 { rows as f64 / (rows - 1) as f64 } else { 1.0 };
    for j in 0..n {
        let column: Vec<usize> = (0..rows).map(|r| r * n + j).collect();
        let elements: Vec<(f64, f64)> = column.iter().map(|&i| (x[i], x[j])).collect();
        let stat = Stat::new(&elements, eps, depth(rows), 0.0);
        let (scale, shift) = (weights[j], weights[n + j]);
        let (k0, k1) = sums(&column, &x, &g, &stat, depth(rows));
        [results[0][j], results[0][n + j]] = stat.saved();
        let new = [(stat.mean, stat.e_mean), (stat.variance * unbiased, stat.e_variance * unbiased)];
        for (at, (new, error)) in [j, n + j].into_iter().zip(new) {
            let old = running[at];
            let value = old + momentum * (new - old);
            let error = momentum * error + 4.0 * U * (old.abs() + new.abs());
            results[2][at] = if live { (value, error) } else { (old, 0.0) };
        }
        (results[4][j], results[4][n + j]) = (k1.expected(), k0.expected());
        for i in column {
            let h = stat.normal(x[i]);
            results[1][i] = affine(h, scale, shift);
            let inv = 1.0 / (running[n + j] + eps).sqrt();
            let of_running = (x[i] - running[j]) * inv;
            results[3][i] = affine((of_running, 6.0 * U * of_running.abs()), scale, shift);
            let scaled = |k: Sum| Sum { value: scale * k.value, size: 0.0, error: scale.abs() * k.error };
            results[5][i] = through(&stat, h, scale * g[i], scaled(k0), scaled(k1), rows as f64);
        }
    }
    results
}

/// The sums over a column of g and of g h.
fn sums(column: &[usize], x: &[f64], g: &[f64], stat: &Stat, depth: f64) -> (Sum, Sum) {
    let product = |&i: &usize| {
        let (h, dh) = stat.normal(x[i]);
        (g[i] * h, g[i].abs() * dh)
    };
    (Sum::of(column.iter().map(|&i| (g[i], 0.0)), depth), Sum::of(column.iter().map(product), depth))
}

#[test]
fn batch_norm_agrees_with_f64_and_stands_alone() {
    for (middle, n) in SIZES {
        let members = members(middle.iter().product(), n, 3);
        let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, middle, n, mutation);
        let what = format!("{middle:?} x {n}");
        harness::check("batch_norm", &what, &members, &run, &|member| oracle(member, n));
    }
}

/// sum g y of batch norm in f64.
fn weighed(x: &[f64], g: &[f64], weights: &[f64], n: usize) -> f64 {
    let rows = x.len() / n;
    let column = |j: usize| {
        let mean = (0..rows).map(|r| x[r * n + j]).sum::<f64>() / rows as f64;
        let variance = (0..rows).map(|r| (x[r * n + j] - mean).powi(2)).sum::<f64>() / rows as f64;
        let inv = 1.0 / (variance + f64::from(EPS)).sqrt();
        (0..rows).map(|r| g[r * n + j] * ((x[r * n + j] - mean) * inv * weights[j] + weights[n + j])).sum::<f64>()
    };
    (0..n).map(column).sum()
}

#[test]
fn the_oracle_of_batch_norm_is_a_gradient() {
    let (rows, n) = (7, 5);
    let member = members(rows, n, 1).remove(0);
    let [x, g, weights, _] = arrays(&member);
    let values = |which: usize| oracle(&member, n)[which].iter().map(|v| v.0).collect::<Vec<_>>();
    let along_x = harness::differences(&x, &|x| weighed(x, &g, &weights, n));
    let along_weights = harness::differences(&weights, &|w| weighed(&x, &g, w, n));
    harness::is_gradient("dx", &values(5), &along_x);
    harness::is_gradient("d_affine", &values(4), &along_weights);
}

#[test]
fn broken_batch_norm_is_noticed() {
    let (rows, n) = (17 * CHUNK + 3, 6);
    let members = members(rows, n, 2);
    let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, &[rows], n, mutation);
    harness::noticed(
        "broken_batch_norm_is_noticed",
        &members,
        &run,
        &|member| oracle(member, n),
        &[
            ("column_chunks", "second = fma(d, d, second)", "second = fma(d, d * 1.01, second)"),
            ("column_chunks", "let h = (v - mean) * inv", "let h = v * inv"),
            ("column_chunks", "second += w", "second += v"),
            ("moments", "inverse - mean", "inverse"),
            ("moments", "chunk += STRANDS", "chunk += STRANDS + 1u"),
            ("moments", "select(CHUNK, p.tail, last)", "CHUNK"),
            ("moments", "inverseSqrt(variance + p.eps)", "inverseSqrt(variance + 8.0 * p.eps + 1.0e-4)"),
            ("moments", "variance * p.unbiased", "variance"),
            ("moments", "streams[s * p.slot_streams + 3u] != 0u", "true"),
            ("moments", "p.momentum * centre", "p.momentum * mean"),
            ("normalise", "slot * p.slot_affine + quads", "0u * p.slot_affine + quads"),
            ("normalise_gradient", "- h * k1", ""),
            ("normalise_gradient", ", -k0)", ", k0)"),
        ],
    );
}

#[test]
fn a_shared_input_has_the_statistics_of_one_slot() {
    let Some(gpu) = common::device("a_shared_input_has_the_statistics_of_one_slot", false) else { return };
    let (rows, n) = (70, 5);
    let mut members = members(rows, n, 3);
    let xs = members[0][0].clone();
    members.iter_mut().for_each(|m| m[0].clone_from(&xs));
    let expected = run(gpu, &members, &[rows], n, None);
    let x = common::tensor(gpu, &[rows, n], &xs).shared(3);
    let (parts, saved) = (common::poisoned(gpu, &batch::scratch(x.shape())), common::poisoned(gpu, &[3, 2, n]));
    let (y, affine) = (common::poisoned(gpu, &[3, rows, n]), harness::field(gpu, &members, 2, &[2, n]));
    let mut recording = Recording::new();
    batch::statistics(&mut recording, gpu.caps(), &x, EPS, None, &parts, &saved).unwrap();
    batch::apply(&mut recording, gpu.caps(), &x, Statistics::Saved(&saved), &affine, &y).unwrap();
    let got = harness::results(gpu, &recording, &[&saved, &y], None);
    assert!(got.iter().zip(&expected).all(|(g, e)| g[..] == e[..2]), "shared memory gives other numbers");
}

#[test]
fn a_mean_far_from_zero_costs_no_digits_of_the_variance() {
    let Some(gpu) = common::device("a_mean_far_from_zero_costs_no_digits_of_the_variance", false) else { return };
    // 4096 + (-1 or 1): the variance is 1; E[x^2] - E[x]^2 in f32 is off by about 1.
    let xs: Vec<f32> = (0..200).map(|i| if i % 2 == 0 { 4095.0 } else { 4097.0 }).collect();
    let x = common::tensor(gpu, &[1, 200, 1], &xs);
    let (parts, saved) = (common::poisoned(gpu, &batch::scratch(x.shape())), common::poisoned(gpu, &[1, 2, 1]));
    let mut recording = Recording::new();
    batch::statistics(&mut recording, gpu.caps(), &x, 0.0, None, &parts, &saved).unwrap();
    let got = &harness::results(gpu, &recording, &[&saved], None)[0][0];
    assert!((got[0] - 4096.0).abs() < 1e-3 && (got[1] - 1.0).abs() < 1e-5, "{got:?}");
}

#[test]
fn batch_norm_that_does_not_fit_is_refused() {
    let Some(gpu) = common::device("batch_norm_that_does_not_fit_is_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let try_it = |x: &[usize], parts: &[usize], saved: &[usize]| {
        batch::statistics(&mut Recording::new(), gpu.caps(), &t(x), EPS, None, &t(parts), &t(saved))
            .map_err(|e| e.kind())
    };
    assert_eq!(try_it(&[2, 70, 3], &[2, 3, 2, 3], &[2, 2, 3]), Ok(()));
    for (x, parts, saved) in [
        (&[2, 70, 3][..], &[2, 2, 2, 3][..], &[2, 2, 3][..]),
        (&[2, 70, 3], &[2, 3, 2, 3], &[2, 3]),
        (&[2, 0, 3], &[2, 1, 2, 3], &[2, 2, 3]),
    ] {
        assert_eq!(try_it(x, parts, saved), Err(ErrorKind::Internal), "{x:?}");
    }
}
