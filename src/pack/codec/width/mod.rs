//! A width a group: 32 consecutive values at the width of the largest. Kernels: `group_widths`, `width_pack`, `width_unpack`.
//!
//! A group of width w takes exactly w words: value i has the bits from i w on, the lowest first, in two's complement if the element is
//! signed. So groups begin at words, no group shares one with another, and a group of zeros takes nothing but its width. Index and widths: [`super::layout`].
//!
//! Coding takes two passes over the values (widths; a scan of the blocks' sums; packing), decoding one over the payload.
//!
//! Shapes tried on a software device (2 cores shared with other work, Mesa 22.3, 4 MiB of i8, r = 0.63), decoding and coding in GB/s and as shares of
//! B / (1 + r) and B / (2 + r), B what a kernel copies: 8 lanes, a group at a time, words stored as they come: 2.3 (79 %) and 1.55 (86 %); 8 lanes, half a
//! group, blocks put together in workgroup memory: 1.9 (65 %) and 1.0 (56 %); 64 lanes 1.25 to 1.55 and 0.9; 256 lanes 1.4 and 0.8 to 0.9. No GPU has
//! run them yet.

mod twin;

/// The same on the host, written for reading.
pub mod reference {
    pub use super::twin::{decode, decode_range, encode};
}

use super::layout::{self, Layout, Packed};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Control, Gpu, Kernel, Recording, params};
use crate::ops::word;
use crate::pack::values::Element;
use crate::tensor::Tensor;

const WIDTH_PACK: &str = include_str!("../../../../shaders/pack/width_pack.wgsl");
const WIDTH_UNPACK: &str = include_str!("../../../../shaders/pack/width_unpack.wgsl");

/// Values of a group.
pub const GROUP: usize = 32;

params!(WidthPackParams { words: u32, groups: u32, width_words: u32, across: u32 });
params!(WidthUnpackParams { quads: u32, is_signed: u32, width_words: u32, across: u32 });

/// How the work is shared out; never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Invocations of a workgroup: 8, 64 or 256.
    pub lanes: u32,
    /// Vectors of four words that an invocation decodes at a time: 1 or 2.
    pub part: u32,
    /// Store words of data as they come, instead of block by block.
    pub direct: bool,
}

impl Tile {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self { lanes: 8, part: 1, direct: false },
        Self { lanes: 8, part: 2, direct: true },
        Self { lanes: 64, part: 1, direct: false },
        Self { lanes: 64, part: 2, direct: true },
        Self { lanes: 256, part: 1, direct: false },
        Self { lanes: 256, part: 2, direct: true },
    ];

    /// What a device gets.
    pub fn of(caps: &Caps) -> Self {
        if caps.is_software() { Self::ALL[1] } else { Self::ALL[2] }
    }
}

/// The layout of `len` values.
pub fn layout(element: Element, len: usize) -> Layout {
    Layout { element, len, group: GROUP }
}

/// Room on the device for `len` values, whatever they are.
///
/// # Errors
/// Those of [`Tensor::uninit_async`]; [`crate::ErrorKind::Internal`] for no values, and for floating-point ones.
pub async fn room_async(gpu: &Gpu, element: Element, len: usize) -> Result<Packed> {
    let layout = layout(element, len);
    if len == 0 || element.is_float() {
        return Err(Error::internal(format!("width codes of {len} {} values", element.name())));
    }
    Packed::new_async(gpu, layout, layout.groups() * element.bits() as usize).await
}

/// Blocking twin of [`room_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn room(gpu: &Gpu, element: Element, len: usize) -> Result<Packed> {
    pollster::block_on(room_async(gpu, element, len))
}

