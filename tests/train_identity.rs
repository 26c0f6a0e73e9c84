//! A member of an array is, bit for bit, the member trained alone: every layer, optimiser and schedule, for 50 steps.
//!
//! Four kinds of occupants go round all slots: three healthy members with hyper-parameters of their own, and one of NaN.
#![cfg(feature = "train")]

mod common;

use common::Random;
use ndarray::{Array2, ArrayD, IxDyn};
use wavehull::train::{
    ArrayOptions, Attention, Builder, Certify, Conv1d, Conv2d, ConvTranspose2d, DeviceSet, Labels, Loss, Member, Model,
    Optimiser, Pool, Progress, Schedule, Snapshot, State, TrainingArray,
};
use wavehull::{Control, ErrorKind, Gpu};

const SAMPLES: usize = 24;
const BATCH: usize = 5;
const STEPS: u64 = 50;
const CLASSES: usize = 5;
/// Rows of the table of tokens.
const WORDS: usize = 11;

/// Convolutions with every kind of geometry, normalisations of images, pools.
fn images() -> Model {
    let mut net = Builder::new("images", &[3, 8, 7]);
    let x = net.input();
    let conv = |channels, kernel| Conv2d { channels, kernel, ..Conv2d::default() };
    let x = net.conv2d(x, Conv2d { padding: [1, 1], bias: false, ..conv(8, [3, 3]) });
    let x = net.batch_norm(x);
    let x = net.relu(x);
    let skip = x;
    let y = net.conv2d(x, Conv2d { padding: [1, 1], groups: 8, ..conv(8, [3, 3]) });
    let y = net.leaky_relu(y, 0.1);
    let y = net.conv2d(y, Conv2d { padding: [2, 1], dilation: [2, 1], groups: 2, ..conv(8, [3, 3]) });
    let y = net.group_norm(y, 4);
    let x = net.add(y, skip);
    let x = net.gelu(x);
    let pooled = net.max_pool_with(x, Pool { kernel: [3, 2], stride: [2, 2], padding: [1, 1] });
    let mean = net.average_pool_with(x, Pool { kernel: [3, 2], stride: [2, 2], padding: [1, 1] });
    let x = net.concat(&[pooled, mean], 0);
    let x = net.conv2d(x, Conv2d { stride: [2, 1], padding: [0, 1], ..conv(6, [2, 3]) });
    let x = net.dropout(x, 0.2);
    let x = net.adaptive_average_pool(x, [1, 2]);
    let x = net.flatten(x);
    let x = net.linear(x, CLASSES);
    net.finish(x).expect("a model")
}

/// A transposed convolution, and pools over everything.
fn transposed() -> Model {
    let mut net = Builder::new("transposed", &[2, 3, 4]);
    let x = net.input();
    let up = ConvTranspose2d { channels: 5, stride: [2, 2], padding: [1, 1], ..ConvTranspose2d::default() };
    let x = net.conv_transpose2d(x, up);
    let x = net.batch_norm(x);
    let x = net.relu(x);
    let up = ConvTranspose2d {
        channels: 4,
        kernel: [3, 2],
        stride: [1, 2],
        output_padding: [0, 1],
        ..ConvTranspose2d::default()
    };
    let x = net.conv_transpose2d(x, up);
    let x = net.tanh(x);
    let most = net.global_max_pool(x);
    let mean = net.global_average_pool(x);
    let x = net.concat(&[most, mean], 0);
    let x = net.linear(x, CLASSES);
    net.finish(x).expect("a model")
}

/// Words, attention, convolutions of sequences.
fn sequences() -> Model {
    let mut net = Builder::new("sequences", &[6]);
    let x = net.input();
    let x = net.embedding_with_padding(x, WORDS, 8, 3);
    let x = net.positions(x);
    let y = net.layer_norm(x);
    let y = net.multi_head_attention(y, Attention { heads: 2, causal: true, dropout: 0.1 });
    let x = net.add(x, y);
    let y = net.multi_head_attention(x, Attention { heads: 4, causal: false, dropout: 0.0 });
    let x = net.add(x, y);
    let y = net.linear(x, 10);
    let y = net.gelu(y);
    let y = net.linear(y, 8);
    let x = net.add(x, y);
    let x = net.transpose(x, &[1, 0]);
    let x = net.conv1d(x, Conv1d { channels: 6, stride: 2, padding: 1, ..Conv1d::default() });
    let x = net.batch_norm(x);
    let x = net.relu(x);
    let x = net.conv1d(x, Conv1d { channels: 8, kernel: 2, dilation: 2, ..Conv1d::default() });
    let x = net.group_norm(x, 2);
    let x = net.flatten(x);
    let x = net.linear(x, CLASSES);
    net.finish(x).expect("a model")
}

