//! How values lie in groups, and groups in blocks: what the codecs of a width a group share. Kernel: `group_widths`.
//!
//! A payload is `index | widths | data`: for each block the word of the data where it begins; for each group its width, a nibble for
//! values of 8 bits and a byte for those of 16; and the groups. A block is what 8 KiB of values become, so a place in the middle
//! is found through one word of the index and at most 512 widths.

use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::ops::scan;
use crate::ops::word;
use crate::pack::values::Element;
use crate::tensor::Tensor;

const GROUP_WIDTHS: &str = include_str!("../../../shaders/pack/group_widths.wgsl");
/// Words of values that a block holds.
pub(super) const BLOCK_WORDS: usize = 2048;
/// Invocations of a workgroup that the kernels come in.
pub(super) const LANES: [u32; 3] = [8, 64, 256];

params!(GroupWidthsParams {
    words: u32,
    groups: u32,
    blocks: u32,
    across: u32,
    width_words: u32,
    is_signed: u32,
    pad0: u32,
    pad1: u32,
});

/// Values, groups and blocks of a chunk, and how many words each part of its payload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// What the values are: integers.
    pub element: Element,
    /// Values.
    pub len: usize,
    /// Values of a group.
    pub group: usize,
}

impl Layout {
    /// Values of a word.
    pub const fn values_a_word(&self) -> usize {
        if self.element.bits() == 16 { 2 } else { 4 }
    }

    /// Words of all values.
    pub const fn words(&self) -> usize {
        self.len.div_ceil(self.values_a_word())
    }

    /// Words of the values of a group.
    pub const fn group_words(&self) -> usize {
        self.group / self.values_a_word()
    }

    /// Groups; the last may have values behind the end, which are zeros.
    pub const fn groups(&self) -> usize {
        self.len.div_ceil(self.group)
    }

    /// Groups of a block.
    pub const fn groups_a_block(&self) -> usize {
        BLOCK_WORDS / self.group_words()
    }

    /// Blocks, and words of the index.
    pub const fn blocks(&self) -> usize {
        self.groups().div_ceil(self.groups_a_block())
    }

    /// Widths in a word: nibbles for values of 8 bits, else bytes.
    pub const fn widths_a_word(&self) -> usize {
        if self.element.bits() == 16 { 4 } else { 8 }
    }

    /// Words of the widths.
    pub const fn width_words(&self) -> usize {
        self.groups().div_ceil(self.widths_a_word())
    }

    /// Words of widths of a whole block.
    pub const fn width_words_a_block(&self) -> usize {
        self.groups_a_block() / self.widths_a_word()
    }

    /// Words before the data.
    pub const fn head(&self) -> usize {
        self.blocks() + self.width_words()
    }

    /// Width of a group, from the words of all widths.
    pub fn width(&self, widths: &[u32], group: usize) -> usize {
        let bits = 32 / self.widths_a_word();
        (widths[group / self.widths_a_word()] >> (group % self.widths_a_word() * bits)) as usize & ((1 << bits) - 1)
    }

    /// Packs widths into words.
    pub(super) fn pack(&self, widths: &[usize]) -> Vec<u32> {
        let bits = 32 / self.widths_a_word();
        let word = |some: &[usize]| some.iter().rev().fold(0, |word, &width| word << bits | width as u32);
        widths.chunks(self.widths_a_word()).map(word).collect()
    }

    /// Value `i`, as a number, from words; 0 behind the end.
    pub(super) fn value(&self, words: &[u32], i: usize) -> i32 {
        let a_word = self.values_a_word();
        let bits = 32 / a_word as u32;
        let Some(&word) = words.get(i / a_word).filter(|_| i < self.len) else { return 0 };
        let high = word << (32 - bits - (i % a_word) as u32 * bits);
        if self.element.is_signed() { high.cast_signed() >> (32 - bits) } else { (high >> (32 - bits)).cast_signed() }
    }

    /// Bits that a value needs: none for zero, in two's complement one more than those of its magnitude.
    pub(super) fn needed(&self, value: i32) -> usize {
        let magnitude = if value < 0 { !value } else { value }.cast_unsigned();
        let bits = (32 - magnitude.leading_zeros()) as usize;
        if self.element.is_signed() && value != 0 { bits + 1 } else { bits }
    }

    /// Widths of all groups.
    pub(super) fn widths_of(&self, words: &[u32]) -> Vec<usize> {
        let width = |group: usize| {
            let values = group * self.group..(group + 1) * self.group;
            values.map(|i| self.needed(self.value(words, i))).max().unwrap_or(0)
        };
        (0..self.groups()).map(width).collect()
    }

