//! From a graph to layers.
//!
//! Every value of the graph is tracked as a [`Term`], an affine map of layers that exist already; an activation closes
//! it as a layer. Two maps behind each other become one where that is free (a scaling and a dense layer, padding and a
//! convolution); otherwise the first is closed as a layer without an activation. So is a value that several nodes read,
//! unless computing it twice costs next to nothing.

use super::linear::Linear;
use super::store;
use super::term::{Link, Term};
use super::{Activation, Extent, Layer, Layers, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::bounded::Bounded;
use crate::graph::reference::{self, Tensor};
use crate::graph::shape::{broadcast_index, stride};
use crate::graph::{Graph, Node, Op, ValueId};
use std::borrow::Cow;

/// Largest number of terms of a sparse map.
const MAX_TERMS: usize = 1 << 26;

impl Layers {
    /// Brings a graph into this form.
    ///
    /// Elementwise arithmetic with constants and batch normalisation are folded into the dense layer or convolution
    /// before or after them, computed in `f64` with an error bound and rounded to `f32` once. Where that would
    /// underflow `f32`, the scaling becomes a layer of its own with a [`Map::Diagonal`](super::Map::Diagonal). Nodes
    /// that the output does not depend on leave no trace. A MaxPool becomes a tree of ReLUs, which computes the same
    /// maximum.
    ///
    /// # Errors
    /// `Unsupported`, naming the node, for a product or quotient of computed values, for an operator that is neither
    /// affine nor one of ReLU, Sigmoid, Tanh and MaxPool, or if a number leaves the range of `f32`; `TooBig` if a map
    /// would have more than 2^28 weights or, being sparse, more than 2^26 terms; `BadInput` if the graph is malformed.
    pub fn from_graph(graph: &Graph) -> Result<Self> {
        graph.check()?;
        let mut lowering = Lowering::new(graph)?;
        for node in &graph.nodes {
            if lowering.uses[node.output.0] > 0 && lowering.computed[node.output.0] {
                let term = lowering.node(node)?;
                lowering.store(node.output, term, &node.name)?;
            }
        }
        lowering.finish()
    }
}

/// The layers so far, and what is known of the graph's values.
pub(super) struct Lowering<'a> {
    pub(super) graph: &'a Graph,
    /// Values of nodes that do not depend on the input.
    constants: Vec<Option<Tensor<Bounded>>>,
    /// Whether a value depends on the input.
    pub(super) computed: Vec<bool>,
    /// How many operands of nodes that the output needs a value still has to serve; the output itself counts one.
    uses: Vec<usize>,
    terms: Vec<Option<Term>>,
    network: Layers,
    /// Whether a convolution needs the extent that the input, or a layer, has.
    input_fixed: bool,
    fixed: Vec<bool>,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph) -> Result<Self> {
        let mut computed = vec![false; graph.values.len()];
        computed[graph.input.0] = true;
        for node in &graph.nodes {
            computed[node.output.0] = node.inputs.iter().any(|id| computed[id.0]);
        }
        if !computed[graph.output.0] {
            return Err(Error::unsupported("the network's output does not depend on its input")
                .with_help("check that the right network was exported"));
        }
        let mut uses = vec![0; graph.values.len()];
        uses[graph.output.0] = 1;
        for node in graph.nodes.iter().rev().filter(|node| computed[node.output.0]) {
            if uses[node.output.0] > 0 {
                node.inputs.iter().for_each(|id| uses[id.0] += 1);
            }
        }
        let input = Extent::of(&graph.value(graph.input).shape);
        let mut terms = vec![None; graph.values.len()];
        terms[graph.input.0] = Some(Term::identity(Source::Input, input));
        let network = Layers { input, layers: Vec::new() };
        let constants = constants(graph)?;
        Ok(Self { graph, constants, computed, uses, terms, network, input_fixed: false, fixed: Vec::new() })
    }

    fn node(&mut self, node: &Node) -> Result<Term> {
        match &node.op {
            Op::Reshape | Op::Dropout { .. } => self.take(node.inputs[0]),
            Op::Relu => self.activation(node, Activation::Relu),
            Op::Sigmoid => self.activation(node, Activation::Sigmoid),
            Op::Tanh => self.activation(node, Activation::Tanh),
            Op::Add => self.sum(node, false),
            Op::Sub => self.sum(node, true),
            Op::Mul => self.product(node, Bounded::mul),
            Op::Div => self.product(node, Bounded::div),
            Op::MatMul => self.matmul(node),
            Op::Gemm { alpha, beta, trans_a, trans_b } => self.gemm(node, [*alpha, *beta], [*trans_a, *trans_b]),
            Op::Conv(window) => self.conv(node, window),
            Op::ConvTranspose { window, .. } => self.conv_transpose(node, window),
            Op::MaxPool { kernel, window } => self.max_pool(node, *kernel, window),
            Op::AveragePool { kernel, window, count_include_pad } => {
                self.average_pool(node, *kernel, window, *count_include_pad)
            }
            Op::BatchNormalization { epsilon } => self.normalised(node, *epsilon),
            Op::Pad { pads, value } => self.pad(node, pads, *value),
            Op::Transpose { perm } => self.transpose(node, perm),
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Select { indices } => self.select(node, indices),
            Op::Softmax { .. } => Err(softmax(node)),
            Op::LeakyRelu { .. } | Op::Gelu => Err(refused(node, "is an activation that has no bounds yet")),
            Op::CausalSoftmax | Op::LayerNormalization { .. } | Op::GroupNormalization { .. } => {
                Err(refused(node, "divides by computed values"))
            }
            Op::Embedding { .. } => Err(refused(node, "looks up rows of a table")),
        }
    }

    /// Keeps the value of a node until the nodes that read it.
    fn store(&mut self, id: ValueId, term: Term, node: &str) -> Result<()> {
        let shape = &self.graph.value(id).shape;
        let extent = Extent::of(shape);
        if extent.is_empty() || extent.len() != term.len() {
            let why = format!("node '{node}': {} values where the shape is {shape:?}", term.len());
            return Err(if extent.is_empty() { Error::unsupported(why) } else { Error::internal(why) });
        }
        let term = Term { extent, ..term };
        let shared = self.uses[id.0] > 1 && !term.is_light();
        self.terms[id.0] = Some(if shared { self.closed(term, node)? } else { term });
        Ok(())
    }

    /// A computed value, for one of the nodes that read it.
    pub(super) fn take(&mut self, id: ValueId) -> Result<Term> {
        let last = self.uses[id.0] <= 1;
        self.uses[id.0] = self.uses[id.0].saturating_sub(1);
        let slot = &mut self.terms[id.0];
        let term = if last { slot.take() } else { slot.clone() };
        term.ok_or_else(|| Error::internal(format!("tensor '{}' is not known", self.graph.value(id).name)))
    }

    /// The numbers of a constant.
    pub(super) fn constant(&self, id: ValueId) -> Result<Cow<'_, Tensor<Bounded>>> {
        reference::operand(self.graph.value(id), &self.constants[id.0])
    }

    /// A constant broadcast to a shape, row-major.
    pub(super) fn broadcast(&self, id: ValueId, shape: &[usize]) -> Result<Vec<Bounded>> {
        Ok(self.constant(id)?.broadcast_to(shape))
    }

    /// A computed value broadcast to a shape.
    pub(super) fn widened(&mut self, id: ValueId, shape: &[usize], node: &str) -> Result<Term> {
        let term = self.take(id)?;
        let from = &self.graph.value(id).shape;
        if from.iter().product::<usize>() == shape.iter().product::<usize>() {
            return Ok(term);
        }
        let index = broadcast_index(from, shape);
        self.gathered(term, index.into_iter().map(Some), node)
    }

    fn sum(&mut self, node: &Node, minus: bool) -> Result<Term> {
        let shape = &self.graph.value(node.output).shape;
        let [left, right] = [node.inputs[0], node.inputs[1]];
        match [left, right].map(|id| self.computed[id.0]) {
            [true, true] => {
                let a = self.widened(left, shape, &node.name)?;
                let b = self.widened(right, shape, &node.name)?;
                let b = if minus { self.negated(b, &node.name)? } else { b };
                self.added(a, b, &node.name)
            }
            [true, false] => {
                let mut a = self.widened(left, shape, &node.name)?;
                let mut by = self.broadcast(right, shape)?;
                if minus {
                    by.iter_mut().for_each(|b| *b = b.neg());
                }
                a.shift(&by);
                Ok(a)
            }
            [false, _] => {
                let b = self.widened(right, shape, &node.name)?;
                let mut b = if minus { self.negated(b, &node.name)? } else { b };
                b.shift(&self.broadcast(left, shape)?);
                Ok(b)
            }
        }
    }

    fn product(&mut self, node: &Node, op: fn(Bounded, Bounded) -> Bounded) -> Result<Term> {
        let [left, right] = [node.inputs[0], node.inputs[1]];
        let (value, factor) = match [left, right].map(|id| self.computed[id.0]) {
            [true, false] => (left, right),
            [false, true] if node.op == Op::Mul => (right, left),
            [true, true] if node.op == Op::Mul => return Err(refused(node, "multiplies two computed values")),
            _ => return Err(refused(node, "divides by a computed value")),
        };
        let shape = &self.graph.value(node.output).shape;
        let by = self.broadcast(factor, shape)?;
        let term = self.widened(value, shape, &node.name)?;
        self.scaled(term, &by, op, &node.name)
    }

    /// `x f + (bias - mean f)`, `f = scale / sqrt(variance + epsilon)`, one of each a channel.
    fn normalised(&mut self, node: &Node, epsilon: f32) -> Result<Term> {
        if node.inputs[1..].iter().any(|id| self.computed[id.0]) {
            return Err(refused(node, "has computed parameters"));
        }
        let shape = &self.graph.value(node.output).shape;
        let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| self.constant(node.inputs[i]));
        let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
        let epsilon = Bounded::exact(f64::from(epsilon));
        let (mut factors, mut shifts) = (Vec::new(), Vec::new());
        let plane = stride(shape, 1);
        for c in 0..shape[1] {
            let factor = scale.data[c].div(variance.data[c].add(epsilon).sqrt());
            let shift = bias.data[c].sub(mean.data[c].mul(factor));
            if !factor.is_finite() || !shift.is_finite() {
                return Err(refused(node, &format!("divides by the root of a variance that may be 0 in channel {c}")));
            }
            factors.extend(std::iter::repeat_n(factor, plane));
            shifts.extend(std::iter::repeat_n(shift, plane));
        }
        let term = self.take(node.inputs[0])?;
        let mut term = self.scaled(term, &factors, Bounded::mul, &node.name)?;
        term.shift(&shifts);
        Ok(term)
    }

    fn negated(&mut self, term: Term, node: &str) -> Result<Term> {
        let by = vec![Bounded::ONE.neg(); term.len()];
        self.scaled(term, &by, Bounded::mul, node)
    }

    /// A value multiplied or divided by constants; behind a layer of its own if its maps cannot take that in.
    pub(super) fn scaled(
        &mut self,
        term: Term,
        by: &[Bounded],
        op: fn(Bounded, Bounded) -> Bounded,
        node: &str,
    ) -> Result<Term> {
        if let Some(scaled) = term.scaled(by, op) {
            return Ok(scaled);
        }
        let scaled = self.closed(term, node)?.scaled(by, op);
        scaled.ok_or_else(|| Error::internal(format!("node '{node}' does not fold")))
    }

    /// The sum of two values of the same size.
    pub(super) fn added(&mut self, a: Term, b: Term, node: &str) -> Result<Term> {
        let clash = a.convolved().zip(b.convolved()).is_some_and(|(a, b)| a != b);
        let b = if clash { self.closed(b, node)? } else { b };
        Ok(a.plus(b))
    }

    /// A linear map of a value.
    pub(super) fn followed(&mut self, term: Term, next: &Linear, node: &str) -> Result<Term> {
        if let Some(done) = self.composed(&term, next) {
            return Ok(done);
        }
        let closed = self.closed(term, node)?;
        if let Some(done) = self.composed(&closed, next) {
            return Ok(done);
        }
        // Only a convolution can refuse a bare layer: one that has another shape and has to keep it.
        let copy = self.push(closed, Activation::None, node)?;
        self.composed(&copy, next).ok_or_else(|| Error::internal(format!("node '{node}' does not fold")))
    }

    /// A map of a value as one of the layers that it is made of; `None` if that would not be free.
    fn composed(&mut self, term: &Term, next: &Linear) -> Option<Term> {
        if term.links.len() > 1 && !next.is_light() {
            return None;
        }
        let then = |link: &Link| {
            let map = link.map.then(next, self.network.extent(link.source))?;
            Some(Link { source: link.source, map })
        };
        let links = term.links.iter().map(then).collect::<Option<Vec<_>>>()?;
        for link in &links {
            if let Linear::Conv(_, geometry) = &link.map
                && !self.claim(link.source, geometry.input)
            {
                return None;
            }
        }
        let bias = next.apply(&term.bias);
        Some(Term { links, extent: Extent::flat(bias.len()), bias })
    }

    /// Gives a source the extent that a convolution reads it in; false if it has another one and has to keep it.
    fn claim(&mut self, source: Source, wanted: Extent) -> bool {
        let (extent, fixed) = match source {
            Source::Input => (&mut self.network.input, &mut self.input_fixed),
            Source::Layer(index) => (&mut self.network.layers[index].extent, &mut self.fixed[index]),
        };
        if *extent != wanted && (*fixed || extent.len() != wanted.len()) {
            return false;
        }
        (*extent, *fixed) = (wanted, true);
        true
    }

    fn activation(&mut self, node: &Node, activation: Activation) -> Result<Term> {
        let term = self.take(node.inputs[0])?;
        if let (Some(Source::Layer(index)), Activation::Relu) = (term.unchanged(), activation)
            && matches!(self.network.layers[index].activation, Activation::Relu | Activation::Sigmoid)
        {
            // Never negative: the ReLU does nothing.
            return Ok(term);
        }
        self.push(term, activation, &node.name)
    }

    /// A value as a layer without an activation, or as the source that it is.
    pub(super) fn closed(&mut self, term: Term, node: &str) -> Result<Term> {
        match term.unchanged() {
            Some(_) => Ok(term),
            None => self.push(term, Activation::None, node),
        }
    }

    /// Closes a value as a layer.
    pub(super) fn push(&mut self, term: Term, activation: Activation, node: &str) -> Result<Term> {
        let convolved = term.convolved();
        let len = term.len();
        let finish = |link: Link| link.map.finish(link.source, len, node);
        let edges = term.links.into_iter().map(finish).collect::<Result<Vec<_>>>()?;
        let (bias, bias_abs) = store::biases(&term.bias, node)?;
        let extent = convolved.unwrap_or(term.extent);
        self.fixed.push(convolved.is_some());
        self.network.layers.push(Layer { name: node.to_owned(), extent, edges, bias, bias_abs, activation });
        Ok(Term::identity(Source::Layer(self.network.layers.len() - 1), term.extent))
    }

    fn finish(mut self) -> Result<Layers> {
        let output = self.graph.output;
        let term = self.take(output)?;
        let last = self.network.layers.len().checked_sub(1).map(Source::Layer);
        if last.is_none() || term.unchanged() != last {
            let ends_with = self.graph.nodes.iter().find(|node| node.output == output);
            let name = ends_with.map_or("the network's output", |node| &node.name);
            self.push(term, Activation::None, name)?;
        }
        Ok(self.network)
    }
}

