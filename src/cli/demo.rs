//! `wavehull demo`: a hundred digits, two networks, several radii; a counterexample; every proof re-checked.

mod digits;
mod recheck;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use wavehull::verify::proof::Proof;
use wavehull::verify::{Counterexample, Outcome, Property, Verdict, Verifier, VerifyOptions};
use wavehull::{Error, ErrorKind, Gpu, Result, VERSION};

use super::device::{DeviceArgs, DeviceReport};
use super::fault::{self, Fault};
use super::progress::Bar;
use super::render::{Table, beside, bytes, counted, number, picture, since, time};
use super::{Global, SCHEMA, exit, write_file};
use digits::{Digit, Network};
use recheck::{Job, Rechecked, recheck};

/// The radius of the digit that is certified first.
const FIRST_RADIUS: f64 = 0.05;

/// Arguments of `wavehull demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For each digit: does every picture within the radius of it, pixel by pixel, keep its class? \
The networks and digits are inside this program.

Exit codes: 0 done, 1 a proof was refused, 4 no device.")]
pub struct Args {
    /// How many digits (those of 2,000 that both networks classify right)
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=digits::TEST_DIGITS as i64))]
    digits: u16,
    /// Radii, pixels being in [0, 1]
    #[arg(long, value_name = "R,...", value_delimiter = ',', default_values_t = [0.01, 0.02, 0.05, 0.1], value_parser = radius)]
    radius: Vec<f64>,
    /// Write the networks and a property here, to try `verify` and `check` on
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

fn radius(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a radius is a number between 0 and 1".to_owned()),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    digits: usize,
    first_answer_seconds: f64,
    rows: Vec<&'a Row>,
    counterexample: Option<Shown<'a>>,
    proofs: ProofReport,
    seconds: f64,
}

/// One network at one radius.
#[derive(Debug, Serialize)]
struct Row {
    network: &'static str,
    radius: f64,
    certified: usize,
    falsified: usize,
    unknown: usize,
    ms_per_digit: f64,
}

#[derive(Serialize)]
struct Shown<'a> {
    network: &'static str,
    radius: f64,
    /// Place among the test digits.
    digit: usize,
    label: usize,
    class: usize,
    /// Largest change of a pixel.
    distance: f64,
    #[serde(flatten)]
    point: &'a Counterexample,
}

#[derive(Serialize)]
struct ProofReport {
    bytes: usize,
    accepted: usize,
    refused: Vec<Fault>,
    threads: usize,
    seconds: f64,
}

/// The digits of one network at one radius, decided.
struct Batch<'a> {
    network: &'a Network,
    properties: Vec<Property>,
    outcomes: Vec<Outcome>,
    row: Row,
}

/// Runs the demo.
///
/// # Errors
/// Those of opening the device and [`Verifier::verify`].
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let start = Instant::now();
    let gpu = args.device.open(global)?;
    let networks = digits::networks()?;
    let digits = digits::classified_right(&networks, usize::from(args.digits))?;
    let verifiers = [verifier(&gpu, &networks[0])?, verifier(&gpu, &networks[1])?];
    let Some(first) = digits.first() else { return Err(Error::internal("no digit is classified right")) };
    let first_answer = first_digit(first, &verifiers[1], start, global)?;

    let mut batches = decide_all(args, &networks, &verifiers, &digits, global)?;
    if !args.json {
        global.print(table(&batches, digits.len()).render(global.out));
        if let Some((shown, digit)) = counterexample(&batches, &digits) {
            global.print(format!("\n{}\n", draw(&shown, digit, global)));
        }
    }
    let (rechecked, size) = recheck_all(&mut batches, global)?;
    let code = if rechecked.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::NEGATIVE) };
    let saved = args.save.as_deref().map(|folder| save(folder, &networks, first)).transpose()?;
    if args.json {
        global.print_json(&Document {
            schema: SCHEMA,
            version: VERSION,
            device: gpu.caps().into(),
            digits: digits.len(),
            first_answer_seconds: first_answer,
            rows: batches.iter().map(|b| &b.row).collect(),
            counterexample: counterexample(&batches, &digits).map(|(shown, _)| shown),
            proofs: proof_report(&rechecked, size),
            seconds: since(start),
        })?;
    } else {
        closing(&rechecked, size, start, global);
        if let Some(text) = saved {
            global.print(text);
        }
    }
    Ok(code)
}

