//! Weights as the kernels read them.

use ndarray::{Array4, ArrayView4};

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::Gpu;
use crate::tensor::Tensor;

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
