//! The networks of `train::models` against torch, and their way through ONNX files.
//!
//! Weights and inputs are numbers that a hash of their name and place gives; `scripts/make_train_fixtures.py` gives
//! torch the same ones by the same names.
#![cfg(feature = "train")]

#[path = "common/torch.rs"]
mod torch;

use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use torch::{fill, numbers, start};
use wavehull::Result;
use wavehull::graph::{Graph, onnx};
use wavehull::train::{Model, models};

struct Fixture {
    name: &'static str,
    model: Model,
    input: Vec<f64>,
}

fn fixtures() -> Vec<Fixture> {
    let fixture = |name, model: Result<Model>, vocab: Option<u32>| {
        let mut model = model.unwrap();
        fill(&mut model.graph);
        let mut input = numbers("input", model.graph.input_len());
        if let Some(vocab) = vocab {
            input.iter_mut().for_each(|x| *x = f64::from(((*x + 0.5) * 65536.0) as u32 % vocab));
        }
        Fixture { name, model, input }
    };
    vec![
        fixture("mlp", models::mlp(&[6, 5, 4, 3]), None),
        fixture("lenet", models::lenet(10), None),
        fixture("resnet18", models::resnet18(10, 4), None),
        fixture("pointnet", models::pointnet(12, 5, false), None),
        fixture("pointnet_transforms", models::pointnet(12, 5, true), None),
        fixture("transformer", models::transformer(11, 6, 8, 2, 2), Some(11)),
        fixture("dcgan_generator", models::dcgan_generator(5, 2, 1), None),
        fixture("dcgan_discriminator", models::dcgan_discriminator(2, 2), None),
    ]
}

/// Torch's number of parameters, the distance between outputs that are kept, and these outputs.
fn expected(name: &str) -> (usize, usize, Vec<f64>) {
    let text = torch::fixture(name);
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    let outputs = line("outputs ").split(' ').map(|x| x.parse().unwrap()).collect();
    (line("parameters ").parse().unwrap(), line("step ").parse().unwrap(), outputs)
}

/// The largest distance of two lists of numbers.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Outputs are below 1. Sums have at most 1,024 terms, whose magnitudes sum to less than 40, in at most 20 layers
/// behind each other that each multiply what is off by less than 40 / 20 or normalise it: 20 * 1,024 * 40 u is below 1e-10.
const TOLERANCE: f64 = 1e-10;

#[test]
fn models_compute_what_torch_computes() {
    for Fixture { name, model, input } in fixtures() {
        let (parameters, step, outputs) = expected(name);
        assert_eq!(model.parameter_count(), parameters, "{name}");
        let computed: Vec<f64> = model.graph.eval_f64(&input).unwrap().into_iter().step_by(step).collect();
        let off = distance(&computed, &outputs);
        println!("{name}: off by {off:e}");
        assert!(off < TOLERANCE, "{name}: off by {off:e}");
    }
}

/// A parameter that is wrong in one number by one percent shows, whichever it is. (Of a ReLU network with no input
/// below 0, some may not: each number of these two has a way to the output.)
#[test]
fn every_parameter_counts() {
    for Fixture { name, model, input } in fixtures().into_iter().filter(|f| ["lenet", "transformer"].contains(&f.name))
    {
        let before = model.graph.eval_f64(&input).unwrap();
        for parameter in &model.parameters {
            let mut graph = model.graph.clone();
            let constant = graph.values[parameter.value.0].constant.as_mut().unwrap();
            let largest = constant.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            Arc::make_mut(constant).iter_mut().for_each(|x| *x += if *x == largest { 0.01 } else { 0.001 });
            let after = graph.eval_f64(&input).unwrap();
            // A bias of keys adds the same to all scores of a row, so that their softmax stays; rounding is all that shows.
            let counts = !model.name(parameter).ends_with("k_proj.bias");
            assert_eq!(distance(&before, &after) > TOLERANCE, counts, "{name}: {}", model.name(parameter));
        }
    }
}

