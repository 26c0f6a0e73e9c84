//! Gradients of one step against central differences of an f64 evaluation of the whole batch.

use std::sync::Arc;

use ndarray::{Array2, ArrayD, IxDyn};
use wavehull::graph::{Executor, Graph, Op};
use wavehull::ops::random::{self, Stream, purpose};
use wavehull::train::{ArrayOptions, DeviceSet, Labels, Loss, Member, Model, Optimiser, Parameter, TrainingArray};
use wavehull::{Control, Gpu};

use crate::certified::{self, CERTIFY};
use crate::common::{self, Random};

pub(crate) const CLASSES: usize = 5;
const BATCH: usize = 6;
pub(crate) const WORDS: usize = 9;
/// Elements of each parameter that are looked at.
const ELEMENTS: usize = 8;
/// Of the member that is trained.
const SEED: u64 = 3;

/// A network and a batch of samples.
pub(crate) struct Case {
    pub model: Model,
    pub loss: Loss,
    samples: Vec<Vec<f64>>,
    labels: Vec<u32>,
    values: Array2<f32>,
}

fn shape_of(graph: &Graph) -> Vec<usize> {
    graph.value(graph.input).shape[1..].to_vec()
}

impl Case {
    pub(crate) fn new(model: Model, loss: Loss) -> Self {
        let len = shape_of(&model.graph).iter().product();
        let mut random = Random::new(9);
        let words = model.graph.nodes.iter().any(|node| matches!(node.op, Op::Embedding { .. }));
        let mut last = 0;
        let mut one = |_| -> f64 {
            // Every other word is the one before it.
            if words && random.coin() {
                last = random.below(WORDS);
            }
            match loss {
                _ if words => last as f64,
                // Some at the ends of 0..1, where boxes are cut.
                Loss::Certified => f64::from((random.floats(1)[0] * 0.6 + 0.5).clamp(0.0, 1.0)),
                _ => f64::from(random.floats(1)[0]),
            }
        };
        let samples = (0..BATCH).map(|_| (0..len).map(&mut one).collect()).collect();
        let labels = (0..BATCH).map(|_| random.below(CLASSES) as u32).collect();
        let outputs = model.graph.output_len();
        let values = Array2::from_shape_fn((BATCH, outputs), |_| random.below(2) as f32);
        Self { model, loss, samples, labels, values }
    }

    fn array(&self, gpu: &Gpu) -> TrainingArray {
        let shape = [&[BATCH], &shape_of(&self.model.graph)[..]].concat();
        let inputs: Vec<f32> = self.samples.iter().flatten().map(|&v| v as f32).collect();
        let inputs = ArrayD::from_shape_vec(IxDyn(&shape), inputs).expect("inputs");
        let labels = match self.loss {
            Loss::CrossEntropy { .. } | Loss::Certified => {
                Labels::Classes { labels: self.labels.clone(), classes: CLASSES }
            }
            _ => Labels::Values(self.values.clone()),
        };
        let set = DeviceSet::new(gpu, &inputs, labels).expect("a set");
        let (loss, optimiser) = (self.loss, Optimiser::sgd());
        let options = ArrayOptions { slots: 2, batch: BATCH, loss, optimiser, ..ArrayOptions::default() };
        TrainingArray::new(gpu, &self.model, set, options)
            .unwrap_or_else(|error| panic!("{}: {error}", self.model.graph.name))
    }

    /// The mean loss of the batch in f64.
    fn loss(&self, graph: &Graph) -> f64 {
        if self.loss == Loss::Certified {
            let losses = self.samples.iter().zip(&self.labels).map(|(x, &y)| certified::loss(graph, x, y as usize));
            return losses.sum::<f64>() / BATCH as f64;
        }
        let outputs = outputs(graph, 0, &self.samples);
        let one = |(sample, y): (usize, &Vec<f64>)| {
            let targets = self.values.row(sample);
            let pairs = || y.iter().zip(targets).map(|(&y, &t)| (y, f64::from(t)));
            match self.loss {
                Loss::CrossEntropy { smoothing } => {
                    let top = y.iter().copied().fold(f64::MIN, f64::max);
                    let sum = top + y.iter().map(|v| (v - top).exp()).sum::<f64>().ln();
                    let (s, mean) = (f64::from(smoothing), y.iter().sum::<f64>() / y.len() as f64);
                    sum - (1.0 - s) * y[self.labels[sample] as usize] - s * mean
                }
                Loss::MeanSquare => pairs().map(|(y, t)| (y - t) * (y - t)).sum::<f64>() / y.len() as f64,
                _ => pairs().map(|(y, t)| y.max(0.0) - y * t + (-y.abs()).exp().ln_1p()).sum::<f64>() / y.len() as f64,
            }
        };
        outputs.iter().enumerate().map(one).sum::<f64>() / BATCH as f64
    }
}

