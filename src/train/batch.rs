//! Batches from a set that lives on the device: samples, labels and images by index, images augmented on the way.
//! Kernels: `batch_rows`, `batch_labels`, `batch_images`.
//!
//! Indices are `[slots or 1, samples]`; an index that is no sample gives zeros and the label [`super::loss::IGNORED`], so a
//! last batch may be ragged.

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::random::stream_stride;
use crate::ops::{bindable, slot_grid, slot_stride, word};
use crate::tensor::{Element, Tensor, pitch};

const BATCH_ROWS: &str = include_str!("../../shaders/train/batch_rows.wgsl");
const BATCH_LABELS: &str = include_str!("../../shaders/train/batch_labels.wgsl");
const BATCH_IMAGES: &str = include_str!("../../shaders/train/batch_images.wgsl");
/// Places of a sample that the kernel finds without a division.
const PLACES: usize = 1 << 20;

params!(BatchRowsParams {
    samples: u32,
    quads: u32,
    across: u32,
    sample_step: u32,
    slots: u32,
    slot_step: u32,
    stride_ids: u32,
    stride_out: u32,
    rows: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(BatchLabelsParams {
    samples: u32,
    threads: u32,
    slots: u32,
    slot_step: u32,
    stride_ids: u32,
    stride_out: u32,
    rows: u32,
    pad: u32,
});
params!(BatchImagesParams {
    samples: u32,
    quads: u32,
    across: u32,
    sample_step: u32,
    slots: u32,
    slot_step: u32,
    stride_ids: u32,
    stride_out: u32,
    rows: u32,
    pitch: u32,
    height: u32,
    width: u32,
    channels: u32,
    out_height: u32,
    out_width: u32,
    places: u32,
    padding: u32,
    flip: u32,
    stride_streams: u32,
    elements: u32,
    middle_y: u32,
    middle_x: u32,
    per_row: f32,
    per_pixel: f32,
    scale: [f32; 4],
    shift: [f32; 4],
    noise: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Records `out[b, n, ..] = table[ids[b, n], ..]` for a table `[samples of the set, ..]`, `ids` `[slots or 1, samples]` and
/// `out` `[slots, samples, ..]`.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for a set larger than a binding.
pub fn rows<T: Element>(
    recording: &mut Recording,
    caps: &Caps,
    table: &Tensor<T>,
    ids: &Tensor<u32>,
    out: &Tensor<T>,
) -> Result<()> {
    let (set, shape) = (table.shape(), out.shape());
    if set.len() < 2 || table.is_empty() || shape.len() != set.len() + 1 || shape[2..] != set[1..] {
        return Err(misfit(set, shape));
    }
    let (slots, samples) = ids_fit(ids, shape)?;
    let quads = table.strides()[0] / 4;
    let (grid, across, sample_step, slot_step) = sample_grid(quads, samples, slots, caps.max_workgroups)?;
    let params = BatchRowsParams {
        samples: word(samples)?,
        quads: word(quads)?,
        across,
        sample_step,
        slots: word(slots)?,
        slot_step,
        stride_ids: slot_stride(ids, slots)?,
        stride_out: slot_stride(out, slots)? / 4,
        rows: word(set[0])?,
        ..Default::default()
    };
    let bindings = vec![table.binding(), ids.binding(), out.binding()];
    bindable(caps, &bindings)?;
    let kernel = Kernel::new::<BatchRowsParams>("batch_rows", BATCH_ROWS, &[Access::Read, Access::Read, Access::Write]);
    recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), out.len() as f64)
}

/// Records `out[b, n] = labels[ids[b, n]]` for labels `[samples of the set]`, `ids` `[slots or 1, samples]` and `out`
/// `[slots, samples]`.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit.
pub fn labels(
    recording: &mut Recording,
    caps: &Caps,
    labels: &Tensor<u32>,
    ids: &Tensor<u32>,
    out: &Tensor<u32>,
) -> Result<()> {
    let &[rows] = labels.shape() else { return Err(misfit(labels.shape(), out.shape())) };
    if rows == 0 || out.shape().len() != 2 {
        return Err(misfit(labels.shape(), out.shape()));
    }
    let (slots, samples) = ids_fit(ids, out.shape())?;
    let (grid, threads, slot_step) = slot_grid(samples, slots, caps.max_workgroups)?;
    let params = BatchLabelsParams {
        samples: word(samples)?,
        threads,
        slots: word(slots)?,
        slot_step,
        stride_ids: slot_stride(ids, slots)?,
        stride_out: slot_stride(out, slots)?,
        rows: word(rows)?,
        ..Default::default()
    };
    let bindings = vec![labels.binding(), ids.binding(), out.binding()];
    bindable(caps, &bindings)?;
    recording.dispatch(&labels_kernel(), bindings, &params, Grid::Direct(grid), out.len() as f64)
}

/// The pixels of a set of images, one image a row: row by row of the image, the channels of a pixel side by side.
#[derive(Debug, Clone, Copy)]
pub enum Pixels<'a> {
    /// `[images, height * width * channels]`.
    Floats(&'a Tensor),
    /// `[images, ceil(height * width * channels / 4)]` words of [`pack_bytes`].
    Bytes(&'a Tensor<u32>),
}

/// A set of images.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    /// What they hold.
    pub pixels: Pixels<'a>,
    /// Height, width and channels.
    pub size: [usize; 3],
    /// What a value is multiplied by, for each of up to four channels; with more channels the first counts for all. Bytes
    /// become 0 to 1 by 1/255, or mean 0 and deviation 1 by `1 / (255 deviation)`.
    pub scale: [f32; 4],
    /// What is added then.
    pub shift: [f32; 4],
}

/// Random changes of images, drawn from the member's stream at its step for every place of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Augment<'a> {
    /// `[slots, 4]`: key low, key high, step, live.
    pub streams: &'a Tensor<u32>,
    /// Zeros (before scale and shift) around an image, out of which a place for the result is drawn: with the image's own
    /// size a shift by up to so many pixels each way.
    pub padding: usize,
    /// Every second image is mirrored, left to right.
    pub flip: bool,
    /// Deviation of normal noise that is added to every value in the end.
    pub noise: f32,
}

/// Bytes in words as [`Pixels::Bytes`] wants them, for rows of `columns` bytes.
pub fn pack_bytes(bytes: &[u8], columns: usize) -> Vec<u32> {
    let word = |part: &[u8]| part.iter().rev().fold(0, |word, &byte| (word << 8) | u32::from(byte));
    bytes.chunks(columns.max(1)).flat_map(|row| row.chunks(4).map(word)).collect()
}

/// Records images by index: `out` `[slots, samples, height, width, channels]`, which may be smaller than the images (a crop,
/// in the middle without `augment`), or `[slots, samples, height * width * channels]`.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::BadInput`] for noise that is negative or not finite,
/// [`ErrorKind::TooBig`] for a set larger than a binding and for images of 2^20 values.
pub fn images(
    recording: &mut Recording,
    caps: &Caps,
    set: &Images<'_>,
    ids: &Tensor<u32>,
    augment: Option<&Augment<'_>>,
    out: &Tensor,
) -> Result<()> {
    let (slots, samples) = ids_fit(ids, out.shape())?;
    let frame = Frame::new(set, augment, out)?;
    let (grid, across, sample_step, slot_step) = sample_grid(frame.quads, samples, slots, caps.max_workgroups)?;
    let noise = augment.map_or(0.0, |a| a.noise);
    if !(0.0..f32::MAX).contains(&noise) {
        return Err(Error::new(ErrorKind::BadInput, format!("noise of deviation {noise}"))
            .with_help("give a finite number from 0 on"));
    }
    let mut params = frame.params(set)?;
    (params.samples, params.across, params.sample_step) = (word(samples)?, across, sample_step);
    (params.slots, params.slot_step) = (word(slots)?, slot_step);
    (params.stride_ids, params.stride_out) = (slot_stride(ids, slots)?, slot_stride(out, slots)? / 4);
    (params.flip, params.noise) = (u32::from(augment.is_some_and(|a| a.flip)), noise);
    params.stride_streams = augment.map_or(Ok(0), |a| stream_stride(a.streams, slots))?;
    let pixels = match set.pixels {
        Pixels::Floats(t) => t.binding(),
        Pixels::Bytes(t) => t.binding(),
    };
    let variant = Variant {
        bytes: matches!(set.pixels, Pixels::Bytes(_)),
        places: frame.variant,
        augment: augment.is_some(),
        noise: noise > 0.0,
    };
    let mut bindings = vec![pixels, ids.binding(), out.binding()];
    bindings.extend(augment.map(|a| a.streams.binding()));
    bindable(caps, &bindings)?;
    let work = if variant.noise { 50.0 } else { 10.0 } * out.len() as f64;
    recording.dispatch(&variant.kernel(), bindings, &params, Grid::Direct(grid), work)
}

/// How results lie over a set's images.
struct Frame {
    images: usize,
    /// Words from one image to the next.
    pitch: usize,
    out: [usize; 2],
    places: usize,
    padding: usize,
    quads: usize,
    variant: Places,
}

impl Frame {
    fn new(set: &Images<'_>, augment: Option<&Augment<'_>>, out: &Tensor) -> Result<Self> {
        let [height, width, channels] = set.size;
        let elements = height * width * channels;
        let (shape, pitch_of, columns) = match set.pixels {
            Pixels::Floats(t) => (t.shape(), t.row_stride(), elements),
            Pixels::Bytes(t) => (t.shape(), t.row_stride(), elements.div_ceil(4)),
        };
        let padding = augment.map_or(0, |a| a.padding);
        let (crop, places, variant) = match *out.shape() {
            [_, _, h, w, c] if c == channels => ([h, w], pitch(c), if c == 1 { Places::One } else { Places::Four }),
            [_, _, n] if n == elements => ([height, width], channels, Places::Flat),
            _ => return Err(misfit(shape, out.shape())),
        };
        let fits = shape.len() == 2 && shape[1] == columns && shape[0] > 0 && elements > 0 && crop[0] * crop[1] > 0;
        if !fits || crop[0] > height + 2 * padding || crop[1] > width + 2 * padding {
            return Err(misfit(shape, out.shape()));
        }
        let quads = (crop[0] * crop[1] * places).div_ceil(4);
        if quads * 4 >= PLACES || padding >= PLACES {
            return Err(Error::new(ErrorKind::TooBig, format!("images of {} values", quads * 4))
                .with_help("images of up to 2^20 values, a pixel's channels counted in fours, can be gathered"));
        }
        Ok(Self { images: shape[0], pitch: pitch_of, out: crop, places, padding, quads, variant })
    }

    /// Everything about the frame and the set.
    fn params(&self, set: &Images<'_>) -> Result<BatchImagesParams> {
        let [height, width, channels] = set.size;
        let spread = |v: [f32; 4]| if channels > 4 { [v[0]; 4] } else { v };
        Ok(BatchImagesParams {
            quads: word(self.quads)?,
            rows: word(self.images)?,
            pitch: word(self.pitch)?,
            height: word(height)?,
            width: word(width)?,
            channels: word(channels)?,
            out_height: word(self.out[0])?,
            out_width: word(self.out[1])?,
            places: word(self.places)?,
            padding: word(self.padding)?,
            elements: word(height * width * channels)?,
            middle_y: word((height + 2 * self.padding - self.out[0]) / 2)?,
            middle_x: word((width + 2 * self.padding - self.out[1]) / 2)?,
            per_row: 1.0 / (self.out[1] * self.places) as f32,
            per_pixel: 1.0 / self.places as f32,
            scale: spread(set.scale),
            shift: spread(set.shift),
            ..Default::default()
        })
    }
}

/// How the values of a vector of four lie in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    /// A pixel of one channel.
    One,
    /// Channels of one pixel.
    Four,
    /// Any four neighbours.
    Flat,
}

