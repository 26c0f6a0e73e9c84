//! Convolutions, depthwise ones and dense layers of int8 codes: what they keep on the device, and which kernel runs. Kernel: `integer_conv`.

use super::device::Map;
use super::{Multiplier, Product, ProductKind, Rescale, Tensor, depthwise, grouped, reference, thresholds, words};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::ops::{bindable, word};
use crate::{Gpu, Tensor as Memory};

const INTEGER_CONV: &str = include_str!("../../../shaders/pack/integer_conv.wgsl");

/// Places of a workgroup.
const TILE: usize = 256;

params!(ProductParams {
    places: u32,
    step: u32,
    out_h: u32,
    out_w: u32,
    in_h: u32,
    in_w: u32,
    in_words: u32,
    quads: u32,
    filter_h: u32,
    filter_w: u32,
    stride_y: u32,
    stride_x: u32,
    pad_y: u32,
    pad_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    outside: u32,
    zero: i32,
    low: i32,
    high: i32,
    table: u32,
    filters: u32,
    pad0: u32,
    pad1: u32,
});

/// Which kernel computes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Conv,
    Depthwise,
    Grouped,
}

impl Way {
    fn of(p: &Product) -> Self {
        match p.kind {
            ProductKind::Depthwise if p.shape.filters == p.shape.groups => Self::Depthwise,
            ProductKind::Conv if p.shape.groups == 1 => Self::Conv,
            _ => Self::Grouped,
        }
    }
}

/// Weights and what turns sums into codes.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) way: Way,
    pub(super) weights: Memory<u32>,
    /// For each four filters bias, multiplier, shift to the left and to the right.
    pub(super) filters: Memory<u32>,
    /// Tables of sums, where the reference rounds in f64.
    bounds: Option<Memory<u32>>,
}

impl Stored {
    pub(super) async fn new(gpu: &Gpu, p: &Product, from: &Tensor, to: &Tensor) -> Result<Self> {
        let way = Way::of(p);
        if way != Way::Conv && matches!(p.rescale, Rescale::Real(_)) {
            return Err(Error::internal("only dense layers round in f64"));
        }
        let upload = async |words: Vec<u32>| Memory::from_slice_async(gpu, &[words.len()], &words).await;
        let weights = match way {
            Way::Conv => conv_weights(p, from.channels()),
            Way::Depthwise => depthwise::weights(p),
            Way::Grouped => grouped::weights(p),
        };
        // A grouped convolution subtracts the zero point itself.
        let zero = if way == Way::Grouped { 0 } else { from.zero_point };
        let bounds = match &p.rescale {
            Rescale::Fixed(_) => None,
            Rescale::Real(scales) => {
                let table = |filter| thresholds::table(|sum| reference::real_code(p, to, filter, sum));
                let tables = (0..scales.len()).flat_map(table).map(i32::cast_unsigned).collect();
                Some(upload(tables).await?)
            }
        };
        Ok(Self { way, weights: upload(weights).await?, filters: upload(filters(p, zero)).await?, bounds })
    }
}

/// Sum of a filter's weights.
fn total(p: &Product, filter: usize) -> i32 {
    let sum = |weights: &mut dyn Iterator<Item = &i8>| weights.fold(0_i32, |sum, &w| sum.wrapping_add(w.into()));
    match p.kind {
        ProductKind::Depthwise => sum(&mut p.weights.iter().skip(filter).step_by(p.shape.filters)),
        ProductKind::Conv => sum(&mut p.weights[filter * p.shape.depth()..(filter + 1) * p.shape.depth()].iter()),
    }
}

/// `[quads, 4]` of four words: bias less the zero point's share, multiplier, shifts; zeros behind the filters.
fn filters(p: &Product, zero: i32) -> Vec<u32> {
    let quads = words(p.shape.filters);
    let mut table = vec![0_u32; quads * 16];
    for filter in 0..p.shape.filters {
        let bias = p.bias.as_ref().map_or(0, |bias| bias[filter]);
        let share = if zero == 0 { 0 } else { zero.wrapping_mul(total(p, filter)) };
        let multiplier = match &p.rescale {
            Rescale::Fixed(multipliers) => multipliers[filter],
            Rescale::Real(_) => Multiplier::default(),
        };
        let entries = [
            bias.wrapping_sub(share).cast_unsigned(),
            multiplier.value.cast_unsigned(),
            multiplier.left(),
            multiplier.right(),
        ];
        for (k, entry) in entries.into_iter().enumerate() {
            table[filter / 4 * 16 + k * 4 + filter % 4] = entry;
        }
    }
    table
}

