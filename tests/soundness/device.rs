//! What the verifier claims, on the device, against the truth.

use std::path::Path;

use wavehull::graph::{self, Activation, Graph, Layers, Source, onnx};
use wavehull::verify::{Outcome, Property, Soundness, Verdict, Verifier, VerifyOptions};
use wavehull::{Control, Gpu};

use crate::arithmetic::Policy;
use crate::common::{self, Random, say};
use crate::crown::terms;
use crate::emulated::start;
use crate::emulator::Emulator;
use crate::nets::{Form, Layer, Net, random_box};

fn options(soundness: Soundness, attack: bool) -> VerifyOptions {
    let mut options = VerifyOptions::default();
    options.soundness = soundness;
    options.attack = attack;
    options
}

fn verify(gpu: &Gpu, graph: &Graph, options: VerifyOptions, properties: &[Property]) -> Vec<Outcome> {
    let verifier = Verifier::new(gpu, graph, options).unwrap();
    verifier.verify(&properties.iter().collect::<Vec<_>>(), &Control::default()).unwrap()
}

/// Boxes of one network, each with a form and the form's least value, from above.
struct Case {
    net: Net,
    properties: Vec<Property>,
    truths: Vec<f64>,
}

fn case(random: &mut Random, boxes: usize) -> Case {
    let net = Net::random(random);
    let (mut properties, mut truths) = (Vec::new(), Vec::new());
    for _ in 0..boxes {
        let (lower, upper) = random_box(random, net.inputs);
        let mut form = Form::random(random, net.outputs());
        // Near 0 a wrong bound is a wrong verdict.
        if random.coin() {
            form.constant -= net.minimum(&lower, &upper, &form);
        }
        truths.push(net.minimum(&lower, &upper, &form));
        properties.push(form.property(&lower, &upper));
    }
    Case { net, properties, truths }
}

fn check(case: &Case, outcomes: &[Outcome]) -> Result<(), String> {
    for (outcome, &truth) in outcomes.iter().zip(&case.truths) {
        if outcome.margin.is_some_and(|margin| margin > truth) {
            return Err(format!("a bound of {:?} above {truth}: {:?}", outcome.margin, case.net));
        }
        if outcome.verdict == Verdict::Holds && truth <= 0.0 {
            return Err(format!("'holds' where {truth} is reached: {:?}", case.net));
        }
    }
    Ok(())
}

#[test]
fn bounds_of_random_networks_are_below_their_exact_minima() {
    let Some(gpu) = common::device("bounds_of_random_networks_are_below_their_exact_minima", false) else { return };
    let long = std::env::var("WAVEHULL_LONG").is_ok_and(|v| v == "1");
    let (nets, boxes) = if long { (10_000, 4) } else { (1000, 6) };
    let mut random = Random::new(77);
    let (mut bounds, mut holds) = (0, 0);
    for number in 0..nets {
        let case = case(&mut random, boxes);
        let mut options = options(Soundness::Strict, false);
        options.early_exit = number % 2 == 0;
        options.intersect = number % 3 != 0;
        let outcomes = verify(gpu, &case.net.graph(), options, &case.properties);
        check(&case, &outcomes).unwrap_or_else(|why| panic!("net {number}: {why}"));
        bounds += outcomes.iter().filter(|o| o.margin.is_some()).count();
        holds += outcomes.iter().filter(|o| o.verdict == Verdict::Holds).count();
    }
    say(&format!("device: {bounds} bounds on {nets} networks, {holds} properties hold"));
    assert!(bounds * 10 > nets * boxes * 9 && holds * 20 > nets * boxes, "{bounds} bounds, {holds} hold");
}

