//! What a configuration comes to: networks, options of arrays, members.

use super::group::Course;
use crate::error::{Error, Result};
use crate::fnv::fnv1a;
use crate::graph::onnx;
use crate::train::config::{self, Config, Loaded, ModelConfig};
use crate::train::data::{Inputs, Targets};
use crate::train::hyper::Hyper;
use crate::train::search::Assignment;
use crate::train::{ArrayOptions, Augment, Builder, Certify, Loss, Member, Model, Optimiser, Schedule, models};

/// The network of a configuration, for samples of this shape.
pub(super) fn model(config: &ModelConfig, hyper: &Hyper, shape: &[usize], outputs: usize) -> Result<Model> {
    let wrong = |what: &str| {
        Error::bad_input(format!("samples of shape {shape:?} in [data], but this model takes {what}"))
            .with_help("choose another kind of model, or reshape the samples")
    };
    match config {
        ModelConfig::Mlp { activation } => {
            let mut net = Builder::new("mlp", shape);
            let mut x = net.input();
            if shape.len() > 1 {
                x = net.flatten(x);
            }
            for width in hyper.widths("hidden") {
                x = net.linear(x, width);
                x = match activation {
                    config::Activation::Relu => net.relu(x),
                    config::Activation::Tanh => net.tanh(x),
                    config::Activation::Sigmoid => net.sigmoid(x),
                    config::Activation::Gelu => net.gelu(x),
                };
                let rate = hyper.number("dropout");
                if rate > 0.0 {
                    x = net.dropout(x, rate as f32);
                }
            }
            let y = net.linear(x, outputs);
            net.finish(y)
        }
        ModelConfig::Lenet if shape == [1, 28, 28] => models::lenet(outputs),
        ModelConfig::Lenet => Err(wrong("images of one channel and 28 x 28 pixels")),
        ModelConfig::Resnet18 if shape == [3, 32, 32] => models::resnet18(outputs, hyper.count("width")),
        ModelConfig::Resnet18 => Err(wrong("images of three channels and 32 x 32 pixels")),
        ModelConfig::Pointnet => match *shape {
            [3, points] => models::pointnet(points, outputs, false),
            _ => Err(wrong("clouds [3, points]")),
        },
        ModelConfig::Transformer => {
            let [context, width] = ["context", "width"].map(|name| hyper.count(name));
            models::transformer(outputs, context, width, hyper.count("heads"), hyper.count("layers"))
        }
        ModelConfig::Onnx { file } => Model::from_graph(onnx::read(file)?.0).map_err(|e| e.in_file(file)),
    }
}

/// What an array of this group has in common.
pub(super) fn options(
    config: &Config,
    hyper: &Hyper,
    course: &Course,
    values: bool,
    members: usize,
) -> Result<ArrayOptions> {
    let loss = match (config.train.loss, values) {
        (Some(config::Loss::Mse), _) | (None, true) => Loss::MeanSquare,
        (Some(config::Loss::Bce), _) => Loss::BinaryLogits,
        (Some(config::Loss::Certified), _) => Loss::Certified,
        _ => Loss::CrossEntropy { smoothing: hyper.number("label_smoothing") as f32 },
    };
    let asked = config.train.slots.unwrap_or(if config.search.is_some() { members.min(16) } else { members });
    let shift = config.data.augment.shift.max(config.data.augment.crop);
    let augment = Augment { shift, flip: config.data.augment.flip, noise: hyper.number("noise") as f32 };
    // With momentum if any member has some: zeros serve the others.
    let momentum =
        config.members.iter().map(|m| &m.hyper).chain([hyper]).map(|h| h.number("momentum")).fold(0.0, f64::max);
    let searched = config.search.is_some();
    let optimiser = optimiser(config, &hyper.clone().with("momentum", if searched { 0.9 } else { momentum })?);
    Ok(ArrayOptions {
        slots: asked.min(members).max(1),
        batch: course.batch,
        loss,
        optimiser,
        clip: searched || config.members.iter().any(|m| m.hyper.number("clip") > 0.0),
        augment,
        ..ArrayOptions::default()
    })
}

