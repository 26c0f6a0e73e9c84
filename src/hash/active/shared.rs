//! A set of active labels that the whole batch shares. Kernels: `mark_labels`, `mark_candidates`, `candidate_digits`,
//! `candidate_pick`, `candidate_choose`, `fill_draw`, `fill_mark`, `set_words`, `set_ids`.
//!
//! The set is a bit a label. Labels of the batch are marked; of the candidates the best are found by settling the digits of
//! the key of the first that finds no room, from the top down (a radix select: no candidate moves); the first places of the step's random order
//! of all labels that are not marked yet fill the rest; and a scan of the words' bits says where each id goes.

use super::shuffle::{Order, what};
use super::{ActiveSet, BatchLabels, Draws, bits_of, check_labels, too_few};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Params, Recording, params};
use crate::hash::Touched;
use crate::ops::random::Stream;
use crate::ops::{bindable, scan, slot_grid, strided_grid, word};
use crate::tensor::{ALIGNED, Tensor};

const MARK_LABELS: &str = include_str!("../../../shaders/hash/mark_labels.wgsl");
const MARK_CANDIDATES: &str = include_str!("../../../shaders/hash/mark_candidates.wgsl");
const CANDIDATE_DIGITS: &str = include_str!("../../../shaders/hash/candidate_digits.wgsl");
const CANDIDATE_PICK: &str = include_str!("../../../shaders/hash/candidate_pick.wgsl");
const CANDIDATE_CHOOSE: &str = include_str!("../../../shaders/hash/candidate_choose.wgsl");
const FILL_DRAW: &str = include_str!("../../../shaders/hash/fill_draw.wgsl");
const FILL_MARK: &str = include_str!("../../../shaders/hash/fill_mark.wgsl");
const SET_WORDS: &str = include_str!("../../../shaders/hash/set_words.wgsl");
const SET_IDS: &str = include_str!("../../../shaders/hash/set_ids.wgsl");
/// Bins of a digit of a key, and the most digits: one of counts and three of 31 bits.
const BINS: usize = 2048;
const DIGIT_BITS: u32 = 11;
const LEVELS: usize = 4;

params!(MarkLabelsParams { count: u32, threads: u32, labels: u32, pad0: u32 });
params!(MarkCandidatesParams {
    rows: u32,
    row_step: u32,
    columns: u32,
    threads: u32,
    ld: u32,
    labels: u32,
    total: u32,
    pad0: u32,
});
params!(CandidateParams {
    words: u32,
    threads: u32,
    bits: u32,
    total: u32,
    level: u32,
    shift: u32,
    width: u32,
    size: u32,
    k: [u32; 4],
    l: [u32; 4],
});
params!(PickParams { start: u32, level: u32, shift: u32, size: u32 });
params!(FillDrawParams { size: u32, threads: u32, labels: u32, bits: u32, k: [u32; 4], l: [u32; 4] });
params!(FillMarkParams { size: u32, threads: u32, pad0: u32, pad1: u32 });
params!(SetParams { words: u32, threads: u32, size: u32, pad0: u32 });

/// Which candidates are taken where not all have room. Ties are broken by the step's random order, never by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Those that come first: all lists' first entries, then all lists' second, and so on.
    First,
    /// Those that are returned most often (2,047 times and more count alike).
    Most,
    /// At random: a plain union.
    Seeded,
}

