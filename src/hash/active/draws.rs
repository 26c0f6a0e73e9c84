//! Labels drawn by a given distribution, and how likely a label is to be in a shared set. Kernel: `draw_labels`.

use super::shuffle::what;
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::ops::random::{Stream, below, purpose};
use crate::ops::{bindable, strided_grid, word};
use crate::tensor::Tensor;

const DRAW_LABELS: &str = include_str!("../../../shaders/hash/draw_labels.wgsl");

params!(DrawParams { count: u32, threads: u32, labels: u32, what: u32, step: u32, purpose: u32, key0: u32, key1: u32 });

/// A distribution over labels, as the table of Walker's alias method (Vose 1991).
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Of each label, its share in units of 2^-32 of the column that has its number, and whose the rest is.
    columns: Vec<[u32; 2]>,
    /// The chance of each label.
    chances: Vec<f64>,
}

impl Distribution {
    /// With chances in proportion to weights, one a label.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a weight that is negative or no number, or if all are zero; [`crate::ErrorKind::TooBig`] beyond 2^31.
    pub fn new(weights: &[f64]) -> Result<Self> {
        super::check_labels(weights.len(), weights.len())?;
        if let Some(label) = weights.iter().position(|&w| !(w.is_finite() && w >= 0.0)) {
            return Err(Error::bad_input(format!("label {label} has the weight {}", weights[label]))
                .with_help("weights are 0 or positive numbers"));
        }
        let sum: f64 = weights.iter().sum();
        if !(sum.is_finite() && sum > 0.0) {
            return Err(Error::bad_input(format!("weights of labels that add up to {sum}"))
                .with_help("give some labels a positive weight"));
        }
        let chances: Vec<f64> = weights.iter().map(|w| w / sum).collect();
        Ok(Self { columns: columns(&chances)?, chances })
    }

    /// Log-uniform by rank: `ranked[r]` is the label of rank r, most frequent first, and is drawn in proportion to
    /// `ln((r + 2) / (r + 1))`, as sampled softmax is wont to (Jean et al., ACL 2015; TensorFlow's `log_uniform_candidate_sampler`).
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if a label stands twice or is missing.
    pub fn log_uniform(ranked: &[u32]) -> Result<Self> {
        let mut weights = vec![0.0; ranked.len()];
        for (rank, &label) in ranked.iter().enumerate() {
            match weights.get_mut(label as usize) {
                Some(weight) if *weight == 0.0 => *weight = (1.0 / (rank as f64 + 1.0)).ln_1p(),
                _ => {
                    return Err(Error::bad_input(format!("label {label} at rank {rank} of {}", ranked.len()))
                        .with_help("list every label once, most frequent first"));
                }
            }
        }
        Self::new(&weights)
    }

    /// The chance of each label.
    pub fn chances(&self) -> &[f64] {
        &self.chances
    }

    /// So many draws that `size` different labels can be expected and a quarter more, at most 64 a label of the set.
    pub fn enough(&self, size: usize) -> usize {
        let logs: Vec<f64> = self.chances.iter().map(|p| (-p).ln_1p()).collect();
        let mut draws = size.max(1);
        while draws < 64 * size && logs.iter().map(|log| -(draws as f64 * log).exp_m1()).sum::<f64>() < size as f64 {
            draws += draws.div_ceil(4);
        }
        (draws + draws / 4 + 64).min(64 * size.max(1))
    }

    /// The first draws of a step: what the kernel draws, on the host.
    pub fn draws(&self, seed: u64, step: u32, count: usize) -> Vec<u32> {
        let stream = Stream::new(seed);
        let draw = |i: usize| {
            let word = |which: usize| stream.word(2 * i + which, what::DRAWS, step, purpose::ACTIVE);
            let column = below(word(0), self.columns.len());
            let [own, alias] = self.columns[column];
            if word(1) < own { u32::try_from(column).unwrap_or(u32::MAX) } else { alias }
        };
        (0..count).map(draw).collect()
    }
}

/// Vose's method. Each column has the chance 1 / n, of which its own label has a share.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares lie in 0 .. 2^32 - 1")]
fn columns(chances: &[f64]) -> Result<Vec<[u32; 2]>> {
    let n = chances.len();
    let mut shares: Vec<f64> = chances.iter().map(|p| p * n as f64).collect();
    let mut columns = Vec::with_capacity(n);
    for i in 0..n {
        columns.push([u32::MAX, word(i)?]);
    }
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| shares[i] < 1.0);
    while let (Some(&s), Some(&l)) = (small.last(), large.last()) {
        small.pop();
        columns[s] = [(shares[s] * 4_294_967_296.0).round().min(4_294_967_295.0) as u32, columns[l][1]];
        shares[l] -= 1.0 - shares[s];
        if shares[l] < 1.0 {
            large.pop();
            small.push(l);
        }
    }
    // What is left is full but for rounding, and its own alias; a label without weight is never left, for a full one is before it.
    for column in small {
        if chances[column] == 0.0 {
            let heaviest = (0..n).max_by(|&a, &b| chances[a].total_cmp(&chances[b])).unwrap_or(0);
            columns[column] = [0, word(heaviest)?];
        }
    }
    Ok(columns)
}