    /// Index, widths and data of a payload, if the structure holds: as many widths as groups, none wider than a value, zeros behind the
    /// last, an index that says where each block begins if a block of widths of sum s takes `words_of(s)` words, and as many words of data as that makes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] with the word where it does not.
    pub(super) fn parts<'a>(&self, payload: &'a [u32], words_of: impl Fn(usize) -> usize) -> Result<Parts<'a>> {
        let (blocks, head) = (self.blocks(), self.head());
        if payload.len() < head {
            let has = payload.len();
            return Err(Error::bad_input(format!("index and widths take {head} words, the payload has {has}")));
        }
        let (index, rest) = payload.split_at(blocks);
        let (widths, data) = rest.split_at(self.width_words());
        let (most, bits) = (self.element.bits() as usize, 32 / self.widths_a_word());
        let mut begin = 0;
        for (block, words) in widths.chunks(self.width_words_a_block()).enumerate() {
            if index[block] as usize != begin {
                let has = index[block];
                let what = format!("word {block}: block {block} begins at {begin} of the data, the index says {has}");
                return Err(Error::bad_input(what));
            }
            let mut sum = 0;
            for (at, &word) in words.iter().enumerate() {
                for i in 0..self.widths_a_word() {
                    let width = word as usize >> (i * bits) & ((1 << bits) - 1);
                    let group = block * self.groups_a_block() + at * self.widths_a_word() + i;
                    if width > if group < self.groups() { most } else { 0 } {
                        let place = blocks + block * self.width_words_a_block() + at;
                        return Err(Error::bad_input(format!("word {place}: group {group} has a width of {width}")));
                    }
                    sum += width;
                }
            }
            begin += words_of(sum);
        }
        if begin != data.len() {
            let has = data.len();
            return Err(Error::bad_input(format!("word {head}: the groups take {begin} words, the payload has {has}")));
        }
        Ok(Parts { index, widths, data })
    }
}

/// The parts of a payload whose structure holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub index: &'a [u32],
    pub widths: &'a [u32],
    pub data: &'a [u32],
}

/// A coded chunk on the device, and what coding it needs besides.
#[derive(Debug, Clone)]
pub struct Packed {
    /// What lies how.
    pub layout: Layout,
    /// `[1, blocks]`: the word of the data where each block begins.
    pub index: Tensor<u32>,
    /// Widths of the groups, packed.
    pub widths: Tensor<u32>,
    /// The groups, with room for values that do not compress and for one word more, which decoding may read.
    pub data: Tensor<u32>,
    /// Words of each block.
    pub(super) sums: Tensor<u32>,
    /// After coding, its total is the number of words of all data.
    pub(super) scan: scan::Workspace<u32>,
}

impl Packed {
    /// Room for the values of a layout, `most` words of data.
    pub(super) async fn new_async(gpu: &Gpu, layout: Layout, most: usize) -> Result<Self> {
        let blocks = layout.blocks();
        Ok(Self {
            layout,
            index: Tensor::uninit_async(gpu, &[1, blocks]).await?,
            widths: Tensor::uninit_async(gpu, &[layout.width_words()]).await?,
            data: Tensor::uninit_async(gpu, &[most + 4]).await?,
            sums: Tensor::uninit_async(gpu, &[1, blocks]).await?,
            scan: scan::Workspace::new_async(gpu, 1, blocks).await?,
        })
    }

    /// The parts of a payload, on the device.
    pub(super) async fn upload_async(gpu: &Gpu, layout: Layout, parts: Parts<'_>) -> Result<Self> {
        let packed = Self::new_async(gpu, layout, parts.data.len()).await?;
        packed.index.write(gpu, parts.index)?;
        packed.widths.write(gpu, parts.widths)?;
        gpu.upload(packed.data.buffer(), bytemuck::cast_slice(parts.data))?;
        Ok(packed)
    }

    /// Reads the payload of what was coded.
    pub(super) async fn payload_async(
        &self,
        gpu: &Gpu,
        mut recording: Recording,
        control: &crate::Control,
    ) -> Result<Vec<u32>> {
        let tickets = [&self.index, &self.widths, &self.scan.total, &self.data].map(|t| t.record_read(&mut recording));
        let mut output = gpu.run_async(&recording, control).await?;
        let mut payload = self.index.take(&mut output, tickets[0]);
        payload.extend(self.widths.take(&mut output, tickets[1]));
        let total = self.scan.total.take(&mut output, tickets[2]).first().map_or(0, |&total| total as usize);
        let data = self.data.take(&mut output, tickets[3]);
        let used = data.get(..total).ok_or_else(|| Error::internal(format!("{total} words of data were coded")))?;
        payload.extend(used);
        Ok(payload)
    }

    /// Records the widths of all groups of `values`, and through them the index; blocks are rounded up to `round` widths of
    /// `words` words each.
    pub(super) fn record_widths(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        (lanes, round, words): (u32, u32, u32),
        values: &Tensor<u32>,
    ) -> Result<()> {
        let layout = &self.layout;
        fits(layout, values)?;
        let (grid, across) = grid(layout, caps)?;
        let params = GroupWidthsParams {
            words: word(layout.words())?,
            groups: word(layout.groups())?,
            blocks: word(layout.blocks())?,
            across,
            width_words: word(layout.width_words())?,
            is_signed: u32::from(layout.element.is_signed()),
            ..Default::default()
        };
        let kernel = kernel(layout, lanes, round, words);
        let bindings = vec![values.binding(), self.widths.binding(), self.sums.binding()];
        recording.dispatch(&kernel, bindings, &params, grid, 4.0 * layout.words() as f64)?;
        scan::exclusive(recording, caps, &self.sums, &self.scan, &self.index)
    }
}

