//! Interleaved rANS of bytes (Duda, arXiv 1311.2540; Giesen, arXiv 1402.3392): each chunk has a model of its own, and lanes that code beside each
//! other. Kernels: `rans_histogram`, `rans_table`, `rans_encode`, `rans_offsets`, `rans_pack`, `rans_decode`.
//!
//! Values of 8 bits, and of 4 in a byte each, are the symbols. Of [`Element::I16`] high and low bytes are coded one after the other with a model
//! each; floats are coded by [`super::exponent`]. In large chunks states, lengths and what a lane leaves unused come to 0.024 bits a value, and
//! rounding of frequencies to 0.02 where all 256 symbols occur (normal weights), to less with fewer. All integers: the same bytes on every
//! device, and from [`reference`], which needs none.

mod chunk;
mod device;
mod layout;
mod model;
mod payload;
pub mod reference;
mod size;

pub(super) use chunk::{decode_any, encode_any};
pub(super) use device::catalogue;
pub use device::{Plane, Streams, Workspace, record_count, record_decode, record_encode};
pub use layout::{CHUNK, Layout};
pub(crate) use payload::damaged;
pub use size::{encoded_bits, encoded_bits_async};

use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::pack::Element;
use crate::tensor::Tensor;
use payload::Coded;

/// How a value of 16 bits falls into bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// Turn it left by one bit first: sign behind exponent and mantissa.
    pub rotate: bool,
    /// Code the low bytes too; else they are stored as they are.
    pub codes_low: bool,
}

/// Nothing for values that are bytes.
pub(super) fn split(element: Element) -> Option<Split> {
    match element {
        Element::I4 | Element::I8 | Element::U8 => None,
        Element::I16 => Some(Split { rotate: false, codes_low: true }),
        Element::F16 | Element::Bf16 => Some(Split { rotate: true, codes_low: false }),
    }
}

/// Codes a chunk of `len` integers in words of [`crate::pack::Values::words`].
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for floats and for fewer words than values; [`crate::ErrorKind::TooBig`] for more than [`CHUNK`] values; those of
/// [`Gpu::run_async`].
pub async fn encode_async(
    gpu: &Gpu,
    element: Element,
    values: &Tensor<u32>,
    len: usize,
    control: &Control,
) -> Result<Vec<u32>> {
    integers(element)?;
    encode_any(gpu, element, values, len, control).await
}

/// Blocking twin of [`encode_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn encode(gpu: &Gpu, element: Element, values: &Tensor<u32>, len: usize, control: &Control) -> Result<Vec<u32>> {
    pollster::block_on(encode_async(gpu, element, values, len, control))
}

/// The words of a chunk's integers, on the device. The payload is checked on the host, so that no kernel reads outside of it, and every lane
/// has to end where coding began.
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
    integers(element)?;
    decode_any(gpu, element, payload, len, control).await
}

/// Blocking twin of [`decode_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn decode(gpu: &Gpu, element: Element, payload: &[u32], len: usize, control: &Control) -> Result<Tensor<u32>> {
    pollster::block_on(decode_async(gpu, element, payload, len, control))
}

fn integers(element: Element) -> Result<()> {
    if element.is_float() { Err(Error::internal("floats are coded by their exponents")) } else { Ok(()) }
}

/// Whether there are as many words as values need.
fn enough(words: usize, layout: &Layout, element: Element) -> Result<()> {
    let needed = layout.words(element);
    if words < needed {
        return Err(Error::internal(format!("{words} words for {} values of {}", layout.len, element.name())));
    }
    Ok(())
}

/// What a chunk's payload consists of.
struct Parts<'a> {
    /// The bytes, or the high ones.
    coded: Coded,
    /// Coded low bytes, and the word where they begin.
    low: Option<(usize, Coded)>,
    /// Low bytes that are stored as they are.
    raw: &'a [u32],
}

/// Reads a payload; nothing for a chunk without values.
fn parts<'a>(element: Element, payload: &'a [u32], layout: &Layout) -> Result<Option<Parts<'a>>> {
    let behind = |at: usize| if at < payload.len() { Err(damaged(at, "is behind the end")) } else { Ok(()) };
    if layout.len == 0 {
        return behind(0).map(|()| None);
    }
    let coded = Coded::read(payload, 0, layout)?;
    let next = payload[0] as usize;
    let Some(way) = split(element) else {
        return behind(next).map(|()| Some(Parts { coded, low: None, raw: &[] }));
    };
    if way.codes_low {
        let low = Coded::read(payload, next, layout)?;
        behind(next + payload[next] as usize)?;
        return Ok(Some(Parts { coded, low: Some((next, low)), raw: &[] }));
    }
    let end = next + layout.quads;
    let raw = payload.get(next..end).ok_or_else(|| damaged(payload.len(), "ends inside the stored bytes"))?;
    behind(end)?;
    if raw[layout.quads - 1] & !layout.mask() != 0 {
        return Err(damaged(end - 1, "has bytes behind the last value"));
    }
    Ok(Some(Parts { coded, low: None, raw }))
}
