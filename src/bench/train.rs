//! Training arrays: samples a second over all members, with the members' number beside it.

use ndarray::{Array2, ArrayD, IxDyn};
use web_time::Instant;

use super::measure::{Profiled, Timing};
use super::oracle::{Random, wrong};
use super::{Context, Done, Measured, SEED, Spec};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::graph::{Node, Op};
use crate::train::{ArrayOptions, DeviceSet, Labels, Member, Model, Optimiser, Snapshot, TrainingArray, models};

const GROUP: &str = "train";
/// Samples of a batch.
const BATCH: usize = 64;
/// Samples of the set.
const SAMPLES: usize = 1024;
/// Steps of a run, at least.
const STEPS: u64 = 16;
/// Seconds of a block of steps that are over so soon that several are run.
const SHORT: f64 = 0.3;
/// Steps after which a member is compared with itself alone.
const CHECKED: u64 = 3;

/// What is trained.
#[derive(Debug, Clone, Copy)]
enum Trained {
    /// A multilayer perceptron.
    Mlp(&'static [usize]),
    LeNet,
    ResNet18,
    PointNet,
    /// A language model of 64 tokens, two blocks of width 128.
    Transformer,
}

/// Tokens that the language model knows.
const VOCABULARY: usize = 96;

impl Trained {
    fn model(self) -> Result<Model> {
        match self {
            Self::Mlp(widths) => models::mlp(widths),
            Self::LeNet => models::lenet(10),
            Self::ResNet18 => models::resnet18(10, 64),
            Self::PointNet => models::pointnet(1024, 10, true),
            Self::Transformer => models::transformer(VOCABULARY, 64, 128, 4, 2),
        }
    }
}

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let quick = context.quick();
    let gpu = !context.gpu.caps().is_software();
    let mut cases = vec![
        ("mlp_16_32_32_10", Trained::Mlp(&[16, 32, 32, 10]), vec![1, 16, 64]),
        ("mlp_784_256_128_10", Trained::Mlp(&[784, 256, 128, 10]), if gpu { vec![1, 16, 64] } else { vec![1, 16] }),
        ("lenet", Trained::LeNet, if gpu { vec![1, 4, 16, 64] } else { vec![1, 16] }),
    ];
    if gpu {
        // A step of these takes a processor seconds.
        cases.extend([
            ("resnet18", Trained::ResNet18, vec![1, 4, 16]),
            ("pointnet", Trained::PointNet, vec![1, 4, 16]),
            ("transformer", Trained::Transformer, vec![1, 4, 16, 64]),
        ]);
    }
    if quick {
        cases.truncate(1);
        cases[0].2 = vec![2];
    }
    let spec = |(name, net, slots): (&'static str, Trained, usize)| {
        Spec::new(GROUP, format!("train_{name}_b{slots}"), None, move |context| measure(context, net, slots))
    };
    cases.into_iter().flat_map(|(name, net, slots)| slots.into_iter().map(move |b| spec((name, net, b)))).collect()
}

/// Trains `slots` members with different rates; the unit is a sample of one member.
fn measure(context: &Context<'_>, net: Trained, slots: usize) -> Result<Done> {
    let gpu = context.gpu;
    let model = net.model()?;
    let mut array = start(gpu, net, &model, slots)?;
    let control = &context.meter.control;
    array.run(CHECKED, control, &mut |_| {})?;
    let last = slots - 1;
    same(&array.snapshot(last)?, &alone(gpu, net, &model, last, control)?)?;
    let quick = context.quick();
    let (mut steps, start) = (if quick { 2 } else { STEPS }, Instant::now());
    array.run(steps, control, &mut |_| {})?;
    if !quick && start.elapsed().as_secs_f64() < SHORT {
        // Several blocks, which overlap as they do in a training.
        steps *= 8;
    }
    let (timing, kernels) = context.meter.time_profiled(gpu, 0.0, |profile| {
        let start = Instant::now();
        let mut dispatches = Vec::new();
        if profile {
            dispatches = array.profile(steps, control)?;
        } else {
            array.run(steps, control, &mut |_| {})?;
        }
        Ok(Profiled { seconds: start.elapsed().as_secs_f64(), dispatches })
    })?;
    // Host work between submissions is part of a step: the wall's clock counts.
    let timing = Timing { seconds: timing.wall, device_clock: false, first: None, ..timing }.per(steps as f64);
    let memory = array.memory();
    let rate = products(&model) * (slots * BATCH) as f64 / timing.seconds;
    let note = format!(
        "{slots} members of {} parameters, batch {BATCH}, Adam; {} KiB a member; {:.1} GFLOP/s in products",
        model.parameter_count(),
        (memory.tables + memory.pass) >> 10,
        rate * 1e-9
    );
    let mut measured = Measured::new((slots * BATCH) as f64, "samples", timing).note(note);
    measured.kernels = kernels;
    measured.kernels.iter_mut().for_each(|kernel| kernel.seconds /= steps as f64);
    measured.done()
}

