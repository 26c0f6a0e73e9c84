//! What is drawn depends on seed, step and sample alone, and favours no label.

use wavehull::gpu::Recording;
use wavehull::hash::active::{Candidates, Choice, SampleChoice, SampleSets, SharedSet, twin};

use crate::{Labels, SEED, common, run, word};

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
