//! Running a network on a device, a batch of samples at once.
//!
//! Every value is kept flat, `[batch, elements of one sample]`, so that a change of shape costs nothing. Constants are
//! uploaded once, broadcast to the shape they are used in.

use std::sync::Arc;

use ndarray::{Array2, ArrayD, ArrayView2, IxDyn};

use super::{Graph, Node, Op, Value, ValueId};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu, Recording};
use crate::ops::elementwise::{self, Binary, Unary};
use crate::ops::matmul::Matmul;
use crate::tensor::Tensor;

/// A network on a device.
#[derive(Debug)]
pub struct Executor {
    gpu: Gpu,
    graph: Graph,
    steps: Vec<Step>,
}

/// One node with its constants on the device.
#[derive(Debug)]
enum Step {
    /// `x W + b`: `W` is `[k, n]`.
    Product {
        x: ValueId,
        weight: Tensor,
        bias: Option<Tensor>,
        out: ValueId,
    },
    /// A binary operator of two computed values of one shape.
    Binary {
        op: Binary,
        x: ValueId,
        y: ValueId,
        out: ValueId,
    },
    /// A binary operator with a constant, on its right or its left.
    WithConstant {
        op: Binary,
        x: ValueId,
        constant: Tensor,
        constant_first: bool,
        out: ValueId,
    },
    Relu {
        x: ValueId,
        out: ValueId,
    },
    Alias {
        x: ValueId,
        out: ValueId,
    },
}

impl Executor {
    /// Uploads the constants of a network.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] naming the node for what this evaluator does not run; memory errors.
    pub async fn new_async(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        graph.check()?;
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            steps.push(step(gpu, graph, node).await?);
        }
        Ok(Self { gpu: gpu.clone(), graph: graph.clone(), steps })
    }

    /// Blocking twin of [`Executor::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, graph))
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
        let (batch, length) = samples.dim();
        if length != self.graph.input_len() || batch == 0 {
            let wanted = self.graph.input_len();
            return Err(Error::bad_input(format!("{batch} samples of {length} values, the network takes {wanted}"))
                .with_help("give an array of shape [samples, inputs] with at least one sample"));
        }
        let mut values: Vec<Option<Tensor>> = vec![None; self.graph.values.len()];
        let flat: Vec<f32> = samples.iter().copied().collect();
        values[self.graph.input.0] = Some(Tensor::from_slice_async(&self.gpu, &[batch, length], &flat).await?);
        let mut recording = Recording::new();
        for step in &self.steps {
            let (id, result) = self.record(&mut recording, step, &values, batch).await?;
            values[id.0] = Some(result);
        }
        let output = computed(&values, self.graph.output)?;
        let ticket = output.record_read(&mut recording);
        let mut done = self.gpu.run_async(&recording, control).await?;
        let flat = output.take(&mut done, ticket);
        Array2::from_shape_vec((batch, self.graph.output_len()), flat).map_err(|e| Error::internal(e.to_string()))
    }

    async fn record(
        &self,
        recording: &mut Recording,
        step: &Step,
        values: &[Option<Tensor>],
        batch: usize,
    ) -> Result<(ValueId, Tensor)> {
        let caps = self.gpu.caps();
        let (Step::Product { out, .. }
        | Step::Binary { out, .. }
        | Step::WithConstant { out, .. }
        | Step::Relu { out, .. }
        | Step::Alias { out, .. }) = step;
        if let Step::Alias { x, .. } = step {
            return Ok((*out, computed(values, *x)?.clone()));
        }
        let length = self.graph.value(*out).shape.iter().product();
        let target = Tensor::uninit_async(&self.gpu, &[batch, length]).await?;
        match step {
            Step::Product { x, weight, bias, .. } => {
                let product = Matmul { bias: bias.as_ref(), ..Matmul::default() };
                product.record(recording, caps, computed(values, *x)?, weight, &target)?;
            }
            Step::Binary { op, x, y, .. } => {
                elementwise::binary(recording, caps, *op, computed(values, *x)?, computed(values, *y)?, &target)?;
            }
            Step::WithConstant { op, x, constant, constant_first, .. } => {
                let x = computed(values, *x)?;
                let (left, right) = if *constant_first { (constant, x) } else { (x, constant) };
                elementwise::binary(recording, caps, *op, left, right, &target)?;
            }
            Step::Relu { x, .. } => {
                elementwise::unary(recording, caps, Unary::Relu, computed(values, *x)?, &target)?;
            }
            Step::Alias { .. } => {}
        }
        Ok((*out, target))
    }
}

