//! Machines: the SCNN-like array on the device against the literal simulation, and costs as one batch.
#![cfg(feature = "pack")]

mod common;

use common::Random;
use wavehull::pack::machine::scnn::{self, Run, Scnn};
use wavehull::pack::machine::{Array, Cost, Idle, Machine, Question, Stored, costs};
use wavehull::pack::{Element, Kind, Layer, Shape, Values};
use wavehull::{Control, ErrorKind, Gpu};

const CONV: Shape = Shape {
    input: [6, 6, 3],
    filter: [3, 3],
    filters: 5,
    stride: [1, 1],
    padding: [1; 4],
    dilation: [1, 1],
    groups: 1,
};

fn bytes(random: &mut Random, n: usize, percent: usize) -> Vec<u8> {
    (0..n).map(|_| if random.below(100) < percent { 1 + random.below(255) as u8 } else { 0 }).collect()
}

/// A layer with so many percent of its values non-zero.
fn layer(shape: Shape, percent: [usize; 2], seed: u64) -> Layer {
    let mut random = Random::new(seed);
    let depth = shape.input[2] / shape.groups;
    let filters = [shape.filters, shape.filter[0], shape.filter[1], depth];
    let weights = bytes(&mut random, filters.iter().product(), percent[0]);
    let inputs = bytes(&mut random, shape.input.iter().product(), percent[1]);
    Layer {
        name: format!("layer {seed}"),
        shape,
        weights: Some(Values::from_bytes("w", Kind::Weights, Element::I8, &filters, weights).unwrap()),
        inputs: vec![Values::from_bytes("x", Kind::Activations, Element::I8, &shape.input, inputs).unwrap()],
        outputs: Vec::new(),
    }
}

/// On the checked device and the trusted one.
fn on_both(test: &str, body: impl Fn(&Gpu)) {
    for checked in [true, false] {
        if let Some(gpu) = common::device(test, checked) {
            body(gpu);
        }
    }
}

fn whole(run: &Run, array: Scnn) -> bool {
    let idle = run.idle.partial_blocks + run.idle.bank_conflicts + run.idle.imbalance + run.idle.halos;
    run.products + idle == array.multipliers() * run.cycles
}

/// The case of docs/machines.md.
fn by_hand() -> (Scnn, Layer, Run) {
    let array = Scnn { rows: 1, columns: 2, accumulators: 8, banks: 32 };
    let shape = Shape { input: [2, 4, 1], filter: [1, 2], filters: 2, padding: [0; 4], ..CONV };
    let weights = Values::from_bytes("w", Kind::Weights, Element::I8, &[2, 1, 2, 1], vec![1, 1, 0, 1]).unwrap();
    let inputs =
        Values::from_bytes("x", Kind::Activations, Element::I8, &[2, 4, 1], vec![1, 0, 2, 0, 4, 5, 0, 6]).unwrap();
    let layer =
        Layer { name: "by hand".into(), shape, weights: Some(weights), inputs: vec![inputs], outputs: Vec::new() };
    let idle = Idle { partial_blocks: 22, bank_conflicts: 16, imbalance: 16, halos: 128 };
    let run = Run {
        cycles: 6,
        products: 10,
        multiplies: 15,
        steps: 2,
        idle,
        weight_reads: 6,
        input_reads: 5,
        weights: 3,
        inputs: 5,
    };
    (array, layer, run)
}

#[test]
fn a_layer_worked_by_hand() {
    let (array, layer, expected) = by_hand();
    assert_eq!(scnn::literal(array, &layer, 0).unwrap(), expected);
    assert!(whole(&expected, array));
    on_both("a_layer_worked_by_hand", |gpu| {
        assert_eq!(scnn::run(gpu, array, &layer, 0, &Control::default()).unwrap(), expected);
    });
}

/// Full blocks and one bank: each step takes 16 cycles.
#[test]
fn a_single_bank_takes_a_cycle_a_product() {
    let array = Scnn { rows: 1, columns: 1, accumulators: 64, banks: 1 };
    let shape = Shape { input: [4, 4, 1], filter: [1, 1], filters: 4, padding: [0; 4], ..CONV };
    let layer = layer(shape, [100, 100], 1);
    let run = scnn::literal(array, &layer, 0).unwrap();
    assert_eq!((run.steps, run.cycles, run.products, run.idle.bank_conflicts), (4, 64, 64, 60 * 16));
    on_both("a_single_bank_takes_a_cycle_a_product", |gpu| {
        assert_eq!(scnn::run(gpu, array, &layer, 0, &Control::default()).unwrap(), run);
    });
}

