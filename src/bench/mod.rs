//! Measurements: what this device can do, and how near the kernels come to it.
//!
//! Every entry checks its answer against an f64 oracle before the clock starts, runs at least five times (analyses that take
//! seconds run fewer times, and say so), and stands beside the roof that bounds it, measured in the same run: the device's own copy bandwidth and multiply-add rate, the
//! host's memcpy and sgemm. Compiling, transfers and computing are apart. `wavehull bench` prints the table;
//! `cargo bench` runs the same code through `benches/`.

mod analysis;
mod compare;
mod crown;
mod gradients;
mod hash;
mod host;
mod images;
mod kernels;
mod matmul;
mod measure;
mod memory;
mod networks;
mod oracle;
mod pack;
mod rans;
mod report;
mod residual;
mod roofs;
mod splits;
mod startup;
mod train;
mod verify;

pub use compare::compare;
pub use report::{Device, Entry, KernelTime, Report, SCHEMA, SOFTWARE_BANNER};

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use crate::error::{ErrorKind, Result};
use crate::gpu::{Control, Gpu, Kernel, Options};
use measure::{Effort, Meter, Timing};

/// Seed of all random numbers.
const SEED: u64 = 7;

/// The groups of entries, in their order.
pub const GROUPS: &[&str] =
    &["host", "device", "matmul", "memory", "kernels", "gradients", "startup", "verify", "train", "pack", "hash"];

/// What to measure.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Only entries whose name or group contains this, and the roofs that they need.
    pub only: Option<String>,
    /// Only these groups (empty: all), and the roofs that their entries need.
    pub groups: Vec<&'static str>,
    /// Small sizes and few repetitions: a test that ends in seconds, not a measurement.
    pub quick: bool,
    /// The folder that holds `vnncomp/mnist_fc`, if there is one.
    pub shared: Option<PathBuf>,
    /// How the device was opened: start-up is measured by opening it again.
    pub open: Options,
}

/// The kernels that only measure, for validation and `doctor`.
pub fn catalogue() -> Vec<Kernel> {
    roofs::catalogue()
}

/// Measures. An entry that fails stands in the report as an error, the others go on; a cancellation ends the run, and
/// the report has what was measured by then.
///
/// # Errors
/// [`ErrorKind::BadInput`] if no entry fits the plan.
pub fn run(gpu: &Gpu, plan: &Plan, control: &Control) -> Result<Report> {
    let meter = Meter::new(gpu, control, Effort::new(plan.quick));
    let context = Context { gpu, plan, meter, rates: RefCell::default() };
    let specs = chosen(plan, all(&context))?;
    let mut report = Report {
        schema: SCHEMA,
        device: gpu.caps().into(),
        version: crate::VERSION.to_owned(),
        quick: plan.quick,
        seed: SEED,
        stopped: false,
        entries: Vec::with_capacity(specs.len()),
    };
    for (index, spec) in specs.iter().enumerate() {
        control.report(&spec.name, index as u64, specs.len() as u64, "entries");
        let done = control.cancel.check().and_then(|()| (spec.run)(&context));
        match done {
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                report.stopped = true;
                break;
            }
            done => report.entries.push(context.entry(spec, done)),
        }
    }
    control.report("done", specs.len() as u64, specs.len() as u64, "entries");
    Ok(report)
}

/// What every entry gets.
struct Context<'a> {
    gpu: &'a Gpu,
    plan: &'a Plan,
    meter: Meter<'a>,
    /// Rates of the entries so far, by name: the roofs are among them.
    rates: RefCell<HashMap<String, f64>>,
}

