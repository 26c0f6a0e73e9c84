//! Hash tables as sorted keys: for each table, the labels in the order of their keys. No label is ever lost, nothing depends
//! on which invocation came first, and a bucket is a run of equal keys. A directory says where the keys with given upper bits
//! begin. Kernel: `lsh_directory`.

use super::hasher::{Hasher, Task};
use super::options::{LshOptions, MOST_LABELS};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, ReadTicket, Recording, params};
use crate::hash::Touched;
use crate::ops::{bindable, sort, word};
use crate::tensor::{Tensor, pitch};

const LSH_DIRECTORY: &str = include_str!("../../../shaders/hash/lsh_directory.wgsl");
/// Upper bits of keys that a directory knows, at most: its entries stay in caches.
const MOST_UPPER: u32 = 16;
/// Most bytes of the ids of tables that are sorted together: larger ones cost more memory between the passes of the sort,
/// smaller ones more dispatches.
const GROUP_BYTES: u64 = 32 << 20;

params!(LshDirectoryParams {
    labels: u32,
    entries: u32,
    rest: u32,
    stride_keys: u32,
    stride_out: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Some of the tables.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// The first of them.
    pub(super) first: usize,
    /// `[tables, labels]`: the key of each label.
    pub(super) keys: Tensor<u32>,
    /// `[tables, labels]`: labels by ascending key and then label.
    pub(super) ids: Tensor<u32>,
    /// `[tables, upper bits + 1]`: where the labels begin whose keys have such upper bits.
    pub(super) directory: Tensor<u32>,
    /// The other bits of a key.
    pub(super) rest: u32,
    sort: sort::Workspace,
}

/// Hash tables of the rows of a table of labels.
#[derive(Debug, Clone)]
pub struct LshTables {
    options: LshOptions,
    labels: usize,
    groups: Vec<Group>,
    /// Keys in ascending order, of the group that is being sorted.
    sorted: Tensor<u32>,
    drift: Tensor<u32>,
}

/// What a measurement of drift compared, and its counters on the device.
#[derive(Debug, Clone, Copy)]
pub struct Drift {
    /// Codes that were compared.
    pub codes: u64,
    /// Keys that were.
    pub keys: u64,
    /// The counters' read: two words, codes and keys that have changed since they were last built.
    pub ticket: ReadTicket,
}

impl Drift {
    /// The share of codes that have changed, of what the ticket brought.
    pub fn share(&self, counters: &[u32]) -> f64 {
        counters.first().map_or(0.0, |&changed| f64::from(changed) / self.codes.max(1) as f64)
    }
}

impl LshTables {
    /// Tables with undefined contents.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for options that cannot be had and without labels, [`ErrorKind::TooBig`] for 2^24 labels or more; those
    /// of [`Tensor::uninit_async`] and [`sort::Workspace::new_async`].
    pub async fn new_async(gpu: &Gpu, labels: usize, options: &LshOptions) -> Result<Self> {
        Self::with_async(gpu, labels, options, GROUP_BYTES).await
    }

    /// Blocking twin of [`LshTables::new_async`].
    ///
    /// # Errors
    /// Those of [`LshTables::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, labels: usize, options: &LshOptions) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, labels, options))
    }

    /// [`LshTables::new_async`], with the most bytes of ids that are sorted together; they never change a result.
    ///
    /// # Errors
    /// Those of [`LshTables::new_async`].
    pub async fn with_async(gpu: &Gpu, labels: usize, options: &LshOptions, group_bytes: u64) -> Result<Self> {
        options.check()?;
        if labels == 0 {
            return Err(Error::bad_input("hash tables without labels"));
        }
        if labels > MOST_LABELS {
            return Err(Error::new(ErrorKind::TooBig, format!("hash tables of {labels} labels"))
                .with_help(format!("up to {MOST_LABELS} labels can be hashed; sample negatives without tables")));
        }
        let row = pitch(labels) as u64 * 4;
        let most = usize::try_from(group_bytes.min(gpu.caps().max_binding) / row).unwrap_or(usize::MAX);
        let most = most.clamp(1, options.tables);
        let bits = word(options.key_bits())?;
        let upper = bits.min((labels / 4).max(1).ilog2()).min(MOST_UPPER);
        let mut groups: Vec<Group> = Vec::new();
        for first in (0..options.tables).step_by(most) {
            let tables = most.min(options.tables - first);
            let shape = [tables, labels];
            let sort = match groups.last() {
                Some(last) if last.keys.shape() == shape => last.sort.clone(),
                _ => sort::Workspace::new_async(gpu, tables, labels, bits).await?,
            };
            let (keys, ids) = (Tensor::uninit_async(gpu, &shape).await?, Tensor::uninit_async(gpu, &shape).await?);
            let directory = Tensor::uninit_async(gpu, &[tables, (1 << upper) + 1]).await?;
            groups.push(Group { first, keys, ids, directory, rest: bits - upper, sort });
        }
        let sorted = Tensor::uninit_async(gpu, &[most, labels]).await?;
        let drift = Tensor::uninit_async(gpu, &[4]).await?;
        Ok(Self { options: options.clone(), labels, groups, sorted, drift })
    }

    /// Blocking twin of [`LshTables::with_async`].
    ///
    /// # Errors
    /// Those of [`LshTables::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with(gpu: &Gpu, labels: usize, options: &LshOptions, group_bytes: u64) -> Result<Self> {
        pollster::block_on(Self::with_async(gpu, labels, options, group_bytes))
    }

    /// What the tables were made for.
    pub fn options(&self) -> &LshOptions {
        &self.options
    }

    /// Number of labels.
    pub fn labels(&self) -> usize {
        self.labels
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Keys and ids `[tables, labels]` of each group of tables, first tables first.
    pub fn parts(&self) -> impl Iterator<Item = (&Tensor<u32>, &Tensor<u32>)> {
        self.groups.iter().map(|group| (&group.keys, &group.ids))
    }

    fn check(&self, hasher: &Hasher, rows: &Tensor) -> Result<()> {
        if *hasher.options() != self.options || rows.shape()[0] != self.labels {
            let what = format!("tables of {} labels with other functions, or {:?} rows", self.labels, rows.shape());
            return Err(Error::internal(what));
        }
        Ok(())
    }

    /// Records a build of all tables: of the keys of all `rows` `[labels, width]`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for another number of rows or functions of other options; those of [`Hasher::record_keys`].
    pub fn record_build(&self, recording: &mut Recording, caps: &Caps, hasher: &Hasher, rows: &Tensor) -> Result<()> {
        self.check(hasher, rows)?;
        for group in &self.groups {
            hasher.record(recording, caps, rows, &group.keys, group.first, Task::All)?;
        }
        self.record_sort(recording, caps)
    }

    /// Records new keys of touched rows alone. The tables equal those of a whole build, once [`LshTables::record_sort`] has
    /// run, if no other row has changed since then; until then no look-up may run.
    ///
    /// # Errors
    /// Those of [`LshTables::record_build`].
    pub fn record_rehash(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        hasher: &Hasher,
        rows: &Tensor,
        touched: &Touched,
    ) -> Result<()> {
        self.check(hasher, rows)?;
        for group in &self.groups {
            hasher.record(recording, caps, rows, &group.keys, group.first, Task::Listed(touched))?;
        }
        Ok(())
    }

    /// Records the sort of all tables by the keys that they have.
    ///
    /// # Errors
    /// Those of [`sort::record`].
    pub fn record_sort(&self, recording: &mut Recording, caps: &Caps) -> Result<()> {
        for group in &self.groups {
            let misfit = || Error::internal("a group of tables without room for its keys");
            let sorted = self.sorted.view(group.keys.shape()).ok_or_else(misfit)?;
            let operands =
                sort::Operands { keys: &group.keys, payload: None, out_keys: &sorted, out_payload: &group.ids };
            sort::record(recording, caps, &group.sort, &operands)?;
            self.record_directory(recording, caps, group, &sorted)?;
        }
        Ok(())
    }

    /// Records where the upper bits of sorted keys begin.
    fn record_directory(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        group: &Group,
        sorted: &Tensor<u32>,
    ) -> Result<()> {
        let directory = &group.directory;
        let params = LshDirectoryParams {
            labels: word(self.labels)?,
            entries: word(directory.columns())?,
            rest: group.rest,
            stride_keys: word(sorted.row_stride())?,
            stride_out: word(directory.row_stride())?,
            ..Default::default()
        };
        let bindings = vec![sorted.binding(), directory.binding()];
        bindable(caps, &bindings)?;
        let grid = Grid::Direct([params.entries.div_ceil(64), word(directory.shape()[0])?, 1]);
        recording.dispatch(&directory_kernel(), bindings, &params, grid, 200.0 * directory.len() as f64)
    }

    /// Records a count of the codes of `rows` that differ from those of the tables, in the first group of tables and in each
    /// `every`-th four rows, and the read of it; a host that looks at it a few steps later never waits for it.
    ///
    /// # Errors
    /// Those of [`LshTables::record_build`].
    pub fn record_drift(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        hasher: &Hasher,
        rows: &Tensor,
        tables: usize,
        every: usize,
    ) -> Result<Drift> {
        self.check(hasher, rows)?;
        let group = &self.groups[0];
        let tables = tables.clamp(1, group.keys.shape()[0]);
        let misfit = || Error::internal("a group of tables without its first ones");
        let keys = group.keys.view(&[tables, self.labels]).ok_or_else(misfit)?;
        recording.clear(self.drift.binding());
        hasher.record(recording, caps, rows, &keys, group.first, Task::Drift(&self.drift, every.max(1)))?;
        let ticket = self.drift.record_read(recording);
        let compared = self.compared(caps, rows, every.max(1))? as u64 * tables as u64;
        Ok(Drift { codes: compared * self.options.codes as u64, keys: compared, ticket })
    }

    /// Rows of which a measurement of drift compares the keys.
    fn compared(&self, caps: &Caps, rows: &Tensor, every: usize) -> Result<usize> {
        let windows = super::hasher::row_windows(caps, rows)?;
        let of_window = |n: usize| (0..n).step_by(4 * every).map(|first| (n - first).min(4)).sum::<usize>();
        Ok(windows.iter().map(|range| of_window(range.len())).sum())
    }
}

fn directory_kernel() -> Kernel {
    Kernel::new::<LshDirectoryParams>("lsh_directory", LSH_DIRECTORY, &[Access::Read, Access::Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    vec![directory_kernel()]
}
