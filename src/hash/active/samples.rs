//! A set of active labels for each sample. Kernels: `sample_count`, `sample_sets`, `sample_ids`, `pair_heads`, `pair_touched`.
//!
//! A workgroup makes a sample's set, a bit a label, in rounds; then all pairs of sample and label are sorted by label, which
//! gives the rows that the step touches and, for each, its pairs in ascending order.

use super::shuffle::{Order, what};
use super::{ActiveSet, BatchLabels, bits_of, check_labels, too_few};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::hash::Touched;
use crate::ops::random::Stream;
use crate::ops::{bindable, scan, slot_grid, sort, strided_grid, word};
use crate::tensor::Tensor;

const SAMPLE_COUNT: &str = include_str!("../../../shaders/hash/sample_count.wgsl");
const SAMPLE_SETS: &str = include_str!("../../../shaders/hash/sample_sets.wgsl");
const SAMPLE_IDS: &str = include_str!("../../../shaders/hash/sample_ids.wgsl");
const PAIR_HEADS: &str = include_str!("../../../shaders/hash/pair_heads.wgsl");
const PAIR_TOUCHED: &str = include_str!("../../../shaders/hash/pair_touched.wgsl");
/// The most active labels of a sample, and the most candidates: software devices leave a loop after 65,535 rounds.
const MOST_ACTIVE: usize = 1 << 14;
const MOST_CANDIDATES: usize = 1 << 15;
/// Lanes of a sample, and ids that each takes together, on software devices and on GPUs.
const LAYOUTS: [[u32; 2]; 2] = [[8, 8], [128, 2]];

params!(SampleCountParams {
    rows: u32,
    row_step: u32,
    columns: u32,
    threads: u32,
    ld: u32,
    labels: u32,
    mask: u32,
    first: u32,
});
params!(SampleSetsParams {
    first: u32,
    size: u32,
    all: u32,
    bits: u32,
    words: u32,
    ld: u32,
    groups: u32,
    width: u32,
    group_bits: u32,
    width_bits: u32,
    mask: u32,
    least: u32,
    fill_k: [u32; 4],
    fill_l: [u32; 4],
    group_k: [u32; 4],
    group_l: [u32; 4],
    width_k: [u32; 4],
    width_l: [u32; 4],
});
params!(SampleIdsParams { first: u32, words: u32, heads: u32, size: u32, ld: u32, pad0: u32, pad1: u32, pad2: u32 });
params!(PairParams { n: u32, threads: u32, pad0: u32, pad1: u32 });

/// Which candidates of a sample are taken. Tables are visited in a random order of the sample, and so are the entries of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleChoice {
    /// As they come, until there are enough: SLIDE's vanilla sampling.
    First,
    /// Those that are returned at least so often, as they come: SLIDE's hard thresholding.
    AtLeast(u32),
    /// Those that are returned most often (255 times and more count alike), of the same count as they come: SLIDE's top K.
    Most,
}

/// Candidates of the samples.
#[derive(Debug, Clone, Copy)]
pub struct SampleCandidates<'a> {
    /// `[samples, groups * width]`: what each table returned, [`super::NONE`] where nothing.
    pub ids: &'a Tensor<u32>,
    /// Number of tables.
    pub groups: usize,
    /// Which are taken.
    pub choice: SampleChoice,
}

/// Makes the sets of a step's samples.
#[derive(Debug, Clone)]
pub struct SampleSets {
    /// What the last recorded step leaves; the same tensors every step.
    pub active: ActiveSet,
    labels: usize,
    samples: usize,
    size: usize,
    seed: u64,
    /// Samples whose sets are made together.
    window: usize,
    set: Tensor<u32>,
    /// Slots a sample and their table, if candidates are counted.
    table: Option<(usize, Tensor<u32>)>,
    sort: sort::Workspace,
    /// Labels of the pairs in ascending order, `[pairs]`.
    keys: Tensor<u32>,
    /// Where runs of equal labels begin, and how many before; `[1, pairs]`.
    heads: [Tensor<u32>; 2],
    scan: scan::Workspace<u32>,
}