/// What the nodes from `first` on make of a batch in the first step: batch normalisations see the batch's own mean and
/// variance, and the stream of the member drops elements.
fn outputs(graph: &Graph, first: usize, samples: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let apart = |op: &Op| matches!(op, Op::BatchNormalization { .. } | Op::Dropout { .. });
    let Some(at) = graph.nodes[first..].iter().position(|node| apart(&node.op)).map(|at| first + at) else {
        let rest = Graph { nodes: graph.nodes[first..].to_vec(), ..graph.clone() };
        return samples.iter().map(|x| rest.eval_f64(x).expect("an evaluation")).collect();
    };
    let node = &graph.nodes[at];
    let before = Graph { nodes: graph.nodes[first..at].to_vec(), output: node.inputs[0], ..graph.clone() };
    let mut x: Vec<Vec<f64>> = samples.iter().map(|x| before.eval_f64(x).expect("an evaluation")).collect();
    let shape = &graph.value(node.inputs[0]).shape;
    match node.op {
        Op::BatchNormalization { epsilon } => normalised(graph, at, f64::from(epsilon), &mut x),
        Op::Dropout { rate } => dropped(shape.last().copied().unwrap_or(1), at, rate, &mut x),
        _ => unreachable!(),
    }
    outputs(&Graph { input: node.output, ..graph.clone() }, at + 1, &x)
}

fn normalised(graph: &Graph, at: usize, epsilon: f64, x: &mut [Vec<f64>]) {
    let node = &graph.nodes[at];
    let channels = graph.value(node.inputs[0]).shape[1];
    let each = x[0].len() / channels;
    let number = |operand: usize, c: usize| {
        let constant = graph.value(node.inputs[operand]).constant.clone().expect("a constant");
        f64::from(constant.as_slice().expect("dense")[c])
    };
    for c in 0..channels {
        let of = |x: &Vec<f64>| x[c * each..][..each].to_vec();
        let all: Vec<f64> = x.iter().flat_map(of).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / all.len() as f64;
        let factor = number(1, c) / (variance + epsilon).sqrt();
        let shift = number(2, c);
        x.iter_mut().flat_map(|x| &mut x[c * each..][..each]).for_each(|v| *v = (*v - mean) * factor + shift);
    }
}

/// Layers draw by their number, elements by their place in the batch's memory, where rows start at multiples of four; the
/// member's order says which sample stands where.
fn dropped(columns: usize, layer: usize, rate: f32, x: &mut [Vec<f64>]) {
    let stream = Stream::new(SEED);
    for (row, &sample) in stream.permutation(x.len(), 0, purpose::SHUFFLE).iter().enumerate() {
        let rows = x[sample as usize].len() / columns;
        for (i, v) in x[sample as usize].iter_mut().enumerate() {
            let place = (row * rows + i / columns) * columns.next_multiple_of(4) + i % columns;
            let word = stream.word(place, layer as u32, 0, purpose::DROPOUT);
            *v *= if random::uniform(word) >= rate { 1.0 / (1.0 - f64::from(rate)) } else { 0.0 };
        }
    }
}

/// What one step takes away from each parameter, at a rate of 1 without momentum: its gradient. With the graph before.
fn gradients(gpu: &Gpu, case: &Case) -> (Graph, Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let mut array = case.array(gpu);
    let certify = (case.loss == Loss::Certified).then_some(CERTIFY);
    let member = Member { seed: SEED, optimiser: Optimiser::sgd(), learning_rate: 1.0, certify, ..Member::default() };
    array.start(1, member).expect("a member");
    let before = array.export(1).expect("a graph");
    array.run(1, &Control::default(), &mut |_| {}).expect("a step");
    let after = array.export(1).expect("a graph");
    let of = |graph: &Graph, p: &Parameter| -> Vec<f64> {
        graph.value(p.value).constant.iter().flat_map(|c| c.iter().map(|&v| f64::from(v))).collect()
    };
    let weights: Vec<Vec<f64>> = case.model.parameters.iter().map(|p| of(&before, p)).collect();
    let found = case.model.parameters.iter().zip(&weights);
    let found = found.map(|(p, w0)| w0.iter().zip(of(&after, p)).map(|(a, b)| a - b).collect()).collect();
    (before, weights, found)
}

