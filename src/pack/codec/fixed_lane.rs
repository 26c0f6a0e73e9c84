//! Fixed-lane width coding: 16 consecutive values at the width of the largest, each in a lane of its own. Kernels: `group_widths`, `lane_pack`, `lane_unpack`.
//!
//! **Patent notice.** US patent 12118212 claims this layout, its pointers and its width register. Simulating and measuring it needs no
//! permission, storing data in it may: whether to build with the feature `fixed-lane`, which is off by default, and ship files of this codec
//! is for a person to decide, not for this library. [`super::width`] is the codec that files get by default, and is another layout.
//!
//! The source is Boveda (Edo Vivancos et al., MLSys 2021). A row of memory has 16 lanes, each as wide as a value (8 bits or 16); value i of a group
//! stands in lane i, and a group of width w takes the next w bits of every lane, in one row or two. So a lane is decoded by one shift that
//! is common to all 16. Widths are those of two's complement (the paper's are of sign and magnitude: here -128 has to come back), a group of
//! zeros takes no bits, and rows are closed at the end of each block of 8 KiB of values ([`super::layout`]).

use super::layout::{self, Layout, Packed, Parts};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Control, Gpu, Kernel, Recording, params};
use crate::ops::word;
use crate::pack::values::Element;
use crate::tensor::Tensor;

const LANE_PACK: &str = include_str!("../../../shaders/pack/lane_pack.wgsl");
const LANE_UNPACK: &str = include_str!("../../../shaders/pack/lane_unpack.wgsl");

/// Lanes, and values of a group.
pub const GROUP: usize = 16;

