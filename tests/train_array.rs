//! Arrays: a member is bit-identical to being trained alone, whatever its slot and its neighbours; gradients against f64 differences.
#![cfg(feature = "train")]

mod common;

use common::Random;
use ndarray::{ArrayD, IxDyn};
use wavehull::train::{
    ArrayOptions, Augment, Builder, Conv2d, DeviceSet, Labels, Loss, Member, Model, Optimiser, Progress, Schedule,
    Snapshot, State, TrainingArray,
};
use wavehull::{Control, ErrorKind, Gpu};

const SAMPLES: usize = 96;
const CLASSES: usize = 5;

/// A network of every layer that one test can want, small enough for a test.
fn convolutional() -> Model {
    let mut net = Builder::new("conv", &[3, 8, 8]);
    let x = net.input();
    let x = net.conv2d(x, Conv2d { channels: 8, kernel: [3, 3], padding: [1, 1], ..Conv2d::default() });
    let x = net.batch_norm(x);
    let x = net.relu(x);
    let skip = x;
    let x = net.conv2d(x, Conv2d { channels: 8, kernel: [3, 3], padding: [1, 1], ..Conv2d::default() });
    let x = net.group_norm(x, 2);
    let x = net.add(x, skip);
    let x = net.relu(x);
    let x = net.max_pool(x, 2);
    let x = net.dropout(x, 0.25);
    let x = net.flatten(x);
    let x = net.linear(x, 19);
    let x = net.tanh(x);
    let x = net.linear(x, CLASSES);
    net.finish(x).expect("a model")
}

fn dense() -> Model {
    let mut net = Builder::new("dense", &[7]);
    let x = net.input();
    let x = net.linear(x, 33);
    let x = net.relu(x);
    let x = net.linear(x, 9);
    let x = net.sigmoid(x);
    let x = net.linear(x, CLASSES);
    net.finish(x).expect("a model")
}

fn data(gpu: &Gpu, model: &Model) -> DeviceSet {
    let shape = model.graph.value(model.graph.input).shape[1..].to_vec();
    let mut random = Random::new(5);
    let len: usize = shape.iter().product();
    let inputs = ArrayD::from_shape_vec(IxDyn(&[&[SAMPLES], &shape[..]].concat()), random.floats(SAMPLES * len))
        .expect("inputs");
    let labels = (0..SAMPLES).map(|_| random.below(CLASSES) as u32).collect();
    DeviceSet::new(gpu, &inputs, Labels::Classes { labels, classes: CLASSES }).expect("a set")
}

fn member(b: usize) -> Member {
    let optimiser =
        Optimiser::Adam { beta1: 0.9 - 0.01 * b as f64, beta2: 0.999, eps: 1e-8, weight_decay: 1e-4 * b as f64 };
    let schedule = if b.is_multiple_of(2) { Schedule::Constant } else { Schedule::Cosine { steps: 40, least: 1e-5 } };
    let clip = (b % 3 == 1).then_some(0.5);
    let learning_rate = 1e-3 * (1.0 + b as f64);
    Member { seed: 100 + b as u64, optimiser, learning_rate, schedule, clip, certify: None, steps: None }
}

fn options(slots: usize) -> ArrayOptions {
    ArrayOptions { slots, batch: 16, clip: true, turns: 7, ..ArrayOptions::default() }
}

fn array(gpu: &Gpu, model: &Model, slots: usize) -> TrainingArray {
    TrainingArray::new(gpu, model, data(gpu, model), options(slots)).expect("an array")
}

fn train(array: &mut TrainingArray, steps: u64) -> Vec<Progress> {
    let mut seen = Vec::new();
    array.run(steps, &Control::default(), &mut |p| seen.push(p)).expect("steps");
    seen
}

/// The member alone, and the losses on its way.
fn alone(gpu: &Gpu, model: &Model, b: usize, steps: u64) -> (Snapshot, Vec<u32>) {
    let mut array = array(gpu, model, 1);
    array.start(0, member(b)).expect("a member");
    let losses = train(&mut array, steps).iter().map(|p| p.loss.to_bits()).collect();
    (array.snapshot(0).expect("a snapshot"), losses)
}

fn bits(snapshot: &Snapshot) -> Vec<Vec<u32>> {
    snapshot.tables.iter().map(|table| table.iter().map(|v| v.to_bits()).collect()).collect()
}

