//! Layer norm.

use wavehull::gpu::Recording;
use wavehull::ops::columns::CHUNK;
use wavehull::ops::norm::{Backward, layer};
use wavehull::{Control, ErrorKind, Gpu, Tensor};

use super::{Stat, Sum, affine, arrays, members, through};
use crate::common;
use crate::members::{self as harness, Expected, Member, Mutation};

const EPS: f32 = 1e-5;

/// Rows and their length: below, at and across 64 elements and vectors; rows across a workgroup and a chunk.
const SIZES: [(&[usize], usize); 6] =
    [(&[3], 5), (&[5, 13], 64), (&[2, 2], 67), (&[1], 6), (&[70], 1), (&[3, CHUNK + 1], 130)];

struct Tensors {
    recording: Recording,
    outs: [Tensor; 4],
}

fn record(gpu: &Gpu, members: &[Member], middle: &[usize], n: usize) -> Tensors {
    let slots = members.len();
    let shape = [middle, &[n]].concat();
    let (x, g) = (harness::stacked(gpu, members, 0, &shape), harness::stacked(gpu, members, 1, &shape));
    let affine = harness::field(gpu, members, 2, &[2, n]);
    let parts = common::poisoned(gpu, &layer::scratch(x.shape()));
    let saved = common::poisoned(gpu, &layer::saved(x.shape()));
    let [y, dx] = [0; 2].map(|_| common::poisoned(gpu, x.shape()));
    let d_affine = harness::poisoned_field(gpu, slots, &[2, n]);
    let mut recording = Recording::new();
    let (r, caps) = (&mut recording, gpu.caps());
    layer::forward(r, caps, &x, &affine, EPS, &saved, &y).unwrap();
    let of = Backward { x: &x, g: &g, saved: &saved, affine: &affine };
    layer::affine_gradient(r, caps, &of, &parts, &d_affine).unwrap();
    layer::input_gradient(r, caps, &of, &dx).unwrap();
    Tensors { recording, outs: [saved, y, d_affine, dx] }
}

fn run(gpu: &Gpu, members: &[Member], middle: &[usize], n: usize, mutation: Mutation) -> Vec<Member> {
    let Tensors { recording, outs } = record(gpu, members, middle, n);
    harness::results(gpu, &recording, &outs.each_ref(), mutation)
}

fn oracle(member: &Member, n: usize) -> Vec<Expected> {
    let [x, g, weights, _] = arrays(member);
    let rows = x.len() / n;
    let (along, down) = ((n.div_ceil(64) + 14) as f64, (CHUNK.min(rows) + rows.div_ceil(CHUNK) + 24) as f64);
    let (mut saved, mut y, mut dx) = (Vec::new(), Vec::new(), Vec::new());
    let mut terms: Vec<[Vec<(f64, f64)>; 2]> = vec![[Vec::new(), Vec::new()]; n];
    for r in 0..rows {
        let (x, g) = (&x[r * n..(r + 1) * n], &g[r * n..(r + 1) * n]);
        let stat = Stat::new(&x.iter().map(|&v| (v, x[0])).collect::<Vec<_>>(), f64::from(EPS), along, 0.0);
        saved.extend(stat.saved());
        let normal: Vec<(f64, f64)> = x.iter().map(|&v| stat.normal(v)).collect();
        let t: Vec<f64> = g.iter().zip(&weights).map(|(g, w)| g * w).collect();
        let k0 = Sum::of(t.iter().map(|&t| (t, 0.0)), along);
        let k1 = Sum::of(t.iter().zip(&normal).map(|(t, h)| (t * h.0, t.abs() * h.1)), along);
        for j in 0..n {
            y.push(affine(normal[j], weights[j], weights[n + j]));
            dx.push(through(&stat, normal[j], t[j], k0, k1, n as f64));
            terms[j][0].push((g[j] * normal[j].0, g[j].abs() * normal[j].1));
            terms[j][1].push((g[j], 0.0));
        }
    }
    let row = |which: usize| terms.iter().map(move |t| Sum::of(t[which].iter().copied(), down).expected());
    vec![saved, y, row(0).chain(row(1)).collect(), dx]
}

#[test]
fn layer_norm_agrees_with_f64_and_stands_alone() {
    for (middle, n) in SIZES {
        let members = members(middle.iter().product(), n, 3);
        let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, middle, n, mutation);
        let what = format!("{middle:?} x {n}");
        harness::check("layer_norm", &what, &members, &run, &|member| oracle(member, n));
    }
}