/// The first gradient that is not that of the differences, and the largest that was seen.
fn differs(case: &Case, before: &Graph, weights: &[Vec<f64>], found: &[Vec<f64>]) -> (Option<String>, f64) {
    let mut random = Random::new(17);
    let mut largest: f64 = 0.0;
    for (index, parameter) in case.model.parameters.iter().enumerate() {
        for _ in 0..ELEMENTS.min(weights[index].len()) {
            let at = random.below(weights[index].len());
            // So small that hardly ever a kink lies between; what f32 makes of it is what is divided by.
            let moved = |by: f32| {
                let mut changed = before.clone();
                let mut constant = (**changed.value(parameter.value).constant.as_ref().expect("a constant")).clone();
                let element = &mut constant.as_slice_mut().expect("dense")[at];
                *element += by;
                let real = f64::from(*element);
                changed.values[parameter.value.0].constant = Some(Arc::new(constant));
                (real, case.loss(&changed))
            };
            let h = 2.0_f32.powi(-14);
            let ((x1, y1), (x0, y0)) = (moved(h), moved(-h));
            let (wanted, found) = ((y1 - y0) / (x1 - x0), found[index][at]);
            // h^2 times a third derivative of order 100; roundings of the weight, and of sums of hundreds of terms.
            let allowed = 100.0 * f64::from(h).powi(2) + 4e-7 * weights[index][at].abs() + 2e-5 * wanted.abs() + 2e-6;
            largest = largest.max(wanted.abs() / allowed);
            if (found - wanted).abs() > allowed || found.is_nan() {
                let name = case.model.name(parameter);
                return (Some(format!("{name}[{at}]: {found:e}, f64 says {wanted:e}")), largest);
            }
        }
    }
    (None, largest)
}

/// An exported member runs on the device as its reference does; the first output that is off.
fn runs(gpu: &Gpu, case: &Case, graph: &Graph) -> Option<String> {
    let name = &graph.name;
    let len = graph.input_len();
    let samples = Array2::from_shape_fn((BATCH, len), |(i, j)| case.samples[i][j] as f32);
    let executor = Executor::new(gpu, graph).expect(name);
    let found = executor.run(&samples.view(), &Control::default()).expect(name);
    for (x, found) in case.samples.iter().zip(found.rows()) {
        let wanted = graph.eval_f64(x).expect(name);
        let scale = wanted.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        for (&found, wanted) in found.iter().zip(wanted) {
            let off = (f64::from(found) - wanted).abs();
            // Sums of some hundred terms, at most.
            if off > 2e-5 * scale || off.is_nan() {
                return Some(format!("{found}, f64 says {wanted}"));
            }
        }
    }
    None
}

pub(crate) fn check(test: &str, cases: Vec<Case>) {
    let Some(gpu) = common::device(test, true) else { return };
    let wrong: Vec<String> = cases.iter().filter_map(|case| what_is_wrong(gpu, case)).collect();
    assert!(wrong.is_empty(), "{} of {} networks:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn what_is_wrong(gpu: &Gpu, case: &Case) -> Option<String> {
    let name = &case.model.graph.name;
    let (before, weights, found) = gradients(gpu, case);
    if let Some(wrong) = runs(gpu, case, &before) {
        return Some(format!("{name}: on the device: {wrong}"));
    }
    let (wrong, largest) = differs(case, &before, &weights, &found);
    if let Some(wrong) = wrong {
        return Some(format!("{name}: {wrong}"));
    }
    assert!(largest > 100.0, "{name}: gradients of up to {largest} tolerances show nothing");
    // Each parameter's gradient, off by one percent, is seen.
    for index in 0..found.len() {
        let mut doctored = found.clone();
        doctored[index].iter_mut().for_each(|g| *g = *g * 1.01 + 1e-4);
        let seen = differs(case, &before, &weights, &doctored).0;
        assert!(seen.is_some(), "{name}: a wrong gradient {index} must be seen");
    }
    None
}