impl SampleSets {
    /// For batches of `samples` samples with `size` of `labels` labels each, `size` a multiple of four. `counted` is the most
    /// candidates of a sample whose returns are counted, 0 if none are ([`SampleChoice::First`]).
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for sizes that cannot be, [`ErrorKind::TooBig`] for what kernels do not reach, and those of
    /// [`Tensor::uninit_async`].
    pub async fn new_async(
        gpu: &Gpu,
        labels: usize,
        [samples, size]: [usize; 2],
        counted: usize,
        seed: u64,
    ) -> Result<Self> {
        check_labels(labels, size)?;
        if samples == 0 || !size.is_multiple_of(4) {
            return Err(Error::bad_input(format!("{size} active labels for each of {samples} samples"))
                .with_help("sets of samples have a multiple of four active labels"));
        }
        if size > MOST_ACTIVE || counted > MOST_CANDIDATES {
            let what = format!("{size} active labels and {counted} candidates for each sample");
            return Err(Error::new(ErrorKind::TooBig, what)
                .with_help("at most 16,384 and 32,768: share the set, or have fewer or smaller hash tables"));
        }
        let slots = if counted == 0 { 0 } else { (2 * counted).next_power_of_two() };
        let words = stride(labels);
        let room = gpu.caps().max_binding / 4;
        let fitting = usize::try_from(room / words.max(2 * slots) as u64).unwrap_or(usize::MAX);
        let window = samples.min(fitting).min(gpu.caps().max_workgroups as usize);
        let pairs = samples * size;
        if window == 0 {
            return Err(crate::ops::windows::too_big(4 * words.max(2 * slots) as u64, gpu.caps().max_binding));
        }
        let row = async |n: usize| Tensor::uninit_async(gpu, &[1, n]).await;
        let flat = async |n: usize| Tensor::uninit_async(gpu, &[n]).await;
        Ok(Self {
            active: ActiveSet {
                ids: Tensor::uninit_async(gpu, &[samples, size]).await?,
                touched: Touched::uninit_async(gpu, pairs.min(labels)).await?,
                order: Some(flat(pairs).await?),
                statistics: flat(4).await?,
            },
            labels,
            samples,
            size,
            seed,
            window,
            set: flat(window * words).await?,
            table: if slots == 0 { None } else { Some((slots, flat(window * slots * 2).await?)) },
            sort: sort::Workspace::new_async(gpu, 1, pairs, bits_of(labels).max(1)).await?,
            keys: flat(pairs).await?,
            heads: [row(pairs).await?, row(pairs).await?],
            scan: scan::Workspace::new_async(gpu, 1, pairs).await?,
        })
    }

