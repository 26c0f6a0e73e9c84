//! Convolutions of channels-last images, forward and transposed, with strides, padding, dilation, groups, bias and ReLU.
//!
//! Kernels: `conv` (direct: registers only), `conv_tiled` (workgroup memory) and `conv_depthwise` (every channel a group of
//! its own). All walk taps and channels in ascending order with one fused multiply-add an output and term, so they agree
//! bit for bit where the device rounds alike. The transposed form is both the gradient with respect to the input and
//! ONNX's ConvTranspose; weights for either come from [`Weight`]. Images may have slots as their first axis, each with its
//! weight. The gradient of a weight is [`Conv::weight_gradient`]'s (`conv_weight` and its relatives).

mod gradient;
mod variant;
mod weight;

pub use gradient::{CHUNK, gradient_depth};
pub use variant::Variant;
pub use weight::Weight;

use super::{strided_grid, word};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const CONV: &str = include_str!("../../../shaders/ops/conv.wgsl");
const CONV_TILED: &str = include_str!("../../../shaders/ops/conv_tiled.wgsl");
const CONV_DEPTHWISE: &str = include_str!("../../../shaders/ops/conv_depthwise.wgsl");
const BIAS: u32 = 1;
const RELU: u32 = 2;
const TRANSPOSED: u32 = 4;
/// Invocations of a workgroup of the direct variant, and pixels of each of them.
const LANES: u32 = 8;
const ROWS: u32 = 16;

params!(ConvParams {
    rows: u32,
    first: u32,
    grid_h: u32,
    grid_w: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    kernel_h: u32,
    kernel_w: u32,
    c: u32,
    n: u32,
    ld_x: u32,
    ld_w: u32,
    ld_out: u32,
    flags: u32,
    stride_x: u32,
    stride_out: u32,
    spacing_y: u32,
    spacing_x: u32,
    read_y: u32,
    read_x: u32,
    pad_y: u32,
    pad_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    step_y: u32,
    step_x: u32,
    move_y: i32,
    move_x: i32,
    lanes: u32,
    parts: u32,
    slot_x: u32,
    slot_w: u32,
    slot_out: u32,
    slot_bias: u32,
});

const BINDINGS: [Access; 4] = [Access::Read, Access::Read, Access::Write, Access::Read];

/// The longest chain of roundings that one term of an output passes through, the bias not counted: `taps` times the channels
/// that a group reads. With [`Conv::trans_weight`] those are the weight's last axis divided by the groups.
pub fn depth(weight: &[usize]) -> usize {
    weight.iter().rev().skip(1).take(3).product()
}

/// A convolution of images `[batch, rows, columns, channels]`, or `[slots, batch, rows, columns, channels]`.
#[derive(Debug, Clone, Copy)]
pub struct Conv<'a> {
    /// Rows and columns from one window to the next (of the forward convolution).
    pub stride: [usize; 2],
    /// Zeros above the first row and left of the first column; the size of the output says how many there are behind.
    pub pad: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
    /// Groups of channels. More than one needs channels a group that are multiples of 4, or one channel a group ([`Weight`] takes care of that).
    pub groups: usize,
    /// The transpose of the convolution with this geometry.
    pub transposed: bool,
    /// `weight` is stored for the transpose of this convolution: `[kernel rows, kernel columns, channels written by a group, channels
    /// read]`. So the gradient for the input reads the weight of its forward convolution where it lies.
    pub trans_weight: bool,
    /// `[channels written]`, or `[slots, channels written]`.
    pub bias: Option<&'a Tensor>,
    /// `max(., 0)` at the end.
    pub relu: bool,
    /// The kernel; `None` for [`Variant::choose`].
    pub variant: Option<Variant>,
}

impl Default for Conv<'_> {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            pad: [0, 0],
            dilation: [1, 1],
            groups: 1,
            transposed: false,
            trans_weight: false,
            bias: None,
            relu: false,
            variant: None,
        }
    }
}

