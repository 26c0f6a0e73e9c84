//! `wavehull pack simulate`: a network's layers on one machine, or SCALE-Sim's model of them.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::pack::machine::scalesim;
use wavehull::pack::machine::{Cost, Machine};
use wavehull::pack::report::costs_csv;
use wavehull::pack::study::{SchemeCost, study};
use wavehull::pack::{Scheme, Workload};
use wavehull::{Error, Result, VERSION};

use super::super::device::{DeviceArgs, DeviceReport};
use super::super::progress::Bar;
use super::super::render::Table;
use super::super::{Global, SCHEMA};
use super::model::{ModelArgs, StorageArgs};
use super::{brief, joules, json_text, parsed, size, with_values, write_report};

/// Arguments of `wavehull pack simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a SCALE-Sim configuration the result is SCALE-Sim 3.0.0's, cell by cell, quirks included; with a machine of ours values count. docs/machines.md \
has both models.

Examples:
  wavehull pack simulate examples/machines/resnet50.csv --machine examples/machines/scalesim_128x128.cfg --out reports
  wavehull pack simulate network.onnx --inputs digits.npy --machine examples/machines/scnn.toml --scheme scnn4w")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    storage: StorageArgs,
    /// A machine of ours (.toml), or a SCALE-Sim configuration (.cfg)
    #[arg(long, value_name = "FILE")]
    machine: PathBuf,
    /// How tensors lie in its memory
    #[arg(long, value_name = "SCHEME", value_parser = parsed::<Scheme>, default_value = "none")]
    scheme: Scheme,
    /// Write the reports into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What `--json` prints of a machine of ours, and `costs.json` holds.
#[derive(serde::Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    network: &'a str,
    machine: &'a str,
    scheme: &'a str,
    layers: Vec<Row<'a>>,
    total: &'a Cost,
}

/// What `--json` prints of SCALE-Sim's model.
#[derive(serde::Serialize)]
struct Mirrored<'a> {
    schema: u32,
    version: &'static str,
    #[serde(flatten)]
    reports: &'a scalesim::Reports,
}

#[derive(serde::Serialize)]
struct Row<'a> {
    name: &'a str,
    macs: u64,
    #[serde(flatten)]
    cost: &'a Cost,
}

/// Simulates.
///
/// # Errors
/// Errors of the files with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    if args.machine.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("cfg")) {
        like_scalesim(args, global)
    } else {
        on_machine(args, global)
    }
}

fn on_machine(args: &Args, global: &Global) -> Result<ExitCode> {
    let machine = Machine::read(&args.machine)?;
    if args.scheme == Scheme::Entropy {
        return Err(
            Error::bad_input("the entropy is a bound, no way to store a tensor").with_help("take --scheme huffman")
        );
    }
    let gpu = args.device.open(global)?;
    let workload = args.model.read(&gpu, args.storage.weights, args.storage.activations, global)?;
    if args.scheme != Scheme::Uncompressed {
        with_values(&workload, &args.model.model)?;
    }
    let bar = Bar::phases(global);
    let study = study(&gpu, &workload, &[args.scheme], &[machine], &bar.control());
    bar.finish();
    let study = study?;
    let cost = &study.machines[0].schemes[0];
    let layers = workload.layers.iter().zip(&cost.layers);
    let document = Document {
        schema: SCHEMA,
        version: VERSION,
        device: gpu.caps().into(),
        network: &study.network,
        machine: &study.machines[0].machine,
        scheme: &cost.scheme,
        layers: layers.map(|(layer, cost)| Row { name: &layer.name, macs: layer.shape.macs(), cost }).collect(),
        total: &cost.total,
    };
    if let Some(folder) = &args.out {
        write_report(folder, &[("costs.json", json_text(&document)?), ("costs.csv", costs_csv(&study)?)], global)?;
    }
    if args.json {
        global.print_json(&document)?;
    } else {
        let head = format!("{} on {}, {}, one input:", study.network, study.machines[0].machine, cost.scheme);
        global.print(format!("{head}\n{}", table(&workload, cost).render(global.out)));
        study.remarks.iter().for_each(|remark| global.say(remark));
    }
    Ok(ExitCode::SUCCESS)
}

/// SCALE-Sim's model: its three reports as files, and their figures as a table.
fn like_scalesim(args: &Args, global: &Global) -> Result<ExitCode> {
    let config = scalesim::Config::read(&args.machine)?;
    if args.scheme != Scheme::Uncompressed || args.model.inputs.is_some() {
        return Err(Error::bad_input("SCALE-Sim looks at shapes alone: --scheme and --inputs change nothing")
            .in_file(&args.machine)
            .with_help("take a machine of ours (examples/machines/tpu.toml), where values count"));
    }
    // A table of layers needs no device.
    let workload = match args.model.model.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("csv") => scalesim::read_topology(&args.model.model, None)?,
        _ => {
            let gpu = args.device.open(global)?;
            args.model.read(&gpu, args.storage.weights, args.storage.activations, global)?
        }
    };
    let reports = scalesim::simulate(&workload, &config).map_err(|e| e.in_file(&args.model.model))?;
    if let Some(folder) = &args.out {
        write_report(folder, &reports.to_csv(), global)?;
    }
    if args.json {
        global.print_json(&Mirrored { schema: SCHEMA, version: VERSION, reports: &reports })?;
    } else {
        global.print(mirrored(&reports).render(global.out));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line a layer, and the sum of cycles.
fn mirrored(reports: &scalesim::Reports) -> Table {
    let mut table =
        Table::new(&["layer", "cycles", "with prefetch", "stalls", "utilisation", "mapping", "compute utilisation"]);
    let mut sums = [0; 3];
    for report in &reports.layers {
        let compute = &report.compute;
        let cycles = [compute.cycles, compute.with_prefetch, compute.stalls];
        sums.iter_mut().zip(cycles).for_each(|(sum, cycles)| *sum += cycles);
        let [cycles, with_prefetch, stalls] = cycles.map(|cycles| cycles.to_string());
        let percent = |share: f64| format!("{share:.2} %");
        let shares =
            [compute.overall_utilisation, compute.mapping_efficiency, compute.compute_utilisation].map(percent);
        let [overall, mapping, computing] = shares;
        table.row([brief(&report.name), cycles, with_prefetch, stalls, overall, mapping, computing]);
    }
    let [cycles, with_prefetch, stalls] = sums.map(|sum| sum.to_string());
    table.row(["total".into(), cycles, with_prefetch, stalls, "-".into(), "-".into(), "-".into()]);
    table
}

/// A line a layer, and the sum.
fn table(workload: &Workload, cost: &SchemeCost) -> Table {
    let mut table = Table::new(&["layer", "MACs", "cycles", "stalls", "multipliers busy", "buffers", "DRAM", "energy"]);
    let mut row = |name: &str, macs: u64, cost: &Cost| {
        table.row([
            name.to_owned(),
            macs.to_string(),
            cost.cycles().to_string(),
            cost.stall_cycles.to_string(),
            format!("{:.1} %", 100.0 * cost.utilisation),
            size(cost.buffer_reads.total() + cost.buffer_writes.total()),
            size(cost.dram_reads.total() + cost.dram_writes.total()),
            joules(cost.energy.total()),
        ]);
    };
    for (layer, cost) in workload.layers.iter().zip(&cost.layers) {
        row(&brief(&layer.name), layer.shape.macs(), cost);
    }
    row("total", workload.layers.iter().map(|layer| layer.shape.macs()).sum(), &cost.total);
    table
}