fn same(model: &Model, found: &Snapshot, wanted: &Snapshot, what: &str) {
    assert_eq!((found.step, found.state), (wanted.step, wanted.state), "{what}");
    for (table, (found, wanted)) in bits(found).iter().zip(&bits(wanted)).enumerate() {
        let other = found.iter().zip(wanted).position(|(a, b)| a != b);
        assert!(
            other.is_none(),
            "{}: {what}: table {table} differs from word {other:?} of {} on",
            model.graph.name,
            found.len()
        );
    }
}

#[test]
fn every_value_counts_once() {
    let Some(gpu) = common::device("every_value_counts_once", true) else { return };
    let model = dense();
    let mut random = Random::new(8);
    let mut set = |samples: usize| {
        let inputs = ArrayD::from_shape_vec(IxDyn(&[samples, 7]), random.floats(samples * 7)).expect("inputs");
        let values = ndarray::Array2::from_shape_vec((samples, CLASSES), random.floats(samples * CLASSES));
        (inputs, values.expect("values"))
    };
    let device = |(inputs, values): &(ArrayD<f32>, ndarray::Array2<f32>)| {
        DeviceSet::new(gpu, inputs, Labels::Values(values.clone())).expect("a set")
    };
    let (train_set, judged) = (set(32), set(29));
    let options = |batch| ArrayOptions { slots: 3, batch, loss: Loss::MeanSquare, ..ArrayOptions::default() };
    let score = |batch: usize| {
        let mut array = TrainingArray::new(gpu, &model, device(&train_set), options(batch)).expect("an array");
        array.start(1, Member::default()).expect("a member");
        let scores = array.evaluate(&device(&judged), &Control::default()).expect("scores");
        assert_eq!(
            scores.iter().map(|s| s.rows > 0.0).collect::<Vec<_>>(),
            [false, true, false],
            "the others are empty"
        );
        scores[1]
    };
    // 29 at once; 16 and 13; 8, 8, 8 and 5.
    let [whole, halves, parts] = [29, 16, 8].map(score);
    assert!(whole.rows == halves.rows && whole.rows == parts.rows, "{whole:?} {halves:?} {parts:?}");
    assert!((whole.loss - halves.loss).abs() < 1e-6 && (whole.loss - parts.loss).abs() < 1e-6, "{halves:?} {parts:?}");
}

#[test]
fn slots_behind_the_last_member_are_not_computed() {
    let Some(gpu) = common::device("slots_behind_the_last_member_are_not_computed", true) else { return };
    for model in [dense(), convolutional()] {
        let mut array = array(gpu, &model, 7);
        (0..7).for_each(|slot| array.start(slot, member(slot)).expect("a member"));
        train(&mut array, 5);
        assert_eq!(array.computed(), 7);
        (2..7).for_each(|slot| array.clear(slot).expect("somebody is there"));
        assert_eq!(array.computed(), 2);
        let scores = array.evaluate(&data(gpu, &model), &Control::default()).expect("scores");
        assert_eq!(
            scores.iter().map(|s| s.rows > 0.0).collect::<Vec<_>>(),
            [true, true, false, false, false, false, false]
        );
        train(&mut array, 9);
        // Somebody in the last slot: all of them again.
        array.copy(0, 6, None).expect("a copy");
        assert_eq!(array.computed(), 7);
        train(&mut array, 6);
        let (first, second) = (alone(gpu, &model, 0, 20).0, alone(gpu, &model, 1, 20).0);
        same(&model, &array.snapshot(0).expect("a snapshot"), &first, "slot 0");
        same(&model, &array.snapshot(6).expect("a snapshot"), &first, "its copy in slot 6");
        same(&model, &array.snapshot(1).expect("a snapshot"), &second, "slot 1");
    }
}

