//! Arrays of slots in which members are trained at once.

mod blocks;
mod memory;
mod order;
mod part;

use std::sync::Arc;

use ndarray::ArrayD;

use self::memory::Sizes;
use self::order::Order;
use self::part::{Evaluation, Part};
use super::init::Init;
use super::lower::{Plan, Purpose, Workspace};
use super::member::{Member, Progress, Score, Snapshot, State};
use super::optimiser::Optimiser;
use super::optimiser::tables::{Field, NormPlan};
use super::set::{Augment, DeviceSet};
use super::table::Table;
use super::{Loss, Model};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Control, Gpu};
use crate::graph::{Graph, Op, ValueId};

/// What all members of an array have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayOptions {
    /// Members at once.
    pub slots: usize,
    /// Samples of a batch.
    pub batch: usize,
    /// What is minimised.
    pub loss: Loss,
    /// The optimiser that needs the most state among those of the members, all of one formula; coefficients are each member's own.
    pub optimiser: Optimiser,
    /// Whether gradients of some member are clipped, which costs another pass over the gradients.
    pub clip: bool,
    /// How inputs are disturbed, by each member's own random stream.
    pub augment: Augment,
    /// All members see the same samples in the same order, drawn from this seed; `None`: each draws its own.
    pub shared_order: Option<u64>,
    /// Steps that are submitted together: results come in so many at once. Nothing that a member learns depends on it; one whose loss
    /// is no number is found when its results come in, a block or two later, and its tables may have gone on until then.
    pub turns: usize,
}

impl Default for ArrayOptions {
    fn default() -> Self {
        Self {
            slots: 1,
            batch: 64,
            loss: Loss::default(),
            optimiser: Optimiser::adam(),
            clip: false,
            augment: Augment::default(),
            shared_order: None,
            turns: 16,
        }
    }
}

/// What parts of an array share.
#[derive(Debug)]
struct Shared {
    gpu: Gpu,
    model: Model,
    table: Table,
    statistics: Table,
    plan: Plan,
    norms: NormPlan,
    options: ArrayOptions,
    data: DeviceSet,
    order: Order,
}

/// A member in its slot.
#[derive(Debug, Clone)]
struct Occupant {
    member: Member,
    state: State,
    step: u64,
}

/// Slots in which members of one model are trained at once; each member as if it were alone, bit for bit.
///
/// Slots are spread over sub-arrays where one would be larger than a binding of the device or the memory budget allows; that
/// changes no result either.
#[derive(Debug)]
pub struct TrainingArray {
    shared: Shared,
    parts: Vec<Part>,
    occupants: Vec<Option<Occupant>>,
    /// Whether an error left part of the tables older than the members in them.
    torn: bool,
}

/// Device memory of an array in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayMemory {
    /// What every slot takes for its tables: parameters, gradients, optimiser states, running statistics.
    pub tables: u64,
    /// What a slot takes while it is trained; sub-arrays of the same size use it one after the other.
    pub pass: u64,
    /// The data set.
    pub data: u64,
    /// Most slots of one sub-array, by the device's largest binding and by the budget.
    pub slots_at_once: usize,
}

impl TrainingArray {
    /// An array of empty slots.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming the node of a model that cannot be trained, [`ErrorKind::BadInput`] for options or data that do not fit,
    /// [`ErrorKind::TooBig`] if not even one slot fits.
    pub async fn new_async(gpu: &Gpu, model: &Model, data: DeviceSet, options: ArrayOptions) -> Result<Self> {
        if options.slots == 0 || options.batch == 0 || options.turns == 0 {
            return Err(Error::bad_input("an array without slots, samples in a batch or turns")
                .with_help("give 1 or more of each"));
        }
        let samples = data.len();
        if samples < options.batch {
            return Err(Error::bad_input(format!("{samples} samples do not fill a batch of {}", options.batch))
                .with_help("use a smaller batch"));
        }
        data.check(&model.graph, options.loss)?;
        let (table, statistics) = (Table::parameters(model)?, Table::statistics(&model.graph)?);
        let plan = plan(model, (&table, &statistics), options.batch, (options.loss, Purpose::Training))?;
        let order = Order::new(samples, options.batch, options.shared_order);
        let fields: Vec<Field> = table.fields.iter().map(|field| Field::new(field.first, &field.shape)).collect();
        let norms = NormPlan::new_async(gpu, &fields).await?;
        let (gpu, model) = (gpu.clone(), model.clone());
        let shared = Shared { gpu, model, table, statistics, plan, norms, options, data, order };
        let most = shared.memory().slots_at_once;
        if most == 0 {
            return Err(shared.too_big());
        }
        let slots = shared.options.slots;
        let workspace = Workspace::new(&shared.plan, &shared.gpu, most.min(slots)).await?;
        let mut parts = Vec::new();
        for first in (0..slots).step_by(most) {
            let count = most.min(slots - first);
            parts.push(Part::new(&shared, count, workspace.front(count)?).await?);
        }
        Ok(Self { shared, parts, occupants: vec![None; slots], torn: false })
    }

