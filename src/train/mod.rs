//! Arrays of models trained at once, each bit-identical to being trained alone.
//!
//! A **member** is one model with its own parameters, hyper-parameters, random streams and age; a **slot** is a member's
//! place in an array. Everything on the device has the slots as its first axis: activations are `[slots, batch, ..]` (images
//! channels last), and all parameters of a member are one row of a table `[slots, width]`, of which each parameter is a
//! field ([`crate::Tensor::field`]). No kernel adds across slots and no order of summation knows how many there are.

mod array;
pub mod batch;
mod builder;
mod certify;
pub mod checkpoint;
#[cfg(feature = "config")]
pub mod config;
pub mod data;
pub mod events;
mod hyper;
mod init;
pub mod interval;
pub mod loss;
mod lower;
mod member;
mod model;
pub mod models;
pub mod optimiser;
pub mod random;
pub mod search;
#[cfg(all(feature = "config", not(target_arch = "wasm32")))]
pub mod session;
mod set;
mod table;

pub use crate::schedule::Schedule;
pub use array::{ArrayMemory, ArrayOptions, TrainingArray};
pub use builder::{Attention, Builder, Conv1d, Conv2d, ConvTranspose2d, Pool};
pub use certify::Certify;
pub use hyper::{Hyper, Key, Kind, Setting, shape_classes};
pub use init::Init;
pub use loss::Loss;
pub use member::{Member, Progress, Score, Snapshot, State};
pub use model::{Model, Parameter};
pub use optimiser::Optimiser;
pub use set::{Augment, DeviceSet, Labels};

use crate::gpu::Kernel;

/// One kernel of each permutation that this wing ships, for validation, `doctor` and documentation.
pub fn catalogue() -> Vec<Kernel> {
    [batch::catalogue(), interval::catalogue(), loss::catalogue(), optimiser::tables::catalogue()].concat()
}
