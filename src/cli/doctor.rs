//! `wavehull doctor`: this machine's limits against what is needed, every kernel compiled, results against f64.

mod selftest;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use wavehull::gpu::{Caps, Kernel, Options, adapters};
use wavehull::{Gpu, Result, VERSION, ops, verify};

use super::device::{DeviceArgs, DeviceReport, banner, cache_file, line};
use super::progress::Bar;
use super::render::{Style, Table, bytes, counted, since, time};
use super::{Global, SCHEMA, exit};
use selftest::Test;

/// The version of wgpu that this program is built with; a test compares it with the manifest.
const WGPU: &str = "30.0.1";

/// Arguments of `wavehull doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 all well, 4 no adapter or something failed.

`wavehull doctor --json` is what a bug report needs.")]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    ok: bool,
    version: &'static str,
    wgpu: &'static str,
    system: String,
    device: DeviceReport,
    adapters: Vec<DeviceReport>,
    timestamps: bool,
    tuning: Tuning,
    limits: Vec<Limit>,
    kernels: Vec<Compiled>,
    tests: Vec<Test>,
    seconds: f64,
}

/// Measured choices of kernels.
#[derive(Debug, Serialize)]
struct Tuning {
    /// Where they are kept, once there are some.
    file: Option<PathBuf>,
    /// Variants by class of shape; empty if none were measured.
    choices: BTreeMap<String, String>,
}

/// A limit of the device beside what is needed.
#[derive(Debug, Serialize)]
struct Limit {
    name: &'static str,
    has: u64,
    needs: u64,
    ok: bool,
    #[serde(skip)]
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Count,
    Bytes,
}

/// A kernel that was compiled.
#[derive(Debug, Serialize)]
struct Compiled {
    name: &'static str,
    defines: String,
    /// `trusted` or `checked`.
    mode: &'static str,
    seconds: f64,
    error: Option<String>,
}

/// Tests this machine.
///
/// # Errors
/// Those of opening the device; whatever fails after that is in the report.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let start = Instant::now();
    let catalogue = [
        ops::catalogue(),
        wavehull::train::catalogue(),
        verify::kernels::catalogue(),
        wavehull::pack::catalogue(),
        wavehull::hash::catalogue(),
        wavehull::bench::catalogue(),
    ]
    .concat();
    let mut options: Options = args.device.options();
    let trusted = Gpu::open(&options)?;
    args.device.tune(&trusted, true, global)?;
    if !args.json {
        global.print(heading(trusted.caps(), global.out));
    }
    options.checked = true;
    let checked = Gpu::open(&options)?;

    let bar = Bar::counting(global, 2 * catalogue.len());
    let (mut kernels, mut tests) = (Vec::new(), Vec::new());
    for (mode, gpu) in [("trusted", &trusted), ("checked", &checked)] {
        for kernel in &catalogue {
            global.cancel.check()?;
            bar.phase(&format!("compiling {}, {mode}", kernel.name));
            kernels.push(compile(gpu, kernel, mode));
            bar.advance();
        }
        bar.phase(&format!("comparing with f64, {mode}"));
        tests.extend(selftest::run(gpu, mode, global)?);
    }
    bar.finish();
    let limits = limits(trusted.caps(), &catalogue);
    let ok = limits.iter().all(|l| l.ok)
        && kernels.iter().all(|k| k.error.is_none())
        && tests.iter().all(|t| t.error.is_none());
    let document = Document {
        schema: SCHEMA,
        ok,
        version: VERSION,
        wgpu: WGPU,
        system: system(),
        device: trusted.caps().into(),
        adapters: adapters().iter().map(DeviceReport::from).collect(),
        timestamps: trusted.caps().timestamps,
        tuning: Tuning {
            file: cache_file(trusted.caps()),
            choices: trusted.caps().tuning.entries().into_iter().collect(),
        },
        limits,
        kernels,
        tests,
        seconds: since(start),
    };
    if args.json {
        global.print_json(&document)?;
    } else {
        global.print(words(&document, global.out));
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(exit::DEVICE) })
}

fn compile(gpu: &Gpu, kernel: &Kernel, mode: &'static str) -> Compiled {
    let start = Instant::now();
    let error = gpu.compile(kernel).err().map(|e| selftest::full_text(&e));
    let defines = kernel.defines.iter().map(|(key, value)| match value.as_str() {
        "" => (*key).to_owned(),
        value => format!("{key}={value}"),
    });
    let defines = defines.collect::<Vec<_>>().join(" ");
    Compiled { name: kernel.name, defines, mode, seconds: since(start), error }
}

