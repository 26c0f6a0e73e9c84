//! `wavehull bench`: kernels measured against what the device can do.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wavehull::bench::{self, Plan, Report};
use wavehull::{Error, Result};

use super::device::DeviceArgs;
use super::progress::Bar;
use super::{Global, exit};

/// Arguments of `wavehull bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "\
Groups: {}

Exit codes: 0 all measured, 1 an entry gave a wrong answer or failed, 2 no entry fits or OLD.json cannot be read, 4 no device, 130 stopped.

Examples:
  wavehull bench copy               how fast this device copies
  wavehull bench hash --json h.json steps of every way to train very many labels, beside what memory allows
  wavehull bench --quick            all of it in small sizes: a test, not a measurement",
    bench::GROUPS.join(", ")
))]
pub struct Args {
    /// Run only entries whose name or group contains this, with the roofs that they need
    #[arg(value_name = "PATTERN")]
    pub pattern: Option<String>,
    /// The same as PATTERN
    #[arg(long, value_name = "PATTERN", conflicts_with = "pattern")]
    pub only: Option<String>,
    /// Write JSON to a file, or to stdout without one
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<String>,
    /// Show what moved since an earlier run's JSON
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Small sizes and few repetitions: a test that ends in seconds, not a measurement
    #[arg(long)]
    pub quick: bool,
    /// Show where the device's time went in analyses of whole networks, kernel by kernel
    #[arg(long)]
    pub profile: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Measures; an entry with a wrong answer makes the exit code 1.
///
/// # Errors
/// Device errors; bad input if no entry fits, or if the earlier run cannot be read.
pub fn run(args: Args, global: &Global) -> Result<ExitCode> {
    // A wrong file should not be found out after a minute of measuring.
    let old = args.compare.as_deref().map(read).transpose()?;
    let gpu = args.device.open_tuned(global)?;
    let plan = Plan {
        only: args.pattern.or(args.only),
        quick: args.quick,
        shared: std::env::var_os("WAVEHULL_SHARED").map(PathBuf::from),
        open: args.device.options(),
        ..Plan::default()
    };
    let bar = Bar::phases(global);
    let report = bench::run(&gpu, &plan, &bar.control())?;
    bar.finish();
    let on_stdout = args.json.as_deref() == Some("-");
    match args.json.as_deref() {
        Some("-") => global.print(report.to_json()?),
        Some(file) => {
            std::fs::write(file, report.to_json()? + "\n").map_err(|e| Error::io(Path::new(file), e))?;
            global.say(format!("written: {file}"));
        }
        None => {}
    }
    // What is said beside a document on stdout is talk.
    let show = |text: String| if on_stdout { global.say(text) } else { global.print(text) };
    if !on_stdout {
        let banner = global.out.red(bench::SOFTWARE_BANNER);
        show(report.table().replace(bench::SOFTWARE_BANNER, &banner));
    }
    if args.profile {
        show(format!("\n{}", report.kernel_table()));
    }
    if let Some(old) = old {
        show(format!("\n{}", bench::compare(&old, &report)));
    }
    Ok(match report.failures() {
        _ if report.stopped => ExitCode::from(exit::INTERRUPTED),
        0 => ExitCode::SUCCESS,
        count => {
            global.say(global.err.red(&format!("entries with a wrong answer or a failure: {count}")));
            ExitCode::from(exit::NEGATIVE)
        }
    })
}

/// The report of an earlier run.
fn read(path: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    Report::from_json(&text).map_err(|e| e.in_file(path))
}