/// Shapes that cross elements, blocks, phases and groups, and those that are folded.
fn shapes() -> Vec<Shape> {
    let plain = Shape { padding: [0; 4], ..CONV };
    vec![
        CONV,
        Shape { input: [13, 9, 4], filters: 24, ..CONV },
        Shape { input: [17, 19, 2], filter: [5, 3], stride: [2, 3], padding: [2, 1, 2, 1], filters: 9, ..CONV },
        Shape { input: [11, 11, 2], filter: [2, 2], stride: [3, 3], padding: [1, 0, 0, 1], filters: 7, ..CONV },
        Shape { input: [12, 7, 2], dilation: [2, 3], padding: [2, 3, 2, 3], ..CONV },
        Shape { input: [9, 9, 3], dilation: [3, 1], stride: [2, 2], padding: [5, 0, 4, 2], ..CONV },
        // Depthwise, with more filters than channels, and grouped.
        Shape { input: [8, 8, 6], filters: 6, groups: 6, ..CONV },
        Shape { input: [8, 8, 3], filters: 6, groups: 3, stride: [2, 2], ..CONV },
        Shape { input: [10, 6, 8], filters: 12, groups: 2, ..CONV },
        // 1x1, also strided; wider than a workgroup's share of anything.
        Shape { input: [14, 14, 9], filter: [1, 1], filters: 33, ..plain },
        Shape { input: [15, 15, 3], filter: [1, 1], filters: 4, stride: [2, 2], ..plain },
        Shape { input: [40, 3, 2], filter: [3, 1], filters: 3, ..plain },
        // Dense: one place, and rows.
        Shape::dense(1, 5, 3),
        Shape::dense(1, 256, 10),
        Shape::dense(1, 300, 37),
        Shape::dense(1, 1, 1),
        Shape::dense(37, 20, 11),
        Shape::dense(2, 3, 4),
        // A filter that does not fit, and one that covers the map.
        Shape { input: [2, 2, 3], padding: [0; 4], ..CONV },
        Shape { input: [7, 7, 2], filter: [7, 7], ..plain },
    ]
}

const ARRAYS: [Scnn; 4] = [
    Scnn { rows: 2, columns: 3, accumulators: 64, banks: 32 },
    Scnn { rows: 1, columns: 1, accumulators: 16, banks: 8 },
    Scnn { rows: 9, columns: 8, accumulators: 1, banks: 1 },
    Scnn::PUBLISHED,
];

#[test]
fn the_device_is_the_literal_simulation() {
    on_both("the_device_is_the_literal_simulation", |gpu| {
        let mut layers = Vec::new();
        for (i, shape) in shapes().into_iter().enumerate() {
            for (j, percent) in [[0, 50], [50, 0], [100, 100], [35, 60], [5, 10]].into_iter().enumerate() {
                layers.push(layer(shape, percent, (10 * i + j) as u64));
            }
        }
        let jobs: Vec<(Scnn, &Layer, usize)> =
            layers.iter().enumerate().map(|(i, layer)| (ARRAYS[i / 2 % ARRAYS.len()], layer, 0)).collect();
        let runs = pollster::block_on(scnn::runs_async(gpu, &jobs, &Control::default())).unwrap();
        for (&(array, layer, _), run) in jobs.iter().zip(&runs) {
            let expected = scnn::literal(array, layer, 0).unwrap();
            assert_eq!(*run, expected, "{} {:?} on {array:?}", layer.name, layer.shape);
            assert!(whole(run, array), "{run:?}");
            // Alone it is what it is in company.
            if layer.name.ends_with('3') {
                assert_eq!(scnn::run(gpu, array, layer, 0, &Control::default()).unwrap(), expected);
            }
        }
    });
}

/// Lists and counts of 2048 channels by 16 filter groups on 256 elements are more than goes to the device at once.
#[test]
fn a_layer_in_several_pieces() {
    let array = Scnn { rows: 16, columns: 16, accumulators: 1, banks: 32 };
    let shape = Shape { input: [3, 5, 2048], filter: [1, 1], filters: 16, padding: [0; 4], ..CONV };
    let (large, small) = (layer(shape, [60, 60], 11), layer(CONV, [50, 50], 12));
    let expected = [&large, &small].map(|layer| scnn::literal(array, layer, 0).unwrap());
    if let Some(gpu) = common::device("a_layer_in_several_pieces", false) {
        let jobs = [(array, &large, 0), (array, &small, 0)];
        assert_eq!(pollster::block_on(scnn::runs_async(gpu, &jobs, &Control::default())).unwrap(), expected);
    }
}