/// Records coding: `values` are words as of [`crate::pack::Values::words`], zeros behind the end of the last word.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for an array that does not hold the values.
pub fn encode(recording: &mut Recording, caps: &Caps, tile: Tile, values: &Tensor<u32>, packed: &Packed) -> Result<()> {
    let layout = &packed.layout;
    packed.record_widths(recording, caps, (tile.lanes, 1, 1), values)?;
    let (grid, across) = layout::grid(layout, caps)?;
    let params = WidthPackParams {
        words: word(layout.words())?,
        groups: word(layout.groups())?,
        width_words: word(layout.width_words())?,
        across,
        ..Default::default()
    };
    let bindings = vec![values.binding(), packed.widths.binding(), packed.index.binding(), packed.data.binding()];
    recording.dispatch(&pack_kernel(layout, tile), bindings, &params, grid, 8.0 * layout.words() as f64)
}

/// Records decoding into `values`, whole vectors of four words.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for an array that does not hold the values.
pub fn decode(recording: &mut Recording, caps: &Caps, tile: Tile, packed: &Packed, values: &Tensor<u32>) -> Result<()> {
    let layout = &packed.layout;
    layout::fits(layout, values)?;
    let (grid, across) = layout::grid(layout, caps)?;
    let params = WidthUnpackParams {
        quads: word(layout.words().div_ceil(4))?,
        is_signed: u32::from(layout.element.is_signed()),
        width_words: word(layout.width_words())?,
        across,
        ..Default::default()
    };
    let bindings = vec![packed.index.binding(), packed.widths.binding(), packed.data.binding(), values.binding()];
    recording.dispatch(&unpack_kernel(layout, tile), bindings, &params, grid, 8.0 * layout.words() as f64)
}

/// A payload on the device, its structure checked.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with the word that is wrong; those of [`Tensor::uninit_async`].
pub async fn upload_async(gpu: &Gpu, element: Element, payload: &[u32], len: usize) -> Result<Packed> {
    let layout = layout(element, len);
    Packed::upload_async(gpu, layout, twin::parts(&layout, payload)?).await
}

/// Blocking twin of [`upload_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn upload(gpu: &Gpu, element: Element, payload: &[u32], len: usize) -> Result<Packed> {
    pollster::block_on(upload_async(gpu, element, payload, len))
}

/// The payload of `len` values.
pub(crate) async fn encode_async(
    gpu: &Gpu,
    element: Element,
    values: &Tensor<u32>,
    len: usize,
    control: &Control,
) -> Result<Vec<u32>> {
    let packed = room_async(gpu, element, len).await?;
    let mut recording = Recording::new();
    encode(&mut recording, gpu.caps(), Tile::of(gpu.caps()), values, &packed)?;
    packed.payload_async(gpu, recording, control).await
}

/// The values of a payload.
pub(crate) async fn decode_async(
    gpu: &Gpu,
    element: Element,
    payload: &[u32],
    len: usize,
    control: &Control,
) -> Result<Tensor<u32>> {
    let packed = upload_async(gpu, element, payload, len).await?;
    let values = Tensor::uninit_async(gpu, &[packed.layout.words()]).await?;
    let mut recording = Recording::new();
    decode(&mut recording, gpu.caps(), Tile::of(gpu.caps()), &packed, &values)?;
    gpu.run_async(&recording, control).await?;
    Ok(values)
}

fn pack_kernel(layout: &Layout, tile: Tile) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    layout::defined(Kernel::new::<WidthPackParams>("width_pack", WIDTH_PACK, &bindings), layout, tile.lanes)
        .define("FIELDS", layout.values_a_word())
        .flag("DIRECT", tile.direct)
}

fn unpack_kernel(layout: &Layout, tile: Tile) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    layout::defined(Kernel::new::<WidthUnpackParams>("width_unpack", WIDTH_UNPACK, &bindings), layout, tile.lanes)
        .define("FIELDS", layout.values_a_word())
        .define("PART", tile.part)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let of = |layout: Layout| Tile::ALL.map(|tile| [pack_kernel(&layout, tile), unpack_kernel(&layout, tile)]);
    layout::samples(GROUP).into_iter().flat_map(of).flatten().collect()
}
