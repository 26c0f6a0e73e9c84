//! How good rankings are: precision, discounted gain, and recall against the exact ranking.

use super::top_k::Ranking;
use crate::error::{Error, Result};
use crate::hash::SparseSet;

/// Sums of P@k and nDCG@k over samples; those without labels are left out and counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Measures {
    /// The k's.
    pub at: Vec<usize>,
    /// Samples with labels.
    pub samples: usize,
    /// Samples without.
    pub unlabelled: usize,
    /// For each k: how many of the first k labels are the sample's.
    hits: Vec<u64>,
    /// For each k: sums of nDCG@k.
    gains: Vec<f64>,
}

impl Measures {
    /// For these k, no samples yet.
    pub fn new(at: &[usize]) -> Self {
        Self { at: at.to_vec(), samples: 0, unlabelled: 0, hits: vec![0; at.len()], gains: vec![0.0; at.len()] }
    }

    /// Adds the rankings of samples `chosen` of a set.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] unless there is a ranking of at least the largest k labels for each.
    pub fn add(&mut self, set: &SparseSet, chosen: &[u32], ranking: &Ranking) -> Result<()> {
        if ranking.samples() != chosen.len() || self.at.iter().any(|&k| k == 0 || k > ranking.k) {
            let what = format!("measures at {:?} of {} rankings of {}", self.at, ranking.samples(), ranking.k);
            return Err(Error::internal(what));
        }
        for (i, &sample) in chosen.iter().enumerate() {
            let labels = set.labels.row(sample as usize);
            if labels.is_empty() {
                self.unlabelled += 1;
                continue;
            }
            self.samples += 1;
            let right: Vec<bool> = ranking.row(i).iter().map(|label| labels.binary_search(label).is_ok()).collect();
            for (slot, &k) in self.at.iter().enumerate() {
                self.hits[slot] += right.iter().take(k).filter(|&&hit| hit).count() as u64;
                let gain: f64 =
                    (0..).zip(right.iter().take(k)).filter(|(_, hit)| **hit).map(|(l, _)| discount(l)).sum();
                self.gains[slot] += gain / (0..k.min(labels.len())).map(discount).sum::<f64>();
            }
        }
        Ok(())
    }

    /// P@k of the k at this position: the mean share of the first k labels that are right; NaN without samples.
    pub fn precision(&self, slot: usize) -> f64 {
        self.hits[slot] as f64 / (self.at[slot] * self.samples) as f64
    }

    /// nDCG@k of the k at this position; NaN without samples.
    pub fn ndcg(&self, slot: usize) -> f64 {
        self.gains[slot] / self.samples as f64
    }
}

/// What a right label at this place is worth.
fn discount(place: usize) -> f64 {
    1.0 / (place as f64 + 2.0).log2()
}

/// The mean share of each sample's exact labels that another ranking found.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for rankings of unlike numbers of samples.
pub fn recall(exact: &Ranking, found: &Ranking) -> Result<f64> {
    if exact.samples() != found.samples() {
        return Err(Error::internal(format!("recall of {} rankings by {}", exact.samples(), found.samples())));
    }
    let share = |i: usize| {
        let (wanted, got) = (exact.row(i), found.row(i));
        wanted.iter().filter(|label| got.contains(label)).count() as f64 / wanted.len().max(1) as f64
    };
    Ok((0..exact.samples()).map(share).sum::<f64>() / exact.samples() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::set::Lists;
    use crate::ops::gather::NOTHING;

    #[test]
    fn measures_are_those_of_the_definitions() {
        let set = SparseSet {
            feature_count: 1,
            label_count: 9,
            features: Lists { offsets: vec![0; 4], ids: vec![] },
            values: vec![],
            labels: Lists { offsets: vec![0, 2, 2, 7], ids: vec![3, 8, 0, 1, 2, 4, 5] },
        };
        set.check().unwrap();
        let ranking = Ranking {
            k: 3,
            labels: vec![8, 1, 3, 0, 0, 0, 7, 0, NOTHING],
            logits: vec![3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.5, -1.0, 0.0],
        };
        assert_eq!((ranking.row(2), ranking.row_logits(2)), (&[7, 0][..], &[0.5, -1.0][..]));
        let mut measures = Measures::new(&[1, 3]);
        measures.add(&set, &[0, 1, 2], &ranking).unwrap();
        assert_eq!((measures.samples, measures.unlabelled), (2, 1));
        assert_eq!(measures.precision(0), 0.5);
        assert_eq!(measures.precision(1), 3.0 / 6.0);
        let second = 1.0 / 3.0_f64.log2();
        let (first, last) = ((1.0 + 0.5) / (1.0 + second), second / (1.0 + second + 0.5));
        assert!((measures.ndcg(1) - (first + last) / 2.0).abs() < 1e-15);
        assert!(measures.add(&set, &[0], &ranking).is_err());
        assert!(Measures::new(&[4]).add(&set, &[0, 1, 2], &ranking).is_err());
        let other = Ranking { labels: vec![3, 5, 6, 0, 0, 0, 0, NOTHING, NOTHING], ..ranking.clone() };
        assert!((recall(&ranking, &other).unwrap() - (1.0 / 3.0 + 1.0 + 0.5) / 3.0).abs() < 1e-15);
    }
}
