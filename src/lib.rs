//! Wavehull: one compute engine on wgpu that trains, proves, packs and hashes neural networks on any Vulkan, Metal or
//! DX12 GPU. A feature each: `verify` decides sound robustness properties of ONNX networks in batches, with
//! proofs that can be re-checked without a GPU; `train` trains arrays of models at once; `pack` measures what lossless compression does to an
//! accelerator's memory, and codes tensors; `hash` trains and asks output layers of hundreds of thousands of labels through active sets.
//!
//! ```
//! use wavehull::verify::{Verdict, Verifier, VerifyOptions, vnnlib};
//! use wavehull::{Control, Gpu, Options, graph};
//!
//! # fn main() -> wavehull::Result<()> {
//! # let Ok(_) = Gpu::open(&Options::default()) else { return Ok(()) };
//! let gpu = Gpu::open(&Options::default())?;
//! let (network, _) = graph::onnx::read("tests/fixtures/gemm_relu.onnx".as_ref())?;
//! let property = vnnlib::parse(
//!     "(declare-const X_0 Real) (declare-const X_1 Real) (declare-const X_2 Real) (declare-const X_3 Real)
//!      (declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
//!      (assert (>= X_0 0)) (assert (<= X_0 0.1)) (assert (>= X_1 0)) (assert (<= X_1 0.1))
//!      (assert (>= X_2 0)) (assert (<= X_2 0.1)) (assert (>= X_3 0)) (assert (<= X_3 0.1))
//!      (assert (>= Y_0 100))",
//! )?;
//! let verifier = Verifier::new(&gpu, &network, VerifyOptions::default())?;
//! let outcome = &verifier.verify(&[&property], &Control::default())?[0];
//! assert_eq!(outcome.verdict, Verdict::Holds);
//! # Ok(())
//! # }
//! ```
//!
//! Whatever names wgpu or ndarray in a signature makes their major versions part of this crate's: wgpu is re-exported.
#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

#[cfg(feature = "bench")]
pub mod bench;
pub mod error;
#[cfg(any(feature = "train", feature = "pack", feature = "hash"))]
mod files;
mod fnv;
pub mod gpu;
pub mod graph;
#[cfg(feature = "hash")]
pub mod hash;
#[cfg(any(feature = "train", feature = "hash"))]
mod nearest;
pub mod ops;
#[cfg(feature = "pack")]
pub mod pack;
#[cfg(any(feature = "train", feature = "hash"))]
mod schedule;
pub mod tensor;
#[cfg(feature = "train")]
pub mod train;
#[cfg(feature = "verify")]
pub mod verify;

pub use error::{Error, ErrorKind, Place, Result};
pub use gpu::{CancelToken, Control, Gpu, Options, wgpu};
pub use tensor::Tensor;

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
