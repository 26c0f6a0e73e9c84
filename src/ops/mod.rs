//! Operators: one file a kernel family, each of which records dispatches.
//!
//! Every operator has a leading batch axis; an operand whose stride along it is 0 is shared. No result depends on the
//! length of that axis, on the tile shape or on the device's clock.

pub mod columns;
pub mod conv;
pub mod elementwise;
pub mod embedding;
pub mod gather;
pub mod matmul;
pub mod norm;
pub mod pool;
pub mod reduce;
pub mod row_compact;
pub mod scan;
mod slots;
pub mod softmax;
pub mod transpose;
pub mod tune;
mod windows;

use crate::error::{Error, Result};
use crate::gpu::Kernel;

/// One kernel of each permutation that this room ships, for validation, `doctor` and documentation.
pub fn catalogue() -> Vec<Kernel> {
    [
        columns::catalogue(),
        conv::catalogue(),
        elementwise::catalogue(),
        embedding::catalogue(),
        gather::catalogue(),
        matmul::catalogue(),
        norm::catalogue(),
        pool::catalogue(),
        reduce::catalogue(),
        row_compact::catalogue(),
        scan::catalogue(),
        softmax::catalogue(),
        transpose::catalogue(),
    ]
    .concat()
}

/// A size as the `u32` that kernels use.
///
/// # Errors
/// [`crate::ErrorKind::TooBig`] beyond 2^32 - 1.
pub(crate) fn word(size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| {
        Error::new(crate::ErrorKind::TooBig, format!("a size of {size} elements is beyond what kernels address"))
            .with_help("use a smaller batch or network")
    })
}

/// Workgroups of 64 for a grid-stride loop over `len` elements, and the stride in elements.
pub(crate) fn strided_grid(len: usize, max_workgroups: u32) -> Result<(u32, u32)> {
    let groups = word(len.div_ceil(64))?.clamp(1, max_workgroups.min(16_384));
    Ok((groups, groups * 64))
}
