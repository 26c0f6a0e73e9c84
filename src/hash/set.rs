//! Sparse samples with many labels, as they lie in memory of the host.

use std::ops::Range;

use crate::error::{Error, Result};

/// Rows of different lengths, one after the other (compressed sparse rows without values).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lists {
    /// Where each row starts in `ids`, and where the last ends: one more than there are rows.
    pub offsets: Vec<usize>,
    /// Ids, ascending and distinct in each row.
    pub ids: Vec<u32>,
}

impl Lists {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where row `i` lies in `ids`.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.offsets[i]..self.offsets[i + 1]
    }

    /// Ids of row `i`.
    pub fn row(&self, i: usize) -> &[u32] {
        &self.ids[self.range(i)]
    }
}

/// Samples of an extreme multi-label problem: sparse features with values, and labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseSet {
    /// Number of features; ids are below it.
    pub feature_count: usize,
    /// Number of labels; ids are below it.
    pub label_count: usize,
    /// Features of each sample.
    pub features: Lists,
    /// The value of each of `features.ids`, finite.
    pub values: Vec<f32>,
    /// Labels of each sample; a sample may have none.
    pub labels: Lists,
}

impl SparseSet {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks what the fields promise, for sets that did not come from a reader of this module.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] that names the first sample at fault.
    pub fn check(&self) -> Result<()> {
        if self.labels.len() != self.len() || self.values.len() != self.features.ids.len() {
            let what = format!("{} samples with {} lists of labels", self.len(), self.labels.len());
            return Err(Error::bad_input(what).with_help("every sample has one list of features and one of labels"));
        }
        for (lists, count, what) in
            [(&self.features, self.feature_count, "feature"), (&self.labels, self.label_count, "label")]
        {
            if lists.offsets.first().is_some_and(|&first| first != 0) || lists.offsets.last() != Some(&lists.ids.len())
            {
                return Err(Error::bad_input(format!("lists of {what}s that do not end where their ids end")));
            }
            for i in 0..lists.len() {
                let fits = lists.offsets[i] <= lists.offsets[i + 1] && lists.offsets[i + 1] <= lists.ids.len();
                let row = if fits { lists.row(i) } else { &[] };
                if !fits || row.last().is_some_and(|&id| id as usize >= count) || row.windows(2).any(|w| w[0] >= w[1]) {
                    return Err(Error::bad_input(format!("sample {i}: {what}s are not ascending ids below {count}"))
                        .with_help("sort the ids of every sample, drop doubles, and count ids from 0"));
                }
            }
        }
        match (0..self.len()).find(|&i| self.values[self.features.range(i)].iter().any(|v| !v.is_finite())) {
            Some(i) => Err(Error::bad_input(format!("sample {i}: a value that is no number"))),
            None => Ok(()),
        }
    }
}
