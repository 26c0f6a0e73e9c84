//! Convolutions of channels-last images, forward and transposed, with strides, padding, dilation, groups, bias and ReLU.
//!
//! Kernels: `conv` (direct: registers only), `conv_tiled` (workgroup memory) and `conv_depthwise` (every channel a group of
//! its own). All walk taps and channels in ascending order with one fused multiply-add an output and term, so they agree
//! bit for bit where the device rounds alike. The transposed form is both the gradient with respect to the input and
//! ONNX's ConvTranspose; weights for either come from [`Weight`].

use ndarray::{Array4, ArrayView4};

use super::{strided_grid, word};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const CONV: &str = include_str!("../../shaders/ops/conv.wgsl");
const CONV_TILED: &str = include_str!("../../shaders/ops/conv_tiled.wgsl");
const CONV_DEPTHWISE: &str = include_str!("../../shaders/ops/conv_depthwise.wgsl");
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
    pad0: u32,
});

/// Which kernel computes a convolution that is not depthwise. The choice never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `conv`: 16 pixels x `columns` channels an invocation.
    Direct {
        /// Channels of the tile: 4, 8 or 16.
        columns: u32,
    },
    /// `conv_tiled`: 64 pixels x 64 channels a workgroup of 256.
    Tiled,
}

impl Variant {
    /// The variant for `n` output channels a group on this device: software devices want registers only, GPUs workgroup
    /// memory; few channels want narrow tiles.
    pub fn choose(caps: &Caps, n: usize) -> Self {
        if !caps.is_software() && caps.max_invocations >= 256 && n > 8 {
            return Self::Tiled;
        }
        Self::Direct {
            columns: match n {
                0..=4 => 4,
                5..=8 => 8,
                _ => 16,
            },
        }
    }

    fn kernel(self) -> Kernel {
        match self {
            Self::Direct { columns } => Kernel::new::<ConvParams>("conv", CONV, &BINDINGS)
                .define("TM", ROWS)
                .define("TN", columns)
                .define("TN4", columns / 4)
                .define("LANES", LANES),
            Self::Tiled => Kernel::new::<ConvParams>("conv_tiled", CONV_TILED, &BINDINGS),
        }
    }

    /// Pixels and channels of a workgroup, and its lanes along the channels, for `n` channels.
    fn tile(self, n: u32) -> (u32, u32, u32) {
        match self {
            Self::Direct { columns } => {
                let lanes = n.div_ceil(columns).next_power_of_two().clamp(1, LANES);
                (ROWS * (LANES / lanes), columns * lanes, lanes)
            }
            Self::Tiled => (64, 64, 16),
        }
    }
}

const BINDINGS: [Access; 4] = [Access::Read, Access::Read, Access::Write, Access::Read];

/// A convolution's weight as the kernels read it: `[kernel rows, kernel columns, channels read by a group, channels written]`,
/// the channels written by a group side by side.
#[derive(Debug, Clone)]
pub struct Weight {
    /// The elements.
    pub elements: Array4<f32>,
    /// Groups that are left: those of the file, or 1 where the kernels want them filled up with zeros.
    pub groups: usize,
}

impl Weight {
    /// Of a forward convolution with `weight` `[written, read / groups, kernel rows, kernel columns]`, ONNX's order for Conv.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if the channels cannot be divided into that many groups; [`ErrorKind::TooBig`] if zeros make it too large.
    pub fn forward(weight: &ArrayView4<'_, f32>, groups: usize) -> Result<Self> {
        let (written, read, height, width) = weight.dim();
        check_groups(written, groups)?;
        let per_group = written / groups;
        Self::pack(groups, [height, width], [read, per_group], |group, read, m, [i, j]| {
            weight[[group * per_group + m, read, i, j]]
        })
    }

    /// Of the transpose of a forward convolution with `weight` `[written, read / groups, kernel rows, kernel columns]`: it reads what
    /// that one writes. ONNX's ConvTranspose stores its weight in this order, `[read, written / groups, ...]` in its own words.
    ///
    /// # Errors
    /// Those of [`Weight::forward`].
    pub fn transposed(weight: &ArrayView4<'_, f32>, groups: usize) -> Result<Self> {
        let (read, written, height, width) = weight.dim();
        check_groups(read, groups)?;
        let per_group = read / groups;
        Self::pack(groups, [height, width], [per_group, written], |group, read, m, [i, j]| {
            weight[[group * per_group + read, m, i, j]]
        })
    }

