//! Device memory of some slots of an array, and what runs on it: blocks of training steps, and evaluations.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Occupant, Shared};
use crate::error::Result;
use crate::gpu::{Control, Flight, Gpu, ReadTicket, Recording};
use crate::ops::random::Stream;
use crate::tensor::{ALIGNED, Element, Tensor};
use crate::train::certify::Certify;
use crate::train::loss::{LossOut, RESULTS, Right};
use crate::train::lower::{Plan, Purpose, Tables, Workspace};
use crate::train::member::{Score, State};
use crate::train::optimiser::COEFFICIENTS;
use crate::train::optimiser::tables::{StepTables, record_norms, record_step};
use crate::train::set::{Augment, DeviceSet, Targets};

/// Device seconds of each dispatch with its kernel's name.
pub(super) type KernelTimes = Vec<(&'static str, f64)>;

/// What came of a turn, slot by slot.
pub(super) type Slots = Vec<Vec<f32>>;

/// Words of a random stream.
pub(super) const STREAM: usize = 4;

/// Rows of numbers that change from turn to turn, in one array: turn `t` has `[slots, width]` from an aligned place on.
#[derive(Debug, Clone)]
pub(super) struct Turns<T: Element> {
    tensor: Tensor<T>,
    slots: usize,
    width: usize,
}

impl<T: Element> Turns<T> {
    async fn new(gpu: &Gpu, turns: usize, slots: usize, width: usize) -> Result<Self> {
        let stride = (slots * width.next_multiple_of(4)).next_multiple_of(ALIGNED);
        Ok(Self { tensor: Tensor::uninit_async(gpu, &[turns, stride]).await?, slots, width })
    }

    fn of(&self, turn: usize) -> Result<Tensor<T>> {
        let first = turn * self.tensor.row_stride();
        let part = self.tensor.at(first, &[self.slots, self.width]);
        part.ok_or_else(|| crate::Error::internal("a turn that was not planned"))
    }

    /// The same for the first slots.
    fn front(&self, slots: usize) -> Self {
        Self { tensor: self.tensor.clone(), slots: slots.min(self.slots), width: self.width }
    }

    /// Uploads what `value` says of each turn and slot.
    fn write(&self, gpu: &Gpu, turns: usize, value: impl Fn(usize, usize, &mut [T])) -> Result<()> {
        let (stride, pitch) = (self.tensor.row_stride(), self.width.next_multiple_of(4));
        let mut words = vec![T::default(); turns * stride];
        for (turn, row) in words.chunks_exact_mut(stride).enumerate() {
            for (slot, cell) in row.chunks_exact_mut(pitch).take(self.slots).enumerate() {
                value(turn, slot, &mut cell[..self.width]);
            }
        }
        gpu.upload(self.tensor.buffer(), bytemuck::cast_slice(&words))
    }

    fn read(&self, recording: &mut Recording, turns: usize) -> Result<ReadTicket> {
        Ok(recording.read(self.tensor.part(0, turns * self.tensor.row_stride())?))
    }

    /// What the device wrote, turn by turn and slot by slot.
    fn split(&self, words: &[T], turns: usize) -> Vec<Vec<Vec<T>>> {
        let (stride, pitch) = (self.tensor.row_stride(), self.width.next_multiple_of(4));
        let row =
            |row: &[T]| row.chunks_exact(pitch).take(self.slots).map(|cell| cell[..self.width].to_vec()).collect();
        words.chunks_exact(stride).take(turns).map(row).collect()
    }
}

/// What changes from turn to turn, and what comes of each.
#[derive(Debug, Clone)]
struct Tape {
    streams: Turns<u32>,
    coefficients: Turns<f32>,
    ids: Turns<u32>,
    results: Turns<f32>,
}

/// What some slots take on the device.
#[derive(Debug)]
struct Memory {
    tables: Tables,
    /// The optimiser's.
    states: Vec<Tensor>,
    /// Norms of gradients: scratch, and factors `[slots, 4]`.
    norms: [Tensor; 2],
    workspace: Workspace,
    /// Losses of rows on their way into the sums.
    scratch: Tensor,
    targets: Targets,
    tape: Tape,
    slots: usize,
}

impl Memory {
    /// The same memory for the first slots alone.
    fn front(&self, shared: &Shared, slots: usize) -> Result<Self> {
        let options = &shared.options;
        let view = |t: &Tensor, shape: &[usize]| {
            t.view(shape).ok_or_else(|| crate::Error::internal("fewer slots that take more memory"))
        };
        let table = |t: &Tensor| view(t, &[slots, t.columns()]);
        let output = shared.data.output_shape(slots, options.batch, shared.plan.output.1);
        let Tape { streams, coefficients, ids, results } = &self.tape;
        Ok(Self {
            tables: Tables {
                parameters: table(&self.tables.parameters)?,
                gradients: table(&self.tables.gradients)?,
                statistics: table(&self.tables.statistics)?,
            },
            states: self.states.iter().map(table).collect::<Result<_>>()?,
            norms: [view(&self.norms[0], &shared.norms.scratch(slots))?, view(&self.norms[1], &[slots, 4])?],
            workspace: self.workspace.front(slots)?,
            scratch: view(&self.scratch, &options.loss.scratch(&output))?,
            targets: self.targets.front(shared.orders(slots)),
            tape: Tape {
                streams: streams.front(slots),
                coefficients: coefficients.front(slots),
                ids: ids.front(shared.orders(slots)),
                results: results.front(slots),
            },
            slots,
        })
    }

    /// The tables of a range of slots.
    fn tables_of(&self, range: &Range<usize>) -> Result<Tables> {
        let of = |t: &Tensor| {
            let rows = t.at(range.start * t.row_stride(), &[range.len(), t.columns()]);
            rows.ok_or_else(|| crate::Error::internal("slots that are not there"))
        };
        let Tables { parameters, gradients, statistics } = &self.tables;
        Ok(Tables { parameters: of(parameters)?, gradients: of(gradients)?, statistics: of(statistics)? })
    }

    /// One step of all slots: batch, forward, loss, gradients, update.
    fn turn(&self, shared: &Shared, turn: usize, recording: &mut Recording) -> Result<()> {
        let (caps, plan, options) = (shared.gpu.caps(), &shared.plan, &shared.options);
        let (streams, ids) = (self.tape.streams.of(turn)?, self.tape.ids.of(turn)?);
        let coefficients = self.tape.coefficients.of(turn)?;
        let inputs = plan.view(&self.workspace, plan.input.0, &[&[options.batch], &plan.input.1[..]].concat())?;
        shared.data.record(recording, caps, &options.augment, (&ids, &streams), &inputs, &self.targets)?;
        plan.record(recording, caps, (&self.tables, &streams, &coefficients), &self.workspace, false)?;
        let (output, shape) = plan.output;
        let shape = &shared.data.output_shape(self.slots, options.batch, shape)[1..];
        let logits = plan.view(&self.workspace, output, shape)?;
        let gradient = plan.seed.map(|place| plan.view(&self.workspace, place, shape)).transpose()?;
        let results = self.tape.results.of(turn)?;
        let out = LossOut { gradient: gradient.as_ref(), scratch: &self.scratch, results: &results };
        let (pass, batch) = ((&self.workspace, &coefficients), (&logits, &self.targets));
        plan.record_loss(recording, caps, options.loss, pass, batch, Right::Logits, &out)?;
        plan.record(recording, caps, (&self.tables, &streams, &coefficients), &self.workspace, true)?;
        let [scratch, factors] = &self.norms;
        if options.clip {
            record_norms(recording, caps, &shared.norms, &self.tables.gradients, &coefficients, scratch, factors)?;
        }
        let tables = StepTables {
            parameters: &self.tables.parameters,
            gradients: &self.tables.gradients,
            state: &self.states,
            coefficients: &coefficients,
            factors: options.clip.then_some(factors),
        };
        record_step(recording, caps, options.optimiser.formula(), &tables)
    }
}

/// A recording of some turns of some slots, and where it brings the results.
type Recorded = (Arc<Recording>, ReadTicket);

/// Some slots of an array.
#[derive(Debug)]
pub(super) struct Part {
    memory: Memory,
    /// By number of turns and of slots.
    blocks: Mutex<HashMap<(usize, usize), Recorded>>,
}

impl Part {
    /// Memory for `slots` slots; passes use `workspace`, which other parts use too.
    pub async fn new(shared: &Shared, slots: usize, workspace: Workspace) -> Result<Self> {
        let (gpu, options) = (&shared.gpu, &shared.options);
        let table = async |width: usize| zeros(gpu, &[slots, width.max(ALIGNED)]).await;
        let mut states = Vec::new();
        for _ in 0..options.optimiser.state_tables() {
            states.push(table(shared.table.width).await?);
        }
        let tables = Tables {
            parameters: table(shared.table.width).await?,
            gradients: table(shared.table.width).await?,
            statistics: table(shared.statistics.width).await?,
        };
        let turns = options.turns;
        let output = shared.data.output_shape(slots, options.batch, shared.plan.output.1);
        let tape = Tape {
            streams: Turns::new(gpu, turns, slots, STREAM).await?,
            coefficients: Turns::new(gpu, turns, slots, COEFFICIENTS).await?,
            ids: Turns::new(gpu, turns, shared.orders(slots), options.batch).await?,
            results: Turns::new(gpu, turns, slots, RESULTS).await?,
        };
        let memory = Memory {
            tables,
            states,
            norms: [
                Tensor::uninit_async(gpu, &shared.norms.scratch(slots)).await?,
                Tensor::uninit_async(gpu, &[slots, 4]).await?,
            ],
            workspace,
            scratch: Tensor::uninit_async(gpu, &options.loss.scratch(&output)).await?,
            targets: shared.data.targets_of_batch(gpu, shared.orders(slots), options.batch).await?,
            tape,
            slots,
        };
        Ok(Self { memory, blocks: Mutex::default() })
    }

    pub fn slots(&self) -> usize {
        self.memory.slots
    }

    /// Slots that a step computes if these members are in them: up to the last one that runs, rounded up to the whole halved some times, so
    /// that there are few recordings.
    pub fn computed(&self, occupants: &[Option<Occupant>]) -> usize {
        let runs = |o: &Option<Occupant>| o.as_ref().is_some_and(|o| o.state == State::Running);
        let Some(last) = occupants.iter().rposition(runs) else { return 0 };
        std::iter::successors(Some(self.slots()), |&slots| (slots > 1).then(|| slots.div_ceil(2)))
            .take_while(|&slots| slots > last)
            .last()
            .unwrap_or(0)
    }

    /// Hands some turns of these slots' running members to the device. `ahead` turns were handed to it before and are not in the members'
    /// ages yet.
    pub async fn submit(
        &self,
        shared: &Shared,
        occupants: &[Option<Occupant>],
        (turns, ahead): (usize, u64),
        profile: bool,
    ) -> Result<(Flight, ReadTicket)> {
        self.write_tape(shared, occupants, turns, ahead)?;
        let (recording, ticket) = self.block(shared, turns, self.computed(occupants))?;
        // A block that was begun is ended: half of one would leave tables that are older than their members.
        Ok((shared.gpu.submit(&recording, &Control::default(), profile).await?, ticket))
    }

    /// The results of each turn and slot, and the times of dispatches if they were asked for.
    pub async fn land(&self, flight: Flight, ticket: ReadTicket, turns: usize) -> Result<(Vec<Slots>, KernelTimes)> {
        let mut output = flight.finish_async().await?;
        Ok((self.memory.tape.results.split(&output.take(ticket), turns), output.kernel_times))
    }

    fn write_tape(&self, shared: &Shared, occupants: &[Option<Occupant>], turns: usize, ahead: u64) -> Result<()> {
        let (gpu, tape) = (&shared.gpu, &self.memory.tape);
        // A member that is done in the middle of a block is left alone from there on.
        let at = |turn: usize, slot: usize| {
            let occupant = occupants[slot].as_ref().filter(|o| o.state == State::Running)?;
            let step = occupant.step + ahead + turn as u64;
            occupant.member.steps.is_none_or(|steps| step < steps).then_some((&occupant.member, step))
        };
        tape.streams.write(gpu, turns, |turn, slot, words| {
            if let Some((member, step)) = at(turn, slot) {
                words.copy_from_slice(&Stream::new(member.seed).words(step as u32, true));
            }
        })?;
        tape.coefficients.write(gpu, turns, |turn, slot, row| {
            if let Some((member, step)) = at(turn, slot) {
                row.copy_from_slice(&member.optimiser.coefficients(step, member.rate(step), member.clip));
                if let Some(certify) = &member.certify {
                    Certify::write(certify.at(step), row);
                }
            }
        })?;
        tape.ids.write(gpu, turns, |turn, slot, ids| match shared.options.shared_order {
            // Whoever runs has the age that the order is of.
            Some(seed) => {
                let first = (0..occupants.len()).find_map(|slot| at(turn, slot));
                shared.order.write(seed, first.map_or(0, |(_, step)| step), ids);
            }
            None => {
                if let Some((member, step)) = at(turn, slot) {
                    shared.order.write(member.seed, step, ids);
                }
            }
        })
    }

    /// The recording of a block of turns of the first `slots` slots.
    fn block(&self, shared: &Shared, turns: usize, slots: usize) -> Result<Recorded> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((recording, ticket)) = blocks.get(&(turns, slots)) {
            return Ok((Arc::clone(recording), *ticket));
        }
        let (front, mut recording) = (self.memory.front(shared, slots)?, Recording::new());
        for turn in 0..turns {
            front.turn(shared, turn, &mut recording)?;
        }
        // All slots' results are read, also those that nobody wrote: what they are split by does not change.
        let ticket = self.memory.tape.results.read(&mut recording, turns)?;
        let recording = Arc::new(recording);
        blocks.insert((turns, slots), (Arc::clone(&recording), ticket));
        Ok((recording, ticket))
    }

    /// The tables of a slot's member, in the order of [`Shared::widths`].
    fn rows(&self) -> Vec<&Tensor> {
        let mut all = vec![&self.memory.tables.parameters];
        all.extend(&self.memory.states);
        all.push(&self.memory.tables.statistics);
        all
    }

    /// Brings a slot's rows to the host.
    pub async fn read(&self, shared: &Shared, slot: usize) -> Result<Vec<Vec<f32>>> {
        let mut recording = Recording::new();
        let mut tickets = Vec::new();
        for table in self.rows() {
            let binding = table.part(slot * table.row_stride(), table.row_stride())?;
            tickets.push(recording.read(binding));
        }
        let mut output = shared.gpu.run_async(&recording, &Control::default()).await?;
        let (widths, statistics) = (shared.widths(), tickets.len() - 1);
        let row = |(index, (ticket, width)): (usize, (ReadTicket, usize))| {
            let mut row: Vec<f32> = output.take(ticket);
            row.truncate(width);
            let table = if index == statistics { &shared.statistics } else { &shared.table };
            table.clear_padding(&mut row);
            row
        };
        Ok(tickets.into_iter().zip(widths).enumerate().map(row).collect())
    }

    /// Overwrites a slot's rows.
    pub fn write(&self, shared: &Shared, slot: usize, rows: &[Vec<f32>]) -> Result<()> {
        for (table, row) in self.rows().into_iter().zip(rows) {
            let offset = (slot * table.row_stride()) as u64 * 4;
            shared.gpu.upload_at(table.buffer(), offset, bytemuck::cast_slice(row))?;
        }
        Ok(())
    }

    /// Scores of the slots on some samples; slots without a member have scores of nothing.
    pub async fn evaluate(
        &self,
        shared: &Shared,
        evaluation: &Evaluation,
        (data, occupants): (&DeviceSet, &[Option<Occupant>]),
        control: &Control,
    ) -> Result<Vec<Score>> {
        let needed = occupants.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let mut scores = Vec::new();
        for first in (0..needed).step_by(evaluation.slots) {
            let range = first..needed.min(first + evaluation.slots);
            scores.extend(self.look(shared, evaluation, (data, &occupants[range.clone()]), (range, control)).await?);
        }
        let nothing = scores.iter_mut().zip(occupants).filter(|(_, occupant)| occupant.is_none());
        nothing.for_each(|(score, _)| *score = Score::default());
        Ok(scores)
    }

    /// Scores of a range of slots.
    async fn look(
        &self,
        shared: &Shared,
        evaluation: &Evaluation,
        (data, occupants): (&DeviceSet, &[Option<Occupant>]),
        (range, control): (Range<usize>, &Control),
    ) -> Result<Vec<Score>> {
        let (slots, rounds, Evaluation { plan, batch, .. }) = (range.len(), evaluation.rounds(), evaluation);
        let (gpu, caps, tables) = (&shared.gpu, shared.gpu.caps(), self.memory.tables_of(&range)?);
        let workspace = Workspace::new(plan, gpu, slots).await?;
        let ids = evaluation.ids(gpu).await?;
        // Of a certified network all is looked at twice: what is right, and what is certified.
        let looks: &[Right] = if plan.is_certified() { &[Right::Logits, Right::Bounds] } else { &[Right::Logits] };
        let results: Turns<f32> = Turns::new(gpu, looks.len() * rounds, slots, RESULTS).await?;
        let streams = zeros_words(gpu, &[slots, STREAM]).await?;
        let coefficients = judging(gpu, occupants).await?.of(0)?;
        let (output, shape) = plan.output;
        let shape = data.output_shape(slots, *batch, shape);
        let scratch = Tensor::uninit_async(gpu, &shared.options.loss.scratch(&shape)).await?;
        let targets = data.targets_of_batch(gpu, 1, *batch).await?;
        let inputs = plan.view(&workspace, plan.input.0, &[&[*batch], &plan.input.1[..]].concat())?;
        let mut recording = Recording::new();
        for round in 0..rounds {
            data.record(&mut recording, caps, &Augment::default(), (&ids.of(round)?, &streams), &inputs, &targets)?;
            plan.record(&mut recording, caps, (&tables, &streams, &coefficients), &workspace, false)?;
            let logits = plan.view(&workspace, output, &shape[1..])?;
            for (look, right) in looks.iter().enumerate() {
                let results = results.of(look * rounds + round)?;
                let out = LossOut { gradient: None, scratch: &scratch, results: &results };
                let (pass, batch) = ((&workspace, &coefficients), (&logits, &targets));
                plan.record_loss(&mut recording, caps, shared.options.loss, pass, batch, *right, &out)?;
            }
        }
        let ticket = results.read(&mut recording, looks.len() * rounds)?;
        let mut found = gpu.run_async(&recording, control).await?;
        let all = results.split(&found.take(ticket), looks.len() * rounds);
        Ok((0..slots).map(|slot| score(all.split_at(rounds), slot, plan.is_certified())).collect())
    }
}

