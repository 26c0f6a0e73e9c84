//! Networks put together layer by layer.

mod attention;
mod layers;
mod moves;

pub use attention::Attention;
pub use layers::{Conv1d, Conv2d, ConvTranspose2d};
pub use moves::Pool;

use super::init::Init;
use super::model::{Model, Parameter};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, Value, ValueId, shape};
use ndarray::{ArrayD, IxDyn};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a layer comes to: its output, or a sentence about what does not fit.
type Layer = Result<ValueId, String>;

/// Puts a network together, layer by layer.
///
/// ```
/// use wavehull::train::{Builder, Conv2d};
///
/// # fn main() -> wavehull::Result<()> {
/// let mut net = Builder::new("digits", &[1, 28, 28]);
/// let x = net.input();
/// let x = net.conv2d(x, Conv2d { channels: 8, kernel: [3, 3], padding: [1, 1], ..Conv2d::default() });
/// let x = net.relu(x);
/// let x = net.max_pool(x, 2);
/// let x = net.flatten(x);
/// let x = net.named("head").linear(x, 10);
/// let model = net.finish(x)?;
/// assert_eq!(model.parameter_count(), 80 + 15_690);
/// assert_eq!(model.name(&model.parameters[2]), "head.weight");
/// # Ok(())
/// # }
/// ```
///
/// All shapes and axes are those of **one sample**: an image is `[channels, height, width]`, a sequence `[length, width]`, a
/// vector `[features]`, and axis 0 of an image is its channels. The graph has ONNX's batch axis of 1 in front.
///
/// Layers are named as torch users expect, `conv1`, `conv2`, `fc1` and so on, their parameters `conv1.weight` and
/// `conv1.bias`; [`Builder::named`] and [`Builder::scope`] say otherwise. Parameters start as torch starts them;
/// [`Builder::starting`] says otherwise.
///
/// What does not fit is reported by [`Builder::finish`], with the first layer that it does not fit.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    parameters: Vec<Parameter>,
    /// The scopes that are open, each with a dot behind.
    scope: String,
    /// The name of the next layer.
    next_name: Option<String>,
    /// How the weights of the next layer start.
    next_init: Option<Init>,
    /// How many layers of a kind a scope has.
    counts: HashMap<String, usize>,
    taken: HashSet<String>,
    /// The first thing that did not fit.
    error: Option<Error>,
}

impl Builder {
    /// A network of this name with an input of this shape for one sample; sequences of whole numbers (words, tokens)
    /// are `[length]`.
    pub fn new(name: &str, input: &[usize]) -> Self {
        let input = Value { name: "input".to_owned(), shape: [&[1], input].concat(), constant: None };
        let why = match shape::elements(&input.shape) {
            Err(why) => Some(why),
            Ok(0) => Some(format!("shape {:?} is empty", &input.shape[1..])),
            Ok(_) => None,
        };
        let error = why.map(|why| {
            Error::bad_input(format!("the input of network '{name}': {why}"))
                .with_help("give the shape of one sample, without a batch axis")
        });
        Self {
            graph: Graph {
                name: name.to_owned(),
                values: vec![input],
                nodes: Vec::new(),
                input: ValueId(0),
                output: ValueId(0),
            },
            parameters: Vec::new(),
            scope: String::new(),
            next_name: None,
            next_init: None,
            counts: HashMap::new(),
            taken: HashSet::from(["input".to_owned()]),
            error,
        }
    }

    /// The network's input.
    pub fn input(&self) -> ValueId {
        self.graph.input
    }

    /// The shape of a value for one sample.
    pub fn shape(&self, x: ValueId) -> &[usize] {
        self.graph.values.get(x.0).and_then(|value| value.shape.get(1..)).unwrap_or_default()
    }

    /// Names the next layer: `net.named("head").linear(x, 10)`.
    pub fn named(&mut self, name: &str) -> &mut Self {
        self.next_name = Some(name.to_owned());
        self
    }

    /// Says how the weights of the next layer start (not its bias, and nothing of a normalisation).
    pub fn starting(&mut self, init: Init) -> &mut Self {
        self.next_init = Some(init);
        self
    }

    /// Puts `name.` in front of the names of some layers: `net.scope("layer1", |net| net.linear(x, 10))`.
    pub fn scope<T>(&mut self, name: &str, layers: impl FnOnce(&mut Self) -> T) -> T {
        let outside = self.scope.len();
        self.scope.push_str(name);
        self.scope.push('.');
        let result = layers(self);
        self.scope.truncate(outside);
        result
    }

