//! The size of Amazon-670K.

use std::time::Instant;

use wavehull::gpu::Recording;
use wavehull::hash::active::{
    ActiveSet, Candidates, Choice, Distribution, Draws, SampleCandidates, SampleChoice, SampleSets, SharedSet, twin,
};
use wavehull::ops::sort;
use wavehull::{Control, Gpu};

use crate::common::{self, Random, say};
use crate::shared::check_shared;
use crate::{Labels, Left, SEED, of_samples, run, samples, word};

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
