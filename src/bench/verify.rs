//! Bound propagation and attacks on whole networks: what a user waits for an input.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use web_time::Instant;

use super::analysis::{Case, Mode, Truth};
use super::networks::{digits, points, random_network, robust_network, robustness};
use super::oracle::wrong;
use super::{Context, Done, Measured, SEED, Spec};
use crate::error::{Error, Result};
use crate::gpu::{CancelToken, Control, Progress, ProgressSink};
use crate::graph::{Graph, onnx};
use crate::verify::{Outcome, Property, Row, Stage, Verdict, Verifier, VerifyOptions, vnnlib};

const GROUP: &str = "verify";
/// Inputs verified together.
const BATCH: usize = 15;
/// Inputs whose answer is checked against f64: the oracle takes far longer than the device.
const CHECKED: usize = 3;
/// Points of a box at which a bound is tried.
const TRIES: usize = 32;

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let modes = [Mode::Strict, Mode::TrustF32, Mode::Plain];
    let quick = context.quick();
    let mut specs = Vec::new();
    for mode in modes {
        let name = mode.name();
        let run = move |context: &Context<'_>| {
            let graph = random_network(shape(quick), SEED);
            bounds(context, &graph, &around_points(&graph, points(BATCH, 784, SEED), 0.03)?, mode)?.done()
        };
        specs.push(Spec::new(
            GROUP,
            format!("crown_random_{}_{name}", if quick { "64x2" } else { "256x4" }),
            None,
            run,
        ));
    }
    for &mode in &modes[..2] {
        let name = mode.name();
        let run = move |context: &Context<'_>| {
            let graph = robust_network()?;
            bounds(context, &graph, &around_points(&graph, digits(BATCH)?, 0.1)?, mode)?.done()
        };
        specs.push(Spec::new(GROUP, format!("crown_mnist_robust_{name}"), None, run));
    }
    for mode in modes {
        specs.push(Spec::new(GROUP, format!("crown_mnist_fc_256x4_{}", mode.name()), None, move |context| {
            mnist_fc(context, mode)
        }));
    }
    specs.push(Spec::new(GROUP, "attack_random", None, move |context| attack(context, shape(quick))));
    specs
}

/// Widths of the random network; the smaller one is for tests.
fn shape(quick: bool) -> &'static [usize] {
    if quick { &[784, 64, 64, 10] } else { &[784, 256, 256, 256, 256, 10] }
}

fn around_points(graph: &Graph, centres: Vec<Vec<f64>>, radius: f64) -> Result<Vec<Property>> {
    centres.iter().map(|centre| robustness(graph, centre, radius)).collect()
}

/// The margin of a point: over all conditions of the first query, the least of their largest row values, in f64.
pub(super) fn margin_at(graph: &Graph, property: &Property, x: &[f64]) -> Result<f64> {
    let y = graph.eval_f64(x)?;
    let row = |row: &Row| row.constant + row.coefficients.iter().map(|&(j, c)| c * y[j]).sum::<f64>();
    let conditions = property.queries.iter().take(1).flat_map(|q| &q.unsafe_if);
    Ok(conditions.map(|c| c.iter().map(row).fold(f64::NEG_INFINITY, f64::max)).fold(f64::INFINITY, f64::min))
}

/// The first properties of VNN-COMP's mnist_fc with four hidden layers at radius 0.03, if the folder is here.
fn mnist_fc(context: &Context<'_>, mode: Mode) -> Result<Done> {
    let Some(folder) =
        context.plan.shared.as_ref().map(|shared| shared.join("vnncomp/mnist_fc")).filter(|f| f.is_dir())
    else {
        return Ok(Done::Skipped("WAVEHULL_SHARED names no folder with vnncomp/mnist_fc".to_owned()));
    };
    if context.quick() {
        return Ok(Done::Skipped("not in quick runs".to_owned()));
    }
    let graph = onnx::read(&either(&folder, "onnx/mnist-net_256x4.onnx"))?.0;
    let read = |i: usize| Ok(vnnlib::read(&either(&folder, &format!("vnnlib/prop_{i}_0.03.vnnlib")))?.0);
    let properties = (0..BATCH).map(read).collect::<Result<Vec<_>>>()?;
    let note = format!("batch of {BATCH}; quoted: auto_LiRPA 0.7.1: 9.6 ms (elsewhere)");
    bounds(context, &graph, &properties, mode)?.note(note).done()
}

