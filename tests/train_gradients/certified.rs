//! Certified training against intervals in f64: gradients, and what bounds of a trained network contain.

use ndarray::{ArrayD, IxDyn};
use std::sync::Arc;
use wavehull::Control;
use wavehull::graph::{Graph, Op, onnx};
use wavehull::train::{
    ArrayOptions, Builder, Certify, Conv2d, DeviceSet, Labels, Loss, Member, Model, Optimiser, TrainingArray, models,
};

use crate::common::{self, Random};
use crate::differences::{CLASSES, Case, check};

/// Boxes of full size from the first step on.
pub(crate) const CERTIFY: Certify = Certify { radius: 0.125, start: 0, ramp: 0, kappa: 0.25, judged: None };

/// Centre and radius of every output, for a box around x.
fn intervals(graph: &Graph, x: &[f64], radius: f64) -> (Vec<f64>, Vec<f64>) {
    let low = |v: f64| (v - radius).max(0.0);
    let high = |v: f64| (v + radius).min(1.0);
    let mut c: Vec<f64> = x.iter().map(|&v| (high(v) + low(v)) / 2.0).collect();
    let mut r: Vec<f64> = x.iter().map(|&v| (high(v) - low(v)) / 2.0).collect();
    for node in &graph.nodes {
        if node.op == Op::Relu {
            let ends = c.iter().zip(&r).map(|(c, r)| ((c - r).max(0.0), (c + r).max(0.0)));
            (c, r) = ends.map(|(low, high)| ((high + low) / 2.0, (high - low) / 2.0)).unzip();
            continue;
        }
        // The node alone; of its magnitudes without a bias.
        let mut alone =
            Graph { nodes: vec![node.clone()], input: node.inputs[0], output: node.output, ..graph.clone() };
        c = alone.eval_f64(&c).expect("a node");
        alone.nodes[0].inputs.truncate(2);
        if let Some(weight) = node.inputs.get(1) {
            let value = &mut alone.values[weight.0];
            value.constant = value.constant.as_ref().map(|w| Arc::new(w.mapv(f32::abs)));
        }
        r = alone.eval_f64(&r).expect("a node");
    }
    (c, r)
}

fn cross_entropy(v: &[f64], label: usize) -> f64 {
    let top = v.iter().copied().fold(f64::MIN, f64::max);
    top + v.iter().map(|v| (v - top).exp()).sum::<f64>().ln() - v[label]
}

fn worst(graph: &Graph, x: &[f64], label: usize, radius: f64) -> Vec<f64> {
    let (c, r) = intervals(graph, x, radius);
    (0..c.len()).map(|j| if j == label { c[j] - r[j] } else { c[j] + r[j] }).collect()
}

/// The loss of a sample.
pub(crate) fn loss(graph: &Graph, x: &[f64], label: usize) -> f64 {
    let plain = cross_entropy(&graph.eval_f64(x).expect("an evaluation"), label);
    CERTIFY.kappa * plain + (1.0 - CERTIFY.kappa) * cross_entropy(&worst(graph, x, label, CERTIFY.radius), label)
}

#[test]
fn certified_losses_have_the_gradients_of_differences() {
    let mut cases = Vec::new();
    let mut net = Builder::new("dense and certified", &[1, 3, 5]);
    let x = net.input();
    let x = net.flatten(x);
    let x = net.linear(x, 18);
    let x = net.relu(x);
    let x = net.linear_without_bias(x, 7);
    let x = net.relu(x);
    let x = net.linear(x, CLASSES);
    cases.push(net.finish(x).expect("a model"));
    let mut net = Builder::new("convolutions and certified", &[2, 6, 5]);
    let x = net.input();
    let x = net.conv2d(x, Conv2d { channels: 4, stride: [2, 1], padding: [1, 1], ..Conv2d::default() });
    let x = net.relu(x);
    let x = net.conv2d(x, Conv2d { channels: 3, kernel: [2, 2], bias: false, ..Conv2d::default() });
    let x = net.relu(x);
    let x = net.flatten(x);
    let x = net.linear(x, CLASSES);
    cases.push(net.finish(x).expect("a model"));
    cases.push(models::mlp(&[9, CLASSES]).expect("a layer alone"));
    let cases = cases.into_iter().map(|model| Case::new(model, Loss::Certified)).collect();
    check("certified_losses_have_the_gradients_of_differences", cases);
}

/// Pictures with a bright quarter, and which one it is.
fn pictures(count: usize) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random::new(8);
    let labels: Vec<u32> = (0..count).map(|_| random.below(4) as u32).collect();
    let pixel = |(label, at): (u32, usize)| {
        let bright = (at / 4 / 2 * 2 + at % 4 / 2) as u32 == label;
        (if bright { 0.8 } else { 0.25 }) + 0.2 * random.unit() as f32
    };
    (labels.iter().flat_map(|&label| (0..16).map(move |at| (label, at))).map(pixel).collect(), labels)
}