impl Conv<'_> {
    /// Records `out = act(conv(x, weight) + bias)` for `x` `[batch, H, W, channels read]`, `weight` as [`Weight`] packs it and `out`
    /// `[batch, OH, OW, channels written]`. Source pixels that `out` asks for outside of `x` count as zeros.
    /// With slots, `out` has them as another first axis, and so has every operand that is not shared by them.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for more than 2^31 pixels a slot.
    pub fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        x: &Tensor,
        weight: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let mut params = self.params(x, weight, out)?;
        let bindings = vec![x.binding(), weight.binding(), out.binding(), self.bias.unwrap_or(x).binding()];
        let phases = params.spacing_y * params.spacing_x;
        let z = small(Image::of(out).slots.unwrap_or(1).saturating_mul(self.parts() * phases as usize))?;
        let valid = out.len() as f64 * f64::from(params.kernel_h * params.kernel_w) * f64::from(params.c);
        // The transposed form tries only the taps that fit a phase.
        let work = 2.0 * if self.transposed { valid / f64::from(phases) } else { valid };
        if self.is_depthwise(&Image::of(weight).shape) {
            let items = small((params.rows as usize).saturating_mul(out.columns().div_ceil(4)))? as usize;
            let (groups, threads) = strided_grid(items, caps.max_workgroups)?;
            let z = z / word(self.groups)?;
            (params.lanes, params.n, params.parts) = (threads, word(out.columns())?, 1);
            return recording.dispatch(&depthwise_kernel(), bindings, &params, Grid::Direct([groups, 1, z]), work);
        }
        let variant = self.variant.unwrap_or_else(|| Variant::choose(caps, params.n as usize));
        let (rows, columns, lanes) = variant.tile(params.n);
        params.lanes = lanes;
        let tiles = params.rows.div_ceil(rows);
        let most = caps.max_workgroups;
        let kernel = variant.kernel(self.trans_weight);
        for first in (0..tiles).step_by(most as usize) {
            let count = most.min(tiles - first);
            let params = ConvParams { first: first * rows, ..params };
            let grid = [count, params.n.div_ceil(columns), z];
            let share = f64::from(count) / f64::from(tiles);
            recording.dispatch(&kernel, bindings.clone(), &params, Grid::Direct(grid), work * share)?;
        }
        Ok(())
    }

    fn parts(&self) -> usize {
        self.groups.max(1)
    }

    /// One channel a group on either side: a weight that is the same for both directions.
    fn is_depthwise(&self, weight: &[usize]) -> bool {
        self.groups > 1 && weight[2] == 1 && weight[3] == self.groups
    }

    /// Taps of a weight, and the channels that a group reads and writes; `None` if kernels do not take it.
    fn channels(&self, weight: &[usize]) -> Option<([usize; 2], [usize; 2])> {
        let &[height, width, rows, columns] = weight else { return None };
        let groups = self.parts();
        let side = columns / groups;
        let (c, n) = if self.trans_weight { (side, rows) } else { (rows, side) };
        let whole = groups == 1 || self.is_depthwise(weight) || (c.is_multiple_of(4) && n.is_multiple_of(4));
        let positive = [self.stride, self.dilation].concat().iter().all(|&v| v > 0);
        let sizes = [height, width, c, n].iter().all(|&v| v > 0) && side * groups == columns;
        (whole && positive && sizes).then_some(([height, width], [c, n]))
    }

    fn params(&self, x: &Tensor, weight: &Tensor, out: &Tensor) -> Result<ConvParams> {
        let misfit = || {
            Error::internal(format!(
                "a convolution of {:?} with {:?} into {:?}, {self:?}",
                x.shape(),
                weight.shape(),
                out.shape()
            ))
        };
        let (from, of_weight, to) = (Image::of(x), Image::of(weight), Image::of(out));
        let ([height, width], [c, n]) = self.channels(&of_weight.shape).ok_or_else(misfit)?;
        let (&[batch, in_h, in_w, read], &[out_batch, out_h, out_w, channels]) =
            (from.shape.as_slice(), to.shape.as_slice())
        else {
            return Err(misfit());
        };
        let (groups, written) = (self.parts(), n * self.parts());
        let sizes = [batch, in_h, in_w, out_h, out_w].iter().all(|&v| v > 0);
        let fits = out_batch == batch && channels == written && read == c * groups;
        let slots = from.serves(&to) && of_weight.serves(&to) && to.is_written();
        let of_bias =
            |b: &Tensor| b.shape() == [written] || to.slots.is_some_and(|slots| b.shape() == [slots, written]);
        if !(sizes && fits && slots && self.bias.is_none_or(of_bias)) {
            return Err(misfit());
        }
        check_reach(self, [height, width], [in_h, in_w, out_h, out_w])?;
        let axis = |k: usize| Axis::new(self.transposed, self.stride[k], self.dilation[k]);
        let (y, x_axis) = (axis(0), axis(1));
        let (grid_h, grid_w) = (out_h.div_ceil(y.spacing), out_w.div_ceil(x_axis.spacing));
        let flags = [(self.bias.is_some(), BIAS), (self.relu, RELU), (self.transposed, TRANSPOSED)];
        let slot_bias = self.bias.filter(|b| b.shape().len() > 1).map_or(0, |b| b.strides()[0]);
        Ok(ConvParams {
            rows: small(batch.saturating_mul(grid_h * grid_w))?,
            grid_h: word(grid_h)?,
            grid_w: word(grid_w)?,
            in_h: word(in_h)?,
            in_w: word(in_w)?,
            out_h: word(out_h)?,
            out_w: word(out_w)?,
            kernel_h: word(height)?,
            kernel_w: word(width)?,
            c: word(c)?,
            n: word(n)?,
            ld_x: word(x.row_stride())?,
            ld_w: word(weight.row_stride())?,
            ld_out: word(out.row_stride())?,
            flags: flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum(),
            stride_x: word(from.sample)?,
            stride_out: word(to.sample)?,
            spacing_y: word(y.spacing)?,
            spacing_x: word(x_axis.spacing)?,
            read_y: word(y.read)?,
            read_x: word(x_axis.read)?,
            pad_y: word(self.pad[0])?,
            pad_x: word(self.pad[1])?,
            dilation_y: word(self.dilation[0])?,
            dilation_x: word(self.dilation[1])?,
            step_y: word(y.step)?,
            step_x: word(x_axis.step)?,
            move_y: y.shift,
            move_x: x_axis.shift,
            parts: word(groups)?,
            slot_x: word(from.stride)?,
            slot_w: word(of_weight.stride)?,
            slot_out: word(to.stride)?,
            slot_bias: word(slot_bias)?,
            ..Default::default()
        })
    }
}

