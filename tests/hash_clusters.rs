//! Clusters of labels against what their definition says, computed from their members on the host.
#![cfg(feature = "hash")]

mod common;

use common::Random;
use wavehull::gpu::Recording;
use wavehull::hash::clusters::{ClusterOptions, Clusters};
use wavehull::hash::predict::{self, Ranking};
use wavehull::hash::rows::{Rows, RowsPart, Storage};
use wavehull::ops::matmul::Matmul;
use wavehull::{Control, Error, ErrorKind, Gpu, Options, Tensor};

/// A device that binds 64 KiB at most.
fn small() -> Gpu {
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    Gpu::open(&options).unwrap()
}

/// A table of these rows.
fn table(gpu: &Gpu, rows: usize, columns: usize, weights: &[f32], storage: Storage) -> Rows {
    let table = if storage == Storage::F32 {
        Rows::uninit(gpu, rows, columns, 0).unwrap()
    } else {
        Rows::stored(gpu, rows, columns, 0, storage, 1).unwrap()
    };
    let part = RowsPart { weights: weights.to_vec(), book: vec![[0; 4]; rows], ..RowsPart::default() };
    table.write(gpu, &part).unwrap();
    table
}

/// Rows around a few hundred centres of unlike sizes, so that clusters are unlike too.
fn lumpy(random: &mut Random, rows: usize, columns: usize) -> Vec<f32> {
    let centres = random.floats(40 * columns);
    let row = |random: &mut Random| {
        let centre = random.below(40).min(random.below(40));
        let noise = random.floats(columns);
        (0..columns).map(|i| 2.0 * centres[centre * columns + i] + 0.5 * noise[i]).collect::<Vec<f32>>()
    };
    (0..rows).flat_map(|_| row(random)).collect()
}

/// The ranking of the last of these queries, which are asked one after the other in the same memory.
fn asked(
    gpu: &Gpu,
    clusters: &Clusters,
    queries: &[&Tensor],
    k: usize,
    change: impl Fn(&Recording) -> Recording,
) -> Result<(Ranking, Vec<u32>), Error> {
    let room = clusters.room(gpu, queries[0].shape()[0], k).unwrap();
    let mut recording = Recording::new();
    for h in queries {
        clusters.record(&mut recording, gpu.caps(), h, &room).unwrap();
    }
    let mut recording = change(&recording);
    let best = room.asked.top.record_read(&mut recording);
    let tickets = room.top.record_read(&mut recording);
    let scored = room.scored.record_read(&mut recording);
    let mut output = gpu.run(&recording, &Control::default()).unwrap();
    room.asked.top.take(&mut output, best)?;
    Ok((room.top.take(&mut output, tickets)?, room.scored.take(&mut output, scored)))
}

/// What asking must give: members of the clusters that rank best by their centroids.
fn expected(
    gpu: &Gpu,
    clusters: &Clusters,
    h: &Tensor,
    logits: &[f32],
    probes: usize,
    k: usize,
) -> (Ranking, Vec<u32>) {
    let members = clusters.members(gpu).unwrap();
    let near = predict::exact(gpu, h, clusters.centroids(), probes, &Control::default()).unwrap();
    let (samples, labels) = (h.shape()[0], logits.len() / h.shape()[0]);
    let mut ranking = Ranking { k, labels: Vec::new(), logits: Vec::new() };
    let mut scored = Vec::new();
    for sample in 0..samples {
        let own = near.row(sample).iter().flat_map(|&cluster| &members[cluster as usize]);
        let mut found: Vec<_> = own.map(|&label| (label, logits[sample * labels + label as usize])).collect();
        scored.push(u32::try_from(found.len()).unwrap());
        found.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        found.resize(found.len().max(k), (u32::MAX, 0.0));
        ranking.labels.extend(found[..k].iter().map(|f| f.0));
        ranking.logits.extend(found[..k].iter().map(|f| f.1 + 0.0));
    }
    (ranking, scored)
}

/// All logits `[samples, labels]`, by one product.
fn product(gpu: &Gpu, h: &Tensor, rows: &[f32], labels: usize) -> Vec<f32> {
    let weights = Tensor::from_slice(gpu, &[labels, h.columns()], rows).unwrap();
    let logits: Tensor = Tensor::uninit(gpu, &[h.shape()[0], labels]).unwrap();
    let mut recording = Recording::new();
    Matmul { trans_b: true, ..Matmul::default() }.record(&mut recording, gpu.caps(), h, &weights, &logits).unwrap();
    let ticket = logits.record_read(&mut recording);
    logits.take(&mut gpu.run(&recording, &Control::default()).unwrap(), ticket)
}

