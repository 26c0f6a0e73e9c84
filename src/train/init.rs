//! How parameters start.

use crate::ops::random::{Stream, normals, purpose};

/// How a parameter starts: drawn for each member from its own seed, with the fan of one member.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// What the graph's constant holds.
    Given,
    /// One value everywhere.
    Constant(f32),
    /// Uniform in `-bound..bound` with `bound = gain sqrt(3 / fan_in)`: with gain `sqrt(2)` He et al. (ICCV 2015) for ReLU,
    /// with
    /// `1 / sqrt(3)` what torch gives weights and biases of linear layers and convolutions.
    Uniform {
        /// The gain.
        gain: f32,
        /// Values that one output adds up.
        fan_in: usize,
    },
    /// Normal with standard deviation `gain / sqrt(fan_in)`.
    Normal {
        /// The gain.
        gain: f32,
        /// Values that one output adds up.
        fan_in: usize,
    },
}

impl Init {
    /// The first values of a parameter of this shape, drawn from a member's seed: the same for the same seed and parameter
    /// wherever the member stands. `given` is what the graph's constant holds.
    pub fn fill(&self, seed: u64, parameter: u32, shape: &[usize], given: &[f32]) -> Vec<f32> {
        let n = shape.iter().product();
        let stream = Stream::new(seed);
        let words = |block: usize| stream.block([block as u32, parameter, 0, purpose::INITIAL]);
        match *self {
            Self::Given => given.to_vec(),
            Self::Constant(value) => vec![value; n],
            Self::Uniform { gain, fan_in } => {
                let bound = f64::from(gain) * (3.0 / fan_in.max(1) as f64).sqrt();
                // The middles of 2^32 equal parts of -1..1.
                let place = |word: u32| ((f64::from(word) + 0.5) / 2_147_483_648.0 - 1.0) * bound;
                drawn(n, |block| words(block).map(|word| place(word) as f32))
            }
            Self::Normal { gain, fan_in } => {
                let deviation = f64::from(gain) / (fan_in.max(1) as f64).sqrt();
                drawn(n, |block| normals(words(block)).map(|v| (v * deviation) as f32))
            }
        }
    }
}

/// `n` values, four a block.
fn drawn(n: usize, block: impl Fn(usize) -> [f32; 4]) -> Vec<f32> {
    let mut values: Vec<f32> = (0..n.div_ceil(4)).flat_map(block).collect();
    values.truncate(n);
    values
}

#[cfg(test)]
mod tests {
    use super::Init;

    const SHAPE: [usize; 2] = [300, 333];

    /// Mean, mean square and largest magnitude of n values.
    fn moments(values: &[f32]) -> (f64, f64, f64) {
        let n = values.len() as f64;
        let mean_of = |f: fn(f64) -> f64| values.iter().map(|&v| f(f64::from(v))).sum::<f64>() / n;
        (mean_of(|v| v), mean_of(|v| v * v), values.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max))
    }

    #[test]
    fn draws_have_the_moments_of_one_members_fan() {
        let n = (SHAPE[0] * SHAPE[1]) as f64;
        // Both have variance gain^2 / fan_in = 2 / 50; five standard errors: of the mean sqrt(v / n), of the square v sqrt(k
        // / n) with k = 4/5 for uniform and 2 for normal numbers.
        let (gain, fan_in, v) = (2.0_f32.sqrt(), 50, 0.04_f64);
        for (init, spread) in [(Init::Uniform { gain, fan_in }, 0.8_f64), (Init::Normal { gain, fan_in }, 2.0)] {
            let (mean, square, largest) = moments(&init.fill(3, 1, &SHAPE, &[]));
            assert!(mean.abs() < 5.0 * (v / n).sqrt(), "{init:?}: mean {mean}");
            assert!((square - v).abs() < 5.0 * v * (spread / n).sqrt(), "{init:?}: square {square}");
            let bound = (3.0 * v).sqrt();
            match init {
                Init::Uniform { .. } => assert!(largest <= bound * 1.000_001 && largest > 0.999 * bound, "{largest}"),
                _ => assert!(largest > 3.5 * v.sqrt() && largest < 6.7 * v.sqrt(), "{largest}"),
            }
        }
    }

    #[test]
    fn draws_repeat_and_differ_by_seed_and_parameter() {
        let init = Init::Uniform { gain: 1.0, fan_in: 3 };
        let of = |seed, parameter, n: usize| init.fill(seed, parameter, &[n], &[]);
        assert_eq!(of(1, 0, 10), of(1, 0, 10));
        assert_eq!(of(1, 0, 7), of(1, 0, 10)[..7], "an element's value does not know how many there are");
        for other in [of(2, 0, 10), of(1, 1, 10), of(1 << 32, 0, 10)] {
            assert!(of(1, 0, 10).iter().zip(&other).all(|(a, b)| a.to_bits() != b.to_bits()));
        }
        assert_eq!(Init::Given.fill(1, 0, &[2], &[3.0, 4.0]), [3.0, 4.0]);
        assert_eq!(Init::Constant(0.5).fill(1, 0, &[3], &[]), [0.5; 3]);
    }
}