/// Where the labels of a shared set come from that are not the batch's own.
#[derive(Debug, Clone, Copy)]
pub enum Candidates<'a> {
    /// From fill alone: uniform sampling.
    Uniform,
    /// Lists of ids `[rows, columns]`, [`super::NONE`] where there is none: what hash tables return for the samples.
    List(&'a Tensor<u32>, Choice),
    /// Rows of a table of neighbours `[labels, columns]` of all labels of the batch (a label of several samples counts as often).
    Neighbours(&'a Tensor<u32>, Choice),
    /// Draws of a distribution, in their order.
    Draws(&'a Draws),
}

/// Where the parts of the scratch lie, in words.
#[derive(Debug, Clone, Copy)]
struct Regions {
    set: usize,
    found: usize,
    state: usize,
    statistics: usize,
    bins: usize,
    values: usize,
    end: usize,
}

impl Regions {
    fn new(labels: usize) -> Self {
        let words = labels.div_ceil(32).next_multiple_of(ALIGNED);
        // What lies at the front of a memory binds the whole of it: nothing does.
        let set = ALIGNED;
        let found = set + words;
        let state = found + words;
        let statistics = state + ALIGNED;
        let bins = statistics + ALIGNED;
        let values = bins + LEVELS * BINS;
        let end = values + labels.next_multiple_of(ALIGNED);
        Self { set, found, state, statistics, bins, values, end }
    }
}

/// Makes the shared set of each step.
#[derive(Debug, Clone)]
pub struct SharedSet {
    /// What the last recorded step leaves; the same tensors every step.
    pub active: ActiveSet,
    labels: usize,
    size: usize,
    seed: u64,
    regions: Regions,
    scratch: Tensor<u32>,
    /// Draws of the fill, whether each is new, and how many before it are; `[1, size]`.
    fill: [Tensor<u32>; 3],
    fill_scan: scan::Workspace<u32>,
    /// Bits of each word of the set, and the places of its ids; `[1, words]`.
    places: [Tensor<u32>; 2],
    places_scan: scan::Workspace<u32>,
}

impl SharedSet {
    /// For sets of `size` of `labels` labels.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if there are not as many labels, [`ErrorKind::TooBig`] for more than 2^31 or more than a binding holds,
    /// and those of [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, labels: usize, size: usize, seed: u64) -> Result<Self> {
        check_labels(labels, size)?;
        let regions = Regions::new(labels);
        let words = labels.div_ceil(32);
        let row = async |n: usize| Tensor::uninit_async(gpu, &[1, n]).await;
        let scratch = Tensor::uninit_async(gpu, &[regions.end]).await?;
        let set = Self {
            active: ActiveSet {
                ids: Tensor::uninit_async(gpu, &[size]).await?,
                touched: Touched::uninit_async(gpu, size).await?,
                order: None,
                statistics: region(&scratch, regions.statistics, 4)?,
            },
            labels,
            size,
            seed,
            regions,
            scratch,
            fill: [row(size).await?, row(size).await?, row(size).await?],
            fill_scan: scan::Workspace::new_async(gpu, 1, size).await?,
            places: [row(words).await?, row(words).await?],
            places_scan: scan::Workspace::new_async(gpu, 1, words).await?,
        };
        bindable(gpu.caps(), &[set.part(regions.values, labels)?.binding(), set.active.touched.list.binding()])?;
        Ok(set)
    }

    /// Blocking twin of [`SharedSet::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, labels: usize, size: usize, seed: u64) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, labels, size, seed))
    }

    /// Records the choice of a step's active labels into [`SharedSet::active`].
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if the batch has more different labels than the set has room, [`ErrorKind::Internal`] for shapes
    /// that do not fit, [`ErrorKind::TooBig`] for candidates that no binding holds.
    pub fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        step: u32,
        batch: &BatchLabels<'_>,
        candidates: &Candidates<'_>,
    ) -> Result<()> {
        batch.check()?;
        if batch.distinct > self.size {
            return Err(too_few(self.size, batch.distinct));
        }
        let mut pass = Pass { set: self, recording, caps, step };
        let counted = !matches!(candidates, Candidates::Uniform);
        let end = if counted { self.regions.end } else { self.regions.bins };
        pass.recording.clear(self.scratch.part(0, end)?);
        pass.mark_labels(batch)?;
        match *candidates {
            Candidates::Uniform => {}
            Candidates::List(list, choice) => pass.candidates(list, None, choice)?,
            Candidates::Neighbours(table, choice) => pass.candidates(table, Some(batch), choice)?,
            Candidates::Draws(draws) => {
                if draws.labels() != self.labels {
                    return Err(Error::internal(format!("draws of {} of {} labels", draws.labels(), self.labels)));
                }
                draws.record(pass.recording, caps, Stream::new(self.seed), step)?;
                pass.candidates(&draws.list, None, Choice::First)?;
            }
        }
        pass.fill()?;
        pass.ids()
    }

    fn part(&self, first: usize, length: usize) -> Result<Tensor<u32>> {
        region(&self.scratch, first, length)
    }

    fn words(&self) -> usize {
        self.labels.div_ceil(32)
    }

    fn set(&self) -> Result<Tensor<u32>> {
        self.part(self.regions.set, self.words())
    }
}

fn region(scratch: &Tensor<u32>, first: usize, length: usize) -> Result<Tensor<u32>> {
    scratch.at(first, &[length]).ok_or_else(|| Error::internal(format!("{length} words at {first}")))
}

/// The recording of one step's set.
struct Pass<'a> {
    set: &'a SharedSet,
    recording: &'a mut Recording,
    caps: &'a Caps,
    step: u32,
}

