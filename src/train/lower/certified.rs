//! Passes of certified training: every value of a network for samples, for the centres of boxes around them and for their radii (S. Gowal
//! et al., 2018).
//!
//! A linear node maps samples and centres alike, so both run through it as one batch of twice the size; radii run through its
//! **twin**, the same node with the magnitudes of its weights and no bias. That is the node lowered as ever on other tables: one of
//! magnitudes, and one in which gradients for magnitudes come, from where `interval_sign` takes them to the weights' own. Only a ReLU
//! sees centre and radius together.

use super::layout::Layout;
use super::{Frame, Lowering, Place, Plan, Purpose, Radii, Tables, Workspace};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Caps, Recording};
use crate::graph::{Graph, Node, Op, Value, ValueId};
use crate::ops::elementwise::{self, Unary};
use crate::tensor::Tensor;
use crate::train::Model;
use crate::train::certify::{RADIUS, SHARE};
use crate::train::interval::{self, Bounded};
use crate::train::loss::{self, Intervals, Loss, LossOut, Right};
use crate::train::set::Targets;
use crate::train::table::{Field, Table};

/// A value's places: of samples and centres, and of radii.
type Pair = [Place; 2];

/// A certified plan on its way.
struct Certified<'a> {
    lowering: Lowering<'a>,
    /// Nodes of the network; the twin of node i is node `nodes + i`.
    nodes: usize,
    /// Samples of a slot.
    batch: usize,
    /// The table of magnitudes.
    magnitudes: Place,
    /// The table of gradients for magnitudes (training).
    shares: Option<Place>,
    /// Node in front of which boxes are made.
    first: usize,
}

impl Plan {
    /// The pass of a model whose bounds are propagated, too.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming the node for what has no bounds here.
    pub fn certified(model: &Model, tables: (&Table, &Table), batch: usize, purpose: Purpose) -> Result<Self> {
        let graph = with_twins(model)?;
        let mut lowering = Lowering::new(&graph, tables, batch, purpose)?;
        // No product may do a ReLU by the way, and no gradient go through one: bounds come in pairs.
        lowering.consumers.fill(2);
        let input = lowering.input()?;
        let width = tables.0.width;
        let magnitudes = lowering.place(&[width]);
        let shares = (purpose == Purpose::Training).then(|| lowering.place(&[width]));
        lowering.step(&[], &[magnitudes], move |recording, frame| {
            let out = frame.whole(magnitudes)?;
            elementwise::unary(recording, frame.caps, Unary::Abs, &frame.tables.parameters, out)
        });
        let nodes = model.graph.nodes.len();
        let first = model.graph.nodes.iter().position(|node| !matches!(node.op, Op::Reshape)).unwrap_or(nodes);
        let mut pass = Certified { lowering, nodes, batch, magnitudes, shares, first };
        (0..nodes).try_for_each(|index| pass.forward(index))?;
        let (output, columns) = pass.output(model)?;
        let forward = pass.lowering.steps.len();
        let mut seeds = None;
        if purpose == Purpose::Training {
            let [both, radii] = [2 * batch, batch].map(|rows| pass.lowering.place(&[rows, columns]));
            pass.set_gradients(nodes - 1, [both, radii]);
            seeds = Some([both, radii]);
            pass.backward(model)?;
        }
        let Lowering { places, steps, indices, .. } = pass.lowering;
        let radii = Some(Radii { place: output[1], seed: seeds.map(|seeds| seeds[1]), rows: batch });
        let (output, seed) = ((output[0], [2 * batch, columns]), seeds.map(|seeds| seeds[0]));
        Ok(Self { places, steps, indices, input, output, seed, forward, radii })
    }

    /// Whether bounds are propagated.
    pub fn is_certified(&self) -> bool {
        self.radii.is_some()
    }

