//! What lossless compression does to an accelerator's memory, measured on real tensors, and codecs for such tensors.
//!
//! A [`Workload`] is a network as an accelerator sees it: layers of products, each with its stored [`Values`] (weights, and the activation
//! maps of real inputs). A [`Scheme`] says how values lie in memory; [`Size`] is what that costs to the bit, prefixes, padding
//! and pointers counted. A [`machine::Machine`] turns layers and sizes into cycles, accesses, traffic and energy.
//!
//! Values of a group of channels stored at the width of the largest, in lanes of fixed places, is Boveda (Edo Vivancos et al., MLSys 2021);
//! here it is called *fixed-lane width coding*.

pub mod codec;
pub mod input;
pub mod integer;
mod layer;
pub mod machine;
pub mod quantise;
pub mod report;
pub mod scheme;
pub mod study;
pub mod tflite;
mod values;

use crate::gpu::Kernel;

pub use codec::{Codec, EncodeOptions, Reader, Writer, decode_async, encode_async};
#[cfg(not(target_arch = "wasm32"))]
pub use codec::{decode, encode};
pub use layer::{Layer, Shape, Workload};
pub use scheme::{FixedLane, Meter, Restart, Scheme, Size};
pub use values::{Element, Granularity, Kind, Values};

/// One kernel of each permutation that this wing ships, for validation, `doctor` and documentation.
pub fn catalogue() -> Vec<Kernel> {
    [codec::catalogue(), integer::catalogue(), machine::catalogue(), scheme::catalogue()].concat()
}
