//! `wavehull verify`: one property of one network; lists are [`super::list`]'s.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use wavehull::graph::onnx;
use wavehull::verify::instances::{Instance, InstanceReport, Summary};
use wavehull::verify::proof::{Proof, sha256_hex};
use wavehull::verify::{
    Boxes, Counterexample, Outcome, Property, Row, Soundness, Verdict, Verifier, VerifyOptions, vnnlib,
};
use wavehull::{ErrorKind, Gpu, Result, VERSION};

use super::device::{DeviceArgs, DeviceReport};
use super::progress::Bar;
use super::render::{bytes, fields, number, since, time};
use super::{Global, SCHEMA, exit, list, vnncomp, write_file};

/// Values of a counterexample's input that are shown; `--json` and `--vnncomp` have them all.
const SHOWN_INPUTS: usize = 8;
/// Outputs that are shown.
const SHOWN_OUTPUTS: usize = 16;

/// Arguments of `wavehull verify`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "wavehull verify [OPTIONS] <NETWORK> <PROPERTY>\n       wavehull verify [OPTIONS] --instances <LIST.csv>",
    after_help = "\
Exit codes: 0 holds, 1 violated, 3 unknown or timeout.
For a list: 0 it ran to its end, 2 an instance could not be read or run, 5 a verdict contradicts the list's.

Examples:
  wavehull verify net.onnx property.vnnlib --proof net.proof
  wavehull check net.proof net.onnx property.vnnlib
  wavehull verify --instances instances.csv --counterexamples found/"
)]
pub struct Args {
    /// The ONNX network, plain or gzipped
    #[arg(required_unless_present = "instances", conflicts_with = "instances")]
    network: Option<PathBuf>,
    /// The VNN-LIB property, plain or gzipped
    #[arg(required_unless_present = "instances", conflicts_with = "instances")]
    property: Option<PathBuf>,
    /// Give up after this long [default: never; in a list, the list's own limits]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Split the boxes of what is still open, and give up each property this long after its batch began [default: no splits]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    cap: Option<Duration>,
    /// Split only boxes in which at most this many inputs vary
    #[arg(long, value_name = "N", default_value_t = 20, requires = "cap")]
    split_inputs: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write a proof here if the property holds
    #[arg(long, value_name = "FILE", conflicts_with = "instances")]
    proof: Option<PathBuf>,
    /// Write VNN-COMP's result file here: a word, and for `sat` the counterexample
    #[arg(long, value_name = "FILE", conflicts_with = "instances")]
    vnncomp: Option<PathBuf>,
    #[command(flatten)]
    analysis: AnalysisArgs,
    #[command(flatten)]
    pub list: list::ListArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// How to analyse.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Analysis")]
struct AnalysisArgs {
    /// Take f32 results as exact: faster claims that rounding may make wrong; reports say so
    #[arg(long)]
    trust_f32: bool,
    /// Look for no counterexamples
    #[arg(long)]
    no_attack: bool,
    /// Back-substitute every neuron and drop no row (slower; for comparisons)
    #[arg(long)]
    all_rows: bool,
    /// Keep the last level's bounds only, as plain CROWN does (weaker; for comparisons)
    #[arg(long)]
    no_intersect: bool,
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let value = text.parse::<f64>().map_err(|e| e.to_string())?;
    match Duration::try_from_secs_f64(value) {
        Ok(limit) if !limit.is_zero() => Ok(limit),
        _ => Err("a time limit is a positive number of seconds".to_owned()),
    }
}

impl Args {
    /// The options of a verifier.
    pub fn options(&self, proofs: bool) -> VerifyOptions {
        let mut options = VerifyOptions::default();
        if self.analysis.trust_f32 {
            options.soundness = Soundness::TrustF32;
        }
        options.attack = !self.analysis.no_attack;
        options.all_rows = self.analysis.all_rows;
        options.intersect = !self.analysis.no_intersect;
        options.timeout = self.timeout;
        options.cap = self.cap;
        options.split_inputs = self.split_inputs;
        options.proofs = proofs;
        options
    }
}

/// Seconds before any computing on the device.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct StartUp {
    /// Reading the files.
    pub reading: f64,
    /// Opening the device.
    pub device: f64,
}