#[test]
fn asking_scores_the_clusters_that_rank_best_whole() {
    const NAME: &str = "asking_scores_the_clusters_that_rank_best_whole";
    let Some(whole) = common::device(NAME, false) else { return };
    let (small, checked) = (small(), common::device(NAME, true).unwrap());
    for (samples, labels, columns, count, probes, k) in [
        (1, 1, 4, 0, 3, 2),
        (3, 50, 8, 7, 2, 5),
        (5, 1900, 36, 0, 4, 10),
        (9, 1900, 36, 60, 60, 10),
        (66, 700, 12, 1, 1, 100),
        (4, 4000, 8, 250, 128, 128),
    ] {
        let mut random = Random::new(labels as u64 + samples as u64);
        let rows = lumpy(&mut random, labels, columns);
        let queries = random.floats(samples * columns);
        let logits = product(whole, &common::tensor(whole, &[samples, columns], &queries), &rows, labels);
        let options = ClusterOptions { clusters: count, probes, ..ClusterOptions::default() };
        for gpu in [whole, &small, checked] {
            let what = format!(
                "{samples} samples, {labels} labels, {probes} of {count} clusters, {} bound",
                gpu.caps().max_binding
            );
            let clusters =
                Clusters::new(gpu, &table(gpu, labels, columns, &rows, Storage::F32), &options, &Control::default())
                    .unwrap();
            let h = common::tensor(gpu, &[samples, columns], &queries);
            if clusters.together(gpu.caps()).unwrap() < samples {
                assert!(gpu.caps().max_binding == 64 << 10, "{what}");
                assert_eq!(clusters.room(gpu, samples, k).unwrap_err().kind(), ErrorKind::TooBig);
                continue;
            }
            let want = expected(gpu, &clusters, &h, &logits, probes.min(clusters.count()), k);
            let got = asked(gpu, &clusters, &[&h], k, Recording::clone).unwrap();
            assert_eq!(got, want, "{what}");
            if probes >= clusters.count() {
                let exact = predict::exact(
                    gpu,
                    &h,
                    &Tensor::from_slice(gpu, &[labels, columns], &rows).unwrap(),
                    k,
                    &Control::default(),
                );
                assert_eq!(
                    (got.0, got.1),
                    (exact.unwrap(), vec![u32::try_from(labels).unwrap(); samples]),
                    "{what}: all clusters"
                );
            }
        }
    }
}

#[test]
fn every_label_is_in_the_cluster_whose_centroid_is_nearest() {
    const NAME: &str = "every_label_is_in_the_cluster_whose_centroid_is_nearest";
    let Some(gpu) = common::device(NAME, false) else { return };
    let (labels, columns) = (5000, 20);
    let rows = lumpy(&mut Random::new(3), labels, columns);
    // Rounded to what bf16 holds, so that both tables have the same rows.
    let rows: Vec<f32> = rows.iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect();
    let mut errors = Vec::new();
    for (rounds, storage) in [(0, Storage::F32), (1, Storage::F32), (6, Storage::F32), (6, Storage::Bf16)] {
        let options = ClusterOptions { clusters: 50, rounds, ..ClusterOptions::default() };
        let clusters =
            Clusters::new(gpu, &table(gpu, labels, columns, &rows, storage), &options, &Control::default()).unwrap();
        let members = clusters.members(gpu).unwrap();
        let mut all = members.concat();
        all.sort_unstable();
        assert_eq!(all, (0..u32::try_from(labels).unwrap()).collect::<Vec<_>>());
        let centroids = clusters.centroids().to_array(gpu).unwrap().into_raw_vec_and_offset().0;
        let distance = |label: u32, cluster: usize| {
            let (row, centroid) =
                (&rows[label as usize * columns..][..columns], &centroids[cluster * columns..][..columns]);
            row.iter().zip(centroid).map(|(x, c)| f64::from(x - c).powi(2)).sum::<f64>()
        };
        let mut error = 0.0;
        for (cluster, own) in members.iter().enumerate() {
            for &label in own {
                let nearest = (0..50).map(|other| distance(label, other)).fold(f64::INFINITY, f64::min);
                // Scores of 20 terms below 30 in size: 21 roundings, twice, and twice for the distance.
                assert!(distance(label, cluster) <= nearest + 4.0 * 21.0 * 30.0 * 6e-8 * 20.0, "label {label}");
                error += distance(label, cluster);
            }
        }
        errors.push((error, members));
    }
    assert!(
        errors[1].0 < 0.9 * errors[0].0 && errors[2].0 < errors[1].0,
        "k-means lowers the error: {} {} {}",
        errors[0].0,
        errors[1].0,
        errors[2].0
    );
    assert_eq!(errors[3], errors[2], "bf16 holds the same rows");
}