impl Pass<'_> {
    /// A dispatch over `len` things; `params` gets the stride of its invocations.
    fn over<P: Params>(
        &mut self,
        kernel: &Kernel,
        operands: &[&Tensor<u32>],
        len: usize,
        params: impl FnOnce(u32) -> Result<P>,
    ) -> Result<()> {
        let (groups, threads) = strided_grid(len, self.caps.max_workgroups)?;
        let bindings = operands.iter().map(|t| t.binding()).collect();
        self.recording.dispatch(kernel, bindings, &params(threads)?, Grid::Direct([groups, 1, 1]), 16.0 * len as f64)
    }

    fn order(&self, what: u32) -> Order {
        Order::new(self.set.labels, Stream::new(self.set.seed), what, self.step)
    }

    fn mark_labels(&mut self, batch: &BatchLabels<'_>) -> Result<()> {
        let (set, statistics) = (self.set.set()?, &self.set.active.statistics);
        let (count, labels) = (word(batch.entries)?, word(self.set.labels)?);
        self.over(&mark_labels_kernel(), &[batch.ids, &set, statistics], batch.entries, |threads| {
            Ok(MarkLabelsParams { count, threads, labels, ..Default::default() })
        })
    }

    /// Marks the best candidates of a list, or of the rows of a table that the batch's labels name.
    fn candidates(&mut self, list: &Tensor<u32>, of: Option<&BatchLabels<'_>>, choice: Choice) -> Result<()> {
        let &[rows, columns] = list.shape() else {
            return Err(Error::internal(format!("candidates of shape {:?}", list.shape())));
        };
        if of.is_some() && rows != self.set.labels {
            return Err(Error::internal(format!("neighbours of {rows} of {} labels", self.set.labels)));
        }
        let rows = of.map_or(rows, |batch| batch.entries);
        let total = rows.saturating_mul(columns);
        if total >= 1 << 31 {
            let what = format!("{total} candidates of a step, of which there may be 2^31");
            return Err(Error::new(ErrorKind::TooBig, what).with_help("use a smaller batch or fewer hash tables"));
        }
        if total == 0 {
            return Ok(());
        }
        bindable(self.caps, &[list.binding()])?;
        let (set, regions) = (self.set.set()?, self.set.regions);
        let found = self.set.part(regions.found, self.set.words())?;
        let values = self.set.part(regions.values, self.set.labels)?;
        let (grid, threads, row_step) = slot_grid(columns, rows, self.caps.max_workgroups)?;
        let params = MarkCandidatesParams {
            rows: word(rows)?,
            row_step,
            columns: word(columns)?,
            threads,
            ld: word(list.row_stride())?,
            labels: word(self.set.labels)?,
            total: word(total)?,
            ..Default::default()
        };
        let mut bindings = vec![list.binding(), set.binding(), found.binding(), values.binding()];
        bindings.extend(of.map(|batch| batch.ids.binding()));
        let kernel = mark_candidates_kernel(choice, of.is_some());
        self.recording.dispatch(&kernel, bindings, &params, Grid::Direct(grid), 16.0 * total as f64)?;
        self.choose(choice, total, [&set, &found, &values])
    }

    /// Settles the digits of the key of the first candidate without room, and marks those before it.
    fn choose(&mut self, choice: Choice, total: usize, [set, found, values]: [&Tensor<u32>; 3]) -> Result<()> {
        let regions = self.set.regions;
        let state = self.set.part(regions.state, 4)?;
        let ties = self.order(what::TIES);
        let [k, l] = ties.words();
        let minor_bits = if choice == Choice::First { bits_of(total).max(1) } else { ties.bits() };
        let (words, size) = (self.set.words(), word(self.set.size)?);
        let base = CandidateParams {
            words: word(words)?,
            bits: ties.bits(),
            total: word(total)?,
            size,
            k,
            l,
            ..Default::default()
        };
        let [digits, choose] = candidate_kernels(choice);
        for (i, [level, shift, width]) in levels(choice, minor_bits).into_iter().enumerate() {
            let bins = self.set.part(regions.bins + i * BINS, BINS)?;
            self.over(&digits, &[found, &state, &bins, values], words, |threads| {
                Ok(CandidateParams { threads, level, shift, width, ..base })
            })?;
            let params = PickParams { start: u32::from(i == 0), level, shift, size, ..Default::default() };
            let bindings = vec![bins.binding(), state.binding(), self.set.active.statistics.binding()];
            self.recording.dispatch(&pick_kernel(), bindings, &params, Grid::Direct([1, 1, 1]), BINS as f64)?;
        }
        let statistics = &self.set.active.statistics;
        self.over(&choose, &[found, &state, set, statistics, values], words, |threads| {
            Ok(CandidateParams { threads, ..base })
        })
    }

    /// Marks the first labels of the step's order that are not marked yet.
    fn fill(&mut self) -> Result<()> {
        let (bits, SharedSet { fill: [draws, flags, ranks], .. }) = (self.set.set()?, self.set);
        let order = self.order(what::FILL);
        let ([k, l], size) = (order.words(), word(self.set.size)?);
        let labels = word(self.set.labels)?;
        self.over(&fill_draw_kernel(), &[&bits, draws, flags], self.set.size, |threads| {
            Ok(FillDrawParams { size, threads, labels, bits: order.bits(), k, l, ..Default::default() })
        })?;
        scan::exclusive(self.recording, self.caps, flags, &self.set.fill_scan, ranks)?;
        let statistics = &self.set.active.statistics;
        self.over(&fill_mark_kernel(), &[draws, flags, ranks, &bits, statistics], self.set.size, |threads| {
            Ok(FillMarkParams { size, threads, ..Default::default() })
        })
    }

    /// Lists the ids of the set.
    fn ids(&mut self) -> Result<()> {
        let (bits, SharedSet { places: [counts, places], active, .. }) = (self.set.set()?, self.set);
        let (words, size) = (self.set.words(), word(self.set.size)?);
        let count = word(words)?;
        let params = |threads| Ok(SetParams { words: count, threads, size, ..Default::default() });
        self.over(&set_words_kernel(), &[&bits, counts], words, params)?;
        scan::exclusive(self.recording, self.caps, counts, &self.set.places_scan, places)?;
        let operands = [&bits, places, &active.ids, &active.touched.list, &active.statistics];
        self.over(&set_ids_kernel(), &operands, words, params)
    }
}

