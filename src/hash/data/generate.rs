//! Sets with the figures of Amazon-670K, which cannot be had: for speed and for exactness. They can be learnt, and are **easier than the
//! real set**: no accuracy on them says anything about the real one.
//!
//! What is matched (a is the whole set's page, b an excerpt of 512 of its test samples):
//!
//! | figure | the set | here |
//! | --- | --- | --- |
//! | features, labels, samples (a) | 135,909; 670,091; 490,449 | the same; any other number |
//! | labels a sample (a) | 5.26 | 1 to 8, mean 5.26 |
//! | non-zeros a sample (a, b) | mean 75 to 78, median 42, at most 702 | log-normal with that median and mean, cut at 702 |
//! | values (b) | 10 % below 3.3, median 7.5, 90 % below 27, 99 % below 79, at most 663 | log-normal, wider above its median than below, cut at 663 |
//! | distinct labels of 512 samples (b) | 1,882 of 2,591 | Zipf over groups of labels, exponent 1 |
//! | distinct features of 512 samples (b) | 8,982 of 32,800 | a chance of (rank + 120)^-1.5 |
//!
//! Labels come in groups of eight. A sample draws a group and some of its labels; a quarter of its features is drawn from twelve that belong
//! to the group, a fifth from two of each of its labels, the rest from all. What belongs to a group or a label is drawn by the seed as well,
//! and not from the most frequent features. Ids are spread, so that frequent ones do not stand together.
//!
//! All 490,449 samples take 324 MB; 378,589 labels are seen (all of the real set's are), the most frequent 19,752 times.
//!
//! Every sample has its own Philox counters and all arithmetic is whole or correctly rounded, so that a sample is the same
//! bit for bit on every host, in every range and with any number of threads.

use std::ops::Range;

use super::exact::{exp, ln, normal};
use super::part::{self, Part};
use crate::error::{Error, Result};
use crate::hash::set::SparseSet;
use crate::ops::random::{Stream, below, purpose};

/// Labels of a group.
const GROUP: usize = 8;
/// Features that belong to a group, and to a label.
const OF_GROUP: usize = 12;
const OF_LABEL: usize = 2;
/// Features that hardly differ in frequency, the most frequent ones.
const HEAD: f64 = 120.0;
/// How much of all draws goes to features too frequent to belong to a group or label.
const COMMON: f64 = 0.4;
/// Of 100 samples, how many have 1, 2, ... 8 labels: 5.26 on average.
const LABELS_IN_100: [u32; GROUP] = [4, 5, 8, 13, 21, 23, 15, 11];
/// How often what is missing is drawn.
const ROUNDS: usize = 16;
/// Samples that a thread makes at a time.
const AT_ONCE: usize = 2048;

/// A synthetic set without end: sample `i` is a function of this and of `i`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Number of features.
    pub features: usize,
    /// Number of labels.
    pub labels: usize,
    /// Median of the non-zeros a sample, before the cut.
    pub median_non_zeros: f64,
    /// The most non-zeros.
    pub most_non_zeros: usize,
    /// What draws.
    pub seed: u64,
}

impl Recipe {
    /// Samples of Amazon-670K's training set.
    pub const TRAINING: usize = 490_449;
    /// Samples of its test set.
    pub const TEST: usize = 153_025;

    /// Amazon-670K.
    pub const fn amazon_670k(seed: u64) -> Self {
        Self { features: 135_909, labels: 670_091, median_non_zeros: 42.0, most_non_zeros: 702, seed }
    }

    /// The same with another number of labels.
    pub const fn with_labels(labels: usize, seed: u64) -> Self {
        Self { labels, ..Self::amazon_670k(seed) }
    }

    /// As many training samples a label as Amazon-670K has, 0.73.
    pub fn training_samples(&self) -> usize {
        usize::try_from(self.labels as u128 * Self::TRAINING as u128 / 670_091).unwrap_or(usize::MAX).max(1)
    }
}