/// Prepares an operation, checks its answer, times it.
type Run = Box<dyn Fn(&Context<'_>) -> Result<Done>>;

/// One entry to measure.
struct Spec {
    name: String,
    group: &'static str,
    /// The entry whose rate bounds this one's.
    roof: Option<&'static str>,
    run: Run,
}

/// What came of an entry.
enum Done {
    Measured(Measured),
    /// Not run, and why.
    Skipped(String),
}

/// A time and what was done in it.
struct Measured {
    work: f64,
    unit: &'static str,
    /// The same in the roof's unit, where `unit` is another.
    bound: Option<f64>,
    timing: Timing,
    transfer: Option<f64>,
    note: Option<String>,
    kernels: Vec<KernelTime>,
}

impl Measured {
    fn new(work: f64, unit: &'static str, timing: Timing) -> Self {
        Self { work, unit, bound: None, timing, transfer: None, note: None, kernels: vec![] }
    }

    fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// What it takes at least in the roof's unit.
    fn bound(self, bound: f64) -> Self {
        Self { bound: Some(bound), ..self }
    }

    fn done(self) -> Result<Done> {
        Ok(Done::Measured(self))
    }
}

impl Spec {
    fn new(
        group: &'static str,
        name: impl Into<String>,
        roof: Option<&'static str>,
        run: impl Fn(&Context<'_>) -> Result<Done> + 'static,
    ) -> Self {
        Self { name: name.into(), group, roof, run: Box::new(run) }
    }
}

impl Context<'_> {
    fn quick(&self) -> bool {
        self.plan.quick
    }

    /// Runs an operation once, checks its answer, then times it.
    fn measure(
        &self,
        work: f64,
        unit: &'static str,
        record: &dyn Fn(&mut crate::gpu::Recording) -> Result<()>,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<Measured> {
        let first = self.meter.first(record)?;
        check()?;
        Ok(Measured::new(work, unit, self.meter.time(first, record)?))
    }

    fn entry(&self, spec: &Spec, done: Result<Done>) -> Entry {
        let mut entry = Entry {
            name: spec.name.clone(),
            group: spec.group.to_owned(),
            work: None,
            unit: String::new(),
            bound: None,
            seconds: None,
            spread: None,
            rate: None,
            roof: spec.roof.map(str::to_owned),
            share: None,
            check: String::new(),
            clock: None,
            wall: None,
            compile: None,
            transfer: None,
            runs: None,
            note: None,
            kernels: vec![],
        };
        match done {
            Err(error) => entry.check = format!("error: {error}"),
            Ok(Done::Skipped(why)) => entry.check = format!("n/a: {why}"),
            Ok(Done::Measured(measured)) => self.fill(&mut entry, measured),
        }
        entry
    }

    fn fill(&self, entry: &mut Entry, measured: Measured) {
        let Measured { work, unit, bound, timing, transfer, note, kernels } = measured;
        let seconds = timing.seconds.max(1e-12);
        let rate = work / seconds;
        let mut rates = self.rates.borrow_mut();
        let bounded = bound.map_or(rate, |bound| bound / seconds);
        entry.share = entry.roof.as_ref().and_then(|roof| rates.get(roof)).map(|roof| bounded / roof);
        rates.insert(entry.name.clone(), rate);
        entry.work = Some(work);
        entry.unit = unit.to_owned();
        entry.bound = bound;
        entry.seconds = Some(timing.seconds);
        entry.spread = Some(timing.spread);
        entry.rate = Some(rate);
        entry.check = "ok".to_owned();
        entry.clock = Some(if timing.device_clock { "device" } else { "wall" }.to_owned());
        entry.wall = Some(timing.wall);
        entry.compile = timing.first;
        entry.runs = Some(timing.runs);
        (entry.transfer, entry.note, entry.kernels) = (transfer, note, kernels);
    }
}

fn all(context: &Context<'_>) -> Vec<Spec> {
    let mut specs = host::specs(context);
    specs.extend(roofs::specs(context));
    specs.extend(matmul::specs(context));
    specs.extend(memory::specs(context));
    specs.extend(kernels::specs(context));
    specs.extend(gradients::specs(context));
    specs.extend(startup::specs());
    specs.extend(verify::specs(context));
    specs.extend(images::specs(context));
    specs.extend(splits::specs());
    specs.extend(train::specs(context));
    specs.extend(pack::specs(context));
    specs.extend(rans::specs());
    specs.extend(hash::specs(context));
    specs
}

/// The entries of a plan, with the roofs that they name.
fn chosen(plan: &Plan, all: Vec<Spec>) -> Result<Vec<Spec>> {
    let named = |spec: &Spec| plan.only.as_ref().is_none_or(|p| spec.name.contains(p) || spec.group.contains(p));
    let wanted = |spec: &Spec| named(spec) && (plan.groups.is_empty() || plan.groups.contains(&spec.group));
    let roofs: Vec<&'static str> = all.iter().filter(|s| wanted(s)).filter_map(|s| s.roof).collect();
    if !all.iter().any(wanted) {
        let mut groups: Vec<&str> = all.iter().map(|s| s.group).collect();
        groups.dedup();
        let pattern = plan.only.as_deref().unwrap_or_default();
        return Err(crate::Error::bad_input(format!("no entry's name or group contains '{pattern}'"))
            .with_help(format!("groups are: {}", groups.join(", "))));
    }
    Ok(all.into_iter().filter(|s| wanted(s) || roofs.contains(&s.name.as_str())).collect())
}

#[cfg(test)]
mod tests;