/// Layers of vectors, and everything that moves or joins them.
fn dense() -> Model {
    let mut net = Builder::new("dense", &[7]);
    let x = net.input();
    let x = net.linear(x, 18);
    let x = net.batch_norm(x);
    let x = net.sigmoid(x);
    let y = net.linear_without_bias(x, 18);
    let y = net.tanh(y);
    let x = net.mul(x, y);
    let x = net.scale(x, 1.5);
    let x = net.reshape(x, &[3, 6]);
    let y = net.transpose(x, &[1, 0]);
    let y = net.softmax(y);
    let x = net.matmul(x, y);
    let x = net.flatten(x);
    let x = net.dropout(x, 0.3);
    let x = net.linear(x, 9);
    let x = net.relu(x);
    let x = net.linear(x, CLASSES);
    net.finish(x).expect("a model")
}

/// Layers that bounds go through.
fn bounded() -> Model {
    let mut net = Builder::new("bounded", &[3, 6, 5]);
    let x = net.input();
    let x = net.conv2d(x, Conv2d { channels: 6, padding: [1, 0], stride: [2, 1], ..Conv2d::default() });
    let x = net.relu(x);
    let x = net.flatten(x);
    let x = net.linear(x, 18);
    let x = net.relu(x);
    let x = net.linear(x, CLASSES);
    net.finish(x).expect("a model")
}

fn data(gpu: &Gpu, model: &Model, loss: Loss) -> DeviceSet {
    let shape = model.graph.value(model.graph.input).shape[1..].to_vec();
    let mut random = Random::new(5);
    let len: usize = shape.iter().product();
    let words = model.graph.name == "sequences";
    let values = if words {
        (0..SAMPLES * len).map(|_| random.below(WORDS) as f32).collect()
    } else {
        random.floats(SAMPLES * len)
    };
    let inputs = ArrayD::from_shape_vec(IxDyn(&[&[SAMPLES], &shape[..]].concat()), values).expect("inputs");
    let labels = match loss {
        Loss::CrossEntropy { .. } | Loss::Certified => {
            Labels::Classes { labels: (0..SAMPLES).map(|_| random.below(CLASSES) as u32).collect(), classes: CLASSES }
        }
        _ => {
            let values = (0..SAMPLES * CLASSES).map(|_| random.below(2) as f32).collect();
            Labels::Values(Array2::from_shape_vec((SAMPLES, CLASSES), values).expect("values"))
        }
    };
    DeviceSet::new(gpu, &inputs, labels).expect("a set")
}

/// A network, the optimisers of its three kinds of members (the first has the most state), and what is minimised.
struct Case {
    model: Model,
    optimisers: [Optimiser; 3],
    loss: Loss,
    number: usize,
}

fn sgd() -> [Optimiser; 3] {
    let of =
        |momentum, dampening, nesterov, weight_decay| Optimiser::Sgd { momentum, dampening, nesterov, weight_decay };
    [of(0.9, 0.1, false, 1e-3), of(0.8, 0.0, true, 1e-2), of(0.0, 0.0, false, 1e-3)]
}

fn adam() -> [Optimiser; 3] {
    let adam = |beta1, weight_decay| Optimiser::Adam { beta1, beta2: 0.99, eps: 1e-8, weight_decay };
    [adam(0.9, 0.0), Optimiser::adam_w(), adam(0.7, 1e-2)]
}

fn rms_prop() -> [Optimiser; 3] {
    let of = |momentum, weight_decay| Optimiser::RmsProp { alpha: 0.95, eps: 1e-6, momentum, weight_decay };
    [of(0.5, 0.0), of(0.0, 1e-3), of(0.8, 1e-2)]
}

