//! `wavehull pack`: what compression does to the memory of an accelerator, and compressed files of tensors.

mod analyze;
mod files;
mod model;
mod simulate;
mod sweep;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use wavehull::pack::{Scheme, Workload};
use wavehull::{Error, Result};

use super::{Global, write_file};

/// Arguments of `wavehull pack`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Footprint of a network's tensors under every scheme, and what machines make of it
    Analyze(analyze::Args),
    /// Cycles, traffic and energy of each layer on one machine, or SCALE-Sim's reports
    Simulate(simulate::Args),
    /// Storages, schemes and machines crossed, and which combinations nothing else beats
    Sweep(sweep::Args),
    /// Compress arrays into one checked file, without loss
    Encode(files::EncodeArgs),
    /// Bring the arrays of a compressed file back, or check it
    Decode(files::DecodeArgs),
}

impl Args {
    /// Whether errors are printed as JSON too.
    pub fn wants_json(&self) -> bool {
        match &self.task {
            Task::Analyze(args) => args.json,
            Task::Simulate(args) => args.json,
            Task::Sweep(args) => args.json,
            Task::Encode(args) => args.json,
            Task::Decode(args) => args.json,
        }
    }
}

/// An argument that the library parses; what helps belongs to the message.
fn parsed<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: Error| match e.help() {
        Some(help) => format!("{}\n  help: {help}", e.message()),
        None => e.message().to_owned(),
    })
}

/// Runs what was asked for.
///
/// # Errors
/// Bad files with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    match &args.task {
        Task::Analyze(args) => analyze::run(args, global),
        Task::Simulate(args) => simulate::run(args, global),
        Task::Sweep(args) => sweep::run(args, global),
        Task::Encode(args) => files::encode(args, global),
        Task::Decode(args) => files::decode(args, global),
    }
}

/// The schemes that were named, or those of a report by default.
fn schemes(named: &[Scheme]) -> Vec<Scheme> {
    if named.is_empty() { Scheme::standard() } else { named.to_vec() }
}

/// Refuses a table of layers where values are compressed.
fn with_values(workload: &Workload, file: &Path) -> Result<()> {
    let known = workload.layers.iter().any(|layer| layer.weights.is_some() || !layer.inputs.is_empty());
    if known || !workload.loose.is_empty() {
        return Ok(());
    }
    Err(Error::bad_input("shapes without values: there is nothing to compress")
        .in_file(file)
        .with_help("give a network, or see what its layers cost uncompressed with `wavehull pack simulate`"))
}

/// Writes files of a report into a folder, which is made, and says so.
fn write_report(folder: &Path, files: &[(&str, String)], global: &Global) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    for (name, text) in files {
        write_file(&folder.join(name), text)?;
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    global.say(format!("written to {}: {}", folder.display(), names.join(", ")));
    Ok(())
}

/// A report as JSON text.
fn json_text(document: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|e| Error::internal("a report cannot be written as JSON").with_source(e))?;
    Ok(text + "\n")
}

/// Several machine files.
fn machines(files: &[PathBuf]) -> Result<Vec<wavehull::pack::machine::Machine>> {
    files.iter().map(|file| wavehull::pack::machine::Machine::read(file)).collect()
}

/// An energy of so many pJ in the unit that fits.
fn joules(pj: f64) -> String {
    let (scale, unit) = match pj {
        e if e >= 1e9 => (1e9, "mJ"),
        e if e >= 1e6 => (1e6, "uJ"),
        e if e >= 1e3 => (1e3, "nJ"),
        _ => (1.0, "pJ"),
    };
    format!("{} {unit}", super::render::digits(pj / scale))
}

/// A name that a table has room for: converters string together all that they merged, and what tells layers apart comes last.
fn brief(name: &str) -> String {
    const ROOM: usize = 40;
    match name.chars().count().checked_sub(ROOM) {
        None | Some(0) => name.to_owned(),
        Some(over) => std::iter::once('…').chain(name.chars().skip(over + 1)).collect(),
    }
}

/// Bits as bytes in the unit that fits.
fn size(bits: f64) -> String {
    super::render::bytes((bits / 8.0).ceil() as u64)
}
