//! The output layer where each sample has active labels of its own: rows of the table are read pair by pair.
//! Kernels: `pair_logits`, `pair_gradient`.

use std::ops::Range;

use super::{FIRST, Hidden, SEARCH, flat, gate, misfit, part, planes, row_window, stored};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::hash::Rows;
use crate::hash::rows::{SHARED, vectors};
use crate::ops::{bindable, windows, word};
use crate::tensor::Tensor;

const PAIR_LOGITS: &str = include_str!("../../../shaders/hash/pair_logits.wgsl");
const PAIR_GRADIENT: &str = include_str!("../../../shaders/hash/pair_gradient.wgsl");
/// Most active labels of a sample: the parts of their sums then stay below what loops on software devices do.
const MOST_ACTIVE: usize = 1 << 20;
/// Pairs of an invocation on software devices, which load the sample's vectors lane by lane: as few as pairs allow.
const PAIRS: usize = 4;

params!(PairLogitsParams {
    places: u32,
    pitch: u32,
    width4: u32,
    sample: u32,
    first: u32,
    rows: u32,
    stride4: u32,
    pad0: u32,
});
params!(PairGradientParams {
    len: u32,
    count: u32,
    samples: u32,
    sample: u32,
    places: u32,
    pitch: u32,
    part: u32,
    stride4: u32,
    plane4: u32,
    first: u32,
    rows: u32,
    flags: u32,
    share: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// The shape [B, A] of ids and logits, and ranges of samples of which both fit a binding.
fn pairs(caps: &Caps, ids: &Tensor<u32>, z: &Tensor) -> Result<(usize, usize, Vec<Range<usize>>)> {
    let &[samples, active] = ids.shape() else { return Err(misfit("pairing", ids.shape(), z.shape())) };
    if z.shape() != ids.shape() || active == 0 {
        return Err(misfit("pairing", ids.shape(), z.shape()));
    }
    if active > MOST_ACTIVE || samples > caps.max_workgroups as usize {
        let what = format!("{samples} samples with {active} active labels each are more than kernels address");
        return Err(Error::new(ErrorKind::TooBig, what).with_help("use fewer active labels or a smaller batch"));
    }
    let strides = [ids.row_stride(), z.row_stride()];
    let ranges = windows::ranges(samples, &strides, &[ids.binding(), z.binding()], caps.max_binding)?;
    Ok((samples, active, ranges))
}

/// Records the logits `z` `[B, A]` of hidden elements `h` `[B, width]` for the rows `ids` `[B, A]` of the output table.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] beyond what grids and bindings hold.
pub fn logits(
    recording: &mut Recording,
    caps: &Caps,
    h: &Tensor,
    output: &Rows,
    ids: &Tensor<u32>,
    z: &Tensor,
) -> Result<()> {
    let (samples, active, ranges) = pairs(caps, ids, z)?;
    let &[rows, width] = h.shape() else { return Err(misfit("pairing", h.shape(), z.shape())) };
    let (bf16, stride4) = stored(output, width)?;
    if rows != samples {
        return Err(misfit("pairing", h.shape(), z.shape()));
    }
    let walk = output.windows(caps)?;
    let pairs = if caps.is_software() { PAIRS } else { 1 };
    for range in &ranges {
        for window in &walk {
            let params = PairLogitsParams {
                places: word(active)?,
                pitch: word(z.row_stride())?,
                width4: word(width / 4)?,
                sample: word(range.start)?,
                first: word(window.start)?,
                rows: word(window.len())?,
                stride4,
                ..Default::default()
            };
            let of_ids = windows::binding(ids, range, ids.row_stride(), samples)?;
            let of_z = windows::binding(z, range, z.row_stride(), samples)?;
            let bindings = vec![h.binding(), row_window(output, window)?, of_ids, of_z];
            bindable(caps, &bindings)?;
            let grid = Grid::Direct([word(active.div_ceil(64 * pairs))?, word(range.len())?, 1]);
            let work = 2.0 * (range.len() * active * width) as f64 / walk.len() as f64;
            recording.dispatch(&logits_kernel(bf16, pairs), bindings, &params, grid, work)?;
        }
    }
    Ok(())
}

/// Records the gradient `dh` `[B, width]` of the hidden elements from that of the logits, `dz` `[B, A]`, and the rows `ids` `[B, A]` of the
/// output table, ascending in each sample. `scratch` has [`super::scratch`] elements.
///
/// # Errors
/// Those of [`logits`].
pub fn hidden_gradient(
    recording: &mut Recording,
    caps: &Caps,
    hidden: Hidden,
    h: &Tensor,
    (output, ids, dz): (&Rows, &Tensor<u32>, &Tensor),
    scratch: &Tensor,
    dh: &Tensor,
) -> Result<()> {
    let (samples, active, ranges) = pairs(caps, ids, dz)?;
    let planes = planes(scratch, samples, active, hidden.elements)?;
    let (bf16, stride4) = stored(output, hidden.width())?;
    let walk = output.windows(caps)?;
    let plane4 = planes.row_stride() / 4;
    let vectors = vectors(caps);
    let share = plane4.div_ceil(vectors);
    for range in &ranges {
        let len = active.div_ceil(part(active)) * range.len() * share;
        for (i, window) in walk.iter().enumerate() {
            let params = PairGradientParams {
                len: word(len)?,
                count: word(range.len())?,
                samples: word(samples)?,
                sample: word(range.start)?,
                places: word(active)?,
                pitch: word(dz.row_stride())?,
                part: word(part(active))?,
                stride4,
                plane4: word(plane4)?,
                first: word(window.start)?,
                rows: word(window.len())?,
                share: word(share)?,
                flags: if i == 0 { FIRST } else { 0 } | if walk.len() > 1 { SEARCH } else { 0 },
                ..Default::default()
            };
            let of_ids = windows::binding(ids, range, ids.row_stride(), samples)?;
            let of_dz = windows::binding(dz, range, dz.row_stride(), samples)?;
            let bindings = vec![row_window(output, window)?, of_ids, of_dz, planes.binding()];
            bindable(caps, &bindings)?;
            let work = 2.0 * (range.len() * active * hidden.elements) as f64 / walk.len() as f64;
            let grid = Grid::Direct([flat(len, caps)?, 1, 1]);
            recording.dispatch(&gradient_kernel(bf16, vectors), bindings, &params, grid, work)?;
        }
    }
    gate(recording, caps, &planes, hidden, h, dh)
}

fn logits_kernel(bf16: bool, pairs: usize) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    Kernel::new::<PairLogitsParams>("pair_logits", PAIR_LOGITS, &bindings).define("PAIRS", pairs).flag("BF16", bf16)
}

fn gradient_kernel(bf16: bool, vectors: usize) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    let kernel = Kernel::new::<PairGradientParams>("pair_gradient", PAIR_GRADIENT, &bindings);
    kernel.define("VECTORS", vectors).flag("BF16", bf16)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let both = |bf16| {
        [1, PAIRS].map(|n| logits_kernel(bf16, n)).into_iter().chain([1, SHARED].map(|n| gradient_kernel(bf16, n)))
    };
    [false, true].into_iter().flat_map(both).collect()
}
