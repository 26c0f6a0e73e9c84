//! Tests of reading, keeping and making sets.

mod cache;
mod generate;
mod others;
mod text;
mod xmc;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use crate::hash::set::{Lists, SparseSet};

/// A folder for a test, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let own = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wavehull-sparse-{}-{own}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        Self(folder)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file for the test");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn lists(rows: &[Vec<u32>]) -> Lists {
    let mut lists = Lists { offsets: vec![0], ids: Vec::new() };
    for row in rows {
        lists.ids.extend(row);
        lists.offsets.push(lists.ids.len());
    }
    lists
}

/// A sample: features with values, labels.
type Sample = (Vec<(u32, f32)>, Vec<u32>);

fn set_of(samples: &[Sample], feature_count: usize, label_count: usize) -> SparseSet {
    let features: Vec<Vec<u32>> = samples.iter().map(|s| s.0.iter().map(|f| f.0).collect()).collect();
    let labels: Vec<Vec<u32>> = samples.iter().map(|s| s.1.clone()).collect();
    let values = samples.iter().flat_map(|s| s.0.iter().map(|f| f.1)).collect();
    SparseSet { feature_count, label_count, features: lists(&features), values, labels: lists(&labels) }
}

/// Sets of a few samples with at least one feature each, and values of all sizes.
fn sets() -> impl Strategy<Value = SparseSet> {
    let value = prop_oneof![
        any::<f32>().prop_filter("finite", |v| v.is_finite()),
        (0_u32..200_000).prop_map(|n| n as f32 / 10_000.0),
        Just(-0.0),
    ];
    let features = proptest::collection::btree_map(0_u32..40, value, 1..9);
    let labels = proptest::collection::btree_set(0_u32..30, 0..5);
    let sample = (features, labels).prop_map(|(f, l)| (f.into_iter().collect(), l.into_iter().collect()));
    proptest::collection::vec(sample, 0..12).prop_map(|samples: Vec<Sample>| set_of(&samples, 40, 30))
}

/// The same bit for bit; `==` finds 0 and -0 equal.
fn same(a: &SparseSet, b: &SparseSet) -> bool {
    let bits = |set: &SparseSet| set.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    a == b && bits(a) == bits(b)
}