#[test]
fn blocks_that_overlap_are_steps_one_by_one() {
    let Some(gpu) = common::device("blocks_that_overlap_are_steps_one_by_one", true) else { return };
    for model in [dense(), convolutional()] {
        let [mut at_once, mut one_by_one] = [array(gpu, &model, 2), array(gpu, &model, 2)];
        for array in [&mut at_once, &mut one_by_one] {
            (0..2).for_each(|b| array.start(b, member(b)).expect("a member"));
        }
        // Blocks of seven steps, two on their way at a time.
        train(&mut at_once, 30);
        (0..30).for_each(|_| drop(train(&mut one_by_one, 1)));
        for slot in 0..2 {
            let [found, wanted] = [&at_once, &one_by_one].map(|array| array.snapshot(slot).expect("a snapshot"));
            same(&model, &found, &wanted, &format!("slot {slot}"));
        }
    }
}

#[test]
fn a_member_in_company_is_the_member_alone() {
    let Some(gpu) = common::device("a_member_in_company_is_the_member_alone", true) else { return };
    for model in [dense(), convolutional()] {
        for slots in [2, 7] {
            let mut array = array(gpu, &model, slots);
            (0..slots).for_each(|b| array.start(b, member(b)).expect("a member"));
            let seen = train(&mut array, 12);
            for b in [0, 1, slots - 1] {
                let (wanted, losses) = alone(gpu, &model, b, 12);
                same(&model, &array.snapshot(b).expect("a snapshot"), &wanted, &format!("slot {b} of {slots}"));
                let found: Vec<u32> = seen.iter().filter(|p| p.slot == b).map(|p| p.loss.to_bits()).collect();
                assert_eq!(found, losses, "losses of slot {b} of {slots}");
            }
        }
    }
}

#[test]
fn a_member_that_diverges_harms_nobody() {
    let Some(gpu) = common::device("a_member_that_diverges_harms_nobody", true) else { return };
    let model = convolutional();
    let mut array = array(gpu, &model, 3);
    array.start(0, member(0)).expect("a member");
    array.start(1, Member { learning_rate: 3e38, clip: None, ..member(1) }).expect("a member");
    array.start(2, member(2)).expect("a member");
    train(&mut array, 14);
    assert_eq!(array.state(1).expect("somebody").0, State::Diverged, "{:?}", array.state(1));
    for b in [0, 2] {
        same(&model, &array.snapshot(b).expect("a snapshot"), &alone(gpu, &model, b, 14).0, "beside NaN");
    }
}

#[test]
fn members_come_and_go_in_mid_run() {
    let Some(gpu) = common::device("members_come_and_go_in_mid_run", true) else { return };
    let model = convolutional();
    let mut array = array(gpu, &model, 3);
    array.start(0, member(0)).expect("a member");
    array.start(1, member(1)).expect("a member");
    train(&mut array, 5);
    array.start(1, member(4)).expect("another member");
    array.copy(0, 2, None).expect("a clone");
    train(&mut array, 9);
    let (young, _) = alone(gpu, &model, 4, 9);
    same(&model, &array.snapshot(1).expect("a snapshot"), &young, "replaced half-way");
    let (old, _) = alone(gpu, &model, 0, 14);
    same(&model, &array.snapshot(0).expect("a snapshot"), &old, "beside a newcomer");
    same(&model, &array.snapshot(2).expect("a snapshot"), &old, "a clone");
    array.stop(0).expect("stopped");
    train(&mut array, 3);
    let snapshot = array.snapshot(0).expect("a snapshot");
    assert_eq!((bits(&snapshot), snapshot.state), (bits(&old), State::Stopped), "nothing touches who is stopped");
    // Resumed elsewhere.
    let mut other = super_array(gpu, &model);
    other.restore(3, &Snapshot { state: State::Running, ..snapshot }).expect("restored");
    train(&mut other, 6);
    same(&model, &other.snapshot(3).expect("a snapshot"), &alone(gpu, &model, 0, 20).0, "resumed in another slot");
}

