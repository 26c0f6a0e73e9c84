//! Active sets on the device against their twins on the host.
#![cfg(feature = "hash")]

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::time::Instant;

use common::{POISON, Random, broken, changed, say};
use wavehull::gpu::{Command, Recording};
use wavehull::hash::active::{
    ActiveSet, BatchLabels, Candidates, Choice, Distribution, Draws, NONE, SampleCandidates, SampleChoice, SampleSets,
    SharedSet, twin,
};
use wavehull::ops::sort;
use wavehull::{Control, ErrorKind, Gpu, Options, Tensor};

const SEED: u64 = 0x1234_5678_9abc;

fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap()
}

/// Runs `check` on the trusted and on the checked device.
fn on_both(test: &str, check: impl Fn(&Gpu)) {
    for checked in [false, true] {
        if let Some(gpu) = common::device(test, checked) {
            check(gpu);
        }
    }
}

/// Labels of samples: up to `most` different ones each, sample 1 without any, low labels more often.
fn samples(random: &mut Random, labels: usize, count: usize, most: usize) -> Vec<Vec<u32>> {
    let mut list = |i: usize| {
        let wanted = if i == 1 { 0 } else { random.below(most.min(labels) + 1) };
        let mut own = BTreeSet::new();
        while own.len() < wanted {
            let bound = 1 + random.below(labels);
            own.insert(word(random.below(bound)));
        }
        own.into_iter().collect()
    };
    (0..count).map(&mut list).collect()
}

/// A batch's labels on the device.
struct Labels {
    samples: Vec<Vec<u32>>,
    offsets: Tensor<u32>,
    ids: Tensor<u32>,
}

impl Labels {
    fn new(gpu: &Gpu, samples: &[Vec<u32>]) -> Self {
        let all = samples.concat();
        let mut offsets = vec![0];
        for own in samples {
            offsets.push(offsets[offsets.len() - 1] + word(own.len()));
        }
        // Room behind the entries, as a trainer has it.
        let ids = common::tensor(gpu, &[all.len() + 3], &[&all[..], &[0, 1, POISON]].concat());
        let offsets = common::tensor(gpu, &[offsets.len()], &offsets);
        Self { samples: samples.to_vec(), offsets, ids }
    }

    fn batch(&self) -> BatchLabels<'_> {
        let distinct: BTreeSet<u32> = self.samples.iter().flatten().copied().collect();
        BatchLabels {
            offsets: &self.offsets,
            ids: &self.ids,
            samples: self.samples.len(),
            entries: self.samples.iter().map(Vec::len).sum(),
            distinct: distinct.len(),
            longest: self.samples.iter().map(Vec::len).max().unwrap_or(0),
        }
    }
}

/// What a step left: ids, touched rows, order and statistics.
#[derive(Debug, Clone, PartialEq)]
struct Left {
    ids: Vec<u32>,
    touched: Vec<[u32; 2]>,
    order: Vec<u32>,
    statistics: Vec<u32>,
}

/// Poisons what a step writes, runs it and brings it back.
fn run(gpu: &Gpu, active: &ActiveSet, recording: &Recording) -> Left {
    let all = [Some(&active.ids), Some(&active.touched.list), active.order.as_ref(), Some(&active.statistics)];
    for tensor in all.into_iter().flatten() {
        gpu.upload(tensor.buffer(), bytemuck::cast_slice(&vec![POISON; common::words(tensor)])).unwrap();
    }
    let mut recording = recording.clone();
    let tickets = all.map(|tensor| tensor.map(|t| t.record_read(&mut recording)));
    let mut output = gpu.run(&recording, &Control::default()).unwrap();
    let mut take = |i: usize| all[i].map_or(Vec::new(), |t| t.take(&mut output, tickets[i].unwrap()));
    let (ids, list, order, statistics) = (take(0), take(1), take(2), take(3));
    let rows = list[0] as usize;
    assert!(rows <= active.touched.capacity, "{rows} rows");
    let touched: Vec<[u32; 2]> = list.chunks_exact(2).take(rows + 2).map(|pair| [pair[0], pair[1]]).collect();
    assert!(list[2 * (rows + 2)..].iter().all(|&word| word == POISON), "something behind the list was written");
    Left { ids, touched, order, statistics }
}

