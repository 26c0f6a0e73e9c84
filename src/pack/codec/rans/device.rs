//! Coding and decoding on the device: batches of chunks of the same length, which nothing brings to the host.

use super::layout::Layout;
use crate::error::{Error, Result};
use crate::gpu::{Access, Binding, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::ops::word;
use crate::tensor::{Tensor, pitch};

const HISTOGRAM: &str = include_str!("../../../../shaders/pack/rans_histogram.wgsl");
const TABLE: &str = include_str!("../../../../shaders/pack/rans_table.wgsl");
const ENCODE: &str = include_str!("../../../../shaders/pack/rans_encode.wgsl");
const OFFSETS: &str = include_str!("../../../../shaders/pack/rans_offsets.wgsl");
const PACK: &str = include_str!("../../../../shaders/pack/rans_pack.wgsl");
const DECODE: &str = include_str!("../../../../shaders/pack/rans_decode.wgsl");
/// Invocations of a workgroup that codes: one a lane.
const LANES: usize = 256;

params!(RansParams {
    len: u32,
    quads: u32,
    rows: u32,
    lanes: u32,
    width: u32,
    width_log: u32,
    cap: u32,
    blocks: u32,
    ld_values: u32,
    ld_raw: u32,
    ld_lanes: u32,
    ld_units: u32,
    ld_scratch: u32,
    threads: u32,
    pad0: u32,
    pad1: u32,
});

/// Which bytes are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// All, four a word.
    Bytes,
    /// The high ones of values of 16 bits, two a word; the low ones come out beside them.
    High {
        /// Of values turned left by one bit: the sign of a float goes to the low byte.
        rotate: bool,
    },
}

/// Coded chunks of the same length on the device.
#[derive(Debug, Clone)]
pub struct Streams {
    /// `[chunks, 256]`: start and frequency of each symbol.
    pub symbols: Tensor<u32>,
    /// `[chunks, lanes]`, filled up to fours: states that decoding starts with.
    pub states: Tensor<u32>,
    /// `[chunks, 4 lanes]`, as `states`: lengths and places of lanes.
    pub records: Tensor<u32>,
    /// `[chunks, ..]`: the streams; how much of it is used says `totals`.
    pub units: Tensor<u32>,
    /// `[chunks]`: words of each stream.
    pub totals: Tensor<u32>,
    /// `[chunks, quads]`: low bytes of values of 16 bits.
    pub low: Option<Tensor<u32>>,
}

impl Streams {
    /// Room for `chunks` chunks with streams of at most `units` words (if not said, of as many as there can be).
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    pub async fn new_async(
        gpu: &Gpu,
        layout: &Layout,
        chunks: usize,
        plane: Plane,
        units: Option<usize>,
    ) -> Result<Self> {
        let lanes = pitch(layout.lanes());
        let low = match plane {
            Plane::Bytes => None,
            Plane::High { .. } => Some(Tensor::uninit_async(gpu, &[chunks, layout.quads]).await?),
        };
        let units = units.unwrap_or_else(|| layout.lanes() * layout.cap()).max(1);
        Ok(Self {
            symbols: Tensor::uninit_async(gpu, &[chunks, 256]).await?,
            states: Tensor::uninit_async(gpu, &[chunks, lanes]).await?,
            records: Tensor::uninit_async(gpu, &[chunks, 4 * lanes]).await?,
            units: Tensor::uninit_async(gpu, &[chunks, units]).await?,
            totals: Tensor::uninit_async(gpu, &[chunks]).await?,
            low,
        })
    }
}

/// What coding needs besides.
#[derive(Debug, Clone)]
pub struct Workspace {
    counts: Tensor<u32>,
    /// `[chunks, lanes]`, filled up to fours: 16-bit words of each lane.
    pub halves: Tensor<u32>,
    scratch: Option<Tensor<u32>>,
}

impl Workspace {
    /// For so many chunks, to be coded or (without `writes`) only counted.
    ///
    /// # Errors
    /// Those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, layout: &Layout, chunks: usize, writes: bool) -> Result<Self> {
        let scratch = if writes {
            Some(Tensor::uninit_async(gpu, &[chunks, layout.lanes() * layout.cap()]).await?)
        } else {
            None
        };
        Ok(Self {
            counts: Tensor::uninit_async(gpu, &[chunks, 256]).await?,
            halves: Tensor::uninit_async(gpu, &[chunks, pitch(layout.lanes())]).await?,
            scratch,
        })
    }
}

