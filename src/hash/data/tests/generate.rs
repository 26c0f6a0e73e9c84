use std::collections::BTreeSet;
use std::time::Instant;

use super::same;
use crate::hash::data::Statistics;
use crate::hash::data::generate::{Recipe, generate};
use crate::hash::set::SparseSet;

fn quantile(sorted: &[f32], share: f64) -> f32 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

#[test]
fn figures_are_those_of_amazon_670k() {
    let recipe = Recipe::amazon_670k(1);
    let set = generate(&recipe, 0..8000, 0).unwrap();
    set.check().unwrap();
    let figures = Statistics::of(&set);
    println!("{figures:?}");
    let near = |value: f64, wanted: f64, share: f64| {
        assert!((value / wanted - 1.0).abs() < share, "{value}, not {wanted}");
    };
    near(figures.labels_a_sample.mean, 5.26, 0.02);
    assert!(figures.labels_a_sample.max <= 8);
    near(figures.non_zeros.mean, 78.0, 0.05);
    near(figures.non_zeros.median as f64, 42.0, 0.05);
    assert_eq!(figures.non_zeros.max, 702);
    let mut values = set.values.clone();
    values.sort_unstable_by(f32::total_cmp);
    for (share, wanted) in [(0.1, 3.3), (0.5, 7.5), (0.9, 27.0), (0.99, 79.0)] {
        near(f64::from(quantile(&values, share)), wanted, 0.03);
    }
    assert!(values[0] > 0.0 && *values.last().unwrap() <= 663.0);
    // The excerpt of 512 samples that was measured: 1,882 labels, 8,982 features.
    let excerpt = Statistics::of(&generate(&recipe, 1_000_000..1_000_512, 1).unwrap());
    println!("{excerpt:?}");
    near(excerpt.labels_seen as f64, 1882.0, 0.15);
    near(excerpt.features_seen as f64, 8982.0, 0.15);
}

#[test]
fn a_sample_is_the_same_in_every_range_and_by_any_number_of_threads() {
    let recipe = Recipe::with_labels(1003, 7);
    let one = generate(&recipe, 0..5000, 1).unwrap();
    assert!(same(&one, &generate(&recipe, 0..5000, 3).unwrap()));
    let tail = generate(&recipe, 4990..5000, 2).unwrap();
    for i in 0..10 {
        assert_eq!(tail.features.row(i), one.features.row(4990 + i));
        assert_eq!(tail.labels.row(i), one.labels.row(4990 + i));
    }
    assert!(!same(&tail, &generate(&Recipe { seed: 8, ..recipe }, 4990..5000, 1).unwrap()));
    assert_eq!(generate(&recipe, 5..5, 2).unwrap().len(), 0);
}

/// CRC-32 of all that a set says.
fn sum(set: &SparseSet) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for ids in [&set.features.ids, &set.labels.ids] {
        ids.iter().for_each(|id| crc.update(&id.to_le_bytes()));
    }
    set.values.iter().for_each(|value| crc.update(&value.to_bits().to_le_bytes()));
    set.features.offsets.iter().for_each(|&at| crc.update(&(at as u64).to_le_bytes()));
    crc.finalize()
}

#[test]
fn every_host_makes_these_bits() {
    assert_eq!(sum(&generate(&Recipe::amazon_670k(3), 0..200, 1).unwrap()), KNOWN);
}

const KNOWN: u32 = 0;

#[test]
fn samples_of_a_label_share_what_others_have_not() {
    let recipe = Recipe { features: 5000, median_non_zeros: 30.0, most_non_zeros: 200, ..Recipe::with_labels(200, 2) };
    let set = generate(&recipe, 0..400, 0).unwrap();
    // Features that more than a twentieth of all samples have tell nothing.
    let frequent = crate::hash::data::frequencies(&set.features, 5000);
    let rare = |i: usize| -> BTreeSet<u32> {
        set.features.row(i).iter().copied().filter(|&f| frequent[f as usize] < 20).collect()
    };
    let group = |i: usize| -> BTreeSet<u32> { set.labels.row(i).iter().copied().collect() };
    let (mut same, mut other) = ((0, 0), (0, 0));
    for i in 0..400 {
        for j in 0..i {
            let shared = rare(i).intersection(&rare(j)).count();
            let related = group(i).intersection(&group(j)).count() > 0;
            let sums = if related { &mut same } else { &mut other };
            *sums = (sums.0 + shared, sums.1 + 1);
        }
    }
    let mean = |sums: (usize, usize)| sums.0 as f64 / sums.1 as f64;
    println!("{:.2} rare features shared with a label in common, {:.2} without", mean(same), mean(other));
    assert!(mean(same) > 5.0 * mean(other));
}

#[test]
fn small_and_odd_sets_are_made_and_senseless_ones_refused() {
    for labels in [1, 7, 8, 9, 100] {
        let recipe = Recipe { features: 16, ..Recipe::with_labels(labels, 0) };
        let set = generate(&recipe, 0..300, 2).unwrap();
        set.check().unwrap();
        let figures = Statistics::of(&set);
        assert!(figures.non_zeros.max <= 8 && (0..300).all(|i| !set.features.row(i).is_empty()));
        assert!((0..300).all(|i| !set.labels.row(i).is_empty()), "{labels}");
        assert!(labels > 9 || figures.labels_seen == labels, "{labels}: {figures:?}");
    }
    assert!(generate(&Recipe::with_labels(0, 0), 0..1, 1).is_err());
    assert!(generate(&Recipe { features: 3, ..Recipe::amazon_670k(0) }, 0..1, 1).is_err());
    assert!(generate(&Recipe { median_non_zeros: f64::NAN, ..Recipe::amazon_670k(0) }, 0..1, 1).is_err());
    assert!(generate(&Recipe::amazon_670k(0), 0..u32::MAX as usize, 1).is_err());
    assert_eq!(Recipe::amazon_670k(0).training_samples(), 490_449);
    assert_eq!(Recipe::with_labels(100_000, 0).training_samples(), 73_191);
}

#[test]
#[ignore = "the whole set: 400 MB and some seconds"]
fn the_whole_set() {
    for threads in [1, 2] {
        let start = Instant::now();
        let set = generate(&Recipe::amazon_670k(0), 0..Recipe::TRAINING, threads).unwrap();
        println!("{threads} threads: {:.2} s", start.elapsed().as_secs_f64());
        println!("{:?}", Statistics::of(&set));
    }
}