    /// Blocking twin of [`TrainingArray::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, model: &Model, data: DeviceSet, options: ArrayOptions) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, model, data, options))
    }

    /// How many slots fit the device and its memory budget, as many as the options ask for at most; 0: not even one.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming the node of a model that cannot be trained.
    pub fn fitting(gpu: &Gpu, model: &Model, data: &DeviceSet, options: &ArrayOptions) -> Result<usize> {
        let (table, statistics) = (Table::parameters(model)?, Table::statistics(&model.graph)?);
        let plan = plan(model, (&table, &statistics), options.batch, (options.loss, Purpose::Training))?;
        let data = data.bytes();
        let sizes = Sizes { gpu, plan: &plan, table: &table, statistics: &statistics, data, options };
        Ok(sizes.room().min(options.slots))
    }

    /// What the array takes on the device.
    pub fn memory(&self) -> ArrayMemory {
        self.shared.memory()
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.occupants.len()
    }

    /// The state and age of the member in a slot, if there is one.
    pub fn state(&self, slot: usize) -> Option<(State, u64)> {
        self.occupants.get(slot)?.as_ref().map(|o| (o.state, o.step))
    }

    /// The hyper-parameters of the member in a slot.
    pub fn member(&self, slot: usize) -> Option<&Member> {
        self.occupants.get(slot)?.as_ref().map(|o| &o.member)
    }

    /// Slots whose members are trained by the next step.
    pub fn running(&self) -> impl Iterator<Item = usize> + '_ {
        let running = |o: &Option<Occupant>| o.as_ref().is_some_and(|o| o.state == State::Running);
        (0..self.occupants.len()).filter(move |&slot| running(&self.occupants[slot]))
    }

    /// Puts a new member into a slot, in place of whoever is there.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a slot that is not there, for wrong hyper-parameters or another kind of optimiser than the array's.
    pub fn start(&mut self, slot: usize, member: Member) -> Result<()> {
        self.check_member(slot, &member)?;
        let tables = self.shared.fresh(member.seed)?;
        self.put(slot, &Snapshot { member, state: State::Running, step: 0, tables })
    }

    /// Starts a slot's member again from its first step.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if nobody is there.
    pub fn reset(&mut self, slot: usize) -> Result<()> {
        let member = self.occupant(slot)?.member.clone();
        self.start(slot, member)
    }

    /// Ends the training of a slot's member; it stays there to be read out.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if nobody is there.
    pub fn stop(&mut self, slot: usize) -> Result<()> {
        self.occupant(slot)?;
        if let Some(Some(occupant)) = self.occupants.get_mut(slot) {
            occupant.state = State::Stopped;
        }
        Ok(())
    }

    /// Ends the training of a slot's member and forgets it. Slots behind the last member cost nothing.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if nobody is there.
    pub fn clear(&mut self, slot: usize) -> Result<()> {
        self.occupant(slot)?;
        self.occupants[slot] = None;
        Ok(())
    }

    /// Slots that the next step computes: all up to the last running member's, rounded up so that a few sizes occur. Members in the first slots
    /// make steps of half-empty arrays cheap.
    pub fn computed(&self) -> usize {
        let most = self.shared.plan_slots();
        let parts = self.parts.iter().zip(self.occupants.chunks(most));
        parts.map(|(part, occupants)| part.computed(occupants)).sum()
    }

    /// Lets a member that stopped or finished go on, up to another number of steps.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if nobody is there, or if it diverged.
    pub fn go_on(&mut self, slot: usize, steps: Option<u64>) -> Result<()> {
        if self.occupant(slot)?.state == State::Diverged {
            return Err(Error::bad_input(format!("the member in slot {slot} diverged")).with_help("start another one"));
        }
        if let Some(Some(occupant)) = self.occupants.get_mut(slot) {
            occupant.member.steps = steps;
            let done = steps.is_some_and(|steps| occupant.step >= steps);
            occupant.state = if done { State::Finished } else { State::Running };
        }
        Ok(())
    }

    /// Puts a copy of a slot's member, with all its state, into another slot, under other hyper-parameters if any are given (exploit and
    /// explore of population-based training).
    ///
    /// # Errors
    /// Those of [`TrainingArray::start`] and [`TrainingArray::snapshot_async`].
    pub async fn copy_async(&mut self, from: usize, to: usize, member: Option<Member>) -> Result<()> {
        let mut snapshot = self.snapshot_async(from).await?;
        snapshot.member = member.unwrap_or(snapshot.member);
        self.restore(to, &snapshot)
    }

    /// Blocking twin of [`TrainingArray::copy_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn copy(&mut self, from: usize, to: usize, member: Option<Member>) -> Result<()> {
        pollster::block_on(self.copy_async(from, to, member))
    }

    /// All that a slot's member is.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if nobody is there; device errors.
    pub async fn snapshot_async(&self, slot: usize) -> Result<Snapshot> {
        self.check_whole()?;
        let occupant = self.occupant(slot)?.clone();
        let (part, place) = self.part(slot);
        let tables = self.parts[part].read(&self.shared, place).await?;
        Ok(Snapshot { member: occupant.member, state: occupant.state, step: occupant.step, tables })
    }

    /// Blocking twin of [`TrainingArray::snapshot_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn snapshot(&self, slot: usize) -> Result<Snapshot> {
        pollster::block_on(self.snapshot_async(slot))
    }

    /// Puts a member as it was into a slot.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if it comes from another model or optimiser, and those of [`TrainingArray::start`].
    pub fn restore(&mut self, slot: usize, snapshot: &Snapshot) -> Result<()> {
        self.check_member(slot, &snapshot.member)?;
        let wanted: Vec<usize> = self.shared.widths();
        let found: Vec<usize> = snapshot.tables.iter().map(Vec::len).collect();
        if wanted != found {
            return Err(Error::bad_input(format!(
                "a member with tables of {found:?} numbers, this array's have {wanted:?}"
            ))
            .with_help("it was saved from another model or optimiser"));
        }
        self.put(slot, snapshot)
    }

    /// Changes the parameters of a slot's member where they are: `edit` sees each tensor with its name, in the order of the model's
    /// parameters. Pruning, clipping and surgery of networks in training; the optimiser's states stay as they are.
    ///
    /// # Errors
    /// Those of [`TrainingArray::snapshot_async`] and [`TrainingArray::restore`].
    pub async fn edit_async(
        &mut self,
        slot: usize,
        edit: &mut (dyn FnMut(&str, &mut ArrayD<f32>) + Send),
    ) -> Result<()> {
        let mut snapshot = self.snapshot_async(slot).await?;
        let table = &self.shared.table;
        for parameter in &self.shared.model.parameters {
            let read = snapshot.tables.first().and_then(|row| table.read(row, parameter.value));
            if let (Some(mut tensor), Some(row)) = (read, snapshot.tables.first_mut()) {
                let shape = tensor.shape().to_vec();
                edit(self.shared.model.name(parameter), &mut tensor);
                if tensor.shape() != shape {
                    let what = format!("an edit gave a parameter of shape {shape:?} the shape {:?}", tensor.shape());
                    return Err(Error::bad_input(what).with_help("change elements, not shapes"));
                }
                let elements: Vec<f32> = tensor.iter().copied().collect();
                table.write(row, parameter.value, &elements);
            }
        }
        self.restore(slot, &snapshot)
    }

    /// Blocking twin of [`TrainingArray::edit_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn edit(&mut self, slot: usize, edit: &mut (dyn FnMut(&str, &mut ArrayD<f32>) + Send)) -> Result<()> {
        pollster::block_on(self.edit_async(slot, edit))
    }

    /// The network of a slot's member: the model's graph with its trained constants and statistics.
    ///
    /// # Errors
    /// Those of [`TrainingArray::snapshot_async`].
    pub async fn export_async(&self, slot: usize) -> Result<Graph> {
        Ok(self.shared.network(&self.snapshot_async(slot).await?))
    }

    /// Blocking twin of [`TrainingArray::export_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn export(&self, slot: usize) -> Result<Graph> {
        pollster::block_on(self.export_async(slot))
    }

    /// Trains all running members for some steps, fewer if none is left. `sink` hears of every step of every member, in order
    /// of steps; a member whose loss is no number is stopped there.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`], after blocks of steps that are complete; device errors.
    pub async fn run_async(
        &mut self,
        steps: u64,
        control: &Control,
        sink: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        self.steps(steps, control, sink, None).await
    }

    /// What [`TrainingArray::run`] does, with every dispatch timed by the device's clock, which makes it slower: the device seconds of each with its
    /// kernel's name, in order.
    ///
    /// # Errors
    /// Those of [`TrainingArray::run_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&mut self, steps: u64, control: &Control) -> Result<Vec<(&'static str, f64)>> {
        let mut times = Vec::new();
        pollster::block_on(self.steps(steps, control, &mut |_| {}, Some(&mut times)))?;
        Ok(times)
    }

    /// Blocking twin of [`TrainingArray::run_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&mut self, steps: u64, control: &Control, sink: &mut (dyn FnMut(Progress) + Send)) -> Result<()> {
        pollster::block_on(self.run_async(steps, control, sink))
    }

    /// Mean loss and share of right rows of every slot's member on a set, with running statistics and without dropout. Empty slots have
    /// scores of nothing.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for a set that does not fit the model; device errors.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate(&self, data: &DeviceSet, control: &Control) -> Result<Vec<Score>> {
        pollster::block_on(self.evaluate_async(data, control))
    }

    /// What [`TrainingArray::evaluate`] does, without blocking.
    ///
    /// # Errors
    /// Those of [`TrainingArray::evaluate`].
    pub async fn evaluate_async(&self, data: &DeviceSet, control: &Control) -> Result<Vec<Score>> {
        data.check(&self.shared.model.graph, self.shared.options.loss)?;
        let mut scores = Vec::new();
        let evaluations = Evaluation::all(&self.shared, data)?;
        for part in &self.parts {
            let first = scores.len();
            scores.resize(first + part.slots(), Score::default());
            let occupants = &self.occupants[first..first + part.slots()];
            for evaluation in &evaluations {
                let found = part.evaluate(&self.shared, evaluation, (data, occupants), control).await?;
                for (score, found) in scores[first..].iter_mut().zip(found) {
                    *score = score.and(found);
                }
            }
        }
        Ok(scores)
    }

    fn occupant(&self, slot: usize) -> Result<&Occupant> {
        self.occupants.get(slot).and_then(Option::as_ref).ok_or_else(|| {
            Error::bad_input(format!("nobody is in slot {slot} of {}", self.occupants.len()))
                .with_help("start a member there first")
        })
    }

    fn check_member(&self, slot: usize, member: &Member) -> Result<()> {
        if slot >= self.occupants.len() {
            let last = self.occupants.len() - 1;
            return Err(
                Error::bad_input(format!("slot {slot}, the last one is {last}")).with_help("slots are counted from 0")
            );
        }
        let own = &self.shared.options.optimiser;
        if member.optimiser.formula() != own.formula() || member.optimiser.state_tables() > own.state_tables() {
            return Err(Error::bad_input(
                "a member with an optimiser of another formula, or with more state, than the array's",
            )
            .with_help("give it an array of its own"));
        }
        if member.clip.is_some() && !self.shared.options.clip {
            return Err(Error::bad_input("a member with clipped gradients in an array without")
                .with_help("set `clip` in the options"));
        }
        if member.certify.is_some() != (self.shared.options.loss == Loss::Certified) {
            return Err(Error::bad_input(
                "a member with `certify` in an array of another loss, or one without in a certified array",
            )
            .with_help("`certify` goes with `Loss::Certified`"));
        }
        member.check()
    }

    fn put(&mut self, slot: usize, snapshot: &Snapshot) -> Result<()> {
        let (part, place) = self.part(slot);
        self.parts[part].write(&self.shared, place, &snapshot.tables)?;
        let Snapshot { member, state, step, .. } = snapshot.clone();
        self.occupants[slot] = Some(Occupant { member, state, step });
        Ok(())
    }

    /// The part that a slot is in, and its place there.
    fn part(&self, slot: usize) -> (usize, usize) {
        let most = self.shared.plan_slots();
        (slot / most, slot % most)
    }
}

