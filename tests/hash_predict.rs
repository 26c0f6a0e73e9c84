//! Exact and sparse rankings against a full sort on the host, on random and hostile logits.
#![cfg(feature = "hash")]

mod common;

use common::Random;
use wavehull::gpu::Recording;
use wavehull::hash::predict::{self, Exact, Ids, Ranking, TopK};
use wavehull::ops::matmul::Matmul;
use wavehull::{Control, ErrorKind, Gpu, Options, Tensor};

const NOTHING: u32 = u32::MAX;

/// Runs `check` on the trusted and on the checked device.
fn on_both(test: &str, check: impl Fn(&Gpu)) {
    for checked in [false, true] {
        if let Some(gpu) = common::device(test, checked) {
            check(gpu);
        }
    }
}

/// The ranking of logits with their labels: a full sort by value, then by label.
fn oracle(rows: &[Vec<(u32, f32)>], k: usize) -> Ranking {
    let (mut labels, mut logits) = (Vec::new(), Vec::new());
    for row in rows {
        let mut row = row.clone();
        row.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        row.dedup();
        row.resize(row.len().max(k), (NOTHING, 0.0));
        labels.extend(row[..k].iter().map(|r| r.0));
        // -0 is given as 0.
        logits.extend(row[..k].iter().map(|r| r.1 + 0.0));
    }
    Ranking { k, labels, logits }
}

fn same(got: &Ranking, expected: &Ranking, what: &str) {
    let bits = |r: &Ranking| r.logits.iter().map(|z| z.to_bits()).collect::<Vec<_>>();
    for i in 0..expected.samples() {
        assert_eq!(got.row(i), expected.row(i), "{what}: labels of sample {i}");
    }
    assert_eq!(bits(got), bits(expected), "{what}: logits");
    assert_eq!(got.labels, expected.labels, "{what}");
}

/// A ranking of these rows of logits, handed over in chunks of columns.
fn ranked(gpu: &Gpu, rows: &[Vec<f32>], k: usize, chunk: usize) -> Result<Ranking, wavehull::Error> {
    let top = pollster(TopK::new_async(gpu, rows.len(), k))?;
    let mut recording = Recording::new();
    top.clear(&mut recording);
    let n = rows[0].len();
    let mut keep = Vec::new();
    for first in (0..n).step_by(chunk) {
        let end = n.min(first + chunk);
        let part: Vec<f32> = rows.iter().flat_map(|row| row[first..end].to_vec()).collect();
        let logits = common::tensor(gpu, &[rows.len(), end - first], &part);
        top.record(&mut recording, gpu.caps(), &logits, Ids::Consecutive(first))?;
        keep.push(logits);
    }
    let tickets = top.record_read(&mut recording);
    top.take(&mut gpu.run(&recording, &Control::default())?, tickets)
}

