//! Networks to have: the models that array training is measured with.
//!
//! Names of parameters are those of the torch models that each is compared with; see `scripts/make_train_fixtures.py`.

use super::builder::{Attention, Builder, Conv1d, Conv2d, ConvTranspose2d};
use super::init::Init;
use super::model::Model;
use crate::error::{Error, Result};
use crate::graph::ValueId;
use ndarray::{ArrayD, IxDyn};
use std::sync::Arc;

/// Dense layers with ReLUs between them; `widths` are the number of inputs, of each layer's outputs in turn, the last
/// one's without a ReLU.
///
/// # Errors
/// `BadInput` for fewer than two widths, or one that is 0.
pub fn mlp(widths: &[usize]) -> Result<Model> {
    let [inputs, hidden @ .., outputs] = widths else {
        return Err(Error::bad_input(format!("widths {widths:?} of an mlp"))
            .with_help("give the number of inputs and of outputs, and hidden widths between them"));
    };
    let mut net = Builder::new("mlp", &[*inputs]);
    let mut x = net.input();
    for &width in hidden {
        x = net.linear(x, width);
        x = net.relu(x);
    }
    let x = net.linear(x, *outputs);
    net.finish(x)
}

/// LeNet-5 (LeCun et al., Proc. IEEE 1998) with ReLUs and max-pools, for images of 1 x 28 x 28.
///
/// # Errors
/// `BadInput` for no classes.
pub fn lenet(classes: usize) -> Result<Model> {
    let mut net = Builder::new("lenet", &[1, 28, 28]);
    let mut x = net.input();
    for (channels, padding) in [(6, 2), (16, 0)] {
        x = net.conv2d(x, Conv2d { channels, kernel: [5; 2], padding: [padding; 2], ..Conv2d::default() });
        x = net.relu(x);
        x = net.max_pool(x, 2);
    }
    x = net.flatten(x);
    for width in [120, 84] {
        x = net.linear(x, width);
        x = net.relu(x);
    }
    let x = net.linear(x, classes);
    net.finish(x)
}

/// ResNet-18 (He et al., CVPR 2016) for images of 3 x 32 x 32: a 3 x 3 stem without a pool, and stages of `width`, 2, 4
/// and 8 times
/// `width` channels; 64 is the width of the paper.
///
/// # Errors
/// `BadInput` for no classes or a width of 0.
pub fn resnet18(classes: usize, width: usize) -> Result<Model> {
    let mut net = Builder::new("resnet18", &[3, 32, 32]);
    let x = net.input();
    let x = conv_norm(&mut net, x, [width, 3, 1]);
    let mut x = net.relu(x);
    for stage in 0..4 {
        x = net.scope(&format!("layer{}", stage + 1), |net| {
            let channels = width.saturating_mul(1 << stage);
            let x = net.scope("0", |net| residual(net, x, channels, if stage == 0 { 1 } else { 2 }));
            net.scope("1", |net| residual(net, x, channels, 1))
        });
    }
    let x = net.global_average_pool(x);
    let x = net.named("fc").linear(x, classes);
    net.finish(x)
}

/// A convolution without a bias, padded to keep the size, and a batch normalisation: `[channels, kernel, stride]`.
fn conv_norm(net: &mut Builder, x: ValueId, [channels, kernel, stride]: [usize; 3]) -> ValueId {
    let conv = Conv2d {
        channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [kernel / 2; 2],
        bias: false,
        ..Conv2d::default()
    };
    let x = net.conv2d(x, conv);
    net.batch_norm(x)
}

/// Two convolutions beside the identity, or beside a 1 x 1 convolution where the shape changes.
fn residual(net: &mut Builder, x: ValueId, channels: usize, stride: usize) -> ValueId {
    let same = stride == 1 && net.shape(x).first() == Some(&channels);
    let y = conv_norm(net, x, [channels, 3, stride]);
    let y = net.relu(y);
    let y = conv_norm(net, y, [channels, 3, 1]);
    let beside = if same {
        x
    } else {
        let conv = Conv2d { channels, kernel: [1; 2], stride: [stride; 2], bias: false, ..Conv2d::default() };
        let beside = net.named("downsample.0").conv2d(x, conv);
        net.named("downsample.1").batch_norm(beside)
    };
    let sum = net.add(y, beside);
    net.relu(sum)
}

/// PointNet for classification (Qi et al., CVPR 2017) of clouds `[3, points]`; with `transforms`, the networks that
/// turn the input and the features are part of it. They start as the identity.
///
/// # Errors
/// `BadInput` for no points or classes.
pub fn pointnet(points: usize, classes: usize, transforms: bool) -> Result<Model> {
    let mut net = Builder::new("pointnet", &[3, points]);
    let x = net.input();
    let x = net.scope("feat", |net| {
        let x = if transforms { net.scope("stn", |net| transform(net, x)) } else { x };
        let mut x = point_layer(net, x, 64, true);
        if transforms {
            x = net.scope("fstn", |net| transform(net, x));
        }
        let x = point_layer(net, x, 128, true);
        let x = point_layer(net, x, 1024, false);
        net.global_max_pool(x)
    });
    let x = net.linear(x, 512);
    let x = net.batch_norm(x);
    let x = net.relu(x);
    let x = net.linear(x, 256);
    let x = net.dropout(x, 0.3);
    let x = net.batch_norm(x);
    let x = net.relu(x);
    let x = net.linear(x, classes);
    let mut model = net.finish(x)?;
    if transforms {
        start_as_identity(&mut model, "feat.stn.fc3.bias", 3);
        start_as_identity(&mut model, "feat.fstn.fc3.bias", 64);
    }
    Ok(model)
}