fn computed(values: &[Option<Tensor>], id: ValueId) -> Result<&Tensor> {
    values[id.0].as_ref().ok_or_else(|| Error::internal("a node runs before its input"))
}

async fn step(gpu: &Gpu, graph: &Graph, node: &Node) -> Result<Step> {
    let out = node.output;
    match (&node.op, node.inputs.as_slice()) {
        (Op::Relu, &[x]) => Ok(Step::Relu { x, out }),
        (Op::Reshape, &[x]) => Ok(Step::Alias { x, out }),
        (Op::Gemm { alpha, beta, trans_a: false, trans_b }, &[x, w, ..]) => {
            let weight = constant(graph, node, w)?;
            let weight = if *trans_b { weight.t().mapv(|v| v * alpha) } else { weight.mapv(|v| v * alpha) };
            let bias = match node.inputs.get(2) {
                Some(&c) => Some(spread(gpu, constant(graph, node, c)?, graph.value(out), *beta).await?),
                None => None,
            };
            product(gpu, graph, node, x, weight, bias).await
        }
        (Op::MatMul, &[a, b]) if graph.value(b).constant.is_some() => {
            let weight = constant(graph, node, b)?.as_ref().clone();
            product(gpu, graph, node, a, weight, None).await
        }
        // W x for a column x is the row x times W transposed.
        (Op::MatMul, &[a, b]) => {
            let weight = constant(graph, node, a)?.as_ref().t().to_owned();
            product(gpu, graph, node, b, weight, None).await
        }
        (Op::Add | Op::Sub | Op::Mul | Op::Div, &[x, y]) => {
            let op = match node.op {
                Op::Add => Binary::Add,
                Op::Sub => Binary::Sub,
                Op::Mul => Binary::Mul,
                _ => Binary::Div,
            };
            elementwise_step(gpu, graph, node, op, x, y).await
        }
        _ => Err(unsupported(node)),
    }
}

async fn elementwise_step(gpu: &Gpu, graph: &Graph, node: &Node, op: Binary, x: ValueId, y: ValueId) -> Result<Step> {
    let out = node.output;
    let shape = &graph.value(out).shape;
    let (left, right) = (graph.value(x), graph.value(y));
    let grows = |v: &Value| v.shape.iter().product::<usize>() != shape.iter().product::<usize>();
    match (&left.constant, &right.constant) {
        (None, None) if !grows(left) && !grows(right) => Ok(Step::Binary { op, x, y, out }),
        (None, Some(c)) if !grows(left) => {
            let constant = spread(gpu, c, graph.value(out), 1.0).await?;
            Ok(Step::WithConstant { op, x, constant, constant_first: false, out })
        }
        (Some(c), None) if !grows(right) => {
            let constant = spread(gpu, c, graph.value(out), 1.0).await?;
            Ok(Step::WithConstant { op, x: y, constant, constant_first: true, out })
        }
        _ => Err(unsupported(node)),
    }
}

async fn product(
    gpu: &Gpu,
    graph: &Graph,
    node: &Node,
    x: ValueId,
    weight: ArrayD<f32>,
    bias: Option<Tensor>,
) -> Result<Step> {
    let rows: usize = graph.value(x).shape.iter().product();
    let columns: usize = graph.value(node.output).shape.iter().product();
    // One vector a sample; a stack of them would need a batch of products.
    if weight.shape() != [rows, columns] {
        return Err(unsupported(node));
    }
    let elements: Vec<f32> = weight.iter().copied().collect();
    let weight = Tensor::from_slice_async(gpu, &[rows, columns], &elements).await?;
    Ok(Step::Product { x, weight, bias, out: node.output })
}

fn constant<'a>(graph: &'a Graph, node: &Node, id: ValueId) -> Result<&'a Arc<ArrayD<f32>>> {
    graph.value(id).constant.as_ref().ok_or_else(|| unsupported(node))
}

/// A constant times a factor, broadcast to the shape of a value and flattened.
async fn spread(gpu: &Gpu, constant: &ArrayD<f32>, like: &Value, factor: f32) -> Result<Tensor> {
    let full = constant.broadcast(IxDyn(&like.shape)).ok_or_else(|| {
        Error::internal(format!("shape {:?} does not broadcast to {:?}", constant.shape(), like.shape))
    })?;
    let elements: Vec<f32> = full.iter().map(|v| v * factor).collect();
    Tensor::from_slice_async(gpu, &[elements.len()], &elements).await
}

fn unsupported(node: &Node) -> Error {
    Error::unsupported(format!(
        "node '{}' ({}) has operands that do not run on a device yet",
        node.name,
        node.op.name()
    ))
    .with_help("products need a constant matrix and one vector a sample; elementwise operands one shape or a constant")
}