params!(LanePackParams { words: u32, groups: u32, width_words: u32, across: u32 });
params!(LaneUnpackParams {
    quads: u32,
    is_signed: u32,
    width_words: u32,
    across: u32,
    last: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// The layout of `len` values.
pub fn layout(element: Element, len: usize) -> Layout {
    Layout { element, len, group: GROUP }
}

/// Bits of a lane in a row.
const fn lane_bits(layout: &Layout) -> usize {
    32 / layout.values_a_word()
}

/// Words of the rows of a block whose widths have this sum.
const fn words_of(layout: &Layout, sum: usize) -> usize {
    sum.div_ceil(lane_bits(layout)) * layout.group_words()
}

/// Invocations of a workgroup that a device gets.
pub fn lanes(caps: &Caps) -> u32 {
    if caps.is_software() { 8 } else { 64 }
}

/// Room on the device for `len` values, whatever they are.
///
/// # Errors
/// Those of [`Tensor::uninit_async`]; [`crate::ErrorKind::Internal`] for no values, and for floating-point ones.
pub async fn room_async(gpu: &Gpu, element: Element, len: usize) -> Result<Packed> {
    let layout = layout(element, len);
    if len == 0 || element.is_float() {
        return Err(Error::internal(format!("fixed lanes of {len} {} values", element.name())));
    }
    // Each group may take a row of its own at most, and each block one that is not full.
    Packed::new_async(gpu, layout, (layout.groups() + layout.blocks()) * layout.group_words()).await
}

/// Blocking twin of [`room_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn room(gpu: &Gpu, element: Element, len: usize) -> Result<Packed> {
    pollster::block_on(room_async(gpu, element, len))
}

/// Records coding: `values` are words as of [`crate::pack::Values::words`], zeros behind the end of the last word; workgroups of 8, 64 or 256
/// invocations, which never change a result.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for an array that does not hold the values.
pub fn encode(recording: &mut Recording, caps: &Caps, lanes: u32, values: &Tensor<u32>, packed: &Packed) -> Result<()> {
    let layout = &packed.layout;
    let row = (lanes, word(lane_bits(layout))?, word(layout.group_words())?);
    packed.record_widths(recording, caps, row, values)?;
    let (grid, across) = layout::grid(layout, caps)?;
    let params = LanePackParams {
        words: word(layout.words())?,
        groups: word(layout.groups())?,
        width_words: word(layout.width_words())?,
        across,
        ..Default::default()
    };
    let bindings = vec![values.binding(), packed.widths.binding(), packed.index.binding(), packed.data.binding()];
    recording.dispatch(&pack_kernel(layout, lanes), bindings, &params, grid, 8.0 * layout.words() as f64)
}

/// Records decoding into `values`, whole vectors of four words.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for an array that does not hold the values.
pub fn decode(recording: &mut Recording, caps: &Caps, lanes: u32, packed: &Packed, values: &Tensor<u32>) -> Result<()> {
    let layout = &packed.layout;
    layout::fits(layout, values)?;
    let (grid, across) = layout::grid(layout, caps)?;
    let params = LaneUnpackParams {
        quads: word(layout.words().div_ceil(4))?,
        is_signed: u32::from(layout.element.is_signed()),
        width_words: word(layout.width_words())?,
        across,
        last: word(packed.data.len() / 4 - 1)?,
        ..Default::default()
    };
    let bindings = vec![packed.index.binding(), packed.widths.binding(), packed.data.binding(), values.binding()];
    recording.dispatch(&unpack_kernel(layout, lanes), bindings, &params, grid, 8.0 * layout.words() as f64)
}

/// A payload on the device, its structure checked.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with the word that is wrong; those of [`Tensor::uninit_async`].
pub async fn upload_async(gpu: &Gpu, element: Element, payload: &[u32], len: usize) -> Result<Packed> {
    let layout = layout(element, len);
    Packed::upload_async(gpu, layout, parts(&layout, payload)?).await
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
    encode(&mut recording, gpu.caps(), lanes(gpu.caps()), values, &packed)?;
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
    decode(&mut recording, gpu.caps(), lanes(gpu.caps()), &packed, &values)?;
    gpu.run_async(&recording, control).await?;
    Ok(values)
}

/// The parts of a payload whose structure holds, down to the zeros behind the last value.
fn parts<'a>(layout: &Layout, payload: &'a [u32]) -> Result<Parts<'a>> {
    let parts = layout.parts(payload, |sum| words_of(layout, sum))?;
    let behind = layout.len % layout.group;
    if behind != 0 {
        let last = layout.groups() - 1;
        let first = last / layout.groups_a_block() * layout.groups_a_block();
        let rows = &parts.data[parts.index[last / layout.groups_a_block()] as usize..];
        let bit = (first..last).map(|group| layout.width(parts.widths, group)).sum::<usize>();
        let width = layout.width(parts.widths, last);
        if (behind..layout.group).any(|lane| get(layout, rows, lane, bit, width) != 0) {
            return Err(Error::bad_input(format!("group {last} goes on behind the last value")));
        }
    }
    Ok(parts)
}

/// `width` bits of a lane, from a bit of it on.
fn get(layout: &Layout, rows: &[u32], lane: usize, bit: usize, width: usize) -> u32 {
    (0..width).fold(0, |value, i| {
        let (word, shift) = place(layout, lane, bit + i);
        value | (rows[word] >> shift & 1) << i
    })
}

/// Word and bit of a bit of a lane.
fn place(layout: &Layout, lane: usize, bit: usize) -> (usize, usize) {
    let bits = lane_bits(layout);
    let word = bit / bits * layout.group_words() + lane / layout.values_a_word();
    (word, lane % layout.values_a_word() * bits + bit % bits)
}

/// The same on the host, bit by bit.
pub mod reference {
    use super::{Element, Result, get, lane_bits, layout, parts, place, words_of};

