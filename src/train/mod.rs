//! Arrays of models trained at once, each bit-identical to being trained alone.
//!
//! A **member** is one model with its own parameters, hyper-parameters, random streams and age; a **slot** is a member's place in an
//! array. Everything on the device has the slots as its first axis: activations are `[slots, batch, ..]` (images channels last), and all
//! parameters of a member are one row of a table `[slots, width]`, of which each parameter is a field ([`crate::Tensor::field`]).
//! No kernel adds across slots and no order of summation knows how many there are.

mod builder;
mod init;
mod model;
pub mod models;

pub use builder::{Attention, Builder, Conv1d, Conv2d, ConvTranspose2d, Pool};
pub use init::Init;
pub use model::{Model, Parameter};
