//! Stable radix sort of rows of words that carry a word each, by their lowest bits. Kernels: `sort_count`, `sort_scatter`.
//!
//! A pass counts the digits of every block of keys, scans the counters by digit and then block, and scatters each block in order;
//! passes go from the lowest digit up. Nothing is decided by which workgroup comes first, so the result is exact and the
//! same everywhere: ascending keys, equal keys in the order in which they came.

use std::ops::Range;

use super::{scan, windows, word};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Binding, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::tensor::{Tensor, pitch};

const SORT_COUNT: &str = include_str!("../../shaders/ops/sort_count.wgsl");
const SORT_SCATTER: &str = include_str!("../../shaders/ops/sort_scatter.wgsl");

params!(SortParams {
    n: u32,
    blocks: u32,
    shift: u32,
    digits: u32,
    ld_keys: u32,
    ld_payload: u32,
    ld_out_keys: u32,
    ld_out_payload: u32,
    ld_counts: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// How a pass is laid out. It never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// 128 lanes with short runs, digits of four bits: for GPUs.
    Wide,
    /// 8 lanes, one vector of a processor, with long runs and digits of up to eight bits: for software devices.
    Narrow,
}

impl Variant {
    /// What suits the device.
    pub fn of(caps: &Caps) -> Self {
        if caps.is_software() { Self::Narrow } else { Self::Wide }
    }

    /// Lanes, keys of a lane, pieces of a scan over the lanes, and most bits of a digit.
    const fn layout(self) -> [usize; 4] {
        match self {
            Self::Wide => [128, 16, 8, 4],
            Self::Narrow => [8, 512, 1, 8],
        }
    }

    const fn block(self) -> usize {
        let [lanes, run, ..] = self.layout();
        lanes * run
    }
}

/// What a sort needs besides its operands; one can serve many sorts of the same size, one after the other.
#[derive(Debug, Clone)]
pub struct Workspace {
    variant: Variant,
    rows: usize,
    n: usize,
    bits: u32,
    /// Rows that are sorted at a time, and the workspace of their scan.
    windows: Vec<(Range<usize>, scan::Workspace<u32>)>,
    /// Keys and payload between passes, of a window.
    between: Option<[Tensor<u32>; 2]>,
    counts: Tensor<u32>,
    offsets: Tensor<u32>,
}

impl Workspace {
    /// For sorts of `rows` rows of `n` keys by their lowest `bits` bits, 1 to 32.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for other numbers of bits, [`ErrorKind::TooBig`] for more rows or longer ones than a dispatch
    /// has workgroups for and for rows larger than a binding, and those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, rows: usize, n: usize, bits: u32) -> Result<Self> {
        Self::with_async(gpu, rows, n, bits, Variant::of(gpu.caps())).await
    }

    /// Blocking twin of [`Workspace::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, rows: usize, n: usize, bits: u32) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, rows, n, bits))
    }

    /// [`Workspace::new_async`] with a layout of the caller's choice.
    ///
    /// # Errors
    /// Those of [`Workspace::new_async`].
    pub async fn with_async(gpu: &Gpu, rows: usize, n: usize, bits: u32, variant: Variant) -> Result<Self> {
        if !(1..=32).contains(&bits) {
            return Err(Error::internal(format!("a sort by {bits} bits")));
        }
        let caps = gpu.caps();
        let blocks = n.div_ceil(variant.block());
        if rows.max(blocks) > caps.max_workgroups as usize {
            let what = format!("a sort of {rows} rows of {n} keys, more than a dispatch has workgroups");
            return Err(Error::new(ErrorKind::TooBig, what).with_help("sort fewer rows at a time"));
        }
        let (passes, digit_bits) = split(bits, variant);
        let counters = (blocks << digit_bits).max(1);
        let strides = [pitch(n), pitch(counters)];
        let bytes = rows as u64 * strides[0].max(strides[1]) as u64 * 4;
        let step = if bytes <= caps.max_binding { rows } else { windows::step(&strides, &[], caps.max_binding)? };
        let mut windows = Vec::new();
        for start in (0..rows).step_by(step.max(1)) {
            let range = start..rows.min(start + step);
            let workspace = match windows.last() {
                Some((last, workspace)) if Range::len(last) == range.len() => scan::Workspace::clone(workspace),
                _ => scan::Workspace::new_async(gpu, range.len(), counters).await?,
            };
            windows.push((range, workspace));
        }
        let table = async |columns: usize| Tensor::uninit_async(gpu, &[step, columns]).await;
        let between = if passes > 1 { Some([table(n).await?, table(n).await?]) } else { None };
        let (counts, offsets) = (table(counters).await?, table(counters).await?);
        Ok(Self { variant, rows, n, bits, windows, between, counts, offsets })
    }

    /// Blocking twin of [`Workspace::with_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with(gpu: &Gpu, rows: usize, n: usize, bits: u32, variant: Variant) -> Result<Self> {
        pollster::block_on(Self::with_async(gpu, rows, n, bits, variant))
    }

    /// Whether the tensor has the rows that this sorts, densely one after the other; `[n]` is one row.
    fn fits(&self, t: &Tensor<u32>) -> bool {
        let shape = match t.shape() {
            [n] => [1, *n],
            [rows, n] => [*rows, *n],
            _ => return false,
        };
        shape == [self.rows, self.n] && (self.rows == 1 || t.row_stride() == pitch(self.n))
    }
}

/// The number of passes, and the bits of a pass's digit.
fn split(bits: u32, variant: Variant) -> (u32, u32) {
    let [.., most] = variant.layout();
    let passes = bits.div_ceil(u32::try_from(most).unwrap_or(8));
    (passes, bits.div_ceil(passes))
}

