//! Device memory of a batch of boxes: bounds and lines of layers, output rows, and the room for rows on their way back.

use super::attack::CANDIDATES;
use super::network::DeviceChain;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Binding, Buffer, Caps, Gpu, Grid, Recording};
use crate::ops::matmul::{self, Variant};
use crate::ops::row_compact;
use crate::tensor::{Tensor, pitch};

/// Bounds and lines of one layer's outputs before its ReLU, for every box.
#[derive(Debug)]
pub(super) struct LayerState {
    /// `[batch, n]`.
    pub lower: Tensor,
    /// `[batch, n]`.
    pub upper: Tensor,
    /// `[batch, n]`: which neurons were chosen for back-substitution.
    pub refined: Tensor<u32>,
    pub weight_sum: Tensor,
    pub lines: Tensor,
    pub active: Selection,
}

/// Flags of elements, and their compaction.
#[derive(Debug)]
pub(super) struct Selection {
    pub flags: Tensor<u32>,
    pub list: Tensor<u32>,
    pub count: Tensor<u32>,
}

/// The rows to bound on the network's outputs.
#[derive(Debug)]
pub(super) struct QueryState {
    /// `[batch * rows, outputs + 1]`: the coefficients, then a bound on their relative error.
    pub spec: Tensor,
    /// `[batch, rows]`: best lower bound of each row.
    pub lower: Tensor,
    /// `[batch * rows, inputs]`: the coefficients of each row's linear lower bound on the inputs, for rows that got so far.
    pub form: Tensor,
    pub unused: Tensor,
    pub selection: Selection,
    /// `(constant, error)` of every row.
    pub state: Tensor,
}

/// Room for rows on their way back to the input.
#[derive(Debug)]
pub(super) struct Walk {
    pub capacity: usize,
    pub planes: Tensor,
    pub out: Tensor,
    pub partial: Tensor,
    pub rows: Tensor<u32>,
    pub row_of: Tensor<u32>,
    pub row_count: Tensor<u32>,
    pub offset: Tensor<u32>,
    pub state: Tensor,
    pub arguments: Buffer,
}

/// How many boxes a batch holds and how many rows walk at once, so that all of it fits the adapter and the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Boxes of a batch.
    pub batch: usize,
    /// Rows of a walk, a multiple of a tile for every box.
    pub capacity: usize,
}

/// Most operations of the product of one walk step: a fraction of a second on a small GPU, as an indirect dispatch is never cut.
const STEP: u64 = 40_000_000_000;

impl Plan {
    /// A plan for at most `boxes` boxes of `rows` output rows each.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`] if not even one box fits, with what it needs.
    pub fn new(gpu: &Gpu, net: &DeviceChain, boxes: usize, rows: usize) -> Result<Self> {
        let memory = gpu.memory();
        Self::fit(gpu.caps(), memory.budget.saturating_sub(memory.live), net, boxes, rows)
    }

    fn fit(caps: &Caps, free: u64, net: &DeviceChain, boxes: usize, rows: usize) -> Result<Self> {
        let sizes = Sizes::new(net, rows);
        let tile = Variant::choose(caps, net.widest()).tile().0 as usize;
        // An eighth stays free: pages are not filled to the last byte.
        let free = usize::try_from(free / 8 * 7).unwrap_or(usize::MAX);
        let binding = usize::try_from(caps.max_binding).unwrap_or(usize::MAX);
        let least = rows.next_multiple_of(tile);
        let most_rows = (binding / sizes.widest_row)
            .min(2 * caps.max_workgroups as usize)
            .min(usize::try_from(STEP / (2 * sizes.widest_product as u64).max(1)).unwrap_or(usize::MAX))
            .max(least);
        let batch = boxes
            .min(free / (sizes.per_box + least * sizes.per_row))
            .min(binding / sizes.widest_box)
            .min(binding / (least * sizes.widest_row))
            .min(most_rows / least)
            .min(caps.max_workgroups as usize);
        if batch == 0 {
            let need = sizes.per_box + least * sizes.per_row;
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("one box with {rows} output rows needs {need} bytes of device memory; {free} are free, {binding} bind at once"),
            )
            .with_help("raise the memory budget (`--memory MIB`), or use an adapter with larger bindings"));
        }
        let left = (free - batch * sizes.per_box) / sizes.per_row;
        let wanted = batch * sizes.neurons_rows.next_multiple_of(tile).max(least);
        let unit = batch * tile;
        let capacity = wanted.min(left).min(most_rows).min(binding / sizes.widest_row) / unit * unit;
        Ok(Self { batch, capacity: capacity.max(batch * least) })
    }
}

/// Bytes that a plan counts with.
struct Sizes {
    /// All that is kept for a box, without rows.
    per_box: usize,
    /// The largest binding's bytes for a box.
    widest_box: usize,
    /// All that is kept for a row of a walk.
    per_row: usize,
    /// The largest binding's bytes for a row.
    widest_row: usize,
    /// Rows that one box may want: two for each neuron of the widest layer.
    neurons_rows: usize,
    /// Terms of the largest product of one row.
    widest_product: usize,
}

