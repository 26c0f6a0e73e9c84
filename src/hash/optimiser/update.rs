//! Steps with gradients. Kernels: `row_update`, `row_dense`.

use std::ops::Range;

use super::{Optimiser, Rule, Which, with_tables};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Binding, Caps, Grid, Kernel, Recording, params};
use crate::hash::rows::{Rows, SHARED, Storage, Touched, vectors};
use crate::ops::{bindable, word};
use crate::tensor::Tensor;

const ROW_UPDATE: &str = include_str!("../../../shaders/hash/row_update.wgsl");
const ROW_DENSE: &str = include_str!("../../../shaders/hash/row_dense.wgsl");
/// Most sources, and so most entries of a row: four at a time they stay below the 65,535 iterations that software devices do.
const SOURCES: usize = 200_000;

params!(RowUpdateParams {
    first: u32,
    rows: u32,
    quads: u32,
    stride_w: u32,
    capacity: u32,
    across: u32,
    stride_x: u32,
    stride_out: u32,
    per_sample: u32,
    step: u32,
    table: u32,
    pad: u32,
    key_low: u32,
    key_high: u32,
    rate: f32,
    root: f32,
    keep1: f32,
    add1: f32,
    keep2: f32,
    add2: f32,
    epsilon: f32,
    share: u32,
    pad1: u32,
    pad2: u32,
});

/// What a listed row's gradient is the sum of: its entries' coefficients times rows of a table of sources.
#[derive(Debug, Clone, Copy)]
pub enum Entries<'a> {
    /// Entry e is the pair `order[e]`; its coefficient is `coefficients[pair]` and its source the row `pair / per_sample`.
    Pairs {
        /// Pairs, those of each listed row together.
        order: &'a Tensor<u32>,
        /// A number a pair, by the place in memory.
        coefficients: &'a Tensor,
        /// Pairs from one source to the next.
        per_sample: usize,
        /// `[sources, columns]`.
        sources: &'a Tensor,
    },
    /// Entry e is `entries[e]`: the source, and the bits of the coefficient, as [`crate::hash::Batch::entries`] has them.
    Samples {
        /// Pairs of words.
        entries: &'a Tensor<u32>,
        /// `[sources, columns]`.
        sources: &'a Tensor,
    },
    /// Row i of the list has the gradient in row i, `[capacity, columns]`.
    Panel(&'a Tensor),
}

impl<'a> Entries<'a> {
    fn flag(&self) -> &'static str {
        match self {
            Self::Pairs { .. } => "PAIRS",
            Self::Samples { .. } => "SAMPLES",
            Self::Panel(_) => "PANEL",
        }
    }

    fn sources(&self) -> &'a Tensor {
        match *self {
            Self::Pairs { sources, .. } | Self::Samples { sources, .. } | Self::Panel(sources) => sources,
        }
    }

    fn per_sample(&self) -> usize {
        if let Self::Pairs { per_sample, .. } = self { *per_sample } else { 1 }
    }

    /// The bindings behind the list.
    fn bindings(&self) -> Vec<Binding> {
        match self {
            Self::Pairs { order, coefficients, sources, .. } => {
                vec![order.binding(), coefficients.binding(), sources.binding()]
            }
            Self::Samples { entries, sources } => vec![entries.binding(), sources.binding()],
            Self::Panel(sources) => vec![sources.binding()],
        }
    }

    /// Refuses what does not fit a list over rows of so many columns.
    fn check(&self, capacity: usize, columns: usize) -> Result<()> {
        let &[sources, width] = self.sources().shape() else {
            return Err(Error::internal(format!("gradients from shape {:?}", self.sources().shape())));
        };
        let fits = match self {
            Self::Panel(_) => sources == capacity,
            Self::Pairs { per_sample, .. } => *per_sample > 0,
            Self::Samples { .. } => true,
        };
        if width != columns || !columns.is_multiple_of(4) || !fits {
            return Err(Error::internal(format!(
                "gradients from shape {sources} x {width} for {capacity} rows of {columns}"
            )));
        }
        if sources > SOURCES && !matches!(self, Self::Panel(_)) {
            let what =
                format!("a batch of {sources} samples, more than the {SOURCES} that one row's gradient may come from");
            return Err(Error::new(ErrorKind::TooBig, what).with_help("use a smaller batch"));
        }
        Ok(())
    }
}

