//! How good what hash tables give is, and how long it takes.

use wavehull::Control;
use wavehull::gpu::Recording;
use wavehull::hash::lsh::reference::{self, HostTables};
use wavehull::hash::lsh::{Family, Functions, LshOptions, Neighbours, Query, QueryWorkspace};
use wavehull::hash::width;

use crate::common::{self, Random};
use crate::{Built, options};

/// A unit vector.
fn direction(random: &mut Random, n: usize) -> Vec<f64> {
    // Sums of twelve uniform numbers are near enough to normal ones.
    let v: Vec<f64> = (0..n).map(|_| (0..12).map(|_| random.unit()).sum()).collect();
    let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
    v.iter().map(|x| x / norm).collect()
}

#[test]
fn near_pairs_collide_more_often() {
    for (family, codes) in [(Family::Dwta, 1), (Family::SimHash, 1)] {
        let functions = Functions::new(&options(family, codes, 64), 64, 0).unwrap();
        let mut random = Random::new(1);
        let mut shares = Vec::new();
        for cosine in [0.0, 0.3, 0.6, 0.8, 0.9, 0.97] {
            let mut same = 0;
            for _ in 0..60 {
                let (a, b) = (direction(&mut random, 64), direction(&mut random, 64));
                let other: Vec<f32> = a
                    .iter()
                    .zip(&b)
                    .map(|(a, b)| (cosine * a + (1.0_f64 - cosine * cosine).sqrt() * b) as f32)
                    .collect();
                let a: Vec<f32> = a.iter().map(|&v| v as f32).collect();
                same += functions.keys(&a).iter().zip(functions.keys(&other)).filter(|(a, b)| *a == b).count();
            }
            shares.push(same as f64 / (60.0 * 64.0));
        }
        assert!(shares.windows(2).all(|w| w[0] + 0.02 < w[1]), "{family:?}: {shares:?}");
        // Directions without relation agree in one of eight places, and in one of two signs; of near ones, a sign agrees with the chance
        // 1 - angle / pi (0.922 at 0.97), a place a little less often.
        let expected = if family == Family::Dwta { 0.125 } else { 0.5 };
        assert!((shares[0] - expected).abs() < 0.04 && shares[5] > 0.6, "{family:?}: {shares:?}");
    }
}

#[test]
fn candidates_of_clusters_hold_what_random_ones_do_not() {
    // 2,000 labels in 100 clusters; a hidden vector is near one label. Who is wanted: the ten largest products.
    let (labels, hidden, queries) = (2000, 64, 40);
    let mut random = Random::new(9);
    let centres: Vec<Vec<f64>> = (0..100).map(|_| direction(&mut random, hidden)).collect();
    let near = |random: &mut Random, v: &[f64], spread: f64| -> Vec<f64> {
        let noise = direction(random, hidden);
        v.iter().zip(&noise).map(|(a, b)| a + spread * b).collect()
    };
    let rows: Vec<Vec<f64>> = (0..labels).map(|i| near(&mut random, &centres[i % 100], 0.6)).collect();
    let flat: Vec<f32> = rows.iter().flatten().map(|&v| v as f32).collect();
    let options = LshOptions { codes: 3, tables: 30, bucket: 32, ..options(Family::Dwta, 3, 30) };
    let functions = Functions::new(&options, hidden, 0).unwrap();
    let twin = HostTables::new(&functions, &flat, hidden);
    let (mut wanted, mut found, mut drawn, mut active) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for q in 0..queries {
        let h = near(&mut random, &rows[q * 17], 0.5);
        let dot = |row: &[f64]| row.iter().zip(&h).map(|(a, b)| a * b).sum::<f64>();
        let mut order: Vec<usize> = (0..labels).collect();
        order.sort_by(|&a, &b| dot(&rows[b]).total_cmp(&dot(&rows[a])));
        wanted.extend(order[..10].iter().map(|&i| u32::try_from(i).unwrap()));
        let h: Vec<f32> = h.iter().map(|&v| v as f32).collect();
        let given = twin.query(&functions.keys(&h), &Query::all(&options, 1));
        let n = reference::distinct(&given);
        active += n;
        let mut ids: Vec<u32> = (0..u32::try_from(labels).unwrap()).collect();
        random.shuffle(&mut ids);
        drawn.extend(ids.into_iter().take(n).chain(std::iter::repeat(u32::MAX)).take(given.len()));
        found.extend(given);
    }
    let c = options.tables * options.bucket;
    let (hashed, chance) = (reference::recall(&wanted, 10, &found, c), reference::recall(&wanted, 10, &drawn, c));
    let share = active as f64 / (queries * labels) as f64;
    println!("recall@10 {hashed:.3}, of as many random ones {chance:.3}, {:.1} % of the labels", 100.0 * share);
    assert!(hashed > 0.5 && hashed > 4.0 * chance, "recall {hashed} against {chance}");
}