    /// Blocking twin of [`SampleSets::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, labels: usize, sizes: [usize; 2], counted: usize, seed: u64) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, labels, sizes, counted, seed))
    }

    /// Records the choice of a step's active labels into [`SampleSets::active`].
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if a sample has more labels than its set has room, [`ErrorKind::Internal`] for shapes that do not
    /// fit or that were not made for counting, [`ErrorKind::TooBig`] for candidates that no binding holds.
    pub fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        step: u32,
        batch: &BatchLabels<'_>,
        candidates: Option<&SampleCandidates<'_>>,
    ) -> Result<()> {
        batch.check()?;
        self.check(caps, batch, candidates)?;
        recording.clear(self.active.statistics.binding());
        for first in (0..self.samples).step_by(self.window) {
            let rows = self.window.min(self.samples - first);
            recording.clear(self.set.binding());
            if let Some(candidates) = candidates.filter(|c| c.choice != SampleChoice::First) {
                self.record_counts(recording, caps, candidates, (first, rows))?;
            }
            self.record_sets(recording, caps, step, batch, candidates, (first, rows))?;
            self.record_ids(recording, caps, (first, rows))?;
        }
        self.record_pairs(recording, caps)
    }

    fn check(&self, caps: &Caps, batch: &BatchLabels<'_>, candidates: Option<&SampleCandidates<'_>>) -> Result<()> {
        if batch.samples != self.samples {
            return Err(Error::internal(format!("a batch of {} for sets of {}", batch.samples, self.samples)));
        }
        if batch.longest > self.size {
            return Err(too_few(self.size, batch.longest));
        }
        let Some(&SampleCandidates { ids, groups, choice }) = candidates else { return Ok(()) };
        let misfit = Error::internal(format!("candidates of shape {:?} in {groups} groups", ids.shape()));
        let &[rows, columns] = ids.shape() else { return Err(misfit) };
        let slots = self.table.as_ref().map_or(0, |(slots, _)| *slots);
        let counted = choice != SampleChoice::First;
        let whole = groups > 0 && columns.is_multiple_of(groups) && columns > 0;
        if rows != self.samples || !whole || columns > MOST_CANDIDATES || (counted && 2 * columns > slots) {
            return Err(misfit);
        }
        bindable(caps, &[ids.binding()])
    }

    /// Counts how often each candidate is returned.
    fn record_counts(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        candidates: &SampleCandidates<'_>,
        (first, rows): (usize, usize),
    ) -> Result<()> {
        let Some((slots, table)) = &self.table else { return Ok(()) };
        recording.clear(table.binding());
        let columns = candidates.ids.columns();
        let (grid, threads, row_step) = slot_grid(columns, rows, caps.max_workgroups)?;
        let params = SampleCountParams {
            rows: word(rows)?,
            row_step,
            columns: word(columns)?,
            threads,
            ld: word(candidates.ids.row_stride())?,
            labels: word(self.labels)?,
            mask: word(*slots - 1)?,
            first: word(first)?,
            ..Default::default()
        };
        let bindings = vec![candidates.ids.binding(), table.binding()];
        recording.dispatch(&count_kernel(), bindings, &params, Grid::Direct(grid), 40.0 * (rows * columns) as f64)
    }

    /// Makes the bits of the sets of a window.
    fn record_sets(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        step: u32,
        batch: &BatchLabels<'_>,
        candidates: Option<&SampleCandidates<'_>>,
        (first, rows): (usize, usize),
    ) -> Result<()> {
        let columns = candidates.map_or(1, |c| c.ids.columns());
        let groups = candidates.map_or(1, |c| c.groups);
        let order = |n: usize, what: u32| Order::new(n, Stream::new(self.seed), what, step);
        let [fill, of_groups, of_entries] =
            [(self.labels, what::FILL), (groups, what::GROUPS), (columns / groups, what::ENTRIES)]
                .map(|(n, what)| order(n, what));
        let ([fill_k, fill_l], [group_k, group_l]) = (fill.words(), of_groups.words());
        let [width_k, width_l] = of_entries.words();
        let params = SampleSetsParams {
            first: word(first)?,
            size: word(self.size)?,
            all: word(self.labels)?,
            bits: fill.bits(),
            words: word(self.labels.div_ceil(32))?,
            ld: word(candidates.map_or(0, |c| c.ids.row_stride()))?,
            groups: word(groups)?,
            width: word(columns / groups)?,
            group_bits: of_groups.bits(),
            width_bits: of_entries.bits(),
            mask: self.table.as_ref().map_or(Ok(0), |(slots, _)| word(*slots - 1))?,
            least: match candidates.map(|c| c.choice) {
                Some(SampleChoice::AtLeast(least)) => least,
                _ => 0,
            },
            fill_k,
            fill_l,
            group_k,
            group_l,
            width_k,
            width_l,
            ..Default::default()
        };
        let choice = candidates.map(|c| c.choice);
        let mut bindings = vec![batch.offsets.binding(), batch.ids.binding(), self.set.binding()];
        bindings.push(self.active.statistics.binding());
        bindings.extend(candidates.map(|c| c.ids.binding()));
        if choice.is_some_and(|choice| choice != SampleChoice::First) {
            bindings.extend(self.table.iter().map(|(_, table)| table.binding()));
        }
        let work = rows as f64 * (columns + self.size) as f64 * 40.0;
        let grid = Grid::Direct([word(rows)?, 1, 1]);
        recording.dispatch(&sets_kernel(choice, layout(caps, columns)), bindings, &params, grid, work)
    }

    /// Lists the ids of the sets of a window.
    fn record_ids(&self, recording: &mut Recording, caps: &Caps, (first, rows): (usize, usize)) -> Result<()> {
        let words = self.labels.div_ceil(32);
        let params = SampleIdsParams {
            first: word(first)?,
            words: word(words)?,
            heads: word(words.div_ceil(32))?,
            size: word(self.size)?,
            ld: word(self.active.ids.row_stride())?,
            ..Default::default()
        };
        let bindings = vec![self.set.binding(), self.active.ids.binding()];
        let work = (rows * (words / 16 + 16 * self.size)) as f64;
        recording.dispatch(
            &ids_kernel(layout(caps, self.size)),
            bindings,
            &params,
            Grid::Direct([word(rows)?, 1, 1]),
            work,
        )
    }

    /// Sorts the pairs by label and lists the rows that they touch.
    fn record_pairs(&self, recording: &mut Recording, caps: &Caps) -> Result<()> {
        let (Self { keys, heads: [flags, ranks], .. }, ActiveSet { ids, touched, order, statistics }) =
            (self, &self.active);
        let pairs = self.samples * self.size;
        let (Some(ids), Some(order)) = (ids.view(&[pairs]), order) else {
            return Err(Error::internal("sets of samples without an order"));
        };
        let operands = sort::Operands { keys: &ids, payload: None, out_keys: keys, out_payload: order };
        sort::record(recording, caps, &self.sort, &operands)?;
        let (groups, threads) = strided_grid(pairs, caps.max_workgroups)?;
        let (params, grid) =
            (PairParams { n: word(pairs)?, threads, ..Default::default() }, Grid::Direct([groups, 1, 1]));
        let bindings = vec![keys.binding(), flags.binding()];
        recording.dispatch(&heads_kernel(), bindings, &params, grid.clone(), 2.0 * pairs as f64)?;
        scan::exclusive(recording, caps, flags, &self.scan, ranks)?;
        let tables = [keys, flags, ranks, &touched.list, statistics];
        let bindings = tables.into_iter().map(Tensor::binding).collect();
        recording.dispatch(&touched_kernel(), bindings, &params, grid, 4.0 * pairs as f64)
    }
}