/// A tensor of images (or a weight) without its axis of slots.
struct Image {
    /// The length of that axis; `None` if there is none.
    slots: Option<usize>,
    /// Elements from one slot to the next, 0 if they share the tensor.
    stride: usize,
    /// Elements from one sample to the next.
    sample: usize,
    /// What is left of the shape.
    shape: Vec<usize>,
}

impl Image {
    fn of(t: &Tensor) -> Self {
        let (shape, strides) = (t.shape(), t.strides());
        if shape.len() == 5 {
            return Self { slots: Some(shape[0]), stride: strides[0], sample: strides[1], shape: shape[1..].to_vec() };
        }
        let sample = strides.first().copied().unwrap_or(0);
        Self { slots: None, stride: 0, sample, shape: shape.to_vec() }
    }

    /// Whether it has one part for each slot of `other`, or is shared by them.
    fn serves(&self, other: &Self) -> bool {
        self.slots.is_none() || self.slots == other.slots
    }

    /// Whether slots have memory of their own.
    fn is_written(&self) -> bool {
        self.slots.is_none_or(|slots| slots > 0 && (slots == 1 || self.stride > 0))
    }
}

/// How output pixels and taps of one axis move over the source (lib/conv.wgsl).
struct Axis {
    spacing: usize,
    read: usize,
    step: usize,
    shift: i32,
}

impl Axis {
    fn new(transposed: bool, stride: usize, dilation: usize) -> Self {
        // Sizes are below 2^24 (`check_reach`).
        let signed = |v: usize| i32::try_from(v).unwrap_or(i32::MAX);
        if !transposed {
            return Self { spacing: 1, read: stride, step: 1, shift: signed(dilation) };
        }
        // Taps i and i + step fall into one phase if step * dilation is a multiple of the stride.
        let common = gcd(stride, dilation);
        Self { spacing: stride, read: 1, step: stride / common, shift: -signed(dilation / common) }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Coordinates are signed words in the kernels: everything that is added up to one stays below 2^24.
fn check_reach(conv: &Conv<'_>, kernel: [usize; 2], sizes: [usize; 4]) -> Result<()> {
    let [in_h, in_w, out_h, out_w] = sizes;
    let reach = |k: usize| kernel[k].saturating_mul(conv.dilation[k]).max(conv.pad[k]).max(conv.stride[k]);
    let pixels = |size: usize, k: usize| size.saturating_mul(conv.stride[k]).max(size);
    let most = [reach(0), reach(1), in_h, in_w, pixels(out_h, 0), pixels(out_w, 1)].into_iter().max().unwrap_or(0);
    if most < 1 << 24 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::TooBig, "a convolution reaches over more than 2^24 rows or columns")
        .with_help("use a smaller image, stride, dilation or padding"))
}

/// A number of pixels that kernels can count with room for a tile.
fn small(pixels: usize) -> Result<u32> {
    if pixels >= 1 << 31 {
        return Err(
            Error::new(ErrorKind::TooBig, format!("a convolution of {pixels} pixels")).with_help("use a smaller batch")
        );
    }
    word(pixels)
}

fn depthwise_kernel() -> Kernel {
    Kernel::new::<ConvParams>("conv_depthwise", CONV_DEPTHWISE, &BINDINGS)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let variants = [4, 8, 16].map(|columns| Variant::Direct { columns }).into_iter().chain([Variant::Tiled]);
    let convolutions = variants.flat_map(|variant| [false, true].map(|trans_weight| variant.kernel(trans_weight)));
    convolutions.chain([depthwise_kernel()]).chain(gradient::catalogue()).collect()
}
