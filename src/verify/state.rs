//! Device memory of a batch of boxes: bounds and lines of layers, output rows, and the room for rows on their way back.

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
    /// `[batch * rows, outputs]`.
    pub spec: Tensor,
    /// `[batch, rows]`: best lower bound of each row.
    pub lower: Tensor,
    /// `[batch * rows, inputs]`: where the linear lower bound of each row is least, for rows that got so far.
    pub corner: Tensor,
    pub unused: Tensor,
    pub selection: Selection,
    /// `(constant, error)` of every row.
    pub state: Tensor,
    /// Bound on the relative error of the coefficients.
    pub rel: f32,
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

/// How many rows a walk over this network may hold at once under a budget, at least one tile.
fn row_capacity(caps: &Caps, net: &DeviceChain, wanted: usize, budget: u64) -> usize {
    let width = pitch(net.widest()) as u64;
    let planes = net.layers.iter().map(|l| l.n_out.div_ceil(matmul::CHUNK)).max().unwrap_or(1) as u64;
    let of_binding = caps.max_binding / (planes * width * 4);
    let of_budget = budget / ((planes + 1) * width * 4 + 32 * 16);
    let limit = usize::try_from(of_binding.min(of_budget)).unwrap_or(usize::MAX);
    // Two rows a workgroup, in one dimension of the grid.
    wanted.min(limit).min(2 * caps.max_workgroups as usize)
}

/// How many boxes one batch may hold: all that is kept for a box, and at least a tile of rows for each.
pub(super) fn batch_capacity(gpu: &Gpu, net: &DeviceChain, rows: usize) -> usize {
    let neurons: usize = net.layers.iter().map(|l| pitch(l.n_out)).sum();
    let widest = pitch(net.widest());
    let tile = Variant::choose(gpu.caps(), widest).tile().0 as usize;
    let planes = net.layers.iter().map(|l| l.n_in.div_ceil(matmul::CHUNK)).max().unwrap_or(1);
    let fixed = neurons * (16 + 24 + 32)
        + widest * 4 * (5 + 3 * planes + 8)
        + rows * (pitch(net.n_out()) + pitch(net.n_in()) + 8) * 4;
    let row = (net.layers.iter().map(|l| l.n_out.div_ceil(matmul::CHUNK)).max().unwrap_or(1) + 1) * widest * 4 + 560;
    let per_box =
        (fixed + row * (2 * widest).next_multiple_of(tile).min(8 * tile).max(rows.next_multiple_of(tile))) as u64;
    let budget = gpu.memory().budget / 2;
    let by_binding = gpu.caps().max_binding / (widest as u64 * 4 * 8).max(1);
    usize::try_from((budget / per_box.max(1)).min(by_binding)).unwrap_or(usize::MAX).clamp(1, 4096)
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
    /// `coefficients` `[batch * rows, outputs]`, `state` two numbers a row, `used` 1 for every row that counts.
    pub async fn new(gpu: &Gpu, batch: usize, n_in: usize, spec: &Spec) -> Result<Self> {
        let shape = [batch, spec.rows];
        let selection = Selection::new(gpu, batch, spec.rows).await?;
        selection.flags.write(gpu, &spec.used)?;
        // The largest magnitude below the one that kernels refuse: no information.
        let nothing = vec![-(2.0_f32.powi(39)); batch * spec.rows];
        Ok(Self {
            spec: Tensor::from_slice_async(gpu, &[batch * spec.rows, spec.outputs], &spec.coefficients).await?,
            lower: Tensor::from_slice_async(gpu, &shape, &nothing).await?,
            corner: Tensor::uninit_async(gpu, &[batch * spec.rows, n_in]).await?,
            unused: Tensor::uninit_async(gpu, &shape).await?,
            selection,
            state: Tensor::from_slice_async(gpu, &[2 * batch * spec.rows], &spec.state).await?,
            rel: spec.rel,
        })
    }
}

/// The rows of all boxes of a batch, padded to the same number of rows a box.
#[derive(Debug, Default)]
pub(super) struct Spec {
    pub rows: usize,
    pub outputs: usize,
    pub coefficients: Vec<f32>,
    pub state: Vec<f32>,
    pub used: Vec<u32>,
    pub rel: f32,
}

impl Walk {
    pub async fn new(gpu: &Gpu, net: &DeviceChain, batch: usize, query_rows: usize) -> Result<Self> {
        let tile = Variant::choose(gpu.caps(), net.widest()).tile().0 as usize;
        let most = net.layers.iter().map(|l| 2 * l.n_out).max().unwrap_or(2).max(query_rows);
        let wanted = batch * most.next_multiple_of(tile);
        let capacity = row_capacity(gpu.caps(), net, wanted, gpu.memory().budget / 2) / (batch * tile) * (batch * tile);
        if capacity < batch * query_rows.next_multiple_of(tile).max(tile) {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!(
                    "{query_rows} rows of width {} for {batch} boxes exceed the adapter or the budget",
                    net.widest()
                ),
            )
            .with_help("raise the memory budget (`--memory`) or use an adapter with larger bindings"));
        }
        let planes = net.layers.iter().map(|l| l.n_out.div_ceil(matmul::CHUNK)).max().unwrap_or(1);
        let slots = batch * net.layers.iter().map(|l| 2 * l.n_out).max().unwrap_or(2).max(query_rows);
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