/// Candidates of a kind, as rows of equal length: random, none, all equal, labels of the batch, more than any room, ids of no label.
fn candidates(kind: usize, random: &mut Random, labels: usize, batch: &[u32]) -> Vec<Vec<u32>> {
    let (rows, columns) = [(5, 37), (3, 4), (7, 9), (4, 10), (20, 301), (6, 11)][kind];
    let mut entry = || match kind {
        0 if random.below(4) == 0 => NONE,
        0 => {
            let bound = 1 + random.below(labels);
            word(random.below(bound))
        }
        1 => NONE,
        2 => word(labels / 2),
        3 if !batch.is_empty() && random.coin() => batch[random.below(batch.len())],
        4 => word(random.below(labels.min(2000))),
        5 => word(labels + random.below(2) * 77),
        _ => word(random.below(labels)),
    };
    (0..rows).map(|_| (0..columns).map(|_| entry()).collect()).collect()
}

/// A shared set on the device must be that of the twin.
fn check_shared(what: &str, left: &Left, twin: &(Vec<u32>, [u32; 4])) {
    assert!(left.ids == twin.0, "{what}: ids {:?}..., not {:?}...", &left.ids[..left.ids.len().min(9)], twin.0.first());
    assert_eq!(left.statistics, twin.1, "{what}");
    let size = word(twin.0.len());
    let mut touched = vec![[size, size]];
    touched.extend(twin.0.iter().zip(0..).map(|(&id, i)| [id, i]));
    touched.push([u32::MAX, size]);
    assert!(left.touched == touched, "{what}: touched");
}

/// Labels, size (0: as many as the batch has labels), samples, labels of a sample.
const SHARED: [(usize, usize, usize, usize); 8] = [
    (1, 1, 1, 1),
    (5, 5, 3, 2),
    (33, 33, 2, 4),
    (64, 20, 1, 7),
    (1000, 0, 9, 6),
    (1000, 200, 16, 5),
    (4099, 1500, 40, 8),
    (70_001, 700, 33, 12),
];

#[test]
fn shared_sets_are_those_of_the_host() {
    on_both("shared_sets_are_those_of_the_host", |gpu| {
        for (case, &(labels, size, count, most)) in SHARED.iter().enumerate() {
            let mut random = Random::new(case as u64 + 1);
            let own = samples(&mut random, labels, count, most);
            let on = Labels::new(gpu, &own);
            let (batch, host) = (on.batch(), own.concat());
            let size = if size == 0 { batch.distinct } else { size };
            let set = SharedSet::new(gpu, labels, size, SEED).unwrap();
            let weights: Vec<f64> = (0..labels).map(|j| 1.0 / (j as f64 + 1.0)).collect();
            let distribution = Distribution::new(&weights).unwrap();
            let drawn = 2 * size + 1;
            let draws = Draws::new(gpu, &distribution, drawn).unwrap();
            for step in [0, 7] {
                let check = |what: &str, candidates: &Candidates<'_>, twin: Option<(&[Vec<u32>], Choice)>| {
                    let mut recording = Recording::new();
                    set.record(&mut recording, gpu.caps(), step, &batch, candidates).unwrap();
                    let expected = twin::shared(labels, size, SEED, step, &host, twin);
                    check_shared(&format!("case {case}, {what}"), &run(gpu, &set.active, &recording), &expected);
                };
                check("uniform", &Candidates::Uniform, None);
                let rows = [distribution.draws(SEED, step, drawn)];
                check("draws", &Candidates::Draws(&draws), Some((&rows, Choice::First)));
                for choice in [Choice::First, Choice::Most, Choice::Seeded] {
                    for kind in 0..6 {
                        let rows = candidates(kind, &mut random.clone(), labels, &host);
                        let list = common::tensor(gpu, &[rows.len(), rows[0].len()], &rows.concat());
                        let what = format!("{choice:?}, kind {kind}");
                        check(&what, &Candidates::List(&list, choice), Some((&rows, choice)));
                    }
                    let mut near = random.clone();
                    let table: Vec<Vec<u32>> =
                        (0..labels).map(|_| (0..5).map(|_| word(near.below(labels.min(3000)))).collect()).collect();
                    let rows: Vec<Vec<u32>> = host.iter().map(|&label| table[label as usize].clone()).collect();
                    let neighbours = common::tensor(gpu, &[labels, 5], &table.concat());
                    let what = format!("neighbours, {choice:?}");
                    check(&what, &Candidates::Neighbours(&neighbours, choice), Some((&rows, choice)));
                }
            }
        }
    });
}

