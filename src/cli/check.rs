//! `wavehull check`: a proof re-checked on the CPU.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use wavehull::verify::check::{CheckReport, check_files};
use wavehull::{Error, ErrorKind, Result, VERSION};

use super::fault::{self, Fault};
use super::render::{counted, fields, number, since, time};
use super::{Global, SCHEMA, exit};

/// Arguments of `wavehull check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The checker takes only choices from the proof and derives every bound itself, in f64 with each rounding covered. \
It needs no GPU and shares no code with the path that made the proof.

Exit codes: 0 accepted, 1 refused, 2 a file cannot be read.")]
pub struct Args {
    /// The proof, as `verify --proof` wrote it
    proof: PathBuf,
    /// The ONNX network, plain or gzipped
    network: PathBuf,
    /// The VNN-LIB property, plain or gzipped
    property: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    version: &'static str,
    accepted: bool,
    soundness: Option<String>,
    queries: Option<usize>,
    claims: Option<usize>,
    refined: Option<usize>,
    /// The smallest re-derived margin; absent where nothing had to be claimed.
    margin: Option<f64>,
    seconds: f64,
    error: Option<Fault>,
}

/// Checks a proof.
///
/// # Errors
/// Those of [`check_files`] but for [`ErrorKind::BadProof`], which is an answer.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let start = Instant::now();
    match check_files(&args.proof, &args.network, &args.property) {
        Ok(report) => accepted(&report, since(start), args.json, global),
        Err(error) if error.kind() == ErrorKind::BadProof => refused(&error, since(start), args.json, global),
        Err(error) => Err(error),
    }
}

fn accepted(report: &CheckReport, seconds: f64, json: bool, global: &Global) -> Result<ExitCode> {
    let margin = report.worst.is_finite().then_some(report.worst);
    if json {
        global.print_json(&Document {
            schema: SCHEMA,
            version: VERSION,
            accepted: true,
            soundness: Some(report.soundness.clone()),
            queries: Some(report.queries),
            claims: Some(report.claims),
            refined: Some(report.refined),
            margin,
            seconds,
            error: None,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let [queries, claims, refined] =
        [(report.queries, "box"), (report.claims, "claim"), (report.refined, "refined neuron")]
            .map(|(count, noun)| counted(count, noun));
    global.print(format!("{}: the property holds, whoever wrote the proof", global.out.green("accepted")));
    let margin = margin
        .map_or("nothing had to be claimed".to_owned(), |m| format!("{} (the smallest of all claims)", number(m)));
    let lines = [
        ("re-derived", format!("{queries}, {claims}, {refined}, in f64 rounded outward")),
        ("margin", margin),
        ("made with", format!("{} arithmetic (the checker does not rely on it)", report.soundness)),
        ("time", format!("{} on the CPU", time(seconds))),
    ];
    global.print(fields(&lines, global.out));
    Ok(ExitCode::SUCCESS)
}

fn refused(error: &Error, seconds: f64, json: bool, global: &Global) -> Result<ExitCode> {
    eprintln!("{}", fault::text(error, global));
    if json {
        global.print_json(&Document {
            schema: SCHEMA,
            version: VERSION,
            accepted: false,
            soundness: None,
            queries: None,
            claims: None,
            refined: None,
            margin: None,
            seconds,
            error: Some(Fault::from(error)),
        })?;
    } else {
        global.print(format!("{}: this proof shows nothing; the property may hold or not", global.out.red("refused")));
    }
    Ok(ExitCode::from(exit::NEGATIVE))
}
