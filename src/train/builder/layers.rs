//! Layers with weights, normalisations and activations.

use super::{Builder, Layer};
use crate::graph::{Op, ValueId, Window};
use crate::train::init::Init;

/// What normalisations add to a variance, as in torch.
const EPSILON: f32 = 1e-5;

/// A convolution of images; the defaults are those of torch, with a 3 x 3 kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Output channels.
    pub channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Zeros on each side: above and below, left and right.
    pub padding: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
    /// Groups that channels are divided into.
    pub groups: usize,
    /// Whether a bias is added; a batch normalisation behind makes it useless.
    pub bias: bool,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self { channels: 1, kernel: [3; 2], stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1, bias: true }
    }
}

/// A convolution of sequences `[channels, length]`; the defaults are those of torch, with a kernel of 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1d {
    /// Output channels.
    pub channels: usize,
    /// Length of the kernel.
    pub kernel: usize,
    /// Elements from one window to the next.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Distance of neighbouring taps.
    pub dilation: usize,
    /// Groups that channels are divided into.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Default for Conv1d {
    fn default() -> Self {
        Self { channels: 1, kernel: 3, stride: 1, padding: 0, dilation: 1, groups: 1, bias: true }
    }
}

/// A transposed convolution of images; the defaults are those of torch, with a 4 x 4 kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTranspose2d {
    /// Output channels.
    pub channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Rows and columns of the result from one window to the next.
    pub stride: [usize; 2],
    /// Rows and columns cut off on each side.
    pub padding: [usize; 2],
    /// Rows and columns added at the bottom and on the right.
    pub output_padding: [usize; 2],
    /// Whether a bias is added.
    pub bias: bool,
}

impl Default for ConvTranspose2d {
    fn default() -> Self {
        Self { channels: 1, kernel: [4; 2], stride: [1; 2], padding: [0; 2], output_padding: [0; 2], bias: true }
    }
}

/// Uniform in `-1 / sqrt(fan_in)..1 / sqrt(fan_in)`: what torch gives weights and biases.
pub(super) fn torch_uniform(fan_in: usize) -> Init {
    Init::Uniform { gain: 1.0 / 3f32.sqrt(), fan_in }
}

/// A product of sizes that may be absurd.
fn product(sizes: &[usize]) -> Result<usize, String> {
    let product = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    product.ok_or_else(|| format!("sizes {sizes:?} are too large"))
}

impl Builder {
    /// `x W' + b` for every row of `[.., features]`: weight `[outputs, features]`, as in torch.
    pub fn linear(&mut self, x: ValueId, outputs: usize) -> ValueId {
        self.layer("fc", |net, name| net.dense(name, x, outputs, true))
    }

    /// [`linear`](Self::linear) without a bias.
    pub fn linear_without_bias(&mut self, x: ValueId, outputs: usize) -> ValueId {
        self.layer("fc", |net, name| net.dense(name, x, outputs, false))
    }

    fn dense(&mut self, name: &str, x: ValueId, outputs: usize, bias: bool) -> Layer {
        let features = self.whole(x)?.last().copied().unwrap_or(1);
        let init = torch_uniform(features);
        let weight = self.init(init);
        self.projection(name, x, outputs, [Some(weight), bias.then_some(init)])
    }

    /// A dense layer whose weight and bias start like this.
    pub(super) fn projection(&mut self, name: &str, x: ValueId, outputs: usize, init: [Option<Init>; 2]) -> Layer {
        let shape = self.whole(x)?;
        let (Some((&features, rows)), true) = (shape.split_last(), shape.len() > 1) else {
            return Err("a number where [.., features] is expected".to_owned());
        };
        let [weight, bias] = init;
        let matrix = [rows.iter().product(), features];
        let flat = self.reshaped(&format!("{name}.rows"), x, &matrix)?;
        let weight = weight.unwrap_or_else(|| torch_uniform(features));
        let mut operands = vec![flat, self.parameter(&format!("{name}.weight"), &[outputs, features], weight)?];
        if let Some(bias) = bias {
            operands.push(self.parameter(&format!("{name}.bias"), &[outputs], bias)?);
        }
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        if shape.len() == 2 {
            return self.node(name, gemm, &operands, &[]);
        }
        let product = self.node(&format!("{name}.product"), gemm, &operands, &[])?;
        self.reshaped(name, product, &[rows, &[outputs]].concat())
    }

    /// A convolution of `[channels, height, width]`.
    pub fn conv2d(&mut self, x: ValueId, conv: Conv2d) -> ValueId {
        self.layer("conv", |net, name| net.convolution(name, x, conv))
    }