/// The score of a slot, from the results of rounds that looked at logits and of rounds that looked at bounds.
fn score((plain, bounded): (&[Slots], &[Slots]), slot: usize, certified: bool) -> Score {
    let sum = |of: &[Slots], column: usize| of.iter().map(|round| f64::from(round[slot][column])).sum::<f64>();
    let (correct, rows, loss) = (sum(plain, 1), sum(plain, 2), sum(plain, 3));
    let certified = certified.then(|| sum(bounded, 1) / rows.max(1.0));
    Score { loss: loss / rows.max(1.0), correct: correct / rows.max(1.0), certified, rows }
}

/// Coefficients of an evaluation: where boxes are judged.
async fn judging(gpu: &Gpu, occupants: &[Option<Occupant>]) -> Result<Turns<f32>> {
    let coefficients: Turns<f32> = Turns::new(gpu, 1, occupants.len(), COEFFICIENTS).await?;
    coefficients.write(gpu, 1, |_, slot, row| {
        if let Some(certify) = occupants[slot].as_ref().and_then(|o| o.member.certify) {
            Certify::write(certify.judging(), row);
        }
    })?;
    Ok(coefficients)
}

/// A forward pass over some samples of a set.
#[derive(Debug)]
pub(super) struct Evaluation {
    plan: Plan,
    batch: usize,
    samples: Range<usize>,
    /// Slots at once, at most.
    slots: usize,
}

