//! Maximum and mean over windows of channels-last images, and their gradients. Kernels: `pool`, `pool_gradient`, `max_pool_gradient`.
//!
//! Slots are no axis of their own here: images of slots `[slots, batch, ..]` are viewed as `[slots * batch, ..]`.

use super::{strided_grid, word};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const POOL: &str = include_str!("../../shaders/ops/pool.wgsl");
const POOL_GRADIENT: &str = include_str!("../../shaders/ops/pool_gradient.wgsl");
const MAX_POOL_GRADIENT: &str = include_str!("../../shaders/ops/max_pool_gradient.wgsl");
const WHOLE: u32 = 1;

params!(PoolParams {
    len: u32,
    threads: u32,
    width4: u32,
    flags: u32,
    in_h: u32,
    in_w: u32,
    out_h: u32,
    out_w: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_y: u32,
    stride_x: u32,
    pad_y: u32,
    pad_x: u32,
    dilation_y: u32,
    dilation_x: u32,
});

/// What a pool takes from a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest element inside the image.
    Max,
    /// The mean of the elements inside the image.
    Mean,
    /// Their sum divided by the size of the window.
    MeanOfWindow,
}

/// Windows of a pool over images `[batch, rows, columns, channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Rows above and columns left of the image that the first window begins with.
    pub pad: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
}

impl Pool {
    /// Windows that follow from the sizes, as in PyTorch's adaptive pools: window v of n over h rows covers rows `floor(v h / n)` to
    /// `ceil((v + 1) h / n) - 1`, and likewise columns. With one window it is the pool over everything.
    pub const ADAPTIVE: Self = Self { kernel: [0, 0], stride: [0, 0], pad: [0, 0], dilation: [0, 0] };