    /// The network from its input to `output`.
    ///
    /// # Errors
    /// `BadInput`, naming the layer, for the first layer that did not fit; if there is nothing to train; or if a
    /// parameter has no way to the output.
    pub fn finish(mut self, output: ValueId) -> Result<Model> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.graph.output = output;
        self.graph.check()?;
        let mut needed = HashSet::from([output]);
        for node in self.graph.nodes.iter().rev() {
            if needed.contains(&node.output) {
                needed.extend(&node.inputs);
            }
        }
        let name = &self.graph.name;
        if let Some(unused) = self.parameters.iter().find(|parameter| !needed.contains(&parameter.value)) {
            let unused = &self.graph.value(unused.value).name;
            return Err(Error::bad_input(format!("network '{name}': its output does not depend on '{unused}'"))
                .with_help("leave out layers whose results are not used, or finish with the right value"));
        }
        if self.parameters.is_empty() {
            return Err(Error::bad_input(format!("network '{name}' has nothing to train"))
                .with_help("add a layer with weights, such as linear"));
        }
        Ok(Model { graph: self.graph, parameters: self.parameters })
    }

    /// Adds a layer. After something did not fit, nothing is added any more.
    fn layer(&mut self, kind: &str, build: impl FnOnce(&mut Self, &str) -> Layer) -> ValueId {
        let init = self.next_init;
        let name = self.name(kind);
        if self.error.is_some() {
            return self.graph.input;
        }
        let taken = !self.taken.insert(name.clone());
        let built = if taken { Err("another layer has this name".to_owned()) } else { build(self, &name) };
        let unused = init.is_some() && self.next_init.take().is_some();
        let built =
            if unused { built.and(Err("it has no weights that could start in a way".to_owned())) } else { built };
        built.unwrap_or_else(|why| {
            let error = Error::bad_input(format!("layer '{name}' of network '{}': {why}", self.graph.name));
            self.error = Some(error.with_help("check the layer's arguments and the shapes named above"));
            self.graph.input
        })
    }

    /// The name of the next layer, which is of this kind.
    fn name(&mut self, kind: &str) -> String {
        if let Some(name) = self.next_name.take() {
            return format!("{}{name}", self.scope);
        }
        let base = format!("{}{kind}", self.scope);
        let count = self.counts.entry(base.clone()).or_default();
        *count += 1;
        format!("{base}{count}")
    }

    /// The shape of a value with the batch axis of 1 in front.
    fn whole(&self, x: ValueId) -> Result<Vec<usize>, String> {
        let value = self.graph.values.get(x.0).ok_or("an operand of another network")?;
        Ok(value.shape.clone())
    }

    /// Adds a node; `declared` is the shape of its result where the operands do not decide it.
    fn node(&mut self, name: &str, op: Op, inputs: &[ValueId], declared: &[usize]) -> Layer {
        let shapes = inputs.iter().map(|&id| self.whole(id)).collect::<Result<Vec<_>, _>>()?;
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let shape = shape::infer(&op, &shapes, declared)?;
        let output = self.value(name, shape, None);
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Adds a Reshape, unless the value has this shape.
    fn reshaped(&mut self, name: &str, x: ValueId, shape: &[usize]) -> Layer {
        if self.whole(x)? == shape {
            return Ok(x);
        }
        self.node(name, Op::Reshape, &[x], shape)
    }

    fn value(&mut self, name: &str, shape: Vec<usize>, constant: Option<ArrayD<f32>>) -> ValueId {
        self.graph.values.push(Value { name: name.to_owned(), shape, constant: constant.map(Arc::new) });
        ValueId(self.graph.values.len() - 1)
    }

    /// Adds a constant with one number everywhere.
    fn constant(&mut self, name: &str, shape: &[usize], number: f32) -> Layer {
        if shape::elements(shape)? == 0 {
            return Err(format!("'{name}' would be empty (shape {shape:?})"));
        }
        Ok(self.value(name, shape.to_vec(), Some(ArrayD::from_elem(IxDyn(shape), number))))
    }

    /// Adds a parameter.
    fn parameter(&mut self, name: &str, shape: &[usize], init: Init) -> Layer {
        let number = if let Init::Constant(number) = init { number } else { 0.0 };
        let value = self.constant(name, shape, number)?;
        self.parameters.push(Parameter { value, init });
        Ok(value)
    }

    /// How the weights of this layer start.
    fn init(&mut self, default: Init) -> Init {
        self.next_init.take().unwrap_or(default)
    }
}

#[cfg(test)]
mod tests;
