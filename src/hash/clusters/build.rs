//! Clusters from rows: Lloyd's k-means (1982) with products on the device and sums on the host. Kernel: `cluster_blocks`.

use super::{BLOCK, ClusterOptions, Clusters};
use crate::error::{Error, Result};
use crate::gpu::{Access, Control, Gpu, Grid, Kernel, Recording, params};
use crate::hash::Rows;
use crate::hash::layer::shared;
use crate::hash::predict::{Ids, TopK};
use crate::ops::matmul::Matmul;
use crate::ops::random::{Stream, purpose};
use crate::ops::{bindable, strided_grid, windows, word};
use crate::tensor::{ALIGNED, Tensor};

const CLUSTER_BLOCKS: &str = include_str!("../../../shaders/hash/cluster_blocks.wgsl");

/// Rows of a cluster that its centroid is learned from, in the mean.
const LEARNED: usize = 64;
/// Rows that are gathered at a time, a multiple of what bindings are aligned to; and their scores at most.
const TOGETHER: usize = 1 << 12;
const SCORES: usize = 8 << 20;

params!(BlocksParams { len: u32, threads: u32, width4: u32, pad0: u32 });

/// Memory for giving rows to their nearest centroids.
struct Desk {
    gpu: Gpu,
    /// `[together, width]`.
    panel: Tensor,
    /// `[together, clusters]`.
    scores: Tensor,
    nearest: TopK,
}

impl Clusters {
    /// Clusters of the rows of a table, which must be up to date.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for options that cannot be had and for weights that are not finite; those of the device.
    pub async fn new_async(gpu: &Gpu, table: &Rows, options: &ClusterOptions, control: &Control) -> Result<Self> {
        options.check(table.len())?;
        let count = options.count(table.len());
        let desk = Desk::new_async(gpu, table, count).await?;
        let centroids = desk.learn_async(table, options, count, control).await?;
        let all: Vec<u32> = (0..word(table.len())?).collect();
        let nearest = desk.nearest_async(table, &all, &centroids, control).await?;
        let order = Order::new(&nearest, count)?;
        let clusters = Self {
            centroids: Tensor::from_slice_async(gpu, &[count, table.columns()], &centroids).await?,
            blocks: Tensor::uninit_async(gpu, &[order.owners.len() / 4, BLOCK * table.columns()]).await?,
            labels: Tensor::from_slice_async(gpu, &[order.owners.len() / 4, BLOCK], &order.labels).await?,
            owners: Tensor::from_slice_async(gpu, &[order.owners.len() / 4, 4], &order.owners).await?,
            sizes: Tensor::from_slice_async(gpu, &[count, 4], &order.sizes).await?,
            probes: options.probes.min(count),
            longest: order.longest(),
        };
        desk.fill_async(table, &order.labels, &clusters.blocks).await?;
        Ok(clusters)
    }

    /// Blocking twin of [`Clusters::new_async`].
    ///
    /// # Errors
    /// Those of [`Clusters::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, table: &Rows, options: &ClusterOptions, control: &Control) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, table, options, control))
    }
}

impl Desk {
    async fn new_async(gpu: &Gpu, table: &Rows, clusters: usize) -> Result<Self> {
        let most = usize::try_from(gpu.caps().max_binding / 4).unwrap_or(usize::MAX);
        let fits = (SCORES.min(most) / clusters.next_multiple_of(4)).min(most / table.columns());
        let together = (fits.min(TOGETHER) / ALIGNED * ALIGNED).max(ALIGNED);
        Ok(Self {
            gpu: gpu.clone(),
            panel: Tensor::uninit_async(gpu, &[together, table.columns()]).await?,
            scores: Tensor::uninit_async(gpu, &[together, clusters]).await?,
            nearest: TopK::new_async(gpu, together, 1).await?,
        })
    }

