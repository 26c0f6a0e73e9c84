//! Analyses of residual networks for pictures, from resnet_2b of VNN-COMP to a ResNet-34 of a million neurons.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use web_time::Instant;

use super::analysis::{Case, Mode, Truth, conditions};
use super::networks::{points, stays_largest};
use super::residual::Shape;
use super::{Context, Done, SEED, Spec};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{CancelToken, Control, Gpu, Options, Progress, ProgressSink};
use crate::graph::Graph;
use crate::verify::{Property, Stage, Verifier, VerifyOptions};

const GROUP: &str = "verify";
/// The radius that verifiers of pictures are compared at.
const RADIUS: f64 = 2.0 / 255.0;
/// How far pixels lie from grey, at most: with [`Shape`]'s weights this leaves about half of the neurons unstable.
const CONTRAST: f64 = 0.25;
/// Points of a box at which a bound is tried.
const TRIES: usize = 32;
/// The memory in which resnet_4b must be analysed.
const SMALL: u64 = 256 << 20;
/// Boxes of a ResNet-34 analysed together, at most, and the seconds that its rows may take.
const MANY: usize = 64;
const LIMITS: (f64, f64) = (20.0, 90.0);

/// A network and boxes, made when they are first needed and shared by entries.
#[derive(Debug)]
struct Scene {
    shape: Shape,
    batch: usize,
    /// Points at which bounds are tried, and whether f64 shall compute rows too.
    tries: usize,
    rows: bool,
    made: OnceCell<(Graph, Vec<Property>, [Truth; 1])>,
}

impl Scene {
    fn new(shape: Shape, batch: usize, tries: usize, rows: bool) -> Rc<Self> {
        Rc::new(Self { shape, batch, tries, rows, made: OnceCell::new() })
    }

    fn get(&self) -> Result<&(Graph, Vec<Property>, [Truth; 1])> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let graph = self.shape.network(SEED);
        let properties = pictures(&graph, self.batch);
        let truth = Truth::new(&graph, &properties[0], self.tries, self.rows)?;
        Ok(self.made.get_or_init(|| (graph, properties, [truth])))
    }

    /// The analysis of the first `batch` boxes.
    fn case(&self, batch: usize, mode: Mode, stage: Stage) -> Result<Case<'_>> {
        let (graph, properties, truths) = self.get()?;
        let properties = &properties[..batch.min(properties.len())];
        let count = matches!(mode, Mode::Plain | Mode::StrictAllRows);
        Ok(Case { graph, properties, truths, mode, stage, count, once: false })
    }
}

/// Boxes round pictures that are nearly grey. Which output is claimed to stay the largest changes no work, so it is not looked up.
pub(super) fn pictures(graph: &Graph, batch: usize) -> Vec<Property> {
    let near_grey = |v: f64| 0.5 + CONTRAST * (2.0 * v - 1.0);
    let centres = points(batch, graph.input_len(), SEED).into_iter();
    centres
        .map(|x| stays_largest(0, graph.output_len(), &x.into_iter().map(near_grey).collect::<Vec<_>>(), RADIUS))
        .collect()
}

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let quick = context.quick();
    let (small, name) = if quick { (Shape::small(), "resnet_small") } else { (Shape::resnet_2b(), "resnet_2b") };
    let scene = Scene::new(small, 8, TRIES, true);
    let mut specs = Vec::new();
    for batch in [1, 8] {
        for mode in [Mode::Strict, Mode::TrustF32, Mode::StrictAllRows, Mode::Plain] {
            let scene = scene.clone();
            let roof = matches!(mode, Mode::StrictAllRows | Mode::Plain).then_some("fma_rate");
            let name = format!("{name}_b{batch}_{}", mode.name());
            specs.push(Spec::new(GROUP, name, roof, move |context| {
                scene.case(batch, mode, Stage::Full)?.measure(context, context.gpu, &context.meter.control)?.done()
            }));
        }
    }
    let (shape, name) =
        if quick { (Shape::small(), "resnet_small_b4_256MiB") } else { (Shape::resnet_4b(), "resnet_4b_b4_256MiB") };
    let scene = Scene::new(shape, 4, TRIES, false);
    specs.push(Spec::new(GROUP, name, None, move |context| little_memory(context, &scene)));
    specs.extend(resnet_34());
    specs
}

/// An analysis on a device with a budget of its own, which the peak must respect.
fn little_memory(context: &Context<'_>, scene: &Scene) -> Result<Done> {
    let open = &context.plan.open;
    let budget = open.memory_budget.map_or(SMALL, |given| given.min(SMALL));
    let gpu = Gpu::open(&Options { memory_budget: Some(budget), ..open.clone() })?;
    let case = scene.case(4, Mode::Strict, Stage::Full)?;
    let measured = case.measure(context, &gpu, &context.meter.control)?;
    let used = gpu.memory();
    if used.peak > budget || used.reserved > budget {
        let what = format!("{} bytes were live, {} taken, of a budget of {budget}", used.peak, used.reserved);
        return Err(Error::internal(what));
    }
    let note = format!("batch of 4, strict; peak {} MiB, taken {} MiB", used.peak >> 20, used.reserved >> 20);
    measured.note(note).done()
}

/// The ResNet-34, in three entries.
fn resnet_34() -> Vec<Spec> {
    let scene = Scene::new(Shape::resnet_34(), MANY, 1, false);
    let entries = [
        ("resnet34_early_exit_b1", Mode::StrictAllRows, Stage::EarlyExit, false),
        ("resnet34_early_exit_batch", Mode::StrictAllRows, Stage::EarlyExit, true),
        ("resnet34_all_neurons", Mode::Strict, Stage::Full, false),
    ];
    let spec = |(name, mode, stage, many): (&str, Mode, Stage, bool)| {
        let scene = scene.clone();
        let roof = (stage == Stage::EarlyExit).then_some("fma_rate");
        Spec::new(GROUP, name, roof, move |context| large(context, &scene, mode, stage, many))
    };
    entries.map(spec).into_iter().collect()
}

