//! Codecs: tensors in fewer bytes, on the device.

pub mod exponent;
pub mod rans;

use crate::gpu::Kernel;

pub(super) fn catalogue() -> Vec<Kernel> {
    rans::catalogue()
}
