//! Labels in clusters of like rows, of which a sample asks the few whose centroids score best: an inverted file.
//!
//! Jégou, Douze and Schmid, "Product quantization for nearest neighbor search" (PAMI 2011), section 4, for distances; Auvolat et al.,
//! "Clustering is efficient for approximate maximum inner product search" (2015), for inner products. Rows are clustered by
//! distance (k-means); clusters are ranked by the inner product of `h` with their centroid, which is the mean logit of the
//! rows that it was learned from. A cluster that is asked is scored whole, so a label that is not found is one whose cluster was not asked.
//!
//! Rows are copied in the clusters' order, in blocks of 32 labels side by side. The pairs (sample, cluster) of a batch are sorted by cluster, and a
//! block is read once for all samples that ask for it. Kernels: `cluster_places`, `cluster_logits`, and `cluster_blocks` of [`Clusters::new_async`].

mod build;

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Control, Gpu, Grid, Kernel, Recording, params};
use crate::hash::predict::{Exact, Ids, MAX_K, TopK};
use crate::ops::{bindable, sort, windows, word};
use crate::tensor::Tensor;

const CLUSTER_PLACES: &str = include_str!("../../../shaders/hash/cluster_places.wgsl");
const CLUSTER_LOGITS: &str = include_str!("../../../shaders/hash/cluster_logits.wgsl");

/// Labels of a block: as the shaders have it.
const BLOCK: usize = 32;
/// Labels of the smallest clusters that can be asked for, in the mean.
const SMALL: usize = 16;
/// Logits of a batch that are stored at most.
const LOGITS: usize = 8 << 20;
/// Lanes of a workgroup, which share a block's labels, and samples for which it reads the block once: on GPUs, and on software devices.
const LAYOUT: [[usize; 2]; 2] = [[32, 4], [8, 8]];
/// Turns of an invocation's loops that software devices make, of the 65,535 that they can.
const TURNS: usize = 60_000;

params!(PlacesParams {
    samples: u32,
    probes: u32,
    ld_best: u32,
    clusters: u32,
    ld: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(LogitsParams { first: u32, pairs: u32, steps: u32, width4: u32, ld: u32, ld_h4: u32, pad0: u32, pad1: u32 });

/// How labels are clustered and asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Clusters; 0: twice the square root of the number of labels.
    pub clusters: usize,
    /// Clusters that a sample asks: 1 to 128.
    pub probes: usize,
    /// Rounds of k-means.
    pub rounds: usize,
    /// Of the rows that it begins with.
    pub seed: u64,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { clusters: 0, probes: 16, rounds: 6, seed: 0 }
    }
}

impl ClusterOptions {
    /// Refuses what cannot be had of so many labels.
    fn check(&self, labels: usize) -> Result<()> {
        let most = (labels / SMALL).max(2 * labels.isqrt()).max(1);
        if self.clusters > most {
            return Err(Error::bad_input(format!("{} clusters of {labels} labels", self.clusters))
                .with_help(format!("ask for at most {most} clusters: each fills blocks of {BLOCK} rows")));
        }
        if !(1..=MAX_K).contains(&self.probes) {
            return Err(Error::bad_input(format!("{} clusters that a sample asks", self.probes))
                .with_help(format!("ask for 1 to {MAX_K} clusters")));
        }
        Ok(())
    }

    /// Clusters of so many labels.
    fn count(&self, labels: usize) -> usize {
        let wanted = if self.clusters == 0 { 2 * labels.isqrt() } else { self.clusters };
        wanted.clamp(1, labels.max(1))
    }
}

/// The rows of labels in clusters, on a device.
#[derive(Debug, Clone)]
pub struct Clusters {
    /// `[clusters, width]`.
    centroids: Tensor,
    /// `[blocks, width / 4, BLOCK]` vectors of four.
    blocks: Tensor,
    /// `[blocks, BLOCK]`: labels, `u32::MAX` for none.
    labels: Tensor<u32>,
    /// `[blocks, 4]`: the cluster, and the block's number in it.
    owners: Tensor<u32>,
    /// `[clusters, 4]`: first block, blocks, labels.
    sizes: Tensor<u32>,
    probes: usize,
    /// Blocks of each cluster, the most first.
    longest: Vec<usize>,
}