#[test]
fn models_pass_through_files_unchanged() {
    for Fixture { name, model, input } in fixtures() {
        let bytes = onnx::write(&model.graph).unwrap();
        let read = Model::from_graph(onnx::parse(&bytes).unwrap()).unwrap();
        let bits = |graph: &Graph| graph.eval_f64(&input).unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read.graph), bits(&model.graph), "{name}");
        let ops = |model: &Model| model.graph.nodes.iter().map(|node| node.op.clone()).collect::<Vec<_>>();
        assert_eq!(ops(&read), ops(&model), "{name}");
        let names = |model: &Model| model.parameters.iter().map(|p| model.name(p).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&read), names(&model), "{name}");
    }
}

/// The same transformer as torch's exporter writes it, with tokens of INT64, dense layers as MatMul and Add, and Gelu in
/// pieces whose constants are those of `f32`: 2^-24 of numbers that sum to less than 10, in 2 layers.
#[test]
fn what_torch_exports_has_the_same_parameters_and_values() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/train/transformer.onnx");
    let (graph, _) = onnx::read(&file).unwrap();
    let masked = graph.nodes.iter().filter(|node| node.op == wavehull::graph::Op::CausalSoftmax).count();
    assert_eq!(masked, 2);
    let model = Model::from_graph(graph).unwrap();
    let (parameters, _, outputs) = expected("transformer");
    assert_eq!(model.parameter_count(), parameters);
    let input = fixtures().into_iter().find(|f| f.name == "transformer").unwrap().input;
    let off = distance(&model.graph.eval_f64(&input).unwrap(), &outputs);
    assert!(off < 20.0 * 2f64.powi(-24), "{off:e}");
}

/// Counts of networks as large as their papers', from torch's modules of the same form.
#[test]
fn full_sizes_have_the_parameters_that_torch_counts() {
    let count = |model: Result<Model>| model.unwrap().parameter_count();
    assert_eq!(count(models::mlp(&[784, 256, 128, 10])), 235_146);
    assert_eq!(count(models::lenet(10)), 61_706);
    assert_eq!(count(models::resnet18(10, 64)), 11_173_962);
    assert_eq!(count(models::pointnet(1024, 40, false)), 811_048);
    assert_eq!(count(models::pointnet(1024, 40, true)), 3_471_473);
    assert_eq!(count(models::transformer(65, 64, 128, 4, 4)), 818_176);
    assert_eq!(count(models::dcgan_generator(100, 3, 64)), 3_576_704);
    assert_eq!(count(models::dcgan_discriminator(3, 64)), 2_765_568);
}

#[test]
fn transforms_of_points_start_as_the_identity() {
    let with = models::pointnet(7, 4, true).unwrap();
    let mut with_graph = with.graph.clone();
    let mut without = models::pointnet(7, 4, false).unwrap().graph;
    fill(&mut without);
    // All but the last layers of the transforms may be anything.
    for value in with_graph.values.iter_mut().filter(|v| v.constant.is_some() && !v.name.contains("stn.fc3")) {
        let data = start(&value.name, &value.shape);
        value.constant = Some(Arc::new(ArrayD::from_shape_vec(IxDyn(&value.shape), data).unwrap()));
    }
    let input = numbers("input", 21);
    let off = distance(&with_graph.eval_f64(&input).unwrap(), &without.eval_f64(&input).unwrap());
    assert!(off < TOLERANCE, "{off:e}");
}

#[test]
fn sizes_of_nothing_are_refused() {
    let refused = |model: Result<Model>, part: &str| {
        let error = model.expect_err(part);
        assert_eq!(error.kind(), wavehull::ErrorKind::BadInput);
        assert!(error.to_string().contains(part) && error.help().is_some(), "{error}");
    };
    refused(models::mlp(&[3]), "widths [3]");
    refused(models::mlp(&[3, 0]), "'fc1'");
    refused(models::lenet(0), "'fc3'");
    refused(models::resnet18(10, 0), "'conv1'");
    refused(models::resnet18(10, usize::MAX), "'conv1'");
    refused(models::pointnet(0, 10, true), "the input");
    refused(models::transformer(11, 6, 8, 3, 2), "'h.0.attn'");
    refused(models::transformer(0, 6, 8, 2, 2), "'wte'");
    refused(models::dcgan_generator(5, 0, 1), "'deconv5'");
}
