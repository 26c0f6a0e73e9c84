//! Random numbers that are a pure function of key and counter: Philox4x32-10, on the host and in kernels with the same bits.
//! Kernel: `random_words`; shared part: `lib/philox`.
//!
//! Salmon, Moraes, Dror, Shaw: *Parallel random numbers: as easy as 1, 2, 3* (SC 2011). A key is a member's seed, never the
//! slot it happens to stand in, so a member draws the same numbers wherever it is trained. The counter of a draw is
//!
//! | word | what |
//! | --- | --- |
//! | 0 | element / 4: the four words of a block serve four neighbours |
//! | 1 | the layer, parameter, epoch or other thing that draws |
//! | 2 | the member's step |
//! | 3 | the [`purpose`]: draws of different kinds never meet |
//!
//! Kernels find key and step in `streams` `[slots, 4]`: key low, key high, step, live ([`Stream::words`]).

use super::{slot_grid, slot_stride, word};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const RANDOM_WORDS: &str = include_str!("../../shaders/ops/random_words.wgsl");

params!(RandomWordsParams {
    quads: u32,
    threads: u32,
    slots: u32,
    slot_step: u32,
    stride_streams: u32,
    stride_out: u32,
    layer: u32,
    purpose: u32,
    first: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Last word of a counter: what a number is drawn for. New purposes get new numbers; old ones never change.
pub mod purpose {
    /// Initial parameters; the second word is the parameter's index.
    pub const INITIAL: u32 = 1;
    /// Orders of samples; the second word is the epoch.
    pub const SHUFFLE: u32 = 2;
    /// Dropout; the second word is the layer's number.
    pub const DROPOUT: u32 = 3;
    /// Crops and flips; the first word is the sample's place in its batch.
    pub const AUGMENT: u32 = 4;
    /// Noise on inputs.
    pub const NOISE: u32 = 5;
    /// Splits of a data set.
    pub const SPLIT: u32 = 6;
    /// Searches for hyper-parameters.
    pub const SEARCH: u32 = 7;
    /// Active labels of a step; the second word says which of their draws.
    pub const ACTIVE: u32 = 8;
    /// Hash functions; the second word is the permutation or projection, the third the generation.
    pub const HASH: u32 = 21;
    /// Which ids a bucket gives; see `lsh_candidates`.
    pub const BUCKET: u32 = 22;
    /// The order in which hash tables are read; the third word is the step.
    pub const TABLES: u32 = 23;
    /// Initial rows of a table; the first word has the table's number in its upper byte, the second is the row.
    pub const ROW_INITIAL: u32 = 24;
    /// Stochastic rounding of a table's rows; words as for [`ROW_INITIAL`], the third is the step.
    pub const ROW_ROUNDING: u32 = 25;
    /// Synthetic samples; the second word is the sample.
    pub const GENERATE: u32 = 26;
    /// Words of a text that are left out because they are frequent.
    pub const SUBSAMPLE: u32 = 27;
    /// Rows that clusters are learned from.
    pub const CLUSTER: u32 = 28;
}

/// The random numbers of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream {
    key: [u32; 2],
}

/// Low and high word of a product.
const fn product(a: u32, b: u32) -> (u32, u32) {
    let product = a as u64 * b as u64;
    (product as u32, (product >> 32) as u32)
}

impl Stream {
    /// The stream of a key.
    pub const fn new(key: u64) -> Self {
        Self { key: [key as u32, (key >> 32) as u32] }
    }

    /// Four random words.
    pub fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let (mut c, mut k) = (counter, self.key);
        for _ in 0..10 {
            let (low0, high0) = product(0xd251_1f53, c[0]);
            let (low1, high1) = product(0xcd9e_8d57, c[2]);
            c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0];
            k = [k[0].wrapping_add(0x9e37_79b9), k[1].wrapping_add(0xbb67_ae85)];
        }
        c
    }

    /// What the stream's row of `streams` holds at a step; `live` is 1 for a member that is trained and 0 for an empty slot.
    pub const fn words(&self, step: u32, live: bool) -> [u32; 4] {
        [self.key[0], self.key[1], step, live as u32]
    }

    /// Word `index` of the numbers that `what` draws for a purpose at a step.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "orders and parameters of more than 2^34 elements are refused before"
    )]
    pub fn word(&self, index: usize, what: u32, step: u32, purpose: u32) -> u32 {
        self.block([(index / 4) as u32, what, step, purpose])[index % 4]
    }

    /// A random order of `n` things (Fisher and Yates), the same on every host. The chance of an order is off by less than
    /// `n^2 / 2^32` of itself.
    pub fn permutation(&self, n: usize, epoch: u32, purpose: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).map(|i| u32::try_from(i).unwrap_or(u32::MAX)).collect();
        for i in (1..n).rev() {
            let j = below(self.word(i, epoch, 0, purpose), i + 1);
            order.swap(i, j);
        }
        order
    }
}

/// Uniform in `[0, 1)`: the upper 24 bits of a word, exactly.
pub fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Uniform in `0..n` for `n` up to 2^32, by the high word of a product.
pub fn below(word: u32, n: usize) -> usize {
    usize::try_from((u64::from(word) * n as u64) >> 32).unwrap_or(0)
}