#[test]
fn parameters_can_be_edited_where_they_are() {
    let Some(gpu) = common::device("parameters_can_be_edited_where_they_are", false) else { return };
    let model = dense();
    let mut array = array(gpu, &model, 2);
    array.start(0, member(0)).expect("a member");
    array.start(1, member(1)).expect("another");
    train(&mut array, 3);
    let (before, other) = (array.snapshot(0).expect("a snapshot"), array.snapshot(1).expect("a snapshot"));
    let mut names = Vec::new();
    array.edit(0, &mut |name, _| names.push(name.to_owned())).expect("seen");
    same(&model, &array.snapshot(0).expect("a snapshot"), &before, "looking changes nothing");
    let expected: Vec<&str> = model.parameters.iter().map(|parameter| model.name(parameter)).collect();
    assert_eq!(names, expected);
    let first = names[0].clone();
    array
        .edit(0, &mut |name, tensor| {
            if name == first {
                tensor.fill(0.0)
            }
        })
        .expect("changed");
    let network = array.export(0).expect("a network");
    for parameter in &model.parameters {
        let value = network.value(parameter.value);
        let zero = value.constant.as_ref().expect("a constant").iter().all(|&w| w == 0.0);
        assert_eq!(zero, value.name == first, "{}", value.name);
    }
    same(&model, &array.snapshot(1).expect("a snapshot"), &other, "the neighbour");
    let reshaped = array.edit(0, &mut |_, tensor| *tensor = ArrayD::zeros(vec![1]));
    assert_eq!(reshaped.err().map(|e| e.kind()), Some(ErrorKind::BadInput));
}

fn super_array(gpu: &Gpu, model: &Model) -> TrainingArray {
    array(gpu, model, 5)
}

#[test]
fn sub_arrays_change_nothing() {
    let Some(gpu) = common::device("sub_arrays_change_nothing", true) else { return };
    let model = convolutional();
    let whole = array(gpu, &model, 5);
    let memory = whole.memory();
    // Room for the tables of all, and for passes of two at once.
    let budget = (memory.tables * 5 + memory.data + memory.pass * 2) * 10 / 8 + 64;
    let mut options = wavehull::Options::default();
    options.checked = true;
    options.memory_budget = Some(budget.max(1 << 20));
    let small = Gpu::open(&options).expect("a device");
    let mut cut = array(&small, &model, 5);
    assert!(cut.memory().slots_at_once < 5, "{:?} is not cut", cut.memory());
    (0..5).for_each(|b| cut.start(b, member(b)).expect("a member"));
    train(&mut cut, 8);
    for b in 0..5 {
        same(&model, &cut.snapshot(b).expect("a snapshot"), &alone(gpu, &model, b, 8).0, "a sub-array");
    }
}

/// Mean cross-entropy over the first batch in f64, with dropout and batch statistics out of the way.
fn loss(model: &Model, inputs: &[Vec<f64>], labels: &[u32]) -> f64 {
    let one = |(x, &label): (&Vec<f64>, &u32)| {
        let y = model.graph.eval_f64(x).expect("an evaluation");
        let top = y.iter().copied().fold(f64::MIN, f64::max);
        top + y.iter().map(|v| (v - top).exp()).sum::<f64>().ln() - y[label as usize]
    };
    inputs.iter().zip(labels).map(one).sum::<f64>() / labels.len() as f64
}