/// Every network at every radius.
fn decide_all<'a>(
    args: &Args,
    networks: &'a [Network; 2],
    verifiers: &[Verifier; 2],
    digits: &[Digit],
    global: &Global,
) -> Result<Vec<Batch<'a>>> {
    let mut batches = Vec::new();
    let bar = Bar::counting(global, networks.len() * args.radius.len());
    for (network, verifier) in networks.iter().zip(verifiers) {
        for &radius in &args.radius {
            bar.phase(&format!("{} network, radius {radius}", network.name));
            match decide(network, verifier, digits, radius, &bar) {
                Ok(batch) => batches.push(batch),
                Err(error) => return Err(give_up(error, &batches, digits.len(), global)),
            }
            bar.advance();
        }
    }
    Ok(batches)
}

/// Re-checks the proofs of all batches, and gives the bytes of their text.
fn recheck_all(batches: &mut [Batch<'_>], global: &Global) -> Result<(Rechecked, usize)> {
    let jobs = jobs(batches);
    let bar = Bar::counting(global, jobs.len());
    bar.phase("proofs re-checked on the CPU");
    let rechecked = recheck(&jobs, &bar, &global.cancel)?;
    Ok((rechecked, jobs.iter().map(|job| job.text.len()).sum()))
}

fn verifier(gpu: &Gpu, network: &Network) -> Result<Verifier> {
    let mut options = VerifyOptions::default();
    options.proofs = true;
    Verifier::new(gpu, &network.graph, options)
}

/// One digit first: an answer within seconds, whatever the device. Returns the seconds from the start.
fn first_digit(digit: &Digit, robust: &Verifier, start: Instant, global: &Global) -> Result<f64> {
    let outcomes = robust.verify(&[&digit.robust_within(FIRST_RADIUS)], &global.control())?;
    let verdict = match outcomes.first().map(|o| &o.verdict) {
        Some(Verdict::Holds) => global.err.green("certified"),
        Some(Verdict::Violated(_)) => global.err.red("falsified"),
        _ => global.err.yellow("unknown"),
    };
    let seconds = since(start);
    global.say(format!(
        "first digit: a {} on the robust network, {verdict} within {FIRST_RADIUS} of every pixel, {} after the start (kernels compiled)\n",
        digit.label,
        time(seconds)
    ));
    Ok(seconds)
}

fn decide<'a>(
    network: &'a Network,
    verifier: &Verifier,
    digits: &[Digit],
    radius: f64,
    bar: &std::sync::Arc<Bar>,
) -> Result<Batch<'a>> {
    let properties: Vec<Property> = digits.iter().map(|d| d.robust_within(radius)).collect();
    let start = Instant::now();
    let outcomes = verifier.verify(&properties.iter().collect::<Vec<_>>(), &bar.control())?;
    let seconds = since(start);
    let count = |wanted: fn(&Verdict) -> bool| outcomes.iter().filter(|o| wanted(&o.verdict)).count();
    let row = Row {
        network: network.name,
        radius,
        certified: count(|v| matches!(v, Verdict::Holds)),
        falsified: count(|v| matches!(v, Verdict::Violated(_))),
        unknown: count(|v| matches!(v, Verdict::Unknown(_))),
        ms_per_digit: seconds * 1e3 / digits.len().max(1) as f64,
    };
    Ok(Batch { network, properties, outcomes, row })
}

