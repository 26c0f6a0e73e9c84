//! Running a network on a device, a batch of samples at once.
//!
//! A network becomes a [`Plan`]: steps on slots, each of which holds one value of every sample in one layout. Convolutions and
//! pools work channels last, products on padded rows, everything else on whatever it is given; elements move between
//! layouts only where two neighbours disagree. Memory is reused as soon as the last step that reads it is recorded.

mod curves;
mod layout;
mod lower;
mod norms;
mod plan;
#[cfg(test)]
mod tests;

use ndarray::{Array2, ArrayView2};

use self::plan::{Operand, Plan, Slot, Step, Work};
use super::{Graph, Node, Op, ValueId};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Control, Gpu, Recording};
use crate::ops::conv::Conv;
use crate::ops::elementwise;
use crate::ops::embedding;
use crate::ops::gather::{self, Otherwise};
use crate::ops::matmul::Matmul;
use crate::ops::norm::{group, layer};
use crate::ops::softmax;
use crate::tensor::Tensor;

/// A network on a device.
#[derive(Debug)]
pub struct Executor {
    gpu: Gpu,
    plan: Plan,
    constants: Vec<Tensor>,
    indices: Vec<Tensor<u32>>,
    last_reads: Vec<Option<usize>>,
    inputs: usize,
    outputs: usize,
    /// Lengths of the values that are kept.
    taps: Vec<usize>,
    /// Rows of a table that the input chooses from.
    rows: Option<usize>,
}

impl Executor {
    /// Uploads the constants of a network.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] naming the node for what this evaluator does not run; memory errors.
    pub async fn new_async(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        Self::tapped_async(gpu, graph, &[]).await
    }

    /// The same, which also keeps the values `taps` for [`Executor::run_tapped_async`].
    ///
    /// # Errors
    /// As [`Executor::new_async`]; [`crate::ErrorKind::BadInput`] for a value that the graph has not.
    pub async fn tapped_async(gpu: &Gpu, graph: &Graph, taps: &[ValueId]) -> Result<Self> {
        graph.check()?;
        if let Some(id) = taps.iter().find(|id| id.0 >= graph.values.len()) {
            return Err(Error::bad_input(format!("there is no value {} in the network", id.0)));
        }
        let mut plan = Plan::new(graph, taps)?;
        let mut constants = Vec::with_capacity(plan.constants.len());
        for (shape, elements) in std::mem::take(&mut plan.constants) {
            constants.push(Tensor::from_slice_async(gpu, &shape, &elements).await?);
        }
        let mut indices = Vec::with_capacity(plan.indices.len());
        for index in std::mem::take(&mut plan.indices) {
            indices.push(Tensor::from_slice_async(gpu, &[index.len()], &index).await?);
        }
        let last_reads = plan.last_reads();
        let (inputs, outputs) = (graph.input_len(), graph.output_len());
        let is_table = |node: &&Node| matches!(node.op, Op::Embedding { .. }) && node.inputs[0] == graph.input;
        let rows = graph.nodes.iter().filter(is_table).map(|node| graph.value(node.inputs[1]).shape[0]).min();
        let taps = taps.iter().map(|&id| graph.value(id).shape.iter().product()).collect();
        Ok(Self { gpu: gpu.clone(), plan, constants, indices, last_reads, inputs, outputs, taps, rows })
    }

