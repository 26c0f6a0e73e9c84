//! The gradient of a convolution's weight. Kernels: `conv_weight` (direct: registers only), `conv_weight_tiled` (workgroup memory),
//! `conv_weight_depthwise`, and `conv_weight_sum`, which adds their planes.

use super::{Conv, Image, LANES, ROWS, Variant, check_reach, small};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{strided_grid, word};
use crate::tensor::Tensor;

const DIRECT: &str = include_str!("../../../shaders/ops/conv_weight.wgsl");
const TILED: &str = include_str!("../../../shaders/ops/conv_weight_tiled.wgsl");
const DEPTHWISE: &str = include_str!("../../../shaders/ops/conv_weight_depthwise.wgsl");
const SUM: &str = include_str!("../../../shaders/ops/conv_weight_sum.wgsl");
const BINDINGS: [Access; 3] = [Access::Read, Access::Read, Access::Write];

/// Windows whose terms one invocation adds up; a constant, so that no order of summation depends on anything but the shape of a slot.
/// 1,024 leave enough planes for a GPU at small weights, and a plane for every 1,024 pixels is little beside the pixels.
pub const CHUNK: usize = 1024;

params!(GradientParams {
    pixels: u32,
    chunk: u32,
    chunks: u32,
    parts: u32,
    row_tiles: u32,
    column_tiles: u32,
    items: u32,
    first: u32,
    rows: u32,
    n: u32,
    per_tap: u32,
    c: u32,
    kernel_w: u32,
    ld_w: u32,
    ld_x: u32,
    ld_g: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    stride_y: u32,
    stride_x: u32,
    pad_y: u32,
    pad_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    sample_x: u32,
    sample_g: u32,
    slot_x: u32,
    slot_g: u32,
    slot_w: u32,
    plane: u32,
});

params!(SumParams { plane: u32, chunks: u32, slot_w: u32, threads: u32 });

/// The longest chain of roundings that one term of a weight's gradient passes through: those of its chunk and those of the planes. `pixels` are
/// a slot's windows: samples times rows times columns of what the convolution writes (of what it reads, if it is transposed).
pub fn gradient_depth(pixels: usize) -> usize {
    pixels.min(CHUNK) + pixels.div_ceil(CHUNK)
}

/// How a gradient is laid out.
struct Plan {
    params: GradientParams,
    slots: usize,
    /// The kernel stores rows as columns.
    turned: bool,
    depthwise: bool,
}