/// Labels, size, samples, labels of a sample; groups and width of candidates.
const SAMPLES: [([usize; 4], [usize; 2]); 6] = [
    ([5, 4, 1, 3], [1, 1]),
    ([12, 12, 3, 4], [2, 3]),
    ([1000, 20, 5, 6], [7, 9]),
    ([4099, 100, 9, 100], [5, 64]),
    ([20_001, 60, 33, 5], [50, 16]),
    ([300, 200, 4, 9], [3, 129]),
];

/// Candidates of samples: as those of shared sets, and each table with what others have too.
fn of_samples(kind: usize, random: &mut Random, labels: usize, own: &[Vec<u32>], columns: usize) -> Vec<Vec<u32>> {
    let row = |labels_of: &Vec<u32>| {
        let centre = random.below(labels);
        (0..columns)
            .map(|_| match kind {
                0 if random.below(5) == 0 => NONE,
                0 => word((centre + random.below(1 + columns / 3)) % labels),
                1 => NONE,
                2 => word(centre),
                3 if !labels_of.is_empty() && random.coin() => labels_of[random.below(labels_of.len())],
                _ => word(random.below(labels + 3)),
            })
            .collect()
    };
    own.iter().map(row).collect()
}

fn check_samples(what: &str, left: &Left, [labels, size]: [usize; 2], twins: &[(Vec<u32>, [u32; 3])]) {
    let mut statistics = vec![0; 4];
    for (row, (ids, counts)) in left.ids.chunks(size).zip(twins) {
        assert!(row == ids, "{what}: {row:?}, not {ids:?}");
        for (sum, count) in statistics.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let pairs = left.ids.len();
    let mut order: Vec<u32> = (0..word(pairs)).collect();
    order.sort_by_key(|&pair| left.ids[pair as usize]);
    assert!(left.order == order, "{what}: order");
    let mut touched = Vec::new();
    for label in 0..word(labels) {
        if let Some(first) = order.iter().position(|&pair| left.ids[pair as usize] == label) {
            touched.push([label, word(first)]);
        }
    }
    statistics[3] = word(touched.len());
    touched.insert(0, [word(touched.len()), word(pairs)]);
    touched.push([u32::MAX, word(pairs)]);
    assert!(left.touched == touched, "{what}: touched");
    assert_eq!(left.statistics, statistics, "{what}");
}

/// The same with so many lanes a sample, and so many ids a lane in a round.
fn with_layout(recording: &Recording, [lanes, share]: [u32; 2]) -> Recording {
    changed(recording, |kernel, _| {
        for (key, value) in kernel.defines.iter_mut().filter(|_| kernel.name.starts_with("sample_")) {
            match *key {
                "LANES" => *value = lanes.to_string(),
                "SHARE" => *value = share.to_string(),
                "ROUND" => *value = (lanes * share).to_string(),
                _ => {}
            }
        }
    })
}

#[test]
fn sets_of_samples_are_those_of_the_host() {
    on_both("sets_of_samples_are_those_of_the_host", |gpu| {
        for (case, &([labels, size, count, most], [groups, width])) in SAMPLES.iter().enumerate() {
            let mut random = Random::new(case as u64 + 100);
            let own = samples(&mut random, labels, count, most.min(size));
            let (on, columns) = (Labels::new(gpu, &own), groups * width);
            let sets = SampleSets::new(gpu, labels, [count, size], columns, SEED).unwrap();
            for (kind, choice) in (0..5)
                .flat_map(|kind| {
                    [SampleChoice::First, SampleChoice::AtLeast(3), SampleChoice::Most]
                        .map(|choice| (kind, Some(choice)))
                })
                .chain([(0, None)])
            {
                let rows = of_samples(kind, &mut random, labels, &own, columns);
                let ids = common::tensor(gpu, &[count, columns], &rows.concat());
                let step = word(case + kind);
                let given = choice.map(|choice| SampleCandidates { ids: &ids, groups, choice });
                let mut recording = Recording::new();
                sets.record(&mut recording, gpu.caps(), step, &on.batch(), given.as_ref()).unwrap();
                let twin = |sample: usize| {
                    let candidates = choice.map(|choice| (&rows[sample][..], groups, choice));
                    twin::sample(labels, size, (SEED, step, word(sample)), &own[sample], candidates)
                };
                let twins: Vec<_> = (0..count).map(twin).collect();
                for layout in [[8, 8], [128, 2]] {
                    let left = run(gpu, &sets.active, &with_layout(&recording, layout));
                    let what = format!("case {case}, kind {kind}, {choice:?}, {layout:?}");
                    check_samples(&what, &left, [labels, size], &twins);
                }
            }
        }
    });
}

#[test]
fn sets_of_samples_are_the_same_in_windows() {
    let Some(gpu) = common::device("sets_of_samples_are_the_same_in_windows", false) else { return };
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    let small = Gpu::open(&options).unwrap();
    let (labels, count, size, columns) = (40_001, 30, 8, 100);
    let mut random = Random::new(5);
    let own = samples(&mut random, labels, count, 5);
    let rows = of_samples(0, &mut random, labels, &own, columns);
    let left = [gpu, &small].map(|gpu| {
        let on = Labels::new(gpu, &own);
        let ids = common::tensor(gpu, &[count, columns], &rows.concat());
        let sets = SampleSets::new(gpu, labels, [count, size], columns, SEED).unwrap();
        let mut recording = Recording::new();
        let given = SampleCandidates { ids: &ids, groups: 4, choice: SampleChoice::Most };
        sets.record(&mut recording, gpu.caps(), 1, &on.batch(), Some(&given)).unwrap();
        let is_set = |c: &&Command| matches!(c, Command::Dispatch(d) if d.kernel.name == "sample_sets");
        let windows = recording.commands().iter().filter(is_set).count();
        (windows, run(gpu, &sets.active, &recording))
    });
    assert!(left[0].0 == 1 && left[1].0 > 1, "{} and {} windows", left[0].0, left[1].0);
    assert!(left[0].1 == left[1].1);
}

#[test]
fn a_step_is_the_same_a_second_later_and_steps_and_samples_differ() {
    let Some(gpu) = common::device("a_step_is_the_same_a_second_later_and_steps_and_samples_differ", false) else {
        return;
    };
    let (labels, size) = (50_000, 400);
    let own = vec![vec![3], vec![3], vec![3]];
    let on = Labels::new(gpu, &own);
    let shared = |step: u32| {
        let set = SharedSet::new(gpu, labels, size, SEED).unwrap();
        let mut recording = Recording::new();
        set.record(&mut recording, gpu.caps(), step, &on.batch(), &Candidates::Uniform).unwrap();
        run(gpu, &set.active, &recording)
    };
    let single = |step: u32| {
        let sets = SampleSets::new(gpu, labels, [3, size], 0, SEED).unwrap();
        let mut recording = Recording::new();
        sets.record(&mut recording, gpu.caps(), step, &on.batch(), None).unwrap();
        run(gpu, &sets.active, &recording)
    };
    let (first, of_samples) = (shared(1), single(1));
    // Released SLIDE takes the same window of a shuffled list for all samples of a second, and another in the next.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(shared(1) == first && single(1) == of_samples);
    let common = |a: &[u32], b: &[u32]| a.iter().filter(|id| b.contains(id)).count();
    // 400 of 50,000 have 3.2 in common with another 400 in the mean, and the label.
    let rows: Vec<&[u32]> = of_samples.ids.chunks(size).collect();
    for both in [common(rows[0], rows[1]), common(rows[1], rows[2]), common(&first.ids, &shared(2).ids)] {
        assert!((1..16).contains(&both), "{both} ids in common");
    }
}

/// Chi-square of counts that should be alike, in standard deviations from its mean; `spread` is the variance of a count in units
/// of its mean (1 for independent draws; less if each step takes a share without doubles).
fn excess(counts: &[u32], spread: f64) -> f64 {
    let mean = counts.iter().map(|&c| f64::from(c)).sum::<f64>() / counts.len() as f64;
    let chi: f64 = counts.iter().map(|&c| (f64::from(c) - mean).powi(2) / (mean * spread)).sum();
    let degrees = (counts.len() - 1) as f64;
    (chi - degrees) / (2.0 * degrees).sqrt()
}

#[test]
fn no_label_is_favoured() {
    // The device has the twin's bits (above), so many steps of the twin speak for both.
    let (labels, size, steps) = (101, 20, 3000);
    let all: Vec<Vec<u32>> = (0..4).map(|_| (0..word(labels)).collect()).collect();
    let spread = 1.0 - size as f64 / labels as f64;
    for choice in [None, Some(Choice::Most), Some(Choice::Seeded)] {
        let mut counts = vec![0; labels];
        for step in 0..steps {
            for id in twin::shared(labels, size, SEED, step, &[], choice.map(|c| (&all[..], c))).0 {
                counts[id as usize] += 1;
            }
        }
        let (low, high): (u32, u32) = (counts[..50].iter().sum(), counts[51..].iter().sum());
        // Five standard errors of the difference.
        let error = 5.0 * (2.0 * 50.0 * f64::from(steps) * 0.2 * 0.8).sqrt();
        assert!((f64::from(low) - f64::from(high)).abs() < error, "{choice:?}: {low} low ids, {high} high ones");
        let excess = excess(&counts, spread);
        assert!(excess.abs() < 5.0, "{choice:?}: {excess} standard deviations");
    }
    for choice in [None, Some(SampleChoice::First), Some(SampleChoice::Most)] {
        let mut counts = vec![0; labels];
        let list = all.concat();
        for number in 0..steps {
            let candidates = choice.map(|choice| (&list[..], 4, choice));
            for id in twin::sample(labels, size, (SEED, 1, number), &[], candidates).0 {
                counts[id as usize] += 1;
            }
        }
        let excess = excess(&counts, spread);
        assert!(excess.abs() < 5.0, "{choice:?}: {excess} standard deviations");
    }
}

#[test]
fn broken_choices_are_noticed() {
    let Some(gpu) = common::device("broken_choices_are_noticed", false) else { return };
    let (labels, size) = (4099, 150);
    let mut random = Random::new(1);
    let own = samples(&mut random, labels, 9, 6);
    let on = Labels::new(gpu, &own);
    let rows = candidates(4, &mut random, labels, &own.concat());
    let list = common::tensor(gpu, &[rows.len(), rows[0].len()], &rows.concat());
    let set = SharedSet::new(gpu, labels, size, SEED).unwrap();
    let mut recording = Recording::new();
    set.record(&mut recording, gpu.caps(), 3, &on.batch(), &Candidates::List(&list, Choice::Most)).unwrap();
    let good = run(gpu, &set.active, &recording);
    for (name, from, to) in [
        ("mark_labels", "id % 32u", "id % 31u"),
        ("mark_candidates", "(marks[id / 32u] & bit) == 0u", "true"),
        ("mark_candidates", "atomicAdd(&values[id], 1u);", "atomicMax(&values[id], 1u);"),
        ("candidate_digits", "major == state[2]", "true"),
        ("candidate_pick", "state[0] = room - before;", ""),
        ("candidate_choose", "minor < state[3]", "minor <= state[3]"),
        ("set_ids", "place++;", "place += 1u + (place & 1u);"),
    ] {
        assert!(run(gpu, &set.active, &broken(&recording, name, from, to)) != good, "'{to}' in {name} went unseen");
    }
    // Half of all labels, so that the order comes upon those of the batch.
    let set = SharedSet::new(gpu, labels, labels / 2, SEED).unwrap();
    let mut recording = Recording::new();
    set.record(&mut recording, gpu.caps(), 3, &on.batch(), &Candidates::Uniform).unwrap();
    let good = run(gpu, &set.active, &recording);
    for (name, from, to) in [
        ("fill_draw", "1u - ((marks[id / 32u] >> (id % 32u)) & 1u)", "1u"),
        ("fill_mark", "ranks[q] < room", "ranks[q] <= room"),
    ] {
        assert!(run(gpu, &set.active, &broken(&recording, name, from, to)) != good, "'{to}' in {name} went unseen");
    }
    let sets = SampleSets::new(gpu, labels, [9, 40], 301, SEED).unwrap();
    let rows = of_samples(0, &mut random, labels, &own, 300);
    let ids = common::tensor(gpu, &[9, 300], &rows.concat());
    let given = SampleCandidates { ids: &ids, groups: 6, choice: SampleChoice::Most };
    let mut recording = Recording::new();
    sets.record(&mut recording, gpu.caps(), 3, &on.batch(), Some(&given)).unwrap();
    let good = run(gpu, &sets.active, &recording);
    for (name, from, to) in [
        ("sample_count", "atomicAdd(&table", "atomicMax(&table"),
        ("sample_sets", "BINS - 1u) > last", "BINS - 1u) > last + 1u"),
        ("sample_sets", "own_rounds = (end - start + ROUND - 1u)", "own_rounds = (end - start)"),
        ("sample_sets", "~(1u << (id % 32u))", "0xffffffffu"),
        (
            "sample_sets",
            "atomicOr(&marks[base + p.words + word / 32u]",
            "atomicAnd(&marks[base + p.words + word / 32u]",
        ),
        ("sample_sets", "stir(salt ^ g)", "stir(salt)"),
        ("sample_ids", "place += counts[t];", ""),
        ("pair_heads", "i == 0u || keys[i] != keys[max(i, 1u) - 1u]", "keys[i] != keys[max(i, 1u) - 1u]"),
        ("pair_touched", "vec2<u32>(keys[i], i)", "vec2<u32>(keys[i], rank)"),
    ] {
        let bad = broken(&recording, name, from, to);
        assert!(run(gpu, &sets.active, &bad) != good, "'{to}' in {name} went unseen");
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let Some(gpu) = common::device("sizes_that_cannot_be_are_refused", false) else { return };
    for (labels, size) in [(10, 0), (10, 11), (0, 0)] {
        assert_eq!(SharedSet::new(gpu, labels, size, 1).unwrap_err().kind(), ErrorKind::BadInput);
        assert_eq!(SampleSets::new(gpu, labels, [1, size], 0, 1).unwrap_err().kind(), ErrorKind::BadInput);
    }
    assert_eq!(SampleSets::new(gpu, 10, [2, 5], 0, 1).unwrap_err().kind(), ErrorKind::BadInput);
    assert_eq!(SampleSets::new(gpu, 100_000, [2, 20_000], 0, 1).unwrap_err().kind(), ErrorKind::TooBig);
    assert_eq!(SampleSets::new(gpu, 100_000, [2, 20], 40_000, 1).unwrap_err().kind(), ErrorKind::TooBig);
    let on = Labels::new(gpu, &[vec![1, 2, 3, 4, 5], vec![7]]);
    let shared = |candidates: &Candidates<'_>, size: usize| {
        let set = SharedSet::new(gpu, 10, size, 1).unwrap();
        let error = set.record(&mut Recording::new(), gpu.caps(), 1, &on.batch(), candidates);
        error.map_err(|e| e.kind())
    };
    assert_eq!(shared(&Candidates::Uniform, 6), Ok(()));
    assert_eq!(shared(&Candidates::Uniform, 5), Err(ErrorKind::BadInput));
    let table = common::tensor(gpu, &[9, 2], &[0; 18]);
    assert_eq!(shared(&Candidates::Neighbours(&table, Choice::Most), 6), Err(ErrorKind::Internal));
    let draws = Draws::new(gpu, &Distribution::new(&[1.0; 9]).unwrap(), 5).unwrap();
    assert_eq!(shared(&Candidates::Draws(&draws), 6), Err(ErrorKind::Internal));
    let sets = SampleSets::new(gpu, 10, [2, 4], 8, 1).unwrap();
    let record = |samples: &Labels, given: Option<&SampleCandidates<'_>>| {
        sets.record(&mut Recording::new(), gpu.caps(), 1, &samples.batch(), given).map_err(|e| e.kind())
    };
    assert_eq!(record(&on, None), Err(ErrorKind::BadInput));
    assert_eq!(record(&Labels::new(gpu, &[vec![1]]), None), Err(ErrorKind::Internal));
    let few = Labels::new(gpu, &[vec![1], vec![]]);
    for (columns, groups, kind) in [(8, 2, None), (8, 3, Some(ErrorKind::Internal)), (12, 2, Some(ErrorKind::Internal))]
    {
        let ids = common::tensor(gpu, &[2, columns], &vec![0; 2 * columns]);
        let given = SampleCandidates { ids: &ids, groups, choice: SampleChoice::Most };
        assert_eq!(record(&few, Some(&given)).err(), kind, "{columns} in {groups}");
    }
}