fn pollster<T>(future: impl Future<Output = T>) -> T {
    // Nothing that these futures wait for needs a waker: the device is polled inside the call.
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

fn labelled(rows: &[Vec<f32>]) -> Vec<Vec<(u32, f32)>> {
    rows.iter().map(|row| (0..).zip(row.iter().copied()).collect()).collect()
}

#[test]
fn rankings_are_those_of_a_full_sort() {
    on_both("rankings_are_those_of_a_full_sort", |gpu| {
        let mut random = Random::new(5);
        for (samples, n) in [(1, 1), (3, 5), (2, 64), (5, 255), (2, 257), (3, 1030), (2, 5000), (7, 2049)] {
            let rows: Vec<Vec<f32>> = (0..samples).map(|_| random.floats(n)).collect();
            for k in [1, 2, 5, 10, 63, 128] {
                let expected = oracle(&labelled(&rows), k);
                for chunk in [n, 64, 513, 1000] {
                    let what = format!("{samples} x {n}, k = {k}, chunks of {chunk}");
                    if n.div_ceil(chunk) < 40 {
                        same(&ranked(gpu, &rows, k, chunk).unwrap(), &expected, &what);
                    }
                }
            }
        }
    });
}

/// Rows of logits that make a selection fail if anything can.
fn hostile(n: usize) -> Vec<Vec<f32>> {
    let scaled = |f: &dyn Fn(usize) -> f32| (0..n).map(f).collect::<Vec<f32>>();
    vec![
        scaled(&|i| i as f32),
        scaled(&|i| -(i as f32)),
        scaled(&|_| 0.0),
        scaled(&|i| if i % 2 == 0 { -0.0 } else { 0.0 }),
        scaled(&|i| if i % 3 == 0 { 1.0 } else { -1.0 }),
        scaled(&|i| f32::MAX * if i == n - 1 { 1.0 } else { -1.0 }),
        scaled(&|i| f32::from_bits(u32::try_from(i).unwrap())),
        scaled(&|i| -f32::from_bits(u32::try_from(i).unwrap())),
        scaled(&|i| (i / 7) as f32),
        scaled(&|i| ((i * 7919) % n) as f32 - 100.0),
    ]
}

#[test]
fn hostile_logits_are_ranked_exactly() {
    on_both("hostile_logits_are_ranked_exactly", |gpu| {
        for n in [9, 1024, 4500] {
            let rows = hostile(n);
            for k in [1, 9, 128] {
                let expected = oracle(&labelled(&rows), k);
                for chunk in [n, 640] {
                    same(&ranked(gpu, &rows, k, chunk).unwrap(), &expected, &format!("n = {n}, k = {k}, {chunk}"));
                }
            }
        }
    });
}

#[test]
fn logits_that_are_no_numbers_are_reported() {
    on_both("logits_that_are_no_numbers_are_reported", |gpu| {
        let n = 1500;
        for (value, label) in [(f32::NAN, 3), (f32::INFINITY, 700), (f32::NEG_INFINITY, 1499), (-f32::NAN, 640)] {
            for others in [-1.0_f32, 1.0] {
                let mut rows = vec![vec![others; n]; 3];
                rows[1][label] = value;
                // Alone, and with one in the last chunk.
                if others > 0.0 {
                    rows[1][1499] = value;
                }
                let error = ranked(gpu, &rows, 5, 640).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BadInput);
                assert!(error.to_string().contains(&format!("of label {label} for sample 1")), "{error}");
                assert!(error.help().is_some());
            }
        }
    });
    let Some(gpu) = common::device("logits_that_are_no_numbers_are_reported", false) else { return };
    for k in [0, 129] {
        assert_eq!(ranked(gpu, &[vec![1.0]], k, 1).unwrap_err().kind(), ErrorKind::BadInput);
    }
}

/// Logits as a product on the device gives them.
fn product(gpu: &Gpu, hidden: &Tensor, weights: &Tensor) -> Vec<Vec<f32>> {
    let (samples, labels) = (hidden.shape()[0], weights.shape()[0]);
    let logits = common::poisoned(gpu, &[samples, labels]);
    let mut recording = Recording::new();
    Matmul { trans_b: true, ..Matmul::default() }.record(&mut recording, gpu.caps(), hidden, weights, &logits).unwrap();
    common::run::<f32>(gpu, &recording, &logits, true).chunks(labels).map(<[f32]>::to_vec).collect()
}

/// A device that binds at most 64 KiB at once.
fn small() -> Gpu {
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    Gpu::open(&options).unwrap()
}

#[test]
fn exact_rankings_have_the_bits_of_one_product_in_any_windows() {
    const NAME: &str = "exact_rankings_have_the_bits_of_one_product_in_any_windows";
    let Some(whole) = common::device(NAME, false) else { return };
    let small = small();
    for (samples, labels, columns) in [(1, 1, 4), (3, 63, 8), (5, 1000, 36), (33, 4500, 20), (16, 700, 132)] {
        let mut random = Random::new(labels as u64);
        let (h, w) = (random.floats(samples * columns), random.floats(labels * columns));
        let on =
            |gpu: &Gpu| (common::tensor(gpu, &[samples, columns], &h), common::tensor(gpu, &[labels, columns], &w));
        let (hidden, weights) = on(whole);
        let logits = product(whole, &hidden, &weights);
        // The product itself, against f64: one fma a term.
        let exact: Vec<(f64, f64)> = (0..samples * labels)
            .map(|at| {
                let (a, b) = (&h[at / labels * columns..][..columns], &w[at % labels * columns..][..columns]);
                let terms = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
                let sum = terms.clone().sum();
                (sum, columns as f64 * common::U * terms.map(f64::abs).sum::<f64>())
            })
            .collect();
        common::compare(&logits.concat(), &exact).unwrap();
        for k in [1, 10, 100] {
            let expected = oracle(&labelled(&logits), k);
            for gpu in [whole, &small] {
                let (hidden, weights) = on(gpu);
                let got = predict::exact(gpu, &hidden, &weights, k, &Control::default()).unwrap();
                same(&got, &expected, &format!("{samples} x {labels} x {columns}, k = {k}"));
            }
        }
    }
    let exact = pollster(Exact::new_async(&small, 16, 700, 132, 5)).unwrap();
    assert_eq!(exact.chunk(), 64, "64 KiB hold 124 rows");
}

