//! A batch: parts of tensors, one recording, one read.

mod streams;

use std::collections::HashMap;

use super::Tensor;
use super::kernels::{self, Format};
use super::kernels::{GroupParams, HistogramParams, QuadParams, SegmentParams};
use super::parts::{GroupPart, RunPart, View};
use super::sums::{Found, PLANE_RUNS, Task};
use crate::error::Result;
use crate::gpu::{Binding, Buffer, Control, Gpu, Grid, Recording};
use crate::ops::{strided_grid, word};
use crate::pack::scheme::width::{mantissa_bits, raw_bits};
use crate::pack::values::{Element, Values};
use streams::{StreamKey, Streams};

/// Words of results; a batch ends before they do.
const RESULTS: usize = 1 << 20;
/// Words of a task: results that a kernel binds by themselves start at a multiple of 256 bytes.
const SLOT: usize = 64;
/// Words of the largest histogram.
const HISTOGRAM: usize = 1 << 16;
/// Groups of a block, which an invocation has.
const BLOCK: usize = 16;
/// Bytes behind a tensor's last value that kernels may read.
const BEHIND: usize = 64;

/// A part of a tensor, as its task wants it.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Flat(View),
    Groups(GroupPart),
    Runs(RunPart),
}

impl Part {
    pub(super) fn view(&self) -> &View {
        match self {
            Self::Flat(view) => view,
            Self::Groups(part) => &part.view,
            Self::Runs(part) => &part.view,
        }
    }
}

struct Pending {
    tensor: usize,
    task: usize,
    part: Part,
    slot: usize,
}

/// A tensor's part that is being recorded.
#[derive(Clone, Copy)]
struct Source<'a> {
    tensor: usize,
    values: &'a Values,
    top: u32,
    data: &'a Buffer,
}

impl Source<'_> {
    fn element(&self) -> Element {
        self.values.element()
    }

    fn format(&self) -> Format {
        Format::of(self.element())
    }

    fn sign(&self) -> u32 {
        u32::from(self.element().is_signed() && !self.element().is_float())
    }
}

pub(super) struct Batch {
    gpu: Gpu,
    recording: Recording,
    results: Buffer,
    used: usize,
    held: u64,
    uploads: HashMap<(usize, View), Buffer>,
    quads: HashMap<(usize, View, usize), Buffer>,
    streams: HashMap<StreamKey, Streams>,
    pending: Vec<Pending>,
}

impl Batch {
    pub(super) async fn new_async(gpu: &Gpu) -> Result<Self> {
        let results = gpu.allocate_async(4 * RESULTS as u64).await?;
        let mut recording = Recording::new();
        recording.clear(Binding::whole(&results));
        Ok(Self {
            gpu: gpu.clone(),
            recording,
            results,
            used: 0,
            held: 0,
            uploads: HashMap::new(),
            quads: HashMap::new(),
            streams: HashMap::new(),
            pending: Vec::new(),
        })
    }

    /// Whether another part might not fit.
    pub(super) fn is_full(&self, most: u64) -> bool {
        self.held > most || self.used + HISTOGRAM + 2 * SLOT > RESULTS
    }