impl Case {
    fn schedule(&self, kind: usize) -> Schedule {
        let step = Schedule::Step { every: 9, factor: 0.5 };
        match (self.number * 3 + kind) % 5 {
            0 => Schedule::Constant,
            1 => step,
            2 => Schedule::Cosine { steps: 40, least: 1e-5 },
            3 => Schedule::WarmUp { steps: 6, then: Box::new(step) },
            _ => Schedule::OneCycle { steps: STEPS },
        }
    }

    fn member(&self, kind: usize) -> Member {
        let learning_rate = 2e-3 * (1.0 + kind as f64);
        let (optimiser, schedule) = (self.optimisers[kind], self.schedule(kind));
        let clip = (kind == 1).then_some(0.3);
        // Boxes of another size for each kind, which grow at other times.
        let (radius, start) = (0.03 * (1 + kind) as f64, 4 * kind as u64);
        let certify = Certify { radius, start, ramp: 25, kappa: 0.2 * (1 + kind) as f64, judged: None };
        let certify = (self.loss == Loss::Certified).then_some(certify);
        Member { seed: 70 + kind as u64, optimiser, learning_rate, schedule, clip, certify, steps: None }
    }

    fn options(&self, slots: usize) -> ArrayOptions {
        let (loss, optimiser) = (self.loss, self.optimisers[0]);
        ArrayOptions { slots, batch: BATCH, loss, optimiser, clip: true, turns: 7, ..ArrayOptions::default() }
    }

    fn array_with(&self, gpu: &Gpu, options: ArrayOptions) -> TrainingArray {
        let made = TrainingArray::new(gpu, &self.model, data(gpu, &self.model, self.loss), options);
        made.unwrap_or_else(|error| panic!("{}: {error}", self.model.graph.name))
    }

    fn array(&self, gpu: &Gpu, slots: usize) -> TrainingArray {
        self.array_with(gpu, self.options(slots))
    }

    /// What a member is after [`STEPS`] steps with nobody else there, and its losses.
    fn alone(&self, gpu: &Gpu, kind: usize, options: ArrayOptions) -> Alone {
        let mut array = self.array_with(gpu, options);
        array.start(0, self.member(kind)).expect("a member");
        let losses = train(&mut array, STEPS).iter().map(|p| p.loss.to_bits()).collect();
        let snapshot = array.snapshot(0).expect("a snapshot");
        assert_eq!((snapshot.step, snapshot.state), (STEPS, State::Running), "{}", self.model.graph.name);
        Alone { snapshot, losses }
    }

    /// Puts a member of NaN into a slot: by its weights, or by a step that is too long.
    fn poison(&self, array: &mut TrainingArray, slot: usize) {
        array.start(slot, Member { learning_rate: 3e38, clip: None, ..self.member(0) }).expect("a member");
        if slot.is_multiple_of(2) {
            let mut snapshot = array.snapshot(slot).expect("a snapshot");
            snapshot.tables.iter_mut().flatten().for_each(|v| *v = f32::NAN);
            array.restore(slot, &snapshot).expect("restored");
        }
    }
}

struct Alone {
    snapshot: Snapshot,
    losses: Vec<u32>,
}

fn train(array: &mut TrainingArray, steps: u64) -> Vec<Progress> {
    let mut seen = Vec::new();
    array.run(steps, &Control::default(), &mut |p| seen.push(p)).expect("steps");
    seen
}

impl Alone {
    /// The first difference, if there is one.
    fn differs(&self, tables: &[Vec<f32>]) -> Option<String> {
        for (number, (found, wanted)) in tables.iter().zip(&self.snapshot.tables).enumerate() {
            let other = found.iter().zip(wanted).position(|(a, b)| a.to_bits() != b.to_bits());
            if other.is_some() || found.len() != wanted.len() {
                return Some(format!("table {number} differs from word {other:?} of {} on", wanted.len()));
            }
        }
        (tables.len() != self.snapshot.tables.len()).then(|| "another number of tables".to_owned())
    }

    fn check(&self, array: &TrainingArray, slot: usize, what: &str) {
        let snapshot = array.snapshot(slot).expect("a snapshot");
        assert_eq!(snapshot.step, self.snapshot.step, "{what}: slot {slot}");
        let difference = self.differs(&snapshot.tables);
        assert!(difference.is_none(), "{what}: slot {slot}: {}", difference.unwrap_or_default());
    }
}