/// Makes samples `range` of a set: training and test samples are two ranges. `threads` 0: as many as the machine has.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] for a set of no labels or fewer than 16 features, or more samples or ids than words can number.
pub fn generate(recipe: &Recipe, range: Range<usize>, threads: usize) -> Result<SparseSet> {
    let most = u32::MAX as usize;
    if recipe.labels == 0 || recipe.features < 16 || recipe.most_non_zeros == 0 {
        return Err(Error::bad_input(format!("a set of {} features and {} labels", recipe.features, recipe.labels))
            .with_help("ask for 16 features, one label and one non-zero a sample at least"));
    }
    if range.end.max(recipe.labels).max(recipe.features) >= most || !(1.0..1e6).contains(&recipe.median_non_zeros) {
        return Err(Error::bad_input(
            "more samples, labels or features than words can number, or no number of non-zeros",
        )
        .with_help("stay below 4,294,967,295 of each, and between 1 and a million non-zeros"));
    }
    let maker = Maker::new(recipe);
    let threads = part::threads(threads);
    let mut set = part::empty(recipe.features, recipe.labels);
    let mut first = range.start;
    while first < range.end {
        let begins = (0..threads).map(|t| first + t * AT_ONCE).filter(|&begin| begin < range.end);
        let jobs: Vec<Range<usize>> = begins.map(|begin| begin..range.end.min(begin + AT_ONCE)).collect();
        let (parts, ()) = part::beside(&jobs, threads, |job| maker.samples(job.clone()), || ());
        parts.iter().for_each(|part| part::append(&mut set, part));
        first = jobs.last().map_or(range.end, |job| job.end);
    }
    part::trim(&mut set);
    Ok(set)
}

/// What is the same for all samples.
#[derive(Debug)]
struct Maker {
    stream: Stream,
    labels: Zipf,
    label_count: usize,
    label_spread: Spread,
    features: Tail,
    feature_spread: Spread,
    ln_median: f64,
    most: usize,
}

impl Maker {
    fn new(recipe: &Recipe) -> Self {
        Self {
            stream: Stream::new(recipe.seed),
            labels: Zipf::new(recipe.labels.div_ceil(GROUP)),
            label_count: recipe.labels,
            label_spread: Spread::new(recipe.labels),
            features: Tail::new(recipe.features),
            feature_spread: Spread::new(recipe.features),
            ln_median: ln(recipe.median_non_zeros),
            // Half of all features can be drawn without drawing for ever.
            most: recipe.most_non_zeros.min(recipe.features / 2),
        }
    }

    fn samples(&self, range: Range<usize>) -> Part {
        let mut part = Part::default();
        for sample in range {
            self.sample(sample, &mut part);
        }
        part
    }

    fn sample(&self, sample: usize, part: &mut Part) {
        let (features, labels) = (part.features.len(), part.labels.len());
        let mut draws = Draws::new(&self.stream, sample);
        let group = self.labels.rank(draws.word());
        self.some_labels(group, &mut draws, &mut part.labels);
        // A spread of 1.14 brings the mean of what is cut at 702 to 78 where the median is 42.
        let wanted = exp(self.ln_median + 1.14 * normal(fraction(draws.word())));
        let wanted = (wanted.round() as usize).clamp(1, self.most);
        let own = &part.labels[labels..];
        // Doubles are drawn again, of all features, since those of the group soon have come; a set of few may leave a sample short.
        for round in 0..ROUNDS {
            let missing = wanted - (part.features.len() - features);
            for _ in 0..missing {
                let rank = if round < 2 {
                    self.feature(group, own, &mut draws)
                } else {
                    self.features.rank(fraction(draws.word()))
                };
                part.features.push(self.feature_spread.place(rank));
            }
            sort_distinct(&mut part.features, features);
            if part.features.len() - features == wanted {
                break;
            }
        }
        part.labels[labels..].sort_unstable();
        for _ in features..part.features.len() {
            part.values.push(value(draws.word()));
        }
        part.close(features, labels);
    }

    /// Some labels of a group.
    fn some_labels(&self, group: usize, draws: &mut Draws<'_>, out: &mut Vec<u32>) {
        let members = GROUP.min(self.label_count - group * GROUP);
        let mut percent = below(draws.word(), 100) as u32;
        let mut count = 1;
        for share in LABELS_IN_100 {
            if percent < share {
                break;
            }
            percent -= share;
            count += 1;
        }
        let mut places = [0, 1, 2, 3, 4, 5, 6, 7];
        for i in 0..count.min(members) {
            let j = i + below(draws.word(), members - i);
            places.swap(i, j);
            out.push(self.label_spread.place(group * GROUP + places[i]));
        }
    }

