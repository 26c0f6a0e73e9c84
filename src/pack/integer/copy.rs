//! Int8 codes moved between tensors: joined, padded, reshaped. Kernel: `integer_copy`.

use super::device::Map;
use crate::error::Result;
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, strided_grid, word};

const INTEGER_COPY: &str = include_str!("../../../shaders/pack/integer_copy.wgsl");

params!(CopyParams {
    words: u32,
    threads: u32,
    out_h: u32,
    out_w: u32,
    in_h: u32,
    in_w: u32,
    in_c: u32,
    out_c: u32,
    in_words: u32,
    quads: u32,
    at_y: u32,
    at_x: u32,
    at_c: u32,
    fill: u32,
    pad0: u32,
    pad1: u32,
});

/// Records that `from` stands at a place of `to`; elsewhere `fill`, or what is there.
pub(super) fn join(
    recording: &mut Recording,
    caps: &Caps,
    from: &Map,
    at: [usize; 3],
    fill: Option<i8>,
    to: &Map,
) -> Result<()> {
    let kernel = kernel(true, fill.is_some());
    record(recording, caps, &kernel, from, (at, fill.unwrap_or(0)), to)
}

/// Records the same codes in places of another number of channels; nothing where they lie alike, which then share memory.
pub(super) fn reshape(recording: &mut Recording, caps: &Caps, from: &Map, to: &Map) -> Result<()> {
    if from.shape[2] == to.shape[2] {
        return Ok(());
    }
    record(recording, caps, &kernel(false, true), from, ([0; 3], 0), to)
}

fn record(
    recording: &mut Recording,
    caps: &Caps,
    kernel: &Kernel,
    from: &Map,
    (at, fill): ([usize; 3], i8),
    to: &Map,
) -> Result<()> {
    let (groups, threads) = strided_grid(to.words(), caps.max_workgroups)?;
    let params = CopyParams {
        words: word(to.words())?,
        threads,
        out_h: word(to.shape[0])?,
        out_w: word(to.shape[1])?,
        in_h: word(from.shape[0])?,
        in_w: word(from.shape[1])?,
        in_c: word(from.shape[2])?,
        out_c: word(to.shape[2])?,
        in_words: word(from.quads())?,
        quads: word(to.quads())?,
        at_y: word(at[0])?,
        at_x: word(at[1])?,
        at_c: word(at[2])?,
        fill: u32::from(fill.cast_unsigned()) * 0x0101_0101,
        ..Default::default()
    };
    let bindings = vec![from.memory.binding(), to.memory.binding()];
    bindable(caps, &bindings)?;
    recording.dispatch(kernel, bindings, &params, Grid::Direct([groups, 1, 1]), 32.0 * to.words() as f64)
}

fn kernel(join: bool, fill: bool) -> Kernel {
    Kernel::new::<CopyParams>("integer_copy", INTEGER_COPY, &[Access::Read, Access::Write])
        .flag("JOIN", join)
        .flag("FILL", fill)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [(true, true), (true, false), (false, true)].map(|(join, fill)| kernel(join, fill)).to_vec()
}
