//! Samples that one thread made, and work that threads share without showing in its result.

use crate::hash::set::{Lists, SparseSet};

/// Some samples, one after the other.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub feature_counts: Vec<u32>,
    pub features: Vec<u32>,
    pub values: Vec<f32>,
    pub label_counts: Vec<u32>,
    pub labels: Vec<u32>,
}

impl Part {
    /// Closes a sample whose features and labels begin at these places.
    pub fn close(&mut self, features: usize, labels: usize) {
        // Ids are distinct words, so a sample cannot have more than a word counts.
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.feature_counts.push(count(self.features.len() - features));
        self.label_counts.push(count(self.labels.len() - labels));
    }
}

/// A set without samples.
pub(super) fn empty(feature_count: usize, label_count: usize) -> SparseSet {
    let none = || Lists { offsets: vec![0], ids: Vec::new() };
    SparseSet { feature_count, label_count, features: none(), values: Vec::new(), labels: none() }
}

/// Puts samples behind those of a set.
pub(super) fn append(set: &mut SparseSet, part: &Part) {
    extend(&mut set.features, &part.feature_counts, &part.features);
    set.values.extend_from_slice(&part.values);
    extend(&mut set.labels, &part.label_counts, &part.labels);
}

fn extend(lists: &mut Lists, counts: &[u32], ids: &[u32]) {
    lists.ids.extend_from_slice(ids);
    push_counts(&mut lists.offsets, counts);
}

/// Puts the ends of rows of these lengths behind offsets.
pub(super) fn push_counts(offsets: &mut Vec<usize>, counts: &[u32]) {
    let mut end = offsets.last().copied().unwrap_or(0);
    offsets.extend(counts.iter().map(|&count| {
        end += count as usize;
        end
    }));
}

/// Gives back the room that growing took in advance.
pub(super) fn trim(set: &mut SparseSet) {
    set.features.ids.shrink_to_fit();
    set.features.offsets.shrink_to_fit();
    set.values.shrink_to_fit();
    set.labels.ids.shrink_to_fit();
    set.labels.offsets.shrink_to_fit();
}

/// The machine's threads, where it tells.
pub(super) fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    }
}

/// `work` of every item, in their order, a thread an item, while this thread does something else. One item or none is worked on by
/// this thread, so that a single thread needs no second one.
pub(super) fn beside<I: Sync, O: Send, R>(
    items: &[I],
    threads: usize,
    work: impl Fn(&I) -> O + Sync,
    meanwhile: impl FnOnce() -> R,
) -> (Vec<O>, R) {
    if threads <= 1 || items.is_empty() {
        return (items.iter().map(work).collect(), meanwhile());
    }
    let mut results: Vec<Option<O>> = items.iter().map(|_| None).collect();
    let other = std::thread::scope(|scope| {
        for (item, result) in items.iter().zip(&mut results) {
            let work = &work;
            scope.spawn(move || *result = Some(work(item)));
        }
        meanwhile()
    });
    (results.into_iter().flatten().collect(), other)
}
