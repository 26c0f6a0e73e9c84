//! Neighbours of labels: those whose own rows fall into the same buckets most often. Kernel: `lsh_neighbours`.
//!
//! LSH-Label (Daghaghi and others: *A tale of two efficient and informative negative sampling distributions*, ICML 2021): the labels
//! near a sample's own label are its hard negatives, and they stay the same between rebuilds.

use super::query::{Keys, Query};
use super::tables::LshTables;
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::ops::{bindable, word};
use crate::tensor::Tensor;

const LSH_NEIGHBOURS: &str = include_str!("../../../shaders/hash/lsh_neighbours.wgsl");
/// Most bytes of the candidates of the labels of a piece.
const PIECE_BYTES: usize = 8 << 20;
/// Most candidates of a label, which a workgroup holds in its memory, and most tables, which it counts in seven bits.
const MOST: usize = 1632;
const MOST_TABLES: usize = 127;

params!(LshNeighboursParams {
    rows: u32,
    first: u32,
    n: u32,
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
        if candidates > MOST || query.tables > MOST_TABLES {
            let what = format!("{} tables that give {} ids each", query.tables, query.bucket);
            let help = format!(
                "neighbours are chosen among up to {MOST} candidates of {MOST_TABLES} tables: take fewer of either"
            );
            return Err(Error::bad_input(what).with_help(help));
        }
        let labels = tables.labels();
        let most = labels.min(gpu.caps().max_workgroups as usize);
        let piece = (piece_bytes / 4 / candidates).clamp(1, most);
        let table = async |columns: usize| Tensor::uninit_async(gpu, &[piece, columns]).await;
        Ok(Self {
            least: least.max(1),
            query: *query,
            piece,
            ranges: table(2 * query.tables).await?,
            candidates: table(candidates).await?,
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

    /// Records `out[i]` = the labels that meet label `i` in most tables, `out` `[labels, n]`: by descending number of tables, in an order that
    /// prefers no labels among equals, `u32::MAX` behind the last. Of buckets that hold more than they give, what is drawn for `step` counts.
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
        let fits = matches!(out.shape(), &[rows, n] if rows == labels && n > 0);
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
        for group in tables.groups() {
            let keys = Keys { keys: &group.keys, table: group.first, first };
            tables.record_ranges(recording, caps, group, keys, query, &ranges)?;
            tables.record_candidates(recording, caps, group, query, &ranges, &candidates)?;
        }
        let params = LshNeighboursParams {
            rows: word(rows)?,
            first: word(first)?,
            n: word(candidates.columns())?,
            count: word(out.columns())?,
            stride_out: word(out.row_stride())?,
            least: word(self.least)?,
            ..Default::default()
        };
        let bindings = vec![candidates.binding(), out.binding()];
        bindable(caps, &bindings)?;
        let grid = Grid::Direct([params.rows, 1, 1]);
        let work = (rows * (10_000 + 100 * candidates.columns())) as f64;
        let lanes = if caps.is_software() { 8 } else { 64 };
        recording.dispatch(&kernel(lanes, candidates.columns()), bindings, &params, grid, work)
    }
}

/// With this many invocations a label, and slots for so many candidates, a quarter of them to spare; neither changes a result.
fn kernel(lanes: u32, candidates: usize) -> Kernel {
    let slots = (candidates + candidates / 4).next_power_of_two().max(64);
    Kernel::new::<LshNeighboursParams>("lsh_neighbours", LSH_NEIGHBOURS, &[Access::Read, Access::Write])
        .define("LANES", lanes)
        .define("MOST", MOST)
        .define("SLOTS", slots)
        .define("SHIFT", u32::BITS - slots.trailing_zeros())
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![kernel(8, MOST), kernel(64, MOST), kernel(64, 400)]
}
