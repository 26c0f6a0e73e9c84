//! Input splitting: boxes a second on a network of the shape of ACAS Xu's.

use std::time::Duration;

use super::networks::{random_network, stays_largest};
use super::oracle::{Random, wrong};
use super::verify::{check_found, margin_at};
use super::{Context, Done, Measured, SEED, Spec};
use crate::error::Result;
use crate::graph::Graph;
use crate::verify::{Property, Verdict, Verifier, VerifyOptions};

/// Five inputs, six layers of 50 ReLUs, five outputs.
const WIDTHS: [usize; 8] = [5, 50, 50, 50, 50, 50, 50, 5];
/// Half the width of the box: a fifth of the inputs' range.
const RADIUS: f64 = 0.2;
/// Points at which a claim is tried.
const TRIES: usize = 20_000;
/// How far the property is from failing, as a share of the range of margins.
const LIFT: f64 = 0.02;
/// Seconds of a run.
const RUN: f64 = 1.0;
/// Runs before the first that counts, at most: while kernels are compiled a run may end without a split.
const WARM_UP: usize = 8;

pub(super) fn specs() -> Vec<Spec> {
    vec![Spec::new("verify", "input_splits_6x50_strict", None, splits)]
}

/// A property that nearly fails: the first output stays above the others, lifted so far that the least margin of many points of the box
/// is a small part of their range. Boxes must become small before a bound shows it. Also the margins at those points.
fn hard(graph: &Graph) -> Result<(Property, Vec<f64>)> {
    let mut property = stays_largest(0, graph.output_len(), &[0.5; 5], RADIUS);
    let mut random = Random::new(SEED);
    // Margins are least at the border of the box as a rule: half of the coordinates are ends of it.
    let mut point = || -> Vec<f64> {
        let side = |random: &mut Random| if random.below(2) == 0 { random.unit() } else { random.below(2) as f64 };
        (0..graph.input_len()).map(|_| 0.5 + RADIUS * (2.0 * side(&mut random) - 1.0)).collect()
    };
    let values = (0..TRIES).map(|_| margin_at(graph, &property, &point())).collect::<Result<Vec<_>>>()?;
    let (least, largest) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let shift = LIFT * (largest - least) - least;
    let rows = property.queries.iter_mut().flat_map(|query| query.unsafe_if.iter_mut().flatten());
    rows.for_each(|row| row.constant += shift);
    Ok((property, values.iter().map(|value| value + shift).collect()))
}

/// Splits one box for a while; the unit is a box that was bounded.
fn splits(context: &Context<'_>) -> Result<Done> {
    let graph = random_network(&WIDTHS, SEED);
    let (property, values) = hard(&graph)?;
    let cap = Duration::from_secs_f64(RUN);
    let options = VerifyOptions { cap: Some(cap), ..VerifyOptions::default() };
    let verifier = Verifier::new(context.gpu, &graph, options)?;
    for _ in 0..WARM_UP {
        let outcome = verifier.verify(&[&property], &context.meter.control)?.pop();
        if outcome.is_none_or(|outcome| outcome.boxes.is_some()) {
            break;
        }
    }
    let (mut bounded, mut left, mut runs) = (0, 0, 0);
    let timing = context.meter.time_calls(|| {
        let outcome = verifier.verify(&[&property], &context.meter.control)?.pop();
        let outcome = outcome.ok_or_else(|| wrong("no outcome".to_owned()))?;
        check_found(&graph, &property, &outcome)?;
        let low = values.iter().filter(|&&value| value <= 0.0).count();
        if outcome.verdict == Verdict::Holds && low > 0 {
            return Err(wrong(format!("it holds, but {low} points violate it")));
        }
        let boxes = outcome.boxes.ok_or_else(|| wrong(format!("nothing was split: {:?}", outcome.verdict)))?;
        (bounded, left, runs) = (bounded + boxes.bounded, left + boxes.left, runs + 1);
        Ok(outcome.seconds / boxes.bounded.max(1) as f64)
    })?;
    let (bounded, left) = (bounded / runs.max(1), left / runs.max(1));
    let note = format!("one box of 5 inputs, {bounded} parts bounded a run, {left} left; attacks and host included");
    Measured::new(1.0, "boxes", timing).note(note).done()
}