    /// Records `out = pooling of x` for `x` `[batch, H, W, C]` and `out` `[batch, OH, OW, C]`. A window that lies in the padding alone
    /// gives -3.4e38 or 0.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for more than 2^31 vectors of four.
    pub fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        pooling: Pooling,
        x: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let (mut params, groups) = self.params(caps, x, out, out)?;
        params.flags = if pooling == Pooling::MeanOfWindow { WHOLE } else { 0 };
        let bindings = vec![x.binding(), out.binding()];
        let kernel = pool_kernel(pooling == Pooling::Max, self.is_adaptive());
        recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, 1, 1]), self.work(x, out))
    }

    /// Records a pool of [`Pooling::Max`] that also writes into `winners`, in the shape of `out`, which tap each element was taken from: the
    /// first of the largest, counted row by row of its window, or 2^32 - 1 for a window in the padding alone.
    ///
    /// # Errors
    /// Those of [`Pool::record`].
    pub fn max_with_winners(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        x: &Tensor,
        out: &Tensor,
        winners: &Tensor<u32>,
    ) -> Result<()> {
        let (params, groups) = self.params(caps, x, out, out)?;
        same_shape(out, winners)?;
        let bindings = vec![x.binding(), out.binding(), winners.binding()];
        let kernel = winner_kernel(self.is_adaptive());
        recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, 1, 1]), self.work(x, out))
    }

    /// Records the gradient of [`Pool::max_with_winners`]: each element of `g` `[batch, OH, OW, C]` goes to the element of `dx`
    /// `[batch, H, W, C]` that `winners` names. The cost is that of the windows that hold an element, not of the windows' sizes.
    ///
    /// # Errors
    /// Those of [`Pool::record`].
    pub fn winners_gradient(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        winners: &Tensor<u32>,
        g: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let (params, groups) = self.params(caps, dx, g, dx)?;
        same_shape(g, winners)?;
        let bindings = vec![g.binding(), dx.binding(), winners.binding()];
        let kernel = gradient_kernel(true, self.is_adaptive());
        recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, 1, 1]), self.work(dx, g))
    }

    /// Records the gradient of a mean, [`Pooling::Mean`] or [`Pooling::MeanOfWindow`], from `g` `[batch, OH, OW, C]` to `dx` `[batch, H, W, C]`.
    ///
    /// # Errors
    /// Those of [`Pool::record`]; [`ErrorKind::Internal`] for [`Pooling::Max`].
    pub fn mean_gradient(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        pooling: Pooling,
        g: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        if pooling == Pooling::Max {
            return Err(Error::internal("the gradient of a mean was asked for a maximum"));
        }
        let (mut params, groups) = self.params(caps, dx, g, dx)?;
        params.flags = if pooling == Pooling::MeanOfWindow { WHOLE } else { 0 };
        let bindings = vec![g.binding(), dx.binding()];
        let kernel = gradient_kernel(false, self.is_adaptive());
        recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, 1, 1]), self.work(dx, g))
    }

    fn is_adaptive(&self) -> bool {
        *self == Self::ADAPTIVE
    }

    /// Taps of all windows over `x` that make `y`.
    fn work(&self, x: &Tensor, y: &Tensor) -> f64 {
        let taps = (self.kernel[0] * self.kernel[1]) as f64;
        if self.is_adaptive() { x.len().max(y.len()) as f64 } else { (y.len() as f64 * taps).max(x.len() as f64) }
    }

    /// Records the gradient of [`Pooling::Max`]: each element of `g` `[batch, OH, OW, C]` goes to the first of the largest elements of its
    /// window of `x`; `dx` has the shape of `x`.
    ///
    /// # Errors
    /// Those of [`Pool::record`].
    pub fn max_gradient(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        [x, g]: [&Tensor; 2],
        dx: &Tensor,
    ) -> Result<()> {
        let (params, groups) = self.params(caps, x, g, dx)?;
        if dx.shape() != x.shape() || self.is_adaptive() {
            return Err(Error::internal(format!("a gradient of {:?} into {:?}", x.shape(), dx.shape())));
        }
        let bindings = vec![x.binding(), g.binding(), dx.binding()];
        let taps = (self.kernel[0] * self.kernel[1]) as f64;
        let work = g.len() as f64 * taps * taps;
        recording.dispatch(&search_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), work)
    }

    /// Parameters for images `x` and `y`, one invocation for each vector of four channels of `written`.
    fn params(&self, caps: &Caps, x: &Tensor, y: &Tensor, written: &Tensor) -> Result<(PoolParams, u32)> {
        let misfit = || Error::internal(format!("a pool of {:?} into {:?}, {self:?}", x.shape(), y.shape()));
        let (&[batch, in_h, in_w, channels], &[out_batch, out_h, out_w, out_channels]) = (x.shape(), y.shape()) else {
            return Err(misfit());
        };
        let adaptive = self.is_adaptive();
        let positive = adaptive || [self.kernel, self.stride, self.dilation].concat().iter().all(|&v| v > 0);
        let same = (batch, channels) == (out_batch, out_channels) && x.row_stride() == written.row_stride();
        if !positive || !same || x.is_empty() || y.is_empty() {
            return Err(misfit());
        }
        let reach = |k: usize| {
            let taps = self.kernel[k].saturating_mul(self.dilation[k]);
            let size = [out_h, out_w][k].saturating_mul(self.stride[k]);
            // The kernels multiply sizes to place adaptive windows.
            let product = if adaptive { [in_h, in_w][k].saturating_mul([out_h, out_w][k]) >> 6 } else { 0 };
            taps.max(size).max(self.pad[k]).max([in_h, in_w][k]).max(product)
        };
        let rows = written.len() / channels;
        let len = rows.saturating_mul(channels.div_ceil(4));
        if reach(0).max(reach(1)) >= 1 << 24 || len >= 1 << 31 {
            return Err(Error::new(ErrorKind::TooBig, "a pool over more pixels than kernels address")
                .with_help("use a smaller batch or image"));
        }
        let (groups, threads) = strided_grid(len, caps.max_workgroups)?;
        let params = PoolParams {
            len: word(len)?,
            threads,
            width4: word(channels.div_ceil(4))?,
            in_h: word(in_h)?,
            in_w: word(in_w)?,
            out_h: word(out_h)?,
            out_w: word(out_w)?,
            kernel_h: word(self.kernel[0])?,
            kernel_w: word(self.kernel[1])?,
            stride_y: word(self.stride[0])?,
            stride_x: word(self.stride[1])?,
            pad_y: word(self.pad[0])?,
            pad_x: word(self.pad[1])?,
            dilation_y: word(self.dilation[0].max(1))?,
            dilation_x: word(self.dilation[1].max(1))?,
            ..Default::default()
        };
        Ok((params, groups))
    }
}

fn same_shape(tensor: &Tensor, winners: &Tensor<u32>) -> Result<()> {
    if tensor.shape() == winners.shape() && tensor.row_stride() == winners.row_stride() {
        return Ok(());
    }
    Err(Error::internal(format!("winners {:?} of a pool {:?}", winners.shape(), tensor.shape())))
}

fn pool_kernel(max: bool, adaptive: bool) -> Kernel {
    let kernel = Kernel::new::<PoolParams>("pool", POOL, &[Access::Read, Access::Write]);
    kernel.flag("MAX", max).flag("ADAPTIVE", adaptive)
}

fn winner_kernel(adaptive: bool) -> Kernel {
    let kernel = Kernel::new::<PoolParams>("pool", POOL, &[Access::Read, Access::Write, Access::Write]);
    kernel.flag("MAX", true).flag("WINNERS", true).flag("ADAPTIVE", adaptive)
}

fn gradient_kernel(winners: bool, adaptive: bool) -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Read];
    let bindings = &bindings[..if winners { 3 } else { 2 }];
    let kernel = Kernel::new::<PoolParams>("pool_gradient", POOL_GRADIENT, bindings);
    kernel.flag("WINNERS", winners).flag("ADAPTIVE", adaptive)
}

fn search_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<PoolParams>("max_pool_gradient", MAX_POOL_GRADIENT, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let of = |adaptive: bool| {
        let gradients = [true, false].map(|winners| gradient_kernel(winners, adaptive));
        let pools = [pool_kernel(true, adaptive), pool_kernel(false, adaptive), winner_kernel(adaptive)];
        pools.into_iter().chain(gradients)
    };
    of(false).chain(of(true)).chain([search_kernel()]).collect()
}