/// Records the models of chunks, and how many words and which states coding them gives: `values` `[chunks, words]`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn record_count(
    recording: &mut Recording,
    caps: &Caps,
    (plane, layout): (Plane, &Layout),
    values: &Tensor<u32>,
    workspace: &Workspace,
    streams: &Streams,
) -> Result<()> {
    let batch = Batch::new(plane, layout, values, streams)?;
    batch.model(recording, caps, values, workspace, streams)?;
    let bindings =
        vec![values.binding(), streams.symbols.binding(), streams.states.binding(), workspace.halves.binding()];
    batch.lanes(recording, &encode_kernel(plane, false), bindings, 1, 40.0)
}

/// Records the coding of `values` `[chunks, words]`, each chunk with a model of its own.
///
/// # Errors
/// As [`record_count`].
pub fn record_encode(
    recording: &mut Recording,
    caps: &Caps,
    (plane, layout): (Plane, &Layout),
    values: &Tensor<u32>,
    workspace: &Workspace,
    streams: &Streams,
) -> Result<()> {
    let mut batch = Batch::new(plane, layout, values, streams)?;
    let Some(scratch) = &workspace.scratch else { return Err(Error::internal("a workspace that only counts")) };
    batch.params.ld_scratch = word(scratch.row_stride())?;
    batch.model(recording, caps, values, workspace, streams)?;
    let (states, halves) = (streams.states.binding(), workspace.halves.binding());
    let mut bindings = vec![values.binding(), streams.symbols.binding(), states, halves.clone(), scratch.binding()];
    bindings.extend(streams.low.iter().map(Tensor::binding));
    batch.lanes(recording, &encode_kernel(plane, true), bindings, 1, 40.0)?;
    let bindings = vec![halves, streams.records.binding(), streams.totals.binding()];
    let grid = Grid::Direct([batch.chunks, 1, 1]);
    recording.dispatch(&offsets_kernel(), bindings, &batch.params, grid, f64::from(batch.chunks) * 4096.0)?;
    let parts = parts(caps);
    let bindings = vec![scratch.binding(), streams.records.binding(), streams.units.binding()];
    batch.lanes(recording, &pack_kernel(parts), bindings, parts, 4.0)
}

/// Records the decoding of chunks into `out` `[chunks, words]` (padding of rows is written too), and into `bad` `[chunks]`: 0, or lanes less the
/// number of the first lane that does not end where its coding began.
///
/// # Errors
/// As [`record_count`].
pub fn record_decode(
    recording: &mut Recording,
    (plane, layout): (Plane, &Layout),
    streams: &Streams,
    out: &Tensor<u32>,
    bad: &Tensor<u32>,
) -> Result<()> {
    let batch = Batch::new(plane, layout, out, streams)?;
    if bad.shape() != [batch.chunks as usize] {
        return Err(Error::internal(format!("verdicts of shape {:?} for {} chunks", bad.shape(), batch.chunks)));
    }
    recording.clear(bad.binding());
    let mut bindings: Vec<Binding> = [&streams.symbols, &streams.states, &streams.records, &streams.units, bad, out]
        .iter()
        .map(|t| t.binding())
        .collect();
    bindings.extend(streams.low.iter().map(Tensor::binding));
    batch.lanes(recording, &decode_kernel(plane), bindings, 1, 30.0)
}

/// Chunks of one dispatch.
struct Batch {
    plane: Plane,
    chunks: u32,
    params: RansParams,
}

impl Batch {
    fn new(plane: Plane, layout: &Layout, values: &Tensor<u32>, streams: &Streams) -> Result<Self> {
        let lanes = pitch(layout.lanes());
        let each = if plane == Plane::Bytes { 1 } else { 2 };
        let shape = |chunks| [[chunks, 256], [chunks, lanes], [chunks, 4 * lanes]];
        let &[chunks, words] = values.shape() else {
            return Err(Error::internal(format!("chunks of shape {:?}", values.shape())));
        };
        let found = [&streams.symbols, &streams.states, &streams.records].map(Tensor::shape);
        let low = streams.low.as_ref().is_none_or(|low| low.shape() == [chunks, layout.quads]);
        let fits = found.iter().zip(shape(chunks)).all(|(a, b)| *a == b)
            && streams.units.shape()[0] == chunks
            && low
            && streams.low.is_some() == (plane != Plane::Bytes)
            && layout.quads > 0
            && words <= each * layout.quads
            && words > each * (layout.quads - 1)
            && values.row_stride() >= each * layout.quads;
        if !fits {
            return Err(Error::internal(format!("{plane:?} of {:?} in {found:?}, {layout:?}", values.shape())));
        }
        let params = RansParams {
            len: word(layout.len)?,
            quads: word(layout.quads)?,
            rows: word(layout.rows)?,
            lanes: word(layout.lanes())?,
            width: word(layout.width)?,
            width_log: layout.width.ilog2(),
            cap: word(layout.cap())?,
            blocks: word(layout.blocks)?,
            ld_values: word(values.row_stride() / each)?,
            ld_raw: word(pitch(layout.quads))?,
            ld_lanes: word(lanes)?,
            ld_units: word(streams.units.row_stride())?,
            ..Default::default()
        };
        Ok(Self { plane, chunks: word(chunks)?, params })
    }

