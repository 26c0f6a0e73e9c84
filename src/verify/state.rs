//! Device memory of a batch of boxes: bounds and lines of layers, output rows, and the room for rows on their way back.

use super::attack::CANDIDATES;
use super::network::{DeviceNet, TILE, column_pitch};
use super::walk::Walk;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Binding, Buffer, Caps, Gpu, Grid, Recording};
use crate::ops::row_compact;
use crate::tensor::{Tensor, pitch};

/// Bounds and lines of one layer's z, for every box.
#[derive(Debug)]
pub(super) struct LayerState {
    /// `[batch, n]`.
    pub lower: Tensor,
    /// `[batch, n]`.
    pub upper: Tensor,
    /// `[batch, n]`: which neurons were chosen for back-substitution.
    pub refined: Tensor<u32>,
    /// `[batch, n]`: sums of weights times magnitudes, to which the rounding of z is relative.
    pub weight_sum: Tensor,
    /// `[batch, n, 2]` of (slope, offset, cost, bound): for positive and for negative coefficients, compact where `active` is.
    pub lines: Tensor,
    /// The active neurons, of layers whose rows keep those only.
    pub active: Option<Selection>,
}

/// Flags of elements, and their compaction.
#[derive(Debug)]
pub(super) struct Selection {
    /// `[batch, n]`.
    pub flags: Tensor<u32>,
    /// `[batch, n]`: the indices of flagged elements, ascending.
    pub list: Tensor<u32>,
    /// `[batch]`: how many there are.
    pub count: Tensor<u32>,
}

/// The rows to bound on the network's outputs.
#[derive(Debug)]
pub(super) struct QueryState {
    /// `[batch * rows, outputs + 1]`: the coefficients, then a bound on their relative error.
    pub spec: Tensor,
    /// `[batch, rows]`: best lower bound of each row.
    pub lower: Tensor,
    /// `[batch * rows, inputs]`: the linear form on the inputs by which each row is bounded, for rows that got so far.
    pub form: Tensor,
    /// `[batch, rows]`: bound where kernels want upper bounds, which output rows have not.
    pub unused: Tensor,
    /// `[batch, rows]`: 1 for rows that count.
    pub used: Tensor<u32>,
    /// `[batch * rows]`: (constant, error) of every row.
    pub given: Tensor,
}

/// Room for rows on their way back to the input.
#[derive(Debug)]
pub(super) struct Room {
    /// Matrices of coefficients.
    pub slots: Vec<Tensor>,
    /// `[slices, capacity, 4]`: parts of every row's sums.
    pub partial: Tensor,
    /// `[rows, 4]`: the table of rows (shaders/verify/row_table.wgsl).
    pub rows: Tensor<u32>,
    /// The row of every element's side in it.
    pub row_of: Tensor<u32>,
    /// `[1]`: how many rows there are.
    pub row_count: Tensor<u32>,
    /// `[batch]`: the first row of every box.
    pub offset: Tensor<u32>,
    /// (constant, error) of every element's side.
    pub state: Tensor,
    /// The grids of a walk's dispatches.
    pub arguments: Buffer,
    /// All elements that are to be bounded, and those of one walk.
    pub all: Selection,
    pub chunk: Selection,
}

/// How many boxes a batch holds and how much room their rows get, so that all of it fits the adapter and the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Boxes of a batch.
    pub batch: usize,
    /// Coefficients of a slot.
    pub slot: usize,
    /// Partial sums.
    pub partial: usize,
    /// Rows of a walk at most.
    pub rows: usize,
}

/// Most operations of one dispatch of a walk: a fraction of a second on a small GPU, as an indirect dispatch is never cut.
const STEP: u64 = 40_000_000_000;

impl Plan {
    /// A plan for at most `boxes` boxes of `rows` output rows each.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`] if not even one box fits, with what it needs.
    pub fn new(gpu: &Gpu, net: &DeviceNet, boxes: usize, rows: usize) -> Result<Self> {
        let memory = gpu.memory();
        Self::fit(gpu.caps(), memory.budget.saturating_sub(memory.live), net, boxes, rows)
    }

