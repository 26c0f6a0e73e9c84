//! Sets that a batch shares.

use wavehull::gpu::Recording;
use wavehull::hash::active::{Candidates, Choice, Distribution, Draws, SharedSet, twin};

use crate::common::{self, Random};
use crate::{Labels, Left, SEED, candidates, on_both, run, samples, word};

/// A shared set on the device must be that of the twin.
pub fn check_shared(what: &str, left: &Left, twin: &(Vec<u32>, [u32; 4])) {
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

/// As many candidates as there is room, one less, and one more: the last are ranked, the others all stay.
#[test]
fn candidates_that_fill_a_set_exactly_are_all_chosen() {
    on_both("candidates_that_fill_a_set_exactly_are_all_chosen", |gpu| {
        let (labels, room) = (3000, 50);
        let own = vec![vec![1, 2, 3], vec![], vec![3, 2999]];
        let (on, host) = (Labels::new(gpu, &own), own.concat());
        let size = on.batch().distinct + room;
        let set = SharedSet::new(gpu, labels, size, SEED).unwrap();
        for count in [room - 1, room, room + 1] {
            // Each once, and some more often.
            let row: Vec<u32> = (0..word(count)).map(|i| 10 + 7 * i).chain((0..9).map(|i| 10 + 7 * (i % 4))).collect();
            let list = common::tensor(gpu, &[1, row.len()], &row);
            for choice in [Choice::First, Choice::Most, Choice::Seeded] {
                let mut recording = Recording::new();
                set.record(&mut recording, gpu.caps(), 4, &on.batch(), &Candidates::List(&list, choice)).unwrap();
                let expected = twin::shared(labels, size, SEED, 4, &host, Some((std::slice::from_ref(&row), choice)));
                assert_eq!(expected.1[1] as usize, count.min(room));
                let left = run(gpu, &set.active, &recording);
                check_shared(&format!("{count} candidates, {choice:?}"), &left, &expected);
            }
        }
    });
}

/// Counts end at 2,047; who is returned more often is still before who is returned less often than that.
#[test]
fn labels_that_are_returned_very_often_come_first() {
    on_both("labels_that_are_returned_very_often_come_first", |gpu| {
        let on = Labels::new(gpu, &[vec![1], vec![1, 2]]);
        let host = on.samples.concat();
        let row = [(700, 3000), (50, 1500), (900, 2500), (20, 2046)].map(|(id, times)| vec![id; times]).concat();
        let list = common::tensor(gpu, &[1, row.len()], &row);
        for room in 1..5 {
            let set = SharedSet::new(gpu, 1000, 2 + room, SEED).unwrap();
            for step in 0..3 {
                let mut recording = Recording::new();
                set.record(&mut recording, gpu.caps(), step, &on.batch(), &Candidates::List(&list, Choice::Most))
                    .unwrap();
                let expected =
                    twin::shared(1000, 2 + room, SEED, step, &host, Some((std::slice::from_ref(&row), Choice::Most)));
                let often = [700, 900].iter().filter(|id| expected.0.contains(id)).count();
                assert_eq!(often, room.min(2));
                check_shared(&format!("room for {room}"), &run(gpu, &set.active, &recording), &expected);
            }
        }
    });
}
