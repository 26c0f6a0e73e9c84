//! From a graph to the steps of a training or evaluation pass over all slots at once.
//!
//! A [`Plan`] knows shapes and what depends on what, but no device and no number of slots: [`Plan::words`] says what a number of them
//! takes, and [`Plan::record`] writes the dispatches down. How many dispatches there are does not depend on the slots.

mod backward;
mod certified;
mod forward;
mod layout;
mod moves;
mod norms;
mod others;
mod windows;

use std::collections::HashMap;

use self::layout::Layout;
use super::Model;
use super::table::{Field, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Caps, Gpu, Recording};
use crate::graph::{Graph, Node, Op, Program, Task, ValueId};
use crate::tensor::Tensor;

/// Memory of a pass: an array `[slots, words]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(usize);

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Forward and gradients; batch statistics, dropout.
    Training,
    /// Forward only; running statistics, no dropout.
    Evaluation,
}

/// The tables of an array of slots, `[slots, width]` each.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    pub parameters: Tensor,
    pub gradients: Tensor,
    pub statistics: Tensor,
}

/// What a step finds when it is recorded.
pub(super) struct Frame<'a> {
    pub caps: &'a Caps,
    /// Slots.
    pub slots: usize,
    pub tables: &'a Tables,
    /// Random streams `[slots, 4]`.
    pub streams: &'a Tensor<u32>,
    /// What the optimiser and certified training are told, `[slots, 16]`.
    pub coefficients: &'a Tensor,
    memory: &'a [Option<Tensor>],
    indices: &'a [Tensor<u32>],
    /// Where gradients of a parameter go instead of its field, if several nodes share it.
    share: Option<&'a Tensor>,
}

impl Frame<'_> {
    /// Where the gradient of a parameter goes.
    pub fn gradient(&self, field: &Field) -> Result<Tensor> {
        self.gradient_as(field, &field.shape)
    }

    /// The same memory with another shape of as many words.
    pub fn gradient_as(&self, field: &Field, shape: &[usize]) -> Result<Tensor> {
        match self.share {
            None => field.shaped(&self.tables.gradients, shape),
            Some(share) => share.field(0, shape).ok_or_else(|| Error::internal("a share that is no field")),
        }
    }

    /// Memory as a table of `[slots, words]`.
    fn whole(&self, place: Place) -> Result<&Tensor> {
        self.memory[place.0].as_ref().ok_or_else(|| Error::internal("a step runs before its operand"))
    }

    /// A place as `[slots, shape..]`.
    pub fn view(&self, place: Place, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.memory[place.0].as_ref().ok_or_else(|| Error::internal("a step runs before its operand"))?;
        let shape = [&[self.slots], shape].concat();
        tensor
            .view(&shape)
            .ok_or_else(|| Error::internal(format!("a place of {:?} does not hold {shape:?}", tensor.shape())))
    }

    /// A place as `[slots * rows, columns]`.
    pub fn rows(&self, place: Place, rows: usize, columns: usize) -> Result<Tensor> {
        let view = self.view(place, &[rows, columns])?;
        let shape = [self.slots * rows, columns];
        view.view(&shape).ok_or_else(|| Error::internal(format!("a place does not hold {shape:?}")))
    }

    /// A place as images `[slots * batch, rows, columns, channels]`.
    pub fn stack(&self, place: Place, batch: usize, [h, w, c]: [usize; 3]) -> Result<Tensor> {
        let shape = [self.slots * batch, h, w, c];
        let view = self.view(place, &[batch, h, w, c])?.view(&shape);
        view.ok_or_else(|| Error::internal(format!("a place does not hold {shape:?}")))
    }

    pub fn index(&self, index: usize) -> &Tensor<u32> {
        &self.indices[index]
    }

    /// An index that holds the bits of numbers, as `[1, 1, rows, columns]`.
    pub fn numbers(&self, index: usize, [rows, columns]: [usize; 2]) -> Result<Tensor> {
        let view = self.indices[index].words::<f32>().view(&[1, 1, rows, columns]);
        view.ok_or_else(|| Error::internal("numbers that do not fill their rows"))
    }
}