    /// Histogram and table.
    fn model(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        values: &Tensor<u32>,
        workspace: &Workspace,
        streams: &Streams,
    ) -> Result<()> {
        let private = caps.is_software();
        let lanes = if private { 8 } else { 256 };
        // A workgroup zeroes and adds up 2048 bins, so it should see many more values.
        let groups = (self.params.quads / if private { 4096 } else { 2048 }).clamp(1, 256);
        let params = RansParams { threads: groups * lanes, ..self.params };
        let work = 4.0 * f64::from(self.params.quads) * f64::from(self.chunks);
        recording.clear(workspace.counts.binding());
        let bindings = vec![values.binding(), workspace.counts.binding()];
        let grid = Grid::Direct([groups, self.chunks, 1]);
        recording.dispatch(&histogram_kernel(self.plane, private), bindings, &params, grid, 8.0 * work)?;
        let bindings = vec![workspace.counts.binding(), streams.symbols.binding()];
        let grid = Grid::Direct([self.chunks, 1, 1]);
        recording.dispatch(&table_kernel(), bindings, &params, grid, f64::from(self.chunks) * 2e5)
    }

    /// A kernel with an invocation a lane, of so many operations a value.
    fn lanes(
        &self,
        recording: &mut Recording,
        kernel: &Kernel,
        bindings: Vec<Binding>,
        parts: u32,
        operations: f64,
    ) -> Result<()> {
        let grid = [self.params.lanes.div_ceil(LANES as u32), self.chunks, parts];
        let work = operations * f64::from(self.params.len) * f64::from(self.chunks);
        recording.dispatch(kernel, bindings, &self.params, Grid::Direct(grid), work)
    }
}

/// Invocations that share the units of a lane: a software device has no latency to hide.
fn parts(caps: &Caps) -> u32 {
    if caps.is_software() { 1 } else { 4 }
}

fn of_plane(kernel: Kernel, plane: Plane) -> Kernel {
    kernel.flag("HALVES", plane != Plane::Bytes).flag("ROTATE", plane == Plane::High { rotate: true })
}

fn histogram_kernel(plane: Plane, private: bool) -> Kernel {
    let kernel = Kernel::new::<RansParams>("rans_histogram", HISTOGRAM, &[Access::Read, Access::Write]);
    of_plane(kernel.define("LANES", if private { 8 } else { 256 }).flag("PRIVATE", private), plane)
}

fn table_kernel() -> Kernel {
    Kernel::new::<RansParams>("rans_table", TABLE, &[Access::Read, Access::Write])
}

fn encode_kernel(plane: Plane, writes: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, Access::Write, Access::Write];
    bindings.extend([Access::Write; 2].into_iter().take(match (writes, plane) {
        (false, _) => 0,
        (true, Plane::Bytes) => 1,
        (true, Plane::High { .. }) => 2,
    }));
    of_plane(Kernel::new::<RansParams>("rans_encode", ENCODE, &bindings).flag("WRITE", writes), plane)
}

fn offsets_kernel() -> Kernel {
    Kernel::new::<RansParams>("rans_offsets", OFFSETS, &[Access::Read, Access::Write, Access::Write])
}

fn pack_kernel(parts: u32) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Write];
    Kernel::new::<RansParams>("rans_pack", PACK, &bindings).define("PARTS", parts)
}

fn decode_kernel(plane: Plane) -> Kernel {
    let mut bindings = vec![Access::Read; 4];
    bindings.extend([Access::Write; 2]);
    bindings.extend((plane != Plane::Bytes).then_some(Access::Read));
    of_plane(Kernel::new::<RansParams>("rans_decode", DECODE, &bindings), plane)
}

pub(in crate::pack) fn catalogue() -> Vec<Kernel> {
    let planes = [Plane::Bytes, Plane::High { rotate: false }, Plane::High { rotate: true }];
    let of_planes = planes.into_iter().flat_map(|plane| {
        [
            histogram_kernel(plane, false),
            histogram_kernel(plane, true),
            encode_kernel(plane, false),
            encode_kernel(plane, true),
            decode_kernel(plane),
        ]
    });
    of_planes.chain([table_kernel(), offsets_kernel(), pack_kernel(1), pack_kernel(4)]).collect()
}