    /// Runs what was recorded, and adds what it found to the tensors.
    pub(super) async fn finish_async(mut self, tensors: &mut [Tensor<'_>], control: &Control) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let size = 4 * self.used.next_multiple_of(SLOT) as u64;
        let ticket = self.recording.read(Binding { buffer: self.results.clone(), offset: 0, size });
        let words: Vec<u32> = self.gpu.run_async(&self.recording, control).await?.take(ticket);
        for Pending { tensor, task, part, slot } in self.pending {
            let Tensor { values, tasks } = &mut tensors[tensor];
            let (task, found) = &mut tasks[task];
            add(found, &words[slot..], &part, (*task, values.element()));
        }
        Ok(())
    }

    /// Records what a task of a tensor needs of this part.
    pub(super) async fn record_async(
        &mut self,
        tensor: &Tensor<'_>,
        (index, task): (usize, usize),
        part: Part,
        top: u32,
    ) -> Result<()> {
        let data = self.upload_async(index, tensor.values, part.view()).await?;
        let source = Source { tensor: index, values: tensor.values, top, data: &data };
        let slot = self.used;
        self.used += SLOT;
        match (tensor.tasks[task].0, &part) {
            (Task::Histogram, Part::Flat(view)) => self.histogram(source, view.len(), slot)?,
            (Task::Groups { group, least, .. }, Part::Groups(part)) => {
                self.groups_async(source, part, (group, least), slot).await?;
            }
            (Task::Runs { run_bits }, Part::Runs(part)) => {
                self.streams_async(source, part, (run_bits, 0), Some(slot)).await?;
            }
            (Task::Planes, Part::Runs(part)) => {
                let streams = self.streams_async(source, part, PLANE_RUNS, Some(slot)).await?;
                self.used += SLOT;
                self.planes(source, part, &streams, slot + SLOT)?;
            }
            (Task::Scnn { group, run_bits, widths }, Part::Runs(part)) => {
                self.scnn_async(source, part, (group, run_bits, widths), slot).await?;
            }
            _ => return Err(crate::Error::internal("a part of another task")),
        }
        self.pending.push(Pending { tensor: index, task, part, slot });
        Ok(())
    }

    async fn allocate_async(&mut self, bytes: usize) -> Result<Buffer> {
        let buffer = self.gpu.allocate_async(bytes as u64).await?;
        self.held += buffer.size();
        Ok(buffer)
    }

    async fn upload_async(&mut self, index: usize, values: &Values, view: &View) -> Result<Buffer> {
        let key = (index, view.clone());
        if let Some(known) = self.uploads.get(&key) {
            return Ok(known.clone());
        }
        let mut bytes = view.bytes(values);
        bytes.resize(bytes.len().next_multiple_of(16) + BEHIND, 0);
        let buffer = self.allocate_async(bytes.len()).await?;
        self.gpu.upload(&buffer, &bytes)?;
        self.uploads.insert(key, buffer.clone());
        Ok(buffer)
    }

    /// Workgroups for a loop over so many things, and its stride.
    fn grid(&self, items: usize) -> Result<(Grid, u32)> {
        let (groups, threads) = strided_grid(items, self.gpu.caps().max_workgroups)?;
        Ok((Grid::Direct([groups, 1, 1]), threads))
    }

    /// The same for kernels that end with sums of a workgroup: few of those where atomics are slow.
    fn sums_grid(&self, items: usize) -> Result<(Grid, u32)> {
        let most = if self.gpu.caps().is_software() { 64 } else { 4096 };
        let (groups, threads) = strided_grid(items, most.min(self.gpu.caps().max_workgroups))?;
        Ok((Grid::Direct([groups, 1, 1]), threads))
    }

    fn results(&self) -> Binding {
        Binding::whole(&self.results)
    }

    fn histogram(&mut self, source: Source<'_>, len: usize, slot: usize) -> Result<()> {
        let halves = source.format() != Format::Bytes;
        self.used = slot + if halves { HISTOGRAM } else { 256 };
        let vectors = len.div_ceil(if halves { 8 } else { 16 });
        // A workgroup has its own bins to clear and add up: it gets enough to count.
        let own = self.gpu.caps().is_software();
        let (lanes, most) = match (halves, own) {
            (true, _) => (64, 16_384),
            (false, true) => (8, 256),
            (false, false) => (256, 1024),
        };
        let groups = word(vectors.div_ceil(lanes * 4))?.clamp(1, most).min(self.gpu.caps().max_workgroups);
        let params = HistogramParams {
            vectors: word(vectors)?,
            threads: groups * word(lanes)?,
            slot: word(slot)?,
            ..Default::default()
        };
        let bindings = vec![Binding::whole(source.data), self.results()];
        let grid = Grid::Direct([groups, 1, 1]);
        self.recording.dispatch(&kernels::histogram(source.format(), own), bindings, &params, grid, 4.0 * len as f64)
    }

    /// Widths and non-zero values of all fours of values.
    async fn quads_async(&mut self, source: Source<'_>, part: &GroupPart) -> Result<Buffer> {
        let key = (source.tensor, part.view.clone(), part.unit);
        if let Some(known) = self.quads.get(&key) {
            return Ok(known.clone());
        }
        let each = part.unit.div_ceil(4);
        let count = part.view.len() / part.unit * each;
        let items = count.div_ceil(4);
        let buffer = self.allocate_async(4 * items).await?;
        let (grid, threads) = self.grid(items)?;
        let params = QuadParams {
            items: word(items)?,
            threads,
            quads: word(count)?,
            unit: word(part.unit)?,
            quads_per_unit: word(each)?,
            sign: source.sign(),
            mantissa: mantissa_bits(source.element()),
            raw: raw_bits(source.element()),
            top: source.top,
            ..Default::default()
        };
        let kernel = kernels::quads(source.format(), part.unit.is_multiple_of(4));
        let bindings = vec![Binding::whole(source.data), Binding::whole(&buffer)];
        self.recording.dispatch(&kernel, bindings, &params, grid, 8.0 * part.view.len() as f64)?;
        self.quads.insert(key, buffer.clone());
        Ok(buffer)
    }

    async fn groups_async(
        &mut self,
        source: Source<'_>,
        part: &GroupPart,
        (group, least): (usize, u32),
        slot: usize,
    ) -> Result<()> {
        let quads = self.quads_async(source, part).await?;
        let (quads_per_unit, groups_per_unit) = (part.unit.div_ceil(4), part.unit.div_ceil(group));
        let groups = part.view.len() / part.unit * groups_per_unit;
        let segment = part.segment.map_or(groups, |values| values / part.unit * groups_per_unit);
        let (blocks, count) = (segment.div_ceil(BLOCK), groups / segment);
        let (grid, threads) = self.sums_grid(count * blocks)?;
        let params = GroupParams {
            items: word(count * blocks)?,
            threads,
            slot: word(slot)?,
            unit: word(part.unit)?,
            quads_per_unit: word(quads_per_unit)?,
            groups_per_unit: word(groups_per_unit)?,
            quads_per_group: word(group / 4)?,
            groups: word(groups)?,
            segment: word(segment)?,
            blocks: word(blocks)?,
            block: word(BLOCK)?,
            least,
            container_log2: source.element().bits().ilog2(),
            ..Default::default()
        };
        let kernel = kernels::groups(group, quads_per_unit);
        let sums = self.allocate_async(if blocks > 1 { 4 * count } else { 4 }).await?;
        self.recording.clear(Binding::whole(&sums));
        let bindings = vec![Binding::whole(&quads), Binding::whole(&sums), self.results()];
        self.recording.dispatch(&kernel, bindings, &params, grid, 4.0 * part.view.len() as f64)?;
        if blocks > 1 {
            self.rows(source, &sums, count, slot)?;
        }
        Ok(())
    }

    /// Memory rows of segments, from the bits of a lane in each.
    fn rows(&mut self, source: Source<'_>, sums: &Buffer, segments: usize, slot: usize) -> Result<()> {
        let (grid, threads) = self.sums_grid(segments)?;
        let container_log2 = source.element().bits().ilog2();
        let params =
            SegmentParams { items: word(segments)?, threads, slot: word(slot)?, container_log2, ..Default::default() };
        let bindings = vec![Binding::whole(sums), self.results()];
        self.recording.dispatch(&kernels::segments(), bindings, &params, grid, segments as f64)
    }
}

/// Adds the words of a part to what was found.
fn add(found: &mut Found, words: &[u32], part: &Part, (task, element): (Task, Element)) {
    match (found, part, task) {
        (Found::Histogram(counts), Part::Flat(view), _) => add_counts(counts, words, view.len(), element),
        (Found::Groups(sums), Part::Groups(part), _) => sums.add(words, part, element.bits()),
        (Found::Runs(sums), Part::Runs(part), Task::Runs { run_bits }) => {
            sums.add(words, part.view.len(), (run_bits, 0));
        }
        (Found::Planes(runs, bits), Part::Runs(part), _) => {
            runs.add(words, part.view.len(), PLANE_RUNS);
            *bits += u64::from(words[SLOT]);
        }
        (Found::Streams(sums), _, _) => sums.add(words),
        _ => {}
    }
}

/// Adds bins; the zeros that fill up the last vector were counted too. Signs of 4-bit values are above their codes.
fn add_counts(counts: &mut [u64], words: &[u32], len: usize, element: Element) {
    let bins = if element.bits() == 16 { HISTOGRAM } else { 256 };
    for (bin, &count) in words[..bins].iter().enumerate() {
        counts[bin % counts.len()] += u64::from(count);
    }
    let vector = if element.bits() == 16 { 8 } else { 16 };
    counts[0] = counts[0].saturating_sub((len.next_multiple_of(vector) - len) as u64);
}