fn optimiser(config: &Config, hyper: &Hyper) -> Optimiser {
    let [momentum, beta1, beta2, eps] = ["momentum", "beta1", "beta2", "epsilon"].map(|name| hyper.number(name));
    let weight_decay = hyper.number("weight_decay");
    match config.train.optimiser {
        config::Optimiser::Sgd => {
            let nesterov = config.train.nesterov && momentum > 0.0;
            Optimiser::Sgd { momentum, dampening: 0.0, nesterov, weight_decay }
        }
        config::Optimiser::AdamW => Optimiser::AdamW { beta1, beta2, eps, weight_decay },
        config::Optimiser::RmsProp => Optimiser::RmsProp { alpha: hyper.number("decay"), eps, momentum, weight_decay },
        _ => Optimiser::Adam { beta1, beta2, eps, weight_decay },
    }
}

/// A member of a group.
pub(super) fn member(config: &Config, assignment: &Assignment, course: &Course) -> Result<Member> {
    let (hyper, total) = (&assignment.hyper, course.total);
    let warm = (hyper.number("warmup") * total as f64).round() as u64;
    let rest = total.saturating_sub(warm).max(1);
    let schedule = match config.train.schedule {
        config::Schedule::Step { every } => {
            Schedule::Step { every: every * course.unit, factor: hyper.number("gamma") }
        }
        config::Schedule::Cosine => Schedule::Cosine { steps: rest, least: 0.0 },
        config::Schedule::OneCycle => Schedule::OneCycle { steps: rest },
        _ => Schedule::Constant,
    };
    let schedule = if warm > 0 { Schedule::WarmUp { steps: warm, then: Box::new(schedule) } } else { schedule };
    let clip = Some(hyper.number("clip")).filter(|&clip| clip > 0.0);
    let member = Member {
        seed: assignment.seed,
        optimiser: optimiser(config, hyper),
        learning_rate: hyper.number("learning_rate"),
        schedule,
        clip,
        certify: (config.train.loss == Some(config::Loss::Certified)).then(|| certify(hyper, total)),
        steps: None,
    };
    member.check()?;
    Ok(member)
}

/// How a member that trains for `total` steps grows its boxes.
fn certify(hyper: &Hyper, total: u64) -> Certify {
    let steps = |name: &str| (hyper.number(name) * total as f64).round() as u64;
    Certify {
        radius: hyper.number("radius"),
        start: steps("radius_start"),
        ramp: steps("radius_ramp"),
        kappa: hyper.number("kappa"),
        judged: Some(hyper.number("certify_at")).filter(|&radius| radius > 0.0),
    }
}

/// Tells trainings apart whose members cannot be exchanged. How long they are is not part of it: a longer one goes on from a shorter one.
pub(super) fn fingerprint(config: &Config, model: &Model, data: u64) -> String {
    let train = &config.train;
    let nodes: Vec<String> =
        model.graph.nodes.iter().map(|n| format!("{}{:?}", n.op.name(), model.graph.value(n.output).shape)).collect();
    format!(
        "{} {} parameters {:016x} {} {:016x}",
        model.graph.name,
        model.parameter_count(),
        fnv1a(&nodes.concat()),
        train.optimiser.name(),
        fnv1a(&format!("{:?} {:?} {} {data}", train.loss, train.schedule, train.nesterov))
    )
}

/// Tells data apart, and what is made of them: by their shapes and some of their numbers.
pub(super) fn digest(config: &Config, loaded: &Loaded) -> u64 {
    const LOOKED_AT: usize = 1 << 16;
    fn some<T: std::fmt::Debug>(list: impl ExactSizeIterator<Item = T>) -> String {
        let step = (list.len() / LOOKED_AT).max(1);
        format!("{:?}", list.step_by(step).collect::<Vec<T>>())
    }
    let set = &loaded.train;
    let inputs = match &set.inputs {
        Inputs::F32(a) => some(a.iter().map(|x| x.to_bits())),
        Inputs::U8(a) => some(a.iter()),
        Inputs::Tokens(a) => some(a.iter()),
    };
    let targets = match &set.targets {
        Targets::Classes { labels, .. } => some(labels.iter()),
        Targets::Values(a) => some(a.iter().map(|x| x.to_bits())),
        Targets::Tokens { tokens, .. } => some(tokens.iter()),
    };
    let settings = (config.data.normalise, &config.data.augment, set.sample_shape(), set.len());
    fnv1a(&format!("{settings:?} {inputs} {targets}"))
}