/// The seconds of a step at the size of Amazon-670K, after one that compiles, and the set that it chose.
fn timed(gpu: &Gpu, what: &str, active: &ActiveSet, record: impl Fn(&mut Recording, u32)) -> Left {
    let mut recording = Recording::new();
    record(&mut recording, 1);
    let left = run(gpu, active, &recording);
    let start = Instant::now();
    for step in 2..7 {
        let mut recording = Recording::new();
        record(&mut recording, step);
        gpu.run(&recording, &Control::default()).unwrap();
    }
    let ms = start.elapsed().as_secs_f64() * 200.0;
    say(&format!("{what}: {ms:.2} ms a step, statistics {:?}", left.statistics));
    left
}

#[test]
fn sets_of_670091_labels() {
    let Some(gpu) = common::device("sets_of_670091_labels", false) else { return };
    let (labels, count) = (670_091, 256);
    let mut random = Random::new(6);
    let own = samples(&mut random, labels, count, 10);
    let on = Labels::new(gpu, &own);
    let host = own.concat();
    let size = 1000 + on.batch().distinct;
    let set = SharedSet::new(gpu, labels, size, SEED).unwrap();
    let check = |what: &str, given: &Candidates<'_>, twin: Option<(&[Vec<u32>], Choice)>| {
        let left = timed(gpu, what, &set.active, |recording, step| {
            set.record(recording, gpu.caps(), step, &on.batch(), given).unwrap();
        });
        check_shared(what, &left, &twin::shared(labels, size, SEED, 1, &host, twin));
    };
    check("shared, uniform", &Candidates::Uniform, None);
    let rows = of_samples(0, &mut random, labels, &own, 800);
    let list = common::tensor(gpu, &[count, 800], &rows.concat());
    for choice in [Choice::Most, Choice::Seeded, Choice::First] {
        let what = format!("shared, 204,800 candidates, {choice:?}");
        check(&what, &Candidates::List(&list, choice), Some((&rows, choice)));
    }
    let ranked: Vec<u32> = (0..word(labels)).collect();
    let distribution = Distribution::log_uniform(&ranked).unwrap();
    let drawn = distribution.enough(size);
    let draws = Draws::new(gpu, &distribution, drawn).unwrap();
    let rows_drawn = [distribution.draws(SEED, 1, drawn)];
    check(&format!("shared, {drawn} draws"), &Candidates::Draws(&draws), Some((&rows_drawn, Choice::First)));
    let sets = SampleSets::new(gpu, labels, [count, 1000], 800, SEED).unwrap();
    for choice in [None, Some(SampleChoice::First), Some(SampleChoice::Most)] {
        let given = choice.map(|choice| SampleCandidates { ids: &list, groups: 50, choice });
        let left = timed(gpu, &format!("1000 a sample, {choice:?}"), &sets.active, |recording, step| {
            sets.record(recording, gpu.caps(), step, &on.batch(), given.as_ref()).unwrap();
        });
        for sample in [0, 1, 255] {
            let candidates = choice.map(|choice| (&rows[sample][..], 50, choice));
            let twin = twin::sample(labels, 1000, (SEED, 1, word(sample)), &own[sample], candidates);
            assert!(left.ids[sample * 1000..(sample + 1) * 1000] == twin.0, "sample {sample}");
        }
    }
}