/// An analysis that only a GPU has the time for, and no more time than its limit.
fn large(context: &Context<'_>, scene: &Scene, mode: Mode, stage: Stage, many: bool) -> Result<Done> {
    if context.gpu.caps().is_software() {
        return Ok(Done::Skipped(
            "2.3 GFLOP an evaluation, up to 10^15 an analysis: not on a software device".to_owned(),
        ));
    }
    if context.quick() {
        return Ok(Done::Skipped("not in quick runs".to_owned()));
    }
    let (graph, properties, _) = scene.get()?;
    let batch = match many {
        true => {
            Verifier::new(context.gpu, graph, VerifyOptions::default())?.boxes_at_once(MANY, conditions(properties))?
        }
        false => 1,
    };
    let full = stage == Stage::Full;
    let limit = if full { LIMITS.1 } else { LIMITS.0 };
    let (control, cancel) = Deadline::control(limit, &context.meter.control);
    let case = Case { once: full, ..scene.case(batch, mode, stage)? };
    match case.measure(context, context.gpu, &control) {
        Err(error) if error.kind() == ErrorKind::Cancelled && cancel.is_cancelled() => {
            context.meter.control.cancel.check()?;
            Ok(Done::Skipped(format!("not done within its limit of {limit} s")))
        }
        done => {
            let neurons = if full { "every unstable neuron of 966,656, one run" } else { "every row to the end" };
            done?.note(format!("batch of {batch}, strict; {neurons}")).done()
        }
    }
}

/// Stops a call after a while, or when the caller's own call is stopped.
struct Deadline {
    start: Instant,
    seconds: f64,
    outer: CancelToken,
    cancel: CancelToken,
}

impl Deadline {
    /// A control for a call, and its token.
    fn control(seconds: f64, outer: &Control) -> (Control, CancelToken) {
        let cancel = CancelToken::new();
        let sink = Self { start: Instant::now(), seconds, outer: outer.cancel.clone(), cancel: cancel.clone() };
        (Control { cancel: cancel.clone(), progress: Some(Arc::new(sink)) }, cancel)
    }
}

impl ProgressSink for Deadline {
    fn update(&self, _: Progress<'_>) {
        if self.outer.is_cancelled() || self.start.elapsed().as_secs_f64() > self.seconds {
            self.cancel.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_stops_its_call_and_no_other() {
        let outer = Control::default();
        let (control, cancel) = Deadline::control(3600.0, &outer);
        control.report("device", 0, 1, "dispatches");
        assert!(!cancel.is_cancelled(), "an hour is left");
        let (late, late_cancel) = Deadline::control(0.0, &outer);
        late.report("device", 0, 1, "dispatches");
        assert!(late_cancel.is_cancelled() && !outer.cancel.is_cancelled());
        outer.cancel.cancel();
        control.report("device", 1, 1, "dispatches");
        assert!(cancel.is_cancelled(), "the call around it was stopped");
    }

    #[test]
    fn about_half_of_the_neurons_are_unstable() {
        let graph = Shape::resnet_2b().network(SEED);
        let property = &pictures(&graph, 1)[0];
        let found = super::super::crown::crown(&graph, property).expect("layers");
        eprintln!("{found:?}");
        assert!((0.35..0.65).contains(&found.unstable), "{found:?}");
    }

    /// The network that nobody runs on a software device: it is brought there, planned and recorded, and every size is held against the
    /// limits of that device and of a GPU.
    #[test]
    fn a_resnet_34_keeps_within_the_limits_of_devices() {
        let test = "a_resnet_34_keeps_within_the_limits_of_devices";
        let Some(gpu) = super::super::tests::device(test) else { return };
        let start = Instant::now();
        let graph = Shape::resnet_34().network(SEED);
        let layers = crate::graph::Layers::from_graph(&graph).expect("layers");
        let relus = layers.layers.iter().filter(|l| l.activation == crate::graph::Activation::Relu);
        assert_eq!(relus.map(|l| l.extent.len()).sum::<usize>(), 966_656);
        eprintln!("layers after {:.1} s", start.elapsed().as_secs_f64());
        let mut verifier = Verifier::new(&gpu, &graph, VerifyOptions::default()).expect("a verifier");
        eprintln!("on the device after {:.1} s: {:?}", start.elapsed().as_secs_f64(), gpu.memory());
        let operations = [Stage::EarlyExit, Stage::Full].map(|stage| verifier.operations(stage, 9) * 1e-9);
        eprintln!("{operations:.0?} GFLOP");
        for full in [false, true] {
            let demand = verifier.rehearse(9, full).expect("a recording");
            eprintln!("full {full}: {demand:?} after {:.1} s", start.elapsed().as_secs_f64());
            assert!(
                demand.binding <= gpu.caps().max_binding && demand.groups <= gpu.caps().max_workgroups,
                "{demand:?}"
            );
        }
        assert!(gpu.memory().peak <= gpu.memory().budget);
        let (software, mut hardware) = (gpu.caps().clone(), gpu.caps().clone());
        (hardware.kind, hardware.max_binding) = (crate::gpu::DeviceKind::Discrete, (2 << 30) - 4);
        for (caps, gib) in [(&software, 1), (&hardware, 1), (&hardware, 16), (&hardware, 64)] {
            let batch = verifier.fits(caps, gib << 30, 4096, 9).expect("a plan");
            eprintln!("{} GiB, bindings of {} MiB: {batch} boxes at once", gib, caps.max_binding >> 20);
            assert!(batch >= 1);
        }
    }
}