    /// Blocking twin of [`Executor::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, graph))
    }

    /// Blocking twin of [`Executor::tapped_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tapped(gpu: &Gpu, graph: &Graph, taps: &[ValueId]) -> Result<Self> {
        pollster::block_on(Self::tapped_async(gpu, graph, taps))
    }

    /// Blocking twin of [`Executor::run_tapped_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run_tapped(&self, samples: &ArrayView2<'_, f32>, control: &Control) -> Result<Vec<Array2<f32>>> {
        pollster::block_on(self.run_tapped_async(samples, control))
    }

    /// Blocking twin of [`Executor::run_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&self, samples: &ArrayView2<'_, f32>, control: &Control) -> Result<Array2<f32>> {
        pollster::block_on(self.run_async(samples, control))
    }

    /// The outputs `[batch, outputs]` for samples `[batch, inputs]`, both flattened in row-major order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for samples of another length; device errors.
    pub async fn run_async(&self, samples: &ArrayView2<'_, f32>, control: &Control) -> Result<Array2<f32>> {
        let mut read = self.read(samples, &[(self.plan.output, self.outputs)], control).await?;
        read.pop().ok_or_else(|| Error::internal("an output was not read"))
    }

    /// The values that [`Executor::tapped_async`] was asked for, in that order: each `[batch, elements]`, flattened in row-major order.
    /// All of them stay in device memory until the batch is done.
    ///
    /// # Errors
    /// As [`Executor::run_async`].
    pub async fn run_tapped_async(&self, samples: &ArrayView2<'_, f32>, control: &Control) -> Result<Vec<Array2<f32>>> {
        let wanted: Vec<_> = self.plan.taps.iter().copied().zip(self.taps.iter().copied()).collect();
        self.read(samples, &wanted, control).await
    }

    /// Runs a batch and reads slots, each with the length of a sample.
    async fn read(
        &self,
        samples: &ArrayView2<'_, f32>,
        wanted: &[(Slot, usize)],
        control: &Control,
    ) -> Result<Vec<Array2<f32>>> {
        self.check(samples)?;
        let mut recording = Recording::new();
        let memory = self.record_all(&mut recording, samples).await?;
        let mut tickets = Vec::with_capacity(wanted.len());
        for &(slot, _) in wanted {
            tickets.push(memory.slot(slot)?.record_read(&mut recording));
        }
        let mut done = self.gpu.run_async(&recording, control).await?;
        let arrays = wanted.iter().zip(tickets).map(|(&(slot, length), ticket)| {
            let flat = memory.slot(slot)?.take(&mut done, ticket);
            Array2::from_shape_vec((memory.batch, length), flat).map_err(|e| Error::internal(e.to_string()))
        });
        arrays.collect()
    }

    fn check(&self, samples: &ArrayView2<'_, f32>) -> Result<()> {
        let (batch, length) = samples.dim();
        if length != self.inputs || batch == 0 {
            let wanted = self.inputs;
            return Err(Error::bad_input(format!("{batch} samples of {length} values, the network takes {wanted}"))
                .with_help("give an array of shape [samples, inputs] with at least one sample"));
        }
        if let (Some(rows), Some(wrong)) = (self.rows, self.no_row(samples)) {
            return Err(Error::bad_input(format!("{wrong} is no row of a table of {rows}"))
                .with_help("give whole numbers from 0 on"));
        }
        Ok(())
    }

    /// Records every step of a batch.
    async fn record_all(&self, recording: &mut Recording, samples: &ArrayView2<'_, f32>) -> Result<Memory> {
        let (batch, length) = samples.dim();
        let flat: Vec<f32> = samples.iter().copied().collect();
        let mut memory = Memory { slots: vec![None; self.plan.slots.len()], free: Vec::new(), batch };
        memory.slots[self.plan.input] = Some(Tensor::from_slice_async(&self.gpu, &[batch, length], &flat).await?);
        for (number, step) in self.plan.steps.iter().enumerate() {
            // A slot may be written by several steps.
            if memory.slots[step.out].is_none() {
                memory.slots[step.out] = Some(memory.take(&self.gpu, self.plan.slots[step.out]).await?);
            }
            for &slot in step.work.scratch() {
                memory.slots[slot] = Some(memory.take(&self.gpu, self.plan.slots[slot]).await?);
            }
            self.record(recording, step, &memory)?;
            step.work.scratch().iter().for_each(|&slot| memory.give(slot));
            for slot in step.work.reads() {
                if self.last_reads[slot] == Some(number) {
                    memory.give(slot);
                }
            }
        }
        Ok(memory)
    }

    /// A number of the input that is no row of the table that it chooses from.
    fn no_row(&self, samples: &ArrayView2<'_, f32>) -> Option<f32> {
        let is_row = |v: f32| v.fract() == 0.0 && v >= 0.0 && self.rows.is_none_or(|rows| (v as usize) < rows);
        samples.iter().copied().find(|&v| !is_row(v))
    }

    fn record(&self, recording: &mut Recording, step: &Step, memory: &Memory) -> Result<()> {
        let caps = self.gpu.caps();
        let out = memory.slot(step.out)?;
        match &step.work {
            Work::Reorder { x, index, fill } => {
                let x = match *x {
                    Operand::Slot(slot) => memory.slot(slot)?.clone(),
                    Operand::Constant(c) => self.constants[c].shared(memory.batch),
                };
                let otherwise = fill.map_or(Otherwise::Keep, Otherwise::Fill);
                gather::elements(recording, caps, &x, &self.indices[*index], otherwise, out)
            }
            Work::Binary { op, x, y } => {
                elementwise::binary(recording, caps, *op, self.operand(memory, *x)?, self.operand(memory, *y)?, out)
            }
            Work::Unary { op, x } => elementwise::unary(recording, caps, *op, self.operand(memory, *x)?, out),
            Work::Product { a, b, bias, size, relu } => {
                let bias = bias.map(|c| &self.constants[c]);
                let product = Matmul { bias, relu: *relu, ..Matmul::default() };
                self.product(recording, memory, product, [*a, *b], *size, out)
            }
            Work::Conv { x, weight, bias, geometry, image, result, relu } => {
                let conv = Conv {
                    stride: geometry.stride,
                    pad: geometry.pad,
                    dilation: geometry.dilation,
                    groups: geometry.groups,
                    transposed: geometry.transposed,
                    trans_weight: false,
                    bias: bias.map(|c| &self.constants[c]),
                    relu: *relu,
                    variant: None,
                };
                let (x, out) = (memory.image(*x, *image)?, memory.image(step.out, *result)?);
                conv.record(recording, caps, &x, &self.constants[*weight], &out)
            }
            Work::Pool { x, pool, pooling, image, result } => {
                let (x, out) = (memory.image(*x, *image)?, memory.image(step.out, *result)?);
                pool.record(recording, caps, *pooling, &x, &out)
            }
            Work::Softmax { x, rows, n } => {
                let shape = [memory.batch * rows, *n];
                softmax::record(recording, caps, &memory.view(*x, &shape)?, Some(&memory.view(step.out, &shape)?), None)
            }
            Work::LayerNorm { .. } | Work::GroupNorm { .. } | Work::Embedding { .. } => {
                self.record_norm(recording, step, memory)
            }
        }
    }

    fn record_norm(&self, recording: &mut Recording, step: &Step, memory: &Memory) -> Result<()> {
        let (caps, batch) = (self.gpu.caps(), memory.batch);
        match step.work {
            Work::LayerNorm { x, affine, epsilon, size: [rows, n], saved } => {
                let of = |slot| memory.view(slot, &[1, batch * rows, n]);
                let (x, y, saved) = (of(x)?, of(step.out)?, memory.view(saved, &[1, batch * rows, 2])?);
                layer::forward(recording, caps, &x, &self.constants[affine], epsilon, &saved, &y)
            }
            Work::GroupNorm { x, affine, groups, epsilon, size: [rows, n], scratch: [parts, channels, saved] } => {
                let of = |slot| memory.view(slot, &[1, batch, rows, n]);
                let (x, y) = (of(x)?, of(step.out)?);
                let parts = memory.view(parts, &group::scratch(x.shape()))?;
                let of = |slot| memory.view(slot, &[1, batch, 2, n]);
                let (channels, saved) = (of(channels)?, of(saved)?);
                group::statistics(recording, caps, &x, (groups, epsilon), &parts, &channels, &saved)?;
                group::apply(recording, caps, &x, &saved, &self.constants[affine], &y)
            }
            Work::Embedding { ids, table, size: [positions, n] } => {
                let ids = memory.view(ids, &[1, batch, positions])?;
                let out = memory.view(step.out, &[1, batch, positions, n])?;
                embedding::forward(recording, caps, &ids, &self.constants[table], &out)
            }
            _ => Err(Error::internal("no norm")),
        }
    }

    fn operand<'a>(&'a self, memory: &'a Memory, operand: Operand) -> Result<&'a Tensor> {
        match operand {
            Operand::Slot(slot) => memory.slot(slot),
            Operand::Constant(c) => Ok(&self.constants[c]),
        }
    }

    fn product(
        &self,
        recording: &mut Recording,
        memory: &Memory,
        product: Matmul<'_>,
        operands: [Operand; 2],
        [stack, m, k, n]: [usize; 4],
        out: &Tensor,
    ) -> Result<()> {
        let caps: &Caps = self.gpu.caps();
        let whole = |t: Option<Tensor>| t.ok_or_else(|| Error::internal("a product leaves its slot"));
        let pairs = memory.batch * stack;
        if let [Operand::Slot(a), Operand::Constant(b)] = operands {
            let (rows, out) = (pairs * m, whole(out.view(&[pairs * m, n]))?);
            return product.record(recording, caps, &memory.view(a, &[rows, k])?, &self.constants[b], &out);
        }
        let side = |operand: Operand, rows: usize, columns: usize| match operand {
            Operand::Slot(slot) => memory.view(slot, &[pairs, rows, columns]),
            Operand::Constant(c) => Ok(self.constants[c].shared(pairs)),
        };
        let (a, b) = (side(operands[0], m, k)?, side(operands[1], k, n)?);
        product.record(recording, caps, &a, &b, &whole(out.view(&[pairs, m, n]))?)
    }
}