    pub(super) fn fit(caps: &Caps, free: u64, net: &DeviceNet, boxes: usize, rows: usize) -> Result<Self> {
        let sizes = Sizes::new(net, rows);
        // A sixth stays free: pages are not filled to the last byte.
        let free = usize::try_from(free / 6 * 5).unwrap_or(usize::MAX);
        let binding = usize::try_from(caps.max_binding).unwrap_or(usize::MAX);
        let columns = (binding / (8 * net.widest())).min(free / 4 / sizes.per_column) / TILE * TILE;
        let least = TILE * net.walks.all().map(|walk| row_bytes(net, walk)).max().unwrap_or(0);
        // Every box has a tile of rows at least, in one binding with those of the others.
        let widest_tile = net.walks.all().map(|walk| TILE * (walk.widest * 4).max(walk.slices * 16)).max().unwrap_or(1);
        let batch = boxes
            .min(free / (sizes.per_box + 2 * least))
            .min(columns)
            .min(binding / sizes.widest_box)
            .min(binding / widest_tile)
            .min(caps.max_workgroups as usize);
        if batch == 0 {
            let need = sizes.per_box + 2 * least + TILE * sizes.per_column;
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("one box with {rows} output rows needs {need} bytes of device memory; {free} are free, {binding} bind at once"),
            )
            .with_help("raise the memory budget (`--memory MIB`), or use an adapter with larger bindings"));
        }
        let left = free.saturating_sub(batch * sizes.per_box + column_pitch(batch) * sizes.per_column);
        let mut plan = Self { batch, slot: 0, partial: 0, rows: 0 };
        for walk in net.walks.all() {
            let fits = (left / 5 * 4 / (net.walks.slots * walk.widest * 4)).min(left / 8 / (walk.slices * 16));
            let fits = fits.min(binding / (walk.widest * 4)).min(binding / (walk.slices * 16));
            // No grid has more workgroups along the rows than a device takes: the smallest hold one tile.
            let fits = fits.min(caps.max_workgroups as usize * TILE);
            let capacity = rows_at_once(net, walk, batch, rows, fits);
            plan.slot = plan.slot.max(capacity * walk.widest);
            plan.partial = plan.partial.max(capacity * walk.slices);
            plan.rows = plan.rows.max(capacity);
        }
        Ok(plan)
    }

    /// Rows that a walk of this plan's batch takes at once.
    pub fn capacity(&self, net: &DeviceNet, walk: &Walk, rows: usize) -> usize {
        let fits = (self.slot / walk.widest).min(self.partial / walk.slices).min(self.rows);
        rows_at_once(net, walk, self.batch, rows, fits)
    }
}

/// Rows of a walk at once, where memory has room for `fits` (`rows`: output rows of a box): in whole tiles for every box, a tile a box
/// at least.
fn rows_at_once(net: &DeviceNet, walk: &Walk, batch: usize, rows: usize, fits: usize) -> usize {
    let n = walk.target.map_or(rows, |layer| 2 * net.layers[layer].len());
    let wanted = batch * n.next_multiple_of(TILE);
    let unit = batch * TILE;
    (wanted.min(fits).min(step_rows(walk)) / unit * unit).max(unit)
}

/// Rows whose largest product takes no more than a step.
fn step_rows(walk: &Walk) -> usize {
    usize::try_from(STEP / (2 * walk.heaviest as u64)).unwrap_or(usize::MAX)
}

/// Bytes that one row of a walk takes.
fn row_bytes(net: &DeviceNet, walk: &Walk) -> usize {
    net.walks.slots * walk.widest * 4 + walk.slices * 16 + 16
}

/// Bytes that a plan counts with.
struct Sizes {
    /// All that is kept for a box, without rows.
    per_box: usize,
    /// What a column of intervals takes.
    per_column: usize,
    /// The largest binding's bytes for a box.
    widest_box: usize,
}

impl Sizes {
    fn new(net: &DeviceNet, rows: usize) -> Self {
        let widest = pitch(net.widest().max(rows));
        let neurons: usize = net.layers.iter().map(|l| pitch(l.len())).sum();
        let active: usize = net.layers.iter().filter(|l| l.is_compact()).map(|l| 8 * pitch(l.len())).sum();
        let form = rows * pitch(net.n_in()) * 4;
        let query = form + rows * (pitch(net.n_out() + 1) + 10) * 4;
        let most = net.widest();
        Self {
            // lower, upper, refined, weight_sum and two vectors a neuron; the input's box and lines; slots' place and state.
            per_box: neurons * 48 + active + 40 * pitch(net.n_in()) + query + 2 * widest * 12 + 3 * widest * 4 + 256,
            per_column: 6 * 4 * most,
            widest_box: (most * 32).max(form).max(query - form).max(2 * widest * 8),
        }
    }
}

/// How many candidates of an attack fit into half of what is free.
pub(super) fn attack_capacity(gpu: &Gpu, net: &DeviceNet) -> usize {
    let memory = gpu.memory();
    let values: usize = net.layers.iter().map(|l| 2 * l.len() * 4).sum();
    let each = values + 5 * pitch(net.n_in()) * 4 + 64;
    let free = usize::try_from((memory.budget.saturating_sub(memory.live)) / 2).unwrap_or(usize::MAX);
    let binding = usize::try_from(gpu.caps().max_binding).unwrap_or(usize::MAX) / (4 * net.widest());
    (free / each).min(binding / 32 * 32).clamp(1, CANDIDATES)
}

impl Selection {
    pub async fn new(gpu: &Gpu, batch: usize, n: usize) -> Result<Self> {
        Ok(Self {
            flags: Tensor::uninit_async(gpu, &[batch, n]).await?,
            list: Tensor::uninit_async(gpu, &[batch, n]).await?,
            count: Tensor::uninit_async(gpu, &[batch]).await?,
        })
    }

