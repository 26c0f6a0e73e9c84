//! Active sets on the device against their twins on the host.
#![cfg(feature = "hash")]

#[path = "../common/mod.rs"]
mod common;
mod large;
mod own;
mod random;
mod shared;

use std::collections::BTreeSet;

use common::{POISON, Random, broken};
use wavehull::gpu::Recording;
use wavehull::hash::active::{
    ActiveSet, BatchLabels, Candidates, Choice, Distribution, Draws, NONE, SampleCandidates, SampleChoice, SampleSets,
    SharedSet,
};
use wavehull::{Control, ErrorKind, Gpu, Tensor};

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
