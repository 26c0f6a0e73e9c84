//! `wavehull pack sweep`: storages, schemes and machines crossed.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::pack::machine::Machine;
use wavehull::pack::quantise::Storage;
use wavehull::pack::report::{sweep_csv, sweep_page};
use wavehull::pack::study::{Candidate, Point, Sweep, sweep};
use wavehull::pack::{FixedLane, Scheme};
use wavehull::{Error, Result, VERSION};

use super::super::device::{DeviceArgs, DeviceReport};
use super::super::progress::Bar;
use super::super::render::{Table, bytes};
use super::super::{Global, SCHEMA};
use super::model::ModelArgs;
use super::{joules, json_text, machines, parsed, schemes, size, with_values, write_report};

/// Arguments of `wavehull pack sweep`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything that is given several times is crossed with everything else.

Examples:
  wavehull pack sweep network.onnx --weights i16,i8,i8/channel,i4/32
  wavehull pack sweep network.onnx --inputs digits.npy --groups 4,8,16,32 --machine examples/machines/tpu.toml --buffers 64,256,1024 --out sweep")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// How weights of a float network are stored, several: i16,i8,i8/channel,i4/32
    #[arg(long, value_name = "STORAGE,...", value_parser = parsed::<Storage>, value_delimiter = ',', default_value = "i8/channel")]
    weights: Vec<Storage>,
    /// How activations are stored, several: u8,i16
    #[arg(long, value_name = "STORAGE,...", value_parser = parsed::<Storage>, value_delimiter = ',', default_value = "u8")]
    activations: Vec<Storage>,
    /// A scheme, several times for several [default: the usual ones]
    #[arg(long = "scheme", value_name = "SCHEME", value_parser = parsed::<Scheme>)]
    schemes: Vec<Scheme>,
    /// Groups of fixed-lane width coding to try beside the schemes
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    groups: Vec<usize>,
    /// A machine, several times for several
    #[arg(long = "machine", value_name = "FILE.toml")]
    machines: Vec<PathBuf>,
    /// Sizes of on-chip memory to give each machine, in KiB of all its buffers together
    #[arg(long, value_name = "KIB,...", value_delimiter = ',', requires = "machines")]
    buffers: Vec<u64>,
    /// DRAM bandwidths to give each machine, in bytes a cycle
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', requires = "machines")]
    bandwidths: Vec<f64>,
    /// Write sweep.html, sweep.json and sweep.csv into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the sweep as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What `--json` prints, and `sweep.json` holds.
#[derive(serde::Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    #[serde(flatten)]
    sweep: &'a Sweep,
}

/// Sweeps.
///
/// # Errors
/// Errors of the files with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let machines = varied(args)?;
    let ending = args.model.model.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    if ending.as_deref() == Some("tflite") && args.weights.len() * args.activations.len() > 1 {
        return Err(Error::bad_input(
            "a full-integer network stores its values itself: there are no storages to compare",
        )
        .in_file(&args.model.model)
        .with_help("leave --weights and --activations out, or give the float network"));
    }
    let gpu = args.device.open(global)?;
    let mut candidates: Vec<Candidate> = Vec::new();
    for &weights in &args.weights {
        for &activations in &args.activations {
            let workload = args.model.read(&gpu, weights, activations, global)?;
            with_values(&workload, &args.model.model)?;
            candidates.push(Candidate { storage: named(args, weights, activations), workload });
        }
    }
    let mut schemes = schemes(&args.schemes);
    for group in args.groups.iter().copied().map(fixed) {
        if !schemes.contains(&group) {
            schemes.push(group);
        }
    }
    let bar = Bar::phases(global);
    let sweep = sweep(&gpu, &candidates, &schemes, &machines, &bar.control());
    bar.finish();
    let sweep = sweep?;
    for candidate in &candidates {
        candidate.workload.notes.iter().for_each(|note| global.say(format!("{}: {note}", candidate.storage)));
    }
    let document = Document { schema: SCHEMA, version: VERSION, device: gpu.caps().into(), sweep: &sweep };
    if let Some(folder) = &args.out {
        let files = [
            ("sweep.html", sweep_page(&sweep)?),
            ("sweep.json", json_text(&document)?),
            ("sweep.csv", sweep_csv(&sweep)?),
        ];
        write_report(folder, &files, global)?;
    }
    if args.json {
        global.print_json(&document)?;
    } else {
        global.print(if machines.is_empty() { shares(&sweep, &schemes) } else { points(&sweep) }.render(global.out));
    }
    Ok(ExitCode::SUCCESS)
}

/// The storage of a candidate, as far as several were asked for.
fn named(args: &Args, weights: Storage, activations: Storage) -> String {
    match args.activations.len() {
        1 => weights.to_string(),
        _ => format!("{weights}, {activations}"),
    }
}

fn fixed(group: usize) -> Scheme {
    Scheme::FixedLane(FixedLane { group, ..FixedLane::default() })
}

/// Every machine with every size and bandwidth that was asked for.
fn varied(args: &Args) -> Result<Vec<Machine>> {
    let mut all = Vec::new();
    for machine in machines(&args.machines)? {
        let sized: Vec<Machine> = match args.buffers.as_slice() {
            [] => vec![machine],
            sizes => {
                sizes.iter().map(|&kib| machine.with_buffer_bytes(kib.saturating_mul(1024))).collect::<Result<_>>()?
            }
        };
        for machine in sized {
            match args.bandwidths.as_slice() {
                [] => all.push(machine),
                rates => {
                    all.extend(rates.iter().map(|&rate| machine.with_dram_bytes(rate)).collect::<Result<Vec<_>>>()?)
                }
            }
        }
    }
    if !args.machines.is_empty() && all.is_empty() {
        return Err(Error::bad_input("no machine is left to sweep over"));
    }
    Ok(all)
}

/// Footprints alone: a line a storage, a column a scheme, weights and then activations.
fn shares(sweep: &Sweep, schemes: &[Scheme]) -> Table {
    let names: Vec<String> = schemes.iter().map(ToString::to_string).collect();
    let mut headings = vec!["share of uncompressed"];
    headings.extend(names.iter().map(String::as_str));
    let mut table = Table::new(&headings);
    let lines = sweep.points.chunks(schemes.len().max(1));
    for line in lines.clone() {
        let cells = line.iter().map(|point| point.weights.map_or_else(|| "-".into(), |share| format!("{share:.3}")));
        table.line(std::iter::once(format!("weights {}", line[0].storage)).chain(cells).collect());
    }
    for line in lines.filter(|line| line[0].activations.is_some()) {
        let cells =
            line.iter().map(|point| point.activations.map_or_else(|| "-".into(), |share| format!("{share:.3}")));
        table.line(std::iter::once(format!("activations beside {}", line[0].storage)).chain(cells).collect());
    }
    table
}

/// A line a combination.
fn points(sweep: &Sweep) -> Table {
    let mut table = Table::new(&["storage", "machine", "scheme", "on chip", "DRAM", "cycles", "energy", "front"]);
    let none = || "-".to_owned();
    for point in &sweep.points {
        let Point { storage, machine, scheme, buffer_bytes, dram_bits, cycles, energy, front, .. } = point;
        table.row([
            storage.clone(),
            machine.clone().unwrap_or_else(none),
            scheme.clone(),
            buffer_bytes.map_or_else(none, bytes),
            dram_bits.map_or_else(none, size),
            cycles.map_or_else(none, |cycles| cycles.to_string()),
            energy.map_or_else(none, joules),
            if *front { "yes" } else { "" }.to_owned(),
        ]);
    }
    table
}