/// All slots of an array of `slots`, filled with the kinds in turn.
fn in_company(gpu: &Gpu, case: &Case, alone: &[Alone], slots: usize) {
    let mut array = case.array(gpu, slots);
    let kind = |slot: usize| (slot + slots + case.number) % 4;
    for slot in 0..slots {
        match kind(slot) {
            3 => case.poison(&mut array, slot),
            kind => array.start(slot, case.member(kind)).expect("a member"),
        }
    }
    let seen = train(&mut array, STEPS);
    let what = format!("{}, {slots} slots", case.model.graph.name);
    let poisoned = (0..slots).filter(|&slot| kind(slot) == 3 && slot.is_multiple_of(2));
    poisoned.for_each(|slot| assert_eq!(array.state(slot).map(|s| s.0), Some(State::Diverged), "{what}: slot {slot}"));
    for slot in (0..slots).filter(|&slot| kind(slot) < 3) {
        let alone = &alone[kind(slot)];
        alone.check(&array, slot, &what);
        let losses: Vec<u32> = seen.iter().filter(|p| p.slot == slot).map(|p| p.loss.to_bits()).collect();
        assert_eq!(losses, alone.losses, "{what}: losses of slot {slot}");
    }
}

/// A member ends, another is replaced half-way, a third is a clone, and one moves to another array.
fn come_and_go(gpu: &Gpu, case: &Case, alone: &[Alone]) {
    let name = &case.model.graph.name;
    let mut array = case.array(gpu, 4);
    array.start(0, Member { steps: Some(STEPS), ..case.member(0) }).expect("a member");
    array.start(1, case.member(1)).expect("a member");
    case.poison(&mut array, 2);
    train(&mut array, 20);
    let before = array.snapshot(1).expect("a snapshot");
    array.start(1, case.member(2)).expect("another member");
    array.copy(0, 3, None).expect("a clone");
    train(&mut array, STEPS);
    assert_eq!(array.state(0), Some((State::Finished, STEPS)), "{name}");
    alone[0].check(&array, 0, &format!("{name}: one that finished before others"));
    alone[2].check(&array, 1, &format!("{name}: one that came half-way"));
    alone[0].check(&array, 3, &format!("{name}: a clone"));
    let mut other = case.array_with(gpu, ArrayOptions { turns: 16, ..case.options(3) });
    other.restore(2, &before).expect("restored");
    case.poison(&mut other, 0);
    train(&mut other, STEPS - 20);
    alone[1].check(&other, 2, &format!("{name}: one that moved to another array, in turns of 16"));
    let mut single = case.array_with(gpu, ArrayOptions { turns: 1, ..case.options(2) });
    single.start(1, case.member(1)).expect("a member");
    train(&mut single, STEPS);
    alone[1].check(&single, 1, &format!("{name}: turn by turn"));
}

fn check(test: &str, case: &Case) {
    let Some(gpu) = common::device(test, true) else { return };
    let alone: Vec<Alone> = (0..3).map(|kind| case.alone(gpu, kind, case.options(1))).collect();
    assert!(alone[0].differs(&alone[1].snapshot.tables).is_some(), "members of unlike seeds must differ");
    [2, 7, 32].into_iter().for_each(|slots| in_company(gpu, case, &alone, slots));
    come_and_go(gpu, case, &alone);
}

#[test]
fn layers_of_images_are_the_same_in_company() {
    let (model, optimisers) = (images(), adam());
    check("layers_of_images_are_the_same_in_company", &Case { model, optimisers, loss: Loss::default(), number: 0 });
}

#[test]
fn transposed_convolutions_and_global_pools_are_the_same_in_company() {
    let case = Case { model: transposed(), optimisers: rms_prop(), loss: Loss::BinaryLogits, number: 1 };
    check("transposed_convolutions_and_global_pools_are_the_same_in_company", &case);
}

#[test]
fn layers_of_sequences_are_the_same_in_company() {
    let loss = Loss::CrossEntropy { smoothing: 0.1 };
    let case = Case { model: sequences(), optimisers: sgd(), loss, number: 2 };
    check("layers_of_sequences_are_the_same_in_company", &case);
}

#[test]
fn layers_of_vectors_are_the_same_in_company_with_every_optimiser() {
    let test = "layers_of_vectors_are_the_same_in_company_with_every_optimiser";
    for (index, optimisers) in [adam(), sgd(), rms_prop()].into_iter().enumerate() {
        check(test, &Case { model: dense(), optimisers, loss: Loss::MeanSquare, number: 3 + index });
    }
}

