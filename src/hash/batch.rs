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

    /// Sorts the entries by feature.
    fn turn(&mut self) {
        let mut order: Vec<(u32, u32, u32)> = Vec::with_capacity(self.features.len());
        for (sample, ends) in (0_u32..).zip(self.offsets.windows(2)) {
            let range = ends[0] as usize..ends[1] as usize;
            let own = self.features[range.clone()].iter().zip(&self.values[range]);
            order.extend(own.map(|(&feature, value)| (feature, sample, value.to_bits())));
        }
        order.sort_unstable();
        self.entries = order.iter().map(|&(_, sample, bits)| [sample, bits]).collect();
        self.touched = vec![[0, 0]];
        let mut last = None;
        for (entry, &(feature, ..)) in (0_u32..).zip(&order) {
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

#[cfg(test)]
mod tests {
    use super::Batch;
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
}
