//! What a set is like.

use crate::hash::set::{Lists, SparseSet};

/// How a count is spread over samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The median; of an even number of samples the upper of the two.
    pub median: usize,
    /// The largest.
    pub max: usize,
}

impl Spread {
    /// The spread of the lengths of rows; zeros for none.
    pub fn of(lists: &Lists) -> Self {
        let mut lengths: Vec<usize> = lists.offsets.windows(2).map(|ends| ends[1] - ends[0]).collect();
        if lengths.is_empty() {
            return Self::default();
        }
        let middle = lengths.len() / 2;
        let median = *lengths.select_nth_unstable(middle).1;
        let max = lengths.iter().copied().max().unwrap_or(0);
        Self { mean: lists.ids.len() as f64 / lengths.len() as f64, median, max }
    }
}

/// Figures of a set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Statistics {
    /// Number of samples.
    pub samples: usize,
    /// Number of features that ids count to.
    pub features: usize,
    /// Number of labels that ids count to.
    pub labels: usize,
    /// Features that some sample has.
    pub features_seen: usize,
    /// Labels that some sample has.
    pub labels_seen: usize,
    /// Non-zeros a sample.
    pub non_zeros: Spread,
    /// Labels a sample.
    pub labels_a_sample: Spread,
    /// Bytes that the set takes in memory.
    pub bytes: usize,
}

impl Statistics {
    /// Those of a set.
    pub fn of(set: &SparseSet) -> Self {
        let seen = |lists: &Lists, count| frequencies(lists, count).iter().filter(|&&n| n > 0).count();
        let words = set.features.ids.len() + set.values.len() + set.labels.ids.len();
        let offsets = set.features.offsets.len() + set.labels.offsets.len();
        Self {
            samples: set.len(),
            features: set.feature_count,
            labels: set.label_count,
            features_seen: seen(&set.features, set.feature_count),
            labels_seen: seen(&set.labels, set.label_count),
            non_zeros: Spread::of(&set.features),
            labels_a_sample: Spread::of(&set.labels),
            bytes: 4 * words + size_of::<usize>() * offsets,
        }
    }
}

/// How many samples have each of `count` ids. Ids beyond are not counted.
pub fn frequencies(lists: &Lists, count: usize) -> Vec<u32> {
    let mut frequencies = vec![0_u32; count];
    for &id in &lists.ids {
        if let Some(n) = frequencies.get_mut(id as usize) {
            *n = n.saturating_add(1);
        }
    }
    frequencies
}

/// Labels of a test set that no training sample has: what no model can learn to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Unseen {
    /// Distinct labels of the test set that no training sample has.
    pub labels: usize,
    /// How often they stand in the test set.
    pub occurrences: usize,
    /// Test samples that have no other label.
    pub samples: usize,
}

impl Unseen {
    /// Compares a test set with the label frequencies of the training set.
    pub fn of(frequencies: &[u32], test: &SparseSet) -> Self {
        let unseen = |label: &u32| frequencies.get(*label as usize).is_none_or(|&n| n == 0);
        let mut labels: Vec<u32> = test.labels.ids.iter().copied().filter(|label| unseen(label)).collect();
        let occurrences = labels.len();
        labels.sort_unstable();
        labels.dedup();
        let lost = |i: &usize| !test.labels.row(*i).is_empty() && test.labels.row(*i).iter().all(unseen);
        Self { labels: labels.len(), occurrences, samples: (0..test.len()).filter(lost).count() }
    }
}

/// Propensities of labels by their frequencies among `samples` training samples: the chance that a label that is true was noted (Jain,
/// Prabhu, Varma: *Extreme multi-label loss functions*, KDD 2016, equation 3). `1 / (1 + C (n + b)^-a)` with `C = (ln N - 1) (b + 1)^a`.
/// They recommend `a` 0.55 and `b` 1.5; 0.6 and 2.6 for Amazon, 0.5 and 0.4 for Wikipedia. For scaled precision; not for what must be
/// the same bit for bit.
pub fn propensities(frequencies: &[u32], samples: usize, a: f64, b: f64) -> Vec<f64> {
    let c = ((samples as f64).ln() - 1.0).max(0.0) * (b + 1.0).powf(a);
    frequencies.iter().map(|&n| 1.0 / (1.0 + c * (f64::from(n) + b).powf(-a))).collect()
}
