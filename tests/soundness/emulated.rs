//! The bound pass on bad arithmetic, against the truth.

use wavehull::graph::Layers;

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