    /// Centroids `[clusters, width]` of a sample of the rows.
    async fn learn_async(
        &self,
        table: &Rows,
        options: &ClusterOptions,
        count: usize,
        control: &Control,
    ) -> Result<Vec<f32>> {
        let width = table.columns();
        let mut sample = Stream::new(options.seed).permutation(table.len(), 0, purpose::CLUSTER);
        sample.truncate(LEARNED * count);
        let rows = self.rows_async(table, &sample).await?;
        if let Some(at) = rows.iter().position(|x| !x.is_finite()) {
            let what = format!("the row of label {} is not finite", sample[at / width]);
            return Err(
                Error::bad_input(what).with_help("go back to an earlier checkpoint, or train with a lower rate")
            );
        }
        let mut centroids = rows[..count * width].to_vec();
        // Rounds are reported, not what they are made of.
        let quiet = Control { progress: None, ..control.clone() };
        for round in 0..options.rounds {
            control.report("learning clusters", round as u64, options.rounds as u64, "rounds");
            let nearest = self.nearest_async(table, &sample, &centroids, &quiet).await?;
            let mut sums = vec![0.0_f64; centroids.len()];
            let mut counts = vec![0_u32; count];
            for (row, &cluster) in rows.chunks_exact(width).zip(&nearest) {
                counts[cluster as usize] += 1;
                let sum = &mut sums[cluster as usize * width..][..width];
                sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            for (i, (centroid, sum)) in centroids.iter_mut().zip(&sums).enumerate() {
                // A centroid that no row is nearest to stays where it is.
                if counts[i / width] > 0 {
                    *centroid = (sum / f64::from(counts[i / width])) as f32;
                }
            }
        }
        Ok(centroids)
    }

    /// Records that the panel holds these rows, as many as it has at most; zeros where an id is no row.
    fn gather(&self, recording: &mut Recording, table: &Rows, ids: &Tensor<u32>) -> Result<()> {
        recording.clear(self.panel.binding());
        shared::panel(recording, self.gpu.caps(), table, ids, &self.panel)
    }

    /// The ids of a chunk, and none behind them.
    async fn ids_async(&self, some: &[u32]) -> Result<Tensor<u32>> {
        let mut ids = some.to_vec();
        ids.resize(self.panel.shape()[0], u32::MAX);
        Tensor::from_slice_async(&self.gpu, &[ids.len()], &ids).await
    }

    async fn rows_async(&self, table: &Rows, ids: &[u32]) -> Result<Vec<f32>> {
        let mut rows = Vec::with_capacity(ids.len() * table.columns());
        for some in ids.chunks(self.panel.shape()[0]) {
            let mut recording = Recording::new();
            self.gather(&mut recording, table, &self.ids_async(some).await?)?;
            let ticket = self.panel.record_read(&mut recording);
            let mut output = self.gpu.run_async(&recording, &Control::default()).await?;
            rows.extend_from_slice(&self.panel.take(&mut output, ticket)[..some.len() * table.columns()]);
        }
        Ok(rows)
    }

    /// The centroid that is nearest to each of these rows: that with the largest `x . c - |c|^2 / 2`, the lower one among equals.
    async fn nearest_async(&self, table: &Rows, ids: &[u32], centroids: &[f32], control: &Control) -> Result<Vec<u32>> {
        let (gpu, width) = (&self.gpu, table.columns());
        let half = |c: &[f32]| (-0.5 * c.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>()) as f32;
        let bias: Vec<f32> = centroids.chunks_exact(width).map(half).collect();
        let bias = Tensor::from_slice_async(gpu, &[bias.len()], &bias).await?;
        let centroids = Tensor::from_slice_async(gpu, &[bias.len(), width], centroids).await?;
        let product = Matmul { trans_b: true, bias: Some(&bias), ..Matmul::default() };
        let mut nearest = Vec::with_capacity(ids.len());
        for some in ids.chunks(self.panel.shape()[0]) {
            control.report("clustering", nearest.len() as u64, ids.len() as u64, "labels");
            let mut recording = Recording::new();
            self.gather(&mut recording, table, &self.ids_async(some).await?)?;
            product.record(&mut recording, gpu.caps(), &self.panel, &centroids, &self.scores)?;
            self.nearest.clear(&mut recording);
            self.nearest.record(&mut recording, gpu.caps(), &self.scores, Ids::Consecutive(0))?;
            let tickets = self.nearest.record_read(&mut recording);
            let mut output = gpu.run_async(&recording, control).await?;
            // Rows behind the last are zeros.
            let words = |row: usize, _| format!("the row of label {}", some[row.min(some.len() - 1)]);
            let ranking = self.nearest.take_of(&mut output, tickets, words)?;
            nearest.extend_from_slice(&ranking.labels[..some.len()]);
        }
        Ok(nearest)
    }

    /// Fills blocks with the rows of these labels.
    async fn fill_async(&self, table: &Rows, labels: &[u32], blocks: &Tensor) -> Result<()> {
        let (gpu, width) = (&self.gpu, table.columns());
        let together = self.panel.shape()[0];
        let (count, stride) = (blocks.shape()[0], blocks.row_stride());
        for (i, some) in labels.chunks(together).enumerate() {
            let first = i * together / BLOCK;
            let part = windows::binding(blocks, &(first..first + some.len() / BLOCK), stride, count)?;
            let len = word(some.len() * width / 4)?;
            let (groups, threads) = strided_grid(len as usize, gpu.caps().max_workgroups)?;
            let params = BlocksParams { len, threads, width4: word(width / 4)?, ..Default::default() };
            let bindings = vec![self.panel.binding(), part];
            bindable(gpu.caps(), &bindings)?;
            let mut recording = Recording::new();
            self.gather(&mut recording, table, &self.ids_async(some).await?)?;
            recording.dispatch(
                &blocks_kernel(),
                bindings,
                &params,
                Grid::Direct([groups, 1, 1]),
                f64::from(len) * 4.0,
            )?;
            gpu.run_async(&recording, &Control::default()).await?;
        }
        Ok(())
    }
}

/// Labels by cluster, each cluster from the start of a block.
struct Order {
    /// `[blocks, BLOCK]`: `u32::MAX` behind a cluster's last label.
    labels: Vec<u32>,
    /// `[blocks, 4]`: the cluster, and the block's number in it.
    owners: Vec<u32>,
    /// `[clusters, 4]`: first block, blocks, labels.
    sizes: Vec<u32>,
}

impl Order {
    /// Of labels whose cluster is known; ascending within a cluster.
    fn new(cluster_of: &[u32], clusters: usize) -> Result<Self> {
        let mut members = vec![Vec::new(); clusters];
        for (label, &cluster) in (0..).zip(cluster_of) {
            members[cluster as usize].push(label);
        }
        let mut order = Self { labels: Vec::new(), owners: Vec::new(), sizes: Vec::new() };
        for (cluster, members) in (0..).zip(members) {
            let (first, blocks) = (word(order.labels.len() / BLOCK)?, word(members.len().div_ceil(BLOCK))?);
            order.sizes.extend([first, blocks, word(members.len())?, 0]);
            order.owners.extend((0..blocks).flat_map(|block| [cluster, block, 0, 0]));
            order.labels.extend(members);
            order.labels.resize(order.labels.len().next_multiple_of(BLOCK), u32::MAX);
        }
        Ok(order)
    }

