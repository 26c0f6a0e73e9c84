//! A network on the device: every affine layer in both orientations.

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Gpu;
use crate::graph::{Affine, Chain};
use crate::tensor::Tensor;

/// One layer `z = W y + b`, with a ReLU behind it or not.
#[derive(Debug)]
pub(super) struct DeviceLayer {
    /// `W`, `[out, in]`: back-substitution and gradients multiply by it from the right.
    pub weight: Tensor,
    /// `W` transposed, `[in, out]`: forward passes multiply by it from the right.
    pub weight_t: Tensor,
    /// `b`, `[out]`.
    pub bias: Tensor,
    /// `(b_j, bound on its error)`, `[2 out]`.
    pub bias_pair: Tensor,
    /// Bound on the relative error of every weight.
    pub weight_rel: f32,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// Inputs.
    pub n_in: usize,
    /// Outputs.
    pub n_out: usize,
}

/// A chain of affine layers and ReLUs on the device.
#[derive(Debug)]
pub(super) struct DeviceChain {
    pub layers: Vec<DeviceLayer>,
}

impl DeviceChain {
    pub async fn new(gpu: &Gpu, chain: &Chain) -> Result<Self> {
        let mut layers = Vec::with_capacity(chain.layers.len());
        for (index, affine) in chain.layers.iter().enumerate() {
            check_magnitudes(index, affine)?;
            layers.push(DeviceLayer::new(gpu, affine).await?);
        }
        Ok(Self { layers })
    }

    pub fn n_in(&self) -> usize {
        self.layers.first().map_or(0, |l| l.n_in)
    }

    pub fn n_out(&self) -> usize {
        self.layers.last().map_or(0, |l| l.n_out)
    }

    /// Length of the longest vector that a layer takes.
    pub fn widest_in(&self) -> usize {
        self.layers.iter().map(|l| l.n_in).max().unwrap_or(1)
    }

    /// Length of the longest vector that a layer gives.
    pub fn widest_out(&self) -> usize {
        self.layers.iter().map(|l| l.n_out).max().unwrap_or(1)
    }

    /// Length of the longest vector, the input included.
    pub fn widest(&self) -> usize {
        self.widest_in().max(self.widest_out())
    }
}

impl DeviceLayer {
    async fn new(gpu: &Gpu, affine: &Affine) -> Result<Self> {
        let (n_out, n_in) = affine.weight.dim();
        let weight: Vec<f32> = affine.weight.iter().copied().collect();
        let weight_t: Vec<f32> = affine.weight.t().iter().copied().collect();
        let pairs: Vec<f32> = affine.bias.iter().zip(&affine.bias_abs).flat_map(|(&b, &e)| [b, e]).collect();
        let bias: Vec<f32> = affine.bias.to_vec();
        Ok(Self {
            weight: Tensor::from_slice_async(gpu, &[n_out, n_in], &weight).await?,
            weight_t: Tensor::from_slice_async(gpu, &[n_in, n_out], &weight_t).await?,
            bias: Tensor::from_slice_async(gpu, &[n_out], &bias).await?,
            bias_pair: Tensor::from_slice_async(gpu, &[2 * n_out], &pairs).await?,
            weight_rel: affine.weight_rel,
            relu: affine.relu,
            n_in,
            n_out,
        })
    }
}

/// Kernels refuse coefficients from 2^40 on; weights stay far below, so that one product cannot overflow either.
fn check_magnitudes(index: usize, affine: &Affine) -> Result<()> {
    const MOST: f32 = 1_048_576.0;
    let all = affine.weight.iter().chain(&affine.bias);
    if let Some(value) = all.into_iter().find(|v| v.is_nan() || v.abs() >= MOST) {
        return Err(Error::new(ErrorKind::Unsupported, format!("layer {index} has a weight or bias of {value}"))
            .with_help("weights and biases must be below 2^20 in magnitude; rescale the network"));
    }
    Ok(())
}