impl Evaluation {
    /// Samples evaluated at once, at most, and no more than in training, for which there is memory.
    const BATCH: usize = 256;

    /// The passes over a set: one, or one over full batches and one over the rest.
    pub fn all(shared: &Shared, data: &DeviceSet) -> Result<Vec<Self>> {
        let (len, batch) = (data.len(), data.len().min(Self::BATCH).min(shared.options.batch));
        let full = if data.can_be_ragged() { len } else { len / batch * batch };
        let mut all = vec![Self::new(shared, batch, 0..full)?];
        if full < len {
            all.push(Self::new(shared, len - full, full..len)?);
        }
        Ok(all)
    }

    fn new(shared: &Shared, batch: usize, samples: Range<usize>) -> Result<Self> {
        let purpose = (shared.options.loss, Purpose::Evaluation);
        let plan = super::plan(&shared.model, (&shared.table, &shared.statistics), batch, purpose)?;
        // A tenth of the budget: what the array left of it has room for that.
        let (bytes, largest) = (plan.words().max(1) as u64 * 4, plan.largest().max(1) as u64 * 4);
        let most = (shared.gpu.memory().budget / 10 / bytes).min(shared.gpu.caps().max_binding / largest);
        Ok(Self { plan, batch, samples, slots: usize::try_from(most).unwrap_or(usize::MAX).max(1) })
    }

    fn rounds(&self) -> usize {
        self.samples.len().div_ceil(self.batch)
    }

    /// Which samples each round looks at; places behind the last do not count.
    async fn ids(&self, gpu: &Gpu) -> Result<Turns<u32>> {
        let ids: Turns<u32> = Turns::new(gpu, self.rounds(), 1, self.batch).await?;
        ids.write(gpu, self.rounds(), |round, _, ids| {
            for (i, id) in ids.iter_mut().enumerate() {
                let sample = self.samples.start + round * self.batch + i;
                *id = if self.samples.contains(&sample) { sample as u32 } else { u32::MAX };
            }
        })?;
        Ok(ids)
    }
}

/// A table of zeros: words behind the last field of a row are read by kernels that take whole rows.
async fn zeros(gpu: &Gpu, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice_async(gpu, shape, &vec![0.0; shape.iter().product()]).await
}

async fn zeros_words(gpu: &Gpu, shape: &[usize]) -> Result<Tensor<u32>> {
    Tensor::from_slice_async(gpu, shape, &vec![0; shape.iter().product()]).await
}
