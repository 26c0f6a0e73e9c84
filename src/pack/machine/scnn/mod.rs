//! A machine of SCNN's kind: multipliers that only see non-zero values, so cycles depend on the values.
//!
//! Source: A. Parashar et al., "SCNN: An Accelerator for Compressed-sparse Convolutional Neural Networks", ISCA 2017, in the reading of
//! DNNsim (`isakedo/DNNsim`, `core/src/SCNN.cpp`), whose counters these are. `docs/machines.md` works a case by hand.
//!
//! * **Plane.** The padded map is rounded up to whole rows and columns of elements and cut into [`Scnn::rows`] x [`Scnn::columns`] tiles, one
//!   an element. A layer of a single place (dense) is folded first: 256 inputs are a channel of 16x16, and each filter has 16x16 taps. A
//!   product of many rows ([`Shape::dense`]) has its rows as places of a plane as wide as the array.
//! * **Filter groups.** `Kc = accumulators / (places of the result that an element owns)`, at least 1; groups never cross groups of the
//!   convolution, so a depthwise layer has one filter a group.
//! * **Phases.** Only activations and weights whose coordinates agree modulo the stride meet, down and to the right.
//! * **Blocks.** For a filter group, an input channel and a phase, an element's non-zero activations in row-major order and the group's
//!   non-zero weights in the order (ky, kx, filter) are cut into blocks of 4. Each block meets each block: a step of 16 multipliers.
//! * **Banks.** A step takes as many cycles as the fullest accumulator bank gets products, at least 1; the bank of output (y, x, k) is
//!   `((k & 4) << 2 ^ (y & 2) << 3 ^ (x & 2) << 3) + ((y & 1) << 3) + ((x & 1) << 2) + (k & 3)`, modulo the number of banks.
//!   Products that fall outside of the result go nowhere.
//! * **Barrier.** All elements wait for the slowest after each channel of each filter group.
//! * **Halos.** After a filter group, elements hand partial sums of places that they do not own to their neighbours, one sum a cycle, all
//!   eight directions at once. A tile of `t` results reaches `ceil((reach - 1 - padding) / stride)` results before and
//!   `ceil(padding / stride)` behind it; of the eight border areas the largest, times the filters of the group, is what it takes.
//!
//! What differs from DNNsim: weights' phases are those of the padded map (there shifted by the padding once more, which pairs
//! values that never meet where padding is no multiple of the stride); halos count results, so they are divided by the stride and never larger
//! than the result; filter groups restart at groups of the convolution. With stride 1, no groups and planes larger than halos all is the same.
//!
//! Counters are multiplier-cycles, and exact: `products + idle = 16 x elements x cycles` (of one run; the mean over samples rounds each counter down). Products
//! outside of the result count as partial blocks, as in DNNsim.

mod device;
mod lists;
mod literal;

#[cfg(not(target_arch = "wasm32"))]
pub use device::run;
pub use device::{run_async, runs_async};
pub use literal::literal;

pub(super) use device::catalogue;

use super::Idle;
use crate::error::{Error, ErrorKind, Result};
use crate::pack::{Layer, Shape, Values};

/// Activations and weights of a block: 4x4 multipliers an element, as published.
pub const BLOCK: usize = 4;

/// Multipliers of an element.
const MULTIPLIERS: u64 = (BLOCK * BLOCK) as u64;

/// The array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Scnn {
    /// Rows of elements.
    pub rows: usize,
    /// Columns of elements.
    pub columns: usize,
    /// Partial sums that an element holds.
    pub accumulators: usize,
    /// Banks of them: a power of two up to 32.
    pub banks: u32,
}

impl Scnn {
    /// As published: 8x8 elements, 1024 sums in 32 banks each.
    pub const PUBLISHED: Self = Self { rows: 8, columns: 8, accumulators: 1024, banks: 32 };

    /// Elements.
    pub fn elements(&self) -> usize {
        self.rows * self.columns
    }

    /// Multipliers of all elements.
    pub fn multipliers(&self) -> u64 {
        self.elements() as u64 * MULTIPLIERS
    }

    /// Filters of a filter group of a layer: as many as accumulators hold for the places that an element owns.
    pub(super) fn filters_at_once(&self, shape: &Shape) -> usize {
        let (_, folded) = fold(shape, self);
        let [height, width, filters] = folded.output();
        let owned = height.div_ceil(self.rows.max(1)) * width.div_ceil(self.columns.max(1));
        (self.accumulators / owned.max(1)).clamp(1, (filters / folded.groups.max(1)).max(1))
    }

