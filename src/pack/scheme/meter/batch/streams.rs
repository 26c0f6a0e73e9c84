//! What is recorded for streams: chunks of runs, what each carries over, groups and blocks of what is left.

use super::super::kernels::{self, CarryParams, ChunkParams, PlaneParams, ScnnParams, StreamParams};
use super::super::parts::{RunPart, View};
use super::{Batch, Source};
use crate::error::{Error, Result};
use crate::gpu::{Binding, Buffer, Grid};
use crate::ops::word;
use crate::pack::scheme::width::{least_width, mantissa_bits, raw_bits};

/// A stream of more chunks than this gets a workgroup.
const FEW_CHUNKS: usize = 64;

/// Chunks of a stream on the device.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    chunks: Buffer,
    carry: Buffer,
    /// None where totals went to the results.
    total: Option<Buffer>,
}

/// What identifies [`Streams`]: tensor, view, a stream a channel or not, bits of a count and what is added to a run.
pub(super) type StreamKey = (usize, View, bool, u32, u32);

impl Batch {
    /// Chunks and carries of streams; totals in results where there is one stream.
    pub(super) async fn streams_async(
        &mut self,
        source: Source<'_>,
        part: &RunPart,
        (run_bits, add): (u32, u32),
        slot: Option<usize>,
    ) -> Result<Streams> {
        let key = (source.tensor, part.view.clone(), part.by_channel, run_bits, add);
        if let Some(known) = self.streams.get(&key) {
            return Ok(known.clone());
        }
        let (chunks, streams) = (part.chunks(), part.streams());
        let found = Streams {
            chunks: self.allocate_async(16 * chunks).await?,
            carry: self.allocate_async(8 * chunks).await?,
            total: if slot.is_none() { Some(self.allocate_async(16 * streams).await?) } else { None },
        };
        let (grid, threads) = self.grid(chunks)?;
        let params = ChunkParams {
            threads,
            chunks: word(chunks)?,
            values: word(part.view.len())?,
            positions: word(part.positions)?,
            channels: word(part.channels)?,
            length: word(part.chunk())?,
            per_channel: word(part.per_channel())?,
            run_bits,
            add,
            ..Default::default()
        };
        let bindings = vec![Binding::whole(source.data), Binding::whole(&found.chunks)];
        let work = 16.0 * part.view.len() as f64;
        self.recording.dispatch(&kernels::chunks(source.format()), bindings, &params, grid, work)?;
        let total = match (&found.total, slot) {
            (Some(total), _) => Binding::whole(total),
            (None, slot) => {
                Binding { buffer: self.results.clone(), offset: 4 * slot.unwrap_or_default() as u64, size: 16 }
            }
        };
        self.carries(&found, total, (streams, chunks / streams), (run_bits, add, slot.is_none()))?;
        self.streams.insert(key, found.clone());
        Ok(found)
    }

    fn carries(
        &mut self,
        found: &Streams,
        total: Binding,
        (streams, per_stream): (usize, usize),
        (run_bits, add, cuts): (u32, u32, bool),
    ) -> Result<()> {
        let wide = per_stream > FEW_CHUNKS;
        let (grid, threads) = if wide {
            let groups = word(streams)?.min(self.gpu.caps().max_workgroups);
            (Grid::Direct([groups, 1, 1]), groups)
        } else {
            self.grid(streams)?
        };
        let params = CarryParams {
            threads,
            streams: word(streams)?,
            per_stream: word(per_stream)?,
            run_bits,
            add,
            cuts: cuts.into(),
            ..Default::default()
        };
        let bindings = vec![Binding::whole(&found.chunks), Binding::whole(&found.carry), total];
        let work = 32.0 * (streams * per_stream) as f64;
        self.recording.dispatch(&kernels::carry(wide), bindings, &params, grid, work)
    }

    pub(super) fn planes(&mut self, source: Source<'_>, part: &RunPart, streams: &Streams, slot: usize) -> Result<()> {
        let (grid, threads) = self.sums_grid(part.chunks())?;
        let params = PlaneParams {
            threads,
            chunks: word(part.chunks())?,
            values: word(part.view.len())?,
            positions: word(part.positions)?,
            channels: word(part.channels)?,
            length: word(part.chunk())?,
            per_channel: word(part.per_channel())?,
            container_log2: source.element().bits().ilog2(),
            slot: word(slot)?,
            sign: source.sign(),
            ..Default::default()
        };
        let inputs = [source.data, &streams.chunks, &streams.carry].map(Binding::whole);
        let bindings = inputs.into_iter().chain([self.results()]).collect();
        let work = 32.0 * part.view.len() as f64;
        self.recording.dispatch(&kernels::planes(source.format()), bindings, &params, grid, work)
    }

    pub(super) async fn scnn_async(
        &mut self,
        source: Source<'_>,
        part: &RunPart,
        (group, run_bits, widths): (usize, u32, bool),
        slot: usize,
    ) -> Result<()> {
        let streams = self.streams_async(source, part, (run_bits, 0), None).await?;
        let Some(total) = &streams.total else { return Err(Error::internal("streams without totals")) };
        let group_log2 = group.ilog2();
        let (grid, threads) = self.sums_grid(part.streams())?;
        let params =
            StreamParams { items: word(part.streams())?, threads, slot: word(slot)?, group_log2, ..Default::default() };
        let bindings = vec![Binding::whole(total), self.results()];
        self.recording.dispatch(&kernels::streams(), bindings, &params, grid, part.streams() as f64)?;
        if !widths {
            return Ok(());
        }
        let sums = self.allocate_async(4 * part.streams()).await?;
        self.recording.clear(Binding::whole(&sums));
        let (grid, threads) = self.sums_grid(part.chunks())?;
        let params = ScnnParams {
            threads,
            chunks: word(part.chunks())?,
            values: word(part.view.len())?,
            positions: word(part.positions)?,
            channels: word(part.channels)?,
            length: word(part.chunk())?,
            per_channel: word(part.per_channel())?,
            run_bits,
            sign: source.sign(),
            mantissa: mantissa_bits(source.element()),
            raw: raw_bits(source.element()),
            top: source.top,
            slot: word(slot)?,
            group_log2,
            least: least_width(source.element(), false),
            ..Default::default()
        };
        let inputs = [source.data, &streams.carry, total, &sums].map(Binding::whole);
        let bindings = inputs.into_iter().chain([self.results()]).collect();
        let work = 32.0 * part.view.len() as f64;
        self.recording.dispatch(&kernels::scnn(source.format()), bindings, &params, grid, work)?;
        self.rows(source, &sums, part.streams(), slot)
    }
}
