//! The layers of a network: which of its nodes are products with constant weights, and how their tensors lie.

use crate::graph::{Graph, Node, Op, ValueId, Window};
use crate::pack::layer::Shape;
use crate::pack::quantise::Filters;

/// A product with constant weights.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The node.
    pub(super) at: usize,
    pub(super) shape: Shape,
    pub(super) weight: Weight,
    pub(super) input: Map,
    pub(super) output: Map,
}

/// A constant, and how it becomes `[filter, ky, kx, channel]`.
#[derive(Debug, Clone)]
pub(super) struct Weight {
    /// Which operand of the node it is.
    pub(super) operand: usize,
    pub(super) value: ValueId,
    pub(super) form: WeightForm,
}

/// What a constant's axes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WeightForm {
    /// `[filter, channel, ky, kx]`.
    Conv,
    /// `[channel, 1, ky, kx]`: one filter of all channels is stored.
    Depthwise,
    /// `[out, in]`.
    Rows,
    /// `[in, out]`.
    Columns,
}

impl WeightForm {
    /// Of a convolution's weights `[M, C / groups, ky, kx]`.
    pub(super) fn conv(dims: &[usize], groups: usize) -> Self {
        if groups > 1 && dims.get(1) == Some(&1) { Self::Depthwise } else { Self::Conv }
    }

    /// `[filter, ky, kx, channel]` of a constant of these dimensions, and for each value in that order its element in the constant.
    pub(super) fn order(self, dims: &[usize]) -> ([usize; 4], Vec<usize>) {
        let [first, second, ky, kx] = match *dims {
            [m, c, ky, kx] => [m, c, ky, kx],
            [m, n] => [m, n, 1, 1],
            [n] if self == Self::Columns => [n, 1, 1, 1],
            _ => [1, dims.iter().product(), 1, 1],
        };
        let taps = ky * kx;
        let at = |filter: usize, tap: usize, channel: usize| (filter * second + channel) * taps + tap;
        let mut order = Vec::with_capacity(first * second * taps);
        match self {
            Self::Conv | Self::Rows => {
                for filter in 0..first {
                    (0..taps).for_each(|tap| order.extend((0..second).map(|channel| at(filter, tap, channel))));
                }
                ([first, ky, kx, second], order)
            }
            Self::Depthwise => {
                (0..taps).for_each(|tap| order.extend((0..first).map(|channel| at(channel, tap, 0))));
                ([1, ky, kx, first], order)
            }
            Self::Columns => {
                (0..second).for_each(|out| order.extend((0..first).map(|channel| at(channel, 0, out))));
                ([second, 1, 1, first], order)
            }
        }
    }

    /// Which axis of what is stored has the output channels.
    pub(super) fn filters(self) -> Filters {
        if self == Self::Depthwise { Filters::Last } else { Filters::First }
    }
}

/// A value that a layer reads or writes, and how it becomes `[y, x, channel]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Map {
    pub(super) value: ValueId,
    pub(super) form: MapForm,
}

/// What a value's axes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MapForm {
    /// `[1, channel, y, x]`.
    Image([usize; 3]),
    /// Rows of channels: `[y, 1, channel]`.
    Rows([usize; 2]),
    /// Matrices whose columns are channels: `stack` times `[channel, y]`.
    Columns { stack: usize, channels: usize, rows: usize },
}

impl MapForm {
    /// `[y, x, channel]`.
    pub(super) fn shape(self) -> [usize; 3] {
        match self {
            Self::Image([channels, height, width]) => [height, width, channels],
            Self::Rows([rows, channels]) => [rows, 1, channels],
            Self::Columns { stack, channels, rows } => [stack * rows, 1, channels],
        }
    }

    /// The elements of a sample, channels innermost.
    pub(super) fn arrange(self, elements: &[f32]) -> Vec<f32> {
        let (stack, channels, places) = match self {
            Self::Rows(_) => return elements.to_vec(),
            Self::Image([channels, height, width]) => (1, channels, height * width),
            Self::Columns { stack, channels, rows } => (stack, channels, rows),
        };
        let mut arranged = Vec::with_capacity(elements.len());
        for part in elements.chunks((channels * places).max(1)).take(stack) {
            (0..places).for_each(|at| arranged.extend((0..channels).map(|channel| part[channel * places + at])));
        }
        arranged
    }
}

/// The layers of a network in the order of computing, and a note on each product that is none.
pub(super) fn of(graph: &Graph) -> (Vec<Found>, Vec<String>) {
    let mut found = Vec::new();
    let mut notes = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let layer = match &node.op {
            Op::Conv(window) => conv(graph, node, window),
            Op::Gemm { trans_a, trans_b, .. } => product(graph, node, [*trans_a, *trans_b]),
            Op::MatMul => product(graph, node, [false; 2]),
            Op::ConvTranspose { .. } => Err("a transposed convolution, which is no layer here"),
            _ => continue,
        };
        match layer {
            Ok((shape, weight, input, output)) => found.push(Found { at, shape, weight, input, output }),
            Err(why) => notes.push(format!("node '{}' ({}) is left out: {why}", node.name, node.op.name())),
        }
    }
    let readers = readers(graph);
    for layer in &mut found {
        layer.output.value = written(graph, &readers, layer.output.value);
    }
    (found, notes)
}