    /// The same memory for fewer elements.
    pub fn of(&self, batch: usize, n: usize) -> Result<Self> {
        let (flags, list) = (self.flags.reshaped(&[batch, n])?, self.list.reshaped(&[batch, n])?);
        Ok(Self { flags, list, count: self.count.clone() })
    }

    pub fn compact(&self, recording: &mut Recording, caps: &Caps) -> Result<()> {
        row_compact::record(recording, caps, &self.flags, &self.list, &self.count)
    }
}

impl LayerState {
    pub async fn new(gpu: &Gpu, batch: usize, n: usize, compact: bool) -> Result<Self> {
        let shape = [batch, n];
        Ok(Self {
            lower: Tensor::uninit_async(gpu, &shape).await?,
            upper: Tensor::uninit_async(gpu, &shape).await?,
            refined: Tensor::uninit_async(gpu, &shape).await?,
            weight_sum: Tensor::uninit_async(gpu, &shape).await?,
            lines: Tensor::uninit_async(gpu, &[batch * n * 8]).await?,
            active: if compact { Some(Selection::new(gpu, batch, n).await?) } else { None },
        })
    }
}

impl QueryState {
    pub async fn new(gpu: &Gpu, batch: usize, n_in: usize, spec: &Spec) -> Result<Self> {
        let shape = [batch, spec.rows];
        // The largest magnitude below the one that kernels refuse: no information.
        let nothing = vec![-(2.0_f32.powi(39)); batch * spec.rows];
        let rows = spec.coefficients.chunks(spec.outputs.max(1)).zip(&spec.rel);
        let matrix: Vec<f32> = rows.flat_map(|(row, &rel)| row.iter().copied().chain([rel])).collect();
        Ok(Self {
            spec: Tensor::from_slice_async(gpu, &[batch * spec.rows, spec.outputs + 1], &matrix).await?,
            lower: Tensor::from_slice_async(gpu, &shape, &nothing).await?,
            form: Tensor::uninit_async(gpu, &[batch * spec.rows, n_in]).await?,
            unused: Tensor::uninit_async(gpu, &shape).await?,
            used: Tensor::from_slice_async(gpu, &shape, &spec.used).await?,
            given: Tensor::from_slice_async(gpu, &[2 * batch * spec.rows], &spec.state).await?,
        })
    }
}

/// The rows of all boxes of a batch, padded to the same number of rows a box.
#[derive(Debug, Clone, Default)]
pub(super) struct Spec {
    pub rows: usize,
    pub outputs: usize,
    /// `outputs` numbers a row, in the network's order.
    pub coefficients: Vec<f32>,
    /// Bound on the relative error of a row's coefficients.
    pub rel: Vec<f32>,
    /// Constant and bound on its error.
    pub state: Vec<f32>,
    /// 1 for every row that counts.
    pub used: Vec<u32>,
}

impl Room {
    pub async fn new(gpu: &Gpu, net: &DeviceNet, plan: Plan, query_rows: usize) -> Result<Self> {
        let widest = net.layers.iter().map(|l| l.len()).max().unwrap_or(1);
        let elements = widest.max(query_rows);
        let slots = plan.batch * (2 * widest).max(query_rows);
        let mut memory = Vec::with_capacity(net.walks.slots);
        for _ in 0..net.walks.slots {
            memory.push(Tensor::uninit_async(gpu, &[plan.slot]).await?);
        }
        Ok(Self {
            slots: memory,
            partial: Tensor::uninit_async(gpu, &[plan.partial * 4]).await?,
            rows: Tensor::uninit_async(gpu, &[plan.rows, 4]).await?,
            row_of: Tensor::uninit_async(gpu, &[slots]).await?,
            row_count: Tensor::uninit_async(gpu, &[1]).await?,
            offset: Tensor::uninit_async(gpu, &[plan.batch]).await?,
            state: Tensor::uninit_async(gpu, &[2 * slots]).await?,
            arguments: gpu.allocate_arguments_async(net.walks.all().map(|w| w.grids).max().unwrap_or(1)).await?,
            all: Selection::new(gpu, plan.batch, elements).await?,
            chunk: Selection::new(gpu, plan.batch, elements).await?,
        })
    }

    /// One of the grids that `row_offsets` writes; only whole buffers are 256-aligned, so the offset travels apart.
    pub fn grid(&self, index: usize) -> Grid {
        Grid::Indirect(Binding { buffer: self.arguments.clone(), offset: 16 * index as u64, size: 12 })
    }
}

impl<T: crate::tensor::Element> Tensor<T> {
    /// The front of this memory as an array of another shape.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        self.view(shape).ok_or_else(|| Error::internal(format!("no room for {shape:?} in {:?}", self.shape())))
    }
}