/// Lists so long that no single invocation may walk them: llvmpipe would leave its loops early, without a word.
#[test]
fn long_lists_are_walked_to_their_end() {
    let Some(gpu) = common::device("long_lists_are_walked_to_their_end", false) else { return };
    let one = Scnn { rows: 1, columns: 1, accumulators: 1 << 20, banks: 32 };
    let pointwise = Shape { filter: [1, 1], padding: [0; 4], ..CONV };
    for (array, shape) in [
        // Many blocks of weights, of activations, and of both.
        (Scnn::PUBLISHED, Shape::dense(1, 300, 2100)),
        (one, Shape { input: [160, 160, 1], filters: 9, ..pointwise }),
        (one, Shape { input: [300, 300, 1], filters: 2, ..pointwise }),
        (one, Shape { input: [40, 40, 1], filters: 900, stride: [2, 2], ..pointwise }),
    ] {
        let layer = layer(shape, [100, 100], 77);
        let expected = scnn::literal(array, &layer, 0).unwrap();
        assert_eq!(scnn::run(gpu, array, &layer, 0, &Control::default()).unwrap(), expected, "{shape:?}");
    }
}

#[test]
fn random_layers_on_random_arrays() {
    on_both("random_layers_on_random_arrays", |gpu| {
        let mut random = Random::new(7);
        for seed in 0..60 {
            let groups = 1 + random.below(2);
            let mut up_to = |n| 1 + random.below(n);
            let shape = Shape {
                input: [up_to(20), up_to(20), groups * up_to(4)],
                filter: [up_to(4), up_to(4)],
                filters: groups * up_to(14),
                stride: [up_to(3), up_to(3)],
                padding: [up_to(4) - 1, up_to(4) - 1, up_to(4) - 1, up_to(4) - 1],
                dilation: [up_to(2), up_to(2)],
                groups,
            };
            let array =
                Scnn { rows: up_to(9), columns: up_to(9), accumulators: up_to(200), banks: 1 << (up_to(6) - 1) };
            let layer = layer(shape, [up_to(100), up_to(100)], seed);
            let expected = scnn::literal(array, &layer, 0).unwrap();
            assert_eq!(
                scnn::run(gpu, array, &layer, 0, &Control::default()).unwrap(),
                expected,
                "{shape:?} on {array:?}"
            );
        }
    });
}

#[test]
fn types_and_layouts_of_values() {
    let depthwise = Shape { input: [6, 5, 4], filters: 8, groups: 4, ..CONV };
    let plain = layer(depthwise, [70, 70], 3);
    // The same weights as one filter of all channels.
    let codes = |i: usize| plain.weights.as_ref().unwrap().code(i) as u8;
    let turned = (0..9 * 8).map(|i| codes(i % 8 * 9 + i / 8)).collect();
    let turned = Values::from_bytes("w", Kind::Weights, Element::I8, &[1, 3, 3, 8], turned).unwrap();
    let other = Layer { weights: Some(turned), ..plain.clone() };
    // Both zeros of floating-point values are zeros.
    let halves = |values: &Values, name: &str| {
        let halves =
            (0..values.len()).map(|i| if values.code(i) == 0 { (i as u16 & 1) << 15 } else { 0x3c00 }).collect();
        Values::from_halves(name, values.kind(), Element::F16, values.shape(), halves).unwrap()
    };
    let float = Layer {
        weights: plain.weights.as_ref().map(|w| halves(w, "w")),
        inputs: plain.inputs.iter().map(|x| halves(x, "x")).collect(),
        ..plain.clone()
    };
    let expected = scnn::literal(ARRAYS[0], &plain, 0).unwrap();
    for same in [&other, &float] {
        assert_eq!(scnn::literal(ARRAYS[0], same, 0).unwrap(), expected);
    }
    on_both("types_and_layouts_of_values", |gpu| {
        for same in [&plain, &other, &float] {
            assert_eq!(scnn::run(gpu, ARRAYS[0], same, 0, &Control::default()).unwrap(), expected);
        }
    });
}