    pub(super) fn check(&self) -> Result<()> {
        let sides = 1..=128;
        if !sides.contains(&self.rows) || !sides.contains(&self.columns) || self.accumulators == 0 {
            return Err(Error::bad_input(format!("an array of {}x{} elements", self.rows, self.columns))
                .with_help("rows and columns are from 1 to 128, accumulators at least 1"));
        }
        if !self.banks.is_power_of_two() || self.banks > 32 {
            return Err(Error::bad_input(format!("{} accumulator banks", self.banks))
                .with_help("banks are 1, 2, 4, 8, 16 or 32: the hash of an output has 5 bits"));
        }
        Ok(())
    }
}

/// What a layer does on the array, for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Run {
    /// Cycles, halos included.
    pub cycles: u64,
    /// Products that are part of a result.
    pub products: u64,
    /// Products of two values that are not zero, inside of the result or not: what the multipliers do.
    pub multiplies: u64,
    /// Steps of all elements.
    pub steps: u64,
    /// Multiplier-cycles without a product.
    pub idle: Idle,
    /// Non-zero weights read from buffers: those of a group once for each block of activations, by each element.
    pub weight_reads: u64,
    /// Non-zero activations read from buffers: once for each filter group.
    pub input_reads: u64,
    /// Weights that are not zero.
    pub weights: u64,
    /// Activations that are not zero.
    pub inputs: u64,
}

impl Run {
    /// The mean of some runs, counter by counter, rounded down.
    pub(super) fn mean(runs: &[Self]) -> Self {
        let n = runs.len().max(1) as u64;
        let of = |count: fn(&Self) -> u64| runs.iter().map(count).sum::<u64>() / n;
        Self {
            cycles: of(|r| r.cycles),
            products: of(|r| r.products),
            multiplies: of(|r| r.multiplies),
            steps: of(|r| r.steps),
            idle: Idle {
                partial_blocks: of(|r| r.idle.partial_blocks),
                bank_conflicts: of(|r| r.idle.bank_conflicts),
                imbalance: of(|r| r.idle.imbalance),
                halos: of(|r| r.idle.halos),
            },
            weight_reads: of(|r| r.weight_reads),
            input_reads: of(|r| r.input_reads),
            weights: of(|r| r.weights),
            inputs: of(|r| r.inputs),
        }
    }
}

/// How a layer's values lie in the plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    /// As they are.
    None,
    /// One place: 256 inputs are a channel of 16x16.
    Dense,
    /// A place a row, in a plane of so many columns.
    Rows(usize),
}

/// A layer on an array: sizes that both the device and the literal simulation start from.
#[derive(Debug, Clone, Copy)]
struct Plan {
    array: Scnn,
    fold: Fold,
    /// The layer as it is computed, after folding.
    shape: Shape,
    output: [usize; 2],
    /// Rows and columns of the padded map that an element owns.
    tile: [usize; 2],
    /// Filters of a filter group.
    together: usize,
}

/// Widest dense fold: a channel of 16x16.
const SIDE: usize = 16;

fn fold(shape: &Shape, array: &Scnn) -> (Fold, Shape) {
    let product = shape.filter == [1, 1] && shape.stride == [1, 1] && shape.padding == [0; 4] && shape.groups == 1;
    let [height, width, channels] = shape.input;
    if product && (height, width) == (1, 1) {
        let input = [SIDE, SIDE, channels.div_ceil(SIDE * SIDE)];
        (Fold::Dense, Shape { input, filter: [SIDE, SIDE], dilation: [1, 1], ..*shape })
    } else if product && width == 1 {
        let columns = array.columns.max(1);
        let input = [height.div_ceil(columns), columns, channels];
        (Fold::Rows(columns), Shape { input, ..*shape })
    } else {
        (Fold::None, *shape)
    }
}

impl Plan {
    fn new(array: Scnn, layer: &Layer) -> Result<Self> {
        array.check()?;
        let named = |what: String| Error::unsupported(format!("layer '{}': {what}", layer.name));
        let s = &layer.shape;
        if s.groups == 0 || !s.filters.is_multiple_of(s.groups) || !s.input[2].is_multiple_of(s.groups) {
            return Err(named(format!("{} filters and {} channels in {} groups", s.filters, s.input[2], s.groups)));
        }
        if s.stride.contains(&0) || s.dilation.contains(&0) {
            return Err(named("a stride or dilation of 0".into()));
        }
        let (fold, shape) = fold(s, &array);
        let [height, width, _] = shape.output();
        let plane = [0, 1].map(|axis| shape.input[axis] + shape.padding[axis] + shape.padding[axis + 2]);
        let reach = [0, 1].map(|axis| (shape.filter[axis].max(1) - 1) * shape.dilation[axis]);
        if plane.iter().any(|&n| n >= 1 << 14) || reach.iter().any(|&n| n >= 1 << 12) {
            return Err(named(format!("a plane of {}x{} is too large to simulate", plane[0], plane[1]))
                .with_help("planes are smaller than 16384x16384, filters reach less than 4096"));
        }
        let together = array.filters_at_once(s);
        let lists = (shape.input[2] as f64) * (shape.stride[0] as f64) * (shape.stride[1] as f64);
        let most = array.elements().max(s.filters.div_ceil(together)) as f64;
        if lists * most > f64::from(1 << 28) || shape.stride[0] * shape.stride[1] > 1 << 12 {
            return Err(named("too many lists of values (channels, phases of the stride, elements)".into()));
        }
        let tile = [plane[0].div_ceil(array.rows), plane[1].div_ceil(array.columns)];
        Ok(Self { array, fold, shape, output: [height, width], tile, together })
    }