/// What a node is as a layer, or why it is none.
type Layer = Result<(Shape, Weight, Map, Map), &'static str>;

fn conv(graph: &Graph, node: &Node, window: &Window) -> Layer {
    let [x, w] = [node.inputs[0], node.inputs[1]];
    let (&[_, channels, height, width], &[filters, _, ky, kx]) = (&graph.value(x).shape[..], &graph.value(w).shape[..])
    else {
        return Err("it is no image");
    };
    let shape = Shape {
        input: [height, width, channels],
        filter: [ky, kx],
        filters,
        stride: window.strides,
        padding: [window.begin[0], window.begin[1], window.end[0], window.end[1]],
        dilation: window.dilations,
        groups: window.groups,
    };
    let [rows, columns, _] = shape.output();
    let form = WeightForm::conv(&graph.value(w).shape, window.groups);
    Ok((
        shape,
        Weight { operand: 1, value: w, form },
        Map { value: x, form: MapForm::Image([channels, height, width]) },
        Map { value: node.output, form: MapForm::Image([filters, rows, columns]) },
    ))
}

fn product(graph: &Graph, node: &Node, trans: [bool; 2]) -> Layer {
    let [a, b] = [node.inputs[0], node.inputs[1]];
    match [a, b].map(|id| graph.value(id).constant.is_some()) {
        [false, true] => rows_times(graph, node, [a, b], trans),
        [true, false] => times_columns(graph, node, [a, b], trans),
        [true, true] => Err("a product of constants"),
        [false, false] => Err("a product of two computed values, without weights"),
    }
}

/// Rows of the first operand, times a constant matrix.
fn rows_times(graph: &Graph, node: &Node, [a, b]: [ValueId; 2], [trans_a, trans_b]: [bool; 2]) -> Layer {
    let [n, k] = match (matrix(&graph.value(b).shape)?, trans_b) {
        ([n, k], true) => [n, k],
        ([k, n], false) => [n, k],
    };
    let shape = &graph.value(a).shape;
    let rows = shape.iter().product::<usize>() / k.max(1);
    let input = if trans_a { MapForm::Columns { stack: 1, channels: k, rows } } else { MapForm::Rows([rows, k]) };
    Ok((
        Shape::dense(rows, k, n),
        Weight { operand: 1, value: b, form: if trans_b { WeightForm::Rows } else { WeightForm::Columns } },
        Map { value: a, form: input },
        Map { value: node.output, form: MapForm::Rows([rows, n]) },
    ))
}

/// A constant matrix, times columns of the second operand.
fn times_columns(graph: &Graph, node: &Node, [a, b]: [ValueId; 2], [trans_a, trans_b]: [bool; 2]) -> Layer {
    let constant = &graph.value(a).shape;
    // A vector counts as one row.
    let [m, k] = match (constant.as_slice(), trans_a) {
        (&[k], _) => [1, k],
        (dims, true) => matrix(dims).map(|[k, m]| [m, k])?,
        (dims, false) => matrix(dims)?,
    };
    let shape = &graph.value(b).shape;
    let places = shape.iter().product::<usize>() / k.max(1);
    let rows = if trans_b || shape.len() < 2 { places } else { shape[shape.len() - 1] };
    let stack = places / rows.max(1);
    let input = if trans_b || shape.len() < 2 {
        MapForm::Rows([rows, k])
    } else {
        MapForm::Columns { stack, channels: k, rows }
    };
    Ok((
        Shape::dense(places, k, m),
        Weight { operand: 0, value: a, form: if trans_a { WeightForm::Columns } else { WeightForm::Rows } },
        Map { value: b, form: input },
        Map { value: node.output, form: MapForm::Columns { stack, channels: m, rows } },
    ))
}

/// The sizes of a constant matrix; a vector is one column.
fn matrix(dims: &[usize]) -> Result<[usize; 2], &'static str> {
    match *dims {
        [k] => Ok([k, 1]),
        [m, n] => Ok([m, n]),
        _ => Err("its constant is a stack of matrices"),
    }
}

/// The nodes that read each value.
fn readers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.values.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|id| readers[id.0].push(at));
    }
    readers
}

/// What an accelerator writes to memory of a layer's result: the value behind the activation function and the arithmetic with
/// constants that follow it and have no other reader.
fn written(graph: &Graph, readers: &[Vec<usize>], mut value: ValueId) -> ValueId {
    while let ([next], true) = (readers[value.0].as_slice(), value != graph.output) {
        let node = &graph.nodes[*next];
        let with_constant = || node.inputs.iter().filter(|&&id| graph.value(id).constant.is_none()).count() == 1;
        let pointwise = match node.op {
            Op::Relu | Op::Sigmoid | Op::Tanh | Op::LeakyRelu { .. } | Op::Gelu | Op::Dropout { .. } => true,
            Op::BatchNormalization { .. } => true,
            Op::Add | Op::Sub | Op::Mul | Op::Div => with_constant(),
            _ => false,
        };
        if !pointwise || graph.value(node.output).shape != graph.value(value).shape {
            break;
        }
        value = node.output;
    }
    value
}
