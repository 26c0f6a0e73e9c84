//! Wavehull: one compute engine on wgpu that trains, proves, packs and hashes neural networks.
#![deny(missing_docs)]

#[cfg(feature = "bench")]
pub mod bench;
pub mod error;
pub mod gpu;
pub mod graph;
pub mod ops;
pub mod tensor;
#[cfg(feature = "verify")]
pub mod verify;

pub use error::{Error, ErrorKind, Result};
pub use tensor::Tensor;
pub use gpu::{CancelToken, Control, Gpu, Options, wgpu};

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