#[test]
fn sparse_rankings_score_every_candidate_once() {
    const NAME: &str = "sparse_rankings_score_every_candidate_once";
    let Some(whole) = common::device(NAME, false) else { return };
    let (small, checked) = (small(), common::device(NAME, true).unwrap());
    let (samples, labels, columns) = (6, 1900, 36);
    let mut random = Random::new(11);
    let (h, w) = (random.floats(samples * columns), random.floats(labels * columns));
    for (count, below) in [(1, 1900), (37, 40), (700, 1900), (2600, 1900), (4200, 300)] {
        // Repeated ids, none, and ids beyond the last label.
        let id = |random: &mut Random| match random.below(8) {
            0 => NOTHING,
            1 => u32::try_from(labels + random.below(99)).unwrap(),
            _ => u32::try_from(random.below(below)).unwrap(),
        };
        let mut ids: Vec<u32> = (0..samples * count).map(|_| id(&mut random)).collect();
        ids[..count].fill(NOTHING);
        for gpu in [whole, &small, checked] {
            let hidden = common::tensor(gpu, &[samples, columns], &h);
            let weights = common::tensor(gpu, &[labels, columns], &w);
            let candidates = common::tensor(gpu, &[samples, count], &ids);
            if gpu.caps().max_binding == 64 << 10 && samples * count * 4 > 64 << 10 {
                let error = predict::sparse(gpu, &hidden, &weights, &candidates, 5, &Control::default()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TooBig);
                continue;
            }
            let logits = product(
                whole,
                &common::tensor(whole, &[samples, columns], &h),
                &common::tensor(whole, &[labels, columns], &w),
            );
            let chosen: Vec<Vec<(u32, f32)>> = (0..samples)
                .map(|s| {
                    let own = ids[s * count..][..count].iter().filter(|&&id| (id as usize) < labels);
                    let mut own: Vec<_> = own.map(|&id| (id, logits[s][id as usize])).collect();
                    own.sort_by_key(|c| c.0);
                    own.dedup_by_key(|c| c.0);
                    own
                })
                .collect();
            for k in [1, 10, 128] {
                let (got, scored) =
                    predict::sparse(gpu, &hidden, &weights, &candidates, k, &Control::default()).unwrap();
                same(&got, &oracle(&chosen, k), &format!("{count} candidates, k = {k}"));
                let counts: Vec<usize> = scored.iter().map(|&n| n as usize).collect();
                assert_eq!(counts, chosen.iter().map(Vec::len).collect::<Vec<_>>());
                if k == 10 {
                    let exact = predict::exact(gpu, &hidden, &weights, k, &Control::default()).unwrap();
                    let recall = predict::recall(&exact, &got).unwrap();
                    assert!((0.0..=1.0).contains(&recall));
                }
            }
        }
    }
}

#[test]
fn equal_logits_of_listed_labels_go_by_label() {
    on_both("equal_logits_of_listed_labels_go_by_label", |gpu| {
        let (count, columns) = (3000, 4);
        let labels = 3000;
        let hidden = common::tensor(gpu, &[1, columns], &[0.5, 0.0, 0.0, 0.0]);
        let weights = common::tensor(gpu, &[labels, columns], &vec![0.25; labels * columns]);
        for order in 0..3 {
            let mut ids: Vec<u32> = (0..3000).collect();
            match order {
                0 => {}
                1 => ids.reverse(),
                _ => Random::new(3).shuffle(&mut ids),
            }
            let candidates = common::tensor(gpu, &[1, count], &ids);
            let (got, scored) = predict::sparse(gpu, &hidden, &weights, &candidates, 20, &Control::default()).unwrap();
            assert_eq!((got.row(0), scored), (&(0..20).collect::<Vec<u32>>()[..], vec![3000]));
        }
    });
}