/// Four normal numbers of mean 0 and variance 1 (Box and Muller, 1958) of a block. Hosts may differ in the last bit of an
/// f64 where their logarithm does.
pub fn normals(block: [u32; 4]) -> [f64; 4] {
    let pair = |a: u32, b: u32| {
        let radius = (-2.0 * ((f64::from(a) + 1.0) / 4_294_967_296.0).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * (f64::from(b) / 4_294_967_296.0)).sin_cos();
        [radius * cos, radius * sin]
    };
    let ([a, b], [c, d]) = (pair(block[0], block[1]), pair(block[2], block[3]));
    [a, b, c, d]
}

/// What draws: the second and the last word of counters, and where the first begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draw {
    /// The second word.
    pub layer: u32,
    /// The last word, one of [`purpose`].
    pub purpose: u32,
    /// The first block.
    pub first: u32,
}

/// Records `out[b, i]` = word `i` of slot `b`'s stream at its step, for `streams` `[slots, 4]` and `out` `[slots, n]`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn words(
    recording: &mut Recording,
    caps: &Caps,
    streams: &Tensor<u32>,
    draw: Draw,
    out: &Tensor<u32>,
) -> Result<()> {
    let &[slots, n] = out.shape() else {
        return Err(Error::internal(format!("random words into shape {:?}", out.shape())));
    };
    let quads = n.div_ceil(4);
    let (grid, threads, slot_step) = slot_grid(quads, slots, caps.max_workgroups)?;
    let params = RandomWordsParams {
        quads: word(quads)?,
        threads,
        slots: word(slots)?,
        slot_step,
        stride_streams: stream_stride(streams, slots)?,
        stride_out: slot_stride(out, slots)? / 4,
        layer: draw.layer,
        purpose: draw.purpose,
        first: draw.first,
        ..Default::default()
    };
    let bindings = vec![streams.binding(), out.binding()];
    recording.dispatch(&kernel(), bindings, &params, Grid::Direct(grid), 30.0 * out.len() as f64)
}

/// The stride between slots of `streams`.
pub(crate) fn stream_stride(streams: &Tensor<u32>, slots: usize) -> Result<u32> {
    if streams.columns() != 4 || streams.shape().len() != 2 {
        return Err(Error::internal(format!("streams of shape {:?}, not [slots, 4]", streams.shape())));
    }
    slot_stride(streams, slots)
}

fn kernel() -> Kernel {
    Kernel::new::<RandomWordsParams>("random_words", RANDOM_WORDS, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel()]
}

#[cfg(test)]
mod tests {
    use super::{Stream, below, normals, purpose, uniform};

    #[test]
    fn known_answers_of_random123() {
        for (counter, key, expected) in [
            ([0; 4], 0, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], u64::MAX, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                0x299f_31d0_a409_3822,
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(Stream::new(key).block(counter), expected, "{counter:x?}, key {key:x}");
        }
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        assert_eq!(uniform(0).to_bits(), 0.0_f32.to_bits());
        assert_eq!(uniform(u32::MAX).to_bits(), (1.0 - 2.0_f32.powi(-24)).to_bits());
        assert_eq!((below(0, 7), below(u32::MAX, 7), below(5, 1)), (0, 6, 0));
        for block in [[0; 4], [u32::MAX; 4]] {
            assert!(normals(block).iter().all(|v| v.is_finite()), "{block:?}");
        }
        // sqrt(-2 ln 2^-32), along the axis.
        assert!((normals([0; 4])[0] - (64.0 * 2.0_f64.ln()).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn normal_numbers_have_their_moments() {
        let stream = Stream::new(7);
        let numbers: Vec<f64> = (0..25_000).flat_map(|i| normals(stream.block([i, 0, 0, 99]))).collect();
        let mean_of = |power: i32| numbers.iter().map(|v| v.powi(power)).sum::<f64>() / numbers.len() as f64;
        // Five standard errors of 100,000 draws: variances of x, x^2, x^3, x^4 are 1, 2, 15, 96.
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let limit = 5.0 * (variance / 1e5_f64).sqrt();
            assert!((mean_of(power) - expected).abs() < limit, "moment {power} is {}", mean_of(power));
        }
    }

    #[test]
    fn a_permutation_has_everything_once_and_depends_on_key_epoch_and_purpose() {
        let order = |key: u64, epoch: u32, purpose: u32| Stream::new(key).permutation(1000, epoch, purpose);
        let first = order(1, 0, purpose::SHUFFLE);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        assert_eq!(first, order(1, 0, purpose::SHUFFLE));
        for other in [order(2, 0, purpose::SHUFFLE), order(1, 1, purpose::SHUFFLE), order(1, 0, purpose::SPLIT)] {
            assert!(first.iter().zip(&other).filter(|(a, b)| a == b).count() < 20, "orders that agree");
        }
        assert_eq!(Stream::new(1).permutation(0, 0, 0), Vec::<u32>::new());
        // Pinned: the order of samples is part of what a seed promises.
        assert_eq!(Stream::new(1).permutation(8, 0, purpose::SHUFFLE), PINNED);
    }

    /// Worked out by an independent implementation (Python integers).
    const PINNED: [u32; 8] = [3, 6, 4, 5, 0, 7, 2, 1];
}
