//! What the verifier claims of networks over images, on the device, against sampled points and against CROWN in f64.

use wavehull::graph::{Graph, Layers, Map, Op, ValueId, Window};
use wavehull::verify::{Outcome, Property, Soundness, Verdict, Verifier, VerifyOptions};
use wavehull::{Control, Gpu};

use crate::arithmetic::Policy;
use crate::common::{self, Random, say};
use crate::crown::Crown;
use crate::emulated::start;
use crate::emulator::Emulator;
use crate::images::{Kinds, Sketch, random_network};
use crate::nets::Form;

const ALL: Kinds = Kinds { smooth: true, pools: true, dense: true };

fn count(short: usize) -> usize {
    if std::env::var("WAVEHULL_LONG").is_ok_and(|v| v == "1") { 20 * short } else { short }
}

/// A network, boxes and a form for each.
struct Case {
    graph: Graph,
    layers: Layers,
    boxes: Vec<(Vec<f64>, Vec<f64>)>,
    forms: Vec<Form>,
}

impl Case {
    fn new(graph: Graph, random: &mut Random, boxes: usize) -> Self {
        let layers = Layers::from_graph(&graph).unwrap_or_else(|error| panic!("{error}: {graph:?}"));
        let (n, outputs) = (layers.input_len(), layers.output_len());
        let mut case = Self { graph, layers, boxes: Vec::new(), forms: Vec::new() };
        for _ in 0..boxes {
            let radius = [0.0, 1e-3, 0.1, 0.4][random.below(4)];
            // Numbers of f32, so that the box is the same for all.
            let centre: Vec<f64> = random.floats(n).iter().map(|&c| f64::from(c)).collect();
            let width: Vec<f64> = (0..n).map(|_| radius * random.unit().abs()).collect();
            let side = |sign: f64| centre.iter().zip(&width).map(|(c, w)| f64::from((c + sign * w) as f32)).collect();
            case.boxes.push((side(-1.0), side(1.0)));
            let coefficients = random.floats(outputs).iter().map(|&c| f64::from(c)).collect();
            case.forms.push(Form { coefficients, constant: 0.0 });
        }
        case
    }

    fn random(random: &mut Random, kinds: Kinds, boxes: usize) -> Self {
        let graph = random_network(random, kinds);
        Self::new(graph, random, boxes)
    }

    fn verify(&self, gpu: &Gpu, options: VerifyOptions) -> Vec<Outcome> {
        let properties: Vec<Property> =
            self.boxes.iter().zip(&self.forms).map(|((l, h), form)| form.property(l, h)).collect();
        let verifier = Verifier::new(gpu, &self.graph, options).unwrap_or_else(|error| panic!("{error}"));
        verifier.verify(&properties.iter().collect::<Vec<_>>(), &Control::default()).unwrap()
    }

    /// How each layer is fed, for messages.
    fn describe(&self) -> String {
        let node = |n: &wavehull::graph::Node| {
            let shape = &self.graph.value(n.output).shape;
            format!(
                "{:?} {:?} -> {shape:?}",
                n.op,
                n.inputs.iter().map(|i| &self.graph.value(*i).shape).collect::<Vec<_>>()
            )
        };
        self.graph.nodes.iter().map(node).collect::<Vec<_>>().join("\n")
    }

    /// Bounds of f64, each with the corner where its linear form is least.
    fn oracle(&self) -> Vec<(f64, Vec<f64>)> {
        let bound = |((l, h), form): (&(Vec<f64>, Vec<f64>), &Form)| {
            Crown::new(&self.layers, l, h).bound(&form.coefficients, form.constant)
        };
        self.boxes.iter().zip(&self.forms).map(bound).collect()
    }
}

fn options(soundness: Soundness) -> VerifyOptions {
    let mut options = VerifyOptions::default();
    options.soundness = soundness;
    options.attack = false;
    options
}

/// Plain CROWN: what the oracle computes.
fn plain() -> VerifyOptions {
    let mut plain = options(Soundness::TrustF32);
    (plain.all_rows, plain.intersect, plain.early_exit) = (true, false, false);
    plain
}

/// The margins of plain CROWN on the device are those of f64.
fn agrees(gpu: &Gpu, case: &Case) -> Result<f64, String> {
    let mut worst = 0.0_f64;
    for (at, (outcome, (expected, _))) in case.verify(gpu, plain()).iter().zip(case.oracle()).enumerate() {
        let Some(margin) = outcome.margin else { return Err(format!("box {at}: no margin, {:?}", outcome.verdict)) };
        let off = (margin - expected).abs() / (1.0 + expected.abs());
        if off.is_nan() || off > 1e-4 {
            return Err(format!("box {at}: {margin} on the device, {expected} in f64\n{}", case.describe()));
        }
        worst = worst.max(off);
    }
    Ok(worst)
}