#[test]
fn bounds_are_the_same_bits_with_bounds_checks() {
    const NAME: &str = "bounds_are_the_same_bits_with_bounds_checks";
    let (Some(gpu), Some(checked)) = (common::device(NAME, false), common::device(NAME, true)) else { return };
    let mut random = Random::new(78);
    for number in 0..20 {
        let case = case(&mut random, 5);
        let mut options = options(Soundness::Strict, true);
        options.all_rows = number % 4 == 0;
        let of = |gpu| -> Vec<_> {
            let outcomes = verify(gpu, &case.net.graph(), options.clone(), &case.properties);
            check(&case, &outcomes).unwrap_or_else(|why| panic!("net {number}: {why}"));
            outcomes.into_iter().map(|o| (o.margin.map(f64::to_bits), o.verdict)).collect()
        };
        assert_eq!(of(gpu), of(checked), "net {number}");
    }
}

#[test]
fn trusting_f32_makes_wrong_claims_on_the_same_networks() {
    let Some(gpu) = common::device("trusting_f32_makes_wrong_claims_on_the_same_networks", false) else { return };
    let mut random = Random::new(77);
    let wrong = (0..120).filter(|_| {
        let case = case(&mut random, 14);
        check(&case, &verify(gpu, &case.net.graph(), options(Soundness::TrustF32, false), &case.properties)).is_err()
    });
    let wrong = wrong.count();
    assert!(wrong >= 5, "{wrong} of 120 networks: the comparison is blunt");
}

/// One layer of a chain: for each value that it reads, the rows that it goes into and their weights.
struct Columns {
    columns: Vec<Vec<(usize, f32)>>,
    bias: Vec<f32>,
    relu: bool,
}

impl Columns {
    /// A network of layers behind each other, with a ReLU or nothing behind each.
    fn of(net: &Layers) -> Vec<Self> {
        let of_layer = |(index, layer): (usize, &graph::Layer)| {
            let below = index.checked_sub(1).map_or(Source::Input, Source::Layer);
            let [edge] = &layer.edges[..] else { panic!("layer '{}' has the edges {:?}", layer.name, layer.edges) };
            assert_eq!(edge.source, below, "layer '{}'", layer.name);
            assert!(matches!(layer.activation, Activation::None | Activation::Relu), "layer '{}'", layer.name);
            let mut columns = vec![Vec::new(); net.extent(edge.source).len()];
            for (row, column, weight) in terms(&edge.map, net.extent(edge.source), layer.extent) {
                columns[column].push((row, weight as f32));
            }
            Self { columns, bias: layer.bias.clone(), relu: layer.activation == Activation::Relu }
        };
        net.layers.iter().enumerate().map(of_layer).collect()
    }
}

/// Points of a box: the centre, corners, random ones, and the ends of sign-gradient walks in f64.
fn points(net: &[Columns], lower: &[f64], upper: &[f64], form: &Form, random: &mut Random) -> Vec<Vec<f64>> {
    let n = lower.len();
    let mix =
        |t: &mut dyn FnMut() -> f64| -> Vec<f64> { (0..n).map(|i| lower[i] + t() * (upper[i] - lower[i])).collect() };
    let mut all = vec![mix(&mut || 0.5), mix(&mut || 0.0), mix(&mut || 1.0)];
    for _ in 0..6 {
        all.push(mix(&mut || f64::from(u8::from(random.coin()))));
        all.push(mix(&mut || 0.5 + 0.5 * random.unit()));
    }
    for start in 0..3 {
        let mut x = all[start].clone();
        for _ in 0..4 {
            let gradient = gradient(net, &x, form);
            x = (0..n).map(|i| if gradient[i] > 0.0 { lower[i] } else { upper[i] }).collect();
            all.push(x.clone());
        }
    }
    all
}

/// The gradient of a form at `x`, in f64, backwards through the layers.
fn gradient(net: &[Columns], x: &[f64], form: &Form) -> Vec<f64> {
    let mut values = vec![x.to_vec()];
    for layer in net {
        let mut z: Vec<f64> = layer.bias.iter().map(|&b| f64::from(b)).collect();
        for (column, &y) in layer.columns.iter().zip(&values[values.len() - 1]) {
            column.iter().for_each(|&(row, w)| z[row] += f64::from(w) * y);
        }
        values.push(if layer.relu { z.into_iter().map(|v| v.max(0.0)).collect() } else { z });
    }
    let mut g = form.coefficients.clone();
    for (layer, after) in net.iter().zip(&values[1..]).rev() {
        let on = |i: usize| if layer.relu && after[i] <= 0.0 { 0.0 } else { g[i] };
        g = layer.columns.iter().map(|column| column.iter().map(|&(row, w)| on(row) * f64::from(w)).sum()).collect();
    }
    g
}