impl Sizes {
    fn new(net: &DeviceChain, rows: usize) -> Self {
        let (most_in, most_out) = (net.widest_in(), net.widest_out());
        let planes_in = net.layers.iter().map(|l| l.n_in.div_ceil(matmul::CHUNK)).max().unwrap_or(1);
        let planes_out = most_out.div_ceil(matmul::CHUNK).max(1);
        let neurons: usize = net.layers.iter().map(|l| pitch(l.n_out)).sum();
        let interval = (3 * pitch(most_in) + 3 * planes_in * pitch(most_out)) * 4;
        let form = rows * pitch(net.n_in()) * 4;
        let query = form + rows * (pitch(net.n_out() + 1) + 10) * 4;
        let slots = (2 * most_out).max(rows) * 12;
        Self {
            // lower, upper, refined, weight_sum, flags, list and two vectors a neuron.
            per_box: neurons * (6 * 4 + 32) + 2 * pitch(net.n_in()) * 4 + interval + query + slots + 64,
            widest_box: (2 * planes_in * pitch(most_out) * 4)
                .max(most_out * 32)
                .max(form)
                .max(query - form)
                .max(slots),
            per_row: (planes_out + 1) * pitch(net.widest()) * 4 + 32 * 16 + 16,
            widest_row: (planes_out * pitch(net.widest()) * 4).max(32 * 16),
            neurons_rows: 2 * most_out,
            widest_product: net.layers.iter().map(|l| l.n_in * l.n_out).max().unwrap_or(1),
        }
    }
}

/// How many candidates of an attack fit into half of what is free.
pub(super) fn attack_capacity(gpu: &Gpu, net: &DeviceChain) -> usize {
    let memory = gpu.memory();
    let values: usize = net.layers.iter().map(|l| 3 * pitch(l.n_out) * 4).sum();
    let each = values + 5 * pitch(net.n_in()) * 4 + 64;
    let free = usize::try_from((memory.budget.saturating_sub(memory.live)) / 2).unwrap_or(usize::MAX);
    (free / each).clamp(1, CANDIDATES)
}

impl Selection {
    pub async fn new(gpu: &Gpu, batch: usize, n: usize) -> Result<Self> {
        Ok(Self {
            flags: Tensor::uninit_async(gpu, &[batch, n]).await?,
            list: Tensor::uninit_async(gpu, &[batch, n]).await?,
            count: Tensor::uninit_async(gpu, &[batch]).await?,
        })
    }

    pub fn compact(&self, recording: &mut Recording, caps: &Caps) -> Result<()> {
        row_compact::record(recording, caps, &self.flags, &self.list, &self.count)
    }
}

impl LayerState {
    pub async fn new(gpu: &Gpu, batch: usize, n: usize) -> Result<Self> {
        let shape = [batch, n];
        Ok(Self {
            lower: Tensor::uninit_async(gpu, &shape).await?,
            upper: Tensor::uninit_async(gpu, &shape).await?,
            refined: Tensor::uninit_async(gpu, &shape).await?,
            weight_sum: Tensor::uninit_async(gpu, &shape).await?,
            lines: Tensor::uninit_async(gpu, &[batch * n * 8]).await?,
            active: Selection::new(gpu, batch, n).await?,
        })
    }
}

impl QueryState {
    pub async fn new(gpu: &Gpu, batch: usize, n_in: usize, spec: &Spec) -> Result<Self> {
        let shape = [batch, spec.rows];
        let selection = Selection::new(gpu, batch, spec.rows).await?;
        selection.flags.write(gpu, &spec.used)?;
        // The largest magnitude below the one that kernels refuse: no information.
        let nothing = vec![-(2.0_f32.powi(39)); batch * spec.rows];
        let rows = spec.coefficients.chunks(spec.outputs.max(1)).zip(&spec.rel);
        let matrix: Vec<f32> = rows.flat_map(|(row, &rel)| row.iter().copied().chain([rel])).collect();
        Ok(Self {
            spec: Tensor::from_slice_async(gpu, &[batch * spec.rows, spec.outputs + 1], &matrix).await?,
            lower: Tensor::from_slice_async(gpu, &shape, &nothing).await?,
            form: Tensor::uninit_async(gpu, &[batch * spec.rows, n_in]).await?,
            unused: Tensor::uninit_async(gpu, &shape).await?,
            selection,
            state: Tensor::from_slice_async(gpu, &[2 * batch * spec.rows], &spec.state).await?,
        })
    }
}

/// The rows of all boxes of a batch, padded to the same number of rows a box.
#[derive(Debug, Default)]
pub(super) struct Spec {
    pub rows: usize,
    pub outputs: usize,
    /// `outputs` numbers a row.
    pub coefficients: Vec<f32>,
    /// Bound on the relative error of a row's coefficients.
    pub rel: Vec<f32>,
    /// Constant and bound on its error.
    pub state: Vec<f32>,
    /// 1 for every row that counts.
    pub used: Vec<u32>,
}

impl Walk {
    pub async fn new(gpu: &Gpu, net: &DeviceChain, plan: Plan, query_rows: usize) -> Result<Self> {
        let Plan { batch, capacity } = plan;
        let planes = net.widest_out().div_ceil(matmul::CHUNK).max(1);
        let slots = batch * (2 * net.widest_out()).max(query_rows);
        Ok(Self {
            capacity,
            planes: Tensor::uninit_async(gpu, &[planes, capacity, net.widest()]).await?,
            out: Tensor::uninit_async(gpu, &[capacity, net.widest()]).await?,
            partial: Tensor::uninit_async(gpu, &[capacity * 128]).await?,
            rows: Tensor::uninit_async(gpu, &[capacity, 4]).await?,
            row_of: Tensor::uninit_async(gpu, &[slots]).await?,
            row_count: Tensor::uninit_async(gpu, &[1]).await?,
            offset: Tensor::uninit_async(gpu, &[batch]).await?,
            state: Tensor::uninit_async(gpu, &[2 * slots]).await?,
            arguments: gpu.allocate_arguments_async().await?,
        })
    }

    /// Words 4 i to 4 i + 2 of the arguments; only whole buffers are 256-aligned, so the offset travels apart.
    pub fn grid(&self, index: u64) -> Grid {
        Grid::Indirect(Binding { buffer: self.arguments.clone(), offset: 16 * index, size: 12 })
    }
}
