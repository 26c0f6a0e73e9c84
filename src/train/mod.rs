//! Arrays of models trained at once, each bit-identical to being trained alone.
//!
//! A **member** is one model with its own parameters, hyper-parameters, random streams and age; a **slot** is a member's place in an
//! array. Everything on the device has the slots as its first axis: activations are `[slots, batch, ..]` (images channels last), and all
//! parameters of a member are one row of a table `[slots, width]`, of which each parameter is a field ([`crate::Tensor::field`]).
//! No kernel adds across slots and no order of summation knows how many there are.

pub mod checkpoint;
#[cfg(feature = "config")]
pub mod config;
pub mod data;
pub mod events;
mod hyper;
mod init;
mod model;
pub mod random;
pub mod search;

pub use hyper::{Hyper, Key, Kind, Setting, shape_classes};
pub use init::Init;
pub use model::{Model, Parameter};
