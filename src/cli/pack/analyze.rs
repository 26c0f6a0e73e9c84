//! `wavehull pack analyze`: every scheme on every tensor, and what machines make of it.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::pack::machine::Idle;
use wavehull::pack::report::{costs_csv, footprints_csv, study_page};
use wavehull::pack::study::{MachineStudy, Role, Study, Total, study};
use wavehull::pack::{Scheme, Workload};
use wavehull::{Result, VERSION};

use super::super::device::{DeviceArgs, DeviceReport};
use super::super::progress::Bar;
use super::super::render::{Table, counted};
use super::super::{Global, SCHEMA};
use super::model::{ModelArgs, StorageArgs};
use super::{joules, json_text, machines, parsed, schemes, size, with_values, write_report};

/// Arguments of `wavehull pack analyze`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
docs/pack.md explains schemes, storages and machines.

Examples:
  wavehull pack analyze data/lenet-80.onnx --inputs data/mnist10k/test-images-idx3-ubyte.gz
  wavehull pack analyze data/lenet-80.onnx --inputs data/mnist10k/test-images-idx3-ubyte.gz --machine examples/machines/tpu.toml --out report
  wavehull pack analyze network.tflite --scheme fixed8:zero --scheme fixed16 --scheme entropy")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    storage: StorageArgs,
    /// A scheme, several times for several: none, zvc, rle4, ss16, fixed16:zero,same, scnn4w, ebpc, huffman, entropy [default: the usual ones]
    #[arg(long = "scheme", value_name = "SCHEME", value_parser = parsed::<Scheme>)]
    schemes: Vec<Scheme>,
    /// A machine to run the layers on, several times for several (examples/machines)
    #[arg(long = "machine", value_name = "FILE.toml")]
    machines: Vec<PathBuf>,
    /// Write report.html, study.json, footprints.csv and costs.csv into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the study as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What `--json` prints, and `study.json` holds.
#[derive(serde::Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    #[serde(flatten)]
    study: &'a Study,
}

/// Analyzes a network.
///
/// # Errors
/// Errors of the files with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let machines = machines(&args.machines)?;
    let gpu = args.device.open(global)?;
    let workload = args.model.read(&gpu, args.storage.weights, args.storage.activations, global)?;
    with_values(&workload, &args.model.model)?;
    let schemes = schemes(&args.schemes);
    let bar = Bar::phases(global);
    let study = study(&gpu, &workload, &schemes, &machines, &bar.control());
    bar.finish();
    let study = study?;
    let document = Document { schema: SCHEMA, version: VERSION, device: gpu.caps().into(), study: &study };
    if let Some(folder) = &args.out {
        let files = [
            ("report.html", study_page(&study)?),
            ("study.json", json_text(&document)?),
            ("footprints.csv", footprints_csv(&study)?),
            ("costs.csv", costs_csv(&study)?),
        ];
        write_report(folder, &files, global)?;
    }
    if args.json {
        global.print_json(&document)?;
    } else {
        global.print(text(&study, &workload, global));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(study: &Study, workload: &Workload, global: &Global) -> String {
    let mut parts = vec![format!(
        "{}: {}, {} of activations\n",
        study.network,
        counted(workload.layers.len(), "layer"),
        counted(study.samples, "input")
    )];
    parts.push(footprints(study).render(global.out));
    for machine in &study.machines {
        parts.push(format!("\non {}, one input:\n{}", machine.machine, costs(machine).render(global.out)));
        parts.extend(machine.schemes.first().and_then(|cost| cost.total.idle).map(idle));
    }
    parts.push(String::new());
    parts.extend(study.remarks.iter().cloned());
    parts.join("\n")
}

/// A line a scheme, two columns a kind of tensors: the share of uncompressed, and what of it is no value.
fn footprints(study: &Study) -> Table {
    let kinds = [(Role::Weights, "weights"), (Role::Input, "activations"), (Role::Loose, "other tensors")];
    let totals: Vec<(&str, Total)> = kinds.map(|(role, name)| (name, study.total(role))).into();
    let totals: Vec<_> = totals.into_iter().filter(|(_, total)| total.bits > 0).collect();
    let mut headings = vec![""];
    totals.iter().for_each(|(name, _)| headings.extend([name, "of it metadata"]));
    let mut table = Table::new(&headings);
    let mut line = |name: &str, cells: &dyn Fn(&Total) -> [String; 2]| {
        let cells = totals.iter().flat_map(|(_, total)| cells(total));
        table.line(std::iter::once(name.to_owned()).chain(cells).collect());
    };
    line("values", &|total| [total.values.to_string(), String::new()]);
    line("zero", &|total| [format!("{:.1} %", 100.0 * total.zero_share()), String::new()]);
    line("uncompressed", &|total| [size(total.bits as f64), String::new()]);
    for (i, scheme) in study.schemes.iter().enumerate() {
        line(scheme, &|total| {
            let stored = total.sizes[i];
            let beside = 100.0 * (stored.total() - stored.values) as f64 / stored.total().max(1) as f64;
            [format!("{:.3}", total.share(i)), format!("{beside:.1} %")]
        });
    }
    table
}

/// Where multipliers were idle, which no scheme changes.
fn idle(idle: Idle) -> String {
    let Idle { partial_blocks, bank_conflicts, imbalance, halos } = idle;
    format!(
        "multiplier-cycles lost: {partial_blocks} to partial blocks, {bank_conflicts} to bank conflicts, {imbalance} to imbalance, {halos} to halos"
    )
}

/// A line a scheme: what one input costs.
fn costs(machine: &MachineStudy) -> Table {
    let mut table = Table::new(&["", "DRAM", "buffers", "cycles", "of them stalls", "multipliers busy", "energy"]);
    for cost in &machine.schemes {
        let total = &cost.total;
        let stalls = 100.0 * total.stall_cycles as f64 / total.cycles().max(1) as f64;
        table.row([
            cost.scheme.clone(),
            size(total.dram_reads.total() + total.dram_writes.total()),
            size(total.buffer_reads.total() + total.buffer_writes.total()),
            total.cycles().to_string(),
            format!("{stalls:.1} %"),
            format!("{:.1} %", 100.0 * total.utilisation),
            joules(total.energy.total()),
        ]);
    }
    table
}