/// The permutation of `batch_images`.
#[derive(Debug, Clone, Copy)]
struct Variant {
    bytes: bool,
    places: Places,
    augment: bool,
    noise: bool,
}

impl Variant {
    fn kernel(self) -> Kernel {
        let mut bindings = vec![Access::Read, Access::Read, Access::Write];
        if self.augment {
            bindings.push(Access::Read);
        }
        let kernel = Kernel::new::<BatchImagesParams>("batch_images", BATCH_IMAGES, &bindings)
            .flag("BYTES", self.bytes)
            .flag("STREAMS", self.augment)
            .flag("AUGMENT", self.augment)
            .flag("NOISE", self.noise);
        match self.places {
            Places::One => kernel.define("LANES", 1),
            Places::Four => kernel.define("LANES", 4),
            Places::Flat => kernel.flag("FLAT", true),
        }
    }
}

/// Slots and samples of a batch whose indices fit its shape.
fn ids_fit(ids: &Tensor<u32>, out: &[usize]) -> Result<(usize, usize)> {
    match (ids.shape(), out) {
        (&[id_slots, id_samples], &[slots, samples, ..])
            if (id_slots == slots || id_slots == 1) && id_samples == samples && slots * samples > 0 =>
        {
            Ok((slots, samples))
        }
        _ => Err(misfit(ids.shape(), out)),
    }
}