/// The form in f32, every sum in random order.
fn form_in_f32(net: &[Columns], x: &[f64], form: &Form, random: &mut Random) -> f64 {
    let mut y: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    for layer in net {
        let mut order: Vec<usize> = (0..y.len()).collect();
        random.shuffle(&mut order);
        let mut z = layer.bias.clone();
        for j in order {
            layer.columns[j].iter().for_each(|&(row, w)| z[row] += w * y[j]);
        }
        y = if layer.relu { z.into_iter().map(|v| v.max(0.0)).collect() } else { z };
    }
    form.coefficients.iter().zip(y).fold(form.constant, |s, (&c, v)| s + c * f64::from(v))
}

/// Every sampled output of a network is above the bound that was claimed for its box.
fn check_samples(gpu: &Gpu, graph: &Graph, boxes: &[(Vec<f64>, Vec<f64>)], forms: &[Form], random: &mut Random) {
    let net = Columns::of(&Layers::from_graph(graph).unwrap());
    let pairs: Vec<_> = boxes.iter().flat_map(|b| forms.iter().map(move |f| (b, f))).collect();
    let properties: Vec<Property> = pairs.iter().map(|((l, h), f)| f.property(l, h)).collect();
    let outcomes = verify(gpu, graph, options(Soundness::Strict, false), &properties);
    for (((lower, upper), form), outcome) in pairs.into_iter().zip(&outcomes) {
        let margin = outcome.margin.unwrap();
        for x in points(&net, lower, upper, form, random) {
            let y = graph.eval_f64_bounded(&x).unwrap();
            let parts = form.coefficients.iter().zip(&y);
            let (value, error) = parts.fold((form.constant, 0.0), |(v, e), (&c, y)| (v + c * y.0, e + (c * y.1).abs()));
            let size: f64 =
                form.coefficients.iter().zip(&y).map(|(c, y)| (c * y.0).abs()).sum::<f64>() + form.constant.abs();
            assert!(margin <= value + error + 1e-14 * size, "a bound of {margin}, but {value} is reached");
            // f32 errs too, by far less than it takes the bound to be this loose: one rounding per term and layer.
            let seen = form_in_f32(&net, &x, form, random);
            assert!(margin <= seen + 1e-4 * (1.0 + size), "a bound of {margin}, but {seen} is reached in f32");
            assert!(outcome.verdict != Verdict::Holds || value + error > 0.0, "'holds', but {value} is reached");
        }
    }
}

#[test]
fn sampled_outputs_of_the_digit_networks_are_above_their_bounds() {
    let Some(gpu) = common::device("sampled_outputs_of_the_digit_networks_are_above_their_bounds", false) else {
        return;
    };
    let mut random = Random::new(5);
    for name in ["mnist-robust.onnx", "mnist-standard.onnx"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
        let (graph, _) = onnx::read(&path).unwrap();
        let n = graph.input_len();
        let boxes: Vec<_> = [0.0, 0.002, 0.02]
            .into_iter()
            .map(|radius| {
                let x: Vec<f64> = (0..n).map(|_| random.unit().max(0.0)).collect();
                let lower = x.iter().map(|v| (v - radius).max(0.0)).collect();
                (lower, x.iter().map(|v| (v + radius).min(1.0)).collect())
            })
            .collect();
        let difference = |i: usize, j: usize| {
            let mut coefficients = vec![0.0; 10];
            (coefficients[i], coefficients[j]) = (1.0, -1.0);
            Form { coefficients, constant: 0.0 }
        };
        check_samples(gpu, &graph, &boxes, &[difference(3, 5), difference(5, 3), difference(0, 9)], &mut random);
    }
}