/// What a sort reads and writes, all `[rows, n]`, or `[n]` for one row.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a> {
    /// Keys; not changed.
    pub keys: &'a Tensor<u32>,
    /// What each key carries; not changed. Without it, its place in its row.
    pub payload: Option<&'a Tensor<u32>>,
    /// Keys in ascending order of their lowest bits; other memory than that of the operands above.
    pub out_keys: &'a Tensor<u32>,
    /// What they carried.
    pub out_payload: &'a Tensor<u32>,
}

/// Records a stable sort of every row by the lowest bits for which the workspace was made.
///
/// # Errors
/// [`ErrorKind::Internal`] for shapes that the workspace was not made for and for outputs that overlap inputs.
pub fn record(recording: &mut Recording, caps: &Caps, workspace: &Workspace, operands: &Operands<'_>) -> Result<()> {
    let Operands { keys, payload, out_keys, out_payload } = *operands;
    for t in [Some(keys), payload, Some(out_keys), Some(out_payload)].into_iter().flatten() {
        if !workspace.fits(t) {
            let what = format!("a sort of shape {:?} for {} rows of {}", t.shape(), workspace.rows, workspace.n);
            return Err(Error::internal(what));
        }
    }
    if workspace.n == 0 {
        return Ok(());
    }
    let (passes, digit_bits) = split(workspace.bits, workspace.variant);
    for (range, scan) in &workspace.windows {
        let mut source = (part(workspace, keys, range)?, payload.map(|t| part(workspace, t, range)).transpose()?);
        for pass in 0..passes {
            // The last pass writes the result, those before it there or between by turns.
            let out = match &workspace.between {
                Some([keys, payload]) if (passes - 1 - pass) % 2 == 1 => {
                    let here = 0..range.len();
                    [part(workspace, keys, &here)?, part(workspace, payload, &here)?]
                }
                _ => [part(workspace, out_keys, range)?, part(workspace, out_payload, range)?],
            };
            let shift = pass * digit_bits;
            let bits = digit_bits.min(workspace.bits - shift);
            record_pass(recording, caps, (workspace, scan), &source, &out, (range.len(), shift, bits))?;
            let [keys, payload] = out;
            source = (keys, Some(payload));
        }
    }
    Ok(())
}

/// The rows of a range.
fn part(workspace: &Workspace, t: &Tensor<u32>, range: &Range<usize>) -> Result<Binding> {
    let stride = pitch(workspace.n);
    // A single row need not be padded.
    let elements = if workspace.rows == 1 { workspace.n } else { range.len() * stride };
    t.part(range.start * stride, elements)
}

fn record_pass(
    recording: &mut Recording,
    caps: &Caps,
    (workspace, scan): (&Workspace, &scan::Workspace<u32>),
    (keys, payload): &(Binding, Option<Binding>),
    [out_keys, out_payload]: &[Binding; 2],
    (rows, shift, bits): (usize, u32, u32),
) -> Result<()> {
    let (n, stride) = (workspace.n, word(pitch(workspace.n))?);
    let counters = [rows, workspace.counts.columns()];
    let misfit = || Error::internal(format!("counters of shape {counters:?}"));
    let counts = workspace.counts.view(&counters).ok_or_else(misfit)?;
    let offsets = workspace.offsets.view(&counters).ok_or_else(misfit)?;
    let blocks = word(n.div_ceil(workspace.variant.block()))?;
    let params = SortParams {
        n: word(n)?,
        blocks,
        shift,
        digits: 1 << bits,
        ld_keys: stride / 4,
        ld_payload: stride / 4,
        ld_out_keys: stride,
        ld_out_payload: stride,
        ld_counts: word(counts.row_stride())?,
        ..Default::default()
    };
    let [count, scatter] = kernels(workspace.variant, payload.is_none());
    let grid = Grid::Direct([blocks, word(rows)?, 1]);
    let work = (rows * n) as f64;
    // A last digit of fewer bits leaves counters behind its own unwritten: they stand last, and what they hold adds to nothing.
    let bindings = vec![keys.clone(), counts.binding()];
    recording.dispatch(&count, bindings, &params, grid.clone(), 8.0 * work)?;
    scan::exclusive(recording, caps, &counts, scan, &offsets)?;
    let mut bindings = vec![keys.clone(), offsets.binding(), out_keys.clone(), out_payload.clone()];
    bindings.extend(payload.clone());
    recording.dispatch(&scatter, bindings, &params, grid, 24.0 * work)
}

/// Counting and scattering; the payload is given, or the key's place.
fn kernels(variant: Variant, iota: bool) -> [Kernel; 2] {
    let [lanes, run, parts, bits] = variant.layout();
    let with = |kernel: Kernel| kernel.define("LANES", lanes).define("RUN", run).define("COUNTERS", lanes << bits);
    let count = Kernel::new::<SortParams>("sort_count", SORT_COUNT, &[Access::Read, Access::Write]);
    let mut bindings = vec![Access::Read, Access::Read, Access::Write, Access::Write];
    if !iota {
        bindings.push(Access::Read);
    }
    let scatter = Kernel::new::<SortParams>("sort_scatter", SORT_SCATTER, &bindings);
    let scatter = with(scatter).define("PARTS", parts).define("PIECES", parts << bits).flag("IOTA", iota);
    [with(count), scatter]
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let [wide, narrow] = [Variant::Wide, Variant::Narrow].map(|v| (kernels(v, false), kernels(v, true)));
    let list = |([count, given], [_, iota]): ([Kernel; 2], [Kernel; 2])| [count, given, iota];
    [list(wide), list(narrow)].concat()
}