/// Refuses arrays that do not hold the values of a layout, whole vectors of four.
pub(super) fn fits(layout: &Layout, values: &Tensor<u32>) -> Result<()> {
    let room = values.binding().size / 16 * 4;
    if layout.len == 0 || layout.element.is_float() || (room as usize) < layout.words() {
        let (len, name, shape) = (layout.len, layout.element.name(), values.shape());
        return Err(Error::internal(format!("{len} {name} values in an array of words of shape {shape:?}")));
    }
    Ok(())
}

/// A workgroup for each block, in rows of what a dispatch has side by side; also that number.
pub(super) fn grid(layout: &Layout, caps: &Caps) -> Result<(Grid, u32)> {
    let blocks = word(layout.blocks())?;
    let across = blocks.clamp(1, caps.max_workgroups);
    Ok((Grid::Direct([across, blocks.div_ceil(across), 1]), across))
}

/// The defines that all kernels of these codecs have.
pub(super) fn defined(kernel: Kernel, layout: &Layout, lanes: u32) -> Kernel {
    let (words, bits) = (layout.width_words_a_block(), 32 / layout.widths_a_word());
    kernel
        .define("LANES", lanes)
        .define("GROUP_QUADS", layout.group_words() / 4)
        .define("GROUPS", layout.groups_a_block())
        .define("WIDTH_WORDS", words)
        .define("PIECE", words / 8)
        .define("WIDTHS", layout.widths_a_word())
        .define("WIDTH_BITS", bits)
        .flag("HALVES", layout.values_a_word() == 2)
}

fn kernel(layout: &Layout, lanes: u32, round: u32, words: u32) -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Write];
    defined(Kernel::new::<GroupWidthsParams>("group_widths", GROUP_WIDTHS, &bindings), layout, lanes)
        .define("ROUND", round)
        .define("ROUND_WORDS", words)
}

/// Layouts of both word formats, for catalogues.
pub(super) fn samples(group: usize) -> [Layout; 2] {
    [Element::I8, Element::I16].map(|element| Layout { element, len: 1, group })
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let width = samples(super::width::GROUP).map(|layout| LANES.map(|lanes| kernel(&layout, lanes, 1, 1)));
    let kernels = width.concat();
    #[cfg(feature = "fixed-lane")]
    let kernels = [kernels, super::fixed_lane::width_kernels()].concat();
    kernels
}

#[cfg(feature = "fixed-lane")]
pub(super) fn width_kernel(layout: &Layout, lanes: u32, round: u32, words: u32) -> Kernel {
    kernel(layout, lanes, round, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_8_kib_of_values() {
        let bytes = Layout { element: Element::I8, len: 8192 * 3 + 33, group: 32 };
        assert_eq!((bytes.groups(), bytes.groups_a_block(), bytes.blocks()), (770, 256, 4));
        assert_eq!((bytes.width_words(), bytes.width_words_a_block()), (97, 32));
        let halves = Layout { element: Element::I16, len: 4096, group: 32 };
        assert_eq!((halves.groups_a_block(), halves.blocks(), halves.width_words_a_block()), (128, 1, 32));
    }

    #[test]
    fn widths_are_those_of_twos_complement() {
        let layout = Layout { element: Element::I8, len: 1, group: 32 };
        let widths = [0, 1, -1, 2, -2, -3, 127, -128, 63, -64].map(|value| layout.needed(value));
        assert_eq!(widths, [0, 2, 1, 3, 2, 3, 8, 8, 7, 7]);
        let unsigned = Layout { element: Element::U8, ..layout };
        assert_eq!([0, 1, 255, 128].map(|value| unsigned.needed(value)), [0, 1, 8, 8]);
    }

    #[test]
    fn a_structure_that_does_not_hold_is_refused_at_its_word() {
        let layout = Layout { element: Element::I8, len: 8192 + 40, group: 32 };
        // Block 0: 256 groups of width 1; block 1: two groups of widths 3 and 0.
        let mut payload = vec![0, 256];
        payload.extend([0x1111_1111; 32]);
        payload.push(0x3);
        payload.extend([7; 259]);
        let parts = |payload: &[u32]| layout.parts(payload, |sum| sum).map(|p| p.data.len()).map_err(|e| e.to_string());
        assert_eq!(parts(&payload), Ok(259));
        let changed = |at: usize, word: u32| {
            let mut changed = payload.clone();
            changed[at] = word;
            parts(&changed).unwrap_err()
        };
        assert!(changed(0, 1).contains("word 0: block 0"));
        assert!(changed(1, 255).contains("word 1: block 1 begins at 256"));
        assert!(changed(34, 0x9).contains("word 34: group 256 has a width of 9"));
        assert!(changed(34, 0x103).contains("word 34: group 258 has a width of 1"));
        assert!(changed(34, 0x4).contains("take 260 words"));
        assert!(parts(&payload[..20]).is_err() && parts(&payload[..293]).is_err() && parts(&[]).is_err());
    }
}
