//! Dropout with a random stream per slot; the mask is drawn again for the gradient and never stored. Kernel: `dropout`.

use super::random::{purpose, stream_stride};
use super::{Coefficient, bindable, slot_extent, slot_grid, slot_stride, word};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const DROPOUT: &str = include_str!("../../shaders/ops/dropout.wgsl");

params!(DropoutParams {
    quads: u32,
    threads: u32,
    slots: u32,
    slot_step: u32,
    stride_x: u32,
    stride_out: u32,
    stride_streams: u32,
    stride_table: u32,
    sample_quads: u32,
    channel_quads: u32,
    layer: u32,
    purpose: u32,
    column: u32,
    threshold: u32,
    scale: f32,
    pad: u32,
});

/// What is dropped.
#[derive(Debug, Clone, Copy)]
pub struct Dropout<'a> {
    /// The share that is dropped: fixed, or two columns of a table of every slot with what [`coefficients`] gives.
    pub rate: Coefficient<'a>,
    /// Number of the layer in its network: layers of one step draw different masks.
    pub layer: u32,
    /// Whole channels of a sample (the last axis, of `[slots, samples, .., channels]`) instead of elements.
    pub channels: bool,
}

/// Rate and scale of a slot, as [`Coefficient::Slots`] wants them side by side.
///
/// # Errors
/// [`ErrorKind::BadInput`] for a rate outside `[0, 1)`.
pub fn coefficients(rate: f64) -> Result<[f32; 2]> {
    let rounded = rate as f32;
    if !(0.0..1.0).contains(&rounded) {
        return Err(Error::new(ErrorKind::BadInput, format!("a dropout rate of {rate}"))
            .with_help("give a rate from 0 (nothing is dropped) to below 1"));
    }
    Ok([rounded, (1.0 / (1.0 - f64::from(rounded))) as f32])
}

/// Records `out = x * mask / (1 - rate)` for `x` and `out` `[slots, ..]` of one shape and `streams` `[slots, 4]`. With a
/// gradient for `x` it is the gradient. Elements are numbered within their slot, so a mask depends on the member's key, its
/// step and the layer alone.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::BadInput`] for a rate outside `[0, 1)`,
/// [`ErrorKind::TooBig`] for arrays larger than a binding.
pub fn record(
    recording: &mut Recording,
    caps: &Caps,
    dropout: &Dropout<'_>,
    streams: &Tensor<u32>,
    x: &Tensor,
    out: &Tensor,
) -> Result<()> {
    dispatch(recording, caps, dropout, streams, Some(x), out)
}

/// Records `x = x * mask / (1 - rate)`.
///
/// # Errors
/// As [`record`].
pub fn in_place(
    recording: &mut Recording,
    caps: &Caps,
    dropout: &Dropout<'_>,
    streams: &Tensor<u32>,
    x: &Tensor,
) -> Result<()> {
    dispatch(recording, caps, dropout, streams, None, x)
}

fn dispatch(
    recording: &mut Recording,
    caps: &Caps,
    dropout: &Dropout<'_>,
    streams: &Tensor<u32>,
    x: Option<&Tensor>,
    out: &Tensor,
) -> Result<()> {
    if x.is_some_and(|x| x.shape() != out.shape()) || (dropout.channels && out.shape().len() < 3) {
        let what = format!("dropout of shape {:?} into {:?}", x.map(Tensor::shape), out.shape());
        return Err(Error::internal(what));
    }
    let (slots, (extent, _)) = (out.shape()[0], slot_extent(out)?);
    let quads = extent.div_ceil(4);
    let (grid, threads, slot_step) = slot_grid(quads, slots, caps.max_workgroups)?;
    let (stride_table, column) = dropout.rate.place(slots, 2)?;
    let [rate, scale] = match dropout.rate {
        Coefficient::Fixed(rate) => coefficients(f64::from(rate))?,
        Coefficient::Slots(..) => [0.0; 2],
    };
    let params = DropoutParams {
        quads: word(quads)?,
        threads,
        slots: word(slots)?,
        slot_step,
        stride_x: x.map_or(Ok(0), |x| slot_stride(x, slots))? / 4,
        stride_out: slot_stride(out, slots)? / 4,
        stride_streams: stream_stride(streams, slots)?,
        stride_table,
        sample_quads: word(if dropout.channels { out.strides()[1] / 4 } else { 1 })?,
        channel_quads: word(if dropout.channels { out.row_stride() / 4 } else { 1 })?,
        layer: dropout.layer,
        purpose: purpose::DROPOUT,
        column,
        threshold: threshold(rate),
        scale,
        ..Default::default()
    };
    let mut bindings = vec![streams.binding(), out.binding()];
    bindings.extend(x.map(Tensor::binding));
    let per_slot = if let Coefficient::Slots(table, _) = dropout.rate {
        bindings.push(table.binding());
        true
    } else {
        false
    };
    bindable(caps, &bindings)?;
    let kernel = kernel(x.is_none(), dropout.channels, per_slot);
    recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), 30.0 * out.len() as f64)
}

/// The smallest 24-bit number that is kept.
fn threshold(rate: f32) -> u32 {
    (rate * 16_777_216.0).ceil() as u32
}

fn kernel(in_place: bool, channels: bool, per_slot: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Write];
    if !in_place {
        bindings.push(Access::Read);
    }
    let table = bindings.len();
    if per_slot {
        bindings.push(Access::Read);
    }
    let kernel = Kernel::new::<DropoutParams>("dropout", DROPOUT, &bindings)
        .flag("IN_PLACE", in_place)
        .flag("CHANNELS", channels);
    if per_slot { kernel.define("PER_SLOT", table) } else { kernel }
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let flags = (0..8).map(|bits| [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0]);
    flags.map(|[in_place, channels, per_slot]| kernel(in_place, channels, per_slot)).collect()
}

#[cfg(test)]
mod tests {
    use super::{coefficients, threshold};
    use crate::ErrorKind;

    #[test]
    fn rates_outside_of_their_range_are_refused() {
        assert_eq!(coefficients(0.0).unwrap(), [0.0, 1.0]);
        assert_eq!(coefficients(0.5).unwrap(), [0.5, 2.0]);
        for rate in [-0.1, 1.0, 0.999_999_999_999, f64::NAN] {
            assert_eq!(coefficients(rate).unwrap_err().kind(), ErrorKind::BadInput, "{rate}");
        }
        assert_eq!((threshold(0.0), threshold(0.5), threshold(1e-9)), (0, 1 << 23, 1));
    }
}
