//! A step through the two layers of a network: sparse samples to hidden elements, hidden elements to the logits of the active labels, the loss,
//! and the gradients on the way back. [`reference`] says the same in `f64` on the host.
//!
//! Where all samples of a step share their active labels ([`Active::All`], [`Active::Shared`]), the rows of these are gathered to a *panel* and
//! everything is a matrix product ([`shared`]); where each has its own ([`Active::Own`]), rows are read pair by pair ([`pairs`]). Both add
//! their terms in the same order, so for equal sets they agree bit for bit where the device rounds alike. Neither writes the gradient of the
//! input table, nor pairs that of the output table: the optimiser's kernel sums those itself, row by row.
//!
//! Tables may hold their weights as bf16, two a word: they are read as the f32 that they are. ([`Active::All`] wants f32, or a panel of all rows.)
//!
//! Kernels: `csr_forward`, `panel_rows`, `pair_logits`, `pair_gradient`, `hidden_gradient`, `row_tail`, `active_loss`, `loss_mean`.

mod batch;
pub mod loss;
pub mod pairs;
pub mod reference;
pub mod shared;

pub use batch::DeviceBatch;
pub use loss::Loss;

use std::ops::Range;

use super::Rows;
use super::rows::{SHARED, vectors};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Binding, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, windows, word};
use crate::tensor::Tensor;

const CSR_FORWARD: &str = include_str!("../../../shaders/hash/csr_forward.wgsl");
const HIDDEN_GRADIENT: &str = include_str!("../../../shaders/hash/hidden_gradient.wgsl");
/// Most entries of a sample in one dispatch: software devices end an invocation's loops after 65,535 rounds.
const MOST_ENTRIES: usize = 32_768;
const FIRST: u32 = 1;
const LAST: u32 = 2;
const RELU: u32 = 4;
const SEARCH: u32 = 8;

params!(CsrForwardParams {
    len: u32,
    width4: u32,
    hidden: u32,
    flags: u32,
    first: u32,
    rows: u32,
    skip: u32,
    most: u32,
    stride4: u32,
    share: u32,
    pad1: u32,
    pad2: u32,
});
params!(HiddenGradientParams {
    len: u32,
    width4: u32,
    plane4: u32,
    planes: u32,
    hidden: u32,
    samples: u32,
    pad0: u32,
    pad1: u32,
});

/// The hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hidden {
    /// Number of hidden elements.
    pub elements: usize,
    /// Whether they go through a ReLU; without one they are an embedding, the sum of the sample's rows.
    pub relu: bool,
}

impl Hidden {
    /// Columns of a row.
    pub const fn width(self) -> usize {
        super::width(self.elements)
    }
}