#[test]
fn tables_of_670091_keys() {
    let Some(gpu) = common::device("tables_of_670091_keys", false) else { return };
    let (rows, n, bits) = (5, 670_091, 24);
    let mut random = Random::new(9);
    let keys: Vec<u32> = (0..rows * n).map(|_| word(random.below(1 << bits))).collect();
    let on = common::tensor(gpu, &[rows, n], &keys);
    let out = [common::poisoned(gpu, &[rows, n]), common::poisoned(gpu, &[rows, n])];
    let workspace = sort::Workspace::new(gpu, rows, n, bits).unwrap();
    let mut recording = Recording::new();
    let operands = sort::Operands { keys: &on, payload: None, out_keys: &out[0], out_payload: &out[1] };
    sort::record(&mut recording, gpu.caps(), &workspace, &operands).unwrap();
    let got = common::run(gpu, &recording, &out[1], false);
    for (row, got) in keys.chunks(n).zip(got.chunks(n)) {
        let mut order: Vec<u32> = (0..word(n)).collect();
        order.sort_by_key(|&i| row[i as usize]);
        assert!(got == order);
    }
    let seconds = gpu.run(&recording, &Control::default()).unwrap().seconds;
    say(&format!("{rows} x {n} keys of {bits} bits sorted in {:.1} ms", seconds * 1e3));
}
