//! Training and validation parts.

use super::Dataset;
use crate::error::{Error, Result};
use crate::train::random::Random;

/// How much of a set is kept for validation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Validation {
    /// A share of the samples, between 0 and 1, rounded to whole samples.
    Share(f64),
    /// A number of samples.
    Count(usize),
}

impl Dataset {
    /// Splits into a training and a validation part. With a seed the validation part is drawn at random, the same for the same seed on
    /// every machine; without, it is the last samples, as is usual for text and for what was measured over time. Both parts keep the order of the set.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if either part would be empty.
    pub fn split(&self, validation: Validation, seed: Option<u64>) -> Result<(Self, Self)> {
        let n = self.len();
        let held = match validation {
            Validation::Share(share) if (0.0..1.0).contains(&share) => (share * n as f64).round() as usize,
            Validation::Share(share) => {
                return Err(Error::bad_input(format!("a share of {share} for validation is not between 0 and 1")));
            }
            Validation::Count(count) => count,
        };
        if held == 0 || held >= n {
            return Err(Error::bad_input(format!("{held} of {n} samples for validation leave one part empty"))
                .with_help("keep at least one sample in each part, or leave validation out"));
        }
        let order = match seed {
            Some(seed) => shuffled(n, seed),
            None => (0..n).collect(),
        };
        let (mut train, mut valid) = (order[..n - held].to_vec(), order[n - held..].to_vec());
        train.sort_unstable();
        valid.sort_unstable();
        Ok((self.select(&train), self.select(&valid)))
    }
}

/// The one place that decides which samples a seed takes for validation.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    Random::new(seed).order(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::data::{Inputs, Targets};
    use ndarray::{ArrayD, IxDyn};

    fn set(n: usize) -> Dataset {
        let inputs = Inputs::U8(ArrayD::from_shape_fn(IxDyn(&[n, 1]), |i| i[0] as u8));
        let labels = (0..n as u32).collect();
        Dataset::new(inputs, Targets::Classes { labels, classes: n }).expect("a set")
    }

    fn labels(set: &Dataset) -> Vec<u32> {
        match &set.targets {
            Targets::Classes { labels, .. } => labels.clone(),
            _ => panic!("classes"),
        }
    }

    #[test]
    fn parts_are_disjoint_complete_and_repeatable() {
        let whole = set(100);
        let (train, valid) = whole.split(Validation::Share(0.2), Some(7)).expect("two parts");
        assert_eq!((train.len(), valid.len()), (80, 20));
        let mut all = [labels(&train), labels(&valid)].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(whole.split(Validation::Count(20), Some(7)).expect("the same").1, valid);
        assert_ne!(whole.split(Validation::Count(20), Some(8)).expect("another").1, valid);
        let (_, last) = whole.split(Validation::Count(3), None).expect("the end");
        assert_eq!(labels(&last), [97, 98, 99]);
        // A sample goes with its label.
        assert_eq!(valid.inputs, whole.inputs.select(&labels(&valid).iter().map(|&l| l as usize).collect::<Vec<_>>()));
    }

    #[test]
    fn empty_parts_are_refused() {
        for validation in [
            Validation::Count(0),
            Validation::Count(4),
            Validation::Share(0.01),
            Validation::Share(1.0),
            Validation::Share(f64::NAN),
        ] {
            assert!(set(4).split(validation, Some(0)).is_err(), "{validation:?}");
        }
    }
}