/// Shows what is known when the demo is stopped.
fn give_up(error: Error, batches: &[Batch<'_>], digits: usize, global: &Global) -> Error {
    if error.kind() == ErrorKind::Cancelled && !batches.is_empty() {
        global.say(table(batches, digits).render(global.err));
    }
    error
}

fn table(batches: &[Batch<'_>], digits: usize) -> Table {
    let of = |what: &str| format!("{what} of {digits}");
    let headings = ["network", "radius", &of("certified"), "falsified", "unknown", "time per digit"];
    let mut table = Table::new(&headings);
    for Batch { row, .. } in batches {
        let counts = [row.certified, row.falsified, row.unknown].map(|n| n.to_string());
        let [certified, falsified, unknown] = counts;
        let time = time(row.ms_per_digit / 1e3);
        table.row([row.network.to_owned(), row.radius.to_string(), certified, falsified, unknown, time]);
    }
    table
}

/// The counterexample at the smallest radius, with its digit.
fn counterexample<'a>(batches: &'a [Batch<'_>], digits: &'a [Digit]) -> Option<(Shown<'a>, &'a Digit)> {
    let all = batches.iter().flat_map(|batch| {
        batch.outcomes.iter().zip(digits).filter_map(move |(outcome, digit)| match &outcome.verdict {
            Verdict::Violated(point) => Some((batch, &**point, digit)),
            _ => None,
        })
    });
    let (batch, point, digit) = all.min_by(|a, b| a.0.row.radius.total_cmp(&b.0.row.radius))?;
    let distance = point.x.iter().zip(&digit.pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let shown = Shown {
        network: batch.network.name,
        radius: batch.row.radius,
        digit: digit.index,
        label: digit.label,
        class: digits::class(&point.y),
        distance,
        point,
    };
    Some((shown, digit))
}

fn draw(shown: &Shown<'_>, digit: &Digit, global: &Global) -> String {
    let Shown { network, label, class, distance, .. } = shown;
    let title = format!(
        "A counterexample on the {network} network: no pixel of test digit {} moves by more than {}.",
        shown.digit,
        number(*distance)
    );
    let blocks = [
        (format!("seen as {label}"), picture(&digit.pixels, digits::WIDTH, global.out)),
        (format!("seen as {class}"), picture(&shown.point.x, digits::WIDTH, global.out)),
    ];
    format!("{title}\n{}", beside(&blocks, digits::WIDTH))
}

/// The proof of everything that was certified, as text.
fn jobs<'a>(batches: &'a mut [Batch<'_>]) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for Batch { network, properties, outcomes, .. } in batches {
        for (property, outcome) in properties.iter().zip(outcomes) {
            if let Some(queries) = outcome.proof.take() {
                let digest = digits::digest(property);
                let text = Proof::new(network.digest.as_str(), digest.as_str(), "strict", queries).to_string();
                jobs.push(Job { network, property, digest, text });
            }
        }
    }
    jobs
}

fn proof_report(rechecked: &Rechecked, bytes: usize) -> ProofReport {
    ProofReport {
        bytes,
        accepted: rechecked.accepted,
        refused: rechecked.refused.iter().map(Fault::from).collect(),
        threads: rechecked.threads,
        seconds: rechecked.seconds,
    }
}

fn closing(rechecked: &Rechecked, size: usize, start: Instant, global: &Global) {
    let Rechecked { accepted, refused, threads, seconds } = rechecked;
    for error in refused.iter().take(3) {
        eprintln!("{}", fault::text(error, global));
    }
    let how = format!("{}, {} of text, {}", time(*seconds), bytes(size as u64), counted(*threads, "thread"));
    if refused.is_empty() {
        let line = format!("all {accepted} proofs re-checked on the CPU: no GPU was trusted");
        global.print(format!("{} ({how})", global.out.green(&line)));
    } else {
        let line = format!("{} of {} proofs were REFUSED on the CPU", refused.len(), refused.len() + accepted);
        global.print(format!("{} ({how}); please report it with `wavehull doctor --json`", global.out.red(&line)));
    }
    global.say(format!("{} from start to end", time(since(start))));
}

/// Writes files to try the other commands on, and says which.
fn save(folder: &Path, networks: &[Network], digit: &Digit) -> Result<String> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    for network in networks {
        let file = folder.join(format!("{}.onnx", network.name));
        std::fs::write(&file, network.file).map_err(|e| Error::io(&file, e))?;
    }
    let property = folder.join("digit.vnnlib");
    write_file(&property, &digit.vnnlib(FIRST_RADIUS))?;
    let [standard, robust, proof] = ["standard.onnx", "robust.onnx", "robust.proof"].map(|name| folder.join(name));
    let [standard, robust, property, proof] =
        [standard, robust, property, proof].map(|path| path.display().to_string());
    Ok(format!(
        "\nTry:\n  wavehull verify {standard} {property}\n  wavehull verify {robust} {property} --proof {proof}\n  \
         wavehull check {proof} {robust} {property}"
    ))
}