/// Floating-point operations that a sample takes in products with weights: forward, for the weights' gradients, and, behind the first of
/// them, for the inputs' gradients.
fn products(model: &Model) -> f64 {
    let graph = &model.graph;
    let terms = |node: &Node| {
        let weight = &graph.value(*node.inputs.get(1)?).shape;
        let inner: usize = match node.op {
            Op::Gemm { trans_b, .. } => weight[usize::from(trans_b)],
            Op::MatMul => weight[weight.len() - 2],
            Op::Conv(_) => weight[1..].iter().product(),
            _ => return None,
        };
        Some((graph.value(node.output).shape.iter().product::<usize>() * inner) as f64)
    };
    let all: Vec<f64> = graph.nodes.iter().filter_map(terms).collect();
    2.0 * (3.0 * all.iter().sum::<f64>() - all.first().unwrap_or(&0.0))
}

/// Learning rates of `slots` members, from 1e-4 to 1e-2.
fn member(slot: usize) -> Member {
    let learning_rate = 1e-4 * 100.0_f64.powf((slot % 64) as f64 / 63.0);
    Member { seed: SEED + slot as u64, optimiser: Optimiser::adam(), learning_rate, ..Member::default() }
}

fn array(gpu: &Gpu, net: Trained, model: &Model, slots: usize) -> Result<TrainingArray> {
    let shape = &model.graph.value(model.graph.input).shape[1..];
    let (mut random, numbers) = (Random::new(SEED), SAMPLES * shape.iter().product::<usize>());
    let (values, labels): (Vec<f32>, Labels) = match net {
        Trained::Transformer => {
            let tokens: Vec<u32> = (0..numbers).map(|_| random.below(VOCABULARY) as u32).collect();
            let values = tokens.iter().map(|&token| token as f32).collect();
            let labels = Array2::from_shape_vec((SAMPLES, numbers / SAMPLES), tokens)
                .map_err(|e| Error::internal(e.to_string()))?;
            (values, Labels::Tokens { labels, classes: VOCABULARY })
        }
        _ => {
            let values = (0..numbers).map(|_| random.normal() as f32).collect();
            (values, Labels::Classes { labels: (0..SAMPLES).map(|_| random.below(10) as u32).collect(), classes: 10 })
        }
    };
    let inputs = ArrayD::from_shape_vec(IxDyn(&[&[SAMPLES], shape].concat()), values)
        .map_err(|e| Error::internal(e.to_string()))?;
    let data = DeviceSet::new(gpu, &inputs, labels)?;
    let options = ArrayOptions { slots, batch: BATCH, turns: STEPS as usize, ..ArrayOptions::default() };
    TrainingArray::new(gpu, model, data, options)
}

fn start(gpu: &Gpu, net: Trained, model: &Model, slots: usize) -> Result<TrainingArray> {
    let mut array = array(gpu, net, model, slots)?;
    (0..slots).try_for_each(|slot| array.start(slot, member(slot)))?;
    Ok(array)
}

/// The member of a slot, trained alone.
fn alone(gpu: &Gpu, net: Trained, model: &Model, slot: usize, control: &Control) -> Result<Snapshot> {
    let mut array = array(gpu, net, model, 1)?;
    array.start(0, member(slot))?;
    array.run(CHECKED, control, &mut |_| {})?;
    array.snapshot(0)
}

/// The same parameters, bit for bit.
fn same(found: &Snapshot, wanted: &Snapshot) -> Result<()> {
    let bits = |s: &Snapshot| -> Vec<u32> { s.tables.iter().flatten().map(|v| v.to_bits()).collect() };
    if bits(found) == bits(wanted) {
        Ok(())
    } else {
        Err(wrong("a member in company is not the member alone".to_owned()))
    }
}