#[test]
fn sampled_outputs_of_wider_random_networks_are_above_their_bounds() {
    let Some(gpu) = common::device("sampled_outputs_of_wider_random_networks_are_above_their_bounds", false) else {
        return;
    };
    let mut random = Random::new(6);
    // 140 neurons are more than one chunk of a product, 33 more than the lanes of a row.
    for widths in [&[140, 33, 3][..], &[20, 140, 2], &[33, 40, 17, 9, 2]] {
        let net = Net::of_widths(&mut random, 7, widths);
        let boxes: Vec<_> = (0..4).map(|_| random_box(&mut random, 7)).collect();
        let forms: Vec<_> = (0..3).map(|_| Form::random(&mut random, net.outputs())).collect();
        check_samples(gpu, &net.graph(), &boxes, &forms, &mut random);
    }
}

/// GPUPoly rounds the slope of the upper line to nearest and only its offset up: 3 of 10 lines then pass below the ReLU
/// at the upper end (C. Müller et al., MLSys 2021, and its code).
#[test]
fn the_upper_line_is_above_the_relu_where_a_slope_rounds_down() {
    let Some(gpu) = common::device("the_upper_line_is_above_the_relu_where_a_slope_rounds_down", false) else { return };
    let mut random = Random::new(8);
    let ends: Vec<(f32, f32)> = (0..300)
        .map(|_| (-(10.0_f64.powf(random.unit() * 2.0 - 1.0)) as f32, 10.0_f64.powf(random.unit() * 2.0 - 1.0) as f32))
        .collect();
    let gap = ends.iter().filter(|&&(l, h)| {
        let slope = h / (h - l);
        let offset = (-l * slope).next_up();
        f64::from(slope) * f64::from(h) + f64::from(offset) < f64::from(h)
    });
    let gap = gap.count();
    assert!(gap > 30, "{gap} of 300 intervals show the gap: they are no test of it");
    // -relu(x) has its least value -h at the upper end.
    let net = Net::new(1, vec![Layer::new(&[1.0], &[0.0], true), Layer::new(&[-1.0], &[0.0], false)]);
    let form = Form { coefficients: vec![1.0], constant: 0.0 };
    let properties: Vec<Property> = ends.iter().map(|&(l, h)| form.property(&[l.into()], &[h.into()])).collect();
    let outcomes = verify(gpu, &net.graph(), options(Soundness::Strict, false), &properties);
    for (outcome, &(l, h)) in outcomes.iter().zip(&ends) {
        let margin = outcome.margin.unwrap();
        assert!(margin <= -f64::from(h), "on [{l}, {h}]: {margin}");
        assert!(margin >= -f64::from(h) - 1e-4 * f64::from(h.max(-l)), "on [{l}, {h}]: {margin} is loose");
    }
}

/// `x + 2^19 - 2^-10 - 2^19` on [2^-11, 1]: the true least value is -2^-11, but f32 loses the small constant beside the
/// large one (in the manner of Jia and Rinard, SAS 2021, and Zombori et al., ICLR 2021).
#[test]
fn a_network_that_hides_a_term_in_roundoff_is_not_claimed_safe() {
    let Some(gpu) = common::device("a_network_that_hides_a_term_in_roundoff_is_not_claimed_safe", false) else {
        return;
    };
    let large = 2.0_f32.powi(19);
    let net = Net::new(
        1,
        vec![
            Layer::new(&[1.0], &[large], true),
            Layer::new(&[1.0], &[-large], false),
            Layer::new(&[1.0], &[-(2.0_f32.powi(-10))], false),
        ],
    );
    let form = Form { coefficients: vec![1.0], constant: 0.0 };
    let (lower, upper) = ([2.0_f64.powi(-11)], [1.0]);
    assert!(net.minimum(&lower, &upper, &form) < 0.0, "the network is unsafe");
    let property = [form.property(&lower, &upper)];
    let verdict =
        |soundness, attack| verify(gpu, &net.graph(), options(soundness, attack), &property).remove(0).verdict;
    assert_eq!(verdict(Soundness::TrustF32, false), Verdict::Holds, "the network does not fool f32");
    assert!(matches!(verdict(Soundness::Strict, false), Verdict::Unknown(_)), "claimed by roundoff");
    assert!(verdict(Soundness::Strict, true) != Verdict::Holds, "claimed by roundoff");
}

