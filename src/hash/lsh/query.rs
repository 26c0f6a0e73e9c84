//! Look-ups: what the buckets of hidden vectors hold. Kernels: `lsh_ranges`, `lsh_candidates`.

use super::hasher::Hasher;
use super::options::{LshOptions, Policy};
use super::tables::{Group, LshTables};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::ops::random::{Stream, below, purpose};
use crate::ops::{bindable, word};
use crate::tensor::Tensor;

const LSH_RANGES: &str = include_str!("../../../shaders/hash/lsh_ranges.wgsl");
const LSH_CANDIDATES: &str = include_str!("../../../shaders/hash/lsh_candidates.wgsl");

params!(LshRangesParams {
    queries: u32,
    first_query: u32,
    stride_q: u32,
    query_table: u32,
    all: u32,
    factor: u32,
    summand: u32,
    first_table: u32,
    tables: u32,
    rest: u32,
    stride_directory: u32,
    stride_keys: u32,
    stride_out: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(LshCandidatesParams {
    quads: u32,
    stride_ranges: u32,
    stride_ids: u32,
    shift: u32,
    all: u32,
    factor: u32,
    summand: u32,
    first_table: u32,
    tables: u32,
    policy: u32,
    step: u32,
    pad: u32,
    key_low: u32,
    key_high: u32,
    purpose: u32,
    pad1: u32,
});

/// A look-up of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// The step, for which draws are made anew.
    pub step: u32,
    /// How many tables are read.
    pub tables: usize,
    /// The most ids that are taken from a bucket: a power of two from 4 to 256.
    pub bucket: usize,
    /// Whether tables are read in an order that is drawn for the step, or from the first one on.
    pub shuffled: bool,
}

impl Query {
    /// All tables of these options, in their order.
    pub const fn all(options: &LshOptions, step: u32) -> Self {
        Self { step, tables: options.tables, bucket: options.bucket, shuffled: false }
    }

    /// Ids that it gives for each vector, with those that stand for none.
    pub const fn candidates(&self) -> usize {
        self.tables * self.bucket
    }

    /// Refuses what the tables of these options cannot give.
    pub(super) fn check(&self, options: &LshOptions) -> Result<()> {
        if self.tables == 0 || self.tables > options.tables {
            return Err(Error::bad_input(format!("a look-up in {} of {} hash tables", self.tables, options.tables))
                .with_help("look up in one table or more of those that there are"));
        }
        LshOptions { bucket: self.bucket, ..options.clone() }.check()
    }

    /// Factor and summand of the order in which tables are read: the s-th is `(factor s + summand) mod tables`.
    ///
    /// A factor without a common divisor with the number of tables makes this an order; each table is first with the same chance.
    pub(super) fn order(&self, options: &LshOptions) -> [u32; 2] {
        if !self.shuffled {
            return [1, 0];
        }
        let stream = Stream::new(options.seed);
        let [a, b, ..] = stream.block([0, 0, self.step, purpose::TABLES]);
        let coprime = (1..=options.tables).filter(|&factor| divisor(factor, options.tables) == 1);
        let coprime: Vec<usize> = coprime.collect();
        let chosen = [coprime[below(a, coprime.len())], below(b, options.tables)];
        // Both are at most the number of tables, which `LshOptions::check` bounds.
        chosen.map(|n| u32::try_from(n).unwrap_or(0))
    }
}

/// The greatest common divisor.
const fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// What a look-up needs besides its operands; one serves look-ups of up to so many vectors, one after the other.
#[derive(Debug, Clone)]
pub struct QueryWorkspace {
    /// `[tables, vectors]`.
    keys: Tensor<u32>,
    /// `[vectors, 2 tables]`: where each bucket begins, and how many labels it has.
    ranges: Tensor<u32>,
}

impl QueryWorkspace {
    /// For look-ups of up to `vectors` hidden vectors.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, options: &LshOptions, vectors: usize) -> Result<Self> {
        let keys = Tensor::uninit_async(gpu, &[options.tables, vectors]).await?;
        Ok(Self { keys, ranges: Tensor::uninit_async(gpu, &[vectors, 2 * options.tables]).await? })
    }

    /// Blocking twin of [`QueryWorkspace::new_async`].
    ///
    /// # Errors
    /// Those of [`QueryWorkspace::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, options: &LshOptions, vectors: usize) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, options, vectors))
    }

    /// After a look-up of `vectors` vectors, `[vectors, 2 tables]`: where the bucket of each table that was read begins, and its length.
    pub fn ranges(&self) -> &Tensor<u32> {
        &self.ranges
    }
}

/// Keys to look up: those of column `first` and following of the keys of tables from `table` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) keys: &'a Tensor<u32>,
    pub(super) table: usize,
    pub(super) first: usize,
}