    /// Records a loss of the pass, and its gradient if there is one.
    ///
    /// # Errors
    /// Those of the losses.
    #[expect(clippy::too_many_arguments, reason = "what a loss reads and what it writes, of pass and batch")]
    pub fn record_loss(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        loss: Loss,
        (workspace, coefficients): (&Workspace, &Tensor),
        (logits, targets): (&Tensor, &Targets),
        right: Right,
        out: &LossOut<'_>,
    ) -> Result<()> {
        let Some(Radii { place, seed, rows }) = self.radii else {
            return loss.record(recording, caps, logits, targets, out);
        };
        let Targets::Classes(labels) = targets else { return Err(Error::internal("a certified loss of values")) };
        let shape = [rows, logits.columns()];
        let radii = self.view(workspace, place, &shape)?;
        let gradient = seed.map(|seed| self.view(workspace, seed, &shape)).transpose()?;
        let intervals = Intervals { radii: &radii, gradient: gradient.as_ref(), share: (coefficients, SHARE), right };
        loss::certified(recording, caps, logits, &intervals, labels, out)
    }
}

/// A network's graph and behind its nodes the twin of each. Twins share weights and have values of their own.
fn with_twins(model: &Model) -> Result<Graph> {
    let mut graph = model.graph.clone();
    let mut before = graph.input;
    let mut twin_before = None;
    let mut used: Vec<ValueId> = Vec::new();
    for node in &model.graph.nodes {
        bounded(model, node, before, &used)?;
        used.extend(&node.inputs[1..]);
        let Value { name, shape, .. } = model.graph.value(node.output);
        let twin_input = twin_before.unwrap_or_else(|| twin_value(&mut graph, model.graph.value(before)));
        let twin_output = twin_value(&mut graph, &Value { name: name.clone(), shape: shape.clone(), constant: None });
        let inputs = [twin_input].into_iter().chain(node.inputs.get(1).copied()).collect();
        graph.nodes.push(Node { name: node.name.clone(), op: node.op.clone(), inputs, output: twin_output });
        (before, twin_before) = (node.output, Some(twin_output));
    }
    if before != model.graph.output || model.graph.nodes.is_empty() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "certified training of a network whose last node is not its output",
        )
        .with_help("finish the network with its last layer"));
    }
    Ok(graph)
}

fn twin_value(graph: &mut Graph, of: &Value) -> ValueId {
    graph.values.push(Value { name: format!("{}.radius", of.name), shape: of.shape.clone(), constant: None });
    ValueId(graph.values.len() - 1)
}

/// Refuses nodes without bounds, and networks that are no chain.
fn bounded(model: &Model, node: &Node, before: ValueId, used: &[ValueId]) -> Result<()> {
    let refuse = |why: &str| {
        let what = format!("node '{}' ({}): {why}", node.name, node.op.name());
        let help = "certified training takes networks of Flatten, Gemm, Conv and Relu, one after the other";
        Err(Error::new(ErrorKind::Unsupported, what).with_help(help))
    };
    if !matches!(node.op, Op::Reshape | Op::Relu | Op::Gemm { .. } | Op::MatMul | Op::Conv(_)) {
        return refuse("certified training has no bounds for it");
    }
    if node.inputs.first() != Some(&before) {
        return refuse("it does not take what the node before it gives");
    }
    let is_parameter = |value: &&ValueId| model.parameters.iter().any(|p| p.value == **value);
    if node.inputs[1..].iter().filter(is_parameter).count() + 1 != node.inputs.len() {
        return refuse("an operand besides the first is no parameter");
    }
    if node.inputs[1..].iter().any(|value| used.contains(value)) {
        return refuse("it shares a parameter with another node");
    }
    Ok(())
}

