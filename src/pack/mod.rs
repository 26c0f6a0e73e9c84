//! What lossless compression does to an accelerator's memory, measured on real tensors, and codecs for such tensors.
//!
//! A [`Workload`] is a network as an accelerator sees it: layers of products, each with its stored [`Values`] (weights, and the activation
//! maps of real inputs). A [`Scheme`] says how values lie in memory; [`Size`] is what that costs to the bit, prefixes, padding
//! and pointers counted. A [`machine::Machine`] turns layers and sizes into cycles, accesses, traffic and energy.
//!
//! Values of a group of channels stored at the width of the largest, in lanes of fixed places, is Boveda (Edo Vivancos et al., MLSys 2021);
//! here it is called *fixed-lane width coding*.

pub mod integer;
mod layer;
pub mod machine;
mod scheme;
pub mod tflite;
mod values;

pub use layer::{Layer, Shape, Workload};
pub use scheme::{FixedLane, Restart, Scheme, Size};
pub use values::{Element, Granularity, Kind, Values};

use crate::gpu::Kernel;

/// One kernel of each permutation that this room ships, for validation, `doctor` and documentation.
pub fn catalogue() -> Vec<Kernel> {
    integer::catalogue()
}