/// Draws of a distribution on the device, a number of them each step.
#[derive(Debug, Clone)]
pub struct Draws {
    labels: usize,
    table: Tensor<u32>,
    /// `[1, count]`.
    pub(super) list: Tensor<u32>,
}

impl Draws {
    /// For `count` draws a step; [`Distribution::enough`] says how many.
    ///
    /// # Errors
    /// [`crate::ErrorKind::TooBig`] for more labels than a binding holds, and those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, distribution: &Distribution, count: usize) -> Result<Self> {
        let labels = distribution.columns.len();
        let table = Tensor::from_slice_async(gpu, &[2 * labels], bytemuck::cast_slice(&distribution.columns)).await?;
        let list = Tensor::uninit_async(gpu, &[1, count.max(1)]).await?;
        bindable(gpu.caps(), &[table.binding(), list.binding()])?;
        Ok(Self { labels, table, list })
    }

    /// Blocking twin of [`Draws::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, distribution: &Distribution, count: usize) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, distribution, count))
    }

    /// Records the draws of a step.
    pub(super) fn record(&self, recording: &mut Recording, caps: &Caps, stream: Stream, step: u32) -> Result<()> {
        let count = self.list.len();
        let (groups, threads) = strided_grid(count.div_ceil(2), caps.max_workgroups)?;
        let [key0, key1, ..] = stream.words(step, true);
        let params = DrawParams {
            count: word(count)?,
            threads,
            labels: word(self.labels)?,
            what: what::DRAWS,
            step,
            purpose: purpose::ACTIVE,
            key0,
            key1,
            ..Default::default()
        };
        let bindings = vec![self.table.binding(), self.list.binding()];
        recording.dispatch(&kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), 60.0 * count as f64)
    }

    /// Number of labels.
    pub(super) fn labels(&self) -> usize {
        self.labels
    }
}

/// How a shared set gets the labels that are not the batch's.
#[derive(Debug, Clone, Copy)]
pub enum Negatives<'a> {
    /// All by fill.
    Uniform,
    /// By so many draws of a distribution, then by fill.
    Draws(&'a Distribution, usize),
}

/// The logarithm of the chance of each label to be in a shared set of `size`, for the correction of sampled softmax.
///
/// `frequency[j]` is the share of samples that have label j, and a batch has B samples. With `b_j = 1 - (1 - f_j)^B` (in the batch),
/// `D = sum b` (labels of a batch), and d_j the chance to be drawn, the chance is `b_j + (1 - b_j) (d_j + (1 - d_j) u)`. Without
/// draws d = 0 and `u = (size - D) / (N - D)`. With draws `d_j = 1 - (1 - p_j)^T`, T being what brings
/// `E = sum (1 - b_j) d_j` to `size - D` (u = 0), or all draws if they do not suffice (`u = (size - D - E) / (N - D - E)`).
/// Numbers of labels and of draws are taken at their means, for which the test allows 3 % of a chance.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] for shares outside of 0 to 1, a distribution of other labels, and a size that the batch's labels fill.
pub fn log_inclusion(frequency: &[f64], samples: usize, size: usize, negatives: Negatives<'_>) -> Result<Vec<f32>> {
    let n = frequency.len();
    super::check_labels(n, size)?;
    if let Some(label) = frequency.iter().position(|f| !(0.0..=1.0).contains(f)) {
        return Err(Error::bad_input(format!("label {label} is in a share of {} of the samples", frequency[label]))
            .with_help("shares lie between 0 and 1"));
    }
    let in_batch: Vec<f64> = frequency.iter().map(|f| -(samples as f64 * (-f).ln_1p()).exp_m1()).collect();
    let labels: f64 = in_batch.iter().sum();
    let room = size as f64 - labels;
    if size < n && room <= 0.0 {
        let different = usize::try_from(labels.ceil() as i64).unwrap_or(usize::MAX);
        return Err(super::too_few(size, different));
    }
    let drawn = match negatives {
        Negatives::Uniform => vec![0.0; n],
        Negatives::Draws(distribution, _) if distribution.chances.len() != n => {
            return Err(Error::bad_input(format!("a distribution over {} of {n} labels", distribution.chances.len()))
                .with_help("draw from the labels of the set"));
        }
        Negatives::Draws(distribution, count) => chances_of_draws(&in_batch, &distribution.chances, count, room),
    };
    let expected: f64 = in_batch.iter().zip(&drawn).map(|(b, d)| (1.0 - b) * d).sum();
    let rest = n as f64 - labels - expected;
    let fill = if rest > 0.0 { ((room - expected) / rest).clamp(0.0, 1.0) } else { 0.0 };
    let chance = |(b, d): (&f64, &f64)| b + (1.0 - b) * (d + (1.0 - d) * fill);
    Ok(in_batch.iter().zip(&drawn).map(|both| chance(both).max(f64::MIN_POSITIVE).ln() as f32).collect())
}