/// Words of a sample's set: a bit a label, and a bit for each of those words.
fn stride(labels: usize) -> usize {
    let words = labels.div_ceil(32);
    words + words.div_ceil(32)
}

/// Lanes of a sample, and ids that each takes together; they never change a result. Many candidates need many lanes on any device, for an
/// invocation's loops stay short.
fn layout(caps: &Caps, columns: usize) -> [u32; 2] {
    if caps.is_software() && columns <= 1 << 13 { LAYOUTS[0] } else { LAYOUTS[1] }
}

fn count_kernel() -> Kernel {
    Kernel::new::<SampleCountParams>("sample_count", SAMPLE_COUNT, &[Access::Read, Access::Write])
}

fn sets_kernel(choice: Option<SampleChoice>, [lanes, share]: [u32; 2]) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, Access::Write, Access::Write];
    let counted = choice.is_some_and(|choice| choice != SampleChoice::First);
    bindings.resize(4 + usize::from(choice.is_some()) + usize::from(counted), Access::Read);
    Kernel::new::<SampleSetsParams>("sample_sets", SAMPLE_SETS, &bindings)
        .define("LANES", lanes)
        .define("SHARE", share)
        .define("ROUND", lanes * share)
        .flag("CANDIDATES", choice.is_some())
        .flag("COUNTED", counted)
        .flag("LEAST", matches!(choice, Some(SampleChoice::AtLeast(_))))
        .flag("MOST", choice == Some(SampleChoice::Most))
}

fn ids_kernel([lanes, _]: [u32; 2]) -> Kernel {
    Kernel::new::<SampleIdsParams>("sample_ids", SAMPLE_IDS, &[Access::Read, Access::Write]).define("LANES", lanes)
}

fn heads_kernel() -> Kernel {
    Kernel::new::<PairParams>("pair_heads", PAIR_HEADS, &[Access::Read, Access::Write])
}

fn touched_kernel() -> Kernel {
    use Access::{Read, Write};
    Kernel::new::<PairParams>("pair_touched", PAIR_TOUCHED, &[Read, Read, Read, Write, Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let mut all = vec![count_kernel(), heads_kernel(), touched_kernel()];
    let choices = [None, Some(SampleChoice::First), Some(SampleChoice::AtLeast(1)), Some(SampleChoice::Most)];
    for layout in LAYOUTS {
        all.extend(choices.map(|choice| sets_kernel(choice, layout)));
        all.push(ids_kernel(layout));
    }
    all
}