/// The digits of a key from the top down: level, shift and bits.
fn levels(choice: Choice, bits: u32) -> Vec<[u32; 3]> {
    let mut levels = if choice == Choice::Most { vec![[0, 0, DIGIT_BITS]] } else { Vec::new() };
    let mut rest = bits;
    for left in (1..=bits.div_ceil(DIGIT_BITS)).rev() {
        let width = rest.div_ceil(left);
        rest -= width;
        levels.push([1, rest, width]);
    }
    levels
}

fn chosen(kernel: Kernel, choice: Choice) -> Kernel {
    kernel.flag("MOST", choice == Choice::Most).flag("FIRST", choice == Choice::First)
}

fn mark_labels_kernel() -> Kernel {
    Kernel::new::<MarkLabelsParams>("mark_labels", MARK_LABELS, &[Access::Read, Access::Write, Access::Write])
}

fn mark_candidates_kernel(choice: Choice, neighbours: bool) -> Kernel {
    let mut bindings = vec![Access::Read, Access::Read, Access::Write, Access::Write];
    if neighbours {
        bindings.push(Access::Read);
    }
    let kernel = Kernel::new::<MarkCandidatesParams>("mark_candidates", MARK_CANDIDATES, &bindings);
    chosen(kernel, choice).flag("NEIGHBOURS", neighbours)
}

fn candidate_kernels(choice: Choice) -> [Kernel; 2] {
    use Access::{Read, Write};
    let digits = Kernel::new::<CandidateParams>("candidate_digits", CANDIDATE_DIGITS, &[Read, Read, Write, Read]);
    let choose =
        Kernel::new::<CandidateParams>("candidate_choose", CANDIDATE_CHOOSE, &[Read, Read, Write, Write, Read]);
    [chosen(digits, choice), chosen(choose, choice)]
}

fn pick_kernel() -> Kernel {
    Kernel::new::<PickParams>("candidate_pick", CANDIDATE_PICK, &[Access::Read, Access::Write, Access::Read])
}

fn fill_draw_kernel() -> Kernel {
    Kernel::new::<FillDrawParams>("fill_draw", FILL_DRAW, &[Access::Read, Access::Write, Access::Write])
}

fn fill_mark_kernel() -> Kernel {
    use Access::{Read, Write};
    Kernel::new::<FillMarkParams>("fill_mark", FILL_MARK, &[Read, Read, Read, Write, Write])
}

fn set_words_kernel() -> Kernel {
    Kernel::new::<SetParams>("set_words", SET_WORDS, &[Access::Read, Access::Write])
}

fn set_ids_kernel() -> Kernel {
    use Access::{Read, Write};
    Kernel::new::<SetParams>("set_ids", SET_IDS, &[Read, Read, Write, Write, Write])
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let mut all = vec![mark_labels_kernel(), pick_kernel(), fill_draw_kernel(), fill_mark_kernel()];
    all.extend([set_words_kernel(), set_ids_kernel()]);
    for choice in [Choice::First, Choice::Most, Choice::Seeded] {
        all.extend([false, true].map(|neighbours| mark_candidates_kernel(choice, neighbours)));
        all.extend(candidate_kernels(choice));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Choice, LEVELS, levels};

    #[test]
    fn digits_cover_a_key_from_the_top_down() {
        for bits in 1..=31 {
            for choice in [Choice::First, Choice::Most] {
                let levels = levels(choice, bits);
                assert!(levels.len() <= LEVELS);
                let mut above = bits;
                for &[level, shift, width] in &levels {
                    assert!(width <= 11);
                    if level == 1 {
                        assert_eq!(shift + width, above);
                        above = shift;
                    }
                }
                assert_eq!(above, 0, "{bits} bits: {levels:?}");
            }
        }
    }
}
