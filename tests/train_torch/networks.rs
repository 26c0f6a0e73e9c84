//! Networks with their data: what the script has by the same names.

use std::sync::Arc;

use ndarray::{Array2, ArrayD, IxDyn};
use wavehull::Gpu;
use wavehull::graph::Op;
use wavehull::ops::random::{Stream, purpose};
use wavehull::train::{
    Attention, Builder, Conv1d, Conv2d, ConvTranspose2d, DeviceSet, Init, Labels, Loss, Model, Pool, models,
};

use crate::STEPS;
use crate::torch::{self, numbers, whole};

/// Of the order of samples.
pub const SEED: u64 = 77;

/// The script's `images`: two thirds the pattern of a class and one third noise.
fn images(len: usize, classes: usize, samples: usize) -> (Vec<f32>, Labels) {
    let labels: Vec<u32> = whole("labels", samples).into_iter().map(|w| w % classes as u32).collect();
    let patterns: Vec<Vec<f64>> = (0..classes).map(|class| numbers(&format!("pattern{class}"), len)).collect();
    let noise = numbers("noise", samples * len);
    let pixel = |(i, noise): (usize, &f64)| (2.0 * patterns[labels[i / len] as usize][i % len] + noise) as f32;
    (noise.iter().enumerate().map(pixel).collect(), Labels::Classes { labels, classes })
}

/// The script's `values`: mirrored sums of inputs, or whether they are positive.
fn values(len: usize, outputs: usize, samples: usize, probabilities: bool) -> (Vec<f32>, Labels) {
    let x = numbers("noise", samples * len);
    let target = |(i, o): (usize, usize)| {
        let y = x[i * len + o] - x[i * len + len - 1 - o];
        if probabilities { f32::from(y > 0.0) } else { y as f32 }
    };
    (x.iter().map(|&v| v as f32).collect(), Labels::Values(Array2::from_shape_fn((samples, outputs), target)))
}

/// The script's `tokens`: each follows from the last one, but for every eighth.
fn tokens(vocab: u32, context: usize, samples: usize) -> (Vec<f32>, Labels) {
    let drawn = whole("tokens", samples * (context + 1));
    let mut text: Vec<u32> = drawn.iter().map(|w| w / 8 % vocab).collect();
    for i in (0..text.len()).filter(|i| i % (context + 1) != 0 && !drawn[*i].is_multiple_of(8)) {
        text[i] = (5 * text[i - 1] + 3) % vocab;
    }
    let text = Array2::from_shape_vec((samples, context + 1), text).unwrap();
    let inputs = text.rows().into_iter().flat_map(|row| row.to_vec().into_iter().take(context)).map(|t| t as f32);
    let labels = text.slice(ndarray::s![.., 1..]).to_owned();
    (inputs.collect(), Labels::Tokens { labels, classes: vocab as usize })
}

/// What is trained and on what.
pub struct Case {
    pub name: &'static str,
    pub model: Model,
    data: (Vec<f32>, Labels),
    pub batch: usize,
    pub loss: Loss,
}

impl Case {
    /// Weights of convolutions of images are the script's times `factor`.
    fn new(name: &'static str, mut model: Model, data: (Vec<f32>, Labels), batch: usize, factor: f32) -> Self {
        torch::fill(&mut model.graph);
        for value in model.graph.values.iter_mut().filter(|value| value.shape.len() == 4) {
            if let Some(constant) = &mut value.constant {
                Arc::make_mut(constant).iter_mut().for_each(|v| *v *= factor);
            }
        }
        model.parameters.iter_mut().for_each(|parameter| parameter.init = Init::Given);
        for node in &mut model.graph.nodes {
            if let Op::Dropout { rate } = &mut node.op {
                *rate = 0.0;
            }
        }
        Self { name, model, data, batch, loss: Loss::default() }
    }

