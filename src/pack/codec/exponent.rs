//! bf16 and fp16 by their exponents: these come from few sizes and cost 2 to 3 bits, while sign and mantissa are noise that is stored as it is.
//! Kernels: those of [`super::rans`], which split and join values as they read and write them.
//!
//! A value is turned left by one bit, so that its sign comes last. The high byte is then the exponent of a bf16, or the exponent and the first
//! three bits of the mantissa of an fp16, and is coded with [`super::rans`]; the low byte is stored. Of an fp16 that is a little smaller than coding
//! its 5 bits of exponent alone (0.8510 against an entropy of 0.8535 on normal weights of four scales, bf16: 0.6677), for mantissas are not quite
//! uniform, and bytes stay bytes (the low 11 bits would lie across words). DietGPU publishes 0.67 for bf16 and 0.85 for fp16.

pub use super::rans::reference;

use super::rans::{decode_any, encode_any};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::pack::Element;
use crate::tensor::Tensor;

/// Codes a chunk of `len` floats in words of [`crate::pack::Values::words`].
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for integers and for fewer words than values; [`crate::ErrorKind::TooBig`] for more values than
/// [`super::rans::CHUNK`]; those of [`Gpu::run_async`].
pub async fn encode_async(
    gpu: &Gpu,
    element: Element,
    values: &Tensor<u32>,
    len: usize,
    control: &Control,
) -> Result<Vec<u32>> {
    floats(element)?;
    encode_any(gpu, element, values, len, control).await
}

/// Blocking twin of [`encode_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn encode(gpu: &Gpu, element: Element, values: &Tensor<u32>, len: usize, control: &Control) -> Result<Vec<u32>> {
    pollster::block_on(encode_async(gpu, element, values, len, control))
}

/// The words of a chunk's floats, on the device; checks as [`super::rans::decode_async`].
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with the word of the chunk that cannot be right; else as [`encode_async`].
pub async fn decode_async(
    gpu: &Gpu,
    element: Element,
    payload: &[u32],
    len: usize,
    control: &Control,
) -> Result<Tensor<u32>> {
    floats(element)?;
    decode_any(gpu, element, payload, len, control).await
}

/// Blocking twin of [`decode_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn decode(gpu: &Gpu, element: Element, payload: &[u32], len: usize, control: &Control) -> Result<Tensor<u32>> {
    pollster::block_on(decode_async(gpu, element, payload, len, control))
}

fn floats(element: Element) -> Result<()> {
    if element.is_float() { Ok(()) } else { Err(Error::internal("integers have no exponents")) }
}