    /// The payload of `len` values.
    pub fn encode(element: Element, words: &[u32], len: usize) -> Vec<u32> {
        let layout = layout(element, len);
        let widths = layout.widths_of(words);
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (block, widths) in widths.chunks(layout.groups_a_block()).enumerate() {
            let begin = data.len();
            index.push(begin as u32);
            data.resize(begin + words_of(&layout, widths.iter().sum()), 0);
            let rows = &mut data[begin..];
            let mut bit = 0;
            for (group, &width) in (block * layout.groups_a_block()..).zip(widths) {
                for lane in 0..layout.group {
                    let value = layout.value(words, group * layout.group + lane);
                    for i in 0..width {
                        let (word, shift) = place(&layout, lane, bit + i);
                        rows[word] |= (value >> i & 1).cast_unsigned() << shift;
                    }
                }
                bit += width;
            }
        }
        [index, layout.pack(&widths), data].concat()
    }

    /// The words of the `len` values of a payload.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] with the word that is wrong.
    pub fn decode(element: Element, payload: &[u32], len: usize) -> Result<Vec<u32>> {
        let layout = layout(element, len);
        let parts = parts(&layout, payload)?;
        let bits = lane_bits(&layout);
        let mut words = vec![0; layout.words()];
        let mut bit = 0;
        for group in 0..layout.groups() {
            let block = group / layout.groups_a_block();
            if group % layout.groups_a_block() == 0 {
                bit = 0;
            }
            let rows = &parts.data[parts.index[block] as usize..];
            let width = layout.width(parts.widths, group);
            for lane in 0..layout.group.min(len - group * layout.group) {
                let shift = 32 - width as u32;
                let value = match get(&layout, rows, lane, bit, width) {
                    value if width > 0 && element.is_signed() => {
                        ((value << shift).cast_signed() >> shift).cast_unsigned()
                    }
                    value => value,
                };
                let i = group * layout.group + lane;
                words[i / layout.values_a_word()] |= (value & ((1 << bits) - 1)) << (i % layout.values_a_word() * bits);
            }
            bit += width;
        }
        Ok(words)
    }
}

fn pack_kernel(layout: &Layout, lanes: u32) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    layout::defined(Kernel::new::<LanePackParams>("lane_pack", LANE_PACK, &bindings), layout, lanes)
}

fn unpack_kernel(layout: &Layout, lanes: u32) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    layout::defined(Kernel::new::<LaneUnpackParams>("lane_unpack", LANE_UNPACK, &bindings), layout, lanes)
}

/// `group_widths` for this codec.
pub(super) fn width_kernels() -> Vec<Kernel> {
    let of = |layout: Layout| {
        layout::LANES
            .map(|lanes| layout::width_kernel(&layout, lanes, lane_bits(&layout) as u32, layout.group_words() as u32))
    };
    layout::samples(GROUP).into_iter().flat_map(of).collect()
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let of = |layout: Layout| layout::LANES.map(|lanes| [pack_kernel(&layout, lanes), unpack_kernel(&layout, lanes)]);
    layout::samples(GROUP).into_iter().flat_map(of).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_by_hand() {
        // 17 values: 1, -2 and zeros; then 5: widths 2 and 4, in bits 0, 1 and 2 to 5 of the lanes of one row.
        let words = [0x0000_fe01, 0, 0, 0, 5];
        let payload = reference::encode(Element::I8, &words, 17);
        assert_eq!(payload, [0, 0x42, 0b0000_0010 << 8 | 0b0001_0101, 0, 0, 0]);
        assert_eq!(reference::decode(Element::I8, &payload, 17).unwrap(), words);
        let mut odd = payload;
        odd[3] = 4;
        assert!(reference::decode(Element::I8, &odd, 17).unwrap_err().to_string().contains("group 1 goes on"));
    }

    #[test]
    fn a_group_goes_on_in_the_next_row() {
        // Two groups of width 5: bits 0 to 4 of the first row, 5 to 7 of it and 0 to 1 of the next.
        let words = [0x0000_000f, 0, 0, 0, 0x0000_00f0, 0, 0, 0];
        let payload = reference::encode(Element::I8, &words, 32);
        assert_eq!(payload[..3], [0, 0x55, 0b0000_1111]);
        assert_eq!((payload[6], payload.len()), (0b10, 10));
        assert_eq!(reference::decode(Element::I8, &payload, 32).unwrap(), words);
    }
}
