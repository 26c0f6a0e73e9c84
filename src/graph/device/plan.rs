//! A network as steps on slots of memory: what runs on the device, decided without one.

use std::sync::Arc;

use ndarray::ArrayD;

use super::layout::{self, Form, Layout};
use crate::error::{Error, Result};
use crate::graph::shape::broadcast_index;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::elementwise::{Binary, Unary};
use crate::ops::pool::{Pool, Pooling};

/// Index of a slot: the memory of a value in one layout.
pub(super) type Slot = usize;

/// What a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// A slot, one sample after the other.
    Slot(Slot),
    /// A constant, shared by all samples.
    Constant(usize),
}

/// One operation.
#[derive(Debug)]
pub(super) enum Work {
    /// Words of a sample at other places; words without an index take `fill`, or stay.
    Reorder {
        x: Operand,
        index: usize,
        fill: Option<f32>,
    },
    /// `act(a b + bias)` for `stack` pairs of `[m, k]` and `[k, n]` a sample.
    Product {
        a: Operand,
        b: Operand,
        bias: Option<usize>,
        size: [usize; 4],
        relu: bool,
    },
    /// Two operands of one layout; a constant of one word counts for all.
    Binary {
        op: Binary,
        x: Operand,
        y: Operand,
    },
    Unary {
        op: Unary,
        x: Operand,
    },
    /// `image` and `result` are `[height, width, channels]`.
    Conv {
        x: Slot,
        weight: usize,
        bias: Option<usize>,
        geometry: Geometry,
        image: [usize; 3],
        result: [usize; 3],
        relu: bool,
    },
    Pool {
        x: Slot,
        pool: Pool,
        pooling: Pooling,
        image: [usize; 3],
        result: [usize; 3],
    },
    /// Rows of a sample.
    Softmax {
        x: Slot,
        rows: usize,
        n: usize,
    },
    /// `size` is rows of a sample and their length; `saved` is scratch.
    LayerNorm {
        x: Slot,
        affine: usize,
        epsilon: f32,
        size: [usize; 2],
        saved: Slot,
    },
    /// `size` is pixels of a sample and channels.
    GroupNorm {
        x: Slot,
        affine: usize,
        groups: usize,
        epsilon: f32,
        size: [usize; 2],
        scratch: [Slot; 3],
    },
    /// `size` is numbers of a sample and the length of a row.
    Embedding {
        ids: Slot,
        table: usize,
        size: [usize; 2],
    },
}

/// Where the windows of a convolution lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) stride: [usize; 2],
    pub(super) pad: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) groups: usize,
    pub(super) transposed: bool,
}

/// One operation and the slot that it writes.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) work: Work,
    pub(super) out: Slot,
}

impl Work {
    /// The slots that are read.
    pub(super) fn reads(&self) -> Vec<Slot> {
        let operands = match *self {
            Self::Reorder { x, .. } | Self::Unary { x, .. } => vec![x],
            Self::Product { a, b, .. } => vec![a, b],
            Self::Binary { x, y, .. } => vec![x, y],
            Self::Conv { x, .. }
            | Self::Pool { x, .. }
            | Self::Softmax { x, .. }
            | Self::LayerNorm { x, .. }
            | Self::GroupNorm { x, .. }
            | Self::Embedding { ids: x, .. } => vec![Operand::Slot(x)],
        };
        operands.into_iter().filter_map(|o| if let Operand::Slot(slot) = o { Some(slot) } else { None }).collect()
    }

    /// Slots that only this step uses.
    pub(super) fn scratch(&self) -> &[Slot] {
        match self {
            Self::LayerNorm { saved, .. } => std::slice::from_ref(saved),
            Self::GroupNorm { scratch, .. } => scratch,
            _ => &[],
        }
    }
}

/// The steps of a network, with what they need on the device.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Words of a sample of every slot.
    pub(super) slots: Vec<usize>,
    pub(super) steps: Vec<Step>,
    /// Shape and elements of every constant.
    pub(super) constants: Vec<(Vec<usize>, Vec<f32>)>,
    pub(super) indices: Vec<Vec<u32>>,
    pub(super) input: Slot,
    pub(super) output: Slot,
    /// Slots of the values that a caller wants to see.
    pub(super) taps: Vec<Slot>,
}