#[test]
fn what_cannot_be_simulated_is_said() {
    let whole = layer(CONV, [50, 50], 1);
    let table = Layer { weights: None, ..whole.clone() };
    let other = Layer { inputs: layer(Shape { input: [6, 5, 3], ..CONV }, [50, 50], 1).inputs, ..whole.clone() };
    let groups = Layer { shape: Shape { groups: 2, ..CONV }, ..whole.clone() };
    for (layer, sample, kind, what) in [
        (&table, 0, ErrorKind::BadInput, "has no weights"),
        (&whole, 1, ErrorKind::BadInput, "has no input map"),
        (&other, 0, ErrorKind::BadInput, "do not fit it"),
        (&groups, 0, ErrorKind::BadInput, "do not fit it"),
    ] {
        let error = scnn::literal(Scnn::PUBLISHED, layer, sample).unwrap_err();
        assert!(error.kind() == kind && error.message().contains(what), "{error}");
    }
    let steep = layer(Shape { stride: [90, 90], ..CONV }, [50, 50], 1);
    assert!(scnn::literal(Scnn::PUBLISHED, &steep, 0).unwrap_err().message().contains("lists of values"));
    let wide = layer(Shape { input: [1, 17_000, 1], filter: [1, 2], ..CONV }, [50, 50], 1);
    assert!(scnn::literal(Scnn::PUBLISHED, &wide, 0).unwrap_err().message().contains("too large to simulate"));
    let odd = Scnn { banks: 24, ..Scnn::PUBLISHED };
    assert!(scnn::literal(odd, &whole, 0).unwrap_err().message().contains("24 accumulator banks"));
    let machine = Machine::parse(include_str!("../examples/machines/scnn.toml")).unwrap();
    let error = machine.cost(None, &table, &Stored::default(), &Control::default()).unwrap_err();
    assert!(error.help().is_some_and(|help| help.contains("weights, and inputs")), "{error}");
}

fn machines() -> Vec<Machine> {
    ["tpu", "tensorcore", "scnn"]
        .iter()
        .map(|name| Machine::read(format!("examples/machines/{name}.toml").as_ref()).unwrap())
        .collect()
}

fn plain(layer: &Layer) -> Stored {
    let shape = &layer.shape;
    let input: usize = shape.input.iter().product();
    let [weights, inputs, outputs] = [shape.weights(), input, shape.places() * shape.filters].map(|n| 8 * n as u64);
    Stored { weights, inputs, outputs }
}

#[test]
fn costs_follow_what_is_stored() {
    let layer = layer(Shape { input: [14, 14, 16], filters: 24, ..CONV }, [40, 60], 5);
    let full = plain(&layer);
    let half = Stored { weights: full.weights / 2, inputs: full.inputs / 2, outputs: full.outputs / 2 };
    for machine in machines() {
        let cost = |stored: &Stored| machine.cost(None, &layer, stored, &Control::default()).unwrap();
        let (a, b) = (cost(&full), cost(&half));
        // Cycles of the array are the values'; memory and its energy follow what is stored.
        assert_eq!(a.compute_cycles, b.compute_cycles);
        assert_eq!(a.idle, b.idle);
        assert_eq!(a.energy.arithmetic, b.energy.arithmetic);
        assert!(b.stall_cycles <= a.stall_cycles, "{}: {a:?}\n{b:?}", machine.name());
        assert!(b.energy.buffers < a.energy.buffers && b.energy.dram < a.energy.dram);
        assert!(b.buffer_reads.weights < a.buffer_reads.weights);
        assert_eq!(a.dram_reads.weights, full.weights as f64);
        assert!((0.0..=1.0).contains(&a.utilisation) && a.utilisation > 0.0);
        assert_eq!(a.idle.is_some(), machine.needs_values());
        assert!(a.energy.codec == 0.0 && a.energy.codec.is_sign_positive());
        // A price on decoding is paid where something is coded.
        let mut priced = machine.clone();
        priced.energy.overrides.codec_per_value = Some(1.0);
        assert_eq!(priced.cost(None, &layer, &full, &Control::default()).unwrap().energy.codec, 0.0);
        let coded = priced.cost(None, &layer, &half, &Control::default()).unwrap();
        assert!(coded.energy.codec > (layer.shape.places() * 24) as f64);
    }
}