/// The full analysis of all properties together; the unit is one input.
fn bounds(context: &Context<'_>, graph: &Graph, properties: &[Property], mode: Mode) -> Result<Measured> {
    let checked = properties.iter().take(CHECKED);
    let truths = checked.map(|property| Truth::new(graph, property, TRIES, true)).collect::<Result<Vec<_>>>()?;
    let case = Case { graph, properties, truths: &truths, mode, stage: Stage::Full, count: false, once: false };
    case.measure(context, context.gpu, &context.meter.control)
}

/// A file, or the same with `.gz`.
fn either(folder: &Path, name: &str) -> std::path::PathBuf {
    let plain = folder.join(name);
    if plain.exists() { plain } else { folder.join(format!("{name}.gz")) }
}

/// Hears when the attack is over and stops the call there.
struct UntilBounds {
    cancel: CancelToken,
    seen: Mutex<(Option<Instant>, u64)>,
}

impl ProgressSink for UntilBounds {
    fn update(&self, progress: Progress<'_>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match progress.phase {
            "attack" => seen.1 = progress.total,
            "bounds" if seen.0.is_none() => {
                seen.0 = Some(Instant::now());
                self.cancel.cancel();
            }
            _ => {}
        }
    }
}

/// The verifier's first attack on every condition of every input; the unit is one condition.
fn attack(context: &Context<'_>, widths: &[usize]) -> Result<Done> {
    let graph = random_network(widths, SEED);
    // A tenth is far more than these networks withstand: there is something to find.
    let properties = around_points(&graph, points(BATCH, 784, SEED), 0.1)?;
    let options = VerifyOptions { attack: true, early_exit: false, seed: SEED, ..VerifyOptions::default() };
    let verifier = Verifier::new(context.gpu, &graph, options)?;
    let all: Vec<&Property> = properties.iter().collect();
    let outcomes = verifier.verify(&all, &context.meter.control)?;
    let found = outcomes.iter().map(|o| matches!(o.verdict, Verdict::Violated(_))).filter(|&v| v).count();
    for (property, outcome) in properties.iter().zip(&outcomes) {
        check_found(&graph, property, outcome)?;
    }
    let mut conditions = 0;
    let timing = context.meter.time_calls(|| {
        context.meter.control.cancel.check()?;
        let sink = Arc::new(UntilBounds { cancel: CancelToken::new(), seen: Mutex::default() });
        let control = Control { cancel: sink.cancel.clone(), progress: Some(sink.clone()) };
        let start = Instant::now();
        // Cut off where the attack ends, so the call itself ends as cancelled, or early with all decided.
        match verifier.verify(&all, &control) {
            Err(error) if error.kind() != crate::ErrorKind::Cancelled => return Err(error),
            _ => {}
        }
        let seen = sink.seen.lock().unwrap_or_else(PoisonError::into_inner);
        conditions = seen.1;
        let end = seen.0.ok_or_else(|| Error::internal("the attack's end was not reported"))?;
        Ok(end.duration_since(start).as_secs_f64())
    })?;
    let count = conditions.max(1) as f64;
    let note = format!("{conditions} conditions of {BATCH} inputs, the first attack on each; {found} inputs fell");
    Measured::new(1.0, "conditions", timing.per(count)).note(note).done()
}

/// A counterexample lies in its box and fulfils its condition, as f64 sees it.
pub(super) fn check_found(graph: &Graph, property: &Property, outcome: &Outcome) -> Result<()> {
    let Verdict::Violated(found) = &outcome.verdict else { return Ok(()) };
    let query = property.queries.get(found.query).ok_or_else(|| wrong("a counterexample to no query".to_owned()))?;
    let inside = found.x.iter().zip(query.input.lo.iter().zip(&query.input.hi)).all(|(x, (l, h))| l <= x && x <= h);
    let margin = margin_at(graph, property, &found.x)?;
    if inside && margin <= 0.0 {
        Ok(())
    } else {
        Err(wrong(format!("a counterexample with margin {margin:e}, inside: {inside}")))
    }
}
