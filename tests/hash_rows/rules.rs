//! Each rule against its formula in f64, for one step and for fifty.

use wavehull::hash::optimiser::{Mode, Optimiser, Rule};
use wavehull::hash::rows::{RowsPart, Storage};

use crate::common::{self, Random, U};
use crate::{RULES, dense_step, on_both, random_part, table};

/// An element in f64, and bounds of what f32 may have done to it.
#[derive(Clone, Copy)]
struct Element {
    w: f64,
    m: f64,
    v: f64,
    /// Sum of |terms| of m: what its roundings are relative to.
    size: f64,
    /// Error of w so far.
    error: f64,
}

impl Element {
    /// Step t. Every term of m has passed at most 3 t roundings (a coefficient's, a product's, a sum's at each step), so has v; the root
    /// halves v's, sqrt adds 4.5 units, and five more roundings and the quotient's 2.5 make the move.
    fn step(&mut self, rule: Rule, t: i32, rate: f64, g: f64) {
        let roundings = f64::from(t) * 3.0;
        let (moved, relative) = match rule {
            Rule::Adam { beta1, beta2, epsilon } => {
                self.m = beta1 * self.m + (1.0 - beta1) * g;
                self.size = beta1 * self.size + (1.0 - beta1) * g.abs();
                self.v = beta2 * self.v + (1.0 - beta2) * g * g;
                let root = (self.v / (1.0 - beta2.powi(t))).sqrt();
                let scale = rate / (1.0 - beta1.powi(t)) / (root + epsilon);
                (scale * self.m, scale * self.size * (1.5 * roundings + 12.0))
            }
            Rule::Adagrad { epsilon } => {
                self.v += g * g;
                let moved = rate * g / (self.v.sqrt() + epsilon);
                (moved, moved.abs() * (0.5 * roundings + 12.0))
            }
            _ => (rate * g, (rate * g).abs() * 3.0),
        };
        self.w -= moved;
        self.error += U * (relative + self.w.abs() + moved.abs());
    }
}

fn check(gpu: &wavehull::Gpu, rule: Rule, steps: i32) {
    let (rows, columns) = (7, 12);
    let mut random = Random::new(steps as u64 + 5);
    let mut start = random_part(&mut random, rows, columns, rule.states());
    start.state.iter_mut().flatten().for_each(|v| *v = 0.0);
    let mut elements: Vec<Element> =
        start.weights.iter().map(|&w| Element { w: f64::from(w), m: 0.0, v: 0.0, size: 0.0, error: 0.0 }).collect();
    let on_device = table(gpu, columns, Storage::F32, &start);
    let mut optimiser = Optimiser::new(gpu, rule, Mode::Dense, 0).unwrap();
    for t in 1..=steps {
        let rate = 1e-2 / f64::from(t);
        // Gradients of many sizes, and none.
        let gradients: Vec<f32> =
            (0..rows * columns).map(|i| random.unit() as f32 * [1.0, 1e-3, 0.0, 30.0][i % 4]).collect();
        dense_step(gpu, &mut optimiser, rate, &on_device, &gradients);
        for (element, &g) in elements.iter_mut().zip(&gradients) {
            element.step(rule, t, rate, f64::from(g));
        }
    }
    let RowsPart { weights, state, book, .. } = on_device.read(gpu, 0..rows).unwrap();
    let w: Vec<(f64, f64)> = elements.iter().map(|e| (e.w, e.error)).collect();
    common::compare(&weights, &w).unwrap_or_else(|why| panic!("{rule:?}, {steps} steps: w: {why}"));
    let depth = U * (3.0 * f64::from(steps) + 4.0);
    if let [m, v] = &state[..] {
        let expected: Vec<_> = elements.iter().map(|e| (e.m, depth * e.size + 1e-38)).collect();
        common::compare(m, &expected).unwrap_or_else(|why| panic!("{rule:?}, {steps} steps: m: {why}"));
        let expected: Vec<_> = elements.iter().map(|e| (e.v, depth * e.v + 1e-38)).collect();
        common::compare(v, &expected).unwrap_or_else(|why| panic!("{rule:?}, {steps} steps: v: {why}"));
    } else if let [v] = &state[..] {
        let expected: Vec<_> = elements.iter().map(|e| (e.v, depth * e.v + 1e-38)).collect();
        common::compare(v, &expected).unwrap_or_else(|why| panic!("{rule:?}, {steps} steps: v: {why}"));
    }
    let t = steps as u32;
    assert_eq!(book, vec![[t, t, t, 0]; rows]);
}

#[test]
fn rules_follow_their_formulas_for_one_step_and_for_fifty() {
    on_both("rules_follow_their_formulas_for_one_step_and_for_fifty", |gpu| {
        for rule in RULES.into_iter().chain([Rule::Adam { beta1: 0.0, beta2: 0.9, epsilon: 1e-3 }]) {
            check(gpu, rule, 1);
            check(gpu, rule, 50);
        }
    });
}