#[test]
fn bounds_of_a_trained_network_hold_and_are_counted() {
    let Some(gpu) = common::device("bounds_of_a_trained_network_hold_and_are_counted", true) else { return };
    let (pixels, labels) = pictures(60);
    let inputs = ArrayD::from_shape_vec(IxDyn(&[60, 16]), pixels.clone()).expect("pictures");
    let set = || DeviceSet::new(gpu, &inputs, Labels::Classes { labels: labels.clone(), classes: 4 }).expect("a set");
    let model = models::mlp(&[16, 12, 12, 4]).expect("a model");
    let options = ArrayOptions { slots: 2, batch: 20, loss: Loss::Certified, ..ArrayOptions::default() };
    let mut array = TrainingArray::new(gpu, &model, set(), options).expect("an array");
    let certify = |radius| Some(Certify { radius, start: 10, ramp: 60, kappa: 0.3, judged: Some(0.1) });
    for (slot, radius) in [0.1, 0.0].into_iter().enumerate() {
        let member = Member { seed: 4, learning_rate: 0.02, certify: certify(radius), ..Member::default() };
        array.start(slot, member).expect("a member");
    }
    let begin = array.evaluate(&set(), &Control::default()).expect("scores");
    array.run(150, &Control::default(), &mut |_| {}).expect("steps");
    let scores = array.evaluate(&set(), &Control::default()).expect("scores");
    let mut random = Random::new(6);
    for (slot, score) in scores.iter().enumerate() {
        let graph = array.export(slot).expect("a graph");
        // As a file has it: no word of boxes.
        let graph = onnx::parse(&onnx::write(&graph).expect("a file")).expect("the same");
        assert!(
            graph.nodes.iter().all(|n| matches!(n.op, Op::Gemm { .. } | Op::Relu | Op::Reshape)),
            "{:?}",
            graph.nodes
        );
        let mut certified = 0.0;
        for (picture, &label) in pixels.chunks(16).zip(&labels) {
            let x: Vec<f64> = picture.iter().map(|&v| f64::from(v)).collect();
            let (c, r) = intervals(&graph, &x, 0.1);
            for i in 0..20 {
                let step = |random: &mut Random| if i < 10 { random.unit() } else { random.unit().signum() };
                let near: Vec<f64> = x.iter().map(|v| (v + 0.1 * step(&mut random)).clamp(0.0, 1.0)).collect();
                let y = graph.eval_f64(&near).expect("an evaluation");
                assert!((0..4).all(|j| (y[j] - c[j]).abs() <= r[j] + 1e-9), "{y:?} outside of {c:?} +- {r:?}");
            }
            let z = worst(&graph, &x, label as usize, 0.1);
            certified += f64::from(u8::from((0..4).all(|j| j == label as usize || z[j] < z[label as usize])));
        }
        let found = score.certified.expect("a share");
        assert!((found - certified / 60.0).abs() < 1e-9, "slot {slot}: {found}, f64 counts {certified} of 60");
        assert!(score.correct >= found);
    }
    let share = |scores: &[wavehull::train::Score], slot: usize| scores[slot].certified.expect("a share");
    assert!(share(&scores, 0) > 0.9 && share(&begin, 0) < 0.5, "{scores:?} after {begin:?}");
    assert!(share(&scores, 0) > share(&scores, 1), "boxes teach what pictures alone do not: {scores:?}");
}

#[test]
fn networks_without_bounds_are_refused_by_name() {
    let Some(gpu) = common::device("networks_without_bounds_are_refused_by_name", false) else { return };
    let inputs = ArrayD::from_elem(IxDyn(&[4, 6]), 0.5_f32);
    let said = |build: &dyn Fn(&mut Builder) -> wavehull::graph::ValueId, member: Member, loss: Loss| {
        let mut net = Builder::new("odd", &[6]);
        let x = build(&mut net);
        let x = net.linear(x, 3);
        let model: Model = net.finish(x).expect("a model");
        let set = DeviceSet::new(gpu, &inputs, Labels::Classes { labels: vec![0; 4], classes: 3 }).expect("a set");
        let options = ArrayOptions { batch: 4, loss, optimiser: Optimiser::adam(), ..ArrayOptions::default() };
        let array = TrainingArray::new(gpu, &model, set, options);
        let error = array.and_then(|mut array| array.start(0, member)).expect_err("refused");
        format!("{error}; {}", error.help().unwrap_or_default())
    };
    let certified = || Member { certify: Some(CERTIFY), ..Member::default() };
    let tanh = |net: &mut Builder| {
        let x = net.input();
        let x = net.linear(x, 4);
        net.named("bend").tanh(x)
    };
    let message = said(&tanh, certified(), Loss::Certified);
    assert!(message.contains("'bend' (Tanh)") && message.contains("Flatten, Gemm, Conv and Relu"), "{message}");
    let branch = |net: &mut Builder| {
        let x = net.input();
        let y = net.linear(x, 6);
        let y = net.relu(y);
        net.named("sum").add(x, y)
    };
    assert!(said(&branch, certified(), Loss::Certified).contains("'sum' (Add)"));
    let plain = |net: &mut Builder| net.input();
    for (member, loss) in [(Member::default(), Loss::Certified), (certified(), Loss::default())] {
        assert!(said(&plain, member, loss).contains("`certify`"));
    }
    let wide = Certify { radius: 2.0, ..CERTIFY };
    assert!(said(&plain, Member { certify: Some(wide), ..Member::default() }, Loss::Certified).contains("radius of 2"));
}