/// Memory for asking clusters, for batches of one size.
#[derive(Debug, Clone)]
pub struct ClusterRoom {
    /// The ranking.
    pub top: TopK,
    /// `[samples]`: how many labels were scored.
    pub scored: Tensor<u32>,
    /// The ranking of clusters.
    pub asked: Exact,
    sort: sort::Workspace,
    /// `[samples * probes]`: clusters and where their logits go, as they come and sorted.
    keys: [Tensor<u32>; 2],
    places: [Tensor<u32>; 2],
    /// `[samples]`: columns of each that hold something.
    columns: Tensor<u32>,
    /// `[samples, columns]`.
    logits: Tensor,
    list: Tensor<u32>,
}

impl Clusters {
    /// Number of clusters.
    pub fn count(&self) -> usize {
        self.centroids.shape()[0]
    }

    /// `[clusters, width]`: the means of the rows that they were learned from.
    pub fn centroids(&self) -> &Tensor {
        &self.centroids
    }

    /// The labels of each cluster, ascending.
    ///
    /// # Errors
    /// Those of [`Gpu::run_async`].
    pub async fn members_async(&self, gpu: &Gpu) -> Result<Vec<Vec<u32>>> {
        let mut recording = Recording::new();
        let (labels, owners) = (self.labels.record_read(&mut recording), self.owners.record_read(&mut recording));
        let mut output = gpu.run_async(&recording, &Control::default()).await?;
        let (labels, owners) = (self.labels.take(&mut output, labels), self.owners.take(&mut output, owners));
        let mut members = vec![Vec::new(); self.count()];
        for (block, owner) in labels.chunks_exact(BLOCK).zip(owners.chunks_exact(4)) {
            members[owner[0] as usize].extend(block.iter().filter(|&&label| label != u32::MAX));
        }
        Ok(members)
    }