/// Coefficients may be known up to a relative error only: -(1 + rel) relu(x) reaches -(1 + rel), also where the upper line
/// is flat.
#[test]
fn uncertain_coefficients_of_a_property_lower_the_bound() {
    let Some(gpu) = common::device("uncertain_coefficients_of_a_property_lower_the_bound", false) else { return };
    for (lower, relu, sign) in [(-100.0, true, -1.0), (1.0, false, 1.0), (0.5, true, -1.0)] {
        let net = Net::new(1, vec![Layer::new(&[1.0], &[0.0], relu)]);
        let form = Form { coefficients: vec![sign], constant: 0.0 };
        let mut property = form.property(&[lower], &[1.0]);
        property.queries[0].unsafe_if[0][0].coefficient_rel = 1e-3;
        let margin = verify(gpu, &net.graph(), options(Soundness::Strict, false), &[property])[0].margin.unwrap();
        let reached = if sign > 0.0 { lower * (1.0 - 1e-3) } else { -(1.0 + 1e-3) };
        assert!(margin <= reached, "a bound of {margin} on [{lower}, 1], but {reached} is reached");
    }
}

/// The emulator is only worth something while it follows the kernels: both must charge about the same.
#[test]
fn the_emulator_charges_what_the_device_charges() {
    let Some(gpu) = common::device("the_emulator_charges_what_the_device_charges", false) else { return };
    let mut random = Random::new(9);
    let layer = |random: &mut Random, n: usize, m: usize, relu| {
        let weight: Vec<f32> = random.floats(n * m).iter().map(|w| w * 0.3).collect();
        Layer::new(&weight, &random.floats(m), relu)
    };
    for widths in [&[1, 40][..], &[6, 50, 50], &[5, 140, 30, 20]] {
        let mut layers: Vec<Layer> = widths.windows(2).map(|w| layer(&mut random, w[0], w[1], true)).collect();
        layers.push(layer(&mut random, widths[widths.len() - 1], 2, false));
        let net = Net::new(widths[0], layers);
        let layers_of_net = Layers::from_graph(&net.graph()).unwrap();
        let centre = random.floats(widths[0]);
        let (l, h): (Vec<f32>, Vec<f32>) = centre.iter().map(|c| (c - 0.05, c + 0.05)).unzip();
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        // A little below 0, so that no level decides the row and all of them count.
        let mut form = Form { coefficients: vec![1.0, -0.5], constant: 0.0 };
        form.constant = -f64::from(net.form_at(&wide(&centre), &form) as f32) - 0.5;
        let property = [form.property(&wide(&l), &wide(&h))];
        let device = |soundness| verify(gpu, &net.graph(), options(soundness, false), &property)[0].margin.unwrap();
        let emulated = |charge| {
            let bounds = Emulator::new(&layers_of_net, Policy::NEAREST, None, charge).run(&l, &h, &[start(&form)]);
            f64::from(bounds.unwrap()[0])
        };
        let (strict, trusting) = (device(Soundness::Strict), device(Soundness::TrustF32));
        let (charged, free) = (trusting - strict, emulated(false) - emulated(true));
        say(&format!("{widths:?}: charged {charged:e} on the device, {free:e} in the emulator, of {trusting}"));
        // Both sides' own roundings, on numbers of about 10.
        let noise = 64.0 * 10.0 * common::U;
        assert!((trusting - emulated(false)).abs() < noise, "{trusting} or {}", emulated(false));
        assert!((charged / free - 1.0).abs() < 0.03 + 0.5 * noise / free, "{charged:e} on the device, {free:e} here");
    }
}