    /// The rank of a feature: one of the group's, one of a label's, or any.
    fn feature(&self, group: usize, labels: &[u32], draws: &mut Draws<'_>) -> usize {
        let (which, word) = (below(draws.word(), 100), draws.word());
        let drawn = match which {
            0..25 => self.belonging(group, below(word, OF_GROUP), 1),
            25..45 => {
                let one = below(word, labels.len() * OF_LABEL);
                self.belonging(labels[one / OF_LABEL] as usize, one % OF_LABEL, 2)
            }
            _ => return self.features.rank(fraction(word)),
        };
        self.features.rank(COMMON + (1.0 - COMMON) * fraction(drawn))
    }

    /// The word that decides feature `which` of a group or a label.
    fn belonging(&self, owner: usize, which: usize, step: u32) -> u32 {
        self.stream.word(which, u32::try_from(owner).unwrap_or(u32::MAX), step, purpose::GENERATE)
    }
}

fn sort_distinct(ids: &mut Vec<u32>, first: usize) {
    ids[first..].sort_unstable();
    let mut kept = first;
    for i in first..ids.len() {
        if i == first || ids[i] != ids[kept - 1] {
            ids[kept] = ids[i];
            kept += 1;
        }
    }
    ids.truncate(kept);
}

/// A value: log-normal about 7.5, with the spread that puts 10 % below 3.3 and 1 % above 79.
fn value(word: u32) -> f32 {
    let z = normal(fraction(word));
    let spread = if z < 0.0 { 0.64 } else { 1.005 };
    (7.5 * exp(spread * z)).min(663.0) as f32
}

/// The middle of the interval that a word stands for, in (0, 1).
fn fraction(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

/// Ranks with a chance about proportional to 1 / (rank + 1): the whole part of n + 1 to a uniform power, from 1 to n.
#[derive(Debug)]
struct Zipf {
    count: usize,
    ln: f64,
}

impl Zipf {
    fn new(count: usize) -> Self {
        Self { count, ln: ln(count as f64 + 1.0) }
    }

    fn rank(&self, word: u32) -> usize {
        (exp(fraction(word) * self.ln) as usize).clamp(1, self.count) - 1
    }
}

/// Ranks with a chance about proportional to (rank + 120)^-1.5.
#[derive(Debug)]
struct Tail {
    count: usize,
    /// The share of draws that the law without an end gives to ranks below `count`.
    share: f64,
}

impl Tail {
    fn new(count: usize) -> Self {
        Self { count, share: 1.0 - (HEAD / (count as f64 + HEAD)).sqrt() }
    }

    /// The rank below which a share `u` of draws lies.
    fn rank(&self, u: f64) -> usize {
        let root = 1.0 - u * self.share;
        ((HEAD / (root * root) - HEAD) as usize).min(self.count - 1)
    }
}

/// Numbers in another order: multiplied, without a common divisor, modulo their count.
#[derive(Debug)]
struct Spread {
    count: u64,
    factor: u64,
}

impl Spread {
    fn new(count: usize) -> Self {
        let count = count as u64;
        let divisor = |mut a: u64, mut b: u64| {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        // The golden section, which spreads neighbours well.
        let mut factor = (count as f64 * 0.618_033_988_749_894_9) as u64 + 1;
        while divisor(factor, count) != 1 {
            factor += 1;
        }
        Self { count, factor }
    }

    fn place(&self, number: usize) -> u32 {
        let place = (number as u64 * self.factor + self.count / 3) % self.count;
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

/// The words of a sample, one after the other.
struct Draws<'a> {
    stream: &'a Stream,
    sample: u32,
    block: [u32; 4],
    next: usize,
}

impl<'a> Draws<'a> {
    fn new(stream: &'a Stream, sample: usize) -> Self {
        Self { stream, sample: u32::try_from(sample).unwrap_or(u32::MAX), block: [0; 4], next: 0 }
    }

    fn word(&mut self) -> u32 {
        if self.next.is_multiple_of(4) {
            let number = u32::try_from(self.next / 4).unwrap_or(u32::MAX);
            self.block = self.stream.block([number, self.sample, 0, purpose::GENERATE]);
        }
        self.next += 1;
        self.block[(self.next - 1) % 4]
    }
}