#[test]
fn absurd_layers_are_refused_and_large_ones_answered() {
    let table =
        |shape: Shape| Layer { name: "t".into(), shape, weights: None, inputs: Vec::new(), outputs: Vec::new() };
    let control = Control::default();
    let stored = Stored { weights: 1 << 40, inputs: 1 << 40, outputs: 1 << 40 };
    for machine in &machines()[..2] {
        for shape in [
            Shape { input: [usize::MAX; 3], ..CONV },
            Shape { input: [1 << 29, 1 << 29, 1], ..CONV },
            Shape { filters: 1 << 29, ..CONV },
            Shape { filter: [1 << 20; 2], padding: [1 << 20; 4], ..CONV },
            Shape { input: [2000, 2000, 1 << 29], ..CONV },
        ] {
            let error = machine.cost(None, &table(shape), &stored, &control).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        let start = std::time::Instant::now();
        for shape in [
            Shape { input: [2048, 2048, 3], filter: [7, 7], padding: [3; 4], filters: 64, ..CONV },
            Shape::dense(1, 25_088, 4096),
            Shape::dense(32_768, 512, 32_768),
            Shape { stride: [0, 0], dilation: [0, 0], groups: 0, ..CONV },
            Shape { groups: 7, ..CONV },
            Shape { filters: 0, ..CONV },
        ] {
            let layer = table(shape);
            let cost = machine.cost(None, &layer, &plain(&layer), &control).unwrap();
            assert!(cost.energy.total().is_finite());
        }
        assert!(start.elapsed().as_secs() < 60);
    }
}

#[test]
fn a_vector_grid_pays_for_rows() {
    let layer = layer(Shape { input: [5, 5, 20], filters: 24, ..CONV }, [100, 100], 9);
    let machine = &machines()[1];
    let cost = machine.cost(None, &layer, &plain(&layer), &Control::default()).unwrap();
    assert_eq!(cost.compute_cycles, 72);
    // 338 positions of 160 bits, 48 filters of 1440: rows of 128 bits each.
    assert_eq!(cost.buffer_reads.inputs, 338.0 * (1.0 + 159.0 / 128.0) * 128.0);
    assert_eq!(cost.buffer_reads.weights, 48.0 * (1.0 + 1439.0 / 128.0) * 128.0);
    assert_eq!(cost.buffer_writes.weights, (24 * 180 * 8) as f64);
    let macs = layer.shape.macs() as f64;
    assert_eq!(cost.energy.arithmetic, macs * 0.2 + macs * 0.1);
    assert_eq!(cost.utilisation, macs / (4096.0 * cost.cycles() as f64));
}

#[test]
fn sweeps_are_one_batch_and_agree_with_single_questions() {
    on_both("sweeps_are_one_batch_and_agree_with_single_questions", |gpu| {
        let mut two = layer(Shape { input: [12, 12, 6], filters: 10, ..CONV }, [40, 60], 21);
        two.inputs.push(layer(two.shape, [40, 20], 22).inputs.remove(0));
        let layers = [two, layer(Shape::dense(1, 300, 20), [50, 50], 23)];
        let mut all = machines();
        let mut small = all[2].clone();
        small.memory = all[0].memory;
        all.push(small);
        let mut questions = Vec::new();
        for layer in &layers {
            for machine in &all {
                for part in 1..4 {
                    let full = plain(layer);
                    let [weights, inputs, outputs] = [full.weights, full.inputs, full.outputs].map(|bits| bits / part);
                    questions.push(Question { machine, layer, stored: Stored { weights, inputs, outputs } });
                }
            }
        }
        let control = Control::default();
        let answers: Vec<Cost> = costs(Some(gpu), &questions, &control).unwrap();
        for (q, answer) in questions.iter().zip(&answers) {
            assert_eq!(*answer, q.machine.cost(None, q.layer, &q.stored, &control).unwrap());
        }
        // The mean of two samples.
        let of = |sample| scnn::literal(Scnn::PUBLISHED, &layers[0], sample).unwrap();
        let mean = (of(0).cycles + of(1).cycles) / 2;
        assert!(matches!(all[2].array, Array::Scnn(Scnn::PUBLISHED)));
        assert_eq!(answers[6].compute_cycles, mean);
    });
}

/// Not a test of speed: it says how long a layer takes, when asked to.
#[test]
#[ignore = "takes seconds; prints a time"]
fn a_large_layer() {
    let Some(gpu) = common::device("a_large_layer", false) else { return };
    let shape = Shape { input: [56, 56, 64], filters: 64, ..CONV };
    for percent in [[30, 40], [100, 100]] {
        let layer = layer(shape, percent, 1);
        for _ in 0..2 {
            let start = std::time::Instant::now();
            let run = scnn::run(gpu, Scnn::PUBLISHED, &layer, 0, &Control::default()).unwrap();
            let (seconds, dense) = (start.elapsed().as_secs_f64(), shape.macs() as f64 / 1024.0);
            let rate = run.steps as f64 * 16.0 / seconds / 1e9;
            common::say(&format!(
                "{percent:?} %: {seconds:.2} s, {rate:.2} G products/s, {} cycles of {dense}",
                run.cycles
            ));
        }
        if percent[0] < 100 {
            let start = std::time::Instant::now();
            let literal = scnn::literal(Scnn::PUBLISHED, &layer, 0).unwrap();
            common::say(&format!("literal: {:.1} s, {literal:?}", start.elapsed().as_secs_f64()));
        }
    }
}