/// Grid, lanes along a sample, and the strides of samples and slots.
fn sample_grid(quads: usize, samples: usize, slots: usize, most: u32) -> Result<([u32; 3], u32, u32, u32)> {
    let across = word(quads.next_power_of_two().clamp(1, 64))?;
    let together = 64 / across;
    let groups = word(samples)?.div_ceil(together).min(most);
    let slot_groups = word(slots)?.min(most);
    Ok(([groups, slot_groups, 1], across, groups * together, slot_groups))
}

fn misfit(from: &[usize], to: &[usize]) -> Error {
    Error::internal(format!("a batch of shape {to:?} from {from:?}"))
}

fn labels_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<BatchLabelsParams>("batch_labels", BATCH_LABELS, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let rows = Kernel::new::<BatchRowsParams>("batch_rows", BATCH_ROWS, &[Access::Read, Access::Read, Access::Write]);
    let mut all = vec![rows, labels_kernel()];
    for bytes in [false, true] {
        for places in [Places::One, Places::Four, Places::Flat] {
            for (augment, noise) in [(false, false), (true, false), (true, true)] {
                all.push(Variant { bytes, places, augment, noise }.kernel());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::pack_bytes;

    #[test]
    fn bytes_are_packed_row_by_row_from_the_lowest() {
        assert_eq!(pack_bytes(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 5), [0x0403_0201, 5, 0x0908_0706, 10]);
        assert_eq!(pack_bytes(&[], 5), [0_u32; 0]);
    }
}