/// The slots of a run, and memory that no later step reads.
struct Memory {
    slots: Vec<Option<Tensor>>,
    free: Vec<Tensor>,
    batch: usize,
}

impl Memory {
    fn slot(&self, slot: Slot) -> Result<&Tensor> {
        self.slots[slot].as_ref().ok_or_else(|| Error::internal("a step runs before its input"))
    }

    fn view(&self, slot: Slot, shape: &[usize]) -> Result<Tensor> {
        self.slot(slot)?.view(shape).ok_or_else(|| Error::internal(format!("a slot does not hold {shape:?}")))
    }

    fn image(&self, slot: Slot, [height, width, channels]: [usize; 3]) -> Result<Tensor> {
        self.view(slot, &[self.batch, height, width, channels])
    }

    /// Memory for a slot: the smallest piece that is free and fits, or a new one. Steps run one after the other, so a
    /// later step may overwrite what an earlier one has read.
    async fn take(&mut self, gpu: &Gpu, words: usize) -> Result<Tensor> {
        let shape = [self.batch, words];
        let fits = |(at, tensor): (usize, &Tensor)| tensor.view(&shape).map(|view| (tensor.buffer().size(), at, view));
        let found = self.free.iter().enumerate().filter_map(fits).min_by_key(|(size, _, _)| *size);
        match found {
            Some((_, at, view)) => {
                self.free.swap_remove(at);
                Ok(view)
            }
            None => Tensor::uninit_async(gpu, &shape).await,
        }
    }

    fn give(&mut self, slot: Slot) {
        self.free.extend(self.slots[slot].take());
    }
}
