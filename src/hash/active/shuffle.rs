//! Orders of labels that a few words of key give, so that any place can be asked for without making the whole.

use super::bits_of;
use crate::ops::random::{Stream, purpose};

/// What is drawn with a step's keys: the second word of counters.
pub(super) mod what {
    /// The order in which labels fill a set.
    pub const FILL: u32 = 0;
    /// The order of candidates that are otherwise alike.
    pub const TIES: u32 = 1;
    /// The order of a sample's groups of candidates.
    pub const GROUPS: u32 = 2;
    /// The order of candidates in a group.
    pub const ENTRIES: u32 = 3;
    /// Draws of a distribution.
    pub const DRAWS: u32 = 4;
}

/// All bits of a word depend on all of another: lowbias32 of Wellons' hash-prospector.
pub(super) fn mix(word: u32) -> u32 {
    let mut h = (word ^ (word >> 16)).wrapping_mul(0x7feb_352d);
    h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
    h ^ (h >> 16)
}

/// A random order of `0..n`, the same as `lib/permute` gives: an alternating Feistel network of eight rounds or more with random keys,
/// and walks along its cycles where n is no power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    n: u32,
    bits: u32,
    keys: [u32; 8],
}

impl Order {
    /// An order of `0..n`, `n` up to 2^31, for one of the things that a step draws.
    pub(super) fn new(n: usize, stream: Stream, what: u32, step: u32) -> Self {
        let [a, b] = [0, 1].map(|half| stream.block([half, what, step, purpose::ACTIVE]));
        let mut keys = [0; 8];
        keys[..4].copy_from_slice(&a);
        keys[4..].copy_from_slice(&b);
        Self { n: u32::try_from(n).unwrap_or(u32::MAX), bits: bits_of(n).max(2), keys }
    }

    /// The order in which a step fills up shared sets of `labels` labels.
    pub fn of_fill(labels: usize, seed: u64, step: u32) -> Self {
        Self::new(labels, Stream::new(seed), what::FILL, step)
    }

    /// Another order for each salt.
    #[must_use]
    pub(super) fn salted(&self, salt: u32) -> Self {
        Self { keys: self.keys.map(|key| key ^ salt), ..*self }
    }

    /// One to one on the numbers of [`Order::bits`] bits.
    pub(super) fn scramble(&self, x: u32) -> u32 {
        let low = self.bits / 2;
        let (below, above) = ((1 << low) - 1, (1 << (self.bits - low)) - 1);
        let (mut a, mut b) = (x >> low, x & below);
        // Words of a few bits need more rounds to forget what they were.
        let turns: u32 = match self.bits {
            ..4 => 4,
            4..8 => 2,
            _ => 1,
        };
        for turn in 0..turns {
            let turned = turn.wrapping_mul(0x9e37_79b9);
            for pair in self.keys.chunks_exact(2) {
                a ^= mix(b ^ pair[0].wrapping_add(turned)) & above;
                b ^= mix(a ^ pair[1].wrapping_add(turned)) & below;
            }
        }
        (a << low) | b
    }

    /// What stands at place `q < n`.
    pub fn at(&self, q: u32) -> u32 {
        let mut x = self.scramble(q);
        while x >= self.n {
            x = self.scramble(x);
        }
        x
    }

    /// Bits of the numbers that rounds work on.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// The keys as kernels take them.
    pub(super) fn words(&self) -> [[u32; 4]; 2] {
        let k = self.keys;
        [[k[0], k[1], k[2], k[3]], [k[4], k[5], k[6], k[7]]]
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    /// Chi-square of counts that should be alike, in standard deviations from its mean.
    fn excess(counts: &[u32]) -> f64 {
        let mean = counts.iter().map(|&c| f64::from(c)).sum::<f64>() / counts.len() as f64;
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - mean).powi(2) / mean).sum();
        let degrees = (counts.len() - 1) as f64;
        (chi - degrees) / (2.0 * degrees).sqrt()
    }

    #[test]
    fn an_order_has_everything_once() {
        for n in [1, 2, 3, 4, 5, 17, 64, 1000, 65_537] {
            let order = Order::of_fill(n, 3, 8);
            let mut all: Vec<u32> = (0..u32::try_from(n).unwrap()).map(|q| order.at(q)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..u32::try_from(n).unwrap()), "{n}");
        }
    }

    #[test]
    fn every_label_stands_first_equally_often_and_so_does_every_pair() {
        for n in [2, 3, 5, 7, 12, 17, 50, 100] {
            let mut first = vec![0; n];
            let mut pairs = vec![0; n * n];
            for step in 0..20_000 {
                let order = Order::of_fill(n, 11, step);
                let (a, b) = (order.at(0) as usize, order.at(1) as usize);
                first[a] += 1;
                pairs[a * n + b] += 1;
            }
            let pairs: Vec<u32> = (0..n * n).filter(|i| i / n != i % n).map(|i| pairs[i]).collect();
            for excess in [excess(&first), excess(&pairs)] {
                assert!(excess < 5.0, "{n} labels: {excess} standard deviations");
            }
        }
    }

    #[test]
    fn steps_seeds_and_salts_give_different_orders() {
        let n = 100_000;
        let base = Order::of_fill(n, 1, 1);
        for other in [Order::of_fill(n, 1, 2), Order::of_fill(n, 2, 1), base.salted(1)] {
            let same = (0..1000).filter(|&q| base.at(q) == other.at(q)).count();
            assert!(same < 5, "{same} of 1000 places agree");
        }
    }

    /// Worked out by an independent implementation (Python integers), with Philox's known answers.
    const PINNED: [u32; 6] = [534, 765, 532, 255, 572, 179];

    #[test]
    fn an_order_is_what_its_seed_promises() {
        let order = Order::of_fill(1000, 1, 7);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|q| order.at(q)), PINNED);
    }
}
