//! Maximum and mean over windows of channels-last images. Kernels: `pool`, `max_pool_gradient`.

use super::{strided_grid, word};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const POOL: &str = include_str!("../../shaders/ops/pool.wgsl");
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
#[derive(Debug, Clone, Copy)]
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
        let work = out.len() as f64 * (self.kernel[0] * self.kernel[1]) as f64;
        let kernel = pool_kernel(pooling == Pooling::Max);
        recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, 1, 1]), work)
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
        if dx.shape() != x.shape() {
            return Err(Error::internal(format!("a gradient of {:?} into {:?}", x.shape(), dx.shape())));
        }
        let bindings = vec![x.binding(), g.binding(), dx.binding()];
        let taps = (self.kernel[0] * self.kernel[1]) as f64;
        let work = g.len() as f64 * taps * taps;
        recording.dispatch(&gradient_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), work)
    }

    /// Parameters for images `x` and `y`, one invocation for each vector of four channels of `written`.
    fn params(&self, caps: &Caps, x: &Tensor, y: &Tensor, written: &Tensor) -> Result<(PoolParams, u32)> {
        let misfit = || Error::internal(format!("a pool of {:?} into {:?}, {self:?}", x.shape(), y.shape()));
        let (&[batch, in_h, in_w, channels], &[out_batch, out_h, out_w, out_channels]) = (x.shape(), y.shape()) else {
            return Err(misfit());
        };
        let positive = [self.kernel, self.stride, self.dilation].concat().iter().all(|&v| v > 0);
        let same = (batch, channels) == (out_batch, out_channels) && x.row_stride() == written.row_stride();
        if !positive || !same || x.is_empty() || y.is_empty() {
            return Err(misfit());
        }
        let reach = |k: usize| {
            let taps = self.kernel[k].saturating_mul(self.dilation[k]);
            let size = [out_h, out_w][k].saturating_mul(self.stride[k]);
            taps.max(size).max(self.pad[k]).max([in_h, in_w][k])
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
            dilation_y: word(self.dilation[0])?,
            dilation_x: word(self.dilation[1])?,
            ..Default::default()
        };
        Ok((params, groups))
    }
}

fn pool_kernel(max: bool) -> Kernel {
    Kernel::new::<PoolParams>("pool", POOL, &[Access::Read, Access::Write]).flag("MAX", max)
}

fn gradient_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<PoolParams>("max_pool_gradient", MAX_POOL_GRADIENT, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![pool_kernel(true), pool_kernel(false), gradient_kernel()]
}