    /// Blocking twin of [`Clusters::members_async`].
    ///
    /// # Errors
    /// Those of [`Clusters::members_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn members(&self, gpu: &Gpu) -> Result<Vec<Vec<u32>>> {
        pollster::block_on(self.members_async(gpu))
    }

    /// Blocking twin of [`Clusters::room_async`].
    ///
    /// # Errors
    /// Those of [`Clusters::room_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn room(&self, gpu: &Gpu, samples: usize, k: usize) -> Result<ClusterRoom> {
        pollster::block_on(self.room_async(gpu, samples, k))
    }

    /// Labels that the clusters of a sample have at most, with those that fill blocks up.
    fn most(&self) -> usize {
        BLOCK * self.longest.iter().take(self.probes).sum::<usize>()
    }

    /// Samples that can be asked at once: as many as their logits, and a software device's loops, have room for.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`] if that is none.
    pub fn together(&self, caps: &Caps) -> Result<usize> {
        let bound = usize::try_from(caps.max_binding / 4).unwrap_or(usize::MAX);
        let room = LOGITS.min(bound) / self.most();
        let turns = if caps.is_software() { TURNS / (self.centroids.columns() / 4) * LAYOUT[1][1] } else { usize::MAX };
        if room == 0 {
            let what = format!("a sample whose {} clusters have up to {} labels", self.probes, self.most());
            return Err(Error::new(ErrorKind::TooBig, what).with_help("ask fewer clusters, or make more of them"));
        }
        Ok(room.min(turns.max(1)))
    }

    /// Memory for the best `k` labels of `samples` samples.
    ///
    /// # Errors
    /// Those of [`TopK::new_async`]; [`ErrorKind::TooBig`] for more samples than [`Clusters::together`] says.
    pub async fn room_async(&self, gpu: &Gpu, samples: usize, k: usize) -> Result<ClusterRoom> {
        let together = self.together(gpu.caps())?;
        if samples > together {
            return Err(Error::new(ErrorKind::TooBig, format!("{samples} samples that ask clusters at once"))
                .with_help(format!("ask for at most {together} samples at once")));
        }
        let columns = self.centroids.columns();
        let (pairs, bits) = (samples * self.probes, usize::BITS - self.count().leading_zeros());
        let words = async || Tensor::uninit_async(gpu, &[pairs]).await;
        Ok(ClusterRoom {
            top: TopK::new_async(gpu, samples, k).await?,
            scored: Tensor::uninit_async(gpu, &[samples]).await?,
            asked: Exact::new_async(gpu, samples, self.count(), columns, self.probes).await?,
            sort: sort::Workspace::new_async(gpu, 1, pairs, bits).await?,
            keys: [words().await?, words().await?],
            places: [words().await?, words().await?],
            columns: Tensor::uninit_async(gpu, &[samples]).await?,
            logits: Tensor::uninit_async(gpu, &[samples, self.most()]).await?,
            list: Tensor::uninit_async(gpu, &[samples, self.most()]).await?,
        })
    }

    /// Records the ranking of the labels of the best clusters for `h` `[samples, width]`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] for operands larger than a binding.
    pub fn record(&self, recording: &mut Recording, caps: &Caps, h: &Tensor, room: &ClusterRoom) -> Result<()> {
        let samples = room.columns.len();
        if h.shape() != [samples, self.centroids.columns()] || room.keys[0].len() != samples * self.probes {
            return Err(Error::internal(format!("{samples} samples ask clusters with {:?}", h.shape())));
        }
        room.asked.record(recording, caps, h, &self.centroids)?;
        self.place(recording, caps, room)?;
        let [keys, sorted_keys] = &room.keys;
        let [places, sorted_places] = &room.places;
        let operands =
            sort::Operands { keys, payload: Some(places), out_keys: sorted_keys, out_payload: sorted_places };
        sort::record(recording, caps, &room.sort, &operands)?;
        self.score(recording, caps, h, room)?;
        room.top.clear(recording);
        room.top.record(recording, caps, &room.logits, Ids::Counted(&room.list, &room.columns))
    }

    /// Records where the logits of each sample's clusters go.
    fn place(&self, recording: &mut Recording, caps: &Caps, room: &ClusterRoom) -> Result<()> {
        let samples = room.columns.len();
        let best = room.asked.top.words_of_best();
        let params = PlacesParams {
            samples: word(samples)?,
            probes: word(self.probes)?,
            ld_best: word(best.row_stride())?,
            clusters: word(self.count())?,
            ld: word(room.logits.row_stride())?,
            ..Default::default()
        };
        let bindings = vec![
            best.binding(),
            self.sizes.binding(),
            room.keys[0].binding(),
            room.places[0].binding(),
            room.columns.binding(),
            room.scored.binding(),
        ];
        bindable(caps, &bindings)?;
        let grid = Grid::Direct([word(samples.div_ceil(64))?, 1, 1]);
        recording.dispatch(&places_kernel(), bindings, &params, grid, 8.0 * room.keys[0].len() as f64)
    }

    /// Records the logits of the clusters that are asked.
    fn score(&self, recording: &mut Recording, caps: &Caps, h: &Tensor, room: &ClusterRoom) -> Result<()> {
        let (count, stride) = (self.blocks.shape()[0], self.blocks.row_stride());
        let pairs = room.keys[1].len();
        let step = windows::step(&[stride], &[self.blocks.binding()], caps.max_binding)?;
        for first in (0..count).step_by(step.min(caps.max_workgroups as usize)) {
            let range = first..count.min(first + step.min(caps.max_workgroups as usize));
            let params = LogitsParams {
                first: word(first)?,
                pairs: word(pairs)?,
                steps: usize::BITS - pairs.leading_zeros(),
                width4: word(self.centroids.columns() / 4)?,
                ld: word(room.logits.row_stride())?,
                ld_h4: word(h.row_stride() / 4)?,
                ..Default::default()
            };
            let bindings = vec![
                h.binding(),
                windows::binding(&self.blocks, &range, stride, count)?,
                self.labels.binding(),
                self.owners.binding(),
                room.keys[1].binding(),
                room.places[1].binding(),
                room.logits.binding(),
                room.list.binding(),
            ];
            bindable(caps, &bindings)?;
            // What it would be if all clusters were alike.
            let share = self.probes as f64 / self.count() as f64;
            let work = 2.0 * share * (h.len() * range.len() * BLOCK) as f64;
            recording.dispatch(
                &logits_kernel(caps.is_software()),
                bindings,
                &params,
                Grid::Direct([word(range.len())?, 1, 1]),
                work,
            )?;
        }
        Ok(())
    }
}

fn places_kernel() -> Kernel {
    let (read, write) = (Access::Read, Access::Write);
    Kernel::new::<PlacesParams>("cluster_places", CLUSTER_PLACES, &[read, read, write, write, write, write])
}

fn logits_kernel(software: bool) -> Kernel {
    let (read, write) = (Access::Read, Access::Write);
    let bindings = [read, read, read, read, read, read, write, write];
    let [lanes, samples] = LAYOUT[usize::from(software)];
    Kernel::new::<LogitsParams>("cluster_logits", CLUSTER_LOGITS, &bindings)
        .define("LANES", lanes)
        .define("LABELS", BLOCK / lanes)
        .define("SAMPLES", samples)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [vec![places_kernel(), logits_kernel(false), logits_kernel(true)], build::catalogue()].concat()
}
