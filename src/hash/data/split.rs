//! Training and test samples.

use crate::error::{Error, Result};
use crate::hash::set::{Lists, SparseSet};
use crate::ops::random::{Stream, purpose};

/// Splits a set: `test` of its samples, drawn by the seed, and the others. Both keep the order of the set; the same seed draws the same
/// samples on every machine. Returns training and test samples.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] if either would be empty.
pub fn split(set: &SparseSet, test: usize, seed: u64) -> Result<(SparseSet, SparseSet)> {
    if test == 0 || test >= set.len() {
        return Err(Error::bad_input(format!("{test} test samples of {} leave one part empty", set.len()))
            .with_help("keep at least one sample in each part"));
    }
    let mut order = Stream::new(seed).permutation(set.len(), 0, purpose::SPLIT);
    let (tests, trains) = order.split_at_mut(test);
    tests.sort_unstable();
    trains.sort_unstable();
    Ok((select(set, trains)?, select(set, tests)?))
}

/// Some samples of a set, in the order of `chosen`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for a sample that the set does not have.
pub fn select(set: &SparseSet, chosen: &[u32]) -> Result<SparseSet> {
    if let Some(sample) = chosen.iter().find(|&&sample| sample as usize >= set.len()) {
        return Err(Error::internal(format!("sample {sample} of {}", set.len())));
    }
    let rows = |lists: &Lists| {
        let mut out = Lists { offsets: Vec::with_capacity(chosen.len() + 1), ids: Vec::new() };
        out.offsets.push(0);
        for &sample in chosen {
            out.ids.extend_from_slice(lists.row(sample as usize));
            out.offsets.push(out.ids.len());
        }
        out
    };
    let values = chosen.iter().flat_map(|&sample| &set.values[set.features.range(sample as usize)]).copied();
    Ok(SparseSet {
        feature_count: set.feature_count,
        label_count: set.label_count,
        features: rows(&set.features),
        values: values.collect(),
        labels: rows(&set.labels),
    })
}
