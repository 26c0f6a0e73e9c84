//! Bound propagation and attacks on whole networks: what a user waits for an input.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use web_time::Instant;

use super::measure::clock;
use super::networks::{crown_margin, digits, points, random_network, robust_network, robustness};
use super::oracle::{Random, near, wrong};
use super::{Context, Done, Measured, SEED, Spec};
use crate::error::{Error, Result};
use crate::gpu::{CancelToken, Control, Progress, ProgressSink};
use crate::graph::{Graph, onnx};
use crate::verify::{Outcome, Property, Row, Soundness, Verdict, Verifier, VerifyOptions, vnnlib};

const GROUP: &str = "verify";
/// Inputs verified together.
const BATCH: usize = 15;
/// Inputs whose answer is checked against f64: the oracle takes far longer than the device.
const CHECKED: usize = 3;
/// Points of a box at which a bound is tried.
const TRIES: usize = 32;
/// Relative distance allowed between margins in f32 and f64 where nothing is charged for rounding: thousands of
/// roundings of 2^-24 through five layers, and neurons near 0 whose slope flips.
const F32_DISTANCE: f64 = 2e-3;

/// How bounds are computed in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Strict,
    TrustF32,
    /// Every neuron back-substituted, no intersections, no rounding charged: plain CROWN, the work of other tools.
    Plain,
}

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let modes = [("strict", Mode::Strict), ("trust_f32", Mode::TrustF32), ("plain", Mode::Plain)];
    let quick = context.quick();
    let mut specs = Vec::new();
    for (name, mode) in modes {
        let run = move |context: &Context<'_>| {
            let graph = random_network(shape(quick), SEED);
            bounds(context, &graph, &around_points(&graph, points(BATCH, 784, SEED), 0.03)?, mode)
        };
        specs.push(Spec::new(
            GROUP,
            format!("crown_random_{}_{name}", if quick { "64x2" } else { "256x4" }),
            None,
            run,
        ));
    }
    for (name, mode) in &modes[..2] {
        let mode = *mode;
        let run = move |context: &Context<'_>| {
            let graph = robust_network()?;
            bounds(context, &graph, &around_points(&graph, digits(BATCH)?, 0.1)?, mode)
        };
        specs.push(Spec::new(GROUP, format!("crown_mnist_robust_{name}"), None, run));
    }
    for (name, mode) in modes {
        specs.push(Spec::new(GROUP, format!("crown_mnist_fc_256x4_{name}"), None, move |context| {
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

fn options(mode: Mode) -> VerifyOptions {
    VerifyOptions {
        soundness: if mode == Mode::Strict { Soundness::Strict } else { Soundness::TrustF32 },
        attack: false,
        early_exit: false,
        all_rows: mode == Mode::Plain,
        intersect: mode != Mode::Plain,
        ..VerifyOptions::default()
    }
}

/// Bounds all properties together; the unit is one input.
fn bounds(context: &Context<'_>, graph: &Graph, properties: &[Property], mode: Mode) -> Result<Done> {
    let mut verifier = None;
    let transfer = clock(|| {
        verifier = Some(Verifier::new(context.gpu, graph, options(mode))?);
        Ok(())
    })?;
    let verifier = verifier.ok_or_else(|| Error::internal("no verifier"))?;
    let all: Vec<&Property> = properties.iter().collect();
    let control = &context.meter.control;
    let mut checked = false;
    let timing = context.meter.time_calls(|| {
        let start = Instant::now();
        let outcomes = verifier.verify(&all, control)?;
        let seconds = start.elapsed().as_secs_f64();
        if !checked {
            for (property, outcome) in properties.iter().zip(&outcomes).take(CHECKED) {
                check_bound(graph, property, outcome, mode)?;
            }
            checked = true;
        }
        Ok(seconds)
    })?;
    let count = properties.len() as f64;
    let mut measured = Measured::new(1.0, "inputs", timing.per(count)).note(format!("batch of {count}"));
    measured.transfer = Some(transfer);
    measured.done()
}

/// No tried point of the box is below the bound, and the bound is that of CROWN in f64: the same where the work is the
/// same; about as good, or decided, where rows are dropped and rounding is charged.
fn check_bound(graph: &Graph, property: &Property, outcome: &Outcome, mode: Mode) -> Result<()> {
    let margin = outcome.margin.ok_or_else(|| wrong("no bound was computed".to_owned()))?;
    let mut random = Random::new(SEED);
    for point in 0..TRIES {
        let input = &property.queries.first().ok_or_else(|| Error::internal("a property without a query"))?.input;
        let x: Vec<f64> = input
            .lo
            .iter()
            .zip(&input.hi)
            .map(|(&l, &h)| if point == 0 { 0.5 * (l + h) } else { [l, h][random.below(2)] })
            .collect();
        let value = margin_at(graph, property, &x)?;
        // f32 bounds that charge nothing may be off by what they do not charge.
        let slack = if mode == Mode::Strict { 0.0 } else { F32_DISTANCE * value.abs().max(1.0) };
        if margin > value + slack {
            return Err(wrong(format!("a margin of {margin:e} where a point of the box has {value:e}")));
        }
    }
    let crown = crown_margin(graph, property)?;
    let scale = crown.abs().max(1.0);
    match mode {
        Mode::Plain => near("the margin", margin, crown, F32_DISTANCE * scale),
        // Rows are dropped once they are positive, so a decided margin may stay below CROWN's.
        _ if margin > 0.0 || margin >= crown - 0.05 * scale => Ok(()),
        _ => Err(wrong(format!("a margin of {margin:e} where CROWN in f64 has {crown:e}"))),
    }
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
    match bounds(context, &graph, &properties, mode)? {
        Done::Measured(measured) => {
            let note = format!("batch of {BATCH}; quoted: auto_LiRPA 0.7.1: 9.6 ms (elsewhere)");
            measured.note(note).done()
        }
        skipped => Ok(skipped),
    }
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
fn check_found(graph: &Graph, property: &Property, outcome: &Outcome) -> Result<()> {
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
