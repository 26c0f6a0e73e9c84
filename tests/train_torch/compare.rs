//! Training here, and how far it gets from torch.

use wavehull::graph::Graph;
use wavehull::train::{ArrayOptions, Member, TrainingArray};
use wavehull::{Control, Gpu};

use crate::members::{Wanted, member, wanted};
use crate::networks::{Case, SEED};
use crate::torch::{self, numbers};

/// Torch's f32 was run with twelve orders of each batch, six times from weights that are off by a rounding, and the
/// largest of the twelve distances is what this multiplies. Sums in other orders and of other lengths are another draw
/// of the same kind; in networks where distances grow with the steps, draws differ by small factors.
const FACTOR: f64 = 4.0;
/// Beside it: sixteen roundings of an f32, for numbers that torch happened to get without any.
const ROUNDINGS: f64 = 16.0 / (1_u64 << 24) as f64;

/// What came of a member here: losses, loss and share of right ones afterwards, and the network.
struct Found {
    losses: Vec<f64>,
    evaluation: [f64; 2],
    graph: Graph,
}

/// Members of one formula in the slots behind a neighbour with another learning rate.
fn train(gpu: &Gpu, case: &Case, members: &[Member], steps: usize) -> Vec<Found> {
    let neediest = members.iter().max_by_key(|member| member.optimiser.state_tables()).unwrap();
    let options = ArrayOptions {
        slots: members.len() + 1,
        batch: case.batch,
        loss: case.loss,
        optimiser: neediest.optimiser,
        clip: members.iter().any(|member| member.clip.is_some()),
        shared_order: Some(SEED),
        ..ArrayOptions::default()
    };
    let mut array = TrainingArray::new(gpu, &case.model, case.set(gpu, true), options).unwrap();
    array.start(0, Member { learning_rate: 3.0 * members[0].learning_rate, ..members[0].clone() }).unwrap();
    members.iter().enumerate().for_each(|(i, member)| array.start(i + 1, member.clone()).unwrap());
    let mut losses = vec![Vec::new(); members.len() + 1];
    array.run(steps as u64, &Control::default(), &mut |p| losses[p.slot].push(f64::from(p.loss))).unwrap();
    let scores = array.evaluate(&case.set(gpu, false), &Control::default()).unwrap();
    let found = |(slot, losses): (usize, Vec<f64>)| Found {
        losses,
        evaluation: [scores[slot].loss, scores[slot].correct],
        graph: array.export(slot).unwrap(),
    };
    losses.into_iter().enumerate().skip(1).map(found).collect()
}

/// The worst distance from torch as a share of its tolerance, and what it is of.
#[derive(Debug, Default)]
pub struct Worst {
    pub share: f64,
    what: String,
}

impl Worst {
    fn see(&mut self, found: f64, wanted: f64, tolerance: f64, what: impl FnOnce() -> String) {
        let share = (found - wanted).abs() / tolerance;
        // Not a number is worst.
        if share.is_nan() || share > self.share {
            let what = format!("{}: {found:e}, torch has {wanted:e}, allowed is {tolerance:.1e}", what());
            *self = Self { share, what };
        }
    }
}

/// The tolerance of a number of which torch's f32 was off by `noise`.
pub fn allowed(noise: f64, number: f64) -> f64 {
    FACTOR * noise + ROUNDINGS * number
}

fn losses(found: &Found, wanted: &Wanted) -> Worst {
    let mut worst = Worst::default();
    assert_eq!(found.losses.len(), wanted.losses.len());
    let mut noise = 0.0_f64;
    for (step, (&loss, &other)) in found.losses.iter().zip(&wanted.losses).enumerate() {
        noise = noise.max(wanted.noise[step]);
        worst.see(loss, other, allowed(noise, other), || format!("loss of step {step}"));
    }
    let [loss, own, right] = wanted.evaluation;
    worst.see(found.evaluation[0], loss, allowed(noise.max(own), loss), || "the evaluation".to_owned());
    // One sample in 160 may stand on the line between two classes.
    worst.see(found.evaluation[1], right, 1.0 / 150.0, || "what is right".to_owned());
    worst
}

fn tensors(case: &Case, found: &Found, wanted: &Wanted) -> Worst {
    let mut worst = Worst::default();
    let state = case.model.graph.values.iter().filter(|v| v.constant.is_some() && torch::is_state(&v.name));
    assert_eq!(state.count(), wanted.tensors.len(), "{}: tensors", case.name);
    for (name, [norm, product, noise]) in &wanted.tensors {
        let of = |graph: &Graph| {
            let value = graph.values.iter().find(|value| value.name == *name).expect("torch's name");
            value.constant.as_ref().expect("a constant").iter().map(|&v| f64::from(v)).collect::<Vec<_>>()
        };
        let moved: Vec<f64> =
            of(&found.graph).iter().zip(&of(&case.model.graph)).map(|(end, start)| end - start).collect();
        let probe = numbers(&format!("probe {name}"), moved.len());
        let tolerance = allowed(*noise, *norm);
        worst.see(moved.iter().map(|v| v * v).sum::<f64>().sqrt(), *norm, tolerance, || format!("way of '{name}'"));
        let sum = moved.iter().zip(&probe).map(|(a, b)| a * b).sum::<f64>();
        worst.see(sum, *product, tolerance, || format!("direction of '{name}'"));
    }
    worst
}

/// Trains all members of a fixture, array by array.
pub fn compare(gpu: &Gpu, case: &Case, rate: f64) -> Vec<(String, Worst, Worst)> {
    let mut left = wanted(case.name);
    let mut results = Vec::new();
    while let Some(first) = left.first() {
        let formula = member(&first.member).optimiser.formula();
        let (group, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|w| member(&w.member).optimiser.formula() == formula);
        left = others;
        let members: Vec<Member> = group
            .iter()
            .map(|wanted| member(&wanted.member))
            .map(|member| Member { learning_rate: rate * member.learning_rate, ..member })
            .collect();
        for (found, wanted) in train(gpu, case, &members, group[0].losses.len()).iter().zip(&group) {
            results.push((wanted.member.clone(), losses(found, wanted), tensors(case, found, wanted)));
        }
    }
    results
}

pub fn check(gpu: &Gpu, case: &Case) {
    let mut wrong = Vec::new();
    for (member, losses, tensors) in compare(gpu, case, 1.0) {
        println!("{} {member}: {:.2} of the tolerance at {}", case.name, losses.share, losses.what);
        println!("{} {member}: {:.2} of the tolerance at {}", case.name, tensors.share, tensors.what);
        for worst in [losses, tensors] {
            if worst.share.is_nan() || worst.share > 1.0 {
                wrong.push(format!("{} {member}: {}", case.name, worst.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
