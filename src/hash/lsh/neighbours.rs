//! Neighbours of labels: those whose own rows fall into the same buckets most often. Kernel: `lsh_neighbours`.
//!
//! LSH-Label (Daghaghi and others: *A tale of two efficient and informative negative sampling distributions*, ICML 2021): the labels
//! near a sample's own label are its hard negatives, and they stay the same between rebuilds.

use super::query::{Keys, Query};
use super::tables::LshTables;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::ops::{bindable, sort, word};
use crate::tensor::Tensor;

const LSH_NEIGHBOURS: &str = include_str!("../../../shaders/hash/lsh_neighbours.wgsl");
/// Counters of a lane of the kernel.
const COUNTERS: u32 = 128;
/// Most bytes of the candidates of the labels of a piece.
const PIECE_BYTES: usize = 8 << 20;
/// Most candidates and neighbours of a label: an invocation walks them twice, four at a time, and loops of software devices end after
/// 65,535 turns.
const MOST: usize = 65_536;

params!(LshNeighboursParams {
    rows: u32,
    first: u32,
    quads: u32,
    count: u32,
    stride_out: u32,
    least: u32,
    pad0: u32,
    pad1: u32,
});

/// What it takes to find neighbours: memory for the candidates of one piece of the labels.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// Tables in which two labels meet before one counts as a neighbour of the other.
    pub least: usize,
    query: Query,
    piece: usize,
    ranges: Tensor<u32>,
    candidates: Tensor<u32>,
    sorted: Tensor<u32>,
    places: Tensor<u32>,
    /// For whole pieces and for the last one.
    sorts: [sort::Workspace; 2],
}

impl Neighbours {
    /// For these tables, as many of them as `query` says, and neighbours that meet in at least `least` of them. Time and
    /// memory follow [`Query::candidates`], so a look-up here may take fewer ids of a bucket than one in training.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if the look-up cannot be had or gives more candidates than a label can have; those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, tables: &LshTables, query: &Query, least: usize) -> Result<Self> {
        Self::with_async(gpu, tables, query, least, PIECE_BYTES).await
    }

    /// [`Neighbours::new_async`], with the most bytes of the candidates of a piece; they never change a result.
    ///
    /// # Errors
    /// Those of [`Neighbours::new_async`].
    pub async fn with_async(
        gpu: &Gpu,
        tables: &LshTables,
        query: &Query,
        least: usize,
        piece_bytes: usize,
    ) -> Result<Self> {
        query.check(tables.options())?;
        let candidates = query.candidates();
        if candidates > MOST {
            let what = format!("{} tables that give {} ids each", query.tables, query.bucket);
            let help =
                format!("neighbours of labels are chosen among up to {MOST} candidates: take fewer from a bucket");
            return Err(Error::bad_input(what).with_help(help));
        }
        let labels = tables.labels();
        let piece = (piece_bytes / 4 / candidates).clamp(1, labels);
        let last = (labels - 1) % piece + 1;
        // The number of labels fits this many bits, and what stands for none is above it.
        let bits = usize::BITS - labels.leading_zeros();
        let sorted = async |rows: usize| sort::Workspace::new_async(gpu, rows, candidates, bits).await;
        let whole = sorted(piece).await?;
        let sorts = [whole.clone(), if last == piece { whole } else { sorted(last).await? }];
        let table = async |columns: usize| Tensor::uninit_async(gpu, &[piece, columns]).await;
        Ok(Self {
            least: least.max(1),
            query: *query,
            piece,
            ranges: table(2 * query.tables).await?,
            candidates: table(candidates).await?,
            sorted: table(candidates).await?,
            places: table(candidates).await?,
            sorts,
        })
    }

    /// Blocking twin of [`Neighbours::new_async`].
    ///
    /// # Errors
    /// Those of [`Neighbours::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, tables: &LshTables, query: &Query, least: usize) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, tables, query, least))
    }

    /// Blocking twin of [`Neighbours::with_async`].
    ///
    /// # Errors
    /// Those of [`Neighbours::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with(gpu: &Gpu, tables: &LshTables, query: &Query, least: usize, piece_bytes: usize) -> Result<Self> {
        pollster::block_on(Self::with_async(gpu, tables, query, least, piece_bytes))
    }

    /// Records `out[i]` = the labels that meet label `i` in most tables, `out` `[labels, n]`: by descending number of tables and then ascending
    /// label, `u32::MAX` behind the last. Of buckets that hold more than they give, what is drawn for `step` counts.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] if `out` fits no binding.
    pub fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        tables: &LshTables,
        step: u32,
        out: &Tensor<u32>,
    ) -> Result<()> {
        let labels = tables.labels();
        let candidates = self.candidates.columns();
        let query = Query { step, ..self.query };
        let fits = matches!(out.shape(), &[rows, n] if rows == labels && (1..=MOST / 4).contains(&n));
        if !fits || candidates != query.candidates() || self.ranges.shape()[0] > labels {
            return Err(Error::internal(format!("neighbours {:?} of {labels} labels", out.shape())));
        }
        for first in (0..labels).step_by(self.piece) {
            let rows = self.piece.min(labels - first);
            self.record_piece(recording, caps, tables, &query, out, first, rows)?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a piece of what the caller has")]
    fn record_piece(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        tables: &LshTables,
        query: &Query,
        out: &Tensor<u32>,
        first: usize,
        rows: usize,
    ) -> Result<()> {
        let view = |t: &Tensor<u32>| {
            t.view(&[rows, t.columns()]).ok_or_else(|| Error::new(ErrorKind::Internal, "a piece without room"))
        };
        let (ranges, candidates) = (view(&self.ranges)?, view(&self.candidates)?);
        let (sorted, places) = (view(&self.sorted)?, view(&self.places)?);
        for group in tables.groups() {
            let keys = Keys { keys: &group.keys, table: group.first, first };
            tables.record_ranges(recording, caps, group, keys, query, &ranges)?;
            tables.record_candidates(recording, caps, group, query, &ranges, &candidates)?;
        }
        let operands = sort::Operands { keys: &candidates, payload: None, out_keys: &sorted, out_payload: &places };
        sort::record(recording, caps, &self.sorts[usize::from(rows != self.piece)], &operands)?;
        let params = LshNeighboursParams {
            rows: word(rows)?,
            first: word(first)?,
            quads: word(candidates.columns() / 4)?,
            count: word(out.columns())?,
            stride_out: word(out.row_stride())?,
            least: word(self.least)?,
            ..Default::default()
        };
        let lanes = if caps.is_software() { 8 } else { 32 };
        let bindings = vec![sorted.binding(), out.binding()];
        bindable(caps, &bindings)?;
        let grid = Grid::Direct([params.rows.div_ceil(lanes), 1, 1]);
        recording.dispatch(&kernel(lanes), bindings, &params, grid, 10.0 * sorted.len() as f64)
    }
}

/// With this many rows a workgroup; the number never changes a result.
fn kernel(lanes: u32) -> Kernel {
    Kernel::new::<LshNeighboursParams>("lsh_neighbours", LSH_NEIGHBOURS, &[Access::Read, Access::Write])
        .define("LANES", lanes)
        .define("COUNTERS", lanes * COUNTERS)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel(8), kernel(32)]
}