impl Certified<'_> {
    fn node(&self, index: usize) -> &Node {
        &self.lowering.graph.nodes[index]
    }

    /// Lets the next steps work on so many batches of samples.
    fn batches(&mut self, count: usize) {
        self.lowering.batch = count * self.batch;
    }

    fn forward(&mut self, index: usize) -> Result<()> {
        if index < self.first {
            return self.lowering.forward(index);
        }
        if index == self.first {
            self.boxes(index)?;
        }
        if matches!(self.node(index).op, Op::Relu) {
            return self.relu(index);
        }
        self.batches(2);
        self.lowering.forward(index)?;
        self.batches(1);
        let from = self.lowering.steps.len();
        self.lowering.forward(self.nodes + index)?;
        self.on_magnitudes(from, None);
        Ok(())
    }

    /// Puts boxes around what a node takes.
    fn boxes(&mut self, index: usize) -> Result<()> {
        let inputs = [index, self.nodes + index].map(|node| self.node(node).inputs[0]);
        let (x, layout) = self.lowering.computed(inputs[0])?;
        let [both, radii] = self.define(inputs, &layout);
        let words = self.batch * layout.words();
        self.lowering.step(&[x], &[both, radii], move |recording, frame| {
            let x = frame.view(x, &[words])?;
            let out = [frame.view(both, &[2 * words])?, frame.view(radii, &[words])?];
            interval::boxes(recording, frame.caps, &x, (frame.coefficients, RADIUS), bounded_of(&out))
        });
        Ok(())
    }

    /// Places for a value and its twin.
    fn define(&mut self, values: [ValueId; 2], layout: &Layout) -> Pair {
        self.batches(2);
        let both = self.lowering.define(values[0], layout.clone());
        self.batches(1);
        [both, self.lowering.define(values[1], layout.clone())]
    }

    /// The places of a node's input, and their layout.
    fn input(&self, index: usize) -> Result<(Pair, Layout)> {
        let [both, radii] = [index, self.nodes + index].map(|node| self.lowering.computed(self.node(node).inputs[0]));
        let ((both, layout), (radii, of_radii)) = (both?, radii?);
        if layout != of_radii {
            return Err(Error::internal("centres and radii that lie apart"));
        }
        Ok(([both, radii], layout))
    }

    fn relu(&mut self, index: usize) -> Result<()> {
        let (x, layout) = self.input(index)?;
        let outputs = [index, self.nodes + index].map(|node| self.node(node).output);
        let out = self.define(outputs, &layout);
        let words = self.batch * layout.words();
        self.lowering.step(&x, &out, move |recording, frame| {
            let (x, out) = (views(frame, x, words)?, views(frame, out, words)?);
            interval::relu(recording, frame.caps, bounded_of(&x), bounded_of(&out))
        });
        Ok(())
    }

    /// The output's places, and how many numbers a sample has there.
    fn output(&mut self, model: &Model) -> Result<(Pair, usize)> {
        let shape = &model.graph.value(model.graph.output).shape;
        let plain = Layout::plain(shape);
        let last = self.nodes - 1;
        let places = [last, self.nodes + last].map(|node| self.lowering.computed(self.node(node).output));
        let [Ok((both, layout)), Ok((radii, _))] = places else { return Err(Error::internal("no output")) };
        if plain.rows() != 1 || layout != plain || last < self.first {
            return Err(Lowering::refuse(self.node(last), "its result is no vector of classes"));
        }
        Ok(([both, radii], plain.columns()))
    }

    fn gradients(&self, index: usize) -> Result<Pair> {
        let [both, radii] = [index, self.nodes + index].map(|node| self.lowering.gradients[self.node(node).output.0]);
        both.zip(radii).map(|(both, radii)| [both, radii]).ok_or_else(|| Error::internal("a gradient that nobody gave"))
    }

    /// What comes from above for a node's result and that of its twin.
    fn set_gradients(&mut self, index: usize, places: Pair) {
        let values = [index, self.nodes + index].map(|node| self.node(node).output);
        for (value, place) in values.into_iter().zip(places) {
            self.lowering.gradients[value.0] = Some(place);
        }
    }

    fn backward(&mut self, model: &Model) -> Result<()> {
        let trains = |node: &Node| node.inputs.len() > 1;
        let deepest = model.graph.nodes.iter().position(trains).unwrap_or(self.nodes);
        for index in (deepest.max(self.first)..self.nodes).rev() {
            let g = self.gradients(index)?;
            match self.node(index).op {
                Op::Relu => self.relu_gradient(index, g)?,
                _ => self.linear_gradient(index, g, index > deepest)?,
            }
        }
        Ok(())
    }

    fn relu_gradient(&mut self, index: usize, g: Pair) -> Result<()> {
        let (x, layout) = self.input(index)?;
        let inputs = [index, self.nodes + index].map(|node| self.node(node).inputs[0]);
        self.batches(2);
        let both = self.lowering.samples(&layout);
        self.batches(1);
        let out = [both, self.lowering.samples(&layout)];
        let words = self.batch * layout.words();
        self.lowering.step(&[x[0], x[1], g[0], g[1]], &out, move |recording, frame| {
            let [x, g, out] = [views(frame, x, words)?, views(frame, g, words)?, views(frame, out, words)?];
            interval::relu_gradient(recording, frame.caps, bounded_of(&x), bounded_of(&g), bounded_of(&out))
        });
        for (value, place) in inputs.into_iter().zip(out) {
            self.lowering.gradients[value.0] = Some(place);
        }
        Ok(())
    }

    /// Gradients of a linear node and its twin; for their inputs only where something in front of them is trained.
    fn linear_gradient(&mut self, index: usize, g: Pair, further: bool) -> Result<()> {
        let graph = self.lowering.graph;
        let (node, twin) = (&graph.nodes[index], &graph.nodes[self.nodes + index]);
        self.batches(2);
        for operand in 1..node.inputs.len() {
            self.lowering.parameter_gradient(index, node, operand, g[0])?;
        }
        if further {
            self.lowering.input_gradient(index, node, 0, g[0])?;
        }
        self.batches(1);
        if node.inputs.len() > 1 {
            let from = self.lowering.steps.len();
            self.lowering.parameter_gradient(self.nodes + index, twin, 1, g[1])?;
            self.on_magnitudes(from, self.shares);
            let field = self.lowering.field(node, 1)?;
            self.fold(field)?;
        }
        if further {
            let from = self.lowering.steps.len();
            self.lowering.input_gradient(self.nodes + index, twin, 0, g[1])?;
            self.on_magnitudes(from, None);
        }
        Ok(())
    }

    /// Lets the steps from `from` on see magnitudes for parameters, and write gradients of them to `shares`.
    fn on_magnitudes(&mut self, from: usize, shares: Option<Place>) {
        let magnitudes = self.magnitudes;
        for step in &mut self.lowering.steps[from..] {
            step.reads.push(magnitudes);
            step.writes.extend(shares);
            let record = std::mem::replace(&mut step.record, Box::new(|_, _| Ok(())));
            step.record = Box::new(move |recording, frame| {
                let mut tables = Tables { parameters: frame.whole(magnitudes)?.clone(), ..frame.tables.clone() };
                if let Some(shares) = shares {
                    tables.gradients = frame.whole(shares)?.clone();
                }
                record(recording, &Frame { tables: &tables, ..*frame })
            });
        }
    }

    /// Adds the gradient for the magnitudes of a weight to that of the weight.
    fn fold(&mut self, field: Field) -> Result<()> {
        let Some(shares) = self.shares else {
            return Err(Error::internal("a gradient of magnitudes in an evaluation"));
        };
        self.lowering.step(&[shares], &[], move |recording, frame| {
            let flat = |table: &Tensor| field.shaped(table, &[field.words()]);
            let Tables { parameters, gradients, .. } = frame.tables;
            let share = flat(frame.whole(shares)?)?;
            interval::sign(recording, frame.caps, &flat(parameters)?, &share, &flat(gradients)?)
        });
        Ok(())
    }
}

/// The arrays of a pair: `[slots, 2 words]` and `[slots, words]`.
fn views(frame: &Frame<'_>, [both, radii]: Pair, words: usize) -> Result<[Tensor; 2]> {
    Ok([frame.view(both, &[2 * words])?, frame.view(radii, &[words])?])
}

fn bounded_of([both, radii]: &[Tensor; 2]) -> Bounded<'_> {
    Bounded { both, radii }
}
