//! Rows of a table by number, and the gradient of the table. Kernels: `embedding`, `embedding_links`, `embedding_gradient`.
//!
//! Ids are activations: f32 that hold whole numbers. One that names no row of the table gives zeros and has no gradient;
//! that ids are in range is for the host to check.

use super::slots::{self, Lanes, vectors};
use super::word;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Binding, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const EMBEDDING: &str = include_str!("../../shaders/ops/embedding.wgsl");
const EMBEDDING_LINKS: &str = include_str!("../../shaders/ops/embedding_links.wgsl");
const EMBEDDING_GRADIENT: &str = include_str!("../../shaders/ops/embedding_gradient.wgsl");

params!(EmbeddingParams {
    positions: u32,
    length: u32,
    ld_ids: u32,
    slot_ids: u32,
    width4: u32,
    v: u32,
    slot_table: u32,
    slot_out: u32,
    slots: u32,
    shift: u32,
    position_step: u32,
    step: u32,
});
params!(EmbeddingLinksParams {
    positions: u32,
    length: u32,
    ld_ids: u32,
    slot_ids: u32,
    v: u32,
    padding: u32,
    slots: u32,
    slot_links: u32,
    position_step: u32,
    step: u32,
    pad0: u32,
    pad1: u32,
});
params!(EmbeddingGradientParams {
    n: u32,
    v: u32,
    slots: u32,
    slot_links: u32,
    slot_g: u32,
    slot_out: u32,
    shift: u32,
    row_step: u32,
    step: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Ids `[slots, .., length]` as kernels see them.
struct Ids {
    positions: usize,
    length: usize,
    row: usize,
    slot: usize,
}

impl Ids {
    fn new(ids: &Tensor) -> Result<Self> {
        let (shape, strides, axes) = (ids.shape(), ids.strides(), ids.shape().len());
        let even = |axis: usize| strides[axis] == strides[axis + 1] * shape[axis + 1];
        if axes < 2 || ids.is_empty() || !(1..axes - 1).all(|axis| axis + 2 == axes || even(axis)) {
            return Err(Error::internal(format!("ids of shape {shape:?}")));
        }
        let row = if axes == 2 { 0 } else { strides[axes - 2] };
        Ok(Self { positions: shape[1..].iter().product(), length: shape[axes - 1], row, slot: strides[0] })
    }
}

/// Rows of a table that ids, which are f32, can name.
fn rows(v: usize) -> Result<u32> {
    if v == 0 || v > 1 << 24 {
        let what = format!("a table of {v} rows; ids are f32, which count to 2^24");
        return Err(Error::new(ErrorKind::TooBig, what).with_help("use a smaller vocabulary"));
    }
    word(v)
}

/// Whether the rows of `t` `[slots, .., n]` follow each other.
fn plain(t: &Tensor) -> bool {
    let (shape, strides) = (t.shape(), t.strides());
    shape.len() >= 3 && (1..shape.len() - 2).all(|axis| strides[axis] == strides[axis + 1] * shape[axis + 1])
}

fn misfit(ids: &[usize], table: &[usize], out: &[usize]) -> Error {
    Error::internal(format!("an embedding of ids {ids:?} by a table {table:?} and {out:?}"))
}

/// Records `out[b, i.., :] = table[b, ids[b, i..], :]`, zeros where an id is no row, for `ids` `[slots, i..]`, `table`
/// `[slots, v, n]`, which may be a field, and `out` `[slots, i.., n]`.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for more than 2^24 rows or if a slot is larger
/// than a binding.
pub fn forward(recording: &mut Recording, caps: &Caps, ids: &Tensor, table: &Tensor, out: &Tensor) -> Result<()> {
    let own = Ids::new(ids)?;
    let &[slots, v, n] = table.shape() else { return Err(misfit(ids.shape(), table.shape(), out.shape())) };
    if out.shape() != [ids.shape(), &[n]].concat() || ids.shape()[0] != slots || n == 0 || !plain(out) {
        return Err(misfit(ids.shape(), table.shape(), out.shape()));
    }
    let operands = [ids, table, out];
    for range in slots::ranges(caps, &operands)? {
        let lanes = Lanes::new(caps, n, own.positions, 4, range.len())?;
        let params = EmbeddingParams {
            positions: word(own.positions)?,
            length: word(own.length)?,
            ld_ids: word(own.row)?,
            slot_ids: word(own.slot)?,
            width4: word(n.div_ceil(4))?,
            v: rows(v)?,
            slot_table: vectors(table.strides()[0])?,
            slot_out: vectors(out.strides()[0])?,
            slots: word(range.len())?,
            shift: lanes.shift,
            position_step: lanes.row_step,
            step: lanes.step,
            ..Default::default()
        };
        let bindings = slots::bindings(&operands, &range)?;
        let work = (range.len() * own.positions * n) as f64;
        recording.dispatch(&kernel(), bindings, &params, lanes.grid, work)?;
    }
    Ok(())
}

/// Shape of the links of ids `[slots, i..]` into tables of `v` rows: one slot if all share their ids.
pub fn links_shape(ids: &Tensor, v: usize) -> [usize; 2] {
    let slots = if ids.strides().first() == Some(&0) { 1 } else { ids.shape().first().copied().unwrap_or(0) };
    [slots, v + ids.shape().get(1..).unwrap_or_default().iter().product::<usize>()]
}

/// Records which positions name each of `v` rows, in ascending order, for [`gradient`]; `links` has the shape that
/// [`links_shape`] says. Positions that hold the `padding` row are left out.
///
/// # Errors
/// As [`forward`].
pub fn links(
    recording: &mut Recording,
    caps: &Caps,
    ids: &Tensor,
    v: usize,
    padding: Option<usize>,
    links: &Tensor<u32>,
) -> Result<()> {
    let own = Ids::new(ids)?;
    if links.shape() != links_shape(ids, v) {
        return Err(misfit(ids.shape(), &[v], links.shape()));
    }
    let slots = links.shape()[0];
    let whole: [Binding; 2] = [ids.binding(), links.binding()];
    // All slots at once: ids and links are small.
    if let Some(b) = whole.iter().find(|b| b.size > caps.max_binding) {
        return Err(super::windows::too_big(b.size, caps.max_binding));
    }
    recording.clear(links.binding());
    let [groups, step] = slots::grid(caps, own.positions, 64, slots)?;
    let params = EmbeddingLinksParams {
        positions: word(own.positions)?,
        length: word(own.length)?,
        ld_ids: vectors(own.row)?,
        slot_ids: vectors(own.slot)?,
        v: rows(v)?,
        padding: padding.map_or(Ok(u32::MAX), word)?,
        slots: word(slots)?,
        slot_links: word(links.strides()[0])?,
        position_step: groups * 64,
        step,
        ..Default::default()
    };
    let work = 4.0 * (slots * own.positions) as f64 * own.positions.min(v) as f64;
    recording.dispatch(&links_kernel(), whole.to_vec(), &params, Grid::Direct([groups, step, 1]), work)
}

/// Records `out[b, id, :] = sum of g[b, i.., :] over the positions that name row id`, in ascending order; other rows, and
/// the padding row, become zeros. `g` is `[slots, i.., n]`, `out` `[slots, v, n]`, which may be a field; `links` as
/// [`links`] left them. Padding behind rows of `out` becomes 0.
///
/// # Errors
/// As [`forward`].
pub fn gradient(recording: &mut Recording, caps: &Caps, links: &Tensor<u32>, g: &Tensor, out: &Tensor) -> Result<()> {
    let misfit = || misfit(links.shape(), out.shape(), g.shape());
    let &[slots, v, n] = out.shape() else { return Err(misfit()) };
    let axes = g.shape().len();
    if axes < 3 || g.shape()[0] != slots || g.columns() != n || n == 0 || !plain(g) || !plain(out) {
        return Err(misfit());
    }
    let positions: usize = g.shape()[1..axes - 1].iter().product();
    let shared = links.shape().first() == Some(&1);
    if !(shared || links.shape().first() == Some(&slots)) || links.columns() != v + positions {
        return Err(misfit());
    }
    let slot_links = if shared { 0 } else { links.strides()[0] };
    let links_whole = links.binding();
    let strides = [slot_links, g.strides()[0], out.strides()[0]];
    let whole = [links_whole.clone(), g.binding(), out.binding()];
    for range in super::windows::ranges(slots, &strides, &whole, caps.max_binding)? {
        let lanes = Lanes::new(caps, n, v, 1, range.len())?;
        let params = EmbeddingGradientParams {
            n: word(n)?,
            v: rows(v)?,
            slots: word(range.len())?,
            slot_links: word(slot_links)?,
            slot_g: vectors(g.strides()[0])?,
            slot_out: vectors(out.strides()[0])?,
            shift: lanes.shift,
            row_step: lanes.row_step,
            step: lanes.step,
            ..Default::default()
        };
        let of_links = if shared { links_whole.clone() } else { links.slots(&range)? };
        let bindings = vec![of_links, g.slots(&range)?, out.slots(&range)?];
        let work = (range.len() * (positions + v) * n) as f64;
        recording.dispatch(&gradient_kernel(), bindings, &params, lanes.grid, work)?;
    }
    Ok(())
}

fn kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<EmbeddingParams>("embedding", EMBEDDING, &bindings)
}

fn links_kernel() -> Kernel {
    Kernel::new::<EmbeddingLinksParams>("embedding_links", EMBEDDING_LINKS, &[Access::Read, Access::Write])
}

fn gradient_kernel() -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<EmbeddingGradientParams>("embedding_gradient", EMBEDDING_GRADIENT, &bindings)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel(), links_kernel(), gradient_kernel()]
}
