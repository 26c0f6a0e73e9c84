use std::collections::BTreeSet;

use super::same;
use crate::hash::data::generate::{Recipe, generate};
use crate::hash::data::{Statistics, frequencies};
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
    // The excerpt that was measured: 1,882 labels of 512 samples, 8,982 features of 32,800 non-zeros.
    let labels = Statistics::of(&generate(&recipe, 1_000_000..1_000_512, 1).unwrap());
    near(labels.labels_seen as f64, 1882.0, 0.15);
    let features = Statistics::of(&generate(&recipe, 2_000_000..2_000_420, 1).unwrap());
    println!("{labels:?} {features:?}");
    near(features.non_zeros.mean * 420.0, 32_800.0, 0.1);
    near(features.features_seen as f64, 8982.0, 0.15);
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

const KNOWN: u32 = 0x2721_3740;

/// Ten nearest neighbours by tf-idf without the tf: the plainest learner there is must do well.
#[test]
fn it_can_be_learnt() {
    let recipe = Recipe::with_labels(2000, 2);
    let train = generate(&recipe, 0..1460, 0).unwrap();
    let test = generate(&recipe, 1460..1660, 0).unwrap();
    let seen = frequencies(&train.features, recipe.features);
    let weight = |f: u32| (1460.0 / (1.0 + f64::from(seen[f as usize]))).ln().max(0.0).powi(2);
    let most = frequencies(&train.labels, 2000).iter().enumerate().max_by_key(|(_, n)| **n).unwrap().0;
    let (mut right, mut plain) = (0, 0);
    for i in 0..test.len() {
        let own: BTreeSet<u32> = test.features.row(i).iter().copied().collect();
        let cosine = |j: usize| -> f64 {
            let shared: f64 = train.features.row(j).iter().filter(|f| own.contains(f)).map(|&f| weight(f)).sum();
            shared / train.features.row(j).iter().map(|&f| weight(f)).sum::<f64>().sqrt()
        };
        let mut near: Vec<(f64, usize)> = (0..train.len()).map(|j| (cosine(j), j)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut votes = vec![0.0; 2000];
        for &(cosine, j) in &near[..10] {
            train.labels.row(j).iter().for_each(|&label| votes[label as usize] += cosine);
        }
        let best = (0..2000).max_by(|&a, &b| votes[a].total_cmp(&votes[b])).unwrap();
        let has = |label: usize| test.labels.row(i).contains(&u32::try_from(label).unwrap());
        right += usize::from(has(best));
        plain += usize::from(has(most));
    }
    println!("P@1 {:.3} by neighbours, {:.3} by the most frequent label", right as f64 / 200.0, plain as f64 / 200.0);
    assert!(right > 90 && right > 2 * plain, "{right}, {plain} of 200");
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