/// A dense layer that all points share.
fn point_layer(net: &mut Builder, x: ValueId, channels: usize, relu: bool) -> ValueId {
    let x = net.conv1d(x, Conv1d { channels, kernel: 1, ..Conv1d::default() });
    let x = net.batch_norm(x);
    if relu { net.relu(x) } else { x }
}

/// Turns points `[k, points]` by a matrix `[k, k]` that a small PointNet finds. That the matrix starts as the identity
/// is in the bias of its last layer.
fn transform(net: &mut Builder, x: ValueId) -> ValueId {
    let k = net.shape(x).first().copied().unwrap_or_default();
    let mut y = x;
    for channels in [64, 128, 1024] {
        y = point_layer(net, y, channels, true);
    }
    let mut y = net.global_max_pool(y);
    for width in [512, 256] {
        y = net.linear(y, width);
        y = net.batch_norm(y);
        y = net.relu(y);
    }
    let y = net.starting(Init::Constant(0.0)).linear(y, k * k);
    let matrix = net.reshape(y, &[k, k]);
    let turned = net.transpose(matrix, &[1, 0]);
    net.matmul(turned, x)
}

fn start_as_identity(model: &mut Model, bias: &str, k: usize) {
    let graph = &mut model.graph;
    for parameter in &mut model.parameters {
        let value = &mut graph.values[parameter.value.0];
        if value.name == bias {
            let identity = ArrayD::from_shape_fn(IxDyn(&[k * k]), |at| if at[0] / k == at[0] % k { 1.0 } else { 0.0 });
            value.constant = Some(Arc::new(identity));
            parameter.init = Init::Given;
        }
    }
}

/// A language model in the form of GPT-2 (Radford et al., 2019): `context` tokens of `vocab` become as many rows of
/// `vocab` scores, each of which knows its own token and what comes before it. `layers` blocks of causal attention with
/// `heads` heads and of two dense layers with Gelu, normalised in front; learned positions; the last layer has weights
/// of its own and no bias. Weights start as GPT-2's: normal with 0.02.
///
/// # Errors
/// `BadInput` for a width that does not divide into heads, or a size of 0.
pub fn transformer(vocab: usize, context: usize, width: usize, heads: usize, layers: usize) -> Result<Model> {
    let small = Init::Normal { gain: 0.02, fan_in: 1 };
    let mut net = Builder::new("transformer", &[context]);
    let x = net.input();
    let x = net.named("wte").starting(small).embedding(x, vocab, width);
    let mut x = net.named("wpe").starting(small).positions(x);
    for block in 0..layers {
        x = net.scope(&format!("h.{block}"), |net| {
            let y = net.layer_norm(x);
            let attention = Attention { heads, causal: true, dropout: 0.0 };
            let y = net.named("attn").starting(small).multi_head_attention(y, attention);
            let x = net.add(x, y);
            let y = net.layer_norm(x);
            let y = net.named("mlp.fc").starting(small).linear(y, width.saturating_mul(4));
            let y = net.gelu(y);
            let y = net.named("mlp.proj").starting(small).linear(y, width);
            net.add(x, y)
        });
    }
    let x = net.named("ln_f").layer_norm(x);
    let x = net.named("lm_head").starting(small).linear_without_bias(x, vocab);
    net.finish(x)
}

/// The generator of DCGAN (Radford et al., ICLR 2016): `noise` numbers become an image of `colours` x 64 x 64 in -1..1;
/// its widest layer has 8 times `width` channels, 64 is the width of torch's example. Weights start normal with 0.02.
///
/// # Errors
/// `BadInput` for a size of 0.
pub fn dcgan_generator(noise: usize, colours: usize, width: usize) -> Result<Model> {
    let small = Init::Normal { gain: 0.02, fan_in: 1 };
    let mut net = Builder::new("dcgan_generator", &[noise, 1, 1]);
    let mut x = net.input();
    let deconv = ConvTranspose2d { stride: [2; 2], padding: [1; 2], bias: false, ..ConvTranspose2d::default() };
    for times in [8, 4, 2, 1] {
        let first = times == 8;
        let channels = width.saturating_mul(times);
        let [stride, padding] = if first { [[1; 2], [0; 2]] } else { [deconv.stride, deconv.padding] };
        x = net.starting(small).conv_transpose2d(x, ConvTranspose2d { channels, stride, padding, ..deconv });
        x = net.batch_norm(x);
        x = net.relu(x);
    }
    let x = net.starting(small).conv_transpose2d(x, ConvTranspose2d { channels: colours, ..deconv });
    let x = net.tanh(x);
    net.finish(x)
}

/// The discriminator of DCGAN: an image of `colours` x 64 x 64 becomes one score; a loss with logits has the sigmoid in it.
///
/// # Errors
/// `BadInput` for a size of 0.
pub fn dcgan_discriminator(colours: usize, width: usize) -> Result<Model> {
    let small = Init::Normal { gain: 0.02, fan_in: 1 };
    let mut net = Builder::new("dcgan_discriminator", &[colours, 64, 64]);
    let mut x = net.input();
    let conv = Conv2d { kernel: [4; 2], stride: [2; 2], padding: [1; 2], bias: false, ..Conv2d::default() };
    for times in [1, 2, 4, 8] {
        x = net.starting(small).conv2d(x, Conv2d { channels: width.saturating_mul(times), ..conv });
        if times > 1 {
            x = net.batch_norm(x);
        }
        x = net.leaky_relu(x, 0.2);
    }
    let x = net.starting(small).conv2d(x, Conv2d { channels: 1, stride: [1; 2], padding: [0; 2], ..conv });
    let x = net.flatten(x);
    net.finish(x)
}