fn agree_on(name: &str, seed: u64, nets: usize, kinds: Kinds) {
    let Some(gpu) = common::device(name, false) else { return };
    let mut random = Random::new(seed);
    let mut worst = 0.0_f64;
    let mut wrong = Vec::new();
    for number in 0..count(nets) {
        let case = Case::random(&mut random, kinds, 3);
        match agrees(gpu, &case) {
            Ok(off) => worst = worst.max(off),
            Err(why) => wrong.push(format!("net {number}: {why}")),
        }
    }
    say(&format!("{name}: {} networks, at most {worst:.1e} (relative) from f64", count(nets)));
    assert!(wrong.is_empty(), "{} networks differ: {}", wrong.len(), wrong[..wrong.len().min(3)].join("\n\n"));
}

#[test]
fn convolutions_and_residual_sums_agree_with_f64() {
    let kinds = Kinds { smooth: false, pools: false, dense: false };
    agree_on("convolutions_and_residual_sums_agree_with_f64", 31, 150, kinds);
}

#[test]
fn smooth_networks_agree_with_f64() {
    agree_on("smooth_networks_agree_with_f64", 32, 100, Kinds { smooth: true, pools: false, dense: false });
}

#[test]
fn pools_and_dense_layers_between_images_agree_with_f64() {
    agree_on("pools_and_dense_layers_between_images_agree_with_f64", 33, 100, Kinds { smooth: false, ..ALL });
}

/// Pointwise and strided convolutions of more channels than any piece of a kernel has.
#[test]
fn many_channels_agree_with_f64() {
    let Some(gpu) = common::device("many_channels_agree_with_f64", false) else { return };
    let mut random = Random::new(34);
    for (channels, kernel, stride) in [(33, 1, 1), (64, 1, 1), (70, 1, 2), (40, 3, 1), (130, 1, 1)] {
        let window = |stride: usize, pad: usize| Window {
            strides: [stride; 2],
            begin: [pad; 2],
            end: [pad; 2],
            dilations: [1; 2],
            groups: 1,
        };
        let mut sketch = Sketch::new(&[1, 2, 5, 4]);
        let x = sketch.conv(&mut random, ValueId(0), channels, [1, 1], window(1, 0));
        let x = sketch.activation(Op::Relu, x);
        let x = sketch.conv(&mut random, x, 3, [kernel; 2], window(stride, kernel / 2));
        let x = sketch.activation(Op::Relu, x);
        sketch.dense(&mut random, x, 2);
        let case = Case::new(sketch.graph, &mut random, 4);
        agrees(gpu, &case).unwrap_or_else(|why| panic!("{channels} channels, kernel {kernel}, stride {stride}: {why}"));
    }
}

/// What 32-bit places cannot hold is refused, not cut off.
#[test]
fn absurd_strides_and_paddings_are_refused() {
    let Some(gpu) = common::device("absurd_strides_and_paddings_are_refused", false) else { return };
    for (stride, pad) in [(1 << 31, 1 << 32), (40_000, 0), (1, 40_000)] {
        let mut random = Random::new(35);
        let window = Window { strides: [1, stride], begin: [0, pad], end: [0, pad + 2], dilations: [1; 2], groups: 1 };
        let mut sketch = Sketch::new(&[1, 1, 1, 4]);
        let x = sketch.conv(&mut random, ValueId(0), 1, [1, 2], window);
        sketch.dense(&mut random, x, 1);
        if let Err(error) = Verifier::new(gpu, &sketch.graph, VerifyOptions::default()) {
            assert!(error.help().is_some(), "{error}");
            continue;
        }
        // Whatever is taken must be right.
        let case = Case::new(sketch.graph, &mut random, 2);
        agrees(gpu, &case).unwrap_or_else(|why| panic!("stride {stride}, padding {pad}: {why}"));
    }
}