impl Conv<'_> {
    /// The shape of the planes that [`Conv::weight_gradient`] wants as scratch memory for operands of these shapes; `None` if it wants none.
    pub fn gradient_planes(&self, x: &[usize], g: &[usize], dw: &[usize]) -> Option<Vec<usize>> {
        let narrow = if self.transposed { x } else { g };
        let pixels: usize = narrow.iter().rev().skip(1).take(3).product();
        let slots = if dw.len() == 5 { dw[0] } else { 1 };
        let &[.., height, width, rows, columns] = dw else { return None };
        (pixels > CHUNK).then(|| vec![slots, pixels.div_ceil(CHUNK), height * width * rows, columns])
    }

    /// Records the gradient of the weight: `dw`, with the axes of the weight that [`Conv::record`] takes, is the sum over a slot's samples and
    /// pixels of what the weight's elements are multiplied by, where `x` is what the convolution reads and `g` the gradient of what it
    /// writes (before bias and activation). `planes` is scratch memory of the shape that [`Conv::gradient_planes`] says. With slots, `dw`
    /// has them as first axis. Padding of `dw` is written as 0.
    ///
    /// # Errors
    /// Those of [`Conv::record`]; [`crate::ErrorKind::Internal`] if the planes do not fit.
    pub fn weight_gradient(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        [x, g]: [&Tensor; 2],
        planes: Option<&Tensor>,
        dw: &Tensor,
    ) -> Result<()> {
        let mut plan = self.plan([x, g], dw)?;
        let wanted = self.gradient_planes(x.shape(), g.shape(), dw.shape());
        let target = match (&wanted, planes) {
            (None, _) => dw,
            (Some(shape), Some(planes)) if planes.shape() == shape.as_slice() => planes,
            _ => return Err(self.misfit([x, g], dw, planes)),
        };
        let words = plan.plane(dw);
        if wanted.is_some() {
            plan.params.plane = word(words)?;
            plan.params.slot_w = word(words.saturating_mul(plan.params.chunks as usize))?;
        }
        let [wide, narrow] = if self.transposed { [g, x] } else { [x, g] };
        let bindings = vec![wide.binding(), narrow.binding(), target.binding()];
        self.dispatch(recording, caps, bindings, &plan)?;
        if wanted.is_none() {
            return Ok(());
        }
        let (groups, threads) = strided_grid(words / 4, caps.max_workgroups)?;
        let stride = Image::of(dw).stride / 4;
        let params = SumParams {
            plane: word(words / 4)?,
            chunks: plan.params.chunks,
            slot_w: word(stride)?,
            threads,
            ..Default::default()
        };
        let grid = Grid::Direct([groups, word(plan.slots)?, 1]);
        let work = (plan.slots * words) as f64 * f64::from(plan.params.chunks);
        recording.dispatch(&sum_kernel(), vec![target.binding(), dw.binding()], &params, grid, work)
    }

    /// Records the planes, or the gradient itself if there is one chunk.
    fn dispatch(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        bindings: Vec<crate::gpu::Binding>,
        plan: &Plan,
    ) -> Result<()> {
        let mut params = plan.params;
        let (kernel, rows, columns, lanes) = if plan.depthwise {
            (depthwise_kernel(), 1, 4, 64)
        } else {
            let variant = self.variant.unwrap_or_else(|| Variant::choose(caps, params.n as usize));
            let (rows, columns, lanes) = match variant {
                Variant::Direct { columns } => (ROWS, columns, LANES),
                Variant::Tiled => (64, 64, 1),
            };
            (kernel(variant, plan.turned, params.per_tap.is_multiple_of(4)), rows, columns, lanes)
        };
        params.row_tiles = params.rows.div_ceil(rows);
        params.column_tiles = params.n.div_ceil(columns);
        let tiles = params.row_tiles as usize * params.column_tiles as usize;
        params.items = small(tiles.saturating_mul(params.chunks as usize))?;
        let z = small(plan.slots.saturating_mul(params.parts as usize))?;
        let all = params.items.div_ceil(lanes);
        let terms = f64::from(params.rows) * f64::from(params.n) * f64::from(params.pixels);
        let work = 2.0 * terms * f64::from(z);
        for start in (0..all).step_by(caps.max_workgroups as usize) {
            let count = caps.max_workgroups.min(all - start);
            let params = GradientParams { first: start * lanes, ..params };
            let share = f64::from(count) / f64::from(all);
            recording.dispatch(&kernel, bindings.clone(), &params, Grid::Direct([count, 1, z]), work * share)?;
        }
        Ok(())
    }

    fn misfit(&self, [x, g]: [&Tensor; 2], dw: &Tensor, planes: Option<&Tensor>) -> Error {
        let planes = planes.map(Tensor::shape);
        Error::internal(format!(
            "a weight's gradient from {:?} and {:?} into {:?} by way of {planes:?}, {self:?}",
            x.shape(),
            g.shape(),
            dw.shape()
        ))
    }

    fn plan(&self, [x, g]: [&Tensor; 2], dw: &Tensor) -> Result<Plan> {
        let misfit = || self.misfit([x, g], dw, None);
        let of_weight = Image::of(dw);
        let ([height, width], [read, written]) = self.channels(&of_weight.shape).ok_or_else(misfit)?;
        // Windows slide over the wide image and each has a pixel of the narrow one.
        let ([wide, narrow], [c, n]) =
            if self.transposed { ([g, x], [written, read]) } else { ([x, g], [read, written]) };
        let (from, to) = (Image::of(wide), Image::of(narrow));
        let (&[batch, in_h, in_w, wide_channels], &[samples, out_h, out_w, narrow_channels]) =
            (from.shape.as_slice(), to.shape.as_slice())
        else {
            return Err(misfit());
        };
        let groups = self.parts();
        let sizes = [batch, in_h, in_w, out_h, out_w].iter().all(|&v| v > 0);
        let fits = samples == batch && wide_channels == c * groups && narrow_channels == n * groups;
        let slots = from.serves(&of_weight) && to.serves(&of_weight) && of_weight.is_written();
        if !(sizes && fits && slots) {
            return Err(misfit());
        }
        check_reach(self, [height, width], [in_h, in_w, out_h, out_w])?;
        let depthwise = self.is_depthwise(&of_weight.shape);
        let turned = !depthwise && self.transposed != self.trans_weight;
        let per_tap = if turned { c.next_multiple_of(4) } else { c };
        let pixels = batch.saturating_mul(out_h * out_w);
        let (parts, n) = if depthwise { (1, groups) } else { (groups, n) };
        let params = GradientParams {
            pixels: small(pixels)?,
            chunk: word(CHUNK)?,
            chunks: word(pixels.div_ceil(CHUNK))?,
            parts: word(parts)?,
            rows: small((height * width).saturating_mul(per_tap))?,
            n: word(n)?,
            per_tap: word(per_tap)?,
            c: word(c)?,
            kernel_w: word(width)?,
            ld_w: word(dw.row_stride())?,
            ld_x: word(wide.row_stride())?,
            ld_g: word(narrow.row_stride())?,
            in_h: word(in_h)?,
            in_w: word(in_w)?,
            out_h: word(out_h)?,
            out_w: word(out_w)?,
            stride_y: word(self.stride[0])?,
            stride_x: word(self.stride[1])?,
            pad_y: word(self.pad[0])?,
            pad_x: word(self.pad[1])?,
            dilation_y: word(self.dilation[0])?,
            dilation_x: word(self.dilation[1])?,
            sample_x: word(from.sample)?,
            sample_g: word(to.sample)?,
            slot_x: word(from.stride)?,
            slot_g: word(to.stride)?,
            slot_w: word(of_weight.stride)?,
            ..Default::default()
        };
        Ok(Plan { params, slots: of_weight.slots.unwrap_or(1), turned, depthwise })
    }
}

