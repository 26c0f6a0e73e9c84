//! Networks as data: operators, shapes and constants, with no device and no file format in them.
//!
//! A [`Graph`] describes what happens to **one sample**: the leading batch dimension that most files declare is
//! 1 here, and every evaluator adds its own batch axis in front. Nodes stand in an order in which each one's
//! inputs come before it.

mod bounded;
mod device;
mod gradient;
mod layers;
#[cfg(feature = "onnx")]
pub mod onnx;
mod reference;
pub(crate) mod shape;
#[cfg(test)]
mod testing;

pub use device::Executor;
pub use gradient::{Program, Task};
pub use layers::{Activation, Convolution, Edge, Extent, Layer, Layers, Map, Source, Sparse};

use ndarray::ArrayD;
use std::sync::Arc;

/// Index of a [`Value`] in its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// A tensor of the network: an input, a constant or the output of a node.
#[derive(Debug, Clone)]
pub struct Value {
    /// The name in the source file.
    pub name: String,
    /// The shape for one sample (batch dimension 1 where the file declares one).
    pub shape: Vec<usize>,
    /// The data, where the value is known before the network runs.
    pub constant: Option<Arc<ArrayD<f32>>>,
}

/// An operator. Semantics are ONNX's; what ONNX has as several nodes (`CausalSoftmax`, `Embedding`) says so.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `alpha * op(A) op(B) + beta * C`; C is optional.
    Gemm {
        /// Factor of the product.
        alpha: f32,
        /// Factor of the third operand.
        beta: f32,
        /// Transpose the first operand.
        trans_a: bool,
        /// Transpose the second operand.
        trans_b: bool,
    },
    /// Matrix product with NumPy broadcasting.
    MatMul,
    /// Elementwise sum with broadcasting.
    Add,
    /// Elementwise difference with broadcasting.
    Sub,
    /// Elementwise product with broadcasting.
    Mul,
    /// Elementwise quotient with broadcasting.
    Div,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x` where it is not negative, `alpha x` elsewhere.
    LeakyRelu {
        /// The slope on the left.
        alpha: f32,
    },
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`: ONNX's `Gelu` with `approximate = "tanh"`.
    Gelu,
    /// `exp(x - max) / sum exp(x - max)` along one axis.
    Softmax {
        /// The axis, counted from the front.
        axis: usize,
    },
    /// Softmax of the rows of square matrices `[.., L, L]`, in which row r sees its columns 0 to r alone and the others
    /// get 0. ONNX writes it as a sum with a constant triangle of -1e9, and a Softmax.
    CausalSoftmax,
    /// Convolution of `[1, C, H, W]` with a constant weight `[M, C / groups, kH, kW]` and an optional constant bias `[M]`.
    Conv(Window),
    /// Transposed convolution of `[1, C, H, W]` with a constant weight `[C, M / groups, kH, kW]` and an optional constant
    /// bias `[M]`: `output[m, y s + i d - p, ...] += input[c, y, ...] weight[c, m, i, ...]`, s strides, d dilations, p `begin`.
    ConvTranspose {
        /// The window, of the convolution that this is the transpose of.
        window: Window,
        /// Rows and columns added at the bottom and on the right of the result.
        output_padding: [usize; 2],
    },
    /// Maximum over windows of `[1, C, H, W]`; padding counts as minus infinity, and each window has an element inside.
    MaxPool {
        /// Height and width of the window.
        kernel: [usize; 2],
        /// Where windows lie (`groups` is 1).
        window: Window,
    },
    /// Mean over windows of `[1, C, H, W]`, each of which has an element inside; padding counts as 0.
    AveragePool {
        /// Height and width of the window.
        kernel: [usize; 2],
        /// Where windows lie (`groups` is 1).
        window: Window,
        /// Divide by the size of the window even where it reaches into the padding, instead of by the elements inside.
        count_include_pad: bool,
    },
    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias` for each channel (axis 1) of `[1, C, ...]`; operands x, scale,
    /// bias, mean, variance, the last four constants `[C]`.
    BatchNormalization {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias`, mean and variance over the axes from `axis` on of x itself;
    /// operands x, scale, bias, the last two of the shape of those axes.
    LayerNormalization {
        /// The first axis that is averaged over, counted from the front.
        axis: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias`, mean and variance over each of `groups` equal parts of
    /// the channels (axis 1) of `[1, C, ...]`; operands x, scale, bias, the last two `[C]`, as ONNX has it from
    /// operator set 21 on.
    GroupNormalization {
        /// Number of parts.
        groups: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Rows of a table: the operands are whole numbers of any shape, which are computed, and a table `[V, E]`; each
    /// number is replaced by that row. ONNX has it as a Cast to integers and a Gather.
    Embedding {
        /// A row that training leaves as it is, 0 at the start. It changes no value, and files do not keep it.
        padding: Option<usize>,
    },
    /// Nothing, when a network is evaluated. In training, every element is 0 with probability `rate`, and what stays is
    /// divided by `1 - rate`.
    Dropout {
        /// The share of elements that training leaves out.
        rate: f32,
    },
    /// Constant zeros or another number round the input.
    Pad {
        /// Elements added before and after, one pair an axis.
        pads: Vec<[usize; 2]>,
        /// What they are.
        value: f32,
    },
    /// Axes in another order: axis i of the output is axis `perm[i]` of the input.
    Transpose {
        /// The order.
        perm: Vec<usize>,
    },
    /// Operands behind each other along an axis.
    Concat {
        /// The axis, counted from the front.
        axis: usize,
    },
    /// Elements of the input in a fixed order, `output[i] = input[indices[i]]` in row-major order: Slice, Gather, Split.
    /// The shape is the output's.
    Select {
        /// One index an element of the output.
        indices: Arc<Vec<usize>>,
    },
    /// The same elements in another shape: Flatten, Reshape, Squeeze, Unsqueeze, Identity. The shape is the output's.
    Reshape,
}

/// Where the windows of a convolution or a pool lie: tap i of window y reads row `y strides + i dilations - begin` of the
/// input, and what lies outside it is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns from one window to the next.
    pub strides: [usize; 2],
    /// Zeros above the first row and left of the first column.
    pub begin: [usize; 2],
    /// Zeros below the last row and right of the last column.
    pub end: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilations: [usize; 2],
    /// Groups that channels are divided into.
    pub groups: usize,
}

impl Op {
    /// The operator's ONNX name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gemm { .. } => "Gemm",
            Self::MatMul => "MatMul",
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Relu => "Relu",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Gelu => "Gelu",
            Self::Softmax { .. } => "Softmax",
            Self::CausalSoftmax => "CausalSoftmax",
            Self::Conv(_) => "Conv",
            Self::ConvTranspose { .. } => "ConvTranspose",
            Self::MaxPool { .. } => "MaxPool",
            Self::AveragePool { .. } => "AveragePool",
            Self::BatchNormalization { .. } => "BatchNormalization",
            Self::LayerNormalization { .. } => "LayerNormalization",
            Self::GroupNormalization { .. } => "GroupNormalization",
            Self::Embedding { .. } => "Embedding",
            Self::Dropout { .. } => "Dropout",
            Self::Pad { .. } => "Pad",
            Self::Transpose { .. } => "Transpose",
            Self::Concat { .. } => "Concat",
            Self::Select { .. } => "Select",
            Self::Reshape => "Reshape",
        }
    }
}

/// One application of an operator.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name in the source file, or a made-up one such as `Gemm_3`.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Its operands.
    pub inputs: Vec<ValueId>,
    /// Its result.
    pub output: ValueId,
}

/// A network.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The name in the source file.
    pub name: String,
    /// All tensors.
    pub values: Vec<Value>,
    /// All operators, in execution order.
    pub nodes: Vec<Node>,
    /// The one input.
    pub input: ValueId,
    /// The one output.
    pub output: ValueId,
}

impl Graph {
    /// A value by its id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// Number of elements of the input for one sample.
    pub fn input_len(&self) -> usize {
        self.value(self.input).shape.iter().product()
    }

    /// Number of elements of the output for one sample.
    pub fn output_len(&self) -> usize {
        self.value(self.output).shape.iter().product()
    }
}
