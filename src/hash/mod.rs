//! Output layers of hundreds of thousands of labels, trained and queried through active sets, exactly and reproducibly.
//!
//! A network is two tables of rows: the *input* table has a row a feature, the *output* table a row a label, and both have
//! [`width`]`(hidden)` columns. A sparse sample is brought to `h = relu(sum of value * input row)`, one more feature that every
//! sample has being the bias; `h` carries a 1 behind its `hidden` elements, so a label's bias is an element of its row and
//! its logit is one product, `z = h . row`. Columns behind that are zeros on both sides and stay zeros.
//!
//! A step touches the rows of the batch's features and those of its *active labels*: its own labels and negatives that are
//! drawn, looked up in hash tables, or neighbours of its labels. Rows that a step does not touch owe it nothing with lazy
//! optimisers; with catch-up Adam they replay what they missed when they are next read, and equal dense Adam bit for bit.

pub mod active;
pub mod batch;
pub mod checkpoint;
pub mod clusters;
pub mod config;
pub mod data;
pub mod export;
pub mod layer;
pub mod lsh;
pub mod network;
pub mod optimiser;
pub mod options;
pub mod predict;
pub mod quality;
pub mod rows;
#[cfg(not(target_arch = "wasm32"))]
pub mod session;
pub mod set;
pub mod shortlist;
pub mod trainer;

pub use batch::Batch;
pub use network::Network;
pub use options::Options;
pub use rows::{Rows, Storage, Touched};
pub use set::SparseSet;
pub use shortlist::Shortlist;
pub use trainer::Trainer;

use crate::gpu::Kernel;

/// Columns of a row: hidden elements, the bias, and zeros up to a multiple of four.
pub const fn width(hidden: usize) -> usize {
    (hidden + 1).next_multiple_of(4)
}

/// One kernel of each permutation that this wing ships, for validation, `doctor` and documentation.
pub fn catalogue() -> Vec<Kernel> {
    [
        active::catalogue(),
        checkpoint::catalogue(),
        clusters::catalogue(),
        layer::catalogue(),
        lsh::catalogue(),
        optimiser::catalogue(),
        predict::catalogue(),
    ]
    .concat()
}