    /// A convolution of `[channels, length]`: one of images of height 1.
    pub fn conv1d(&mut self, x: ValueId, conv: Conv1d) -> ValueId {
        self.layer("conv", |net, name| {
            let shape = net.whole(x)?;
            let [1, channels, length] = shape[..] else {
                return Err(format!("an operand of shape {:?} where [channels, length] is expected", net.shape(x)));
            };
            let rows = net.reshaped(&format!("{name}.rows"), x, &[1, channels, 1, length])?;
            let image = Conv2d {
                channels: conv.channels,
                kernel: [1, conv.kernel],
                stride: [1, conv.stride],
                padding: [0, conv.padding],
                dilation: [1, conv.dilation],
                groups: conv.groups,
                bias: conv.bias,
            };
            let y = net.convolution(name, rows, image)?;
            let shape = net.whole(y)?;
            net.reshaped(&format!("{name}.columns"), y, &[1, shape[1], shape[3]])
        })
    }

    fn convolution(&mut self, name: &str, x: ValueId, conv: Conv2d) -> Layer {
        let inputs = self.image(x)?[1];
        let [height, width] = conv.kernel;
        let per_group = inputs / conv.groups.max(1);
        let fan = torch_uniform(product(&[per_group, height, width])?);
        let weight = self.init(fan);
        let shape = [conv.channels, per_group, height, width];
        let mut operands = vec![x, self.parameter(&format!("{name}.weight"), &shape, weight)?];
        if conv.bias {
            operands.push(self.parameter(&format!("{name}.bias"), &[conv.channels], fan)?);
        }
        let window = Window {
            strides: conv.stride,
            begin: conv.padding,
            end: conv.padding,
            dilations: conv.dilation,
            groups: conv.groups,
        };
        self.node(name, Op::Conv(window), &operands, &[])
    }

    /// A transposed convolution of `[channels, height, width]`; weight `[channels, outputs, height, width]`, as in
    /// torch, and torch's fan: outputs times the kernel.
    pub fn conv_transpose2d(&mut self, x: ValueId, conv: ConvTranspose2d) -> ValueId {
        self.layer("deconv", |net, name| {
            let inputs = net.image(x)?[1];
            let [height, width] = conv.kernel;
            let fan = torch_uniform(product(&[conv.channels, height, width])?);
            let weight = net.init(fan);
            let shape = [inputs, conv.channels, height, width];
            let mut operands = vec![x, net.parameter(&format!("{name}.weight"), &shape, weight)?];
            if conv.bias {
                operands.push(net.parameter(&format!("{name}.bias"), &[conv.channels], fan)?);
            }
            let window =
                Window { strides: conv.stride, begin: conv.padding, end: conv.padding, dilations: [1; 2], groups: 1 };
            let op = Op::ConvTranspose { window, output_padding: conv.output_padding };
            net.node(name, op, &operands, &[])
        })
    }

    /// The last axis of a value with the batch axis in front.
    fn last_axis(&self, x: ValueId) -> Result<usize, String> {
        Ok(self.whole(x)?.len().checked_sub(1).ok_or("a number has no axes")?)
    }

    /// The shape `[1, channels, height, width]` of an image.
    pub(super) fn image(&self, x: ValueId) -> Result<[usize; 4], String> {
        let shape = self.whole(x)?;
        <[usize; 4]>::try_from(&shape[..])
            .map_err(|_| format!("an operand of shape {:?} where [channels, height, width] is expected", self.shape(x)))
    }

    /// Batch normalisation of channels: `[channels]`, `[channels, length]` or `[channels, height, width]`. Mean and
    /// variance of a network at inference are constants of the graph (0 and 1 here), not parameters.
    pub fn batch_norm(&mut self, x: ValueId) -> ValueId {
        self.layer("bn", |net, name| {
            let channels = net.whole(x)?.get(1).copied().ok_or("a number has no channels")?;
            let [scale, shift] = net.scale_and_shift(name, &[channels])?;
            let mean = net.constant(&format!("{name}.running_mean"), &[channels], 0.0)?;
            let variance = net.constant(&format!("{name}.running_var"), &[channels], 1.0)?;
            let op = Op::BatchNormalization { epsilon: EPSILON };
            net.node(name, op, &[x, scale, shift, mean, variance], &[])
        })
    }

