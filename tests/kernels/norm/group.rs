//! Group norm.

use wavehull::gpu::Recording;
use wavehull::ops::columns::CHUNK;
use wavehull::ops::norm::{Backward, group};
use wavehull::{ErrorKind, Gpu, Tensor};

use super::{Stat, Sum, affine, arrays, members, through};
use crate::common;
use crate::members::{self as harness, Expected, Member, Mutation};

const EPS: f32 = 1e-5;

/// Samples and pixels, channels, groups.
type Case = (&'static [usize], usize, usize);

const CASES: [Case; 5] =
    [(&[2, 3], 6, 3), (&[3, 9, 8], 4, 1), (&[1, 17 * CHUNK + 2], 6, 2), (&[20, 1], 5, 1), (&[2, 5, 3], 70, 7)];

fn run(gpu: &Gpu, members: &[Member], (middle, n, groups): Case, mutation: Mutation) -> Vec<Member> {
    let slots = members.len();
    let shape = [middle, &[n]].concat();
    let (x, g) = (harness::stacked(gpu, members, 0, &shape), harness::stacked(gpu, members, 1, &shape));
    let affine = harness::field(gpu, members, 2, &[2, n]);
    let parts = common::poisoned(gpu, &group::scratch(x.shape()));
    let [saved, channels, sums, folded] = [0; 4].map(|_| common::poisoned(gpu, &[slots, middle[0], 2, n]));
    let [y, dx] = [0; 2].map(|_| common::poisoned(gpu, x.shape()));
    let d_affine = harness::poisoned_field(gpu, slots, &[2, n]);
    let mut recording = Recording::new();
    let (r, caps) = (&mut recording, gpu.caps());
    group::statistics(r, caps, &x, (groups, EPS), &parts, &channels, &saved).unwrap();
    group::apply(r, caps, &x, &saved, &affine, &y).unwrap();
    let of = Backward { x: &x, g: &g, saved: &saved, affine: &affine };
    group::sums(r, caps, &of, &parts, &sums).unwrap();
    group::affine_gradient(r, caps, &sums, &d_affine).unwrap();
    group::input_gradient(r, caps, &of, groups, &sums, &folded, &dx).unwrap();
    harness::results(gpu, &recording, &[&y, &d_affine, &dx], mutation)
}

fn oracle(member: &Member, (middle, n, groups): Case) -> Vec<Expected> {
    let [x, g, weights, _] = arrays(member);
    let (samples, size) = (middle[0], n / groups);
    let pixels: usize = middle[1..].iter().product();
    let depth = (CHUNK.min(pixels) + pixels.div_ceil(CHUNK).div_ceil(16) + 24 + size + samples) as f64;
    let (mut y, mut dx) = (vec![(0.0, 0.0); x.len()], vec![(0.0, 0.0); x.len()]);
    let mut terms: Vec<[Vec<(f64, f64)>; 2]> = vec![[Vec::new(), Vec::new()]; n];
    for (s, group) in (0..samples).flat_map(|s| (0..groups).map(move |group| (s, group))) {
        let place = |p: usize, j: usize| (s * pixels + p) * n + j;
        let channels = group * size..(group + 1) * size;
        let all: Vec<(usize, usize)> = channels.clone().flat_map(|j| (0..pixels).map(move |p| (p, j))).collect();
        let mean = |j: usize| (0..pixels).map(|p| x[place(p, j)]).sum::<f64>() / pixels as f64;
        let apart = channels.map(|j| (mean(j) - mean(group * size)).abs()).fold(0.0, f64::max);
        let elements: Vec<(f64, f64)> = all.iter().map(|&(p, j)| (x[place(p, j)], x[place(0, j)])).collect();
        let stat = Stat::new(&elements, f64::from(EPS), depth, apart);
        let k0 = Sum::of(all.iter().map(|&(p, j)| (weights[j] * g[place(p, j)], 0.0)), depth);
        let product = |&(p, j): &(usize, usize)| {
            let ((h, dh), t) = (stat.normal(x[place(p, j)]), weights[j] * g[place(p, j)]);
            (t * h, t.abs() * dh)
        };
        let k1 = Sum::of(all.iter().map(product), depth);
        for &(p, j) in &all {
            let i = place(p, j);
            let h = stat.normal(x[i]);
            y[i] = affine(h, weights[j], weights[n + j]);
            dx[i] = through(&stat, h, weights[j] * g[i], k0, k1, all.len() as f64);
            terms[j][0].push((g[i] * h.0, g[i].abs() * h.1));
            terms[j][1].push((g[i], 0.0));
        }
    }
    let row = |which: usize| terms.iter().map(move |t| Sum::of(t[which].iter().copied(), depth).expected());
    vec![y, row(0).chain(row(1)).collect(), dx]
}

#[test]
fn group_norm_agrees_with_f64_and_stands_alone() {
    for case in CASES {
        let members = members(case.0.iter().product(), case.1, 3);
        let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, case, mutation);
        harness::check("group_norm", &format!("{case:?}"), &members, &run, &|member| oracle(member, case));
    }
}

