//! Sets of each sample's own.

use wavehull::gpu::{Command, Recording};
use wavehull::hash::active::{SampleCandidates, SampleChoice, SampleSets, twin};
use wavehull::{Gpu, Options};

use crate::common::{self, Random, changed};
use crate::{Labels, Left, SEED, of_samples, on_both, run, samples, word};

/// Labels, size, samples, labels of a sample; groups and width of candidates.
const SAMPLES: [([usize; 4], [usize; 2]); 6] = [
    ([5, 4, 1, 3], [1, 1]),
    ([12, 12, 3, 4], [2, 3]),
    ([1000, 20, 5, 6], [7, 9]),
    ([4099, 100, 9, 100], [5, 64]),
    ([20_001, 60, 33, 5], [50, 16]),
    ([300, 200, 4, 9], [3, 129]),
];

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

/// Counts end at 255; who is returned more often is still before who is returned less often than that.
#[test]
fn labels_that_are_returned_very_often_come_first() {
    on_both("labels_that_are_returned_very_often_come_first", |gpu| {
        let given = [(700, 300), (50, 257), (900, 258), (20, 200), (30, 100)];
        let row = given.map(|(id, times)| vec![id; times]).concat();
        let ids = common::tensor(gpu, &[1, row.len()], &row);
        for own in [&[7][..], &[7, 8], &[7, 8, 9]] {
            let on = Labels::new(gpu, &[own.to_vec()]);
            let sets = SampleSets::new(gpu, 1000, [1, 4], row.len(), SEED).unwrap();
            let mut recording = Recording::new();
            let candidates = SampleCandidates { ids: &ids, groups: 1, choice: SampleChoice::Most };
            sets.record(&mut recording, gpu.caps(), 2, &on.batch(), Some(&candidates)).unwrap();
            let expected = twin::sample(1000, 4, (SEED, 2, 0), own, Some((&row, 1, SampleChoice::Most)));
            let often = [700, 50, 900].iter().filter(|id| expected.0.contains(id)).count();
            assert_eq!(often, 4 - own.len());
            check_samples(&format!("{own:?}"), &run(gpu, &sets.active, &recording), [1000, 4], &[expected]);
        }
    });
}