/// The comparison is sharp: with windows one row further down in the oracle alone, or one bias a little larger, it fails.
#[test]
fn a_shifted_window_and_a_changed_bias_are_noticed() {
    let Some(gpu) = common::device("a_shifted_window_and_a_changed_bias_are_noticed", false) else { return };
    let mut random = Random::new(37);
    let (mut shifted, mut noticed) = (0, [0, 0]);
    for _ in 0..30 {
        let case = Case::random(&mut random, Kinds { smooth: false, pools: false, dense: false }, 3);
        let changed = |change: &dyn Fn(&mut Layers) -> bool| {
            let mut layers = case.layers.clone();
            let done = change(&mut layers);
            let (graph, boxes, forms) = (case.graph.clone(), case.boxes.clone(), case.forms.clone());
            done.then_some(Case { graph, layers, boxes, forms })
        };
        let shift = |layers: &mut Layers| {
            let mut maps = layers.layers.iter_mut().flat_map(|layer| &mut layer.edges).map(|edge| &mut edge.map);
            let conv = maps.find_map(|map| if let Map::Conv(conv) = map { Some(conv) } else { None });
            conv.map(|conv| conv.pad[0] += 1).is_some()
        };
        if let Some(case) = changed(&shift) {
            shifted += 1;
            noticed[0] += usize::from(agrees(gpu, &case).is_err());
        }
        let bias = |layers: &mut Layers| layers.layers.last_mut().map(|layer| layer.bias[0] += 0.01).is_some();
        noticed[1] += changed(&bias).map_or(0, |case| usize::from(agrees(gpu, &case).is_err()));
    }
    // What is cut off by a dead ReLU cannot be noticed.
    assert!(noticed[0] * 10 >= shifted * 7 && shifted > 15 && noticed[1] >= 22, "{noticed:?} of {shifted} and 30");
}

/// A sum of a layer that is an image and one that is a vector: the same values in two orders on the device.
#[test]
fn a_vector_added_to_an_image_keeps_its_order() {
    let Some(gpu) = common::device("a_vector_added_to_an_image_keeps_its_order", false) else { return };
    let mut random = Random::new(34);
    let window = Window { strides: [1; 2], begin: [1; 2], end: [1; 2], dilations: [1; 2], groups: 1 };
    for flat_target in [false, true] {
        let mut sketch = Sketch::new(&[1, 2, 3, 3]);
        let a = sketch.conv(&mut random, ValueId(0), 2, [3, 3], window);
        let a = sketch.activation(Op::Relu, a);
        let b = sketch.dense(&mut random, a, 18);
        let b = sketch.activation(Op::Relu, b);
        if flat_target {
            let a = sketch.node(Op::Reshape, &[a], &[1, 18]);
            let sum = sketch.dense(&mut random, b, 18);
            let sum = sketch.add(sum, a);
            sketch.activation(Op::Relu, sum);
        } else {
            let b = sketch.node(Op::Reshape, &[b], &[1, 2, 3, 3]);
            let c = sketch.conv(&mut random, a, 2, [3, 3], window);
            let sum = sketch.add(c, b);
            sketch.activation(Op::Relu, sum);
        }
        let case = Case::new(sketch.graph, &mut random, 4);
        agrees(gpu, &case).unwrap_or_else(|why| panic!("flat target {flat_target}: {why}"));
    }
}

/// Points of a box: ends, the corner of the oracle's linear form, random corners and points.
fn points(case: &Case, at: usize, corner: &[f64], random: &mut Random) -> Vec<Vec<f64>> {
    let (lower, upper) = &case.boxes[at];
    let mut all = vec![lower.clone(), upper.clone(), corner.to_vec()];
    for number in 0..12 {
        let mut pick = || match number % 3 {
            0 => 0.5 + 0.5 * random.unit(),
            _ => f64::from(u8::from(random.coin())),
        };
        all.push(lower.iter().zip(upper).map(|(l, h)| l + (h - l) * pick()).collect());
    }
    all
}

/// No sampled point is below a claimed bound.
fn check_samples(case: &Case, outcomes: &[Outcome], slack: f64, random: &mut Random) -> Result<(), String> {
    for (at, (outcome, (_, corner))) in outcomes.iter().zip(case.oracle()).enumerate() {
        let Some(margin) = outcome.margin else { return Err(format!("box {at}: {:?}", outcome.verdict)) };
        for x in points(case, at, &corner, random) {
            let y = case.graph.eval_f64_bounded(&x).unwrap();
            let form = &case.forms[at].coefficients;
            let (value, error) =
                form.iter().zip(&y).fold((0.0, 0.0), |(v, e), (c, y)| (v + c * y.0, e + (c * y.1).abs()));
            let allowed = error + 1e-14 * (1.0 + value.abs()) + slack * (1.0 + value.abs());
            if margin > value + allowed {
                return Err(format!("box {at}: a bound of {margin}, but {value} is reached\n{}", case.describe()));
            }
            if outcome.verdict == Verdict::Holds && value + allowed <= 0.0 {
                return Err(format!("box {at}: 'holds', but {value} is reached\n{}", case.describe()));
            }
        }
    }
    Ok(())
}