    fn pack(
        groups: usize,
        [height, width]: [usize; 2],
        [read, written]: [usize; 2],
        at: impl Fn(usize, usize, usize, [usize; 2]) -> f32,
    ) -> Result<Self> {
        let depthwise = read == 1 && written == 1;
        let native = groups == 1 || depthwise || (read.is_multiple_of(4) && written.is_multiple_of(4));
        let rows = if native { read } else { groups * read };
        let size = [height, width, rows, groups, written].iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        if size.is_none_or(|size| size > 1 << 28) {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("a convolution of {groups} groups has a weight of more than 2^28 elements once it is filled with zeros"),
            )
            .with_help("use channels a group that are multiples of 4"));
        }
        let mut elements = Array4::zeros((height, width, rows, groups * written));
        for i in 0..height {
            for j in 0..width {
                for group in 0..groups {
                    for c in 0..read {
                        for m in 0..written {
                            let row = if native { c } else { group * read + c };
                            elements[[i, j, row, group * written + m]] = at(group, c, m, [i, j]);
                        }
                    }
                }
            }
        }
        Ok(Self { elements, groups: if native { groups } else { 1 } })
    }

    /// A copy on the device.
    ///
    /// # Errors
    /// Those of [`Tensor::from_slice_async`].
    pub async fn upload_async(&self, gpu: &Gpu) -> Result<Tensor> {
        let elements: Vec<f32> = self.elements.iter().copied().collect();
        Tensor::from_slice_async(gpu, self.elements.shape(), &elements).await
    }

    /// Blocking twin of [`Weight::upload_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn upload(&self, gpu: &Gpu) -> Result<Tensor> {
        pollster::block_on(self.upload_async(gpu))
    }
}

fn check_groups(channels: usize, groups: usize) -> Result<()> {
    if groups > 0 && channels.is_multiple_of(groups) {
        return Ok(());
    }
    Err(Error::bad_input(format!("a convolution divides {channels} channels into {groups} groups"))
        .with_help("the number of groups must divide the channels"))
}

/// The longest chain of roundings that one term of an output passes through, the bias not counted: `taps` times the channels
/// that a group reads.
pub fn depth(weight: &[usize]) -> usize {
    weight.iter().take(3).product()
}

/// A convolution of images `[batch, rows, columns, channels]`.
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
    /// `[channels written]`.
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
            bias: None,
            relu: false,
            variant: None,
        }
    }
}

impl Conv<'_> {
    /// Records `out = act(conv(x, weight) + bias)` for `x` `[batch, H, W, channels read]`, `weight` as [`Weight`] packs it and `out`
    /// `[batch, OH, OW, channels written]`. Source pixels that `out` asks for outside of `x` count as zeros.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for more than 2^31 pixels.
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
        let valid = out.len() as f64 * depth(weight.shape()) as f64;
        // The transposed form tries only the taps that fit a phase.
        let work = 2.0 * if self.transposed { valid / f64::from(phases) } else { valid };
        if self.is_depthwise(weight) {
            let items = small((params.rows as usize).saturating_mul(out.columns().div_ceil(4)))? as usize;
            let (groups, threads) = strided_grid(items, caps.max_workgroups)?;
            (params.lanes, params.n) = (threads, word(out.columns())?);
            let grid = Grid::Direct([groups, 1, phases]);
            return recording.dispatch(&depthwise_kernel(), bindings, &params, grid, work);
        }
        let variant = self.variant.unwrap_or_else(|| Variant::choose(caps, params.n as usize));
        let (rows, columns, lanes) = variant.tile(params.n);
        params.lanes = lanes;
        let tiles = params.rows.div_ceil(rows);
        let most = caps.max_workgroups;
        for first in (0..tiles).step_by(most as usize) {
            let count = most.min(tiles - first);
            let params = ConvParams { first: first * rows, ..params };
            let grid = [count, params.n.div_ceil(columns), word(self.groups)? * phases];
            let share = f64::from(count) / f64::from(tiles);
            recording.dispatch(&variant.kernel(), bindings.clone(), &params, Grid::Direct(grid), work * share)?;
        }
        Ok(())
    }

    fn is_depthwise(&self, weight: &Tensor) -> bool {
        self.groups > 1 && weight.shape()[2] == 1 && weight.columns() == self.groups
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
        let (&[batch, in_h, in_w, read], &[height, width, c, written], &[out_batch, out_h, out_w, channels]) =
            (x.shape(), weight.shape(), out.shape())
        else {
            return Err(misfit());
        };
        let groups = self.groups.max(1);
        let n = written / groups;
        let whole = groups == 1 || self.is_depthwise(weight) || (c.is_multiple_of(4) && n.is_multiple_of(4));
        let positive = [self.stride, self.dilation].concat().iter().all(|&v| v > 0);
        let sizes = [batch, in_h, in_w, out_h, out_w, height, width, c, n].iter().all(|&v| v > 0);
        let fits = out_batch == batch && channels == written && read == c * groups && n * groups == written;
        let bias = self.bias.is_none_or(|b| b.shape() == [written]);
        if !(whole && positive && sizes && fits && bias) {
            return Err(misfit());
        }
        check_reach(self, [height, width], [in_h, in_w, out_h, out_w])?;
        let axis = |k: usize| Axis::new(self.transposed, self.stride[k], self.dilation[k]);
        let (y, x_axis) = (axis(0), axis(1));
        let (grid_h, grid_w) = (out_h.div_ceil(y.spacing), out_w.div_ceil(x_axis.spacing));
        let flags = [(self.bias.is_some(), BIAS), (self.relu, RELU), (self.transposed, TRANSPOSED)];
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
            stride_x: word(x.strides()[0])?,
            stride_out: word(out.strides()[0])?,
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
            ..Default::default()
        })
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
    let direct = [4, 8, 16].map(|columns| Variant::Direct { columns }.kernel());
    direct.into_iter().chain([Variant::Tiled.kernel(), depthwise_kernel()]).collect()
}