/// sum g y of group norm in f64.
fn weighed(x: &[f64], g: &[f64], weights: &[f64], (middle, n, groups): Case) -> f64 {
    let (size, pixels) = (n / groups, middle[1..].iter().product::<usize>());
    let mut sum = 0.0;
    for (s, group) in (0..middle[0]).flat_map(|s| (0..groups).map(move |group| (s, group))) {
        let places: Vec<usize> =
            (0..pixels).flat_map(|p| (0..size).map(move |c| (s * pixels + p) * n + group * size + c)).collect();
        let count = places.len() as f64;
        let mean = places.iter().map(|&i| x[i]).sum::<f64>() / count;
        let variance = places.iter().map(|&i| (x[i] - mean).powi(2)).sum::<f64>() / count;
        let inv = 1.0 / (variance + f64::from(EPS)).sqrt();
        sum += places.iter().map(|&i| g[i] * ((x[i] - mean) * inv * weights[i % n] + weights[n + i % n])).sum::<f64>();
    }
    sum
}

#[test]
fn the_oracle_of_group_norm_is_a_gradient() {
    let case: Case = (&[2, 3], 6, 3);
    let member = members(6, 6, 1).remove(0);
    let [x, g, weights, _] = arrays(&member);
    let values = |which: usize| oracle(&member, case)[which].iter().map(|v| v.0).collect::<Vec<_>>();
    harness::is_gradient("dx", &values(2), &harness::differences(&x, &|x| weighed(x, &g, &weights, case)));
    harness::is_gradient("d_affine", &values(1), &harness::differences(&weights, &|w| weighed(&x, &g, w, case)));
}

#[test]
fn broken_group_norm_is_noticed() {
    let case: Case = (&[3, 9, 8], 6, 2);
    let mut members = members(216, 6, 2);
    // Channels of a group near each other, so that tolerances are narrow.
    members.iter_mut().for_each(|m| m[0].iter_mut().for_each(|x| *x -= 50.0 * (*x / 50.0).round() * 0.99));
    let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, case, mutation);
    harness::noticed(
        "broken_group_norm_is_noticed",
        &members,
        &run,
        &|member| oracle(member, case),
        &[
            ("group_fold", "fma(d, d, x[base + p.pitch + i])", "x[base + p.pitch + i]"),
            ("group_fold", "channel / p.size * p.size", "0u"),
            ("group_fold", "fma(affine[scales + i], x[base + i], one)", "x[base + i] + one"),
            ("group_fold", "s / p.samples * p.slot_affine", "0u * p.slot_affine"),
            ("group_fold", "one += origin", "one += 0.0"),
            ("normalise", "sample * p.sample_x", "0u * p.sample_x"),
            ("normalise_gradient", "sample * p.sample_g", "0u * p.sample_g"),
            ("column_chunks", "* p.sample_y + q", "* p.sample_x * 0u + q"),
            ("column_sums", "s * p.slot_out", "0u * p.slot_out"),
        ],
    );
}

#[test]
fn channels_that_are_no_whole_groups_are_refused() {
    let Some(gpu) = common::device("channels_that_are_no_whole_groups_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let try_it = |groups: usize| {
        let (x, parts, [channels, saved]) = (t(&[2, 3, 4, 6]), t(&[2, 3, 2, 2, 6]), [0; 2].map(|_| t(&[2, 3, 2, 6])));
        group::statistics(&mut Recording::new(), gpu.caps(), &x, (groups, EPS), &parts, &channels, &saved)
            .map_err(|e| e.kind())
    };
    assert_eq!([1, 3, 6].map(try_it), [Ok(()); 3]);
    assert_eq!([0, 4].map(try_it), [Err(ErrorKind::Internal); 2]);
}