/// The pass that a loss needs.
fn plan(model: &Model, tables: (&Table, &Table), batch: usize, (loss, purpose): (Loss, Purpose)) -> Result<Plan> {
    match loss {
        Loss::Certified => Plan::certified(model, tables, batch, purpose),
        _ => Plan::new(model, tables, batch, purpose),
    }
}

impl Shared {
    /// Slots that have an order of samples of their own.
    fn orders(&self, slots: usize) -> usize {
        if self.options.shared_order.is_some() { 1 } else { slots }
    }

    fn sizes(&self) -> Sizes<'_> {
        let Self { gpu, plan, table, statistics, options, .. } = self;
        Sizes { gpu, plan, table, statistics, data: self.data.bytes(), options }
    }

    /// Lengths of a member's rows in the tables.
    fn widths(&self) -> Vec<usize> {
        self.sizes().widths()
    }

    /// Most slots of a part.
    fn plan_slots(&self) -> usize {
        self.memory().slots_at_once.min(self.options.slots).max(1)
    }

    fn memory(&self) -> ArrayMemory {
        self.sizes().memory()
    }

    fn too_big(&self) -> Error {
        let (what, help) = self.sizes().too_big();
        Error::new(ErrorKind::TooBig, what).with_help(help)
    }

    /// Tables of a member before its first step.
    fn fresh(&self, seed: u64) -> Result<Vec<Vec<f32>>> {
        let mut tables: Vec<Vec<f32>> = self.widths().into_iter().map(|width| vec![0.0; width]).collect();
        for (index, parameter) in self.model.parameters.iter().enumerate() {
            let value = self.model.graph.value(parameter.value);
            let given: Vec<f32> = value.constant.iter().flat_map(|c| c.iter().copied()).collect();
            let elements = parameter.init.fill(seed, index as u32, &value.shape, &given);
            let elements = self.without_padding(parameter.value, parameter.init, elements);
            self.table.write(&mut tables[0], parameter.value, &elements);
        }
        if let Some(statistics) = tables.last_mut() {
            for value in self.statistics.values() {
                let given: Vec<f32> =
                    self.model.graph.value(value).constant.iter().flat_map(|c| c.iter().copied()).collect();
                self.statistics.write(statistics, value, &given);
            }
        }
        Ok(tables)
    }

    /// Rows of a drawn table that stand for the filling of short sequences start as 0; their gradient is 0.
    fn without_padding(&self, value: ValueId, init: Init, mut elements: Vec<f32>) -> Vec<f32> {
        if init == Init::Given {
            return elements;
        }
        for node in self.model.graph.nodes.iter().filter(|node| node.inputs.get(1) == Some(&value)) {
            if let Op::Embedding { padding: Some(row) } = node.op {
                let columns = self.model.graph.value(value).shape.last().copied().unwrap_or(1).max(1);
                elements.chunks_mut(columns).skip(row).take(1).for_each(|row| row.fill(0.0));
            }
        }
        elements
    }

    /// The graph with a member's constants.
    fn network(&self, snapshot: &Snapshot) -> Graph {
        let mut graph = self.model.graph.clone();
        let rows = [(&self.table, snapshot.tables.first()), (&self.statistics, snapshot.tables.last())];
        for (table, row) in rows {
            for value in table.values() {
                if let Some(constant) = row.and_then(|row| table.read(row, value)) {
                    graph.values[value.0].constant = Some(Arc::new(constant));
                }
            }
        }
        graph
    }
}
