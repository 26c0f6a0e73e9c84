//! How good and how fast a network answers: exactly, and from a short list beside it.

use std::time::Duration;

use serde::Serialize;

use super::SparseSet;
use super::predict::{Measures, Ranking, recall};
use crate::error::Result;

/// Labels of a ranking that measures look at.
const DEEP: usize = 10;
/// The k of P@k.
const AT: [usize; 3] = [1, 3, 5];

/// Precision at 1, 3 and 5 (as far as there are so many labels): the share of the first k labels that are the sample's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Precision {
    /// k and P@k.
    #[serde(rename = "precision")]
    pub at: Vec<(usize, f64)>,
    /// Samples with labels, over which it is the mean.
    pub labelled: usize,
    /// Samples without labels, which are left out.
    pub unlabelled: usize,
}

impl From<&Measures> for Precision {
    fn from(measures: &Measures) -> Self {
        // Without a labelled sample there is no precision.
        let one = |(slot, &k)| (k, if measures.samples > 0 { measures.precision(slot) } else { 0.0 });
        let at = measures.at.iter().enumerate().map(one).collect();
        Self { at, labelled: measures.samples, unlabelled: measures.unlabelled }
    }
}

/// How good a network is.
#[derive(Debug, Clone, Serialize)]
pub struct Quality {
    /// Samples that were asked.
    pub samples: usize,
    /// Labels of the network.
    pub labels: usize,
    /// Of the exact ranking of all labels.
    pub exact: Precision,
    /// Seconds of the exact rankings, hidden layers included.
    pub exact_seconds: f64,
    /// The same for the labels of a short list, if asked for.
    pub sparse: Option<SparseQuality>,
}

/// How good and how fast short lists are.
#[derive(Debug, Clone, Serialize)]
pub struct SparseQuality {
    /// Of the ranking of candidates.
    pub precision: Precision,
    /// Seconds of the rankings of candidates, hidden layers and look-ups included.
    pub seconds: f64,
    /// Seconds of building the hash tables or clusters.
    pub build_seconds: f64,
    /// Mean number of labels that were scored for a sample.
    pub candidates: f64,
    /// Mean share of the exact best label that was found.
    pub recall_1: f64,
    /// Mean share of the exact best ten that were found.
    pub recall_10: f64,
}

/// What rankings come to while a set is asked.
#[derive(Debug)]
pub(super) struct Sums {
    labels: usize,
    samples: usize,
    exact: Way,
    sparse: Way,
    /// Labels that short lists scored.
    scored: u64,
    /// Shares of the exact best one and best ten that they found.
    recalls: [f64; 2],
}

/// Of one way to rank.
#[derive(Debug)]
struct Way {
    measures: Measures,
    seconds: f64,
}

impl Way {
    fn add(&mut self, set: &SparseSet, chosen: &[u32], ranking: &Ranking, time: Duration) -> Result<()> {
        self.seconds += time.as_secs_f64();
        self.measures.add(set, chosen, ranking)
    }
}

impl Sums {
    /// For a network of so many labels, no samples yet.
    pub(super) fn new(labels: usize) -> Self {
        let at: Vec<usize> = AT.into_iter().filter(|&k| k <= labels).collect();
        let way = || Way { measures: Measures::new(&at), seconds: 0.0 };
        Self { labels, samples: 0, exact: way(), sparse: way(), scored: 0, recalls: [0.0; 2] }
    }

    /// Labels that a ranking must have.
    pub(super) fn deep(&self) -> usize {
        DEEP.min(self.labels)
    }

    /// Samples so far.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Adds the exact rankings of samples of a set, which took so long.
    pub(super) fn add_exact(&mut self, set: &SparseSet, chosen: &[u32], best: &Ranking, time: Duration) -> Result<()> {
        self.samples += chosen.len();
        self.exact.add(set, chosen, best, time)
    }

    /// Adds the rankings that short lists gave the same samples, beside the exact ones; `scored` labels were looked at.
    pub(super) fn add_sparse(
        &mut self,
        set: &SparseSet,
        chosen: &[u32],
        (best, found): (&Ranking, &Ranking),
        scored: u64,
        time: Duration,
    ) -> Result<()> {
        self.scored += scored;
        for (sum, wanted) in self.recalls.iter_mut().zip([&first(best), best]) {
            *sum += chosen.len() as f64 * recall(wanted, found)?;
        }
        self.sparse.add(set, chosen, found, time)
    }

    /// What it comes to; with the seconds that a short list took to build, if one was asked.
    pub(super) fn quality(self, build_seconds: Option<f64>) -> Quality {
        let all = self.samples.max(1) as f64;
        let sparse = build_seconds.map(|build_seconds| SparseQuality {
            precision: Precision::from(&self.sparse.measures),
            seconds: self.sparse.seconds,
            build_seconds,
            candidates: self.scored as f64 / all,
            recall_1: self.recalls[0] / all,
            recall_10: self.recalls[1] / all,
        });
        let exact = Precision::from(&self.exact.measures);
        Quality { samples: self.samples, labels: self.labels, exact, exact_seconds: self.exact.seconds, sparse }
    }
}

/// The best label alone.
fn first(ranking: &Ranking) -> Ranking {
    let one = |values: &[u32]| values.iter().step_by(ranking.k).copied().collect();
    let logits = ranking.logits.iter().step_by(ranking.k).copied().collect();
    Ranking { k: 1, labels: one(&ranking.labels), logits }
}