type Record = Box<dyn Fn(&mut Recording, &Frame<'_>) -> Result<()> + Send + Sync>;

/// A part of a pass.
struct Step {
    reads: Vec<Place>,
    writes: Vec<Place>,
    record: Record,
}

/// Where a value is.
#[derive(Debug, Clone)]
enum Home {
    Place(Place, Layout),
    Field(Field),
    /// A constant that is not trained.
    Constant,
}

/// A pass over all slots.
pub(super) struct Plan {
    /// Words of each place a slot.
    places: Vec<usize>,
    steps: Vec<Step>,
    /// Orders of elements that steps move by.
    indices: Vec<Vec<u32>>,
    /// Where a batch of inputs goes, and how a sample lies there.
    pub input: (Place, Vec<usize>),
    /// The graph's output, `[slots, batch * rows, columns]`.
    pub output: (Place, [usize; 2]),
    /// Where the gradient of the output is expected (training).
    pub seed: Option<Place>,
    /// Steps before the gradient of the output is needed.
    forward: usize,
    /// Radii of the outputs' intervals (certified training); the output has the samples' rows and then the centres'.
    radii: Option<Radii>,
}

/// Where radii of outputs are, `[slots, rows, columns]`, and where their gradient is expected.
#[derive(Debug, Clone, Copy)]
struct Radii {
    place: Place,
    seed: Option<Place>,
    rows: usize,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("places", &self.places).field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// Device memory of a plan, for a number of slots.
#[derive(Debug)]
pub(super) struct Workspace {
    memory: Vec<Option<Tensor>>,
    indices: Vec<Tensor<u32>>,
    slots: usize,
}

impl Workspace {
    /// Memory for `slots` slots.
    ///
    /// # Errors
    /// Memory errors.
    pub async fn new(plan: &Plan, gpu: &Gpu, slots: usize) -> Result<Self> {
        let (of, sizes) = plan.pieces();
        let mut pieces = Vec::with_capacity(sizes.len());
        for words in sizes {
            pieces.push(Tensor::uninit_async(gpu, &[slots, words]).await?);
        }
        let place =
            |(piece, &words): (Option<usize>, &usize)| piece.and_then(|piece| pieces[piece].view(&[slots, words]));
        let memory = of.into_iter().zip(&plan.places).map(place).collect();
        let mut indices = Vec::with_capacity(plan.indices.len());
        for index in &plan.indices {
            indices.push(Tensor::from_slice_async(gpu, &[index.len()], index).await?);
        }
        Ok(Self { memory, indices, slots })
    }

    /// The same memory for fewer slots: passes of parts of an array run one after the other.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for more slots.
    pub fn front(&self, slots: usize) -> Result<Self> {
        if slots > self.slots {
            return Err(Error::internal(format!("{slots} slots in a workspace for {}", self.slots)));
        }
        let front = |t: &Option<Tensor>| t.as_ref().and_then(|t| t.view(&[slots, t.columns()]));
        Ok(Self { memory: self.memory.iter().map(front).collect(), indices: self.indices.clone(), slots })
    }
}

impl Plan {
    /// The pass of a model over batches of `batch` samples.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming the node for what cannot be trained.
    pub fn new(model: &Model, tables: (&Table, &Table), batch: usize, purpose: Purpose) -> Result<Self> {
        let wanted: Vec<ValueId> = model.parameters.iter().map(|p| p.value).collect();
        let program = Program::new(&model.graph, &wanted);
        let mut lowering = Lowering::new(&model.graph, tables, batch, purpose)?;
        let mut tasks = program.tasks.iter().peekable();
        while let Some(&&Task::Forward(node)) = tasks.peek() {
            lowering.forward(node)?;
            tasks.next();
        }
        let (output, shape) = lowering.output()?;
        let forward = lowering.steps.len();
        let mut seed = None;
        if purpose == Purpose::Training {
            let place = lowering.place(&[batch * shape[0], shape[1]]);
            seed = Some(place);
            lowering.seed(place);
            for task in tasks.clone() {
                if let Task::ParameterGradient { node, operand } = task {
                    *lowering.shares.entry(model.graph.nodes[*node].inputs[*operand]).or_default() += 1;
                }
            }
            for task in tasks {
                lowering.gradient(*task)?;
            }
        }
        let input = lowering.input()?;
        let Lowering { places, steps, indices, .. } = lowering;
        let output = (output, [batch * shape[0], shape[1]]);
        Ok(Self { places, steps, indices, input, output, seed, forward, radii: None })
    }

    /// Where the loss puts gradients.
    fn seeds(&self) -> impl Iterator<Item = Place> {
        [self.seed, self.radii.and_then(|radii| radii.seed)].into_iter().flatten()
    }

    /// For each place the last step that uses it.
    fn last_uses(&self) -> Vec<usize> {
        let mut last = vec![0; self.places.len()];
        for (number, step) in self.steps.iter().enumerate() {
            step.reads.iter().chain(&step.writes).for_each(|place| last[place.0] = number);
        }
        // What comes and goes from outside stays.
        for place in [self.input.0, self.output.0].into_iter().chain(self.seeds()).chain(self.radii.map(|r| r.place)) {
            last[place.0] = usize::MAX;
        }
        last
    }

    /// Which piece of memory each place gets, and the words a slot of each piece: places share a piece if none is used before
    /// the other is done.
    fn pieces(&self) -> (Vec<Option<usize>>, Vec<usize>) {
        let last = self.last_uses();
        let (mut of, mut sizes, mut free) = (vec![None; self.places.len()], Vec::<usize>::new(), Vec::<usize>::new());
        let mut give = |place: usize, of: &mut Vec<Option<usize>>, free: &mut Vec<usize>| {
            if of[place].is_some() {
                return;
            }
            let words = self.places[place];
            let fits = (0..free.len()).filter(|&i| sizes[free[i]] >= words).min_by_key(|&i| sizes[free[i]]);
            let piece = match fits {
                // A piece many times too large would be missed elsewhere.
                Some(i) if sizes[free[i]] <= words.saturating_mul(2).max(4096) => free.swap_remove(i),
                _ => {
                    sizes.push(words);
                    sizes.len() - 1
                }
            };
            of[place] = Some(piece);
        };
        give(self.input.0.0, &mut of, &mut free);
        for (number, step) in self.steps.iter().enumerate() {
            if number == self.forward {
                self.seeds().for_each(|seed| give(seed.0, &mut of, &mut free));
            }
            step.writes.iter().for_each(|place| give(place.0, &mut of, &mut free));
            let mut done: Vec<usize> = step.reads.iter().chain(&step.writes).map(|p| p.0).collect();
            done.sort_unstable();
            done.dedup();
            free.extend(done.into_iter().filter(|&place| last[place] == number).filter_map(|place| of[place]));
        }
        // A network of one layer has no step behind its output.
        for place in [self.output.0].into_iter().chain(self.seeds()) {
            give(place.0, &mut of, &mut free);
        }
        (of, sizes)
    }

    /// Words that a slot takes during a pass.
    pub fn words(&self) -> usize {
        self.pieces().1.iter().sum()
    }

    /// Words of the largest piece a slot.
    pub fn largest(&self) -> usize {
        self.pieces().1.into_iter().max().unwrap_or(0)
    }

    /// Records the steps before (`false`) or behind (`true`) the loss.
    ///
    /// # Errors
    /// Those of the operators.
    pub fn record(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        (tables, streams, coefficients): (&Tables, &Tensor<u32>, &Tensor),
        workspace: &Workspace,
        behind: bool,
    ) -> Result<()> {
        let (memory, indices) = (&workspace.memory, &workspace.indices);
        let frame = Frame { caps, slots: workspace.slots, tables, streams, coefficients, memory, indices, share: None };
        let (before, after) = self.steps.split_at(self.forward);
        (if behind { after } else { before }).iter().try_for_each(|step| (step.record)(recording, &frame))
    }

    /// A place of the workspace as `[slots, shape..]`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if it does not hold that many.
    pub fn view(&self, workspace: &Workspace, place: Place, shape: &[usize]) -> Result<Tensor> {
        let shape = [&[workspace.slots], shape].concat();
        let tensor = workspace.memory[place.0].as_ref();
        tensor.and_then(|t| t.view(&shape)).ok_or_else(|| Error::internal(format!("no place of shape {shape:?}")))
    }
}

/// How a batch of inputs lies: images of one channel that are only flattened need no room for more channels, and then no move.
fn input_layout(graph: &Graph) -> Layout {
    let shape = &graph.value(graph.input).shape;
    let mut readers = graph.nodes.iter().filter(|node| node.inputs.contains(&graph.input));
    let flat =
        |node: &Node| matches!(node.op, Op::Reshape) && Layout::plain(&graph.value(node.output).shape).rows() == 1;
    match *shape.as_slice() {
        [1, 1, h, w] if readers.all(flat) => Layout { dims: vec![h * w], image: false },
        _ => Layout::image(shape).unwrap_or_else(|| Layout::plain(shape)),
    }
}

/// A plan on its way.
struct Lowering<'a> {
    graph: &'a Graph,
    statistics: &'a Table,
    /// Samples of a slot.
    batch: usize,
    training: bool,
    homes: Vec<Option<Home>>,
    /// Shares of the gradient of each value.
    gradients: Vec<Option<Place>>,
    /// Nodes that read each value.
    consumers: Vec<usize>,
    /// ReLUs that the node before them did already.
    fused: Vec<bool>,
    /// Outputs of ReLUs whose gradient has gone through the ReLU already.
    gated: Vec<bool>,
    /// How many shares of a parameter's gradient are still to come.
    shares: HashMap<ValueId, usize>,
    /// The sum of those of a parameter that several nodes share.
    sums: HashMap<ValueId, Place>,
    /// What a node's forward step left for its gradient.
    saved: HashMap<usize, Vec<Place>>,
    places: Vec<usize>,
    steps: Vec<Step>,
    indices: Vec<Vec<u32>>,
}

impl<'a> Lowering<'a> {
    fn new(
        graph: &'a Graph,
        (table, statistics): (&'a Table, &'a Table),
        batch: usize,
        purpose: Purpose,
    ) -> Result<Self> {
        let mut consumers = vec![0; graph.values.len()];
        graph.nodes.iter().flat_map(|n| &n.inputs).for_each(|v| consumers[v.0] += 1);
        consumers[graph.output.0] += 1;
        let mut homes = vec![None; graph.values.len()];
        for (home, (id, value)) in homes.iter_mut().zip(graph.values.iter().enumerate()) {
            if let Some(field) = table.get(ValueId(id)) {
                *home = Some(Home::Field(field.clone()));
            } else if value.constant.is_some() {
                *home = Some(Home::Constant);
            }
        }
        let mut lowering = Self {
            graph,
            statistics,
            batch,
            training: purpose == Purpose::Training,
            homes,
            gradients: vec![None; graph.values.len()],
            consumers,
            fused: vec![false; graph.nodes.len()],
            gated: vec![false; graph.values.len()],
            shares: HashMap::new(),
            sums: HashMap::new(),
            saved: HashMap::new(),
            places: Vec::new(),
            steps: Vec::new(),
            indices: Vec::new(),
        };
        lowering.define(graph.input, input_layout(graph));
        Ok(lowering)
    }

    /// Memory of `rows` rows of `columns` a slot.
    fn place(&mut self, shape: &[usize]) -> Place {
        let columns = crate::tensor::pitch(shape.last().copied().unwrap_or(1));
        self.places.push(shape.iter().rev().skip(1).product::<usize>() * columns);
        Place(self.places.len() - 1)
    }

    /// Memory for all samples of a value.
    fn samples(&mut self, layout: &Layout) -> Place {
        self.places.push(self.batch * layout.words());
        Place(self.places.len() - 1)
    }

    fn define(&mut self, value: ValueId, layout: Layout) -> Place {
        let place = self.samples(&layout);
        self.homes[value.0] = Some(Home::Place(place, layout));
        place
    }

    fn step(
        &mut self,
        reads: &[Place],
        writes: &[Place],
        record: impl Fn(&mut Recording, &Frame<'_>) -> Result<()> + Send + Sync + 'static,
    ) {
        self.steps.push(Step { reads: reads.to_vec(), writes: writes.to_vec(), record: Box::new(record) });
    }

    /// Where a computed value is.
    fn computed(&self, value: ValueId) -> Result<(Place, Layout)> {
        match &self.homes[value.0] {
            Some(Home::Place(place, layout)) => Ok((*place, layout.clone())),
            _ => Err(Error::internal(format!("value '{}' is not computed", self.graph.value(value).name))),
        }
    }

    fn shape(&self, value: ValueId) -> &'a [usize] {
        &self.graph.value(value).shape
    }

    fn refuse(node: &Node, why: &str) -> Error {
        Error::new(ErrorKind::Unsupported, format!("node '{}' ({}): {why}", node.name, node.op.name()))
            .with_help("see docs/train.md for what can be trained")
    }

    /// The place of the output and its rows and columns a sample; classes stand in the last axis.
    fn output(&mut self) -> Result<(Place, [usize; 2])> {
        let value = self.graph.output;
        let (place, layout) = self.plain(value)?;
        Ok((place, [layout.rows(), layout.columns()]))
    }

    fn input(&self) -> Result<(Place, Vec<usize>)> {
        let (place, layout) = self.computed(self.graph.input)?;
        Ok((place, layout.dims))
    }

    /// Puts the loss's gradient at the graph's output.
    fn seed(&mut self, place: Place) {
        let output = self.graph.output;
        let shape = self.graph.value(output).shape.clone();
        let plain = Layout::plain(&shape);
        let place = match &self.homes[output.0] {
            Some(Home::Place(_, layout)) if *layout != plain => {
                let layout = layout.clone();
                self.reordered(place, &plain, &layout, &|i| i)
            }
            _ => place,
        };
        self.gradients[output.0] = Some(place);
    }
}
