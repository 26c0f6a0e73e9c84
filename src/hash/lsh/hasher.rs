//! Keys of rows on the device, and how many of them have changed. Kernel: `lsh_keys`.

use std::ops::Range;

use super::functions::{Functions, PROBES};
use super::options::{Family, LshOptions};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::hash::{Touched, width};
use crate::ops::{bindable, windows, word};
use crate::tensor::Tensor;

const LSH_KEYS: &str = include_str!("../../../shaders/hash/lsh_keys.wgsl");

params!(LshKeysParams {
    rows: u32,
    first: u32,
    stride_x: u32,
    hidden: u32,
    tables: u32,
    first_table: u32,
    stride_keys: u32,
    fours: u32,
    across: u32,
    every: u32,
    codes: u32,
    quads: u32,
    all: u32,
    factor: u32,
    summand: u32,
    pad: u32,
});

/// Hash functions on the device.
#[derive(Debug, Clone)]
pub struct Hasher {
    functions: Functions,
    packed: Tensor<u32>,
}

/// What [`Hasher`] does with keys.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task<'a> {
    /// Writes those of all rows.
    All,
    /// Writes those of listed rows.
    Listed(&'a Touched),
    /// Compares those of each n-th four rows.
    Drift(&'a Tensor<u32>, usize),
}

impl Hasher {
    /// Functions of rows that begin with `hidden` elements; another `generation` has others.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for options that cannot be had; those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, options: &LshOptions, hidden: usize, generation: u32) -> Result<Self> {
        let functions = Functions::new(options, hidden, generation)?;
        let packed = functions.packed();
        let packed = Tensor::from_slice_async(gpu, &[packed.len()], &packed).await?;
        Ok(Self { functions, packed })
    }

    /// Blocking twin of [`Hasher::new_async`].
    ///
    /// # Errors
    /// Those of [`Hasher::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, options: &LshOptions, hidden: usize, generation: u32) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, options, hidden, generation))
    }

    /// Functions of another generation, before everything that is run after this call. Tables must be built anew.
    ///
    /// # Errors
    /// Those of [`Gpu::upload`].
    pub fn renew(&mut self, gpu: &Gpu, generation: u32) -> Result<()> {
        self.functions = Functions::new(&self.functions.options, self.functions.hidden, generation)?;
        self.packed.write(gpu, &self.functions.packed())
    }

    /// The functions, as the host has them.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// What the functions were made for.
    pub fn options(&self) -> &LshOptions {
        &self.functions.options
    }

    /// Records `keys[t, r]` = the key of row `r` for table `t`: `rows` `[n, width(hidden)]` or wider, `keys` `[tables, n]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for shapes that do not fit, [`crate::ErrorKind::TooBig`] if no window of rows fits a binding.
    pub fn record_keys(&self, recording: &mut Recording, caps: &Caps, rows: &Tensor, keys: &Tensor<u32>) -> Result<()> {
        if keys.shape() != [self.options().tables, rows.shape()[0]] {
            return Err(Error::internal(format!("keys {:?} of rows {:?}", keys.shape(), rows.shape())));
        }
        self.record(recording, caps, rows, keys, 0, Task::All)
    }

    /// Records a task for as many tables as `keys` has, from `first_table` on.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        rows: &Tensor,
        keys: &Tensor<u32>,
        first_table: usize,
        task: Task<'_>,
    ) -> Result<()> {
        let room = width(self.functions.hidden);
        let (&[n, columns], &[tables, labels]) = (rows.shape(), keys.shape()) else {
            return Err(Error::internal(format!("keys {:?} of rows {:?}", keys.shape(), rows.shape())));
        };
        if n != labels || columns < room || first_table + tables > self.options().tables {
            let what = format!("keys of {tables} tables of {labels} rows of {columns} elements, {room} of them hashed");
            return Err(Error::internal(what));
        }
        let lanes = if caps.is_software() { 8 } else { 64 };
        let (listed, drift) = (matches!(task, Task::Listed(_)), matches!(task, Task::Drift(..)));
        let kernel = kernel(self.options().family, room, lanes, listed, drift);
        for range in row_windows(caps, rows)? {
            let (params, grid) = self.params(caps, rows, keys, first_table, task, &range)?;
            let rows = windows::binding(rows, &range, rows.row_stride(), n)?;
            let mut bindings = vec![rows, self.packed.binding(), keys.binding()];
            match task {
                Task::All => {}
                Task::Listed(touched) => bindings.push(touched.list.binding()),
                Task::Drift(counts, _) => bindings.push(counts.binding()),
            }
            bindable(caps, &bindings)?;
            let looked = f64::from(params.fours) * 4.0 * (tables * self.options().codes) as f64;
            let work = looked * 8.0 * self.functions.quads() as f64;
            recording.dispatch(&kernel, bindings, &params, grid, work)?;
        }
        Ok(())
    }

    fn params(
        &self,
        caps: &Caps,
        rows: &Tensor,
        keys: &Tensor<u32>,
        first_table: usize,
        task: Task<'_>,
        range: &Range<usize>,
    ) -> Result<(LshKeysParams, Grid)> {
        let every = if let Task::Drift(_, every) = task { every.max(1) } else { 1 };
        let listed = matches!(task, Task::Listed(_));
        let places = if let Task::Listed(touched) = task { touched.capacity } else { range.len() };
        let fours = word(places.div_ceil(4).div_ceil(every))?;
        let across = fours.min(caps.max_workgroups);
        let [factor, summand] = self.functions.universal;
        let params = LshKeysParams {
            rows: word(range.len())?,
            first: word(range.start)?,
            stride_x: word(rows.row_stride() / 4)?,
            hidden: word(self.functions.hidden)?,
            tables: word(keys.shape()[0])?,
            first_table: word(first_table)?,
            stride_keys: word(if listed { keys.row_stride() } else { keys.row_stride() / 4 })?,
            fours,
            across,
            every: word(every)?,
            codes: word(self.options().codes)?,
            quads: word(self.functions.quads())?,
            all: word(self.functions.codes.len())?,
            factor,
            summand,
            ..Default::default()
        };
        Ok((params, Grid::Direct([across, fours.div_ceil(across.max(1)), 1])))
    }
}

/// Ranges of rows that fit a binding.
pub(super) fn row_windows(caps: &Caps, rows: &Tensor) -> Result<Vec<Range<usize>>> {
    // One word a row keeps the starts of windows at multiples of 64 rows, so of four.
    windows::ranges(rows.shape()[0], &[rows.row_stride(), 1], &[rows.binding(), rows.binding()], caps.max_binding)
}

/// With this many invocations for four rows; the number never changes a key.
fn kernel(family: Family, room: usize, lanes: u32, listed: bool, drift: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, if drift { Access::Read } else { Access::Write }];
    if listed || drift {
        bindings.push(if drift { Access::Write } else { Access::Read });
    }
    Kernel::new::<LshKeysParams>("lsh_keys", LSH_KEYS, &bindings)
        .define("ROOM", room)
        .define("LANES", lanes)
        .define("PROBES", PROBES)
        .flag("SIMHASH", family == Family::SimHash)
        .flag("LISTED", listed)
        .flag("DRIFT", drift)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let mut all = Vec::new();
    for (family, lanes) in [(Family::Dwta, 8), (Family::Dwta, 64), (Family::SimHash, 8), (Family::SimHash, 64)] {
        for (listed, drift) in [(false, false), (true, false), (false, true)] {
            all.push(kernel(family, width(128), lanes, listed, drift));
        }
    }
    all
}