#[test]
fn certified_members_are_the_same_in_company() {
    let case = Case { model: bounded(), optimisers: adam(), loss: Loss::Certified, number: 7 };
    check("certified_members_are_the_same_in_company", &case);
}

#[test]
fn room_for_more_state_changes_nothing() {
    let Some(gpu) = common::device("room_for_more_state_changes_nothing", true) else { return };
    let case = Case { model: dense(), optimisers: sgd(), loss: Loss::default(), number: 6 };
    // The third kind has no momentum.
    let own = ArrayOptions { optimiser: case.optimisers[2], ..case.options(1) };
    let (with, without) = (case.alone(gpu, 2, case.options(1)), case.alone(gpu, 2, own));
    assert_eq!((with.losses, without.snapshot.tables.len()), (without.losses, 2));
    let mut tables = with.snapshot.tables;
    tables.remove(1);
    assert_eq!(tables, without.snapshot.tables);
}

#[test]
fn sub_arrays_are_the_same() {
    let Some(gpu) = common::device("sub_arrays_are_the_same", true) else { return };
    let case = Case { model: images(), optimisers: adam(), loss: Loss::default(), number: 0 };
    let alone: Vec<Alone> = (0..3).map(|kind| case.alone(gpu, kind, case.options(1))).collect();
    const SLOTS: usize = 21;
    let memory = case.array(gpu, 1).memory();
    let mut options = wavehull::Options::default();
    options.checked = true;
    // Room for the tables of all, and for passes of a few at once.
    options.memory_budget = Some((memory.tables * SLOTS as u64 + memory.data + memory.pass * 5).max(1 << 20) * 10 / 8);
    let small = Gpu::open(&options).expect("a device");
    let mut array = case.array_with(&small, case.options(SLOTS));
    assert!(array.memory().slots_at_once < SLOTS, "{:?}", array.memory());
    for slot in 0..SLOTS {
        if slot % 4 == 3 {
            case.poison(&mut array, slot);
        } else {
            array.start(slot, case.member(slot % 4)).expect("a member");
        }
    }
    train(&mut array, STEPS);
    (0..SLOTS).filter(|slot| slot % 4 < 3).for_each(|slot| alone[slot % 4].check(&array, slot, "sub-arrays"));
}

#[test]
fn an_order_that_all_share_is_the_same_in_company() {
    let Some(gpu) = common::device("an_order_that_all_share_is_the_same_in_company", true) else { return };
    let case = Case { model: dense(), optimisers: adam(), loss: Loss::default(), number: 1 };
    let options = |slots| ArrayOptions { shared_order: Some(9), ..case.options(slots) };
    let alone: Vec<Alone> = (0..3).map(|kind| case.alone(gpu, kind, options(1))).collect();
    let mut array = case.array_with(gpu, options(4));
    case.poison(&mut array, 0);
    (0..3).for_each(|kind| array.start(kind + 1, case.member(kind)).expect("a member"));
    train(&mut array, STEPS);
    (0..3).for_each(|kind| alone[kind].check(&array, kind + 1, "a shared order"));
    // One of another age would see other samples than alone.
    array.start(1, case.member(0)).expect("a member");
    let error = array.run(1, &Control::default(), &mut |_| {}).expect_err("ages differ");
    assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
}

#[test]
fn a_row_of_padding_stays_zero() {
    let Some(gpu) = common::device("a_row_of_padding_stays_zero", true) else { return };
    let case = Case { model: sequences(), optimisers: adam(), loss: Loss::default(), number: 1 };
    let mut array = case.array(gpu, 1);
    array.start(0, case.member(1)).expect("a member");
    for _ in 0..2 {
        let graph = array.export(0).expect("a graph");
        let table = case.model.parameters.iter().find(|p| case.model.name(p) == "embedding1.weight").expect("a table");
        let rows = graph.value(table.value).constant.clone().expect("a constant");
        for (number, row) in rows.outer_iter().enumerate() {
            assert_eq!(row.iter().all(|v| v.to_bits() == 0), number == 3, "row {number}: {row}");
        }
        train(&mut array, 30);
    }
}