/// sum g y of layer norm in f64.
fn weighed(x: &[f64], g: &[f64], weights: &[f64], n: usize) -> f64 {
    let row = |(x, g): (&[f64], &[f64])| {
        let mean = x.iter().sum::<f64>() / n as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let inv = 1.0 / (variance + f64::from(EPS)).sqrt();
        (0..n).map(|j| g[j] * ((x[j] - mean) * inv * weights[j] + weights[n + j])).sum::<f64>()
    };
    x.chunks(n).zip(g.chunks(n)).map(row).sum()
}

#[test]
fn the_oracle_of_layer_norm_is_a_gradient() {
    let n = 5;
    let member = members(4, n, 1).remove(0);
    let [x, g, weights, _] = arrays(&member);
    let values = |which: usize| oracle(&member, n)[which].iter().map(|v| v.0).collect::<Vec<_>>();
    harness::is_gradient("dx", &values(3), &harness::differences(&x, &|x| weighed(x, &g, &weights, n)));
    harness::is_gradient("d_affine", &values(2), &harness::differences(&weights, &|w| weighed(&x, &g, w, n)));
}

#[test]
fn both_forms_of_rows_have_the_same_bits() {
    let Some(gpu) = common::device("both_forms_of_rows_have_the_same_bits", false) else { return };
    for (middle, n) in [(&[7][..], 5), (&[3, 5], 67), (&[9], 200), (&[66], 64)] {
        let members = members(middle.iter().product(), n, 2);
        let Tensors { recording, outs: [saved, y, _, dx] } = record(gpu, &members, middle, n);
        let bits = |rowwise: bool| {
            let mut recording = common::changed(&recording, |kernel, _| {
                if kernel.name.starts_with("layer_norm") {
                    kernel.defines.retain(|(key, _)| *key != "ROWWISE");
                    *kernel = kernel.clone().flag("ROWWISE", rowwise);
                }
            });
            let tickets = [&saved, &y, &dx].map(|t| t.record_read(&mut recording));
            let mut output = gpu.run(&recording, &Control::default()).unwrap();
            let mut all = Vec::new();
            for (t, ticket) in [&saved, &y, &dx].into_iter().zip(tickets) {
                all.extend(t.take(&mut output, ticket).iter().map(|v| v.to_bits()));
            }
            all
        };
        assert!(bits(true) == bits(false), "{middle:?} x {n}");
    }
}

#[test]
fn broken_layer_norm_is_noticed() {
    let (rows, n) = (9, 130);
    let mut members = members(rows, n, 2);
    members.iter_mut().for_each(|m| m[0].iter_mut().for_each(|x| *x -= 50.0 * (*x / 50.0).round()));
    let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, &[rows], n, mutation);
    harness::noticed(
        "broken_layer_norm_is_noticed",
        &members,
        &run,
        &|member| oracle(member, n),
        &[
            ("layer_norm", "select(d * d, d, what == 0u)", "select(abs(d), d, what == 0u)"),
            ("layer_norm", "row.origin + row.mean", "row.mean"),
            ("layer_norm", "s * p.slot_affine", "0u * p.slot_affine"),
            ("layer_norm", "p.inv_n, p.eps", "p.inv_n, 9.0e-4"),
            ("layer_norm_gradient", "(t - k0)", "t"),
            ("layer_norm_gradient", "- h * k1", ""),
            ("layer_norm_gradient", "s * p.slot_saved", "0u * p.slot_saved"),
            ("column_chunks", "let of_row = k[s * p.slot_k + r]", "let of_row = k[s * p.slot_k]"),
        ],
    );
}

#[test]
fn layer_norm_that_does_not_fit_is_refused() {
    let Some(gpu) = common::device("layer_norm_that_does_not_fit_is_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let try_it = |affine: &[usize], saved: &[usize]| {
        let (x, y) = (t(&[2, 3, 5]), t(&[2, 3, 5]));
        layer::forward(&mut Recording::new(), gpu.caps(), &x, &t(affine), EPS, &t(saved), &y).map_err(|e| e.kind())
    };
    assert_eq!(try_it(&[2, 2, 5], &[2, 3, 2]), Ok(()));
    assert_eq!(try_it(&[2, 5], &[2, 3, 2]), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[2, 2, 5], &[2, 3, 5]), Err(ErrorKind::Internal));
}