impl Plan {
    /// Elements of a plane, padding included.
    fn plane(&self, dw: &Tensor) -> usize {
        dw.len() / self.slots / dw.columns() * dw.row_stride()
    }
}

fn kernel(variant: Variant, turned: bool, quads: bool) -> Kernel {
    let kernel = match variant {
        Variant::Direct { columns } => Kernel::new::<GradientParams>("conv_weight", DIRECT, &BINDINGS)
            .define("TM", ROWS)
            .define("TM4", ROWS / 4)
            .define("TN", columns)
            .define("TN4", columns / 4)
            .define("LANES", LANES),
        Variant::Tiled => Kernel::new::<GradientParams>("conv_weight_tiled", TILED, &BINDINGS),
    };
    kernel.flag("TURNED", turned).flag("QUADS", quads)
}

fn depthwise_kernel() -> Kernel {
    Kernel::new::<GradientParams>("conv_weight_depthwise", DEPTHWISE, &BINDINGS)
}

fn sum_kernel() -> Kernel {
    Kernel::new::<SumParams>("conv_weight_sum", SUM, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let variants = [4, 8, 16].map(|columns| Variant::Direct { columns }).into_iter().chain([Variant::Tiled]);
    let gradients = variants.flat_map(|variant| {
        // What is turned has rows in fours.
        [(false, false), (false, true), (true, true)].map(|(turned, quads)| kernel(variant, turned, quads))
    });
    gradients.chain([depthwise_kernel(), sum_kernel()]).collect()
}