/// Records the sums alone: `out[i, :]` = the gradient of row i of the list, for `out` `[capacity, columns]`; behind the list's count
/// it stays as it was.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that do not fit or a panel, which is its own sum, [`ErrorKind::TooBig`] beyond what kernels address.
pub fn record_sums(
    recording: &mut Recording,
    caps: &Caps,
    touched: &Touched,
    entries: &Entries<'_>,
    out: &Tensor,
) -> Result<()> {
    let columns = out.columns();
    entries.check(touched.capacity, columns)?;
    if out.shape() != [touched.capacity, columns] || matches!(entries, Entries::Panel(_)) {
        return Err(Error::internal(format!("sums of {} rows into shape {:?}", touched.capacity, out.shape())));
    }
    let vectors = vectors(caps);
    let share = (columns / 4).div_ceil(vectors);
    let (grid, across) = plane(touched.capacity * share, caps)?;
    let params = RowUpdateParams {
        rows: u32::MAX,
        quads: word(columns / 4)?,
        share: word(share)?,
        capacity: word(touched.capacity)?,
        across,
        stride_x: word(entries.sources().row_stride() / 4)?,
        stride_out: word(out.row_stride() / 4)?,
        per_sample: word(entries.per_sample())?,
        ..Default::default()
    };
    let mut bindings = vec![touched.list.binding()];
    bindings.extend(entries.bindings());
    bindings.push(out.binding());
    bindable(caps, &bindings)?;
    let kernel = sum_kernel(entries.flag(), bindings.len() - 1).define("VECTORS", vectors);
    recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), 8.0 * out.len() as f64)
}

impl Optimiser {
    /// Records this step for the rows of a list, all of the table's windows: gradients are summed in registers from their entries, and
    /// each row is written once. A list of [`Which::Ids`] goes with [`Entries::Panel`]; [`Which::All`] is [`Optimiser::record_dense`].
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for shapes that do not fit, [`ErrorKind::TooBig`] beyond what kernels address or bind,
    /// [`ErrorKind::Unsupported`] for what the mode does not have.
    pub fn record_update(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        rows: &Rows,
        which: Which<'_>,
        entries: &Entries<'_>,
    ) -> Result<()> {
        self.check_begun(rows)?;
        let capacity = which.capacity(rows);
        entries.check(capacity, rows.columns())?;
        let Some(list) =
            which.list().filter(|_| matches!((which, entries), (Which::Touched(_), _) | (_, Entries::Panel(_))))
        else {
            return Err(Error::internal(format!("an update of {which:?} from {}", entries.flag())));
        };
        let kernel = update_kernel(self.rule, rows.storage, entries.flag(), matches!(which, Which::Ids(_)));
        let vectors = vectors(caps);
        let (kernel, share) = (kernel.define("VECTORS", vectors), rows.quads().div_ceil(vectors));
        let (grid, across) = plane(capacity * share, caps)?;
        let mut leading = vec![list];
        leading.extend(entries.bindings());
        bindable(caps, &leading)?;
        // How many entries there are is known on the device; a few a row.
        let work = (capacity * rows.columns()) as f64 * 24.0;
        for window in rows.windows(caps)? {
            let params = RowUpdateParams {
                capacity: word(capacity)?,
                share: word(share)?,
                across,
                stride_x: word(entries.sources().row_stride() / 4)?,
                per_sample: word(entries.per_sample())?,
                ..self.params(rows, &window)?
            };
            let mut bindings = leading.clone();
            bindings.extend(rows.bindings(&window)?);
            recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), work)?;
        }
        Ok(())
    }

    /// Records this step for all rows, with gradients `[rows, columns]`.
    ///
    /// # Errors
    /// Those of [`Optimiser::record_update`].
    pub fn record_dense(&self, recording: &mut Recording, caps: &Caps, rows: &Rows, gradients: &Tensor) -> Result<()> {
        self.check_begun(rows)?;
        if gradients.shape() != [rows.len(), rows.columns()] {
            let what = format!("gradients {:?} for {} rows of {}", gradients.shape(), rows.len(), rows.columns());
            return Err(Error::internal(what));
        }
        let kernel = dense_kernel(self.rule, rows.storage);
        for window in rows.windows(caps)? {
            let (grid, across) = plane(window.len() * rows.quads(), caps)?;
            let stride_x = word(gradients.row_stride() / 4)?;
            let params = RowUpdateParams { across, stride_x, ..self.params(rows, &window)? };
            let mut bindings = vec![gradients.slots(&window)?];
            bindings.extend(rows.bindings(&window)?);
            let work = (window.len() * rows.columns()) as f64 * 16.0;
            recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), work)?;
        }
        Ok(())
    }

    fn check_begun(&self, rows: &Rows) -> Result<()> {
        if self.step == 0 {
            return Err(Error::internal("a step that was not begun"));
        }
        self.check(rows)
    }

    /// What all kernels of this step know of a window.
    fn params(&self, rows: &Rows, window: &Range<usize>) -> Result<RowUpdateParams> {
        let key = crate::ops::random::Stream::new(self.seed).words(self.step, true);
        Ok(RowUpdateParams {
            first: word(window.start)?,
            rows: word(window.len())?,
            quads: word(rows.quads())?,
            stride_w: word(rows.weight_vectors())?,
            step: self.step,
            table: rows.table,
            key_low: key[0],
            key_high: key[1],
            rate: self.now.rate,
            root: self.now.root,
            keep1: self.constants.keep1,
            add1: self.constants.add1,
            keep2: self.constants.keep2,
            add2: self.constants.add2,
            epsilon: self.constants.epsilon,
            ..Default::default()
        })
    }
}