#[test]
fn gradients_are_those_of_f64_differences() {
    let Some(gpu) = common::device("gradients_are_those_of_f64_differences", true) else { return };
    for model in smooth_models() {
        let shape = model.graph.value(model.graph.input).shape[1..].to_vec();
        let (batch, len) = (6, shape.iter().product::<usize>());
        let mut random = Random::new(9);
        let inputs = random.floats(batch * len);
        let labels: Vec<u32> = (0..batch).map(|_| random.below(CLASSES) as u32).collect();
        let array = ArrayD::from_shape_vec(IxDyn(&[&[batch], &shape[..]].concat()), inputs.clone()).expect("inputs");
        let set =
            DeviceSet::new(gpu, &array, Labels::Classes { labels: labels.clone(), classes: CLASSES }).expect("a set");
        let options = ArrayOptions { slots: 2, batch, optimiser: Optimiser::sgd(), ..ArrayOptions::default() };
        let mut array = TrainingArray::new(gpu, &model, set, options).expect("an array");
        // With a rate of 1 and no momentum, a step takes the gradient away.
        let member = Member { seed: 3, optimiser: Optimiser::sgd(), learning_rate: 1.0, ..Member::default() };
        array.start(1, member).expect("a member");
        let before = array.export(1).expect("a graph");
        train(&mut array, 1);
        let after = array.export(1).expect("a graph");
        let samples: Vec<Vec<f64>> = inputs.chunks(len).map(|x| x.iter().map(|&v| f64::from(v)).collect()).collect();
        for parameter in &model.parameters {
            let name = model.name(parameter);
            let of =
                |graph: &wavehull::graph::Graph| graph.value(parameter.value).constant.clone().expect("a constant");
            let (w0, w1) = (of(&before), of(&after));
            let slices = (w0.as_slice().expect("dense").to_vec(), w1.as_slice().expect("dense").to_vec());
            for _ in 0..6 {
                let at = random.below(w0.len());
                // A power of two that f32 adds to the parameter exactly enough.
                let h = 2.0_f32.powi(-9);
                let moved = |by: f32| {
                    let mut changed = Model { graph: before.clone(), ..model.clone() };
                    let mut constant = (*w0).clone();
                    let slot = constant.as_slice_mut().expect("dense");
                    slot[at] += by;
                    let real = f64::from(slot[at]);
                    changed.graph.values[parameter.value.0].constant = Some(std::sync::Arc::new(constant));
                    (real, loss(&changed, &samples, &labels))
                };
                let ((x1, y1), (x0, y0)) = (moved(h), moved(-h));
                let wanted = (y1 - y0) / (x1 - x0);
                let found = f64::from(slices.0[at]) - f64::from(slices.1[at]);
                // h^2 times a third derivative of order 10; roundings of the weight, and of sums of hundreds of terms.
                let allowed =
                    10.0 * f64::from(h).powi(2) + 4e-7 * f64::from(slices.0[at]).abs() + 2e-5 * wanted.abs() + 2e-6;
                assert!(
                    (found - wanted).abs() <= allowed,
                    "{}: {name}[{at}]: {found:e}, f64 says {wanted:e}",
                    model.graph.name
                );
            }
        }
    }
}

/// Networks without kinks, whose differences are derivatives.
fn smooth_models() -> Vec<Model> {
    let mut all = Vec::new();
    let mut net = Builder::new("smooth conv", &[3, 7, 6]);
    let x = net.input();
    let x = net.conv2d(x, Conv2d { channels: 6, kernel: [3, 2], padding: [1, 0], stride: [2, 1], ..Conv2d::default() });
    let x = net.tanh(x);
    let x = net.group_norm(x, 3);
    let x = net.average_pool(x, 2);
    let x = net.gelu(x);
    let x = net.flatten(x);
    let x = net.linear(x, CLASSES);
    all.push(net.finish(x).expect("a model"));
    let mut net = Builder::new("smooth attention", &[5, 8]);
    let x = net.input();
    let y = net.layer_norm(x);
    let y = net.multi_head_attention(y, wavehull::train::Attention { heads: 2, causal: true, ..Default::default() });
    let x = net.add(x, y);
    let y = net.linear(x, 12);
    let y = net.gelu(y);
    let y = net.linear(y, 8);
    let x = net.add(x, y);
    let x = net.flatten(x);
    let x = net.linear(x, CLASSES);
    all.push(net.finish(x).expect("a model"));
    all
}

#[test]
fn what_does_not_fit_is_said() {
    let Some(gpu) = common::device("what_does_not_fit_is_said", true) else { return };
    let model = dense();
    let kind = |result: wavehull::Result<()>| result.err().map(|e| e.kind());
    let mut array = array(gpu, &model, 2);
    assert_eq!(kind(array.start(2, member(0))), Some(ErrorKind::BadInput), "no such slot");
    assert_eq!(kind(array.start(0, Member { learning_rate: -1.0, ..member(0) })), Some(ErrorKind::BadInput));
    assert_eq!(kind(array.start(0, Member { optimiser: Optimiser::sgd(), ..member(0) })), Some(ErrorKind::BadInput));
    assert_eq!(kind(array.snapshot(1).map(drop)), Some(ErrorKind::BadInput), "nobody is there");
    array.start(0, member(0)).expect("a member");
    let mut other = array.snapshot(0).expect("a snapshot");
    other.tables[0].pop();
    assert_eq!(kind(array.restore(1, &other)), Some(ErrorKind::BadInput), "of another model");
    let huge = ArrayOptions { slots: 1 << 22, ..options(1) };
    let error = TrainingArray::new(gpu, &model, data(gpu, &model), huge).expect_err("too many slots");
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert!(error.help().is_some_and(|help| help.contains("slots would fit")), "{error:?}");
    let _ = Augment::default();
    let _ = Loss::default();
}
