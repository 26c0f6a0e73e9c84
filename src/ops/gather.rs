//! Moving rows and elements by index: gather, deterministic scatter with sums, and reordering of a sample's elements.
//! Kernels: `gather_rows`, `scatter_rows`, `gather_elements`.

use std::ops::Range;

use super::{strided_grid, word};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::tensor::{Element, Tensor};

const GATHER_ROWS: &str = include_str!("../../shaders/ops/gather_rows.wgsl");
const SCATTER_ROWS: &str = include_str!("../../shaders/ops/scatter_rows.wgsl");
const GATHER_ELEMENTS: &str = include_str!("../../shaders/ops/gather_elements.wgsl");
const ADD: u32 = 1;
const KEEP: u32 = 1;

/// An index that names nothing.
pub const NOTHING: u32 = u32::MAX;

params!(GatherRowsParams { len: u32, threads: u32, width4: u32, rows: u32 });
params!(ScatterRowsParams {
    len: u32,
    threads: u32,
    width4: u32,
    rows: u32,
    entries: u32,
    flags: u32,
    pad0: u32,
    pad1: u32,
});
params!(GatherElementsParams {
    n: u32,
    threads: u32,
    batch: u32,
    samples: u32,
    stride_x: u32,
    stride_out: u32,
    words: u32,
    fill: u32,
    flags: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Records `out[r, :] = x[ids[r], :]` for `x` `[rows, n]`, `ids` `[count]` and `out` `[count, n]`; an id that is no row of `x` gives zeros.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for more than 2^31 vectors of four.
pub fn rows<T: Element>(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor<T>,
    ids: &Tensor<u32>,
    out: &Tensor<T>,
) -> Result<()> {
    let &[rows, _] = x.shape() else { return Err(misfit("gather", x.shape(), out.shape())) };
    window(recording, caps, x, 0..rows, ids, out)
}

/// [`rows`] of a window of a table that may be larger than a binding: ids count from the window's first row, an aligned place.
///
/// # Errors
/// Those of [`rows`].
pub(crate) fn window<T: Element>(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor<T>,
    range: Range<usize>,
    ids: &Tensor<u32>,
    out: &Tensor<T>,
) -> Result<()> {
    let (&[_, n], &[count, out_n], &[id_count]) = (x.shape(), out.shape(), ids.shape()) else {
        return Err(misfit("gather", x.shape(), out.shape()));
    };
    let rows = range.len();
    if out_n != n || id_count != count || rows == 0 {
        return Err(misfit("gather", x.shape(), out.shape()));
    }
    let width4 = n.div_ceil(4);
    let len = vectors(count, width4)?;
    let (groups, threads) = strided_grid(len, caps.max_workgroups)?;
    let params =
        GatherRowsParams { len: word(len)?, threads, width4: word(width4)?, rows: word(rows)?, ..Default::default() };
    vectors(rows, width4)?;
    let bindings = vec![x.slots(&range)?, ids.binding(), out.binding()];
    recording.dispatch(&rows_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), out.len() as f64)
}

/// For every destination the rows that go there, in ascending order: what makes a scatter deterministic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Destination s has the entries `starts[s]..starts[s + 1]`.
    pub starts: Vec<u32>,
    /// Rows.
    pub list: Vec<u32>,
}

impl Segments {
    /// From the destination of every row (counting sort); rows whose destination is not below `destinations` go nowhere.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`] for more than 2^32 - 1 rows.
    pub fn new(ids: &[u32], destinations: usize) -> Result<Self> {
        word(ids.len())?;
        let mut starts = vec![0_u32; destinations + 1];
        for &id in ids {
            if let Some(count) = starts.get_mut(id as usize + 1) {
                *count += 1;
            }
        }
        for s in 0..destinations {
            starts[s + 1] += starts[s];
        }
        let mut next = starts.clone();
        let mut list = vec![0; starts.last().map_or(0, |&n| n as usize)];
        for (row, &id) in (0_u32..).zip(ids) {
            if (id as usize) < destinations {
                let place = &mut next[id as usize];
                list[*place as usize] = row;
                *place += 1;
            }
        }
        Ok(Self { starts, list })
    }

    /// A copy on the device.
    ///
    /// # Errors
    /// Those of [`Tensor::from_slice_async`].
    pub async fn upload_async(&self, gpu: &Gpu) -> Result<DeviceSegments> {
        // A buffer is never empty; an entry that no segment holds is never read.
        let list = if self.list.is_empty() { &[NOTHING][..] } else { &self.list };
        Ok(DeviceSegments {
            starts: Tensor::from_slice_async(gpu, &[self.starts.len()], &self.starts).await?,
            list: Tensor::from_slice_async(gpu, &[list.len()], list).await?,
        })
    }

    /// Blocking twin of [`Segments::upload_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn upload(&self, gpu: &Gpu) -> Result<DeviceSegments> {
        pollster::block_on(self.upload_async(gpu))
    }
}