/// Sizes of the real set: hashing, building, a look-up, neighbours.
#[test]
#[ignore = "a measurement: run it alone"]
fn rates() {
    let Some(gpu) = common::device("rates", false) else { return };
    let (labels, hidden, vectors) = (25_918, 128, 256);
    let mut random = Random::new(1);
    let plain = |random: &mut Random, n: usize| -> Vec<f32> { random.floats(n * width(hidden)) };
    let rows = plain(&mut random, labels);
    let mut h = plain(&mut random, vectors);
    h.iter_mut().for_each(|v| *v = v.max(0.0));
    for (family, codes) in [(Family::Dwta, 4), (Family::SimHash, 9)] {
        let options = LshOptions { codes, tables: 50, bucket: 32, ..options(family, codes, 50) };
        let built = Built::new(gpu, &options, hidden, &rows, 32 << 20);
        let time = |what: &str, recording: &Recording| {
            let mut best = Vec::new();
            for _ in 0..3 {
                let times = gpu.profile(recording, &Control::default()).unwrap().kernel_times;
                let mut kernels = std::collections::BTreeMap::<&str, f64>::new();
                times.iter().for_each(|(name, seconds)| *kernels.entry(name).or_default() += 1e3 * seconds);
                best.push(kernels);
            }
            best.sort_by(|a, b| a.values().sum::<f64>().total_cmp(&b.values().sum::<f64>()));
            println!("{family:?} {what}: {:.1} ms, {:.1?}", best[0].values().sum::<f64>(), best[0]);
        };
        let (caps, mut build) = (gpu.caps(), Recording::new());
        built.tables.record_build(&mut build, caps, &built.hasher, &built.on).unwrap();
        time("build", &build);
        let mut drift = Recording::new();
        built.tables.record_drift(&mut drift, caps, &built.hasher, &built.on, 2, 4).unwrap();
        time("drift of 2 tables, a quarter of the rows", &drift);
        let on = common::tensor(gpu, &[vectors, width(hidden)], &h);
        let workspace = QueryWorkspace::new(gpu, &options, vectors).unwrap();
        let query = Query { step: 1, tables: 50, bucket: 32, shuffled: true };
        let out = common::poisoned(gpu, &[vectors, query.candidates()]);
        let mut look_up = Recording::new();
        built.tables.record_query(&mut look_up, caps, &built.hasher, &on, &workspace, &query, &out).unwrap();
        time("look-up of 256", &look_up);
        for (tables, bucket) in [(50, 32), (50, 16), (25, 8)] {
            let query = Query { step: 1, tables, bucket, shuffled: false };
            let finder = Neighbours::new(gpu, &built.tables, &query, 2).unwrap();
            let out = common::poisoned(gpu, &[labels, 16]);
            let mut neighbours = Recording::new();
            finder.record(&mut neighbours, caps, &built.tables, 1, &out).unwrap();
            time(&format!("neighbours by {tables} tables, {bucket} ids"), &neighbours);
        }
    }
}
