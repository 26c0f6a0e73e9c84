//! `moments`, `normalise`, `normalise_gradient`, `group_fold`, `layer_norm`, `layer_norm_gradient`: batch, group and layer norm.

mod batch;
mod group;
mod layer;

use crate::common::{Random, U};
use crate::members::{Member, doubles};

/// Statistics of a set of elements in f64, with the errors that the kernels' way of taking them may have.
#[derive(Debug, Clone, Copy)]
struct Stat {
    mean: f64,
    variance: f64,
    inv: f64,
    /// Of the mean; of the variance; of inv, relative.
    e_mean: f64,
    e_variance: f64,
    e_inv: f64,
}

impl Stat {
    /// Of elements with the origins that they are differenced from; sums of at most `depth` roundings; `extra`: how far origins lie apart.
    fn new(elements: &[(f64, f64)], eps: f64, depth: f64, extra: f64) -> Self {
        let n = elements.len() as f64;
        let average = |f: &dyn Fn(f64, f64) -> f64| elements.iter().map(|&(v, o)| f(v, o)).sum::<f64>() / n;
        let mean = average(&|v, _| v);
        let variance = average(&|v, _| (v - mean).powi(2));
        let spread = average(&|v, o| (v - o).abs()) + extra;
        let wide = average(&|v, o| (v - o).powi(2)).sqrt() + extra;
        let largest = elements.iter().map(|&(v, o)| v.abs().max(o.abs())).fold(0.0, f64::max);
        // The sum of differences, and a few roundings of numbers as large as the elements themselves.
        let e_mean = depth * U * spread + 4.0 * U * largest;
        // Each (v - mean)^2 moves by 2 |v - mean| times the error of its difference; Cauchy-Schwarz for the sum of these.
        let e_variance = depth * U * (variance + 2.0 * variance.sqrt() * (spread + wide)) + (depth * U * wide).powi(2);
        // Means of channels that are brought together are rounded as large numbers.
        let e_variance = e_variance + if extra > 0.0 { 8.0 * U * largest * (variance.sqrt() + extra) } else { 0.0 };
        let e_inv = e_variance / (2.0 * (variance + eps)) + 4.0 * U;
        Self { mean, variance, inv: 1.0 / (variance + eps).sqrt(), e_mean, e_variance, e_inv }
    }

    /// (x - mean) inv and its error.
    fn normal(&self, x: f64) -> (f64, f64) {
        let h = (x - self.mean) * self.inv;
        (h, self.e_mean * self.inv + h.abs() * (self.e_inv + 3.0 * U))
    }

    fn saved(&self) -> [(f64, f64); 2] {
        [(self.mean, self.e_mean), (self.inv, self.inv * self.e_inv)]
    }
}

/// h scale + shift with its tolerance.
fn affine((h, dh): (f64, f64), scale: f64, shift: f64) -> (f64, f64) {
    let value = h * scale + shift;
    (value, 1.01 * (scale.abs() * (dh + 2.0 * U * h.abs()) + U * value.abs()))
}

/// A number with the sum of the magnitudes that went into it and its error.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    value: f64,
    size: f64,
    error: f64,
}

impl Sum {
    /// Of terms (value, error), added with at most `depth` roundings.
    fn of(terms: impl Iterator<Item = (f64, f64)>, depth: f64) -> Self {
        let mut sum = Self::default();
        for (value, error) in terms {
            sum.value += value;
            sum.size += value.abs();
            sum.error += error;
        }
        sum.error += depth * U * sum.size;
        sum
    }

    fn expected(self) -> (f64, f64) {
        (self.value, 1.01 * self.error)
    }
}

/// inv (t - k0 - h k1) with its tolerance, t = scale g, k0 and k1 being averages over `n` elements of t and t h.
fn through(stat: &Stat, (h, dh): (f64, f64), t: f64, k0: Sum, k1: Sum, n: f64) -> (f64, f64) {
    let value = stat.inv * (t - k0.value / n - h * k1.value / n);
    let size = stat.inv * (t.abs() + k0.value.abs() / n + (h * k1.value).abs() / n);
    let moved = stat.inv * (k0.error / n + h.abs() * k1.error / n + dh * k1.value.abs() / n);
    (value, 1.01 * (moved + size * (stat.e_inv + 8.0 * U)))
}

/// x (some columns far from 0), g, affine, running (mean, variance), live.
fn members(rows: usize, n: usize, count: usize) -> Vec<Member> {
    let mut random = Random::new((rows * 13 + n) as u64);
    let one = |random: &mut Random, slot: usize| -> Member {
        let x = (0..rows * n).map(|i| (random.unit() + 50.0 * ((i % n) % 3) as f64) as f32).collect();
        let running = (0..2 * n).map(|i| if i < n { random.unit() as f32 } else { 1.0 + random.unit() as f32 / 2.0 });
        let running: Vec<f32> = running.collect();
        vec![x, random.floats(rows * n), random.floats(2 * n), running, vec![if slot == 1 { 0.0 } else { 1.0 }]]
    };
    (0..count).map(|slot| one(&mut random, slot)).collect()
}

/// The arrays of a member in f64.
fn arrays(member: &Member) -> [Vec<f64>; 4] {
    [0, 1, 2, 3].map(|i| doubles(&member[i]))
}