/// [`Segments`] on the device.
#[derive(Debug, Clone)]
pub struct DeviceSegments {
    /// `[destinations + 1]`
    pub starts: Tensor<u32>,
    /// `[entries]`
    pub list: Tensor<u32>,
}

/// Records `out[s, :] = sum of the rows of x that go to s` (`add`: to what is there) for `x` `[rows, n]` and `out` `[destinations, n]`; the terms are
/// added in the order of the list, one rounding each.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for more than 2^31 vectors of four.
pub fn scatter_rows(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor,
    segments: &DeviceSegments,
    add: bool,
    out: &Tensor,
) -> Result<()> {
    let (&[rows, n], &[destinations, out_n]) = (x.shape(), out.shape()) else {
        return Err(misfit("scatter", x.shape(), out.shape()));
    };
    if out_n != n || segments.starts.shape() != [destinations + 1] || segments.list.shape().len() != 1 {
        return Err(misfit("scatter", x.shape(), out.shape()));
    }
    let width4 = n.div_ceil(4);
    let len = vectors(destinations, width4)?;
    vectors(rows, width4)?;
    let (groups, threads) = strided_grid(len, caps.max_workgroups)?;
    let params = ScatterRowsParams {
        len: word(len)?,
        threads,
        width4: word(width4)?,
        rows: word(rows)?,
        entries: word(segments.list.len())?,
        flags: if add { ADD } else { 0 },
        ..Default::default()
    };
    let bindings = vec![x.binding(), segments.starts.binding(), segments.list.binding(), out.binding()];
    let work = (segments.list.len() * n + out.len()) as f64;
    recording.dispatch(&scatter_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), work)
}

/// What a word of the result becomes whose index is [`NOTHING`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Otherwise<T: Element> {
    /// This value.
    Fill(T),
    /// What was there.
    Keep,
}

/// Records `out[b, i] = x[b, index[i]]` over the words of each sample's memory (padding included, see [`Tensor::strides`]); an index that is no
/// word of a sample of `x` does as `otherwise` says. The samples of `x` and `out` are their first axes.
///
/// # Errors
/// [`ErrorKind::Internal`] for arrays without axes or of unlike batches, or an index longer than a sample of `out`.
pub fn elements<T: Element>(
    recording: &mut Recording,
    caps: &Caps,
    x: &Tensor<T>,
    index: &Tensor<u32>,
    otherwise: Otherwise<T>,
    out: &Tensor<T>,
) -> Result<()> {
    let (Some(&batch), Some(&out_batch), &[n]) = (x.shape().first(), out.shape().first(), index.shape()) else {
        return Err(misfit("reordering", x.shape(), out.shape()));
    };
    let (stride_x, stride_out) = (x.strides()[0], out.strides()[0]);
    if batch != out_batch || n > stride_out || x.is_empty() {
        return Err(misfit("reordering", x.shape(), out.shape()));
    }
    let (fill, flags) = match otherwise {
        Otherwise::Fill(value) => (bytemuck::cast(value), 0),
        Otherwise::Keep => (0, KEEP),
    };
    let (groups, threads) = strided_grid(n, caps.max_workgroups)?;
    // Without the padding behind a sample; a shared sample has no stride of its own.
    let words = x.shape().get(1).map_or(1, |length| length * x.strides()[1]);
    // Enough workgroups for a device; samples beyond that reuse the index that their invocation holds.
    let samples = word(batch)?.min((4096 / groups).max(1));
    let params = GatherElementsParams {
        n: word(n)?,
        threads,
        batch: word(batch)?,
        samples,
        stride_x: word(stride_x)?,
        stride_out: word(stride_out)?,
        words: word(words)?,
        fill,
        flags,
        ..Default::default()
    };
    word(batch.saturating_mul(stride_x.max(stride_out)))?;
    let bindings = vec![x.binding(), index.binding(), out.binding()];
    recording.dispatch(&elements_kernel(), bindings, &params, Grid::Direct([groups, samples, 1]), (batch * n) as f64)
}

/// Vectors of four words in rows, countable by kernels with room for a stride.
fn vectors(rows: usize, width4: usize) -> Result<usize> {
    let len = rows.saturating_mul(width4);
    if len >= 1 << 31 {
        return Err(Error::new(ErrorKind::TooBig, format!("{rows} rows are more than kernels address"))
            .with_help("use a smaller batch"));
    }
    Ok(len)
}

fn misfit(what: &str, from: &[usize], to: &[usize]) -> Error {
    Error::internal(format!("a {what} of {from:?} into {to:?}"))
}

fn rows_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<GatherRowsParams>("gather_rows", GATHER_ROWS, &bindings)
}

fn scatter_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    Kernel::new::<ScatterRowsParams>("scatter_rows", SCATTER_ROWS, &bindings)
}

fn elements_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<GatherElementsParams>("gather_elements", GATHER_ELEMENTS, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![rows_kernel(), scatter_kernel(), elements_kernel()]
}
