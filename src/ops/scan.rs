//! Exclusive sums of rows (prefix sums), of any length that a binding holds. Kernels: `scan_sums`, `scan_blocks`, `scan_apply`.
//!
//! Reduce, then scan: sums of blocks of 1024, the scan of those sums by one workgroup a row, and the blocks themselves. Three
//! dispatches and no waiting of one workgroup for another, which WGSL has no way to express.

use super::word;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::tensor::{Element, Tensor};

const SCAN_SUMS: &str = include_str!("../../shaders/ops/scan_sums.wgsl");
const SCAN_BLOCKS: &str = include_str!("../../shaders/ops/scan_blocks.wgsl");
const SCAN_APPLY: &str = include_str!("../../shaders/ops/scan_apply.wgsl");
/// Elements of a block.
const BLOCK: usize = 1024;
/// Lanes of the workgroup that scans the sums of a row.
const LANES: usize = 256;

params!(ScanParams { n: u32, blocks: u32, groups: u32, ld_x: u32, ld_out: u32, ld_sums: u32, pad0: u32, pad1: u32 });

/// The longest chain of roundings that a term of a sum passes through in a scan of rows of `n` elements.
pub fn depth(n: usize) -> usize {
    let blocks = n.div_ceil(BLOCK);
    let block_sums = 16 + 6;
    let sums = 2 * blocks.div_ceil(LANES) + LANES;
    let inside = 16 + 6 + 16 + 1;
    block_sums + sums + inside
}

/// What a scan needs besides its operands; one can serve many scans of the same size, one after the other.
#[derive(Debug, Clone)]
pub struct Workspace<T: Element> {
    sums: Tensor<T>,
    /// `[rows]`: after a scan, the sum of every row.
    pub total: Tensor<T>,
}

impl<T: Element> Workspace<T> {
    /// For scans of `rows` rows of `n` elements.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, rows: usize, n: usize) -> Result<Self> {
        let sums = Tensor::uninit_async(gpu, &[rows, n.div_ceil(BLOCK).max(1)]).await?;
        Ok(Self { sums, total: Tensor::uninit_async(gpu, &[rows]).await? })
    }

    /// Blocking twin of [`Workspace::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, rows: usize, n: usize) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, rows, n))
    }
}

/// Records `out[r, i] = sum of x[r, j] over j < i` for `x` and `out` `[rows, n]`, and the sums of whole rows into the workspace; sums of `u32` wrap.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for more rows than a dispatch has workgroups.
pub fn exclusive<T: Element>(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor<T>,
    workspace: &Workspace<T>,
    out: &Tensor<T>,
) -> Result<()> {
    let Workspace { sums, total } = workspace;
    let &[rows, n] = x.shape() else {
        return Err(Error::internal(format!("a scan of shape {:?}", x.shape())));
    };
    let blocks = n.div_ceil(BLOCK).max(1);
    if out.shape() != x.shape() || sums.shape() != [rows, blocks] || total.shape() != [rows] {
        return Err(Error::internal(format!("a scan of {:?} into {:?} by {:?}", x.shape(), out.shape(), sums.shape())));
    }
    if rows > caps.max_workgroups as usize {
        return Err(Error::new(
            ErrorKind::TooBig,
            format!("a scan of {rows} rows, more than a dispatch has workgroups"),
        )
        .with_help("scan fewer rows at a time"));
    }
    let groups = word(blocks)?.min(caps.max_workgroups);
    let params = ScanParams {
        n: word(n)?,
        blocks: word(blocks)?,
        groups,
        ld_x: word(x.row_stride())?,
        ld_out: word(out.row_stride())?,
        ld_sums: word(sums.row_stride())?,
        ..Default::default()
    };
    let rows = word(rows)?;
    let all = Grid::Direct([groups, rows, 1]);
    let [sum, scan, apply] = kernels(T::WGSL);
    recording.dispatch(&sum, vec![x.binding(), sums.binding()], &params, all.clone(), x.len() as f64)?;
    let one = Grid::Direct([1, rows, 1]);
    recording.dispatch(&scan, vec![sums.binding(), total.binding()], &params, one, 2.0 * sums.len() as f64)?;
    let bindings = vec![x.binding(), sums.binding(), out.binding()];
    recording.dispatch(&apply, bindings, &params, all, 2.0 * x.len() as f64)
}

fn kernels(element: &'static str) -> [Kernel; 3] {
    let kernel =
        |name, source, bindings: &[Access]| Kernel::new::<ScanParams>(name, source, bindings).define("T", element);
    [
        kernel("scan_sums", SCAN_SUMS, &[Access::Read, Access::Write]),
        kernel("scan_blocks", SCAN_BLOCKS, &[Access::Write, Access::Write]),
        kernel("scan_apply", SCAN_APPLY, &[Access::Read, Access::Read, Access::Write]),
    ]
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [f32::WGSL, u32::WGSL].into_iter().flat_map(kernels).collect()
}
