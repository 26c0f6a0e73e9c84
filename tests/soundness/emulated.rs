//! The bound pass on bad arithmetic, against the truth.

use ndarray::Array2;
use wavehull::graph::{Activation, Edge, Extent, Layer, Layers, Map, Source};

use crate::arithmetic::{Direction, Policy};
use crate::common::{Random, say};
use crate::emulator::{Emulator, Start};
use crate::nets::{Form, Net, random_box};

/// A form as the row that the verifier makes of it.
pub fn start(form: &Form) -> Start {
    let coefficients: Vec<f32> = form.coefficients.iter().map(|&c| c as f32).collect();
    let exact = coefficients.iter().zip(&form.coefficients).all(|(&a, &b)| f64::from(a) == b);
    let constant = form.constant as f32;
    let error = (f64::from(constant) - form.constant).abs() as f32;
    let error = if error == 0.0 { 0.0 } else { error.next_up() };
    Start { coefficients, constant, error, rel: if exact { 0.0 } else { 2.0_f32.powi(-23) } }
}

fn outward(lower: &[f64], upper: &[f64]) -> (Vec<f32>, Vec<f32>) {
    let down = |v: f64| if f64::from(v as f32) > v { (v as f32).next_down() } else { v as f32 };
    (lower.iter().map(|&v| down(v)).collect(), upper.iter().map(|&v| -down(-v)).collect())
}

fn policies(seed: u64) -> [Policy; 5] {
    let fixed = |everywhere, sorted| Policy { everywhere, sorted, flush: true, ..Policy::NEAREST };
    [
        Policy::random(seed),
        Policy::random(seed + 1),
        fixed(Direction::Up, true),
        fixed(Direction::Down, true),
        fixed(Direction::Nearest, false),
    ]
}

/// Networks that the emulator is run on.
fn count() -> usize {
    if std::env::var("WAVEHULL_LONG").is_ok_and(|v| v == "1") { 10_000 } else { 2500 }
}

#[test]
fn emulated_bounds_are_never_above_the_truth() {
    let mut random = Random::new(2024);
    let (mut tight, mut all) = (0, 0);
    for number in 0..count() {
        let net = Net::random(&mut random);
        let layers = Layers::from_graph(&net.graph()).unwrap();
        let (lower, upper) = random_box(&mut random, net.inputs);
        let form = Form::random(&mut random, net.outputs());
        let truth = net.minimum(&lower, &upper, &form);
        let (l, h) = outward(&lower, &upper);
        for policy in policies(number as u64) {
            let Some(bounds) = Emulator::new(&layers, policy, None, true).run(&l, &h, &[start(&form)]) else {
                continue;
            };
            assert!(f64::from(bounds[0]) <= truth, "net {number}: {} above {truth}\n{policy:?}\n{net:?}", bounds[0]);
            all += 1;
            tight += usize::from(truth - f64::from(bounds[0]) < 1e-3 * (1.0 + truth.abs()));
        }
    }
    say(&format!("emulated: {all} bounds on {} networks, {tight} within 0.1 % of the truth", count()));
    assert!(tight * 10 > all, "bounds this loose would hide an error: {tight} of {all}");
}

#[test]
fn without_any_charge_the_same_bounds_are_wrong() {
    let mut random = Random::new(2024);
    let mut wrong = 0;
    for number in 0..200 {
        let net = Net::random(&mut random);
        let layers = Layers::from_graph(&net.graph()).unwrap();
        let (lower, upper) = random_box(&mut random, net.inputs);
        let form = Form::random(&mut random, net.outputs());
        let truth = net.minimum(&lower, &upper, &form);
        let (l, h) = outward(&lower, &upper);
        for policy in policies(number) {
            let bounds = Emulator::new(&layers, policy, None, false).run(&l, &h, &[start(&form)]);
            wrong += usize::from(bounds.is_some_and(|b| f64::from(b[0]) > truth));
        }
    }
    assert!(wrong > 20, "only {wrong} of 1000 bounds are wrong without error terms: the comparison is blunt");
}

/// Two inputs, a smooth layer, a sum of it with another smooth layer behind it, two outputs.
fn smooth_residual(random: &mut Random) -> Layers {
    let n = 2 + random.below(4);
    let number = |random: &mut Random| (random.unit() * 10.0_f64.powi(random.below(3) as i32)) as f32;
    let dense = |random: &mut Random, rows: usize, columns: usize, source: Source| {
        let map = Map::Dense(Array2::from_shape_fn((rows, columns), |_| number(random)));
        Edge { source, map, rel: 0.0 }
    };
    let layer = |random: &mut Random, n: usize, edges: Vec<Edge>, activation: Activation| Layer {
        name: "smooth".to_owned(),
        extent: Extent::flat(n),
        edges,
        bias: (0..n).map(|_| number(random)).collect(),
        bias_abs: vec![0.0; n],
        activation,
    };
    let pick = |random: &mut Random| if random.coin() { Activation::Sigmoid } else { Activation::Tanh };
    let mut layers = Vec::new();
    let edges = vec![dense(random, n, 2, Source::Input)];
    let activation = pick(random);
    layers.push(layer(random, n, edges, activation));
    let edges = vec![
        dense(random, n, n, Source::Layer(0)),
        Edge { source: Source::Layer(0), map: Map::Diagonal(vec![1.0; n]), rel: 0.0 },
        dense(random, n, 2, Source::Input),
    ];
    let activation = if random.coin() { Activation::Relu } else { pick(random) };
    layers.push(layer(random, n, edges, activation));
    let edges = vec![dense(random, 2, n, Source::Layer(1)), dense(random, 2, n, Source::Layer(0))];
    layers.push(layer(random, 2, edges, Activation::None));
    Layers { input: Extent::flat(2), layers }
}

/// The least value of a form over a box cannot be known for smooth networks; it is at most what is seen at 100 points.
#[test]
fn emulated_bounds_of_smooth_residual_networks_are_below_all_samples() {
    let mut random = Random::new(2025);
    let (mut all, mut tight) = (0, 0);
    for number in 0..count() / 5 {
        let net = smooth_residual(&mut random);
        let (lower, upper) = random_box(&mut random, 2);
        let form = Form::random(&mut random, 2);
        let (l, h) = outward(&lower, &upper);
        let mut least = f64::INFINITY;
        for at in 0..100 {
            let t = [f64::from(at % 10) / 9.0, f64::from(at / 10) / 9.0];
            let x: Vec<f64> =
                (0..2).map(|i| (lower[i] + t[i] * (upper[i] - lower[i])).clamp(lower[i], upper[i])).collect();
            let y = net.eval_f64(&x);
            least = least.min(form.constant + form.coefficients.iter().zip(&y).map(|(c, y)| c * y).sum::<f64>());
        }
        // 400 additions of f64 on numbers of at most 1000.
        let allowed = 1e-10;
        for policy in policies(number as u64) {
            let Some(bounds) = Emulator::new(&net, policy, None, true).run(&l, &h, &[start(&form)]) else { continue };
            assert!(f64::from(bounds[0]) <= least + allowed, "net {number}: {} above {least}\n{policy:?}", bounds[0]);
            all += 1;
            tight += usize::from(least - f64::from(bounds[0]) < 1e-2 * (1.0 + least.abs()));
        }
    }
    say(&format!("emulated: {all} bounds of smooth residual networks, {tight} within 1 % of what was seen"));
    assert!(tight * 10 > all, "bounds this loose would hide an error: {tight} of {all}");
}