    fn with(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    fn samples(&self) -> usize {
        STEPS * self.batch
    }

    /// The samples, in places from which the array's order takes them one after the other; or as they are.
    pub fn set(&self, gpu: &Gpu, shuffled: bool) -> DeviceSet {
        let samples = self.samples();
        let mut place = Stream::new(SEED).permutation(samples, 0, purpose::SHUFFLE);
        if !shuffled {
            place = (0..samples as u32).collect();
        }
        let mut of = vec![0; samples];
        place.iter().enumerate().for_each(|(sample, &place)| of[place as usize] = sample);
        let len = self.data.0.len() / samples;
        let inputs: Vec<f32> =
            of.iter().flat_map(|&sample| self.data.0[sample * len..][..len].iter().copied()).collect();
        let labels = match &self.data.1 {
            Labels::Classes { labels, classes } => {
                Labels::Classes { labels: of.iter().map(|&sample| labels[sample]).collect(), classes: *classes }
            }
            Labels::Tokens { labels, classes } => {
                Labels::Tokens { labels: labels.select(ndarray::Axis(0), &of), classes: *classes }
            }
            Labels::Values(values) => Labels::Values(values.select(ndarray::Axis(0), &of)),
        };
        let shape = [&[samples], &self.model.graph.value(self.model.graph.input).shape[1..]].concat();
        DeviceSet::new(gpu, &ArrayD::from_shape_vec(IxDyn(&shape), inputs).unwrap(), labels).unwrap()
    }
}

pub fn mlps() -> Vec<Case> {
    let samples = STEPS * 16;
    let dense = |outputs| models::mlp(&[12, 24, 16, outputs]).unwrap();
    let classes = |name| Case::new(name, dense(5), images(12, 5, samples), 16, 1.0);
    let logits = |name, p| Case::new(name, dense(4), values(12, 4, samples, p), 16, 1.0);
    vec![
        classes("mlp"),
        classes("mlp_smoothing").with(Loss::CrossEntropy { smoothing: 0.1 }),
        logits("mlp_square", false).with(Loss::MeanSquare),
        logits("mlp_logits", true).with(Loss::BinaryLogits),
    ]
}

pub fn lenet() -> Case {
    Case::new("lenet", models::lenet(10).unwrap(), images(784, 10, STEPS * 8), 8, 1.0)
}

/// Twenty steps; and three larger ones, which take tensors far and through which roundings have not spread yet.
pub fn resnets() -> [Case; 2] {
    ["resnet18", "resnet18_start"]
        .map(|name| Case::new(name, models::resnet18(10, 8).unwrap(), images(3072, 10, STEPS * 8), 8, 4.0))
}

pub fn pointnet() -> Case {
    Case::new("pointnet", models::pointnet(8, 5, false).unwrap(), images(24, 5, STEPS * 16), 16, 1.0)
}

/// Six steps against scores 0 and 1.
pub fn discriminator() -> Case {
    let (x, labels) = images(8192, 2, STEPS * 8);
    let Labels::Classes { labels, .. } = labels else { unreachable!("classes") };
    let scores = Array2::from_shape_fn((labels.len(), 1), |(i, _)| labels[i] as f32);
    let model = models::dcgan_discriminator(2, 2).unwrap();
    Case::new("dcgan_discriminator", model, (x, Labels::Values(scores)), 8, 1.0).with(Loss::BinaryLogits)
}

pub fn transformer() -> Case {
    Case::new("transformer", models::transformer(29, 12, 16, 2, 2).unwrap(), tokens(29, 12, STEPS * 8), 8, 1.0)
}

/// The script's `image_layers`.
pub fn image_layers() -> Case {
    let mut net = Builder::new("image_layers", &[3, 12, 10]);
    let x = net.input();
    let base = Conv2d { channels: 8, ..Conv2d::default() };
    let x = net.conv2d(x, Conv2d { kernel: [3, 2], padding: [1; 2], ..base });
    let x = net.group_norm(x, 4);
    let x = net.leaky_relu(x, 0.2);
    let y = net.conv2d(x, Conv2d { padding: [1; 2], groups: 8, ..base });
    let y = net.conv2d(y, Conv2d { padding: [2; 2], dilation: [2; 2], groups: 2, ..base });
    let x = net.concat(&[x, y], 0);
    let overlapping = Pool { kernel: [3; 2], stride: [2; 2], padding: [1; 2] };
    let x = net.max_pool_with(x, overlapping);
    let x = net.conv_transpose2d(
        x,
        ConvTranspose2d { channels: 6, stride: [2; 2], padding: [1; 2], ..ConvTranspose2d::default() },
    );
    let x = net.batch_norm(x);
    let x = net.tanh(x);
    let x = net.average_pool_with(x, overlapping);
    let x = net.adaptive_average_pool(x, [3, 2]);
    let x = net.flatten(x);
    let x = net.linear(x, 24);
    let x = net.sigmoid(x);
    let x = net.linear(x, 5);
    Case::new("image_layers", net.finish(x).unwrap(), images(360, 5, STEPS * 8), 8, 1.0)
}

/// The script's `sequence_layers`.
pub fn sequence_layers() -> Case {
    let mut net = Builder::new("sequence_layers", &[10]);
    let x = net.input();
    let x = net.embedding_with_padding(x, 11, 8, 3);
    let x = net.positions(x);
    let y = net.layer_norm(x);
    let y = net.multi_head_attention(y, Attention { heads: 2, ..Attention::default() });
    let x = net.add(x, y);
    let x = net.transpose(x, &[1, 0]);
    let x = net.conv1d(x, Conv1d { channels: 6, padding: 1, ..Conv1d::default() });
    let x = net.batch_norm(x);
    let x = net.positions(x);
    let x = net.gelu(x);
    let pools = [net.global_max_pool(x), net.global_average_pool(x)];
    let x = net.concat(&pools, 0);
    let x = net.linear(x, 12);
    let x = net.scale(x, 3.0);
    let x = net.softmax(x);
    let x = net.linear(x, 5);
    let data = (tokens(11, 10, STEPS * 8).0, images(1, 5, STEPS * 8).1);
    Case::new("sequence_layers", net.finish(x).unwrap(), data, 8, 1.0)
}