/// Device memory of a run, in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// Most in use at once.
    pub peak: u64,
    /// Taken from the device at the end, in use or kept for reuse.
    pub reserved: u64,
    /// What it never exceeds.
    pub budget: u64,
}

impl Memory {
    /// What a device's pool came to.
    pub fn of(gpu: &Gpu) -> Self {
        let wavehull::gpu::MemoryUse { peak, reserved, budget, .. } = gpu.memory();
        Self { peak, reserved, budget }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "device memory: peak {}, budget {}", bytes(self.peak), bytes(self.budget))
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    property: String,
    startup: StartUp,
    memory: Memory,
    instances: [&'a InstanceReport; 1],
    summary: Summary,
    counterexample: Option<Found<'a>>,
    proof: Option<&'a Path>,
}

#[derive(Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    point: &'a Counterexample,
    condition: String,
}

/// What one property came to.
struct Done {
    property: Property,
    outcome: Outcome,
    report: InstanceReport,
    /// The proof's file and its bytes.
    proof: Option<(PathBuf, u64)>,
    /// Why there is no proof's file though one was asked for.
    unwritten: Option<wavehull::Error>,
    startup: StartUp,
    gpu: Gpu,
}

/// Verifies one property or a list of them.
///
/// # Errors
/// Those of reading the files, opening the device and [`Verifier::verify`].
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let (Some(network), Some(property)) = (&args.network, &args.property) else {
        return list::run(args, global);
    };
    let done = decide(args, network, property, global);
    if let Some(file) = &args.vnncomp {
        let text = match &done {
            Ok(done) => vnncomp::result_file(done.report.result, Some(&done.outcome)),
            Err(error) if error.kind() == ErrorKind::Cancelled => vnncomp::result_file("unknown", None),
            Err(_) => vnncomp::result_file("error", None),
        };
        write_file(file, &text)?;
    }
    let done = done?;
    if args.json {
        print_json(&done, global)?;
    } else {
        print_words(args, &done, global);
    }
    if let Some(error) = done.unwritten {
        return Err(error);
    }
    Ok(match done.outcome.verdict {
        Verdict::Holds => ExitCode::SUCCESS,
        Verdict::Violated(_) => ExitCode::from(exit::NEGATIVE),
        Verdict::Unknown(_) => ExitCode::from(exit::UNKNOWN),
    })
}

fn decide(args: &Args, network: &Path, property_file: &Path, global: &Global) -> Result<Done> {
    let start = Instant::now();
    let (graph, network_bytes) = onnx::read(network)?;
    let (property, property_bytes) = vnnlib::read(property_file)?;
    let reading = since(start);
    let gpu = args.device.open(global)?;
    let startup = StartUp { reading, device: since(start) - reading };
    if !args.json {
        global.print(fields(&[("property", property.summary())], global.out));
    }
    let mut options = args.options(args.proof.is_some());
    // The limit is the user's, and for the user the clock began with the command.
    options.timeout = options.timeout.map(|limit| limit.saturating_sub(start.elapsed()));
    let bar = Bar::phases(global);
    let computing = Instant::now();
    let verifier = Verifier::new(&gpu, &graph, options.clone())?;
    let mut outcome = one(verifier.verify(&[&property], &bar.control())?)?;
    outcome.seconds = since(computing);
    bar.finish();

    let instance = Instance {
        onnx: network.display().to_string(),
        vnnlib: property_file.display().to_string(),
        timeout: None,
        verdict: None,
    };
    let outcome = Ok(outcome);
    let report = InstanceReport::new(&instance, &options, &outcome);
    let mut outcome = outcome?;
    let (mut proof, mut unwritten) = (None, None);
    if let (Some(file), Some(queries)) = (&args.proof, outcome.proof.take()) {
        let soundness = options.soundness.name();
        let text = Proof::new(sha256_hex(&network_bytes), sha256_hex(&property_bytes), soundness, queries).to_string();
        // A verdict is worth more than its proof's file: it is printed before a failure to write is.
        match write_file(file, &text) {
            Ok(()) => proof = Some((file.clone(), text.len() as u64)),
            Err(error) => unwritten = Some(error),
        }
    }
    Ok(Done { property, outcome, report, proof, unwritten, startup, gpu })
}