impl LshTables {
    /// Records the candidates of hidden vectors `h` `[vectors, width]`: `out` `[vectors, query.candidates()]` has up to `query.bucket` ids of each table in
    /// the order in which they are read, and `u32::MAX` for those that a bucket does not have. An id may come from several tables.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a look-up that the tables cannot give, [`crate::ErrorKind::Internal`] for shapes that do not
    /// fit; those of [`Hasher::record_keys`].
    #[expect(clippy::too_many_arguments, reason = "each is a thing of its own")]
    pub fn record_query(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        hasher: &Hasher,
        h: &Tensor,
        workspace: &QueryWorkspace,
        query: &Query,
        out: &Tensor<u32>,
    ) -> Result<()> {
        let vectors = h.shape()[0];
        let misfit = || Error::internal(format!("a look-up of {vectors} vectors into {:?}", out.shape()));
        if *hasher.options() != *self.options() || vectors > workspace.ranges.shape()[0] {
            return Err(misfit());
        }
        let keys = workspace.keys.view(&[self.options().tables, vectors]).ok_or_else(misfit)?;
        let ranges = workspace.ranges.view(&[vectors, 2 * self.options().tables]).ok_or_else(misfit)?;
        hasher.record_keys(recording, caps, h, &keys)?;
        for group in self.groups() {
            let queries = Keys { keys: &keys, table: 0, first: 0 };
            self.record_ranges(recording, caps, group, queries, query, &ranges)?;
            self.record_candidates(recording, caps, group, query, &ranges, out)?;
        }
        Ok(())
    }

    /// Records where the buckets of keys lie in a group of tables.
    pub(super) fn record_ranges(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        group: &Group,
        queries: Keys<'_>,
        query: &Query,
        ranges: &Tensor<u32>,
    ) -> Result<()> {
        let &[count, columns] = ranges.shape() else { return Err(Error::internal("ranges are a table")) };
        query.check(self.options())?;
        if columns < 2 * query.tables {
            return Err(Error::internal(format!("a look-up in {} of {columns} / 2 tables", query.tables)));
        }
        let [factor, summand] = query.order(self.options());
        let params = LshRangesParams {
            queries: word(count)?,
            first_query: word(queries.first)?,
            stride_q: word(queries.keys.row_stride())?,
            query_table: word(queries.table)?,
            all: word(self.options().tables)?,
            factor,
            summand,
            first_table: word(group.first)?,
            tables: word(group.keys.shape()[0])?,
            rest: group.rest,
            stride_directory: word(group.directory.row_stride())?,
            stride_keys: word(group.keys.row_stride())?,
            stride_out: word(ranges.row_stride())?,
            ..Default::default()
        };
        let sides = [queries.keys, &group.keys, &group.ids, &group.directory, ranges];
        let bindings = sides.map(Tensor::binding).to_vec();
        bindable(caps, &bindings)?;
        let grid = Grid::Direct([word(count.div_ceil(64))?, word(query.tables)?, 1]);
        let work = (count * query.tables) as f64 * 40.0;
        recording.dispatch(&kernels()[0], bindings, &params, grid, work)
    }

    /// Records the ids of the buckets of a group of tables.
    pub(super) fn record_candidates(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        group: &Group,
        query: &Query,
        ranges: &Tensor<u32>,
        out: &Tensor<u32>,
    ) -> Result<()> {
        let vectors = ranges.shape()[0];
        if out.shape() != [vectors, query.candidates()] || word(vectors)? > caps.max_workgroups {
            return Err(Error::internal(format!("candidates {:?} of {vectors} vectors", out.shape())));
        }
        let [factor, summand] = query.order(self.options());
        let [key_low, key_high, ..] = Stream::new(self.options().seed).words(0, true);
        let params = LshCandidatesParams {
            quads: word(out.columns() / 4)?,
            stride_ranges: word(ranges.row_stride())?,
            stride_ids: word(group.ids.row_stride())?,
            shift: query.bucket.trailing_zeros(),
            all: word(self.options().tables)?,
            factor,
            summand,
            first_table: word(group.first)?,
            tables: word(group.ids.shape()[0])?,
            policy: match self.options().policy {
                Policy::Fifo => 0,
                Policy::Reservoir => 1,
                Policy::Window => 2,
            },
            step: query.step,
            key_low,
            key_high,
            purpose: purpose::BUCKET,
            ..Default::default()
        };
        let bindings = vec![ranges.binding(), group.ids.binding(), out.binding()];
        bindable(caps, &bindings)?;
        let grid = Grid::Direct([params.quads.div_ceil(64), word(vectors)?, 1]);
        recording.dispatch(&kernels()[1], bindings, &params, grid, 60.0 * out.len() as f64)
    }
}

fn kernels() -> [Kernel; 2] {
    let candidates = [Access::Read, Access::Read, Access::Write];
    [
        Kernel::new::<LshRangesParams>(
            "lsh_ranges",
            LSH_RANGES,
            &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
        ),
        Kernel::new::<LshCandidatesParams>("lsh_candidates", LSH_CANDIDATES, &candidates),
    ]
}

pub(super) fn catalogue() -> Vec<Kernel> {
    kernels().to_vec()
}