#[test]
fn broken_rankings_are_noticed() {
    let Some(gpu) = common::device("broken_rankings_are_noticed", false) else { return };
    let rows = hostile(4096);
    let expected = oracle(&labelled(&rows), 20);
    let flat: Vec<f32> = rows.concat();
    let logits = common::tensor(gpu, &[rows.len(), 4096], &flat);
    let top = pollster(TopK::new_async(gpu, rows.len(), 20)).unwrap();
    let mut recording = Recording::new();
    top.clear(&mut recording);
    top.record(&mut recording, gpu.caps(), &logits, Ids::Consecutive(0)).unwrap();
    let run = |recording: &Recording| {
        let mut recording = recording.clone();
        let tickets = top.record_read(&mut recording);
        top.take(&mut gpu.run(&recording, &Control::default()).unwrap(), tickets).unwrap()
    };
    assert_eq!(run(&recording), expected);
    // The workgroups of other devices.
    for (lanes, vectors) in [(128, 1), (8, 4), (32, 2)] {
        let other = common::changed(&recording, |kernel, _| {
            if kernel.name == "top_k" {
                kernel.defines = vec![("LANES", lanes.to_string()), ("VECTORS", vectors.to_string())];
            }
        });
        assert_eq!(run(&other), expected, "{lanes} lanes, {vectors} vectors");
    }
    for (from, to) in [
        ("labels[i] < labels[j]", "labels[i] > labels[j]"),
        ("key + select(0u, 1u, key == 0x7fffffffu)", "key"),
        ("|| count > 2u * p.k + 32u || s + 1u == spans", "|| count > 2u * p.k + 32u"),
        ("ranks(j, i), (i & size) == 0u", "ranks(j, i), (i & size) != 0u"),
        ("size <= n", "size < n"),
    ] {
        let broken = common::broken(&recording, "top_k", from, to);
        assert!(run(&broken) != expected, "'{to}' went unseen");
    }
}

/// Not a test: seconds of rankings for 256 samples and rows of 132 elements, and the share of each kernel.
#[test]
#[ignore = "a measurement"]
fn measure_rankings() {
    let Some(gpu) = common::device("measure_rankings", false) else { return };
    let (samples, columns) = (256, 132);
    for labels in [25_918, 670_091] {
        let mut random = Random::new(1);
        let hidden = common::tensor(gpu, &[samples, columns], &random.floats(samples * columns));
        let weights = Tensor::from_slice(gpu, &[labels, columns], &random.floats(labels * columns)).unwrap();
        let ids: Vec<u32> = (0..samples * 1000).map(|_| u32::try_from(random.below(labels)).unwrap()).collect();
        let candidates = common::tensor(gpu, &[samples, 1000], &ids);
        let exact = pollster(Exact::new_async(gpu, samples, labels, columns, 10)).unwrap();
        let sparse = pollster(predict::Sparse::new_async(gpu, samples, 1000, labels, 10)).unwrap();
        let mut recordings = [Recording::new(), Recording::new()];
        exact.record(&mut recordings[0], gpu.caps(), &hidden, &weights).unwrap();
        sparse.record(&mut recordings[1], gpu.caps(), &hidden, &weights, &candidates).unwrap();
        for (name, recording) in ["exact", "sparse"].iter().zip(&recordings) {
            gpu.run(recording, &Control::default()).unwrap();
            let start = std::time::Instant::now();
            gpu.run(recording, &Control::default()).unwrap();
            let wall = start.elapsed().as_secs_f64();
            let times = gpu.profile(recording, &Control::default()).unwrap().kernel_times;
            let mut sums = std::collections::BTreeMap::new();
            times.iter().for_each(|(kernel, seconds)| *sums.entry(*kernel).or_insert(0.0) += seconds);
            common::say(&format!("{name}, {labels} labels: {wall:.3} s; kernels {sums:.4?}"));
        }
    }
}