/// The chance of each label to be drawn until there is no more room for labels that are not in the batch.
fn chances_of_draws(in_batch: &[f64], chances: &[f64], count: usize, room: f64) -> Vec<f64> {
    let logs: Vec<f64> = chances.iter().map(|p| (-p).ln_1p()).collect();
    let drawn = |draws: f64, log: &f64| -(draws * log).exp_m1();
    let expected = |draws: f64| logs.iter().zip(in_batch).map(|(log, b)| (1.0 - b) * drawn(draws, log)).sum::<f64>();
    // A step draws once at least.
    let (mut low, mut high) = (0.0, count.max(1) as f64);
    if expected(high) > room {
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if expected(middle) > room { high = middle } else { low = middle }
        }
    }
    logs.iter().map(|log| drawn(high, log)).collect()
}

fn kernel() -> Kernel {
    Kernel::new::<DrawParams>("draw_labels", DRAW_LABELS, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel()]
}

#[cfg(test)]
mod tests {
    use super::{Distribution, Negatives, log_inclusion};
    use crate::hash::active::twin;

    #[test]
    fn draws_have_the_chances_that_were_given() {
        let weights: Vec<f64> = (0..50).map(|i| f64::from(i % 7) * 1.5 + f64::from(i / 49)).collect();
        let distribution = Distribution::new(&weights).unwrap();
        let draws = distribution.draws(5, 3, 200_000);
        let mut counts = vec![0.0; 50];
        for draw in draws {
            counts[draw as usize] += 1.0;
        }
        let mut chi = 0.0;
        for (label, &p) in distribution.chances().iter().enumerate() {
            assert_eq!(p == 0.0, counts[label] == 0.0, "label {label}");
            if p > 0.0 {
                chi += (counts[label] - 2e5 * p).powi(2) / (2e5 * p);
            }
        }
        // 42 labels with a weight; five standard deviations of chi-square.
        assert!(chi < 42.0 + 5.0 * 84.0_f64.sqrt(), "chi-square {chi}");
    }

    #[test]
    fn ranks_and_weights_that_are_none_are_refused() {
        let ranked = Distribution::log_uniform(&[2, 0, 1]).unwrap();
        let sum: f64 = ranked.chances().iter().sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert!((ranked.chances()[2] - 0.5).abs() < 1e-12, "{:?}", ranked.chances());
        for ranks in [&[0, 0, 1][..], &[0, 1, 3], &[]] {
            assert!(Distribution::log_uniform(ranks).is_err(), "{ranks:?}");
        }
        for weights in [&[1.0, -1.0][..], &[f64::NAN], &[0.0, 0.0], &[f64::INFINITY, 1.0]] {
            assert!(Distribution::new(weights).is_err(), "{weights:?}");
        }
    }

    /// Shares of steps in which each label is in the set, against the formula: five standard errors and 3 % of the chance.
    fn simulate(negatives: Negatives<'_>, label_count: usize, size: usize) {
        let frequency: Vec<f64> = (0..label_count).map(|j| 0.2 / (j as f64 + 3.0)).collect();
        let (samples, steps) = (8, 6000);
        let logs = log_inclusion(&frequency, samples, size, negatives).unwrap();
        let mut counts = vec![0.0; label_count];
        let stream = crate::ops::random::Stream::new(99);
        for step in 0..steps {
            let mut labels = Vec::new();
            for (j, f) in frequency.iter().enumerate() {
                for sample in 0..samples {
                    let word = stream.word(sample * label_count + j, 0, step, 1000);
                    if f64::from(word) < f * 4_294_967_296.0 {
                        labels.push(u32::try_from(j).unwrap());
                    }
                }
            }
            let candidates = match negatives {
                Negatives::Uniform => None,
                Negatives::Draws(distribution, count) => {
                    Some((vec![distribution.draws(7, step, count)], super::super::Choice::First))
                }
            };
            let candidates = candidates.as_ref().map(|(rows, choice)| (rows.as_slice(), *choice));
            for id in twin::shared(label_count, size, 7, step, &labels, candidates).0 {
                counts[id as usize] += 1.0;
            }
        }
        for (j, (count, log)) in counts.iter().zip(logs).enumerate() {
            let (seen, expected) = (count / f64::from(steps), f64::from(log.exp()));
            let error = 5.0 * (expected * (1.0 - expected).max(0.0) / f64::from(steps)).sqrt() + 0.03 * expected;
            assert!((seen - expected).abs() < error, "label {j}: {seen}, by the formula {expected}");
        }
    }

    #[test]
    fn chances_to_be_active_are_what_a_simulation_counts() {
        simulate(Negatives::Uniform, 300, 40);
        simulate(Negatives::Uniform, 20, 20);
        let ranked: Vec<u32> = (0..300).collect();
        let distribution = Distribution::log_uniform(&ranked).unwrap();
        simulate(Negatives::Draws(&distribution, distribution.enough(60)), 300, 60);
        // Too few draws: the rest is fill.
        simulate(Negatives::Draws(&distribution, 30), 300, 60);
        let error = log_inclusion(&[0.9; 10], 8, 5, Negatives::Uniform).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::BadInput);
    }
}