    /// Layer normalisation over the last axis.
    pub fn layer_norm(&mut self, x: ValueId) -> ValueId {
        self.layer("ln", |net, name| {
            let (shape, axis) = (net.whole(x)?, net.last_axis(x)?);
            let [scale, shift] = net.scale_and_shift(name, &shape[axis..])?;
            net.node(name, Op::LayerNormalization { axis, epsilon: EPSILON }, &[x, scale, shift], &[])
        })
    }

    /// Group normalisation: each of `groups` equal parts of the channels (axis 0) by its own mean and variance.
    pub fn group_norm(&mut self, x: ValueId, groups: usize) -> ValueId {
        self.layer("gn", |net, name| {
            let channels = net.whole(x)?.get(1).copied().ok_or("a number has no channels")?;
            let [scale, shift] = net.scale_and_shift(name, &[channels])?;
            net.node(name, Op::GroupNormalization { groups, epsilon: EPSILON }, &[x, scale, shift], &[])
        })
    }

    fn scale_and_shift(&mut self, name: &str, shape: &[usize]) -> Result<[ValueId; 2], String> {
        let scale = self.parameter(&format!("{name}.weight"), shape, Init::Constant(1.0))?;
        Ok([scale, self.parameter(&format!("{name}.bias"), shape, Init::Constant(0.0))?])
    }

    /// Leaves out elements at random in training: each becomes 0 with probability `rate`, the others are divided by `1
    /// - rate`.
    pub fn dropout(&mut self, x: ValueId, rate: f32) -> ValueId {
        self.layer("dropout", |net, name| net.node(name, Op::Dropout { rate }, &[x], &[]))
    }

    /// Rows of a table `[rows, width]` for whole numbers: `[length]` becomes `[length, width]`.
    pub fn embedding(&mut self, x: ValueId, rows: usize, width: usize) -> ValueId {
        self.layer("embedding", |net, name| net.table(name, x, [rows, width], None))
    }

    /// [`embedding`](Self::embedding) with a row that starts as 0 and stays so, for the filling of short sequences.
    pub fn embedding_with_padding(&mut self, x: ValueId, rows: usize, width: usize, padding: usize) -> ValueId {
        self.layer("embedding", |net, name| net.table(name, x, [rows, width], Some(padding)))
    }

    fn table(&mut self, name: &str, x: ValueId, shape: [usize; 2], padding: Option<usize>) -> Layer {
        let init = self.init(Init::Normal { gain: 1.0, fan_in: 1 });
        let table = self.parameter(&format!("{name}.weight"), &shape, init)?;
        self.node(name, Op::Embedding { padding }, &[x, table], &[])
    }

    /// Adds a trained table of the shape of x: learned positions of a sequence `[length, width]`.
    pub fn positions(&mut self, x: ValueId) -> ValueId {
        self.layer("positions", |net, name| {
            let init = net.init(Init::Normal { gain: 1.0, fan_in: 1 });
            let shape = net.shape(x).to_vec();
            let table = net.parameter(&format!("{name}.weight"), &shape, init)?;
            net.node(name, Op::Add, &[x, table], &[])
        })
    }

    /// `max(x, 0)`.
    pub fn relu(&mut self, x: ValueId) -> ValueId {
        self.layer("relu", |net, name| net.node(name, Op::Relu, &[x], &[]))
    }

    /// `x` where it is not negative, `alpha x` elsewhere.
    pub fn leaky_relu(&mut self, x: ValueId, alpha: f32) -> ValueId {
        self.layer("leaky_relu", |net, name| net.node(name, Op::LeakyRelu { alpha }, &[x], &[]))
    }

    /// The logistic function.
    pub fn sigmoid(&mut self, x: ValueId) -> ValueId {
        self.layer("sigmoid", |net, name| net.node(name, Op::Sigmoid, &[x], &[]))
    }

    /// Hyperbolic tangent.
    pub fn tanh(&mut self, x: ValueId) -> ValueId {
        self.layer("tanh", |net, name| net.node(name, Op::Tanh, &[x], &[]))
    }

    /// Gelu in its tanh form, as GPT-2 has it.
    pub fn gelu(&mut self, x: ValueId) -> ValueId {
        self.layer("gelu", |net, name| net.node(name, Op::Gelu, &[x], &[]))
    }

    /// Softmax over the last axis. A cross-entropy loss takes the scores in front of it.
    pub fn softmax(&mut self, x: ValueId) -> ValueId {
        self.layer("softmax", |net, name| {
            let axis = net.last_axis(x)?;
            net.node(name, Op::Softmax { axis }, &[x], &[])
        })
    }
}