    /// Blocks of each cluster, the most first.
    fn longest(&self) -> Vec<usize> {
        let mut blocks: Vec<usize> = self.sizes.chunks_exact(4).map(|size| size[1] as usize).collect();
        blocks.sort_unstable_by(|a, b| b.cmp(a));
        blocks
    }
}

fn blocks_kernel() -> Kernel {
    Kernel::new::<BlocksParams>("cluster_blocks", CLUSTER_BLOCKS, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![blocks_kernel()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_begin_at_blocks() {
        let cluster_of: Vec<u32> =
            (0..70).map(|label| if label < 33 { 2 } else { u32::from(label % 2 == 0) * 3 }).collect();
        let order = Order::new(&cluster_of, 4).unwrap();
        assert_eq!(order.sizes, [0, 1, 19, 0, 1, 0, 0, 0, 1, 2, 33, 0, 3, 1, 18, 0]);
        assert_eq!(order.owners, [0, 0, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0, 3, 0, 0, 0]);
        assert_eq!(order.labels[..3], [33, 35, 37]);
        assert_eq!(order.labels[19..34], [vec![u32::MAX; 13], vec![0, 1]].concat());
        assert_eq!(order.labels[64..66], [32, u32::MAX]);
        assert_eq!((order.labels.len(), order.longest()), (128, vec![2, 1, 1, 0]));
    }
}