/// Which labels a step's samples are scored against.
#[derive(Debug, Clone, Copy)]
pub enum Active<'a> {
    /// All of the output table: place a has label a.
    All,
    /// `[S]`: ascending, distinct, the same for all samples.
    Shared(&'a Tensor<u32>),
    /// `[B, A]`: ascending and distinct in each row.
    Own(&'a Tensor<u32>),
}

/// Length of the parts in which the gradients of the hidden elements are summed over this many active labels. A multiple of 64, at most 32 parts.
pub(super) const fn part(active: usize) -> usize {
    let even = active.div_ceil(32).next_multiple_of(64);
    if even > 128 { even } else { 128 }
}

/// Elements of the scratch that [`shared::hidden_gradient`] and [`pairs::hidden_gradient`] need.
pub const fn scratch(samples: usize, active: usize, hidden: usize) -> usize {
    active.div_ceil(part(active)) * samples * hidden.next_multiple_of(4)
}

/// Records `h` `[B, width]` of a batch: the sum of `value * input row` over the entries of each sample in ascending order, through the
/// ReLU if there is one, then 1 in column `hidden` and zeros behind it. The order of sums does not depend on the table's windows.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for a batch that is larger than a binding or a grid.
pub fn forward(
    recording: &mut Recording,
    caps: &Caps,
    batch: &DeviceBatch,
    input: &Rows,
    hidden: Hidden,
    h: &Tensor,
) -> Result<()> {
    let width = hidden.width();
    let (bf16, stride4) = stored(input, width)?;
    if h.shape() != [batch.samples, width] || input.is_empty() {
        return Err(misfit("forward", h.shape(), input.weights.shape()));
    }
    let vectors = vectors(caps);
    let share = (width / 4).div_ceil(vectors);
    let len = batch.samples * share;
    let groups = flat(len, caps)?;
    let walk = input.windows(caps)?;
    for (i, window) in walk.iter().enumerate() {
        for skip in (0..batch.longest.max(1)).step_by(MOST_ENTRIES) {
            let flag = |on: bool, flag: u32| if on { flag } else { 0 };
            let first = i == 0 && skip == 0;
            let last = i + 1 == walk.len() && skip + MOST_ENTRIES >= batch.longest;
            let params = CsrForwardParams {
                len: word(len)?,
                width4: word(width / 4)?,
                hidden: word(hidden.elements)?,
                flags: flag(first, FIRST) | flag(last, LAST) | flag(hidden.relu, RELU) | flag(walk.len() > 1, SEARCH),
                first: word(window.start)?,
                rows: word(window.len())?,
                skip: word(skip)?,
                most: word(MOST_ENTRIES)?,
                stride4,
                share: word(share)?,
                ..Default::default()
            };
            let table = row_window(input, window)?;
            let whole = [&batch.offsets, &batch.features].map(Tensor::binding);
            let bindings = [whole.to_vec(), vec![batch.values.binding(), table, h.binding()]].concat();
            bindable(caps, &bindings)?;
            let work = 2.0 * (batch.entries * width) as f64 / walk.len() as f64;
            recording.dispatch(
                &forward_kernel(bf16, vectors),
                bindings,
                &params,
                Grid::Direct([groups, 1, 1]),
                work,
            )?;
        }
    }
    Ok(())
}

/// Records `dh` `[B, width]`: the planes' sum where an element of `h` is open, else 0.
fn gate(
    recording: &mut Recording,
    caps: &Caps,
    planes: &Tensor,
    hidden: Hidden,
    h: &Tensor,
    dh: &Tensor,
) -> Result<()> {
    let (&[_, count, samples, _], width) = (planes.shape(), hidden.width()) else {
        return Err(misfit("gradient", planes.shape(), dh.shape()));
    };
    if h.shape() != [samples, width] || dh.shape() != h.shape() {
        return Err(misfit("gradient", h.shape(), dh.shape()));
    }
    let len = samples * width / 4;
    let params = HiddenGradientParams {
        len: word(len)?,
        width4: word(width / 4)?,
        plane4: word(planes.row_stride() / 4)?,
        planes: word(count)?,
        hidden: word(hidden.elements)?,
        samples: word(samples)?,
        ..Default::default()
    };
    let bindings = vec![planes.binding(), h.binding(), dh.binding()];
    bindable(caps, &bindings)?;
    let grid = Grid::Direct([flat(len, caps)?, 1, 1]);
    recording.dispatch(&gate_kernel(!hidden.relu), bindings, &params, grid, (len * 4 * (count + 1)) as f64)
}

/// The planes `[1, parts, samples, hidden]` in a scratch.
fn planes(scratch: &Tensor, samples: usize, active: usize, hidden: usize) -> Result<Tensor> {
    let shape = [1, active.div_ceil(part(active)), samples, hidden];
    scratch.view(&shape).ok_or_else(|| misfit("gradient", scratch.shape(), &shape))
}

/// What a window of rows binds of a table.
fn row_window(table: &Rows, window: &Range<usize>) -> Result<Binding> {
    windows::binding(&table.weights, window, table.weights.row_stride(), table.len())
}

/// Whether a table's weights are bf16, two a word, and how many vectors of four weights there are from a row to the next.
fn stored(table: &Rows, width: usize) -> Result<(bool, u32)> {
    let (words, stride) = (table.weights.columns(), table.weights.row_stride());
    match words {
        _ if words == width => Ok((false, word(stride / 4)?)),
        _ if 2 * words == width => Ok((true, word(stride / 2)?)),
        _ => Err(misfit("row", &[width], table.weights.shape())),
    }
}

/// Workgroups of 64 for so many invocations.
fn flat(len: usize, caps: &Caps) -> Result<u32> {
    let groups = word(len.div_ceil(64))?;
    if groups > caps.max_workgroups {
        let what = format!("{len} vectors are more than {} workgroups of 64 hold", caps.max_workgroups);
        return Err(Error::new(ErrorKind::TooBig, what).with_help("use a smaller batch"));
    }
    Ok(groups)
}

fn misfit(what: &str, one: &[usize], other: &[usize]) -> Error {
    Error::internal(format!("a {what} of {one:?} and {other:?}"))
}

fn forward_kernel(bf16: bool, vectors: usize) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];
    let kernel = Kernel::new::<CsrForwardParams>("csr_forward", CSR_FORWARD, &bindings);
    kernel.define("VECTORS", vectors).flag("BF16", bf16)
}

fn gate_kernel(linear: bool) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<HiddenGradientParams>("hidden_gradient", HIDDEN_GRADIENT, &bindings).flag("LINEAR", linear)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let mut own = vec![gate_kernel(false), gate_kernel(true)];
    for vectors in [1, SHARED] {
        own.extend([false, true].map(|bf16| forward_kernel(bf16, vectors)));
    }
    [own, shared::catalogue(), pairs::catalogue(), loss::catalogue()].concat()
}