/// `[quads, taps, words of channels, 4 filters]`.
fn conv_weights(p: &Product, channels: usize) -> Vec<u32> {
    let taps = p.window.filter[0] * p.window.filter[1];
    let mut table = vec![0_u32; words(p.shape.filters) * taps * words(channels) * 4];
    for (filter, weights) in p.weights.chunks(taps * channels).enumerate() {
        let packed = super::packed(weights, channels);
        for (k, &word) in packed.iter().enumerate() {
            table[(filter / 4 * packed.len() + k) * 4 + filter % 4] = word;
        }
    }
    table
}

/// Records a product of codes `from` into `to`; zero points of both.
pub(super) fn record(
    recording: &mut Recording,
    caps: &Caps,
    (p, stored): (&Product, &Stored),
    zeros: [i32; 2],
    [from, to]: [&Map; 2],
) -> Result<()> {
    match stored.way {
        Way::Conv => conv(recording, caps, (p, stored), zeros, [from, to]),
        Way::Depthwise => depthwise::record(recording, caps, (p, stored), zeros, [from, to]),
        Way::Grouped => grouped::record(recording, caps, (p, stored), zeros, [from, to]),
    }
}

/// What the kernels of products share.
pub(super) fn params_of(p: &Product, zeros: [i32; 2], [from, to]: [&Map; 2]) -> Result<ProductParams> {
    let [filter, stride, dilation, padding] =
        [p.window.filter, p.window.stride, p.window.dilation, p.window.padding].map(|pair| pair.map(word));
    let [[filter_h, filter_w], [stride_y, stride_x], [dilation_y, dilation_x], [pad_y, pad_x]] =
        [filter, stride, dilation, padding];
    Ok(ProductParams {
        places: word(to.places())?,
        out_h: word(to.shape[0])?,
        out_w: word(to.shape[1])?,
        in_h: word(from.shape[0])?,
        in_w: word(from.shape[1])?,
        in_words: word(from.quads())?,
        quads: word(to.quads())?,
        filter_h: filter_h?,
        filter_w: filter_w?,
        stride_y: stride_y?,
        stride_x: stride_x?,
        pad_y: pad_y?,
        pad_x: pad_x?,
        dilation_y: dilation_y?,
        dilation_x: dilation_x?,
        outside: u32::from(zeros[0].to_le_bytes()[0]) * 0x0101_0101,
        zero: zeros[1],
        low: p.bounds.low,
        high: p.bounds.high,
        filters: word(p.shape.filters)?,
        ..Default::default()
    })
}

/// Groups along the places, `tile` each, and the filters' groups of four.
pub(super) fn grid(caps: &Caps, to: &Map, tile: usize) -> Result<[u32; 3]> {
    let quads = word(to.quads())?;
    if quads > caps.max_workgroups {
        let what = format!("a layer of {} filters", to.shape[2]);
        let help = format!("the device computes {} at most", u64::from(caps.max_workgroups) * 4);
        return Err(Error::new(ErrorKind::TooBig, what).with_help(help));
    }
    Ok([word(to.places().div_ceil(tile))?.min(caps.max_workgroups), quads, 1])
}

fn conv(
    recording: &mut Recording,
    caps: &Caps,
    (p, stored): (&Product, &Stored),
    zeros: [i32; 2],
    [from, to]: [&Map; 2],
) -> Result<()> {
    let mut params = params_of(p, zeros, [from, to])?;
    // Whichever keeps fewer invocations idle.
    let (places, quads) = (to.places(), to.quads());
    let across = quads.div_ceil(64) * 64 * places.div_ceil(4) * 4 < places.div_ceil(TILE) * TILE * quads;
    let grid = if across {
        params.step = word(places.div_ceil(4))?.min(caps.max_workgroups);
        [word(quads.div_ceil(64))?, params.step, 1]
    } else {
        let grid = grid(caps, to, TILE)?;
        params.step = grid[0];
        grid
    };
    let mut bindings = [&from.memory, &stored.weights, &stored.filters, &to.memory].map(Memory::binding).to_vec();
    if let Some(bounds) = &stored.bounds {
        params.table = if bounds.len() > thresholds::WORDS { word(thresholds::WORDS)? } else { 0 };
        bindings.push(bounds.binding());
    }
    bindable(caps, &bindings)?;
    let work = 2.0 * places as f64 * p.weights.len() as f64;
    recording.dispatch(&kernel(stored.bounds.is_some(), across), bindings, &params, Grid::Direct(grid), work)
}

fn kernel(thresholds: bool, across: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, Access::Read, Access::Write];
    bindings.extend(thresholds.then_some(Access::Read));
    Kernel::new::<ProductParams>("integer_conv", INTEGER_CONV, &bindings)
        .flag("THRESHOLDS", thresholds)
        .flag("ACROSS", across)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [(false, false), (false, true), (true, false), (true, true)].map(|(t, a)| kernel(t, a)).to_vec()
}