/// Makes a [`Plan`], node by node.
pub(super) struct Planner<'a> {
    pub(super) graph: &'a Graph,
    pub(super) plan: Plan,
    /// The slots of every value.
    known: Vec<Vec<(Layout, Slot)>>,
    /// How many nodes read a value, one more where it is read back.
    uses: Vec<usize>,
    /// Values that a convolution or a pool reads.
    images: Vec<bool>,
}

impl Plan {
    /// Plans a network that has passed its checks, and keeps the values `taps`.
    pub(super) fn new(graph: &Graph, taps: &[ValueId]) -> Result<Self> {
        let mut planner = Planner::new(graph, taps);
        for node in &graph.nodes {
            planner.node(node)?;
        }
        planner.plan.output = planner.require(graph.output, Layout::Flat)?;
        planner.plan.taps = taps.iter().map(|&id| planner.require(id, Layout::Flat)).collect::<Result<_>>()?;
        Ok(planner.plan)
    }

    /// For every slot the last step that reads it; `None` for what is read back and for what nothing reads.
    pub(super) fn last_reads(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.slots.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for slot in step.work.reads() {
                last[slot] = Some(i);
            }
        }
        for &kept in self.taps.iter().chain([&self.output]) {
            last[kept] = None;
        }
        last
    }
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, taps: &[ValueId]) -> Self {
        let mut uses = vec![0; graph.values.len()];
        let mut images = vec![false; graph.values.len()];
        for node in &graph.nodes {
            for &id in &node.inputs {
                uses[id.0] += 1;
            }
            if super::lower::reads_image(&node.op) {
                images[node.inputs[0].0] = true;
            }
        }
        for &kept in taps.iter().chain([&graph.output]) {
            uses[kept.0] += 1;
        }
        let mut planner =
            Self { graph, plan: Plan::default(), known: vec![Vec::new(); graph.values.len()], uses, images };
        planner.plan.input = planner.slot(graph.input, Layout::Flat);
        planner
    }

    pub(super) fn shape(&self, id: ValueId) -> &'a [usize] {
        &self.graph.value(id).shape
    }

    pub(super) fn constant_of(&self, id: ValueId) -> Option<&'a Arc<ArrayD<f32>>> {
        self.graph.value(id).constant.as_ref()
    }

    /// The constant that a node's operand must be.
    pub(super) fn needs_constant(&self, node: &Node, id: ValueId) -> Result<&'a Arc<ArrayD<f32>>> {
        self.constant_of(id).ok_or_else(|| {
            let what = &self.graph.value(id).name;
            Error::unsupported(format!(
                "node '{}' ({}) takes '{what}' from another node, which does not run on a device yet",
                node.name,
                node.op.name()
            ))
            .with_help("weights, biases and statistics must be constants of the file")
        })
    }

    /// Keeps a constant for the device.
    pub(super) fn constant(&mut self, shape: Vec<usize>, elements: Vec<f32>) -> usize {
        self.plan.constants.push((shape, elements));
        self.plan.constants.len() - 1
    }

    /// Keeps an index list for the device.
    pub(super) fn index(&mut self, index: Vec<u32>) -> usize {
        self.plan.indices.push(index);
        self.plan.indices.len() - 1
    }

    /// A constant with the elements that broadcasting to a form makes, times a factor.
    pub(super) fn placed(&mut self, constant: &ArrayD<f32>, form: Form<'_>, factor: f32) -> usize {
        let words = layout::placed(constant, form, factor);
        self.constant(vec![words.len()], words)
    }

    /// A new slot for a value.
    pub(super) fn slot(&mut self, id: ValueId, layout: Layout) -> Slot {
        let shape = self.shape(id);
        let layout = layout.canonical(shape);
        let slot = self.temporary(layout.words(shape));
        self.known[id.0].push((layout, slot));
        slot
    }

    /// A new slot that is no value's.
    pub(super) fn temporary(&mut self, words: usize) -> Slot {
        self.plan.slots.push(words);
        self.plan.slots.len() - 1
    }

    /// Says that a slot holds a value.
    pub(super) fn alias(&mut self, id: ValueId, layout: Layout, slot: Slot) {
        let layout = layout.canonical(self.shape(id));
        self.known[id.0].push((layout, slot));
    }

    pub(super) fn step(&mut self, work: Work, out: Slot) {
        self.plan.steps.push(Step { work, out });
    }

    /// The layout that a computed value is in already.
    pub(super) fn layout_of(&self, id: ValueId) -> Layout {
        self.known[id.0].first().map_or(Layout::Flat, |&(layout, _)| layout)
    }

    /// The layout in which a value that may be made in any is most useful.
    pub(super) fn preferred(&self, id: ValueId) -> Layout {
        let image = self.images[id.0] && matches!(self.shape(id), [1, _, _, _]);
        if image { Layout::Image } else { Layout::Flat }
    }

    /// The slot of a value in a layout; moves its elements there if it is in another.
    pub(super) fn require(&mut self, id: ValueId, layout: Layout) -> Result<Slot> {
        let layout = layout.canonical(self.shape(id));
        if let Some(&(_, slot)) = self.known[id.0].iter().find(|(known, _)| *known == layout) {
            return Ok(slot);
        }
        let slot = self.moved(id, Form { shape: self.shape(id), layout }, Some, Some(0.0))?;
        self.known[id.0].push((layout, slot));
        Ok(slot)
    }

    /// A value broadcast to another shape, in a layout of that shape.
    pub(super) fn broadcast(&mut self, id: ValueId, to: Form<'_>) -> Result<Slot> {
        if self.shape(id) == to.shape || (to.layout == Layout::Flat && same_len(self.shape(id), to.shape)) {
            return self.require(id, to.layout);
        }
        let source = broadcast_index(self.shape(id), to.shape);
        self.moved(id, to, |i| source.get(i).copied(), Some(0.0))
    }

    /// A new slot of a form whose element i is element `source(i)` of a value.
    pub(super) fn moved(
        &mut self,
        id: ValueId,
        to: Form<'_>,
        source: impl Fn(usize) -> Option<usize>,
        fill: Option<f32>,
    ) -> Result<Slot> {
        let out = self.temporary(to.layout.words(to.shape));
        self.move_into(id, to, source, fill, out)?;
        Ok(out)
    }

    /// Writes elements of a value into a slot of a form.
    pub(super) fn move_into(
        &mut self,
        id: ValueId,
        to: Form<'_>,
        source: impl Fn(usize) -> Option<usize>,
        fill: Option<f32>,
        out: Slot,
    ) -> Result<()> {
        let (layout, x) = match (self.known[id.0].first(), self.constant_of(id)) {
            (Some(&(layout, slot)), _) => (layout, Operand::Slot(slot)),
            (None, Some(constant)) => {
                let elements: Vec<f32> = constant.iter().copied().collect();
                (Layout::Flat, Operand::Constant(self.constant(vec![elements.len()], elements)))
            }
            (None, None) => return Err(Error::internal("a node runs before its input")),
        };
        let list = layout::index(Form { shape: self.shape(id), layout }, to, source)?;
        let index = self.index(list);
        self.step(Work::Reorder { x, index, fill }, out);
        Ok(())
    }

    /// Lets the step that wrote a value end with a ReLU, if nothing but that ReLU reads the value, under whatever name.
    pub(super) fn fuse_relu(&mut self, x: ValueId, out: ValueId) -> bool {
        let &[(layout, slot)] = self.known[x.0].as_slice() else { return false };
        let holds = |known: &[(Layout, Slot)]| known.iter().any(|&(_, other)| other == slot);
        if self.known.iter().zip(&self.uses).any(|(known, &uses)| uses != 1 && holds(known)) {
            return false;
        }
        let Some(step) = self.plan.steps.iter_mut().rev().find(|step| step.out == slot) else { return false };
        let (Work::Conv { relu, .. } | Work::Product { relu, .. }) = &mut step.work else { return false };
        *relu = true;
        self.known[out.0].push((layout, slot));
        true
    }
}

pub(super) fn same_len(a: &[usize], b: &[usize]) -> bool {
    a.iter().product::<usize>() == b.iter().product::<usize>()
}