#[test]
fn what_cannot_be_had_is_refused() {
    let Some(gpu) = common::device("what_cannot_be_had_is_refused", false) else { return };
    let rows = table(gpu, 40, 8, &Random::new(1).floats(320), Storage::F32);
    for probes in [0, 129] {
        let options = ClusterOptions { probes, ..ClusterOptions::default() };
        assert_eq!(Clusters::new(gpu, &rows, &options, &Control::default()).unwrap_err().kind(), ErrorKind::BadInput);
    }
    let options = ClusterOptions { clusters: 13, ..ClusterOptions::default() };
    let error = Clusters::new(gpu, &rows, &options, &Control::default()).unwrap_err();
    assert_eq!(
        (error.kind(), error.message().contains("13 clusters of 40 labels")),
        (ErrorKind::BadInput, true),
        "{error}"
    );
    let clusters = Clusters::new(gpu, &rows, &ClusterOptions::default(), &Control::default()).unwrap();
    let mut overflowing = Random::new(2).floats(16);
    overflowing[9] = f32::INFINITY;
    let error = asked(gpu, &clusters, &[&common::tensor(gpu, &[2, 8], &overflowing)], 3, Recording::clone).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
    let mut spoiled = Random::new(1).floats(320);
    spoiled[77] = f32::NAN;
    let rows = table(gpu, 40, 8, &spoiled, Storage::F32);
    let error = Clusters::new(gpu, &rows, &ClusterOptions::default(), &Control::default()).unwrap_err();
    assert!(error.kind() == ErrorKind::BadInput && error.message().contains("the row of label 9 "), "{error}");
}

#[test]
fn broken_clusters_are_noticed() {
    let Some(gpu) = common::device("broken_clusters_are_noticed", false) else { return };
    let (samples, labels, columns, k) = (37, 1500, 12, 10);
    let mut random = Random::new(8);
    let rows = lumpy(&mut random, labels, columns);
    let queries = random.floats(samples * columns);
    let h = common::tensor(gpu, &[samples, columns], &queries);
    // What this leaves in the memory would win, if the next one looked at it.
    let large: Vec<f32> = queries.iter().map(|x| -1e3 * x).collect();
    let large = common::tensor(gpu, &[samples, columns], &large);
    let options = ClusterOptions { clusters: 30, probes: 5, ..ClusterOptions::default() };
    let clusters =
        Clusters::new(gpu, &table(gpu, labels, columns, &rows, Storage::F32), &options, &Control::default()).unwrap();
    let right = asked(gpu, &clusters, &[&h], k, Recording::clone).unwrap();
    for (kernel, old, new) in [
        ("cluster_logits", "first_of(owner.x + 1u)", "first_of(owner.x + 2u)"),
        ("cluster_logits", "pair += SAMPLES", "pair += 2u * SAMPLES"),
        ("cluster_logits", "p.ld * p.ld_h4", "p.ld"),
        ("cluster_logits", "j < p.width4", "j + 1u < p.width4"),
        ("cluster_logits", "let own = owner.y * 32u + lane.x", "let own = lane.x"),
        ("cluster_places", "32u * blocks;\n        blocks", "32u * rank;\n        blocks"),
        ("cluster_places", "columns[sample] = 32u * blocks", "columns[sample] = blocks"),
        ("cluster_places", "select(0u, size.z, found)", "size.y"),
        ("top_k", "max(counts[sample], p.start) - p.start", "p.n"),
    ] {
        let broken = asked(gpu, &clusters, &[&large, &h], k, |recording| common::broken(recording, kernel, old, new));
        // Reading elsewhere may also meet what is no number.
        assert!(broken.is_err() || broken.is_ok_and(|broken| broken != right), "{kernel}: '{new}' went unseen");
    }
}

/// Not a test: seconds of asking for 256 samples and rows of 132 elements, and the share of each kernel.
#[test]
#[ignore = "a measurement"]
fn measure_clusters() {
    let Some(gpu) = common::device("measure_clusters", false) else { return };
    let (samples, labels, columns) = (256, 25_918, 132);
    let mut random = Random::new(1);
    let rows = table(gpu, labels, columns, &lumpy(&mut random, labels, columns), Storage::F32);
    let h = common::tensor(gpu, &[samples, columns], &random.floats(samples * columns));
    for probes in [4, 16, 64] {
        let options = ClusterOptions { probes, ..ClusterOptions::default() };
        let clusters = Clusters::new(gpu, &rows, &options, &Control::default()).unwrap();
        let room = clusters.room(gpu, samples, 10).unwrap();
        let mut recording = Recording::new();
        clusters.record(&mut recording, gpu.caps(), &h, &room).unwrap();
        gpu.run(&recording, &Control::default()).unwrap();
        let start = std::time::Instant::now();
        gpu.run(&recording, &Control::default()).unwrap();
        let wall = start.elapsed().as_secs_f64();
        let times = gpu.profile(&recording, &Control::default()).unwrap().kernel_times;
        let mut sums = std::collections::BTreeMap::new();
        times.iter().for_each(|(kernel, seconds)| *sums.entry(*kernel).or_insert(0.0) += seconds);
        common::say(&format!("{probes} probes: {wall:.4} s; kernels {sums:.5?}"));
    }
}