#[test]
fn no_sampled_point_is_below_a_bound() {
    const NAME: &str = "no_sampled_point_is_below_a_bound";
    let (Some(gpu), Some(checked)) = (common::device(NAME, false), common::device(NAME, true)) else { return };
    let mut random = Random::new(35);
    let (mut bounds, mut holds) = (0, 0);
    for number in 0..count(100) {
        let case = Case::random(&mut random, ALL, 3);
        let mut strict = options(Soundness::Strict);
        strict.early_exit = number % 2 == 0;
        (strict.all_rows, strict.intersect) = (number % 3 == 0, number % 5 != 0);
        let outcomes = case.verify(gpu, strict.clone());
        check_samples(&case, &outcomes, 0.0, &mut random).unwrap_or_else(|why| panic!("net {number}: {why}"));
        bounds += outcomes.len();
        holds += outcomes.iter().filter(|o| o.verdict == Verdict::Holds).count();
        if number % 4 == 0 {
            let bits = |outcomes: &[Outcome]| outcomes.iter().map(|o| o.margin.map(f64::to_bits)).collect::<Vec<_>>();
            assert_eq!(bits(&case.verify(checked, strict)), bits(&outcomes), "net {number}: with bounds checks");
            let trusting = case.verify(gpu, options(Soundness::TrustF32));
            check_samples(&case, &trusting, 1e-5, &mut random).unwrap_or_else(|why| panic!("net {number}: {why}"));
        }
    }
    say(&format!("{NAME}: {bounds} bounds, {holds} properties hold"));
    assert!(holds * 20 > bounds, "{holds} of {bounds} hold: bounds this loose would hide an error");
}

/// What strictness and the device's tables cost, and that it is not nothing.
#[test]
fn strict_bounds_are_a_little_below_trusting_ones() {
    let Some(gpu) = common::device("strict_bounds_are_a_little_below_trusting_ones", false) else { return };
    let mut random = Random::new(36);
    let (mut below, mut worst) = (0, 0.0_f64);
    for number in 0..20 {
        let case = Case::random(&mut random, ALL, 2);
        let mut charged = plain();
        charged.soundness = Soundness::Strict;
        let strict = case.verify(gpu, charged);
        for (strict, trusting) in strict.iter().zip(case.verify(gpu, plain())) {
            let (strict, trusting) = (strict.margin.unwrap(), trusting.margin.unwrap());
            assert!(strict <= trusting, "net {number}: {strict} is above {trusting}");
            below += usize::from(strict < trusting);
            worst = worst.max((trusting - strict) / (1.0 + trusting.abs()));
        }
    }
    say(&format!("strict below trusting by at most {worst:.1e} (relative)"));
    assert!(below >= 30 && worst < 1e-2, "{below} of 40 below, at most {worst:e}");
}

/// The emulator charges what the device charges for a sum of paths, and for smooth functions.
#[test]
fn the_emulator_follows_residual_and_smooth_layers() {
    let Some(gpu) = common::device("the_emulator_follows_residual_and_smooth_layers", false) else { return };
    let mut random = Random::new(38);
    for op in [Op::Relu, Op::Sigmoid, Op::Tanh] {
        let mut sketch = Sketch::new(&[1, 6]);
        let a = sketch.dense(&mut random, ValueId(0), 20);
        let a = sketch.activation(op.clone(), a);
        let b = sketch.dense(&mut random, a, 20);
        let b = sketch.activation(op.clone(), b);
        let b = sketch.dense(&mut random, b, 20);
        let sum = sketch.add(b, a);
        let sum = sketch.activation(op.clone(), sum);
        sketch.dense(&mut random, sum, 2);
        let mut case = Case::new(sketch.graph, &mut random, 1);
        let ends = |sign: f64| case.boxes[0].0.iter().map(|c| f64::from((c + sign * 0.05) as f32)).collect();
        case.boxes[0] = (ends(-1.0), ends(1.0));
        // A little below 0, so that no level decides the row and all of them count.
        let least = case.oracle()[0].0;
        case.forms[0].constant = -f64::from(least as f32) - 0.5;
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let (l, h) = (narrow(&case.boxes[0].0), narrow(&case.boxes[0].1));
        let device = |soundness| case.verify(gpu, options(soundness))[0].margin.unwrap();
        let emulated = |charge| {
            let emulator = Emulator::new(&case.layers, Policy::NEAREST, None, charge);
            f64::from(emulator.run(&l, &h, &[start(&case.forms[0])]).unwrap()[0])
        };
        let (strict, trusting) = (device(Soundness::Strict), device(Soundness::TrustF32));
        let (charged, free) = (trusting - strict, emulated(false) - emulated(true));
        say(&format!("{}: charged {charged:e} on the device, {free:e} in the emulator, of {trusting}", op.name()));
        // Both sides' own roundings, and slopes of smooth functions that differ by some.
        let noise = 64.0 * common::U;
        assert!((trusting - emulated(false)).abs() < 1e-4, "{trusting} or {}", emulated(false));
        assert!((charged / free - 1.0).abs() < 0.03 + 0.5 * noise / free, "{charged:e} on the device, {free:e} here");
    }
}