fn one(outcomes: Vec<Outcome>) -> Result<Outcome> {
    outcomes.into_iter().next().ok_or_else(|| wavehull::Error::internal("a property without an outcome"))
}

fn print_json(done: &Done, global: &Global) -> Result<()> {
    let found = match &done.outcome.verdict {
        Verdict::Violated(point) => Some(Found { point, condition: condition(&done.property, point) }),
        _ => None,
    };
    global.print_json(&Document {
        schema: SCHEMA,
        version: VERSION,
        device: done.gpu.caps().into(),
        property: done.property.summary(),
        startup: done.startup,
        memory: Memory::of(&done.gpu),
        instances: [&done.report],
        summary: Summary::of([&done.report], done.report.seconds),
        counterexample: found,
        proof: done.proof.as_ref().map(|(file, _)| file.as_path()),
    })
}

fn print_words(args: &Args, done: &Done, global: &Global) {
    let style = global.out;
    let trusting =
        if args.analysis.trust_f32 { " (f32 results taken as exact: rounding is not accounted for)" } else { "" };
    let mut lines = Vec::new();
    let first = match &done.outcome.verdict {
        Verdict::Holds => format!("{}: no input in the box violates the property{trusting}", style.green("holds")),
        Verdict::Violated(point) => {
            lines.extend(describe(&done.property, point));
            format!("{}: here is an input that does, confirmed in f64", style.red("violated"))
        }
        Verdict::Unknown(why) => format!("{}: {why}", style.yellow("unknown")),
    };
    if let Some(margin) = done.outcome.margin {
        lines.push(("margin", format!("{} (the tightest lower bound; above 0 holds)", number(margin))));
    }
    if let Some(boxes) = done.outcome.boxes {
        lines.push(("boxes", split_words(boxes)));
    }
    let StartUp { reading, device } = done.startup;
    let startup = format!("start-up: reading {}, device {}", time(reading), time(device));
    lines.push(("time", format!("{} to compile kernels and compute; {startup}", time(done.outcome.seconds))));
    if let Some((file, size)) = &done.proof {
        lines.push(("proof", format!("{} ({})", file.display(), bytes(*size))));
    } else if args.proof.is_some() && done.unwritten.is_none() {
        let why = match (&done.outcome.verdict, done.outcome.boxes) {
            (Verdict::Holds, Some(_)) => "splits carry no proof yet",
            _ => "only what holds has one",
        };
        lines.push(("proof", format!("none written: {why}")));
    }
    global.print(first);
    global.print(fields(&lines, style));
}

/// `130 done, 12 left; 271 bounded`
pub fn split_words(boxes: Boxes) -> String {
    let Boxes { done, left, bounded, .. } = boxes;
    format!("{done} done, {left} left; {bounded} bounded")
}

/// A counterexample in short.
fn describe(property: &Property, point: &Counterexample) -> [(&'static str, String); 3] {
    let short = |values: &[f64], most: usize| {
        let shown: Vec<String> = values.iter().take(most).map(|&v| number(v)).collect();
        let rest = if values.len() > most { format!(" ... ({} values)", values.len()) } else { String::new() };
        format!("{}{rest}", shown.join(" "))
    };
    [
        ("X", short(&point.x, SHOWN_INPUTS)),
        ("Y", short(&point.y, SHOWN_OUTPUTS)),
        ("fulfils", condition(property, point)),
    ]
}

/// The condition that a counterexample fulfils, in words.
fn condition(property: &Property, point: &Counterexample) -> String {
    let query = property.queries.get(point.query);
    let rows = query.and_then(|q| q.unsafe_if.get(point.conjunction)).map(Vec::as_slice).unwrap_or_default();
    let words = match rows {
        [] => "any output at all".to_owned(),
        rows => rows.iter().map(Row::to_string).collect::<Vec<_>>().join(" and "),
    };
    match property.queries.len() {
        1 => words,
        boxes => format!("{words} (in box {} of {boxes})", point.query + 1),
    }
}