/// Workgroups of 64 for so many invocations in a plane, and how many lie side by side.
pub(super) fn plane(invocations: usize, caps: &Caps) -> Result<([u32; 3], u32)> {
    let groups = word(invocations.div_ceil(64))?;
    let across = groups.clamp(1, caps.max_workgroups.min(16_384));
    let down = groups.div_ceil(across);
    // Kernels divide numbers below 2^31.
    if down > caps.max_workgroups || u64::from(down) * u64::from(across) * 64 >= 1 << 31 {
        let what = format!("{invocations} vectors of touched rows in a step");
        return Err(Error::new(ErrorKind::TooBig, what).with_help("use a smaller batch, or fewer active labels"));
    }
    Ok(([across, down, 1], across))
}

fn leading(flag: &str) -> &'static [Access] {
    match flag {
        "PAIRS" => &[Access::Read; 4],
        "SAMPLES" => &[Access::Read; 3],
        _ => &[Access::Read; 2],
    }
}

fn update_kernel(rule: Rule, storage: Storage, entries: &'static str, ids: bool) -> Kernel {
    with_tables::<RowUpdateParams>("row_update", ROW_UPDATE, leading(entries), rule, storage)
        .flag(entries, true)
        .flag("IDS", ids)
}

fn sum_kernel(entries: &'static str, out: usize) -> Kernel {
    let mut bindings = leading(entries).to_vec();
    bindings.push(Access::Write);
    Kernel::new::<RowUpdateParams>("row_update", ROW_UPDATE, &bindings)
        .flag(entries, true)
        .flag("SUM", true)
        .define("OUT", out)
}

fn dense_kernel(rule: Rule, storage: Storage) -> Kernel {
    with_tables::<RowUpdateParams>("row_dense", ROW_DENSE, &[Access::Read], rule, storage).flag("ALL", true)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let each = |kernel: Kernel| [1, SHARED].map(|vectors| kernel.clone().define("VECTORS", vectors));
    let mut all: Vec<_> = [sum_kernel("PAIRS", 4), sum_kernel("SAMPLES", 3)].into_iter().flat_map(each).collect();
    for rule in [Rule::adam(), Rule::adagrad(), Rule::Sgd] {
        for storage in [Storage::F32, Storage::Bf16] {
            for (entries, ids) in [("PAIRS", false), ("SAMPLES", false), ("PANEL", false), ("PANEL", true)] {
                all.extend(each(update_kernel(rule, storage, entries, ids)));
            }
            all.push(dense_kernel(rule, storage));
        }
    }
    all
}