/// The values of all nodes that do not depend on the input, with their error bounds.
fn constants(graph: &Graph) -> Result<Vec<Option<Tensor<Bounded>>>> {
    let mut known: Vec<Option<Tensor<Bounded>>> = vec![None; graph.values.len()];
    for node in &graph.nodes {
        let is_known = |id: &ValueId| known[id.0].is_some() || graph.value(*id).constant.is_some();
        if !node.inputs.iter().all(is_known) {
            continue;
        }
        let operand = |&id: &ValueId| reference::operand(graph.value(id), &known[id.0]);
        let operands = node.inputs.iter().map(operand).collect::<Result<Vec<_>>>()?;
        let result = reference::apply(node, &operands, &graph.value(node.output).shape)?;
        known[node.output.0] = Some(result);
    }
    Ok(known)
}

/// The error for a node that has no form as layers.
pub(super) fn refused(node: &Node, why: &str) -> Error {
    Error::unsupported(format!("node '{}' ({}) {why}", node.name, node.op.name())).with_help(
        "networks of affine operators, MaxPool, ReLU, Sigmoid and Tanh can be verified; replace the node, or cut the \
         network in front of it",
    )
}

fn softmax(node: &Node) -> Error {
    Error::unsupported(format!("node '{}' (Softmax) divides by computed values", node.name)).with_help(
        "export the network without its last Softmax: larger scores are larger probabilities, so properties that \
         compare outputs stay the same",
    )
}

/// Checks the size of a sparse map before it is made; `count` is the product of these numbers.
pub(super) fn check_terms(node: &Node, count: &[usize]) -> Result<()> {
    let product = count.iter().try_fold(1usize, |product, &factor| product.checked_mul(factor));
    if product.is_some_and(|product| product <= MAX_TERMS) {
        return Ok(());
    }
    Err(too_big(node, &format!("a sparse map of more than {MAX_TERMS} terms")))
}

/// The error for a node whose map would not fit.
pub(super) fn too_big(node: &Node, what: &str) -> Error {
    let message = format!("node '{}' ({}) would need {what}", node.name, node.op.name());
    Error::new(ErrorKind::TooBig, message).with_help("use a smaller network, or a smaller input resolution")
}
