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
    /// Initial rows of a table; the first word has the table's number in its upper byte, the second is the row.
    pub const ROW_INITIAL: u32 = 20;
    /// Stochastic rounding of a table's rows; words as for [`ROW_INITIAL`], the third is the step.
    pub const ROW_ROUNDING: u32 = 21;
