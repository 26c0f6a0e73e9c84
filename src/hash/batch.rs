//! The samples of a step, gathered on the host: what the input layer reads forward, and the same sorted by feature for the way back.

use super::set::SparseSet;
use crate::error::{Error, Result};

/// Samples of a step. The bias is one more feature, number `feature_count`, with the value 1, behind those of every sample.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Number of samples B.
    pub samples: usize,
    /// `[B + 1]`: where each sample starts in `features`.
    pub offsets: Vec<u32>,
    /// `[E]`: rows of the input table.
    pub features: Vec<u32>,
    /// `[E]`: their values.
    pub values: Vec<f32>,
    /// Rows of the input table that the batch touches, as [`super::Touched`] holds them: `[rows, E]`, then `[row, first entry]` by
    /// ascending row, then `[u32::MAX, E]`.
    pub touched: Vec<[u32; 2]>,
    /// `[E]`: by ascending row and then sample: the sample, and the bits of the value.
    pub entries: Vec<[u32; 2]>,
    /// `[B + 1]`: where each sample starts in `labels`.
    pub label_offsets: Vec<u32>,
    /// Labels, ascending in each sample.
    pub labels: Vec<u32>,
}

impl Batch {
    /// Gathers samples `chosen` of a set.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for a sample that the set does not have, [`crate::ErrorKind::TooBig`] beyond 2^32 non-zeros.
    pub fn new(set: &SparseSet, chosen: &[u32]) -> Result<Self> {
        Self::with_bias(set, chosen, set.feature_count)
    }

    /// [`Batch::new`] with another number for the bias, for networks with more features than the set.
    ///
    /// # Errors
    /// As [`Batch::new`].
    pub fn with_bias(set: &SparseSet, chosen: &[u32], bias: usize) -> Result<Self> {
        let mut batch = Self { samples: chosen.len(), offsets: vec![0], label_offsets: vec![0], ..Self::default() };
        let bias = crate::ops::word(bias)?;
        for &sample in chosen {
            let sample = sample as usize;
            if sample >= set.len() {
                return Err(Error::internal(format!("sample {sample} of {}", set.len())));
            }
            batch.features.extend_from_slice(set.features.row(sample));
            batch.values.extend_from_slice(&set.values[set.features.range(sample)]);
            batch.features.push(bias);
            batch.values.push(1.0);
            batch.offsets.push(crate::ops::word(batch.features.len())?);
            batch.labels.extend_from_slice(set.labels.row(sample));
            batch.label_offsets.push(crate::ops::word(batch.labels.len())?);
        }
        batch.turn();
        Ok(batch)
    }

    /// Sorts the entries by feature; those of a feature stay in the order of the samples.
    fn turn(&mut self) {
        let mut order: Vec<[u32; 2]> = (0..).zip(&self.features).map(|(entry, &feature)| [feature, entry]).collect();
        sort_by_first(&mut order);
        let mut samples = Vec::with_capacity(order.len());
        for (sample, ends) in (0_u32..).zip(self.offsets.windows(2)) {
            samples.resize(ends[1] as usize, sample);
        }
        let entry = |&[_, e]: &[u32; 2]| [samples[e as usize], self.values[e as usize].to_bits()];
        self.entries = order.iter().map(entry).collect();
        self.touched = vec![[0, 0]];
        let mut last = None;
        for (entry, &[feature, _]) in (0_u32..).zip(&order) {
            if last != Some(feature) {
                self.touched.push([feature, entry]);
                last = Some(feature);
            }
        }
        // Both counts were seen to fit a word when the offsets were written.
        let [rows, entries] = [self.touched.len() - 1, order.len()].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        self.touched[0] = [rows, entries];
        self.touched.push([u32::MAX, entries]);
    }

    /// Number of different labels.
    pub fn distinct_labels(&self) -> usize {
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        labels.dedup();
        labels.len()
    }

    /// Labels of the sample that has most.
    pub fn most_labels(&self) -> usize {
        self.label_offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0)
    }

    /// Rows of the input table that the batch touches.
    pub fn touched_rows(&self) -> usize {
        self.touched.len().saturating_sub(2)
    }
}

/// Sorts by the first word; what is equal in it keeps its order. Digits from the lowest up: a comparing sort takes several times as long, on
/// the thread that steps.
fn sort_by_first(list: &mut Vec<[u32; 2]>) {
    const BITS: u32 = 11;
    let most = list.iter().map(|pair| pair[0]).max().unwrap_or(0);
    let mut other = vec![[0; 2]; list.len()];
    for shift in (0..u32::BITS - most.leading_zeros()).step_by(BITS as usize) {
        let digit = |pair: &[u32; 2]| (pair[0] >> shift) as usize % (1 << BITS);
        let mut places = [0; 1 << BITS];
        for pair in &*list {
            places[digit(pair)] += 1;
        }
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for pair in &*list {
            let place = &mut places[digit(pair)];
            other[*place] = *pair;
            *place += 1;
        }
        std::mem::swap(list, &mut other);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Batch, sort_by_first};
    use crate::hash::set::{Lists, SparseSet};

    #[test]
    fn a_batch_is_its_samples_and_the_same_sorted_by_feature() {
        let set = SparseSet {
            feature_count: 4,
            label_count: 3,
            features: Lists { offsets: vec![0, 2, 2, 4], ids: vec![1, 3, 0, 1] },
            values: vec![0.5, 2.0, -1.0, 4.0],
            labels: Lists { offsets: vec![0, 1, 3, 3], ids: vec![2, 0, 1] },
        };
        set.check().unwrap();
        let batch = Batch::new(&set, &[2, 0, 1]).unwrap();
        assert_eq!(batch.offsets, [0, 3, 6, 7]);
        assert_eq!(batch.features, [0, 1, 4, 1, 3, 4, 4]);
        assert_eq!(batch.values, [-1.0, 4.0, 1.0, 0.5, 2.0, 1.0, 1.0]);
        assert_eq!(batch.touched, [[4, 7], [0, 0], [1, 1], [3, 3], [4, 4], [u32::MAX, 7]]);
        let entry = |sample: u32, value: f32| [sample, value.to_bits()];
        let expected = [(0, -1.0), (0, 4.0), (1, 0.5), (1, 2.0), (0, 1.0), (1, 1.0), (2, 1.0)];
        assert_eq!(batch.entries, expected.map(|(sample, value)| entry(sample, value)));
        assert_eq!((batch.label_offsets, batch.labels), (vec![0, 0, 1, 3], vec![2, 0, 1]));
        assert!(Batch::new(&set, &[3]).is_err());
    }

    proptest! {
        #[test]
        fn sorting_is_stable(keys in prop::collection::vec(prop_oneof![0..4_u32, 0..5_000_u32, any::<u32>()], 0..300)) {
            let mut list: Vec<[u32; 2]> = keys.iter().zip(0..).map(|(&key, i)| [key, i]).collect();
            let mut expected = list.clone();
            expected.sort_by_key(|pair| pair[0]);
            sort_by_first(&mut list);
            prop_assert_eq!(list, expected);
        }
    }
}