/// The limits that kernels and plans rely on; what is needed is what WebGPU promises everywhere.
fn limits(caps: &Caps, catalogue: &[Kernel]) -> Vec<Limit> {
    use Unit::{Bytes, Count};
    let bindings = catalogue.iter().map(|k| k.bindings.len() as u64).max().unwrap_or(0);
    let at_least = |name, has, needs, unit| Limit { name, has, needs, ok: has >= needs, unit };
    let at_most = |name, has, needs| Limit { name, has, needs, ok: has <= needs, unit: Bytes };
    vec![
        at_least("storage buffers of a kernel", u64::from(caps.max_storage_buffers), bindings, Count),
        at_least("invocations of a workgroup", u64::from(caps.max_invocations), 256, Count),
        at_least("workgroups of a dispatch", u64::from(caps.max_workgroups), 65_535, Count),
        at_least("workgroup memory", u64::from(caps.workgroup_memory), 16 << 10, Bytes),
        at_least("storage binding", caps.max_binding, 128 << 20, Bytes),
        at_least("buffer", caps.max_buffer, 256 << 20, Bytes),
        at_most("storage alignment (at most)", caps.storage_alignment, 256),
        at_most("uniform alignment (at most)", caps.uniform_alignment, 256),
    ]
}

fn system() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Device and versions, at once.
fn heading(caps: &Caps, style: Style) -> String {
    let clock = if caps.timestamps { "device timestamps" } else { "no device timestamps" };
    let mut text = line(caps, style);
    if let Some(banner) = banner(caps, style) {
        text.push_str(&format!("\n{banner}"));
    }
    text + &format!("\nwavehull {VERSION}, wgpu {WGPU}, {}, {clock}\n", system())
}

fn words(document: &Document, style: Style) -> String {
    let mut text = String::new();
    for table in [limit_table(document), kernel_table(document), test_table(document)] {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}\n\n", table.render(style));
    }
    let _ = writeln!(text, "{}", chosen(&document.tuning));
    for kernel in &document.kernels {
        if let Some(error) = &kernel.error {
            let what = format!("{} [{}], {}", kernel.name, kernel.defines, kernel.mode);
            let _ = writeln!(text, "{} {error}", style.red(&format!("FAILED {what}:")));
        }
    }
    for test in &document.tests {
        if let Some(error) = &test.error {
            let _ = writeln!(text, "{} {error}", style.red(&format!("FAILED {}, {}:", test.name, test.mode)));
        }
    }
    let end = if document.ok { style.green("all well") } else { style.red("something FAILED, see above") };
    let _ = write!(text, "{end}, in {}", time(document.seconds));
    text
}

/// Which kernels were measured to be the fastest, and where that is kept.
fn chosen(tuning: &Tuning) -> String {
    let Some(file) = &tuning.file else {
        return "kernels: the shipped choice (there is no folder to keep a measured one)".to_owned();
    };
    if tuning.choices.is_empty() {
        return format!("kernels: the shipped choice; `wavehull bench` measures and keeps it in {}", file.display());
    }
    let choices: Vec<String> = tuning.choices.iter().map(|(class, variant)| format!("{class} {variant}")).collect();
    format!("kernels, as measured and kept in {}: {}", file.display(), choices.join(", "))
}

fn word(ok: bool) -> String {
    if ok { "ok" } else { "FAILED" }.to_owned()
}

fn limit_table(document: &Document) -> Table {
    let mut table = Table::new(&["limit", "has", "needs", "state"]);
    for limit in &document.limits {
        let show = |value| if limit.unit == Unit::Bytes { bytes(value) } else { value.to_string() };
        table.row([limit.name.to_owned(), show(limit.has), show(limit.needs), word(limit.ok)]);
    }
    table
}

/// One row for all permutations of a kernel.
fn kernel_table(document: &Document) -> Table {
    let mut names: Vec<&str> = document.kernels.iter().map(|k| k.name).collect();
    names.sort_unstable();
    names.dedup();
    let mut table = Table::new(&["kernel", "permutations", "trusted", "checked", "slowest to compile"]);
    for name in names {
        let of = |mode| document.kernels.iter().filter(move |k| k.name == name && k.mode == mode);
        let state = |mode| word(of(mode).all(|k| k.error.is_none()));
        let slowest = of("trusted").chain(of("checked")).map(|k| k.seconds).fold(0.0, f64::max);
        let count = of("trusted").count().to_string();
        table.row([name.to_owned(), count, state("trusted"), state("checked"), time(slowest)]);
    }
    table
}

fn test_table(document: &Document) -> Table {
    let mut table = Table::new(&["result against f64", "mode", "largest error", "state"]);
    for test in &document.tests {
        let worst = match test.worst {
            Some(0.0) => "none".to_owned(),
            Some(worst) => format!("{:.0} % of its bound", (worst * 100.0).ceil()),
            None => counted(test.cases, "case"),
        };
        table.row([test.name.to_owned(), test.mode.to_owned(), worst, word(test.error.is_none())]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::WGPU;

    #[test]
    fn the_version_of_wgpu_is_the_manifest_s() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("wgpu = {{ version = \"{WGPU}\"")), "Cargo.toml asks for another wgpu");
    }
}
