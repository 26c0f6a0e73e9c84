//! Which labels are scored for a sample where not all are: what hash tables return, or clusters of like rows.

use super::clusters::{ClusterOptions, ClusterRoom, Clusters};
use super::lsh::{Hasher, LshOptions, LshTables, Query, QueryWorkspace};
use super::network::Network;
use super::predict::{Sparse, TopK};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Caps, Control, Gpu, Recording};
use crate::tensor::Tensor;

/// How labels are short-listed.
#[derive(Debug, Clone, PartialEq)]
pub enum Shortlist {
    /// Those that share a bucket with the sample's hidden vector.
    Tables(LshOptions),
    /// Those of the clusters whose centroids score best.
    Clusters(ClusterOptions),
}

/// What a short list is looked up in, made of a network's rows.
pub(super) enum Index {
    Tables { hasher: Hasher, tables: LshTables, workspace: QueryWorkspace },
    Clusters(Clusters),
}

/// Memory for looking up, and for ranking what was found, for batches of one size.
pub(super) enum Room {
    Tables { ranking: Box<Sparse>, candidates: Tensor<u32> },
    Clusters(Box<ClusterRoom>),
}

impl Index {
    /// For up to `samples` samples at once.
    pub(super) async fn new_async(
        network: &Network,
        shortlist: &Shortlist,
        samples: usize,
        control: &Control,
    ) -> Result<Self> {
        let gpu = network.gpu();
        match shortlist {
            Shortlist::Clusters(options) => {
                Ok(Self::Clusters(Clusters::new_async(gpu, &network.output, options, control).await?))
            }
            Shortlist::Tables(options) => {
                let rows = network.label_rows_async().await?;
                let hasher = Hasher::new_async(gpu, options, network.hidden().elements, 0).await?;
                let tables = LshTables::new_async(gpu, network.labels(), options).await?;
                let mut recording = Recording::new();
                tables.record_build(&mut recording, gpu.caps(), &hasher, &rows)?;
                gpu.run_async(&recording, control).await?;
                let workspace = QueryWorkspace::new_async(gpu, options, samples).await?;
                Ok(Self::Tables { hasher, tables, workspace })
            }
        }
    }

    /// Samples that can be asked at once, of so many.
    pub(super) fn together(&self, caps: &Caps, samples: usize) -> Result<usize> {
        match self {
            Self::Tables { tables, .. } => {
                let count = Query::all(tables.options(), 0).candidates();
                let bound = usize::try_from(caps.max_binding / 4).unwrap_or(usize::MAX);
                let most = bound / Sparse::widest(count, tables.labels());
                if most == 0 {
                    let what = format!("a sample of {count} candidates among {} labels", tables.labels());
                    let help = "take fewer tables or smaller buckets, or ask clusters";
                    return Err(Error::new(ErrorKind::TooBig, what).with_help(help));
                }
                Ok(most.min(samples))
            }
            Self::Clusters(clusters) => Ok(clusters.together(caps)?.min(samples)),
        }
    }

    /// Memory for the best `k` labels of `samples` samples.
    pub(super) async fn room_async(&self, gpu: &Gpu, samples: usize, k: usize) -> Result<Room> {
        Ok(match self {
            Self::Clusters(clusters) => Room::Clusters(Box::new(clusters.room_async(gpu, samples, k).await?)),
            Self::Tables { tables, .. } => {
                let count = Query::all(tables.options(), 0).candidates();
                let candidates = Tensor::uninit_async(gpu, &[samples, count]).await?;
                Room::Tables {
                    ranking: Box::new(Sparse::new_async(gpu, samples, count, tables.labels(), k).await?),
                    candidates,
                }
            }
        })
    }

    /// Records the ranking of what is found for `h` `[samples, width]`; `rows` are those of all labels.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        h: &Tensor,
        rows: &Tensor,
        room: &Room,
    ) -> Result<()> {
        match (self, room) {
            (Self::Clusters(clusters), Room::Clusters(room)) => clusters.record(recording, caps, h, room),
            (Self::Tables { hasher, tables, workspace }, Room::Tables { ranking, candidates }) => {
                let query = Query::all(tables.options(), 0);
                tables.record_query(recording, caps, hasher, h, workspace, &query, candidates)?;
                ranking.record(recording, caps, h, rows, candidates)
            }
            _ => Err(Error::internal("room of another index")),
        }
    }
}

impl Room {
    /// The ranking.
    pub(super) fn top(&self) -> &TopK {
        match self {
            Self::Tables { ranking, .. } => &ranking.top,
            Self::Clusters(room) => &room.top,
        }
    }

    /// The ranking of clusters, where there is one: it has faults of its own.
    pub(super) fn asked(&self) -> Option<&TopK> {
        match self {
            Self::Tables { .. } => None,
            Self::Clusters(room) => Some(&room.asked.top),
        }
    }

    /// `[samples]`: how many labels were scored.
    pub(super) fn scored(&self) -> &Tensor<u32> {
        match self {
            Self::Tables { ranking, .. } => &ranking.scored,
            Self::Clusters(room) => &room.scored,
        }
    }
}