    /// Filter groups within a group of the convolution.
    fn chunks(&self) -> usize {
        (self.shape.filters / self.shape.groups).div_ceil(self.together)
    }

    fn phases(&self) -> usize {
        self.shape.stride[0] * self.shape.stride[1]
    }

    /// Cycles in which halos change hands, over all filter groups.
    fn halo_cycles(&self) -> u64 {
        let elements = [self.array.rows, self.array.columns];
        let [down, right] = [0, 1].map(|axis| {
            let (stride, padding, most) = (self.shape.stride[axis], self.shape.padding[axis], self.output[axis]);
            let reach = (self.shape.filter[axis].max(1) - 1) * self.shape.dilation[axis];
            let alone = elements[axis] == 1;
            let results = |n: usize| if alone { 0 } else { n.div_ceil(stride).min(most) };
            let tile = self.tile[axis].div_ceil(stride).min(most);
            [results(reach.saturating_sub(padding)), tile, results(padding)]
        });
        let area = |(i, j): (usize, usize)| if (i, j) == (1, 1) { 0 } else { down[i] * right[j] };
        let largest = (0..9).map(|n| area((n / 3, n % 3))).max().unwrap_or(0);
        largest as u64 * self.shape.filters as u64
    }

    /// Adds up what all channels of all filter groups did.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for sums that contradict each other.
    fn finish(&self, sums: Sums) -> Result<Run> {
        let elements = self.array.elements() as u64;
        let halos = self.halo_cycles();
        let wrong = || Error::internal(format!("counts of a sparse layer contradict each other: {sums:?}"));
        let idle = |all: u64, busy: u64| all.checked_sub(busy).map(|lost| lost * MULTIPLIERS).ok_or_else(wrong);
        Ok(Run {
            cycles: sums.slowest + halos,
            products: sums.products,
            multiplies: sums.multiplies,
            steps: sums.steps,
            idle: Idle {
                partial_blocks: (sums.steps * MULTIPLIERS).checked_sub(sums.products).ok_or_else(wrong)?,
                bank_conflicts: idle(sums.cycles, sums.steps)?,
                imbalance: idle(sums.slowest * elements, sums.cycles)?,
                halos: halos * elements * MULTIPLIERS,
            },
            weight_reads: sums.weight_reads,
            input_reads: sums.input_reads,
            weights: sums.weights,
            inputs: sums.inputs,
        })
    }
}

/// Sums over elements, channels and filter groups.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// Of the slowest element of each channel of each filter group.
    slowest: u64,
    /// Of all elements.
    cycles: u64,
    products: u64,
    multiplies: u64,
    steps: u64,
    weight_reads: u64,
    input_reads: u64,
    weights: u64,
    inputs: u64,
}

/// The values that a run is about.
fn values(layer: &Layer, sample: usize) -> Result<(&Values, &Values)> {
    let lacks = |what: &str| {
        Error::bad_input(format!(
            "layer '{}' has no {what}, on whose zeros a machine of SCNN's kind depends",
            layer.name
        ))
        .with_help("give a model with weights, and inputs to run it on; a table of layers has neither")
    };
    let weights = layer.weights.as_ref().ok_or_else(|| lacks("weights"))?;
    let inputs = layer.inputs.get(sample).ok_or_else(|| lacks("input map"))?;
    let shape = &layer.shape;
    let misfit = |what: &Values| {
        let message = format!("layer '{}': {:?} values '{}' do not fit it", layer.name, what.shape(), what.name());
        Error::new(ErrorKind::BadInput, message)
    };
    let filters = [shape.filters, shape.filter[0], shape.filter[1], shape.input[2] / shape.groups.max(1)];
    if weights.shape() != filters && !is_depthwise(shape, weights) {
        return Err(misfit(weights));
    }
    if inputs.shape() != shape.input { Err(misfit(inputs)) } else { Ok((weights, inputs)) }
}

/// Whether weights are one filter of all channels.
fn is_depthwise(shape: &Shape, weights: &Values) -> bool {
    shape.groups == shape.input[2] && weights.shape() == [1, shape.filter[0], shape.filter[1], shape.filters]
}

/// Whether value `i` is zero; of floating-point values both zeros are.
fn is_zero(values: &Values, i: usize) -> bool {
    let code = values.code(i);
    if values.element().is_float() { code & 0x7fff == 0 } else { code == 0 }
}
